//! The hostile clients: one test for each way in which FTP servers have failed, named after what the
//! client does, and each ended by the same question to the server and to the kernel ([`arena`]): is
//! everything back where it was, and is a newcomer served at once?
//!
//! Two of the ways can't be shown here. Uploads and TLS are not offered yet. And the wall clock can't be
//! made to jump without a clock of one's own: but no deadline is on it. Every deadline is a
//! `data::pulse::Tick`, which is made from `Instant` (CLOCK_MONOTONIC) and from nothing else, and waits in
//! poll(2) take a length of time; `SystemTime` is read for the time stamps of the log and for the dates of
//! LIST alone.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a test fails loudly")]

#[allow(dead_code, reason = "the harness is shared; each test binary uses a part of it")]
#[path = "../suite/server.rs"]
mod server;

mod arena;
mod guest;
mod kernel;
mod netns;

mod admission;
mod listings;
mod parser;
mod paths;
mod session_life;
mod trust;
