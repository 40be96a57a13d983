//! What the journal tells: events, with borrowed fields.

use crate::limits::PATH_MAX;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The name of the anonymous user, which no account has.
pub(super) const ANONYMOUS: &[u8] = b"anonymous";

/// Most bytes that a line of any form has besides its fields: times, numbers, addresses, reasons, names.
const FRAME: usize = 1024;

/// Most bytes that one byte of a field becomes: `\u00XX`.
const ESCAPED: usize = 6;

/// The longest line: a user and two paths of the longest.
pub(super) const LONGEST: usize = FRAME + 3 * PATH_MAX * ESCAPED;

/// Which way a transfer went, as the server sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// An upload.
    In,
    /// A download.
    Out,
}

/// The representation type of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// TYPE A.
    Ascii,
    /// TYPE I.
    Binary,
}

/// One event, one line. Users and paths are bytes as the client sent them; what is longer than
/// [`PATH_MAX`] is cut there. Reasons are words of the program and never a client's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// A login succeeded.
    Login {
        /// Who.
        peer: SocketAddr,
        /// As whom: `anonymous`, or the name of an account.
        user: &'a [u8],
    },
    /// A login was refused.
    LoginRefused {
        /// Who.
        peer: SocketAddr,
        /// As whom, as typed.
        user: &'a [u8],
        /// Why.
        why: &'static str,
    },
    /// A connection was not admitted.
    Refused {
        /// Who.
        peer: SocketAddr,
        /// Why.
        why: &'static str,
    },
    /// A session was ended to make room for others.
    Shed {
        /// Whose.
        peer: SocketAddr,
        /// The user, where logged in.
        user: Option<&'a [u8]>,
        /// How long it lasted.
        took: Duration,
        /// Bytes of data that it moved.
        bytes: u64,
    },
    /// A session ended in any other way.
    Ended {
        /// Whose.
        peer: SocketAddr,
        /// The user, where logged in.
        user: Option<&'a [u8]>,
        /// Why.
        why: &'static str,
        /// How long it lasted.
        took: Duration,
        /// Bytes of data that it moved.
        bytes: u64,
    },
    /// A file was transferred, or a part of it.
    Transfer {
        /// Who.
        peer: SocketAddr,
        /// As whom.
        user: &'a [u8],
        /// The file, from the user's root on.
        path: &'a [u8],
        /// Which way.
        direction: Direction,
        /// As what.
        kind: Kind,
        /// Bytes that went over the data connection.
        bytes: u64,
        /// How long it took.
        took: Duration,
        /// `None` where it is complete; else why it is not.
        broken: Option<&'static str>,
    },
    /// A user changed the tree in another way.
    Change {
        /// Who.
        peer: SocketAddr,
        /// As whom.
        user: &'a [u8],
        /// The command.
        verb: &'static str,
        /// What was changed, from the user's root on.
        path: &'a [u8],
        /// The new name, or the new mode or time.
        to: Option<&'a [u8]>,
    },
}

impl<'a> Event<'a> {
    /// No line of this event is longer, in bytes.
    pub(super) fn longest(&self) -> usize {
        let fields = match *self {
            Event::Refused { .. } => 0,
            Event::Login { user, .. } | Event::LoginRefused { user, .. } => cut(user).len(),
            Event::Shed { user, .. } | Event::Ended { user, .. } => cut(user.unwrap_or_default()).len(),
            Event::Transfer { user, path, .. } => cut(user).len() + cut(path).len(),
            Event::Change { user, path, to, .. } => {
                cut(user).len() + cut(path).len() + cut(to.unwrap_or_default()).len()
            }
        };
        FRAME + fields * ESCAPED
    }

    /// Whether somebody who is not logged in can cause it.
    pub(super) fn is_by_strangers(&self) -> bool {
        match self {
            Event::LoginRefused { .. } | Event::Refused { .. } => true,
            Event::Shed { user, .. } | Event::Ended { user, .. } => user.is_none(),
            Event::Login { .. } | Event::Transfer { .. } | Event::Change { .. } => false,
        }
    }
}

/// What is told of a field.
pub(super) fn cut(field: &[u8]) -> &[u8] {
    field.get(..PATH_MAX).unwrap_or(field)
}

/// When an event was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment {
    /// Seconds since the epoch.
    pub(super) seconds: i64,
    /// Milliseconds of the second.
    pub(super) millis: u32,
}

impl Moment {
    /// Now.
    pub(super) fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Moment { seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX), millis: since.subsec_millis() }
    }
}
