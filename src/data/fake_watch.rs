//! For tests: a control connection that hears what the real one hears, with commands of one letter. `A` is
//! ABOR, `Q` is QUIT, and anything else is NOOP.

use super::pulse::{Pulse, Reason};
use super::wait::{Stop, Watch, check};
use rustix::event::PollFlags;
use socket2::SockRef;
use std::io::Read;
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The server's end.
pub(crate) struct FakeWatch {
    socket: TcpStream,
    pulse: Arc<Pulse>,
    /// The commands that were heard.
    pub(crate) heard: String,
    peer_closed: bool,
}

impl FakeWatch {
    /// One, and the client's end.
    pub(crate) fn new() -> (FakeWatch, TcpStream) {
        let (client, socket) = tcp_pair();
        let heard = String::new();
        (FakeWatch { socket, pulse: Arc::default(), heard, peer_closed: false }, client)
    }

    /// As the reaper does once `when` holds: marks the session, and shuts the reading side of its control
    /// connection down.
    pub(crate) fn marked_when(&self, reason: Reason, when: fn(&Pulse) -> bool) -> JoinHandle<()> {
        let (pulse, socket) = (Arc::clone(&self.pulse), self.socket.try_clone().unwrap());
        std::thread::spawn(move || {
            let end = Instant::now() + Duration::from_secs(20);
            while !when(&pulse) && Instant::now() < end {
                std::thread::yield_now();
            }
            let as_awaited = when(&pulse);
            pulse.set_mark(reason);
            socket.shutdown(Shutdown::Read).unwrap();
            assert!(as_awaited, "it never came to that: {pulse:?}");
        })
    }
}

/// Two ends of a connection over TCP: the client's and the server's.
pub(crate) fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (client, listener.accept().unwrap().0)
}

/// Ends a connection with RST.
pub(crate) fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

impl Watch for FakeWatch {
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    fn prepare(&mut self) -> Result<PollFlags, Stop> {
        Ok(match (self.heard.contains('Q'), self.peer_closed) {
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
            return if self.heard.contains('Q') { Ok(()) } else { Err(Stop::ControlLost) };
        }
        let mut byte = [0];
        match self.socket.read(&mut byte) {
            Ok(1) => self.heard.push(byte[0].into()),
            _ => return Err(Stop::ControlLost),
        }
        if byte == *b"A" { Err(Stop::Abort) } else { Ok(()) }
    }
}
