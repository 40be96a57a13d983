//! The picture of a run: the times by percentile, and sessions over time.

use super::measure::Times;
use super::report::{Outcome, shape};
use super::svg::{Axis, COLOURS, Line, Panel, picture, round_time, tick};
use super::words::seconds;
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
    let subtitle = format!(
        "{}; {}, {:.0} sessions a second, {} refused, {} failed",
        shape(load),
        seconds(outcome.elapsed),
        outcome.rate(),
        outcome.seen.refused(),
        outcome.seen.failed()
    );
    picture(&format!("plimsoll load {}", outcome.url), &subtitle, &[percentiles(load, outcome), over_time(outcome)])
}

fn percentiles(load: &Load, outcome: &Outcome) -> Panel {
    let seen = &outcome.seen;
    let open = load.rate.is_some().then_some(("begin (late)", &seen.lateness));
    let all = [("logon", &seen.logon), ("first byte", &seen.first_byte), ("session", &seen.session)];
    let lines: Vec<Line> = all
        .into_iter()
        .chain(open)
        .zip(COLOURS)
        .filter(|((_, times), _)| times.count() > 0)
        .map(|((name, times), colour)| Line { name, colour, points: curve(times), dots: false })
        .collect();
    let last = lines.iter().filter_map(|line| line.points.last()).fold(1.0, |most: f64, (x, _)| most.max(*x));
    let ticks = NAMED.map(|(above, name)| (-above.log10(), name.to_owned()));
    let mut ticks: Vec<_> = ticks.into_iter().filter(|(at, _)| *at <= last + 1e-9).collect();
    // The last few are beyond what has a name.
    if ticks.last().is_some_and(|(at, _)| *at < last - 1e-9) {
        ticks.push((last, String::new()));
    }
    let values = || lines.iter().flat_map(|line| &line.points).map(|(_, y)| *y);
    let (least, most) = (values().fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max));
    let least = if least.is_finite() { least } else { 1.0 };
    Panel {
        title: "time by percentile".into(),
        x: Axis::named(ticks, false),
        y: Axis::decades(least, most, round_time),
        lines,
        mark: None,
    }
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

#[expect(clippy::cast_precision_loss, reason = "for a picture")]
fn over_time(outcome: &Outcome) -> Panel {
    let series = &outcome.seen.series;
    let counts = series.counts();
    // Some hundred steps are a line; more are a hedge.
    let each = counts.len().div_ceil(120).max(1);
    let step = series.step().as_secs_f64() * each as f64;
    let end = outcome.elapsed.as_secs_f64();
    let mut points = Vec::new();
    for (number, chunk) in counts.chunks(each).enumerate() {
        let from = number as f64 * step;
        // The last step may be cut short.
        let length = step.min(end - from);
        if length > step / 2.0 {
            points.push((from + length / 2.0, chunk.iter().sum::<u64>() as f64 / length));
        }
    }
    let most = points.iter().map(|(_, y)| *y).fold(0.0, f64::max);
    let line = Line { name: "succeeded", colour: COLOURS[0], points, dots: false };
    Panel {
        title: "sessions a second, over the seconds of the run".into(),
        x: Axis::linear(end, tick).up_to(end),
        y: Axis::linear(most, tick),
        lines: vec![line],
        mark: None,
    }
}
