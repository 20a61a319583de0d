//! The catalog's rows: schema documents, datasets, namespaces.

use prost::Message;

use crate::storage::{
    StorageError,
    pb::{DatasetRecord, NamespaceRecord, SchemaRecord},
};

/// First byte of a catalog key.
mod kind {
    pub(super) const SCHEMA: u8 = 1;
    pub(super) const DATASET: u8 = 2;
    pub(super) const NAMESPACE: u8 = 3;
}

/// One change of the catalog, written whole or not at all.
#[derive(Clone, Debug, Default)]
pub(crate) struct CatalogBatch {
    rows: sled::Batch,
}

impl CatalogBatch {
    /// `[1][number: u32] -> SchemaRecord`
    pub(crate) fn put_schema(&mut self, record: &SchemaRecord) {
        self.rows.insert(numbered(kind::SCHEMA, record.number), record.encode_to_vec());
    }

    /// `[2][number: u32] -> DatasetRecord`
    pub(crate) fn put_dataset(&mut self, record: &DatasetRecord) {
        self.rows.insert(numbered(kind::DATASET, record.number), record.encode_to_vec());
    }

    /// `[3][code] -> NamespaceRecord`
    pub(crate) fn put_namespace(&mut self, record: &NamespaceRecord) {
        let mut key = vec![kind::NAMESPACE];
        key.extend_from_slice(record.code.as_bytes());
        self.rows.insert(key, record.encode_to_vec());
    }
}

fn numbered(kind: u8, number: u32) -> Vec<u8> {
    let mut key = vec![kind];
    key.extend_from_slice(&number.to_be_bytes());
    key
}

/// Everything that the catalog's tree holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct CatalogRecords {
    pub(crate) schemas: Vec<SchemaRecord>,
    pub(crate) datasets: Vec<DatasetRecord>,
    pub(crate) namespaces: Vec<NamespaceRecord>,
}

/// Writes a change; durable only after the disk is synced.
pub(crate) fn write(tree: &sled::Tree, batch: CatalogBatch) -> Result<(), StorageError> {
    Ok(tree.apply_batch(batch.rows)?)
}

/// Reads the whole catalog.
pub(crate) fn read(tree: &sled::Tree) -> Result<CatalogRecords, StorageError> {
    let mut records = CatalogRecords::default();
    for row in tree {
        let (key, value) = row?;
        decode(&key, &value, &mut records)?;
    }
    Ok(records)
}

/// Decodes one row.
pub(crate) fn decode(
    key: &[u8],
    value: &[u8],
    records: &mut CatalogRecords,
) -> Result<(), StorageError> {
    let bad = |error| StorageError::corrupt(format!("catalog row {key:?}: {error}"));
    match key.first() {
        Some(&kind::SCHEMA) => records.schemas.push(SchemaRecord::decode(value).map_err(bad)?),
        Some(&kind::DATASET) => records.datasets.push(DatasetRecord::decode(value).map_err(bad)?),
        Some(&kind::NAMESPACE) => {
            records.namespaces.push(NamespaceRecord::decode(value).map_err(bad)?);
        }
        _ => return Err(StorageError::corrupt(format!("catalog row {key:?} of no kind"))),
    }
    Ok(())
}
