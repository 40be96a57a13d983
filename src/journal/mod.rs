//! What users did, for programs to read: `--transfer-log`, a line for each transfer, and `--events`, a line of
//! JSON for each event.
//!
//! Owns the lines on their way from a session to a file. A session makes its line itself and leaves it in a
//! buffer of fixed size; one thread writes. Where there is no room the line is dropped and counted, and as soon
//! as there is room a line says how many are missing. No session ever waits for a disk, and no error of a file
//! ends anything.

mod event;
mod json;
mod sink;
mod writer;
mod xferlog;

pub use event::{Direction, Event, Kind};

use crate::limits::{
    JOURNAL_BYTES, JOURNAL_GOODBYE, JOURNAL_LINES, JOURNAL_PENDING, JOURNAL_STACK, JOURNAL_STRANGERS_BYTES,
};
use crossbeam_channel::{Receiver, Sender, bounded};
use event::{LONGEST, Moment};
use parking_lot::Mutex;
use sink::Sink;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::thread::{Builder, JoinHandle};
use writer::Writer;

const _: () = assert!(LONGEST + 1 < JOURNAL_PENDING, "any line fits the buffer of its file");
const _: () = assert!(LONGEST + 1 + LINE < JOURNAL_STRANGERS_BYTES, "any line can wait");

/// What a line costs besides its bytes: what the allocator adds.
const LINE: usize = 32;

/// A place in the channel.
const PLACE: usize = size_of::<Line>() + size_of::<usize>();

/// Memory of the writer's thread in the kernel.
const KERNEL_THREAD: usize = 25 * 1024;

/// Where the events go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    /// Standard output.
    Stdout,
    /// A file, or a pipe with a name.
    File(&'a Path),
}

/// The journal, shared by all sessions.
#[derive(Debug)]
pub struct Journal(Option<Running>);

#[derive(Debug)]
struct Running {
    lines: Sender<Line>,
    shared: Arc<Shared>,
    transfers: bool,
    events: bool,
    /// Disconnected once the writer has ended.
    done: Receiver<()>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Which file a line is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Log {
    Transfers,
    Events,
}

/// A line on its way.
#[derive(Debug)]
struct Line {
    log: Log,
    bytes: Box<[u8]>,
}

/// What sessions and the writer share.
#[derive(Debug)]
struct Shared {
    /// What the lines cost that are in the channel or being made.
    queued: AtomicUsize,
    dropped: [AtomicU64; Log::COUNT],
    reopen: AtomicBool,
    stop: AtomicBool,
    bell: Sender<()>,
}

impl Journal {
    /// One that notes nothing, and costs nothing.
    #[must_use]
    pub fn off() -> Self {
        Journal(None)
    }

    /// Opens the files, which are made where they are missing, with mode 0640 less the umask, and starts the
    /// writer. A pipe that nobody reads yet is no error. Without a file it is [`Journal::off`].
    ///
    /// # Errors
    /// A file can't be opened, or a thread can't be had; the text names the flag and the file.
    pub fn start(transfer_log: Option<&Path>, events: Option<Target<'_>>) -> io::Result<Self> {
        if transfer_log.is_none() && events.is_none() {
            return Ok(Self::off());
        }
        let transfers = transfer_log.map(|path| Sink::open(Log::Transfers, Target::File(path))).transpose()?;
        let sinks = [transfers, events.map(|target| Sink::open(Log::Events, target)).transpose()?];
        let (sender, lines) = bounded(JOURNAL_LINES);
        let (bell, ears) = bounded(1);
        let (alive, done) = bounded(0);
        let shared = Arc::new(Shared {
            queued: AtomicUsize::new(0),
            dropped: [const { AtomicU64::new(0) }; Log::COUNT],
            reopen: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            bell,
        });
        let writer = Writer { lines, bell: ears, shared: Arc::clone(&shared), sinks, done: alive };
        let builder = Builder::new().name("journal".to_owned()).stack_size(JOURNAL_STACK);
        let thread = builder.spawn(move || writer.run())?;
        Ok(Journal(Some(Running {
            lines: sender,
            shared,
            transfers: transfer_log.is_some(),
            events: events.is_some(),
            done,
            thread: Mutex::new(Some(thread)),
        })))
    }

    /// Notes an event. Never waits: where there is no room it is dropped and counted.
    pub fn note(&self, event: &Event<'_>) {
        let Some(running) = &self.0 else {
            return;
        };
        let at = Moment::now();
        if running.transfers && matches!(event, Event::Transfer { .. }) {
            running.send(Log::Transfers, event, at);
        }
        if running.events {
            running.send(Log::Events, event, at);
        }
    }

    /// How many lines were dropped since the start.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.0.as_ref().map_or(0, |running| running.shared.dropped.iter().map(|count| count.load(Relaxed)).sum())
    }

    /// Has the files opened anew, because they may have been moved. Where that fails the old ones stay in use.
    pub fn reopen(&self) {
        if let Some(running) = &self.0 {
            running.shared.reopen.store(true, SeqCst);
            running.shared.ring();
        }
    }

    /// Writes what waits, within [`JOURNAL_GOODBYE`], and ends the writer. What is noted later is dropped.
    pub fn stop(&self) {
        let Some(running) = &self.0 else {
            return;
        };
        running.shared.stop.store(true, SeqCst);
        running.shared.ring();
        // The writer keeps to the time itself, unless a disk does not answer: then the process must not hang.
        let _ = running.done.recv_timeout(2 * JOURNAL_GOODBYE);
        let thread = running.thread.lock().take();
        if let Some(thread) = thread.filter(JoinHandle::is_finished) {
            let _ = thread.join();
        }
    }

    /// The most memory in bytes that a journal uses, the kernel's included, once it is started.
    #[must_use]
    pub const fn worst_case_bytes() -> usize {
        JOURNAL_BYTES + JOURNAL_LINES * PLACE + Log::COUNT * JOURNAL_PENDING + JOURNAL_STACK + KERNEL_THREAD
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Running {
    /// Makes the line, where there is room for the longest that it can be, and leaves it to the writer.
    fn send(&self, log: Log, event: &Event<'_>, at: Moment) {
        let most = if event.is_by_strangers() { JOURNAL_STRANGERS_BYTES } else { JOURNAL_BYTES };
        let longest = event.longest() + 1;
        if !self.shared.reserve(longest + LINE, most) {
            return self.shared.drop_line(log);
        }
        let mut bytes = Vec::with_capacity(longest);
        log.write(&mut bytes, event, at);
        let line = Line { log, bytes: bytes.into_boxed_slice() };
        let cost = line.cost();
        self.shared.settle(longest + LINE, cost);
        if self.lines.try_send(line).is_err() {
            self.shared.release(cost);
            self.shared.drop_line(log);
        }
    }
}

impl Log {
    const COUNT: usize = 2;

    fn flag(self) -> &'static str {
        match self {
            Log::Transfers => "--transfer-log",
            Log::Events => "--events",
        }
    }

    /// Appends the line of an event, with its end.
    fn write(self, out: &mut Vec<u8>, event: &Event<'_>, at: Moment) {
        match self {
            Log::Transfers => xferlog::write(out, event, at),
            Log::Events => json::write(out, event, at),
        }
        out.push(b'\n');
    }

    /// Appends the line that tells of dropped ones, with its end.
    fn write_dropped(self, out: &mut Vec<u8>, lines: u64, at: Moment) {
        match self {
            Log::Transfers => xferlog::write_dropped(out, lines, at),
            Log::Events => json::write_dropped(out, lines, at),
        }
        out.push(b'\n');
    }
}

impl Line {
    fn cost(&self) -> usize {
        self.bytes.len() + LINE
    }
}

impl Shared {
    /// Takes `bytes` of the memory for lines, of which at most `most` may be in use then.
    fn reserve(&self, bytes: usize, most: usize) -> bool {
        let fits = |queued: usize| queued.checked_add(bytes).filter(|&sum| sum <= most);
        self.queued.fetch_update(Relaxed, Relaxed, fits).is_ok()
    }

    /// Gives back what a line did not need.
    fn settle(&self, reserved: usize, used: usize) {
        match reserved.checked_sub(used) {
            Some(left) => self.release(left),
            None => _ = self.queued.fetch_add(used - reserved, Relaxed),
        }
    }

    fn release(&self, bytes: usize) {
        self.queued.fetch_sub(bytes, Relaxed);
    }

    /// Counts a line that is not written, and has the writer say so.
    fn drop_line(&self, log: Log) {
        self.count_dropped(log);
        self.ring();
    }

    /// Counts a line that is not written.
    fn count_dropped(&self, log: Log) {
        if let Some(count) = self.dropped.get(log as usize) {
            count.fetch_add(1, Relaxed);
        }
    }

    fn dropped(&self, log: Log) -> u64 {
        self.dropped.get(log as usize).map_or(0, |count| count.load(Relaxed))
    }

    /// Where it rings already the writer has not heard it yet, and will see all.
    fn ring(&self) {
        let _ = self.bell.try_send(());
    }
}
