//! An FTP client, as small as a session of a load needs: one control connection, one passive data
//! connection at a time, binary type (RFC 959, RFC 2428).
//!
//! Strict about replies, because what it measures is a server. Every wait has a timeout, every line and
//! every reply a greatest length; the address in a passive reply is never used.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::ops::Range;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::fault::{Failure, Fault, Refusal};
use super::replies::{code, extended_port, passive_port, text_of};
use super::wire::{Data, Server, received};
use crate::limits::{DATA_BUFFER, LINE_MAX};

/// Most lines of one reply.
const REPLY_LINES_MAX: usize = 1000;

/// How long a server may take to close after it has said goodbye, and to say why it has broken a transfer off. Who
/// closes first keeps the port for a minute (TIME_WAIT), and this side has few.
const GOODBYE: Duration = Duration::from_secs(1);

/// What a thread keeps for all of its sessions.
#[derive(Debug)]
pub struct Buffers {
    replies: Vec<u8>,
    command: Vec<u8>,
    /// The address to come from.
    source: Option<Ipv4Addr>,
    data: Vec<u8>,
}

impl Buffers {
    /// Allocates them, but for that of the transfers, which the first of those does.
    #[must_use]
    pub fn new(source: Option<Ipv4Addr>) -> Self {
        Self { replies: vec![0; LINE_MAX], command: Vec::with_capacity(LINE_MAX), source, data: Vec::new() }
    }
}

/// A control connection.
#[derive(Debug)]
pub struct Control<'a> {
    server: &'a Server,
    stream: TcpStream,
    buffers: &'a mut Buffers,
    /// Bytes in the buffer that no reply has used yet.
    unread: Range<usize>,
    /// How long a reply may take.
    patience: Duration,
}

/// A reply: its code, and where its last line stands in the buffer, without code and line end.
#[derive(Debug)]
struct Reply {
    code: u16,
    text: Range<usize>,
}

impl<'a> Control<'a> {
    /// Connects, and reads nothing yet.
    ///
    /// # Errors
    /// There is no connection.
    pub fn connect(server: &'a Server, buffers: &'a mut Buffers) -> Result<Self, Fault> {
        let stream = server.connect(server.address, buffers.source).map_err(|error| Failure::of_connect(&error))?;
        Ok(Self { server, stream, buffers, unread: 0..0, patience: server.timeout })
    }

    /// Reads the greeting and logs in.
    ///
    /// # Errors
    /// Refused, or failed.
    pub fn log_in(&mut self, user: &[u8], password: &[u8]) -> Result<(), Fault> {
        self.await_reply("greeting", &[220])?;
        self.send("USER", user)?;
        let asked = self.await_reply("USER", &[331, 230])?;
        if asked == 331 {
            self.send("PASS", password)?;
            self.await_reply("PASS", &[230])?;
        }
        Ok(())
    }

    /// Sends a command and reads its final reply, which must have one of these codes.
    ///
    /// # Errors
    /// Refused, or failed.
    pub fn command(&mut self, verb: &'static str, argument: &[u8], wanted: &[u16]) -> Result<u16, Fault> {
        self.send(verb, argument)?;
        self.await_reply(verb, wanted)
    }

    /// Opens a data connection, begins a transfer and returns the connection when the server has said
    /// that it begins.
    ///
    /// # Errors
    /// Refused, or failed.
    pub fn transfer(&mut self, verb: &'static str, argument: &[u8]) -> Result<Data, Fault> {
        let port = self.passive()?;
        let mut address = self.server.address;
        address.set_port(port);
        let stream =
            self.server.connect(address, self.buffers.source).map_err(|error| match Failure::of_connect(&error) {
                Failure::NoRoomHere => Failure::NoRoomHere,
                _ => Failure::DataConnect,
            })?;
        self.send(verb, argument)?;
        let begun = self.reply()?;
        match begun.code {
            125 | 150 => Ok(Data::new(stream)),
            code => Err(refused(code, verb)),
        }
    }

    /// Reads the reply that ends a transfer.
    ///
    /// # Errors
    /// Refused, or failed.
    pub fn finish(&mut self, verb: &'static str) -> Result<(), Fault> {
        self.await_reply(verb, &[226, 250]).map(drop)
    }

    /// Reads the reply that ends a transfer whose data connection broke, if it comes soon.
    ///
    /// # Errors
    /// Refused, or failed.
    pub fn explanation(&mut self, verb: &'static str) -> Result<(), Fault> {
        self.patience = GOODBYE.min(self.server.timeout);
        self.set_timeout(self.patience)?;
        let said = self.finish(verb);
        self.patience = self.server.timeout;
        self.set_timeout(self.patience)?;
        said
    }

    /// Stays for a while, but not beyond `until`, nor when `ended`, which is asked each second, says so; says whether it
    /// was the whole while.
    ///
    /// # Errors
    /// The server has spoken, or the connection has ended.
    pub fn idle(&mut self, time: Duration, until: Option<Instant>, ended: impl Fn() -> bool) -> Result<bool, Fault> {
        let end = Instant::now() + time;
        let leave = until.map_or(end, |until| until.min(end));
        let whole = loop {
            let left = leave.saturating_duration_since(Instant::now());
            if left.is_zero() || ended() || !self.unread.is_empty() {
                break left.is_zero() && leave == end;
            }
            self.set_timeout(left.min(Duration::from_secs(1)))?;
            match self.receive() {
                Ok(()) | Err(Failure::Timeout) => {}
                Err(other) => return Err(other.into()),
            }
        };
        self.set_timeout(self.server.timeout)?;
        if self.unread.is_empty() {
            return Ok(whole);
        }
        // Nothing was asked, so this is a goodbye.
        let said = self.reply()?;
        Err(refused(said.code, "idle"))
    }

    /// Room for the bytes of transfers.
    pub fn data_buffer(&mut self) -> &mut [u8] {
        if self.buffers.data.is_empty() {
            self.buffers.data.resize(DATA_BUFFER, 0);
        }
        &mut self.buffers.data
    }

    /// Says goodbye and hears it.
    ///
    /// # Errors
    /// Refused, or failed.
    pub fn quit(&mut self) -> Result<(), Fault> {
        self.command("QUIT", b"", &[221]).map(drop)
    }

    /// Lets the server close first. Nothing that comes is of interest any more.
    pub fn leave(mut self) {
        if self.set_timeout(GOODBYE).is_ok() {
            let _ = self.stream.read(&mut self.buffers.replies);
        }
    }

    /// The passive port: by EPSV, or by PASV where the server does not know that.
    fn passive(&mut self) -> Result<u16, Fault> {
        if !self.server.no_epsv.load(Relaxed) {
            self.send("EPSV", b"")?;
            let reply = self.reply()?;
            match reply.code {
                229 => return self.port_in(&reply, extended_port),
                500 | 501 | 502 | 504 | 522 if self.server.address.is_ipv4() => {
                    self.server.no_epsv.store(true, Relaxed);
                }
                code => return Err(refused(code, "EPSV")),
            }
        }
        self.send("PASV", b"")?;
        let reply = self.reply()?;
        match reply.code {
            227 => self.port_in(&reply, passive_port),
            code => Err(refused(code, "PASV")),
        }
    }

    fn port_in(&self, reply: &Reply, read: fn(&[u8]) -> Option<u16>) -> Result<u16, Fault> {
        let text = self.buffers.replies.get(reply.text.clone()).unwrap_or_default();
        read(text).filter(|&port| port > 0).ok_or(Failure::Malformed.into())
    }

    fn send(&mut self, verb: &str, argument: &[u8]) -> Result<(), Fault> {
        let line = &mut self.buffers.command;
        line.clear();
        line.extend_from_slice(verb.as_bytes());
        // An empty password is sent as one, not left out.
        if !argument.is_empty() || verb == "PASS" {
            line.push(b' ');
            line.extend_from_slice(argument);
        }
        line.extend_from_slice(b"\r\n");
        self.stream.write_all(line).map_err(|error| Failure::of_connection(&error).into())
    }

    /// Reads a final reply, those before it included.
    fn await_reply(&mut self, to: &'static str, wanted: &[u16]) -> Result<u16, Fault> {
        // "120 Service ready in nnn minutes" may come before a greeting.
        for _ in 0..2 {
            match self.reply()?.code {
                code if wanted.contains(&code) => return Ok(code),
                100..200 => {}
                code => return Err(refused(code, to)),
            }
        }
        Err(Failure::Malformed.into())
    }

    /// Reads one reply, of one line or several (RFC 959 §4.2).
    fn reply(&mut self) -> Result<Reply, Fault> {
        let deadline = Instant::now() + self.patience;
        let first = self.line(deadline)?;
        let (code, more) = self.code_of(&first).ok_or(Failure::Malformed)?;
        if !more {
            return Ok(Reply { code, text: text_of(&first) });
        }
        for _ in 0..REPLY_LINES_MAX {
            let line = self.line(deadline)?;
            if self.code_of(&line) == Some((code, false)) {
                return Ok(Reply { code, text: text_of(&line) });
            }
        }
        Err(Failure::Malformed.into())
    }

    /// The code with which a line begins, and whether further lines follow.
    fn code_of(&self, line: &Range<usize>) -> Option<(u16, bool)> {
        code(self.buffers.replies.get(line.clone())?)
    }

    /// Reads one line; yields where it stands, without its CR LF.
    fn line(&mut self, deadline: Instant) -> Result<Range<usize>, Fault> {
        let mut searched = self.unread.start;
        loop {
            let fresh = self.buffers.replies.get(searched..self.unread.end).unwrap_or_default();
            if let Some(at) = memchr::memchr(b'\n', fresh) {
                let (start, end) = (self.unread.start, searched + at);
                self.unread.start = end + 1;
                let carriage_return = end > start && self.buffers.replies.get(end - 1) == Some(&b'\r');
                return if carriage_return { Ok(start..end - 1) } else { Err(Failure::Malformed.into()) };
            }
            let unread = self.unread.len();
            self.receive()?;
            // Receiving moves what is unread to the front.
            searched = self.unread.start + unread;
            if Instant::now() > deadline {
                return Err(Failure::Timeout.into());
            }
        }
    }

    /// Receives at least one byte.
    fn receive(&mut self) -> Result<(), Failure> {
        if self.unread.start > 0 {
            self.buffers.replies.copy_within(self.unread.clone(), 0);
            self.unread = 0..self.unread.len();
        }
        let room = self.buffers.replies.get_mut(self.unread.end..).unwrap_or_default();
        if room.is_empty() {
            // A line that does not fit is none.
            return Err(Failure::Malformed);
        }
        match received(&mut self.stream, room)? {
            0 => Err(Failure::Closed),
            count => {
                self.unread.end += count;
                Ok(())
            }
        }
    }

    fn set_timeout(&self, timeout: Duration) -> Result<(), Fault> {
        self.stream.set_read_timeout(Some(timeout)).map_err(|_| Failure::Other.into())
    }
}

fn refused(code: u16, to: &'static str) -> Fault {
    Fault::Refused(Refusal { code, to })
}
