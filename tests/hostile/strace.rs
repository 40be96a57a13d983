//! strace(1), which has system calls of a server fail as they hardly ever do by themselves, and writes down
//! those that it sees.

use crate::server::PATIENCE;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// It lets go of the threads when it is dropped.
pub struct Strace(Child);

impl Strace {
    /// Attaches to these threads, with expressions as its option `-e` takes them. `None` where it is not
    /// there, or may not be used.
    pub fn on(threads: &[u32], expressions: &[&str]) -> Option<Strace> {
        Self::noting(threads, expressions, Path::new("/dev/null"))
    }

    /// The same, with the calls written to a file.
    pub fn noting(threads: &[u32], expressions: &[&str], notes: &Path) -> Option<Strace> {
        let mut command = Command::new("strace");
        command.arg("-qq").arg("-o").arg(notes);
        for thread in threads {
            command.args(["-p", &thread.to_string()]);
        }
        for expression in expressions {
            command.args(["-e", expression]);
        }
        let mut child = command.stderr(Stdio::null()).spawn().ok()?;
        // Attached when the kernel says who traces the threads.
        let own = format!("TracerPid:\t{}\n", child.id());
        let traced = |thread: &u32| {
            let status = std::fs::read_to_string(format!("/proc/{thread}/status")).unwrap_or_default();
            status.contains(&own)
        };
        let until = Instant::now() + PATIENCE;
        while !threads.iter().all(traced) {
            if Instant::now() > until || child.try_wait().ok()?.is_some() {
                let _ = child.kill();
                let _ = child.wait();
                return None;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Some(Strace(child))
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        // SIGTERM, so that it lets go of the threads in order.
        let _ = Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status();
        let _ = self.0.wait();
    }
}
