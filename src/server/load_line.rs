//! The load line: the worst case of everything the server can use, computed from the flags before the
//! first client connects, and held against the limits of the host.

use crate::config::Config;
use crate::limits::{
    CONTROL_RECEIVE_BUFFER, CONTROL_SEND_BUFFER, DATA_BUFFER, DATA_RECEIVE_BUFFER, DESCRIPTORS_PER_SESSION,
    DESCRIPTORS_SPARE, LINE_MAX, NAMES_BUFFER, NOTSENT_LOWAT, PASSIVE_BACKLOG, PATH_MAX, READ_BUFFER, REPLY_BUFFER,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fmt;

/// Memory of a thread in the kernel: its kernel stack, task and thread structures. Measured: 25 KiB.
const KERNEL_THREAD: usize = 25 * 1024;

/// Memory of a socket in the kernel besides its buffers, and of its descriptor.
const KERNEL_SOCKET: usize = 4 * 1024;

/// What one command may allocate for a moment: a pathname that is walked (28 KiB at most), a reply.
const MOMENTARY: usize = 32 * 1024;

/// Stack that a worker can touch; the rest is reserved, and costs nothing.
const STACK_TOUCHED: usize = 48 * 1024;

/// The process before its first worker: code, libraries, allocator, acceptor and reaper.
const PROCESS: usize = 3 * 1024 * 1024;

/// What a slot costs besides its sockets: registry rows, pulse, the reaper's memory.
const SLOT: usize = 512;

/// The worst case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadLine {
    sessions: usize,
    queued: usize,
    bytes: usize,
    descriptors: usize,
}

/// The host can't carry the load line.
#[derive(Debug, PartialEq, Eq)]
pub struct Overloaded {
    needed: usize,
    allowed: u64,
}

impl LoadLine {
    /// Computes it from the flags.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let listeners = config.listen().len().max(1);
        let control = KERNEL_SOCKET + 2 * (CONTROL_RECEIVE_BUFFER + CONTROL_SEND_BUFFER);
        // A data connection holds what is not sent and about as much on its way.
        let waiting = KERNEL_SOCKET + 2 * DATA_RECEIVE_BUFFER;
        let data = 2 * KERNEL_SOCKET + 2 * NOTSENT_LOWAT as usize + PASSIVE_BACKLOG.unsigned_abs() as usize * waiting;
        let buffers = DATA_BUFFER + NAMES_BUFFER + READ_BUFFER + PATH_MAX + 2 * LINE_MAX + 2 * REPLY_BUFFER + MOMENTARY;
        let worker = config.stack_size().min(STACK_TOUCHED) + KERNEL_THREAD + buffers + control + data;
        let slots = config.workers() + config.queue();
        LoadLine {
            sessions: config.workers(),
            queued: config.queue(),
            bytes: PROCESS + config.workers() * worker + config.queue() * control + slots * SLOT,
            descriptors: config.workers() * DESCRIPTORS_PER_SESSION + config.queue() + listeners + DESCRIPTORS_SPARE,
        }
    }

    /// Raises the soft limit of descriptors to what is needed.
    ///
    /// # Errors
    /// [`Overloaded`] where the hard limit is lower.
    pub fn claim_descriptors(&self) -> Result<(), Overloaded> {
        let limit = getrlimit(Resource::Nofile);
        let needed = self.descriptors as u64;
        if limit.current.is_none_or(|current| current >= needed) {
            return Ok(());
        }
        let overloaded = |allowed| Overloaded { needed: self.descriptors, allowed };
        if let Some(maximum) = limit.maximum.filter(|&maximum| maximum < needed) {
            return Err(overloaded(maximum));
        }
        setrlimit(Resource::Nofile, Rlimit { current: Some(needed), maximum: limit.maximum })
            .map_err(|_| overloaded(limit.current.unwrap_or(0)))
    }
}

impl fmt::Display for LoadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = self.bytes.div_ceil(1024 * 1024);
        write!(
            f,
            "load line: {} sessions, {} queued, worst case {mib} MiB, {} descriptors",
            self.sessions, self.queued, self.descriptors
        )
    }
}

impl fmt::Display for Overloaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "--workers and --queue need {} descriptors, but the hard limit (RLIMIT_NOFILE) is {}: lower them, or raise the limit",
            self.needed, self.allowed
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Invocation, from_arguments};

    fn load_line(flags: &str) -> LoadLine {
        let arguments = format!("serve {flags}");
        let config = match from_arguments(arguments.split_whitespace().map(Into::into)) {
            Ok(Invocation::Serve(config)) => config,
            other => panic!("{other:?}"),
        };
        LoadLine::of(&config)
    }

    #[test]
    fn each_worker_and_each_place_in_the_queue_costs_what_it_can_use() {
        let one = load_line("--workers 1 --queue 1");
        let two = load_line("--workers 2 --queue 1");
        let queued = load_line("--workers 1 --queue 2");
        assert_eq!(two.descriptors - one.descriptors, DESCRIPTORS_PER_SESSION);
        assert_eq!(queued.descriptors - one.descriptors, 1);
        let worker = two.bytes - one.bytes;
        assert!(worker > DATA_BUFFER + NAMES_BUFFER + 2 * NOTSENT_LOWAT as usize, "{worker}");
        let place = queued.bytes - one.bytes;
        assert!(place > 2 * (CONTROL_RECEIVE_BUFFER + CONTROL_SEND_BUFFER) && place < worker, "{place}");
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
        let text = Overloaded { needed: 1633, allowed: 1024 }.to_string();
        for part in ["--workers", "--queue", "1633", "1024"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
