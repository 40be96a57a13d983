//! Values as typed, in flags and in the accounts file: whole numbers, sizes, times, ranges of ports, and `off`.
//!
//! Pure. An error is what was expected, worded so that it can follow `"VALUE" is not `; who calls
//! names the flag.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::limits;

/// Units of sizes in bytes, largest first.
const SIZES: [(&str, u64); 3] = [("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10)];

/// Units of times in milliseconds, largest first.
const TIMES: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// What a value had to be.
pub(crate) type Expected = String;

/// A whole number within `bounds`.
pub(crate) fn count(value: &str, bounds: RangeInclusive<usize>) -> Result<usize, Expected> {
    digits(value)
        .and_then(|number| usize::try_from(number).ok())
        .filter(|number| bounds.contains(number))
        .ok_or_else(|| format!("a whole number from {} to {}", bounds.start(), bounds.end()))
}

/// A size in bytes within `bounds`: `64K`, `64M`, `1G`, `64KiB`, or plain bytes.
pub(crate) fn size(value: &str, bounds: RangeInclusive<u64>) -> Result<u64, Expected> {
    let (number, unit) = number_and_unit(value);
    let factor = SIZES.iter().find(|(name, _)| unit == *name || unit.strip_suffix("iB") == Some(name));
    let factor = if unit.is_empty() { Some(1) } else { factor.map(|(_, factor)| *factor) };
    digits(number)
        .zip(factor)
        .and_then(|(number, factor)| number.checked_mul(factor))
        .filter(|bytes| bounds.contains(bytes))
        .ok_or_else(|| format!("a size from {} to {}", size_text(*bounds.start()), size_text(*bounds.end())))
}

/// A time from [`limits::TIMEOUT_MIN`] to [`limits::TIMEOUT_MAX`]: `500ms`, `30s`, `5m`, `2h`,
/// `1d`, or plain seconds.
pub(crate) fn time(value: &str) -> Result<Duration, Expected> {
    let (number, unit) = number_and_unit(value);
    let unit = if unit.is_empty() { "s" } else { unit };
    let factor = TIMES.iter().find(|(name, _)| unit == *name).map(|(_, factor)| *factor);
    let bounds = limits::TIMEOUT_MIN..=limits::TIMEOUT_MAX;
    digits(number)
        .zip(factor)
        .and_then(|(number, factor)| number.checked_mul(factor))
        .map(Duration::from_millis)
        .filter(|time| bounds.contains(time))
        .ok_or_else(|| format!("a time from {} to {}", time_text(*bounds.start()), time_text(*bounds.end())))
}

/// A range of ports, `LO-HI`, both included and neither of them 0.
pub(crate) fn ports(value: &str) -> Result<RangeInclusive<u16>, Expected> {
    value
        .split_once('-')
        .and_then(|(low, high)| Some(port(low)?..=port(high)?))
        .filter(|ports| *ports.start() >= 1 && !ports.is_empty())
        .ok_or_else(|| "a range of ports LO-HI from 1 to 65535, the lower one first".to_owned())
}

/// A port, 0 included.
pub(crate) fn port(value: &str) -> Option<u16> {
    digits(value).and_then(|number| u16::try_from(number).ok())
}

/// `off`, or whatever `parse` reads.
pub(crate) fn or_off<T>(value: &str, parse: impl FnOnce(&str) -> Result<T, Expected>) -> Result<Option<T>, Expected> {
    match value {
        "off" => Ok(None),
        value => parse(value).map(Some).map_err(|expected| expected + " or off"),
    }
}

/// A size as one would type it.
pub(crate) fn size_text(bytes: u64) -> String {
    with_largest_unit(bytes, &SIZES, "")
}

/// A time as one would type it, to the millisecond.
pub(crate) fn time_text(time: Duration) -> String {
    let milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    with_largest_unit(milliseconds, &TIMES, "ms")
}

/// Writes `number` in the largest unit of which it is a whole multiple.
fn with_largest_unit(number: u64, units: &[(&str, u64)], smallest: &str) -> String {
    match units.iter().find(|(_, factor)| number != 0 && number.is_multiple_of(*factor)) {
        Some((unit, factor)) => format!("{}{unit}", number / factor),
        None => format!("{number}{smallest}"),
    }
}

fn number_and_unit(value: &str) -> (&str, &str) {
    let end = value.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(value.len());
    value.split_at_checked(end).unwrap_or((value, ""))
}

/// Decimal digits and nothing else: `parse` alone would take a plus sign too.
fn digits(value: &str) -> Option<u64> {
    if value.bytes().all(|byte| byte.is_ascii_digit()) { value.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn counts() {
        for (value, expected) in [("1", Some(1)), ("007", Some(7)), ("9", Some(9)), ("10", None), ("0", None)] {
            assert_eq!(count(value, 1..=9).ok(), expected, "{value:?}");
        }
        for value in ["", "+1", "-1", " 1", "1 ", "1.0", "0x1", "1_0", "one", "off", "٣", "18446744073709551617"] {
            assert_eq!(count(value, 1..=9).unwrap_err(), "a whole number from 1 to 9", "{value:?}");
        }
    }

    #[test]
    fn sizes() {
        let sizes = [
            ("1", 1),
            ("1000", 1000),
            ("64K", 64 << 10),
            ("64KiB", 64 << 10),
            ("3M", 3 << 20),
            ("3MiB", 3 << 20),
            ("1G", 1 << 30),
            ("1GiB", 1 << 30),
        ];
        for (value, expected) in sizes {
            assert_eq!(size(value, 1..=1 << 30), Ok(expected), "{value:?}");
        }
        for value in
            ["", "0", "K", "KiB", "iB", "1iB", "64k", "64KB", "64B", "1T", "1.5M", "+1K", "-1", "1 K", "2G", "1é"]
        {
            assert_eq!(size(value, 1..=1 << 30).unwrap_err(), "a size from 1 to 1G", "{value:?}");
        }
        for value in ["18446744073709551616", "18014398509481984K", "99999999999999999999G"] {
            assert!(size(value, 0..=u64::MAX).is_err(), "{value:?}");
        }
    }

    #[test]
    fn times() {
        let times = [("100ms", 100), ("1500ms", 1500), ("30s", 30_000), ("30", 30_000), ("5m", 300_000)];
        for (value, milliseconds) in times.into_iter().chain([("2h", 7_200_000), ("1d", 86_400_000)]) {
            assert_eq!(time(value), Ok(Duration::from_millis(milliseconds)), "{value:?}");
        }
        for value in [
            "",
            "0",
            "0s",
            "99ms",
            "ms",
            "s",
            "1.5s",
            "-1s",
            "+1s",
            "1 s",
            "5M",
            "1w",
            "1min",
            "8d",
            "604801",
            "18446744073709551615d",
        ] {
            assert_eq!(time(value).unwrap_err(), "a time from 100ms to 7d", "{value:?}");
        }
    }

    #[test]
    fn ranges_of_ports() {
        for (value, expected) in [("50000-50999", 50_000..=50_999), ("1-65535", 1..=u16::MAX), ("21-21", 21..=21)] {
            assert_eq!(ports(value), Ok(expected), "{value:?}");
        }
        for value in ["", "-", "5", "5-", "-5", "0-5", "6-5", "1-65536", "1-2-3", "a-b", "1 - 2", "+1-2", "1:2", "1..2"]
        {
            assert_eq!(
                ports(value).unwrap_err(),
                "a range of ports LO-HI from 1 to 65535, the lower one first",
                "{value:?}"
            );
        }
    }

    #[test]
    fn off_is_named_where_it_is_allowed() {
        let parse = |value: &str| or_off(value, |value| count(value, 1..=9));
        assert_eq!(parse("off"), Ok(None));
        assert_eq!(parse("3"), Ok(Some(3)));
        for value in ["OFF", "0", "none", ""] {
            assert_eq!(parse(value).unwrap_err(), "a whole number from 1 to 9 or off", "{value:?}");
        }
    }

    proptest! {
        #[test]
        fn sizes_read_back_as_written(bytes: u64) {
            prop_assert_eq!(size(&size_text(bytes), 0..=u64::MAX), Ok(bytes));
            let round = bytes & !0x3ff;
            prop_assert_eq!(size(&size_text(round), 0..=u64::MAX), Ok(round));
        }

        #[test]
        fn times_read_back_as_written(
            milliseconds in 100..=604_800_000_u64,
            seconds in 1..=604_800_u64,
        ) {
            for written in [Duration::from_millis(milliseconds), Duration::from_secs(seconds)] {
                prop_assert_eq!(time(&time_text(written)), Ok(written));
            }
        }

        #[test]
        fn no_value_panics(value in ".{0,24}") {
            let _ = (count(&value, 1..=9), size(&value, 1..=9), time(&value), ports(&value));
        }
    }
}
