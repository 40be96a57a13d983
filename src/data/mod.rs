//! The server-DTP (RFC 959 §2.3): data connections, what is sent over them, and the one place where a
//! worker waits.

pub mod passive;
pub mod port;
pub mod pulse;
pub(crate) mod tcp;
pub mod transfer;
pub mod wait;
pub mod window;
