//! A Bloom filter in blocks: whether a segment may hold a term or an event id.
//!
//! A key's bits all lie in one block of 64 bytes, so a question costs one cache miss (Putze, Sanders
//! and Singler, "Cache-, Hash- and Space-Efficient Bloom Filters", 2007). Blocks are chosen by the
//! high bits of the hash.

/// Bits per key; with 7 probes about 1 in 7 000 absent keys passes. A new event id asks every large segment, and
/// one that passes reads a row in vain, which takes as long as all else that is done for the event: with 16
/// bits, and 1 in 600, that was a tenth of the time in a store of a few million events.
const BITS_PER_KEY: usize = 24;
const PROBES: u32 = 7;
const BLOCK_WORDS: usize = 8;
const BLOCK_BITS: usize = BLOCK_WORDS * 64;
/// Takes 9 bits of a hash for each probe.
const PROBE_BITS: u32 = BLOCK_BITS.ilog2();

pub(crate) type Block = [u64; BLOCK_WORDS];

/// Answers "certainly not" or "perhaps".
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filter {
    blocks: Vec<Block>,
}

impl Filter {
    /// An empty filter for this many keys.
    pub(crate) fn for_keys(keys: usize) -> Self {
        let blocks = keys.saturating_mul(BITS_PER_KEY).div_ceil(BLOCK_BITS).max(1);
        Self { blocks: vec![[0; BLOCK_WORDS]; blocks] }
    }

    /// The filter of keys with these hashes.
    pub(crate) fn of(hashes: &[u64]) -> Self {
        let mut filter = Self::for_keys(hashes.len());
        for hash in hashes {
            filter.insert(*hash);
        }
        filter
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
        let hashes: Vec<_> = (0..10_000).map(hash).collect();
        check(&Filter::of(&hashes), 10_000, 31_000);
    }
}
