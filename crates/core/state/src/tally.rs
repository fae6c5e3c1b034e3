//! Counts by key.

use std::fmt;

use serde::{Serialize, Serializer};

/// How often each key came. Takes no room for keys that never came: each server has several tallies, and most of them
/// stay empty.
#[derive(Clone, PartialEq, Eq)]
pub struct Tally<K>(Box<[(K, u64)]>);

impl<K: Copy + Ord> Tally<K> {
    /// Counts a key once more.
    pub fn count(&mut self, key: K) {
        match self.find(key) {
            Ok(place) => self.0[place].1 += 1,
            Err(place) => {
                let mut counts = std::mem::take(&mut self.0).into_vec();
                counts.insert(place, (key, 1));
                self.0 = counts.into();
            }
        }
    }

    /// How often a key came.
    pub fn of(&self, key: K) -> u64 {
        self.find(key).map_or(0, |place| self.0[place].1)
    }

    /// The keys that came, in order.
    pub fn keys(&self) -> impl Iterator<Item = K> {
        self.0.iter().map(|(key, _)| *key)
    }

    /// How often any key came.
    pub fn total(&self) -> u64 {
        self.0.iter().map(|(_, count)| count).sum()
    }

    fn find(&self, key: K) -> Result<usize, usize> {
        self.0.binary_search_by_key(&key, |(key, _)| *key)
    }
}

impl<K> Default for Tally<K> {
    fn default() -> Self {
        Self(Box::default())
    }
}

impl<K: fmt::Debug> fmt::Debug for Tally<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.iter().map(|(key, count)| (key, count))).finish()
    }
}

impl<K: Serialize> Serialize for Tally<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, count)| (key, count)))
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
