//! Who is let in, who is told to come again, and that every way out gives back what was taken.

use crate::deadlines::{Rest, connect_with, logs_in, reset};
use crate::flags::Launched;
use crate::server::{Client, PATIENCE, Server, eventually, has_ipv6, tree};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};
use socket2::SockRef;
use std::collections::HashSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::sync::Barrier;
use std::time::{Duration, Instant};

/// Reads one line, or what there is of it when the connection ends.
fn read_line(mut stream: &TcpStream) -> String {
    let mut line = Vec::new();
    let mut byte = [0];
    loop {
        match stream.read(&mut byte) {
            Ok(0) => break,
            Ok(_) if byte == *b"\n" => break,
            Ok(_) => line.push(byte[0]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => panic!("neither a line nor the end: {error}"),
        }
    }
    String::from_utf8(line).expect("ASCII").trim_end().to_owned()
}

/// Whether this is how a server that is full speaks to those it can't take.
fn is_full(reply: &str) -> bool {
    reply.starts_with("421 ") && reply.contains("too many")
}

/// Waits until a newcomer is greeted; until then the server may only say that it is full.
fn admitted(server: &Server) -> Client {
    let mut found = None;
    eventually("a newcomer to be admitted", || {
        let (mut client, greeting) = Client::try_connect(server.v4());
        if greeting.starts_with("220 ") {
            found = Some(client);
            return true;
        }
        assert!(is_full(&greeting), "{greeting}");
        client.expect_end();
        false
    });
    found.expect("eventually has seen it")
}

/// As [`admitted`], and logged in.
fn admitted_and_logged_in(server: &Server) -> Client {
    let mut client = admitted(server);
    eventually("a newcomer to be logged in", || {
        client.expect("USER anonymous", "331 ");
        let reply = client.command("PASS a@b");
        let full = reply.starts_with("530 ") && reply.contains("maximum number");
        assert!(full || reply.starts_with("230 "), "{reply}");
        !full
    });
    client.expect("TYPE I", "200 ");
    client
}

/// Lets this process have as many descriptors as the host allows.
fn raise_own_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).expect("up to the hard limit");
}

// --- Pool and queue -----------------------------------------------------------------------------

#[test]
fn when_pool_and_queue_are_full_the_next_ones_are_told_so_at_once() {
    let (_folder, root) = tree();
    let flags = ["--workers", "2", "--queue", "3", "--queue-timeout", "1h", "--shed-after", "1h"];
    let server = Server::start(&root, &[&flags[..], &["--max-unauthenticated", "off"]].concat());
    let rest = Rest::of(&server);
    let mut busy = [server.login(), server.login()];
    let queued: Vec<TcpStream> = (0..3).map(|_| connect_with(None, None, server.v4())).collect();
    let begun = Instant::now();
    for _ in 0..200 {
        let (mut client, reply) = Client::try_connect(server.v4());
        assert!(is_full(&reply), "{reply}");
        client.expect_end();
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    for client in &mut busy {
        client.expect("NOOP", "200 ");
    }
    drop(busy);
    for stream in queued {
        assert!(read_line(&stream).starts_with("220 "), "one who waited is served");
    }
    rest.returns(&server);
}

#[test]
fn those_who_wait_are_served_in_the_order_in_which_they_came() {
    let (_folder, root) = tree();
    let flags = ["--workers", "1", "--queue", "5", "--queue-timeout", "1h", "--shed-after", "1h"];
    let server = Server::start(&root, &[&flags[..], &["--max-unauthenticated", "off"]].concat());
    let mut served = server.login();
    let queued: Vec<TcpStream> = (0..5).map(|_| connect_with(None, None, server.v4())).collect();
    // The one that does not fit shows that the five were admitted.
    let (_, refused) = Client::try_connect(server.v4());
    assert!(is_full(&refused), "{refused}");
    served.expect("QUIT", "221 ");
    for (number, mut stream) in queued.iter().enumerate() {
        assert!(read_line(stream).starts_with("220 "), "number {number}");
        for later in &queued[number + 1..] {
            later.set_nonblocking(true).expect("a socket option");
            let early = later.peek(&mut [0]).expect_err("it still waits");
            assert_eq!(early.kind(), ErrorKind::WouldBlock, "number {number} is not alone");
            later.set_nonblocking(false).expect("a socket option");
        }
        stream.write_all(b"QUIT\r\n").expect("the server reads");
        assert!(read_line(stream).starts_with("221 "), "number {number}");
    }
}

#[test]
fn one_who_gives_up_in_the_queue_leaves_its_place() {
    let (_folder, root) = tree();
    let flags = ["--workers", "1", "--queue", "2", "--queue-timeout", "500ms", "--shed-after", "1h"];
    let server = Server::start(&root, &[&flags[..], &["--max-unauthenticated", "off"]].concat());
    let rest = Rest::of(&server);
    let busy = server.login();
    for _ in 0..4 {
        for linger in [Some(Duration::ZERO), None] {
            let stream = connect_with(None, None, server.v4());
            SockRef::from(&stream).set_linger(linger).expect("a socket option");
        }
        // Their places come back when their time is up, though the only worker never is free.
        eventually("places in the queue", || {
            let waiting = connect_with(None, None, server.v4());
            waiting.set_read_timeout(Some(Duration::from_millis(50))).expect("a socket option");
            waiting.peek(&mut [0]).is_err()
        });
    }
    drop(busy);
    rest.returns(&server);
}

#[test]
fn three_hundred_clients_at_the_same_moment_are_each_served_or_told_421() {
    raise_own_limit();
    let (_folder, root) = tree();
    let server = Server::start(&root, &["--workers", "16", "--queue", "64", "--log", "info"]);
    let rest = Rest::of(&server);
    let barrier = Barrier::new(300);
    let replies: Vec<String> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..300)
            .map(|_| {
                scope.spawn(|| {
                    barrier.wait();
                    let mut stream = connect_with(None, None, server.v4());
                    let reply = read_line(&stream);
                    if reply.starts_with("220 ") {
                        stream.write_all(b"QUIT\r\n").expect("the server reads");
                        assert!(read_line(&stream).starts_with("221 "));
                    }
                    reply
                })
            })
            .collect();
        clients.into_iter().map(|client| client.join().expect("no client hangs")).collect()
    });
    let greeted = replies.iter().filter(|reply| reply.starts_with("220 ")).count();
    let refused = replies.iter().filter(|reply| is_full(reply)).count();
    assert_eq!(greeted + refused, 300, "{replies:?}");
    assert!(greeted >= 16, "{greeted}");
    rest.returns(&server);
}

// --- Caps ---------------------------------------------------------------------------------------

/// The first reply to a client that comes from this address.
fn reply_to(from: IpAddr, to: SocketAddr) -> (TcpStream, String) {
    let stream = connect_with(Some(from), None, to);
    let reply = read_line(&stream);
    (stream, reply)
}

#[test]
fn each_address_has_its_own_cap() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &["--max-per-ip", "2"]);
    let (one, two): (IpAddr, IpAddr) = (Ipv4Addr::new(127, 0, 0, 1).into(), Ipv4Addr::new(127, 0, 0, 2).into());
    let mut kept = Vec::new();
    for from in [one, two] {
        for _ in 0..2 {
            let (stream, reply) = reply_to(from, server.v4());
            assert!(reply.starts_with("220 "), "{from}: {reply}");
            kept.push(stream);
        }
    }
    for from in [one, two] {
        let (_stream, reply) = reply_to(from, server.v4());
        assert!(is_full(&reply) && reply.contains("from your address"), "{from}: {reply}");
    }
    drop(kept.pop());
    eventually("the second address to have a place again", || reply_to(two, server.v4()).1.starts_with("220 "));
    let (_stream, reply) = reply_to(one, server.v4());
    assert!(is_full(&reply), "the first has none: {reply}");
}

#[test]
fn an_ipv4_address_is_one_address_at_either_kind_of_listener() {
    if !has_ipv6() {
        return eprintln!("skipped: there is no IPv6 on loopback");
    }
    let (_folder, root) = tree();
    // Through the first it comes as an IPv4 address mapped into IPv6, through the second as itself.
    let launched = Launched::start(&root, &["--listen", "0", "--listen", "127.0.0.1:0", "--max-per-ip", "1"]);
    let [mapped, plain] = [0, 1].map(|number| SocketAddr::from((Ipv4Addr::LOCALHOST, launched.port(number))));
    // An IPv6 socket that speaks IPv4 is no way around it either.
    let other = SocketAddr::from((Ipv4Addr::LOCALHOST.to_ipv6_mapped(), mapped.port()));
    for (first, second) in [(plain, mapped), (plain, other), (mapped, plain), (other, plain)] {
        let mut kept = None;
        eventually("the address to have its place again", || {
            let (client, reply) = Client::try_connect(first);
            kept = reply.starts_with("220 ").then_some(client);
            kept.is_some()
        });
        let (_client, reply) = Client::try_connect(second);
        assert!(is_full(&reply), "{second} after {first}: {reply}");
    }
    eventually("the log", || launched.log().contains("refused "));
    let log = launched.log();
    assert!(!log.contains("::ffff:"), "it is one address in the log too:\n{log}");
}

#[test]
fn ipv4_and_ipv6_loopback_are_two_addresses() {
    if !has_ipv6() {
        return eprintln!("skipped: there is no IPv6 on loopback");
    }
    let (_folder, root) = tree();
    let server = Server::start(&root, &["--max-per-ip", "1"]);
    let _first = Client::connect(server.v4());
    let _second = Client::connect(server.v6());
    let (_client, reply) = Client::try_connect((Ipv6Addr::LOCALHOST, server.port()).into());
    assert!(is_full(&reply), "{reply}");
}

#[test]
fn a_user_beyond_the_cap_is_told_530_and_gets_in_once_another_has_left() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &["--max-per-user", "2"]);
    let mut first = server.login();
    let mut second = server.login();
    let mut third = server.connect();
    // More often than a login may fail: a full server is not the client's failure.
    for name in ["anonymous", "ftp", "FTP", "anonymous", "ftp"] {
        third.expect(&format!("USER {name}"), "331 ");
        let reply = third.expect("PASS a@b", "530 ");
        assert!(reply.contains("maximum number"), "{reply}");
        third.expect("PWD", "530 ");
    }
    first.expect("QUIT", "221 ");
    first.expect_end();
    third.log_in();
    third.expect("PWD", "257 ");
    let mut fourth = server.connect();
    fourth.expect("USER ftp", "331 ");
    fourth.expect("PASS a@b", "530 ");
    second.expect("NOOP", "200 ");
}

#[test]
fn user_again_and_rein_give_a_login_back_though_the_session_stays() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &["--max-per-user", "1"]);
    for way_out in ["USER anonymous", "USER nobody", "REIN"] {
        for _ in 0..10 {
            let mut first = admitted_and_logged_in(&server);
            let mut second = server.connect();
            second.expect("USER anonymous", "331 ");
            second.expect("PASS a@b", "530 ");
            first.command(way_out);
            first.expect("PWD", "530 ");
            second.log_in();
            first.expect("USER anonymous", "331 ");
            first.expect("PASS a@b", "530 ");
        }
    }
}

#[test]
fn those_who_are_not_logged_in_have_a_cap_of_their_own() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &["--max-unauthenticated", "2"]);
    let refused = || {
        let (mut client, reply) = Client::try_connect(server.v4());
        assert!(is_full(&reply), "{reply}");
        client.expect_end();
    };
    let mut first = server.connect();
    let mut second = server.connect();
    second.expect("USER anonymous", "331 ");
    refused();
    first.log_in();
    let third = server.connect();
    refused();
    // Who logs out is one of them again, but is not sent away for it.
    drop(third);
    let mut third = admitted(&server);
    third.log_in();
    first.expect("REIN", "220 ");
    refused();
    first.log_in();
    second.expect("PASS a@b", "230 ");
    let _fourth = server.connect();
    let _fifth = server.connect();
    refused();
}

// --- Ways out -----------------------------------------------------------------------------------

/// A way out of a session that may be logged in, and whether it begins with a login.
type WayOut = (&'static str, bool, fn(Client));

fn say_and_leave(mut client: Client, commands: &[&str], last: &str) {
    for command in commands {
        client.command(command);
    }
    let reply = client.command(last);
    assert!(reply.starts_with("221 ") || reply.starts_with("421 "), "{reply}");
    client.expect_end();
}

/// Begins a transfer that does not end by itself before it is read.
fn begin(client: &mut Client) -> TcpStream {
    let data = client.passive(true);
    client.expect("RETR huge.bin", "150 ");
    data
}

const WAYS_OUT: [WayOut; 18] = [
    ("QUIT before login", false, |client| say_and_leave(client, &[], "QUIT")),
    ("QUIT", true, |client| say_and_leave(client, &[], "QUIT")),
    ("the end before login", false, drop),
    ("the end", true, drop),
    ("RST before login", false, reset),
    ("RST", true, reset),
    ("RST after USER", false, |mut client| {
        client.expect("USER ftp", "331 ");
        reset(client);
    }),
    ("RST while a passive port listens", true, |mut client| {
        client.expect("EPSV", "229 ");
        reset(client);
    }),
    ("RST while a data connection is waited for", true, |mut client| {
        client.expect("EPSV", "229 ");
        client.send("RETR huge.bin");
        client.expect("NOOP", "200 ");
        reset(client);
    }),
    ("RST in a transfer", true, |mut client| {
        let _data = begin(&mut client);
        reset(client);
    }),
    ("ABOR in a transfer", true, |mut client| {
        let _data = begin(&mut client);
        client.expect("ABOR", "426 ");
        assert!(client.reply().starts_with("226 "));
        say_and_leave(client, &[], "QUIT");
    }),
    ("a data connection that breaks", true, |mut client| {
        drop(begin(&mut client));
        assert!(client.reply().starts_with("426 "));
        say_and_leave(client, &[], "QUIT");
    }),
    ("QUIT in a transfer that breaks", true, |mut client| {
        let data = begin(&mut client);
        client.send("QUIT");
        drop(data);
        assert!(client.reply().starts_with("426 "));
        assert!(client.reply().starts_with("221 "));
        client.expect_end();
    }),
    ("three failed logins", false, |client| {
        say_and_leave(client, &["USER a", "USER b"], "USER c");
    }),
    ("three failed logins after one that did not fail", true, |client| {
        say_and_leave(client, &["USER a", "USER b"], "USER c");
    }),
    ("USER again", true, |client| {
        say_and_leave(client, &["USER ftp", "PASS a@b", "USER anonymous", "PASS a@b"], "QUIT");
    }),
    ("REIN", true, |client| say_and_leave(client, &["REIN"], "QUIT")),
    ("a line without end", true, |mut client| {
        // The server closes in the midst of it.
        let _ = client.stream.write_all(&vec![b'x'; 1 << 20]);
        reset(client);
    }),
];

#[test]
fn every_way_out_gives_every_count_back() {
    let (_folder, root) = tree();
    let file = std::fs::File::create(root.join("huge.bin")).expect("a file");
    file.set_len(1 << 30).expect("a sparse file");
    let caps = ["--max-per-ip", "1", "--max-per-user", "1", "--max-unauthenticated", "1"];
    let mut server = Server::start(&root, &caps);
    let rest = Rest::of(&server);
    for (_, login, leave) in WAYS_OUT {
        for _ in 0..8 {
            leave(if login { admitted_and_logged_in(&server) } else { admitted(&server) });
        }
    }
    rest.returns(&server);
    let counters = counters_at_the_end(&mut server);
    assert_eq!(counters.admitted, counters.ended(), "{}", counters.line);
    assert!(counters.admitted > 8 * WAYS_OUT.len() as u64, "{}", counters.line);
}

#[test]
fn an_idle_timeout_gives_every_count_back() {
    let (_folder, root) = tree();
    let caps = ["--max-per-ip", "1", "--max-per-user", "1", "--max-unauthenticated", "1"];
    let server = Server::start(&root, &[&caps[..], &["--idle-timeout", "300ms"]].concat());
    let rest = Rest::of(&server);
    for _ in 0..5 {
        let mut client = admitted(&server);
        client.raw(b"USER anonymous\r\nPASS a@b\r\n");
        for start in ["331 ", "230 ", "421 Idle"] {
            let reply = client.reply();
            assert!(reply.starts_with(start), "{reply}");
        }
        client.expect_end();
    }
    rest.returns(&server);
}

#[test]
fn a_login_timeout_gives_every_count_back() {
    let (_folder, root) = tree();
    let caps = ["--max-per-ip", "1", "--max-unauthenticated", "1"];
    let server = Server::start(&root, &[&caps[..], &["--login-timeout", "500ms"]].concat());
    for _ in 0..5 {
        let reply = admitted(&server).reply();
        assert!(reply.starts_with("421 Login timeout"), "{reply}");
    }
    eventually("a newcomer to log in", || logs_in(server.v4()));
}

// --- Counters -----------------------------------------------------------------------------------

/// What the log says at the end.
struct Counters {
    line: String,
    admitted: u64,
}

impl Counters {
    /// Finds them in the log of a server that has ended.
    fn read(log: &str) -> Counters {
        let line = log.lines().find_map(|line| line.find("admitted ").map(|start| line[start..].to_owned()));
        let mut counters = Counters { line: line.expect("the counters are logged"), admitted: 0 };
        counters.admitted = counters.of("admitted ");
        counters
    }

    /// The number under this name.
    fn of(&self, name: &str) -> u64 {
        let mut parts = self.line.split(", ").filter_map(|part| part.strip_prefix(name));
        let number = parts.next().and_then(|number| number.trim().parse().ok());
        number.unwrap_or_else(|| panic!("no {name:?} in {}", self.line))
    }

    /// The sum over all ways in which sessions ended.
    fn ended(&self) -> u64 {
        let parts = self.line.split(", ").filter(|part| part.starts_with("ended ("));
        parts.map(|part| part.rsplit(' ').next().and_then(|number| number.parse::<u64>().ok()).expect("a number")).sum()
    }
}

/// Stops the server, which has to end in order, and reads its counters from the log.
fn counters_at_the_end(server: &mut Server) -> Counters {
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
    server.wait_for_log(", bytes sent ");
    Counters::read(&server.log())
}

#[test]
fn each_session_is_counted_under_the_way_in_which_it_ended() {
    let (_folder, root) = tree();
    let flags = ["--max-per-ip", "2", "--max-per-user", "1", "--idle-timeout", "1s", "--log", "info"];
    let mut server = Server::start(&root, &flags);
    let rest = Rest::of(&server);
    for _ in 0..3 {
        say_and_leave(admitted_and_logged_in(&server), &[], "QUIT");
    }
    for _ in 0..2 {
        reset(admitted(&server));
    }
    say_and_leave(admitted(&server), &["USER a", "USER b"], "USER c");
    let idle = admitted_and_logged_in(&server);
    let second = admitted(&server);
    let (_client, reply) = Client::try_connect(server.v4());
    assert!(is_full(&reply), "{reply}");
    drop(second);
    let mut idle = idle;
    assert!(idle.reply().starts_with("421 Idle"));
    rest.returns(&server);
    let mut last = admitted_and_logged_in(&server);
    server.signal("TERM");
    assert!(last.reply().starts_with("421 "));
    assert_eq!(server.wait().code(), Some(0));
    server.wait_for_log(", bytes sent ");
    let counters = Counters::read(&server.log());
    assert_eq!(counters.admitted, counters.ended(), "{}", counters.line);
    assert_eq!(counters.of("ended (idle) "), 1, "{}", counters.line);
    assert_eq!(counters.of("ended (failed) "), 1, "{}", counters.line);
    assert_eq!(counters.of("ended (shutdown) "), 1, "{}", counters.line);
    assert_eq!(counters.of("ended (lost) "), 3, "{}", counters.line);
    assert_eq!(counters.of("ended (quit) "), 4, "{}", counters.line);
    assert_eq!(counters.of("ended (defect) "), 0, "{}", counters.line);
    assert_eq!(counters.of("logins "), 6, "{}", counters.line);
    assert!(counters.of("refused (address) ") >= 1, "{}", counters.line);
}

#[test]
fn those_who_never_had_a_worker_are_counted_as_well() {
    let (_folder, root) = tree();
    let flags = ["--workers", "1", "--queue", "4", "--queue-timeout", "500ms", "--shed-after", "1h"];
    let mut server = Server::start(&root, &[&flags[..], &["--max-unauthenticated", "off"]].concat());
    let _busy = server.login();
    for _ in 0..2 {
        assert!(is_full(&read_line(&connect_with(None, None, server.v4()))));
    }
    let waiting: Vec<TcpStream> = (0..4).map(|_| connect_with(None, None, server.v4())).collect();
    let (_client, reply) = Client::try_connect(server.v4());
    assert!(is_full(&reply), "{reply}");
    let counters = counters_at_the_end(&mut server);
    drop(waiting);
    assert_eq!(counters.admitted, 7, "{}", counters.line);
    assert_eq!(counters.admitted, counters.ended(), "{}", counters.line);
    assert_eq!(counters.of("refused (full) "), 1, "{}", counters.line);
}

/// SIGUSR1 asks: the load line, the audit and the counters, and a line for each session.
#[test]
fn the_state_tells_of_each_session_who_it_is_and_what_it_does() {
    let (_folder, root) = tree();
    let huge = std::fs::File::create(root.join("huge.bin")).expect("a file");
    huge.set_len(1 << 32).expect("a sparse file");
    let server = Server::start(&root, &[]);
    let mut busy = server.login();
    let _data = busy.passive(true);
    busy.expect("RETR huge.bin", "150 ");
    let stranger = server.connect();
    let of = |client: &Client| client.stream.local_addr().expect("connected").to_string();
    let (busy, stranger) = (of(&busy), of(&stranger));
    eventually("both to be told of", || {
        server.signal("USR1");
        let log = server.log();
        let Some((_, block)) = log.rsplit_once(" state: load line: 16 sessions, ") else { return false };
        let line = |peer: &str| block.lines().find(|line| line.starts_with(&format!("  {peer}: "))).unwrap_or_default();
        let words = |line: &str, words: &[&str]| words.iter().all(|word| line.contains(word));
        block.contains("\n  audit: 2 sessions, 2 busy workers, 0 queued, 2 control connections\n")
            && block.contains("\n  admitted 2, logins 1, ")
            && words(line(&busy), &[": anonymous, ", " s old, in a transfer, ", " bytes, /huge.bin"])
            && !line(&busy).contains(" 0 bytes")
            && words(
                line(&stranger),
                &[": not logged in, ", " s old, at the prompt, not logged in, ", " s left, 0 bytes"],
            )
    });
}

// --- Descriptors --------------------------------------------------------------------------------

#[test]
fn a_hard_limit_of_descriptors_that_is_too_small_is_one_line_that_names_workers() {
    let (_folder, root) = tree();
    let script = "ulimit -n 64; exec \"$0\" \"$@\"";
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", script, env!("CARGO_BIN_EXE_plimsoll"), "serve"]).arg(&root).args([
        "--listen",
        "127.0.0.1:0",
        "--workers",
        "16",
    ]);
    let (code, out, error) = crate::flags::outcome(shell);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(error.starts_with("plimsoll: ") && error.contains("--workers"), "{error}");
    assert!(error.contains(" 64:") || error.contains(" 64 "), "the limit is named: {error}");
}

#[test]
fn a_server_that_fits_a_small_hard_limit_serves_at_its_line() {
    let (_folder, root) = tree();
    let script = "ulimit -n 64; exec \"$0\" \"$@\"";
    let mut shell = std::process::Command::new("sh");
    shell
        .args(["-c", script, env!("CARGO_BIN_EXE_plimsoll"), "serve"])
        .arg(&root)
        .args(["--listen", "127.0.0.1:0", "--workers", "2", "--queue", "2"])
        .args(["--max-per-ip", "off", "--shed-after", "1h"]);
    let launched = Launched::run(shell);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, launched.port(0)));
    let mut busy: Vec<Client> = (0..2).map(|_| Client::connect(address)).collect();
    for client in &mut busy {
        client.log_in();
    }
    let waiting: Vec<TcpStream> = (0..2).map(|_| connect_with(None, None, address)).collect();
    for _ in 0..200 {
        let (_client, reply) = Client::try_connect(address);
        assert!(is_full(&reply), "{reply}");
    }
    for client in &mut busy {
        assert!(!client.fetch("RETR big.bin").is_empty());
    }
    drop((busy, waiting));
    eventually("a newcomer to log in", || logs_in(address));
}

#[test]
fn the_soft_limit_of_descriptors_is_raised_to_what_is_needed() {
    let (_folder, root) = tree();
    let script = "ulimit -Sn 64; exec \"$0\" \"$@\"";
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", script, env!("CARGO_BIN_EXE_plimsoll"), "serve"]).arg(&root).args([
        "--listen",
        "127.0.0.1:0",
        "--workers",
        "16",
    ]);
    let launched = Launched::run(shell);
    let line = launched.ready().last().expect("the load line").clone();
    let needed = line.split(", ").last().and_then(|part| part.split(' ').next());
    let needed: u64 = needed.and_then(|number| number.replace(',', "").parse().ok()).expect("a number");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", launched.pid())).expect("it runs");
    let files = limits.lines().find(|line| line.starts_with("Max open files")).expect("a limit");
    let soft: u64 = files.split_whitespace().nth(3).and_then(|n| n.parse().ok()).expect("a number");
    assert!(soft >= needed && needed > 64, "{files}, {line}");
}

/// Time that the process has spent on a processor.
fn processor_time(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let fields: Vec<&str> = stat.rsplit(") ").next().expect("fields").split(' ').collect();
    // utime and stime, in hundredths of a second.
    let hundredths: u64 = fields[11..13].iter().map(|f| f.parse::<u64>().expect("a number")).sum();
    Duration::from_millis(10 * hundredths)
}

#[test]
fn without_a_descriptor_left_newcomers_are_told_421_and_nothing_spins() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &["--workers", "16"]);
    let rest = Rest::of(&server);
    let mut client = server.login();
    let pid = Pid::from_raw(i32::try_from(server.pid()).expect("a pid"));
    let limit = prlimit(pid, Resource::Nofile, getrlimit(Resource::Nofile)).expect("our child");
    let open: HashSet<u64> = std::fs::read_dir(format!("/proc/{}/fd", server.pid()))
        .expect("it runs")
        .filter_map(|entry| entry.expect("an entry").file_name().to_str()?.parse().ok())
        .collect();
    let lowest_free = (0..).find(|number| !open.contains(number)).expect("there is one");
    let none_left = Rlimit { current: Some(lowest_free), maximum: limit.maximum };
    prlimit(pid, Resource::Nofile, none_left).expect("our child");
    let (begun, before) = (Instant::now(), processor_time(server.pid()));
    for _ in 0..6 {
        let (mut newcomer, reply) = Client::try_connect(server.v4());
        assert!(is_full(&reply), "{reply}");
        newcomer.expect_end();
    }
    std::thread::sleep(Duration::from_secs(1));
    let (wall, busy) = (begun.elapsed(), processor_time(server.pid()) - before);
    assert!(busy < wall / 4, "{busy:?} of {wall:?}");
    client.expect("NOOP", "200 ");
    client.expect("EPSV", "425 ");
    prlimit(pid, Resource::Nofile, limit).expect("our child");
    client.expect("EPSV", "229 ");
    drop(client);
    rest.returns(&server);
    assert!(server.log().contains("accept failed"), "{}", server.log());
    assert!(begun.elapsed() < 4 * PATIENCE);
}
