//! What clients know: what they sent, and what they were promised.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
};

use milepost::grpc::pb::append_result::Outcome;

use crate::support::{
    Client,
    disk::Disk,
    known::{Kept, Known},
    load::{Batch, all, positions},
};

/// Something that the server has promised.
#[derive(Clone)]
pub(super) enum Promise {
    /// These events are at these positions.
    Events(Arc<Batch>, Vec<u64>),
    /// These events have been read.
    Log(BTreeMap<u64, Kept>),
    Dataset(String),
    /// This dataset's events up to here are gone for good.
    Trim(&'static str, u64),
    /// The documents that were imported under this name.
    Library(String),
    /// The event set aside under this id, as it was sent.
    SetAside(String, String),
}

/// What clients know.
#[derive(Default)]
pub(super) struct Ledger {
    /// How long the trace was when the promise arrived.
    pub(super) promises: Mutex<Vec<(u64, Promise)>>,
    /// The hash of every payload that was ever sent, by event id.
    pub(super) sent: Mutex<HashMap<String, u64>>,
    /// Libraries that were ever sent, by name.
    pub(super) libraries: Mutex<Vec<String>>,
    /// The position before which each dataset was to be trimmed, at most.
    pub(super) trims: Mutex<HashMap<&'static str, u64>>,
    /// Sent and not answered.
    in_flight: Mutex<Vec<Batch>>,
}

impl Ledger {
    /// Sends a batch and notes what came of it; whether there was an answer.
    pub(super) async fn append(&self, client: &Client, disk: &Disk, batch: Batch) -> bool {
        self.sent.lock().unwrap().extend(batch.ids());
        let Ok(answer) = batch.append(client).await else {
            self.in_flight.lock().unwrap().push(batch);
            return false;
        };
        assert!(all(&answer, Outcome::Appended), "{answer:?}");
        self.note(disk, Promise::Events(Arc::new(batch), positions(&answer)));
        true
    }

    /// Reads what a restarted server has, and sends once more what was not answered: from now on all of
    /// it must stay.
    pub(super) async fn take_stock(&self, client: &Client, disk: &Disk) {
        let mut known = Known::default();
        known.catch_up(client).await;
        self.note(disk, Promise::Log(known.events.clone()));
        let in_flight = std::mem::take(&mut *self.in_flight.lock().unwrap());
        for batch in in_flight {
            if let Some(places) = known.settle(client, &batch).await {
                self.note(disk, Promise::Events(Arc::new(batch), places));
            }
        }
    }

    /// Trims a dataset before a position; whether there was an answer.
    pub(super) async fn trim(
        &self,
        client: &Client,
        disk: &Disk,
        dataset: &'static str,
        before: u64,
    ) -> bool {
        self.wants_trimmed(dataset, before);
        let Ok(answer) = client.trim(dataset, before).await else { return false };
        let floor = answer.dataset.unwrap().floor_position;
        assert!(floor < before, "trimmed to {floor}, wanted before {before}");
        self.note(disk, Promise::Trim(dataset, floor));
        true
    }

    fn wants_trimmed(&self, dataset: &'static str, before: u64) {
        let mut trims = self.trims.lock().unwrap();
        let most = trims.entry(dataset).or_default();
        *most = before.max(*most);
    }

    pub(super) fn note(&self, disk: &Disk, promise: Promise) {
        let bytes = disk.trace_bytes();
        self.promises.lock().unwrap().push((bytes, promise));
    }

    /// What was promised when the trace had this length, and what was promised later.
    pub(super) fn at(&self, trace_bytes: u64) -> (Vec<Promise>, Vec<Promise>) {
        let promises = self.promises.lock().unwrap();
        let (before, after): (Vec<_>, Vec<_>) =
            promises.iter().cloned().partition(|(bytes, _)| *bytes <= trace_bytes);
        let only = |it: Vec<(u64, Promise)>| it.into_iter().map(|(_, promise)| promise).collect();
        (only(before), only(after))
    }
}
