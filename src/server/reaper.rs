//! The reaper: looks at every session's pulse, decides purely, marks and shuts down. It never writes to
//! a client, never closes a descriptor, and touches nothing of a session but its atomics.

use super::audit::{Audit, Audits};
use super::judge::{Look, Memory, Moved, Rules, Verdict, judge};
use super::queue::Queue;
use super::registry::{Holder, Registry, SessionGuard, TurnedAway};
use super::shed::{self, Candidate, Class};
use super::wake::Wake;
use crate::data::pulse::{Phase, Reason, Tick};
use crate::limits::{REAPER_TICK, SHED_AT_ONCE};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

/// How long the reaper may sleep while nobody is here.
const QUIET: Duration = Duration::from_secs(3600);

/// Snapshots of which one has to agree.
const SNAPSHOTS: usize = 64;

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

/// The reaper, and what it remembers.
#[derive(Debug)]
pub struct Reaper {
    registry: Arc<Registry>,
    rules: Rules,
    stopping: Arc<Stopping>,
    acceptor: Arc<Wake>,
    queue: Arc<Queue<SessionGuard>>,
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
    /// A reaper for this registry. `queue` is only counted.
    #[must_use]
    pub fn new(
        registry: Arc<Registry>,
        rules: Rules,
        stopping: Arc<Stopping>,
        acceptor: Arc<Wake>,
        queue: Arc<Queue<SessionGuard>>,
    ) -> Self {
        let slots = registry.views().count();
        Reaper {
            registry,
            rules,
            stopping,
            acceptor,
            queue,
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
                *memory = Memory::of(visit);
            }
            let look = Look {
                now,
                admitted: visit.admitted,
                phase,
                deadline,
                moved: Moved { sent: view.pulse.total(), taken: view.pulse.taken() },
                held: view.pulse.held(),
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

    /// Ends as many idle sessions as there are newcomers who find no worker, less those who leave already;
    /// and for those whom only the cap on strangers keeps out, as many strangers.
    fn shed(&mut self, now: Tick, crowd: Crowd) {
        let TurnedAway { no_slot, strangers } = self.registry.take_turned_away();
        let turned_away = no_slot + strangers;
        let waiting = if crowd.served + crowd.leaving >= self.rules.workers { crowd.waiting } else { 0 };
        let needed = (waiting + turned_away).saturating_sub(crowd.leaving);
        let of_any_class = (waiting + no_slot).saturating_sub(crowd.leaving);
        if needed == 0 {
            return;
        }
        self.find_candidates(now);
        for number in 0..needed.min(SHED_AT_ONCE) {
            let Some(chosen) = shed::next(&mut self.candidates) else {
                return;
            };
            if number >= of_any_class && chosen.class != Class::Stranger {
                return;
            }
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
        // In the order of their addresses, so that those of one address stand together.
        self.holders.sort_unstable_by_key(|holder| holder.address);
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
            let unmoved = memory.unmoved(now, view.pulse.held());
            if let Some((class, idle)) =
                shed::class(view.pulse.phase().0, holder.logged_in, idle, unmoved, self.rules.shed)
            {
                let (index, address) = (holder.index, holder.address);
                let end = self.holders.partition_point(|h| h.address <= address);
                let held = end - self.holders.partition_point(|h| h.address < address);
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
        let mut audit = self.registry.audit(self.queue.len());
        for _ in 1..SNAPSHOTS {
            if audit.agrees() {
                break;
            }
            audit = self.registry.audit(self.queue.len());
        }
        audit
    }
}
