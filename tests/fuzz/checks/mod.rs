//! One check for each fuzz target: any bytes may be given to it, and it panics where the server would not
//! do what it has to.
//!
//! No check knows of a fuzzer: cargo-fuzz calls them with what it makes up, and `tests/stress` with the
//! seeds, among which is everything that was ever found.

pub mod ascii;
pub mod command;
pub mod glob;
mod home;
pub mod host_port;
pub mod line;
pub mod listing;
pub mod pathname;
pub mod replies;
pub mod reply;
pub mod session;

/// Takes the first byte off, zero where there is none.
fn byte(data: &mut &[u8]) -> u8 {
    let Some((&first, rest)) = data.split_first() else {
        return 0;
    };
    *data = rest;
    first
}

/// Takes as many bytes off as the first one says, or all there are.
fn part<'a>(data: &mut &'a [u8]) -> &'a [u8] {
    let length = usize::from(byte(data)).min(data.len());
    let (part, rest) = data.split_at(length);
    *data = rest;
    part
}
