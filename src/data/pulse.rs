//! What the reaper sees of a session: its phase, its deadline, how much it has moved, and the mark that
//! the reaper leaves. All atomics; whoever reads them takes no lock and waits for nobody.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::time::{Duration, Instant};

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// A point on the monotonic clock in milliseconds since the process started; `NEVER` is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tick(u64);

impl Tick {
    /// Later than any other.
    pub const NEVER: Tick = Tick(u64::MAX);

    /// Now.
    #[must_use]
    pub fn now() -> Tick {
        Tick(millis(START.elapsed()))
    }

    /// This much later.
    #[must_use]
    pub fn after(self, time: Duration) -> Tick {
        Tick(self.0.saturating_add(millis(time)))
    }

    /// Time until this point from `now`; `None` if it is `NEVER`, zero if it has passed.
    #[must_use]
    pub fn left(self, now: Tick) -> Option<Duration> {
        (self != Tick::NEVER).then(|| Duration::from_millis(self.0.saturating_sub(now.0)))
    }

    /// Nanoseconds since the process started.
    #[must_use]
    pub(super) fn nanoseconds(self) -> u64 {
        self.0.saturating_mul(1_000_000)
    }

    /// The first point that is not before this many nanoseconds after the process started.
    #[must_use]
    pub(super) fn not_before(nanoseconds: u64) -> Tick {
        Tick(nanoseconds.div_ceil(1_000_000))
    }

    /// Time since this point at `now`.
    #[must_use]
    pub fn age(self, now: Tick) -> Duration {
        Duration::from_millis(now.0.saturating_sub(self.0))
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX - 1)
}

/// What a session is doing, as far as deadlines are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Nobody has the slot.
    Vacant,
    /// Accepted, and waiting for a worker.
    Queued,
    /// At the prompt, not logged in: the deadline is absolute.
    Login,
    /// At the prompt, logged in.
    Command,
    /// Doing what a command asked for. Nothing is waited for, so there is no deadline but the session's.
    Work,
    /// Waiting for a data connection. The worker enforces the deadline; the reaper stands behind it.
    Connect,
    /// Moving data: the reaper watches how much has moved.
    Transfer,
    /// All is sent; waiting for the peer to close the data connection.
    Finish,
    /// Waiting for the client to read its replies.
    Reply,
}

impl Phase {
    /// What the session does, in words.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Phase::Vacant => "vacant",
            Phase::Queued => "queued",
            Phase::Login => "at the prompt, not logged in",
            Phase::Command => "at the prompt",
            Phase::Work => "doing what it was asked for",
            Phase::Connect => "waiting for a data connection",
            Phase::Transfer => "in a transfer",
            Phase::Finish => "ending a transfer",
            Phase::Reply => "waiting for its replies to be read",
        }
    }
}

/// Why the server ends a session; each has one text after 421.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Reason {
    /// No command for `--idle-timeout`.
    Idle = 1,
    /// Not logged in within `--login-timeout`.
    Login,
    /// No data connection, and the worker did not notice.
    Connect,
    /// Not a byte moved for `--stall-timeout`.
    Stalled,
    /// Less than `--min-rate` over the window.
    TooSlow,
    /// Replies were not read.
    Reply,
    /// `--session-timeout`.
    Session,
    /// `--queue-timeout`.
    Queue,
    /// The server is stopping.
    Shutdown,
    /// Others wait, and it did nothing.
    Shed,
}

impl Reason {
    /// Every reason, in the order of their numbers.
    pub const ALL: [Reason; 10] = [
        Reason::Idle,
        Reason::Login,
        Reason::Connect,
        Reason::Stalled,
        Reason::TooSlow,
        Reason::Reply,
        Reason::Session,
        Reason::Queue,
        Reason::Shutdown,
        Reason::Shed,
    ];
}

const PHASES: [Phase; 9] = [
    Phase::Vacant,
    Phase::Queued,
    Phase::Login,
    Phase::Command,
    Phase::Work,
    Phase::Connect,
    Phase::Transfer,
    Phase::Finish,
    Phase::Reply,
];

/// The pulse of one session slot.
#[derive(Debug)]
pub struct Pulse {
    phase: AtomicU8,
    deadline: AtomicU64,
    moved: AtomicU64,
    taken: AtomicU64,
    held: AtomicU64,
    worked: AtomicU64,
    mark: AtomicU8,
}

impl Default for Pulse {
    fn default() -> Self {
        Pulse {
            phase: AtomicU8::new(Phase::Vacant as u8),
            deadline: AtomicU64::new(Tick::NEVER.0),
            moved: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            held: AtomicU64::new(0),
            worked: AtomicU64::new(0),
            mark: AtomicU8::new(0),
        }
    }
}

impl Pulse {
    /// Makes the pulse that of a new session (or of none, with [`Phase::Vacant`]).
    pub fn reset(&self, phase: Phase, deadline: Tick) {
        self.mark.store(0, SeqCst);
        self.moved.store(0, Relaxed);
        self.taken.store(0, Relaxed);
        self.held.store(0, Relaxed);
        self.worked();
        self.enter(phase, deadline);
    }

    /// The session begins to wait in `phase`, until `deadline` at the latest.
    pub fn enter(&self, phase: Phase, deadline: Tick) {
        // The deadline first, and never an old one under a new phase: the reaper reads the phase first.
        self.deadline.store(Tick::NEVER.0, SeqCst);
        self.phase.store(phase as u8, SeqCst);
        self.deadline.store(deadline.0, SeqCst);
    }

    /// The phase and its deadline.
    #[must_use]
    pub fn phase(&self) -> (Phase, Tick) {
        let phase = PHASES.get(usize::from(self.phase.load(SeqCst))).copied().unwrap_or(Phase::Vacant);
        (phase, Tick(self.deadline.load(SeqCst)))
    }

    /// Counts bytes that have moved over a data connection.
    pub fn moved(&self, bytes: u64) {
        self.moved.fetch_add(bytes, Relaxed);
    }

    /// Bytes that have moved over data connections since the session began.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.moved.load(Relaxed)
    }

    /// Of the bytes that have moved, all but these were taken by the client, as far as is known.
    pub fn untaken(&self, bytes: u64) {
        self.taken.store(self.total().saturating_sub(bytes), Relaxed);
    }

    /// Bytes that the client is known to have taken; looked at now and then, while a transfer waits.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.taken.load(Relaxed)
    }

    /// The server is about to hold the transfer back for this long, to keep a rate: its client can't help it.
    pub fn hold(&self, time: Duration) {
        self.held.fetch_add(millis(time), Relaxed);
    }

    /// How long the server has held transfers back since the session began. A wait is counted when it
    /// begins, so this may be ahead of the clock by one step of it.
    #[must_use]
    pub fn held(&self) -> Duration {
        Duration::from_millis(self.held.load(Relaxed))
    }

    /// The session has done what a session is for: it came, logged in, or moved data. Commands alone,
    /// NOOP above all, are no work.
    pub fn worked(&self) {
        self.worked.store(Tick::now().0, Relaxed);
    }

    /// When the session last did so.
    #[must_use]
    pub fn worked_at(&self) -> Tick {
        Tick(self.worked.load(Relaxed))
    }

    /// Marks the session to be ended; the first reason stays. Returns whether this was the first.
    pub fn set_mark(&self, reason: Reason) -> bool {
        self.mark.compare_exchange(0, reason as u8, SeqCst, SeqCst).is_ok()
    }

    /// Why the session has to end, if it has to.
    #[must_use]
    pub fn mark(&self) -> Option<Reason> {
        let number = usize::from(self.mark.load(SeqCst));
        Reason::ALL.get(number.checked_sub(1)?).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_and_reasons_survive_the_way_through_a_byte() {
        let pulse = Pulse::default();
        for phase in PHASES {
            pulse.reset(phase, Tick(7));
            assert_eq!(pulse.phase(), (phase, Tick(7)));
        }
        for reason in Reason::ALL {
            pulse.reset(Phase::Command, Tick::NEVER);
            assert_eq!(pulse.mark(), None);
            assert!(pulse.set_mark(reason));
            assert!(!pulse.set_mark(Reason::Shutdown), "the first reason stays");
            assert_eq!(pulse.mark(), Some(reason));
        }
    }

    #[test]
    fn what_is_taken_is_what_moved_but_for_what_is_not() {
        let pulse = Pulse::default();
        pulse.moved(100);
        assert_eq!((pulse.total(), pulse.taken()), (100, 0));
        pulse.untaken(30);
        assert_eq!((pulse.total(), pulse.taken()), (100, 70));
        pulse.untaken(101);
        assert_eq!(pulse.taken(), 0, "FIN is counted as well");
        pulse.reset(Phase::Queued, Tick::NEVER);
        assert_eq!((pulse.total(), pulse.taken()), (0, 0));
    }

    #[test]
    fn ticks_count_from_and_to() {
        let tick = Tick(1000);
        assert_eq!(tick.after(Duration::from_secs(2)), Tick(3000));
        assert_eq!(tick.left(Tick(400)), Some(Duration::from_millis(600)));
        assert_eq!(tick.left(Tick(4000)), Some(Duration::ZERO));
        assert_eq!(Tick::NEVER.left(tick), None);
        assert_eq!(tick.age(Tick(1500)), Duration::from_millis(500));
    }
}
