//! What was seen: times in histograms of fixed size, counts, and sessions over time.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::{CreationError, Histogram};

use super::fault::{Failure, Fault, Refusal};
use crate::config::load::Kind;

/// Longest time that is told apart, in microseconds: an hour.
const LONGEST: u64 = 3_600_000_000;

/// Significant digits of a time.
const DIGITS: u8 = 3;

/// A session begins late if it begins this long after its time: longer than a busy host takes to wake a
/// thread.
pub const LATE: Duration = Duration::from_millis(10);

/// Who has waited this long for a login when the time is up was kept waiting: longer than a server that serves takes.
pub const LONG_WAIT: Duration = Duration::from_secs(1);

/// Most steps of [`Series`].
const STEPS_MAX: usize = 600;

/// Times, to the microsecond.
#[derive(Debug, Clone)]
pub struct Times(Histogram<u64>);

impl Times {
    fn new() -> Result<Self, CreationError> {
        Histogram::new_with_bounds(1, LONGEST, DIGITS).map(Self)
    }

    fn add(&mut self, time: Duration) {
        self.0.saturating_record(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The time, in milliseconds, that this share of them does not exceed; `None` where there are none.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<f64> {
        (!self.0.is_empty()).then(|| milliseconds(self.0.value_at_quantile(share).min(self.0.max())))
    }

    /// The longest, in milliseconds.
    #[must_use]
    pub fn max(&self) -> Option<f64> {
        (!self.0.is_empty()).then(|| milliseconds(self.0.max()))
    }
}

#[expect(clippy::cast_precision_loss, reason = "at most an hour")]
fn milliseconds(microseconds: u64) -> f64 {
    microseconds as f64 / 1000.0
}

/// Sessions that ended in each step of time, well or not. When there are too many steps each becomes twice
/// as long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Series {
    step: Duration,
    succeeded: Vec<u64>,
    lost: Vec<u64>,
}

impl Series {
    fn new() -> Self {
        Self { step: Duration::from_millis(100), succeeded: Vec::new(), lost: Vec::new() }
    }

    fn add(&mut self, at: Duration, succeeded: bool) {
        let mut index = at.as_nanos() / self.step.as_nanos().max(1);
        while index >= STEPS_MAX as u128 {
            let halved = |counts: &[u64]| counts.chunks(2).map(|pair| pair.iter().sum()).collect();
            (self.succeeded, self.lost) = (halved(&self.succeeded), halved(&self.lost));
            (self.step, index) = (self.step * 2, index / 2);
        }
        let index = usize::try_from(index).unwrap_or(0);
        for counts in [&mut self.succeeded, &mut self.lost] {
            counts.resize(counts.len().max(index + 1), 0);
        }
        let counts = if succeeded { &mut self.succeeded } else { &mut self.lost };
        if let Some(count) = counts.get_mut(index) {
            *count += 1;
        }
    }

    /// Length of a step.
    #[must_use]
    pub fn step(&self) -> Duration {
        self.step
    }

    /// Sessions that succeeded in each.
    #[must_use]
    pub fn succeeded(&self) -> &[u64] {
        &self.succeeded
    }

    /// Sessions that were refused or failed in each: as many steps.
    #[must_use]
    pub fn lost(&self) -> &[u64] {
        &self.lost
    }
}

/// What one session saw, each time from the moment at which it should have begun.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// There was a control connection.
    pub connected: bool,
    /// Until the login was accepted.
    pub logon: Option<Duration>,
    /// The login was accepted only when the time of the run was up, after a wait of more than [`LONG_WAIT`].
    pub kept_waiting: bool,
    /// It ended before the time of the run was up.
    pub in_time: bool,
    /// It would have stayed, and had to leave because the time of the run was up.
    pub cut: bool,
    /// Until the first byte of data had come.
    pub first_byte: Option<Duration>,
    /// Bytes of data that came.
    pub received: u64,
    /// Bytes of data that went.
    pub sent: u64,
    /// An uploaded file is still on the server.
    pub left_behind: bool,
}

/// Everything that was seen.
#[derive(Debug, Clone)]
pub struct Measure {
    /// Sessions that have begun.
    pub begun: u64,
    /// Sessions that succeeded.
    pub succeeded: u64,
    /// Sessions that were at rest when the time was up, and left: how long they would have stayed is not known.
    pub cut: u64,
    /// Sessions, of those that succeeded or were cut, that had waited long for their login when the time was up: it may
    /// be that they only got in because others left.
    pub kept_waiting: u64,
    /// Sessions, of those that succeeded, that had ended when the time was up.
    pub in_time: u64,
    /// Whether there ever was a control connection.
    pub connected: bool,
    /// The first failure to connect.
    pub unreachable: Option<Failure>,
    /// From the beginning to 230.
    pub logon: Times,
    /// From the beginning to the first byte of data.
    pub first_byte: Times,
    /// From the beginning to the reply to QUIT, of sessions that succeeded.
    pub session: Times,
    /// The same for each kind of session.
    pub kinds: BTreeMap<Kind, Times>,
    /// How long after their time sessions of the open loop began.
    pub lateness: Times,
    /// How many began more than [`LATE`] after it.
    pub late: u64,
    /// Replies that ended sessions.
    pub refusals: BTreeMap<Refusal, u64>,
    /// Errors that did.
    pub failures: BTreeMap<Failure, u64>,
    /// Bytes of data that came.
    pub received: u64,
    /// Bytes of data that went.
    pub sent: u64,
    /// Uploaded files that the server did not let delete.
    pub left_behind: u64,
    /// Sessions that have ended, but for those that were cut, over time.
    pub series: Series,
    /// When the last session ended that was not cut, from the start.
    pub last: Duration,
}

impl Measure {
    /// Nothing yet.
    ///
    /// # Errors
    /// Never: the bounds of the histograms are fixed, and sound.
    pub fn new(mix: &[(Kind, u32)]) -> Result<Self, CreationError> {
        let mut kinds = BTreeMap::new();
        for &(kind, _) in mix {
            kinds.insert(kind, Times::new()?);
        }
        Ok(Self {
            begun: 0,
            succeeded: 0,
            cut: 0,
            kept_waiting: 0,
            in_time: 0,
            connected: false,
            unreachable: None,
            logon: Times::new()?,
            first_byte: Times::new()?,
            session: Times::new()?,
            kinds,
            lateness: Times::new()?,
            late: 0,
            refusals: BTreeMap::new(),
            failures: BTreeMap::new(),
            received: 0,
            sent: 0,
            left_behind: 0,
            series: Series::new(),
            last: Duration::ZERO,
        })
    }

    /// A session begins, this long after its time if it had one.
    pub fn begins(&mut self, lateness: Option<Duration>) {
        self.begun += 1;
        if let Some(lateness) = lateness {
            self.lateness.add(lateness);
            self.late += u64::from(lateness > LATE);
        }
    }

    /// A session has ended: what it saw, how long it took or why it failed, and when that was.
    pub fn ends(&mut self, kind: Kind, seen: &Seen, result: Result<Duration, Fault>, at: Duration) {
        self.connected |= seen.connected;
        self.received += seen.received;
        self.sent += seen.sent;
        self.left_behind += u64::from(seen.left_behind);
        if let Some(time) = seen.logon {
            self.logon.add(time);
        }
        if let Some(time) = seen.first_byte {
            self.first_byte.add(time);
        }
        self.kept_waiting += u64::from(seen.kept_waiting && result.is_ok());
        if seen.cut && result.is_ok() {
            self.cut += 1;
            return;
        }
        self.last = self.last.max(at);
        self.series.add(at, result.is_ok());
        match result {
            Ok(time) => {
                self.succeeded += 1;
                self.in_time += u64::from(seen.in_time);
                self.session.add(time);
                if let Some(times) = self.kinds.get_mut(&kind) {
                    times.add(time);
                }
            }
            Err(Fault::Refused(refusal)) => *self.refusals.entry(refusal).or_default() += 1,
            Err(Fault::Failed(failure)) => {
                *self.failures.entry(failure).or_default() += 1;
                if failure.is_connect() {
                    self.unreachable.get_or_insert(failure);
                }
            }
        }
    }

    /// Sessions that a reply ended.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refusals.values().sum()
    }

    /// Sessions that an error ended.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// Sessions that have begun and not ended.
    #[must_use]
    pub fn unfinished(&self) -> u64 {
        self.begun.saturating_sub(self.succeeded + self.cut + self.refused() + self.failed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn measure() -> Measure {
        Measure::new(&[(Kind::Fetch, 1), (Kind::List, 2)]).unwrap()
    }

    #[test]
    fn quantiles_have_three_digits() {
        let mut times = Times::new().unwrap();
        assert_eq!((times.quantile(0.5), times.max()), (None, None));
        for number in 1..=1000 {
            times.add(number * MS);
        }
        for (share, expected) in [(0.5, 500.0), (0.9, 900.0), (0.99, 990.0), (0.999, 999.0), (1.0, 1000.0)] {
            let found = times.quantile(share).unwrap();
            assert!((found / expected - 1.0).abs() < 0.001, "{share}: {found}");
        }
        times.add(Duration::from_secs(100_000));
        assert!((times.max().unwrap() / 3_600_000.0 - 1.0).abs() < 0.001);
        assert_eq!(times.count(), 1001);
    }

    #[test]
    fn each_end_of_a_session_is_counted_once() {
        let mut measure = measure();
        for lateness in [None, Some(MS), Some(LATE), Some(LATE + MS)] {
            measure.begins(lateness);
        }
        measure.begins(None);
        let seen = Seen { connected: true, logon: Some(MS), first_byte: Some(2 * MS), received: 5, ..Seen::default() };
        measure.ends(Kind::Fetch, &seen, Ok(3 * MS), 9 * MS);
        let refused = Refusal { code: 421, to: "greeting" };
        measure.ends(Kind::List, &Seen::default(), Err(Fault::Refused(refused)), 7 * MS);
        measure.ends(Kind::List, &Seen::default(), Err(Failure::ConnectRefused.into()), MS);
        measure.ends(Kind::List, &Seen::default(), Err(Failure::Timeout.into()), MS);
        assert_eq!((measure.begun, measure.succeeded, measure.unfinished()), (5, 1, 1));
        assert_eq!((measure.refused(), measure.failed(), measure.late, measure.lateness.count()), (1, 2, 1, 3));
        assert_eq!((measure.logon.count(), measure.first_byte.count(), measure.session.count()), (1, 1, 1));
        assert_eq!((measure.kinds[&Kind::Fetch].count(), measure.kinds[&Kind::List].count()), (1, 0));
        assert_eq!((measure.received, measure.connected, measure.last), (5, true, 9 * MS));
        assert_eq!(measure.unreachable, Some(Failure::ConnectRefused));
    }

    #[test]
    fn a_session_that_is_cut_short_has_no_length_and_did_not_fail() {
        let mut measure = Measure::new(&[(Kind::Idle, 1)]).unwrap();
        for _ in 0..3 {
            measure.begins(None);
        }
        let stayed = Seen { logon: Some(MS), in_time: true, ..Seen::default() };
        measure.ends(Kind::Idle, &stayed, Ok(50 * MS), 60 * MS);
        measure.ends(Kind::Idle, &Seen { cut: true, ..stayed }, Ok(9 * MS), 70 * MS);
        measure.ends(Kind::Idle, &Seen { cut: true, kept_waiting: true, ..stayed }, Ok(5 * MS), 70 * MS);
        assert_eq!((measure.succeeded, measure.in_time, measure.cut, measure.kept_waiting), (1, 1, 2, 1));
        assert_eq!((measure.unfinished(), measure.refused(), measure.failed()), (0, 0, 0));
        assert_eq!((measure.logon.count(), measure.session.count()), (3, 1));
        assert!(measure.session.max().is_some_and(|longest| (longest - 50.0).abs() < 0.1));
        assert_eq!((measure.series.succeeded().iter().sum::<u64>(), measure.last), (1, 60 * MS));
        // Who was refused in the end is not counted as kept waiting as well.
        measure.begins(None);
        let refused = Refusal { code: 421, to: "USER" };
        measure.ends(Kind::Idle, &Seen { kept_waiting: true, ..stayed }, Err(Fault::Refused(refused)), 80 * MS);
        assert_eq!((measure.kept_waiting, measure.refused()), (1, 1));
    }

    #[test]
    fn a_series_of_any_length_is_bounded_and_loses_nothing() {
        let mut series = Series::new();
        for second in 0..10_000 {
            series.add(Duration::from_secs(second), second % 4 > 0);
        }
        assert!(series.succeeded().len() <= STEPS_MAX && series.lost().len() == series.succeeded().len());
        let sums = |series: &Series| (series.succeeded().iter().sum::<u64>(), series.lost().iter().sum::<u64>());
        assert_eq!(sums(&series), (7500, 2500));
        assert!(series.step() * u32::try_from(series.lost().len()).unwrap() >= Duration::from_secs(9_999));
        series.add(Duration::from_secs(700 * 24 * 3600), true);
        assert_eq!(sums(&series), (7501, 2500));
    }
}
