//! A disk that gives back other bytes than were written: the server refuses them and says what is wrong,
//! or everything it answers is right. A shorter answer is a wrong one.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use milepost::grpc::pb;
use tonic::{Code, Status};

use super::{incompressible, rounds};
use crate::support::{
    Client, Server,
    client::{by_dataset, by_identity, by_type, reading},
    copy_below,
    events::{PURCHASE, Random, purchase_text},
    load::{DATASETS, write},
    server::Dir,
};

/// For all answers of one damaged store.
const PATIENCE: Duration = Duration::from_mins(2);
/// Bytes of a page of the disk.
const PAGE: u64 = 4096;

/// Every file below a directory, with its bytes.
pub(super) fn contents(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut dirs = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                let name = path.strip_prefix(root).unwrap().to_owned();
                found.insert(name, fs::read(path).unwrap());
            }
        }
    }
    found
}

/// A copy of a directory that no server is using, in memory.
pub(super) fn copy(dir: &Dir) -> Dir {
    let copied = Dir::in_memory();
    copy_below(&dir.disk(), &copied.disk());
    copied
}

/// One answer as text, or why there is none.
type Answer = Result<String, Status>;

/// Everything that a client can ask, and the answers.
async fn ask(client: &Client) -> BTreeMap<String, Answer> {
    let mut answers = BTreeMap::new();
    let mut note = |question: String, answer: Answer| drop(answers.insert(question, answer));
    note("status".into(), client.status().await.map(|it| it.last_position.to_string()));
    note("all events".into(), client.read(pb::ReadEventsRequest::default()).await.map(shown));
    let mut filters = vec![pb::EventFilter::default()];
    filters.extend(["commerce.*", "commerce.purchases", "web.visit"].map(by_type));
    filters.extend((0..10).map(|it| by_identity("Email", &format!("p{it}@x.y"))));
    filters.push(by_identity("crm", ""));
    filters.extend(DATASETS.map(by_dataset));
    for filter in filters {
        note(format!("count {filter:?}"), client.count(filter.clone()).await.map(shown));
        let mut request = reading(filter.clone());
        request.set_payload_format(pb::PayloadFormat::None);
        note(format!("read {filter:?}"), client.read(request).await.map(shown));
    }
    for name in DATASETS {
        note(format!("dataset {name}"), client.dataset(name).await.map(shown));
    }
    let request = pb::ListDatasetsRequest { page_size: 1000, ..Default::default() };
    let listed = client.datasets.clone().list_datasets(request).await;
    note("datasets".into(), listed.map(|it| shown(it.into_inner())));
    let request = pb::ListSchemasRequest { page_size: 1000, ..Default::default() };
    let listed = client.schemas.clone().list_schemas(request).await;
    note("schemas".into(), listed.map(|it| shown(it.into_inner())));
    let request = pb::GetSchemaRequest { id: PURCHASE.into(), ..Default::default() };
    let found = client.schemas.clone().get_schema(request).await;
    note("schema".into(), found.map(|it| shown(it.into_inner())));
    let request = pb::ListNamespacesRequest { page_size: 1000, ..Default::default() };
    let listed = client.identities.clone().list_namespaces(request).await;
    note("namespaces".into(), listed.map(|it| shown(it.into_inner())));
    answers
}

fn shown(answer: impl std::fmt::Debug) -> String {
    format!("{answer:?}")
}

/// A store with some of everything, ended in order after several runs.
async fn rich_store(random: &mut Random) -> Dir {
    let mut dir = super::store().await;
    for round in 0..3 {
        let server = Server::start_on(dir);
        let client = server.client().await;
        for writer in 0..2 {
            write(client.clone(), random.clone(), (round, writer), 12, || {}).await;
        }
        for n in 0..6 {
            let event = incompressible(random, &format!("i{round}-{n}"));
            client.append(DATASETS[1], &[event]).await.unwrap();
        }
        client.create(&format!("empty-{round}"), PURCHASE).await.unwrap();
        let namespace = pb::Namespace {
            code: format!("loyalty{round}"),
            r#type: pb::NamespaceType::CrossDevice.into(),
            ..Default::default()
        };
        let request =
            pb::CreateNamespaceRequest { namespace: Some(namespace), ..Default::default() };
        client.identities.clone().create_namespace(request).await.unwrap();
        dir = server.stop().await;
    }
    dir
}

/// What happens to a file.
#[derive(Clone, Copy, Debug)]
enum Damage {
    Bit,
    Garbage,
    LostPage,
    Truncation,
}

const DAMAGES: [Damage; 6] =
    [Damage::Bit, Damage::Bit, Damage::Bit, Damage::Garbage, Damage::LostPage, Damage::Truncation];

/// Damages one file of the store, where it says something. What was done; `None`: no byte changed.
fn damage(dir: &Dir, random: &mut Random) -> Option<String> {
    let mut files: Vec<_> = contents(&dir.disk()).into_iter().collect();
    files.retain(|(_, bytes)| !bytes.is_empty());
    // Half of the time the large files, where most of the data is.
    let total: u64 = files.iter().map(|(_, bytes)| bytes.len() as u64).sum();
    let mut at = random.below(total);
    let by_size = files.iter().find(|(_, bytes)| {
        let found = at < bytes.len() as u64;
        at = at.saturating_sub(bytes.len() as u64);
        found
    });
    let any = random.one_of(&files);
    let (name, bytes) = if random.below(2) == 0 { by_size.unwrap() } else { any };
    let path = dir.disk().join(name);
    let file = File::options().write(true).open(&path).unwrap();
    let pages = (0..).zip(bytes.chunks(4096)).filter(|(_, it)| it.iter().any(|it| *it != 0));
    let pages: Vec<u64> = pages.map(|(page, _)| page * PAGE).collect();
    if pages.is_empty() {
        return None;
    }
    let page = *random.one_of(&pages);
    let page_bytes = PAGE.min(bytes.len() as u64 - page);
    let at = page + random.below(page_bytes);
    let kind = *random.one_of(&DAMAGES);
    match kind {
        Damage::Bit => {
            let byte = bytes[usize::try_from(at).unwrap()];
            file.write_all_at(&[byte ^ 1 << random.below(8)], at).unwrap();
        }
        Damage::Garbage => {
            let left = usize::try_from(bytes.len() as u64 - at).unwrap();
            file.write_all_at(&[0xa5; 64][..left.min(64)], at).unwrap();
        }
        Damage::LostPage => {
            file.write_all_at(&vec![0; usize::try_from(page_bytes).unwrap()], page).unwrap();
        }
        Damage::Truncation => file.set_len(at).unwrap(),
    }
    let changed = fs::read(&path).unwrap() != *bytes;
    changed.then(|| format!("{kind:?} at {at} of {} in {}", bytes.len(), name.display()))
}

/// Whether the server refused the store, or what is wrong with how it took it.
async fn is_refused_or_right(dir: Dir, wanted: &BTreeMap<String, Answer>) -> Result<bool, String> {
    let server = match Server::try_start_on(dir) {
        Err(said) => {
            let precise = ["corrupt", "damaged", "format"].iter().any(|it| said.contains(it));
            let right = precise && !said.contains("panicked");
            return if right { Ok(true) } else { Err(format!("refused like this: {said}")) };
        }
        Ok(server) => server,
    };
    let client = server.client().await;
    let found = tokio::time::timeout(PATIENCE, ask(&client)).await;
    let found = found.map_err(|_elapsed| format!("hangs: {}", server.log()))?;
    let mut refused = false;
    for (question, wanted) in wanted {
        match &found[question] {
            Err(status) if status.code() == Code::DataLoss => refused = true,
            Err(status) => return Err(format!("{question}: {status:?}")),
            Ok(answer) if *answer == *wanted.as_ref().unwrap() => {}
            Ok(answer) => {
                let part = |it: &str| it.chars().take(300).collect::<String>();
                let wanted = part(wanted.as_ref().unwrap());
                return Err(format!("{question}: wanted {wanted}, found {}", part(answer)));
            }
        }
    }
    let last: u64 = wanted["status"].as_ref().unwrap().parse().unwrap();
    match client.append(DATASETS[0], &[purchase_text("afterwards", "a@b.c")]).await {
        Ok(answer) if answer.results[0].position == last + 1 => {}
        Ok(answer) => return Err(format!("an event was given a position of another: {answer:?}")),
        Err(status) if status.code() == Code::DataLoss => refused = true,
        Err(status) => return Err(format!("append: {status:?}")),
    }
    if server.log().contains("panicked") {
        return Err(format!("panicked: {}", server.log()));
    }
    Ok(refused)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_files_are_refused_or_every_answer_is_right() {
    let mut random = Random::seeded("damage", 9);
    let original = rich_store(&mut random).await;
    let server = Server::start_on(copy(&original));
    let wanted = ask(&server.client().await).await;
    assert!(wanted.values().all(Result::is_ok), "{wanted:?}");
    drop(server);
    let (mut refused, mut right, mut wrong) = (0, 0, Vec::new());
    for _ in 0..rounds(25) {
        let (dir, what) = loop {
            let dir = copy(&original);
            if let Some(what) = damage(&dir, &mut random) {
                break (dir, what);
            }
        };
        match is_refused_or_right(dir, &wanted).await {
            Ok(true) => refused += 1,
            Ok(false) => right += 1,
            Err(said) => wrong.push(format!("{what}: {said}")),
        }
    }
    eprintln!("{refused} refused, {right} right, {} wrong", wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(refused > 0);
}
