//! A tree of a sled database that keeps no more pages in memory than it should.
//!
//! sled's page cache is in 256 parts, by the page's number, and a part looks at its size only when 64
//! accesses to it have gathered (`lru.rs`, `N_SHARDS` and `MAX_QUEUE_ITEMS`). With rows of 5 KB, some nine
//! in a page, a database that is read here and there would come to keep all of itself, and one that is
//! written or read in order a hundred megabytes. So whoever reads or writes a row makes its page's part
//! look: by asking for the row again, which costs a third of a microsecond each time, and once for all rows that are
//! likely to be in one page. A part then keeps its newest page, and a database some ten megabytes.
//!
//! That is too much still where there are many of them, each read now and then. sled has no call to give up what
//! it keeps; [`Ballast`] makes it keep something small instead.

use std::{
    collections::VecDeque,
    fmt,
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

/// Accesses after which a part of sled's page cache looks at its size.
const PART_ACCESSES: u32 = 64;
/// Enough where rows are written in order: each is an access, too.
const IN_ORDER_ACCESSES: u32 = 24;
/// Enough where rows are written once: a leaf is not split while it has any, so there are fewer others.
const ONCE_ACCESSES: u32 = 48;
/// Rows that follow each other and are taken to be in one page: sled leaves nine in one that is
/// written in order.
pub(crate) const PAGE_ROWS: u16 = 8;
/// Rows in a leaf of sled's; with one more it is split, and both halves are written again.
const LEAF_ROWS: usize = 16;
/// Parts of sled's page cache.
const PARTS: u16 = 256;
/// Rows of a ballast: pages for all parts, and some more for numbers that pages above them take.
const BALLAST_ROWS: u16 = (PARTS + PARTS / 4) * 9;
/// Pages that were asked for last and need not be again.
const RECENT_PAGES: usize = 64;

/// A tree of large rows. Calls that are not here are sled's own; they do not make its cache look.
#[derive(Clone)]
pub(crate) struct Tree {
    rows: sled::Tree,
    recent: Arc<[AtomicU64; RECENT_PAGES]>,
    used: Arc<AtomicBool>,
}

impl Tree {
    pub(crate) fn new(rows: sled::Tree) -> Self {
        let recent = Arc::new([const { AtomicU64::new(u64::MAX) }; RECENT_PAGES]);
        Self { rows, recent, used: Arc::default() }
    }

    /// A tree of a database that goes when the test ends.
    #[cfg(test)]
    pub(crate) fn temporary() -> Self {
        let db = sled::Config::new().temporary(true).flush_every_ms(None).open().unwrap();
        Self::new(db.open_tree("rows").unwrap())
    }

    /// Whether pages have come into sled's cache since this was last asked.
    pub(crate) fn take_used(&self) -> bool {
        self.used.swap(false, Ordering::Relaxed)
    }

    /// A row. Rows with the same `page` are likely to be in one page of sled's.
    pub(crate) fn row(&self, key: &[u8], page: u64) -> sled::Result<Option<sled::IVec>> {
        let row = self.rows.get(key)?;
        self.settle(key, page, PART_ACCESSES)?;
        Ok(row)
    }

    /// Writes a row; rows come in order.
    pub(crate) fn put(&self, key: &[u8], row: &[u8], page: u64) -> sled::Result<()> {
        self.rows.insert(key, row)?;
        self.settle(key, page, IN_ORDER_ACCESSES)
    }

    /// Writes a row whose key is there.
    fn fill(&self, Waiting { key, row, page }: Waiting) -> sled::Result<()> {
        self.rows.insert(&key, row)?;
        self.settle(&key, page, ONCE_ACCESSES)
    }

    fn settle(&self, key: &[u8], page: u64, accesses: u32) -> sled::Result<()> {
        let place = usize::try_from(page % RECENT_PAGES as u64).unwrap_or(0);
        let before = self.recent.get(place).map(|it| it.swap(page, Ordering::Relaxed));
        if before != Some(page) {
            self.used.store(true, Ordering::Relaxed);
            for _ in 0..accesses {
                self.rows.contains_key(key)?;
            }
        }
        Ok(())
    }
}

/// Writes rows that come in the order of their keys, each of them once.
///
/// sled writes a row when it comes, and whole leaves again when they are split: a row three times. What is not
/// valid any more stays in the file until half of its segment is such, so that the file would be twice as large as what
/// it holds. So a row's key comes first, without the row; the leaves are split while they are small. The row
/// follows when so many keys have come after it that its leaf will not be split again. Until [`OnceWriter::finish`]
/// the last rows are empty.
#[derive(Debug)]
pub(crate) struct OnceWriter {
    tree: Tree,
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    key: Vec<u8>,
    row: Vec<u8>,
    page: u64,
}

impl OnceWriter {
    pub(crate) fn new(tree: Tree) -> Self {
        Self { tree, waiting: VecDeque::with_capacity(LEAF_ROWS + 1) }
    }

    /// Takes the next row; see [`Tree::put`].
    pub(crate) fn put(&mut self, key: &[u8], row: &[u8], page: u64) -> sled::Result<()> {
        self.tree.rows.insert(key, &[])?;
        self.waiting.push_back(Waiting { key: key.to_vec(), row: row.to_vec(), page });
        if self.waiting.len() > LEAF_ROWS
            && let Some(first) = self.waiting.pop_front()
        {
            self.tree.fill(first)?;
        }
        Ok(())
    }

    /// Writes the rows that wait. Others can follow.
    pub(crate) fn finish(&mut self) -> sled::Result<()> {
        self.waiting.drain(..).try_for_each(|waiting| self.tree.fill(waiting))
    }
}

/// A tree of tiny rows, with a page in every part of the cache of its database.
#[derive(Clone, Debug)]
pub(crate) struct Ballast(sled::Tree);

impl Ballast {
    /// One that was written.
    pub(crate) fn new(rows: sled::Tree) -> Self {
        Self(rows)
    }

    /// Writes one, into a database that nothing else is being written to: pages are numbered in turn.
    pub(crate) fn write(tree: &sled::Tree) -> sled::Result<()> {
        for row in 0..BALLAST_ROWS {
            tree.insert(row.to_be_bytes(), &[])?;
        }
        Ok(())
    }

    /// Makes sled give up all other pages of the database. Takes some milliseconds.
    pub(crate) fn shed_pages(&self) -> sled::Result<()> {
        for row in (0..BALLAST_ROWS).step_by(usize::from(PAGE_ROWS)) {
            for _ in 0..PART_ACCESSES {
                self.0.contains_key(row.to_be_bytes())?;
            }
        }
        Ok(())
    }
}

impl Deref for Tree {
    type Target = sled::Tree;

    fn deref(&self) -> &Self::Target {
        &self.rows
    }
}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rows.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::{OnceWriter, Tree};

    const ROWS: u32 = 3_000;
    const ROW_BYTES: u32 = 4 * 1024;

    fn row(number: u32) -> Vec<u8> {
        let words = (0..ROW_BYTES / 4).map(|at| (number ^ at).wrapping_mul(0x9E37_79B9));
        words.flat_map(u32::to_be_bytes).collect()
    }

    /// Rows in order, in a database of which nothing else is written; its bytes on disk.
    fn check(write: impl Fn(Tree)) -> u64 {
        let directory = tempfile::tempdir().unwrap();
        let config = sled::Config::new().path(&directory).segment_size(512 * 1024);
        let db = config.clone().flush_every_ms(None).open().unwrap();
        write(Tree::new(db.open_tree("rows").unwrap()));
        db.flush().unwrap();
        drop(db);
        let db = config.open().unwrap();
        let rows = db.open_tree("rows").unwrap();
        assert_eq!(rows.len(), ROWS as usize);
        for (number, found) in (0_u32..).zip(rows.iter()) {
            let (key, found) = found.unwrap();
            assert_eq!(key, number.to_be_bytes());
            assert_eq!(found, row(number), "row {number}");
        }
        db.size_on_disk().unwrap()
    }

    #[test]
    fn rows_that_are_written_once_take_little_more_than_themselves() {
        let once = check(|tree| {
            let mut writer = OnceWriter::new(tree);
            for number in 0..ROWS {
                writer.put(&number.to_be_bytes(), &row(number), 0).unwrap();
                // Rows may come after an end.
                if number == ROWS / 2 {
                    writer.finish().unwrap();
                }
            }
            writer.finish().unwrap();
        });
        let rows = u64::from(ROWS * ROW_BYTES);
        assert!(once < rows + rows / 8, "{once} bytes for {rows}");
    }
}
