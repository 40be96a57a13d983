//! Which slots are taken, by whom: the rows under the registry's one lock, and the caps that are checked
//! on them.

use crate::auth::UserId;
use crate::data::pulse::Tick;
use crate::limits::SHED_PENALTY;
use crate::proto::hostport::canonical;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// The caps of the flags; `None` is off.
#[derive(Debug, Clone, Copy)]
pub struct Caps {
    /// Sessions in all: workers and queue.
    pub slots: usize,
    /// Sessions that are served at once.
    pub workers: usize,
    /// Sessions from one address (IPv4) or one /64 (IPv6).
    pub per_address: Option<usize>,
    /// Sessions of one user.
    pub per_user: Option<usize>,
    /// Sessions that are not logged in.
    pub unauthenticated: Option<usize>,
}

/// Why a connection is not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Every slot is taken.
    Full,
    /// The address has as many sessions as are allowed.
    Address,
    /// Too many sessions are not logged in.
    Unauthenticated,
    /// The server is stopping.
    Stopping,
    /// Room is short, and a session of the address was shed a moment ago.
    Shed,
    /// The address is on the list of `--deny-file`.
    Denied,
}

impl Refusal {
    /// The reason in words, for what is written down.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Refusal::Full => "full",
            Refusal::Address => "too many from the address",
            Refusal::Unauthenticated => "too many not logged in",
            Refusal::Stopping => "stopping",
            Refusal::Shed => "shed a moment ago",
            Refusal::Denied => "denied",
        }
    }
}

/// Which slots are taken, by whom. Fixed size: as many rows as slots.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) free: Vec<usize>,
    pub(super) addresses: Box<[Option<AddressKey>]>,
    pub(super) users: Box<[Option<LoggedIn>]>,
    visits: u64,
    /// Addresses that were shed last, as many as there are slots, and when; the oldest is written over.
    sheds: Box<[Option<(AddressKey, Tick)>]>,
    next_shed: usize,
    pub(super) stopping: bool,
}

/// A session that is logged in: as whom, and which visit it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LoggedIn {
    pub(super) user: UserId,
    pub(super) visit: u64,
}

/// Newcomers for whom somebody else might have to go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TurnedAway {
    /// For want of a slot.
    pub no_slot: usize,
    /// Because too many are here that have not logged in.
    pub strangers: usize,
}

/// The same, while it is counted.
#[derive(Debug, Default)]
pub(super) struct TurnedAwayCounts {
    no_slot: AtomicUsize,
    strangers: AtomicUsize,
}

impl TurnedAwayCounts {
    pub(super) fn count(&self, refusal: Refusal) {
        let count = match refusal {
            Refusal::Full => &self.no_slot,
            Refusal::Unauthenticated => &self.strangers,
            Refusal::Address | Refusal::Shed | Refusal::Stopping | Refusal::Denied => return,
        };
        count.fetch_add(1, SeqCst);
    }

    pub(super) fn take(&self) -> TurnedAway {
        TurnedAway { no_slot: self.no_slot.swap(0, SeqCst), strangers: self.strangers.swap(0, SeqCst) }
    }
}

/// What counts as one address: an IPv4 address, however it is written, or an IPv6 /64, because one
/// host has a whole /64 to choose from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AddressKey(u128);

impl Table {
    /// A table of this many rows, all free.
    pub(super) fn new(slots: usize) -> Self {
        Table {
            free: (0..slots).rev().collect(),
            addresses: vec![None; slots].into_boxed_slice(),
            users: vec![None; slots].into_boxed_slice(),
            visits: 0,
            sheds: vec![None; slots].into_boxed_slice(),
            next_shed: 0,
            stopping: false,
        }
    }

    /// Sessions from the address of this row.
    pub(super) fn neighbours(&self, index: usize) -> usize {
        self.addresses.get(index).copied().flatten().map_or(0, |key| self.from(key))
    }

    fn from(&self, key: AddressKey) -> usize {
        self.addresses.iter().filter(|&&address| address == Some(key)).count()
    }

    pub(super) fn take(&mut self, key: AddressKey, caps: &Caps) -> Result<(usize, u64), Refusal> {
        if self.stopping {
            return Err(Refusal::Stopping);
        }
        if caps.per_address.is_some_and(|cap| self.from(key) >= cap) {
            return Err(Refusal::Address);
        }
        let taken = self.addresses.len() - self.free.len();
        if taken >= caps.workers && self.was_shed(key, Tick::now()) {
            return Err(Refusal::Shed);
        }
        if caps.unauthenticated.is_some_and(|cap| taken >= cap && taken - self.logged_in() >= cap) {
            return Err(Refusal::Unauthenticated);
        }
        let index = self.free.pop().ok_or(Refusal::Full)?;
        if let Some(row) = self.addresses.get_mut(index) {
            *row = Some(key);
        }
        self.visits += 1;
        Ok((index, self.visits))
    }

    pub(super) fn put(&mut self, index: usize) {
        if let Some(row) = self.addresses.get_mut(index) {
            *row = None;
            self.free.push(index);
        }
        if let Some(row) = self.users.get_mut(index) {
            *row = None;
        }
    }

    /// The session in the slot is shed: its address has to stand back for a moment.
    pub(super) fn shed(&mut self, index: usize, now: Tick) {
        let Some(Some(key)) = self.addresses.get(index).copied() else { return };
        if let Some(place) = self.sheds.get_mut(self.next_shed) {
            *place = Some((key, now));
        }
        self.next_shed = (self.next_shed + 1) % self.sheds.len().max(1);
    }

    fn was_shed(&self, key: AddressKey, now: Tick) -> bool {
        self.sheds.iter().flatten().any(|(shed, at)| *shed == key && at.age(now) < SHED_PENALTY)
    }

    fn logged_in(&self) -> usize {
        self.users.iter().filter(|user| user.is_some()).count()
    }

    /// Counts a login, unless its user has as many sessions as the cap allows: whether it did.
    pub(super) fn log_in(&mut self, index: usize, login: LoggedIn, cap: Option<usize>) -> bool {
        let sessions = || self.users.iter().flatten().filter(|other| other.user == login.user).count();
        if cap.is_some_and(|cap| sessions() >= cap) {
            return false;
        }
        if let Some(row) = self.users.get_mut(index) {
            *row = Some(login);
        }
        true
    }

    /// Ends the login of this visit, and of no other that may have the slot by now.
    pub(super) fn log_out(&mut self, index: usize, visit: u64) {
        if let Some(row) =
            self.users.get_mut(index).filter(|row| row.as_ref().is_some_and(|login| login.visit == visit))
        {
            *row = None;
        }
    }
}

impl AddressKey {
    pub(super) fn of(address: IpAddr) -> Self {
        match canonical(address) {
            IpAddr::V4(v4) => AddressKey(v4.to_ipv6_mapped().to_bits()),
            IpAddr::V6(v6) => AddressKey(v6.to_bits() & !u128::from(u64::MAX)),
        }
    }
}
