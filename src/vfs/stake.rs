//! Who has to do with a file that may be losing its last name, so that its bytes are counted as free once.
//!
//! A file without a name is gone, and never gets one again. Of those who take a name from it or change it in place
//! at the same time the first to see that counts. The links that a status tells before or after are not enough:
//! two who take two names would both see the other's, or both see none. What is written in place is not yet
//! settled, so whoever removes the file counts the length that it had before, and the writer gives back the rest.
//!
//! Holds its lock for a look at a table only, which has a row for each file that is in the midst of a change.
//! Never knows of other servers: what they change at the same time is corrected by the next sweep.

use super::place::weight;
use super::{Kind, Status};
use parking_lot::Mutex;
use rustix::fd::BorrowedFd;
use std::collections::BTreeMap;

/// How often one who leaves looks again because a writer has ended while it looked.
const LOOKS: usize = 32;

/// Device and inode.
type File = (u64, u64);

#[derive(Debug, Default)]
struct Holders {
    count: usize,
    /// How many have ended to change it in place.
    left: usize,
    /// Whether it is gone, and was counted.
    counted: bool,
    /// Its length when somebody began to change it in place.
    began: Option<u64>,
}

static HELD: Mutex<BTreeMap<File, Holders>> = Mutex::new(BTreeMap::new());

/// One who has to do with a file. Dropped, it leaves and counts nothing.
#[derive(Debug)]
pub(super) struct Stake {
    file: File,
}

/// What one who leaves finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// The file has a name.
    Named,
    /// It has none, and so many bytes are to be counted as free; none if somebody else has done so.
    Gone(u64),
}

impl Stake {
    /// In this file, which is to stay open for as long; `None` where nothing can be told of it.
    pub(super) fn of(file: BorrowedFd<'_>) -> Option<Self> {
        let status = Status::of(file).ok()?;
        let file = (status.device, status.inode);
        HELD.lock().entry(file).or_default().count += 1;
        Some(Self { file })
    }

    /// The file will be changed in place, and has this length now.
    pub(super) fn begin(&self, length: u64) {
        if let Some(holders) = HELD.lock().get_mut(&self.file) {
            holders.began = Some(length);
        }
    }

    /// What length a file had before that which is now written to it.
    pub(super) fn began(status: &Status) -> Option<u64> {
        HELD.lock().get(&(status.device, status.inode))?.began
    }

    /// Leaves, after it has taken a name from the file: returns the bytes that are to be counted. `before` is what
    /// the file was then, for file systems that tell nothing of one without a name.
    pub(super) fn leave(self, file: BorrowedFd<'_>, before: &Status) -> u64 {
        match self.look(file, Some(before)) {
            Left::Named => 0,
            Left::Gone(bytes) => bytes,
        }
    }

    /// Leaves, after it has changed the file in place.
    pub(super) fn end(self, file: BorrowedFd<'_>) -> Left {
        self.look(file, None)
    }

    fn look(&self, file: BorrowedFd<'_>, before: Option<&Status>) -> Left {
        for _ in 0..LOOKS {
            let left = HELD.lock().get(&self.file).map_or(0, |holders| holders.left);
            let size = match Status::of(file) {
                Ok(now) if now.links > 0 => None,
                Ok(now) => Some(if now.kind == Kind::File { now.size } else { 0 }),
                Err(_) => before.filter(|before| before.links == 1).map(weight),
            };
            let mut held = HELD.lock();
            let Some(holders) = held.get_mut(&self.file) else { break };
            if holders.counted {
                return Left::Gone(0);
            }
            match size {
                // A writer has ended since, and its last bytes may not be in the size.
                Some(_) if holders.left != left => {}
                Some(size) => {
                    holders.counted = true;
                    return Left::Gone(holders.began.unwrap_or(size));
                }
                None => {
                    if before.is_none() {
                        // It is all settled from here on.
                        holders.began = None;
                        holders.left += 1;
                    }
                    return Left::Named;
                }
            }
        }
        Left::Named
    }
}

impl Drop for Stake {
    fn drop(&mut self) {
        let mut held = HELD.lock();
        if let Some(holders) = held.get_mut(&self.file) {
            holders.count -= 1;
            if holders.count == 0 {
                held.remove(&self.file);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fd::AsFd;
    use std::fs::{self, File as Opened};

    #[test]
    fn the_first_to_see_that_a_file_is_gone_counts() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (folder.path().join("one"), folder.path().join("other"));
        fs::write(&one, "content").unwrap();
        fs::hard_link(&one, &other).unwrap();
        let file = Opened::open(&one).unwrap();
        let status = Status::of(file.as_fd()).unwrap();
        let [first, second, third] = [(); 3].map(|()| Stake::of(file.as_fd()).unwrap());
        fs::remove_file(&one).unwrap();
        assert_eq!(first.leave(file.as_fd(), &status), 0);
        fs::remove_file(&other).unwrap();
        assert_eq!(third.leave(file.as_fd(), &status), 7);
        assert_eq!(second.leave(file.as_fd(), &status), 0);
        assert!(!HELD.lock().contains_key(&(status.device, status.inode)));
    }

    #[test]
    fn what_is_being_written_is_left_to_the_writer() {
        let folder = tempfile::tempdir().unwrap();
        let name = folder.path().join("name");
        for writer_first in [true, false] {
            fs::write(&name, "content").unwrap();
            let file = Opened::open(&name).unwrap();
            let status = Status::of(file.as_fd()).unwrap();
            let (writer, remover) = (Stake::of(file.as_fd()).unwrap(), Stake::of(file.as_fd()).unwrap());
            writer.begin(7);
            fs::write(&name, "content and more").unwrap();
            assert_eq!(Stake::began(&status), Some(7));
            fs::remove_file(&name).unwrap();
            if writer_first {
                assert_eq!(writer.end(file.as_fd()), Left::Gone(7));
                assert_eq!(remover.leave(file.as_fd(), &status), 0);
            } else {
                assert_eq!(remover.leave(file.as_fd(), &status), 7);
                assert_eq!(writer.end(file.as_fd()), Left::Gone(0));
            }
            assert_eq!(Stake::began(&status), None);
        }
        // A writer that has ended before has settled all.
        fs::write(&name, "content").unwrap();
        let file = Opened::open(&name).unwrap();
        let status = Status::of(file.as_fd()).unwrap();
        let (writer, remover) = (Stake::of(file.as_fd()).unwrap(), Stake::of(file.as_fd()).unwrap());
        writer.begin(7);
        fs::write(&name, "content and more").unwrap();
        assert_eq!(writer.end(file.as_fd()), Left::Named);
        fs::remove_file(&name).unwrap();
        assert_eq!(remover.leave(file.as_fd(), &status), 16);
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
                        let stake = Stake::of(file.as_fd()).unwrap();
                        fs::remove_file(name).unwrap();
                        stake.leave(file.as_fd(), &status)
                    })
                });
                takers.collect::<Vec<_>>().into_iter().map(|taker| taker.join().unwrap()).sum()
            });
            // Who comes when it is gone, and nobody is there who knows that it was counted, counts again: but a
            // name has to be taken to come, so there was one.
            assert_eq!(freed, 7);
        }
    }
}
