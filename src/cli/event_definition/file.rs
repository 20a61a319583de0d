//! Definitions in files, so that they can be kept with the rest of what a team writes.

use std::{
    collections::HashMap,
    io::Read as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, de::IgnoredAny};

use crate::{
    cli::{failure::Failure, time},
    grpc::{client::well_known::Duration, pb},
    model::Timestamp,
};

/// A definition as a file has it: the names are those of the API. What a server adds is let through, so
/// that what `show --output json` prints is a file, too.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Definition {
    name: String,
    kind: String,
    schema_id: String,
    #[serde(default)]
    display_name: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    condition: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    key: String,
    #[serde(default)]
    fields: Vec<String>,
    #[serde(default)]
    state: String,
    #[serde(default)]
    effective: Option<Effective>,
    #[serde(default)]
    coalescing_seconds: i64,
    #[serde(default)]
    labels: HashMap<String, String>,
    #[serde(default)]
    used_by: Vec<String>,
    #[serde(default, rename = "event_id")]
    _event_id: IgnoredAny,
    #[serde(default, rename = "version")]
    _version: IgnoredAny,
    #[serde(default, rename = "backfill")]
    _backfill: IgnoredAny,
    #[serde(default, rename = "effective_from")]
    _effective_from: IgnoredAny,
    #[serde(default, rename = "schema_version")]
    _schema_version: IgnoredAny,
    #[serde(default, rename = "etag")]
    _etag: IgnoredAny,
    #[serde(default, rename = "create_time")]
    _create_time: IgnoredAny,
    #[serde(default, rename = "update_time")]
    _update_time: IgnoredAny,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Effective {
    #[serde(default)]
    start: String,
    #[serde(default)]
    end: String,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum File {
    Several(Vec<serde_json::Value>),
    One(serde_json::Value),
}

/// All definitions of some files, in their order.
pub(super) fn read(files: &[PathBuf]) -> Result<Vec<pb::EventDefinition>, Failure> {
    let mut definitions = Vec::new();
    for path in files {
        let text = text_of(path)?;
        let bad = |message: String| Failure::usage(format!("{}: {message}", path.display()));
        let file: File = serde_json::from_str(&text).map_err(|error| bad(error.to_string()))?;
        let found = match file {
            File::Several(found) => found,
            File::One(found) => vec![found],
        };
        for (place, value) in found.into_iter().enumerate() {
            let name = value.get("name").and_then(|it| it.as_str()).map(str::to_owned);
            let called = name.map_or_else(|| format!("[{place}]"), |it| format!("`{it}`"));
            let definition: Definition =
                serde_json::from_value(value).map_err(|error| bad(format!("{called}: {error}")))?;
            let definition =
                message(definition).map_err(|error| bad(format!("{called}: {error}")))?;
            definitions.push(definition);
        }
    }
    Ok(definitions)
}

fn text_of(path: &Path) -> Result<String, Failure> {
    let read = if path.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(path)
    };
    read.map_err(|error| {
        Failure::Local(anyhow::Error::new(error).context(format!("cannot read {}", path.display())))
    })
}

fn message(file: Definition) -> Result<pb::EventDefinition, String> {
    let kind = pb::EventDefinitionKind::from_str_name(&file.kind).ok_or_else(|| {
        format!("kind: `{}`; wanted UNITARY_RULE, UNITARY_SYSTEM or BUSINESS", file.kind)
    })?;
    let state = match file.state.as_str() {
        "" => pb::EventDefinitionState::Draft,
        name => pb::EventDefinitionState::from_str_name(name)
            .ok_or_else(|| format!("state: `{name}`; wanted DRAFT, LIVE, PAUSED or ARCHIVED"))?,
    };
    let bound = |name: &str, text: &str| match text {
        "" => Ok(None),
        text => Timestamp::parse_rfc3339(text)
            .map(|it| Some(time::to_proto(it)))
            .map_err(|wanted| format!("effective.{name}: `{text}`; wanted {wanted}")),
    };
    let effective = match &file.effective {
        Some(it) => {
            Some(pb::TimeRange { start: bound("start", &it.start)?, end: bound("end", &it.end)? })
        }
        None => None,
    };
    let window = Some(file.coalescing_seconds).filter(|it| *it != 0);
    Ok(pb::EventDefinition {
        name: file.name,
        display_name: file.display_name,
        description: file.description,
        kind: kind.into(),
        schema_id: file.schema_id,
        condition: file.condition,
        namespace: file.namespace,
        key: file.key,
        fields: file.fields,
        state: state.into(),
        effective: effective.filter(|it| it.start.is_some() || it.end.is_some()),
        coalescing_window: window.map(|seconds| Duration { seconds, nanos: 0 }),
        labels: file.labels,
        used_by: file.used_by,
        ..Default::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<&str, &str>) {
        let value: Result<Definition, _> = serde_json::from_str(text);
        let made = value.map_err(|it| it.to_string()).and_then(message);
        match (made, expected) {
            (Ok(made), Ok(name)) => assert_eq!(made.name, name),
            (Err(said), Err(words)) => assert!(said.contains(words), "{said}"),
            (made, expected) => panic!("{made:?}; wanted {expected:?}"),
        }
    }

    #[test]
    fn a_file_says_what_the_api_says_and_nothing_else() {
        let with =
            |more: &str| format!(r#"{{"name":"a","kind":"UNITARY_RULE","schema_id":"s:x"{more}}}"#);
        check(&with(""), Ok("a"));
        check(&with(r#","version":3,"etag":"1","create_time":"","event_id":"" "#), Ok("a"));
        check(&with(r#","effective":{"start":"2026-11-23T09:30:00Z"}"#), Ok("a"));
        check(&with(r#","conditon":"true""#), Err("conditon"));
        check(&with(r#","state":"live""#), Err("wanted DRAFT, LIVE"));
        check(&with(r#","effective":{"start":"today"}"#), Err("effective.start"));
        check(r#"{"name":"a","kind":"RULE","schema_id":"s:x"}"#, Err("UNITARY_SYSTEM or BUSINESS"));
        check(r#"{"name":"a","schema_id":"s:x"}"#, Err("kind"));
    }
}
