//! Axes of pictures: where values lie on them, and what stands beside them. Draws nothing.

use super::words::figure;

/// One axis: where a value lies on it, from 0 to 1, and where its names stand.
#[derive(Debug, Clone)]
pub struct Axis {
    from: f64,
    to: f64,
    logarithmic: bool,
    /// Where names stand, and which.
    pub(super) ticks: Vec<(f64, String)>,
}

impl Axis {
    /// From 0 to at least `most`, in about so many steps that are easy to count.
    #[must_use]
    pub fn linear(most: f64, steps: f64, name: impl Fn(f64) -> String) -> Self {
        let step = nice(most.max(1e-6) / steps);
        let count = (most / step - 1e-9).ceil().max(1.0);
        let mut ticks = Vec::new();
        let mut number = 0.0;
        while number <= count {
            ticks.push((number * step, name(number * step)));
            number += 1.0;
        }
        Self { from: 0.0, to: count * step, logarithmic: false, ticks }
    }

    /// From one value to another exactly, with names at steps that are easy to count.
    #[must_use]
    pub fn span(from: f64, to: f64, name: impl Fn(f64) -> String) -> Self {
        let step = nice((to - from).max(1e-6) / 8.0);
        // What is added makes -0 a 0.
        let mut number = (from / step - 1e-9).ceil() + 0.0;
        let mut ticks = Vec::new();
        while number * step <= to + 1e-9 {
            ticks.push((number * step, name(number * step)));
            number += 1.0;
        }
        Self { from, to: to.max(from + 1e-6), logarithmic: false, ticks }
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

    /// Where a value lies; one beyond an end lies at that end.
    pub(super) fn share(&self, value: f64) -> f64 {
        let scale = |value: f64| if self.logarithmic { value.max(1e-9).ln() } else { value };
        let (from, to) = (scale(self.from), scale(self.to));
        ((scale(value) - from) / (to - from).max(1e-9)).clamp(0.0, 1.0)
    }
}

/// A number at an axis.
#[must_use]
pub fn tick(value: f64) -> String {
    match (value * 100.0).round() / 100.0 {
        v if v.fract().abs() < 1e-9 => format!("{v:.0}"),
        v if (v * 10.0).fract().abs() < 1e-9 => format!("{v:.1}"),
        v => figure(v),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_put_values_where_they_belong() {
        let names = |axis: &Axis| axis.ticks.iter().map(|(_, name)| name.clone()).collect::<Vec<_>>();
        let linear = Axis::linear(107.0, 4.0, tick);
        assert_eq!(names(&linear), ["0", "50", "100", "150"]);
        assert!((linear.share(75.0) - 0.5).abs() < 1e-9 && linear.share(999.0) <= 1.0);
        assert_eq!(Axis::linear(0.0, 4.0, tick).ticks.len(), 2);
        assert_eq!(names(&Axis::linear(100.0, 4.0, tick)), ["0", "50", "100"]);
        let decades = Axis::decades(0.2, 30.0, tick);
        assert_eq!(decades.ticks.len(), 4);
        assert!((decades.share(1.0) - 1.0 / 3.0).abs() < 1e-9 && decades.share(0.0).abs() < 1e-9);
        let powers = Axis::named([1.0, 2.0, 4.0].map(|at| (at, tick(at))).to_vec(), true);
        assert!((powers.share(2.0) - 0.5).abs() < 1e-9);
        let span = Axis::span(7.0, 17.0, tick);
        assert_eq!(names(&span), ["8", "10", "12", "14", "16"]);
        assert!((span.share(12.0) - 0.5).abs() < 1e-9);
        assert_eq!(names(&Axis::span(0.0, 3.0, tick)), ["0", "0.5", "1", "1.5", "2", "2.5", "3"]);
        assert_eq!(names(&Axis::span(0.0, 0.0, tick)), ["0"]);
    }

    #[test]
    fn steps_of_an_axis_are_easy_to_count() {
        for (value, step) in [(0.7, 1.0), (1.0, 1.0), (1.1, 2.0), (33.0, 50.0), (107.0, 200.0), (0.04, 0.05)] {
            assert!((nice(value) - step).abs() < 1e-9, "{value}: {}", nice(value));
        }
    }
}
