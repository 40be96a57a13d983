//! The accounts file: who can log in with a password, and whether a password is right.
//!
//! Owns the table, which is whole or is not there, and the check, which costs and says the same for a name
//! that nobody has as for one with a wrong password. Never changes the file.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::net::IpAddr;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use super::account::Account;
use super::gate::Gate;
use super::hash::{Cost, Hash, NotChecked};
use super::line::{self, Line};
use crate::limits;

/// Every account.
#[derive(Debug)]
pub struct Accounts {
    /// By name.
    entries: Vec<Entry>,
    /// A hash for each cost that there is.
    decoys: Vec<Hash>,
    warning: Option<String>,
}

#[derive(Debug)]
struct Entry {
    account: Arc<Account>,
    hash: Hash,
    line: usize,
}

/// Why there is no table: one line for each fault, `FILE:LINE: what`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountsError {
    lines: Vec<String>,
}

impl AccountsError {
    /// At least one line, without a line end.
    #[must_use]
    pub fn lines(&self) -> &[String] {
        &self.lines
    }
}

impl fmt::Display for AccountsError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.lines.join("\n"))
    }
}

impl std::error::Error for AccountsError {}

/// What a name and a password are worth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The password is that of this account, and it may log in from there and now.
    Right(Arc<Account>),
    /// There is no such account, or the password is not its, or it may not log in from there or now.
    Wrong,
    /// The password was not checked: `waiting` has given up, or the system has no memory.
    NoRoom,
}

impl Accounts {
    /// Reads an accounts file.
    ///
    /// # Errors
    /// Everything that is wrong with it: it can't be read, others may write it, a line is malformed.
    pub fn load(path: &Path) -> Result<Accounts, AccountsError> {
        let whole = |text: String| AccountsError { lines: vec![format!("{}: {text}", path.display())] };
        let (text, mode) = read(path).map_err(|error| whole(plain(&error)))?;
        if mode & 0o002 != 0 {
            return Err(whole(format!("every user of this host may write it (mode {:03o}): chmod o-w", mode & 0o777)));
        }
        let mut accounts = Self::parse(path, &text)?;
        if mode & 0o004 != 0 {
            accounts.warning = Some(format!(
                "{}: every user of this host may read it (mode {:03o}): chmod o-r",
                path.display(),
                mode & 0o777
            ));
        }
        Ok(accounts)
    }

    /// Reads the text of an accounts file; the path is for the messages.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(path: &Path, text: &[u8]) -> Result<Accounts, AccountsError> {
        let mut faults = Faults { path, lines: Vec::new(), more: 0 };
        let mut entries = Vec::new();
        if text.len() > limits::ACCOUNTS_FILE_MAX {
            faults.whole(format!("more than {} bytes", limits::ACCOUNTS_FILE_MAX));
        }
        for (number, line) in (1..).zip(line::lines(text)) {
            match line::parse(line) {
                Ok(Line::Comment) => {}
                Ok(Line::Account { name, hash, options }) => {
                    let account = Arc::new(Account::new(name, options));
                    entries.push(Entry { account, hash, line: number });
                }
                Err(found) => found.into_iter().for_each(|fault| faults.at(number, fault)),
            }
            if entries.len() > limits::ACCOUNTS_MAX {
                faults.at(number, format!("more than {} accounts", limits::ACCOUNTS_MAX));
                break;
            }
        }
        entries.sort_by(|a: &Entry, b| a.account.name().cmp(b.account.name()).then(a.line.cmp(&b.line)));
        for pair in entries.windows(2) {
            if let [first, second] = pair
                && first.account.name() == second.account.name()
            {
                let name = first.account.name();
                faults.at(second.line, format!("{name} is there already, in line {}", first.line));
            }
        }
        let mut costs: Vec<Cost> = entries.iter().map(|entry| entry.hash.cost()).collect();
        costs.sort_unstable();
        costs.dedup();
        if costs.is_empty() {
            costs.push(Cost::MADE);
        }
        if costs.len() > limits::HASH_COSTS_MAX {
            let most = limits::HASH_COSTS_MAX;
            faults.whole(format!(
                "hashes of {} different costs, and at most {most} are taken: every check pays for each of them",
                costs.len()
            ));
        }
        faults.none_or_error()?;
        Ok(Accounts { entries, decoys: costs.into_iter().map(Cost::decoy).collect(), warning: None })
    }

    /// What the operator ought to know of the file, for the log.
    #[must_use]
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    /// The account of this name, byte for byte.
    #[must_use]
    pub fn find(&self, name: &[u8]) -> Option<&Arc<Account>> {
        self.entry(name).map(|entry| &entry.account)
    }

    /// All accounts, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Account>> {
        self.entries.iter().map(|entry| &entry.account)
    }

    /// Bytes of memory that a check takes while it has a permit.
    #[must_use]
    pub fn check_memory(&self) -> usize {
        self.decoys.iter().map(|hash| hash.cost().memory()).max().unwrap_or_default()
    }

    /// Checks a name and its password: of a client at `peer`, at `now` in seconds since the epoch.
    ///
    /// The same hashes are computed for every name, so neither the time nor the answer tells whether there
    /// is such an account, or why it may not log in. A password of more than [`limits::PASSWORD_MAX`] bytes
    /// is wrong without any. `waiting` is asked now and then while others are being checked; where it says no
    /// the check is given up.
    pub fn verify(
        &self,
        gate: &Gate,
        name: &[u8],
        password: &[u8],
        peer: IpAddr,
        now: i64,
        waiting: impl FnMut() -> bool,
    ) -> Verdict {
        if password.len() > limits::PASSWORD_MAX {
            return Verdict::Wrong;
        }
        let Some(mut permit) = gate.enter(waiting) else {
            return Verdict::NoRoom;
        };
        self.judge(name, peer, now, |hash| hash.check(password, permit.workspace()))
    }

    /// Asks `check` of one hash of each cost, among them that of the account.
    fn judge(
        &self,
        name: &[u8],
        peer: IpAddr,
        now: i64,
        mut check: impl FnMut(&Hash) -> Result<bool, NotChecked>,
    ) -> Verdict {
        let entry = self.entry(name);
        let mut right = false;
        for decoy in &self.decoys {
            let own = entry.map(|entry| &entry.hash).filter(|hash| hash.cost() == decoy.cost());
            match check(own.unwrap_or(decoy)) {
                Ok(matches) => right |= matches & own.is_some(),
                Err(NotChecked) => return Verdict::NoRoom,
            }
        }
        match entry.filter(|entry| right & entry.account.is_valid(peer, now)) {
            Some(entry) => Verdict::Right(Arc::clone(&entry.account)),
            None => Verdict::Wrong,
        }
    }

    fn entry(&self, name: &[u8]) -> Option<&Entry> {
        let index = self.entries.binary_search_by(|entry| entry.account.name().as_bytes().cmp(name));
        index.ok().and_then(|index| self.entries.get(index))
    }
}

/// The text and the mode of a file, but no more of it than shows that it is too long.
fn read(path: &Path) -> io::Result<(Vec<u8>, u32)> {
    // Whoever names a pipe by mistake is told so, and does not wait for it.
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file: File = OpenOptions::new().read(true).custom_flags(nonblocking).open(path)?;
    let status = file.metadata()?;
    if status.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !status.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut text = Vec::new();
    file.take(u64::try_from(limits::ACCOUNTS_FILE_MAX).unwrap_or(u64::MAX) + 1).read_to_end(&mut text)?;
    Ok((text, status.mode()))
}

/// The system's words for an error, without its number.
fn plain(error: &io::Error) -> String {
    error.to_string().split(" (os error").next().unwrap_or_default().to_lowercase()
}

/// What is wrong with a file, the first of it word by word.
struct Faults<'a> {
    path: &'a Path,
    lines: Vec<String>,
    more: usize,
}

impl Faults<'_> {
    fn at(&mut self, line: usize, text: String) {
        self.add(format!("{}:{line}: {text}", self.path.display()));
    }

    fn whole(&mut self, text: String) {
        self.add(format!("{}: {text}", self.path.display()));
    }

    fn add(&mut self, line: String) {
        if self.lines.len() < limits::ACCOUNT_FAULTS_MAX {
            self.lines.push(line);
        } else {
            self.more += 1;
        }
    }

    fn none_or_error(mut self) -> Result<(), AccountsError> {
        if self.lines.is_empty() {
            return Ok(());
        }
        if self.more > 0 {
            self.lines.push(format!("{}: and {} more faults", self.path.display(), self.more));
        }
        Err(AccountsError { lines: self.lines })
    }
}
