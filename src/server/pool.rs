//! The workers: a fixed number of threads, all spawned at start, each with its own buffers, each
//! serving one session after the other.

use super::queue::Queue;
use super::registry::{Registry, SessionGuard};
use crate::data::pulse::{Reason, Tick};
use crate::journal::Event;
use crate::session::{self, Buffers, Context, End, Over, Seat};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

/// Spawns all workers.
///
/// # Errors
/// The host allows no more threads.
pub fn spawn(
    count: usize,
    stack_size: usize,
    context: &Arc<Context>,
    registry: &Arc<Registry>,
    queue: &Arc<Queue<SessionGuard>>,
) -> io::Result<Vec<JoinHandle<()>>> {
    Buffers::for_workers(count)
        .enumerate()
        .map(|(number, buffers)| {
            let (context, registry, queue) = (Arc::clone(context), Arc::clone(registry), Arc::clone(queue));
            Builder::new()
                .name(format!("worker-{number}"))
                .stack_size(stack_size)
                .spawn(move || work(number, &context, &registry, &queue, buffers))
        })
        .collect()
}

/// Serves sessions until the queue is closed.
fn work(number: usize, context: &Context, registry: &Registry, queue: &Queue<SessionGuard>, mut buffers: Buffers) {
    while let Some(guard) = queue.take(number) {
        let busy = registry.busy();
        let peer = guard.ends().peer;
        let (end, user) = match catch_unwind(AssertUnwindSafe(|| serve(context, &guard, &mut buffers))) {
            Ok(Over { end, user }) => (Some(end), user),
            Err(_) => {
                log::error!("{peer}: defect: the session panicked; please report it");
                (None, None)
            }
        };
        let bytes = guard.pulse().total();
        let took = guard.ends().admitted.age(Tick::now());
        registry.counters.ended(end, bytes);
        drop(guard);
        drop(busy);
        let user = user.as_ref().map(|user| user.name().as_bytes());
        let event = match end {
            Some(End::Marked(Reason::Shed)) => Event::Shed { peer, user, took, bytes },
            end => Event::Ended { peer, user, why: describe(end), took, bytes },
        };
        context.journal.note(&event);
        log::info!("{peer}: session ended: {}, {bytes} bytes", describe(end));
    }
}

/// Apart from the loop, so that a worker that waits has touched little of its stack.
#[inline(never)]
fn serve(context: &Context, guard: &SessionGuard, buffers: &mut Buffers) -> Over {
    match guard.socket() {
        Some(socket) => session::run(context, guard, socket, guard.ends(), buffers),
        None => Over { end: End::Lost, user: None },
    }
}

fn describe(end: Option<End>) -> &'static str {
    match end {
        Some(End::Quit) => "quit",
        Some(End::Lost) => "lost",
        Some(End::Refused) => "failed",
        None => "defect",
        Some(End::Marked(reason)) => match reason {
            Reason::Idle => "idle timeout",
            Reason::Login => "login timeout",
            Reason::Connect => "data connection timeout",
            Reason::Stalled => "stalled",
            Reason::TooSlow => "too slow",
            Reason::Reply => "replies not read",
            Reason::Session => "session time limit",
            Reason::Queue => "queue timeout",
            Reason::Shutdown => "shutdown",
            Reason::Shed => "shed",
        },
    }
}
