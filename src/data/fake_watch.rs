//! For tests: a control connection that hears what the real one hears, without its commands. `A` is ABOR
//! and `Q` is QUIT.

use super::pulse::Pulse;
use super::wait::{Stop, Watch, check};
use rustix::event::PollFlags;
use std::io::Read;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};

/// The server's end.
pub(crate) struct FakeWatch {
    socket: TcpStream,
    pulse: Pulse,
    quit: bool,
    peer_closed: bool,
}

impl FakeWatch {
    /// One, and the client's end.
    pub(crate) fn new() -> (FakeWatch, TcpStream) {
        let (client, socket) = tcp_pair();
        (FakeWatch { socket, pulse: Pulse::default(), quit: false, peer_closed: false }, client)
    }
}

/// Two ends of a connection over TCP: the client's and the server's.
pub(crate) fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (client, listener.accept().unwrap().0)
}

impl Watch for FakeWatch {
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    fn prepare(&mut self) -> Result<PollFlags, Stop> {
        Ok(match (self.quit, self.peer_closed) {
            (_, true) => PollFlags::empty(),
            (true, false) => PollFlags::RDHUP,
            (false, false) => PollFlags::IN | PollFlags::RDHUP,
        })
    }

    fn heard(&mut self, events: PollFlags) -> Result<(), Stop> {
        check(&self.pulse)?;
        if events.intersects(PollFlags::HUP | PollFlags::ERR) {
            return Err(Stop::ControlLost);
        }
        if !events.contains(PollFlags::IN) {
            self.peer_closed = true;
            return if self.quit { Ok(()) } else { Err(Stop::ControlLost) };
        }
        let mut byte = [0];
        match self.socket.read(&mut byte) {
            Ok(1) if byte == *b"A" => Err(Stop::Abort),
            Ok(1) if byte == *b"Q" => {
                self.quit = true;
                Ok(())
            }
            Ok(1) => Ok(()),
            _ => Err(Stop::ControlLost),
        }
    }
}
