//! What the kernel says of a server: its threads, descriptors, sockets and memory, and what it has left
//! behind in the kernel when it closed.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io::{BufRead, BufReader};
use std::ops::RangeInclusive;
use std::sync::Once;

/// States of a TCP socket, as /proc/net/tcp numbers them.
const FIN_WAIT1: u8 = 0x04;
const FIN_WAIT2: u8 = 0x05;
const TIME_WAIT: u8 = 0x06;
const LAST_ACK: u8 = 0x09;
const LISTEN: u8 = 0x0A;
const CLOSING: u8 = 0x0B;

/// The timer that marks an entry of TIME_WAIT: it holds no buffers, whatever its state says.
const TIME_WAIT_TIMER: u8 = 3;

/// One socket of /proc/PID/net/tcp or tcp6.
#[derive(Debug)]
struct Socket {
    state: u8,
    queued: u64,
    timer: u8,
    inode: u64,
}

/// The ports of one server: that of its control connections, and those of its data connections.
#[derive(Debug, Clone)]
pub struct Ports {
    pub control: u16,
    pub data: RangeInclusive<u16>,
}

impl Ports {
    fn has(&self, port: u16) -> bool {
        port == self.control || self.data.contains(&port)
    }
}

/// The local port and the state of a line of /proc/PID/net/tcp. These are looked at first: most lines of
/// a busy host are those of other servers, and the whole of each need not be read.
fn port_and_state(line: &str) -> Option<(u16, u8)> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let port = u16::from_str_radix(fields.next()?.rsplit(':').next()?, 16).ok()?;
    let state = u8::from_str_radix(fields.nth(1)?, 16).ok()?;
    Some((port, state))
}

fn parse(line: &str) -> Option<Socket> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let hexadecimal = |text: &str| u64::from_str_radix(text, 16).ok();
    let (tx, rx) = fields.get(4)?.split_once(':')?;
    Some(Socket {
        state: u8::from_str_radix(fields.get(3)?, 16).ok()?,
        queued: hexadecimal(tx)? + hexadecimal(rx)?,
        timer: u8::from_str_radix(fields.get(5)?.split(':').next()?, 16).ok()?,
        inode: fields.get(9)?.parse().ok()?,
    })
}

/// The connections of these ports, in the network namespace of this process, that hold or may hold
/// buffers in the kernel.
fn connections(pid: u32, ports: &Ports) -> Vec<Socket> {
    let mut found = Vec::new();
    for file in ["tcp", "tcp6"] {
        let table = fs::read_to_string(format!("/proc/{pid}/net/{file}")).unwrap_or_default();
        let lines = table.lines().skip(1).filter(|line| {
            port_and_state(line).is_some_and(|(port, state)| state != TIME_WAIT && state != LISTEN && ports.has(port))
        });
        found.extend(lines.filter_map(parse).filter(|socket| socket.timer != TIME_WAIT_TIMER));
    }
    found
}

/// What the kernel still has of the connections of these ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remains {
    /// Connections that no process owns any more and that still hold buffers in the kernel: closed before
    /// everything was sent, or before the peer has said that it has it.
    pub orphans: usize,
    /// Bytes on their way in and out.
    pub queued: u64,
}

/// Asks the kernel for what it has of the connections of these ports.
pub fn remains(pid: u32, ports: &Ports) -> Remains {
    let connections = connections(pid, ports);
    let orphan =
        |socket: &&Socket| socket.inode == 0 && matches!(socket.state, FIN_WAIT1 | FIN_WAIT2 | LAST_ACK | CLOSING);
    Remains {
        orphans: connections.iter().filter(orphan).count(),
        queued: connections.iter().map(|socket| socket.queued).sum(),
    }
}

/// The sockets on which the process itself listens, by their inodes. The kernel tells its table in parts,
/// and where others come and go meanwhile, a socket may be told twice or not at all: two looks must agree.
fn listeners(pid: u32) -> BTreeMap<u64, Socket> {
    let mut last = listeners_at_a_look(pid);
    loop {
        let now = listeners_at_a_look(pid);
        if now.keys().eq(last.keys()) {
            return now;
        }
        last = now;
    }
}

fn listeners_at_a_look(pid: u32) -> BTreeMap<u64, Socket> {
    let own: HashSet<u64> = fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("the server runs")
        .filter_map(|entry| {
            let target = fs::read_link(entry.ok()?.path()).ok()?;
            let inode = target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
            inode.parse().ok()
        })
        .collect();
    // They come first, and the rest, which may be thousands, need not be read.
    ["tcp", "tcp6"]
        .iter()
        .filter_map(|file| fs::File::open(format!("/proc/{pid}/net/{file}")).ok())
        .flat_map(|table| {
            let lines = BufReader::new(table).lines().skip(1).map_while(Result::ok);
            lines.map_while(|line| parse(&line).filter(|socket| socket.state == LISTEN))
        })
        .filter(|socket| own.contains(&socket.inode))
        .map(|socket| (socket.inode, socket))
        .collect()
}

/// How many sockets the process itself listens on.
pub fn listening(pid: u32) -> usize {
    listeners(pid).len()
}

/// Connections that the kernel has taken for the process and that it has not accepted yet.
pub fn backlog(pid: u32) -> u64 {
    listeners(pid).values().map(|socket| socket.queued).sum()
}

/// CPU time that the process has used, in hundredths of a second.
pub fn cpu(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the server runs");
    // The name, in parentheses, may hold anything.
    let rest = stat.rsplit(')').next().expect("a line");
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<u64>().expect("a number");
    ticks(11) + ticks(12)
}

/// The thread of this name.
pub fn thread(pid: u32, name: &str) -> Option<u32> {
    fs::read_dir(format!("/proc/{pid}/task")).ok()?.find_map(|entry| {
        let entry = entry.ok()?;
        let comm = fs::read_to_string(entry.path().join("comm")).ok()?;
        (comm.trim() == name).then(|| entry.file_name().to_str()?.parse().ok())?
    })
}

/// Every thread whose name begins so.
pub fn threads(pid: u32, name: &str) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("the server runs");
    let of_name = |entry: fs::DirEntry| {
        let comm = fs::read_to_string(entry.path().join("comm")).ok()?;
        comm.starts_with(name).then(|| entry.file_name().to_str()?.parse().ok())?
    };
    tasks.filter_map(|entry| of_name(entry.ok()?)).collect()
}

/// Raises the soft limit of descriptors to the hard one, for those tests that are a thousand clients;
/// returns what the limit is then.
pub fn raise_descriptors() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let maximum = getrlimit(Resource::Nofile).maximum;
        let raised = Rlimit { current: maximum, maximum };
        let _ = setrlimit(Resource::Nofile, raised);
    });
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}
