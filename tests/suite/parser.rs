//! What a client may send on the control connection, well-formed or not: exactly one reply to each line,
//! and nothing in a line becomes a line of its own elsewhere.

use crate::server::{Client, PATIENCE, Server, eventually, tree};
use plimsoll::limits::{LINE_DISCARD_MAX, LINE_MAX};
use plimsoll::proto::verb::VERBS;
use socket2::SockRef;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::net::Shutdown;
use std::os::unix::ffi::OsStrExt;
use std::time::Instant;

/// Sends bytes and reads one reply, which must begin like this.
fn expect(client: &mut Client, bytes: &[u8], start: &str) -> String {
    client.raw(bytes);
    expect_reply(client, start, bytes)
}

fn expect_reply(client: &mut Client, start: &str, what: &[u8]) -> String {
    let reply = client.reply();
    let shown = what[..what.len().min(200)].escape_ascii();
    assert!(reply.starts_with(start), "{shown}: expected {start}, got {reply:?}");
    reply
}

// --- Length -------------------------------------------------------------------------------------

#[test]
fn a_line_is_taken_up_to_the_limit_and_refused_whole_beyond_it() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &[]);
    let mut client = server.connect();
    for end in ["\r\n", "\n"] {
        if end == "\n" {
            client = server.connect();
            expect(&mut client, b"NOOP\n", "200 ");
        }
        for length in LINE_MAX - 8..LINE_MAX + 8 {
            let padding = "x".repeat(length - "NOOP ".len() - end.len());
            let line = format!("NOOP {padding}{end}");
            assert_eq!(line.len(), length);
            let start = if length <= LINE_MAX { "200 NOOP" } else { "500 " };
            let reply = expect(&mut client, line.as_bytes(), start);
            assert_eq!(reply.contains("too long"), length > LINE_MAX, "{length}: {reply}");
        }
        expect(&mut client, format!("SYST{end}").as_bytes(), "215 ");
    }
}

#[test]
fn the_tail_of_an_over_long_line_is_never_run() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &[]);
    let mut client = server.connect();
    // Wherever the line might be cut, what follows would be a command that ends the session.
    for length in [LINE_MAX, 2 * LINE_MAX, 3 * LINE_MAX, 8192, 16_384, 60_000] {
        for cut in length - 3..length + 3 {
            let mut line = b"NOOP ".to_vec();
            line.resize(cut, b'x');
            line.extend_from_slice(b"QUIT\r\n");
            let reply = expect(&mut client, &line, "500 ");
            assert!(reply.contains("too long"), "{reply}");
            expect(&mut client, b"SYST\r\n", "215 ");
        }
    }
    // The same with nothing but such commands in it, in one write with what follows.
    let line = b"QUIT ".repeat(2_000);
    let reply = expect(&mut client, &[&line[..], b"\r\nSYST\r\n"].concat(), "500 ");
    assert!(reply.contains("too long"), "{reply}");
    expect_reply(&mut client, "215 ", b"SYST");
}

#[test]
fn an_over_long_line_that_comes_in_parts_gets_one_reply_at_its_end() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &[]);
    let mut client = server.login();
    for part in b"QUIT".repeat(2_500).chunks(997) {
        client.raw(part);
    }
    expect(&mut client, b"\r\n", "500 ");
    client.expect("PWD", "257 ");
}

#[test]
fn an_over_long_line_that_never_ends_with_the_connection_is_not_answered() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &["--workers", "1"]);
    for length in [10, LINE_MAX, 10_000] {
        let mut client = server.connect();
        client.raw(&vec![b'x'; length]);
        client.stream.shutdown(Shutdown::Write).expect("connected");
        client.expect_end();
    }
    server.login();
}

#[test]
fn half_a_command_at_the_end_of_the_connection_is_not_run() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &[]);
    let mut client = server.connect();
    client.raw(b"NOOP\r\nNOOP");
    client.stream.shutdown(Shutdown::Write).expect("connected");
    expect_reply(&mut client, "200 ", b"NOOP");
    client.expect_end();
}

#[test]
fn a_megabyte_without_a_line_end_gets_500_and_the_connection_is_closed() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &["--workers", "1"]);
    let before = server.descriptors();
    let telnet: &[u8] = &[255, 241];
    for (what, byte) in [("letters", &b"x"[..]), ("NUL", b"\0"), ("CR", b"\r"), ("Telnet alone", telnet)] {
        let mut client = server.connect();
        let mut flood = client.stream.try_clone().expect("a descriptor");
        let writer = std::thread::spawn(move || {
            let chunk = byte.repeat(32 * 1024);
            // The server closes in the middle of it.
            (0..(1 << 20) / chunk.len()).all(|_| flood.write_all(&chunk).is_ok())
        });
        let reply = client.reply();
        assert!(reply.starts_with("500 ") && reply.contains("does not end"), "{what}: {reply:?}");
        client.expect_end();
        drop(client);
        writer.join().expect("the writer ends");
        eventually("the session to be gone", || server.descriptors() == before);
    }
    server.login();
}

#[test]
fn just_enough_without_a_line_end_gets_500_and_the_connection_is_closed() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &[]);
    let mut client = server.login();
    client.raw(&vec![b'x'; LINE_DISCARD_MAX + 1]);
    expect_reply(&mut client, "500 ", b"");
    client.expect_end();
    let mut client = server.login();
    client.raw(&vec![b'x'; LINE_DISCARD_MAX - 2]);
    expect(&mut client, b"\r\n", "500 That line is too long");
    client.expect("NOOP", "200 ");
}

// --- Telnet -------------------------------------------------------------------------------------

#[test]
fn telnet_sequences_are_taken_out_anywhere() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &[]);
    let mut client = server.login();
    let line = b"SIZE a.txt\r\n";
    let sequences: [&[u8]; 8] = [
        &[255, 241],
        &[255, 244],
        &[255, 242],
        &[255, 251, 1],
        &[255, 254, b'\n'],
        &[255, 253, 255],
        &[255, 250, 24, b'\r', b'\n', b'Q', b'U', b'I', b'T', b'\r', b'\n', 255, 255, 255, 240],
        &[255, 244, 255, 242, 255, 252, 3],
    ];
    for sequence in sequences {
        for at in 0..line.len() {
            let bytes = [&line[..at], sequence, &line[at..]].concat();
            expect(&mut client, &bytes, "213 19");
        }
    }
    // Between each byte and the next, and cut from them by the end of a segment.
    for byte in line {
        client.raw(&[255, 251]);
        client.raw(&[1]);
        client.raw(&[*byte]);
    }
    expect_reply(&mut client, "213 19", line);
}

#[test]
fn telnet_may_come_as_urgent_data() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &[]);
    let mut client = server.login();
    for urgent in [&[255, 242][..], &[255, 244, 255, 242], b"NOOP\r\n"] {
        client.raw(b"SIZE a");
        client.raw(&[255, 244]);
        client.expect(".txt", "213 19");
        let sent = SockRef::from(&client.stream).send_out_of_band(urgent);
        assert_eq!(sent.expect("the server reads"), urgent.len());
        if urgent.starts_with(b"NOOP") {
            expect_reply(&mut client, "200 NOOP", urgent);
        }
        client.expect("SYST", "215 ");
    }
}

#[test]
fn a_doubled_255_is_a_byte_of_the_name() {
    let (_folder, root) = tree();
    fs::write(root.join(OsStr::from_bytes(b"\xff")), "odd").expect("a file");
    fs::write(root.join(OsStr::from_bytes(b"\xffNOOP\xff")), "odder").expect("a file");
    let server = Server::start(&root, &[]);
    let mut client = server.login();
    expect(&mut client, b"SIZE \xff\xff\r\n", "213 3");
    expect(&mut client, b"SIZE \xff\xffNOOP\xff\xff\r\n", "213 5");
    // Alone it begins a Telnet command, which takes the next byte with it.
    expect(&mut client, b"SIZE \xff\xf1\xff\xff\r\n", "213 3");
    // Where none can follow it is a byte of the name, and the line ends where it ends.
    expect(&mut client, b"SIZE \xff\r\n", "213 3");
    expect(&mut client, b"SIZE \xffNOOP\xff\r\n", "213 5");
}

// --- Line ends ----------------------------------------------------------------------------------

#[test]
fn nul_bare_cr_and_bare_lf_are_data_where_lines_end_with_crlf() {
    let (_folder, root) = tree();
    for name in [&b"a\nQUIT"[..], b"a\rQUIT", b"\n", b"a\r\rb"] {
        fs::write(root.join(OsStr::from_bytes(name)), name).expect("a file");
    }
    let server = Server::start(&root, &[]);
    let mut client = server.login();
    expect(&mut client, b"SIZE a\nQUIT\r\n", "213 6");
    expect(&mut client, b"SIZE a\rQUIT\r\n", "213 6");
    expect(&mut client, b"SIZE a\r\0QUIT\r\n", "213 6");
    expect(&mut client, b"SIZE \n\r\n", "213 1");
    expect(&mut client, b"SIZE a\r\r\0b\r\n", "213 4");
    for (bytes, start) in [
        (&b"NOOP a\nQUIT\nQUIT\r\n"[..], "200 "),
        (b"NOOP \rQUIT\r\n", "200 "),
        (b"NOOP a\0b\r\n", "200 "),
        (b"NOOP\nQUIT\r\n", "500 "),
        (b"NOOP\rQUIT\r\n", "500 "),
        (b"NOOP\0\r\n", "500 "),
        (b"\0NOOP\r\n", "500 "),
        (b"\nNOOP\r\n", "500 "),
        (b"\n\r\n", "500 "),
        (b"\r\n", "500 "),
        (b"SIZE a.txt\0\r\n", "501 "),
        (b"RETR a.txt\0.jpg\r\n", "501 "),
        (b"CWD \0\r\n", "501 "),
        (b"RETR sub\0/../../etc/passwd\r\n", "501 "),
    ] {
        expect(&mut client, bytes, start);
        expect(&mut client, b"SYST\r\n", "215 ");
    }
}

#[test]
fn high_bytes_neither_cut_nor_split_a_line() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &[]);
    let mut client = server.connect();
    for byte in 0x80..=0xFE_u8 {
        expect(&mut client, &[b"NOOP ", &[byte; 3][..], b"\r\n"].concat(), "200 ");
        expect(&mut client, &[b"NO", &[byte][..], b"OP\r\n"].concat(), "500 ");
    }
    // Line separators of Unicode are none here.
    expect(&mut client, "NOOP \u{2028}QUIT\u{85}QUIT\r\n".as_bytes(), "200 ");
    client.expect("NOOP", "200 ");
}

#[test]
fn lines_may_end_with_lf_alone_as_nc_sends_them() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &[]);
    let mut client = server.connect();
    client.raw(b"USER ftp\nPASS x\nTYPE I\nSIZE a.txt\nCWD sub\r\nPWD\nXYZZ\n\nEPSV 2\nQUIT\n");
    let pwd = "257 \"/sub\" is";
    for start in ["331 ", "230 ", "200 ", "213 19", "250 ", pwd, "500 ", "500 ", "522 ", "221 "] {
        expect_reply(&mut client, start, b"");
    }
    client.expect_end();
}

// --- Segments and pipelines ---------------------------------------------------------------------

#[test]
fn a_command_may_come_one_byte_at_a_time() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &[]);
    let mut client = server.connect();
    for line in ["USER anonymous\r\n", "PASS a@b\r\n", "TYPE I\r\n", "SIZE a.txt\r\n"] {
        for byte in line.as_bytes() {
            client.raw(&[*byte]);
        }
        let start = match &line[..4] {
            "USER" => "331 ",
            "PASS" => "230 ",
            "TYPE" => "200 ",
            _ => "213 19",
        };
        expect_reply(&mut client, start, line.as_bytes());
    }
}

#[test]
fn a_command_may_be_split_across_segments_anywhere() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &[]);
    let mut client = server.login();
    let lines = b"SIZE a.txt\r\nSYST\r\n";
    for cut in 1..lines.len() {
        client.raw(&lines[..cut]);
        // Whatever is whole is answered before the rest is sent, so the cut is a cut for the server too.
        if cut >= 12 {
            expect_reply(&mut client, "213 19", lines);
        }
        client.raw(&lines[cut..]);
        if cut < 12 {
            expect_reply(&mut client, "213 19", lines);
        }
        expect_reply(&mut client, "215 ", lines);
    }
}

#[test]
fn a_thousand_pipelined_commands_get_a_thousand_replies_in_order() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &[]);
    let mut client = server.login();
    let kinds = [
        ("NOOP", "200 NOOP"),
        ("SYST", "215 "),
        ("CWD sub", "250 "),
        ("PWD", "257 \"/sub\""),
        ("CDUP", "250 "),
        ("PWD", "257 \"/\""),
        ("FEAT", "211-"),
        ("XYZZ", "500 "),
        ("STAT a.txt", "213-"),
        ("SIZE missing", "550 "),
    ];
    let mut sender = client.stream.try_clone().expect("a descriptor");
    let pipeline: String = (0..1_000).map(|at| format!("{}\r\n", kinds[at % kinds.len()].0)).collect();
    let writer = std::thread::spawn(move || sender.write_all(pipeline.as_bytes()).expect("the server reads"));
    for at in 0..1_000 {
        let (command, start) = kinds[at % kinds.len()];
        expect_reply(&mut client, start, format!("{at}: {command}").as_bytes());
    }
    writer.join().expect("the writer ends");
    client.expect("ALLO 1", "202 ");
}

#[test]
fn a_pipeline_may_end_in_the_middle_of_a_line() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &[]);
    let mut client = server.login();
    let last = b"SIZE a.txt\r\n";
    for cut in 1..last.len() {
        client.raw(&[b"NOOP\r\nSYST\r\n", &last[..cut]].concat());
        expect_reply(&mut client, "200 ", b"NOOP");
        expect_reply(&mut client, "215 ", b"SYST");
        client.raw(&[&last[cut..], b"PWD\r\n"].concat());
        expect_reply(&mut client, "213 19", last);
        expect_reply(&mut client, "257 ", b"PWD");
    }
}

#[test]
fn a_whole_session_may_come_in_one_segment() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &[]);
    let mut client = server.connect();
    client.raw(b"USER ftp\r\nPASS x\r\nCWD sub\r\nPWD\r\nQUIT\r\nNOOP\r\n");
    for start in ["331 ", "230 ", "250 ", "257 \"/sub\"", "221 "] {
        expect_reply(&mut client, start, b"");
    }
    client.expect_end();
}

// --- Forgery ------------------------------------------------------------------------------------

/// Bytes that would begin a line, or speak to a terminal, wherever they were written as they are.
const FORGERY: &[u8] = b"\n2000-01-01T00:00:00.000Z ERROR forged\x1b]0;title\x07\x1b[2J\r\0\n230 forged\n ";

#[test]
fn names_never_forge_a_line_of_the_log() {
    let (_folder, root) = tree();
    let name: Vec<u8> = FORGERY.iter().copied().filter(|&byte| byte != 0).collect();
    fs::write(root.join(OsStr::from_bytes(&name)), "x").expect("a file");
    let server = Server::start(&root, &["--log", "trace"]);
    let mut client = server.connect();
    client.expect("NOOP", "200 ");
    for verb in VERBS.iter().filter(|verb| !matches!(verb.name, "USER" | "QUIT")) {
        expect(&mut client, &[verb.name.as_bytes(), b" ", FORGERY, b"\r\n"].concat(), "");
    }
    expect(&mut client, &[b"USER root", FORGERY, b"\r\n"].concat(), "530 ");
    expect(&mut client, &[b"XYZZ", FORGERY, b"\r\n"].concat(), "500 ");
    expect(&mut client, &[FORGERY, b"\r\n"].concat(), "500 ");
    client.log_in();
    for verb in VERBS.iter().filter(|verb| !matches!(verb.name, "USER" | "REIN" | "QUIT")) {
        expect(&mut client, &[verb.name.as_bytes(), b" ", FORGERY, b"\r\n"].concat(), "");
    }
    let data = client.passive(true);
    expect(&mut client, &[b"RETR ", FORGERY, b"\r\n"].concat(), "150 ");
    drop(data);
    let end = client.reply();
    assert!(end.starts_with("226 ") || end.starts_with("426 "), "{end}");
    client.expect("SIZE the-last-of-it", "550 ");
    server.wait_for_log("the-last-of-it");
    let log = server.log();
    assert!(log.contains("forged"), "the names were logged:\n{log}");
    for line in log.lines() {
        assert!(line.starts_with("20") && !line.starts_with("2000"), "{line:?}");
        assert!(!line.chars().any(char::is_control), "{line:?}");
    }
}

#[test]
fn passwords_never_reach_the_log() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &["--log", "trace"]);
    let mut client = server.connect();
    for command in [
        "USER ftp",
        "PASS hunter2",
        "pass hunter2",
        "ACCT hunter2",
        "ADAT hunter2",
        "Pass  hunter2",
        "PASS\thunter2",
        " PASS hunter2",
        "PASSS hunter2",
        "hunter2",
    ] {
        client.command(command);
    }
    client.expect("SIZE the-last-of-it", "550 ");
    server.wait_for_log("the-last-of-it");
    assert!(!server.log().contains("hunter2"), "{}", server.log());
}

#[test]
fn names_never_forge_a_line_of_a_reply() {
    let (_folder, root) = tree();
    let name: Vec<u8> = FORGERY.iter().copied().filter(|&byte| byte != 0).collect();
    let folder = root.join(OsStr::from_bytes(&name));
    fs::create_dir(&folder).expect("a folder");
    File::create(folder.join(OsStr::from_bytes(&name))).expect("a file");
    let server = Server::start(&root, &[]);
    let mut client = server.login();
    expect(&mut client, &[b"CWD ", FORGERY, b"\r\n"].concat(), "250 ");
    // That each reply is well-formed, and each line of it ends with CRLF, is what the client asserts.
    for (command, start, count) in [
        (&b"PWD"[..], "257 ", 1),
        (b"MLST", "250-", 3),
        (b"STAT -a", "213-", 5),
        (b"STAT *", "213-", 3),
        (b"STAT", "211-", 6),
        (&[b"MLST ", FORGERY].concat(), "250-", 3),
        (&[b"STAT ", FORGERY].concat(), "213-", 3),
        (&[b"SIZE ", FORGERY, b"x"].concat(), "550 ", 1),
        (&[b"HELP ", FORGERY].concat(), "501 ", 1),
        (&[b"OPTS MLST ", FORGERY].concat(), "200 ", 1),
        (&[b"OPTS ", FORGERY].concat(), "501 ", 1),
        (FORGERY, "500 ", 1),
    ] {
        let reply = expect(&mut client, &[command, b"\r\n"].concat(), start);
        assert_eq!(reply.split('\n').count(), count, "{}: {reply:?}", command.escape_ascii());
        assert!(!reply.contains(['\r', '\x1b', '\x07', '\0']), "{reply:?}");
    }
    client.expect("NOOP", "200 NOOP ok");
}

// --- Everything else ----------------------------------------------------------------------------

/// A small generator that needs nothing but its seed (xorshift64*).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, count: usize) -> usize {
        let count = u64::try_from(count).expect("a small number");
        usize::try_from((self.next() >> 16) % count).expect("below a usize")
    }

    fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }

    /// An argument that is or resembles one, or is nothing of the kind.
    fn argument(&mut self) -> Vec<u8> {
        const PARTS: &[&[u8]] = &[
            b"/",
            b"..",
            b"a.txt",
            b"sub",
            b" ",
            b"-a",
            b"--",
            b"*",
            b"?",
            b"[",
            b"]",
            b"|",
            b",",
            b"1",
            b"255",
            b"65536",
            b"-1",
            b"9223372036854775808",
            b"\r",
            b"\0",
            b"\x1b",
            b"\x7f",
            b"\t",
            b"%n%s",
            b"\"",
            b"127",
            b"::1",
            b"|1|127.0.0.1|",
            b"UTF8",
            b"MLST",
            b"type;",
            b"CHMOD 777",
            b"anonymous",
            b"A",
            b"I",
            b"L 8",
            b"20200101000000",
            b"\xff\xff",
            b"\xc3\x28",
            b"\xed\xa0\x80",
            b"~",
            b"$(id)",
            b"`",
            b"\\",
            b":",
            b"\x08",
        ];
        let mut bytes = Vec::new();
        match self.below(8) {
            0 => {}
            1 => bytes.resize(self.below(LINE_MAX + 200), b"ax/*\0"[self.below(5)]),
            2 => {
                for _ in 0..self.below(200) {
                    let byte = u8::try_from(self.below(256)).expect("a byte");
                    bytes.push(byte);
                    if byte == 0xFF {
                        bytes.push(byte);
                    }
                }
            }
            _ => {
                for _ in 0..=self.below(12) {
                    bytes.extend_from_slice(self.pick(PARTS));
                }
            }
        }
        // A line end inside would make two lines of it.
        while let Some(at) = bytes.windows(2).position(|pair| pair == b"\r\n") {
            bytes.remove(at);
        }
        bytes
    }
}

fn garbage_in_state(state: usize, login: &[&str]) {
    const EACH: usize = 24;
    let (_folder, root) = tree();
    let server = Server::start(&root, &["--data-timeout", "100ms"]);
    let mut random = Random(0x9E37_79B9_7F4A_7C15 + state as u64);
    let mut asked = 0;
    for verb in VERBS {
        // These change the state that they are to be tried in, or end it.
        let lonely = matches!(verb.name, "USER" | "PASS" | "REIN" | "QUIT");
        let mut session: Option<Client> = None;
        for _ in 0..EACH {
            let mut client = session.take().unwrap_or_else(|| {
                let mut client = server.connect();
                client.expect("NOOP", "200 ");
                for line in login {
                    client.command(line);
                }
                client
            });
            let argument = random.argument();
            let line = [verb.name.as_bytes(), b" ", &argument, b"\r\n"].concat();
            client.raw(&line);
            client.raw(b"NOOP\r\n");
            let reply = client.reply();
            let shown = line.escape_ascii();
            assert!(!reply.is_empty(), "{shown}: no reply");
            asked += 1;
            if reply.starts_with("221 ") {
                client.expect_end();
                continue;
            }
            assert!(!reply.starts_with("421") && !reply.starts_with('1'), "{shown}: {reply}");
            assert_eq!(client.reply(), "200 NOOP ok.", "after {shown} and {reply}");
            if !lonely {
                session = Some(client);
            }
        }
    }
    assert_eq!(asked, VERBS.len() * EACH);
    server.login();
}

#[test]
fn garbage_before_login_gets_one_reply_each() {
    garbage_in_state(0, &[]);
}

#[test]
fn garbage_after_user_gets_one_reply_each() {
    garbage_in_state(1, &["USER ftp"]);
}

#[test]
fn garbage_after_login_gets_one_reply_each() {
    garbage_in_state(2, &["USER ftp", "PASS x"]);
}

#[test]
fn garbage_with_a_data_port_gets_one_reply_each() {
    // Nobody comes to the port, so what is well-formed after all gets 425.
    garbage_in_state(3, &["USER ftp", "PASS x", "TYPE I", "EPSV"]);
}

#[test]
fn lines_of_random_bytes_get_one_reply_each() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &[]);
    let mut random = Random(20_251_122);
    let mut client = server.login();
    for _ in 0..2_000 {
        let mut line = random.argument();
        line.insert(0, b'!');
        line.extend_from_slice(b"\r\nNOOP\r\n");
        let reply = expect(&mut client, &line, "500 ");
        assert_eq!(client.reply(), "200 NOOP ok.", "after {} and {reply}", line.escape_ascii());
    }
}

#[test]
fn glob_bombs_are_answered_soon() {
    let (_folder, root) = tree();
    let folder = root.join("bombs");
    fs::create_dir(&folder).expect("a folder");
    for number in 0..300 {
        File::create(folder.join(format!("{}{number:03}", "a".repeat(252)))).expect("a file");
    }
    let server = Server::start(&root, &[]);
    let mut client = server.login();
    client.expect("CWD bombs", "250 ");
    let bombs = [
        format!("{}b", "a*".repeat(127)),
        format!("*{}b", "a".repeat(127)),
        format!("*{}b", "?".repeat(127)),
        format!("*{}b", "[a-z]".repeat(50)),
        format!("{}b", "*a".repeat(120)),
        "*".repeat(255),
        "[".repeat(255),
        format!("{}x", "[[]".repeat(84)),
        "{a,{a,{a,{a,{a,b}}}}}*".to_owned(),
        "{{{{{{{{{{{{*".to_owned(),
        "*/../*/../*/../*".to_owned(),
        "../bombs/../bombs/../bombs/a*".to_owned(),
        "[!b]*[!b]*[!b]*[!b]*[!b]*c".to_owned(),
        "\\*".repeat(100),
    ];
    for bomb in &bombs {
        let started = Instant::now();
        for command in ["LIST", "NLST"] {
            let mut data = client.passive(true);
            client.send(&format!("{command} {bomb}"));
            let reply = client.reply();
            if reply.starts_with("150 ") {
                std::io::copy(&mut data, &mut std::io::sink()).expect("the data end in order");
                drop(data);
                expect_reply(&mut client, "226 ", bomb.as_bytes());
            } else {
                assert!(reply.starts_with("550 ") || reply.starts_with("501 "), "{bomb}: {reply}");
            }
        }
        let reply = client.command(&format!("STAT {bomb}"));
        assert!(reply.starts_with("213-") || reply.starts_with('5'), "{bomb}: {reply}");
        assert!(started.elapsed() < PATIENCE, "{bomb}");
    }
    // A pattern as long as a line can hold is no name.
    client.expect(&format!("STAT {}", "*a".repeat(2_000)), "501 ");
    client.expect("NOOP", "200 ");
}
