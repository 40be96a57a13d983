//! Connections of a client: how they are made, and what a data connection does. Every wait is bounded.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use super::fault::Failure;

/// Where to connect to, and how long to wait.
#[derive(Debug)]
pub struct Server {
    /// The one address that was resolved and judged.
    pub address: SocketAddr,
    /// For every single wait.
    pub timeout: Duration,
    /// The server knows no EPSV: PASV is asked for at once.
    pub(super) no_epsv: AtomicBool,
    /// Each client comes from an address of its own.
    apart: bool,
}

impl Server {
    /// A server at this address.
    #[must_use]
    pub fn new(address: SocketAddr, timeout: Duration) -> Self {
        Self { address, timeout, no_epsv: AtomicBool::new(false), apart: false }
    }

    /// A server on this host, to which each client comes from a loopback address of its own, as visitors do.
    #[must_use]
    pub fn here(port: u16, timeout: Duration) -> Self {
        Self { apart: true, ..Self::new((Ipv4Addr::LOCALHOST, port).into(), timeout) }
    }

    /// The address from which this client comes, where that is not for the kernel to choose.
    pub(super) fn source(&self, client: usize) -> Option<Ipv4Addr> {
        let part = |number: usize| u8::try_from(number).unwrap_or(u8::MAX);
        self.apart.then(|| Ipv4Addr::new(127, 1, part(client / 250), part(client % 250 + 1)))
    }

    pub(super) fn connect(&self, address: SocketAddr, source: Option<Ipv4Addr>) -> Result<TcpStream, std::io::Error> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_read_timeout(Some(self.timeout))?;
        // Also bounds the connect (socket(7)).
        socket.set_write_timeout(Some(self.timeout))?;
        if let Some(source) = source {
            socket.bind(&SocketAddr::from((source, 0)).into())?;
        }
        socket.connect(&address.into())?;
        Ok(socket.into())
    }
}

/// A data connection.
#[derive(Debug)]
pub struct Data(TcpStream);

impl Data {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self(stream)
    }

    /// Receives some bytes; 0 at the end.
    ///
    /// # Errors
    /// The connection stalled or broke.
    pub fn receive(&mut self, buffer: &mut [u8]) -> Result<usize, Failure> {
        received(&mut self.0, buffer).map_err(of_data)
    }

    /// Sends all of these bytes.
    ///
    /// # Errors
    /// The connection stalled or broke.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.0.write_all(bytes).map_err(|error| of_data(Failure::of_connection(&error)))
    }
}

fn of_data(failure: Failure) -> Failure {
    match failure {
        Failure::Timeout => Failure::Timeout,
        _ => Failure::Data,
    }
}

/// Receives some bytes; 0 at the end.
pub(super) fn received(stream: &mut TcpStream, buffer: &mut [u8]) -> Result<usize, Failure> {
    loop {
        match stream.read(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result.map_err(|error| Failure::of_connection(&error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load::CLIENTS_MAX;

    #[test]
    fn each_client_on_this_host_has_an_address_of_its_own() {
        let server = Server::here(21, Duration::ZERO);
        let all: std::collections::BTreeSet<_> = (0..CLIENTS_MAX).map(|client| server.source(client)).collect();
        assert!(all.len() == CLIENTS_MAX && all.iter().all(|source| source.is_some_and(|ip| ip.is_loopback())));
        assert_eq!(Server::new(server.address, Duration::ZERO).source(3), None);
    }
}
