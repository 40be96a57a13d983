//! The load line: the worst case of everything the server can use, computed from the flags before the
//! first client connects, and held against the limits of the host.

use super::host;
use crate::config::Config;
use crate::journal::Journal;
use crate::limits::{
    ACCOUNT_BYTES, CONTROL_RECEIVE_BUFFER, CONTROL_SEND_BUFFER, DATA_BUFFER, DATA_RECEIVE_BUFFER,
    DESCRIPTORS_PER_SESSION, DESCRIPTORS_PER_WRITER, DESCRIPTORS_SPARE, LINE_MAX, MORE_AT_RELOAD, NAMES_BUFFER,
    NARROW_WINDOW, PASSIVE_BACKLOG, PASSIVE_BACKLOG_RECEIVING, PATH_MAX, RANGE_BYTES, READ_BUFFER, REPLY_BUFFER,
    SEGMENT, WORKERS_AUTO_MAX, WORKERS_MAX,
};
use crate::vfs::{SWEEP_DESCRIPTORS, SWEEP_MEMORY};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fmt;

/// Memory of a thread in the kernel: its kernel stack, task and thread structures. Measured: 25 KiB.
const KERNEL_THREAD: usize = 25 * 1024;

/// Memory of a socket in the kernel besides its buffers, and of its descriptor.
const KERNEL_SOCKET: usize = 4 * 1024;

/// What one command may allocate for a moment: a pathname that is walked (28 KiB at most), a reply.
const MOMENTARY: usize = 32 * 1024;

/// Stack that a worker can touch, measured at 32 KiB without optimisation; the rest is reserved, and costs
/// nothing.
const STACK_TOUCHED: usize = 40 * 1024;

/// The process before its first worker: code, libraries, allocator, acceptor and reaper.
const PROCESS: usize = 3 * 1024 * 1024;

/// What a slot costs besides its sockets: registry rows, pulse, the reaper's memory.
const SLOT: usize = 768;

/// The worst case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadLine {
    sessions: usize,
    queued: usize,
    bytes: usize,
    descriptors: usize,
}

/// What the host and the flags allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowed {
    /// Bytes of memory, and whose limit that is; `None` where nobody sets one.
    pub memory: Option<(u64, MemoryLimit)>,
    /// The hard limit of descriptors; `None` where there is none.
    pub descriptors: Option<u64>,
    /// Bytes to which the send buffer of a connection may grow.
    pub wide_window: usize,
    /// What the files that flags name bring.
    pub files: Files,
}

/// What the load line has to count of the files that flags name; a reload may bring no more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Files {
    /// Bytes that the check of a password takes.
    pub check_memory: usize,
    /// Accounts, where there is a file of them.
    pub accounts: Option<usize>,
    /// Ranges of addresses, where there is a deny list.
    pub ranges: Option<usize>,
}

impl Files {
    /// The most that a reload may bring to a server that was started with these.
    #[must_use]
    pub fn most(self) -> Files {
        let most = |count: usize| 2 * count + MORE_AT_RELOAD;
        Files { accounts: self.accounts.map(most), ranges: self.ranges.map(most), ..self }
    }

    /// Bytes of the tables, of which there are two while one takes the place of the other.
    fn bytes(self) -> usize {
        let most = self.most();
        2 * (most.accounts.unwrap_or(0) * ACCOUNT_BYTES + most.ranges.unwrap_or(0) * RANGE_BYTES)
    }
}

/// Whose limit of memory it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryLimit {
    /// `--memory-limit`.
    Flag,
    /// The cgroup of this process, or one above it.
    Cgroup,
}

/// The host can't carry the load line.
#[derive(Debug, PartialEq, Eq)]
pub enum Overloaded {
    /// Not enough descriptors.
    Descriptors {
        /// How many the flags need.
        needed: usize,
        /// The hard limit.
        allowed: u64,
    },
    /// Not enough memory.
    Memory {
        /// Bytes of the worst case.
        needed: usize,
        /// Bytes that are allowed.
        allowed: u64,
        /// By whom.
        by: MemoryLimit,
        /// Workers that would fit; none does where this is 0.
        fitting: usize,
    },
}

impl Allowed {
    /// Asks the flags and the host.
    #[must_use]
    pub fn now(config: &Config, files: Files) -> Self {
        let flag = config.memory_limit().map(|bytes| (bytes, MemoryLimit::Flag));
        let cgroup = host::cgroup_memory().map(|bytes| (bytes, MemoryLimit::Cgroup));
        Allowed {
            memory: flag.into_iter().chain(cgroup).min_by_key(|(bytes, _)| *bytes),
            descriptors: getrlimit(Resource::Nofile).maximum,
            wide_window: host::send_buffer_max(),
            files,
        }
    }

    /// The load line of a configuration on this host.
    #[must_use]
    pub fn load_line(&self, config: &Config) -> LoadLine {
        LoadLine::of(config, self.wide_window, self.files)
    }

    /// The configuration with the number of workers settled: for `--workers auto` the largest pool
    /// that fits.
    #[must_use]
    pub fn settle(&self, config: Config) -> Config {
        if !config.workers_auto() {
            return config;
        }
        let ports = config.passive_ports().len();
        let most = self.fitting(&config).min(ports).min(WORKERS_AUTO_MAX);
        config.with_workers(most)
    }

    /// How many workers fit, with all else as it is: more of them never cost less.
    fn fitting(&self, config: &Config) -> usize {
        let (mut fit, mut too_many) = (0, WORKERS_MAX + 1);
        while fit + 1 < too_many {
            let workers = fit.midpoint(too_many);
            match self.short(&self.load_line(&config.clone().with_workers(workers))) {
                None => fit = workers,
                Some(_) => too_many = workers,
            }
        }
        fit
    }

    /// What a load line is short of.
    fn short(&self, line: &LoadLine) -> Option<Short> {
        let descriptors = self.descriptors.filter(|&most| most < line.descriptors as u64);
        let memory = self.memory.filter(|(most, _)| *most < line.bytes as u64);
        descriptors.map(Short::Descriptors).or(memory.map(|(most, by)| Short::Memory(most, by)))
    }
}

/// What there is too little of, and how much of it is allowed.
#[derive(Debug, Clone, Copy)]
enum Short {
    Descriptors(u64),
    Memory(u64, MemoryLimit),
}

impl LoadLine {
    /// Computes it from the flags and what the files that they name bring, where a send buffer may grow to
    /// `wide_window` bytes.
    #[must_use]
    fn of(config: &Config, wide_window: usize, files: Files) -> Self {
        let control = KERNEL_SOCKET + 2 * (CONTROL_RECEIVE_BUFFER + CONTROL_SEND_BUFFER);
        let data = data_connection(config.uploads().then(|| config.storing().window));
        let buffers = DATA_BUFFER + NAMES_BUFFER + READ_BUFFER + PATH_MAX + 2 * LINE_MAX + 2 * REPLY_BUFFER + MOMENTARY;
        let worker = config.stack_size().min(STACK_TOUCHED) + KERNEL_THREAD + buffers + control + data + SLOT;
        let wide = in_flight(wide_window).saturating_sub(in_flight(NARROW_WINDOW));
        let listeners = config.listen().len().max(1);
        // Where uploads are possible the files of a root are counted now and then.
        let (more_per_session, sweep) = match config.uploads() {
            true => (DESCRIPTORS_PER_WRITER, (SWEEP_MEMORY, SWEEP_DESCRIPTORS)),
            false => (0, (0, 0)),
        };
        let per_session = DESCRIPTORS_PER_SESSION + more_per_session;
        let watcher = usize::from(config.listing_memory() > 0);
        LoadLine {
            sessions: config.workers(),
            queued: config.queue(),
            bytes: PROCESS
                + config.workers() * worker
                + config.wide_transfers() * wide
                + config.queue() * (control + SLOT)
                + config.access().password_checks * files.check_memory
                + files.bytes()
                + config.listing_memory()
                + sweep.0
                + journal(config),
            descriptors: config.workers() * per_session
                + config.queue()
                + listeners
                + watcher
                + DESCRIPTORS_SPARE
                + sweep.1,
        }
    }

    /// Whether it is within what is allowed.
    ///
    /// # Errors
    /// What is short.
    pub fn check(&self, allowed: &Allowed, config: &Config) -> Result<(), Overloaded> {
        match allowed.short(self) {
            None => Ok(()),
            Some(Short::Descriptors(most)) => Err(Overloaded::Descriptors { needed: self.descriptors, allowed: most }),
            Some(Short::Memory(most, by)) => {
                let fitting = allowed.fitting(config);
                Err(Overloaded::Memory { needed: self.bytes, allowed: most, by, fitting })
            }
        }
    }

    /// Raises the soft limit of descriptors to what is needed, which the hard limit allows.
    ///
    /// # Errors
    /// [`Overloaded`] where the kernel does not let it.
    pub fn claim_descriptors(&self) -> Result<(), Overloaded> {
        let limit = getrlimit(Resource::Nofile);
        let needed = self.descriptors as u64;
        let Some(current) = limit.current.filter(|&current| current < needed) else {
            return Ok(());
        };
        let raised = Rlimit { current: Some(needed), maximum: limit.maximum };
        setrlimit(Resource::Nofile, raised)
            .map_err(|_| Overloaded::Descriptors { needed: self.descriptors, allowed: current })
    }
}

/// What is written down waits in a buffer.
fn journal(config: &Config) -> usize {
    match config.records().transfer_log.is_some() || config.records().events.is_some() {
        true => Journal::worst_case_bytes(),
        false => 0,
    }
}

/// What the data connection of one session can cost, with the receive window that it may have where the
/// session may write. At a passive port either strangers wait, each with the same window, or a transfer runs
/// over the connection that came. Over that one nothing is sent and received at once, but who fills its
/// window and then asks for a file has both.
fn data_connection(window: Option<usize>) -> usize {
    let (backlog, receive) = match window {
        None => (PASSIVE_BACKLOG, 2 * DATA_RECEIVE_BUFFER),
        Some(window) => (PASSIVE_BACKLOG_RECEIVING, window),
    };
    // The kernel lets one more come than the backlog has.
    let strangers = (backlog.unsigned_abs() as usize + 1) * (KERNEL_SOCKET + receive);
    2 * KERNEL_SOCKET + strangers.max(in_flight(NARROW_WINDOW) + receive)
}

/// What a window of this size can hold: its bytes, unsent or unacknowledged, and, where they are sent as they
/// are, the pages of the file as well, which can't be given up until then.
fn in_flight(window: usize) -> usize {
    2 * (window + SEGMENT)
}

impl fmt::Display for LoadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "load line: {} sessions, {} queued, worst case {} MiB, {} descriptors",
            self.sessions,
            self.queued,
            mib(self.bytes as u64),
            self.descriptors
        )
    }
}

impl fmt::Display for Overloaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Overloaded::Descriptors { needed, allowed } => write!(
                f,
                "--workers and --queue need {needed} descriptors, but the limit (RLIMIT_NOFILE) is {allowed}: \
                 lower them, or raise the limit"
            ),
            Overloaded::Memory { needed, allowed, by, fitting } => {
                let by = match by {
                    MemoryLimit::Flag => "--memory-limit",
                    MemoryLimit::Cgroup => "the memory limit of the cgroup",
                };
                let (needed, allowed) = (mib(*needed as u64), mib(*allowed));
                write!(f, "--workers: the worst case is {needed} MiB, but {by} is {allowed} MiB: ")?;
                match fitting {
                    0 => write!(f, "no worker fits; raise the limit, or lower --queue or --listing-memory"),
                    fitting => write!(f, "{fitting} workers fit, and --workers auto takes them"),
                }
            }
        }
    }
}

fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(1024 * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Invocation, from_arguments};
    use crate::limits::{UPLOAD_WINDOW, WIDE_WINDOW};

    fn config(flags: &str) -> Config {
        let arguments = format!("serve {flags}");
        match from_arguments(arguments.split_whitespace().map(Into::into)) {
            Ok(Invocation::Serve(config)) => config,
            other => panic!("{other:?}"),
        }
    }

    fn load_line(flags: &str) -> LoadLine {
        LoadLine::of(&config(flags), WIDE_WINDOW, NO_FILES)
    }

    const OPEN: Allowed = Allowed { memory: None, descriptors: None, wide_window: WIDE_WINDOW, files: NO_FILES };
    const NO_FILES: Files = Files { check_memory: 0, accounts: None, ranges: None };

    #[test]
    fn auto_takes_the_largest_pool_that_fits_and_one_more_does_not() {
        let limits = [
            Allowed { memory: Some((64 << 20, MemoryLimit::Cgroup)), ..OPEN },
            Allowed { memory: Some((300 << 20, MemoryLimit::Flag)), descriptors: Some(1024), ..OPEN },
            Allowed { descriptors: Some(512), ..OPEN },
        ];
        for allowed in limits {
            let settled = allowed.settle(config("--workers auto --queue 16"));
            let workers = settled.workers();
            assert!(workers > 1, "{allowed:?}");
            assert_eq!(LoadLine::of(&settled, WIDE_WINDOW, NO_FILES).check(&allowed, &settled), Ok(()), "{allowed:?}");
            let more = settled.with_workers(workers + 1);
            assert!(LoadLine::of(&more, WIDE_WINDOW, NO_FILES).check(&allowed, &more).is_err(), "{allowed:?}");
        }
        assert_eq!(OPEN.settle(config("--workers auto")).workers(), WORKERS_AUTO_MAX);
        let ports = OPEN.settle(config("--workers auto --passive-ports 3000-3009"));
        assert_eq!(ports.workers(), 10);
    }

    #[test]
    fn a_pool_that_was_asked_for_is_not_changed_but_refused() {
        let allowed = Allowed { memory: Some((16 << 20, MemoryLimit::Flag)), ..OPEN };
        let asked = allowed.settle(config("--workers 256"));
        assert_eq!(asked.workers(), 256);
        let refused = LoadLine::of(&asked, WIDE_WINDOW, NO_FILES).check(&allowed, &asked).unwrap_err().to_string();
        for part in ["--workers", "--memory-limit", "16 MiB", "--workers auto"] {
            assert!(refused.contains(part), "{part} in {refused}");
        }
        let nothing = Allowed { memory: Some((1 << 20, MemoryLimit::Cgroup)), ..OPEN };
        let refused = LoadLine::of(&asked, WIDE_WINDOW, NO_FILES).check(&nothing, &asked).unwrap_err().to_string();
        assert!(refused.contains("no worker fits") && refused.contains("cgroup"), "{refused}");
    }

    #[test]
    fn each_worker_and_each_place_in_the_queue_costs_what_it_can_use() {
        let one = load_line("--workers 1 --queue 1");
        let two = load_line("--workers 2 --queue 1 --wide-transfers 1");
        let queued = load_line("--workers 1 --queue 2");
        assert_eq!(two.descriptors - one.descriptors, DESCRIPTORS_PER_SESSION);
        assert_eq!(queued.descriptors - one.descriptors, 1);
        let worker = two.bytes - one.bytes;
        assert!(worker > DATA_BUFFER + NAMES_BUFFER + 2 * NARROW_WINDOW, "{worker}");
        let wide = load_line("--workers 2 --queue 1 --wide-transfers 2").bytes - two.bytes;
        assert_eq!(wide + 2 * NARROW_WINDOW, 2 * WIDE_WINDOW);
        let place = queued.bytes - one.bytes;
        assert!(place > 2 * (CONTROL_RECEIVE_BUFFER + CONTROL_SEND_BUFFER) && place < worker, "{place}");
    }

    #[test]
    fn a_session_that_may_write_costs_its_receive_window_and_that_of_each_stranger() {
        let (reading, writing) = (data_connection(None), data_connection(Some(UPLOAD_WINDOW)));
        let more = writing - reading;
        assert!((UPLOAD_WINDOW - 2 * DATA_RECEIVE_BUFFER..UPLOAD_WINDOW + SEGMENT).contains(&more), "{more}");
        let strangers = data_connection(Some(64 << 20)) - data_connection(Some(63 << 20));
        assert_eq!(strangers, (PASSIVE_BACKLOG_RECEIVING as usize + 1) << 20);
    }

    #[test]
    fn what_is_remembered_of_folders_is_counted_whole() {
        let (off, on) = (load_line("--listing-memory off"), load_line("--listing-memory 64M"));
        assert_eq!((on.bytes - off.bytes, on.descriptors - off.descriptors), (64 << 20, 1));
        let (default, twice) = (load_line("--workers 256"), load_line("--workers 512 --listing-memory 8M"));
        assert_eq!(default.bytes - off.bytes, 8 << 20);
        assert_eq!(twice.bytes + (8 << 20), load_line("--workers 512").bytes);
    }

    #[test]
    fn it_is_told_in_one_line() {
        let line = load_line("--workers 8 --queue 4").to_string();
        let shape: Vec<String> = line.split(' ').map(|word| word.replace(|c: char| c.is_ascii_digit(), "")).collect();
        assert_eq!(shape.join(" "), "load line:  sessions,  queued, worst case  MiB,  descriptors");
        assert!(line.starts_with("load line: 8 sessions, 4 queued, "), "{line}");
    }

    #[test]
    fn what_is_too_much_names_the_flags_and_both_numbers() {
        let text = Overloaded::Descriptors { needed: 1633, allowed: 1024 }.to_string();
        for part in ["--workers", "--queue", "1633", "1024"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
