//! Link-local addresses, which mean something on one link only: fe80::1 may be there on every link, and
//! data connections have to stay on that of the control connection.
//!
//! The test starts its own binary again in a network namespace that it makes, with two links whose ends
//! have the same addresses. Where none can be made it is skipped with a word, unless
//! PLIMSOLL_REQUIRE_NETNS is 1.

use crate::server::{Client, PATIENCE, Server, eventually, tree};
use socket2::{Domain, SockRef, Socket, Type};
use std::io::{ErrorKind, Read};
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, TcpStream};
use std::process::Command;

const INSIDE: &str = "PLIMSOLL_LINK_LOCAL_INSIDE";
const ADDRESS: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

fn ip(line: &str) {
    let status = Command::new("ip").args(line.split(' ')).status();
    assert!(status.expect("ip runs").success(), "ip {line}");
}

/// Two links, each with fe80::1 at one end. Gives their numbers, which are the scopes of that address.
fn two_links() -> (u32, u32) {
    ip("link set lo up");
    for (near, far) in [("a0", "a1"), ("b0", "b1")] {
        ip(&format!("link add {near} type veth peer name {far}"));
        ip(&format!("link set {far} up"));
        ip(&format!("link set {near} up"));
        // Without this nobody can use it for a second, in which the link is asked for others who have it.
        ip(&format!("-6 addr add fe80::1/64 dev {near} nodad"));
    }
    let number = |link: &str| {
        let text = std::fs::read_to_string(format!("/proc/net/dev_snmp6/{link}")).expect("a link with IPv6");
        text.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("ifIndex is its first line")
    };
    (number("a0"), number("b0"))
}

fn at(port: u16, scope: u32) -> SocketAddr {
    SocketAddrV6::new(ADDRESS, port, 0, scope).into()
}

/// The port that EPSV gives.
fn passive_port(client: &mut Client) -> u16 {
    let reply = client.expect("EPSV", "229 ");
    reply.split('|').nth(3).and_then(|port| port.parse().ok()).expect("a port")
}

/// What came over a data connection on the link, and from which address on which link.
fn receive(mut data: TcpStream, client: &mut Client, scope: u32) -> Vec<u8> {
    data.set_read_timeout(Some(PATIENCE)).expect("a socket option");
    let peer = data.peer_addr().expect("connected");
    assert_eq!(peer, at(peer.port(), scope));
    let mut bytes = Vec::new();
    data.read_to_end(&mut bytes).expect("the data end in order");
    drop(data);
    let reply = client.reply();
    assert!(reply.starts_with("226 "), "{reply}");
    bytes
}

fn inside() {
    let (link, other) = two_links();
    let (_folder, root) = tree();
    let server = Server::start_at(&root, "[::]:0", &[]);
    for (link, other) in [(link, other), (other, link)] {
        let mut client = Client::connect(at(server.port(), link));
        client.log_in();

        // EPSV: the port is open on this link alone, though the other has the same address.
        let port = passive_port(&mut client);
        let astray = TcpStream::connect(at(port, other)).expect_err("nobody listens there");
        assert_eq!(astray.kind(), ErrorKind::ConnectionRefused, "{astray}");
        let data = TcpStream::connect(at(port, link)).expect("the port accepts");
        client.expect("RETR sub/b.txt", "150 ");
        assert_eq!(receive(data, &mut client, link), b"b\n");

        // EPRT has no room for a scope: it is that of the control connection. The same port on the other
        // link listens too, and must not be the one that is connected to.
        let listener = TcpListener::bind(at(0, link)).expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let wrong = Socket::new(Domain::IPV6, Type::STREAM, None).expect("a socket");
        wrong.bind(&at(port, other).into()).expect("the port is free there");
        wrong.listen(1).expect("a listener");
        for listener in [SockRef::from(&listener), SockRef::from(&wrong)] {
            listener.set_nonblocking(true).expect("a socket option");
        }
        client.expect(&format!("EPRT |2|fe80::1|{port}|"), "200 ");
        client.send("RETR sub/b.txt");
        let mut data = None;
        eventually("the server to connect", || {
            data = listener.accept().ok().map(|(data, _)| data);
            assert!(wrong.accept().is_err(), "the data connection left its link");
            data.is_some()
        });
        let data = data.expect("just accepted");
        data.set_nonblocking(false).expect("a socket option");
        let reply = client.reply();
        assert!(reply.starts_with("150 "), "{reply}");
        assert_eq!(receive(data, &mut client, link), b"b\n");
        client.expect("QUIT", "221 ");
    }
}

#[test]
fn data_connections_stay_on_the_link_of_a_link_local_client() {
    const NAME: &str = "link_local::data_connections_stay_on_the_link_of_a_link_local_client";
    if std::env::var_os(INSIDE).is_some() {
        return inside();
    }
    let new_namespace = || {
        let mut command = Command::new("unshare");
        command.args(["--net", "--map-root-user"]);
        command
    };
    let probe = new_namespace().args(["ip", "link", "add", "p0", "type", "veth", "peer", "name", "p1"]).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        let required = std::env::var("PLIMSOLL_REQUIRE_NETNS").is_ok_and(|value| value == "1");
        assert!(!required, "network namespaces can't be made");
        eprintln!("{NAME}: skipped: network namespaces can't be made here");
        return;
    }
    let output = new_namespace()
        .arg(std::env::current_exe().expect("this program"))
        .args(["--exact", NAME, "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .expect("unshare runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "inside: {text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("1 passed"), "the test did not run inside: {text}");
}
