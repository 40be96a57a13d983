//! What the host allows: memory, by the cgroups of this process, and send buffers.
//!
//! Reads a few files of the kernel's at start, and never again.

use crate::limits::WIDE_WINDOW;
use std::fs;
use std::path::{Path, PathBuf};

/// What cgroup v1 says where there is no limit: close to the largest number of pages.
const V1_UNLIMITED: u64 = 1 << 60;

/// Where cgroup hierarchies are mounted, and the files that hold limits there.
const MEMORY_V1: [(&str, &str); 2] =
    [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup/memory", "memory.memsw.limit_in_bytes")];
const MEMORY_V2: [(&str, &str); 2] = [("/sys/fs/cgroup", "memory.max"), ("/sys/fs/cgroup/unified", "memory.max")];

/// The least memory limit of the cgroup of this process and of those above it, v1 and v2, in bytes;
/// `None` where there is none.
#[must_use]
pub fn cgroup_memory() -> Option<u64> {
    let lines = fs::read_to_string("/proc/self/cgroup").ok()?;
    memory_files(&lines).iter().filter_map(|file| limit(&fs::read_to_string(file).ok()?)).min()
}

/// Bytes to which the kernel lets the send buffer of a TCP connection grow: the third number of
/// net.ipv4.tcp_wmem.
#[must_use]
pub fn send_buffer_max() -> usize {
    fs::read_to_string("/proc/sys/net/ipv4/tcp_wmem").ok().and_then(|text| third(&text)).unwrap_or(WIDE_WINDOW)
}

fn third(text: &str) -> Option<usize> {
    text.split_whitespace().nth(2)?.parse().ok()
}

/// The files that may hold a limit, by the lines of /proc/self/cgroup.
fn memory_files(lines: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in lines.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
            continue;
        };
        let places = match controllers {
            "" => MEMORY_V2,
            names if names.split(',').any(|name| name == "memory") => MEMORY_V1,
            _ => continue,
        };
        for (mount, file) in places {
            let inside = Path::new(mount).join(path.trim_start_matches('/'));
            let above = inside.ancestors().take_while(|folder| folder.starts_with(mount));
            files.extend(above.map(|folder| folder.join(file)));
        }
    }
    files
}

fn limit(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|&bytes| bytes < V1_UNLIMITED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_of_every_cgroup_above_count() {
        let files = memory_files("4:memory:/a/b\n1:cpu:/x\n");
        let names: Vec<_> = files.iter().filter_map(|f| f.to_str()).collect();
        for place in ["/sys/fs/cgroup/memory/a/b", "/sys/fs/cgroup/memory/a", "/sys/fs/cgroup/memory"] {
            let name = format!("{place}/memory.limit_in_bytes");
            assert!(names.contains(&name.as_str()), "{name} in {names:?}");
        }
        assert!(!names.iter().any(|name| name.contains("/x")), "{names:?}");
    }

    #[test]
    fn version_two_has_one_line_without_controllers() {
        let files = memory_files("0::/system.slice/plimsoll.service\n");
        let wanted = Path::new("/sys/fs/cgroup/system.slice/plimsoll.service/memory.max");
        assert!(files.iter().any(|file| file == wanted), "{files:?}");
    }

    #[test]
    fn what_is_no_limit_is_none() {
        assert_eq!(limit("max\n"), None);
        assert_eq!(limit("9223372036854771712\n"), None);
        assert_eq!(limit("67108864\n"), Some(67_108_864));
        assert_eq!(limit(""), None);
    }

    #[test]
    fn the_largest_send_buffer_is_the_last_of_three() {
        assert_eq!(third("4096\t16384\t4194304\n"), Some(4 << 20));
        assert_eq!(third("4096 16384\n"), None);
        assert!(send_buffer_max() > 0);
    }
}
