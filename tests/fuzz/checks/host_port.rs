//! Addresses in PORT, EPRT and EPSV against the standard library's idea of them.

use plimsoll::proto::hostport::{EprtError, EpsvArgument, canonical, parse_eprt, parse_epsv, parse_port, passive_text};
use std::net::{IpAddr, SocketAddr};

/// The bytes are the argument of each.
pub fn check(data: &[u8]) {
    port(data);
    eprt(data);
    epsv(data);
}

fn port(data: &[u8]) {
    let fields: Vec<Option<u8>> = data
        .split(|&b| b == b',')
        .map(|field| {
            let plain = (1..=3).contains(&field.len()) && field.iter().all(u8::is_ascii_digit);
            str::from_utf8(field).ok().filter(|_| plain)?.parse().ok()
        })
        .collect();
    let expected = match fields[..] {
        [Some(a), Some(b), Some(c), Some(d), Some(high), Some(low)] => {
            Some(SocketAddr::from(([a, b, c, d], u16::from(high) * 256 + u16::from(low))))
        }
        _ => None,
    };
    let parsed = parse_port(data);
    assert_eq!(parsed.ok().map(SocketAddr::V4), expected);
    if let Ok(address) = parsed {
        let text = passive_text(address);
        let inner = text.split(['(', ')']).nth(1).expect("parentheses");
        assert_eq!(parse_port(inner.as_bytes()), Ok(address));
    }
}

fn eprt(data: &[u8]) {
    let parsed = parse_eprt(data);
    if let Ok(address) = parsed {
        let family = if address.is_ipv4() { 1 } else { 2 };
        let text = format!("|{family}|{}|{}|", address.ip(), address.port());
        assert_eq!(parse_eprt(text.as_bytes()), Ok(address));
        let once = canonical(address.ip());
        assert_eq!(canonical(once), once);
        assert!(!matches!(once, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some()));
    }
    // The plain form, by the standard library.
    let Some(text) = str::from_utf8(data).ok().filter(|text| text.starts_with('|')) else {
        return;
    };
    let fields: Vec<&str> = text.split('|').collect();
    let [_, family, address, port, ""] = fields[..] else {
        assert_eq!(parsed, Err(EprtError::Syntax));
        return;
    };
    let port = port.parse::<u16>().ok().filter(|_| !port.starts_with('+'));
    let expected = match (family, address.parse::<IpAddr>(), port) {
        ("1", Ok(ip @ IpAddr::V4(_)), Some(port)) | ("2", Ok(ip @ IpAddr::V6(_)), Some(port)) => {
            Some(SocketAddr::new(ip, port))
        }
        _ => None,
    };
    match family.parse::<u64>() {
        // Leading zeros are no fault.
        Ok(1 | 2) if family.len() > 1 => {}
        Ok(0 | 3..) if port.is_some() && !family.starts_with('+') => assert_eq!(parsed, Err(EprtError::Family)),
        _ => assert_eq!(parsed.ok(), expected),
    }
}

fn epsv(data: &[u8]) {
    let number = |data: &[u8]| data.iter().all(u8::is_ascii_digit).then(|| String::from_utf8_lossy(data).into_owned());
    match parse_epsv(data) {
        Ok(EpsvArgument::Any) => assert!(data.is_empty()),
        Ok(EpsvArgument::All) => assert_eq!(data.to_ascii_uppercase(), b"ALL"),
        Ok(EpsvArgument::V4) => assert_eq!(number(data).expect("digits").trim_start_matches('0'), "1"),
        Ok(EpsvArgument::V6) => assert_eq!(number(data).expect("digits").trim_start_matches('0'), "2"),
        Err(EprtError::Family) => assert!(number(data).is_some()),
        Err(EprtError::Syntax) => assert!(!data.is_empty()),
    }
}
