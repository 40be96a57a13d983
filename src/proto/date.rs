//! Dates in UTC: seconds since the epoch to civil time and back, and the ways in which replies,
//! listings and the log write them.
//!
//! The Gregorian calendar for the years 1 to 9999 and nothing else: no time zones, no clock, no leap
//! seconds. Nothing here allocates but the buffer that is written to.

/// A moment in UTC on the Gregorian calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Civil {
    /// 1 to 9999.
    pub year: u16,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 59.
    pub second: u8,
}

/// 0001-01-01T00:00:00Z in seconds since the epoch.
const FIRST: i64 = -62_135_596_800;
/// 9999-12-31T23:59:59Z in seconds since the epoch.
const LAST: i64 = 253_402_300_799;

const SECONDS_PER_DAY: i64 = 86_400;
/// From 0000-03-01 to the epoch. A year that begins in March has its leap day last, which makes days
/// and months a matter of division.
const DAYS_BEFORE_EPOCH: i64 = 719_468;
const DAYS_PER_400_YEARS: u32 = 146_097;

/// A date in a listing has the time of day up to this age, then the year (`ls` has about the same).
const RECENT: i64 = 180 * SECONDS_PER_DAY;

const MONTHS: [&[u8; 3]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

/// The days of a week from that of the epoch on.
const WEEKDAYS: [&[u8; 3]; 7] = [b"Thu", b"Fri", b"Sat", b"Sun", b"Mon", b"Tue", b"Wed"];

/// The civil time of `seconds` since the epoch. Times outside the years 1 to 9999 give the nearest one
/// inside.
pub fn civil(seconds: i64) -> Civil {
    let since_march = seconds.clamp(FIRST, LAST) + DAYS_BEFORE_EPOCH * SECONDS_PER_DAY;
    // From here on nothing is negative, and all but the seconds fits 32 bits: a division by a constant is
    // then one short multiplication. A listing does this for every line.
    let since_march = since_march.unsigned_abs();
    let days = word(since_march / SECONDS_PER_DAY.unsigned_abs());
    let of_day = word(since_march % SECONDS_PER_DAY.unsigned_abs());
    // Neri and Schneider, "Euclidean affine functions and their application to calendar algorithms", 2023:
    // quotient and remainder of one multiplication, instead of divisions that wait for each other.
    let quarters = 4 * days + 3;
    let (century, quarters) = (quarters / DAYS_PER_400_YEARS, (quarters % DAYS_PER_400_YEARS) | 3);
    let product = 2_939_745 * u64::from(quarters);
    let (year_of_century, rest) = (word(product >> 32), word(product & 0xFFFF_FFFF));
    let day_of_year = rest / (4 * 2_939_745);
    let product = 2_141 * day_of_year + 197_913;
    let (month, day) = (product >> 16, (product & 0xFFFF) / 2_141 + 1);
    // January and February, as months 13 and 14, end the year that began in March.
    let (year, month) = if month > 12 { (1, month - 12) } else { (0, month) };
    Civil {
        year: u16::try_from(100 * century + year_of_century + year).unwrap_or(u16::MAX),
        month: small(month),
        day: small(day),
        hour: small(of_day / 3_600),
        minute: small(of_day / 60 % 60),
        second: small(of_day % 60),
    }
}

fn word(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

fn small(value: u32) -> u8 {
    u8::try_from(value).unwrap_or(u8::MAX)
}

/// Seconds since the epoch, or `None` if the calendar or the clock has no such moment.
pub fn timestamp(civil: &Civil) -> Option<i64> {
    let valid = (1..=9999).contains(&civil.year)
        && (1..=days_in_month(civil.year, civil.month)).contains(&civil.day)
        && civil.hour < 24
        && civil.minute < 60
        && civil.second < 60;
    if !valid {
        return None;
    }
    let (month, day) = (i64::from(civil.month), i64::from(civil.day));
    let year = i64::from(civil.year) - i64::from(month <= 2);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let days = year * 365 + year / 4 - year / 100 + year / 400 + day_of_year - DAYS_BEFORE_EPOCH;
    let of_day = i64::from(civil.hour) * 3_600 + i64::from(civil.minute) * 60 + i64::from(civil.second);
    Some(days * SECONDS_PER_DAY + of_day)
}

/// 0 for a month that does not exist.
fn days_in_month(year: u16, month: u8) -> u8 {
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        _ => 0,
    }
}

/// `YYYYMMDDHHMMSS`, the time-val of RFC 3659 §2.3, for MDTM and the modify fact.
pub fn time_val(secs: i64) -> [u8; 14] {
    let at = civil(secs);
    let ([y1, y2, y3, y4], [m1, m2], [d1, d2]) = (four(at.year), two(at.month), two(at.day));
    let ([h1, h2], [n1, n2], [s1, s2]) = (two(at.hour), two(at.minute), two(at.second));
    [y1, y2, y3, y4, m1, m2, d1, d2, h1, h2, n1, n2, s1, s2]
}

/// Twelve columns: `Mmm dd HH:MM` if it is at most 180 days before `now` and not after it, else
/// `Mmm dd  YYYY`. Both times are seconds since the epoch.
pub fn listing_date(secs: i64, now: i64) -> [u8; 12] {
    let at = civil(secs);
    let month = MONTHS.get(usize::from(at.month).saturating_sub(1)).unwrap_or(&b"???");
    let ([m1, m2, m3], [d1, d2]) = (**month, two(at.day));
    let [t1, t2, t3, t4, t5] = if (0..=RECENT).contains(&now.saturating_sub(secs)) {
        let ([h1, h2], [n1, n2]) = (two(at.hour), two(at.minute));
        [h1, h2, b':', n1, n2]
    } else {
        let [y1, y2, y3, y4] = four(at.year);
        [b' ', y1, y2, y3, y4]
    };
    [m1, m2, m3, b' ', d1, d2, b' ', t1, t2, t3, t4, t5]
}

/// Appends `YYYY-MM-DDTHH:MM:SS.mmmZ` (RFC 3339) for the log. More than 999 milliseconds count as 999.
pub fn write_rfc3339(out: &mut Vec<u8>, secs: i64, millis: u32) {
    let at = civil(secs);
    let ([y1, y2, y3, y4], [m1, m2], [d1, d2]) = (four(at.year), two(at.month), two(at.day));
    out.extend_from_slice(&[y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2, b'T']);
    let ([h1, h2], [n1, n2], [s1, s2]) = (two(at.hour), two(at.minute), two(at.second));
    out.extend_from_slice(&[h1, h2, b':', n1, n2, b':', s1, s2, b'.']);
    let [_, f1, f2, f3] = four(u16::try_from(millis).unwrap_or(u16::MAX).min(999));
    out.extend_from_slice(&[f1, f2, f3, b'Z']);
}

/// Appends `Www Mmm dd hh:mm:ss YYYY` as C's `asctime` has it, the day with a space before it where it is of
/// one digit: the form of a transfer log.
pub fn write_asctime(out: &mut Vec<u8>, secs: i64) {
    let secs = secs.clamp(FIRST, LAST);
    let at = civil(secs);
    let weekday = usize::try_from(secs.div_euclid(SECONDS_PER_DAY).rem_euclid(7)).unwrap_or(0);
    let ([w1, w2, w3], month) = (**WEEKDAYS.get(weekday).unwrap_or(&b"???"), usize::from(at.month).saturating_sub(1));
    let ([m1, m2, m3], [d1, d2]) = (**MONTHS.get(month).unwrap_or(&b"???"), two(at.day));
    out.extend_from_slice(&[w1, w2, w3, b' ', m1, m2, m3, b' ', if d1 == b'0' { b' ' } else { d1 }, d2, b' ']);
    let ([h1, h2], [n1, n2], [s1, s2]) = (two(at.hour), two(at.minute), two(at.second));
    let [y1, y2, y3, y4] = four(at.year);
    out.extend_from_slice(&[h1, h2, b':', n1, n2, b':', s1, s2, b' ', y1, y2, y3, y4]);
}

/// The last two digits.
pub(super) fn two(value: u8) -> [u8; 2] {
    TWO_DIGITS[usize::from(value % 100)]
}

/// A look-up costs less than a division.
const TWO_DIGITS: [[u8; 2]; 100] = {
    let mut all = [[b'0'; 2]; 100];
    let mut value = 0;
    while value < 100 {
        all[value as usize] = [b'0' + value / 10, b'0' + value % 10];
        value += 1;
    }
    all
};

/// The last four digits.
fn four(value: u16) -> [u8; 4] {
    let [a, b] = two((value / 100 % 100) as u8);
    let [c, d] = two((value % 100) as u8);
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use jiff::civil::DateTime;
    use jiff::tz::TimeZone;
    use proptest::prelude::*;

    use super::*;

    fn written(write: impl Fn(&mut Vec<u8>)) -> String {
        let mut out = b"> ".to_vec();
        write(&mut out);
        String::from_utf8(out.split_off(2)).unwrap()
    }

    #[test]
    fn the_ends_of_time_hold() {
        let first = Civil { year: 1, month: 1, day: 1, hour: 0, minute: 0, second: 0 };
        let last = Civil { year: 9999, month: 12, day: 31, hour: 23, minute: 59, second: 59 };
        assert_eq!((civil(FIRST), civil(i64::MIN)), (first, first));
        assert_eq!((civil(LAST), civil(i64::MAX)), (last, last));
        assert_eq!((timestamp(&first), timestamp(&last)), (Some(FIRST), Some(LAST)));
    }

    /// All 3,652,059 of them: what is wrong with one day in a century is not found by chance.
    #[test]
    fn each_day_follows_the_one_before() {
        let (mut year, mut month, mut day) = (1, 1, 1);
        for midnight in (FIRST..=LAST).step_by(86_400) {
            let at = civil(midnight);
            assert_eq!((at.year, at.month, at.day), (year, month, day), "{midnight}");
            day += 1;
            if day > days_in_month(year, month) {
                (month, day) = (month + 1, 1);
            }
            if month > 12 {
                (year, month) = (year + 1, 1);
            }
        }
        assert_eq!((year, month, day), (10_000, 1, 1));
    }

    #[test]
    fn every_400th_year_has_a_leap_day_after_all() {
        let leap_day = |year| timestamp(&Civil { year, month: 2, day: 29, hour: 0, minute: 0, second: 0 });
        assert_eq!(leap_day(2000), Some(951_782_400));
        assert_eq!(leap_day(2024), Some(1_709_164_800));
        assert_eq!((leap_day(1900), leap_day(2023), leap_day(2100)), (None, None, None));
    }

    #[test]
    fn a_listing_has_the_time_for_180_days_and_else_the_year() {
        let now = 1_767_225_600; // 2026-01-01T00:00:00Z
        let date = |secs| String::from_utf8(listing_date(secs, now).to_vec()).unwrap();
        assert_eq!(date(now), "Jan 01 00:00");
        assert_eq!(date(now + 1), "Jan 01  2026");
        assert_eq!(date(now - 1), "Dec 31 23:59");
        assert_eq!(date(now - 180 * 86_400), "Jul 05 00:00");
        assert_eq!(date(now - 180 * 86_400 - 1), "Jul 04  2025");
        assert_eq!(date(i64::MIN), "Jan 01  0001");
        assert_eq!(date(i64::MAX), "Dec 31  9999");
    }

    #[test]
    fn times_are_written_as_the_rfcs_have_them() {
        let secs = 1_709_210_096;
        assert_eq!(String::from_utf8(time_val(secs).to_vec()).unwrap(), "20240229123456");
        assert_eq!(written(|out| write_rfc3339(out, secs, 7)), "2024-02-29T12:34:56.007Z");
        assert_eq!(written(|out| write_rfc3339(out, secs, 1_000)), "2024-02-29T12:34:56.999Z");
        assert_eq!(written(|out| write_asctime(out, 1_094_766_255)), "Thu Sep  9 21:44:15 2004");
    }

    fn jiff_of(seconds: i64) -> DateTime {
        TimeZone::UTC.to_datetime(Timestamp::from_second(seconds).unwrap())
    }

    proptest! {
        #[test]
        fn civil_agrees_with_jiff(seconds in FIRST..=Timestamp::MAX.as_second()) {
            let theirs = jiff_of(seconds);
            let ours = civil(seconds);
            prop_assert_eq!(i16::try_from(ours.year).unwrap(), theirs.year());
            prop_assert_eq!(i8::try_from(ours.month).unwrap(), theirs.month());
            prop_assert_eq!(i8::try_from(ours.day).unwrap(), theirs.day());
            prop_assert_eq!(i8::try_from(ours.hour).unwrap(), theirs.hour());
            prop_assert_eq!(i8::try_from(ours.minute).unwrap(), theirs.minute());
            prop_assert_eq!(i8::try_from(ours.second).unwrap(), theirs.second());
            prop_assert_eq!(timestamp(&ours), Some(seconds));
        }

        #[test]
        fn writers_agree_with_jiff(seconds in FIRST..=Timestamp::MAX.as_second(), age in -400i64..400) {
            let theirs = jiff_of(seconds);
            let time_val = String::from_utf8(time_val(seconds).to_vec()).unwrap();
            prop_assert_eq!(time_val, theirs.strftime("%Y%m%d%H%M%S").to_string());
            let log = written(|out| write_rfc3339(out, seconds, 42));
            prop_assert_eq!(log, theirs.strftime("%Y-%m-%dT%H:%M:%S.042Z").to_string());
            let transfer_log = written(|out| write_asctime(out, seconds));
            prop_assert_eq!(transfer_log, theirs.strftime("%a %b %e %H:%M:%S %Y").to_string());
            let format = if (0..=180).contains(&age) { "%b %d %H:%M" } else { "%b %d  %Y" };
            let date = String::from_utf8(listing_date(seconds, seconds + age * 86_400).to_vec()).unwrap();
            prop_assert_eq!(date, theirs.strftime(format).to_string());
        }

        #[test]
        fn only_real_moments_have_a_timestamp(
            year in prop_oneof![0u16..=10_000, 1995u16..2005],
            month in 0u8..=13,
            day in prop_oneof![0u8..=32, 27u8..=32],
            hour in 0u8..=24,
            minute in prop_oneof![0u8..=59, 0u8..=255],
            second in prop_oneof![0u8..=59, 0u8..=61],
        ) {
            let small = |value: u8| i8::try_from(value).unwrap_or(i8::MAX);
            let theirs = DateTime::new(
                i16::try_from(year).unwrap(),
                small(month),
                small(day),
                small(hour),
                small(minute),
                small(second),
                0,
            );
            let epoch = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);
            let expected = theirs
                .ok()
                .filter(|_| (1..=9999).contains(&year))
                .map(|moment| moment.duration_since(epoch).as_secs());
            let ours = timestamp(&Civil { year, month, day, hour, minute, second });
            prop_assert_eq!(ours, expected);
        }
    }
}
