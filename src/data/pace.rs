//! A rate that is kept: how many bytes a second may move, over one connection or over several together.
//!
//! The generic cell rate algorithm, in one atomic: the point in time up to which all turns are given. A
//! transfer takes the next turn, waits for it, and gives back what it did not use. So turns come in the
//! order in which they were asked for, nobody who shares the rate is starved, and there is no lock. Nothing
//! here waits, or reads a clock.

use super::pulse::Tick;
use crate::limits::{PACE_BURST, PACE_PIECE, PACE_SLACK, PACE_TURN};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

const SECOND: u128 = 1_000_000_000;

/// A rate that all who share it keep together, in whichever direction they move bytes.
#[derive(Debug)]
pub struct Pace {
    /// Bytes a second, at least one.
    rate: u64,
    /// Nanoseconds since the process started at which the next turn begins.
    next: AtomicU64,
}

/// Leave to move some bytes at a certain time. What was not spent is given back when it is dropped.
#[derive(Debug)]
pub struct Turn<'a> {
    pace: Option<&'a Pace>,
    bytes: usize,
    spent: usize,
    at: Tick,
}

impl Pace {
    /// A rate of so many bytes a second; of none is one.
    #[must_use]
    pub fn new(bytes_per_second: u64) -> Self {
        Pace { rate: bytes_per_second.max(1), next: AtomicU64::new(0) }
    }

    /// The next turn, for at most `want` bytes, and at least one of them.
    #[must_use]
    pub fn turn(&self, now: Tick, want: usize) -> Turn<'_> {
        let bytes = want.min(self.piece());
        let now = now.nanoseconds();
        let cost = self.cost(bytes);
        let take = |next: u64| Some(next.max(now).saturating_add(cost));
        // Whoever has been away for long has saved up nothing, and what they may run ahead is fixed.
        let begins = self.next.fetch_update(Relaxed, Relaxed, take).unwrap_or_else(|next| next).max(now);
        let begins = begins.saturating_sub(nanoseconds(PACE_BURST));
        let at = if begins <= now { Tick::not_before(now) } else { Tick::not_before(begins).after(PACE_SLACK) };
        Turn { pace: Some(self), bytes, spent: 0, at }
    }

    /// Bytes of one turn at most.
    fn piece(&self) -> usize {
        let turn = u128::from(self.rate) * PACE_TURN.as_nanos() / SECOND;
        usize::try_from(turn).unwrap_or(PACE_PIECE).clamp(1, PACE_PIECE)
    }

    /// Nanoseconds that so many bytes take.
    fn cost(&self, bytes: usize) -> u64 {
        let cost = (bytes as u128 * SECOND).div_ceil(u128::from(self.rate));
        u64::try_from(cost).unwrap_or(u64::MAX)
    }
}

impl Turn<'_> {
    /// A turn for all that is wanted, at once, where no rate is kept.
    #[must_use]
    pub fn free(want: usize) -> Self {
        Turn { pace: None, bytes: want, spent: 0, at: Tick::NEVER }
    }

    /// How many bytes may move.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// When they may.
    #[must_use]
    pub fn at(&self) -> Tick {
        self.at
    }

    /// So many bytes of it have moved.
    pub fn spend(&mut self, bytes: usize) {
        self.spent = self.bytes.min(self.spent + bytes);
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let Some(pace) = self.pace.filter(|_| self.spent < self.bytes) else { return };
        let unused = pace.cost(self.bytes) - pace.cost(self.spent);
        // All turns that are out are in `next`, so this one is.
        pace.next.fetch_sub(unused, Relaxed);
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
