//! Recorded events as text and as JSON.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::{Map, Value, json, value::RawValue};

use crate::{
    cli::{
        failure::{Done, Failure},
        output::{self, Output, printable, text},
        time,
    },
    grpc::{
        client::well_known::{Struct, value::Kind},
        pb::{self, event::Payload},
    },
};

/// A recorded event for other programs: the contract's field names, numbers as numbers.
#[derive(Serialize)]
pub(crate) struct EventJson<'a> {
    position: u64,
    record_time: String,
    dataset: &'a str,
    event_id: Cow<'a, str>,
    event_type: Cow<'a, str>,
    event_time: String,
    identities: Vec<IdentityJson<'a>>,
    schema_id: &'a str,
    schema_version: u32,
    /// Of a tagged event.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    violations: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<Box<RawValue>>,
}

#[derive(Serialize)]
struct IdentityJson<'a> {
    namespace: Cow<'a, str>,
    id: Cow<'a, str>,
    primary: bool,
}

/// Prints events in the form asked for.
pub(crate) struct EventPrinter {
    /// Columns to cut text lines to; `None`: lines stay whole.
    columns: Option<usize>,
}

impl EventPrinter {
    pub(crate) fn new() -> Self {
        Self { columns: output::width() }
    }

    pub(crate) fn print(&self, output: &mut Output, event: &pb::RecordedEvent) -> Done {
        if output.is_json() {
            output.json(&event_json(event)?)
        } else {
            output.line(cut(event_line(event)?, self.columns))
        }
    }
}

pub(crate) fn event_json(event: &pb::RecordedEvent) -> Result<EventJson<'_>, Failure> {
    let identities = event.identities.iter().map(|it| IdentityJson {
        namespace: text(&it.namespace),
        id: text(&it.id),
        primary: it.primary,
    });
    Ok(EventJson {
        position: event.position,
        record_time: time::show(event.record_time.as_ref()),
        dataset: &event.dataset,
        event_id: text(&event.event_id),
        event_type: text(&event.event_type),
        event_time: time::show(event.event_time.as_ref()),
        identities: identities.collect(),
        schema_id: &event.schema_id,
        schema_version: event.schema_version,
        violations: event.violations.iter().map(violation_json).collect(),
        payload: payload(event)?,
    })
}

/// As filters are written: `NS:ID`.
pub(crate) fn identity_text(identity: &pb::Identity) -> String {
    format!("{}:{}", text(&identity.namespace), text(&identity.id))
}

/// One thing that is wrong with an event.
pub(crate) fn violation_json(violation: &pb::Violation) -> Value {
    json!({
        "instance_path": violation.instance_path,
        "schema_path": violation.schema_path,
        "keyword": violation.keyword,
        "message": violation.message,
        "expected": violation.expected,
        "found": violation.found,
    })
}

pub(crate) fn violation_text(violation: &pb::Violation) -> String {
    match violation.instance_path.as_str() {
        "" => violation.message.clone(),
        path => format!("{path}: {}", violation.message),
    }
}

/// The payload's JSON text, byte for byte except that line breaks between its tokens become
/// spaces: one event is one line.
fn payload(event: &pb::RecordedEvent) -> Result<Option<Box<RawValue>>, Failure> {
    let text = match event.event.as_ref().and_then(|it| it.payload.as_ref()) {
        None => return Ok(None),
        Some(Payload::Json(text)) => String::from_utf8_lossy(text).replace(['\n', '\r'], " "),
        Some(Payload::Data(data)) => struct_to_json(data).to_string(),
    };
    let raw = RawValue::from_string(text).map_err(|error| {
        let context = format!("the payload of the event at {} is not JSON", event.position);
        Failure::Local(anyhow::Error::new(error).context(context))
    })?;
    Ok(Some(raw))
}

fn event_line(event: &pb::RecordedEvent) -> Result<String, Failure> {
    let identities: Vec<String> = event
        .identities
        .iter()
        .map(|it| format!("{}{}", if it.primary { "*" } else { "" }, identity_text(it)))
        .collect();
    let payload = payload(event)?;
    let columns = [
        format!("{:>8}", event.position),
        time::show(event.record_time.as_ref()),
        event.dataset.clone(),
        if event.event_type.is_empty() { "-".into() } else { text(&event.event_type).into() },
        text(&event.event_id).into(),
        if identities.is_empty() { "-".into() } else { identities.join(" ") },
        payload.map(|it| it.get().to_owned()).unwrap_or_default(),
    ];
    Ok(printable(columns.join("  ").trim_end()))
}

fn cut(mut line: String, columns: Option<usize>) -> String {
    let Some(columns) = columns else { return line };
    if let Some((end, _)) = line.char_indices().nth(columns) {
        line.truncate(end);
        line.pop();
        line.push('…');
    }
    line
}

/// Everything about one event, one field per line.
pub(crate) fn event_details(event: &pb::RecordedEvent) -> Result<String, Failure> {
    let identities = event
        .identities
        .iter()
        .map(|it| format!("{}{}", identity_text(it), if it.primary { " (primary)" } else { "" }));
    let violations = event.violations.iter().map(violation_text);
    let fields = output::fields(&[
        ("position", event.position.to_string()),
        ("dataset", event.dataset.clone()),
        ("event id", text(&event.event_id).into()),
        ("event type", text(&event.event_type).into()),
        ("event time", time::show(event.event_time.as_ref())),
        ("record time", time::show(event.record_time.as_ref())),
        ("identities", identities.collect::<Vec<_>>().join(", ")),
        ("schema", format!("{} version {}", event.schema_id, event.schema_version)),
        ("invalid", printable(&violations.collect::<Vec<_>>().join("; "))),
    ]);
    let payload = match payload(event)? {
        Some(payload) => pretty(payload.get()),
        None => String::new(),
    };
    Ok(format!("{fields}{payload}"))
}

/// JSON text spread over lines. Numbers stay as written: only the space between tokens changes.
fn pretty(text: &str) -> String {
    let mut pretty = String::with_capacity(text.len() * 2);
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    let mut previous = ' ';
    for found in text.chars() {
        if in_string {
            in_string = escaped || found != '"';
            escaped = !escaped && found == '\\';
            pretty.push(found);
            continue;
        }
        if found.is_ascii_whitespace() {
            continue;
        }
        let closes = matches!(found, '}' | ']');
        depth = depth.saturating_sub(usize::from(closes));
        let empty = closes && matches!(previous, '{' | '[');
        if (closes && !empty) || (matches!(previous, '{' | '[' | ',') && !closes) {
            pretty.push('\n');
            pretty.extend(std::iter::repeat_n("  ", depth));
        }
        pretty.push(found);
        match found {
            ':' => pretty.push(' '),
            '{' | '[' => depth += 1,
            _ => in_string = found == '"',
        }
        previous = found;
    }
    pretty
}

/// What is missing, for people.
pub(crate) fn gap_text(gap: &pb::Gap) -> String {
    let reason = gap.reason().as_str_name();
    format!("events between positions {} and {} are lost: {reason}", gap.from, gap.to)
}

pub(crate) fn gap_json(gap: &pb::Gap) -> Value {
    json!({ "gap": { "from": gap.from, "to": gap.to, "reason": gap.reason().as_str_name() } })
}

/// A `Struct` as JSON; whole numbers without a fraction.
pub(crate) fn struct_to_json(data: &Struct) -> Value {
    let fields = data.fields.iter().map(|(name, value)| (name.clone(), value_to_json(value)));
    Value::Object(fields.collect::<Map<_, _>>())
}

fn value_to_json(value: &crate::grpc::client::well_known::Value) -> Value {
    match &value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(value)) => Value::Bool(*value),
        Some(Kind::StringValue(text)) => Value::String(text.clone()),
        Some(Kind::NumberValue(number)) => number_to_json(*number),
        Some(Kind::ListValue(list)) => list.values.iter().map(value_to_json).collect(),
        Some(Kind::StructValue(data)) => struct_to_json(data),
    }
}

fn number_to_json(number: f64) -> Value {
    const EXACT_MAX: f64 = 9_007_199_254_740_991.0;
    if number.fract() == 0.0 && number.abs() <= EXACT_MAX {
        #[expect(clippy::cast_possible_truncation, reason = "whole and within 2^53")]
        return Value::from(number as i64);
    }
    Value::from(number)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{cut, event_json, event_line, pb, pretty};

    fn event(payload: &str) -> pb::RecordedEvent {
        let identity = pb::Identity { namespace: "Email".into(), id: "a@b".into(), primary: true };
        pb::RecordedEvent {
            position: 7,
            dataset: "orders".into(),
            event_id: "e\u{1b}1".into(),
            identities: vec![identity],
            event: Some(pb::Event {
                payload: Some(pb::event::Payload::Json(payload.to_owned().into())),
            }),
            ..Default::default()
        }
    }

    #[test]
    fn the_payload_goes_through_byte_for_byte_on_one_line() {
        let event = event("{ \"n\": 1.50,\n \"big\":123456789012345678901234567890 }");
        let line = serde_json::to_string(&event_json(&event).unwrap()).unwrap();
        let expected = r#""payload":{ "n": 1.50,  "big":123456789012345678901234567890 }}"#;
        assert!(line.ends_with(expected), "{line}");
        assert!(line.contains(r#""identities":[{"namespace":"Email","id":"a@b","primary":true}]"#));
    }

    #[test]
    fn a_text_line_has_no_control_characters() {
        let line = event_line(&event("{}")).unwrap();
        assert_eq!(line, "       7    orders  -  e\\u{1b}1  *Email:a@b  {}");
    }

    #[test]
    fn lines_are_cut_to_the_terminal() {
        assert_eq!(cut("abcdef".into(), Some(6)), "abcdef");
        assert_eq!(cut("abcdef".into(), Some(4)), "abc…");
        assert_eq!(cut("äöüäöü".into(), Some(3)), "äö…");
        assert_eq!(cut("abcdef".into(), None), "abcdef");
    }

    #[test]
    fn spreading_json_changes_space_alone() {
        let text = r#"{"a":{},"b":[1.50,"x: {\"}"],"c":[]}"#;
        let expected =
            "{\n  \"a\": {},\n  \"b\": [\n    1.50,\n    \"x: {\\\"}\"\n  ],\n  \"c\": []\n}";
        assert_eq!(pretty(text), expected);
        assert_eq!(serde_json::from_str::<serde_json::Value>(expected).unwrap()["c"], json!([]));
    }
}
