//! Many times more than a server takes, from clients that do not wait as they are told to: what was
//! answered is there and nothing else is, and memory keeps to its bound.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
};
use std::time::Duration;

use milepost::grpc::pb;
use serde_json::json;
use tokio::task::JoinSet;

use crate::support::{
    Client, Server,
    client::{reading, string_of},
    disk::Disk,
    errors::seen,
    events::{purchase, purchase_text, purchases},
    server::Dir,
};

const MIB: u64 = 1024 * 1024;
const QUEUE_MIB: u64 = 16;
const CONNECTIONS: usize = 32;
/// Appends that each connection has on their way: 256 MiB in all.
const AT_ONCE: usize = 16;
const BATCH: usize = 16;
const NOTE_BYTES: usize = 32 * 1024;
/// The clients stop when so many have been taken, which is some times what the queue holds, and eleven times
/// as many were offered; or when so many were taken that this is no overload.
const ENOUGH: usize = 60;
const TOO_MANY: usize = 600;
/// A disk that takes a commit group in not less than this.
const SYNC: Duration = Duration::from_millis(800);

/// As `docs/operating.md` says: what appends of ordinary events make a server hold.
const fn memory_max() -> u64 {
    (3 * QUEUE_MIB + 356 + 2 * (CONNECTIONS as u64 + 1)) * MIB
}

#[derive(Default)]
struct Storm {
    next: AtomicUsize,
    taken: AtomicUsize,
    refused: AtomicUsize,
    over: AtomicBool,
}

impl Storm {
    fn look(&self) {
        let (taken, refused) = (self.taken.load(Relaxed), self.refused.load(Relaxed));
        let enough = taken >= ENOUGH && refused >= 10 * taken;
        self.over.fetch_or(enough || taken >= TOO_MANY, Relaxed);
    }
}

/// Appends one batch after the other; what is refused is sent again at once. Returns what was taken.
async fn client(client: Client, storm: Arc<Storm>) -> Vec<String> {
    let note = "x".repeat(NOTE_BYTES);
    let mut taken = Vec::new();
    while !storm.over.load(Relaxed) {
        let number = storm.next.fetch_add(1, Relaxed);
        let ids: Vec<_> = (0..BATCH).map(|at| format!("s{number}-{at}")).collect();
        let event = |id: &String| {
            let mut event = purchase(id, "a@b.c");
            event["note"] = json!(note);
            event.to_string()
        };
        let batch: Vec<_> = ids.iter().map(event).collect();
        while !storm.over.load(Relaxed) {
            match client.append("web", &batch).await {
                Ok(_) => {
                    storm.taken.fetch_add(1, Relaxed);
                    storm.look();
                    taken.extend(ids);
                    break;
                }
                Err(status) => {
                    assert_eq!(seen(&status).reason, "QUEUE_FULL", "{status:?}");
                    storm.refused.fetch_add(1, Relaxed);
                    storm.look();
                }
            }
        }
    }
    taken
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_times_what_the_disk_takes_is_refused_and_memory_stays_bounded() {
    let dir = Dir::new();
    let Some(disk) = Disk::below(&dir) else { return };
    let queue = format!("{QUEUE_MIB}MiB");
    let server = Server::start_under_with(dir, &disk, &["--queue-bytes", &queue]);
    let observer = server.client().await;
    purchases(&observer, "web").await;
    let (before, _) = server.memory();
    disk.slow_down(SYNC);
    let storm = Arc::new(Storm::default());
    let mut clients = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let connection = server.client().await;
        for _ in 0..AT_ONCE {
            clients.spawn(client(connection.clone(), Arc::clone(&storm)));
        }
    }
    let mut wanted: Vec<String> = clients.join_all().await.into_iter().flatten().collect();
    let (now, most) = server.memory();
    disk.slow_down(Duration::ZERO);

    let (taken, refused) = (storm.taken.load(Relaxed), storm.refused.load(Relaxed));
    eprintln!(
        "{taken} appends taken, {refused} refused; {} MiB before, {} MiB at most, {} MiB then; bound {} MiB",
        before / MIB,
        most / MIB,
        now / MIB,
        memory_max() / MIB
    );
    assert!(taken + refused >= 10 * taken, "{refused} refused, {taken} taken: no overload");
    assert!(most < memory_max(), "{most} bytes; at most {}", memory_max());
    let mut all = reading(pb::EventFilter::default());
    all.set_payload_format(pb::PayloadFormat::None);
    let stored = observer.read(all).await.unwrap();
    let mut stored: Vec<String> = stored.into_iter().map(|it| string_of(&it.event_id)).collect();
    stored.sort_unstable();
    wanted.sort_unstable();
    assert!(stored == wanted, "{} stored, {} taken", stored.len(), wanted.len());
    observer.append("web", &[purchase_text("after", "a@b.c")]).await.unwrap();
}
