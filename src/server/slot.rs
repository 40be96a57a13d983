//! One place for a session: its pulse, who is in it, and what it transfers.

use crate::data::pulse::{Pulse, Tick};
use crate::limits::NOTE_MAX;
use crate::proto::pathname::Escaped;
use parking_lot::Mutex;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// A place for one session.
#[derive(Debug, Default)]
pub(super) struct Slot {
    pub(super) pulse: Pulse,
    pub(super) occupant: Mutex<Option<Occupant>>,
    pub(super) note: Mutex<Note>,
}

/// What a session transfers: as much of its pathname as fits. Fixed size, so that noting costs no
/// memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Note {
    bytes: [u8; NOTE_MAX],
    used: usize,
}

impl Default for Note {
    fn default() -> Self {
        Note { bytes: [0; NOTE_MAX], used: 0 }
    }
}

/// A control connection that is open, and counted as such.
#[derive(Debug)]
pub(super) struct ControlSocket {
    pub(super) stream: TcpStream,
    open: Arc<AtomicUsize>,
}

impl ControlSocket {
    pub(super) fn new(stream: TcpStream, open: &Arc<AtomicUsize>) -> Self {
        open.fetch_add(1, SeqCst);
        ControlSocket { stream, open: Arc::clone(open) }
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        self.open.fetch_sub(1, SeqCst);
    }
}

impl Slot {
    /// One line about who is in it.
    pub(super) fn describe(&self, user: &str, now: Tick) -> Option<String> {
        let (peer, visit) = self.occupant.lock().as_ref().map(|o| (o.peer, o.visit))?;
        let note = *self.note.lock();
        let path = note.path();
        let (phase, deadline) = self.pulse.phase();
        let mut line = format!("{peer}: {user}, {} s old, {}", visit.admitted.age(now).as_secs(), phase.name());
        if let Some(left) = deadline.left(now) {
            line.push_str(&format!(", {} s left", left.as_secs()));
        }
        line.push_str(&format!(", {} bytes", self.pulse.total()));
        if !path.is_empty() {
            line.push_str(&format!(", {}", Escaped(path)));
        }
        Some(line)
    }
}

impl Note {
    /// Keeps as much of the path as fits.
    pub(super) fn keep(&mut self, path: &[u8]) {
        self.used = path.len().min(NOTE_MAX);
        for (to, from) in self.bytes.iter_mut().zip(path) {
            *to = *from;
        }
    }

    /// What was kept.
    pub(super) fn path(&self) -> &[u8] {
        self.bytes.get(..self.used).unwrap_or_default()
    }
}

/// What the reaper may touch of a session: its socket, to shut it down.
#[derive(Debug, Clone)]
pub(super) struct Occupant {
    pub(super) socket: Arc<ControlSocket>,
    pub(super) peer: SocketAddr,
    pub(super) visit: Visit,
}

/// One session's stay in a slot. The number is never given again, so that what is meant for one session
/// never meets the next in its slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Visit {
    pub(super) number: u64,
    /// When it began.
    pub admitted: Tick,
}

impl Visit {
    /// A visit that no registry has given.
    #[cfg(test)]
    pub(super) fn for_tests(number: u64) -> Self {
        Visit { number, admitted: Tick::now() }
    }
}
