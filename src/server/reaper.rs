//! The reaper: looks at every session's pulse, decides purely, marks and shuts down. It never writes to
//! a client, never closes a descriptor, and touches nothing of a session but its atomics.

use super::audit::{Audit, Audits};
use super::registry::{Holder, SessionGuard};
use super::registry::{Registry, Visit};
use super::shed::{self, Candidate};
use super::wake::Wake;
use crate::config::Config;
use crate::data::pulse::{Phase, Reason, Tick};
use crate::limits::{CAMPING, KILL_GRACE, REAPER_TICK};
use crossbeam_channel::Receiver;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

/// How long the reaper may sleep while nobody is here.
const QUIET: Duration = Duration::from_secs(3600);

/// Snapshots of which one has to agree.
const SNAPSHOTS: usize = 64;

/// What the reaper goes by.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    stall: Duration,
    idle: Duration,
    shed: Duration,
    workers: usize,
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

/// How far the server has come in stopping.
#[derive(Debug, Default)]
pub struct Stopping {
    idle: AtomicBool,
    all: AtomicBool,
}

impl Stopping {
    /// Sessions at the prompt or in the queue are to leave.
    pub fn begin(&self) {
        self.idle.store(true, SeqCst);
    }

    /// All are to leave, transfers too.
    pub fn everybody(&self) {
        self.all.store(true, SeqCst);
    }
}

/// What the reaper remembers of one slot between two looks.
#[derive(Debug, Clone, Copy, Default)]
struct Memory {
    visit: Option<Visit>,
    marked: Option<Tick>,
    killed: bool,
    progress: Option<Progress>,
}

/// The transfer of one slot: when it last moved, and what it had moved when the window of the minimum
/// rate began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Progress {
    moved: Moved,
    moved_at: Tick,
    window: Moved,
    window_at: Tick,
}

/// Bytes that the server has sent, and bytes that the client is known to have taken: both grow in steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Moved {
    sent: u64,
    taken: u64,
}

/// One look at one slot.
#[derive(Debug, Clone, Copy)]
struct Look {
    now: Tick,
    admitted: Tick,
    phase: Phase,
    deadline: Tick,
    moved: Moved,
    worked: Tick,
    marked: bool,
    stop_idle: bool,
    stop_all: bool,
}

impl Moved {
    /// The larger of both steps.
    fn since(self, before: Moved) -> u64 {
        self.sent.saturating_sub(before.sent).max(self.taken.saturating_sub(before.taken))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Leave,
    Mark(Reason),
    Kill,
}

/// The reaper, and what it remembers.
#[derive(Debug)]
pub struct Reaper {
    registry: Arc<Registry>,
    rules: Rules,
    stopping: Arc<Stopping>,
    acceptor: Arc<Wake>,
    queued: Receiver<SessionGuard>,
    memories: Vec<Memory>,
    // Of fixed size as well: one place for each slot, filled only when somebody has to go.
    holders: Vec<Holder>,
    candidates: Vec<Candidate>,
    audits: Audits,
}

/// How many in a row of those who wait, and those who leave already.
#[derive(Debug, Clone, Copy, Default)]
struct Crowd {
    waiting: usize,
    leaving: usize,
    served: usize,
}

impl Reaper {
    /// A reaper for this registry. `queued` is only counted.
    #[must_use]
    pub fn new(
        registry: Arc<Registry>,
        rules: Rules,
        stopping: Arc<Stopping>,
        acceptor: Arc<Wake>,
        queued: Receiver<SessionGuard>,
    ) -> Self {
        let slots = registry.views().count();
        Reaper {
            registry,
            rules,
            stopping,
            acceptor,
            queued,
            memories: vec![Memory::default(); slots],
            holders: Vec::with_capacity(slots),
            candidates: Vec::with_capacity(slots),
            audits: Audits::default(),
        }
    }

    /// Looks at all sessions every [`REAPER_TICK`] until the server has stopped and nobody is left.
    pub fn run(mut self) {
        loop {
            self.registry.wait_for_somebody(QUIET);
            if self.registry.is_stopping() && self.registry.is_empty() {
                return;
            }
            let now = Tick::now();
            let crowd = self.pass(now);
            self.shed(now, crowd);
            self.audit(now);
            std::thread::sleep(REAPER_TICK);
        }
    }

    fn pass(&mut self, now: Tick) -> Crowd {
        let mut crowd = Crowd::default();
        for (view, memory) in self.registry.views().zip(&mut self.memories) {
            // The visit is read before the pulse: a verdict on an older pulse can only meet an older visit.
            let Some(visit) = self.registry.visit(view.index) else {
                *memory = Memory::default();
                continue;
            };
            let (phase, deadline) = view.pulse.phase();
            if memory.visit != Some(visit) {
                *memory = Memory { visit: Some(visit), ..Memory::default() };
            }
            let look = Look {
                now,
                admitted: visit.admitted,
                phase,
                deadline,
                moved: Moved { sent: view.pulse.total(), taken: view.pulse.taken() },
                worked: view.pulse.worked_at(),
                marked: view.pulse.mark().is_some(),
                stop_idle: self.stopping.idle.load(SeqCst),
                stop_all: self.stopping.all.load(SeqCst),
            };
            match (phase, look.marked) {
                (_, true) => crowd.leaving += 1,
                (Phase::Queued, false) => crowd.waiting += 1,
                _ => crowd.served += 1,
            }
            match judge(&look, self.rules, memory) {
                Verdict::Leave => {}
                Verdict::Mark(reason) => {
                    if self.registry.mark(view.index, visit, reason) {
                        log::debug!("slot {}: marked: {reason:?}", view.index);
                    }
                    if phase == Phase::Queued {
                        self.acceptor.wake();
                    }
                }
                Verdict::Kill => {
                    log::debug!("slot {}: control connection broken", view.index);
                    self.registry.kill(view.index, visit);
                }
            }
        }
        crowd
    }

    /// Ends as many idle sessions as there are newcomers who find no worker, less those who leave already.
    fn shed(&mut self, now: Tick, crowd: Crowd) {
        let turned_away = self.registry.take_turned_away();
        let waiting = if crowd.served + crowd.leaving >= self.rules.workers { crowd.waiting } else { 0 };
        let needed = (waiting + turned_away).saturating_sub(crowd.leaving);
        if needed == 0 {
            return;
        }
        self.find_candidates(now);
        for _ in 0..needed {
            let Some(chosen) = shed::next(&mut self.candidates) else {
                return;
            };
            let peer = self.registry.peer(chosen.index);
            if self.registry.mark(chosen.index, chosen.visit, Reason::Shed)
                && let Some(peer) = peer
            {
                log::info!(
                    "{peer}: shed: {:?}, idle for {} s, one of {} from its address; {} wait, {turned_away} turned away",
                    chosen.class,
                    chosen.idle.as_secs(),
                    chosen.held,
                    crowd.waiting
                );
            }
        }
    }

    fn find_candidates(&mut self, now: Tick) {
        self.registry.holders(&mut self.holders);
        self.candidates.clear();
        for holder in &self.holders {
            let (Some(memory), Some(visit)) = (self.memories.get(holder.index), self.registry.visit(holder.index))
            else {
                continue;
            };
            let Some(view) = self.registry.view(holder.index).filter(|view| view.pulse.mark().is_none()) else {
                continue;
            };
            let idle = view.pulse.worked_at().age(now);
            let unmoved = memory.progress.map_or(Duration::ZERO, |progress| progress.moved_at.age(now));
            if let Some((class, idle)) =
                shed::class(view.pulse.phase().0, holder.logged_in, idle, unmoved, self.rules.shed)
            {
                let (index, address) = (holder.index, holder.address);
                let held = self.holders.iter().filter(|h| h.address == address).count();
                self.candidates.push(Candidate { index, visit, class, idle, address, held });
            }
        }
    }

    fn audit(&mut self, now: Tick) {
        if self.audits.due(now)
            && let Some(defect) = self.audits.take(self.snapshot())
        {
            log::error!("defect: {defect}");
        }
    }

    /// The first snapshot in which all counts agree, or else the last one: under load some sessions are
    /// always on their way from one count to another.
    fn snapshot(&self) -> Audit {
        let mut audit = self.registry.audit(self.queued.len());
        for _ in 1..SNAPSHOTS {
            if audit.agrees() {
                break;
            }
            audit = self.registry.audit(self.queued.len());
        }
        audit
    }
}

/// What is to be done about one session: pure but for what is remembered of it.
fn judge(look: &Look, rules: Rules, memory: &mut Memory) -> Verdict {
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
    let fresh = Progress { moved: look.moved, moved_at: look.now, window: look.moved, window_at: look.now };
    let progress = memory.progress.get_or_insert(fresh);
    if look.moved != progress.moved {
        progress.moved = look.moved;
        progress.moved_at = look.now;
    }
    if progress.moved_at.age(look.now) >= rules.stall {
        return Verdict::Mark(Reason::Stalled);
    }
    let window = progress.window_at.age(look.now);
    if window >= rules.stall {
        let moved = u128::from(look.moved.since(progress.window)) * 1000;
        let least = u128::from(rules.min_rate.unwrap_or(0)) * window.as_millis();
        if moved < least {
            return Verdict::Mark(Reason::TooSlow);
        }
        progress.window = look.moved;
        progress.window_at = look.now;
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
