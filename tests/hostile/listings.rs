//! Patterns that never end, folders that go on for ever, names that are no names.

use crate::arena::{Arena, Finally, passive_port};
use crate::guest::connect_narrow;
use crate::kernel;
use crate::server::{Client, eventually};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

#[test]
fn patterns_are_made_to_take_for_ever() {
    let arena = Arena::open(&[]);
    let folder = arena.root().join("many");
    std::fs::create_dir(&folder).expect("a folder");
    for number in 0..1500 {
        let name = format!("{}{number:04}", "a".repeat(240));
        File::create(folder.join(name)).expect("a file");
    }
    std::fs::create_dir_all(arena.root().join("one/two")).expect("a folder");
    std::fs::write(arena.root().join("one/two/deep.txt"), b"").expect("a file");
    let mut client = arena.login();
    client.expect("CWD many", "250 ");
    let stars = "*a".repeat(120) + "b";
    let questions = "*?".repeat(120) + "b";
    let sets = "*[a-z]".repeat(40) + "b";
    // Every byte of every name is held against the whole of a set.
    let set = format!("*[{}]b", "bcdefghi".repeat(30));
    for pattern in [&stars, &questions, &sets, &set, &"*".repeat(250), &"[".repeat(250), &"*a".repeat(1900)] {
        let (before, start) = (kernel::cpu(arena.pid()), Instant::now());
        let names = listing(&mut client, &format!("NLST {pattern}"));
        let (cpu, time) = (kernel::cpu(arena.pid()) - before, start.elapsed());
        let what = format!("{}...: {cpu} hundredths of a second of CPU, {time:?}", &pattern[..8]);
        eprintln!("{what}");
        assert!(cpu < 100, "{what}");
        assert!(names.is_none_or(|names| names.is_empty() || pattern.starts_with("**")), "{what}");
    }
    client.expect("CWD /", "250 ");
    // One element of the path is a pattern, the last one; braces are names.
    for pattern in ["*/*", "*/two/*", "o*/t*/d*", "*/../*/*", "{one,sub}", "one/{two,three}"] {
        assert_eq!(listing(&mut client, &format!("NLST {pattern}")), None, "{pattern}");
    }
    // What goes up again is not looked for: this is the folder itself, once.
    for pattern in ["*/../*/../*", "*/../../*"] {
        let names = listing(&mut client, &format!("NLST {pattern}")).expect("a listing");
        assert!(names.lines().count() < 12, "{pattern}: {names}");
    }
    assert_eq!(listing(&mut client, "NLST one/two/d*"), Some("one/two/deep.txt\r\n".to_owned()));
    drop(client);
    arena.baseline();
}

/// What a listing command gives; `None` where it is refused.
fn listing(client: &mut Client, command: &str) -> Option<String> {
    let mut data = client.passive(true);
    let reply = client.command(command);
    if !reply.starts_with("150 ") {
        assert!(reply.starts_with("550 ") || reply.starts_with("501 "), "{reply}");
        return None;
    }
    let mut bytes = Vec::new();
    data.read_to_end(&mut bytes).expect("the data end in order");
    drop(data);
    let reply = client.reply();
    assert!(reply.starts_with("226 "), "{reply}");
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// With the smallest stack that there is.
#[test]
fn folders_go_on_for_ever() {
    let arena = Arena::open(&["--stack-size", "64K"]);
    // As deep as a path can say from here.
    let mut deep = arena.root().to_owned();
    let room = (4000 - deep.as_os_str().len()) / 2;
    deep.extend(vec!["d"; room]);
    std::fs::create_dir_all(&deep).expect("folders");
    std::os::unix::fs::symlink(".", arena.root().join("here")).expect("a link");
    std::os::unix::fs::symlink("..", arena.root().join("sub/back")).expect("a link");
    let mut client = arena.login();
    for command in ["LIST -R", "LIST -laR", "NLST -R", "LIST -R sub", "LIST -R here"] {
        let names = listing(&mut client, command).expect("a listing");
        assert!(names.lines().count() < 12, "one level: {command}: {names}");
    }
    let path = "d/".repeat(room - 1);
    client.expect(&format!("CWD {path}"), "250 ");
    client.expect("PWD", "257 ");
    client.expect("CWD d", "250 ");
    // Further than a pathname may say.
    client.expect(&format!("CWD {path}"), "50");
    client.expect("CDUP", "250 ");
    client.expect("CWD /", "250 ");
    for (step, code) in [("here/", "550 "), ("sub/back/", "550 "), ("d/../", "250 "), ("../", "250 "), ("./", "250 ")] {
        client.expect(&format!("CWD {}", step.repeat(4000 / step.len())), code);
        client.expect("CWD /", "250 ");
    }
    client.expect(&format!("CWD {}", "here/".repeat(20)), "250 ");
    for command in ["LIST", "MLSD", "NLST"] {
        assert!(listing(&mut client, &format!("{command} /{path}")).is_some(), "{command}");
    }
    drop(client);
    arena.baseline();
}

/// A folder that fits no buffer, read slowly by all workers at once.
#[test]
fn twenty_read_a_listing_of_twenty_thousand_slowly() {
    const FILES: usize = 20_000;
    const READERS: usize = 20;
    let arena = Arena::open(&["--workers", "20", "--log", "warn", "--max-unauthenticated", "off"]);
    let folder = arena.root().join("crowd");
    std::fs::create_dir(&folder).expect("a folder");
    for number in 0..FILES {
        File::create(folder.join(format!("{number:06}-of-a-crowd.txt"))).expect("a file");
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let finally = Finally(&done);
        let readers: Vec<_> = (0..READERS)
            .map(|reader| {
                let arena = &arena;
                scope.spawn(move || {
                    let mut client = arena.login();
                    let mut data = connect_narrow(passive_port(&mut client));
                    client.expect(["NLST crowd", "LIST crowd", "MLSD crowd"][reader % 3], "150 ");
                    let (mut bytes, mut part) = (Vec::new(), vec![0; 16 * 1024]);
                    let mut reads = 0;
                    loop {
                        let count = data.read(&mut part).expect("it is not cut off");
                        if count == 0 {
                            break;
                        }
                        bytes.extend_from_slice(&part[..count]);
                        reads += 1;
                        // All are in the middle of it for a while.
                        if reads < 500 {
                            std::thread::sleep(Duration::from_millis(2));
                        }
                    }
                    drop(data);
                    let reply = client.reply();
                    assert!(reply.starts_with("226 "), "{reply}");
                    let text = String::from_utf8(bytes).expect("text");
                    let names: BTreeSet<&str> = text
                        .lines()
                        .filter_map(|line| line.rsplit([' ', '/']).next())
                        .filter(|name| name.ends_with("-of-a-crowd.txt"))
                        .collect();
                    (names.len(), text.lines().count())
                })
            })
            .collect();
        let most = scope.spawn(|| {
            let mut most = 0;
            while !done.load(SeqCst) {
                most = most.max(arena.growth());
                std::thread::sleep(Duration::from_millis(20));
            }
            most
        });
        for (reader, counts) in readers.into_iter().map(|r| r.join().expect("it reads")).enumerate() {
            // MLSD tells of the folder's own entries alone, so all have the same count.
            assert_eq!(counts, (FILES, FILES), "reader {reader}");
        }
        drop(finally);
        // The names alone are half a megabyte for each reader.
        let most = most.join().expect("it measures");
        eprintln!("memory grew by {} KiB beyond what is noise", most / 1024);
        assert!(most < 1024 * 1024, "{most}");
    });
    arena.baseline();
}

/// Each begins a listing and reads none of it, so that it holds what is remembered of the folder, or holds up
/// that it is written down; after each the folder changes.
#[test]
fn what_is_remembered_of_a_folder_is_held_by_those_who_do_not_read_on() {
    const FILES: usize = 3_000;
    const READERS: usize = 12;
    // One memory of the folder takes 600 KiB, because no name is like the one before it, and one fits.
    let arena = Arena::open(&["--workers", "16", "--max-unauthenticated", "off", "--listing-memory", "1M"]);
    let folder = arena.root().join("crowd");
    std::fs::create_dir(&folder).expect("a folder");
    for number in 0..FILES {
        File::create(folder.join(format!("{number:06}{}", "x".repeat(190)))).expect("a file");
    }
    let mut client = arena.login();
    let whole = |listing: &[u8]| listing.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).count();
    let mut held = Vec::new();
    for reader in 0..READERS {
        // So that what the reader gets is told from memory, as long as there is some left.
        for _ in 0..2 {
            assert_eq!(whole(&client.fetch("MLSD crowd")), FILES + reader);
        }
        let mut guest = arena.login();
        let data = connect_narrow(passive_port(&mut guest));
        guest.expect("MLSD crowd", "150 ");
        // It has begun: the folder does not change before that.
        assert_eq!(data.peek(&mut [0]).expect("the first byte"), 1);
        held.push((guest, data, FILES + reader));
        File::create(folder.join(format!("new-{reader}"))).expect("a file");
        assert_eq!(whole(&client.fetch("LIST crowd")), FILES + reader + 1, "the change is seen");
    }
    let grown = arena.growth();
    eprintln!("memory grew by {} KiB beyond what is noise", grown / 1024);
    assert!(grown < 1536 * 1024, "{grown}");
    for (mut guest, mut data, least) in held {
        let mut listing = Vec::new();
        data.read_to_end(&mut listing).expect("it is not cut off");
        assert!(guest.reply().starts_with("226 "));
        // Who had not got far when the folder changed may see what came.
        assert!((least..=FILES + READERS).contains(&whole(&listing)), "{} of {least}", whole(&listing));
    }
    drop(client);
    arena.baseline_remembering(1 << 20);
}

/// A server that may remember a folder of 20,000 files, which was listed once.
fn arena_of_a_crowd() -> Arena {
    let arena = Arena::open(&["--listing-memory", "1M"]);
    let folder = arena.root().join("crowd");
    std::fs::create_dir(&folder).expect("a folder");
    for number in 0..20_000 {
        File::create(folder.join(format!("{number:06}-of-a-crowd.txt"))).expect("a file");
    }
    arena.login().fetch("MLSD crowd");
    arena
}

/// Listings that were told from memory.
fn told(arena: &Arena) -> u32 {
    let state = arena.state();
    let (_, line) = state.split_once("listings: ").expect("it is there");
    line.split(' ').next().and_then(|count| count.parse().ok()).expect("a number")
}

/// One takes a listing so slowly that it is never written down in time; the others are told from memory soon.
#[test]
fn a_listing_that_is_taken_slowly_does_not_keep_its_folder_from_being_remembered() {
    let arena = arena_of_a_crowd();
    let (mut client, mut slow) = (arena.login(), arena.login());
    let data = connect_narrow(passive_port(&mut slow));
    let began = Instant::now();
    slow.expect("MLSD crowd", "150 ");
    assert_eq!(data.peek(&mut [0]).expect("the first byte"), 1);
    eventually("a listing to be told from memory", || {
        client.fetch("MLSD crowd");
        told(&arena) > 0
    });
    assert!(began.elapsed() >= Duration::from_secs(2), "the slow one never wrote it down");
    drop((client, data, slow));
    arena.baseline_remembering(1 << 20);
}

/// One begins a listing again and again, and takes none to its end.
#[test]
fn listings_that_are_given_up_do_not_keep_their_folder_from_being_remembered() {
    let arena = arena_of_a_crowd();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let finally = Finally(&over);
        scope.spawn(|| {
            let mut guest = arena.login();
            while !over.load(SeqCst) {
                let data = connect_narrow(passive_port(&mut guest));
                guest.expect("MLSD crowd", "150 ");
                assert_eq!(data.peek(&mut [0]).expect("the first byte"), 1);
                drop(data);
                assert!(guest.reply().starts_with("426 "));
            }
        });
        let mut client = arena.login();
        eventually("a listing to be told from memory", || {
            client.fetch("MLSD crowd");
            told(&arena) > 0
        });
        drop(finally);
    });
    arena.baseline_remembering(1 << 20);
}

#[test]
fn file_names_are_made_to_break_a_listing() {
    let arena = Arena::open(&[]);
    let folder = arena.root().join("odd");
    std::fs::create_dir(&folder).expect("a folder");
    let longest = "n".repeat(255);
    let names: [&[u8]; 10] = [
        b"two\nlines",
        b"two\r\nlines",
        b"cr\ronly",
        b"\x1b[2J\x1b]0;title\x07",
        b" begins with a space",
        b"ends with a space ",
        b"-R",
        b"\xff\xfe\x80",
        b"; size=1; x",
        longest.as_bytes(),
    ];
    for name in names {
        std::fs::write(folder.join(OsStr::from_bytes(name)), b"1234").expect("a file");
    }
    let mut client = arena.login();
    for command in ["LIST odd", "NLST odd", "MLSD odd", "NLST odd/*"] {
        let mut data = client.passive(true);
        client.expect(command, "150 ");
        let mut bytes = Vec::new();
        data.read_to_end(&mut bytes).expect("the data end in order");
        drop(data);
        let reply = client.reply();
        assert!(reply.starts_with("226 "), "{reply}");
        // One line for each name: as many line ends as there are names, and no half of one.
        let ends = bytes.windows(2).filter(|pair| pair == b"\r\n").count();
        assert_eq!(ends, names.len(), "{command}: {}", String::from_utf8_lossy(&bytes));
        assert_eq!(bytes.iter().filter(|&&b| b == b'\n' || b == b'\r').count(), 2 * ends, "{command}");
    }
    let status = client.expect("STAT odd", "213");
    assert_eq!(status.lines().count(), names.len() + 2, "{status}");
    // What has no line end in it can be fetched by the name that was shown.
    client.expect("CWD odd", "250 ");
    for name in names.iter().filter(|name| !name.contains(&b'\n') && !name.contains(&b'\r')) {
        let mut data = client.passive(true);
        let doubled: Vec<u8> = name.iter().flat_map(|&b| if b == 255 { vec![b, b] } else { vec![b] }).collect();
        client.raw(&[b"RETR ", doubled.as_slice(), b"\r\n"].concat());
        let reply = client.reply();
        assert!(reply.starts_with("150 "), "{:?}: {reply}", String::from_utf8_lossy(name));
        let mut bytes = Vec::new();
        data.read_to_end(&mut bytes).expect("data");
        drop(data);
        assert_eq!(bytes, b"1234");
        client.reply();
    }
    drop(client);
    arena.baseline();
}

#[test]
fn the_folder_changes_while_it_is_listed() {
    const STAY: usize = 3000;
    let arena = Arena::open(&["--log", "warn"]);
    let folder = arena.root().join("busy");
    std::fs::create_dir(&folder).expect("a folder");
    let path = |kind: &str, number: usize| -> PathBuf { folder.join(format!("{kind}-{number:05}-{}", "x".repeat(40))) };
    for number in 0..STAY {
        File::create(path("stay", number)).expect("a file");
        File::create(path("gone", number)).expect("a file");
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _finally = Finally(&stop);
        scope.spawn(|| {
            for number in (0..STAY).cycle() {
                if stop.load(SeqCst) {
                    break;
                }
                let _ = std::fs::remove_file(path("gone", number));
                let _ = File::create(path("come", number));
                let _ = std::fs::remove_file(path("come", (number + STAY / 2) % STAY));
            }
        });
        let mut client = arena.login();
        for command in ["NLST busy", "LIST busy", "MLSD busy", "LIST busy", "MLSD busy"] {
            let text = listing(&mut client, command).expect("a listing");
            let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
            for name in text.lines().filter_map(|line| line.rsplit([' ', '/']).next()) {
                assert!(name.starts_with("stay-") || name.starts_with("gone-") || name.starts_with("come-"), "{name}");
                *counts.entry(name).or_default() += 1;
            }
            let stayed: Vec<usize> =
                counts.iter().filter(|(name, _)| name.starts_with("stay-")).map(|(_, &n)| n).collect();
            assert_eq!(stayed, vec![1; STAY], "{command}: what stays is listed, and once");
        }
        drop(client);
    });
    // And one who reads nothing while the folder itself goes.
    let mut client = arena.login();
    let data = begin_listing(&mut client);
    std::fs::remove_dir_all(&folder).expect("the folder goes");
    drop(data);
    let reply = client.reply();
    assert!(reply.starts_with("426 ") || reply.starts_with("226 ") || reply.starts_with("451 "), "{reply}");
    drop(client);
    // 32K a worker, as nothing else was said.
    arena.baseline_remembering(512 * 1024);
}

fn begin_listing(client: &mut Client) -> std::net::TcpStream {
    let data = connect_narrow(passive_port(client));
    client.expect("LIST busy", "150 ");
    data
}
