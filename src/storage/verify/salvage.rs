//! Copying what is sound of a damaged data directory into a new one, and telling exactly what is lost.
//!
//! Positions stay. A lost event becomes a removed one, so what refers to positions stays right, and
//! no position is given out twice. The index is made anew.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    model::Position,
    storage::{
        Block, CatalogBatch, FORMAT_VERSION, Span, StorageError,
        catalog::{CatalogStore, SoundCatalog},
        chain::{Chain, Link, Named},
        disk::{self, Poison},
        format_text,
        journal::Frame,
        packed::PackedBlock,
        pb::{DatasetRecord, EventRecord, SchemaRecord},
        table::{RowChange, SoundTable, Table},
        verify::{
            Finding, FindingKind, PROGRESS_EVENTS, Tell, Verified, VerifyNews,
            carve::Carved,
            copy::{Audience, Copy, known_terms},
            directory::{Source, end_of},
            walk::{Lost, Walk, guard},
        },
        volume::{Volume, slot_last},
    },
};

/// Events that could not be copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The first position.
    pub first: Position,
    /// The last position.
    pub last: Position,
    /// Number of the volume that they were in.
    pub volume: Option<u32>,
    /// Why they cannot be read.
    pub why: String,
    /// What the index still knows of them.
    pub events: Vec<LostEvent>,
}

/// An event that is lost, as far as the index knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostEvent {
    /// Its position.
    pub position: Position,
    /// Terms that it was found by, for people.
    pub terms: Vec<String>,
}

/// What a salvage came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Salvaged {
    /// What was read; its `lost` counts the positions of `losses`.
    pub read: Verified,
    /// Everything that is lost, ascending.
    pub losses: Vec<Loss>,
    /// Rows of the catalog that were made up for events whose dataset or schema is lost.
    pub made_up: Vec<String>,
    /// Whether the new store is the same log: resume tokens of the old one are good.
    pub is_same_log: bool,
}

/// Rows for events whose dataset or schema version is lost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MakeUp {
    /// A schema version with a number.
    pub(crate) schema: fn(u32) -> SchemaRecord,
    /// A dataset with a number, of the schema with an `$id`.
    pub(crate) dataset: fn(u32, String) -> DatasetRecord,
}

/// Positions of one volume of which it is looked up what the index knows.
const EXPLAINED_MAX: u64 = 10_000;

/// Copies what is sound into `target`, which is created and must not exist or be empty.
pub(crate) fn salvage(
    path: &Path,
    target: &Path,
    make_up: MakeUp,
    tell: &mut Tell<'_>,
) -> Result<Salvaged, StorageError> {
    fs::create_dir_all(target)?;
    if fs::read_dir(target)?.next().is_some() {
        let text = format!("`{}` is not empty", target.display());
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, text).into());
    }
    let _lock = crate::storage::lock(target)?;
    let source = Source::open(path, &target.join("scratch"))?;
    let mut news = News { tell, done: Salvaged::default(), used: BTreeSet::new(), volume: None };
    let catalog = source.catalog(&mut |finding| news.found(finding));
    let spans = source.spans(&mut |finding| news.found(finding))?;
    let scan = source.journal(&mut |finding| news.found(finding));
    let table = source.table(&scan, &mut |finding| news.found(finding));

    let volumes = target.join("volumes");
    for name in ["catalog", "journal", "table", "volumes"] {
        fs::create_dir(target.join(name))?;
    }
    let mut salvage =
        Salvage { source: &source, volumes, links: Vec::new(), reached: Position::START };
    let last = spans.len().saturating_sub(1);
    for (place, span) in spans.iter().enumerate() {
        let frames = if place == last { scan.frames.as_slice() } else { &[] };
        salvage.span(*span, place == last, frames, &mut news)?;
    }
    if spans.is_empty() {
        let none = Named { after: Position::START, until: Position::MAX, number: None };
        salvage.span(none, true, &scan.frames, &mut news)?;
    }
    let Salvage { volumes, links, .. } = salvage;
    let next_number = u32::try_from(links.len()).unwrap_or(u32::MAX).saturating_add(1);
    Chain::of(links, next_number).write(&volumes)?;
    news.done.is_same_log = news.done.losses.is_empty() && catalog.epoch.is_some();
    write_catalog(target, catalog, make_up, &mut news)?;
    write_table(target, table)?;
    drop(source);
    // Without it the directory is refused, so an unfinished copy is not taken for a store.
    disk::write_file(target, "FORMAT", &format_text(FORMAT_VERSION))?;
    disk::sync_directories(target)?;
    Ok(news.done)
}

/// The new log, span by span.
struct Salvage<'a> {
    source: &'a Source,
    volumes: PathBuf,
    links: Vec<Link>,
    /// How far the old log is known to have come.
    reached: Position,
}

impl Salvage<'_> {
    /// Copies a span; the last one takes what the journal has behind it, and goes on.
    fn span(
        &mut self,
        span: Named,
        is_last: bool,
        frames: &[Frame],
        news: &mut News<'_, '_>,
    ) -> Result<(), StorageError> {
        let Named { after, until, number } = span;
        let new_number = u32::try_from(self.links.len()).unwrap_or(u32::MAX).saturating_add(1);
        let mut copy = match number {
            Some(number) => {
                let end = if until == Position::MAX { None } else { Some(until) };
                let hint = frames.first().map_or(after, |frame| frame.first.previous());
                self.volume(number, new_number, after, end.ok_or(hint.max(after)), news)?
            }
            None if is_last => Copy::begin(&self.volumes, new_number, after, &BTreeMap::new())?,
            None => {
                self.links.push(Link { after, until, volume: None });
                return Ok(());
            }
        };
        if is_last {
            copy_frames(&mut copy, frames, self.reached, news)?;
        }
        let until = if is_last { Position::MAX } else { until };
        self.links.push(Link { after, until, volume: Some(copy.finish()?) });
        Ok(())
    }

    /// Copies volume `number` up to its end, or to what it holds, which should be up to the hint.
    fn volume(
        &mut self,
        number: u32,
        new_number: u32,
        after: Position,
        end: Result<Position, Position>,
        news: &mut News<'_, '_>,
    ) -> Result<Copy, StorageError> {
        let begun = news.done.losses.len();
        news.volume = Some(number);
        // Looked through in any case: the embedded store may have forgotten what is there.
        let carved = Carved::from(&self.source.volume_file(number)).unwrap_or_default();
        let copied = self.source.with_volume(number, after, |volume, trouble| {
            if let Some(message) = trouble {
                news.found(Finding::new(FindingKind::Directory, message).in_volume(number));
            }
            let reached = guard(|| volume.record()).map_or(0, |record| record.reached);
            self.reached = self.reached.max(Position::new(reached));
            let until = end.unwrap_or_else(|hint| end_of(volume, hint));
            let mut dictionaries = carved.dictionaries.clone();
            dictionaries.extend(guard(|| volume.dictionaries.all()).unwrap_or_default());
            let mut copy = Copy::begin(&self.volumes, new_number, after, &dictionaries)?;
            for step in Walk::new(volume, Span { after, until }) {
                match step {
                    Ok(block) => copy.block(&block, news)?,
                    Err(lost) => copy_carved(&mut copy, &carved, lost, news)?,
                }
            }
            news.explain(volume, begun);
            Ok(copy)
        });
        let copied = copied.unwrap_or_else(|message| {
            let finding = Finding::new(FindingKind::Directory, message);
            news.found(finding.in_volume(number));
            let mut copy = Copy::begin(&self.volumes, new_number, after, &carved.dictionaries)?;
            let span = Span { after, until: end.unwrap_or_else(|hint| hint) };
            let lost = Lost { span, why: "the volume cannot be opened".to_owned() };
            copy_carved(&mut copy, &carved, lost, news)?;
            Ok(copy)
        });
        news.volume = None;
        copied
    }
}

/// Copies what lies in a volume's file of a span that the embedded store does not give.
fn copy_carved(
    copy: &mut Copy,
    carved: &Carved,
    missing: Lost,
    news: &mut News<'_, '_>,
) -> Result<(), StorageError> {
    let Lost { span, why } = missing;
    for bytes in carved.blocks_in(span) {
        let block = guard(|| PackedBlock::open(bytes, |number| copy.dictionary(number)));
        let Ok(block) = block else { continue };
        let (first, last) = (block.header.first, block.header.last());
        if first > copy.at() && last >= first && last <= slot_last(first).min(span.until) {
            lose(copy, first.previous(), &why, news)?;
            copy.block(&block, news)?;
        }
    }
    lose(copy, span.until, &why, news)
}

/// Gives up what lies between what was copied and a position.
fn lose(
    copy: &mut Copy,
    until: Position,
    why: &str,
    news: &mut News<'_, '_>,
) -> Result<(), StorageError> {
    let span = Span { after: copy.at(), until };
    if span.is_empty() { Ok(()) } else { copy.lost(Lost { span, why: why.to_owned() }, news) }
}

/// Copies what the journal has behind the volumes, and fills up to where the log had come.
fn copy_frames(
    copy: &mut Copy,
    frames: &[Frame],
    reached: Position,
    news: &mut News<'_, '_>,
) -> Result<(), StorageError> {
    let mut runs: Vec<Block> = Vec::new();
    for frame in frames.iter().filter(|frame| frame.has_after(copy.at())) {
        let run = Block::new(frame.first, frame.record_time, frame.body.clone());
        let sound = run.ok().filter(|run| run.count() == frame.count);
        if runs.last().is_none_or(|last| last.last() < frame.first) {
            runs.extend(sound);
        }
    }
    while let Some(next) = runs.iter().find(|run| run.last() > copy.at()) {
        lose(copy, next.first.previous(), "no frame of the journal holds them", news)?;
        let until = runs.last().map_or(copy.at(), Block::last);
        copy.runs(&runs, until, news)?;
    }
    lose(copy, reached, "the log ends before it should", news)
}

fn write_catalog(
    target: &Path,
    catalog: SoundCatalog,
    make_up: MakeUp,
    news: &mut News<'_, '_>,
) -> Result<(), StorageError> {
    let store = CatalogStore::open(target, Arc::new(Poison::default()))?;
    let SoundCatalog { records, epoch, .. } = catalog;
    let mut rows = CatalogBatch::default();
    records.schemas.iter().for_each(|record| rows.put_schema(record));
    records.datasets.iter().for_each(|record| rows.put_dataset(record));
    records.namespaces.iter().for_each(|record| rows.put_namespace(record));
    records.descriptors.iter().for_each(|record| rows.put_descriptor(&record.id, record));
    records.audit.iter().for_each(|record| rows.put_audit(record));
    records.event_definitions.iter().for_each(|record| rows.put_event_definition(record));
    records.backfills.iter().for_each(|record| rows.put_backfill(record));
    let mut ids: HashMap<u32, String> =
        records.schemas.into_iter().map(|it| (it.number, it.id)).collect();
    let mut datasets: HashSet<u32> = records.datasets.iter().map(|it| it.number).collect();
    for (dataset, schema) in std::mem::take(&mut news.used) {
        let id = ids.entry(schema).or_insert_with(|| {
            news.done.made_up.push(format!("schema version number {schema}"));
            let record = (make_up.schema)(schema);
            rows.put_schema(&record);
            record.id
        });
        if datasets.insert(dataset) {
            news.done.made_up.push(format!("dataset number {dataset}"));
            rows.put_dataset(&(make_up.dataset)(dataset, id.clone()));
        }
    }
    store.write(rows)?;
    match epoch.filter(|_| news.done.is_same_log) {
        Some(epoch) => store.set_epoch(epoch),
        None => store.epoch().map(drop),
    }
}

fn write_table(target: &Path, table: SoundTable) -> Result<(), StorageError> {
    let store = Table::open(target, Arc::new(Poison::default()))?;
    let puts = table.into_rows().map(|(key, value)| RowChange::put(key, value));
    store.apply(1, puts.collect());
    store.move_to_disk()
}

/// What there is to tell.
struct News<'a, 'b> {
    tell: &'a mut Tell<'b>,
    done: Salvaged,
    /// Datasets and schema versions that copied events refer to.
    used: BTreeSet<(u32, u32)>,
    /// The volume being copied.
    volume: Option<u32>,
}

impl News<'_, '_> {
    fn found(&mut self, finding: Finding) {
        self.done.read.findings += 1;
        let _not_ended_early = (self.tell)(VerifyNews::Finding(finding));
    }

    fn copied(&mut self, position: Position) {
        self.done.read.position = position;
        if position.get().is_multiple_of(PROGRESS_EVENTS) {
            let _not_ended_early = (self.tell)(VerifyNews::Progress(self.done.read));
        }
    }

    /// Adds what the index knows of the losses after the first `begun`.
    fn explain(&mut self, volume: &Volume, begun: usize) {
        let losses = self.done.losses.get_mut(begun..).unwrap_or_default();
        let mut left = EXPLAINED_MAX;
        for loss in losses {
            let span = Span { after: loss.first.previous(), until: loss.last };
            let Some(rest) = left.checked_sub(span.len()) else { return };
            left = rest;
            let terms = known_terms(volume, &|position| span.contains(position));
            let event = |(position, terms)| LostEvent { position, terms };
            loss.events = terms.into_iter().map(event).collect();
        }
    }
}

impl Audience for News<'_, '_> {
    fn event(&mut self, position: Position, record: &EventRecord) {
        self.done.read.events += 1;
        self.used.insert((record.dataset, record.schema));
        self.copied(position);
    }

    fn removed(&mut self, position: Position) {
        self.done.read.removed += 1;
        self.copied(position);
    }

    fn lost(&mut self, missing: Lost) {
        let Lost { span, why } = missing;
        self.done.read.lost += span.len();
        let (first, last, volume) = (span.after.next(), span.until, self.volume);
        match self.done.losses.last_mut() {
            Some(loss) if loss.last == span.after && loss.why == why => loss.last = last,
            _ => self.done.losses.push(Loss { first, last, volume, why, events: Vec::new() }),
        }
        self.copied(last);
    }
}
