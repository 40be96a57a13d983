//! Which session begins next, what it does, and when: the mix and the pacing.
//!
//! In the open loop sessions begin as a Poisson process does, at random and independently of each other,
//! because that is how people come who do not know of each other; sessions at even distances would never
//! meet, and flatter a small pool. Clients of the closed loop that pause come at random as well. All times come
//! from a fixed seed, and those of a client do not depend on the others: two runs see the same visitors, so what
//! differs between them is the server, or the host.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::config::load::Kind;

/// The seed of all times.
const SEED: u64 = 0x506c_696d_736f_6c6c;

/// Between the first sessions of two clients in the closed loop, where clients do not pause.
const STAGGER: Duration = Duration::from_micros(500);

/// From one seed to the next.
const SEEDS_APART: u64 = 0xd134_2543_de82_ef95;

/// Uniform numbers (splitmix64).
#[derive(Debug, Clone)]
struct Dice(u64);

impl Dice {
    /// Above 0 and at most 1.
    #[expect(clippy::cast_precision_loss, reason = "53 bits are exact")]
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        ((z >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    /// A waiting time of this mean, drawn from the exponential distribution.
    fn wait(&mut self, mean: f64) -> f64 {
        -mean * self.next().ln()
    }
}

/// The times at which sessions begin in the open loop, in seconds from the start.
#[derive(Debug, Clone)]
struct Arrivals {
    dice: Dice,
    rate: f64,
    next: f64,
}

impl Arrivals {
    fn new(rate: f64) -> Self {
        let mut dice = Dice(SEED);
        let next = dice.wait(1.0 / rate);
        Self { dice, rate, next }
    }

    fn take(&mut self) -> f64 {
        let at = self.next;
        self.next += self.dice.wait(1.0 / self.rate);
        at
    }
}

/// Kinds in turn, each as often as its weight says, and spread as evenly as can be.
#[derive(Debug, Clone)]
struct Turns(Vec<Turn>);

#[derive(Debug, Clone)]
struct Turn {
    kind: Kind,
    weight: i64,
    credit: i64,
    /// Turns that it has had.
    had: u64,
}

impl Turns {
    fn new(mix: &[(Kind, u32)]) -> Self {
        Self(mix.iter().map(|&(kind, weight)| Turn { kind, weight: i64::from(weight), credit: 0, had: 0 }).collect())
    }

    /// Each kind earns its weight; the richest has its turn, and pays what all have earned.
    fn take(&mut self) -> Kind {
        let all: i64 = self.0.iter().map(|turn| turn.weight).sum();
        for turn in &mut self.0 {
            turn.credit += turn.weight;
        }
        // Of equals the first.
        match self.0.iter_mut().rev().max_by_key(|turn| turn.credit) {
            Some(richest) => {
                richest.credit -= all;
                richest.kind
            }
            None => Kind::Logon,
        }
    }

    /// Counts a turn of this kind, and tells how many it had before.
    fn count(&mut self, kind: Kind) -> u64 {
        let turn = self.0.iter_mut().find(|turn| turn.kind == kind);
        turn.map_or(0, |turn| {
            turn.had += 1;
            turn.had - 1
        })
    }
}

/// One session that is to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    /// Sessions before it.
    pub number: u64,
    /// What it does.
    pub kind: Kind,
    /// Sessions before it that did the same.
    pub turn: u64,
    /// When it has to begin; `None` for at once.
    pub due: Option<Instant>,
}

/// The sessions that are to come.
#[derive(Debug)]
pub struct Plan {
    begin: Instant,
    end: Option<Instant>,
    most: Option<u64>,
    think: Duration,
    mix: Vec<(Kind, u32)>,
    state: Mutex<State>,
}

/// What one client has of the plan for itself.
#[derive(Debug)]
pub struct Visitor {
    client: usize,
    pauses: Dice,
    /// What a client that pauses does, in turn. Were that told by who comes first, as it is where nobody
    /// pauses, a moment more or less would change all that follows.
    turns: Option<Turns>,
}

#[derive(Debug)]
struct State {
    given: u64,
    turns: Turns,
    arrivals: Option<Arrivals>,
}

impl Plan {
    /// A plan that begins now.
    #[must_use]
    pub fn new(load: &crate::config::load::Load) -> Self {
        let begin = Instant::now();
        let arrivals = load.rate.map(|rate| Arrivals::new(rate.per_second()));
        let state = State { given: 0, turns: Turns::new(&load.mix), arrivals };
        Self {
            begin,
            end: load.duration.map(|duration| begin + duration),
            most: load.sessions,
            think: load.think,
            mix: load.mix.clone(),
            state: Mutex::new(state),
        }
    }

    /// When the first session may begin.
    #[must_use]
    pub fn begin(&self) -> Instant {
        self.begin
    }

    /// When no further session begins.
    #[must_use]
    pub fn end(&self) -> Option<Instant> {
        self.end
    }

    /// Sessions after which there are no more.
    #[must_use]
    pub fn most(&self) -> Option<u64> {
        self.most
    }

    /// Whether sessions begin at given times.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.state.lock().arrivals.is_some()
    }

    /// A client.
    #[must_use]
    pub fn visitor(&self, client: usize) -> Visitor {
        let turns = (!self.think.is_zero() && !self.is_open()).then(|| {
            let mut turns = Turns::new(&self.mix);
            let all: u32 = self.mix.iter().map(|(_, weight)| *weight).sum();
            // Not all of them begin with the same.
            for _ in 0..client % usize::try_from(all.max(1)).unwrap_or(1) {
                turns.take();
            }
            turns
        });
        Visitor { client, pauses: Dice(SEED ^ SEEDS_APART.wrapping_mul(client as u64 + 1)), turns }
    }

    /// The next session of this client, or none if there are no more.
    #[must_use]
    pub fn next(&self, visitor: &mut Visitor) -> Option<Ticket> {
        let mut state = self.state.lock();
        let over = |at: Instant| self.end.is_some_and(|end| at >= end);
        if self.most.is_some_and(|most| state.given >= most) || over(Instant::now()) {
            return None;
        }
        let due = match &mut state.arrivals {
            None => None,
            Some(arrivals) => {
                let due = self.begin + Duration::from_secs_f64(arrivals.next);
                if over(due) {
                    return None;
                }
                arrivals.take();
                Some(due)
            }
        };
        let kind = match &mut visitor.turns {
            Some(own) => own.take(),
            None => state.turns.take(),
        };
        let (number, turn) = (state.given, state.turns.count(kind));
        state.given += 1;
        Some(Ticket { number, kind, turn, due })
    }

    /// How long this client of the closed loop waits before its first session: clients that pause begin
    /// as if they had always been there, in the middle of a pause.
    #[must_use]
    pub fn first_pause(&self, visitor: &mut Visitor) -> Duration {
        if self.is_open() {
            Duration::ZERO
        } else if self.think.is_zero() {
            STAGGER * u32::try_from(visitor.client).unwrap_or(u32::MAX)
        } else {
            // What is left of a pause that has this distribution is distributed as the whole of it.
            self.pause(visitor)
        }
    }

    /// How long a client of the closed loop waits between two sessions: about as long as it is told to,
    /// and not all of them in step.
    #[must_use]
    pub fn pause(&self, visitor: &mut Visitor) -> Duration {
        if self.think.is_zero() || self.is_open() {
            return Duration::ZERO;
        }
        Duration::from_secs_f64(visitor.pauses.wait(self.think.as_secs_f64()))
    }

    /// Sessions that should have begun before `now` and that nobody has taken: about, since those to come
    /// are not drawn.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates")]
    pub fn overdue(&self, now: Instant) -> u64 {
        let state = self.state.lock();
        let Some(arrivals) = &state.arrivals else { return 0 };
        let now = self.end.map_or(now, |end| end.min(now));
        let late = now.saturating_duration_since(self.begin).as_secs_f64() - arrivals.next;
        let waiting = if late < 0.0 { 0 } else { 1 + (late * arrivals.rate).round() as u64 };
        waiting.min(self.most.map_or(u64::MAX, |most| most - state.given))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Invocation, from_arguments};

    fn plan(flags: &str) -> Plan {
        let line = format!("load ftp://127.0.0.1/a {flags}");
        match from_arguments(line.split_whitespace().map(Into::into)) {
            Ok(Invocation::Load(load)) => Plan::new(&load),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn turns_follow_the_weights_and_are_spread() {
        let mut turns = Turns::new(&[(Kind::Fetch, 3), (Kind::List, 1)]);
        let taken: Vec<_> = (0..8)
            .map(|_| {
                let kind = turns.take();
                (kind.name(), turns.count(kind))
            })
            .collect();
        let (fetch, list) = (|turn| ("fetch", turn), |turn| ("list", turn));
        assert_eq!(taken, [fetch(0), fetch(1), list(0), fetch(2), fetch(3), fetch(4), list(1), fetch(5)]);
        let mut turns = Turns::new(&[(Kind::Logon, 5), (Kind::Idle, 2), (Kind::Upload, 1)]);
        let mut count = [0; 3];
        for _ in 0..8000 {
            match turns.take() {
                Kind::Logon => count[0] += 1,
                Kind::Idle => count[1] += 1,
                _ => count[2] += 1,
            }
        }
        assert_eq!(count, [5000, 2000, 1000]);
    }

    #[test]
    fn what_a_client_that_pauses_does_does_not_depend_on_the_others() {
        let run = |order: [usize; 4]| {
            let plan = plan("--think 1s --clients 2 --mix fetch,idle");
            let mut visitors = [plan.visitor(0), plan.visitor(1)];
            let mut seen = [Vec::new(), Vec::new()];
            for client in order {
                let visitor = &mut visitors[client];
                let pause = plan.pause(visitor);
                seen[client].push((plan.next(visitor).unwrap().kind, pause));
            }
            seen
        };
        let one = run([0, 0, 1, 1]);
        assert_eq!(one, run([1, 0, 1, 0]));
        // Together they follow the weights, and they do not do the same.
        assert_eq!([one[0][0].0, one[0][1].0], [Kind::Fetch, Kind::Idle]);
        assert_eq!([one[1][0].0, one[1][1].0], [Kind::Idle, Kind::Fetch]);
        assert_ne!(one[0][0].1, one[1][0].1);
    }

    #[test]
    fn arrivals_have_the_rate_and_the_spread_of_a_poisson_process() {
        let mut arrivals = Arrivals::new(50.0);
        let times: Vec<f64> = (0..50_000).map(|_| arrivals.take()).collect();
        assert!(times.is_sorted());
        let last = times[49_999];
        assert!((last - 1000.0).abs() < 20.0, "{last}");
        // The number in each second has mean and variance 50; evenly spread it would have no variance.
        let mut each = vec![0.0_f64; 900];
        for at in times.iter().filter(|at| **at < 900.0) {
            each[usize::try_from(Duration::from_secs_f64(*at).as_secs()).unwrap()] += 1.0;
        }
        let mean = each.iter().sum::<f64>() / 900.0;
        let variance = each.iter().map(|n| (n - mean).powi(2)).sum::<f64>() / 900.0;
        assert!((mean - 50.0).abs() < 1.0 && (40.0..60.0).contains(&variance), "{mean} {variance}");
        assert_eq!(times[..9], (0..9).scan(Arrivals::new(50.0), |a, _| Some(a.take())).collect::<Vec<_>>());
    }

    #[test]
    fn a_plan_ends_after_its_sessions_or_its_time() {
        let closed = plan("--sessions 3");
        let all = |plan: &Plan| {
            let mut visitor = plan.visitor(0);
            std::iter::from_fn(|| plan.next(&mut visitor)).collect::<Vec<_>>()
        };
        let taken = all(&closed);
        assert_eq!(taken.len(), 3);
        assert!(taken.iter().all(|ticket| ticket.due.is_none()) && taken[2].number == 2);
        let open = plan("--rate 1000 --duration 100ms");
        let taken = all(&open);
        assert!((50..150).contains(&taken.len()), "{}", taken.len());
        let end = open.begin() + Duration::from_millis(100);
        assert!(taken.iter().all(|ticket| ticket.due.is_some_and(|due| due >= open.begin() && due < end)));
        assert!(taken.is_sorted_by_key(|ticket| ticket.due));
    }

    #[test]
    fn sessions_that_nobody_takes_are_overdue() {
        let open = plan("--rate 100 --duration 10s");
        let at = |seconds: u64| open.overdue(open.begin() + Duration::from_secs(seconds));
        assert_eq!(at(0), 0);
        assert!((400..600).contains(&at(5)) && (900..1100).contains(&at(10)), "{} {}", at(5), at(10));
        assert_eq!(at(10), at(1000));
        assert_eq!(plan("--rate 100 --sessions 7").overdue(Instant::now() + Duration::from_secs(9)), 7);
        assert_eq!(plan("").overdue(Instant::now() + Duration::from_secs(9)), 0);
    }

    #[test]
    fn pauses_are_about_as_long_as_told_and_first_sessions_are_spread() {
        let thinking = plan("--think 2s --clients 4");
        let mut visitor = thinking.visitor(0);
        let mean = (0..10_000).map(|_| thinking.pause(&mut visitor).as_secs_f64()).sum::<f64>() / 10_000.0;
        assert!((1.9..2.1).contains(&mean), "{mean}");
        // The first sessions of many clients come at the rate of all later ones.
        let first = |client| thinking.first_pause(&mut thinking.visitor(client)).as_secs_f64();
        let mean = (0..10_000).map(first).sum::<f64>() / 10_000.0;
        let early = (0..10_000).filter(|client| first(*client) < 0.2).count();
        assert!((1.9..2.1).contains(&mean) && (850..1050).contains(&early), "{mean} {early}");
        let first = |plan: &Plan| plan.first_pause(&mut plan.visitor(3));
        let eager = plan("--clients 4");
        assert_eq!((eager.pause(&mut eager.visitor(0)), first(&eager)), (Duration::ZERO, 3 * STAGGER));
        assert_eq!(first(&plan("--rate 5 --clients 4")), Duration::ZERO);
    }
}
