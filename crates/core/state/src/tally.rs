//! Counts by key.

use std::collections::BTreeMap;

use serde::Serialize;

/// The number of occurrences of each key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Tally<K: Ord>(BTreeMap<K, u64>);

impl<K: Copy + Ord> Tally<K> {
    /// Counts one occurrence.
    pub fn count(&mut self, key: K) {
        *self.0.entry(key).or_default() += 1;
    }

    /// Counts many occurrences at once.
    pub fn add(&mut self, key: K, occurrences: u64) {
        *self.0.entry(key).or_default() += occurrences;
    }

    /// The occurrences of one key.
    pub fn of(&self, key: K) -> u64 {
        self.0.get(&key).copied().unwrap_or_default()
    }

    /// The keys that occurred, in order.
    pub fn keys(&self) -> impl Iterator<Item = K> {
        self.0.keys().copied()
    }

    /// The occurrences of all keys.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }
}

impl<K: Ord> From<BTreeMap<K, u64>> for Tally<K> {
    fn from(counts: BTreeMap<K, u64>) -> Self {
        Self(counts)
    }
}

impl<K: Ord> From<Tally<K>> for BTreeMap<K, u64> {
    fn from(tally: Tally<K>) -> Self {
        tally.0
    }
}

impl<K: Ord> Default for Tally<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_counted_and_listed_in_order() {
        let mut tally = Tally::default();
        for key in [3, 1, 3, 2, 3] {
            tally.count(key);
        }
        assert_eq!((tally.of(3), tally.of(1), tally.of(4), tally.total()), (3, 1, 0, 5));
        assert_eq!(tally.keys().collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(serde_json::to_string(&tally).expect("serializes"), r#"{"1":1,"2":1,"3":3}"#);
    }
}
