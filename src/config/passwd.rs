//! What `plimsoll passwd` is asked to do.
//!
//! Owns which flags go together. What an option means is known to those who read the accounts file, so its
//! value is carried on as it was typed.

use std::ffi::OsString;
use std::path::PathBuf;

use super::passwd_args::PasswdArgs;
use super::{ConfigError, Fault, Problems};

/// What to do with which accounts file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passwd {
    /// The accounts file, as typed.
    pub file: PathBuf,
    /// What to do with it.
    pub task: Task,
}

/// What to do with an accounts file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// Add an account or change it.
    Set {
        /// Its name, as typed.
        name: String,
        /// Options by their keys, as typed; an empty value takes the option away.
        options: Vec<(&'static str, String)>,
        /// Leave its password as it is.
        keep_password: bool,
    },
    /// Delete the account of this name.
    Delete(String),
    /// Print a table of the accounts.
    List,
    /// Say whether a server would take it.
    Check,
}

impl Passwd {
    /// Checks what was typed.
    pub(super) fn new(args: PasswdArgs, file: Option<OsString>) -> Result<Self, ConfigError> {
        let mut problems = Problems::default();
        let tasks = [("--delete", args.delete), ("--list", args.list), ("--check", args.check)];
        let mut tasks = tasks.into_iter().filter_map(|(flag, given)| given.then_some(flag));
        let asked = tasks.next();
        let mut refuse = |what, why| problems.add(what, Fault::usage(why));
        if let (Some(first), Some(other)) = (asked, tasks.next()) {
            refuse(other, format!("{first} is given as well"));
        }
        let file = file.filter(|file| !file.is_empty());
        if file.is_none() {
            refuse("FILE", "none given: try \"plimsoll passwd FILE NAME\"".to_owned());
        }
        if let Some(more) = args.operands.get(2) {
            refuse("NAME", format!("{more:?} is one too many"));
        }
        let name = args.operands.get(1);
        match (asked, name) {
            (None | Some("--delete"), None) if file.is_some() => refuse("NAME", "none given".to_owned()),
            (Some(flag @ ("--list" | "--check")), Some(_)) => refuse("NAME", format!("{flag} takes none")),
            _ => {}
        }
        let options = [
            ("--root", args.root),
            ("--write", args.write),
            ("--max-sessions", args.max_sessions),
            ("--max-rate", args.max_rate),
            ("--quota", args.quota),
            ("--idle-timeout", args.idle_timeout),
            ("--from", args.from),
            ("--expires", args.expires),
        ];
        let options: Vec<_> = options.into_iter().filter_map(|(flag, value)| Some((flag, value?))).collect();
        if let Some(asked) = asked {
            let others = options.iter().map(|(flag, _)| *flag).chain(args.keep_password.then_some("--keep-password"));
            others.for_each(|flag| refuse(flag, format!("{asked} changes no account")));
        }
        problems.none_or_error()?;
        let name = name.cloned().unwrap_or_default();
        let task = match asked {
            Some("--delete") => Task::Delete(name),
            Some("--list") => Task::List,
            Some(_) => Task::Check,
            None => {
                let options = options.into_iter().map(|(flag, value)| (flag.trim_start_matches('-'), value)).collect();
                Task::Set { name, options, keep_password: args.keep_password }
            }
        };
        Ok(Self { file: file.unwrap_or_default().into(), task })
    }
}

#[cfg(test)]
mod tests {
    use argh::ArgsInfo;

    use super::*;
    use crate::auth::Options;
    use crate::config::{Invocation, from_arguments};

    fn passwd(line: &[&str]) -> Result<Passwd, Vec<String>> {
        match from_arguments(["passwd"].iter().chain(line).map(OsString::from)) {
            Ok(Invocation::Passwd(passwd)) => Ok(passwd),
            Err(error) => {
                assert_eq!(error.exit_code(), 2);
                Err(error.lines().to_vec())
            }
            other => panic!("{line:?}: {other:?}"),
        }
    }

    #[test]
    fn tasks() {
        let set = |options: &[(&'static str, &str)], keep_password| Task::Set {
            name: "alice".to_owned(),
            options: options.iter().map(|(key, value)| (*key, (*value).to_owned())).collect(),
            keep_password,
        };
        let cases: [(&[&str], Task); 6] = [
            (&["users", "alice"], set(&[], false)),
            (&["users", "alice", "--quota="], set(&[("quota", "")], false)),
            (
                &["users", "--keep-password", "--from", "::1", "alice", "--root", "/a,b"],
                set(&[("root", "/a,b"), ("from", "::1")], true),
            ),
            (&["users", "--delete", "alice"], Task::Delete("alice".to_owned())),
            (&["users", "--list"], Task::List),
            (&["--check", "users"], Task::Check),
        ];
        for (line, task) in cases {
            assert_eq!(passwd(line), Ok(Passwd { file: "users".into(), task }), "{line:?}");
        }
    }

    #[test]
    fn flags_that_do_not_go_together_are_refused_one_by_one() {
        let cases: [(&[&str], &[&str]); 8] = [
            (&[], &["FILE: none given: try \"plimsoll passwd FILE NAME\""]),
            (&["", "alice"], &["FILE: none given: try \"plimsoll passwd FILE NAME\""]),
            (&["users"], &["NAME: none given"]),
            (&["users", "--delete"], &["NAME: none given"]),
            (&["users", "alice", "bob"], &["NAME: \"bob\" is one too many"]),
            (&["users", "alice", "--list"], &["NAME: --list takes none"]),
            (&["users", "--list", "--check"], &["--check: --list is given as well"]),
            (
                &["users", "alice", "--delete", "--write=all", "--keep-password"],
                &["--write: --delete changes no account", "--keep-password: --delete changes no account"],
            ),
        ];
        for (line, expected) in cases {
            assert_eq!(passwd(line).unwrap_err(), expected, "{line:?}");
        }
    }

    #[test]
    fn there_is_a_flag_for_each_option_of_an_account() {
        let flags = PasswdArgs::get_args_info().flags.iter().map(|flag| flag.long.trim_start_matches('-'));
        let flags: Vec<&str> = flags.collect();
        assert_eq!(flags[1..=Options::KEYS.len()], Options::KEYS);
        let mut line = vec!["users".to_owned(), "alice".to_owned()];
        line.extend(Options::KEYS.iter().map(|key| format!("--{key}=x")));
        let line: Vec<&str> = line.iter().map(String::as_str).collect();
        let Ok(Passwd { task: Task::Set { options, .. }, .. }) = passwd(&line) else { panic!("{line:?}") };
        assert_eq!(options.iter().map(|(key, _)| *key).collect::<Vec<_>>(), Options::KEYS);
    }
}
