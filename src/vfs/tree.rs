//! Names that come, go and move, and what is told of them: DELE, RMD, MKD, RNFR and RNTO (RFC 959 §4.1.3),
//! MFMT, SITE CHMOD, and the space that is free.
//!
//! Never changes the content of a file, never takes a folder's name for something else, and sets no
//! setuid, setgid or sticky bit.

use super::place::{Aside, CHANGE_TRIES, Place, is_unknown, own_name, temporary_name, weight};
use super::{Kind, Root, Status, VfsError};
use crate::proto::pathname::VirtualPath;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, RenameFlags, Timespec, Timestamps, UTIME_OMIT, chmodat, fchmod, fstatvfs, linkat,
    mkdirat, openat, renameat, renameat_with, unlinkat, utimensat,
};
use rustix::io::Errno;

/// Room on a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Free {
    /// Bytes that this process may still fill.
    pub bytes: u64,
    /// Its size in bytes.
    pub total: u64,
    /// Files and folders that this process may still make.
    pub files: u64,
    /// How many there can be at all; 0 where the file system has no such number.
    pub total_files: u64,
}

impl Free {
    pub(super) fn around(descriptor: BorrowedFd<'_>) -> Result<Self, VfsError> {
        let found = fstatvfs(descriptor)?;
        let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
        Ok(Self {
            bytes: bytes(found.f_bavail),
            total: bytes(found.f_blocks),
            files: found.f_favail,
            total_files: found.f_files,
        })
    }
}

impl Root {
    /// Removes a file or a link, but not what the link leads to. Returns the bytes that this freed: none
    /// where the file has other names, and none where [`Root::counted`] has them counted already.
    ///
    /// # Errors
    /// [`VfsError::IsFolder`], and those of the file system.
    pub fn remove_file(&self, path: &VirtualPath) -> Result<u64, VfsError> {
        if path.is_root() {
            return Err(VfsError::IsFolder);
        }
        let place = self.place(path)?;
        self.counting(|| place.remove(None))
    }

    /// Makes a change that frees bytes, and tells who counts them.
    fn counting(&self, change: impl FnOnce() -> Result<u64, VfsError>) -> Result<u64, VfsError> {
        let Some(usage) = &self.usage else { return change() };
        let _changing = usage.changing();
        usage.freed(change()?);
        Ok(0)
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
        mkdirat(place.folder(), place.name(), mode).map_err(of_name)?;
        // The process has a mask of its own. Where that can't be made good, fewer bits are set than asked for.
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if let Ok(made) = openat(place.folder(), place.name(), flags, Mode::empty()) {
            let _ = set_bits(made.as_fd(), mode);
        }
        Ok(())
    }

    /// Moves a name. What has the new one is replaced only where `replace` says so, and never if either is a
    /// folder. Returns the bytes that this freed, as [`Root::remove_file`] does. A link is moved as a link.
    /// Where both are names of one file the old one is taken away.
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
        self.counting(|| rename(&from, &to, replace))
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
    /// [`VfsError::NotAFile`], [`VfsError::Denied`], also for the root itself; and those of the file system.
    pub fn set_mode(&self, path: &VirtualPath, mode: u32) -> Result<(), VfsError> {
        let mode = Mode::from_raw_mode(mode & 0o777);
        let found = self.settable(path)?;
        // Without its bits nobody could log in there, and the server would not start again. Whatever the name
        // that leads to it.
        if Status::of(found.as_fd())?.is_same(&Status::of(self.folder.as_fd())?) {
            return Err(VfsError::Denied);
        }
        if self.unnamed {
            return Ok(set_bits(found.as_fd(), mode)?);
        }
        // Without /proc it has to be opened, which asks for the right to read it.
        let opened = self.open_confined(path.relative(), OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
        let (found, same) = (Status::of(found.as_fd())?, Status::of(opened.as_fd())?);
        if !found.is_same(&same) {
            return Err(VfsError::Busy);
        }
        Ok(fchmod(&opened, with_kept(&same, mode))?)
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

/// What is wrong where a name was given: some file systems can't have each.
fn of_name(errno: Errno) -> VfsError {
    if errno == Errno::INVAL { VfsError::BadName } else { errno.into() }
}

/// Sets the permission bits of what a descriptor has open, O_PATH or not.
fn set_bits(descriptor: BorrowedFd<'_>, mode: Mode) -> Result<(), Errno> {
    let found = Status::of(descriptor)?;
    let mode = with_kept(&found, mode);
    if mode == Mode::from_raw_mode(found.mode) {
        return Ok(());
    }
    chmodat(CWD, own_name(descriptor), mode, AtFlags::empty())
}

/// The permission bits, with those that a folder keeps: whose group new files have, and who may remove them,
/// is the operator's.
fn with_kept(found: &Status, mode: Mode) -> Mode {
    let kept = if found.kind == Kind::Folder { found.mode & 0o7000 } else { 0 };
    mode | Mode::from_raw_mode(kept)
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

fn rename(from: &Place, to: &Place, replace: bool) -> Result<u64, VfsError> {
    for _ in 0..CHANGE_TRIES {
        match move_name(from, to) {
            Ok(()) => return Ok(0),
            Err(Errno::EXIST) if replace => {}
            Err(Errno::INVAL) if from.status()?.is_some_and(|found| found.kind == Kind::Folder) => {
                return Err(VfsError::IntoItself);
            }
            Err(errno) => return Err(of_name(errno)),
        }
        let moved = from.status()?.ok_or(VfsError::Missing)?;
        let Some(old) = to.status()? else { continue };
        let outcome = match (moved.kind, old.kind) {
            _ if moved.is_same(&old) => let_go(from, to, &moved),
            (Kind::Folder, _) => Err(VfsError::Exists),
            (_, Kind::Folder) => Err(VfsError::IsFolder),
            _ => put_over(from, to),
        };
        // One of them is gone by now: which, the next try will tell.
        if outcome != Err(VfsError::Missing) {
            return outcome;
        }
    }
    Err(VfsError::Busy)
}

/// Puts one file or link in the place of another. At no moment does nothing have the new name, and whenever
/// the server dies, what is moved has its old name, the new one, or both: then the same again ends it. No
/// system call replaces a name and tells what had it, which has to be known to be counted.
fn put_over(from: &Place, to: &Place) -> Result<u64, VfsError> {
    let hidden = temporary_name()?;
    if linkat(from.folder(), from.name(), to.folder(), &*hidden, AtFlags::empty()).is_err() {
        // The file system has no hard links, or the file is somebody else's (fs.protected_hardlinks).
        return put_over_and_guess(from, to);
    }
    let new = to.status_of(&hidden)?.ok_or(VfsError::Missing)?;
    let swap = || renameat_with(to.folder(), &*hidden, to.folder(), to.name(), RenameFlags::EXCHANGE);
    if let Err(errno) = swap() {
        to.unlink(&hidden, &new);
        return if is_unknown(errno) { put_over_and_guess(from, to) } else { Err(errno.into()) };
    }
    let old = to.status_of(&hidden)?;
    let removed = match old {
        // It was made a moment ago.
        Some(old) if old.kind == Kind::Folder => Err(VfsError::IsFolder),
        _ => from.remove(Some(&new)),
    };
    match removed {
        Ok(freed) => Ok(freed + old.map_or(0, |old| to.unlink(&hidden, &old))),
        // Another session has moved or removed it meanwhile: as if that had come first, or last.
        Err(VfsError::Missing) => Ok(old.map_or(0, |old| to.unlink(&hidden, &old))),
        Err(error) => {
            swap()?;
            to.unlink(&hidden, &new);
            Err(error)
        }
    }
}

/// Where that is impossible: what is freed is what had the name a moment before.
fn put_over_and_guess(from: &Place, to: &Place) -> Result<u64, VfsError> {
    let old = to.status()?.ok_or(VfsError::Missing)?;
    renameat(from.folder(), from.name(), to.folder(), to.name())?;
    Ok(weight(&old))
}

/// Takes the old name from a file that has the new one already, because a server has died before it did, or
/// because somebody has linked it. rename(2) would leave both.
fn let_go(from: &Place, to: &Place, moved: &Status) -> Result<u64, VfsError> {
    if from.name() == to.name() && Status::of(from.folder())?.is_same(&Status::of(to.folder())?) {
        return Ok(0);
    }
    let Aside::At(aside, taken) = from.set_aside(Some(moved))? else { return Ok(0) };
    // Where small and capital letters are the same the two may have been one name.
    if to.status()?.is_some_and(|found| found.is_same(&taken)) {
        return Ok(from.unlink(&aside, &taken));
    }
    Ok(from.put(&aside, from.name()).map(|()| 0)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfs::tests::{at, names, writing_roots};
    use rustix::fs::{FileType, mknodat};
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::path::{Path, PathBuf};
    use std::time::{Duration, UNIX_EPOCH};

    /// A served folder beside one that is not, with a file in each.
    fn tree() -> (tempfile::TempDir, PathBuf) {
        let outer = tempfile::tempdir().unwrap();
        let served = outer.path().join("served");
        fs::create_dir_all(served.join("folder")).unwrap();
        fs::create_dir(outer.path().join("outside")).unwrap();
        fs::write(outer.path().join("outside/file"), "outside!").unwrap();
        (outer, served)
    }

    fn bits(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn the_bits_of_the_root_are_not_for_clients_by_any_name() {
        let served = tempfile::tempdir().unwrap();
        fs::create_dir(served.path().join("sub")).unwrap();
        symlink("/", served.path().join("link")).unwrap();
        symlink("..", served.path().join("sub/up")).unwrap();
        let before = fs::metadata(served.path()).unwrap().mode();
        for root in writing_roots(served.path()) {
            for name in [b"/".as_slice(), b"/sub/..", b"/link", b"/sub/up", b"/link/link"] {
                assert_eq!(root.set_mode(&at(name), 0o000), Err(VfsError::Denied), "{name:?} {root:?}");
            }
            assert_eq!(fs::metadata(served.path()).unwrap().mode(), before);
            assert_eq!(root.set_mode(&at(b"/sub"), 0o700), Ok(()));
        }
    }

    #[test]
    fn a_file_that_is_removed_frees_its_bytes_unless_it_has_another_name() {
        let (_outer, served) = tree();
        for root in writing_roots(&served) {
            fs::write(served.join("folder/file"), "content").unwrap();
            fs::hard_link(served.join("folder/file"), served.join("other")).unwrap();
            symlink("/other", served.join("link")).unwrap();
            assert_eq!(root.remove_file(&at(b"/folder/file")), Ok(0));
            assert_eq!(root.remove_file(&at(b"/link")), Ok(0));
            assert_eq!(fs::read(served.join("other")).unwrap(), b"content");
            assert_eq!(root.remove_file(&at(b"/other")), Ok(7));
            assert_eq!(root.remove_file(&at(b"/other")), Err(VfsError::Missing));
            assert_eq!(root.remove_file(&at(b"/folder")), Err(VfsError::IsFolder));
            assert_eq!(root.remove_file(&at(b"/")), Err(VfsError::IsFolder));
            assert_eq!(names(&served), ["folder"]);
            assert_eq!(names(&served.join("folder")), [""; 0]);
        }
    }

    #[test]
    fn a_folder_is_removed_only_when_it_is_empty() {
        let (_outer, served) = tree();
        symlink("folder", served.join("link")).unwrap();
        fs::write(served.join("file"), "").unwrap();
        for root in writing_roots(&served) {
            root.make_folder(&at(b"/folder/new"), 0o755).unwrap();
            for (path, error) in [
                ("/folder", VfsError::NotEmpty),
                ("/link", VfsError::NotAFolder),
                ("/file", VfsError::NotAFolder),
                ("/missing", VfsError::Missing),
                ("/", VfsError::Denied),
            ] {
                assert_eq!(root.remove_folder(&at(path.as_bytes())), Err(error), "{path}");
            }
            assert_eq!(root.remove_folder(&at(b"/link/new")), Ok(()));
            assert_eq!(names(&served), ["file", "folder", "link"]);
            assert_eq!(names(&served.join("folder")), [""; 0]);
        }
    }

    #[test]
    fn a_folder_is_made_with_the_mode_that_was_asked_for() {
        let (_outer, served) = tree();
        symlink("nowhere", served.join("dangling")).unwrap();
        fs::write(served.join("file"), "").unwrap();
        for root in writing_roots(&served) {
            for mode in [0o777, 0o700, 0o6755] {
                root.make_folder(&at(b"/folder/new"), mode).unwrap();
                assert_eq!(bits(&served.join("folder/new")), mode & 0o777);
                fs::remove_dir(served.join("folder/new")).unwrap();
            }
            for (path, error) in [
                ("/folder", VfsError::Exists),
                ("/file", VfsError::Exists),
                ("/dangling", VfsError::Exists),
                ("/", VfsError::Exists),
                ("/missing/new", VfsError::Missing),
                ("/file/new", VfsError::NotAFolder),
                ("/.plimsoll-0", VfsError::BadName),
            ] {
                assert_eq!(root.make_folder(&at(path.as_bytes()), 0o755), Err(error), "{path}");
            }
            assert_eq!(names(&served), ["dangling", "file", "folder"]);
        }
    }

    #[test]
    fn a_folder_hands_on_its_group_whatever_mode_is_asked_for() {
        let (_outer, served) = tree();
        fs::set_permissions(served.join("folder"), fs::Permissions::from_mode(0o3777)).unwrap();
        for root in writing_roots(&served) {
            root.make_folder(&at(b"/folder/new"), 0o750).unwrap();
            assert_eq!(bits(&served.join("folder/new")), 0o2750);
            root.remove_folder(&at(b"/folder/new")).unwrap();
            root.set_mode(&at(b"/folder"), 0o4705).unwrap();
            assert_eq!(bits(&served.join("folder")), 0o3705);
        }
    }

    #[test]
    fn names_move_and_replace_only_where_they_may() {
        let (_outer, served) = tree();
        for root in writing_roots(&served) {
            fs::write(served.join("one"), "first").unwrap();
            fs::write(served.join("folder/two"), "second").unwrap();
            let (one, two) = (at(b"/one"), at(b"/folder/two"));
            assert_eq!(root.rename(&one, &two, false), Err(VfsError::Exists));
            assert_eq!(fs::read(served.join("folder/two")).unwrap(), b"second");
            assert_eq!(root.rename(&one, &two, true), Ok(6));
            assert_eq!(fs::read(served.join("folder/two")).unwrap(), b"first");
            assert_eq!(root.rename(&one, &two, true), Err(VfsError::Missing));
            assert_eq!(root.rename(&two, &at(b"/folder/three"), true), Ok(0));
            // Of a file with another name nothing is freed.
            fs::write(served.join("one"), "more").unwrap();
            fs::hard_link(served.join("one"), served.join("again")).unwrap();
            assert_eq!(root.rename(&at(b"/folder/three"), &one, true), Ok(0));
            assert_eq!(fs::read(served.join("again")).unwrap(), b"more");
            // Onto itself it stays; by another of its names it goes.
            fs::remove_file(served.join("again")).unwrap();
            fs::hard_link(served.join("one"), served.join("again")).unwrap();
            for to in [b"/one".as_slice(), b"/again"] {
                assert_eq!(root.rename(&one, &at(to), false), Err(VfsError::Exists));
                assert_eq!(root.rename(&one, &at(to), true), Ok(0));
            }
            assert_eq!(names(&served), ["again", "folder"]);
            assert_eq!(names(&served.join("folder")), [""; 0]);
            assert_eq!(root.remove_file(&at(b"/again")), Ok(5));
        }
    }

    #[test]
    fn a_folder_neither_replaces_nor_is_replaced_nor_moves_into_itself() {
        let (_outer, served) = tree();
        for name in ["folder/in/deep", "empty"] {
            fs::create_dir_all(served.join(name)).unwrap();
        }
        fs::write(served.join("file"), "content").unwrap();
        for root in writing_roots(&served) {
            for (from, to, error) in [
                ("/folder", "/empty", VfsError::Exists),
                ("/folder", "/file", VfsError::Exists),
                ("/file", "/empty", VfsError::IsFolder),
                ("/file", "/", VfsError::Exists),
                ("/folder", "/folder/in/deep/new", VfsError::IntoItself),
                ("/folder", "/folder/new", VfsError::IntoItself),
                ("/folder/in", "/folder", VfsError::Exists),
                ("/", "/new", VfsError::Denied),
                ("/missing", "/new", VfsError::Missing),
                ("/file", "/missing/new", VfsError::Missing),
                ("/file", "/.plimsoll-0", VfsError::BadName),
                ("/.plimsoll-0", "/new", VfsError::BadName),
            ] {
                let outcome = root.rename(&at(from.as_bytes()), &at(to.as_bytes()), true);
                assert_eq!(outcome, Err(error), "{from} {to}");
            }
            root.rename(&at(b"/folder"), &at(b"/empty/moved"), true).unwrap();
            assert!(served.join("empty/moved/in/deep").is_dir());
            root.rename(&at(b"/empty/moved"), &at(b"/folder"), false).unwrap();
            assert_eq!(names(&served), ["empty", "file", "folder"]);
        }
    }

    #[test]
    fn a_link_moves_and_is_replaced_as_a_link() {
        let (_outer, served) = tree();
        for root in writing_roots(&served) {
            fs::write(served.join("target"), "target").unwrap();
            symlink("target", served.join("link")).unwrap();
            fs::write(served.join("file"), "file").unwrap();
            root.rename(&at(b"/link"), &at(b"/folder/link"), false).unwrap();
            assert_eq!(fs::read_link(served.join("folder/link")).unwrap(), Path::new("target"));
            assert_eq!(root.rename(&at(b"/file"), &at(b"/folder/link"), true), Ok(0));
            assert_eq!(fs::read(served.join("folder/link")).unwrap(), b"file");
            assert_eq!(fs::read(served.join("target")).unwrap(), b"target");
            assert_eq!(root.remove_file(&at(b"/folder/link")), Ok(4));
        }
    }

    #[test]
    fn what_another_session_has_put_there_meanwhile_is_not_removed() {
        let (_outer, served) = tree();
        for root in writing_roots(&served) {
            for (name, content) in [("from", "moved"), ("to", "old"), ("another", "new")] {
                fs::write(served.join(name), content).unwrap();
            }
            let from = root.place(&at(b"/from")).unwrap();
            let moved = from.status().unwrap().unwrap();
            fs::rename(served.join("another"), served.join("from")).unwrap();
            assert_eq!(from.remove(Some(&moved)), Err(VfsError::Missing));
            assert_eq!(fs::read(served.join("from")).unwrap(), b"new");
            assert_eq!(names(&served), ["folder", "from", "to"]);
        }
    }

    /// Wherever a server dies while it moves a file over another, the new one is not lost, and the same again
    /// ends what it has begun.
    #[test]
    fn a_move_that_was_cut_short_is_ended_by_the_same_again() {
        let (_outer, served) = tree();
        let (from, to) = (at(b"/from"), at(b"/folder/to"));
        for root in writing_roots(&served) {
            for linked in [false, true] {
                fs::write(served.join("from"), "new one").unwrap();
                if linked {
                    // As it is after the exchange.
                    fs::write(served.join("folder/.plimsoll-0"), "old").unwrap();
                    fs::hard_link(served.join("from"), served.join("folder/to")).unwrap();
                } else {
                    // As it is before it.
                    fs::write(served.join("folder/to"), "old").unwrap();
                    fs::hard_link(served.join("from"), served.join("folder/.plimsoll-0")).unwrap();
                }
                assert_eq!(root.sweep().unwrap().files, 1);
                assert_eq!(root.rename(&from, &to, true), Ok(if linked { 0 } else { 3 }));
                assert_eq!(fs::read(served.join("folder/to")).unwrap(), b"new one");
                assert_eq!(names(&served), ["folder"]);
                assert_eq!(names(&served.join("folder")), ["to"]);
                fs::remove_file(served.join("folder/to")).unwrap();
            }
        }
    }

    /// What is at the two names is watched all the time: the source is never the old file.
    #[test]
    fn the_old_file_is_never_seen_under_the_name_of_the_new_one() {
        let (_outer, served) = tree();
        let (from, to) = (at(b"/from"), at(b"/to"));
        for root in writing_roots(&served) {
            let done = std::sync::atomic::AtomicBool::new(false);
            fs::write(served.join("to"), "old").unwrap();
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    while !done.load(std::sync::atomic::Ordering::Relaxed) {
                        let old = fs::read(served.join("from")).is_ok_and(|content| content == b"old");
                        let there = served.join("to").exists();
                        if old || !there {
                            done.store(true, std::sync::atomic::Ordering::Relaxed);
                            panic!("old {old}, there {there}");
                        }
                    }
                });
                for _ in 0..2_000 {
                    if done.load(std::sync::atomic::Ordering::Relaxed) {
                        break;
                    }
                    fs::write(served.join(".new"), "new").unwrap();
                    fs::rename(served.join(".new"), served.join("from")).unwrap();
                    assert_eq!(root.rename(&from, &to, true), Ok(3));
                    fs::write(served.join(".old"), "old").unwrap();
                    fs::rename(served.join(".old"), served.join("to")).unwrap();
                }
                done.store(true, std::sync::atomic::Ordering::Relaxed);
            });
            assert_eq!(names(&served), ["folder", "to"]);
        }
    }

    #[test]
    fn nothing_moves_to_another_file_system() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir_in("/dev/shm").unwrap());
        let device = |folder: &tempfile::TempDir| fs::metadata(folder.path()).unwrap().dev();
        if device(&here) == device(&there) {
            assert!(std::env::var("PLIMSOLL_REQUIRE_TOOLS").as_deref() != Ok("1"), "there is one file system only");
            return eprintln!("skipped: the temporary folder and /dev/shm are one file system");
        }
        fs::write(here.path().join("file"), "content").unwrap();
        let path = |folder: &tempfile::TempDir| at(folder.path().join("file").to_str().unwrap().as_bytes());
        for root in writing_roots(Path::new("/")) {
            assert_eq!(root.rename(&path(&here), &path(&there), true), Err(VfsError::CrossDevice));
            assert_eq!(names(here.path()), ["file"]);
            assert_eq!(names(there.path()), [""; 0]);
        }
    }

    #[test]
    fn times_and_modes_are_set_inside_the_root_only() {
        let (outer, served) = tree();
        let outside = outer.path().join("outside/file");
        symlink("/folder/file", served.join("good")).unwrap();
        symlink(&outside, served.join("evil")).unwrap();
        symlink("../outside/file", served.join("bad")).unwrap();
        mknodat(CWD, served.join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        fs::set_permissions(&outside, fs::Permissions::from_mode(0o640)).unwrap();
        let before = fs::metadata(&outside).unwrap().modified().unwrap();
        let file = served.join("folder/file");
        fs::write(&file, "content").unwrap();
        for root in writing_roots(&served) {
            for (path, seconds, mode) in [("/folder/file", 86_400, 0o7604), ("/good", 1_000_000_000, 0o400)] {
                root.set_modified(&at(path.as_bytes()), seconds).unwrap();
                root.set_mode(&at(path.as_bytes()), mode).unwrap();
                let found = fs::metadata(&file).unwrap();
                assert_eq!((found.mtime(), found.mtime_nsec()), (seconds, 0));
                assert_eq!(found.mode() & 0o7777, mode & 0o777);
            }
            root.set_modified(&at(b"/folder"), -1).unwrap();
            let found = fs::metadata(served.join("folder")).unwrap().modified().unwrap();
            assert_eq!(found, UNIX_EPOCH - Duration::from_secs(1));
            for (path, error) in [
                ("/evil", VfsError::Missing),
                ("/bad", VfsError::Missing),
                ("/fifo", VfsError::NotAFile),
                ("/missing", VfsError::Missing),
            ] {
                assert_eq!(root.set_mode(&at(path.as_bytes()), 0o777), Err(error), "{path}");
                assert_eq!(root.set_modified(&at(path.as_bytes()), 5), Err(error), "{path}");
            }
        }
        assert_eq!(bits(&outside), 0o640);
        assert_eq!(fs::metadata(&outside).unwrap().modified().unwrap(), before);
    }

    #[test]
    fn what_is_free_is_told_in_bytes() {
        let (_outer, served) = tree();
        for root in writing_roots(&served) {
            let free = root.free(&at(b"/folder")).unwrap();
            assert!(free.bytes > 0 && free.bytes <= free.total, "{free:?}");
            let upload = root.upload(&at(b"/folder/file"), crate::vfs::Existing::Refuse, 0o644).unwrap();
            assert_eq!(upload.free().unwrap().total, free.total);
        }
    }
}
