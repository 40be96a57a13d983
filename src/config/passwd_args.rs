//! The flags of `plimsoll passwd` as typed, with their help.

use argh::{ArgsInfo, FromArgs};

/// keep the accounts of a server: add one, change it, delete it
#[derive(Debug, Default, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "passwd",
    usage = "FILE NAME [flags] | FILE NAME --delete | FILE --list | FILE --check",
    note = "The password is asked for twice, without an echo; where standard input is no terminal it is its first line.",
    note = "A flag that sets an option takes it away where its value is empty: --quota=",
    note = "FILE is replaced in one step, and is there with mode 600 after the first account. A server that runs reads it again at SIGHUP.",
    note = "Sizes are bytes or take a unit: 64K, 64M, 1G. Times are seconds or take a unit: 30s, 5m, 2h, 1d.",
    note = "A value may follow its flag after a space or after an equals sign."
)]
pub(super) struct PasswdArgs {
    /// the accounts file, and the account
    #[argh(positional, arg_name = "FILE NAME")]
    pub(super) operands: Vec<String>,

    /// folder that the account sees as its root, an absolute path (default: that of the server)
    #[argh(option)]
    pub(super) root: Option<String>,

    /// what it may change: no, add (bring new files and folders) or all (default no)
    #[argh(option)]
    pub(super) write: Option<String>,

    /// sessions at once (default: --max-per-user of the server)
    #[argh(option)]
    pub(super) max_sessions: Option<String>,

    /// bytes a second, for all of its sessions together (default: no limit)
    #[argh(option)]
    pub(super) max_rate: Option<String>,

    /// bytes that its root may hold (default: no limit)
    #[argh(option)]
    pub(super) quota: Option<String>,

    /// time without a command after which a session ends (default: --idle-timeout of the server)
    #[argh(option)]
    pub(super) idle_timeout: Option<String>,

    /// networks and addresses from which it may log in, with + between them (default: all)
    #[argh(option)]
    pub(super) from: Option<String>,

    /// day YYYY-MM-DD from whose beginning on, in UTC, it may not log in any more (default: never)
    #[argh(option)]
    pub(super) expires: Option<String>,

    /// change the options of an account and not its password (default: the password is asked for)
    #[argh(switch)]
    pub(super) keep_password: bool,

    /// delete the account (default: it is added or changed)
    #[argh(switch)]
    pub(super) delete: bool,

    /// print a table of the accounts, without their hashes (default: not)
    #[argh(switch)]
    pub(super) list: bool,

    /// say whether a server would take the file, and change nothing (default: not)
    #[argh(switch)]
    pub(super) check: bool,

    /// print the version and leave
    #[argh(switch)]
    pub(super) version: bool,
}
