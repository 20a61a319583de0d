//! Event definitions, from the caller's side.

use std::sync::Arc;

use uuid::Uuid;

use crate::{
    model::DefinitionName,
    store::{
        DefinitionChanges, DefinitionKind, DefinitionSettings, DefinitionVersion, Error,
        EventDefinition, EventStore,
        catalog::Catalog,
        definitions::rules::{self, Checked},
        registry::{stoppable, unless},
    },
};

impl EventStore {
    /// Creates an event definition, or returns the one with the same settings.
    ///
    /// # Errors
    /// When it exists with other settings, or the settings are not sound.
    pub async fn create_event_definition(
        &self,
        name: DefinitionName,
        settings: DefinitionSettings,
        validate_only: bool,
    ) -> Result<Arc<EventDefinition>, Error> {
        if !validate_only {
            self.check_space()?;
        }
        let event_id: Arc<str> = match settings.spec.kind {
            DefinitionKind::UnitarySystem => Uuid::new_v4().simple().to_string().into(),
            DefinitionKind::UnitaryRule | DefinitionKind::Business => Arc::default(),
        };
        // A second round is rare: only when the schema changed meanwhile.
        loop {
            let (catalog, id) = (self.catalog(), Arc::clone(&event_id));
            let checked = self.check_definition(catalog, settings.clone(), id, None).await?;
            let name = name.clone();
            let created = self.change_at(move |catalog, now, next| {
                let change = catalog.create_event_definition(name, &checked, now, next)?;
                Ok(unless(validate_only, change))
            });
            if let Some(created) = created.await? {
                return Ok(created);
            }
        }
    }

    /// Creates a definition with the settings of another, as a draft that nobody uses.
    ///
    /// # Errors
    /// When the other does not exist, or this one does.
    pub async fn duplicate_event_definition(
        &self,
        name: &str,
        new_name: DefinitionName,
        validate_only: bool,
    ) -> Result<Arc<EventDefinition>, Error> {
        let settings = self.event_definition(name)?.settings.draft();
        self.create_event_definition(new_name, settings, validate_only).await
    }

    /// An event definition.
    ///
    /// # Errors
    /// When it does not exist.
    pub fn event_definition(&self, name: &str) -> Result<Arc<EventDefinition>, Error> {
        self.catalog().event_definition(name).cloned()
    }

    /// All event definitions, by name.
    #[must_use]
    pub fn event_definitions(&self) -> Vec<Arc<EventDefinition>> {
        self.catalog().event_definitions().cloned().collect()
    }

    /// Version of the schema that a definition's version was checked against; 0 when it is gone, which
    /// nothing allows.
    #[must_use]
    pub fn checked_against(&self, version: &DefinitionVersion) -> u32 {
        self.catalog().schema_by_number(version.schema).map_or(0, |it| it.version)
    }

    /// Changes an event definition.
    ///
    /// # Errors
    /// When it does not exist, has changed since, may not change so, or the settings are not sound.
    pub async fn update_event_definition(
        &self,
        name: String,
        etag: Option<String>,
        changes: DefinitionChanges,
        validate_only: bool,
    ) -> Result<Arc<EventDefinition>, Error> {
        loop {
            let catalog = self.catalog();
            let before = Arc::clone(catalog.event_definition(&name)?);
            before.check_etag(etag.as_deref())?;
            let settings = before.settings.with(changes.clone());
            rules::check_change(&before, &settings)?;
            let event_id = Arc::clone(&before.event_id);
            let checked = self.check_definition(catalog, settings, event_id, Some(&before)).await?;
            let updated = self.change_at(move |catalog, now, next| {
                let change = catalog.update_event_definition(&before, &checked, now, next)?;
                Ok(unless(validate_only, change))
            });
            if let Some(updated) = updated.await? {
                return Ok(updated);
            }
        }
    }

    /// Deletes an event definition. Events that matched it stay; that they did is not told any more.
    ///
    /// # Errors
    /// When it does not exist, has changed since, or is used.
    pub async fn delete_event_definition(
        &self,
        name: String,
        etag: Option<String>,
        validate_only: bool,
    ) -> Result<(), Error> {
        self.change(move |catalog, _now| {
            let change = catalog.delete_event_definition(&name, etag.as_deref())?;
            Ok(unless(validate_only, change))
        })
        .await
    }

    pub(super) async fn check_definition(
        &self,
        catalog: Arc<Catalog>,
        settings: DefinitionSettings,
        event_id: Arc<str>,
        before: Option<&Arc<EventDefinition>>,
    ) -> Result<Checked, Error> {
        let before = before.cloned();
        stoppable(move |_stop| rules::check(&catalog, settings, event_id, before.as_deref())).await
    }
}
