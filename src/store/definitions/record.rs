//! Event definitions as they are stored.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use crate::{
    model::{DefinitionName, Position, TimeRange, Timestamp},
    schema::{self, Fields},
    storage::pb::EventDefinitionRecord,
    store::{
        Error,
        catalog::Catalog,
        definitions::{
            Compiled, DefinitionKind, DefinitionSettings, DefinitionSpec, DefinitionState,
            DefinitionVersion, EventDefinition, rules,
        },
    },
};

impl DefinitionKind {
    const fn number(self) -> u32 {
        match self {
            Self::UnitaryRule => 1,
            Self::UnitarySystem => 2,
            Self::Business => 3,
        }
    }

    const fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            1 => Self::UnitaryRule,
            2 => Self::UnitarySystem,
            3 => Self::Business,
            _ => return None,
        })
    }
}

impl DefinitionState {
    const fn number(self) -> u32 {
        match self {
            Self::Draft => 1,
            Self::Live => 2,
            Self::Paused => 3,
            Self::Archived => 4,
        }
    }

    const fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            1 => Self::Draft,
            2 => Self::Live,
            3 => Self::Paused,
            4 => Self::Archived,
            _ => return None,
        })
    }
}

impl EventDefinition {
    /// The row of one of its versions.
    pub(crate) fn record(&self, version: &DefinitionVersion) -> EventDefinitionRecord {
        let DefinitionSettings { display_name, description, labels, used_by, .. } = &self.settings;
        let spec = version.spec.clone();
        EventDefinitionRecord {
            number: self.number,
            version: version.version,
            name: self.name.to_string(),
            kind: spec.kind.number(),
            schema_id: spec.schema_id.to_string(),
            schema: version.schema,
            condition: spec.condition,
            namespace: spec.namespace,
            key: spec.key,
            fields: spec.fields,
            state: spec.state.number(),
            effective_start_us: spec.effective.start.map(Timestamp::micros),
            effective_end_us: spec.effective.end.map(Timestamp::micros),
            event_id: self.event_id.to_string(),
            coalescing_us: u64::try_from(spec.coalescing.as_micros()).unwrap_or(u64::MAX),
            effective_from: version.effective_from.get(),
            version_time_us: version.time.micros(),
            display_name: display_name.clone(),
            description: description.clone(),
            labels: labels.clone().into_iter().collect(),
            used_by: used_by.clone(),
            revision: self.revision,
            create_time_us: self.create_time.micros(),
            update_time_us: self.update_time.micros(),
            deleted: false,
        }
    }
}

/// Definitions out of their rows, which come by number and version; the highest number of all.
pub(crate) fn load(
    catalog: &Catalog,
    records: Vec<EventDefinitionRecord>,
) -> Result<(Vec<EventDefinition>, u32), Error> {
    let mut definitions: BTreeMap<u32, EventDefinition> = BTreeMap::new();
    let (mut fields, mut last) = (FieldsByNumber::new(), 0);
    for record in records {
        last = last.max(record.number);
        if record.deleted {
            definitions.remove(&record.number);
            continue;
        }
        let name = record.name.clone();
        let number = record.number;
        let earlier = definitions.remove(&number);
        let read = read(catalog, record, earlier, &mut fields).ok_or_else(|| {
            tracing::error!(name, "stored event definition is damaged");
            Error::Corrupt
        })?;
        definitions.insert(number, read);
    }
    Ok((definitions.into_values().collect(), last))
}

/// The fields of a schema version, and the namespace of its primary identity.
type FieldsByNumber = HashMap<u32, Option<(Arc<Fields>, Option<String>)>>;

fn read(
    catalog: &Catalog,
    record: EventDefinitionRecord,
    earlier: Option<EventDefinition>,
    fields: &mut FieldsByNumber,
) -> Option<EventDefinition> {
    let time = Timestamp::from_micros;
    let spec = DefinitionSpec {
        kind: DefinitionKind::from_number(record.kind)?,
        schema_id: record.schema_id.into(),
        condition: record.condition,
        namespace: record.namespace,
        key: record.key,
        fields: record.fields,
        state: DefinitionState::from_number(record.state)?,
        effective: TimeRange {
            start: record.effective_start_us.map(time),
            end: record.effective_end_us.map(time),
        },
        coalescing: Duration::from_micros(record.coalescing_us),
    };
    let event_id: Arc<str> = record.event_id.into();
    let of_schema = fields.entry(record.schema).or_insert_with(|| {
        let version = catalog.schema_by_number(record.schema)?;
        let closure = catalog.closure(version).ok()?;
        let primary = schema::primary_namespace(&version.document, &closure);
        Some((Arc::new(Fields::new(Arc::clone(&version.document), &closure)), primary))
    });
    let compiled = match of_schema {
        Some((fields, primary)) => {
            compile(&record.name, &spec, &event_id, fields, primary.as_deref())
        }
        None => None,
    };
    let mut versions = earlier.map(|it| it.versions).unwrap_or_default();
    versions.push(Arc::new(DefinitionVersion {
        version: record.version,
        effective_from: Position::new(record.effective_from),
        time: time(record.version_time_us),
        spec: spec.clone(),
        schema: record.schema,
        compiled,
    }));
    Some(EventDefinition {
        number: record.number,
        name: DefinitionName::parse("name", &record.name).ok()?,
        settings: DefinitionSettings {
            spec,
            display_name: record.display_name,
            description: record.description,
            labels: record.labels.into_iter().collect(),
            used_by: record.used_by,
        },
        event_id,
        versions,
        backfill: None,
        create_time: time(record.create_time_us),
        update_time: time(record.update_time_us),
        revision: record.revision,
    })
}

/// What is not sound any more must not keep a store from opening.
fn compile(
    name: &str,
    spec: &DefinitionSpec,
    event_id: &str,
    fields: &Fields,
    primary: Option<&str>,
) -> Option<Arc<Compiled>> {
    match rules::compile(spec, event_id, fields, primary) {
        Ok(compiled) => Some(Arc::new(compiled)),
        Err(problems) => {
            tracing::error!(name, ?problems, "event definition is not sound any more");
            None
        }
    }
}
