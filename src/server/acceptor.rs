//! The acceptor: takes connections, has them admitted, greets those for whom a worker is free, and puts them
//! into the queue; or says at once why not. It never waits for a client, never spins and never stops before the
//! server does.

use super::queue::Queue;
use super::registry::{Refusal, Registry, SessionGuard};
use super::wake::Wake;
use crate::data::pulse::{Reason, Tick};
use crate::deny::DenyList;
use crate::journal::Event;
use crate::limits::{ACCEPT_BACKOFF, LISTEN_BACKLOG};
use crate::proto::hostport::canonical_socket;
use crate::proto::reply::Reply;
use crate::session::{Context, Seat, goodbye};
use crate::swap::Swap;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::Timespec;
use rustix::io::Errno;
use rustix::net::{SendFlags, SocketFlags, acceptfrom_with, send};
use socket2::Socket;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// At most this many lines about refusals or accept errors in a second; the rest is only counted.
const LOG_EVERY: Duration = Duration::from_secs(1);

/// The acceptor and what it owns.
#[derive(Debug)]
pub struct Acceptor {
    listeners: Vec<Socket>,
    door: Door,
    wake: Arc<Wake>,
    /// Kept so that a process without descriptors can still refuse somebody.
    spare: Option<OwnedFd>,
    /// What is being said.
    out: Vec<u8>,
    backoff: Duration,
    logged: Option<Instant>,
}

/// What those who come in need.
#[derive(Debug)]
pub struct Door {
    /// Who is here.
    pub registry: Arc<Registry>,
    /// Where they wait for a worker; it has room for every slot of the registry.
    pub queue: Arc<Queue<SessionGuard>>,
    /// Who is not let in.
    pub denied: Arc<Swap<DenyList>>,
    /// The queue timeout, and where it is written down who was turned away.
    pub context: Arc<Context>,
}

/// What to do about an error of accept(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Remedy {
    /// It was about one connection that is gone, or there is none: look around again.
    Next,
    /// Out of descriptors: refuse one with the spare descriptor, then pause.
    RefuseOne,
    /// Out of something else: pause.
    Pause,
}

impl Acceptor {
    /// An acceptor for these listeners, which must not block.
    ///
    /// # Errors
    /// No descriptor could be kept to spare.
    pub fn new(listeners: Vec<Socket>, door: Door, wake: Arc<Wake>) -> std::io::Result<Self> {
        let spare = Some(wake.as_fd().try_clone_to_owned()?);
        Ok(Acceptor { listeners, door, wake, spare, out: Vec::new(), backoff: Duration::ZERO, logged: None })
    }

    /// Accepts until the registry stops; then empties the queue and closes the listeners.
    pub fn run(mut self) {
        while !self.door.registry.is_stopping() {
            self.round();
        }
        drop(std::mem::take(&mut self.listeners));
        while let Some(guard) = self.door.queue.try_take() {
            let reason = guard.pulse().mark().unwrap_or(Reason::Shutdown);
            self.dismiss(&guard, reason);
        }
        self.door.queue.close();
    }

    /// Waits for a connection, or for the bell, and serves what there is.
    fn round(&mut self) {
        let pause = self.backoff;
        if !pause.is_zero() {
            self.wait_for_bell(pause);
        }
        let (rang, ready) = self.wait();
        if rang {
            self.dismiss_expired();
        }
        for index in ready {
            self.accept(index);
        }
    }

    /// Whether the bell rang, and the numbers of the listeners at which somebody waits.
    fn wait(&self) -> (bool, Vec<usize>) {
        let bell = PollFd::new(&*self.wake, PollFlags::IN);
        let mut descriptors: Vec<PollFd<'_>> = self.listeners.iter().map(|l| PollFd::new(l, PollFlags::IN)).collect();
        descriptors.push(bell);
        if poll(&mut descriptors, None).is_err() {
            return (false, Vec::new());
        }
        let rang = descriptors.last().is_some_and(|bell| !bell.revents().is_empty());
        if rang {
            self.wake.clear();
        }
        let listeners = descriptors.iter().take(self.listeners.len()).enumerate();
        (rang, listeners.filter(|(_, l)| !l.revents().is_empty()).map(|(index, _)| index).collect())
    }

    fn wait_for_bell(&self, time: Duration) {
        let mut bell = [PollFd::new(&*self.wake, PollFlags::IN)];
        let _ = poll(&mut bell, Timespec::try_from(time).ok().as_ref());
    }

    /// Takes one who waits at a listener. Whether another waits is not asked of it: mostly nobody does, and the
    /// next wait tells it as well.
    fn accept(&mut self, index: usize) {
        let Some(listener) = self.listeners.get(index) else { return };
        match acceptfrom_with(listener, SocketFlags::CLOEXEC) {
            Ok((descriptor, address)) => {
                self.backoff = Duration::ZERO;
                let stream = TcpStream::from(descriptor);
                // A peer that is gone already has no address, and needs no answer.
                if let Some(peer) = address.and_then(|address| SocketAddr::try_from(address).ok()) {
                    self.admit(stream, canonical_socket(peer));
                }
            }
            Err(error) => match remedy(error) {
                Remedy::Next => {}
                remedy => {
                    self.backoff = next_backoff(self.backoff);
                    self.log(format_args!("accept failed: {error}; pausing {} ms", self.backoff.as_millis()));
                    if remedy == Remedy::RefuseOne {
                        self.refuse_with_spare(index);
                    }
                }
            },
        }
    }

    fn admit(&mut self, stream: TcpStream, peer: SocketAddr) {
        if self.door.denied.load().contains(peer.ip()) {
            self.turn_away(&stream, peer, Refusal::Denied);
            return;
        }
        match self.door.registry.admit(stream, peer, Tick::now().after(self.door.context.config.timeouts().queue)) {
            Ok(mut guard) => {
                if self.door.queue.is_awaited() {
                    self.greet(&mut guard);
                }
                // There is room for every slot; it fails only when no worker is left.
                if let Err(guard) = self.door.queue.put(guard) {
                    self.dismiss(&guard, Reason::Shutdown);
                }
            }
            Err((stream, refusal)) => self.turn_away(&stream, peer, refusal),
        }
    }

    /// Greets one for whom a worker is free: while that wakes, the client hears already, and its first command
    /// may be there when the worker looks. Where nothing could be said the worker greets, or hears why not.
    fn greet(&mut self, guard: &mut SessionGuard) {
        self.out.clear();
        self.door.context.greeting.load().encode(&mut self.out);
        let Some(stream) = guard.socket() else { return };
        match said(stream, &self.out) {
            Said::Nothing => return,
            // The kernel has no memory for a few lines. The worker finds the session lost.
            Said::Part => drop(stream.shutdown(Shutdown::Both)),
            Said::Whole => {}
        }
        guard.set_greeted();
    }

    fn turn_away(&mut self, stream: &TcpStream, peer: SocketAddr, refusal: Refusal) {
        self.door.registry.counters.refused(refusal);
        self.log(format_args!("refused {peer}: {refusal:?}"));
        self.door.context.journal.note(&Event::Refused { peer, why: refusal.name() });
        say(stream, &refused(refusal));
    }

    /// Sends away those whose time in the queue is up: the reaper has marked them, and no worker is free
    /// to say it. The others keep their order, unless a worker takes one meanwhile.
    fn dismiss_expired(&self) {
        for _ in 0..self.door.queue.len() {
            let Some(guard) = self.door.queue.try_take() else { return };
            match guard.pulse().mark() {
                Some(reason) => {
                    self.dismiss(&guard, reason);
                }
                None => {
                    if let Err(guard) = self.door.queue.put(guard) {
                        self.dismiss(&guard, Reason::Shutdown);
                    }
                }
            }
        }
    }

    /// Ends a session that never had a worker.
    fn dismiss(&self, guard: &SessionGuard, reason: Reason) {
        self.door.registry.counters.ended_by(reason);
        if let Some(stream) = guard.socket() {
            say(stream, &goodbye(reason));
        }
    }

    /// Gives up the spare descriptor for as long as it takes to refuse those who wait.
    fn refuse_with_spare(&mut self, index: usize) {
        drop(self.spare.take());
        for _ in 0..LISTEN_BACKLOG {
            let Some(listener) = self.listeners.get(index) else { break };
            let Ok((descriptor, _)) = acceptfrom_with(listener, SocketFlags::CLOEXEC) else { break };
            self.door.registry.counters.refused(Refusal::Full);
            say(&TcpStream::from(descriptor), &refused(Refusal::Full));
        }
        self.spare = self.wake.as_fd().try_clone_to_owned().ok();
    }

    fn log(&mut self, line: std::fmt::Arguments<'_>) {
        if self.logged.is_none_or(|at| at.elapsed() >= LOG_EVERY) {
            self.logged = Some(Instant::now());
            log::warn!("{line}");
        }
    }
}

fn remedy(error: Errno) -> Remedy {
    match error {
        Errno::MFILE | Errno::NFILE => Remedy::RefuseOne,
        Errno::NOBUFS | Errno::NOMEM => Remedy::Pause,
        // accept(2): errors of the new connection come through here and are to be taken as its own.
        Errno::AGAIN
        | Errno::INTR
        | Errno::CONNABORTED
        | Errno::PROTO
        | Errno::NETDOWN
        | Errno::NOPROTOOPT
        | Errno::HOSTDOWN
        | Errno::NONET
        | Errno::HOSTUNREACH
        | Errno::OPNOTSUPP
        | Errno::NETUNREACH
        | Errno::PERM => Remedy::Next,
        _ => Remedy::Pause,
    }
}

fn next_backoff(last: Duration) -> Duration {
    let (first, longest) = ACCEPT_BACKOFF;
    (last * 2).clamp(first, longest)
}

fn refused(refusal: Refusal) -> Reply {
    match refusal {
        Refusal::Full | Refusal::Unauthenticated | Refusal::Shed => {
            Reply::new(421, "There are too many users now; try again later.")
        }
        Refusal::Address => Reply::new(421, "There are too many connections from your address; try again later."),
        Refusal::Denied => Reply::new(421, "Connections from your address are not taken."),
        Refusal::Stopping => goodbye(Reason::Shutdown),
    }
}

/// How much of something was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    Nothing,
    Part,
    Whole,
}

/// Says it without waiting.
fn said(stream: &TcpStream, words: &[u8]) -> Said {
    match send(stream, words, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
        Ok(count) if count == words.len() => Said::Whole,
        Ok(count) if count > 0 => Said::Part,
        Ok(_) | Err(_) => Said::Nothing,
    }
}

/// Says one reply without waiting, and ends the connection.
fn say(stream: &TcpStream, reply: &Reply) {
    let mut out = Vec::new();
    reply.encode(&mut out);
    said(stream, &out);
    let _ = stream.shutdown(Shutdown::Write);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_error_of_accept_ends_the_acceptor_and_none_makes_it_spin() {
        for error in [Errno::AGAIN, Errno::INTR, Errno::CONNABORTED, Errno::PROTO, Errno::PERM] {
            assert_eq!(remedy(error), Remedy::Next, "{error:?}");
        }
        for error in [Errno::MFILE, Errno::NFILE] {
            assert_eq!(remedy(error), Remedy::RefuseOne, "{error:?}");
        }
        for error in [Errno::NOBUFS, Errno::NOMEM, Errno::INVAL, Errno::BADF] {
            assert_eq!(remedy(error), Remedy::Pause, "{error:?}");
        }
    }

    #[test]
    fn a_client_that_reads_nothing_is_told_what_there_is_room_for() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let stream = listener.accept().unwrap().0;
        assert_eq!(said(&stream, b"220 Here.\r\n"), Said::Whole);
        let much = vec![b'-'; 64 << 20];
        assert_eq!(said(&stream, &much), Said::Part);
        while said(&stream, b"-") != Said::Nothing {}
        assert_eq!(said(&stream, b"220 Here.\r\n"), Said::Nothing);
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let mut pauses = vec![next_backoff(Duration::ZERO)];
        while pauses.len() < 12 {
            pauses.push(next_backoff(pauses[pauses.len() - 1]));
        }
        assert_eq!(pauses[0], Duration::from_millis(5));
        assert_eq!(pauses[1], Duration::from_millis(10));
        assert_eq!(pauses[11], Duration::from_secs(1));
    }

    #[test]
    fn refusals_say_what_clients_look_for() {
        for refusal in [Refusal::Full, Refusal::Address, Refusal::Unauthenticated] {
            let mut out = Vec::new();
            refused(refusal).encode(&mut out);
            let text = String::from_utf8(out).unwrap();
            assert!(text.starts_with("421 ") && text.contains("too many"), "{text}");
        }
    }
}
