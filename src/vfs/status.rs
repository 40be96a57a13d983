//! What is known of one name: its kind, size and time, from one statx(2).
//!
//! Never follows a link and never opens anything.

use crate::proto::listing::Kind;
use rustix::fd::BorrowedFd;
use rustix::fs::{AtFlags, FileType, RawMode, Statx, StatxFlags, makedev, statx};
use rustix::io::Errno;

/// What a listing, SIZE and MDTM tell of one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// File, folder, link or something else.
    pub kind: Kind,
    /// Permission bits, 0 to 0o7777.
    pub mode: u32,
    /// Length in bytes; for a link that of its target's name.
    pub size: u64,
    /// Last change of the content in seconds since 1970-01-01 UTC; may be negative.
    pub modified: i64,
    /// Hard links.
    pub links: u32,
    /// Number of the device that holds it: with `inode` this is MLST's `unique` (RFC 3659 §7.5.2).
    pub device: u64,
    /// Number of the inode on that device.
    pub inode: u64,
}

impl Status {
    /// Status of an open descriptor, O_PATH or not.
    pub(super) fn of(descriptor: BorrowedFd<'_>) -> Result<Self, Errno> {
        Self::ask(descriptor, b"", AtFlags::EMPTY_PATH)
    }

    /// Status of one name in a folder, which must be a single name: links in it would be followed.
    pub(super) fn of_name(folder: BorrowedFd<'_>, name: &[u8]) -> Result<Self, Errno> {
        // A listing must not mount what it names.
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        Self::ask(folder, name, flags)
    }

    /// Whether both are of the same file, folder or link.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }

    // Synchronised as stat(2) does it: with AT_STATX_DONT_SYNC a network file system may answer from
    // its cache for ever, and a client that mirrors compares sizes and times. On a local file system
    // the flag saves nothing.
    fn ask(folder: BorrowedFd<'_>, name: &[u8], flags: AtFlags) -> Result<Self, Errno> {
        statx(folder, name, flags, WANTED).map(|found| Self::from(&found))
    }
}

const WANTED: StatxFlags = StatxFlags::TYPE
    .union(StatxFlags::MODE)
    .union(StatxFlags::NLINK)
    .union(StatxFlags::MTIME)
    .union(StatxFlags::INO)
    .union(StatxFlags::SIZE);

impl From<&Statx> for Status {
    fn from(found: &Statx) -> Self {
        let mode = RawMode::from(found.stx_mode);
        let kind = match FileType::from_raw_mode(mode) {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Folder,
            FileType::Symlink => Kind::Link,
            _ => Kind::Other,
        };
        Self {
            kind,
            mode: mode & 0o7777,
            size: found.stx_size,
            modified: found.stx_mtime.tv_sec,
            links: found.stx_nlink,
            device: makedev(found.stx_dev_major, found.stx_dev_minor),
            inode: found.stx_ino,
        }
    }
}
