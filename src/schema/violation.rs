//! What the JSON Schema crate finds wrong, in our own words and bounds.

use std::{cmp::Reverse, fmt::Write as _};

use jsonschema::{
    ValidationError,
    error::{TypeKind, ValidationErrorKind},
};

use crate::{
    model::{
        Violation,
        json::{Document, Kind, Node},
        limits,
    },
    schema::{
        Fault,
        outline::{decode, split_fragment},
    },
};

/// Characters of an event's string that a message shows.
const SHOWN_CHARS_MAX: usize = 60;

/// The violation of an event that takes too long to judge.
pub(super) fn undecided(schema: &str) -> Violation {
    Violation {
        instance_path: String::new(),
        schema_path: format!("{schema}#"),
        keyword: "limit".into(),
        message: format!(
            "the event breaks rules too often, or takes too long to judge: more than {} steps",
            limits::JUDGE_STEPS_MAX
        ),
        ..Violation::default()
    }
}

pub(super) fn from_error(
    schema: &str,
    event: &Document<'_>,
    error: &ValidationError<'_>,
) -> Violation {
    let found = event.root().pointer(error.instance_path().as_str());
    let is_missing = matches!(error.kind(), ValidationErrorKind::Required { .. });
    Violation {
        instance_path: error.instance_path().to_string(),
        schema_path: schema_path(schema, error),
        keyword: error.kind().keyword().to_owned(),
        message: shorten(&message(event, error)),
        expected: cut(expected(error.kind())),
        found: found.filter(|_| !is_missing).map_or_else(String::new, |it| show(&it)),
    }
}

/// What a rule wants, in short; empty where that cannot be said in short.
#[expect(clippy::wildcard_enum_match_arm, reason = "the others want nothing that is short")]
fn expected(kind: &ValidationErrorKind) -> String {
    use ValidationErrorKind as It;
    match kind {
        It::Type { kind: TypeKind::Single(wanted) } => wanted.to_string(),
        It::Type { kind: TypeKind::Multiple(wanted) } => {
            wanted.iter().map(|it| it.to_string()).collect::<Vec<_>>().join(" or ")
        }
        It::Required { property } => {
            format!("property `{}`", property.as_str().unwrap_or_default())
        }
        It::Enum { options } => {
            let options = options.as_array().into_iter().flatten();
            options.map(ToString::to_string).collect::<Vec<_>>().join(", ")
        }
        It::Constant { expected_value } => expected_value.to_string(),
        It::Format { format } => format.clone(),
        It::Pattern { pattern } => pattern.clone(),
        It::Minimum { limit } => format!("at least {limit}"),
        It::ExclusiveMinimum { limit } => format!("more than {limit}"),
        It::Maximum { limit } => format!("at most {limit}"),
        It::ExclusiveMaximum { limit } => format!("less than {limit}"),
        It::MultipleOf { multiple_of } => format!("a multiple of {multiple_of}"),
        It::MinLength { limit } => format!("at least {limit} characters"),
        It::MaxLength { limit } => format!("at most {limit} characters"),
        It::MinItems { limit } => format!("at least {limit} elements"),
        It::MaxItems { limit } => format!("at most {limit} elements"),
        It::AdditionalItems { limit } => format!("at most {limit} elements"),
        It::MinProperties { limit } => format!("at least {limit} properties"),
        It::MaxProperties { limit } => format!("at most {limit} properties"),
        It::UniqueItems => "elements that differ".to_owned(),
        It::AdditionalProperties { .. } | It::UnevaluatedProperties { .. } => {
            "no other properties".to_owned()
        }
        It::FalseSchema => "no value".to_owned(),
        _ => String::new(),
    }
}

/// Bytes of what a rule wants in short.
const EXPECTED_BYTES_MAX: usize = 512;

fn cut(mut text: String) -> String {
    if text.len() > EXPECTED_BYTES_MAX {
        text.truncate(text.floor_char_boundary(EXPECTED_BYTES_MAX - '…'.len_utf8()));
        text.push('…');
    }
    text
}

/// Whether an event is refused for keys that a closed schema does not describe.
#[expect(clippy::wildcard_enum_match_arm, reason = "few kinds among many")]
pub(super) fn is_of_unknown_keys(error: &ValidationError<'_>) -> bool {
    match error.kind() {
        ValidationErrorKind::AdditionalProperties { .. }
        | ValidationErrorKind::UnevaluatedProperties { .. } => true,
        // A schema that is closed and names no field at all.
        ValidationErrorKind::FalseSchema => {
            let path = error.schema_path().to_string();
            path.ends_with("/additionalProperties") || path.ends_with("/unevaluatedProperties")
        }
        _ => false,
    }
}

/// `<document $id>#<pointer>`.
pub(super) fn schema_path(schema: &str, error: &ValidationError<'_>) -> String {
    match error.absolute_keyword_location() {
        Some(location) => {
            let (document, fragment) = split_fragment(location.as_str());
            format!("{document}#{}", decode(fragment))
        }
        None => format!("{schema}#{}", error.schema_path()),
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the crate words the others well enough")]
fn message(event: &Document<'_>, error: &ValidationError<'_>) -> String {
    let found = event.root().pointer(error.instance_path().as_str());
    let shown = found.map_or_else(|| "the value".to_owned(), |it| show(&it));
    match error.kind() {
        ValidationErrorKind::Required { property } => {
            let name = property.as_str().unwrap_or_default();
            format!("property `{name}` is missing; it is required")
        }
        ValidationErrorKind::AnyOf { context } | ValidationErrorKind::OneOfNotValid { context } => {
            let nearest = nearest(event, context);
            format!("{shown} fits none of the {} forms allowed{nearest}", context.len())
        }
        ValidationErrorKind::OneOfMultipleValid { context } => {
            let fitting = context.iter().enumerate().filter(|(_, errors)| errors.is_empty());
            let fitting: Vec<String> = fitting.map(|(place, _)| place.to_string()).collect();
            let fitting = fitting.join(", ");
            format!("{shown} fits more than one of the forms allowed ({fitting}); exactly one must")
        }
        ValidationErrorKind::AdditionalItems { limit } => {
            format!("{shown} has more elements than the {limit} allowed")
        }
        ValidationErrorKind::FalseSchema => format!("{shown} is not allowed here"),
        ValidationErrorKind::BacktrackLimitExceeded { .. } => {
            let steps = limits::PATTERN_BACKTRACK_MAX;
            format!("{shown} could not be matched to its pattern within {steps} steps")
        }
        ValidationErrorKind::RegexEngineFailure { .. } => {
            format!("{shown} could not be matched to its pattern")
        }
        ValidationErrorKind::PropertyNames { error } => {
            let name = error.instance().as_str().map(quote).unwrap_or_default();
            format!("name {name} is not allowed: {}", error.masked_with("it"))
        }
        _ => error.masked_with(shown).to_string(),
    }
}

/// Tells what keeps a value from the form it comes nearest to.
fn nearest(event: &Document<'_>, context: &[Vec<ValidationError<'static>>]) -> String {
    match nearest_error(context) {
        Some(error) => {
            format!("; nearest: at `{}` {}", error.instance_path(), message(event, error))
        }
        None => String::new(),
    }
}

fn nearest_error<'a>(
    context: &'a [Vec<ValidationError<'static>>],
) -> Option<&'a ValidationError<'static>> {
    // A form that fails deep inside was probably meant; one that fails at once was not.
    let depth = |errors: &[ValidationError<'static>]| {
        errors.iter().map(|it| it.instance_path().as_str().matches('/').count()).min()
    };
    let rank = |errors: &Vec<ValidationError<'static>>| (depth(errors), Reverse(errors.len()));
    let nearest = |context: &'a [Vec<_>]| context.iter().max_by_key(|it| rank(it))?.first();
    let mut error = nearest(context)?;
    while let Some(inner) = nearest(forms(error)) {
        error = inner; // no recursion: forms within forms can be many
    }
    Some(error)
}

/// Where a schema document breaks its metaschema: a choice of forms is followed to the nearest one.
pub(super) fn metaschema_fault(error: &ValidationError<'_>) -> Fault {
    let nearest = nearest_error(forms(error));
    Fault {
        pointer: nearest.unwrap_or(error).instance_path().to_string(),
        message: shorten(&nearest.unwrap_or(error).to_string()),
    }
}

/// The forms that an error had to choose from.
#[expect(clippy::wildcard_enum_match_arm, reason = "only these two offer forms")]
fn forms<'a>(error: &'a ValidationError<'_>) -> &'a [Vec<ValidationError<'static>>] {
    match error.kind() {
        ValidationErrorKind::AnyOf { context } | ValidationErrorKind::OneOfNotValid { context } => {
            context
        }
        _ => &[],
    }
}

/// A value as a message shows it: short, and never a whole object.
fn show(node: &Node<'_>) -> String {
    match node.kind() {
        Kind::Null => "null".into(),
        Kind::Boolean => node.as_bool().unwrap_or_default().to_string(),
        Kind::Number => {
            node.as_number().map_or_else(String::new, |number| number.to_json().to_string())
        }
        Kind::String => quote(node.as_str().unwrap_or_default()),
        Kind::Array => format!("an array of {}", node.len()),
        Kind::Object => format!("an object of {}", node.len()),
    }
}

fn quote(text: &str) -> String {
    let mut out = String::from('"');
    for (place, character) in text.chars().enumerate() {
        if place == SHOWN_CHARS_MAX {
            out.push('…');
            break;
        }
        if character.is_control() {
            let _ = write!(out, "\\u{:04x}", u32::from(character)); // to memory: cannot fail
        } else {
            out.push(character);
        }
    }
    out.push('"');
    out
}

/// Starts lowercase and fits a message.
pub(super) fn shorten(message: &str) -> String {
    let mut characters = message.chars();
    let mut out = String::with_capacity(message.len().min(limits::MESSAGE_BYTES_MAX));
    let acronym = characters.clone().nth(1).is_some_and(char::is_uppercase);
    if let Some(first) = characters.next() {
        if acronym {
            out.push(first);
        } else {
            out.extend(first.to_lowercase());
        }
    }
    for character in characters {
        if out.len() + character.len_utf8() + '…'.len_utf8() > limits::MESSAGE_BYTES_MAX {
            out.push('…');
            break;
        }
        out.push(character);
    }
    out
}
