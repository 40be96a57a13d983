//! The temporary file that an upload is written to, in the folder of its final name.
//!
//! It has no name where the file system can do that: then nothing is left behind, however the server ends.
//! Else, and for the moment in which it takes the place of another file, it has a hidden one, which is
//! removed on drop and locked, so that a sweep by another server leaves it alone.
//!
//! Never has the final name before it is whole.

use super::place::{CHANGE_TRIES, Place, lock, temporary_name};
use super::{Kind, Status, VfsError};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Mode, OFlags, openat, unlinkat};
use rustix::io::Errno;

/// Whose it is until it is whole: nobody else may read it.
const HIDDEN_MODE: Mode = Mode::RUSR.union(Mode::WUSR);

/// A file without its final name. Dropped, it is gone.
#[derive(Debug)]
pub(super) struct Temporary {
    place: Place,
    file: OwnedFd,
    /// The hidden name, if it has one.
    name: Option<Vec<u8>>,
}

impl Temporary {
    /// Makes one in the folder of `place`, empty and open for writing; without a name where `unnamed`
    /// says that it could be given one later, and the file system can.
    pub(super) fn new(place: Place, unnamed: bool) -> Result<Self, VfsError> {
        if unnamed {
            let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
            match openat(place.folder(), c".", flags, HIDDEN_MODE) {
                Ok(file) => return Ok(Self { place, file, name: None }),
                // What file systems and kernels answer that have no such files.
                Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOENT) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::WRONLY | OFlags::CLOEXEC;
        for _ in 0..CHANGE_TRIES {
            let name = temporary_name()?;
            match openat(place.folder(), &*name, flags, HIDDEN_MODE) {
                Ok(file) if hold(file.as_fd())? => return Ok(Self { place, file, name: Some(name) }),
                // A sweep was faster, or has just taken the name away.
                Ok(_) => drop(unlinkat(place.folder(), &*name, AtFlags::empty())),
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Err(VfsError::Busy)
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    pub(super) fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Gives it the name `name` if nothing has that.
    pub(super) fn put(&mut self, name: &[u8]) -> Result<(), Errno> {
        match &self.name {
            None => self.place.link(self.file.as_fd(), name)?,
            Some(hidden) => self.place.put(hidden, name)?,
        }
        self.name = None;
        Ok(())
    }

    /// Gives it the name of its place, and takes that from what has it, but not from a folder. Returns the
    /// bytes that this freed.
    pub(super) fn replace(&mut self) -> Result<u64, VfsError> {
        let name = self.place.name().to_vec();
        for _ in 0..CHANGE_TRIES {
            match self.put(&name) {
                Ok(()) => return Ok(0),
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
            match self.place.status()? {
                None => continue,
                Some(found) if found.kind == Kind::Folder => return Err(VfsError::IsFolder),
                Some(found) if found.kind == Kind::Other => return Err(VfsError::NotAFile),
                Some(_) => {}
            }
            let hidden = self.hidden_name()?;
            match self.place.replace(&hidden) {
                Ok(freed) => {
                    self.name = None;
                    return Ok(freed);
                }
                // It has lost the name since.
                Err(VfsError::Missing) => {}
                Err(error) => return Err(error),
            }
        }
        Err(VfsError::Busy)
    }

    /// Takes another name in the same folder as the final one.
    pub(super) fn aim_at(&mut self, name: &[u8]) {
        self.place.rename(name);
    }

    /// The hidden name; it is given one if it has none.
    fn hidden_name(&mut self) -> Result<Vec<u8>, VfsError> {
        if let Some(name) = &self.name {
            return Ok(name.clone());
        }
        lock(self.file.as_fd())?;
        let name = temporary_name()?;
        self.place.link(self.file.as_fd(), &name)?;
        self.name = Some(name.clone());
        Ok(name)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(name) = self.name.take() {
            // One that can't be removed now is swept at the next start.
            let _ = unlinkat(self.place.folder(), &*name, AtFlags::empty());
        }
    }
}

/// Locks a file that has just got a name; false if it has lost it to a sweep.
fn hold(file: BorrowedFd<'_>) -> Result<bool, VfsError> {
    Ok(lock(file)? && Status::of(file)?.links > 0)
}
