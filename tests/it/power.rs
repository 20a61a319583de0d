//! Power cuts: whatever a cut can leave of the data directory, the server opens it and has everything
//! that it acknowledged before.
//!
//! A server runs under a load on a disk that remembers every operation (`support::disk`). Afterwards the
//! directory is rebuilt as cuts at random moments could have left it (`support::platter`), and the
//! server is started on each.
//!
//! `MILEPOST_CUTS=300 cargo test --test it power -- --nocapture` is the long form. `MILEPOST_SEED`
//! repeats the choices; the order in which threads write is theirs, so a directory that failed is kept.

mod check;
mod ledger;
mod load;
mod outline;

use std::{
    collections::{BTreeSet, HashMap},
    path::PathBuf,
    sync::Arc,
};

use milepost::grpc::pb;

use self::{
    check::{Checks, Cut},
    ledger::{Ledger, Promise},
    load::load,
    outline::Outline,
};
use crate::support::{
    Server,
    client::request,
    disk::Disk,
    events::{PURCHASE, Random, purchases},
    load::{Batch, DATASETS, Note, positions, sized_batch},
    platter::Platter,
    server::Dir,
    trace::Trace,
};

/// Cuts of one load; more cuts take more loads.
const CUTS_PER_LOAD: u64 = 30;

/// Cuts in the short form.
const CUTS: u64 = 20;

fn cuts_wanted() -> u64 {
    std::env::var("MILEPOST_CUTS").map_or(CUTS, |it| it.parse().unwrap())
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
        let promises = ledger.at(outline.bytes_at(cut));
        let operations = outline.operations();
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
    let cuts = cuts_wanted();
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
        operations += outline.operations();
        promises += ledger.promises.lock().unwrap().len();
        eprintln!("{} cuts, {} failed", checks.done, checks.failed());
    }
    eprintln!("{} cuts among {operations} operations and {promises} answers", checks.done);
    checks.are_right();
    assert_eq!(checks.done, cuts);
}

/// Appends, most of them buffered, by one writer until it is killed. What is promised is what is durable by an
/// answer's own word.
async fn buffered_load(dir: Dir, disk: &Disk, ledger: &Ledger, random: &mut Random) -> Dir {
    let flags = ["--buffered-appends", "allow"];
    let server = Server::try_start_under_with(dir, disk, &flags).unwrap();
    let client = server.client().await;
    purchases(&client, DATASETS[0]).await;
    client.create(DATASETS[1], PURCHASE).await.unwrap();
    let (mut ahead, mut buffered) = (Vec::new(), 0);
    for number in 0..80 {
        let size = random.below(20) + 1;
        let batch = sized_batch(random, (0, 0, number), size, Note::Filler(2_000));
        ledger.sent.lock().unwrap().extend(batch.ids());
        let mut append = request(batch.dataset, &batch.payloads);
        if random.below(5) > 0 {
            append.set_durability(pb::Durability::Buffered);
        }
        let answer = client.append_request(append).await.unwrap();
        buffered += u32::from(answer.durability() == pb::Durability::Buffered);
        ahead.push((Arc::new(batch), positions(&answer)));
        let is_durable =
            |it: &&(Arc<Batch>, Vec<u64>)| it.1.last() <= Some(&answer.durable_position);
        let durable = ahead.iter().take_while(is_durable).count();
        for (batch, places) in ahead.drain(..durable) {
            ledger.note(disk, Promise::Events(batch, places));
        }
    }
    assert!(buffered > 20, "{buffered} answers came before the sync");
    server.kill()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_takes_at_most_the_buffered_appends_that_are_not_synced() {
    let mut random = Random::seeded("buffered", 20_261_127);
    let dir = Dir::new();
    let Some(disk) = Disk::below(&dir) else { return };
    let ledger = Arc::new(Ledger::default());
    let _dir = buffered_load(dir, &disk, &ledger, &mut random).await;
    nothing_escapes(&disk);
    let outline = Outline::of(&disk);
    let mut cuts: Vec<usize> =
        (0..cuts_wanted()).map(|_| outline.cut(&mut random, &ledger)).collect();
    cuts.sort_unstable();
    let mut checks = Checks::default();
    check_cuts(&disk, &ledger, &outline, cuts, &mut random, &mut checks).await;
    checks.are_right();
}

/// There is nothing to lose yet, but what is half made must not be in the way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_was_being_made_opens_after_a_power_cut() {
    let mut random = Random::seeded("new store", 20_261_126);
    let dir = Dir::new();
    let Some(disk) = Disk::below(&dir) else { return };
    let _dir = Server::start_under(dir, &disk).kill();
    let outline = Outline::of(&disk);
    let cuts = (1..=outline.operations()).step_by(if cuts_wanted() > CUTS { 1 } else { 8 });
    let mut checks = Checks::default();
    let ledger = Arc::default();
    check_cuts(&disk, &ledger, &outline, cuts.collect(), &mut random, &mut checks).await;
    eprintln!("{} cuts among {} operations", checks.done, outline.operations());
    checks.are_right();
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
    let last = outline.operations();
    let mut checks = Checks::default();
    let cuts = (1..=6).map(|it| last / 2 + last * it / 12).collect();
    check_cuts(&disk, &ledger, &outline, cuts, &mut random, &mut checks).await;
    let (failed, done) = (checks.failed(), checks.done);
    checks.forget();
    assert!(failed >= 3, "{failed} of {done} cuts lost something");
}
