//! One schema document, read and judged by itself.

use std::sync::Arc;

use jsonschema::{Draft, uri};
use serde_json::Value;

use crate::{
    model::{
        json::{Document, Kind},
        limits,
    },
    schema::{
        Fault, Form, IdentityField, Reference, SchemaProblem,
        composition::BEHAVIORS,
        field_type,
        form::{self, long_pointer},
        identity,
        keyword::{draft_of, schema_of},
        outline::Outline,
        violation::{self, shorten},
    },
};

/// XDM's kinds of document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SchemaKind {
    /// How the data of a class behaves: record, time-series, ad hoc.
    Behavior,
    /// What a schema's events are, on top of a behaviour.
    Class,
    /// Fields at a fixed path, added to classes.
    FieldGroup,
    /// A reusable object.
    DataType,
    /// One class and any field groups; what a dataset is judged by.
    Schema,
}

/// A schema document that its draft's metaschema accepts, not yet judged against others.
#[derive(Debug)]
pub struct SchemaDocument {
    id: String,
    kind: SchemaKind,
    title: String,
    digest: [u8; 32],
    text: Arc<str>,
    form: Form,
    pub(super) draft: Draft,
    references: Vec<Reference>,
    identities: Vec<IdentityField>,
    /// The document in wire form, with its `$schema` always present.
    pub(super) value: Value,
    pub(super) outline: Outline,
}

impl SchemaDocument {
    /// Reads a document: strict JSON, a known draft, an absolute `$id`, valid by its metaschema. One in
    /// long form is turned into wire form, which is what judges.
    ///
    /// # Errors
    ///
    /// `Invalid` with everything found wrong, `TooLarge` above the limits.
    pub fn parse(text: &str) -> Result<Self, SchemaProblem> {
        let json = read_json(text)?;
        let root = json.root();
        let draft = read_draft(&root)?;
        let id = read_id(&root)?;
        let value = root.to_value();
        check_metaschema(draft, &value)?;
        let form = if form::is_long(&value, draft) {
            (Form::Long, form::to_wire(&value, draft).map_err(SchemaProblem::Invalid)?)
        } else {
            (Form::Wire, value)
        };
        let document = Self::of(text, root.canonical_digest(), id, draft, form)?;
        document.check_types()?;
        Ok(document)
    }

    /// Reads a document in which a key may stand twice in one object: the last one counts, as most tools
    /// have it. Two of the public XDM library are so. Also returns the first such place.
    ///
    /// # Errors
    ///
    /// As [`Self::parse`].
    pub fn parse_last(text: &str) -> Result<(Self, Option<Fault>), SchemaProblem> {
        check_size(text)?;
        match Document::parse(text) {
            Err(error) if error.keyword == "duplicateKey" => {
                let last: Value = serde_json::from_str(text)
                    .map_err(|error| SchemaProblem::invalid("", format!("not JSON: {error}")))?;
                let message = format!("{}; the last one counts", error.message);
                let repeated = Fault { pointer: error.path, message };
                Ok((Self::parse(&last.to_string())?, Some(repeated)))
            }
            Ok(_) | Err(_) => Ok((Self::parse(text)?, None)),
        }
    }

    /// Reads a document that was taken before, with the wire form that it got then; the same if it was
    /// taken in wire form. So a stored version keeps its meaning when the rules of conversion change.
    ///
    /// # Errors
    ///
    /// As [`Self::parse`].
    pub fn restore(text: &str, wire: Option<&str>) -> Result<Self, SchemaProblem> {
        let json = read_json(text)?;
        let root = json.root();
        let draft = read_draft(&root)?;
        let id = read_id(&root)?;
        let form = match wire {
            Some(wire) => (Form::Long, read_json(wire)?.root().to_value()),
            None => (Form::Wire, root.to_value()),
        };
        Self::of(text, root.canonical_digest(), id, draft, form)
    }

    fn of(
        text: &str,
        digest: [u8; 32],
        id: String,
        draft: Draft,
        (form, mut value): (Form, Value),
    ) -> Result<Self, SchemaProblem> {
        if let Value::Object(members) = &mut value {
            members.entry("$schema").or_insert_with(|| schema_of(draft).into());
            members.insert("$id".into(), Value::String(id.clone()));
        }
        let outline = Outline::read(&id, &value, draft).map_err(|faults| {
            let problem = SchemaProblem::Invalid(faults);
            problem.map_pointers(|it| long_pointer(&value, it))
        })?;
        let title = value.get("title").and_then(Value::as_str).unwrap_or_default().to_owned();
        Ok(Self {
            kind: judge_kind(&id, &value),
            title,
            digest,
            text: text.into(),
            form,
            draft,
            references: outline.references.iter().map(|(it, _)| it.clone()).collect(),
            identities: identity::read(&value)?,
            id,
            value,
            outline,
        })
    }

    /// Refuses a stated `meta:xdmType` that contradicts its field. Only when a document is first taken:
    /// what is stored stays.
    fn check_types(&self) -> Result<(), SchemaProblem> {
        let schemas = self.outline.schemas.iter();
        let faults = schemas.filter_map(|it| {
            let fault = field_type::conflict(self.value.pointer(&it.pointer)?, &it.pointer)?;
            Some(Fault { pointer: self.given_pointer(&fault.pointer), ..fault })
        });
        let faults: Vec<Fault> = faults.take(limits::VIOLATIONS_MAX).collect();
        if faults.is_empty() { Ok(()) } else { Err(SchemaProblem::Invalid(faults)) }
    }

    /// The form that the document was given in.
    #[must_use]
    pub fn form(&self) -> Form {
        self.form
    }

    /// The document in a form; in wire form it is what judges.
    #[must_use]
    pub fn in_form(&self, form: Form) -> Value {
        match form {
            Form::Wire => self.value.clone(),
            Form::Long => form::to_long(&self.value, self.draft),
        }
    }

    /// Where a place of the wire form is in the document as given.
    #[must_use]
    pub(super) fn given_pointer(&self, wire: &str) -> String {
        match self.form {
            Form::Wire => wire.to_owned(),
            Form::Long => long_pointer(&self.value, wire),
        }
    }

    /// The `$id`, without fragment.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What the document is in XDM's terms.
    #[must_use]
    pub fn kind(&self) -> SchemaKind {
        self.kind
    }

    /// The `title`; empty when absent.
    #[must_use]
    pub fn title(&self) -> &str {
        &self.title
    }

    /// The `meta:altId`: a name without the characters of a URI.
    #[must_use]
    pub fn alt_id(&self) -> Option<&str> {
        self.value.get("meta:altId").and_then(Value::as_str)
    }

    /// SHA-256 of the canonical JSON.
    #[must_use]
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// The document as given.
    #[must_use]
    pub fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// Every reference, those to the document itself included.
    #[must_use]
    pub fn references(&self) -> &[Reference] {
        &self.references
    }

    /// Identity fields that this document itself describes.
    #[must_use]
    pub fn identities(&self) -> &[IdentityField] {
        &self.identities
    }
}

fn check_size(text: &str) -> Result<(), SchemaProblem> {
    let (found, max) = (text.len(), limits::SCHEMA_BYTES_MAX);
    if found <= max {
        return Ok(());
    }
    let message = format!("the document has {found} bytes; at most {max}");
    Err(SchemaProblem::TooLarge { pointer: String::new(), message })
}

fn read_json(text: &str) -> Result<Document<'_>, SchemaProblem> {
    check_size(text)?;
    let json =
        Document::parse(text).map_err(|error| SchemaProblem::invalid(error.path, error.message))?;
    if json.root().kind() != Kind::Object {
        return Err(SchemaProblem::invalid("", "a schema document is a JSON object"));
    }
    Ok(json)
}

fn read_draft(root: &crate::model::json::Node<'_>) -> Result<Draft, SchemaProblem> {
    let Some(schema) = root.get("$schema") else {
        return Ok(Draft::Draft6); // as XDM means it
    };
    schema.as_str().and_then(draft_of).ok_or_else(|| {
        let shown = shorten(schema.as_str().unwrap_or("not a string"));
        let wanted = "drafts 6, 7, 2019-09 and 2020-12 are known";
        SchemaProblem::invalid("/$schema", format!("`{shown}` is not a known draft; {wanted}"))
    })
}

fn read_id(root: &crate::model::json::Node<'_>) -> Result<String, SchemaProblem> {
    let fail = |message: String| SchemaProblem::invalid("/$id", message);
    let Some(written) = root.get("$id").and_then(|it| it.as_str()) else {
        return Err(fail("a schema document needs an `$id`, an absolute URI".into()));
    };
    let id = written.strip_suffix('#').unwrap_or(written);
    if id.len() > limits::SCHEMA_ID_BYTES_MAX {
        let (found, max) = (id.len(), limits::SCHEMA_ID_BYTES_MAX);
        return Err(fail(format!("`$id` has {found} bytes; at most {max}")));
    }
    let shown = shorten(id);
    if id.contains('#') {
        return Err(fail(format!("`{shown}` has a fragment; the `$id` of a document has none")));
    }
    let starts_with_scheme = id.split_once(':').is_some_and(|(scheme, _)| {
        scheme.starts_with(|it: char| it.is_ascii_alphabetic())
            && scheme.chars().all(|it| it.is_ascii_alphanumeric() || "+-.".contains(it))
    });
    let normal = uri::from_str(id).ok().filter(|_| starts_with_scheme);
    let Some(normal) = normal else {
        return Err(fail(format!("`{shown}` is not an absolute URI")));
    };
    if draft_of(id).is_some() {
        return Err(fail(format!("`{shown}` is a metaschema and cannot be replaced")));
    }
    // References are compared in normal form, so another spelling could never be found.
    if normal.as_str() != id {
        return Err(fail(format!("`{shown}` is not in normal form; write `{normal}`")));
    }
    Ok(id.to_owned())
}

#[expect(clippy::wildcard_enum_match_arm, reason = "read_draft lets only ours through")]
fn check_metaschema(draft: Draft, value: &Value) -> Result<(), SchemaProblem> {
    let validator = match draft {
        Draft::Draft7 => jsonschema::draft7::meta::validator(),
        Draft::Draft201909 => jsonschema::draft201909::meta::validator(),
        Draft::Draft202012 => jsonschema::draft202012::meta::validator(),
        _ => jsonschema::draft6::meta::validator(),
    };
    if validator.is_valid(value) {
        return Ok(());
    }
    let errors = validator.iter_errors(value).take(limits::VIOLATIONS_MAX);
    let faults = errors.map(|it| violation::metaschema_fault(&it));
    Err(SchemaProblem::Invalid(faults.collect()))
}

const CLASSES: [&str; 2] = [
    "https://ns.adobe.com/xdm/context/experienceevent",
    "https://ns.adobe.com/xdm/context/profile",
];

/// The kind that the annotations tell, the plainest first.
fn judge_kind(id: &str, value: &Value) -> SchemaKind {
    let has = |key: &str| value.get(key).is_some();
    let abstract_ = value.get("meta:abstract") == Some(&Value::Bool(true));
    let extends_behavior = strings(value.get("meta:extends")).any(|it| BEHAVIORS.contains(&it));
    let all_of = value.get("allOf").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let mut included = all_of.iter().filter_map(|it| it.get("$ref")).filter_map(Value::as_str);
    match value.get("meta:resourceType").and_then(Value::as_str) {
        Some("behaviors") => return SchemaKind::Behavior,
        Some("classes") => return SchemaKind::Class,
        Some("fieldgroups" | "mixins") => return SchemaKind::FieldGroup,
        // A union names its class but is composed of nothing: fields to look at.
        Some("datatypes" | "unions") => return SchemaKind::DataType,
        Some("schemas") => return SchemaKind::Schema,
        Some(_) | None => (),
    }
    if BEHAVIORS.contains(&id) {
        SchemaKind::Behavior
    } else if has("meta:class") {
        SchemaKind::Schema
    } else if has("meta:intendedToExtend") {
        SchemaKind::FieldGroup
    } else if CLASSES.contains(&id) || extends_behavior && abstract_ {
        SchemaKind::Class
    } else if included.any(|it| BEHAVIORS.contains(&it) || CLASSES.contains(&it)) {
        SchemaKind::Schema
    } else if (has("meta:extensible") || has("meta:status")) && !abstract_ {
        SchemaKind::DataType // XDM's, and of no class
    } else {
        SchemaKind::Schema
    }
}

pub(super) fn strings(value: Option<&Value>) -> impl Iterator<Item = &str> {
    let items = value.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    items.iter().filter_map(Value::as_str).chain(value.and_then(Value::as_str))
}
