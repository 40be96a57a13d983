//! Data connections to the wrong place, and data connections by the wrong client.

use crate::arena::{Arena, Finally, passive_port};
use crate::guest::{address, connect_from};
use crate::server::big;
use std::collections::HashSet;
use std::io::{ErrorKind, Read};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

/// Bounce: the server is to connect to a third party, or to a service.
#[test]
fn port_and_eprt_name_somebody_else() {
    let arena = Arena::open(&[]);
    let victim = TcpListener::bind((address(0), 0)).expect("a port");
    victim.set_nonblocking(true).expect("a socket option");
    let port = victim.local_addr().expect("bound").port();
    let (high, low) = (port >> 8, port & 255);
    let mut client = arena.login();
    let commands = [
        format!("PORT 127,0,1,1,{high},{low}"),
        format!("EPRT |1|127.0.1.1|{port}|"),
        format!("EPRT |2|::ffff:127.0.1.1|{port}|"),
        format!("EPRT |2|::1|{port}|"),
        format!("EPRT |1|0.0.0.0|{port}|"),
        format!("PORT 0,0,0,0,{high},{low}"),
        "PORT 127,0,0,1,0,25".to_owned(),
        "PORT 127,0,0,1,3,255".to_owned(),
        "PORT 127,0,0,1,0,0".to_owned(),
        "EPRT |1|127.0.0.1|1023|".to_owned(),
        "EPRT |1|127.0.0.1|0|".to_owned(),
        "EPRT |2|::ffff:127.0.0.1|80|".to_owned(),
        "EPRT |1|127.0.0.1|65536|".to_owned(),
        "EPRT |1|localhost|40000|".to_owned(),
    ];
    for command in &commands {
        // A port that was right before does not stay behind one that is wrong.
        let own = client.active(false);
        let reply = client.expect(command, "5");
        assert!(reply.starts_with("501 ") || reply.starts_with("504 ") || reply.starts_with("522 "), "{reply}");
        client.expect("RETR a.txt", "425 Use PASV or PORT");
        own.set_nonblocking(true).expect("a socket option");
        assert_eq!(own.accept().expect_err("nobody connects").kind(), ErrorKind::WouldBlock, "{command}");
    }
    assert_eq!(victim.accept().expect_err("nobody connects").kind(), ErrorKind::WouldBlock);
    // One's own address stays good, in the mapped form too.
    let own = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = own.local_addr().expect("bound").port();
    client.expect(&format!("EPRT |2|::ffff:127.0.0.1|{port}|"), "200 ");
    client.send("RETR big.bin");
    let (mut data, from) = own.accept().expect("the server connects");
    assert_eq!(from.ip(), IpAddr::from([127, 0, 0, 1]));
    let mut bytes = Vec::new();
    data.read_to_end(&mut bytes).expect("data");
    drop(data);
    assert!(bytes == big());
    drop(client);
    arena.baseline();
}

/// Theft: somebody else is first at the passive port, again and again.
#[test]
fn strangers_come_to_the_passive_port_first() {
    let arena = Arena::open(&[]);
    let mut client = arena.login();
    let port = passive_port(&mut client);
    let mut first: Vec<TcpStream> = (0..4).map(|n| connect_from(address(n), port).expect("the port accepts")).collect();
    client.send("RETR big.bin");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _finally = Finally(&stop);
        scope.spawn(|| {
            while !stop.load(SeqCst) {
                // Refused once the owner is there.
                let Ok(mut thief) = connect_from(address(7), port) else { continue };
                assert_nothing_to_steal(&mut thief);
            }
        });
        for thief in &mut first {
            assert_nothing_to_steal(thief);
        }
        let mut data = owner(port);
        let reply = client.reply();
        assert!(reply.starts_with("150 "), "{reply}");
        let mut bytes = Vec::new();
        data.read_to_end(&mut bytes).expect("data");
        drop(data);
        assert!(bytes == big(), "{} bytes", bytes.len());
    });
    let reply = client.reply();
    assert!(reply.starts_with("226 "), "{reply}");
    drop(client);
    arena.baseline();
}

fn assert_nothing_to_steal(thief: &mut TcpStream) {
    thief.set_read_timeout(Some(crate::server::PATIENCE)).expect("a socket option");
    let read = thief.read(&mut [0; 100]);
    assert!(matches!(read, Ok(0)) || read.is_err_and(|e| e.kind() == ErrorKind::ConnectionReset));
}

/// The owner tries until there is room at the port.
fn owner(port: SocketAddr) -> TcpStream {
    let data = TcpStream::connect_timeout(&port, crate::server::PATIENCE).expect("the owner still fits");
    data.set_read_timeout(Some(crate::server::PATIENCE)).expect("a socket option");
    data
}

#[test]
fn a_thief_tries_to_guess_the_next_passive_port() {
    let arena = Arena::open(&["--workers", "128"]);
    let mut client = arena.login();
    let ports: Vec<u16> = (0..64).map(|_| passive_port(&mut client).port()).collect();
    let distinct: HashSet<u16> = ports.iter().copied().collect();
    let steps: HashSet<i32> = ports.windows(2).map(|w| i32::from(w[1]) - i32::from(w[0])).collect();
    assert!(ports.iter().all(|port| arena.ports().data.contains(port)), "{ports:?}");
    // 64 draws from 144 ports repeat some; an order would repeat its steps.
    assert!(distinct.len() > 32 && steps.len() > 32, "{ports:?}");
    drop(client);
    arena.baseline();
}
