//! The bounded queue between the acceptor and the workers. Who waits longest is served first; and of the
//! workers that wait, the one that came last is woken, whose stack and buffers are still warm: in turn, a
//! pool of hundreds would run each session on the coldest memory that it has.

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};
use parking_lot::Mutex;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::{self, Thread};

/// A queue of fixed size, and the workers that wait at it.
#[derive(Debug)]
pub struct Queue<T> {
    sender: Sender<T>,
    receiver: Receiver<T>,
    idle: Mutex<Idle>,
    beds: Box<[Bed]>,
}

/// The numbers of the workers that sleep, the last one on top.
#[derive(Debug)]
struct Idle {
    asleep: Vec<usize>,
    closed: bool,
}

/// Where one worker sleeps.
#[derive(Debug, Default)]
struct Bed {
    thread: OnceLock<Thread>,
    called: AtomicBool,
}

impl<T> Queue<T> {
    /// A queue of this many places for this many workers.
    #[must_use]
    pub fn new(places: usize, workers: usize) -> Self {
        let (sender, receiver) = bounded(places);
        Queue {
            sender,
            receiver,
            idle: Mutex::new(Idle { asleep: Vec::with_capacity(workers), closed: false }),
            beds: (0..workers).map(|_| Bed::default()).collect(),
        }
    }

    /// Those who wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.receiver.len()
    }

    /// Whether whoever is put in now finds a worker that sleeps. It stays so for the one who puts, as long as
    /// nobody else does.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        let idle = self.idle.lock();
        self.receiver.is_empty() && !idle.asleep.is_empty()
    }

    /// Puts somebody at the end, and wakes a worker.
    ///
    /// # Errors
    /// There is no place; it is given back.
    pub fn put(&self, item: T) -> Result<(), T> {
        self.sender.try_send(item).map_err(crossbeam_channel::TrySendError::into_inner)?;
        let called = {
            let mut idle = self.idle.lock();
            // A worker that did not sleep may have been faster.
            if self.receiver.is_empty() { None } else { idle.asleep.pop() }
        };
        if let Some(bed) = called.and_then(|worker| self.beds.get(worker)) {
            bed.call();
        }
        Ok(())
    }

    /// Takes the one who waits longest, if somebody does.
    #[must_use]
    pub fn try_take(&self) -> Option<T> {
        self.receiver.try_recv().ok()
    }

    /// Takes the one who waits longest, for a worker that sleeps until there is one; `None` once the queue
    /// is closed and empty. Each number below that of the workers belongs to one thread.
    #[must_use]
    pub fn take(&self, worker: usize) -> Option<T> {
        let bed = self.beds.get(worker)?;
        bed.thread.get_or_init(thread::current);
        loop {
            {
                let mut idle = self.idle.lock();
                // Under the lock: whoever puts somebody in after this look finds this worker asleep.
                match self.receiver.try_recv() {
                    Ok(item) => return Some(item),
                    Err(TryRecvError::Disconnected) => return None,
                    Err(TryRecvError::Empty) if idle.closed => return None,
                    Err(TryRecvError::Empty) => {}
                }
                bed.called.store(false, SeqCst);
                idle.asleep.push(worker);
            }
            while !bed.called.load(SeqCst) {
                thread::park();
            }
        }
    }

    /// Nobody will come any more: workers that find nobody leave.
    pub fn close(&self) {
        let asleep = {
            let mut idle = self.idle.lock();
            idle.closed = true;
            std::mem::take(&mut idle.asleep)
        };
        for bed in asleep.into_iter().filter_map(|worker| self.beds.get(worker)) {
            bed.call();
        }
    }
}

impl Bed {
    fn call(&self) {
        self.called.store(true, SeqCst);
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use std::sync::mpsc;
    use std::time::{Duration, Instant};

    fn until(what: impl Fn() -> bool) {
        let end = Instant::now() + Duration::from_secs(10);
        while !what() {
            assert!(Instant::now() < end, "waited in vain");
            thread::yield_now();
        }
    }

    fn sleepers<T>(queue: &Queue<T>) -> usize {
        queue.idle.lock().asleep.len()
    }

    #[test]
    fn the_worker_that_came_last_is_woken_first() {
        let queue = Queue::new(4, 3);
        let over = AtomicBool::new(false);
        let (tell, told) = mpsc::channel();
        let order: Vec<_> = thread::scope(|scope| {
            for worker in 0..3 {
                let (queue, over, tell) = (&queue, &over, tell.clone());
                scope.spawn(move || {
                    while let Some(item) = queue.take(worker) {
                        tell.send((worker, item)).unwrap();
                        // It stays busy, so that the next one goes to another.
                        until(|| over.load(SeqCst));
                    }
                });
                until(|| sleepers(queue) == worker + 1);
            }
            let next = |item| {
                queue.put(item).unwrap();
                told.recv_timeout(Duration::from_secs(10))
            };
            let order = [next(10), next(11), next(12)];
            over.store(true, SeqCst);
            queue.close();
            order.into()
        });
        assert_eq!(order, [Ok((2, 10)), Ok((1, 11)), Ok((0, 12))]);
    }

    #[test]
    fn who_waits_longest_is_served_first_and_there_are_no_more_places_than_there_are() {
        let queue = Queue::new(3, 1);
        for item in 0..3 {
            queue.put(item).unwrap();
        }
        assert_eq!(queue.put(9), Err(9));
        assert_eq!((queue.len(), queue.try_take()), (3, Some(0)));
        queue.put(3).unwrap();
        queue.close();
        let taken: Vec<_> = std::iter::from_fn(|| queue.take(0)).collect();
        assert_eq!(taken, [1, 2, 3], "a closed queue is emptied first");
    }

    #[test]
    fn one_is_awaited_where_a_worker_sleeps_and_nobody_else_waits() {
        let queue = Queue::new(3, 2);
        assert!(!queue.is_awaited(), "no worker");
        thread::scope(|scope| {
            let taken = scope.spawn(|| queue.take(0));
            until(|| queue.is_awaited());
            queue.put(1).unwrap();
            assert_eq!(taken.join().unwrap(), Some(1));
            assert!(!queue.is_awaited(), "its worker is busy");
            let taken = scope.spawn(|| queue.take(1));
            until(|| queue.is_awaited());
            queue.sender.try_send(3).unwrap();
            let awaited = queue.is_awaited();
            queue.close();
            assert_eq!((taken.join().unwrap(), awaited), (Some(3), false), "another waits");
        });
    }

    #[test]
    fn nobody_is_lost_between_many_who_come_and_many_who_serve() {
        const WORKERS: usize = 32;
        const EACH: usize = 5000;
        let queue = Queue::new(8, WORKERS);
        let (served, sum) = (AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for worker in 0..WORKERS {
                let (queue, served, sum) = (&queue, &served, &sum);
                scope.spawn(move || {
                    while let Some(item) = queue.take(worker) {
                        sum.fetch_add(item, SeqCst);
                        served.fetch_add(1, SeqCst);
                    }
                });
            }
            let arrivals: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        for mut item in 1..=EACH {
                            while let Err(back) = queue.put(item) {
                                item = back;
                                thread::yield_now();
                            }
                        }
                    })
                })
                .collect();
            for arrival in arrivals {
                arrival.join().unwrap();
            }
            until(|| served.load(SeqCst) == 4 * EACH);
            until(|| sleepers(&queue) == WORKERS);
            queue.close();
        });
        assert_eq!(sum.load(SeqCst), 4 * EACH * (EACH + 1) / 2);
    }
}
