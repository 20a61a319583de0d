//! Power cuts: whatever a cut can leave of the data directory, the server opens it and has everything
//! that it acknowledged before.
//!
//! A server runs under a load on a disk that remembers every operation (`support::disk`). Afterwards the
//! directory is rebuilt as cuts at random moments could have left it (`support::platter`), and the
//! server is started on each.
//!
//! `MILEPOST_CUTS=300 cargo test --test it power -- --nocapture` is the long form. `MILEPOST_SEED`
//! repeats the choices; the order in which threads write is theirs, so a directory that failed is kept.

use std::{
    collections::{BTreeSet, HashMap},
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use milepost::grpc::pb::append_result::Outcome;
use tokio::{sync::Notify, task::JoinSet};

use crate::support::{
    Client, Server,
    disk::Disk,
    events::{PURCHASE, Random, purchases},
    load::{Batch, DATASETS, Known, all, batch, positions, sized_batch},
    platter::Platter,
    server::Dir,
    trace::Trace,
};

const WRITERS: u64 = 6;
/// Cuts of one load; more cuts take more loads.
const CUTS_PER_LOAD: u64 = 30;
/// Cuts that are looked at beside each other.
const CHECKS_AT_ONCE: usize = 3;
/// Writers of this number and above are not part of the load itself.
const BULK: u64 = 100;
const PROBE: u64 = 200;

/// Something that the server has promised.
#[derive(Clone)]
enum Promise {
    /// These events are at these positions.
    Events(Arc<Batch>, Vec<u64>),
    /// The log begins with the events of these ids: they have been read.
    Log(Vec<String>),
    Dataset(String),
}

/// What clients know.
#[derive(Default)]
struct Ledger {
    /// How long the trace was when the promise arrived.
    promises: Mutex<Vec<(u64, Promise)>>,
    /// The hash of every payload that was ever sent, by event id.
    sent: Mutex<HashMap<String, u64>>,
    /// Sent and not answered.
    in_flight: Mutex<Vec<Batch>>,
}

impl Ledger {
    /// Sends a batch and notes what came of it; whether there was an answer.
    async fn append(&self, client: &Client, disk: &Disk, batch: Batch) -> bool {
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
    async fn take_stock(&self, client: &Client, disk: &Disk) {
        let mut known = Known::default();
        known.catch_up(client).await;
        self.note(disk, Promise::Log(known.ids.clone()));
        let in_flight = std::mem::take(&mut *self.in_flight.lock().unwrap());
        for batch in in_flight {
            let places = known.settle(client, &batch).await;
            self.note(disk, Promise::Events(Arc::new(batch), places));
        }
    }

    fn note(&self, disk: &Disk, promise: Promise) {
        let bytes = disk.trace_bytes();
        self.promises.lock().unwrap().push((bytes, promise));
    }

    /// What was promised when the trace had this length, and what was promised later.
    fn at(&self, trace_bytes: u64) -> (Vec<Promise>, Vec<Promise>) {
        let promises = self.promises.lock().unwrap();
        let (before, after): (Vec<_>, Vec<_>) =
            promises.iter().cloned().partition(|(bytes, _)| *bytes <= trace_bytes);
        let only = |it: Vec<(u64, Promise)>| it.into_iter().map(|(_, promise)| promise).collect();
        (only(before), only(after))
    }
}

/// One run of the server under load.
struct Run {
    disk: Arc<Disk>,
    ledger: Arc<Ledger>,
    answers: AtomicU64,
    answers_wanted: u64,
    enough: Notify,
}

/// Writes until the server is gone or there is enough.
async fn write(run: Arc<Run>, client: Client, mut random: Random, round: u64, writer: u64) {
    for number in 0.. {
        let batch = batch(&mut random, round, writer, number);
        if !run.ledger.append(&client, &run.disk, batch).await {
            return;
        }
        if run.answers.fetch_add(1, Ordering::Relaxed) + 1 >= run.answers_wanted {
            run.enough.notify_one();
        }
    }
}

/// Creates datasets until the server is gone.
async fn create(run: Arc<Run>, client: Client, round: u64) {
    for number in 0.. {
        let name = format!("r{round}-{number}");
        if client.create(&name, PURCHASE).await.is_err() {
            return;
        }
        run.ledger.note(&run.disk, Promise::Dataset(name));
    }
}

/// What goes on beside the writers, once in each run, until the server is gone. The place for trims,
/// compaction and verification; what they are answered is a [`Promise`] too.
async fn maintain(run: Arc<Run>, client: Client, round: u64) {
    create(run, client, round).await;
}

/// Several runs of the server on one directory, ended by kills and orderly. Returns it and how long the
/// trace was when the datasets of the writers were there.
async fn load(
    mut dir: Dir,
    disk: &Arc<Disk>,
    ledger: &Arc<Ledger>,
    random: &mut Random,
    bulk: bool,
) -> Dir {
    for round in 0..3 {
        let server = Server::start_under(dir, disk);
        let client = server.client().await;
        if round == 0 {
            purchases(&client, DATASETS[0]).await;
            ledger.note(disk, Promise::Dataset(DATASETS[0].to_owned()));
            client.create(DATASETS[1], PURCHASE).await.unwrap();
            ledger.note(disk, Promise::Dataset(DATASETS[1].to_owned()));
        }
        ledger.take_stock(&client, disk).await;
        if round == 1 && bulk {
            // More than the index keeps in memory.
            for number in 0..8 {
                let batch = sized_batch(random, round, BULK, number, 10_000, 20);
                assert!(ledger.append(&client, disk, batch).await);
            }
        }
        let run = Arc::new(Run {
            disk: Arc::clone(disk),
            ledger: Arc::clone(ledger),
            answers: AtomicU64::new(0),
            answers_wanted: 10 + random.below(40),
            enough: Notify::new(),
        });
        let mut working = JoinSet::new();
        for writer in 0..WRITERS {
            let random = Random::from_seed(random.below(u64::MAX));
            working.spawn(write(Arc::clone(&run), server.client().await, random, round, writer));
        }
        working.spawn(maintain(Arc::clone(&run), server.client().await, round));
        run.enough.notified().await;
        dir = if round == 1 { server.stop().await } else { server.kill() };
        while let Some(ended) = working.join_next().await {
            ended.unwrap();
        }
    }
    dir
}

/// What a trace has: where each operation ends, and which are not mere writes.
struct Outline {
    ends: Vec<u64>,
    edges: Vec<usize>,
}

impl Outline {
    fn of(disk: &Disk) -> Self {
        let mut trace = Trace::open(disk.trace());
        let (mut ends, mut edges) = (Vec::new(), Vec::new());
        while let Some(operation) = trace.next() {
            if operation.is_edge() {
                edges.push(ends.len());
            }
            ends.push(trace.at());
        }
        Self { ends, edges }
    }

    /// How many operations happen before a cut: any number, or up to something near which a mistake
    /// would show: a change that is no mere write, or a promise.
    fn cut(&self, random: &mut Random, ledger: &Ledger) -> usize {
        let promises = ledger.promises.lock().unwrap();
        let near = usize::try_from(random.below(3)).unwrap();
        let cut = match random.below(4) {
            0 => usize::try_from(random.below(self.ends.len() as u64)).unwrap(),
            1 | 2 if !promises.is_empty() => {
                let (bytes, _) = random.one_of(&promises);
                self.ends.partition_point(|end| end < bytes) + near
            }
            _ => random.one_of(&self.edges) + near,
        };
        cut.clamp(1, self.ends.len())
    }
}

/// All that was promised is there, and what else there is is whole and was sent.
async fn check(client: &Client, ledger: &Ledger, promises: &[Promise]) -> Known {
    let mut known = Known::default();
    known.catch_up(client).await;
    known.is_whole(0);
    known.was_sent(&ledger.sent.lock().unwrap());
    for promise in promises {
        match promise {
            Promise::Events(batch, positions) => known.has(batch, positions),
            Promise::Log(ids) => {
                assert!(known.ids.starts_with(ids), "what was read is lost or changed");
            }
            Promise::Dataset(name) => {
                client.dataset(name).await.unwrap_or_else(|it| panic!("dataset `{name}`: {it}"));
            }
        }
    }
    known.counts_agree(client).await;
    known.reads_agree(client).await;
    known
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
    note(&Promise::Log(known.ids.clone()));
    purchases(client, DATASETS[0]).await;
    client.create(DATASETS[1], PURCHASE).await.unwrap();
    let events = |promise: &Promise| match promise {
        Promise::Events(batch, positions) => Some((Arc::clone(batch), positions.clone())),
        Promise::Log(_) | Promise::Dataset(_) => None,
    };
    for (batch, places) in before.iter().rev().filter_map(events).take(2) {
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
        let places = known.settle(client, &batch).await;
        before.push(Promise::Events(batch, places));
        note(before.last().unwrap());
    }
    before
}

/// One cut of one load.
struct Cut {
    ledger: Arc<Ledger>,
    random: Random,
    /// What was promised before the cut and after it.
    promises: (Vec<Promise>, Vec<Promise>),
    shown: String,
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
    let again = Dir::in_memory();
    platter.cut(&mut random, &again.disk());
    let kept = again.keep();
    drop((dir, platter));
    let mut promises = before;
    promises.extend(later.at(outline.ends[cut - 1]).0);
    let server = Server::try_start_on(again.clone()).unwrap_or_else(|said| {
        panic!("does not open after a second cut, kept in {}: {said}", kept.display())
    });
    check(&server.client().await, &ledger, &promises).await;
    drop(server);
    again.remove();
}

/// Checks running beside each other, and what they found.
#[derive(Default)]
struct Checks {
    running: JoinSet<Option<String>>,
    failures: Vec<String>,
    done: u64,
}

impl Checks {
    async fn start(&mut self, dir: Dir, cut: Cut) {
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
            Some(format!("{shown}: {}\n    kept in {}", said.unwrap_or("?"), kept.display()))
        });
    }

    async fn wait(&mut self) {
        if let Some(ended) = self.running.join_next().await {
            self.done += 1;
            self.failures.extend(ended.unwrap());
        }
    }

    async fn finish(&mut self) {
        while !self.running.is_empty() {
            self.wait().await;
        }
    }
}

/// Rebuilds the directory at these cuts, each a number of operations, and checks it.
async fn check_cuts(
    disk: &Disk,
    ledger: &Arc<Ledger>,
    outline: &Outline,
    cuts: Vec<usize>,
    random: &mut Random,
    checks: &mut Checks,
) {
    let mut trace = Trace::open(disk.trace());
    let empty = Dir::new();
    let mut platter = Platter::of(&empty.disk());
    platter.is_at(disk.root());
    let mut applied = 0;
    for cut in cuts {
        trace.by_ref().take(cut - applied).for_each(|it| platter.apply(it));
        applied = cut;
        let seed = random.below(u64::MAX);
        let mut random = Random::from_seed(seed);
        let dir = Dir::in_memory();
        platter.cut(&mut random, &dir.disk());
        let promises = ledger.at(outline.ends[cut - 1]);
        let operations = outline.ends.len();
        let shown = format!("cut after operation {cut} of {operations}, its seed {seed}");
        let cut = Cut { ledger: Arc::clone(ledger), random, promises, shown };
        checks.start(dir, cut).await;
    }
    checks.finish().await;
}

/// Every file below a directory, with its bytes.
fn contents(root: &std::path::Path) -> HashMap<PathBuf, Option<Vec<u8>>> {
    let mut found = HashMap::new();
    let mut dirs = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_owned();
            let bytes = (!path.is_dir()).then(|| std::fs::read(&path).unwrap());
            if bytes.is_none() {
                dirs.push(path);
            }
            found.insert(name, bytes);
        }
    }
    found
}

/// Nothing has passed the shim by: the trace makes the same directory.
fn nothing_escapes(disk: &Disk) {
    let empty = Dir::new();
    let mut platter = Platter::of(&empty.disk());
    platter.is_at(disk.root());
    Trace::open(disk.trace()).for_each(|it| platter.apply(it));
    let again = Dir::in_memory();
    platter.replay(&again.disk());
    let (found, wanted) = (contents(&again.disk()), contents(disk.root()));
    let names = |it: &HashMap<PathBuf, _>| it.keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(names(&found), names(&wanted));
    for (name, bytes) in wanted {
        assert!(found[&name] == bytes, "{} was written past the shim", name.display());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_event_survives_a_power_cut_and_no_batch_is_torn() {
    let cuts: u64 = std::env::var("MILEPOST_CUTS").map_or(20, |it| it.parse().unwrap());
    let mut random = Random::seeded("power", 20_261_124);
    let mut checks = Checks::default();
    let (mut operations, mut promises) = (0, 0);
    for number in 0..cuts.div_ceil(CUTS_PER_LOAD) {
        let dir = Dir::new();
        let Some(disk) = Disk::below(&dir) else { return };
        let (disk, ledger) = (Arc::new(disk), Arc::new(Ledger::default()));
        let bulk = number % 3 == 2;
        let _dir = load(dir, &disk, &ledger, &mut random, bulk).await;
        nothing_escapes(&disk);
        let outline = Outline::of(&disk);
        let cuts = CUTS_PER_LOAD.min(cuts - number * CUTS_PER_LOAD);
        let mut cuts: Vec<usize> = (0..cuts).map(|_| outline.cut(&mut random, &ledger)).collect();
        cuts.sort_unstable();
        check_cuts(&disk, &ledger, &outline, cuts, &mut random, &mut checks).await;
        operations += outline.ends.len();
        promises += ledger.promises.lock().unwrap().len();
        eprintln!("{} cuts, {} failed", checks.done, checks.failures.len());
    }
    eprintln!("{} cuts among {operations} operations and {promises} answers", checks.done);
    assert!(checks.failures.is_empty(), "{}", checks.failures.join("\n"));
    assert_eq!(checks.done, cuts);
}

/// A test of the test.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_sync_would_be_noticed() {
    let mut random = Random::seeded("no sync", 20_261_125);
    let dir = Dir::new();
    let Some(disk) = Disk::below(&dir) else { return };
    let (disk, ledger) = (Arc::new(disk), Arc::new(Ledger::default()));
    // Once there is a store: without its first syncs nothing at all would be left.
    let server = Server::start_under(dir, &disk);
    purchases(&server.client().await, DATASETS[0]).await;
    let dir = server.stop().await;
    disk.forget_syncs();
    let _dir = load(dir, &disk, &ledger, &mut random, false).await;
    nothing_escapes(&disk);
    let outline = Outline::of(&disk);
    let last = outline.ends.len();
    let mut checks = Checks::default();
    let cuts = (1..=6).map(|it| last / 2 + last * it / 12).collect();
    check_cuts(&disk, &ledger, &outline, cuts, &mut random, &mut checks).await;
    eprintln!("{} of {} cuts lost something", checks.failures.len(), checks.done);
    assert!(checks.failures.len() >= 3, "{:?}", checks.failures);
}
