//! What a session needs of whoever admitted it, so that it need not know the server.

use crate::auth::UserId;
use crate::data::pulse::Pulse;

/// A session's place in the server.
pub trait Seat {
    /// Counts a login for as long as it lives.
    type Login;

    /// The pulse that the reaper watches.
    fn pulse(&self) -> &Pulse;

    /// Whether whoever admitted the session has sent the greeting already.
    fn is_greeted(&self) -> bool;

    /// Sessions from the client's address, this one included, as `--max-per-ip` counts them.
    fn neighbours(&self) -> usize;

    /// Notes what is being transferred, for whoever asks for the state of the server; `None`: nothing.
    fn transferring(&self, path: Option<&[u8]>);

    /// Counts the session for this user from now on. `cap` is the user's own, where there is one.
    ///
    /// # Errors
    /// [`CapReached`] where the user has as many sessions as are allowed.
    fn log_in(&self, user: UserId, cap: Option<usize>) -> Result<Self::Login, CapReached>;
}

/// The user has as many sessions as are allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CapReached;
