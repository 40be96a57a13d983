//! A memory cgroup for a server: a limit that is its load line, and what it has cost in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// A memory cgroup below that of this process; it goes with this value.
pub struct Cgroup {
    path: PathBuf,
    version: Version,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    /// Buffers of sockets are counted apart, against a limit of their own.
    One,
    Two,
}

impl Cgroup {
    /// Makes one with this limit in bytes, or says why there can be none here.
    pub fn with_limit(bytes: u64) -> Result<Cgroup, String> {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let own = fs::read_to_string("/proc/self/cgroup").map_err(|error| error.to_string())?;
        let (version, above) = own.lines().find_map(place).ok_or("no memory cgroups are mounted")?;
        let name = format!("plimsoll-{}-{}", std::process::id(), NUMBER.fetch_add(1, SeqCst));
        let path = above.join(name);
        fs::create_dir(&path).map_err(|error| format!("{}: {error}", above.display()))?;
        let cgroup = Cgroup { path, version };
        let limits: &[&str] = match version {
            Version::One => &["memory.limit_in_bytes", "memory.kmem.tcp.limit_in_bytes"],
            Version::Two => &["memory.max"],
        };
        for file in limits {
            let error = |error| format!("{file} of {}: {error}", cgroup.path.display());
            fs::write(cgroup.path.join(file), bytes.to_string()).map_err(error)?;
        }
        Ok(cgroup)
    }

    /// A command that runs this one in the cgroup from its first instruction on.
    pub fn enclose(&self, inner: &Command) -> Command {
        let mut command = Command::new("sh");
        let procs = self.path.join("cgroup.procs");
        command.args(["-c", "echo $$ > \"$1\" && shift && exec \"$@\"", "sh"]).arg(procs);
        command.arg(inner.get_program()).args(inner.get_args());
        command
    }

    /// Bytes that are held and that the kernel can't take back: memory of the process, kernel memory, and
    /// pages of files that are in use. What it can take back is taken back.
    pub fn held(&self) -> u64 {
        match self.version {
            Version::One => {
                let _ = fs::write(self.path.join("memory.force_empty"), "0");
                self.number("memory.usage_in_bytes") + self.number("memory.kmem.tcp.usage_in_bytes")
            }
            Version::Two => {
                // It fails once there is no more to be had.
                while fs::write(self.path.join("memory.reclaim"), "1M").is_ok() {}
                self.number("memory.current")
            }
        }
    }

    /// Processes that the kernel has ended because the limit was reached.
    pub fn killed(&self) -> u64 {
        let file = match self.version {
            Version::One => "memory.oom_control",
            Version::Two => "memory.events",
        };
        let text = fs::read_to_string(self.path.join(file)).expect("the cgroup is there");
        let number = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        number.and_then(|number| number.parse().ok()).expect("a number")
    }

    fn number(&self, file: &str) -> u64 {
        let text = fs::read_to_string(self.path.join(file)).expect("the cgroup is there");
        text.trim().parse().expect("a number")
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Until those in it are gone for good.
        for _ in 0..200 {
            if fs::remove_dir(&self.path).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}

/// Where memory cgroups are, if this line of /proc/self/cgroup tells.
fn place(line: &str) -> Option<(Version, PathBuf)> {
    let mut fields = line.splitn(3, ':').skip(1);
    let (controllers, path) = (fields.next()?, fields.next()?);
    let path = path.trim_start_matches('/');
    let two = Path::new("/sys/fs/cgroup").join(path);
    match controllers {
        "memory" => Some((Version::One, Path::new("/sys/fs/cgroup/memory").join(path))),
        "" if two.join("memory.max").exists() => Some((Version::Two, two)),
        _ => None,
    }
}
