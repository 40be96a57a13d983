//! Replaces an accounts file in one step: whoever reads it sees the old text or the new one, and after a power
//! cut there is one of them.
//!
//! Owns the lock that keeps two edits apart, and what stays as it was: owner, group and mode, and the link
//! through which the file is named. Knows nothing of what is in it, but that a server must take it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{
    AtFlags, CWD, FileType, FlockOperation, Mode, OFlags, RenameFlags, Stat, fchmod, fchown, flock, fstat, linkat,
    open, renameat_with, stat,
};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};

use super::{PasswdError, random};
use crate::auth::Accounts;
use crate::config::plain;
use crate::limits;

/// How long another edit may hold the lock, which it needs for some milliseconds, and how often it is tried.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);
const LOCK_TRIES_EVERY: Duration = Duration::from_millis(20);

/// How often the file may be replaced by somebody else just when it was opened. Each time one of those who
/// edit it has got on, so this is how many can do so at once.
const ATTEMPTS: usize = 1000;

/// The mode of a new file.
const NEW_MODE: u32 = 0o600;

/// Replaces the text of a file with what `change` makes of it; a file that is not there is empty.
///
/// # Errors
/// What `change` says, what is wrong with the text before or after, or with the file. Then it is as it was.
pub(super) fn edit<T>(
    path: &Path,
    change: impl Fn(&[u8]) -> Result<(Vec<u8>, T), PasswdError>,
) -> Result<T, PasswdError> {
    let checked = |old: &[u8]| {
        Accounts::parse(path, old)?;
        let (new, done) = change(old)?;
        Accounts::parse(path, &new)?;
        Ok((new, done))
    };
    for _ in 0..ATTEMPTS {
        let there = is_there(path).map_err(|error| PasswdError::of(path, plain(&error)))?;
        let attempt = if there { replace(path, &checked) } else { create(path, &checked) };
        match attempt {
            Ok(done) => return Ok(done),
            Err(Failure::Meanwhile) => {}
            Err(Failure::Io(error)) => return Err(PasswdError::of(path, plain(&error))),
            Err(Failure::Refused(error)) => return Err(error),
        }
    }
    Err(PasswdError::of(path, "others replace it again and again"))
}

/// Why an attempt did not succeed.
enum Failure {
    /// The file has become another one.
    Meanwhile,
    Io(io::Error),
    Refused(PasswdError),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Io(error)
    }
}

impl From<Errno> for Failure {
    fn from(error: Errno) -> Self {
        Failure::Io(error.into())
    }
}

impl From<PasswdError> for Failure {
    fn from(error: PasswdError) -> Self {
        Failure::Refused(error)
    }
}

/// Whether there is such a file.
pub(super) fn is_there(path: &Path) -> io::Result<bool> {
    match std::fs::metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Err(_) if path.is_symlink() => Err(io::Error::other("a link that leads nowhere")),
        Err(_) => Ok(false),
    }
}

/// The text of a file.
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    read_all(&opened(path)?)
}

/// A regular file, open for reading.
fn opened(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(open(path, flags, Mode::empty())?);
    match FileType::from_raw_mode(fstat(&file)?.st_mode) {
        FileType::RegularFile => Ok(file),
        _ => Err(io::Error::other("not a regular file")),
    }
}

fn read_all(file: &File) -> io::Result<Vec<u8>> {
    let most = u64::try_from(limits::ACCOUNTS_FILE_MAX).unwrap_or(u64::MAX).saturating_add(1);
    let mut text = Vec::new();
    file.take(most).read_to_end(&mut text)?;
    Ok(text)
}

fn replace<T>(path: &Path, change: &impl Fn(&[u8]) -> Result<(Vec<u8>, T), PasswdError>) -> Result<T, Failure> {
    let path = std::fs::canonicalize(path)?;
    let file = opened(&path)?;
    lock(&file)?;
    let status = fstat(&file)?;
    // Who had the lock before has put another file in the place of this one.
    match stat(&path) {
        Ok(now) if (now.st_dev, now.st_ino) == (status.st_dev, status.st_ino) => {}
        Ok(_) | Err(Errno::NOENT) => return Err(Failure::Meanwhile),
        Err(error) => return Err(error.into()),
    }
    let (text, done) = change(&read_all(&file)?)?;
    let mut new = Temporary::beside(&path)?;
    new.be_like(&status)?;
    new.write(&text)?;
    std::fs::rename(&new.path, &path)?;
    new.is_there = false;
    sync_folder(&path)?;
    Ok(done)
}

fn create<T>(path: &Path, change: &impl Fn(&[u8]) -> Result<(Vec<u8>, T), PasswdError>) -> Result<T, Failure> {
    let (text, done) = change(b"")?;
    let mut new = Temporary::beside(path)?;
    new.write(&text)?;
    match renameat_with(CWD, &new.path, CWD, path, RenameFlags::NOREPLACE) {
        Ok(()) => new.is_there = false,
        Err(Errno::EXIST) => return Err(Failure::Meanwhile),
        // Not every file system can do that: NFS can't.
        Err(Errno::INVAL | Errno::NOSYS) => match linkat(CWD, &new.path, CWD, path, AtFlags::empty()) {
            Ok(()) => {}
            Err(Errno::EXIST) => return Err(Failure::Meanwhile),
            Err(error) => return Err(error.into()),
        },
        Err(error) => return Err(error.into()),
    }
    sync_folder(path)?;
    Ok(done)
}

/// Keeps others who edit it out, until the file is closed.
fn lock(file: &File) -> io::Result<()> {
    let patience = Instant::now() + LOCK_PATIENCE;
    loop {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(Errno::WOULDBLOCK) if Instant::now() < patience => std::thread::sleep(LOCK_TRIES_EVERY),
            Err(Errno::WOULDBLOCK) => return Err(io::Error::other("another program has it locked")),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Sees to it that the folder's new entry survives a power cut.
fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(folder(path))?.sync_all()
}

/// A new file beside another, which is gone when it is dropped unless it has become that other.
struct Temporary {
    path: PathBuf,
    file: File,
    is_there: bool,
}

impl Temporary {
    fn beside(path: &Path) -> Result<Self, Failure> {
        let number = u64::from_ne_bytes(random()?);
        let Some(name) = path.file_name() else {
            return Err(io::Error::from(io::ErrorKind::IsADirectory).into());
        };
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{number:016x}"));
        let path = folder(path).join(hidden);
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(open(&path, flags, Mode::from_raw_mode(NEW_MODE))?);
        Ok(Self { path, file, is_there: true })
    }

    /// Gives it the owner, the group and the mode of another.
    fn be_like(&self, other: &Stat) -> Result<(), Failure> {
        let own = fstat(&self.file)?;
        if (own.st_uid, own.st_gid) != (other.st_uid, other.st_gid) {
            let (uid, gid) = (Uid::from_raw(other.st_uid), Gid::from_raw(other.st_gid));
            fchown(self.file.as_fd(), Some(uid), Some(gid)).map_err(|error| {
                let why = plain(&error.into());
                io::Error::other(format!("its owner {}:{} can't be kept: {why}", other.st_uid, other.st_gid))
            })?;
        }
        Ok(fchmod(&self.file, Mode::from_raw_mode(other.st_mode))?)
    }

    /// Writes the text, down to the disk.
    fn write(&mut self, text: &[u8]) -> io::Result<()> {
        self.file.write_all(text)?;
        self.file.sync_all()
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if self.is_there {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_file_that_somebody_else_makes_meanwhile_is_not_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users");
        let calls = Cell::new(0);
        let done = edit(&path, |text| {
            if calls.replace(calls.get() + 1) == 0 {
                assert_eq!(text, b"");
                std::fs::write(&path, "# somebody else's\n").unwrap();
            }
            Ok(([text, b"# ours\n"].concat(), "done"))
        });
        assert_eq!((done, calls.get()), (Ok("done"), 2));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "# somebody else's\n# ours\n");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
