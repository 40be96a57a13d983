//! What every transfer has in common: data connection, 150, the bytes, FIN, the final reply.

use super::{Session, Work, answer};
use crate::auth::Write;
use crate::data::pace::Pace;
use crate::data::passive::Receive;
use crate::data::port::{DataError, DataPort};
use crate::data::pulse::Tick;
use crate::data::receive::Incoming;
use crate::data::transfer::Outgoing;
use crate::data::wait::{Stop, Watch, wait_for_reaction};
use crate::journal::{Direction, Event, Kind};
use crate::limits::{END_LOOK, END_LOOK_FOR_EACH, END_LOOK_MAX, REFUSAL_LOOK};
use crate::policy::Subject;
use crate::proto::params::RepresentationType;
use crate::proto::pathname::{Escaped, VirtualPath};
use crate::proto::reply::Reply;
use crate::session::Seat;
use crate::vfs::VfsError;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

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

/// Which way a file went, for what is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// A download.
    Out,
    /// An upload.
    In,
    /// A listing, which is not written down.
    Listing,
}

/// What there was when a transfer began.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Begun {
    bytes: u64,
    at: Option<Instant>,
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
        way: Way,
        send: impl FnOnce(&mut Outgoing<'_>, &mut Work) -> Result<(), DataError>,
    ) -> Result<Reply, Stop> {
        self.begin(path);
        let outcome = self.run_transfer(port, opening, expected, send);
        self.end_transfer(way, path, outcome, None)
    }

    /// The same for a transfer to the server, but for its end, which [`Session::end_transfer`] makes.
    ///
    /// # Errors
    /// Why it is not whole.
    pub(super) fn receive(
        &mut self,
        port: DataPort,
        opening: &Reply,
        path: &VirtualPath,
        receive: impl FnOnce(&mut Incoming<'_>, &mut Work) -> Result<(), DataError>,
    ) -> Result<(), DataError> {
        self.begin(path);
        let timeouts = self.context.config.timeouts();
        let (peer, pace) = (self.peer(), self.pace());
        self.control.begin_transfer(None);
        let connection = port.open(&mut self.control, &self.context.ports, peer, timeouts.data, Receive::Upload)?;
        self.control.send(opening)?;
        self.control.flush()?;
        let received = receive(&mut Incoming::new(&connection, &mut self.control, pace.as_deref()), self.work);
        match received {
            Ok(()) => connection.finish_receiving(),
            // lftp begins again, up to a thousand times, where it hears of the end of the data connection before
            // it hears that there is no room.
            Err(DataError::Local) => self.failed = Some(connection),
            Err(_) => {}
        }
        received
    }

    /// Ends the data connection of an upload that failed here, if there is one: after its reply, which the client
    /// gets a moment to hear.
    pub(super) fn end_failed(&mut self) -> Result<(), Stop> {
        let Some(failed) = self.failed.take() else { return Ok(()) };
        self.control.flush()?;
        if self.control.quitting() || self.control.holds_a_line() {
            return Ok(());
        }
        wait_for_reaction(self.control.descriptor(), failed.as_fd(), Tick::now().after(REFUSAL_LOOK))
    }

    fn begin(&mut self, path: &VirtualPath) {
        self.begun = Begun { bytes: self.seat.pulse().total(), at: Some(Instant::now()) };
        self.seat.transferring(Some(path.as_bytes()));
    }

    /// Writes down how a transfer ended, for this reason where it is known better, and makes its final reply.
    ///
    /// # Errors
    /// As for [`Session::transfer`].
    pub(super) fn end_transfer(
        &mut self,
        way: Way,
        path: &VirtualPath,
        outcome: Result<(), DataError>,
        why: Option<&'static str>,
    ) -> Result<Reply, Stop> {
        self.seat.transferring(None);
        let begun = std::mem::take(&mut self.begun);
        let bytes = self.seat.pulse().total().saturating_sub(begun.bytes);
        if bytes > 0 {
            self.seat.pulse().worked();
        }
        let verdict = match &outcome {
            Ok(()) if way == Way::In => "received",
            Ok(()) => "sent",
            Err(DataError::Stopped(Stop::Abort)) => "aborted by the client",
            Err(DataError::NoPort | DataError::CannotOpen | DataError::NotInTime) => "no data connection",
            Err(DataError::Broken) => "broken",
            Err(DataError::Local) => "failed here",
            Err(DataError::Stopped(_)) => "cut off",
        };
        log::info!("{}: {} {verdict}, {bytes} bytes", self.ends.peer, Escaped(path.as_bytes()));
        self.write_down(way, path, bytes, begun.at, outcome.is_err().then_some(why.unwrap_or(verdict)));
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

    fn write_down(&self, way: Way, path: &VirtualPath, bytes: u64, at: Option<Instant>, broken: Option<&'static str>) {
        let direction = match way {
            Way::Out => Direction::Out,
            Way::In => Direction::In,
            Way::Listing => return,
        };
        let kind = match self.representation {
            RepresentationType::Ascii => Kind::Ascii,
            RepresentationType::Image => Kind::Binary,
        };
        let took = at.map(|at| at.elapsed()).unwrap_or_default();
        self.context.journal.note(&Event::Transfer {
            peer: self.ends.peer,
            user: self.user_name(),
            path: path.as_bytes(),
            direction,
            kind,
            bytes,
            took,
            broken,
        });
    }

    fn run_transfer(
        &mut self,
        port: DataPort,
        opening: &Reply,
        expected: Option<u64>,
        send: impl FnOnce(&mut Outgoing<'_>, &mut Work) -> Result<(), DataError>,
    ) -> Result<(), DataError> {
        let timeouts = self.context.config.timeouts();
        let (peer, pace) = (self.peer(), self.pace());
        self.control.begin_transfer(expected);
        // Declared before the connection, it is given back after that is closed.
        let window;
        let connection = port.open(&mut self.control, &self.context.ports, peer, timeouts.data, Receive::Nothing)?;
        self.control.send(opening)?;
        self.control.flush()?;
        window = self.context.windows.set(&connection, expected);
        let outgoing = Outgoing::new(&connection, &mut self.control, pace.as_deref());
        // One that keeps to a rate is slow on purpose.
        let mut outgoing = if pace.is_none() { outgoing.within(&window) } else { outgoing };
        send(&mut outgoing, self.work)?;
        let rate = self.context.config.min_rate().unwrap_or(0);
        connection.finish(&mut self.control, timeouts.stall, rate.saturating_mul(timeouts.stall.as_secs()))
    }

    /// How long the control connection is looked at when the data connection of an upload has ended.
    pub(super) fn end_look(&self) -> Duration {
        let sessions = u32::try_from(self.seat.neighbours()).unwrap_or(u32::MAX);
        (END_LOOK + END_LOOK_FOR_EACH.saturating_mul(sessions)).min(END_LOOK_MAX)
    }

    /// The rate that transfers of this session keep to, if there is one.
    fn pace(&self) -> Option<Arc<Pace>> {
        self.member().and_then(|member| member.pace.clone())
    }

    /// Whether the session may upload over a passive port.
    pub(super) fn receives(&self) -> Receive {
        match self.subject() {
            Subject::Member(rights) if rights.write != Write::No => Receive::Upload,
            _ => Receive::Nothing,
        }
    }

    /// Tells the operator of what the file system refused, where that is none of the client's business; and
    /// the reason in a few words, for what is written down.
    pub(super) fn failed(&self, verb: &str, path: &VirtualPath, error: &VfsError) -> &'static str {
        if let VfsError::Other(errno) = error {
            log::warn!("{}: {verb} {}: {errno}", self.ends.peer, Escaped(path.as_bytes()));
        }
        match error {
            VfsError::OverQuota => "over quota",
            VfsError::NoSpace => "no space",
            VfsError::TooLarge => "too large",
            VfsError::Exists => "there already",
            _ => "failed here",
        }
    }

    /// Who is logged in, for what is written down.
    pub(super) fn user_name(&self) -> &[u8] {
        self.member().map_or(b"-".as_slice(), |member| member.user.name().as_bytes())
    }
}
