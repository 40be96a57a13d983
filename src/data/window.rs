//! How much of a transfer the kernel may hold, unsent and unacknowledged.
//!
//! A send buffer that grows with the path, as the kernel would have it, is what makes a long path fast; and
//! a client that takes no more once it has grown holds all of it. So a few transfers at once may have it,
//! and are counted in the load line; each of the others has a fixed amount. A quarter of the wide ones,
//! where there are at least four, may go to transfers on short paths that are slower than they need be.

use super::port::DataConnection;
use super::pulse::Tick;
use super::tcp::round_trip;
use crate::limits::{
    LONG_PATH, NARROW_WINDOW, NOTSENT_LOWAT, ROOMY_CHUNK, ROOMY_EVERY, ROOMY_TIMES, ROOMY_WINDOW, SENDFILE_CHUNK,
};
use socket2::SockRef;
use std::cell::Cell;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

/// The wide windows that nobody has.
#[derive(Debug)]
pub struct Windows {
    all: usize,
    free: AtomicUsize,
    /// Bytes of a roomy one.
    roomy: usize,
}

/// What one transfer has, for as long as it lives.
#[derive(Debug)]
pub struct Window<'a> {
    width: Cell<Width>,
    windows: &'a Windows,
    /// When a narrow one is looked at again, by what was sent; and when it was last.
    next: Cell<u64>,
    last: Cell<Tick>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Width {
    /// There are never more bytes than the narrow one holds.
    Small,
    Narrow,
    /// On a short path, instead of a wide one.
    Roomy,
    Wide,
}

impl Windows {
    /// So many wide windows, of at most so many bytes each.
    #[must_use]
    pub fn new(wide: usize, bytes: usize) -> Self {
        Windows { all: wide, free: AtomicUsize::new(wide), roomy: ROOMY_WINDOW.min(bytes) }
    }

    /// Sets a window for a transfer of `expected` bytes, before anything is sent. A wide one is only for
    /// that many bytes on a long path, and only while one is free.
    pub fn set(&self, connection: &DataConnection, expected: Option<u64>) -> Window<'_> {
        let window = self.take(expected, || round_trip(connection.as_fd()).unwrap_or_default());
        let socket = SockRef::from(connection);
        // They fail only on a connection that is gone, which sending will tell.
        let _ = match window.width.get() {
            Width::Small => Ok(()),
            Width::Narrow | Width::Roomy => socket.set_send_buffer_size(NARROW_WINDOW / 2),
            Width::Wide => socket.set_tcp_notsent_lowat(NOTSENT_LOWAT),
        };
        window
    }

    fn take(&self, expected: Option<u64>, round_trip: impl FnOnce() -> Duration) -> Window<'_> {
        let one_less = |free: usize| free.checked_sub(1);
        let width = match expected {
            Some(bytes) if bytes <= NARROW_WINDOW as u64 => Width::Small,
            Some(_) if round_trip() >= LONG_PATH && self.free.fetch_update(SeqCst, SeqCst, one_less).is_ok() => {
                Width::Wide
            }
            _ => Width::Narrow,
        };
        Window { width: width.into(), windows: self, next: ROOMY_EVERY.into(), last: Tick::now().into() }
    }
}

impl Window<'_> {
    /// Bytes to be asked of one sendfile(2).
    #[must_use]
    pub fn chunk(&self) -> usize {
        if self.width.get() == Width::Roomy { ROOMY_CHUNK } else { SENDFILE_CHUNK }
    }

    /// So many bytes were sent so far, none of which was held back on purpose: a narrow window may become a roomy one.
    pub fn sent(&self, connection: &DataConnection, bytes: u64) {
        self.sent_by(connection, bytes, Tick::now);
    }

    fn sent_by(&self, connection: &DataConnection, bytes: u64, now: impl FnOnce() -> Tick) {
        if self.width.get() == Width::Narrow && bytes >= self.next.get() {
            let now = now();
            if self.grows(self.last.get().age(now)) {
                // It fails only on a connection that is gone, which sending will tell.
                let _ = SockRef::from(connection).set_send_buffer_size(self.windows.roomy / 2);
            }
            self.next.set(bytes + ROOMY_EVERY);
            self.last.set(now);
        }
    }

    /// Whether it becomes a roomy one, when the last [`ROOMY_EVERY`] bytes took this long. Three in four wide windows
    /// are for long paths alone: there they bring most. And where many transfers are under way at once, as many threads
    /// have something to do and wakes matter less.
    fn grows(&self, took: Duration) -> bool {
        let (quick, slow) = ROOMY_TIMES;
        let all = self.windows.all;
        let one_less = |free: usize| free.checked_sub(1).filter(|left| left * 4 >= all * 3);
        let grows = took > quick && took < slow && self.windows.free.fetch_update(SeqCst, SeqCst, one_less).is_ok();
        if grows {
            self.width.set(Width::Roomy);
        }
        grows
    }
}

impl Drop for Window<'_> {
    fn drop(&mut self) {
        if matches!(self.width.get(), Width::Wide | Width::Roomy) {
            self.windows.free.fetch_add(1, SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake_watch::tcp_pair;
    use super::*;
    use crate::limits::WIDE_WINDOW;

    const LARGE: Option<u64> = Some(NARROW_WINDOW as u64 + 1);

    fn far() -> Duration {
        LONG_PATH
    }

    #[test]
    fn there_are_no_more_wide_windows_than_there_are() {
        let windows = Windows::new(2, WIDE_WINDOW);
        let taken = [windows.take(LARGE, far), windows.take(LARGE, far)];
        assert!(taken.iter().all(|window| window.width.get() == Width::Wide));
        assert_eq!(windows.take(LARGE, far).width.get(), Width::Narrow);
        assert_eq!(windows.take(LARGE, far).width.get(), Width::Narrow, "a narrow one gives nothing back");
        drop(taken);
        assert_eq!(windows.take(LARGE, far).width.get(), Width::Wide);
        assert_eq!(windows.free.load(SeqCst), 2);
    }

    #[test]
    fn what_fits_or_is_near_or_of_a_size_that_nobody_knows_takes_none() {
        let windows = Windows::new(1, WIDE_WINDOW);
        assert_eq!(windows.take(Some(NARROW_WINDOW as u64), far).width.get(), Width::Small);
        assert_eq!(windows.take(None, far).width.get(), Width::Narrow);
        assert_eq!(windows.take(LARGE, || LONG_PATH / 2).width.get(), Width::Narrow);
        assert_eq!(windows.free.load(SeqCst), 1);
    }

    #[test]
    fn one_that_is_slow_on_a_short_path_grows_while_most_wide_ones_are_free() {
        let near = || LONG_PATH / 2;
        let (quick, slow) = ROOMY_TIMES;
        let windows = Windows::new(8, WIDE_WINDOW);
        let taken = [0; 4].map(|_| windows.take(LARGE, near));
        assert!(taken.iter().all(|window| window.chunk() == SENDFILE_CHUNK));
        // A quick one needs none, and none helps one whose client is slow.
        assert!(!taken[0].grows(quick) && !taken[0].grows(slow));
        let grown: Vec<bool> = taken.iter().map(|window| window.grows((quick + slow) / 2)).collect();
        assert_eq!(grown, [true, true, false, false]);
        assert_eq!((taken[0].chunk(), taken[2].chunk()), (ROOMY_CHUNK, SENDFILE_CHUNK));
        assert_eq!(windows.free.load(SeqCst), 6);
        drop(taken);
        assert_eq!(windows.free.load(SeqCst), 8);
        // Where there are few, all are for long paths.
        for few in 0..4 {
            assert!(!Windows::new(few, WIDE_WINDOW).take(LARGE, near).grows((quick + slow) / 2), "{few}");
        }
        assert_eq!(Windows::new(1, 100_000).roomy, 100_000);
    }

    #[test]
    fn it_is_looked_at_now_and_then_and_its_buffer_grows() {
        let (_client, server) = tcp_pair();
        let connection = DataConnection::for_tests(server.into());
        let size = || SockRef::from(&connection).send_buffer_size().unwrap();
        let windows = Windows::new(4, WIDE_WINDOW);
        let window = windows.set(&connection, LARGE);
        let narrow = size();
        let later = window.last.get().after(ROOMY_TIMES.1 / 2);
        window.sent_by(&connection, ROOMY_EVERY - 1, || panic!("not yet"));
        assert_eq!(size(), narrow);
        window.sent_by(&connection, ROOMY_EVERY, || later);
        assert!(size() > narrow && size() <= ROOMY_WINDOW, "{narrow} {}", size());
        window.sent_by(&connection, 2 * ROOMY_EVERY, || panic!("it does not grow twice"));
        // A quick one is looked at again after as many bytes.
        let quick = Windows::new(4, WIDE_WINDOW);
        let quick = quick.set(&connection, LARGE);
        quick.sent_by(&connection, ROOMY_EVERY, || quick.last.get());
        quick.sent_by(&connection, 2 * ROOMY_EVERY - 1, || panic!("not yet"));
        assert_eq!((quick.chunk(), size()), (SENDFILE_CHUNK, narrow));
    }
}
