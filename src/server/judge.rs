//! What is to be done about a session, by its pulse: decided purely, on what the reaper has seen of it.

use super::registry::Visit;
use crate::config::Config;
use crate::data::pulse::{Phase, Reason, Tick};
use crate::limits::{CAMPING, KILL_GRACE};
use std::time::Duration;

/// What the reaper goes by.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    stall: Duration,
    idle: Duration,
    /// `--shed-after`.
    pub shed: Duration,
    /// `--workers`.
    pub workers: usize,
    min_rate: Option<u64>,
    session: Option<Duration>,
}

impl Rules {
    /// The rules that the flags make.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let timeouts = config.timeouts();
        Rules {
            stall: timeouts.stall,
            idle: timeouts.idle,
            shed: timeouts.shed,
            workers: config.workers(),
            min_rate: config.min_rate(),
            session: timeouts.session,
        }
    }
}

/// What the reaper remembers of one slot between two looks.
#[derive(Debug, Clone, Copy, Default)]
pub struct Memory {
    /// Who was in it.
    pub visit: Option<Visit>,
    marked: Option<Tick>,
    killed: bool,
    progress: Option<Progress>,
}

/// The transfer of one slot: when it last moved, and what it had moved when the window of the minimum
/// rate began. The time in which the server held it back is left out of both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Progress {
    moved: Moved,
    moved_at: Since,
    window: Moved,
    window_at: Since,
}

/// A moment of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Since {
    at: Tick,
    /// How long the server had held it back by then.
    held: Duration,
}

impl Since {
    /// What has passed since then in which the client could have moved something.
    fn age(self, now: Tick, held: Duration) -> Duration {
        self.at.age(now).saturating_sub(held.saturating_sub(self.held))
    }
}

/// Bytes that the server has sent or received, and bytes that the client is known to have taken: both grow in
/// steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved {
    /// Sent or received.
    pub sent: u64,
    /// Taken.
    pub taken: u64,
}

/// One look at one slot.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// When.
    pub now: Tick,
    /// When the session was admitted.
    pub admitted: Tick,
    /// What it does.
    pub phase: Phase,
    /// Until when it may.
    pub deadline: Tick,
    /// What it has moved.
    pub moved: Moved,
    /// How long the server has held it back, to keep a rate.
    pub held: Duration,
    /// When it last did what a session is for.
    pub worked: Tick,
    /// Whether it is to end already.
    pub marked: bool,
    /// Whether sessions at rest are to leave.
    pub stop_idle: bool,
    /// Whether all are.
    pub stop_all: bool,
}

impl Memory {
    /// What is remembered of a visit that is new.
    #[must_use]
    pub fn of(visit: Visit) -> Self {
        Memory { visit: Some(visit), ..Memory::default() }
    }

    /// How long its transfer has not moved although it could have; zero where there is none. `held` is how long
    /// the server has held it back.
    #[must_use]
    pub fn unmoved(&self, now: Tick, held: Duration) -> Duration {
        self.progress.map_or(Duration::ZERO, |progress| progress.moved_at.age(now, held))
    }
}

impl Moved {
    /// The larger of both steps.
    fn since(self, before: Moved) -> u64 {
        self.sent.saturating_sub(before.sent).max(self.taken.saturating_sub(before.taken))
    }
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Leave,
    /// The session is to end, and say why.
    Mark(Reason),
    /// It could not: its control connection has to be broken.
    Kill,
}

/// What is to be done about one session: pure but for what is remembered of it.
pub fn judge(look: &Look, rules: Rules, memory: &mut Memory) -> Verdict {
    if look.marked {
        let marked_at = *memory.marked.get_or_insert(look.now);
        let kill = !memory.killed && marked_at.age(look.now) >= KILL_GRACE;
        memory.killed |= kill;
        return if kill { Verdict::Kill } else { Verdict::Leave };
    }
    let at_rest = matches!(look.phase, Phase::Queued | Phase::Login | Phase::Command);
    if look.stop_all || (look.stop_idle && at_rest) {
        return Verdict::Mark(Reason::Shutdown);
    }
    if rules.session.is_some_and(|limit| look.admitted.age(look.now) >= limit) {
        return Verdict::Mark(Reason::Session);
    }
    if look.phase == Phase::Transfer {
        return judge_transfer(look, rules, memory);
    }
    memory.progress = None;
    if look.phase == Phase::Command && look.worked.age(look.now) >= rules.idle * CAMPING {
        return Verdict::Mark(Reason::Idle);
    }
    if look.deadline > look.now {
        return Verdict::Leave;
    }
    match look.phase {
        Phase::Vacant | Phase::Transfer | Phase::Work => Verdict::Leave,
        Phase::Queued => Verdict::Mark(Reason::Queue),
        Phase::Login => Verdict::Mark(Reason::Login),
        Phase::Command => Verdict::Mark(Reason::Idle),
        Phase::Connect => Verdict::Mark(Reason::Connect),
        Phase::Finish => Verdict::Mark(Reason::Stalled),
        Phase::Reply => Verdict::Mark(Reason::Reply),
    }
}

fn judge_transfer(look: &Look, rules: Rules, memory: &mut Memory) -> Verdict {
    let now = Since { at: look.now, held: look.held };
    let fresh = Progress { moved: look.moved, moved_at: now, window: look.moved, window_at: now };
    let progress = memory.progress.get_or_insert(fresh);
    if look.moved != progress.moved {
        progress.moved = look.moved;
        progress.moved_at = now;
    }
    if progress.moved_at.age(look.now, look.held) >= rules.stall {
        return Verdict::Mark(Reason::Stalled);
    }
    let window = progress.window_at.age(look.now, look.held);
    if window >= rules.stall {
        let moved = u128::from(look.moved.since(progress.window)) * 1000;
        let least = u128::from(rules.min_rate.unwrap_or(0)) * window.as_millis();
        if moved < least {
            return Verdict::Mark(Reason::TooSlow);
        }
        progress.window = look.moved;
        progress.window_at = now;
    }
    Verdict::Leave
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules {
        stall: Duration::from_secs(10),
        min_rate: Some(100),
        session: None,
        idle: Duration::from_secs(300),
        shed: Duration::from_secs(2),
        workers: 4,
    };

    fn at(seconds: u64) -> Tick {
        // The clock starts at zero: a tick that many seconds after it.
        ZERO.with(|zero| zero.after(Duration::from_secs(seconds)))
    }

    thread_local! {
        static ZERO: Tick = Tick::now();
    }

    fn sent(bytes: u64) -> Moved {
        Moved { sent: bytes, taken: 0 }
    }

    fn look(phase: Phase, now: u64) -> Look {
        Look {
            now: at(now),
            admitted: at(0),
            phase,
            deadline: Tick::NEVER,
            moved: sent(0),
            held: Duration::ZERO,
            worked: at(now),
            marked: false,
            stop_idle: false,
            stop_all: false,
        }
    }

    #[test]
    fn a_deadline_that_has_passed_is_marked_with_the_reason_of_its_phase() {
        let cases = [
            (Phase::Queued, Reason::Queue),
            (Phase::Login, Reason::Login),
            (Phase::Command, Reason::Idle),
            (Phase::Connect, Reason::Connect),
            (Phase::Finish, Reason::Stalled),
            (Phase::Reply, Reason::Reply),
        ];
        for (phase, reason) in cases {
            let early = Look { deadline: at(6), ..look(phase, 5) };
            assert_eq!(judge(&early, RULES, &mut Memory::default()), Verdict::Leave, "{phase:?}");
            let late = Look { deadline: at(5), ..look(phase, 5) };
            assert_eq!(judge(&late, RULES, &mut Memory::default()), Verdict::Mark(reason), "{phase:?}");
        }
    }

    #[test]
    fn a_marked_session_is_killed_after_its_grace_and_not_before() {
        let mut memory = Memory::default();
        let marked = |now| Look { marked: true, ..look(Phase::Reply, now) };
        assert_eq!(judge(&marked(5), RULES, &mut memory), Verdict::Leave);
        assert_eq!(judge(&marked(6), RULES, &mut memory), Verdict::Leave);
        assert_eq!(judge(&marked(7), RULES, &mut memory), Verdict::Kill);
        assert_eq!(judge(&marked(8), RULES, &mut memory), Verdict::Leave, "it is done once");
    }

    #[test]
    fn a_transfer_that_does_not_move_is_stalled() {
        let mut memory = Memory::default();
        let moving = |now, moved| Look { moved: sent(moved), ..look(Phase::Transfer, now) };
        assert_eq!(judge(&moving(0, 0), RULES, &mut memory), Verdict::Leave);
        assert_eq!(judge(&moving(9, 5000), RULES, &mut memory), Verdict::Leave);
        assert_eq!(judge(&moving(18, 5000), RULES, &mut memory), Verdict::Leave);
        assert_eq!(judge(&moving(19, 5000), RULES, &mut memory), Verdict::Mark(Reason::Stalled));
    }

    #[test]
    fn one_byte_just_inside_the_limit_does_not_help() {
        let mut memory = Memory::default();
        let verdicts: Vec<_> = (0..4)
            .map(|step| judge(&Look { moved: sent(step), ..look(Phase::Transfer, step * 5) }, RULES, &mut memory))
            .collect();
        assert_eq!(verdicts[..2], [Verdict::Leave, Verdict::Leave]);
        assert_eq!(verdicts[2], Verdict::Mark(Reason::TooSlow));
    }

    #[test]
    fn a_slow_transfer_at_the_minimum_rate_goes_on() {
        let mut memory = Memory::default();
        for second in 0..60 {
            let verdict =
                judge(&Look { moved: sent(second * 100), ..look(Phase::Transfer, second) }, RULES, &mut memory);
            assert_eq!(verdict, Verdict::Leave, "second {second}");
        }
    }

    #[test]
    fn a_client_that_takes_what_was_sent_long_ago_moves() {
        let mut memory = Memory::default();
        for second in 0..60 {
            let moved = Moved { sent: 100_000, taken: second * 100 };
            let verdict = judge(&Look { moved, ..look(Phase::Transfer, second) }, RULES, &mut memory);
            assert_eq!(verdict, Verdict::Leave, "second {second}");
        }
        let moved = Moved { sent: 100_000, taken: 5900 };
        let verdict = judge(&Look { moved, ..look(Phase::Transfer, 69) }, RULES, &mut memory);
        assert_eq!(verdict, Verdict::Mark(Reason::Stalled));
    }

    #[test]
    fn a_transfer_that_the_server_holds_back_is_neither_stalled_nor_too_slow() {
        let mut memory = Memory::default();
        // 10 bytes in 50 s are far below the minimum rate and the stall timeout.
        for step in 0..60 {
            let held = Duration::from_millis(49_900) * u32::try_from(step).unwrap();
            let look = Look { moved: sent(step * 10), held, ..look(Phase::Transfer, step * 50) };
            assert_eq!(judge(&look, RULES, &mut memory), Verdict::Leave, "step {step}");
            // And while it waits, it is nobody whom others could have instead.
            let later = held + Duration::from_secs(30);
            assert_eq!(memory.unmoved(at(step * 50 + 30), later), Duration::ZERO);
        }
    }

    #[test]
    fn what_the_server_holds_back_excuses_no_more_than_that() {
        let held = Duration::from_secs(30);
        let mut memory = Memory::default();
        let standing = |now, held| Look { moved: sent(7), held, ..look(Phase::Transfer, now) };
        assert_eq!(judge(&standing(0, Duration::ZERO), RULES, &mut memory), Verdict::Leave);
        assert_eq!(judge(&standing(39, held), RULES, &mut memory), Verdict::Leave);
        assert_eq!(memory.unmoved(at(39), held), Duration::from_secs(9));
        assert_eq!(judge(&standing(40, held), RULES, &mut memory), Verdict::Mark(Reason::Stalled));
        let mut memory = Memory::default();
        let dripping = |now, moved, held| Look { moved: sent(moved), held, ..look(Phase::Transfer, now) };
        assert_eq!(judge(&dripping(0, 0, Duration::ZERO), RULES, &mut memory), Verdict::Leave);
        assert_eq!(judge(&dripping(35, 500, held), RULES, &mut memory), Verdict::Leave);
        // 999 bytes in ten seconds of its own, where 100 a second are asked for.
        assert_eq!(judge(&dripping(40, 999, held), RULES, &mut memory), Verdict::Mark(Reason::TooSlow));
    }

    #[test]
    fn one_who_only_says_noop_is_idle_in_the_end() {
        let mut memory = Memory::default();
        let camping = |now, worked| Look { worked: at(worked), deadline: at(now + 300), ..look(Phase::Command, now) };
        assert_eq!(judge(&camping(3599, 0), RULES, &mut memory), Verdict::Leave);
        assert_eq!(judge(&camping(3600, 0), RULES, &mut memory), Verdict::Mark(Reason::Idle));
        assert_eq!(judge(&camping(3600, 100), RULES, &mut memory), Verdict::Leave);
    }

    #[test]
    fn each_transfer_has_a_window_of_its_own() {
        let mut memory = Memory::default();
        assert_eq!(judge(&look(Phase::Transfer, 0), RULES, &mut memory), Verdict::Leave);
        assert_eq!(judge(&look(Phase::Command, 5), RULES, &mut memory), Verdict::Leave);
        assert_eq!(judge(&look(Phase::Transfer, 11), RULES, &mut memory), Verdict::Leave);
    }

    #[test]
    fn the_session_limit_holds_in_every_phase() {
        let rules = Rules { session: Some(Duration::from_secs(30)), ..RULES };
        for phase in [Phase::Login, Phase::Command, Phase::Connect, Phase::Transfer, Phase::Finish, Phase::Reply] {
            assert_eq!(judge(&look(phase, 29), rules, &mut Memory::default()), Verdict::Leave, "{phase:?}");
            assert_eq!(
                judge(&look(phase, 30), rules, &mut Memory::default()),
                Verdict::Mark(Reason::Session),
                "{phase:?}"
            );
        }
    }

    #[test]
    fn stopping_spares_transfers_until_the_grace_is_over() {
        for (phase, at_rest) in [
            (Phase::Queued, true),
            (Phase::Login, true),
            (Phase::Command, true),
            (Phase::Connect, false),
            (Phase::Transfer, false),
            (Phase::Finish, false),
        ] {
            let first = Look { stop_idle: true, ..look(phase, 1) };
            let expected = if at_rest { Verdict::Mark(Reason::Shutdown) } else { Verdict::Leave };
            assert_eq!(judge(&first, RULES, &mut Memory::default()), expected, "{phase:?}");
            let last = Look { stop_idle: true, stop_all: true, ..look(phase, 1) };
            assert_eq!(judge(&last, RULES, &mut Memory::default()), Verdict::Mark(Reason::Shutdown), "{phase:?}");
        }
    }
}
