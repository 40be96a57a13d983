//! What has happened since the start: plain counters, told at the end and when asked.

use super::registry::Refusal;
use crate::data::pulse::Reason;
use crate::session::End;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counters of everything that was admitted, refused and ended, by reason.
#[derive(Debug, Default)]
pub struct Counters {
    admitted: AtomicU64,
    logins: AtomicU64,
    user_full: AtomicU64,
    refused: [AtomicU64; 6],
    ended: [AtomicU64; 4],
    marked: [AtomicU64; Reason::ALL.len()],
    bytes: AtomicU64,
}

impl Counters {
    pub(super) fn admitted(&self) {
        self.admitted.fetch_add(1, Relaxed);
    }

    pub(super) fn logged_in(&self) {
        self.logins.fetch_add(1, Relaxed);
    }

    pub(super) fn user_full(&self) {
        self.user_full.fetch_add(1, Relaxed);
    }

    pub(super) fn refused(&self, refusal: Refusal) {
        let number = match refusal {
            Refusal::Full => 0,
            Refusal::Address => 1,
            Refusal::Unauthenticated => 2,
            Refusal::Stopping => 3,
            Refusal::Shed => 4,
            Refusal::Denied => 5,
        };
        self.refused[number].fetch_add(1, Relaxed);
    }

    /// A session has ended, after moving this many bytes; `None` is a panic.
    pub(super) fn ended(&self, end: Option<End>, bytes: u64) {
        self.bytes.fetch_add(bytes, Relaxed);
        let number = match end {
            Some(End::Quit) => 0,
            Some(End::Lost) => 1,
            Some(End::Refused) => 2,
            None => 3,
            Some(End::Marked(reason)) => return self.ended_by(reason),
        };
        self.ended[number].fetch_add(1, Relaxed);
    }

    /// The server has ended a session that may never have had a worker.
    pub(super) fn ended_by(&self, reason: Reason) {
        if let Some(counter) = (reason as usize).checked_sub(1).and_then(|number| self.marked.get(number)) {
            counter.fetch_add(1, Relaxed);
        }
    }
}

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let read = |counter: &AtomicU64| counter.load(Relaxed);
        write!(f, "admitted {}, logins {}", read(&self.admitted), read(&self.logins))?;
        let names = ["full", "address", "not logged in", "stopping", "shed", "denied"];
        for (name, counter) in names.iter().zip(&self.refused) {
            write!(f, ", refused ({name}) {}", read(counter))?;
        }
        write!(f, ", refused (user) {}", read(&self.user_full))?;
        let names = ["quit", "lost", "failed", "defect"];
        for (name, counter) in names.iter().zip(&self.ended) {
            write!(f, ", ended ({name}) {}", read(counter))?;
        }
        for (reason, counter) in Reason::ALL.iter().zip(&self.marked) {
            write!(f, ", ended ({}) {}", format!("{reason:?}").to_lowercase(), read(counter))?;
        }
        write!(f, ", bytes sent {}", read(&self.bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_event_is_counted_under_its_own_name() {
        let counters = Counters::default();
        counters.admitted();
        counters.refused(Refusal::Address);
        counters.ended(Some(End::Marked(Reason::Stalled)), 7);
        counters.ended(Some(End::Quit), 3);
        counters.ended(None, 0);
        let text = counters.to_string();
        for part in [
            "admitted 1",
            "refused (address) 1",
            "ended (stalled) 1",
            "ended (quit) 1",
            "ended (defect) 1",
            "bytes sent 10",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(text.contains("ended (idle) 0"));
    }
}
