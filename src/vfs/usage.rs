//! Bytes in use below a root, and promises of more: a quota that holds while many sessions write at once.
//!
//! Bytes are reserved before they are written and counted as used from then on. Never looks at a file: what is in
//! use at start is told by a sweep, and `recount` corrects it. Its lock is held for a sum only.

use super::recount::{self, Below};
use super::{Free, VfsError};
use crate::limits::{DATA_BUFFER, RECOUNT_EVERY, SPACE_EVERY};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Instant;

/// Bytes in use below one root, what is being written included. Shared by all sessions that write there.
#[derive(Debug, Default)]
pub struct Usage {
    counts: Mutex<Counts>,
    /// Where it can be counted anew.
    below: Option<Below>,
    keep_free: KeepFree,
}

#[derive(Debug, Default)]
struct Counts {
    /// Bytes in files. Less than nothing for a moment, when a file goes before its upload has told of it.
    settled: i128,
    /// Bytes that are reserved and not yet spent.
    held: u64,
    /// Changes of files of which `settled` will be told.
    changing: usize,
    /// Changes so far.
    changes: u64,
    recounted: Option<Instant>,
    /// Bytes reserved since the disk was asked for its room, and after how many it is asked again.
    unasked: u64,
    ask_after: u64,
}

/// What has to stay free on a disk: so many bytes, and so many hundredths of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeepFree {
    /// Bytes.
    pub bytes: u64,
    /// Hundredths.
    pub percent: u8,
}

/// As long as it lives files are being changed of which the usage has not been told.
#[derive(Debug)]
pub(super) struct Change(Arc<Usage>);

impl Counts {
    fn used(&self) -> u64 {
        u64::try_from(self.settled + i128::from(self.held)).unwrap_or(u64::MAX)
    }

    fn settle(&mut self, bytes: u64, freed: u64) {
        self.changes += 1;
        let settled = self.settled + i128::from(bytes) - i128::from(freed);
        // Others have put there what was removed: it was never counted.
        self.settled = settled.max(-i128::from(self.held));
    }
}

impl Usage {
    /// As a sweep has found it, in bytes.
    #[must_use]
    pub fn new(used: u64) -> Self {
        Self { counts: Mutex::new(Counts { settled: i128::from(used), ..Counts::default() }), ..Self::default() }
    }

    /// As [`Usage::new`], for a root that can be counted anew when there seems to be no room.
    #[must_use]
    pub fn below(place: Below) -> Self {
        Self { below: Some(place.clone()), ..Self::new(place.used()) }
    }

    /// So much of the disk has to stay free, whoever writes.
    #[must_use]
    pub fn keeping_free(self, keep_free: KeepFree) -> Self {
        Self { keep_free, ..self }
    }

    /// Bytes in use or reserved now.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.counts.lock().used()
    }

    /// Reserves bytes for one upload, unless more than `limit` would then be in use; the limit holds for
    /// all that the reservation will grow to. Where there seems to be no room the files are counted anew, if that
    /// was not done within the last minute.
    #[must_use]
    pub fn reserve(self: &Arc<Self>, bytes: u64, limit: u64) -> Option<Reservation> {
        let mut reservation = Reservation { usage: Arc::clone(self), limit, held: 0 };
        reservation.grow(bytes).then_some(reservation)
    }

    /// Counts bytes as free again that were in use: a file was removed or replaced.
    pub fn freed(&self, bytes: u64) {
        self.counts.lock().settle(0, bytes);
    }

    /// To be held while files are changed, until the usage was told.
    pub(super) fn changing(self: &Arc<Self>) -> Change {
        self.counts.lock().changing += 1;
        Change(Arc::clone(self))
    }

    fn take(&self, bytes: u64, limit: u64) -> bool {
        let mut counts = self.counts.lock();
        let fits = counts.used().checked_add(bytes).is_some_and(|used| used <= limit);
        if fits {
            counts.held += bytes;
            counts.unasked = counts.unasked.saturating_add(bytes);
        }
        fits
    }

    /// As [`Usage::recount`], due or not.
    #[cfg(test)]
    pub(super) fn recount_now(&self) -> bool {
        self.counts.lock().recounted = None;
        self.recount()
    }

    /// Counts the files anew, if they are due; false if the count is as it was. What changes meanwhile makes it
    /// worthless, but nothing that is still being written does: that is reserved, and no part of the files.
    fn recount(&self) -> bool {
        let Some(below) = &self.below else { return false };
        let changes = {
            let mut counts = self.counts.lock();
            let due = counts.recounted.is_none_or(|last| last.elapsed() >= RECOUNT_EVERY);
            if !due || counts.changing > 0 {
                return false;
            }
            counts.recounted = Some(Instant::now());
            counts.changes
        };
        let Some(found) = recount::count(below) else { return false };
        let mut counts = self.counts.lock();
        let valid = counts.changing == 0 && counts.changes == changes;
        if valid {
            counts.settled = i128::from(found);
        }
        valid
    }
}

impl Drop for Change {
    fn drop(&mut self) {
        let mut counts = self.0.counts.lock();
        counts.changing -= 1;
        counts.changes += 1;
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
        let take = || self.usage.take(bytes, self.limit);
        let grown = bytes == 0 || take() || (self.usage.recount() && take());
        if grown {
            self.held += bytes;
        }
        grown
    }

    /// Asks the disk for its room, by `look`, if that is due after what all sessions of the root have reserved since
    /// anybody did: together, and not each of them, they undercut what has to stay free by little. Where there is
    /// too little the next write asks again, whoever's it is.
    pub(super) fn leaves_room(&self, look: impl FnOnce() -> Result<Free, VfsError>) -> Result<(), VfsError> {
        let keep = self.usage.keep_free;
        let unasked = {
            let counts = self.usage.counts.lock();
            if keep == KeepFree::default() || counts.unasked < counts.ask_after {
                return Ok(());
            }
            counts.unasked
        };
        let free = look()?;
        let above = free.bytes.checked_sub(keep.bytes.max(free.total / 100 * u64::from(keep.percent)));
        let mut counts = self.usage.counts.lock();
        counts.unasked = counts.unasked.saturating_sub(unasked);
        counts.ask_after = above.map_or(0, |above| above.clamp(DATA_BUFFER as u64, SPACE_EVERY));
        above.map(drop).ok_or(VfsError::NoSpace)
    }

    pub(super) fn changing(&self) -> Change {
        self.usage.changing()
    }

    /// These bytes have been written to stay, and `freed` others are gone: the rest of the reservation is
    /// given back.
    pub fn spend(mut self, bytes: u64, freed: u64) {
        let mut counts = self.usage.counts.lock();
        counts.held -= self.held;
        counts.settle(bytes.min(self.held), freed);
        drop(counts);
        self.held = 0;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.usage.counts.lock().held -= self.held;
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
