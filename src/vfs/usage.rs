//! Bytes in use below a root, and promises of more: a quota that holds while many sessions write at once.
//!
//! Bytes are reserved before they are written and counted as used from then on. Never looks at a file:
//! what is in use at start is told by a sweep.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes in use below one root, what is being written included. Shared by all sessions that write there.
#[derive(Debug, Default)]
pub struct Usage {
    bytes: AtomicU64,
}

impl Usage {
    /// As a sweep has found it, in bytes.
    #[must_use]
    pub fn new(used: u64) -> Self {
        Self { bytes: AtomicU64::new(used) }
    }

    /// Bytes in use or reserved now.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Reserves bytes for one upload, unless more than `limit` would then be in use; the limit holds for
    /// all that the reservation will grow to.
    #[must_use]
    pub fn reserve(self: &Arc<Self>, bytes: u64, limit: u64) -> Option<Reservation> {
        let mut reservation = Reservation { usage: Arc::clone(self), limit, held: 0 };
        reservation.grow(bytes).then_some(reservation)
    }

    /// Counts bytes as free again that were in use: a file was removed or replaced.
    pub fn freed(&self, bytes: u64) {
        self.change(|used| Some(used.saturating_sub(bytes)));
    }

    /// Whether `new` gave a number. No other memory hangs on the count, so no order is asked for.
    fn change(&self, new: impl FnMut(u64) -> Option<u64>) -> bool {
        self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, new).is_ok()
    }
}

/// Bytes that one upload may write. Dropped, it gives back all that was not spent.
#[derive(Debug)]
pub struct Reservation {
    usage: Arc<Usage>,
    limit: u64,
    held: u64,
}

impl Reservation {
    /// Bytes that are reserved and not yet spent.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.held
    }

    /// Reserves more bytes; false, and nothing is changed, where that would exceed the limit. No bytes are
    /// always granted: what changes a file without making it longer exceeds nothing.
    #[must_use]
    pub fn grow(&mut self, bytes: u64) -> bool {
        if bytes == 0 {
            return true;
        }
        let limit = self.limit;
        let grown = self.usage.change(|used| used.checked_add(bytes).filter(|used| *used <= limit));
        if grown {
            self.held += bytes;
        }
        grown
    }

    /// These bytes have been written to stay, and `freed` others are gone: the rest of the reservation is
    /// given back.
    pub fn spend(mut self, bytes: u64, freed: u64) {
        self.held -= bytes.min(self.held);
        self.usage.freed(freed);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.usage.freed(self.held);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn twenty_threads_never_reserve_more_than_there_is() {
        const LIMIT: u64 = 100_000;
        let usage = Arc::new(Usage::new(1_000));
        let spent: u64 = std::thread::scope(|scope| {
            let sessions: Vec<_> = (0..20_u64)
                .map(|session| {
                    let usage = &usage;
                    scope.spawn(move || {
                        let mut spent = 0;
                        for turn in 0..2_000 {
                            let Some(mut held) = usage.reserve(1 + (session * turn) % 97, LIMIT) else { continue };
                            let _ = held.grow(session);
                            assert!(usage.used() <= LIMIT);
                            match turn % 5 {
                                0 => {
                                    spent += held.held();
                                    let all = held.held();
                                    held.spend(all, 0);
                                }
                                1 => {
                                    // Less has been written, and as much was replaced.
                                    let some = held.held() / 2;
                                    held.spend(some, some);
                                }
                                _ => drop(held),
                            }
                        }
                        spent
                    })
                })
                .collect();
            sessions.into_iter().map(|session| session.join().unwrap()).sum()
        });
        assert_eq!(usage.used(), 1_000 + spent);
        assert!(usage.used() <= LIMIT);
        // It was full, or this has shown nothing.
        assert!(usage.used() > LIMIT - 97, "{}", usage.used());
    }

    #[test]
    fn numbers_at_the_edge_are_refused_and_not_wrapped() {
        let usage = Arc::new(Usage::new(u64::MAX - 1));
        assert!(usage.reserve(2, u64::MAX).is_none());
        let mut held = usage.reserve(1, u64::MAX).unwrap();
        assert!(!held.grow(1) && held.grow(0));
        drop(held);
        assert!(usage.reserve(0, 0).is_some());
        usage.freed(u64::MAX);
        assert_eq!(usage.used(), 0);
        usage.freed(1);
        assert_eq!(usage.used(), 0);
    }

    #[derive(Debug, Clone)]
    enum Act {
        Reserve(u64),
        Grow(usize, u64),
        Spend(usize, u64),
        GiveUp(usize),
    }

    fn act() -> impl Strategy<Value = Act> {
        let bytes = 0..400_u64;
        prop_oneof![
            bytes.clone().prop_map(Act::Reserve),
            (any::<usize>(), bytes.clone()).prop_map(|(which, bytes)| Act::Grow(which, bytes)),
            (any::<usize>(), bytes).prop_map(|(which, bytes)| Act::Spend(which, bytes)),
            any::<usize>().prop_map(Act::GiveUp),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn what_is_in_use_is_what_was_spent_and_what_is_held(
            began in 0..1_000_u64,
            limit in 0..1_000_u64,
            acts in prop::collection::vec(act(), 0..60),
        ) {
            let usage = Arc::new(Usage::new(began));
            let (mut spent, mut held) = (began, Vec::<Reservation>::new());
            for act in acts {
                let before = usage.used();
                match act {
                    Act::Reserve(bytes) => {
                        let granted = usage.reserve(bytes, limit);
                        prop_assert_eq!(granted.is_some(), bytes == 0 || before + bytes <= limit);
                        held.extend(granted);
                    }
                    Act::Grow(which, bytes) if !held.is_empty() => {
                        let which = which % held.len();
                        prop_assert_eq!(held[which].grow(bytes), bytes == 0 || before + bytes <= limit);
                    }
                    Act::Spend(which, bytes) if !held.is_empty() => {
                        let reservation = held.swap_remove(which % held.len());
                        let bytes = bytes.min(reservation.held());
                        reservation.spend(bytes, 0);
                        spent += bytes;
                    }
                    Act::GiveUp(which) if !held.is_empty() => drop(held.swap_remove(which % held.len())),
                    _ => {}
                }
                let sum: u64 = held.iter().map(Reservation::held).sum();
                prop_assert_eq!(usage.used(), spent + sum);
                prop_assert!(usage.used() <= limit.max(began));
            }
        }
    }
}
