//! `plimsoll passwd` against the real binary: what it writes, what it asks, what it refuses, and that it leaves
//! a whole file behind.

use crate::server::Server;
use plimsoll::auth::{Accounts, Gate, Verdict};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};
use std::fs::{File, OpenOptions, Permissions};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

/// A hash of `secret`, cheap to check.
const HASH: &str = "$5$2pL65JSpZSzDnDBo$0QDJcJmKB4zilR1nO3j3fPBnBlZ6Nw/dYnKJtHrC.tA";

/// A folder with an accounts file, or with none yet.
struct Place {
    folder: tempfile::TempDir,
}

/// What a run has said, and with which status it has left.
struct Said {
    status: Option<i32>,
    out: String,
    error: String,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder") }
    }

    fn with(text: &str) -> Self {
        let place = Self::new();
        std::fs::write(place.file(), text).expect("it is ours");
        std::fs::set_permissions(place.file(), Permissions::from_mode(0o600)).expect("it is ours");
        place
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("users")
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.file()).expect("a text")
    }

    fn mode(&self) -> u32 {
        self.file().metadata().expect("a file").mode() & 0o7777
    }

    /// The names in the folder: nothing may be left there besides the file.
    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.path()).expect("a folder");
        let mut names: Vec<_> =
            entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// Runs it with this standard input.
    fn run(&self, arguments: &[&str], input: &[u8]) -> Said {
        run_on(&self.file(), arguments, input)
    }

    /// The same, where it must succeed.
    fn do_it(&self, arguments: &[&str], input: &[u8]) -> String {
        let said = self.run(arguments, input);
        assert_eq!((said.status, said.error.as_str()), (Some(0), ""), "{arguments:?}");
        said.out
    }

    /// Whether a server that reads the file lets somebody in.
    fn lets_in(&self, name: &str, password: &str) -> bool {
        let accounts = Accounts::load(&self.file()).expect("a server takes it");
        let peer = "192.0.2.1".parse().expect("an address");
        let verdict = accounts.verify(&Gate::new(1), name.as_bytes(), password.as_bytes(), peer, 0, || true);
        assert_ne!(verdict, Verdict::NoRoom);
        matches!(verdict, Verdict::Right(account) if account.name() == name)
    }
}

fn start(file: &Path, arguments: &[&str]) -> Child {
    let mut command = Server::command();
    command.arg("passwd").arg(file).args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("the binary starts")
}

fn run_on(file: &Path, arguments: &[&str], input: &[u8]) -> Said {
    let mut child = start(file, arguments);
    // It may leave without having read all, or anything.
    let _ = child.stdin.take().expect("piped").write_all(input);
    said(child)
}

fn said(child: Child) -> Said {
    let output = child.wait_with_output().expect("it ends");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Said { status: output.status.code(), out: text(output.stdout), error: text(output.stderr) }
}

#[test]
fn the_first_account_makes_a_file_that_a_server_takes() {
    let place = Place::new();
    let out = place.do_it(&["alice"], b"open sesame\n");
    assert_eq!(out, format!("{}: alice added\n", place.file().display()));
    assert!(place.text().starts_with("alice:$argon2id$v=19$m=19456,t=2,p=1$"), "{}", place.text());
    assert_eq!((place.mode(), place.names()), (0o600, vec!["users".to_owned()]));
    assert!(place.lets_in("alice", "open sesame"));
    assert!(!place.lets_in("alice", "open sesame\n") && !place.lets_in("bob", "open sesame"));
    assert_eq!(place.do_it(&["--check"], b""), format!("{}: 1 account\n", place.file().display()));
}

#[test]
fn the_password_is_the_first_line_of_standard_input() {
    let place = Place::new();
    for (input, password) in
        [(&b"one"[..], "one"), (b"two\r\n", "two"), (b"three\nfour\n", "three"), ("grün \n".as_bytes(), "grün ")]
    {
        place.do_it(&["alice"], input);
        assert!(place.lets_in("alice", password), "{password}");
    }
    let longest = "x".repeat(512);
    place.do_it(&["alice"], format!("{longest}\r\n").as_bytes());
    assert!(place.lets_in("alice", &longest));
    let before = place.text();
    let megabyte = vec![b'x'; 1 << 20];
    for (input, expected) in [
        (&b""[..], "the password is empty"),
        (b"\n", "the password is empty"),
        (b"a\x07b\n", "the password holds a control character, which clients can't send"),
        (b"a\0", "the password holds a control character, which clients can't send"),
        ((longest + "x\n").as_bytes(), "a password has at most 512 bytes"),
        (&megabyte, "a password has at most 512 bytes"),
    ] {
        let said = place.run(&["alice"], input);
        assert_eq!((said.status, said.error), (Some(1), format!("plimsoll: {expected}\n")));
    }
    assert_eq!((place.text(), place.names()), (before, vec!["users".to_owned()]));
}

#[test]
fn one_line_is_changed_and_everything_else_stays() {
    let text = format!("# the crew\nalice:{HASH}:write=all\n\n#old:{HASH}\nbob:{HASH}:root=/srv/b\\,c\n");
    let place = Place::with(&text);
    std::fs::set_permissions(place.file(), Permissions::from_mode(0o640)).expect("it is ours");
    let is_root = rustix::process::geteuid().is_root();
    if is_root {
        std::os::unix::fs::chown(place.file(), Some(65_534), Some(65_533)).expect("root may");
    } else {
        println!("skipped: that the owner is kept: only root can make a file somebody else's");
    }
    let before = place.file().metadata().expect("a file");

    place.do_it(&["alice", "--quota", "5G"], b"sesame\n");
    // Another file has taken its place.
    assert_ne!(place.file().metadata().expect("a file").ino(), before.ino());
    let lines = place.text();
    let lines: Vec<&str> = lines.lines().collect();
    let (start, end) = lines[1].rsplit_once(':').expect("options");
    assert!(start.starts_with("alice:$argon2id$") && end == "write=all,quota=5G", "{lines:?}");
    assert_eq!(
        [lines[0], lines[2], lines[3], lines[4]].join("\n") + "\n",
        text.replace(&format!("alice:{HASH}:write=all\n"), "")
    );
    assert!(place.lets_in("alice", "sesame") && place.lets_in("bob", "secret"));

    place.do_it(&["alice", "--delete"], b"");
    assert_eq!(place.text(), text.replace(&format!("alice:{HASH}:write=all\n"), ""));
    let after = place.file().metadata().expect("a file");
    assert_eq!((after.mode(), after.uid(), after.gid()), (before.mode(), before.uid(), before.gid()));
    assert_eq!(place.names(), ["users"]);
}

#[test]
fn options_are_set_and_taken_away_and_the_password_can_stay() {
    let place = Place::with(&format!("alice:{HASH}\n"));
    let set = ["--root=/srv/a,b", "--write", "add", "--max-sessions=3", "--max-rate=1M", "--quota=2G"];
    let more = ["--idle-timeout=2m", "--from=192.0.2.0/24+::1", "--expires=2027-01-31", "--keep-password"];
    place.do_it(&[&["alice"], &set[..], &more[..]].concat(), b"not read\n");
    let expected = "root=/srv/a\\,b,write=add,max-sessions=3,max-rate=1M,quota=2G,idle-timeout=2m,\
                    from=192.0.2.0/24+::1,expires=2027-01-31";
    assert_eq!(place.text(), format!("alice:{HASH}:{expected}\n"));

    let all =
        ["root", "write", "max-sessions", "max-rate", "idle-timeout", "from", "expires"].map(|key| format!("--{key}="));
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    place.do_it(&[&["alice", "--keep-password"], &all[..]].concat(), b"");
    assert_eq!(place.text(), format!("alice:{HASH}:quota=2G\n"));
    place.do_it(&["alice", "--keep-password", "--quota", ""], b"");
    assert_eq!(place.text(), format!("alice:{HASH}\n"));
}

#[test]
fn what_is_wrong_with_the_command_is_told_before_a_password_is_asked_for() {
    let place = Place::new();
    let file = place.file().display().to_string();
    let cases: [(&[&str], i32, &[&str]); 8] = [
        (&["al:ice"], 2, &["NAME: name \"al:ice\": holds ':'"]),
        (&["Anonymous"], 2, &["NAME: name \"Anonymous\": it is the anonymous user's"]),
        (
            &["alice", "--quota", "much", "--root=srv"],
            2,
            &[
                "--root: \"srv\" is not an absolute path of fewer than 4096 bytes without control characters",
                "--quota: \"much\" is not a size from 1 to 1048576G",
            ],
        ),
        (&["alice", "--delete", "--quota=1"], 2, &["--quota: --delete changes no account"]),
        (&["alice", "--keep-password"], 1, &["FILE: no account of the name \"alice\""]),
        (&["alice", "--delete"], 1, &["FILE: no account of the name \"alice\""]),
        (&["--check"], 1, &["FILE: no such file or directory"]),
        (&["--list"], 1, &["FILE: no such file or directory"]),
    ];
    for (arguments, status, lines) in cases {
        let said = place.run(arguments, b"secret\n");
        let expected: String =
            lines.iter().map(|line| format!("plimsoll: {}\n", line.replace("FILE", &file))).collect();
        assert_eq!((said.status, said.error, said.out), (Some(status), expected, String::new()), "{arguments:?}");
    }
    assert_eq!(place.names(), Vec::<String>::new());
}

#[test]
fn a_file_that_no_server_takes_is_left_alone() {
    let text = format!("alice:{HASH}\nbob\ncarl::write=all\nalice:{HASH}\n");
    let place = Place::with(&text);
    let file = place.file().display().to_string();
    let expected = [
        format!("{file}:2: an account is NAME:HASH or NAME:HASH:KEY=VALUE,..."),
        format!("{file}:3: the hash is empty"),
        format!("{file}:4: alice is there already, in line 1"),
    ];
    let expected: String = expected.iter().map(|line| format!("plimsoll: {line}\n")).collect();
    for arguments in [&["zoe"][..], &["alice", "--delete"], &["--list"], &["--check"], &["alice", "--keep-password"]] {
        let said = place.run(arguments, b"secret\n");
        assert_eq!((said.status, said.error.as_str()), (Some(1), expected.as_str()), "{arguments:?}");
    }
    assert_eq!((place.text(), place.names()), (text, vec!["users".to_owned()]));

    let costs: String =
        (2000..2004).map(|rounds| format!("a{rounds}:$5$rounds={rounds}$ab${}\n", ".".repeat(43))).collect();
    let place = Place::with(&costs);
    let said = place.run(&["zoe"], b"secret\n");
    assert_eq!(said.status, Some(1));
    assert!(said.error.contains("hashes of 5 different costs, and at most 4 are taken"), "{}", said.error);
    assert_eq!((place.text(), place.names()), (costs, vec!["users".to_owned()]));
}

#[test]
fn others_who_can_read_or_write_the_file_are_told_of() {
    let place = Place::with(&format!("alice:{HASH}\n"));
    for (mode, status, expected) in [
        (0o644, 0, "every user of this host may read it (mode 644): chmod o-r"),
        (0o666, 1, "every user of this host may write it (mode 666): chmod o-w"),
    ] {
        std::fs::set_permissions(place.file(), Permissions::from_mode(mode)).expect("it is ours");
        for arguments in [&["--check"][..], &["--list"], &["alice", "--keep-password", "--quota=1G"]] {
            let said = place.run(arguments, b"");
            let expected = format!("plimsoll: {}: {expected}\n", place.file().display());
            assert_eq!((said.status, said.error), (Some(status), expected), "{arguments:?}");
        }
        assert_eq!(place.mode(), mode);
    }
}

#[test]
fn the_table_shows_no_hash() {
    let place = Place::with(&format!("# crew\nzoe:{HASH}:write=all\nalice:{HASH}:quota=1G,root=/srv/a\n"));
    let table = place.do_it(&["--list"], b"");
    let expected = "\
NAME   HASH          WRITE  MAX-SESSIONS  MAX-RATE  QUOTA  IDLE-TIMEOUT  FROM  EXPIRES  ROOT
zoe    sha256-crypt  all    -             -         -      -             -     -        -
alice  sha256-crypt  -      -             -         1G     -             -     -        /srv/a
";
    assert_eq!(table, expected);
}

#[test]
fn a_link_to_the_file_stays_a_link() {
    let place = Place::with(&format!("alice:{HASH}\n"));
    let link = place.folder.path().join("link");
    symlink("users", &link).expect("a link");
    assert_eq!(run_on(&link, &["alice", "--delete"], b"").status, Some(0));
    assert!(link.is_symlink() && place.text().is_empty());

    let nowhere = place.folder.path().join("nowhere");
    symlink("gone", &nowhere).expect("a link");
    let said = run_on(&nowhere, &["alice"], b"secret\n");
    let expected = format!("plimsoll: {}: a link that leads nowhere\n", nowhere.display());
    assert_eq!((said.status, said.error), (Some(1), expected));
    assert_eq!(place.names(), ["link", "nowhere", "users"]);
}

#[test]
fn edits_at_the_same_time_all_come_into_the_file() {
    // The first of them makes it.
    let place = Place::new();
    let names: Vec<String> = (0..12).map(|number| format!("user{number}")).collect();
    let children: Vec<Child> = names.iter().map(|name| start(&place.file(), &[name])).collect();
    // All have started before the first has its password, and all have theirs before any is waited for.
    let children: Vec<Child> = children
        .into_iter()
        .map(|mut child| {
            child.stdin.take().expect("piped").write_all(b"secret\n").expect("it reads");
            child
        })
        .collect();
    for child in children {
        let said = said(child);
        assert_eq!((said.status, said.error), (Some(0), String::new()));
    }
    let text = place.text();
    let mut found: Vec<&str> = text.lines().filter_map(|line| Some(line.split_once(":$argon2id$")?.0)).collect();
    found.sort_unstable();
    let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!((found, place.names()), (names, vec!["users".to_owned()]));
}

#[test]
fn a_hash_of_openssl_is_taken() {
    let made = |kind: &str| Command::new("openssl").args(["passwd", kind, "open sesame"]).output();
    let mut seen = 0;
    for kind in ["-6", "-5"] {
        let Ok(output) = made(kind) else { continue };
        if !output.status.success() {
            continue;
        }
        seen += 1;
        let hash = String::from_utf8(output.stdout).expect("ASCII");
        let place = Place::with(&format!("alice:{hash}"));
        assert_eq!(place.do_it(&["--check"], b""), format!("{}: 1 account\n", place.file().display()));
        assert!(place.lets_in("alice", "open sesame") && !place.lets_in("alice", "open"), "{kind}");
    }
    if seen == 0 {
        println!("skipped: openssl is not there, or is too old");
    }
}

/// A terminal, and what was written on it.
struct Terminal {
    keyboard: File,
    screen: File,
    seen: String,
}

impl Terminal {
    fn new() -> Self {
        let keyboard = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
        grantpt(&keyboard).expect("it is ours");
        unlockpt(&keyboard).expect("it is ours");
        let name = ptsname(&keyboard, Vec::new()).expect("a name");
        let name = std::ffi::OsStr::from_bytes(name.to_bytes());
        let screen = OpenOptions::new().read(true).write(true).open(name).expect("the terminal");
        Self { keyboard: keyboard.into(), screen, seen: String::new() }
    }

    fn start(&self, file: &Path, arguments: &[&str]) -> Child {
        let end = || Stdio::from(self.screen.try_clone().expect("a descriptor"));
        let mut command = Server::command();
        command.arg("passwd").arg(file).args(arguments);
        command.stdin(end()).stdout(end()).stderr(end()).spawn().expect("the binary starts")
    }

    /// Reads until the screen ends in this.
    fn wait_for(&mut self, end: &str) {
        while !self.seen.ends_with(end) {
            let mut byte = [0];
            self.keyboard.read_exact(&mut byte).expect("the terminal is open");
            self.seen.push(char::from(byte[0]));
        }
    }

    fn type_in(&mut self, text: &str) {
        self.keyboard.write_all(text.as_bytes()).expect("the terminal takes it");
    }

    fn echoes(&self) -> bool {
        tcgetattr(&self.screen).expect("a terminal").local_modes.contains(LocalModes::ECHO)
    }
}

#[test]
fn at_a_terminal_it_asks_twice_and_shows_nothing() {
    let (place, mut terminal) = (Place::new(), Terminal::new());
    let mut ask = |second: &str, end: &str| {
        terminal.seen.clear();
        let mut child = terminal.start(&place.file(), &["alice", "--write=all"]);
        terminal.wait_for("Password for alice: ");
        assert!(!terminal.echoes());
        terminal.type_in("open sesame\n");
        terminal.wait_for("\r\nThe same again: ");
        assert!(!terminal.echoes());
        terminal.type_in(second);
        terminal.wait_for(end);
        assert!(terminal.echoes() && !terminal.seen.contains("sesame"), "{:?}", terminal.seen);
        child.wait().expect("it ends")
    };
    let code = |status: ExitStatus| status.code();
    assert_eq!(code(ask("open sesamf\n", "\r\nplimsoll: the two passwords differ\r\n")), Some(1));
    assert_eq!(place.names(), Vec::<String>::new());
    assert_eq!(code(ask("open sesame\n", "users: alice added\r\n")), Some(0));
    assert!(place.lets_in("alice", "open sesame"));
}

#[test]
fn a_signal_while_it_asks_gives_the_terminal_back() {
    let (place, mut terminal) = (Place::new(), Terminal::new());
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        terminal.seen.clear();
        let mut child = terminal.start(&place.file(), &["alice"]);
        terminal.wait_for("Password for alice: ");
        assert!(!terminal.echoes());
        kill_process(Pid::from_child(&child), signal).expect("it runs");
        assert_eq!(child.wait().expect("it ends").signal(), Some(signal.as_raw()));
        assert!(terminal.echoes());
    }
    assert_eq!(place.names(), Vec::<String>::new());
}
