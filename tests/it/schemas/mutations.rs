//! Composed schemas take what belongs to them, and refuse one wrong value by its place.

use std::collections::HashMap;

use milepost::grpc::pb;
use serde_json::{Value, json};

use super::import::{import, library};
use crate::support::{
    Client, Server, client::json_event, events::EXPERIENCE_EVENT, events::Random, skipped, xdm,
};

const COMPOSED: &str = "https://example.com/schemas/composed";

/// Commerce, place, web, loyalty, environment and application.
const GROUPS: [&str; 6] = [
    "https://ns.adobe.com/xdm/context/experienceevent-commerce",
    "https://ns.adobe.com/xdm/context/experienceevent-environment-details",
    "https://ns.adobe.com/xdm/context/experienceevent-web",
    "https://ns.adobe.com/xdm/context/experienceevent-loyalty-details",
    "https://ns.adobe.com/xdm/context/experienceevent-application",
    "https://example.com/groups/place",
];

fn composed() -> [Value; 2] {
    let included = [EXPERIENCE_EVENT].into_iter().chain(GROUPS);
    let all_of: Vec<Value> = included.map(|it| json!({"$ref": it})).collect();
    [
        json!({"$id": "https://example.com/groups/place", "type": "object",
            "meta:intendedToExtend": [EXPERIENCE_EVENT],
            "properties": {"placeContext": {"$ref": "https://ns.adobe.com/xdm/context/placecontext"}}}),
        json!({"$id": COMPOSED, "type": "object", "meta:class": EXPERIENCE_EVENT, "allOf": all_of}),
    ]
}

async fn places_of(client: &Client, schema: &str, event: &Value) -> Vec<String> {
    let request = pb::ValidateEventRequest {
        target: Some(pb::validate_event_request::Target::SchemaId(schema.into())),
        event: Some(json_event(&event.to_string())),
        ..Default::default()
    };
    let judged = client.schemas.clone().validate_event(request).await.unwrap().into_inner();
    assert_eq!(judged.valid, judged.violations.is_empty());
    judged.violations.into_iter().map(|it| it.instance_path).collect()
}

/// Types of a schema's fields, by their paths in its summary.
async fn types(client: &Client, schema: &str) -> HashMap<String, String> {
    let mut request = pb::GetSchemaRequest { id: schema.into(), ..Default::default() };
    request.set_view(pb::SchemaView::Summary);
    let found = client.schemas.clone().get_schema(request).await.unwrap().into_inner();
    found.summary.unwrap().fields.into_iter().map(|it| (it.path, it.r#type)).collect()
}

/// Every value of an event: its pointer, and its path as a summary has it.
fn values(value: &Value, pointer: &str, path: &str, found: &mut Vec<(String, String)>) {
    let below =
        |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match value {
        Value::Object(members) => {
            for (key, inner) in members {
                let pointer = format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"));
                found.push((pointer.clone(), below(key)));
                values(inner, &pointer, &below(key), found);
            }
        }
        Value::Array(elements) => {
            for (place, inner) in elements.iter().enumerate() {
                let (pointer, path) = (format!("{pointer}/{place}"), format!("{path}[]"));
                found.push((pointer.clone(), path.clone()));
                values(inner, &pointer, &path, found);
            }
        }
        _ => {}
    }
}

/// A value that no field of a type takes.
fn wrong(type_: &str, random: &mut Random) -> Option<Value> {
    let choices = match type_ {
        "string" | "uri" | "enum" | "date" | "date-time" => vec![json!(17), json!({}), json!([1])],
        "number" | "long" | "int" | "short" | "byte" => {
            vec![json!("many"), json!(true), json!({"a": 1})]
        }
        "boolean" => vec![json!("yes"), json!(1)],
        "array" => vec![json!("one"), json!({})],
        "object" | "map" => vec![json!("flat"), json!([])],
        _ => return None,
    };
    let within = match type_ {
        "enum" => Some(json!("none of those listed")),
        "date" | "date-time" => Some(json!("yesterday")),
        "long" | "int" | "short" | "byte" => Some(json!(0.5)),
        _ => None,
    };
    let choices: Vec<Value> = choices.into_iter().chain(within).collect();
    Some(random.one_of(&choices).clone())
}

#[tokio::test]
async fn a_composed_schema_refuses_each_wrong_value_at_its_place() {
    let Some(documents) = library() else { return };
    let server = Server::start();
    let client = server.client().await;
    let request = pb::ImportSchemasRequest { documents, ..Default::default() };
    assert!(import(&client, request).await.unwrap().imported);
    for document in composed() {
        client.register(document.to_string()).await.unwrap();
    }
    client.create("composed", COMPOSED).await.unwrap();
    let types = types(&client, COMPOSED).await;
    let mut random = Random::seeded("mutations", 20_261_127);
    let (mut refused, mut accepted, mut by_type) = (0, 0, HashMap::<String, usize>::new());
    let mut touched: HashMap<String, usize> = HashMap::new();
    for seed in 0..25 {
        let request = pb::GenerateSampleRequest { id: COMPOSED.into(), seed, ..Default::default() };
        let sample = client.schemas.clone().generate_sample(request).await.unwrap().into_inner();
        client.append("composed", &[&sample.json]).await.unwrap();
        accepted += 1;
        let sample: Value = serde_json::from_str(&sample.json).unwrap();
        let mut candidates = Vec::new();
        values(&sample, "", "", &mut candidates);
        candidates.retain(|(_, path)| types.get(path).is_some_and(|it| !it.is_empty()));
        for _ in 0..20 {
            let (pointer, path) = random.one_of(&candidates).clone();
            let Some(value) = wrong(&types[&path], &mut random) else { continue };
            let mut event = sample.clone();
            *event.pointer_mut(&pointer).unwrap() = value.clone();
            let places = places_of(&client, COMPOSED, &event).await;
            // Where a value is one of several forms, what it is part of is named.
            let named =
                places.iter().any(|it| pointer == *it || pointer.starts_with(&format!("{it}/")));
            let whole = places.iter().all(String::is_empty);
            assert!(named && !whole, "{pointer} = {value} ({}): {places:?}", types[&path]);
            refused += 1;
            *by_type.entry(types[&path].clone()).or_default() += 1;
            let top = path.split(['.', '[']).next().unwrap().to_owned();
            *touched.entry(top).or_default() += 1;
        }
    }
    eprintln!("{accepted} samples taken, {refused} mutations refused: {by_type:?}, {touched:?}");
    assert!(refused >= 200, "{refused}");
    for top in ["commerce", "placeContext", "web", "environment", "application"] {
        assert!(touched.contains_key(top), "{top} was never touched: {touched:?}");
    }
}

/// The official payloads that belong to one of these schemas, under the composed one.
#[tokio::test]
async fn a_composed_schema_takes_the_payloads_of_the_library() {
    let (Some(documents), Some(data)) = (library(), xdm()) else {
        return skipped("no XDM payloads; name their directory in MILEPOST_XDM");
    };
    let server = Server::start();
    let client = server.client().await;
    let request = pb::ImportSchemasRequest { documents, ..Default::default() };
    assert!(import(&client, request).await.unwrap().imported);
    for document in composed() {
        client.register(document.to_string()).await.unwrap();
    }
    let known = [
        "commerce",
        "productListItems",
        "web",
        "environment",
        "application",
        "placeContext",
        "loyalty",
        "_id",
        "timestamp",
        "eventType",
        "identityMap",
    ];
    let text = std::fs::read_to_string(data.join("payloads.jsonl")).unwrap();
    let (mut taken, mut wrong) = (0, Vec::new());
    for line in text.lines() {
        let entry: Value = serde_json::from_str(line).unwrap();
        let file = entry["file"].as_str().unwrap();
        let payloads = std::fs::read_to_string(data.join(file)).unwrap();
        let Ok(payloads) = serde_json::from_str::<Value>(&payloads) else { continue };
        for event in entry["events"].as_array().unwrap() {
            let schema = event["schema"].as_str().unwrap();
            let Some(payload) = payloads.pointer(event["at"].as_str().unwrap()) else { continue };
            let Some(members) = payload.as_object() else { continue };
            let belongs = members.keys().all(|it| known.contains(&it.as_str()));
            let is_event = members.contains_key("_id") && members.contains_key("timestamp");
            if !(event["valid"] == true && belongs && is_event && !schema.contains("profile")) {
                continue;
            }
            match places_of(&client, COMPOSED, payload).await {
                places if places.is_empty() => taken += 1,
                places => wrong.push(format!("{file}: {places:?}")),
            }
        }
    }
    eprintln!("{taken} payloads taken");
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(taken > 0, "no payload belongs to the composed schema");
}
