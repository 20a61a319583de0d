//! What is said of conditions that cannot be. `docs/event-definitions.md` has the same rows: a test
//! compares.

use serde_json::json;

use crate::{
    condition::{Expression, tests::fields_of},
    schema::Fields,
};

/// The fields that the page's examples speak of.
fn fields() -> Fields {
    let document = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$id": "https://example.com/schemas/order",
        "type": "object",
        "properties": {
            "_id": {"type": "string"},
            "timestamp": {"type": "string", "format": "date-time"},
            "eventType": {"type": "string"},
            "tier": {"type": "string", "enum": ["bronze", "silver", "gold"]},
            "count": {"type": "integer"},
            "paid": {"type": "boolean"},
            "deliveredAt": {"type": "string", "format": "date-time"},
            "commerce": {"type": "object", "properties": {
                "order": {"type": "object", "properties": {
                    "purchaseID": {"type": "string"}, "priceTotal": {"type": "number"}
                }}
            }},
            "productListItems": {"type": "array", "items": {"type": "object", "properties": {
                "SKU": {"type": "string"}, "quantity": {"type": "integer"},
                "priceTotal": {"type": "number"}
            }}},
            "stops": {"type": "array", "items": {"type": "string", "format": "date-time"}},
            "identityMap": {"type": "object", "additionalProperties": {
                "type": "array", "items": {"type": "object", "properties": {"id": {"type": "string"}}}
            }},
            "free": {"type": "object"}
        }
    });
    fields_of(&document)
}

/// Rows of the page's table of refusals: a condition and what is said of it.
fn rows() -> Vec<(String, String)> {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/event-definitions.md");
    let page = std::fs::read_to_string(page).unwrap();
    let (_, table) = page.split_once("| condition | what is said |").unwrap();
    let lines = table.lines().skip(2).take_while(|it| it.starts_with('|'));
    let row = |line: &str| {
        // A bar inside code is written `\|`.
        let line = line.replace("\\|", "\u{1}");
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [condition, message] = cells[..] else { panic!("{line}") };
        let plain = |cell: &str| cell.replace('\u{1}', "|");
        let condition = condition.trim_matches('`');
        (plain(condition), plain(message))
    };
    lines.map(row).collect()
}

#[test]
fn every_refusal_is_as_the_page_says() {
    let (fields, rows) = (fields(), rows());
    assert!(rows.len() >= 25, "only {} rows", rows.len());
    let mut wrong = Vec::new();
    for (condition, message) in rows {
        match Expression::condition(&condition, Some(&fields)) {
            Ok(_) => wrong.push(format!("`{condition}` is taken")),
            Err(problems) if problems.to_string() == message => {}
            Err(problems) => wrong.push(format!("| `{condition}` | {problems} |")),
        }
    }
    assert!(wrong.is_empty(), "the page has other messages:\n{}", wrong.join("\n"));
}

#[test]
fn every_condition_on_the_page_is_taken() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/event-definitions.md");
    let page = std::fs::read_to_string(page).unwrap();
    let (mut examples, mut inside) = (0, false);
    let fields = fields();
    for line in page.lines() {
        match line {
            "```cel" => inside = true,
            "```" => inside = false,
            line if inside && !line.is_empty() => {
                examples += 1;
                if let Err(problems) = Expression::condition(line, Some(&fields)) {
                    panic!("{line}: {problems}");
                }
            }
            _ => {}
        }
    }
    let (_, table) = page.split_once("| write | holds when |").unwrap();
    for line in table.lines().skip(2).take_while(|it| it.starts_with('|')) {
        let line = line.replace("\\|", "\u{1}");
        let condition = line.trim_matches('|').split('|').next().unwrap().trim().trim_matches('`');
        let condition = condition.replace('\u{1}', "|");
        examples += 1;
        if let Err(problems) = Expression::condition(&condition, Some(&fields)) {
            panic!("{condition}: {problems}");
        }
    }
    assert!(examples >= 60, "only {examples} examples");
}

#[test]
fn moments_of_a_schema_are_compared_as_moments() {
    let fields = fields();
    let holds = |text: &str, event: &str| {
        let condition = Expression::condition(text, Some(&fields)).unwrap();
        crate::condition::tests::holds(&condition, event).unwrap()
    };
    let event = r#"{"deliveredAt":"2026-11-23T10:00:00+01:00","timestamp":"2026-11-23T09:00:00Z",
        "stops":["2026-11-23T10:00:00+01:00"]}"#;
    assert!(holds("deliveredAt == timestamp", event));
    assert!(holds("stops[0] == timestamp && stops[count == null ? 0 : 1] == timestamp", event));
    assert!(holds("stops.exists(it, it == timestamp) && timestamp in stops", event));
    assert!(holds("free.anything == null && free.a.b == null", event));
    assert!(holds("identityMap.Email[0].id == null", event));
}
