//! Sending over an open data connection: a file as it is, a file in ASCII, or lines.
//!
//! Nothing here opens, names or ends anything; it moves bytes, tells the pulse how many, and waits in
//! [`super::wait`] alone. Stalls and slow peers are the reaper's business.

use super::flow::{Flow, Way};
use super::pace::Pace;
use super::port::{DataConnection, DataError};
use super::wait::{Watch, glance};
use super::window::Window;
use crate::limits::SENDFILE_CHUNK;
use crate::proto::ascii;
use rustix::fs::sendfile;
use rustix::io::{Errno, pread};
use rustix::net::{SendFlags, send};
use std::os::fd::BorrowedFd;

/// The open data connection of one transfer, over which is sent.
pub struct Outgoing<'a> {
    flow: Flow<'a>,
    window: Option<&'a Window<'a>>,
}

impl<'a> Outgoing<'a> {
    /// Begins to send, no faster than `pace` lets it.
    pub fn new(connection: &'a DataConnection, watch: &'a mut dyn Watch, pace: Option<&'a Pace>) -> Self {
        Outgoing { flow: Flow::begin(connection, watch, pace, Way::Out), window: None }
    }

    /// The same within a window that may grow with the transfer.
    #[must_use]
    pub fn within(self, window: &'a Window<'a>) -> Self {
        Outgoing { window: Some(window), ..self }
    }

    /// Sends `file` from `offset` to `end` as it is.
    ///
    /// # Errors
    /// [`DataError::Local`] where the file is shorter than it was, or can't be read.
    pub fn file(&mut self, file: BorrowedFd<'_>, offset: u64, end: u64, buffer: &mut [u8]) -> Result<(), DataError> {
        let mut position = offset;
        while position < end {
            let most = self.window.map_or(SENDFILE_CHUNK, Window::chunk);
            let chunk = usize::try_from(end - position).unwrap_or(most).min(most);
            let mut turn = self.flow.turn(chunk)?;
            let before = position;
            match sendfile(self.flow.connection, file, Some(&mut position), turn.bytes()) {
                Ok(0) => return Err(DataError::Local),
                Ok(count) => {
                    turn.spend(count);
                    self.flow.count(position - before)?;
                    if let Some(window) = self.window {
                        window.sent(self.flow.connection, position - offset);
                    }
                }
                Err(Errno::AGAIN) => self.flow.wait()?,
                Err(Errno::INTR) => {}
                // Some file systems can't feed sendfile.
                Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => return self.copy(file, position, end, buffer),
                Err(error) => return Err(broken_or_local(error)),
            }
        }
        Ok(())
    }

    fn copy(&mut self, file: BorrowedFd<'_>, offset: u64, end: u64, buffer: &mut [u8]) -> Result<(), DataError> {
        let mut position = offset;
        while position < end {
            let most = usize::try_from(end - position).unwrap_or(buffer.len()).min(buffer.len());
            let read = self.read(file, buffer.get_mut(..most), position)?;
            self.bytes(buffer.get(..read).unwrap_or_default())?;
            position += read as u64;
        }
        Ok(())
    }

    /// Sends `file` up to `end` in ASCII: each line feed as CR LF (RFC 959 §3.1.1.1).
    ///
    /// # Errors
    /// As for [`Outgoing::file`].
    pub fn ascii_file(&mut self, file: BorrowedFd<'_>, end: u64, buffer: &mut [u8]) -> Result<(), DataError> {
        // One third is read into, two thirds hold what it becomes at the worst.
        let (input, output) = buffer.split_at_mut(buffer.len() / 3);
        let mut position = 0;
        while position < end {
            let most = usize::try_from(end - position).unwrap_or(input.len()).min(input.len());
            let read = self.read(file, input.get_mut(..most), position)?;
            position += read as u64;
            let mut rest = input.get(..read).unwrap_or_default();
            while !rest.is_empty() {
                let (consumed, produced) = ascii::to_network(rest, output);
                self.bytes(output.get(..produced).unwrap_or_default())?;
                rest = rest.get(consumed..).unwrap_or_default();
            }
        }
        Ok(())
    }

    /// Sends these bytes.
    ///
    /// # Errors
    /// What ended the transfer.
    pub fn bytes(&mut self, mut bytes: &[u8]) -> Result<(), DataError> {
        while !bytes.is_empty() {
            let mut turn = self.flow.turn(bytes.len())?;
            let piece = bytes.get(..turn.bytes()).unwrap_or(bytes);
            match send(self.flow.connection, piece, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(count) => {
                    turn.spend(count);
                    bytes = bytes.get(count..).unwrap_or_default();
                    self.flow.count(count as u64)?;
                }
                Err(Errno::AGAIN) => self.flow.wait()?,
                Err(Errno::INTR) => {}
                Err(_) => return Err(DataError::Broken),
            }
        }
        Ok(())
    }

    /// Hears the control connection although there is nothing to send.
    ///
    /// # Errors
    /// What ends the transfer.
    pub fn breathe(&mut self) -> Result<(), DataError> {
        Ok(glance(self.flow.watch)?)
    }

    fn read(&self, file: BorrowedFd<'_>, buffer: Option<&mut [u8]>, position: u64) -> Result<usize, DataError> {
        match pread(file, buffer.unwrap_or_default(), position) {
            // It was longer when the transfer began: what was promised can't be sent.
            Ok(0) | Err(_) => Err(DataError::Local),
            Ok(read) => Ok(read),
        }
    }
}

/// sendfile(2) has two ends: these are errors of the socket's, all others are of the file's.
fn broken_or_local(error: Errno) -> DataError {
    match error {
        Errno::PIPE | Errno::CONNRESET | Errno::TIMEDOUT | Errno::HOSTUNREACH | Errno::NETUNREACH | Errno::NOTCONN => {
            DataError::Broken
        }
        _ => DataError::Local,
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake_watch::{FakeWatch, tcp_pair};
    use super::super::wait::Stop;
    use super::*;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    use std::time::{Duration, Instant};

    const RATE: u64 = 400_000;
    const BYTES: usize = 200_000;

    /// What the client receives of a paced transfer, which must have taken its time.
    fn paced(send: impl FnOnce(&mut Outgoing<'_>) -> Result<(), DataError>) -> Vec<u8> {
        let (mut client, server) = tcp_pair();
        server.set_nonblocking(true).unwrap();
        let (mut watch, _control) = FakeWatch::new();
        let connection = DataConnection::for_tests(server.into());
        let mut received = Vec::new();
        let start = Instant::now();
        let reader = std::thread::spawn(move || client.read_to_end(&mut received).map(|_| received));
        let pace = Pace::new(RATE);
        send(&mut Outgoing::new(&connection, &mut watch, Some(&pace))).unwrap();
        // Half a second, less what it may run ahead, and its last piece.
        assert!(start.elapsed() >= Duration::from_millis(200), "{:?}", start.elapsed());
        assert!(watch.pulse().held() >= Duration::from_millis(150), "{:?}", watch.pulse().held());
        connection.finish(&mut watch, Duration::from_secs(20), 1).unwrap();
        reader.join().unwrap().unwrap()
    }

    #[test]
    fn a_paced_transfer_is_whole_and_no_faster_than_its_pace() {
        let bytes: Vec<u8> = (0..BYTES).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
        assert!(paced(|sender| sender.bytes(&bytes)) == bytes);
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        assert!(paced(|sender| sender.file(file.as_fd(), 0, BYTES as u64, &mut [0; 1024])) == bytes);
        assert!(paced(|sender| sender.file(file.as_fd(), 1000, BYTES as u64, &mut [0; 1024])) == bytes[1000..]);
    }

    #[test]
    fn an_abort_is_heard_while_a_turn_is_waited_for() {
        let (_client, server) = tcp_pair();
        let (mut watch, mut control) = FakeWatch::new();
        let connection = DataConnection::for_tests(server.into());
        control.write_all(b"NA").unwrap();
        let pace = Pace::new(1);
        let outcome = Outgoing::new(&connection, &mut watch, Some(&pace)).bytes(&[0; 3600]);
        assert!(matches!(outcome, Err(DataError::Stopped(Stop::Abort))), "{outcome:?}");
        assert_eq!(watch.heard, "NA");
    }

    #[test]
    fn the_two_ends_of_sendfile_are_told_apart() {
        assert!(matches!(broken_or_local(Errno::PIPE), DataError::Broken));
        assert!(matches!(broken_or_local(Errno::CONNRESET), DataError::Broken));
        assert!(matches!(broken_or_local(Errno::IO), DataError::Local));
    }
}
