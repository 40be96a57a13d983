//! `plimsoll load`: puts load on an FTP server, ours or another, and measures what it holds.
//!
//! Clients are threads that block, as the server's workers are; there are as many as `--clients` says, and
//! never more. In the closed loop each begins its next session when its last has ended. In the open loop
//! sessions begin at given times, and their times count from then, whether or not a client was free: what a
//! server makes its visitors wait can't hide.

pub mod axis;
pub mod client;
pub mod crowd;
pub mod fault;
mod files;
pub mod find_pool;
mod json;
pub mod measure;
pub mod plan;
pub mod plot;
pub mod pool_report;
pub mod pool_server;
pub mod progress;
pub mod replies;
pub mod report;
pub mod session;
pub mod svg;
pub mod target;
pub mod wire;
pub mod words;

use std::fmt;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::config::load::{Load, Target};
use crate::config::plain;
use crate::config::url::FtpUrl;
use crowd::Crowd;
use files::Files;
use measure::Measure;
use plan::Plan;
use progress::{Progress, TICK};
use report::Outcome;
use session::Job;
use wire::Server;

/// Descriptors of one client: control connection and data connection.
const DESCRIPTORS_PER_CLIENT: u64 = 2;

/// Descriptors besides those of clients: standard streams, files to write, pipes of a server.
const DESCRIPTORS_SPARE: u64 = 32;

/// How long sessions may take to end after a first signal: what they have uploaded is taken away meanwhile.
const FAREWELL: Duration = Duration::from_secs(2);

/// Exit code of a second signal.
const EXIT_AT_ONCE: i32 = 1;

/// Why there is nothing to be told.
const TOO_SOON: &str = "ended by a signal before the first session";

/// Why there is no result: one line that names the flag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadError {
    line: String,
    code: u8,
}

impl LoadError {
    /// The command line is wrong.
    fn usage(line: String) -> Self {
        Self { line, code: 2 }
    }

    /// It can't be done here and now.
    fn here(line: String) -> Self {
        Self { line, code: 1 }
    }

    /// The status with which to exit.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        self.code
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}

impl std::error::Error for LoadError {}

/// Runs the load, and prints what it has shown. Returns whether any session succeeded, or was cut short by the end of
/// its time; of a search, whether a pool is recommended.
///
/// # Errors
/// One line that names the flag at fault.
pub fn run(load: &Load) -> Result<bool, LoadError> {
    claim_descriptors(load.clients)?;
    let files = Files::open(load)?;
    let interrupted = catch_signals()?;
    match &load.target {
        Target::Url(url) => {
            let (name, own, timeout) = (url.clone(), load.i_own_this_server, load.timeout);
            let address = unless(&interrupted, move || target::resolve(&name, own, timeout))?;
            let server = Server::new(address, load.timeout);
            let outcome = measure(load, url, server, &interrupted, String::new())?;
            // What can't be printed is to be had from the files.
            let printed = print(&report::table(load, &outcome));
            files.write(&report::json(load, &outcome), &plot::svg(load, &outcome))?;
            printed?;
            Ok(outcome.seen.succeeded + outcome.seen.cut > 0)
        }
        Target::Folder(folder) => {
            let found = find_pool::search(load, folder, &interrupted)?;
            if found.trials.is_empty() {
                return Err(LoadError::here(TOO_SOON.to_owned()));
            }
            let printed = print(&pool_report::table(load, folder, &found));
            files.write(&pool_report::json(load, folder, &found), &pool_report::svg(load, folder, &found))?;
            printed?;
            Ok(found.recommended.is_some())
        }
    }
}

/// Runs one load against one server.
fn measure(
    load: &Load,
    url: &FtpUrl,
    server: Server,
    interrupted: &AtomicBool,
    label: String,
) -> Result<Outcome, LoadError> {
    let (asked, name) = (load.clone(), url.clone());
    let job = unless(interrupted, move || {
        Job::new(&asked, &name, server).map_err(|why| {
            LoadError::here(match &asked.target {
                Target::Url(url) => format!("URL: {url}: {why}"),
                Target::Folder(folder) => format!("FOLDER: {folder:?}: {why}"),
            })
        })
    })?;
    let seen = Measure::new(&load.mix).map_err(|error| LoadError::here(format!("--mix: {error}")))?;
    let crowd = Crowd::start(load.clients, job, seen, || Plan::new(load)).map_err(|error| {
        LoadError::here(format!("--clients: {} threads can't be had: {}", load.clients, plain(&error)))
    })?;
    let mut progress = Progress::new(label);
    let ended = loop {
        if crowd.wait(TICK) {
            break Instant::now();
        }
        progress.tell(&crowd);
        let nobody_there = crowd.look(|seen| !seen.connected && seen.failed() >= load.clients as u64);
        let over = crowd.plan().end().is_some_and(|end| Instant::now() >= end);
        if interrupted.load(SeqCst) || over || nobody_there {
            break Instant::now();
        }
    };
    crowd.stop();
    // Sessions that have begun may end; not for long where somebody waits for us to.
    let mut signalled = None;
    while !crowd.wait(TICK) && ended.elapsed() < load.timeout {
        let now = Instant::now();
        if interrupted.load(SeqCst) && now - *signalled.get_or_insert(now) >= FAREWELL {
            break;
        }
        progress.tell(&crowd);
    }
    progress.end();
    let seen = crowd.look(Measure::clone);
    if let Some(failure) = seen.unreachable.filter(|_| !seen.connected) {
        return Err(LoadError::here(format!("URL: {url} can't be reached: {}", failure.name())));
    }
    let plan = crowd.plan();
    let cut = interrupted.load(SeqCst);
    let run = match plan.end() {
        Some(end) if !cut => end - plan.begin(),
        _ => ended.duration_since(plan.begin()),
    };
    // The last of a number of sessions ends the run; what begins within a time may end after it.
    let by_number = plan.most().is_some_and(|most| seen.begun >= most) && seen.unfinished() == 0;
    Ok(Outcome {
        url: url.to_string(),
        elapsed: if by_number && seen.cut == 0 { seen.last } else { seen.last.max(run) },
        run,
        overdue: plan.overdue(ended),
        interrupted: cut,
        seen,
    })
}

/// Does what may take long and can't be told to end, unless a signal comes before it has ended.
fn unless<T: Send + 'static>(
    interrupted: &AtomicBool,
    slow: impl FnOnce() -> Result<T, LoadError> + Send + 'static,
) -> Result<T, LoadError> {
    let (done, result) = mpsc::channel();
    std::thread::Builder::new()
        .name("prepare".into())
        .spawn(move || done.send(slow()))
        .map_err(|error| LoadError::here(format!("no thread can be had: {}", plain(&error))))?;
    loop {
        match result.recv_timeout(TICK) {
            Ok(result) => return result,
            Err(mpsc::RecvTimeoutError::Timeout) if !interrupted.load(SeqCst) => {}
            Err(_) => return Err(LoadError::here(TOO_SOON.to_owned())),
        }
    }
}

/// Raises the soft limit of descriptors to what the clients need.
fn claim_descriptors(clients: usize) -> Result<(), LoadError> {
    let needed = clients as u64 * DESCRIPTORS_PER_CLIENT + DESCRIPTORS_SPARE;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    let raised = Rlimit { current: Some(needed), maximum: limit.maximum };
    let allowed = limit.maximum.is_none_or(|maximum| maximum >= needed);
    if allowed && setrlimit(Resource::Nofile, raised).is_ok() {
        return Ok(());
    }
    Err(LoadError::here(format!(
        "--clients: {clients} clients need {needed} descriptors, but the limit (RLIMIT_NOFILE) is {}: lower it, or \
         raise the limit",
        limit.maximum.unwrap_or(0)
    )))
}

/// The first signal ends the run early, the second at once.
fn catch_signals() -> Result<Arc<AtomicBool>, LoadError> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, EXIT_AT_ONCE, Arc::clone(&flag))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&flag)))
            .map_err(|error| LoadError::here(format!("signals can't be caught: {}", plain(&error))))?;
    }
    Ok(flag)
}

fn print(text: &str) -> Result<(), LoadError> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| LoadError::here(format!("standard output can't be written: {}", plain(&error))))
}
