//! Addresses as typed: where to listen, and what passive replies tell clients (RFC 959 §4.1.2,
//! PASV).
//!
//! Names are resolved here, once, at start. Never binds, never connects.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};

use socket2::{Domain, Socket, Type};

use super::problems::plain;
use super::{Fault, units};

/// The address that stands for every address of this host: IPv6, which takes IPv4 in as well, or
/// plain IPv4 where the kernel has no IPv6.
pub(super) fn every_address() -> IpAddr {
    match Socket::new(Domain::IPV6, Type::STREAM, None) {
        Ok(_) => Ipv6Addr::UNSPECIFIED.into(),
        Err(_) => Ipv4Addr::UNSPECIFIED.into(),
    }
}

/// Reads one `--listen`. A name may stand for several addresses; `every` is what a port without a
/// host stands for.
pub(super) fn listen(value: &str, every: IpAddr) -> Result<Vec<SocketAddr>, Fault> {
    let (host, port) = host_and_port(value).ok_or_else(|| not_an_address(value))?;
    let addresses = match host {
        Host::Every => vec![every],
        Host::Address(address) => vec![address],
        Host::Name(name) => resolve(value, name)?,
    };
    Ok(addresses.into_iter().map(|address| SocketAddr::new(address, port)).collect())
}

/// Reads `--passive-address`: the first IPv4 address of a name.
pub(super) fn passive(value: &str) -> Result<Ipv4Addr, Fault> {
    let addresses = match value.parse::<IpAddr>() {
        Ok(address) => vec![address],
        Err(_) if is_name(value) => resolve(value, value)?,
        Err(_) => {
            return Err(Fault::usage(format!("{value:?} is not an IPv4 address or a host name")));
        }
    };
    let first_ipv4 = addresses.into_iter().find_map(|address| match address.to_canonical() {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    });
    let Some(address) = first_ipv4 else {
        return Err(Fault::usage(format!("{value:?} has no IPv4 address")));
    };
    if address.is_unspecified() || address.is_multicast() || address.is_broadcast() {
        return Err(Fault::usage(format!("{value:?} is not an address to which a client can connect")));
    }
    Ok(address)
}

enum Host<'a> {
    Every,
    Address(IpAddr),
    Name(&'a str),
}

fn host_and_port(value: &str) -> Option<(Host<'_>, u16)> {
    if let Some(port) = units::port(value) {
        return Some((Host::Every, port));
    }
    let (host, port) = value.rsplit_once(':')?;
    let port = units::port(port)?;
    let host = if host.is_empty() {
        Host::Every
    } else if let Some(address) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Host::Address(address.parse::<Ipv6Addr>().ok()?.into())
    } else if let Ok(address) = host.parse::<Ipv4Addr>() {
        Host::Address(address.into())
    } else if is_name(host) {
        Host::Name(host)
    } else {
        return None;
    };
    Some((host, port))
}

/// Whether `host` may be asked of the resolver. One that ends in a number may not: the C library
/// reads `10.1` as 10.0.0.1 and `2121` as 0.0.8.73, where a slip of the finger is the likelier
/// meaning.
pub(super) fn is_name(host: &str) -> bool {
    let last = host.rsplit('.').next().unwrap_or(host);
    let is_number = last.starts_with(|first: char| first.is_ascii_digit())
        && (last.starts_with("0x") || last.bytes().all(|byte| byte.is_ascii_digit()));
    let is_foreign =
        |character: char| character.is_whitespace() || character.is_control() || ":/[]%@".contains(character);
    !host.is_empty() && !is_number && !host.contains(is_foreign)
}

fn resolve(value: &str, name: &str) -> Result<Vec<IpAddr>, Fault> {
    match (name, 0).to_socket_addrs() {
        Ok(addresses) => Ok(addresses.map(|address| address.ip()).collect()),
        Err(error) => Err(Fault::environment(format!("{value:?} does not resolve: {}", plain(&error)))),
    }
}

fn not_an_address(value: &str) -> Fault {
    Fault::usage(format!("{value:?} is not HOST:PORT, [IPv6]:PORT, :PORT or a port"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::problems::ErrorKind;

    const EVERY: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

    #[test]
    fn addresses_to_listen_on() {
        let cases = [
            ("2121", "[::]:2121"),
            (":2121", "[::]:2121"),
            ("0", "[::]:0"),
            ("0.0.0.0:21", "0.0.0.0:21"),
            ("127.0.0.1:2121", "127.0.0.1:2121"),
            ("[::1]:2121", "[::1]:2121"),
            ("[::]:65535", "[::]:65535"),
            ("[::ffff:192.0.2.1]:21", "[::ffff:192.0.2.1]:21"),
        ];
        for (value, expected) in cases {
            let expected: SocketAddr = expected.parse().unwrap();
            assert_eq!(listen(value, EVERY), Ok(vec![expected]), "{value:?}");
        }
        let plain = Ipv4Addr::UNSPECIFIED.into();
        for value in ["2121", ":2121"] {
            assert_eq!(listen(value, plain), Ok(vec![SocketAddr::new(plain, 2121)]));
        }
    }

    #[test]
    fn a_name_to_listen_on_is_resolved() {
        let addresses = listen("localhost:2121", EVERY).unwrap();
        assert!(!addresses.is_empty());
        assert!(addresses.iter().all(|address| address.ip().is_loopback() && address.port() == 2121));
    }

    #[test]
    fn wrong_addresses_to_listen_on() {
        let values = [
            "",
            ":",
            "x",
            "127.0.0.1",
            "::1",
            "::1:2121",
            "[::1]",
            "[::1]:",
            "[127.0.0.1]:21",
            "[localhost]:21",
            "[]:21",
            "65536",
            ":65536",
            "-1",
            "+21",
            "127.0.0.1:+21",
            "127.0.0.1:ftp",
            "127.0.0:21",
            "300.1.1.1:21",
            "0x7f000001:21",
            "2121:21",
            "a b:21",
            "a/b:21",
            "ftp://localhost:21",
            "*:21 ",
            "a\n:21",
        ];
        for value in values {
            let expected = format!("{value:?} is not HOST:PORT, [IPv6]:PORT, :PORT or a port");
            assert_eq!(listen(value, EVERY), Err(Fault::usage(expected)));
        }
    }

    #[test]
    fn a_name_that_does_not_resolve_is_no_usage_error() {
        // Two dots in a row make a name that no resolver has to ask the network for.
        for fault in [listen("no..where:21", EVERY).unwrap_err(), passive("no..where").unwrap_err()] {
            assert_eq!(fault.kind, ErrorKind::Environment, "{fault:?}");
            assert!(fault.text.starts_with("\"no..where"), "{fault:?}");
            assert!(fault.text.contains("\" does not resolve: "), "{fault:?}");
        }
    }

    #[test]
    fn passive_addresses() {
        let cases = [
            ("192.0.2.7", Ipv4Addr::new(192, 0, 2, 7)),
            ("::ffff:192.0.2.7", Ipv4Addr::new(192, 0, 2, 7)),
            ("localhost", Ipv4Addr::LOCALHOST),
        ];
        for (value, expected) in cases {
            assert_eq!(passive(value), Ok(expected), "{value:?}");
        }
        for value in ["", "10.1", "2130706433", "0x7f.1", "192.0.2.7:21", "192.0.2.7/24", "a b", "[::1]", "\u{1b}"] {
            let expected = format!("{value:?} is not an IPv4 address or a host name");
            assert_eq!(passive(value), Err(Fault::usage(expected)));
        }
        for value in ["::1", "2001:db8::1"] {
            assert_eq!(passive(value), Err(Fault::usage(format!("{value:?} has no IPv4 address"))));
        }
        for value in ["0.0.0.0", "224.0.0.1", "255.255.255.255", "::ffff:0.0.0.0"] {
            let expected = format!("{value:?} is not an address to which a client can connect");
            assert_eq!(passive(value), Err(Fault::usage(expected)));
        }
    }
}
