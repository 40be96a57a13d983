//! Every internal error and reason, and the one reply that a client gets for it. Texts are fixed: no
//! error numbers, no real paths.

use crate::data::port::DataError;
use crate::data::pulse::Reason;
use crate::policy::Denied;
use crate::proto::command::SyntaxError;
use crate::proto::pathname::PathError;
use crate::proto::reply::Reply;
use crate::vfs::VfsError;

/// The reply to a line that is not a command.
pub(super) fn syntax(error: SyntaxError) -> Reply {
    match error {
        SyntaxError::Unknown => Reply::new(500, "Unknown command."),
        SyntaxError::Argument => Reply::new(501, "The argument is missing or not well-formed."),
        SyntaxError::Parameter => Reply::new(504, "That is not done here."),
        SyntaxError::Family => wrong_family(true),
    }
}

/// The reply to a network protocol that the session does not use (RFC 2428 §2): the one that it does is
/// that of its control connection.
pub(super) fn wrong_family(is_ipv4: bool) -> Reply {
    if is_ipv4 {
        Reply::new(522, "Network protocol not supported, use (1)")
    } else {
        Reply::new(522, "Network protocol not supported, use (2)")
    }
}

/// The reply to a command that the policy denies.
pub(super) fn denied(denied: Denied) -> Reply {
    match denied {
        Denied::NotOffered => Reply::new(502, "That command is not offered here."),
        Denied::NotLoggedIn => Reply::new(530, "Please log in with USER and PASS."),
        Denied::ReadOnly => Reply::new(550, "Permission denied: you may read, and nothing else."),
        Denied::AddOnly => Reply::new(550, "Permission denied: you may add files, but not change what is there."),
        Denied::DropOnly => Reply::new(550, "Permission denied: you may upload files here, but not see them."),
    }
}

/// The reply to a pathname that can't be one.
pub(super) fn path(error: PathError) -> Reply {
    match error {
        PathError::Empty => Reply::new(501, "A pathname is needed."),
        PathError::Nul => Reply::new(501, "A pathname can't hold a NUL."),
        PathError::TooLong => Reply::new(501, "That pathname is too long."),
    }
}

/// The reply to what the file system refused.
pub(super) fn file(error: &VfsError) -> Reply {
    match error {
        VfsError::Missing => Reply::new(550, "No such file or folder."),
        VfsError::NotAFolder => Reply::new(550, "That is not a folder."),
        VfsError::IsFolder => Reply::new(550, "That is a folder, not a file."),
        VfsError::NotAFile => Reply::new(550, "That is not a regular file."),
        VfsError::Denied => Reply::new(550, "Permission denied."),
        VfsError::TooManyLinks => Reply::new(550, "Too many links on the way."),
        VfsError::NameTooLong => Reply::new(550, "That name is too long."),
        VfsError::Busy => Reply::new(450, "The server is short of resources; try again later."),
        VfsError::Exists => Reply::new(550, "That name already exists."),
        VfsError::NotEmpty => Reply::new(550, "That folder is not empty."),
        VfsError::NoSpace => Reply::new(452, "There is no space left."),
        VfsError::OverQuota => Reply::new(552, "The quota is used up."),
        VfsError::TooLarge => Reply::new(552, "That is larger than a file may be here."),
        VfsError::ReadOnlyFs => Reply::new(550, "Permission denied: that file system is read-only."),
        VfsError::CrossDevice => Reply::new(550, "A name can't be moved to another file system."),
        VfsError::IntoItself => Reply::new(550, "A folder can't be moved into itself."),
        VfsError::BadName => Reply::new(553, "That name is not allowed."),
        VfsError::PastEnd => Reply::new(554, "The restart marker is past the end of the file."),
        VfsError::InUse => Reply::new(450, "That is in use by another session; try again later."),
        VfsError::Other(_) => Reply::new(451, "Local error in the file system."),
    }
}

/// The reply to a data connection that failed. [`DataError::Stopped`] never comes here: it ends the
/// transfer or the session before there is a reply.
pub(super) fn data(error: &DataError) -> Reply {
    match error {
        DataError::NoPort => Reply::new(425, "Use PASV or PORT first."),
        DataError::CannotOpen => Reply::new(425, "Can't open the data connection."),
        DataError::NotInTime => Reply::new(425, "Can't open the data connection: nobody came in time."),
        DataError::Broken | DataError::Stopped(_) => Reply::new(426, "The data connection broke; transfer aborted."),
        DataError::Local => Reply::new(451, "Local error: the transfer is not complete."),
    }
}

/// The last words to a session that the server ends.
#[must_use]
pub fn goodbye(reason: Reason) -> Reply {
    match reason {
        Reason::Idle => Reply::new(421, "Idle timeout: closing the control connection."),
        Reason::Login => Reply::new(421, "Login timeout: closing the control connection."),
        Reason::Connect => Reply::new(421, "Data connection timeout: closing the control connection."),
        Reason::Stalled => Reply::new(421, "The transfer stalled: closing the control connection."),
        Reason::TooSlow => Reply::new(421, "The transfer is too slow: closing the control connection."),
        Reason::Reply => Reply::new(421, "Replies are not read: closing the control connection."),
        Reason::Session => Reply::new(421, "Session time limit: closing the control connection."),
        Reason::Queue => Reply::new(421, "There are too many users now, and none left in time; try again later."),
        Reason::Shed => {
            Reply::new(421, "There are too many users now, and your session is idle: closing the control connection.")
        }
        Reason::Shutdown => Reply::new(421, "The server is shutting down; closing the control connection."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_to_end_a_session_is_a_short_421() {
        for reason in Reason::ALL {
            let mut out = Vec::new();
            goodbye(reason).encode(&mut out);
            assert!(out.starts_with(b"421 ") && out.len() < crate::limits::REPLY_LINE_MAX, "{reason:?}");
        }
    }
}
