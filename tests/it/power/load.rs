//! What the server does until it is killed: writers, and what goes on beside them.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use milepost::grpc::pb;
use tokio::{sync::Notify, task::JoinSet};

use super::ledger::{Ledger, Promise};
use crate::support::{
    Client, Server,
    disk::Disk,
    events::{PURCHASE, Random, purchases},
    load::{DATASETS, Note, batch, sized_batch},
    server::Dir,
};

const WRITERS: u64 = 6;
/// The dataset whose events are all set aside.
const ASIDE: &str = "aside";
/// A writer beside the load.
const BULK: u64 = 100;
/// Documents of a library, 8 KiB each.
pub(super) const LIBRARY_DOCUMENTS: usize = 40;
/// Runs of the server in one load.
const RUNS: u64 = 5;

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

/// What goes on beside the writers, until the server is gone: datasets are made and trimmed, events are set
/// aside, the store is compacted and verified. The place for what else there will be; what it is answered
/// is a [`Promise`] too.
async fn maintain(run: Arc<Run>, client: Client, mut random: Random, round: u64) {
    for number in 0.. {
        let dataset = *random.one_of(&DATASETS);
        let answered = match random.below(11) {
            9.. => import(&run, &client, format!("library-{round}-{number}")).await,
            7.. => set_aside(&run, &client, format!("r{round}-{number}")).await,
            0 => client.compact().await.is_ok(),
            1 => client.verify().await.is_ok(),
            2 => trim(&run, &client, dataset, &mut random).await,
            _ => create(&run, &client, format!("r{round}-{number}")).await,
        };
        if !answered {
            return;
        }
    }
}

/// Creates a dataset; whether there was an answer.
async fn create(run: &Run, client: &Client, name: String) -> bool {
    let created = client.create(&name, PURCHASE).await;
    if created.is_ok() {
        run.ledger.note(&run.disk, Promise::Dataset(name));
    }
    created.is_ok()
}

/// Imports documents, more than the catalog writes in one go; whether there was an answer.
async fn import(run: &Run, client: &Client, name: String) -> bool {
    run.ledger.libraries.lock().unwrap().push(name.clone());
    let described = "x".repeat(8 * 1024);
    let document = |number| pb::SchemaDocument {
        name: String::new(),
        document: serde_json::json!({
            "$id": format!("https://example.com/{name}/{number}"),
            "title": name,
            "description": described,
        })
        .to_string(),
    };
    let documents = (0..LIBRARY_DOCUMENTS).map(document).collect();
    let request = pb::ImportSchemasRequest { documents, ..Default::default() };
    let Ok(imported) = client.schemas.clone().import_schemas(request).await else { return false };
    assert!(imported.into_inner().imported);
    run.ledger.note(&run.disk, Promise::Library(name));
    true
}

/// Sends an event that is set aside; whether there was an answer.
async fn set_aside(run: &Run, client: &Client, id: String) -> bool {
    let payload = format!("{{\"_id\": \"{id}\", \"timestamp\": \"never\"}}");
    let Ok(answer) = client.append_each(ASIDE, &[&payload]).await else { return false };
    let id = answer.results[0].quarantine_id.clone();
    assert!(!id.is_empty(), "{answer:?}");
    run.ledger.note(&run.disk, Promise::SetAside(id, payload));
    true
}

/// Trims a dataset by some of its oldest events; whether there was an answer.
async fn trim(run: &Run, client: &Client, dataset: &'static str, random: &mut Random) -> bool {
    let Ok(found) = client.dataset(dataset).await else { return false };
    let stats = found.stats.unwrap();
    let kept = stats.last_position - stats.first_position;
    let before = stats.first_position + 1 + random.below(kept / 4 + 1);
    stats.events == 0 || run.ledger.trim(client, &run.disk, dataset, before).await
}

/// Creates the dataset whose events are all set aside.
async fn create_quarantine(client: &Client) {
    let (name, schema_id) = (ASIDE.to_owned(), PURCHASE.to_owned());
    let mut dataset = pb::Dataset { name, schema_id, ..Default::default() };
    dataset.set_on_invalid(pb::OnInvalid::Quarantine);
    client.create_dataset(dataset).await.unwrap();
}

/// Several runs of the server on one directory, one ended in order, the others by kills.
pub(super) async fn load(
    mut dir: Dir,
    disk: &Arc<Disk>,
    ledger: &Arc<Ledger>,
    random: &mut Random,
    bulk: bool,
) -> Dir {
    for round in 0..RUNS {
        let server = Server::start_under(dir, disk);
        let client = server.client().await;
        if round == 0 {
            purchases(&client, DATASETS[0]).await;
            ledger.note(disk, Promise::Dataset(DATASETS[0].to_owned()));
            client.create(DATASETS[1], PURCHASE).await.unwrap();
            ledger.note(disk, Promise::Dataset(DATASETS[1].to_owned()));
            create_quarantine(&client).await;
            ledger.note(disk, Promise::Dataset(ASIDE.to_owned()));
        }
        ledger.take_stock(&client, disk).await;
        if round == 1 && bulk {
            // More than the index keeps in memory.
            for number in 0..8 {
                let batch = sized_batch(random, (round, BULK, number), 10_000, Note::Filler(20));
                assert!(ledger.append(&client, disk, batch).await);
            }
        }
        let run = Arc::new(Run {
            disk: Arc::clone(disk),
            ledger: Arc::clone(ledger),
            answers: AtomicU64::new(0),
            answers_wanted: 5 + random.below(25),
            enough: Notify::new(),
        });
        let mut working = JoinSet::new();
        for writer in 0..WRITERS {
            let random = Random::from_seed(random.below(u64::MAX));
            working.spawn(write(Arc::clone(&run), server.client().await, random, round, writer));
        }
        let seed = Random::from_seed(random.below(u64::MAX));
        working.spawn(maintain(Arc::clone(&run), server.client().await, seed, round));
        run.enough.notified().await;
        dir = if round == 2 { server.stop().await } else { server.kill() };
        while let Some(ended) = working.join_next().await {
            ended.unwrap();
        }
    }
    dir
}
