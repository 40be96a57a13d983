//! Which folders are known: a fixed number of slots, each with a watch, and notes of those that were listed once.
//!
//! Always behind the lock of its owner. The one system call in here asks for reports, and does not wait; what is
//! dropped and ended is handed out as [`Leftover`], for when the table is no longer locked.

use super::records::Records;
use super::slot::{Asked, Known, Leftover, Loan, Slot};
use super::watcher::{Report, Watch, Watcher};
use crate::limits::{DEAR_FOLDERS, DEAR_FOR, FOLDERS_NOTED, KNOWN_FOLDERS};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

/// Device and inode of a folder.
pub(super) type Key = (u64, u64);

/// No key is in two slots.
#[derive(Debug)]
pub(super) struct Table {
    slots: Vec<Slot>,
    /// Folders that were listed once with the number of their entries, the newest last.
    noted: VecDeque<(Key, usize)>,
    /// Folders that cost too much to watch, and when that was seen, the newest last.
    dear: VecDeque<(Key, Instant)>,
    looks: u64,
}

/// What one look at the table says.
pub(super) enum Look {
    Known(Arc<Records>),
    /// To be written down; so many entries were in it the last time.
    Lent(Loan, usize, Leftover),
    /// Not seen before.
    New,
    /// Not to be written down now.
    Busy,
}

impl Table {
    pub(super) fn new() -> Self {
        Self {
            slots: std::iter::repeat_with(Slot::default).take(KNOWN_FOLDERS).collect(),
            noted: VecDeque::with_capacity(FOLDERS_NOTED),
            dear: VecDeque::with_capacity(DEAR_FOLDERS),
            looks: 0,
        }
    }

    /// What is known of a folder at this time; `whole` as in [`recall`](super::KnownFolders::recall).
    pub(super) fn look(&mut self, key: Key, whole: bool, now: Instant, watcher: &Watcher) -> Look {
        self.looks += 1;
        watcher.reports(|report| self.hear(report));
        let (at, entries) = match self.slots.iter().position(|slot| slot.holds(key)) {
            Some(at) => match self.slots.get_mut(at).map(|slot| slot.ask(self.looks, now)) {
                Some(Asked::Known(records)) => return Look::Known(records),
                Some(Asked::Old(entries)) => (at, entries),
                Some(Asked::Busy) | None => return Look::Busy,
            },
            None => match self.noted.iter().find(|(noted, _)| *noted == key) {
                None => return Look::New,
                Some(&(_, entries)) => match self.oldest(|slot| slot.may_go(now)) {
                    Some(at) => (at, entries),
                    None => return Look::Busy,
                },
            },
        };
        if !whole || self.is_dear(key, now) {
            return Look::Busy;
        }
        let loan = Loan { slot: at, number: self.looks };
        match self.slots.get_mut(at) {
            Some(slot) => Look::Lent(loan, entries, slot.lend(loan, key, now, entries)),
            None => Look::Busy,
        }
    }

    fn hear(&mut self, report: Report) {
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
    }

    /// The slot that was used least lately, first of all one that is free or of no use any more.
    fn oldest(&self, which: impl Fn(&Slot) -> bool) -> Option<usize> {
        let slots = self.slots.iter().enumerate().filter(|(_, slot)| which(slot));
        slots.min_by_key(|(_, slot)| (!slot.is_free() && !slot.changed, slot.used)).map(|(at, _)| at)
    }

    /// Forgets what was used least lately, of what nobody is being told.
    pub(super) fn forget_oldest(&mut self) -> Option<Leftover> {
        let at = self.oldest(|slot| slot.known().is_some_and(|known| Arc::strong_count(&known.records) == 1))?;
        self.slots.get_mut(at).map(Slot::empty)
    }

    /// This folder was listed, has so many entries, and is worth to be remembered.
    pub(super) fn note(&mut self, key: Key, entries: usize) {
        self.forget_note(key);
        if self.noted.len() == FOLDERS_NOTED {
            self.noted.pop_front();
        }
        self.noted.push_back((key, entries));
    }

    fn forget_note(&mut self, key: Key) {
        self.noted.retain(|(noted, _)| *noted != key);
    }

    /// It costs too much to watch this folder: it is read each time for a while.
    pub(super) fn spare(&mut self, key: Key, now: Instant) {
        self.dear.retain(|(dear, _)| *dear != key);
        if self.dear.len() == DEAR_FOLDERS {
            self.dear.pop_front();
        }
        self.dear.push_back((key, now));
    }

    fn is_dear(&self, key: Key, now: Instant) -> bool {
        self.dear.iter().any(|(dear, seen)| *dear == key && now.duration_since(*seen) < DEAR_FOR)
    }

    /// Whether this loan lasts.
    pub(super) fn is_lent(&self, loan: Loan) -> bool {
        self.slots.get(loan.slot).is_some_and(|slot| slot.is_lent(loan))
    }

    fn lent(&mut self, loan: Loan) -> Option<&mut Slot> {
        self.slots.get_mut(loan.slot).filter(|slot| slot.is_lent(loan))
    }

    /// The folder of a loan is watched from now on. Gives the watch back where the loan has ended.
    pub(super) fn watched(&mut self, loan: Loan, watch: Watch) -> Leftover {
        match self.lent(loan) {
            Some(slot) => {
                slot.watch = Some(watch);
                Leftover::default()
            }
            None => Leftover { watch: Some(watch), known: None },
        }
    }

    /// What was written down with a loan.
    pub(super) fn keep(&mut self, loan: Loan, known: Known) -> Leftover {
        match self.lent(loan) {
            Some(slot) => {
                slot.keep(known);
                Leftover::default()
            }
            None => Leftover { watch: None, known: Some(known) },
        }
    }

    /// Nothing was written down with a loan: the folder has to be listed whole before it is tried again, so that
    /// nobody has it watched in vain again and again.
    pub(super) fn give_up(&mut self, loan: Loan, key: Key) -> Leftover {
        match self.lent(loan).map(Slot::empty) {
            Some(before) => {
                self.forget_note(key);
                before
            }
            None => Leftover::default(),
        }
    }

    /// How many folders are known.
    pub(super) fn known(&self) -> usize {
        self.slots.iter().filter(|slot| slot.known().is_some()).count()
    }

    /// Whether every slot is free.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.slots.iter().all(|slot| slot.watch.is_none() && slot.is_free())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{KNOWN_FOR, LENT_FOR};
    use std::fs::{self, File};
    use std::os::fd::AsFd;
    use std::path::Path;
    use std::time::Duration;

    const KEY: Key = (1, 2);
    const OTHER: Key = (1, 3);

    fn known() -> Known {
        Known { records: Arc::new(Records::new(1)), since: Instant::now() }
    }

    fn look(table: &mut Table, key: Key, watcher: &Watcher) -> Look {
        table.look(key, true, Instant::now(), watcher)
    }

    fn later(table: &mut Table, key: Key, after: Duration, watcher: &Watcher) -> Look {
        table.look(key, true, Instant::now() + after, watcher)
    }

    fn watch(folder: &Path, watcher: &Watcher) -> Watch {
        watcher.watch(File::open(folder).unwrap().as_fd()).unwrap().0
    }

    fn lent(look: Look) -> Loan {
        match look {
            Look::Lent(loan, ..) => loan,
            _ => panic!("it is not lent"),
        }
    }

    /// A loan for [`KEY`].
    fn first_loan(table: &mut Table, watcher: &Watcher) -> Loan {
        table.note(KEY, 500);
        lent(look(table, KEY, watcher))
    }

    #[test]
    fn a_change_that_is_reported_before_the_watch_is_known_counts() {
        for changes in [false, true] {
            let (folder, watcher, mut table) = (tempfile::tempdir().unwrap(), Watcher::new().unwrap(), Table::new());
            let loan = first_loan(&mut table, &watcher);
            let watch = watch(folder.path(), &watcher);
            if changes {
                fs::write(folder.path().join("new"), "").unwrap();
            }
            // Another session takes the report.
            assert!(matches!(look(&mut table, OTHER, &watcher), Look::New));
            table.watched(loan, watch).end(&watcher);
            table.keep(loan, known()).end(&watcher);
            assert_eq!(matches!(look(&mut table, KEY, &watcher), Look::Known(_)), !changes);
        }
    }

    #[test]
    fn where_reports_are_lost_nothing_is_known_any_more() {
        let (folder, watcher, mut table) = (tempfile::tempdir().unwrap(), Watcher::new().unwrap(), Table::new());
        let loan = first_loan(&mut table, &watcher);
        table.watched(loan, watch(folder.path(), &watcher)).end(&watcher);
        table.keep(loan, known()).end(&watcher);
        assert!(matches!(look(&mut table, KEY, &watcher), Look::Known(_)));
        table.hear(Report::Anything);
        assert!(matches!(look(&mut table, KEY, &watcher), Look::Lent(..)));
    }

    #[test]
    fn a_folder_is_lent_to_one_session_and_to_the_next_if_that_takes_too_long() {
        let (folder, watcher, mut table) = (tempfile::tempdir().unwrap(), Watcher::new().unwrap(), Table::new());
        let slow = first_loan(&mut table, &watcher);
        table.watched(slow, watch(folder.path(), &watcher)).end(&watcher);
        assert!(matches!(look(&mut table, KEY, &watcher), Look::Busy));
        assert!(matches!(later(&mut table, KEY, LENT_FOR / 2, &watcher), Look::Busy));
        let Look::Lent(next, 500, before) = later(&mut table, KEY, LENT_FOR, &watcher) else { panic!("not lent") };
        before.end(&watcher);
        assert_eq!(watcher.watches(), 0);
        // Whatever the slow one does now does nothing.
        assert!(!table.is_lent(slow) && table.is_lent(next));
        table.watched(slow, watch(folder.path(), &watcher)).end(&watcher);
        table.keep(slow, known()).end(&watcher);
        table.give_up(slow, KEY).end(&watcher);
        assert_eq!((watcher.watches(), table.known()), (0, 0));
        assert!(matches!(look(&mut table, KEY, &watcher), Look::Busy));
        table.watched(next, watch(folder.path(), &watcher)).end(&watcher);
        table.keep(next, known()).end(&watcher);
        assert!(matches!(look(&mut table, KEY, &watcher), Look::Known(_)));
    }

    #[test]
    fn what_is_given_up_has_to_be_listed_whole_before_it_is_lent_again() {
        let (watcher, mut table) = (Watcher::new().unwrap(), Table::new());
        let loan = first_loan(&mut table, &watcher);
        table.give_up(loan, KEY).end(&watcher);
        assert!(table.is_empty());
        assert!(matches!(look(&mut table, KEY, &watcher), Look::New));
        table.note(KEY, 500);
        assert!(matches!(look(&mut table, KEY, &watcher), Look::Lent(..)));
    }

    #[test]
    fn a_folder_that_is_dear_to_watch_is_not_lent_for_a_while() {
        let (watcher, mut table) = (Watcher::new().unwrap(), Table::new());
        table.note(KEY, 500);
        table.note(OTHER, 500);
        table.spare(KEY, Instant::now());
        assert!(matches!(look(&mut table, KEY, &watcher), Look::Busy));
        assert!(matches!(look(&mut table, OTHER, &watcher), Look::Lent(..)));
        assert!(matches!(later(&mut table, KEY, DEAR_FOR, &watcher), Look::Lent(..)));
        for number in 0..2 * DEAR_FOLDERS as u64 {
            table.spare((0, number), Instant::now());
        }
        assert_eq!(table.dear.len(), DEAR_FOLDERS);
    }

    #[test]
    fn a_listing_of_some_names_is_told_what_is_known_and_writes_nothing_down() {
        let (folder, watcher, mut table) = (tempfile::tempdir().unwrap(), Watcher::new().unwrap(), Table::new());
        table.note(KEY, 500);
        let some = |table: &mut Table, after| table.look(KEY, false, Instant::now() + after, &watcher);
        assert!(matches!(some(&mut table, Duration::ZERO), Look::Busy));
        let loan = lent(look(&mut table, KEY, &watcher));
        table.watched(loan, watch(folder.path(), &watcher)).end(&watcher);
        table.keep(loan, known()).end(&watcher);
        assert!(matches!(some(&mut table, Duration::ZERO), Look::Known(_)));
        assert!(matches!(some(&mut table, KNOWN_FOR), Look::Busy));
    }

    #[test]
    fn slots_that_are_lent_are_not_taken_away_unless_for_too_long() {
        let (watcher, mut table) = (Watcher::new().unwrap(), Table::new());
        for number in 0..KNOWN_FOLDERS as u64 {
            table.note((0, number), 500);
            assert!(matches!(look(&mut table, (0, number), &watcher), Look::Lent(..)));
        }
        table.note(KEY, 500);
        assert!(matches!(look(&mut table, KEY, &watcher), Look::Busy));
        assert!(table.forget_oldest().is_none());
        assert!(matches!(later(&mut table, KEY, LENT_FOR, &watcher), Look::Lent(..)));
    }

    #[test]
    fn what_somebody_is_told_is_not_forgotten_for_its_memory() {
        let (watcher, mut table) = (Watcher::new().unwrap(), Table::new());
        let loan = first_loan(&mut table, &watcher);
        table.keep(loan, known()).end(&watcher);
        let Look::Known(told) = look(&mut table, KEY, &watcher) else { panic!("it is not known") };
        assert!(table.forget_oldest().is_none());
        drop(told);
        assert!(table.forget_oldest().is_some());
    }

    #[test]
    fn there_are_as_many_notes_as_there_are() {
        let (watcher, mut table) = (Watcher::new().unwrap(), Table::new());
        for number in 0..=FOLDERS_NOTED as u64 {
            table.note((0, number), 500);
            table.note((0, number), 500);
        }
        assert_eq!(table.noted.len(), FOLDERS_NOTED);
        assert!(matches!(look(&mut table, (0, 0), &watcher), Look::New));
        assert!(matches!(look(&mut table, (0, 1), &watcher), Look::Lent(..)));
    }
}
