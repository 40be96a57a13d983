//! `--find-pool`: which pool holds a load. Servers with growing pools are loaded one after the other; the
//! smallest that is as good as the larger ones is found, and then its smallest queue.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use super::LoadError;
use super::pool_server::{PoolServer, Size, Usage};
use super::report::Outcome;
use super::wire::Server;
use crate::config::load::Load;

/// Share of sessions that may fare worse than in the best pool.
const REFUSED_MORE: f64 = 0.001;

/// By how much the time to log in, at the 99th percentile, may exceed that of the best pool: a factor, or
/// milliseconds, whichever allows more. Nobody feels the one, and runs differ by the other.
const SLOWER: f64 = 1.5;
const SLOWER_MS: f64 = 20.0;

/// Times that a close call is tried: a pool that falls short by less than these. A busy host makes a pool look
/// worse than it is, and never better, since all see the same visitors; so the best try counts.
const TRIES: usize = 3;
const CLOSE_LOST: f64 = 0.02;
const CLOSE: f64 = 4.0;

/// A pool is narrowed down to this share of its size.
const NARROW: usize = 8;

/// Sessions that a 99th percentile needs, so that it is not just the worst few.
pub const SESSIONS_MIN: u64 = 1000;

/// One in so many clients may be back before the server has let go of its last session.
const AGAIN: usize = 8;

/// Queues shorter than this are not tried: it is what a burst of a few page-like loads takes.
const QUEUE_MIN: usize = 16;

/// A pool that was tried.
#[derive(Debug)]
pub struct Trial {
    /// Its size.
    pub size: Size,
    /// Its load line.
    pub worst_case_mib: u64,
    /// What the server used.
    pub usage: Usage,
    /// What the clients saw.
    pub outcome: Outcome,
}

/// How good a pool was.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Grade {
    /// Share of sessions that did not succeed.
    lost: f64,
    /// 99th percentile of the time to log in, in milliseconds.
    logon: f64,
}

impl Trial {
    /// Share of sessions that did not succeed, those that never began and those that were kept waiting included.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a share")]
    pub fn lost(&self) -> f64 {
        let seen = &self.outcome.seen;
        let lost = seen.refused() + seen.failed() + self.unserved();
        lost as f64 / (seen.begun + self.outcome.overdue).max(1) as f64
    }

    /// Sessions that were kept waiting until the time was up, that did not end, or that never began.
    #[must_use]
    pub fn unserved(&self) -> u64 {
        self.outcome.seen.unfinished() + self.outcome.seen.kept_waiting + self.outcome.overdue
    }

    /// Whether clients were too few to begin all sessions in time. A host that is too busy looks the same.
    #[must_use]
    pub fn lacks_clients(&self) -> bool {
        self.outcome.overdue > 0 || self.outcome.seen.late > 0
    }

    /// Share of one processor that the server had.
    #[must_use]
    pub fn cpu(&self) -> f64 {
        self.usage.cpu.as_secs_f64() / self.outcome.elapsed.as_secs_f64().max(1e-9)
    }

    fn grade(&self) -> Grade {
        Grade { lost: self.lost(), logon: self.outcome.seen.logon.quantile(0.99).unwrap_or(f64::INFINITY) }
    }

    /// Whether there were too few sessions to speak of a 99th percentile.
    #[must_use]
    pub fn is_short(&self) -> bool {
        self.outcome.seen.logon.count() < SESSIONS_MIN
    }

    /// Whether practically nobody was turned away.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.lost() <= REFUSED_MORE
    }
}

impl Grade {
    /// Whether it is as good as the best of these: it turns away practically no more than whichever turns
    /// away the least, and of those that do not it is about as quick as the quickest.
    fn is_as_good(self, all: &[Grade]) -> bool {
        let (lost, logon) = allowed(all);
        self.lost <= lost && self.logon <= logon
    }

    /// Whether it might be as good on a host that is less busy.
    fn is_close(self, all: &[Grade]) -> bool {
        let (lost, logon) = allowed(all);
        self.lost <= lost + CLOSE_LOST && self.logon <= logon * CLOSE
    }

    /// Whether it turns away fewer, or as many and is quicker.
    fn is_better(self, other: Grade) -> bool {
        self.lost < other.lost || (self.lost <= other.lost && self.logon < other.logon)
    }

    /// Whether it is as good as any can be.
    fn is_perfect(self) -> bool {
        self.is_as_good(&[self, Grade { lost: 0.0, logon: 0.0 }])
    }
}

/// What the best of these allow another: the share that it loses, and its time to log in.
fn allowed(all: &[Grade]) -> (f64, f64) {
    let lost = all.iter().map(|grade| grade.lost).fold(f64::INFINITY, f64::min) + REFUSED_MORE;
    let holding = all.iter().filter(|grade| grade.lost <= lost);
    let quickest = holding.map(|grade| grade.logon).fold(f64::INFINITY, f64::min);
    (lost, (quickest * SLOWER).max(quickest + SLOWER_MS))
}

/// What was found.
#[derive(Debug)]
pub struct Found {
    /// Every pool that was tried, in order of workers and queue; of one that was tried again the best try.
    pub trials: Vec<Trial>,
    /// Which of them is recommended; none where none was tried to its end, or where the search was interrupted before one
    /// held.
    pub recommended: Option<usize>,
    /// Most workers that were allowed.
    pub most: usize,
    /// A signal ended the search.
    pub interrupted: bool,
}

/// Searches.
///
/// # Errors
/// No server can be started on this folder within these limits.
pub fn search(load: &Load, folder: &Path, interrupted: &AtomicBool) -> Result<Found, LoadError> {
    let start = |size| PoolServer::start(folder, size, load.memory_limit);
    let fits = |size| start(size).is_ok();
    // What is wrong with the folder is told by the smallest server.
    drop(start(Size { workers: 1, queue: 1 })?);
    let mut share = 1;
    while !fits(Size { workers: 1, queue: queue_for(load.clients, 1, share) }) && share < load.clients {
        share *= 2;
    }
    let size = |workers| Size { workers, queue: queue_for(load.clients, workers, share) };
    let most = largest(load.clients, |workers| !interrupted.load(SeqCst) && fits(size(workers)));
    let mut trials: Vec<Trial> = Vec::new();
    let mut attempt = |size: Size| -> Result<Option<Grade>, LoadError> {
        if interrupted.load(SeqCst) {
            return Ok(None);
        }
        let trial = match attempt(load, start(size)?, size, interrupted) {
            // A signal that comes before its first session leaves those that were tried before.
            Err(_) if interrupted.load(SeqCst) => return Ok(None),
            tried => tried?,
        };
        let grade = trial.grade();
        let key = |size: &Size| (size.workers, size.queue);
        let place = trials.partition_point(|other| key(&other.size) < key(&size));
        match trials.get_mut(place).filter(|other| other.size == size) {
            // A part of a try does not take the place of a whole one.
            Some(other) if !trial.outcome.interrupted && grade.is_better(other.grade()) => *other = trial,
            Some(_) => {}
            None => trials.insert(place, trial),
        }
        Ok((!interrupted.load(SeqCst)).then_some(grade))
    };
    let grades = pools(most, |workers| attempt(size(workers)))?;
    let mut recommended = None;
    if let Some(workers) = smallest(&grades) {
        let reference: Vec<Grade> = grades.iter().map(|tried| tried.grade).collect();
        recommended = Some(Size { queue: shortest(size(workers), &reference, attempt)?, ..size(workers) });
    }
    let interrupted = interrupted.load(SeqCst);
    // Of a search that has not ended nothing is known but that a pool holds.
    let fit = |trial: &Trial| Some(trial.size) == recommended && (trial.holds() || !interrupted);
    let recommended = trials.iter().position(fit);
    Ok(Found { trials, recommended, most, interrupted })
}

/// Loads one server, and ends it.
fn attempt(load: &Load, server: PoolServer, size: Size, interrupted: &AtomicBool) -> Result<Trial, LoadError> {
    let url = server.url();
    let client = Server::here(url.port, load.timeout);
    let label = format!("{} workers, {} queued ", size.workers, size.queue);
    let outcome = super::measure(load, &url, client, interrupted, label)?;
    Ok(Trial { size, worst_case_mib: server.worst_case_mib(), usage: server.usage(), outcome })
}

/// The queue beside this many workers: with it, and with the cap on those who have not logged in, which is
/// half of the workers and the queue, there is room for every client, and for some who come again before the
/// server has let go of their last session; or for this share of it, where that is too much for the host.
fn queue_for(clients: usize, workers: usize, share: usize) -> usize {
    ((clients + clients.div_ceil(AGAIN)).saturating_sub(workers / 2) / share.max(1)).max(1)
}

/// The largest number from 1 to `most` that fits, if 1 does and one that is larger never fits where a
/// smaller does not.
fn largest(most: usize, fits: impl Fn(usize) -> bool) -> usize {
    if fits(most) {
        return most;
    }
    let (mut fit, mut too_many) = (1, most);
    while fit + 1 < too_many {
        let middle = fit.midpoint(too_many);
        if fits(middle) { fit = middle } else { too_many = middle }
    }
    fit
}

/// A number of workers that was tried.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Tried {
    workers: usize,
    /// The best of its tries.
    grade: Grade,
    tries: usize,
}

/// Tries pools: each twice as large as the last, then those between the largest that is not good enough and
/// the smallest that is. What is nearly good enough is tried again. They are in order of their workers.
fn pools<E>(most: usize, mut attempt: impl FnMut(usize) -> Result<Option<Grade>, E>) -> Result<Vec<Tried>, E> {
    let mut all: Vec<Tried> = Vec::new();
    let mut workers = 1;
    loop {
        let Some(grade) = attempt(workers)? else { return Ok(all) };
        note(&mut all, workers, grade);
        let none_better = Grade { lost: 0.0, logon: 0.0 };
        let again = all.last().is_some_and(|last| last.tries < TRIES && last.grade.is_close(&[none_better]));
        match all.last() {
            Some(last) if last.grade.is_perfect() => break,
            _ if again => {}
            _ if workers >= most => break,
            _ => workers = (workers * 2).min(most),
        }
    }
    while let Some(good) = smallest(&all) {
        let grades: Vec<Grade> = all.iter().map(|tried| tried.grade).collect();
        let below = all.iter().rev().find(|tried| tried.workers < good).copied();
        let short = below.map_or(0, |below| below.workers);
        let next = match below {
            Some(below) if below.tries < TRIES && below.grade.is_close(&grades) => below.workers,
            _ if good - short <= (good / NARROW).max(1) => break,
            _ => short.midpoint(good),
        };
        let Some(grade) = attempt(next)? else { return Ok(all) };
        note(&mut all, next, grade);
    }
    Ok(all)
}

/// Enters a try.
fn note(all: &mut Vec<Tried>, workers: usize, grade: Grade) {
    let place = all.partition_point(|tried| tried.workers < workers);
    match all.get_mut(place).filter(|tried| tried.workers == workers) {
        Some(tried) => {
            tried.tries += 1;
            if grade.is_better(tried.grade) {
                tried.grade = grade;
            }
        }
        None => all.insert(place, Tried { workers, grade, tries: 1 }),
    }
}

/// The smallest pool that is as good as the best.
fn smallest(all: &[Tried]) -> Option<usize> {
    let grades: Vec<Grade> = all.iter().map(|tried| tried.grade).collect();
    all.iter().find(|tried| tried.grade.is_as_good(&grades)).map(|tried| tried.workers)
}

/// Tries shorter queues, each half of the last, as long as they turn away no more; yields the shortest. Nobody
/// logs in later because a queue is short, so that time says nothing of it.
fn shortest<E>(
    size: Size,
    reference: &[Grade],
    mut attempt: impl FnMut(Size) -> Result<Option<Grade>, E>,
) -> Result<usize, E> {
    let (lost, _) = allowed(reference);
    let mut good = size.queue;
    'shorter: while good > QUEUE_MIN {
        let queue = (good / 2).max(QUEUE_MIN);
        for _ in 0..TRIES {
            match attempt(Size { queue, ..size })? {
                Some(grade) if grade.lost <= lost => {
                    good = queue;
                    continue 'shorter;
                }
                Some(grade) if grade.lost <= lost + CLOSE_LOST => {}
                _ => break,
            }
        }
        break;
    }
    Ok(good)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    /// A pool that needs this many workers.
    fn grade(workers: usize, needed: usize) -> Grade {
        let short = needed.saturating_sub(workers) as f64 / needed as f64;
        Grade { lost: (short - 0.5).max(0.0), logon: 6.0 + 1000.0 * short }
    }

    fn tried(most: usize, needed: usize) -> (Vec<usize>, Option<usize>) {
        let mut tried = Vec::new();
        let all = pools::<Infallible>(most, |workers| {
            tried.push(workers);
            Ok(Some(grade(workers, needed)))
        })
        .unwrap();
        (tried, smallest(&all))
    }

    #[test]
    fn the_knee_is_found_by_doubling_and_then_narrowing() {
        let (order, found) = tried(200, 50);
        assert_eq!(order[..7], [1, 2, 4, 8, 16, 32, 64]);
        // What is nearly good enough is tried again, and no more often than that.
        assert_eq!(order[7..], [48, 48, 48, 56, 52]);
        assert!((50..=56).contains(&found.unwrap()), "{found:?}");
        assert_eq!(tried(1, 50), (vec![1], Some(1)));
        assert_eq!(tried(8, 1), (vec![1], Some(1)));
        // Nobody says that the largest is good, only that it is the best.
        assert_eq!(tried(20, 50).1, Some(20));
    }

    #[test]
    fn a_busy_host_does_not_move_the_knee() {
        // Whichever try meets a busy host: what is found is what a quiet host finds.
        let quiet = tried(200, 50).1;
        for (slow, lost) in [(30.0, 0.0), (0.0, 0.004), (50.0, 0.01)] {
            for busy in 0..16 {
                let mut number = 0;
                let all = pools::<Infallible>(200, |workers| {
                    number += 1;
                    let noise = if number - 1 == busy { (slow, lost) } else { (0.0, 0.0) };
                    let grade = grade(workers, 50);
                    Ok(Some(Grade { lost: grade.lost + noise.1, logon: grade.logon + noise.0 }))
                })
                .unwrap();
                assert_eq!(smallest(&all), quiet, "{busy} {slow} {lost}: {all:?}");
            }
        }
    }

    #[test]
    fn a_pool_that_can_not_be_bettered_ends_the_doubling() {
        let perfect = Grade { lost: 0.0, logon: 4.0 };
        let mut tried = 0;
        let all = pools::<Infallible>(1000, |_| {
            tried += 1;
            Ok(Some(perfect))
        });
        assert_eq!((tried, all), (1, Ok(vec![Tried { workers: 1, grade: perfect, tries: 1 }])));
    }

    #[test]
    fn a_search_that_is_interrupted_keeps_what_it_has() {
        let all = pools::<Infallible>(1000, |workers| Ok((workers < 5).then(|| grade(workers, 50)))).unwrap();
        assert_eq!(all.iter().map(|tried| tried.workers).collect::<Vec<_>>(), [1, 2, 4]);
    }

    #[test]
    fn what_is_as_good_may_differ_a_little() {
        let best = Grade { lost: 0.01, logon: 100.0 };
        // Who turns away fewer is better, however slow.
        for (lost, logon, good) in [
            (0.01, 150.0, true),
            (0.0109, 100.0, true),
            (0.0112, 100.0, false),
            (0.0105, 151.0, false),
            (0.0, 151.0, true),
        ] {
            assert_eq!(Grade { lost, logon }.is_as_good(&[best, Grade { lost, logon }]), good, "{lost} {logon}");
        }
        let quick = Grade { lost: 0.0, logon: 1.0 };
        assert!(
            Grade { logon: 21.0, ..quick }.is_as_good(&[quick]) && !Grade { logon: 21.1, ..quick }.is_as_good(&[quick])
        );
        assert!(
            Grade { logon: 80.0, ..quick }.is_close(&[quick]) && !Grade { logon: 90.0, ..quick }.is_close(&[quick])
        );
        assert!(!Grade { lost: 1.0, logon: f64::INFINITY }.is_as_good(&[best]));
    }

    #[test]
    fn queues_have_room_for_all_and_are_halved_as_long_as_that_is_good() {
        assert_eq!(queue_for(200, 64, 1) + 64 / 2, 225);
        assert_eq!((queue_for(1, 1, 1), queue_for(8, 100, 1), queue_for(100, 10, 2)), (2, 1, 54));
        let size = Size { workers: 10, queue: 170 };
        let good = Grade { lost: 0.0, logon: 1.0 };
        let found = |short: Grade| {
            let mut tried = Vec::new();
            let queue = shortest::<Infallible>(size, &[good], |size| {
                tried.push(size.queue);
                Ok(Some(if size.queue > 30 { good } else { short }))
            });
            (queue.unwrap(), tried)
        };
        assert_eq!(found(Grade { lost: 0.5, ..good }), (42, vec![85, 42, 21]));
        assert_eq!(found(Grade { lost: 0.005, ..good }), (42, vec![85, 42, 21, 21, 21]));
        assert_eq!(found(good), (16, vec![85, 42, 21, 16]));
        // A busy host.
        assert_eq!(found(Grade { logon: 500.0, ..good }), (16, vec![85, 42, 21, 16]));
    }

    #[test]
    fn the_largest_that_fits_is_found() {
        for (most, limit) in [(1, 1), (1, 5), (100, 1), (100, 37), (100, 99), (100, 100), (4096, 4095)] {
            assert_eq!(largest(most, |number| number <= limit), most.min(limit));
        }
    }
}
