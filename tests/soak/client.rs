//! A client that knows lines and replies, and comes from an address of its own on loopback.

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// Longest wait for anything that has to happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// Why a client did not get what it came for.
#[derive(Debug)]
pub enum Trouble {
    /// The server said that it is full, or that the session has to make room: 421, or 530.
    TurnedAway,
    /// The connection ended without a word.
    CutOff,
    /// The server did what it must not do.
    Wrong(String),
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            ErrorKind::ConnectionReset
            | ErrorKind::BrokenPipe
            | ErrorKind::ConnectionAborted
            | ErrorKind::NotConnected
            | ErrorKind::UnexpectedEof => Trouble::CutOff,
            _ => Trouble::Wrong(error.to_string()),
        }
    }
}

/// A control connection.
pub struct Client {
    /// The socket.
    pub control: TcpStream,
    from: Ipv4Addr,
    input: Vec<u8>,
    line: Vec<u8>,
}

impl Client {
    /// Connects from this address to the server's port, without reading anything.
    pub fn connect(from: Ipv4Addr, port: u16) -> Result<Client, Trouble> {
        let control = open(from, port, None)?;
        control.set_nodelay(true)?;
        Ok(Client { control, from, input: Vec::with_capacity(512), line: Vec::with_capacity(128) })
    }

    /// Reads the greeting and logs in.
    pub fn log_in(&mut self) -> Result<(), Trouble> {
        self.answer(220)?;
        self.expect("USER anonymous", 331)?;
        self.expect("PASS guest@example.net", 230)
    }

    /// Sends one command.
    pub fn send(&mut self, command: &str) -> Result<(), Trouble> {
        Ok(self.control.write_all(format!("{command}\r\n").as_bytes())?)
    }

    /// Sends one command, which must be answered with this code.
    pub fn expect(&mut self, command: &str, code: u16) -> Result<(), Trouble> {
        self.send(command)?;
        self.answer(code).map_err(|trouble| match trouble {
            Trouble::Wrong(what) => Trouble::Wrong(format!("{command}: {what}")),
            other => other,
        })
    }

    /// Reads one reply, which must have this code.
    pub fn answer(&mut self, code: u16) -> Result<(), Trouble> {
        match self.reply()? {
            seen if seen == code => Ok(()),
            421 | 530 => Err(Trouble::TurnedAway),
            _ => Err(Trouble::Wrong(format!("expected {code}, got {}", self.text()))),
        }
    }

    /// The connection must end now.
    pub fn end(&mut self) -> Result<(), Trouble> {
        match self.reply() {
            Err(Trouble::CutOff) => Ok(()),
            Ok(_) => Err(Trouble::Wrong(format!("expected the end, got {}", self.text()))),
            Err(other) => Err(other),
        }
    }

    /// Opens a passive data connection; `buffer` bounds what the kernel receives before it is read.
    pub fn passive(&mut self, extended: bool, buffer: Option<usize>) -> Result<TcpStream, Trouble> {
        let port = self.passive_port(extended)?;
        Ok(open(self.from, port, buffer)?)
    }

    /// Asks for a passive port.
    pub fn passive_port(&mut self, extended: bool) -> Result<u16, Trouble> {
        if extended {
            self.expect("EPSV", 229)?;
        } else {
            self.expect("PASV", 227)?;
        }
        let text = self.text();
        let port = if extended {
            text.split('|').nth(3).and_then(|port| port.parse().ok())
        } else {
            let numbers = text.split(['(', ')']).nth(1).unwrap_or_default();
            let mut bytes = numbers.split(',').skip(4).map_while(|n| n.parse::<u8>().ok());
            bytes.next().zip(bytes.next()).map(|(high, low)| u16::from_be_bytes([high, low]))
        };
        port.ok_or_else(|| Trouble::Wrong(format!("no port in {text}")))
    }

    /// Offers an active data port.
    pub fn active(&mut self, extended: bool) -> Result<TcpListener, Trouble> {
        let listener = TcpListener::bind((self.from, 0))?;
        let port = listener.local_addr()?.port();
        let [a, b, c, d] = self.from.octets();
        let [high, low] = port.to_be_bytes();
        if extended {
            self.expect(&format!("EPRT |1|{a}.{b}.{c}.{d}|{port}|"), 200)?;
        } else {
            self.expect(&format!("PORT {a},{b},{c},{d},{high},{low}"), 200)?;
        }
        Ok(listener)
    }

    /// Runs a transfer and returns what came.
    pub fn fetch(&mut self, command: &str, extended: bool) -> Result<Vec<u8>, Trouble> {
        let data = self.passive(extended, None)?;
        self.expect(command, 150)?;
        self.receive(data)
    }

    /// Reads a data connection to its end, and the final reply.
    pub fn receive(&mut self, mut data: TcpStream) -> Result<Vec<u8>, Trouble> {
        let mut bytes = Vec::new();
        let read = data.read_to_end(&mut bytes);
        drop(data);
        // The reply first: it says why, where the data were cut.
        self.answer(226)?;
        read?;
        Ok(bytes)
    }

    /// Closes the control connection with a reset.
    pub fn reset(self) {
        reset(self.control);
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.line).into_owned()
    }

    /// Reads one reply; of several lines the last is kept.
    fn reply(&mut self) -> Result<u16, Trouble> {
        loop {
            self.read_line()?;
            if let [a, b, c, b' ', ..] = self.line.as_slice()
                && [a, b, c].iter().all(|digit| digit.is_ascii_digit())
            {
                return Ok([a, b, c].iter().fold(0, |code, digit| code * 10 + u16::from(**digit - b'0')));
            }
        }
    }

    fn read_line(&mut self) -> Result<(), Trouble> {
        loop {
            if let Some(end) = self.input.iter().position(|byte| *byte == b'\n') {
                self.line.clear();
                self.line.extend(self.input.drain(..=end));
                self.line.truncate(end.saturating_sub(1));
                return Ok(());
            }
            let mut chunk = [0; 2048];
            match self.control.read(&mut chunk)? {
                0 => return Err(Trouble::CutOff),
                count => self.input.extend_from_slice(chunk.get(..count).unwrap_or_default()),
            }
        }
    }
}

/// Closes a connection with a reset, at once.
pub fn reset(stream: TcpStream) {
    let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
}

fn open(from: Ipv4Addr, port: u16, buffer: Option<usize>) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    // On Linux this bounds the connect as well.
    socket.set_write_timeout(Some(PATIENCE))?;
    if let Some(bytes) = buffer {
        socket.set_recv_buffer_size(bytes)?;
    }
    socket.bind(&SocketAddr::from((from, 0)).into())?;
    socket.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
    Ok(socket.into())
}
