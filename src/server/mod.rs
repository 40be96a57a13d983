//! The process: start, drain, stop. Acceptor, bounded queue, fixed pool, registry and reaper.

mod acceptor;
mod audit;
mod counters;
mod host;
mod judge;
mod listen;
mod load_line;
mod pool;
mod queue;
mod reaper;
mod registry;
#[cfg(test)]
mod registry_stress;
pub mod reload;
mod schedule;
mod shed;
mod signals;
mod slot;
mod table;
mod wake;

use crate::config::{self, Config};
use crate::data::passive::PassivePorts;
use crate::data::pulse::Tick;
use crate::data::window::Windows;
use crate::deny::DenyList;
use crate::journal::{Journal, Target};
use crate::proto::reply::Reply;
use crate::session::{Context, Homes, Members};
use crate::swap::Swap;
use crate::vfs::{KnownFolders, Root};
use acceptor::{Acceptor, Door};
use judge::Rules;
use load_line::{Allowed, Files, LoadLine, Overloaded};
use queue::Queue;
use reaper::{Reaper, Stopping};
use registry::{Caps, Registry, SessionGuard};
use reload::Reloading;
use signals::Signals;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};
use wake::Wake;

/// Stack of the acceptor and the reaper in bytes.
const KEEPER_STACK: usize = 128 * 1024;

/// Why the server did not start: one line for the operator, which names the flag.
#[derive(Debug)]
pub struct StartError(String);

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StartError {}

/// A server that is ready to run: all threads are there, and clients can connect.
#[derive(Debug)]
pub struct Server {
    context: Arc<Context>,
    reloading: Reloading,
    registry: Arc<Registry>,
    stopping: Arc<Stopping>,
    wake: Arc<Wake>,
    acceptor: JoinHandle<()>,
    reaper: JoinHandle<()>,
    workers: Vec<JoinHandle<()>>,
    signals: Signals,
    grace: Duration,
    listening: Vec<SocketAddr>,
    load_line: LoadLine,
    queue: Arc<Queue<SessionGuard>>,
}

impl Server {
    /// Starts a server: everything that it will ever use is there when this returns.
    ///
    /// # Errors
    /// One line that names the flag at fault and its value.
    pub fn start(config: Config) -> Result<Self, StartError> {
        // First: to look through a tree takes time, in which a signal may come.
        let signals =
            signals::catch().map_err(|error| StartError(format!("signals can't be caught: {}", told(&error))))?;
        let root = Root::open(config.root()).map_err(|error| StartError(format!("ROOT: {error}")))?;
        let root = Arc::new(root);
        let homes = Homes::read(&config, &root, None).map_err(|error| told_by("--accounts", &error))?;
        let denied = reload::deny_list(&config).map_err(|error| told_by("--deny-file", &error.to_string()))?;
        let files = reload::counted(&config, &homes, &denied);
        let allowed = Allowed::now(&config, files);
        let config = allowed.settle(config);
        let load_line = allowed.load_line(&config);
        let overloaded = |error: Overloaded| StartError(error.to_string());
        load_line.check(&allowed, &config).map_err(overloaded)?;
        load_line.claim_descriptors().map_err(overloaded)?;
        let denied = Arc::new(Swap::new(denied));
        let journal = journal(&config)?;
        let listeners = listen::all(config.listen(), config.listen_is_default())
            .map_err(|(address, error)| StartError(format!("--listen: {address}: {}", told(&error))))?;
        let listening = listeners.iter().filter_map(|l| l.local_addr().ok()?.as_socket()).collect::<Vec<_>>();
        let ports = passive_ports(&config, &listening)?;
        let networks = match config.passive_address() {
            Some(_) => {
                if_addrs::get_if_addrs().unwrap_or_default().into_iter().map(|interface| interface.addr).collect()
            }
            None => Vec::new(),
        };
        let greeting = Swap::new(greeting(config.banner()));
        let windows = Windows::new(config.wide_transfers(), host::send_buffer_max());
        let known = known_folders(&config);
        let members = Members::new(homes, config.access().password_checks);
        let context = Context { greeting, root, known, ports, windows, networks, members, journal, config };
        start_threads(Arc::new(context), (denied, files), listeners, listening, load_line, signals)
    }

    /// Tells on standard output that clients may come.
    ///
    /// # Errors
    /// Standard output can't be written to.
    pub fn announce(&self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        for address in &self.listening {
            writeln!(out, "plimsoll {} listening on {address}", env!("CARGO_PKG_VERSION"))?;
        }
        if let Some(first) = self.listening.first() {
            writeln!(out, "try {}", url(*first))?;
        }
        writeln!(out, "{}", self.load_line)?;
        out.flush()
    }

    /// Serves until SIGTERM or SIGINT, then drains: nobody is admitted, sessions at rest get 421, and
    /// transfers have the grace to finish. A second signal ends the process at once. Returns whether
    /// everybody could be ended.
    #[must_use]
    pub fn run(mut self) -> bool {
        self.wait_for_signal();
        log::info!("stopping: {} sessions, grace {:?}", self.registry.len(), self.grace);
        let deadline = Instant::now() + self.grace;
        self.registry.stop();
        self.stopping.begin();
        self.wake.wake();
        if !self.registry.wait_until_empty(deadline) {
            self.stopping.everybody();
            let last = Instant::now() + 2 * crate::limits::KILL_GRACE;
            if !self.registry.wait_until_empty(last) {
                // A worker hangs in the file system; the process must not hang with it.
                log::error!("{} sessions could not be ended", self.registry.len());
                return false;
            }
        }
        log::info!("{}", self.registry.counters);
        self.reloading.stop_journal();
        for thread in [self.acceptor, self.reaper].into_iter().chain(self.workers) {
            let _ = thread.join();
        }
        true
    }

    /// Waits for a signal to stop; meanwhile tells the state whenever it is asked.
    fn wait_for_signal(&mut self) {
        let mut byte = [0];
        while !self.signals.stop.load(SeqCst) {
            if self.signals.told.swap(false, SeqCst) {
                self.tell_state();
            }
            if self.signals.reload.swap(false, SeqCst) {
                self.reloading.reload();
            }
            // Whatever ends the read, the flags say what came.
            if let Err(error) = self.signals.bell.read(&mut byte)
                && error.kind() != io::ErrorKind::Interrupted
            {
                return;
            }
        }
    }

    /// Writes the whole state to the log, as one block.
    fn tell_state(&self) {
        let now = Tick::now();
        let mut block = format!(
            "state: {}\n  {}\n  {}\n  {}",
            self.load_line,
            self.registry.audit(self.queue.len()),
            self.registry.counters,
            self.context.known
        );
        for view in self.registry.views() {
            if let Some(line) = self.registry.describe(view.index, now) {
                block.push_str("\n  ");
                block.push_str(&line);
            }
        }
        log::warn!("{block}");
    }
}

fn start_threads(
    context: Arc<Context>,
    (denied, files): (Arc<Swap<DenyList>>, Files),
    listeners: Vec<socket2::Socket>,
    listening: Vec<SocketAddr>,
    load_line: LoadLine,
    signals: Signals,
) -> Result<Server, StartError> {
    // All threads that follow inherit it.
    schedule::for_throughput();
    let config = &context.config;
    let no_thread = |error: io::Error| {
        StartError(format!("--workers: {} threads can't be had: {}", config.workers(), told(&error)))
    };
    let registry = Arc::new(Registry::new(caps(config)));
    let stopping = Arc::new(Stopping::default());
    let no_descriptor = |error: io::Error| StartError(format!("a descriptor can't be had: {}", told(&error)));
    let wake = Arc::new(Wake::new().map_err(no_descriptor)?);
    // Room for every slot: that the queue is full is found by the registry alone.
    let queue = Arc::new(Queue::new(config.workers() + config.queue(), config.workers()));
    let workers = pool::spawn(config.workers(), config.stack_size(), &context, &registry, &queue).map_err(no_thread)?;
    let door = Door {
        registry: Arc::clone(&registry),
        queue: Arc::clone(&queue),
        denied: Arc::clone(&denied),
        context: Arc::clone(&context),
    };
    let acceptor = Acceptor::new(listeners, door, Arc::clone(&wake)).map_err(no_descriptor)?;
    let keeper = |name: &str| Builder::new().name(name.into()).stack_size(KEEPER_STACK);
    let acceptor = keeper("acceptor").spawn(move || acceptor.run()).map_err(no_thread)?;
    let reaper = Reaper::new(
        Arc::clone(&registry),
        Rules::new(config),
        Arc::clone(&stopping),
        Arc::clone(&wake),
        Arc::clone(&queue),
    );
    let reaper = keeper("reaper").spawn(move || reaper.run()).map_err(no_thread)?;
    let grace = config.timeouts().grace;
    let reloading = Reloading::new(Arc::clone(&context), denied, files);
    Ok(Server {
        context,
        reloading,
        registry,
        stopping,
        wake,
        acceptor,
        reaper,
        workers,
        signals,
        grace,
        listening,
        load_line,
        queue,
    })
}

fn journal(config: &Config) -> Result<Journal, StartError> {
    let records = config.records();
    let events = records.events.as_deref().map(|path| match path.as_os_str() == "-" {
        true => Target::Stdout,
        false => Target::File(path),
    });
    Journal::start(records.transfer_log.as_deref(), events).map_err(|error| StartError(error.to_string()))
}

fn caps(config: &Config) -> Caps {
    Caps {
        slots: config.workers() + config.queue(),
        workers: config.workers(),
        per_address: config.max_per_address(),
        per_user: config.max_per_user(),
        unauthenticated: config.max_unauthenticated(),
    }
}

/// The passive ports, of which there must be one for each worker.
fn passive_ports(config: &Config, listening: &[SocketAddr]) -> Result<PassivePorts, StartError> {
    let range = config.passive_ports();
    let ports = PassivePorts::new(&range).with_upload_window(config.storing().window);
    let address = listening.first().copied().unwrap_or((Ipv4Addr::LOCALHOST, 0).into());
    let free = ports.free(address, config.workers());
    if free < config.workers() {
        return Err(StartError(format!(
            "--passive-ports: {}-{}: only {free} of these ports can be had, and --workers {} needs one each",
            range.start(),
            range.end(),
            config.workers()
        )));
    }
    Ok(ports)
}

fn known_folders(config: &Config) -> KnownFolders {
    KnownFolders::new(config.listing_memory()).unwrap_or_else(|error| {
        let error = config::plain(&error);
        log::warn!("--listing-memory: folders can't be watched by inotify(7), and none is remembered: {error}");
        KnownFolders::off()
    })
}

fn greeting(banner: &[String]) -> Reply {
    match banner {
        [] => Reply::new(220, "ready"),
        [line] => Reply::with(220, line.as_str()),
        [first, inner @ .., last] => {
            let inner = inner.iter().map(|line| line.clone().into_bytes()).collect();
            Reply::lines(220, first.as_str(), inner, last.as_str())
        }
    }
}

/// An address at which a client on this host finds the server.
fn url(address: SocketAddr) -> String {
    let host = match address.ip() {
        ip if ip == IpAddr::V6(Ipv6Addr::UNSPECIFIED) || ip == IpAddr::V4(Ipv4Addr::UNSPECIFIED) => "localhost".into(),
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    };
    match address.port() {
        21 => format!("ftp://{host}/"),
        port => format!("ftp://{host}:{port}/"),
    }
}

/// Each line with the flag in front, unless it names one.
fn told_by(flag: &str, error: &str) -> StartError {
    let line = |line: &str| if line.starts_with("--") { line.to_owned() } else { format!("{flag}: {line}") };
    StartError(error.lines().map(line).collect::<Vec<_>>().join("\n"))
}

/// What went wrong, in words for the operator.
fn told(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "the port is taken".into(),
        io::ErrorKind::PermissionDenied => "permission denied: ports below 1024 need the right to bind them".into(),
        io::ErrorKind::AddrNotAvailable => "this host has no such address".into(),
        _ => config::plain(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_to_try_is_one_that_can_be_typed() {
        let address = |text: &str| text.parse().unwrap();
        assert_eq!(url(address("[::]:2121")), "ftp://localhost:2121/");
        assert_eq!(url(address("0.0.0.0:21")), "ftp://localhost/");
        assert_eq!(url(address("127.0.0.1:2121")), "ftp://127.0.0.1:2121/");
        assert_eq!(url(address("[::1]:2121")), "ftp://[::1]:2121/");
    }

    #[test]
    fn a_banner_of_any_length_is_one_greeting() {
        let lines = |count: usize| (0..count).map(|n| format!("line {n}")).collect::<Vec<_>>();
        for count in 0..5 {
            let mut out = Vec::new();
            greeting(&lines(count)).encode(&mut out);
            let text = String::from_utf8(out).unwrap();
            let last = text.lines().last().unwrap();
            assert!(last.starts_with("220 "), "{text}");
            assert_eq!(text.lines().filter(|line| line.starts_with("220 ")).count(), 1, "{text}");
        }
    }
}
