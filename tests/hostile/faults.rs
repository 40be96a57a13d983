//! Disks that are full, end, or fail: small file systems of the tests' own, and errors that strace(1) injects.

use crate::arena::Arena;
use crate::kernel;
use crate::members::names;
use crate::server::{big, eventually};
use crate::strace::Strace;
use crate::uploads::temporaries;
use crate::{REQUIRE_TOOLS, skip};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::ffi::CString;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

const BOB: &[(&str, &str)] = &[("bob", "write=all")];

/// A small file system in memory; it goes with this value.
struct Disk(PathBuf);

impl Disk {
    /// Mounts one with these options, or says that the test is skipped.
    fn mount(at: PathBuf, options: &str) -> Option<Disk> {
        fs::create_dir(&at).unwrap();
        let options = CString::new(options).unwrap();
        if mount("tmpfs", &at, "tmpfs", MountFlags::empty(), options.as_c_str()).is_err() {
            skip(REQUIRE_TOOLS, "a full disk: this user may not mount a file system");
            return None;
        }
        Some(Disk(at))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

#[test]
fn a_name_is_moved_to_another_device() {
    let arena = Arena::with_users(BOB, &[]);
    let Some(disk) = Disk::mount(arena.root().join("disk"), "size=32m") else { return };
    let mut bob = arena.login_as("bob");
    bob.store("STOR disk/there", b"there");
    for (from, to) in [("a.txt", "disk/a.txt"), ("a.txt", "disk/there"), ("sub", "disk/sub"), ("disk/there", "a.txt")] {
        bob.expect(&format!("RNFR {from}"), "350 ");
        bob.expect(&format!("RNTO {to}"), "550 A name can't be moved to another file system");
    }
    for command in ["RNFR disk", "RNTO moved", "RMD disk"] {
        let reply = bob.command(command);
        assert!(reply.starts_with("350 ") || reply.starts_with("450 ") || reply.starts_with("550 "), "{reply}");
    }
    assert_eq!(names(disk.path()), ["there"]);
    assert_eq!(fs::read(disk.path().join("there")).unwrap(), b"there");
    assert!(arena.root().join("a.txt").exists() && arena.root().join("sub/b.txt").exists());
    drop(bob);
    drop(disk);
    arena.baseline();
}

#[test]
fn the_disk_is_full_in_mid_overwrite() {
    // An upload asks the disk anew after as many bytes as are free above what has to be, or after 64 KiB.
    for (min_free, most) in [("0", 2 << 20), ("512K", (1536 + 64) << 10)] {
        let arena = Arena::with_users(BOB, &["--min-free", min_free]);
        let Some(disk) = Disk::mount(arena.root().join("disk"), "size=2m") else { return };
        fs::write(disk.path().join("old"), "old").unwrap();
        let mut bob = arena.login_as("bob");
        for command in ["STOR disk/old", "STOR disk/new", "STOU disk/new"] {
            let reply = bob.upload(command, &big());
            assert!(reply.starts_with("452 "), "{command}: {reply}");
            assert_eq!(names(disk.path()), ["old"], "{command}");
            assert_eq!(fs::read(disk.path().join("old")).unwrap(), b"old", "{command}");
        }
        // What is appended stays, and is no more than there is room for.
        let reply = bob.upload("APPE disk/old", &big());
        assert!(reply.starts_with("452 "), "{reply}");
        let length = fs::metadata(disk.path().join("old")).unwrap().len();
        assert!(length <= most && length > most / 4, "{length} with {min_free}");
        bob.expect("DELE disk/old", "250 ");
        bob.store("STOR disk/old", b"there is room again");
        drop(bob);
        drop(disk);
        arena.baseline();
    }
}

/// Empty files and folders take no bytes: neither a quota nor what is free of these knows of them.
#[test]
fn files_and_folders_that_hold_nothing_come_without_end() {
    let arena = Arena::with_users(BOB, &["--min-free", "1"]);
    let Some(disk) = Disk::mount(arena.root().join("disk"), "size=16m,nr_inodes=600") else { return };
    let mut bob = arena.login_as("bob");
    let made = (0..600).find(|number| bob.command(&format!("MKD disk/d{number}")).starts_with("452 "));
    let made = made.expect("it is refused before the last");
    assert!((500..600).contains(&made), "{made} folders");
    assert_eq!(names(disk.path()).len(), made);
    bob.refused("STOR disk/file", "452 ");
    bob.refused("STOU disk/file", "452 ");
    assert_eq!(names(disk.path()).len(), made);
    // There is some left for others.
    fs::write(disk.path().join("others"), "").unwrap();
    for number in 0..100 {
        bob.expect(&format!("RMD disk/d{number}"), "250 ");
    }
    let mut store = |number: &usize| {
        let data = bob.passive(true);
        let reply = bob.command(&format!("STOR disk/f{number}"));
        if !reply.starts_with("150 ") {
            return reply;
        }
        drop(data);
        bob.reply()
    };
    let stored = (0..200).find(|number| store(number).starts_with("452 ")).expect("it is refused before the last");
    assert!((90..=110).contains(&stored), "{stored} files");
    drop(bob);
    drop(disk);
    arena.baseline();
}

/// What fails, when for the first time, with what, and the reply.
const FAULTS: [(&str, u32, &str, &str); 14] = [
    ("pwrite64", 1, "ENOSPC", "452 "),
    ("pwrite64", 3, "EDQUOT", "552 "),
    ("pwrite64", 2, "EIO", "451 "),
    ("pwrite64", 1, "EFBIG", "552 "),
    ("fsync", 1, "EIO", "451 "),
    ("fsync", 1, "ENOSPC", "452 "),
    ("fsync", 1, "EDQUOT", "552 "),
    // That of the folder.
    ("fsync", 2, "EIO", "451 "),
    ("renameat2", 1, "EIO", "451 "),
    ("renameat2", 1, "ENOSPC", "452 "),
    ("renameat2", 1, "EDQUOT", "552 "),
    ("linkat", 2, "EIO", "451 "),
    ("linkat", 2, "ENOSPC", "452 "),
    ("fchmod", 1, "EIO", "451 "),
];

#[test]
fn writing_syncing_and_naming_fail() {
    const NEW: usize = 300_000;
    let new = big();
    let arena = Arena::with_users(BOB, &[]);
    let path = arena.root().join("a.txt");
    let workers = kernel::threads(arena.pid(), "worker");
    let notes = arena.root().parent().unwrap().join("notes");
    let traced = "trace=pwrite64,fsync,fdatasync,sync_file_range,renameat2,linkat,fchmod";
    for (call, when, error, expected) in FAULTS {
        fs::write(&path, "old").unwrap();
        let mut bob = arena.login_as("bob");
        let inject = format!("inject={call}:error={error}:when={when}");
        let Some(strace) = Strace::noting(&workers, &[traced, &inject], &notes) else {
            return skip(REQUIRE_TOOLS, "faults of a disk: strace(1) is not there, or may not be used");
        };
        let mut data = bob.begin_upload("STOR a.txt");
        for piece in new[..NEW].chunks(NEW / 4) {
            // Each is written before the next: a fault is not met by chance.
            let _ = data.write_all(piece);
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        drop(data);
        let reply = bob.reply();
        drop(strace);
        let what = format!("{call} {when} {error}");
        assert!(reply.starts_with(expected), "{what}: {reply}");
        let text = fs::read_to_string(&notes).unwrap();
        assert!(text.contains("(INJECTED)"), "{what}: {text}");
        // The last sync comes after the name: the file is there, and still is not acknowledged.
        let left = fs::read(&path).unwrap();
        let expected = if (call, when) == ("fsync", 2) { &new[..NEW] } else { b"old" };
        assert!(left == expected, "{what}: {}", left.len());
        let after = &text[text.find("(INJECTED)").unwrap()..];
        for again in ["fsync(", "fdatasync(", "sync_file_range("] {
            assert!(call != "fsync" || !after.contains(again), "{what}: it was tried again: {text}");
        }
        assert!(call != "fsync" || when > 1 || !after.contains("renameat2("), "{what}: it got its name: {text}");
        eventually("nothing to be left", || temporaries(arena.root()).is_empty());
        bob.store("STOR a.txt", b"the session goes on");
    }
    arena.baseline();
}

/// A client is killed, and of its two connections the kernel ends the control connection long after the data
/// connection; but the disk is slow, and the file has no name yet.
#[test]
fn a_client_is_seen_to_have_left_while_its_file_is_synced() {
    let arena = Arena::with_users(BOB, &["--log", "info"]);
    let path = arena.root().join("a.txt");
    let workers = kernel::threads(arena.pid(), "worker");
    for leaves in [true, false] {
        fs::write(&path, "old").unwrap();
        let mut bob = arena.login_as("bob");
        let slow = ["trace=fsync", "inject=fsync:delay_enter=3000000:when=1"];
        let Some(strace) = Strace::on(&workers, &slow) else {
            return skip(REQUIRE_TOOLS, "a slow disk: strace(1) is not there, or may not be used");
        };
        let mut data = bob.begin_upload("STOR a.txt");
        data.write_all(b"half of it").unwrap();
        drop(data);
        // Longer than the end of the control connection is waited for, and shorter than the disk takes.
        std::thread::sleep(std::time::Duration::from_millis(200));
        if leaves {
            drop(bob);
            eventually("the session to end", || arena.log().contains("/a.txt cut off"));
            assert_eq!(fs::read(&path).unwrap(), b"old");
        } else {
            assert!(bob.reply().starts_with("226 "));
            assert_eq!(fs::read(&path).unwrap(), b"half of it");
        }
        drop(strace);
        eventually("nothing to be left", || temporaries(arena.root()).is_empty());
    }
    arena.baseline();
}
