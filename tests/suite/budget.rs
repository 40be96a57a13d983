//! What a logon and a download cost in system calls, counted by strace(1): nobody is to add one unseen.

use crate::server::{Client, PATIENCE, Server, eventually, tree};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Calls that come by chance: how often depends on the time that has passed, and on what the host does.
const CHANCE: [&str; 3] = ["clock_nanosleep", "restart_syscall", "sched_yield"];

/// Most futex(2) calls for each logon or download: two, to wake a worker and to sleep, and as many again by chance,
/// where two threads meet.
const WAKES: u64 = 4;

/// How often the work is done in a round.
const TIMES: u64 = 20;

/// System calls of one logon: wait, accept; the greeting; three commands and their replies; one question
/// whether all was taken; close.
const LOGON: u64 = 11;

/// System calls of a download beside those of its logon. TYPE and its reply: 2. EPSV: 9, of which one asks
/// for the address, one for a random number, five make the listener. The connection at the prompt: 3, with
/// the listener's end. RETR: 5, with 150 and all the bytes. The end: 7, with FIN, the client's, and 226.
const DOWNLOAD: u64 = 26;

/// Starts the server under strace(1), or says why not.
fn traced(root: &Path, trace: &Path) -> Option<Server> {
    if Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).status().is_ok_and(|status| status.success()) {
        let mut command = Command::new("strace");
        // The server is the child, so it goes with the test, and strace with it.
        command.args(["-D", "-f", "-qq", "-o"]).arg(trace).arg(Server::command().get_program());
        command.arg("serve").arg(root).args([
            "--listen",
            "127.0.0.1:0",
            "--workers",
            "4",
            "--log",
            "off",
            "--max-per-ip",
            "off",
        ]);
        return Some(Server::run(command));
    }
    assert!(std::env::var("PLIMSOLL_REQUIRE_TOOLS").as_deref() != Ok("1"), "strace(1) can't be used");
    eprintln!("skipped: strace(1) is not there, or may not be used");
    None
}

fn logon(server: &Server) {
    let mut client = Client::connect(server.v4());
    client.expect("USER ftp", "331 ");
    client.expect("PASS a@b", "230 ");
    client.expect("QUIT", "221 ");
    client.expect_end();
}

fn download(server: &Server) {
    let mut client = Client::connect(server.v4());
    client.expect("USER ftp", "331 ");
    client.expect("PASS a@b", "230 ");
    client.expect("TYPE I", "200 ");
    assert!(!client.fetch("RETR a.txt").is_empty());
    client.expect("QUIT", "221 ");
    client.expect_end();
}

/// How often each call came so far.
fn counted(trace: &Path) -> BTreeMap<String, u64> {
    let text = std::fs::read_to_string(trace).expect("strace writes");
    let mut calls = BTreeMap::new();
    for line in text.lines() {
        // A call that was interrupted by another thread's stands on two lines, of which the first counts.
        let name = line.split_once(' ').and_then(|(_, rest)| rest.trim_start().split_once('(')).map(|(name, _)| name);
        if let Some(name) = name.filter(|name| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')) {
            *calls.entry(name.to_owned()).or_default() += 1;
        }
    }
    calls
}

/// Calls for each time that `work` is done, by the mean of a round, in the first round that is within the budget:
/// a host that is busy makes a thread wait where it would not have had to. A call that was added is in every round.
fn cost(server: &Server, trace: &Path, budget: u64, work: impl Fn(&Server)) -> (u64, BTreeMap<String, u64>) {
    work(server);
    let until = Instant::now() + PATIENCE;
    loop {
        let before = settled(trace);
        (0..TIMES).for_each(|_| work(server));
        let mut calls = settled(trace);
        for (name, count) in &mut calls {
            *count -= before.get(name).unwrap_or(&0);
        }
        if cfg!(debug_assertions) {
            // It is asked of each descriptor that is closed whether it is open.
            let closed = calls.get("close").copied().unwrap_or(0);
            calls.entry("fcntl".to_owned()).and_modify(|count| *count = count.saturating_sub(closed));
        }
        calls.retain(|_, count| *count > 0);
        let wakes = calls.remove("futex").unwrap_or(0);
        let each = calls.values().sum::<u64>().div_ceil(TIMES);
        if each <= budget && wakes <= WAKES * TIMES {
            return (each, calls);
        }
        assert!(
            Instant::now() < until,
            "{each} calls each time instead of {budget}: {calls:?}; {wakes} of futex in all"
        );
    }
}

/// What was counted once the server is at rest.
fn settled(trace: &Path) -> BTreeMap<String, u64> {
    let counted = || {
        let mut calls = counted(trace);
        calls.retain(|name, _| !CHANCE.contains(&name.as_str()));
        calls
    };
    let mut last = counted();
    eventually("the server to be at rest", || {
        std::thread::sleep(Duration::from_millis(50));
        let before = std::mem::replace(&mut last, counted());
        before == last
    });
    last
}

#[test]
fn a_logon_and_a_download_stay_within_their_system_calls() {
    let (folder, root) = tree();
    let trace = folder.path().join("trace");
    let Some(server) = traced(&root, &trace) else { return };
    let (calls, what) = cost(&server, &trace, LOGON, logon);
    println!("a logon: {calls} system calls, in {what:?}");
    assert!(calls + 3 >= LOGON, "{calls} for a logon: the budget can be lowered");
    let (calls, what) = cost(&server, &trace, LOGON + DOWNLOAD, download);
    println!("a download: {calls} system calls, its logon included, in {what:?}");
    assert!(calls + 5 >= LOGON + DOWNLOAD, "{calls} for a download: the budget can be lowered");
}

/// While a worker wakes, the client is not to wait for its greeting.
#[test]
fn whoever_finds_a_free_worker_is_greeted_by_the_thread_that_accepts() {
    let (folder, root) = tree();
    let trace = folder.path().join("trace");
    let Some(server) = traced(&root, &trace) else { return };
    (0..5).for_each(|_| {
        // All workers sleep.
        settled(&trace);
        logon(&server);
    });
    settled(&trace);
    let text = std::fs::read_to_string(&trace).expect("strace writes");
    let threads = |of: &str| -> Vec<&str> {
        text.lines().filter(|line| line.contains(of)).filter_map(|line| line.split(' ').next()).collect()
    };
    let (accepts, greets) = (threads("accept4("), threads("\"220 "));
    assert!(greets.len() == 5 && greets.iter().all(|thread| accepts.contains(thread)), "{accepts:?}, {greets:?}");
    let answers = threads("\"331 ");
    assert!(answers.len() == 5 && !answers.iter().any(|thread| accepts.contains(thread)), "{accepts:?}, {answers:?}");
}

#[test]
fn every_thread_waits_for_a_processor_that_is_free() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &[]);
    let policy = |stat: &str| stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(38)?.parse().ok());
    let own: Option<u32> = policy(&std::fs::read_to_string("/proc/self/stat").expect("it is us"));
    // One who was started with another policy keeps it.
    let expected = if own == Some(0) { Some(3) } else { own };
    let tasks = std::fs::read_dir(format!("/proc/{}/task", server.pid())).expect("it runs");
    let policies: Vec<Option<u32>> = tasks
        .map(|task| policy(&std::fs::read_to_string(task.expect("a thread").path().join("stat")).expect("it is there")))
        .collect();
    assert!(policies.len() > 16 && policies.iter().all(|policy| *policy == expected), "{policies:?}");
}

/// Most user memory of 256 workers at rest, and what each session adds that has logged in and says nothing, in KiB.
/// Stacks are deeper where nothing is optimised.
const AT_REST: u64 = if cfg!(debug_assertions) { 8 } else { 6 } * 1024;
const IDLE: u64 = if cfg!(debug_assertions) { 20 } else { 12 };

/// Sessions of which the mean is taken.
const SESSIONS: u64 = 100;

/// Waits until every thread has begun and waits for something: until then it has not touched its memory.
fn all_wait(server: &Server) {
    eventually("every thread to wait", || {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", server.pid())).expect("it runs");
        tasks.filter_map(Result::ok).all(|task| {
            let status = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
            status.lines().any(|line| line.starts_with("voluntary_ctxt_switches:") && !line.ends_with("\t0"))
        })
    });
}

#[test]
fn a_pool_at_rest_and_sessions_that_idle_take_little_memory() {
    let (_folder, root) = tree();
    let flags = ["--workers", "256", "--max-per-ip", "off", "--log", "off"];
    let server = Server::start_at(&root, "127.0.0.1:0", &flags);
    all_wait(&server);
    let rest = server.memory() / 1024;
    let _idle: Vec<Client> = (0..SESSIONS).map(|_| server.login()).collect();
    let each = (server.memory() / 1024).saturating_sub(rest) as f64 / SESSIONS as f64;
    println!("at rest {rest} KiB, each idle session {each:.1} KiB");
    assert!(rest <= AT_REST, "{rest} KiB at rest");
    assert!(each <= IDLE as f64, "{each:.1} KiB for each idle session");
}
