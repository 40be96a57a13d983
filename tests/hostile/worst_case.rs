//! The load line is true: a server whose cgroup allows it no more than its own worst case lives through the
//! worst that clients can do to its memory, and the worst case is no multiple of what that costs.

use crate::arena::port_of;
use crate::cgroup::Cgroup;
use crate::guest::{Guest, address, connect_from, connect_narrow_from};
use crate::kernel;
use crate::server::{PATIENCE, Server, eventually, tree};
use socket2::{Domain, Socket, Type};
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

/// The pool under test.
const WORKERS: usize = 64;
const QUEUE: usize = 16;

/// Bytes between the places at which two clients read: no page is sent to both.
const APART: u64 = 16 << 20;

/// Bytes of a file that is all line ends.
const LINES: u64 = 100_000;

/// Percent of the load line below which it would be no good to whoever sizes a host by it.
const LEAST: u64 = 50;

/// When nothing has been added for this long, what is held is taken for all that will be.
const STEADY: Duration = Duration::from_millis(300);

/// The server's flags: nobody is sent away while the worst is measured.
fn command(root: &Path) -> std::process::Command {
    let mut command = Server::command();
    command.arg("serve").arg(root).args(["--listen", "127.0.0.1:0", "--log", "info", "--max-per-ip", "off"]);
    command.args(["--workers", &WORKERS.to_string(), "--queue", &QUEUE.to_string()]);
    command.args(["--wide-transfers", "0", "--shed-after", "1h", "--stall-timeout", "1h", "--queue-timeout", "1h"]);
    command.args(["--max-unauthenticated", "off"]);
    command
}

/// Bytes of the load line that a server states.
fn stated(server: &Server) -> u64 {
    let line = server.ready().last().expect("the load line");
    let (_, rest) = line.split_once("worst case ").expect("a worst case");
    let mib: u64 = rest.split(' ').next().and_then(|number| number.parse().ok()).expect("a number");
    mib << 20
}

/// A tree in which there is something to fill every buffer with.
fn furnish(root: &Path) {
    let deep = format!("{}/", "d".repeat(250)).repeat(14);
    std::fs::create_dir_all(root.join(deep)).expect("folders");
    let folder = root.join("many");
    std::fs::create_dir(&folder).expect("a folder");
    for number in 0..300 {
        File::create(folder.join(format!("{number:03}{}", "n".repeat(200)))).expect("a file");
    }
    std::fs::write(root.join("lines"), vec![b'\n'; usize::try_from(LINES).expect("it fits")]).expect("a file");
    File::create(root.join("huge")).and_then(|file| file.set_len(APART * (WORKERS as u64 + 1))).expect("a sparse file");
}

/// Has its worker touch all that it has.
fn wade(guest: &mut Guest, from: usize, server: &Server) {
    let deep = format!("/{}", "d".repeat(250)).repeat(14);
    guest.expect(&format!("CWD {deep}"), "250");
    guest.expect(&format!("MLST {deep}"), "250");
    guest.expect("CWD /", "250");
    guest.expect("TYPE A", "200");
    for command in ["LIST many", "NLST many/*", "MLSD many", "RETR lines"] {
        let mut data = data_connection(guest, from, server);
        guest.expect(command, "150");
        std::io::copy(&mut data, &mut std::io::sink()).expect("it is sent whole");
        drop(data);
        guest.expect_reply("226");
    }
    guest.send(&"x".repeat(5000));
    guest.expect_reply("500");
    guest.expect("TYPE I", "200");
}

fn data_connection(guest: &mut Guest, from: usize, server: &Server) -> TcpStream {
    let port = port_of(&guest.expect("EPSV", "229"));
    connect_narrow_from(address(from), SocketAddr::new(server.v4().ip(), port))
}

/// Begins to fetch the huge file over a connection that the server opens.
fn called(guest: &mut Guest, from: usize) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a socket option");
    socket.bind(&SocketAddr::new(address(from), 0).into()).expect("an address of this host");
    socket.listen(1).expect("a listener");
    let port = socket.local_addr().ok().and_then(|own| own.as_socket()).expect("an address").port();
    guest.expect(&format!("EPRT |1|{}|{port}|", address(from)), "200");
    guest.expect("RETR huge", "150");
    socket.accept().expect("the server connects").0.into()
}

/// Writes until the kernel takes no more at either end.
fn stuff(stream: &TcpStream, bytes: &[u8]) {
    stream.set_nonblocking(true).expect("a socket option");
    let mut stream = stream;
    let mut refused = 0;
    while refused < 20 {
        match stream.write(bytes) {
            Ok(_) => refused = 0,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                refused += 1;
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
            Err(error) => panic!("the server hung up: {error}"),
        }
    }
}

#[test]
fn everybody_does_the_worst_at_once_and_the_load_line_holds() {
    // With room to spare, so that it is not the limit that keeps it below the line.
    let Some((held, stated)) = everybody_does_the_worst(4) else { return };
    let share = held * 100 / stated;
    println!("worst case: {} KiB held of {} KiB stated, {share} %", held >> 10, stated >> 10);
    assert!(held <= stated, "{held} is above {stated}");
    assert!(share >= LEAST, "{share} %");
}

#[test]
fn everybody_does_the_worst_where_there_is_just_the_load_line() {
    everybody_does_the_worst(1);
}

/// The worst in a cgroup that allows so many times the load line, from which a newcomer is served in the
/// end. Returns the most that was held, and the line; `None` where there are no memory cgroups.
fn everybody_does_the_worst(times: u64) -> Option<(u64, u64)> {
    kernel::raise_descriptors();
    let (_folder, root) = tree();
    furnish(&root);
    let line = stated(&Server::run(command(&root)));
    let cgroup = Cgroup::with_limit(line * times);
    let cgroup = match cgroup {
        Ok(cgroup) => cgroup,
        Err(why) => {
            crate::skip(crate::REQUIRE_TOOLS, &format!("a memory cgroup can't be made: {why}"));
            return None;
        }
    };
    let server = Server::run(cgroup.enclose(&command(&root)));
    assert_eq!(stated(&server), line);

    // Every worker in a transfer that nobody takes, each of another part of the file; before that it has
    // touched all that is its own, and after it its client asks and asks, and reads no answer.
    let mut transfers = Vec::new();
    for number in 0..WORKERS {
        let mut guest = Guest::from(address(number), server.v4());
        guest.log_in();
        wade(&mut guest, number, &server);
        guest.expect(&format!("REST {}", APART * number as u64), "350");
        let data = if number % 2 == 0 {
            let data = data_connection(&mut guest, number, &server);
            guest.expect("RETR huge", "150");
            data
        } else {
            called(&mut guest, number)
        };
        transfers.push((guest, data));
    }
    let queued: Vec<Guest> = (0..QUEUE).map(|number| Guest::from(address(WORKERS + number), server.v4())).collect();
    // Nobody is to send over these connections, and everybody does: first bytes one by one, each of which
    // costs the kernel far more than itself.
    for (guest, data) in &transfers {
        stuff(&guest.stream, &b"STAT\r\n".repeat(500));
        data.set_nodelay(true).expect("a socket option");
        for _ in 0..500 {
            let _ = (&mut &*data).write(b"x");
        }
        stuff(data, &[b'x'; 4096]);
    }
    for guest in &queued {
        stuff(&guest.stream, &b"USER anonymous\r\n".repeat(500));
    }
    // On a busy host the kernel and the server come to it late.
    let (mut peak, mut grown) = (0, Instant::now());
    let end = Instant::now() + PATIENCE / 2;
    eventually("the memory to be steady", || {
        let held = cgroup.held();
        if held > peak + (64 << 10) {
            grown = Instant::now();
        }
        peak = peak.max(held);
        let steady = grown.elapsed() >= STEADY && peak * 100 >= line * LEAST;
        steady || Instant::now() >= end
    });

    assert_eq!(cgroup.killed(), 0);
    drop((transfers, queued));
    eventually("a newcomer to be served", || {
        let mut guest = Guest::from(address(0), server.v4());
        guest.log_in();
        let port = port_of(&guest.expect("EPSV", "229"));
        let mut data = connect_from(address(0), SocketAddr::new(server.v4().ip(), port)).expect("it listens");
        guest.expect("RETR lines", "150");
        std::io::copy(&mut data, &mut std::io::sink()).is_ok_and(|bytes| bytes == LINES)
    });
    assert_eq!(cgroup.killed(), 0);
    Some((peak, line))
}
