//! The picture of a run: the times by percentile, and sessions over time.

use super::axis::{Axis, round_time, tick};
use super::measure::Times;
use super::report::{Outcome, shape};
use super::svg::{Colour, Line, Panel, picture};
use super::words::{figure, grouped, seconds};
use crate::config::load::Load;

/// The percentiles at which the axis is named, as the share that lies above.
const NAMED: [(f64, &str); 7] = [
    (1.0, "0"),
    (0.5, "50 %"),
    (0.1, "90 %"),
    (0.01, "99 %"),
    (0.001, "99.9 %"),
    (0.0001, "99.99 %"),
    (0.00001, "99.999 %"),
];

/// Points of a curve for each power of ten.
const POINTS: f64 = 24.0;

/// Draws a run.
#[must_use]
pub fn svg(load: &Load, outcome: &Outcome) -> String {
    let seen = &outcome.seen;
    let early = if outcome.interrupted { ", ended early by a signal" } else { "" };
    let figures = format!(
        "{}: {} sessions a second, {} succeeded, {} refused, {} failed{early}",
        seconds(outcome.elapsed),
        figure(outcome.rate()),
        grouped(seen.succeeded),
        grouped(seen.refused()),
        grouped(seen.failed())
    );
    let panels = [percentiles(load, outcome), over_time(outcome)];
    picture(&format!("plimsoll load {}", outcome.url), &[shape(load), figures], &panels)
}

fn percentiles(load: &Load, outcome: &Outcome) -> Panel {
    let seen = &outcome.seen;
    let open = load.rate.is_some().then_some(("begin (late)", &seen.lateness));
    let all = [("logon", &seen.logon), ("first byte", &seen.first_byte), ("session", &seen.session)];
    let lines: Vec<Line> = all
        .into_iter()
        .chain(open)
        .zip(Colour::ALL)
        .filter(|((_, times), _)| times.count() > 0)
        .map(|((name, times), colour)| Line { name, colour, points: curve(times), dots: false })
        .collect();
    let last = lines.iter().filter_map(|line| line.points.last()).fold(1.0, |most: f64, (x, _)| most.max(*x));
    let ticks = NAMED.map(|(above, name)| (-above.log10(), name.to_owned()));
    let mut ticks: Vec<_> = ticks.into_iter().filter(|(at, _)| *at <= last + 1e-9).collect();
    // The last few are beyond what has a name; two names must not touch each other.
    match ticks.last_mut() {
        Some((at, _)) if *at < last - 0.1 * last => ticks.push((last, "max".to_owned())),
        Some((at, name)) if *at < last - 1e-9 => {
            let name = std::mem::take(name);
            ticks.push((last, if ticks.len() > 1 { "max".to_owned() } else { name }));
        }
        _ => {}
    }
    let values = || lines.iter().flat_map(|line| &line.points).map(|(_, y)| *y);
    let (least, most) = (values().fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max));
    let least = if least.is_finite() { least } else { 1.0 };
    let note = if lines.is_empty() { "nobody got as far as that" } else { "" };
    let x = (Axis::named(ticks, false), "percentile of the sessions");
    Panel { note: note.into(), ..Panel::new("time", x, Axis::decades(least, most, round_time), lines) }
}

/// Time over percentile, as far as there are enough sessions to speak of one.
#[expect(clippy::cast_precision_loss, reason = "a logarithm of it")]
fn curve(times: &Times) -> Vec<(f64, f64)> {
    let last = (times.count() as f64).log10().min(5.0);
    let mut points = Vec::new();
    let mut at = 0.0;
    while at < last {
        points.extend(times.quantile(1.0 - 10_f64.powf(-at)).map(|time| (at, time)));
        at += 1.0 / POINTS;
    }
    points.extend(times.max().filter(|_| last < 5.0).map(|time| (last, time)));
    points
}

/// Steps of a line that are still told apart; more are a hedge.
const STEPS: usize = 120;

/// Sessions that a step should have on average: fewer are a saw.
const STEP_SESSIONS: u64 = 10;

/// Steps that a line has at least.
const STEPS_MIN: u64 = 12;

#[expect(clippy::cast_precision_loss, reason = "for a picture")]
fn over_time(outcome: &Outcome) -> Panel {
    let series = &outcome.seen.series;
    let steps = series.succeeded().len();
    let all: u64 = series.succeeded().iter().chain(series.lost()).sum();
    let wanted = usize::try_from((all / STEP_SESSIONS).max(STEPS_MIN)).unwrap_or(STEPS).min(STEPS);
    let each = steps.div_ceil(wanted).max(1);
    let step = series.step().as_secs_f64() * each as f64;
    let end = outcome.elapsed.as_secs_f64();
    let points = |counts: &[u64]| -> Vec<(f64, f64)> {
        let mut points = Vec::new();
        for (number, chunk) in counts.chunks(each).enumerate() {
            let from = number as f64 * step;
            // The last step may be cut short.
            let length = step.min(end - from);
            if length > step / 2.0 {
                points.push((from + length / 2.0, chunk.iter().sum::<u64>() as f64 / length));
            }
        }
        points
    };
    let mut lines =
        vec![Line { name: "succeeded", colour: Colour::Blue, points: points(series.succeeded()), dots: false }];
    if series.lost().iter().any(|count| *count > 0) {
        let points = points(series.lost());
        lines.push(Line { name: "refused or failed", colour: Colour::Brown, points, dots: false });
    }
    let most = lines.iter().flat_map(|line| &line.points).map(|(_, y)| *y).fold(1.0, f64::max);
    let x = (Axis::span(0.0, end, tick), "seconds of the run");
    Panel::new("sessions that ended, a second", x, Axis::linear(most, 4.0, tick), lines)
}
