//! What sending and receiving have in common: turns of a rate, counts for the reaper, and the wait for the other
//! end, in which the control connection is heard.

use super::pace::{Pace, Turn};
use super::port::{DataConnection, DataError};
use super::pulse::{Phase, Tick};
use super::tcp::unacknowledged;
use super::wait::{Stop, Watch, check, glance, hold, wait};
use crate::limits::{TAKEN_EVERY, UNHEARD_MAX};
use rustix::event::PollFlags;
use std::os::fd::AsFd;

/// The open data connection of one transfer, with the control connection that is heard meanwhile.
pub(super) struct Flow<'a> {
    pub(super) connection: &'a DataConnection,
    pub(super) watch: &'a mut dyn Watch,
    pace: Option<&'a Pace>,
    way: Way,
    unheard: u64,
}

/// Which way the bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// To the client.
    Out,
    /// To the server.
    In,
}

impl<'a> Flow<'a> {
    /// Begins a transfer, no faster than `pace` lets it.
    pub(super) fn begin(
        connection: &'a DataConnection,
        watch: &'a mut dyn Watch,
        pace: Option<&'a Pace>,
        way: Way,
    ) -> Self {
        watch.pulse().untaken(0);
        watch.pulse().enter(Phase::Transfer, Tick::NEVER);
        Flow { connection, watch, pace, way, unheard: 0 }
    }

    /// How much of `want` bytes may be moved now; with a pace, once some can be and it is their turn. A turn is
    /// taken only by those who can use it.
    pub(super) fn turn(&mut self, want: usize) -> Result<Turn<'a>, DataError> {
        let Some(pace) = self.pace else { return Ok(Turn::free(want)) };
        self.wait()?;
        let turn = pace.turn(Tick::now(), want);
        hold(self.watch, turn.at())?;
        Ok(turn)
    }

    /// So many bytes were moved.
    pub(super) fn count(&mut self, bytes: u64) -> Result<(), DataError> {
        self.unheard += bytes;
        self.watch.pulse().moved(bytes);
        // Who never has to wait hears the reaper all the same.
        check(self.watch.pulse())?;
        if self.unheard >= UNHEARD_MAX {
            self.unheard = 0;
            glance(self.watch)?;
        }
        Ok(())
    }

    /// Waits until more can be moved. A slow client makes room in large steps, so what it has taken
    /// meanwhile is looked at too: it does move.
    pub(super) fn wait(&mut self) -> Result<(), DataError> {
        self.unheard = 0;
        loop {
            let (flags, until) = match self.way {
                Way::Out => (PollFlags::OUT, Tick::now().after(TAKEN_EVERY)),
                Way::In => (PollFlags::IN, Tick::NEVER),
            };
            match wait(self.watch, self.connection.as_fd(), flags, until) {
                Err(Stop::TimedOut) => {
                    let left = unacknowledged(self.connection.as_fd()).map_err(|_| DataError::Broken)?;
                    self.watch.pulse().untaken(left as u64);
                }
                other => return Ok(other?),
            }
        }
    }
}
