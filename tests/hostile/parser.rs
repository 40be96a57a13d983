//! Bytes that are no commands, commands that are none yet, and arguments that mean to be more.

use crate::arena::{Arena, is_closed, passive_port};
use crate::guest::{Guest, Heard};
use crate::server::{Client, PATIENCE, eventually};
use std::io::{ErrorKind, Write};
use std::net::Shutdown;
use std::time::Duration;

#[test]
fn a_gigabyte_comes_without_a_line_end() {
    let arena = Arena::open(&[]);
    // The third is Telnet, IAC NOP, and never becomes a byte of a line.
    for filler in [[b'x', b'x'], [255, 255], [255, 241], [0, 0], [b'\r', b'\r']] {
        let mut guest = arena.guest();
        guest.expect_reply("220 ");
        guest.stream.set_write_timeout(Some(PATIENCE)).expect("a socket option");
        let block = filler.repeat(1 << 19);
        let mut sent = 0;
        while sent < 1024 {
            match guest.stream.write_all(&block) {
                Ok(()) => sent += 1,
                Err(error) => {
                    assert_ne!(error.kind(), ErrorKind::WouldBlock, "nobody closed it");
                    break;
                }
            }
            assert_eq!(arena.growth(), 0, "nothing of it is kept");
        }
        eprintln!("closed after {sent} MiB of {filler:?}");
        assert!(sent < 64, "{filler:?}: {sent} MiB were taken");
    }
    // One who sends no more than it takes hears why.
    let mut guest = arena.guest();
    guest.expect_reply("220 ");
    guest.raw(&[b'x'; 65 * 1024]);
    guest.expect_reply("500 That line does not end");
    assert_eq!(guest.hear(PATIENCE), Heard::End);
    arena.baseline();
}

#[test]
fn a_line_is_too_long_and_hides_a_command_in_its_tail() {
    let arena = Arena::open(&[]);
    for length in [4095, 4096, 4097, 5000, 8192, 12_288, 60_000] {
        for step in [1 << 20, 4096, 1000] {
            let mut client = arena.connect();
            let mut line = vec![b'x'; length];
            line.extend_from_slice(b"QUIT\r\n");
            for part in line.chunks(step) {
                client.raw(part);
            }
            let reply = client.reply();
            assert!(reply.starts_with("500 "), "{length}, {step}: {reply}");
            client.expect("NOOP", "200 NOOP ok.");
        }
    }
    // The last length that fits, and the first that does not.
    let mut client = arena.connect();
    client.raw(&[b"NOOP ", vec![b' '; 4096 - 7].as_slice(), b"\r\n"].concat());
    let reply = client.reply();
    assert!(!reply.starts_with("500 That line is too long"), "{reply}");
    client.raw(&[b"NOOP ", vec![b' '; 4097 - 7].as_slice(), b"\r\n"].concat());
    let reply = client.reply();
    assert!(reply.starts_with("500 That line is too long"), "{reply}");
    drop(client);
    arena.baseline();
}

#[test]
fn a_line_is_too_long_and_then_the_client_is_gone() {
    let arena = Arena::open(&[]);
    for length in [10, 4096, 5000, 60_000] {
        let mut guest = arena.guest();
        guest.expect_reply("220 ");
        guest.raw(&vec![b'x'; length]);
        guest.stream.shutdown(Shutdown::Write).expect("it is open");
        // What is no line gets no reply.
        assert_eq!(guest.hear(PATIENCE), Heard::End, "{length}");
    }
    arena.baseline();
}

#[test]
fn telnet_sequences_stand_anywhere() {
    let arena = Arena::open(&[]);
    let mut client = arena.login();
    let lines: [&[u8]; 6] = [
        b"\xff\xf1NOOP\r\n",
        b"NO\xff\xfb\x01OP\r\n",
        b"NOOP\xff\xfa\x18\r\nQUIT\r\n\xff\xf0\r\n",
        b"NOOP\r\xff\xf1\n",
        b"\xff\xf4\xff\xf2NOOP\r\n",
        b"\xff\xfd\nNOOP\r\n",
    ];
    for line in lines {
        // However it is cut, it is the same.
        for cut in 1..line.len() {
            client.raw(&line[..cut]);
            client.raw(&line[cut..]);
            let reply = client.reply();
            assert!(reply.starts_with("200 NOOP ok."), "{line:?} at {cut}: {reply}");
        }
    }
    drop(client);
    arena.baseline();
}

#[test]
fn a_folder_is_named_with_bytes_that_are_no_text() {
    use std::os::unix::ffi::OsStrExt;
    let arena = Arena::open(&[]);
    let names: [&[u8]; 4] = [b"a\xffb", b"\xc3\x28", b"\x80\x81\xfe", b"\xff\xff"];
    let mut client = arena.login();
    for name in names {
        std::fs::create_dir(arena.root().join(std::ffi::OsStr::from_bytes(name))).expect("a folder");
        // IAC is doubled on its way, both ways (RFC 854).
        let doubled: Vec<u8> = name.iter().flat_map(|&b| if b == 255 { vec![b, b] } else { vec![b] }).collect();
        client.raw(&[b"CWD /", doubled.as_slice(), b"\r\n"].concat());
        let reply = client.reply();
        assert!(reply.starts_with("250 "), "{name:?}: {reply}");
        client.send("PWD");
        let reply = client.reply_bytes();
        let expected = [b"257 \"/", doubled.as_slice(), b"\" is the current directory"].concat();
        assert_eq!(reply, expected, "{:?}", String::from_utf8_lossy(name));
    }
    // One reply each, and none for what is not a line.
    for line in
        [&b"CWD a\0b\r\n"[..], b"CWD a\rb\r\n", b"CWD a\nb\r\n", b"CWD \xff\xff\xfe\x80\r\n", b"\0\r\n", b"\r\n"]
    {
        client.raw(line);
        let reply = client.reply();
        assert!(reply.starts_with('5'), "{line:?}: {reply}");
    }
    client.expect("NOOP", "200 NOOP ok.");
    drop(client);
    arena.baseline();
}

/// One event is one line of the log, and one command one reply, whatever the name holds.
#[test]
fn names_hold_line_ends_and_escapes_to_forge_lines() {
    let arena = Arena::open(&[]);
    let forged = "2026-01-01T00:00:00.000Z ERROR defect of mine";
    let mut client = arena.login();
    for (folder, name) in [
        ("cr", format!("x\r{forged}")),
        ("lf", format!("x\n{forged}")),
        ("esc", "x\x1b[2J\x1b[31m".to_owned()),
        ("both", format!("x\r\n220 {forged}\r\n")),
    ] {
        let path = arena.root().join(folder).join(&name);
        std::fs::create_dir_all(&path).expect("a folder");
        // CR is CR NUL on its way, and a line feed stands for itself in a connection that uses CRLF.
        let sent = name.replace('\r', "\r\0");
        for command in ["CWD", "MLST", "STAT", "MDTM", "RETR"] {
            client.raw(format!("{command} /{folder}/{sent}\r\n").as_bytes());
            let reply = client.reply();
            let lines: Vec<&str> = reply.split('\n').collect();
            assert!(!reply.contains('\x1b') && !reply.contains('\r'), "{command}: {reply:?}");
            assert!(lines.len() == 1 || matches!(command, "MLST" | "STAT"), "{command}: {reply:?}");
        }
        client.send("PWD");
        let reply = client.reply();
        assert!(reply.starts_with("257 \"/") && reply.ends_with("is the current directory"), "{reply:?}");
        assert!(!reply.contains(['\r', '\n', '\x1b']), "{reply:?}");
    }
    client.raw(format!("USER x\n{forged}\r\n").as_bytes());
    let reply = client.reply();
    assert!(reply.starts_with("530 "), "{reply}");
    client.raw(format!("NOSUCH\x1b[2J\n{forged}\r\n").as_bytes());
    let reply = client.reply();
    assert!(reply.starts_with("500 "), "{reply}");
    drop(client);
    arena.baseline();
    let log = arena.log();
    for line in log.lines() {
        assert!(!line.contains('\x1b') && !line.contains('\r'), "{line:?}");
        assert!(!line.starts_with(forged), "forged: {line:?}");
        // Time and level, or a further line of the state that was asked for.
        let own = line.starts_with("  ") || line.as_bytes().get(4) == Some(&b'-');
        assert!(own, "{line:?}");
    }
}

#[test]
fn rest_is_a_number_that_is_none() {
    let arena = Arena::open(&[]);
    let mut client = arena.login();
    for number in [
        "-1",
        "9223372036854775808",
        "18446744073709551616",
        "340282366920938463463374607431768211456",
        "1e3",
        "0x10",
        "",
        " ",
        "1 2",
    ] {
        client.expect(&format!("REST {number}"), "501 ");
        // It is no marker: the file comes whole.
        let bytes = client.fetch("RETR sub/b.txt");
        assert_eq!(bytes, b"b\n");
    }
    for past in ["3", "9223372036854775807"] {
        passive_port(&mut client);
        client.expect(&format!("REST {past}"), "350 ");
        client.expect("RETR sub/b.txt", "554 ");
        // And it is used up.
        assert_eq!(client.fetch("RETR sub/b.txt"), b"b\n");
    }
    drop(client);
    arena.baseline();
}

#[test]
fn port_is_garbage_after_a_port_that_was_good() {
    let arena = Arena::open(&[]);
    let mut client = arena.login();
    for garbage in [
        "PORT",
        "PORT 1,2,3",
        "PORT 127,0,0,1,300,1",
        "PORT 127,0,0,1,4,-1",
        "PORT a,b,c,d,e,f",
        "PORT 127.0.0.1,4,1",
        "EPRT",
        "EPRT |",
        "EPRT |1|127.0.0.1|",
        "EPRT |3|127.0.0.1|4000|",
        "EPRT |1|::1|4000|",
        "EPRT |1|127.0.0.1|99999|",
        "EPRT |1|127.0.0.1|4000",
    ] {
        let port = passive_port(&mut client);
        client.expect(garbage, "5");
        client.expect("RETR a.txt", "425 Use PASV or PORT");
        assert!(is_closed(port), "{garbage}: the passive port is still open");
        assert_eq!(arena.extra_listeners(), 0, "{garbage}");
    }
    drop(client);
    arena.baseline();
}

/// Every verb there is, and some that are none, in every state of a session: one reply each.
#[test]
fn every_verb_comes_in_every_state() {
    const VERBS: [&str; 64] = [
        "USER", "PASS", "ACCT", "CWD", "CDUP", "SMNT", "REIN", "QUIT", "PORT", "PASV", "TYPE", "STRU", "MODE", "RETR",
        "STOR", "STOU", "APPE", "ALLO", "REST", "RNFR", "RNTO", "ABOR", "DELE", "RMD", "MKD", "PWD", "LIST", "NLST",
        "SITE", "SYST", "STAT", "HELP", "NOOP", "FEAT", "OPTS", "AUTH", "ADAT", "PROT", "PBSZ", "CCC", "MIC", "CONF",
        "ENC", "LANG", "EPRT", "EPSV", "MDTM", "SIZE", "MLST", "MLSD", "MFMT", "MFCT", "HOST", "CLNT", "LPRT", "LPSV",
        "XPWD", "XCWD", "XCUP", "XMKD", "XRMD", "XYZZY", "", "RETR\0",
    ];
    const ARGUMENTS: [&str; 4] = ["", " ", " a.txt", " ../../..\u{7f}|*?"];
    const STATES: [&[&str]; 7] = [
        &[],
        &["USER ftp"],
        &["USER ftp", "PASS x"],
        &["USER ftp", "PASS x", "TYPE I", "REST 1"],
        &["USER ftp", "PASS x", "EPSV"],
        &["USER ftp", "PASS x", "EPSV ALL"],
        &["USER ftp", "PASS x", "REIN"],
    ];
    let arena = Arena::open(&["--data-timeout", "100ms", "--log", "info"]);
    std::thread::scope(|scope| {
        for state in STATES {
            let arena = &arena;
            scope.spawn(move || {
                for verb in VERBS {
                    for argument in ARGUMENTS {
                        let mut client = arena.connect();
                        for command in state {
                            let reply = client.command(command);
                            assert!(reply.starts_with(['2', '3']), "{command}: {reply}");
                        }
                        one_verb(&mut client, &format!("{verb}{argument}"), state);
                    }
                }
            });
        }
    });
    eventually("all to be gone", || arena.is_deserted());
    arena.baseline();
}

fn one_verb(client: &mut Client, command: &str, state: &[&str]) {
    let reply = client.command(command);
    // No data connection is ever made, so no transfer begins.
    let code = &reply[..3];
    assert!(("200".."600").contains(&code), "{state:?}, {command:?}: {reply}");
    if code == "221" || code == "421" {
        return client.expect_end();
    }
    // There is no second one.
    client.expect("NOOP", "200 NOOP ok.");
}

/// Two commands in one packet are two; a reply comes for each, in order.
#[test]
fn commands_come_in_one_packet_or_byte_by_byte() {
    let arena = Arena::open(&[]);
    let script: &[u8] = b"USER ftp\r\nPASS x\r\nSYST\r\nFEAT\r\nPWD\r\nNOPE\r\nQUIT\r\nSYST\r\n";
    for step in [1, 2, 7, script.len()] {
        let mut guest = Guest::connect(arena.v4());
        guest.expect_reply("220 ");
        for part in script.chunks(step) {
            guest.raw(part);
        }
        for code in ["331 ", "230 ", "215 ", "211-", "257 ", "500 ", "221 "] {
            guest.expect_reply(code);
        }
        // What comes after QUIT is not heard.
        assert_eq!(guest.hear(Duration::from_secs(5)), Heard::End);
    }
    arena.baseline();
}
