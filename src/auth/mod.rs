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

use std::sync::Arc;

/// Whether a name is one of the anonymous user's, in any case.
#[must_use]
pub fn is_anonymous(name: &[u8]) -> bool {
    [b"anonymous".as_slice(), b"ftp"].iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// Which user a session counts for. All names of the anonymous user are one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum UserId {
    /// The anonymous user.
    Anonymous,
    /// An account, by its name.
    Account(Arc<str>),
}

impl UserId {
    /// The name for the log.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            UserId::Anonymous => "anonymous",
            UserId::Account(name) => name,
        }
    }
}

/// A user name that was offered with USER.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// `anonymous` or `ftp`, in any case: any password will do (RFC 1635).
    Anonymous,
    /// Any other name: whether an account has it is told to nobody.
    Account(Vec<u8>),
}

impl Claim {
    /// Who the name claims to be; `None` where nobody could be it. Where there are no accounts a name that
    /// nobody has is refused at once, so that nobody sends a password in clear for nothing.
    #[must_use]
    pub fn parse(name: &[u8], anonymous: bool, accounts: bool) -> Option<Claim> {
        match is_anonymous(name) {
            true if anonymous => Some(Claim::Anonymous),
            _ if accounts => Some(Claim::Account(name.to_vec())),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_anonymous_user_has_two_names() {
        for name in ["anonymous", "ftp", "FTP", "Anonymous"] {
            let name = name.as_bytes();
            for accounts in [false, true] {
                assert_eq!(Claim::parse(name, true, accounts), Some(Claim::Anonymous));
            }
            assert_eq!(Claim::parse(name, false, false), None, "nobody may log in as it");
            assert_eq!(Claim::parse(name, false, true), Some(Claim::Account(name.to_vec())), "it is a name as any");
        }
    }

    #[test]
    fn any_other_name_may_be_that_of_an_account_where_there_are_accounts() {
        for name in ["", "root", "anonymous ", "ftp\0", "anonymou"] {
            assert_eq!(Claim::parse(name.as_bytes(), true, false), None, "{name:?}");
            let claim = Claim::Account(name.as_bytes().to_vec());
            assert_eq!(Claim::parse(name.as_bytes(), true, true), Some(claim), "{name:?}");
        }
    }
}
