//! Which folders are known: a fixed number of slots, each with a watch, and notes of those that were listed once.
//!
//! Always behind the lock of its owner. The system calls in here, which ask for reports and end watches, wait for
//! nothing but, a millisecond or two, for a watch that is just being begun.

use super::records::Records;
use super::watcher::{Report, Watch, Watcher};
use crate::limits::{FOLDERS_NOTED, KNOWN_FOLDERS, KNOWN_FOR};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

/// Device and inode of a folder.
pub(super) type Key = (u64, u64);

/// No key is in two slots, and no folder is watched for two of them.
#[derive(Debug)]
pub(super) struct Table {
    slots: Vec<Slot>,
    /// Folders that were listed once, the newest last.
    noted: VecDeque<Key>,
    looks: u64,
}

/// Room for one folder.
#[derive(Debug, Default)]
struct Slot {
    /// `None` where the slot is free.
    key: Option<Key>,
    watch: Option<Watch>,
    /// Whether something was reported of the watch, or may have been before it was known here.
    changed: bool,
    /// `None` while it is being written down.
    known: Option<Known>,
    used: u64,
}

/// What is in a folder, and since when.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) records: Arc<Records>,
    pub(super) since: Instant,
}

/// What one look at the table says.
pub(super) enum Look {
    Known(Arc<Records>),
    /// To be written down for this slot. What was known before is dropped when the table is no longer locked.
    Lent(usize, Option<Known>),
    /// Not seen before.
    New,
    /// Somebody else writes it down just now.
    Busy,
}

impl Table {
    pub(super) fn new() -> Self {
        let slots = std::iter::repeat_with(Slot::default).take(KNOWN_FOLDERS).collect();
        Self { slots, noted: VecDeque::with_capacity(FOLDERS_NOTED), looks: 0 }
    }

    /// What is known of a folder at this time; `whole` as in [`recall`](super::KnownFolders::recall).
    pub(super) fn look(&mut self, key: Key, whole: bool, now: Instant, watcher: &Watcher) -> Look {
        self.looks += 1;
        self.hear(watcher);
        let looks = self.looks;
        let at = match self.slots.iter().position(|slot| slot.key == Some(key)) {
            Some(at) => at,
            None if !whole || !self.noted.contains(&key) => return Look::New,
            None => match self.oldest(|slot| slot.key.is_none() || slot.known.is_some()) {
                Some(at) => at,
                None => return Look::Busy,
            },
        };
        let Some(slot) = self.slots.get_mut(at) else { return Look::Busy };
        if slot.key == Some(key) {
            slot.used = looks;
            match &slot.known {
                None => return Look::Busy,
                Some(known) if !slot.changed && now.duration_since(known.since) < KNOWN_FOR => {
                    return Look::Known(Arc::clone(&known.records));
                }
                Some(_) if !whole => return Look::Busy,
                Some(_) => {}
            }
        }
        let before = slot.empty(watcher);
        slot.key = Some(key);
        slot.used = looks;
        Look::Lent(at, before)
    }

    fn hear(&mut self, watcher: &Watcher) {
        watcher.reports(|report| {
            let about = |slot: &Slot| match report {
                Report::Changed(watch) => slot.watch == Some(watch),
                Report::Anything => true,
            };
            // Of a watch that nobody knows: it may be one that was begun this moment.
            let nobody = !self.slots.iter().any(about);
            for slot in &mut self.slots {
                if about(slot) || (nobody && slot.watch.is_none()) {
                    slot.changed = true;
                }
            }
        });
    }

    /// The slot that was used least lately, first of all one that is free or of no use any more.
    fn oldest(&self, which: impl Fn(&Slot) -> bool) -> Option<usize> {
        let slots = self.slots.iter().enumerate().filter(|(_, slot)| which(slot));
        slots.min_by_key(|(_, slot)| (slot.key.is_some() && !slot.changed, slot.used)).map(|(at, _)| at)
    }

    /// Forgets what was used least lately, and returns it, so that it is dropped behind the lock.
    pub(super) fn forget_oldest(&mut self, watcher: &Watcher) -> Option<Known> {
        let at = self.oldest(|slot| slot.known.is_some())?;
        self.slots.get_mut(at)?.empty(watcher)
    }

    /// This folder was listed, and is worth to be remembered.
    pub(super) fn note(&mut self, key: Key) {
        if self.noted.contains(&key) {
            return;
        }
        if self.noted.len() == FOLDERS_NOTED {
            self.noted.pop_front();
        }
        self.noted.push_back(key);
    }

    /// The folder of a slot that was lent is watched from now on.
    pub(super) fn watched(&mut self, at: usize, watch: Watch) {
        if let Some(slot) = self.slots.get_mut(at) {
            slot.watch = Some(watch);
        }
    }

    /// What was written down for a slot that was lent.
    pub(super) fn keep(&mut self, at: usize, known: Known) {
        if let Some(slot) = self.slots.get_mut(at) {
            slot.known = Some(known);
        }
    }

    /// Nothing was written down for a slot that was lent.
    pub(super) fn give_up(&mut self, at: usize, watcher: &Watcher) {
        if let Some(slot) = self.slots.get_mut(at) {
            slot.empty(watcher);
        }
    }

    /// How many folders are known.
    pub(super) fn known(&self) -> usize {
        self.slots.iter().filter(|slot| slot.known.is_some()).count()
    }

    /// Whether every slot is free.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.slots.iter().all(|slot| slot.watch.is_none() && slot.key.is_none())
    }
}

impl Slot {
    /// Makes it free; returns what was known.
    fn empty(&mut self, watcher: &Watcher) -> Option<Known> {
        let before = std::mem::take(self);
        if let Some(watch) = before.watch {
            watcher.end(watch);
        }
        before.known
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::os::fd::AsFd;
    use std::path::Path;

    const KEY: Key = (1, 2);
    const OTHER: Key = (1, 3);

    fn known() -> Known {
        Known { records: Arc::new(Records::new(1)), since: Instant::now() }
    }

    fn look(table: &mut Table, key: Key, watcher: &Watcher) -> Look {
        table.look(key, true, Instant::now(), watcher)
    }

    /// A slot for [`KEY`], and the watch of this folder for it.
    fn lent(table: &mut Table, folder: &Path, watcher: &Watcher) -> (usize, Watch) {
        table.note(KEY);
        let Look::Lent(slot, _) = look(table, KEY, watcher) else { panic!("it is not lent") };
        (slot, watcher.watch(File::open(folder).unwrap().as_fd()).unwrap())
    }

    #[test]
    fn a_change_that_is_reported_before_the_watch_is_known_counts() {
        for changes in [false, true] {
            let (folder, watcher, mut table) = (tempfile::tempdir().unwrap(), Watcher::new().unwrap(), Table::new());
            let (slot, watch) = lent(&mut table, folder.path(), &watcher);
            if changes {
                fs::write(folder.path().join("new"), "").unwrap();
            }
            // Another session takes the report.
            assert!(matches!(look(&mut table, OTHER, &watcher), Look::New));
            table.watched(slot, watch);
            table.keep(slot, known());
            assert_eq!(matches!(look(&mut table, KEY, &watcher), Look::Known(_)), !changes);
        }
    }

    #[test]
    fn one_slot_is_lent_to_one_session() {
        let (folder, watcher, mut table) = (tempfile::tempdir().unwrap(), Watcher::new().unwrap(), Table::new());
        let (slot, watch) = lent(&mut table, folder.path(), &watcher);
        assert!(matches!(look(&mut table, KEY, &watcher), Look::Busy));
        table.watched(slot, watch);
        assert!(matches!(look(&mut table, KEY, &watcher), Look::Busy));
        table.give_up(slot, &watcher);
        assert!(table.is_empty());
        assert!(matches!(look(&mut table, KEY, &watcher), Look::Lent(..)));
    }

    #[test]
    fn slots_that_are_lent_are_not_taken_away() {
        let (watcher, mut table) = (Watcher::new().unwrap(), Table::new());
        for number in 0..KNOWN_FOLDERS as u64 {
            table.note((0, number));
            assert!(matches!(look(&mut table, (0, number), &watcher), Look::Lent(..)));
        }
        table.note(KEY);
        assert!(matches!(look(&mut table, KEY, &watcher), Look::Busy));
        assert!(table.forget_oldest(&watcher).is_none());
    }

    #[test]
    fn there_are_as_many_notes_as_there_are() {
        let (watcher, mut table) = (Watcher::new().unwrap(), Table::new());
        for number in 0..=FOLDERS_NOTED as u64 {
            table.note((0, number));
            table.note((0, number));
        }
        assert_eq!(table.noted.len(), FOLDERS_NOTED);
        assert!(matches!(look(&mut table, (0, 0), &watcher), Look::New));
        assert!(matches!(look(&mut table, (0, 1), &watcher), Look::Lent(..)));
    }
}
