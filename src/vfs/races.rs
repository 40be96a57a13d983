//! Links and folders that are swapped while the tree is changed: nothing outside of the root is touched.

use super::tests::{at, names, writing_roots};
use super::{Existing, Offset, Root, VfsError};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Changes of one kind for each root and each pair of names.
const TRIES: usize = 300;

/// What is served, beside what is not; and links in the one that lead to the other.
fn tree() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let outer = tempfile::tempdir().unwrap();
    let (served, outside) = (outer.path().join("served"), outer.path().join("outside"));
    for folder in ["served/deep/real/folder", "outside/folder", "served/aside"] {
        fs::create_dir_all(outer.path().join(folder)).unwrap();
    }
    fs::write(served.join("deep/real/file"), "inside").unwrap();
    fs::write(outside.join("file"), "outside!").unwrap();
    symlink(&outside, served.join("deep/absolute")).unwrap();
    symlink("../../outside", served.join("deep/relative")).unwrap();
    symlink(outside.join("file"), served.join("deep/real/link")).unwrap();
    symlink("../../../outside/file", served.join("deep/real/up")).unwrap();
    (outer, served, outside)
}

/// All that a change could have left: names, contents, modes, times, links.
fn seen(outside: &Path) -> Vec<(PathBuf, u32, i64, i64, u64, Vec<u8>)> {
    let mut seen = Vec::new();
    for path in [outside.to_owned()].into_iter().chain(names(outside).into_iter().map(|name| outside.join(name))) {
        let found = fs::metadata(&path).unwrap();
        let content = fs::read(&path).unwrap_or_default();
        seen.push((path, found.mode(), found.mtime(), found.mtime_nsec(), found.nlink(), content));
    }
    seen
}

/// Every kind of change, at the names in one folder. Tells whether the change was made.
type Change = fn(&Root, usize) -> Result<(), VfsError>;

const CHANGES: [(&str, Change); 8] = [
    ("upload", |root, number| {
        let existing = [Existing::Replace, Existing::Rename][number % 2];
        let mut upload = root.upload(&at(b"/deep/real/file"), existing, 0o644)?;
        upload.write(b"inside")?;
        let path = upload.commit(false)?.path;
        if path == at(b"/deep/real/file") { Ok(()) } else { root.remove_file(&path).map(drop) }
    }),
    ("change", |root, number| {
        let offset = [Offset::Append, Offset::At(0)][number % 2];
        let mut upload = root.change(&at(b"/deep/real/file"), offset, 0o644)?;
        upload.write(b"inside")?;
        upload.commit(false).map(drop)
    }),
    ("make and remove", |root, _| {
        let path = at(b"/deep/real/file");
        match root.remove_file(&path) {
            Ok(_) | Err(VfsError::Missing) => root.upload(&path, Existing::Refuse, 0o644)?.commit(false).map(drop),
            Err(error) => Err(error),
        }
    }),
    ("folders", |root, number| {
        let path = at(format!("/deep/real/new{number}").as_bytes());
        root.make_folder(&path, 0o755)?;
        root.remove_folder(&path)
    }),
    ("old folder", |root, _| {
        let path = at(b"/deep/real/folder");
        match root.remove_folder(&path) {
            Ok(()) | Err(VfsError::Missing) => root.make_folder(&path, 0o755),
            Err(error) => Err(error),
        }
    }),
    ("rename", |root, _| {
        let (path, aside) = (at(b"/deep/real/file"), at(b"/aside/file"));
        // The last try may have ended half-way.
        let _ = root.rename(&aside, &path, true);
        root.rename(&path, &aside, false)?;
        root.rename(&aside, &path, true).map(drop)
    }),
    ("mode", |root, number| root.set_mode(&at(b"/deep/real/file"), [0o600, 0o644][number % 2])),
    ("time", |root, number| root.set_modified(&at(b"/deep/real/file"), [5, 6][number % 2])),
];

/// Exchanges two names without end while the tree is changed, often enough and until it was both changed and
/// raced against. Returns how many changes were made.
fn race(root: &Root, served: &Path, swapped: (&str, &str), change: Change) -> usize {
    let (one, other) = (served.join(swapped.0), served.join(swapped.1));
    let (stop, exchanges) = (AtomicBool::new(false), AtomicUsize::new(0));
    let deadline = Instant::now() + Duration::from_secs(60);
    let (mut tries, mut made) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                // One of them may be missing for a moment, where it is what is changed.
                let _ = renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE);
                exchanges.fetch_add(1, Ordering::Relaxed);
            }
        });
        let raced = |made| made > 0 && exchanges.load(Ordering::Relaxed) > TRIES / 4;
        while (tries < TRIES || !raced(made)) && Instant::now() < deadline {
            made += usize::from(change(root, tries).is_ok());
            tries += 1;
        }
        stop.store(true, Ordering::Relaxed);
    });
    made
}

#[test]
fn links_swapped_while_the_tree_is_changed_lead_nowhere() {
    let pairs = [
        ("deep/real", "deep/absolute"),
        ("deep/real", "deep/relative"),
        ("deep/real/file", "deep/real/link"),
        ("deep/real/file", "deep/real/up"),
    ];
    for (what, change) in CHANGES {
        // Changes of folders have nothing to do with files that are swapped.
        let pairs = if what.contains("folder") { &pairs[..2] } else { &pairs[..] };
        for &swapped in pairs {
            let roots = {
                let (_outer, served, _) = tree();
                writing_roots(&served).len()
            };
            for number in 0..roots {
                let (_outer, served, outside) = tree();
                let root = &writing_roots(&served)[number];
                let before = seen(&outside);
                let made = race(root, &served, swapped, change);
                assert_eq!(seen(&outside), before, "{what}, {swapped:?}, {root:?}");
                assert!(made > 0, "never made: {what}, {swapped:?}, {root:?}");
            }
        }
    }
}

#[test]
fn a_change_outside_would_be_seen() {
    for (what, change) in CHANGES {
        let (outer, served, outside) = tree();
        // What an escape would do: the same change through a root that holds both.
        fs::remove_dir_all(served.join("deep/real")).unwrap();
        symlink("/outside", served.join("deep/real")).unwrap();
        for name in ["deep", "aside"] {
            fs::rename(served.join(name), outer.path().join(name)).unwrap();
        }
        let before = seen(&outside);
        change(&writing_roots(outer.path())[0], 0).unwrap();
        assert_ne!(seen(&outside), before, "{what}");
    }
}
