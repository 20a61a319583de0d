//! The events to measure with, prepared before anything is measured.

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use bytes::Bytes;
use serde::Deserialize;

use crate::{
    cli::{
        append::Source,
        bench::{generate::Generator, options::BenchArgs},
    },
    grpc::pb::{self, event::Payload},
};

/// An event, with what the workloads ask for.
pub(crate) struct BenchEvent {
    pub(crate) id: String,
    pub(crate) event_type: String,
    /// Namespace and id.
    pub(crate) identities: Vec<(String, String)>,
    json: Bytes,
}

impl BenchEvent {
    pub(crate) fn to_proto(&self) -> pb::Event {
        pb::Event { payload: Some(Payload::Json(self.json.clone())) }
    }

    /// The event with a time that is none.
    pub(crate) fn to_spoiled_proto(&self) -> pb::Event {
        let json = String::from_utf8_lossy(&self.json).replacen(
            "\"timestamp\":\"",
            "\"timestamp\":\"at ",
            1,
        );
        pb::Event { payload: Some(Payload::Json(json.into())) }
    }

    pub(crate) fn json_bytes(&self) -> u64 {
        self.json.len() as u64
    }

    pub(crate) fn to_bytes(&self) -> Bytes {
        self.json.clone()
    }
}

/// Fewer events would not fill one batch of the largest cell.
const COUNT_MIN: usize = 1000;

/// The parts of a payload that are looked at.
#[derive(Deserialize)]
struct Envelope {
    #[serde(rename = "_id")]
    id: String,
    #[serde(rename = "eventType", default)]
    event_type: String,
    #[serde(rename = "identityMap", default)]
    identity_map: BTreeMap<String, Vec<Item>>,
}

#[derive(Deserialize)]
struct Item {
    id: String,
}

pub(crate) fn load(args: &BenchArgs) -> anyhow::Result<Vec<BenchEvent>> {
    let count = usize::try_from(args.count)?;
    let mut events = Vec::with_capacity(count);
    let Some(path) = &args.events else {
        let mut generator = Generator::new(args.seed);
        for _ in 0..count {
            events.push(prepare(generator.next_event())?);
        }
        return Ok(events);
    };
    let mut source = Source::open(path)?;
    while events.len() < count {
        let Some(event) = source.next_event()? else { break };
        let place = format!("{}:{}", source.name(), event.line);
        match event.text {
            Ok(text) => events.push(prepare(text).context(place)?),
            Err(problem) => bail!("{place}: {problem}"),
        }
    }
    if events.len() < COUNT_MIN {
        bail!("`{}` has {} events, wanted {COUNT_MIN} or more", path.display(), events.len());
    }
    Ok(events)
}

fn prepare(json: String) -> anyhow::Result<BenchEvent> {
    let envelope: Envelope = serde_json::from_str(&json).context("not an event")?;
    let identities = envelope.identity_map.into_iter().flat_map(|(namespace, items)| {
        items.into_iter().map(move |item| (namespace.clone(), item.id))
    });
    let identities = identities.collect();
    Ok(BenchEvent {
        id: envelope.id,
        event_type: envelope.event_type,
        identities,
        json: json.into(),
    })
}
