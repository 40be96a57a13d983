//! Counting the files of a root anew while the server runs, because others have moved or removed some.
//!
//! Removes nothing. A worker does it, for its own client, so it ends within [`RECOUNT_TIME`], or has been in vain:
//! that is looked at between two names. One at a time in the whole process, and nobody waits for another.

use super::{Root, Swept, VfsError};
use crate::limits::RECOUNT_TIME;
use crate::proto::pathname::VirtualPath;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Where to count, and what was found there at start.
#[derive(Debug, Clone)]
pub struct Below {
    path: PathBuf,
    device: u64,
    inode: u64,
    swept: Swept,
}

impl Below {
    /// A root that was swept.
    ///
    /// # Errors
    /// Those of statx(2).
    pub fn new(path: &Path, root: &Root, swept: Swept) -> Result<Self, VfsError> {
        let status = root.status(&VirtualPath::root())?;
        Ok(Self { path: path.to_owned(), device: status.device, inode: status.inode, swept })
    }

    pub(super) fn used(&self) -> u64 {
        self.swept.bytes_used
    }
}

/// Whether somebody counts now.
static COUNTING: AtomicBool = AtomicBool::new(false);

struct Turn;

impl Turn {
    fn take() -> Option<Turn> {
        COUNTING.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).ok().map(|_| Turn)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        COUNTING.store(false, Ordering::Release);
    }
}

/// Bytes in all files below, without those that are being written; `None` if that can't be told.
pub(super) fn count(below: &Below) -> Option<u64> {
    let _turn = Turn::take()?;
    let root = Root::open(&below.path).ok()?;
    let status = root.status(&VirtualPath::root()).ok()?;
    // Another folder may be there by now, which is not the one that sessions write to.
    if (status.device, status.inode) != (below.device, below.inode) {
        return None;
    }
    let found = root.look(Instant::now() + RECOUNT_TIME).ok()??;
    // Folders that can't be read for a moment would look empty.
    (found.unread <= below.swept.unread).then_some(found.bytes_used)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfs::tests::{at, writing_roots};
    use crate::vfs::{Existing, Offset, Usage};
    use std::fs;
    use std::sync::Arc;
    use std::time::Duration;

    /// No two tests count at the same time, because only one would.
    static ALONE: parking_lot::Mutex<()> = parking_lot::Mutex::new(());

    fn counted(path: &Path) -> Arc<Usage> {
        let root = Root::open(path).unwrap();
        Arc::new(Usage::below(Below::new(path, &root, root.sweep().unwrap()).unwrap()))
    }

    #[test]
    fn what_others_have_moved_out_makes_room_although_uploads_are_on_their_way() {
        let _alone = ALONE.lock();
        let served = tempfile::tempdir().unwrap();
        for root in writing_roots(served.path()) {
            fs::write(served.path().join("old"), [0; 500]).unwrap();
            fs::write(served.path().join("grows"), [0; 100]).unwrap();
            let usage = counted(served.path());
            let begin = |mut upload: crate::vfs::Upload, bytes: usize| {
                upload.charge(usage.reserve(0, 1000).unwrap());
                upload.write(&vec![1; bytes]).unwrap();
                upload
            };
            let new = begin(root.upload(&at(b"/new"), Existing::Refuse, 0o600).unwrap(), 200);
            let mut grown = begin(root.change(&at(b"/grows"), Offset::Append, 0o600).unwrap(), 150);
            assert_eq!(usage.used(), 950);
            fs::remove_file(served.path().join("old")).unwrap();
            assert_eq!(usage.used(), 950);
            grown.write(&[1; 250]).unwrap();
            assert_eq!(usage.used(), 200 + 500);
            // Not again within a minute.
            fs::remove_file(served.path().join("grows")).unwrap();
            assert!(usage.reserve(400, 1000).is_none());
            drop(grown);
            new.commit(false).unwrap();
            assert_eq!(usage.used(), 200);
            fs::remove_file(served.path().join("new")).unwrap();
        }
    }

    #[test]
    fn what_can_not_be_told_in_time_or_is_another_folder_changes_nothing() {
        let _alone = ALONE.lock();
        let outer = tempfile::tempdir().unwrap();
        let served = outer.path().join("served");
        fs::create_dir(&served).unwrap();
        fs::write(served.join("file"), "0123456789").unwrap();
        let root = Root::open(&served).unwrap();
        let below = Below::new(&served, &root, root.sweep().unwrap()).unwrap();
        assert_eq!(count(&below), Some(10));
        assert_eq!(root.look(Instant::now()), Ok(None));
        assert_eq!(root.look(Instant::now() + Duration::from_secs(60)).unwrap().unwrap().bytes_used, 10);
        let turn = Turn::take().unwrap();
        assert_eq!(count(&below), None);
        drop(turn);
        fs::rename(&served, outer.path().join("elsewhere")).unwrap();
        fs::create_dir(&served).unwrap();
        assert_eq!(count(&below), None);
    }

    #[test]
    fn a_look_removes_nothing() {
        let served = tempfile::tempdir().unwrap();
        fs::write(served.path().join(".plimsoll-left"), "left").unwrap();
        let root = Root::open(served.path()).unwrap();
        let found = root.look(Instant::now() + Duration::from_secs(60)).unwrap();
        assert_eq!(found, Some(Swept::default()));
        assert_eq!(root.sweep().unwrap().files, 1);
    }

    /// However a count falls together with uploads, changes and removals, it is true in the end.
    #[test]
    fn counting_anew_among_changes_never_makes_the_count_wrong() {
        let _alone = ALONE.lock();
        let served = tempfile::tempdir().unwrap();
        for root in writing_roots(served.path()) {
            let usage = counted(served.path());
            let root = root.counted(Arc::clone(&usage));
            let mut all = 0;
            for _ in 0..40 {
                let done = AtomicBool::new(false);
                let valid = std::thread::scope(|scope| {
                    let (root, usage, done) = (&root, &usage, &done);
                    let counter = scope.spawn(move || {
                        let mut valid = 0;
                        // One only, which the next does not put right.
                        while valid == 0 && !done.load(Ordering::Relaxed) {
                            valid += usize::from(usage.recount_now());
                        }
                        valid
                    });
                    let workers: Vec<_> = (0..6_u8)
                        .map(|number| {
                            scope.spawn(move || {
                                let (own, shared) = (at(&[b'/', b'a' + number]), at(b"/shared"));
                                for turn in 0..30_usize {
                                    let upload = match turn % 3 {
                                        0 => root.upload(&shared, Existing::Replace, 0o600),
                                        1 => root.upload(&own, Existing::Replace, 0o600),
                                        _ => root.change(&shared, Offset::Append, 0o600),
                                    };
                                    if let Ok(mut upload) = upload {
                                        upload.charge(usage.reserve(0, u64::MAX).unwrap());
                                        upload.write(&vec![1; 100 + turn]).unwrap();
                                        let _ = upload.commit(false);
                                    }
                                    match turn % 5 {
                                        0 => drop(root.rename(&own, &shared, true)),
                                        1 => drop(root.remove_file(&shared)),
                                        // Otherwise no count would ever be undisturbed.
                                        _ => std::thread::yield_now(),
                                    }
                                }
                            })
                        })
                        .collect();
                    for worker in workers {
                        worker.join().unwrap();
                    }
                    done.store(true, Ordering::Relaxed);
                    counter.join().unwrap()
                });
                assert_eq!(usage.used(), root.sweep().unwrap().bytes_used, "{root:?}");
                all += valid;
            }
            assert!(all > 0);
            for entry in fs::read_dir(served.path()).unwrap() {
                fs::remove_file(entry.unwrap().path()).unwrap();
            }
        }
    }
}
