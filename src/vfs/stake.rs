//! Who has to do with a file that may be losing its last name, so that its bytes are counted as free once.
//!
//! A file is gone when it has no name any more and nobody here writes to it. Of those who take a name from it or
//! change it in place at the same time the last to leave looks whether that is so, and counts. The links that a
//! status tells are not enough: two who take two names would both see the other's, or both see none.
//!
//! Holds a lock for a look at a table only, and the table has a row for each who is in the midst of a change.
//! Never knows of other servers: what they change at the same time is counted by the next sweep.

use super::{Kind, Status};
use parking_lot::Mutex;
use rustix::fd::BorrowedFd;
use std::collections::BTreeMap;

/// How often the last one looks again because others have left while it looked.
const LOOKS: usize = 32;

/// Device and inode.
type File = (u64, u64);

#[derive(Debug)]
struct Holders {
    count: usize,
    /// How many have left.
    left: usize,
    /// Whether it had a name while one of them was there: else it was counted before they came.
    named: bool,
}

static HELD: Mutex<BTreeMap<File, Holders>> = Mutex::new(BTreeMap::new());

/// One who has to do with a file. Dropped, it leaves and counts nothing.
#[derive(Debug)]
pub(super) struct Stake {
    file: File,
    inside: bool,
}

impl Stake {
    /// In this file. `named` says that it has a name which nobody else can take from it.
    pub(super) fn new(status: &Status, named: bool) -> Self {
        let file = (status.device, status.inode);
        let mut held = HELD.lock();
        let holders = held.entry(file).or_insert(Holders { count: 0, left: 0, named: false });
        holders.count += 1;
        holders.named |= named;
        Self { file, inside: true }
    }

    /// The file was seen to have a name since.
    pub(super) fn is_named(&self) {
        if let Some(holders) = HELD.lock().get_mut(&self.file) {
            holders.named = true;
        }
    }

    /// Leaves. Returns the bytes that are free now: those of the file, if it is gone, and if nobody else is
    /// left to count them. `before` is what it was before a name was taken from it, for file systems that tell
    /// nothing of a file without one.
    pub(super) fn leave(mut self, file: BorrowedFd<'_>, before: Option<&Status>) -> u64 {
        for _ in 0..LOOKS {
            let left = HELD.lock().get(&self.file).map_or(0, |holders| holders.left);
            let gone = match Status::of(file) {
                Ok(now) if now.kind == Kind::File && now.links == 0 => now.size,
                Ok(_) => 0,
                Err(_) => before.map_or(0, super::place::weight),
            };
            let mut held = HELD.lock();
            let Some(holders) = held.get_mut(&self.file) else { break };
            if holders.count == 1 && holders.left != left {
                continue;
            }
            let counts = holders.count == 1 && holders.named;
            self.inside = false;
            step_out(&mut held, self.file);
            return if counts { gone } else { 0 };
        }
        0
    }
}

impl Drop for Stake {
    fn drop(&mut self) {
        if self.inside {
            step_out(&mut HELD.lock(), self.file);
        }
    }
}

fn step_out(held: &mut BTreeMap<File, Holders>, file: File) {
    if let Some(holders) = held.get_mut(&file) {
        holders.count -= 1;
        holders.left += 1;
        if holders.count == 0 {
            held.remove(&file);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fd::AsFd;
    use std::fs::{self, File as Opened};

    #[test]
    fn the_last_to_leave_counts_and_only_what_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (folder.path().join("one"), folder.path().join("other"));
        fs::write(&one, "content").unwrap();
        fs::hard_link(&one, &other).unwrap();
        let file = Opened::open(&one).unwrap();
        let status = Status::of(file.as_fd()).unwrap();
        let [first, second, third] = [true, true, false].map(|named| Stake::new(&status, named));
        fs::remove_file(&one).unwrap();
        fs::remove_file(&other).unwrap();
        assert_eq!(first.leave(file.as_fd(), None), 0);
        assert_eq!(third.leave(file.as_fd(), None), 0);
        assert_eq!(second.leave(file.as_fd(), None), 7);
        // Whoever comes now has come too late to count it, unless it was seen with a name.
        let late = Stake::new(&status, false);
        assert_eq!(late.leave(file.as_fd(), None), 0);
        let late = Stake::new(&status, false);
        late.is_named();
        assert_eq!(late.leave(file.as_fd(), None), 7);
        assert!(!HELD.lock().contains_key(&(status.device, status.inode)));
    }

    #[test]
    fn of_twenty_who_take_twenty_names_one_counts() {
        let folder = tempfile::tempdir().unwrap();
        for _ in 0..200 {
            let names: Vec<_> = (0..20).map(|number: u32| folder.path().join(number.to_string())).collect();
            fs::write(&names[0], "content").unwrap();
            for name in &names[1..] {
                fs::hard_link(&names[0], name).unwrap();
            }
            let file = Opened::open(&names[0]).unwrap();
            let status = Status::of(file.as_fd()).unwrap();
            let freed: u64 = std::thread::scope(|scope| {
                let takers = names.iter().map(|name| {
                    let file = &file;
                    scope.spawn(move || {
                        let stake = Stake::new(&status, true);
                        fs::remove_file(name).unwrap();
                        stake.leave(file.as_fd(), None)
                    })
                });
                takers.collect::<Vec<_>>().into_iter().map(|taker| taker.join().unwrap()).sum()
            });
            assert_eq!(freed, 7);
        }
    }
}
