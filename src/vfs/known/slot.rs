//! Room for one folder in the table of those that are known: free, lent to a session that writes it down, or known.

use super::records::Records;
use super::table::Key;
use super::watcher::{Watch, Watcher};
use crate::limits::{KNOWN_FOR, LENT_FOR};
use std::sync::Arc;
use std::time::Instant;

/// Room for one folder.
#[derive(Debug, Default)]
pub(super) struct Slot {
    folder: Option<(Key, State)>,
    pub(super) watch: Option<Watch>,
    /// Whether something was reported of the watch, or may have been before it was known here.
    pub(super) changed: bool,
    /// The last look at it.
    pub(super) used: u64,
}

#[derive(Debug)]
enum State {
    /// Being written down; it had so many entries the last time.
    Lent {
        loan: Loan,
        since: Instant,
        entries: usize,
    },
    Known(Known),
}

/// The right to write down a folder for a slot; it ends when the slot is lent to somebody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Loan {
    pub(super) slot: usize,
    pub(super) number: u64,
}

/// What is in a folder, and since when.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) records: Arc<Records>,
    pub(super) since: Instant,
}

/// What a slot held: to be dropped, and its watch to be ended, when the table is no longer locked.
#[derive(Debug, Default)]
#[must_use]
pub(super) struct Leftover {
    pub(super) watch: Option<Watch>,
    pub(super) known: Option<Known>,
}

/// What a slot says of its folder.
pub(super) enum Asked {
    Known(Arc<Records>),
    /// It had so many entries, and may have changed.
    Old(usize),
    Busy,
}

impl Slot {
    pub(super) fn holds(&self, key: Key) -> bool {
        self.folder.as_ref().is_some_and(|(held, _)| *held == key)
    }

    /// What it says at this look.
    pub(super) fn ask(&mut self, looks: u64, now: Instant) -> Asked {
        match &self.folder {
            Some((_, State::Known(known))) => {
                self.used = looks;
                match !self.changed && now.duration_since(known.since) < KNOWN_FOR {
                    true => Asked::Known(Arc::clone(&known.records)),
                    false => Asked::Old(known.records.count()),
                }
            }
            Some((_, State::Lent { entries, .. })) if self.may_go(now) => Asked::Old(*entries),
            Some((_, State::Lent { .. })) | None => Asked::Busy,
        }
    }

    /// Whether nobody is writing it down, or takes too long for it.
    pub(super) fn may_go(&self, now: Instant) -> bool {
        !matches!(&self.folder, Some((_, State::Lent { since, .. })) if now.duration_since(*since) < LENT_FOR)
    }

    /// Whether this loan lasts.
    pub(super) fn is_lent(&self, loan: Loan) -> bool {
        matches!(&self.folder, Some((_, State::Lent { loan: lent, .. })) if *lent == loan)
    }

    /// What is known, if anything is.
    pub(super) fn known(&self) -> Option<&Known> {
        match &self.folder {
            Some((_, State::Known(known))) => Some(known),
            _ => None,
        }
    }

    /// Whether nothing is in it.
    pub(super) fn is_free(&self) -> bool {
        self.folder.is_none()
    }

    /// Lends it for this folder; gives what was in it.
    pub(super) fn lend(&mut self, loan: Loan, key: Key, since: Instant, entries: usize) -> Leftover {
        let before = self.empty();
        self.folder = Some((key, State::Lent { loan, since, entries }));
        self.used = loan.number;
        before
    }

    /// What was written down for it.
    pub(super) fn keep(&mut self, known: Known) {
        if let Some((_, state)) = &mut self.folder {
            *state = State::Known(known);
        }
    }

    /// Makes it free.
    pub(super) fn empty(&mut self) -> Leftover {
        let before = std::mem::take(self);
        let known = match before.folder {
            Some((_, State::Known(known))) => Some(known),
            _ => None,
        };
        Leftover { watch: before.watch, known }
    }
}

impl Leftover {
    /// To be called without the lock.
    pub(super) fn end(self, watcher: &Watcher) {
        let Self { watch, known } = self;
        drop(known);
        if let Some(watch) = watch {
            watcher.end(watch);
        }
    }
}
