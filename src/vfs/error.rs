//! What can go wrong with the served folder: [`RootError`] for the operator, [`VfsError`] for a session.
//!
//! Never holds a path or an errno in what a client may come to see.

use rustix::io::Errno;
use std::error::Error;
use std::fmt;
use std::path::PathBuf;

/// Why the root folder cannot be served. The texts are for the operator and quote the path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootError {
    /// Nothing has this name.
    Missing(PathBuf),
    /// The name is not that of a folder.
    NotAFolder(PathBuf),
    /// The folder is there, but this process may not enter or list it.
    NotReadable(PathBuf),
    /// The kernel has no statx(2): it is older than Linux 4.11.
    KernelTooOld,
    /// Any other failure.
    Other(PathBuf, Errno),
}

impl RootError {
    pub(super) fn new(path: PathBuf, errno: Errno) -> Self {
        match errno {
            Errno::NOENT => Self::Missing(path),
            Errno::NOTDIR => Self::NotAFolder(path),
            Errno::ACCESS | Errno::PERM => Self::NotReadable(path),
            errno => Self::Other(path, errno),
        }
    }
}

impl fmt::Display for RootError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(path) => write!(f, "root folder {path:?} does not exist"),
            Self::NotAFolder(path) => write!(f, "root {path:?} is not a folder"),
            Self::NotReadable(path) => {
                write!(f, "root folder {path:?} cannot be listed by this user: it needs r and x")
            }
            Self::KernelTooOld => write!(f, "this kernel does not offer statx: linux 4.11 or later is needed"),
            Self::Other(path, errno) => write!(f, "root folder {path:?} cannot be opened: {errno}"),
        }
    }
}

impl Error for RootError {}

/// Why something in the served folder cannot be had. The texts hold neither a path nor an errno.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VfsError {
    /// ENOENT: nothing has this name, or a link on the way is dangling.
    Missing,
    /// ENOTDIR: a folder was needed, at the end or on the way.
    NotAFolder,
    /// A file was needed, but the name is that of a folder.
    IsFolder,
    /// A file was needed, but the name is that of a FIFO, a socket or a device.
    NotAFile,
    /// EACCES or EPERM.
    Denied,
    /// ELOOP: links in a circle, too many of them, or a link with magic as in `/proc`.
    TooManyLinks,
    /// ENAMETOOLONG: the pathname or one name in it.
    NameTooLong,
    /// EMFILE, ENFILE, ENOMEM, EAGAIN or EINTR: it may work later.
    Busy,
    /// EEXIST: something has this name, and may not be replaced.
    Exists,
    /// ENOTEMPTY: a folder can only be removed when nothing is in it.
    NotEmpty,
    /// ENOSPC: the file system is full.
    NoSpace,
    /// EDQUOT, or the limit of a [`Reservation`](super::Reservation): a quota is used up.
    OverQuota,
    /// EFBIG: longer than a file may be here.
    TooLarge,
    /// EROFS: nothing can be changed on this file system.
    ReadOnlyFs,
    /// EXDEV: a name can't be moved to another file system.
    CrossDevice,
    /// A folder can't be moved into itself.
    IntoItself,
    /// A name that is not for clients, as those of temporary files, or EILSEQ: one that the file system can't
    /// have.
    BadName,
    /// An offset that lies past the end of the file.
    PastEnd,
    /// EBUSY and ETXTBSY, or another session is writing to the same file.
    InUse,
    /// Any other failure; the errno is for the log.
    Other(Errno),
}

impl From<Errno> for VfsError {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::NOENT => Self::Missing,
            Errno::NOTDIR => Self::NotAFolder,
            Errno::ISDIR => Self::IsFolder,
            // A socket, or a device without a driver, cannot even be opened.
            Errno::NXIO | Errno::NODEV => Self::NotAFile,
            Errno::ACCESS | Errno::PERM => Self::Denied,
            Errno::LOOP => Self::TooManyLinks,
            Errno::NAMETOOLONG => Self::NameTooLong,
            Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::AGAIN | Errno::INTR => Self::Busy,
            Errno::EXIST => Self::Exists,
            Errno::NOTEMPTY => Self::NotEmpty,
            Errno::NOSPC => Self::NoSpace,
            Errno::DQUOT => Self::OverQuota,
            Errno::FBIG => Self::TooLarge,
            Errno::ROFS => Self::ReadOnlyFs,
            Errno::XDEV => Self::CrossDevice,
            Errno::ILSEQ => Self::BadName,
            Errno::BUSY | Errno::TXTBSY => Self::InUse,
            errno => Self::Other(errno),
        }
    }
}

impl fmt::Display for VfsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "no such file or folder",
            Self::NotAFolder => "not a folder",
            Self::IsFolder => "is a folder",
            Self::NotAFile => "not a regular file",
            Self::Denied => "permission denied",
            Self::TooManyLinks => "too many links",
            Self::NameTooLong => "name too long",
            Self::Busy => "out of resources, try again later",
            Self::Exists => "something has that name already",
            Self::NotEmpty => "the folder is not empty",
            Self::NoSpace => "no space left",
            Self::OverQuota => "over quota",
            Self::TooLarge => "larger than a file may be",
            Self::ReadOnlyFs => "the file system is read-only",
            Self::CrossDevice => "on another file system",
            Self::IntoItself => "a folder cannot be moved into itself",
            Self::BadName => "that name is not for clients",
            Self::PastEnd => "past the end of the file",
            Self::InUse => "in use",
            Self::Other(_) => "input/output error",
        })
    }
}

impl Error for VfsError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_for_clients_hold_no_errno() {
        let texts =
            [Errno::NOENT, Errno::IO, Errno::MFILE, Errno::STALE].map(|errno| VfsError::from(errno).to_string());
        for text in texts {
            assert!(!text.contains(|c: char| c.is_ascii_digit()), "{text}");
            assert!(!text.contains("os error"), "{text}");
        }
    }

    #[test]
    fn texts_for_the_operator_quote_the_path() {
        for errno in [Errno::NOENT, Errno::NOTDIR, Errno::ACCESS, Errno::IO] {
            let text = RootError::new("/srv/a\nb".into(), errno).to_string();
            assert!(text.contains(r#""/srv/a\nb""#), "{text}");
            assert!(text.starts_with(char::is_lowercase), "{text}");
        }
    }
}
