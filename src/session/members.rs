//! Who may log in: the accounts in force, replaced as a whole when they are read again, and what the sessions
//! of one user or of one root share.

use super::member::{Drops, Room};
use crate::auth::{Account, Accounts, Gate, Throttle, Verdict, Write};
use crate::config::{Anonymous, Config};
use crate::data::pace::Pace;
use crate::limits::THROTTLE_ENTRIES;
use crate::policy::Rights;
use crate::proto::pathname::VirtualPath;
use crate::swap::Swap;
use crate::vfs::{Root, RootError, Usage};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Who may log in, and how passwords are checked.
#[derive(Debug)]
pub struct Members {
    /// The accounts in force.
    pub homes: Swap<Homes>,
    gate: Gate,
    throttle: Throttle,
}

/// The accounts as they were read at one time, and what their sessions share.
#[derive(Debug)]
pub struct Homes {
    accounts: Option<Accounts>,
    shared: BTreeMap<String, Shared>,
    /// Bytes in use, by device and inode of the root.
    usages: BTreeMap<(u64, u64), Arc<Usage>>,
    drop_box: Option<(Arc<Root>, Room)>,
}

/// What all sessions of one account share.
#[derive(Debug)]
struct Shared {
    root: PathBuf,
    pace: Option<Arc<Pace>>,
    room: Option<Room>,
}

/// What a login opens.
pub(super) struct Opened {
    pub(super) root: Arc<Root>,
    pub(super) rights: Rights,
    pub(super) pace: Option<Arc<Pace>>,
    pub(super) room: Option<Room>,
    pub(super) drops: Option<Drops>,
}

impl Members {
    /// Those of `homes`, of whose passwords so many are checked at once.
    #[must_use]
    pub fn new(homes: Homes, password_checks: usize) -> Self {
        Members { homes: Swap::new(homes), gate: Gate::new(password_checks), throttle: Throttle::new(THROTTLE_ENTRIES) }
    }

    /// Whether the address may try a password now: after failures it has to wait, which costs it no worker.
    pub(super) fn may_try(&self, address: IpAddr) -> bool {
        self.throttle.may_try(address, Instant::now())
    }

    /// Checks a password, as long as `waiting` says that it is worth to wait for one's turn, and only if its
    /// address may still try one then: whoever guesses over many connections at once has all of them let in
    /// before the first has failed.
    pub(super) fn verify(
        &self,
        homes: &Homes,
        name: &[u8],
        password: &[u8],
        peer: IpAddr,
        mut waiting: impl FnMut() -> bool,
    ) -> Verdict {
        let Some(accounts) = &homes.accounts else { return Verdict::Wrong };
        let waiting = || waiting() && self.may_try(peer);
        let verdict = accounts.verify(&self.gate, name, password, peer, now(), waiting);
        if verdict == Verdict::Wrong {
            self.throttle.failed(peer, Instant::now());
        }
        verdict
    }
}

impl Homes {
    /// Reads the accounts, opens the root of each, and counts what is below those that can be written to, but
    /// for what `before` has counted already.
    ///
    /// # Errors
    /// A line for each thing that is wrong; it names the user or the line of the file.
    pub fn read(config: &Config, root: &Arc<Root>, before: Option<&Homes>) -> Result<Homes, String> {
        let accounts = match &config.access().accounts {
            Some(path) => Some(Accounts::load(path).map_err(|error| error.to_string())?),
            None => None,
        };
        let mut homes = Homes { accounts: None, shared: BTreeMap::new(), usages: BTreeMap::new(), drop_box: None };
        if let Some(warning) = accounts.as_ref().and_then(Accounts::warning) {
            log::warn!("--accounts: {warning}");
        }
        for account in accounts.iter().flat_map(Accounts::iter) {
            homes.add(account, config, before).map_err(|error| format!("user {:?}: {error}", account.name()))?;
        }
        if let Anonymous::DropBox(drop_box) = &config.access().anonymous {
            let named = |error: String| format!("--incoming: {error}");
            let (root, path) = match &drop_box.folder {
                Some(path) => (Arc::new(Root::open(path).map_err(|error| named(error.to_string()))?), path.as_path()),
                None => (Arc::clone(root), config.root()),
            };
            let usage = homes.usage(path, &root, before).map_err(named)?;
            homes.drop_box = Some((root, Room { usage, limit: drop_box.max_total }));
        }
        homes.accounts = accounts;
        Ok(homes)
    }

    fn add(&mut self, account: &Account, config: &Config, before: Option<&Homes>) -> Result<(), String> {
        let path = account.root().unwrap_or(config.root());
        let root = Root::open(path).map_err(|error| error.to_string())?;
        let room = match account.write() {
            Write::No => None,
            Write::Add | Write::All => Some(Room { usage: self.usage(path, &root, before)?, limit: account.quota() }),
        };
        let earlier = before.and_then(|before| before.shared.get(account.name())?.pace.as_ref());
        let pace = account.max_rate().map(|rate| match earlier {
            Some(pace) if pace.rate() == rate => Arc::clone(pace),
            _ => Arc::new(Pace::new(rate)),
        });
        self.shared.insert(account.name().to_owned(), Shared { root: path.to_owned(), pace, room });
        Ok(())
    }

    /// The bytes in use below a root, counted once; what an earlier run left half-written is removed then.
    fn usage(&mut self, path: &Path, root: &Root, before: Option<&Homes>) -> Result<Arc<Usage>, String> {
        let status = root.status(&VirtualPath::root()).map_err(|error| format!("root {path:?}: {error}"))?;
        let key = (status.device, status.inode);
        let known = self.usages.get(&key).or_else(|| before?.usages.get(&key)).map(Arc::clone);
        let usage = match known {
            Some(usage) => usage,
            None => {
                let swept = root.sweep().map_err(|error| format!("root {path:?} can't be swept: {error}"))?;
                if swept.files > 0 {
                    log::warn!("removed {} temporary files below {path:?}", swept.files);
                }
                if swept.unread > 0 {
                    log::warn!("{} folders below {path:?} can't be read: quotas do not count them", swept.unread);
                }
                Arc::new(Usage::new(swept.bytes_used))
            }
        };
        self.usages.insert(key, Arc::clone(&usage));
        Ok(usage)
    }

    /// Whether there are users beside the anonymous one.
    pub(super) fn has_accounts(&self) -> bool {
        self.accounts.is_some()
    }

    /// How many accounts there are.
    #[must_use]
    pub fn accounts(&self) -> usize {
        self.shared.len()
    }

    /// Memory in bytes of the dearest check of a password.
    #[must_use]
    pub fn check_memory(&self) -> usize {
        self.accounts.as_ref().map_or(0, Accounts::check_memory)
    }

    /// What the login of an account opens; its root is opened anew, as it may have been replaced.
    pub(super) fn open(&self, account: &Account) -> Result<Opened, RootError> {
        let rights = Rights { write: account.write(), ..Rights::READ };
        let shared = self.shared.get(account.name()).ok_or_else(|| RootError::Missing(account.name().into()))?;
        Ok(Opened {
            root: Arc::new(Root::open(&shared.root)?),
            rights,
            pace: shared.pace.clone(),
            room: shared.room.clone(),
            drops: None,
        })
    }

    /// What an anonymous login opens; `None` where there is none.
    pub(super) fn open_anonymous(&self, config: &Config, root: &Arc<Root>) -> Option<Opened> {
        let pace = config.access().anonymous_rate.map(|rate| Arc::new(Pace::new(rate)));
        match (&config.access().anonymous, &self.drop_box) {
            (Anonymous::Off, _) => None,
            (Anonymous::DropBox(drop_box), Some((root, room))) => Some(Opened {
                root: Arc::clone(root),
                rights: Rights { read: false, list: drop_box.list, write: Write::Add },
                pace,
                room: Some(room.clone()),
                drops: Some(Drops { mode: drop_box.mode, owner: drop_box.owner, max_file: drop_box.max_file }),
            }),
            (Anonymous::DropBox(_), None) => None,
            (Anonymous::Read, _) => {
                Some(Opened { root: Arc::clone(root), rights: Rights::READ, pace, room: None, drops: None })
            }
        }
    }
}

/// Seconds since the epoch, for accounts that expire.
fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}
