//! Numbers: how they grow, and how they are written.

/// A straight line through points, by least squares.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Slope {
    /// Growth of y for one x.
    pub slope: f64,
    /// Its standard error, made wider by how much each point resembles the one before it.
    pub error: f64,
    /// Points.
    pub points: usize,
}

impl Slope {
    /// The line through these points; `None` where they can't have one.
    pub fn through(points: &[(f64, f64)]) -> Option<Slope> {
        if points.len() < 4 {
            return None;
        }
        let count = points.len() as f64;
        let mean_x = points.iter().map(|(x, _)| x).sum::<f64>() / count;
        let mean_y = points.iter().map(|(_, y)| y).sum::<f64>() / count;
        let spread: f64 = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
        if spread <= 0.0 {
            return None;
        }
        let together: f64 = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
        let slope = together / spread;
        let rests: Vec<f64> = points.iter().map(|(x, y)| y - mean_y - slope * (x - mean_x)).collect();
        let squares: f64 = rests.iter().map(|rest| rest * rest).sum();
        // Memory moves in steps and stays there, so points are not independent: n of them are worth
        // n (1 - r) / (1 + r), with r the correlation of each with the next.
        let lagged: f64 = rests.iter().zip(rests.iter().skip(1)).map(|(a, b)| a * b).sum();
        let correlation = if squares > 0.0 { (lagged / squares).clamp(0.0, 0.99) } else { 0.0 };
        let wider = ((1.0 + correlation) / (1.0 - correlation)).sqrt();
        let error = (squares / (count - 2.0) / spread).sqrt() * wider;
        Some(Slope { slope, error, points: points.len() })
    }
}

/// A number with its thousands told apart.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes as MiB.
pub fn mib(bytes: u64) -> String {
    format!("{:.2} MiB", bytes as f64 / 1_048_576.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_straight_line_has_no_error() {
        let points: Vec<_> = (0..50).map(|x| (f64::from(x), 7.0 + 3.0 * f64::from(x))).collect();
        let line = Slope::through(&points).unwrap();
        assert!((line.slope - 3.0).abs() < 1e-9 && line.error < 1e-9, "{line:?}");
    }

    #[test]
    fn noise_alone_has_a_slope_within_its_error() {
        let noise = |x: u32| f64::from(x.wrapping_mul(2_654_435_761) >> 16);
        let points: Vec<_> = (0..400).map(|x| (f64::from(x), noise(x))).collect();
        let line = Slope::through(&points).unwrap();
        assert!(line.slope.abs() < 3.0 * line.error && line.error > 0.0, "{line:?}");
    }

    #[test]
    fn growth_is_seen_through_the_noise() {
        let noise = |x: u32| f64::from(x.wrapping_mul(2_654_435_761) >> 16);
        let points: Vec<_> = (0..400).map(|x| (f64::from(x), noise(x) + 1000.0 * f64::from(x))).collect();
        let line = Slope::through(&points).unwrap();
        assert!(line.slope > 10.0 * line.error, "{line:?}");
    }

    #[test]
    fn points_that_stay_where_they_are_count_for_less() {
        let steps: Vec<_> = (0..100).map(|x| (f64::from(x), f64::from(x / 25 % 2))).collect();
        let jumps: Vec<_> = (0..100).map(|x| (f64::from(x), f64::from(x % 2))).collect();
        let error = |points: &[(f64, f64)]| Slope::through(points).unwrap().error;
        assert!(error(&steps) > 3.0 * error(&jumps));
    }

    #[test]
    fn what_is_no_line_is_none() {
        assert_eq!(Slope::through(&[(1.0, 1.0); 10]), None);
        assert_eq!(Slope::through(&[(1.0, 1.0), (2.0, 2.0)]), None);
    }

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!(thousands(1_234_567), "1,234,567");
        assert_eq!(thousands(999), "999");
        assert_eq!(mib(1_572_864), "1.50 MiB");
    }
}
