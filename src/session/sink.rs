//! Where the lines of a listing go: over a data connection, or into a reply.

use crate::data::port::DataError;
use crate::data::pulse::Tick;
use crate::data::transfer::Outgoing;
use crate::limits::LISTING_PAUSE;
use crate::session::control::ControlConnection;

/// Where lines go.
pub(super) trait Sink {
    /// Takes one line without its end.
    fn line(&mut self, text: &[u8]) -> Result<(), DataError>;
    /// Nothing to write, but time has passed.
    fn breathe(&mut self) -> Result<(), DataError>;
}

/// Lines over a data connection: CRLF in every representation type (RFC 959 §4.1.3), gathered in the
/// worker's buffer, but not for longer than [`LISTING_PAUSE`].
pub(super) struct DataSink<'a, 'b> {
    sender: &'a mut Outgoing<'b>,
    buffer: &'a mut [u8],
    used: usize,
    flushed: Tick,
}

impl<'a, 'b> DataSink<'a, 'b> {
    pub(super) fn new(sender: &'a mut Outgoing<'b>, buffer: &'a mut [u8]) -> Self {
        DataSink { sender, buffer, used: 0, flushed: Tick::now() }
    }

    /// Sends what is left.
    pub(super) fn end(mut self) -> Result<(), DataError> {
        self.flush()
    }

    fn is_due(&self) -> bool {
        self.flushed.age(Tick::now()) >= LISTING_PAUSE
    }

    fn flush(&mut self) -> Result<(), DataError> {
        self.flushed = Tick::now();
        let used = std::mem::take(&mut self.used);
        self.sender.bytes(self.buffer.get(..used).unwrap_or_default())
    }
}

impl Sink for DataSink<'_, '_> {
    fn line(&mut self, text: &[u8]) -> Result<(), DataError> {
        if self.buffer.len() - self.used < text.len() + 2 {
            self.flush()?;
        }
        for part in [text, b"\r\n"] {
            if let Some(room) = self.buffer.get_mut(self.used..self.used + part.len()) {
                room.copy_from_slice(part);
                self.used += part.len();
            }
        }
        if self.is_due() { self.breathe() } else { Ok(()) }
    }

    fn breathe(&mut self) -> Result<(), DataError> {
        if self.is_due() {
            self.flush()?;
        }
        self.sender.breathe()
    }
}

/// Lines over the control connection, as the inner lines of a reply.
pub(super) struct ControlSink<'a, 'b>(pub(super) &'a mut ControlConnection<'b>);

impl Sink for ControlSink<'_, '_> {
    fn line(&mut self, text: &[u8]) -> Result<(), DataError> {
        Ok(self.0.send_inner(text)?)
    }

    fn breathe(&mut self) -> Result<(), DataError> {
        Ok(self.0.check()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::port::DataConnection;
    use crate::data::pulse::Pulse;
    use crate::data::wait::{Stop, Watch};
    use rustix::event::PollFlags;
    use std::io::Read;
    use std::os::fd::{AsFd, BorrowedFd};
    use std::os::unix::net::UnixStream;
    use std::time::{Duration, Instant};

    /// A control connection over which nothing comes.
    struct Silent {
        socket: UnixStream,
        pulse: Pulse,
    }

    impl Watch for Silent {
        fn descriptor(&self) -> BorrowedFd<'_> {
            self.socket.as_fd()
        }

        fn pulse(&self) -> &Pulse {
            &self.pulse
        }

        fn prepare(&mut self) -> Result<PollFlags, Stop> {
            Ok(PollFlags::IN)
        }

        fn heard(&mut self, _: PollFlags) -> Result<(), Stop> {
            Ok(())
        }
    }

    /// Writes one line, and then does `then` every few milliseconds until the client has it.
    fn sent_although(then: impl Fn(&mut DataSink<'_, '_>) -> Result<(), DataError>) {
        let (mut client, server) = UnixStream::pair().unwrap();
        client.set_nonblocking(true).unwrap();
        let (_other_end, socket) = UnixStream::pair().unwrap();
        let mut watch = Silent { socket, pulse: Pulse::default() };
        let connection = DataConnection::for_tests(server.into());
        let mut sender = Outgoing::new(&connection, &mut watch, None);
        let mut buffer = [0; 64 * 1024];
        let mut sink = DataSink::new(&mut sender, &mut buffer);
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut received = [0; 6];
        sink.line(b"name").unwrap();
        while client.read(&mut received).is_err() {
            assert!(Instant::now() < deadline, "the line is kept");
            std::thread::sleep(Duration::from_millis(5));
            then(&mut sink).unwrap();
        }
        assert_eq!(&received, b"name\r\n");
    }

    #[test]
    fn lines_that_come_slowly_do_not_wait_until_the_buffer_is_full() {
        sent_although(|sink| sink.line(b""));
    }

    #[test]
    fn lines_do_not_wait_while_nothing_that_is_shown_comes_after_them() {
        sent_although(|sink| sink.breathe());
    }
}
