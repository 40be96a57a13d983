//! Network namespaces: two hosts with a link between them that can be cut, which no loopback can be.
//!
//! A test that needs them starts its own binary again, once inside each namespace; [`role`] tells which of
//! them it is. Everything is made by the test, under names of its own, and goes when it ends.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

const ROLE: &str = "PLIMSOLL_NETNS_ROLE";
const PREFIX: &str = "PLIMSOLL_NETNS_PREFIX";
const TARGET: &str = "PLIMSOLL_NETNS_TARGET";

/// The server's address on the link.
pub const SERVER: &str = "10.203.0.1";

/// Which part of the test this process is.
#[derive(Debug, PartialEq, Eq)]
pub enum Role {
    /// The one that cargo started.
    Outside,
    /// In the namespace of the server.
    Server,
    /// In the namespace of the clients.
    Client,
}

/// Which part of the test this process is.
pub fn role() -> Role {
    match std::env::var(ROLE).as_deref() {
        Ok("server") => Role::Server,
        Ok("client") => Role::Client,
        _ => Role::Outside,
    }
}

/// What the client's part was told: where the server is.
pub fn target() -> String {
    std::env::var(TARGET).expect("the server's part sets it")
}

/// Two namespaces and the link between them.
struct Link {
    prefix: String,
}

impl Drop for Link {
    fn drop(&mut self) {
        for side in ["s", "c"] {
            let name = format!("{}{side}", self.prefix);
            let _ = ip(&["netns", "del", &name]);
        }
    }
}

/// Makes the namespaces and runs the test named `name` in that of the server. Where they can't be made the
/// test is skipped with a word, unless PLIMSOLL_REQUIRE_NETNS is 1.
pub fn run(name: &str, setup: &[&str]) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let prefix = format!("plimsoll{}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed));
    let link = Link { prefix };
    if let Err(error) = make(&link.prefix, setup) {
        return crate::skip("PLIMSOLL_REQUIRE_NETNS", &format!("{name}: network namespaces can't be made: {error}"));
    }
    let output = enter(&link.prefix, "s", name, "server").output().expect("ip runs");
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "inside the namespace: {text}");
    assert!(text.contains("1 passed"), "the test did not run inside: {text}");
}

fn make(prefix: &str, setup: &[&str]) -> Result<(), String> {
    let (server, client) = (format!("{prefix}s"), format!("{prefix}c"));
    ip(&["netns", "add", &server])?;
    ip(&["netns", "add", &client])?;
    let pair = ["-n", &server, "link", "add", "s0", "type", "veth", "peer", "name", "c0", "netns", &client];
    ip(&pair)?;
    ip(&["-n", &server, "addr", "add", "10.203.0.1/24", "dev", "s0"])?;
    ip(&["-n", &client, "addr", "add", "10.203.0.2/24", "dev", "c0"])?;
    for (side, device) in [(&server, "lo"), (&server, "s0"), (&client, "lo"), (&client, "c0")] {
        ip(&["-n", side, "link", "set", device, "up"])?;
    }
    for line in setup {
        let words: Vec<&str> = ["-n", &server].into_iter().chain(line.split(' ')).collect();
        ip(&words)?;
    }
    Ok(())
}

fn ip(words: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(words).output().map_err(|error| error.to_string())?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()) }
}

/// This test again, inside a namespace. `ip netns exec` becomes what it runs, so the process is ours.
fn enter(prefix: &str, side: &str, name: &str, role: &str) -> Command {
    let mut command = Command::new("ip");
    command
        .args(["netns", "exec", &format!("{prefix}{side}")])
        .arg(std::env::current_exe().expect("this program"))
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .env(PREFIX, prefix);
    command
}

/// The clients, in their namespace.
pub struct Clients(Child);

impl Clients {
    /// Starts the client's part of the test `name`, and waits until it says `ready`.
    pub fn start(name: &str, target: &str) -> Clients {
        let prefix = std::env::var(PREFIX).expect("the outer part sets it");
        let mut child = enter(&prefix, "c", name, "client")
            .env(TARGET, target)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("ip runs");
        let out = BufReader::new(child.stdout.take().expect("piped"));
        let ready = out.lines().map_while(Result::ok).any(|line| line.contains("ready"));
        assert!(ready, "the clients did not get ready");
        Clients(child)
    }

    /// Cuts the link on the clients' side: nothing that they or the server send arrives, and nobody is told.
    pub fn vanish(&self) {
        let prefix = std::env::var(PREFIX).expect("the outer part sets it");
        ip(&["-n", &format!("{prefix}c"), "link", "set", "c0", "down"]).expect("the link goes down");
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
