//! Pictures: panels with axes and lines, one below the other, as SVG.
//!
//! Colours follow what the reader prefers, dark or light. Nothing is drawn outside of the picture: a text
//! that is too long is cut in its middle.

use std::fmt::Write;

use super::axis::Axis;

const WIDTH: f64 = 960.0;
const LEFT: f64 = 84.0;
const RIGHT: f64 = 36.0;
/// Where the first note stands below the title, and how far apart notes are.
const NOTES: f64 = 48.0;
const NOTE: f64 = 16.0;
/// Height of what is drawn in a panel, unless it says otherwise.
const PLOT: f64 = 172.0;
/// Above what is drawn: the title of the panel, and below that what its mark means.
const INSET: f64 = 38.0;
/// Below it: the names at the axis, and what the axis is.
const NAMES: f64 = 26.0;
const AXIS_NAME: f64 = 16.0;
/// Between two panels.
const GAP: f64 = 20.0;
/// Characters that fit a line: of the title, and of a note.
const TITLE_MAX: usize = 80;
const NOTE_MAX: usize = 126;
/// What else is dark on light, and light on dark: classes with their colours.
const INKS: [(&str, &str, &str); 6] = [
    ("paper", "fill", "#15181c"),
    ("ink", "fill", "#e6e6e6"),
    ("soft", "fill", "#a8adb3"),
    ("grid", "stroke", "#343a41"),
    ("tick", "stroke", "#7d848c"),
    ("mark", "stroke", "#e6e6e6"),
];

/// Colours that can be told apart, by the colour-blind too, on white and on black.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    /// The first.
    Blue,
    /// The second.
    Brown,
    /// The third.
    Green,
    /// The fourth.
    Purple,
    /// The last.
    Red,
}

impl Colour {
    /// All of them.
    pub const ALL: [Colour; 5] = [Colour::Blue, Colour::Brown, Colour::Green, Colour::Purple, Colour::Red];

    /// The letter of its class, and how it looks on white and on black.
    fn look(self) -> (char, &'static str, &'static str) {
        match self {
            Colour::Blue => ('b', "#1b6ca8", "#6cb2eb"),
            Colour::Brown => ('n', "#b5541c", "#f0975a"),
            Colour::Green => ('g', "#0f7f6e", "#4cc7b0"),
            Colour::Purple => ('p', "#7a4fa3", "#b794e0"),
            Colour::Red => ('r', "#a3324e", "#f07f9b"),
        }
    }

    /// As the attributes of a line.
    fn stroke(self) -> String {
        let (letter, light, _) = self.look();
        format!("class=\"s{letter}\" stroke=\"{light}\"")
    }

    /// As the attributes of a text or a dot.
    fn fill(self) -> String {
        let (letter, light, _) = self.look();
        format!("class=\"f{letter}\" fill=\"{light}\"")
    }
}

/// A line in a panel.
#[derive(Debug, Clone)]
pub struct Line {
    /// Its name.
    pub name: &'static str,
    /// Its colour.
    pub colour: Colour,
    /// Its points, in order.
    pub points: Vec<(f64, f64)>,
    /// Whether each point is marked.
    pub dots: bool,
}

/// A panel.
#[derive(Debug, Clone)]
pub struct Panel {
    /// What it shows, and in which unit.
    pub title: String,
    /// What else is to be said, behind the names of the lines.
    pub note: String,
    /// What runs to the right.
    pub x: Axis,
    /// What that is, and in which unit; empty where the panel below says it.
    pub x_name: &'static str,
    /// What runs upwards.
    pub y: Axis,
    /// Its lines.
    pub lines: Vec<Line>,
    /// Where a dotted line lies, and what it means.
    pub level: Option<(f64, String)>,
    /// Where a dashed line stands, and what it means.
    pub mark: Option<(f64, String)>,
    /// Height of what is drawn.
    pub height: f64,
}

impl Panel {
    /// A panel with nothing but lines.
    #[must_use]
    pub fn new(title: impl Into<String>, (x, x_name): (Axis, &'static str), y: Axis, lines: Vec<Line>) -> Self {
        let (title, note) = (title.into(), String::new());
        Self { title, note, x, x_name, y, lines, level: None, mark: None, height: PLOT }
    }

    /// Room that it takes, that below it included.
    fn room(&self) -> f64 {
        INSET + self.height + NAMES + if self.x_name.is_empty() { 0.0 } else { AXIS_NAME } + GAP
    }
}

/// The whole picture.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "a few notes")]
pub fn picture(title: &str, notes: &[String], panels: &[Panel]) -> String {
    let head = NOTES + NOTE * notes.len() as f64 + 6.0;
    let height = panels.iter().fold(head, |height, panel| height + panel.room());
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" font-family=\"system-ui, sans-serif\" font-size=\"12\" class=\"ink\" fill=\"#333\" \
         role=\"img\">\n<title>{}</title>\n<style>{}</style>\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" class=\"paper\" fill=\"#fff\"/>\n\
         <text x=\"{LEFT}\" y=\"28\" font-size=\"17\" font-weight=\"600\">{}</text>\n",
        escaped(title),
        dark(),
        escaped(&shortened(title, TITLE_MAX)),
    );
    for (number, note) in notes.iter().enumerate() {
        let y = NOTES + NOTE * number as f64;
        let _ = writeln!(out, "{}", soft(LEFT, y, "start", &shortened(note, NOTE_MAX)));
    }
    let mut top = head;
    for panel in panels {
        draw(&mut out, panel, top);
        top += panel.room();
    }
    out.push_str("</svg>\n");
    out
}

/// The rules for those who prefer dark.
fn dark() -> String {
    let mut out = "@media (prefers-color-scheme: dark) {".to_owned();
    for (class, what, colour) in INKS {
        let _ = write!(out, " .{class} {{ {what}: {colour} }}");
    }
    for (letter, _, colour) in Colour::ALL.map(Colour::look) {
        let _ = write!(out, " .s{letter} {{ stroke: {colour} }} .f{letter} {{ fill: {colour} }}");
    }
    out + " }"
}

/// A text that is not the main thing.
fn soft(x: f64, y: f64, anchor: &str, text: &str) -> String {
    format!(
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" class=\"soft\" fill=\"#666\">{}</text>",
        escaped(text)
    )
}

fn draw(out: &mut String, panel: &Panel, top: f64) {
    let (floor, right) = (top + INSET + panel.height, WIDTH - RIGHT);
    let x = |value: f64| LEFT + panel.x.share(value) * (right - LEFT);
    let y = |value: f64| floor - panel.y.share(value) * panel.height;
    draw_head(out, panel, top);
    for (value, name) in &panel.y.ticks {
        let at = y(*value);
        let _ = writeln!(
            out,
            "<line x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\" class=\"grid\" stroke=\"#e4e4e4\"/>{}",
            soft(LEFT - 8.0, at + 4.0, "end", name)
        );
    }
    for (value, name) in &panel.x.ticks {
        let at = x(*value);
        let _ = writeln!(
            out,
            "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{floor}\" y2=\"{}\" class=\"tick\" stroke=\"#999\"/>{}",
            floor + 4.0,
            soft(at, floor + 18.0, "middle", name)
        );
    }
    if !panel.x_name.is_empty() {
        let _ = writeln!(out, "{}", soft(f64::midpoint(LEFT, right), floor + 34.0, "middle", panel.x_name));
    }
    let colour = panel.lines.first().map_or(Colour::Blue, |line| line.colour);
    if let Some((value, meaning)) = &panel.level {
        let at = y(*value);
        // The text stands where the mark does not.
        let marked_left = panel.mark.as_ref().is_some_and(|(at, _)| panel.x.share(*at) < 0.5);
        let (anchor, beside) = if marked_left { ("end", right) } else { ("start", LEFT + 6.0) };
        let _ = writeln!(
            out,
            "<line x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\" {} stroke-width=\"1.5\" \
             stroke-dasharray=\"1 4\"/>{}",
            colour.stroke(),
            soft(beside, at - 5.0, anchor, meaning)
        );
    }
    if let Some((value, meaning)) = &panel.mark {
        let at = x(*value);
        // The text stands above the lines, and on the side that has room for it.
        let anchor = if panel.x.share(*value) > 0.5 { "end" } else { "start" };
        let (first, above) = (top + INSET, top + INSET - 5.0);
        let _ = writeln!(
            out,
            "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{first}\" y2=\"{floor}\" class=\"mark\" stroke=\"#333\" \
             stroke-dasharray=\"5 4\"/><text x=\"{at:.1}\" y=\"{above}\" text-anchor=\"{anchor}\">{}</text>",
            escaped(meaning)
        );
    }
    for line in &panel.lines {
        draw_line(out, line, x, y);
    }
}

/// The title, the names of the lines, and the note.
fn draw_head(out: &mut String, panel: &Panel, top: f64) {
    let title = escaped(&panel.title);
    let _ = write!(out, "<text x=\"{LEFT}\" y=\"{}\"><tspan font-weight=\"600\">{title}</tspan>", top + 14.0);
    for line in panel.lines.iter().filter(|line| !line.name.is_empty()) {
        let (fill, name) = (line.colour.fill(), escaped(line.name));
        let _ = write!(out, "<tspan dx=\"14\" {fill} font-weight=\"600\">{name}</tspan>");
    }
    if !panel.note.is_empty() {
        let note = escaped(&panel.note);
        let _ = write!(out, "<tspan dx=\"14\" class=\"soft\" fill=\"#666\">{note}</tspan>");
    }
    out.push_str("</text>\n");
}

fn draw_line(out: &mut String, line: &Line, x: impl Fn(f64) -> f64, y: impl Fn(f64) -> f64) {
    let points: Vec<String> = line.points.iter().map(|(a, b)| format!("{:.1},{:.1}", x(*a), y(*b))).collect();
    let _ = writeln!(
        out,
        "<polyline fill=\"none\" {} stroke-width=\"1.8\" stroke-linejoin=\"round\" points=\"{}\"/>",
        line.colour.stroke(),
        points.join(" ")
    );
    for (a, b) in line.points.iter().filter(|_| line.dots) {
        let _ = writeln!(out, "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3.2\" {}/>", x(*a), y(*b), line.colour.fill());
    }
}

/// A text of at most so many characters: the middle of a longer one is left out.
fn shortened(text: &str, most: usize) -> String {
    let characters: Vec<char> = text.chars().collect();
    if characters.len() <= most {
        return text.to_owned();
    }
    let half = (most - 1) / 2;
    let (first, last) = (characters.iter().take(half), characters.iter().skip(characters.len() - half));
    first.chain([&'…']).chain(last).collect()
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
    use crate::load::axis::tick;

    fn panel() -> Panel {
        let line = Line { name: "a", colour: Colour::Blue, points: vec![(0.0, 0.0), (1.0, 1.0)], dots: true };
        let axis = Axis::linear(1.0, 4.0, tick);
        Panel::new("<b>", (axis.clone(), "x & y"), axis, vec![line])
    }

    #[test]
    fn texts_are_escaped_and_lines_are_drawn() {
        let mark = Some((1.0, "&".to_owned()));
        let (one, two) = (Panel { mark, ..panel() }, Panel { level: Some((0.5, "half".into())), ..panel() });
        let picture = picture("ftp://h/\"\u{1}", &["1 < 2".into()], &[one, two]);
        for part in ["ftp://h/&quot;?", "&lt;b&gt;", ">&amp;<", ">1 &lt; 2<", "x &amp; y", ">half<"] {
            assert!(picture.contains(part), "{part} is not in {picture}");
        }
        assert_eq!((picture.matches("<polyline").count(), picture.matches("<circle").count()), (2, 4));
        assert_eq!((picture.matches("\"1 4\"").count(), picture.matches("\"5 4\"").count()), (1, 1));
    }

    #[test]
    fn whatever_has_a_colour_has_one_for_the_dark_as_well() {
        let (mark, level) = (Some((1.0, "m".to_owned())), Some((1.0, "l".to_owned())));
        let picture = picture("t", &["n".into()], &[Panel { mark, level, note: "n".into(), ..panel() }]);
        let elements = picture.split('<').filter(|part| part.contains("=\"#"));
        for element in elements {
            let class = element.split("class=\"").nth(1).and_then(|rest| rest.split('"').next());
            let rule = format!(" .{} {{ ", class.unwrap_or_else(|| panic!("no class in {element}")));
            assert!(picture.contains(&rule), "{rule} is not in {picture}");
        }
    }

    #[test]
    fn a_text_that_is_too_long_is_cut_in_its_middle() {
        assert_eq!((shortened("abcdefgh", 8), shortened("abcdefghi", 7)), ("abcdefgh".into(), "abc…ghi".into()));
        let long = "ä".repeat(3000);
        let text = picture(&long, std::slice::from_ref(&long), &[]);
        let shown: Vec<_> = text.lines().filter(|line| line.starts_with("<text")).collect();
        assert!(shown.len() == 2 && shown.iter().all(|line| line.chars().count() < 300), "{text}");
    }
}
