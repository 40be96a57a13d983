//! Large folders that were listed before: what is in them, for as long as nothing has changed there.
//!
//! To ask for the status of every file is two thirds of what a listing costs. A folder that is listed a second
//! time is written down while it is watched ([`watcher`]), and from then on told from memory until the kernel
//! says that something in it has changed; the first listing leaves nothing but a note, so that one who looks at
//! every folder once drives nothing out. What a program does with the system calls for files is heard of before
//! they return. What is not heard of, such as a file that grows by way of another name it was given meanwhile,
//! is found after [`KNOWN_FOR`], and where other hosts may write, as far as the file system tells, nothing is
//! remembered at all.
//!
//! The memory is fixed at start, and so is the number of folders. Nothing here waits for memory, without which a
//! folder is simply read again, and no lock is held while a folder is read.

mod pieces;
mod records;
mod slot;
mod table;
mod watcher;

use super::{Folder, Status};
use crate::limits::{KNOWN_ENTRIES_MIN, KNOWN_FOLDERS, KNOWN_FOR, LISTING_PIECE, WATCH_COST};
use parking_lot::Mutex;
use pieces::{Piece, Pieces};
use records::Packer;
pub use records::Records;
use rustix::fd::BorrowedFd;
use rustix::fs::{fstatfs, fstatvfs};
use slot::{Known, Loan, Size};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use table::{Key, Look, Seeker, Table};
use watcher::Watcher;

/// File systems of which inotify(7) tells all that happens, because nothing but this host's kernel writes there
/// (statfs(2), `f_type`): ext2 to ext4, XFS, Btrfs, F2FS, bcachefs, ZFS, tmpfs, ramfs, overlayfs, and the
/// read-only ISO 9660, SquashFS and EROFS.
const LOCAL: [u32; 12] = [
    0xef53,
    0x5846_5342,
    0x9123_683e,
    0xf2f5_2010,
    0xca45_1a4e,
    0x2fc1_2fc1,
    0x0102_1994,
    0x8584_58f6,
    0x794c_7630,
    0x9660,
    0x7371_7368,
    0xe0f5_e1e2,
];

/// The folders that are known. Shared by all sessions.
#[derive(Debug)]
pub struct KnownFolders {
    /// `None` where nothing is remembered.
    watcher: Option<Watcher>,
    table: Mutex<Table>,
    pieces: Arc<Pieces>,
    asked: AtomicU64,
    told: AtomicU64,
}

/// What is known of a folder that is to be listed.
#[derive(Debug)]
pub enum Recalled<'a> {
    /// All of it.
    Known(Arc<Records>),
    /// Nothing: who reads it tells this what is found.
    Unknown(Recorder<'a>),
}

impl KnownFolders {
    /// Room for what fits `bytes`, in at most [`KNOWN_FOLDERS`] folders; without memory nothing is remembered.
    ///
    /// # Errors
    /// Those of inotify(7): no folder can be watched here.
    pub fn new(bytes: usize) -> io::Result<Self> {
        if bytes < LISTING_PIECE {
            return Ok(Self::off());
        }
        Ok(Self { watcher: Some(Watcher::new()?), pieces: Pieces::of(bytes), ..Self::off() })
    }

    /// Nothing is remembered.
    #[must_use]
    pub fn off() -> Self {
        Self {
            watcher: None,
            table: Mutex::new(Table::new()),
            pieces: Pieces::of(0),
            asked: AtomicU64::new(0),
            told: AtomicU64::new(0),
        }
    }

    /// What is known of a folder. With `whole` the listing is one of everything in it, which may be written
    /// down.
    pub fn recall(&self, folder: &Folder, whole: bool) -> Recalled<'_> {
        self.asked.fetch_add(1, Relaxed);
        let looked = self.watcher.as_ref().and_then(|watcher| {
            let status = folder.status(b".").ok()?;
            let new = {
                let mut table = self.table.lock();
                (!table.has_met(status.device, status.inode)).then(|| table.retire(None, Instant::now()))
            };
            if let Some(retired) = new {
                retired.end(watcher);
                return Some((watcher, Key { device: status.device, ..Key::default() }, Look::New));
            }
            let key = key_of(folder, &status)?;
            let seeker = Seeker { key, whole, now: Instant::now(), free: self.pieces.bytes() - self.pieces.lent() };
            let (look, dropped) = self.table.lock().look(seeker, watcher);
            dropped.into_iter().for_each(|leftover| leftover.end(watcher));
            Some((watcher, key, look))
        });
        Recalled::Unknown(match looked {
            Some((_, _, Look::Known(records))) => {
                self.told.fetch_add(1, Relaxed);
                return Recalled::Known(records);
            }
            Some((watcher, key, Look::Lent(loan, size))) => {
                let mut recorder = Recorder::of_loan(self, key, loan, watcher);
                recorder.begin(folder.descriptor(), size.entries);
                recorder
            }
            Some((watcher, key, Look::Joined(loan))) => Recorder::of_loan(self, key, loan, watcher),
            Some((_, key, Look::New)) if whole => Recorder::new(self, key, Job::Count { entries: 0, bytes: 0 }),
            _ => Recorder::new(self, Key::default(), Job::None),
        })
    }

    /// One more piece for whoever has this loan. For one who has it alone what was asked for least lately is
    /// forgotten.
    fn piece(&self, loan: Loan, watcher: &Watcher) -> Result<Piece, Refused> {
        for _ in 0..=KNOWN_FOLDERS {
            let writers = self.table.lock().writers(loan).ok_or(Refused::NotNow)?;
            match self.pieces.take() {
                Some(piece) => return Ok(piece),
                None if writers > 1 => return Err(Refused::NotNow),
                None => {
                    let forgotten = self.table.lock().forget_oldest().ok_or(Refused::TooLarge)?;
                    forgotten.end(watcher);
                }
            }
        }
        Err(Refused::TooLarge)
    }
}

/// Why a folder is not written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refused {
    /// Another session has done so, or is about to.
    NotNow,
    /// It is not to be remembered.
    TooLarge,
}

/// Takes down what is found in a folder.
#[derive(Debug)]
pub struct Recorder<'a> {
    folders: &'a KnownFolders,
    key: Key,
    job: Job<'a>,
    packer: Packer,
    since: Instant,
}

#[derive(Debug)]
enum Job<'a> {
    None,
    /// To see whether it is worth it, and would fit.
    Count {
        entries: usize,
        bytes: usize,
    },
    Write {
        loan: Loan,
        records: Records,
        watcher: &'a Watcher,
    },
}

impl<'a> Recorder<'a> {
    fn new(folders: &'a KnownFolders, key: Key, job: Job<'a>) -> Self {
        Self { folders, key, job, packer: Packer::default(), since: Instant::now() }
    }

    /// To write a folder down, of which nothing was read yet.
    fn of_loan(folders: &'a KnownFolders, key: Key, loan: Loan, watcher: &'a Watcher) -> Self {
        Self::new(folders, key, Job::Write { loan, records: Records::new(key.device), watcher })
    }

    /// Before anything is read of a folder that had so many entries the last time.
    fn begin(&mut self, folder: BorrowedFd<'_>, entries: usize) {
        let Job::Write { loan, watcher, .. } = self.job else { return };
        if !is_local(folder) {
            return self.refuse();
        }
        let Ok((watch, cost)) = watcher.watch(folder) else { return self.give_up() };
        let not_kept = self.folders.table.lock().watched(loan, watch);
        not_kept.end(watcher);
        if cost > may_cost(entries) {
            self.folders.table.lock().spare(self.key, Instant::now());
            self.refuse();
        }
    }

    /// Whether every name is to be told, those that are not shown too.
    #[must_use]
    pub fn wants_all(&self) -> bool {
        !matches!(self.job, Job::None)
    }

    /// One name, with its status if it was asked for.
    pub fn note(&mut self, name: &[u8], status: Option<&Status>) {
        if let Job::None = self.job {
            return;
        }
        let packed = self.packer.pack(name, status, self.key.device);
        let noted = match (&mut self.job, packed) {
            (Job::Count { entries, bytes }, Some(record)) => {
                *entries += 1;
                *bytes += record.len();
                Ok(())
            }
            (Job::Write { loan, records, watcher }, Some(record)) => {
                records.push(record, || self.folders.piece(*loan, watcher))
            }
            _ => Err(Refused::TooLarge),
        };
        match noted {
            Ok(()) => {}
            Err(Refused::NotNow) => self.give_up(),
            Err(Refused::TooLarge) => self.refuse(),
        }
    }

    /// The folder was read to its end.
    pub fn finish(mut self, folder: &Folder) {
        match std::mem::replace(&mut self.job, Job::None) {
            Job::Count { entries, bytes } => {
                // Less than a hundredth of each piece stays empty.
                let bytes = (bytes + bytes / 100).next_multiple_of(LISTING_PIECE);
                let fits = bytes <= self.folders.pieces.bytes();
                if entries >= KNOWN_ENTRIES_MIN
                    && fits
                    && is_local(folder.descriptor())
                    && let Some(key) = folder.status(b".").ok().and_then(|status| key_of(folder, &status))
                {
                    self.folders.table.lock().note(key, Size { entries, bytes });
                }
            }
            // Not if it took so long that it is out of date.
            Job::Write { loan, records, watcher }
                if records.size().entries >= KNOWN_ENTRIES_MIN && self.since.elapsed() < KNOWN_FOR =>
            {
                let known = Known { records: Arc::new(records), since: self.since };
                // What has changed since is reported before the next look.
                let not_kept = self.folders.table.lock().keep(loan, known);
                not_kept.end(watcher);
            }
            job => {
                let small = matches!(&job, Job::Write { records, .. } if records.size().entries < KNOWN_ENTRIES_MIN);
                self.job = job;
                if small {
                    self.refuse();
                }
            }
        }
    }

    /// It was not written down, and may be the next time.
    fn give_up(&mut self) {
        if let Job::Write { loan, watcher, .. } = std::mem::replace(&mut self.job, Job::None) {
            let before = self.folders.table.lock().give_up(loan);
            before.end(watcher);
        }
    }

    /// It is not to be written down.
    fn refuse(&mut self) {
        if let Job::Write { loan, watcher, .. } = std::mem::replace(&mut self.job, Job::None) {
            let before = self.folders.table.lock().refuse(loan, self.key);
            before.end(watcher);
        }
    }
}

impl Drop for Recorder<'_> {
    fn drop(&mut self) {
        self.give_up();
    }
}

impl fmt::Display for KnownFolders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = self.table.lock().known();
        write!(
            f,
            "listings: {} of {} folders told from memory, {known} folders in {} of {} KiB",
            self.told.load(Relaxed),
            self.asked.load(Relaxed),
            self.pieces.lent() / 1024,
            self.pieces.bytes() / 1024
        )
    }
}

/// CPU time that it may take to watch a folder with so many entries.
fn may_cost(entries: usize) -> Duration {
    let (any, each) = WATCH_COST;
    any + each.saturating_mul(u32::try_from(entries).unwrap_or(u32::MAX))
}

/// Which folder it is. On Btrfs a subvolume that is deleted and made anew may have the device and the inodes of the
/// one before it, whose end is not reported. To ask for the file system may be dear where that is far away.
fn key_of(folder: &Folder, status: &Status) -> Option<Key> {
    let system = fstatvfs(folder.descriptor()).ok()?.f_fsid;
    Some(Key { device: status.device, inode: status.inode, system })
}

fn is_local(folder: BorrowedFd<'_>) -> bool {
    fstatfs(folder).is_ok_and(|found| u32::try_from(found.f_type).is_ok_and(|kind| LOCAL.contains(&kind)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::KNOWN_FOR;
    use crate::vfs::tests::{at, roots};
    use crate::vfs::{Fit, NameBuffer, ReadBuffer};
    use proptest::prelude::*;
    use rustix::fs::{AtFlags, CWD, FallocateFlags, Mode, OFlags, fallocate, linkat, openat};
    use std::convert::Infallible;
    use std::fs::{self, File, FileTimes, OpenOptions};
    use std::io::Write;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::{Path, PathBuf};
    use std::sync::atomic::Ordering::SeqCst;
    use std::time::SystemTime;

    type Listed = Vec<(Vec<u8>, Option<Status>)>;

    const ROOM: usize = 4 * LISTING_PIECE;

    fn open(path: &Path) -> Folder {
        roots(path)[0].open_folder(&at(b"/")).unwrap()
    }

    fn key(folder: &Folder) -> Key {
        key_of(folder, &folder.status(b".").unwrap()).unwrap()
    }

    fn file(folder: &Path, number: usize) -> PathBuf {
        folder.join(format!("file-{number:04}"))
    }

    fn fill(folder: &Path, count: usize) {
        for number in 0..count {
            fs::write(file(folder, number), "content").unwrap();
        }
    }

    /// A large folder, and what is known of it after two listings.
    fn known_folder() -> (tempfile::TempDir, KnownFolders) {
        let served = tempfile::tempdir().unwrap();
        fill(served.path(), KNOWN_ENTRIES_MIN);
        let known = KnownFolders::new(ROOM).unwrap();
        assert!(!list(&known, served.path()).0, "the first listing");
        assert!(!list(&known, served.path()).0, "the second listing");
        (served, known)
    }

    /// What is in a folder, as a listing has it, read from it alone.
    fn truth(folder: &Folder) -> Listed {
        let (mut names, mut read) = (NameBuffer::new(), ReadBuffer::new());
        let mut entries = folder.entries(&mut read).unwrap();
        let mut listed = Vec::new();
        loop {
            let fit = names.collect(&mut entries, |_| true).unwrap();
            listed.extend(names.sorted().map(|name| (name.to_vec(), folder.status(name).ok())));
            if fit == Fit::Rest {
                return listed;
            }
        }
    }

    fn entries(records: &Records) -> Listed {
        let mut entries = Vec::new();
        let Ok(()) = records.each(|name, status| {
            entries.push((name.to_vec(), status));
            Ok::<_, Infallible>(())
        });
        entries
    }

    fn write_down(mut recorder: Recorder<'_>, folder: &Folder) -> Listed {
        let listed = truth(folder);
        for (name, status) in &listed {
            recorder.note(name, status.as_ref());
        }
        recorder.finish(folder);
        listed
    }

    /// Lists a folder, and tells whether from memory.
    fn list(known: &KnownFolders, path: &Path) -> (bool, Listed) {
        let folder = open(path);
        match known.recall(&folder, true) {
            Recalled::Known(records) => {
                let status = |name: &[u8], status: Option<Status>| status.or_else(|| folder.status(name).ok());
                (
                    true,
                    entries(&records).into_iter().map(|(name, known)| (name.clone(), status(&name, known))).collect(),
                )
            }
            Recalled::Unknown(recorder) => (false, write_down(recorder, &folder)),
        }
    }

    #[test]
    fn a_large_folder_is_told_from_memory_from_the_third_listing_on() {
        let (served, known) = known_folder();
        for _ in 0..3 {
            assert_eq!(list(&known, served.path()), (true, truth(&open(served.path()))));
        }
        assert_eq!(known.to_string(), "listings: 3 of 5 folders told from memory, 1 folders in 64 of 256 KiB");
    }

    #[test]
    fn whatever_changes_is_seen_at_once() {
        type Change = fn(&Path);
        let changes: [(&str, Change); 21] = [
            ("create", |p| drop(File::create(p.join("new")).unwrap())),
            ("remove", |p| fs::remove_file(file(p, 7)).unwrap()),
            ("rename within", |p| fs::rename(file(p, 7), p.join("other")).unwrap()),
            ("rename over", |p| fs::rename(file(p, 7), file(p, 8)).unwrap()),
            ("rename in", |p| {
                let outside = tempfile::tempdir_in(p.parent().unwrap()).unwrap();
                fs::write(outside.path().join("from outside"), "x").unwrap();
                fs::rename(outside.path().join("from outside"), p.join("from outside")).unwrap();
            }),
            ("rename out", |p| {
                let outside = tempfile::tempdir_in(p.parent().unwrap()).unwrap();
                fs::rename(file(p, 7), outside.path().join("gone")).unwrap();
            }),
            ("replace", |p| fs::write(file(p, 7), "other content").unwrap()),
            ("append", |p| {
                OpenOptions::new().append(true).open(file(p, 7)).unwrap().write_all(b"more").unwrap();
            }),
            ("truncate", |p| OpenOptions::new().write(true).open(file(p, 7)).unwrap().set_len(3).unwrap()),
            ("allocate", |p| {
                let file = OpenOptions::new().write(true).open(file(p, 7)).unwrap();
                fallocate(&file, FallocateFlags::empty(), 0, 4096).unwrap();
            }),
            ("copy by the kernel", |p| assert_eq!(fs::copy(file(p, 7), file(p, 8)).unwrap(), 7)),
            ("open for writing", |p| drop(OpenOptions::new().write(true).open(file(p, 7)).unwrap())),
            ("mode", |p| fs::set_permissions(file(p, 7), fs::Permissions::from_mode(0o600)).unwrap()),
            ("time", |p| {
                let times = FileTimes::new().set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000));
                File::options().write(true).open(file(p, 7)).unwrap().set_times(times).unwrap();
            }),
            ("make a folder", |p| fs::create_dir(p.join("folder")).unwrap()),
            ("make a link", |p| symlink("file-0007", p.join("link")).unwrap()),
            ("hard link", |p| fs::hard_link(file(p, 7), p.join("second")).unwrap()),
            ("name what had none", |p| {
                let unnamed = openat(CWD, p, OFlags::TMPFILE | OFlags::WRONLY, Mode::RWXU).unwrap();
                let by = format!("/proc/self/fd/{}", unnamed.as_raw_fd());
                linkat(CWD, by, CWD, p.join("named"), AtFlags::SYMLINK_FOLLOW).unwrap();
            }),
            ("the folder's mode", |p| fs::set_permissions(p, fs::Permissions::from_mode(0o755)).unwrap()),
            ("write over another link", |p| {
                // The write is heard of because the name was made here.
                fs::hard_link(file(p, 7), p.join("second")).unwrap();
                fs::write(p.join("second"), "by way of the second").unwrap();
            }),
            ("another folder in its place", |p| {
                fs::remove_dir_all(p).unwrap();
                fs::create_dir(p).unwrap();
                fill(p, KNOWN_ENTRIES_MIN + 1);
            }),
        ];
        for (what, change) in changes {
            let (outer, known) = (tempfile::tempdir().unwrap(), KnownFolders::new(ROOM).unwrap());
            let served = outer.path().join("served");
            fs::create_dir(&served).unwrap();
            fill(&served, KNOWN_ENTRIES_MIN);
            list(&known, &served);
            list(&known, &served);
            assert!(list(&known, &served).0, "{what}: is not known before");
            change(&served);
            assert_eq!(list(&known, &served), (false, truth(&open(&served))), "{what}");
        }
    }

    #[test]
    fn a_file_that_is_open_for_writing_is_not_told_from_memory_once_it_is_written() {
        let (served, known) = known_folder();
        let mut writer = OpenOptions::new().append(true).open(file(served.path(), 3)).unwrap();
        for _ in 0..3 {
            writer.write_all(b"more").unwrap();
            assert_eq!(list(&known, served.path()), (false, truth(&open(served.path()))));
            assert_eq!(list(&known, served.path()), (true, truth(&open(served.path()))));
        }
    }

    #[test]
    fn what_changes_while_it_is_written_down_is_not_known() {
        let (served, known) = known_folder();
        fs::write(file(served.path(), 1), "changed").unwrap();
        let folder = open(served.path());
        let Recalled::Unknown(mut recorder) = known.recall(&folder, true) else { panic!("told from memory") };
        let listed = truth(&folder);
        fs::write(file(served.path(), 2), "changed as well").unwrap();
        for (name, status) in &listed {
            recorder.note(name, status.as_ref());
        }
        recorder.finish(&folder);
        assert_eq!(list(&known, served.path()), (false, truth(&folder)));
    }

    #[test]
    fn links_and_folders_are_asked_for_anew() {
        let served = tempfile::tempdir().unwrap();
        fill(served.path(), KNOWN_ENTRIES_MIN);
        fs::create_dir(served.path().join("folder")).unwrap();
        let known = KnownFolders::new(ROOM).unwrap();
        list(&known, served.path());
        list(&known, served.path());
        // Whoever watches the outer folder is not told.
        fs::create_dir(served.path().join("folder/inner")).unwrap();
        assert_eq!(list(&known, served.path()), (true, truth(&open(served.path()))));
    }

    #[test]
    fn nothing_is_told_from_memory_for_ever() {
        let (served, known) = known_folder();
        let (key, watcher) = (key(&open(served.path())), known.watcher.as_ref().unwrap());
        let look = |after| {
            let seeker = Seeker { key, whole: true, now: Instant::now() + after, free: ROOM };
            known.table.lock().look(seeker, watcher).0
        };
        assert!(matches!(look(Duration::ZERO), Look::Known(_)));
        assert!(matches!(look(KNOWN_FOR), Look::Lent(..)));
    }

    #[test]
    fn whoever_lists_anything_ends_a_watch_that_is_of_no_use() {
        let (served, known) = known_folder();
        let key = key(&open(served.path()));
        known.table.lock().age(key, KNOWN_FOR);
        let other = tempfile::tempdir().unwrap();
        list(&known, other.path());
        assert_eq!(known.watcher.as_ref().unwrap().watches(), 0);
        // It need not be listed twice for that.
        assert!(!list(&known, served.path()).0);
        assert!(list(&known, served.path()).0);
    }

    #[test]
    fn a_small_folder_and_one_too_large_are_read() {
        let small = tempfile::tempdir().unwrap();
        fill(small.path(), KNOWN_ENTRIES_MIN - 1);
        let large = tempfile::tempdir().unwrap();
        for number in 0..1_000 {
            File::create(large.path().join(format!("{number:04}{}", "x".repeat(200)))).unwrap();
        }
        let known = KnownFolders::new(2 * LISTING_PIECE).unwrap();
        for path in [small.path(), large.path()] {
            for _ in 0..4 {
                let folder = open(path);
                assert!(matches!(known.recall(&folder, true), Recalled::Unknown(_)), "{}", path.display());
                list(&known, path);
            }
        }
        assert_eq!(known.pieces.lent(), 0);
        assert!(!list(&KnownFolders::new(0).unwrap(), small.path()).0);
    }

    #[test]
    fn nothing_is_remembered_where_changes_are_not_heard_of() {
        let large = tempfile::tempdir().unwrap();
        assert!(is_local(open(large.path()).descriptor()));
        // A folder with an entry for each thread of this process.
        let path = Path::new("/proc/self/task");
        let (end, threads) = (AtomicU64::new(0), KNOWN_ENTRIES_MIN + 8);
        let known = KnownFolders::new(ROOM).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..threads {
                std::thread::Builder::new()
                    .stack_size(64 * 1024)
                    .spawn_scoped(scope, || {
                        while end.load(SeqCst) == 0 {
                            std::thread::park_timeout(Duration::from_millis(20));
                        }
                    })
                    .unwrap();
            }
            let told: Vec<(bool, usize)> =
                (0..4).map(|_| list(&known, path)).map(|(told, all)| (told, all.len())).collect();
            end.store(1, SeqCst);
            assert!(told.iter().all(|(told, entries)| !told && *entries >= KNOWN_ENTRIES_MIN), "{told:?}");
        });
        assert!(!is_local(open(path).descriptor()));
        // Not even if a note was made when another file system was there.
        known.table.lock().note(key(&open(path)), Size { entries: KNOWN_ENTRIES_MIN, bytes: LISTING_PIECE });
        let recalled = known.recall(&open(path), true);
        assert!(matches!(recalled, Recalled::Unknown(Recorder { job: Job::None, .. })));
        assert!(known.table.lock().is_empty());
    }

    #[test]
    fn the_more_entries_a_folder_has_the_more_it_may_cost_to_watch() {
        assert_eq!(may_cost(0), WATCH_COST.0);
        assert_eq!(may_cost(200_000), Duration::from_millis(45));
        assert!(may_cost(usize::MAX) > Duration::from_secs(1));
    }

    /// Any client can ask for names that are not there; the kernel remembers each, and goes through all of them
    /// when the folder begins to be watched.
    #[test]
    fn a_folder_that_is_made_dear_to_watch_is_read() {
        let served = tempfile::tempdir().unwrap();
        fill(served.path(), KNOWN_ENTRIES_MIN);
        let folder = open(served.path());
        for number in 0..400_000 {
            assert!(folder.status(format!("no-{number}").as_bytes()).is_err());
        }
        let (_, cost) = Watcher::new().unwrap().watch(folder.descriptor()).unwrap();
        if cost < may_cost(KNOWN_ENTRIES_MIN) * 2 {
            eprintln!("skipped: on this file system names that are not there cost nothing: {cost:?}");
            return;
        }
        let known = KnownFolders::new(ROOM).unwrap();
        for listing in 0..4 {
            assert!(!list(&known, served.path()).0, "listing {listing}, {cost:?}");
            assert_eq!(known.table.lock().dear(), usize::from(listing > 0), "listing {listing}, {cost:?}");
        }
        assert!(known.table.lock().is_empty());
    }

    #[test]
    fn a_recorder_that_is_given_up_gives_everything_back() {
        let (served, known) = known_folder();
        fs::write(file(served.path(), 1), "changed").unwrap();
        let folder = open(served.path());
        let Recalled::Unknown(mut recorder) = known.recall(&folder, true) else { panic!("told from memory") };
        recorder.note(b"name", None);
        // Meanwhile another session lists the same folder.
        assert_eq!(list(&known, served.path()), (false, truth(&folder)));
        assert_eq!((known.pieces.lent(), known.table.lock().known()), (LISTING_PIECE, 0));
        drop(recorder);
        assert_eq!(known.pieces.lent(), 0);
        // The next one writes it down, and it does not have to be watched anew.
        assert_eq!(known.watcher.as_ref().unwrap().watches(), 1);
        assert!(!list(&known, served.path()).0);
        assert!(list(&known, served.path()).0);
    }

    #[test]
    fn whoever_comes_second_stops_to_write() {
        let (served, known) = known_folder();
        fs::write(file(served.path(), 1), "changed").unwrap();
        let folder = open(served.path());
        let Recalled::Unknown(mut slow) = known.recall(&folder, true) else { panic!("told from memory") };
        // As if it had taken too long, and another one had done it.
        let Job::Write { loan, watcher, .. } = &slow.job else { panic!("it is not lent") };
        let other = Recorder::of_loan(&known, slow.key, *loan, watcher);
        write_down(other, &folder);
        assert!(list(&known, served.path()).0);
        let before = known.pieces.lent();
        slow.note(b"name", None);
        assert!(!slow.wants_all());
        assert_eq!(known.pieces.lent(), before);
    }

    #[test]
    fn one_of_several_who_write_drives_nothing_out() {
        let (served, known) = known_folder();
        let other = tempfile::tempdir().unwrap();
        fill(other.path(), KNOWN_ENTRIES_MIN);
        list(&known, other.path());
        let folder = open(other.path());
        let Recalled::Unknown(slow) = known.recall(&folder, true) else { panic!("told from memory") };
        let Job::Write { loan, watcher, .. } = &slow.job else { panic!("it is not lent") };
        let seeker =
            Seeker { key: slow.key, whole: true, now: Instant::now() + crate::limits::LENT_FOR, free: LISTING_PIECE };
        assert!(matches!(known.table.lock().look(seeker, watcher).0, Look::Joined(_)));
        let _all: Vec<Piece> = std::iter::from_fn(|| known.pieces.take()).collect();
        write_down(Recorder::of_loan(&known, slow.key, *loan, watcher), &folder);
        assert_eq!(known.table.lock().writers(*loan), Some(1), "it gave up");
        assert!(list(&known, served.path()).0);
        // Alone it may.
        write_down(slow, &folder);
        assert!(list(&known, other.path()).0 && !list(&known, served.path()).0);
    }

    #[test]
    fn what_took_longer_than_it_would_be_told_is_not_kept() {
        let (served, known) = known_folder();
        fs::write(file(served.path(), 1), "changed").unwrap();
        let folder = open(served.path());
        let Recalled::Unknown(mut recorder) = known.recall(&folder, true) else { panic!("told from memory") };
        recorder.since = Instant::now().checked_sub(KNOWN_FOR).unwrap();
        write_down(recorder, &folder);
        assert_eq!((known.pieces.lent(), known.table.lock().known()), (0, 0));
        assert!(!list(&known, served.path()).0);
        assert!(list(&known, served.path()).0);
    }

    #[test]
    fn a_folder_that_is_small_now_is_forgotten() {
        let (served, known) = known_folder();
        fs::remove_file(file(served.path(), 0)).unwrap();
        for _ in 0..3 {
            assert!(!list(&known, served.path()).0);
        }
        assert!(known.table.lock().is_empty());
    }

    #[test]
    fn what_was_asked_for_least_lately_makes_room() {
        let folders: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
        let known = KnownFolders::new(2 * LISTING_PIECE).unwrap();
        for folder in &folders {
            fill(folder.path(), KNOWN_ENTRIES_MIN);
        }
        for folder in &folders[..2] {
            list(&known, folder.path());
            list(&known, folder.path());
        }
        assert!(list(&known, folders[0].path()).0);
        list(&known, folders[2].path());
        list(&known, folders[2].path());
        assert!(list(&known, folders[2].path()).0 && list(&known, folders[0].path()).0);
        assert!(!list(&known, folders[1].path()).0);
    }

    #[test]
    fn folders_beyond_the_number_that_is_known_take_turns() {
        let known = KnownFolders::new(2 * KNOWN_FOLDERS * LISTING_PIECE).unwrap();
        let folders: Vec<_> = (0..KNOWN_FOLDERS + 2).map(|_| tempfile::tempdir().unwrap()).collect();
        // All of them first: nothing is known for long.
        for folder in &folders {
            fill(folder.path(), KNOWN_ENTRIES_MIN);
        }
        for folder in &folders {
            list(&known, folder.path());
            list(&known, folder.path());
        }
        let told =
            folders.iter().filter(|folder| matches!(known.recall(&open(folder.path()), false), Recalled::Known(_)));
        assert_eq!(told.count(), KNOWN_FOLDERS);
        assert_eq!(known.watcher.as_ref().unwrap().watches(), KNOWN_FOLDERS);
    }

    #[test]
    fn memory_that_slow_readers_hold_is_not_taken_from_them() {
        let (served, _) = known_folder();
        let known = KnownFolders::new(LISTING_PIECE).unwrap();
        list(&known, served.path());
        list(&known, served.path());
        let Recalled::Known(held) = known.recall(&open(served.path()), true) else { panic!("not known") };
        let before = entries(&held);
        fs::write(served.path().join("new"), "").unwrap();
        for _ in 0..3 {
            assert_eq!(list(&known, served.path()), (false, truth(&open(served.path()))));
        }
        assert_eq!(entries(&held), before);
        drop(held);
        // There is room again.
        assert!(!list(&known, served.path()).0);
        assert!(list(&known, served.path()).0);
    }

    #[test]
    fn many_list_while_it_changes_and_none_is_told_what_was_before() {
        const LISTERS: usize = 4;
        let (served, known) = known_folder();
        let (growing, listings) = (file(served.path(), 5), 300);
        let length = AtomicU64::new(7);
        std::thread::scope(|scope| {
            let lister = || {
                scope.spawn(|| {
                    for _ in 0..listings {
                        let least = length.load(SeqCst);
                        let (_, listed) = list(&known, served.path());
                        let size = listed.iter().find(|(name, _)| name == b"file-0005").unwrap().1.unwrap().size;
                        assert!(size >= least, "{size} bytes, and it had {least} before the listing began");
                    }
                })
            };
            let listers: Vec<_> = std::iter::repeat_with(lister).take(LISTERS).collect();
            let busy = || listers.iter().any(|lister| !lister.is_finished());
            while busy() {
                OpenOptions::new().append(true).open(&growing).unwrap().write_all(b"x").unwrap();
                length.fetch_add(1, SeqCst);
                // Until it is told from memory again, so that there is something to be untrue.
                while !list(&known, served.path()).0 && busy() {}
            }
        });
        assert!(known.told.load(Relaxed) > 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn no_listing_is_ever_untrue(steps in prop::collection::vec((0_u8..10, 0_u32..140), 1..60)) {
            let (served, known) = known_folder();
            let path = served.path();
            for (step, number) in steps {
                let one = file(path, number as usize);
                let _ = match step {
                    0 => fs::write(&one, vec![b'x'; number as usize]),
                    1 => fs::remove_file(&one),
                    2 => fs::rename(&one, file(path, number as usize / 2)),
                    3 => fs::set_permissions(&one, fs::Permissions::from_mode(0o600 + number % 8)),
                    _ => Ok(()),
                };
                prop_assert_eq!(list(&known, path).1, truth(&open(path)));
            }
        }
    }
}
