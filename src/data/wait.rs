//! The one place where a worker waits for more than its control connection: poll(2) on that and at most
//! one other descriptor, with a deadline.
//!
//! Whatever a worker waits for, it hears the control connection: a `shutdown` of that socket by the
//! reaper ends any wait, and ABOR, STAT, NOOP and QUIT are served during a transfer.

use super::pulse::{Pulse, Reason, Tick};
use super::tcp::unacknowledged;
use crate::limits::{FINISH_LOOKS, HOLD_STEP};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::Timespec;
use rustix::io::Errno;
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// What ends a wait other than its being over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// The client sent ABOR.
    Abort,
    /// The control connection is gone.
    ControlLost,
    /// The reaper wants the session to end.
    Marked(Reason),
    /// The deadline has passed.
    TimedOut,
}

/// The control connection, as those who wait for something else see it.
pub trait Watch {
    /// Its descriptor.
    fn descriptor(&self) -> BorrowedFd<'_>;
    /// The pulse of its session.
    fn pulse(&self) -> &Pulse;
    /// Serves what was received already and may be served now, writes the replies that wait, and tells
    /// what to listen for: nothing to read once a command waits that can't be served now.
    ///
    /// # Errors
    /// What ends the wait.
    fn prepare(&mut self) -> Result<PollFlags, Stop>;
    /// Something was heard: receives it.
    ///
    /// # Errors
    /// What ends the wait.
    fn heard(&mut self, events: PollFlags) -> Result<(), Stop>;
}

/// Waits until `other` is ready for one of `flags` (or broken, which the next call on it will tell),
/// serving the control connection meanwhile.
///
/// # Errors
/// What ended the wait before.
pub fn wait(watch: &mut dyn Watch, other: BorrowedFd<'_>, flags: PollFlags, until: Tick) -> Result<(), Stop> {
    loop {
        check(watch.pulse())?;
        let interest = watch.prepare()?;
        let left = remaining(until)?;
        let mut descriptors =
            [PollFd::from_borrowed_fd(watch.descriptor(), interest), PollFd::from_borrowed_fd(other, flags)];
        poll_for(&mut descriptors, left)?;
        let (control, ready) = (descriptors[0].revents(), !descriptors[1].revents().is_empty());
        if !control.is_empty() {
            watch.heard(control)?;
        }
        if ready {
            return check(watch.pulse());
        }
    }
}

/// Looks at the control connection without waiting, for those who never have to wait.
///
/// # Errors
/// What ends the transfer.
pub fn glance(watch: &mut dyn Watch) -> Result<(), Stop> {
    check(watch.pulse())?;
    let interest = watch.prepare()?;
    let mut descriptors = [PollFd::from_borrowed_fd(watch.descriptor(), interest)];
    poll_for(&mut descriptors, Some(Duration::ZERO))?;
    let events = descriptors[0].revents();
    if events.is_empty() {
        return Ok(());
    }
    watch.heard(events)?;
    watch.prepare().map(|_| ())
}

/// Serves the control connection until the time is up.
///
/// # Errors
/// What ended it: [`Stop::TimedOut`] in the end.
pub fn rest(watch: &mut dyn Watch, until: Tick) -> Result<(), Stop> {
    loop {
        check(watch.pulse())?;
        let interest = watch.prepare()?;
        let left = remaining(until)?;
        let mut descriptors = [PollFd::from_borrowed_fd(watch.descriptor(), interest)];
        poll_for(&mut descriptors, left)?;
        let events = descriptors[0].revents();
        if !events.is_empty() {
            watch.heard(events)?;
        }
    }
}

/// Serves the control connection until a paced transfer may go on, and tells the pulse that it is the server
/// that holds it back.
///
/// # Errors
/// What ended the wait before.
pub fn hold(watch: &mut dyn Watch, until: Tick) -> Result<(), Stop> {
    while let Some(left) = until.left(Tick::now()).filter(|left| !left.is_zero()) {
        let step = left.min(HOLD_STEP);
        watch.pulse().hold(step);
        quiet_until(watch, Tick::now().after(step))?;
    }
    Ok(())
}

/// Serves the control connection until the time is up, which is well.
///
/// # Errors
/// What came before: the client may have left, or changed its mind.
pub fn quiet_until(watch: &mut dyn Watch, until: Tick) -> Result<(), Stop> {
    match rest(watch, until) {
        Err(Stop::TimedOut) => Ok(()),
        other => other,
    }
}

/// Waits at the prompt for the control connection or for `other`, which can be read first. Whether it is
/// the control connection, before which the other does not count; `false` says nothing of the other.
///
/// There is no deadline: that of the prompt is the reaper's, and its shutdown is heard here.
///
/// # Errors
/// The session can't wait.
pub fn wait_at_prompt(control: BorrowedFd<'_>, other: BorrowedFd<'_>) -> Result<bool, Stop> {
    let mut descriptors =
        [PollFd::from_borrowed_fd(control, PollFlags::IN), PollFd::from_borrowed_fd(other, PollFlags::IN)];
    poll_for(&mut descriptors, None)?;
    Ok(!descriptors[0].revents().is_empty())
}

/// Waits until the client says or ends something: it sends on the control connection, or closes that or `other`.
/// When the time is up that is well too.
///
/// # Errors
/// The session can't wait.
pub fn wait_for_reaction(control: BorrowedFd<'_>, other: BorrowedFd<'_>, until: Tick) -> Result<(), Stop> {
    let news = PollFlags::IN | PollFlags::RDHUP;
    let mut descriptors = [PollFd::from_borrowed_fd(control, news), PollFd::from_borrowed_fd(other, PollFlags::RDHUP)];
    match remaining(until) {
        Err(_) => Ok(()),
        Ok(left) => poll_for(&mut descriptors, left),
    }
}

/// Waits until the peer of the control connection has acknowledged all that was written to it.
///
/// # Errors
/// It did not, or is gone.
pub fn wait_until_taken(control: BorrowedFd<'_>, until: Tick) -> Result<(), Stop> {
    let (mut pause, longest) = FINISH_LOOKS;
    // Most close their side as soon as they have read the last reply; that comes once, and then is no news.
    let mut news = PollFlags::RDHUP;
    while unacknowledged(control).map_err(|_| Stop::ControlLost)? > 0 {
        let left = remaining(until)?.unwrap_or(pause);
        let mut descriptors = [PollFd::from_borrowed_fd(control, news)];
        poll_for(&mut descriptors, Some(left.min(pause)))?;
        match descriptors[0].revents() {
            events if events.intersects(PollFlags::HUP | PollFlags::ERR) => return Err(Stop::ControlLost),
            events if events.contains(PollFlags::RDHUP) => news = PollFlags::empty(),
            _ => pause = (pause * 2).min(longest),
        }
    }
    Ok(())
}

/// Waits until the control connection can be written to.
///
/// # Errors
/// What ended the wait before. A session that is marked already may still say goodbye: only the
/// deadline and the reaper's second step, which breaks the connection, end that wait.
pub fn wait_to_reply(control: BorrowedFd<'_>, until: Tick) -> Result<(), Stop> {
    let left = remaining(until)?;
    let mut descriptors = [PollFd::from_borrowed_fd(control, PollFlags::OUT)];
    poll_for(&mut descriptors, left)?;
    if descriptors[0].revents().intersects(PollFlags::HUP | PollFlags::ERR) {
        return Err(Stop::ControlLost);
    }
    Ok(())
}

/// Whether the session may go on.
///
/// # Errors
/// The reaper has marked it.
pub fn check(pulse: &Pulse) -> Result<(), Stop> {
    pulse.mark().map_or(Ok(()), |reason| Err(Stop::Marked(reason)))
}

fn remaining(until: Tick) -> Result<Option<Duration>, Stop> {
    match until.left(Tick::now()) {
        Some(Duration::ZERO) => Err(Stop::TimedOut),
        left => Ok(left),
    }
}

fn poll_for(descriptors: &mut [PollFd<'_>], left: Option<Duration>) -> Result<(), Stop> {
    let timeout = left.and_then(|left| Timespec::try_from(left).ok());
    match poll(descriptors, timeout.as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        // The kernel is out of memory: the session can't wait for anything, so it has to end.
        Err(_) => Err(Stop::ControlLost),
    }
}
