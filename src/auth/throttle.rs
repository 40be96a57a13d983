//! Failed logins are slowed for each address prefix, IPv4 /32 and IPv6 /64.
//!
//! Owns a table of fixed size, and nothing else: who has to wait is told so, and no thread waits for it. Never
//! forgets a prefix that has to wait; where it has no room to count a new one, that one has to wait too.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::limits::{THROTTLE_FORGET, THROTTLE_FREE, THROTTLE_WAIT};
use crate::proto::hostport::canonical;

/// Places among which one prefix can have its own. Which they are nobody outside can tell.
const WAYS: usize = 16;

/// The failures of address prefixes.
#[derive(Debug)]
pub struct Throttle {
    /// Rows of [`WAYS`] places, or one that is shorter.
    table: Mutex<Box<[Option<Entry>]>>,
    rows: usize,
    keys: RandomState,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    prefix: u128,
    failures: u32,
    last: Instant,
    blocked_until: Instant,
}

impl Throttle {
    /// A table of at least this many entries, at least one.
    #[must_use]
    pub fn new(entries: usize) -> Throttle {
        let rows = entries.div_ceil(WAYS).max(1);
        let places = if rows == 1 { entries.max(1) } else { rows * WAYS };
        Throttle { table: Mutex::new(vec![None; places].into_boxed_slice()), rows, keys: RandomState::new() }
    }

    /// Whether a password from this address may be checked now.
    #[must_use]
    pub fn may_try(&self, address: IpAddr, now: Instant) -> bool {
        let prefix = prefix(address);
        self.with_row(prefix, |row| match find(row, prefix) {
            Some(entry) => now >= entry.blocked_until,
            // What could not be counted is not tried.
            None => row.iter().any(|place| can_go(place, now)),
        })
    }

    /// Counts a failed login.
    ///
    /// There is no counterpart for one that succeeded: whoever has one account could otherwise guess at all
    /// the others without a pause. Who has merely mistyped is forgotten after [`THROTTLE_FORGET`].
    pub fn failed(&self, address: IpAddr, now: Instant) {
        let prefix = prefix(address);
        self.with_row(prefix, |row| {
            let known = find(row, prefix).filter(|entry| now.saturating_duration_since(entry.last) < THROTTLE_FORGET);
            let failures = known.map_or(0, |entry| entry.failures).saturating_add(1);
            let entry = Entry { prefix, failures, last: now, blocked_until: now + wait(failures) };
            let own = row.iter().position(|place| place.is_some_and(|entry| entry.prefix == prefix));
            // The place that is free, or that of which nothing was heard for the longest time.
            let oldest = |place: &Option<Entry>| place.map(|entry| entry.last);
            let index = own.or_else(|| {
                let places = row.iter().enumerate().filter(|(_, place)| can_go(place, now));
                places.min_by_key(|(_, place)| oldest(place)).map(|(index, _)| index)
            });
            if let Some(place) = index.and_then(|index| row.get_mut(index)) {
                *place = Some(entry);
            }
        });
    }

    fn with_row<T>(&self, prefix: u128, work: impl FnOnce(&mut [Option<Entry>]) -> T) -> T {
        let rows = u64::try_from(self.rows).unwrap_or(1);
        let row = usize::try_from(self.keys.hash_one(prefix) % rows).unwrap_or_default();
        let mut table = self.table.lock();
        work(table.chunks_mut(WAYS).nth(row).unwrap_or_default())
    }
}

fn find(row: &[Option<Entry>], prefix: u128) -> Option<Entry> {
    row.iter().flatten().find(|entry| entry.prefix == prefix).copied()
}

/// Whether a place may be given to another prefix.
fn can_go(place: &Option<Entry>, now: Instant) -> bool {
    place.is_none_or(|entry| now >= entry.blocked_until)
}

/// How long a prefix with this many failures waits after the last.
fn wait(failures: u32) -> Duration {
    let (first, longest) = THROTTLE_WAIT;
    match failures.checked_sub(THROTTLE_FREE + 1) {
        None => Duration::ZERO,
        Some(doublings) => first.saturating_mul(1_u32.checked_shl(doublings).unwrap_or(u32::MAX)).min(longest),
    }
}

/// The address of an IPv4 client, the /64 of an IPv6 client.
fn prefix(address: IpAddr) -> u128 {
    const IPV4: u128 = 0xffff << 32;
    match canonical(address) {
        IpAddr::V4(address) => IPV4 | u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address) >> 64 << 64,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;
    use crate::limits::THROTTLE_ENTRIES;

    fn v4(number: u32) -> IpAddr {
        Ipv4Addr::from(number).into()
    }

    fn fail(throttle: &Throttle, address: IpAddr, times: u32, now: Instant) {
        (0..times).for_each(|_| throttle.failed(address, now));
    }

    #[test]
    fn the_first_failures_cost_nothing_and_the_further_ones_double_the_wait() {
        let (throttle, start) = (Throttle::new(THROTTLE_ENTRIES), Instant::now());
        fail(&throttle, v4(1), THROTTLE_FREE, start);
        assert!(throttle.may_try(v4(1), start));
        let mut now = start;
        for seconds in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
            throttle.failed(v4(1), now);
            assert!(!throttle.may_try(v4(1), now + Duration::from_millis(seconds * 1000 - 1)), "{seconds}");
            now += Duration::from_secs(seconds);
            assert!(throttle.may_try(v4(1), now), "{seconds}");
            assert!(throttle.may_try(v4(2), now));
        }
        fail(&throttle, v4(3), 1_000, start);
        assert!(throttle.may_try(v4(3), start + THROTTLE_WAIT.1));
    }

    #[test]
    fn a_prefix_that_was_quiet_for_long_is_forgotten_and_no_sooner() {
        let (throttle, start) = (Throttle::new(THROTTLE_ENTRIES), Instant::now());
        fail(&throttle, v4(1), THROTTLE_FREE, start);
        let just_before = start + THROTTLE_FORGET - Duration::from_millis(1);
        throttle.failed(v4(1), just_before);
        assert!(!throttle.may_try(v4(1), just_before));
        let quiet = just_before + THROTTLE_FORGET;
        fail(&throttle, v4(1), THROTTLE_FREE, quiet);
        assert!(throttle.may_try(v4(1), quiet));
    }

    #[test]
    fn an_ipv6_client_is_its_64_and_an_ipv4_client_is_one_over_either_socket() {
        let (throttle, now) = (Throttle::new(THROTTLE_ENTRIES), Instant::now());
        let v6 = |text: &str| IpAddr::from(text.parse::<Ipv6Addr>().unwrap());
        for host in 0..u16::try_from(THROTTLE_FREE + 1).unwrap() {
            throttle.failed(Ipv6Addr::new(0x2001, 0xdb8, 0, 7, 0, 0, host, 1).into(), now);
        }
        assert!(!throttle.may_try(v6("2001:db8:0:7:ffff::9"), now));
        assert!(throttle.may_try(v6("2001:db8:0:8::9"), now));
        fail(&throttle, v6("::ffff:192.0.2.1"), THROTTLE_FREE + 1, now);
        assert!(!throttle.may_try(v6("::ffff:192.0.2.1").to_canonical(), now));
        assert!(throttle.may_try(v6("::"), now));
    }

    #[test]
    fn who_has_to_wait_is_not_pushed_out_and_the_least_recent_of_the_others_is() {
        let (throttle, start) = (Throttle::new(4), Instant::now());
        let (second, hour) = (Duration::from_secs(1), Duration::from_secs(3600));
        fail(&throttle, v4(0), 100, start);
        for number in 1..4 {
            fail(&throttle, v4(number), THROTTLE_FREE, start + second * number);
        }
        // The fifth takes the place of the first that does not wait; one more failure blocks each of the others.
        throttle.failed(v4(9), start + second * 5);
        for number in [2, 3] {
            throttle.failed(v4(number), start + second * 6);
            assert!(!throttle.may_try(v4(number), start + second * 6), "{number}");
        }
        throttle.failed(v4(1), start + second * 6);
        assert!(throttle.may_try(v4(1), start + second * 6));
        assert!(!throttle.may_try(v4(0), start + second * 6));
        assert!(throttle.may_try(v4(0), start + hour));
    }

    #[test]
    fn a_full_table_lets_no_newcomer_guess_until_somebody_has_waited() {
        let (throttle, start) = (Throttle::new(4), Instant::now());
        for number in 0..4 {
            fail(&throttle, v4(number), THROTTLE_FREE + 1 + number, start);
        }
        assert!(!throttle.may_try(v4(9), start));
        fail(&throttle, v4(9), 100, start);
        let first_is_free = start + THROTTLE_WAIT.0;
        assert!(throttle.may_try(v4(9), first_is_free));
        for number in 1..4 {
            assert!(!throttle.may_try(v4(number), first_is_free), "{number}");
        }
    }

    #[test]
    fn the_table_does_not_grow() {
        let (throttle, now) = (Throttle::new(THROTTLE_ENTRIES), Instant::now());
        (0..100_000).for_each(|number| throttle.failed(v4(number), now));
        assert_eq!(throttle.table.lock().len(), THROTTLE_ENTRIES);
        let many = Throttle::new(17);
        (0..1_000).for_each(|number| fail(&many, v4(number), 99, now));
        assert_eq!(many.table.lock().len(), 32);
    }
}
