//! What a new schema version has mended: groups of set-aside events that it accepts.

use std::sync::Arc;

use crate::store::{
    Error, EventStore, QuarantineGroup, QuarantineSelection, Replay, SchemaVersion, blocking,
};

/// Groups that are looked at after one registration.
const GROUPS_MAX: usize = 1_000;
/// Events of a group that are judged: when all of these are accepted the fault is taken for mended.
const JUDGED_MAX: usize = 20;

/// A group of set-aside events whose fault is mended.
#[derive(Clone, Debug)]
pub struct FixedGroup {
    /// The group as it was.
    pub group: QuarantineGroup,
    /// Events of it that were stored in the same call.
    pub stored: u64,
    /// Events of it that still are refused, for another fault.
    pub refused: u64,
}

impl EventStore {
    /// Groups of events in datasets under new schema versions whose fault these have mended; with `replay`
    /// they are stored.
    ///
    /// # Errors
    /// When stored data cannot be read, or the store takes no writes.
    pub async fn fixed_by(
        &self,
        versions: &[Arc<SchemaVersion>],
        replay: bool,
    ) -> Result<Vec<FixedGroup>, Error> {
        let mut fixed = Vec::new();
        for group in self.groups_under(versions).await? {
            if !self.accepts(&group).await? {
                continue;
            }
            let (mut stored, mut refused) = (0, 0);
            if replay {
                let selection = QuarantineSelection {
                    dataset: group.dataset.name.to_string(),
                    fingerprint: Some(group.fingerprint),
                    ids: Vec::new(),
                };
                let mut run = self.replay_quarantined(Replay { selection, ..Replay::default() })?;
                while run.next().await?.is_some() {}
                let progress = run.progress();
                (stored, refused) = (progress.stored + progress.duplicates, progress.refused);
            }
            fixed.push(FixedGroup { group, stored, refused });
        }
        Ok(fixed)
    }

    async fn groups_under(
        &self,
        versions: &[Arc<SchemaVersion>],
    ) -> Result<Vec<QuarantineGroup>, Error> {
        let catalog = self.catalog();
        let is_new = |dataset: &&Arc<crate::store::Dataset>| {
            let judge = catalog.judge(dataset).ok();
            judge.is_some_and(|judge| versions.iter().any(|it| it.number == judge.number))
        };
        let mut groups = Vec::new();
        for dataset in catalog.datasets().filter(is_new) {
            let name = dataset.name.to_string();
            let selection = QuarantineSelection { dataset: name, ..Default::default() };
            let left = GROUPS_MAX.saturating_sub(groups.len());
            if left == 0 {
                break;
            }
            match self.quarantine_groups(selection, None, left).await {
                Ok((found, _)) => groups.extend(found),
                Err(Error::NotFound { .. }) => {} // deleted meanwhile
                Err(error) => return Err(error),
            }
        }
        Ok(groups)
    }

    /// Whether the first events of a group are accepted now.
    async fn accepts(&self, group: &QuarantineGroup) -> Result<bool, Error> {
        let (store, number) = (self.clone(), group.dataset.number);
        let fingerprint = group.fingerprint;
        blocking(move || {
            let reader = store.quarantine_reader();
            let judge = store.judge(number)?;
            let mut judged = 0;
            for id in reader.members(number, fingerprint, 0, JUDGED_MAX)? {
                let Some(record) = reader.with_payload(id)? else { continue };
                let text = str::from_utf8(&record.payload).ok();
                if text.is_none_or(|text| !judge.violations(text).is_empty()) {
                    return Ok(false);
                }
                judged += 1;
            }
            Ok(judged > 0)
        })
        .await
    }
}
