//! How the kernel schedules the threads of the server.
//!
//! One of the two modules with `unsafe` code: no crate in use has this system call.

#![allow(unsafe_code)]

use libc::{SCHED_BATCH, SCHED_OTHER, sched_getscheduler, sched_param, sched_setscheduler};

/// Has this thread, and those that it will start, wait for a processor to be free when they are woken, rather
/// than push aside who is running (SCHED_BATCH of sched(7)); their share of the processors stays the same.
///
/// A connection wakes the acceptor, and that a worker. Where each of them pushes the client's own thread or
/// another worker aside at once, most of what a short session costs is this to and fro: measured, a logon is a
/// sixth dearer, and a session that fetches a small file a quarter.
///
/// Whoever was started with a policy of another kind keeps it. Whether it was set.
pub fn for_throughput() -> bool {
    let parameters = sched_param { sched_priority: 0 };
    // SAFETY: 0 is the calling thread, and the call takes no memory.
    let policy = unsafe { sched_getscheduler(0) };
    // SAFETY: 0 is the calling thread; the parameters are read during the call, and are there until it returns.
    policy == SCHED_OTHER && unsafe { sched_setscheduler(0, SCHED_BATCH, &raw const parameters) } == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_for_this_thread_and_those_that_it_starts() {
        // SAFETY: 0 is the calling thread, and the call takes no memory.
        let policy = || unsafe { sched_getscheduler(0) };
        let child = std::thread::spawn(move || {
            let before = policy();
            let set = for_throughput();
            (before, set, policy(), std::thread::spawn(policy).join().unwrap(), for_throughput())
        });
        let (before, set, own, inherited, again) = child.join().unwrap();
        match before {
            SCHED_OTHER => assert_eq!((set, own, inherited, again), (true, SCHED_BATCH, SCHED_BATCH, false)),
            other => assert_eq!((set, own, inherited, again), (false, other, other, false)),
        }
    }
}
