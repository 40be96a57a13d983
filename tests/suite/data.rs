//! Data connections: how they are opened, used, aborted, lost and closed, and that nothing of them stays
//! behind.

use crate::server::{Client, PATIENCE, Server, big, eventually, has_ipv6, tree};
use socket2::{Domain, SockRef, Socket, Type};
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// More than the kernel ever holds for two ends of a connection.
const SPARSE: u64 = 64 << 20;

/// How the data connection is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Pasv,
    Epsv,
    Port,
    Eprt,
}

/// How a transfer ends.
#[derive(Debug, Clone, Copy)]
enum Ending {
    /// All of it is received.
    Finish,
    /// The client sends ABOR as any other command.
    Abort,
    /// The client sends ABOR as RFC 959 §4.1.3 wants it: Telnet IP, then DM as urgent data.
    UrgentAbort,
    /// The whole ABOR is urgent data, as Python's ftplib sends it.
    WholeAbortUrgent,
    /// The client closes the data connection.
    DropData,
    /// The client closes the control connection.
    DropControl,
    /// The client resets both.
    Reset,
}

/// The usual tree with a `sparse` file of 64 MiB of zeros.
fn tree_with_sparse() -> (tempfile::TempDir, PathBuf) {
    let (folder, root) = tree();
    let file = File::create(root.join("sparse")).expect("a file");
    file.set_len(SPARSE).expect("a file system with sparse files");
    (folder, root)
}

/// Opens a data connection with a transfer command, which must be answered with 150.
fn begin(client: &mut Client, mode: Mode, command: &str) -> TcpStream {
    let data = match mode {
        Mode::Pasv | Mode::Epsv => {
            let data = client.passive(mode == Mode::Epsv);
            client.send(command);
            data
        }
        Mode::Port | Mode::Eprt => {
            let listener = client.active(mode == Mode::Eprt);
            client.send(command);
            accept(&listener)
        }
    };
    let reply = client.reply();
    assert!(reply.starts_with("150 "), "{command}: {reply}");
    data
}

/// The port that EPSV gives, not connected to.
fn extended_passive_port(client: &mut Client) -> u16 {
    let reply = client.expect("EPSV", "229 ");
    let port = reply.split('|').nth(3).and_then(|port| port.parse().ok());
    port.expect("a port")
}

/// EPSV over IPv4, connected, with room for a few KiB only.
fn passive_with_a_small_window(client: &mut Client) -> TcpStream {
    let passive: SocketAddr = (Ipv4Addr::LOCALHOST, extended_passive_port(client)).into();
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a socket option");
    socket.connect(&passive.into()).expect("the port accepts");
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket option");
    TcpStream::from(socket)
}

fn accept(listener: &TcpListener) -> TcpStream {
    listener.set_nonblocking(true).expect("a socket option");
    let mut accepted = None;
    eventually("the server to connect", || {
        accepted = listener.accept().ok();
        accepted.is_some()
    });
    let (data, _) = accepted.expect("just accepted");
    data.set_nonblocking(false).expect("a socket option");
    data.set_read_timeout(Some(PATIENCE)).expect("a socket option");
    data
}

/// All that comes until the end, which must be FIN.
fn read_all(mut data: &TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    data.read_to_end(&mut bytes).expect("the data end in order");
    bytes
}

/// Reads until the end, whatever it is, and gives the number of bytes.
fn read_until_lost(mut data: &TcpStream) -> u64 {
    let mut chunk = vec![0; 256 << 10];
    let mut count = 0;
    loop {
        match data.read(&mut chunk) {
            Ok(0) => return count,
            Ok(read) => count += read as u64,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return count,
            Err(error) => panic!("the data connection does not end: {error}"),
        }
    }
}

/// Fetches a file in the given mode.
fn fetch(client: &mut Client, mode: Mode, path: &str) -> Vec<u8> {
    let data = begin(client, mode, &format!("RETR {path}"));
    let bytes = read_all(&data);
    drop(data);
    expect_reply(client, "226 ");
    bytes
}

fn expect_reply(client: &mut Client, start: &str) -> String {
    let reply = client.reply();
    assert!(reply.starts_with(start), "expected {start}, got {reply:?}");
    reply
}

/// The next close of this socket is a reset.
fn reset_on_close(stream: &TcpStream) {
    let linger = SockRef::from(stream).set_linger(Some(Duration::ZERO));
    linger.expect("a socket option");
}

/// The server has as many descriptors as at first, and its only worker takes a new session.
fn is_as_before(server: &Server, descriptors: usize) {
    eventually("the descriptors to be given back", || server.descriptors() == descriptors);
    let mut client = server.login();
    assert_eq!(fetch(&mut client, Mode::Epsv, "sub/b.txt"), b"b\n");
    client.expect("QUIT", "221 ");
    client.expect_end();
    eventually("the descriptors to be given back", || server.descriptors() == descriptors);
}

fn run(ipv6: bool, mode: Mode, ending: Ending) {
    if ipv6 && !has_ipv6() {
        return;
    }
    let (_folder, root) = tree_with_sparse();
    let server = Server::start(&root, &["--workers", "1"]);
    let before = server.descriptors();
    let mut client = Client::connect(if ipv6 { server.v6() } else { server.v4() });
    client.log_in();
    match ending {
        Ending::Finish => {
            assert!(fetch(&mut client, mode, "big.bin") == big(), "the bytes differ");
            let data = begin(&mut client, mode, "NLST");
            assert_eq!(read_all(&data), b"a.txt\r\nbig.bin\r\nempty\r\nsparse\r\nsub\r\n");
            drop(data);
            expect_reply(&mut client, "226 ");
        }
        Ending::Abort | Ending::UrgentAbort | Ending::WholeAbortUrgent => {
            let data = begin(&mut client, mode, "RETR sparse");
            (&data).read_exact(&mut [0; 1000]).expect("it moves");
            send_abort(&mut client, ending);
            expect_reply(&mut client, "426 ");
            expect_reply(&mut client, "226 ");
            assert!(read_until_lost(&data) < SPARSE, "it was cut off");
        }
        Ending::DropData => {
            let data = begin(&mut client, mode, "RETR sparse");
            (&data).read_exact(&mut [0; 1000]).expect("it moves");
            drop(data);
            expect_reply(&mut client, "426 ");
        }
        Ending::DropControl => {
            let data = begin(&mut client, mode, "RETR sparse");
            (&data).read_exact(&mut [0; 1000]).expect("it moves");
            drop(client);
            assert!(read_until_lost(&data) < SPARSE, "it was cut off");
            return is_as_before(&server, before);
        }
        Ending::Reset => {
            let data = begin(&mut client, mode, "RETR sparse");
            (&data).read_exact(&mut [0; 1000]).expect("it moves");
            reset_on_close(&data);
            reset_on_close(&client.stream);
            drop(client);
            return is_as_before(&server, before);
        }
    }
    // The session is intact, whatever became of the transfer.
    client.expect("PWD", "257 \"/\"");
    client.expect("RETR a.txt", "425 ");
    assert_eq!(fetch(&mut client, mode, "a.txt").len(), 19);
    client.expect("QUIT", "221 ");
    client.expect_end();
    drop(client);
    is_as_before(&server, before);
}

fn send_abort(client: &mut Client, ending: Ending) {
    match ending {
        Ending::WholeAbortUrgent => urgent(client, b"ABOR\r\n"),
        Ending::UrgentAbort => {
            client.raw(&[255, 244]);
            // IAC goes before the mark, and DM, the last byte of the urgent data, is the mark.
            urgent(client, &[255, 242]);
            client.send("ABOR");
        }
        _ => client.send("ABOR"),
    }
}

fn urgent(client: &Client, bytes: &[u8]) {
    let sent = SockRef::from(&client.stream).send_out_of_band(bytes);
    assert_eq!(sent.expect("the server reads"), bytes.len());
}

macro_rules! each_way {
    ($($way:ident: $mode:expr, ipv6 $ipv6:expr;)*) => {$(
        mod $way {
            use super::{Ending, Mode, run};

            #[test]
            fn a_transfer_is_finished() {
                run($ipv6, $mode, Ending::Finish);
            }

            #[test]
            fn a_transfer_is_aborted() {
                run($ipv6, $mode, Ending::Abort);
            }

            #[test]
            fn a_transfer_is_aborted_with_telnet_signals_and_urgent_data() {
                run($ipv6, $mode, Ending::UrgentAbort);
            }

            #[test]
            fn a_transfer_is_aborted_with_nothing_but_urgent_data() {
                run($ipv6, $mode, Ending::WholeAbortUrgent);
            }

            #[test]
            fn the_data_connection_is_dropped() {
                run($ipv6, $mode, Ending::DropData);
            }

            #[test]
            fn the_control_connection_is_dropped() {
                run($ipv6, $mode, Ending::DropControl);
            }

            #[test]
            fn both_connections_are_reset() {
                run($ipv6, $mode, Ending::Reset);
            }
        }
    )*};
}

each_way! {
    pasv_over_ipv4: Mode::Pasv, ipv6 false;
    epsv_over_ipv4: Mode::Epsv, ipv6 false;
    epsv_over_ipv6: Mode::Epsv, ipv6 true;
    port_over_ipv4: Mode::Port, ipv6 false;
    eprt_over_ipv4: Mode::Eprt, ipv6 false;
    eprt_over_ipv6: Mode::Eprt, ipv6 true;
}

// --- Phases of a data port ----------------------------------------------------------------------

#[test]
fn a_listener_goes_with_its_session_in_every_way_to_end_it() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &["--workers", "1"]);
    let before = server.descriptors();
    for ending in ["QUIT", "ABOR", "REIN", "USER ftp", "close", "reset"] {
        for command in ["PASV", "EPSV"] {
            let mut client = server.login();
            client.command(command);
            assert!(server.descriptors() > before + 1);
            match ending {
                "close" => {}
                "reset" => reset_on_close(&client.stream),
                command => {
                    let reply = client.command(command);
                    assert!(reply.starts_with('2') || reply.starts_with('3'), "{reply}");
                    // Of this session only the control connection is left, or not even that.
                    eventually("the listener to be closed", || server.descriptors() <= before + 1);
                }
            }
            drop(client);
            is_as_before(&server, before);
        }
    }
}

#[test]
fn a_session_that_waits_for_a_data_connection_ends_in_order() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &["--workers", "1", "--data-timeout", "300ms"]);
    let before = server.descriptors();
    for (ending, replies) in [
        ("QUIT", &["425 ", "221 "][..]),
        ("ABOR", &["426 ", "226 "]),
        ("REIN", &["425 ", "220 "]),
        ("NOOP", &["200 NOOP", "425 "]),
        ("PWD", &["425 ", "257 "]),
        ("close", &[]),
        ("reset", &[]),
    ] {
        let mut client = server.login();
        client.expect("EPSV", "229 ");
        match ending {
            "close" => client.send("RETR a.txt"),
            "reset" => {
                client.send("RETR a.txt");
                reset_on_close(&client.stream);
            }
            // In one segment: the server hears both before it waits.
            command => client.raw(format!("RETR a.txt\r\n{command}\r\n").as_bytes()),
        }
        for start in replies {
            expect_reply(&mut client, start);
        }
        if ending == "QUIT" {
            client.expect_end();
        } else if !replies.is_empty() {
            client.expect("NOOP", "200 ");
        }
        drop(client);
        is_as_before(&server, before);
    }
}

#[test]
fn abor_with_nothing_to_abort_closes_the_passive_listener() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &[]);
    let mut client = server.login();
    let before = server.descriptors();
    client.expect("ABOR", "225 ");
    for command in ["PASV", "EPSV"] {
        client.command(command);
        assert_eq!(server.descriptors(), before + 1, "it listens");
        client.expect("ABOR", "225 ");
        assert_eq!(server.descriptors(), before, "it does not");
        client.expect("RETR a.txt", "425 ");
    }
    // Urgent or not, there is one reply.
    client.raw(&[255, 244]);
    urgent(&client, &[255, 242]);
    client.expect("ABOR", "225 ");
    urgent(&client, b"ABOR\r\n");
    expect_reply(&mut client, "225 ");
    client.expect("NOOP", "200 ");
}

#[test]
fn an_abor_that_comes_after_its_transfer_gets_226_once() {
    let (_folder, root) = tree_with_sparse();
    let server = Server::start(&root, &[]);
    let mut client = server.login();
    client.fetch("RETR a.txt");
    client.expect("ABOR", "226 ");
    client.expect("ABOR", "225 ");
    // A client that closes the data connection and then sends ABOR, whichever is seen first.
    let data = begin(&mut client, Mode::Epsv, "RETR sparse");
    drop(data);
    expect_reply(&mut client, "426 ");
    client.expect("ABOR", "226 ");
    client.expect("ABOR", "225 ");
    for between in ["NOOP", "XYZZ", "RETR missing", "RETR a.txt", "EPSV", "LIST missing"] {
        client.fetch("RETR a.txt");
        client.command(between);
        client.expect("ABOR", "225 ");
    }
}

#[test]
fn nobody_comes_to_the_passive_port_in_time() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &["--data-timeout", "300ms"]);
    let mut client = server.login();
    let before = server.descriptors();
    for command in ["RETR a.txt", "LIST", "NLST", "MLSD"] {
        for passive in ["PASV", "EPSV"] {
            client.command(passive);
            client.expect(command, "425 ");
            assert_eq!(server.descriptors(), before, "the listener is closed");
        }
    }
    client.expect("RETR a.txt", "425 ");
    assert_eq!(client.fetch("RETR a.txt").len(), 19, "the session is intact");
}

#[test]
fn nobody_answers_at_the_active_port() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &["--data-timeout", "300ms"]);
    let mut client = server.login();
    let before = server.descriptors();
    // Bound and not listening: refused, and nobody else can get the port meanwhile.
    let deaf = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let any: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
    deaf.bind(&any.into()).expect("a port");
    let address = |socket: &Socket| socket.local_addr().ok().and_then(|address| address.as_socket()).expect("bound");
    client.expect(&format!("EPRT |1|127.0.0.1|{}|", address(&deaf).port()), "200 ");
    client.expect("RETR a.txt", "425 ");
    assert_eq!(server.descriptors(), before);
    // A full backlog: Linux drops what comes, and the connection hangs.
    deaf.listen(0).expect("a listener");
    let _filler = TcpStream::connect(address(&deaf)).expect("there is room for one");
    client.expect(&format!("EPRT |1|127.0.0.1|{}|", address(&deaf).port()), "200 ");
    client.expect("LIST", "425 ");
    assert_eq!(server.descriptors(), before);
    assert_eq!(fetch(&mut client, Mode::Port, "a.txt").len(), 19, "the session is intact");
}

#[test]
fn a_stranger_at_the_passive_port_is_dropped_and_the_owner_gets_its_file() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &[]);
    let mut client = server.login();
    for extended in [false, true] {
        let reply = client.command(if extended { "EPSV" } else { "PASV" });
        let numbers: Vec<u16> =
            reply[4..].split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect();
        let port = if extended { numbers[0] } else { numbers[4] * 256 + numbers[5] };
        let passive: SocketAddr = (Ipv4Addr::LOCALHOST, port).into();
        let strangers = [(); 3].map(|()| stranger(2, passive));
        client.send("RETR big.bin");
        strangers.iter().for_each(gets_nothing);
        let owner = TcpStream::connect(passive).expect("it still listens");
        owner.set_read_timeout(Some(PATIENCE)).expect("a socket option");
        expect_reply(&mut client, "150 ");
        assert!(read_all(&owner) == big(), "the bytes differ");
        drop(owner);
        expect_reply(&mut client, "226 ");
    }
}

#[test]
fn a_second_connection_to_a_passive_port_gets_nothing() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &[]);
    let mut client = server.login();
    let before = server.descriptors();
    let first = client.passive(true);
    // It is refused once the session has seen the first, and dropped where it was quicker than that.
    let second = TcpStream::connect(first.peer_addr().expect("connected"));
    client.expect("RETR big.bin", "150 ");
    assert!(read_all(&first) == big(), "the bytes differ");
    drop(first);
    expect_reply(&mut client, "226 ");
    if let Ok(second) = second {
        second.set_read_timeout(Some(PATIENCE)).expect("a socket option");
        assert_eq!(read_until_lost(&second), 0);
    }
    assert_eq!(server.descriptors(), before);
}

/// Connects from another address of this host than the clients'.
fn stranger(number: u8, passive: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    let elsewhere: SocketAddr = (Ipv4Addr::new(127, 0, 0, number), 0).into();
    socket.bind(&elsewhere.into())?;
    socket.connect_timeout(&passive.into(), PATIENCE)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(TcpStream::from(socket))
}

/// A stranger was let in and gets nothing, or was thrown out before it had noticed that it was in.
fn gets_nothing(stranger: &std::io::Result<TcpStream>) {
    match stranger {
        Ok(stream) => assert_eq!(read_until_lost(stream), 0, "a stranger gets nothing"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "the port accepts"),
    }
}

/// Connects to a passive port without saying yet what for, and waits until the session has seen it.
fn connect_early(client: &mut Client) -> TcpStream {
    let passive: SocketAddr = (Ipv4Addr::LOCALHOST, extended_passive_port(client)).into();
    let early = TcpStream::connect(passive).expect("the port accepts");
    early.set_read_timeout(Some(PATIENCE)).expect("a socket option");
    let refused =
        |outcome: std::io::Result<TcpStream>| outcome.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused);
    eventually("nothing to listen any more", || refused(stranger(2, passive)));
    early
}

#[test]
fn forty_strangers_who_stay_at_the_passive_port_do_not_keep_its_owner_out() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &[]);
    let mut client = server.login();
    let before = server.descriptors();
    let passive: SocketAddr = (Ipv4Addr::LOCALHOST, extended_passive_port(&mut client)).into();
    // More than the backlog holds: it has to be emptied while the session is at the prompt.
    let strangers: Vec<_> = (2..42).map(|number| stranger(number, passive)).collect();
    strangers.iter().for_each(gets_nothing);
    assert_eq!(server.descriptors(), before + 1, "only the listener is held");
    let owner = TcpStream::connect_timeout(&passive, PATIENCE).expect("there is room for the owner");
    owner.set_read_timeout(Some(PATIENCE)).expect("a socket option");
    client.expect("RETR big.bin", "150 ");
    assert!(read_all(&owner) == big(), "the bytes differ");
    drop(owner);
    expect_reply(&mut client, "226 ");
    assert_eq!(server.descriptors(), before);
}

#[test]
fn a_data_connection_may_come_long_before_its_transfer() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &["--workers", "1"]);
    let mut client = server.login();
    let before = server.descriptors();
    let early = connect_early(&mut client);
    // What may stand between EPSV and the transfer leaves it alone.
    for (command, start) in [("TYPE I", "200 "), ("SIZE a.txt", "213 "), ("REST 4", "350 "), ("CWD /", "250 ")] {
        client.expect(command, start);
    }
    assert!(client.expect("STAT", "211-").contains("Data port: passive, connected"));
    assert_eq!(server.descriptors(), before + 1, "one connection, and no listener");
    client.expect("RETR a.txt", "150 ");
    assert_eq!(read_all(&early), b"two\r\nthree\rfour");
    drop(early);
    expect_reply(&mut client, "226 ");
    assert_eq!(server.descriptors(), before);
    // One that was closed before is used up, and harms nothing else.
    drop(connect_early(&mut client));
    client.expect("RETR big.bin", "150 ");
    expect_reply(&mut client, "426 ");
    assert_eq!(server.descriptors(), before);
}

#[test]
fn an_early_data_connection_goes_with_its_port_and_with_its_session() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &["--workers", "1"]);
    let before = server.descriptors();
    let own_port = |client: &Client| client.stream.local_addr().expect("connected").port();
    for ending in
        ["ABOR", "REIN", "USER ftp", "PASV", "EPSV", "PORT", "RETR missing", "STOR x", "QUIT", "close", "reset"]
    {
        let mut client = server.login();
        let early = connect_early(&mut client);
        match ending {
            "close" => {}
            "reset" => reset_on_close(&client.stream),
            "PORT" => {
                let port = own_port(&client);
                client.expect(&format!("PORT 127,0,0,1,{},{}", port >> 8, port & 255), "200 ");
            }
            command => {
                client.command(command);
            }
        }
        if matches!(ending, "close" | "reset") {
            drop(client);
            assert_eq!(read_until_lost(&early), 0, "{ending}");
        } else {
            assert_eq!(read_until_lost(&early), 0, "{ending}");
            drop(client);
        }
        is_as_before(&server, before);
    }
}

#[test]
fn passive_ports_cannot_be_guessed_from_the_last_one() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &[]);
    let mut client = server.login();
    let ports: Vec<i32> = (0..40).map(|_| extended_passive_port(&mut client).into()).collect();
    assert!(ports.iter().all(|port| (20_000..30_000).contains(port)), "{ports:?}");
    let steps: BTreeSet<i32> = ports.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(steps.len() > 30, "{ports:?}");
    assert!(steps.iter().any(|&step| step < 0) && steps.iter().any(|&step| step > 0), "{ports:?}");
}

// --- What is sent -------------------------------------------------------------------------------

#[test]
fn a_restart_gives_the_rest_byte_for_byte() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &[]);
    let mut client = server.login();
    let whole = big();
    for offset in [0, 1, 4095, 65_537, whole.len() / 2, whole.len() - 1, whole.len()] {
        client.expect(&format!("REST {offset}"), "350 ");
        assert!(client.fetch("RETR big.bin") == whole[offset..], "from {offset}");
    }
    assert!(client.fetch("RETR big.bin") == whole);
}

#[test]
fn ascii_type_turns_every_line_feed_into_crlf_and_nothing_else() {
    let (_folder, root) = tree();
    let mut mixed = Vec::new();
    let mut state = 7_u64;
    // Line ends of every kind at every distance from the borders of whatever chunks there are.
    while mixed.len() < 400_000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        mixed.push(b"\n\r\nab\x00\xff\n"[usize::try_from(state >> 61).expect("three bits")]);
    }
    fs::write(root.join("mixed"), &mixed).expect("a file");
    fs::write(root.join("line-feeds"), vec![b'\n'; 300_000]).expect("a file");
    fs::write(root.join("plain"), vec![b'x'; 300_000]).expect("a file");
    let server = Server::start(&root, &[]);
    let mut client = server.login();
    for name in ["a.txt", "mixed", "line-feeds", "plain", "big.bin"] {
        let bytes = fs::read(root.join(name)).expect("a file");
        let mut expected = Vec::with_capacity(2 * bytes.len());
        for &byte in &bytes {
            if byte == b'\n' {
                expected.push(b'\r');
            }
            expected.push(byte);
        }
        client.expect("TYPE A", "200 ");
        assert!(client.fetch(&format!("RETR {name}")) == expected, "{name} in ASCII");
        client.expect("TYPE L 8", "200 ");
        assert!(client.fetch(&format!("RETR {name}")) == bytes, "{name} as it is");
    }
}

#[test]
fn a_restart_in_ascii_type_is_refused_and_the_session_goes_on() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &[]);
    let mut client = server.login();
    client.expect("TYPE A", "200 ");
    client.expect("REST 0", "350 ");
    assert_eq!(client.fetch("RETR a.txt"), b"one\r\ntwo\r\r\nthree\rfour");
    client.expect("REST 4", "350 ");
    let _data = client.passive(true);
    client.expect("RETR a.txt", "554 ");
    client.expect("TYPE I", "200 ");
    assert_eq!(client.fetch("RETR a.txt").len(), 19);
}

#[test]
fn a_client_that_closes_its_side_first_gets_all_of_it_and_a_fin() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &["--workers", "1"]);
    let before = server.descriptors();
    let mut client = server.login();
    let whole = big();
    let rest = whole.len() - 60_000;
    let data = passive_with_a_small_window(&mut client);
    data.shutdown(Shutdown::Write).expect("connected");
    client.expect(&format!("REST {rest}"), "350 ");
    client.expect("RETR big.bin", "150 ");
    // The client's side is closed already, which must not be taken for its having read everything.
    assert!(read_all(&data) == whole[rest..], "the bytes differ");
    expect_reply(&mut client, "226 ");
    client.expect("QUIT", "221 ");
    is_as_before(&server, before);
}

#[test]
fn a_slow_reader_with_a_small_window_sees_fin_and_no_reset() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &[]);
    let mut client = server.login();
    let mut data = passive_with_a_small_window(&mut client);
    client.expect("REST 2900000", "350 ");
    client.expect("RETR big.bin", "150 ");
    let mut bytes = Vec::new();
    let mut chunk = [0; 1500];
    loop {
        match data.read(&mut chunk) {
            Ok(0) => break,
            Ok(read) => bytes.extend_from_slice(&chunk[..read]),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Interrupted, "FIN, not RST"),
        }
    }
    assert!(bytes == big()[2_900_000..]);
    drop(data);
    expect_reply(&mut client, "226 ");
}

#[test]
fn many_transfers_in_one_session_leave_nothing_behind() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &["--workers", "1"]);
    let before = server.descriptors();
    let mut client = server.login();
    for round in 0..50 {
        let mode = [Mode::Pasv, Mode::Epsv, Mode::Port, Mode::Eprt][round % 4];
        assert_eq!(fetch(&mut client, mode, "a.txt").len(), 19);
        assert_eq!(server.descriptors(), before + 1, "after transfer {round}");
    }
    drop(client);
    is_as_before(&server, before);
}

#[test]
fn a_folder_of_20_000_files_is_listed_complete() {
    let (_folder, root) = tree();
    let folder = root.join("many");
    fs::create_dir(&folder).expect("a folder");
    let expected: BTreeSet<String> = (0..20_000).map(|number| format!("entry number {number:05}")).collect();
    for name in &expected {
        File::create(folder.join(name)).expect("a file");
    }
    let server = Server::start(&root, &[]);
    let mut client = server.login();
    for (command, skip) in [("NLST", 0), ("LIST", 55), ("MLSD", 0), ("NLST entry*", 0)] {
        client.expect("CWD /many", "250 ");
        let listing = String::from_utf8(client.fetch(command)).expect("UTF-8");
        let names: Vec<&str> = listing
            .split_terminator("\r\n")
            .map(|line| line[skip..].rsplit_once("; ").map_or(&line[skip..], |(_, name)| name))
            .collect();
        assert_eq!(names.len(), expected.len(), "{command}: each name once");
        let names: BTreeSet<String> = names.into_iter().map(str::to_owned).collect();
        assert!(names == expected, "{command}");
    }
    let reply = client.command("STAT /many");
    assert_eq!(reply.split('\n').count(), expected.len() + 2);
}

#[test]
fn a_folder_that_fits_the_buffer_is_listed_by_name() {
    let (_folder, root) = tree();
    let names: Vec<String> = (0..500).map(|number| format!("{}", number * 7_919 % 500)).collect();
    for name in &names {
        File::create(root.join("empty").join(name)).expect("a file");
    }
    let server = Server::start(&root, &[]);
    let mut client = server.login();
    client.expect("CWD empty", "250 ");
    let mut expected = names.clone();
    expected.sort();
    let listing = String::from_utf8(client.fetch("NLST")).expect("UTF-8");
    assert_eq!(listing.split_terminator("\r\n").collect::<Vec<_>>(), expected);
}

// --- During a transfer --------------------------------------------------------------------------

/// The numbers in `213 Status: N of M bytes transferred`.
fn progress(reply: &str) -> (u64, u64) {
    reply
        .strip_prefix("213 Status: ")
        .and_then(|rest| rest.strip_suffix(" bytes transferred"))
        .and_then(|rest| rest.split_once(" of "))
        .and_then(|(moved, of)| Some((moved.parse().ok()?, of.parse().ok()?)))
        .unwrap_or_else(|| panic!("not a status: {reply}"))
}

#[test]
fn noop_and_stat_are_answered_while_nobody_reads_the_data() {
    let (_folder, root) = tree_with_sparse();
    let server = Server::start(&root, &[]);
    let mut client = server.login();
    let mut data = begin(&mut client, Mode::Epsv, "RETR sparse");
    let mut chunk = vec![0; 1 << 20];
    let mut last = 0;
    for round in 1..=4_u64 {
        let reply = client.expect("NOOP", "200 ");
        assert!(reply.contains("NOOP"), "{reply}");
        data.read_exact(&mut chunk).expect("it moves");
        let (moved, of) = progress(&client.command("STAT"));
        assert_eq!(of, SPARSE);
        assert!(moved >= last && moved >= round << 20 && moved < SPARSE, "{moved} after {last}");
        last = moved;
    }
    assert_eq!(read_until_lost(&data), SPARSE - (4 << 20));
    drop(data);
    expect_reply(&mut client, "226 ");
    client.expect("STAT", "211-");
}

#[test]
fn the_status_of_a_restarted_transfer_counts_what_is_left() {
    let (_folder, root) = tree_with_sparse();
    let server = Server::start(&root, &[]);
    let mut client = server.login();
    // What an earlier transfer moved is no part of it.
    let data = begin(&mut client, Mode::Pasv, "RETR sparse");
    assert_eq!(read_until_lost(&data), SPARSE);
    drop(data);
    expect_reply(&mut client, "226 ");
    client.expect(&format!("REST {}", SPARSE / 4), "350 ");
    let data = begin(&mut client, Mode::Pasv, "RETR sparse");
    let (moved, of) = progress(&client.command("STAT"));
    assert_eq!(of, SPARSE / 4 * 3);
    assert!(moved < of, "{moved} of {of}");
    client.expect("ABOR", "426 ");
    expect_reply(&mut client, "226 ");
    drop(data);
    client.expect("TYPE A", "200 ");
    let data = begin(&mut client, Mode::Pasv, "RETR sparse");
    let reply = client.expect("STAT", "213 Status: ");
    assert!(reply.ends_with(" bytes transferred") && !reply.contains(" of "), "{reply}");
    drop(data);
    expect_reply(&mut client, "426 ");
}

#[test]
fn quit_during_a_transfer_is_answered_when_it_has_ended() {
    let (_folder, root) = tree_with_sparse();
    let server = Server::start(&root, &["--workers", "1"]);
    let before = server.descriptors();
    let mut client = server.login();
    let data = begin(&mut client, Mode::Epsv, "RETR sparse");
    client.raw(b"NOOP\r\nQUIT\r\n");
    expect_reply(&mut client, "200 NOOP");
    assert_eq!(read_until_lost(&data), SPARSE);
    drop(data);
    expect_reply(&mut client, "226 ");
    expect_reply(&mut client, "221 ");
    client.expect_end();
    is_as_before(&server, before);
}

#[test]
fn a_client_may_close_its_side_after_quit_and_still_gets_all_of_it() {
    let (_folder, root) = tree_with_sparse();
    let server = Server::start(&root, &["--workers", "1"]);
    let before = server.descriptors();
    let mut client = server.login();
    let data = begin(&mut client, Mode::Epsv, "RETR sparse");
    client.raw(b"NOOP\r\nQUIT\r\n");
    client.stream.shutdown(Shutdown::Write).expect("connected");
    expect_reply(&mut client, "200 NOOP");
    assert_eq!(read_until_lost(&data), SPARSE);
    drop(data);
    expect_reply(&mut client, "226 ");
    expect_reply(&mut client, "221 ");
    client.expect_end();
    is_as_before(&server, before);
}

#[test]
fn other_commands_wait_and_are_answered_in_order_afterwards() {
    let (_folder, root) = tree_with_sparse();
    let server = Server::start(&root, &[]);
    let mut client = server.login();
    let data = begin(&mut client, Mode::Pasv, "RETR sparse");
    client.expect("NOOP", "200 NOOP");
    // ABOR behind another command waits with it, and then finds nothing to abort.
    client.raw(b"PWD\r\nNOOP\r\nSYST\r\nSTAT a.txt\r\nXYZZ\r\nABOR\r\nSIZE a.txt\r\n");
    assert_eq!(read_until_lost(&data), SPARSE);
    drop(data);
    for start in ["226 ", "257 ", "200 NOOP ok", "215 ", "213-", "500 ", "225 ", "213 19"] {
        expect_reply(&mut client, start);
    }
    client.expect("NOOP", "200 ");
}

#[test]
fn rein_during_a_transfer_logs_out_when_it_has_ended() {
    let (_folder, root) = tree_with_sparse();
    let server = Server::start(&root, &["--workers", "1"]);
    let before = server.descriptors();
    for (command, start) in [("REIN", "220 "), ("USER ftp", "331 ")] {
        let mut client = server.login();
        let data = begin(&mut client, Mode::Epsv, "RETR sparse");
        client.raw(format!("NOOP\r\n{command}\r\nPWD\r\n").as_bytes());
        expect_reply(&mut client, "200 NOOP");
        assert_eq!(read_until_lost(&data), SPARSE);
        drop(data);
        for start in ["226 ", start, "530 "] {
            expect_reply(&mut client, start);
        }
        drop(client);
        is_as_before(&server, before);
    }
}

#[test]
fn a_listing_can_be_aborted_and_dropped_too() {
    let (_folder, root) = tree();
    let folder = root.join("many");
    fs::create_dir(&folder).expect("a folder");
    // Long names: the listing is larger than what a small window and the send buffer hold.
    for number in 0..6_000 {
        File::create(folder.join(format!("{number:0>240}"))).expect("a file");
    }
    let server = Server::start(&root, &["--workers", "1"]);
    let before = server.descriptors();
    for ending in ["ABOR", "drop data", "drop control"] {
        let mut client = server.login();
        let data = passive_with_a_small_window(&mut client);
        client.expect("LIST many", "150 ");
        (&data).read_exact(&mut [0; 500]).expect("it moves");
        client.expect("STAT", "213 Status: ");
        match ending {
            "ABOR" => {
                client.send("ABOR");
                expect_reply(&mut client, "426 ");
                expect_reply(&mut client, "226 ");
                client.expect("NOOP", "200 ");
            }
            "drop data" => {
                drop(data);
                expect_reply(&mut client, "426 ");
                client.expect("NOOP", "200 ");
            }
            _ => {}
        }
        drop(client);
        is_as_before(&server, before);
    }
}

// --- Files that change or are none --------------------------------------------------------------

#[test]
fn a_file_that_is_truncated_meanwhile_fails_and_the_session_goes_on() {
    for representation in ["TYPE I", "TYPE A"] {
        let (_folder, root) = tree_with_sparse();
        let server = Server::start(&root, &[]);
        let mut client = server.login();
        let before = server.descriptors();
        client.expect(representation, "200 ");
        let data = begin(&mut client, Mode::Epsv, "RETR sparse");
        (&data).read_exact(&mut [0; 1000]).expect("it moves");
        let file = OpenOptions::new().write(true).open(root.join("sparse")).expect("a file");
        file.set_len(500).expect("it is ours");
        assert!(read_until_lost(&data) < SPARSE, "what is gone can't be sent");
        drop(data);
        let reply = client.reply();
        assert!(reply.starts_with("451 ") || reply.starts_with("426 "), "{reply}");
        assert_eq!(server.descriptors(), before);
        client.expect("TYPE I", "200 ");
        assert_eq!(client.fetch("RETR sparse").len(), 500);
    }
}

#[test]
fn a_file_that_grows_meanwhile_gives_the_bytes_that_were_announced() {
    for representation in ["TYPE I", "TYPE A"] {
        let (_folder, root) = tree_with_sparse();
        let server = Server::start(&root, &[]);
        let mut client = server.login();
        client.expect(representation, "200 ");
        let data = begin(&mut client, Mode::Epsv, "RETR sparse");
        (&data).read_exact(&mut [0; 1000]).expect("it moves");
        let mut file = OpenOptions::new().append(true).open(root.join("sparse")).expect("a file");
        file.write_all(&[b'x'; 100_000]).expect("it grows");
        assert_eq!(1000 + read_until_lost(&data), SPARSE, "{representation}");
        drop(data);
        expect_reply(&mut client, "226 ");
        client.expect("TYPE I", "200 ");
        client.expect("SIZE sparse", &format!("213 {}", SPARSE + 100_000));
    }
}

#[test]
fn a_file_that_is_deleted_or_replaced_meanwhile_is_sent_as_it_was() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &[]);
    let mut client = server.login();
    let port = extended_passive_port(&mut client);
    client.send("RETR big.bin");
    // Answered while the server waits for the data connection: it has opened the file by now.
    client.expect("NOOP", "200 NOOP");
    fs::remove_file(root.join("big.bin")).expect("a file");
    fs::write(root.join("big.bin"), "another").expect("a file");
    let data = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("it listens");
    expect_reply(&mut client, "150 ");
    assert!(read_all(&data) == big());
    drop(data);
    expect_reply(&mut client, "226 ");
    assert_eq!(client.fetch("RETR big.bin"), b"another");
}

#[test]
fn what_is_no_regular_file_is_refused_at_once() {
    let (_folder, root) = tree();
    let fifo = root.join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().expect("mkfifo runs").success());
    let _socket = UnixListener::bind(root.join("socket")).expect("a socket");
    let server = Server::start(&root, &[]);
    refuses(&server, &["fifo", "socket"]);
    // The listing knows them, and does not open them.
    let mut client = server.login();
    client.expect("OPTS MLST type;", "200 ");
    let listing = String::from_utf8(client.fetch("MLSD")).expect("UTF-8");
    for name in ["fifo", "socket"] {
        assert!(listing.contains(&format!("type=OS.unix=special; {name}\r\n")), "{listing}");
        client.expect(&format!("CWD {name}"), "550 ");
    }
    // Devices, without having to be root to make them.
    let devices = Server::start(Path::new("/dev"), &[]);
    refuses(&devices, &["null", "zero", "tty"]);
}

fn refuses(server: &Server, names: &[&str]) {
    let mut client = server.login();
    let before = server.descriptors();
    for name in names {
        let started = Instant::now();
        let _data = client.passive(true);
        client.expect(&format!("RETR {name}"), "550 ");
        client.expect(&format!("SIZE {name}"), "550 ");
        client.expect(&format!("MDTM {name}"), "550 ");
        assert!(started.elapsed() < PATIENCE / 2, "{name}");
        assert_eq!(server.descriptors(), before, "{name} is not held open");
    }
}

#[test]
fn a_client_that_keeps_its_data_connection_open_until_226_gets_it() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &[]);
    let mut client = server.login();
    for name in ["a.txt", "big.bin"] {
        let mut data = client.passive(true);
        client.expect(&format!("RETR {name}"), "150 ");
        let mut bytes = Vec::new();
        data.read_to_end(&mut bytes).expect("the data end in order");
        assert_eq!(bytes, fs::read(root.join(name)).expect("it is there"), "{name}");
        // The data connection is still open here, and the reply must not wait for the stall timeout.
        let asked = Instant::now();
        let reply = client.reply();
        assert!(reply.starts_with("226 "), "{name}: {reply}");
        assert!(asked.elapsed() < Duration::from_secs(10), "{name}: {:?}", asked.elapsed());
        drop(data);
    }
}

/// Sockets of TCP that belong to nobody, on the whole host, at this port.
fn left_behind(port: u16) -> usize {
    let table = fs::read_to_string("/proc/net/tcp").expect("Linux");
    let local = format!(":{port:04X}");
    // 06 is TIME_WAIT, which holds no data; the inode of a socket that nobody has is 0.
    table
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|row| row[1].ends_with(&local) && row[3] != "06" && row[9] == "0")
        .count()
}

#[test]
fn one_who_closes_first_and_reads_nothing_leaves_no_orphan() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &["--stall-timeout", "500ms"]);
    let mut client = server.login();
    let data = passive_with_a_small_window(&mut client);
    let port = data.peer_addr().expect("connected").port();
    data.shutdown(Shutdown::Write).expect("connected");
    client.expect("REST 3025728", "350 ");
    client.expect("RETR big.bin", "150 ");
    expect_reply(&mut client, "426 ");
    eventually("the kernel to have let go", || left_behind(port) == 0);
    client.expect("NOOP", "200 ");
}

#[test]
fn after_quit_a_stalled_transfer_is_still_told_421() {
    let (_folder, root) = tree_with_sparse();
    let server = Server::start(&root, &["--stall-timeout", "1s"]);
    let mut client = server.login();
    let data = passive_with_a_small_window(&mut client);
    client.expect("RETR sparse", "150 ");
    client.send("QUIT");
    expect_reply(&mut client, "421 ");
    client.expect_end();
    drop(data);
}

#[test]
fn a_long_answer_to_stat_is_not_idle() {
    let (_folder, root) = tree();
    for number in 0..20_000 {
        fs::write(root.join(format!("empty/{number:05}")), b"").expect("a file");
    }
    let server = Server::start(&root, &["--idle-timeout", "100ms"]);
    let mut client = server.connect();
    client.log_in();
    let reply = client.expect("STAT empty", "213-");
    assert_eq!(reply.lines().count(), 20_002, "all of it, and no 421 inside");
}
