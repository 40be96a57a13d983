//! One upload: bytes that become a file at once or not at all, or that change one in place.
//!
//! A new file is written under no name or a hidden one, and gets its own when it is whole: [`Upload::commit`]
//! syncs the file, puts it in the place of what has the name, and syncs the folder. Until then the old file
//! is what everybody sees, and whatever ends the upload leaves it as it was. How bytes are written in place
//! is in [`change`](super::change).
//!
//! A sync that has failed is never tried again: the kernel has then dropped what it could not write, and
//! would say that all is well. Never commits what it could not write in full.

use super::change::InPlace;
use super::naming::{allowed, ended, not_replacing, settle};
use super::owner::{Owner, give_away};
use super::place::{set_own_mode, sync_file};
use super::stake::Left;
use super::temporary::Temporary;
use super::{Existing, Free, Reservation, Root, VfsError};
use crate::proto::pathname::VirtualPath;
use rustix::fd::BorrowedFd;
use rustix::fs::{Gid, Mode, Uid};
use rustix::io::{Errno, pwrite};

/// What an upload has become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The file's name, as it was chosen in the end.
    pub path: VirtualPath,
    /// Bytes that were freed: of the file that was replaced, or those cut off. Already counted where the
    /// upload was charged to a [`Reservation`].
    pub replaced: u64,
}

/// An upload on its way. Dropped without a commit, a new file is gone, and one that was changed in place
/// stays as it is then, unless it was made for this upload and nothing came.
#[derive(Debug)]
pub struct Upload {
    target: Target,
    path: VirtualPath,
    /// Where the next byte goes.
    position: u64,
    /// Length of the file now.
    length: u64,
    /// Length at the start: nothing, or that of the file that is changed.
    began: u64,
    charge: Option<Reservation>,
    failed: Option<VfsError>,
    completed: bool,
}

/// What is written to.
#[derive(Debug)]
enum Target {
    New { temporary: Temporary, existing: Existing, mode: Mode, owner: Option<Owner> },
    InPlace(InPlace),
}

impl Root {
    /// Begins a new file, which will have `path` as its name once it is committed. `mode` are its permission
    /// bits, of which those below 0o1000 count; a file that is replaced hands on its own.
    ///
    /// # Errors
    /// [`VfsError::IsFolder`], [`VfsError::NotAFile`] or [`VfsError::Exists`] for what has the name,
    /// [`VfsError::BadName`], and those of the file system.
    pub fn upload(&self, path: &VirtualPath, existing: Existing, mode: u32) -> Result<Upload, VfsError> {
        if path.is_root() {
            return Err(VfsError::IsFolder);
        }
        let place = self.place_to_sync(path)?;
        let mode = allowed(&place, existing, Mode::from_raw_mode(mode & 0o777))?;
        let temporary = Temporary::new(place, self.unnamed)?;
        Ok(Upload::begin(Target::New { temporary, existing, mode, owner: None }, path, 0, 0))
    }

    /// Begins to change a file in place: links are followed, inside the root. See [`Upload::commit`] for what
    /// becomes of its end.
    ///
    /// # Errors
    /// [`VfsError::PastEnd`], [`VfsError::InUse`] if another session is writing to it, [`VfsError::BadName`],
    /// and those of opening a file.
    pub fn change(&self, path: &VirtualPath, at: Offset, mode: u32) -> Result<Upload, VfsError> {
        let (file, length) = self.open_in_place(path, at, Mode::from_raw_mode(mode & 0o777))?;
        let position = match at {
            Offset::Append => length,
            Offset::At(position) if position <= length => position,
            Offset::At(_) => return Err(VfsError::PastEnd),
        };
        Ok(Upload::begin(Target::InPlace(file), path, position, length))
    }
}

/// Where bytes go in a file that is changed in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offset {
    /// Behind its last byte; a file that is missing is made.
    Append,
    /// At this byte, counted from 0. Only for 0 a file that is missing is made.
    At(u64),
}

impl Upload {
    fn begin(target: Target, path: &VirtualPath, position: u64, length: u64) -> Self {
        Self {
            target,
            path: path.clone(),
            position,
            length,
            began: length,
            charge: None,
            failed: None,
            completed: false,
        }
    }

    /// Every byte by which the file grows is taken from `reservation`, which grows as well when it is used up,
    /// before it is written; the upload gives back what does not stay. To be called before the first byte is
    /// written.
    pub fn charge(&mut self, reservation: Reservation) {
        self.charge = Some(reservation);
    }

    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// [`VfsError::OverQuota`], [`VfsError::NoSpace`] and the others of writing. After one there is no more
    /// writing, and nothing can be committed.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), VfsError> {
        self.check()?;
        let outcome = self.reserve(bytes).and_then(|()| Ok(self.write_all(bytes)?));
        self.failed = outcome.err();
        outcome
    }

    /// All has been written: a new file has its mode now, and with `durable` it is on the disk when this returns,
    /// though without its name.
    ///
    /// # Errors
    /// That of the write that failed, or of the sync; nothing can be committed then.
    pub fn complete(&mut self, durable: bool) -> Result<(), VfsError> {
        self.check()?;
        let Target::New { temporary, mode, .. } = &self.target else { return Ok(()) };
        set_own_mode(temporary.file(), *mode)?;
        let outcome = if durable { sync_file(temporary.file()) } else { Ok(()) };
        self.failed = outcome.err().map(VfsError::from);
        self.completed = true;
        self.check()
    }

    /// Bytes that the file has now.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Bytes by which the file would grow if this many were written.
    #[must_use]
    pub fn growth(&self, bytes: u64) -> u64 {
        self.position.saturating_add(bytes).saturating_sub(self.length)
    }

    /// Whether a file is changed in place, so that what was written stays without a commit, too.
    #[must_use]
    pub fn in_place(&self) -> bool {
        matches!(self.target, Target::InPlace(_))
    }

    /// The name that the file was asked to have; [`Committed`] tells which one it has got.
    #[must_use]
    pub fn path(&self) -> &VirtualPath {
        &self.path
    }

    /// What is free on the file system that holds the file.
    ///
    /// # Errors
    /// Those of fstatvfs(2).
    pub fn free(&self) -> Result<Free, VfsError> {
        Free::around(self.file())
    }

    /// Once it has its name the file is given to another user or group, by their numbers, where one is given.
    ///
    /// # Errors
    /// [`VfsError::Denied`] for a file that is there already, or may be replaced: it has an owner.
    pub fn set_owner(&mut self, user: Option<u32>, group: Option<u32>) -> Result<(), VfsError> {
        match &mut self.target {
            Target::New { existing: Existing::Replace, .. } | Target::InPlace(_) => Err(VfsError::Denied),
            Target::New { owner, .. } => {
                *owner = Some((user.map(Uid::from_raw), group.map(Gid::from_raw)));
                Ok(())
            }
        }
    }

    /// The upload is whole, and [complete](Upload::complete) at the latest now: it gets its name, and what had it
    /// is gone. A file that was written from an offset on ends with the last byte written. With `durable` all of it is on the disk when this returns.
    ///
    /// # Errors
    /// That of the write that failed; [`VfsError::Exists`] or [`VfsError::IsFolder`] for what has got the
    /// name meanwhile; [`VfsError::Missing`] if the folder, or the file that was changed, was removed; and
    /// those of the file system. The old file is then as it was, unless it was the last sync that failed.
    pub fn commit(mut self, durable: bool) -> Result<Committed, VfsError> {
        self.check()?;
        if !self.completed {
            self.complete(durable)?;
        }
        let _changing = self.charge.as_ref().map(Reservation::changing);
        let replaced = match &mut self.target {
            Target::New { temporary, existing, owner, .. } => {
                let (path, replaced) = settle(temporary, *existing, &self.path)?;
                give_away(temporary, *owner, &path)?;
                self.path = path;
                replaced
            }
            Target::InPlace(file) => {
                let cut = file.finish(self.position, self.length)?;
                self.length -= cut;
                cut
            }
        };
        // What is gone is gone, even if a sync fails now.
        self.settle_charge(replaced);
        if durable {
            self.sync_rest()?;
        }
        Ok(Committed { path: self.path.clone(), replaced })
    }

    /// The upload was broken off: what there is of it is kept, under its name if nothing has that, else as
    /// `NAME.partial`, `NAME.partial.1` and so on, unless nothing at all was written. No file is replaced, and
    /// nothing is made durable.
    ///
    /// # Errors
    /// Those of [`Upload::commit`].
    pub fn keep(mut self) -> Result<Option<Committed>, VfsError> {
        let path = self.path.clone();
        if self.length == 0 {
            return Ok(None);
        }
        let _changing = self.charge.as_ref().map(Reservation::changing);
        let Target::New { temporary, existing, mode, owner } = &mut self.target else {
            return Ok(Some(Committed { path, replaced: 0 }));
        };
        set_own_mode(temporary.file(), *mode)?;
        let kept = match settle(temporary, not_replacing(*existing), &path) {
            Err(VfsError::Exists) if *existing == Existing::Replace => {
                let partial = ended(&path, b".partial")?;
                temporary.aim_at(partial.file_name().unwrap_or_default());
                settle(temporary, Existing::Rename, &partial)
            }
            outcome => outcome,
        };
        let (path, replaced) = kept?;
        give_away(temporary, *owner, &path)?;
        self.settle_charge(replaced);
        Ok(Some(Committed { path, replaced }))
    }

    fn file(&self) -> BorrowedFd<'_> {
        match &self.target {
            Target::New { temporary, .. } => temporary.file(),
            Target::InPlace(file) => file.as_fd(),
        }
    }

    fn check(&self) -> Result<(), VfsError> {
        self.failed.map_or(Ok(()), Err)
    }

    fn reserve(&mut self, bytes: &[u8]) -> Result<(), VfsError> {
        let grown = self.length.saturating_sub(self.began);
        let needed = grown.saturating_add(self.growth(bytes.len() as u64));
        let Some(charge) = &mut self.charge else { return Ok(()) };
        if !charge.grow(needed.saturating_sub(charge.held())) {
            return Err(VfsError::OverQuota);
        }
        self.charge.as_ref().map_or(Ok(()), |charge| charge.leaves_room(|| self.free()))
    }

    fn write_all(&mut self, mut bytes: &[u8]) -> Result<(), Errno> {
        while !bytes.is_empty() {
            let written = match pwrite(self.file(), bytes, self.position) {
                Ok(0) => return Err(Errno::NOSPC),
                Err(Errno::INTR) => continue,
                outcome => outcome?,
            };
            bytes = bytes.get(written..).unwrap_or_default();
            self.position += written as u64;
            self.length = self.length.max(self.position);
        }
        Ok(())
    }

    /// Makes durable what a file without a name did not have yet.
    fn sync_rest(&self) -> Result<(), Errno> {
        match &self.target {
            Target::New { temporary, owner, .. } => {
                if owner.is_some() {
                    sync_file(temporary.file())?;
                }
                temporary.place().sync(temporary.file())
            }
            Target::InPlace(file) => {
                sync_file(file.as_fd())?;
                file.sync_folder()
            }
        }
    }

    /// What the file has grown by stays in use, unless the file is gone: then nothing of it does, and what was
    /// cut off is counted with the rest.
    fn settle_charge(&mut self, freed: u64) {
        let Some(charge) = self.charge.take() else { return };
        let _changing = charge.changing();
        let left = match &mut self.target {
            Target::New { .. } => Left::Named,
            Target::InPlace(file) => file.end(),
        };
        match left {
            Left::Named => charge.spend(self.length.saturating_sub(self.began), freed),
            Left::Gone(bytes) => charge.spend(0, bytes),
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if self.in_place() {
            self.settle_charge(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfs::tests::{at, names, writing_roots};
    use crate::vfs::{KeepFree, Offset, Usage};
    use rustix::fs::{CWD, FileType, fsync, mknodat};
    use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
    use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};
    use std::ffi::CStr;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::path::{Path, PathBuf};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Barrier};

    fn put(root: &Root, path: &[u8], existing: Existing, content: &[u8]) -> Result<Committed, VfsError> {
        let mut upload = root.upload(&at(path), existing, 0o640)?;
        upload.write(content)?;
        upload.commit(true)
    }

    #[test]
    fn the_old_file_is_there_until_the_commit_and_the_new_one_after_it() {
        let served = tempfile::tempdir().unwrap();
        let file = served.path().join("file");
        for root in writing_roots(served.path()) {
            fs::write(&file, "old content").unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o4751)).unwrap();
            let mut upload = root.upload(&at(b"/file"), Existing::Replace, 0o640).unwrap();
            for part in [b"new".as_slice(), b" ", b"one"] {
                upload.write(part).unwrap();
                assert_eq!(fs::read(&file).unwrap(), b"old content", "{root:?}");
                assert_eq!(root.open_file(&at(b"/file")).unwrap().length, 11);
            }
            assert_eq!(upload.length(), 7);
            let committed = upload.commit(true).unwrap();
            assert_eq!(committed, Committed { path: at(b"/file"), replaced: 11 });
            assert_eq!(fs::read(&file).unwrap(), b"new one");
            // The permissions of the old one, but not its rights.
            assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o751);
            assert_eq!(names(served.path()), ["file"]);
        }
    }

    #[test]
    fn a_new_file_has_the_mode_that_was_asked_for_and_nothing_beside_it() {
        let served = tempfile::tempdir().unwrap();
        for root in writing_roots(served.path()) {
            for (durable, existing) in [(true, Existing::Replace), (false, Existing::Refuse), (true, Existing::Rename)]
            {
                let mut upload = root.upload(&at(b"/new"), existing, 0o6666).unwrap();
                upload.write(b"content").unwrap();
                assert!(!served.path().join("new").exists());
                assert_eq!(upload.commit(durable).unwrap(), Committed { path: at(b"/new"), replaced: 0 });
                assert_eq!(fs::metadata(served.path().join("new")).unwrap().mode() & 0o7777, 0o666);
                assert_eq!(names(served.path()), ["new"]);
                fs::remove_file(served.path().join("new")).unwrap();
            }
        }
    }

    #[test]
    fn an_upload_that_is_dropped_leaves_nothing() {
        let served = tempfile::tempdir().unwrap();
        for root in writing_roots(served.path()) {
            fs::write(served.path().join("file"), "old").unwrap();
            for path in [b"/file", b"/none"] {
                let mut upload = root.upload(&at(path), Existing::Replace, 0o640).unwrap();
                upload.write(b"half of a f").unwrap();
                drop(upload);
            }
            assert_eq!(names(served.path()), ["file"]);
            assert_eq!(fs::read(served.path().join("file")).unwrap(), b"old");
        }
    }

    #[test]
    fn nobody_else_may_read_an_upload_on_its_way_or_see_its_name() {
        let served = tempfile::tempdir().unwrap();
        let mut named = 0;
        for root in writing_roots(served.path()) {
            let mut upload = root.upload(&at(b"/file"), Existing::Replace, 0o666).unwrap();
            upload.write(b"secret").unwrap();
            let flags = rustix::io::fcntl_getfd(upload.file()).unwrap();
            assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
            for name in names(served.path()) {
                named += 1;
                assert_eq!(fs::metadata(served.path().join(&name)).unwrap().mode() & 0o7777, 0o600);
                let path = at(name.as_bytes());
                assert_eq!(root.open_file(&path).err(), Some(VfsError::Missing));
                assert_eq!(root.status(&path).err(), Some(VfsError::Missing));
                assert_eq!(root.link_status(&path).err(), Some(VfsError::Missing));
                assert_eq!(root.remove_file(&path), Err(VfsError::BadName));
                assert_eq!(root.rename(&path, &at(b"/mine"), false), Err(VfsError::BadName));
                let folder = root.open_folder(&at(b"/")).unwrap();
                assert_eq!(folder.status(name.as_bytes()).err(), Some(VfsError::Missing));
                let mut buffer = crate::vfs::ReadBuffer::new();
                assert_eq!(folder.entries(&mut buffer).unwrap().next_name(), Ok(None));
            }
        }
        assert!(named > 0, "no temporary file had a name");
    }

    #[test]
    fn what_cannot_be_uploaded_is_refused_before_a_byte_is_sent() {
        let served = tempfile::tempdir().unwrap();
        fs::create_dir(served.path().join("folder")).unwrap();
        fs::write(served.path().join("file"), "old").unwrap();
        symlink("nowhere", served.path().join("link")).unwrap();
        mknodat(CWD, served.path().join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o666), 0).unwrap();
        let before = names(served.path());
        for root in writing_roots(served.path()) {
            for (path, existing, error) in [
                ("/folder", Existing::Replace, VfsError::IsFolder),
                ("/folder", Existing::Refuse, VfsError::IsFolder),
                ("/fifo", Existing::Replace, VfsError::NotAFile),
                ("/", Existing::Replace, VfsError::IsFolder),
                ("/", Existing::Rename, VfsError::IsFolder),
                ("/file", Existing::Refuse, VfsError::Exists),
                ("/link", Existing::Refuse, VfsError::Exists),
                ("/missing/file", Existing::Replace, VfsError::Missing),
                ("/file/file", Existing::Replace, VfsError::NotAFolder),
                ("/.plimsoll-file", Existing::Replace, VfsError::BadName),
                ("/.plimsoll-x/file", Existing::Rename, VfsError::BadName),
            ] {
                let outcome = root.upload(&at(path.as_bytes()), existing, 0o644);
                assert_eq!(outcome.err(), Some(error), "{path} {existing:?}");
            }
            assert_eq!(names(served.path()), before);
        }
    }

    #[test]
    fn a_link_is_replaced_and_not_what_it_leads_to() {
        let outer = tempfile::tempdir().unwrap();
        let served = outer.path().join("served");
        fs::create_dir_all(served.join("folder")).unwrap();
        for (path, content) in [("secret", "outside"), ("served/target", "inside")] {
            fs::write(outer.path().join(path), content).unwrap();
        }
        symlink("/folder", served.join("way")).unwrap();
        symlink("../", served.join("folder/up")).unwrap();
        symlink("../..", served.join("folder/out")).unwrap();
        for root in writing_roots(&served) {
            for target in [Path::new("target"), &outer.path().join("secret"), Path::new("missing")] {
                symlink(target, served.join("folder/link")).unwrap();
                assert_eq!(put(&root, b"/way/link", Existing::Replace, b"new").unwrap().replaced, 0);
                assert!(fs::symlink_metadata(served.join("folder/link")).unwrap().is_file());
                fs::remove_file(served.join("folder/link")).unwrap();
            }
            assert_eq!(fs::read(outer.path().join("secret")).unwrap(), b"outside");
            assert_eq!(fs::read(served.join("target")).unwrap(), b"inside");
            // The folder of a name is looked up as all is: a way up ends at the root.
            put(&root, b"/folder/up/one", Existing::Refuse, b"").unwrap();
            put(&root, b"/folder/out/two", Existing::Refuse, b"").unwrap();
            assert_eq!(names(&served), ["folder", "one", "target", "two", "way"]);
            fs::remove_file(served.join("one")).unwrap();
            fs::remove_file(served.join("two")).unwrap();
        }
        assert_eq!(names(outer.path()), ["secret", "served"]);
    }

    #[test]
    fn a_name_that_is_taken_is_never_replaced_where_that_was_refused() {
        let served = tempfile::tempdir().unwrap();
        for root in writing_roots(served.path()) {
            let mut refused = root.upload(&at(b"/file"), Existing::Refuse, 0o644).unwrap();
            let mut renamed = root.upload(&at(b"/file"), Existing::Rename, 0o644).unwrap();
            refused.write(b"refused").unwrap();
            renamed.write(b"renamed").unwrap();
            fs::write(served.path().join("file"), "faster").unwrap();
            assert_eq!(refused.commit(true), Err(VfsError::Exists));
            assert_eq!(renamed.commit(true).unwrap().path, at(b"/file.1"));
            assert_eq!(fs::read(served.path().join("file")).unwrap(), b"faster");
            assert_eq!(names(served.path()), ["file", "file.1"]);
            for name in names(served.path()) {
                fs::remove_file(served.path().join(name)).unwrap();
            }
        }
    }

    #[test]
    fn a_folder_that_is_made_meanwhile_is_not_replaced() {
        let served = tempfile::tempdir().unwrap();
        for root in writing_roots(served.path()) {
            let upload = root.upload(&at(b"/name"), Existing::Replace, 0o644).unwrap();
            fs::create_dir(served.path().join("name")).unwrap();
            assert_eq!(upload.commit(true), Err(VfsError::IsFolder));
            assert_eq!(names(served.path()), ["name"]);
            fs::remove_dir(served.path().join("name")).unwrap();

            fs::create_dir(served.path().join("folder")).unwrap();
            let upload = root.upload(&at(b"/folder/name"), Existing::Replace, 0o644).unwrap();
            fs::remove_dir_all(served.path().join("folder")).unwrap();
            assert_eq!(upload.commit(true), Err(VfsError::Missing));
        }
    }

    /// A new file of one letter, whose length tells whether it is whole.
    fn charged(root: &Root, usage: &Arc<Usage>, path: &VirtualPath, letter: u8, turn: usize) {
        let mut upload = root.upload(path, Existing::Replace, 0o644).unwrap();
        upload.charge(usage.reserve(0, u64::MAX).unwrap());
        for _ in 0..1 + turn % 7 {
            upload.write(&vec![letter; 1000 + usize::from(letter)]).unwrap();
        }
        upload.commit(false).unwrap();
    }

    #[test]
    fn twenty_sessions_on_one_name_leave_whole_files_and_a_true_count() {
        const TURNS: usize = 150;
        let served = tempfile::tempdir().unwrap();
        let file = &at(b"/file");
        let roots = writing_roots(served.path());
        for (root, removers) in roots.iter().flat_map(|root| [(root, 0), (root, 1), (root, 6)]) {
            let usage = Arc::new(Usage::new(0));
            let (writers, removed) = (AtomicUsize::new(20 - removers), AtomicUsize::new(0));
            let write = |letter: u8| {
                let other = at(&[b'/', letter]);
                for turn in 0..TURNS {
                    if letter.is_multiple_of(2) {
                        charged(root, &usage, file, letter, turn);
                    } else {
                        charged(root, &usage, &other, letter, turn);
                        usage.freed(root.rename(&other, file, true).unwrap());
                        // Nobody else has this name.
                        assert!(!served.path().join(char::from(letter).to_string()).exists(), "the source stayed");
                    }
                }
                writers.fetch_sub(1, Ordering::Relaxed);
            };
            let remove = || {
                while writers.load(Ordering::Relaxed) > 0 {
                    if let Ok(freed) = root.remove_file(file) {
                        usage.freed(freed);
                        removed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            };
            std::thread::scope(|scope| {
                for letter in (b'a'..=b'z').take(20 - removers) {
                    let write = &write;
                    scope.spawn(move || write(letter));
                }
                for _ in 0..removers {
                    scope.spawn(remove);
                }
            });
            assert_eq!(removed.into_inner() > 0, removers > 0);
            let mut sum = 0;
            for name in names(served.path()) {
                assert!(!name.starts_with('.'), "{name} was left");
                let content = fs::read(served.path().join(&name)).unwrap();
                sum += content.len() as u64;
                assert!(content.iter().all(|byte| *byte == content[0]), "mixed");
                assert_eq!(content.len() % (1000 + usize::from(content[0])), 0, "torn");
                fs::remove_file(served.path().join(name)).unwrap();
            }
            assert_eq!(usage.used(), sum, "{root:?}");
        }
    }

    #[test]
    fn twenty_uploads_at_once_never_exceed_a_quota() {
        const LIMIT: u64 = 100_000;
        let served = tempfile::tempdir().unwrap();
        for root in writing_roots(served.path()) {
            let usage = Arc::new(Usage::new(0));
            let barrier = Barrier::new(20);
            let refused: usize = std::thread::scope(|scope| {
                let sessions: Vec<_> = (0..20)
                    .map(|session| {
                        let (root, usage, barrier) = (&root, &usage, &barrier);
                        scope.spawn(move || {
                            let path = at(format!("/file{session}").as_bytes());
                            let mut upload = root.upload(&path, Existing::Refuse, 0o644).unwrap();
                            upload.charge(usage.reserve(0, LIMIT).unwrap());
                            barrier.wait();
                            for _ in 0..10 {
                                if let Err(error) = upload.write(&[1; 1000]) {
                                    assert_eq!(error, VfsError::OverQuota);
                                    assert_eq!(upload.commit(true), Err(VfsError::OverQuota));
                                    return 1;
                                }
                            }
                            upload.commit(false).unwrap();
                            0
                        })
                    })
                    .collect();
                sessions.into_iter().map(|session| session.join().unwrap()).sum()
            });
            let files = names(served.path());
            let sum: u64 = files.iter().map(|name| fs::metadata(served.path().join(name)).unwrap().len()).sum();
            assert_eq!((sum, usage.used()), (10_000 * (20 - refused as u64), sum));
            assert!(sum <= LIMIT && refused >= 10, "{refused}");
            assert_eq!(root.sweep().unwrap().bytes_used, usage.used());
            for name in files {
                usage.freed(root.remove_file(&at(name.as_bytes())).unwrap());
            }
            assert_eq!(usage.used(), 0);
        }
    }

    #[test]
    fn a_partial_upload_is_kept_under_its_name_or_beside_what_has_it() {
        let served = tempfile::tempdir().unwrap();
        let broken = |root: &Root, existing, content: &[u8]| {
            let mut upload = root.upload(&at(b"/file"), existing, 0o604).unwrap();
            upload.write(content).unwrap();
            upload.keep()
        };
        for root in writing_roots(served.path()) {
            assert_eq!(broken(&root, Existing::Replace, b""), Ok(None));
            let kept = broken(&root, Existing::Replace, b"first").unwrap().unwrap();
            assert_eq!((kept.path, kept.replaced), (at(b"/file"), 0));
            let kept = broken(&root, Existing::Replace, b"second").unwrap().unwrap();
            assert_eq!((kept.path, kept.replaced), (at(b"/file.partial"), 0));
            let kept = broken(&root, Existing::Replace, b"3rd").unwrap().unwrap();
            assert_eq!((kept.path, kept.replaced), (at(b"/file.partial.1"), 0));
            assert_eq!(fs::read(served.path().join("file")).unwrap(), b"first");
            // It may be a file of somebody's own.
            assert_eq!(fs::read(served.path().join("file.partial")).unwrap(), b"second");
            assert_eq!(fs::read(served.path().join("file.partial.1")).unwrap(), b"3rd");
            let kept = broken(&root, Existing::Rename, b"4th").unwrap().unwrap();
            assert_eq!((kept.path, kept.replaced), (at(b"/file.1"), 0));
            assert_eq!(names(served.path()), ["file", "file.1", "file.partial", "file.partial.1"]);
            for name in names(served.path()) {
                fs::remove_file(served.path().join(name)).unwrap();
            }
        }
    }

    #[test]
    fn a_name_taken_meanwhile_is_not_kept_where_that_was_refused() {
        let served = tempfile::tempdir().unwrap();
        for root in writing_roots(served.path()) {
            let mut upload = root.upload(&at(b"/file"), Existing::Refuse, 0o644).unwrap();
            upload.write(b"half").unwrap();
            fs::write(served.path().join("file"), "faster").unwrap();
            assert_eq!(upload.keep(), Err(VfsError::Exists));
            assert_eq!(names(served.path()), ["file"]);
            fs::remove_file(served.path().join("file")).unwrap();
        }
    }

    /// Does this in a thread that has the rights of root's user, and of all capabilities these.
    fn with_rights(rights: CapabilitySet, work: impl FnOnce() + Send) {
        std::thread::scope(|scope| {
            let worker = scope.spawn(|| {
                let had = capabilities(None).unwrap();
                set_capabilities(None, CapabilitySets { effective: rights & had.effective, ..had }).unwrap();
                work();
            });
            worker.join().unwrap();
        });
    }

    #[test]
    fn a_file_is_given_away_by_one_who_may_do_that_and_nothing_else() {
        const OWNER: (u32, u32) = (12_345, 23_456);
        let served = tempfile::tempdir().unwrap();
        if !capabilities(None).unwrap().effective.contains(CapabilitySet::CHOWN) {
            assert!(std::env::var("PLIMSOLL_REQUIRE_TOOLS").as_deref() != Ok("1"), "files can't be given away");
            return eprintln!("skipped: files can't be given away by this user");
        }
        for root in writing_roots(served.path()) {
            let put = |existing| {
                let mut upload = root.upload(&at(b"/file"), existing, 0o640)?;
                upload.set_owner(Some(OWNER.0), Some(OWNER.1))?;
                upload.write(b"content")?;
                upload.commit(true)
            };
            with_rights(CapabilitySet::CHOWN, || {
                assert_eq!(root.try_owner(OWNER.0, OWNER.1), Ok(()));
                assert_eq!(names(served.path()), [""; 0]);
                for name in ["/file", "/file.1"] {
                    assert_eq!(put(Existing::Rename).unwrap().path, at(name.as_bytes()));
                    let found = fs::metadata(served.path().join(&name[1..])).unwrap();
                    assert_eq!((found.uid(), found.gid(), found.mode() & 0o7777), (OWNER.0, OWNER.1, 0o640));
                }
                assert_eq!(put(Existing::Replace), Err(VfsError::Denied));
                assert_eq!(put(Existing::Refuse), Err(VfsError::Exists));
                for name in names(served.path()) {
                    fs::remove_file(served.path().join(name)).unwrap();
                }
            });
            with_rights(CapabilitySet::empty(), || {
                assert_eq!(root.try_owner(OWNER.0, OWNER.1), Err(VfsError::Denied));
                assert_eq!(put(Existing::Rename), Err(VfsError::Denied));
                assert_eq!(names(served.path()), [""; 0]);
            });
        }
    }

    #[test]
    fn an_upload_gives_back_what_does_not_stay() {
        let served = tempfile::tempdir().unwrap();
        for root in writing_roots(served.path()) {
            let usage = Arc::new(Usage::new(0));
            let begin = || {
                let mut upload = root.upload(&at(b"/file"), Existing::Replace, 0o644).unwrap();
                upload.charge(usage.reserve(100, 1000).unwrap());
                upload
            };
            let mut upload = begin();
            upload.write(&[1; 300]).unwrap();
            assert_eq!(usage.used(), 300);
            drop(upload);
            assert_eq!(usage.used(), 0);
            for (length, used) in [(300, 300), (500, 500), (7, 7)] {
                let mut upload = begin();
                upload.write(&vec![1; length]).unwrap();
                upload.commit(false).unwrap();
                assert_eq!(usage.used(), used);
            }
            let mut upload = begin();
            upload.write(&[1; 93]).unwrap();
            assert_eq!(usage.used(), 107);
            upload.write(&[1; 900]).unwrap();
            assert_eq!(upload.write(&[1]), Err(VfsError::OverQuota));
            assert_eq!(upload.keep().unwrap().unwrap().path, at(b"/file.partial"));
            assert_eq!(usage.used(), 1000);
            assert_eq!(root.sweep().unwrap().bytes_used, 1000);
            for name in names(served.path()) {
                fs::remove_file(served.path().join(name)).unwrap();
            }
        }
    }

    /// A file system of a few pages, mounted for as long as this lives.
    struct SmallDisk(PathBuf);

    impl SmallDisk {
        fn mount(place: &Path, options: &CStr) -> Option<SmallDisk> {
            match mount(c"none", place, c"tmpfs", MountFlags::empty(), options) {
                Ok(()) => return Some(SmallDisk(place.to_owned())),
                Err(errno) => eprintln!("skipped: a small file system can't be mounted here: {errno}"),
            }
            assert!(std::env::var("PLIMSOLL_REQUIRE_TOOLS").as_deref() != Ok("1"), "nothing can be mounted");
            None
        }
    }

    impl Drop for SmallDisk {
        fn drop(&mut self) {
            let _ = unmount(&self.0, UnmountFlags::DETACH);
        }
    }

    #[test]
    fn a_full_disk_ends_an_upload_and_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let Some(disk) = SmallDisk::mount(folder.path(), c"size=64k") else { return };
        for root in writing_roots(&disk.0) {
            fs::write(disk.0.join("file"), "old").unwrap();
            let mut upload = root.upload(&at(b"/file"), Existing::Replace, 0o644).unwrap();
            assert_eq!(upload.free().unwrap().total, 64 * 1024);
            let full = (0..100).find_map(|_| upload.write(&[1; 3000]).err());
            assert_eq!(full, Some(VfsError::NoSpace));
            assert_eq!(upload.free().unwrap().bytes, 0);
            // There is room again, but what is missing is missing.
            let length = upload.length();
            assert!(length > 30_000, "{length}");
            assert_eq!(upload.write(b"x"), Err(VfsError::NoSpace));
            assert_eq!(upload.commit(true), Err(VfsError::NoSpace));
            assert_eq!(fs::read(disk.0.join("file")).unwrap(), b"old");
            assert_eq!(names(&disk.0), ["file"]);

            let mut upload = root.change(&at(b"/file"), Offset::Append, 0o644).unwrap();
            let full = (0..100).find_map(|_| upload.write(&[1; 3000]).err());
            assert_eq!(full, Some(VfsError::NoSpace));
            assert_eq!(upload.length(), fs::metadata(disk.0.join("file")).unwrap().len());
            drop(upload);
            assert_eq!(root.upload(&at(b"/next"), Existing::Replace, 0o644).unwrap().free().unwrap().bytes, 0);
        }
    }

    #[test]
    fn what_has_to_stay_free_stays_free_whoever_writes() {
        const MEBIBYTE: u64 = 1024 * 1024;
        let folder = tempfile::tempdir().unwrap();
        let Some(disk) = SmallDisk::mount(folder.path(), c"size=8m") else { return };
        for keep_free in [KeepFree { bytes: 4 * MEBIBYTE, percent: 0 }, KeepFree { bytes: 0, percent: 50 }] {
            for root in writing_roots(&disk.0) {
                let usage = Arc::new(Usage::new(0).keeping_free(keep_free));
                // None of them writes as much as makes the disk worth a question.
                let mut uploads: Vec<Upload> = (0..20)
                    .map(|number: u8| {
                        let mut upload = root.upload(&at(&[b'/', b'a' + number]), Existing::Replace, 0o644).unwrap();
                        upload.charge(usage.reserve(0, u64::MAX).unwrap());
                        upload
                    })
                    .collect();
                let mut refused = 0;
                for _ in 0..12 {
                    for upload in &mut uploads {
                        refused += usize::from(upload.write(&[1; 64 * 1024]) == Err(VfsError::NoSpace));
                    }
                }
                assert!(refused > 0);
                let free = uploads[0].free().unwrap().bytes;
                // One piece is asked for after it was reserved, and one may be written before that is due.
                assert!((4 * MEBIBYTE - 2 * 64 * 1024..=4 * MEBIBYTE).contains(&free), "{free}");
            }
        }
    }

    #[test]
    fn a_disk_without_room_for_another_name_refuses_the_upload() {
        let folder = tempfile::tempdir().unwrap();
        let Some(disk) = SmallDisk::mount(folder.path(), c"size=64k,nr_inodes=3") else { return };
        for root in writing_roots(&disk.0) {
            // The folder itself is one of the three.
            let uploads: Vec<_> = (0..3).map(|_| root.upload(&at(b"/file"), Existing::Rename, 0o644)).collect();
            let full = uploads.into_iter().filter_map(Result::err).next();
            assert_eq!(full, Some(VfsError::NoSpace), "{root:?}");
            assert_eq!(names(&disk.0), [""; 0]);
        }
    }

    #[test]
    fn a_folder_that_cannot_be_synced_by_itself_is_synced_with_the_file() {
        let served = tempfile::tempdir().unwrap();
        for root in writing_roots(served.path()) {
            // As it is opened where it may not be read.
            let place = root.place(&at(b"/file")).unwrap();
            assert_eq!(fsync(place.folder()), Err(Errno::BADF));
            let mut temporary = Temporary::new(place, root.unnamed).unwrap();
            temporary.put(b"file").unwrap();
            temporary.place().sync(temporary.file()).unwrap();
            drop(temporary);
            assert_eq!(names(served.path()), ["file"]);
            fs::remove_file(served.path().join("file")).unwrap();
        }
    }
}
