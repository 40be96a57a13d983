//! What a run has shown: a table for people, JSON for programs.

use std::fmt::Write;
use std::time::Duration;

use super::json::{Object, list};
use super::measure::{LATE, LONG_WAIT, Measure, Times};
use super::session::UPLOAD_NAME;
use super::words::{figure, grouped, mib, seconds, time};
use crate::config::load::{Kind, Load, Rate};

/// The shares that are told of each kind of time, with their names in the table and in JSON.
const SHARES: [(f64, &str, &str); 4] =
    [(0.5, "p50", "p50"), (0.9, "p90", "p90"), (0.99, "p99", "p99"), (0.999, "p99.9", "p99_9")];

/// A run that is over.
#[derive(Debug)]
pub struct Outcome {
    /// The server, without user and password.
    pub url: String,
    /// What was seen.
    pub seen: Measure,
    /// How long it ran, until the last session that was not cut had ended.
    pub elapsed: Duration,
    /// How long sessions began.
    pub run: Duration,
    /// Sessions of the open loop whose time had come and that never began.
    pub overdue: u64,
    /// A signal ended it.
    pub interrupted: bool,
}

impl Outcome {
    /// Sessions that succeeded, a second.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    pub fn rate(&self) -> f64 {
        self.seen.succeeded as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// Sessions that succeeded while others began, a second: those that were let in when others had left do not count.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    pub fn rate_in_time(&self) -> f64 {
        self.seen.in_time as f64 / self.run.as_secs_f64().max(1e-9)
    }

    /// Bytes of data, both ways, as MiB a second.
    fn mib_per_second(&self) -> f64 {
        mib(self.seen.received + self.seen.sent) / self.elapsed.as_secs_f64().max(1e-9)
    }
}

/// The times of a run by name: those of all sessions, and, where there are several kinds, those of each.
pub fn times(seen: &Measure) -> Vec<(String, &Times)> {
    let mut times = vec![
        ("logon".to_owned(), &seen.logon),
        ("first byte".to_owned(), &seen.first_byte),
        ("session".to_owned(), &seen.session),
    ];
    if seen.kinds.len() > 1 {
        times.extend(seen.kinds.iter().map(|(kind, times)| (format!("{} session", kind.name()), times)));
    }
    times
}

/// How the load was: its clients, its loop, its mix.
pub fn shape(load: &Load) -> String {
    let mix: Vec<String> = load.mix.iter().map(|&(kind, weight)| weighted(kind, weight, load.mix.len())).collect();
    let pace = match load.rate {
        Some(rate) => format!("open loop at {} sessions a second", rate.per_second()),
        None if load.think.is_zero() => "closed loop".to_owned(),
        None => format!("closed loop, {} between sessions", seconds(load.think)),
    };
    let clients = if load.clients == 1 { "client" } else { "clients" };
    format!("{} {clients}, {pace}, {}", load.clients, mix.join(","))
}

fn weighted(kind: Kind, weight: u32, kinds: usize) -> String {
    if kinds > 1 { format!("{}={weight}", kind.name()) } else { kind.name().to_owned() }
}

/// The table.
pub fn table(load: &Load, outcome: &Outcome) -> String {
    let seen = &outcome.seen;
    let mut out = format!("{}: {}\n", outcome.url, shape(load));
    if outcome.interrupted {
        out.push_str("ended early by a signal\n");
    }
    let _ = writeln!(
        out,
        "{}: {} sessions begun, {} succeeded, {} refused, {} failed{}{}",
        seconds(outcome.elapsed),
        grouped(seen.begun),
        grouped(seen.succeeded),
        grouped(seen.refused()),
        grouped(seen.failed()),
        match seen.cut {
            0 => String::new(),
            cut => format!(", {} cut short", grouped(cut)),
        },
        match seen.unfinished() {
            0 => String::new(),
            unfinished => format!(", {} not finished", grouped(unfinished)),
        },
    );
    let _ = writeln!(
        out,
        "{} sessions a second, {} MiB/s ({} MiB received, {} MiB sent)\n",
        figure(outcome.rate()),
        figure(outcome.mib_per_second()),
        figure(mib(seen.received)),
        figure(mib(seen.sent)),
    );
    let _ = write!(out, "{:<15}{:>10}", "time to", "count");
    for (_, name, _) in SHARES {
        let _ = write!(out, "{name:>10}");
    }
    let _ = writeln!(out, "{:>10}", "max");
    for (name, times) in times(seen).iter().chain(lateness(load, seen).as_slice()) {
        let _ = write!(out, "{name:<15}{:>10}", grouped(times.count()));
        let shares = SHARES.iter().map(|(share, _, _)| times.quantile(*share));
        for value in shares.chain([times.max()]) {
            let _ = write!(out, "{:>10}", value.map_or("-".to_owned(), time));
        }
        out.push('\n');
    }
    out.push_str(&complaints(load, outcome));
    out
}

/// The lateness of the open loop.
fn lateness<'a>(load: &Load, seen: &'a Measure) -> Vec<(String, &'a Times)> {
    if load.rate.is_some() { vec![("begin (late)".to_owned(), &seen.lateness)] } else { Vec::new() }
}

/// What did not go well, a line each.
fn complaints(load: &Load, outcome: &Outcome) -> String {
    let seen = &outcome.seen;
    let mut lines = Vec::new();
    for (refusal, count) in &seen.refusals {
        let closed = refusal.to == "STOR" && matches!(refusal.code, 500 | 502 | 532 | 550 | 553);
        let why = match closed {
            false => "",
            true if seen.left_behind > 0 => ": a client's earlier upload can't be deleted, and is in its way",
            true => ": no uploads here",
        };
        lines.push(format!("{:>10}  refused with {} to {}{why}", grouped(*count), refusal.code, refusal.to));
    }
    for (failure, count) in &seen.failures {
        lines.push(format!("{:>10}  failed: {}", grouped(*count), failure.name()));
    }
    if load.rate.is_some() && seen.late > 0 {
        let late = grouped(seen.late);
        lines.push(format!(
            "{late:>10}  began more than {} ms late: no client was free, or this host was busy",
            LATE.as_millis()
        ));
    }
    if outcome.overdue > 0 {
        let never = grouped(outcome.overdue);
        lines.push(format!(
            "{never:>10}  (about) never began: the server does not hold the rate, or --clients are too few"
        ));
    }
    if seen.cut > 0 {
        let cut = grouped(seen.cut);
        lines.push(format!("{cut:>10}  were idle when the time was up and left: only their logon is in the table"));
    }
    if seen.kept_waiting > 0 {
        let kept = grouped(seen.kept_waiting);
        lines.push(format!(
            "{kept:>10}  had waited more than {} for their login when the time was up",
            seconds(LONG_WAIT)
        ));
    }
    if seen.left_behind > 0 {
        let count = grouped(seen.left_behind);
        lines.push(format!("{count:>10}  uploads could not be deleted: {UPLOAD_NAME}* is left on the server"));
    }
    if seen.unfinished() > 0 && seen.kinds.contains_key(&Kind::Upload) {
        let count = grouped(seen.unfinished());
        lines.push(format!("{count:>10}  did not end: {UPLOAD_NAME}* may be left on the server"));
    }
    if lines.is_empty() { String::new() } else { format!("\n{}\n", lines.join("\n")) }
}

/// The run as JSON: the keys are told in docs/OPERATIONS.md.
pub fn json(load: &Load, outcome: &Outcome) -> String {
    let seen = &outcome.seen;
    let mut object = Object::new();
    object.text("plimsoll", env!("CARGO_PKG_VERSION"));
    object.text("url", &outcome.url);
    settings(&mut object, load);
    object.member("interrupted", &outcome.interrupted);
    object.decimal("elapsed_s", Some(outcome.elapsed.as_secs_f64()));
    object.member("begun", &seen.begun);
    object.member("succeeded", &seen.succeeded);
    object.member("refused", &seen.refused());
    object.member("failed", &seen.failed());
    object.member("cut", &seen.cut);
    object.member("kept_waiting", &seen.kept_waiting);
    object.member("unfinished", &seen.unfinished());
    object.decimal("sessions_per_s", Some(outcome.rate()));
    object.member("received_bytes", &seen.received);
    object.member("sent_bytes", &seen.sent);
    object.decimal("mib_per_s", Some(outcome.mib_per_second()));
    let mut latency = Object::new();
    for (name, times) in times(seen).iter().chain(lateness(load, seen).as_slice()) {
        let mut one = Object::new();
        one.member("count", &times.count());
        for (share, _, key) in SHARES {
            one.decimal(key, times.quantile(share));
        }
        one.decimal("max", times.max());
        latency.member(&key(name), &one.end());
    }
    object.member("latency_ms", &latency.end());
    let refusals = seen.refusals.iter().map(|(refusal, count)| {
        let mut one = Object::new();
        one.member("code", &refusal.code);
        one.text("to", refusal.to);
        one.member("count", count);
        one.end()
    });
    object.member("refusals", &list(refusals));
    let mut failures = Object::new();
    for (failure, count) in &seen.failures {
        failures.member(failure.name(), count);
    }
    object.member("failures", &failures.end());
    object.member("late", &seen.late);
    object.member("overdue", &outcome.overdue);
    object.member("left_behind", &seen.left_behind);
    let mut series = Object::new();
    series.decimal("step_s", Some(seen.series.step().as_secs_f64()));
    series.member("succeeded", &list(seen.series.succeeded().iter().map(u64::to_string)));
    series.member("lost", &list(seen.series.lost().iter().map(u64::to_string)));
    object.member("over_time", &series.end());
    object.end() + "\n"
}

/// How the load was.
pub fn settings(object: &mut Object, load: &Load) {
    object.member("clients", &load.clients);
    object.decimal("rate", load.rate.map(Rate::per_second));
    object.decimal("think_s", Some(load.think.as_secs_f64()));
    let mut mix = Object::new();
    for (kind, weight) in &load.mix {
        mix.member(kind.name(), weight);
    }
    object.member("mix", &mix.end());
}

/// The name of a time in the table, as a key.
fn key(name: &str) -> String {
    match name {
        "begin (late)" => "lateness".to_owned(),
        name => name.replace(' ', "_"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Invocation, from_arguments};
    use crate::load::fault::{Failure, Fault, Refusal};
    use crate::load::measure::Seen;

    fn load(flags: &str) -> Load {
        let line = format!("load ftp://127.0.0.1/a {flags}");
        match from_arguments(line.split_whitespace().map(Into::into)) {
            Ok(Invocation::Load(load)) => load,
            other => panic!("{other:?}"),
        }
    }

    fn outcome(load: &Load) -> Outcome {
        let mut seen = Measure::new(&load.mix).unwrap();
        let ms = Duration::from_millis;
        for number in 1..=1000 {
            seen.begins(load.rate.map(|_| ms(u64::from(number == 1) * 20)));
            let one = Seen { connected: true, logon: Some(ms(number)), received: 1 << 20, ..Seen::default() };
            seen.ends(Kind::Logon, &one, Ok(ms(2 * number)), ms(number));
        }
        for fault in
            [Fault::Refused(Refusal { code: 421, to: "greeting" }), Failure::Timeout.into(), Failure::Timeout.into()]
        {
            seen.begins(None);
            seen.ends(Kind::Logon, &Seen { left_behind: true, ..Seen::default() }, Err(fault), ms(1));
        }
        for kept_waiting in [false, false, true] {
            seen.begins(None);
            seen.ends(Kind::Logon, &Seen { cut: true, kept_waiting, ..Seen::default() }, Ok(ms(1)), ms(1));
        }
        let url = "ftp://127.0.0.1/a".to_owned();
        Outcome {
            url,
            seen,
            elapsed: Duration::from_secs(2),
            run: Duration::from_secs(2),
            overdue: 5,
            interrupted: false,
        }
    }

    #[test]
    fn the_table_has_a_line_for_everything() {
        let load = load("--mix logon,list=2 --rate 500");
        let table = table(&load, &outcome(&load));
        for line in [
            "ftp://127.0.0.1/a: 64 clients, open loop at 500 sessions a second, logon=1,list=2",
            "2.0 s: 1,006 sessions begun, 1,000 succeeded, 1 refused, 2 failed, 3 cut short",
            "500 sessions a second, 500 MiB/s (1000 MiB received, 0 MiB sent)",
            "time to             count       p50       p90       p99     p99.9       max",
            "logon               1,000    500 ms    900 ms    990 ms    999 ms    1.00 s",
            "first byte              0         -         -         -         -         -",
            "session             1,000    1.00 s    1.80 s    1.98 s    2.00 s    2.00 s",
            "list session            0         -         -         -         -         -",
            "         1  refused with 421 to greeting",
            "         2  failed: timeout",
            "         1  began more than 10 ms late: no client was free, or this host was busy",
            "         5  (about) never began: the server does not hold the rate, or --clients are too few",
            "         3  were idle when the time was up and left: only their logon is in the table",
            "         1  had waited more than 1.0 s for their login when the time was up",
            "         3  uploads could not be deleted: plimsoll-load-* is left on the server",
        ] {
            assert!(table.lines().any(|found| found == line), "{line:?} is not in\n{table}");
        }
        assert!(table.contains("begin (late)"), "{table}");
    }

    #[test]
    fn json_has_every_figure() {
        let load = load("--rate 500");
        let json = json(&load, &Outcome { url: "ftp://h/\"".into(), ..outcome(&load) });
        for part in [
            "\"url\": \"ftp://h/\\\"\",",
            "\"rate\": 500.000,",
            "\"sessions_per_s\": 500.000,",
            "\"logon\": {\"count\": 1000, \"p50\": 500.",
            "\"first_byte\": {\"count\": 0, \"p50\": null,",
            "\"lateness\": {\"count\": 1000,",
            "\"refusals\": [{\"code\": 421, \"to\": \"greeting\", \"count\": 1}],",
            "\"failures\": {\"timeout\": 2},",
        ] {
            assert!(json.contains(part), "{part} is not in\n{json}");
        }
    }
}
