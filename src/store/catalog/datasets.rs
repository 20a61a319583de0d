//! Datasets: events under one schema.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::{
    model::{DatasetName, OnInvalid, Position, Timestamp, limits},
    schema::{Form, UnknownFields},
    storage::{
        CatalogBatch, Floors,
        pb::{AdmissionRecord, DatasetRecord, RetentionRecord},
    },
    store::{
        Admission, AgeBy, Error, Policies, Resource, Retention,
        catalog::{Catalog, Change, check_etag, check_text, etag, micros},
    },
};

/// A dataset.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// Unique in the store; what events refer to.
    pub(crate) number: u32,
    /// Its name.
    pub name: DatasetName,
    /// What its owner chose.
    pub settings: DatasetSettings,
    /// When it was created.
    pub create_time: Timestamp,
    /// When its settings last changed.
    pub update_time: Timestamp,
    /// Position of the last event that it lost; `START`: none.
    pub floor: Position,
    pub(crate) revision: u64,
    pub(crate) deleted: bool,
}

/// What a dataset's owner chooses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DatasetSettings {
    /// `$id` of the schema; never changes.
    pub schema_id: Arc<str>,
    /// The version that judges events; 0 is the latest at each append.
    pub pinned_version: u32,
    /// Whether appends are refused.
    pub closed: bool,
    /// For people.
    pub description: String,
    /// For machines.
    pub labels: BTreeMap<String, String>,
    /// How long events are kept.
    pub retention: Retention,
    /// What appends must be like beside the schema.
    pub admission: Admission,
    /// For how long after it was stored an event is found by its id when it is sent again; `None`: as long as it is kept.
    pub dedupe_horizon: Option<Duration>,
    /// What becomes of invalid events.
    pub on_invalid: OnInvalid,
    /// What is made of payloads beside judging them.
    pub policies: Policies,
}

/// What an update changes; `None` stays.
#[derive(Clone, Debug, Default)]
pub struct DatasetChanges {
    /// 0 unpins.
    pub pinned_version: Option<u32>,
    /// Close or open.
    pub closed: Option<bool>,
    /// For people.
    pub description: Option<String>,
    /// For machines.
    pub labels: Option<BTreeMap<String, String>>,
    /// How long events are kept; as a whole.
    pub retention: Option<Retention>,
    /// Which times events may have.
    pub timestamps: Option<(Option<Duration>, Option<Duration>)>,
    /// Bounds of appends: bytes of an event, events of an append and in a second.
    pub limits: Option<(u32, u32, u32)>,
    /// For how long duplicates are found.
    pub dedupe_horizon: Option<Option<Duration>>,
    /// What becomes of invalid events.
    pub on_invalid: Option<OnInvalid>,
    /// Mend numbers as text and nulls.
    pub lenient: Option<bool>,
    /// What becomes of keys that the schema does not describe.
    pub unknown_fields: Option<UnknownFields>,
    /// How the names of payloads are spelt.
    pub payload_form: Option<Form>,
}

impl Dataset {
    /// Events stored before this are passed over when one with their id comes at `now`.
    pub(crate) fn known_since(&self, now: Timestamp) -> Option<Timestamp> {
        let horizon = i64::try_from(self.settings.dedupe_horizon?.as_micros()).ok()?;
        Some(Timestamp::from_micros(now.micros().saturating_sub(horizon)))
    }

    /// Changes with every change of the settings.
    #[must_use]
    pub fn etag(&self) -> String {
        etag(self.revision)
    }

    pub(super) fn load(record: DatasetRecord) -> Result<Self, Error> {
        let name = DatasetName::parse("name", &record.name).map_err(|error| {
            tracing::error!(%error, "stored dataset is damaged");
            Error::Corrupt
        })?;
        Ok(Self {
            number: record.number,
            name,
            settings: DatasetSettings {
                schema_id: record.schema_id.into(),
                pinned_version: record.pinned_version,
                closed: record.closed,
                description: record.description,
                labels: record.labels.into_iter().collect(),
                retention: record.retention.map(retention).unwrap_or_default(),
                admission: record.admission.map(admission).unwrap_or_default(),
                dedupe_horizon: Some(Duration::from_micros(record.dedupe_horizon_us))
                    .filter(|horizon| !horizon.is_zero()),
                on_invalid: match (record.tag, record.quarantine) {
                    (true, _) => OnInvalid::Tag,
                    (false, true) => OnInvalid::Quarantine,
                    (false, false) => OnInvalid::Reject,
                },
                policies: Policies {
                    unknown_fields: unknown_fields(record.unknown_fields)?,
                    payload_form: if record.long_payloads { Form::Long } else { Form::Wire },
                    lenient: record.lenient,
                },
            },
            create_time: micros(record.create_time_us),
            update_time: micros(record.update_time_us),
            floor: if record.deleted { Floors::DELETED } else { Position::new(record.floor) },
            revision: record.revision,
            deleted: record.deleted,
        })
    }

    fn record(&self) -> DatasetRecord {
        DatasetRecord {
            number: self.number,
            name: self.name.as_str().to_owned(),
            schema_id: self.settings.schema_id.to_string(),
            pinned_version: self.settings.pinned_version,
            closed: self.settings.closed,
            description: self.settings.description.clone(),
            labels: self.settings.labels.clone().into_iter().collect(),
            revision: self.revision,
            create_time_us: self.create_time.micros(),
            update_time_us: self.update_time.micros(),
            deleted: self.deleted,
            floor: self.floor.get(),
            retention: retention_record(&self.settings.retention),
            admission: admission_record(&self.settings.admission),
            dedupe_horizon_us: as_micros(self.settings.dedupe_horizon),
            quarantine: self.settings.on_invalid == OnInvalid::Quarantine,
            tag: self.settings.on_invalid == OnInvalid::Tag,
            lenient: self.settings.policies.lenient,
            unknown_fields: match self.settings.policies.unknown_fields {
                UnknownFields::AsSchema => 0,
                UnknownFields::Allow => 1,
                UnknownFields::Refuse => 2,
            },
            long_payloads: self.settings.policies.payload_form == Form::Long,
        }
    }
}

fn unknown_fields(number: u32) -> Result<UnknownFields, Error> {
    Ok(match number {
        0 => UnknownFields::AsSchema,
        1 => UnknownFields::Allow,
        2 => UnknownFields::Refuse,
        _ => {
            tracing::error!(number, "stored dataset has an unknown policy");
            return Err(Error::Corrupt);
        }
    })
}

fn retention(record: RetentionRecord) -> Retention {
    let max_age = Duration::new(record.max_age_seconds, record.max_age_nanos);
    Retention {
        max_age: Some(max_age).filter(|age| !age.is_zero()),
        age_by: if record.by_event_time { AgeBy::EventTime } else { AgeBy::RecordTime },
        max_events: record.max_events,
        max_bytes: record.max_bytes,
    }
}

/// `None` when there is no rule.
fn retention_record(retention: &Retention) -> Option<RetentionRecord> {
    let max_age = retention.max_age.unwrap_or_default();
    let record = RetentionRecord {
        max_age_seconds: max_age.as_secs(),
        max_age_nanos: max_age.subsec_nanos(),
        by_event_time: retention.age_by == AgeBy::EventTime,
        max_events: retention.max_events,
        max_bytes: retention.max_bytes,
    };
    (!retention.is_empty()).then_some(record)
}

fn admission(record: AdmissionRecord) -> Admission {
    let bound = |micros| Some(Duration::from_micros(micros)).filter(|it| !it.is_zero());
    Admission {
        max_age: bound(record.max_age_us),
        max_ahead: bound(record.max_ahead_us),
        max_event_bytes: record.max_event_bytes,
        max_batch_events: record.max_batch_events,
        max_events_per_second: record.max_events_per_second,
    }
}

/// `None` when there is no rule.
fn admission_record(admission: &Admission) -> Option<AdmissionRecord> {
    let record = AdmissionRecord {
        max_age_us: as_micros(admission.max_age),
        max_ahead_us: as_micros(admission.max_ahead),
        max_event_bytes: admission.max_event_bytes,
        max_batch_events: admission.max_batch_events,
        max_events_per_second: admission.max_events_per_second,
    };
    (!admission.is_empty()).then_some(record)
}

/// 0 for none.
fn as_micros(duration: Option<Duration>) -> u64 {
    u64::try_from(duration.unwrap_or_default().as_micros()).unwrap_or(u64::MAX)
}

/// Refuses a stale etag.
pub(crate) fn check_dataset_etag(dataset: &Dataset, etag: Option<&str>) -> Result<(), Error> {
    check_etag(Resource::Dataset, dataset.name.as_str(), dataset.revision, etag)
}

const DESCRIPTION_BYTES_MAX: usize = 1024;
const LABELS_MAX: usize = 64;
const LABEL_BYTES_MAX: usize = 256;

impl DatasetSettings {
    fn check(&self) -> Result<(), Error> {
        check_text("dataset.description", &self.description, DESCRIPTION_BYTES_MAX)?;
        self.retention.check()?;
        self.admission.check()?;
        let bounds = Duration::from_secs(limits::DEDUPE_HORIZON_SECONDS_MIN)
            ..=Duration::from_secs(limits::DEDUPE_HORIZON_SECONDS_MAX);
        if let Some(found) = self.dedupe_horizon.filter(|it| !bounds.contains(it)) {
            let (found, least, most) = (found.as_secs_f64(), bounds.start(), bounds.end());
            let (least, most) = (least.as_secs(), most.as_secs());
            let message = format!("{found} s; wanted {least} to {most} s");
            return Err(Error::invalid("dataset.dedupe_horizon", message));
        }
        if self.policies.lenient && self.policies.payload_form == Form::Long {
            return Err(Error::invalid("dataset.lenient", "set with `payload_form` LONG"));
        }
        if self.labels.len() > LABELS_MAX {
            let found = self.labels.len();
            return Err(Error::invalid(
                "dataset.labels",
                format!("{found} labels; at most {LABELS_MAX}"),
            ));
        }
        for (key, value) in &self.labels {
            let field = format!("dataset.labels[{key}]");
            if key.is_empty() {
                return Err(Error::invalid("dataset.labels", "a label with an empty key"));
            }
            check_text(&field, key, LABEL_BYTES_MAX)?;
            check_text(&field, value, LABEL_BYTES_MAX)?;
        }
        Ok(())
    }

    /// What differs from `other`, for people.
    fn difference(&self, other: &Self) -> String {
        let fields = [
            ("schema_id", self.schema_id != other.schema_id),
            ("schema_version", self.pinned_version != other.pinned_version),
            ("state", self.closed != other.closed),
            ("description", self.description != other.description),
            ("labels", self.labels != other.labels),
            ("retention", self.retention != other.retention),
            ("timestamps or limits", self.admission != other.admission),
            ("dedupe_horizon", self.dedupe_horizon != other.dedupe_horizon),
            ("on_invalid", self.on_invalid != other.on_invalid),
            ("unknown_fields", self.policies.unknown_fields != other.policies.unknown_fields),
            ("lenient", self.policies.lenient != other.policies.lenient),
            ("payload_form", self.policies.payload_form != other.policies.payload_form),
        ];
        let different: Vec<_> = fields.into_iter().filter(|it| it.1).map(|it| it.0).collect();
        format!("another {}", different.join(", "))
    }
}

impl Catalog {
    /// Creates a dataset, or returns the one with the same settings.
    pub(crate) fn create_dataset(
        &self,
        name: DatasetName,
        settings: DatasetSettings,
        now: Timestamp,
    ) -> Result<Change<Arc<Dataset>>, Error> {
        settings.check()?;
        self.schema(&settings.schema_id, settings.pinned_version)?;
        if let Some(existing) = self.datasets.get(&name) {
            if existing.settings == settings {
                return Ok(Change::Nothing(Arc::clone(existing)));
            }
            let difference = existing.settings.difference(&settings);
            let name = name.to_string();
            return Err(Error::Exists { kind: Resource::Dataset, name, difference });
        }
        if self.datasets_by_number.len() >= limits::DATASETS_MAX {
            return Err(Error::Limit { what: "datasets", max: limits::DATASETS_MAX });
        }
        let number = self.datasets_by_number.keys().max().map_or(1, |last| last + 1);
        let (create_time, update_time) = (now, now);
        let dataset = Dataset {
            number,
            name,
            settings,
            create_time,
            update_time,
            floor: Position::START,
            revision: 1,
            deleted: false,
        };
        Ok(self.with_dataset(dataset))
    }

    /// Changes a dataset's settings.
    pub(crate) fn update_dataset(
        &self,
        name: &str,
        etag: Option<&str>,
        changes: DatasetChanges,
        now: Timestamp,
    ) -> Result<Change<Arc<Dataset>>, Error> {
        let existing = self.dataset(name)?;
        check_dataset_etag(existing, etag)?;
        let mut settings = existing.settings.clone();
        if let Some(version) = changes.pinned_version {
            self.schema(&settings.schema_id, version)?;
            settings.pinned_version = version;
        }
        settings.closed = changes.closed.unwrap_or(settings.closed);
        settings.description = changes.description.unwrap_or(settings.description);
        settings.labels = changes.labels.unwrap_or(settings.labels);
        settings.retention = changes.retention.unwrap_or(settings.retention);
        settings.dedupe_horizon = changes.dedupe_horizon.unwrap_or(settings.dedupe_horizon);
        settings.on_invalid = changes.on_invalid.unwrap_or(settings.on_invalid);
        let admission = &mut settings.admission;
        if let Some((max_age, max_ahead)) = changes.timestamps {
            (admission.max_age, admission.max_ahead) = (max_age, max_ahead);
        }
        if let Some((event_bytes, batch_events, per_second)) = changes.limits {
            admission.max_event_bytes = event_bytes;
            admission.max_batch_events = batch_events;
            admission.max_events_per_second = per_second;
        }
        let policies = &mut settings.policies;
        policies.unknown_fields = changes.unknown_fields.unwrap_or(policies.unknown_fields);
        policies.payload_form = changes.payload_form.unwrap_or(policies.payload_form);
        policies.lenient = changes.lenient.unwrap_or(policies.lenient);
        settings.check()?;
        if settings == existing.settings {
            return Ok(Change::Nothing(Arc::clone(existing)));
        }
        let mut dataset = Dataset::clone(existing);
        dataset.settings = settings;
        dataset.update_time = now;
        dataset.revision += 1;
        Ok(self.with_dataset(dataset))
    }

    /// Deletes a dataset, and with it its events, if any.
    pub(crate) fn delete_dataset(
        &self,
        name: &str,
        etag: Option<&str>,
        events: u64,
        force: bool,
    ) -> Result<Change<Arc<Dataset>>, Error> {
        let existing = self.dataset(name)?;
        check_dataset_etag(existing, etag)?;
        if events > 0 && !force {
            return Err(Error::NotEmpty { name: name.to_owned(), events });
        }
        let mut dataset = Dataset::clone(existing);
        dataset.deleted = true;
        dataset.floor = Floors::DELETED;
        dataset.revision += 1;
        Ok(self.with_dataset(dataset))
    }

    /// Raises a dataset's floor to the position of the last event that goes; `None` when the dataset
    /// or its floor is not the one seen any more. Its etag stays: a floor is no setting.
    pub(crate) fn trim_dataset(
        &self,
        seen: &Dataset,
        etag: Option<&str>,
        floor: Position,
    ) -> Result<Change<Option<Arc<Dataset>>>, Error> {
        let existing = self.dataset(seen.name.as_str())?;
        check_dataset_etag(existing, etag)?;
        if (existing.number, existing.floor) != (seen.number, seen.floor) {
            return Ok(Change::Nothing(None));
        }
        let mut dataset = Dataset::clone(existing);
        dataset.floor = floor.max(existing.floor);
        Ok(self.with_dataset(dataset).map(Some))
    }

    /// Raises floors in one write. A dataset that is further already, or keeps its events by other
    /// rules than when it was seen, stays.
    pub(crate) fn raise_floors(&self, floors: &[(Arc<Dataset>, Position)]) -> Change<()> {
        let mut rows = CatalogBatch::default();
        let mut next = self.clone();
        let mut changed = false;
        for (seen, floor) in floors {
            let Some(existing) = self.dataset_by_number(seen.number) else { continue };
            let same_rules = existing.settings.retention == seen.settings.retention;
            if *floor <= existing.floor || !same_rules {
                continue;
            }
            let dataset = Arc::new(Dataset { floor: *floor, ..Dataset::clone(existing) });
            rows.put_dataset(&dataset.record());
            next.insert_dataset(dataset);
            changed = true;
        }
        if changed {
            Change::Write { rows, next: Box::new(next), answer: () }
        } else {
            Change::Nothing(())
        }
    }

    fn with_dataset(&self, dataset: Dataset) -> Change<Arc<Dataset>> {
        let dataset = Arc::new(dataset);
        let mut rows = CatalogBatch::default();
        rows.put_dataset(&dataset.record());
        let mut next = self.clone();
        next.insert_dataset(Arc::clone(&dataset));
        Change::Write { rows, next: Box::new(next), answer: dataset }
    }
}

#[cfg(test)]
mod tests;
