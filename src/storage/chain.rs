//! The chain of volumes: which of them the log consists of, in order.
//!
//! The file `VOLUMES` is the truth; a directory that it does not name is what a crash left over. It
//! changes whole or not at all.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    model::Position,
    storage::{
        StorageError,
        disk::{Poison, write_file},
        volume::{self, Volume},
    },
};

pub(crate) const MANIFEST: &str = "VOLUMES";
const HEADING: &str = "milepost volumes";
/// Stands for a volume of which nothing is left.
const NONE: &str = "-";
/// Stands for the end of the volume that is being written.
const OPEN_END: &str = "-";

/// One span of the log.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    /// It holds positions after this one.
    pub(crate) after: Position,
    /// Up to and including this one; `MAX` for the volume that is being written.
    pub(crate) until: Position,
    /// `None` when all its events were removed.
    pub(crate) volume: Option<Arc<Volume>>,
}

/// One span of the log as the manifest has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) after: Position,
    /// `MAX` for the volume that is being written.
    pub(crate) until: Position,
    /// Names its volume; `None` when all its events were removed.
    pub(crate) number: Option<u32>,
}

/// What the manifest says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// Ascending and without gaps; the last one is open-ended and has a volume.
    pub(crate) spans: Vec<Named>,
    next_number: u32,
}

impl Manifest {
    /// Reads the manifest in the directory of volumes.
    pub(crate) fn read(directory: &Path) -> Result<Self, StorageError> {
        Self::parse(&fs::read_to_string(directory.join(MANIFEST))?)
    }

    fn parse(text: &str) -> Result<Self, StorageError> {
        let bad = |line: &str| StorageError::corrupt(format!("`{MANIFEST}` holds `{line}`"));
        let mut lines = text.lines();
        let heading = lines.next().unwrap_or_default();
        let next_number = heading.strip_prefix(HEADING).and_then(|it| it.trim().parse().ok());
        let next_number = next_number.ok_or_else(|| bad(heading))?;
        let mut spans: Vec<Named> = Vec::new();
        for line in lines {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let [after, until, number] = fields.as_slice() else { return Err(bad(line)) };
            let position =
                |text: &str| text.parse().map(Position::new).map_err(|_not_a_number| bad(line));
            let after = position(after)?;
            if spans.last().map_or(Position::START, |last| last.until) != after {
                return Err(bad(line));
            }
            let until = if *until == OPEN_END { Position::MAX } else { position(until)? };
            let number = match *number {
                NONE => None,
                number => Some(number.parse().map_err(|_not_a_number| bad(line))?),
            };
            spans.push(Named { after, until, number });
        }
        if !spans.last().is_some_and(|last| last.until == Position::MAX && last.number.is_some()) {
            return Err(StorageError::corrupt(format!("`{MANIFEST}` has no last volume")));
        }
        Ok(Self { spans, next_number })
    }
}

/// The volumes, oldest first. The last link is always open-ended and has a volume.
#[derive(Clone, Debug)]
pub(crate) struct Chain {
    links: Vec<Link>,
    next_number: u32,
}

impl Chain {
    /// Opens what the manifest names, or begins a chain; removes what a crash left over.
    pub(crate) fn open(directory: &Path, poison: &Arc<Poison>) -> Result<Self, StorageError> {
        fs::create_dir_all(directory)?;
        let text = match fs::read(directory.join(MANIFEST)) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                for path in volumes_in(directory)? {
                    fs::remove_dir_all(path)?;
                }
                let volume = Volume::open(directory, 1, Position::START, Arc::clone(poison))?;
                let link = open_ended(volume);
                let chain = Self { links: vec![link], next_number: 2 };
                chain.write(directory)?;
                return Ok(chain);
            }
            Err(error) => return Err(error.into()),
        };
        let manifest = Manifest::parse(&text)?;
        let mut links: Vec<Link> = Vec::new();
        for Named { after, until, number } in manifest.spans {
            let volume = match number {
                None => None,
                Some(number) => {
                    if !directory.join(volume::name(number)).is_dir() {
                        return Err(StorageError::corrupt(format!("volume {number} is missing")));
                    }
                    Some(Arc::new(Volume::open(directory, number, after, Arc::clone(poison))?))
                }
            };
            links.push(Link { after, until, volume });
        }
        let next_number = manifest.next_number;
        let chain = Self { links, next_number };
        let named: Vec<_> = chain.volumes().map(|it| it.path().to_owned()).collect();
        for path in volumes_in(directory)?.into_iter().filter(|path| !named.contains(path)) {
            tracing::info!(path = %path.display(), "unfinished volume removed");
            fs::remove_dir_all(path)?;
        }
        for link in &chain.links {
            if let Some(volume) = &link.volume
                && link.until != Position::MAX
                && volume.last()? != link.until
            {
                return Err(StorageError::corrupt(format!(
                    "volume {} ends at {}; it reached {}: stored data is damaged",
                    volume.number,
                    volume.last()?,
                    link.until
                )));
            }
        }
        Ok(chain)
    }

    /// A chain of these links: ascending, without gaps, the last one open-ended and with a volume.
    pub(crate) fn of(links: Vec<Link>, next_number: u32) -> Self {
        Self { links, next_number }
    }

    /// Makes the chain durable.
    pub(crate) fn write(&self, directory: &Path) -> Result<(), StorageError> {
        let mut text = format!("{HEADING} {}\n", self.next_number);
        for link in &self.links {
            let until = if link.until == Position::MAX {
                OPEN_END.to_owned()
            } else {
                link.until.to_string()
            };
            let number = link.volume.as_ref().map_or(NONE.to_owned(), |it| it.number.to_string());
            let fields = [link.after.to_string(), until, number];
            text.push_str(&fields.join(" "));
            text.push('\n');
        }
        Ok(write_file(directory, MANIFEST, &text)?)
    }

    /// The span that a position is in.
    pub(crate) fn find(&self, position: Position) -> Option<&Link> {
        let at = self.links.partition_point(|link| link.until < position);
        self.links.get(at).filter(|link| link.after < position)
    }

    /// The volume that is being written.
    pub(crate) fn active(&self) -> Result<&Arc<Volume>, StorageError> {
        let active = self.links.last().and_then(|link| link.volume.as_ref());
        active.ok_or_else(|| StorageError::corrupt("no volume is being written"))
    }

    pub(crate) fn links(&self) -> &[Link] {
        &self.links
    }

    pub(crate) fn volumes(&self) -> impl Iterator<Item = &Arc<Volume>> {
        self.links.iter().filter_map(|link| link.volume.as_ref())
    }

    /// A number for a new volume, and the chain that has used it.
    pub(crate) fn take_number(&mut self) -> u32 {
        let number = self.next_number;
        self.next_number += 1;
        number
    }

    /// Ends the last volume at `until` and goes on with another.
    pub(crate) fn roll(&mut self, until: Position, next: Volume) {
        if let Some(last) = self.links.last_mut() {
            last.until = until;
        }
        self.links.push(open_ended(next));
    }

    /// Puts one volume, or none, in the place of the ended links after `after` up to `until`.
    pub(crate) fn replace(&mut self, after: Position, until: Position, with: Option<Arc<Volume>>) {
        self.links.retain(|old| old.after < after || until < old.until);
        let at = self.links.partition_point(|link| link.until <= after);
        self.links.insert(at, Link { after, until, volume: with });
        // Neighbours of which nothing is left become one.
        self.links.dedup_by(|later, earlier| {
            let both = later.volume.is_none() && earlier.volume.is_none();
            if both {
                earlier.until = later.until;
            }
            both
        });
    }
}

fn open_ended(volume: Volume) -> Link {
    Link { after: volume.after, until: Position::MAX, volume: Some(Arc::new(volume)) }
}

/// Every directory in the directory of volumes.
pub(crate) fn volumes_in(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
