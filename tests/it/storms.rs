//! Many clients at once: what they are told is one history, and the log is that history.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use milepost::grpc::pb::{self, append_result::Outcome};
use tokio::{sync::Mutex, task::JoinSet, time::timeout};
use tonic_types::StatusExt as _;
use xxhash_rust::xxh3::xxh3_64;

use crate::support::{
    Client, Server,
    client::{expected_last, request},
    errors::seen,
    events::{Random, purchase_text, purchases, typed},
};

/// Sixty-four clients send the same thousand events, some twice in a request, and leave in the middle of
/// calls. Each event is stored once, and everybody who was answered was told the same position.
#[tokio::test]
async fn a_storm_of_retries_leaves_one_copy_of_each_event() {
    const CLIENTS: u64 = 64;
    const IDS: u64 = 1_000;
    const CALLS: usize = 40;
    let server = Server::start();
    purchases(&server.client().await, "web").await;
    let address = server.address().to_owned();
    let told: Arc<Mutex<BTreeMap<String, u64>>> = Arc::default();
    let seed = Random::seeded("storm", 64).below(u64::MAX);
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let (address, told) = (address.clone(), Arc::clone(&told));
        clients.spawn(async move {
            let mut random = Random::from_seed(seed ^ (number + 1));
            let mut client = Client::connect(&address).await;
            let mut appended = 0;
            for _ in 0..CALLS {
                let ids: Vec<_> = (0..=random.below(60)).map(|_| random.below(IDS)).collect();
                let batch: Vec<_> =
                    ids.iter().map(|id| purchase_text(&format!("e{id}"), "a@b.c")).collect();
                let patience = Duration::from_micros(200 << random.below(12));
                let answer = match timeout(patience, client.append("web", &batch)).await {
                    Ok(answer) => answer.unwrap(),
                    // Nobody knows what became of it; on another connection now.
                    Err(_elapsed) => {
                        client = Client::connect(&address).await;
                        continue;
                    }
                };
                let mut told = told.lock().await;
                for (id, result) in ids.iter().zip(&answer.results) {
                    appended += u64::from(result.outcome() == Outcome::Appended);
                    assert!(result.position > 0 && result.position <= answer.durable_position);
                    let known = *told.entry(format!("e{id}")).or_insert(result.position);
                    assert_eq!(known, result.position, "e{id}");
                }
            }
            appended
        });
    }
    let appended: u64 = clients.join_all().await.into_iter().sum();
    let client = server.client().await;
    let stored: BTreeMap<_, _> =
        client.read_all().await.into_iter().map(|it| (it.event_id, it.position)).collect();
    let last = client.last_position().await;
    assert_eq!(stored.len() as u64, last, "an event is stored twice");
    assert!(appended <= last && last <= IDS);
    for (id, position) in told.lock().await.iter() {
        assert_eq!(stored.get(id.as_bytes()), Some(position), "{id}");
    }
    client.verify().await.unwrap();
}

/// A call of a history: what was asked, what was told, and when, as the client saw it.
#[derive(Clone, Copy, Debug)]
struct Call {
    person: u64,
    expected: u64,
    /// The position that it got, or the last position that was in its way.
    outcome: Result<u64, u64>,
    begun: Instant,
    ended: Instant,
}

/// Clients compare and append to a few people's histories. What they are told is linearizable: the calls
/// that succeeded, in the order of their positions, are a history of a register for each person in which
/// every call took effect between its beginning and its end.
#[tokio::test]
async fn conditional_appends_are_linearizable() {
    const CLIENTS: u64 = 16;
    const PEOPLE: u64 = 5;
    const CALLS: usize = 120;
    let server = Server::start();
    purchases(&server.client().await, "web").await;
    let seed = Random::seeded("linearizability", 6).below(u64::MAX);
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let client = server.client().await;
        clients.spawn(async move {
            let mut random = Random::from_seed(seed ^ (number + 1));
            // What this client believes of each person.
            let mut known: HashMap<u64, u64> = HashMap::new();
            let mut calls = Vec::new();
            for n in 0..CALLS {
                let person = random.below(PEOPLE);
                let expected = known.get(&person).copied().unwrap_or(0);
                let id = format!("c{number}-{n}");
                let mut append = request("web", &[purchase_text(&id, &format!("p{person}"))]);
                append.conditions = vec![expected_last("Email", &format!("p{person}"), expected)];
                let begun = Instant::now();
                let outcome = match client.append_request(append).await {
                    Ok(answer) => Ok(answer.results[0].position),
                    Err(status) => {
                        assert_eq!(seen(&status).reason, "CONDITION_FAILED");
                        let facts = status.get_details_error_info().unwrap().metadata;
                        Err(facts["condition_0_last_position"].parse().unwrap())
                    }
                };
                let ended = Instant::now();
                known.insert(person, outcome.unwrap_or_else(|last| last));
                calls.push(Call { person, expected, outcome, begun, ended });
            }
            calls
        });
    }
    let calls: Vec<Call> = clients.join_all().await.into_iter().flatten().collect();
    for person in 0..PEOPLE {
        let of_person: Vec<_> = calls.iter().filter(|it| it.person == person).copied().collect();
        check_register(&of_person);
    }
    let won = calls.iter().filter(|it| it.outcome.is_ok()).count() as u64;
    assert!(won > 0 && won < calls.len() as u64, "{won} of {}", calls.len());
    assert_eq!(server.client().await.last_position().await, won);
}

/// Checks the calls on one register against the order of the positions that they got.
fn check_register(calls: &[Call]) {
    let mut writes: Vec<(u64, Call)> =
        calls.iter().filter_map(|it| Some((it.outcome.ok()?, *it))).collect();
    writes.sort_unstable_by_key(|(position, _)| *position);
    // Each write saw the one before it.
    let mut last = 0;
    for (position, call) in &writes {
        assert_eq!(call.expected, last, "{call:?} was stored over another value");
        last = *position;
    }
    // No write is before one that had ended when it began.
    for (at, (_, call)) in writes.iter().enumerate() {
        assert!(writes[at + 1..].iter().all(|(_, later)| later.ended >= call.begun), "{call:?}");
    }
    // What a failed call was told was the value at some moment while it was under way.
    for call in calls.iter().filter(|it| it.outcome.is_err()) {
        let value = call.outcome.unwrap_err();
        assert_ne!(value, call.expected, "{call:?} failed without a reason");
        let write = writes.iter().position(|(position, _)| *position == value);
        let (begun, next) = match write {
            Some(at) => (Some(writes[at].1.begun), writes.get(at + 1)),
            None if value == 0 => (None, writes.first()),
            None => panic!("{call:?} was told of a value that nobody wrote"),
        };
        assert!(begun.is_none_or(|begun| begun <= call.ended), "{call:?} was told of the future");
        let replaced = next.is_some_and(|(_, next)| next.ended < call.begun);
        assert!(!replaced, "{call:?} was told of the past");
    }
}

/// The checker finds what is not linearizable.
#[test]
fn the_checker_of_registers_is_not_blind() {
    let now = Instant::now();
    let call = |expected, outcome, begun, ended| Call {
        person: 0,
        expected,
        outcome,
        begun: now + Duration::from_secs(begun),
        ended: now + Duration::from_secs(ended),
    };
    let fails = |calls: &[Call]| {
        let calls = calls.to_vec();
        std::panic::catch_unwind(move || check_register(&calls)).is_err()
    };
    let sound = [call(0, Ok(1), 0, 2), call(1, Ok(4), 3, 4), call(0, Err(1), 1, 4)];
    assert!(!fails(&sound));
    // Two that both were stored over the same value.
    assert!(fails(&[call(0, Ok(1), 0, 2), call(0, Ok(2), 0, 2)]));
    // One whose position is before that of one which had ended.
    assert!(fails(&[call(0, Ok(1), 5, 6), call(1, Ok(2), 0, 1)]));
    // One that was told of a value that was replaced before it began, and one of a value to come.
    assert!(fails(&[call(0, Ok(1), 0, 1), call(1, Ok(2), 2, 3), call(0, Err(1), 4, 5)]));
    assert!(fails(&[call(0, Ok(1), 4, 5), call(7, Err(1), 0, 1)]));
    assert!(fails(&[call(0, Ok(1), 0, 1), call(1, Err(1), 2, 3)]));
    assert!(fails(&[call(0, Ok(1), 0, 1), call(0, Err(9), 2, 3)]));
}

/// Readers that begin again and again beside eight writers see each time a beginning of the log without a
/// gap, and never less than before.
#[tokio::test]
async fn a_polling_reader_never_sees_an_event_without_all_before_it() {
    const EVENTS: u64 = 4_000;
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    let mut writers = JoinSet::new();
    for writer in 0..8 {
        let client = server.client().await;
        writers.spawn(async move {
            for n in 0..EVENTS / 8 / 5 {
                let id = |at: u64| typed(&format!("w{writer}-{n}-{at}"), "a.b");
                client.append("web", &(0..5).map(id).collect::<Vec<_>>()).await.unwrap();
            }
        });
    }
    let mut readers = JoinSet::new();
    for _ in 0..2 {
        let client = server.client().await;
        readers.spawn(async move {
            let mut last = 0;
            while last < EVENTS {
                let positions: Vec<_> =
                    client.read_all().await.into_iter().map(|it| it.position).collect();
                let seen = positions.len() as u64;
                assert!(positions.into_iter().eq(1..=seen) && seen >= last);
                // Of an atomic batch all or nothing.
                assert_eq!(seen % 5, 0);
                last = seen;
            }
        });
    }
    writers.join_all().await;
    readers.join_all().await;
}

/// Sizes, contents and names below a directory.
fn digest(path: &Path) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(digest(&path));
        } else {
            found.insert(path.display().to_string(), xxh3_64(&fs::read(&path).unwrap()));
        }
    }
    found
}

#[tokio::test]
async fn a_check_changes_no_byte_on_disk() {
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    client.append("web", &[purchase_text("e1", "a@b.c")]).await.unwrap();
    // Open files are as they are at rest.
    let server = Server::start_on(server.stop().await);
    let client = server.client().await;
    let before = digest(&server.dir().data());
    for mode in [pb::AppendMode::Atomic, pb::AppendMode::PerEvent] {
        for payload in [purchase_text("e1", "a@b.c"), purchase_text("e2", "a@b.c"), "{}".to_owned()]
        {
            let mut check = request("web", &[payload]);
            check.validate_only = true;
            check.set_mode(mode);
            drop(client.append_request(check).await);
        }
    }
    assert_eq!(digest(&server.dir().data()), before);
    assert_eq!(client.last_position().await, 1);
}
