//! Names that come, go and move, and what is told of them: DELE, RMD, MKD, RNFR and RNTO (RFC 959 §4.1.3),
//! MFMT, SITE CHMOD, and the space that is free.
//!
//! Never changes the content of a file, never takes a folder's name for something else, and sets no
//! setuid, setgid or sticky bit.

use super::place::{Place, is_unknown, own_name, weight};
use super::{Kind, Root, Status, VfsError};
use crate::proto::pathname::VirtualPath;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, RenameFlags, Timespec, Timestamps, UTIME_OMIT, chmodat, fstatvfs, mkdirat, openat,
    renameat, renameat_with, unlinkat, utimensat,
};
use rustix::io::Errno;

/// Room on a file system, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Free {
    /// What this process may still fill.
    pub bytes: u64,
    /// Its size.
    pub total: u64,
}

impl Free {
    pub(super) fn around(descriptor: BorrowedFd<'_>) -> Result<Self, VfsError> {
        let found = fstatvfs(descriptor)?;
        let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
        Ok(Self { bytes: bytes(found.f_bavail), total: bytes(found.f_blocks) })
    }
}

impl Root {
    /// Removes a file or a link, but not what the link leads to. Returns the bytes that this freed: none
    /// where the file has other names.
    ///
    /// # Errors
    /// [`VfsError::IsFolder`], and those of the file system.
    pub fn remove_file(&self, path: &VirtualPath) -> Result<u64, VfsError> {
        if path.is_root() {
            return Err(VfsError::IsFolder);
        }
        self.place(path)?.remove(None)
    }

    /// Removes a folder in which nothing is.
    ///
    /// # Errors
    /// [`VfsError::NotEmpty`], [`VfsError::NotAFolder`], also for a link to one; [`VfsError::Denied`] for the
    /// root itself, and those of the file system.
    pub fn remove_folder(&self, path: &VirtualPath) -> Result<(), VfsError> {
        let place = self.place(path)?;
        Ok(unlinkat(place.folder(), place.name(), AtFlags::REMOVEDIR)?)
    }

    /// Makes a folder. `mode` are its permission bits, of which those below 0o1000 count.
    ///
    /// # Errors
    /// [`VfsError::Exists`] whatever has the name, [`VfsError::BadName`], and those of the file system.
    pub fn make_folder(&self, path: &VirtualPath, mode: u32) -> Result<(), VfsError> {
        if path.is_root() {
            return Err(VfsError::Exists);
        }
        let place = self.place(path)?;
        let mode = Mode::from_raw_mode(mode & 0o777);
        mkdirat(place.folder(), place.name(), mode)?;
        // The process has a mask of its own.
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = openat(place.folder(), place.name(), flags, Mode::empty())?;
        set_bits(made.as_fd(), mode)
    }

    /// Moves a name. What has the new one is replaced only where `replace` says so, and never if either is a
    /// folder. Returns the bytes that this freed. A link is moved as a link.
    ///
    /// # Errors
    /// [`VfsError::Exists`], [`VfsError::IsFolder`] for a folder that would be replaced,
    /// [`VfsError::IntoItself`], [`VfsError::CrossDevice`], [`VfsError::BadName`], and those of the file
    /// system.
    pub fn rename(&self, from: &VirtualPath, to: &VirtualPath, replace: bool) -> Result<u64, VfsError> {
        if to.is_root() {
            return Err(VfsError::Exists);
        }
        let (from, to) = (self.place(from)?, self.place(to)?);
        match move_name(&from, &to) {
            Ok(()) => return Ok(0),
            Err(Errno::EXIST) if replace => {}
            // The kernel sees it from below: the folder is full of the one that it would have to hold.
            Err(Errno::NOTEMPTY) => return Err(VfsError::Exists),
            Err(Errno::INVAL) => return Err(VfsError::IntoItself),
            Err(errno) => return Err(errno.into()),
        }
        let moved = from.status()?.ok_or(VfsError::Missing)?;
        let Some(old) = to.status()? else { return Err(VfsError::Busy) };
        match (moved.kind, old.kind) {
            // Two names of one file: rename(2) does nothing, and neither does this.
            _ if moved.is_same(&old) => Ok(0),
            (Kind::Folder, _) => Err(VfsError::Exists),
            (_, Kind::Folder) => Err(VfsError::IsFolder),
            _ => exchange(&from, &to, &old),
        }
    }

    /// Sets when a file or a folder was changed last, in seconds since 1970-01-01 UTC. Links are followed
    /// inside the root.
    ///
    /// # Errors
    /// [`VfsError::NotAFile`], [`VfsError::Denied`], and those of the file system.
    pub fn set_modified(&self, path: &VirtualPath, seconds: i64) -> Result<(), VfsError> {
        let found = self.settable(path)?;
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec { tv_sec: seconds, tv_nsec: 0 },
        };
        match utimensat(&found, c"", &times, AtFlags::EMPTY_PATH) {
            // Before Linux 5.8.
            Err(Errno::INVAL) => Ok(utimensat(CWD, own_name(found.as_fd()), &times, AtFlags::empty())?),
            outcome => Ok(outcome?),
        }
    }

    /// Sets the permission bits of a file or a folder, of which those below 0o1000 count. A folder keeps the
    /// setgid and sticky bits that it has, a file loses them. Links are followed inside the root.
    ///
    /// # Errors
    /// [`VfsError::NotAFile`], [`VfsError::Denied`], and those of the file system.
    pub fn set_mode(&self, path: &VirtualPath, mode: u32) -> Result<(), VfsError> {
        let found = self.settable(path)?;
        set_bits(found.as_fd(), Mode::from_raw_mode(mode & 0o777))
    }

    /// What is free on the file system that holds what the pathname leads to.
    ///
    /// # Errors
    /// Those of opening it, and of fstatvfs(2).
    pub fn free(&self, path: &VirtualPath) -> Result<Free, VfsError> {
        let found = self.open_confined(path.relative(), OFlags::PATH)?;
        Free::around(found.as_fd())
    }

    /// A file or a folder of which something is to be set. O_PATH, so nothing is opened that would block or
    /// notice, and a file that this process may not read can be changed by its owner.
    fn settable(&self, path: &VirtualPath) -> Result<OwnedFd, VfsError> {
        let found = self.open_confined(path.relative(), OFlags::PATH)?;
        match Status::of(found.as_fd())?.kind {
            Kind::File | Kind::Folder => Ok(found),
            Kind::Link | Kind::Other => Err(VfsError::NotAFile),
        }
    }
}

/// Sets the permission bits of what a descriptor has open, O_PATH or not.
fn set_bits(descriptor: BorrowedFd<'_>, mode: Mode) -> Result<(), VfsError> {
    let found = Status::of(descriptor)?;
    let kept = if found.kind == Kind::Folder { found.mode & 0o7000 } else { 0 };
    let mode = mode | Mode::from_raw_mode(kept);
    if mode == Mode::from_raw_mode(found.mode) {
        return Ok(());
    }
    Ok(chmodat(CWD, own_name(descriptor), mode, AtFlags::empty())?)
}

/// Moves a name to one that nothing has.
fn move_name(from: &Place, to: &Place) -> Result<(), Errno> {
    match renameat_with(from.folder(), from.name(), to.folder(), to.name(), RenameFlags::NOREPLACE) {
        // A folder into itself, or a file system that does not know the flag.
        Err(errno) if is_unknown(errno) => {
            if to.status()?.is_some() {
                return Err(Errno::EXIST);
            }
            renameat(from.folder(), from.name(), to.folder(), to.name())
        }
        outcome => outcome,
    }
}

/// Puts one file or link in the place of another. At no moment does nothing have the new name.
fn exchange(from: &Place, to: &Place, old: &Status) -> Result<u64, VfsError> {
    let swap = || renameat_with(from.folder(), from.name(), to.folder(), to.name(), RenameFlags::EXCHANGE);
    match swap() {
        Ok(()) => {}
        Err(errno) if is_unknown(errno) => {
            renameat(from.folder(), from.name(), to.folder(), to.name())?;
            return Ok(weight(old));
        }
        Err(errno) => return Err(errno.into()),
    }
    match from.remove(Some(old)) {
        // Another session was there in between: what has the old name now is its, or will be swept by it.
        Err(VfsError::Missing) => Ok(0),
        Err(VfsError::IsFolder) => {
            swap()?;
            Err(VfsError::IsFolder)
        }
        outcome => outcome,
    }
}
