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
        // The writer is about to end, or has.
        if self.shared.stop.load(SeqCst) {
            return self.shared.count_dropped(log);
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use std::fs::{self, File, read_to_string};
    use std::io::{BufRead, BufReader};
    use std::net::SocketAddr;
    use std::os::unix::fs::PermissionsExt;
    use std::thread;
    use std::time::{Duration, Instant};
    use tempfile::TempDir;

    /// What sessions and a writer share, with nobody at the bell.
    pub(super) fn shared() -> Shared {
        Shared {
            queued: AtomicUsize::new(0),
            dropped: [const { AtomicU64::new(0) }; Log::COUNT],
            reopen: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            bell: bounded(1).0,
        }
    }

    fn peer() -> SocketAddr {
        "192.0.2.7:40001".parse().unwrap()
    }

    fn transfer(path: &[u8]) -> Event<'_> {
        Event::Transfer {
            peer: peer(),
            user: b"anonymous",
            path,
            direction: Direction::Out,
            kind: Kind::Binary,
            bytes: 1024,
            took: Duration::from_millis(2_345),
            broken: None,
        }
    }

    fn fifo(folder: &TempDir, name: &str) -> std::path::PathBuf {
        let path = folder.path().join(name);
        mknodat(CWD, &path, FileType::Fifo, Mode::RWXU, 0).unwrap();
        path
    }

    /// A journal to whose lines nobody attends.
    fn unattended() -> (Journal, Receiver<Line>) {
        let (sender, lines) = bounded(JOURNAL_LINES);
        let running = Running {
            lines: sender,
            shared: Arc::new(shared()),
            transfers: true,
            events: true,
            done: bounded(0).1,
            thread: Mutex::new(None),
        };
        (Journal(Some(running)), lines)
    }

    fn await_that(what: &str, mut holds: impl FnMut() -> bool) {
        let last = Instant::now() + Duration::from_secs(10);
        while !holds() {
            assert!(Instant::now() < last, "not within ten seconds: {what}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn transfers_are_in_both_logs_and_other_events_in_one() {
        let folder = tempfile::tempdir().unwrap();
        let (transfers, events) = (folder.path().join("xferlog"), folder.path().join("events"));
        let journal = Journal::start(Some(&transfers), Some(Target::File(&events))).unwrap();
        journal.note(&Event::Login { peer: peer(), user: b"anonymous" });
        journal.note(&transfer(b"/pub/a b.txt"));
        journal.note(&Event::Refused { peer: peer(), why: "full" });
        journal.stop();
        let transfers_told = read_to_string(&transfers).unwrap();
        assert!(
            transfers_told.ends_with(" 2 192.0.2.7 1024 /pub/a%20b.txt b _ o a anonymous ftp 0 * c\n"),
            "{transfers_told}"
        );
        let told = read_to_string(&events).unwrap();
        let names: Vec<&str> = told.lines().map(|line| line.split('"').nth(7).unwrap()).collect();
        assert_eq!((names, transfers_told.lines().count()), (vec!["login", "transfer", "refused"], 1));
        assert_eq!(fs::metadata(&events).unwrap().permissions().mode() & 0o137, 0, "0640, less the umask");
        assert_eq!(journal.dropped(), 0);
        // After the end nothing is written, and nothing hangs.
        for _ in 0..2 * JOURNAL_LINES {
            journal.note(&Event::Login { peer: peer(), user: b"late" });
        }
        journal.stop();
        assert_eq!(journal.dropped(), 2 * JOURNAL_LINES as u64);
        assert_eq!(read_to_string(&events).unwrap(), told);
    }

    #[test]
    fn without_a_file_nothing_is_noted_and_a_wrong_file_is_named_with_its_flag() {
        let journal = Journal::start(None, None).unwrap();
        journal.note(&transfer(b"/a"));
        journal.reopen();
        journal.stop();
        assert_eq!((journal.dropped(), journal.0.is_none()), (0, true));
        let folder = tempfile::tempdir().unwrap();
        let error = Journal::start(Some(folder.path()), None).unwrap_err().to_string();
        assert!(error.starts_with("--transfer-log: \"/") && error.ends_with("\": is a directory"), "{error}");
        let missing = folder.path().join("none/events");
        let error = Journal::start(None, Some(Target::File(&missing))).unwrap_err().to_string();
        assert!(error.starts_with("--events: \"/") && error.ends_with("\": no such file or directory"), "{error}");
    }

    #[test]
    fn a_file_that_was_moved_is_made_anew_at_a_reload() {
        let folder = tempfile::tempdir().unwrap();
        let logs = folder.path().join("logs");
        fs::create_dir(&logs).unwrap();
        let (path, old) = (logs.join("events"), logs.join("events.1"));
        let journal = Journal::start(None, Some(Target::File(&path))).unwrap();
        let note = |user: &[u8]| journal.note(&Event::Login { peer: peer(), user });
        let has = |path: &Path, user: &str| read_to_string(path).is_ok_and(|text| text.contains(user));
        note(b"first");
        await_that("the first line is written", || has(&path, "first"));
        fs::rename(&path, &old).unwrap();
        note(b"second");
        await_that("the second line goes to the old file", || has(&old, "second"));
        journal.reopen();
        await_that("the file is made anew", || path.exists());
        note(b"third");
        await_that("the third line goes to the new file", || has(&path, "third"));
        // Where that fails the file stays the one that it was.
        let away = folder.path().join("away");
        fs::rename(&logs, &away).unwrap();
        journal.reopen();
        note(b"fourth");
        journal.stop();
        let lines = |name: &str| read_to_string(away.join(name)).unwrap().lines().count();
        assert_eq!((lines("events.1"), lines("events"), journal.dropped()), (2, 2, 0));
    }

    #[test]
    fn a_session_never_waits_and_what_does_not_fit_is_counted() {
        let (journal, lines) = unattended();
        let running = journal.0.as_ref().unwrap();
        let start = Instant::now();
        let user = [b'u'; 300];
        for _ in 0..100_000 {
            journal.note(&Event::Refused { peer: peer(), why: "full" });
            journal.note(&Event::LoginRefused { peer: peer(), user: &user, why: "wrong" });
        }
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
        // Strangers have left room for a user.
        let by_strangers = lines.len() as u64;
        assert_eq!(journal.dropped(), 200_000 - by_strangers);
        assert!(running.shared.queued.load(Relaxed) <= JOURNAL_STRANGERS_BYTES);
        journal.note(&transfer(b"/a"));
        assert_eq!((lines.len() as u64, journal.dropped()), (by_strangers + 2, 200_000 - by_strangers));
        for _ in 0..10_000 {
            journal.note(&transfer(b"/a"));
        }
        let queued = running.shared.queued.load(Relaxed);
        assert!(queued <= JOURNAL_BYTES && lines.len() <= JOURNAL_LINES);
        assert_eq!(lines.len() as u64 + journal.dropped(), 200_000 + 20_002);
        // What is counted is what there is.
        assert_eq!(lines.try_iter().map(|line| line.cost()).sum::<usize>(), queued);
    }

    #[test]
    fn the_number_of_lines_is_bounded_as_well() {
        let (journal, lines) = unattended();
        let running = journal.0.as_ref().unwrap();
        for _ in 0..JOURNAL_LINES {
            running.lines.try_send(Line { log: Log::Events, bytes: Box::new([]) }).unwrap();
        }
        journal.note(&transfer(b"/a"));
        assert_eq!((journal.dropped(), running.shared.queued.load(Relaxed), lines.len()), (2, 0, JOURNAL_LINES));
    }

    #[test]
    fn a_pipe_that_nobody_reads_holds_up_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let (pipe, transfers) = (fifo(&folder, "events"), folder.path().join("xferlog"));
        let start = Instant::now();
        let journal = Journal::start(Some(&transfers), Some(Target::File(&pipe))).unwrap();
        let noted = 20_000;
        for number in 0..noted {
            journal.note(&transfer(format!("/{number:06}").as_bytes()));
        }
        await_that("all lines are taken", || journal.0.as_ref().unwrap().shared.queued.load(Relaxed) == 0);
        assert!(journal.dropped() > 0);
        // The other log goes on.
        journal.note(&transfer(b"/other"));
        await_that("the other log goes on", || {
            read_to_string(&transfers).unwrap().lines().any(|line| line.contains(" /other "))
        });
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
        // Somebody comes to read: what is there is whole, and what is not is told.
        let reader = BufReader::new(File::open(&pipe).unwrap());
        let (mut lines, mut missing) = (0, 0);
        for line in reader.lines() {
            let line: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
            if line["event"] == "dropped" {
                missing += line["lines"].as_u64().unwrap();
                journal.stop();
            } else {
                lines += 1;
            }
        }
        assert_eq!(lines + missing, noted + 1);
        let text = read_to_string(&transfers).unwrap();
        let told = text
            .lines()
            .filter_map(|line| line.strip_suffix(" lines dropped")?.rsplit(' ').next()?.parse::<u64>().ok());
        let there = text.lines().filter(|line| !line.starts_with('#')).count() as u64;
        assert_eq!(there + told.sum::<u64>(), noted + 1);
    }

    #[test]
    fn a_reader_that_goes_and_another_that_comes_end_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = fifo(&folder, "events");
        let opened = thread::spawn({
            let pipe = pipe.clone();
            move || BufReader::new(File::open(pipe).unwrap())
        });
        let journal = Journal::start(None, Some(Target::File(&pipe))).unwrap();
        journal.note(&Event::Login { peer: peer(), user: b"first" });
        let mut reader = opened.join().unwrap();
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        assert!(line.contains("first"), "{line}");
        drop(reader);
        journal.note(&Event::Login { peer: peer(), user: b"second" });
        line.clear();
        BufReader::new(File::open(&pipe).unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("second"), "{line}");
    }

    #[test]
    fn a_disk_that_is_full_ends_neither_the_journal_nor_its_end() {
        let journal = Journal::start(None, Some(Target::File(Path::new("/dev/full")))).unwrap();
        for _ in 0..5_000 {
            journal.note(&transfer(b"/a"));
        }
        await_that("lines are dropped", || journal.dropped() > 0);
        let start = Instant::now();
        journal.stop();
        assert!(start.elapsed() < 2 * JOURNAL_GOODBYE, "{:?}", start.elapsed());
        assert_eq!(journal.0.as_ref().unwrap().shared.queued.load(Relaxed), 0, "no line is held");
        assert_eq!(journal.dropped(), 5_000, "nothing was written");
    }

    #[test]
    fn sessions_at_once_get_whole_lines() {
        let folder = tempfile::tempdir().unwrap();
        let events = folder.path().join("events");
        let journal = Journal::start(None, Some(Target::File(&events))).unwrap();
        thread::scope(|scope| {
            for session in 0..4 {
                let journal = &journal;
                scope.spawn(move || {
                    for number in 0..2_000 {
                        journal.note(&transfer(format!("/{session}/{number}").as_bytes()));
                    }
                });
            }
        });
        journal.stop();
        let (mut last, mut lines, mut missing) = ([-1; 4], 0, 0);
        for line in read_to_string(&events).unwrap().lines() {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            missing += line["lines"].as_u64().unwrap_or(0);
            if let Some(path) = line["path"].as_str() {
                let (session, number) = path[1..].split_once('/').unwrap();
                let (session, number) = (session.parse::<usize>().unwrap(), number.parse::<i32>().unwrap());
                assert!(number > last[session], "in order");
                last[session] = number;
                lines += 1;
            }
        }
        assert_eq!((lines + missing, missing), (8_000, journal.dropped()));
        assert!(lines > 0);
        assert_eq!(journal.0.as_ref().unwrap().shared.queued.load(Relaxed), 0);
    }
}
