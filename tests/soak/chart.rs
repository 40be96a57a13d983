//! The picture: small multiples over time, one for each thing that must come back to its baseline.

use crate::report::Run;
use crate::sample::Look;
use crate::stats::thousands;
use std::fmt::Write;

const WIDTH: f64 = 960.0;
const LEFT: f64 = 86.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 74.0;
const PANEL: f64 = 150.0;
const PLOT: f64 = 96.0;

/// Points of one line at most: a day has more than a screen.
const COLUMNS: usize = 800;

/// Takes out of a look what a panel shows.
type Of = fn(&Look) -> Option<f64>;

/// What a panel shows.
struct Panel {
    name: &'static str,
    colour: &'static str,
    points: Vec<(f64, f64)>,
    baseline: f64,
    unit: &'static str,
}

/// Draws the run.
pub fn svg(run: &Run) -> String {
    let series = |of: Of| {
        let all = [&run.baseline, &run.end].into_iter().chain(&run.looks);
        let mut points: Vec<_> = all.filter_map(|look| Some((look.at, of(look)?))).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        thin(&points)
    };
    let panels: [(_, _, Of, _); 5] = [
        ("sessions", "#1b6ca8", |l| Some(l.sockets?.sessions as f64), ""),
        ("threads", "#7a4fa3", |l| Some(l.threads as f64), ""),
        ("descriptors", "#0f7f6e", |l| Some(l.descriptors as f64), ""),
        ("resident memory", "#b5541c", |l| Some(mib(l.resident)), " MiB"),
        ("kernel memory", "#a3324e", |l| Some(mib(l.kernel)), " MiB"),
    ];
    let panels = panels.map(|(name, colour, of, unit)| Panel {
        name,
        colour,
        points: series(of),
        baseline: of(&run.baseline).unwrap_or(0.0),
        unit,
    });
    let last = run.looks.last().map_or(0.0, |look| look.at);
    let (from, to) = (run.baseline.at, run.end.at.max(last));
    let height = TOP + PANEL * panels.len() as f64 + 34.0;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" font-family=\"system-ui, sans-serif\" font-size=\"12\" fill=\"#333\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>\n\
         <text x=\"{LEFT}\" y=\"28\" font-size=\"17\" font-weight=\"600\">plimsoll under {} logons, half of the clients \
         hostile</text>\n\
         <text x=\"{LEFT}\" y=\"48\" fill=\"#666\">seed {}; dotted: the baseline; dashed: all clients are killed at \
         once, {} to zero sessions</text>\n",
        thousands(run.logons()),
        run.seed,
        run.zero_after.map_or("never".into(), |time| format!("{:.2} s", time.as_secs_f64())),
    );
    for (number, panel) in panels.iter().enumerate() {
        draw(&mut out, panel, TOP + PANEL * number as f64, (from, to), run.death.at);
    }
    let bottom = TOP + PANEL * panels.len() as f64 + 6.0;
    let _ = writeln!(
        out,
        "<text x=\"{}\" y=\"{bottom}\" text-anchor=\"middle\" fill=\"#666\">seconds since the server started</text>\n</svg>",
        (LEFT + WIDTH - RIGHT) / 2.0
    );
    out
}

fn draw(out: &mut String, panel: &Panel, top: f64, (from, to): (f64, f64), death: f64) {
    let highest = panel.points.iter().map(|(_, y)| *y).fold(panel.baseline, f64::max);
    let step = nice(highest.max(1.0) / 3.0);
    let most = (highest.max(1.0) / step).ceil() * step;
    let x = |at: f64| LEFT + (at - from) / (to - from).max(1e-9) * (WIDTH - LEFT - RIGHT);
    let (first, floor) = (top + 22.0, top + 22.0 + PLOT);
    let y = |value: f64| floor - value / most * PLOT;
    let right = WIDTH - RIGHT;
    let last = panel.points.last().map_or(0.0, |(_, y)| *y);
    let said = |value: f64| format!("{}{}", figure(value), panel.unit);
    let _ = writeln!(
        out,
        "<text x=\"{LEFT}\" y=\"{}\"><tspan font-weight=\"600\" fill=\"{}\">{}</tspan>\
         <tspan fill=\"#666\" dx=\"10\">baseline {}, peak {}, end {}</tspan></text>",
        top + 12.0,
        panel.colour,
        panel.name,
        said(panel.baseline),
        said(highest),
        said(last),
    );
    let mut line = 0.0;
    while line <= most + step / 2.0 {
        let at = y(line);
        let _ = writeln!(
            out,
            "<line x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#e4e4e4\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#666\">{}{}</text>",
            LEFT - 8.0,
            at + 4.0,
            figure(line),
            panel.unit,
        );
        line += step;
    }
    let tick = nice((to - from) / 8.0);
    let mut second = (from / tick).ceil() * tick;
    while second <= to {
        let at = x(second);
        let _ = writeln!(
            out,
            "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{floor}\" y2=\"{}\" stroke=\"#999\"/>\
             <text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\" fill=\"#666\">{}</text>",
            floor + 4.0,
            floor + 17.0,
            figure(second),
        );
        second += tick;
    }
    let (base, dead) = (y(panel.baseline), x(death));
    let points = panel.points.iter().map(|(at, value)| format!("{:.1},{:.1}", x(*at), y(*value)));
    let _ = writeln!(
        out,
        "<line x1=\"{LEFT}\" x2=\"{right}\" y1=\"{base:.1}\" y2=\"{base:.1}\" stroke=\"{0}\" stroke-dasharray=\"1 4\" \
         stroke-width=\"1.5\"/>\
         <line x1=\"{dead:.1}\" x2=\"{dead:.1}\" y1=\"{first}\" y2=\"{floor}\" stroke=\"#333\" stroke-dasharray=\"5 4\"/>\
         <polyline fill=\"none\" stroke=\"{0}\" stroke-width=\"1.5\" stroke-linejoin=\"round\" points=\"{1}\"/>",
        panel.colour,
        points.collect::<Vec<_>>().join(" "),
    );
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

/// The next of 1, 2, 5, 10, ...
fn nice(value: f64) -> f64 {
    let power = 10f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
    steps.into_iter().find(|step| *step >= value * 0.999).unwrap_or(10.0 * power)
}

/// A number with as many places as it needs.
fn figure(value: f64) -> String {
    if value >= 100.0 || value.fract().abs() < 1e-9 { format!("{value:.0}") } else { format!("{value:.1}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_of_an_axis_are_easy_to_count() {
        for (value, step) in [(0.7, 1.0), (1.0, 1.0), (1.1, 2.0), (33.0, 50.0), (107.0, 200.0), (0.04, 0.05)] {
            assert!((nice(value) - step).abs() < 1e-9, "{value}: {}", nice(value));
        }
    }

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
