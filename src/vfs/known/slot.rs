//! Room for one folder in the table of those that are known: free, lent to sessions that write it down, or known.

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
    /// To be written down: whoever is first to come to the end has done it for all.
    Lent {
        number: u64,
        writers: usize,
        /// When the last of them began.
        since: Instant,
        /// How large it was the last time.
        size: Size,
    },
    Known(Known),
}

/// The right to write down a folder for a slot, which has the same number for all who do so. It is over once the
/// folder is written down, or the slot is lent anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Loan {
    pub(super) slot: usize,
    pub(super) number: u64,
}

/// How large a folder is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) entries: usize,
    /// Memory that it takes to remember it.
    pub(super) bytes: usize,
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
    /// Nothing yet, but it is watched, and one more may write it down; how large it was the last time.
    Watched(Size),
    Busy,
}

impl Slot {
    /// The folder that is in it.
    pub(super) fn key(&self) -> Option<&Key> {
        self.folder.as_ref().map(|(key, _)| key)
    }

    pub(super) fn holds(&self, key: Key) -> bool {
        self.key().is_some_and(|held| *held == key)
    }

    /// Its folder and how large that was, where neither what is known nor what is being written down can be told any
    /// more.
    pub(super) fn outlived(&self, now: Instant) -> Option<(Key, Size)> {
        let (key, state) = self.folder.as_ref()?;
        let (since, size) = match state {
            State::Known(known) => (known.since, known.records.size()),
            State::Lent { since, size, .. } => (*since, *size),
        };
        (self.changed || now.duration_since(since) >= KNOWN_FOR).then_some((*key, size))
    }

    /// What it says at this look, when so much memory is free.
    pub(super) fn ask(&mut self, looks: u64, now: Instant, free: usize) -> Asked {
        self.used = looks;
        match &self.folder {
            Some((_, State::Known(known))) => Asked::Known(Arc::clone(&known.records)),
            Some((_, State::Lent { writers, since, size, .. })) => {
                // One of those before is slow, and what the next one needs nobody else has to give.
                let late = now.duration_since(*since) >= LENT_FOR && size.bytes <= free;
                if self.watch.is_some() && (*writers == 0 || late) { Asked::Watched(*size) } else { Asked::Busy }
            }
            None => Asked::Busy,
        }
    }

    /// Whether it can be had for another folder: nobody is writing this one down, or takes too long for it.
    pub(super) fn may_go(&self, now: Instant) -> bool {
        let lent = |writers: usize, since: Instant| writers > 0 && now.duration_since(since) < LENT_FOR;
        !matches!(self.folder, Some((_, State::Lent { writers, since, .. })) if lent(writers, since))
    }

    /// How many sessions write with the loan of this number; `None` where it is over.
    pub(super) fn writers(&self, number: u64) -> Option<usize> {
        match &self.folder {
            Some((_, State::Lent { number: lent, writers, .. })) if *lent == number => Some(*writers),
            _ => None,
        }
    }

    /// What is known, if anything is.
    pub(super) fn known(&self) -> Option<&Known> {
        match &self.folder {
            Some((_, State::Known(known))) => Some(known),
            _ => None,
        }
    }

    /// Bytes that are free once it is forgotten; `None` where somebody is being told what is known.
    pub(super) fn forgettable(&self) -> Option<usize> {
        self.known().filter(|known| Arc::strong_count(&known.records) == 1).map(|known| known.records.size().bytes)
    }

    /// Whether something is known, or is being written down.
    pub(super) fn is_of_use(&self) -> bool {
        !matches!(self.folder, None | Some((_, State::Lent { writers: 0, .. }))) && !self.changed
    }

    /// Whether nothing is in it.
    #[cfg(test)]
    pub(super) fn is_free(&self) -> bool {
        self.folder.is_none()
    }

    /// Lends it for this folder; gives what was in it.
    pub(super) fn lend(&mut self, number: u64, key: Key, since: Instant, size: Size) -> Leftover {
        let before = self.empty();
        self.folder = Some((key, State::Lent { number, writers: 1, since, size }));
        self.used = number;
        before
    }

    /// One more writes it down; gives the number of the loan.
    pub(super) fn join(&mut self, now: Instant) -> Option<u64> {
        match &mut self.folder {
            Some((_, State::Lent { number, writers, since, .. })) => {
                *writers += 1;
                *since = now;
                Some(*number)
            }
            _ => None,
        }
    }

    /// What was written down for it.
    pub(super) fn keep(&mut self, known: Known) -> Leftover {
        if self.changed {
            return Leftover { known: Some(known), ..self.give_up() };
        }
        if let Some((_, state)) = &mut self.folder {
            *state = State::Known(known);
        }
        Leftover::default()
    }

    /// One of those who write it down does so no longer. Without a watch it is of no use to the next.
    pub(super) fn give_up(&mut self) -> Leftover {
        if self.watch.is_none() {
            return self.empty();
        }
        if let Some((_, State::Lent { writers, .. })) = &mut self.folder {
            *writers = writers.saturating_sub(1);
        }
        Leftover::default()
    }

    /// As if it had been known for so much longer.
    #[cfg(test)]
    pub(super) fn age(&mut self, by: std::time::Duration) {
        if let Some((_, State::Known(known))) = &mut self.folder {
            known.since -= by;
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
