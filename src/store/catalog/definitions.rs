//! Event definitions in the catalog.

use std::sync::Arc;

use crate::{
    model::{DefinitionName, Position, Timestamp, limits},
    storage::{CatalogBatch, pb::EventDefinitionRecord},
    store::{
        Error, Resource,
        catalog::{Catalog, Change},
        definitions::{Backfill, Checked, DefinitionVersion, EventDefinition, Matchers},
    },
};

impl Catalog {
    /// An event definition, by its name.
    pub(crate) fn event_definition(&self, name: &str) -> Result<&Arc<EventDefinition>, Error> {
        let found = self.event_definitions.get(name);
        found.ok_or_else(|| Error::not_found(Resource::EventDefinition, name))
    }

    /// The definition that an event matched; `None` when it was deleted.
    pub(crate) fn event_definition_by_number(&self, number: u32) -> Option<&Arc<EventDefinition>> {
        self.event_definitions_by_number.get(&number)
    }

    /// All event definitions, by name.
    pub(crate) fn event_definitions(&self) -> impl Iterator<Item = &Arc<EventDefinition>> {
        self.event_definitions.values()
    }

    /// The definitions in force on a schema. The same allocation as long as none of them changes.
    pub(crate) fn matchers(&self, schema_id: &str) -> Option<&Arc<Matchers>> {
        self.matchers.get(schema_id)
    }

    /// Creates a definition, or returns the one with the same settings; `None` when it must be checked
    /// again. `next` is the first position that it decides about.
    pub(crate) fn create_event_definition(
        &self,
        name: DefinitionName,
        checked: &Checked,
        now: Timestamp,
        next: Position,
    ) -> Result<Change<Option<Arc<EventDefinition>>>, Error> {
        let settings = &checked.settings;
        if let Some(existing) = self.event_definitions.get(name.as_str()) {
            if existing.settings == *settings {
                return Ok(Change::Nothing(Some(Arc::clone(existing))));
            }
            let difference = existing.settings.difference(settings);
            let (kind, name) = (Resource::EventDefinition, name.to_string());
            return Err(Error::Exists { kind, name, difference });
        }
        if self.latest_schema(&settings.spec.schema_id)?.number != checked.seen.schema {
            return Ok(Change::Nothing(None));
        }
        let max = limits::EVENT_DEFINITIONS_MAX;
        if self.event_definitions.len() >= max {
            return Err(Error::Limit { what: "event definitions", max });
        }
        let definition = EventDefinition {
            number: self.last_event_definition + 1,
            name,
            settings: settings.clone(),
            event_id: Arc::clone(&checked.event_id),
            versions: vec![version(1, checked, now, next)],
            backfill: None,
            create_time: now,
            update_time: now,
            revision: 1,
        };
        Ok(self.with_event_definition(definition).map(Some))
    }

    /// Changes a definition that was seen as it is; `None` when it must be checked again.
    pub(crate) fn update_event_definition(
        &self,
        seen: &EventDefinition,
        checked: &Checked,
        now: Timestamp,
        next: Position,
    ) -> Result<Change<Option<Arc<EventDefinition>>>, Error> {
        let existing = self.event_definition(seen.name.as_str())?;
        let schema = self.latest_schema(&checked.settings.spec.schema_id)?.number;
        let same = (existing.number, existing.revision) == (seen.number, checked.seen.revision);
        if !same || schema != checked.seen.schema {
            return Ok(Change::Nothing(None));
        }
        if existing.settings == checked.settings {
            return Ok(Change::Nothing(Some(Arc::clone(existing))));
        }
        let mut definition = EventDefinition::clone(existing);
        let latest = existing.latest()?;
        if latest.spec != checked.settings.spec {
            let max = limits::EVENT_DEFINITION_VERSIONS_MAX;
            if definition.versions.len() >= max {
                return Err(Error::Limit { what: "versions of one event definition", max });
            }
            definition.versions.push(version(latest.version + 1, checked, now, next));
        }
        definition.settings = checked.settings.clone();
        definition.update_time = now;
        definition.revision += 1;
        Ok(self.with_event_definition(definition).map(Some))
    }

    /// Deletes a definition that nobody uses; its number stays taken.
    pub(crate) fn delete_event_definition(
        &self,
        name: &str,
        etag: Option<&str>,
    ) -> Result<Change<()>, Error> {
        let existing = self.event_definition(name)?;
        existing.check_etag(etag)?;
        let users = existing.settings.used_by.clone();
        if !users.is_empty() {
            let what = "it cannot be deleted then".to_owned();
            return Err(Error::DefinitionInUse { name: name.to_owned(), users, what });
        }
        let mut rows = CatalogBatch::default();
        for version in &existing.versions {
            rows.remove_event_definition(existing.number, version.version);
        }
        let backfill = existing.backfill.iter().flat_map(|it| it.records(existing.number));
        for record in backfill {
            rows.remove_backfill(record.definition, record.row);
        }
        rows.put_event_definition(&EventDefinitionRecord {
            number: existing.number,
            name: name.to_owned(),
            deleted: true,
            ..EventDefinitionRecord::default()
        });
        let mut next = self.clone();
        next.event_definitions.remove(name);
        next.event_definitions_by_number.remove(&existing.number);
        next.backfilled.retain(|it| it.number != existing.number);
        next.renew_matchers(&existing.settings.spec.schema_id);
        Ok(Change::Write { rows, next: Box::new(next), answer: () })
    }

    /// Keeps what a definition that was seen as it is matches of the time before it was in force.
    pub(crate) fn backfill_event_definition(
        &self,
        seen: &EventDefinition,
        backfill: Backfill,
        now: Timestamp,
    ) -> Result<Change<()>, Error> {
        let existing = self.event_definition(seen.name.as_str())?;
        if existing.number != seen.number {
            return Err(Error::not_found(Resource::EventDefinition, seen.name.as_str()));
        }
        existing.check_backfill()?;
        let records: Vec<_> = backfill.records(existing.number).collect();
        let mut definition = EventDefinition::clone(existing);
        definition.backfill = Some(Arc::new(backfill));
        definition.update_time = now;
        definition.revision += 1;
        let mut change = self.with_event_definition(definition).map(drop);
        if let Change::Write { rows, .. } = &mut change {
            for record in &records {
                rows.put_backfill(record);
            }
        }
        Ok(change)
    }

    /// The definitions that an event matches though it was stored before they were in force.
    pub(crate) fn backfilled_at(
        &self,
        position: Position,
    ) -> impl Iterator<Item = &Arc<EventDefinition>> {
        let contains = move |it: &Arc<Backfill>| it.contains(position);
        self.backfilled.iter().filter(move |it| it.backfill.as_ref().is_some_and(contains))
    }

    /// Writes the latest version, and no other: they never change.
    fn with_event_definition(&self, definition: EventDefinition) -> Change<Arc<EventDefinition>> {
        let mut rows = CatalogBatch::default();
        if let Some(latest) = definition.versions.last() {
            rows.put_event_definition(&definition.record(latest));
        }
        let mut next = self.clone();
        let schema_id = Arc::clone(&definition.settings.spec.schema_id);
        let definition = Arc::new(definition);
        next.insert_event_definition(Arc::clone(&definition));
        next.renew_matchers(&schema_id);
        Change::Write { rows, next: Box::new(next), answer: definition }
    }

    pub(super) fn insert_event_definition(&mut self, definition: Arc<EventDefinition>) {
        self.last_event_definition = self.last_event_definition.max(definition.number);
        self.backfilled.retain(|it| it.number != definition.number);
        if definition.backfill.is_some() {
            self.backfilled.push(Arc::clone(&definition));
        }
        self.event_definitions_by_number.insert(definition.number, Arc::clone(&definition));
        self.event_definitions.insert(definition.name.clone(), definition);
    }

    /// Makes what is in force on a schema anew.
    pub(super) fn renew_matchers(&mut self, schema_id: &Arc<str>) {
        let all = self.event_definitions.values().map(Arc::as_ref);
        let of_schema = all.filter(|it| it.settings.spec.schema_id == *schema_id);
        match Matchers::of(of_schema) {
            Some(matchers) => {
                self.matchers.insert(Arc::clone(schema_id), Arc::new(matchers));
            }
            None => drop(self.matchers.remove(schema_id)),
        }
    }
}

fn version(
    version: u32,
    checked: &Checked,
    time: Timestamp,
    effective_from: Position,
) -> Arc<DefinitionVersion> {
    Arc::new(DefinitionVersion {
        version,
        effective_from,
        time,
        spec: checked.settings.spec.clone(),
        schema: checked.seen.schema,
        compiled: Some(Arc::clone(&checked.compiled)),
    })
}
