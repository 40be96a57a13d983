//! What is wrong with a command line: collected, so that all of it is reported at once.
//!
//! Owns the shape of a message, `--flag: what is wrong`, and the exit status; never prints or
//! exits.

use std::{fmt, io};

use super::units;

/// Why there is no [`Config`](super::Config).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    kind: ErrorKind,
    lines: Vec<String>,
}

/// Whose the error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ErrorKind {
    /// The command line is wrong wherever it is given.
    Usage,
    /// The command line is right, but not on this host now: a name does not resolve, a file can't
    /// be used.
    Environment,
}

impl ConfigError {
    /// An error in the shape of the command line.
    pub(super) fn usage(lines: Vec<String>) -> Self {
        Self { kind: ErrorKind::Usage, lines }
    }

    /// What is wrong, at least one line, each without the program's name and without a line end.
    #[cfg(test)]
    pub(super) fn lines(&self) -> &[String] {
        &self.lines
    }

    /// The status with which to exit: 2 for usage, 1 for the environment, and that only where no line is
    /// about usage.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self.kind {
            ErrorKind::Usage => 2,
            ErrorKind::Environment => 1,
        }
    }
}

/// The system's words for an error, without its number.
pub(crate) fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

impl fmt::Display for ConfigError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.lines.join("\n"))
    }
}

impl std::error::Error for ConfigError {}

/// What is wrong with one value; the flag is named by who knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) kind: ErrorKind,
    pub(super) text: String,
}

impl Fault {
    pub(super) fn usage(text: String) -> Self {
        Self { kind: ErrorKind::Usage, text }
    }

    pub(super) fn environment(text: String) -> Self {
        Self { kind: ErrorKind::Environment, text }
    }
}

/// Everything that was found to be wrong so far, with the flag that it concerns.
#[derive(Debug, Default)]
pub(super) struct Problems(Vec<(&'static str, Fault)>);

impl Problems {
    pub(super) fn add(&mut self, flag: &'static str, fault: Fault) {
        self.0.push((flag, fault));
    }

    /// The value of a flag, or its default where it is absent or wrong; what is wrong is
    /// remembered.
    pub(super) fn value<T>(
        &mut self,
        flag: &'static str,
        typed: &Option<String>,
        default: T,
        parse: impl FnOnce(&str) -> Result<T, units::Expected>,
    ) -> T {
        let Some(typed) = typed else {
            return default;
        };
        let parsed = parse(typed).map_err(|expected| Fault::usage(format!("{typed:?} is not {expected}")));
        self.note(flag, parsed).unwrap_or(default)
    }

    /// The value of a result, or nothing where it is a fault, which is remembered.
    pub(super) fn note<T>(&mut self, flag: &'static str, result: Result<T, Fault>) -> Option<T> {
        result.map_err(|fault| self.add(flag, fault)).ok()
    }

    /// Whether anything is wrong with `flag`.
    pub(super) fn concern(&self, flag: &str) -> bool {
        self.0.iter().any(|(concerned, _)| *concerned == flag)
    }

    /// One error made of all problems, or nothing where there are none.
    pub(super) fn none_or_error(self) -> Result<(), ConfigError> {
        if self.0.is_empty() {
            return Ok(());
        }
        let usage = self.0.iter().any(|(_, fault)| fault.kind == ErrorKind::Usage);
        let kind = if usage { ErrorKind::Usage } else { ErrorKind::Environment };
        let lines = self.0.into_iter().map(|(flag, fault)| format!("{flag}: {}", fault.text)).collect();
        Err(ConfigError { kind, lines })
    }
}
