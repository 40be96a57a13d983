//! How long each state of a session may last.

use std::time::Duration;

use super::problems::Problems;
use super::serve_args::ServeArgs;
use super::units;
use crate::limits;

/// How long each state may last: from [`limits::TIMEOUT_MIN`] to [`limits::TIMEOUT_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// `--idle-timeout`: at the prompt, without a command.
    pub idle: Duration,
    /// `--login-timeout`: from the start of the session until it is logged in; nothing extends it.
    pub login: Duration,
    /// `--data-timeout`: until a data connection is there.
    pub data: Duration,
    /// `--stall-timeout`: in a transfer, without a byte moved; also the window of
    /// [`Config::min_rate`](super::Config::min_rate).
    pub stall: Duration,
    /// `--queue-timeout`: waiting for a worker.
    pub queue: Duration,
    /// `--grace`: for transfers to finish when the server is told to stop.
    pub grace: Duration,
    /// `--shed-after`: without a transfer, before a session may be ended for those who wait.
    pub shed: Duration,
    /// `--session-timeout`: a whole session, `None` for as long as it likes.
    pub session: Option<Duration>,
}

/// The timeouts as typed, or their defaults.
pub(super) fn parse(args: &ServeArgs, problems: &mut Problems) -> Timeouts {
    let session = |value: &str| units::or_off(value, units::time);
    let mut time = |flag, typed, default| problems.value(flag, typed, default, units::time);
    Timeouts {
        idle: time("--idle-timeout", &args.idle_timeout, limits::IDLE_TIMEOUT),
        login: time("--login-timeout", &args.login_timeout, limits::LOGIN_TIMEOUT),
        data: time("--data-timeout", &args.data_timeout, limits::DATA_TIMEOUT),
        stall: time("--stall-timeout", &args.stall_timeout, limits::STALL_TIMEOUT),
        queue: time("--queue-timeout", &args.queue_timeout, limits::QUEUE_TIMEOUT),
        grace: time("--grace", &args.grace, limits::GRACE),
        shed: time("--shed-after", &args.shed_after, limits::SHED_AFTER),
        session: problems.value("--session-timeout", &args.session_timeout, None, session),
    }
}
