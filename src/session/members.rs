//! Who may log in: the accounts in force, replaced as a whole when they are read again, and what the sessions
//! of one user or of one root share.

use super::member::{Drops, Room};
use crate::auth::{Account, Accounts, Gate, Throttle, Verdict, Write};
use crate::config::{Anonymous, Config, MinFree};
use crate::data::pace::Pace;
use crate::limits::THROTTLE_ENTRIES;
use crate::policy::Rights;
use crate::proto::pathname::VirtualPath;
use crate::swap::Swap;
use crate::vfs::{Below, KeepFree, Root, RootError, Usage, VfsError};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
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
    /// Those of accounts that were taken out, as long as a session of theirs is there: they may come back.
    former: BTreeMap<(u64, u64), Weak<Usage>>,
    counted: BTreeMap<(u64, u64), Counted>,
    keep_free: KeepFree,
    drop_box: Option<(Arc<Root>, Room)>,
}

/// A root whose bytes are counted, of which no other may be a part if there is a limit.
#[derive(Debug)]
struct Counted {
    /// Who has it, for the operator.
    whose: String,
    limited: bool,
    /// Device and inode of each folder in which it lies.
    lies_in: Vec<(u64, u64)>,
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
        let mut homes = Homes {
            accounts: None,
            shared: BTreeMap::new(),
            usages: BTreeMap::new(),
            former: before.map(Homes::in_use).unwrap_or_default(),
            counted: BTreeMap::new(),
            keep_free: match config.storing().min_free {
                MinFree::Bytes(bytes) => KeepFree { bytes, percent: 0 },
                MinFree::Percent(percent) => KeepFree { bytes: 0, percent },
            },
            drop_box: None,
        };
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
            if let Some((user, group)) = drop_box.owner {
                root.try_owner(user, group).map_err(|error| {
                    format!("--incoming-owner: a file in {path:?} can't be given to {user}:{group}: {error}")
                })?;
            }
            let limited = drop_box.max_total.is_some();
            let usage = homes.usage(path, &root, "the drop-box".to_owned(), limited).map_err(named)?;
            homes.drop_box = Some((root, Room { usage, limit: drop_box.max_total }));
        }
        homes.look_for_nests()?;
        homes.accounts = accounts;
        Ok(homes)
    }

    fn add(&mut self, account: &Account, config: &Config, before: Option<&Homes>) -> Result<(), String> {
        let path = account.root().unwrap_or(config.root());
        let root = Root::open(path).map_err(|error| error.to_string())?;
        let room = match account.write() {
            Write::No => None,
            Write::Add | Write::All => {
                let (whose, limit) = (format!("user {:?}", account.name()), account.quota());
                Some(Room { usage: self.usage(path, &root, whose, limit.is_some())?, limit })
            }
        };
        let earlier = before.and_then(|before| before.shared.get(account.name())?.pace.as_ref());
        let pace = account.max_rate().map(|rate| match earlier {
            Some(pace) if pace.rate() == rate => Arc::clone(pace),
            _ => Arc::new(Pace::new(rate)),
        });
        self.shared.insert(account.name().to_owned(), Shared { root: path.to_owned(), pace, room });
        Ok(())
    }

    /// All counts that somebody has, at this moment.
    fn in_use(&self) -> BTreeMap<(u64, u64), Weak<Usage>> {
        let now = self.usages.iter().map(|(key, usage)| (*key, Arc::downgrade(usage)));
        let former = self.former.iter().map(|(key, usage)| (*key, Weak::clone(usage)));
        former.chain(now).filter(|(_, usage)| usage.strong_count() > 0).collect()
    }

    /// The bytes in use below a root, counted once; what an earlier run left half-written is removed then.
    fn usage(&mut self, path: &Path, root: &Root, whose: String, limited: bool) -> Result<Arc<Usage>, String> {
        let failed = |error: VfsError| format!("root {path:?}: {error}");
        let status = root.status(&VirtualPath::root()).map_err(failed)?;
        let key = (status.device, status.inode);
        match self.counted.get(&key) {
            Some(counted) if counted.limited || !limited => {}
            _ => drop(self.counted.insert(key, Counted { whose, limited, lies_in: root.lies_in().map_err(failed)? })),
        }
        let known = self.usages.get(&key).cloned().or_else(|| self.former.get(&key)?.upgrade());
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
                let below = Below::new(path, root, swept).map_err(failed)?;
                Arc::new(Usage::below(below).keeping_free(self.keep_free))
            }
        };
        self.usages.insert(key, Arc::clone(&usage));
        Ok(usage)
    }

    /// What is in an inner root is in the outer one as well, but each change is counted for one of them.
    fn look_for_nests(&self) -> Result<(), String> {
        for inner in self.counted.values() {
            let mut outer = inner.lies_in.iter().filter_map(|key| self.counted.get(key));
            if let Some(outer) = outer.find(|outer| inner.limited || outer.limited) {
                return Err(format!(
                    "the root of {} lies inside that of {}, and one of them has a quota: it could not be kept",
                    inner.whose, outer.whose
                ));
            }
        }
        Ok(())
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
        let root = Root::open(&shared.root)?;
        Ok(Opened {
            root: Arc::new(match &shared.room {
                Some(room) => root.counted(Arc::clone(&room.usage)),
                None => root,
            }),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Invocation, from_arguments};
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    const HASH: &str = "$5$saltsalt$0IyaXrmV7.sGNS6tirgqHLqX/G.FBvgkYA.lpPdS5sA";

    /// A served folder, and an accounts file beside it.
    struct Place {
        outer: tempfile::TempDir,
        flags: Vec<String>,
    }

    impl Place {
        fn new(flags: &[&str]) -> Self {
            let outer = tempfile::tempdir().unwrap();
            fs::create_dir_all(outer.path().join("served/inner")).unwrap();
            Place { outer, flags: flags.iter().map(|&flag| flag.to_owned()).collect() }
        }

        fn path(&self, name: &str) -> String {
            self.outer.path().join(name).to_str().unwrap().to_owned()
        }

        /// Reads an accounts file with these names and keys; `%` is the folder outside.
        fn read(&self, users: &[(&str, &str)], before: Option<&Homes>) -> Result<Homes, String> {
            let text: String = users.iter().map(|(name, keys)| format!("{name}:{HASH}:{keys}\n")).collect();
            let accounts = self.path("accounts");
            fs::write(&accounts, text.replace('%', &self.path(""))).unwrap();
            fs::set_permissions(&accounts, fs::Permissions::from_mode(0o600)).unwrap();
            let flags = self.flags.iter().map(|flag| flag.replace('%', &self.path("")));
            let fixed = ["serve".to_owned(), self.path("served"), "--accounts".to_owned(), accounts];
            let arguments = fixed.into_iter().chain(flags).map(Into::into);
            let Ok(Invocation::Serve(config)) = from_arguments(arguments) else { panic!("wrong flags") };
            let root = Arc::new(Root::open(config.root()).unwrap());
            Homes::read(&config, &root, before)
        }
    }

    #[test]
    fn an_owner_that_files_can_not_be_given_to_is_refused_at_once() {
        let place = Place::new(&["--anonymous", "dropbox", "--incoming-owner", "12345:23456"]);
        let may = rustix::process::geteuid().is_root();
        assert_eq!(place.read(&[], None).is_ok(), may);
        let told = std::thread::scope(|scope| {
            let powerless = scope.spawn(|| {
                let had = rustix::thread::capabilities(None).unwrap();
                let effective = rustix::thread::CapabilitySet::empty();
                rustix::thread::set_capabilities(None, rustix::thread::CapabilitySets { effective, ..had }).unwrap();
                place.read(&[], None).unwrap_err()
            });
            powerless.join().unwrap()
        });
        let served = place.path("served");
        let expected =
            format!("--incoming-owner: a file in {served:?} can't be given to 12345:23456: permission denied");
        assert_eq!(told, expected);
    }

    #[test]
    fn roots_that_nest_have_no_quota() {
        let nests = |flags: &[&str], users: &[(&str, &str)]| Place::new(flags).read(users, None).err();
        let inner = "root=%served/inner,write=all";
        let told = |inner: &str, outer: &str| {
            Some(format!(
                "the root of {inner} lies inside that of {outer}, and one of them has a quota: it could not be kept"
            ))
        };
        let (alice, bob) = ("user \"alice\"", "user \"bob\"");
        assert_eq!(nests(&[], &[("alice", &[inner, ",quota=1M"].concat()), ("bob", "write=add")]), told(alice, bob));
        assert_eq!(nests(&[], &[("alice", inner), ("bob", "write=all,quota=1M")]), told(alice, bob));
        // Whoever has the quota is named, of those who share a root.
        let users = [("alice", inner), ("zoe", "write=all"), ("bob", "write=all,quota=1M"), ("carl", "write=all")];
        assert_eq!(nests(&[], &users), told(alice, bob));
        for fine in [
            // No quota, no writing, one root, roots beside each other.
            [("alice", inner), ("bob", "write=all")],
            [("alice", "root=%served/inner,quota=1M"), ("bob", "write=all,quota=1M")],
            [("alice", "write=add,quota=1M"), ("bob", "root=%served/inner/..,write=all,quota=2M")],
            [("alice", inner), ("bob", "root=%served2,write=all,quota=1M")],
        ] {
            let place = Place::new(&[]);
            fs::create_dir(place.path("served2")).unwrap();
            assert_eq!(place.read(&fine, None).err(), None, "{fine:?}");
        }
        let drop_box = ["--anonymous", "dropbox", "--incoming", "%served/inner", "--incoming-max-total", "1M"];
        assert_eq!(nests(&drop_box, &[("bob", "write=all")]), told("the drop-box", bob));
        assert_eq!(nests(&drop_box[..4], &[("bob", "write=all")]), None);
    }

    #[test]
    fn an_account_that_comes_back_while_its_session_is_there_has_its_old_count() {
        let place = Place::new(&[]);
        fs::write(place.path("served/inner/file"), "0123456789").unwrap();
        let users = [("alice", "root=%served/inner,write=all,quota=1M"), ("bob", "write=no")];
        let usage = |homes: &Homes| homes.shared["alice"].room.clone().unwrap().usage;
        let first = place.read(&users, None).unwrap();
        let uploading = usage(&first).reserve(5, 100).unwrap();
        let second = place.read(&users[1..], Some(&first)).unwrap();
        drop(first);
        let second = place.read(&users[1..], Some(&second)).unwrap();
        let third = place.read(&users, Some(&second)).unwrap();
        assert_eq!(usage(&third).used(), 15, "what is on its way is known");
        uploading.spend(5, 0);
        assert_eq!(usage(&third).used(), 15);
        // Once nobody has it, it is counted anew.
        let fourth = place.read(&users[1..], Some(&third)).unwrap();
        drop((second, third));
        assert_eq!(usage(&place.read(&users, Some(&fourth)).unwrap()).used(), 10);
    }
}
