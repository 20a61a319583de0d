//! Requests that nobody would send: every method gets messages made at random from its own description,
//! some of them damaged. Each call ends, with an answer or with an error that has a known reason; the
//! process stays, and serves.
//!
//! `MILEPOST_FUZZ_SECONDS=600 cargo test --test it fuzz` is the long form; `MILEPOST_SEED` repeats a run.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use bytes::Bytes;
use milepost::grpc::pb;
use prost::Message as _;
use prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};
use tokio::time::timeout;
use tonic::Code;

use crate::support::{
    Client, Server,
    events::{Random, purchase_text, purchases},
    raw,
};

/// Calls of the short form.
const CALLS: usize = 1_500;
/// For a call to end; a follow does not, and is left.
const PATIENCE: Duration = Duration::from_secs(20);
/// Messages in messages.
const DEPTH_MAX: usize = 6;

/// What the API has: methods with their request's type, and the fields of every message.
struct Api {
    /// Path, type of the request, whether either side streams.
    methods: Vec<(String, String, bool)>,
    messages: BTreeMap<String, DescriptorProto>,
}

impl Api {
    fn load() -> Self {
        let set = FileDescriptorSet::decode(pb::FILE_DESCRIPTOR_SET).unwrap();
        let mut api = Self { methods: Vec::new(), messages: BTreeMap::new() };
        for file in set.file {
            let package = file.package().to_owned();
            for message in &file.message_type {
                api.add(&format!(".{package}"), message);
            }
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{package}.{}/{}", service.name(), method.name());
                    let streams = method.client_streaming() || method.server_streaming();
                    api.methods.push((path, method.input_type().to_owned(), streams));
                }
            }
        }
        api.methods.retain(|(path, ..)| path.starts_with("/milepost.v1."));
        api
    }

    fn add(&mut self, scope: &str, message: &DescriptorProto) {
        let name = format!("{scope}.{}", message.name());
        for nested in &message.nested_type {
            self.add(&name, nested);
        }
        self.messages.insert(name, message.clone());
    }

    /// A message of a type, by chance.
    fn message(&self, name: &str, random: &mut Random, depth: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        let Some(message) = self.messages.get(name) else { return bytes };
        for field in &message.field {
            let times = match (field.label(), random.below(4)) {
                (_, 0) => 0,
                (Label::Repeated, _) => random.below(4),
                _ => 1,
            };
            for _ in 0..times {
                self.field(field, random, depth, &mut bytes);
            }
        }
        bytes
    }

    fn field(
        &self,
        field: &FieldDescriptorProto,
        random: &mut Random,
        depth: usize,
        bytes: &mut Vec<u8>,
    ) {
        let number = u64::try_from(field.number()).unwrap();
        let mut key = |wire: u64| varint(number << 3 | wire, bytes);
        match field.r#type() {
            Type::Message if depth >= DEPTH_MAX => {}
            Type::Message => {
                let content = self.message(field.type_name(), random, depth + 1);
                key(2);
                varint(content.len() as u64, bytes);
                bytes.extend(content);
            }
            Type::String | Type::Bytes | Type::Group => {
                let content = text(field.name(), random);
                key(2);
                varint(content.len() as u64, bytes);
                bytes.extend(content.into_bytes());
            }
            Type::Double | Type::Fixed64 | Type::Sfixed64 => {
                key(1);
                bytes.extend(number_of(random).to_le_bytes());
            }
            Type::Float | Type::Fixed32 | Type::Sfixed32 => {
                key(5);
                bytes.extend(&number_of(random).to_le_bytes()[..4]);
            }
            _ => {
                key(0);
                varint(number_of(random), bytes);
            }
        }
    }
}

fn varint(mut value: u64, bytes: &mut Vec<u8>) {
    while value > 0x7f {
        bytes.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
        value >>= 7;
    }
    bytes.push(u8::try_from(value).unwrap());
}

fn number_of(random: &mut Random) -> u64 {
    match random.below(8) {
        0 => u64::MAX,
        1 => u64::MAX / 2 + 1,
        2 => 1 << random.below(63),
        3 => random.below(u64::MAX),
        _ => random.below(5),
    }
}

/// Texts that lead somewhere, and texts that do not.
fn text(field: &str, random: &mut Random) -> String {
    let id = random.below(50);
    let known = [
        "web".to_owned(),
        "shop".to_owned(),
        "https://example.com/schemas/purchase".to_owned(),
        "https://ns.adobe.com/xdm/context/experienceevent".to_owned(),
        "Email".to_owned(),
        "a@b.c".to_owned(),
        "commerce.*".to_owned(),
        "q1".to_owned(),
        format!("e{id}"),
        purchase_text(&format!("e{id}"), "a@b.c"),
        r#"{"_id": "x", "timestamp": "2026-11-20T17:26:04Z", "eventType": null}"#.to_owned(),
        r#"{"$id": "https://example.com/schemas/fuzz", "type": "object", "allOf": [{"$ref": "https://ns.adobe.com/xdm/context/experienceevent"}]}"#.to_owned(),
        r##"{"$id": "https://example.com/f", "$ref": "#"}"##.to_owned(),
        r#"[{"op": "add", "path": "/a", "value": 1}]"#.to_owned(),
        "commerce.order.priceTotal > 10 && eventType == \"commerce.purchases\"".to_owned(),
        "name".to_owned(),
        String::new(),
        "\u{0}\u{202e}é😀".to_owned(),
        "x".repeat(usize::try_from(random.below(5_000)).unwrap()),
        "((((((((((((((((".repeat(20),
    ];
    // A field's own name leads to what has fields.
    if random.below(20) == 0 { field.to_owned() } else { random.one_of(&known).clone() }
}

/// Damages a message here and there.
fn damage(bytes: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..=random.below(3) {
        let at = usize::try_from(random.below(bytes.len().max(1) as u64)).unwrap();
        match random.below(4) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at.min(bytes.len()), u8::try_from(random.below(256)).unwrap()),
            2 => bytes.extend_from_within(at.min(bytes.len())..),
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
        }
    }
}

/// Calls a method and takes some of what it answers.
async fn call(
    client: &Client,
    path: &str,
    streams: bool,
    message: Bytes,
) -> Result<(), tonic::Status> {
    let path: &'static str = path.to_owned().leak();
    if !streams {
        return raw::call(&client.channel, path, message).await.map(drop);
    }
    let mut answers = raw::stream(&client.channel, path, vec![message.clone(), message]).await?;
    for _ in 0..5 {
        match timeout(Duration::from_millis(30), answers.message()).await {
            Ok(Ok(Some(_more))) => {}
            Ok(Err(status)) => return Err(status),
            Ok(Ok(None)) | Err(_) => break,
        }
    }
    Ok(())
}

#[tokio::test]
async fn whatever_is_sent_is_answered_or_refused_and_the_server_stays() {
    let seconds = std::env::var("MILEPOST_FUZZ_SECONDS").ok().and_then(|it| it.parse().ok());
    let until = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let mut random = Random::seeded("fuzz", 5);
    let api = Api::load();
    assert!(api.methods.len() > 40, "{:?}", api.methods);
    let server = Server::start();
    let client = server.client().await;
    purchases(&client, "web").await;
    client.append("web", &[purchase_text("e1", "a@b.c")]).await.unwrap();
    let mut answered: BTreeMap<&str, (u32, u32)> = BTreeMap::new();
    let mut calls = 0;
    while until.map_or(calls < CALLS, |until| Instant::now() < until) {
        calls += 1;
        let (path, input, streams) = random.one_of(&api.methods);
        let mut message = api.message(input, &mut random, 0);
        if random.below(4) == 0 {
            damage(&mut message, &mut random);
        }
        let shown = format!("call {calls}, {path}");
        let message = Bytes::from(message);
        let sent = message.clone();
        let answer = timeout(PATIENCE, call(&client, path, *streams, sent)).await;
        let answer = answer.unwrap_or_else(|_elapsed| panic!("{shown} does not end"));
        let (good, bad) = answered.entry(path).or_default();
        match answer {
            Ok(()) => *good += 1,
            Err(status) => {
                *bad += 1;
                if status.details().is_empty() {
                    let shown = format!("{shown} with {}", message.escape_ascii());
                    panic!("{shown}: no details: {status:?}");
                }
                // Its documented code, and a known reason.
                let seen = crate::support::errors::seen(&status);
                assert_ne!(status.code(), Code::Internal, "{shown}: {seen:?}");
                assert_ne!(seen.reason, "STORE_POISONED", "{shown}");
            }
        }
    }
    let never: Vec<_> =
        api.methods.iter().filter(|it| !answered.contains_key(it.0.as_str())).collect();
    assert!(never.is_empty(), "never called: {never:?}");
    let (good, bad) = answered.values().fold((0, 0), |sum, it| (sum.0 + it.0, sum.1 + it.1));
    eprintln!("{calls} calls, {good} answered, {bad} refused");
    assert!(good > 0 && bad > 0);
    client.verify().await.unwrap();
    let server = Server::start_on(server.stop().await);
    server.client().await.verify().await.unwrap();
}
