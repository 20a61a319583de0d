//! A Bloom filter in blocks: whether a segment may hold a term or an event id.
//!
//! A key's bits all lie in one block of 64 bytes, so a question costs one cache miss (Putze, Sanders
//! and Singler, "Cache-, Hash- and Space-Efficient Bloom Filters", 2007). Blocks are chosen by the
//! high bits of the hash, so a filter made for too many keys can be folded to the number it got.

/// Bits per key; with 7 probes about 1 in 7 000 absent keys passes. A new event id asks every segment, and
/// one that passes reads a row in vain, which takes as long as all else that is done for the event: with 16
/// bits, and 1 in 600, that was a tenth of the time in a store of a few million events.
const BITS_PER_KEY: usize = 24;
const PROBES: u32 = 7;
const BLOCK_WORDS: usize = 8;
const BLOCK_BITS: usize = BLOCK_WORDS * 64;
/// Takes 9 bits of a hash for each probe.
const PROBE_BITS: u32 = BLOCK_BITS.ilog2();
/// Filters are made of a multiple of this many blocks, so that they can be folded.
const FOLD_MAX: usize = 12;
/// Ways to fold, the strongest first: so many neighbours become one. All divide `FOLD_MAX`.
const FOLDS: [usize; 5] = [12, 6, 4, 3, 2];

pub(crate) type Block = [u64; BLOCK_WORDS];

/// Answers "certainly not" or "perhaps".
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filter {
    blocks: Vec<Block>,
}

impl Filter {
    /// An empty filter for this many keys.
    pub(crate) fn for_keys(keys: usize) -> Self {
        let blocks = blocks_for(keys).next_multiple_of(FOLD_MAX);
        Self { blocks: vec![[0; BLOCK_WORDS]; blocks] }
    }

    pub(crate) fn insert(&mut self, hash: u64) {
        let place = self.block_of(hash);
        if let Some(block) = self.blocks.get_mut(place) {
            for (word, bits) in block.iter_mut().zip(bits_of(hash)) {
                *word |= bits;
            }
        }
    }

    pub(crate) fn may_contain(&self, hash: u64) -> bool {
        self.may_contain_all(hash, &bits_of(hash))
    }

    /// The same with the key's bits, for a key that is looked for in many filters. Looks at all words:
    /// where the first missing bit is cannot be foreseen, and a branch on it would keep the processor
    /// from going on to the next filter.
    pub(crate) fn may_contain_all(&self, hash: u64, bits: &Block) -> bool {
        let missing = |block: &Block| {
            block.iter().zip(bits).fold(0, |missing, (word, bits)| missing | (bits & !word))
        };
        self.blocks.get(self.block_of(hash)).is_some_and(|block| missing(block) == 0)
    }

    /// The filter as it would be had it been made for about this many keys, which must be all it
    /// has. At most twice as large as it needs to be.
    pub(crate) fn fold_to(self, keys: usize) -> Self {
        let wanted = blocks_for(keys);
        let fits = |fold: &&usize| {
            self.blocks.len().is_multiple_of(**fold) && self.blocks.len() / **fold >= wanted
        };
        let Some(fold) = FOLDS.iter().find(fits) else { return self };
        let together = |blocks: &[Block]| {
            let mut sum = [0; BLOCK_WORDS];
            for block in blocks {
                sum.iter_mut().zip(block).for_each(|(word, bits)| *word |= bits);
            }
            sum
        };
        Self { blocks: self.blocks.chunks(*fold).map(together).collect() }
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        self.blocks.iter().flatten().flat_map(|word| word.to_be_bytes()).collect()
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        let (words, _) = bytes.as_chunks();
        let words: Vec<u64> = words.iter().map(|word| u64::from_be_bytes(*word)).collect();
        let (blocks, _) = words.as_chunks();
        Self { blocks: blocks.to_vec() }
    }

    fn block_of(&self, hash: u64) -> usize {
        let place = (u128::from(hash) * self.blocks.len() as u128) >> 64;
        usize::try_from(place).unwrap_or(usize::MAX)
    }
}

fn blocks_for(keys: usize) -> usize {
    keys.saturating_mul(BITS_PER_KEY).div_ceil(BLOCK_BITS).max(1)
}

/// The bits of a key inside its block.
pub(crate) fn bits_of(hash: u64) -> Block {
    // Keys of one block share the high bits of their hashes; a product's high bits depend on all.
    let mixed = hash.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut bits = [0; BLOCK_WORDS];
    for probe in 0..PROBES {
        let bit = (mixed >> (probe * PROBE_BITS)) % BLOCK_BITS as u64;
        if let Some(word) = usize::try_from(bit / 64).ok().and_then(|it| bits.get_mut(it)) {
            *word |= 1 << (bit % 64);
        }
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::Filter;
    use xxhash_rust::xxh3::xxh3_64;

    fn hash(n: u64) -> u64 {
        xxh3_64(&n.to_be_bytes())
    }

    #[track_caller]
    fn check(filter: &Filter, keys: u64, bytes_max: usize) {
        let filter_bytes = filter.to_bytes();
        assert!(filter_bytes.len() <= bytes_max, "{} bytes", filter_bytes.len());
        let filter = Filter::from_bytes(&filter_bytes);
        assert!((0..keys).all(|n| filter.may_contain(hash(n))));
        let passed = (keys..keys + 100_000).filter(|n| filter.may_contain(hash(*n))).count();
        assert!(passed < 60, "{passed} of 100 000 absent keys passed");
    }

    #[test]
    fn present_keys_always_pass_and_absent_ones_seldom() {
        let mut filter = Filter::for_keys(10_000);
        (0..10_000).for_each(|n| filter.insert(hash(n)));
        check(&filter, 10_000, 31_000);
    }

    #[test]
    fn a_filter_made_for_too_many_keys_shrinks_to_what_it_has() {
        for made_for in [10_000, 19_000, 21_000, 45_000, 100_000, 1_000_000] {
            let mut filter = Filter::for_keys(made_for);
            (0..10_000).for_each(|n| filter.insert(hash(n)));
            check(&filter.fold_to(10_000), 10_000, (2 * 30_000).max(made_for / 12 * 3) + 800);
        }
    }
}
