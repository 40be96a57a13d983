//! What the search for a pool has shown: a table, a line to copy, JSON, and the knee as a picture.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use super::axis::{Axis, round_time, tick};
use super::find_pool::{Found, SESSIONS_MIN, Trial};
use super::json::{Object, list};
use super::report::{settings, shape};
use super::svg::{Colour, Line, Panel, picture};
use super::words::{figure, grouped, mib, seconds, time};
use crate::config::load::{Kind, Load};

/// Below this many milliseconds a session is not that of a visitor who has to wait for anything.
const SHORT_STAY: f64 = 100.0;

/// The table, and what follows from it.
#[must_use]
pub fn table(load: &Load, folder: &Path, found: &Found) -> String {
    let mut out = format!("{}: {}", folder.display(), shape(load));
    if let Some(duration) = load.duration {
        let _ = write!(out, ", {} for each pool", seconds(duration));
    }
    let _ = write!(
        out,
        "\n\n{:>9}{:>9}{:>11}{:>11}{:>7}{:>12}{:>11}{:>11}{:>10}{:>9}{:>10}\n",
        "--workers",
        "--queue",
        "load line",
        "resident",
        "CPU",
        "sessions/s",
        "logon p50",
        "logon p99",
        "refused",
        "failed",
        "unserved"
    );
    for (number, trial) in found.trials.iter().enumerate() {
        let seen = &trial.outcome.seen;
        let logon = |share| seen.logon.quantile(share).map_or("-".to_owned(), time);
        let _ = writeln!(
            out,
            "{:>9}{:>9}{:>11}{:>11}{:>7}{:>12}{:>11}{:>11}{:>10}{:>9}{:>10}{}",
            trial.size.workers,
            trial.size.queue,
            format!("{} MiB", trial.worst_case_mib),
            format!("{} MiB", figure(mib(trial.usage.resident))),
            format!("{:.0} %", trial.cpu() * 100.0),
            figure(trial.outcome.rate_in_time()),
            logon(0.5),
            logon(0.99),
            grouped(seen.refused()),
            grouped(seen.failed()),
            grouped(trial.unserved()),
            if Some(number) == found.recommended { "  <" } else { "" },
        );
    }
    out.push('\n');
    out.push_str(&verdict(load, folder, found));
    out
}

/// What to do, the line to copy last.
fn verdict(load: &Load, folder: &Path, found: &Found) -> String {
    let mut out = String::new();
    if found.interrupted {
        out.push_str("ended early by a signal: not all pools were tried\n");
    }
    if let Some(enough) = load.duration_needed() {
        let _ = writeln!(out, "clients stay so long that pools were seen filling: raise --duration to {enough}");
    }
    let Some(trial) = found.recommended.and_then(|number| found.trials.get(number)) else {
        return out;
    };
    if trial.lacks_clients() {
        let (late, never) = (grouped(trial.outcome.seen.late), grouped(trial.outcome.overdue));
        let clients = load.clients;
        let _ = writeln!(
            out,
            "{late} sessions began late and {never} never: --clients {clients} are too few, or this host is too busy"
        );
    }
    if trial.is_short() {
        let count = grouped(trial.outcome.seen.logon.count());
        let longer = longer(trial).map_or(String::new(), |seconds| format!(" to {seconds}s"));
        let _ = writeln!(out, "{count} sessions are few for a 99th percentile: raise --duration{longer}");
    }
    let stay = trial.outcome.seen.session.quantile(0.5).filter(|stay| *stay < SHORT_STAY);
    if let Some(stay) = stay.filter(|_| load.mix.iter().all(|(kind, _)| *kind != Kind::Idle)) {
        let stay = time(stay);
        let _ =
            writeln!(out, "sessions took {stay} (p50): play visitors who stay, or are far away, with idle in --mix");
    }
    if !trial.holds() {
        let lost = trial.lost() * 100.0;
        let reason = match trial {
            trial if trial.outcome.overdue > 0 => "what more workers would do is not known",
            trial if trial.size.workers == found.most && found.most < load.clients => "more workers do not fit here",
            _ => "more workers do not help: look at CPU",
        };
        let _ = writeln!(out, "not held: {} % of the sessions did not succeed, and {reason}", figure(lost));
    }
    let _ = writeln!(
        out,
        "{} worker{} and {} in the queue: worst case {} MiB, {} MiB resident here",
        trial.size.workers,
        if trial.size.workers == 1 { "" } else { "s" },
        trial.size.queue,
        trial.worst_case_mib,
        figure(mib(trial.usage.resident)),
    );
    let (workers, queue) = (trial.size.workers, trial.size.queue);
    let _ = writeln!(out, "plimsoll serve {} --workers {workers} --queue {queue}", shell(folder));
    out
}

/// Seconds for each pool that make enough sessions, where there were any.
#[expect(clippy::cast_precision_loss, reason = "a few sessions")]
fn longer(trial: &Trial) -> Option<u64> {
    let count = trial.outcome.seen.logon.count();
    let factor = SESSIONS_MIN as f64 / count.max(1) as f64;
    let longer = Duration::try_from_secs_f64(trial.outcome.elapsed.as_secs_f64() * factor * 1.1).ok()?;
    (count > 0).then(|| longer.as_secs() + 1)
}

/// A path as a shell reads it.
fn shell(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |c: char| c.is_alphanumeric() || "/._-+:@%,=".contains(c);
    if !text.is_empty() && !text.starts_with('-') && text.chars().all(plain) {
        text.into_owned()
    } else {
        // What begins with a hyphen would be a flag.
        let prefix = if text.starts_with('-') { "./" } else { "" };
        format!("'{prefix}{}'", text.replace('\'', "'\\''"))
    }
}

/// The search as JSON: the keys are told in docs/OPERATIONS.md.
#[must_use]
pub fn json(load: &Load, folder: &Path, found: &Found) -> String {
    let recommended = found.recommended.and_then(|number| found.trials.get(number));
    let mut object = Object::new();
    object.text("plimsoll", env!("CARGO_PKG_VERSION"));
    object.text("folder", &folder.to_string_lossy());
    settings(&mut object, load);
    object.member("most_workers", &found.most);
    object.member("interrupted", &found.interrupted);
    object.member("held", &recommended.is_some_and(Trial::holds));
    object.member("recommended", &recommended.map_or("null".to_owned(), pool));
    object.member("pools", &list(found.trials.iter().map(pool)));
    object.end() + "\n"
}

fn pool(trial: &Trial) -> String {
    let seen = &trial.outcome.seen;
    let mut object = Object::new();
    object.member("workers", &trial.size.workers);
    object.member("queue", &trial.size.queue);
    object.member("worst_case_mib", &trial.worst_case_mib);
    object.decimal("resident_mib", Some(mib(trial.usage.resident)));
    object.decimal("cpu", Some(trial.cpu()));
    object.decimal("sessions_per_s", Some(trial.outcome.rate_in_time()));
    object.decimal("logon_p50_ms", seen.logon.quantile(0.5));
    object.decimal("logon_p99_ms", seen.logon.quantile(0.99));
    object.member("begun", &seen.begun);
    object.member("succeeded", &seen.succeeded);
    object.member("refused", &seen.refused());
    object.member("failed", &seen.failed());
    object.member("unfinished", &seen.unfinished());
    object.member("kept_waiting", &seen.kept_waiting);
    object.member("cut", &seen.cut);
    object.member("late", &seen.late);
    object.member("overdue", &trial.outcome.overdue);
    object.end()
}

/// The knee.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "for a picture")]
pub fn svg(load: &Load, folder: &Path, found: &Found) -> String {
    let recommended = found.recommended.and_then(|number| found.trials.get(number));
    // One point for each number of workers: that with the longest queue. Shorter ones were tried afterwards.
    let mut pools: Vec<&Trial> = Vec::new();
    for trial in &found.trials {
        match pools.last_mut() {
            Some(last) if last.size.workers == trial.size.workers => *last = trial,
            _ => pools.push(trial),
        }
    }
    let points = |of: &dyn Fn(&Trial) -> Option<f64>| -> Vec<(f64, f64)> {
        pools.iter().filter_map(|trial| Some((trial.size.workers as f64, of(trial)?))).collect()
    };
    let line = |name, colour, points| Line { name, colour, points, dots: true };
    let (blue, brown, green) = (Colour::Blue, Colour::Brown, Colour::Green);
    let median = points(&|trial| trial.outcome.seen.logon.quantile(0.5));
    let tail = points(&|trial| trial.outcome.seen.logon.quantile(0.99));
    let lost = points(&|trial| Some(trial.lost() * 100.0));
    let worst = points(&|trial| Some(trial.worst_case_mib as f64));
    let resident = points(&|trial| Some(mib(trial.usage.resident)));
    let greatest = |lines: &[&[(f64, f64)]]| lines.concat().iter().map(|(_, y)| *y).fold(0.0, f64::max);
    let least = median.iter().map(|(_, y)| *y).fold(f64::INFINITY, f64::min);
    let x = workers_axis(pools.last().map_or(1, |trial| trial.size.workers));
    let mark = |said: bool| {
        let said = |trial: &Trial| if said { format!("recommended: {}", trial.size.workers) } else { String::new() };
        recommended.map(|trial| (trial.size.workers as f64, said(trial)))
    };
    let limit = load.memory_limit.map(mib);
    let panels = [
        Panel {
            mark: mark(true),
            ..Panel::new(
                "time to log in",
                (x.clone(), NAME),
                Axis::decades(if least.is_finite() { least } else { 1.0 }, greatest(&[&tail]), round_time),
                vec![line("p50", green, median), line("p99", blue, tail)],
            )
        },
        Panel {
            mark: mark(false),
            ..Panel::new(
                "sessions that did not succeed, %",
                (x.clone(), NAME),
                Axis::linear(greatest(&[&lost]).max(1.0), 4.0, tick),
                vec![line("refused, failed or unserved", brown, lost)],
            )
        },
        Panel {
            mark: mark(false),
            level: limit.map(|limit| (limit, "--memory-limit".to_owned())),
            ..Panel::new(
                "memory with the longest queue, MiB",
                (x, NAME),
                Axis::linear(greatest(&[&worst, &resident]).max(limit.unwrap_or(0.0)), 4.0, tick),
                vec![line("load line (worst case)", brown, worst), line("resident here", green, resident)],
            )
        },
    ];
    let mut notes = vec![shape(load)];
    notes.extend(recommended.map(|trial| {
        let (size, held) = (trial.size, if trial.holds() { "" } else { ", which does not hold it" });
        let memory = trial.worst_case_mib;
        format!("recommended: --workers {} --queue {}, load line {memory} MiB{held}", size.workers, size.queue)
    }));
    picture(&format!("plimsoll load --find-pool {}", folder.display()), &notes, &panels)
}

/// What runs to the right.
const NAME: &str = "--workers";

/// Powers of two, and the largest pool.
#[expect(clippy::cast_precision_loss, reason = "at most some thousand")]
fn workers_axis(most: usize) -> Axis {
    // A single pool has a place as well.
    let most = most.max(2);
    let mut ticks: Vec<(f64, String)> = Vec::new();
    let mut workers = 1;
    while workers < most {
        ticks.push((workers as f64, workers.to_string()));
        workers *= 2;
    }
    // Two names must not touch each other.
    if ticks.len() > 1 && most < workers * 3 / 4 {
        ticks.pop();
    }
    ticks.push((most as f64, most.to_string()));
    Axis::named(ticks, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_written_as_a_shell_reads_it() {
        for (path, text) in [
            ("/srv/ftp", "/srv/ftp"),
            (".", "."),
            ("a b", "'a b'"),
            ("it's", "'it'\\''s'"),
            ("$(x)", "'$(x)'"),
            ("-x", "'./-x'"),
        ] {
            assert_eq!(shell(Path::new(path)), text);
        }
    }
}
