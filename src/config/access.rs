//! Who may come in, what they may change, and what is written down of it.

use std::path::PathBuf;

use super::problems::{Fault, Problems};
use super::serve_args::ServeArgs;
use super::units;
use crate::limits;
use crate::proto::params::parse_mode_bits;

/// Most bytes a second of a rate, and most bytes of a cap on files, that are believed to be meant.
const SIZE_MAX: u64 = 1 << 50;

/// `--accounts` and all that is about users.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// `--accounts`: the file of users; `None` where there are none but the anonymous one.
    pub accounts: Option<PathBuf>,
    /// `--anonymous`: what the anonymous user may do.
    pub anonymous: Anonymous,
    /// `--anon-rate` in bytes a second, for each anonymous session.
    pub anonymous_rate: Option<u64>,
    /// `--password-checks`: how many are made at once; at least 1.
    pub password_checks: usize,
    /// `--deny-file`: addresses that are not let in.
    pub deny_file: Option<PathBuf>,
    /// `--messages`: whether `.message` is shown to those who enter a folder.
    pub messages: bool,
}

/// What the anonymous user may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Anonymous {
    /// Not log in.
    Off,
    /// Read.
    Read,
    /// Drop files into a folder, and not see them again.
    DropBox(DropBox),
}

/// The anonymous drop-box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DropBox {
    /// `--incoming`: the folder, or `None` for the served one.
    pub folder: Option<PathBuf>,
    /// `--incoming-list`: whether it may be listed.
    pub list: bool,
    /// `--incoming-mode`: permission bits of what is uploaded.
    pub mode: u32,
    /// `--incoming-owner`: user and group number of what is uploaded.
    pub owner: Option<(u32, u32)>,
    /// `--incoming-max-file` in bytes.
    pub max_file: Option<u64>,
    /// `--incoming-max-total` in bytes: all files below the folder.
    pub max_total: Option<u64>,
}

/// How uploads are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Storing {
    /// `--durable`: 226 means that the file would outlive a loss of power.
    pub durable: bool,
    /// `--keep-partial`: an upload that broke leaves what came.
    pub keep_partial: bool,
    /// `--min-free`: what has to stay free on the disk.
    pub min_free: MinFree,
    /// `--upload-window` in bytes of kernel memory.
    pub window: usize,
    /// `--umask`: permission bits that new files and folders do not get.
    pub umask: u32,
}

/// What has to stay free on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MinFree {
    /// So many bytes.
    Bytes(u64),
    /// So many hundredths of the whole.
    Percent(u8),
}

impl MinFree {
    /// Bytes that have to stay free on a disk of `total` bytes.
    #[must_use]
    pub fn of(self, total: u64) -> u64 {
        match self {
            MinFree::Bytes(bytes) => bytes,
            MinFree::Percent(percent) => total / 100 * u64::from(percent),
        }
    }

    /// Files that a disk which holds at most `total` of them must still be able to take: the same share of
    /// them, or [`limits::MIN_FREE_FILES`] where so many bytes are asked for, but no more than one in a hundred.
    #[must_use]
    pub fn files_of(self, total: u64) -> u64 {
        match self {
            MinFree::Bytes(0) => 0,
            MinFree::Bytes(_) => limits::MIN_FREE_FILES.min(total / 100),
            MinFree::Percent(percent) => total / 100 * u64::from(percent),
        }
    }
}

/// What is written down.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Records {
    /// `--transfer-log`.
    pub transfer_log: Option<PathBuf>,
    /// `--events`: `-` is standard output.
    pub events: Option<PathBuf>,
}

pub(super) fn access(args: &ServeArgs, problems: &mut Problems) -> Access {
    let accounts = path("--accounts", &args.accounts, problems);
    let anonymous = anonymous(args, problems);
    if anonymous == Anonymous::Off && accounts.is_none() && !problems.concern("--accounts") {
        problems.add("--anonymous", Fault::usage("\"off\" leaves nobody who may log in: give --accounts".to_owned()));
    }
    let rate = |value: &str| units::or_off(value, |value| units::size(value, limits::PACE_MIN..=SIZE_MAX));
    Access {
        accounts,
        anonymous,
        anonymous_rate: problems.value("--anon-rate", &args.anon_rate, None, rate),
        password_checks: problems.value("--password-checks", &args.password_checks, 1, |value| {
            units::count(value, 1..=limits::PASSWORD_CHECKS_MAX)
        }),
        deny_file: path("--deny-file", &args.deny_file, problems),
        messages: args.messages,
    }
}

fn anonymous(args: &ServeArgs, problems: &mut Problems) -> Anonymous {
    let word = problems.value("--anonymous", &args.anonymous, "read", |value| match value {
        "on" | "read" => Ok("read"),
        "off" => Ok("off"),
        "dropbox" => Ok("dropbox"),
        _ => Err("on, off, read or dropbox".to_owned()),
    });
    let drop_box = drop_box(args, problems);
    let given = [
        ("--incoming", args.incoming.is_some()),
        ("--incoming-list", args.incoming_list),
        ("--incoming-mode", args.incoming_mode.is_some()),
        ("--incoming-owner", args.incoming_owner.is_some()),
        ("--incoming-max-file", args.incoming_max_file.is_some()),
        ("--incoming-max-total", args.incoming_max_total.is_some()),
    ];
    if word != "dropbox" && !problems.concern("--anonymous") {
        for (flag, _) in given.into_iter().filter(|(_, given)| *given) {
            if problems.concern(flag) {
                continue;
            }
            problems.add(flag, Fault::usage("is for --anonymous dropbox only".to_owned()));
        }
    }
    match word {
        "off" => Anonymous::Off,
        "dropbox" => Anonymous::DropBox(drop_box),
        _ => Anonymous::Read,
    }
}

fn drop_box(args: &ServeArgs, problems: &mut Problems) -> DropBox {
    let cap = |value: &str| units::or_off(value, |value| units::size(value, 1..=SIZE_MAX));
    DropBox {
        folder: path("--incoming", &args.incoming, problems),
        list: args.incoming_list,
        mode: problems.value("--incoming-mode", &args.incoming_mode, limits::INCOMING_MODE, mode),
        owner: problems.value("--incoming-owner", &args.incoming_owner, None, |value| owner(value).map(Some)),
        max_file: problems.value("--incoming-max-file", &args.incoming_max_file, None, cap),
        max_total: problems.value("--incoming-max-total", &args.incoming_max_total, None, cap),
    }
}

pub(super) fn storing(args: &ServeArgs, problems: &mut Problems) -> Storing {
    Storing {
        durable: problems.value("--durable", &args.durable, true, |value| match value {
            "on" => Ok(true),
            "off" => Ok(false),
            _ => Err("on or off".to_owned()),
        }),
        keep_partial: args.keep_partial,
        min_free: problems.value("--min-free", &args.min_free, MinFree::Bytes(limits::MIN_FREE), min_free),
        window: problems.value("--upload-window", &args.upload_window, limits::UPLOAD_WINDOW, |value| {
            let (least, most) = limits::UPLOAD_WINDOWS;
            units::size(value, least as u64..=most as u64).map(|bytes| usize::try_from(bytes).unwrap_or(most))
        }),
        umask: problems.value("--umask", &args.umask, limits::UMASK, mode),
    }
}

pub(super) fn records(args: &ServeArgs, problems: &mut Problems) -> Records {
    Records {
        transfer_log: path("--transfer-log", &args.transfer_log, problems),
        events: path("--events", &args.events, problems),
    }
}

fn path(flag: &'static str, typed: &Option<String>, problems: &mut Problems) -> Option<PathBuf> {
    problems.value(flag, typed, None, |value| match value {
        "" => Err("the name of a file or folder".to_owned()),
        value => Ok(Some(PathBuf::from(value))),
    })
}

fn mode(value: &str) -> Result<u32, units::Expected> {
    parse_mode_bits(value.as_bytes()).ok_or_else(|| "a mode in octal from 0 to 777".to_owned())
}

fn owner(value: &str) -> Result<(u32, u32), units::Expected> {
    let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u32>().ok()).flatten();
    value
        .split_once(':')
        .and_then(|(user, group)| Some((number(user)?, number(group)?)))
        // The greatest number means «unchanged» to chown(2).
        .filter(|&(user, group)| user != u32::MAX && group != u32::MAX)
        .ok_or_else(|| "a user and a group as numbers, UID:GID".to_owned())
}

fn min_free(value: &str) -> Result<MinFree, units::Expected> {
    let expected = || format!("a size up to {} or a percentage up to 99%", units::size_text(SIZE_MAX));
    match value.strip_suffix('%') {
        Some(percent) => units::count(percent, 0..=99)
            .map(|percent| MinFree::Percent(u8::try_from(percent).unwrap_or(u8::MAX)))
            .map_err(|_| expected()),
        None => units::size(value, 0..=SIZE_MAX).map(MinFree::Bytes).map_err(|_| expected()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Config, Invocation, from_arguments};
    use super::*;

    fn configure(flags: &str) -> Result<Config, String> {
        let arguments = ["serve"].into_iter().chain(flags.split_whitespace());
        match from_arguments(arguments.map(Into::into)) {
            Ok(Invocation::Serve(config)) => Ok(config),
            Ok(other) => panic!("{flags}: {other:?}"),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn room_for_files_is_kept_as_well() {
        for (least, total, files) in [
            (MinFree::Bytes(0), 1_000_000, 0),
            (MinFree::Bytes(1), 1_000_000, limits::MIN_FREE_FILES),
            (MinFree::Bytes(1 << 40), 600, 6),
            (MinFree::Percent(5), 1_000, 50),
            // No such number.
            (MinFree::Percent(5), 0, 0),
            (MinFree::Bytes(1), 0, 0),
        ] {
            assert_eq!(least.files_of(total), files, "{least:?} {total}");
        }
    }

    #[test]
    fn by_default_anybody_may_read_and_nothing_is_written_down() {
        let config = configure("").unwrap();
        let access = config.access();
        assert_eq!((&access.accounts, &access.anonymous), (&None, &Anonymous::Read));
        assert_eq!((access.anonymous_rate, access.password_checks, &access.deny_file), (None, 1, &None));
        let storing = config.storing();
        assert!(storing.durable && !storing.keep_partial);
        assert_eq!((storing.umask, storing.window), (0o022, limits::UPLOAD_WINDOW));
        assert_eq!(*config.records(), Records::default());
    }

    #[test]
    fn a_drop_box_has_flags_of_its_own() {
        let flags = "--anonymous dropbox --incoming in --incoming-mode 600 --incoming-owner 5:6 \
                     --incoming-max-file 1M --incoming-max-total off --incoming-list";
        let Anonymous::DropBox(found) = configure(flags).unwrap().access().anonymous.clone() else { panic!() };
        let expected = DropBox {
            folder: Some("in".into()),
            list: true,
            mode: 0o600,
            owner: Some((5, 6)),
            max_file: Some(1 << 20),
            max_total: None,
        };
        assert_eq!(found, expected);
        for (flags, flag) in [
            ("--incoming in", "--incoming: is for --anonymous dropbox only"),
            ("--incoming-list", "--incoming-list: is for --anonymous dropbox only"),
            ("--anonymous maybe", "--anonymous: \"maybe\" is not on, off, read or dropbox"),
            ("--anonymous off", "--anonymous: \"off\" leaves nobody who may log in: give --accounts"),
            ("--anonymous dropbox --incoming-owner me", "--incoming-owner: \"me\" is not a user and a group"),
            ("--anonymous dropbox --incoming-mode 999", "--incoming-mode: \"999\" is not a mode in octal"),
        ] {
            let told = configure(flags).unwrap_err();
            assert!(told.starts_with(flag) && told.lines().count() == 1, "{flags}: {told}");
        }
    }

    #[test]
    fn what_must_stay_free_is_a_size_or_a_share() {
        let free = |value: &str| configure(&format!("--min-free {value}")).map(|config| config.storing().min_free);
        assert_eq!(free("5%").unwrap().of(1000), 50);
        assert_eq!(free("64K").unwrap().of(1000), 65_536);
        assert_eq!(free("0").unwrap().of(1000), 0);
        for bad in ["100%", "%", "-1", "5.5%", "x"] {
            assert!(free(bad).unwrap_err().starts_with("--min-free: "), "{bad}");
        }
    }
}
