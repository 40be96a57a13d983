//! A server of our own: a child process that serves a folder with a pool of a given size, and that ends with
//! us on every way out.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

use super::LoadError;
use crate::config::plain;
use crate::config::url::FtpUrl;

/// Tells a server that it is a child, and of whom.
const PARENT: &str = "PLIMSOLL_LOAD_PARENT";

/// Longest complaint of a child that is read.
const COMPLAINT_MAX: u64 = 4096;

/// Ticks of the clock in /proc in a second: USER_HZ, which is the same on every architecture of today.
const TICKS: u64 = 100;

/// How large a pool is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// `--workers`.
    pub workers: usize,
    /// `--queue`.
    pub queue: usize,
}

/// What a server has used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Most memory that was resident, in bytes.
    pub resident: u64,
    /// Processor time.
    pub cpu: Duration,
}

/// A server that runs. It is killed when this is dropped.
#[derive(Debug)]
pub struct PoolServer {
    child: Child,
    port: u16,
    worst_case_mib: u64,
}

/// Called by a server at its start: if it is a child of a load it has to end when that does, even when that
/// is killed and can tell nobody.
///
/// # Errors
/// The parent has gone already.
pub fn end_with_parent() -> Result<(), LoadError> {
    let Some(parent) = std::env::var(PARENT).ok().and_then(|pid| pid.parse::<i32>().ok()) else {
        return Ok(());
    };
    let asked = set_parent_process_death_signal(Some(Signal::KILL));
    // It may have ended before it was asked for.
    if asked.is_err() || getppid().map(Pid::as_raw_pid) != Some(parent) {
        return Err(LoadError::here(format!("{PARENT}: process {parent} is not the parent")));
    }
    Ok(())
}

impl PoolServer {
    /// Starts one, on loopback and a port of the kernel's choice.
    ///
    /// # Errors
    /// What the server says.
    pub fn start(folder: &Path, size: Size, memory_limit: Option<u64>) -> Result<Self, LoadError> {
        let program = std::env::current_exe()
            .map_err(|error| LoadError::here(format!("--find-pool: this program can't be found: {}", plain(&error))))?;
        let mut command = Command::new(program);
        command.args(["serve", "--listen", "127.0.0.1:0", "--log", "error"]);
        command.args(["--workers", &size.workers.to_string(), "--queue", &size.queue.to_string()]);
        if let Some(bytes) = memory_limit {
            command.args(["--memory-limit", &bytes.to_string()]);
        }
        command.args([OsString::from("--"), folder.into()]);
        command.env(PARENT, std::process::id().to_string()).env_remove("RUST_LOG");
        // Ctrl-C is meant for us, and we end it.
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let child = command
            .spawn()
            .map_err(|error| LoadError::here(format!("--find-pool: no server can be started: {}", plain(&error))))?;
        let mut server = Self { child, port: 0, worst_case_mib: 0 };
        match server.read_ready_lines() {
            Some(()) => Ok(server),
            None => Err(LoadError::here(server.complaint())),
        }
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> FtpUrl {
        FtpUrl::local(Ipv4Addr::LOCALHOST, self.port)
    }

    /// The worst case of its load line, in MiB.
    #[must_use]
    pub fn worst_case_mib(&self) -> u64 {
        self.worst_case_mib
    }

    /// What it has used so far; nothing where the kernel does not tell.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let read = |name: &str| fs::read_to_string(format!("/proc/{}/{name}", self.child.id())).unwrap_or_default();
        Usage { resident: resident(&read("status")).unwrap_or(0), cpu: cpu(&read("stat")).unwrap_or_default() }
    }

    /// Reads where it listens and what its worst case is; nothing where it ends instead.
    fn read_ready_lines(&mut self) -> Option<()> {
        let mut lines = BufReader::new(self.child.stdout.take()?.take(COMPLAINT_MAX)).lines();
        while let Some(Ok(line)) = lines.next() {
            if let Some((_, address)) = line.split_once(" listening on ") {
                self.port = address.rsplit(':').next()?.parse().ok()?;
            } else if let Some((_, rest)) = line.split_once("worst case ") {
                self.worst_case_mib = rest.split(' ').next()?.parse().ok()?;
                return (self.port > 0).then_some(());
            }
        }
        None
    }

    /// Why it did not start.
    fn complaint(&mut self) -> String {
        // It has ended, or ends now: else its standard error would have no end.
        let _ = self.child.kill();
        let mut text = String::new();
        if let Some(stderr) = self.child.stderr.take() {
            let _ = stderr.take(COMPLAINT_MAX).read_to_string(&mut text);
        }
        complaint(text.lines().next().unwrap_or_default())
    }
}

/// What a server complains of, as who has given a load other flags has to read it.
fn complaint(line: &str) -> String {
    let line = line.strip_prefix("plimsoll: ").unwrap_or(line);
    match line.split_once(": ") {
        None if line.is_empty() => "--find-pool: a server ended without a word".to_owned(),
        None => format!("--find-pool: a server ended: {line}"),
        Some(("ROOT", why)) => format!("FOLDER: {why}"),
        // What to do with flags of its own does not help here.
        Some((flag, why)) if flag.starts_with("--workers") => {
            let why = why.split([':', ';']).next().unwrap_or(why);
            let ours = if why.contains("--memory-limit") { "--memory-limit" } else { "--find-pool" };
            format!("{ours}: of the smallest pool {why}")
        }
        Some(_) => format!("--find-pool: no server can be started: {line}"),
    }
}

impl Drop for PoolServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `VmHWM` of /proc/PID/status, in bytes.
fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

/// The sum of utime and stime of /proc/PID/stat.
fn cpu(stat: &str) -> Option<Duration> {
    // The second field is a name in parentheses, which may hold anything.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ').skip(11).map(str::parse::<u64>);
    let ticks = fields.next()?.ok()? + fields.next()?.ok()?;
    Some(Duration::from_millis(ticks * (1000 / TICKS)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_names_what_a_load_was_given() {
        let memory = "the worst case is 12 MiB, but --memory-limit is 4 MiB";
        for (said, told) in [
            ("plimsoll: ROOT: root folder \"/x\" does not exist", "FOLDER: root folder \"/x\" does not exist"),
            (
                &format!("plimsoll: --workers: {memory}: no worker fits"),
                &format!("--memory-limit: of the smallest pool {memory}"),
            ),
            (
                "plimsoll: --workers: the worst case is 12 MiB, but the limit is 8 MiB; lower --queue",
                "--find-pool: of the smallest pool the worst case is 12 MiB, but the limit is 8 MiB",
            ),
            ("plimsoll: --listen: no", "--find-pool: no server can be started: --listen: no"),
            ("", "--find-pool: a server ended without a word"),
            ("Killed", "--find-pool: a server ended: Killed"),
        ] {
            assert_eq!(complaint(said), told);
        }
    }

    #[test]
    fn what_the_kernel_tells_of_a_process_is_read() {
        assert_eq!(resident("Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t 1 kB\n"), Some(2 << 20));
        assert_eq!(resident("Name:\tx\n"), None);
        let stat = "42 (a) b) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20";
        assert_eq!(cpu(stat), Some(Duration::from_secs(2)));
        assert_eq!(cpu("42 (a"), None);
        let own = fs::read_to_string("/proc/self/status").unwrap();
        assert!(resident(&own).unwrap() > 100_000, "{own}");
        assert!(cpu(&fs::read_to_string("/proc/self/stat").unwrap()).is_some());
    }
}
