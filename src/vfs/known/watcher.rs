//! Tells of folders in which something has changed, by inotify(7).

use rustix::fd::{AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::inotify::{CreateFlags, ReadFlags, Reader, WatchFlags, add_watch, init, remove_watch};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};
use std::mem::MaybeUninit;
use std::time::Duration;

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
    .union(WatchFlags::ONESHOT)
    // A watch that somebody else is about to end is not to be had once more.
    .union(WatchFlags::MASK_CREATE);

/// Where the descriptors of this process have names.
const OPEN_HERE: &str = "/proc/self/fd";

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
    /// It watches no longer, after a change or because it was ended.
    Over(Watch),
    /// Anything may have changed.
    Anything,
}

impl Report {
    fn of(watch: i32, events: ReadFlags) -> Self {
        match () {
            () if events.contains(ReadFlags::QUEUE_OVERFLOW) => Report::Anything,
            () if events.contains(ReadFlags::IGNORED) => Report::Over(Watch(watch)),
            () => Report::Changed(Watch(watch)),
        }
    }
}

/// The CPU time of this thread.
fn spent() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

impl Watcher {
    /// One that watches nothing yet, but could.
    ///
    /// # Errors
    /// Those of inotify_init1(2), of which a user has 128 (fs.inotify.max_user_instances), and of
    /// [`Watcher::watch`]; ENOSYS where the kernel is older than 4.18.
    pub(super) fn new() -> Result<Self, Errno> {
        let watcher = Self { descriptor: init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)? };
        let tried = add_watch(&watcher.descriptor, OPEN_HERE, CHANGES)?;
        let again = add_watch(&watcher.descriptor, OPEN_HERE, CHANGES);
        watcher.end(Watch(tried));
        match again {
            Err(Errno::EXIST) => Ok(watcher),
            // Linux before 4.18 does not know MASK_CREATE.
            _ => Err(Errno::NOSYS),
        }
    }

    /// Begins to watch a folder. The kernel takes some 50 ns for every name in it that it has ever been asked for,
    /// and remembers those that are not there as well: tells the time as this thread has spent it.
    ///
    /// # Errors
    /// Those of inotify_add_watch(2), EEXIST for a folder that is watched among them, and ENOENT without /proc.
    pub(super) fn watch(&self, folder: BorrowedFd<'_>) -> Result<(Watch, Duration), Errno> {
        let path = format!("{OPEN_HERE}/{}", folder.as_raw_fd());
        let before = spent();
        let watch = add_watch(&self.descriptor, path, CHANGES).map(Watch)?;
        Ok((watch, spent().saturating_sub(before)))
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
                Ok(event) => take(Report::of(event.wd(), event.events())),
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

    fn once(watch: Watch) -> [Report; 2] {
        [Report::Changed(watch), Report::Over(watch)]
    }

    #[test]
    fn a_folder_that_changes_a_thousand_times_is_reported_once() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let watcher = Watcher::new().unwrap();
        let [first, second] =
            [&one, &other].map(|folder| watcher.watch(File::open(folder.path()).unwrap().as_fd()).unwrap().0);
        // What was tried at first.
        reports(&watcher);
        for number in 0..1_000 {
            fs::write(one.path().join(format!("{number}")), "").unwrap();
        }
        assert_eq!(reports(&watcher), once(first));
        fs::write(other.path().join("new"), "").unwrap();
        assert_eq!(reports(&watcher), once(second));
        fs::write(other.path().join("newer"), "").unwrap();
        assert_eq!(reports(&watcher), []);
    }

    #[test]
    fn where_reports_are_lost_anything_may_have_changed() {
        assert_eq!(Report::of(-1, ReadFlags::QUEUE_OVERFLOW), Report::Anything);
        assert_eq!(Report::of(7, ReadFlags::IGNORED), Report::Over(Watch(7)));
        for events in [ReadFlags::MODIFY, ReadFlags::CREATE | ReadFlags::ISDIR, ReadFlags::UNMOUNT] {
            assert_eq!(Report::of(7, events), Report::Changed(Watch(7)));
        }
    }

    #[test]
    fn nothing_is_heard_of_a_watch_that_was_ended() {
        let folder = tempfile::tempdir().unwrap();
        let watcher = Watcher::new().unwrap();
        let watch = || watcher.watch(File::open(folder.path()).unwrap().as_fd()).unwrap().0;
        let first = watch();
        watcher.end(first);
        let second = watch();
        assert_ne!(first, second);
        reports(&watcher);
        fs::write(folder.path().join("new"), "").unwrap();
        assert_eq!(reports(&watcher), once(second));
        let third = watch();
        assert_eq!(watcher.watches(), 1);
        let again = watcher.watch(File::open(folder.path()).unwrap().as_fd());
        assert_eq!(again.err(), Some(Errno::EXIST));
        watcher.end(third);
        assert_eq!(watcher.watches(), 0);
    }
}
