//! A client that comes from an address of its choice, waits only as long as it likes, and takes a refusal
//! for an answer.

use socket2::{Domain, Socket, Type};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// One control connection.
pub struct Guest {
    pub stream: TcpStream,
    held: Vec<u8>,
}

/// What came within the time that a guest was willing to wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// One whole reply, its lines joined by `\n`.
    Reply(String),
    /// The end of the connection, in order or not.
    End,
    /// Neither.
    Nothing,
}

/// A connection from this address.
pub fn connect_from(from: IpAddr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(from, 0).into())?;
    socket.connect(&to.into())?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A connection whose end here buffers almost nothing, so that what is not read soon stops the sender.
pub fn connect_narrow(to: SocketAddr) -> TcpStream {
    connect_narrow_from(Ipv4Addr::LOCALHOST.into(), to)
}

/// The same from this address.
pub fn connect_narrow_from(from: IpAddr, to: SocketAddr) -> TcpStream {
    connect_with_buffer(4096, from, to)
}

/// A connection from this address whose end here buffers this many bytes, or as few as the kernel allows.
pub fn connect_with_buffer(bytes: usize, from: IpAddr, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::new(from, 0).into()).expect("an address of this host");
    // Before connecting: the window is agreed on then.
    socket.set_recv_buffer_size(bytes).expect("a socket option");
    socket.connect(&to.into()).expect("the server accepts");
    TcpStream::from(socket)
}

/// The nth address of this host, counted from 127.0.1.1.
pub fn address(number: usize) -> IpAddr {
    let number = u32::try_from(number).expect("a small number");
    IpAddr::V4(Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 0, 1, 1)) + number))
}

impl Guest {
    /// Connects from 127.0.0.1.
    pub fn connect(to: SocketAddr) -> Guest {
        Guest::from(Ipv4Addr::LOCALHOST.into(), to)
    }

    /// Connects from this address.
    pub fn from(from: IpAddr, to: SocketAddr) -> Guest {
        let stream = connect_from(from, to).expect("the server accepts");
        Guest { stream, held: Vec::new() }
    }

    /// Sends bytes as they are; whether they could be sent is not asked.
    pub fn raw(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Sends a command.
    pub fn send(&mut self, command: &str) {
        self.raw(format!("{command}\r\n").as_bytes());
    }

    /// The next reply, if it comes in time.
    pub fn hear(&mut self, time: Duration) -> Heard {
        let until = Instant::now() + time;
        let mut bytes = [0; 4096];
        loop {
            if let Some(reply) = self.take_reply() {
                return Heard::Reply(reply);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Heard::Nothing;
            }
            self.stream.set_read_timeout(Some(left)).expect("a socket option");
            match self.stream.read(&mut bytes) {
                Ok(0) => return Heard::End,
                Ok(count) => self.held.extend_from_slice(&bytes[..count]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Heard::End,
            }
        }
    }

    fn take_reply(&mut self) -> Option<String> {
        let text = String::from_utf8_lossy(&self.held).into_owned();
        let mut lines = Vec::new();
        let mut used = 0;
        for line in text.split_inclusive("\r\n") {
            used += line.len();
            let line = line.strip_suffix("\r\n")?;
            lines.push(line.to_owned());
            let first: &str = &lines[0];
            if line.get(..3) == first.get(..3) && line.as_bytes().get(3) == Some(&b' ') {
                self.held.drain(..used);
                return Some(lines.join("\n"));
            }
        }
        None
    }

    /// Sends a command whose reply must begin so, within the patience of the tests.
    pub fn expect(&mut self, command: &str, start: &str) -> String {
        self.send(command);
        self.expect_reply(start)
    }

    /// The next reply must begin so.
    pub fn expect_reply(&mut self, start: &str) -> String {
        match self.hear(crate::server::PATIENCE) {
            Heard::Reply(reply) if reply.starts_with(start) => reply,
            other => panic!("expected {start}, got {other:?}"),
        }
    }

    /// Is greeted and logs in.
    pub fn log_in(&mut self) {
        self.expect_reply("220");
        self.expect("USER anonymous", "331");
        self.expect("PASS a@b", "230");
        self.expect("TYPE I", "200");
    }

    /// Is told 421 with these words, and then the connection ends.
    pub fn expect_dismissal(&mut self, words: &str) {
        let reply = self.expect_reply("421 ");
        assert!(reply.contains(words), "{reply}");
        assert_eq!(self.hear(crate::server::PATIENCE), Heard::End);
    }
}
