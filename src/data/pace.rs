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

    /// Bytes a second.
    #[must_use]
    pub fn rate(&self) -> u64 {
        self.rate
    }

    /// The next turn, for at most `want` bytes, and at least one of them.
    #[must_use]
    pub fn turn(&self, now: Tick, want: usize) -> Turn<'_> {
        let bytes = want.min(self.piece());
        let now = now.nanoseconds();
        let cost = self.cost(bytes);
        let take = |next: u64| Some(next.max(now).saturating_add(cost));
        // Whoever has been away for long has saved up nothing, and what they may run ahead is fixed.
        let begins = self.next.fetch_update(Relaxed, Relaxed, take).unwrap_or_else(|next| next);
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

#[cfg(test)]
mod tests {
    use super::*;

    const MOMENT: Duration = Duration::from_millis(100);

    fn at(milliseconds: u64) -> Tick {
        Tick::not_before(milliseconds * 1_000_000)
    }

    /// Ten seconds from `start` of so many transfers that share `pace`, on a clock of their own: the bytes of
    /// each, and how often one had to wait. Whoever waits wakes `late`; of each turn `used` is used.
    fn ten_seconds(
        pace: &Pace,
        start: Tick,
        transfers: usize,
        late: Duration,
        used: fn(usize) -> usize,
    ) -> (Vec<u64>, u64) {
        let mut all: Vec<(Tick, Option<Turn<'_>>, u64)> = (0..transfers).map(|_| (start, None, 0)).collect();
        let mut waits = 0;
        loop {
            let (now, turn, moved) = all.iter_mut().min_by_key(|(due, ..)| *due).unwrap();
            if *now >= start.after(Duration::from_secs(10)) {
                return (all.into_iter().map(|(.., moved)| moved).collect(), waits);
            }
            if let Some(mut turn) = turn.take() {
                let bytes = used(turn.bytes());
                turn.spend(bytes);
                *moved += bytes as u64;
            } else {
                let taken = pace.turn(*now, usize::MAX);
                if taken.at() > *now {
                    *now = taken.at().after(late);
                    waits += 1;
                }
                *turn = Some(taken);
            }
        }
    }

    fn assert_within(moved: u64, expected: u64, what: &str) {
        assert!(moved.abs_diff(expected) * 20 <= expected, "{what}: {moved} bytes, not {expected}");
    }

    #[test]
    fn a_rate_is_kept_within_five_in_a_hundred_over_ten_seconds() {
        for rate in [100, 2_000, 50_000, 1 << 20, 100_000_000, 2_000_000_000] {
            for late in [Duration::ZERO, MOMENT] {
                let (moved, _) = ten_seconds(&Pace::new(rate), at(5), 1, late, |all| all);
                assert_within(moved[0], rate * 10, &format!("{rate} a second, {late:?} late"));
            }
        }
    }

    #[test]
    fn those_who_share_a_rate_keep_it_together_and_get_the_same() {
        for (rate, transfers) in [(100_000, 5), (10_000_000, 50)] {
            let (moved, _) = ten_seconds(&Pace::new(rate), at(5), transfers, MOMENT / 2, |all| all);
            assert_within(moved.iter().sum(), rate * 10, "together");
            let (least, most) = (moved.iter().min().unwrap(), moved.iter().max().unwrap());
            // Whoever came first has had all that may run ahead.
            assert!(most - least <= rate / 5 + 2 * PACE_PIECE as u64, "{least} to {most}");
        }
    }

    #[test]
    fn what_of_a_turn_is_not_used_is_not_lost() {
        let (moved, _) = ten_seconds(&Pace::new(1 << 20), at(5), 1, Duration::ZERO, |all| all / 3);
        assert_within(moved[0], 10 << 20, "a third of each turn");
        let pace = Pace::new(1000);
        for _ in 0..1000 {
            assert_eq!(pace.turn(at(70), 100).at(), at(70), "turns that were given back cost nothing");
        }
        assert_eq!(pace.next.load(Relaxed), at(70).nanoseconds());
    }

    #[test]
    fn a_pause_saves_up_no_more_than_the_burst() {
        let pace = Pace::new(1_000_000);
        let (before, _) = ten_seconds(&pace, at(5), 1, Duration::ZERO, |all| all);
        let (after, _) = ten_seconds(&pace, at(3_600_000), 1, Duration::ZERO, |all| all);
        assert_within(before[0], 10_000_000, "before");
        assert_within(after[0], 10_000_000, "after an hour");
        let free: usize = std::iter::from_fn(|| {
            let mut turn = pace.turn(at(7_200_000), usize::MAX);
            turn.spend(turn.bytes());
            (turn.at() <= at(7_200_000)).then(|| turn.bytes())
        })
        .sum();
        assert!((200_000..=200_000 + PACE_PIECE).contains(&free), "{free} bytes at once");
    }

    #[test]
    fn a_high_rate_waits_no_more_than_fifty_times_a_second() {
        let (_, waits) = ten_seconds(&Pace::new(500_000_000), at(5), 1, Duration::ZERO, |all| all);
        assert!(waits <= 500, "{waits} waits");
    }

    #[test]
    fn threads_that_share_a_rate_are_never_given_the_same_turn() {
        let pace = Pace::new(1 << 30);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for round in 0..10_000 {
                        let mut turn = pace.turn(at(1), 1 << 10);
                        // Each second one gives back all of it.
                        turn.spend((round % 2) << 10);
                    }
                });
            }
        });
        let turns = (pace.next.load(Relaxed) - at(1).nanoseconds()) / pace.cost(1 << 10);
        assert_eq!(turns, 4 * 5_000);
    }

    #[test]
    fn where_no_rate_is_kept_all_may_move_and_nothing_is_given_back() {
        let turn = Turn::free(SOME);
        assert_eq!(turn.bytes(), SOME);
        drop(turn);
        assert_eq!(Pace::new(0).turn(at(1), SOME).bytes(), 1, "a rate of nothing would never end");
    }

    const SOME: usize = 12_345_678;
}
