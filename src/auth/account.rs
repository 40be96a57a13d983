//! One account: its name, what it may do, and how both are written in a line of the accounts file.
//!
//! Pure: owns the meaning of each option and its bounds. Never reads a file or a clock, and never holds a
//! password or its hash.

use std::ffi::OsStr;
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;

use crate::limits;
use crate::proto::date::{Civil, civil, timestamp};
use crate::proto::hostport::canonical;
use crate::proto::pathname::Escaped;
use crate::units;

/// What an account may change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Write {
    /// Nothing.
    #[default]
    No,
    /// It may bring new files and folders, and change none that is there.
    Add,
    /// Everything.
    All,
}

impl Write {
    const NAMES: [(&'static str, Write); 3] = [("no", Write::No), ("add", Write::Add), ("all", Write::All)];

    /// As it is written in the accounts file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Write::No => "no",
            Write::Add => "add",
            Write::All => "all",
        }
    }
}

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

/// The options of an account, those that are set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    root: Option<PathBuf>,
    write: Option<Write>,
    max_sessions: Option<usize>,
    max_rate: Option<u64>,
    quota: Option<u64>,
    idle_timeout: Option<Duration>,
    from: Vec<IpNet>,
    expires: Option<i64>,
}

impl Options {
    /// The keys, in the order in which they are written.
    pub const KEYS: [&'static str; 8] =
        ["root", "write", "max-sessions", "max-rate", "quota", "idle-timeout", "from", "expires"];

    /// Reads `key=value,...`. A comma in a value has a backslash before it, and so has a backslash; a colon
    /// may have one.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn parse(text: &[u8]) -> Result<Options, Vec<String>> {
        let mut options = Options::default();
        let mut seen: Vec<&'static str> = Vec::new();
        let mut faults = Vec::new();
        for field in split(text) {
            let read = field.and_then(|field| {
                let Some(equals) = memchr::memchr(b'=', &field) else {
                    return Err(format!("\"{}\" is not key=value", Escaped(few(&field))));
                };
                let (key, value) = (field.get(..equals).unwrap_or_default(), field.get(equals + 1..));
                let known = Self::KEYS.into_iter().find(|known| known.as_bytes() == key);
                let known = known.ok_or_else(|| {
                    format!("\"{}\" is none of the keys {}", Escaped(few(key)), Self::KEYS.join(", "))
                })?;
                if seen.contains(&known) {
                    return Err(format!("{known}: given more than once"));
                }
                seen.push(known);
                options.set(known, value.unwrap_or_default())
            });
            if let Err(fault) = read {
                faults.push(fault);
            }
            if faults.len() > limits::ACCOUNT_FAULTS_MAX {
                break;
            }
        }
        if faults.is_empty() { Ok(options) } else { Err(faults) }
    }

    /// Sets one option.
    ///
    /// # Errors
    /// What is wrong with the value, after the key.
    pub fn set(&mut self, key: &str, value: &[u8]) -> Result<(), String> {
        let expected = if value.is_empty() { Err("a value".to_owned()) } else { self.try_set(key, value) };
        expected.map_err(|expected| match value {
            [] => format!("{key}: has no value"),
            _ => format!("{key}: \"{}\" is not {expected}", Escaped(few(value))),
        })
    }

    /// Sets one option, or tells what its value had to be.
    fn try_set(&mut self, key: &str, value: &[u8]) -> Result<(), String> {
        let text = std::str::from_utf8(value);
        match (key, text) {
            ("root", _) => self.root = Some(root(value)?),
            (_, Err(_)) => return Err("UTF-8".to_owned()),
            ("write", Ok(text)) => {
                let known = Write::NAMES.into_iter().find(|(name, _)| *name == text);
                self.write = Some(known.ok_or("no, add or all")?.1);
            }
            ("max-sessions", Ok(text)) => {
                self.max_sessions = Some(units::count(text, 1..=limits::WORKERS_MAX + limits::QUEUE_MAX)?);
            }
            ("max-rate", Ok(text)) => {
                self.max_rate = Some(units::size(text, limits::ACCOUNT_RATE.0..=limits::ACCOUNT_RATE.1)?);
            }
            ("quota", Ok(text)) => self.quota = Some(units::size(text, 1..=limits::ACCOUNT_QUOTA_MAX)?),
            ("idle-timeout", Ok(text)) => self.idle_timeout = Some(units::time(text)?),
            ("from", Ok(text)) => self.from = networks(text)?,
            ("expires", Ok(text)) => self.expires = Some(date(text).ok_or("a date YYYY-MM-DD")?),
            _ => return Err(format!("that of a key: {}", Self::KEYS.join(", "))),
        }
        Ok(())
    }

    /// Takes one option away, where it is set.
    pub fn unset(&mut self, key: &str) {
        match key {
            "root" => self.root = None,
            "write" => self.write = None,
            "max-sessions" => self.max_sessions = None,
            "max-rate" => self.max_rate = None,
            "quota" => self.quota = None,
            "idle-timeout" => self.idle_timeout = None,
            "from" => self.from.clear(),
            "expires" => self.expires = None,
            _ => {}
        }
    }

    /// The value of an option as one would type it; `None` where it is not set.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<Vec<u8>> {
        let text = match key {
            "root" => return self.root.as_ref().map(|root| root.as_os_str().as_bytes().to_vec()),
            "write" => self.write.map(|write| write.name().to_owned()),
            "max-sessions" => self.max_sessions.map(|most| most.to_string()),
            "max-rate" => self.max_rate.map(units::size_text),
            "quota" => self.quota.map(units::size_text),
            "idle-timeout" => self.idle_timeout.map(units::time_text),
            "from" if self.from.is_empty() => None,
            "from" => Some(self.from.iter().map(network_text).collect::<Vec<_>>().join("+")),
            "expires" => self.expires.map(date_text),
            _ => None,
        };
        text.map(String::into_bytes)
    }

    /// `key=value,...`, as [`Options::parse`] reads it.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (key, value) in Self::KEYS.into_iter().filter_map(|key| Some((key, self.value(key)?))) {
            if !out.is_empty() {
                out.push(b',');
            }
            out.extend_from_slice(key.as_bytes());
            out.push(b'=');
            for byte in value {
                if matches!(byte, b',' | b'\\') {
                    out.push(b'\\');
                }
                out.push(byte);
            }
        }
        out
    }
}

/// The fields between commas, with their escapes undone.
fn split(text: &[u8]) -> impl Iterator<Item = Result<Vec<u8>, String>> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let mut bytes = rest.take()?.iter();
        let mut field = Vec::new();
        let mut fault = None;
        while let Some(&byte) = bytes.next() {
            match byte {
                b',' => {
                    rest = Some(bytes.as_slice());
                    break;
                }
                b'\\' => match bytes.next() {
                    Some(&byte @ (b',' | b':' | b'\\')) => field.push(byte),
                    _ => fault = Some("a backslash stands before a comma, a colon or a backslash only".to_owned()),
                },
                byte => field.push(byte),
            }
        }
        Some(match fault {
            Some(fault) => Err(fault),
            None if field.is_empty() => Err("an option is empty".to_owned()),
            None => Ok(field),
        })
    })
}

/// No more of a wrong word than shows which it is.
fn few(bytes: &[u8]) -> &[u8] {
    bytes.get(..60).unwrap_or(bytes)
}

fn root(value: &[u8]) -> Result<PathBuf, String> {
    let fits = value.len() < limits::PATH_MAX && value.iter().all(|byte| !byte.is_ascii_control());
    if value.starts_with(b"/") && fits {
        return Ok(PathBuf::from(OsStr::from_bytes(value)));
    }
    Err(format!("an absolute path of fewer than {} bytes without control characters", limits::PATH_MAX))
}

fn networks(text: &str) -> Result<Vec<IpNet>, String> {
    let expected = || "networks like 192.0.2.0/24 or addresses, with + between them".to_owned();
    let mut networks = Vec::new();
    for part in text.split('+') {
        let network = match part.parse::<IpNet>() {
            Ok(network) => network,
            Err(_) => IpNet::from(part.parse::<IpAddr>().map_err(|_| expected())?),
        };
        if network.trunc() != network {
            return Err(format!("networks: {part} lies in {}", network.trunc()));
        }
        if networks.len() == limits::ACCOUNT_NETWORKS_MAX {
            return Err(format!("at most {} networks", limits::ACCOUNT_NETWORKS_MAX));
        }
        networks.push(network);
    }
    Ok(networks)
}

fn network_text(network: &IpNet) -> String {
    if network.prefix_len() == network.max_prefix_len() { network.addr().to_string() } else { network.to_string() }
}

/// The beginning of a day `YYYY-MM-DD` in seconds since the epoch.
fn date(text: &str) -> Option<i64> {
    let digits = |from: usize, to: usize| {
        let digits = text.get(from..to)?;
        if digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse::<u16>().ok() } else { None }
    };
    if text.len() != 10 || text.get(4..5)? != "-" || text.get(7..8)? != "-" {
        return None;
    }
    let (month, day) = (u8::try_from(digits(5, 7)?).ok()?, u8::try_from(digits(8, 10)?).ok()?);
    timestamp(&Civil { year: digits(0, 4)?, month, day, hour: 0, minute: 0, second: 0 })
}

fn date_text(seconds: i64) -> String {
    let day = civil(seconds);
    format!("{:04}-{:02}-{:02}", day.year, day.month, day.day)
}
