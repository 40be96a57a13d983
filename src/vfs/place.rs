//! One name in one folder, about to be given, taken or exchanged.
//!
//! The folder was opened once, inside the root; from then on every change is made with that descriptor and
//! a single name, and no link is followed. So links that are swapped meanwhile lead nowhere. What a change
//! frees is weighed after it was taken out of reach, so that it is counted once, however many sessions
//! change the same name at the same time.
//!
//! Never changes the content of a file.

use super::stake::Stake;
use super::{Kind, Root, Status, VfsError};
use crate::proto::pathname::VirtualPath;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, CWD, FlockOperation, Mode, OFlags, RenameFlags, StatxFlags, fchmod, flock, fsync, linkat, openat,
    renameat, renameat_with, statx, unlinkat,
};
use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};

/// What the names of temporary files begin with. Clients can neither see nor use such a name.
pub const TEMPORARY_PREFIX: &[u8] = b".plimsoll-";

/// How often a change is tried anew when other sessions change the same name meanwhile; then it is
/// [`VfsError::Busy`].
pub(super) const CHANGE_TRIES: usize = 32;

/// A name in a folder.
#[derive(Debug)]
pub(super) struct Place {
    folder: OwnedFd,
    /// Whether the folder is open for reading, which fsync(2) asks for; else it is open with O_PATH.
    readable: bool,
    name: Vec<u8>,
}

/// What has become of something that was to be taken out of reach.
#[derive(Debug)]
pub(super) enum Aside {
    /// It has this hidden name.
    At(Vec<u8>, Status),
    /// Another server has swept it away.
    Gone,
    /// It is where it was: the file system can't move it so.
    Unknown(Status),
}

/// Whether this is the name of a temporary file.
pub(super) fn is_temporary(name: &[u8]) -> bool {
    name.starts_with(TEMPORARY_PREFIX)
}

/// Whether any name in a pathname is that of a temporary file.
pub(super) fn leads_to_temporary(path: &[u8]) -> bool {
    path.split(|byte| *byte == b'/').any(is_temporary)
}

/// Random bytes as hexadecimal digits, which no client can guess.
pub(super) fn random_digits() -> Result<[u8; 16], Errno> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut random = [0_u8; 16];
    getrandom(&mut random, GetRandomFlags::empty())?;
    Ok(random.map(|byte| DIGITS[usize::from(byte & 0x0f)]))
}

/// A name that nothing has.
pub(super) fn temporary_name() -> Result<Vec<u8>, Errno> {
    Ok([TEMPORARY_PREFIX, &random_digits()?].concat())
}

/// Whether a file without a name could be given one: whether what a descriptor has open can be reached.
pub(super) fn can_be_named(descriptor: BorrowedFd<'_>) -> bool {
    let reached = statx(CWD, own_name(descriptor), AtFlags::empty(), StatxFlags::INO);
    let own = statx(descriptor, c"", AtFlags::EMPTY_PATH, StatxFlags::INO);
    matches!((reached, own), (Ok(reached), Ok(own)) if reached.stx_ino == own.stx_ino)
}

/// The name under which a process reaches what a descriptor of its own has open.
pub(super) fn own_name(descriptor: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", descriptor.as_raw_fd())
}

impl Root {
    /// The place of a name that is to be changed. Whether anything has the name is not looked at.
    ///
    /// # Errors
    /// [`VfsError::BadName`] for the name of a temporary file, [`VfsError::Denied`] for the root itself,
    /// and what is wrong with the folder.
    pub(super) fn place(&self, path: &VirtualPath) -> Result<Place, VfsError> {
        let (parent, name) = parts(path)?;
        let folder = self.open_confined(parent.relative(), OFlags::PATH | OFlags::DIRECTORY)?;
        Ok(Place { folder, readable: false, name })
    }

    /// As [`Root::place`], with a folder that can be synced if this process may read it.
    pub(super) fn place_to_sync(&self, path: &VirtualPath) -> Result<Place, VfsError> {
        let (parent, name) = parts(path)?;
        match self.open_confined(parent.relative(), OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(folder) => Ok(Place { folder, readable: true, name }),
            // One that may be entered and changed, but not listed.
            Err(Errno::ACCESS) => self.place(path),
            Err(errno) => Err(errno.into()),
        }
    }
}

fn parts(path: &VirtualPath) -> Result<(VirtualPath, Vec<u8>), VfsError> {
    let name = path.file_name().ok_or(VfsError::Denied)?;
    if leads_to_temporary(path.as_bytes()) {
        return Err(VfsError::BadName);
    }
    Ok((path.parent(), name.to_vec()))
}

impl Place {
    pub(super) fn folder(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }

    pub(super) fn name(&self) -> &[u8] {
        &self.name
    }

    /// Another name in the same folder.
    pub(super) fn rename(&mut self, name: &[u8]) {
        self.name = name.to_vec();
    }

    /// What has the name now, if anything does. A link is not followed.
    pub(super) fn status(&self) -> Result<Option<Status>, Errno> {
        self.status_of(&self.name)
    }

    pub(super) fn status_of(&self, name: &[u8]) -> Result<Option<Status>, Errno> {
        match Status::of_name(self.folder(), name) {
            Ok(status) => Ok(Some(status)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Gives an open file that has no name this one.
    pub(super) fn link(&self, file: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
        match linkat(file, b"".as_slice(), self.folder(), name, AtFlags::EMPTY_PATH) {
            // Before Linux 6.10 that wants CAP_DAC_READ_SEARCH; the other way wants /proc.
            Err(Errno::NOENT | Errno::INVAL | Errno::PERM) => {
                linkat(CWD, own_name(file), self.folder(), name, AtFlags::SYMLINK_FOLLOW)
            }
            outcome => outcome,
        }
    }

    /// Moves `from`, another name in the folder, to this one, but only if nothing has it.
    pub(super) fn put(&self, from: &[u8], name: &[u8]) -> Result<(), Errno> {
        match renameat_with(self.folder(), from, self.folder(), name, RenameFlags::NOREPLACE) {
            Err(errno) if is_unknown(errno) => {
                linkat(self.folder(), from, self.folder(), name, AtFlags::empty())?;
                unlinkat(self.folder(), from, AtFlags::empty())
            }
            outcome => outcome,
        }
    }

    /// Puts `from`, another name in the folder, in the place of what has this one, and that out of reach.
    /// At no moment does nothing have this name. Returns what was freed.
    ///
    /// # Errors
    /// [`VfsError::Missing`] if nothing has this name, or `from`; [`VfsError::IsFolder`].
    pub(super) fn replace(&self, from: &[u8]) -> Result<u64, VfsError> {
        match renameat_with(self.folder(), from, self.folder(), &*self.name, RenameFlags::EXCHANGE) {
            Ok(()) => {}
            Err(errno) if is_unknown(errno) => return self.replace_and_guess(from),
            Err(errno) => return Err(errno.into()),
        }
        let Some(old) = self.status_of(from)? else {
            // Whoever has swept it away has freed it.
            return Ok(0);
        };
        if old.kind == Kind::Folder {
            // It was made a moment ago.
            renameat_with(self.folder(), from, self.folder(), &*self.name, RenameFlags::EXCHANGE)?;
            return Err(VfsError::IsFolder);
        }
        Ok(self.unlink(from, &old))
    }

    /// For file systems that can't exchange: what is freed is what had the name a moment before.
    fn replace_and_guess(&self, from: &[u8]) -> Result<u64, VfsError> {
        let old = self.status()?.ok_or(VfsError::Missing)?;
        renameat(self.folder(), from, self.folder(), &*self.name)?;
        Ok(weight(&old))
    }

    /// Removes what has the name, unless it is a folder, or not `expected` where that is given. Returns the
    /// bytes that are freed.
    ///
    /// # Errors
    /// [`VfsError::Missing`], also if it is something else than was expected; [`VfsError::IsFolder`].
    pub(super) fn remove(&self, expected: Option<&Status>) -> Result<u64, VfsError> {
        match self.set_aside(expected)? {
            Aside::At(aside, taken) => Ok(self.unlink(&aside, &taken)),
            Aside::Gone => Ok(0),
            Aside::Unknown(found) => {
                unlinkat(self.folder(), &*self.name, AtFlags::empty())?;
                Ok(weight(&found))
            }
        }
    }

    /// Takes what has the name out of reach, as [`Place::remove`] does: what is weighed is then what is removed,
    /// and no other session has it.
    pub(super) fn set_aside(&self, expected: Option<&Status>) -> Result<Aside, VfsError> {
        let found = self.status()?.ok_or(VfsError::Missing)?;
        if found.kind == Kind::Folder {
            return Err(VfsError::IsFolder);
        }
        let wanted = |found: &Status| expected.is_none_or(|expected| expected.is_same(found));
        if !wanted(&found) {
            return Err(VfsError::Missing);
        }
        let aside = temporary_name()?;
        match renameat_with(self.folder(), &*self.name, self.folder(), &*aside, RenameFlags::NOREPLACE) {
            Ok(()) => {}
            Err(errno) if is_unknown(errno) => return Ok(Aside::Unknown(found)),
            Err(errno) => return Err(errno.into()),
        }
        let Some(taken) = self.status_of(&aside)? else { return Ok(Aside::Gone) };
        if taken.kind == Kind::Folder || !wanted(&taken) {
            // Another session has put it there since. It goes back unless a third has the name by now.
            renameat_with(self.folder(), &*aside, self.folder(), &*self.name, RenameFlags::NOREPLACE)?;
            return Err(if taken.kind == Kind::Folder { VfsError::IsFolder } else { VfsError::Missing });
        }
        Ok(Aside::At(aside, taken))
    }

    /// Removes a name that no client can reach, and returns the bytes that are freed. One that stays behind is
    /// swept at the next start, and has not been freed until then.
    pub(super) fn unlink(&self, name: &[u8], status: &Status) -> u64 {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // Open first: the inode of one that was swept away would be another file's, of which a wrong count is kept then.
        let file = openat(self.folder(), name, flags, Mode::empty());
        let stake = file.as_ref().ok().and_then(|file| Stake::of(file.as_fd()));
        match (unlinkat(self.folder(), name, AtFlags::empty()), stake, file) {
            (Ok(()), Some(stake), Ok(file)) => stake.leave(file.as_fd(), status),
            // No descriptor was left.
            (Ok(()), ..) => weight(status),
            (Err(_), ..) => 0,
        }
    }

    /// Makes durable which names the folder has. Where this process may not read the folder, it is the file
    /// that is synced once more: the file systems in use then write the names that it was given, too.
    pub(super) fn sync(&self, file: BorrowedFd<'_>) -> Result<(), Errno> {
        if !self.readable {
            return fsync(file);
        }
        match fsync(&self.folder) {
            // A file system that has no such thing for folders, and not one that has failed.
            Err(errno) if is_unknown(errno) => Ok(()),
            outcome => outcome,
        }
    }
}

/// Makes the content of a file durable.
pub(super) fn sync_file(file: BorrowedFd<'_>) -> Result<(), Errno> {
    #[cfg(test)]
    if super::tests::SYNC_FAILS.get() {
        return Err(Errno::IO);
    }
    fsync(file)
}

/// Sets the permission bits of a file that this process has just made; its umask has had a say before.
pub(super) fn set_own_mode(file: BorrowedFd<'_>, mode: Mode) -> Result<(), Errno> {
    match fchmod(file, mode) {
        // A file system that holds no such bits, as FAT.
        Err(Errno::PERM | Errno::OPNOTSUPP) => Ok(()),
        outcome => outcome,
    }
}

/// Locks an open file; false if somebody else has locked it. Where the file system has no locks nothing is
/// locked, and no sweep removes anything either.
pub(super) fn lock(file: BorrowedFd<'_>) -> Result<bool, Errno> {
    has_lock(flock(file, FlockOperation::NonBlockingLockExclusive))
}

fn has_lock(outcome: Result<(), Errno>) -> Result<bool, Errno> {
    match outcome {
        Ok(()) | Err(Errno::NOLCK | Errno::NOSYS | Errno::OPNOTSUPP) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Bytes that are freed when this loses one name.
pub(super) fn weight(status: &Status) -> u64 {
    if status.kind == Kind::File && status.links == 1 { status.size } else { 0 }
}

/// What file systems and kernels answer that don't know a flag of renameat2(2).
pub(super) fn is_unknown(errno: Errno) -> bool {
    matches!(errno, Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_without_locks_refuses_nobody() {
        for errno in [Errno::NOLCK, Errno::NOSYS, Errno::OPNOTSUPP] {
            assert_eq!(has_lock(Err(errno)), Ok(true));
        }
        assert_eq!(has_lock(Ok(())), Ok(true));
        assert_eq!(has_lock(Err(Errno::WOULDBLOCK)), Ok(false));
        assert_eq!(has_lock(Err(Errno::IO)), Err(Errno::IO));
    }
}
