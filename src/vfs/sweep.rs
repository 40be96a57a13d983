//! What a server does before its first client: temporary files that a dead one has left are removed, and
//! what is in use is added up for a quota.
//!
//! Goes through the whole tree one name at a time, with few descriptors and bounded memory however deep
//! and broad it is. Never follows a link, never leaves the root, and removes nothing but regular files
//! with the name of a temporary one that nobody has locked.

use super::place::is_temporary;
use super::stake::Stake;
use super::{Kind, Root, Status, VfsError};
use crate::limits::{PATH_MAX, READ_BUFFER};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, RawDir, SeekFrom, flock, openat, seek, unlinkat};
use rustix::io::Errno;
use std::collections::HashSet;
use std::mem::MaybeUninit;
use std::time::Instant;

/// Folders that are kept open on the way back up; one that is further up is opened anew.
const OPEN_MAX: usize = 16;

/// Files with several names that are remembered, so that each is counted once; beyond this many they are
/// counted for each of their names: a quota then errs on the safe side.
const LINKED_MAX: usize = 65_536;

/// Sweeps at the same time: one by the thread that starts or reloads the server, one by a worker that counts
/// anew.
const SWEEPS: usize = 2;

/// Descriptors that all sweeps have open at most: the folders that are kept, and for each sweep the root, the
/// folder that is opened and one more on the way back, and a temporary file.
pub const SWEEP_DESCRIPTORS: usize = SWEEPS * (OPEN_MAX + 4);

/// Memory in bytes that all sweeps take at most: the table of linked files, which is half empty and there
/// once more in half its size while it grows, as are the levels of the deepest tree; the way there and the buffer.
pub const SWEEP_MEMORY: usize = SWEEPS
    * (3 * LINKED_MAX * (size_of::<(u64, u64)>() + 1)
        + 3 * PATH_MAX / 2 * size_of::<Level>()
        + 2 * PATH_MAX
        + READ_BUFFER);

/// What is opened on the way.
const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What a sweep has done and found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Temporary files that were removed.
    pub files: usize,
    /// Bytes in all other regular files, each counted once.
    pub bytes_used: u64,
    /// Folders that could not be read, at least in part: what is in them is not in the sum.
    pub unread: usize,
}

impl Root {
    /// Removes the temporary files that nobody holds, in the whole tree, and adds up the rest. Takes as long
    /// as the tree is large. What is changed meanwhile by others is counted or not.
    ///
    /// # Errors
    /// Those of opening the root. Whatever fails further down is counted in [`Swept::unread`].
    pub fn sweep(&self) -> Result<Swept, VfsError> {
        Ok(self.go_through(None)?.0)
    }

    /// Adds up as [`Root::sweep`] does, but removes nothing and leaves out what is being written: temporary files,
    /// and what has come to one that is changed in place. `None` if it is not through at that time.
    pub(super) fn look(&self, until: Instant) -> Result<Option<Swept>, VfsError> {
        let (swept, late) = self.go_through(Some(until))?;
        Ok((!late).then_some(swept))
    }

    fn go_through(&self, until: Option<Instant>) -> Result<(Swept, bool), VfsError> {
        let top = openat(&self.folder, c".", FOLDER, Mode::empty())?;
        let mut sweep = Sweep::new(self.folder.as_fd(), until);
        sweep.run(top);
        Ok((sweep.swept, sweep.late))
    }
}

/// A folder on the way from the root to where the sweep is.
struct Level {
    /// Open only for the last few.
    folder: Option<OwnedFd>,
    /// So that it is known again when it has to be opened anew.
    status: Option<Status>,
    /// Length of the way to it.
    way: usize,
    /// Where reading goes on.
    cookie: u64,
}

struct Sweep<'a> {
    root: BorrowedFd<'a>,
    swept: Swept,
    linked: HashSet<(u64, u64)>,
    /// Where it only looks: when it gives up.
    until: Option<Instant>,
    late: bool,
}

impl Level {
    fn new(folder: OwnedFd, way: usize) -> Self {
        Self { status: Status::of(folder.as_fd()).ok(), folder: Some(folder), way, cookie: 0 }
    }
}

/// A folder in the one that is read, and its name.
type Below = (OwnedFd, Vec<u8>);

impl<'a> Sweep<'a> {
    fn new(root: BorrowedFd<'a>, until: Option<Instant>) -> Self {
        Self { root, swept: Swept::default(), linked: HashSet::new(), until, late: false }
    }

    fn run(&mut self, top: OwnedFd) {
        let mut way: Vec<u8> = Vec::new();
        let mut levels = vec![Level::new(top, 0)];
        let mut buffer = Box::new_uninit_slice(READ_BUFFER);
        while let Some(last) = levels.last().filter(|_| !self.late) {
            way.truncate(last.way);
            let outcome = self.come_back(&mut levels, &way).and_then(|()| match levels.last_mut() {
                Some(level) => self.turn(level, &mut buffer),
                None => Ok(None),
            });
            match outcome {
                Ok(Some((folder, name))) => {
                    way.extend_from_slice(&name);
                    way.push(b'/');
                    levels.push(Level::new(folder, way.len()));
                    if let Some(far) = levels.len().checked_sub(OPEN_MAX + 1).and_then(|far| levels.get_mut(far)) {
                        far.folder = None;
                    }
                }
                Ok(None) => drop(levels.pop()),
                Err(_) => {
                    self.swept.unread += 1;
                    levels.pop();
                }
            }
        }
    }

    /// Opens the last folder again if it was closed meanwhile, and those shortly before it, so that a deep
    /// tree is not walked from the root for each of its folders.
    fn come_back(&self, levels: &mut [Level], way: &[u8]) -> Result<(), Errno> {
        if levels.last().is_none_or(|last| last.folder.is_some()) {
            return Ok(());
        }
        let far = levels.len().saturating_sub(OPEN_MAX);
        let names = way.split(|byte| *byte == b'/').filter(|name| !name.is_empty());
        let mut reached = openat(self.root, c".", FOLDER, Mode::empty())?;
        for (index, (level, name)) in levels.iter_mut().zip(names.map(Some).chain([None])).enumerate() {
            let found = Status::of(reached.as_fd())?;
            // It may have been moved, and another be there by now.
            if !level.status.is_some_and(|status| status.is_same(&found)) {
                return Err(Errno::NOENT);
            }
            let next = name.map(|name| openat(&reached, name, FOLDER, Mode::empty())).transpose()?;
            if index >= far {
                level.folder = Some(reached);
            }
            let Some(next) = next else { break };
            reached = next;
        }
        Ok(())
    }

    /// Goes on in a folder until there is one in it to go down into.
    fn turn(&mut self, level: &mut Level, buffer: &mut [MaybeUninit<u8>]) -> Result<Option<Below>, Errno> {
        let Some(folder) = &level.folder else { return Ok(None) };
        seek(folder, SeekFrom::Start(level.cookie))?;
        let mut entries = RawDir::new(folder, buffer);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            self.late = self.until.is_some_and(|until| Instant::now() >= until);
            if self.late {
                break;
            }
            level.cookie = entry.next_entry_cookie();
            let name = entry.file_name().to_bytes();
            // What is deeper can't be named by a client either.
            let reachable = level.way + name.len() < PATH_MAX;
            if !matches!(name, b"." | b"..") && self.visit(folder.as_fd(), name) && reachable {
                match openat(folder, name, FOLDER, Mode::empty()) {
                    Ok(below) => return Ok(Some((below, name.to_vec()))),
                    Err(_) => self.swept.unread += 1,
                }
            }
        }
        Ok(None)
    }

    /// Removes or counts one name; true if it is that of a folder.
    fn visit(&mut self, folder: BorrowedFd<'_>, name: &[u8]) -> bool {
        let Ok(status) = Status::of_name(folder, name) else { return false };
        match status.kind {
            Kind::Folder => return true,
            _ if self.until.is_some() && is_temporary(name) => {}
            Kind::File if is_temporary(name) && remove(folder, name, &status) => self.swept.files += 1,
            Kind::File => self.count(&status),
            // One that was replaced in the moment in which the server died.
            Kind::Link if is_temporary(name) && unlinkat(folder, name, AtFlags::empty()).is_ok() => {
                self.swept.files += 1;
            }
            Kind::Link | Kind::Other => {}
        }
        false
    }

    fn count(&mut self, status: &Status) {
        if status.links > 1 {
            let file = (status.device, status.inode);
            let known = self.linked.contains(&file);
            if known || (self.linked.len() < LINKED_MAX && !self.linked.insert(file)) {
                return;
            }
        }
        let size = match self.until {
            None => status.size,
            Some(_) => Stake::began(status).map_or(status.size, |began| began.min(status.size)),
        };
        self.swept.bytes_used = self.swept.bytes_used.saturating_add(size);
    }
}

/// Removes a temporary file unless another server holds it.
fn remove(folder: BorrowedFd<'_>, name: &[u8], status: &Status) -> bool {
    let flags = OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::CLOEXEC;
    // Some file systems want one that is open for writing, and some files can't be.
    let open = |access| openat(folder, name, flags | access, Mode::empty());
    let Ok(file) = open(OFlags::WRONLY).or_else(|_| open(OFlags::RDONLY)) else { return false };
    let same = Status::of(file.as_fd()).is_ok_and(|found| found.is_same(status));
    // Whoever holds it has locked it, or will find out that it is gone.
    same && flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
        && unlinkat(folder, name, AtFlags::empty()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfs::tests::{at, names, roots, writing_roots};
    use crate::vfs::{Existing, TEMPORARY_PREFIX};
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;

    fn leftover(folder: &Path, end: &str, content: &str) {
        let name = [str::from_utf8(TEMPORARY_PREFIX).unwrap(), end].concat();
        fs::write(folder.join(name), content).unwrap();
    }

    #[test]
    fn what_a_dead_server_left_is_removed_and_the_rest_is_counted() {
        let outer = tempfile::tempdir().unwrap();
        let served = outer.path().join("served");
        fs::create_dir_all(served.join("a/b/c")).unwrap();
        fs::create_dir_all(served.join("empty")).unwrap();
        leftover(outer.path(), "outside", "outside");
        fs::write(outer.path().join("file"), [0; 1000]).unwrap();
        symlink("..", served.join("a/out")).unwrap();
        symlink(outer.path(), served.join("a/b/outside")).unwrap();
        for (place, bytes) in [("one", 1), ("a/two", 20), ("a/b/.three", 300), ("a/b/c/four", 4000)] {
            fs::write(served.join(place), vec![0; bytes]).unwrap();
        }
        fs::hard_link(served.join("a/two"), served.join("again")).unwrap();
        for root in roots(&served) {
            for place in ["", "a", "a/b/c", "empty"] {
                leftover(&served.join(place), "0123456789abcdef", "left");
                leftover(&served.join(place), "other", "left too");
                symlink("../file", served.join(place).join(".plimsoll-link")).unwrap();
            }
            // Nobody could open it for writing, if it were not root.
            let old = served.join("a/.plimsoll-other");
            fs::set_permissions(old, fs::Permissions::from_mode(0o444)).unwrap();
            assert_eq!(root.sweep(), Ok(Swept { files: 12, bytes_used: 4321, unread: 0 }));
            assert_eq!(root.sweep(), Ok(Swept { files: 0, bytes_used: 4321, unread: 0 }));
            assert_eq!(names(&served), ["a", "again", "empty", "one"]);
            assert_eq!(names(&served.join("empty")), [""; 0]);
        }
        assert_eq!(names(outer.path()), [".plimsoll-outside", "file", "served"]);
    }

    #[test]
    fn an_upload_of_another_server_is_left_alone() {
        let served = tempfile::tempdir().unwrap();
        let mut seen = 0;
        for root in writing_roots(served.path()) {
            fs::write(served.path().join("file"), "old").unwrap();
            let mut upload = root.upload(&at(b"/file"), Existing::Replace, 0o644).unwrap();
            upload.write(b"content").unwrap();
            seen += names(served.path()).len() - 1;
            for other in roots(served.path()) {
                assert_eq!(other.sweep().unwrap().files, 0);
            }
            upload.commit(true).unwrap();
            assert_eq!(fs::read(served.path().join("file")).unwrap(), b"content");
        }
        assert!(seen > 0, "no upload had a name");
    }

    /// Servers that start sweep without end while others replace files.
    #[test]
    fn no_sweep_breaks_an_upload() {
        let served = tempfile::tempdir().unwrap();
        for root in writing_roots(served.path()) {
            let done = std::sync::atomic::AtomicBool::new(false);
            let sweeps = std::thread::scope(|scope| {
                let sweeper = scope.spawn(|| {
                    let mut sweeps = 0;
                    while !done.load(std::sync::atomic::Ordering::Relaxed) {
                        root.sweep().unwrap();
                        sweeps += 1;
                    }
                    sweeps
                });
                let uploads = (0..2_000).map(|number: u32| {
                    let mut upload = root.upload(&at(b"/file"), Existing::Replace, 0o644)?;
                    upload.write(&number.to_le_bytes())?;
                    upload.commit(false)?;
                    Ok(fs::read(served.path().join("file")).unwrap() == number.to_le_bytes())
                });
                let outcome: Result<Vec<bool>, VfsError> = uploads.collect();
                done.store(true, std::sync::atomic::Ordering::Relaxed);
                assert_eq!(outcome, Ok(vec![true; 2_000]), "{root:?}");
                sweeper.join().unwrap()
            });
            assert!(sweeps > 10, "{sweeps}");
            assert_eq!(names(served.path()), ["file"]);
        }
    }

    #[test]
    fn a_folder_with_such_a_name_is_not_removed() {
        let served = tempfile::tempdir().unwrap();
        fs::create_dir_all(served.path().join(".plimsoll-folder/in")).unwrap();
        fs::write(served.path().join(".plimsoll-folder/in/file"), "content").unwrap();
        for root in roots(served.path()) {
            assert_eq!(root.sweep(), Ok(Swept { files: 0, bytes_used: 7, unread: 0 }));
        }
    }

    #[test]
    fn a_deep_tree_is_counted_with_few_descriptors() {
        let served = tempfile::tempdir().unwrap();
        let mut place = openat(rustix::fs::CWD, served.path(), FOLDER, Mode::empty()).unwrap();
        // Far deeper than folders are kept open; in each one file before, and one behind the way down.
        for depth in 0..400_u32 {
            for name in ["a", "z"] {
                let flags = OFlags::CREATE | OFlags::WRONLY;
                let file = openat(&place, name, flags, Mode::from_raw_mode(0o600)).unwrap();
                rustix::io::write(&file, &depth.to_le_bytes()).unwrap();
            }
            for name in ["m", "n"] {
                rustix::fs::mkdirat(&place, name, Mode::from_raw_mode(0o700)).unwrap();
            }
            place = openat(&place, "m", FOLDER, Mode::empty()).unwrap();
        }
        for root in roots(served.path()) {
            assert_eq!(root.sweep(), Ok(Swept { files: 0, bytes_used: 400 * 8, unread: 0 }));
        }

        let root = &roots(served.path())[0];
        let top = openat(&root.folder, c".", FOLDER, Mode::empty()).unwrap();
        let mut levels = vec![Level::new(top, 0)];
        let mut way = Vec::new();
        for _ in 0..100 {
            let below = openat(levels.last().unwrap().folder.as_ref().unwrap(), "m", FOLDER, Mode::empty()).unwrap();
            way.extend_from_slice(b"m/");
            levels.push(Level::new(below, way.len()));
        }
        for level in &mut levels {
            level.folder = None;
        }
        let sweep = Sweep::new(root.folder.as_fd(), None);
        sweep.come_back(&mut levels, &way).unwrap();
        let open: Vec<bool> = levels.iter().map(|level| level.folder.is_some()).collect();
        assert_eq!(open, [vec![false; 101 - OPEN_MAX], vec![true; OPEN_MAX]].concat());
        // Another folder in its place is not mistaken for it.
        fs::rename(served.path().join("m/m"), served.path().join("m/o")).unwrap();
        fs::create_dir_all(served.path().join("m").join("m/".repeat(99))).unwrap();
        for level in &mut levels {
            level.folder = None;
        }
        assert_eq!(sweep.come_back(&mut levels, &way), Err(Errno::NOENT));
    }

    #[test]
    fn what_is_deeper_than_any_pathname_is_left_out_and_ends() {
        let served = tempfile::tempdir().unwrap();
        let name = "n".repeat(200);
        let mut place = openat(rustix::fs::CWD, served.path(), FOLDER, Mode::empty()).unwrap();
        for _ in 0..30 {
            rustix::fs::mkdirat(&place, &name, Mode::from_raw_mode(0o700)).unwrap();
            place = openat(&place, &name, FOLDER, Mode::empty()).unwrap();
            let file = openat(&place, "file", OFlags::CREATE | OFlags::WRONLY, Mode::from_raw_mode(0o600)).unwrap();
            rustix::io::write(&file, b"x").unwrap();
        }
        let root = &roots(served.path())[0];
        assert_eq!(root.sweep(), Ok(Swept { files: 0, bytes_used: (PATH_MAX / 201) as u64, unread: 0 }));
    }
}
