//! A bounded sample of the identities in an endless row of events.

use std::collections::HashMap;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::cli::bench::reads::Identity;

/// Identities that are kept; from one halving to the next there are fewer.
const KEPT_MAX: usize = 8192;

/// Some of the identities seen, each as likely as any other however often it occurs, and how often
/// each of them occurred.
pub(crate) struct Sample {
    kept: HashMap<Identity, u64>,
    /// Only identities that hash to this or less are kept. It never rises, so that whoever is kept
    /// has been counted from the first time on.
    hash_max: u64,
}

impl Sample {
    pub(crate) fn new() -> Self {
        Self { kept: HashMap::new(), hash_max: u64::MAX }
    }

    pub(crate) fn add(&mut self, namespace: &str, id: &str) {
        if hash(namespace, id) > self.hash_max {
            return;
        }
        *self.kept.entry((namespace.to_owned(), id.to_owned())).or_default() += 1;
        while self.kept.len() > KEPT_MAX {
            self.hash_max /= 2;
            self.kept.retain(|(namespace, id), _| hash(namespace, id) <= self.hash_max);
        }
    }

    /// The identities with their counts, in a fixed order.
    pub(crate) fn identities(&self) -> Vec<(&Identity, u64)> {
        let mut identities: Vec<_> = self.kept.iter().map(|(it, count)| (it, *count)).collect();
        identities.sort_unstable();
        identities
    }
}

fn hash(namespace: &str, id: &str) -> u64 {
    xxh3_64_with_seed(id.as_bytes(), namespace.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::{KEPT_MAX, Sample};

    #[test]
    fn every_identity_is_as_likely_and_counted_in_full() {
        let mut sample = Sample::new();
        for round in 0..3_u64 {
            for number in 0..100_000_u64 {
                // Every tenth identity occurs three times, the others once.
                if round == 0 || number % 10 == 0 {
                    sample.add("ECID", &number.to_string());
                }
            }
        }
        let identities = sample.identities();
        assert!((KEPT_MAX / 4..=KEPT_MAX).contains(&identities.len()), "{}", identities.len());
        let is_frequent = |id: &str| id.parse::<u64>().unwrap() % 10 == 0;
        for ((_, id), count) in &identities {
            assert_eq!(*count, if is_frequent(id) { 3 } else { 1 }, "{id}");
        }
        let frequent = identities.iter().filter(|((_, id), _)| is_frequent(id)).count();
        let part = identities.len() / 10;
        assert!((part * 4 / 5..part * 6 / 5).contains(&frequent), "{frequent} of {part}");
    }
}
