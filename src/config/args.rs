//! The command line as typed: the flags of every command with their help, and what argh leaves out:
//! `--flag=value`, a flag where a value belongs, a flag given twice, arguments that are not UTF-8.
//!
//! Owns the words and their order; never judges a value, and never prints.

use std::ffi::{OsStr, OsString};
use std::iter::Peekable;

use argh::{ArgsInfo, FlagInfo, FlagInfoKind, FromArgs, Optionality, SubCommandInfo};

use super::load_args::LoadArgs;
use super::passwd_args::PasswdArgs;
use super::serve_args::ServeArgs;

/// The name under which help, version and errors speak of the program.
const PROGRAM: &str = "plimsoll";

/// plimsoll, an anonymous-first FTP server with a load line: everything it can use is fixed before
/// the first client connects.
#[derive(Debug, FromArgs, ArgsInfo)]
struct Plimsoll {
    /// print the version and leave
    #[argh(switch)]
    version: bool,

    #[argh(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(subcommand)]
#[expect(clippy::large_enum_variant, reason = "there is one, for a moment, at start")]
enum Command {
    Serve(ServeArgs),
    Load(LoadArgs),
    Passwd(PasswdArgs),
}

/// What the command line asks for, before any value has been judged.
#[derive(Debug)]
pub(super) enum Typed {
    /// Text to print: help or the version.
    Print(String),
    /// A server, with the root folder byte for byte as it was typed.
    Serve(Box<ServeArgs>, Option<OsString>),
    /// A load, with its URL or folder byte for byte as it was typed.
    Load(Box<LoadArgs>, Option<OsString>),
    /// Work on an accounts file, with its path byte for byte as it was typed.
    Passwd(Box<PasswdArgs>, Option<OsString>),
}

/// Reads the arguments that follow the program's name.
///
/// # Errors
/// Lines, without the program's name, that say what is wrong with the shape of the command line.
pub(super) fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Typed, Vec<String>> {
    let Split { words, operands } = split(arguments)?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let typed = match Plimsoll::from_args(&[PROGRAM], &words) {
        Ok(typed) => typed,
        Err(exit) if exit.status.is_ok() => return Ok(Typed::Print(exit.output)),
        Err(exit) => return Err(vec![one_line(&exit.output)]),
    };
    match typed.command {
        _ if typed.version => Ok(Typed::Print(version())),
        Some(
            Command::Serve(ServeArgs { version: true, .. })
            | Command::Load(LoadArgs { version: true, .. })
            | Command::Passwd(PasswdArgs { version: true, .. }),
        ) => Ok(Typed::Print(version())),
        Some(Command::Serve(args)) => {
            // argh has counted the operands; their bytes are those that the split kept.
            let root = args.root.as_ref().and(operands.into_iter().next());
            Ok(Typed::Serve(Box::new(args), root))
        }
        Some(Command::Load(args)) => {
            let target = args.target.as_ref().and(operands.into_iter().next());
            Ok(Typed::Load(Box::new(args), target))
        }
        Some(Command::Passwd(args)) => {
            let file = args.operands.first().and(operands.into_iter().next());
            Ok(Typed::Passwd(Box::new(args), file))
        }
        None => Err(vec![format!("no command given: try \"{PROGRAM} serve [ROOT]\" or \"{PROGRAM} --help\"")]),
    }
}

fn version() -> String {
    format!("{PROGRAM} {}\n", env!("CARGO_PKG_VERSION"))
}

/// Turns one of argh's messages into a line of this program's style.
fn one_line(message: &str) -> String {
    let mut line = String::with_capacity(message.len());
    for word in message.split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
        }
        for character in word.chars() {
            if character.is_control() {
                line.extend(character.escape_default());
            } else {
                line.push(character);
            }
        }
    }
    let line = line.trim_end_matches('.');
    let mut characters = line.chars();
    characters.next().map_or_else(String::new, |first| first.to_lowercase().chain(characters).collect())
}

/// The words for argh, in which every flag has its value in the word after it.
#[derive(Debug, Default)]
struct Split {
    words: Vec<String>,
    /// Words after the command that are neither flags nor values, byte for byte.
    operands: Vec<OsString>,
}

/// Brings the arguments into the one form that argh reads rightly. The flags that are known come
/// from argh's own description of them, so there is no second list to keep.
fn split(arguments: impl Iterator<Item = OsString>) -> Result<Split, Vec<String>> {
    let program = Plimsoll::get_args_info();
    let mut command: Option<&SubCommandInfo> = None;
    let mut flags = Flags::new(program.flags);
    let mut split = Split::default();
    let mut errors = Vec::new();
    let mut arguments = arguments.peekable();
    let mut flags_ended = false;
    while let Some(argument) = arguments.next() {
        let word = argument.to_string_lossy().into_owned();
        if flags_ended || !word.starts_with('-') {
            if command.is_some() {
                split.operands.push(argument);
            } else if let Some(found) = program.commands.iter().find(|command| command.name == word) {
                command = Some(found);
                flags = Flags::new(found.command.flags);
                flags_ended = false;
            }
            split.words.push(word);
        } else if word == "--" {
            flags_ended = true;
            split.words.push(word);
        } else {
            match flags.read(&argument, word, &mut arguments) {
                Ok(words) => split.words.extend(words),
                Err(error) => errors.push(error),
            }
        }
    }
    if errors.is_empty() { Ok(split) } else { Err(errors) }
}

/// The flags of one command, and those of them that were already given.
struct Flags {
    known: &'static [FlagInfo<'static>],
    given: Vec<&'static str>,
}

impl Flags {
    fn new(known: &'static [FlagInfo<'static>]) -> Self {
        Self { known, given: Vec::new() }
    }

    /// Reads one flag and takes its value: the words to hand to argh, or what is wrong.
    fn read(
        &mut self,
        argument: &OsStr,
        word: String,
        rest: &mut Peekable<impl Iterator<Item = OsString>>,
    ) -> Result<Vec<String>, String> {
        let (name, attached) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (word.as_str(), None),
        };
        // argh says that a flag is unknown; it also knows the other spellings of help.
        let Some(flag) = self.known.iter().find(|flag| flag.long == name) else {
            return Ok(vec![word]);
        };
        let name = flag.long;
        if matches!(flag.kind, FlagInfoKind::Switch) {
            return match attached {
                Some(value) => Err(format!("{name}: takes no value, but {value:?} is given")),
                None => Ok(vec![word]),
            };
        }
        let value = match attached {
            // What follows the equals sign is a value, however it begins.
            Some(value) if argument.to_str().is_some() => value,
            Some(_) => return Err(format!("{name}: {argument:?} is not UTF-8")),
            None => following_value(name, rest)?,
        };
        if self.given.contains(&name) {
            return Err(format!("{name}: given more than once"));
        }
        if !matches!(flag.optionality, Optionality::Repeating) {
            self.given.push(name);
        }
        Ok(vec![name.to_owned(), value])
    }
}

/// Takes the next argument as the value of a flag, unless it is a flag itself.
fn following_value(name: &str, rest: &mut Peekable<impl Iterator<Item = OsString>>) -> Result<String, String> {
    let is_value = |next: &OsString| !next.as_encoded_bytes().starts_with(b"--");
    match rest.next_if(is_value).map(OsString::into_string) {
        Some(Ok(value)) => Ok(value),
        Some(Err(value)) => Err(format!("{name}: {value:?} is not UTF-8")),
        None => match rest.peek() {
            Some(next) => Err(format!("{name}: needs a value, but {next:?} follows")),
            None => Err(format!("{name}: needs a value")),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;
    use std::time::Duration;

    use super::*;
    use crate::config::{DEFAULT_BANNER, units};
    use crate::limits;

    fn typed(line: &[&str]) -> Result<Typed, Vec<String>> {
        parse(line.iter().map(OsString::from))
    }

    fn serve(line: &[&str]) -> (Box<ServeArgs>, Option<OsString>) {
        match typed(line) {
            Ok(Typed::Serve(args, root)) => (args, root),
            other => panic!("{line:?}: {other:?}"),
        }
    }

    fn printed(line: &[&str]) -> String {
        match typed(line) {
            Ok(Typed::Print(text)) => text,
            other => panic!("{line:?}: {other:?}"),
        }
    }

    #[test]
    fn version_is_printed_by_the_program_and_by_serve() {
        for line in [&["--version"][..], &["serve", "--version"], &["--version", "serve", "--workers", "x"]] {
            assert_eq!(printed(line), "plimsoll 0.1.0\n", "{line:?}");
        }
    }

    #[test]
    fn help_is_printed_for_the_program_and_for_serve() {
        for line in [&["--help"][..], &["help"]] {
            let help = printed(line);
            assert!(help.starts_with("Usage: plimsoll "), "{help}");
            assert!(help.contains("Commands:\n  serve  "), "{help}");
            assert!(help.ends_with('\n'), "{help}");
        }
        for line in [
            &["serve", "--help"][..],
            &["serve", "help"],
            &["help", "serve"],
            &["--help", "serve"],
            &["serve", "/srv", "--workers", "0", "--help"],
        ] {
            let help = printed(line);
            assert!(help.starts_with("Usage: plimsoll serve [ROOT] [flags]\n"), "{help}");
        }
    }

    #[test]
    fn help_names_every_flag_with_the_default_of_limits() {
        let number = |number: usize| format!("(default {number})");
        let size = |bytes| format!("(default {})", units::size_text(bytes));
        let time = |time: Duration| format!("(default {})", units::time_text(time));
        let (low, high) = limits::PASSIVE_PORTS;
        let expected = [
            ("--help", "display usage information".to_owned()),
            ("--listen", format!("up to {} addresses (default [::]:2121, plain IPv4 where", limits::LISTEN_MAX)),
            ("--workers", number(limits::WORKERS)),
            ("--queue", number(limits::QUEUE)),
            ("--stack-size", size(limits::STACK_SIZE)),
            ("--memory-limit", "(default off)".to_owned()),
            ("--shed-after", time(limits::SHED_AFTER)),
            ("--idle-timeout", time(limits::IDLE_TIMEOUT)),
            ("--login-timeout", time(limits::LOGIN_TIMEOUT)),
            ("--data-timeout", time(limits::DATA_TIMEOUT)),
            ("--stall-timeout", time(limits::STALL_TIMEOUT)),
            ("--min-rate", size(limits::MIN_RATE)),
            ("--session-timeout", "(default off)".to_owned()),
            ("--queue-timeout", time(limits::QUEUE_TIMEOUT)),
            ("--max-per-ip", "(default: a quarter of --workers, at least 4)".to_owned()),
            ("--max-per-user", "(default off)".to_owned()),
            ("--max-unauthenticated", "(default: half of --workers, plus --queue)".to_owned()),
            ("--wide-transfers", "(default: one for each 32 workers, at least 1)".to_owned()),
            ("--listing-memory", "(default: 32K for each worker, at least 64K)".to_owned()),
            ("--passive-ports", format!("(default {low}-{high})")),
            ("--passive-address", "(default: the address to which the client connected)".to_owned()),
            ("--no-active", "(default: they are allowed, to the client's own address)".to_owned()),
            ("--accounts", "(default: none but the anonymous user)".to_owned()),
            ("--anonymous", "(default read)".to_owned()),
            ("--incoming", "(default: ROOT)".to_owned()),
            ("--incoming-list", "(default: it may not)".to_owned()),
            ("--incoming-mode", format!("(default {:o})", limits::INCOMING_MODE)),
            ("--incoming-owner", "(default: that of the server)".to_owned()),
            ("--incoming-max-file", "(default off)".to_owned()),
            ("--incoming-max-total", "(default off)".to_owned()),
            ("--anon-rate", "(default off)".to_owned()),
            ("--password-checks", number(1)),
            ("--deny-file", "(default: none)".to_owned()),
            ("--messages", "(default: it is a file as any other)".to_owned()),
            ("--durable", "(default on)".to_owned()),
            ("--keep-partial", "(default: it is deleted)".to_owned()),
            ("--min-free", size(limits::MIN_FREE)),
            ("--upload-window", size(limits::UPLOAD_WINDOW as u64)),
            ("--umask", format!("(default {:03o})", limits::UMASK)),
            ("--transfer-log", "(default: none)".to_owned()),
            ("--events", "(default: none)".to_owned()),
            ("--banner", format!("(default {DEFAULT_BANNER:?})")),
            ("--grace", time(limits::GRACE)),
            ("--log", "(default warn, or RUST_LOG where that is set)".to_owned()),
            ("--version", "print the version and leave".to_owned()),
        ];
        let flags = ServeArgs::get_args_info().flags;
        let help = printed(&["serve", "--help"]).split_whitespace().collect::<Vec<_>>().join(" ");
        let names: Vec<_> = flags.iter().map(|flag| flag.long).collect();
        assert_eq!(names, expected.each_ref().map(|(name, _)| *name));
        for (flag, (name, default)) in flags.iter().zip(expected) {
            assert!(flag.description.contains(&default), "{name}: {:?} lacks {default:?}", flag.description);
            // The whole help is what a user reads: it has to show the same words, though argh
            // breaks its lines.
            assert!(help.contains(&format!("{name} {}", flag.description)) || name == "--help", "{name}: {help}");
        }
    }

    #[test]
    fn shapes_of_flags_and_values() {
        let (args, root) = serve(&["serve"]);
        assert_eq!((args.workers, args.listen, args.no_active, root), (None, vec![], false, None));
        for line in [
            &["serve", "--workers", "4", "/srv", "--no-active"][..],
            &["serve", "--workers=4", "--no-active", "/srv"],
            &["serve", "/srv", "--no-active", "--no-active", "--workers=4"],
            &["serve", "--workers=4", "--no-active", "--", "/srv"],
            &["--", "serve", "--workers=4", "--no-active", "/srv"],
        ] {
            let (args, root) = serve(line);
            assert_eq!(args.workers.as_deref(), Some("4"), "{line:?}");
            assert!(args.no_active, "{line:?}");
            assert_eq!(root, Some(OsString::from("/srv")), "{line:?}");
        }
        let (args, _) = serve(&["serve", "--listen", "1", "--listen=2"]);
        assert_eq!(args.listen, ["1", "2"]);
        let (args, _) = serve(&["serve", "--banner=--a=b", "--workers="]);
        assert_eq!(args.banner.as_deref(), Some("--a=b"));
        assert_eq!(args.workers.as_deref(), Some(""));
        let (args, _) = serve(&["serve", "--banner", "-", "--log", "help"]);
        assert_eq!((args.banner.as_deref(), args.log.as_deref()), (Some("-"), Some("help")));
        for name in ["--workers=4", "help", "--"] {
            assert_eq!(serve(&["serve", "--", name]).1, Some(OsString::from(name)));
        }
        assert_eq!(serve(&["serve", "serve"]).1, Some(OsString::from("serve")));
    }

    #[test]
    fn wrong_shapes_are_named_in_one_line_each() {
        let cases: [(&[&str], &[&str]); 18] = [
            (&[], &["no command given: try \"plimsoll serve [ROOT]\" or \"plimsoll --help\""]),
            (&["--"], &["no command given: try \"plimsoll serve [ROOT]\" or \"plimsoll --help\""]),
            (&["sail"], &["unrecognized argument: sail"]),
            (&[""], &["unrecognized argument:"]),
            (&["--workers", "4"], &["unrecognized argument: --workers"]),
            (&["serve", "--sails"], &["unrecognized argument: --sails"]),
            (&["serve", "--sails=4"], &["unrecognized argument: --sails=4"]),
            (&["serve", "-w\n\u{1b}[2J"], &["unrecognized argument: -w \\u{1b}[2J"]),
            (&["serve", "/a", "/b"], &["unrecognized argument: /b"]),
            (&["serve", "help", "--workers", "4"], &["trailing arguments are not allowed after `help`"]),
            (&["serve", "--workers"], &["--workers: needs a value"]),
            (&["serve", "--listen", "--workers", "4"], &["--listen: needs a value, but \"--workers\" follows"]),
            (&["serve", "--workers", "--help"], &["--workers: needs a value, but \"--help\" follows"]),
            (&["serve", "--banner", "--"], &["--banner: needs a value, but \"--\" follows"]),
            (&["serve", "--workers", "4", "--workers=4"], &["--workers: given more than once"]),
            (&["serve", "--no-active=yes"], &["--no-active: takes no value, but \"yes\" is given"]),
            (&["serve", "--help=no"], &["--help: takes no value, but \"no\" is given"]),
            (
                &["serve", "--listen", "--no-active=1", "--log", "off", "--log", "off", "--grace"],
                &[
                    "--listen: needs a value, but \"--no-active=1\" follows",
                    "--no-active: takes no value, but \"1\" is given",
                    "--log: given more than once",
                    "--grace: needs a value",
                ],
            ),
        ];
        for (line, expected) in cases {
            match typed(line) {
                Err(lines) => assert_eq!(lines, expected, "{line:?}"),
                Ok(typed) => panic!("{line:?}: {typed:?}"),
            }
        }
    }

    #[test]
    fn bytes_that_are_not_utf_8_are_kept_in_root_and_refused_elsewhere() {
        let bytes = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        let parse = |last: OsString| parse([OsString::from("serve"), "--banner".into(), last].into_iter());
        assert_eq!(parse(bytes(b"a\xff")).unwrap_err(), ["--banner: \"a\\xFF\" is not UTF-8"]);
        let attached = [OsString::from("serve"), bytes(b"--banner=a\xff")];
        assert_eq!(super::parse(attached.into_iter()).unwrap_err(), ["--banner: \"--banner=a\\xFF\" is not UTF-8"]);
        let root = bytes(b"/srv/\xff\xfe");
        match super::parse([OsString::from("serve"), root.clone()].into_iter()) {
            Ok(Typed::Serve(_, typed)) => assert_eq!(typed, Some(root)),
            other => panic!("{other:?}"),
        }
        let unknown = [OsString::from("serve"), bytes(b"--\xff")];
        assert_eq!(super::parse(unknown.into_iter()).unwrap_err(), ["unrecognized argument: --\u{fffd}"]);
    }
}
