//! Addresses that are turned away: `--deny-file`.
//!
//! Owns the form of that file and the question whether an address is in it. One range a line, an address or
//! a network in CIDR notation; `#` and `;` begin a comment. A network with bits set behind its prefix is the
//! network in which that address is. IPv4 addresses mapped into IPv6 are IPv4 addresses, in the file and at the
//! door.

use crate::limits::{DENY_FILE_MAX, DENY_LINE_MAX, DENY_RANGES_MAX, FAULTS_TOLD};
use ipnet::IpNet;
use rustix::fs;
use std::fmt;
use std::io::{self, BufRead, BufReader, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// Ranges in their order, none of which touches the next: a question is a binary search.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DenyList {
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
}

/// Why there is no list: one line for each fault, `FILE:LINE: what is wrong`.
#[derive(Debug)]
pub struct DenyError {
    path: PathBuf,
    faults: Vec<(Option<usize>, String)>,
    untold: usize,
}

impl DenyList {
    /// Reads a file. It is a list as a whole or not at all.
    ///
    /// # Errors
    /// The file can't be read, is no regular file, or is too large; a line is neither a range nor a comment.
    pub fn load(path: &Path) -> Result<Self, DenyError> {
        let mut error = DenyError { path: path.to_owned(), faults: Vec::new(), untold: 0 };
        let list = open(path).and_then(|file| Self::read(BufReader::new(file), &mut error));
        match list {
            Ok(list) if error.faults.is_empty() => Ok(list),
            Ok(_) => Err(error),
            Err(cause) => {
                let text = cause.to_string();
                error.fault(None, text.split(" (os error").next().unwrap_or_default().to_lowercase());
                Err(error)
            }
        }
    }

    fn read(mut input: impl BufRead, error: &mut DenyError) -> io::Result<Self> {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        let (mut line, mut number) = (Vec::new(), 0);
        loop {
            line.clear();
            // One more, which shows that it is too long.
            let most = u64::try_from(DENY_LINE_MAX).unwrap_or(u64::MAX).saturating_add(1);
            if input.by_ref().take(most).read_until(b'\n', &mut line)? == 0 {
                break;
            }
            number += 1;
            if line.len() > DENY_LINE_MAX {
                // What follows is not the beginning of a line.
                error.fault(Some(number), format!("more than {DENY_LINE_MAX} bytes"));
                break;
            }
            match range(&line) {
                Ok(None) => {}
                Ok(Some(_)) if v4.len() + v6.len() >= DENY_RANGES_MAX => {
                    error.fault(Some(number), format!("more than {DENY_RANGES_MAX} ranges"));
                    break;
                }
                Ok(Some(Range::V4(first, last))) => v4.push((first, last)),
                Ok(Some(Range::V6(first, last))) => v6.push((first, last)),
                Err(text) => error.fault(Some(number), text),
            }
        }
        Ok(DenyList { v4: merge(v4, |last| last.checked_add(1)), v6: merge(v6, |last| last.checked_add(1)) })
    }

    /// Whether the address is denied.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(v4) => holds(&self.v4, u32::from(v4)),
            IpAddr::V6(v6) => holds(&self.v6, u128::from(v6)),
        }
    }

    /// How many ranges it has, those that touch each other joined.
    #[must_use]
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// Whether nobody is denied.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The most memory in bytes that the list and its successor use while it is read anew.
    #[must_use]
    pub const fn worst_case_bytes() -> usize {
        // The old list, the new one, and a copy of that while it grows or shrinks.
        3 * DENY_RANGES_MAX * size_of::<(u128, u128)>()
    }
}

impl DenyError {
    fn fault(&mut self, line: Option<usize>, text: String) {
        if self.faults.len() < FAULTS_TOLD {
            self.faults.push((line, text));
        } else {
            self.untold += 1;
        }
    }
}

impl fmt::Display for DenyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        for (index, (line, text)) in self.faults.iter().enumerate() {
            let end = if index == 0 { "" } else { "\n" };
            match line {
                Some(line) => write!(f, "{end}{path}:{line}: {text}")?,
                None => write!(f, "{end}{path}: {text}")?,
            }
        }
        if self.untold > 0 {
            write!(f, "\n{path}: and {} more", self.untold)?;
        }
        Ok(())
    }
}

impl std::error::Error for DenyError {}

/// From the first address to the last.
enum Range {
    V4(u32, u32),
    V6(u128, u128),
}

/// What a line says; `None` where it is empty or a comment.
fn range(line: &[u8]) -> Result<Option<Range>, String> {
    let end = line.iter().position(|byte| b"#;".contains(byte)).unwrap_or(line.len());
    let text = line.get(..end).unwrap_or_default().trim_ascii();
    if text.is_empty() {
        return Ok(None);
    }
    let wrong = || format!("\"{}\" is neither an address nor a network", text.escape_ascii());
    let text = std::str::from_utf8(text).map_err(|_| wrong())?;
    let network: IpNet = match text.parse() {
        Ok(network) => network,
        Err(_) => IpNet::from(text.parse::<IpAddr>().map_err(|_| wrong())?),
    };
    Ok(Some(match (network.network(), network.broadcast()) {
        (IpAddr::V4(first), IpAddr::V4(last)) => Range::V4(first.into(), last.into()),
        (first, last) => match (first.to_canonical(), last.to_canonical()) {
            (IpAddr::V4(first), IpAddr::V4(last)) => Range::V4(first.into(), last.into()),
            _ => Range::V6(bits(first), bits(last)),
        },
    }))
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().into(),
        IpAddr::V6(v6) => v6.into(),
    }
}

/// Sorts ranges and joins those that overlap or touch.
fn merge<T: Copy + Ord>(mut ranges: Vec<(T, T)>, after: impl Fn(T) -> Option<T>) -> Vec<(T, T)> {
    ranges.sort_unstable();
    ranges.dedup_by(|next, kept| {
        let touches = after(kept.1).is_none_or(|after| next.0 <= after);
        if touches {
            kept.1 = kept.1.max(next.1);
        }
        touches
    });
    ranges.shrink_to_fit();
    ranges
}

fn holds<T: Copy + Ord>(ranges: &[(T, T)], value: T) -> bool {
    let after = ranges.partition_point(|&(first, _)| first <= value);
    after.checked_sub(1).and_then(|index| ranges.get(index)).is_some_and(|&(_, last)| value <= last)
}

/// Opens a regular file that is not too large. A pipe would be empty at the next reload, and could hang it.
fn open(path: &Path) -> io::Result<impl Read> {
    let flags = fs::OFlags::RDONLY | fs::OFlags::NONBLOCK | fs::OFlags::NOCTTY | fs::OFlags::CLOEXEC;
    let descriptor = fs::open(path, flags, fs::Mode::empty())?;
    let status = fs::fstat(&descriptor)?;
    if !fs::FileType::from_raw_mode(status.st_mode).is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    if u64::try_from(status.st_size).unwrap_or(u64::MAX) > DENY_FILE_MAX {
        return Err(io::Error::other(format!("more than {DENY_FILE_MAX} bytes")));
    }
    // It may grow while it is read.
    Ok(Reader(descriptor).take(DENY_FILE_MAX))
}

/// Reads from a descriptor.
struct Reader(std::os::fd::OwnedFd);

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(&self.0, buffer)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs::write;
    use std::io::Cursor;

    fn read(text: &[u8]) -> Result<DenyList, DenyError> {
        let mut error = DenyError { path: PathBuf::from("FILE"), faults: Vec::new(), untold: 0 };
        let list = DenyList::read(Cursor::new(text), &mut error).unwrap();
        if error.faults.is_empty() { Ok(list) } else { Err(error) }
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn addresses_and_networks_of_both_families() {
        let text = b"# a comment\n\n 192.0.2.7\n198.51.100.0/24 ; why\r\n10.1.2.3/8#x\n2001:db8::/32\n::1\n            ::ffff:203.0.113.0/120\n198.51.101.0/24\n198.51.100.128/25";
        let list = read(text).unwrap();
        for denied in [
            "192.0.2.7",
            "::ffff:192.0.2.7",
            "198.51.100.0",
            "198.51.101.255",
            "10.0.0.0",
            "10.255.255.255",
            "2001:db8::",
            "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
            "::1",
            "203.0.113.9",
        ] {
            assert!(list.contains(address(denied)), "{denied}");
        }
        for allowed in
            ["192.0.2.6", "192.0.2.8", "198.51.99.255", "198.51.102.0", "11.0.0.0", "2001:db9::", "::", "203.0.114.0"]
        {
            assert!(!list.contains(address(allowed)), "{allowed}");
        }
        assert_eq!(list.len(), 6, "what touches is joined: {list:?}");
        let everybody = read(b"::/0\n0.0.0.0/0\n255.255.255.255\n").unwrap();
        assert!(everybody.contains(address("255.255.255.255")) && everybody.contains(address("::")));
        assert_eq!(everybody.len(), 2);
        assert!(!read(b"::/0").unwrap().contains(address("192.0.2.1")), "IPv4 is not a part of IPv6");
        assert!(read(b"# nobody\n").unwrap().is_empty());
    }

    #[test]
    fn each_fault_is_told_with_file_and_line() {
        let error =
            read(b"192.0.2.1\n192.0.2.256\n\n10.0.0.0/33\nhost.example\n192.0.2.1 192.0.2.2\n\xff\x1b\n").unwrap_err();
        let told = [
            "FILE:2: \"192.0.2.256\" is neither an address nor a network",
            "FILE:4: \"10.0.0.0/33\" is neither an address nor a network",
            "FILE:5: \"host.example\" is neither an address nor a network",
            "FILE:6: \"192.0.2.1 192.0.2.2\" is neither an address nor a network",
            "FILE:7: \"\\xff\\x1b\" is neither an address nor a network",
        ];
        assert_eq!(error.to_string(), told.join("\n"));
        let error = read(&b"wrong\n".repeat(FAULTS_TOLD + 5)).unwrap_err().to_string();
        assert_eq!((error.lines().count(), error.lines().last()), (FAULTS_TOLD + 1, Some("FILE: and 5 more")));
    }

    #[test]
    fn a_list_is_bounded() {
        let fits: Vec<u8> = (0..DENY_RANGES_MAX).flat_map(|n| format!("2001:db8::{n:x}:0\n").into_bytes()).collect();
        assert_eq!(read(&fits).unwrap().len(), DENY_RANGES_MAX);
        let error = read(&[&fits[..], b"::1\n"].concat()).unwrap_err().to_string();
        assert_eq!(error, "FILE:65537: more than 65536 ranges");
        let long = [b"::1 #", &b"x".repeat(DENY_LINE_MAX)[..]].concat();
        assert_eq!(read(&long).unwrap_err().to_string(), "FILE:1: more than 1024 bytes");
        assert!(read(&long[..DENY_LINE_MAX]).is_ok());
    }

    #[test]
    fn only_a_regular_file_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deny");
        let error = |path: &Path| {
            let text = DenyList::load(path).unwrap_err().to_string();
            text.strip_prefix(&format!("{}: ", path.display())).map(str::to_owned).unwrap()
        };
        assert_eq!(error(&path), "no such file or directory");
        assert_eq!(error(folder.path()), "not a regular file");
        write(&path, "192.0.2.0/24\n").unwrap();
        assert!(DenyList::load(&path).unwrap().contains(address("192.0.2.9")));
        std::fs::File::create(&path).unwrap().set_len(DENY_FILE_MAX + 1).unwrap();
        assert_eq!(error(&path), format!("more than {DENY_FILE_MAX} bytes"));
        let pipe = folder.path().join("pipe");
        fs::mknodat(fs::CWD, &pipe, fs::FileType::Fifo, fs::Mode::RWXU, 0).unwrap();
        assert_eq!(error(&pipe), "not a regular file", "and it does not hang");
    }

    proptest! {
        #[test]
        fn the_list_agrees_with_its_networks_one_by_one(
            networks in prop::collection::vec((any::<u32>(), 0u8..=32), 0..40),
            six in prop::collection::vec((any::<u128>(), 0u8..=128), 0..20),
            asked in prop::collection::vec(any::<u32>(), 20),
        ) {
            let networks: Vec<IpNet> = networks
                .into_iter()
                .map(|(address, prefix)| IpNet::new(IpAddr::V4((address % 4096).into()), prefix).unwrap())
                .chain(six.into_iter().map(|(address, prefix)| IpNet::new(IpAddr::V6(address.into()), prefix).unwrap()))
                .collect();
            let text: String = networks.iter().map(|network| format!("{network}\n")).collect();
            let list = read(text.as_bytes()).unwrap();
            let edges = networks.iter().flat_map(|network| [network.network(), network.broadcast(), network.addr()]);
            let asked = asked.into_iter().map(|address| IpAddr::V4((address % 8192).into()));
            for address in edges.chain(asked) {
                let expected = networks.iter().any(|network| network.contains(&address));
                prop_assert_eq!(list.contains(address), expected, "{}", address);
            }
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            let _ = read(&bytes);
        }
    }
}
