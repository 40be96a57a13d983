//! A server to be ill-treated, and the check that ends every case: all is as it was before.

use crate::guest::{Guest, Heard, address, connect_from};
use crate::kernel::{self, Ports, Remains};
use crate::members::{PASSWORD, accounts};
use crate::server::{Client, PATIENCE, Server, eventually, has_ipv6, tree};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::ops::{Deref, DerefMut, RangeInclusive};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// Bytes by which the memory of a server that does nothing may differ from what it was when it did
/// nothing before: what the allocator keeps of what was freed, in as many arenas as it likes to have. It
/// is far less than any of the attacks would cost if it worked.
const NOISE: u64 = 512 * 1024;

/// Workers beyond which a pool is a large one.
const LARGE: usize = 128;

/// Replies to HELP that are more than the buffer of replies holds.
const HELPS: usize = 8;

/// Bytes of an argument that nearly fills the line of a command.
const LONG_LINE: usize = 4000;

/// A newcomer who finds the server at rest is logged in within this time.
const NEWCOMER: Duration = Duration::from_secs(2);

/// A server with a passive range of its own, so that everything in the kernel at its ports is its own.
pub struct Arena {
    server: Server,
    ports: Ports,
    before: Reading,
    memory: u64,
    root: PathBuf,
    folder: tempfile::TempDir,
    _claim: Vec<UdpSocket>,
}

/// What the server says of itself when it is asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Audit {
    pub sessions: usize,
    pub busy: usize,
    pub queued: usize,
    pub sockets: usize,
}

/// What can be counted from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Reading {
    threads: usize,
    descriptors: usize,
    listening: usize,
    remains: Remains,
}

impl Arena {
    /// A server with these flags, in which every worker has worked already.
    pub fn open(flags: &[&str]) -> Arena {
        Self::open_at(if has_ipv6() { "[::]:0" } else { "0.0.0.0:0" }, flags)
    }

    /// A server with these users, each with its keys, of whom the first works first.
    pub fn with_users(users: &[(&str, &str)], flags: &[&str]) -> Arena {
        let (folder, root) = tree();
        let path = accounts(folder.path(), users);
        let accounts = ["--accounts", path.to_str().expect("UTF-8")];
        Self::serve("0.0.0.0:0", &[flags, &accounts].concat(), (folder, root), users.first().map(|(name, _)| *name))
    }

    /// A server on whose `incoming`, a folder beside the root, strangers may drop files, and one user, `bob`,
    /// who may change everything in the root.
    pub fn with_drop_box(flags: &[&str]) -> Arena {
        let (folder, root) = tree();
        let incoming = folder.path().join("incoming");
        std::fs::create_dir(&incoming).expect("a folder");
        let path = accounts(folder.path(), &[("bob", "write=all")]);
        let more = ["--accounts", path.to_str().expect("UTF-8"), "--anonymous", "dropbox"];
        let incoming = ["--incoming", incoming.to_str().expect("UTF-8")];
        Self::serve("0.0.0.0:0", &[flags, &more, &incoming].concat(), (folder, root), Some("bob"))
    }

    /// The same at this address.
    pub fn open_at(listen: &str, flags: &[&str]) -> Arena {
        Self::serve(listen, flags, tree(), None)
    }

    /// The first to work is `user`, or anonymous.
    fn serve(listen: &str, flags: &[&str], (folder, root): (tempfile::TempDir, PathBuf), user: Option<&str>) -> Arena {
        kernel::raise_descriptors();
        let workers = flag(flags, "--workers").unwrap_or(16);
        let (data, claim) = passive_range(u16::try_from(workers).expect("a small pool") + 16);
        let range = format!("{}-{}", data.start(), data.end());
        let mut flags = flags.to_vec();
        flags.extend(["--passive-ports", &range]);
        let server = Server::start_at(&root, listen, &flags);
        let ports = Ports { control: server.port(), data };
        let before = Reading::of(&server, &ports);
        let mut arena = Arena { before, memory: 0, ports, server, root, folder, _claim: claim };
        arena.warm_up(workers, user);
        arena.before = arena.first_rest();
        arena.memory = arena.server.memory();
        arena
    }

    /// What is there when every worker has worked once: as much as before that, but for a file that the C
    /// library opens for a moment at the start of a thread. So it is asked until two answers agree.
    fn first_rest(&self) -> Reading {
        let start = &self.before;
        let until = Instant::now() + PATIENCE;
        let mut last = start.clone();
        loop {
            let (deserted, reading) = (self.is_deserted(), self.reading());
            let same = Reading { descriptors: start.descriptors, ..reading.clone() } == *start;
            let steady = reading == last;
            last = reading;
            if deserted && same && steady && last.descriptors <= start.descriptors {
                return last;
            }
            let audit = self.audit();
            assert!(
                Instant::now() < until,
                "the first clients left something: {audit:?}; {last:?}, but before {start:?}"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Has every worker touch all of its memory once, all at a time: commands and replies that fill their
    /// buffers, a folder that fills that of names, and a file to be converted that fills that of data. (Not in the largest pools: that would take longer
    /// than the test, and there only files are sent, as they are, for which no buffer is touched.)
    fn warm_up(&self, workers: usize, user: Option<&str>) {
        let folder = self.root.join("warm-up");
        std::fs::create_dir(&folder).expect("a folder");
        for number in 0..300 {
            let name = format!("{number:03}{}", "n".repeat(200));
            std::fs::File::create(folder.join(name)).expect("a file");
        }
        std::fs::write(folder.join("000"), vec![b'\n'; 100_000]).expect("a file");
        let commands: &[&str] = if workers > LARGE { &["NLST empty"] } else { &["NLST warm-up", "RETR warm-up/000"] };
        let mut guests: Vec<Guest> = (0..workers).map(|number| self.warm(number, user, commands)).collect();
        for guest in &mut guests {
            guest.send("QUIT");
            while let heard = guest.hear(PATIENCE)
                && heard != Heard::End
            {
                assert_ne!(heard, Heard::Nothing, "a session that was to end goes on");
            }
        }
        std::fs::remove_dir_all(&folder).expect("it was there");
    }

    /// One session that has done something of everything and stays; or as far as it came, where the flags
    /// do not let everybody in, or not for so long.
    fn warm(&self, number: usize, user: Option<&str>, commands: &[&str]) -> Guest {
        let mut guest = Guest::from(address(number), self.v4());
        let mut is_in = false;
        let said = |guest: &mut Guest, is_in: bool, command: &str, code: &str| {
            if !command.is_empty() {
                guest.send(command);
            }
            match guest.hear(PATIENCE) {
                Heard::Reply(reply) if reply.starts_with(code) => Some(reply),
                // Whoever is in may be sent away, but is not refused anything.
                Heard::Reply(reply) if is_in && !reply.starts_with("421") => panic!("{command}: {reply}"),
                _ => None,
            }
        };
        let mut all = || {
            said(&mut guest, is_in, "", "220 ")?;
            said(&mut guest, is_in, &format!("USER {}", user.unwrap_or("anonymous")), "331 ")?;
            said(&mut guest, is_in, &format!("PASS {PASSWORD}"), "230 ")?;
            is_in = true;
            guest.raw(&"HELP\r\n".repeat(HELPS).into_bytes());
            for _ in 0..HELPS {
                said(&mut guest, is_in, "", "214-")?;
            }
            said(&mut guest, is_in, &format!("SIZE {}", "n".repeat(LONG_LINE)), "550 ")?;
            for command in commands {
                let reply = said(&mut guest, is_in, "EPSV", "229 ")?;
                let to = SocketAddr::new(self.v4().ip(), port_of(&reply));
                let mut data = connect_from(address(number), to).ok()?;
                said(&mut guest, is_in, command, "150 ")?;
                std::io::copy(&mut data, &mut std::io::sink()).ok()?;
                drop(data);
                said(&mut guest, is_in, "", "226 ")?;
            }
            Some(())
        };
        all();
        guest
    }

    /// The served folder.
    pub fn root(&self) -> &std::path::Path {
        &self.root
    }

    /// The folder into which strangers drop files, where there is one.
    pub fn incoming(&self) -> PathBuf {
        self.folder.path().join("incoming")
    }

    /// The server's ports.
    pub fn ports(&self) -> &Ports {
        &self.ports
    }

    /// Makes a file of this size that takes no room.
    pub fn sparse(&self, name: &str, bytes: u64) {
        let file = std::fs::File::create(self.root.join(name)).expect("a file");
        file.set_len(bytes).expect("a sparse file");
    }

    /// A guest at the server.
    pub fn guest(&self) -> Guest {
        Guest::connect(self.v4())
    }

    /// Asks the server what it counts.
    pub fn audit(&self) -> Audit {
        let state = self.state();
        let line = state.lines().find_map(|line| line.strip_prefix(AUDIT)).expect("the audit");
        let counts: Vec<usize> = line
            .split(", ")
            .map(|part| part.split(' ').next().and_then(|n| n.parse().ok()).expect("a count"))
            .collect();
        let [sessions, busy, queued, sockets] = counts[..] else {
            panic!("four counts: {line}");
        };
        Audit { sessions, busy, queued, sockets }
    }

    /// Whether nobody is there, nor on the way in: who has connected is counted by the kernel alone until the
    /// acceptor has come to it.
    pub fn is_deserted(&self) -> bool {
        kernel::backlog(self.pid()) == 0 && self.audit() == Audit::default()
    }

    /// Asks the server for its state: the block that it then writes to its log.
    pub fn state(&self) -> String {
        const START: &str = " state: load line: ";
        let known = self.log().len();
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).expect("a process");
        kill_process(pid, Signal::USR1).expect("the server runs");
        let mut block = String::new();
        eventually("the server to tell its state", || {
            let log = self.log();
            let Some((_, told)) = log[known..].split_once(START) else { return false };
            block = told.to_owned();
            // It comes line by line: the audit is whole when there is a line after it. The sessions, one line
            // each, may still be on their way; whoever looks for one of them asks again.
            block.lines().skip_while(|line| !line.starts_with(AUDIT)).count() > 1
        });
        block
    }

    /// Bytes by which the server's memory has grown beyond what is noise; 0 where it has not.
    pub fn growth(&self) -> u64 {
        self.server.memory().saturating_sub(self.memory + NOISE)
    }

    /// Sockets on which the server listens besides those of the start.
    pub fn extra_listeners(&self) -> usize {
        kernel::listening(self.pid()) - self.before.listening
    }

    fn reading(&self) -> Reading {
        Reading::of(&self.server, &self.ports)
    }

    /// Waits until the server says that nobody is there, and the kernel that nothing is left.
    fn wait_for_rest(&self, time: Duration) {
        let until = Instant::now() + time;
        loop {
            let (deserted, reading) = (self.is_deserted(), self.reading());
            if deserted && reading == self.before {
                return;
            }
            assert!(
                Instant::now() < until,
                "not back at the baseline: {:?}; {reading:?}, but before {:?}",
                self.audit(),
                self.before
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The check that ends every case: sessions, threads, descriptors, listeners, orphans and memory are
    /// back where they were, and a newcomer is served at once.
    pub fn baseline(&self) {
        self.baseline_within(PATIENCE);
    }

    /// The same for cases in which the kernel may take longer to give up on a peer.
    pub fn baseline_within(&self, time: Duration) {
        self.check_baseline(time, 0);
    }

    /// The same where the server has so many bytes of `--listing-memory`, which it does not give back.
    pub fn baseline_remembering(&self, bytes: u64) {
        self.check_baseline(PATIENCE, bytes);
    }

    fn check_baseline(&self, time: Duration, kept: u64) {
        let until = Instant::now() + time;
        while !self.is_deserted() {
            assert!(Instant::now() < until, "sessions are left: {:?}", self.audit());
            std::thread::sleep(Duration::from_millis(50));
        }
        let newcomer = self.newcomer();
        self.wait_for_rest(time);
        let until = Instant::now() + PATIENCE;
        while self.growth() > kept {
            let [before, now] = [self.memory, self.server.memory()].map(|bytes| bytes / 1024);
            assert!(
                Instant::now() < until,
                "the memory is not back at the baseline: {before} KiB before, {now} KiB now"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        let (before, now, noise) = (self.memory / 1024, self.server.memory() / 1024, NOISE / 1024);
        eprintln!(
            "a newcomer was in after {newcomer:?}; memory: {before} KiB before, {now} KiB now (noise: {noise} KiB)"
        );
    }

    /// Somebody new logs in and leaves; returns how long it took to be in.
    pub fn newcomer(&self) -> Duration {
        let start = Instant::now();
        let mut newcomer = self.login();
        let time = start.elapsed();
        assert!(time < NEWCOMER, "a newcomer had to wait for {time:?}");
        newcomer.expect("QUIT", "221 ");
        newcomer.expect_end();
        time
    }
}

impl Reading {
    fn of(server: &Server, ports: &Ports) -> Self {
        let pid = server.pid();
        Reading {
            threads: server.threads(),
            descriptors: server.descriptors(),
            listening: kernel::listening(pid),
            remains: kernel::remains(pid, ports),
        }
    }
}

impl Deref for Arena {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl DerefMut for Arena {
    fn deref_mut(&mut self) -> &mut Server {
        &mut self.server
    }
}

/// How the line of the audit begins.
const AUDIT: &str = "  audit: ";

fn flag(flags: &[&str], name: &str) -> Option<usize> {
    let at = flags.iter().position(|&flag| flag == name)?;
    flags.get(at + 1)?.parse().ok()
}

/// A range of ports below the default one and those that kernels give out, of which each could be had a
/// moment ago; and what keeps every other server of these tests out of it, in this process and in others:
/// of each block of ports the first is bound for UDP, for which nothing here is used.
fn passive_range(count: u16) -> (RangeInclusive<u16>, Vec<UdpSocket>) {
    const LEAST: u16 = 10_000;
    const BLOCK: u16 = 32;
    const BLOCKS: u16 = 312;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let wanted = count.div_ceil(BLOCK);
    // Two processes begin at different places.
    let random = RandomState::new().hash_one(0) % u64::from(BLOCKS);
    let _ = NEXT.compare_exchange(0, u16::try_from(random).expect("a small number"), SeqCst, SeqCst);
    loop {
        let first = LEAST + NEXT.fetch_add(wanted, SeqCst) % (BLOCKS - wanted + 1) * BLOCK;
        let claim: Result<Vec<_>, _> =
            (0..wanted).map(|block| UdpSocket::bind(("127.0.0.1", first + block * BLOCK))).collect();
        let range = first..=first + count - 1;
        if let Ok(claim) = claim
            && range.clone().all(|port| TcpListener::bind(("0.0.0.0", port)).is_ok())
        {
            return (range, claim);
        }
    }
}

/// The port in the reply to EPSV.
pub fn port_of(reply: &str) -> u16 {
    reply.split('|').nth(3).and_then(|port| port.parse().ok()).expect("a port")
}

/// EPSV, not yet connected.
pub fn passive_port(client: &mut Client) -> SocketAddr {
    let reply = client.expect("EPSV", "229 ");
    let peer = client.stream.peer_addr().expect("connected");
    SocketAddr::new(peer.ip(), port_of(&reply))
}

/// Begins to fetch a file and reads none of it.
pub fn begin(client: &mut Client, name: &str) -> TcpStream {
    let data = client.passive(true);
    client.expect(&format!("RETR {name}"), "150 ");
    data
}

/// Has the connection end with RST when it is dropped.
pub fn arm(stream: &TcpStream) {
    socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)).expect("a socket option");
}

/// Whether nobody listens at this address any more. (One who does and takes nobody is there.)
pub fn is_closed(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, Duration::from_millis(500))
        .is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
}

/// Tells those who go on until they are told, even if the one who would tell them fails before.
pub struct Finally<'a>(pub &'a AtomicBool);

impl Drop for Finally<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}
