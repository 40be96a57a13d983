//! Receiving over an open data connection.
//!
//! Nothing here opens, names or writes anything; it takes bytes, tells the pulse how many, and waits in
//! [`super::wait`] alone. Stalls and slow peers are the reaper's business.

use super::flow::{Flow, Way};
use super::pace::Pace;
use super::port::{DataConnection, DataError};
use super::pulse::{Phase, Tick};
use super::wait::{Watch, glance, quiet_until};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use std::time::Duration;

/// The open data connection of one transfer, over which is received.
pub struct Incoming<'a> {
    flow: Flow<'a>,
    /// When the client ended it.
    ended: Tick,
}

impl<'a> Incoming<'a> {
    /// Begins to receive, no faster than `pace` lets it.
    pub fn new(connection: &'a DataConnection, watch: &'a mut dyn Watch, pace: Option<&'a Pace>) -> Self {
        Incoming { flow: Flow::begin(connection, watch, pace, Way::In), ended: Tick::NEVER }
    }

    /// Receives some bytes into `buffer`, which must not be empty, and returns how many. `0` is the end: the
    /// client has closed its side of the data connection in order. Whether that is the end of the file as
    /// well, [`Incoming::confirm_end`] tells.
    ///
    /// # Errors
    /// What ended the transfer. What was received is not whole: the data connection broke
    /// ([`DataError::Broken`]), or the client aborted it, or it has left.
    pub fn receive(&mut self, buffer: &mut [u8]) -> Result<usize, DataError> {
        loop {
            let mut turn = self.flow.turn(buffer.len())?;
            let room = buffer.get_mut(..turn.bytes()).filter(|room| !room.is_empty()).ok_or(DataError::Local)?;
            match recv(self.flow.connection, room, RecvFlags::DONTWAIT) {
                Ok((0, _)) => {
                    self.ended = Tick::now();
                    return Ok(0);
                }
                Ok((count, _)) => {
                    turn.spend(count);
                    self.flow.count(count as u64)?;
                    return Ok(count);
                }
                Err(Errno::AGAIN) => {
                    drop(turn);
                    self.flow.wait()?;
                }
                Err(Errno::INTR) => {}
                Err(_) => return Err(DataError::Broken),
            }
        }
    }

    /// Waits until this long after the end of the data connection for the end of the control connection, and then
    /// looks once more, however late it is: a client that is killed ends both. One that sends something on the
    /// control connection is not believed any sooner, for it may have sent that before it was killed; one that has
    /// said QUIT may leave.
    ///
    /// # Errors
    /// What was received is not whole: the client has left ([`super::wait::Stop::ControlLost`]), or aborted it.
    pub fn confirm_end(&mut self, look: Duration) -> Result<(), DataError> {
        self.flow.watch.pulse().enter(Phase::Transfer, Tick::NEVER);
        quiet_until(self.flow.watch, self.ended.after(look))?;
        Ok(glance(self.flow.watch)?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake_watch::{FakeWatch, reset, tcp_pair};
    use super::super::pulse::Reason;
    use super::super::wait::Stop;
    use super::*;
    use crate::limits::END_LOOK;
    use std::io::Write;
    use std::net::{Shutdown, TcpStream};
    use std::time::{Duration, Instant};

    /// A data connection and a control connection, and the client's ends of both.
    struct Both {
        connection: DataConnection,
        watch: FakeWatch,
        data: TcpStream,
        control: TcpStream,
    }

    fn both() -> Both {
        let (data, server) = tcp_pair();
        server.set_nonblocking(true).unwrap();
        let (watch, control) = FakeWatch::new();
        Both { connection: DataConnection::for_tests(server.into()), watch, data, control }
    }

    /// Receives until the end, at most 64 KiB at once.
    fn all(connection: &DataConnection, watch: &mut FakeWatch, pace: Option<&Pace>) -> Result<Vec<u8>, DataError> {
        let mut incoming = Incoming::new(connection, watch, pace);
        let mut received = Vec::new();
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match incoming.receive(&mut buffer)? {
                0 => return incoming.confirm_end(END_LOOK).map(|()| received),
                count => received.extend_from_slice(&buffer[..count]),
            }
        }
    }

    fn assert_stopped(outcome: &Result<Vec<u8>, DataError>, expected: Stop) {
        assert!(matches!(outcome, Err(DataError::Stopped(stop)) if *stop == expected), "{outcome:?}");
    }

    #[test]
    fn what_a_client_sends_and_ends_in_order_is_received_whole() {
        let Both { connection, mut watch, mut data, control: _control } = both();
        let sent: Vec<u8> = (0..3_000_000u32).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
        let expected = sent.clone();
        let sender = std::thread::spawn(move || data.write_all(&sent));
        let received = all(&connection, &mut watch, None);
        sender.join().unwrap().unwrap();
        let received = received.unwrap();
        assert!(received == expected, "{} of {} bytes", received.len(), expected.len());
        assert_eq!(watch.pulse().total(), 3_000_000);
        assert_eq!(watch.pulse().phase(), (Phase::Transfer, Tick::NEVER));
    }

    #[test]
    fn a_client_that_never_lets_the_server_wait_is_stopped_all_the_same() {
        let Both { connection, mut watch, mut data, control: _control } = both();
        data.write_all(&[0; 1000]).unwrap();
        watch.pulse().set_mark(Reason::Shutdown);
        let mut incoming = Incoming::new(&connection, &mut watch, None);
        let mut buffer = [0; 100];
        // More has come than it takes, so nothing is waited for.
        let outcome = incoming.receive(&mut buffer).map(|count| vec![0; count]);
        assert_stopped(&outcome, Stop::Marked(Reason::Shutdown));
    }

    #[test]
    fn an_upload_that_is_finished_ends_with_fin_and_one_that_is_not_with_a_reset() {
        for finished in [true, false] {
            let Both { connection, mut watch, data, control: _control } = both();
            data.shutdown(Shutdown::Write).unwrap();
            assert_eq!(all(&connection, &mut watch, None).unwrap(), b"");
            if finished {
                connection.finish_receiving();
            } else {
                drop(connection);
            }
            let end = std::io::Read::read(&mut &data, &mut [0]).map_err(|error| error.kind());
            let expected = if finished { Ok(0) } else { Err(std::io::ErrorKind::ConnectionReset) };
            assert_eq!(end, expected);
        }
    }

    #[test]
    fn a_reset_is_no_end() {
        let Both { connection, mut watch, mut data, control: _control } = both();
        data.write_all(b"half").unwrap();
        reset(data);
        let outcome = all(&connection, &mut watch, None);
        assert!(matches!(outcome, Err(DataError::Broken)), "{outcome:?}");
    }

    #[test]
    fn a_client_that_has_left_the_control_connection_has_not_sent_a_whole_file() {
        let leave: [fn(TcpStream); 3] = [
            |control| drop(control),
            // A command that can be served before the end is seen.
            |mut control| control.write_all(b"N").unwrap(),
            reset,
        ];
        for leave in leave {
            let Both { connection, mut watch, mut data, control } = both();
            data.write_all(b"half").unwrap();
            leave(control);
            drop(data);
            assert_stopped(&all(&connection, &mut watch, None), Stop::ControlLost);
        }
    }

    #[test]
    fn the_control_connection_is_given_a_moment_to_end_as_well() {
        let Both { connection, mut watch, data, control: _control } = both();
        drop(data);
        let start = Instant::now();
        let mut incoming = Incoming::new(&connection, &mut watch, None);
        assert_eq!(incoming.receive(&mut [0]).unwrap(), 0);
        incoming.confirm_end(Duration::from_millis(50)).unwrap();
        // The clock of ticks has milliseconds.
        assert!(start.elapsed() >= Duration::from_millis(48), "{:?}", start.elapsed());
    }

    #[test]
    fn a_client_that_leaves_later_is_seen_to_have_left_by_the_last_look() {
        let Both { connection, mut watch, data, control } = both();
        drop(data);
        let mut incoming = Incoming::new(&connection, &mut watch, None);
        assert_eq!(incoming.receive(&mut [0]).unwrap(), 0);
        // The disk takes longer than is looked for.
        std::thread::sleep(Duration::from_millis(2));
        drop(control);
        let outcome = incoming.confirm_end(Duration::from_millis(1)).map(|()| Vec::new());
        assert_stopped(&outcome, Stop::ControlLost);
    }

    #[test]
    fn a_client_that_has_said_quit_may_leave() {
        let Both { connection, mut watch, mut data, mut control } = both();
        data.write_all(b"whole").unwrap();
        control.write_all(b"Q").unwrap();
        drop((data, control));
        assert_eq!(all(&connection, &mut watch, None).unwrap(), b"whole");
    }

    #[test]
    fn an_abort_ends_the_wait_for_a_sender_who_has_stalled_and_so_does_the_reaper() {
        let Both { connection, mut watch, mut data, mut control } = both();
        data.write_all(b"half").unwrap();
        control.write_all(b"NA").unwrap();
        assert_stopped(&all(&connection, &mut watch, None), Stop::Abort);
        assert_eq!(watch.heard, "NA");

        let Both { connection, mut watch, mut data, control: _control } = both();
        data.write_all(b"half").unwrap();
        let reaper = watch.marked_when(Reason::Stalled, |pulse| pulse.total() == 4);
        assert_stopped(&all(&connection, &mut watch, None), Stop::Marked(Reason::Stalled));
        reaper.join().unwrap();
    }

    #[test]
    fn an_abort_and_the_reaper_end_the_wait_for_a_turn_at_once() {
        // A byte a second, and none for an hour.
        let pace = Pace::new(1);
        let mut turn = pace.turn(Tick::now().after(Duration::from_secs(3600)), 1);
        turn.spend(1);
        let before = format!("{pace:?}");
        let Both { connection, mut watch, mut data, mut control } = both();
        data.write_all(b"half").unwrap();
        control.write_all(b"NA").unwrap();
        assert_stopped(&all(&connection, &mut watch, Some(&pace)), Stop::Abort);
        assert_eq!((watch.heard.as_str(), watch.pulse().total()), ("NA", 0));
        assert_eq!(format!("{pace:?}"), before, "the turn was given back");

        let Both { connection, mut watch, mut data, control: _control } = both();
        data.write_all(b"half").unwrap();
        let reaper = watch.marked_when(Reason::Shutdown, |pulse| !pulse.held().is_zero());
        assert_stopped(&all(&connection, &mut watch, Some(&pace)), Stop::Marked(Reason::Shutdown));
        reaper.join().unwrap();
    }

    #[test]
    fn a_paced_upload_is_whole_and_no_faster_than_its_pace_and_the_pulse_tells_who_held_it_back() {
        const RATE: u64 = 400_000;
        let Both { connection, mut watch, mut data, control: _control } = both();
        let sender = std::thread::spawn(move || data.write_all(&[7; 200_000]));
        let start = Instant::now();
        let received = all(&connection, &mut watch, Some(&Pace::new(RATE)));
        sender.join().unwrap().unwrap();
        assert_eq!(received.unwrap().len(), 200_000);
        // Half a second, less what it may run ahead, and its last piece.
        assert!(start.elapsed() >= Duration::from_millis(200), "{:?}", start.elapsed());
        assert!(watch.pulse().held() >= Duration::from_millis(150), "{:?}", watch.pulse().held());
    }

    #[test]
    fn a_stalled_sender_is_not_held_back_by_its_pace() {
        let Both { connection, mut watch, data: _data, control: _control } = both();
        let pace = Pace::new(1);
        let reaper = watch.marked_when(Reason::Stalled, |pulse| pulse.phase().0 == Phase::Transfer);
        assert_stopped(&all(&connection, &mut watch, Some(&pace)), Stop::Marked(Reason::Stalled));
        reaper.join().unwrap();
        assert_eq!(watch.pulse().held(), Duration::ZERO);
        assert_eq!(format!("{pace:?}"), format!("{:?}", Pace::new(1)), "and takes no turn from others");
    }
}
