//! Which folders are known: a fixed number of slots, each with a watch, and notes of those that were listed once.
//!
//! Always behind the lock of its owner. The one system call in here asks for reports, and does not wait; what is
//! dropped and ended is handed out as [`Leftover`], for when the table is no longer locked.

use super::records::Records;
use super::slot::{Asked, Known, Leftover, Loan, Size, Slot};
use super::watcher::{Report, Watch, Watcher};
use crate::limits::{DEAR_FOLDERS, DEAR_FOR, FOLDERS_NOTED, KNOWN_FOLDERS};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

/// A folder: its device, its inode, and the number of its file system, by which one that took the place of another
/// on the same device differs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) device: u64,
    pub(super) inode: u64,
    pub(super) system: u64,
}

/// No key is in two slots.
#[derive(Debug)]
pub(super) struct Table {
    slots: Vec<Slot>,
    /// Folders that were listed once, and how large they were, the newest last.
    noted: VecDeque<(Key, Size)>,
    /// Folders that cost too much to watch, and when that was seen, the newest last.
    dear: VecDeque<(Key, Instant)>,
    looks: u64,
}

/// Who looks for a folder, and when.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seeker {
    pub(super) key: Key,
    /// As in [`recall`](super::KnownFolders::recall).
    pub(super) whole: bool,
    pub(super) now: Instant,
    /// Bytes of memory that nobody has.
    pub(super) free: usize,
}

/// What one look at the table says.
pub(super) enum Look {
    Known(Arc<Records>),
    /// To be written down, once it is watched; how large it was the last time.
    Lent(Loan, Size),
    /// To be written down; it is watched already.
    Joined(Loan),
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

    /// Whether this folder, or another one of its device and inode, was listed before.
    pub(super) fn has_met(&self, device: u64, inode: u64) -> bool {
        let is_it = |key: &Key| (key.device, key.inode) == (device, inode);
        self.noted.iter().any(|(key, _)| is_it(key)) || self.slots.iter().filter_map(Slot::key).any(is_it)
    }

    /// What is known of a folder, and what was dropped for that.
    pub(super) fn look(&mut self, seeker: Seeker, watcher: &Watcher) -> (Look, [Leftover; 2]) {
        self.looks += 1;
        watcher.reports(|report| self.hear(report));
        let retired = self.retire(Some(seeker.key), seeker.now);
        let (look, evicted) = self.answer(seeker);
        (look, [retired, evicted])
    }

    /// Makes a slot free that is of no use any more, that of this folder if it is; a note is left. A watch keeps hold of
    /// its folder, even of one that is deleted.
    pub(super) fn retire(&mut self, key: Option<Key>, now: Instant) -> Leftover {
        let of_no_use = self.slots.iter_mut().filter_map(|slot| Some((slot.outlived(now)?, slot)));
        let Some(((old, size), slot)) = of_no_use.max_by_key(|((old, _), _)| Some(*old) == key) else {
            return Leftover::default();
        };
        let before = slot.empty();
        self.note(old, size);
        before
    }

    fn answer(&mut self, seeker: Seeker) -> (Look, Leftover) {
        let Seeker { key, whole, now, free } = seeker;
        let room = free + self.forgettable();
        if let Some((at, slot)) = self.slots.iter_mut().enumerate().find(|(_, slot)| slot.holds(key)) {
            let look = match slot.ask(self.looks, now, free) {
                Asked::Known(records) => Look::Known(records),
                Asked::Watched(size) if whole && size.bytes <= room => {
                    slot.join(now).map_or(Look::Busy, |number| Look::Joined(Loan { slot: at, number }))
                }
                Asked::Watched(_) | Asked::Busy => Look::Busy,
            };
            return (look, Leftover::default());
        }
        let Some(&(_, size)) = self.noted.iter().find(|(noted, _)| *noted == key) else {
            return (Look::New, Leftover::default());
        };
        if !whole || self.is_dear(key, now) {
            return (Look::Busy, Leftover::default());
        }
        if size.bytes > room {
            // It may be smaller by now.
            return (Look::New, Leftover::default());
        }
        let (number, at) = (self.looks, self.oldest(|slot| slot.may_go(now)));
        match at.and_then(|at| Some((at, self.slots.get_mut(at)?))) {
            Some((at, slot)) => (Look::Lent(Loan { slot: at, number }, size), slot.lend(number, key, now, size)),
            None => (Look::Busy, Leftover::default()),
        }
    }

    fn hear(&mut self, report: Report) {
        let about = |slot: &Slot| match report {
            Report::Changed(watch) | Report::Over(watch) => slot.watch == Some(watch),
            Report::Anything => true,
        };
        // A change where a watch is that nobody knows: it may be one that was begun this moment.
        let nobody = matches!(report, Report::Changed(_)) && !self.slots.iter().any(about);
        for slot in &mut self.slots {
            if about(slot) || (nobody && slot.watch.is_none()) {
                slot.changed = true;
            }
        }
    }

    /// The slot that was used least lately, first of all one that is of no use.
    fn oldest(&self, which: impl Fn(&Slot) -> bool) -> Option<usize> {
        let slots = self.slots.iter().enumerate().filter(|(_, slot)| which(slot));
        slots.min_by_key(|(_, slot)| (slot.is_of_use(), slot.used)).map(|(at, _)| at)
    }

    /// Forgets what was used least lately, of what nobody is being told.
    pub(super) fn forget_oldest(&mut self) -> Option<Leftover> {
        let at = self.oldest(|slot| slot.forgettable().is_some())?;
        self.slots.get_mut(at).map(Slot::empty)
    }

    /// Bytes of what nobody is being told.
    fn forgettable(&self) -> usize {
        self.slots.iter().filter_map(Slot::forgettable).sum()
    }

    /// This folder was listed, is so large, and is worth to be remembered.
    pub(super) fn note(&mut self, key: Key, size: Size) {
        self.forget_note(key);
        if self.noted.len() == FOLDERS_NOTED {
            self.noted.pop_front();
        }
        self.noted.push_back((key, size));
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

    /// How many sessions write this folder down; `None` where this loan is over.
    pub(super) fn writers(&self, loan: Loan) -> Option<usize> {
        self.slots.get(loan.slot).and_then(|slot| slot.writers(loan.number))
    }

    fn lent(&mut self, loan: Loan) -> Option<&mut Slot> {
        self.slots.get_mut(loan.slot).filter(|slot| slot.writers(loan.number).is_some())
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
            Some(slot) => slot.keep(known),
            None => Leftover { watch: None, known: Some(known) },
        }
    }

    /// Nothing was written down with a loan. The folder stays watched, so that it costs nothing to try again.
    pub(super) fn give_up(&mut self, loan: Loan) -> Leftover {
        self.lent(loan).map(Slot::give_up).unwrap_or_default()
    }

    /// The folder of a loan is not to be remembered: it has to be listed whole before it is tried again.
    pub(super) fn refuse(&mut self, loan: Loan, key: Key) -> Leftover {
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

    /// As if it had been known for so much longer.
    #[cfg(test)]
    pub(super) fn age(&mut self, key: Key, by: std::time::Duration) {
        self.slots.iter_mut().filter(|slot| slot.holds(key)).for_each(|slot| slot.age(by));
    }

    /// How many folders cost too much to watch.
    #[cfg(test)]
    pub(super) fn dear(&self) -> usize {
        self.dear.len()
    }
}

#[cfg(test)]
mod tests {
    use super::super::pieces::Pieces;
    use super::*;
    use crate::limits::{KNOWN_FOR, LENT_FOR, LISTING_PIECE};
    use std::fs::{self, File};
    use std::os::fd::AsFd;
    use std::path::Path;
    use std::time::Duration;

    const KEY: Key = Key { device: 1, inode: 2, system: 3 };
    const OTHER: Key = Key { device: 1, inode: 3, system: 3 };
    const SIZE: Size = Size { entries: 500, bytes: LISTING_PIECE };

    fn key(number: u64) -> Key {
        Key { device: 0, inode: number, system: 0 }
    }

    fn known() -> Known {
        Known { records: Arc::new(Records::new(1)), since: Instant::now() }
    }

    /// A look of one who wants all of it so much later, when so much memory is free.
    fn seek(table: &mut Table, key: Key, after: Duration, free: usize, watcher: &Watcher) -> Look {
        let (look, dropped) = table.look(Seeker { key, whole: true, now: Instant::now() + after, free }, watcher);
        dropped.into_iter().for_each(|leftover| leftover.end(watcher));
        look
    }

    fn look(table: &mut Table, key: Key, watcher: &Watcher) -> Look {
        seek(table, key, Duration::ZERO, LISTING_PIECE, watcher)
    }

    fn later(table: &mut Table, key: Key, after: Duration, watcher: &Watcher) -> Look {
        seek(table, key, after, LISTING_PIECE, watcher)
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
        table.note(KEY, SIZE);
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

    fn joined(look: Look) -> Loan {
        match look {
            Look::Joined(loan) => loan,
            _ => panic!("it can't be written down as well"),
        }
    }

    #[test]
    fn where_one_is_slow_the_next_writes_as_well_and_the_first_at_the_end_does_it_for_both() {
        for slow_is_first in [false, true] {
            let (folder, watcher, mut table) = (tempfile::tempdir().unwrap(), Watcher::new().unwrap(), Table::new());
            let slow = first_loan(&mut table, &watcher);
            assert!(matches!(look(&mut table, KEY, &watcher), Look::Busy), "not watched yet");
            table.watched(slow, watch(folder.path(), &watcher)).end(&watcher);
            assert!(matches!(later(&mut table, KEY, LENT_FOR / 2, &watcher), Look::Busy));
            assert!(matches!(seek(&mut table, KEY, LENT_FOR, LISTING_PIECE - 1, &watcher), Look::Busy), "no memory");
            let next = joined(later(&mut table, KEY, LENT_FOR, &watcher));
            assert_eq!((next, table.writers(slow)), (slow, Some(2)));
            // From now on the next one has its time.
            assert!(matches!(later(&mut table, KEY, LENT_FOR * 3 / 2, &watcher), Look::Busy));
            if slow_is_first {
                table.keep(slow, known()).end(&watcher);
            } else {
                table.give_up(slow).end(&watcher);
                assert_eq!(table.writers(next), Some(1));
                table.keep(next, known()).end(&watcher);
            }
            assert!(matches!(look(&mut table, KEY, &watcher), Look::Known(_)));
            // Whatever the other one does now does nothing.
            assert_eq!(table.writers(next), None);
            table.give_up(next).end(&watcher);
            table.refuse(next, KEY).end(&watcher);
            table.keep(next, known()).end(&watcher);
            assert!(matches!(look(&mut table, KEY, &watcher), Look::Known(_)));
            assert_eq!(watcher.watches(), 1);
        }
    }

    #[test]
    fn whoever_takes_longer_than_it_would_be_told_loses_it() {
        let (folder, watcher, mut table) = (tempfile::tempdir().unwrap(), Watcher::new().unwrap(), Table::new());
        let slow = first_loan(&mut table, &watcher);
        table.watched(slow, watch(folder.path(), &watcher)).end(&watcher);
        let Look::Lent(next, SIZE) = later(&mut table, KEY, KNOWN_FOR, &watcher) else { panic!("not lent") };
        assert_eq!((watcher.watches(), table.writers(slow), table.writers(next)), (0, None, Some(1)));
        table.watched(slow, watch(folder.path(), &watcher)).end(&watcher);
        assert_eq!(watcher.watches(), 0, "a watch that comes too late is left");
    }

    #[test]
    fn what_changes_while_it_is_written_down_is_lent_anew() {
        let (folder, watcher, mut table) = (tempfile::tempdir().unwrap(), Watcher::new().unwrap(), Table::new());
        let first = first_loan(&mut table, &watcher);
        table.watched(first, watch(folder.path(), &watcher)).end(&watcher);
        fs::write(folder.path().join("new"), "").unwrap();
        assert!(matches!(look(&mut table, OTHER, &watcher), Look::New));
        table.keep(first, known()).end(&watcher);
        assert_eq!(table.known(), 0, "it is out of date");
        let next = lent(look(&mut table, KEY, &watcher));
        assert_ne!(first, next);
    }

    #[test]
    fn what_is_given_up_stays_watched_for_the_next() {
        let (folder, watcher, mut table) = (tempfile::tempdir().unwrap(), Watcher::new().unwrap(), Table::new());
        let loan = first_loan(&mut table, &watcher);
        table.watched(loan, watch(folder.path(), &watcher)).end(&watcher);
        table.give_up(loan).end(&watcher);
        assert_eq!((watcher.watches(), table.writers(loan)), (1, Some(0)));
        assert!(matches!(seek(&mut table, KEY, Duration::ZERO, LISTING_PIECE - 1, &watcher), Look::Busy), "no memory");
        let next = joined(look(&mut table, KEY, &watcher));
        table.keep(next, known()).end(&watcher);
        assert!(matches!(look(&mut table, KEY, &watcher), Look::Known(_)));
    }

    #[test]
    fn what_could_not_be_watched_is_tried_again_and_what_is_refused_has_to_be_listed_whole_first() {
        let (watcher, mut table) = (Watcher::new().unwrap(), Table::new());
        let loan = first_loan(&mut table, &watcher);
        table.give_up(loan).end(&watcher);
        assert!(table.is_empty());
        let loan = lent(look(&mut table, KEY, &watcher));
        table.refuse(loan, KEY).end(&watcher);
        assert!(table.is_empty());
        assert!(matches!(look(&mut table, KEY, &watcher), Look::New));
        table.note(KEY, SIZE);
        assert!(matches!(look(&mut table, KEY, &watcher), Look::Lent(..)));
    }

    #[test]
    fn where_many_have_changed_none_is_told() {
        let (watcher, mut table) = (Watcher::new().unwrap(), Table::new());
        for number in 0..3 {
            table.note(key(number), SIZE);
            let loan = lent(look(&mut table, key(number), &watcher));
            table.keep(loan, known()).end(&watcher);
        }
        table.hear(Report::Anything);
        for number in [1, 0, 2] {
            assert!(matches!(look(&mut table, key(number), &watcher), Look::Lent(..)), "{number}");
        }
    }

    #[test]
    fn a_folder_for_which_there_can_be_no_room_drives_nothing_out() {
        let (watcher, mut table) = (Watcher::new().unwrap(), Table::new());
        let mut records = Records::new(1);
        records.push(b"something", || Pieces::of(LISTING_PIECE).take().ok_or(())).unwrap();
        let loan = first_loan(&mut table, &watcher);
        table.keep(loan, Known { records: Arc::new(records), since: Instant::now() }).end(&watcher);
        table.note(OTHER, Size { entries: 500, bytes: 2 * LISTING_PIECE });
        let mut with = |free| seek(&mut table, OTHER, Duration::ZERO, free, &watcher);
        // It is counted once more: it may be smaller by now.
        assert!(matches!(with(LISTING_PIECE - 1), Look::New));
        // With what is known, and can be forgotten.
        assert!(matches!(with(LISTING_PIECE), Look::Lent(..)));
    }

    #[test]
    fn the_end_of_a_watch_ends_what_is_known_and_no_other() {
        let (folder, watcher, mut table) = (tempfile::tempdir().unwrap(), Watcher::new().unwrap(), Table::new());
        let loan = first_loan(&mut table, &watcher);
        let watch = watch(folder.path(), &watcher);
        table.watched(loan, watch).end(&watcher);
        table.keep(loan, known()).end(&watcher);
        table.note(OTHER, SIZE);
        let unwatched = lent(look(&mut table, OTHER, &watcher));
        table.hear(Report::Over(watch));
        assert!(matches!(look(&mut table, KEY, &watcher), Look::Lent(..)));
        // It is nobody's now.
        table.hear(Report::Over(watch));
        table.keep(unwatched, known()).end(&watcher);
        assert!(matches!(look(&mut table, OTHER, &watcher), Look::Known(_)));
    }

    #[test]
    fn a_folder_that_is_dear_to_watch_is_not_lent_for_a_while() {
        let (watcher, mut table) = (Watcher::new().unwrap(), Table::new());
        table.note(KEY, SIZE);
        table.note(OTHER, SIZE);
        table.spare(KEY, Instant::now());
        assert!(matches!(look(&mut table, KEY, &watcher), Look::Busy));
        assert!(matches!(look(&mut table, OTHER, &watcher), Look::Lent(..)));
        assert!(matches!(later(&mut table, KEY, DEAR_FOR, &watcher), Look::Lent(..)));
        for number in 0..2 * DEAR_FOLDERS as u64 {
            table.spare(key(number), Instant::now());
        }
        assert_eq!(table.dear(), DEAR_FOLDERS);
    }

    #[test]
    fn a_listing_of_some_names_is_told_what_is_known_and_writes_nothing_down() {
        let (folder, watcher, mut table) = (tempfile::tempdir().unwrap(), Watcher::new().unwrap(), Table::new());
        table.note(KEY, SIZE);
        let some = |table: &mut Table, after| {
            table.look(Seeker { key: KEY, whole: false, now: Instant::now() + after, free: LISTING_PIECE }, &watcher).0
        };
        assert!(matches!(some(&mut table, Duration::ZERO), Look::Busy));
        let loan = lent(look(&mut table, KEY, &watcher));
        table.watched(loan, watch(folder.path(), &watcher)).end(&watcher);
        assert!(matches!(some(&mut table, LENT_FOR), Look::Busy));
        table.keep(loan, known()).end(&watcher);
        assert!(matches!(some(&mut table, Duration::ZERO), Look::Known(_)));
        assert!(matches!(some(&mut table, KNOWN_FOR), Look::Busy));
    }

    #[test]
    fn slots_that_are_lent_are_not_taken_away_unless_for_too_long() {
        let (watcher, mut table) = (Watcher::new().unwrap(), Table::new());
        for number in 0..KNOWN_FOLDERS as u64 {
            table.note(key(number), SIZE);
            assert!(matches!(look(&mut table, key(number), &watcher), Look::Lent(..)));
        }
        table.note(KEY, SIZE);
        assert!(matches!(look(&mut table, KEY, &watcher), Look::Busy));
        assert!(table.forget_oldest().is_none());
        assert!(matches!(later(&mut table, KEY, LENT_FOR, &watcher), Look::Lent(..)));
    }

    #[test]
    fn what_has_changed_makes_room_before_what_is_known() {
        let (folder, watcher, mut table) = (tempfile::tempdir().unwrap(), Watcher::new().unwrap(), Table::new());
        for number in 0..KNOWN_FOLDERS as u64 {
            table.note(key(number), SIZE);
            let loan = lent(look(&mut table, key(number), &watcher));
            if number + 1 == KNOWN_FOLDERS as u64 {
                table.watched(loan, watch(folder.path(), &watcher)).end(&watcher);
            }
            table.keep(loan, known()).end(&watcher);
        }
        assert_eq!(table.known(), KNOWN_FOLDERS);
        // The one that was used last.
        fs::write(folder.path().join("new"), "").unwrap();
        table.note(KEY, SIZE);
        lent(look(&mut table, KEY, &watcher));
        assert!(matches!(look(&mut table, key(0), &watcher), Look::Known(_)));
    }

    #[test]
    fn what_is_being_written_down_makes_no_room_before_what_was_known_for_longer() {
        let (watcher, mut table) = (Watcher::new().unwrap(), Table::new());
        for number in 0..KNOWN_FOLDERS as u64 {
            table.note(key(number), SIZE);
            let loan = lent(look(&mut table, key(number), &watcher));
            if number + 1 < KNOWN_FOLDERS as u64 {
                table.keep(loan, known()).end(&watcher);
            }
        }
        table.note(KEY, SIZE);
        lent(later(&mut table, KEY, LENT_FOR, &watcher));
        assert!(table.has_met(0, KNOWN_FOLDERS as u64 - 1));
        assert_eq!(table.slots.iter().filter(|slot| slot.holds(key(0))).count(), 0);
        assert_eq!(table.slots.iter().filter(|slot| slot.holds(key(KNOWN_FOLDERS as u64 - 1))).count(), 1);
    }

    #[test]
    fn one_file_system_in_the_place_of_another_is_not_the_same() {
        let (watcher, mut table) = (Watcher::new().unwrap(), Table::new());
        assert!(!table.has_met(KEY.device, KEY.inode));
        let loan = first_loan(&mut table, &watcher);
        table.keep(loan, known()).end(&watcher);
        assert!(table.has_met(KEY.device, KEY.inode) && !table.has_met(KEY.device, OTHER.inode));
        assert!(!table.has_met(KEY.device + 1, KEY.inode));
        assert!(matches!(look(&mut table, Key { system: 4, ..KEY }, &watcher), Look::New));
        assert!(matches!(look(&mut table, KEY, &watcher), Look::Known(_)));
    }

    /// Or else a folder that is deleted unheard would keep its room on the disk.
    #[test]
    fn what_nobody_asks_for_any_more_is_not_watched_for_ever() {
        for written in [false, true] {
            let (folder, watcher, mut table) = (tempfile::tempdir().unwrap(), Watcher::new().unwrap(), Table::new());
            let loan = first_loan(&mut table, &watcher);
            table.watched(loan, watch(folder.path(), &watcher)).end(&watcher);
            if written {
                table.keep(loan, known()).end(&watcher);
            } else {
                table.give_up(loan).end(&watcher);
            }
            assert!(matches!(later(&mut table, OTHER, KNOWN_FOR / 2, &watcher), Look::New));
            assert_eq!(watcher.watches(), 1);
            // As it is when many others were listed since.
            table.forget_note(KEY);
            assert!(matches!(later(&mut table, OTHER, KNOWN_FOR, &watcher), Look::New));
            assert!(table.is_empty());
            assert_eq!(watcher.watches(), 0);
            // It need not be listed twice for that.
            lent(look(&mut table, KEY, &watcher));
        }
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
            table.note(key(number), SIZE);
            table.note(key(number), SIZE);
        }
        assert_eq!(table.noted.len(), FOLDERS_NOTED);
        assert!(matches!(look(&mut table, key(0), &watcher), Look::New));
        assert!(matches!(look(&mut table, key(1), &watcher), Look::Lent(..)));
    }
}
