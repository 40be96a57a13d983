//! Addresses in commands and replies: PORT and PASV (RFC 959 §4.1.2, §5.3.2), EPRT and EPSV
//! (RFC 2428).
//!
//! Only reads and writes the notation. Never decides whether an address may be used: a third party, a
//! privileged port and port 0 are all well-formed here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};

use super::params::decimal;

/// The argument of PORT is not six numbers of at most 255 (501).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadHostPort;

/// Why the argument of EPRT or EPSV was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EprtError {
    /// It is not what RFC 2428 §2 or §3 describes (501).
    Syntax,
    /// Well-formed, but of a network protocol other than IPv4 (1) and IPv6 (2) (522).
    Family,
}

/// The argument of EPSV (RFC 2428 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EpsvArgument {
    /// None: the protocol of the control connection.
    Any,
    /// `1`
    V4,
    /// `2`
    V6,
    /// `ALL`: from now on the client will use nothing but EPSV.
    All,
}

/// Reads `h1,h2,h3,h4,p1,p2` (RFC 959 §5.3.2).
///
/// # Errors
/// [`BadHostPort`] unless there are exactly six fields of one to three digits, each at most 255.
pub fn parse_port(argument: &[u8]) -> Result<SocketAddrV4, BadHostPort> {
    let mut numbers = [0; 6];
    let mut fields = argument.split(|&byte| byte == b',');
    for number in &mut numbers {
        *number = fields.next().and_then(octet).ok_or(BadHostPort)?;
    }
    if fields.next().is_some() {
        return Err(BadHostPort);
    }
    let [h1, h2, h3, h4, p1, p2] = numbers;
    Ok(SocketAddrV4::new(Ipv4Addr::new(h1, h2, h3, h4), u16::from_be_bytes([p1, p2])))
}

fn octet(field: &[u8]) -> Option<u8> {
    let short = (1..=3).contains(&field.len());
    decimal(field).filter(|_| short).and_then(|number| u8::try_from(number).ok())
}

/// Reads `|proto|address|port|`, where any printable ASCII character but the space may stand for the
/// bar (RFC 2428 §2). An IPv4-mapped address stays as it was written: see [`canonical`].
///
/// # Errors
/// [`EprtError::Family`] for a protocol number other than 1 and 2, [`EprtError::Syntax`] for anything
/// else that is wrong, an address of the other protocol or with a scope id among it.
pub fn parse_eprt(argument: &[u8]) -> Result<SocketAddr, EprtError> {
    let &delimiter = argument.first().ok_or(EprtError::Syntax)?;
    if !delimiter.is_ascii_graphic() {
        return Err(EprtError::Syntax);
    }
    let mut fields = argument[1..].split(|&byte| byte == delimiter);
    let (Some(family), Some(address), Some(port), Some(b""), None) =
        (fields.next(), fields.next(), fields.next(), fields.next(), fields.next())
    else {
        return Err(EprtError::Syntax);
    };
    let family = decimal(family).ok_or(EprtError::Syntax)?;
    let port = decimal(port).and_then(|port| u16::try_from(port).ok()).ok_or(EprtError::Syntax)?;
    let address = str::from_utf8(address).map_err(|_| EprtError::Syntax)?;
    let address = match family {
        1 => address.parse::<Ipv4Addr>().map(IpAddr::V4),
        2 => address.parse::<Ipv6Addr>().map(IpAddr::V6),
        _ => return Err(EprtError::Family),
    };
    address.map(|address| SocketAddr::new(address, port)).map_err(|_| EprtError::Syntax)
}

/// Reads the argument of EPSV, empty if there was none.
///
/// # Errors
/// [`EprtError::Family`] for a number other than 1 and 2, [`EprtError::Syntax`] for anything else.
pub fn parse_epsv(argument: &[u8]) -> Result<EpsvArgument, EprtError> {
    if argument.is_empty() {
        return Ok(EpsvArgument::Any);
    }
    if argument.eq_ignore_ascii_case(b"ALL") {
        return Ok(EpsvArgument::All);
    }
    match decimal(argument) {
        Some(1) => Ok(EpsvArgument::V4),
        Some(2) => Ok(EpsvArgument::V6),
        Some(_) => Err(EprtError::Family),
        None => Err(EprtError::Syntax),
    }
}

/// The text of a 227 reply, in the form that all clients know.
pub fn passive_text(address: SocketAddrV4) -> String {
    let [h1, h2, h3, h4] = address.ip().octets();
    let [p1, p2] = address.port().to_be_bytes();
    format!("Entering Passive Mode ({h1},{h2},{h3},{h4},{p1},{p2}).")
}

/// The text of a 229 reply (RFC 2428 §3).
pub fn extended_passive_text(port: u16) -> String {
    format!("Entering Extended Passive Mode (|||{port}|)")
}

/// The address by which a peer is known: IPv4 where it came in as IPv4-mapped IPv6, so that a
/// client is the same client over either kind of socket.
pub fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// The address with IPv4 as IPv4; a link-local address keeps its scope.
#[must_use]
pub fn canonical_socket(address: SocketAddr) -> SocketAddr {
    match (address, canonical(address.ip())) {
        (SocketAddr::V6(_), ip @ IpAddr::V4(_)) => SocketAddr::new(ip, address.port()),
        _ => address,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn port_takes_six_numbers() {
        let address = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 7), 50_001);
        assert_eq!(parse_port(b"192,0,2,7,195,81"), Ok(address));
        assert_eq!(parse_port(b"192,000,002,007,195,081"), Ok(address));
        for bad in [
            &b""[..],
            b"1,2,3,4,5",
            b"1,2,3,4,5,6,",
            b"1,2,3,4,5,6,7",
            b"256,2,3,4,5,6",
            b"1,2,3,4,5,256",
            b"1,2,3,4,,6",
            b"+1,2,3,4,5,6",
            b"-1,2,3,4,5,6",
            b"1,2,3,4,5, 6",
            b"1,2,3,4,5,6 ",
            b"0001,2,3,4,5,6",
            b"1.2.3.4.5.6",
            b"\xFF,2,3,4,5,6",
        ] {
            assert_eq!(parse_port(bad), Err(BadHostPort), "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn eprt_takes_both_families_and_any_delimiter() {
        let four = "192.0.2.7:50001".parse::<SocketAddr>();
        let six = "[2001:db8::7]:50001".parse::<SocketAddr>();
        assert_eq!(parse_eprt(b"|1|192.0.2.7|50001|").ok(), four.clone().ok());
        assert_eq!(parse_eprt(b"!1!192.0.2.7!50001!").ok(), four.ok());
        assert_eq!(parse_eprt(b"|2|2001:db8::7|50001|").ok(), six.ok());
        assert_eq!(parse_eprt(b"|3|192.0.2.7|50001|"), Err(EprtError::Family));
        for bad in [
            &b""[..],
            b"|",
            b"||||",
            b"|1|192.0.2.7|50001",
            b"|1|192.0.2.7|50001|x",
            b"|1|192.0.2.7|50001||",
            b"|1|192.0.2.7|65536|",
            b"|1|192.0.2.7|-1|",
            b"|1|192.0.2.7||",
            b"|1|2001:db8::7|50001|",
            b"|2|192.0.2.7|50001|",
            b"|2|fe80::1%eth0|50001|",
            b"|2|fe80::1%2|50001|",
            b"|2|[2001:db8::7]|50001|",
            b"|x|192.0.2.7|50001|",
            b"|1|192.0.2.\xFF|50001|",
            b" 1 192.0.2.7 50001 ",
            b"\xFF1\xFF192.0.2.7\xFF50001\xFF",
        ] {
            assert_eq!(parse_eprt(bad), Err(EprtError::Syntax), "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn epsv_takes_nothing_a_family_or_all() {
        assert_eq!(parse_epsv(b""), Ok(EpsvArgument::Any));
        assert_eq!(parse_epsv(b"1"), Ok(EpsvArgument::V4));
        assert_eq!(parse_epsv(b"2"), Ok(EpsvArgument::V6));
        assert_eq!(parse_epsv(b"aLL"), Ok(EpsvArgument::All));
        assert_eq!(parse_epsv(b"3"), Err(EprtError::Family));
        assert_eq!(parse_epsv(b"-1"), Err(EprtError::Syntax));
        assert_eq!(parse_epsv(b"ALLES"), Err(EprtError::Syntax));
    }

    #[test]
    fn texts_are_what_clients_expect() {
        let address = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 7), 50_001);
        assert_eq!(passive_text(address), "Entering Passive Mode (192,0,2,7,195,81).");
        assert_eq!(extended_passive_text(50_001), "Entering Extended Passive Mode (|||50001|)");
    }

    #[test]
    fn mapped_addresses_are_ipv4() {
        for (from, to) in [("::ffff:192.0.2.7", "192.0.2.7"), ("2001:db8::7", "2001:db8::7")] {
            let (from, to): (IpAddr, IpAddr) = (from.parse().unwrap(), to.parse().unwrap());
            assert_eq!(canonical(from), to);
        }
    }

    proptest! {
        #[test]
        fn what_passive_text_says_port_can_read(ip in any::<[u8; 4]>(), port in any::<u16>()) {
            let address = SocketAddrV4::new(Ipv4Addr::from(ip), port);
            let text = passive_text(address);
            let inner = text.split(['(', ')']).nth(1).unwrap();
            prop_assert_eq!(parse_port(inner.as_bytes()), Ok(address));
        }

        #[test]
        fn eprt_reads_every_address(ip in any::<u128>(), port in any::<u16>()) {
            let address = SocketAddr::new(IpAddr::V6(Ipv6Addr::from(ip)), port);
            let text = format!("|2|{}|{port}|", address.ip());
            prop_assert_eq!(parse_eprt(text.as_bytes()), Ok(address));
        }

        #[test]
        fn any_bytes_are_refused_or_read(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = (parse_port(&bytes), parse_eprt(&bytes), parse_epsv(&bytes));
        }
    }
}
