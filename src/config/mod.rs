//! The configuration: flags as typed become a [`Config`] in which every value is valid.
//!
//! Owns the meaning of each flag, its default and its bounds; finds every error before it reports
//! any. Reads the banner's file and resolves names, once; never logs, prints or ends the process.

mod access;
mod addresses;
mod args;
mod banner;
pub mod load;
mod load_args;
pub mod passwd;
mod passwd_args;
mod problems;
mod serve_args;
mod timeouts;
pub mod url;
mod values;

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;

use log::LevelFilter;

pub use self::access::{Access, Anonymous, DropBox, MinFree, Records, Storing};
use self::args::Typed;
pub use self::problems::ConfigError;
pub(crate) use self::problems::plain;
use self::problems::{Fault, Problems};
use self::serve_args::ServeArgs;
pub use self::timeouts::Timeouts;
use crate::{limits, units};

/// `--listen`: the port of the default address. Port 21 would need privileges.
const DEFAULT_PORT: u16 = 2121;

/// `--banner`: says that the server is ready, and no version to those who collect them.
const DEFAULT_BANNER: &str = "plimsoll ready";

/// `--max-per-ip`: least default, so that a browser or a mirror with a few connections fits a small
/// pool as well.
const MAX_PER_ADDRESS_MIN: usize = 4;

/// Largest `--min-rate` in bytes a second that is believed to be meant; over the longest stall
/// timeout it still fits a `u64`.
const MIN_RATE_MAX: u64 = 1 << 30;
/// Most bytes of `--memory-limit` that are believed to be meant.
const MEMORY_LIMIT_MAX: u64 = 1 << 44;

/// Most sessions that there can be, so also the most that a cap on some of them can mean.
const SESSIONS_MAX: usize = limits::WORKERS_MAX + limits::QUEUE_MAX;

/// Reads the command line, without the program's own name.
///
/// # Errors
/// Everything that is wrong with it, each in a line of its own.
pub fn from_arguments<I>(arguments: I) -> Result<Invocation, ConfigError>
where
    I: IntoIterator<Item = OsString>,
{
    match args::parse(arguments.into_iter()) {
        Ok(Typed::Print(text)) => Ok(Invocation::Print(text)),
        Ok(Typed::Serve(args, root)) => Config::new(*args, root).map(Invocation::Serve),
        Ok(Typed::Load(args, target)) => load::Load::new(*args, target).map(Invocation::Load),
        Ok(Typed::Passwd(args, file)) => passwd::Passwd::new(*args, file).map(Invocation::Passwd),
        Err(lines) => Err(ConfigError::usage(lines)),
    }
}

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "there is one, for a moment, at start")]
pub enum Invocation {
    /// Run a server.
    Serve(Config),
    /// Load a server.
    Load(load::Load),
    /// Work on an accounts file.
    Passwd(passwd::Passwd),
    /// Print this text, help or the version, to standard output and exit with 0. It ends with a
    /// line end.
    Print(String),
}

/// How to serve: every value has been checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    root: PathBuf,
    listen: Vec<SocketAddr>,
    listen_is_default: bool,
    workers: usize,
    workers_auto: bool,
    queue: usize,
    memory_limit: Option<u64>,
    stack_size: usize,
    timeouts: Timeouts,
    min_rate: Option<u64>,
    max_per_address: Cap,
    max_per_user: Cap,
    max_unauthenticated: Cap,
    wide_transfers: Option<usize>,
    listing_memory: Option<u64>,
    passive_ports: RangeInclusive<u16>,
    passive_address: Option<Ipv4Addr>,
    active: bool,
    access: Access,
    storing: Storing,
    records: Records,
    banner_typed: Option<String>,
    banner: Vec<String>,
    log_level: Option<LevelFilter>,
}

/// A cap as typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cap {
    /// Not typed: it follows from the number of workers.
    Derived,
    Off,
    At(usize),
}

impl Cap {
    fn or(self, derived: Option<usize>) -> Option<usize> {
        match self {
            Cap::Derived => derived,
            Cap::Off => None,
            Cap::At(cap) => Some(cap),
        }
    }
}

impl Config {
    fn new(args: ServeArgs, root: Option<OsString>) -> Result<Self, ConfigError> {
        let mut problems = Problems::default();
        let timeouts = timeouts::parse(&args, &mut problems);
        let workers = problems.value("--workers", &args.workers, Some(limits::WORKERS), |value| match value {
            "auto" => Ok(None),
            value => units::count(value, 1..=limits::WORKERS_MAX).map(Some).map_err(|expected| expected + " or auto"),
        });
        let memory_limit = problems.value("--memory-limit", &args.memory_limit, None, |value| {
            units::or_off(value, |value| units::size(value, limits::MEMORY_LIMIT_MIN..=MEMORY_LIMIT_MAX))
        });
        let queue =
            problems.value("--queue", &args.queue, limits::QUEUE, |value| units::count(value, 1..=limits::QUEUE_MAX));
        let stack_size = problems.value("--stack-size", &args.stack_size, limits::STACK_SIZE, |value| {
            units::size(value, limits::STACK_SIZE_MIN..=limits::STACK_SIZE_MAX)
        });
        let min_rate = problems.value("--min-rate", &args.min_rate, Some(limits::MIN_RATE), |value| {
            units::or_off(value, |value| units::size(value, 1..=MIN_RATE_MAX))
        });
        let mut cap = |flag, typed| {
            let count = |value: &str| units::count(value, 1..=SESSIONS_MAX);
            let parse = |value: &str| units::or_off(value, count).map(|cap| cap.map_or(Cap::Off, Cap::At));
            problems.value(flag, typed, Cap::Derived, parse)
        };
        let max_per_address = cap("--max-per-ip", &args.max_per_ip);
        let max_per_user = cap("--max-per-user", &args.max_per_user);
        let max_unauthenticated = cap("--max-unauthenticated", &args.max_unauthenticated);
        let wide_transfers = problems.value("--wide-transfers", &args.wide_transfers, None, |value| {
            units::count(value, 0..=limits::WORKERS_MAX).map(Some)
        });
        let listing_memory = problems.value("--listing-memory", &args.listing_memory, None, |value| {
            let least = limits::LISTING_PIECE as u64;
            units::or_off(value, |value| units::size(value, least..=limits::LISTING_MEMORY_MAX))
                .map(|size| Some(size.unwrap_or(0)))
        });
        let banner = banner::lines(args.banner.as_deref().unwrap_or(DEFAULT_BANNER));
        let passive_address = args.passive_address.as_deref().map(addresses::passive);
        let config = Self {
            root: root_folder(root, &mut problems),
            listen: listen(&args.listen, &mut problems),
            listen_is_default: args.listen.is_empty(),
            workers: workers.unwrap_or(limits::WORKERS),
            workers_auto: workers.is_none(),
            queue,
            memory_limit,
            stack_size: usize::try_from(stack_size).unwrap_or(usize::MAX),
            timeouts,
            min_rate,
            max_per_address,
            max_per_user,
            max_unauthenticated,
            wide_transfers,
            listing_memory,
            passive_ports: passive_ports(&args, workers.unwrap_or(1), &mut problems),
            passive_address: passive_address.and_then(|address| problems.note("--passive-address", address)),
            active: !args.no_active,
            access: access::access(&args, &mut problems),
            storing: access::storing(&args, &mut problems),
            records: access::records(&args, &mut problems),
            banner_typed: args.banner.clone(),
            banner: problems.note("--banner", banner).unwrap_or_default(),
            log_level: problems.value("--log", &args.log, None, |value| log_level(value).map(Some)),
        };
        problems.none_or_error()?;
        Ok(config)
    }
}

fn root_folder(typed: Option<OsString>, problems: &mut Problems) -> PathBuf {
    let root = typed.unwrap_or_else(|| ".".into());
    if root.is_empty() {
        problems.add("ROOT", Fault::usage("\"\" is not a folder".to_owned()));
    }
    root.into()
}

fn listen(typed: &[String], problems: &mut Problems) -> Vec<SocketAddr> {
    let every = addresses::every_address();
    if typed.is_empty() {
        return vec![SocketAddr::new(every, DEFAULT_PORT)];
    }
    let mut listen = Vec::new();
    for value in typed {
        for address in problems.note("--listen", addresses::listen(value, every)).unwrap_or_default() {
            // Two names may stand for one address; port 0 is another port each time.
            if address.port() == 0 || !listen.contains(&address) {
                listen.push(address);
            }
        }
    }
    if listen.len() > limits::LISTEN_MAX {
        let text = format!("{} addresses, more than {}", listen.len(), limits::LISTEN_MAX);
        problems.add("--listen", Fault::usage(text));
    }
    listen
}

/// Every worker may hold a passive port at once, so there must be one for each.
fn passive_ports(args: &ServeArgs, workers: usize, problems: &mut Problems) -> RangeInclusive<u16> {
    let (low, high) = limits::PASSIVE_PORTS;
    let ports = problems.value("--passive-ports", &args.passive_ports, low..=high, units::ports);
    let sound = !problems.concern("--workers") && !problems.concern("--passive-ports");
    if sound && ports.len() < workers {
        let typed = format!("{}-{}", ports.start(), ports.end());
        let text = format!("{typed:?} holds {} ports, fewer than the {workers} of --workers", ports.len());
        problems.add("--passive-ports", Fault::usage(text));
    }
    ports
}

fn log_level(value: &str) -> Result<LevelFilter, units::Expected> {
    value.parse().map_err(|_| "one of off, error, warn, info, debug, trace".to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;
    use std::path::Path;

    use super::*;

    fn configure(flags: &[&str]) -> Result<Config, ConfigError> {
        let arguments = ["serve"].iter().chain(flags).map(OsString::from);
        match from_arguments(arguments)? {
            Invocation::Serve(config) => Ok(config),
            other => panic!("{flags:?}: {other:?}"),
        }
    }

    /// A flag, what its accessor says, and what it has to say for each value.
    type Case = (&'static str, fn(&Config) -> String, &'static [(&'static str, &'static str)]);

    fn set(flag: &str, value: &str) -> Config {
        configure(&[flag, value]).unwrap_or_else(|error| panic!("{flag} {value:?}: {error}"))
    }

    #[test]
    fn defaults_are_those_of_limits() {
        let config = configure(&[]).unwrap();
        assert_eq!(config.root(), Path::new("."));
        let every = addresses::every_address();
        assert_eq!(config.listen(), [SocketAddr::new(every, 2121)]);
        assert!(config.listen_is_default());
        assert_eq!(config.workers(), limits::WORKERS);
        assert_eq!(config.queue(), limits::QUEUE);
        assert_eq!(config.stack_size(), 128 * 1024);
        let timeouts = Timeouts {
            idle: limits::IDLE_TIMEOUT,
            login: limits::LOGIN_TIMEOUT,
            data: limits::DATA_TIMEOUT,
            stall: limits::STALL_TIMEOUT,
            queue: limits::QUEUE_TIMEOUT,
            grace: limits::GRACE,
            session: None,
            shed: limits::SHED_AFTER,
        };
        assert_eq!(*config.timeouts(), timeouts);
        assert_eq!(config.min_rate(), Some(limits::MIN_RATE));
        assert_eq!(config.max_per_address(), Some(64));
        assert_eq!(config.max_per_user(), None);
        assert_eq!(config.max_unauthenticated(), Some(192));
        assert_eq!(config.passive_ports(), 20_000..=29_999);
        assert_eq!(config.passive_address(), None);
        assert!(config.active());
        assert_eq!(config.banner(), ["plimsoll ready"]);
        assert_eq!(config.log_level(), None);
    }

    #[test]
    fn defaults_are_within_their_own_bounds() {
        let time = |time| units::time(&units::time_text(time)).unwrap();
        for timeout in [
            limits::IDLE_TIMEOUT,
            limits::LOGIN_TIMEOUT,
            limits::DATA_TIMEOUT,
            limits::STALL_TIMEOUT,
            limits::QUEUE_TIMEOUT,
            limits::GRACE,
            limits::SHED_AFTER,
        ] {
            assert_eq!(time(timeout), timeout);
        }
        let (low, high) = limits::PASSIVE_PORTS;
        set("--workers", &limits::WORKERS.to_string());
        set("--queue", &limits::QUEUE.to_string());
        set("--stack-size", &units::size_text(limits::STACK_SIZE));
        set("--min-rate", &units::size_text(limits::MIN_RATE));
        set("--passive-ports", &format!("{low}-{high}"));
        set("--banner", DEFAULT_BANNER);
    }

    #[test]
    fn good_values_reach_their_accessor() {
        let cases: [Case; 26] = [
            ("--workers", |c| c.workers().to_string(), &[("1", "1"), ("10000", "10000")]),
            ("--workers", |c| c.workers_auto().to_string(), &[("auto", "true"), ("1", "false")]),
            ("--memory-limit", |c| format!("{:?}", c.memory_limit()), &[("off", "None"), ("64M", "Some(67108864)")]),
            ("--shed-after", |c| format!("{:?}", c.timeouts().shed), &[("500ms", "500ms")]),
            ("--queue", |c| c.queue().to_string(), &[("1", "1"), ("16384", "16384")]),
            ("--stack-size", |c| c.stack_size().to_string(), &[("64K", "65536"), ("64MiB", "67108864")]),
            ("--idle-timeout", |c| format!("{:?}", c.timeouts().idle), &[("100ms", "100ms"), ("7d", "604800s")]),
            ("--login-timeout", |c| format!("{:?}", c.timeouts().login), &[("5", "5s")]),
            ("--data-timeout", |c| format!("{:?}", c.timeouts().data), &[("1m", "60s")]),
            ("--stall-timeout", |c| format!("{:?}", c.timeouts().stall), &[("2h", "7200s")]),
            ("--queue-timeout", |c| format!("{:?}", c.timeouts().queue), &[("500ms", "500ms")]),
            ("--grace", |c| format!("{:?}", c.timeouts().grace), &[("1d", "86400s")]),
            ("--session-timeout", |c| format!("{:?}", c.timeouts().session), &[("off", "None"), ("1h", "Some(3600s)")]),
            ("--min-rate", |c| format!("{:?}", c.min_rate()), &[("off", "None"), ("4K", "Some(4096)")]),
            ("--max-per-ip", |c| format!("{:?}", c.max_per_address()), &[("off", "None"), ("1", "Some(1)")]),
            ("--max-per-user", |c| format!("{:?}", c.max_per_user()), &[("off", "None"), ("9", "Some(9)")]),
            (
                "--max-unauthenticated",
                |c| format!("{:?}", c.max_unauthenticated()),
                &[("off", "None"), ("32768", "Some(32768)")],
            ),
            ("--wide-transfers", |c| c.wide_transfers().to_string(), &[("0", "0"), ("9", "9"), ("16384", "256")]),
            (
                "--listing-memory",
                |c| c.listing_memory().to_string(),
                &[("off", "0"), ("64K", "65536"), ("1G", "1073741824")],
            ),
            (
                "--passive-ports",
                |c| format!("{:?}", c.passive_ports()),
                &[("50000-50999", "50000..=50999"), ("1-256", "1..=256")],
            ),
            (
                "--passive-address",
                |c| format!("{:?}", c.passive_address()),
                &[("192.0.2.7", "Some(192.0.2.7)"), ("localhost", "Some(127.0.0.1)")],
            ),
            ("--banner", |c| c.banner().join("|"), &[("hello", "hello"), ("a\nb", "a|b")]),
            (
                "--log",
                |c| format!("{:?}", c.log_level()),
                &[
                    ("off", "Some(Off)"),
                    ("error", "Some(Error)"),
                    ("warn", "Some(Warn)"),
                    ("info", "Some(Info)"),
                    ("debug", "Some(Debug)"),
                    ("trace", "Some(Trace)"),
                ],
            ),
            ("--listen", |c| format!("{:?}", c.listen()), &[("[::1]:0", "[[::1]:0]"), ("1.2.3.4:5", "[1.2.3.4:5]")]),
            ("--listen", |c| c.listen_is_default().to_string(), &[("2121", "false")]),
            ("--", |c| c.root().display().to_string(), &[("/srv/ftp", "/srv/ftp"), ("--odd", "--odd")]),
        ];
        for (flag, accessor, values) in cases {
            for (value, expected) in values {
                assert_eq!(accessor(&set(flag, value)), *expected, "{flag} {value:?}");
            }
        }
        assert!(!configure(&["--no-active"]).unwrap().active());
    }

    #[test]
    fn bad_values_are_refused_with_flag_value_and_bounds() {
        let time = "a time from 100ms to 7d";
        let sessions = "a whole number from 1 to 32768 or off";
        let cases = [
            ("--workers", &["0", "16385", "x", ""][..], "a whole number from 1 to 16384 or auto".to_owned()),
            ("--memory-limit", &["0", "1023K", "32768G"], "a size from 1M to 16384G or off".to_owned()),
            ("--shed-after", &["0", "off"], time.to_owned()),
            ("--queue", &["0", "16385", "-1"], "a whole number from 1 to 16384".to_owned()),
            ("--stack-size", &["63K", "65M", "off"], "a size from 64K to 64M".to_owned()),
            ("--min-rate", &["0", "2G", "slow"], "a size from 1 to 1G or off".to_owned()),
            ("--idle-timeout", &["0", "8d", "off"], time.to_owned()),
            ("--login-timeout", &["99ms", "off"], time.to_owned()),
            ("--data-timeout", &["5 m"], time.to_owned()),
            ("--stall-timeout", &["1w"], time.to_owned()),
            ("--queue-timeout", &["0"], time.to_owned()),
            ("--grace", &["0s"], time.to_owned()),
            ("--session-timeout", &["0", "never"], format!("{time} or off")),
            ("--max-per-ip", &["0", "32769", "no"], sessions.to_owned()),
            ("--max-per-user", &["0", "32769"], sessions.to_owned()),
            ("--wide-transfers", &["-1", "16385", "off"], "a whole number from 0 to 16384".to_owned()),
            ("--listing-memory", &["0", "63K", "1025M"], "a size from 64K to 1G or off".to_owned()),
            ("--max-unauthenticated", &["0", "32769"], sessions.to_owned()),
            (
                "--passive-ports",
                &["0-500", "2-1", "5000", "1-65536"],
                "a range of ports LO-HI from 1 to 65535, the lower one first".to_owned(),
            ),
            ("--passive-address", &["10.1", ""], "an IPv4 address or a host name".to_owned()),
            ("--listen", &["::1", "x"], "HOST:PORT, [IPv6]:PORT, :PORT or a port".to_owned()),
            ("--log", &["loud", ""], "one of off, error, warn, info, debug, trace".to_owned()),
            ("--", &[""], "a folder".to_owned()),
        ];
        for (flag, values, expected) in cases {
            for value in values {
                let error = configure(&[flag, value]).unwrap_err();
                let name = if flag == "--" { "ROOT" } else { flag };
                assert_eq!(error.lines(), [format!("{name}: {value:?} is not {expected}")]);
                assert_eq!(error.exit_code(), 2);
            }
        }
        let error = configure(&["--banner", "a\tb"]).unwrap_err();
        assert_eq!(error.lines(), ["--banner: line 1 holds the control character '\\t'"]);
    }

    #[test]
    fn caps_follow_the_workers() {
        let caps = |flags: &[&str]| {
            let config = configure(flags).unwrap();
            (config.max_per_address(), config.max_unauthenticated())
        };
        assert_eq!(caps(&["--workers", "1", "--queue", "1"]), (Some(4), Some(1)));
        assert_eq!(caps(&["--workers", "19", "--queue", "3"]), (Some(4), Some(12)));
        assert_eq!(caps(&["--workers", "20"]), (Some(5), Some(74)));
    }

    #[test]
    fn a_passive_range_without_a_port_for_each_worker_is_refused() {
        let error = |flags: &[&str]| configure(flags).unwrap_err().to_string();
        assert_eq!(
            error(&["--passive-ports", "50000-50254"]),
            "--passive-ports: \"50000-50254\" holds 255 ports, fewer than the 256 of --workers"
        );
        assert_eq!(
            error(&["--workers", "10001"]),
            "--passive-ports: \"20000-29999\" holds 10000 ports, fewer than the 10001 of --workers"
        );
        assert!(configure(&["--passive-ports", "50000-50255"]).is_ok());
        assert!(configure(&["--passive-ports", "5-5", "--workers", "1"]).is_ok());
        // A flag that is wrong by itself says nothing about the other.
        assert_eq!(
            error(&["--passive-ports", "50000-50001", "--workers", "x"]),
            "--workers: \"x\" is not a whole number from 1 to 16384 or auto"
        );
    }

    #[test]
    fn addresses_to_listen_on_add_up() {
        let listen = |values: &[&str]| {
            let flags: Vec<_> = values.iter().flat_map(|value| ["--listen", value]).collect();
            configure(&flags).map(|config| config.listen().to_vec())
        };
        let ports = |count: usize| (1..=count).map(|port| format!("127.0.0.1:{port}")).collect::<Vec<_>>();
        let most = ports(limits::LISTEN_MAX);
        let most: Vec<_> = most.iter().map(String::as_str).collect();
        assert_eq!(listen(&most).unwrap().len(), limits::LISTEN_MAX);
        assert_eq!(listen(&["127.0.0.1:1", "127.0.0.1:1"]).unwrap().len(), 1);
        assert_eq!(listen(&["127.0.0.1:0", "127.0.0.1:0"]).unwrap().len(), 2);
        let more = ports(limits::LISTEN_MAX + 1);
        let more: Vec<_> = more.iter().map(String::as_str).collect();
        assert_eq!(listen(&more).unwrap_err().to_string(), "--listen: 17 addresses, more than 16");
    }

    #[test]
    fn every_error_is_reported_at_once() {
        let error =
            configure(&["--workers=0", "--listen=a b", "--listen=::", "--banner=", "--grace", "x"]).unwrap_err();
        let mut lines = error.lines().to_vec();
        lines.sort();
        let expected = [
            "--banner: no text",
            "--grace: \"x\" is not a time from 100ms to 7d",
            "--listen: \"::\" is not HOST:PORT, [IPv6]:PORT, :PORT or a port",
            "--listen: \"a b\" is not HOST:PORT, [IPv6]:PORT, :PORT or a port",
            "--workers: \"0\" is not a whole number from 1 to 16384 or auto",
        ];
        assert_eq!(lines, expected);
        assert_eq!(error.to_string().lines().count(), expected.len());
    }

    #[test]
    fn errors_of_the_environment_exit_with_1_unless_usage_is_wrong_too() {
        let absent = "--banner=@/nonexistent/banner";
        let error = configure(&[absent]).unwrap_err();
        assert_eq!(error.exit_code(), 1);
        assert_eq!(error.to_string(), "--banner: file \"/nonexistent/banner\": no such file or directory");
        let error = configure(&["--passive-address", "no..where"]).unwrap_err();
        assert_eq!(error.exit_code(), 1, "{error}");
        let error = configure(&["--listen", "no..where:21"]).unwrap_err();
        assert_eq!(error.exit_code(), 1, "{error}");
        let error = configure(&[absent, "--workers", "0"]).unwrap_err();
        assert_eq!((error.exit_code(), error.lines().len()), (2, 2));
    }

    #[test]
    fn root_is_kept_byte_for_byte() {
        let root = OsString::from_vec(b"/srv/\xff".to_vec());
        match from_arguments(["serve".into(), root.clone()]) {
            Ok(Invocation::Serve(config)) => assert_eq!(config.root().as_os_str(), root),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn help_and_version_are_printed_and_nothing_is_served() {
        let print = |arguments: &[&str]| match from_arguments(arguments.iter().map(OsString::from)) {
            Ok(Invocation::Print(text)) => text,
            other => panic!("{arguments:?}: {other:?}"),
        };
        assert_eq!(print(&["--version"]), "plimsoll 0.1.0\n");
        assert!(print(&["serve", "--help"]).contains("--max-unauthenticated"));
        let error = from_arguments([]).unwrap_err();
        assert_eq!((error.exit_code(), error.lines().len()), (2, 1));
    }
}
