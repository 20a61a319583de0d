//! What a listener gets of an event, or why it does not get it.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    model::{
        Delivery, Identity, Position, RecordedEvent, Timestamp,
        json::{Document, Node},
        limits,
    },
    store::{
        NamespaceType,
        catalog::Catalog,
        definitions::{DefinitionKind, DefinitionState, DefinitionVersion, EventDefinition},
        digest::payload_digest,
    },
};

/// What becomes of an event by one version of a definition.
#[derive(Clone, Debug)]
pub(crate) enum Fate {
    /// Its condition does not hold.
    NoMatch,
    /// Its condition holds; listeners do not get it all the same.
    Discarded(Discard),
    /// Listeners get it.
    Delivered(Key),
}

/// Whom an event is about, by a definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Namespace code.
    pub namespace: String,
    /// Value within the namespace.
    pub id: String,
}

/// Why listeners do not get an event of which the condition holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discard {
    /// The code.
    pub reason: DiscardReason,
    /// For people.
    pub message: String,
}

/// The codes of discards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiscardReason {
    /// The definition was not LIVE when the event was stored.
    NotLive,
    /// The event was stored outside the definition's interval.
    OutsideInterval,
    /// The event does not say whom it is about.
    KeyNotComputed,
}

/// An event as definitions see it.
pub(crate) struct Seen<'a> {
    pub(crate) event: Node<'a>,
    pub(crate) identities: &'a [Identity],
    pub(crate) record_time: Timestamp,
}

impl EventDefinition {
    /// The version that decides about a position; `None` before the definition was created, unless it was
    /// back-filled.
    pub(crate) fn version_at(&self, position: Position) -> Option<&Arc<DefinitionVersion>> {
        if let Some(backfill) = self.backfill.as_ref().filter(|it| position <= it.until) {
            return self.versions.iter().find(|it| it.version == backfill.version);
        }
        self.versions.iter().rev().find(|it| it.effective_from <= position)
    }

    /// A matched event as this definition delivers it; `None` when it discards it.
    pub(crate) fn deliver(
        &self,
        catalog: &Catalog,
        mut event: RecordedEvent,
    ) -> Option<RecordedEvent> {
        let version = self.version_at(event.position)?;
        let document = Document::parse(str::from_utf8(&event.payload).ok()?).ok()?;
        let seen = Seen {
            event: document.root(),
            identities: &event.identities,
            record_time: event.record_time,
        };
        let Fate::Delivered(key) = version.fate(catalog, &seen) else { return None };
        let payload = version.project(document.root());
        event.delivery = Some(Delivery {
            event_definition: self.name.shared(),
            version: version.version,
            namespace: key.namespace,
            key: key.id,
            stored_digest: payload_digest(&event.payload),
        });
        if let Some(payload) = payload {
            event.payload = payload;
        }
        Some(event)
    }
}

impl DefinitionVersion {
    /// What becomes of an event.
    pub(crate) fn fate(&self, catalog: &Catalog, seen: &Seen<'_>) -> Fate {
        let Some(compiled) = &self.compiled else { return Fate::NoMatch };
        let holds = compiled.condition.holds(seen.event, seen.record_time).is_ok_and(|it| it);
        if !holds {
            return Fate::NoMatch;
        }
        let state = match self.spec.state {
            DefinitionState::Live => None,
            DefinitionState::Draft => Some("DRAFT"),
            DefinitionState::Paused => Some("PAUSED"),
            DefinitionState::Archived => Some("ARCHIVED"),
        };
        let discarded = |reason, message| Fate::Discarded(Discard { reason, message });
        if let Some(state) = state {
            let message = format!("the definition was {state}");
            return discarded(DiscardReason::NotLive, message);
        }
        if !self.spec.effective.contains(seen.record_time) {
            let message = format!("stored at {}, outside the interval", seen.record_time);
            return discarded(DiscardReason::OutsideInterval, message);
        }
        match self.key(catalog, seen) {
            Ok(key) => Fate::Delivered(key),
            Err(message) => discarded(DiscardReason::KeyNotComputed, message),
        }
    }

    /// Whom an event is about.
    pub(crate) fn key(&self, catalog: &Catalog, seen: &Seen<'_>) -> Result<Key, String> {
        let compiled = self.compiled.as_ref().ok_or("the definition is not sound any more")?;
        let namespace = self.spec.namespace.as_str();
        let Some(expression) = &compiled.key else {
            let of_namespace = || seen.identities.iter().filter(|it| it.namespace == namespace);
            let found = match namespace {
                "" => seen.identities.iter().find(|it| it.primary),
                _ => of_namespace().find(|it| it.primary).or_else(|| of_namespace().next()),
            };
            let Some(found) = found else {
                return Err(match namespace {
                    "" => "the event has no primary identity".to_owned(),
                    _ => format!("the event has no identity of namespace `{namespace}`"),
                });
            };
            self.check_namespace(catalog, &found.namespace)?;
            return Ok(Key { namespace: found.namespace.to_string(), id: found.id.to_string() });
        };
        let id = expression
            .key_of(seen.event, seen.record_time)
            .map_err(|fault| format!("`{}`: {}", self.spec.key, fault.describe()))?;
        let most = limits::IDENTITY_ID_BYTES_MAX;
        if id.is_empty() || id.len() > most {
            let found = id.len();
            return Err(format!("`{}` has {found} bytes; wanted 1 to {most}", self.spec.key));
        }
        let namespace = if namespace.is_empty() { &compiled.namespace } else { namespace };
        Ok(Key { namespace: namespace.to_owned(), id })
    }

    /// Events choose the namespace of their primary identity themselves.
    fn check_namespace(&self, catalog: &Catalog, code: &str) -> Result<(), String> {
        let kind = catalog.namespace(code).ok().map(|it| it.settings.kind);
        let is_thing = kind == Some(NamespaceType::NonPeople);
        match (self.spec.kind, is_thing) {
            (DefinitionKind::UnitaryRule | DefinitionKind::UnitarySystem, true) => {
                Err(format!("the identity is of namespace `{code}`, which identifies no person"))
            }
            (DefinitionKind::Business, false) => {
                Err(format!("the identity is of namespace `{code}`, which is not NON_PEOPLE"))
            }
            _ => Ok(()),
        }
    }

    /// The fields of an event that are delivered; `None`: all, as they were sent.
    pub(crate) fn project(&self, event: Node<'_>) -> Option<Bytes> {
        let selection = self.compiled.as_ref()?.selection.as_ref()?;
        Some(selection.of(event).to_string().into())
    }
}
