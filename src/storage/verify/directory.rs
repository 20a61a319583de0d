//! A data directory that no server has open, and that may be damaged: read without changing it.
//!
//! The embedded store repairs what it opens, and in doing so throws away what it takes for torn. So
//! each of its databases is copied, and the copy is opened.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    model::Position,
    storage::{
        FORMAT_VERSION, Span, StorageError,
        catalog::{self, SoundCatalog},
        chain::{Manifest, Named, volumes_in},
        disk::Poison,
        format_text, is_readable, journal,
        table::{self, SoundTable},
        verify::{Finding, FindingKind, Known, Tell, Verified, Verifier, walk::guard},
        volume::{self, Volume},
    },
};

/// Checks everything in a data directory that no server has open; changes nothing in it. Copies of
/// one database at a time are made in `scratch`, a directory that is created and removed.
///
/// # Errors
/// When the directory is in use or not a data directory of this format, or the scratch directory
/// cannot be written. What is wrong with the data is told, not an error.
pub(crate) fn verify_directory(
    path: &Path,
    scratch: &Path,
    tell: &mut Tell<'_>,
) -> Result<Verified, StorageError> {
    let source = Source::open(path, scratch)?;
    let mut early = Vec::new();
    let catalog = source.catalog(&mut |finding| early.push(finding));
    let spans = source.spans(&mut |finding| early.push(finding))?;
    let scan = source.journal(&mut |finding| early.push(finding));
    source.table(&scan, &mut |finding| early.push(finding));
    let mut last = scan.frames.last().map(journal::Frame::last).unwrap_or_default();
    let known = Known::new(|| Ok(catalog.records.clone()));
    let mut verifier = Verifier::new(tell, known, last);
    for finding in early {
        verifier.found(finding);
    }

    let mut packed = Position::START;
    for Named { after, until, number } in spans {
        if !verifier.goes_on() {
            break;
        }
        let is_ended = until != Position::MAX;
        let Some(number) = number else {
            verifier.removed(Span { after, until });
            continue;
        };
        let checked = source.with_volume(number, after, |volume, trouble| {
            if let Some(message) = trouble {
                verifier.found(Finding::new(FindingKind::Directory, message).in_volume(number));
            }
            let hint = scan.frames.first().map_or(after, |frame| frame.first.previous()).max(after);
            let end = if is_ended { until } else { end_of(volume, hint) };
            let reached = guard(|| volume.record()).map_or(0, |record| record.reached);
            last = last.max(Position::new(reached));
            verifier.volume(volume, Span { after, until: end }, is_ended);
            end
        });
        packed = match checked {
            Ok(end) => end,
            Err(message) => {
                let finding = Finding::new(FindingKind::Directory, message).in_volume(number);
                if is_ended {
                    verifier.lost(Span { after, until }, finding);
                    until
                } else {
                    verifier.found(finding);
                    after
                }
            }
        };
    }
    if verifier.goes_on() {
        verifier.frames(&scan.frames, packed, last.max(packed));
    }
    Ok(verifier.finish())
}

/// The last position of a volume that was being written; a guess when it cannot be read.
pub(super) fn end_of(volume: &Volume, hint: Position) -> Position {
    guard(|| volume.last()).unwrap_or(hint)
}

/// A data directory, locked.
pub(super) struct Source {
    path: PathBuf,
    scratch: PathBuf,
    _lock: Option<File>,
}

impl Source {
    pub(super) fn open(path: &Path, scratch: &Path) -> Result<Self, StorageError> {
        let lock = lock(path)?;
        let found = fs::read_to_string(path.join("FORMAT"));
        let found = match &found {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => "no FORMAT file",
            Err(_unreadable) => "an unreadable FORMAT file",
        };
        if !is_readable(found) {
            let wanted = format_text(FORMAT_VERSION).trim().to_owned();
            return Err(StorageError::Format { found: found.trim().to_owned(), wanted });
        }
        fs::create_dir(scratch)?;
        Ok(Self { path: path.to_owned(), scratch: scratch.to_owned(), _lock: lock })
    }

    /// Opens a copy of a database, does something with it, and removes it. When it does not open, it
    /// is tried without what the embedded store can make anew; then `work` also gets the reason.
    fn with_copy<D, T>(
        &self,
        from: &Path,
        name: &str,
        open: impl Fn(&Path) -> Result<D, StorageError>,
        work: impl FnOnce(&D, Option<String>) -> T,
    ) -> Result<T, String> {
        let copy = self.scratch.join(name);
        let again = || -> Result<(), String> {
            let _none_yet = fs::remove_dir_all(&copy);
            copy_all(from, &copy).map_err(|error| format!("it cannot be read: {error}"))
        };
        let opened = again().and_then(|()| guard(|| open(&copy)));
        let opened = opened.map(|database| (database, None)).or_else(|trouble| {
            again()?;
            remove_derived(&copy).map_err(|error| error.to_string())?;
            let database = guard(|| open(&copy)).map_err(|_same| trouble.clone())?;
            Ok((database, Some(trouble)))
        });
        let done = opened.map(|(database, trouble)| work(&database, trouble));
        let _left_over = fs::remove_dir_all(copy);
        done
    }

    /// Opens a copy of a volume and does something with it; see [`Source::with_copy`].
    pub(super) fn with_volume<T>(
        &self,
        number: u32,
        after: Position,
        work: impl FnOnce(&Volume, Option<String>) -> T,
    ) -> Result<T, String> {
        let name = volume::name(number);
        let open =
            |_copy: &Path| Volume::open(&self.scratch, number, after, Arc::new(Poison::default()));
        self.with_copy(&self.volumes().join(&name), &name, open, work)
    }

    /// A file of a volume's database as it lies there.
    pub(super) fn volume_file(&self, number: u32) -> PathBuf {
        self.volumes().join(volume::name(number)).join("db")
    }

    fn volumes(&self) -> PathBuf {
        self.path.join("volumes")
    }

    /// The spans that the log consists of; when the manifest cannot be read, what the directories
    /// hold.
    pub(super) fn spans(&self, found: &mut dyn FnMut(Finding)) -> Result<Vec<Named>, StorageError> {
        let volumes = self.volumes();
        match Manifest::read(&volumes) {
            Ok(manifest) => return Ok(manifest.spans),
            Err(error) => found(Finding::new(FindingKind::Directory, error.to_string())),
        }
        let mut spans = Vec::new();
        for path in volumes_in(&volumes)? {
            let name = path.file_name().and_then(|name| name.to_str());
            let Some(number) = name.and_then(|name| name.parse().ok()) else { continue };
            let ends = self.with_volume(number, Position::START, |volume, _trouble| {
                let first = guard(|| volume.first()).ok().flatten()?;
                let until = guard(|| volume.last()).ok()?;
                Some((first.previous(), until))
            });
            if let Ok(Some((after, until))) = ends {
                spans.push(Named { after, until, number: Some(number) });
            }
        }
        // Of two that overlap one replaces the other, or was not finished: the longer one first.
        spans.sort_by_key(|span| (span.after, std::cmp::Reverse(span.until)));
        let mut chain: Vec<Named> = Vec::new();
        let mut at = Position::START;
        for span in spans.into_iter().filter(|span| span.number.is_some()) {
            if span.until <= at {
                continue;
            }
            chain.push(Named { after: at, ..span });
            at = span.until;
        }
        Ok(chain)
    }

    /// The catalog's sound rows.
    pub(super) fn catalog(&self, found: &mut dyn FnMut(Finding)) -> SoundCatalog {
        let from = self.path.join("catalog");
        let read = self.with_copy(&from, "catalog", catalog::open_database, |disk, trouble| {
            let mut sound = SoundCatalog::default();
            sound.damage.extend(trouble);
            let outcome = guard(|| sound.read(disk, &self.path));
            sound.damage.extend(outcome.err());
            sound
        });
        let sound = read.unwrap_or_else(|message| SoundCatalog {
            damage: vec![message],
            ..SoundCatalog::default()
        });
        for message in &sound.damage {
            found(Finding::new(FindingKind::Catalog, message.as_str()));
        }
        sound
    }

    /// The table's sound rows, with what the journal has of later changes.
    pub(super) fn table(&self, scan: &journal::Scan, found: &mut dyn FnMut(Finding)) -> SoundTable {
        let from = self.path.join("table");
        let read = self.with_copy(&from, "table", table::open_database, |disk, trouble| {
            let mut sound = SoundTable::default();
            sound.damage.extend(trouble);
            let outcome = guard(|| sound.read(disk, &self.path));
            sound.damage.extend(outcome.err());
            sound
        });
        let mut sound = read.unwrap_or_else(SoundTable::unreadable);
        sound.replay(&scan.frames);
        for message in &sound.damage {
            found(Finding::new(FindingKind::Table, message.as_str()));
        }
        sound
    }

    /// The journal's sound frames.
    pub(super) fn journal(&self, found: &mut dyn FnMut(Finding)) -> journal::Scan {
        let scan = journal::scan(&self.path.join("journal")).unwrap_or_else(|error| {
            journal::Scan { damage: vec![error.to_string()], ..journal::Scan::default() }
        });
        for message in &scan.damage {
            found(Finding::new(FindingKind::Journal, message.as_str()));
        }
        scan
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        let _left_over = fs::remove_dir_all(&self.scratch);
    }
}

/// Locks the directory against a server, if it may be written to; without its `LOCK` no server has
/// ever been here.
fn lock(path: &Path) -> Result<Option<File>, StorageError> {
    let file = match File::open(path.join("LOCK")) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(StorageError::Locked(path.to_owned())),
        Err(TryLockError::Error(error)) => Err(error.into()),
    }
}

/// Removes what the embedded store makes anew from its log.
fn remove_derived(database: &Path) -> io::Result<()> {
    for entry in fs::read_dir(database)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name == "conf" || name.starts_with("snap") {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// Copies a directory with all that is in it.
fn copy_all(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_all(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
