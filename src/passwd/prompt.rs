//! Asks for a password: twice and without an echo at a terminal, else the first line of standard input.
//!
//! Owns the terminal's modes while it asks, and gives them back however the program ends, short of SIGKILL.
//! Never reads more than the longest password there can be, and keeps none in memory that is given back.

use std::io::{self, IsTerminal, Read};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use rustix::io::Errno;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::low_level::{emulate_default_handler, pipe};
use zeroize::Zeroizing;

use super::PasswdError;
use crate::config::plain;
use crate::limits::PASSWORD_MAX;

/// Signals that end the program while it asks.
const ENDS: [i32; 4] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM];

/// The new password of this account.
///
/// # Errors
/// There is none, it can't be one, or the two differ.
pub(super) fn password(name: &str) -> Result<Zeroizing<Vec<u8>>, PasswdError> {
    let failed = |error: io::Error| PasswdError::here(format!("no password could be read: {}", plain(&error)));
    if !io::stdin().is_terminal() {
        return judged(read_line().map_err(failed)?);
    }
    let quiet = Quiet::new().map_err(failed)?;
    eprint!("Password for {name}: ");
    let first = judged(read_line().map_err(failed)?)?;
    eprint!("The same again: ");
    let second = read_line().map_err(failed)?;
    drop(quiet);
    if *first != *second {
        return Err(PasswdError::here("the two passwords differ".to_owned()));
    }
    Ok(first)
}

/// The password, if it can be one.
fn judged(password: Zeroizing<Vec<u8>>) -> Result<Zeroizing<Vec<u8>>, PasswdError> {
    let fault = if password.is_empty() {
        "the password is empty".to_owned()
    } else if password.len() > PASSWORD_MAX {
        format!("a password has at most {PASSWORD_MAX} bytes")
    } else if password.iter().any(u8::is_ascii_control) {
        "the password holds a control character, which clients can't send".to_owned()
    } else {
        return Ok(password);
    };
    Err(PasswdError::here(fault))
}

/// The next line of standard input without its line end, or as much of it as shows that it is too long.
fn read_line() -> io::Result<Zeroizing<Vec<u8>>> {
    // Room for CR LF. It does not grow, so nothing of it is left behind.
    let mut line = Zeroizing::new(vec![0; PASSWORD_MAX + 2]);
    let mut filled = 0;
    let end = loop {
        let (old, rest) = line.split_at_mut(filled);
        if let Some(end) = memchr::memchr(b'\n', old) {
            break end;
        }
        match rustix::io::read(io::stdin().as_fd(), rest) {
            Ok(0) => break filled,
            Ok(read) => filled += read,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    };
    line.truncate(end);
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(line)
}

/// The terminal without its echo, until it is dropped.
struct Quiet {
    modes: Termios,
}

impl Quiet {
    fn new() -> io::Result<Self> {
        let modes = tcgetattr(io::stdin())?;
        restore_at_signal(modes.clone())?;
        let mut quiet = modes.clone();
        quiet.local_modes.remove(LocalModes::ECHO | LocalModes::ECHOE | LocalModes::ECHOK);
        quiet.local_modes.insert(LocalModes::ECHONL);
        // What was typed before the question is no answer to it.
        tcsetattr(io::stdin(), OptionalActions::Flush, &quiet)?;
        Ok(Self { modes })
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // The rest of a line that was too long is not left to the shell.
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.modes);
    }
}

/// From now on a signal that ends the program gives the terminal back first.
fn restore_at_signal(modes: Termios) -> io::Result<()> {
    let (mut read, write) = UnixStream::pair()?;
    let caught = Arc::new(AtomicUsize::new(0));
    for signal in ENDS {
        signal_hook::flag::register_usize(signal, Arc::clone(&caught), usize::try_from(signal).unwrap_or_default())?;
        pipe::register(signal, write.try_clone()?)?;
    }
    let wait = move || {
        if read.read_exact(&mut [0]).is_ok() {
            let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &modes);
            eprintln!();
            let _ = emulate_default_handler(i32::try_from(caught.load(SeqCst)).unwrap_or(SIGTERM));
        }
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(wait).map(drop)
}
