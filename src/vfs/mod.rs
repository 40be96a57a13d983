//! The served folder: the only caller of the file system, which alone confines.
//!
//! Every pathname is resolved as if the root folder were `/`: an absolute link means inside the root,
//! and `..` in a link stops at the root. The kernel does this with openat2(2) and RESOLVE_IN_ROOT; where
//! it cannot, the walk does it one name at a time. A thing is opened once, checked on its
//! descriptor, and from then on only the descriptor is used.
//!
//! Whatever changes the tree opens the folder in this way, and then works with that descriptor and a single
//! name. Names that begin with [`TEMPORARY_PREFIX`] are this module's own: nobody sees them.
//!
//! Never logs, never knows of users or replies.

mod change;
mod error;
mod folder;
mod known;
mod names;
mod naming;
mod owner;
mod place;
#[cfg(test)]
mod races;
mod recount;
mod stake;
mod status;
mod sweep;
mod temporary;
mod tree;
mod upload;
mod usage;
mod walk;

pub use crate::proto::listing::Kind;
pub use error::{RootError, VfsError};
pub use folder::{Entries, Folder, ReadBuffer};
pub use known::{KnownFolders, Recalled, Recorder, Records};
pub use names::{Fit, NameBuffer};
pub use naming::Existing;
pub use place::TEMPORARY_PREFIX;
pub use recount::Below;
pub use status::Status;
pub use sweep::{SWEEP_DESCRIPTORS, SWEEP_MEMORY, Swept};
pub use tree::Free;
pub use upload::{Committed, Offset, Upload};
pub use usage::{KeepFree, Reservation, Usage};

use crate::limits::PATH_MAX;
use crate::proto::pathname::VirtualPath;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

/// How often the kernel is asked before the walk is: openat2(2) gives EAGAIN for a `..` in a link when
/// anything was renamed meanwhile, anywhere on the host. A process that renames without end must not
/// make such a link unusable.
const KERNEL_TRIES: usize = 16;

/// How often one opening is tried in all; then it is [`VfsError::Busy`], so that whoever changes the tree
/// without end cannot hold a worker.
const TRIES: usize = 32;

/// The flags of openat2(2) that confine.
const IN_ROOT: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);

/// The served folder. Holds one descriptor (O_PATH) for as long as it lives.
#[derive(Debug)]
pub struct Root {
    folder: OwnedFd,
    confinement: Confinement,
    /// Whether a file that has no name could be given one later.
    unnamed: bool,
    /// What is told of the bytes that changes free.
    usage: Option<Arc<Usage>>,
}

/// Who keeps pathnames inside the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confinement {
    /// openat2(2) with RESOLVE_IN_ROOT: one system call for one pathname.
    Kernel,
    /// A walk in user space, one component at a time: Linux before 5.6, or a seccomp filter.
    Walk,
}

/// A regular file, open for reading.
#[derive(Debug)]
pub struct OpenFile {
    /// The descriptor, at its start.
    pub file: File,
    /// Length in bytes when it was opened; the file may change under the transfer.
    pub length: u64,
}

impl Root {
    /// Opens the folder to be served and finds out who confines. The path is the operator's, so links
    /// in it are followed as usual.
    ///
    /// # Errors
    /// [`RootError`] if it is missing, not a folder, not listable, or if the kernel is too old.
    pub fn open(path: &Path) -> Result<Self, RootError> {
        Self::examine(path).map_err(|errno| match errno {
            Errno::NOSYS => RootError::KernelTooOld,
            errno => RootError::new(path.to_owned(), errno),
        })
    }

    /// As [`Root::open`], but never asks the kernel to confine.
    #[cfg(test)]
    pub(crate) fn open_walking(path: &Path) -> Result<Self, RootError> {
        let root = Self::open(path)?;
        Ok(Self { confinement: Confinement::Walk, ..root })
    }

    fn examine(path: &Path) -> Result<Self, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = openat(CWD, path, flags, Mode::empty())?;
        let listable = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(&folder, c".", listable, Mode::empty())?;
        Status::of(folder.as_fd())?;
        let confinement = match openat2(&folder, c".", flags, Mode::empty(), IN_ROOT) {
            Ok(_) => Confinement::Kernel,
            // An old kernel, one that knows the call but not these flags, or a filter in its way.
            Err(Errno::NOSYS | Errno::PERM | Errno::INVAL | Errno::TOOBIG) => Confinement::Walk,
            Err(errno) => return Err(errno),
        };
        let unnamed = place::can_be_named(folder.as_fd());
        Ok(Self { folder, confinement, unnamed, usage: None })
    }

    /// What is removed or replaced below this root is counted as free there.
    #[must_use]
    pub fn counted(self, usage: Arc<Usage>) -> Self {
        Self { usage: Some(usage), ..self }
    }

    /// Device and inode of each folder in which this root lies, up to that of the host. A mount is a way up to
    /// where it is mounted, and to nowhere else.
    ///
    /// # Errors
    /// Those of the file system, and [`VfsError::NameTooLong`] for more folders than a path can name.
    pub fn lies_in(&self) -> Result<Vec<(u64, u64)>, VfsError> {
        let mut above = Vec::new();
        let mut last = Status::of(self.folder.as_fd())?;
        let mut way: Option<OwnedFd> = None;
        while above.len() < PATH_MAX {
            let folder = way.as_ref().unwrap_or(&self.folder);
            let next = openat(folder, c"..", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
            let found = Status::of(next.as_fd())?;
            if found.is_same(&last) {
                return Ok(above);
            }
            above.push((found.device, found.inode));
            (last, way) = (found, Some(next));
        }
        Err(VfsError::NameTooLong)
    }

    /// Who keeps pathnames inside this root.
    #[must_use]
    pub fn confinement(&self) -> Confinement {
        self.confinement
    }

    /// Opens a regular file for reading. Returns at once, whatever the name is that of.
    ///
    /// # Errors
    /// [`VfsError::IsFolder`] for a folder, [`VfsError::NotAFile`] for a FIFO, a socket or a device,
    /// and those of the file system.
    pub fn open_file(&self, path: &VirtualPath) -> Result<OpenFile, VfsError> {
        // Without O_NONBLOCK a FIFO would hold the worker until somebody writes to it; without
        // O_NOCTTY a terminal could become that of the server.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let descriptor = self.open_confined(path.relative(), flags)?;
        let status = Status::of(descriptor.as_fd())?;
        match status.kind {
            Kind::File => Ok(OpenFile { file: File::from(descriptor), length: status.size }),
            Kind::Folder => Err(VfsError::IsFolder),
            Kind::Link | Kind::Other => Err(VfsError::NotAFile),
        }
    }

    /// The first bytes of a regular file, at most `most` of them.
    ///
    /// # Errors
    /// Those of [`Root::open_file`], and of reading.
    pub fn read_small(&self, path: &VirtualPath, most: usize) -> Result<Vec<u8>, VfsError> {
        let file = self.open_file(path)?.file;
        let mut bytes = vec![0; most];
        let mut length = 0;
        while let Some(room) = bytes.get_mut(length..).filter(|room| !room.is_empty()) {
            match rustix::io::read(&file, room) {
                Ok(0) => break,
                Ok(count) => length += count,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        bytes.truncate(length);
        Ok(bytes)
    }

    /// Opens a folder to be listed.
    ///
    /// # Errors
    /// [`VfsError::NotAFolder`] if it is none, and those of the file system.
    pub fn open_folder(&self, path: &VirtualPath) -> Result<Folder, VfsError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let descriptor = self.open_confined(path.relative(), flags)?;
        Ok(Folder::new(descriptor))
    }

    /// Whether the pathname leads to a folder that may be entered, which is to say searched; to read it,
    /// and so to list it, is another matter.
    ///
    /// # Errors
    /// [`VfsError::NotAFolder`], [`VfsError::Denied`], and the others of the file system.
    pub fn enter(&self, path: &VirtualPath) -> Result<(), VfsError> {
        // O_PATH asks for no right to what it opens, but nothing is looked up in a folder, `.` included,
        // without the right to search it.
        let inside = [path.relative(), b".".as_slice()].join(&b'/');
        self.open_confined(&inside, OFlags::PATH | OFlags::DIRECTORY)?;
        Ok(())
    }

    /// Status of what the pathname leads to: links are followed inside the root. Works without
    /// permission to read it.
    ///
    /// # Errors
    /// [`VfsError::Missing`] for a dangling link too, and those of the file system.
    pub fn status(&self, path: &VirtualPath) -> Result<Status, VfsError> {
        self.status_at(path.relative(), OFlags::PATH)
    }

    /// Status of the name itself: a link at the end is not followed, those on the way are.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn link_status(&self, path: &VirtualPath) -> Result<Status, VfsError> {
        self.status_at(path.relative(), OFlags::PATH | OFlags::NOFOLLOW)
    }

    /// Status of what a link in `folder` leads to, inside the root, as MLSD needs it. `None` if it is
    /// dangling: missing, in a circle, or out of this process's reach.
    ///
    /// # Errors
    /// [`VfsError::Busy`] and [`VfsError::Other`] only.
    pub fn follow(&self, folder: &VirtualPath, name: &[u8]) -> Result<Option<Status>, VfsError> {
        let path = [folder.relative(), folder::single(name)?].join(&b'/');
        match self.status_at(&path, OFlags::PATH) {
            Ok(status) => Ok(Some(status)),
            Err(error @ (VfsError::Busy | VfsError::Other(_))) => Err(error),
            Err(_) => Ok(None),
        }
    }

    fn status_at(&self, path: &[u8], flags: OFlags) -> Result<Status, VfsError> {
        let descriptor = self.open_confined(path, flags)?;
        Ok(Status::of(descriptor.as_fd())?)
    }

    /// The one place where a pathname becomes a descriptor.
    fn open_confined(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        // No name can hold a NUL; the system call would have to be given less than was asked for.
        if path.contains(&0) || place::leads_to_temporary(path) {
            return Err(Errno::NOENT);
        }
        let flags = flags | OFlags::CLOEXEC;
        for tried in 0..TRIES {
            let outcome = if self.confinement == Confinement::Kernel && tried < KERNEL_TRIES {
                openat2(&self.folder, path, flags, Mode::empty(), IN_ROOT)
            } else {
                walk::open(self.folder.as_fd(), path, flags)
            };
            match outcome {
                Err(Errno::AGAIN | Errno::INTR) => {}
                outcome => return outcome,
            }
        }
        Err(Errno::AGAIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{FileType, mknodat};
    use std::fs;
    use std::io::Read;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;
    use std::sync::mpsc;
    use std::time::Duration;

    thread_local! {
        /// As if the disk had failed, for whatever this thread syncs.
        pub(in crate::vfs) static SYNC_FAILS: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
    }

    pub(in crate::vfs) fn at(path: &[u8]) -> VirtualPath {
        VirtualPath::root().join(path).unwrap()
    }

    /// The same root twice: once confined by the kernel, if it can, and once by the walk.
    pub(in crate::vfs) fn roots(path: &Path) -> Vec<Root> {
        let mut roots = vec![Root::open_walking(path).unwrap()];
        let root = Root::open(path).unwrap();
        if root.confinement() == Confinement::Kernel {
            roots.push(root);
        }
        roots
    }

    /// The same root for each confinement and each kind of temporary file: without a name, and with one.
    pub(in crate::vfs) fn writing_roots(path: &Path) -> Vec<Root> {
        let with = |unnamed| roots(path).into_iter().map(move |root| Root { unnamed, ..root });
        with(true).chain(with(false)).collect()
    }

    /// What is in a folder, in order.
    pub(in crate::vfs) fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    pub(in crate::vfs) fn contents(open: OpenFile) -> String {
        let mut text = String::new();
        let mut file = open.file;
        file.read_to_string(&mut text).unwrap();
        assert_eq!(open.length, text.len() as u64);
        text
    }

    fn open_error(root: &Root, path: &str) -> Option<VfsError> {
        root.open_file(&at(path.as_bytes())).err()
    }

    #[test]
    fn a_root_must_be_a_folder_that_is_there() {
        let outer = tempfile::tempdir().unwrap();
        let missing = outer.path().join("missing");
        assert_eq!(Root::open(&missing).unwrap_err(), RootError::Missing(missing));
        let file = outer.path().join("file");
        fs::write(&file, "").unwrap();
        assert_eq!(Root::open(&file).unwrap_err(), RootError::NotAFolder(file));
    }

    #[test]
    fn a_root_knows_what_it_lies_in() {
        let outer = tempfile::tempdir().unwrap();
        fs::create_dir_all(outer.path().join("a/b")).unwrap();
        symlink("a/b", outer.path().join("link")).unwrap();
        let key = |path: &Path| fs::metadata(path).map(|found| (found.dev(), found.ino())).unwrap();
        for path in ["a/b", "link"] {
            let above = Root::open(&outer.path().join(path)).unwrap().lies_in().unwrap();
            assert_eq!(above[..2], [key(&outer.path().join("a")), key(outer.path())]);
            assert_eq!(above.last(), Some(&key(Path::new("/"))));
        }
        assert_eq!(Root::open(Path::new("/")).unwrap().lies_in(), Ok(Vec::new()));
    }

    #[test]
    fn a_root_that_cannot_be_listed_is_refused() {
        let outer = tempfile::tempdir().unwrap();
        fs::set_permissions(outer.path(), fs::Permissions::from_mode(0o311)).unwrap();
        if !rustix::process::geteuid().is_root() {
            let error = Root::open(outer.path()).unwrap_err();
            assert_eq!(error, RootError::NotReadable(outer.path().to_owned()));
        }
    }

    #[test]
    fn a_file_is_opened_and_a_folder_is_not() {
        let served = tempfile::tempdir().unwrap();
        fs::create_dir(served.path().join("folder")).unwrap();
        fs::write(served.path().join("folder/file"), "content").unwrap();
        for root in roots(served.path()) {
            let open = root.open_file(&at(b"/folder/file")).unwrap();
            assert_eq!(contents(open), "content");
            assert_eq!(open_error(&root, "/folder"), Some(VfsError::IsFolder));
            assert_eq!(open_error(&root, "/"), Some(VfsError::IsFolder));
            assert_eq!(open_error(&root, "/missing"), Some(VfsError::Missing));
            assert_eq!(open_error(&root, "/missing/file"), Some(VfsError::Missing));
            assert_eq!(open_error(&root, "/folder/file/x"), Some(VfsError::NotAFolder));
            let nul = root.open_confined(b"folder/fi\0le", OFlags::PATH);
            assert_eq!(nul.err(), Some(Errno::NOENT));
            let error = root.open_folder(&at(b"/folder/file")).unwrap_err();
            assert_eq!(error, VfsError::NotAFolder);
        }
    }

    #[test]
    fn a_folder_is_entered_by_those_who_may_search_it() {
        let served = tempfile::tempdir().unwrap();
        fs::create_dir(served.path().join("folder")).unwrap();
        fs::write(served.path().join("file"), "content").unwrap();
        symlink("/folder", served.path().join("link")).unwrap();
        symlink("file", served.path().join("other")).unwrap();
        for root in roots(served.path()) {
            for (path, expected) in [
                ("/", Ok(())),
                ("/folder", Ok(())),
                ("/link", Ok(())),
                ("/file", Err(VfsError::NotAFolder)),
                ("/other", Err(VfsError::NotAFolder)),
                ("/missing", Err(VfsError::Missing)),
            ] {
                assert_eq!(root.enter(&at(path.as_bytes())), expected, "{path}, {:?}", root.confinement());
            }
            fs::set_permissions(served.path().join("folder"), fs::Permissions::from_mode(0o666)).unwrap();
            // Root may search whatever it likes: suite::verbs has a server that is somebody else.
            if !rustix::process::geteuid().is_root() {
                assert_eq!(root.enter(&at(b"/link")), Err(VfsError::Denied), "{:?}", root.confinement());
            }
            fs::set_permissions(served.path().join("folder"), fs::Permissions::from_mode(0o755)).unwrap();
        }
    }

    #[test]
    fn what_would_block_is_refused_at_once() {
        let served = tempfile::tempdir().unwrap();
        let fifo = served.path().join("fifo");
        mknodat(CWD, &fifo, FileType::Fifo, Mode::from_raw_mode(0o666), 0).unwrap();
        let _socket = UnixListener::bind(served.path().join("socket")).unwrap();
        for root in roots(served.path()) {
            let (sender, receiver) = mpsc::channel();
            std::thread::spawn(move || {
                let errors = ["/fifo", "/socket"].map(|path| open_error(&root, path));
                sender.send(errors).unwrap();
            });
            let errors = receiver.recv_timeout(Duration::from_secs(5)).expect("it blocked");
            assert_eq!(errors, [Some(VfsError::NotAFile); 2]);
        }
        for root in roots(Path::new("/dev")) {
            assert_eq!(open_error(&root, "/null"), Some(VfsError::NotAFile));
            assert_eq!(root.status(&at(b"/null")).unwrap().kind, Kind::Other);
        }
    }

    #[test]
    fn links_mean_inside_the_root() {
        let outer = tempfile::tempdir().unwrap();
        let served = outer.path().join("served");
        fs::create_dir_all(served.join("folder/etc")).unwrap();
        fs::create_dir(served.join("etc")).unwrap();
        fs::write(served.join("etc/passwd"), "inside").unwrap();
        fs::write(outer.path().join("secret"), "outside").unwrap();
        let absolute_secret = outer.path().join("secret");
        let folder = served.join("folder");
        for (name, target) in [
            ("absolute", Path::new("/etc/passwd")),
            ("above", Path::new("../../../../etc/passwd")),
            ("escape", Path::new("../../secret")),
            ("direct", absolute_secret.as_path()),
            ("self", Path::new("self")),
            ("ping", Path::new("pong")),
            ("pong", Path::new("ping")),
            ("slash", Path::new("/")),
            ("as-folder", Path::new("/etc/passwd/")),
        ] {
            symlink(target, folder.join(name)).unwrap();
        }
        for root in roots(&served) {
            for path in ["/folder/absolute", "/folder/above", "/folder/slash/etc/passwd"] {
                let open = root.open_file(&at(path.as_bytes())).unwrap();
                assert_eq!(contents(open), "inside", "{path}");
            }
            let errors = ["escape", "direct", "self", "ping", "slash", "as-folder"]
                .map(|name| open_error(&root, &format!("/folder/{name}")));
            let expected = [
                VfsError::Missing,
                VfsError::Missing,
                VfsError::TooManyLinks,
                VfsError::TooManyLinks,
                VfsError::IsFolder,
                VfsError::NotAFolder,
            ];
            assert_eq!(errors, expected.map(Some));
        }
    }

    #[test]
    fn links_are_followed_or_not() {
        let served = tempfile::tempdir().unwrap();
        fs::create_dir(served.path().join("folder")).unwrap();
        fs::write(served.path().join("file"), "content").unwrap();
        symlink("/file", served.path().join("folder/good")).unwrap();
        symlink("nothing", served.path().join("folder/dangling")).unwrap();
        symlink("circle", served.path().join("folder/circle")).unwrap();
        let expected = fs::metadata(served.path().join("file")).unwrap();
        for root in roots(served.path()) {
            let status = root.status(&at(b"/folder/good")).unwrap();
            assert_eq!((status.kind, status.size), (Kind::File, 7));
            assert_eq!((status.device, status.inode), (expected.dev(), expected.ino()));
            assert_eq!(u64::from(status.links), expected.nlink());
            assert_eq!(status.mode, expected.mode() & 0o7777);
            assert_eq!(status.modified, expected.mtime());
            let link = root.link_status(&at(b"/folder/good")).unwrap();
            assert_eq!((link.kind, link.size), (Kind::Link, 5));

            let folder = at(b"/folder");
            assert_eq!(root.follow(&folder, b"good"), Ok(Some(status)));
            assert_eq!(root.follow(&folder, b"dangling"), Ok(None));
            assert_eq!(root.follow(&folder, b"circle"), Ok(None));
            assert_eq!(root.follow(&at(b"/"), b"file"), Ok(Some(status)));
            assert_eq!(root.follow(&folder, b"../file"), Err(VfsError::Missing));
        }
    }

    #[test]
    fn long_and_odd_names_are_found() {
        let served = tempfile::tempdir().unwrap();
        let long = vec![b'n'; 255];
        let deep = [long.as_slice(); 15].join(&b'/');
        let deep = [deep.as_slice(), &[b'e'; 4_000 - 15 * 256 - 1]].join(&b'/');
        let on_disk = |name: &[u8]| served.path().join(std::ffi::OsStr::from_bytes(name));
        fs::create_dir_all(on_disk(&deep).parent().unwrap()).unwrap();
        let names: [&[u8]; 4] = [&deep, b"new\nline", b"\xff\xfe invalid", &[b'x'; 255]];
        for name in names {
            fs::write(on_disk(name), "content").unwrap();
        }
        for root in roots(served.path()) {
            for name in names {
                let open = root.open_file(&at(name)).unwrap();
                assert_eq!(contents(open), "content");
            }
            for name in [vec![b'x'; 256], b"x/".repeat(2048)] {
                let error = root.open_confined(&name, OFlags::PATH).unwrap_err();
                assert_eq!(VfsError::from(error), VfsError::NameTooLong);
            }
        }
    }

    #[test]
    fn an_unreadable_file_is_denied_but_has_a_status() {
        let served = tempfile::tempdir().unwrap();
        let file = served.path().join("file");
        fs::write(&file, "secret").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o000)).unwrap();
        for root in roots(served.path()) {
            assert_eq!(root.status(&at(b"/file")).unwrap().size, 6);
            if !rustix::process::geteuid().is_root() {
                assert_eq!(open_error(&root, "/file"), Some(VfsError::Denied));
            }
        }
    }

    #[test]
    fn descriptors_are_not_inherited() {
        let served = tempfile::tempdir().unwrap();
        fs::write(served.path().join("file"), "").unwrap();
        for root in roots(served.path()) {
            let file = root.open_file(&at(b"/file")).unwrap().file;
            for descriptor in [root.folder.as_fd(), file.as_fd()] {
                let flags = rustix::io::fcntl_getfd(descriptor).unwrap();
                assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
            }
        }
    }
}
