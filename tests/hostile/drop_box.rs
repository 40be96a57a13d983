//! Strangers who would rather use the drop-box of others to exchange what they like.

use crate::arena::Arena;
use crate::members::names;
use crate::server::{Client, eventually};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

/// What the operator has put there, or another guest.
const FIRST: &[u8] = b"dropped by somebody else";

fn furnished(flags: &[&str]) -> Arena {
    let arena = Arena::with_drop_box(flags);
    let incoming = arena.incoming();
    fs::write(incoming.join("first"), FIRST).unwrap();
    fs::create_dir_all(incoming.join("folder/in")).unwrap();
    fs::write(incoming.join("folder/first"), FIRST).unwrap();
    fs::create_dir(incoming.join(".hidden")).unwrap();
    symlink("first", incoming.join("link")).unwrap();
    symlink("../../root/a.txt", incoming.join("out")).unwrap();
    symlink("..", incoming.join("folder/up")).unwrap();
    arena
}

/// Every way to a name that is there; CWD to a folder in front of it changes nothing.
const WAYS: [&str; 7] = ["first", "/first", "folder/../first", "folder/up/first", "link", "./first", "//first"];

#[test]
fn somebody_overwrites_what_is_in_the_drop_box() {
    let arena = furnished(&[]);
    let mut guest = arena.login();
    for way in WAYS {
        let reply = guest.upload(&format!("STOR {way}"), b"mine");
        assert!(reply.starts_with("226 ") && reply.contains("FILE: "), "{way}: {reply}");
        guest.expect("REST 3", "350 ");
        guest.refused(&format!("STOR {way}"), "550 ");
        guest.refused(&format!("APPE {way}"), "550 ");
        for command in [
            format!("RNFR {way}"),
            format!("RNTO {way}"),
            format!("DELE {way}"),
            format!("MFMT 20200101000000 {way}"),
            format!("MDTM 20200101000000 {way}"),
            format!("MFF modify=20200101000000;UNIX.mode=0666; {way}"),
            format!("SITE CHMOD 666 {way}"),
        ] {
            guest.expect(&command, "550 ");
        }
    }
    for way in ["folder", "folder/in", "folder/up", ".hidden"] {
        guest.refused(&format!("APPE {way}"), "550 ");
        for command in ["RMD", "RNFR", "DELE", "SITE CHMOD 777"] {
            guest.expect(&format!("{command} {way}"), "550 ");
        }
    }
    // A link that leads out is neither followed nor replaced.
    guest.store("STOR out", b"mine");
    let a_txt = fs::read(arena.root().join("a.txt")).unwrap();
    assert_eq!(a_txt, b"one\ntwo\r\nthree\rfour");
    for file in ["first", "folder/first", "link"] {
        let path = arena.incoming().join(file);
        assert_eq!(fs::read(&path).unwrap(), FIRST, "{file}");
        assert!(fs::metadata(&path).unwrap().permissions().mode() & 0o777 != 0o666);
    }
    drop(guest);
    arena.baseline();
}

#[test]
fn somebody_reads_what_is_in_the_drop_box() {
    let arena = furnished(&["--messages"]);
    fs::write(arena.incoming().join("folder/.message"), "a text for those who come").unwrap();
    let mut guest = arena.login();
    // One's own file is no exception.
    guest.store("STOR own", b"own");
    for place in ["/", "folder", "in"] {
        guest.expect(&format!("CWD {place}"), "250");
        for way in WAYS.iter().chain(&["own", "/own", "out", "*", "/", "."]) {
            for command in ["RETR", "LIST", "NLST", "MLSD", "LIST -a"] {
                let command = format!("{command} {way}");
                guest.refused(&command, "550 ");
            }
            for command in ["SIZE", "MDTM", "MLST", "STAT", "STAT -a"] {
                guest.expect(&format!("{command} {way}"), "550 ");
            }
        }
        for command in ["LIST", "NLST", "MLSD"] {
            guest.refused(command, "550 ");
        }
    }
    // Nor by what was asked for before the login changed.
    let mut bob = arena.login_as("bob");
    bob.expect("CWD sub", "250 ");
    bob.expect("REST 1", "350 ");
    bob.expect("USER anonymous", "331 ");
    bob.expect("PASS a@b", "230 ");
    bob.expect("PWD", "257 \"/\"");
    bob.refused("RETR first", "550 ");
    drop((guest, bob));
    arena.baseline();
}

/// Programs obey what they find in hidden files and folders.
#[test]
fn hidden_names_are_dropped() {
    let arena = furnished(&[]);
    let before = names(&arena.incoming());
    let mut guest = arena.login();
    for way in [".ssh", ".ssh/authorized_keys", "folder/.x", ".hidden/x", "folder/up/.x", ".plimsoll-x", "..."] {
        guest.refused(&format!("STOR {way}"), "553 ");
        guest.refused(&format!("STOU {way}"), "553 ");
        guest.expect(&format!("MKD {way}"), "550 ");
    }
    // From inside as well.
    guest.expect("CWD .hidden", "250 ");
    guest.refused("STOR x", "553 ");
    guest.expect("MKD x", "550 ");
    guest.expect("CWD ..", "250 ");
    assert_eq!(names(&arena.incoming()), before);
    assert_eq!(names(&arena.incoming().join(".hidden")), [""; 0]);
    drop(guest);
    arena.baseline();
}

#[test]
fn guests_fill_the_drop_box_together() {
    let arena = Arena::with_drop_box(&["--incoming-max-total", "1M", "--incoming-max-file", "300K"]);
    let store = |guest: &mut Client, number: usize| {
        let reply = guest.upload(&format!("STOR f{number}"), &vec![b'x'; 100_000 + number * 20_000]);
        assert!(reply.starts_with("226 ") || reply.starts_with("552 "), "{number}: {reply}");
        usize::from(reply.starts_with("226 "))
    };
    let stored: usize = std::thread::scope(|scope| {
        let guests: Vec<_> = (0..12)
            .map(|number| {
                let arena = &arena;
                scope.spawn(move || store(&mut arena.login(), number))
            })
            .collect();
        guests.into_iter().map(|guest| guest.join().unwrap()).sum()
    });
    let sizes: Vec<u64> =
        names(&arena.incoming()).iter().map(|name| fs::metadata(arena.incoming().join(name)).unwrap().len()).collect();
    assert_eq!(sizes.len(), stored);
    assert!(sizes.iter().all(|&size| size <= 300 << 10) && sizes.iter().sum::<u64>() <= 1 << 20, "{sizes:?}");
    eventually("nobody to be there", || arena.is_deserted());
    arena.baseline();
}
