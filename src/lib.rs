//! plimsoll: an anonymous-first FTP server with a load line.
//!
//! Everything that the server can use is fixed before the first client connects. The modules in reading
//! order, each depending only on those after it:
//!
//! - [`server`]: the process: acceptor, queue, pool, registry, reaper, load line
//! - [`session`]: the server-PI: one session over one control connection
//! - [`data`]: the server-DTP: data connections, transfers, and the one place where a worker waits
//! - [`vfs`]: the only caller of the file system
//! - [`journal`]: what users did, one line for each event, for programs to read
//! - [`deny`]: addresses that are turned away
//! - [`auth`], [`policy`]: who one is, and what one may do
//! - [`load`]: puts load on an FTP server and measures it; the server knows nothing of it
//! - [`passwd`]: edits the accounts file; the server only reads it
//! - [`config`]: from arguments to a validated configuration
//! - [`proto`]: the protocol, pure
//! - `units`: numbers, sizes and times as they are typed
//! - [`swap`]: a value that is exchanged as a whole
//! - [`limits`]: every cap and timeout, with its reason

pub mod auth;
pub mod config;
pub mod data;
pub mod deny;
pub mod journal;
pub mod limits;
pub mod load;
pub mod logger;
pub mod passwd;
pub mod policy;
pub mod proto;
pub mod server;
pub mod session;
pub mod swap;
mod units;
pub mod vfs;
