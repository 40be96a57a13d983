//! How much of a transfer the kernel may hold, unsent and unacknowledged.
//!
//! A send buffer that grows with the path, as the kernel would have it, is what makes a long path fast; and
//! a client that takes no more once it has grown holds all of it. So a few transfers at once may have it,
//! and are counted in the load line; each of the others has a fixed amount.

use super::port::DataConnection;
use super::tcp::round_trip;
use crate::limits::{LONG_PATH, NARROW_WINDOW, NOTSENT_LOWAT};
use socket2::SockRef;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

/// The wide windows that nobody has.
#[derive(Debug)]
pub struct Windows {
    free: AtomicUsize,
}

/// What one transfer has, for as long as it lives.
#[derive(Debug)]
pub struct Window<'a> {
    width: Width,
    windows: &'a Windows,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Width {
    /// There are never more bytes than the narrow one holds.
    Small,
    Narrow,
    Wide,
}

impl Windows {
    /// So many wide windows.
    #[must_use]
    pub fn new(wide: usize) -> Self {
        Windows { free: AtomicUsize::new(wide) }
    }

    /// Sets a window for a transfer of `expected` bytes, before anything is sent. A wide one is only for
    /// that many bytes on a long path, and only while one is free.
    pub fn set(&self, connection: &DataConnection, expected: Option<u64>) -> Window<'_> {
        let window = self.take(expected, || round_trip(connection.as_fd()).unwrap_or_default());
        let socket = SockRef::from(connection);
        // They fail only on a connection that is gone, which sending will tell.
        let _ = match window.width {
            Width::Small => Ok(()),
            Width::Narrow => socket.set_send_buffer_size(NARROW_WINDOW / 2),
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
        Window { width, windows: self }
    }
}

impl Drop for Window<'_> {
    fn drop(&mut self) {
        if self.width == Width::Wide {
            self.windows.free.fetch_add(1, SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LARGE: Option<u64> = Some(NARROW_WINDOW as u64 + 1);

    fn far() -> Duration {
        LONG_PATH
    }

    #[test]
    fn there_are_no_more_wide_windows_than_there_are() {
        let windows = Windows::new(2);
        let taken = [windows.take(LARGE, far), windows.take(LARGE, far)];
        assert!(taken.iter().all(|window| window.width == Width::Wide));
        assert_eq!(windows.take(LARGE, far).width, Width::Narrow);
        assert_eq!(windows.take(LARGE, far).width, Width::Narrow, "a narrow one gives nothing back");
        drop(taken);
        assert_eq!(windows.take(LARGE, far).width, Width::Wide);
        assert_eq!(windows.free.load(SeqCst), 2);
    }

    #[test]
    fn what_fits_or_is_near_or_of_a_size_that_nobody_knows_takes_none() {
        let windows = Windows::new(1);
        assert_eq!(windows.take(Some(NARROW_WINDOW as u64), far).width, Width::Small);
        assert_eq!(windows.take(None, far).width, Width::Narrow);
        assert_eq!(windows.take(LARGE, || LONG_PATH / 2).width, Width::Narrow);
        assert_eq!(windows.free.load(SeqCst), 1);
    }
}
