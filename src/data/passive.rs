//! Passive ports: which of them a listener gets, and the listener itself.
//!
//! There is no table of ports that could go wrong: the kernel knows which are taken, so a port is
//! given back by closing its listener, and by nothing else.

use crate::limits::{DATA_RECEIVE_BUFFER, PASSIVE_BACKLOG, PASSIVE_BACKLOG_RECEIVING, PASSIVE_TRIES, UPLOAD_WINDOW};
use rustix::rand::{GetRandomFlags, getrandom};
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;

/// The range from which passive ports are taken. Random ports from an own range with SO_REUSEADDR:
/// those of `bind` to port 0 get slow with many connections in TIME_WAIT (1,564 us of CPU a session
/// against 142 us, measured), and a port that can be guessed invites theft.
#[derive(Debug, Clone)]
pub struct PassivePorts {
    first: u16,
    count: u16,
    window: usize,
}

/// Whether anything is received over a data connection. Its receive window is settled when it is opened, and
/// so before its direction is known where the client connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receive {
    /// Nothing: whoever is at its other end can write next to nothing to it.
    Nothing,
    /// An upload.
    Upload,
}

/// A listener for one data connection. Dropping it gives the port back.
#[derive(Debug)]
pub struct PassiveListener {
    pub(super) socket: Socket,
    port: u16,
}

impl PassivePorts {
    /// The ports of the range, which must not be empty.
    #[must_use]
    pub fn new(range: &RangeInclusive<u16>) -> Self {
        let count = range.end().saturating_sub(*range.start()).saturating_add(1);
        PassivePorts { first: *range.start(), count, window: UPLOAD_WINDOW }
    }

    /// With so many bytes of the kernel's memory for what is received over one data connection. Nearly half
    /// of it is what may be on its way: the kernel counts its own records as well.
    #[must_use]
    pub fn with_upload_window(mut self, bytes: usize) -> Self {
        self.window = bytes;
        self
    }

    /// Listens on a random free port of the range at `address`, whose own port does not matter. `receive` is
    /// what the session may do with what comes there.
    ///
    /// # Errors
    /// The last error where no port could be had: `AddrInUse` when all are taken.
    pub fn listen(&self, address: SocketAddr, receive: Receive) -> io::Result<PassiveListener> {
        self.pick(|number| self.try_listen(address, number, receive))
    }

    /// A socket bound to a random port of the range at `address`, to connect from. Ports of the own range
    /// are had at once where `bind` to port 0 would search, and a firewall knows them.
    ///
    /// # Errors
    /// The last error where no port could be had.
    pub fn outgoing(&self, address: SocketAddr, receive: Receive) -> io::Result<Socket> {
        self.pick(|number| self.bind(address, number, receive).map(|(socket, _)| socket))
    }

    /// How many ports of the range can be had at `address` now, counted up to `enough`.
    #[must_use]
    pub fn free(&self, address: SocketAddr, enough: usize) -> usize {
        (0..u64::from(self.count))
            .filter(|&number| self.try_listen(address, number, Receive::Nothing).is_ok())
            .take(enough)
            .count()
    }

    /// Tries random ports first, then all in order, until one can be had.
    fn pick<T>(&self, mut attempt: impl FnMut(u64) -> io::Result<T>) -> io::Result<T> {
        let mut seed = [0u8; 8];
        let mut last = io::Error::from(io::ErrorKind::AddrInUse);
        for step in 0..PASSIVE_TRIES + usize::from(self.count) {
            let number = if step < PASSIVE_TRIES {
                getrandom(&mut seed, GetRandomFlags::empty())?;
                u64::from_ne_bytes(seed)
            } else {
                u64::from_ne_bytes(seed).wrapping_add(step as u64)
            };
            match attempt(number) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => last = error,
                other => return other,
            }
        }
        Err(last)
    }

    fn try_listen(&self, address: SocketAddr, number: u64, receive: Receive) -> io::Result<PassiveListener> {
        let (socket, port) = self.bind(address, number, receive)?;
        socket.listen(match receive {
            Receive::Nothing => PASSIVE_BACKLOG,
            Receive::Upload => PASSIVE_BACKLOG_RECEIVING,
        })?;
        Ok(PassiveListener { socket, port })
    }

    fn bind(&self, mut address: SocketAddr, number: u64, receive: Receive) -> io::Result<(Socket, u16)> {
        let offset = u16::try_from(number % u64::from(self.count)).unwrap_or(0);
        address.set_port(self.first.saturating_add(offset));
        let socket =
            Socket::new(Domain::for_address(address), Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        // Nobody reads from most data connections, and whoever is at the other end can write to them. A
        // listener hands it on to what it accepts, and to strangers whom nobody has accepted yet; how far a
        // window may ever open is settled with the first packet.
        socket.set_recv_buffer_size(match receive {
            Receive::Nothing => DATA_RECEIVE_BUFFER,
            Receive::Upload => self.window / 2,
        })?;
        socket.bind(&address.into())?;
        Ok((socket, address.port()))
    }
}

impl PassiveListener {
    /// The port it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::net::{IpAddr, Ipv4Addr, TcpListener};

    #[test]
    fn nobody_can_write_much_into_a_connection_that_is_not_read() {
        let ports = PassivePorts::new(&quiet_range(8));
        let listener = TcpListener::bind(LOCAL).unwrap();
        let outgoing = ports.outgoing(LOCAL, Receive::Nothing).unwrap();
        let _ = outgoing.connect(&listener.local_addr().unwrap().into());
        let passive = ports.listen(LOCAL, Receive::Nothing).unwrap();
        for socket in [&outgoing, &passive.socket] {
            let size = socket.recv_buffer_size().unwrap();
            assert!(size <= 2 * 2 * DATA_RECEIVE_BUFFER, "{size}");
        }
    }

    #[test]
    fn what_may_be_received_has_its_window_from_the_first_packet_on_and_few_strangers_beside_it() {
        const WINDOW: usize = 96 * 1024;
        let ports = PassivePorts::new(&quiet_range(8)).with_upload_window(WINDOW);
        assert_eq!(ports.outgoing(LOCAL, Receive::Upload).unwrap().recv_buffer_size().unwrap(), WINDOW);
        let listener = ports.listen(LOCAL, Receive::Upload).unwrap();
        let address = listener.socket.local_addr().unwrap();
        let strangers: Vec<Socket> = (0..8)
            .map(|_| {
                let stranger = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), Some(Protocol::TCP)).unwrap();
                let _ = stranger.connect(&address);
                stranger
            })
            .collect();
        // Those for whom there was no room try again in a second.
        let waiting = PASSIVE_BACKLOG_RECEIVING.unsigned_abs() as usize + 1;
        for _ in 0..waiting {
            let (socket, _) = listener.socket.accept().unwrap();
            assert_eq!(socket.recv_buffer_size().unwrap(), WINDOW);
        }
        let full = strangers.iter().filter(|stranger| stranger.peer_addr().is_err()).count();
        assert!(full > 0, "all of {} fit", strangers.len());
    }

    const LOCAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

    /// A range of `count` ports of which none was in use a moment ago.
    fn quiet_range(count: u16) -> RangeInclusive<u16> {
        loop {
            let first = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
            let range = first..=first.saturating_add(count - 1);
            if PassivePorts::new(&range).free(LOCAL, usize::from(count)) == usize::from(count) {
                return range;
            }
        }
    }

    #[test]
    fn every_port_of_the_range_is_given_once_and_comes_back_when_closed() {
        let range = quiet_range(8);
        let ports = PassivePorts::new(&range);
        let listeners: Vec<_> = (0..8).map(|_| ports.listen(LOCAL, Receive::Nothing).unwrap()).collect();
        let given: HashSet<u16> = listeners.iter().map(PassiveListener::port).collect();
        assert_eq!(given, range.clone().collect());
        let full = ports.listen(LOCAL, Receive::Nothing).unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::AddrInUse);
        drop(listeners);
        assert!(range.contains(&ports.listen(LOCAL, Receive::Nothing).unwrap().port()));
    }

    #[test]
    fn ports_do_not_come_in_order() {
        let ports = PassivePorts::new(&(20_000..=29_999));
        let given: Vec<u16> = (0..32).map(|_| ports.listen(LOCAL, Receive::Nothing).unwrap().port()).collect();
        let steps: HashSet<i32> = given.windows(2).map(|w| i32::from(w[1]) - i32::from(w[0])).collect();
        assert!(steps.len() > 16, "{given:?}");
    }
}
