//! A whole session over TCP on loopback: whatever a client sends, the session ends, and what it says is a
//! sequence of well-formed replies, one for each line; nothing from outside the root is ever sent or
//! changed, and nothing in the log takes more than its line.

use super::home::{Home, UPLOAD, USER};
use super::{byte, line, replies};
use plimsoll::auth::UserId;
use plimsoll::config::{Invocation, from_arguments};
use plimsoll::data::passive::PassivePorts;
use plimsoll::data::pulse::{Phase, Pulse, Reason, Tick};
use plimsoll::data::window::Windows;
use plimsoll::journal::Journal;
use plimsoll::proto::command::{Command, Request};
use plimsoll::proto::reply::Reply;
use plimsoll::session::{self, Buffers, CapReached, Context, End, Ends, Homes, Members, Seat};
use plimsoll::swap::Swap;
use plimsoll::vfs::{KnownFolders, Root};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{CWD, FileType, Mode, Timespec, mknodat};
use socket2::SockRef;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicIsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// Longest wait for anything that has to happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long a patient client waits for the session to end before it closes its side.
const LINGER: Duration = Duration::from_millis(60);

/// The content of a file and the name of another next to the root: neither must ever be sent.
const SECRET: &str = "<what lies outside of the root>";

/// A served folder, a listener, and the buffers of one worker, for any number of sessions.
pub struct Stage {
    context: Context,
    buffers: Buffers,
    control: TcpListener,
    /// The client's port for active data connections.
    active: TcpListener,
    home: Home,
    _folder: tempfile::TempDir,
}

/// How the client behaves.
#[derive(Clone, Copy)]
struct Client {
    data: DataHabit,
    /// It says QUIT and waits, or else closes its side as soon as it has sent all.
    patient: bool,
    /// The session is marked, as by the reaper, half way through.
    marked: Option<Reason>,
    /// It sends few bytes at a time, some of them as urgent data.
    choppy: bool,
    /// Its user has as many sessions as are allowed.
    capped: bool,
    logged_in: Option<Who>,
}

/// Who is logged in from the start.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Anonymous,
    /// Who may change everything in a home; uploads over each data connection.
    Writer,
}

/// What the client does about data connections.
#[derive(Clone, Copy, PartialEq, Eq)]
enum DataHabit {
    ReadAll,
    NeverConnect,
    ResetAtOnce,
    ReadSomeThenReset,
}

impl Client {
    fn new(mode: u8) -> Self {
        Client {
            data: match mode & 3 {
                0 => DataHabit::ReadAll,
                1 => DataHabit::NeverConnect,
                2 => DataHabit::ResetAtOnce,
                _ => DataHabit::ReadSomeThenReset,
            },
            patient: mode & 4 != 0,
            marked: (mode & 24 == 24).then(|| Reason::ALL[usize::from(mode) % Reason::ALL.len()]),
            choppy: mode & 32 != 0,
            capped: mode & 24 == 16,
            logged_in: match mode & 192 {
                0 => None,
                192 => Some(Who::Writer),
                _ => Some(Who::Anonymous),
            },
        }
    }
}

/// A place in no server.
struct Place {
    pulse: Pulse,
    logins: Arc<AtomicIsize>,
    capped: bool,
    transfers: AtomicBool,
}

struct LoggedIn(Arc<AtomicIsize>);

impl Drop for LoggedIn {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

impl Seat for Place {
    type Login = LoggedIn;

    fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    fn is_greeted(&self) -> bool {
        false
    }

    fn neighbours(&self) -> usize {
        1
    }

    fn transferring(&self, path: Option<&[u8]>) {
        assert!(path.is_none_or(|path| path.starts_with(b"/")));
        self.transfers.store(true, SeqCst);
    }

    fn log_in(&self, _: UserId, _: Option<usize>) -> Result<LoggedIn, CapReached> {
        if self.capped {
            return Err(CapReached);
        }
        assert_eq!(self.logins.fetch_add(1, SeqCst), 0, "a session counts once");
        Ok(LoggedIn(Arc::clone(&self.logins)))
    }
}

/// Everything that is logged has to be one line.
struct OneLine;

impl log::Log for OneLine {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let text = record.args().to_string();
        assert!(!text.chars().any(char::is_control), "a log line is cut: {text:?}");
    }

    fn flush(&self) {}
}

impl Stage {
    /// Makes the folder and listens. The buffers of a worker are never freed, so one stage has to do for
    /// a process.
    ///
    /// # Panics
    /// Where the host has no room for it.
    #[must_use]
    #[allow(clippy::new_without_default, reason = "it makes a folder")]
    pub fn new() -> Self {
        // It fails where there is one already: then that one does.
        if log::set_logger(&OneLine).is_ok() {
            log::set_max_level(log::LevelFilter::Trace);
        }
        // A Rust program ignores SIGPIPE, on which sendfile(2) relies; libFuzzer's own main does not.
        signal_hook::flag::register(signal_hook::consts::SIGPIPE, Arc::default()).expect("a signal");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let root = folder.path().join("root");
        make_tree(folder.path(), &root);
        let home = Home::make(folder.path());
        let flags = ["--listen", "127.0.0.1:0", "--data-timeout", "100ms", "--stall-timeout", "5s", "--durable", "off"];
        let accounts = ["--accounts".into(), home.accounts().into_os_string()];
        let arguments = ["serve".into(), root.clone().into_os_string()];
        let arguments = arguments.into_iter().chain(flags.map(Into::into)).chain(accounts);
        let Ok(Invocation::Serve(config)) = from_arguments(arguments) else {
            panic!("the flags are valid");
        };
        // An address of its own, so that no other process of this host is in the way.
        let [low, high, ..] = std::process::id().to_le_bytes();
        let own = Ipv4Addr::new(127, 7, high, low);
        let listen = |address: Ipv4Addr| TcpListener::bind((address, 0)).expect("a port");
        let control = listen(own);
        SockRef::from(&control).set_out_of_band_inline(true).expect("a socket option");
        let root = Arc::new(Root::open(&root).expect("a folder"));
        let homes = Homes::read(&config, &root, None).expect("the accounts are right");
        Stage {
            context: Context {
                root,
                known: KnownFolders::new(config.listing_memory()).expect("inotify"),
                members: Members::new(homes, 1),
                journal: Journal::off(),
                ports: PassivePorts::new(&config.passive_ports()),
                windows: Windows::new(config.wide_transfers(), plimsoll::limits::WIDE_WINDOW),
                networks: Vec::new(),
                greeting: Swap::new(Reply::lines(220, "welcome", vec![b"to the stage".to_vec()], "ready")),
                config,
            },
            buffers: Buffers::for_workers(1).next().expect("one"),
            control,
            active: listen(Ipv4Addr::LOCALHOST),
            home,
            _folder: folder,
        }
    }

    /// The first byte says how the client behaves, the rest is what it sends. A byte 1 stands for a PORT
    /// with the client's own port, a byte 2 for an EPRT.
    ///
    /// # Panics
    /// Where the session does not end, or its replies are not what they have to be.
    pub fn check(&mut self, mut data: &[u8]) {
        let client = Client::new(byte(&mut data));
        // Nobody waits for what others have guessed, and the home is as empty as it was.
        let homes = Homes::read(&self.context.config, &self.context.root, None).expect("the accounts are right");
        self.context.members = Members::new(homes, 1);
        let sent = self.script(client, data);
        let stream = TcpStream::connect(self.control.local_addr().expect("bound")).expect("a connection");
        let (socket, peer) = self.control.accept().expect("a connection");
        // As on the server's own listener; and no connection of thousands stays in TIME_WAIT.
        stream.set_nodelay(true).expect("a socket option");
        SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("a socket option");
        let place = Place {
            pulse: Pulse::default(),
            logins: Arc::default(),
            capped: client.capped,
            transfers: AtomicBool::new(false),
        };
        let admitted = Tick::now();
        place.pulse.reset(Phase::Queued, admitted.after(PATIENCE));
        let over = (Mutex::new(false), Condvar::new());
        // As the reaper does it.
        let mark = || {
            if let Some(reason) = client.marked {
                assert!(place.pulse.set_mark(reason));
                let _ = socket.shutdown(Shutdown::Read);
            }
        };
        let (end, heard) = std::thread::scope(|scope| {
            let writer = scope.spawn(|| write(&stream, &sent, client, &mark, &over));
            let reader = scope.spawn(|| listen(&stream, &self.active, client));
            let ends = Ends { peer, admitted };
            let end = session::run(&self.context, &place, &socket, ends, &mut self.buffers).end;
            let _ = socket.shutdown(Shutdown::Write);
            *over.0.lock().expect("no panic") = true;
            over.1.notify_all();
            writer.join().expect("no panic");
            (end, reader.join().expect("no panic"))
        });
        drop(socket);
        assert_eq!(place.logins.load(SeqCst), 0, "a login is left");
        for port in &heard.ports {
            assert!(TcpStream::connect(port).is_err(), "a passive port is left");
        }
        self.home.judge();
        judge(&sent, &heard, end, client, place.transfers.load(SeqCst));
    }

    fn script(&self, client: Client, data: &[u8]) -> Vec<u8> {
        let port = self.active.local_addr().expect("bound").port();
        let [high, low] = port.to_be_bytes();
        let mut sent = Vec::new();
        match client.logged_in {
            None => {}
            Some(Who::Anonymous) => sent.extend_from_slice(b"USER ftp\r\nPASS a@b\r\nTYPE I\r\n"),
            Some(Who::Writer) => {
                sent.extend_from_slice(format!("USER {USER}\r\nPASS {USER}\r\nTYPE I\r\n").as_bytes());
            }
        }
        for &b in data {
            match b {
                1 => sent.extend_from_slice(format!("PORT 127,0,0,1,{high},{low}\r\n").as_bytes()),
                2 => sent.extend_from_slice(format!("EPRT |1|127.0.0.1|{port}|\r\n").as_bytes()),
                b => sent.push(b),
            }
        }
        if client.patient {
            sent.extend_from_slice(b"\r\nQUIT\r\n");
        }
        sent
    }
}

/// Descriptors of this process.
///
/// # Panics
/// Where there is no /proc.
#[must_use]
pub fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("proc").count()
}

fn make_tree(outer: &Path, root: &Path) {
    let write = |name: &str, bytes: &[u8]| std::fs::write(root.join(name), bytes).expect("a file");
    for name in ["", "d", "d/e", "many"] {
        std::fs::create_dir(root.join(name)).expect("a folder");
    }
    std::fs::write(outer.join("secret"), SECRET).expect("a file");
    std::fs::write(outer.join(SECRET), "").expect("a file");
    write("a", b"one\ntwo\r\nthree\rfour");
    write("empty", b"");
    write("d/b", &[b'\n'; 1000]);
    write("d/e/-l *[x] \"q\"", b"odd");
    write("big", &vec![b'x'; 1 << 20]);
    for number in 0..700 {
        write(&format!("many/{number:0>40}"), b"");
    }
    let odd = std::ffi::OsStr::new("new\nline\u{1b}[2J");
    std::fs::write(root.join(odd), b"odd").expect("a file");
    let link = |target: &Path, name: &str| symlink(target, root.join(name)).expect("a link");
    link(Path::new("a"), "inside");
    link(Path::new("../secret"), "above");
    link(&outer.join("secret"), "absolute");
    link(outer, "outer");
    link(Path::new("loop"), "loop");
    link(Path::new("d"), "folder");
    mknodat(CWD, root.join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o666), 0).expect("a FIFO");
}

/// Sends the script. That the server has closed meanwhile is no fault.
fn write(stream: &TcpStream, sent: &[u8], client: Client, mark: &impl Fn(), over: &(Mutex<bool>, Condvar)) {
    let half = sent.len() / 2;
    send(stream, &sent[..half], client.choppy);
    mark();
    send(stream, &sent[half..], client.choppy);
    if client.patient {
        let ended = over.0.lock().expect("no panic");
        let _ended = over.1.wait_timeout_while(ended, LINGER, |ended| !*ended).expect("no panic");
    }
    let _ = stream.shutdown(Shutdown::Write);
}

fn send(mut stream: &TcpStream, bytes: &[u8], choppy: bool) {
    if !choppy {
        let _ = stream.write_all(bytes);
        return;
    }
    for (number, chunk) in bytes.chunks(5).enumerate() {
        let sent = match number % 3 {
            0 => SockRef::from(stream).send_out_of_band(chunk).map(|count| count == chunk.len()),
            _ => stream.write_all(chunk).map(|()| true),
        };
        if !matches!(sent, Ok(true)) {
            return;
        }
    }
}

/// What the client has heard.
#[derive(Default)]
struct Heard {
    control: Vec<u8>,
    data: Vec<u8>,
    ports: Vec<SocketAddr>,
}

/// How long the last data connections may outlive the control connection before the client asks.
const KNOCK: Duration = Duration::from_secs(2);

/// Reads everything until the server has closed the control connection and every data connection.
fn listen(stream: &TcpStream, active: &TcpListener, client: Client) -> Heard {
    let mut heard = Heard::default();
    let mut seen = 0;
    let mut open = true;
    let mut knocked = false;
    let mut connections: Vec<(TcpStream, usize)> = Vec::new();
    while open || !connections.is_empty() {
        let mut descriptors = vec![PollFd::new(active, PollFlags::IN)];
        descriptors.extend(open.then(|| PollFd::new(stream, PollFlags::IN)));
        descriptors.extend(connections.iter().map(|(data, _)| PollFd::new(data, PollFlags::IN)));
        let patience = if open || knocked { PATIENCE } else { KNOCK };
        if poll(&mut descriptors, Some(&Timespec::try_from(patience).expect("it fits"))) == Ok(0) {
            if !open && !knocked {
                // A client that connects in the moment in which its port is closed is not always told: only
                // the next byte shows that there is nobody at the other end.
                connections.iter().for_each(|(data, _)| drop((&mut &*data).write(b"?")));
                knocked = true;
                continue;
            }
            // A panic would wait for the session to end.
            eprintln!("the session, or a data connection of it, does not end");
            std::process::abort();
        }
        let ready: Vec<bool> = descriptors.iter().map(|d| !d.revents().is_empty()).collect();
        let control = usize::from(open);
        let mut number = 0;
        connections.retain_mut(|(data, read)| {
            number += 1;
            !ready[control + number] || hear(data, read, &mut heard.data, client.data)
        });
        if ready[0] {
            let (data, _) = active.accept().expect("it is ready");
            connections.extend(met(data, client));
        }
        if open && ready[1] {
            open = take(stream, &mut heard.control);
            while let Some(end) = heard.control[seen..].iter().position(|&b| b == b'\n') {
                let port = passive_port(stream, &heard.control[seen..seen + end]);
                seen += end + 1;
                if let Some(port) = port {
                    heard.ports.push(port);
                    if client.data != DataHabit::NeverConnect
                        && let Ok(data) = TcpStream::connect(port)
                    {
                        connections.extend(met(data, client));
                    }
                }
            }
        }
    }
    // One that came just before the end and was never looked at.
    active.set_nonblocking(true).expect("a socket option");
    while active.accept().is_ok() {}
    active.set_nonblocking(false).expect("a socket option");
    heard
}

/// The address in a reply to PASV or EPSV.
fn passive_port(stream: &TcpStream, line: &[u8]) -> Option<SocketAddr> {
    let text = str::from_utf8(line).ok()?;
    let port = if text.starts_with("227 ") {
        let inner = text.split(['(', ')']).nth(1)?;
        let numbers: Vec<u16> = inner.split(',').map_while(|number| number.parse().ok()).collect();
        numbers.get(4)? * 256 + numbers.get(5)?
    } else if text.starts_with("229 ") {
        text.split('|').nth(3)?.parse().ok()?
    } else {
        return None;
    };
    let own: IpAddr = stream.peer_addr().ok()?.ip();
    Some(SocketAddr::new(own, port))
}

fn met(data: TcpStream, client: Client) -> Option<(TcpStream, usize)> {
    if client.data != DataHabit::ReadAll {
        SockRef::from(&data).set_linger(Some(Duration::ZERO)).expect("a socket option");
    }
    if client.logged_in == Some(Who::Writer) {
        let _ = (&data).write_all(&UPLOAD);
        let _ = data.shutdown(Shutdown::Write);
    }
    (client.data != DataHabit::ResetAtOnce).then_some((data, 0))
}

/// Whether the data connection goes on.
fn hear(data: &TcpStream, read: &mut usize, bytes: &mut Vec<u8>, habit: DataHabit) -> bool {
    let before = bytes.len();
    let open = take(data, bytes);
    *read += bytes.len() - before;
    open && !(habit == DataHabit::ReadSomeThenReset && *read > 4096)
}

fn take(mut stream: &TcpStream, bytes: &mut Vec<u8>) -> bool {
    let mut buffer = [0; 16 * 1024];
    match stream.read(&mut buffer) {
        Ok(0) | Err(_) => false,
        Ok(count) => {
            bytes.extend_from_slice(&buffer[..count]);
            true
        }
    }
}

fn judge(sent: &[u8], heard: &Heard, end: End, client: Client, transfers: bool) {
    let told = String::from_utf8_lossy(&heard.control);
    // What the client itself has sent proves nothing.
    if memchr::memmem::find(sent, SECRET.as_bytes()).is_none() {
        for bytes in [&heard.control, &heard.data] {
            assert!(memchr::memmem::find(bytes, SECRET.as_bytes()).is_none(), "an escape");
        }
    }
    let (replies, rest) = replies::parse(&heard.control);
    assert!(rest.is_empty(), "half a reply at the end of {told}");
    let codes: Vec<u16> = replies.iter().map(|reply| reply.code).collect();
    // One that was marked before it began is not greeted.
    let turned_away = client.marked.is_some() && codes == [421];
    assert!(codes.first() == Some(&220) || turned_away, "{told}");
    let known = [
        150, 200, 202, 211, 213, 214, 215, 220, 221, 225, 226, 227, 229, 230, 250, 257, 331, 350, 421, 425, 426, 450,
        451, 500, 501, 502, 503, 504, 522, 530, 550, 552, 553, 554,
    ];
    assert!(codes.iter().all(|code| known.contains(code)), "{told}");
    for (at, code) in codes.iter().enumerate() {
        assert!(![221, 421].contains(code) || at + 1 == codes.len(), "something after the last word: {told}");
    }
    let lines = line::reference(sent);
    let finals = codes.iter().filter(|code| **code >= 200).count();
    let last = codes.last().copied().unwrap_or_default();
    match end {
        End::Quit => {
            assert_eq!(last, 221, "{told}");
            let quits = |line: &Result<Vec<u8>, _>| line.as_ref().is_ok_and(|line| is_quit(line));
            let answered = lines.iter().position(quits).expect("it said so") + 1;
            assert_eq!(finals, 1 + answered, "{told}");
        }
        End::Marked(reason) => {
            assert_eq!(Some(reason), client.marked);
            assert_eq!(last, 421, "{told}");
        }
        // All that was sent has been answered.
        End::Lost if client.marked.is_none() && !transfers => assert_eq!(finals, 1 + lines.len(), "{told}"),
        End::Lost | End::Refused => {}
    }
    let most = 1 + lines.len() + usize::from(matches!(end, End::Marked(_)));
    assert!(finals <= most, "{finals} replies, where {most} are the most: {told}");
}

fn is_quit(line: &[u8]) -> bool {
    Request::parse(line).is_ok_and(|request| request.command() == Ok(Command::Quit))
}
