//! A set of positions that lie close together: a bit each.

use std::{collections::BTreeMap, fmt};

use crate::model::{Position, bits};

/// Bytes of the bits of one chunk.
const CHUNK_BYTES: usize = 128;
/// Positions in one chunk.
const CHUNK: u64 = 8 * CHUNK_BYTES as u64;

/// A set of positions, in chunks of 1024 that begin at multiples of that. Telling, adding and taking one costs the
/// same whatever else is in its chunk, and so do a chunk's bits, which are what is written of it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct PositionSet {
    /// Only chunks that have some. The lowest bit of the first byte is the first position.
    chunks: BTreeMap<u64, Box<[u8; CHUNK_BYTES]>>,
    len: usize,
}

impl PositionSet {
    /// The chunk that a position is in.
    #[must_use]
    pub fn chunk_of(position: Position) -> u64 {
        position.get() / CHUNK
    }

    /// Whether it is in it.
    #[must_use]
    pub fn contains(&self, position: Position) -> bool {
        let (chunk, byte, bit) = place(position);
        let bytes = self.chunks.get(&chunk);
        bytes.and_then(|it| it.get(byte)).is_some_and(|it| it & bit != 0)
    }

    /// Adds one; false if it was there.
    pub fn insert(&mut self, position: Position) -> bool {
        let (chunk, byte, bit) = place(position);
        let bytes = self.chunks.entry(chunk).or_insert_with(|| Box::new([0; CHUNK_BYTES]));
        let Some(byte) = bytes.get_mut(byte) else { return false };
        let is_new = *byte & bit == 0;
        *byte |= bit;
        self.len += usize::from(is_new);
        is_new
    }

    /// Takes out all up to one, with it.
    pub fn remove_up_to(&mut self, position: Position) {
        let (chunk, byte, bit) = place(position);
        while let Some(first) = self.chunks.first_entry().filter(|it| *it.key() < chunk) {
            self.len -= count(first.remove().as_slice());
        }
        let Some(bytes) = self.chunks.get_mut(&chunk) else { return };
        let before = count(bytes.as_slice());
        for (at, bits) in bytes.iter_mut().enumerate().take(byte + 1) {
            // All bits below `bit`, and itself.
            *bits &= if at < byte { 0 } else { !(bit | (bit - 1)) };
        }
        let left = count(bytes.as_slice());
        self.len -= before - left;
        if left == 0 {
            self.chunks.remove(&chunk);
        }
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = Position> + '_ {
        self.chunks.iter().flat_map(|(chunk, bytes)| positions(*chunk, bytes.as_slice()))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The greatest of them.
    #[must_use]
    pub fn last(&self) -> Option<Position> {
        let (chunk, bytes) = self.chunks.last_key_value()?;
        positions(*chunk, bytes.as_slice()).last()
    }

    /// How many there are after one.
    #[must_use]
    pub fn count_after(&self, position: Position) -> usize {
        let (chunk, ..) = place(position);
        let first = self.chunks.get(&chunk).map_or(0, |bytes| {
            positions(chunk, bytes.as_slice()).filter(|it| *it > position).count()
        });
        first + self.chunks.range(chunk + 1..).map(|it| count(it.1.as_slice())).sum::<usize>()
    }

    /// The chunks that have some.
    pub fn chunks(&self) -> impl Iterator<Item = u64> + '_ {
        self.chunks.keys().copied()
    }

    /// The bits of a chunk up to the last one that is set, from the lowest bit of the first byte on; `None` when
    /// there are none.
    #[must_use]
    pub fn bits(&self, chunk: u64) -> Option<&[u8]> {
        let bytes = self.chunks.get(&chunk)?.as_slice();
        bytes.get(..bits::without_zeros(bytes))
    }

    /// Adds the positions of a chunk's bits; what is beyond the chunk is no position of it.
    pub fn add_bits(&mut self, chunk: u64, bits: &[u8]) {
        for position in positions(chunk, bits.get(..CHUNK_BYTES).unwrap_or(bits)) {
            self.insert(position);
        }
    }
}

impl FromIterator<Position> for PositionSet {
    fn from_iter<I: IntoIterator<Item = Position>>(positions: I) -> Self {
        let mut set = Self::default();
        for position in positions {
            set.insert(position);
        }
        set
    }
}

impl fmt::Debug for PositionSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// Chunk, byte in it, and bit in that.
fn place(position: Position) -> (u64, usize, u8) {
    let at = position.get() % CHUNK;
    (position.get() / CHUNK, usize::try_from(at / 8).unwrap_or_default(), 1 << (at % 8))
}

fn positions(chunk: u64, bits: &[u8]) -> impl Iterator<Item = Position> + '_ {
    let begin = chunk.saturating_mul(CHUNK);
    bits::ones(bits).map(move |at| Position::new(begin.saturating_add(at)))
}

fn count(bits: &[u8]) -> usize {
    bits.iter().map(|it| it.count_ones() as usize).sum()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_set(
            steps in prop::collection::vec((0_u64..5_000, any::<bool>()), 0..200),
            after in 0_u64..5_000,
        ) {
            let (mut set, mut model) = (PositionSet::default(), BTreeSet::new());
            for (number, insert) in steps {
                let position = Position::new(number);
                if insert {
                    prop_assert_eq!(set.insert(position), model.insert(position));
                } else {
                    let end = Position::new(number / 4);
                    set.remove_up_to(end);
                    model.retain(|it| *it > end);
                }
                prop_assert_eq!(set.contains(position), model.contains(&position));
            }
            prop_assert!(set.iter().eq(model.iter().copied()));
            prop_assert_eq!((set.len(), set.is_empty()), (model.len(), model.is_empty()));
            prop_assert_eq!(set.last(), model.last().copied());
            let after = Position::new(after);
            prop_assert_eq!(set.count_after(after), model.range(after.next()..).count());
            prop_assert_eq!(&model.iter().copied().collect::<PositionSet>(), &set);
            let mut read = PositionSet::default();
            for chunk in set.chunks() {
                read.add_bits(chunk, set.bits(chunk).unwrap());
            }
            prop_assert_eq!(read, set);
        }
    }

    #[test]
    fn the_greatest_position_has_a_place() {
        let mut set = PositionSet::default();
        let greatest = Position::new(u64::MAX);
        assert!(set.insert(greatest) && set.contains(greatest));
        assert_eq!(set.iter().collect::<Vec<_>>(), [greatest]);
        set.remove_up_to(greatest);
        assert!(set.is_empty());
    }
}
