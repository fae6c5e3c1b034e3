//! Keeps equal values once, as long as they are in use.

use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Hands out one allocation for equal values. Values that are no longer in use are dropped at the next call.
#[derive(Debug)]
pub struct Interner<T> {
    /// Searched in order: for some dozens of distinct values, and rare calls.
    entries: Mutex<Vec<Weak<T>>>,
}

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Self { entries: Mutex::default() }
    }
}

impl<T: PartialEq> Interner<T> {
    /// The same values, each replaced by an equal one that is in use already.
    pub fn intern(&self, values: Vec<T>) -> Arc<[Arc<T>]> {
        // Poisoning is ignored: a panic in a comparison leaves the list whole.
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|entry| entry.strong_count() > 0);
        let intern = |value: T| {
            let equal = entries.iter().filter_map(Weak::upgrade).find(|known| **known == value);
            equal.unwrap_or_else(|| {
                let value = Arc::new(value);
                entries.push(Arc::downgrade(&value));
                value
            })
        };
        values.into_iter().map(intern).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_kept_once_and_only_while_somebody_holds_them() {
        let interner = Interner::default();
        let first = interner.intern(vec!["mlock".to_owned(), "alias".to_owned()]);
        let second = interner.intern(vec!["alias".to_owned(), "jinja".to_owned()]);
        assert!(Arc::ptr_eq(&first[1], &second[0]) && !Arc::ptr_eq(&first[0], &second[1]));
        assert_eq!(*second[1], "jinja");
        drop((first, second));
        interner.intern(Vec::new());
        assert!(interner.entries.lock().expect("whole").is_empty());
    }
}
