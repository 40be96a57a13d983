//! The arguments of the transfer parameter commands: TYPE, STRU, MODE, REST, ALLO (RFC 959 §3, §4.1.2),
//! and the times of MDTM and MFMT (RFC 3659 §2.3).
//!
//! Turns bytes into values. Never remembers which parameters are in force.

use super::date::{self, Civil};

/// How the bytes of a file are represented on the data connection (RFC 959 §3.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RepresentationType {
    /// `A`, `A N`: lines end with CRLF.
    Ascii,
    /// `I`, `L 8`: the bytes as they are.
    Image,
}

/// Why the argument of a parameter command was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterError {
    /// It is not what the RFC describes (501).
    Syntax,
    /// The RFC describes it, this server does not have it (504).
    NotImplemented,
}

/// Where the next transfer begins, in bytes from the start of the file (RFC 3659 §5); at most
/// [`i64::MAX`], the largest offset that a file can have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct RestartMarker(u64);

impl RestartMarker {
    /// Reads a marker: digits and nothing else.
    ///
    /// # Errors
    /// [`ParameterError::Syntax`], also for a number over [`i64::MAX`].
    pub fn parse(argument: &[u8]) -> Result<Self, ParameterError> {
        decimal(argument).filter(|&offset| offset <= i64::MAX.unsigned_abs()).map(Self).ok_or(ParameterError::Syntax)
    }

    /// The offset in bytes.
    pub fn offset(self) -> u64 {
        self.0
    }
}

/// Reads the argument of TYPE: `A`, `A N`, `I`, `L 8` and `L8` in any case.
///
/// # Errors
/// [`ParameterError::NotImplemented`] for EBCDIC, Telnet and carriage control formats, and other byte
/// sizes; [`ParameterError::Syntax`] for anything else.
pub fn parse_type(argument: &[u8]) -> Result<RepresentationType, ParameterError> {
    let mut words = words(argument);
    let (first, second) = (words.next().unwrap_or_default(), words.next());
    if words.next().is_some() {
        return Err(ParameterError::Syntax);
    }
    match (first.to_ascii_uppercase().as_slice(), second) {
        (b"A", None) => Ok(RepresentationType::Ascii),
        (b"A", Some(format)) => parse_format(format).map(|()| RepresentationType::Ascii),
        (b"E", None) => Err(ParameterError::NotImplemented),
        (b"E", Some(format)) => parse_format(format).and(Err(ParameterError::NotImplemented)),
        (b"I", None) => Ok(RepresentationType::Image),
        (b"L", Some(size)) | ([b'L', size @ ..], None) => match decimal(size) {
            Some(8) => Ok(RepresentationType::Image),
            Some(1..=255) => Err(ParameterError::NotImplemented),
            _ => Err(ParameterError::Syntax),
        },
        _ => Err(ParameterError::Syntax),
    }
}

/// The vertical format (RFC 959 §3.1.1.5): `N`, as opposed to Telnet and carriage control.
fn parse_format(format: &[u8]) -> Result<(), ParameterError> {
    parse_letter(format, b'N', b"TC")
}

/// Reads the argument of STRU: `F` in either case.
///
/// # Errors
/// [`ParameterError::NotImplemented`] for `R` and `P`, [`ParameterError::Syntax`] for anything else.
pub fn parse_structure(argument: &[u8]) -> Result<(), ParameterError> {
    parse_letter(argument, b'F', b"RP")
}

/// Reads the argument of MODE: `S` in either case.
///
/// # Errors
/// [`ParameterError::NotImplemented`] for `B`, `C` and `Z`, which some servers compress with,
/// [`ParameterError::Syntax`] for anything else.
pub fn parse_mode(argument: &[u8]) -> Result<(), ParameterError> {
    parse_letter(argument, b'S', b"BCZ")
}

fn parse_letter(argument: &[u8], offered: u8, known: &[u8]) -> Result<(), ParameterError> {
    match argument {
        [letter] if letter.to_ascii_uppercase() == offered => Ok(()),
        [letter] if known.contains(&letter.to_ascii_uppercase()) => Err(ParameterError::NotImplemented),
        _ => Err(ParameterError::Syntax),
    }
}

/// Reads the argument of REST.
///
/// # Errors
/// As [`RestartMarker::parse`].
pub fn parse_restart(argument: &[u8]) -> Result<RestartMarker, ParameterError> {
    RestartMarker::parse(argument)
}

/// Reads the argument of ALLO, `n` or `n R m` (RFC 959 §4.1.3), and gives `n`, a size in bytes.
///
/// # Errors
/// [`ParameterError::Syntax`], also for a number that does not fit.
pub fn parse_allo(argument: &[u8]) -> Result<u64, ParameterError> {
    let mut words = words(argument);
    let size = words.next().and_then(decimal).ok_or(ParameterError::Syntax)?;
    match (words.next(), words.next(), words.next()) {
        (None, ..) => Ok(size),
        (Some(b"R" | b"r"), Some(record), None) if decimal(record).is_some() => Ok(size),
        _ => Err(ParameterError::Syntax),
    }
}

/// Reads permission bits in octal, `644`, `0644` or `755`; at most 0777: the bits of setuid, setgid and sticky
/// are nothing that a client sets. `None` if it is no such number.
pub fn parse_mode_bits(argument: &[u8]) -> Option<u32> {
    if !(1..=4).contains(&argument.len()) || !argument.iter().all(|b| (b'0'..=b'7').contains(b)) {
        return None;
    }
    let bits = argument.iter().fold(0, |bits, digit| bits * 8 + u32::from(digit - b'0'));
    (bits <= 0o777).then_some(bits)
}

/// Reads `YYYYMMDDHHMMSS`, perhaps with a fraction, which is dropped, in UTC (RFC 3659 §2.3). Gives
/// seconds since the epoch, or `None` if it is no such time. A leap second is the one after it.
pub fn parse_time(argument: &[u8]) -> Option<i64> {
    let (whole, rest) = argument.split_at_checked(14)?;
    match rest {
        [] => {}
        [b'.', fraction @ ..] if is_digits(fraction) => {}
        _ => return None,
    }
    let number = |at: usize| whole.get(at..at + 2).and_then(decimal);
    let small = |at| number(at).and_then(|value| u8::try_from(value).ok());
    let second = small(12)?;
    let civil = Civil {
        year: u16::try_from(number(0)? * 100 + number(2)?).ok()?,
        month: small(4)?,
        day: small(6)?,
        hour: small(8)?,
        minute: small(10)?,
        second: if second == 60 { 59 } else { second },
    };
    date::timestamp(&civil).map(|time| time + i64::from(second == 60))
}

/// The value of a number in digits alone, without a sign; `None` if it is empty or does not fit.
pub(crate) fn decimal(digits: &[u8]) -> Option<u64> {
    if !is_digits(digits) {
        return None;
    }
    digits.iter().try_fold(0u64, |value, digit| value.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
}

fn is_digits(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(u8::is_ascii_digit)
}

fn words(argument: &[u8]) -> impl Iterator<Item = &[u8]> {
    argument.split(|&byte| byte == b' ').filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::ParameterError::{NotImplemented, Syntax};
    use super::*;

    #[test]
    fn types() {
        for ascii in [&b"A"[..], b"a", b"A N", b"a n"] {
            assert_eq!(parse_type(ascii), Ok(RepresentationType::Ascii));
        }
        for image in [&b"I"[..], b"i", b"L 8", b"L8", b"l8"] {
            assert_eq!(parse_type(image), Ok(RepresentationType::Image));
        }
        for other in [&b"E"[..], b"e n", b"E T", b"A T", b"A c", b"L 7", b"L16", b"L 255"] {
            assert_eq!(parse_type(other), Err(NotImplemented), "{}", other.escape_ascii());
        }
        for bad in [
            &b""[..],
            b" ",
            b"X",
            b"AN",
            b"A X",
            b"A N N",
            b"I N",
            b"L",
            b"L x",
            b"L 0",
            b"L 256",
            b"L -8",
            b"L8 8",
            b"E X",
            b"\xFF",
        ] {
            assert_eq!(parse_type(bad), Err(Syntax), "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn structures_and_modes() {
        assert_eq!((parse_structure(b"F"), parse_structure(b"f")), (Ok(()), Ok(())));
        assert_eq!(parse_structure(b"R"), Err(NotImplemented));
        assert_eq!(parse_structure(b"p"), Err(NotImplemented));
        assert_eq!((parse_mode(b"S"), parse_mode(b"s")), (Ok(()), Ok(())));
        assert_eq!(parse_mode(b"B"), Err(NotImplemented));
        assert_eq!(parse_mode(b"z"), Err(NotImplemented));
        for bad in [&b""[..], b"X", b"FF", b"S S", b"\xFF"] {
            assert_eq!((parse_structure(bad), parse_mode(bad)), (Err(Syntax), Err(Syntax)));
        }
    }

    #[test]
    fn restart_markers_end_where_files_do() {
        assert_eq!(parse_restart(b"0").map(RestartMarker::offset), Ok(0));
        assert_eq!(parse_restart(b"007").map(RestartMarker::offset), Ok(7));
        let last = RestartMarker::parse(b"9223372036854775807");
        assert_eq!(last.map(RestartMarker::offset), Ok(9_223_372_036_854_775_807));
        for bad in [
            &b""[..],
            b"-1",
            b"+1",
            b" 1",
            b"1 ",
            b"1.5",
            b"0x10",
            b"9223372036854775808",
            b"18446744073709551615",
            b"18446744073709551616",
            b"99999999999999999999999999",
        ] {
            assert_eq!(parse_restart(bad), Err(Syntax), "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn allo_takes_a_size_and_a_record_size() {
        assert_eq!(parse_allo(b"1024"), Ok(1024));
        assert_eq!(parse_allo(b"1024 R 80"), Ok(1024));
        assert_eq!(parse_allo(b"1024 r 80"), Ok(1024));
        assert_eq!(parse_allo(b"18446744073709551615"), Ok(u64::MAX));
        for bad in [&b""[..], b"x", b"-1", b"1 R", b"1 R x", b"1 X 2", b"1 R 2 3", b"18446744073709551616"] {
            assert_eq!(parse_allo(bad), Err(Syntax), "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn permission_bits() {
        for (text, bits) in [("644", Some(0o644)), ("0755", Some(0o755)), ("0", Some(0)), ("777", Some(0o777))] {
            assert_eq!(parse_mode_bits(text.as_bytes()), bits, "{text}");
        }
        for bad in ["", "8", "1777", "4755", "00644", "+644", "u+x", " 644"] {
            assert_eq!(parse_mode_bits(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn times() {
        assert_eq!(parse_time(b"19700101000000"), Some(0));
        assert_eq!(parse_time(b"20240229235959"), Some(1_709_251_199));
        assert_eq!(parse_time(b"20240229235959.123"), Some(1_709_251_199));
        assert_eq!(parse_time(b"20161231235960"), Some(1_483_228_800));
        for bad in [
            &b""[..],
            b"2024022923595",
            b"20240229235959.",
            b"20240229235959.x",
            b"20240229235959x",
            b"202402292359599",
            b"20230229000000",
            b"20241301000000",
            b"20240100000000",
            b"20240101240000",
            b"20240101006000",
            b"20240101000061",
            b"00000101000000",
            b"+0240101000000",
            b"\xFF0240101000000",
        ] {
            assert_eq!(parse_time(bad), None, "{}", bad.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn written_times_can_be_read(secs in -62_135_596_800i64..=253_402_300_799) {
            prop_assert_eq!(parse_time(&date::time_val(secs)), Some(secs));
        }

        #[test]
        fn any_bytes_are_refused_or_read(bytes in proptest::collection::vec(any::<u8>(), 0..24)) {
            let _ = (parse_type(&bytes), parse_structure(&bytes), parse_mode(&bytes));
            let _ = (parse_restart(&bytes), parse_allo(&bytes), parse_time(&bytes));
        }
    }
}
