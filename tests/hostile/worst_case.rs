//! The load line is true: a server whose cgroup allows it no more than its own worst case lives through the
//! worst that clients can do to its memory, and the worst case is no multiple of what that costs.

use crate::arena::port_of;
use crate::cgroup::Cgroup;
use crate::guest::{Guest, address, connect_narrow_from};
use crate::kernel;
use crate::server::{PATIENCE, Server, eventually, tree};
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Instant;

/// The pool under test.
const WORKERS: usize = 64;
const QUEUE: usize = 16;

/// Bytes between the places at which two clients read: no page is sent to both.
const APART: u64 = 16 << 20;

/// Percent of the load line below which it would be no good to whoever sizes a host by it.
const LEAST: u64 = 50;

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
    std::fs::write(root.join("lines"), vec![b'\n'; 100_000]).expect("a file");
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
    kernel::raise_descriptors();
    let (_folder, root) = tree();
    furnish(&root);
    let line = stated(&Server::run(command(&root)));
    let cgroup = match Cgroup::with_limit(line) {
        Ok(cgroup) => cgroup,
        Err(why) => return crate::skip(crate::REQUIRE_TOOLS, &format!("a memory cgroup can't be made: {why}")),
    };
    let server = Server::run(cgroup.enclose(&command(&root)));
    assert_eq!(stated(&server), line);
    let at_rest = cgroup.held();

    // Every worker in a transfer that nobody takes, each of another part of the file; before that it has
    // touched all that is its own, and after it its client asks and asks, and reads no answer.
    let mut transfers = Vec::new();
    for number in 0..WORKERS {
        let mut guest = Guest::from(address(number), server.v4());
        guest.log_in();
        wade(&mut guest, number, &server);
        guest.expect(&format!("REST {}", APART * number as u64), "350");
        let data = data_connection(&mut guest, number, &server);
        guest.expect("RETR huge", "150");
        transfers.push((guest, data));
    }
    let queued: Vec<Guest> = (0..QUEUE).map(|number| Guest::from(address(WORKERS + number), server.v4())).collect();
    for (guest, _) in &transfers {
        stuff(&guest.stream, &b"STAT\r\n".repeat(500));
    }
    for guest in &queued {
        stuff(&guest.stream, &b"USER anonymous\r\n".repeat(500));
    }
    let mut peak = 0;
    let end = Instant::now() + PATIENCE;
    eventually("the memory to be steady", || {
        let held = cgroup.held();
        let steady = held <= peak + (64 << 10);
        peak = peak.max(held);
        steady || Instant::now() >= end
    });

    let share = peak * 100 / line;
    println!(
        "worst case: {} KiB held of {} KiB stated, {share} %; {} KiB at rest",
        peak >> 10,
        line >> 10,
        at_rest >> 10
    );
    assert_eq!(cgroup.killed(), 0);
    assert!(peak <= line, "{peak} is above {line}");
    assert!(share >= LEAST, "{share} %");
    drop((transfers, queued));
    eventually("a newcomer to be served", || {
        let mut guest = Guest::from(address(0), server.v4());
        guest.log_in();
        let listed = guest.expect("STAT", "211");
        listed.contains("ftp") || !listed.is_empty()
    });
    assert_eq!(cgroup.killed(), 0);
}
