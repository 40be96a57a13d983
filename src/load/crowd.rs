//! The clients: a thread each, all of them there before the first session begins.

use std::io;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::thread::Builder;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::client::Buffers;
use super::fault::Fault;
use super::measure::{LONG_WAIT, Measure, Seen};
use super::plan::{Plan, Ticket};
use super::session::Job;

/// Stack of a client in bytes.
const STACK: usize = 128 * 1024;

/// How long a client of the closed loop that was turned away waits at least: it would spin otherwise.
const TURNED_AWAY: Duration = Duration::from_millis(100);

/// What the clients share.
#[derive(Debug)]
struct Shared {
    job: Job,
    plan: Plan,
    measure: Mutex<Measure>,
    stopped: AtomicBool,
    stopped_at: OnceLock<Instant>,
    alive: AtomicUsize,
    bell: Mutex<()>,
    rung: Condvar,
}

/// The clients of one run.
#[derive(Debug)]
pub struct Crowd(Arc<Shared>);

impl Crowd {
    /// Starts this many clients, each of which takes sessions from the plan.
    ///
    /// # Errors
    /// The host has not as many threads; those that were started end by themselves.
    pub fn start(clients: usize, job: Job, measure: Measure, plan: impl FnOnce() -> Plan) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            job,
            // The plan begins when it is made, so it is made last.
            plan: plan(),
            measure: Mutex::new(measure),
            stopped: AtomicBool::new(false),
            stopped_at: OnceLock::new(),
            alive: AtomicUsize::new(0),
            bell: Mutex::new(()),
            rung: Condvar::new(),
        });
        let crowd = Self(shared);
        for client in 0..clients {
            crowd.0.alive.fetch_add(1, SeqCst);
            let present = Present(Arc::clone(&crowd.0));
            let spawned = Builder::new().name(format!("client-{client}")).stack_size(STACK).spawn(move || {
                // The kernel may wake a thread this much late; a client has to begin in time.
                let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1000));
                present.0.live(client);
                drop(present);
            });
            if let Err(error) = spawned {
                crowd.stop();
                return Err(error);
            }
        }
        Ok(crowd)
    }

    /// The plan.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.0.plan
    }

    /// What was seen so far.
    pub fn look<T>(&self, at: impl FnOnce(&Measure) -> T) -> T {
        at(&self.0.measure.lock())
    }

    /// Lets no further session begin, and sessions at rest end.
    pub fn stop(&self) {
        self.0.stopped_at.get_or_init(Instant::now);
        self.0.stopped.store(true, SeqCst);
        let _bell = self.0.bell.lock();
        self.0.rung.notify_all();
    }

    /// Waits until every client has ended, or for this long; says which.
    #[must_use]
    pub fn wait(&self, time: Duration) -> bool {
        let end = Instant::now() + time;
        let mut bell = self.0.bell.lock();
        while self.0.alive.load(SeqCst) > 0 {
            if self.0.rung.wait_until(&mut bell, end).timed_out() {
                return self.0.alive.load(SeqCst) == 0;
            }
        }
        true
    }
}

/// A client that lives; its end is told, however it comes.
#[derive(Debug)]
struct Present(Arc<Shared>);

impl Drop for Present {
    fn drop(&mut self) {
        let _bell = self.0.bell.lock();
        if self.0.alive.fetch_sub(1, SeqCst) == 1 {
            self.0.rung.notify_all();
        }
    }
}

impl Shared {
    fn live(&self, client: usize) {
        let mut buffers = Buffers::new(self.job.server.source(client));
        let mut visitor = self.plan.visitor(client);
        if !self.sleep_until(self.plan.begin() + self.plan.first_pause(&mut visitor)) {
            return;
        }
        while let Some(ticket) = self.plan.next(&mut visitor) {
            if !self.sleep_until(ticket.due.unwrap_or_else(|| self.plan.begin())) {
                return;
            }
            let result = self.session(client, &ticket, &mut buffers);
            if ticket.due.is_none() {
                let pause = self.plan.pause(&mut visitor);
                let pause = if result.is_err() { pause.max(TURNED_AWAY) } else { pause };
                if !pause.is_zero() && !self.sleep_until(Instant::now() + pause) {
                    return;
                }
            }
        }
    }

    fn session(&self, client: usize, ticket: &Ticket, buffers: &mut Buffers) -> Result<Duration, Fault> {
        let now = Instant::now();
        // What a session of the open loop waited for a client counts as well.
        let begin = ticket.due.unwrap_or(now);
        self.measure.lock().begins(ticket.due.map(|due| now.saturating_duration_since(due)));
        let mut seen = Seen::default();
        let stopped = || self.stopped.load(SeqCst);
        let up = self.plan.end();
        let result = self.job.run((client, ticket), begin, buffers, &mut seen, (up, stopped));
        let now = Instant::now();
        let late = |then: Instant| up.is_some_and(|up| then > up) || self.stopped_at.get().is_some_and(|at| then > *at);
        seen.in_time = !late(now);
        seen.kept_waiting = seen.logon.is_some_and(|logon| logon > LONG_WAIT && late(begin + logon));
        let at = now.saturating_duration_since(self.plan.begin());
        self.measure.lock().ends(ticket.kind, &seen, result, at);
        result
    }

    /// Sleeps until then, or until all is stopped; says whether it may go on.
    fn sleep_until(&self, then: Instant) -> bool {
        if then > Instant::now() {
            let mut bell = self.bell.lock();
            let mut due = false;
            while !due && !self.stopped.load(SeqCst) {
                due = self.rung.wait_until(&mut bell, then).timed_out();
            }
        }
        !self.stopped.load(SeqCst)
    }
}
