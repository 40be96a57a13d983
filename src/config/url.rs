//! The URL of an FTP server to load, `ftp://[USER[:PASSWORD]@]HOST[:PORT]/PATH` (RFC 1738 §3.2).
//!
//! Pure. What it yields can be sent: no byte of it is a control character.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{addresses, units};

/// The port of a URL that names none (RFC 1738 §3.2).
const PORT: u16 = 21;

/// Who logs in where the URL names nobody, and with which password: RFC 1635 asks for an address.
const ANONYMOUS: (&str, &str) = ("anonymous", "load@plimsoll");

/// Longest part of a URL in bytes: a command line of 4,096 bytes must hold it.
const PART_MAX: usize = 3000;

/// Where, as whom, and what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FtpUrl {
    /// The user's name.
    pub user: Vec<u8>,
    /// The password; it is never shown.
    pub password: Vec<u8>,
    /// The host.
    pub host: UrlHost,
    /// The port of the control connection, at least 1.
    pub port: u16,
    /// The pathname, relative to the folder in which one is after the login; empty for that folder.
    pub path: Vec<u8>,
}

/// A host as typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UrlHost {
    /// An address.
    Address(IpAddr),
    /// A name, or an IPv6 address with a zone, for the resolver.
    Name(String),
}

impl FtpUrl {
    /// The URL of a server on this host, for the anonymous user.
    #[must_use]
    pub fn local(address: Ipv4Addr, port: u16) -> Self {
        let (user, password) = ANONYMOUS;
        let (user, password) = (user.into(), password.into());
        Self { user, password, host: UrlHost::Address(address.into()), port, path: Vec::new() }
    }

    /// Whether the path is that of a folder.
    #[must_use]
    pub fn is_folder(&self) -> bool {
        self.path.is_empty() || self.path.ends_with(b"/")
    }

    /// The folder, or that which holds the file: empty, or with a slash at its end.
    #[must_use]
    pub fn folder(&self) -> &[u8] {
        let end = self.path.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
        self.path.get(..end).unwrap_or_default()
    }
}

/// Without user and password.
impl fmt::Display for FtpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ftp://")?;
        match &self.host {
            UrlHost::Address(IpAddr::V6(address)) => write!(f, "[{address}]")?,
            UrlHost::Address(address) => write!(f, "{address}")?,
            UrlHost::Name(name) if name.contains(':') => write!(f, "[{}]", name.replace('%', "%25"))?,
            UrlHost::Name(name) => f.write_str(name)?,
        }
        if self.port != PORT {
            write!(f, ":{}", self.port)?;
        }
        f.write_str("/")?;
        for (at, &byte) in self.path.iter().enumerate() {
            let plain = byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte);
            match byte {
                b'/' if at > 0 => f.write_str("/")?,
                byte if plain => write!(f, "{}", char::from(byte))?,
                byte => write!(f, "%{byte:02X}")?,
            }
        }
        Ok(())
    }
}

/// Reads a URL; an error is the whole message, without the password.
pub(super) fn parse(value: &str) -> Result<FtpUrl, String> {
    read(value).ok_or_else(|| {
        format!("{:?} is not a URL like ftp://[USER[:PASSWORD]@]HOST[:PORT]/PATH", without_secret(value))
    })
}

fn read(value: &str) -> Option<FtpUrl> {
    let (scheme, rest) = value.split_once("://")?;
    if !scheme.eq_ignore_ascii_case("ftp") {
        return None;
    }
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (login, host_and_port) = authority.rsplit_once('@').map_or((None, authority), |(l, h)| (Some(l), h));
    let (user, password) = match login {
        None => (ANONYMOUS.0.into(), ANONYMOUS.1.into()),
        Some(login) => {
            let (user, password) = login.split_once(':').unwrap_or((login, ""));
            (decoded(user).filter(|user| !user.is_empty())?, decoded(password)?)
        }
    };
    let (host, port) = host_and_port_of(host_and_port)?;
    Some(FtpUrl { user, password, host, port, path: decoded(path)? })
}

fn host_and_port_of(text: &str) -> Option<(UrlHost, u16)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            let host = match host.split_once("%25") {
                // A zone is known to the resolver alone.
                Some((address, zone)) if address.parse::<Ipv6Addr>().is_ok() && is_zone(zone) => {
                    UrlHost::Name(format!("{address}%{zone}"))
                }
                _ => UrlHost::Address(host.parse::<Ipv6Addr>().ok()?.into()),
            };
            (host, port)
        }
        None => {
            let (host, port) = text.split_at_checked(text.find(':').unwrap_or(text.len()))?;
            let host = match host.parse::<Ipv4Addr>() {
                Ok(address) => UrlHost::Address(address.into()),
                Err(_) if addresses::is_name(host) => UrlHost::Name(host.to_owned()),
                Err(_) => return None,
            };
            (host, port)
        }
    };
    let port = match port {
        "" => PORT,
        typed => units::port(typed.strip_prefix(':')?).filter(|&port| port > 0)?,
    };
    Some((host, port))
}

fn is_zone(zone: &str) -> bool {
    !zone.is_empty() && zone.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

/// Undoes percent-encoding; nothing where it is wrong, too long, or holds a control character.
fn decoded(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let byte = match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                let digits = str::from_utf8(&digits).ok().filter(|d| d.bytes().all(|d| d.is_ascii_hexdigit()))?;
                u8::from_str_radix(digits, 16).ok()?
            }
            byte => byte,
        };
        bytes.push(byte);
    }
    (bytes.len() <= PART_MAX && !bytes.iter().any(u8::is_ascii_control)).then_some(bytes)
}

/// The value as it may be shown: with what stands before an at sign left out.
fn without_secret(value: &str) -> String {
    match value.rsplit_once('@') {
        Some((before, after)) => {
            let scheme = before.split_once("://").map_or("", |(scheme, _)| scheme);
            format!("{scheme}://***@{after}")
        }
        None => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let all = parse("FTP://us%40er:p:%2fw@localhost:2121/pub/a%20b;c").unwrap();
        assert_eq!((all.user.as_slice(), all.password.as_slice()), (&b"us@er"[..], &b"p:/w"[..]));
        assert_eq!((all.host.clone(), all.port), (UrlHost::Name("localhost".into()), 2121));
        assert_eq!((all.path.as_slice(), all.folder(), all.is_folder()), (&b"pub/a b;c"[..], &b"pub/"[..], false));
        assert_eq!(all.to_string(), "ftp://localhost:2121/pub/a%20b;c");
        let least = parse("ftp://127.0.0.1").unwrap();
        assert_eq!(least, FtpUrl::local(Ipv4Addr::LOCALHOST, 21));
        assert!(least.is_folder() && least.folder().is_empty());
        assert_eq!(parse("ftp://127.0.0.1/").unwrap(), least);
        let six = parse("ftp://me@[::1]:1/%2Fetc/").unwrap();
        assert_eq!(
            (six.host.clone(), six.password.as_slice()),
            (UrlHost::Address(Ipv6Addr::LOCALHOST.into()), &b""[..])
        );
        assert_eq!((six.path.as_slice(), six.folder()), (&b"/etc/"[..], &b"/etc/"[..]));
        assert_eq!(six.to_string(), "ftp://[::1]:1/%2Fetc/");
        let zone = parse("ftp://[fe80::1%25eth0]/").unwrap();
        assert_eq!(zone.host, UrlHost::Name("fe80::1%eth0".into()));
        assert_eq!(zone.to_string(), "ftp://[fe80::1%25eth0]/");
        assert_eq!(parse("ftp://h/a").unwrap().folder(), b"");
    }

    #[test]
    fn what_is_no_url_or_can_not_be_sent_is_refused_without_its_password() {
        let long = format!("ftp://h/{}", "a".repeat(PART_MAX + 1));
        let values = [
            "",
            "h",
            "ftp:/h",
            "ftps://h/",
            "http://h/",
            "ftp://",
            "ftp:///a",
            "ftp://h:0/",
            "ftp://h:x/",
            "ftp://h:/",
            "ftp://h:65536/",
            "ftp://[::1/",
            "ftp://[h]/",
            "ftp://[::1]1/",
            "ftp://[::1%25]/",
            "ftp://[::1%25a b]/",
            "ftp://10.1/",
            "ftp://a b/",
            "ftp://@h/",
            "ftp://:p@h/",
            "ftp://h/%0d",
            "ftp://h/a%0aDELE b",
            "ftp://h/%00",
            "ftp://h/%",
            "ftp://h/%2",
            "ftp://h/%zz",
            "ftp://h/%+1",
            "ftp://u%0a@h/",
            "ftp://h/\u{7f}",
            &long,
        ];
        for value in values {
            let error = parse(value).unwrap_err();
            assert!(error.contains("is not a URL like ftp://"), "{value:?}: {error}");
        }
        for value in ["ftp://me:secret@h:x/", "ftp://me:sec@ret@h:x/", "ftp://me:secret/@h:x/"] {
            let error = parse(value).unwrap_err();
            assert!(!error.contains("sec") && !error.contains("ret"), "{error}");
        }
    }
}
