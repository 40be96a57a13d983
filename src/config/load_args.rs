//! The flags of `plimsoll load` as typed, with their help.

use argh::{ArgsInfo, FromArgs};

/// put load on an FTP server and measure what it holds
#[derive(Debug, Default, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "load",
    usage = "URL | --find-pool [FOLDER] [flags]",
    note = "URL is ftp://[USER[:PASSWORD]@]HOST[:PORT]/PATH. A PATH that ends with / is a folder, whose files are fetched in turn.",
    note = "With --find-pool it is a folder (default: the current one), which servers with growing pools serve.",
    note = "Sizes are bytes or take a unit: 64K, 64M, 1G. Times are seconds or take a unit: 500ms, 30s, 5m, 2h, 1d.",
    note = "A value may follow its flag after a space or after an equals sign."
)]
pub(super) struct LoadArgs {
    /// what to load
    #[argh(positional, arg_name = "URL")]
    pub(super) target: Option<String>,

    /// clients at once, each a thread of its own (default 8, or 64 with --rate)
    #[argh(option)]
    pub(super) clients: Option<String>,

    /// sessions after which to end (default: as many as there are in --duration)
    #[argh(option)]
    pub(super) sessions: Option<String>,

    /// time after which no session begins, and those of idle end (default 10s; none where --sessions
    /// is given; for each pool of --find-pool 3s, or, up to 1m, three times --think and --idle-for)
    #[argh(option)]
    pub(super) duration: Option<String>,

    /// what sessions do: logon, fetch, list, upload or idle, several with commas between them and
    /// weights after an equals sign, fetch=3,list (default fetch)
    #[argh(option)]
    pub(super) mix: Option<String>,

    /// sessions a second, begun at random times whether or not earlier ones have ended (default:
    /// each client begins its next session when its last has ended)
    #[argh(option)]
    pub(super) rate: Option<String>,

    /// mean pause of a client between two of its sessions (default 0)
    #[argh(option)]
    pub(super) think: Option<String>,

    /// how long a session of idle stays (default 10s)
    #[argh(option)]
    pub(super) idle_for: Option<String>,

    /// bytes of an upload (default 1M)
    #[argh(option)]
    pub(super) upload_size: Option<String>,

    /// time without a reply, a connection or a byte after which a session has failed (default 30s)
    #[argh(option)]
    pub(super) timeout: Option<String>,

    /// file for the figures as JSON (default: none)
    #[argh(option)]
    pub(super) json: Option<String>,

    /// file for a picture of them, SVG (default: none)
    #[argh(option)]
    pub(super) plot: Option<String>,

    /// load a server whose address is neither loopback nor private nor link-local (default: it is
    /// refused)
    #[argh(switch)]
    pub(super) i_own_this_server: bool,

    /// start servers on FOLDER with growing pools and say which pool holds the load (default: load
    /// the server at URL)
    #[argh(switch)]
    pub(super) find_pool: bool,

    /// memory that the worst case of each pool of --find-pool must fit, or off (default off)
    #[argh(option)]
    pub(super) memory_limit: Option<String>,

    /// print the version and leave
    #[argh(switch)]
    pub(super) version: bool,
}
