//! The server-PI (RFC 959 §2.3): one session over one control connection, from greeting to goodbye.
//!
//! A command goes one way: line, request, policy, command, handler, one final reply. Only a transfer
//! sends a preliminary reply first. What ends a session is a [`Stop`] that rises to [`run`].

mod answer;
mod control;
mod dirs;
mod dispatch;
mod files;
mod info;
mod list;
mod login;
mod member;
mod members;
mod params;
mod seat;
mod sink;
mod store;
mod transfer;
mod tree;

pub use answer::goodbye;
pub use members::{Homes, Members};
pub use seat::{CapReached, Seat};

use crate::auth::UserId;
use crate::config::Config;
use crate::data::passive::PassivePorts;
use crate::data::port::{DataConnection, DataPort};
use crate::data::pulse::{Phase, Reason, Tick};
use crate::data::wait::Stop;
use crate::data::window::Windows;
use crate::journal::Journal;
use crate::limits::{DATA_BUFFER, NAMES_BUFFER};
use crate::policy::Subject;
use crate::proto::command::is_http;
use crate::proto::hostport::canonical;
use crate::proto::line::LineBuffer;
use crate::proto::listing::Facts;
use crate::proto::params::{RepresentationType, RestartMarker};
use crate::proto::pathname::VirtualPath;
use crate::proto::reply::Reply;
use crate::swap::Swap;
use crate::vfs::{KnownFolders, NameBuffer, ReadBuffer, Root};
use control::{ControlConnection, Input};
use if_addrs::IfAddr;
use login::Login;
use member::Member;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use transfer::Begun;

/// What all sessions share, fixed at start.
#[derive(Debug)]
pub struct Context {
    /// The flags.
    pub config: Config,
    /// The served folder.
    pub root: Arc<Root>,
    /// The folders that were listed before.
    pub known: KnownFolders,
    /// Who may log in, and what of it is shared by all.
    pub members: Members,
    /// Where transfers and logins are written down.
    pub journal: Journal,
    /// The passive ports.
    pub ports: PassivePorts,
    /// The windows of transfers.
    pub windows: Windows,
    /// The host's own networks, to whose members `--passive-address` does not apply.
    pub networks: Vec<IfAddr>,
    /// The greeting.
    pub greeting: Swap<Reply>,
}

/// The buffers of one worker, allocated once and used by all of its sessions.
#[derive(Debug)]
pub struct Buffers {
    lines: LineBuffer,
    line: Vec<u8>,
    out: Vec<u8>,
    work: Work,
}

/// The buffers that transfers and listings work in.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) data: &'static mut [u8],
    pub(crate) names: NameBuffer,
    pub(crate) read: ReadBuffer,
}

impl Buffers {
    /// The buffers of `count` workers, for the life of the process. The large ones are one allocation each,
    /// so that the kernel gives pages only for what is used; the two for a line and its replies come with
    /// the first session. 256 workers at rest cost 5 MiB; with buffers of their own, which the allocator
    /// clears, it was 36 MiB.
    pub fn for_workers(count: usize) -> impl Iterator<Item = Buffers> {
        let all: &'static mut [u8] = Box::leak(vec![0; count * (DATA_BUFFER + NAMES_BUFFER)].into_boxed_slice());
        let chunks = all.chunks_exact_mut(DATA_BUFFER + NAMES_BUFFER);
        chunks.zip(ReadBuffer::for_workers(count)).map(|(chunk, read)| {
            let (data, names) = chunk.split_at_mut(DATA_BUFFER);
            Buffers {
                lines: LineBuffer::new(),
                line: Vec::new(),
                out: Vec::new(),
                work: Work { data, names: NameBuffer::over(names), read },
            }
        })
    }
}

/// The two ends of a control connection.
#[derive(Debug, Clone, Copy)]
pub struct Ends {
    /// The client's address and port, IPv4 as IPv4.
    pub peer: SocketAddr,
    /// When the session was admitted: the login deadline counts from here.
    pub admitted: Tick,
}

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The client said QUIT.
    Quit,
    /// The client went away without a word, or can't be reached.
    Lost,
    /// The client's own doing: too many failed logins, or a line without end.
    Refused,
    /// The server ended it.
    Marked(Reason),
}

/// The state of one session.
struct Session<'a, S: Seat> {
    context: &'a Context,
    seat: &'a S,
    control: ControlConnection<'a>,
    work: &'a mut Work,
    ends: Ends,
    local: Option<SocketAddr>,
    login: Login<S::Login>,
    login_until: Tick,
    login_failures: u32,
    root: Arc<Root>,
    cwd: VirtualPath,
    rename_from: Option<VirtualPath>,
    umask: u32,
    representation: RepresentationType,
    restart: Option<RestartMarker>,
    port: DataPort,
    /// The command before this one was a transfer.
    after_transfer: bool,
    /// The data connection of an upload that failed here, which ends once its reply is written.
    failed: Option<DataConnection>,
    begun: Begun,
    extended_only: bool,
    facts: Facts,
}

/// A session that is over: how it ended, and as whom it was logged in then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Over {
    /// How it ended.
    pub end: End,
    /// Who was logged in.
    pub user: Option<UserId>,
}

/// Serves one session to its end. The socket stays open; closing it is for whoever admitted it.
pub fn run<S: Seat>(context: &Context, seat: &S, socket: &impl AsFd, ends: Ends, buffers: &mut Buffers) -> Over {
    let Buffers { lines, line, out, work } = buffers;
    let timeouts = context.config.timeouts();
    let control = ControlConnection::new(socket.as_fd(), seat.pulse(), lines, out, timeouts.stall);
    let mut session = Session {
        context,
        seat,
        control,
        work,
        ends,
        local: None,
        login: Login::NeedUser,
        login_until: ends.admitted.after(timeouts.login),
        login_failures: 0,
        root: Arc::clone(&context.root),
        cwd: VirtualPath::root(),
        rename_from: None,
        umask: context.config.storing().umask,
        representation: RepresentationType::Ascii,
        restart: None,
        port: DataPort::None,
        after_transfer: false,
        failed: None,
        begun: Begun::default(),
        extended_only: false,
        facts: Facts::ALL,
    };
    let end = session.serve(line);
    if let End::Marked(reason) = end {
        let _ = session.control.send(&goodbye(reason));
    }
    session.port = DataPort::None;
    // After QUIT nothing more is expected of the client; where it is gone there is nobody to hear.
    session.control.goodbye(matches!(end, End::Refused | End::Marked(_)));
    let user = session.member().map(|member| member.user.clone());
    Over { end, user }
}

impl<S: Seat> Session<'_, S> {
    fn serve(&mut self, line: &mut Vec<u8>) -> End {
        match self.command_loop(line) {
            Ok(end) => end,
            Err(Stop::Marked(reason)) => End::Marked(reason),
            Err(Stop::Abort | Stop::ControlLost | Stop::TimedOut) => match self.seat.pulse().mark() {
                Some(reason) => End::Marked(reason),
                None => End::Lost,
            },
        }
    }

    fn command_loop(&mut self, line: &mut Vec<u8>) -> Result<End, Stop> {
        // It may have waited in the queue for too long.
        self.control.check()?;
        self.control.set_limit(self.login_until);
        if !self.seat.is_greeted() {
            self.control.send(&self.context.greeting.load())?;
        }
        let mut first = true;
        loop {
            let reply = match self.next_line(line)? {
                // A browser that was made to send commands in the body of a request gets no chance to.
                Input::Line if std::mem::take(&mut first) && is_http(line) => return Ok(End::Refused),
                Input::Line => self.execute(line)?,
                Input::TooLong => Reply::new(500, "That line is too long."),
                Input::Endless => {
                    self.control.send(&Reply::new(500, "That line does not end: closing the control connection."))?;
                    return Ok(End::Refused);
                }
            };
            self.control.send(&reply)?;
            self.end_failed()?;
            if reply.closes() {
                return Ok(if reply.code() == 221 { End::Quit } else { End::Refused });
            }
            if self.control.quitting() {
                self.control.send(&info::goodbye())?;
                return Ok(End::Quit);
            }
        }
    }

    fn next_line(&mut self, line: &mut Vec<u8>) -> Result<Input, Stop> {
        let idle = self.member().and_then(|member| member.idle).unwrap_or(self.context.config.timeouts().idle);
        let login_until = self.login_until;
        let (subject, peer, port) = (self.subject(), self.peer(), &mut self.port);
        let attend = |control: BorrowedFd<'_>| port.attend(control, peer);
        match subject {
            Subject::Stranger => self.control.read_line(line, Phase::Login, || login_until, attend),
            Subject::Member(_) => self.control.read_line(line, Phase::Command, || Tick::now().after(idle), attend),
        }
    }

    fn subject(&self) -> Subject {
        self.member().map_or(Subject::Stranger, |member| Subject::Member(member.rights))
    }

    /// Who is logged in.
    fn member(&self) -> Option<&Member<S::Login>> {
        match &self.login {
            Login::LoggedIn(member) => Some(member),
            Login::NeedUser | Login::NeedPass(_) => None,
        }
    }

    /// The address of the client, IPv4 as IPv4.
    fn peer(&self) -> IpAddr {
        canonical(self.ends.peer.ip())
    }

    /// The server's address of the control connection, asked for once.
    fn local(&mut self) -> Option<SocketAddr> {
        if self.local.is_none() {
            self.local = self.control.local_address();
        }
        self.local
    }
}
