//! Datasets and namespaces, from the caller's side.

use std::sync::Arc;

use crate::{
    model::{DatasetName, Tagged},
    store::{
        Dataset, DatasetChanges, DatasetSettings, DatasetStats, Error, EventStore, Namespace,
        NamespaceChanges, NamespaceSettings, blocking, registry::unless,
    },
};

impl EventStore {
    /// Creates a dataset, or returns the one with the same settings.
    ///
    /// # Errors
    /// When it exists with other settings, or the settings are not sound.
    pub async fn create_dataset(
        &self,
        name: DatasetName,
        mut settings: DatasetSettings,
        pin_latest: bool,
        validate_only: bool,
    ) -> Result<Arc<Dataset>, Error> {
        if !validate_only {
            self.check_space()?;
        }
        self.change(move |catalog, now| {
            if pin_latest {
                settings.pinned_version = catalog.latest_schema(&settings.schema_id)?.version;
            }
            let change = catalog.create_dataset(name, settings, now)?;
            Ok(unless(validate_only, change))
        })
        .await
    }

    /// A dataset.
    ///
    /// # Errors
    /// When it does not exist.
    pub fn dataset(&self, name: &str) -> Result<Arc<Dataset>, Error> {
        self.catalog().dataset(name).cloned()
    }

    /// All datasets, by name.
    #[must_use]
    pub fn datasets(&self) -> Vec<Arc<Dataset>> {
        self.catalog().datasets().cloned().collect()
    }

    /// The version of its schema that judges a dataset's next event.
    ///
    /// # Errors
    /// When the schema is gone, which nothing allows.
    pub fn version_in_force(&self, dataset: &Dataset) -> Result<u32, Error> {
        Ok(self.catalog().judge(dataset)?.version)
    }

    /// What a dataset holds, as of the floor that it was read with.
    ///
    /// # Errors
    /// When stored data cannot be read.
    pub async fn dataset_stats(&self, dataset: &Dataset) -> Result<DatasetStats, Error> {
        let storage = Arc::clone(&self.inner.storage);
        let (number, floor) = (dataset.number, dataset.floor);
        let held = move |tagged| storage.held(number, tagged, floor);
        let (valid, tagged) =
            blocking(move || Ok((held(Tagged::LeftOut)?, held(Tagged::Only)?))).await?;
        Ok(DatasetStats {
            quarantined: self.quarantined_count(number).await?,
            tagged: tagged.events,
            events: valid.events,
            first: valid.first,
            last: valid.last,
            payload_bytes: valid.payload_bytes + tagged.payload_bytes,
        })
    }

    /// Changes a dataset's settings.
    ///
    /// # Errors
    /// When it does not exist, has changed since, or the settings are not sound.
    pub async fn update_dataset(
        &self,
        name: String,
        etag: Option<String>,
        changes: DatasetChanges,
        validate_only: bool,
    ) -> Result<Arc<Dataset>, Error> {
        self.change(move |catalog, now| {
            let change = catalog.update_dataset(&name, etag.as_deref(), changes, now)?;
            Ok(unless(validate_only, change))
        })
        .await
    }

    /// Deletes a dataset, with its events if `force`.
    ///
    /// # Errors
    /// When it does not exist, has changed since, or holds events.
    pub async fn delete_dataset(
        &self,
        name: String,
        etag: Option<String>,
        force: bool,
        validate_only: bool,
    ) -> Result<(), Error> {
        let storage = Arc::clone(&self.inner.storage);
        let deleted = self.change(move |catalog, _now| {
            let dataset = catalog.dataset(&name)?;
            let events = storage.held_events(dataset.number, Tagged::Included, dataset.floor)?;
            let change = catalog.delete_dataset(&name, etag.as_deref(), events, force)?;
            Ok(unless(validate_only, change))
        });
        let deleted = deleted.await?;
        if !validate_only {
            // A crash in between leaves what nobody sees any more, until its age ends it.
            self.forget_quarantined(deleted.number).await?;
        }
        Ok(())
    }

    /// Creates a namespace, or returns the one with the same settings.
    ///
    /// # Errors
    /// When it exists with other settings, or the settings are not sound.
    pub async fn create_namespace(
        &self,
        code: String,
        settings: NamespaceSettings,
        validate_only: bool,
    ) -> Result<Arc<Namespace>, Error> {
        if !validate_only {
            self.check_space()?;
        }
        self.change(move |catalog, now| {
            Ok(unless(validate_only, catalog.create_namespace(&code, settings, now)?))
        })
        .await
    }

    /// A namespace.
    ///
    /// # Errors
    /// When it does not exist.
    pub fn namespace(&self, code: &str) -> Result<Arc<Namespace>, Error> {
        self.catalog().namespace(code).cloned()
    }

    /// All namespaces, by code.
    #[must_use]
    pub fn namespaces(&self) -> Vec<Arc<Namespace>> {
        self.catalog().namespaces().cloned().collect()
    }

    /// Changes a custom namespace.
    ///
    /// # Errors
    /// When it does not exist, is built in, has changed since, or the settings are not sound.
    pub async fn update_namespace(
        &self,
        code: String,
        etag: Option<String>,
        changes: NamespaceChanges,
        validate_only: bool,
    ) -> Result<Arc<Namespace>, Error> {
        self.change(move |catalog, now| {
            let change = catalog.update_namespace(&code, etag.as_deref(), changes, now)?;
            Ok(unless(validate_only, change))
        })
        .await
    }
}
