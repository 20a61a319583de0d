//! Free space on the file system of the data directory.

use std::{io, path::Path};

/// Bytes that a process without privileges may still write.
pub(crate) fn free_bytes(path: &Path) -> io::Result<u64> {
    let found = rustix::fs::statvfs(path)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}
