//! Pictures: panels with axes and lines, one below the other, as SVG.

use std::fmt::Write;

use super::words::figure;

const WIDTH: f64 = 960.0;
const LEFT: f64 = 84.0;
const RIGHT: f64 = 36.0;
const HEAD: f64 = 70.0;
/// Height of a panel, with its title and the names at its axis, and of what is drawn in it.
const PANEL: f64 = 250.0;
const PLOT: f64 = 172.0;
/// Where in a panel that begins.
const INSET: f64 = 34.0;

/// Colours that can be told apart, by the colour-blind too.
pub const COLOURS: [&str; 4] = ["#1b6ca8", "#b5541c", "#0f7f6e", "#7a4fa3"];

/// One axis: where a value lies on it, from 0 to 1, and where its names stand.
#[derive(Debug, Clone)]
pub struct Axis {
    from: f64,
    to: f64,
    logarithmic: bool,
    ticks: Vec<(f64, String)>,
}

impl Axis {
    /// From 0 to at least `most`, in steps that are easy to count.
    #[must_use]
    pub fn linear(most: f64, name: impl Fn(f64) -> String) -> Self {
        let step = nice(most.max(1e-6) / 4.0);
        let count = (most / step).ceil().max(1.0);
        let mut ticks = Vec::new();
        let mut number = 0.0;
        while number <= count {
            ticks.push((number * step, name(number * step)));
            number += 1.0;
        }
        Self { from: 0.0, to: count * step, logarithmic: false, ticks }
    }

    /// The same, but ending at this value.
    #[must_use]
    pub fn up_to(mut self, end: f64) -> Self {
        self.ticks.retain(|(at, _)| *at <= end);
        Self { to: end, ..self }
    }

    /// With these names, and nothing beyond the first and the last of them.
    #[must_use]
    pub fn named(ticks: Vec<(f64, String)>, logarithmic: bool) -> Self {
        let from = ticks.first().map_or(0.0, |(at, _)| *at);
        let to = ticks.last().map_or(1.0, |(at, _)| *at);
        Self { from, to, logarithmic, ticks }
    }

    /// Powers of ten around these values, both of which must be above 0.
    #[must_use]
    pub fn decades(least: f64, most: f64, name: impl Fn(f64) -> String) -> Self {
        let mut exponent = least.max(1e-6).log10().floor();
        let last = most.max(least).max(1e-6).log10().ceil().max(exponent + 1.0);
        let mut ticks = Vec::new();
        while exponent <= last {
            let at = 10_f64.powf(exponent);
            ticks.push((at, name(at)));
            exponent += 1.0;
        }
        Self::named(ticks, true)
    }

    fn share(&self, value: f64) -> f64 {
        let scale = |value: f64| if self.logarithmic { value.max(1e-9).ln() } else { value };
        let (from, to) = (scale(self.from), scale(self.to));
        ((scale(value) - from) / (to - from).max(1e-9)).clamp(0.0, 1.0)
    }
}

/// A line in a panel.
#[derive(Debug, Clone)]
pub struct Line {
    /// Its name.
    pub name: &'static str,
    /// Its colour.
    pub colour: &'static str,
    /// Its points, in order.
    pub points: Vec<(f64, f64)>,
    /// Whether each point is marked.
    pub dots: bool,
}

/// A panel.
#[derive(Debug, Clone)]
pub struct Panel {
    /// What it shows.
    pub title: String,
    /// What runs to the right.
    pub x: Axis,
    /// What runs upwards.
    pub y: Axis,
    /// Its lines.
    pub lines: Vec<Line>,
    /// Where a dashed line stands, and what it means.
    pub mark: Option<(f64, String)>,
}

/// The whole picture.
#[must_use]
pub fn picture(title: &str, subtitle: &str, panels: &[Panel]) -> String {
    let height = panels.iter().fold(HEAD + 12.0, |height, _| height + PANEL);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" font-family=\"system-ui, sans-serif\" font-size=\"12\" fill=\"#333\" role=\"img\">\n\
         <title>{0}</title>\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>\n\
         <text x=\"{LEFT}\" y=\"28\" font-size=\"17\" font-weight=\"600\">{0}</text>\n\
         <text x=\"{LEFT}\" y=\"48\" fill=\"#666\">{1}</text>\n",
        escaped(title),
        escaped(subtitle),
    );
    let mut top = HEAD;
    for panel in panels {
        draw(&mut out, panel, top);
        top += PANEL;
    }
    out.push_str("</svg>\n");
    out
}

fn draw(out: &mut String, panel: &Panel, top: f64) {
    let (first, floor, right) = (top + INSET, top + INSET + PLOT, WIDTH - RIGHT);
    let x = |value: f64| LEFT + panel.x.share(value) * (right - LEFT);
    let y = |value: f64| floor - panel.y.share(value) * PLOT;
    let _ = write!(
        out,
        "<text x=\"{LEFT}\" y=\"{}\"><tspan font-weight=\"600\">{}</tspan>",
        top + 14.0,
        escaped(&panel.title)
    );
    for line in &panel.lines {
        let _ =
            write!(out, "<tspan dx=\"14\" fill=\"{}\" font-weight=\"600\">{}</tspan>", line.colour, escaped(line.name));
    }
    out.push_str("</text>\n");
    for (value, name) in &panel.y.ticks {
        let at = y(*value);
        let _ = writeln!(
            out,
            "<line x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#e4e4e4\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#666\">{}</text>",
            LEFT - 8.0,
            at + 4.0,
            escaped(name)
        );
    }
    for (value, name) in &panel.x.ticks {
        let at = x(*value);
        let _ = writeln!(
            out,
            "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{floor}\" y2=\"{}\" stroke=\"#999\"/>\
             <text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\" fill=\"#666\">{}</text>",
            floor + 4.0,
            floor + 18.0,
            escaped(name)
        );
    }
    if let Some((value, meaning)) = &panel.mark {
        let at = x(*value);
        // The text stands on the side that has room for it.
        let (anchor, beside) = if panel.x.share(*value) > 0.6 { ("end", at - 6.0) } else { ("start", at + 6.0) };
        let _ = writeln!(
            out,
            "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{first}\" y2=\"{floor}\" stroke=\"#333\" stroke-dasharray=\"5 4\"/>\
             <text x=\"{beside:.1}\" y=\"{}\" text-anchor=\"{anchor}\">{}</text>",
            first + 11.0,
            escaped(meaning)
        );
    }
    for line in &panel.lines {
        let points: Vec<String> = line.points.iter().map(|(a, b)| format!("{:.1},{:.1}", x(*a), y(*b))).collect();
        let _ = writeln!(
            out,
            "<polyline fill=\"none\" stroke=\"{}\" stroke-width=\"1.8\" stroke-linejoin=\"round\" points=\"{}\"/>",
            line.colour,
            points.join(" ")
        );
        for (a, b) in line.points.iter().filter(|_| line.dots) {
            let _ =
                writeln!(out, "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3.2\" fill=\"{}\"/>", x(*a), y(*b), line.colour);
        }
    }
}

/// A number at an axis.
#[must_use]
pub fn tick(value: f64) -> String {
    if value.fract().abs() < 1e-9 { format!("{value:.0}") } else { figure(value) }
}

/// A time in milliseconds that is a power of ten, at an axis.
#[must_use]
pub fn round_time(milliseconds: f64) -> String {
    match milliseconds {
        m if m < 0.999 => format!("{:.0} µs", m * 1000.0),
        m if m < 999.0 => format!("{m:.0} ms"),
        m => format!("{:.0} s", m / 1000.0),
    }
}

/// The next of 1, 2, 5, 10, ...
fn nice(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
    steps.into_iter().find(|step| *step >= value * 0.999).unwrap_or(10.0 * power)
}

/// A text in XML.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            control if control.is_control() => out.push('?'),
            plain => out.push(plain),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_put_values_where_they_belong() {
        let linear = Axis::linear(107.0, tick);
        let names: Vec<_> = linear.ticks.iter().map(|(_, name)| name.as_str()).collect();
        assert_eq!(names, ["0", "50", "100", "150"]);
        assert!((linear.share(75.0) - 0.5).abs() < 1e-9 && linear.share(999.0) <= 1.0);
        assert_eq!(Axis::linear(0.0, tick).ticks.len(), 2);
        let decades = Axis::decades(0.2, 30.0, tick);
        assert_eq!(decades.ticks.len(), 4);
        assert!((decades.share(1.0) - 1.0 / 3.0).abs() < 1e-9 && decades.share(0.0).abs() < 1e-9);
        let powers = Axis::named([1.0, 2.0, 4.0].map(|at| (at, tick(at))).to_vec(), true);
        assert!((powers.share(2.0) - 0.5).abs() < 1e-9);
    }

    #[test]
    fn texts_are_escaped_and_lines_are_drawn() {
        let line = Line { name: "a", colour: COLOURS[0], points: vec![(0.0, 0.0), (1.0, 1.0)], dots: true };
        let axis = Axis::linear(1.0, tick);
        let panel =
            Panel { title: "<b>".into(), x: axis.clone(), y: axis, lines: vec![line], mark: Some((1.0, "&".into())) };
        let picture = picture("ftp://h/\"\u{1}", "x", &[panel.clone(), panel]);
        assert!(picture.contains("ftp://h/&quot;?") && picture.contains("&lt;b&gt;") && picture.contains(">&amp;<"));
        assert_eq!((picture.matches("<polyline").count(), picture.matches("<circle").count()), (2, 4));
    }
}
