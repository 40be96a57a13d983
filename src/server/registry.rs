//! Who is here: fixed slots, given out by [`Registry::admit`] and given back by the drop of a guard,
//! and by nothing else.
//!
//! Counts by address and by user are not kept: they are counted, over the slots, when a cap has to be
//! checked. What is not kept can't drift.

pub use super::audit::{Audit, BusyGuard};
use super::counters::Counters;
pub use super::slot::Visit;
use super::slot::{ControlSocket, Occupant, Slot};
use super::table::TurnedAwayCounts;
pub use super::table::{AddressKey, Caps, Refusal, TurnedAway};
use super::table::{LoggedIn, Table};
use crate::auth::UserId;
use crate::data::pulse::{Phase, Pulse, Reason, Tick};
use crate::proto::hostport::canonical_socket;
use crate::session::{CapReached, Ends, Seat};
use parking_lot::{Condvar, Mutex};
use socket2::SockRef;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// All session slots.
#[derive(Debug)]
pub struct Registry {
    caps: Caps,
    slots: Box<[Slot]>,
    table: Mutex<Table>,
    changed: Condvar,
    /// Newcomers who were turned away since the reaper last asked.
    turned_away: TurnedAwayCounts,
    busy: AtomicUsize,
    sockets: Arc<AtomicUsize>,
    /// What has happened so far.
    pub counters: Counters,
}

/// Who holds one slot.
#[derive(Debug, Clone, Copy)]
pub struct Holder {
    /// The slot.
    pub index: usize,
    /// The address that counts.
    pub address: AddressKey,
    /// Whether the session is logged in.
    pub logged_in: bool,
}

/// A session's place: the only owner of its slot and of its control connection. Whatever way it is
/// dropped, by a panic too, the socket is closed and every count is given back.
#[derive(Debug)]
pub struct SessionGuard {
    registry: Arc<Registry>,
    index: usize,
    visit: u64,
    socket: Option<Arc<ControlSocket>>,
    ends: Ends,
    greeted: bool,
}

/// A login: counts for the user as long as it lives, but no longer than its session has the slot.
#[derive(Debug)]
pub struct LoginGuard {
    registry: Arc<Registry>,
    index: usize,
    visit: u64,
}

/// What the reaper sees of one slot.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The number of the slot.
    pub index: usize,
    /// Its pulse.
    pub pulse: &'a Pulse,
}

impl Registry {
    /// Makes room for as many sessions as the caps allow, once and for all.
    #[must_use]
    pub fn new(caps: Caps) -> Self {
        Registry {
            caps,
            slots: (0..caps.slots).map(|_| Slot::default()).collect(),
            table: Mutex::new(Table::new(caps.slots)),
            changed: Condvar::new(),
            turned_away: Default::default(),
            busy: AtomicUsize::new(0),
            sockets: Arc::default(),
            counters: Counters::default(),
        }
    }

    /// Admits a connection, or gives it back with the reason why not. `until` is when it has to have a
    /// worker.
    ///
    /// # Errors
    /// The [`Refusal`], with the stream to say it over.
    pub fn admit(
        self: &Arc<Self>,
        stream: TcpStream,
        peer: SocketAddr,
        until: Tick,
    ) -> Result<SessionGuard, (TcpStream, Refusal)> {
        let peer = canonical_socket(peer);
        let (index, number) = match self.table.lock().take(AddressKey::of(peer.ip()), &self.caps) {
            Ok(taken) => taken,
            Err(refusal) => {
                self.turned_away.count(refusal);
                return Err((stream, refusal));
            }
        };
        let visit = Visit { number, admitted: Tick::now() };
        let socket = Arc::new(ControlSocket::new(stream, &self.sockets));
        if let Some(slot) = self.slots.get(index) {
            slot.pulse.reset(Phase::Queued, until);
            *slot.occupant.lock() = Some(Occupant { socket: Arc::clone(&socket), peer, visit });
        }
        self.counters.admitted();
        self.changed.notify_all();
        Ok(SessionGuard {
            registry: Arc::clone(self),
            index,
            visit: number,
            socket: Some(socket),
            ends: Ends { peer, admitted: visit.admitted },
            greeted: false,
        })
    }

    /// No connection is admitted from now on.
    pub fn stop(&self) {
        self.table.lock().stopping = true;
        self.changed.notify_all();
    }

    /// Whether [`Registry::stop`] was called.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.table.lock().stopping
    }

    /// Sessions that hold a slot.
    #[must_use]
    pub fn len(&self) -> usize {
        self.caps.slots - self.table.lock().free.len()
    }

    /// Whether nobody is here.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits until somebody is here, or until `stop`.
    pub fn wait_for_somebody(&self, time: Duration) {
        let mut table = self.table.lock();
        if table.free.len() == self.caps.slots && !table.stopping {
            self.changed.wait_for(&mut table, time);
        }
    }

    /// Waits until nobody is here; `false` if that took longer than until `deadline`.
    #[must_use]
    pub fn wait_until_empty(&self, deadline: Instant) -> bool {
        let mut table = self.table.lock();
        while table.free.len() < self.caps.slots {
            if self.changed.wait_until(&mut table, deadline).timed_out() {
                return table.free.len() == self.caps.slots;
            }
        }
        true
    }

    /// Every slot, for the reaper.
    pub fn views(&self) -> impl Iterator<Item = View<'_>> {
        self.slots.iter().enumerate().map(|(index, slot)| View { index, pulse: &slot.pulse })
    }

    /// One slot.
    #[must_use]
    pub fn view(&self, index: usize) -> Option<View<'_>> {
        self.slots.get(index).map(|slot| View { index, pulse: &slot.pulse })
    }

    /// Newcomers who were turned away since this was last asked.
    pub fn take_turned_away(&self) -> TurnedAway {
        self.turned_away.take()
    }

    /// Counts a worker that serves a session.
    #[must_use]
    pub fn busy(&self) -> BusyGuard<'_> {
        BusyGuard::new(&self.busy)
    }

    /// What is counted independently of each other.
    #[must_use]
    pub fn audit(&self, queued: usize) -> Audit {
        Audit { sessions: self.len(), busy: self.busy.load(SeqCst), queued, sockets: self.sockets.load(SeqCst) }
    }

    /// Puts everybody who holds a slot into `holders`.
    pub fn holders(&self, holders: &mut Vec<Holder>) {
        let table = self.table.lock();
        let rows = table.addresses.iter().zip(&table.users).enumerate();
        holders.clear();
        holders.extend(rows.filter_map(|(index, (address, user))| {
            Some(Holder { index, address: (*address)?, logged_in: user.is_some() })
        }));
    }

    /// One line about the session in the slot: peer, age, phase, bytes, and what it transfers.
    #[must_use]
    pub fn describe(&self, index: usize, now: Tick) -> Option<String> {
        let user = match self.table.lock().users.get(index)? {
            Some(login) => login.user.clone(),
            None => return self.slots.get(index)?.describe("not logged in", now),
        };
        self.slots.get(index)?.describe(user.name(), now)
    }

    /// The address and port of the client in the slot.
    #[must_use]
    pub fn peer(&self, index: usize) -> Option<SocketAddr> {
        Some(self.slots.get(index)?.occupant.lock().as_ref()?.peer)
    }

    /// Who is in the slot, if somebody is.
    #[must_use]
    pub fn visit(&self, index: usize) -> Option<Visit> {
        Some(self.slots.get(index)?.occupant.lock().as_ref()?.visit)
    }

    /// Marks the session of this visit, if it is still there, and closes the reading
    /// side of its control connection: its worker wakes, sees the mark, says 421 and leaves.
    pub fn mark(&self, index: usize, visit: Visit, reason: Reason) -> bool {
        let Some(slot) = self.slots.get(index) else {
            return false;
        };
        let socket = {
            let occupant = slot.occupant.lock();
            let Some(occupant) = occupant.as_ref().filter(|o| o.visit == visit) else {
                return false;
            };
            if !slot.pulse.set_mark(reason) {
                return false;
            }
            Arc::clone(&occupant.socket)
        };
        if reason == Reason::Shed {
            self.table.lock().shed(index, Tick::now());
        }
        // It fails only where the connection is gone already, which the worker hears of by itself.
        let _ = socket.stream.shutdown(Shutdown::Read);
        true
    }

    /// Breaks the control connection of a marked session whose worker could not leave: its client reads
    /// nothing. Closing it will send RST and free what was not sent.
    pub fn kill(&self, index: usize, visit: Visit) {
        let Some(slot) = self.slots.get(index) else { return };
        let occupant = slot.occupant.lock().clone();
        if let Some(occupant) = occupant.filter(|o| o.visit == visit) {
            let _ = SockRef::from(&occupant.socket.stream).set_linger(Some(Duration::ZERO));
            let _ = occupant.socket.stream.shutdown(Shutdown::Both);
        }
    }

    fn give_back(&self, index: usize) {
        if let Some(slot) = self.slots.get(index) {
            *slot.occupant.lock() = None;
            slot.note.lock().keep(b"");
            slot.pulse.reset(Phase::Vacant, Tick::NEVER);
        }
        self.table.lock().put(index);
        self.changed.notify_all();
    }
}

impl SessionGuard {
    /// The control connection; it is there until the guard is dropped.
    #[must_use]
    pub fn socket(&self) -> Option<&TcpStream> {
        self.socket.as_deref().map(|socket| &socket.stream)
    }

    /// The greeting was sent.
    pub fn set_greeted(&mut self) {
        self.greeted = true;
    }

    /// The two ends of the control connection.
    #[must_use]
    pub fn ends(&self) -> Ends {
        self.ends
    }
}

impl Seat for SessionGuard {
    type Login = LoginGuard;

    fn pulse(&self) -> &Pulse {
        &self.registry.slots[self.index].pulse
    }

    fn is_greeted(&self) -> bool {
        self.greeted
    }

    fn neighbours(&self) -> usize {
        self.registry.table.lock().neighbours(self.index)
    }

    fn transferring(&self, path: Option<&[u8]>) {
        if let Some(slot) = self.registry.slots.get(self.index) {
            slot.note.lock().keep(path.unwrap_or_default());
        }
    }

    fn log_in(&self, user: UserId, cap: Option<usize>) -> Result<LoginGuard, CapReached> {
        let (registry, login) = (&self.registry, LoggedIn { user, visit: self.visit });
        if !registry.table.lock().log_in(self.index, login, cap.or(registry.caps.per_user)) {
            registry.counters.user_full();
            return Err(CapReached);
        }
        registry.counters.logged_in();
        Ok(LoginGuard { registry: Arc::clone(registry), index: self.index, visit: self.visit })
    }
}

impl Drop for SessionGuard {
    fn drop(&mut self) {
        // The reaper's handle first, then the socket, then the slot: the slot is free only when the
        // descriptor is closed, or will be as soon as the reaper returns from shutting it down.
        if let Some(slot) = self.registry.slots.get(self.index) {
            *slot.occupant.lock() = None;
        }
        drop(self.socket.take());
        self.registry.give_back(self.index);
    }
}

impl Drop for LoginGuard {
    fn drop(&mut self) {
        self.registry.table.lock().log_out(self.index, self.visit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, TcpListener};

    const OPEN: Caps = Caps { slots: 4, workers: 4, per_address: None, per_user: None, unauthenticated: None };

    fn stream() -> TcpStream {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        TcpStream::connect(listener.local_addr().unwrap()).unwrap()
    }

    fn peer(text: &str) -> SocketAddr {
        SocketAddr::new(text.parse().unwrap(), 4000)
    }

    fn admit(registry: &Arc<Registry>, from: &str) -> Result<SessionGuard, Refusal> {
        registry.admit(stream(), peer(from), Tick::NEVER).map_err(|(_, refusal)| refusal)
    }

    #[test]
    fn slots_are_given_until_there_are_none_and_come_back() {
        let registry = Arc::new(Registry::new(OPEN));
        let mut guards: Vec<_> = (0..4).map(|_| admit(&registry, "10.0.0.1").unwrap()).collect();
        assert_eq!(registry.len(), 4);
        assert_eq!(admit(&registry, "10.0.0.2").unwrap_err(), Refusal::Full);
        guards.pop();
        assert_eq!(registry.len(), 3);
        assert!(admit(&registry, "10.0.0.2").is_ok());
        drop(guards);
        assert!(registry.is_empty());
    }

    #[test]
    fn one_address_is_one_however_it_is_written() {
        let registry = Arc::new(Registry::new(Caps { per_address: Some(1), ..OPEN }));
        let v4 = admit(&registry, "10.0.0.1").unwrap();
        assert_eq!(admit(&registry, "::ffff:10.0.0.1").unwrap_err(), Refusal::Address);
        let _v6 = admit(&registry, "2001:db8::1").unwrap();
        assert_eq!(admit(&registry, "2001:db8::2:ffff:1").unwrap_err(), Refusal::Address);
        let _other = admit(&registry, "2001:db8:0:1::1").unwrap();
        drop(v4);
        assert!(admit(&registry, "10.0.0.1").is_ok());
    }

    #[test]
    fn those_who_are_not_logged_in_have_a_cap() {
        let registry = Arc::new(Registry::new(Caps { unauthenticated: Some(2), ..OPEN }));
        let first = admit(&registry, "10.0.0.1").unwrap();
        let _second = admit(&registry, "10.0.0.2").unwrap();
        assert_eq!(admit(&registry, "10.0.0.3").unwrap_err(), Refusal::Unauthenticated);
        let login = first.log_in(UserId::Anonymous, None).unwrap();
        let third = admit(&registry, "10.0.0.3").unwrap();
        drop(third);
        drop(login);
        assert_eq!(admit(&registry, "10.0.0.3").unwrap_err(), Refusal::Unauthenticated);
    }

    #[test]
    fn a_user_has_a_cap_and_every_way_out_gives_the_count_back() {
        let registry = Arc::new(Registry::new(Caps { per_user: Some(1), ..OPEN }));
        let first = admit(&registry, "10.0.0.1").unwrap();
        let second = admit(&registry, "10.0.0.1").unwrap();
        let login = first.log_in(UserId::Anonymous, None).unwrap();
        assert!(second.log_in(UserId::Anonymous, None).is_err());
        drop(login);
        let panicked = std::thread::spawn(move || {
            let _login = second.log_in(UserId::Anonymous, None).unwrap();
            panic!("on purpose");
        });
        assert!(panicked.join().is_err());
        assert!(first.log_in(UserId::Anonymous, None).is_ok());
        assert_eq!(registry.len(), 1);
    }

    #[test]
    fn a_session_knows_how_many_come_from_its_address() {
        let registry = Arc::new(Registry::new(OPEN));
        let first = admit(&registry, "10.0.0.1").unwrap();
        let _stranger = admit(&registry, "10.0.0.2").unwrap();
        let second = admit(&registry, "::ffff:10.0.0.1").unwrap();
        assert_eq!((first.neighbours(), second.neighbours()), (2, 2));
        drop(second);
        assert_eq!(first.neighbours(), 1);
    }

    #[test]
    fn a_login_that_is_dropped_late_does_not_log_out_the_next_in_its_slot() {
        let registry = Arc::new(Registry::new(Caps { slots: 1, per_user: Some(1), ..OPEN }));
        let logged_in = || {
            let mut holders = Vec::new();
            registry.holders(&mut holders);
            holders.iter().filter(|holder| holder.logged_in).count()
        };
        let first = admit(&registry, "10.0.0.1").unwrap();
        let late = first.log_in(UserId::Anonymous, None).unwrap();
        drop(first);
        let next = admit(&registry, "10.0.0.2").unwrap();
        assert_eq!(logged_in(), 0, "a login ends with its session");
        let login = next.log_in(UserId::Anonymous, None).unwrap();
        drop(late);
        assert_eq!(logged_in(), 1);
        drop(login);
        assert_eq!(logged_in(), 0);
    }

    #[test]
    fn a_mark_meant_for_one_session_never_meets_the_next_in_its_slot() {
        let registry = Arc::new(Registry::new(Caps { slots: 1, ..OPEN }));
        let first = admit(&registry, "10.0.0.1").unwrap();
        let visit = registry.visit(0).unwrap();
        assert!(registry.mark(0, visit, Reason::Idle));
        assert!(!registry.mark(0, visit, Reason::Stalled), "the first reason stays");
        assert_eq!(first.pulse().mark(), Some(Reason::Idle));
        drop(first);
        assert!(registry.visit(0).is_none());
        let next = admit(&registry, "10.0.0.1").unwrap();
        assert!(!registry.mark(0, visit, Reason::Idle));
        assert_eq!(next.pulse().mark(), None);
    }

    #[test]
    fn the_descriptor_is_closed_before_the_slot_is_free() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let registry = Arc::new(Registry::new(OPEN));
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, from) = listener.accept().unwrap();
        let guard = registry.admit(stream, from, Tick::NEVER).unwrap();
        drop(guard);
        let mut byte = [0];
        assert_eq!(std::io::Read::read(&mut &client, &mut byte).unwrap(), 0, "the client sees the end");
        assert!(registry.wait_until_empty(Instant::now()));
    }

    #[test]
    fn an_address_that_was_shed_stands_back_while_room_is_short_and_only_then() {
        let registry = Arc::new(Registry::new(Caps { workers: 2, ..OPEN }));
        let first = admit(&registry, "10.0.0.1").unwrap();
        let _second = admit(&registry, "10.0.0.2").unwrap();
        assert!(registry.mark(0, registry.visit(0).unwrap(), Reason::Shed));
        assert_eq!(admit(&registry, "10.0.0.1").unwrap_err(), Refusal::Shed);
        let third = admit(&registry, "10.0.0.3").unwrap();
        drop((first, third));
        assert!(admit(&registry, "10.0.0.1").is_ok(), "a worker is free");
    }

    #[test]
    fn nobody_is_admitted_after_stop() {
        let registry = Arc::new(Registry::new(OPEN));
        registry.stop();
        assert_eq!(admit(&registry, "10.0.0.1").unwrap_err(), Refusal::Stopping);
    }
}
