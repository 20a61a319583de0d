//! Starts the server on what a cut has left.

use std::sync::Arc;

use milepost::grpc::pb::{
    self, append_result::Outcome, quarantine_service_client::QuarantineServiceClient,
};
use tokio::task::{JoinSet, block_in_place};

use super::{
    ledger::{Ledger, Promise},
    load::LIBRARY_DOCUMENTS,
    outline::Outline,
};
use crate::support::{
    Client, Server,
    disk::Disk,
    events::{PURCHASE, Random, purchases},
    known::Known,
    load::{Batch, DATASETS, all, batch, positions},
    platter::Platter,
    server::Dir,
    trace::Trace,
};

/// Cuts that are looked at beside each other.
const CHECKS_AT_ONCE: usize = 3;
/// A writer after the cut.
const PROBE: u64 = 200;

/// All that was promised is there, and what else there is is whole and was sent.
async fn check(client: &Client, ledger: &Ledger, promises: &[Promise]) -> Known {
    let mut known = Known::default();
    let mut quarantine = QuarantineServiceClient::new(client.channel.clone());
    known.catch_up(client).await;
    // Long work without a wait goes beside the runtime: a connection that nobody looks after for long is
    // closed.
    block_in_place(|| {
        known.is_whole(0);
        known.was_sent(&ledger.sent.lock().unwrap());
    });
    for promise in promises {
        match promise {
            Promise::Events(batch, positions) => block_in_place(|| known.has(batch, positions)),
            Promise::Log(events) => block_in_place(|| {
                for (position, event) in events {
                    known.has_event(*position, event);
                }
            }),
            Promise::Trim(dataset, floor) => {
                let found = known.floor(dataset);
                assert!(found >= *floor, "`{dataset}` was trimmed to {floor}, not {found}");
            }
            Promise::Library(name) => {
                assert_eq!(documents(client, name).await, LIBRARY_DOCUMENTS, "of {name}");
            }
            Promise::SetAside(id, payload) => {
                let request = pb::GetQuarantinedRequest { quarantine_id: id.clone() };
                let found = quarantine.get_quarantined(request).await;
                let found = found.unwrap_or_else(|it| panic!("`{id}` is not set aside: {it}"));
                assert_eq!(found.into_inner().event.unwrap().payload, payload.as_bytes(), "{id}");
            }
            Promise::Dataset(name) => {
                client.dataset(name).await.unwrap_or_else(|it| panic!("dataset `{name}`: {it}"));
            }
        }
    }
    for dataset in DATASETS {
        let before = ledger.trims.lock().unwrap().get(dataset).copied().unwrap_or(1);
        assert!(known.floor(dataset) < before, "`{dataset}` is trimmed beyond what was asked");
    }
    let libraries = ledger.libraries.lock().unwrap().clone();
    for name in libraries {
        let found = documents(client, &name).await;
        assert!(found == 0 || found == LIBRARY_DOCUMENTS, "{found} documents of {name}");
    }
    known.counts_agree(client).await;
    known.reads_agree(client).await;
    client.verify().await.unwrap();
    known
}

/// How many documents of a library there are.
async fn documents(client: &Client, name: &str) -> usize {
    let request =
        pb::ListSchemasRequest { text: name.into(), page_size: 1000, ..Default::default() };
    let listed = client.schemas.clone().list_schemas(request).await.unwrap().into_inner();
    listed.schemas.iter().filter(|it| it.title == name).count()
}

/// The store goes on: what is sent again is recognised, what is new is taken. Returns all that was
/// promised by now.
async fn go_on(
    client: &Client,
    mut known: Known,
    ledger: &Ledger,
    (mut before, after): (Vec<Promise>, Vec<Promise>),
    random: &mut Random,
    note: impl Fn(&Promise),
) -> Vec<Promise> {
    note(&Promise::Log(known.events.clone()));
    purchases(client, DATASETS[0]).await;
    client.create(DATASETS[1], PURCHASE).await.unwrap();
    let events = |promise: &Promise| match promise {
        Promise::Events(batch, positions) => Some((Arc::clone(batch), positions.clone())),
        Promise::Log(_)
        | Promise::Dataset(_)
        | Promise::Trim(..)
        | Promise::Library(_)
        | Promise::SetAside(..) => None,
    };
    let kept = |(batch, places): &(Arc<Batch>, Vec<u64>)| places[0] > known.floor(batch.dataset);
    for (batch, places) in before.iter().rev().filter_map(events).filter(kept).take(2) {
        let answer = batch.append(client).await.unwrap();
        assert!(all(&answer, Outcome::Duplicate), "a retry: {answer:?}");
        assert_eq!(positions(&answer), places, "a retry has other positions");
    }
    let mut batches: Vec<_> = after.iter().filter_map(events).take(3).map(|it| it.0).collect();
    for number in 0..2 {
        let new = batch(random, random.clone().below(u64::MAX), PROBE, number);
        ledger.sent.lock().unwrap().extend(new.ids());
        batches.push(Arc::new(new));
    }
    for batch in batches {
        let Some(places) = known.settle(client, &batch).await else { continue };
        before.push(Promise::Events(batch, places));
        note(before.last().unwrap());
    }
    before
}

/// One cut of one load.
pub(super) struct Cut {
    pub(super) ledger: Arc<Ledger>,
    pub(super) random: Random,
    /// What was promised before the cut and after it.
    pub(super) promises: (Vec<Promise>, Vec<Promise>),
    pub(super) shown: String,
}

/// Starts the server on what a cut has left, and once more after a kill, or after a second cut.
async fn check_cut(dir: Dir, cut: Cut) {
    let Cut { ledger, mut random, promises, .. } = cut;
    if random.below(5) == 0 {
        return check_second_cut(dir, ledger, random, promises).await;
    }
    let server = Server::try_start_on(dir).unwrap_or_else(|said| panic!("does not open: {said}"));
    let client = server.client().await;
    let known = check(&client, &ledger, &promises.0).await;
    let promises = go_on(&client, known, &ledger, promises, &mut random, |_| {}).await;
    if random.below(3) > 0 {
        return;
    }
    let server = Server::start_on(server.kill());
    check(&server.client().await, &ledger, &promises).await;
}

/// The power fails again while the server recovers, or soon after.
async fn check_second_cut(
    dir: Dir,
    ledger: Arc<Ledger>,
    mut random: Random,
    promises: (Vec<Promise>, Vec<Promise>),
) {
    let disk = Disk::below(&dir).unwrap();
    let mut platter = Platter::of(disk.root());
    let server =
        Server::try_start_under(dir, &disk).unwrap_or_else(|said| panic!("does not open: {said}"));
    let client = server.client().await;
    let mut known = Known::default();
    known.catch_up(&client).await;
    let before = promises.0.clone();
    let later = Ledger::default();
    let note = |promise: &Promise| later.note(&disk, promise.clone());
    go_on(&client, known, &ledger, promises, &mut random, note).await;
    let dir = server.kill();
    let outline = Outline::of(&disk);
    let cut = outline.cut(&mut random, &later);
    Trace::open(disk.trace()).take(cut).for_each(|it| platter.apply(it));
    let again = dir.beside("second");
    platter.cut(&mut random, &again.disk());
    let kept = again.keep();
    drop(platter);
    let mut promises = before;
    promises.extend(later.at(outline.bytes_at(cut)).0);
    let server = Server::try_start_on(again.clone()).unwrap_or_else(|said| {
        panic!("does not open after a second cut, kept in {}: {said}", kept.display())
    });
    check(&server.client().await, &ledger, &promises).await;
}

/// Checks running beside each other, and what they found.
#[derive(Default)]
pub(super) struct Checks {
    running: JoinSet<Option<(String, Dir)>>,
    /// What was wrong, and where it can be looked at.
    failures: Vec<(String, Dir)>,
    pub(super) done: u64,
}

impl Checks {
    pub(super) async fn start(&mut self, dir: Dir, cut: Cut) {
        while self.running.len() >= CHECKS_AT_ONCE {
            self.wait().await;
        }
        let kept = dir.keep();
        let shown = cut.shown.clone();
        self.running.spawn(async move {
            let Err(error) = tokio::spawn(check_cut(dir.clone(), cut)).await else {
                dir.remove();
                return None;
            };
            let panic = error.into_panic();
            let said = panic.downcast_ref::<String>().map(String::as_str);
            let said = said.or_else(|| panic.downcast_ref::<&str>().copied());
            let said = said.unwrap_or("?");
            Some((format!("{shown}: {said}\n    kept in {}", kept.display()), dir))
        });
    }

    async fn wait(&mut self) {
        if let Some(ended) = self.running.join_next().await {
            self.done += 1;
            self.failures.extend(ended.unwrap());
        }
    }

    /// Fails unless everything was right.
    pub(super) fn are_right(&self) {
        let said: Vec<_> = self.failures.iter().map(|(said, _)| said.as_str()).collect();
        assert!(said.is_empty(), "{}", said.join("\n"));
    }

    pub(super) fn failed(&self) -> usize {
        self.failures.len()
    }

    /// Keeps nothing of what has failed.
    pub(super) fn forget(self) {
        self.failures.into_iter().for_each(|(_, dir)| dir.remove());
    }

    pub(super) async fn finish(&mut self) {
        while !self.running.is_empty() {
            self.wait().await;
        }
    }
}
