//! A value that is exchanged as a whole while others use it.
//!
//! Owns the one place in which the value of now is found; never changes a value that somebody holds.

use parking_lot::RwLock;
use std::sync::Arc;

/// Holds a value. Whoever loads it keeps what was there, however often it is exchanged meanwhile. The lock is
/// held for as long as it takes to copy a pointer.
#[derive(Debug)]
pub struct Swap<T>(RwLock<Arc<T>>);

impl<T> Swap<T> {
    /// Holds this value.
    #[must_use]
    pub fn new(value: T) -> Self {
        Swap(RwLock::new(Arc::new(value)))
    }

    /// The value of now.
    #[must_use]
    pub fn load(&self) -> Arc<T> {
        Arc::clone(&self.0.read())
    }

    /// Puts another value in its place. The old one ends with the last who holds it.
    pub fn store(&self, value: T) {
        let new = Arc::new(value);
        // The old value may take long to free: not under the lock.
        let old = std::mem::replace(&mut *self.0.write(), new);
        drop(old);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_holds_the_old_value_keeps_it() {
        let swap = Swap::new(vec![1]);
        let old = swap.load();
        swap.store(vec![2]);
        assert_eq!((&*old, &*swap.load()), (&vec![1], &vec![2]));
        let watched = Arc::downgrade(&old);
        drop(old);
        assert!(watched.upgrade().is_none(), "the old value is kept");
    }
}
