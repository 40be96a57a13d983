//! The server under test: the real release binary, in a memory cgroup of its own where one can be made.

use rustix::process::{Pid, Signal, kill_process};
use std::collections::VecDeque;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::net::{Ipv6Addr, TcpListener};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Longest wait for an answer of the server itself.
const PATIENCE: Duration = Duration::from_secs(20);

/// Lines of the log that are kept.
const TAIL: usize = 20;

/// The flags: the pool as it is by default, times so short that those who hang end in seconds, and no more memory for
/// listings than is noise, because it is filled when somebody happens to list a folder twice.
pub const FLAGS: [(&str, &str); 14] = [
    ("--workers", "256"),
    ("--queue", "64"),
    ("--max-per-ip", "40"),
    ("--shed-after", "1s"),
    ("--idle-timeout", "3s"),
    ("--login-timeout", "3s"),
    ("--data-timeout", "2s"),
    ("--stall-timeout", "2s"),
    ("--min-rate", "256K"),
    ("--queue-timeout", "5s"),
    ("--session-timeout", "15s"),
    ("--grace", "5s"),
    ("--listing-memory", "128K"),
    ("--log", "warn"),
];

/// The ports of its ends of data connections, as by default: none of those that Linux gives to clients.
pub const PASSIVE_PORTS: RangeInclusive<u16> = 20_000..=29_999;

/// A running server.
pub struct Server {
    child: Child,
    /// Its port.
    pub port: u16,
    /// What it says of itself: name and version, and the load line.
    pub names: (String, String),
    /// Its cgroup, if it has one.
    pub cgroup: Option<Cgroup>,
    log: Arc<(Mutex<Log>, Condvar)>,
}

/// What the log has told.
#[derive(Debug, Default)]
struct Log {
    audit: Audit,
    counters: String,
    blocks: u64,
    /// The sessions of the last state block.
    state: Vec<String>,
    tail: VecDeque<String>,
    defects: Vec<String>,
}

/// The counts of one audit line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Audit {
    /// Slots that are taken.
    pub sessions: u64,
    /// Workers that serve one.
    pub busy: u64,
    /// Sessions without a worker.
    pub queued: u64,
    /// Control connections that are open.
    pub sockets: u64,
}

impl Audit {
    fn parse(line: &str) -> Option<Audit> {
        let mut numbers = line.strip_prefix("audit: ")?.split_whitespace().filter_map(|word| word.parse().ok());
        Some(Audit {
            sessions: numbers.next()?,
            busy: numbers.next()?,
            queued: numbers.next()?,
            sockets: numbers.next()?,
        })
    }

    /// Whether nobody is here.
    pub fn is_zero(self) -> bool {
        self == Audit::default()
    }
}

impl Server {
    /// Starts the binary on a port of the kernel's choice.
    ///
    /// Unless the allocator is to be the `stock` one, its threads share one arena and keep nothing of what
    /// they free: each keeps up to seven pieces of each size otherwise, which looks like growth until every
    /// one of 256 workers has done everything.
    pub fn start(binary: &Path, root: &Path, accounts: &Path, stock: bool) -> io::Result<Server> {
        let cgroup = Cgroup::make();
        let listen = if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() { "[::]:0" } else { "127.0.0.1:0" };
        let mut command = match &cgroup {
            // It has to be in its group before it allocates anything.
            Some(cgroup) => {
                let mut command = Command::new("sh");
                command.args(["-c", r#"echo $$ > "$0" && exec "$@""#]);
                command.arg(cgroup.path.join("cgroup.procs")).arg(binary);
                command
            }
            None => Command::new(binary),
        };
        command.arg("serve").arg(root).args(["--listen", listen]).env_remove("RUST_LOG");
        command.arg("--accounts").arg(accounts);
        if !stock {
            command.env("GLIBC_TUNABLES", "glibc.malloc.arena_max=1:glibc.malloc.tcache_count=0");
        }
        for (flag, value) in FLAGS {
            command.args([flag, value]);
        }
        let (first, last) = PASSIVE_PORTS.into_inner();
        command.args(["--passive-ports", &format!("{first}-{last}")]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let log = Arc::new((Mutex::new(Log::default()), Condvar::new()));
        if let Some(stderr) = child.stderr.take() {
            let log = Arc::clone(&log);
            std::thread::spawn(move || follow(BufReader::new(stderr), &log));
        }
        let mut server = Server { child, port: 0, names: Default::default(), cgroup, log };
        server.read_ready_lines()?;
        Ok(server)
    }

    fn read_ready_lines(&mut self) -> io::Result<()> {
        let out = self.child.stdout.take().ok_or_else(|| io::Error::other("no standard output"))?;
        let mut lines = BufReader::new(out).lines().map_while(Result::ok);
        let ready = lines.next().unwrap_or_default();
        let (name, address) = ready.split_once(" listening on ").unwrap_or_default();
        let port = address.rsplit(':').next().and_then(|port| port.parse().ok());
        self.port = port.ok_or_else(|| io::Error::other("the server did not start"))?;
        let load_line = lines.find(|line| line.starts_with("load line")).unwrap_or_default();
        self.names = (name.to_owned(), load_line);
        Ok(())
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks the server for its own counts.
    pub fn audit(&self) -> io::Result<Audit> {
        let (log, news) = &*self.log;
        let before = log.lock().unwrap_or_else(PoisonError::into_inner).blocks;
        self.signal(Signal::USR1)?;
        let log = log.lock().unwrap_or_else(PoisonError::into_inner);
        let (log, timeout) =
            news.wait_timeout_while(log, PATIENCE, |log| log.blocks == before).unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() {
            return Err(io::Error::other("the server does not answer SIGUSR1"));
        }
        Ok(log.audit)
    }

    /// The counters as of the last audit.
    pub fn counters(&self) -> String {
        self.log.0.lock().unwrap_or_else(PoisonError::into_inner).counters.clone()
    }

    /// Lines of the log that tell of a defect.
    pub fn defects(&self) -> Vec<String> {
        self.log.0.lock().unwrap_or_else(PoisonError::into_inner).defects.clone()
    }

    /// The sessions that the last audit told of.
    pub fn state(&self) -> Vec<String> {
        self.log.0.lock().unwrap_or_else(PoisonError::into_inner).state.clone()
    }

    /// The last lines of the log that belong to no state block.
    pub fn tail(&self) -> String {
        let log = self.log.0.lock().unwrap_or_else(PoisonError::into_inner);
        log.tail.iter().fold(String::new(), |text, line| text + line + "\n")
    }

    /// Ends it with SIGTERM.
    pub fn stop(&mut self) -> io::Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() >= end {
                return Err(io::Error::other("the server does not end on SIGTERM"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::other("no process"))?;
        Ok(kill_process(pid, signal)?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads the log. A state block is a line of its own, the audit, the counters, and a line for each session.
fn follow(lines: impl BufRead, log: &(Mutex<Log>, Condvar)) {
    for line in lines.lines().map_while(Result::ok) {
        let mut now = log.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(text) = line.strip_prefix("  ") else {
            now.state.clear();
            if line.contains("defect:") {
                now.defects.push(line.clone());
            }
            now.tail.push_back(line);
            if now.tail.len() > TAIL {
                now.tail.pop_front();
            }
            continue;
        };
        if let Some(audit) = Audit::parse(text) {
            now.audit = audit;
        } else if text.starts_with("admitted ") {
            text.clone_into(&mut now.counters);
            now.blocks += 1;
            log.1.notify_all();
        } else {
            now.state.push(text.to_owned());
        }
    }
}

/// A memory cgroup of the server's own.
#[derive(Debug, Clone)]
pub struct Cgroup {
    path: PathBuf,
    version_1: bool,
}

impl Cgroup {
    /// Makes one below that of this process, if it may.
    fn make() -> Option<Cgroup> {
        let lines = fs::read_to_string("/proc/self/cgroup").ok()?;
        lines.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (controllers, place) = (fields.next()?, fields.next()?);
            let (mount, version_1) = match controllers {
                "" => ("/sys/fs/cgroup", false),
                "memory" => ("/sys/fs/cgroup/memory", true),
                _ => return None,
            };
            let path = Path::new(mount)
                .join(place.trim_start_matches('/'))
                .join(format!("plimsoll-soak-{}", std::process::id()));
            let cgroup = Cgroup { path, version_1 };
            fs::create_dir(&cgroup.path).ok()?;
            if version_1 {
                // Buffers of sockets are only counted once there is a limit, however high.
                let _ = fs::write(cgroup.path.join("memory.kmem.tcp.limit_in_bytes"), (1u64 << 40).to_string());
            }
            if cgroup.kernel_memory().is_some() {
                return Some(cgroup);
            }
            cgroup.remove();
            None
        })
    }

    /// Bytes that the kernel holds for the group: stacks, sockets and their buffers, tables.
    pub fn kernel_memory(&self) -> Option<u64> {
        if self.version_1 {
            let kernel = self.number("memory.kmem.usage_in_bytes")?;
            Some(kernel + self.number("memory.kmem.tcp.usage_in_bytes").unwrap_or(0))
        } else {
            let stat = fs::read_to_string(self.path.join("memory.stat")).ok()?;
            let field = |name: &str| {
                let line = stat.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
                line.and_then(|number| number.parse::<u64>().ok())
            };
            Some(field("kernel")? + field("sock").unwrap_or(0))
        }
    }

    fn number(&self, file: &str) -> Option<u64> {
        fs::read_to_string(self.path.join(file)).ok()?.trim().parse().ok()
    }

    /// Removes it, once nobody is in it.
    pub fn remove(&self) {
        let _ = fs::remove_dir(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_audit_line_is_read_as_it_is_written() {
        let line = "audit: 4 sessions, 3 busy workers, 1 queued, 5 control connections";
        let audit = Audit::parse(line).unwrap();
        assert_eq!((audit.sessions, audit.busy, audit.queued, audit.sockets), (4, 3, 1, 5));
        assert!(!audit.is_zero() && Audit::default().is_zero());
        assert_eq!(Audit::parse("audit: none"), None);
    }
}
