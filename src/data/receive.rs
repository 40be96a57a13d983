//! Receiving over an open data connection.
//!
//! Nothing here opens, names or writes anything; it takes bytes, tells the pulse how many, and waits in
//! [`super::wait`] alone. Stalls and slow peers are the reaper's business.

use super::pace::{Pace, Turn};
use super::port::{DataConnection, DataError};
use super::pulse::{Phase, Tick};
use super::wait::{Watch, glance, hold, quiet_until, wait};
use crate::limits::{END_LOOK, UNHEARD_MAX};
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use std::os::fd::AsFd;

/// The open data connection of one transfer to the server, with the control connection that is heard
/// meanwhile.
pub struct Incoming<'a> {
    connection: &'a DataConnection,
    watch: &'a mut dyn Watch,
    pace: Option<&'a Pace>,
    unheard: u64,
}

impl<'a> Incoming<'a> {
    /// Begins to receive, no faster than `pace` lets it.
    pub fn new(connection: &'a DataConnection, watch: &'a mut dyn Watch, pace: Option<&'a Pace>) -> Self {
        watch.pulse().untaken(0);
        watch.pulse().enter(Phase::Transfer, Tick::NEVER);
        Incoming { connection, watch, pace, unheard: 0 }
    }

    /// Receives some bytes into `buffer`, which must not be empty, and returns how many. `0` is the end: the
    /// client has closed its side of the data connection in order, and is still there, or has said QUIT.
    ///
    /// # Errors
    /// What ended the transfer. What was received is not whole: the data connection broke
    /// ([`DataError::Broken`]), the client aborted it, or it has closed its control connection as well, as
    /// the kernel of one that was killed does ([`super::wait::Stop::ControlLost`]).
    pub fn receive(&mut self, buffer: &mut [u8]) -> Result<usize, DataError> {
        loop {
            let mut turn = self.turn(buffer.len())?;
            let room = buffer.get_mut(..turn.bytes()).filter(|room| !room.is_empty()).ok_or(DataError::Local)?;
            match recv(self.connection, room, RecvFlags::DONTWAIT) {
                Ok((0, _)) => {
                    drop(turn);
                    quiet_until(self.watch, Tick::now().after(END_LOOK))?;
                    return Ok(0);
                }
                Ok((count, _)) => {
                    turn.spend(count);
                    self.count(count as u64)?;
                    return Ok(count);
                }
                Err(Errno::AGAIN) => {
                    drop(turn);
                    self.wait()?;
                }
                Err(Errno::INTR) => {}
                Err(_) => return Err(DataError::Broken),
            }
        }
    }

    /// How much of `want` bytes may be received now; with a pace, once some are there and it is their turn.
    fn turn(&mut self, want: usize) -> Result<Turn<'a>, DataError> {
        let Some(pace) = self.pace else { return Ok(Turn::free(want)) };
        self.wait()?;
        let turn = pace.turn(Tick::now(), want);
        hold(self.watch, turn.at())?;
        Ok(turn)
    }

    fn count(&mut self, bytes: u64) -> Result<(), DataError> {
        self.unheard += bytes;
        self.watch.pulse().moved(bytes);
        if self.unheard >= UNHEARD_MAX {
            self.unheard = 0;
            glance(self.watch)?;
        }
        Ok(())
    }

    fn wait(&mut self) -> Result<(), DataError> {
        self.unheard = 0;
        Ok(wait(self.watch, self.connection.as_fd(), PollFlags::IN, Tick::NEVER)?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake_watch::{FakeWatch, tcp_pair};
    use super::super::wait::Stop;
    use super::*;
    use std::io::Write;

    /// Receives until the end, at most 64 KiB at once.
    fn all(connection: &DataConnection, watch: &mut FakeWatch) -> Result<Vec<u8>, DataError> {
        let mut incoming = Incoming::new(connection, watch, None);
        let mut received = Vec::new();
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match incoming.receive(&mut buffer)? {
                0 => return Ok(received),
                count => received.extend_from_slice(&buffer[..count]),
            }
        }
    }

    #[test]
    fn what_a_client_sends_and_ends_in_order_is_received_whole() {
        let (mut client, server) = tcp_pair();
        let (mut watch, _control) = FakeWatch::new();
        let sent: Vec<u8> = (0..3_000_000u32).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
        let expected = sent.clone();
        let sender = std::thread::spawn(move || client.write_all(&sent));
        let connection = DataConnection::for_tests(server.into());
        let received = all(&connection, &mut watch).unwrap();
        sender.join().unwrap().unwrap();
        assert!(received == expected, "{} of {} bytes", received.len(), expected.len());
        assert_eq!(watch.pulse().total(), 3_000_000);
        assert_eq!(watch.pulse().phase(), (Phase::Transfer, Tick::NEVER));
        connection.finish_receiving();
    }

    #[test]
    fn a_client_that_is_gone_from_the_control_connection_has_not_sent_a_whole_file() {
        let (mut client, server) = tcp_pair();
        let (mut watch, control) = FakeWatch::new();
        client.write_all(b"half").unwrap();
        drop((control, client));
        let connection = DataConnection::for_tests(server.into());
        let outcome = all(&connection, &mut watch);
        assert!(matches!(outcome, Err(DataError::Stopped(Stop::ControlLost))), "{outcome:?}");
    }
}
