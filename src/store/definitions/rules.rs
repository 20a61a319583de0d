//! What a definition must be: sound by itself, and true to its schema.

use std::sync::Arc;

use crate::{
    condition::{Expression, Problems},
    model::{Invalid, limits},
    schema::{self, Field, FieldType, Fields},
    store::{
        Error, NamespaceType,
        catalog::Catalog,
        definitions::{
            Compiled, DefinitionKind, DefinitionSettings, DefinitionSpec, DefinitionState,
            EventDefinition, Selection,
        },
    },
};

/// Where an event names the definition that it is of.
pub(crate) const EVENT_ID_PATH: &str = "_experience.campaign.orchestration.eventID";
/// The class of events about a person.
const EXPERIENCE_EVENT: &str = "https://ns.adobe.com/xdm/context/experienceevent";

const DISPLAY_NAME_BYTES_MAX: usize = 256;
const DESCRIPTION_BYTES_MAX: usize = 1024;
const LABELS_MAX: usize = 64;
const LABEL_BYTES_MAX: usize = 256;

/// Settings that were checked against a catalog, ready to be written to that same catalog.
#[derive(Clone, Debug)]
pub(crate) struct Checked {
    pub(crate) settings: DefinitionSettings,
    pub(crate) event_id: Arc<str>,
    pub(crate) compiled: Arc<Compiled>,
    pub(crate) seen: Seen,
}

/// What checking depends on: when it has changed, settings must be checked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Number of the schema's latest version.
    pub(crate) schema: u32,
    /// Of the definition; 0 for one that does not exist.
    pub(crate) revision: u64,
}

/// Checks settings. Costly: the schema is looked through. `before` is the definition as it is.
pub(crate) fn check(
    catalog: &Catalog,
    settings: DefinitionSettings,
    event_id: Arc<str>,
    before: Option<&EventDefinition>,
) -> Result<Checked, Error> {
    let spec = &settings.spec;
    check_bounds(&settings)?;
    check_shape(spec)?;
    let version = catalog.latest_schema(&spec.schema_id)?;
    let closure = catalog.closure(version)?;
    let root = &version.document;
    if !schema::is_time_series(root, &closure) {
        let message =
            format!("schema `{}` is not of events; wanted a time-series class", root.id());
        return Err(Error::Definition(vec![Invalid::new("event_definition.schema_id", message)]));
    }
    let class = schema::class_of(root, &closure);
    check_class(spec, class.as_deref())?;
    let primary = schema::primary_namespace(root, &closure);
    let primary = primary.as_deref();
    check_namespace(catalog, spec, primary)?;
    let fields = Fields::new(Arc::clone(root), &closure);
    let mut problems = Vec::new();
    if spec.kind == DefinitionKind::UnitarySystem {
        check_event_id_field(&fields, &mut problems);
    }
    for (index, path) in spec.fields.iter().enumerate() {
        if let Err(message) = find(&fields, path) {
            problems.push(Invalid::new(format!("event_definition.fields[{index}]"), message));
        }
    }
    let compiled = match compile(spec, &event_id, &fields, primary) {
        Ok(compiled) => Some(compiled),
        Err(found) => {
            problems.extend(found);
            None
        }
    };
    let Some(compiled) = compiled.filter(|_| problems.is_empty()) else {
        return Err(Error::Definition(problems));
    };
    let seen = Seen { schema: version.number, revision: before.map_or(0, |it| it.revision) };
    Ok(Checked { settings, event_id, compiled: Arc::new(compiled), seen })
}

/// The condition as it is evaluated.
pub(crate) fn condition_text(spec: &DefinitionSpec, event_id: &str) -> String {
    match spec.kind {
        DefinitionKind::UnitarySystem => format!("{EVENT_ID_PATH} == '{event_id}'"),
        DefinitionKind::UnitaryRule | DefinitionKind::Business => spec.condition.clone(),
    }
}

/// The texts of a definition, compiled; `primary` is the namespace of the schema's primary identity.
pub(crate) fn compile(
    spec: &DefinitionSpec,
    event_id: &str,
    fields: &Fields,
    primary: Option<&str>,
) -> Result<Compiled, Vec<Invalid>> {
    let mut problems = Vec::new();
    let mut tell = |field: &str, found: Problems| {
        let field = format!("event_definition.{field}");
        problems.extend(found.messages().map(|message| Invalid::new(field.clone(), message)));
    };
    let condition = condition_text(spec, event_id);
    let condition =
        Expression::condition(&condition, Some(fields)).map_err(|it| tell("condition", it)).ok();
    let key = match spec.key.as_str() {
        "" => None,
        text => Expression::key(text, Some(fields)).map_err(|it| tell("key", it)).ok(),
    };
    match condition {
        Some(condition) if problems.is_empty() => Ok(Compiled {
            condition,
            key,
            namespace: primary.unwrap_or_default().to_owned(),
            selection: Selection::new(&spec.fields, fields),
        }),
        _ => Err(problems),
    }
}

fn check_bounds(settings: &DefinitionSettings) -> Result<(), Error> {
    let text = |field: &str, text: &str, most: usize| {
        let found = text.len();
        (found > most).then(|| {
            let message = format!("{found} bytes; at most {most}");
            Invalid::new(format!("event_definition.{field}"), message)
        })
    };
    let count = |field: &str, found: usize, most: usize| {
        (found > most).then(|| {
            let message = format!("{found} entries; at most {most}");
            Invalid::new(format!("event_definition.{field}"), message)
        })
    };
    let DefinitionSettings { spec, display_name, description, labels, used_by } = settings;
    let mut problems: Vec<Invalid> = [
        text("display_name", display_name, DISPLAY_NAME_BYTES_MAX),
        text("description", description, DESCRIPTION_BYTES_MAX),
        count("labels", labels.len(), LABELS_MAX),
        count("used_by", used_by.len(), limits::EVENT_DEFINITION_USERS_MAX),
        count("fields", spec.fields.len(), limits::EVENT_DEFINITION_FIELDS_MAX),
    ]
    .into_iter()
    .flatten()
    .collect();
    for (key, value) in labels {
        let field = format!("labels[{key}]");
        problems.extend(text(&field, key, LABEL_BYTES_MAX));
        problems.extend(text(&field, value, LABEL_BYTES_MAX));
        if key.is_empty() {
            problems.push(Invalid::new("event_definition.labels", "a label with an empty key"));
        }
    }
    for (index, user) in used_by.iter().enumerate() {
        let field = format!("used_by[{index}]");
        problems.extend(text(&field, user, LABEL_BYTES_MAX));
        if user.is_empty() {
            problems.push(Invalid::new(format!("event_definition.{field}"), "empty"));
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(Error::Invalid(problems)) }
}

/// What fits together whatever the schema.
fn check_shape(spec: &DefinitionSpec) -> Result<(), Error> {
    let mut problems = Vec::new();
    let mut tell = |field: &str, message: String| {
        problems.push(Invalid::new(format!("event_definition.{field}"), message));
    };
    let is_system = spec.kind == DefinitionKind::UnitarySystem;
    if is_system && !spec.condition.is_empty() {
        tell("condition", "set with UNITARY_SYSTEM, which is known by its event id".into());
    } else if !is_system && spec.condition.is_empty() {
        tell("condition", "missing; `true` matches every event of the schema".into());
    }
    let longest = limits::COALESCING_SECONDS_MAX;
    if !spec.coalescing.is_zero() {
        if spec.kind != DefinitionKind::Business {
            tell("coalescing_window", "set with a unitary kind; only BUSINESS has one".into());
        } else if spec.coalescing.as_secs() > longest {
            tell("coalescing_window", format!("{:?}; at most {longest} s", spec.coalescing));
        }
    }
    if let (Some(start), Some(end)) = (spec.effective.start, spec.effective.end)
        && end <= start
    {
        tell("effective", format!("end {end} is not after start {start}"));
    }
    if problems.is_empty() { Ok(()) } else { Err(Error::Invalid(problems)) }
}

fn check_class(spec: &DefinitionSpec, class: Option<&str>) -> Result<(), Error> {
    let is_of_people = class.is_none_or(|it| it == EXPERIENCE_EVENT);
    let message = match (spec.kind, is_of_people) {
        (DefinitionKind::Business, _) if class == Some(EXPERIENCE_EVENT) => format!(
            "schema `{}` is of class `{EXPERIENCE_EVENT}`, whose events are about people; BUSINESS \
             wants another time-series class",
            spec.schema_id
        ),
        (DefinitionKind::UnitaryRule | DefinitionKind::UnitarySystem, false) => format!(
            "schema `{}` is of class `{}`; a unitary kind wants `{EXPERIENCE_EVENT}`",
            spec.schema_id,
            class.unwrap_or_default()
        ),
        _ => return Ok(()),
    };
    Err(Error::Definition(vec![Invalid::new("event_definition.schema_id", message)]))
}

fn check_namespace(
    catalog: &Catalog,
    spec: &DefinitionSpec,
    primary: Option<&str>,
) -> Result<(), Error> {
    let refused = |message: String| {
        Err(Error::Definition(vec![Invalid::new("event_definition.namespace", message)]))
    };
    let code = match (spec.namespace.as_str(), primary) {
        ("", None) if spec.kind == DefinitionKind::Business => {
            return refused(
                "missing; the schema marks no primary identity, and BUSINESS wants a namespace of \
                 type NON_PEOPLE"
                    .into(),
            );
        }
        ("", None) if !spec.key.is_empty() => {
            return refused(
                "missing beside `key`; the schema marks no primary identity to take it from".into(),
            );
        }
        ("", None) => return Ok(()),
        ("", Some(primary)) => primary,
        (code, _) => code,
    };
    // Events may have namespaces that nobody has created; definitions must know what they identify.
    let namespace = catalog.namespace(code)?;
    let is_person = namespace.settings.kind != NamespaceType::NonPeople;
    match (spec.kind, is_person) {
        (DefinitionKind::Business, true) => refused(format!(
            "`{code}` identifies people; BUSINESS wants a namespace of type NON_PEOPLE"
        )),
        (DefinitionKind::UnitaryRule | DefinitionKind::UnitarySystem, false) => refused(format!(
            "`{code}` is of type NON_PEOPLE; a unitary kind wants a namespace that identifies people"
        )),
        _ => Ok(()),
    }
}

fn check_event_id_field(fields: &Fields, problems: &mut Vec<Invalid>) {
    let found = find(fields, EVENT_ID_PATH);
    let is_text = found.is_ok_and(|it| {
        matches!(fields.type_of(&it), Some(FieldType::String | FieldType::Uri | FieldType::Enum))
    });
    if !is_text {
        let message = format!(
            "schema `{}` has no text at `{EVENT_ID_PATH}`, where events name the definition; include \
             a field group that has it",
            fields.schema_id()
        );
        problems.push(Invalid::new("event_definition.schema_id", message));
    }
}

/// The field at a path of names with dots; elements of lists need no sign.
pub(crate) fn find(fields: &Fields, path: &str) -> Result<Field, String> {
    let mut field = fields.root();
    for name in path.split('.') {
        while fields.type_of(&field) == Some(FieldType::Array) {
            field = fields.element(&field);
        }
        field = fields.member(&field, name).ok_or_else(|| {
            format!("`{path}`: `{name}` is no field of schema `{}`", fields.schema_id())
        })?;
    }
    Ok(field)
}

/// Whether a definition may become this: in the order of its life, and by additions alone while it is
/// used.
pub(crate) fn check_change(
    definition: &EventDefinition,
    next: &DefinitionSettings,
) -> Result<(), Error> {
    let (old, new) = (&definition.settings.spec, &next.spec);
    let was_in_force = definition.versions.iter().any(|it| it.spec.state != DefinitionState::Draft);
    let state = match (old.state, new.state) {
        (DefinitionState::Archived, _) if old != new => {
            Some("the definition is ARCHIVED, which is for ever; duplicate it".to_owned())
        }
        (_, DefinitionState::Draft) if was_in_force => {
            Some("DRAFT, after it was in force; wanted PAUSED".to_owned())
        }
        (DefinitionState::Draft, DefinitionState::Paused) => {
            Some("PAUSED, before it was in force; wanted LIVE".to_owned())
        }
        _ => None,
    };
    if let Some(message) = state {
        return Err(Error::Definition(vec![Invalid::new("event_definition.state", message)]));
    }
    if next.used_by.is_empty() {
        return Ok(());
    }
    let removes = !new.fields.is_empty()
        && (old.fields.is_empty() || old.fields.iter().any(|it| !new.fields.contains(it)));
    let changes = [
        ("condition", old.condition != new.condition),
        ("namespace", old.namespace != new.namespace),
        ("key", old.key != new.key),
        ("fields", removes),
        ("coalescing_window", old.coalescing != new.coalescing),
        ("state", new.state == DefinitionState::Archived && old.state != new.state),
    ];
    let refused: Vec<_> = changes.into_iter().filter(|it| it.1).map(|it| it.0).collect();
    if refused.is_empty() {
        return Ok(());
    }
    let name = definition.name.to_string();
    let what = format!("its {} cannot change then", refused.join(", "));
    Err(Error::DefinitionInUse { name, users: next.used_by.clone(), what })
}
