//! The server-DTP (RFC 959 §2.3): data connections, what is sent and received over them, and the one place
//! where a worker waits.

#[cfg(test)]
mod fake_watch;
mod flow;
pub mod pace;
pub mod passive;
pub mod port;
pub mod pulse;
pub mod receive;
pub(crate) mod tcp;
pub mod transfer;
pub mod wait;
pub mod window;
