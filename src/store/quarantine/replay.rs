//! Storing events after all that were set aside, as they are or mended by a JSON Patch (RFC 6902).

use json_patch::Patch;
use serde_json::Value;

use crate::{
    model::{
        DatasetName, OnInvalid, Release,
        json::{Document, inexact_number},
    },
    store::{
        Append, AppendMode, AppendOutcome, Durability, Error, EventFault, EventStore, Payload,
        ingest::{self, Unreadable, malformed},
        quarantine::{QuarantineSelection, Quarantined},
    },
};

/// Bytes of payloads that are replayed in one append.
const CHUNK_BYTES: usize = 4 * 1024 * 1024;
/// Events that are replayed in one append.
const CHUNK_EVENTS: usize = 500;
/// Events that are told of which are still refused.
const STILL_REFUSED_MAX: usize = 100;
/// Operations of one patch.
const PATCH_OPERATIONS_MAX: usize = 1_000;

/// Which events to store after all, and how.
#[derive(Clone, Debug, Default)]
pub struct Replay {
    /// Which.
    pub selection: QuarantineSelection,
    /// A JSON Patch that mends each of them; empty: as they are.
    pub patch: String,
    /// Tell what would become of them and change nothing.
    pub dry_run: bool,
}

/// How far a replay has come.
#[derive(Clone, Debug, Default)]
pub struct ReplayProgress {
    /// Stored now, or would be.
    pub stored: u64,
    /// Stored before with the same content; not set aside any more.
    pub duplicates: u64,
    /// Still refused, and still set aside.
    pub refused: u64,
    /// Replayed or thrown away by somebody else meanwhile.
    pub gone: u64,
    /// What is wrong with the first of those that are still refused.
    pub still_refused: Vec<StillRefused>,
}

/// An event that is still refused.
#[derive(Clone, Debug)]
pub struct StillRefused {
    /// Its id in the quarantine.
    pub id: u64,
    /// What is wrong with it.
    pub fault: EventFault,
}

/// A replay under way.
pub struct ReplayRun {
    store: EventStore,
    selection: QuarantineSelection,
    patch: Option<Patch>,
    dry_run: bool,
    after: Option<Vec<u8>>,
    progress: ReplayProgress,
    done: bool,
}

impl EventStore {
    /// Begins a replay; [`ReplayRun::next`] carries it out.
    ///
    /// # Errors
    /// When nothing is selected, the dataset does not exist, or the patch is none.
    pub fn replay_quarantined(&self, replay: Replay) -> Result<ReplayRun, Error> {
        let Replay { selection, patch, dry_run } = replay;
        self.check_open()?;
        selection.check()?;
        if !selection.dataset.is_empty() {
            self.dataset(&selection.dataset)?;
        }
        let patch = parse_patch(&patch)?;
        let (store, progress) = (self.clone(), ReplayProgress::default());
        Ok(ReplayRun { store, selection, patch, dry_run, after: None, progress, done: false })
    }
}

impl ReplayRun {
    /// How far it has come.
    #[must_use]
    pub fn progress(&self) -> &ReplayProgress {
        &self.progress
    }

    /// Replays some events; how far it has come, `None` when there are no more. Each is stored, and leaves
    /// the quarantine, in one write: a run that is cut off can be done again.
    ///
    /// # Errors
    /// When a dataset is closed, or the store takes no writes.
    pub async fn next(&mut self) -> Result<Option<&ReplayProgress>, Error> {
        if self.done {
            return Ok(None);
        }
        let (selection, after) = (self.selection.clone(), self.after.take());
        let (page, next) = self.store.quarantined(selection, after, CHUNK_EVENTS).await?;
        self.done = next.is_none();
        self.after = next;
        let mut records = page.into_iter().peekable();
        while let Some(first) = records.next() {
            let dataset = first.dataset.number;
            let mut bytes = 0;
            let mut chunk = Vec::new();
            let mut next = Some(first);
            while let Some(record) = next {
                match self.store.quarantined_event(record.id).await {
                    Ok(whole) => {
                        bytes += whole.payload.len();
                        chunk.push(whole);
                    }
                    Err(Error::NotFound { .. }) => self.progress.gone += 1,
                    Err(error) => return Err(error),
                }
                let fits = bytes < CHUNK_BYTES;
                next = records.next_if(|it| fits && it.dataset.number == dataset);
            }
            self.replay(chunk).await?;
        }
        Ok(Some(&self.progress))
    }

    /// Stores events of one dataset.
    async fn replay(&mut self, chunk: Vec<Quarantined>) -> Result<(), Error> {
        let Some(first) = chunk.first() else { return Ok(()) };
        let dataset: DatasetName = first.dataset.name.clone();
        let release = |it: &Quarantined| Release { id: it.id, receive_time: it.receive_time };
        let releases: Vec<Release> = chunk.iter().map(release).collect();
        let ids: Vec<u64> = chunk.iter().map(|it| it.id).collect();
        let events = chunk.into_iter().map(|it| mended(it, self.patch.as_ref())).collect();
        let append = Append {
            dataset,
            events,
            mode: AppendMode::PerEvent,
            conditions: Vec::new(),
            validate_only: self.dry_run,
            deadline: None,
            releases,
            // What still fails stays.
            on_invalid: Some(OnInvalid::Reject),
            durability: Durability::Sync,
        };
        // It waits where a sender would be refused.
        let admitted = self.store.admit(append, None).await?;
        let appended = self.store.carry_out(admitted, None, None).await?;
        for (id, outcome) in ids.into_iter().zip(appended.outcomes) {
            match outcome {
                AppendOutcome::Appended(_) => self.progress.stored += 1,
                AppendOutcome::Duplicate(_) => self.progress.duplicates += 1,
                AppendOutcome::Gone => self.progress.gone += 1,
                // Neither again nor instead: it is there already.
                AppendOutcome::Quarantined(_) | AppendOutcome::Tagged(..) => {
                    self.progress.refused += 1;
                }
                AppendOutcome::Rejected(problem) => {
                    self.progress.refused += 1;
                    if self.progress.still_refused.len() < STILL_REFUSED_MAX {
                        let fault = problem.fault;
                        self.progress.still_refused.push(StillRefused { id, fault });
                    }
                }
            }
        }
        Ok(())
    }
}

fn parse_patch(text: &str) -> Result<Option<Patch>, Error> {
    if text.is_empty() {
        return Ok(None);
    }
    let wanted = "wanted a JSON Patch (RFC 6902)";
    let patch: Patch = serde_json::from_str(text)
        .map_err(|error| Error::invalid("patch", format!("{error}; {wanted}")))?;
    let (found, most) = (patch.0.len(), PATCH_OPERATIONS_MAX);
    if found > most {
        return Err(Error::invalid("patch", format!("{found} operations; at most {most}")));
    }
    Ok(Some(patch))
}

/// The payload as it is to be stored.
fn mended(record: Quarantined, patch: Option<&Patch>) -> Payload {
    let text = ingest::payload(record.payload)?;
    let Some(patch) = patch else { return Ok(text) };
    apply(&text, patch).map(Into::into).map_err(|message| Unreadable {
        bytes: Some(text.into_bytes()),
        violations: vec![malformed("", "patch", message)],
    })
}

/// A patch makes the text anew from its values, so these must be ones that do not change by that.
fn apply(text: &str, patch: &Patch) -> Result<String, String> {
    Document::parse(text).map_err(|error| {
        format!("a payload that does not parse cannot be patched: {}", error.message)
    })?;
    let mut value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if let Some(number) = inexact_number(text) {
        return Err(format!(
            "the payload has the number {number}, which a patch could not keep exactly"
        ));
    }
    json_patch::patch(&mut value, patch).map_err(|error| error.to_string())?;
    serde_json::to_string(&value).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patched(text: &str, patch: &str) -> Result<String, String> {
        apply(text, &parse_patch(patch).unwrap().unwrap())
    }

    #[test]
    fn a_patch_mends_a_payload_or_says_why_not() {
        let price = r#"[{"op": "replace", "path": "/price", "value": 9.5}]"#;
        assert_eq!(patched(r#"{"price": "9.50"}"#, price).unwrap(), r#"{"price":9.5}"#);
        assert!(patched(r#"{"cost": 1}"#, price).unwrap_err().contains("/price"));
        assert!(patched("{", price).unwrap_err().contains("does not parse"));
        let far = r#"{"price": 1, "n": 123456789012345678901234567890}"#;
        assert!(patched(far, price).unwrap_err().contains("exactly"));
        assert!(parse_patch("").unwrap().is_none());
        for wrong in ["{}", "[{\"op\": \"mend\"}]", "[{\"op\": \"remove\", \"path\": \"a\"}]"] {
            assert!(parse_patch(wrong).is_err(), "{wrong}");
        }
    }
}
