//! Checking what is stored, and saving what is sound of it.

use std::{ops::ControlFlow, path::Path, sync::Arc};

use tokio::sync::mpsc;

use crate::{
    model::Timestamp,
    storage::{
        self, MakeUp, Salvaged, StorageError, Verified, VerifyNews,
        pb::{DatasetRecord, SchemaRecord},
    },
    store::{Error, EventStore, blocking},
};

impl EventStore {
    /// Checks everything that is stored. Sends its news until it is done or nobody listens any more;
    /// what is wrong is news, not an error.
    ///
    /// # Errors
    /// When the store is closing, or the journal's directory cannot be read.
    pub async fn verify(&self, news: mpsc::Sender<VerifyNews>) -> Result<Verified, Error> {
        self.check_open()?;
        let storage = Arc::clone(&self.inner.storage);
        blocking(move || {
            Ok(storage.verify(&mut |item| match news.blocking_send(item) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_gone) => ControlFlow::Break(()),
            })?)
        })
        .await
    }
}

/// Checks everything in a data directory that no server has open, and changes nothing in it. Makes
/// copies of one database at a time in `scratch`, which it creates and removes.
///
/// # Errors
/// When the directory is in use or not a data directory of this format, or `scratch` cannot be
/// written.
pub fn verify_directory(
    path: &Path,
    scratch: &Path,
    tell: &mut dyn FnMut(VerifyNews) -> ControlFlow<()>,
) -> Result<Verified, StorageError> {
    storage::verify_directory(path, scratch, tell)
}

/// Copies what is sound in a damaged data directory into `target`, a new one, and tells what is lost.
/// Changes nothing in the damaged one.
///
/// # Errors
/// When the directory is in use or not a data directory of this format, or `target` is not empty or
/// cannot be written.
pub fn salvage(
    path: &Path,
    target: &Path,
    tell: &mut dyn FnMut(VerifyNews) -> ControlFlow<()>,
) -> Result<Salvaged, StorageError> {
    storage::salvage(
        path,
        target,
        MakeUp { schema: made_up_schema, dataset: made_up_dataset },
        tell,
    )
}

/// Stands for a schema version that is lost: everything satisfies it.
fn made_up_schema(number: u32) -> SchemaRecord {
    let id = format!("https://milepost.invalid/salvaged/schema-{number}");
    SchemaRecord {
        number,
        version: 1,
        document: format!(r#"{{"$id":"{id}"}}"#),
        id,
        ..SchemaRecord::default()
    }
}

/// Stands for a dataset that is lost; closed, so that nothing is added to it unnoticed.
fn made_up_dataset(number: u32, schema_id: String) -> DatasetRecord {
    let time_us = Timestamp::default().micros();
    DatasetRecord {
        number,
        name: format!("salvaged-{number}"),
        schema_id,
        closed: true,
        description: "made up for events whose dataset was lost".to_owned(),
        revision: 1,
        create_time_us: time_us,
        update_time_us: time_us,
        ..DatasetRecord::default()
    }
}
