//! Lines of replies, read strictly (RFC 959 §4.2, RFC 2428 §3).
//!
//! Pure: bytes to values.

use std::ops::Range;

use crate::proto::hostport::parse_port;

/// What follows the code and the byte after it.
pub fn text_of(line: &Range<usize>) -> Range<usize> {
    (line.start + 4).min(line.end)..line.end
}

/// Three digits, the first from 1 to 5, and a space or a hyphen.
pub fn code(line: &[u8]) -> Option<(u16, bool)> {
    let [digits @ .., mark] = line.get(..4)? else { return None };
    let more = match mark {
        b' ' => false,
        b'-' => true,
        _ => return None,
    };
    if !(b'1'..=b'5').contains(digits.first()?) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some((digits.iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0')), more))
}

/// The port of a reply to EPSV, `(|||port|)` with any printable character for the bar (RFC 2428 §3).
pub fn extended_port(text: &[u8]) -> Option<u16> {
    let open = memchr::memrchr(b'(', text)?;
    let inner = text.get(open + 1..)?;
    let inner = inner.get(..memchr::memchr(b')', inner)?)?;
    let (&bar, rest) = inner.split_first()?;
    let rest = rest.strip_prefix(&[bar, bar])?;
    let digits = rest.strip_suffix(&[bar])?;
    let plain = bar.is_ascii_graphic() && !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    str::from_utf8(digits).ok().filter(|_| plain)?.parse().ok()
}

/// The port of a reply to PASV, six numbers wherever they stand (RFC 1123 §4.1.2.6).
pub fn passive_port(text: &[u8]) -> Option<u16> {
    let start = text.iter().position(u8::is_ascii_digit)?;
    let rest = text.get(start..)?;
    let end = rest.iter().position(|byte| !byte.is_ascii_digit() && *byte != b',').unwrap_or(rest.len());
    parse_port(rest.get(..end)?).ok().map(|address| address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_read_strictly() {
        assert_eq!(code(b"220 ready"), Some((220, false)));
        assert_eq!(code(b"220-ready"), Some((220, true)));
        assert_eq!(code(b"599 "), Some((599, false)));
        for line in ["", "220", "22 0", "020 x", "620 x", "2200 x", " 220 x", "2a0 x", "220\tx", "\u{664}20 x"] {
            assert_eq!(code(line.as_bytes()), None, "{line:?}");
        }
    }

    #[test]
    fn passive_replies_are_read_for_their_port() {
        assert_eq!(extended_port(b"Entering Extended Passive Mode (|||6446|)"), Some(6446));
        assert_eq!(extended_port(b"(ok) (!!!1!)."), Some(1));
        for text in ["", "6446", "(|||6446)", "(||6446|)", "(|||65536|)", "(||||)", "(|||+1|)", "(|1||6446|)", "(|||6|"]
        {
            assert_eq!(extended_port(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(passive_port(b"Entering Passive Mode (192,0,2,1,4,1)."), Some(1025));
        assert_eq!(passive_port(b"192,0,2,1,255,255"), Some(65535));
        for text in ["", "(192,0,2,1,4)", "(192,0,2,1,4,1,1)", "(192,0,2,1,4,256)", "Mode 2 (192,0,2,1,4,1)"] {
            assert_eq!(passive_port(text.as_bytes()), None, "{text:?}");
        }
    }
}
