//! The one thread that writes the journal.
//!
//! Owns the sinks. It waits for lines and for the bell, and for nothing else: no sink ever blocks it.

use super::sink::Sink;
use super::{Line, Log, Shared};
use crate::limits::{JOURNAL_AGAIN, JOURNAL_GOODBYE, JOURNAL_LINES, JOURNAL_LINGER};
use crossbeam_channel::{Receiver, Sender, at, never, select};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Instant;

/// The state of the thread.
pub(super) struct Writer {
    pub(super) lines: Receiver<Line>,
    pub(super) bell: Receiver<()>,
    pub(super) shared: Arc<Shared>,
    pub(super) sinks: [Option<Sink>; Log::COUNT],
    /// Nothing is sent: that it is gone tells that the thread has ended.
    pub(super) done: Sender<()>,
}

impl Writer {
    /// Writes until the journal is stopped.
    pub(super) fn run(mut self) {
        while !self.shared.stop.load(SeqCst) {
            self.wait();
            self.round(Instant::now());
        }
        self.finish();
        // In this order: who hears that the writer has ended may be sure that no line comes into the channel.
        drop(self.lines);
        drop(self.done);
    }

    /// Waits for a line, the bell, or the time of the next try; then for what comes close behind.
    fn wait(&mut self) {
        let retry = self.sinks.iter().flatten().filter_map(Sink::retry).min().map_or_else(never, at);
        let line = select! {
            recv(self.lines) -> line => line.map(Some),
            recv(self.bell) -> _ => Ok(None),
            recv(retry) -> _ => Ok(None),
        };
        match line {
            Ok(Some(line)) => {
                self.take(&line);
                let _ = self.bell.recv_timeout(JOURNAL_LINGER);
            }
            Ok(None) => {}
            // Nobody is left who could write.
            Err(_) => self.shared.stop.store(true, SeqCst),
        }
    }

    /// Takes what has come, and writes it.
    fn round(&mut self, now: Instant) {
        // No more than there can be at once: the sinks have their turn however many come.
        for _ in 0..JOURNAL_LINES {
            let Ok(line) = self.lines.try_recv() else {
                break;
            };
            self.take(&line);
        }
        let reopen = self.shared.reopen.swap(false, SeqCst);
        for sink in self.sinks.iter_mut().flatten() {
            if reopen {
                sink.reopen(now, &self.shared);
            }
            sink.flush(now, &self.shared);
        }
    }

    fn take(&mut self, line: &Line) {
        self.shared.release(line.cost());
        if let Some(sink) = self.sinks.get_mut(line.log as usize).and_then(Option::as_mut) {
            sink.push(&line.bytes, &self.shared);
        }
    }

    /// The last lines have a while to be written.
    fn finish(&mut self) {
        let last = Instant::now() + JOURNAL_GOODBYE;
        self.sinks.iter_mut().flatten().for_each(Sink::hurry);
        loop {
            let now = Instant::now();
            self.round(now);
            let waiting = self.sinks.iter().flatten().map(Sink::waiting).sum::<usize>();
            if waiting == 0 && self.lines.is_empty() {
                return;
            }
            if now >= last {
                log::warn!("the last {waiting} lines of the journal could not be written");
                self.sinks.iter().flatten().for_each(|sink| sink.give_up(&self.shared));
                return;
            }
            let _ = self.bell.recv_timeout(JOURNAL_AGAIN);
        }
    }
}
