//! The four examples of the field over real XDM field groups: a purchase, a visit to a shop, an abandoned
//! cart, 10 000 loyalty points. Right matches, right keys, right payloads.

use milepost::grpc::pb;
use serde_json::{Value, json};

use crate::{
    event_definitions::{by_definition, create},
    schemas::import::{all, import, library},
    support::{
        Client, Server,
        client::{json_of, reading},
        events::EXPERIENCE_EVENT,
    },
};

const SCHEMA: &str = "https://example.com/schemas/store-event";

fn schema() -> Value {
    let group = |id: &str| json!({"$ref": format!("https://ns.adobe.com/{id}")});
    json!({
        "$schema": "http://json-schema.org/draft-06/schema#",
        "$id": SCHEMA,
        "title": "Store event",
        "type": "object",
        "meta:class": EXPERIENCE_EVENT,
        "allOf": [
            {"$ref": EXPERIENCE_EVENT},
            group("xdm/context/experienceevent-commerce"),
            group("xdm/context/experienceevent-loyalty-details"),
            group("experience/campaign/orchestration/eventid"),
            {"properties": {
                "placeContext": group("xdm/context/placecontext"),
                "_shop": {"type": "object", "properties": {
                    "loyalty": {"type": "object", "properties": {
                        "memberID": {"type": "string"}, "points": {"type": "integer"}
                    }}
                }}
            }}
        ]
    })
}

fn definition(name: &str, condition: &str, fields: &[&str]) -> pb::EventDefinition {
    pb::EventDefinition {
        name: name.into(),
        kind: pb::EventDefinitionKind::UnitaryRule.into(),
        schema_id: SCHEMA.into(),
        condition: condition.into(),
        fields: fields.iter().map(ToString::to_string).collect(),
        state: pb::EventDefinitionState::Live.into(),
        ..Default::default()
    }
}

/// An event by somebody, with these fields.
fn event(id: &str, event_type: &str, fields: &Value) -> String {
    let mut event = json!({
        "_id": id,
        "timestamp": "2026-11-22T14:03:12+01:00",
        "eventType": event_type,
        "identityMap": {
            "ECID": [{"id": "38710294857261039485716203948571620394", "primary": true}],
            "Email": [{"id": "ann@example.com"}]
        }
    });
    for (name, value) in fields.as_object().unwrap() {
        event[name] = value.clone();
    }
    event.to_string()
}

/// The key and the payload of each event that a definition delivers.
async fn delivered(client: &Client, name: &str) -> Vec<(String, Value)> {
    let filter = pb::EventFilter { deliver_as: name.into(), ..Default::default() };
    let events = client.read(reading(filter)).await.unwrap();
    let of = |event: &pb::RecordedEvent| {
        let delivery = event.delivery.clone().unwrap();
        let key = format!("{}:{}", delivery.namespace, delivery.key);
        (key, serde_json::from_str(json_of(event)).unwrap())
    };
    events.iter().map(of).collect()
}

async fn define(client: &Client) {
    let loyalty = pb::Namespace {
        code: "Loyalty".into(),
        r#type: pb::NamespaceType::CrossDevice.into(),
        ..Default::default()
    };
    let loyalty = pb::CreateNamespaceRequest { namespace: Some(loyalty), validate_only: false };
    client.identities.clone().create_namespace(loyalty).await.unwrap();
    let purchase = definition(
        "purchase",
        "eventType == 'commerce.purchases' && commerce.order.priceTotal > 100.0 \
         && productListItems.exists(item, item.SKU.startsWith('SHOE-'))",
        &["commerce.order", "productListItems.SKU"],
    );
    let visit = definition(
        "shopVisit",
        "eventType == 'location.entry' \
         && placeContext.POIinteraction.poiDetail.name in ['Store Basel', 'Store Bern'] \
         && timestamp.getHours('Europe/Zurich') >= 8",
        &["placeContext.POIinteraction.poiDetail.name"],
    );
    let cart = definition(
        "abandonedCart",
        "eventType == 'commerce.cartAbandons' && commerce.cartAbandons.value >= 1.0 \
         && productListItems.map(item, item.priceTotal).sum() >= 50.0",
        &["productListItems"],
    );
    let points = definition(
        "tenThousandPoints",
        "_shop.loyalty.points >= 10000 && eventType == 'loyalty.thresholdReached'",
        &["_shop.loyalty.points"],
    );
    let visit = pb::EventDefinition { namespace: "Email".into(), ..visit };
    let points = pb::EventDefinition {
        namespace: "Loyalty".into(),
        key: "_shop.loyalty.memberID".into(),
        ..points
    };
    for definition in [purchase, visit, cart, points] {
        create(client, definition).await.unwrap();
    }
}

#[tokio::test]
async fn the_four_examples_of_the_field_match_and_deliver_what_they_should() {
    let Some(documents) = library() else { return };
    let server = Server::start();
    let client = server.client().await;
    assert!(import(&client, all(&documents)).await.unwrap().imported);
    client.register(schema().to_string()).await.unwrap();
    client.create("store", SCHEMA).await.unwrap();
    define(&client).await;
    let items = |sku: &str, price: f64| json!([{"SKU": sku, "quantity": 1, "priceTotal": price}]);
    let order = |price: f64| json!({"purchases": {"value": 1}, "order": {"purchaseID": "P-1", "priceTotal": price}});
    let at = |name: &str| {
        json!({"placeContext": {"POIinteraction": {
            "poiDetail": {"name": name}, "poiEntries": {"value": 1}
        }}})
    };
    let cart = |price: f64| {
        json!({
            "commerce": {"cartAbandons": {"value": 1}}, "productListItems": items("SHOE-1", price)
        })
    };
    let points =
        |points: i64| json!({"_shop": {"loyalty": {"memberID": "M-2041", "points": points}}});
    let bought = |sku: &str, price: f64| {
        json!({
            "commerce": order(price), "productListItems": items(sku, price)
        })
    };
    let events = [
        event("p1", "commerce.purchases", &bought("SHOE-1", 154.9)),
        event("p2", "commerce.purchases", &bought("SHOE-1", 99.9)),
        event("p3", "commerce.purchases", &bought("SOCK-1", 154.9)),
        event("v1", "location.entry", &at("Store Basel")),
        event("v2", "location.entry", &at("Store Paris")),
        event("v3", "location.exit", &at("Store Basel")),
        event("c1", "commerce.cartAbandons", &cart(129.0)),
        event("c2", "commerce.cartAbandons", &cart(12.0)),
        event("l1", "loyalty.thresholdReached", &points(10_055)),
        event("l2", "loyalty.thresholdReached", &points(9_999)),
    ];
    client.append("store", &events).await.unwrap();
    for (name, position) in
        [("purchase", 1), ("shopVisit", 4), ("abandonedCart", 7), ("tenThousandPoints", 9)]
    {
        let found = client.read(reading(by_definition(&[name]))).await.unwrap();
        assert_eq!(found.iter().map(|it| it.position).collect::<Vec<_>>(), [position], "{name}");
    }
    let ecid = "ECID:38710294857261039485716203948571620394";
    let time = "2026-11-22T14:03:12+01:00";
    let (key, payload) = delivered(&client, "purchase").await.remove(0);
    assert_eq!(key, ecid);
    let expected = json!({
        "_id": "p1", "timestamp": time, "productListItems": [{"SKU": "SHOE-1"}],
        "commerce": {"order": {"purchaseID": "P-1", "priceTotal": 154.9}}
    });
    assert_eq!(payload, expected);
    let (key, payload) = delivered(&client, "shopVisit").await.remove(0);
    assert_eq!(key, "Email:ann@example.com");
    assert_eq!(
        payload["placeContext"],
        json!({"POIinteraction": {"poiDetail": {"name": "Store Basel"}}})
    );
    let (key, payload) = delivered(&client, "abandonedCart").await.remove(0);
    assert_eq!((key.as_str(), &payload["productListItems"]), (ecid, &items("SHOE-1", 129.0)));
    let (key, payload) = delivered(&client, "tenThousandPoints").await.remove(0);
    assert_eq!(
        (key.as_str(), &payload["_shop"]["loyalty"]),
        ("Loyalty:M-2041", &json!({"points": 10055}))
    );
}
