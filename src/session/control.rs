//! The control connection: lines in, replies out, and what is served while a transfer runs.
//!
//! Replies are gathered and written together before the session waits for anything, so pipelined
//! commands cost few system calls, and nobody ever waits with a reply unsent.

use crate::data::pulse::{Phase, Pulse, Tick};
use crate::data::tcp::unacknowledged;
use crate::data::wait::{Stop, Watch, check, wait_to_reply, wait_until_taken};
use crate::limits::{GOODBYE_DRAIN_MAX, KILL_GRACE, REPLY_BUFFER, REPLY_LINE_MAX};
use crate::proto::command::Request;
use crate::proto::hostport::canonical_socket;
use crate::proto::line::{LineBuffer, LineError};
use crate::proto::reply::{self, Reply};
use crate::session::transfer::Progress;
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, getsockname, recv, send};
use socket2::SockRef;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// The control connection of one session.
pub struct ControlConnection<'a> {
    socket: BorrowedFd<'a>,
    pulse: &'a Pulse,
    lines: &'a mut LineBuffer,
    out: &'a mut Vec<u8>,
    reply_timeout: Duration,
    /// When the reply that is being written has to be read: set when the client first lets it wait, and
    /// kept until the reply is whole, so that reading a little of it does not help.
    reply_until: Option<Tick>,
    /// What no state of a session that is not logged in outlives.
    limit: Tick,
    transfer: Progress,
    quit: bool,
    /// The client has closed its side after QUIT, which is no news any more.
    peer_closed: bool,
}

/// What came instead of a command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// A line is there.
    Line,
    /// A line was too long and was thrown away whole.
    TooLong,
    /// A line that does not end; the connection has to be closed.
    Endless,
}

impl<'a> ControlConnection<'a> {
    /// Takes over the connection. `lines` and `out` are the worker's, and are emptied.
    pub fn new(
        socket: BorrowedFd<'a>,
        pulse: &'a Pulse,
        lines: &'a mut LineBuffer,
        out: &'a mut Vec<u8>,
        reply_timeout: Duration,
    ) -> Self {
        lines.reset();
        out.clear();
        ControlConnection {
            socket,
            pulse,
            lines,
            out,
            reply_timeout,
            reply_until: None,
            limit: Tick::NEVER,
            transfer: Progress::default(),
            quit: false,
            peer_closed: false,
        }
    }

    /// Waits for a command line and puts it, without its end, into `line`. `phase` and `until` are what
    /// the reaper goes by; they begin when there is nothing left to serve. `attend` is called before each
    /// receive, which blocks: what else can come at the prompt is seen to there.
    ///
    /// # Errors
    /// What ended the session: the connection is gone, or the reaper marked it.
    pub fn read_line(
        &mut self,
        line: &mut Vec<u8>,
        phase: Phase,
        until: impl FnOnce() -> Tick,
        mut attend: impl FnMut(BorrowedFd<'_>) -> Result<(), Stop>,
    ) -> Result<Input, Stop> {
        // Half a command is no sign of life: the deadline is set once for each line.
        let mut until = Some(until);
        loop {
            self.check()?;
            line.clear();
            let input = match self.lines.peek_line() {
                Some(Ok(bytes)) => {
                    line.extend_from_slice(bytes);
                    Some(Input::Line)
                }
                Some(Err(LineError::TooLong)) => Some(Input::TooLong),
                Some(Err(LineError::Endless)) => Some(Input::Endless),
                None => None,
            };
            if let Some(input) = input {
                self.lines.consume_line();
                if phase == Phase::Command {
                    // Whatever the command takes, it is not idle.
                    self.pulse.enter(Phase::Work, Tick::NEVER);
                }
                return Ok(input);
            }
            self.flush()?;
            self.reply_until = None;
            if let Some(until) = until.take() {
                self.pulse.enter(phase, until());
            }
            attend(self.socket)?;
            self.receive(RecvFlags::empty())?;
        }
    }

    /// Puts a reply into the line; it is written at the latest before the session waits.
    ///
    /// # Errors
    /// As for [`ControlConnection::flush`].
    pub fn send(&mut self, reply: &Reply) -> Result<(), Stop> {
        reply.encode(self.out);
        self.flush_when_full()
    }

    /// Puts the first line of a long reply into the line.
    ///
    /// # Errors
    /// As for [`ControlConnection::flush`].
    pub fn send_first(&mut self, code: u16, text: &[u8]) -> Result<(), Stop> {
        reply::first_line(self.out, code, text);
        self.flush_when_full()
    }

    /// Puts an inner line of a long reply into the line.
    ///
    /// # Errors
    /// As for [`ControlConnection::flush`].
    pub fn send_inner(&mut self, text: &[u8]) -> Result<(), Stop> {
        reply::inner_line(self.out, text);
        self.flush_when_full()
    }

    /// Writes all replies that wait.
    ///
    /// # Errors
    /// The connection is gone, or the client does not read.
    pub fn flush(&mut self) -> Result<(), Stop> {
        let mut sent = 0;
        let mut before = None;
        let outcome = loop {
            let Some(rest) = self.out.get(sent..).filter(|rest| !rest.is_empty()) else {
                break Ok(());
            };
            match send(self.socket, rest, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(count) => sent += count,
                Err(Errno::AGAIN) => {
                    let until =
                        *self.reply_until.get_or_insert_with(|| Tick::now().after(self.reply_timeout).min(self.limit));
                    if before.is_none() {
                        before = Some(self.pulse.phase());
                        self.pulse.enter(Phase::Reply, until);
                    }
                    // The reaper ends the session at the deadline; this wait outlives it by its grace.
                    if let Err(stop) = wait_to_reply(self.socket, until.after(2 * KILL_GRACE)) {
                        break Err(stop);
                    }
                }
                Err(Errno::INTR) => {}
                Err(_) => break Err(Stop::ControlLost),
            }
        };
        if let Some((phase, until)) = before {
            self.pulse.enter(phase, until);
        }
        self.out.clear();
        // A single long line may have grown it; memory does not stay at its high-water mark.
        self.out.shrink_to(2 * REPLY_BUFFER);
        outcome
    }

    /// Sets what no wait outlives from now on: the login deadline, or never.
    pub fn set_limit(&mut self, limit: Tick) {
        self.limit = limit;
    }

    /// A transfer begins: STAT will speak of it.
    pub fn begin_transfer(&mut self, expected: Option<u64>) {
        self.transfer = Progress { expected, base: self.pulse.total() };
    }

    /// Whether QUIT came during a transfer.
    #[must_use]
    pub fn quitting(&self) -> bool {
        self.quit
    }

    /// The server's address of this connection, IPv4 as IPv4; `None` where the connection is broken.
    #[must_use]
    pub fn local_address(&self) -> Option<SocketAddr> {
        let address = SocketAddr::try_from(getsockname(self.socket).ok()?).ok()?;
        Some(canonical_socket(address))
    }

    /// Writes what waits, and sees it off: a client that takes nothing must not leave the kernel with
    /// replies for somebody who is gone. One that has taken all before its last word is not waited for:
    /// that would cost half as much as the whole logon. Where the server ends the session, what the client
    /// still sends is thrown away within bounds, so that closing does not destroy the last reply with a
    /// reset.
    pub fn goodbye(&mut self, drain: bool) {
        let behind = self.out.len() > REPLY_LINE_MAX || unacknowledged(self.socket) != Ok(0);
        if self.flush().is_err() {
            self.give_up();
            return;
        }
        if drain {
            self.throw_away();
        }
        if behind && wait_until_taken(self.socket, Tick::now().after(KILL_GRACE)).is_err() {
            self.give_up();
        }
    }

    fn throw_away(&mut self) {
        let mut drained = 0;
        let mut waste = [0u8; 1024];
        while drained < GOODBYE_DRAIN_MAX {
            match recv(self.socket, waste.as_mut_slice(), RecvFlags::DONTWAIT) {
                Ok((count, _)) if count > 0 => drained += count,
                _ => break,
            }
        }
    }

    /// Closing is to free what was not sent.
    fn give_up(&self) {
        let _ = SockRef::from(&self.socket).set_linger(Some(Duration::ZERO));
    }

    /// Whether the client is still there, as far as is known without a wait.
    #[must_use]
    pub fn is_there(&self) -> bool {
        match recv(self.socket, [0u8].as_mut_slice(), RecvFlags::PEEK | RecvFlags::DONTWAIT) {
            Ok((0, _)) => false,
            Ok(_) | Err(Errno::AGAIN | Errno::INTR) => true,
            Err(_) => false,
        }
    }

    /// Whether the session may go on.
    ///
    /// # Errors
    /// The reaper has marked it.
    pub fn check(&self) -> Result<(), Stop> {
        check(self.pulse)
    }

    fn flush_when_full(&mut self) -> Result<(), Stop> {
        if self.out.len() >= REPLY_BUFFER { self.flush() } else { Ok(()) }
    }

    /// Receives what fits; at the end of the stream the connection is lost, or marked.
    fn receive(&mut self, flags: RecvFlags) -> Result<(), Stop> {
        match recv(self.socket, self.lines.spare(), flags) {
            Ok((0, _)) => {
                self.check()?;
                Err(Stop::ControlLost)
            }
            Ok((count, _)) => {
                self.lines.filled(count);
                Ok(())
            }
            Err(Errno::INTR | Errno::AGAIN) => Ok(()),
            Err(_) => Err(Stop::ControlLost),
        }
    }

    /// Serves one of the commands that are heard during a transfer. `false`: it has to wait.
    fn serve(&mut self) -> Result<bool, Stop> {
        let Some(Ok(line)) = self.lines.peek_line() else {
            return Ok(false);
        };
        let name = match Request::parse(line) {
            Ok(request) if request.verb.gate.during_transfer && request.argument.is_empty() => request.verb.name,
            _ => return Ok(false),
        };
        debug_assert!(matches!(name, "ABOR" | "QUIT" | "STAT" | "NOOP"), "{name} is not served here");
        self.lines.consume_line();
        match name {
            "ABOR" => return Err(Stop::Abort),
            "QUIT" => self.quit = true,
            "STAT" => {
                let status = self.transfer.status(self.pulse.total());
                self.send(&status)?;
            }
            _ => self.send(&Reply::new(200, "NOOP ok."))?,
        }
        Ok(true)
    }

    /// Whether a line waits that can only be served after the transfer.
    pub(super) fn holds_a_line(&mut self) -> bool {
        self.lines.peek_line().is_some() || self.lines.is_full()
    }
}

impl Watch for ControlConnection<'_> {
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn pulse(&self) -> &Pulse {
        self.pulse
    }

    fn prepare(&mut self) -> Result<PollFlags, Stop> {
        while !self.quit && self.serve()? {}
        self.flush()?;
        Ok(if self.peer_closed {
            PollFlags::empty()
        } else if self.quit || self.holds_a_line() {
            PollFlags::RDHUP
        } else {
            PollFlags::IN | PollFlags::RDHUP
        })
    }

    fn heard(&mut self, events: PollFlags) -> Result<(), Stop> {
        self.check()?;
        if events.intersects(PollFlags::HUP | PollFlags::ERR) {
            return Err(Stop::ControlLost);
        }
        if events.contains(PollFlags::IN) {
            return self.receive(RecvFlags::DONTWAIT);
        }
        if self.quit {
            // It may well close after QUIT; the transfer goes on.
            self.peer_closed = true;
            return Ok(());
        }
        // Closed by the client while a command still waits: there is nobody left to serve it for.
        Err(Stop::ControlLost)
    }
}
