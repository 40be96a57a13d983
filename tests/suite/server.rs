//! Starts the real binary on a port of the kernel's choice, reads its ready line, and kills it on drop.

use std::fs::Permissions;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Longest wait for anything that has to happen.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Lines of the server's log that a test which fails prints.
const LOG_SHOWN: usize = 60;

/// What begins the state of the server in its log; the further lines of it are indented.
const STATE: &str = " state: load line: ";

/// A running server.
pub struct Server {
    child: Child,
    address: SocketAddr,
    ready: Vec<String>,
    log: Arc<Mutex<String>>,
}

impl Server {
    /// Serves `root` at `[::1]` and `127.0.0.1` alike, or at 127.0.0.1 where there is no IPv6.
    pub fn start(root: &Path, flags: &[&str]) -> Server {
        let listen = if has_ipv6() { "[::]:0" } else { "127.0.0.1:0" };
        Self::start_at(root, listen, flags)
    }

    /// Serves `root` at this address. Unless the flags say otherwise: few workers, because tests run in
    /// parallel, and a log of everything.
    pub fn start_at(root: &Path, listen: &str, flags: &[&str]) -> Server {
        Self::start_with(Self::command(), root, listen, flags)
    }

    /// Serves `root` as somebody whom permission bits bind. They do not bind root: where the tests run as
    /// root the server is another user, and a copy in `folder`, because the binary may be out of its reach.
    pub fn start_unprivileged(folder: &Path, root: &Path) -> Server {
        const NOBODY: u32 = 65_534;
        let mut command = Self::command();
        if rustix::process::geteuid().is_root() {
            let open = Permissions::from_mode(0o755);
            std::fs::set_permissions(folder, open).expect("it is ours");
            let copy = folder.join("plimsoll");
            // Not std::fs::copy: what another test starts meanwhile would hold the copy open for writing.
            let status = Command::new("cp").arg(env!("CARGO_BIN_EXE_plimsoll")).arg(&copy).status();
            assert!(status.expect("cp runs").success());
            command = Command::new(copy);
            command.env_remove("RUST_LOG").uid(NOBODY).gid(NOBODY);
        }
        Self::start_with(command, root, "127.0.0.1:0", &[])
    }

    fn start_with(mut command: Command, root: &Path, listen: &str, flags: &[&str]) -> Server {
        command.arg("serve").arg(root).args(["--listen", listen]);
        let defaults: [(&str, &str); 3] = [("--workers", "16"), ("--log", "debug"), ("--max-per-ip", "off")];
        for (flag, value) in defaults {
            if !flags.contains(&flag) {
                command.args([flag, value]);
            }
        }
        command.args(flags);
        Self::run(command)
    }

    /// Runs this command, which runs the server, until it is ready.
    pub fn run(mut command: Command) -> Server {
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).stdin(Stdio::null());
        let mut child = command.spawn().expect("the server's binary starts");
        let mut out = BufReader::new(child.stdout.take().expect("piped"));
        let mut ready = Vec::new();
        // Ready, the address to try, the load line.
        while ready.len() < 3 {
            let mut line = String::new();
            if out.read_line(&mut line).unwrap_or(0) == 0 {
                let mut error = String::new();
                let _ = child.stderr.take().expect("piped").read_to_string(&mut error);
                panic!("the server did not start: {error}");
            }
            ready.push(line.trim_end().to_owned());
        }
        let address = ready[0].rsplit(' ').next().and_then(|a| a.parse().ok()).expect("an address ends the ready line");
        let log = Arc::new(Mutex::new(String::new()));
        let (stderr, kept) = (child.stderr.take().expect("piped"), Arc::clone(&log));
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut log = kept.lock().expect("no test panics while it logs");
                log.push_str(&line);
                log.push('\n');
            }
        });
        Server { child, address, ready, log }
    }

    /// The binary, without arguments.
    pub fn command() -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_plimsoll"));
        command.env_remove("RUST_LOG");
        command
    }

    /// The three lines on standard output.
    pub fn ready(&self) -> &[String] {
        &self.ready
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Where an IPv4 client connects to.
    pub fn v4(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port()).into()
    }

    /// Where an IPv6 client connects to.
    pub fn v6(&self) -> SocketAddr {
        (Ipv6Addr::LOCALHOST, self.port()).into()
    }

    /// The URL of the root for IPv4 clients.
    pub fn url(&self) -> String {
        format!("ftp://127.0.0.1:{}/", self.port())
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything logged so far.
    pub fn log(&self) -> String {
        self.log.lock().expect("no test panics while it logs").clone()
    }

    /// Waits until the log holds this text.
    pub fn wait_for_log(&self, text: &str) {
        eventually(&format!("the log to hold {text:?}"), || self.log().contains(text));
    }

    /// Sends a signal by name, as `kill -TERM` does.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status();
        assert!(status.expect("kill runs").success());
    }

    /// Waits for the process to end.
    pub fn wait(&mut self) -> ExitStatus {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                return status;
            }
            assert!(Instant::now() < end, "the server does not end; its log:\n{}", tail(&self.log()));
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Threads of the process.
    pub fn threads(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/task", self.pid())).expect("it runs").count()
    }

    /// Bytes of memory of the process's own: resident pages that are no file's. (Pages of the program come and
    /// go with the code that runs; no client makes them grow.) Where the kernel keeps no exact count, the
    /// approximate one of /proc/PID/status.
    pub fn memory(&self) -> u64 {
        let told = |file: &str, name: &str| -> Option<u64> {
            let text = std::fs::read_to_string(format!("/proc/{}/{file}", self.pid())).ok()?;
            text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
        };
        let kib = told("smaps_rollup", "Anonymous:").or_else(|| told("status", "RssAnon:"));
        kib.expect("the kernel tells the memory of a process") * 1024
    }

    /// Open descriptors of the process, but for what the C library opens for a moment when a thread first asks
    /// for memory: the kernel's list of processors. What is closed before it can be looked at is not open.
    pub fn descriptors(&self) -> usize {
        let open = std::fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("it runs");
        let own = |entry: &std::fs::DirEntry| {
            std::fs::read_link(entry.path()).is_ok_and(|file| !file.starts_with("/sys") && !file.starts_with("/proc"))
        };
        open.filter_map(Result::ok).filter(own).count()
    }

    /// A new control connection over IPv4, greeted.
    pub fn connect(&self) -> Client {
        Client::connect(self.v4())
    }

    /// A new control connection over IPv4, logged in, in image type.
    pub fn login(&self) -> Client {
        let mut client = self.connect();
        client.log_in();
        client
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of the server ---\n{}", tail(&self.log()));
            return;
        }
        let log = self.log();
        let defect = log.lines().find(|line| line.contains("defect:"));
        assert!(defect.is_none(), "the server logged a defect: {}\n{}", defect.unwrap_or_default(), tail(&log));
    }
}

/// The end of a log, without the states that were asked for before the last one: a test that waits asks often.
fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    let last = lines.iter().rposition(|line| line.contains(STATE)).unwrap_or(0);
    let of_state = |line: &str| line.starts_with("  ") || line.contains(STATE);
    let kept = lines.iter().enumerate().filter(|&(at, line)| at >= last || !of_state(line));
    let kept: Vec<&str> = kept.map(|(_, &line)| line).collect();
    let shown = &kept[kept.len().saturating_sub(LOG_SHOWN)..];
    format!("({} of {} lines)\n{}", shown.len(), lines.len(), shown.join("\n"))
}

/// A client that knows only lines.
pub struct Client {
    pub stream: TcpStream,
    reader: BufReader<TcpStream>,
}

impl Client {
    /// Connects and reads the greeting, which must be 220.
    pub fn connect(address: SocketAddr) -> Client {
        let (mut client, greeting) = Self::try_connect(address);
        assert!(greeting.starts_with("220"), "{greeting}");
        client.stream.set_nodelay(true).expect("a socket option");
        let _ = &mut client;
        client
    }

    /// Connects and reads whatever the first reply is.
    pub fn try_connect(address: SocketAddr) -> (Client, String) {
        let mut client = Self::unread(TcpStream::connect(address).expect("the server accepts"));
        let greeting = client.reply();
        (client, greeting)
    }

    /// Takes over this connection, and reads the greeting, which must be 220.
    pub fn over(stream: TcpStream) -> Client {
        let mut client = Self::unread(stream);
        let greeting = client.reply();
        assert!(greeting.starts_with("220"), "{greeting}");
        client
    }

    fn unread(stream: TcpStream) -> Client {
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket option");
        stream.set_write_timeout(Some(PATIENCE)).expect("a socket option");
        let reader = BufReader::new(stream.try_clone().expect("a descriptor"));
        Client { stream, reader }
    }

    /// Logs in as anonymous and sets TYPE I.
    pub fn log_in(&mut self) {
        self.expect("USER anonymous", "331");
        self.expect("PASS a@b", "230");
        self.expect("TYPE I", "200");
    }

    /// Sends raw bytes.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the server reads");
    }

    /// Sends a command without reading the reply.
    pub fn send(&mut self, command: &str) {
        self.raw(format!("{command}\r\n").as_bytes());
    }

    /// Sends a command and reads its one reply, several lines joined by `\n`.
    pub fn command(&mut self, command: &str) -> String {
        self.send(command);
        self.reply()
    }

    /// Sends a command whose reply must begin with `start`.
    pub fn expect(&mut self, command: &str, start: &str) -> String {
        let reply = self.command(command);
        assert!(reply.starts_with(start), "{command}: expected {start}, got {reply}");
        reply
    }

    /// Reads one reply, which must be well-formed; an empty string at the end of the connection.
    pub fn reply(&mut self) -> String {
        let bytes = self.reply_bytes();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Reads one reply as bytes, without the last CRLF and with `\n` for the others.
    pub fn reply_bytes(&mut self) -> Vec<u8> {
        let Some(first) = self.line() else { return Vec::new() };
        assert!(first.len() >= 4 && first[..3].iter().all(u8::is_ascii_digit), "not a reply: {first:?}");
        let mut reply = first.clone();
        if first[3] == b'-' {
            let end = [&first[..3], b" "].concat();
            loop {
                let line = self.line().expect("the reply goes on");
                reply.push(b'\n');
                reply.extend_from_slice(&line);
                if line.starts_with(&end) {
                    break;
                }
                assert!(line.starts_with(b" "), "an inner line begins with a space: {line:?}");
            }
        } else {
            assert_eq!(first[3], b' ', "not a reply: {first:?}");
        }
        reply
    }

    fn line(&mut self) -> Option<Vec<u8>> {
        let mut line = Vec::new();
        match self.reader.read_until(b'\n', &mut line) {
            Ok(0) => None,
            Ok(_) => {
                assert!(line.ends_with(b"\r\n"), "a line ends with CRLF: {:?}", String::from_utf8_lossy(&line));
                line.truncate(line.len() - 2);
                Some(line)
            }
            // A reset, where the server had reason to send one.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => None,
            Err(error) => panic!("no reply: {error}"),
        }
    }

    /// The connection must end now, without another reply.
    pub fn expect_end(&mut self) {
        assert_eq!(self.reply(), "", "the connection should end");
    }

    /// PASV or EPSV, connected.
    pub fn passive(&mut self, extended: bool) -> TcpStream {
        let peer = self.stream.peer_addr().expect("connected");
        let port = if extended {
            let reply = self.expect("EPSV", "229 ");
            reply.split('|').nth(3).and_then(|p| p.parse().ok()).expect("a port")
        } else {
            let reply = self.expect("PASV", "227 ");
            let inner = reply.split(['(', ')']).nth(1).expect("parentheses");
            let numbers: Vec<u16> = inner.split(',').map(|n| n.parse().expect("a number")).collect();
            numbers[4] * 256 + numbers[5]
        };
        let stream = TcpStream::connect(SocketAddr::new(peer.ip(), port)).expect("the passive port accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket option");
        stream
    }

    /// PORT or EPRT, listening.
    pub fn active(&mut self, extended: bool) -> TcpListener {
        let own = self.stream.local_addr().expect("connected").ip();
        let listener = TcpListener::bind((own, 0)).expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let command = match own {
            IpAddr::V4(v4) if !extended => {
                let [a, b, c, d] = v4.octets();
                format!("PORT {a},{b},{c},{d},{},{}", port >> 8, port & 255)
            }
            IpAddr::V4(v4) => format!("EPRT |1|{v4}|{port}|"),
            IpAddr::V6(v6) => format!("EPRT |2|{v6}|{port}|"),
        };
        self.expect(&command, "200 ");
        listener
    }

    /// Runs a transfer command over EPSV and returns what came; the final reply must be 226.
    pub fn fetch(&mut self, command: &str) -> Vec<u8> {
        let mut data = self.passive(true);
        self.expect(command, "150 ");
        let mut bytes = Vec::new();
        data.read_to_end(&mut bytes).expect("the data end in order");
        drop(data);
        let reply = self.reply();
        assert!(reply.starts_with("226 "), "{command}: {reply}");
        bytes
    }
}

/// Whether this host has IPv6 on loopback.
pub fn has_ipv6() -> bool {
    TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}

/// Waits until `done`, or fails after [`PATIENCE`].
pub fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A folder with a few entries: `a.txt`, `sub/b.txt`, `empty/`, `.hidden`, `big.bin` (3 MiB).
pub fn tree() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let root = folder.path().join("root");
    let write = |name: &str, bytes: &[u8]| {
        let path = root.join(name);
        std::fs::create_dir_all(path.parent().expect("below the root")).expect("a folder");
        std::fs::write(path, bytes).expect("a file");
    };
    write("a.txt", b"one\ntwo\r\nthree\rfour");
    write("sub/b.txt", b"b\n");
    write(".hidden", b"h\n");
    write("big.bin", &big());
    std::fs::create_dir(root.join("empty")).expect("a folder");
    (folder, root)
}

/// 3 MiB that look like nothing.
pub fn big() -> Vec<u8> {
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let mut bytes = Vec::with_capacity(3 << 20);
    while bytes.len() < 3 << 20 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes
}
