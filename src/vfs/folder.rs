//! A folder that is open for a listing: its names, their status, and where their links point.
//!
//! Allocates nothing for a name. Never takes anything but a single name, and never follows a link.

use super::place::is_temporary;
use super::{Status, VfsError};
use crate::limits::READ_BUFFER;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{RawDir, SeekFrom, readlinkat_raw, seek};
use rustix::io::Errno;
use std::mem::MaybeUninit;

/// Where names are read into: one for each worker, allocated once.
#[derive(Debug)]
pub struct ReadBuffer {
    raw: &'static mut [MaybeUninit<u8>],
    /// One name: a few hundred bytes, as long as the file system has them.
    name: Vec<u8>,
}

impl ReadBuffer {
    /// Those of `count` workers, for the life of the process, in one allocation.
    pub fn for_workers(count: usize) -> impl Iterator<Item = ReadBuffer> {
        let all: &'static mut [MaybeUninit<u8>] = Box::leak(Box::new_uninit_slice(count * READ_BUFFER));
        all.chunks_exact_mut(READ_BUFFER).map(|raw| ReadBuffer { raw, name: Vec::new() })
    }

    /// One of its own, for the life of the process.
    #[must_use]
    pub fn new() -> Self {
        Self { raw: Box::leak(Box::new_uninit_slice(READ_BUFFER)), name: Vec::new() }
    }
}

impl Default for ReadBuffer {
    fn default() -> Self {
        Self::new()
    }
}

/// A folder, open for reading. Holds one descriptor.
#[derive(Debug)]
pub struct Folder {
    descriptor: OwnedFd,
}

impl Folder {
    pub(super) fn new(descriptor: OwnedFd) -> Self {
        Self { descriptor }
    }

    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }

    /// The names in this folder now, from the first one on, in the order of the file system. A second call
    /// starts again, and spoils what an earlier one still had to give.
    ///
    /// # Errors
    /// Those of lseek(2).
    pub fn entries<'a>(&'a self, buffer: &'a mut ReadBuffer) -> Result<Entries<'a>, VfsError> {
        // The first time as well: Btrfs gives what was there when the folder was opened, or was last sought in.
        seek(&self.descriptor, SeekFrom::Start(0))?;
        Ok(Entries {
            raw: RawDir::new(self.descriptor.as_fd(), buffer.raw),
            name: &mut buffer.name,
            put_back: false,
            ended: false,
        })
    }

    /// Status of one name in this folder, or of the folder itself for `.`. A link is not followed.
    ///
    /// # Errors
    /// [`VfsError::Missing`] for `..` and for what is not a single name, and those of the file system.
    pub fn status(&self, name: &[u8]) -> Result<Status, VfsError> {
        Ok(Status::of_name(self.descriptor.as_fd(), single(name)?)?)
    }

    /// The text of a link, which may be anything: nothing in it has been checked. It fits a buffer of
    /// [`PATH_MAX`](crate::limits::PATH_MAX) bytes.
    ///
    /// # Errors
    /// [`VfsError::Missing`] if the name is not, or no longer, that of a link,
    /// [`VfsError::NameTooLong`] if the text may not have fitted, and those of the file system.
    pub fn read_link<'a>(&self, name: &[u8], buffer: &'a mut [u8]) -> Result<&'a [u8], VfsError> {
        let length = match readlinkat_raw(&self.descriptor, single(name)?, &mut *buffer) {
            Err(Errno::INVAL) => return Err(VfsError::Missing),
            outcome => outcome?,
        };
        if length >= buffer.len() {
            return Err(VfsError::NameTooLong);
        }
        buffer.get(..length).ok_or(VfsError::NameTooLong)
    }
}

/// Lets through what cannot lead out of a folder, and is not hidden.
pub(super) fn single(name: &[u8]) -> Result<&[u8], VfsError> {
    let leads_out = matches!(name, b"" | b"..") || name.contains(&b'/') || name.contains(&0);
    if leads_out || is_temporary(name) {
        return Err(VfsError::Missing);
    }
    Ok(name)
}

/// The names in a folder, without `.`, `..` and those of temporary files. Not an [`Iterator`], because every name lies in the
/// same buffer.
pub struct Entries<'a> {
    raw: RawDir<'a, BorrowedFd<'a>>,
    name: &'a mut Vec<u8>,
    put_back: bool,
    ended: bool,
}

impl Entries<'_> {
    /// The next name, or `None` after the last one. A name that came or went since the first may be
    /// given or not; every other one is given once.
    ///
    /// # Errors
    /// Those of getdents64(2); after one there are no more names.
    pub fn next_name(&mut self) -> Result<Option<&[u8]>, VfsError> {
        if std::mem::take(&mut self.put_back) {
            return Ok(Some(self.name));
        }
        while !self.ended {
            match self.raw.next() {
                Some(Ok(entry)) => match entry.file_name().to_bytes() {
                    b"." | b".." => {}
                    name if is_temporary(name) => {}
                    name => {
                        self.name.clear();
                        self.name.extend_from_slice(name);
                        return Ok(Some(self.name));
                    }
                },
                // The folder itself was deleted.
                None | Some(Err(Errno::NOENT)) => self.ended = true,
                Some(Err(Errno::INTR)) => {}
                Some(Err(errno)) => {
                    self.ended = true;
                    return Err(errno.into());
                }
            }
        }
        Ok(None)
    }

    /// The name that came last comes next again. To be called at most once for each name.
    pub fn put_back(&mut self) {
        self.put_back = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::listing::Kind;
    use crate::vfs::tests::{at, roots};
    use std::collections::BTreeSet;
    use std::ffi::OsStr;
    use std::fs;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    fn open(path: &Path) -> Folder {
        roots(path)[0].open_folder(&at(b"/")).unwrap()
    }

    fn all(folder: &Folder, buffer: &mut ReadBuffer) -> Vec<Vec<u8>> {
        let mut entries = folder.entries(buffer).unwrap();
        let mut names = Vec::new();
        while let Some(name) = entries.next_name().unwrap() {
            names.push(name.to_vec());
        }
        names
    }

    #[test]
    fn names_are_given_as_they_are_and_twice_if_asked() {
        let served = tempfile::tempdir().unwrap();
        let odd: [&[u8]; 5] = [b"new\nline", b"\xff\xfe", &[b'x'; 255], b"...", b".hidden"];
        for name in odd {
            fs::write(served.path().join(OsStr::from_bytes(name)), "").unwrap();
        }
        let folder = open(served.path());
        let mut buffer = ReadBuffer::new();
        let first = all(&folder, &mut buffer);
        let mut sorted = first.clone();
        sorted.sort();
        let mut expected = odd.map(<[u8]>::to_vec);
        expected.sort();
        assert_eq!(sorted, expected);
        assert_eq!(all(&folder, &mut buffer), first);
    }

    #[test]
    fn the_first_reading_begins_at_the_start_as_it_is_then() {
        let served = tempfile::tempdir().unwrap();
        fs::write(served.path().join("file"), "").unwrap();
        let folder = open(served.path());
        // Where the descriptor is, or has been, does not count.
        seek(&folder.descriptor, SeekFrom::End(0)).unwrap();
        assert_eq!(all(&folder, &mut ReadBuffer::new()), [b"file"]);
    }

    #[test]
    fn a_folder_that_changes_is_still_listed() {
        let served = tempfile::tempdir().unwrap();
        let name = |number: usize| format!("some-file-with-a-name-{number:04}");
        for number in 0..2_000 {
            fs::write(served.path().join(name(number)), "").unwrap();
        }
        let folder = open(served.path());
        let mut buffer = ReadBuffer::new();
        let mut entries = folder.entries(&mut buffer).unwrap();
        let mut seen = BTreeSet::new();
        let mut given = 0;
        while let Some(found) = entries.next_name().unwrap() {
            // Odd numbers go and others come while the folder is read.
            if given < 1_000 {
                let _ = fs::remove_file(served.path().join(name(given * 2 + 1)));
                fs::write(served.path().join(format!("new-{given}")), "").unwrap();
            }
            given += 1;
            if !found.starts_with(b"new-") {
                assert!(seen.insert(found.to_vec()), "given twice");
            }
        }
        let stayed = (0..2_000).step_by(2).map(|number| name(number).into_bytes());
        assert!(stayed.into_iter().all(|name| seen.contains(&name)));
    }

    #[test]
    fn a_deleted_folder_is_empty() {
        let outer = tempfile::tempdir().unwrap();
        let gone = outer.path().join("gone");
        fs::create_dir(&gone).unwrap();
        let folder = open(&gone);
        fs::remove_dir(&gone).unwrap();
        assert!(all(&folder, &mut ReadBuffer::new()).is_empty());
    }

    #[test]
    fn a_name_has_a_status_and_a_link_a_text() {
        let served = tempfile::tempdir().unwrap();
        fs::write(served.path().join("file"), "content").unwrap();
        symlink("../../etc/passwd", served.path().join("link")).unwrap();
        let folder = open(served.path());
        let file = folder.status(b"file").unwrap();
        assert_eq!((file.kind, file.size), (Kind::File, 7));
        assert_eq!(folder.status(b"link").unwrap().kind, Kind::Link);
        assert_eq!(folder.status(b".").unwrap().kind, Kind::Folder);
        let mut buffer = [0; 64];
        assert_eq!(folder.read_link(b"link", &mut buffer), Ok(&b"../../etc/passwd"[..]));
        assert_eq!(folder.read_link(b"link", &mut [0; 16]), Err(VfsError::NameTooLong));
        assert_eq!(folder.read_link(b"file", &mut buffer), Err(VfsError::Missing));
    }

    #[test]
    fn only_single_names_are_taken() {
        let served = tempfile::tempdir().unwrap();
        let folder = open(served.path());
        for name in [&b".."[..], b"", b"../x", b"./..", b"/etc", b"a\0"] {
            assert_eq!(folder.status(name), Err(VfsError::Missing), "{name:?}");
            let text = folder.read_link(name, &mut [0; 8]).err();
            assert_eq!(text, Some(VfsError::Missing), "{name:?}");
        }
    }
}
