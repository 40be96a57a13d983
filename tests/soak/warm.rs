//! The first round: every worker serves one client that does a bit of everything. Pages that a worker
//! touches once, and keeps for good, are then part of the baseline and not taken for growth.

use crate::client::{Client, Trouble};
use crate::server::{FLAGS, Server};
use crate::uploads;
use std::io::{self, Write};
use std::net::Ipv4Addr;

/// Clients that are served at the same time: the first must not be idle for too long when the last comes.
const TOGETHER: usize = 8;

/// Keeps a client at each worker until all workers have one; then lets them go.
pub fn up(server: &Server) -> io::Result<()> {
    let workers = FLAGS.iter().find(|(flag, _)| *flag == "--workers");
    let workers = workers.and_then(|(_, count)| count.parse::<usize>().ok()).unwrap_or(0);
    let clients: Vec<Result<Client, Trouble>> = std::thread::scope(|scope| {
        let rounds: Vec<_> = (0..TOGETHER)
            .map(|first| {
                scope.spawn(move || {
                    let numbers = (first..workers).step_by(TOGETHER);
                    numbers.map(|number| one(server.port, number)).collect::<Vec<_>>()
                })
            })
            .collect();
        rounds.into_iter().flat_map(|round| round.join().unwrap_or_default()).collect()
    });
    // The block is as long as it ever gets.
    let audit = server.audit()?;
    let clients: Result<Vec<Client>, Trouble> = clients.into_iter().collect();
    let clients = clients.map_err(|trouble| io::Error::other(format!("the first round: {trouble:?}")))?;
    if clients.len() != workers || audit.busy != workers as u64 {
        println!("the first round reached {} of {workers} workers: the baseline may be low", audit.busy);
    }
    Ok(())
}

fn one(port: u16, number: usize) -> Result<Client, Trouble> {
    let [_, .., high, low] = number.to_be_bytes();
    let mut client = Client::connect(Ipv4Addr::new(127, 4, high, low), port)?;
    let extended = number.is_multiple_of(2);
    client.answer(220)?;
    uploads::log_in(&mut client)?;
    uploads::store(&mut client, number, extended)?;
    client.expect("USER anonymous", 331)?;
    client.expect("PASS guest@example.net", 230)?;
    client.fetch("RETR /pub/text.txt", extended)?;
    client.expect("TYPE I", 200)?;
    client.fetch("RETR /pub/small/3.bin", extended)?;
    for command in ["LIST /pub/crowd", "LIST /pub/hall", "MLSD /pub/many", "NLST /pub/many/f*9*"] {
        client.fetch(command, extended)?;
    }
    for (command, code) in [("STAT /pub/small", 213), ("RETR /pub/nothing", 550)] {
        client.expect(command, code)?;
    }
    client.expect(&format!("CWD {}", "x".repeat(6000)), 500)?;
    client.expect(&format!("CWD {}", "x/".repeat(1900)), 550)?;
    active(&mut client, extended)?;
    abort(&mut client, extended)?;
    for _ in 0..10 {
        client.passive_port(extended)?;
    }
    flood(&mut client)?;
    Ok(client)
}

fn active(client: &mut Client, extended: bool) -> Result<(), Trouble> {
    let listener = client.active(extended)?;
    client.expect("RETR /pub/small/6.bin", 150)?;
    let (data, _) = listener.accept()?;
    client.receive(data).map(drop)
}

fn abort(client: &mut Client, extended: bool) -> Result<(), Trouble> {
    let mut data = client.passive(extended, Some(64 * 1024))?;
    client.expect("RETR /pub/big.bin", 150)?;
    client.send("ABOR")?;
    let _ = io::copy(&mut data, &mut io::sink());
    client.answer(426)?;
    client.answer(226)
}

/// As many commands at once as wait for a worker when a client floods it.
fn flood(client: &mut Client) -> Result<(), Trouble> {
    let times = 40;
    client.control.write_all(&b"FEAT\r\nHELP\r\nSTAT\r\nNOOP\r\n".repeat(times))?;
    for _ in 0..times {
        for code in [211, 214, 211, 200] {
            client.answer(code)?;
        }
    }
    Ok(())
}
