//! The sockets that the server listens on. What is set here is inherited by every control connection,
//! so no connection costs a system call for it.

use crate::limits::{CONTROL_RECEIVE_BUFFER, CONTROL_SEND_BUFFER, CONTROL_USER_TIMEOUT, LISTEN_BACKLOG};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};

/// Listens at every address. `fallback`: plain IPv4 will do at the first where the host has no IPv6.
///
/// # Errors
/// The address that can't be had, and why.
pub fn all(addresses: &[SocketAddr], fallback: bool) -> Result<Vec<Socket>, (SocketAddr, io::Error)> {
    addresses
        .iter()
        .map(|&address| {
            let socket = match at(address) {
                Err(error) if fallback && address.is_ipv6() && lacks_ipv6(&error) => {
                    at(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port()))
                }
                other => other,
            };
            socket.map_err(|error| (address, error))
        })
        .collect()
}

fn at(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // One socket for both families, whatever the host's default is; but an address of its own is
        // just that address.
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_reuse_address(true)?;
    // Without it a client waits 40 ms for every reply that follows another.
    socket.set_tcp_nodelay(true)?;
    socket.set_keepalive(true)?;
    // ABOR comes as urgent data, and is to be read in its place.
    SockRef::from(&socket).set_out_of_band_inline(true)?;
    socket.set_tcp_user_timeout(Some(CONTROL_USER_TIMEOUT))?;
    socket.set_recv_buffer_size(CONTROL_RECEIVE_BUFFER)?;
    socket.set_send_buffer_size(CONTROL_SEND_BUFFER)?;
    socket.bind(&address.into())?;
    socket.listen(LISTEN_BACKLOG)?;
    Ok(socket)
}

fn lacks_ipv6(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let lacking = [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL, Errno::PROTONOSUPPORT, Errno::NOPROTOOPT];
    error.raw_os_error().is_some_and(|code| lacking.iter().any(|e| e.raw_os_error() == code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_host_without_ipv6_is_taken_for_one() {
        let error = |errno: rustix::io::Errno| io::Error::from_raw_os_error(errno.raw_os_error());
        assert!(lacks_ipv6(&error(rustix::io::Errno::AFNOSUPPORT)));
        assert!(lacks_ipv6(&error(rustix::io::Errno::ADDRNOTAVAIL)));
        assert!(!lacks_ipv6(&error(rustix::io::Errno::ADDRINUSE)));
        assert!(!lacks_ipv6(&error(rustix::io::Errno::ACCESS)));
    }

    #[test]
    fn a_taken_port_is_refused_with_its_address() {
        let first = all(&["127.0.0.1:0".parse().unwrap()], false).unwrap();
        let taken = first[0].local_addr().unwrap().as_socket().unwrap();
        let (address, error) = all(&[taken], true).unwrap_err();
        assert_eq!((address, error.kind()), (taken, io::ErrorKind::AddrInUse));
    }
}
