//! A file that is changed where it lies: APPE, and STOR after REST (RFC 959 §4.1.3, RFC 3659 §5).
//!
//! One writer at a time, by a lock on the file that other servers see, too. Follows links inside the root as
//! reading does, and opens nothing but regular files. Never replaces a file: what was written stays. A file
//! that was made for an upload of which nothing came goes with it.

use super::place::{CHANGE_TRIES, Place, leads_to_temporary, lock, set_own_mode};
use super::stake::{Left, Stake};
use super::{Kind, Offset, Root, Status, VfsError};
use crate::proto::pathname::VirtualPath;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags, ftruncate, openat};
use rustix::io::Errno;

/// The file, open for writing and locked.
#[derive(Debug)]
pub(super) struct InPlace {
    /// Until the upload has ended. Dropped before the file, so that its inode is not given to another.
    stake: Option<Stake>,
    file: OwnedFd,
    /// Whether it ends with the last byte written.
    cut: bool,
    /// Where it is, if it has been made for this.
    made_in: Option<Place>,
    /// Whether the upload was whole.
    finished: bool,
}

impl Root {
    /// The file and its length; it is made if it is missing and the first byte is the next.
    pub(super) fn open_in_place(&self, path: &VirtualPath, at: Offset, mode: Mode) -> Result<(InPlace, u64), VfsError> {
        if path.is_root() {
            return Err(VfsError::IsFolder);
        }
        if leads_to_temporary(path.as_bytes()) {
            return Err(VfsError::BadName);
        }
        let make = matches!(at, Offset::Append | Offset::At(0));
        for _ in 0..CHANGE_TRIES {
            let opened = match self.open_confined(path.relative(), flags(at)) {
                Ok(file) => Some((file, None)),
                Err(Errno::NOENT) if make => {
                    let place = self.place_to_sync(path)?;
                    make_file(&place, at, mode)?.map(|file| (file, Some(place)))
                }
                Err(errno) => return Err(errno.into()),
            };
            let Some((file, made_in)) = opened else { continue };
            if let Some((length, stake)) = take(file.as_fd())? {
                let cut = at != Offset::Append;
                return Ok((InPlace { file, cut, made_in, finished: false, stake: Some(stake) }, length));
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
            if let Err(errno) = set_own_mode(file.as_fd(), mode) {
                let _ = Status::of(file.as_fd()).map(|made| place.remove(Some(&made)));
                return Err(errno.into());
            }
            Ok(Some(file))
        }
        // A link that leads nowhere is not followed to make a file at its end.
        Err(Errno::EXIST) if place.status()?.is_some_and(|found| found.kind == Kind::Link) => Err(VfsError::Missing),
        Err(Errno::EXIST) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Locks the file and tells its length; `None` if it was removed or replaced before it was locked.
fn take(file: BorrowedFd<'_>) -> Result<Option<(u64, Stake)>, VfsError> {
    match Status::of(file)?.kind {
        Kind::File => {}
        Kind::Folder => return Err(VfsError::IsFolder),
        Kind::Link | Kind::Other => return Err(VfsError::NotAFile),
    }
    if !lock(file)? {
        return Err(VfsError::InUse);
    }
    if Status::of(file)?.links == 0 {
        return Ok(None);
    }
    let Some(stake) = Stake::of(file) else { return Ok(None) };
    // Whoever has taken its last name before that knew of nobody else, and has counted it.
    let now = Status::of(file)?;
    if now.links == 0 {
        return Ok(None);
    }
    stake.begin(now.size);
    Ok(Some((now.size, stake)))
}

impl InPlace {
    /// Cuts off what lies behind `end`, if that is asked for; returns how many bytes that were.
    pub(super) fn finish(&mut self, end: u64, length: u64) -> Result<u64, VfsError> {
        // Nobody could ever read what was acknowledged.
        if Status::of(self.as_fd())?.links == 0 {
            return Err(VfsError::Missing);
        }
        self.finished = true;
        if !self.cut || end >= length {
            return Ok(0);
        }
        ftruncate(&self.file, end)?;
        Ok(length - end)
    }

    /// The upload has ended.
    pub(super) fn end(&mut self) -> Left {
        self.stake.take().map_or(Left::Named, |stake| stake.end(self.file.as_fd()))
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    pub(super) fn sync_folder(&self) -> Result<(), Errno> {
        self.made_in.as_ref().map_or(Ok(()), |place| place.sync(self.as_fd()))
    }
}

impl Drop for InPlace {
    fn drop(&mut self) {
        let Some(place) = self.made_in.as_ref().filter(|_| !self.finished) else { return };
        // It is still locked, so nobody else has begun to write to it.
        if let Some(empty) = Status::of(self.as_fd()).ok().filter(|found| found.size == 0) {
            // One that has another name by now is not looked for.
            let _ = place.remove(Some(&empty));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfs::tests::{SYNC_FAILS, at, names, writing_roots};
    use crate::vfs::{Existing, Usage};
    use rustix::fs::{CWD, FileType, mknodat};
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};
    use std::os::unix::net::UnixListener;
    use std::path::Path;
    use std::sync::{Arc, mpsc};
    use std::time::Duration;

    fn refused(root: &Root, path: &str, at_byte: Offset) -> Option<VfsError> {
        root.change(&at(path.as_bytes()), at_byte, 0o644).err()
    }

    #[test]
    fn bytes_are_appended_and_a_missing_file_is_made() {
        let served = tempfile::tempdir().unwrap();
        let file = served.path().join("file");
        for root in writing_roots(served.path()) {
            for (parts, expected) in [(["one ", "two"], "one two"), (["", " three"], "one two three")] {
                let mut upload = root.change(&at(b"/file"), Offset::Append, 0o666).unwrap();
                for part in parts {
                    upload.write(part.as_bytes()).unwrap();
                }
                assert_eq!(upload.length(), expected.len() as u64);
                let committed = upload.commit(true).unwrap();
                assert_eq!((committed.path, committed.replaced), (at(b"/file"), 0));
                assert_eq!(fs::read_to_string(&file).unwrap(), expected);
            }
            assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o666);
            assert_eq!(names(served.path()), ["file"]);
            fs::remove_file(&file).unwrap();
        }
    }

    #[test]
    fn a_file_that_was_made_for_nothing_goes_again() {
        let served = tempfile::tempdir().unwrap();
        let (file, other) = (served.path().join("file"), served.path().join("other"));
        for root in writing_roots(served.path()) {
            let append = || root.change(&at(b"/file"), Offset::Append, 0o644).unwrap();
            drop(append());
            assert_eq!(append().keep(), Ok(None));
            assert_eq!(names(served.path()), [""; 0]);
            // What somebody else has put there meanwhile stays.
            let upload = append();
            fs::write(&other, "another").unwrap();
            fs::rename(&other, &file).unwrap();
            drop(upload);
            assert_eq!(names(served.path()), ["file"]);
            fs::remove_file(&file).unwrap();
            // So does one of which something came, one that was whole, and one that was there.
            let mut upload = append();
            upload.write(b"x").unwrap();
            drop(upload);
            assert_eq!(fs::read(&file).unwrap(), b"x");
            fs::remove_file(&file).unwrap();
            append().commit(true).unwrap();
            assert_eq!(fs::read(&file).unwrap(), b"");
            drop(append());
            assert_eq!(names(served.path()), ["file"]);
            fs::remove_file(&file).unwrap();
        }
    }

    #[test]
    fn a_file_ends_where_a_restarted_upload_ends_but_only_when_it_is_whole() {
        let served = tempfile::tempdir().unwrap();
        let file = served.path().join("file");
        for root in writing_roots(served.path()) {
            fs::write(&file, "0123456789").unwrap();
            let mut upload = root.change(&at(b"/file"), Offset::At(3), 0o644).unwrap();
            upload.write(b"abc").unwrap();
            assert_eq!(upload.length(), 10);
            drop(upload);
            assert_eq!(fs::read(&file).unwrap(), b"012abc6789");

            let mut upload = root.change(&at(b"/file"), Offset::At(4), 0o644).unwrap();
            upload.write(b"xy").unwrap();
            assert_eq!(upload.commit(true).unwrap().replaced, 4);
            assert_eq!(fs::read(&file).unwrap(), b"012axy");

            let mut upload = root.change(&at(b"/file"), Offset::At(6), 0o644).unwrap();
            upload.write(b"end").unwrap();
            assert_eq!(upload.commit(false).unwrap().replaced, 0);
            assert_eq!(fs::read(&file).unwrap(), b"012axyend");
            // Kept, it is no shorter than it was.
            let upload = root.change(&at(b"/file"), Offset::At(0), 0o644).unwrap();
            assert_eq!(upload.keep().unwrap().unwrap().replaced, 0);
            assert_eq!(fs::read(&file).unwrap(), b"012axyend");
        }
    }

    #[test]
    fn no_file_gets_a_hole() {
        let served = tempfile::tempdir().unwrap();
        fs::write(served.path().join("file"), "four").unwrap();
        for root in writing_roots(served.path()) {
            assert_eq!(refused(&root, "/file", Offset::At(5)), Some(VfsError::PastEnd));
            assert_eq!(refused(&root, "/file", Offset::At(u64::MAX)), Some(VfsError::PastEnd));
            assert_eq!(refused(&root, "/file", Offset::At(4)), None);
            assert_eq!(refused(&root, "/missing", Offset::At(1)), Some(VfsError::Missing));
            assert_eq!(names(served.path()), ["file"]);
        }
        assert_eq!(fs::read(served.path().join("file")).unwrap(), b"four");
    }

    #[test]
    fn only_regular_files_inside_the_root_are_written_to_and_nothing_blocks() {
        let outer = tempfile::tempdir().unwrap();
        let served = outer.path().join("served");
        fs::create_dir_all(served.join("folder")).unwrap();
        fs::write(outer.path().join("secret"), "outside").unwrap();
        fs::write(served.join("file"), "inside").unwrap();
        for (name, target) in [
            ("evil", outer.path().join("secret").as_path()),
            ("bad", Path::new("../secret")),
            ("dangling", Path::new("folder/new")),
            ("good", Path::new("/file")),
        ] {
            symlink(target, served.join(name)).unwrap();
        }
        let fifo = served.join("fifo");
        mknodat(CWD, &fifo, FileType::Fifo, Mode::from_raw_mode(0o666), 0).unwrap();
        let _socket = UnixListener::bind(served.join("socket")).unwrap();
        for (number, root) in writing_roots(&served).into_iter().enumerate() {
            let (sender, receiver) = mpsc::channel();
            let fifo = fifo.clone();
            std::thread::spawn(move || {
                let mut found = Vec::new();
                for path in
                    ["/evil", "/bad", "/dangling", "/fifo", "/socket", "/folder", "/", "/file/x", "/.plimsoll-1"]
                {
                    found.push(refused(&root, path, Offset::Append));
                }
                // With a reader it could be opened.
                let _reader = openat(CWD, &fifo, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()).unwrap();
                found.push(refused(&root, "/fifo", Offset::Append));
                root.change(&at(b"/good"), Offset::Append, 0o644).unwrap().write(b"!").unwrap();
                sender.send(found).unwrap();
            });
            let found = receiver.recv_timeout(Duration::from_secs(10)).expect("it blocked");
            let expected = [
                VfsError::Missing,
                VfsError::Missing,
                VfsError::Missing,
                VfsError::NotAFile,
                VfsError::NotAFile,
                VfsError::IsFolder,
                VfsError::IsFolder,
                VfsError::NotAFolder,
                VfsError::BadName,
                VfsError::NotAFile,
            ];
            assert_eq!(found, expected.map(Some));
            let expected = ["inside", &"!".repeat(number + 1)].concat();
            assert_eq!(fs::read_to_string(served.join("file")).unwrap(), expected);
        }
        assert_eq!(fs::read(outer.path().join("secret")).unwrap(), b"outside");
        assert_eq!(names(&served.join("folder")), [""; 0]);
        for root in writing_roots(Path::new("/dev")) {
            assert_eq!(refused(&root, "/null", Offset::Append), Some(VfsError::NotAFile));
        }
    }

    #[test]
    fn one_writer_at_a_time_changes_a_file_in_place() {
        let served = tempfile::tempdir().unwrap();
        for root in writing_roots(served.path()) {
            let mut first = root.change(&at(b"/file"), Offset::Append, 0o644).unwrap();
            first.write(b"first").unwrap();
            for offset in [Offset::Append, Offset::At(0)] {
                assert_eq!(refused(&root, "/file", offset), Some(VfsError::InUse));
            }
            first.commit(true).unwrap();
            let second = root.change(&at(b"/file"), Offset::At(0), 0o644).unwrap();
            assert_eq!(refused(&root, "/file", Offset::Append), Some(VfsError::InUse));
            drop(second);
            assert_eq!(refused(&root, "/file", Offset::Append), None);
            // A file that was just uploaded is nobody's any more.
            root.upload(&at(b"/file"), Existing::Replace, 0o644).unwrap().commit(true).unwrap();
            assert_eq!(refused(&root, "/file", Offset::Append), None);
        }
    }

    #[test]
    fn what_nobody_could_read_is_not_acknowledged() {
        let served = tempfile::tempdir().unwrap();
        for root in writing_roots(served.path()) {
            for replaced in [true, false] {
                fs::write(served.path().join("file"), "old").unwrap();
                let mut upload = root.change(&at(b"/file"), Offset::Append, 0o644).unwrap();
                upload.write(b" and lost").unwrap();
                if replaced {
                    let other = root.upload(&at(b"/file"), Existing::Replace, 0o644).unwrap();
                    other.commit(true).unwrap();
                } else {
                    root.remove_file(&at(b"/file")).unwrap();
                }
                assert_eq!(upload.commit(true), Err(VfsError::Missing));
            }
        }
    }

    #[test]
    fn a_file_that_goes_while_it_is_changed_is_free_when_that_ends() {
        type Remove = fn(&Root) -> u64;
        let ways: [Remove; 3] = [
            |root| root.remove_file(&at(b"/file")).unwrap(),
            |root| root.rename(&at(b"/other"), &at(b"/file"), true).unwrap(),
            |root| root.upload(&at(b"/file"), Existing::Replace, 0o644).unwrap().commit(false).unwrap().replaced,
        ];
        let served = tempfile::tempdir().unwrap();
        for root in writing_roots(served.path()) {
            for remove in ways {
                for commits in [true, false] {
                    fs::write(served.path().join("file"), "0123456789").unwrap();
                    fs::write(served.path().join("other"), "").unwrap();
                    let usage = Arc::new(Usage::new(10));
                    let mut upload = root.change(&at(b"/file"), Offset::Append, 0o644).unwrap();
                    upload.charge(usage.reserve(2, 100).unwrap());
                    upload.write(b"more").unwrap();
                    usage.freed(remove(&root));
                    assert_eq!(usage.used(), 4, "what is written meanwhile is still held");
                    upload.write(b"and more").unwrap();
                    if commits {
                        assert_eq!(upload.commit(true), Err(VfsError::Missing));
                    } else {
                        drop(upload);
                    }
                    assert_eq!(usage.used(), 0);
                }
            }
        }
    }

    /// However the end of the one and of the other fall together.
    #[test]
    fn a_file_that_is_removed_and_changed_at_the_same_time_is_counted_once() {
        let served = tempfile::tempdir().unwrap();
        for root in writing_roots(served.path()) {
            let usage = Arc::new(Usage::new(0));
            std::thread::scope(|scope| {
                for _ in 0..3 {
                    scope.spawn(|| {
                        for turn in 0..1_000 {
                            // What it began with may be gone, or another session be writing.
                            let Ok(mut upload) = root.change(&at(b"/file"), Offset::Append, 0o644) else { continue };
                            upload.charge(usage.reserve(0, u64::MAX).unwrap());
                            upload.write(&[b'x'; 5]).unwrap();
                            if turn % 2 == 0 {
                                let _ = upload.commit(false);
                            }
                        }
                    });
                    scope.spawn(|| {
                        for _ in 0..1_000 {
                            usage.freed(root.remove_file(&at(b"/file")).unwrap_or_default());
                        }
                    });
                }
            });
            usage.freed(root.remove_file(&at(b"/file")).unwrap_or_default());
            assert_eq!(usage.used(), 0, "{root:?}");
            assert_eq!(names(served.path()), [""; 0]);
        }
    }

    #[test]
    fn a_quota_is_charged_with_what_a_file_grows_by() {
        let served = tempfile::tempdir().unwrap();
        let file = served.path().join("file");
        for root in writing_roots(served.path()) {
            fs::write(&file, "0123456789").unwrap();
            let usage = Arc::new(Usage::new(10));
            let change = |offset| {
                let mut upload = root.change(&at(b"/file"), offset, 0o644).unwrap();
                upload.charge(usage.reserve(2, 15).unwrap());
                upload
            };
            // Dropped: what was written stays, and so does its charge.
            let mut upload = change(Offset::At(8));
            assert_eq!(upload.growth(2), 0);
            assert_eq!(upload.growth(3), 1);
            upload.write(b"abc").unwrap();
            assert_eq!(usage.used(), 12);
            drop(upload);
            assert_eq!(usage.used(), 11);
            // Cut: the bytes that are gone are free.
            let mut upload = change(Offset::At(2));
            upload.write(b"x").unwrap();
            assert_eq!(upload.commit(true).unwrap().replaced, 8);
            assert_eq!((usage.used(), fs::read(&file).unwrap().len()), (3, 3));
            // Cut, and then the disk fails: they are free all the same.
            fs::write(&file, "0123456789").unwrap();
            usage.freed(3);
            let _ = usage.reserve(10, 15).map(|all| all.spend(10, 0));
            let mut upload = change(Offset::At(2));
            upload.write(b"x").unwrap();
            SYNC_FAILS.set(true);
            let outcome = upload.commit(true);
            SYNC_FAILS.set(false);
            assert_eq!(outcome, Err(VfsError::Other(Errno::IO)));
            assert_eq!((usage.used(), fs::read(&file).unwrap().len()), (3, 3));
            // Past the limit nothing is written.
            let mut upload = change(Offset::Append);
            upload.write(&[b'y'; 12]).unwrap();
            assert_eq!(upload.write(b"z"), Err(VfsError::OverQuota));
            assert_eq!(upload.commit(true), Err(VfsError::OverQuota));
            assert_eq!((usage.used(), fs::read(&file).unwrap().len()), (15, 15));
        }
    }
}
