//! The flags of `plimsoll serve` as typed, with their help.

use argh::{ArgsInfo, FromArgs};

/// serve a folder over FTP
#[derive(Debug, Default, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "serve",
    usage = "[ROOT] [flags]",
    note = "Sizes are bytes or take a unit: 64K, 64M, 1G (64KiB, 64MiB, 1GiB).",
    note = "Times are seconds or take a unit: 500ms, 30s, 5m, 2h, 1d.",
    note = "A value may follow its flag after a space or after an equals sign."
)]
pub(super) struct ServeArgs {
    /// folder to serve (default: the current folder)
    #[argh(positional, arg_name = "ROOT")]
    pub(super) root: Option<String>,

    /// address to listen on: HOST:PORT, \[IPv6\]:PORT, :PORT or a bare port; may be given again,
    /// for up to 16 addresses (default \[::\]:2121, plain IPv4 where the host has no IPv6)
    #[argh(option)]
    pub(super) listen: Vec<String>,

    /// sessions served at once, each by a thread of its own, or auto for as many as the limits of
    /// memory and descriptors carry (default 256)
    #[argh(option)]
    pub(super) workers: Option<String>,

    /// connections that may wait for a worker (default 64)
    #[argh(option)]
    pub(super) queue: Option<String>,

    /// stack of each worker, a size (default 128K)
    #[argh(option)]
    pub(super) stack_size: Option<String>,

    /// memory that the worst case must fit, a size or off; the limit of the cgroup counts in any
    /// case (default off)
    #[argh(option)]
    pub(super) memory_limit: Option<String>,

    /// time without a transfer after which a session may be ended for those who wait, once all
    /// workers are busy (default 2s)
    #[argh(option)]
    pub(super) shed_after: Option<String>,

    /// time without a command after which a session ends (default 5m)
    #[argh(option)]
    pub(super) idle_timeout: Option<String>,

    /// time in which a client must have logged in (default 30s)
    #[argh(option)]
    pub(super) login_timeout: Option<String>,

    /// time in which a data connection must be there (default 30s)
    #[argh(option)]
    pub(super) data_timeout: Option<String>,

    /// time without a byte moved after which a transfer and its session end (default 1m)
    #[argh(option)]
    pub(super) stall_timeout: Option<String>,

    /// bytes a second, over the stall timeout, below which a transfer and its session end, a size
    /// or off (default 256)
    #[argh(option)]
    pub(super) min_rate: Option<String>,

    /// time after which any session ends, or off (default off)
    #[argh(option)]
    pub(super) session_timeout: Option<String>,

    /// time that a connection may wait for a worker (default 10s)
    #[argh(option)]
    pub(super) queue_timeout: Option<String>,

    /// sessions for each client address (IPv6: for each /64), or off (default: a quarter of
    /// --workers, at least 4)
    #[argh(option)]
    pub(super) max_per_ip: Option<String>,

    /// sessions for each user, or off (default off)
    #[argh(option)]
    pub(super) max_per_user: Option<String>,

    /// connections that are not logged in, or off (default: half of --workers, plus --queue)
    #[argh(option)]
    pub(super) max_unauthenticated: Option<String>,

    /// transfers at once whose send buffer may grow with the path, up to net.ipv4.tcp_wmem; each of
    /// the others has 128K (default: one for each 32 workers, at least 1)
    #[argh(option)]
    pub(super) wide_transfers: Option<String>,

    /// memory in which large folders are remembered that were listed before and have not changed, a
    /// size or off (default: 32K for each worker, at least 64K)
    #[argh(option)]
    pub(super) listing_memory: Option<String>,

    /// ports for passive data connections, LO-HI, at least as many as workers (default 20000-29999)
    #[argh(option)]
    pub(super) passive_ports: Option<String>,

    /// IPv4 address, or host name that stands for one, to which clients behind NAT make passive
    /// data connections (default: the address to which the client connected)
    #[argh(option)]
    pub(super) passive_address: Option<String>,

    /// refuse active data connections, PORT and EPRT (default: they are allowed, to the client's
    /// own address)
    #[argh(switch)]
    pub(super) no_active: bool,

    /// file of users, a line each, NAME:HASH:KEY=VALUE,...; plimsoll passwd writes it (default:
    /// none but the anonymous user)
    #[argh(option)]
    pub(super) accounts: Option<String>,

    /// what the anonymous user may do: read (or on), off for nothing, or dropbox for uploading
    /// alone (default read)
    #[argh(option)]
    pub(super) anonymous: Option<String>,

    /// folder that the drop-box fills (default: ROOT)
    #[argh(option)]
    pub(super) incoming: Option<String>,

    /// let the anonymous user list the drop-box (default: it may not)
    #[argh(switch)]
    pub(super) incoming_list: bool,

    /// permission bits of files in the drop-box, in octal (default 600)
    #[argh(option)]
    pub(super) incoming_mode: Option<String>,

    /// owner of files in the drop-box, UID:GID; needs the right to give files away (default: that
    /// of the server)
    #[argh(option)]
    pub(super) incoming_owner: Option<String>,

    /// largest file that the drop-box takes, a size or off (default off)
    #[argh(option)]
    pub(super) incoming_max_file: Option<String>,

    /// most bytes that the drop-box holds, a size or off (default off)
    #[argh(option)]
    pub(super) incoming_max_total: Option<String>,

    /// bytes a second for each anonymous session, in each direction, a size or off (default off)
    #[argh(option)]
    pub(super) anon_rate: Option<String>,

    /// passwords that are checked at once, each in up to 64M of memory (default 1)
    #[argh(option)]
    pub(super) password_checks: Option<String>,

    /// file of addresses and networks that are not let in, a line each (default: none)
    #[argh(option)]
    pub(super) deny_file: Option<String>,

    /// show the text of .message to whoever enters its folder (default: it is a file as any other)
    #[argh(switch)]
    pub(super) messages: bool,

    /// whether 226 waits until an upload would outlive a loss of power: on or off (default on)
    #[argh(option)]
    pub(super) durable: Option<String>,

    /// keep what came of an upload that broke, so that it can be resumed (default: it is deleted)
    #[argh(switch)]
    pub(super) keep_partial: bool,

    /// what uploads leave free on the disk, a size or a percentage (default 16M)
    #[argh(option)]
    pub(super) min_free: Option<String>,

    /// memory that the kernel may hold for an upload on its way, a size from 16K to 4M (default
    /// 128K)
    #[argh(option)]
    pub(super) upload_window: Option<String>,

    /// permission bits that new files and folders do not get, in octal (default 022)
    #[argh(option)]
    pub(super) umask: Option<String>,

    /// file to which each transfer is written, a line in the form of xferlog (default: none)
    #[argh(option)]
    pub(super) transfer_log: Option<String>,

    /// file to which logins, refusals, transfers and changes are written, a line of JSON each, or -
    /// for standard output (default: none)
    #[argh(option)]
    pub(super) events: Option<String>,

    /// text of the greeting, or @FILE that holds it (default "plimsoll ready")
    #[argh(option)]
    pub(super) banner: Option<String>,

    /// time that transfers have to finish when the server is told to stop (default 10s)
    #[argh(option)]
    pub(super) grace: Option<String>,

    /// what to log: off, error, warn, info, debug or trace (default warn, or RUST_LOG where that is
    /// set)
    #[argh(option)]
    pub(super) log: Option<String>,

    /// print the version and leave
    #[argh(switch)]
    pub(super) version: bool,
}
