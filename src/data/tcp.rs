//! What the kernel knows of a TCP connection and no safe binding asks it for. One of the two modules with
//! `unsafe` code.
//!
//! It is worth that. Without [`unacknowledged`] a connection could be closed with a window of data on its
//! way, which the kernel then keeps for as long as the peer acknowledges a byte now and then; without
//! [`round_trip`] every large transfer would hold a window that only long paths need.

#![allow(unsafe_code)]

use rustix::io::{Errno, Result};
use rustix::ioctl::{Getter, Opcode, ioctl};
use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

/// SIOCOUTQ of tcp(7): bytes that are not sent, or sent and not acknowledged; FIN counts as one.
#[allow(clippy::cast_possible_truncation, reason = "an operation has 32 bits")]
const SIOCOUTQ: Opcode = libc::TIOCOUTQ as Opcode;

/// Bytes of a TCP connection that the peer has not acknowledged, FIN included. A connection that was reset
/// may go on telling what it had.
///
/// # Errors
/// The descriptor is no connected TCP socket.
pub fn unacknowledged(socket: BorrowedFd<'_>) -> Result<usize> {
    // SAFETY: SIOCOUTQ is an operation that writes one int and reads nothing, which is what `Getter` is for.
    let getter = unsafe { Getter::<SIOCOUTQ, c_int>::new() };
    // SAFETY: the descriptor is borrowed, so it is open; `getter` holds the int that is written. On another
    // kind of file the operation writes an int as well (TIOCOUTQ), or fails.
    let bytes = unsafe { ioctl(socket, getter) }?;
    Ok(usize::try_from(bytes).unwrap_or(0))
}

/// The time that a round trip to the peer takes, as the kernel has measured it so far (TCP_INFO of tcp(7)).
///
/// # Errors
/// The descriptor is no TCP socket, or the kernel does not tell.
pub fn round_trip(socket: BorrowedFd<'_>) -> Result<Duration> {
    let mut info = MaybeUninit::<libc::tcp_info>::zeroed();
    let mut length = libc::socklen_t::try_from(size_of::<libc::tcp_info>()).map_err(|_| Errno::INVAL)?;
    // SAFETY: the descriptor is borrowed, so it is open; the kernel writes at most `length` bytes to `info`,
    // which has that many, and how many they were to `length`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL));
    }
    // SAFETY: it is all integers, for which any bytes are valid, and those that the kernel did not write are
    // zeroes.
    let info = unsafe { info.assume_init() };
    Ok(Duration::from_micros(info.tcpi_rtt.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpListener, TcpStream};
    use std::os::fd::AsFd;
    use std::time::Instant;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (near, listener.accept().unwrap().0)
    }

    fn becomes(socket: &TcpStream, wanted: impl Fn(usize) -> bool) {
        let end = Instant::now() + Duration::from_secs(10);
        while !wanted(unacknowledged(socket.as_fd()).unwrap()) {
            assert!(Instant::now() < end, "{:?}", unacknowledged(socket.as_fd()));
            std::thread::yield_now();
        }
    }

    #[test]
    fn what_a_peer_does_not_take_is_counted_and_what_it_takes_is_not() {
        let (mut near, mut far) = pair();
        assert_eq!(unacknowledged(near.as_fd()), Ok(0));
        near.set_nonblocking(true).unwrap();
        let mut written = 0;
        while let Ok(count) = near.write(&[0; 65536]) {
            written += count;
        }
        becomes(&near, |left| left > 0 && left < written);
        near.shutdown(Shutdown::Write).unwrap();
        let mut taken = Vec::new();
        far.read_to_end(&mut taken).unwrap();
        assert_eq!(taken.len(), written);
        // The peer has FIN too, though it has not closed its own side.
        becomes(&near, |left| left == 0);
    }

    #[test]
    fn the_way_to_oneself_is_short_and_takes_some_time() {
        let (near, far) = pair();
        for socket in [near, far] {
            let time = round_trip(socket.as_fd()).unwrap();
            assert!(!time.is_zero() && time < Duration::from_secs(1), "{time:?}");
        }
    }

    #[test]
    fn what_is_no_connection_is_an_error() {
        let file = tempfile::tempfile().unwrap();
        assert!(unacknowledged(file.as_fd()).is_err());
        assert_eq!(round_trip(file.as_fd()), Err(Errno::NOTSOCK));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(unacknowledged(listener.as_fd()), Err(Errno::INVAL));
    }
}
