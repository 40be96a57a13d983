//! What must agree with each other: sessions in the registry, workers that serve one and sessions that
//! wait, and control connections that are open.

use crate::data::pulse::Tick;
use crate::limits::{AUDIT_EVERY, AUDITS_AGREE};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// A worker that serves a session, for as long as it lives.
#[derive(Debug)]
pub struct BusyGuard<'a>(&'a AtomicUsize);

impl<'a> BusyGuard<'a> {
    /// Counts one more.
    pub(super) fn new(busy: &'a AtomicUsize) -> Self {
        busy.fetch_add(1, SeqCst);
        BusyGuard(busy)
    }
}

impl Drop for BusyGuard<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

/// What the registry counts against what the others do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Audit {
    /// Slots that are taken.
    pub sessions: usize,
    /// Workers that serve one.
    pub busy: usize,
    /// Sessions that wait for a worker.
    pub queued: usize,
    /// Control connections that are open.
    pub sockets: usize,
}

impl Audit {
    /// Whether each session has one worker or one place in the queue, and one control connection.
    #[must_use]
    pub fn agrees(&self) -> bool {
        self.sessions == self.busy + self.queued && self.sessions == self.sockets
    }
}

impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Audit { sessions, busy, queued, sockets } = self;
        write!(f, "audit: {sessions} sessions, {busy} busy workers, {queued} queued, {sockets} control connections")
    }
}

/// The last audits: what disagrees for a moment is on its way, what goes on disagreeing is lost.
#[derive(Debug, Default)]
pub(super) struct Audits {
    last: Option<Tick>,
    disagreed: u32,
}

impl Audits {
    /// Whether it is time for the next one.
    pub(super) fn due(&mut self, now: Tick) -> bool {
        let due = self.last.is_none_or(|last| last.age(now) >= AUDIT_EVERY);
        if due {
            self.last = Some(now);
        }
        due
    }

    /// Takes the next one; what to tell the operator, once, when too many in a row disagree.
    pub(super) fn take(&mut self, audit: Audit) -> Option<String> {
        if audit.agrees() {
            self.disagreed = 0;
            return None;
        }
        self.disagreed += 1;
        (self.disagreed == AUDITS_AGREE).then(|| audit.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn only_a_lasting_disagreement_is_a_defect() {
        let mut audits = Audits::default();
        let now = Tick::now();
        let good = Audit { sessions: 3, busy: 2, queued: 1, sockets: 3 };
        let bad = Audit { sessions: 4, ..good };
        for _ in 0..4 {
            assert_eq!(audits.take(bad), None);
        }
        assert_eq!(audits.take(good), None);
        for _ in 0..4 {
            assert_eq!(audits.take(bad), None);
        }
        assert!(audits.take(bad).is_some_and(|text| text.contains("4 sessions")));
        assert_eq!(audits.take(bad), None, "it is said once");
        assert!(audits.due(now) && !audits.due(now) && audits.due(now.after(Duration::from_secs(1))));
    }
}
