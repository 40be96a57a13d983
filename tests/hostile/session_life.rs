//! Sessions that stall, vanish, flood, camp, or are cut off in whatever they are doing.

use crate::arena::{Arena, arm, begin, is_closed, passive_port};
use crate::guest::{Guest, Heard, address, connect_narrow, connect_with_buffer};
use crate::kernel;
use crate::netns::{self, Clients, Role, SERVER};
use crate::server::{Client, PATIENCE, big, eventually};
use socket2::SockRef;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

const FAR: u64 = 4 << 30;

#[test]
fn a_file_is_asked_for_and_never_read() {
    let arena = Arena::open(&["--stall-timeout", "1s"]);
    arena.sparse("far.bin", FAR);
    let mut client = arena.login();
    let data = begin(&mut client, "far.bin");
    let reply = client.reply();
    assert!(reply.starts_with("421 The transfer stalled"), "{reply}");
    client.expect_end();
    // The client is still there, and still reads nothing.
    arena.baseline();
    drop(data);
}

#[test]
fn a_file_is_read_a_little_just_inside_the_stall_limit() {
    let arena = Arena::open(&["--stall-timeout", "1s", "--min-rate", "4M"]);
    arena.sparse("far.bin", FAR);
    let mut client = arena.login();
    let mut data = connect_narrow(passive_port(&mut client));
    client.expect("RETR far.bin", "150 ");
    let reader = std::thread::spawn(move || {
        let (mut drops, mut drop) = (0, [0; 2048]);
        while data.read(&mut drop).is_ok_and(|count| count > 0) {
            drops += 1;
            std::thread::sleep(Duration::from_millis(20));
        }
        drops
    });
    let reply = client.reply();
    assert!(reply.starts_with("421 The transfer is too slow"), "{reply}");
    client.expect_end();
    let drops = reader.join().expect("the reader ends with the connection");
    assert!(drops > 3, "it did move: {drops}");
    arena.baseline();
}

#[test]
fn the_control_connection_is_reset_in_a_transfer() {
    let arena = Arena::open(&[]);
    arena.sparse("far.bin", FAR);
    let mut left = Vec::new();
    for _ in 0..10 {
        let mut client = arena.login();
        let mut data = begin(&mut client, "far.bin");
        data.read_exact(&mut [0; 1000]).expect("it moves");
        arm(&client.stream);
        drop(client);
        left.push(data);
    }
    arena.baseline();
    for mut data in left {
        // The other end is gone, with or without a reset, long before the file is.
        let read = std::io::copy(&mut data, &mut std::io::sink()).unwrap_or(0);
        assert!(read < FAR / 2, "{read}");
    }
}

#[test]
fn the_data_connection_is_reset_in_a_transfer() {
    let arena = Arena::open(&[]);
    arena.sparse("far.bin", FAR);
    let mut client = arena.login();
    for _ in 0..10 {
        let data = begin(&mut client, "far.bin");
        arm(&data);
        drop(data);
        let reply = client.reply();
        assert!(reply.starts_with("426 "), "{reply}");
    }
    client.expect("NOOP", "200 ");
    drop(client);
    arena.baseline();
}

/// In silence: no FIN, no RST, nothing but a link that is down, for clients in every kind of wait.
#[test]
fn the_peer_vanishes_in_silence() {
    const NAME: &str = "session_life::the_peer_vanishes_in_silence";
    match netns::role() {
        Role::Outside => netns::run(NAME, &[]),
        Role::Client => vanishing_clients(),
        Role::Server => {
            let mut flags = vec!["--login-timeout", "3s", "--idle-timeout", "3s"];
            flags.extend(["--data-timeout", "3s", "--stall-timeout", "3s"]);
            let arena = Arena::open_at("0.0.0.0:0", &flags);
            arena.sparse("far.bin", FAR);
            let start = Instant::now();
            let clients = Clients::start(NAME, &format!("{SERVER}:{}", arena.port()));
            clients.vanish();
            let here = arena.audit();
            assert_eq!((here.sessions, here.busy), (5, 5), "all of them vanish in a session: {here:?}");
            eventually("the sessions to be gone", || arena.is_deserted());
            eprintln!("nobody is left {:?} after they came", start.elapsed());
            arena.newcomer();
            // The goodbyes that nobody acknowledges are given up by TCP_USER_TIMEOUT, after 20 s.
            arena.baseline_within(Duration::from_secs(60));
            let log = arena.log();
            for end in ["login timeout", "idle timeout", "stalled"] {
                assert!(log.contains(&format!("session ended: {end}")), "{end}");
            }
        }
    }
}

fn vanishing_clients() {
    let server: SocketAddr = netns::target().parse().expect("an address");
    let silent = Client::connect(server);
    let mut at_the_prompt = Client::connect(server);
    at_the_prompt.log_in();
    let mut awaited = Client::connect(server);
    awaited.log_in();
    passive_port(&mut awaited);
    awaited.send("RETR far.bin");
    let mut stalled = Client::connect(server);
    stalled.log_in();
    let unread = begin(&mut stalled, "far.bin");
    let mut moving = Client::connect(server);
    moving.log_in();
    let mut read = begin(&mut moving, "far.bin");
    println!("ready");
    let _ = std::io::copy(&mut read, &mut std::io::sink());
    // Killed from outside: nothing here may be closed before.
    std::thread::sleep(PATIENCE * 10);
    drop((silent, at_the_prompt, awaited, stalled, unread, moving));
}

#[test]
fn a_thousand_downloads_stall_at_once() {
    // Each is four descriptors here and six there.
    let count = usize::try_from(kernel::raise_descriptors() / 8).map_or(1000, |most| most.min(1000));
    let workers = count.to_string();
    let arena = Arena::open(&[
        "--workers",
        &workers,
        "--stall-timeout",
        "10s",
        "--max-unauthenticated",
        "off",
        "--log",
        "warn",
    ]);
    arena.sparse("far.bin", FAR);
    let start = Instant::now();
    let clients: Vec<(Client, TcpStream)> = (0..count)
        .map(|_| {
            let mut client = arena.login();
            let data = begin(&mut client, "far.bin");
            (client, data)
        })
        .collect();
    let full = arena.audit();
    let held = kernel::remains(arena.pid(), arena.ports()).queued;
    eprintln!("{count} downloads began in {:?}; {} KiB wait in the kernel for them", start.elapsed(), held / 1024);
    assert_eq!(full.sessions, count, "{full:?}");
    assert!(held > 64 * 1024 * count as u64, "they do stall: {held}");
    // Nobody has closed or read anything when this is asked.
    let stalled = Instant::now();
    arena.baseline_within(Duration::from_secs(40));
    eprintln!("all was back {:?} later, with the clients still there", stalled.elapsed());
    drop(clients);
}

/// Logged in or not: the replies that nobody reads have one deadline.
#[test]
fn three_hundred_thousand_commands_are_sent_and_no_reply_is_read() {
    let arena = Arena::open(&["--stall-timeout", "1s", "--login-timeout", "1s", "--log", "info"]);
    for logged_in in [false, true] {
        let mut guest = arena.guest();
        if logged_in {
            guest.log_in();
        }
        guest.stream.set_write_timeout(Some(PATIENCE)).expect("a socket option");
        // What the kernel would take on this side says nothing about the server.
        SockRef::from(&guest.stream).set_send_buffer_size(4096).expect("a socket option");
        let start = Instant::now();
        let commands = b"NOOP\r\n".repeat(3000);
        let mut sent = 0;
        for _ in 0..100 {
            match guest.stream.write_all(&commands) {
                Ok(()) => sent += 3000,
                Err(error) => {
                    assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "nobody ended it");
                    break;
                }
            }
            assert_eq!(arena.growth(), 0, "memory is flat");
        }
        eprintln!("closed after {sent} commands and {:?}", start.elapsed());
        assert!(sent < 300_000, "it was never closed");
        eventually("the session to be gone", || arena.is_deserted());
        drop(guest);
    }
    arena.wait_for_log("session ended: replies not read");
    arena.baseline();
}

/// Every byte comes in time, and none of them extends anything.
#[test]
fn the_login_is_never_finished() {
    let arena = Arena::open(&["--login-timeout", "1500ms"]);
    type Step = (&'static str, &'static [u8]);
    let strangers: [Step; 5] = [
        ("says nothing", b""),
        ("sends half a command", b"USER anony"),
        ("sends a byte at a time", b"x"),
        ("asks for features", b"FEAT\r\n"),
        ("stops after USER", b"USER ftp\r\n"),
    ];
    std::thread::scope(|scope| {
        for (name, bytes) in strangers {
            let mut guest = arena.guest();
            scope.spawn(move || {
                guest.expect_reply("220 ");
                let start = Instant::now();
                let mut first = true;
                loop {
                    assert!(start.elapsed() < PATIENCE, "{name}: it goes on");
                    // Those who wait after their first words do so; the others never stop.
                    if first || bytes.len() == 1 || bytes.starts_with(b"FEAT") {
                        guest.raw(bytes);
                    }
                    first = false;
                    match guest.hear(Duration::from_millis(100)) {
                        Heard::Reply(reply) if reply.starts_with("421 Login timeout") => break,
                        Heard::Reply(reply) => assert!(!reply.starts_with('4'), "{name}: {reply}"),
                        Heard::Nothing => {}
                        Heard::End => panic!("{name}: closed without a word"),
                    }
                }
                assert!(start.elapsed() < Duration::from_secs(6), "{name}: {:?}", start.elapsed());
            });
        }
    });
    arena.baseline();
}

#[test]
fn many_come_and_none_of_them_logs_in() {
    let arena = Arena::open(&["--max-unauthenticated", "4", "--shed-after", "1h"]);
    let mut logged_in = arena.login();
    let strangers: Vec<Client> = (0..4).map(|_| arena.connect()).collect();
    let mut refused = arena.guest();
    refused.expect_dismissal("too many");
    logged_in.expect("NOOP", "200 ");
    drop((strangers, logged_in));
    arena.baseline();
}

#[test]
fn a_session_that_only_says_noop_gives_way_to_a_newcomer() {
    let arena = Arena::open(&["--workers", "2", "--queue", "2", "--shed-after", "500ms"]);
    let shed = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for number in 0..2 {
            let mut camper = Guest::from(address(number), arena.v4());
            let shed = &shed;
            camper.log_in();
            scope.spawn(move || {
                let start = Instant::now();
                while start.elapsed() < PATIENCE {
                    camper.send("NOOP");
                    match camper.hear(PATIENCE) {
                        Heard::Reply(reply) if reply.starts_with("200 ") => {}
                        Heard::Reply(reply) => {
                            assert!(reply.starts_with("421 There are too many users now"), "{reply}");
                            shed.fetch_add(1, SeqCst);
                            return;
                        }
                        other => panic!("{other:?}"),
                    }
                    std::thread::sleep(Duration::from_millis(20));
                }
                panic!("the camper was never ended");
            });
        }
        // Both campers are shed in the end, because two newcomers come, and stay.
        let start = Instant::now();
        let newcomers = [arena.login(), arena.login()];
        assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
        eprintln!("two newcomers were in after {:?}", start.elapsed());
        eventually("both campers to be shed", || shed.load(SeqCst) == 2);
        drop(newcomers);
    });
    assert!(arena.log().contains(": shed: Prompt"));
    arena.baseline();
}

#[test]
fn a_session_that_only_says_noop_ends_even_if_nobody_waits() {
    let arena = Arena::open(&["--idle-timeout", "500ms"]);
    let mut camper = arena.guest();
    camper.log_in();
    let start = Instant::now();
    loop {
        assert!(start.elapsed() < PATIENCE, "the camper was never ended");
        camper.send("NOOP");
        match camper.hear(PATIENCE) {
            Heard::Reply(reply) if reply.starts_with("200 ") => {}
            Heard::Reply(reply) => {
                assert!(reply.starts_with("421 Idle timeout"), "{reply}");
                break;
            }
            other => panic!("{other:?}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    arena.baseline();
}

/// Where a session is when its client does something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Idle,
    Listening,
    Connecting,
    During,
    After,
}

/// What the client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Quit,
    Abort,
    AbortAsTelnet,
    AbortUrgent,
    Reinitialize,
    Leave,
    Reset,
    HalfClose,
}

const PHASES: [Phase; 5] = [Phase::Idle, Phase::Listening, Phase::Connecting, Phase::During, Phase::After];

const ACTS: [Act; 8] = [
    Act::Quit,
    Act::Abort,
    Act::AbortAsTelnet,
    Act::AbortUrgent,
    Act::Reinitialize,
    Act::Leave,
    Act::Reset,
    Act::HalfClose,
];

/// The codes that must come, in this order and no others.
fn sequence(phase: Phase, act: Act) -> &'static [&'static str] {
    use Phase::{After, Connecting, During};
    match (act, phase) {
        (Act::Quit, During) => &["226", "221"],
        (Act::Quit, Connecting) => &["425", "221"],
        (Act::Quit, _) => &["221"],
        (Act::Reinitialize, During) => &["226", "220"],
        (Act::Reinitialize, Connecting) => &["425", "220"],
        (Act::Reinitialize, _) => &["220"],
        // RFC 959 §4.1.3: a transfer that is over already was aborted successfully.
        (Act::Abort | Act::AbortAsTelnet | Act::AbortUrgent, After) => &["226"],
        (Act::Abort | Act::AbortAsTelnet | Act::AbortUrgent, During | Connecting) => &["426", "226"],
        (Act::Abort | Act::AbortAsTelnet | Act::AbortUrgent, _) => &["225"],
        (Act::Leave | Act::Reset | Act::HalfClose, _) => &[],
    }
}

#[test]
fn quit_abort_reinitialize_and_leave_in_every_phase() {
    let arena = Arena::open(&["--data-timeout", "300ms"]);
    arena.sparse("wide.bin", 64 << 20);
    for phase in PHASES {
        for act in ACTS {
            one_act(&arena, phase, act);
        }
    }
    arena.baseline();
}

fn one_act(arena: &Arena, phase: Phase, act: Act) {
    let mut client = arena.login();
    let mut port = None;
    let mut data = None;
    match phase {
        Phase::Idle => {}
        Phase::Listening => port = Some(passive_port(&mut client)),
        Phase::Connecting => {
            port = Some(passive_port(&mut client));
            client.send("RETR wide.bin");
        }
        Phase::During => data = Some(begin(&mut client, "wide.bin")),
        Phase::After => drop(client.fetch("RETR a.txt")),
    }
    let control = SockRef::from(&client.stream);
    match act {
        Act::Quit => client.send("QUIT"),
        Act::Abort => client.send("ABOR"),
        // Interrupt Process, then the Data Mark of a Synch as urgent data (RFC 959 §4.1.3).
        Act::AbortAsTelnet => {
            control.send(&[255, 244, 255]).expect("it is sent");
            control.send_out_of_band(&[242]).expect("it is sent");
            client.send("ABOR");
        }
        // As Python's ftplib does.
        Act::AbortUrgent => drop(control.send_out_of_band(b"ABOR\r\n").expect("it is sent")),
        Act::Reinitialize => client.send("REIN"),
        Act::Leave => return,
        Act::Reset => return arm(&client.stream),
        Act::HalfClose => client.stream.shutdown(Shutdown::Write).expect("it is open"),
    }
    let drain = matches!(act, Act::Quit | Act::Reinitialize);
    if let Some(data) = data.as_mut().filter(|_| drain) {
        let read = std::io::copy(data, &mut std::io::sink()).expect("the data end in order");
        assert_eq!(read, 64 << 20, "{phase:?} {act:?}");
    }
    if drain {
        drop(data.take());
    }
    for code in sequence(phase, act) {
        let reply = client.reply();
        assert!(reply.starts_with(code), "{phase:?} {act:?}: expected {code}, got {reply}");
    }
    // Nothing else comes: neither before the end, nor before the answer to the next command.
    match act {
        Act::Quit | Act::HalfClose => client.expect_end(),
        Act::Reinitialize => drop(client.expect("PWD", "530 ")),
        _ => drop(client.expect("NOOP", "200 NOOP ok.")),
    }
    if let Some(port) = port {
        eventually(&format!("{phase:?} {act:?}: the passive port to be closed"), || is_closed(port));
    }
}

/// Sessions that are cut off by their time limit wherever they happen to be, closing included.
#[test]
fn the_time_is_up_while_the_session_cleans_up() {
    let arena = Arena::open(&["--session-timeout", "400ms", "--log", "info"]);
    let start = Instant::now();
    let ended = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for number in 0..8u64 {
            let (arena, ended) = (&arena, &ended);
            scope.spawn(move || {
                // Each at a pace of its own, so that the limit meets all that a session does.
                while start.elapsed() < Duration::from_secs(4) {
                    let mut guest = arena.guest();
                    let script = ["USER ftp", "PASS x", "TYPE I", "EPSV", "RETR big.bin"];
                    let mut commands = script.iter().chain(["NOOP"].iter().cycle());
                    let mut data = None;
                    loop {
                        match guest.hear(PATIENCE) {
                            Heard::Reply(reply) if reply.starts_with("421 ") => {
                                assert!(reply.contains("Session time limit"), "{reply}");
                                assert_eq!(guest.hear(PATIENCE), Heard::End);
                                ended.fetch_add(1, SeqCst);
                                break;
                            }
                            Heard::Reply(reply) if reply.starts_with("229 ") => {
                                let to = SocketAddr::new(arena.v4().ip(), crate::arena::port_of(&reply));
                                data = TcpStream::connect(to).ok();
                            }
                            Heard::Reply(reply) if reply.starts_with("150 ") => {
                                // Some read all and do not close, some read nothing, some close.
                                match number % 3 {
                                    0 => drop(data.as_mut().map(|d| d.read_exact(&mut vec![0; 3 << 20]))),
                                    1 => drop(data.take()),
                                    _ => {}
                                }
                                continue;
                            }
                            Heard::Reply(reply) => assert!(!reply.starts_with('5'), "{reply}"),
                            other => panic!("{other:?}"),
                        }
                        std::thread::sleep(Duration::from_millis(7 + number * 5));
                        guest.send(commands.next().expect("it never ends"));
                    }
                }
            });
        }
    });
    eprintln!("{} sessions ran out of time", ended.load(SeqCst));
    assert!(ended.load(SeqCst) >= 16);
    arena.baseline();
}

#[test]
fn no_port_is_left_for_the_data_connection() {
    let arena = Arena::open(&[]);
    let taken: Vec<TcpListener> = arena
        .ports()
        .data
        .clone()
        .map(|port| TcpListener::bind(("127.0.0.1", port)).expect("the range is ours"))
        .collect();
    let mut client = arena.login();
    for command in ["PASV", "EPSV"] {
        client.expect(command, "425 ");
        client.expect("RETR a.txt", "425 ");
    }
    client.expect("NOOP", "200 ");
    drop(taken);
    client.fetch("RETR a.txt");
    drop(client);
    arena.baseline();
}

#[test]
fn two_thousand_connections_are_reset_at_once() {
    let arena = Arena::open(&["--log", "info"]);
    for _ in 0..2000 {
        arm(&TcpStream::connect(arena.v4()).expect("the server accepts"));
    }
    arena.baseline();
}

#[test]
fn sigterm_comes_with_a_thousand_sessions() {
    let count = usize::try_from(kernel::raise_descriptors() / 8).map_or(1000, |most| most.min(1000));
    let workers = count.to_string();
    let mut flags = vec!["--workers", &workers, "--grace", "5s", "--log", "warn"];
    flags.extend(["--max-unauthenticated", "off"]);
    let mut arena = Arena::open(&flags);
    arena.sparse("far.bin", FAR);
    let mut stalled = Vec::new();
    let mut moving = Vec::new();
    let mut idle = Vec::new();
    for number in 0..count {
        let mut client = arena.login();
        match number % 20 {
            0 => {
                let data = begin(&mut client, "far.bin");
                stalled.push((client, data));
            }
            1 => moving.push(client),
            _ => idle.push(client),
        }
    }
    // They read about a second long, and close when they have it all.
    let moving: Vec<_> = moving
        .into_iter()
        .map(|mut client| {
            let mut data = begin(&mut client, "big.bin");
            std::thread::spawn(move || {
                let (mut bytes, mut part) = (Vec::new(), vec![0; 64 * 1024]);
                while let Some(count) = data.read(&mut part).ok().filter(|&count| count > 0) {
                    bytes.extend_from_slice(&part[..count]);
                    std::thread::sleep(Duration::from_millis(10));
                }
                drop(data);
                (bytes == big(), client.reply(), client.reply())
            })
        })
        .collect();
    let start = Instant::now();
    arena.signal("TERM");
    for client in &mut idle {
        let reply = client.reply();
        assert!(reply.starts_with("421 The server is shutting down"), "{reply}");
        client.expect_end();
    }
    for client in moving {
        let (whole, finished, dismissed) = client.join().expect("it reads");
        let order = (whole, finished.starts_with("226 "), dismissed.starts_with("421 The server is"));
        assert_eq!(order, (true, true, true), "{finished}; {dismissed}; after {:?}", start.elapsed());
    }
    let read = start.elapsed();
    let status = arena.wait();
    eprintln!(
        "{count} sessions: those who read had it all after {read:?}, and the server ended after {:?}",
        start.elapsed()
    );
    assert!(status.success(), "{status}");
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    let own = std::process::id();
    eventually("the kernel to have nothing left of it", || kernel::remains(own, arena.ports()).orphans == 0);
    for (mut client, _data) in stalled {
        let reply = client.reply();
        assert!(reply.starts_with("421 The server is shutting down"), "{reply}");
    }
}

#[test]
fn five_thousand_log_in_and_leave_in_their_own_ways() {
    let arena = Arena::open(&["--log", "warn"]);
    let logons = AtomicUsize::new(0);
    let round = |count: usize| {
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (arena, logons) = (&arena, &logons);
                scope.spawn(move || {
                    for number in 0..count / 4 {
                        let mut client = Client::connect(arena.v4());
                        client.expect("USER anonymous", "331");
                        client.expect("PASS a@b", "230");
                        logons.fetch_add(1, SeqCst);
                        match (thread + number) % 5 {
                            0 => drop(client.fetch("RETR a.txt")),
                            1 => drop(client.expect("QUIT", "221")),
                            2 => arm(&client.stream),
                            3 => drop(passive_port(&mut client)),
                            _ => drop(client.fetch("NLST")),
                        }
                    }
                });
            }
        });
        eventually("all to be gone", || arena.is_deserted());
        arena.memory()
    };
    let early = round(1000);
    let late = round(4000);
    assert_eq!(logons.load(SeqCst), 5000);
    let slope = late.saturating_sub(early) / 4000;
    eprintln!("{} KiB after 1,000 logons, {} KiB after 5,000: {slope} bytes each", early / 1024, late / 1024);
    assert!(slope < 64, "each logon leaves {slope} bytes");
    arena.baseline();
}

/// The last of a file is on its way when the client closes its side, and then breaks off: the session must
/// not wait for a connection that is gone.
#[test]
fn a_client_breaks_off_at_the_very_end_of_its_file() {
    let arena = Arena::open(&["--stall-timeout", "1h"]);
    arena.sparse("near.bin", 60_000);
    for _ in 0..5 {
        let mut client = arena.login();
        let data = connect_narrow(passive_port(&mut client));
        client.expect("RETR near.bin", "150 ");
        eventually("all to be on its way", || arena.state().contains("ending a transfer"));
        data.shutdown(Shutdown::Write).expect("it is open");
        // Long enough for the server to hear of the one before the other.
        std::thread::sleep(Duration::from_millis(100));
        drop(data);
        let reply = client.reply();
        assert!(reply.starts_with("426 "), "{reply}");
        client.expect("QUIT", "221 ");
    }
    arena.baseline();
}

/// Clients that ask a lot, read nothing and say QUIT: what they were told must not outlive their sessions.
#[test]
fn nobody_reads_what_was_said_before_quit() {
    let arena = Arena::open(&["--workers", "64", "--log", "info"]);
    let guests: Vec<_> = (0..64)
        .map(|_| {
            let stream = connect_with_buffer(1, Ipv4Addr::LOCALHOST.into(), arena.v4());
            (&stream).write_all(&[&b"HELP\r\n".repeat(6)[..], b"QUIT\r\n"].concat()).expect("the server reads");
            stream
        })
        .collect();
    eventually("everybody to have left", || arena.audit().sessions == 0);
    assert_eq!(kernel::remains(arena.pid(), arena.ports()).orphans, 0);
    drop(guests);
    arena.baseline();
}
