//! Ways out of the root, and files that are none.

use crate::arena::{Arena, Finally, begin, passive_port};
use crate::server::eventually;
use rustix::fs::{CWD, FileType, Mode, RenameFlags, mknodat, renameat_with};
use std::io::Read;
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

const SECRET: &[u8] = b"not for you, and of a length that nothing else here has";

/// A file beside the root, in a folder beside the root; returns the folder.
fn secret(arena: &Arena) -> PathBuf {
    let outside = arena.root().parent().expect("a folder").join("outside");
    std::fs::create_dir(&outside).expect("a folder");
    std::fs::write(outside.join("secret"), SECRET).expect("a file");
    outside
}

#[test]
fn paths_and_links_lead_out_of_the_root() {
    let arena = Arena::open(&[]);
    let outside = secret(&arena);
    let root = arena.root().to_owned();
    let link = |target: &str, name: &str| symlink(target, root.join(name)).expect("a link");
    link("../outside", "up");
    link("../outside/secret", "up-file");
    link(outside.to_str().expect("text"), "absolute");
    link(outside.join("secret").to_str().expect("text"), "absolute-file");
    link("/proc/self/root", "magic");
    link("/a.txt", "inside");
    link("loop-b", "loop-a");
    link("loop-a", "loop-b");
    link("self/self", "self");
    link("../../../../../..", "sub/far-up");
    let mut client = arena.login();
    let tails = ["outside/secret", "../outside/secret", "etc/passwd"];
    let heads = [
        "..",
        "../..",
        "../../..",
        "/..",
        "/../..",
        "sub/../..",
        "sub/../../..",
        "//..//..",
        "./.././..",
        "up",
        "up-file",
        "absolute",
        "absolute-file",
        "magic",
        "loop-a",
        "self",
        "sub/far-up",
        "..\\..",
        "\\..\\..",
        "sub//..//..",
        "....//....",
        ".. ",
        "../ ",
    ];
    let mut paths: Vec<String> = heads.iter().map(|&head| head.to_owned()).collect();
    paths.extend(heads.iter().flat_map(|head| tails.iter().map(move |tail| format!("{head}/{tail}"))));
    paths.push(outside.join("secret").to_str().expect("text").to_owned());
    for path in &paths {
        for command in ["SIZE", "MDTM", "MLST"] {
            let reply = client.command(&format!("{command} {path}"));
            let size = format!("size={};", SECRET.len());
            assert!(!reply.contains(&size) && reply != format!("213 {}", SECRET.len()), "{command} {path}: {reply}");
        }
        let _ = passive_port(&mut client);
        let mut data = client.passive(true);
        client.send(&format!("RETR {path}"));
        let reply = client.reply();
        if reply.starts_with("150 ") {
            let mut bytes = Vec::new();
            data.read_to_end(&mut bytes).expect("data");
            drop(data);
            assert_ne!(bytes, SECRET, "RETR {path}");
            client.reply();
        } else {
            assert!(reply.starts_with("550 "), "RETR {path}: {reply}");
        }
        // A folder that is entered is in the root: what lies beside it is not seen, nor what is above.
        if client.command(&format!("CWD {path}")).starts_with("250 ") {
            let names = client.fetch("NLST");
            let names = String::from_utf8_lossy(&names).into_owned();
            assert!(!names.contains("outside") && !names.contains("secret"), "CWD {path}: {names}");
        }
        client.expect("CWD /", "250 ");
    }
    // An absolute link means inside the root; a looping one means nothing.
    assert_eq!(client.fetch("RETR inside"), std::fs::read(root.join("a.txt")).expect("a file"));
    let _ = client.passive(true);
    client.expect("RETR loop-a", "550 ");
    client.expect("CWD ../../../sub", "250 ");
    client.expect("PWD", "257 \"/sub\"");
    drop(client);
    arena.baseline();
}

/// Another process swaps what the client opens, and the folder on the way to it, for links that lead out.
#[test]
fn links_are_swapped_while_they_are_opened() {
    let arena = Arena::open(&["--log", "warn"]);
    let outside = secret(&arena);
    let root = arena.root().to_owned();
    // `way` is a folder in the root or a link out of it; `leaf` is a file in the root or a link out of it.
    std::fs::create_dir(root.join("way")).expect("a folder");
    std::fs::write(root.join("way/secret"), b"of the root").expect("a file");
    symlink(&outside, root.join("other")).expect("a link");
    std::fs::create_dir(root.join("folder")).expect("a folder");
    std::fs::write(root.join("folder/leaf"), b"of the root").expect("a file");
    symlink("../../outside/secret", root.join("folder/other")).expect("a link");
    let stop = AtomicBool::new(false);
    let (tries, swaps, inside) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let finally = Finally(&stop);
        scope.spawn(|| {
            while !stop.load(SeqCst) {
                for (one, other) in [("way", "other"), ("folder/leaf", "folder/other")] {
                    let (one, other) = (root.join(one), root.join(other));
                    renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).expect("two names change places");
                    swaps.fetch_add(1, SeqCst);
                }
            }
        });
        let readers: Vec<_> = (0..4)
            .map(|reader| {
                let (arena, tries, inside) = (&arena, &tries, &inside);
                scope.spawn(move || {
                    let mut client = arena.login();
                    let end = Instant::now() + Duration::from_secs(4);
                    let path = ["way/secret", "folder/leaf"][reader % 2];
                    let mut escapes = 0;
                    while Instant::now() < end {
                        // Many opens in one packet: a try costs no round trip.
                        client.raw(format!("SIZE {path}\r\n").repeat(50).as_bytes());
                        for _ in 0..50 {
                            let reply = client.reply();
                            escapes += usize::from(reply == format!("213 {}", SECRET.len()));
                            inside.fetch_add(usize::from(reply == "213 11"), SeqCst);
                        }
                        tries.fetch_add(51, SeqCst);
                        let mut data = client.passive(true);
                        client.send(&format!("RETR {path}"));
                        if client.reply().starts_with("150 ") {
                            let mut bytes = Vec::new();
                            data.read_to_end(&mut bytes).expect("data");
                            drop(data);
                            escapes += usize::from(bytes == SECRET);
                            client.reply();
                        }
                    }
                    escapes
                })
            })
            .collect();
        let escapes: Vec<usize> = readers.into_iter().map(|r| r.join().expect("it reads")).collect();
        drop(finally);
        assert_eq!(escapes, [0, 0, 0, 0], "escapes");
    });
    let (tries, swaps, inside) = (tries.load(SeqCst), swaps.load(SeqCst), inside.load(SeqCst));
    eprintln!("{tries} tries, {swaps} swaps, {inside} found the file of the root, 0 escapes");
    assert!(tries > 500 && swaps > 500 && inside > 0, "there was a race");
    arena.baseline();
}

/// The path was resolved and the file opened once, when RETR came.
#[test]
fn the_folder_changes_while_retr_waits_for_its_data_connection() {
    let arena = Arena::open(&[]);
    std::fs::write(arena.root().join("sub/a.txt"), b"another").expect("a file");
    let original = std::fs::read(arena.root().join("a.txt")).expect("a file");
    for meanwhile in ["CWD sub", "USER ftp", "REIN", "TYPE A"] {
        let mut client = arena.login();
        let port = passive_port(&mut client);
        client.send("RETR a.txt");
        client.send(meanwhile);
        // The file that was opened is gone from its name before there is a data connection.
        let (name, aside) = (arena.root().join("a.txt"), arena.root().join("aside"));
        eventually("RETR to wait", || arena.state().contains("waiting for a data connection"));
        std::fs::rename(&name, &aside).expect("a new name");
        std::fs::write(&name, b"replaced").expect("a file");
        let mut data = TcpStream::connect(port).expect("the passive port accepts");
        let mut bytes = Vec::new();
        data.read_to_end(&mut bytes).expect("data");
        drop(data);
        assert_eq!(bytes, original, "{meanwhile}");
        for code in ["150 ", "226 "] {
            let reply = client.reply();
            assert!(reply.starts_with(code), "{meanwhile}: {reply}");
        }
        // And only then what came after it.
        let reply = client.reply();
        assert!(reply.starts_with(['2', '3']), "{meanwhile}: {reply}");
        client.expect("NOOP", "200 ");
        std::fs::rename(&aside, &name).expect("the old name");
        drop(client);
    }
    arena.baseline();
}

#[test]
fn a_fifo_a_socket_and_a_device_are_fetched() {
    let arena = Arena::open(&[]);
    let root = arena.root().to_owned();
    mknodat(CWD, root.join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o644), 0).expect("a FIFO");
    let _socket = UnixListener::bind(root.join("socket")).expect("a socket");
    let mut names = vec!["fifo", "socket"];
    let mode = Mode::from_raw_mode(0o666);
    // The null device; only root may make one.
    if mknodat(CWD, root.join("device"), FileType::CharacterDevice, mode, rustix::fs::makedev(1, 3)).is_ok() {
        names.push("device");
    }
    symlink("fifo", root.join("link")).expect("a link");
    names.push("link");
    let mut client = arena.login();
    for name in names {
        let _data = client.passive(true);
        let start = Instant::now();
        client.expect(&format!("RETR {name}"), "550 ");
        client.expect(&format!("SIZE {name}"), "550 ");
        assert!(start.elapsed() < Duration::from_secs(2), "{name}: {:?}", start.elapsed());
    }
    // Nobody was let into the FIFO, nor waits there.
    eventually("the session to be at its prompt", || arena.state().contains("at the prompt"));
    drop(client);
    arena.baseline();
}

#[test]
fn a_file_is_truncated_while_it_is_fetched() {
    let arena = Arena::open(&["--stall-timeout", "5s"]);
    for transfer_type in ["TYPE I", "TYPE A"] {
        arena.sparse("far.bin", 1 << 30);
        let mut client = arena.login();
        client.expect(transfer_type, "200 ");
        let mut data = begin(&mut client, "far.bin");
        data.read_exact(&mut [0; 1000]).expect("it moves");
        arena.sparse("far.bin", 1 << 10);
        let read = std::io::copy(&mut data, &mut std::io::sink()).unwrap_or(0);
        assert!(read < 1 << 30, "{read}");
        let reply = client.reply();
        assert!(reply.starts_with("451 "), "{transfer_type}: {reply}");
        client.expect("NOOP", "200 ");
        drop(client);
    }
    arena.baseline();
}

#[test]
fn a_file_grows_while_it_is_fetched() {
    let arena = Arena::open(&[]);
    arena.sparse("growing.bin", 8 << 20);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let finally = Finally(&stop);
        scope.spawn(|| {
            let path = arena.root().join("growing.bin");
            let mut file = std::fs::OpenOptions::new().append(true).open(path).expect("a file");
            // Faster than anybody reads, within reason for the disk.
            for _ in 0..2000 {
                if stop.load(SeqCst) {
                    break;
                }
                std::io::Write::write_all(&mut file, &[b'x'; 16 * 1024]).expect("room");
                std::thread::sleep(Duration::from_micros(200));
            }
        });
        let mut client = arena.login();
        let mut data = client.passive(true);
        let reply = client.expect("RETR growing.bin", "150 ");
        let promised: u64 = reply
            .rsplit('(')
            .next()
            .and_then(|rest| rest.split(' ').next()?.parse().ok())
            .expect("the number of bytes");
        let read = std::io::copy(&mut data, &mut std::io::sink()).expect("the data end in order");
        drop(data);
        drop(finally);
        assert_eq!(read, promised);
        let reply = client.reply();
        assert!(reply.starts_with("226 "), "{reply}");
        drop(client);
    });
    arena.baseline();
}
