//! The flags against the real binary: what an operator gets wrong, and what the flags do.

use crate::server::{Client, PATIENCE, Server, eventually, has_ipv6, tree};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A server started with nothing but the flags that a test gives.
pub struct Launched {
    child: Child,
    ready: Vec<String>,
    log: Arc<Mutex<String>>,
}

impl Launched {
    /// Serves `root` with these flags, among them at least one `--listen`, and few workers.
    pub fn start(root: &Path, flags: &[&str]) -> Launched {
        let mut command = Server::command();
        command.arg("serve").arg(root).args(["--workers", "16"]).args(flags);
        Self::run(command)
    }

    /// Runs this command, which must become a server, and waits until it is ready.
    pub fn run(mut command: Command) -> Launched {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the command starts");
        let mut out = BufReader::new(child.stdout.take().expect("piped"));
        let log = Arc::new(Mutex::new(String::new()));
        let (stderr, kept) = (child.stderr.take().expect("piped"), Arc::clone(&log));
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut log = kept.lock().expect("nobody panics while it logs");
                writeln!(log, "{line}").expect("a string takes it");
            }
        });
        let mut launched = Launched { child, ready: Vec::new(), log };
        while !launched.ready.last().is_some_and(|line: &String| line.starts_with("load line")) {
            let mut line = String::new();
            let read = out.read_line(&mut line).expect("text");
            assert!(read > 0, "the server did not start: {}", launched.log());
            launched.ready.push(line.trim_end().to_owned());
        }
        launched
    }

    /// The lines on standard output.
    pub fn ready(&self) -> &[String] {
        &self.ready
    }

    /// The address of this listener, as the ready line has it.
    pub fn listening(&self, number: usize) -> SocketAddr {
        let (_, address) = self.ready[number].split_once(" listening on ").expect("a ready line");
        address.parse().expect("an address")
    }

    /// The port of this listener.
    pub fn port(&self, number: usize) -> u16 {
        self.listening(number).port()
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything logged so far.
    pub fn log(&self) -> String {
        self.log.lock().expect("nobody panics while it logs").clone()
    }

    /// A client at the first listener, over IPv4.
    fn connect(&self) -> Client {
        Client::connect((Ipv4Addr::LOCALHOST, self.port(0)).into())
    }

    /// Stops the server in order and returns everything that it logged.
    fn stop(mut self) -> String {
        let kill = Command::new("kill").arg(self.pid().to_string()).status();
        assert!(kill.expect("kill runs").success());
        assert_eq!(wait(&mut self.child, PATIENCE), Some(0));
        let end = "stopping";
        eventually("the log to end", || {
            let log = self.log();
            !log.contains(end) || log.contains("bytes sent")
        });
        self.log()
    }
}

impl Drop for Launched {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How long a command may take: a search for a pool has a dozen runs, and more where the host is busy.
const WHOLE: Duration = Duration::from_secs(120);

/// The exit code of a process that has to end within this time.
fn wait(child: &mut Child, time: Duration) -> Option<i32> {
    let end = Instant::now() + time;
    loop {
        if let Some(status) = child.try_wait().expect("our child") {
            return status.code();
        }
        if Instant::now() >= end {
            let _ = child.kill();
            let _ = child.wait();
            panic!("the process does not end");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Runs a command that must end by itself: its exit code, standard output and standard error.
pub fn outcome(mut command: Command) -> (Option<i32>, String, String) {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the command starts");
    // What it writes fits the pipes.
    let code = wait(&mut child, WHOLE);
    let (mut out, mut error) = (String::new(), String::new());
    child.stdout.take().expect("piped").read_to_string(&mut out).expect("text");
    child.stderr.take().expect("piped").read_to_string(&mut error).expect("text");
    (code, out, error)
}

fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Server::command();
    command.args(arguments);
    outcome(command)
}

/// The arguments must be refused with this code, and with one line for each of `lines`, which holds all
/// of its words.
fn refused(arguments: &[&str], code: i32, lines: &[&[&str]]) {
    let (seen, out, error) = run(arguments);
    let shown = format!("{arguments:?}: {seen:?}\n{error}");
    assert_eq!(seen, Some(code), "{shown}");
    assert_eq!(out, "", "{shown}");
    assert_eq!(error.lines().count(), lines.len(), "{shown}");
    for (line, words) in error.lines().zip(lines) {
        assert!(line.starts_with("plimsoll: ") && !line.ends_with('.'), "{shown}");
        assert!(!line.chars().any(char::is_control), "{shown}");
        for word in *words {
            assert!(line.contains(word), "{word:?} is not in\n{shown}");
        }
    }
}

/// A range of ports of which each could be had a moment ago, below those that the kernel gives out and
/// beside those that other tests use.
fn quiet_range(count: u16) -> std::ops::RangeInclusive<u16> {
    let nanoseconds = || {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
        u64::from(since.subsec_nanos()) ^ (u64::from(std::process::id()) << 7)
    };
    loop {
        let low = 10_000 + u16::try_from(nanoseconds() / 64 % 9_000).expect("below 9,000");
        let range = low..=low + count - 1;
        let is_free = |port| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok();
        if range.clone().all(is_free) {
            return range;
        }
    }
}

/// Such a range, and listeners that hold all of it. It may take some tries: a child that another test has begun
/// to start holds for a moment what it has inherited.
fn held_range(count: u16) -> (std::ops::RangeInclusive<u16>, Vec<TcpListener>) {
    loop {
        let range = quiet_range(count);
        let holders = range.clone().map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)));
        if let Ok(holders) = holders.collect() {
            return (range, holders);
        }
    }
}

// --- Mistakes -----------------------------------------------------------------------------------

#[test]
fn a_command_line_that_is_no_command_is_refused_with_2() {
    refused(&[], 2, &[&["serve", "--help"]]);
    refused(&["sevre"], 2, &[&["sevre"]]);
    refused(&["--bogus"], 2, &[&["--bogus"]]);
    refused(&["serve", "--bogus"], 2, &[&["--bogus"]]);
    refused(&["serve", "--worker", "3"], 2, &[&["--worker"]]);
    refused(&["serve", "-w"], 2, &[&["-w"]]);
    refused(&["serve", "--bo\ngus\u{1b}[2J"], 2, &[&["gus"]]);
    refused(&["serve", ".", "another"], 2, &[&["another"]]);
    refused(&["serve", ""], 2, &[&["ROOT", "\"\""]]);
}

/// Every flag that takes a value.
const VALUES: [&str; 39] = [
    "--listen",
    "--workers",
    "--queue",
    "--stack-size",
    "--memory-limit",
    "--shed-after",
    "--idle-timeout",
    "--login-timeout",
    "--data-timeout",
    "--stall-timeout",
    "--min-rate",
    "--session-timeout",
    "--queue-timeout",
    "--max-per-ip",
    "--max-per-user",
    "--max-unauthenticated",
    "--wide-transfers",
    "--listing-memory",
    "--passive-ports",
    "--passive-address",
    "--accounts",
    "--anonymous",
    "--incoming",
    "--incoming-mode",
    "--incoming-owner",
    "--incoming-max-file",
    "--incoming-max-total",
    "--anon-rate",
    "--password-checks",
    "--deny-file",
    "--durable",
    "--min-free",
    "--upload-window",
    "--umask",
    "--transfer-log",
    "--events",
    "--banner",
    "--grace",
    "--log",
];

#[test]
fn a_flag_without_its_value_is_refused_with_2() {
    for flag in VALUES {
        refused(&["serve", flag], 2, &[&[flag, "needs a value"]]);
        refused(&["serve", flag, "--no-active"], 2, &[&[flag, "needs a value", "--no-active"]]);
        refused(&["serve", flag, "--workers", "1"], 2, &[&[flag, "needs a value", "--workers"]]);
    }
    refused(&["serve", "--no-active=yes"], 2, &[&["--no-active", "yes"]]);
    refused(&["serve", "--workers", "1", "--workers", "2"], 2, &[&["--workers", "more than once"]]);
}

#[test]
fn a_malformed_value_is_refused_with_2_and_named_with_its_flag() {
    let times: &[&str] = &["", "0", "99ms", "5x", "-5", "1.5s", "off", "8d"];
    let counts: &[&str] = &["", "0", "-1", "many", "1.5", "99999", "off"];
    let caps: &[&str] = &["", "0", "-1", "many", "OFF", "99999"];
    let sizes: &[&str] = &["", "0", "-1", "lots", "OFF"];
    let names: &[&str] = &[""];
    let modes: &[&str] = &["", "8", "1777", "u+x"];
    let cases: [(&str, &[&str]); 39] = [
        ("--listen", &["", "x", "127.0.0.1", "::1:21", "65536", "127.0.0.1:x", "1.2.3:21"]),
        ("--workers", counts),
        ("--queue", counts),
        ("--stack-size", &["", "63K", "65M", "128k", "-1", "lots"]),
        ("--memory-limit", &["", "1023K", "64m", "-1", "lots", "OFF"]),
        ("--shed-after", times),
        ("--idle-timeout", times),
        ("--login-timeout", times),
        ("--data-timeout", times),
        ("--stall-timeout", times),
        ("--min-rate", &["", "0", "-1", "2G", "fast"]),
        ("--session-timeout", &["", "0", "99ms", "5x", "OFF"]),
        ("--queue-timeout", times),
        ("--max-per-ip", caps),
        ("--max-per-user", caps),
        ("--max-unauthenticated", caps),
        ("--wide-transfers", &["", "-1", "16385", "off"]),
        ("--listing-memory", &["", "0", "63K", "1025M", "none"]),
        ("--passive-ports", &["", "5", "5-", "-5", "0-900", "900-5", "1-65536", "a-b"]),
        ("--passive-address", &["", "10.1", "::1", "0.0.0.0", "1.2.3.4:21"]),
        ("--accounts", names),
        ("--anonymous", &["", "ON", "maybe", "read-only"]),
        ("--incoming", names),
        ("--incoming-mode", modes),
        ("--incoming-owner", &["", "root", "0", "0:", "-1:0", "0:4294967295"]),
        ("--incoming-max-file", sizes),
        ("--incoming-max-total", sizes),
        ("--anon-rate", &["", "0", "1023", "fast", "OFF"]),
        ("--password-checks", &["", "0", "65", "many"]),
        ("--deny-file", names),
        ("--durable", &["", "ON", "yes"]),
        ("--min-free", &["", "100%", "-1", "off", "5.5%"]),
        ("--upload-window", &["", "15K", "5M", "wide"]),
        ("--umask", modes),
        ("--transfer-log", names),
        ("--events", names),
        ("--banner", &["\n", "a\u{1b}b", "@"]),
        ("--grace", times),
        ("--log", &["", "loud", "warning", "2"]),
    ];
    assert_eq!(cases.map(|(flag, _)| flag), VALUES);
    for (flag, values) in cases {
        for value in values {
            let quoted = format!("{value:?}");
            // A banner can be long, so what is wrong with it is said without repeating it.
            let words: &[&str] = if flag == "--banner" { &[flag] } else { &[flag, &quoted] };
            refused(&["serve", flag, value], 2, &[words]);
            refused(&["serve", &format!("{flag}={value}")], 2, &[words]);
        }
    }
}

#[test]
fn several_mistakes_at_once_are_a_line_each() {
    let arguments = [
        "serve",
        "--workers",
        "none",
        "--queue",
        "0",
        "--idle-timeout",
        "soon",
        "--log",
        "loud",
        "--banner",
        "@/nonexistent/banner",
    ];
    let (code, out, error) = run(&arguments);
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert_eq!(error.lines().count(), 5, "{error}");
    for words in [
        ["--workers", "\"none\""],
        ["--queue", "\"0\""],
        ["--idle-timeout", "\"soon\""],
        ["--log", "\"loud\""],
        ["--banner", "\"/nonexistent/banner\""],
    ] {
        let lines = error.lines().filter(|line| words.iter().all(|word| line.contains(word)));
        assert_eq!(lines.count(), 1, "{words:?} in {error}");
    }
}

#[test]
fn a_root_that_can_not_be_served_is_refused_with_1() {
    let (_folder, root) = tree();
    let name = |path: &str| root.join(path).to_str().expect("UTF-8").to_owned();
    let serve = |path: &str, word: &str| {
        refused(&["serve", path, "--listen", "127.0.0.1:0"], 1, &[&["ROOT", path, word]]);
    };
    serve(&name("absent"), "does not exist");
    serve(&name("a.txt"), "not a folder");
    let two_lines = name("no\nwhere");
    refused(&["serve", &two_lines, "--listen", "127.0.0.1:0"], 1, &[&["ROOT", "no\\nwhere"]]);
    use std::os::unix::fs::PermissionsExt;
    let locked = name("locked");
    std::fs::create_dir(&locked).expect("a folder");
    std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(0o000)).expect("it is ours");
    if std::fs::read_dir(&locked).is_ok() {
        return eprintln!("skipped: for root no folder is unreadable");
    }
    serve(&locked, "");
}

#[test]
fn an_address_that_can_not_be_had_is_refused_with_1() {
    let (_folder, root) = tree();
    let root = root.to_str().expect("UTF-8");
    let holder = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let taken = holder.local_addr().expect("bound").to_string();
    let serve = |listen: &str, words: &[&str]| {
        let words = [&["--listen", listen], words].concat();
        refused(&["serve", root, "--listen", listen], 1, &[&words]);
    };
    serve(&taken, &["taken"]);
    // TEST-NET-1, which no host has.
    serve("192.0.2.1:0", &["no such address"]);
    serve("no..where:21", &["does not resolve"]);
    // The second of two is named, not the first.
    refused(&["serve", root, "--listen", "127.0.0.1:0", "--listen", &taken], 1, &[&["--listen", &taken]]);
    match TcpListener::bind((Ipv4Addr::LOCALHOST, 1)) {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            serve("127.0.0.1:1", &["permission denied"]);
        }
        _ => eprintln!("skipped: this user may have port 1"),
    }
}

#[test]
fn a_passive_range_with_too_few_ports_is_refused() {
    let (_folder, root) = tree();
    let root = root.to_str().expect("UTF-8");
    let serve = ["serve", root, "--listen", "127.0.0.1:0", "--workers", "4"];
    let small = [&serve[..], &["--passive-ports", "20000-20002"]].concat();
    refused(&small, 2, &[&["--passive-ports", "20000-20002", " 3 ", " 4 ", "--workers"]]);
    let (range, mut holders) = held_range(4);
    let text = format!("{}-{}", range.start(), range.end());
    let arguments = [&serve[..], &["--passive-ports", &text]].concat();
    refused(&arguments, 1, &[&["--passive-ports", &text, "only 0 ", "--workers 4"]]);
    // A child that another test has begun to start holds what it has inherited until it runs.
    let can_be_had = |count: &str| run(&arguments).2.contains(count);
    holders.truncate(1);
    eventually("three ports to be free", || can_be_had("only 3 "));
    refused(&arguments, 1, &[&["--passive-ports", &text, "only 3 ", "--workers 4"]]);
    drop(holders);
    let ports = (*range.start()..=*range.end()).map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)));
    eventually("all ports to be free", || ports.clone().all(|bound| bound.is_ok()));
    let mut command = Server::command();
    command.args(&arguments);
    Launched::run(command);
}

#[test]
fn a_passive_address_that_does_not_resolve_is_refused_with_1() {
    // Two dots in a row make a name that no resolver has to ask the network for.
    refused(
        &["serve", "--passive-address", "no..where"],
        1,
        &[&["--passive-address", "\"no..where\"", "does not resolve"]],
    );
}

#[test]
fn a_banner_that_can_not_be_sent_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    let file = |name: &str, bytes: &[u8]| {
        std::fs::write(path(name), bytes).expect("a file");
        format!("@{}", path(name))
    };
    let banner = |value: &str, code: i32, words: &[&str]| {
        let words = [&["--banner"], words].concat();
        refused(&["serve", "--banner", value], code, &[&words]);
    };
    banner(&format!("@{}", path("absent")), 1, &[&path("absent"), "o such file"]);
    banner(&format!("@{}", folder.path().display()), 1, &[&path("")[..4]]);
    banner(&file("long", &[b'x'; 600]), 1, &[&path("long"), "line 1", "504"]);
    banner(&file("much", "line\n".repeat(500).as_bytes()), 1, &["2048"]);
    banner(&file("bytes", b"\xff\xfe"), 1, &["UTF-8"]);
    banner(&file("empty", b""), 1, &["no text"]);
    banner(&"x".repeat(600), 2, &["line 1", "504"]);
    banner(&"line\n".repeat(30), 2, &["30 lines", "24"]);
    banner(&"x".repeat(3000), 2, &["2048"]);
}

// --- Help, version, ready lines -----------------------------------------------------------------

#[test]
fn help_names_every_flag_with_its_default() {
    let (code, out, error) = run(&["serve", "--help"]);
    assert_eq!((code, error.as_str()), (Some(0), ""));
    let (_, options) = out.split_once("Options:\n").expect("a list of flags");
    let (options, _) = options.split_once("\nNotes:").expect("notes after it");
    // A flag begins a line after two spaces; what follows is its text.
    let mut entries: Vec<(&str, String)> = Vec::new();
    for line in options.lines() {
        match line.strip_prefix("  ").filter(|rest| rest.starts_with("--")) {
            Some(rest) => {
                let (flag, text) = rest.split_once(' ').unwrap_or((rest, ""));
                entries.push((flag, text.trim().to_owned()));
            }
            None => {
                if let Some((_, text)) = entries.last_mut() {
                    text.push(' ');
                    text.push_str(line.trim());
                }
            }
        }
    }
    let text = |flag: &str| {
        let found: Vec<_> = entries.iter().filter(|(name, _)| *name == flag).collect();
        assert_eq!(found.len(), 1, "{flag} in {out}");
        found[0].1.clone()
    };
    let defaults = [
        "[::]:2121",
        "256",
        "64",
        "128K",
        "off",
        "2s",
        "5m",
        "30s",
        "30s",
        "1m",
        "256",
        "off",
        "10s",
        "a quarter of --workers, at least 4",
        "off",
        "half of --workers, plus --queue",
        "one for each 32 workers, at least 1",
        "32K for each worker, at least 64K",
        "20000-29999",
        "the address to which the client connected",
        "none but the anonymous user",
        "read",
        "ROOT",
        "600",
        "that of the server",
        "off",
        "off",
        "off",
        "1",
        "none",
        "on",
        "16M",
        "128K",
        "022",
        "none",
        "none",
        "\"plimsoll ready\"",
        "10s",
        "warn",
    ];
    for (flag, default) in VALUES.iter().zip(defaults) {
        let text = text(flag);
        let (_, after) = text.split_once("(default").unwrap_or_else(|| panic!("{flag} has no default: {text}"));
        let after = after.trim_start_matches([':', ' ']);
        assert!(after.starts_with(default), "{flag}: {after}, not {default}");
    }
    assert!(text("--no-active").contains("(default: they are allowed"));
    text("--version");
    assert!(out.contains("(default: the current folder)"), "{out}");
    assert_eq!(entries.len(), VALUES.len() + 6, "a flag that this test does not know: {entries:?}");
    let (code, out, error) = run(&["--help"]);
    assert_eq!((code, error.as_str()), (Some(0), ""));
    assert!(out.contains("serve"), "{out}");
}

#[test]
fn version_prints_name_and_version() {
    for arguments in [&["--version"][..], &["serve", "--version"]] {
        let (code, out, error) = run(arguments);
        assert_eq!(code, Some(0));
        assert_eq!(out, format!("plimsoll {}\n", env!("CARGO_PKG_VERSION")));
        assert_eq!(error, "");
    }
}

#[test]
fn the_ready_lines_tell_each_address_one_to_try_and_the_load_line() {
    let (_folder, root) = tree();
    let check = |flags: &[&str], expected: &[&str], tried: &str| {
        let launched = Launched::start(&root, flags);
        let listening: Vec<SocketAddr> = (0..expected.len()).map(|number| launched.listening(number)).collect();
        for (address, host) in listening.iter().zip(expected) {
            let port = address.port();
            assert_ne!(port, 0);
            let begin = format!("plimsoll {} listening on {host}:{port}", env!("CARGO_PKG_VERSION"));
            assert!(launched.ready().contains(&begin), "{:?}", launched.ready());
        }
        let rest = &launched.ready()[expected.len()..];
        assert_eq!(rest[0], format!("try ftp://{tried}:{}/", listening[0].port()));
        assert!(rest[1].starts_with("load line: 16 sessions, 64 queued, "), "{rest:?}");
        assert_eq!(rest.len(), 2, "{rest:?}");
        for address in listening {
            let ip = match address.ip() {
                ip if !ip.is_unspecified() => ip,
                _ => Ipv4Addr::LOCALHOST.into(),
            };
            assert!(crate::deadlines::logs_in((ip, address.port()).into()), "{address}");
        }
    };
    check(&["--listen", "127.0.0.1:0"], &["127.0.0.1"], "127.0.0.1");
    check(&["--listen", "0.0.0.0:0"], &["0.0.0.0"], "localhost");
    check(&["--listen", "127.0.0.1:0", "--listen", "127.0.0.2:0"], &["127.0.0.1", "127.0.0.2"], "127.0.0.1");
    if !has_ipv6() {
        return check(&["--listen", "0"], &["0.0.0.0"], "localhost");
    }
    check(&["--listen", "0"], &["[::]"], "localhost");
    check(&["--listen", ":0"], &["[::]"], "localhost");
    check(&["--listen", "[::]:0"], &["[::]"], "localhost");
    check(&["--listen", "[::1]:0"], &["[::1]"], "[::1]");
    check(&["--listen", "[::1]:0", "--listen", "127.0.0.1:0", "--listen=0"], &["[::1]", "127.0.0.1", "[::]"], "[::1]");
}

#[test]
fn one_ipv6_listener_serves_both_families() {
    if !has_ipv6() {
        return eprintln!("skipped: there is no IPv6 on loopback");
    }
    let (_folder, root) = tree();
    let launched = Launched::start(&root, &["--listen", "0"]);
    for address in [
        SocketAddr::from((Ipv4Addr::LOCALHOST, launched.port(0))),
        SocketAddr::from((Ipv6Addr::LOCALHOST, launched.port(0))),
    ] {
        let mut client = Client::connect(address);
        client.log_in();
        assert_eq!(client.fetch("RETR sub/b.txt"), b"b\n", "{address}");
    }
}

#[test]
fn without_a_root_the_current_folder_is_served() {
    let (_folder, root) = tree();
    let mut command = Server::command();
    command.current_dir(root.join("sub")).args(["serve", "--listen", "127.0.0.1:0", "--workers", "4"]);
    let launched = Launched::run(command);
    let mut client = launched.connect();
    client.log_in();
    assert_eq!(client.fetch("RETR b.txt"), b"b\n");
}

// --- What flags do ------------------------------------------------------------------------------

#[test]
fn no_active_refuses_port_and_eprt_and_leaves_passive() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &["--no-active"]);
    let mut client = server.login();
    let holder = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = holder.local_addr().expect("bound").port();
    client.expect(&format!("PORT 127,0,0,1,{},{}", port >> 8, port & 255), "502 ");
    client.expect(&format!("EPRT |1|127.0.0.1|{port}|"), "502 ");
    client.expect("RETR sub/b.txt", "425 ");
    assert_eq!(client.fetch("RETR sub/b.txt"), b"b\n");
    let server = Server::start(&root, &[]);
    let mut client = server.login();
    let _listener = client.active(false);
    let _listener = client.active(true);
}

#[test]
fn the_banner_is_one_greeting_of_one_line_or_several() {
    let (folder, root) = tree();
    let greeting = |flags: &[&str]| {
        let server = Server::start(&root, flags);
        let (mut client, greeting) = Client::try_connect(server.v4());
        // Whatever the greeting is, the session after it is in step.
        client.log_in();
        greeting
    };
    assert_eq!(greeting(&[]), "220 plimsoll ready");
    assert_eq!(greeting(&["--banner", "Hello there"]), "220 Hello there");
    assert_eq!(greeting(&["--banner=--hello"]), "220 --hello");
    assert_eq!(greeting(&["--banner", "one\ntwo"]), "220-one\n220 two");
    assert_eq!(greeting(&["--banner", "one\n220 two\n\nfour"]), "220-one\n 220 two\n \n220 four");
    let file = folder.path().join("banner");
    std::fs::write(&file, "Willkommen auf\r\nftp.example.org — Grüße\n").expect("a file");
    let value = format!("@{}", file.display());
    assert_eq!(greeting(&["--banner", &value]), "220-Willkommen auf\n220 ftp.example.org — Grüße");
    std::fs::write(&file, "just one").expect("a file");
    assert_eq!(greeting(&["--banner", &value]), "220 just one");
}

#[test]
fn a_client_on_this_host_is_told_the_sockets_own_address_whatever_the_passive_address() {
    let (_folder, root) = tree();
    for flags in [&[][..], &["--passive-address", "192.0.2.7"]] {
        let server = Server::start(&root, flags);
        for own in ["127.0.0.1", "127.0.0.2"] {
            let mut client = Client::connect(SocketAddr::new(own.parse().expect("an address"), server.port()));
            client.log_in();
            let reply = client.expect("PASV", "227 Entering Passive Mode (");
            assert!(reply.contains(&format!("({},", own.replace('.', ","))), "{flags:?}: {reply}");
            // The harness connects to the host of the control connection.
            drop(client.passive(false));
            client.expect("QUIT", "221 ");
        }
    }
}

#[test]
fn passive_ports_come_from_the_range_and_are_not_in_order() {
    let (_folder, root) = tree();
    let range = quiet_range(64);
    let text = format!("{}-{}", range.start(), range.end());
    let server = Server::start(&root, &["--passive-ports", &text]);
    let mut client = server.login();
    let mut ports = Vec::new();
    for round in 0..40 {
        let data = client.passive(round % 2 == 0);
        let port = data.peer_addr().expect("connected").port();
        assert!(range.contains(&port), "{port} is not in {text}");
        ports.push(port);
    }
    let steps: std::collections::HashSet<i32> =
        ports.windows(2).map(|two| i32::from(two[1]) - i32::from(two[0])).collect();
    assert!(steps.len() > 10, "they can be guessed: {ports:?}");
}

#[test]
fn when_every_passive_port_is_held_the_next_is_425_until_one_comes_back() {
    let (_folder, root) = tree();
    let range = quiet_range(4);
    let text = format!("{}-{}", range.start(), range.end());
    let server = Server::start(&root, &["--workers", "4", "--passive-ports", &text]);
    let mut clients: Vec<Client> = (0..4).map(|_| server.login()).collect();
    let mut given: Vec<String> = clients.iter_mut().map(|client| client.expect("EPSV", "229 ")).collect();
    given.sort_unstable();
    given.dedup();
    assert_eq!(given.len(), 4, "each has a port of its own: {given:?}");
    // A second PASV of one session gives its first port back before it takes another.
    for _ in 0..10 {
        clients[0].expect("EPSV", "229 ");
    }
}

// --- Log ----------------------------------------------------------------------------------------

/// A session in which nothing goes wrong.
fn quiet_session(launched: &Launched) {
    let mut client = launched.connect();
    client.log_in();
    assert_eq!(client.fetch("RETR sub/b.txt"), b"b\n");
    client.fetch("LIST");
    client.expect("QUIT", "221 ");
    client.expect_end();
}

#[test]
fn by_default_a_quiet_session_and_an_orderly_end_leave_no_line_in_the_log() {
    let (_folder, root) = tree();
    for flags in [&[][..], &["--log", "warn"], &["--log", "off"]] {
        let launched = Launched::start(&root, &[&["--listen", "127.0.0.1:0"], flags].concat());
        quiet_session(&launched);
        assert_eq!(launched.stop(), "", "{flags:?}");
    }
}

#[test]
fn at_info_the_log_tells_of_logins_transfers_and_ends() {
    let (_folder, root) = tree();
    let launched = Launched::start(&root, &["--listen", "127.0.0.1:0", "--log", "info"]);
    quiet_session(&launched);
    let log = launched.stop();
    for text in ["anonymous logged in", "/sub/b.txt", "2 bytes", "session ended: quit", "admitted 1, logins 1"] {
        assert!(log.contains(text), "{text:?} in\n{log}");
    }
    assert!(!log.contains("DEBUG"), "{log}");
    for line in log.lines() {
        let (time, rest) = line.split_once(' ').expect("a time before the event");
        assert!(time.ends_with('Z') && time.contains('T'), "{line}");
        assert!(rest.starts_with("INFO  "), "{line}");
    }
}

#[test]
fn rust_log_decides_where_log_is_absent_and_only_there() {
    let (_folder, root) = tree();
    let log = |environment: &str, flags: &[&str]| {
        let mut command = Server::command();
        command.env("RUST_LOG", environment).arg("serve").arg(&root);
        command.args(["--listen", "127.0.0.1:0", "--workers", "4"]).args(flags);
        let launched = Launched::run(command);
        quiet_session(&launched);
        launched.stop()
    };
    let info = log("info", &[]);
    assert!(info.contains("logged in") && !info.contains("DEBUG"), "{info}");
    let debug = log("plimsoll=debug", &[]);
    assert!(debug.contains("DEBUG") && debug.contains("RETR sub/b.txt"), "{debug}");
    assert_eq!(log("debug", &["--log", "warn"]), "");
    assert!(log("error", &["--log", "info"]).contains("logged in"));
}

#[test]
fn no_password_comes_into_the_log_however_it_is_sent() {
    let (_folder, root) = tree();
    let launched = Launched::start(&root, &["--listen", "127.0.0.1:0", "--log", "trace"]);
    let mut client = launched.connect();
    let lines: [&[u8]; 12] = [
        b"PASS s3cret-before-user",
        b"USER anonymous",
        b"PASS s3cret",
        b"PASS s3cret-again",
        b"pass s3cret",
        b"PaSs  s3cret",
        b"PA\xff\xf1SS s3cret",
        b"ACCT s3cret",
        b"acct s3cret",
        b"PASS",
        b"PASS ",
        b"NOOP",
    ];
    for line in lines {
        client.raw(&[line, b"\r\n"].concat());
        assert_ne!(client.reply(), "");
    }
    client.raw(b"PASS s3cret\r\nPASS s3cret\r\nNOOP\r\n");
    for _ in 0..3 {
        assert_ne!(client.reply(), "");
    }
    let long = [b"PASS ".as_slice(), &b"s3cret".repeat(1000), b"\r\n"].concat();
    client.raw(&long);
    client.expect("NOOP", "5");
    client.expect("QUIT", "2");
    let log = launched.stop();
    assert!(log.contains("PASS ***"), "{log}");
    assert!(!log.contains("s3cret"), "{log}");
}

#[test]
fn a_password_with_a_slip_of_the_finger_before_it_does_not_come_into_the_log() {
    let (_folder, root) = tree();
    let launched = Launched::start(&root, &["--listen", "127.0.0.1:0", "--log", "trace"]);
    let mut client = launched.connect();
    client.expect("USER anonymous", "331 ");
    for line in [" PASS s3cret", "PASS\ts3cret", "PASSs3cret", "PAS s3cret", "APASS s3cret"] {
        client.expect(line, "500 ");
    }
    let log = launched.stop();
    assert!(!log.contains("s3cret"), "{log}");
}
