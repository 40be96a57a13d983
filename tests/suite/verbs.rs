//! Every verb in every login state, and everything about replies that can be seen without looking at how
//! data connections live and die.

use crate::server::{Client, Server, has_ipv6, tree};
use plimsoll::proto::verb::{VERBS, Writes};
use socket2::{Domain, Socket, Type};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

// --- Every verb in every login state ------------------------------------------------------------

/// An argument, and how the reply to it begins: not logged in, after USER only, logged in (in image type).
type Case = (&'static str, [&'static str; 3]);

/// The same in every state.
const fn always(reply: &'static str) -> [&'static str; 3] {
    [reply, reply, reply]
}

/// Only for those who are logged in.
const fn member(reply: &'static str) -> [&'static str; 3] {
    ["530 ", "530 ", reply]
}

const MISSING: &str = "550 No such file";
const READ_ONLY: &str = "550 Permission denied: you may read, and nothing else.";

/// What a client gets for each verb of the table; an empty argument is none at all. `a.txt` is a file,
/// `sub` a folder.
#[rustfmt::skip]
const EXPECTED: &[(&str, &[Case])] = &[
    ("USER", &[("", always("501 ")), ("anonymous", always("331 ")), ("ftp", always("331 ")), ("FTP", always("331 ")),
               ("root", always("530 "))]),
    ("PASS", &[("", ["503 ", "230 ", "503 "]), ("a@b", ["503 ", "230 ", "503 "]), ("a b c", ["503 ", "230 ", "503 "])]),
    ("ACCT", &[("", always("202 ")), ("x", always("202 "))]),
    ("REIN", &[("", always("220 ")), ("x", always("501 "))]),
    ("QUIT", &[("", always("221 ")), ("now", always("501 "))]),
    ("HOST", &[("", always("501 ")), ("ftp.example.org", ["220 ", "503 ", "503 "])]),
    ("CLNT", &[("", always("200 ")), ("tester 1.0", always("200 "))]),
    ("CWD",  &[("", member("501 ")), ("sub", member("250 ")), ("/sub/", member("250 ")), ("..", member("250 ")),
               ("a.txt", member("550 ")), ("missing", member(MISSING)), ("a.txt/x", member("550 "))]),
    ("XCWD", &[("", member("501 ")), ("sub", member("250 ")), ("a.txt", member("550 ")), ("missing", member(MISSING))]),
    ("CDUP", &[("", member("250 ")), ("x", member("501 "))]),
    ("XCUP", &[("", member("250 ")), ("x", member("501 "))]),
    ("PWD",  &[("", member("257 \"/\" is the current directory")), ("x", member("501 "))]),
    ("XPWD", &[("", member("257 \"/\" is the current directory")), ("x", member("501 "))]),
    ("SMNT", &[("", always("502 ")), ("/mnt", always("502 "))]),
    ("PORT", &[("", member("501 ")), ("127,0,0,1,200,1", member("200 ")), ("127,0,0,2,200,1", member("504 ")),
               ("8,8,8,8,200,1", member("504 ")), ("127,0,0,1,3,255", member("504 ")), ("127,0,0,1,0,0", member("504 ")),
               ("127,0,0,1,200", member("501 ")), ("127,0,0,1,256,1", member("501 ")), ("x", member("501 "))]),
    ("EPRT", &[("", member("501 ")), ("|1|127.0.0.1|51201|", member("200 ")), ("!1!127.0.0.1!51201!", member("200 ")),
               ("|1|127.0.0.2|51201|", member("504 ")), ("|1|127.0.0.1|1023|", member("504 ")),
               ("|2|::1|51201|", member("504 ")), ("|3|x|51201|", member("522 ")), ("|1|127.0.0.1|65536|", member("501 ")),
               ("|1|127.0.0.1|51201", member("501 ")), ("x", member("501 "))]),
    ("PASV", &[("", member("227 Entering Passive Mode (127,0,0,1,")), ("x", member("501 "))]),
    ("EPSV", &[("", member("229 Entering Extended Passive Mode (|||")), ("1", member("229 ")), ("2", member("522 ")),
               ("3", member("522 ")), ("ALL", member("200 ")), ("all", member("200 ")), ("x", member("501 "))]),
    ("TYPE", &[("", member("501 ")), ("A", member("200 ")), ("a n", member("200 ")), ("I", member("200 ")),
               ("L 8", member("200 ")), ("L8", member("200 ")), ("E", member("504 ")), ("A T", member("504 ")),
               ("A C", member("504 ")), ("L 7", member("504 ")), ("L 36", member("504 ")), ("L x", member("504 ")), ("X", member("504 "))]),
    ("STRU", &[("", member("501 ")), ("F", member("200 ")), ("f", member("200 ")), ("R", member("504 ")),
               ("P", member("504 ")), ("FF", member("501 "))]),
    ("MODE", &[("", member("501 ")), ("S", member("200 ")), ("s", member("200 ")), ("B", member("504 ")),
               ("C", member("504 ")), ("Z", member("504 ")), ("SS", member("501 "))]),
    ("REST", &[("", member("501 ")), ("0", member("350 ")), ("7", member("350 ")),
               ("9223372036854775807", member("350 ")), ("9223372036854775808", member("501 ")),
               ("18446744073709551616", member("501 ")), ("-1", member("501 ")), ("1.5", member("501 ")),
               ("x", member("501 "))]),
    ("ALLO", &[("", member("501 ")), ("100", member("202 ")), ("100 R 10", member("202 ")), ("x", member("501 "))]),
    ("OPTS", &[("", always("501 ")), ("UTF8 ON", always("200 ")), ("utf8 on", always("200 ")),
               ("UTF-8 ON", always("200 ")), ("UTF8", always("200 ")), ("UTF8 OFF", always("504 ")),
               ("MLST type;", always("200 MLST OPTS type;")), ("MLST", always("200 MLST OPTS ")), ("X", always("501 "))]),
    ("RETR", &[("", member("501 ")), ("a.txt", member("425 ")), ("missing", member(MISSING)), ("sub", member("550 ")),
               ("/", member("550 "))]),
    ("LIST", &[("", member("425 ")), ("-a", member("425 ")), ("sub", member("425 ")), ("missing", member(MISSING))]),
    ("NLST", &[("", member("425 ")), ("-a", member("425 ")), ("sub", member("425 ")), ("missing", member(MISSING))]),
    ("MLSD", &[("", member("425 ")), ("sub", member("425 ")), ("a.txt", member("501 ")), ("missing", member(MISSING))]),
    ("ABOR", &[("", always("225 ")), ("x", always("501 "))]),
    ("MLST", &[("", member("250-")), ("a.txt", member("250-")), ("sub", member("250-")), ("missing", member(MISSING))]),
    ("SIZE", &[("", member("501 ")), ("a.txt", member("213 19")), ("sub", member("550 ")), ("missing", member(MISSING))]),
    ("MDTM", &[("", member("501 ")), ("a.txt", member("213 ")), ("sub", member("550 ")), ("missing", member(MISSING)),
               ("20200101000000 a.txt", member("550 "))]),
    ("STAT", &[("", always("211-")), ("sub", member("213-")), ("-a", member("213-")), ("a.txt", member("213-")),
               ("missing", member(MISSING))]),
    ("FEAT", &[("", always("211-")), ("x", always("501 "))]),
    ("HELP", &[("", always("214-")), ("RETR", always("214 ")), ("retr", always("214 ")), ("AUTH", always("214 ")),
               ("XYZZ", always("501 "))]),
    ("SITE", &[("", always("501 ")), ("HELP", always("214 ")), ("help", always("214 ")), ("EXEC ls", always("504 ")),
               ("CHMOD 644 a.txt", member(READ_ONLY))]),
    ("SYST", &[("", always("215 UNIX Type: L8")), ("x", always("501 "))]),
    ("NOOP", &[("", always("200 NOOP")), ("x", always("200 NOOP"))]),
    ("LANG", &[("", always("200 ")), ("en", always("200 ")), ("EN-GB", always("200 ")), ("fr", always("504 "))]),
    ("STOR", &[("", member(READ_ONLY)), ("new", member(READ_ONLY))]),
    ("STOU", &[("", member(READ_ONLY)), ("new", member(READ_ONLY))]),
    ("APPE", &[("", member(READ_ONLY)), ("a.txt", member(READ_ONLY))]),
    ("DELE", &[("", member(READ_ONLY)), ("a.txt", member(READ_ONLY))]),
    ("RMD",  &[("", member(READ_ONLY)), ("empty", member(READ_ONLY))]),
    ("XRMD", &[("", member(READ_ONLY)), ("empty", member(READ_ONLY))]),
    ("MKD",  &[("", member(READ_ONLY)), ("new", member(READ_ONLY))]),
    ("XMKD", &[("", member(READ_ONLY)), ("new", member(READ_ONLY))]),
    ("RNFR", &[("", member(READ_ONLY)), ("a.txt", member(READ_ONLY))]),
    ("RNTO", &[("", member(READ_ONLY)), ("new", member(READ_ONLY))]),
    ("MFMT", &[("", member(READ_ONLY)), ("20200101000000 a.txt", member(READ_ONLY))]),
    ("MFF",  &[("", member(READ_ONLY)), ("modify=20200101000000; a.txt", member(READ_ONLY))]),
    ("AUTH", &[("", always("502 ")), ("TLS", always("502 ")), ("SSL", always("502 "))]),
    ("PBSZ", &[("", always("502 ")), ("0", always("502 "))]),
    ("PROT", &[("", always("502 ")), ("P", always("502 "))]),
    ("CCC",  &[("", always("502 "))]),
    ("ADAT", &[("", always("502 ")), ("x", always("502 "))]),
    ("MIC",  &[("", always("502 ")), ("x", always("502 "))]),
    ("CONF", &[("", always("502 ")), ("x", always("502 "))]),
    ("ENC",  &[("", always("502 ")), ("x", always("502 "))]),
];

/// A new session in one of the three states.
fn in_state(server: &Server, state: usize) -> Client {
    let mut client = server.connect();
    match state {
        0 => {}
        1 => drop(client.expect("USER anonymous", "331 ")),
        _ => client.log_in(),
    }
    client
}

/// Sends a command, which must get exactly one reply: whatever is sent after it gets the next one.
fn one_reply(client: &mut Client, command: &str) -> String {
    let reply = client.command(command);
    if reply.starts_with("221") {
        client.expect_end();
    } else {
        client.expect("NOOP", "200 NOOP");
    }
    reply
}

#[test]
fn every_verb_of_the_table_is_expected_to_do_something() {
    let table: Vec<&str> = VERBS.iter().map(|verb| verb.name).collect();
    for name in &table {
        let rows = EXPECTED.iter().filter(|(verb, _)| verb == name);
        let cases: Vec<&[Case]> = rows.map(|&(_, cases)| cases).collect();
        assert_eq!(cases.len(), 1, "{name} needs one row");
        assert_eq!(cases[0][0].0, "", "{name}: the first case is that without an argument");
    }
    for (name, _) in EXPECTED {
        assert!(table.contains(name), "{name} is not in the table of verbs");
    }
}

#[test]
fn every_verb_gets_its_reply_in_every_login_state() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &[]);
    for verb in VERBS {
        let (_, cases) = EXPECTED.iter().find(|(name, _)| *name == verb.name).expect("a row");
        for (argument, replies) in *cases {
            let command = [verb.name, argument].join(" ");
            for (state, start) in replies.iter().enumerate() {
                let mut client = in_state(&server, state);
                let reply = one_reply(&mut client, command.trim_end_matches(' '));
                assert!(reply.starts_with(start), "{command} in state {state}: {reply}");
            }
        }
    }
}

#[test]
fn verbs_are_known_in_any_case_and_with_a_space_after_them() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &[]);
    for (verb, cases) in EXPECTED {
        let lower = verb.to_ascii_lowercase();
        let mixed = format!("{}{}", &verb[..1], &lower[1..]);
        for (state, start) in cases[0].1.iter().enumerate() {
            for form in [&lower, &mixed, &format!("{verb} ")] {
                let reply = one_reply(&mut in_state(&server, state), form);
                assert!(reply.starts_with(start), "{form:?} in state {state}: {reply}");
            }
        }
    }
}

#[test]
fn what_is_no_verb_gets_500() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &[]);
    for state in 0..3 {
        let mut client = in_state(&server, state);
        for line in ["XYZZ", "", " ", " NOOP", "NOOPE", "NOO", "RETRIEVE a.txt", "\tNOOP", "NOOP\tx", "\u{e9}", "1234"]
        {
            let reply = one_reply(&mut client, line);
            assert!(reply.starts_with("500 "), "{line:?}: {reply}");
        }
    }
}

#[test]
fn commands_that_write_change_nothing() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &[]);
    let mut client = server.login();
    for (verb, cases) in EXPECTED {
        if !VERBS.iter().any(|known| known.name == *verb && known.gate.writes != Writes::No) {
            continue;
        }
        for (argument, _) in *cases {
            let _data = client.passive(true);
            let reply = one_reply(&mut client, format!("{verb} {argument}").trim_end());
            assert_eq!(reply, READ_ONLY, "{verb}");
        }
    }
    for command in ["SITE CHMOD 777 a.txt", "SITE UMASK 000"] {
        assert_eq!(one_reply(&mut client, command), READ_ONLY, "{command}");
    }
    assert_eq!(fs::read(root.join("a.txt")).expect("it is there"), b"one\ntwo\r\nthree\rfour");
    let names: BTreeSet<_> =
        fs::read_dir(&root).expect("a folder").map(|entry| entry.expect("an entry").file_name()).collect();
    let expected = [".hidden", "a.txt", "big.bin", "empty", "sub"];
    assert_eq!(names, expected.iter().map(|name| OsStr::new(name).to_owned()).collect());
}

// --- Replies ------------------------------------------------------------------------------------

#[test]
fn the_greeting_is_one_line_of_220() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &[]);
    let (_client, greeting) = Client::try_connect(server.v4());
    assert!(greeting.starts_with("220 ") && !greeting.contains('\n'), "{greeting}");
}

#[test]
fn an_idle_session_hears_421_when_the_server_stops() {
    let (_folder, root) = tree();
    let mut server = Server::start(&root, &[]);
    let (mut stranger, mut member) = (server.connect(), server.login());
    server.signal("TERM");
    for client in [&mut stranger, &mut member] {
        let reply = client.reply();
        assert!(reply.starts_with("421 "), "{reply}");
        client.expect_end();
    }
    assert!(server.wait().success());
}

#[test]
fn no_reply_line_is_longer_than_510_bytes() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &[]);
    for (verb, cases) in EXPECTED {
        for (argument, _) in *cases {
            for state in 0..3 {
                let reply = in_state(&server, state).command(format!("{verb} {argument}").trim_end());
                assert!(reply.split('\n').all(|line| line.len() + 2 < 510), "{verb}: {reply}");
            }
        }
        let help = in_state(&server, 0).command(&format!("HELP {verb}"));
        assert!(help.len() + 2 < 510, "{help}");
    }
}

#[test]
fn pwd_quotes_the_path_and_cwd_takes_it_back_verbatim() {
    let (_folder, root) = tree();
    for name in ["with space", "a \"quoted\" b", "\"", "trailing ", " leading", "-dash", "ünï", "a\\b", "(x)"] {
        fs::create_dir_all(root.join(name).join("deep")).expect("a folder");
        let server = Server::start(&root, &[]);
        let mut client = server.login();
        client.expect(&format!("CWD {name}"), "250 ");
        client.expect("CWD deep", "250 ");
        let reply = client.command("PWD");
        let doubled = name.replace('"', "\"\"");
        assert_eq!(reply, format!("257 \"/{doubled}/deep\" is the current directory"));
        client.expect("CWD /", "250 ");
        let inner = reply.strip_prefix("257 \"").and_then(|rest| rest.strip_suffix("\" is the current directory"));
        let path = inner.expect("quotes").replace("\"\"", "\"");
        client.expect(&format!("CWD {path}"), "250 ");
        assert_eq!(client.command("XPWD"), reply);
        client.expect("CDUP", "250 ");
        assert_eq!(client.command("PWD"), format!("257 \"/{doubled}\" is the current directory"));
    }
}

#[test]
fn a_folder_that_may_not_be_searched_is_not_entered() {
    let (folder, root) = tree();
    let server = Server::start_unprivileged(folder.path(), &root);
    let mut client = server.login();
    client.expect("CWD empty", "250 ");
    // It may be read, and so its names are known; nothing else can be done with them.
    fs::set_permissions(root.join("sub"), Permissions::from_mode(0o444)).expect("it is ours");
    for path in ["/sub", "../sub", "/sub/", "/sub/b.txt"] {
        client.expect(&format!("CWD {path}"), "550 Permission denied");
    }
    client.expect("PWD", "257 \"/empty\"");
    // And the other way round.
    fs::set_permissions(root.join("sub"), Permissions::from_mode(0o111)).expect("it is ours");
    client.expect("CWD /sub", "250 ");
    assert_eq!(client.fetch("RETR b.txt"), b"b\n");
    client.expect("LIST", "550 Permission denied");
    fs::set_permissions(root.join("sub"), Permissions::from_mode(0o755)).expect("it is ours");
}

#[test]
fn cwd_never_leads_above_the_root() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &[]);
    let mut client = server.login();
    for path in ["..", "../../..", "/..", "//", "/./", "sub/../.."] {
        client.expect(&format!("CWD {path}"), "250 ");
        client.expect("PWD", "257 \"/\" is");
    }
    client.expect("CDUP", "250 ");
    client.expect("PWD", "257 \"/\" is");
}

#[test]
fn passive_replies_have_the_form_that_clients_parse() {
    let (_folder, root) = tree();
    // The public address is for those on the far side of the NAT; this client is on loopback.
    let server = Server::start(&root, &["--passive-address", "203.0.113.5"]);
    let mut client = server.login();
    let reply = client.command("PASV");
    let numbers = reply
        .strip_prefix("227 Entering Passive Mode (127,0,0,1,")
        .and_then(|rest| rest.strip_suffix(")."))
        .expect("the form of RFC 959");
    let numbers: Vec<u16> = numbers.split(',').map(|n| n.parse().expect("a number")).collect();
    assert_eq!(numbers.len(), 2, "{reply}");
    assert!(numbers.iter().all(|&n| n < 256));
    assert!((20_000..30_000).contains(&(numbers[0] * 256 + numbers[1])));
    let reply = client.command("EPSV");
    let port = reply
        .strip_prefix("229 Entering Extended Passive Mode (|||")
        .and_then(|rest| rest.strip_suffix("|)"))
        .expect("the form of RFC 2428");
    assert!((20_000..30_000).contains(&port.parse::<u16>().expect("a port")));
}

#[test]
fn size_and_mdtm_are_one_number_and_nothing_else() {
    let (_folder, root) = tree();
    let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_709_251_199_750);
    set_modified(&root.join("a.txt"), time);
    let server = Server::start(&root, &[]);
    let mut client = server.login();
    assert_eq!(client.command("SIZE a.txt"), "213 19");
    assert_eq!(client.command("SIZE /big.bin"), format!("213 {}", 3 << 20));
    assert_eq!(client.command("MDTM a.txt"), "213 20240229235959");
}

#[test]
fn the_name_of_a_file_may_begin_with_a_time() {
    let (_folder, root) = tree();
    let name = "20200101000000 a.txt";
    fs::write(root.join(name), "x").expect("a file");
    set_modified(&root.join(name), SystemTime::UNIX_EPOCH + Duration::from_secs(86_400));
    let server = Server::start(&root, &[]);
    let mut client = server.login();
    assert_eq!(client.command(&format!("MDTM {name}")), "213 19700102000000");
}

#[test]
fn size_is_refused_in_ascii_type() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &[]);
    let mut client = server.login();
    client.expect("TYPE A", "200 ");
    let reply = client.expect("SIZE a.txt", "550 ");
    assert!(reply.contains("SIZE not allowed in ASCII mode"), "{reply}");
    client.expect("MDTM a.txt", "213 ");
    client.expect("TYPE I", "200 ");
    client.expect("SIZE a.txt", "213 19");
    client.expect("SIZE sub", "550 ");
}

#[test]
fn the_150_of_a_download_tells_the_bytes_and_no_name() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &[]);
    let mut client = server.login();
    let mut opening = |before: &[&str]| {
        for command in before {
            let reply = client.command(command);
            assert!(reply.starts_with('2') || reply.starts_with('3'), "{reply}");
        }
        let data = client.passive(true);
        let reply = client.expect("RETR a.txt", "150 ");
        drop(data);
        let end = client.reply();
        assert!(end.starts_with("226 ") || end.starts_with("426 "), "{end}");
        reply
    };
    assert_eq!(opening(&[]), "150 Opening BINARY mode data connection (19 bytes)");
    for before in [&["REST 5"][..], &["TYPE A"]] {
        let reply = opening(before);
        assert!(!reply.contains("bytes") && !reply.contains("a.txt"), "{reply}");
    }
}

#[test]
fn what_is_missing_is_told_without_a_150() {
    let (_folder, root) = tree();
    symlink("nowhere", root.join("dangling")).expect("a link");
    let server = Server::start(&root, &[]);
    let mut client = server.login();
    for verb in ["RETR", "LIST", "NLST", "MLSD"] {
        for path in ["missing", "/missing/deeper", "sub/missing"] {
            let _data = client.passive(true);
            let reply = one_reply(&mut client, &format!("{verb} {path}"));
            assert!(reply.starts_with(MISSING), "{verb} {path}: {reply}");
        }
    }
    let _data = client.passive(true);
    client.expect("RETR dangling", MISSING);
}

// --- Before login, features ---------------------------------------------------------------------

#[test]
fn feat_lists_exactly_what_works() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &[]);
    let mut client = server.connect();
    let reply = client.expect("FEAT", "211-");
    let mut lines: Vec<&str> = reply.split('\n').collect();
    let (first, last) = (lines.remove(0), lines.pop().expect("a last line"));
    assert!(first.starts_with("211-") && last == "211 End", "{reply}");
    assert!(lines.iter().all(|line| line.starts_with(' ') && !line.starts_with("  ")), "{reply}");
    let found: BTreeSet<&str> = lines.iter().map(|line| &line[1..]).collect();
    assert_eq!(found.len(), lines.len(), "nothing is there twice: {reply}");
    let expected = [
        "EPRT",
        "EPSV",
        "LANG EN*",
        "MDTM",
        "MLST type*;size*;modify*;perm*;unique*;UNIX.mode*;",
        "PASV",
        "REST STREAM",
        "SIZE",
        "TVFS",
        "UTF8",
    ];
    assert_eq!(found, expected.into());
}

#[test]
fn opts_mlst_selects_the_facts_of_listings_and_feat_shows_it() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &[]);
    let mut client = server.login();
    assert_eq!(client.command("OPTS MLST type;size;"), "200 MLST OPTS type;size;");
    assert_eq!(client.command("OPTS MLST Size;bogus;TYPE"), "200 MLST OPTS type;size;");
    assert_eq!(client.command("MLST a.txt").split('\n').nth(1), Some(" type=file;size=19; /a.txt"));
    let feat = client.command("FEAT");
    assert!(feat.contains("\n MLST type*;size*;modify;perm;unique;UNIX.mode;\n"), "{feat}");
    assert_eq!(client.command("OPTS MLST type;"), "200 MLST OPTS type;");
    assert_eq!(lines(&client.fetch("MLSD sub")), ["type=file; b.txt"]);
    assert_eq!(client.command("OPTS MLST"), "200 MLST OPTS ");
    assert_eq!(lines(&client.fetch("MLSD sub")), [" b.txt"]);
    client.expect("REIN", "220 ");
    assert!(client.command("FEAT").contains("MLST type*;size*;modify*;perm*;unique*;UNIX.mode*;\n"));
}

#[test]
fn help_lists_the_verbs_and_explains_each() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &[]);
    let mut client = server.connect();
    let all = client.command("HELP");
    let listed: BTreeSet<&str> = all.split('\n').skip(1).flat_map(str::split_ascii_whitespace).collect();
    for verb in VERBS {
        let usable = verb.gate.offered && verb.gate.writes == Writes::No;
        assert_eq!(listed.contains(verb.name), usable || verb.name == "HELP", "{}", verb.name);
        let reply = client.expect(&format!("HELP {}", verb.name), &format!("214 {}", verb.name));
        let told = if verb.gate.offered { verb.help } else { "not offered" };
        assert!(reply.contains(told) && (!verb.gate.offered || reply.contains(verb.syntax)), "{reply}");
    }
}

#[test]
fn anonymous_is_asked_for_an_address_and_any_password_will_do() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &[]);
    for user in ["anonymous", "ftp", "Anonymous", "FTP"] {
        for password in ["PASS", "PASS ", "PASS a@b", "PASS -x y\u{e9}"] {
            let mut client = server.connect();
            let reply = client.expect(&format!("USER {user}"), "331 ");
            assert!(reply.contains("send your e-mail address as password"), "{reply}");
            client.expect(password, "230 ");
            client.expect("PWD", "257 ");
        }
    }
}

#[test]
fn other_users_are_refused_and_the_third_time_ends_the_session() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &[]);
    let mut client = server.connect();
    client.expect("USER root", "530 ");
    client.expect("PASS x", "503 ");
    client.expect("USER anonymou", "530 ");
    client.expect("USER admin", "421 ");
    client.expect_end();
    server.login();
}

#[test]
fn user_and_rein_put_everything_back() {
    let (_folder, root) = tree();
    for again in ["REIN", "USER ftp"] {
        let server = Server::start(&root, &[]);
        let mut client = server.login();
        client.expect("CWD sub", "250 ");
        client.expect("OPTS MLST type;", "200 ");
        client.expect("EPSV ALL", "200 ");
        client.expect("REST 3", "350 ");
        let before = server.descriptors();
        client.expect("EPSV", "229 ");
        assert_eq!(server.descriptors(), before + 1, "the listener is open");
        client.command(again);
        assert_eq!(server.descriptors(), before, "{again} closes the listener");
        client.expect("PWD", "530 ");
        client.expect("USER ftp", "331 ");
        client.expect("PASS x", "230 ");
        client.expect("PWD", "257 \"/\" is");
        client.expect("SIZE a.txt", "550 SIZE not allowed in ASCII");
        client.expect("TYPE I", "200 ");
        assert!(client.command("STAT").contains("No data port"));
        let _data = client.passive(false);
        client.expect("RETR a.txt", "150 Opening BINARY mode data connection (19 bytes)");
    }
}

#[test]
fn the_bare_stat_tells_how_things_stand() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &[]);
    let mut client = server.connect();
    assert!(client.expect("STAT", "211-").contains("Not logged in"));
    client.log_in();
    let reply = client.expect("STAT", "211-");
    for text in ["\n Connected to 127.0.0.1\n", "Logged in as anonymous", "TYPE: image", "No data port"] {
        assert!(reply.contains(text), "{reply}");
    }
    client.expect("TYPE A", "200 ");
    let _data = client.passive(true);
    let reply = client.expect("STAT", "211-");
    assert!(reply.contains("TYPE: ASCII") && reply.contains("passive"), "{reply}");
}

// --- Data ports ---------------------------------------------------------------------------------

#[test]
fn epsv_of_the_wrong_family_names_the_right_one() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &[]);
    let mut client = server.login();
    let reply = client.expect("EPSV 2", "522 ");
    assert!(reply.ends_with("(1)"), "{reply}");
    client.expect("EPSV 1", "229 ");
    if has_ipv6() {
        let mut client = Client::connect(server.v6());
        client.log_in();
        let reply = client.expect("EPSV 1", "522 ");
        assert!(reply.ends_with("(2)"), "{reply}");
        client.expect("EPSV 2", "229 ");
        client.expect("EPSV", "229 ");
        client.expect("PASV", "425 ");
    }
    assert!(client.expect("EPRT |7|x|2000|", "522 ").contains("(1"));
}

#[test]
fn after_epsv_all_nothing_but_epsv_is_taken() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &[]);
    let mut client = server.login();
    client.expect("EPSV ALL", "200 ");
    client.expect("PASV", "501 ");
    client.expect("PORT 127,0,0,1,200,1", "501 ");
    client.expect("EPRT |1|127.0.0.1|51201|", "501 ");
    assert_eq!(client.fetch("RETR sub/b.txt"), b"b\n");
}

#[test]
fn data_go_to_the_clients_own_address_and_no_low_port() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &[]);
    let mut client = server.login();
    for foreign in [
        "PORT 127,0,0,2,200,1",
        "PORT 192,0,2,1,200,1",
        "PORT 0,0,0,0,200,1",
        "PORT 127,0,0,1,0,21",
        "PORT 127,0,0,1,3,255",
        "EPRT |1|127.0.0.2|51201|",
        "EPRT |1|127.0.0.1|25|",
        "EPRT |2|::ffff:127.0.0.2|51201|",
        "EPRT |2|::ffff:127.0.0.1|1023|",
        "EPRT |2|::1|51201|",
        "EPRT |2|::|51201|",
    ] {
        let reply = one_reply(&mut client, foreign);
        assert!(reply.starts_with("504 "), "{foreign}: {reply}");
        client.expect("RETR a.txt", "425 ");
    }
    client.expect("PORT 127,0,0,1,4,0", "200 ");
    client.expect("EPRT |1|127.0.0.1|1024|", "200 ");
    if has_ipv6() {
        let mut client = Client::connect(server.v6());
        client.log_in();
        client.expect("EPRT |2|::1|51201|", "200 ");
        // An address that is not said is the client's own, as lftp means it.
        client.expect("EPRT |2|::|51201|", "200 ");
        for foreign in [
            "EPRT |2|::2|51201|",
            "EPRT |2|::1|1023|",
            "EPRT |1|127.0.0.1|51201|",
            "EPRT |2|::ffff:127.0.0.1|51201|",
            "PORT 127,0,0,1,200,1",
        ] {
            let reply = one_reply(&mut client, foreign);
            assert!(reply.starts_with("504 "), "{foreign}: {reply}");
        }
    }
}

#[test]
fn a_mapped_address_is_the_ipv4_address_that_it_stands_for() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &[]);
    let mut client = server.login();
    let listener = client.active(true);
    let port = listener.local_addr().expect("bound").port();
    client.expect(&format!("EPRT |2|::ffff:127.0.0.1|{port}|"), "200 ");
    client.send("RETR sub/b.txt");
    let (data, from) = listener.accept().expect("the server connects");
    assert_eq!(from.ip().to_canonical(), client.stream.peer_addr().expect("connected").ip());
    assert!(client.reply().starts_with("150 "));
    assert_eq!(std::io::read_to_string(&data).expect("the data end in order"), "b\n");
    drop(data);
    assert!(client.reply().starts_with("226 "));
}

#[test]
fn a_refused_port_command_leaves_no_data_port_behind() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &[]);
    let mut client = server.login();
    let before = server.descriptors();
    for refused in ["PORT 127,0,0,2,200,1", "EPRT |1|127.0.0.1|25|", "EPSV 2"] {
        client.expect("EPSV", "229 ");
        let reply = client.command(refused);
        assert!(reply.starts_with('5'), "{refused}: {reply}");
        assert_eq!(server.descriptors(), before, "{refused} closes the listener");
        client.expect("RETR a.txt", "425 ");
    }
}

#[test]
fn a_port_command_that_is_garbage_leaves_no_data_port_behind() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &[]);
    let mut client = server.login();
    let before = server.descriptors();
    for garbage in ["PORT 1,2,3", "PORT", "EPRT |1|127.0.0.1|", "EPRT |3|x|51201|", "EPSV x", "EPSV 9"] {
        client.expect("EPSV", "229 ");
        let reply = client.command(garbage);
        assert!(reply.starts_with('5'), "{garbage}: {reply}");
        assert!(client.command("STAT").contains("No data port"), "after {garbage}");
        assert_eq!(server.descriptors(), before, "{garbage} closes the listener");
        client.expect("RETR a.txt", "425 ");
    }
}

#[test]
fn a_second_pasv_closes_the_first_listener() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &[]);
    let mut client = server.login();
    let before = server.descriptors();
    for command in ["PASV", "PASV", "EPSV", "EPSV", "PASV"] {
        client.command(command);
        assert_eq!(server.descriptors(), before + 1, "{command}");
    }
    client.expect("PORT 127,0,0,1,200,1", "200 ");
    assert_eq!(server.descriptors(), before, "PORT closes it too");
}

#[test]
fn commands_between_epsv_and_retr_keep_the_listener() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &[]);
    let mut client = server.login();
    let data = client.passive(true);
    for (command, start) in [
        ("TYPE A", "200 "),
        ("TYPE I", "200 "),
        ("SIZE a.txt", "213 "),
        ("MDTM a.txt", "213 "),
        ("REST 4", "350 "),
        ("CWD sub", "250 "),
        ("NOOP", "200 "),
        ("STAT", "211-"),
        ("MLST b.txt", "250-"),
        ("FEAT", "211-"),
        ("CDUP", "250 "),
    ] {
        client.expect(command, start);
    }
    client.expect("RETR a.txt", "150 ");
    assert_eq!(std::io::read_to_string(&data).expect("in order"), "two\r\nthree\rfour");
    drop(data);
    assert!(client.reply().starts_with("226 "));
}

// --- Restart ------------------------------------------------------------------------------------

#[test]
fn rest_counts_for_the_next_transfer_only() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &[]);
    let mut client = server.login();
    let whole = b"one\ntwo\r\nthree\rfour";
    client.expect("REST 4", "350 ");
    assert_eq!(client.fetch("RETR a.txt"), &whole[4..]);
    assert_eq!(client.fetch("RETR a.txt"), whole);
    client.expect("REST 4", "350 ");
    client.expect("REST 0", "350 ");
    assert_eq!(client.fetch("RETR a.txt"), whole);
    client.expect("REST 19", "350 ");
    assert_eq!(client.fetch("RETR a.txt"), b"");
    client.expect("REST 4", "350 ");
    client.fetch("LIST");
    assert_eq!(client.fetch("RETR a.txt"), whole, "a listing is a transfer");
}

#[test]
fn a_restart_past_the_end_gets_554() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &[]);
    let mut client = server.login();
    for marker in ["20", "9223372036854775807"] {
        client.expect(&format!("REST {marker}"), "350 ");
        let _data = client.passive(true);
        assert!(one_reply(&mut client, "RETR a.txt").starts_with("554 "));
        assert_eq!(client.fetch("RETR a.txt").len(), 19, "the marker is gone");
    }
}

#[test]
fn a_failed_transfer_clears_the_restart_marker() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &[]);
    let mut client = server.login();
    for (failing, code) in [
        ("RETR missing", "550 "),
        ("RETR sub", "550 "),
        ("RETR a.txt", "425 "),
        ("LIST missing", "550 "),
        ("NLST", "425 "),
        ("MLSD a.txt", "501 "),
        ("ABOR", "225 "),
    ] {
        client.expect("REST 4", "350 ");
        client.expect(failing, code);
        assert_eq!(client.fetch("RETR a.txt").len(), 19, "after {failing}");
    }
}

#[test]
fn a_refused_transfer_command_clears_the_restart_marker() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &[]);
    let mut client = server.login();
    for refused in ["STOR new", "APPE a.txt", "STOU", "RETR"] {
        client.expect("REST 4", "350 ");
        let reply = client.command(refused);
        assert!(reply.starts_with('5'), "{refused}: {reply}");
        assert_eq!(client.fetch("RETR a.txt").len(), 19, "after {refused}");
    }
}

#[test]
fn a_bad_marker_is_refused_and_the_last_good_one_is_not_used_for_it() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &[]);
    let mut client = server.login();
    for bad in ["-1", "9223372036854775808", "18446744073709551615", "18446744073709551616", "4x", "0x4", "4 4", ""] {
        client.expect(format!("REST {bad}").trim_end(), "501 ");
        assert_eq!(client.fetch("RETR a.txt").len(), 19, "after {bad:?}");
    }
}

// --- Listings -----------------------------------------------------------------------------------

/// The lines of a listing, each of which ends with CRLF and holds no other control byte.
fn byte_lines(bytes: &[u8]) -> Vec<&[u8]> {
    let mut lines: Vec<&[u8]> = bytes.split(|&byte| byte == b'\n').collect();
    assert_eq!(lines.pop(), Some(&b""[..]), "the last line ends too");
    lines
        .into_iter()
        .map(|line| {
            let line = line.strip_suffix(b"\r").expect("CRLF");
            assert!(!line.iter().any(u8::is_ascii_control), "{}", line.escape_ascii());
            line
        })
        .collect()
}

fn lines(bytes: &[u8]) -> Vec<String> {
    byte_lines(bytes).into_iter().map(|line| String::from_utf8(line.to_vec()).expect("UTF-8")).collect()
}

/// The names in lines as LIST has them: what follows the columns, whose width is that of `ls`.
fn long_names(bytes: &[u8]) -> Vec<String> {
    lines(bytes).iter().map(|line| line.get(55..).expect("eight columns").to_owned()).collect()
}

fn set_modified(path: &Path, time: SystemTime) {
    let file = File::options().write(true).open(path).expect("a file");
    file.set_modified(time).expect("a time that the file system can store");
}

#[test]
fn a_line_of_list_has_the_columns_of_ls() {
    let (_folder, root) = tree();
    let now = jiff::Timestamp::now();
    let day = |days: i64| now - jiff::SignedDuration::from_hours(24 * days);
    for (name, days) in [("recent", 1), ("half a year", 179), ("old", 181), ("ancient", 4_000), ("future", -2)] {
        let path = root.join("sub").join(name);
        fs::write(&path, name).expect("a file");
        fs::set_permissions(&path, Permissions::from_mode(0o640)).expect("its owner may");
        set_modified(&path, day(days).into());
    }
    fs::remove_file(root.join("sub/b.txt")).expect("a file");
    let server = Server::start(&root, &[]);
    let mut client = server.login();
    let line = |name: &str, days: i64, form: &str| {
        let size = name.len();
        let date = day(days).strftime(form).to_string();
        format!("-rw-r-----   1 ftp      ftp      {size:>8} {date} {name}")
    };
    let expected = [
        line("ancient", 4_000, "%b %d  %Y"),
        line("future", -2, "%b %d  %Y"),
        line("half a year", 179, "%b %d %H:%M"),
        line("old", 181, "%b %d  %Y"),
        line("recent", 1, "%b %d %H:%M"),
    ];
    assert_eq!(lines(&client.fetch("LIST sub")), expected);
    client.expect("TYPE A", "200 ");
    assert_eq!(lines(&client.fetch("LIST sub")), expected, "CRLF in both types");
    assert_eq!(lines(&client.fetch("LIST sub/old")).len(), 1);
    let folder = &lines(&client.fetch("LIST"))[2];
    assert!(folder.starts_with('d') && folder.ends_with(" empty"), "{folder}");
}

#[test]
fn list_options_are_those_of_ls() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &[]);
    let mut client = server.login();
    let mut names = |command: &str| long_names(&client.fetch(command));
    let plain = names("LIST");
    assert_eq!(plain, ["a.txt", "big.bin", "empty", "sub"]);
    for same in ["LIST -l", "LIST -R", "LIST -lR", "LIST .", "LIST /", "LIST -l .", "LIST -- ", "LIST -ltr /"] {
        assert_eq!(names(same), plain, "{same}");
    }
    let hidden = [&[".hidden".to_owned()], &plain[..]].concat();
    assert_eq!(names("LIST -A"), hidden);
    let all = [&[".".to_owned(), "..".to_owned()], &hidden[..]].concat();
    for form in ["LIST -a", "LIST -la", "LIST -al", "LIST -l -a", "LIST -aA", "LIST -a .", "LIST -la -- /"] {
        assert_eq!(names(form), all, "{form}");
    }
    assert_eq!(names("LIST -a sub"), [".", "..", "b.txt"]);
}

#[test]
fn paths_of_list_may_have_spaces_and_begin_with_a_dash() {
    let (_folder, root) = tree();
    for name in ["with two  spaces", " lead", "-odd", "trail "] {
        fs::create_dir(root.join(name)).expect("a folder");
        fs::write(root.join(name).join("in it"), name).expect("a file");
    }
    let server = Server::start(&root, &[]);
    let mut client = server.login();
    for command in [
        "LIST with two  spaces",
        "LIST -l with two  spaces",
        "LIST -- with two  spaces",
        "LIST -- -odd",
        "LIST -a -- -odd",
        "LIST ./-odd",
        "LIST /-odd",
        "LIST  lead",
        "LIST -l --  lead",
        "LIST trail ",
    ] {
        let names = long_names(&client.fetch(command));
        assert_eq!(names.last().map(String::as_str), Some("in it"), "{command}");
    }
    assert_eq!(client.fetch("RETR  lead/in it"), b" lead");
    assert_eq!(client.fetch("RETR with two  spaces/in it"), b"with two  spaces");
    assert_eq!(client.fetch("RETR -odd/in it"), b"-odd");
    assert_eq!(client.fetch("RETR trail /in it"), b"trail ");
}

#[test]
fn a_glob_in_the_last_element_works() {
    let (_folder, root) = tree();
    for name in ["b.txt", "c.txt", ".d.txt", "[x].txt", "sub/c.txt"] {
        fs::write(root.join(name), name).expect("a file");
    }
    let server = Server::start(&root, &[]);
    let mut client = server.login();
    for (argument, expected) in [
        ("*.txt", &["[x].txt", "a.txt", "b.txt", "c.txt"][..]),
        ("?.txt", &["a.txt", "b.txt", "c.txt"]),
        ("[ab].txt", &["a.txt", "b.txt"]),
        ("[!ab].txt", &["c.txt"]),
        ("[x].txt", &["[x].txt"]),
        (".*.txt", &[".d.txt"]),
        ("*", &["[x].txt", "a.txt", "b.txt", "big.bin", "c.txt", "empty", "sub"]),
        ("nothing*", &[]),
    ] {
        assert_eq!(long_names(&client.fetch(&format!("LIST {argument}"))), expected, "{argument}");
        assert_eq!(lines(&client.fetch(&format!("NLST {argument}"))), expected, "{argument}");
    }
    assert_eq!(lines(&client.fetch("NLST sub/*.txt")), ["sub/b.txt", "sub/c.txt"]);
    assert_eq!(lines(&client.fetch("NLST /sub/c*")), ["/sub/c.txt"]);
    assert_eq!(long_names(&client.fetch("LIST -l sub/*")), ["b.txt", "c.txt"]);
    let _data = client.passive(true);
    client.expect("LIST */b.txt", MISSING);
}

#[test]
fn an_empty_result_is_a_150_nothing_and_a_226() {
    let (_folder, root) = tree();
    fs::write(root.join("nothing"), "").expect("a file");
    let server = Server::start(&root, &[]);
    let mut client = server.login();
    for command in ["LIST empty", "NLST empty", "MLSD empty", "LIST zzz*", "NLST zzz*", "RETR nothing"] {
        assert_eq!(client.fetch(command), b"", "{command}");
    }
    client.expect("TYPE A", "200 ");
    assert_eq!(client.fetch("RETR nothing"), b"");
}

#[test]
fn what_nlst_gives_can_be_retrieved_as_it_is() {
    let (_folder, root) = tree();
    fs::create_dir(root.join("sub/more stuff")).expect("a folder");
    for name in ["x y", " lead", "trail ", "-dash", "ü", "sub/more stuff/z"] {
        fs::write(root.join(name), name).expect("a file");
    }
    let server = Server::start(&root, &[]);
    let mut client = server.login();
    let mut retrieved = 0;
    for cwd in ["/", "/sub", "/empty"] {
        client.expect(&format!("CWD {cwd}"), "250 ");
        for argument in
            ["", "-a", ".", "..", "/", "/sub", "/sub/", "../sub", "/sub/more stuff", "/a.txt", "/sub/b*", "../sub/*"]
        {
            let command = format!("NLST {argument}");
            for name in lines(&client.fetch(command.trim_end())) {
                let size = client.command(&format!("SIZE {name}"));
                let inside = client.command(&format!("CWD {name}"));
                if inside.starts_with("250") {
                    client.expect(&format!("CWD {cwd}"), "250 ");
                    continue;
                }
                assert!(size.starts_with("213 "), "{command} in {cwd} gave {name:?}: {size}");
                let bytes = client.fetch(&format!("RETR {name}"));
                assert_eq!(size, format!("213 {}", bytes.len()));
                retrieved += 1;
            }
        }
    }
    assert!(retrieved > 60, "{retrieved}");
    client.expect("CWD /", "250 ");
    assert_eq!(lines(&client.fetch("NLST -a"))[..2], [" lead", "-dash"]);
    assert!(lines(&client.fetch("NLST -a")).contains(&".hidden".to_owned()));
    assert!(!lines(&client.fetch("NLST")).contains(&".hidden".to_owned()));
}

#[test]
fn the_lines_of_mlsd_are_facts_a_space_and_the_name() {
    let (_folder, root) = tree();
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_709_251_199);
    fs::set_permissions(root.join("a.txt"), Permissions::from_mode(0o604)).expect("its owner may");
    set_modified(&root.join("a.txt"), time);
    let server = Server::start(&root, &[]);
    let mut client = server.login();
    let listing = lines(&client.fetch("MLSD"));
    let names: Vec<&str> = listing.iter().filter_map(|line| Some(line.split_once("; ")?.1)).collect();
    assert_eq!(names, [".hidden", "a.txt", "big.bin", "empty", "sub"]);
    let (start, rest) = listing[1].split_once("unique=").expect("a fact");
    assert_eq!(start, "type=file;size=19;modify=20240229235959;perm=r;");
    assert_eq!(rest.split_once(';').expect("its end").1, "UNIX.mode=0604; a.txt");
    assert!(listing[4].starts_with("type=dir;modify=") && listing[4].contains(";perm=el;"), "{}", listing[4]);
    let uniques: BTreeSet<&str> = listing.iter().filter_map(|line| line.split("unique=").nth(1)).collect();
    assert_eq!(uniques.len(), 5);
}

#[test]
fn mlst_is_one_indented_line_with_the_full_path() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &[]);
    let mut client = server.login();
    client.expect("CWD sub", "250 ");
    let listed = lines(&client.fetch("MLSD"))[0].replace(" b.txt", " /sub/b.txt");
    for path in ["b.txt", "/sub/b.txt", "../sub/./b.txt"] {
        let reply = client.command(&format!("MLST {path}"));
        let reply: Vec<&str> = reply.split('\n').collect();
        assert_eq!(reply.len(), 3);
        assert!(reply[0].starts_with("250-"));
        assert_eq!(reply[1], format!(" {listed}"));
        assert_eq!(reply[2], "250 End");
    }
    for (path, full) in [("", "/sub"), ("..", "/"), ("/empty/", "/empty")] {
        let reply = client.command(format!("MLST {path}").trim_end());
        let line = reply.split('\n').nth(1).unwrap_or_default();
        assert!(line.starts_with(" type=dir;") && line.ends_with(&format!("; {full}")), "{reply}");
    }
}

#[test]
fn a_link_is_shown_as_what_a_client_may_do_with_it() {
    let (_folder, root) = tree();
    for (target, name) in [
        ("a.txt", "to-file"),
        ("/a.txt", "to-file-from-the-root"),
        ("sub", "to-folder"),
        ("nowhere", "dangling"),
        ("loop", "loop"),
        ("../../../../etc/passwd", "out"),
    ] {
        symlink(target, root.join(name)).expect("a link");
    }
    let server = Server::start(&root, &[]);
    let mut client = server.login();
    client.expect("OPTS MLST type;size;", "200 ");
    let listing = lines(&client.fetch("MLSD"));
    for (name, facts) in [
        ("to-file", "type=file;size=19;"),
        ("to-file-from-the-root", "type=file;size=19;"),
        ("to-folder", "type=OS.unix=symlink;"),
        ("dangling", "type=OS.unix=symlink;"),
        ("loop", "type=OS.unix=symlink;"),
        ("out", "type=OS.unix=symlink;"),
    ] {
        assert!(listing.contains(&format!("{facts} {name}")), "{name}: {listing:?}");
        let reply = client.command(&format!("MLST {name}"));
        assert_eq!(reply.split('\n').nth(1), Some(&*format!(" {facts} /{name}")));
    }
    let long = lines(&client.fetch("LIST"));
    for end in [" to-file -> a.txt", " to-folder -> sub", " dangling -> nowhere", " loop -> loop"] {
        assert!(long.iter().any(|line| line.starts_with('l') && line.ends_with(end)), "{end}: {long:?}");
    }
    assert_eq!(client.fetch("RETR to-file-from-the-root").len(), 19);
    assert_eq!(client.fetch("RETR to-folder/b.txt"), b"b\n");
    client.expect("CWD to-folder", "250 ");
    client.expect("CWD /", "250 ");
    for gone in ["SIZE out", "CWD loop", "SIZE dangling", "MDTM loop", "CWD dangling"] {
        client.expect(gone, "550 ");
    }
}

#[test]
fn stat_of_a_path_lists_it_on_the_control_connection() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &[]);
    let mut client = server.login();
    for (argument, listed) in [
        ("/", "LIST /"),
        ("sub", "LIST sub"),
        ("-a", "LIST -a"),
        ("-la sub", "LIST -a sub"),
        ("*.txt", "LIST *.txt"),
        ("a.txt", "LIST a.txt"),
        ("empty", "LIST empty"),
    ] {
        let reply = client.command(&format!("STAT {argument}"));
        let mut inner: Vec<&str> = reply.split('\n').collect();
        assert!(inner.remove(0).starts_with("213-"), "{reply}");
        assert_eq!(inner.pop(), Some("213 End of status"));
        let expected = lines(&client.fetch(listed));
        assert!(inner.iter().all(|line| line.starts_with(' ')), "{reply}");
        assert_eq!(inner.iter().map(|line| &line[1..]).collect::<Vec<_>>(), expected);
    }
}

#[test]
fn names_are_bytes_and_none_bends_a_listing() {
    let (_folder, root) = tree();
    let odd: [&[u8]; 6] = [b"caf\xe9", b"\xff\xfe", b"\x1b[31mred", b"cr\rlf\nname", b"tab\t", b"\xf0\x9f\x9a\xa2"];
    for name in odd {
        fs::write(root.join("empty").join(OsStr::from_bytes(name)), name).expect("a file");
    }
    let server = Server::start(&root, &[]);
    let mut client = server.login();
    let shown = |name: &[u8]| -> Vec<u8> {
        name.iter().map(|&byte| if byte.is_ascii_control() { b'?' } else { byte }).collect()
    };
    let expected: BTreeSet<Vec<u8>> = odd.iter().map(|name| shown(name)).collect();
    client.expect("CWD empty", "250 ");
    let names = client.fetch("NLST");
    assert_eq!(byte_lines(&names).into_iter().map(<[u8]>::to_vec).collect::<BTreeSet<_>>(), expected);
    for command in ["LIST", "MLSD"] {
        let listing = client.fetch(command);
        let listing = byte_lines(&listing);
        assert_eq!(listing.len(), odd.len(), "{command}");
        for name in &expected {
            assert!(listing.iter().any(|line| line.ends_with(name)), "{command}: {}", name.escape_ascii());
        }
    }
    for name in odd {
        let data = client.passive(true);
        // What Telnet makes of these bytes: IAC is doubled, and CR that is no line end goes with a NUL.
        let mut line = b"RETR ".to_vec();
        for &byte in name {
            line.push(byte);
            line.extend(match byte {
                0xFF => Some(0xFF),
                b'\r' => Some(0),
                _ => None,
            });
        }
        client.raw(&[&line[..], b"\r\n"].concat());
        assert!(client.reply().starts_with("150 "), "{}", name.escape_ascii());
        assert_eq!(read_all(&data), name);
        drop(data);
        assert!(client.reply().starts_with("226 "));
    }
}

fn read_all(mut data: &TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut data, &mut bytes).expect("the data end in order");
    bytes
}

#[test]
fn a_byte_255_is_doubled_in_replies_and_taken_back_doubled() {
    let (_folder, root) = tree();
    fs::create_dir(root.join(OsStr::from_bytes(b"a\xffb"))).expect("a folder");
    let server = Server::start(&root, &[]);
    let mut client = server.login();
    client.raw(b"CWD a\xff\xffb\r\n");
    assert!(client.reply().starts_with("250 "));
    client.send("PWD");
    assert_eq!(client.reply_bytes(), b"257 \"/a\xff\xffb\" is the current directory");
    client.send("MLST");
    assert!(client.reply_bytes().windows(7).any(|part| part == b" /a\xff\xffb\n"));
    client.expect("CWD /", "250 ");
    client.raw(b"CWD /a\xff\xffb\r\n");
    assert!(client.reply().starts_with("250 "));
}

#[test]
fn a_passive_port_is_bound_to_the_address_of_the_control_connection() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &[]);
    // Where the client reached the server is where it is told to go.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let other: SocketAddr = ([127, 0, 0, 2], server.port()).into();
    if socket.connect(&other.into()).is_err() {
        return;
    }
    let mut client = Client::connect(other);
    client.log_in();
    client.expect("PASV", "227 Entering Passive Mode (127,0,0,2,");
    assert_eq!(client.fetch("RETR sub/b.txt"), b"b\n");
}
