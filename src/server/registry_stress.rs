//! 64 threads at once on one registry: admission, login, drop, panic, marking, killing, shedding, audit.
//!
//! What is asserted while they run is what must hold at any moment, not what is likely.

use super::judge::Rules;
use super::queue::Queue;
use super::reaper::{Reaper, Stopping};
use super::registry::{Caps, Holder, Refusal, Registry, SessionGuard, Visit};
use super::shed::{self, Candidate};
use super::wake::Wake;
use crate::auth::UserId;
use crate::config::{Config, Invocation, from_arguments};
use crate::data::pulse::{Phase, Reason, Tick};
use crate::session::{CapReached, Seat};
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

const ADMITTERS: usize = 28;
const WORKERS: usize = 26;
const MARKERS: usize = 6;
const SHEDDERS: usize = 2;
const AUDITORS: usize = 2;
const _: () = assert!(ADMITTERS + WORKERS + MARKERS + SHEDDERS + AUDITORS == 64);

/// Connections that each admitter offers.
const OFFERS: usize = 1500;

/// Addresses they come from: fewer than slots, so that the cap of each is reached.
const ADDRESSES: u8 = 12;

const CAPS: Caps = Caps { slots: 32, workers: 32, per_address: Some(6), per_user: Some(16), unauthenticated: Some(18) };

/// For anything that has to happen; only a defect takes this long.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the threads themselves know. A count goes up after the registry has counted and down before the
/// registry may count back, so it is never more than the registry's, and that never more than the cap.
struct World {
    registry: Arc<Registry>,
    sessions: AtomicIsize,
    strangers: AtomicIsize,
    logins: AtomicIsize,
    by_address: Vec<AtomicIsize>,
    /// Whether somebody believes to own the slot.
    taken: Vec<AtomicBool>,
    admitted: AtomicU64,
    logged_in: AtomicU64,
    refused: [AtomicU64; 5],
    ended: AtomicU64,
    /// The visits that were told to be marked, and those that found themselves to be.
    marks: Mutex<HashMap<String, Reason>>,
    found: Mutex<Vec<(String, Reason)>>,
    /// The visits whose connections were told to be broken.
    kills: Mutex<HashSet<String>>,
    /// The admitters have done.
    done: AtomicBool,
}

/// A session on its way from the admitter to the worker.
struct Parcel {
    guard: SessionGuard,
    /// The client's end, which must see the end of the connection.
    client: UnixStream,
    address: usize,
    slot: usize,
    visit: Visit,
}

fn up(count: &AtomicIsize, cap: Option<usize>, what: &str) {
    let now = count.fetch_add(1, SeqCst) + 1;
    let cap = cap.map_or(isize::MAX, |cap| isize::try_from(cap).unwrap());
    assert!((1..=cap).contains(&now), "{now} {what}");
}

fn down(count: &AtomicIsize, what: &str) {
    let now = count.fetch_sub(1, SeqCst) - 1;
    assert!(now >= 0, "{now} {what}");
}

impl World {
    fn new() -> Self {
        World {
            registry: Arc::new(Registry::new(CAPS)),
            sessions: AtomicIsize::new(0),
            strangers: AtomicIsize::new(0),
            logins: AtomicIsize::new(0),
            by_address: (0..ADDRESSES).map(|_| AtomicIsize::new(0)).collect(),
            taken: (0..CAPS.slots).map(|_| AtomicBool::new(false)).collect(),
            admitted: AtomicU64::new(0),
            logged_in: AtomicU64::new(0),
            refused: Default::default(),
            ended: AtomicU64::new(0),
            marks: Mutex::default(),
            found: Mutex::default(),
            kills: Mutex::default(),
            done: AtomicBool::new(false),
        }
    }

    /// One connection: refused, dropped at once, or given on.
    fn offer(&self, random: &mut Random, queue: &Sender<Parcel>) {
        let address = random.below(ADDRESSES.into());
        let (client, stream) = UnixStream::pair().unwrap();
        let stream = TcpStream::from(OwnedFd::from(stream));
        let peer = SocketAddr::new(address_of(address, random), 4000);
        let guard = match self.registry.admit(stream, peer, Tick::now()) {
            Ok(guard) => guard,
            Err((stream, refusal)) => {
                self.registry.counters.refused(refusal);
                self.refused[refusal as usize].fetch_add(1, SeqCst);
                drop(stream);
                ended(client);
                thread::yield_now();
                return;
            }
        };
        self.admitted.fetch_add(1, SeqCst);
        up(&self.sessions, Some(CAPS.slots), "sessions");
        up(&self.strangers, CAPS.unauthenticated, "strangers");
        up(&self.by_address[address], CAPS.per_address, "sessions of one address");
        let slot = slot_of(&self.registry, &guard);
        assert!(!self.taken[slot].swap(true, SeqCst), "slot {slot} has two owners");
        let parcel = Parcel { visit: self.registry.visit(slot).expect("it is here"), guard, client, address, slot };
        if random.below(8) == 0 {
            return self.leave(parcel);
        }
        match queue.try_send(parcel) {
            Ok(()) => {}
            Err(TrySendError::Full(parcel)) => {
                if random.below(2) == 0 {
                    self.leave(parcel);
                } else {
                    assert!(queue.send_timeout(parcel, PATIENCE).is_ok(), "the workers have gone");
                }
            }
            Err(TrySendError::Disconnected(_)) => panic!("the workers have gone"),
        }
    }

    /// What a worker does with a session: it may log in, may panic, may wait to be marked, and leaves.
    fn serve(&self, parcel: Parcel, random: &mut Random) {
        let busy = self.registry.busy();
        let fate = random.below(8);
        let pulse = parcel.guard.pulse();
        pulse.enter(Phase::Login, Tick::now());
        let mut stranger = true;
        let login = match fate {
            0 => Err(CapReached),
            _ => {
                // From here on the registry may count it as logged in.
                down(&self.strangers, "strangers");
                stranger = false;
                parcel.guard.log_in(UserId::Anonymous, None)
            }
        };
        if login.is_ok() {
            self.logged_in.fetch_add(1, SeqCst);
            up(&self.logins, CAPS.per_user, "sessions of one user");
            pulse.enter(Phase::Command, Tick::now());
        }
        parcel.guard.transferring(Some(b"/some/file"));
        pulse.moved(1);
        if matches!(fate, 2 | 4) {
            // It does nothing until the reaper comes.
            let deadline = Instant::now() + PATIENCE;
            while pulse.mark().is_none() {
                assert!(Instant::now() < deadline, "it is never marked");
                thread::yield_now();
            }
        }
        parcel.guard.transferring(None);
        let panics = fate == 3;
        let has_login = login.is_ok();
        // As in a session that panics: the login goes while the stack unwinds, the guard after it.
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            if has_login {
                down(&self.logins, "logins");
            }
            let _login = login;
            if panics {
                resume_unwind(Box::new(()));
            }
        }));
        assert_eq!(outcome.is_err(), panics);
        let told = self.registry.describe(parcel.slot, Tick::now()).expect("it is here");
        assert!(told.contains("not logged in"), "the login is kept: {told}");
        if stranger {
            down(&self.strangers, "strangers");
        }
        self.vacate(parcel);
        drop(busy);
    }

    fn leave(&self, parcel: Parcel) {
        down(&self.strangers, "strangers");
        self.vacate(parcel);
    }

    fn vacate(&self, parcel: Parcel) {
        let Parcel { guard, mut client, address, slot, visit } = parcel;
        assert_eq!(self.registry.visit(slot), Some(visit), "somebody else is in the slot");
        if let Some(reason) = guard.pulse().mark() {
            self.found.lock().unwrap().push((key(visit), reason));
        }
        client.set_nonblocking(true).unwrap();
        if client.read(&mut [0]).is_ok() {
            assert!(self.kills.lock().unwrap().contains(&key(visit)), "{visit:?} was broken for another");
        }
        client.set_nonblocking(false).unwrap();
        down(&self.by_address[address], "sessions of one address");
        down(&self.sessions, "sessions");
        assert!(self.taken[slot].swap(false, SeqCst), "slot {slot} had no owner");
        drop(guard);
        self.ended.fetch_add(1, SeqCst);
        ended(client);
    }

    /// Marks, with verdicts that are old by the time they are carried out.
    fn mark(&self, random: &mut Random) {
        let seen: Vec<(usize, Visit)> =
            (0..CAPS.slots).filter_map(|slot| Some((slot, self.registry.visit(slot)?))).collect();
        for _ in 0..random.below(4) {
            thread::yield_now();
        }
        for (slot, visit) in seen {
            match random.below(8) {
                0..=2 => self.carry_out(slot, visit, [Reason::Idle, Reason::Stalled][random.below(2)]),
                3 => {
                    self.kills.lock().unwrap().insert(key(visit));
                    self.registry.kill(slot, visit);
                }
                _ => {}
            }
        }
    }

    fn carry_out(&self, slot: usize, visit: Visit, reason: Reason) {
        if self.registry.mark(slot, visit, reason) {
            let before = self.marks.lock().unwrap().insert(key(visit), reason);
            assert_eq!(before, None, "{visit:?} was marked twice, so the first mark was lost");
        }
    }

    /// Chooses as the reaper does, and ends who was chosen.
    fn shed(&self, holders: &mut Vec<Holder>) {
        self.registry.holders(holders);
        let mut candidates: Vec<Candidate> = holders
            .iter()
            .filter_map(|holder| {
                let visit = self.registry.visit(holder.index)?;
                let view = self.registry.view(holder.index)?;
                let zero = Duration::ZERO;
                let (class, idle) = shed::class(view.pulse.phase().0, holder.logged_in, zero, zero, zero)?;
                Some(Candidate {
                    index: holder.index,
                    visit,
                    class,
                    idle,
                    address: holder.address,
                    held: holders.iter().filter(|h| h.address == holder.address).count(),
                })
            })
            .collect();
        for _ in 0..self.registry.take_turned_away().no_slot.min(4) {
            if let Some(chosen) = shed::next(&mut candidates) {
                self.carry_out(chosen.index, chosen.visit, Reason::Shed);
            }
        }
    }

    /// What the registry says of itself, in one look.
    fn audit(&self, holders: &mut Vec<Holder>, queued: usize) {
        self.registry.holders(holders);
        assert!(holders.len() <= CAPS.slots);
        let slots: HashSet<usize> = holders.iter().map(|holder| holder.index).collect();
        assert_eq!(slots.len(), holders.len());
        for holder in &*holders {
            let held = holders.iter().filter(|h| h.address == holder.address).count();
            assert!(Some(held) <= CAPS.per_address, "{held} of one address");
        }
        let logged_in = holders.iter().filter(|holder| holder.logged_in).count();
        assert!(Some(logged_in) <= CAPS.per_user, "{logged_in} of one user");
        let audit = self.registry.audit(queued);
        assert!(audit.sessions <= CAPS.slots && audit.busy <= WORKERS, "{audit}");
        // A reaper may hold a socket for a moment after its session, and each has one at most.
        let most = CAPS.slots + MARKERS + SHEDDERS + 1;
        assert!(audit.sockets <= most, "{audit}");
        for slot in 0..CAPS.slots {
            let _ = self.registry.describe(slot, Tick::now());
        }
    }
}

/// A visit by its number.
fn key(visit: Visit) -> String {
    format!("{visit:?}")
}

/// The slot of a session, which only the registry knows, by its pulse.
fn slot_of(registry: &Registry, guard: &SessionGuard) -> usize {
    let found = registry.views().find(|view| std::ptr::eq(view.pulse, guard.pulse()));
    found.expect("a session has a slot").index
}

/// The client must see the end of its connection.
fn ended(mut client: UnixStream) {
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(client.read(&mut [0]).unwrap(), 0, "the control connection is open");
}

/// One of the addresses, in one of the forms in which it counts as the same.
fn address_of(number: usize, random: &mut Random) -> IpAddr {
    let low = u8::try_from(number).unwrap();
    let v4 = Ipv4Addr::new(10, 0, 0, low);
    match (low % 2, random.below(2)) {
        (0, 0) => v4.into(),
        (0, _) => v4.to_ipv6_mapped().into(),
        (_, host) => Ipv6Addr::new(0x2001, 0xdb8, 0, low.into(), 0, 0, 0, u16::try_from(host).unwrap()).into(),
    }
}

/// xorshift: a different but repeatable course for each thread.
struct Random(u64);

impl Random {
    fn new(thread: usize) -> Self {
        Random(0x9E37_79B9_7F4A_7C15 ^ (thread as u64 + 1).wrapping_mul(0x2545_F491_4F6C_DD1D))
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % bound
    }
}

fn config() -> Config {
    let flags = ["serve", "/", "--idle-timeout", "100ms", "--login-timeout", "100ms", "--shed-after", "100ms"];
    match from_arguments(flags.map(Into::into)) {
        Ok(Invocation::Serve(config)) => config,
        other => panic!("{other:?}"),
    }
}

/// The server's own reaper, which takes its time.
fn real_reaper(registry: &Arc<Registry>) -> (thread::JoinHandle<()>, Arc<Stopping>) {
    let stopping = Arc::new(Stopping::default());
    let queue = Arc::new(Queue::new(1, 0));
    let wake = Arc::new(Wake::new().unwrap());
    let reaper = Reaper::new(Arc::clone(registry), Rules::new(&config()), Arc::clone(&stopping), wake, queue);
    (thread::spawn(move || reaper.run()), stopping)
}

fn serve_all(world: &World, queue: &Receiver<Parcel>, number: usize) {
    let mut random = Random::new(number);
    for parcel in queue {
        world.serve(parcel, &mut random);
    }
}

#[test]
fn counts_hold_while_64_threads_come_go_mark_and_shed() {
    let world = World::new();
    let registry = Arc::clone(&world.registry);
    let (sender, receiver) = bounded::<Parcel>(CAPS.slots - WORKERS);
    thread::scope(|scope| {
        let world = &world;
        let running = || !world.done.load(SeqCst);
        let mut number = 0;
        let mut next = || {
            number += 1;
            Random::new(number)
        };
        for number in 0..WORKERS {
            let receiver = receiver.clone();
            scope.spawn(move || serve_all(world, &receiver, 100 + number));
        }
        for _ in 0..MARKERS {
            let mut random = next();
            scope.spawn(move || {
                while running() {
                    world.mark(&mut random);
                }
            });
        }
        for _ in 0..SHEDDERS {
            scope.spawn(move || {
                let mut holders = Vec::new();
                while running() {
                    world.shed(&mut holders);
                    thread::yield_now();
                }
            });
        }
        for _ in 0..AUDITORS {
            let queued = receiver.clone();
            scope.spawn(move || {
                let mut holders = Vec::new();
                while running() {
                    world.audit(&mut holders, queued.len());
                    thread::yield_now();
                }
            });
        }
        let admitters: Vec<_> = (0..ADMITTERS)
            .map(|_| {
                let (mut random, sender) = (next(), sender.clone());
                scope.spawn(move || (0..OFFERS).for_each(|_| world.offer(&mut random, &sender)))
            })
            .collect();
        // Whatever fails must end the others too, or the test would hang instead of failing.
        let failed = admitters.into_iter().filter_map(|admitter| admitter.join().err()).count();
        drop(sender);
        let empty = registry.wait_until_empty(Instant::now() + PATIENCE);
        world.done.store(true, SeqCst);
        assert!(empty && failed == 0, "{failed} admitters failed; {}", registry.audit(0));
    });
    at_rest(&world);
    full_again(&registry);
    stopped(&registry);
}

/// All is as it was before the first came, and what was counted is what happened.
fn at_rest(world: &World) {
    let registry = &world.registry;
    assert!(registry.is_empty());
    let audit = registry.audit(0);
    assert_eq!((audit.sessions, audit.busy, audit.sockets), (0, 0, 0), "{audit}");
    let mut holders = Vec::new();
    registry.holders(&mut holders);
    assert!(holders.is_empty());
    for view in registry.views() {
        assert_eq!(registry.visit(view.index), None);
        assert_eq!((view.pulse.phase().0, view.pulse.mark()), (Phase::Vacant, None));
    }
    for count in [&world.sessions, &world.strangers, &world.logins].into_iter().chain(&world.by_address) {
        assert_eq!(count.load(SeqCst), 0);
    }
    assert!(world.taken.iter().all(|taken| !taken.load(SeqCst)));

    let [full, address, strangers, stopping, shed] = [0, 1, 2, 3, 4].map(|n: usize| world.refused[n].load(SeqCst));
    let (admitted, ended) = (world.admitted.load(SeqCst), world.ended.load(SeqCst));
    assert_eq!(admitted, ended);
    assert_eq!(admitted + full + address + strangers + shed, (ADMITTERS * OFFERS) as u64);
    assert_eq!(stopping, 0);
    let text = registry.counters.to_string();
    let logins = world.logged_in.load(SeqCst);
    for part in [
        format!("admitted {admitted}, logins {logins},"),
        format!("refused (full) {full}, refused (address) {address}, refused (not logged in) {strangers},"),
    ] {
        assert!(text.contains(&part), "{part} in {text}");
    }

    let marks = world.marks.lock().unwrap();
    let found = world.found.lock().unwrap();
    for (visit, reason) in &*found {
        assert_eq!(marks.get(visit), Some(reason), "{visit} met a mark that was not meant for it");
    }
    // A test in which nothing met would prove nothing.
    println!("{} marks met; {text}", found.len());
    assert!(found.len() > 100 && address > 0 && strangers > 0 && logins > 100, "{} marks met; {text}", found.len());
}

/// No slot was lost, and none is there twice.
fn full_again(registry: &Arc<Registry>) {
    let mut guards = Vec::new();
    let mut slots = HashSet::new();
    for number in 0..CAPS.slots {
        let (_, stream) = UnixStream::pair().unwrap();
        let octet = u8::try_from(number).unwrap();
        let peer = SocketAddr::from(([10, 1, octet, 1], 4000));
        let guard = registry.admit(TcpStream::from(OwnedFd::from(stream)), peer, Tick::NEVER).unwrap();
        assert_eq!(guard.pulse().mark(), None, "a mark is left");
        assert!(slots.insert(slot_of(registry, &guard)));
        // As many as may be of one user; the others are few enough not to be too many strangers.
        let login = (number < CAPS.slots / 2).then(|| guard.log_in(UserId::Anonymous, None).unwrap());
        guards.push((login, guard));
    }
    let (_, stream) = UnixStream::pair().unwrap();
    let refused = registry.admit(TcpStream::from(OwnedFd::from(stream)), ([10, 2, 0, 1], 1).into(), Tick::NEVER);
    assert!(matches!(refused, Err((_, Refusal::Full))));
    drop(guards);
    assert!(registry.is_empty());
}

/// The real reaper ends those who are left once the server stops, and then leaves itself.
fn stopped(registry: &Arc<Registry>) {
    let (_client, stream) = UnixStream::pair().unwrap();
    let peer = SocketAddr::from(([10, 3, 0, 1], 4000));
    let guard = registry.admit(TcpStream::from(OwnedFd::from(stream)), peer, Tick::NEVER).unwrap();
    let (reaper, stopping) = real_reaper(registry);
    registry.stop();
    stopping.begin();
    let deadline = Instant::now() + PATIENCE;
    while guard.pulse().mark() != Some(Reason::Shutdown) {
        assert!(Instant::now() < deadline, "it is not told to leave");
        thread::yield_now();
    }
    drop(guard);
    reaper.join().unwrap();
    let (_, stream) = UnixStream::pair().unwrap();
    let refused = registry.admit(TcpStream::from(OwnedFd::from(stream)), peer, Tick::NEVER);
    assert!(matches!(refused, Err((_, Refusal::Stopping))));
}
