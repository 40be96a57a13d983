//! The signals that the server listens to.

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::low_level::pipe;
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Exit code of a second signal: the server did not end in order.
const EXIT_AT_ONCE: i32 = 1;

/// The signals that have come, and a bell that rings with each.
#[derive(Debug)]
pub(super) struct Signals {
    pub(super) bell: UnixStream,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) told: Arc<AtomicBool>,
    pub(super) reload: Arc<AtomicBool>,
}

/// SIGTERM and SIGINT stop the server, and a second one ends the process; SIGUSR1 asks for its state, and
/// SIGHUP has it read its files again.
pub(super) fn catch() -> io::Result<Signals> {
    let (bell, writer) = UnixStream::pair()?;
    let [stop, told, reload] = [(); 3].map(|()| Arc::new(AtomicBool::new(false)));
    for signal in [SIGTERM, SIGINT] {
        // In this order: the first to see the flag is the second signal.
        signal_hook::flag::register_conditional_shutdown(signal, EXIT_AT_ONCE, Arc::clone(&stop))?;
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
        pipe::register(signal, writer.try_clone()?)?;
    }
    // A file that grows past RLIMIT_FSIZE is an error of its write, and not the end of the server.
    signal_hook::flag::register(libc::SIGXFSZ, Arc::default())?;
    signal_hook::flag::register(SIGUSR1, Arc::clone(&told))?;
    pipe::register(SIGUSR1, writer.try_clone()?)?;
    signal_hook::flag::register(SIGHUP, Arc::clone(&reload))?;
    pipe::register(SIGHUP, writer)?;
    Ok(Signals { bell, stop, told, reload })
}
