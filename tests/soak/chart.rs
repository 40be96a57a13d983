//! The picture: small multiples over time, one for each thing that must come back to its baseline.

use crate::report::Run;
use crate::sample::Look;
use crate::stats::thousands;
use plimsoll::load::axis::Axis;
use plimsoll::load::svg::{Colour, Line, Panel, picture};

/// Height of a panel: all five of them are seen at once.
const PLOT: f64 = 96.0;

/// Points of one line at most: a day has more than a screen.
const COLUMNS: usize = 800;

/// Takes out of a look what a panel shows.
type Of = fn(&Look) -> Option<f64>;

/// What is shown: name, unit, colour, and where it comes from.
const PANELS: [(&str, &str, Colour, Of); 5] = [
    ("sessions", "", Colour::Blue, |l| Some(l.sockets?.sessions as f64)),
    ("threads", "", Colour::Purple, |l| Some(l.threads as f64)),
    ("descriptors", "", Colour::Green, |l| Some(l.descriptors as f64)),
    ("resident memory", " MiB", Colour::Brown, |l| Some(mib(l.resident))),
    ("kernel memory", " MiB", Colour::Red, |l| Some(mib(l.kernel))),
];

/// Draws the run.
pub fn svg(run: &Run) -> String {
    let mut panels: Vec<_> = PANELS.into_iter().map(|what| panel(run, what)).collect();
    if let Some(last) = panels.last_mut() {
        last.x_name = "seconds since the server started";
    }
    let title = format!("plimsoll under {} logons, half of the clients hostile", thousands(run.logons()));
    let note = format!(
        "seed {}; dotted: the baseline; dashed: all clients are killed at once, {} to zero sessions",
        run.seed,
        run.zero_after.map_or("never".into(), |time| format!("{:.2} s", time.as_secs_f64())),
    );
    picture(&title, &[note], &panels)
}

fn panel(run: &Run, (name, unit, colour, of): (&'static str, &'static str, Colour, Of)) -> Panel {
    let all = [&run.baseline, &run.end].into_iter().chain(&run.looks);
    let mut points: Vec<_> = all.filter_map(|look| Some((look.at, of(look)?))).collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    let baseline = of(&run.baseline).unwrap_or(0.0);
    let highest = points.iter().map(|(_, y)| *y).fold(baseline, f64::max);
    let last = points.last().map_or(0.0, |(_, y)| *y);
    let said = |value: f64| format!("{}{unit}", figure(value));
    let end = run.looks.last().map_or(run.end.at, |look| look.at.max(run.end.at));
    let line = Line { name: "", colour, points: thin(&points), dots: false };
    Panel {
        note: format!("baseline {}, peak {}, end {}", said(baseline), said(highest), said(last)),
        level: Some((baseline, String::new())),
        mark: Some((run.death.at, String::new())),
        height: PLOT,
        ..Panel::new(
            name,
            (Axis::span(run.baseline.at, end, figure), ""),
            Axis::linear(highest.max(1.0), 3.0, said),
            vec![line],
        )
    }
}

/// The least and the greatest of each column, so that no peak is lost.
fn thin(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let each = points.len().div_ceil(COLUMNS / 2).max(1);
    if each <= 2 {
        return points.to_vec();
    }
    points
        .chunks(each)
        .flat_map(|chunk| {
            let by_value = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
            let (least, greatest) = (chunk.iter().min_by(by_value), chunk.iter().max_by(by_value));
            let mut both: Vec<_> = least.into_iter().chain(greatest).copied().collect();
            both.sort_by(|a, b| a.0.total_cmp(&b.0));
            both
        })
        .collect()
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}

/// A number with as many places as it needs.
fn figure(value: f64) -> String {
    if value >= 100.0 || value.fract().abs() < 1e-9 { format!("{value:.0}") } else { format!("{value:.1}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinning_keeps_the_extremes() {
        let mut points: Vec<_> = (0..10_000).map(|x| (f64::from(x), 5.0)).collect();
        points[7777].1 = 99.0;
        points[8888].1 = 0.0;
        let thin = thin(&points);
        assert!(thin.len() <= COLUMNS + 2);
        assert!(thin.contains(&(7777.0, 99.0)) && thin.contains(&(8888.0, 0.0)));
        assert!(thin.is_sorted_by(|a, b| a.0 <= b.0));
    }
}
