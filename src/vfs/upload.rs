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
use super::place::{Place, random_digits};
use super::temporary::Temporary;
use super::{Free, Kind, Reservation, Root, VfsError};
use crate::limits::NAME_MAX;
use crate::proto::pathname::VirtualPath;
use rustix::fd::BorrowedFd;
use rustix::fs::{Gid, Mode, Uid, fchmod, fchown, fsync};
use rustix::io::{Errno, pwrite};

/// Numbers that are tried as the end of a name that something has; after them come random digits, so that
/// whoever has taken all the numbers only makes names ugly.
const NUMBERS_TRIED: u32 = 100;

/// Random ends that are tried.
const RANDOM_TRIED: u32 = 4;

/// What is done where something has the name of an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// A file or a link is replaced; a folder never is.
    Replace,
    /// The upload is refused: at its start, and also if the name was taken in the meantime.
    Refuse,
    /// Another name is chosen: `name.1`, `name.2` and so on.
    Rename,
}

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
/// stays as it is then.
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
}

/// What is written to.
#[derive(Debug)]
enum Target {
    New { temporary: Temporary, existing: Existing, mode: Mode },
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
        Ok(Upload::begin(Target::New { temporary, existing, mode }, path, 0, 0))
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

/// Looks at what has the name before a byte is sent. Whatever comes later, the commit decides.
fn allowed(place: &Place, existing: Existing, mode: Mode) -> Result<Mode, VfsError> {
    let Some(found) = place.status()? else { return Ok(mode) };
    match (existing, found.kind) {
        (Existing::Rename, _) => Ok(mode),
        (_, Kind::Folder) => Err(VfsError::IsFolder),
        (Existing::Refuse, _) => Err(VfsError::Exists),
        (Existing::Replace, Kind::File) => Ok(Mode::from_raw_mode(found.mode & 0o777)),
        (Existing::Replace, Kind::Link) => Ok(mode),
        (Existing::Replace, Kind::Other) => Err(VfsError::NotAFile),
    }
}

impl Upload {
    fn begin(target: Target, path: &VirtualPath, position: u64, length: u64) -> Self {
        Self { target, path: path.clone(), position, length, began: length, charge: None, failed: None }
    }

    /// Every byte by which the file grows is taken from `reservation` from now on, before it is written, and
    /// the upload gives back what does not stay. To be called before the first byte is written.
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

    /// Gives the file to another user or group, by their numbers, where one is given.
    ///
    /// # Errors
    /// [`VfsError::Denied`] mostly: only root may give files away.
    pub fn set_owner(&self, user: Option<u32>, group: Option<u32>) -> Result<(), VfsError> {
        Ok(fchown(self.file(), user.map(Uid::from_raw), group.map(Gid::from_raw))?)
    }

    /// The upload is whole: it gets its name, and what had it is gone. A file that was written from an
    /// offset on ends with the last byte written. With `durable` all of it is on the disk when this returns.
    ///
    /// # Errors
    /// That of the write that failed; [`VfsError::Exists`] or [`VfsError::IsFolder`] for what has got the
    /// name meanwhile; [`VfsError::Missing`] if the folder, or the file that was changed, was removed; and
    /// those of the file system. The old file is then as it was, unless it was the last sync that failed.
    pub fn commit(mut self, durable: bool) -> Result<Committed, VfsError> {
        self.check()?;
        let replaced = match &mut self.target {
            Target::New { temporary, existing, mode } => {
                fchmod(temporary.file(), *mode)?;
                if durable {
                    fsync(temporary.file())?;
                }
                let (path, replaced) = settle(temporary, *existing, &self.path)?;
                self.path = path;
                replaced
            }
            Target::InPlace(file) => {
                let cut = file.finish(self.position, self.length)?;
                self.length -= cut;
                if durable {
                    fsync(file.as_fd())?;
                }
                cut
            }
        };
        self.settle_charge(replaced);
        if durable {
            self.sync_folder()?;
        }
        Ok(Committed { path: self.path.clone(), replaced })
    }

    /// The upload was broken off: what there is of it is kept, under its name if nothing has that, else as
    /// `NAME.partial`, unless nothing at all was written. Nothing is made durable.
    ///
    /// # Errors
    /// Those of [`Upload::commit`].
    pub fn keep(mut self) -> Result<Option<Committed>, VfsError> {
        let path = self.path.clone();
        let Target::New { temporary, existing, mode } = &mut self.target else {
            return Ok(Some(Committed { path, replaced: 0 }));
        };
        if self.length == 0 {
            return Ok(None);
        }
        fchmod(temporary.file(), *mode)?;
        let kept = match settle(temporary, not_replacing(*existing), &path) {
            Err(VfsError::Exists) if *existing == Existing::Replace => {
                let partial = ended(&path, b".partial")?;
                temporary.aim_at(partial.file_name().unwrap_or_default());
                settle(temporary, *existing, &partial)
            }
            outcome => outcome,
        };
        let (path, replaced) = kept?;
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
        let growth = self.growth(bytes.len() as u64);
        let granted = self.charge.as_mut().is_none_or(|charge| charge.grow(growth));
        if granted { Ok(()) } else { Err(VfsError::OverQuota) }
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

    fn sync_folder(&self) -> Result<(), Errno> {
        match &self.target {
            Target::New { temporary, .. } => temporary.place().sync(temporary.file()),
            Target::InPlace(file) => file.sync_folder(),
        }
    }

    /// What the file has grown by stays in use.
    fn settle_charge(&mut self, freed: u64) {
        if let Some(charge) = self.charge.take() {
            charge.spend(self.length.saturating_sub(self.began), freed);
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

/// Gives the file its name, as far as what has it allows that.
fn settle(temporary: &mut Temporary, existing: Existing, path: &VirtualPath) -> Result<(VirtualPath, u64), VfsError> {
    if existing == Existing::Replace {
        let freed = temporary.replace()?;
        return Ok((path.clone(), freed));
    }
    let mut candidates = Candidates { path, number: 0, may_change: existing == Existing::Rename };
    while let Some(candidate) = candidates.next()? {
        match temporary.put(candidate.file_name().unwrap_or_default()) {
            Ok(()) => return Ok((candidate, 0)),
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Err(VfsError::Exists)
}

fn not_replacing(existing: Existing) -> Existing {
    if existing == Existing::Replace { Existing::Refuse } else { existing }
}

/// The names that are tried for a file, one after the other.
struct Candidates<'a> {
    path: &'a VirtualPath,
    number: u32,
    may_change: bool,
}

impl Candidates<'_> {
    fn next(&mut self) -> Result<Option<VirtualPath>, VfsError> {
        let number = self.number;
        self.number += 1;
        match number {
            0 => Ok(Some(self.path.clone())),
            _ if !self.may_change => Ok(None),
            number if number <= NUMBERS_TRIED => ended(self.path, format!(".{number}").as_bytes()).map(Some),
            number if number <= NUMBERS_TRIED + RANDOM_TRIED => {
                ended(self.path, &[b".".as_slice(), &random_digits()?].concat()).map(Some)
            }
            _ => Ok(None),
        }
    }
}

/// The same name with this end. One that would get too long loses as much before it, whole characters
/// where it is UTF-8.
fn ended(path: &VirtualPath, end: &[u8]) -> Result<VirtualPath, VfsError> {
    let name = path.file_name().ok_or(VfsError::BadName)?;
    let room = NAME_MAX.saturating_sub(end.len()).min(name.len());
    let (mut kept, _) = name.split_at(room);
    if let (Ok(text), true) = (str::from_utf8(name), room < name.len()) {
        kept = &name[..text.floor_char_boundary(room)];
    }
    path.parent().join(&[kept, end].concat()).map_err(|_| VfsError::NameTooLong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfs::tests::{at, writing_roots};
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::path::Path;

    fn put(root: &Root, path: &[u8], existing: Existing, content: &[u8]) -> Result<Committed, VfsError> {
        let mut upload = root.upload(&at(path), existing, 0o640)?;
        upload.write(content)?;
        upload.commit(true)
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn the_old_file_is_there_until_the_commit_and_the_new_one_after_it() {
        for number in 0..4 {
            let served = tempfile::tempdir().unwrap();
            let root = &writing_roots(served.path())[number % writing_roots(served.path()).len()];
            let file = served.path().join("file");
            fs::write(&file, "old content").unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o751)).unwrap();
            let mut upload = root.upload(&at(b"/file"), Existing::Replace, 0o640).unwrap();
            for part in [b"new".as_slice(), b" ", b"one"] {
                upload.write(part).unwrap();
                assert_eq!(fs::read(&file).unwrap(), b"old content", "{root:?}");
            }
            assert_eq!(upload.length(), 7);
            let committed = upload.commit(true).unwrap();
            assert_eq!(committed, Committed { path: at(b"/file"), replaced: 11 });
            assert_eq!(fs::read(&file).unwrap(), b"new one");
            assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o751);
            assert_eq!(names(served.path()), ["file"]);

            let committed = put(root, b"/new", Existing::Replace, b"first").unwrap();
            assert_eq!(committed.replaced, 0);
            assert_eq!(fs::metadata(served.path().join("new")).unwrap().mode() & 0o7777, 0o640);
            assert_eq!(names(served.path()), ["file", "new"]);
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
}
