//! Links and folders that are swapped while somebody opens or changes what they lead to: nothing outside of
//! the root is ever seen or touched. `scripts/race-links` runs this a million times, in both confinements.

use crate::server::{Server, eventually};
use plimsoll::proto::listing::Kind;
use plimsoll::proto::pathname::VirtualPath;
use plimsoll::vfs::{Confinement, Existing, Offset, ReadBuffer, Root, Status, VfsError};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::collections::HashSet;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// Openings in all, without `PLIMSOLL_RACE_TRIES`.
const TRIES: usize = 8_000;

/// Downloads through a real server, for each so many openings.
const OPENINGS_PER_DOWNLOAD: usize = 50;

/// Changes of the tree, for each so many openings: a change costs some ten times as much.
const OPENINGS_PER_CHANGE: usize = 10;

/// For one case; a machine on which this is not enough runs no race.
const PATIENCE: Duration = Duration::from_secs(900);

const INSIDE: &[u8] = b"inside";
const OUTSIDE: &[u8] = b"outside!";

/// A name that only a folder outside has.
const MARK: &[u8] = b"only-outside";

/// What is changed without end, and the pathname that is opened meanwhile.
struct Case {
    swap: Swap,
    path: &'static str,
}

#[derive(Clone, Copy)]
enum Swap {
    /// Two names are exchanged at once.
    Exchange(&'static str, &'static str),
    /// A link is put in the place of another, which leads elsewhere: by a rename, or unlinked first.
    Retarget(&'static str, [&'static str; 2]),
}

const CASES: [Case; 8] = [
    case(Swap::Exchange("deep/real", "deep/absolute"), "/deep/real/file"),
    case(Swap::Exchange("deep/real", "deep/relative"), "/deep/real/file"),
    case(Swap::Exchange("deep/real/file", "deep/real/link"), "/deep/real/file"),
    // A `..` in a link, behind a folder that is swapped.
    case(Swap::Exchange("deep/real", "deep/relative"), "/deep/through/file"),
    // The folder in which the walk stands leaves the root: its `..` is outside then.
    case(Swap::Exchange("deep/moved", "../other"), "/deep/back"),
    case(Swap::Exchange("deep", "evil"), "/deep/real/file"),
    case(Swap::Retarget("deep/flip", ["real/file", "../../outside/file"]), "/deep/flip"),
    case(Swap::Retarget("deep/turn", ["real", "../../outside"]), "/deep/turn/file"),
];

const fn case(swap: Swap, path: &'static str) -> Case {
    Case { swap, path }
}

/// What is served and what is not, in one temporary folder.
struct Tree {
    folder: tempfile::TempDir,
    served: PathBuf,
    /// Device and inode of everything outside that stays there.
    outside: HashSet<(u64, u64)>,
}

impl Tree {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let outer = folder.path();
        let served = outer.join("served");
        let link = |target: &Path, name: &str| symlink(target, served.join(name)).unwrap();
        for name in ["served/deep/real", "served/deep/moved", "outside/real", "other"] {
            fs::create_dir_all(outer.join(name)).unwrap();
        }
        for name in ["deep/real/file", "deep/file"] {
            fs::write(served.join(name), INSIDE).unwrap();
        }
        let secrets = ["outside/file", "outside/real/file", "file", "secret"];
        for name in secrets {
            fs::write(outer.join(name), OUTSIDE).unwrap();
        }
        let mark = str::from_utf8(MARK).unwrap();
        for name in ["outside", "outside/real", "."] {
            fs::write(outer.join(name).join(mark), OUTSIDE).unwrap();
        }
        link(&outer.join("outside"), "deep/absolute");
        link(Path::new("../../outside"), "deep/relative");
        link(&outer.join("outside/file"), "deep/real/link");
        link(Path::new("real/../real"), "deep/through");
        link(Path::new("moved/../file"), "deep/back");
        link(Path::new("../outside"), "evil");
        link(Path::new("real/file"), "deep/flip");
        link(Path::new("real"), "deep/turn");
        let outside = secrets
            .into_iter()
            .chain(["outside", "outside/real", "."])
            .map(|name| fs::metadata(outer.join(name)).unwrap())
            .map(|found| (found.dev(), found.ino()))
            .collect();
        Tree { served, outside, folder }
    }

    /// Everything outside that a change could have left a trace in: name, mode, time and content.
    fn outside(&self) -> Vec<Trace> {
        let outer = self.folder.path();
        let mut seen = Vec::new();
        for folder in ["", "outside", "outside/real", "other"] {
            let mut names: Vec<PathBuf> =
                fs::read_dir(outer.join(folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
            names.sort();
            for path in names.into_iter().filter(|path| *path != self.served && *path != outer.join("new")) {
                let found = fs::symlink_metadata(&path).unwrap();
                // That one is swapped itself.
                let time = if path.ends_with("other") { (0, 0) } else { (found.mtime(), found.mtime_nsec()) };
                seen.push((path.clone(), found.mode(), time, fs::read(&path).unwrap_or_default()));
            }
        }
        seen
    }

    /// Changes the tree until `stop`, and counts how often.
    fn swap(&self, swap: Swap, stop: &AtomicBool, swaps: &AtomicUsize) {
        let mut number = 0;
        while !stop.load(SeqCst) {
            match swap {
                Swap::Exchange(one, other) => {
                    let (one, other) = (self.served.join(one), self.served.join(other));
                    renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).unwrap();
                }
                Swap::Retarget(name, targets) => {
                    let name = self.served.join(name);
                    let target = targets[number % 2];
                    if number % 4 < 2 {
                        let new = self.folder.path().join("new");
                        symlink(target, &new).unwrap();
                        fs::rename(&new, &name).unwrap();
                    } else {
                        fs::remove_file(&name).unwrap();
                        // Whoever writes to a file that is missing makes it.
                        let made = symlink(target, &name);
                        assert!(made.is_ok() || fs::symlink_metadata(&name).unwrap().is_file(), "{name:?}");
                    }
                }
            }
            number += 1;
            swaps.fetch_add(1, SeqCst);
        }
        // The next case finds the tree as it was.
        if let (Swap::Exchange(one, other), 1) = (swap, number % 2) {
            let (one, other) = (self.served.join(one), self.served.join(other));
            renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).unwrap();
        }
    }
}

type Trace = (PathBuf, u32, (i64, i64), Vec<u8>);

#[derive(Default)]
struct Tally {
    tries: usize,
    found: usize,
    escapes: usize,
    swaps: usize,
}

impl Tally {
    fn add(&mut self, other: &Tally) {
        self.tries += other.tries;
        self.found += other.found;
        self.escapes += other.escapes;
        self.swaps += other.swaps;
    }

    fn tell(&self, what: &str, begun: Instant) {
        let Tally { tries, found, escapes, swaps } = self;
        let seconds = begun.elapsed().as_secs_f32();
        println!("{what}: {tries} tries, {found} found, {swaps} swaps, {escapes} escapes, {seconds:.1} s");
    }
}

fn tries() -> usize {
    match std::env::var("PLIMSOLL_RACE_TRIES") {
        Ok(tries) => tries.parse().expect("PLIMSOLL_RACE_TRIES is a number"),
        Err(_) => TRIES,
    }
}

/// Runs `attempt` while the case's swaps go on: often enough, and until it was both found and raced.
/// `attempt` tells what it saw: `Some(true)` is what lies inside, `Some(false)` an escape.
fn race(tree: &Tree, case: &Case, tries: usize, attempt: &mut dyn FnMut(usize) -> Option<bool>) -> Tally {
    let (stop, swaps) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut tally = Tally::default();
    std::thread::scope(|scope| {
        // A failed assertion must stop the swaps, too.
        let stopping = Stopping(&stop);
        scope.spawn(|| tree.swap(case.swap, &stop, &swaps));
        let deadline = Instant::now() + PATIENCE;
        while tally.tries < tries || tally.found == 0 || swaps.load(SeqCst) < tries / 100 {
            assert!(Instant::now() < deadline, "{}: {} found", case.path, tally.found);
            match attempt(tally.tries) {
                Some(true) => tally.found += 1,
                Some(false) => tally.escapes += 1,
                None => {}
            }
            tally.tries += 1;
        }
        drop(stopping);
    });
    tally.swaps = swaps.load(SeqCst);
    tally
}

struct Stopping<'a>(&'a AtomicBool);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// Each kind of access in turn. What is opened is judged by its inode, and a file by its content, too.
fn open(root: &Root, tree: &Tree, case: &Case, buffer: &mut ReadBuffer, number: usize) -> Option<bool> {
    let path = VirtualPath::root().join(case.path.as_bytes()).unwrap();
    let inside = |status: &Status| !tree.outside.contains(&(status.device, status.inode));
    match number % 8 {
        0 => Some(inside(&root.status(&path).ok()?)),
        1 => Some(inside(&root.link_status(&path).ok()?)),
        2 => {
            let folder = root.open_folder(&path.parent()).ok()?;
            let mut escaped = !inside(&folder.status(b".").ok()?);
            let mut entries = folder.entries(buffer).ok()?;
            while let Ok(Some(name)) = entries.next_name() {
                escaped |= name == MARK;
            }
            Some(!escaped)
        }
        3 => {
            let status = root.follow(&path.parent(), path.file_name()?).ok()??;
            (status.kind == Kind::File).then(|| inside(&status))
        }
        _ => {
            let mut open = root.open_file(&path).ok()?;
            let found = open.file.metadata().unwrap();
            let mut content = Vec::new();
            open.file.read_to_end(&mut content).unwrap();
            Some(content == INSIDE && !tree.outside.contains(&(found.dev(), found.ino())))
        }
    }
}

/// Each kind of change in turn, in the folder of the case's pathname or of the file that it leads to.
fn change(root: &Root, case: &Case, number: usize) -> Result<(), VfsError> {
    let path = VirtualPath::root().join(case.path.as_bytes()).unwrap();
    let beside = |name: &str| path.parent().join(name.as_bytes()).unwrap();
    let write = |name: &str, existing| {
        let mut upload = root.upload(&beside(name), existing, 0o644)?;
        upload.write(INSIDE)?;
        upload.commit(false).map(drop)
    };
    match number % 8 {
        0 | 4 => write("written", Existing::Replace),
        1 => root.remove_file(&beside("written")).map(drop),
        2 => {
            root.make_folder(&beside("made"), 0o755)?;
            root.remove_folder(&beside("made"))
        }
        3 => {
            let mut upload = root.change(&path, Offset::At(0), 0o644)?;
            upload.write(INSIDE)?;
            upload.commit(false).map(drop)
        }
        5 => root.rename(&beside("written"), &beside("moved-on"), true).map(drop),
        6 => root.set_mode(&path, 0o611),
        _ => root.set_modified(&path, 611),
    }
}

#[test]
fn swapped_links_take_no_change_out_of_the_root() {
    let begun = Instant::now();
    let tree = Tree::new();
    let root = Root::open(&tree.served).unwrap();
    let before = tree.outside();
    let mut total = Tally::default();
    let each = (tries() / OPENINGS_PER_CHANGE).div_ceil(CASES.len());
    for case in &CASES {
        let mut tally = race(&tree, case, each, &mut |number| change(&root, case, number).is_ok().then_some(true));
        tally.escapes = usize::from(tree.outside() != before);
        total.add(&tally);
    }
    total.tell(&format!("race-links: changes, {:?}", root.confinement()), begun);
    assert_eq!(tree.outside(), before);
    assert_eq!(total.escapes, 0);
}

/// What the test would call an escape of a change is one.
#[test]
fn a_change_outside_would_be_seen() {
    for number in [0, 2, 3, 5, 6, 7] {
        let tree = Tree::new();
        let root = Root::open(tree.folder.path()).unwrap();
        let case = case(CASES[0].swap, "/outside/file");
        let before = tree.outside();
        if number == 5 {
            change(&root, &case, 0).unwrap();
        }
        change(&root, &case, number).unwrap();
        assert_ne!(tree.outside(), before, "{number}");
    }
}

#[test]
fn swapped_links_lead_nowhere() {
    let begun = Instant::now();
    let tree = Tree::new();
    let root = Root::open(&tree.served).unwrap();
    let confinement = root.confinement();
    if let Ok(expected) = std::env::var("PLIMSOLL_RACE_CONFINEMENT") {
        assert_eq!(format!("{confinement:?}"), expected);
    }
    let mut buffer = ReadBuffer::new();
    let mut total = Tally::default();
    for case in &CASES {
        let tally = race(&tree, case, tries().div_ceil(CASES.len()), &mut |number| {
            open(&root, &tree, case, &mut buffer, number)
        });
        total.add(&tally);
    }
    total.tell(&format!("race-links: openings, {confinement:?}"), begun);
    assert_eq!(total.escapes, 0);
}

/// The test's own eyes: what it would call an escape is one.
#[test]
fn an_escape_would_be_seen() {
    let tree = Tree::new();
    let root = Root::open(tree.folder.path()).unwrap();
    assert!(matches!(root.confinement(), Confinement::Kernel | Confinement::Walk));
    let mut buffer = ReadBuffer::new();
    let case = case(CASES[0].swap, "/outside/file");
    for number in 0..8 {
        assert_eq!(open(&root, &tree, &case, &mut buffer, number), Some(false), "{number}");
    }
}

#[test]
fn swapped_links_lead_nowhere_through_the_server() {
    let begun = Instant::now();
    let tree = Tree::new();
    let server = Server::start(&tree.served, &["--log", "warn"]);
    let mut total = Tally::default();
    let each = (tries() / OPENINGS_PER_DOWNLOAD).div_ceil(CASES.len());
    for case in &CASES {
        let mut client = server.login();
        let folder = case.path.rsplit_once('/').unwrap().0;
        let commands = [format!("RETR {}", case.path), format!("LIST {folder}"), format!("MLSD {folder}")];
        let tally = race(&tree, case, each, &mut |number| {
            let command = &commands[[0, 0, 1, 0, 0, 2][number % 6]];
            let mut data = client.passive(true);
            let reply = client.command(command);
            if !reply.starts_with("150 ") {
                assert!(reply.starts_with("550 ") || reply.starts_with("450 ") || reply.starts_with("501 "), "{reply}");
                return None;
            }
            let mut bytes = Vec::new();
            data.read_to_end(&mut bytes).unwrap();
            drop(data);
            let reply = client.reply();
            assert!(reply.starts_with("226 "), "{reply}");
            Some(if command.starts_with("RETR") {
                bytes == INSIDE
            } else {
                memchr::memmem::find(&bytes, MARK).is_none()
            })
        });
        client.expect("QUIT", "221 ");
        total.add(&tally);
    }
    total.tell("race-links: downloads and listings", begun);
    assert_eq!(total.escapes, 0);
    // Standard streams, root, listener, signals and bells stay; what was opened for a client does not.
    eventually("descriptors of clients to be closed", || server.descriptors() < 32);
}
