//! Tells of folders in which something has changed, by inotify(7).

use rustix::fd::{AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::inotify::{CreateFlags, ReadFlags, Reader, WatchFlags, add_watch, init, remove_watch};
use rustix::io::Errno;
use std::mem::MaybeUninit;

/// Whatever changes the names in a folder, or what a listing tells of a file in it, done by whatever program on
/// this host. The kernel tells of one change and then looks away, so that nothing queues up however often a
/// folder changes.
const CHANGES: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVE)
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::ATTRIB)
    // Who writes by way of memory is not heard of before the file is closed.
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::ONLYDIR)
    .union(WatchFlags::ONESHOT);

/// Reports taken at one time: more than there can be of watches of which each reports once, and then its end.
const REPORTS_MAX: usize = 1024;

/// Watches folders. Holds one descriptor.
#[derive(Debug)]
pub(super) struct Watcher {
    descriptor: OwnedFd,
}

/// A folder that is watched, until something in it changes or it is [ended](Watcher::end).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Watch(i32);

/// What is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Report {
    /// Something has changed there.
    Changed(Watch),
    /// Anything may have changed.
    Anything,
}

impl Watcher {
    /// One that watches nothing yet.
    ///
    /// # Errors
    /// Those of inotify_init1(2): a user has 128 of them (fs.inotify.max_user_instances).
    pub(super) fn new() -> Result<Self, Errno> {
        Ok(Self { descriptor: init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)? })
    }

    /// Begins to watch a folder, which must not be watched already.
    ///
    /// # Errors
    /// Those of inotify_add_watch(2), and ENOENT without /proc.
    pub(super) fn watch(&self, folder: BorrowedFd<'_>) -> Result<Watch, Errno> {
        let path = format!("/proc/self/fd/{}", folder.as_raw_fd());
        add_watch(&self.descriptor, path, CHANGES).map(Watch)
    }

    /// Watches this folder no longer.
    pub(super) fn end(&self, watch: Watch) {
        // Where something has changed the kernel has ended it.
        let _ = remove_watch(&self.descriptor, watch.0);
    }

    /// What has been reported since the last time. A change is reported before the system call returns that
    /// made it. Does not wait.
    pub(super) fn reports(&self, mut take: impl FnMut(Report)) {
        let mut buffer = [MaybeUninit::uninit(); 1024];
        let mut reader = Reader::new(&self.descriptor, &mut buffer);
        for _ in 0..REPORTS_MAX {
            match reader.next() {
                Ok(event) if event.events().contains(ReadFlags::QUEUE_OVERFLOW) => take(Report::Anything),
                // The end of a watch, after what ended it.
                Ok(event) if event.events().contains(ReadFlags::IGNORED) => {}
                Ok(event) => take(Report::Changed(Watch(event.wd()))),
                Err(Errno::AGAIN) => return,
                Err(_) => break,
            }
        }
        take(Report::Anything);
    }

    /// How many folders the kernel watches.
    #[cfg(test)]
    pub(super) fn watches(&self) -> usize {
        let told = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", self.descriptor.as_raw_fd()));
        told.map_or(0, |told| told.lines().filter(|line| line.starts_with("inotify wd:")).count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::os::fd::AsFd;

    fn reports(watcher: &Watcher) -> Vec<Report> {
        let mut reports = Vec::new();
        watcher.reports(|report| reports.push(report));
        reports
    }

    #[test]
    fn a_folder_that_changes_a_thousand_times_is_reported_once() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let watcher = Watcher::new().unwrap();
        let [first, second] =
            [&one, &other].map(|folder| watcher.watch(File::open(folder.path()).unwrap().as_fd()).unwrap());
        assert_eq!(reports(&watcher), []);
        for number in 0..1_000 {
            fs::write(one.path().join(format!("{number}")), "").unwrap();
        }
        assert_eq!(reports(&watcher), [Report::Changed(first)]);
        fs::write(other.path().join("new"), "").unwrap();
        assert_eq!(reports(&watcher), [Report::Changed(second)]);
        fs::write(other.path().join("newer"), "").unwrap();
        assert_eq!(reports(&watcher), []);
    }

    #[test]
    fn nothing_is_heard_of_a_watch_that_was_ended() {
        let folder = tempfile::tempdir().unwrap();
        let watcher = Watcher::new().unwrap();
        let watch = || watcher.watch(File::open(folder.path()).unwrap().as_fd()).unwrap();
        let first = watch();
        watcher.end(first);
        let second = watch();
        assert_ne!(first, second);
        fs::write(folder.path().join("new"), "").unwrap();
        assert_eq!(reports(&watcher), [Report::Changed(second)]);
        let third = watch();
        assert_eq!(watcher.watches(), 1);
        watcher.end(third);
        assert_eq!(watcher.watches(), 0);
    }
}
