//! The report: every count at the baseline, at its peak and at the end, and whether it came back.

use crate::crowd::Progress;
use crate::kinds::KINDS;
use crate::sample::Look;
use crate::server::{Audit, FLAGS};
use crate::stats::{Slope, mib, thousands};
use std::fmt::Write;
use std::time::Duration;

/// What memory may differ by at two times of rest although nothing is held.
#[derive(Debug, Clone, Copy)]
pub struct Noise {
    /// Of the process, in bytes. The allocator gives back whole pages only; and with caches for each thread
    /// it keeps up to seven pieces of each size, of which 16 KiB for each worker were seen.
    pub memory: u64,
    /// Of the kernel, in bytes: slabs are given back late and in whole pages, and each processor keeps some
    /// for later. `None` where it can't be told from that of others.
    pub kernel: Option<u64>,
}

impl Noise {
    /// With the allocator as it comes or without its caches, and with a cgroup or without.
    pub fn new(stock_allocator: bool, own_kernel_memory: bool) -> Noise {
        Noise {
            memory: if stock_allocator { 4 << 20 } else { 256 << 10 },
            kernel: own_kernel_memory.then_some(1 << 20),
        }
    }
}

/// Processor in use at rest, in per cent of one, above that of the baseline.
const PROCESSOR_NOISE: f64 = 5.0;

/// Standard errors within which a slope is none.
const ERRORS: f64 = 3.0;

/// How the load ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All logons were made.
    Done,
    /// The time was up.
    TimeUp,
    /// Nobody got in any more.
    Stuck,
}

/// All that one run has found out.
pub struct Run {
    /// The seed of the clients.
    pub seed: u64,
    /// Logons asked for.
    pub wanted: u64,
    /// Why there were no more.
    pub outcome: Outcome,
    /// What the server says of itself.
    pub names: (String, String),
    /// Whether the server's allocator is as it comes.
    pub stock_allocator: bool,
    /// What memory may differ by.
    pub noise: Noise,
    /// Before the first client.
    pub cold: Look,
    /// At rest, after every worker has served one client.
    pub baseline: Look,
    /// Processor in use at the baseline and at the end, in per cent of one.
    pub at_rest: (f64, f64),
    /// What was seen in between.
    pub looks: Vec<Look>,
    /// When the clients were killed.
    pub death: Look,
    /// The server's own counts then.
    pub audit: Audit,
    /// How long it took until the server counted nobody; `None`: it never did.
    pub zero_after: Option<Duration>,
    /// The server's last counts.
    pub last_audit: Audit,
    /// Sessions that it tells of even then.
    pub left: Vec<String>,
    /// How long it took until everything else was back, or given up.
    pub settled_after: Duration,
    /// At rest, at the end.
    pub end: Look,
    /// How far the clients were.
    pub progress: Progress,
    /// Seconds under load.
    pub seconds: f64,
    /// The server's counters.
    pub counters: String,
    /// Lines of its log that tell of a defect.
    pub defects: Vec<String>,
    /// Whether it ended in order on SIGTERM.
    pub ended_well: bool,
    /// What was found among the uploads that must not be there.
    pub torn: Option<String>,
}

/// One line with a verdict.
struct Row {
    name: &'static str,
    baseline: String,
    peak: String,
    end: String,
    good: bool,
    said: String,
}

impl Run {
    /// Logons made.
    pub fn logons(&self) -> u64 {
        self.progress.of("logons")
    }

    /// The report, and whether all is well.
    pub fn report(&self) -> (String, bool) {
        let mut out = String::new();
        self.write_head(&mut out);
        let rows = self.rows();
        let _ = writeln!(out, "{:<18}{:>14}{:>14}{:>14}   verdict", "", "baseline", "peak", "end");
        for row in &rows {
            let verdict = if row.good { "ok" } else { "FAILED" };
            let _ = writeln!(
                out,
                "{:<18}{:>14}{:>14}{:>14}   {verdict}: {}",
                row.name, row.baseline, row.peak, row.end, row.said
            );
        }
        out.push('\n');
        let findings = self.findings();
        for (good, name, text) in &findings {
            let verdict = if *good { "ok" } else { "FAILED" };
            let _ = writeln!(out, "{name:<18}{verdict}: {text}");
        }
        self.write_counts(&mut out);
        let good = rows.iter().all(|row| row.good) && findings.iter().all(|(good, ..)| *good);
        let verdict =
            if good { "RESULT: every count is back at the baseline, and nothing grows" } else { "RESULT: FAILED" };
        let _ = writeln!(out, "\n{verdict}");
        (out, good)
    }

    fn write_head(&self, out: &mut String) {
        let logons = self.logons();
        let short = match self.outcome {
            Outcome::Done => String::new(),
            Outcome::TimeUp => format!(" (of {} asked for: the time was up)", thousands(self.wanted)),
            Outcome::Stuck => format!(" (of {} asked for: nobody got in any more)", thousands(self.wanted)),
        };
        let flags: Vec<_> = FLAGS.iter().map(|(flag, value)| format!("{flag} {value}")).collect();
        let processors = std::thread::available_parallelism().map_or(0, usize::from);
        let _ = writeln!(
            out,
            "plimsoll soak: {} logons{short} in {:.1} s, {:.0} a second, seed {}",
            thousands(logons),
            self.seconds,
            logons as f64 / self.seconds.max(1e-9),
            self.seed
        );
        let _ = writeln!(out, "{}; {}", self.names.0, self.names.1);
        let _ = writeln!(out, "flags: {}", flags.join(" "));
        let _ = writeln!(out, "host: {processors} processors, shared by server and clients");
        let allocator = if self.stock_allocator {
            "as it comes"
        } else {
            "one arena and no caches of threads, so that what is resident is what is held"
        };
        let _ = writeln!(out, "allocator: {allocator}");
        let _ = writeln!(out, "baseline: at rest, after each worker has served one client of every kind of work\n");
    }

    fn rows(&self) -> Vec<Row> {
        let peak = |of: fn(&Look) -> u64| self.looks.iter().map(of).max().unwrap_or(0);
        let count = |name, of: fn(&Look) -> u64, bound: Option<u64>, exact: bool| {
            let (base, most, end) = (of(&self.baseline), peak(of), of(&self.end));
            let mut said = back(end == base);
            let mut good = end == base;
            if exact && most != base {
                good = false;
                said = "it moved".into();
            }
            if let Some(bound) = bound {
                good &= most <= bound;
                let _ = write!(said, "; {} are stated", thousands(bound));
            }
            Row { name, baseline: thousands(base), peak: thousands(most), end: thousands(end), good, said }
        };
        let sessions = |look: &Look| look.sockets.unwrap_or_default().sessions;
        let listeners = |look: &Look| look.sockets.unwrap_or_default().listeners;
        let orphans = |look: &Look| look.sockets.unwrap_or_default().orphans;
        let mut rows = vec![
            count("sessions", sessions, None, false),
            count("threads", |look| look.threads, None, true),
            count("descriptors", |look| look.descriptors, self.stated(" descriptors"), false),
            count("listeners", listeners, None, false),
            count("kernel orphans", orphans, None, false),
        ];
        let memory = |name, of: fn(&Look) -> u64, noise: Option<u64>| {
            let (base, end) = (of(&self.baseline), of(&self.end));
            let good = noise.is_none_or(|noise| end <= base + noise);
            let said = match noise {
                Some(noise) => format!("{}, within {} KiB", back(good), noise / 1024),
                None => "told for information".into(),
            };
            Row { name, baseline: mib(base), peak: mib(peak(of)), end: mib(end), good, said }
        };
        rows.push(memory("anonymous memory", |look| look.anonymous, Some(self.noise.memory)));
        rows.push(memory("resident memory", |look| look.resident, None));
        let kernel = |look: &Look| look.kernel;
        let mut row = memory("kernel memory", kernel, self.noise.kernel);
        if self.noise.kernel.is_none() {
            row.said = "told for information: that of all sockets of this host, both ends".into();
        }
        rows.push(row);
        rows.push(self.processor_row());
        rows
    }

    fn processor_row(&self) -> Row {
        let shares = self.looks.windows(2).filter_map(|pair| match pair {
            [a, b] if b.at - a.at > 0.05 => Some((b.processor - a.processor) / (b.at - a.at) * 100.0),
            _ => None,
        });
        let (base, end) = self.at_rest;
        let good = end <= base + PROCESSOR_NOISE;
        Row {
            name: "processor",
            baseline: format!("{base:.0} %"),
            peak: format!("{:.0} %", shares.fold(0.0, f64::max)),
            end: format!("{end:.0} %"),
            good,
            said: format!("{}, within {PROCESSOR_NOISE:.0} %", back(good)),
        }
    }

    /// Everything else that has a verdict.
    fn findings(&self) -> Vec<(bool, &'static str, String)> {
        let mut findings = vec![self.growth(), self.death_to_zero(), self.line()];
        if self.outcome == Outcome::Stuck {
            findings.push((false, "newcomers", "none has logged in for 30 s".into()));
        }
        let wrong = self.progress.of("wrong");
        findings.push((
            wrong == 0,
            "wrong replies",
            format!("{wrong}: files that differ, replies that RFC 959 does not allow, no reply in 20 s"),
        ));
        let mut defects = format!("{} lines of the log tell of one", self.defects.len());
        for line in self.defects.iter().take(5) {
            let _ = write!(defects, "\n    {line}");
        }
        findings.push((self.defects.is_empty(), "defects", defects));
        let uploads = self.torn.clone().unwrap_or_else(|| "each is whole, or was never there".into());
        findings.push((self.torn.is_none(), "uploads", uploads));
        findings.push((self.ended_well, "SIGTERM", "exit code 0 within the grace".into()));
        findings
    }

    /// Growth of memory over the second half of all logons.
    fn growth(&self) -> (bool, &'static str, String) {
        let half = self.logons() / 2;
        let points: Vec<_> = self
            .looks
            .iter()
            .filter(|look| look.at <= self.death.at && look.logons >= half)
            .map(|look| (look.logons as f64, look.anonymous as f64))
            .collect();
        let Some(line) = Slope::through(&points) else {
            return (false, "growth", "too few samples to tell".into());
        };
        // What memory at rest may differ by, spread over these logons, can't be told from growth.
        let resolution = self.noise.memory as f64 / (self.logons() - half).max(1) as f64;
        let noise = ERRORS * line.error + resolution;
        (
            line.slope <= noise,
            "growth",
            format!(
                "{:+.2} bytes a session, where noise is {noise:.2} ({ERRORS:.0} standard errors of {:.2}, and {} KiB \
                 over {} logons): {} samples of the second half",
                line.slope,
                line.error,
                self.noise.memory / 1024,
                thousands(self.logons() - half),
                line.points
            ),
        )
    }

    fn death_to_zero(&self) -> (bool, &'static str, String) {
        let Audit { sessions, busy, queued, sockets } = self.audit;
        let before =
            format!("{sessions} sessions, {busy} busy workers, {queued} queued, {sockets} control connections");
        match self.zero_after {
            Some(time) => (
                self.last_audit.is_zero(),
                "mass death",
                format!(
                    "from {before} to none in {:.3} s; the end is {:.1} s after it",
                    time.as_secs_f64(),
                    self.settled_after.as_secs_f64()
                ),
            ),
            None => {
                let mut text = format!("from {before} to {:?}", self.last_audit);
                for line in self.left.iter().take(10) {
                    let _ = write!(text, "\n    {line}");
                }
                (false, "mass death", text)
            }
        }
    }

    /// The measured peak against the stated one.
    fn line(&self) -> (bool, &'static str, String) {
        let Some(stated) = self.stated(" MiB").map(|mib| mib << 20) else {
            return (false, "load line", "not stated".into());
        };
        let peak = self.looks.iter().map(|look| look.resident + look.kernel).max().unwrap_or(0);
        let of = if self.noise.kernel.is_some() { "resident and kernel" } else { "resident and all sockets'" };
        let share = peak as f64 / stated as f64 * 100.0;
        let text = format!("{of} memory peaked at {}, {share:.0} % of the {} stated", mib(peak), mib(stated));
        (peak <= stated || self.noise.kernel.is_none(), "load line", text)
    }

    /// The number before a word in the load line.
    fn stated(&self, word: &str) -> Option<u64> {
        let before = self.names.1.split(word).next().filter(|before| *before != self.names.1)?;
        before.rsplit(' ').next()?.replace(',', "").parse().ok()
    }

    fn write_counts(&self, out: &mut String) {
        let of = |name| thousands(self.progress.of(name));
        let _ = writeln!(
            out,
            "\nclients: {}, of which {} hostile; {} turned away (421), {} cut off, {} ended in the zoo by the server, {} \
             left it by themselves",
            of("clients"),
            of("hostile"),
            of("turned-away"),
            of("cut-off"),
            of("ended"),
            of("left"),
        );
        let _ = writeln!(
            out,
            "well-behaved, from connect to 230: median within {} ms, 99 % within {} ms, longest {} ms",
            of("median"),
            of("p99"),
            of("longest")
        );
        let kinds: Vec<_> = KINDS
            .iter()
            .map(|(kind, _)| format!("{kind:?} {}", thousands(self.progress.of(&format!("{kind:?}")))))
            .collect();
        let _ = writeln!(out, "by kind: {}", kinds.join(", "));
        let _ = writeln!(out, "the server's own counters, those of the first round included:");
        for counter in self.counters.split(", ").filter(|counter| !counter.ends_with(" 0")) {
            let (name, number) = counter.rsplit_once(' ').unwrap_or((counter, ""));
            let number = number.parse().map_or_else(|_| number.to_owned(), thousands);
            let _ = writeln!(out, "  {name:<24}{number:>16}");
        }
        let per_logon = (self.death.processor - self.baseline.processor) / self.logons().max(1) as f64;
        let _ = writeln!(out, "processor: {:.0} us of the server's for each logon", per_logon * 1e6);
        let _ = writeln!(
            out,
            "before the first client: {} anonymous, {} resident, {} kernel memory",
            mib(self.cold.anonymous),
            mib(self.cold.resident),
            mib(self.cold.kernel)
        );
    }
}

fn back(good: bool) -> String {
    if good { "back" } else { "not back" }.into()
}

/// Whether a server at rest is what it was: what the end waits for.
pub fn settled(baseline: &Look, now: &Look, noise: Noise) -> bool {
    now.threads == baseline.threads
        && now.descriptors == baseline.descriptors
        && now.sockets.unwrap_or_default() == baseline.sockets.unwrap_or_default()
        && now.anonymous <= baseline.anonymous + noise.memory
        && noise.kernel.is_none_or(|noise| now.kernel <= baseline.kernel + noise)
}
