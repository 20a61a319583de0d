//! Which events: the flags of read, follow and count.

use clap::{Args, ValueEnum};

use crate::{cli::time, grpc::pb, model::Timestamp};

/// Which events. Different flags combine with AND, one flag's values with OR.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Which events")]
pub(crate) struct FilterArgs {
    /// Events of this dataset; may be repeated
    #[arg(long = "dataset", value_name = "NAME")]
    datasets: Vec<String>,
    /// Events of this type, `commerce.purchases` or a prefix `commerce.*`; may be repeated
    #[arg(long = "type", value_name = "TYPE")]
    types: Vec<String>,
    /// Events with this identity, `Email:ann@example.com`, or with any of a namespace, `Email:`;
    /// may be repeated
    #[arg(long = "identity", value_name = "NS:ID", value_parser = identity)]
    identities: Vec<pb::Identity>,
    /// Events judged by this schema, any version; may be repeated
    #[arg(long = "schema", value_name = "ID")]
    schemas: Vec<String>,
    /// Events judged by these versions of a schema, `ID@2..4`, `ID@2..`, `ID@..4` or `ID@2`; may be repeated
    #[arg(long, value_name = "ID@VERSIONS", value_parser = schema_versions)]
    schema_versions: Vec<pb::SchemaVersions>,
    /// Events that matched this event definition; may be repeated
    #[arg(long = "definition", value_name = "NAME")]
    definitions: Vec<String>,
    /// Events that this event definition delivers, as it delivers them
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    deliver_as: String,
    /// Events of which this condition holds, for example `commerce.order.priceTotal > 100`
    #[arg(long = "where", value_name = "TEXT", default_value = "", hide_default_value = true)]
    condition: String,
    /// Whether tagged events are among them: stored although they are invalid
    #[arg(long, value_enum, value_name = "WHICH", default_value_t)]
    tagged: Tagged,
    /// Events recorded at this time or later: RFC 3339, a date, or an age such as `15m`
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    since: Option<Timestamp>,
    /// Events recorded before this time
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    until: Option<Timestamp>,
    /// Events that happened at this time or later
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    happened_since: Option<Timestamp>,
    /// Events that happened before this time
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    happened_until: Option<Timestamp>,
}

/// Of tagged events and others.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Tagged {
    /// Valid events only
    #[default]
    LeftOut,
    /// Tagged ones too
    Included,
    /// Tagged ones only
    Only,
}

impl From<FilterArgs> for pb::EventFilter {
    fn from(args: FilterArgs) -> Self {
        Self {
            datasets: args.datasets,
            event_types: args.types,
            schemas: args.schemas,
            schema_versions: args.schema_versions,
            event_definitions: args.definitions,
            deliver_as: args.deliver_as,
            r#where: args.condition,
            tagged: match args.tagged {
                Tagged::LeftOut => pb::TaggedEvents::Unspecified,
                Tagged::Included => pb::TaggedEvents::Included,
                Tagged::Only => pb::TaggedEvents::Only,
            }
            .into(),
            identities: args.identities,
            event_time: range(args.happened_since, args.happened_until),
            record_time: range(args.since, args.until),
        }
    }
}

fn range(start: Option<Timestamp>, end: Option<Timestamp>) -> Option<pb::TimeRange> {
    let bounded = start.is_some() || end.is_some();
    let range = pb::TimeRange { start: start.map(time::to_proto), end: end.map(time::to_proto) };
    bounded.then_some(range)
}

/// Parses `NS:ID` or `NS:`. The first colon parts; ids may have more.
pub(crate) fn identity(text: &str) -> Result<pb::Identity, String> {
    match text.split_once(':') {
        Some((namespace, id)) if !namespace.is_empty() => {
            let (namespace, id) = (namespace.to_owned().into(), id.to_owned().into());
            Ok(pb::Identity { namespace, id, primary: false })
        }
        _ => Err("allowed: NAMESPACE:ID, or NAMESPACE: for all of a namespace".to_owned()),
    }
}

/// Parses `ID@FROM..TO`, where either may be absent, or `ID@VERSION`. The last at sign parts; ids may have more.
fn schema_versions(text: &str) -> Result<pb::SchemaVersions, String> {
    let version = |text: &str| text.parse().ok().filter(|it| *it > 0);
    let bound = |text: &str| if text.is_empty() { Some(0) } else { version(text) };
    let range = |text: &str| match text.split_once("..") {
        Some((from, to)) => Some((bound(from)?, bound(to)?)),
        None => version(text).map(|it| (it, it)),
    };
    let parts = text.rsplit_once('@').filter(|(id, _)| !id.is_empty());
    let found = parts.and_then(|(id, versions)| Some((id, range(versions)?)));
    let (id, (from_version, to_version)) = found
        .ok_or("allowed: ID@FROM..TO, ID@FROM.., ID@..TO or ID@VERSION, versions from 1 on")?;
    Ok(pb::SchemaVersions { schema_id: id.to_owned(), from_version, to_version })
}

#[cfg(test)]
mod tests {
    use super::{identity, schema_versions};

    #[track_caller]
    fn check(text: &str, expected: Option<(&str, &str)>) {
        let found = identity(text).ok();
        let found = found.as_ref().map(|it| (&*it.namespace, &*it.id));
        assert_eq!(found, expected.map(|it| (it.0.as_bytes(), it.1.as_bytes())), "{text}");
    }

    #[test]
    fn an_identity_is_a_namespace_a_colon_and_an_id() {
        check("Email:ann@example.com", Some(("Email", "ann@example.com")));
        check("Email:", Some(("Email", "")));
        check("POI:a:b", Some(("POI", "a:b")));
        check("Email", None);
        check(":x", None);
    }

    #[test]
    fn versions_are_one_or_a_range_behind_the_last_at_sign() {
        let parse = |text| {
            let found = schema_versions(text).ok()?;
            Some((found.schema_id, found.from_version, found.to_version))
        };
        let of = |id: &str, from, to| Some((id.to_owned(), from, to));
        assert_eq!(parse("https://a/b@2..4"), of("https://a/b", 2, 4));
        assert_eq!(parse("https://a/b@2.."), of("https://a/b", 2, 0));
        assert_eq!(parse("https://a/b@..4"), of("https://a/b", 0, 4));
        assert_eq!(parse("https://u@a/b@3"), of("https://u@a/b", 3, 3));
        for bad in ["https://a/b", "@1", "a@", "a@0", "a@x", "a@1..x", "a@-1", "a@1..0"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
