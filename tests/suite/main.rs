//! The black-box tests: one binary, which starts the real server for each case.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a test fails loudly")]

mod members;
mod server;

mod accounts;
mod admission;
mod budget;
mod clients;
mod compare;
mod data;
mod deadlines;
mod docs;
mod flags;
mod link_local;
mod listings;
mod load;
mod parser;
mod passwd;
mod structure;
mod transcript;
mod upload_clients;
mod uploads;
mod verbs;
