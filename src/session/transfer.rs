//! What every transfer has in common: data connection, 150, the bytes, FIN, the final reply.

use super::{Session, Work, answer};
use crate::data::passive::Receive;
use crate::data::port::{DataError, DataPort};
use crate::data::transfer::Outgoing;
use crate::data::wait::Stop;
use crate::proto::pathname::{Escaped, VirtualPath};
use crate::proto::reply::Reply;
use crate::session::Seat;

/// What is known of the transfer that runs, for STAT.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Progress {
    /// Bytes that will be sent, where it is known.
    pub(super) expected: Option<u64>,
    /// Bytes the session had moved when it began.
    pub(super) base: u64,
}

impl Progress {
    /// The answer to STAT, where the session has moved `total` bytes by now.
    pub(super) fn status(&self, total: u64) -> Reply {
        let moved = total.saturating_sub(self.base);
        Reply::with(
            213,
            match self.expected {
                Some(expected) => format!("Status: {moved} of {expected} bytes transferred"),
                None => format!("Status: {moved} bytes transferred"),
            },
        )
    }
}

impl<S: Seat> Session<'_, S> {
    /// Runs one transfer over `port`. `opening` is the preliminary reply, sent once the data connection
    /// is open; `expected` the number of bytes where it is known; `send` moves them.
    ///
    /// # Errors
    /// What ends the session with the transfer. An ABOR is no such thing: it is answered with 426 and
    /// then 226 (RFC 959 §4.1.3).
    pub(super) fn transfer(
        &mut self,
        port: DataPort,
        opening: &Reply,
        expected: Option<u64>,
        path: &VirtualPath,
        send: impl FnOnce(&mut Outgoing<'_>, &mut Work) -> Result<(), DataError>,
    ) -> Result<Reply, Stop> {
        let before = self.seat.pulse().total();
        self.seat.transferring(Some(path.as_bytes()));
        let outcome = self.run_transfer(port, opening, expected, send);
        self.seat.transferring(None);
        let sent = self.seat.pulse().total().saturating_sub(before);
        if sent > 0 {
            self.seat.pulse().worked();
        }
        let verdict = match &outcome {
            Ok(()) => "sent",
            Err(DataError::Stopped(Stop::Abort)) => "aborted by the client",
            Err(DataError::NoPort | DataError::CannotOpen | DataError::NotInTime) => "no data connection",
            Err(DataError::Broken) => "broken",
            Err(DataError::Local) => "failed here",
            Err(DataError::Stopped(_)) => "cut off",
        };
        log::info!("{}: {} {verdict}, {sent} bytes", self.ends.peer, Escaped(path.as_bytes()));
        match outcome {
            Ok(()) => Ok(Reply::new(226, "Transfer complete.")),
            Err(DataError::Stopped(Stop::Abort)) => {
                self.control.send(&Reply::new(426, "Transfer aborted; the data connection is closed."))?;
                Ok(Reply::new(226, "Abort successful."))
            }
            Err(DataError::Stopped(stop)) => Err(stop),
            Err(error) => Ok(answer::data(&error)),
        }
    }

    fn run_transfer(
        &mut self,
        port: DataPort,
        opening: &Reply,
        expected: Option<u64>,
        send: impl FnOnce(&mut Outgoing<'_>, &mut Work) -> Result<(), DataError>,
    ) -> Result<(), DataError> {
        let timeouts = self.context.config.timeouts();
        let peer = self.peer();
        self.control.begin_transfer(expected);
        // Declared before the connection, it is given back after that is closed.
        let _window;
        let connection = port.open(&mut self.control, &self.context.ports, peer, timeouts.data, Receive::Nothing)?;
        self.control.send(opening)?;
        self.control.flush()?;
        _window = self.context.windows.set(&connection, expected);
        send(&mut Outgoing::new(&connection, &mut self.control, None), self.work)?;
        let rate = self.context.config.min_rate().unwrap_or(0);
        connection.finish(&mut self.control, timeouts.stall, rate.saturating_mul(timeouts.stall.as_secs()))
    }
}
