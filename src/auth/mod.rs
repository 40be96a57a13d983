//! From credentials to a principal. Anonymous first: `anonymous` and `ftp` are users without a password; all
//! others are in the accounts file.

mod account;
mod accounts;
mod cost;
mod gate;
mod hash;
pub mod line;
mod options;
mod throttle;

pub use account::{Account, check_name};
pub use accounts::{Accounts, AccountsError, Verdict};
pub use cost::Cost;
pub use gate::{Gate, Permit};
pub use hash::{Hash, NotChecked, Workspace};
pub use options::{Options, Write};
pub use throttle::Throttle;

/// Whether a name is one of the anonymous user's, in any case.
#[must_use]
pub fn is_anonymous(name: &[u8]) -> bool {
    [b"anonymous".as_slice(), b"ftp"].iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// One who may be logged in, as a user of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    name: &'static str,
    id: UserId,
}

/// Which user a session counts for. All names of the anonymous user are one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct UserId(u32);

impl UserId {
    /// The anonymous user.
    pub const ANONYMOUS: UserId = UserId(1);

    /// The name for the log.
    #[must_use]
    pub fn name(self) -> &'static str {
        "anonymous"
    }
}

impl Principal {
    /// The name for the log.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Which user's count a session of this principal is part of.
    #[must_use]
    pub fn id(&self) -> UserId {
        self.id
    }
}

/// A user name that was offered with USER.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// `anonymous` or `ftp`, in any case: any password will do.
    Anonymous,
}

impl Claim {
    /// Who the name claims to be; `None` where there is no such user. A name that nobody has is refused
    /// at once, so that nobody sends a password in clear for nothing.
    #[must_use]
    pub fn parse(name: &[u8]) -> Option<Claim> {
        is_anonymous(name).then_some(Claim::Anonymous)
    }

    /// The principal, if the password is right. Any is for the anonymous user (RFC 1635).
    #[must_use]
    pub fn verify(&self, _password: &[u8]) -> Option<Principal> {
        match self {
            Claim::Anonymous => Some(Principal { name: "anonymous", id: UserId::ANONYMOUS }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_anonymous_user_has_two_names_and_no_other_user_is_known() {
        for name in ["anonymous", "ftp", "FTP", "Anonymous"] {
            let claim = Claim::parse(name.as_bytes()).unwrap();
            assert_eq!(claim.verify(b"").unwrap().id(), UserId::ANONYMOUS, "{name}");
        }
        for name in ["", "root", "anonymous ", "ftp\0", "anonymou"] {
            assert_eq!(Claim::parse(name.as_bytes()), None, "{name:?}");
        }
    }
}
