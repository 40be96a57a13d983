//! The protocol, pure: bytes to values and back, without sockets, files, clock or log.
//!
//! RFC 959 as amended by 1123 §4.1, with 2389 (FEAT, OPTS), 2428 (EPRT, EPSV), 2640 (UTF-8),
//! 3659 (SIZE, MDTM, MLST, REST) and 7151 (HOST).

pub mod ascii;
pub mod command;
pub mod date;
pub mod glob;
pub mod hostport;
pub mod line;
pub mod listing;
pub mod message;
pub mod params;
pub mod pathname;
pub mod reply;
mod telnet;
pub mod verb;
