//! Data ports and data connections: how they are opened, by whom, and how they are closed.

use super::passive::{PassiveListener, PassivePorts, Receive};
use super::pulse::{Phase, Tick};
use super::tcp::unacknowledged;
use super::wait::{Stop, Watch, glance, rest, wait, wait_at_prompt};
use crate::limits::{BACKSTOP, FINISH_LOOKS, FINISH_STEPS, PASSIVE_TRIES};
use crate::proto::hostport::canonical;
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{Shutdown, SocketFlags, acceptfrom_with, connect, getpeername, shutdown, sockopt};
use socket2::Socket;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// Where the next data connection will come from or go to.
#[derive(Debug, Default)]
pub enum DataPort {
    /// Nowhere: neither PASV nor PORT came before.
    #[default]
    None,
    /// PORT or EPRT: the server connects to this address, from `local`.
    Active {
        /// The client's data port.
        remote: SocketAddr,
        /// The server's address of the control connection; its port does not matter.
        local: SocketAddr,
    },
    /// PASV or EPSV: the client connects here.
    Passive(PassiveListener),
    /// PASV or EPSV, and the client has connected before it said what is to be transferred. Nothing
    /// listens any more: whoever came after the first would be a stranger, or somebody behind the same NAT.
    Connected(DataConnection),
}

/// Why there is no data connection, or why it did not serve to its end.
#[derive(Debug)]
pub enum DataError {
    /// 425: neither PASV nor PORT came before.
    NoPort,
    /// 425: it could not be opened.
    CannotOpen,
    /// 425: the client did not connect in time.
    NotInTime,
    /// 426: it broke.
    Broken,
    /// 451: the file or folder failed.
    Local,
    /// What ended the wait.
    Stopped(Stop),
}

impl From<Stop> for DataError {
    fn from(stop: Stop) -> Self {
        DataError::Stopped(stop)
    }
}

/// An open data connection. Unless it was finished, dropping it resets it, so that nothing of it stays
/// behind in the kernel (an orphan with unsent data holds its memory for minutes).
#[derive(Debug)]
pub struct DataConnection {
    socket: OwnedFd,
    finished: bool,
}

impl DataPort {
    /// Opens the data connection, to or from `peer` alone, within `timeout`, to `receive` over it or not. The
    /// port is used up whatever comes of it.
    ///
    /// # Errors
    /// Why not.
    pub fn open(
        self,
        watch: &mut dyn Watch,
        ports: &PassivePorts,
        peer: IpAddr,
        timeout: Duration,
        receive: Receive,
    ) -> Result<DataConnection, DataError> {
        let until = Tick::now().after(timeout);
        watch.pulse().enter(Phase::Connect, until.after(BACKSTOP));
        let opened = match self {
            DataPort::None => Err(DataError::NoPort),
            DataPort::Active { remote, local } => open_active(watch, || ports.outgoing(local, receive), remote, until),
            DataPort::Passive(listener) => open_passive(watch, &listener, peer, until),
            DataPort::Connected(connection) => Ok(connection),
        };
        opened.map_err(|error| match error {
            DataError::Stopped(Stop::TimedOut) => DataError::NotInTime,
            other => other,
        })
    }

    /// Waits at the prompt until the control connection has something, and sees to whoever comes to the
    /// passive port meanwhile, so that strangers who fill its backlog don't keep `peer` out. Returns at
    /// once where nothing listens.
    ///
    /// # Errors
    /// The session can't wait.
    pub fn attend(&mut self, control: BorrowedFd<'_>, peer: IpAddr) -> Result<(), Stop> {
        while let DataPort::Passive(listener) = self {
            if wait_at_prompt(control, listener.socket.as_fd())? {
                break;
            }
            match accept(listener, peer) {
                Ok(Some(connection)) => *self = DataPort::Connected(connection),
                Ok(None) | Err(Errno::AGAIN) => {}
                // The transfer command will try again, and answer for it.
                Err(_) => break,
            }
        }
        Ok(())
    }
}

/// Takes one connection from the backlog: `None` for a stranger's, which is dropped, and for one that
/// was gone already.
fn accept(listener: &PassiveListener, peer: IpAddr) -> Result<Option<DataConnection>, Errno> {
    let (socket, address) = match acceptfrom_with(&listener.socket, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
        Err(Errno::INTR | Errno::CONNABORTED | Errno::PROTO) => return Ok(None),
        accepted => accepted?,
    };
    let connection = DataConnection { socket, finished: false };
    let from = address.and_then(|address| SocketAddr::try_from(address).ok());
    if from.is_some_and(|from| canonical(from.ip()) == canonical(peer)) {
        return Ok(Some(connection));
    }
    log::debug!("a stranger came to passive port {}", listener.port());
    Ok(None)
}

/// Takes the first connection that comes from the peer of the control connection. A stranger's is
/// dropped, and the port goes on listening for its owner (RFC 2577 §5).
fn open_passive(
    watch: &mut dyn Watch,
    listener: &PassiveListener,
    peer: IpAddr,
    until: Tick,
) -> Result<DataConnection, DataError> {
    loop {
        match accept(listener, peer) {
            Ok(Some(connection)) => return Ok(connection),
            // Strangers who come without a pause must not keep the owner from being heard.
            Ok(None) => glance(watch)?,
            Err(Errno::AGAIN) => wait(watch, listener.socket.as_fd(), PollFlags::IN, until)?,
            Err(_) => return Err(DataError::CannotOpen),
        }
        if until.left(Tick::now()) == Some(Duration::ZERO) {
            return Err(DataError::NotInTime);
        }
    }
}

/// Connects from the address at which the client reached the server.
fn open_active(
    watch: &mut dyn Watch,
    socket: impl Fn() -> io::Result<Socket>,
    remote: SocketAddr,
    until: Tick,
) -> Result<DataConnection, DataError> {
    for _ in 0..PASSIVE_TRIES {
        let socket = socket().map_err(|_| DataError::CannotOpen)?;
        let connection = DataConnection { socket: socket.into(), finished: false };
        match connect(&connection.socket, &remote) {
            Ok(()) => return Ok(connection),
            Err(Errno::INPROGRESS | Errno::INTR) => wait(watch, connection.as_fd(), PollFlags::OUT, until)?,
            // These two ports were connected a minute ago; another of the own ones will do.
            Err(Errno::ADDRNOTAVAIL) => continue,
            Err(_) => return Err(DataError::CannotOpen),
        }
        return match sockopt::socket_error(&connection.socket) {
            Ok(Ok(())) => Ok(connection),
            _ => Err(DataError::CannotOpen),
        };
    }
    Err(DataError::CannotOpen)
}

impl DataConnection {
    /// One over this socket.
    #[cfg(test)]
    pub(crate) fn for_tests(socket: OwnedFd) -> Self {
        DataConnection { socket, finished: false }
    }

    /// Ends the connection in order: FIN after all that was written, and then the peer's own FIN, or at
    /// least its acknowledgement of every byte, so that the kernel keeps nothing of it when it is closed.
    /// `timeout` is how long acknowledgements may stand still, and `least` how many bytes each such time has
    /// to bring.
    ///
    /// # Errors
    /// [`DataError::Broken`] where the peer did not take it all.
    pub fn finish(mut self, watch: &mut dyn Watch, timeout: Duration, least: u64) -> Result<(), DataError> {
        watch.pulse().worked();
        shutdown(&self.socket, Shutdown::Write).map_err(|_| DataError::Broken)?;
        self.see_it_taken(watch, Acknowledged::none_yet(timeout, least))?;
        match sockopt::socket_error(&self.socket) {
            Ok(Ok(())) => {
                self.finished = true;
                Ok(())
            }
            _ => Err(DataError::Broken),
        }
    }

    /// Ends the connection in order after all was received and the peer has closed its side: nothing is
    /// unsent, so nothing of it stays in the kernel but for the moment that FIN takes.
    pub fn finish_receiving(mut self) {
        self.finished = true;
    }

    /// Waits for the peer to close its side, which most do at once, and looks now and then whether it has
    /// acknowledged everything, FIN too: some programs close only after 226.
    fn see_it_taken(&self, watch: &mut dyn Watch, mut acknowledged: Acknowledged) -> Result<(), DataError> {
        let (mut pause, longest) = FINISH_LOOKS;
        let mut peer_has_closed = false;
        loop {
            watch.pulse().enter(Phase::Finish, acknowledged.until.after(BACKSTOP));
            let until = Tick::now().after(pause);
            // Once the peer has closed its side, poll(2) would only say so again and again.
            let waited = match peer_has_closed {
                false => wait(watch, self.as_fd(), PollFlags::RDHUP, until),
                true => rest(watch, until),
            };
            match waited {
                // Closed by both sides, or reset, which the socket's error tells.
                Ok(()) | Err(Stop::TimedOut) if getpeername(&self.socket) == Err(Errno::NOTCONN) => return Ok(()),
                Ok(()) => peer_has_closed = true,
                Err(Stop::TimedOut) => pause = (pause * 2).min(longest),
                Err(stop) => return Err(stop.into()),
            }
            let left = unacknowledged(self.as_fd()).map_err(|_| DataError::Broken)?;
            if left == 0 {
                return Ok(());
            }
            if acknowledged.moved(left) {
                watch.pulse().worked();
            }
            if acknowledged.until.left(Tick::now()) == Some(Duration::ZERO) {
                return Err(DataError::Broken);
            }
        }
    }
}

/// How far the peer has come in taking the end of a transfer.
#[derive(Debug)]
struct Acknowledged {
    timeout: Duration,
    /// Bytes that make a step.
    least: usize,
    /// It has stalled when this comes before it has advanced.
    until: Tick,
    /// Bytes that were unacknowledged at first, when it last advanced by a step, and just now.
    left: Option<[usize; 3]>,
}

impl Acknowledged {
    fn none_yet(timeout: Duration, least: u64) -> Self {
        let least = usize::try_from(least).unwrap_or(usize::MAX).max(1);
        Acknowledged { timeout, least, until: Tick::now().after(timeout), left: None }
    }

    /// Whether it has moved. Only a step gives it more time: as much as the minimum rate asks for, and of a
    /// short rest an eighth. A byte now and then is none.
    fn moved(&mut self, now_left: usize) -> bool {
        let [first, mut step, last] = *self.left.get_or_insert([now_left; 3]);
        if step.saturating_sub(now_left) >= self.least.min(first.div_ceil(FINISH_STEPS)) {
            step = now_left;
            self.until = Tick::now().after(self.timeout);
        }
        self.left = Some([first, step, now_left]);
        now_left < last
    }
}

impl AsFd for DataConnection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for DataConnection {
    fn drop(&mut self) {
        if !self.finished {
            // Linger 0: closing sends RST and frees what was not sent. It can fail only on a
            // connection that is gone already.
            let _ = sockopt::set_socket_linger(&self.socket, Some(Duration::ZERO));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_the_end_a_step_gives_more_time_and_a_byte_gives_none() {
        let mut slow = Acknowledged::none_yet(Duration::from_secs(60), 600);
        assert!(!slow.moved(80_000), "the first look is no step");
        slow.until = Tick::NEVER;
        assert!(slow.moved(79_999) && slow.until == Tick::NEVER, "it moves, and has not earned more time");
        assert!(slow.moved(79_400) && slow.until < Tick::NEVER, "the minimum rate is enough");
        let mut short = Acknowledged::none_yet(Duration::from_secs(60), 15_360);
        assert!(!short.moved(800));
        short.until = Tick::NEVER;
        assert!(short.moved(700) && short.until < Tick::NEVER, "an eighth of a short rest is enough");
        assert!(!short.moved(700));
    }
}
