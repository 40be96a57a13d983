//! Every wait of the server has an end, whatever the client does, and after each end everything is as it
//! was before: threads, descriptors, and a newcomer who logs in.

use crate::server::{Client, PATIENCE, Server, big, eventually, tree};
use socket2::{Domain, SockRef, Socket, Type};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

/// What the process holds while nobody is here.
pub struct Rest {
    threads: usize,
    descriptors: usize,
}

impl Rest {
    /// Takes the measure of a server at rest.
    pub fn of(server: &Server) -> Rest {
        Rest { threads: server.threads(), descriptors: server.descriptors() }
    }

    /// Waits until the server holds no more and no less than that, and a newcomer has logged in and left.
    pub fn returns(&self, server: &Server) {
        self.wait(server);
        eventually("a newcomer to log in", || logs_in(server.v4()));
        self.wait(server);
    }

    fn wait(&self, server: &Server) {
        eventually("threads and descriptors to be back", || {
            server.threads() == self.threads && server.descriptors() == self.descriptors
        });
    }
}

/// Whether a client that comes now can log in; it leaves again.
pub fn logs_in(address: SocketAddr) -> bool {
    let (mut client, greeting) = Client::try_connect(address);
    greeting.starts_with("220 ")
        && client.command("USER anonymous").starts_with("331 ")
        && client.command("PASS a@b").starts_with("230 ")
        && client.command("QUIT").starts_with("221 ")
}

/// The client vanishes: the control connection is closed with RST.
pub fn reset(client: Client) {
    SockRef::from(&client.stream).set_linger(Some(Duration::ZERO)).expect("a socket option");
    drop(client);
}

/// A connection with a receive buffer of this many bytes, from this address.
pub fn connect_with(from: Option<IpAddr>, receive_buffer: Option<usize>, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).expect("a descriptor");
    if let Some(bytes) = receive_buffer {
        socket.set_recv_buffer_size(bytes).expect("a socket option");
    }
    if let Some(from) = from {
        socket.bind(&SocketAddr::new(from, 0).into()).expect("an address of loopback");
    }
    socket.connect(&to.into()).expect("the server accepts");
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket option");
    stream.set_write_timeout(Some(PATIENCE)).expect("a socket option");
    stream
}

/// The port of an EPSV, not connected to yet.
fn passive_port(client: &mut Client) -> SocketAddr {
    let reply = client.expect("EPSV", "229 ");
    let port = reply.split('|').nth(3).and_then(|port| port.parse().ok());
    let peer = client.stream.peer_addr().expect("connected");
    SocketAddr::new(peer.ip(), port.expect("a port"))
}

/// A data connection that takes little unless it is read.
fn narrow_data(client: &mut Client) -> TcpStream {
    let to = passive_port(client);
    connect_with(None, Some(64 * 1024), to)
}

/// Puts a file of 1 GiB below the root; it takes no space.
fn huge(root: &Path) {
    let file = File::create(root.join("huge.bin")).expect("a file");
    file.set_len(1 << 30).expect("a sparse file");
}

/// Logs in and begins a transfer that is not read.
fn begin_huge(server: &Server) -> (Client, TcpStream) {
    let mut client = server.login();
    let data = narrow_data(&mut client);
    client.expect("RETR huge.bin", "150 ");
    (client, data)
}

/// The rest of a transfer that was cut off: it must end with a reset, because an end in order would look
/// like the end of the file.
fn expect_cut(mut data: TcpStream) {
    let mut waste = vec![0; 64 * 1024];
    loop {
        match data.read(&mut waste) {
            Ok(0) => panic!("a transfer that was cut off looks complete"),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
        }
    }
}

/// Reads what is left, to the end or a reset.
fn read_to_end(mut stream: &TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut part = [0; 4096];
    loop {
        match stream.read(&mut part) {
            Ok(0) => return bytes,
            Ok(count) => bytes.extend_from_slice(&part[..count]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return bytes,
            // With a time limit set, a receive is not begun again after a signal.
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => panic!("the connection does not end: {error}"),
        }
    }
}

/// Sends these bytes again and again, until the connection is gone.
fn drip(stream: &TcpStream, bytes: Vec<u8>, pause: Duration) -> JoinHandle<()> {
    let mut stream = stream.try_clone().expect("a descriptor");
    std::thread::spawn(move || {
        while stream.write_all(&bytes).is_ok() {
            sleep(pause);
        }
    })
}

/// The client is told 421 with this text, and the connection ends.
fn expect_421(client: &mut Client, text: &str) {
    let reply = client.reply();
    assert!(reply.starts_with("421 ") && reply.contains(text), "{reply}");
    client.expect_end();
}

// --- Idle ---------------------------------------------------------------------------------------

#[test]
fn a_client_that_is_silent_at_the_prompt_is_told_421_and_let_go() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &["--idle-timeout", "1s"]);
    let rest = Rest::of(&server);
    let mut client = server.login();
    expect_421(&mut client, "Idle timeout");
    server.wait_for_log("session ended: idle timeout");
    rest.returns(&server);
}

#[test]
fn half_a_command_is_no_sign_of_life() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &["--idle-timeout", "1s"]);
    let mut client = server.login();
    let dripping = drip(&client.stream, b"N".to_vec(), Duration::from_millis(50));
    expect_421(&mut client, "Idle timeout");
    drop(client);
    dripping.join().expect("it ends with the connection");
}

#[test]
fn a_passive_port_that_nobody_comes_to_is_closed_with_its_idle_session() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &["--idle-timeout", "1s"]);
    let rest = Rest::of(&server);
    let mut client = server.login();
    let port = passive_port(&mut client);
    expect_421(&mut client, "Idle timeout");
    rest.returns(&server);
    assert!(TcpStream::connect(port).is_err(), "nobody listens there any more");
}

#[test]
fn each_command_begins_a_new_idle_time() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &["--idle-timeout", "2s"]);
    let mut client = server.login();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(4) {
        client.expect("NOOP", "200 ");
        sleep(Duration::from_millis(200));
    }
    client.expect("QUIT", "221 ");
}

#[test]
fn a_transfer_that_moves_is_not_idle() {
    let (_folder, root) = tree();
    huge(&root);
    let server = Server::start(&root, &["--idle-timeout", "1s"]);
    let (mut client, mut data) = begin_huge(&server);
    let mut part = vec![0; 256 * 1024];
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(2500) {
        data.read_exact(&mut part).expect("the transfer goes on");
        sleep(Duration::from_millis(50));
    }
    client.expect("ABOR", "426 ");
    assert!(client.reply().starts_with("226 "));
    expect_421(&mut client, "Idle timeout");
}

// --- Login --------------------------------------------------------------------------------------

/// Who has not logged in after this long is let go.
const LOGIN: [&str; 2] = ["--login-timeout", "1s"];

#[test]
fn a_client_that_never_says_anything_is_told_421_at_the_login_deadline() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &LOGIN);
    let rest = Rest::of(&server);
    let mut client = server.connect();
    expect_421(&mut client, "Login timeout");
    server.wait_for_log("session ended: login timeout");
    rest.returns(&server);
}

#[test]
fn bytes_without_a_line_end_do_not_extend_the_login_deadline() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &LOGIN);
    let rest = Rest::of(&server);
    let mut client = server.connect();
    client.raw(b"USER anonymou");
    let dripping = drip(&client.stream, b"s".to_vec(), Duration::from_millis(50));
    expect_421(&mut client, "Login timeout");
    drop(client);
    dripping.join().expect("it ends with the connection");
    rest.returns(&server);
}

#[test]
fn one_feat_after_the_other_does_not_extend_the_login_deadline() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &LOGIN);
    let rest = Rest::of(&server);
    let mut client = server.connect();
    let begun = Instant::now();
    let last = loop {
        let reply = client.command("FEAT");
        if !reply.starts_with("211-") {
            break reply;
        }
        assert!(begun.elapsed() < PATIENCE, "FEAT extends the deadline");
        sleep(Duration::from_millis(20));
    };
    assert!(last.starts_with("421 ") && last.contains("Login timeout"), "{last}");
    assert!(begun.elapsed() >= Duration::from_millis(500), "it had no time to log in");
    rest.returns(&server);
}

#[test]
fn user_without_pass_does_not_extend_the_login_deadline() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &LOGIN);
    let mut client = server.connect();
    let begun = Instant::now();
    let last = loop {
        let reply = client.command("USER anonymous");
        if !reply.starts_with("331 ") {
            break reply;
        }
        assert!(begun.elapsed() < PATIENCE, "USER extends the deadline");
        sleep(Duration::from_millis(20));
    };
    assert!(last.contains("Login timeout"), "{last}");
}

#[test]
fn replies_read_slowly_do_not_extend_the_login_deadline() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &[&LOGIN[..], &["--stall-timeout", "5s"]].concat());
    let rest = Rest::of(&server);
    let mut control = connect_with(None, Some(4096), server.v4());
    let dripping = drip(&control, b"FEAT\r\n".repeat(500), Duration::ZERO);
    let begun = Instant::now();
    let mut part = [0; 4096];
    loop {
        match control.read(&mut part) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => break,
            Ok(_) => assert!(begun.elapsed() < PATIENCE, "the deadline has long passed"),
        }
        sleep(Duration::from_millis(20));
    }
    drop(control);
    dripping.join().expect("it ends with the connection");
    rest.returns(&server);
}

#[test]
fn a_login_in_time_puts_the_login_deadline_away_and_rein_brings_it_back() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &LOGIN);
    let mut client = server.login();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(2500) {
        client.expect("NOOP", "200 ");
        sleep(Duration::from_millis(100));
    }
    client.expect("REIN", "220 ");
    expect_421(&mut client, "Login timeout");
}

// --- Data connection ----------------------------------------------------------------------------

#[test]
fn nobody_at_the_passive_port_is_425_and_the_session_goes_on() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &["--data-timeout", "500ms"]);
    let rest = Rest::of(&server);
    let mut client = server.login();
    for command in ["RETR big.bin", "LIST", "NLST", "MLSD"] {
        let port = passive_port(&mut client);
        client.expect(command, "425 ");
        assert!(TcpStream::connect(port).is_err(), "{command}: nobody listens there any more");
    }
    client.expect("NOOP", "200 ");
    assert_eq!(client.fetch("RETR big.bin"), big());
    client.expect("QUIT", "221 ");
    rest.returns(&server);
}

#[test]
fn noop_does_not_extend_the_wait_for_a_data_connection() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &["--data-timeout", "1s"]);
    let mut client = server.login();
    passive_port(&mut client);
    client.send("RETR big.bin");
    let begun = Instant::now();
    let mut noops = 0;
    loop {
        let reply = client.command("NOOP");
        if reply.starts_with("425 ") {
            break;
        }
        assert!(reply.starts_with("200 "), "{reply}");
        assert!(begun.elapsed() < PATIENCE, "NOOP extends the wait");
        noops += 1;
        sleep(Duration::from_millis(50));
    }
    assert!(noops > 0, "it had no time to connect");
    assert!(client.reply().starts_with("200 "), "the NOOP that 425 came before");
    client.expect("QUIT", "221 ");
}

#[test]
fn an_active_port_that_never_answers_is_425_and_the_session_goes_on() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &["--data-timeout", "500ms"]);
    let rest = Rest::of(&server);
    // A listener whose queue is full: the kernel answers nobody.
    let deaf = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a descriptor");
    deaf.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a port");
    deaf.listen(0).expect("a listener");
    let address = deaf.local_addr().expect("bound").as_socket().expect("IPv4");
    let _first = TcpStream::connect(address).expect("the one that fits");
    let mut client = server.login();
    client.expect(&format!("EPRT |1|127.0.0.1|{}|", address.port()), "200 ");
    client.expect("RETR big.bin", "425 ");
    assert_eq!(client.fetch("RETR big.bin"), big());
    client.expect("QUIT", "221 ");
    rest.returns(&server);
}

// --- Stall and rate -----------------------------------------------------------------------------

#[test]
fn a_client_that_never_reads_its_file_is_told_421_and_both_connections_end() {
    let (_folder, root) = tree();
    huge(&root);
    let server = Server::start(&root, &["--stall-timeout", "500ms"]);
    let rest = Rest::of(&server);
    let (mut client, data) = begin_huge(&server);
    expect_421(&mut client, "stalled");
    expect_cut(data);
    server.wait_for_log("session ended: stalled");
    rest.returns(&server);
}

#[test]
fn noop_does_not_extend_a_stalled_transfer() {
    let (_folder, root) = tree();
    huge(&root);
    let server = Server::start(&root, &["--stall-timeout", "1s", "--idle-timeout", "1s"]);
    let rest = Rest::of(&server);
    let (mut client, data) = begin_huge(&server);
    let begun = Instant::now();
    let last = loop {
        let reply = client.command("NOOP");
        if !reply.starts_with("200 ") {
            break reply;
        }
        assert!(begun.elapsed() < PATIENCE, "NOOP extends the transfer");
        sleep(Duration::from_millis(50));
    };
    assert!(last.starts_with("421 ") && last.contains("stalled"), "{last}");
    expect_cut(data);
    rest.returns(&server);
}

#[test]
fn a_client_that_takes_everything_but_never_closes_is_told_226_and_may_go_on() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &["--stall-timeout", "500ms"]);
    let rest = Rest::of(&server);
    let mut client = server.login();
    let mut data = client.passive(true);
    client.expect("RETR a.txt", "150 ");
    let mut bytes = Vec::new();
    data.read_to_end(&mut bytes).expect("it is all there");
    assert_eq!(bytes, b"one\ntwo\r\nthree\rfour");
    let reply = client.reply();
    assert!(reply.starts_with("226 "), "{reply}");
    client.expect("QUIT", "221 ");
    drop(data);
    rest.returns(&server);
}

/// Reads 16 KiB every 50 ms, that is 320 KiB a second, until the transfer ends or `enough` has passed.
fn trickle(data: &mut TcpStream, enough: Duration) -> Result<(), ErrorKind> {
    let mut part = vec![0; 16 * 1024];
    let begun = Instant::now();
    while begun.elapsed() < enough {
        data.read_exact(&mut part).map_err(|error| error.kind())?;
        sleep(Duration::from_millis(50));
    }
    Ok(())
}

#[test]
fn a_client_that_reads_a_trickle_inside_the_stall_limit_is_told_421() {
    let (_folder, root) = tree();
    huge(&root);
    let server = Server::start(&root, &["--stall-timeout", "2s", "--min-rate", "4M"]);
    let rest = Rest::of(&server);
    let (mut client, mut data) = begin_huge(&server);
    assert_eq!(trickle(&mut data, PATIENCE), Err(ErrorKind::ConnectionReset));
    expect_421(&mut client, "too slow");
    server.wait_for_log("session ended: too slow");
    rest.returns(&server);
}

#[test]
fn without_a_minimum_rate_a_trickle_goes_on() {
    let (_folder, root) = tree();
    huge(&root);
    let server = Server::start(&root, &["--stall-timeout", "2s", "--min-rate", "off"]);
    let (mut client, mut data) = begin_huge(&server);
    assert_eq!(trickle(&mut data, Duration::from_secs(5)), Ok(()));
    client.expect("ABOR", "426 ");
    assert!(client.reply().starts_with("226 "));
    client.expect("QUIT", "221 ");
}

// --- Replies ------------------------------------------------------------------------------------

/// The most memory that the process ever had, in KiB.
fn peak_memory(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number.and_then(|number| number.parse().ok()).expect("a number")
}

#[test]
fn a_flood_of_commands_whose_replies_are_never_read_ends_in_bounded_memory() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &["--stall-timeout", "500ms"]);
    let rest = Rest::of(&server);
    assert!(logs_in(server.v4()));
    let before = peak_memory(&server);
    let mut control = connect_with(None, Some(4096), server.v4());
    control.write_all(b"USER anonymous\r\nPASS a@b\r\n").expect("it fits");
    let flood = b"FEAT\r\n".repeat(1000);
    for _ in 0..500 {
        if control.write_all(&flood).is_err() {
            break;
        }
    }
    server.wait_for_log("session ended: replies not read");
    let growth = peak_memory(&server).saturating_sub(before);
    assert!(growth < 4 * 1024, "{growth} KiB for one client");
    read_to_end(&control);
    rest.returns(&server);
}

#[test]
fn a_listing_on_the_control_connection_that_is_never_read_ends() {
    let (_folder, root) = tree();
    for number in 0..1000 {
        File::create(root.join(format!("{number:0>200}"))).expect("a file");
    }
    let server = Server::start(&root, &["--stall-timeout", "500ms"]);
    let rest = Rest::of(&server);
    let mut control = connect_with(None, Some(4096), server.v4());
    control.write_all(b"USER anonymous\r\nPASS a@b\r\nSTAT /\r\nSTAT /\r\n").expect("it fits");
    server.wait_for_log("session ended: replies not read");
    read_to_end(&control);
    rest.returns(&server);
}

// --- Session and queue --------------------------------------------------------------------------

/// No session lasts longer.
const SESSION: [&str; 2] = ["--session-timeout", "1500ms"];

#[test]
fn the_session_limit_ends_a_busy_prompt() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &SESSION);
    let rest = Rest::of(&server);
    let mut client = server.login();
    let begun = Instant::now();
    let last = loop {
        let reply = client.command("NOOP");
        if !reply.starts_with("200 ") {
            break reply;
        }
        assert!(begun.elapsed() < PATIENCE, "NOOP extends the session");
        sleep(Duration::from_millis(20));
    };
    assert!(last.starts_with("421 ") && last.contains("Session time limit"), "{last}");
    server.wait_for_log("session ended: session time limit");
    rest.returns(&server);
}

#[test]
fn the_session_limit_ends_a_silent_prompt_before_and_after_login() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &SESSION);
    let rest = Rest::of(&server);
    let (mut stranger, mut reader) = (server.connect(), server.login());
    expect_421(&mut stranger, "Session time limit");
    expect_421(&mut reader, "Session time limit");
    rest.returns(&server);
}

#[test]
fn the_session_limit_ends_a_transfer_that_moves() {
    let (_folder, root) = tree();
    huge(&root);
    let server = Server::start(&root, &SESSION);
    let rest = Rest::of(&server);
    let (mut client, mut data) = begin_huge(&server);
    assert_eq!(trickle(&mut data, PATIENCE), Err(ErrorKind::ConnectionReset));
    expect_421(&mut client, "Session time limit");
    rest.returns(&server);
}

#[test]
fn the_session_limit_ends_the_wait_for_a_data_connection() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &SESSION);
    let rest = Rest::of(&server);
    let mut client = server.login();
    passive_port(&mut client);
    client.send("RETR big.bin");
    expect_421(&mut client, "Session time limit");
    rest.returns(&server);
}

#[test]
fn the_session_limit_ends_the_wait_for_a_client_to_take_the_last_of_its_file() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &SESSION);
    let rest = Rest::of(&server);
    let mut client = server.login();
    let port = passive_port(&mut client);
    let data = connect_with(None, Some(4096), port);
    // The rest fits the server's send buffer, so that all is written and only has to be taken.
    client.expect("REST 3100000", "350 ");
    client.expect("RETR big.bin", "150 ");
    expect_421(&mut client, "Session time limit");
    drop(data);
    rest.returns(&server);
}

#[test]
fn the_session_limit_ends_a_flood_of_commands_whose_replies_are_never_read() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &SESSION);
    let rest = Rest::of(&server);
    let control = connect_with(None, Some(4096), server.v4());
    let dripping = drip(&control, b"FEAT\r\n".repeat(500), Duration::ZERO);
    server.wait_for_log("session ended: session time limit");
    dripping.join().expect("it ends with the connection");
    drop(control);
    rest.returns(&server);
}

#[test]
fn those_who_wait_too_long_for_a_worker_are_told_421_and_the_others_stay() {
    let (_folder, root) = tree();
    let flags = ["--workers", "2", "--queue", "4", "--queue-timeout", "500ms", "--shed-after", "1h"];
    let server = Server::start(&root, &flags);
    let rest = Rest::of(&server);
    for _ in 0..3 {
        let mut busy = [server.login(), server.login()];
        let waiting: Vec<TcpStream> = (0..4).map(|_| connect_with(None, None, server.v4())).collect();
        for stream in &waiting {
            let text = String::from_utf8(read_to_end(stream)).expect("ASCII");
            assert!(text.starts_with("421 ") && text.contains("too many"), "{text:?}");
            assert_eq!(text.lines().count(), 1, "{text:?}");
        }
        for client in &mut busy {
            client.expect("NOOP", "200 ");
            client.expect("QUIT", "221 ");
        }
        rest.returns(&server);
    }
}

// --- Clients that vanish ------------------------------------------------------------------------

#[test]
fn a_client_that_vanishes_at_the_prompt_leaves_nothing_behind() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &[]);
    let rest = Rest::of(&server);
    for _ in 0..20 {
        reset(server.connect());
        reset(server.login());
        let mut client = server.login();
        passive_port(&mut client);
        reset(client);
        drop(server.login());
        let mut client = server.login();
        client.raw(b"RETR big");
        reset(client);
    }
    rest.returns(&server);
}

#[test]
fn a_control_connection_that_vanishes_ends_its_transfer() {
    let (_folder, root) = tree();
    huge(&root);
    let server = Server::start(&root, &[]);
    let rest = Rest::of(&server);
    for _ in 0..5 {
        let (client, data) = begin_huge(&server);
        reset(client);
        expect_cut(data);
        let (client, data) = begin_huge(&server);
        drop(client);
        expect_cut(data);
        // A command that has to wait keeps the server from reading, not from seeing the end.
        let (mut client, data) = begin_huge(&server);
        client.send("PWD");
        reset(client);
        expect_cut(data);
        let (mut client, data) = begin_huge(&server);
        client.send("QUIT");
        reset(client);
        expect_cut(data);
    }
    rest.returns(&server);
}

#[test]
fn a_control_connection_that_vanishes_ends_the_wait_for_a_data_connection() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &[]);
    let rest = Rest::of(&server);
    for _ in 0..10 {
        let mut client = server.login();
        passive_port(&mut client);
        client.send("RETR big.bin");
        // An answer shows that the wait has begun.
        client.expect("NOOP", "200 ");
        reset(client);
    }
    rest.returns(&server);
}

#[test]
fn a_data_connection_that_vanishes_is_426_and_the_session_goes_on() {
    let (_folder, root) = tree();
    huge(&root);
    let server = Server::start(&root, &[]);
    let rest = Rest::of(&server);
    let mut client = server.login();
    for linger in [Some(Duration::ZERO), None] {
        for _ in 0..5 {
            let data = narrow_data(&mut client);
            client.expect("RETR huge.bin", "150 ");
            SockRef::from(&data).set_linger(linger).expect("a socket option");
            drop(data);
            let reply = client.reply();
            assert!(reply.starts_with("426 "), "{reply}");
        }
    }
    assert_eq!(client.fetch("RETR big.bin"), big());
    client.expect("QUIT", "221 ");
    rest.returns(&server);
}

#[test]
fn five_hundred_clients_that_connect_and_vanish_leave_nothing_behind() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &[]);
    let rest = Rest::of(&server);
    for _ in 0..500 {
        let stream = TcpStream::connect(server.v4()).expect("the server accepts");
        SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("a socket option");
    }
    rest.returns(&server);
}

// --- Signals ------------------------------------------------------------------------------------

const SHUTDOWN: &str = "shutting down";

#[test]
fn sigterm_tells_those_at_the_prompt_421_and_ends_with_0() {
    stops_in_order("TERM");
}

#[test]
fn sigint_does_the_same() {
    stops_in_order("INT");
}

fn stops_in_order(signal: &str) {
    let (_folder, root) = tree();
    let mut server = Server::start(&root, &["--grace", "1h"]);
    let mut stranger = server.connect();
    let mut named = server.connect();
    named.expect("USER anonymous", "331 ");
    let mut reader = server.login();
    let mut listener = server.login();
    passive_port(&mut listener);
    server.signal(signal);
    for client in [&mut stranger, &mut named, &mut reader, &mut listener] {
        expect_421(client, SHUTDOWN);
    }
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_signal_with_nobody_there_ends_the_server_at_once() {
    let (_folder, root) = tree();
    for signal in ["TERM", "INT"] {
        let mut server = Server::start(&root, &["--grace", "1h"]);
        let begun = Instant::now();
        server.signal(signal);
        assert_eq!(server.wait().code(), Some(0));
        assert!(begun.elapsed() < Duration::from_secs(10), "{signal}: {:?}", begun.elapsed());
    }
}

#[test]
fn a_transfer_in_progress_finishes_within_the_grace() {
    let (_folder, root) = tree();
    let mut server = Server::start(&root, &["--grace", "1h"]);
    let mut client = server.login();
    let mut data = narrow_data(&mut client);
    client.expect("RETR big.bin", "150 ");
    let mut idle = server.login();
    server.signal("TERM");
    expect_421(&mut idle, SHUTDOWN);
    eventually("the listeners to close", || TcpStream::connect(server.v4()).is_err());
    let mut bytes = Vec::new();
    data.read_to_end(&mut bytes).expect("the data end in order");
    drop(data);
    assert!(bytes == big(), "{} bytes", bytes.len());
    let reply = client.reply();
    assert!(reply.starts_with("226 "), "{reply}");
    expect_421(&mut client, SHUTDOWN);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_transfer_that_stalls_does_not_outlive_the_grace() {
    let (_folder, root) = tree();
    huge(&root);
    let mut server = Server::start(&root, &["--grace", "500ms"]);
    let (mut client, data) = begin_huge(&server);
    let mut waiting = server.login();
    passive_port(&mut waiting);
    waiting.send("RETR big.bin");
    waiting.expect("NOOP", "200 ");
    server.signal("TERM");
    expect_421(&mut client, SHUTDOWN);
    expect_421(&mut waiting, SHUTDOWN);
    expect_cut(data);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_client_that_reads_no_replies_does_not_outlive_the_grace() {
    let (_folder, root) = tree();
    let mut server = Server::start(&root, &["--grace", "500ms"]);
    let control = connect_with(None, Some(4096), server.v4());
    let dripping = drip(&control, b"FEAT\r\n".repeat(500), Duration::ZERO);
    server.wait_for_log("FEAT");
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
    dripping.join().expect("it ends with the connection");
}

#[test]
fn those_who_wait_for_a_worker_are_told_421_when_the_server_stops() {
    let (_folder, root) = tree();
    let mut server = Server::start(&root, &["--workers", "2", "--queue", "4", "--shed-after", "1h"]);
    let mut busy = [server.login(), server.login()];
    let waiting: Vec<TcpStream> = (0..4).map(|_| connect_with(None, None, server.v4())).collect();
    // The one that does not fit shows that the four were admitted.
    let (_, refused) = Client::try_connect(server.v4());
    assert!(refused.starts_with("421 ") && refused.contains("too many"), "{refused}");
    server.signal("TERM");
    for client in &mut busy {
        expect_421(client, SHUTDOWN);
    }
    for stream in &waiting {
        let text = String::from_utf8(read_to_end(stream)).expect("ASCII");
        assert!(text.contains("421 ") && text.contains(SHUTDOWN), "{text:?}");
        assert_eq!(text.lines().count(), 1, "nobody is greeted and sent away: {text:?}");
    }
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_second_signal_ends_the_server_at_once_and_not_with_0() {
    let (_folder, root) = tree();
    huge(&root);
    for (first, second) in [("TERM", "TERM"), ("TERM", "INT"), ("INT", "INT")] {
        let mut server = Server::start(&root, &["--grace", "1h"]);
        let (_client, _data) = begin_huge(&server);
        let mut idle = server.login();
        server.signal(first);
        expect_421(&mut idle, SHUTDOWN);
        server.signal(second);
        assert_eq!(server.wait().code(), Some(1), "{first}, {second}");
    }
}

#[test]
fn the_port_is_free_for_the_next_server_once_one_has_ended() {
    let (_folder, root) = tree();
    let mut server = Server::start_at(&root, "127.0.0.1:0", &[]);
    let mut client = server.login();
    let address = server.v4();
    server.signal("TERM");
    expect_421(&mut client, SHUTDOWN);
    assert_eq!(server.wait().code(), Some(0));
    TcpListener::bind(address).expect("nothing holds the port");
}
