//! A Bloom filter: whether a segment may hold a term or an event id.
//!
//! The classic filter with double hashing (Kirsch and Mitzenmacher, "Less hashing, same
//! performance", 2006): probe i looks at bit h1 + i * h2.

/// Bits per key; with 7 probes about 0.8 % of absent keys pass.
const BITS_PER_KEY: usize = 10;
const PROBES: u64 = 7;

/// Answers "certainly not" or "perhaps".
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filter {
    words: Vec<u64>,
}

impl Filter {
    /// An empty filter for this many keys.
    pub(crate) fn for_keys(keys: usize) -> Self {
        Self { words: vec![0; (keys * BITS_PER_KEY).div_ceil(64).max(1)] }
    }

    pub(crate) fn insert(&mut self, hash: u64) {
        for (word, bit) in self.places(hash) {
            if let Some(word) = self.words.get_mut(word) {
                *word |= bit;
            }
        }
    }

    pub(crate) fn may_contain(&self, hash: u64) -> bool {
        self.places(hash).all(|(word, bit)| self.words.get(word).is_some_and(|it| it & bit != 0))
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        self.words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        let (words, _) = bytes.as_chunks();
        Self { words: words.iter().map(|word| u64::from_be_bytes(*word)).collect() }
    }

    fn places(&self, hash: u64) -> impl Iterator<Item = (usize, u64)> + use<> {
        let bits = (self.words.len() as u64 * 64).max(1);
        let step = hash.rotate_left(32) | 1;
        (0..PROBES).map(move |probe| {
            let bit = hash.wrapping_add(probe.wrapping_mul(step)) % bits;
            (usize::try_from(bit / 64).unwrap_or(usize::MAX), 1 << (bit % 64))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Filter;
    use xxhash_rust::xxh3::xxh3_64;

    #[test]
    fn present_keys_always_pass_and_absent_ones_seldom() {
        let hash = |n: u64| xxh3_64(&n.to_be_bytes());
        let mut filter = Filter::for_keys(10_000);
        (0..10_000).for_each(|n| filter.insert(hash(n)));
        let filter = Filter::from_bytes(&filter.to_bytes());
        assert!((0..10_000).all(|n| filter.may_contain(hash(n))));
        let passed = (10_000..110_000).filter(|n| filter.may_contain(hash(*n))).count();
        assert!(passed < 2_000, "{passed} of 100 000 absent keys passed");
    }
}
