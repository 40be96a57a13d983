//! The accounts file: who can log in with a password, and whether a password is right.
//!
//! Owns the table, which is whole or is not there, and the check, which costs and says the same for a name
//! that nobody has as for one with a wrong password. Never changes the file.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{self, FileType, Mode, OFlags};

use super::account::Account;
use super::cost::Cost;
use super::gate::Gate;
use super::hash::{Hash, NotChecked};
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
                Ok(None) => {}
                Ok(Some(Line { name, hash, options })) => {
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
        Ok(Accounts { entries, decoys: costs.into_iter().map(Hash::decoy).collect(), warning: None })
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
    /// is wrong without any. `waiting` is asked now and then while others are being checked, and once more when
    /// it is this one's turn; where it says no the check is given up.
    pub fn verify(
        &self,
        gate: &Gate,
        name: &[u8],
        password: &[u8],
        peer: IpAddr,
        now: i64,
        mut waiting: impl FnMut() -> bool,
    ) -> Verdict {
        if password.len() > limits::PASSWORD_MAX {
            return Verdict::Wrong;
        }
        let Some(mut permit) = gate.enter(&mut waiting).filter(|_| waiting()) else {
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
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(fs::open(path, flags, Mode::empty())?);
    let status = fs::fstat(&file)?;
    match FileType::from_raw_mode(status.st_mode) {
        FileType::RegularFile => {}
        FileType::Directory => return Err(io::ErrorKind::IsADirectory.into()),
        _ => return Err(io::Error::other("not a regular file")),
    }
    let mut text = Vec::new();
    file.take(u64::try_from(limits::ACCOUNTS_FILE_MAX).unwrap_or(u64::MAX).saturating_add(1)).read_to_end(&mut text)?;
    Ok((text, status.st_mode))
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use proptest::prelude::*;

    use super::*;
    use crate::auth::hash::Workspace;

    /// Hashes of `secret`, of different costs and cheap.
    const SHA512: &str =
        "$6$abcd$2xnokga/nDtRjwwaEJ4P2es2v4q8kfckDGncd4naCsE699Y0JnDNWStYgMPa.X.VcIxFM3oLKIRKkAYD33oqG.";
    const SHA256: &str = "$5$2pL65JSpZSzDnDBo$0QDJcJmKB4zilR1nO3j3fPBnBlZ6Nw/dYnKJtHrC.tA";
    /// That of `password`.
    const ARGON2: &str = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";

    const NOW: i64 = 1_800_000_000;

    fn peer() -> IpAddr {
        "192.0.2.1".parse().unwrap()
    }

    fn parse(text: &str) -> Result<Accounts, Vec<String>> {
        Accounts::parse(Path::new("users"), text.as_bytes()).map_err(|error| error.lines().to_vec())
    }

    fn three() -> Accounts {
        parse(&format!(
            "# those who may write\nzoe:{SHA512}:write=all\n\nalice:{ARGON2}:from=192.0.2.0/24\n\
             bob:{SHA256}:expires=2001-01-01\neve:{SHA512}:from=198.51.100.0/24\n"
        ))
        .unwrap()
    }

    #[test]
    fn accounts_are_found_by_their_whole_name() {
        let accounts = three();
        let names: Vec<&str> = accounts.iter().map(|account| account.name()).collect();
        assert_eq!(names, ["alice", "bob", "eve", "zoe"]);
        for name in names {
            assert_eq!(accounts.find(name.as_bytes()).unwrap().name(), name);
        }
        for name in ["", "Alice", "alic", "alicee", "alice\0"] {
            assert_eq!(accounts.find(name.as_bytes()), None, "{name:?}");
        }
    }

    #[test]
    fn the_right_password_from_the_right_place_in_time() {
        let (accounts, gate) = (three(), Gate::new(1));
        let verify = |name: &str, password: &[u8], peer: &str, now| {
            accounts.verify(&gate, name.as_bytes(), password, peer.parse().unwrap(), now, || true)
        };
        let right = |name: &str| Verdict::Right(Arc::clone(accounts.find(name.as_bytes()).unwrap()));
        assert_eq!(verify("zoe", b"secret", "203.0.113.1", NOW), right("zoe"));
        assert_eq!(verify("alice", b"password", "192.0.2.77", NOW), right("alice"));
        assert_eq!(verify("bob", b"secret", "192.0.2.1", 900_000_000), right("bob"));
        for (name, password, from, now) in [
            ("zoe", &b"secreu"[..], "203.0.113.1", NOW),
            ("zoe", b"", "203.0.113.1", NOW),
            ("nobody", b"secret", "203.0.113.1", NOW),
            ("", b"", "203.0.113.1", NOW),
            ("alice", b"secret", "192.0.2.77", NOW),
            ("alice", b"password", "198.51.100.1", NOW),
            ("bob", b"secret", "192.0.2.1", NOW),
        ] {
            assert_eq!(verify(name, password, from, now), Verdict::Wrong, "{name}");
        }
    }

    #[test]
    fn every_name_costs_the_same() {
        let accounts = three();
        let costs = |name: &str, password: &[u8]| {
            let (mut costs, mut workspace) = (Vec::new(), Workspace::default());
            let verdict = accounts.judge(name.as_bytes(), peer(), NOW, |hash| {
                costs.push(hash.cost());
                hash.check(password, &mut workspace)
            });
            (matches!(verdict, Verdict::Right(_)), costs)
        };
        let (known, expected) = costs("zoe", b"secret");
        assert!(known && expected.len() == 3, "{expected:?}");
        // Wrong, unknown, no longer valid, from elsewhere.
        for (name, password) in [("zoe", &b"x"[..]), ("nobody", b"secret"), ("bob", b"secret"), ("eve", b"secret")] {
            assert_eq!(costs(name, password), (false, expected.clone()), "{name}");
        }
        assert_eq!(costs("alice", b"password"), (true, expected.clone()));
        let dearest = expected.iter().map(|cost| cost.memory()).max();
        assert_eq!((Some(accounts.check_memory()), dearest), (dearest, Some(256 * 1024)));
    }

    #[test]
    fn a_decoy_that_matches_lets_nobody_in() {
        let accounts = three();
        let own = Hash::parse(SHA512).unwrap().cost();
        let verdict = |own_matches| accounts.judge(b"zoe", peer(), NOW, |hash| Ok((hash.cost() == own) == own_matches));
        assert!(matches!(verdict(true), Verdict::Right(_)));
        assert_eq!(verdict(false), Verdict::Wrong);
    }

    #[test]
    fn without_accounts_a_check_costs_what_it_will_cost_with_the_first() {
        let accounts = parse("# nobody yet\n").unwrap();
        assert_eq!(accounts.check_memory(), Cost::MADE.memory());
        let mut costs = Vec::new();
        let verdict = accounts.judge(b"alice", peer(), NOW, |hash| {
            costs.push(hash.cost());
            Ok(true)
        });
        assert_eq!((verdict, costs), (Verdict::Wrong, vec![Cost::MADE]));
    }

    #[test]
    fn a_password_that_is_too_long_reaches_no_hash_and_one_that_fits_does() {
        let (accounts, gate) = (three(), Gate::new(1));
        let held = gate.enter(|| true).unwrap();
        // With the only permit taken, a hash would be waited for.
        let verify = |length, waits| accounts.verify(&gate, b"zoe", &vec![b'x'; length], peer(), NOW, || waits);
        for length in [limits::PASSWORD_MAX + 1, 1 << 20] {
            assert_eq!(verify(length, false), Verdict::Wrong);
        }
        assert_eq!(verify(limits::PASSWORD_MAX, false), Verdict::NoRoom);
        drop(held);
        assert_eq!(verify(limits::PASSWORD_MAX, true), Verdict::Wrong);
        // Also where nobody else is there: what has happened since may have settled it.
        assert_eq!(verify(limits::PASSWORD_MAX, false), Verdict::NoRoom);
    }

    #[test]
    fn where_nothing_could_be_checked_nobody_is_right() {
        let verdict = three().judge(b"zoe", peer(), NOW, |_| Err(NotChecked));
        assert_eq!(verdict, Verdict::NoRoom);
    }

    #[test]
    fn every_fault_is_told_with_its_line() {
        let text = format!("alice:{ARGON2}\nbob\n# fine\n:{SHA256}:write=x\nalice:{SHA256}\ncarl:{SHA256}:\n");
        let expected = [
            "users:2: an account is NAME:HASH or NAME:HASH:KEY=VALUE,...",
            "users:4: the name is empty",
            "users:4: write: \"x\" is not no, add or all",
            "users:6: nothing follows the second colon",
            "users:5: alice is there already, in line 1",
        ];
        assert_eq!(parse(&text).unwrap_err(), expected);

        let many = parse(&"x\n".repeat(100)).unwrap_err();
        assert_eq!(many.len(), limits::ACCOUNT_FAULTS_MAX + 1);
        assert_eq!(many.last().map(String::as_str), Some("users: and 80 more faults"));
    }

    #[test]
    fn a_file_of_many_costs_or_accounts_is_refused() {
        let costs = |count: usize| {
            let line = |rounds| format!("a{rounds}:$5$rounds={rounds}$abcd${}\n", ".".repeat(43));
            (2000..2000 + count).map(line).collect::<String>()
        };
        assert!(parse(&costs(limits::HASH_COSTS_MAX)).is_ok());
        assert_eq!(
            parse(&costs(limits::HASH_COSTS_MAX + 1)).unwrap_err(),
            ["users: hashes of 5 different costs, and at most 4 are taken: every check pays for each of them"]
        );
        let accounts = |count: usize| (0..count).map(|number| format!("a{number}:{SHA256}\n")).collect::<String>();
        assert_eq!(parse(&accounts(limits::ACCOUNTS_MAX)).unwrap().iter().count(), limits::ACCOUNTS_MAX);
        assert_eq!(parse(&accounts(limits::ACCOUNTS_MAX + 1)).unwrap_err(), ["users:10001: more than 10000 accounts"]);
        let comment = "#".repeat(limits::ACCOUNTS_FILE_MAX + 1);
        assert_eq!(parse(&comment).unwrap_err()[0], "users: more than 8388608 bytes");
    }

    #[test]
    fn a_file_that_others_may_read_is_told_of_and_one_that_they_may_write_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users");
        std::fs::write(&path, format!("zoe:{SHA512}\n")).unwrap();
        let name = path.display();
        for (mode, warning) in [
            (0o600, None),
            (0o640, None),
            (0o644, Some(format!("{name}: every user of this host may read it (mode 644): chmod o-r"))),
        ] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let accounts = Accounts::load(&path).unwrap();
            assert_eq!(accounts.warning(), warning.as_deref());
            assert!(accounts.find(b"zoe").is_some());
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o602)).unwrap();
        let expected = format!("{name}: every user of this host may write it (mode 602): chmod o-w");
        assert_eq!(Accounts::load(&path).unwrap_err().to_string(), expected);
    }

    #[test]
    fn what_is_no_file_is_told_and_waited_for_by_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let of = |path: &Path| Accounts::load(path).unwrap_err().to_string();
        let missing = folder.path().join("missing");
        assert_eq!(of(&missing), format!("{}: no such file or directory", missing.display()));
        assert_eq!(of(folder.path()), format!("{}: is a directory", folder.path().display()));
        let pipe = folder.path().join("pipe");
        fs::mkfifoat(fs::CWD, &pipe, Mode::RUSR).unwrap();
        assert_eq!(of(&pipe), format!("{}: not a regular file", pipe.display()));
        let endless = Path::new("/dev/zero");
        assert_eq!(of(endless), "/dev/zero: not a regular file");
    }

    proptest! {
        #[test]
        fn no_text_panics(bytes: Vec<u8>, text in "((alice|bob|#|):?(\\$5\\$abcd\\$\\.{43})?(:write=all)?\n?){0,8}") {
            for text in [bytes, text.into_bytes()] {
                let lines = line::lines(&text).filter(|line| !matches!(line::parse(line), Ok(None))).count();
                if let Ok(accounts) = Accounts::parse(Path::new("users"), &text) {
                    prop_assert_eq!(accounts.iter().count(), lines);
                }
            }
        }
    }
}
