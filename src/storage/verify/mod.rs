//! Checking everything that is stored: every block and record of the log, every index segment against
//! the log, the journal, the catalog.
//!
//! A verification never stops at what it finds; it goes on with what is sound.

mod carve;
mod copy;
mod directory;
mod finding;
mod records;
mod salvage;
mod volume;
mod walk;

use std::ops::ControlFlow;

use crate::{
    model::Position,
    storage::{
        Block, Span, Storage, StorageError,
        journal::{self, Frame},
        verify::records::{Known, Records},
    },
};

pub(crate) use directory::verify_directory;
pub use finding::{Finding, FindingKind, Verified, VerifyNews};
pub use salvage::{Loss, LostEvent, Salvaged};
pub(crate) use salvage::{MakeUp, salvage};

/// Where a verification tells its news; it ends when it is told to break.
pub(crate) type Tell<'a> = dyn FnMut(VerifyNews) -> ControlFlow<()> + 'a;

/// Events between two tellings of how far it has come.
const PROGRESS_EVENTS: u64 = 64 * 1024;
/// Findings that are told; more are only counted. A damaged index differs in many places.
const FINDINGS_MAX: u64 = 10_000;

/// A verification under way.
struct Verifier<'a, 'b> {
    tell: &'a mut Tell<'b>,
    done: Verified,
    told_at: Position,
    records: Records<'a>,
    /// Nobody listens any more.
    ended: bool,
}

impl<'a, 'b> Verifier<'a, 'b> {
    fn new(tell: &'a mut Tell<'b>, known: Known<'a>, last: Position) -> Self {
        let done = Verified { last_position: last, ..Verified::default() };
        let (told_at, records) = (Position::START, Records::new(known));
        Self { tell, done, told_at, records, ended: false }
    }

    /// Whether to go on.
    fn goes_on(&self) -> bool {
        !self.ended
    }

    /// Tells a finding; of too many it only counts the rest.
    fn found(&mut self, finding: Finding) {
        self.done.findings += 1;
        if self.done.findings <= FINDINGS_MAX {
            self.say(VerifyNews::Finding(finding));
        }
    }

    /// Notes that the log has been read up to a position.
    fn reached(&mut self, position: Position) {
        self.done.position = position;
        if position.since(self.told_at) >= PROGRESS_EVENTS {
            self.told_at = position;
            self.say(VerifyNews::Progress(self.done));
        }
    }

    fn say(&mut self, news: VerifyNews) {
        self.ended = self.ended || (self.tell)(news).is_break();
    }

    /// Tells that events cannot be read.
    fn lost(&mut self, span: Span, finding: Finding) {
        self.done.lost += span.len();
        self.found(finding.at(span.after.next(), span.until));
    }

    /// Checks the frames of the journal that hold what is after `packed`, up to `until`.
    fn frames(&mut self, frames: &[Frame], packed: Position, until: Position) {
        let mut at = packed;
        for frame in frames.iter().filter(|frame| frame.has_after(packed)) {
            if at >= until || !self.goes_on() {
                break;
            }
            if frame.first > at.next() {
                let span = Span { after: at, until: frame.first.previous() };
                self.lost(span, Finding::new(FindingKind::Journal, "no frame holds the events"));
                at = span.until;
            }
            self.done.frames += 1;
            self.frame(frame, at);
            at = at.max(frame.last());
            self.reached(at);
        }
        if at < until {
            let span = Span { after: at, until };
            self.lost(span, Finding::new(FindingKind::Journal, "the log ends before it should"));
        }
    }

    /// Tells how far it has come at last, and gives it.
    fn finish(mut self) -> Verified {
        self.say(VerifyNews::Progress(self.done));
        self.done
    }

    fn frame(&mut self, frame: &Frame, after: Position) {
        let run = Block::new(frame.first, frame.record_time, frame.body.clone());
        let run = run.map_err(|error| error.to_string());
        let run = run.and_then(|run| {
            if run.count() == frame.count {
                Ok(run)
            } else {
                Err("a frame's records do not add up".to_owned())
            }
        });
        match run {
            Ok(run) => {
                let span = Span { after, until: run.last() };
                let about = Finding::new(FindingKind::Journal, "");
                self.run(&run, span, &about, &mut |_, _| ());
            }
            Err(error) => {
                let span = Span { after, until: frame.last() };
                self.lost(span, Finding::new(FindingKind::Journal, error));
            }
        }
    }
}

impl Storage {
    /// Checks everything that is stored up to now. Appends and reads go on, and so does the rewriting
    /// of volumes: what is being read stays until it is read.
    pub(crate) fn verify(&self, tell: &mut Tell<'_>) -> Result<Verified, StorageError> {
        let newest = self.log.newest();
        // In this order: what is not in the journal any more is in the volumes.
        let kept = journal::scan(self.journal.directory())?;
        // Always the end of a block, which may have been packed since.
        let packed = self.log.packed();
        let last = newest.max(packed);
        let chain = self.log.chain();
        let mut verifier = Verifier::new(tell, Known::new(|| self.catalog.read()), last);
        for message in &kept.damage {
            verifier.found(Finding::new(FindingKind::Journal, message.as_str()));
        }
        if let Err(error) = self.table.verify() {
            verifier.found(Finding::new(FindingKind::Table, error.to_string()));
        }
        for link in chain.links().iter().filter(|link| link.after < packed) {
            if !verifier.goes_on() {
                break;
            }
            let is_ended = link.until <= packed;
            let span = Span { after: link.after, until: link.until.min(packed) };
            match &link.volume {
                Some(volume) => verifier.volume(volume, span, is_ended),
                None => verifier.removed(span),
            }
        }
        if verifier.goes_on() {
            verifier.frames(&kept.frames, packed, last);
        }
        Ok(verifier.finish())
    }
}
