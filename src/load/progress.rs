//! How far a run is, on standard error: a bar where that is a terminal, a line now and then elsewhere.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use super::crowd::Crowd;
use super::words::{grouped, seconds, time};

/// How often the bar changes.
pub const TICK: Duration = Duration::from_millis(100);

/// How often a line is written where there is no bar.
const LINES: Duration = Duration::from_secs(5);

/// Lets a terminal cut what is longer than a row, and lets it go on in the next (DECAWM).
const NO_WRAP: &str = "\x1b[?7l";
const WRAP: &str = "\x1b[?7h";

/// Characters of the bar.
const WIDTH: usize = 24;

/// What tells of a run.
#[derive(Debug)]
pub struct Progress {
    terminal: bool,
    told: Instant,
    label: String,
    drawn: bool,
}

impl Progress {
    /// For a run, or one of several, that goes by this name.
    #[must_use]
    pub fn new(label: String) -> Self {
        Self { terminal: std::io::stderr().is_terminal(), told: Instant::now(), label, drawn: false }
    }

    /// Tells, if it is time to.
    pub fn tell(&mut self, crowd: &Crowd) {
        let pause = if self.terminal { TICK } else { LINES };
        if self.told.elapsed() < pause {
            return;
        }
        self.told = Instant::now();
        let line = self.line(crowd);
        // A line that went on in the next row could not be taken away again, so it ends where the terminal does.
        let line = if self.terminal { format!("\r\x1b[K{NO_WRAP}{line}{WRAP}") } else { format!("plimsoll: {line}\n") };
        let mut out = std::io::stderr().lock();
        // Who can't be told is not told.
        let _ = out.write_all(line.as_bytes());
        let _ = out.flush();
        self.drawn = self.terminal;
    }

    /// Takes the bar away.
    pub fn end(self) {
        if self.drawn {
            let mut out = std::io::stderr().lock();
            let _ = out.write_all(b"\r\x1b[K");
            let _ = out.flush();
        }
    }

    fn line(&self, crowd: &Crowd) -> String {
        let plan = crowd.plan();
        let run = plan.begin().elapsed();
        let (begun, refused, failed, logon) =
            crowd.look(|seen| (seen.begun, seen.refused(), seen.failed(), seen.logon.quantile(0.99)));
        let share = share(run, plan.end().map(|end| end - plan.begin()), begun, plan.most());
        format!(
            "{}{} {}, {} sessions, {} refused, {} errors, logon p99 {}",
            self.label,
            if self.terminal { bar(share) } else { format!("{:.0} %", share * 100.0) },
            seconds(run),
            grouped(begun),
            grouped(refused),
            grouped(failed),
            logon.map_or("-".to_owned(), time),
        )
    }
}

/// How much of a run is over, by its time or by its sessions, whichever ends it first.
#[expect(clippy::cast_precision_loss, reason = "for a bar of few characters")]
fn share(run: Duration, duration: Option<Duration>, begun: u64, most: Option<u64>) -> f64 {
    let by_time = duration.map_or(0.0, |all| run.as_secs_f64() / all.as_secs_f64().max(1e-9));
    let by_sessions = most.map_or(0.0, |most| begun as f64 / most.max(1) as f64);
    by_time.max(by_sessions).min(1.0)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to WIDTH")]
fn bar(share: f64) -> String {
    let full = ((share * WIDTH as f64) as usize).min(WIDTH);
    format!("[{}{}]", "#".repeat(full), ".".repeat(WIDTH - full))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_follows_what_ends_first() {
        let seconds = Duration::from_secs;
        assert!((share(seconds(5), Some(seconds(10)), 9, None) - 0.5).abs() < 1e-9);
        assert!((share(seconds(1), Some(seconds(10)), 9, Some(10)) - 0.9).abs() < 1e-9);
        assert!((share(seconds(99), Some(seconds(10)), 9, Some(10)) - 1.0).abs() < 1e-9);
        assert_eq!(bar(0.5), "[############............]");
        assert_eq!(bar(1.0).matches('#').count(), WIDTH);
    }
}
