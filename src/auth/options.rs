//! The options of an account, as they are written in a line of the accounts file.
//!
//! Pure: owns the meaning of each, its bounds, and the escapes.

use std::ffi::OsStr;
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use crate::limits;
use crate::proto::date::{Civil, civil, timestamp};
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

/// The options of an account, those that are set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    pub(super) root: Option<PathBuf>,
    pub(super) write: Option<Write>,
    pub(super) max_sessions: Option<usize>,
    pub(super) max_rate: Option<u64>,
    pub(super) quota: Option<u64>,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) from: Vec<IpNet>,
    pub(super) expires: Option<i64>,
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

    /// Takes one option over from others, set or not.
    pub fn copy(&mut self, key: &str, from: &Options) {
        let from = from.clone();
        match key {
            "root" => self.root = from.root,
            "write" => self.write = from.write,
            "max-sessions" => self.max_sessions = from.max_sessions,
            "max-rate" => self.max_rate = from.max_rate,
            "quota" => self.quota = from.quota,
            "idle-timeout" => self.idle_timeout = from.idle_timeout,
            "from" => self.from = from.from,
            "expires" => self.expires = from.expires,
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
/// What may be shown of a field that is wrong: little, and nothing of what may be a hash that came to stand in
/// the wrong place.
fn few(bytes: &[u8]) -> &[u8] {
    if bytes.contains(&b'$') { b"..." } else { bytes.get(..60).unwrap_or(bytes) }
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

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_wrong_with_an_option_is_told_with_its_key() {
        let long = format!("root=/{}", "x".repeat(limits::PATH_MAX));
        let many = format!("from={}", ["192.0.2.1"; 33].join("+"));
        let cases = [
            ("", "an option is empty"),
            ("write=all,", "an option is empty"),
            (",write=all", "an option is empty"),
            ("write", "\"write\" is not key=value"),
            ("write=", "write: has no value"),
            ("Write=all", "\"Write\" is none of the keys root, write, max-sessions"),
            ("=all", "\"\" is none of the keys"),
            ("wri\u{1b}te=all", "\"wri\\x1bte\" is none of the keys"),
            ("write=yes", "write: \"yes\" is not no, add or all"),
            ("write=no:root=/", "write: \"no:root=/\" is not no, add or all"),
            ("write=no,write=no", "write: given more than once"),
            ("root=srv", "root: \"srv\" is not an absolute path"),
            ("root=/a\tb", "root: \"/a\\x09b\" is not an absolute path"),
            (&long, "root: \"/xxxx"),
            ("root=/a\\b", "a backslash stands before a comma, a colon or a backslash only"),
            ("root=/a\\", "a backslash stands before"),
            ("max-sessions=0", "max-sessions: \"0\" is not a whole number from 1 to 32768"),
            ("max-rate=1023", "max-rate: \"1023\" is not a size from 1K to 1024G"),
            ("quota=0", "quota: \"0\" is not a size from 1 to 1048576G"),
            ("quota=-1", "quota: \"-1\" is not a size"),
            ("idle-timeout=1w", "idle-timeout: \"1w\" is not a time from 100ms to 7d"),
            ("from=192.0.2.1/24", "from: \"192.0.2.1/24\" is not networks: 192.0.2.1/24 lies in 192.0.2.0/24"),
            ("from=192.0.2.0/33", "from: \"192.0.2.0/33\" is not networks like"),
            ("from=192.0.2.0/24+", "from: \"192.0.2.0/24+\" is not networks like"),
            ("from=localhost", "from: \"localhost\" is not networks like"),
            (&many, "from: \"192.0.2.1+"),
            ("expires=2027-02-29", "expires: \"2027-02-29\" is not a date YYYY-MM-DD"),
            ("expires=2027-1-31", "expires: \"2027-1-31\" is not a date"),
            ("expires=+027-01-31", "expires: \"+027-01-31\" is not a date"),
            ("expires=20270131", "expires: \"20270131\" is not a date"),
            ("expires=2027-01-3\u{e9}", "expires: \"2027-01-3\u{e9}\" is not a date"),
        ];
        for (text, expected) in cases {
            let faults = Options::parse(text.as_bytes()).unwrap_err();
            assert!(faults.len() == 1 && faults[0].starts_with(expected), "{text}: {faults:?}");
        }
        assert_eq!(Options::parse(b"write=\xff").unwrap_err(), ["write: \"\\xff\" is not UTF-8"]);
        assert_eq!(Options::parse(b"write=x,quota=x,x").unwrap_err().len(), 3);
        let endless = Options::parse(&b",".repeat(10_000)).unwrap_err();
        assert_eq!(endless.len(), limits::ACCOUNT_FAULTS_MAX + 1);
    }

    #[test]
    fn a_root_is_bytes() {
        let root = b"root=/srv/\xff\xfe";
        let options = Options::parse(root).unwrap();
        assert_eq!(options.root, Some(PathBuf::from(std::ffi::OsString::from_vec(b"/srv/\xff\xfe".to_vec()))));
        assert_eq!(options.to_bytes(), root);
    }

    #[test]
    fn every_key_is_set_told_and_taken_over() {
        let values = ["/srv", "all", "3", "2M", "5G", "90s", "192.0.2.0/24", "2027-01-31"];
        for (key, value) in Options::KEYS.into_iter().zip(values) {
            let mut options = Options::default();
            assert_eq!(options.value(key), None);
            options.set(key, value.as_bytes()).unwrap();
            assert_eq!(options.value(key).as_deref(), Some(value.as_bytes()), "{key}");
            assert_eq!(options.to_bytes(), format!("{key}={value}").into_bytes());
            let mut other = Options::default();
            other.copy(key, &options);
            assert_eq!(other, options, "{key}");
            other.copy(key, &Options::default());
            assert_eq!(other, Options::default(), "{key}");
        }
        assert!(Options::default().set("roof", b"/").unwrap_err().starts_with("roof: \"/\" is not that of a key"));
    }

    proptest! {
        #[test]
        fn options_read_back_as_written(
            root in prop::option::of("/[^\\x00-\\x1f\\x7f]{0,20}"),
            write in prop::option::of(0..3_usize),
            numbers in (prop::option::of(1..32_768_usize), prop::option::of(1024..1_u64 << 40)),
            quota in prop::option::of(1..1_u64 << 50),
            idle in prop::option::of(100..604_800_000_u64),
            from in prop::collection::vec((any::<u128>(), 0..=128_u8), 0..3),
            expires in prop::option::of(-700_000..2_900_000_i64),
        ) {
            let network = |(bits, length): (u128, u8)| {
                IpNet::new(std::net::Ipv6Addr::from(bits).into(), length).unwrap().trunc()
            };
            let options = Options {
                root: root.map(PathBuf::from),
                write: write.map(|index| Write::NAMES[index].1),
                max_sessions: numbers.0,
                max_rate: numbers.1,
                quota,
                idle_timeout: idle.map(Duration::from_millis),
                from: from.into_iter().map(network).collect(),
                expires: expires.map(|days| days * 86_400),
            };
            let text = options.to_bytes();
            if !text.is_empty() {
                prop_assert_eq!(Options::parse(&text), Ok(options));
            }
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>, text in "((root|write|from|expires|quota)=[0-9a-z/\\\\:,+-]{0,12},?){0,4}") {
            for text in [bytes, text.into_bytes()] {
                if let Ok(options) = Options::parse(&text) {
                    prop_assert_eq!(Options::parse(&options.to_bytes()), Ok(options));
                }
            }
        }
    }
}
