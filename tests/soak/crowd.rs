//! All clients, in a process of their own: so they can be killed at once, as the clients of a site are when
//! its uplink fails. Tells how far it is in one line of standard output, again and again.

use crate::client::Trouble;
use crate::dice::Dice;
use crate::kinds::{KINDS, Kind, Visit};
use crate::zoo::Zoo;
use std::collections::HashMap;
use std::fmt;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Clients that do something at the same time.
const DRIVERS: usize = 48;

/// Hostile connections that stay, at most: with the drivers more than the server has workers.
const ZOO: usize = 300;

/// How often the progress is told.
const TELL: Duration = Duration::from_millis(100);

/// Waits for a login are counted in steps of this many milliseconds...
const WAIT_STEP: u64 = 20;
/// ... and this many steps.
const WAIT_STEPS: usize = 1024;

/// What has happened to clients so far.
struct Tally {
    clients: AtomicU64,
    logons: AtomicU64,
    hostile: AtomicU64,
    served: AtomicU64,
    turned_away: AtomicU64,
    cut_off: AtomicU64,
    wrong: AtomicU64,
    longest: AtomicU64,
    waits: Vec<AtomicU64>,
    kinds: [AtomicU64; KINDS.len()],
}

impl Tally {
    fn new() -> Self {
        Tally {
            clients: AtomicU64::new(0),
            logons: AtomicU64::new(0),
            hostile: AtomicU64::new(0),
            served: AtomicU64::new(0),
            turned_away: AtomicU64::new(0),
            cut_off: AtomicU64::new(0),
            wrong: AtomicU64::new(0),
            longest: AtomicU64::new(0),
            waits: (0..WAIT_STEPS).map(|_| AtomicU64::new(0)).collect(),
            kinds: Default::default(),
        }
    }

    fn waited(&self, time: Duration) {
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.longest.fetch_max(millis, Relaxed);
        let step = usize::try_from(millis / WAIT_STEP).unwrap_or(usize::MAX);
        if let Some(count) = self.waits.get(step.min(WAIT_STEPS - 1)) {
            count.fetch_add(1, Relaxed);
        }
    }

    /// Milliseconds within which this share of all logins was done, in per mille.
    fn within(&self, permille: u64) -> u64 {
        let counts: Vec<u64> = self.waits.iter().map(|count| count.load(Relaxed)).collect();
        let enough = (counts.iter().sum::<u64>() * permille).div_ceil(1000);
        let mut sum = 0;
        let step = counts.iter().position(|count| {
            sum += count;
            sum >= enough
        });
        (step.unwrap_or(0) as u64 + 1) * WAIT_STEP
    }
}

/// How far the clients are, as it is told from one process to the other: names and numbers.
#[derive(Debug, Clone, Default)]
pub struct Progress(HashMap<String, u64>);

impl Progress {
    /// Reads a line.
    pub fn parse(line: &str) -> Progress {
        let pairs = line.split_whitespace().filter_map(|pair| pair.split_once('='));
        Progress(pairs.filter_map(|(name, n)| Some((name.to_owned(), n.parse().ok()?))).collect())
    }

    /// One of the numbers; 0 before it was told.
    pub fn of(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers = [
            ("clients", &self.clients),
            ("logons", &self.logons),
            ("hostile", &self.hostile),
            ("served", &self.served),
            ("turned-away", &self.turned_away),
            ("cut-off", &self.cut_off),
            ("wrong", &self.wrong),
            ("longest", &self.longest),
        ];
        for (name, number) in numbers {
            write!(f, "{name}={} ", number.load(Relaxed))?;
        }
        for ((kind, _), count) in KINDS.iter().zip(&self.kinds) {
            write!(f, "{kind:?}={} ", count.load(Relaxed))?;
        }
        write!(f, "median={} p99={}", self.within(500), self.within(990))
    }
}

/// Is the clients of the server at this port, until standard input ends or it is killed.
pub fn run(port: u16, seed: u64) -> io::Result<()> {
    raise_descriptors();
    let (tally, zoo) = (Arc::new(Tally::new()), Arc::new(Zoo::default()));
    let keeper = Arc::clone(&zoo);
    std::thread::spawn(move || keeper.look_after());
    let next = Arc::new(AtomicU64::new(0));
    for driver in 0..DRIVERS {
        let (tally, zoo, next) = (Arc::clone(&tally), Arc::clone(&zoo), Arc::clone(&next));
        std::thread::spawn(move || {
            loop {
                drive(port, driver, &mut Dice::new(seed, next.fetch_add(1, Relaxed)), &tally, &zoo);
            }
        });
    }
    // Whoever started this may have been killed: no clients without somebody who counts them.
    std::thread::spawn(|| {
        let _ = io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    loop {
        std::thread::sleep(TELL);
        let line =
            format!("{tally} zoo={} ended={} left={}\n", zoo.taken(), zoo.ended.load(Relaxed), zoo.left.load(Relaxed));
        io::stdout().write_all(line.as_bytes())?;
    }
}

/// One client, from the roll of its kind to its end.
fn drive(port: u16, driver: usize, dice: &mut Dice, tally: &Tally, zoo: &Arc<Zoo>) {
    let mut kind = Kind::roll(dice);
    let mut place = None;
    if kind.lingers() {
        place = zoo.place(ZOO);
        if place.is_none() {
            kind = Kind::roll_quick(dice);
        }
    }
    tally.clients.fetch_add(1, Relaxed);
    if let Some(count) = tally.kinds.get(kind.number()) {
        count.fetch_add(1, Relaxed);
    }
    if kind.hostile() {
        tally.hostile.fetch_add(1, Relaxed);
    }
    let (came, from) = (Instant::now(), kind.address(dice));
    let mut logged_in = || {
        tally.logons.fetch_add(1, Relaxed);
        if !kind.hostile() {
            tally.waited(came.elapsed());
        }
    };
    let mut visit = Visit { port, driver, from, dice, logged_in: &mut logged_in };
    match visit.run(kind) {
        Ok(None) => tally.served.fetch_add(1, Relaxed),
        Ok(Some(beast)) => {
            if let Some(place) = place {
                zoo.keep(beast, place);
            }
            0
        }
        Err(Trouble::TurnedAway) => {
            // Nobody comes back at once who was told that there are too many.
            std::thread::sleep(Duration::from_millis(5 + dice.below(20) as u64));
            tally.turned_away.fetch_add(1, Relaxed)
        }
        Err(Trouble::CutOff) => tally.cut_off.fetch_add(1, Relaxed),
        Err(Trouble::Wrong(what)) => {
            if tally.wrong.fetch_add(1, Relaxed) < 10 {
                eprintln!("{kind:?} from {from}: {what}");
            }
            0
        }
    };
}

/// Some clients hold two descriptors, and the limit may be meant for less.
fn raise_descriptors() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_what_is_read() {
        let tally = Tally::new();
        tally.logons.store(7, Relaxed);
        tally.waited(Duration::from_millis(55));
        let progress = Progress::parse(&format!("{tally} zoo=3"));
        assert_eq!((progress.of("logons"), progress.of("zoo"), progress.of("none")), (7, 3, 0));
        assert_eq!((progress.of("longest"), progress.of("median")), (55, 60));
    }

    #[test]
    fn quantiles_come_from_the_counts() {
        let tally = Tally::new();
        for millis in 0..1000 {
            tally.waited(Duration::from_millis(millis));
        }
        assert_eq!(tally.within(500), 500);
        assert_eq!(tally.within(990), 1000);
        tally.waited(Duration::from_secs(3600));
        assert_eq!(tally.within(1000), 1024 * 20);
    }
}
