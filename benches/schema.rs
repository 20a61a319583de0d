//! What one event costs on its way through reading and judging.

#![expect(clippy::expect_used, reason = "a bench that cannot start should stop")]

use std::{hint::black_box, sync::Arc};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use milepost::{
    model::json::Document,
    schema::{CompiledSchema, SchemaDocument, built_in, closure, compile},
};
use serde_json::{Value, json};

const MEASURE: &str = "https://ns.example.com/bench/measure";
const COMMERCE: &str = "https://ns.example.com/bench/commerce";
const PLACE: &str = "https://ns.example.com/bench/place";
const DEVICE: &str = "https://ns.example.com/bench/device";
const PURCHASE: &str = "https://ns.example.com/bench/purchase";

/// A field group as XDM writes it: fields under `definitions`, included by `allOf`.
fn group(id: &str, fields: &Value) -> Value {
    json!({
        "$id": id, "type": "object", "meta:resourceType": "fieldgroups",
        "definitions": {"fields": {"properties": fields}},
        "allOf": [{"$ref": "#/definitions/fields"}]
    })
}

fn text() -> Value {
    json!({"type": "string"})
}

fn measure() -> Value {
    json!({"$ref": MEASURE})
}

fn documents() -> Vec<Value> {
    let money = json!({"type": "string", "pattern": "^[A-Z]{3}$"});
    let item = json!({"type": "object", "properties": {
        "SKU": text(), "name": text(), "product": {"type": "string", "format": "uri"},
        "quantity": {"type": "integer", "minimum": 0, "maximum": 2_147_483_647},
        "priceTotal": {"type": "number"}, "currencyCode": money, "selectedOptions": {"type": "array"}
    }});
    let payment = json!({"type": "object", "properties": {
        "transactionID": text(), "paymentAmount": {"type": "number"}, "currencyCode": money,
        "paymentType": {"enum": ["cash", "credit_card", "gift_card", "other"]}
    }});
    let commerce = json!({
        "commerce": {"type": "object", "properties": {
            "order": {"type": "object", "properties": {
                "purchaseID": text(), "priceTotal": {"type": "number"}, "currencyCode": money,
                "payments": {"type": "array", "items": payment}
            }},
            "purchases": measure(), "checkouts": measure(), "productViews": measure(),
            "productListAdds": measure(), "productListOpens": measure(), "saveForLaters": measure()
        }},
        "productListItems": {"type": "array", "items": item}
    });
    let place = json!({"placeContext": {"type": "object", "properties": {
        "localTime": {"type": "string", "format": "date-time"},
        "localTimezoneOffset": {"type": "integer"},
        "geo": {"type": "object", "properties": {
            "countryCode": {"type": "string", "pattern": "^[A-Z]{2}$"}, "city": text(),
            "postalCode": text(), "_schema": {"type": "object", "properties": {
                "latitude": {"type": "number", "minimum": -90, "maximum": 90},
                "longitude": {"type": "number", "minimum": -180, "maximum": 180}
            }}
        }}
    }}});
    let device = json!({
        "device": {"type": "object", "properties": {
            "type": {"enum": ["mobile", "tablet", "desktop", "other"]}, "manufacturer": text(),
            "model": text(), "screenHeight": {"type": "integer"}, "screenWidth": {"type": "integer"}
        }},
        "environment": {"type": "object", "properties": {
            "type": {"enum": ["browser", "application", "iot"]}, "operatingSystem": text(),
            "operatingSystemVersion": text(), "ipV4": {"type": "string", "format": "ipv4"}
        }}
    });
    let class = "https://ns.adobe.com/xdm/context/experienceevent";
    let refs: Vec<Value> = [class, COMMERCE, PLACE, DEVICE].map(|it| json!({"$ref": it})).into();
    vec![
        json!({"$id": MEASURE, "type": "object", "required": ["value"],
            "properties": {"id": text(), "value": {"type": "number"}}}),
        group(COMMERCE, &commerce),
        group(PLACE, &place),
        group(DEVICE, &device),
        json!({"$id": PURCHASE, "type": "object", "meta:class": class, "allOf": refs}),
    ]
}

/// 1.3 KB, the size of a typical purchase.
fn event() -> String {
    json!({
        "_id": "7f1a3c52-0b9e-4c6d-9a51-3a0f7f6c2d18",
        "timestamp": "2026-11-23T10:15:30.123Z",
        "eventType": "commerce.purchases",
        "identityMap": {
            "CRMID": [{"id": "C-20391", "primary": true, "authenticatedState": "authenticated"}],
            "ECID": [{"id": "10000000000000000000000000000000000001"}]
        },
        "commerce": {
            "order": {"purchaseID": "PO-5521873", "priceTotal": 129.9, "currencyCode": "EUR",
                "payments": [{"transactionID": "T-99120", "paymentAmount": 129.9,
                    "paymentType": "credit_card", "currencyCode": "EUR"}]},
            "purchases": {"value": 1}
        },
        "productListItems": [
            {"SKU": "TENT-2P-GRN", "name": "Tent for two, green", "quantity": 1,
                "priceTotal": 89.95, "currencyCode": "EUR", "product": "https://shop.test/p/4711"},
            {"SKU": "LAMP-USB", "name": "Camping lamp", "quantity": 2, "priceTotal": 39.95,
                "currencyCode": "EUR", "product": "https://shop.test/p/8150"}
        ],
        "placeContext": {"localTime": "2026-11-23T11:15:30+01:00", "localTimezoneOffset": 60,
            "geo": {"countryCode": "DE", "city": "Freiburg", "postalCode": "79098",
                "_schema": {"latitude": 47.9961, "longitude": 7.8494}}},
        "device": {"type": "mobile", "manufacturer": "Fairphone", "model": "FP5",
            "screenHeight": 2700, "screenWidth": 1224},
        "environment": {"type": "application", "operatingSystem": "Android",
            "operatingSystemVersion": "15", "ipV4": "198.51.100.7"}
    })
    .to_string()
}

fn schema() -> CompiledSchema {
    let parse = |it: Value| SchemaDocument::parse(&it.to_string()).expect("a schema of this file");
    let documents: Vec<Arc<SchemaDocument>> =
        built_in().into_iter().chain(documents().into_iter().map(parse)).map(Arc::new).collect();
    let find = |id: &str| documents.iter().find(|it| it.id() == id).cloned();
    let root = find(PURCHASE).expect("defined above");
    let closure = closure(&root, find).expect("all registered");
    compile(&root, &closure).expect("compiles")
}

fn schema_benches(criterion: &mut Criterion) {
    let schema = schema();
    let text = event();
    let document = Document::parse(&text).expect("JSON");
    assert_eq!(schema.violations(&document, 10), []);
    let invalid = text.replace("\"value\":1", "\"value\":\"1\"");
    let invalid = Document::parse(&invalid).expect("JSON");
    assert_eq!(schema.violations(&invalid, 10).len(), 1);

    let mut group = criterion.benchmark_group("schema");
    group.throughput(Throughput::Bytes(text.len() as u64));
    group.bench_function("parse", |bencher| {
        bencher.iter(|| Document::parse(black_box(&text)).expect("JSON"));
    });
    group.bench_function("judge valid", |bencher| {
        bencher.iter(|| schema.violations(black_box(&document), 100));
    });
    group.bench_function("parse and judge", |bencher| {
        bencher.iter(|| {
            let document = Document::parse(black_box(&text)).expect("JSON");
            schema.violations(&document, 100)
        });
    });
    group.bench_function("judge invalid", |bencher| {
        bencher.iter(|| schema.violations(black_box(&invalid), 100));
    });
    group.bench_function("digest", |bencher| {
        bencher.iter(|| black_box(&document).root().canonical_digest());
    });
    group.finish();
}

criterion_group!(benches, schema_benches);
criterion_main!(benches);
