//! The gate in front of password checks: as many at once as there are permits, and no memory besides theirs.
//!
//! Owns who is next: those who wait are let in in the order in which they came. A permit comes back when it is
//! dropped, on a panic too. Never waits without asking whether the wait still makes sense.

use std::collections::VecDeque;
use std::thread::{self, Thread};

use parking_lot::Mutex;

use super::hash::Workspace;
use crate::limits;

/// The gate.
#[derive(Debug)]
pub struct Gate {
    permits: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// One for each permit that nobody has.
    free: Vec<Workspace>,
    /// Those who wait, each a thread, in their order: never more than there are threads.
    queue: VecDeque<(u64, Thread)>,
    next: u64,
}

/// Leave to check one password after the other, and the memory for it.
#[derive(Debug)]
pub struct Permit<'a> {
    gate: &'a Gate,
    workspace: Workspace,
}

impl Permit<'_> {
    /// The memory in which to check.
    pub fn workspace(&mut self) -> &mut Workspace {
        &mut self.workspace
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let mut state = self.gate.state.lock();
        state.free.push(std::mem::take(&mut self.workspace));
        state.wake();
    }
}

impl State {
    /// Wakes whoever is next, if there is a permit to be had.
    fn wake(&self) {
        if let (Some((_, thread)), false) = (self.queue.front(), self.free.is_empty()) {
            thread.unpark();
        }
    }
}

impl Gate {
    /// A gate with this many permits, at least one.
    #[must_use]
    pub fn new(permits: usize) -> Gate {
        let permits = permits.max(1);
        let free = (0..permits).map(|_| Workspace::default()).collect();
        Gate { permits, state: Mutex::new(State { free, queue: VecDeque::new(), next: 0 }) }
    }

    /// How many may check at once.
    #[must_use]
    pub fn permits(&self) -> usize {
        self.permits
    }

    /// How many wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.state.lock().queue.len()
    }

    /// A permit, in turn. `waiting` is asked every [`limits::GATE_ASK_EVERY`]; where it says no there is none.
    pub fn enter(&self, mut waiting: impl FnMut() -> bool) -> Option<Permit<'_>> {
        let place = {
            let mut state = self.state.lock();
            if state.queue.is_empty()
                && let Some(workspace) = state.free.pop()
            {
                return Some(Permit { gate: self, workspace });
            }
            let number = state.next;
            state.next = state.next.wrapping_add(1);
            state.queue.push_back((number, thread::current()));
            Place { gate: self, number }
        };
        loop {
            thread::park_timeout(limits::GATE_ASK_EVERY);
            if let Some(permit) = place.take() {
                return Some(permit);
            }
            if !waiting() {
                return None;
            }
        }
    }
}

/// A place among those who wait; whoever leaves it, however that is, keeps nobody behind.
struct Place<'a> {
    gate: &'a Gate,
    number: u64,
}

impl<'a> Place<'a> {
    /// The permit, if it is this one's turn and there is one.
    fn take(&self) -> Option<Permit<'a>> {
        let mut state = self.gate.state.lock();
        if state.queue.front()?.0 != self.number {
            return None;
        }
        let workspace = state.free.pop()?;
        Some(Permit { gate: self.gate, workspace })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.gate.state.lock();
        state.queue.retain(|(number, _)| *number != self.number);
        state.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::sync::{Barrier, mpsc};

    use super::*;
    use crate::auth::hash::Hash;

    const HASH: &str = "$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAA";

    #[test]
    fn sixty_four_checks_at_once_have_as_many_permits_and_as_much_memory_as_there_are() {
        for permits in [1, 3] {
            let gate = Gate::new(permits);
            let (inside, most, done) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
            let (start, hash) = (Barrier::new(64), Hash::parse(HASH).unwrap());
            thread::scope(|scope| {
                for _ in 0..64 {
                    scope.spawn(|| {
                        start.wait();
                        let mut permit = gate.enter(|| true).unwrap();
                        most.fetch_max(inside.fetch_add(1, SeqCst) + 1, SeqCst);
                        assert!(!hash.check(b"secret", permit.workspace()).unwrap());
                        inside.fetch_sub(1, SeqCst);
                        done.fetch_add(1, SeqCst);
                    });
                }
            });
            assert_eq!(done.into_inner(), 64);
            assert!(most.into_inner() <= permits);
            let state = gate.state.lock();
            assert_eq!((state.free.len(), state.queue.len()), (permits, 0));
            let held: usize = state.free.iter().map(Workspace::bytes).sum();
            assert!(held <= permits * hash.cost().memory() && held > 0, "{held}");
        }
    }

    #[test]
    fn all_permits_can_be_had_at_once_and_no_more() {
        let gate = Gate::new(2);
        let permits = (gate.enter(|| false).unwrap(), gate.enter(|| false).unwrap());
        assert!(gate.enter(|| false).is_none());
        drop(permits);
        assert!(gate.enter(|| false).is_some());
        assert_eq!((gate.permits(), gate.waiting(), Gate::new(0).permits()), (2, 0, 1));
    }

    #[test]
    fn those_who_wait_come_in_their_order() {
        let gate = Gate::new(1);
        let (tell, told) = mpsc::channel();
        thread::scope(|scope| {
            let permit = gate.enter(|| true).unwrap();
            for number in 0..8 {
                let (gate, tell) = (&gate, tell.clone());
                scope.spawn(move || {
                    let _permit = gate.enter(|| true).unwrap();
                    tell.send(number).unwrap();
                });
                while gate.waiting() <= number {
                    thread::yield_now();
                }
            }
            drop(permit);
        });
        assert_eq!(told.try_iter().collect::<Vec<_>>(), (0..8).collect::<Vec<_>>());
    }

    #[test]
    fn a_newcomer_passes_nobody_who_waits() {
        let gate = Gate::new(1);
        // Somebody whose turn it is, and who has not woken up yet.
        gate.state.lock().queue.push_back((u64::MAX, thread::current()));
        assert!(gate.enter(|| false).is_none());
        gate.state.lock().queue.clear();
        assert!(gate.enter(|| false).is_some());
    }

    #[test]
    fn one_who_gives_up_or_panics_keeps_nobody_behind() {
        let gate = Gate::new(1);
        let permit = gate.enter(|| true).unwrap();
        let mut asked = 0;
        let given_up = gate.enter(|| {
            asked += 1;
            asked < 2
        });
        assert!(given_up.is_none() && asked == 2);
        assert!(catch_unwind(AssertUnwindSafe(|| gate.enter(|| panic!("while it waits")).is_some())).is_err());
        assert_eq!(gate.waiting(), 0);
        drop(permit);
        let inside = catch_unwind(AssertUnwindSafe(|| {
            let _permit = gate.enter(|| false);
            panic!("while it checks");
        }));
        assert!(inside.is_err());
        assert!(gate.enter(|| false).is_some());
    }
}
