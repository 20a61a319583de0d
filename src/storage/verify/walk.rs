//! Reading a volume's blocks one after the other, also past those that are damaged.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::{
    model::Position,
    storage::{
        StorageError,
        index::Span,
        packed::PackedBlock,
        volume::{Volume, slot_last},
    },
};

/// Positions whose events cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lost {
    pub(crate) span: Span,
    pub(crate) why: String,
}

/// Does what may panic: the embedded store panics on some damage.
pub(crate) fn guard<T>(work: impl FnOnce() -> Result<T, StorageError>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(outcome) => outcome.map_err(|error| error.to_string()),
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
            let text = text.unwrap_or_default();
            Err(format!("the embedded store panics: {text}"))
        }
    }
}

/// The blocks of a span of a volume: each block, or what is lost before the next one.
pub(crate) struct Walk<'a> {
    volume: &'a Volume,
    at: Position,
    until: Position,
    /// A block that was found behind what is lost.
    next: Option<PackedBlock>,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(volume: &'a Volume, span: Span) -> Self {
        Self { volume, at: span.after, until: span.until, next: None }
    }

    /// The block that begins at a position, if it is sound and ends where it may.
    fn read(&self, first: Position) -> Result<PackedBlock, String> {
        let missing = || format!("no block begins at {first}");
        let block = guard(|| self.volume.block(first))?.ok_or_else(missing)?;
        let last = block.header.last();
        if last < first || last > slot_last(first).min(self.until) {
            return Err(format!("block {first} ends at {last}, beyond its slot or its volume"));
        }
        Ok(block)
    }

    /// The first sound block after a position, in the same slot.
    fn next_in_slot(&self, position: Position) -> Option<PackedBlock> {
        let firsts = guard(|| self.volume.firsts_in_slot(position)).ok()?;
        let later = firsts.into_iter().filter(|first| *first > position && *first <= self.until);
        later.map(|first| self.read(first)).find_map(Result::ok)
    }
}

impl Iterator for Walk<'_> {
    type Item = Result<PackedBlock, Lost>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(block) = self.next.take() {
            self.at = block.header.last();
            return Some(Ok(block));
        }
        if self.at >= self.until {
            return None;
        }
        let why = match self.read(self.at.next()) {
            Ok(block) => {
                self.at = block.header.last();
                return Some(Ok(block));
            }
            Err(why) => why,
        };
        let after = self.at;
        loop {
            let first = self.at.next();
            if let Some(block) = self.next_in_slot(first) {
                self.at = block.header.first.previous();
                self.next = Some(block);
                break;
            }
            self.at = slot_last(first).min(self.until);
            if self.at >= self.until {
                break;
            }
            if let Ok(block) = self.read(self.at.next()) {
                self.next = Some(block);
                break;
            }
        }
        Some(Err(Lost { span: Span { after, until: self.at }, why }))
    }
}
