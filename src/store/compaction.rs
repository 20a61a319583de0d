//! Giving space back, on demand.

use std::{ops::ControlFlow, sync::Arc};

use tokio::sync::mpsc;

use crate::{
    storage::CompactionProgress,
    store::{Error, EventStore, blocking},
};

/// How far a compaction has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compaction {
    /// Volumes rewritten, of `volumes`.
    pub volumes_done: u64,
    /// Volumes that had something to give back.
    pub volumes: u64,
    /// Trimmed and deleted events whose bytes are gone now.
    pub events_removed: u64,
    /// Bytes of the rewritten volumes' files before.
    pub bytes_before: u64,
    /// And after.
    pub bytes_after: u64,
}

impl From<CompactionProgress> for Compaction {
    fn from(progress: CompactionProgress) -> Self {
        let CompactionProgress { volumes_done, volumes, rewritten } = progress;
        Self {
            volumes_done,
            volumes,
            events_removed: rewritten.events_removed,
            bytes_before: rewritten.bytes_before,
            bytes_after: rewritten.bytes_after,
        }
    }
}

impl EventStore {
    /// Rewrites every volume that has something to give back. Tells how far it has come before each
    /// of them, and ends early when nobody listens any more; what was done then stays done.
    ///
    /// # Errors
    /// When the store is poisoned, or a write fails, which poisons it.
    pub async fn compact(&self, progress: mpsc::Sender<Compaction>) -> Result<Compaction, Error> {
        self.check_open()?;
        let storage = Arc::clone(&self.inner.storage);
        let catalog = self.catalog();
        blocking(move || {
            let done = storage.compact(catalog.floors(), &mut |state| match progress
                .blocking_send(state.into())
            {
                Ok(()) => ControlFlow::Continue(()),
                Err(_gone) => ControlFlow::Break(()),
            })?;
            Ok(done.into())
        })
        .await
    }
}
