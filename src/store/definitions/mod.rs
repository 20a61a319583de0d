//! Event definitions: what a journey listens for.
//!
//! A definition has versions, each in force from a position on. Which definitions an event matches is
//! decided once, when it is appended, by the versions that are in force then, and stored with it.

mod backfill;
mod delivery;
mod inspect;
mod matchers;
mod preview;
mod record;
mod rules;
mod selection;
mod service;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use crate::{
    condition::Expression,
    model::{DefinitionName, Position, TimeRange, Timestamp},
    schema::Fields,
    store::{Error, Resource},
};

pub(crate) use backfill::Backfill;
pub use backfill::{BackfillProgress, Backfilling};
pub use delivery::{Discard, DiscardReason, Key};
pub use inspect::{
    Discarded, Explanation, History, Tested, Trial, TrialOutcome, TrialPlace, Tried,
};
pub(crate) use matchers::{Live, Matchers, Matches};
pub use preview::Preview;
pub(crate) use record::load;
pub(crate) use rules::Checked;
pub(crate) use selection::Selection;

/// An event definition.
#[derive(Clone, Debug)]
pub struct EventDefinition {
    /// Unique in the store; what events refer to.
    pub(crate) number: u32,
    /// Its name.
    pub name: DefinitionName,
    /// What its owner chose last.
    pub settings: DefinitionSettings,
    /// What events carry that name a definition of kind `UnitarySystem`; empty for the others.
    pub event_id: Arc<str>,
    /// Oldest first; at least one.
    pub(crate) versions: Vec<Arc<DefinitionVersion>>,
    /// What it matches of the time before it was in force.
    pub(crate) backfill: Option<Arc<Backfill>>,
    /// When it was created.
    pub create_time: Timestamp,
    /// When its settings last changed.
    pub update_time: Timestamp,
    pub(crate) revision: u64,
}

/// What a definition matched and delivered from one position to the next version's.
#[derive(Clone, Debug)]
pub struct DefinitionVersion {
    /// From 1, one more with each change of what is matched or delivered.
    pub version: u32,
    /// The first position that it decides about.
    pub effective_from: Position,
    /// Since when.
    pub time: Timestamp,
    /// What was chosen.
    pub spec: DefinitionSpec,
    /// `$id`'s version that the texts were checked against, by its number.
    pub(crate) schema: u32,
    /// `None` when the texts are not sound any more, which a newer server may find: it matches nothing.
    pub(crate) compiled: Option<Arc<Compiled>>,
}

/// A version's texts, ready to be evaluated.
#[derive(Debug)]
pub(crate) struct Compiled {
    pub(crate) condition: Expression,
    /// Paths, and the texts of which one must stand there for the condition to hold.
    pub(crate) anchors: BTreeMap<Vec<String>, BTreeSet<String>>,
    pub(crate) key: Option<Expression>,
    /// Of the schema's primary identity; empty when no field holds it.
    pub(crate) namespace: String,
    /// `None`: the whole event.
    pub(crate) selection: Option<Selection>,
}

/// What a definition's owner chooses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefinitionSettings {
    /// What decides matching and delivery.
    pub spec: DefinitionSpec,
    /// For people.
    pub display_name: String,
    /// For people.
    pub description: String,
    /// For machines.
    pub labels: BTreeMap<String, String>,
    /// Who relies on it, such as journeys.
    pub used_by: Vec<String>,
}

/// The part of the settings that makes a new version when it changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefinitionSpec {
    /// Never changes.
    pub kind: DefinitionKind,
    /// `$id` of the schema whose events it looks at; never changes.
    pub schema_id: Arc<str>,
    /// Text in the condition language; empty for `UnitarySystem`.
    pub condition: String,
    /// Code of the namespace of the key; empty: that of the primary identity.
    pub namespace: String,
    /// Text in the condition language that makes the key; empty: the identity's id.
    pub key: String,
    /// Paths of the fields that are delivered; none: all.
    pub fields: Vec<String>,
    /// Whether it matches.
    pub state: DefinitionState,
    /// The record times at which it matches.
    pub effective: TimeRange,
    /// Within which matches of the same key are taken for one; for `Business` alone. Zero: none.
    pub coalescing: Duration,
}

/// What a definition's events are about, and how they are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefinitionKind {
    /// About one person; known by a condition.
    UnitaryRule,
    /// About one person; the sender names the definition by its event id.
    UnitarySystem,
    /// Not about a person.
    Business,
}

/// Where a definition is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefinitionState {
    /// Not in force yet.
    Draft,
    /// In force.
    Live,
    /// Not in force for a while.
    Paused,
    /// Not in force any more, for ever.
    Archived,
}

/// What an update changes; `None` stays.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "the fields are those of the settings")]
pub struct DefinitionChanges {
    pub condition: Option<String>,
    pub namespace: Option<String>,
    pub key: Option<String>,
    pub fields: Option<Vec<String>>,
    pub state: Option<DefinitionState>,
    pub effective: Option<TimeRange>,
    pub coalescing: Option<Duration>,
    pub display_name: Option<String>,
    pub description: Option<String>,
    pub labels: Option<BTreeMap<String, String>>,
    pub used_by: Option<Vec<String>>,
}

impl EventDefinition {
    /// Changes with every change of the settings.
    #[must_use]
    pub fn etag(&self) -> String {
        format!("{:x}", self.revision)
    }

    /// All versions, oldest first; at least one.
    #[must_use]
    pub fn versions(&self) -> &[Arc<DefinitionVersion>] {
        &self.versions
    }

    /// What was matched of the time before it was in force: the version that decided, the last position that it
    /// decided about, and how many events matched.
    #[must_use]
    pub fn backfilled(&self) -> Option<(u32, Position, u64)> {
        self.backfill.as_ref().map(|it| (it.version, it.until, it.positions.len() as u64))
    }

    /// The version that decides about the next event.
    pub(crate) fn latest(&self) -> Result<&Arc<DefinitionVersion>, Error> {
        self.versions.last().ok_or(Error::Internal)
    }

    /// Why its texts are not true to a schema's fields; `None` when they are.
    pub(crate) fn problem_with(&self, fields: &Fields, primary: Option<&str>) -> Option<String> {
        let spec = &self.settings.spec;
        let missing = spec.fields.iter().find_map(|path| rules::find(fields, path).err());
        missing.or_else(|| {
            let problems = rules::compile(spec, &self.event_id, fields, primary).err()?;
            problems.first().map(|it| it.message.clone())
        })
    }

    /// Refuses a stale etag; `None` is not checked.
    pub(crate) fn check_etag(&self, found: Option<&str>) -> Result<(), Error> {
        let current = self.etag();
        match found {
            Some(found) if found != current => {
                let (name, found) = (self.name.to_string(), found.to_owned());
                Err(Error::Etag { kind: Resource::EventDefinition, name, current, found })
            }
            _ => Ok(()),
        }
    }
}

impl DefinitionVersion {
    /// The condition as it is evaluated: by its text, or by the event id.
    pub(crate) fn condition_text(&self, event_id: &str) -> String {
        rules::condition_text(&self.spec, event_id)
    }

    /// The same as if it were in force at any time.
    pub(crate) fn if_live(mut self) -> Self {
        self.spec.state = DefinitionState::Live;
        self.spec.effective = TimeRange::default();
        self
    }
}

impl DefinitionSettings {
    /// The same for another definition, which nobody uses yet.
    pub(crate) fn draft(&self) -> Self {
        let mut draft = self.clone();
        draft.spec.state = DefinitionState::Draft;
        draft.used_by.clear();
        draft
    }

    /// With an update's changes.
    pub(crate) fn with(&self, changes: DefinitionChanges) -> Self {
        let mut next = self.clone();
        let spec = &mut next.spec;
        put(&mut spec.condition, changes.condition);
        put(&mut spec.namespace, changes.namespace);
        put(&mut spec.key, changes.key);
        put(&mut spec.fields, changes.fields);
        put(&mut spec.state, changes.state);
        put(&mut spec.effective, changes.effective);
        put(&mut spec.coalescing, changes.coalescing);
        put(&mut next.display_name, changes.display_name);
        put(&mut next.description, changes.description);
        put(&mut next.labels, changes.labels);
        put(&mut next.used_by, changes.used_by);
        next
    }

    /// What differs from `other`, for people.
    pub(crate) fn difference(&self, other: &Self) -> String {
        let (a, b) = (&self.spec, &other.spec);
        let fields = [
            ("kind", a.kind != b.kind),
            ("schema_id", a.schema_id != b.schema_id),
            ("condition", a.condition != b.condition),
            ("namespace", a.namespace != b.namespace),
            ("key", a.key != b.key),
            ("fields", a.fields != b.fields),
            ("state", a.state != b.state),
            ("effective", a.effective != b.effective),
            ("coalescing_window", a.coalescing != b.coalescing),
            ("display_name", self.display_name != other.display_name),
            ("description", self.description != other.description),
            ("labels", self.labels != other.labels),
            ("used_by", self.used_by != other.used_by),
        ];
        let different: Vec<_> = fields.into_iter().filter(|it| it.1).map(|it| it.0).collect();
        format!("another {}", different.join(", "))
    }
}

fn put<T>(field: &mut T, change: Option<T>) {
    if let Some(change) = change {
        *field = change;
    }
}
