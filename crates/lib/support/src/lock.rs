//! A mutex whose holder may have panicked.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks `mutex`, also after a panic of an earlier holder.
///
/// Use it for values that are whole between any two statements of a holder, such as a map or a counter. The panic itself
/// has been reported where it happened; passing it on here would end one task after another.
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_a_holder_leaves_the_value_usable() {
        let value = Mutex::new(1);
        std::thread::scope(|scope| {
            let holder = scope.spawn(|| {
                *lock(&value) = 2;
                let _held = value.lock();
                panic!("expected by this test");
            });
            assert!(holder.join().is_err());
        });
        assert!(value.is_poisoned());
        assert_eq!(*lock(&value), 2);
    }
}
