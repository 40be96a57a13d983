//! One account: its name and what it may do.
//!
//! Pure. Never reads a file or a clock, and never holds a password or its hash.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use ipnet::IpNet;

use super::options::{Options, Write};
use crate::limits;
use crate::proto::hostport::canonical;
use crate::proto::pathname::Escaped;

/// One who can log in with a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    name: Box<str>,
    options: Options,
}

impl Account {
    pub(super) fn new(name: &str, options: Options) -> Account {
        Account { name: name.into(), options }
    }

    /// The name, as it is sent with USER.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its own root folder, an absolute path; `None` where it sees that of the server.
    #[must_use]
    pub fn root(&self) -> Option<&Path> {
        self.options.root.as_deref()
    }

    /// What it may change.
    #[must_use]
    pub fn write(&self) -> Write {
        self.options.write.unwrap_or_default()
    }

    /// Sessions at once, at least 1; `None` where `--max-per-user` says it.
    #[must_use]
    pub fn max_sessions(&self) -> Option<usize> {
        self.options.max_sessions
    }

    /// Bytes a second for all of its sessions together.
    #[must_use]
    pub fn max_rate(&self) -> Option<u64> {
        self.options.max_rate
    }

    /// Bytes that its root may hold.
    #[must_use]
    pub fn quota(&self) -> Option<u64> {
        self.options.quota
    }

    /// Time without a command after which its sessions end; `None` where `--idle-timeout` says it.
    #[must_use]
    pub fn idle_timeout(&self) -> Option<Duration> {
        self.options.idle_timeout
    }

    /// The networks from which it may log in; none means all.
    #[must_use]
    pub fn from(&self) -> &[IpNet] {
        &self.options.from
    }

    /// Seconds since the epoch from which on it is no longer valid.
    #[must_use]
    pub fn expires(&self) -> Option<i64> {
        self.options.expires
    }

    /// Whether it may log in from this address at this time, in seconds since the epoch.
    #[must_use]
    pub fn is_valid(&self, peer: IpAddr, now: i64) -> bool {
        let peer = canonical(peer);
        let from_here = self.options.from.is_empty() || self.options.from.iter().any(|net| net.contains(&peer));
        let in_time = self.options.expires.is_none_or(|end| now < end);
        from_here & in_time
    }

    /// What its line says of it besides its name and hash.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.options
    }
}

/// Whether this can be the name of an account.
///
/// # Errors
/// What is wrong with it.
pub fn check_name(name: &str) -> Result<(), String> {
    let shown = Escaped(name.as_bytes());
    if name.is_empty() {
        return Err("the name is empty".to_owned());
    }
    if name.len() > limits::ACCOUNT_NAME_MAX {
        return Err(format!("a name of more than {} bytes", limits::ACCOUNT_NAME_MAX));
    }
    if name.starts_with('#') {
        return Err(format!("name \"{shown}\": a line that begins with # is a comment"));
    }
    if let Some(wrong) = name.chars().find(|&c| c == ':' || c.is_whitespace() || c.is_control()) {
        return Err(format!("name \"{shown}\": holds {wrong:?}"));
    }
    if super::is_anonymous(name.as_bytes()) {
        return Err(format!("name \"{shown}\": it is the anonymous user's"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(options: &str) -> Account {
        Account::new("alice", Options::parse(options.as_bytes()).unwrap())
    }

    #[test]
    fn every_option_has_its_meaning() {
        let text = "root=/srv/a\\,b:c\\\\d=e,write=add,max-sessions=3,max-rate=2M,quota=5G,idle-timeout=90s,\
                    from=192.0.2.0/24+2001:db8::/32+198.51.100.7,expires=2027-01-31";
        let account = account(text);
        assert_eq!(account.root(), Some(Path::new("/srv/a,b:c\\d=e")));
        assert_eq!((account.name(), account.write()), ("alice", Write::Add));
        assert_eq!((account.max_sessions(), account.max_rate()), (Some(3), Some(2 << 20)));
        assert_eq!((account.quota(), account.idle_timeout()), (Some(5 << 30), Some(Duration::from_secs(90))));
        assert_eq!(account.from().len(), 3);
        assert_eq!(account.expires(), Some(1_801_353_600));
        assert_eq!(account.options().to_bytes(), text.as_bytes());

        let bare = Account::new("bob", Options::default());
        assert_eq!((bare.root(), bare.write(), bare.max_sessions(), bare.max_rate()), (None, Write::No, None, None));
        assert_eq!((bare.quota(), bare.idle_timeout(), bare.from(), bare.expires()), (None, None, &[][..], None));
        assert_eq!(bare.options().to_bytes(), b"");
    }

    #[test]
    fn it_may_log_in_from_its_networks_and_before_its_end() {
        let peer = |text: &str| text.parse::<IpAddr>().unwrap();
        let limited = account("from=192.0.2.0/24+2001:db8::/32+198.51.100.7,expires=2027-01-31");
        let end = 1_801_353_600;
        for (address, expected) in [
            ("192.0.2.255", true),
            ("::ffff:192.0.2.1", true),
            ("198.51.100.7", true),
            ("2001:db8:ffff::1", true),
            ("192.0.3.0", false),
            ("198.51.100.8", false),
            ("2001:db9::1", false),
            ("::192.0.2.1", false),
        ] {
            assert_eq!(limited.is_valid(peer(address), end - 1), expected, "{address}");
            assert!(!limited.is_valid(peer(address), end), "{address}");
        }
        assert!(account("write=no").is_valid(peer("203.0.113.9"), i64::MAX));
    }

    #[test]
    fn names() {
        for name in ["a", "alice", "DOMAIN\\alice", "alice@example.com", "Zoë", "-a", "a#", &"x".repeat(64)] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
        for (name, expected) in [
            ("", "the name is empty"),
            ("#a", "name \"#a\": a line that begins with # is a comment"),
            ("a b", "name \"a b\": holds ' '"),
            ("a:b", "name \"a:b\": holds ':'"),
            ("a\u{1b}", "name \"a\\x1b\": holds '\\u{1b}'"),
            ("a\u{a0}b", "name \"a\u{a0}b\": holds '\\u{a0}'"),
            ("FTP", "name \"FTP\": it is the anonymous user's"),
            ("anonymous", "name \"anonymous\": it is the anonymous user's"),
            (&"x".repeat(65), "a name of more than 64 bytes"),
        ] {
            assert_eq!(check_name(name).unwrap_err(), expected);
        }
    }
}
