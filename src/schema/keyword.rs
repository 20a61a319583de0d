//! Which keywords of a draft hold schemas, and what those schemas apply to.

use jsonschema::Draft;

/// What a schema under a keyword applies to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Applies {
    /// To the value its parent applies to.
    InPlace,
    /// To a part of that value: a member, an element, a name.
    Inside,
    /// To nothing, until referred to.
    Apart,
}

/// Where under a keyword its schemas are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holds {
    /// The keyword's value is a schema.
    Schema,
    /// The keyword's value is a list of schemas.
    List,
    /// The keyword's value is a schema or a list of schemas.
    SchemaOrList,
    /// The members of the keyword's value are schemas.
    Map,
}

/// `None` for a keyword that holds no schemas in this draft.
pub(super) fn subschemas(keyword: &str, draft: Draft) -> Option<(Applies, Holds)> {
    use Applies::{Apart, InPlace, Inside};
    let since_7 = draft != Draft::Draft6;
    let since_2019 = since_7 && draft != Draft::Draft7;
    let since_2020 = draft == Draft::Draft202012;
    let found = match keyword {
        "allOf" | "anyOf" | "oneOf" => (InPlace, Holds::List),
        "not" => (InPlace, Holds::Schema),
        "dependencies" => (InPlace, Holds::Map),
        "if" | "then" | "else" if since_7 => (InPlace, Holds::Schema),
        "dependentSchemas" if since_2019 => (InPlace, Holds::Map),
        "properties" | "patternProperties" => (Inside, Holds::Map),
        "items" if since_2020 => (Inside, Holds::Schema),
        "items" => (Inside, Holds::SchemaOrList),
        "prefixItems" if since_2020 => (Inside, Holds::List),
        "additionalProperties" | "propertyNames" | "contains" => (Inside, Holds::Schema),
        "additionalItems" if !since_2020 => (Inside, Holds::Schema),
        "unevaluatedItems" | "unevaluatedProperties" | "contentSchema" if since_2019 => {
            (Inside, Holds::Schema)
        }
        "definitions" | "$defs" => (Apart, Holds::Map),
        _ => return None,
    };
    Some(found)
}

/// Whether everything beside a `$ref` is ignored.
pub(super) fn reference_stands_alone(draft: Draft) -> bool {
    matches!(draft, Draft::Draft6 | Draft::Draft7)
}

/// The draft that a `$schema` names, if it is one of ours.
pub(super) fn draft_of(schema: &str) -> Option<Draft> {
    let uri = schema.strip_suffix('#').unwrap_or(schema);
    let uri = uri.strip_prefix("https://").or_else(|| uri.strip_prefix("http://"))?;
    match uri {
        "json-schema.org/draft-06/schema" => Some(Draft::Draft6),
        "json-schema.org/draft-07/schema" => Some(Draft::Draft7),
        "json-schema.org/draft/2019-09/schema" => Some(Draft::Draft201909),
        "json-schema.org/draft/2020-12/schema" => Some(Draft::Draft202012),
        _ => None,
    }
}

/// The `$schema` that names a draft.
#[expect(clippy::wildcard_enum_match_arm, reason = "draft_of gives only ours")]
pub(super) fn schema_of(draft: Draft) -> &'static str {
    match draft {
        Draft::Draft7 => "http://json-schema.org/draft-07/schema#",
        Draft::Draft201909 => "https://json-schema.org/draft/2019-09/schema",
        Draft::Draft202012 => "https://json-schema.org/draft/2020-12/schema",
        _ => "http://json-schema.org/draft-06/schema#",
    }
}
