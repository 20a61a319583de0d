//! `milepost demo`: a shop's schema and the four kinds of event that a journey listens for.

use clap::Args;
use serde_json::{Value, json};

use crate::{
    cli::{
        args::ClientArgs,
        failure::{Done, Failure},
        output::Output,
    },
    grpc::{
        client::Connection,
        pb::{self, append_result::Outcome, event::Payload},
    },
};

/// Field groups that `store-event` is composed of.
pub(crate) const FIELD_GROUPS: [&str; 4] = [
    include_str!("commerce.json"),
    include_str!("web.json"),
    include_str!("place.json"),
    include_str!("loyalty.json"),
];
const SCHEMA: &str = include_str!("store-event.json");
const SCHEMA_ID: &str = "https://ns.example.com/store/schemas/store-event";
const DATASET: &str = "store-events";
/// An abandoned cart, an online purchase, a visit to the shop, 10 000 loyalty points.
const EVENTS: &str = include_str!("events.ndjson");

/// Fill a running server with a shop's schema and four example events.
///
/// Registers field groups for commerce, web, places and loyalty and a schema composed of them and
/// of XDM's ExperienceEvent class, creates the namespace `Loyalty` and the dataset `store-events`,
/// and appends an abandoned cart, an online purchase, a visit to the shop and 10 000 loyalty
/// points. Running it again changes nothing.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

pub(crate) async fn run(args: DemoArgs) -> Done {
    let connection = args.client.connect().await?;
    let mut output = Output::new(args.client.output);
    register(&connection, &mut output).await?;
    create(&connection, &mut output).await?;
    append(&connection, &mut output).await?;
    show_calls(connection.address(), &mut output)?;
    output.flush()
}

/// Registers a document; tells its id and version, and whether it is new.
pub(crate) async fn register_document(
    connection: &Connection,
    document: &str,
) -> Result<(pb::Schema, bool), Failure> {
    let request = pb::RegisterSchemaRequest { document: document.to_owned(), ..Default::default() };
    let response = connection.schemas().register_schema(request).await?.into_inner();
    Ok((response.schema.unwrap_or_default(), response.created))
}

async fn register(connection: &Connection, output: &mut Output) -> Done {
    for document in FIELD_GROUPS.into_iter().chain([SCHEMA]) {
        let (schema, created) = register_document(connection, document).await?;
        let value = json!({ "schema": {
            "id": schema.id, "version": schema.version, "created": created,
        }});
        output.show(&value, || {
            let done = if created { "registered" } else { "unchanged" };
            format!("schema     {} version {} {done}", schema.id, schema.version)
        })?;
    }
    Ok(())
}

async fn create(connection: &Connection, output: &mut Output) -> Done {
    let namespace = pb::Namespace {
        code: "Loyalty".into(),
        r#type: pb::NamespaceType::CrossDevice.into(),
        display_name: "Loyalty member".into(),
        description: "Number of the store's loyalty card".into(),
        ..Default::default()
    };
    let request = pb::CreateNamespaceRequest { namespace: Some(namespace), validate_only: false };
    connection.identities().create_namespace(request).await?;
    output.show(&json!({ "namespace": "Loyalty" }), || "namespace  Loyalty".into())?;

    let dataset = pb::Dataset {
        name: DATASET.into(),
        schema_id: SCHEMA_ID.into(),
        description: "What customers do in the shop and on its web site".into(),
        ..Default::default()
    };
    let request = pb::CreateDatasetRequest { dataset: Some(dataset), validate_only: false };
    connection.datasets().create_dataset(request).await?;
    output.show(&json!({ "dataset": DATASET }), || format!("dataset    {DATASET}"))
}

async fn append(connection: &Connection, output: &mut Output) -> Done {
    let event = |line: &str| pb::Event { payload: Some(Payload::Json(line.to_owned().into())) };
    let request = pb::AppendEventsRequest {
        dataset: DATASET.into(),
        events: EVENTS.lines().map(event).collect(),
        ..Default::default()
    };
    let response = connection.events().append_events(request).await?.into_inner();
    for (line, result) in EVENTS.lines().zip(&response.results) {
        let event: Value = serde_json::from_str(line).unwrap_or_default();
        let text = |field: &str| event.get(field).and_then(Value::as_str).unwrap_or_default();
        let (id, kind) = (text("_id"), text("eventType"));
        let outcome = match result.outcome() {
            Outcome::Appended => "appended",
            Outcome::Duplicate => "duplicate",
            Outcome::Tagged => "stored although invalid",
            Outcome::Quarantined => "set aside",
            Outcome::Rejected | Outcome::Unspecified => "not stored",
        };
        let value = json!({ "event": {
            "event_id": id, "event_type": kind, "position": result.position, "outcome": outcome,
        }});
        output.show(&value, || {
            format!("event      {kind:<24} {id:<20} {outcome} at position {}", result.position)
        })?;
    }
    Ok(())
}

/// What to type next, each line with what it does.
fn calls(address: &str) -> [(&'static str, String); 4] {
    let call = |method: &str, data: &str| {
        let data = if data.is_empty() { String::new() } else { format!("-d '{data}' ") };
        format!("grpcurl -plaintext {data}{address} milepost.v1.{method}")
    };
    [
        (
            "read the dataset",
            call("EventService/ReadEvents", r#"{"filter":{"datasets":["store-events"]}}"#),
        ),
        (
            "all of one person, payloads as JSON objects",
            call(
                "EventService/ReadEvents",
                r#"{"filter":{"identities":[{"namespace":"Email","id":"ann@example.com"}]},"payload_format":"PAYLOAD_FORMAT_STRUCT"}"#,
            ),
        ),
        (
            "follow purchases, old ones first (Ctrl-C ends it)",
            call(
                "EventService/FollowEvents",
                r#"{"filter":{"event_types":["commerce.*"]},"start":{"beginning":{}}}"#,
            ),
        ),
        ("the same, by this program", {
            format!("milepost follow --server {address} --type 'commerce.*' --from beginning")
        }),
    ]
}

fn show_calls(address: &str, output: &mut Output) -> Done {
    for (what, call) in calls(address) {
        output.show(&json!({ "call": { "does": what, "command": call } }), || {
            format!("\n# {what}\n{call}")
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::{EVENTS, FIELD_GROUPS, SCHEMA, SCHEMA_ID, calls};

    #[test]
    fn the_schema_refers_to_every_field_group() {
        let schema: Value = serde_json::from_str(SCHEMA).unwrap();
        assert_eq!(schema["$id"], SCHEMA_ID);
        for group in FIELD_GROUPS {
            let group: Value = serde_json::from_str(group).unwrap();
            let parts = schema["allOf"].as_array().unwrap();
            assert!(parts.iter().any(|part| part["$ref"] == group["$id"]), "{}", group["$id"]);
        }
    }

    #[test]
    fn the_four_events_have_ids_of_their_own() {
        let events: Vec<Value> =
            EVENTS.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let mut ids: Vec<&str> = events.iter().map(|it| it["_id"].as_str().unwrap()).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 4);
    }

    #[test]
    fn the_calls_carry_the_servers_address_and_json() {
        for (_, call) in calls("127.0.0.1:9") {
            assert!(call.contains("127.0.0.1:9"), "{call}");
            if let Some((_, rest)) = call.split_once("-d '") {
                let data = rest.split_once('\'').unwrap().0;
                serde_json::from_str::<Value>(data).unwrap();
            }
        }
    }
}
