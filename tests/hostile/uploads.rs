//! Uploads that never end, never come, break off, or meet each other. What is under a name is whole, always.

use crate::arena::{Arena, arm};
use crate::kernel;
use crate::members::{PASSWORD, accounts, names, reset, serve};
use crate::server::{Client, PATIENCE, Server, big, eventually, tree};
use crate::{REQUIRE_TOOLS, skip};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

const BOB: &[(&str, &str)] = &[("bob", "write=all")];

/// What `a.txt` holds.
const OLD: &[u8] = b"one\ntwo\r\nthree\rfour";

/// Names of temporary files in a folder: there are none, but for the moment of an exchange.
pub fn temporaries(folder: &Path) -> Vec<String> {
    names(folder).into_iter().filter(|name| name.starts_with(".plimsoll-")).collect()
}

#[test]
fn an_upload_stalls_or_comes_a_byte_at_a_time() {
    let arena = Arena::with_users(BOB, &["--stall-timeout", "1s", "--min-rate", "64"]);
    for dripping in [false, true] {
        let mut bob = arena.login_as("bob");
        let mut data = bob.begin_upload("STOR a.txt");
        data.write_all(b"the beginning").unwrap();
        let (start, done) = (Instant::now(), AtomicBool::new(false));
        let reply = std::thread::scope(|scope| {
            scope.spawn(|| {
                // Ten bytes a second, each just inside the stall limit.
                while dripping && !done.load(SeqCst) && data.write_all(b"x").is_ok() {
                    std::thread::sleep(Duration::from_millis(100));
                }
            });
            let reply = bob.reply();
            done.store(true, SeqCst);
            reply
        });
        let words = if dripping { "421 The transfer is too slow" } else { "421 The transfer stalled" };
        assert!(reply.starts_with(words), "{reply}");
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        bob.expect_end();
        assert_eq!(fs::read(arena.root().join("a.txt")).unwrap(), OLD);
        assert_eq!(temporaries(arena.root()), [""; 0]);
    }
    arena.baseline();
}

#[test]
fn an_upload_never_ends() {
    let arena = Arena::with_users(&[("bob", "write=all,quota=24M")], &[]);
    let mut bob = arena.login_as("bob");
    let mut data = bob.begin_upload("STOR a.txt");
    let piece = vec![b'x'; 1 << 20];
    let mut sent = 0;
    while sent < 1_000 && data.write_all(&piece).is_ok() {
        sent += 1;
    }
    assert!((16..64).contains(&sent), "{sent} MiB went out of 24");
    let reply = bob.reply();
    assert!(reply.starts_with("552 "), "{reply}");
    assert_eq!(fs::read(arena.root().join("a.txt")).unwrap(), OLD);
    // All of the room is back.
    bob.expect("ALLO 20000000", "202 ");
    drop(bob);
    arena.baseline();
}

#[test]
fn sigterm_comes_with_hundreds_of_sessions_and_a_hundred_uploads() {
    const UPLOADS: usize = 100;
    let count = usize::try_from(kernel::raise_descriptors() / 8).map_or(300, |most| most.min(300));
    let workers = count.to_string();
    let flags = ["--workers", &workers, "--grace", "3s", "--log", "warn", "--max-unauthenticated", "off"];
    let mut arena = Arena::with_users(BOB, &flags);
    let folder = arena.root().join("up");
    fs::create_dir(&folder).unwrap();
    let (old, new) = (b"old content".repeat(5_000), big());
    for number in 0..UPLOADS {
        fs::write(folder.join(format!("{number}")), &old).unwrap();
    }
    let mut idle: Vec<Client> = (UPLOADS..count).map(|_| arena.login()).collect();
    let begun: Vec<(Client, TcpStream)> = (0..UPLOADS)
        .map(|number| {
            let mut bob = arena.login_as("bob");
            let mut data = bob.begin_upload(&format!("STOR up/{number}"));
            data.write_all(&new[..10_000]).unwrap();
            (bob, data)
        })
        .collect();
    let senders: Vec<_> = begun
        .into_iter()
        .enumerate()
        .map(|(number, (mut bob, mut data))| {
            let new = new.clone();
            std::thread::spawn(move || {
                match number % 3 {
                    // Sends nothing more, sends without an end, and sends all of it in about a second.
                    0 => {}
                    1 => while data.write_all(&new).is_ok() {},
                    _ => {
                        for piece in new[10_000..].chunks(40_000) {
                            let _ = data.write_all(piece);
                            std::thread::sleep(Duration::from_millis(10));
                        }
                        drop(data);
                        return bob.reply();
                    }
                }
                let reply = bob.reply();
                drop(data);
                reply
            })
        })
        .collect();
    let start = Instant::now();
    arena.signal("TERM");
    for client in &mut idle {
        assert!(client.reply().starts_with("421 The server is shutting down"));
    }
    let status = arena.wait();
    let took = start.elapsed();
    assert!(status.success() && took < Duration::from_secs(13), "{status}, {took:?}");
    let mut stored = 0;
    for (number, sender) in senders.into_iter().enumerate() {
        let reply = sender.join().unwrap();
        let found = fs::read(folder.join(format!("{number}"))).unwrap();
        if reply.starts_with("226 ") {
            stored += 1;
            assert!(found == new, "{number} was acknowledged and has {} bytes", found.len());
        } else {
            assert!(reply.starts_with("421 "), "{number}: {reply}");
            assert!(found == old, "{number} was cut off and has {} bytes", found.len());
        }
    }
    eprintln!("{count} sessions: {stored} of {UPLOADS} uploads were whole, and the server ended after {took:?}");
    assert!((1..=33).contains(&stored), "{stored}");
    assert_eq!(names(&folder).len(), UPLOADS);
    let own = std::process::id();
    eventually("the kernel to have nothing left of it", || kernel::remains(own, arena.ports()).orphans == 0);
}

/// The kernel of one who is killed ends both connections in order, as if the file were whole.
#[test]
fn a_client_is_killed_in_mid_overwrite() {
    let arena = Arena::with_users(BOB, &[]);
    let url = format!("ftp://bob:{PASSWORD}@127.0.0.1:{}/a.txt", arena.port());
    for kill in 0..30 {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "-T", "-", &url]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let Ok(mut curl) = curl.spawn() else {
            return skip(REQUIRE_TOOLS, "a client that is killed: curl is not there");
        };
        let mut input = curl.stdin.take().unwrap();
        input.write_all(&big()[..200_000]).unwrap();
        eventually("all of it to have come", || arena.state().contains("200000 bytes"));
        curl.kill().unwrap();
        curl.wait().unwrap();
        eventually("the session to be over", || arena.is_deserted());
        let found = fs::read(arena.root().join("a.txt")).unwrap();
        assert!(found == OLD, "kill {kill}: {} bytes are there under the name", found.len());
        assert_eq!(temporaries(arena.root()), [""; 0]);
    }
    arena.baseline();
}

#[test]
fn both_connections_are_reset_in_mid_overwrite() {
    let arena = Arena::with_users(BOB, &[]);
    for control_first in [false, true] {
        for sent in [0, 1, 70_000, 900_000] {
            let mut bob = arena.login_as("bob");
            let mut data = bob.begin_upload("STOR a.txt");
            data.write_all(&big()[..sent]).unwrap();
            arm(&bob.stream);
            if control_first {
                drop(bob);
                reset(data);
            } else {
                reset(data);
                drop(bob);
            }
            eventually("the session to be over", || arena.is_deserted());
            assert_eq!(fs::read(arena.root().join("a.txt")).unwrap(), OLD, "{control_first} {sent}");
            assert_eq!(temporaries(arena.root()), [""; 0]);
        }
    }
    arena.baseline();
}

/// A server that can't reach its own descriptors by name writes to files with hidden names; one that is killed
/// leaves them.
#[test]
fn a_server_is_killed_and_leaves_what_the_next_one_sweeps() {
    let (folder, root) = tree();
    let users = accounts(folder.path(), BOB);
    let without_proc = r#"umount -l /proc && exec "$@""#;
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", without_proc, "sh"]);
    command.arg(env!("CARGO_BIN_EXE_plimsoll")).arg("serve").arg(&root).env_remove("RUST_LOG");
    command.args(["--listen", "127.0.0.1:0", "--workers", "4", "--log", "info", "--accounts"]).arg(&users);
    let may = Command::new("unshare").args(["--mount", "umount", "-l", "/proc"]).output();
    if !may.is_ok_and(|output| output.status.success()) {
        return skip(REQUIRE_TOOLS, "hidden names: a namespace without /proc can't be made");
    }
    let mut server = Server::run(command);
    let mut bob = server.login_as("bob");
    let mut data = bob.begin_upload("STOR a.txt");
    data.write_all(&big()[..100_000]).unwrap();
    eventually("a file with a hidden name to be there", || {
        let hidden = temporaries(&root);
        hidden.len() == 1 && fs::metadata(root.join(&hidden[0])).is_ok_and(|found| found.len() == 100_000)
    });
    server.signal("KILL");
    server.wait();
    assert_eq!(fs::read(root.join("a.txt")).unwrap(), OLD);
    assert_eq!(temporaries(&root).len(), 1, "it was killed before it could remove it");
    let next = serve(&root, &users, &[]);
    assert_eq!(temporaries(&root), [""; 0]);
    next.wait_for_log("removed 1 temporary files");
    next.login_as("bob").store("STOR a.txt", b"new");
    assert_eq!(fs::read(root.join("a.txt")).unwrap(), b"new");
}

/// Versions that tell at each byte which one they are.
fn version(number: u8) -> Vec<u8> {
    vec![b'a' + number; 100_000 + usize::from(number) * 7]
}

fn whole(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|&first| bytes == version(first.wrapping_sub(b'a')))
}

#[test]
fn many_write_one_name_while_others_read_it() {
    let arena = Arena::with_users(BOB, &["--workers", "12"]);
    let path = arena.root().join("one");
    fs::write(&path, version(25)).unwrap();
    let done = AtomicBool::new(false);
    let (mut stored, mut read) = (0, 0);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = arena.login();
                    let mut read = 0;
                    while !done.load(SeqCst) {
                        let bytes = client.fetch("RETR one");
                        assert!(whole(&bytes), "{} bytes that are no version", bytes.len());
                        read += 1;
                    }
                    read
                })
            })
            .collect();
        let writers: Vec<_> = (0..6)
            .map(|number| {
                let arena = &arena;
                scope.spawn(move || {
                    let mut bob = arena.login_as("bob");
                    (0..40).filter(|_| bob.upload("STOR one", &version(number)).starts_with("226 ")).count()
                })
            })
            .collect();
        stored = writers.into_iter().map(|writer| writer.join().unwrap()).sum();
        done.store(true, SeqCst);
        read = readers.into_iter().map(|reader| reader.join().unwrap()).sum();
    });
    eprintln!("{stored} of 240 were stored, and read {read} times");
    assert_eq!(stored, 240);
    assert!(read > 20 && whole(&fs::read(&path).unwrap()));
    assert_eq!(temporaries(arena.root()), [""; 0]);
    arena.baseline();
}

#[test]
fn a_file_is_replaced_and_appended_to_while_it_is_fetched() {
    let arena = Arena::with_users(BOB, &[]);
    let path = arena.root().join("big.bin");
    let mut reader = arena.login();
    let mut data = reader.passive(true);
    reader.expect("RETR big.bin", "150 ");
    let mut begun = vec![0; 1000];
    data.read_exact(&mut begun).unwrap();
    let mut bob = arena.login_as("bob");
    bob.store("STOR big.bin", &version(1));
    data.read_to_end(&mut begun).unwrap();
    drop(data);
    assert!(reader.reply().starts_with("226 ") && begun == big(), "the reader has the old one, and all of it");
    assert_eq!(fs::read(&path).unwrap(), version(1));
    // APPE appends, whatever REST has said before.
    bob.expect("REST 5", "350 ");
    bob.store("APPE big.bin", b"end");
    assert_eq!(fs::read(&path).unwrap(), [&version(1)[..], b"end"].concat());
    // One appends while another replaces: the new file is whole, and what was appended to is gone.
    let mut other = arena.login_as("bob");
    let mut appending = other.begin_upload("APPE big.bin");
    appending.write_all(b"half").unwrap();
    bob.store("STOR big.bin", &version(2));
    appending.write_all(b"and half").unwrap();
    drop(appending);
    let reply = other.reply();
    assert!(reply.starts_with("550 "), "what nobody can read is not acknowledged: {reply}");
    assert_eq!(fs::read(&path).unwrap(), version(2));
    drop((reader, bob, other));
    arena.baseline();
}

#[test]
fn twenty_hold_all_of_a_quota_and_vanish() {
    // 3 MiB are there from the start.
    let arena = Arena::with_users(&[("bob", "write=all,quota=8M")], &["--workers", "24"]);
    let mut held: Vec<(Client, TcpStream)> = (0..20)
        .map(|number| {
            let mut bob = arena.login_as("bob");
            let data = bob.begin_upload(&format!("STOR held{number}"));
            (bob, data)
        })
        .collect();
    let piece = vec![b'x'; 400_000];
    let mut refused = 0;
    for (_, data) in &mut held {
        let _ = data.write_all(&piece);
    }
    let mut witness = arena.login_as("bob");
    eventually("the room to be used up", || witness.command("ALLO 400000").starts_with("552 "));
    let until = Instant::now() + PATIENCE;
    // 4.8 MiB hold twelve of them and a part; each of the others hears that as soon as it has come so far.
    for (bob, _) in &mut held {
        bob.stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let mut first = [0; 4];
        refused += usize::from(bob.stream.peek(&mut first).is_ok_and(|count| first[..count].starts_with(b"552")));
    }
    assert!(Instant::now() < until && (7..=20).contains(&refused), "{refused} of 20 were refused");
    assert_eq!(names(arena.root()).iter().filter(|name| name.starts_with("held")).count(), 0);
    for (bob, data) in held {
        arm(&bob.stream);
        arm(&data);
    }
    eventually("all of the room to be back", || witness.command("ALLO 4800000").starts_with("202 "));
    witness.store("STOR all", &vec![b'y'; 4_800_000]);
    drop(witness);
    arena.baseline();
}

#[test]
fn what_is_to_be_renamed_is_gone_or_is_a_folder_that_goes_into_itself() {
    let arena = Arena::with_users(BOB, &[]);
    let (mut bob, mut other) = (arena.login_as("bob"), arena.login_as("bob"));
    fs::create_dir_all(arena.root().join("d/e/f")).unwrap();
    bob.expect("RNFR a.txt", "350 ");
    other.expect("DELE a.txt", "250 ");
    bob.expect("RNTO sub/a.txt", "550 No such file");
    // Something else has the name by now: that is what is moved.
    bob.expect("RNFR sub/b.txt", "350 ");
    other.expect("DELE sub/b.txt", "250 ");
    other.store("STOR sub/b.txt", b"another");
    bob.expect("RNTO moved", "250 ");
    assert_eq!(fs::read(arena.root().join("moved")).unwrap(), b"another");
    // The folder to which it goes is gone.
    bob.expect("RNFR moved", "350 ");
    other.expect("RMD empty", "250 ");
    bob.expect("RNTO empty/moved", "550 No such file");
    for (from, to) in [("d", "d/x"), ("d", "d/e/f/x"), ("d", "d/e"), ("d/e", "d/e/f/../x"), ("/", "x"), ("d", "/")] {
        bob.expect(&format!("RNFR {from}"), "350 ");
        bob.expect(&format!("RNTO {to}"), "550 ");
    }
    // A folder never takes the place of another, and nothing that of a folder.
    for (from, to) in [("d", "sub"), ("moved", "sub"), ("d", "moved")] {
        bob.expect(&format!("RNFR {from}"), "350 ");
        bob.expect(&format!("RNTO {to}"), "550 ");
    }
    // RNFR counts for the next command only, and for who has sent it.
    bob.expect("RNFR moved", "350 ");
    bob.expect("USER bob", "331 ");
    bob.expect(&format!("PASS {PASSWORD}"), "230 ");
    bob.expect("RNTO elsewhere", "503 ");
    assert_eq!(names(&arena.root().join("d/e")), ["f"]);
    assert_eq!(temporaries(arena.root()), [""; 0]);
    drop((bob, other));
    arena.baseline();
}
