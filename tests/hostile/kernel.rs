//! What the kernel says of a server: its threads, descriptors, sockets and memory, and what it has left
//! behind in the kernel when it closed.

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::ops::RangeInclusive;
use std::sync::Once;

/// States of a TCP socket, as /proc/net/tcp numbers them.
const FIN_WAIT1: u8 = 0x04;
const FIN_WAIT2: u8 = 0x05;
const LAST_ACK: u8 = 0x09;
const LISTEN: u8 = 0x0A;
const CLOSING: u8 = 0x0B;

/// The timer that marks a TIME_WAIT entry: such an entry holds no buffers, whatever its state says.
const TIME_WAIT_TIMER: u8 = 3;

/// One socket of /proc/PID/net/tcp or tcp6.
#[derive(Debug)]
struct Socket {
    local_port: u16,
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

/// All TCP sockets in the network namespace of this process.
fn sockets(pid: u32) -> Vec<Socket> {
    ["tcp", "tcp6"]
        .iter()
        .filter_map(|file| fs::read_to_string(format!("/proc/{pid}/net/{file}")).ok())
        .flat_map(|table| table.lines().skip(1).filter_map(parse).collect::<Vec<_>>())
        .collect()
}

fn parse(line: &str) -> Option<Socket> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let hexadecimal = |text: &str| u64::from_str_radix(text, 16).ok();
    let (tx, rx) = fields.get(4)?.split_once(':')?;
    Some(Socket {
        local_port: u16::from_str_radix(fields.get(1)?.rsplit(':').next()?, 16).ok()?,
        state: u8::from_str_radix(fields.get(3)?, 16).ok()?,
        queued: hexadecimal(tx)? + hexadecimal(rx)?,
        timer: u8::from_str_radix(fields.get(5)?.split(':').next()?, 16).ok()?,
        inode: fields.get(9)?.parse().ok()?,
    })
}

/// Sockets on which the process itself listens.
pub fn listening(pid: u32) -> usize {
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
        .count()
}

/// Connections of these ports that no process owns any more and that still hold buffers in the kernel:
/// closed before everything was sent, or before the peer has said that it has it.
pub fn orphans(pid: u32, ports: &Ports) -> usize {
    sockets(pid)
        .iter()
        .filter(|socket| ports.has(socket.local_port) && socket.inode == 0 && socket.timer != TIME_WAIT_TIMER)
        .filter(|socket| matches!(socket.state, FIN_WAIT1 | FIN_WAIT2 | LAST_ACK | CLOSING))
        .count()
}

/// Bytes that the kernel holds for connections of these ports, on their way in and out.
pub fn queued_bytes(pid: u32, ports: &Ports) -> u64 {
    sockets(pid)
        .iter()
        .filter(|socket| ports.has(socket.local_port) && socket.state != LISTEN && socket.timer != TIME_WAIT_TIMER)
        .map(|socket| socket.queued)
        .sum()
}

/// Bytes of memory of the process's own: resident pages that are no file's. (Pages of the program come and
/// go with the code that runs; no client makes them grow.) Where the kernel keeps no exact count, the
/// approximate one of /proc/PID/status.
pub fn memory(pid: u32) -> u64 {
    let exact = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let rough = fs::read_to_string(format!("/proc/{pid}/status")).expect("the server runs");
    field(&exact, "Anonymous:").or_else(|| field(&rough, "RssAnon:")).expect("the kernel tells the memory of a process")
        * 1024
}

fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
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
