//! What clients do: the kinds, how often each comes, and the run of each.

use crate::client::{Client, Trouble, reset};
use crate::dice::Dice;
use crate::site;
use crate::uploads;
use crate::zoo::{Beast, Habit};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};

/// Kinds of clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// EPSV, RETR, QUIT.
    Fetch,
    /// The same with PASV.
    FetchPasv,
    /// The same with PORT or EPRT.
    FetchActive,
    /// Several files in one session, one of them in ASCII.
    FetchSeveral,
    /// LIST, NLST or MLSD.
    Browse,
    /// Stores a file, fetches it, renames and deletes it.
    Store,
    /// Connects and resets.
    ResetAtOnce,
    /// Opens many connections at once, and leaves.
    Burst,
    /// Logs in and resets.
    ResetAfterLogin,
    /// Resets both connections in a transfer.
    ResetInTransfer,
    /// Closes both connections in a transfer.
    VanishInTransfer,
    /// Closes its side of the control connection in a transfer.
    HalfCloseInTransfer,
    /// Breaks off an upload over a file that is there.
    BreakUpload,
    /// ABOR in a transfer, and goes on.
    Abort,
    /// QUIT in a transfer.
    QuitInTransfer,
    /// Lines that are too long, and one that never ends.
    LongLines,
    /// RETR, and never reads.
    Stall,
    /// RETR, and reads a little now and then.
    Drip,
    /// Commands without end, and never reads.
    Flood,
    /// Many PASV, never a connection.
    HoardPasv,
    /// NOOP and nothing else.
    CampNoop,
    /// Says nothing before login.
    SilentStranger,
    /// Says nothing after login.
    SilentUser,
}

/// Every kind and how many of a hundred clients are of it: fifty are well-behaved.
pub const KINDS: [(Kind, usize); 23] = [
    (Kind::Fetch, 23),
    (Kind::FetchPasv, 10),
    (Kind::FetchActive, 2),
    (Kind::FetchSeveral, 4),
    (Kind::Browse, 7),
    (Kind::Store, 4),
    (Kind::ResetAtOnce, 1),
    (Kind::Burst, 1),
    (Kind::ResetAfterLogin, 3),
    (Kind::ResetInTransfer, 5),
    (Kind::VanishInTransfer, 5),
    (Kind::HalfCloseInTransfer, 4),
    (Kind::BreakUpload, 4),
    (Kind::Abort, 3),
    (Kind::QuitInTransfer, 4),
    (Kind::LongLines, 3),
    (Kind::Stall, 3),
    (Kind::Drip, 2),
    (Kind::Flood, 2),
    (Kind::HoardPasv, 3),
    (Kind::CampNoop, 2),
    (Kind::SilentStranger, 2),
    (Kind::SilentUser, 3),
];

/// A file that no buffer on the way holds.
const BIG: &str = "RETR /pub/big.bin";

/// Receive buffer of a client that means to read nothing, in bytes.
const LITTLE: usize = 8 * 1024;

/// Receive buffer of one that reads a little, or resets in a transfer: it need not move megabytes for that.
const SOME: usize = 64 * 1024;

/// Connections of a burst: a few at a time fill the queue for a moment.
const BURST: usize = 24;

impl Kind {
    /// The kind of a client.
    pub fn roll(dice: &mut Dice) -> Kind {
        let total = KINDS.iter().map(|(_, weight)| weight).sum();
        let mut throw = dice.below(total);
        for (kind, weight) in KINDS {
            if throw < weight {
                return kind;
            }
            throw -= weight;
        }
        Kind::Fetch
    }

    /// A hostile kind that does not stay.
    pub fn roll_quick(dice: &mut Dice) -> Kind {
        loop {
            let kind = Kind::roll(dice);
            if kind.hostile() && !kind.lingers() {
                return kind;
            }
        }
    }

    /// Its place among [`KINDS`].
    pub fn number(self) -> usize {
        KINDS.iter().position(|(kind, _)| *kind == self).unwrap_or(0)
    }

    /// Whether it came for something else than files.
    pub fn hostile(self) -> bool {
        !matches!(
            self,
            Kind::Fetch | Kind::FetchPasv | Kind::FetchActive | Kind::FetchSeveral | Kind::Browse | Kind::Store
        )
    }

    /// Whether it stays until it is made to go.
    pub fn lingers(self) -> bool {
        matches!(
            self,
            Kind::Stall
                | Kind::Drip
                | Kind::Flood
                | Kind::HoardPasv
                | Kind::CampNoop
                | Kind::SilentStranger
                | Kind::SilentUser
        )
    }

    /// Where it comes from: a well-behaved client has an address of its own, the hostile share a few, as
    /// those do who hold hundreds of connections.
    pub fn address(self, dice: &mut Dice) -> Ipv4Addr {
        match (self.hostile(), self.lingers()) {
            (false, _) => Ipv4Addr::new(127, 1, dice.byte(), dice.byte()),
            (true, false) => Ipv4Addr::new(127, 2, dice.byte(), dice.byte()),
            (true, true) => Ipv4Addr::new(127, 3, 0, dice.byte() % 10),
        }
    }
}

/// One client's visit: what it needs to know.
pub struct Visit<'a> {
    /// The server's port.
    pub port: u16,
    /// Whose turn it is: no two visits at the same time have the same.
    pub driver: usize,
    /// Where the client comes from.
    pub from: Ipv4Addr,
    /// Its luck.
    pub dice: &'a mut Dice,
    /// To be called when 230 was read.
    pub logged_in: &'a mut dyn FnMut(),
}

impl Visit<'_> {
    /// Does what clients of this kind do. One that lingers is handed back as it is.
    pub fn run(&mut self, kind: Kind) -> Result<Option<Beast>, Trouble> {
        match kind {
            Kind::Fetch => self.fetch(true)?,
            Kind::FetchPasv => self.fetch(false)?,
            Kind::FetchActive => self.fetch_active()?,
            Kind::FetchSeveral => self.fetch_several()?,
            Kind::Browse => self.browse()?,
            Kind::Store => {
                let mut client = self.log_in_to_write()?;
                uploads::store(&mut client, self.driver, true)?;
                quit(client)?;
            }
            Kind::BreakUpload => uploads::break_off(self.log_in_to_write()?, self.dice)?,
            Kind::ResetAtOnce => Client::connect(self.from, self.port)?.reset(),
            Kind::Burst => self.burst()?,
            Kind::ResetAfterLogin => self.log_in()?.reset(),
            Kind::ResetInTransfer => {
                let (client, data) = self.mid_transfer()?;
                if self.dice.coin() {
                    client.reset();
                    reset(data);
                } else {
                    reset(data);
                    client.reset();
                }
            }
            Kind::VanishInTransfer => drop(self.mid_transfer()?),
            Kind::HalfCloseInTransfer => {
                let (client, mut data) = self.mid_transfer()?;
                let _ = client.control.shutdown(Shutdown::Write);
                let _ = std::io::copy(&mut data, &mut std::io::sink());
            }
            Kind::Abort => self.abort()?,
            Kind::QuitInTransfer => self.quit_in_transfer()?,
            Kind::LongLines => self.long_lines()?,
            Kind::Stall => return self.hold(Habit::Silent, LITTLE).map(Some),
            Kind::Drip => return self.hold(Habit::Drip, SOME).map(Some),
            Kind::Flood => {
                let client = self.log_in()?;
                return Ok(Some(Beast::new(client, None, Habit::Flood, self.dice)));
            }
            Kind::HoardPasv => return self.hoard().map(Some),
            Kind::CampNoop => {
                let client = self.log_in()?;
                return Ok(Some(Beast::new(client, None, Habit::Noop, self.dice)));
            }
            Kind::SilentStranger => {
                let mut client = Client::connect(self.from, self.port)?;
                client.answer(220)?;
                if self.dice.coin() {
                    client.control.write_all(b"USER anon")?;
                }
                return Ok(Some(Beast::new(client, None, Habit::Silent, self.dice)));
            }
            Kind::SilentUser => {
                let client = self.log_in()?;
                return Ok(Some(Beast::new(client, None, Habit::Silent, self.dice)));
            }
        }
        Ok(None)
    }

    fn log_in(&mut self) -> Result<Client, Trouble> {
        let mut client = Client::connect(self.from, self.port)?;
        client.log_in()?;
        (self.logged_in)();
        Ok(client)
    }

    fn log_in_to_write(&mut self) -> Result<Client, Trouble> {
        let mut client = Client::connect(self.from, self.port)?;
        client.answer(220)?;
        uploads::log_in(&mut client)?;
        (self.logged_in)();
        Ok(client)
    }

    fn small(&mut self, client: &mut Client, extended: bool) -> Result<(), Trouble> {
        let number = self.dice.below(site::SMALL);
        let bytes = client.fetch(&format!("RETR /pub/small/{number}.bin"), extended)?;
        check(bytes == site::small(number), "a file came other than it is")
    }

    fn fetch(&mut self, extended: bool) -> Result<(), Trouble> {
        let mut client = self.log_in()?;
        client.expect("TYPE I", 200)?;
        self.small(&mut client, extended)?;
        quit(client)
    }

    fn fetch_active(&mut self) -> Result<(), Trouble> {
        let mut client = self.log_in()?;
        client.expect("TYPE I", 200)?;
        let listener = client.active(self.dice.coin())?;
        let number = self.dice.below(site::SMALL);
        client.expect(&format!("RETR /pub/small/{number}.bin"), 150)?;
        let (data, _) = listener.accept()?;
        let bytes = client.receive(data)?;
        check(bytes == site::small(number), "a file came other than it is")?;
        quit(client)
    }

    fn fetch_several(&mut self) -> Result<(), Trouble> {
        let mut client = self.log_in()?;
        client.expect("CWD pub", 250)?;
        let text = client.fetch("RETR text.txt", true)?;
        check(text.len() == site::text_length(), "a text came other than it is")?;
        client.expect("TYPE I", 200)?;
        for _ in 0..3 {
            self.small(&mut client, true)?;
        }
        client.expect("RETR /pub/nothing", 550)?;
        quit(client)
    }

    fn browse(&mut self) -> Result<(), Trouble> {
        let mut client = self.log_in()?;
        let command = ["LIST", "NLST", "MLSD"][self.dice.below(3)];
        let (folder, entries) = match self.dice.below(40) {
            0 => ("/pub/hall", site::HALL),
            1 | 2 => ("/pub/crowd", site::CROWD),
            3..20 => ("/pub/many", 100),
            _ => ("/pub/small", site::SMALL),
        };
        let listing = client.fetch(&format!("{command} {folder}"), true)?;
        let lines = listing.iter().filter(|byte| **byte == b'\n').count();
        // MLSD tells of the folder itself and of the one above it as well.
        check(lines >= entries && lines <= entries + 2, "a listing is not whole")?;
        quit(client)
    }

    /// All of these count at once; it stays until the last of them has been spoken to.
    fn burst(&mut self) -> Result<(), Trouble> {
        let connect = |_| Client::connect(self.from, self.port);
        let mut all = (0..BURST).map(connect).collect::<Result<Vec<_>, _>>()?;
        all.last_mut().map_or(Ok(()), |last| last.answer(220))
    }

    /// In the middle of a transfer that this client can't have received whole.
    fn mid_transfer(&mut self) -> Result<(Client, TcpStream), Trouble> {
        let mut client = self.log_in()?;
        client.expect("TYPE I", 200)?;
        let mut data = client.passive(self.dice.coin(), Some(SOME))?;
        client.expect(BIG, 150)?;
        data.read_exact(&mut [0; 4096])?;
        Ok((client, data))
    }

    fn abort(&mut self) -> Result<(), Trouble> {
        let (mut client, mut data) = self.mid_transfer()?;
        client.send("ABOR")?;
        let _ = std::io::copy(&mut data, &mut std::io::sink());
        client.answer(426)?;
        client.answer(226)?;
        client.expect("NOOP", 200)?;
        quit(client)
    }

    fn quit_in_transfer(&mut self) -> Result<(), Trouble> {
        let mut client = self.log_in()?;
        client.expect("TYPE I", 200)?;
        let data = client.passive(true, None)?;
        let number = self.dice.below(site::SMALL);
        client.expect(&format!("RETR /pub/small/{number}.bin"), 150)?;
        client.send("QUIT")?;
        let bytes = client.receive(data)?;
        check(bytes == site::small(number), "a file came other than it is")?;
        client.answer(221)?;
        client.end()
    }

    fn long_lines(&mut self) -> Result<(), Trouble> {
        let mut client = self.log_in()?;
        client.expect(&format!("CWD {}", "x".repeat(6000)), 500)?;
        client.expect("NOOP", 200)?;
        // One without an end: it may be cut off while it is still being sent.
        if client.control.write_all(&[b'y'; 80 * 1024]).is_ok() {
            match client.answer(500) {
                Ok(()) => client.end()?,
                Err(Trouble::CutOff) => {}
                Err(other) => return Err(other),
            }
        }
        Ok(())
    }

    fn hold(&mut self, habit: Habit, buffer: usize) -> Result<Beast, Trouble> {
        let mut client = self.log_in()?;
        client.expect("TYPE I", 200)?;
        let data = client.passive(true, Some(buffer))?;
        client.expect(BIG, 150)?;
        Ok(Beast::new(client, Some(data), habit, self.dice))
    }

    fn hoard(&mut self) -> Result<Beast, Trouble> {
        let mut client = self.log_in()?;
        for _ in 0..30 {
            let extended = self.dice.coin();
            client.passive_port(extended)?;
        }
        if self.dice.coin() {
            client.send(BIG)?;
        }
        Ok(Beast::new(client, None, Habit::Silent, self.dice))
    }
}

fn quit(mut client: Client) -> Result<(), Trouble> {
    client.expect("QUIT", 221)?;
    client.end()
}

fn check(right: bool, otherwise: &str) -> Result<(), Trouble> {
    if right { Ok(()) } else { Err(Trouble::Wrong(otherwise.into())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_clients_are_hostile() {
        let hostile: usize = KINDS.iter().filter(|(kind, _)| kind.hostile()).map(|(_, weight)| weight).sum();
        let all: usize = KINDS.iter().map(|(_, weight)| weight).sum();
        assert_eq!((hostile, all), (50, 100));
    }

    #[test]
    fn every_kind_comes() {
        let mut seen = [0; KINDS.len()];
        for client in 0..10_000 {
            seen[Kind::roll(&mut Dice::new(1, client)).number()] += 1;
        }
        for ((kind, weight), count) in KINDS.iter().zip(seen) {
            let expected = weight * 100;
            assert!(count > expected / 2 && count < expected * 2, "{kind:?} came {count} times");
        }
    }
}
