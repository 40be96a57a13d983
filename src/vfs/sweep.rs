//! What a server does before its first client: temporary files that a dead one has left are removed, and
//! what is in use is added up for a quota.
//!
//! Goes through the whole tree one name at a time, with few descriptors and bounded memory however deep
//! and broad it is. Never follows a link, never leaves the root, and removes nothing but regular files
//! with the name of a temporary one that nobody has locked.

use super::place::is_temporary;
use super::{Kind, Root, Status, VfsError};
use crate::limits::{PATH_MAX, READ_BUFFER};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, RawDir, SeekFrom, flock, openat, seek, unlinkat};
use rustix::io::Errno;
use std::collections::HashSet;
use std::mem::MaybeUninit;

/// Folders that are kept open on the way back up; one that is further up is opened anew.
const OPEN_MAX: usize = 16;

/// Files with several names that are remembered, so that each is counted once; beyond this many they are
/// counted for each of their names: a quota then errs on the safe side. They take some 2 MiB.
const LINKED_MAX: usize = 65_536;

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
        let top = openat(&self.folder, c".", FOLDER, Mode::empty())?;
        let mut sweep = Sweep { root: self.folder.as_fd(), swept: Swept::default(), linked: HashSet::new() };
        sweep.run(top);
        Ok(sweep.swept)
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
}

impl Level {
    fn new(folder: OwnedFd, way: usize) -> Self {
        Self { status: Status::of(folder.as_fd()).ok(), folder: Some(folder), way, cookie: 0 }
    }
}

/// A folder in the one that is read, and its name.
type Below = (OwnedFd, Vec<u8>);

impl Sweep<'_> {
    fn run(&mut self, top: OwnedFd) {
        let mut way: Vec<u8> = Vec::new();
        let mut levels = vec![Level::new(top, 0)];
        let mut buffer = Box::new_uninit_slice(READ_BUFFER);
        while let Some(last) = levels.last() {
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
        self.swept.bytes_used = self.swept.bytes_used.saturating_add(status.size);
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
