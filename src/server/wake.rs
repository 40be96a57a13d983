//! A bell that ends the acceptor's poll: an eventfd.

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{read, write};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Rings for whoever polls its descriptor.
#[derive(Debug)]
pub struct Wake(OwnedFd);

impl Wake {
    /// A bell that has not rung.
    ///
    /// # Errors
    /// No descriptor could be had.
    pub fn new() -> io::Result<Wake> {
        Ok(Wake(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// Rings it. It never blocks: a bell that rings already rings on.
    pub fn wake(&self) {
        let _ = write(&self.0, &1u64.to_ne_bytes());
    }

    /// Stops it.
    pub fn clear(&self) {
        let _ = read(&self.0, &mut [0u8; 8]);
    }
}

impl AsFd for Wake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
