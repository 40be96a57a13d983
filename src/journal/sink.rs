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
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Instant;

/// Bytes that go to standard output with one call: any pipe that has room takes as many at once (PIPE_BUF).
const STDOUT_CHUNK: usize = 4096;

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
    Stdout,
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
            Target::Stdout => File::Stdout,
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
            File::Stdout => {
                let stdout = io::stdout();
                takes_more(stdout.as_fd())?;
                write(&stdout, chunk(rest))?
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
            File::Stdout => log::error!("{}: standard output can't be written: {text}", self.log.flag()),
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
fn takes_more(stdout: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut asked = [PollFd::new(&stdout, PollFlags::OUT)];
    match poll(&mut asked, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))? {
        0 => Err(Errno::AGAIN),
        _ => Ok(()),
    }
}

/// As many whole lines as are sure to be taken at once, or a part of one.
fn chunk(rest: &[u8]) -> &[u8] {
    let Some(most) = rest.get(..STDOUT_CHUNK) else {
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
