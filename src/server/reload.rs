//! What SIGHUP does: reads again what may be read again, each part as a whole or not at all.
//!
//! Owns the rule that a part that can't be read stays as it is, and the one line that tells of it; never ends or
//! disturbs a session.

use super::load_line::Files;
use crate::config::Config;
use crate::deny::{DenyError, DenyList};
use crate::session::{Context, Homes};
use crate::swap::Swap;
use std::fmt::Display;
use std::sync::Arc;

/// What became of one reload.
#[derive(Debug, Default, PartialEq, Eq)]
#[must_use = "the outcome is to be logged"]
pub struct Reload {
    renewed: Vec<&'static str>,
    kept: Vec<&'static str>,
}

impl Reload {
    /// Nothing was read yet.
    pub fn begin() -> Self {
        Self::default()
    }

    /// Reads one part, which `flag` names. Where that fails the old value stays in force, and each line of the
    /// error is an error in the log.
    pub fn part<T, E: Display>(
        mut self,
        flag: &'static str,
        place: &Swap<T>,
        read: impl FnOnce() -> Result<T, E>,
    ) -> Self {
        match read() {
            Ok(value) => {
                place.store(value);
                self.renewed.push(flag);
            }
            Err(error) => {
                for line in error.to_string().lines() {
                    log::error!("{flag}: {line}");
                }
                self.kept.push(flag);
            }
        }
        self
    }

    /// Whether every part could be read.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.kept.is_empty()
    }

    /// Tells the outcome in one line of the log.
    pub fn log(&self) {
        if self.is_whole() {
            log::warn!("{self}");
        } else {
            log::error!("{self}");
        }
    }
}

impl Display for Reload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.renewed[..], &self.kept[..]) {
            ([], []) => f.write_str("reloaded: nothing is read from a file"),
            (renewed, []) => write!(f, "reloaded: {}", renewed.join(", ")),
            ([], kept) => write!(f, "not reloaded, the old stays in force: {}", kept.join(", ")),
            (renewed, kept) => {
                write!(f, "reloaded: {}; not reloaded, the old stays in force: {}", renewed.join(", "), kept.join(", "))
            }
        }
    }
}

/// What SIGHUP reads again.
#[derive(Debug)]
pub struct Reloading {
    context: Arc<Context>,
    denied: Arc<Swap<DenyList>>,
    /// The most that the load line has counted.
    most: Files,
}

/// What the load line has to count of the files.
#[must_use]
pub fn counted(config: &Config, homes: &Homes, denied: &DenyList) -> Files {
    let access = config.access();
    Files {
        check_memory: homes.check_memory(),
        accounts: access.accounts.is_some().then(|| homes.accounts()),
        ranges: access.deny_file.is_some().then(|| denied.len()),
    }
}

impl Reloading {
    /// For this server, as it was started.
    #[must_use]
    pub fn new(context: Arc<Context>, denied: Arc<Swap<DenyList>>, files: Files) -> Self {
        Reloading { context, denied, most: files.most() }
    }

    /// Reads the accounts, the list of those who are not let in and the greeting again, and opens the logs anew.
    /// Sessions that are there go on as they are.
    pub fn reload(&self) {
        let Context { config, root, members, greeting, journal, .. } = &*self.context;
        let mut reload = Reload::begin();
        if config.access().accounts.is_some() {
            let before = members.homes.load();
            reload = reload.part("--accounts", &members.homes, || {
                let homes = Homes::read(config, root, Some(&before))?;
                match () {
                    () if homes.check_memory() > self.most.check_memory => {
                        Err(uncounted("the hashes take more memory"))
                    }
                    () if Some(homes.accounts()) > self.most.accounts => Err(uncounted("there are more accounts")),
                    () => Ok(homes),
                }
            });
        }
        if config.access().deny_file.is_some() {
            reload = reload.part("--deny-file", &self.denied, || match deny_list(config) {
                Ok(list) if Some(list.len()) > self.most.ranges => Err(uncounted("there are more ranges")),
                Ok(list) => Ok(list),
                Err(error) => Err(error.to_string()),
            });
        }
        if config.banner_is_a_file() {
            reload = reload.part("--banner", greeting, || config.read_banner().map(|lines| super::greeting(&lines)));
        }
        journal.reopen();
        reload.log();
    }

    /// Writes what the journal still holds.
    pub fn stop_journal(&self) {
        self.context.journal.stop();
    }
}

fn uncounted(what: &str) -> String {
    format!("{what} than the load line has counted: start the server anew")
}

/// The list of `--deny-file`; an empty one where there is none.
///
/// # Errors
/// A line for each thing that is wrong.
pub fn deny_list(config: &Config) -> Result<DenyList, DenyError> {
    config.access().deny_file.as_deref().map_or_else(|| Ok(DenyList::default()), DenyList::load)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_cannot_be_read_stays_as_it_is() {
        let (banner, accounts, deny) = (Swap::new("old"), Swap::new(1), Swap::new('a'));
        let (banner_before, accounts_before) = (banner.load(), accounts.load());
        let reload = Reload::begin()
            .part("--banner", &banner, || Ok::<_, String>("new"))
            .part("--accounts", &accounts, || Err("FILE:1: no name\nFILE:2: no hash"))
            .part("--deny-file", &deny, || Ok::<_, String>('b'));
        assert_eq!((*banner.load(), *accounts.load(), *deny.load()), ("new", 1, 'b'));
        assert_eq!((*banner_before, *accounts_before), ("old", 1), "who holds a value keeps it");
        assert!(!reload.is_whole());
        assert_eq!(
            reload.to_string(),
            "reloaded: --banner, --deny-file; not reloaded, the old stays in force: --accounts"
        );
    }

    #[test]
    fn each_outcome_has_its_line() {
        let place = Swap::new(0);
        let good = |reload: Reload| reload.part("--banner", &place, || Ok::<_, String>(1));
        let bad = |reload: Reload| reload.part("--accounts", &place, || Err("wrong"));
        assert_eq!(Reload::begin().to_string(), "reloaded: nothing is read from a file");
        assert_eq!(good(Reload::begin()).to_string(), "reloaded: --banner");
        assert_eq!(bad(Reload::begin()).to_string(), "not reloaded, the old stays in force: --accounts");
        assert!(good(Reload::begin()).is_whole() && !bad(Reload::begin()).is_whole());
    }
}
