//! Bytes in use below a root, and promises of more: a quota that holds while many sessions write at once.
//!
//! Bytes are reserved before they are written and counted as used from then on. Never looks at a file:
//! what is in use at start is told by a sweep.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes in use below one root, what is being written included. Shared by all sessions that write there.
#[derive(Debug, Default)]
pub struct Usage {
    bytes: AtomicU64,
}

impl Usage {
    /// As a sweep has found it, in bytes.
    #[must_use]
    pub fn new(used: u64) -> Self {
        Self { bytes: AtomicU64::new(used) }
    }

    /// Bytes in use or reserved now.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Reserves bytes for one upload, unless more than `limit` would then be in use; the limit holds for
    /// all that the reservation will grow to.
    #[must_use]
    pub fn reserve(self: &Arc<Self>, bytes: u64, limit: u64) -> Option<Reservation> {
        let mut reservation = Reservation { usage: Arc::clone(self), limit, held: 0 };
        reservation.grow(bytes).then_some(reservation)
    }

    /// Counts bytes as free again that were in use: a file was removed or replaced.
    pub fn freed(&self, bytes: u64) {
        self.change(|used| Some(used.saturating_sub(bytes)));
    }

    /// Whether `new` gave a number. No other memory hangs on the count, so no order is asked for.
    fn change(&self, new: impl FnMut(u64) -> Option<u64>) -> bool {
        self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, new).is_ok()
    }
}

/// Bytes that one upload may write. Dropped, it gives back all that was not spent.
#[derive(Debug)]
pub struct Reservation {
    usage: Arc<Usage>,
    limit: u64,
    held: u64,
}

impl Reservation {
    /// Bytes that are reserved and not yet spent.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.held
    }

    /// Reserves more bytes; false, and nothing is changed, where that would exceed the limit.
    #[must_use]
    pub fn grow(&mut self, bytes: u64) -> bool {
        let limit = self.limit;
        let grown = self.usage.change(|used| used.checked_add(bytes).filter(|used| *used <= limit));
        if grown {
            self.held += bytes;
        }
        grown
    }

    /// These bytes have been written to stay, and `freed` others are gone: the rest of the reservation is
    /// given back.
    pub fn spend(mut self, bytes: u64, freed: u64) {
        self.held -= bytes.min(self.held);
        self.usage.freed(freed);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.usage.freed(self.held);
    }
}
