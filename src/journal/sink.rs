//! One place to which lines go: a file, a pipe with a name, or standard output.
//!
//! Owns the descriptor and the lines that wait for it. Never blocks: what can't be written now is tried again,
//! and what does not fit meanwhile is counted. A line is written whole or, where the disk gets full within it,
//! ended as soon as there is room.

use super::event::Moment;
use super::{Log, Shared, Target};
use crate::limits::{JOURNAL_AGAIN, JOURNAL_COMPLAINT, JOURNAL_PENDING, JOURNAL_RETRY};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs;
use rustix::io::{Errno, pread, write};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::Instant;

/// Bytes that go to a descriptor of others with one call: any pipe that has room takes as many at once (PIPE_BUF).
const SHARED_CHUNK: usize = 4096;

/// One of the logs, where it goes, and what waits for it.
#[derive(Debug)]
pub(super) struct Sink {
    log: Log,
    file: File,
    /// Lines, the first of them maybe begun.
    pending: Vec<u8>,
    /// Bytes of `pending` that are written.
    written: usize,
    /// Not before this.
    retry: Option<Instant>,
    complained: Option<Instant>,
    /// Drops that have a line.
    told: u64,
}

#[derive(Debug)]
enum File {
    /// Standard output: others use it as well.
    Shared(OwnedFd),
    /// A file of our own, and its descriptor once it could be opened.
    Path(PathBuf, Option<OwnedFd>),
}

/// A file that is open for lines.
struct Opened {
    descriptor: OwnedFd,
    /// It ends within a line, which is not ours to end.
    torn: bool,
}

impl Sink {
    /// Opens the file, which is made where it is missing. A pipe that nobody reads yet is opened later.
    pub(super) fn open(log: Log, target: Target<'_>) -> io::Result<Self> {
        // And the end of a line that an earlier run has begun.
        let mut pending = Vec::with_capacity(JOURNAL_PENDING + 1);
        let file = match target {
            Target::Stdout => File::Shared(io::stdout().as_fd().try_clone_to_owned()?),
            Target::File(path) => match open(path) {
                Ok(opened) => {
                    if opened.torn {
                        pending.push(b'\n');
                    }
                    File::Path(path.to_owned(), Some(opened.descriptor))
                }
                Err(Errno::NXIO) => {
                    log::warn!("{}: {path:?}: nobody reads this pipe yet", log.flag());
                    File::Path(path.to_owned(), None)
                }
                Err(error) => {
                    let text = format!("{}: {path:?}: {}", log.flag(), words(error));
                    return Err(io::Error::new(io::Error::from(error).kind(), text));
                }
            },
        };
        Ok(Sink { log, file, pending, written: 0, retry: None, complained: None, told: 0 })
    }

    /// Takes a line, with its end, or counts it as dropped.
    pub(super) fn push(&mut self, line: &[u8], shared: &Shared) {
        if self.pending.len() + line.len() > JOURNAL_PENDING {
            self.flush(Instant::now(), shared);
            self.pending.drain(..self.written);
            self.written = 0;
        }
        if self.pending.len() + line.len() > JOURNAL_PENDING {
            shared.count_dropped(self.log);
            return;
        }
        self.pending.extend_from_slice(line);
    }

    /// Writes what waits, and then how many lines were dropped, as far as that goes now.
    pub(super) fn flush(&mut self, now: Instant, shared: &Shared) {
        if self.retry.is_some_and(|at| now < at) {
            return;
        }
        self.retry = None;
        while self.written < self.pending.len() || self.tell_dropped(shared) {
            match self.write() {
                Ok(count) => self.written += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    self.retry = Some(now + JOURNAL_AGAIN);
                    return;
                }
                Err(error) => {
                    self.complain(error, now);
                    self.retry = Some(now + JOURNAL_RETRY);
                    return;
                }
            }
        }
    }

    /// With nothing left to write: makes the line about what was dropped, if anything was.
    fn tell_dropped(&mut self, shared: &Shared) -> bool {
        if !self.pending.is_empty() && self.complained.take().is_some() {
            log::warn!("{}: it can be written again", self.log.flag());
        }
        self.pending.clear();
        self.written = 0;
        let dropped = shared.dropped(self.log);
        if dropped == self.told {
            return false;
        }
        self.log.write_dropped(&mut self.pending, dropped - self.told, Moment::now());
        self.told = dropped;
        true
    }

    fn write(&mut self) -> Result<usize, Errno> {
        let rest = self.pending.get(self.written..).unwrap_or_default();
        let count = match &mut self.file {
            File::Shared(stdout) => {
                takes_more(stdout)?;
                write(stdout, chunk(rest))?
            }
            File::Path(_, Some(file)) => write(file, rest)?,
            File::Path(path, file @ None) => {
                *file = Some(open(path)?.descriptor);
                return Ok(0);
            }
        };
        if count == 0 { Err(Errno::IO) } else { Ok(count) }
    }

    fn complain(&mut self, error: Errno, now: Instant) {
        if self.complained.is_some_and(|at| now < at + JOURNAL_COMPLAINT) {
            return;
        }
        self.complained = Some(now);
        let text = match error {
            Errno::NXIO => "nobody reads this pipe".to_owned(),
            error => words(error),
        };
        match &self.file {
            File::Shared(_) => log::error!("{}: standard output can't be written: {text}", self.log.flag()),
            File::Path(path, _) => log::error!("{}: {path:?} can't be written: {text}", self.log.flag()),
        }
    }

    /// Opens the file anew, for it may have been moved; where that fails the old one stays.
    pub(super) fn reopen(&mut self, now: Instant, shared: &Shared) {
        self.retry = None;
        self.flush(now, shared);
        let File::Path(path, file) = &mut self.file else {
            return;
        };
        match open(path) {
            Ok(opened) => {
                *file = Some(opened.descriptor);
                self.retry = None;
                self.begin_anew(opened.torn, shared);
            }
            Err(error) => {
                let kept = if file.is_some() { "; the old file stays open" } else { "" };
                log::error!("{}: {path:?} can't be opened: {}{kept}", self.log.flag(), words(error));
            }
        }
    }

    /// What waits begins with a line: one that was begun in the old file is lost.
    fn begin_anew(&mut self, torn: bool, shared: &Shared) {
        if self.written > 0 && self.pending.get(self.written - 1) != Some(&b'\n') {
            let rest = self.pending.get(self.written..).unwrap_or_default();
            self.written += rest.iter().position(|&byte| byte == b'\n').map_or(rest.len(), |end| end + 1);
            shared.count_dropped(self.log);
        }
        self.pending.drain(..self.written);
        self.written = 0;
        if torn {
            self.pending.insert(0, b'\n');
        }
    }

    /// When it wants to be flushed again, if anything waits.
    pub(super) fn retry(&self) -> Option<Instant> {
        self.retry
    }

    /// Lets the next flush try at once.
    pub(super) fn hurry(&mut self) {
        self.retry = None;
    }

    /// Counts what waits as dropped.
    pub(super) fn give_up(&self, shared: &Shared) {
        (0..self.waiting()).for_each(|_| shared.count_dropped(self.log));
    }

    /// How many lines wait.
    pub(super) fn waiting(&self) -> usize {
        self.pending.get(self.written..).unwrap_or_default().iter().filter(|&&byte| byte == b'\n').count()
    }
}

/// Opens a file for appending without waiting for anything. A pipe that nobody reads is `ENXIO`.
fn open(path: &std::path::Path) -> Result<Opened, Errno> {
    let flags = fs::OFlags::APPEND | fs::OFlags::NONBLOCK | fs::OFlags::NOCTTY | fs::OFlags::CLOEXEC;
    let mode = fs::Mode::RUSR | fs::Mode::WUSR | fs::Mode::RGRP;
    let descriptor = fs::open(path, flags | fs::OFlags::WRONLY | fs::OFlags::CREATE, mode)?;
    let status = fs::fstat(&descriptor)?;
    let length = u64::try_from(status.st_size).unwrap_or(0);
    let regular = fs::FileType::from_raw_mode(status.st_mode).is_file();
    // What can't be read is taken to be whole.
    let last = |reader: OwnedFd| {
        let mut byte = [b'\n'];
        pread(reader, &mut byte, length.saturating_sub(1)).map(|_| byte != [b'\n'])
    };
    let torn =
        regular && length > 0 && fs::open(path, flags | fs::OFlags::RDONLY, mode).and_then(last).unwrap_or(false);
    Ok(Opened { descriptor, torn })
}

/// Standard output is shared with others, so it can't be made non-blocking; but it can be asked.
fn takes_more(stdout: &OwnedFd) -> Result<(), Errno> {
    let mut asked = [PollFd::new(stdout, PollFlags::OUT)];
    match poll(&mut asked, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))? {
        0 => Err(Errno::AGAIN),
        _ => Ok(()),
    }
}

/// As many whole lines as are sure to be taken at once, or a part of one.
fn chunk(rest: &[u8]) -> &[u8] {
    let Some(most) = rest.get(..SHARED_CHUNK) else {
        return rest;
    };
    let lines = most.iter().rposition(|&byte| byte == b'\n').and_then(|end| rest.get(..=end));
    lines.unwrap_or(most)
}

/// The system's words for an error, without its number.
fn words(error: Errno) -> String {
    let text = io::Error::from(error).to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::super::tests::shared;
    use super::*;
    use std::fs::{read_to_string, write as fill};
    use std::time::Duration;

    fn sink(path: &std::path::Path) -> Sink {
        Sink::open(Log::Events, Target::File(path)).unwrap()
    }

    fn over_pipe() -> (Sink, std::fs::File) {
        let (reader, writer) = io::pipe().unwrap();
        let mut sink = sink(std::path::Path::new("/dev/null"));
        sink.file = File::Shared(writer.into());
        (sink, OwnedFd::from(reader).into())
    }

    /// What is in a pipe, without waiting for more.
    fn drain(reader: &mut std::fs::File) -> String {
        rustix::io::ioctl_fionbio(&*reader, true).unwrap();
        let mut out = Vec::new();
        let error = io::Read::read_to_end(reader, &mut out).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        String::from_utf8(out).unwrap()
    }

    fn line(number: usize) -> String {
        format!("{number:0>99}\n")
    }

    #[test]
    fn what_a_pipe_of_others_does_not_take_waits_and_then_is_counted() {
        let (mut sink, mut reader) = over_pipe();
        let shared = shared();
        // More than a pipe of 64 KiB and 96 KiB of lines: nothing reads, and nothing blocks.
        let lines = 3_000;
        for number in 0..lines {
            sink.push(line(number).as_bytes(), &shared);
        }
        let dropped = shared.dropped(Log::Events);
        assert!(dropped > 1_000, "{dropped}");
        let mut text = String::new();
        while text.lines().count() < lines + 1 - usize::try_from(dropped).unwrap() {
            let before = text.len();
            sink.hurry();
            sink.flush(Instant::now(), &shared);
            text.push_str(&drain(&mut reader));
            assert!(text.len() > before, "nothing comes any more");
        }
        let kept = lines - usize::try_from(dropped).unwrap();
        let (all, last) = text.trim_end().rsplit_once('\n').unwrap();
        assert_eq!(format!("{all}\n"), (0..kept).map(line).collect::<String>());
        assert!(last.ends_with(&format!("\"event\":\"dropped\",\"lines\":{dropped}}}")), "{last}");
        assert_eq!((sink.waiting(), sink.retry()), (0, None));
        sink.flush(Instant::now(), &shared);
        assert_eq!(drain(&mut reader), "", "it is told once");
    }

    #[test]
    fn what_goes_to_a_pipe_of_others_at_once_is_whole_lines() {
        let text: Vec<u8> = (0..100).map(line).collect::<String>().into_bytes();
        assert_eq!(chunk(&text).len(), 4_000);
        assert_eq!(chunk(&text[..4_000]).len(), 4_000);
        assert_eq!(chunk(&[b'x'; 5_000]).len(), SHARED_CHUNK);
        assert_eq!(chunk(b""), b"");
    }

    #[test]
    fn a_line_that_was_begun_is_ended_where_it_was_begun_or_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events");
        let shared = shared();
        fs::mknodat(fs::CWD, &path, fs::FileType::Fifo, fs::Mode::RWXU, 0).unwrap();
        let _reader = fs::open(&path, fs::OFlags::RDONLY | fs::OFlags::NONBLOCK, fs::Mode::empty()).unwrap();
        let mut sink = sink(&path);
        for number in 0..900 {
            sink.push(line(number).as_bytes(), &shared);
        }
        sink.flush(Instant::now(), &shared);
        let written = sink.written;
        assert!(written > 0 && !written.is_multiple_of(100) && sink.retry().is_some(), "{written} bytes written");
        std::fs::remove_file(&path).unwrap();
        fill(&path, "torn").unwrap();
        sink.reopen(Instant::now(), &shared);
        sink.flush(Instant::now(), &shared);
        let text = read_to_string(&path).unwrap();
        let rest: String = (written / 100 + 1..900).map(line).collect();
        let (lines, dropped) = text.trim_end().rsplit_once('\n').unwrap();
        assert_eq!(lines, format!("torn\n{}", rest.trim_end()), "a line of others is ended, and ours are whole");
        assert!(dropped.ends_with("\"lines\":1}"), "{dropped}");
    }

    #[test]
    fn a_line_that_an_earlier_run_has_begun_is_ended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events");
        for (before, after) in [("", "x\n"), ("a\n", "a\nx\n"), ("a\nb", "a\nb\nx\n")] {
            fill(&path, before).unwrap();
            let (mut sink, shared) = (sink(&path), shared());
            sink.push(b"x\n", &shared);
            sink.flush(Instant::now(), &shared);
            assert_eq!(read_to_string(&path).unwrap(), after);
        }
    }

    #[test]
    fn a_full_disk_is_tried_again_and_complained_of_seldom() {
        let (mut sink, shared) = (sink(std::path::Path::new("/dev/full")), shared());
        let start = Instant::now();
        sink.push(b"x\n", &shared);
        sink.flush(start, &shared);
        assert_eq!((sink.complained, sink.retry()), (Some(start), Some(start + JOURNAL_RETRY)));
        // Before the next try nothing is tried.
        sink.flush(start + JOURNAL_RETRY / 2, &shared);
        assert_eq!(sink.retry(), Some(start + JOURNAL_RETRY));
        let again = start + JOURNAL_RETRY;
        sink.flush(again, &shared);
        assert_eq!((sink.complained, sink.retry()), (Some(start), Some(again + JOURNAL_RETRY)));
        let late = start + JOURNAL_COMPLAINT + Duration::from_secs(1);
        sink.flush(late, &shared);
        assert_eq!(sink.complained, Some(late));
        assert_eq!((sink.waiting(), shared.dropped(Log::Events)), (1, 0), "the line is kept");
    }
}
