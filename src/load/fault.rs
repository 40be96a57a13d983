//! How a session fails: by a reply that says no, or by an error that has a name.

use std::io;

use rustix::io::Errno;

/// Why a session did not succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The server answered, but not what was hoped for.
    Refused(Refusal),
    /// Something went wrong.
    Failed(Failure),
}

/// A reply that ends a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refusal {
    /// Its code.
    pub code: u16,
    /// The command that it answers, or `greeting`, or `idle` where it was said unasked.
    pub to: &'static str,
}

/// What went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// Nobody listens there.
    ConnectRefused,
    /// There is no way there.
    Unreachable,
    /// No connection within the timeout.
    ConnectTimeout,
    /// This host has no port or no descriptor left.
    NoRoomHere,
    /// Nothing came, or nothing could be sent, within the timeout.
    Timeout,
    /// The connection ended where a reply was due.
    Closed,
    /// The connection was reset.
    Reset,
    /// What came is no reply, or not the reply that the command has.
    Malformed,
    /// The data connection could not be made.
    DataConnect,
    /// The data connection broke.
    Data,
    /// Anything else that the system says.
    Other,
}

impl Failure {
    /// All of them.
    pub const ALL: [Failure; 11] = [
        Failure::ConnectRefused,
        Failure::Unreachable,
        Failure::ConnectTimeout,
        Failure::NoRoomHere,
        Failure::Timeout,
        Failure::Closed,
        Failure::Reset,
        Failure::Malformed,
        Failure::DataConnect,
        Failure::Data,
        Failure::Other,
    ];

    /// Its name in the table and in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Failure::ConnectRefused => "connection refused",
            Failure::Unreachable => "unreachable",
            Failure::ConnectTimeout => "connect timeout",
            Failure::NoRoomHere => "no port or descriptor left on this host",
            Failure::Timeout => "timeout",
            Failure::Closed => "closed without a reply",
            Failure::Reset => "reset",
            Failure::Malformed => "malformed reply",
            Failure::DataConnect => "no data connection",
            Failure::Data => "data connection broken",
            Failure::Other => "other",
        }
    }

    /// Whether there was no control connection at all.
    #[must_use]
    pub fn is_connect(self) -> bool {
        matches!(self, Failure::ConnectRefused | Failure::Unreachable | Failure::ConnectTimeout)
    }

    /// What became of a connection that was to be made.
    pub(super) fn of_connect(error: &io::Error) -> Self {
        match Errno::from_io_error(error) {
            Some(Errno::CONNREFUSED | Errno::CONNRESET) => Failure::ConnectRefused,
            Some(Errno::HOSTUNREACH | Errno::NETUNREACH | Errno::NETDOWN | Errno::ACCESS) => Failure::Unreachable,
            // A blocking connect that SO_SNDTIMEO ended (socket(7)).
            Some(Errno::INPROGRESS | Errno::AGAIN | Errno::TIMEDOUT) => Failure::ConnectTimeout,
            Some(Errno::ADDRNOTAVAIL | Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                Failure::NoRoomHere
            }
            _ => Failure::Other,
        }
    }

    /// What ended a connection that was there.
    pub(super) fn of_connection(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Failure::Timeout,
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionAborted => {
                Failure::Reset
            }
            _ => Failure::Other,
        }
    }
}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Self {
        Fault::Failed(failure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_system_have_names() {
        let connect = |errno: Errno| Failure::of_connect(&errno.into());
        assert_eq!(connect(Errno::CONNREFUSED), Failure::ConnectRefused);
        assert_eq!(connect(Errno::INPROGRESS), Failure::ConnectTimeout);
        assert_eq!(connect(Errno::ADDRNOTAVAIL), Failure::NoRoomHere);
        assert_eq!(connect(Errno::NETUNREACH), Failure::Unreachable);
        assert_eq!(connect(Errno::INVAL), Failure::Other);
        let ended = |errno: Errno| Failure::of_connection(&errno.into());
        assert_eq!(ended(Errno::AGAIN), Failure::Timeout);
        assert_eq!(ended(Errno::CONNRESET), Failure::Reset);
        assert_eq!(ended(Errno::PIPE), Failure::Reset);
    }

    #[test]
    fn no_two_failures_share_a_name() {
        let names: std::collections::BTreeSet<_> = Failure::ALL.iter().map(|failure| failure.name()).collect();
        assert_eq!(names.len(), Failure::ALL.len());
    }
}
