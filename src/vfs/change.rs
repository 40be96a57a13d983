//! A file that is changed where it lies: APPE, and STOR after REST (RFC 959 §4.1.3, RFC 3659 §5).
//!
//! One writer at a time, by a lock on the file that other servers see, too. Follows links inside the root as
//! reading does, and opens nothing but regular files. Never replaces a file: what was written stays.

use super::place::{CHANGE_TRIES, Place};
use super::{Kind, Offset, Root, Status, VfsError};
use crate::proto::pathname::VirtualPath;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FlockOperation, Mode, OFlags, fchmod, flock, ftruncate, openat};
use rustix::io::Errno;

/// The file, open for writing and locked.
#[derive(Debug)]
pub(super) struct InPlace {
    file: OwnedFd,
    /// Whether it ends with the last byte written.
    cut: bool,
    /// Where it is, if it has been made for this.
    made_in: Option<Place>,
}

impl Root {
    /// The file and its length; it is made if it is missing and the first byte is the next.
    pub(super) fn open_in_place(&self, path: &VirtualPath, at: Offset, mode: Mode) -> Result<(InPlace, u64), VfsError> {
        if path.is_root() {
            return Err(VfsError::IsFolder);
        }
        let make = matches!(at, Offset::Append | Offset::At(0));
        for _ in 0..CHANGE_TRIES {
            // Checks the name.
            let place = self.place_to_sync(path)?;
            let opened = match self.open_confined(path.relative(), flags(at)) {
                Ok(file) => Some((file, None)),
                Err(Errno::NOENT) if make => make_file(&place, at, mode)?.map(|file| (file, Some(place))),
                Err(errno) => return Err(errno.into()),
            };
            let Some((file, made_in)) = opened else { continue };
            let length = take(file.as_fd())?;
            if let Some(length) = length {
                return Ok((InPlace { file, cut: at != Offset::Append, made_in }, length));
            }
        }
        Err(VfsError::Busy)
    }
}

/// Without O_NONBLOCK a FIFO would hold the worker until somebody reads from it.
fn flags(at: Offset) -> OFlags {
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    if at == Offset::Append { flags | OFlags::APPEND } else { flags }
}

/// `None` if something has the name by now.
fn make_file(place: &Place, at: Offset, mode: Mode) -> Result<Option<OwnedFd>, VfsError> {
    let flags = flags(at) | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
    match openat(place.folder(), place.name(), flags, mode) {
        Ok(file) => {
            // The process has a mask of its own.
            fchmod(&file, mode)?;
            Ok(Some(file))
        }
        // A link that leads nowhere is not followed to make a file at its end.
        Err(Errno::EXIST) if place.status()?.is_some_and(|found| found.kind == Kind::Link) => Err(VfsError::Missing),
        Err(Errno::EXIST) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Locks the file and tells its length; `None` if it was removed or replaced before it was locked.
fn take(file: BorrowedFd<'_>) -> Result<Option<u64>, VfsError> {
    match Status::of(file)?.kind {
        Kind::File => {}
        Kind::Folder => return Err(VfsError::IsFolder),
        Kind::Link | Kind::Other => return Err(VfsError::NotAFile),
    }
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => return Err(VfsError::InUse),
        outcome => outcome?,
    }
    let locked = Status::of(file)?;
    Ok((locked.links > 0).then_some(locked.size))
}

impl InPlace {
    /// Cuts off what lies behind `end`, if that is asked for; returns how many bytes that were.
    pub(super) fn finish(&self, end: u64, length: u64) -> Result<u64, VfsError> {
        // Nobody could ever read what was acknowledged.
        if Status::of(self.as_fd())?.links == 0 {
            return Err(VfsError::Missing);
        }
        if !self.cut || end >= length {
            return Ok(0);
        }
        ftruncate(&self.file, end)?;
        Ok(length - end)
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    pub(super) fn sync_folder(&self) -> Result<(), Errno> {
        self.made_in.as_ref().map_or(Ok(()), |place| place.sync(self.as_fd()))
    }
}
