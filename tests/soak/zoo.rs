//! The hostile clients that stay: a bounded number of open connections, kept by one thread, which does for
//! each what its kind does until the server ends it or its own patience does.

use crate::client::{Client, reset};
use crate::dice::Dice;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often the keeper goes around.
const ROUND: Duration = Duration::from_millis(50);

/// What one that stays does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Habit {
    /// Nothing.
    Silent,
    /// Sends NOOP and reads the reply.
    Noop,
    /// Reads a little of its data.
    Drip,
    /// Sends commands whose replies it never reads.
    Flood,
}

/// One that stays.
pub struct Beast {
    client: Client,
    data: Option<TcpStream>,
    habit: Habit,
    until: Instant,
    next: Instant,
    resets: bool,
}

impl Beast {
    /// One that leaves by itself, if it has to, after 2 to 20 s: half of them with a reset.
    pub fn new(client: Client, data: Option<TcpStream>, habit: Habit, dice: &mut Dice) -> Beast {
        let now = Instant::now();
        let _ = client.control.set_nonblocking(true);
        if let Some(data) = &data {
            let _ = data.set_nonblocking(true);
        }
        Beast {
            client,
            data,
            habit,
            until: now + Duration::from_millis(2000 + dice.below(18_000) as u64),
            next: now,
            resets: dice.coin(),
        }
    }

    /// Does what it does, once. `false`: the server has ended it.
    fn act(&mut self, now: Instant) -> bool {
        if now < self.next {
            return true;
        }
        let pause = match self.habit {
            Habit::Silent => 200,
            Habit::Noop => {
                if !alive(self.client.control.write(b"NOOP\r\n")) {
                    return false;
                }
                300
            }
            Habit::Drip => {
                if let Some(data) = &mut self.data
                    && !alive(data.read(&mut [0; 32 * 1024]))
                {
                    return false;
                }
                200
            }
            Habit::Flood => {
                let commands = b"FEAT\r\nHELP\r\nSTAT\r\nNOOP\r\nSYST\r\n".repeat(100);
                // It never reads, so only a reset tells it of its end.
                self.next = now + Duration::from_millis(100);
                return alive(self.client.control.write(&commands));
            }
        };
        self.next = now + Duration::from_millis(pause);
        loop {
            match self.client.control.read(&mut [0; 512]) {
                Ok(0) => return false,
                Ok(_) => {}
                Err(error) => return error.kind() == ErrorKind::WouldBlock,
            }
        }
    }

    fn leave(self) {
        if self.resets {
            if let Some(data) = self.data {
                reset(data);
            }
            self.client.reset();
        }
    }
}

fn alive(outcome: std::io::Result<usize>) -> bool {
    match outcome {
        Ok(_) => true,
        Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
    }
}

/// All that stay.
#[derive(Default)]
pub struct Zoo {
    taken: AtomicUsize,
    arrivals: Mutex<Vec<(Beast, Place)>>,
    /// Ended by the server.
    pub ended: AtomicU64,
    /// Left by themselves.
    pub left: AtomicU64,
}

/// A place in the zoo; dropping it gives it back.
pub struct Place(Arc<Zoo>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Relaxed);
    }
}

impl Zoo {
    /// A place, unless as many as `most` are taken.
    pub fn place(self: &Arc<Self>, most: usize) -> Option<Place> {
        let more = |taken| (taken < most).then_some(taken + 1);
        let taken = self.taken.fetch_update(Relaxed, Relaxed, more);
        taken.ok().map(|_| Place(Arc::clone(self)))
    }

    /// Places that are taken.
    pub fn taken(&self) -> usize {
        self.taken.load(Relaxed)
    }

    /// Takes one in.
    pub fn keep(&self, beast: Beast, place: Place) {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner).push((beast, place));
    }

    /// Looks after them, for ever.
    pub fn look_after(&self) {
        let mut beasts: Vec<(Beast, Place)> = Vec::new();
        loop {
            beasts.append(&mut self.arrivals.lock().unwrap_or_else(PoisonError::into_inner));
            let now = Instant::now();
            let mut index = 0;
            while let Some((beast, _)) = beasts.get_mut(index) {
                let ended = !beast.act(now);
                if ended || now >= beast.until {
                    let counter = if ended { &self.ended } else { &self.left };
                    counter.fetch_add(1, Relaxed);
                    let (beast, place) = beasts.swap_remove(index);
                    beast.leave();
                    drop(place);
                } else {
                    index += 1;
                }
            }
            std::thread::sleep(ROUND);
        }
    }
}
