//! Uploads, and changes to the tree: what is stored, what each refusal says, and what a broken upload leaves.

use crate::members::{accounts, bobs, names, reset, serve};
use crate::server::{Client, Server, big, eventually, tree};
use std::fs;
use std::io::{ErrorKind, Write};
use std::net::Shutdown;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it is there").permissions().mode() & 0o7777
}

#[test]
fn a_file_is_stored_replaced_and_nothing_else_is_left() {
    let (folder, root) = tree();
    for durable in ["on", "off"] {
        let server = bobs(folder.path(), &root, &["--durable", durable]);
        let mut bob = server.login_as("bob");
        bob.store("STOR sub/new.bin", &big());
        assert_eq!(fs::read(root.join("sub/new.bin")).unwrap(), big());
        bob.store("STOR sub/new.bin", b"short");
        bob.store("STOR sub/empty", b"");
        assert_eq!(fs::read(root.join("sub/new.bin")).unwrap(), b"short");
        assert_eq!(mode(&root.join("sub/new.bin")), 0o644);
        assert_eq!(names(&root.join("sub")), ["b.txt", "empty", "new.bin"]);
        assert_eq!(bob.fetch("RETR sub/new.bin"), b"short");
        fs::remove_file(root.join("sub/new.bin")).unwrap();
        fs::remove_file(root.join("sub/empty")).unwrap();
    }
}

#[test]
fn the_old_file_is_there_until_the_new_one_is_whole() {
    let (folder, root) = tree();
    let server = bobs(folder.path(), &root, &[]);
    let mut bob = server.login_as("bob");
    let mut data = bob.begin_upload("STOR a.txt");
    data.write_all(b"half of it").unwrap();
    let old = b"one\ntwo\r\nthree\rfour";
    assert_eq!(server.login().fetch("RETR a.txt"), old);
    assert!(names(&root).iter().all(|name| !name.contains("half")));
    bob.expect("STAT", "213 ");
    bob.expect("NOOP", "200 ");
    data.write_all(b" and the rest").unwrap();
    assert_eq!(fs::read(root.join("a.txt")).unwrap(), old);
    drop(data);
    assert!(bob.reply().starts_with("226 "));
    assert_eq!(fs::read(root.join("a.txt")).unwrap(), b"half of it and the rest");
}

/// How a client ends in the middle of an upload.
#[derive(Debug, Clone, Copy)]
enum Death {
    DataReset,
    Abort,
    /// As the kernel does for a program that is killed: FIN on both.
    Killed,
    BothReset,
}

#[test]
fn a_broken_upload_leaves_what_was_there() {
    let (folder, root) = tree();
    let server = bobs(folder.path(), &root, &[]);
    let before = names(&root);
    for death in [Death::DataReset, Death::Abort, Death::Killed, Death::BothReset] {
        for name in ["a.txt", "new.txt"] {
            let mut bob = server.login_as("bob");
            let mut data = bob.begin_upload(&format!("STOR {name}"));
            data.write_all(&big()[..300_000]).unwrap();
            match death {
                Death::DataReset => {
                    reset(data);
                    assert!(bob.reply().starts_with("426 "), "{death:?}");
                }
                Death::Abort => {
                    bob.expect("ABOR", "426 ");
                    assert!(bob.reply().starts_with("226 "), "{death:?}");
                }
                Death::Killed => {
                    bob.stream.shutdown(Shutdown::Both).unwrap();
                    drop(data);
                    drop(bob);
                }
                Death::BothReset => {
                    reset(data);
                    reset(bob.stream.try_clone().unwrap());
                    drop(bob);
                }
            }
            eventually("the session to end the upload", || {
                server.log().matches(&format!("/{name} ")).count() > 0 && idle(&server)
            });
            assert_eq!(fs::read(root.join("a.txt")).unwrap(), b"one\ntwo\r\nthree\rfour", "{death:?}");
            assert_eq!(names(&root), before, "{death:?}");
        }
    }
}

/// Nobody is in a transfer.
fn idle(server: &Server) -> bool {
    let before = server.log().matches("state: load line").count();
    server.signal("USR1");
    eventually("the state", || server.log().matches("state: load line").count() > before);
    let log = server.log();
    let state = log.rfind("state: load line").map_or("", |at| &log[at..]);
    !state.contains("in a transfer") && !state.contains("doing what")
}

#[test]
fn a_partial_upload_is_kept_where_the_operator_wants_it_and_can_be_resumed() {
    let (folder, root) = tree();
    let server = bobs(folder.path(), &root, &["--keep-partial"]);
    for (name, kept) in [("fresh.bin", "fresh.bin"), ("a.txt", "a.txt.partial")] {
        let mut bob = server.login_as("bob");
        let mut data = bob.begin_upload(&format!("STOR {name}"));
        data.write_all(&big()[..200_000]).unwrap();
        eventually("the bytes to arrive", || bob.command("STAT").contains(" 200000 bytes"));
        reset(data);
        assert!(bob.reply().starts_with("426 "));
        assert_eq!(fs::read(root.join(kept)).unwrap(), &big()[..200_000]);
    }
    assert_eq!(fs::read(root.join("a.txt")).unwrap(), b"one\ntwo\r\nthree\rfour");
    let mut bob = server.login_as("bob");
    bob.expect("SIZE fresh.bin", "213 200000");
    bob.expect("REST 200000", "350 ");
    bob.store("STOR fresh.bin", &big()[200_000..]);
    assert_eq!(fs::read(root.join("fresh.bin")).unwrap(), big());
}

#[test]
fn rest_and_appe_change_a_file_in_place() {
    let (folder, root) = tree();
    let server = bobs(folder.path(), &root, &[]);
    let mut bob = server.login_as("bob");
    let path = root.join("f");
    bob.store("STOR f", b"0123456789");
    let inode = fs::metadata(&path).unwrap().ino();
    bob.expect("REST 4", "350 ");
    bob.store("STOR f", b"ab");
    assert_eq!(fs::read(&path).unwrap(), b"0123ab");
    bob.store("APPE f", b"cd");
    bob.store("APPE g", b"new");
    assert_eq!((fs::read(&path).unwrap(), fs::read(root.join("g")).unwrap()), (b"0123abcd".into(), b"new".into()));
    assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
    bob.expect("REST 9", "350 ");
    bob.refused("STOR f", "554 ");
    bob.store("STOR f", b"the marker is used up");
    bob.expect("TYPE A", "200 ");
    bob.expect("REST 4", "350 ");
    bob.refused("STOR f", "554 ");
    bob.expect("TYPE I", "200 ");
    assert_eq!(fs::read(&path).unwrap(), b"the marker is used up");
}

#[test]
fn two_writers_of_one_file_never_mix() {
    let (folder, root) = tree();
    let server = bobs(folder.path(), &root, &[]);
    let [mut one, mut two] = [server.login_as("bob"), server.login_as("bob")];
    let (a, b) = (vec![b'a'; 400_000], vec![b'b'; 500_000]);
    let (mut first, mut second) = (one.begin_upload("STOR both"), two.begin_upload("STOR both"));
    for at in 0..4 {
        first.write_all(&a[at * 100_000..][..100_000]).unwrap();
        second.write_all(&b[at * 125_000..][..125_000]).unwrap();
    }
    drop(first);
    assert!(one.reply().starts_with("226 "));
    assert_eq!(fs::read(root.join("both")).unwrap(), a);
    drop(second);
    assert!(two.reply().starts_with("226 "));
    assert_eq!(fs::read(root.join("both")).unwrap(), b);
    // In place only one at a time.
    let appending = one.begin_upload("APPE both");
    two.refused("APPE both", "450 ");
    drop(appending);
    assert!(one.reply().starts_with("226 "));
}

#[test]
fn stou_takes_a_name_that_is_free() {
    let (folder, root) = tree();
    let server = bobs(folder.path(), &root, &[]);
    let mut bob = server.login_as("bob");
    let mut stored = Vec::new();
    for content in [b"1".as_slice(), b"2", b"3"] {
        let mut data = bob.passive(true);
        let reply = bob.expect("STOU a.txt", "150 FILE: ");
        data.write_all(content).unwrap();
        drop(data);
        let done = bob.reply();
        assert!(done.starts_with("226 "), "{done}");
        let name = done.split("FILE: ").nth(1).unwrap_or_else(|| panic!("{done}")).to_owned();
        assert_eq!(reply, format!("150 FILE: {name}"));
        assert_eq!(fs::read(root.join(&name)).unwrap(), content);
        stored.push(name);
    }
    stored.sort();
    stored.dedup();
    assert_eq!(stored.len(), 3);
    bob.store("STOU", b"nameless");
    assert_eq!(fs::read(root.join("a.txt")).unwrap(), b"one\ntwo\r\nthree\rfour");
}

#[test]
fn text_is_converted_across_every_border() {
    let (folder, root) = tree();
    let server = bobs(folder.path(), &root, &[]);
    let mut bob = server.login_as("bob");
    bob.expect("TYPE A", "200 ");
    let mut data = bob.begin_upload("STOR t");
    for part in [b"a\r".as_slice(), b"\nb\r\r\n", b"c\rd\n", b"\r"] {
        data.write_all(part).unwrap();
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(data);
    assert!(bob.reply().starts_with("226 "));
    assert_eq!(fs::read(root.join("t")).unwrap(), b"a\nb\r\nc\rd\n\r");
}

#[test]
fn the_tree_is_changed_and_each_refusal_has_its_reply() {
    let (folder, root) = tree();
    let server = bobs(folder.path(), &root, &[]);
    let mut bob = server.login_as("bob");
    std::os::unix::fs::symlink("a.txt", root.join("link")).unwrap();
    let steps = [
        ("MKD new", "257 \"/new\" "),
        ("MKD new", "550 Directory already exists"),
        ("MKD a \"quoted\" name", "257 \"/a \"\"quoted\"\" name\" "),
        ("MKD no/parent", "550 "),
        ("XMKD new/in", "257 \"/new/in\" "),
        ("RMD new", "550 "),
        ("XRMD new/in", "250 "),
        ("RMD a.txt", "550 "),
        ("RMD missing", "550 "),
        ("DELE new", "550 "),
        ("DELE missing", "550 No such file"),
        ("RNTO x", "503 "),
        ("RNFR missing", "550 "),
        ("RNTO x", "503 "),
        ("RNFR a.txt", "350 "),
        ("NOOP", "200 "),
        ("RNTO x", "503 "),
        ("RNFR a.txt", "350 "),
        ("RNTO new/moved.txt", "250 "),
        ("RNFR new", "350 "),
        ("RNTO new/inside", "550 "),
        ("RNFR new/moved.txt", "350 "),
        ("RNTO sub", "550 "),
        ("RNFR new/moved.txt", "350 "),
        ("RNTO sub/b.txt", "250 "),
        ("SIZE sub/b.txt", "213 19"),
        ("DELE link", "250 "),
        ("DELE sub/b.txt", "250 "),
        ("RMD new", "250 "),
        ("RMD /", "550 "),
        ("STOR .plimsoll-x", "553 "),
        ("RNFR .hidden", "350 "),
        ("RNTO .plimsoll-0123456789abcdef", "553 "),
        ("MKD .plimsoll-x", "553 "),
    ];
    for (command, reply) in steps {
        bob.expect(command, reply);
    }
    assert_eq!(names(&root), [".hidden", "a \"quoted\" name", "big.bin", "empty", "sub"]);
    bob.refused("STOR missing/x", "550 ");
    bob.refused("STOR empty", "550 ");
    bob.refused("STOR big.bin/x", "550 ");
}

#[test]
fn times_and_modes_are_set() {
    let (folder, root) = tree();
    let server = bobs(folder.path(), &root, &[]);
    let mut bob = server.login_as("bob");
    let path = root.join("a.txt");
    let modified = || fs::metadata(&path).unwrap().mtime();
    bob.expect("MFMT 20200102030405 a.txt", "213 Modify=20200102030405; /a.txt");
    assert_eq!(modified(), 1_577_934_245);
    bob.expect("MDTM a.txt", "213 20200102030405");
    bob.expect("MDTM 20210102030405 a.txt", "213 20210102030405");
    assert_eq!(modified(), 1_609_556_645);
    // A file of the full name is what is asked for.
    fs::write(root.join("20210102030405 a.txt"), "x").unwrap();
    bob.expect("MFMT 20200102030405 20210102030405 a.txt", "213 ");
    bob.expect("MDTM 20210102030405 a.txt", "213 20200102030405");
    bob.expect("MFF modify=19990102030405;UNIX.mode=0640; a.txt", "213 modify=19990102030405;UNIX.mode=0640; /a.txt");
    assert_eq!((modified(), mode(&path)), (915_246_245, 0o640));
    bob.expect("SITE CHMOD 600 a.txt", "200 ");
    assert_eq!(mode(&path), 0o600);
    for (command, reply) in [
        ("SITE CHMOD 4755 a.txt", "501 "),
        ("SITE CHMOD 644 missing", "550 "),
        ("MFMT 20200102030405 missing", "550 "),
        ("MFF create=20200102030405; a.txt", "504 "),
        ("MFMT yesterday a.txt", "501 "),
        ("SITE UMASK", "200 The umask is 022"),
        ("SITE UMASK 077", "200 "),
    ] {
        bob.expect(command, reply);
    }
    bob.store("STOR private", b"x");
    bob.expect("MKD closed", "257 ");
    assert_eq!((mode(&root.join("private")), mode(&root.join("closed"))), (0o600, 0o700));
}

#[test]
fn those_who_may_only_add_change_nothing_that_is_there() {
    let (folder, root) = tree();
    let users = accounts(folder.path(), &[("adder", "write=add"), ("reader", "write=no"), ("plain", "")]);
    let server = serve(&root, &users, &[]);
    let mut adder = server.login_as("adder");
    adder.store("STOR new", b"1");
    adder.store("STOU new", b"2");
    adder.expect("MKD folder", "257 ");
    adder.refused("STOR new", "550 ");
    adder.refused("APPE new", "550 ");
    adder.expect("REST 1", "350 ");
    adder.refused("STOR new", "550 ");
    let changes = ["DELE new", "RMD folder", "RNFR new", "MFMT 20200102030405 new", "SITE CHMOD 600 new"];
    for command in changes {
        adder.expect(command, "550 Permission denied");
    }
    adder.expect("MDTM 20200102030405 new", "550 ");
    assert_eq!(fs::read(root.join("new")).unwrap(), b"1");
    for user in ["reader", "plain"] {
        let mut reader = server.login_as(user);
        reader.refused("STOR other", "550 Permission denied");
        for command in changes.iter().chain(&["MKD x", "STOU", "RNTO x"]) {
            reader.expect(command, "550 Permission denied");
        }
    }
    assert_eq!(server.login().expect("STOR x", "550 ").lines().count(), 1);
    assert!(!root.join("other").exists() && root.join("folder").exists());
}

#[test]
fn what_may_be_done_is_told_by_feat_help_and_perm() {
    let (folder, root) = tree();
    let users = accounts(folder.path(), &[("adder", "write=add"), ("writer", "write=all")]);
    let server = serve(&root, &users, &[]);
    let told = |mut client: Client| {
        let mlst = client.expect("MLST a.txt", "250");
        let folder = client.expect("MLST sub", "250");
        (client.expect("FEAT", "211").contains(" MFMT"), client.expect("HELP", "214").contains("DELE"), mlst, folder)
    };
    for (client, changes, file, dir) in [
        (server.login_as("writer"), true, "perm=adfrw;", "perm=cdeflmp;"),
        (server.login_as("adder"), false, "perm=r;", "perm=celm;"),
        (server.login(), false, "perm=r;", "perm=el;"),
    ] {
        let (feat, help, mlst, folder) = told(client);
        assert_eq!((feat, help), (changes, changes));
        assert!(mlst.contains(file) && folder.contains(dir), "{mlst} {folder}");
    }
}

#[test]
fn a_quota_holds_while_twenty_upload_and_after_a_restart() {
    let (folder, root) = tree();
    let home = folder.path().join("home");
    fs::create_dir(&home).unwrap();
    let keys = format!("root={},write=all,quota=1M", home.display());
    let users = accounts(folder.path(), &[("bob", &keys)]);
    let server = serve(&root, &users, &["--workers", "24"]);
    let piece = vec![b'x'; 100_000];
    let replies: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..20)
            .map(|number| {
                let (server, piece) = (&server, &piece);
                scope.spawn(move || server.login_as("bob").upload(&format!("STOR f{number}"), piece))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let whole = |home: &Path| names(home).iter().map(|n| fs::metadata(home.join(n)).unwrap().len()).sum::<u64>();
    let stored = replies.iter().filter(|reply| reply.starts_with("226 ")).count();
    assert!(replies.iter().all(|reply| reply.starts_with("226 ") || reply.starts_with("552 ")), "{replies:?}");
    assert_eq!(whole(&home), stored as u64 * 100_000);
    // Uploads at once may be in each other's way, but never exceed it; alone all the room is to be had.
    let mut bob = server.login_as("bob");
    for number in stored..10 {
        bob.store(&format!("STOR more{number}"), &piece);
    }
    assert!(bob.upload("STOR last", &piece).starts_with("552 "));
    bob.expect("ALLO 100000", "552 ");
    assert_eq!(whole(&home), 1_000_000);
    drop(server);
    let server = serve(&root, &users, &[]);
    let mut bob = server.login_as("bob");
    assert!(bob.upload("STOR last", &piece).starts_with("552 "));
    let first = names(&home)[0].clone();
    bob.expect(&format!("DELE {first}"), "250 ");
    bob.store("STOR last", &piece);
    bob.expect("ALLO 40000", "202 ");
    assert_eq!(whole(&home), 1_000_000);
}

#[test]
fn uploads_leave_free_on_the_disk_what_the_operator_wants() {
    let (folder, root) = tree();
    let server = bobs(folder.path(), &root, &["--min-free", "1048576G"]);
    let mut bob = server.login_as("bob");
    bob.refused("STOR x", "452 ");
    bob.refused("APPE a.txt", "452 ");
    bob.expect("ALLO 1", "452 ");
    assert!(!root.join("x").exists());
    assert_eq!(fs::read(root.join("a.txt")).unwrap(), b"one\ntwo\r\nthree\rfour");
}

#[test]
fn a_drop_box_takes_files_and_shows_none() {
    let (folder, root) = tree();
    let incoming = folder.path().join("incoming");
    fs::create_dir(&incoming).unwrap();
    let flags = |more: &[&'static str]| {
        let mut all = vec!["--anonymous", "dropbox", "--incoming", incoming.to_str().unwrap()];
        all.extend(more);
        Server::start(&root, &all)
    };
    let server = flags(&["--incoming-max-file", "1000", "--incoming-max-total", "2500", "--incoming-mode", "640"]);
    let mut guest = server.login();
    guest.store("STOR report", b"first");
    let told = guest.store("STOR report", b"second");
    let other = told.split("FILE: ").nth(1).unwrap().to_owned();
    assert_ne!(other, "report");
    assert_eq!(fs::read(incoming.join("report")).unwrap(), b"first");
    assert_eq!(fs::read(incoming.join(&other)).unwrap(), b"second");
    assert_eq!(mode(&incoming.join("report")), 0o640);
    for command in ["RETR report", "LIST", "NLST", "MLSD"] {
        guest.refused(command, "550 Permission denied");
    }
    for command in [
        "MKD folder",
        "SIZE report",
        "MDTM report",
        "MLST report",
        "STAT /",
        "DELE report",
        "RNFR report",
        "APPE report",
    ] {
        guest.expect(command, "550 Permission denied");
    }
    guest.refused("STOR .hidden", "553 ");
    assert!(guest.upload("STOR large", &[b'x'; 1001]).starts_with("552 "));
    guest.store("STOR exact", &[b'x'; 1000]);
    guest.store("STOR exact", &[b'x'; 1000]);
    assert!(guest.upload("STOR full", &[b'x'; 1000]).starts_with("552 "));
    assert_eq!(names(&incoming).len(), 4);
    drop(server);
    let server = flags(&["--incoming-list"]);
    let mut guest = server.login();
    assert_eq!(guest.fetch("NLST").split(|&b| b == b'\n').count(), 5);
    guest.refused("RETR report", "550 Permission denied");
}

#[test]
fn who_uploads_too_much_is_told_so_before_the_data_connection_is_reset() {
    let (folder, root) = tree();
    let users = accounts(folder.path(), &[("bob", "write=all,quota=4M")]);
    let server = serve(&root, &users, &[]);
    let mut bob = server.login_as("bob");
    let mut data = bob.begin_upload("STOR x");
    // More than fits, so that the client would be in the middle of it: it sees the reply, and no end of the other.
    let piece = vec![b'x'; 1 << 20];
    data.set_nonblocking(true).unwrap();
    let mut reply = None;
    eventually("the reply", || {
        let sent = data.write(&piece);
        assert!(!matches!(&sent, Err(error) if error.kind() != ErrorKind::WouldBlock), "{sent:?}");
        bob.stream.set_nonblocking(true).unwrap();
        let heard = bob.stream.peek(&mut [0; 4]).is_ok();
        bob.stream.set_nonblocking(false).unwrap();
        if heard {
            reply = Some(bob.reply());
        }
        heard
    });
    assert!(reply.unwrap().starts_with("552 "));
    assert!(!matches!(data.write(b"x"), Err(error) if error.kind() != ErrorKind::WouldBlock));
    // It answers at once to the one who hears it, and does not wait for ever for the one who does not.
    let began = Instant::now();
    bob.expect("NOOP", "200 ");
    assert!(began.elapsed() < Duration::from_millis(900), "{:?}", began.elapsed());
    eventually("the reset", || matches!(data.write(b"x"), Err(error) if error.kind() != ErrorKind::WouldBlock));
    let mut data = bob.begin_upload("STOR x");
    let blocked = loop {
        if let Err(error) = data.write_all(&piece) {
            break error.kind();
        }
    };
    assert!(matches!(blocked, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{blocked:?}");
    assert!(bob.reply().starts_with("552 "));
    bob.store("STOR x", b"fits");
}

#[test]
fn rates_hold_in_both_directions() {
    let (folder, root) = tree();
    let users = accounts(folder.path(), &[("bob", "write=all,max-rate=512K")]);
    let server = serve(&root, &users, &["--anon-rate", "1M"]);
    let took = |work: &mut dyn FnMut()| {
        let began = Instant::now();
        work();
        began.elapsed()
    };
    // What may come at once is at most a tenth of a second's worth and a little more; nothing is faster.
    let mut guest = server.login();
    let sending = took(&mut || assert_eq!(guest.fetch("RETR big.bin").len(), 3 << 20));
    let mut bob = server.login_as("bob");
    let receiving = took(&mut || drop(bob.store("STOR x", &big()[..1 << 20])));
    assert!(sending >= Duration::from_millis(2_600), "{sending:?}");
    assert!(receiving >= Duration::from_millis(1_700), "{receiving:?}");
    println!("3 MiB at 1 MiB/s took {sending:?}, 1 MiB at 512 KiB/s {receiving:?}");
    // Two sessions of one user share the rate of the user.
    let shared = took(&mut || {
        std::thread::scope(|scope| {
            for number in 0..2 {
                let server = &server;
                scope.spawn(move || server.login_as("bob").store(&format!("STOR y{number}"), &big()[..512 << 10]));
            }
        });
    });
    assert!(shared >= Duration::from_millis(1_700), "{shared:?}");
    // The rate does not keep the control connection waiting.
    let mut data = bob.begin_upload("STOR z");
    data.write_all(&big()[..200_000]).unwrap();
    bob.expect("NOOP", "200 ");
    bob.expect("ABOR", "426 ");
    assert!(bob.reply().starts_with("226 "));
}

#[test]
fn a_user_stays_in_the_root_of_its_own() {
    let (folder, root) = tree();
    let home = folder.path().join("home");
    fs::create_dir_all(home.join("in")).unwrap();
    std::os::unix::fs::symlink("/in", home.join("absolute")).unwrap();
    std::os::unix::fs::symlink("../../root/a.txt", home.join("out")).unwrap();
    let keys = format!("root={},write=all", home.display());
    let users = accounts(folder.path(), &[("bob", &keys)]);
    let server = serve(&root, &users, &[]);
    let mut bob = server.login_as("bob");
    bob.expect("CWD ../../..", "250 ");
    bob.expect("PWD", "257 \"/\" ");
    bob.store("STOR ../../escape", b"x");
    bob.store("STOR absolute/inside", b"y");
    bob.refused("RETR out", "550 ");
    bob.refused("RETR a.txt", "550 ");
    assert!(home.join("escape").exists() && home.join("in/inside").exists());
    assert!(!folder.path().join("escape").exists());
    // A link is replaced, never written through.
    bob.store("STOR out", b"z");
    assert_eq!(fs::read(root.join("a.txt")).unwrap(), b"one\ntwo\r\nthree\rfour");
    assert_eq!(fs::read(home.join("out")).unwrap(), b"z");
    // The next who logs in over the same connection has another root.
    bob.expect("USER anonymous", "331 ");
    bob.expect("PASS x", "230 ");
    bob.expect("SIZE escape", "550 ");
    bob.expect("TYPE I", "200 ");
    assert!(!bob.fetch("RETR a.txt").is_empty());
}

#[test]
fn what_an_earlier_run_left_half_written_is_swept_at_start() {
    let (folder, root) = tree();
    let left = [
        root.join(".plimsoll-00112233445566778899aabbccddeeff"),
        root.join("sub/.plimsoll-0123456789abcdef0123456789abcdef"),
    ];
    for path in &left {
        fs::write(path, "half").unwrap();
    }
    // A read-only server touches nothing; nobody sees them all the same.
    let server = Server::start(&root, &[]);
    assert!(left.iter().all(|path| path.exists()));
    assert!(!String::from_utf8(server.login().fetch("LIST -a")).unwrap().contains(".plimsoll-"));
    drop(server);
    let _server = bobs(folder.path(), &root, &[]);
    assert!(left.iter().all(|path| !path.exists()));
}

#[test]
fn a_disk_that_is_slow_is_not_the_clients_fault() {
    let (folder, root) = tree();
    let trace = folder.path().join("trace");
    let users = accounts(folder.path(), &[("bob", "write=all")]);
    let mut command = std::process::Command::new("strace");
    let usable = std::process::Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).status();
    if !usable.is_ok_and(|status| status.success()) {
        assert!(std::env::var("PLIMSOLL_REQUIRE_TOOLS").as_deref() != Ok("1"), "strace(1) can't be used");
        return eprintln!("skipped: strace(1) is not there, or may not be used");
    }
    // The first write takes four seconds; who does nothing is ended after half of one, for whoever waits.
    command.args(["-D", "-f", "-qq", "-e", "trace=pwrite64", "-e", "inject=pwrite64:delay_enter=4000000:when=1", "-o"]);
    command.arg(&trace).arg(Server::command().get_program()).arg("serve").arg(&root).arg("--accounts").arg(&users);
    command.args(["--listen", "127.0.0.1:0", "--workers", "1", "--queue", "4", "--log", "debug"]);
    command.args(["--shed-after", "500ms", "--stall-timeout", "1s"]);
    let server = Server::run(command);
    let mut bob = server.login_as("bob");
    let mut data = bob.begin_upload("STOR slow");
    data.write_all(&big()[..60_000]).unwrap();
    drop(data);
    let waiting = std::net::TcpStream::connect(server.v4()).unwrap();
    let done = bob.reply();
    assert!(done.starts_with("226 "), "{done}");
    assert_eq!(fs::read(root.join("slow")).unwrap(), &big()[..60_000]);
    drop(waiting);
}
