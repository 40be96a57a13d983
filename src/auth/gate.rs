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
            let ticket = state.next;
            state.next = state.next.wrapping_add(1);
            state.queue.push_back((ticket, thread::current()));
            Place { gate: self, ticket }
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
    ticket: u64,
}

impl<'a> Place<'a> {
    /// The permit, if it is this one's turn and there is one.
    fn take(&self) -> Option<Permit<'a>> {
        let mut state = self.gate.state.lock();
        if state.queue.front()?.0 != self.ticket {
            return None;
        }
        let workspace = state.free.pop()?;
        Some(Permit { gate: self.gate, workspace })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.gate.state.lock();
        state.queue.retain(|(ticket, _)| *ticket != self.ticket);
        state.wake();
    }
}
