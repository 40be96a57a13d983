//! What is tried often instead of once: races, and everything that fuzzing has ever found.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a test fails loudly")]

#[path = "../fuzz/checks/mod.rs"]
#[allow(dead_code, reason = "shared with the fuzz targets")]
mod checks;
#[path = "../suite/server.rs"]
#[allow(dead_code, reason = "shared with the black-box tests")]
mod server;

mod findings;
mod links;
mod seeds;
