//! Data ports and data connections: how they are opened, by whom, and how they are closed.

use super::passive::{PassiveListener, PassivePorts};
use super::pulse::{Phase, Tick};
use super::wait::{Stop, Watch, glance, is_ready, wait, wait_at_prompt};
use crate::limits::{BACKSTOP, DRAIN_STEPS, FIN_WAIT, NOTSENT_LOWAT, ORPHAN_TIMEOUT, PASSIVE_TRIES};
use crate::proto::hostport::canonical;
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{Shutdown, SocketFlags, acceptfrom_with, connect, getpeername, shutdown, sockopt};
use socket2::SockRef;
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
    /// Opens the data connection, to or from `peer` alone, within `timeout`. The port is used up
    /// whatever comes of it.
    ///
    /// # Errors
    /// Why not.
    pub fn open(
        self,
        watch: &mut dyn Watch,
        ports: &PassivePorts,
        peer: IpAddr,
        timeout: Duration,
    ) -> Result<DataConnection, DataError> {
        let until = Tick::now().after(timeout);
        watch.pulse().enter(Phase::Connect, until.after(BACKSTOP));
        let opened = match self {
            DataPort::None => Err(DataError::NoPort),
            DataPort::Active { remote, local } => open_active(watch, ports, local, remote, until),
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
    ports: &PassivePorts,
    local: SocketAddr,
    remote: SocketAddr,
    until: Tick,
) -> Result<DataConnection, DataError> {
    for _ in 0..PASSIVE_TRIES {
        let socket = ports.outgoing(local).map_err(|_| DataError::CannotOpen)?;
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

    /// Ends the connection in order: all that was written has left this host, FIN after it. Then the peer
    /// has [`FIN_WAIT`] to close its side; one that keeps it open until it has read 226 gets its 226.
    /// `timeout` is how long sending may stand still.
    ///
    /// # Errors
    /// [`DataError::Broken`] where the peer did not take it all.
    pub fn finish(mut self, watch: &mut dyn Watch, timeout: Duration) -> Result<(), DataError> {
        watch.pulse().worked();
        self.drain(watch, timeout)?;
        let until = Tick::now().after(FIN_WAIT);
        watch.pulse().enter(Phase::Finish, until.after(BACKSTOP));
        shutdown(&self.socket, Shutdown::Write).map_err(|_| DataError::Broken)?;
        match wait(watch, self.socket.as_fd(), PollFlags::RDHUP, until) {
            // Closed on both sides and all of it acknowledged: the kernel keeps nothing of it.
            Ok(()) if getpeername(&self.socket) == Err(Errno::NOTCONN) => {}
            // What is on its way still is no more than a window, and is dropped if nobody takes it.
            Ok(()) | Err(Stop::TimedOut) => {
                let _ = SockRef::from(&self.socket).set_tcp_user_timeout(Some(ORPHAN_TIMEOUT));
            }
            Err(stop) => return Err(stop.into()),
        }
        match sockopt::socket_error(&self.socket) {
            Ok(Ok(())) => {
                self.finished = true;
                Ok(())
            }
            _ => Err(DataError::Broken),
        }
    }

    /// Waits until nothing is left that the kernel has not sent: closing would leave it behind as an
    /// orphan that holds its memory for minutes. TCP_NOTSENT_LOWAT, lowered in steps, makes poll(2) tell
    /// how much is left, so that a slow peer is seen to move.
    fn drain(&self, watch: &mut dyn Watch, timeout: Duration) -> Result<(), DataError> {
        let socket = SockRef::from(&self.socket);
        let left_below = |bytes| socket.set_tcp_notsent_lowat(bytes).map_err(|_| DataError::Broken);
        left_below(1)?;
        if is_ready(self.as_fd(), PollFlags::OUT) {
            return Ok(());
        }
        // A last segment that is not full waits for what is in flight (Nagle), and FIN does not push it yet.
        socket.set_tcp_nodelay(true).map_err(|_| DataError::Broken)?;
        for step in (0..DRAIN_STEPS).rev() {
            left_below(1 + step * NOTSENT_LOWAT / DRAIN_STEPS)?;
            let until = Tick::now().after(timeout);
            watch.pulse().enter(Phase::Finish, until.after(BACKSTOP));
            match wait(watch, self.as_fd(), PollFlags::OUT, until) {
                Err(Stop::TimedOut) => return Err(DataError::Broken),
                other => other?,
            }
        }
        Ok(())
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
