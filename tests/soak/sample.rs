//! What the kernel says of the server, from outside: threads, descriptors, sockets, memory, processor.

use crate::server::{Cgroup, PASSIVE_PORTS};
use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Looking at all sockets takes at most one part in so many of the time.
const SOCKETS_SHARE: u32 = 8;

/// Ticks of the times in /proc/PID/stat in a second: the same on all of Linux's common ports.
const TICKS: f64 = 100.0;

/// States of a TCP socket as /proc/net/tcp has them.
const LISTEN: u8 = 0x0A;

/// One look at the server.
#[derive(Debug, Clone, Copy, Default)]
pub struct Look {
    /// Seconds since the run began.
    pub at: f64,
    /// Logons so far.
    pub logons: u64,
    /// Threads.
    pub threads: u64,
    /// Open descriptors.
    pub descriptors: u64,
    /// Resident memory in bytes.
    pub resident: u64,
    /// The part of it that no file backs.
    pub anonymous: u64,
    /// Kernel memory in bytes.
    pub kernel: u64,
    /// Seconds of processor used so far.
    pub processor: f64,
    /// What only a look at all sockets tells, which is not taken each time.
    pub sockets: Option<Sockets>,
}

/// The server's TCP sockets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sockets {
    /// Control connections that it holds.
    pub sessions: u64,
    /// Sockets it listens on.
    pub listeners: u64,
    /// Sockets that it has closed, and that the kernel still holds data or state for (TIME_WAIT, which
    /// holds neither, does not count).
    pub orphans: u64,
}

/// Whom to look at.
#[derive(Debug, Clone)]
pub struct Subject {
    process: PathBuf,
    port: u16,
    cgroup: Option<Cgroup>,
    began: Instant,
}

impl Subject {
    /// The process that listens at this port.
    pub fn new(pid: u32, port: u16, cgroup: Option<Cgroup>) -> Self {
        Subject { process: PathBuf::from(format!("/proc/{pid}")), port, cgroup, began: Instant::now() }
    }

    /// Whether kernel memory is the server's own; otherwise it is that of all sockets of this host.
    pub fn has_cgroup(&self) -> bool {
        self.cgroup.is_some()
    }

    /// Looks, at the sockets too.
    pub fn look_at_all(&self) -> io::Result<Look> {
        let sockets = Some(self.sockets()?);
        Ok(Look { sockets, ..self.look()? })
    }

    /// Looks, but not at the sockets.
    pub fn look(&self) -> io::Result<Look> {
        let status = fs::read_to_string(self.process.join("status"))?;
        let kib = |name| field(&status, name).map_or(0, |kib| kib * 1024);
        // The status has it only nearly, on some kernels.
        let exact = fs::read_to_string(self.process.join("smaps_rollup")).unwrap_or_default();
        let anonymous = field(&exact, "Anonymous:").map_or_else(|| kib("RssAnon:"), |kib| kib * 1024);
        let kernel = match &self.cgroup {
            Some(cgroup) => cgroup.kernel_memory().unwrap_or(0),
            None => socket_pages()? * self.page_size(kib("VmSize:")),
        };
        Ok(Look {
            at: self.began.elapsed().as_secs_f64(),
            logons: 0,
            threads: field(&status, "Threads:").unwrap_or(0),
            descriptors: fs::read_dir(self.process.join("fd"))?.count() as u64,
            resident: kib("VmRSS:"),
            anonymous,
            kernel,
            processor: self.processor()?,
            sockets: None,
        })
    }

    fn processor(&self) -> io::Result<f64> {
        let stat = fs::read_to_string(self.process.join("stat"))?;
        // The name may hold anything; what follows its parenthesis begins with the third field.
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        Ok(fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / TICKS)
    }

    /// The same memory in two units tells the unit.
    fn page_size(&self, bytes: u64) -> u64 {
        let pages = fs::read_to_string(self.process.join("statm"))
            .ok()
            .and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok());
        pages.filter(|pages| *pages > 0).map_or(4096, |pages| bytes / pages)
    }

    fn sockets(&self) -> io::Result<Sockets> {
        let mut owned = HashSet::new();
        for entry in fs::read_dir(self.process.join("fd"))? {
            // It may be closed by now.
            if let Ok(target) = fs::read_link(entry?.path())
                && let Some(inode) = target.to_str().and_then(|t| t.strip_prefix("socket:[")?.strip_suffix(']'))
                && let Ok(inode) = inode.parse::<u64>()
            {
                owned.insert(inode);
            }
        }
        let mut sockets = Sockets::default();
        for table in ["tcp", "tcp6"] {
            let text = fs::read_to_string(self.process.join("net").join(table)).unwrap_or_default();
            for row in text.lines().skip(1).filter_map(Row::parse) {
                if owned.contains(&row.inode) {
                    if row.state == LISTEN {
                        sockets.listeners += 1;
                    } else if row.port == self.port {
                        sockets.sessions += 1;
                    }
                } else if row.is_orphan() && (row.port == self.port || PASSIVE_PORTS.contains(&row.port)) {
                    sockets.orphans += 1;
                }
            }
        }
        Ok(sockets)
    }
}

/// What is of interest in a row of /proc/net/tcp.
struct Row {
    port: u16,
    state: u8,
    waits: bool,
    inode: u64,
}

impl Row {
    fn parse(line: &str) -> Option<Row> {
        let mut fields = line.split_whitespace().skip(1);
        let port = u16::from_str_radix(fields.next()?.rsplit(':').next()?, 16).ok()?;
        let state = u8::from_str_radix(fields.nth(1)?, 16).ok()?;
        // The third kind of timer is that of TIME_WAIT, which FIN_WAIT2 becomes as well.
        let waits = fields.nth(1)?.starts_with("03:");
        let inode = fields.nth(3)?.parse().ok()?;
        Some(Row { port, state, waits, inode })
    }

    /// FIN_WAIT1, FIN_WAIT2, LAST_ACK or CLOSING without an owner.
    fn is_orphan(&self) -> bool {
        self.inode == 0 && !self.waits && matches!(self.state, 0x04 | 0x05 | 0x09 | 0x0B)
    }
}

fn field(status: &str, name: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix(name))?;
    value.split_whitespace().next()?.parse().ok()
}

/// Pages that all TCP sockets of the host hold.
fn socket_pages() -> io::Result<u64> {
    let text = fs::read_to_string("/proc/net/sockstat")?;
    let line = text.lines().find(|line| line.starts_with("TCP:")).unwrap_or_default();
    let mut words = line.split_whitespace().skip_while(|word| *word != "mem").skip(1);
    Ok(words.next().and_then(|pages| pages.parse().ok()).unwrap_or(0))
}

/// How many logons there are so far.
type Logons = dyn Fn() -> u64 + Send + Sync;

/// Looks again and again: at the process in one thread, and in another at the sockets too, because that takes
/// seconds where there are tens of thousands in TIME_WAIT and processors are busy.
pub struct Sampler {
    shared: Arc<Shared>,
    threads: [JoinHandle<()>; 2],
}

struct Shared {
    subject: Subject,
    logons: Box<Logons>,
    stop: AtomicBool,
    looks: Mutex<Vec<Look>>,
}

impl Shared {
    /// Takes one look. A process that is gone is somebody else's news.
    fn keep(&self, look: impl FnOnce(&Subject) -> io::Result<Look>) {
        if let Ok(mut look) = look(&self.subject) {
            look.logons = (self.logons)();
            self.looks.lock().unwrap_or_else(PoisonError::into_inner).push(look);
        }
    }
}

impl Sampler {
    /// Begins; `logons` is asked at every look.
    pub fn start(subject: Subject, every: Duration, logons: impl Fn() -> u64 + Send + Sync + 'static) -> Sampler {
        let shared =
            Shared { subject, logons: Box::new(logons), stop: AtomicBool::new(false), looks: Mutex::new(Vec::new()) };
        let shared = Arc::new(shared);
        let (quick, whole) = (Arc::clone(&shared), Arc::clone(&shared));
        let threads = [
            std::thread::spawn(move || {
                while !quick.stop.load(SeqCst) {
                    let before = Instant::now();
                    quick.keep(Subject::look);
                    std::thread::sleep(every.saturating_sub(before.elapsed()));
                }
            }),
            std::thread::spawn(move || {
                let mut due = Instant::now();
                while !whole.stop.load(SeqCst) {
                    let before = Instant::now();
                    if before >= due {
                        whole.keep(Subject::look_at_all);
                        due = before + before.elapsed() * SOCKETS_SHARE;
                    }
                    // Whoever ends it does not wait until the next is due.
                    std::thread::sleep(every.min(due.saturating_duration_since(Instant::now())));
                }
            }),
        ];
        Sampler { shared, threads }
    }

    /// The last look.
    pub fn last(&self) -> Look {
        let looks = self.shared.looks.lock().unwrap_or_else(PoisonError::into_inner);
        looks.last().copied().unwrap_or_default()
    }

    /// How many looks there were since so many logons.
    pub fn since(&self, logons: u64) -> usize {
        let looks = self.shared.looks.lock().unwrap_or_else(PoisonError::into_inner);
        looks.iter().rev().take_while(|look| look.logons >= logons).count()
    }

    /// Ends, with all that it has seen, in the order of time.
    pub fn finish(self) -> Vec<Look> {
        self.shared.stop.store(true, SeqCst);
        for thread in self.threads {
            let _ = thread.join();
        }
        let mut looks = std::mem::take(&mut *self.shared.looks.lock().unwrap_or_else(PoisonError::into_inner));
        looks.sort_by(|a, b| a.at.total_cmp(&b.at));
        looks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_the_socket_table_are_told_apart() {
        let row = |state: &str, timer: &str, inode: u64| {
            let line = format!(
                "  1: 0100007F:0849 0100007F:C350 {state} 00000000:00000000 {timer}:00000000 00000000  0  0 {inode} 1 x"
            );
            Row::parse(&line).unwrap()
        };
        let open = row("01", "00", 77);
        assert_eq!((open.port, open.state, open.inode, open.is_orphan()), (0x849, 1, 77, false));
        assert!(row("04", "01", 0).is_orphan() && row("05", "00", 0).is_orphan());
        assert!(!row("06", "03", 0).is_orphan() && !row("05", "03", 0).is_orphan());
        assert!(Row::parse("sl local_address").is_none());
    }

    #[test]
    fn this_process_can_be_looked_at() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let subject = Subject::new(std::process::id(), port, None);
        let _client = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        let _session = listener.accept().unwrap();
        let look = subject.look_at_all().unwrap();
        assert!(look.threads > 0 && look.descriptors >= 3 && look.resident >= look.anonymous && look.anonymous > 0);
        let sockets = look.sockets.unwrap();
        assert!(sockets.sessions == 1 && sockets.listeners >= 1, "{sockets:?}");
    }

    #[test]
    fn each_look_knows_how_many_logons_there_were() {
        let logons = Arc::new(std::sync::atomic::AtomicU64::new(0));
        let told = Arc::clone(&logons);
        let subject = Subject::new(std::process::id(), 1, None);
        let sampler = Sampler::start(subject, Duration::from_millis(1), move || told.load(SeqCst));
        let seen = |logons, count| {
            let end = Instant::now() + Duration::from_secs(20);
            while sampler.since(logons) < count {
                assert!(Instant::now() < end, "waited in vain");
                std::thread::yield_now();
            }
        };
        seen(0, 3);
        assert_eq!(sampler.since(1), 0);
        logons.store(7, SeqCst);
        seen(7, 5);
        let whole = |looks: &[Look]| looks.iter().any(|look| look.sockets.is_some());
        let end = Instant::now() + Duration::from_secs(20);
        while !whole(&sampler.shared.looks.lock().unwrap()) {
            assert!(Instant::now() < end, "waited in vain");
            std::thread::yield_now();
        }
        let looks = sampler.finish();
        assert!(looks.len() >= 8);
        assert!(looks.is_sorted_by(|a, b| a.at <= b.at) && whole(&looks));
    }
}
