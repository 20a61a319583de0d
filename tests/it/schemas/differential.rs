//! Another validator judges the same events: the `boon` crate, which has no part of what judges here.
//!
//! Both are asked about samples of every document of the public library, about its published examples and
//! payloads, and about each of these with one to three things in it changed at random. They must find the same
//! wrong at the same places. What Milepost asks of every event, whatever its schema, is left out of that.

mod change;
mod other;

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

use milepost::grpc::pb::{self, validate_event_request::Target};
use serde_json::Value;

use self::other::{Other, Wrong};
use super::{import::import, validate};
use crate::support::{
    Client, Server, client::request, errors::status_of, events::Random, skipped, xdm,
};

/// How many changed events; `MILEPOST_MUTATIONS` is another number.
const CHANGED: usize = 1500;
/// A document with every keyword of draft 6 that judges, and an event that it takes.
const EVERY_KEYWORD: &str = include_str!("differential/every-keyword.json");
const EVERY_KEYWORD_EVENT: &str = include_str!("differential/every-keyword.event.json");
/// As many violations as an answer has at most: of more, only the verdict can be compared.
const VIOLATIONS_MAX: usize = 100;

/// What the `$id`s of the schemas that are composed as a customer's are begin with.
const COMPOSED: &str = "https://ns.example.com/acme/schemas/";

/// An event and the schema to judge it by.
struct Case {
    schema: String,
    event: Value,
}

fn rows(data: &Path, file: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(data.join(file)).unwrap();
    let rows = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    rows.filter(|row| row["form"] == "xed").collect()
}

fn text<'a>(row: &'a Value, key: &str) -> &'a str {
    row[key].as_str().unwrap()
}

fn case(schema: &str, event: Value) -> Case {
    Case { schema: schema.trim_end_matches('#').to_owned(), event }
}

/// The library's published examples and payloads.
fn published(data: &Path) -> Vec<Case> {
    let read = |row: &Value| -> Value {
        let text = std::fs::read_to_string(data.join(text(row, "file"))).unwrap();
        serde_json::from_str(&text).unwrap()
    };
    let mut cases = Vec::new();
    for row in rows(data, "pairs.jsonl") {
        cases.push(case(text(&row, "schema"), read(&row)));
    }
    for row in rows(data, "payloads.jsonl") {
        let payload = read(&row);
        for event in row["events"].as_array().unwrap() {
            let found = payload.pointer(text(event, "at")).unwrap();
            cases.push(case(text(event, "schema"), found.clone()));
        }
    }
    cases
}

/// A sample of each document.
async fn samples(client: &Client, ids: &[String]) -> Vec<Case> {
    let (mut cases, mut without) = (Vec::new(), 0);
    for id in ids {
        let request = pb::GenerateSampleRequest { id: id.clone(), seed: 1, ..Default::default() };
        match client.schemas.clone().generate_sample(request).await {
            Ok(made) => {
                let event = serde_json::from_str(&made.into_inner().json).unwrap();
                cases.push(case(id, event));
            }
            Err(_not_found) => without += 1,
        }
    }
    eprintln!("{} samples, {without} not made", cases.len());
    assert!(cases.len() > 20 * without);
    cases
}

/// What Milepost says, and whether it takes the event.
async fn ours(client: &Client, case: &Case) -> (Wrong, bool) {
    let target = Target::SchemaId(case.schema.clone());
    let found = validate(client, target, &case.event.to_string()).await.unwrap();
    let mut wrong = Wrong { cut_off: found.violations.len() >= VIOLATIONS_MAX, ..Wrong::default() };
    for violation in found.violations {
        // Why is not found out when that would take too long; that something is wrong is.
        wrong.cut_off |= violation.keyword == "limit";
        wrong.unread |= violation.keyword == "depth";
        wrong.names |= violation.keyword == "propertyNames";
        let own = violation.schema_path.starts_with("milepost:");
        let places = if own { &mut wrong.own } else { &mut wrong.places };
        if violation.keyword != "propertyNames" {
            places.insert((violation.instance_path, violation.keyword));
        }
    }
    (wrong, found.valid)
}

/// What the two are asked, and what has come of it.
struct Trial {
    client: Client,
    other: Other,
    /// Datasets by the schemas that judge their events.
    datasets: HashMap<String, String>,
    judged: usize,
    invalid: usize,
    sent: usize,
    /// How often each keyword was not met.
    keywords: BTreeMap<String, usize>,
    differing: Vec<String>,
}

impl Trial {
    fn new(client: Client, documents: &[pb::SchemaDocument]) -> Self {
        let other = Other::new(documents.iter().map(|it| &*it.document));
        let datasets = HashMap::new();
        let (keywords, differing) = (BTreeMap::new(), Vec::new());
        Self { client, other, datasets, judged: 0, invalid: 0, sent: 0, keywords, differing }
    }

    async fn judge(&mut self, case: &Case, what: &str) {
        let (ours, valid) = ours(&self.client, case).await;
        let theirs = self.other.wrong(&case.schema, &case.event);
        self.judged += 1;
        self.invalid += usize::from(!ours.places.is_empty() || ours.names);
        let names = ours.names.then_some("propertyNames");
        for keyword in ours.places.iter().map(|it| &*it.1).chain(names) {
            *self.keywords.entry(keyword.to_owned()).or_default() += 1;
        }
        if let Some(difference) = ours.difference(&theirs) {
            self.differing.push(format!("{}: {what}{difference}", case.schema));
        }
        // An append decides as the judge does.
        if let Some(dataset) = self.datasets.get(&case.schema) {
            let mut append = request(dataset, &[case.event.to_string()]);
            append.validate_only = true;
            let taken = self.client.append_request(append).await;
            assert_eq!(taken.is_ok(), valid, "{what}{}: {taken:?}", case.event);
            self.sent += 1;
        }
    }

    /// Changed events of these.
    async fn judge_changed(&mut self, sources: &[Case], count: usize, random: &mut Random) {
        let asked = std::env::var("MILEPOST_MUTATIONS").ok().and_then(|it| it.parse().ok());
        for _ in 0..asked.unwrap_or(count) {
            let source = random.one_of(sources);
            let (event, what) = change::changed(&source.event, random);
            self.judge(&Case { schema: source.schema.clone(), event }, &what).await;
        }
    }

    fn end(&self) {
        let Self { judged, sent, invalid, keywords, differing, .. } = self;
        eprintln!("{judged} events judged, {sent} of them sent, {invalid} invalid: {keywords:?}");
        let few: Vec<_> = differing.iter().take(40).collect();
        assert!(differing.is_empty(), "{} of {judged} differ: {few:#?}", differing.len());
    }
}

#[tokio::test]
async fn another_validator_agrees_about_every_keyword() {
    /// What must have been wrong three times or more.
    const KEYWORDS: [&str; 25] = [
        "type",
        "required",
        "enum",
        "const",
        "format",
        "pattern",
        "minLength",
        "maxLength",
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "multipleOf",
        "minItems",
        "maxItems",
        "uniqueItems",
        "contains",
        "additionalItems",
        "propertyNames",
        "minProperties",
        "maxProperties",
        "additionalProperties",
        "oneOf",
        "anyOf",
        "not",
    ];
    let server = Server::start();
    let client = server.client().await;
    let id = client.register(EVERY_KEYWORD).await.unwrap().schema.unwrap().id;
    let document = pb::SchemaDocument { name: id.clone(), document: EVERY_KEYWORD.to_owned() };
    client.create("every-keyword", &id).await.unwrap();
    let mut trial = Trial::new(client, &[document]);
    trial.datasets.insert(id.clone(), "every-keyword".to_owned());
    let source = Case { schema: id, event: serde_json::from_str(EVERY_KEYWORD_EVENT).unwrap() };
    trial.judge(&source, "").await;
    assert_eq!(trial.invalid, 0);
    let mut random = Random::seeded("every keyword", 20_261_127);
    trial.judge_changed(&[source], 2 * CHANGED, &mut random).await;
    trial.end();
    let seldom = |it: &&&str| trial.keywords.get(**it).copied().unwrap_or_default() < 3;
    let seldom: Vec<_> = KEYWORDS.iter().filter(seldom).collect();
    assert!(seldom.is_empty(), "hardly ever wrong: {seldom:?} in {:?}", trial.keywords);
}

#[tokio::test]
async fn another_validator_finds_the_same_wrong_at_the_same_places() {
    let Some(data) = xdm() else {
        return skipped("no XDM library; name its directory in MILEPOST_XDM");
    };
    let server = Server::start();
    let client = server.client().await;
    let mut documents = Vec::new();
    for row in rows(&data, "schemas/index.jsonl") {
        let document = std::fs::read_to_string(data.join(text(&row, "file"))).unwrap();
        documents.push(pb::SchemaDocument { name: text(&row, "id").to_owned(), document });
    }
    let all = pb::ImportSchemasRequest {
        documents: documents.clone(),
        keep_going: true,
        ..Default::default()
    };
    let mut ids = Vec::new();
    for result in import(&client, all).await.unwrap().results {
        if let Some(error) = &result.error {
            eprintln!("not imported: {}", status_of(error).message());
        } else {
            ids.push(result.id);
        }
    }
    assert!(ids.len() + 3 >= documents.len(), "{} of {}", ids.len(), documents.len());
    let mut trial = Trial::new(client.clone(), &documents);
    for id in ids.iter().filter(|it| it.starts_with(COMPOSED)) {
        let name = id.trim_start_matches(COMPOSED);
        if client.create(name, id).await.is_ok() {
            trial.datasets.insert(id.clone(), name.to_owned());
        }
    }
    let mut sources = published(&data);
    sources.retain(|it| ids.contains(&it.schema));
    eprintln!("{} published events", sources.len());
    assert!(sources.len() > 300);
    sources.extend(samples(&client, &ids).await);
    let mut random = Random::seeded("differential", 20_261_127);
    for source in &sources {
        trial.judge(source, "").await;
    }
    trial.judge_changed(&sources, CHANGED, &mut random).await;
    trial.end();
    assert!(trial.judged > 4000 && trial.sent > 1000 && trial.invalid > 500);
}
