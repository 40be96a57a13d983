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
