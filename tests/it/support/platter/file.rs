//! The bytes of one file: what changes them, and what a power cut can leave of the changes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    os::unix::fs::FileExt as _,
    path::Path,
};

use crate::support::events::Random;

/// What the system writes at once, and what a drive does.
pub(super) const PAGE: usize = 4096;
const SECTOR: usize = 512;
/// Bytes that are looked at together when zeros become holes.
const HOLE: usize = 64 * 1024;

/// A change of a file's bytes.
pub(super) enum Change {
    Write {
        offset: usize,
        data: Vec<u8>,
    },
    Size(usize),
    /// At least this size, and zeros in a range.
    Allocate {
        size: usize,
        zeros: Option<(usize, usize)>,
    },
}

impl Change {
    fn size_after(&self, size: usize) -> usize {
        match self {
            Self::Write { offset, data } => size.max(offset + data.len()),
            Self::Size(size) => *size,
            Self::Allocate { size: wanted, .. } => size.max(*wanted),
        }
    }

    /// The bytes that it touches, of a file of this size.
    fn touches(&self, size: usize) -> (usize, usize) {
        match self {
            Self::Write { offset, data } => (*offset, offset + data.len()),
            Self::Size(wanted) => (size.min(*wanted), size.max(*wanted)),
            Self::Allocate { zeros, .. } => zeros.unwrap_or((size, size)),
        }
    }

    pub(super) fn apply(&self, bytes: &mut Vec<u8>) {
        bytes.resize(self.size_after(bytes.len()), 0);
        match self {
            Self::Write { offset, data } => {
                bytes[*offset..offset + data.len()].copy_from_slice(data);
            }
            Self::Size(_) => {}
            Self::Allocate { zeros, .. } => {
                if let Some((from, to)) = *zeros {
                    let to = to.min(bytes.len());
                    bytes[from.min(to)..to].fill(0);
                }
            }
        }
    }
}

/// What `fallocate` does in the modes that Milepost could use.
pub(super) fn allocation(offset: u64, length: u64, mode: u32) -> Change {
    const KEEP_SIZE: u32 = 1;
    const PUNCH_HOLE: u32 = 2;
    const ZERO_RANGE: u32 = 16;
    assert_eq!(mode & !(KEEP_SIZE | PUNCH_HOLE | ZERO_RANGE), 0, "fallocate in mode {mode}");
    let (from, to) = (usize::try_from(offset).unwrap(), usize::try_from(offset + length).unwrap());
    let size = if mode & KEEP_SIZE == 0 { to } else { 0 };
    Change::Allocate { size, zeros: (mode & (PUNCH_HOLE | ZERO_RANGE) != 0).then_some((from, to)) }
}

/// The pages that changes touch, as some of the changes leave them.
fn pages(
    durable: &[u8],
    changes: &[(u64, Change)],
    touched: &BTreeSet<usize>,
) -> BTreeMap<usize, [u8; PAGE]> {
    let mut size = durable.len();
    let mut pages: BTreeMap<usize, [u8; PAGE]> = touched
        .iter()
        .map(|page| {
            let mut bytes = [0; PAGE];
            let (from, to) = (page * PAGE, ((page + 1) * PAGE).min(size));
            if from < to {
                bytes[..to - from].copy_from_slice(&durable[from..to]);
            }
            (*page, bytes)
        })
        .collect();
    for (_, change) in changes {
        let (from, to) = change.touches(size);
        for (page, bytes) in pages.range_mut(from / PAGE..to.div_ceil(PAGE)) {
            let start = page * PAGE;
            let (from, to) = (from.max(start), to.min(start + PAGE));
            match change {
                Change::Write { offset, data } => {
                    bytes[from - start..to - start]
                        .copy_from_slice(&data[from - offset..to - offset]);
                }
                Change::Size(_) | Change::Allocate { .. } => {
                    bytes[from - start..to - start].fill(0);
                }
            }
        }
        size = change.size_after(size);
    }
    pages
}

/// What a power cut can leave of a file.
pub(super) fn torn(durable: &[u8], pending: &[(u64, Change)], random: &mut Random) -> Vec<u8> {
    let mut sizes = vec![durable.len()];
    let mut touched = BTreeSet::new();
    for (_, change) in pending {
        let size = *sizes.last().unwrap();
        let (from, to) = change.touches(size);
        touched.extend(from / PAGE..to.div_ceil(PAGE));
        sizes.push(change.size_after(size));
    }
    let (all, some) = (pending.len() as u64, random.below(pending.len() as u64 + 1));
    // How much of it happened: nothing, everything, the first changes, or any part of any page.
    let happened = match random.below(8) {
        _ if pending.is_empty() => return durable.to_vec(),
        0 => return durable.to_vec(),
        1 => all,
        2 | 3 => some,
        _ => return mixed(durable, pending, &sizes, &touched, random),
    };
    let mut bytes = durable.to_vec();
    let happened = usize::try_from(happened).unwrap();
    pending[..happened].iter().for_each(|(_, change)| change.apply(&mut bytes));
    bytes
}

/// Each page by itself, and the size by itself.
fn mixed(
    durable: &[u8],
    pending: &[(u64, Change)],
    sizes: &[usize],
    touched: &BTreeSet<usize>,
    random: &mut Random,
) -> Vec<u8> {
    let middle = usize::try_from(random.below(pending.len() as u64 + 1)).unwrap();
    let versions = [
        pages(durable, &[], touched),
        pages(durable, &pending[..middle], touched),
        pages(durable, pending, touched),
    ];
    let largest = *sizes.iter().max().unwrap();
    let mut bytes = durable.to_vec();
    bytes.resize(largest, 0);
    for page in touched {
        let mut chosen = [0; PAGE];
        let [one, other] = [(); 2].map(|()| &random.one_of(&versions)[page]);
        // The first sectors are of one version and the rest of the other; all of one; or any of both.
        let first = match random.below(4) {
            0 => random.below(PAGE as u64 / SECTOR as u64),
            1 => 0,
            _ => PAGE as u64,
        };
        let scattered = first == 0;
        for (sector, into) in (0..).zip(chosen.chunks_mut(SECTOR)) {
            let takes_one = if scattered { random.below(2) == 0 } else { sector < first };
            let from = usize::try_from(sector).unwrap() * SECTOR;
            let version = if takes_one { one } else { other };
            into.copy_from_slice(&version[from..from + SECTOR]);
        }
        let (from, to) = (page * PAGE, ((page + 1) * PAGE).min(largest));
        if from < to {
            bytes[from..to].copy_from_slice(&chosen[..to - from]);
        }
    }
    // The size grows with the pages that are written, and may stop at any of them.
    let (least, page) = (*sizes.iter().min().unwrap() / PAGE, PAGE as u64);
    let any = random.below((largest / PAGE - least) as u64 + 1) * page;
    let size = match random.below(3) {
        0 => least * PAGE + usize::try_from(any).unwrap(),
        1 => *sizes.last().unwrap(),
        _ => *random.one_of(sizes),
    };
    bytes.resize(size.clamp(*sizes.iter().min().unwrap(), largest), 0);
    bytes
}

/// Writes a file, with holes where it is zero.
pub(super) fn write_sparse(path: &Path, bytes: &[u8]) {
    static ZEROS: [u8; HOLE] = [0; HOLE];
    let file = File::create(path).unwrap();
    for (index, part) in (0..).zip(bytes.chunks(HOLE)) {
        if *part != ZEROS[..part.len()] {
            file.write_all_at(part, index * HOLE as u64).unwrap();
        }
    }
    file.set_len(bytes.len() as u64).unwrap();
}
