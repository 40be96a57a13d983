//! `plimsoll load` against the real server, and against servers that answer as they should not.

use crate::flags::outcome;
use crate::members::{PASSWORD, accounts, serve};
use crate::server::{Client, PATIENCE, Server, eventually, has_ipv6, tree};
use socket2::{Domain, SockRef, Socket, Type};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Runs `plimsoll load` with these arguments.
fn load(arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Server::command();
    command.arg("load").args(arguments);
    outcome(command)
}

/// The same, which must succeed, and its JSON, which must be JSON.
fn measured(arguments: &[&str]) -> (String, String) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("out.json");
    let mut all = arguments.to_vec();
    all.extend(["--json", file.to_str().expect("UTF-8")]);
    let (code, out, error) = load(&all);
    assert!(code.is_some_and(|code| code <= 1), "{arguments:?}: {code:?}\n{out}{error}");
    let json = std::fs::read_to_string(file).expect("it was written");
    assert_eq!(json_end(json.trim_end().as_bytes(), 0), Some(json.trim_end().len()), "no JSON: {json}");
    assert_eq!(code == Some(0), number(&json, "succeeded") + number(&json, "cut") > 0.0, "{out}{error}");
    (out, json)
}

/// Where the JSON value ends that begins here (RFC 8259).
fn json_end(text: &[u8], at: usize) -> Option<usize> {
    let skip = |mut at: usize| {
        while text.get(at) == Some(&b' ') {
            at += 1;
        }
        at
    };
    let all = |end: u8, member: bool| {
        let mut at = skip(at + 1);
        if text.get(at) == Some(&end) {
            return Some(at + 1);
        }
        loop {
            if member {
                at = skip(json_end(text, at).filter(|_| text.get(at) == Some(&b'"'))?);
                at = skip(at + text.get(at).filter(|byte| **byte == b':').map(|_| 1)?);
            }
            at = skip(json_end(text, at)?);
            match text.get(at)? {
                b',' => at = skip(at + 1),
                byte if *byte == end => return Some(at + 1),
                _ => return None,
            }
        }
    };
    match text.get(at)? {
        b'{' => all(b'}', true),
        b'[' => all(b']', false),
        b'"' => {
            let mut at = at + 1;
            loop {
                match text.get(at)? {
                    b'"' => return Some(at + 1),
                    b'\\' => at += 2,
                    0..0x20 => return None,
                    _ => at += 1,
                }
            }
        }
        _ => {
            let end =
                text[at..].iter().position(|byte| b",]} ".contains(byte)).map_or(text.len(), |length| at + length);
            let word = std::str::from_utf8(&text[at..end]).ok()?;
            (["true", "false", "null"].contains(&word) || word.parse::<f64>().is_ok()).then_some(end)
        }
    }
}

/// The first number under this key.
fn number(json: &str, key: &str) -> f64 {
    let (_, rest) = json.split_once(&format!("\"{key}\": ")).unwrap_or_else(|| panic!("{key} is not in {json}"));
    let end = rest.find([',', '}', ']']).unwrap_or(rest.len());
    rest[..end].parse().unwrap_or_else(|_| panic!("{key} is no number in {json}"))
}

/// What stands under this key of `latency_ms`.
fn latency<'a>(json: &'a str, key: &str) -> &'a str {
    let (_, rest) = json.split_once("\"latency_ms\": {").expect("latencies");
    let (_, rest) = rest.split_once(&format!("\"{key}\": {{")).unwrap_or_else(|| panic!("{key} is not in {json}"));
    rest.split('}').next().expect("an end")
}

/// It must be refused with this code, and with one line that holds these words.
fn refused(arguments: &[&str], code: i32, words: &[&str]) {
    let (seen, out, error) = load(arguments);
    assert_eq!((seen, out.as_str()), (Some(code), ""), "{arguments:?}: {error}");
    assert_eq!(error.lines().count(), 1, "{arguments:?}: {error}");
    for word in words {
        assert!(error.starts_with("plimsoll: ") && error.contains(word), "{arguments:?}: {word} is not in {error}");
    }
}

fn roomy(root: &Path) -> Server {
    Server::start_at(root, "127.0.0.1:0", &[])
}

/// Every key of JSON must be told in the documents.
fn assert_told(json: &str) {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/OPERATIONS.md");
    let docs = std::fs::read_to_string(docs).expect("the document");
    let (_, told) = docs.split_once("### Figures as JSON").expect("a section");
    let told = told.split("\n## ").next().expect("an end");
    let mut keys: Vec<_> = json.split("\": ").filter_map(|part| part.rsplit('"').next()).collect();
    // What follows the last key is a value.
    keys.pop();
    let named = |key: &str| told.contains(&format!("`{key}`"));
    let by_kind = |key: &str| key.ends_with("_session") || ["fetch", "list", "logon", "idle"].contains(&key);
    let wrong: Vec<_> = keys.iter().filter(|key| !named(key) && !by_kind(key)).collect();
    assert!(keys.len() > 20 && wrong.is_empty(), "{wrong:?} of {keys:?}");
}

// --- Against the real server --------------------------------------------------------------------

#[test]
fn each_mix_does_what_it_says() {
    let (_folder, root) = tree();
    let server = roomy(&root);
    let big = server.url() + "big.bin";
    let sub = server.url() + "sub/";
    let cases: [(&str, &str, u64); 5] = [
        (&big, "logon", 0),
        (&big, "fetch", 3 << 20),
        // The only file there has two bytes.
        (&sub, "fetch", 2),
        (&sub, "list", 1),
        (&big, "idle", 0),
    ];
    for (url, mix, least) in cases {
        let run = [url, "--mix", mix, "--sessions", "12", "--clients", "3", "--idle-for", "100ms"];
        let (out, json) = measured(&run);
        for (key, expected) in [("begun", 12.0), ("succeeded", 12.0), ("refused", 0.0), ("failed", 0.0)] {
            assert!((number(&json, key) - expected).abs() < 0.1, "{mix}: {key} in\n{json}");
        }
        let received = number(&json, "received_bytes");
        assert!(received >= 12.0 * least as f64 && (least > 0 || received < 0.5), "{mix}: {json}");
        assert!(mix == "list" || received < 12.0 * least as f64 + 0.5, "{mix}: {json}");
        assert!(latency(&json, "logon").starts_with("\"count\": 12,"), "{json}");
        assert!(latency(&json, "first_byte").starts_with(if least > 0 { "\"count\": 12," } else { "\"count\": 0," }));
        assert!(latency(&json, "session").starts_with("\"count\": 12,"), "{json}");
        assert!(out.contains("12 sessions begun, 12 succeeded, 0 refused, 0 failed"), "{out}");
    }
    // The last lines may come after the last client has left. One more session made the list of files.
    let told = |what: &str| server.log().matches(what).count();
    eventually("all sessions to be told", || told("session ended: quit") > 5 * 12);
    assert_eq!(told("session ended: quit"), 5 * 12 + 1);
    assert_eq!((told("RETR big.bin"), told("RETR sub/b.txt"), told("LIST sub/")), (12, 12, 12));
}

#[test]
fn a_mix_of_kinds_follows_its_weights() {
    let (_folder, root) = tree();
    let server = roomy(&root);
    let (_, json) =
        measured(&[&(server.url() + "a.txt"), "--mix", "fetch=3,logon", "--sessions", "40", "--clients", "2"]);
    assert!(latency(&json, "fetch_session").starts_with("\"count\": 30,"), "{json}");
    assert!(latency(&json, "logon_session").starts_with("\"count\": 10,"), "{json}");
    assert!(json.contains("\"mix\": {\"fetch\": 3, \"logon\": 1}"), "{json}");
    assert_told(&json);
}

#[test]
fn the_files_of_a_folder_and_those_below_it_are_fetched_in_turn() {
    let (_folder, root) = tree();
    std::fs::write(root.join("-la"), b"x").expect("a file");
    let server = roomy(&root);
    // Four files: -la, a.txt, big.bin, sub/b.txt; a hidden one is listed for programs as well.
    let (_, json) = measured(&[&server.url(), "--sessions", "10", "--clients", "1"]);
    assert!((number(&json, "succeeded") - 10.0).abs() < 0.1, "{json}");
    let told = |what: &str| server.log().matches(what).count();
    eventually("all sessions to be told", || told("session ended: quit") == 10 + 1);
    for name in ["RETR ./-la", "RETR a.txt", "RETR big.bin", "RETR sub/b.txt", "RETR .hidden"] {
        assert_eq!(told(name), 2, "{name}");
    }
    // Other kinds between them leave none out.
    std::fs::write(root.join("sub/c.txt"), b"x").expect("a file");
    measured(&[&(server.url() + "sub/"), "--mix", "fetch,logon", "--sessions", "8", "--clients", "1"]);
    eventually("all sessions to be told", || told("session ended: quit") == 11 + 9);
    for (name, times) in [("RETR sub/b.txt", 2 + 2), ("RETR sub/c.txt", 2)] {
        assert_eq!(told(name), times, "{name}");
    }
    let empty = format!("{}empty/", server.url());
    refused(&[&empty], 1, &["URL", "no file to fetch", "--mix"]);
}

#[test]
fn a_full_pool_shows_as_refusals_with_421() {
    let (_folder, root) = tree();
    let server = Server::start_at(
        &root,
        "127.0.0.1:0",
        &[
            &["--workers", "1", "--queue", "1", "--shed-after", "10m", "--queue-timeout", "10m"][..],
            &["--max-unauthenticated", "off"],
        ]
        .concat(),
    );
    let (_worker, _place) = (server.login(), TcpStream::connect(server.v4()).expect("a place in the queue"));
    eventually("both to be in", || Client::try_connect(server.v4()).1.starts_with("421 "));
    let (out, json) = measured(&[&(server.url() + "a.txt"), "--sessions", "6", "--clients", "2"]);
    assert!((number(&json, "refused") - 6.0).abs() < 0.1 && number(&json, "succeeded") < 0.5, "{json}");
    assert!(json.contains("\"refusals\": [{\"code\": 421, \"to\": \"greeting\", \"count\": 6}]"), "{json}");
    assert!(out.contains("         6  refused with 421 to greeting"), "{out}");
    // Who was turned away comes back in a while, and not at once.
    let (_, json) = measured(&[&(server.url() + "a.txt"), "--duration", "1s", "--clients", "2"]);
    assert!((2.0..30.0).contains(&number(&json, "begun")), "{json}");
}

#[test]
fn what_the_server_does_not_allow_is_counted_by_its_reply() {
    let (_folder, root) = tree();
    let server = roomy(&root);
    for (path, mix, told) in [
        ("", "upload", "\"refusals\": [{\"code\": 550, \"to\": \"STOR\", \"count\": 4}]"),
        ("absent", "fetch", "\"refusals\": [{\"code\": 550, \"to\": \"RETR\", \"count\": 4}]"),
        ("absent/", "list", "\"refusals\": [{\"code\": 550, \"to\": \"LIST\", \"count\": 4}]"),
    ] {
        let (out, json) = measured(&[&(server.url() + path), "--mix", mix, "--sessions", "4", "--clients", "2"]);
        assert_eq!(mix == "upload", out.contains("         4  refused with 550 to STOR: no uploads here"), "{out}");
        assert!(json.contains(told), "{told} is not in {json}");
        // They have logged in all the same.
        assert!(latency(&json, "logon").starts_with("\"count\": 4,"), "{json}");
    }
}

#[test]
fn a_password_is_never_shown() {
    let (_folder, root) = tree();
    let server = roomy(&root);
    let url = format!("ftp://someone:s3cret@127.0.0.1:{}/", server.port());
    let (out, json) = measured(&[&url, "--mix", "logon", "--sessions", "2"]);
    assert!(json.contains("\"code\": 530") && !json.contains("s3cret") && !out.contains("s3cret"), "{out}{json}");
    let (_, out, error) = load(&[&url, "--mix", "fetch", "--sessions", "2"]);
    assert!(error.contains("the server answers 530") && !error.contains("s3cret"), "{out}{error}");
}

#[test]
fn the_open_loop_keeps_its_rate() {
    let (_folder, root) = tree();
    let server = roomy(&root);
    let run = [&(server.url() + "a.txt"), "--rate", "100", "--duration", "2s", "--clients", "16"];
    let (out, json) = measured(&run);
    // 200 of a Poisson process: four standard deviations.
    let all = number(&json, "begun") + number(&json, "overdue");
    assert!((140.0..260.0).contains(&all), "{json}");
    assert!(latency(&json, "lateness").starts_with(&format!("\"count\": {},", number(&json, "begun"))), "{json}");
    assert!(out.contains("open loop at 100 sessions a second"), "{out}");
    assert!(number(&json, "rate") > 99.9, "{json}");
}

#[test]
fn the_open_loop_tells_what_a_small_pool_hides() {
    let (_folder, root) = tree();
    let server = Server::start_at(&root, "127.0.0.1:0", &["--workers", "1", "--queue", "8"]);
    // One worker takes five of these a second; twenty come.
    let flags = ["--mix", "idle", "--idle-for", "200ms", "--duration", "3s", "--clients", "2"];
    let url = server.url();
    let (out, open) = measured(&[&[url.as_str(), "--rate", "20"], &flags[..]].concat());
    assert!(number(&open, "late") > 0.0 && number(&open, "overdue") > 0.0, "{open}");
    assert!(out.contains("began more than 10 ms late") && out.contains("never began"), "{out}");
    // Their time counts from when they should have begun, not from when a client was free.
    let longest = |json: &str, key| number(&latency(json, key).replace("max", "longest"), "longest");
    assert!(longest(&open, "logon") > 700.0, "{open}");
    // Who logged in or left only because the time was up is no success: no more than a worker can do.
    assert!((1.0..=16.0).contains(&number(&open, "succeeded")), "{open}");
    let (_, closed) = measured(&[&[url.as_str()], &flags[..]].concat());
    assert!((number(&closed, "late") + number(&closed, "overdue")).abs() < 0.1, "{closed}");
    assert!(longest(&closed, "logon") < longest(&open, "logon"), "{closed}\n{open}");
}

#[test]
fn clients_that_think_pause_between_their_sessions() {
    let (_folder, root) = tree();
    let server = roomy(&root);
    let run = [&server.url(), "--mix", "logon", "--duration", "2s", "--clients", "4", "--think", "500ms"];
    let (_, json) = measured(&run);
    // Four clients twice a second for two seconds; without a pause there would be thousands.
    assert!((1.0..100.0).contains(&number(&json, "begun")), "{json}");
}

#[test]
fn an_interrupt_ends_it_early_with_what_there_is() {
    let (_folder, root) = tree();
    let server = roomy(&root);
    let mut command = Server::command();
    command.args(["load", &(server.url() + "a.txt"), "--duration", "1h", "--clients", "2"]);
    let mut run = Running::start(command);
    server.wait_for_log("a.txt sent");
    run.signal("INT");
    let (code, out) = run.end();
    assert_eq!(code, Some(0), "{out}");
    assert!(out.contains("ended early by a signal") && out.contains("logon"), "{out}");
}

/// A load that runs; it is killed on drop.
struct Running(Child);

impl Running {
    fn start(mut command: Command) -> Running {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        Running(command.spawn().expect("it starts"))
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.0.id().to_string()]).status();
        assert!(status.expect("kill runs").success());
    }

    /// Waits for its end: its exit code, and what it has written, which fits the pipe.
    fn end(&mut self) -> (Option<i32>, String) {
        let mut status = None;
        eventually("the load to end", || {
            status = self.0.try_wait().expect("our child");
            status.is_some()
        });
        let mut out = String::new();
        self.0.stdout.take().expect("piped").read_to_string(&mut out).expect("text");
        (status.expect("eventually has seen it").code(), out)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_name_that_stands_for_several_addresses_finds_the_one_that_is_served() {
    let (_folder, root) = tree();
    let mut listen = vec!["127.0.0.1:0"];
    let names = ("localhost", 0).to_socket_addrs().expect("every host has this name");
    if has_ipv6() && names.into_iter().any(|address| address.is_ipv6()) {
        listen.push("[::1]:0");
    }
    // Whichever comes first, one of the two servers is at the other.
    for listen in listen {
        let server = Server::start_at(&root, listen, &[]);
        let url = format!("ftp://localhost:{}/a.txt", server.port());
        let (_, json) = measured(&[&url, "--sessions", "3"]);
        assert!((number(&json, "succeeded") - 3.0).abs() < 0.1, "{listen}: {json}");
    }
}

#[test]
fn a_picture_is_drawn() {
    let (folder, root) = tree();
    let server = roomy(&root);
    let file = folder.path().join("out.svg");
    let name = file.to_str().expect("UTF-8");
    let (code, ..) = load(&[&(server.url() + "a.txt"), "--sessions", "50", "--plot", name]);
    assert_eq!(code, Some(0));
    let svg = std::fs::read_to_string(&file).expect("it was written");
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"), "{svg}");
    assert_eq!(svg.matches("<polyline").count(), 4, "{svg}");
    assert!(svg.contains(">percentile of the sessions<") && svg.contains(">seconds of the run<"), "{svg}");
    assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    // A run in which nothing succeeds shows what was refused.
    let (code, ..) = load(&[&(server.url() + "absent"), "--sessions", "1", "--plot", name]);
    assert_eq!(code, Some(1));
    let svg = std::fs::read_to_string(&file).expect("it was written");
    assert!(svg.ends_with("</svg>\n") && !svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    assert!(svg.contains(">refused or failed<"), "{svg}");
}

// --- Mistakes, and servers that are not there ---------------------------------------------------

#[test]
fn a_wrong_command_line_is_refused_with_2() {
    let url = "ftp://127.0.0.1:1/";
    for (arguments, word) in [
        (&[][..], "URL"),
        (&["127.0.0.1"], "URL"),
        (&["http://127.0.0.1/"], "URL"),
        (&["ftp://127.0.0.1:0/"], "URL"),
        (&["ftp://127.0.0.1/a%0d%0aDELE%20b"], "URL"),
        (&[url, "--clients", "0"], "--clients"),
        (&[url, "--clients", "5000"], "--clients"),
        (&[url, "--mix", "fetch,sleep"], "--mix"),
        (&[url, "--rate", "fast"], "--rate"),
        (&[url, "--duration", "0"], "--duration"),
        (&[url, "--memory-limit", "64M"], "--memory-limit"),
        (&[url, "--find-pool"], "URL"),
        (&["--find-pool", "--mix", "upload"], "--mix"),
        (&[url, "--json", "a", "--plot", "a"], "--plot"),
        (&[url, "--workers", "3"], "--workers"),
        (&[url, "another"], "another"),
    ] {
        refused(arguments, 2, &[word]);
    }
}

#[test]
fn a_public_address_is_refused_unless_it_is_owned() {
    for host in ["203.0.113.7", "[::ffff:203.0.113.7]", "[2001:db8::1]", "0.0.0.0"] {
        refused(&[&format!("ftp://{host}:1/"), "--mix", "logon"], 2, &["URL", "--i-own-this-server"]);
    }
    // On Linux this one is the host itself, so it can be tried.
    let (_folder, root) = tree();
    let server = roomy(&root);
    let url = format!("ftp://0.0.0.0:{}/", server.port());
    let run = [url.as_str(), "--mix", "logon", "--sessions", "2"];
    refused(&run, 2, &["--i-own-this-server"]);
    let (_, json) = measured(&[&run[..], &["--i-own-this-server"]].concat());
    assert!((number(&json, "succeeded") - 2.0).abs() < 0.1, "{json}");
    // An address of IPv4 may be written as IPv6.
    let mapped = format!("ftp://[::ffff:127.0.0.1]:{}/", server.port());
    let (_, json) = measured(&[&mapped, "--mix", "logon", "--sessions", "2"]);
    assert!((number(&json, "succeeded") - 2.0).abs() < 0.1, "{json}");
}

#[test]
fn a_server_that_is_not_there_is_refused_with_1_at_once() {
    // Nobody listens there, and nobody else can.
    let holder = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    holder.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a port");
    let port = holder.local_addr().expect("bound").as_socket().expect("an address").port();
    let url = format!("ftp://127.0.0.1:{port}/");
    let begun = Instant::now();
    refused(&[&url, "--mix", "logon", "--duration", "1h"], 1, &["URL", "connection refused"]);
    refused(&[&url, "--duration", "1h"], 1, &["URL", "connection refused"]);
    refused(&["ftp://no..where/", "--duration", "1h"], 1, &["URL", "does not resolve"]);
    assert!(begun.elapsed() < PATIENCE);
}

#[test]
fn files_that_can_not_be_written_are_told_before_the_run() {
    let (_folder, root) = tree();
    let server = roomy(&root);
    for flag in ["--json", "--plot"] {
        refused(&[&server.url(), flag, "/nonexistent/out", "--duration", "1h"], 1, &[flag, "/nonexistent/out"]);
    }
}

#[test]
fn a_run_without_a_result_leaves_files_as_they_were() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (old, new) = (folder.path().join("old.json"), folder.path().join("new.svg"));
    std::fs::write(&old, "an earlier result").expect("a file");
    let (json, plot) = (old.to_str().expect("UTF-8"), new.to_str().expect("UTF-8"));
    refused(&["ftp://127.0.0.1:1/", "--json", json, "--plot", plot], 1, &["connection refused"]);
    assert_eq!(std::fs::read_to_string(&old).expect("it is there"), "an earlier result");
    assert!(!new.exists());
}

#[test]
fn an_interrupt_ends_it_before_the_first_session_as_well() {
    // It takes connections and says nothing.
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let url = format!("ftp://{}/", silent.local_addr().expect("bound"));
    let mut command = Server::command();
    // The files are listed first, and that may take an hour.
    command.args(["load", &url, "--timeout", "1h", "--duration", "1h"]);
    let mut run = Running::start(command);
    let _held = silent.accept().expect("it comes");
    run.signal("INT");
    let (code, out) = run.end();
    assert_eq!((code, out.as_str()), (Some(1), ""));
}

#[test]
fn an_interrupt_lets_uploads_be_taken_away() {
    let (url, seen) = Fake::start(Fake::proper_upload);
    let mut command = Server::command();
    command.args(["load", &url, "--mix", "upload", "--upload-size", "1", "--duration", "1h", "--clients", "3"]);
    let mut run = Running::start(command);
    let count = |verb: &str| seen.lock().expect("nobody panics").iter().filter(|c| c.starts_with(verb)).count();
    eventually("uploads", || count("STOR") > 6);
    run.signal("INT");
    let (code, out) = run.end();
    assert_eq!(code, Some(0), "{out}");
    assert!(out.contains("ended early by a signal") && !out.contains("not finished"), "{out}");
    assert_eq!(count("STOR"), count("DELE"), "{out}");
}

#[test]
fn too_few_descriptors_are_refused_by_the_name_of_the_flag() {
    let run = |limits: &str| {
        let mut command = Command::new("sh");
        let program = env!("CARGO_BIN_EXE_plimsoll");
        command.args(["-c", &format!("{limits}; exec {program} load ftp://127.0.0.1:1/ --mix logon --clients 200")]);
        outcome(command)
    };
    let (code, _, error) = run("ulimit -Sn 200; ulimit -Hn 256");
    assert!(
        code == Some(1) && error.contains("--clients") && error.contains("432") && error.contains("256"),
        "{error}"
    );
    // The soft limit is raised.
    let (_, _, error) = run("ulimit -Sn 256");
    assert!(error.contains("can't be reached"), "{error}");
}

// --- Against servers that answer as they should not ---------------------------------------------

/// What a fake server answers: nothing ends the connection.
type Answer = fn(&mut Fake, &str) -> Option<String>;

/// One connection of a server that says what a test wants.
struct Fake {
    passive: Option<TcpListener>,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    /// Starts the server; returns its URL and the commands that it has seen.
    fn start(answer: Answer) -> (String, Arc<Mutex<Vec<String>>>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("bound");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&seen);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let fake = Fake { passive: None, seen: Arc::clone(&kept) };
                std::thread::spawn(move || fake.serve(stream, answer));
            }
        });
        (format!("ftp://{address}/"), seen)
    }

    fn serve(mut self, mut stream: TcpStream, answer: Answer) -> Option<()> {
        let mut lines = BufReader::new(stream.try_clone().ok()?).lines();
        let mut command = String::new();
        loop {
            let reply = answer(&mut self, &command)?;
            stream.write_all(reply.as_bytes()).ok()?;
            if command == "QUIT" {
                return None;
            }
            command = lines.next()?.ok()?;
            self.seen.lock().expect("nobody panics").push(command.clone());
        }
    }

    /// A server that is as it should be.
    fn proper(&mut self, command: &str) -> Option<String> {
        let reply = match command.split(' ').next().unwrap_or_default() {
            "" => "220-several\r\n221 lines\r\n220 ready\r\n",
            "USER" => "331 and?\r\n",
            "PASS" => "230 in\r\n",
            "TYPE" => "200 so be it\r\n",
            "DELE" => "250 gone\r\n",
            "QUIT" => "221 bye\r\n",
            "EPSV" => return Some(format!("229 (|||{}|)\r\n", self.listen().port())),
            "STOR" => {
                let mut bytes = Vec::new();
                self.passive.take()?.accept().ok()?.0.read_to_end(&mut bytes).ok()?;
                return Some(format!("150 go\r\n226 {} bytes\r\n", bytes.len()));
            }
            "RETR" => {
                self.passive.take()?.accept().ok()?.0.write_all(b"data").ok()?;
                "150 go\r\n226 gone\r\n"
            }
            _ => "502 what?\r\n",
        };
        Some(reply.to_owned())
    }

    /// Begins a transfer, resets its data connection, and says this of it.
    fn break_off(&mut self, said: &str) -> Option<String> {
        let (data, _) = self.passive.take()?.accept().ok()?;
        SockRef::from(&data).set_linger(Some(Duration::ZERO)).ok()?;
        Some(format!("150 go\r\n{said}"))
    }

    fn listen(&mut self) -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("bound");
        self.passive = Some(listener);
        address
    }
}

#[test]
fn each_client_uploads_under_a_name_of_its_own_and_takes_it_away() {
    let (url, seen) = Fake::start(Fake::proper_upload);
    let run =
        [&(url.clone() + "in/x"), "--mix", "upload", "--upload-size", "100K", "--sessions", "6", "--clients", "2"];
    let (_, json) = measured(&run);
    assert!((number(&json, "succeeded") - 6.0).abs() < 0.1, "{json}");
    assert!(
        (number(&json, "sent_bytes") - 6.0 * 102_400.0).abs() < 0.1 && number(&json, "left_behind") < 0.1,
        "{json}"
    );
    let names = |verb: &str| {
        let seen = seen.lock().expect("nobody panics");
        let mut names: Vec<_> = seen.iter().filter_map(|c| c.strip_prefix(verb)).map(str::to_owned).collect();
        names.sort();
        names
    };
    let stored = names("STOR ");
    assert_eq!(stored, names("DELE "));
    assert!(stored.iter().all(|name| name.starts_with("in/plimsoll-load-")), "{stored:?}");
    // A name for each client, not for each session: what could not be taken away is bounded.
    let distinct = |names: &[String]| names.iter().cloned().collect::<std::collections::BTreeSet<_>>();
    let first = distinct(&stored);
    assert!(stored.len() == 6 && (1..=2).contains(&first.len()), "{stored:?}");
    // Another run has others.
    measured(&run);
    let all = distinct(&names("STOR "));
    assert!(all.len() > first.len() && all.is_superset(&first), "{all:?}");
}

#[test]
fn what_a_server_says_when_it_breaks_a_transfer_off_is_what_is_told() {
    let (folder, root) = tree();
    let server = serve(&root, &accounts(folder.path(), &[("bob", "write=all,quota=64K")]), &[]);
    let url = server.url().replace("ftp://", &format!("ftp://bob:{PASSWORD}@"));
    // More than is on its way when the server has had enough.
    let run = [&url, "--mix", "upload", "--upload-size", "64M", "--sessions", "4", "--clients", "2"];
    let (out, json) = measured(&run);
    assert!(json.contains("\"refusals\": [{\"code\": 552, \"to\": \"STOR\", \"count\": 4}]"), "{json}");
    assert!(json.contains("\"failures\": {}") && number(&json, "left_behind") < 0.1, "{json}");
    assert!(!out.contains("could not be deleted"), "{out}");
    // A reset and a reason, in the middle of a file.
    let (url, _) = Fake::start(|fake, command| match command {
        c if c.starts_with("RETR") => fake.break_off("451 the disk is broken\r\n"),
        c => fake.proper(c),
    });
    let (_, json) = measured(&[&(url + "a"), "--sessions", "3", "--clients", "1"]);
    assert!(json.contains("\"refusals\": [{\"code\": 451, \"to\": \"RETR\", \"count\": 3}]"), "{json}");
}

#[test]
fn what_broke_on_its_way_is_broken_whatever_the_server_says_and_is_taken_away() {
    let (url, seen) = Fake::start(|fake, command| match command {
        c if c.starts_with("STOR") => fake.break_off("226 all of it\r\n"),
        c => fake.proper(c),
    });
    let run = ["--mix", "upload", "--upload-size", "64M", "--sessions", "3", "--clients", "1"];
    let (_, json) = measured(&[&[url.as_str()][..], &run].concat());
    assert!(json.contains("\"failures\": {\"data connection broken\": 3}"), "{json}");
    assert!(number(&json, "left_behind") < 0.1, "{json}");
    let deleted = seen.lock().expect("nobody panics").iter().filter(|command| command.starts_with("DELE")).count();
    assert_eq!(deleted, 3);
    // One that says nothing is not waited for as long as a server may take to answer.
    let (url, _) = Fake::start(|fake, command| match command {
        c if c.starts_with("STOR") => fake.break_off(""),
        c => fake.proper(c),
    });
    let begun = Instant::now();
    let (_, json) = measured(&[&[url.as_str()][..], &run, &["--timeout", "1h"]].concat());
    assert!(json.contains("\"failures\": {\"data connection broken\": 3}"), "{json}");
    assert!(begun.elapsed() < PATIENCE);
}

#[test]
fn a_listing_without_an_end_is_read_as_far_as_it_is_of_use() {
    let (url, seen) = Fake::start(|fake, command| match command {
        c if c.starts_with("MLSD") => {
            let listener = fake.passive.take()?;
            std::thread::spawn(move || {
                let lines = b"type=file; a\r\n".repeat(4096);
                let mut data = listener.accept().map(|(data, _)| data)?;
                loop {
                    data.write_all(&lines)?;
                }
                #[expect(unreachable_code, reason = "the type of the closure")]
                std::io::Result::Ok(())
            });
            Some("150 go\r\n426 enough\r\n".to_owned())
        }
        c => fake.proper(c),
    });
    let (_, json) = measured(&[&url, "--sessions", "2", "--clients", "1"]);
    assert!((number(&json, "succeeded") - 2.0).abs() < 0.1, "{json}");
    assert!(seen.lock().expect("nobody panics").contains(&"RETR a".to_owned()));
}

#[test]
fn a_search_that_ends_before_its_first_session_leaves_files_as_they_were() {
    let (folder, root) = tree();
    let file = folder.path().join("out.json");
    for wait in [10, 20, 40, 80] {
        std::fs::write(&file, "an earlier result").expect("a file");
        let mut command = Server::command();
        command.args(["load", "--find-pool", root.to_str().expect("UTF-8"), "--clients", "400"]);
        command.args(["--memory-limit", "40M", "--json", file.to_str().expect("UTF-8")]);
        let mut run = Running::start(command);
        // Whatever it is at by then.
        std::thread::sleep(Duration::from_millis(wait));
        run.signal("INT");
        run.end();
        let text = std::fs::read_to_string(&file).expect("it is there");
        assert!(text == "an earlier result" || text.contains("\"begun\": "), "after {wait} ms: {text}");
    }
}

#[test]
fn what_can_not_be_printed_is_in_the_files() {
    let (folder, root) = tree();
    let server = roomy(&root);
    let file = folder.path().join("out.json");
    let mut command = Server::command();
    command.args(["load", &(server.url() + "a.txt"), "--sessions", "2", "--json", file.to_str().expect("UTF-8")]);
    let full = std::fs::File::options().write(true).open("/dev/full").expect("Linux has it");
    let output = command.stdin(Stdio::null()).stdout(full).stderr(Stdio::piped()).output().expect("it runs");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && error.contains("standard output can't be written"), "{error}");
    let json = std::fs::read_to_string(file).expect("it was written");
    assert!((number(&json, "succeeded") - 2.0).abs() < 0.1, "{json}");
}

#[test]
fn what_a_server_took_before_it_refused_an_upload_is_taken_away() {
    let (url, seen) = Fake::start(|fake, command| match command {
        c if c.starts_with("STOR") => fake.proper_upload(c).map(|reply| reply.replace("226", "552")),
        c if c.starts_with("DELE") => Some("550 there is none\r\n".to_owned()),
        c => fake.proper(c),
    });
    let (_, json) = measured(&[&url, "--mix", "upload", "--sessions", "3", "--clients", "1"]);
    assert!(json.contains("\"refusals\": [{\"code\": 552, \"to\": \"STOR\", \"count\": 3}]"), "{json}");
    // It says that there is none, so none is left.
    assert!(number(&json, "left_behind") < 0.1, "{json}");
    let seen = seen.lock().expect("nobody panics");
    assert_eq!(seen.iter().filter(|command| command.starts_with("DELE")).count(), 3, "{seen:?}");
}

impl Fake {
    /// The same, with the reply that begins a transfer where it belongs.
    fn proper_upload(&mut self, command: &str) -> Option<String> {
        if command.starts_with("STOR") {
            let listener = self.passive.take()?;
            std::thread::spawn(move || {
                let mut bytes = Vec::new();
                let _ = listener.accept().map(|(mut data, _)| data.read_to_end(&mut bytes));
            });
            return Some("150 go\r\n226 got it\r\n".to_owned());
        }
        self.proper(command)
    }
}

#[test]
fn uploads_that_can_not_be_deleted_are_counted() {
    let (url, _) = Fake::start(|fake, command| match command {
        c if c.starts_with("DELE") => Some("550 no\r\n".to_owned()),
        c => fake.proper_upload(c),
    });
    let (out, json) = measured(&[&url, "--mix", "upload", "--upload-size", "1", "--sessions", "3"]);
    assert!(
        (number(&json, "succeeded") - 3.0).abs() < 0.1 && (number(&json, "left_behind") - 3.0).abs() < 0.1,
        "{json}"
    );
    assert!(out.contains("3  uploads could not be deleted: plimsoll-load-* is left on the server"), "{out}");
}

#[test]
fn a_server_without_epsv_is_asked_by_pasv_and_its_address_is_not_used() {
    let (url, seen) = Fake::start(|fake, command| match command {
        "EPSV" => Some("500 what?\r\n".to_owned()),
        "PASV" => {
            let [high, low] = fake.listen().port().to_be_bytes();
            // Who went there would find nobody.
            Some(format!("227 Entering Passive Mode (203,0,113,1,{high},{low}).\r\n"))
        }
        c => fake.proper(c),
    });
    let (_, json) = measured(&[&(url + "a"), "--sessions", "4", "--clients", "1", "--timeout", "5s"]);
    assert!((number(&json, "succeeded") - 4.0).abs() < 0.1, "{json}");
    assert!((number(&json, "received_bytes") - 16.0).abs() < 0.1, "{json}");
    let seen = seen.lock().expect("nobody panics");
    let count = |command: &str| seen.iter().filter(|c| *c == command).count();
    assert_eq!((count("EPSV"), count("PASV")), (1, 4), "it is asked once");
}

#[test]
fn a_server_without_mlsd_is_asked_for_names() {
    let (url, seen) = Fake::start(|fake, command| match command {
        "NLST in/" => {
            let listener = fake.passive.take()?;
            listener.accept().ok()?.0.write_all(b"one\r\nin/two\r\n\x07bell\r\nfolder\r\nhalf").ok()?;
            Some("150 go\r\n226 gone\r\n".to_owned())
        }
        // It has no size, and is no file.
        "SIZE in/folder" => Some("550 no\r\n".to_owned()),
        c => fake.proper(c),
    });
    let (_, json) = measured(&[&(url + "in/"), "--sessions", "4", "--clients", "1"]);
    assert!((number(&json, "succeeded") - 4.0).abs() < 0.1, "{json}");
    let seen = seen.lock().expect("nobody panics");
    let fetched: Vec<_> = seen.iter().filter(|command| command.starts_with("RETR")).collect();
    assert_eq!(fetched, ["RETR in/one", "RETR in/two", "RETR in/one", "RETR in/two"]);
}

#[test]
fn whatever_a_server_sends_ends_in_time_and_has_a_name() {
    let cases: [(Answer, &str); 12] = [
        (|_, _| Some(String::new()), "timeout"),
        (|_, _| None, "closed without a reply"),
        (|_, _| Some("220 ready\n".to_owned()), "malformed reply"),
        (|_, _| Some("hello\r\n".to_owned()), "malformed reply"),
        (|_, _| Some("999 x\r\n".to_owned()), "malformed reply"),
        (|_, _| Some("2".repeat(100_000)), "malformed reply"),
        (|_, _| Some("220-more\r\n".to_owned() + &" more\r\n".repeat(5000)), "malformed reply"),
        (|_, _| Some("120 wait\r\n".repeat(100)), "malformed reply"),
        (|fake, c| if c == "EPSV" { Some("229 (|||0|)\r\n".into()) } else { fake.proper(c) }, "malformed reply"),
        (|fake, c| if c == "EPSV" { Some("229 (|||1|)\r\n".into()) } else { fake.proper(c) }, "no data connection"),
        (
            // A data connection that is never closed.
            |fake, c| match c {
                c if c.starts_with("RETR") => {
                    let listener = fake.passive.take()?;
                    std::thread::spawn(move || {
                        let held = listener.accept();
                        std::thread::sleep(PATIENCE);
                        drop(held);
                    });
                    Some("150 go\r\n".into())
                }
                c => fake.proper(c),
            },
            "timeout",
        ),
        (|fake, c| if c.starts_with("RETR") { None } else { fake.proper(c) }, "closed without a reply"),
    ];
    for (number_of, (answer, name)) in cases.into_iter().enumerate() {
        let (url, _) = Fake::start(answer);
        let begun = Instant::now();
        let timeout = if name == "timeout" { "500ms" } else { "20s" };
        let (_, json) = measured(&[&(url + "a"), "--sessions", "3", "--clients", "3", "--timeout", timeout]);
        assert!(begun.elapsed() < PATIENCE, "case {number_of}");
        assert!(json.contains(&format!("\"failures\": {{\"{name}\": 3}}")), "case {number_of}: {name} in {json}");
    }
}

#[test]
fn a_server_that_says_goodbye_to_an_idle_client_is_heard() {
    let (url, _) = Fake::start(|fake, command| match command {
        c if c.starts_with("PASS") => Some("230 in\r\n421 out\r\n".to_owned()),
        c => fake.proper(c),
    });
    let (_, json) = measured(&[&url, "--mix", "idle", "--idle-for", "1h", "--sessions", "2"]);
    assert!(json.contains("\"refusals\": [{\"code\": 421, \"to\": \"idle\", \"count\": 2}]"), "{json}");
}

#[test]
fn an_idle_session_that_the_end_cuts_short_is_told_and_is_no_success() {
    let (_folder, root) = tree();
    let server = roomy(&root);
    let run = [&server.url(), "--mix", "idle", "--idle-for", "1h", "--duration", "2s", "--clients", "3"];
    let (out, json) = measured(&run);
    for (key, count) in [("begun", 3.0), ("succeeded", 0.0), ("cut", 3.0), ("unfinished", 0.0), ("kept_waiting", 0.0)] {
        assert!((number(&json, key) - count).abs() < 0.1, "{key}: {json}");
    }
    assert!(latency(&json, "logon").starts_with("\"count\": 3,"), "{json}");
    assert!(latency(&json, "session").starts_with("\"count\": 0,"), "{json}");
    assert!(out.contains("0 succeeded, 0 refused, 0 failed, 3 cut short"), "{out}");
    assert!(out.contains("         3  were idle when the time was up"), "{out}");
    // Whose time is up a moment before that of the run was there for all of it, the next one was not.
    let run = [&server.url(), "--mix", "idle", "--idle-for", "700ms", "--duration", "1400ms", "--clients", "3"];
    let (_, json) = measured(&run);
    assert!((number(&json, "succeeded") - 3.0).abs() < 0.1 && (number(&json, "cut") - 3.0).abs() < 0.1, "{json}");
}

#[test]
fn one_file_for_both_is_refused_however_it_is_spelled() {
    let (folder, root) = tree();
    let server = roomy(&root);
    let file = folder.path().join("both");
    let other = folder.path().join("./both");
    let [file, other] = [&file, &other].map(|path| path.to_str().expect("UTF-8"));
    refused(&[&server.url(), "--mix", "logon", "--json", file, "--plot", other], 2, &["--plot", "--json"]);
    assert!(!folder.path().join("both").exists());
}

#[test]
fn an_upload_in_the_way_of_the_next_is_told_from_uploads_that_are_not_allowed() {
    static STORED: AtomicBool = AtomicBool::new(false);
    let (url, _) = Fake::start(|fake, command| match command {
        c if c.starts_with("DELE") => Some("550 no\r\n".to_owned()),
        c if c.starts_with("STOR") && STORED.swap(true, SeqCst) => Some("550 it is there\r\n".to_owned()),
        c => fake.proper_upload(c),
    });
    let run = [&url, "--mix", "upload", "--upload-size", "1", "--sessions", "4", "--clients", "1"];
    let (out, json) = measured(&run);
    assert!((number(&json, "succeeded") - 1.0).abs() < 0.1, "{json}");
    assert!(out.contains("         3  refused with 550 to STOR: a client's earlier upload can't be deleted"), "{out}");
}

// --- Finding a pool -----------------------------------------------------------------------------

#[test]
fn a_pool_is_found_and_told_in_a_line_to_copy() {
    let (folder, root) = tree();
    let root = root.to_str().expect("UTF-8");
    let plot = folder.path().join("knee.svg");
    // Each client is at the prompt nearly all of the time, so there have to be about as many workers.
    let run = [
        "--find-pool",
        root,
        "--clients",
        "8",
        "--mix",
        "idle",
        "--idle-for",
        "200ms",
        "--duration",
        "1s",
        "--plot",
        plot.to_str().expect("UTF-8"),
    ];
    let (out, json) = measured(&run);
    let (_, recommended) = json.split_once("\"recommended\": {").expect("an object");
    let workers = number(recommended, "workers");
    assert!((3.0..=8.0).contains(&workers), "{out}");
    let queue = number(recommended, "queue");
    assert_eq!(out.lines().last(), Some(format!("plimsoll serve {root} --workers {workers} --queue {queue}").as_str()));
    assert!(json.contains("\"held\": true"), "{json}");
    assert_told(&json);
    for size in ["1", "2", "4", "8"] {
        assert!(out.lines().any(|line| line.trim_start().starts_with(&format!("{size} "))), "{size} in {out}");
    }
    let svg = std::fs::read_to_string(plot).expect("it was written");
    assert!(svg.contains("recommended: ") && svg.matches("<polyline").count() == 5, "{svg}");
}

#[test]
fn the_memory_limit_bounds_the_pools() {
    let (_folder, root) = tree();
    let root = root.to_str().expect("UTF-8");
    let run =
        ["--find-pool", root, "--clients", "64", "--mix", "logon", "--duration", "200ms", "--memory-limit", "24M"];
    let (out, json) = measured(&run);
    let most = number(&json, "most_workers");
    assert!((1.0..64.0).contains(&most), "{json}");
    for part in json.split("\"worst_case_mib\": ").skip(1) {
        let mib: u64 = part.split(',').next().and_then(|number| number.parse().ok()).expect("a number");
        assert!(mib <= 24, "{out}");
    }
    // A queue for everybody does not fit here, but a shorter one does.
    let run =
        ["--find-pool", root, "--clients", "400", "--mix", "logon", "--duration", "200ms", "--memory-limit", "24M"];
    let (out, _) = measured(&run);
    assert!(out.contains("plimsoll serve "), "{out}");
    let none = ["--find-pool", root, "--memory-limit", "1M"];
    refused(&none, 1, &["--memory-limit: of the smallest pool"]);
    refused(&["--find-pool", "/nonexistent"], 1, &["FOLDER", "/nonexistent", "does not exist"]);
}

#[test]
fn a_pool_in_which_clients_wait_until_others_leave_does_not_hold_them() {
    let (_folder, root) = tree();
    let root = root.to_str().expect("UTF-8");
    // Nobody leaves before the time is up, so there has to be a worker for each.
    let run = ["--find-pool", root, "--clients", "6", "--mix", "idle", "--idle-for", "1h", "--duration", "1500ms"];
    let (out, json) = measured(&run);
    let (_, recommended) = json.split_once("\"recommended\": {").expect("an object");
    assert!((number(recommended, "workers") - 6.0).abs() < 0.1, "{out}");
    assert!(json.contains("\"workers\": 1,") && json.contains("\"kept_waiting\": 5,"), "{json}");
    assert!(out.contains("pools were seen filling: raise --duration to "), "{out}");
}

#[test]
fn a_pool_that_is_too_small_for_all_who_stay_is_not_said_to_hold_them() {
    let (_folder, root) = tree();
    let root = root.to_str().expect("UTF-8");
    // Nobody is turned away, and most wait at the door until the time is up.
    let run = ["--find-pool", root, "--clients", "24", "--mix", "idle", "--idle-for", "1h", "--duration", "1500ms"];
    let (out, json) = measured(&[&run[..], &["--memory-limit", "15M"]].concat());
    assert!(number(&json, "most_workers") < 24.0 && json.contains("\"held\": false"), "{out}");
    // Which of them is the least bad is chance: all turn some out for others.
    assert!(out.contains("not held: ") && out.contains("did not succeed, and more workers do not"), "{out}");
}

#[test]
fn clients_that_are_too_few_for_the_rate_are_told_of() {
    let (_folder, root) = tree();
    let root = root.to_str().expect("UTF-8");
    let run = ["--find-pool", root, "--rate", "100", "--clients", "2", "--mix", "idle", "--idle-for", "200ms"];
    let (out, _) = measured(&[&run[..], &["--duration", "700ms"]].concat());
    assert!(out.contains("--clients 2 are too few"), "{out}");
    assert!(out.contains("what more workers would do is not known") && !out.contains("do not help"), "{out}");
}

/// Processes that are servers of this load.
fn children(parent: u32) -> Vec<u32> {
    let wanted = format!("PLIMSOLL_LOAD_PARENT={parent}");
    let processes = std::fs::read_dir("/proc").expect("/proc").flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes())
    })
    .collect()
}

#[test]
fn there_is_one_server_at_a_time() {
    let (_folder, root) = tree();
    let mut command = Server::command();
    command.args(["load", "--find-pool"]).arg(&root).args(["--duration", "200ms", "--mix", "logon", "--clients", "4"]);
    let mut search = Running::start(command);
    let mut most = 0;
    let begun = Instant::now();
    while search.0.try_wait().expect("our child").is_none() {
        most = most.max(children(search.0.id()).len());
        assert!(begun.elapsed() < PATIENCE, "the search does not end");
    }
    assert_eq!(most, 1);
}

#[test]
fn servers_end_with_the_search_however_it_ends() {
    let (_folder, root) = tree();
    for signal in ["INT", "TERM", "KILL"] {
        let mut command = Server::command();
        command.args(["load", "--find-pool"]).arg(&root).args(["--duration", "1h", "--mix", "logon"]);
        let mut search = Running::start(command);
        let pid = search.0.id();
        eventually("a server to be started", || !children(pid).is_empty());
        search.signal(signal);
        let (code, out) = search.end();
        // The first of them are there to see what fits.
        let too_soon = code == Some(1) && out.is_empty();
        assert!(signal == "KILL" || too_soon || out.contains("ended early by a signal"), "{signal}: {out}");
        eventually("its servers to end", || children(pid).is_empty());
    }
}
