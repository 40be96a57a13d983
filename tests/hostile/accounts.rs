//! Passwords: long ones, many at once, guessed ones; and accounts files that are broken.

use crate::arena::Arena;
use crate::guest::{Guest, Heard, address};
use crate::members::{HASH, PASSWORD};
use crate::server::{Client, PATIENCE, Server, eventually, tree};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Barrier;
use std::time::{Duration, Instant};

const BOB: &[(&str, &str)] = &[("bob", "write=all")];

#[test]
fn a_password_is_a_megabyte_long() {
    let arena = Arena::with_users(BOB, &[]);
    for _ in 0..8 {
        let mut guest = arena.guest();
        guest.expect_reply("220 ");
        guest.expect("USER bob", "331 ");
        guest.raw(b"PASS ");
        guest.raw(&vec![b'x'; 1 << 20]);
        guest.raw(b"\r\n");
        match guest.hear(PATIENCE) {
            Heard::Reply(reply) => assert!(reply.starts_with("500 "), "{reply}"),
            other => assert_eq!(other, Heard::End),
        }
        assert_eq!(arena.growth(), 0);
    }
    // As long as a line can be, and wrong without a hash being computed.
    let mut client = arena.connect();
    client.expect("USER bob", "331 ");
    let start = Instant::now();
    client.expect(&format!("PASS {}", "x".repeat(4000)), "530 ");
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    drop(client);
    assert!(!arena.log().contains("xxxx"));
    arena.baseline();
}

#[test]
fn sixty_four_passwords_come_at_once() {
    let arena = Arena::with_users(BOB, &["--workers", "64", "--queue", "16", "--max-unauthenticated", "off"]);
    let (barrier, most) = (Barrier::new(64), std::sync::atomic::AtomicU64::new(0));
    let replies: Vec<String> = std::thread::scope(|scope| {
        let guests: Vec<_> = (0..64)
            .map(|number| {
                let (arena, barrier, most) = (&arena, &barrier, &most);
                scope.spawn(move || {
                    // Each from an address of its own: nobody is held off for others.
                    let mut guest = Guest::from(address(number), arena.v4());
                    guest.expect_reply("220 ");
                    guest.expect("USER bob", "331 ");
                    barrier.wait();
                    guest.send(if number % 2 == 0 { "PASS wrong" } else { "PASS secret" });
                    most.fetch_max(arena.growth(), std::sync::atomic::Ordering::SeqCst);
                    guest.expect_reply("")
                })
            })
            .collect();
        guests.into_iter().map(|guest| guest.join().unwrap()).collect()
    });
    let most = most.into_inner();
    eprintln!("memory grew by {} KiB at most", most >> 10);
    assert!(most < 1 << 20, "{most} bytes more");
    for (number, reply) in replies.iter().enumerate() {
        assert!(reply.starts_with(if number % 2 == 0 { "530 " } else { "230 " }), "{number}: {reply}");
    }
    arena.baseline();
}

/// Over one connection after the other; and nobody has a worker while it waits.
#[test]
fn somebody_guesses_and_comes_again() {
    let arena = Arena::with_users(BOB, &["--workers", "2", "--queue", "8"]);
    let start = Instant::now();
    let (mut tried, mut held_off) = (0, 0);
    while start.elapsed() < Duration::from_secs(4) {
        let mut guest = Guest::from(address(77), arena.v4());
        guest.expect_reply("220 ");
        for _ in 0..3 {
            guest.expect("USER bob", "331 ");
            let sent = Instant::now();
            guest.send("PASS guess");
            match guest.hear(PATIENCE) {
                Heard::Reply(reply) if reply.starts_with("530 ") => tried += 1,
                Heard::Reply(reply) if reply.contains("from your address") => {
                    assert!(sent.elapsed() < Duration::from_secs(1), "it is told at once");
                    assert_eq!(guest.hear(PATIENCE), Heard::End);
                    held_off += 1;
                    break;
                }
                // The third wrong one.
                Heard::Reply(reply) if reply.starts_with("421 ") => {
                    tried += 1;
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    eprintln!("{tried} passwords were tried in four seconds, and {held_off} connections were told to wait");
    // Six are free, and then one after 1 s and one after 2 s more.
    assert!((6..=9).contains(&tried) && held_off > 10, "{tried}, {held_off}");
    // Others are served, and may log in.
    arena.login_as("bob").expect("QUIT", "221 ");
    arena.baseline();
}

/// All of them are there before the first is found to be wrong.
#[test]
fn somebody_guesses_over_sixty_four_connections_at_once() {
    let arena = Arena::with_users(BOB, &["--workers", "64", "--queue", "16", "--max-unauthenticated", "off"]);
    let barrier = Barrier::new(64);
    let tried: usize = std::thread::scope(|scope| {
        let guests: Vec<_> = (0..64)
            .map(|_| {
                let (arena, barrier) = (&arena, &barrier);
                scope.spawn(move || {
                    let mut guest = Guest::from(address(78), arena.v4());
                    guest.expect_reply("220 ");
                    guest.expect("USER bob", "331 ");
                    barrier.wait();
                    guest.send("PASS guess");
                    let reply = guest.expect_reply("");
                    assert!(reply.starts_with("530 ") || reply.contains("from your address"), "{reply}");
                    usize::from(reply.starts_with("530 "))
                })
            })
            .collect();
        guests.into_iter().map(|guest| guest.join().unwrap()).sum()
    });
    eprintln!("{tried} of 64 passwords were tried");
    // Six are free, the seventh makes them wait; one more may be on its way.
    assert!((6..=9).contains(&tried), "{tried}");
    arena.baseline();
}

/// What is wrong with the file, and the words that tell it.
fn broken() -> Vec<(String, &'static str)> {
    let text = |text: &str| text.replace("HASH", HASH);
    [
        ("bob\n", ""),
        ("bob:\n", ""),
        ("bob::write=all\n", ""),
        (":HASH\n", ""),
        ("bob:x\n", ""),
        ("bob:HASH:write=\n", "write"),
        ("bob:HASH:write=most\n", "write"),
        ("bob:HASH:wirte=all\n", "wirte"),
        ("bob:HASH:write=all,write=no\n", "write"),
        ("bob:HASH:quota=-1\n", "quota"),
        ("bob:HASH:quota=99999999999999999999\n", "quota"),
        ("bob:HASH:max-sessions=0\n", "max-sessions"),
        ("bob:HASH:from=300.0.0.0/8\n", "from"),
        ("bob:HASH:expires=yesterday\n", "expires"),
        ("bob:HASH:root=relative\n", "root"),
        ("bob:$5$rounds=999999999$saltsalt$0IyaXrmV7.sGNS6tirgqHLqX/G.FBvgkYA.lpPdS5sA\n", ""),
        ("bob:$1$saltsalt$qjXMvbEw8oaL.CzflDtaK/\n", ""),
        ("ftp:HASH\n", ""),
        ("bob:HASH\nbob:HASH\n", "bob"),
        ("bob:HASH\n\0\n", ""),
    ]
    .map(|(line, words)| (text(line), words))
    .into()
}

#[test]
fn the_accounts_file_is_broken_at_start() {
    let (folder, root) = tree();
    let path = folder.path().join("accounts");
    let start = || {
        let mut command = Server::command();
        command.arg("serve").arg(&root).args(["--listen", "127.0.0.1:0", "--workers", "2", "--accounts"]).arg(&path);
        command.output().unwrap()
    };
    for (text, words) in broken() {
        fs::write(&path, &text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let output = start();
        let told = String::from_utf8(output.stderr).unwrap();
        let line = if text.lines().count() > 1 { 2 } else { 1 };
        let place = format!("plimsoll: --accounts: {}:{line}: ", path.display());
        assert!(output.stdout.is_empty() && output.status.code() == Some(1), "{text:?}: {told}");
        assert!(told.starts_with(&place) && told.contains(words) && !told.contains(HASH), "{text:?}: {told}");
    }
    fs::write(&path, format!("bob:{HASH}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o602)).unwrap();
    assert!(String::from_utf8(start().stderr).unwrap().contains("may write it"));
}

#[test]
fn the_accounts_file_is_broken_at_a_reload() {
    let arena = Arena::with_users(BOB, &[]);
    let path = arena.root().parent().unwrap().join("accounts");
    let good = fs::read(&path).unwrap();
    let reload = |what: &str| {
        let known = arena.log().len();
        arena.signal("HUP");
        eventually("the reload to be told of", || arena.log()[known..].contains("--accounts"));
        let told = arena.log()[known..].to_owned();
        assert!(told.contains(what) && !told.contains(HASH), "{told}");
        told
    };
    let mut before = arena.login_as("bob");
    for (text, _) in broken() {
        fs::write(&path, &text).unwrap();
        let told = reload(&format!("{}:", path.display()));
        assert!(!told.contains("reloaded: --accounts"), "{text:?}: {told}");
        arena.login_as("bob").expect("QUIT", "221 ");
    }
    fs::remove_file(&path).unwrap();
    reload(&path.display().to_string());
    arena.login_as("bob");
    before.store("STOR still", b"here");
    fs::write(&path, &good).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    reload("reloaded");
    arena.login_as("bob");
    drop(before);
    arena.baseline();
}

/// One user takes the root's bits away: nobody else could log in, and the server could not start again.
#[test]
fn somebody_closes_the_root_behind_everybody() {
    let arena = Arena::with_users(&[("bob", "write=all"), ("eve", "write=all")], &[]);
    std::os::unix::fs::symlink("/", arena.root().join("link")).unwrap();
    std::os::unix::fs::symlink("..", arena.root().join("sub/link")).unwrap();
    let mode = || fs::metadata(arena.root()).unwrap().permissions().mode() & 0o7777;
    let before = mode();
    let mut eve: Client = arena.login_as("eve");
    for way in ["/", ".", "..", "//", "sub/..", "link", "link/", "sub/link", "link/sub/link"] {
        eve.expect(&format!("SITE CHMOD 000 {way}"), "550 ");
        eve.expect(&format!("MFF UNIX.mode=0000; {way}"), "550 ");
        for command in ["RMD", "DELE"] {
            // A link is what is deleted, not what it leads to.
            if !way.contains("link") {
                eve.expect(&format!("{command} {way}"), "550 ");
            }
        }
    }
    assert_eq!(mode(), before);
    eve.expect("SITE CHMOD 700 sub", "200 ");
    assert!(arena.login_as("bob").expect("PWD", "257 ").contains('/'));
    assert!(!arena.log().contains(PASSWORD));
    drop(eve);
    arena.baseline();
}
