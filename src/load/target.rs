//! Which address is loaded, and whether it may be.
//!
//! A name is resolved once, every address of it is judged, and the one that is chosen is the one that is
//! used: no later answer of a name server can point the load at somebody else.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use super::LoadError;
use crate::config::plain;
use crate::config::url::{FtpUrl, UrlHost};

/// The address to load.
///
/// # Errors
/// The name does not resolve; or one of its addresses is public, and `own` does not allow that.
pub fn resolve(url: &FtpUrl, own: bool, timeout: Duration) -> Result<SocketAddr, LoadError> {
    let addresses: Vec<SocketAddr> = match &url.host {
        UrlHost::Address(address) => vec![SocketAddr::new(*address, url.port)],
        UrlHost::Name(name) => (name.as_str(), url.port)
            .to_socket_addrs()
            .map_err(|error| LoadError::here(format!("URL: {name:?} does not resolve: {}", plain(&error))))?
            .collect(),
    };
    if let Some(public) = addresses.iter().find(|address| !own && !is_near(address.ip())) {
        return Err(LoadError::usage(format!(
            "URL: {} is neither a loopback nor a private nor a link-local address: give --i-own-this-server if the \
             server is yours",
            public.ip()
        )));
    }
    choose(&addresses, timeout).ok_or_else(|| LoadError::here(format!("URL: {url} has no address")))
}

/// The one address that there is, or the first that answers: a name such as localhost stands for IPv6 and
/// IPv4, and servers often listen on one of them only.
fn choose(addresses: &[SocketAddr], timeout: Duration) -> Option<SocketAddr> {
    let answers = |address: &&SocketAddr| TcpStream::connect_timeout(address, timeout).is_ok();
    let chosen = match addresses {
        [] | [_] => addresses.first(),
        [first, ..] => addresses.iter().find(answers).or(Some(first)),
    };
    chosen.copied().map(canonical)
}

/// An address of IPv4 that is written as IPv6, as IPv4; others keep their zone.
fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => (ip, address.port()).into(),
        IpAddr::V6(_) => address,
    }
}

/// Whether an address is loopback, private (RFC 1918, RFC 4193) or link-local (RFC 3927, RFC 4291). One of
/// IPv4 that is written as IPv6 is judged by what it stands for.
fn is_near(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => address.is_loopback() || address.is_private() || address.is_link_local(),
        IpAddr::V6(address) => address.is_loopback() || address.is_unique_local() || is_unicast_link_local(address),
    }
}

fn is_unicast_link_local(address: Ipv6Addr) -> bool {
    address.segments().first().is_some_and(|first| first & 0xffc0 == 0xfe80)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn only_near_addresses_are_loaded_unasked() {
        let near = |text: &str| is_near(text.parse().unwrap());
        for address in [
            "127.0.0.1",
            "127.255.255.254",
            "10.0.0.1",
            "10.255.255.255",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.0.1",
            "169.254.1.1",
            "::1",
            "fc00::1",
            "fdff:ffff::1",
            "fe80::1",
            "febf::1",
            "::ffff:127.0.0.1",
            "::ffff:10.1.2.3",
        ] {
            assert!(near(address), "{address}");
        }
        for address in [
            "0.0.0.0",
            "9.255.255.255",
            "11.0.0.0",
            "100.64.0.1",
            "126.255.255.255",
            "128.0.0.1",
            "172.15.255.255",
            "172.32.0.0",
            "192.167.255.255",
            "192.169.0.0",
            "169.253.255.255",
            "203.0.113.7",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::2",
            "fbff::1",
            "fe00::1",
            "fec0::1",
            "ff02::1",
            "2001:db8::1",
            "::ffff:203.0.113.7",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
        ] {
            assert!(!near(address), "{address}");
        }
    }

    #[test]
    fn a_public_address_is_refused_unless_it_is_owned() {
        let url = |text: &str| FtpUrl {
            host: UrlHost::Address(text.parse().unwrap()),
            ..FtpUrl::local(Ipv4Addr::LOCALHOST, 21)
        };
        for address in ["203.0.113.7", "::ffff:203.0.113.7"] {
            let refused = resolve(&url(address), false, Duration::ZERO).unwrap_err();
            assert!(refused.to_string().contains("--i-own-this-server") && refused.exit_code() == 2, "{refused}");
            let own = resolve(&url(address), true, Duration::ZERO).unwrap();
            assert_eq!(own, "203.0.113.7:21".parse().unwrap());
        }
        assert!(resolve(&url("127.0.0.1"), false, Duration::ZERO).is_ok());
    }

    #[test]
    fn of_several_addresses_the_first_that_answers_is_used() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let there = listener.local_addr().unwrap();
        let absent = SocketAddr::new(Ipv4Addr::new(127, 0, 0, 2).into(), there.port());
        let timeout = Duration::from_secs(5);
        assert_eq!(choose(&[absent, there], timeout), Some(there));
        assert_eq!(choose(&[there, absent], timeout), Some(there));
        assert_eq!(choose(&[absent, absent], timeout), Some(absent));
        assert_eq!((choose(&[absent], timeout), choose(&[], timeout)), (Some(absent), None));
    }

    #[test]
    fn a_name_without_an_address_is_an_error_of_the_environment() {
        let url = FtpUrl { host: UrlHost::Name("no..where".into()), ..FtpUrl::local(Ipv4Addr::LOCALHOST, 21) };
        let error = resolve(&url, false, Duration::ZERO).unwrap_err();
        assert!(
            error.to_string().starts_with("URL: \"no..where\" does not resolve") && error.exit_code() == 1,
            "{error}"
        );
    }
}
