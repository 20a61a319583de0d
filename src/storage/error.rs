//! What can go wrong between the store and the disk.

use std::{io, path::PathBuf};

/// A fault of the disk, of what is on it, or of how it is used.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The embedded store reported a fault.
    #[error("embedded store: {0}")]
    Engine(sled::Error),
    /// A file operation failed.
    #[error("file: {0}")]
    File(#[from] io::Error),
    /// Stored bytes are not what was written.
    #[error("corrupt: {0}")]
    Corrupt(String),
    /// Another process has the data directory open.
    #[error("data directory `{}` is in use by another process", .0.display())]
    Locked(PathBuf),
    /// The data directory was written by a newer Milepost, or by something else.
    #[error("data directory has format `{found}`; this server reads `{wanted}`")]
    Format {
        /// What the format file says.
        found: String,
        /// What this version reads.
        wanted: String,
    },
    /// An earlier write failed; nothing is written until the store is reopened.
    #[error("an earlier write failed: {0}")]
    Poisoned(String),
}

impl From<sled::Error> for StorageError {
    fn from(error: sled::Error) -> Self {
        match error {
            sled::Error::Corruption { .. } => Self::Corrupt(error.to_string()),
            sled::Error::CollectionNotFound(_)
            | sled::Error::Unsupported(_)
            | sled::Error::ReportableBug(_)
            | sled::Error::Io(_) => Self::Engine(error),
        }
    }
}

impl StorageError {
    pub(crate) fn corrupt(what: impl Into<String>) -> Self {
        Self::Corrupt(what.into())
    }
}
