//! The hostile clients: one test for each way in which FTP servers have failed, named after what the
//! client does, and each ended by the same question to the server and to the kernel ([`arena`]): is
//! everything back where it was, and is a newcomer served at once?
//!
//! Two of the ways can't be shown here. TLS is not offered yet. And the wall clock can't be
//! made to jump without a clock of one's own: but no deadline is on it. Every deadline is a
//! `data::pulse::Tick`, which is made from `Instant` (CLOCK_MONOTONIC) and from nothing else, and waits in
//! poll(2) take a length of time; `SystemTime` is read for the time stamps of the log and for the dates of
//! LIST alone.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a test fails loudly")]

use std::io::Write;

#[allow(dead_code, reason = "the harness is shared; each test binary uses a part of it")]
#[path = "../suite/server.rs"]
mod server;

#[allow(dead_code, reason = "the harness is shared; each test binary uses a part of it")]
#[path = "../suite/members.rs"]
mod members;

mod arena;
mod cgroup;
mod guest;
mod kernel;
mod netns;
mod strace;

mod accounts;
mod admission;
mod drop_box;
mod faults;
mod listings;
mod parser;
mod paths;
mod session_life;
mod trust;
mod uploads;
mod worst_case;

/// What is 1 where every program that the tests start has to be there and has to be allowed.
const REQUIRE_TOOLS: &str = "PLIMSOLL_REQUIRE_TOOLS";

/// Says that a part of the tests can't be run here, and why. Where it has to be run, which is where this
/// variable of the environment is 1, the test fails instead.
fn skip(unless: &str, why: &str) {
    assert!(std::env::var(unless).as_deref() != Ok("1"), "{unless} is 1, but {why}");
    // Not eprintln!: what that writes is shown for tests that fail alone.
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}
