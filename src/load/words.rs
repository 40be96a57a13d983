//! Numbers as people read them.

use std::time::Duration;

/// A whole number, its thousands apart.
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A time given in milliseconds, with about three digits: `87 µs`, `1.23 ms`, `12.3 s`.
#[must_use]
pub fn time(milliseconds: f64) -> String {
    let (value, unit) = match milliseconds {
        m if m < 0.9995 => (m * 1000.0, "µs"),
        m if m < 999.5 => (m, "ms"),
        m => (m / 1000.0, "s"),
    };
    format!("{} {unit}", figure(value))
}

/// About three digits of a number.
#[must_use]
pub fn figure(value: f64) -> String {
    match value {
        v if v >= 99.95 || v == 0.0 => format!("{v:.0}"),
        v if v >= 9.995 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

/// Seconds of a run.
#[must_use]
pub fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

/// Bytes as MiB.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
pub fn mib(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
        for (milliseconds, text) in [
            (0.0871, "87.1 µs"),
            (0.9, "900 µs"),
            (0.9996, "1.00 ms"),
            (1.234, "1.23 ms"),
            (999.4, "999 ms"),
            (12_345.0, "12.3 s"),
        ] {
            assert_eq!(time(milliseconds), text);
        }
        assert_eq!(
            (figure(0.0), figure(0.5), figure(12.34), figure(1234.5)),
            ("0".into(), "0.50".into(), "12.3".into(), "1234".into())
        );
    }
}
