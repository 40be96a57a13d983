//! The configuration of `plimsoll load`: which server, how many clients, what they do and when.
//!
//! Owns the meaning of each flag, its default and its bounds. Resolves no name, opens no file.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use super::load_args::LoadArgs;
use super::url::{self, FtpUrl};
use super::{ConfigError, Fault, MEMORY_LIMIT_MAX, Problems, units};
use crate::limits;

/// `--clients`: what a small pool holds as well.
const CLIENTS: usize = 8;
/// `--clients` with `--rate`: more than are busy at once on a host that keeps up.
const CLIENTS_OPEN: usize = 64;
/// Most clients: each is a thread with a buffer.
pub const CLIENTS_MAX: usize = 4096;
/// Most sessions of one run that are believed to be meant.
const SESSIONS_MAX: usize = 1_000_000_000;
/// `--duration`.
const DURATION: Duration = Duration::from_secs(10);
/// `--duration` with `--find-pool`, for each pool.
const DURATION_POOL: Duration = Duration::from_secs(3);
/// The same where clients stay or pause: so many times as long as that, and at most this.
const STAYS: u32 = 3;
const DURATION_POOL_MAX: Duration = Duration::from_secs(60);
/// `--rate`, in thousandths of a session a second: once in a hundred seconds to more than a host can send.
const RATES: std::ops::RangeInclusive<u64> = 10..=100_000_000;
/// `--idle-for`.
const IDLE_FOR: Duration = Duration::from_secs(10);
/// `--upload-size` in bytes.
const UPLOAD_SIZE: u64 = 1 << 20;
/// Largest `--upload-size` that is believed to be meant.
const UPLOAD_SIZE_MAX: u64 = 1 << 34;
/// `--timeout`.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Largest weight in `--mix`.
const WEIGHT_MAX: usize = 1000;

/// What to load and how: every value has been checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Load {
    /// The server.
    pub target: Target,
    /// Clients at once, from 1 to [`CLIENTS_MAX`].
    pub clients: usize,
    /// Sessions after which to end.
    pub sessions: Option<u64>,
    /// Time after which no session begins. This, or `sessions`, or both, are there.
    pub duration: Option<Duration>,
    /// What sessions do: each kind at most once, with its weight, which is at least 1.
    pub mix: Vec<(Kind, u32)>,
    /// Sessions a second in the open loop; `None` for the closed loop.
    pub rate: Option<Rate>,
    /// Mean pause of a client between two sessions, in the closed loop.
    pub think: Duration,
    /// How long a session of [`Kind::Idle`] stays.
    pub idle_for: Duration,
    /// Bytes of an upload, at least 1.
    pub upload_size: u64,
    /// Time without anything after which a session has failed.
    pub timeout: Duration,
    /// `--json`.
    pub json: Option<PathBuf>,
    /// `--plot`.
    pub plot: Option<PathBuf>,
    /// Whether a public address may be loaded.
    pub i_own_this_server: bool,
    /// `--memory-limit` in bytes, for the pools of `--find-pool`.
    pub memory_limit: Option<u64>,
}

/// Which server is loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// One that is there.
    Url(FtpUrl),
    /// `--find-pool`: servers that are started on this folder.
    Folder(PathBuf),
}

/// What a session does between its login and its QUIT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Nothing.
    Logon,
    /// RETR of a file.
    Fetch,
    /// LIST of the folder.
    List,
    /// STOR of a new file, and DELE.
    Upload,
    /// Stays at the prompt.
    Idle,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 5] = [Kind::Logon, Kind::Fetch, Kind::List, Kind::Upload, Kind::Idle];

    /// Its name in `--mix`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Logon => "logon",
            Kind::Fetch => "fetch",
            Kind::List => "list",
            Kind::Upload => "upload",
            Kind::Idle => "idle",
        }
    }
}

/// Sessions a second, to the thousandth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate(u64);

impl Rate {
    /// Sessions a second.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    pub fn per_second(self) -> f64 {
        self.0 as f64 / 1000.0
    }
}

impl Load {
    /// The time that is enough, as it is typed, where that of a run is short beside how long clients stay because they are
    /// told to: what is seen then is how they come, and not how it is with all of them there.
    #[must_use]
    pub fn duration_needed(&self) -> Option<String> {
        let idles = self.mix.iter().any(|(kind, _)| *kind == Kind::Idle);
        // Who only pauses begins in the middle of a pause.
        let enough = stay(&self.mix, self.idle_for, self.think).saturating_mul(STAYS).min(limits::TIMEOUT_MAX);
        self.duration.filter(|duration| idles && *duration < enough).map(|_| units::time_text(enough))
    }

    /// Checks what was typed.
    pub(super) fn new(args: LoadArgs, typed_target: Option<OsString>) -> Result<Self, ConfigError> {
        let mut problems = Problems::default();
        let sessions = problems.value("--sessions", &args.sessions, None, |value| {
            units::count(value, 1..=SESSIONS_MAX).map(|count| Some(count as u64))
        });
        let mix = problems.value("--mix", &args.mix, vec![(Kind::Fetch, 1)], mix);
        let rate = problems.value("--rate", &args.rate, None, |value| rate(value).map(Some));
        let clients = if rate.is_some() { CLIENTS_OPEN } else { CLIENTS };
        let clients = problems.value("--clients", &args.clients, clients, |value| units::count(value, 1..=CLIENTS_MAX));
        let think = problems.value("--think", &args.think, Duration::ZERO, think);
        let idle_for = problems.value("--idle-for", &args.idle_for, IDLE_FOR, units::time);
        let duration = match (args.find_pool, sessions) {
            (true, _) => Some((stay(&mix, idle_for, think) * STAYS).clamp(DURATION_POOL, DURATION_POOL_MAX)),
            (false, None) => Some(DURATION),
            (false, Some(_)) => None,
        };
        let duration = problems.value("--duration", &args.duration, duration, |value| units::time(value).map(Some));
        let upload_size = problems
            .value("--upload-size", &args.upload_size, UPLOAD_SIZE, |value| units::size(value, 1..=UPLOAD_SIZE_MAX));
        let timeout = problems.value("--timeout", &args.timeout, TIMEOUT, units::time);
        let memory_limit = problems.value("--memory-limit", &args.memory_limit, None, |value| {
            units::or_off(value, |value| units::size(value, limits::MEMORY_LIMIT_MIN..=MEMORY_LIMIT_MAX))
        });
        let mut at_odds = |flag, odd: bool, why: &str| {
            if odd {
                problems.add(flag, Fault::usage(why.to_owned()));
            }
        };
        at_odds("--think", rate.is_some() && !think.is_zero(), "--rate alone says when sessions begin");
        at_odds("--memory-limit", memory_limit.is_some() && !args.find_pool, "bounds the pools of --find-pool only");
        at_odds("--sessions", args.sessions.is_some() && args.find_pool, "--find-pool takes --duration, for each pool");
        let uploads = mix.iter().any(|(kind, _)| *kind == Kind::Upload);
        at_odds("--mix", uploads && args.find_pool, "upload: the servers of --find-pool take no uploads");
        let one_file = args.json.is_some() && args.json == args.plot;
        at_odds("--plot", one_file, "it is the file of --json as well");
        let target = target(args.find_pool, typed_target, &mut problems);
        let json = file("--json", args.json, &mut problems);
        let plot = file("--plot", args.plot, &mut problems);
        problems.none_or_error()?;
        Ok(Self {
            // No problem was found, so there is one.
            target: target.unwrap_or(Target::Folder(".".into())),
            clients,
            sessions,
            duration,
            mix,
            rate,
            think,
            idle_for,
            upload_size,
            timeout,
            json,
            plot,
            i_own_this_server: args.i_own_this_server,
            memory_limit,
        })
    }
}

/// How long a client stays and pauses because it was told to, where it stays.
fn stay(mix: &[(Kind, u32)], idle_for: Duration, think: Duration) -> Duration {
    let idles = mix.iter().any(|(kind, _)| *kind == Kind::Idle);
    if idles { think + idle_for } else { think }
}

fn target(find_pool: bool, typed: Option<OsString>, problems: &mut Problems) -> Option<Target> {
    let result = match (find_pool, typed) {
        (true, None) => Ok(Target::Folder(".".into())),
        (true, Some(folder)) if folder.is_empty() => Err("\"\" is not a folder".to_owned()),
        (true, Some(folder)) if folder.as_encoded_bytes().starts_with(b"ftp://") => {
            Err("--find-pool takes a folder, which it serves itself".to_owned())
        }
        (true, Some(folder)) => Ok(Target::Folder(folder.into())),
        (false, None) => Err("none given: try \"plimsoll load ftp://localhost:2121/\"".to_owned()),
        (false, Some(text)) => url::parse(&text.to_string_lossy()).map(Target::Url),
    };
    problems.note("URL", result.map_err(Fault::usage))
}

fn file(flag: &'static str, typed: Option<String>, problems: &mut Problems) -> Option<PathBuf> {
    let typed = typed?;
    if typed.is_empty() {
        problems.add(flag, Fault::usage("\"\" is not a file".to_owned()));
    }
    // Elsewhere that is standard output, which has the table.
    if typed == "-" {
        problems.add(flag, Fault::usage("\"-\" is not a file; ./- is".to_owned()));
    }
    Some(typed.into())
}

/// A mean pause: a time, or 0.
fn think(value: &str) -> Result<Duration, units::Expected> {
    if value == "0" {
        return Ok(Duration::ZERO);
    }
    units::time(value).map_err(|expected| expected + " or 0")
}

/// Sessions a second: a whole number, or one with up to three decimals.
fn rate(value: &str) -> Result<Rate, units::Expected> {
    let (whole, decimals) = value.split_once('.').unwrap_or((value, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let thousandths = (digits(whole) && digits(decimals) && decimals.len() <= 3)
        .then(|| format!("{whole}{decimals:0<3}").parse::<u64>().ok())
        .flatten();
    thousandths
        .filter(|rate| RATES.contains(rate))
        .map(Rate)
        .ok_or_else(|| "sessions a second from 0.01 to 100000".to_owned())
}

/// Kinds with their weights, each kind once.
fn mix(value: &str) -> Result<Vec<(Kind, u32)>, units::Expected> {
    let mut mix: Vec<(Kind, u32)> = Vec::new();
    for part in value.split(',') {
        let (name, weight) = part.split_once('=').unwrap_or((part, "1"));
        let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name);
        let weight = units::count(weight, 1..=WEIGHT_MAX).ok().and_then(|weight| u32::try_from(weight).ok());
        match (kind, weight) {
            (Some(kind), Some(weight)) if mix.iter().all(|(known, _)| *known != kind) => mix.push((kind, weight)),
            _ => {
                return Err(format!(
                    "logon, fetch, list, upload or idle, each once, with weights from 1 to {WEIGHT_MAX}: fetch=3,list"
                ));
            }
        }
    }
    Ok(mix)
}

#[cfg(test)]
mod tests {
    use argh::ArgsInfo;

    use super::*;
    use crate::config::{Invocation, from_arguments};

    const URL: &str = "ftp://127.0.0.1:2121/a";

    fn load(line: &[&str]) -> Result<Load, Vec<String>> {
        match from_arguments(["load"].iter().chain(line).map(OsString::from)) {
            Ok(Invocation::Load(load)) => Ok(load),
            Err(error) => {
                assert_eq!(error.exit_code(), 2);
                Err(error.lines().to_vec())
            }
            other => panic!("{line:?}: {other:?}"),
        }
    }

    #[test]
    fn defaults() {
        let load = load(&[URL]).unwrap();
        assert!(matches!(&load.target, Target::Url(url) if url.to_string() == URL));
        assert_eq!((load.clients, load.sessions, load.duration), (8, None, Some(DURATION)));
        assert_eq!((load.mix, load.rate, load.think), (vec![(Kind::Fetch, 1)], None, Duration::ZERO));
        assert_eq!((load.idle_for, load.upload_size, load.timeout), (IDLE_FOR, 1 << 20, TIMEOUT));
        assert_eq!((load.json, load.plot, load.memory_limit, load.i_own_this_server), (None, None, None, false));
    }

    #[test]
    fn an_end_is_always_there() {
        let ends = |line: &[&str]| load(line).map(|load| (load.sessions, load.duration)).unwrap();
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(ends(&[URL, "--sessions", "9"]), (Some(9), None));
        assert_eq!(ends(&[URL, "--sessions", "9", "--duration", "4s"]), (Some(9), seconds(4)));
        assert_eq!(ends(&["--find-pool"]), (None, Some(DURATION_POOL)));
        assert_eq!(ends(&["--find-pool", "/srv", "--duration", "1"]), (None, seconds(1)));
    }

    #[test]
    fn a_pool_is_tried_for_several_times_what_clients_stay() {
        let tried = |line: &[&str]| {
            let load = load(&[&["--find-pool"], line].concat()).unwrap();
            (load.duration.unwrap().as_secs(), load.duration_needed())
        };
        // What nobody does takes no time.
        assert_eq!(tried(&["--mix", "fetch"]), (3, None));
        assert_eq!(tried(&["--think", "2s"]), (6, None));
        assert_eq!(tried(&["--mix", "idle,list", "--think", "2s", "--idle-for", "4s"]), (18, None));
        assert_eq!(tried(&["--mix", "idle"]), (30, None));
        assert_eq!(tried(&["--mix", "idle", "--idle-for", "10m"]), (60, Some("30m".to_owned())));
        assert_eq!(tried(&["--mix", "idle", "--duration", "3s"]), (3, Some("30s".to_owned())));
    }

    #[test]
    fn mixes_and_rates() {
        assert_eq!(mix("fetch=3,logon,idle=1000"), Ok(vec![(Kind::Fetch, 3), (Kind::Logon, 1), (Kind::Idle, 1000)]));
        for value in ["", ",", "fetch,", "fetch,fetch=2", "fetch=0", "fetch=1001", "fetch=", "Fetch", "stor", "a=b"] {
            assert!(mix(value).is_err(), "{value:?}");
        }
        for (value, expected) in [("1", 1.0), ("0.01", 0.01), ("12.5", 12.5), ("100000", 100_000.0), ("0.125", 0.125)] {
            assert!((rate(value).unwrap().per_second() - expected).abs() < 1e-9, "{value:?}");
        }
        for value in ["", "0", "0.009", ".5", "5.", "1.0001", "-1", "+1", "1e3", "100000.001", "9999999999999999999"] {
            assert!(rate(value).is_err(), "{value:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_one_line_that_names_the_flag() {
        let cases: [(&[&str], &str); 17] = [
            (&[], "URL: none given"),
            (&["x"], "URL: \"x\" is not a URL"),
            (&["--find-pool", "ftp://h/"], "URL: --find-pool takes a folder"),
            (&["--find-pool", ""], "URL: \"\" is not a folder"),
            (&[URL, "--clients", "4097"], "--clients: \"4097\" is not a whole number from 1 to 4096"),
            (&[URL, "--sessions", "0"], "--sessions: \"0\" is not"),
            (&["--find-pool", "--sessions", "5"], "--sessions: --find-pool takes --duration"),
            (&[URL, "--memory-limit", "64M"], "--memory-limit: bounds the pools of --find-pool only"),
            (&[URL, "--mix", "all"], "--mix: \"all\" is not logon, fetch"),
            (&[URL, "--rate", "0"], "--rate: \"0\" is not sessions a second"),
            (&[URL, "--rate", "5", "--think", "1s"], "--think: --rate alone says"),
            (&[URL, "--think", "x"], "--think: \"x\" is not a time from 100ms to 7d or 0"),
            (&[URL, "--upload-size", "0"], "--upload-size: \"0\" is not a size"),
            (&["--find-pool", "--mix", "fetch,upload"], "--mix: upload: the servers of --find-pool take"),
            (&[URL, "--json", "a", "--plot", "a"], "--plot: it is the file of --json"),
            (&[URL, "--json="], "--json: \"\" is not a file"),
            (&[URL, "--plot", "-"], "--plot: \"-\" is not a file"),
        ];
        for (line, expected) in cases {
            let lines = load(line).unwrap_err();
            assert!(lines.len() == 1 && lines[0].starts_with(expected), "{line:?}: {lines:?}");
        }
        assert_eq!(load(&["--clients", "0", "--mix", "x", "--timeout", "0"]).unwrap_err().len(), 4);
    }

    #[test]
    fn help_names_every_flag_with_its_default() {
        let help = match from_arguments(["load", "--help"].map(OsString::from)) {
            Ok(Invocation::Print(text)) => text.split_whitespace().collect::<Vec<_>>().join(" "),
            other => panic!("{other:?}"),
        };
        let (time, pool) = (units::time_text(DURATION), units::time_text(DURATION_POOL));
        let expected = [
            ("--help", "display usage information".to_owned()),
            ("--clients", format!("(default {CLIENTS}, or {CLIENTS_OPEN} with --rate)")),
            ("--sessions", "(default: as many as there are in --duration)".to_owned()),
            (
                "--duration",
                format!(
                    "(default {time}; none where --sessions is given; for each pool of --find-pool {pool}, or, up to \
                     {}, three times --think and --idle-for)",
                    units::time_text(DURATION_POOL_MAX)
                ),
            ),
            ("--mix", "(default fetch)".to_owned()),
            ("--rate", "(default: each client begins its next session when its last has ended)".to_owned()),
            ("--think", "(default 0)".to_owned()),
            ("--idle-for", format!("(default {})", units::time_text(IDLE_FOR))),
            ("--upload-size", format!("(default {})", units::size_text(UPLOAD_SIZE))),
            ("--timeout", format!("(default {})", units::time_text(TIMEOUT))),
            ("--json", "(default: none)".to_owned()),
            ("--plot", "(default: none)".to_owned()),
            ("--i-own-this-server", "(default: it is refused)".to_owned()),
            ("--find-pool", "(default: load the server at URL)".to_owned()),
            ("--memory-limit", "(default off)".to_owned()),
            ("--version", "print the version and leave".to_owned()),
        ];
        let flags = LoadArgs::get_args_info().flags;
        let names: Vec<_> = flags.iter().map(|flag| flag.long).collect();
        assert_eq!(names, expected.each_ref().map(|(name, _)| *name));
        for (flag, (name, default)) in flags.iter().zip(expected) {
            assert!(flag.description.ends_with(&default), "{name}: {:?} lacks {default:?}", flag.description);
            assert!(help.contains(&format!("{name} {}", flag.description)) || name == "--help", "{name}: {help}");
        }
    }
}
