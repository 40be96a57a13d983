//! `plimsoll passwd`: keeps the accounts file of a server.
//!
//! Owns what is said and asked, and in which order: everything that can be refused is refused before the
//! password is asked for. Never talks to a server, which reads the file again when it is told to.

mod document;
mod file;
mod prompt;
mod table;

use std::fmt;
use std::io::{self, Write};
use std::path::Path;

use rustix::io::Errno;
use rustix::rand::GetRandomFlags;
use zeroize::Zeroizing;

use self::document::Document;
use crate::auth::{Accounts, AccountsError, Hash, NotChecked, Options, Workspace, check_name};
use crate::config::passwd::{Passwd, Task};
use crate::config::plain;

/// Why it was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PasswdError {
    text: String,
    usage: bool,
}

impl PasswdError {
    /// The command line is wrong wherever it is given.
    fn usage(text: String) -> Self {
        Self { text, usage: true }
    }

    /// It can't be done with this file, this password, on this host.
    fn here(text: String) -> Self {
        Self { text, usage: false }
    }

    /// The same of a file.
    fn of(path: &Path, text: impl fmt::Display) -> Self {
        Self::here(format!("{}: {text}", path.display()))
    }

    /// The status with which to exit.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        if self.usage { 2 } else { 1 }
    }
}

impl fmt::Display for PasswdError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl std::error::Error for PasswdError {}

impl From<AccountsError> for PasswdError {
    fn from(error: AccountsError) -> Self {
        Self::here(error.to_string())
    }
}

/// Does what was asked and says so on standard output.
///
/// # Errors
/// What is wrong, in one or more lines; then the file is as it was.
pub fn run(asked: &Passwd) -> Result<(), PasswdError> {
    let path = asked.file.as_path();
    match &asked.task {
        Task::Set { name, options, keep_password } => set(path, name, options, *keep_password),
        Task::Delete(name) => delete(path, name),
        Task::List => list(path),
        Task::Check => check(path),
    }
}

fn set(path: &Path, name: &str, typed: &[(&'static str, String)], keep: bool) -> Result<(), PasswdError> {
    check_name(name).map_err(|fault| PasswdError::usage(format!("NAME: {fault}")))?;
    let changes = Changes::new(typed)?;
    let known = match load(path)? {
        Some(accounts) => accounts.find(name.as_bytes()).is_some(),
        None => false,
    };
    if keep && !known {
        return Err(no_account(path, name));
    }
    let hash = if keep { None } else { Some(make(&prompt::password(name)?)?) };
    let done = file::edit(path, |text| {
        let mut document = Document::new(text);
        let Some((old, mut options)) = document.find(name) else {
            let Some(hash) = &hash else { return Err(no_account(path, name)) };
            let mut options = Options::default();
            changes.apply(&mut options);
            document.set(name, hash, &options);
            return Ok((document.into_bytes(), "added"));
        };
        changes.apply(&mut options);
        document.set(name, hash.as_ref().unwrap_or(&old), &options);
        Ok((document.into_bytes(), "changed"))
    })?;
    print(&format!("{}: {name} {done}\n", path.display()))
}

fn delete(path: &Path, name: &str) -> Result<(), PasswdError> {
    load(path)?.ok_or_else(|| no_account(path, name))?;
    file::edit(path, |text| {
        let mut document = Document::new(text);
        if !document.delete(name) {
            return Err(no_account(path, name));
        }
        Ok((document.into_bytes(), ()))
    })?;
    print(&format!("{}: {name} deleted\n", path.display()))
}

fn list(path: &Path) -> Result<(), PasswdError> {
    warn_of(&Accounts::load(path)?);
    let text = file::read(path).map_err(|error| PasswdError::of(path, plain(&error)))?;
    print(&table::of(&Document::new(&text)))
}

fn check(path: &Path) -> Result<(), PasswdError> {
    let accounts = Accounts::load(path)?;
    warn_of(&accounts);
    let count = accounts.iter().count();
    print(&format!("{}: {count} account{}\n", path.display(), if count == 1 { "" } else { "s" }))
}

/// The accounts of a file that a server would take; `None` where there is no file yet.
fn load(path: &Path) -> Result<Option<Accounts>, PasswdError> {
    if !file::is_there(path).map_err(|error| PasswdError::of(path, plain(&error)))? {
        return Ok(None);
    }
    let accounts = Accounts::load(path)?;
    warn_of(&accounts);
    Ok(Some(accounts))
}

fn warn_of(accounts: &Accounts) {
    if let Some(warning) = accounts.warning() {
        eprintln!("plimsoll: {warning}");
    }
}

fn no_account(path: &Path, name: &str) -> PasswdError {
    PasswdError::of(path, format!("no account of the name {name:?}"))
}

/// Hashes a password.
fn make(password: &Zeroizing<Vec<u8>>) -> Result<Hash, PasswdError> {
    let salt = random().map_err(|error| PasswdError::here(format!("no random salt: {}", plain(&error))))?;
    Hash::make(password, salt, &mut Workspace::default())
        .map_err(|NotChecked| PasswdError::here("too little memory for a hash".to_owned()))
}

/// Bytes that nobody can foretell.
fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match rustix::rand::getrandom(rest, GetRandomFlags::empty()) {
            Ok(more) => filled += more,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(bytes)
}

/// What the flags change.
struct Changes {
    set: Options,
    keys: Vec<&'static str>,
}

impl Changes {
    fn new(typed: &[(&'static str, String)]) -> Result<Self, PasswdError> {
        let mut set = Options::default();
        let mut faults = Vec::new();
        for (key, value) in typed.iter().filter(|(_, value)| !value.is_empty()) {
            faults.extend(set.set(key, value.as_bytes()).err().map(|fault| format!("--{fault}")));
        }
        if !faults.is_empty() {
            return Err(PasswdError::usage(faults.join("\n")));
        }
        Ok(Self { set, keys: typed.iter().map(|(key, _)| *key).collect() })
    }

    fn apply(&self, options: &mut Options) {
        self.keys.iter().for_each(|key| options.copy(key, &self.set));
    }
}

fn print(text: &str) -> Result<(), PasswdError> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| PasswdError::here(format!("standard output can't be written: {}", plain(&error))))
}
