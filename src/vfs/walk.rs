//! Confinement in user space, for a kernel without openat2(2): a pathname is walked from the root one
//! name at a time, and links are read and expanded here.
//!
//! Never gives the kernel a `..`, a slash or a link to follow, so no exchange of names under the walk
//! can lead it out of the root. Holds at most two descriptors, uses no recursion, and both its memory
//! and its steps are bounded. Differs from the kernel only in that a link in `/proc` is taken by its
//! text, and where [`STEPS_MAX`] or [`TEXT_MAX`] end it.

use super::Status;
use crate::limits::{LINKS_MAX, PATH_MAX};
use crate::proto::listing::Kind;
use rustix::buffer::spare_capacity;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags, openat, readlinkat_raw};
use rustix::io::Errno;

/// Names opened for one pathname. `..` in a link costs a new walk to the parent, so a crafted link with
/// hundreds of them in a deep folder would cost minutes; this many names cost some 20 ms.
const STEPS_MAX: usize = 16_384;

/// Bytes of a pathname while its links are being expanded: one of full length and one link's target.
const TEXT_MAX: usize = 2 * PATH_MAX;

/// What is opened on the way.
const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Opens `path` below `root`, as openat2(2) with RESOLVE_IN_ROOT would. EAGAIN means that the tree
/// changed under the walk.
pub(super) fn open(root: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    if path.len() >= PATH_MAX {
        return Err(Errno::NAMETOOLONG);
    }
    let mut place = Place::at(root);
    let mut pending = path.to_vec();
    let mut done = 0;
    let mut links = 0;
    loop {
        let Some(step) = Step::first(pending.get(done..).unwrap_or_default()) else {
            return place.open(b".", flags);
        };
        let found = match step.name {
            b"." | b".." if step.is_last() => {
                place.turn(step.name)?;
                return place.open(b".", flags);
            }
            b"." | b".." => place.turn(step.name)?,
            name if step.is_last() => place.open_last(name, flags, step.wants_folder())?,
            name => place.enter(name)?,
        };
        match found {
            Found::Opened(descriptor) => return Ok(descriptor),
            Found::Entered => done = pending.len() - step.rest.len(),
            Found::Link if links == LINKS_MAX => return Err(Errno::LOOP),
            Found::Link => {
                links += 1;
                pending = place.expand(&step)?;
                done = 0;
            }
        }
    }
}

/// What a name turned out to be.
enum Found {
    /// The end of the pathname.
    Opened(OwnedFd),
    /// A folder on the way: the walk is in it now.
    Entered,
    /// A link, which has to be expanded.
    Link,
}

/// The first name of a pathname, and what follows it: nothing, or a slash and more.
struct Step<'a> {
    name: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Step<'a> {
    fn first(path: &'a [u8]) -> Option<Self> {
        let start = path.iter().position(|byte| *byte != b'/')?;
        let (_, path) = path.split_at(start);
        let end = memchr::memchr(b'/', path).unwrap_or(path.len());
        let (name, rest) = path.split_at(end);
        Some(Self { name, rest })
    }

    fn is_last(&self) -> bool {
        self.rest.iter().all(|byte| *byte == b'/')
    }

    /// A slash at the end asks for a folder.
    fn wants_folder(&self) -> bool {
        !self.rest.is_empty()
    }
}

/// Where the walk is.
struct Place<'a> {
    root: BorrowedFd<'a>,
    /// The folder reached; `None` is the root.
    folder: Option<OwnedFd>,
    /// The names that led to it, none of which was a link, each with a slash after it.
    names: Vec<u8>,
    steps: usize,
}

impl<'a> Place<'a> {
    fn at(root: BorrowedFd<'a>) -> Self {
        Self { root, folder: None, names: Vec::new(), steps: 0 }
    }

    fn folder(&self) -> BorrowedFd<'_> {
        self.folder.as_ref().map_or(self.root, AsFd::as_fd)
    }

    /// Opens one name in the folder reached. The only system call that opens, and never one that
    /// follows a link.
    fn open(&mut self, name: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        self.steps += 1;
        if self.steps > STEPS_MAX {
            return Err(Errno::LOOP);
        }
        openat(self.folder(), name, flags | OFlags::NOFOLLOW, Mode::empty())
    }

    fn open_last(&mut self, name: &[u8], flags: OFlags, folder: bool) -> Result<Found, Errno> {
        let wanted = if folder { flags | OFlags::DIRECTORY } else { flags };
        match self.open(name, wanted) {
            Ok(descriptor) if wanted.contains(OFlags::NOFOLLOW) => Ok(Found::Opened(descriptor)),
            // O_PATH with O_NOFOLLOW opens the link itself.
            Ok(descriptor) if wanted.contains(OFlags::PATH) && is_link(&descriptor)? => Ok(Found::Link),
            Ok(descriptor) => Ok(Found::Opened(descriptor)),
            Err(errno) => self.link_or(name, errno),
        }
    }

    fn enter(&mut self, name: &[u8]) -> Result<Found, Errno> {
        match self.open(name, FOLDER) {
            Ok(descriptor) => {
                if self.names.len() + name.len() >= TEXT_MAX {
                    return Err(Errno::NAMETOOLONG);
                }
                self.folder = Some(descriptor);
                self.names.extend_from_slice(name);
                self.names.push(b'/');
                Ok(Found::Entered)
            }
            Err(errno) => self.link_or(name, errno),
        }
    }

    /// A link that was not to be followed is reported as ELOOP, or as ENOTDIR where a folder was asked
    /// for; the same errors have other causes.
    fn link_or(&self, name: &[u8], errno: Errno) -> Result<Found, Errno> {
        if !matches!(errno, Errno::LOOP | Errno::NOTDIR) {
            return Err(errno);
        }
        match readlinkat_raw(self.folder(), name, &mut [0_u8; 1]) {
            Ok(_) => Ok(Found::Link),
            Err(Errno::INVAL) => Err(errno),
            Err(errno) => Err(errno),
        }
    }

    /// Goes nowhere for `.` and to the parent for `..`, which at the root is the root.
    fn turn(&mut self, name: &[u8]) -> Result<Found, Errno> {
        // The kernel asks for the right to search a folder before it looks at either.
        self.open(b".", FOLDER)?;
        if name == b".." {
            self.names.pop();
            let parent = memchr::memrchr(b'/', &self.names).map_or(0, |slash| slash + 1);
            self.names.truncate(parent);
            self.return_to_names()?;
        }
        Ok(Found::Entered)
    }

    /// Walks from the root to the folder that `names` tells. The kernel is not asked for a `..`
    /// because the folder may have been moved out of the root in the meantime.
    fn return_to_names(&mut self) -> Result<(), Errno> {
        self.folder = None;
        let names = std::mem::take(&mut self.names);
        for name in names.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            let folder = self.open(name, FOLDER).map_err(|errno| match errno {
                Errno::NOENT | Errno::NOTDIR => Errno::AGAIN,
                errno => errno,
            })?;
            self.folder = Some(folder);
        }
        self.names = names;
        Ok(())
    }

    /// The pathname that is left once the link has been replaced by its target.
    fn expand(&mut self, step: &Step<'_>) -> Result<Vec<u8>, Errno> {
        let mut text = Vec::with_capacity(PATH_MAX + step.rest.len());
        let length = readlinkat_raw(self.folder(), step.name, spare_capacity(&mut text))
            // It was a link a moment ago.
            .map_err(|errno| if errno == Errno::INVAL { Errno::AGAIN } else { errno })?;
        if length == 0 {
            return Err(Errno::NOENT);
        }
        if length >= PATH_MAX || length + step.rest.len() > TEXT_MAX {
            return Err(Errno::NAMETOOLONG);
        }
        if text.starts_with(b"/") {
            self.folder = None;
            self.names.clear();
        }
        text.extend_from_slice(step.rest);
        Ok(text)
    }
}

fn is_link(descriptor: &OwnedFd) -> Result<bool, Errno> {
    Ok(Status::of(descriptor.as_fd())?.kind == Kind::Link)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfs::tests::{at, contents, roots};
    use crate::vfs::{Confinement, Root, VfsError};
    use proptest::prelude::*;
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::time::{Duration, Instant};

    const NAMES: [&str; 3] = ["a", "b", "c"];

    #[derive(Debug, Clone)]
    enum Node {
        File,
        Folder,
        Link(String),
    }

    fn node() -> impl Strategy<Value = Node> {
        let part = prop::sample::select(vec!["a", "b", "c", "a", "b", "..", "..", ".", ""]);
        let target =
            (any::<bool>(), prop::collection::vec(part, 1..5), any::<bool>()).prop_map(|(absolute, parts, slash)| {
                let head = if absolute { "/" } else { "" };
                let tail = if slash { "/" } else { "" };
                format!("{head}{}{tail}", parts.join("/"))
            });
        prop_oneof![
            1 => Just(Node::File),
            2 => Just(Node::Folder),
            4 => target.prop_map(|text| if text.is_empty() { Node::Folder } else { Node::Link(text) }),
        ]
    }

    fn names() -> impl Strategy<Value = Vec<&'static str>> {
        prop::collection::vec(prop::sample::select(NAMES.to_vec()), 1..4)
    }

    /// Makes a node, but only where every parent is a real folder: nothing may be made through a link.
    fn make(root: &Path, names: &[&str], node: &Node) {
        let (last, parents) = names.split_last().unwrap();
        let mut place = root.to_owned();
        for parent in parents {
            place.push(parent);
            match fs::symlink_metadata(&place) {
                Err(_) => fs::create_dir(&place).unwrap(),
                Ok(found) if found.is_dir() => {}
                Ok(_) => return,
            }
        }
        place.push(last);
        // What is there already stays.
        let _ = match node {
            Node::File => fs::File::create_new(place).map(drop),
            Node::Folder => fs::create_dir(place),
            Node::Link(target) => symlink(target, place),
        };
    }

    fn answers(root: &Root, path: &str) -> [Result<(u64, u64), VfsError>; 5] {
        let path = at(path.as_bytes());
        [
            root.status(&path).map(|found| (found.device, found.inode)),
            root.link_status(&path).map(|found| (found.device, found.inode)),
            root.enter(&path).map(|()| (0, 0)),
            root.open_file(&path).map(|found| (found.length, 0)),
            root.open_folder(&path).and_then(|folder| folder.status(b".")).map(|found| (found.device, found.inode)),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn the_walk_finds_what_the_kernel_finds(
            tree in prop::collection::vec((names(), node()), 1..16),
            paths in prop::collection::vec(names(), 24),
        ) {
            let served = tempfile::tempdir().unwrap();
            for (names, node) in &tree {
                make(served.path(), names, node);
            }
            let kernel = Root::open(served.path()).unwrap();
            let walk = Root::open_walking(served.path()).unwrap();
            if kernel.confinement() == Confinement::Kernel {
                for path in ["/".to_owned()].into_iter().chain(paths.iter().map(|p| p.join("/"))) {
                    prop_assert_eq!(answers(&kernel, &path), answers(&walk, &path), "{}", path);
                }
            }
        }
    }

    /// Exchanges two names without end while `path` is opened 20,000 times, and until it was both found
    /// and raced against; the deadline is for a machine on which one of the threads does not run.
    fn race(root: &Root, served: &Path, swapped: (&str, &str), path: &[u8]) -> usize {
        let (one, other) = (served.join(swapped.0), served.join(swapped.1));
        let path = at(path);
        let stop = AtomicBool::new(false);
        let exchanges = AtomicUsize::new(0);
        let deadline = Instant::now() + Duration::from_secs(60);
        let (mut tries, mut found, mut escaped) = (0, 0, 0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).unwrap();
                    exchanges.fetch_add(1, Ordering::Relaxed);
                }
            });
            let enough =
                |tries: usize, found: usize| tries >= 20_000 && found > 0 && exchanges.load(Ordering::Relaxed) > 1_000;
            while !enough(tries, found) && Instant::now() < deadline {
                tries += 1;
                match root.open_file(&path) {
                    Ok(open) if open.length == 6 => found += 1,
                    Ok(_) => escaped += 1,
                    Err(_) => {}
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
        assert_eq!(escaped, 0, "of {tries} tries, {:?}", root.confinement());
        found
    }

    /// A file of six bytes inside the root, one of eight outside, and links that lead there.
    fn tree_with_traps(outer: &Path) -> std::path::PathBuf {
        let (served, outside) = (outer.join("served"), outer.join("outside"));
        fs::create_dir_all(served.join("deep/real")).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(served.join("deep/real/file"), "inside").unwrap();
        fs::write(outside.join("file"), "outside!").unwrap();
        symlink(&outside, served.join("deep/absolute")).unwrap();
        symlink("../../outside", served.join("deep/relative")).unwrap();
        symlink(outside.join("file"), served.join("deep/real/link")).unwrap();
        symlink("real/../real", served.join("deep/through")).unwrap();
        served
    }

    #[test]
    fn links_swapped_while_they_are_opened_lead_nowhere() {
        let cases = [
            ("deep/real", "deep/absolute", "/deep/real/file"),
            ("deep/real", "deep/relative", "/deep/real/file"),
            ("deep/real/file", "deep/real/link", "/deep/real/file"),
            ("deep/real", "deep/relative", "/deep/through/file"),
        ];
        for (one, other, path) in cases {
            let outer = tempfile::tempdir().unwrap();
            let served = tree_with_traps(outer.path());
            for root in roots(&served) {
                let found = race(&root, &served, (one, other), path.as_bytes());
                assert!(found > 0, "{:?} never found {path}", root.confinement());
            }
        }
    }

    // The folder in which the walk stands is moved out of the root; its `..` is then outside.
    #[test]
    fn a_folder_moved_out_of_the_root_does_not_take_the_walk_along() {
        let outer = tempfile::tempdir().unwrap();
        let served = outer.path().join("served");
        fs::create_dir_all(served.join("deep/moved")).unwrap();
        fs::create_dir(outer.path().join("other")).unwrap();
        fs::write(served.join("deep/file"), "inside").unwrap();
        fs::write(outer.path().join("file"), "outside!").unwrap();
        symlink("moved/../file", served.join("deep/link")).unwrap();
        for root in roots(&served) {
            let swapped = ("deep/moved", "../other");
            let found = race(&root, &served, swapped, b"/deep/link");
            assert!(found > 0, "{:?} never found the file", root.confinement());
        }
    }

    #[test]
    fn forty_links_are_followed_and_one_more_is_not() {
        let served = tempfile::tempdir().unwrap();
        fs::write(served.path().join("0"), "end").unwrap();
        for number in 1..=LINKS_MAX + 1 {
            symlink((number - 1).to_string(), served.path().join(number.to_string())).unwrap();
        }
        for root in roots(served.path()) {
            let found = root.open_file(&at(format!("/{LINKS_MAX}").as_bytes())).unwrap();
            assert_eq!(contents(found), "end");
            let found = root.open_file(&at(format!("/{}", LINKS_MAX + 1).as_bytes()));
            assert_eq!(found.err(), Some(VfsError::TooManyLinks));
        }
    }

    #[test]
    fn a_folder_that_may_not_be_searched_stops_a_link_through_it() {
        let served = tempfile::tempdir().unwrap();
        let closed = served.path().join("closed");
        fs::create_dir(&closed).unwrap();
        fs::write(served.path().join("file"), "content").unwrap();
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o600)).unwrap();
        symlink("closed/../file", served.path().join("through")).unwrap();
        symlink("closed/.", served.path().join("dot")).unwrap();
        symlink("closed/", served.path().join("slash")).unwrap();
        if rustix::process::geteuid().is_root() {
            return;
        }
        for root in roots(served.path()) {
            let found = ["/through", "/dot"].map(|path| root.status(&at(path.as_bytes())).err());
            assert_eq!(found, [Some(VfsError::Denied); 2], "{:?}", root.confinement());
            assert!(root.status(&at(b"/slash")).is_ok(), "{:?}", root.confinement());
        }
    }

    #[test]
    fn a_crafted_link_ends_the_walk() {
        let served = tempfile::tempdir().unwrap();
        let deep = "d/".repeat(900);
        fs::create_dir_all(served.path().join(&deep)).unwrap();
        let target = Path::new(&deep).join("d/../".repeat(400));
        symlink(target, served.path().join("link")).unwrap();
        // One more folder, made from inside because its full name may be too long.
        fs::create_dir(served.path().join(&deep).join("d")).unwrap();

        let root = Root::open_walking(served.path()).unwrap();
        let outcome = root.status(&at(b"/link"));
        assert_eq!(outcome.err(), Some(VfsError::TooManyLinks));
    }

    #[test]
    fn links_that_grow_do_not_fill_memory() {
        let served = tempfile::tempdir().unwrap();
        let target = format!("grow/{}", "x/".repeat(2000));
        symlink(target, served.path().join("grow")).unwrap();
        let path = at(b"/grow");
        for root in roots(served.path()) {
            let error = root.status(&path).unwrap_err();
            match root.confinement() {
                Confinement::Kernel => assert_eq!(error, VfsError::TooManyLinks),
                Confinement::Walk => assert_eq!(error, VfsError::NameTooLong),
            }
        }
    }

    #[test]
    fn a_name_is_never_given_on_with_a_slash() {
        let step = Step::first(b"//a//b").unwrap();
        assert_eq!((step.name, step.rest), (&b"a"[..], &b"//b"[..]));
        let step = Step::first(b"a//").unwrap();
        assert!(step.is_last() && step.wants_folder());
        assert!(Step::first(b"///").is_none());
    }
}
