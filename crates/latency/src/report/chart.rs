//! A frame with two axes, and the numbers on them.

use super::svg::{Anchor, Svg};
use crate::words::grouped;

/// Width of every chart.
pub(super) const WIDTH: f64 = 760.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 20.0;

/// Where a plot lies, and what its edges stand for.
pub(super) struct Frame {
    /// Values at the left and the right edge.
    pub(super) x: (f64, f64),
    /// Powers of ten at the bottom and the top edge.
    pub(super) decades: (i32, i32),
    /// Top and bottom edge in the drawing.
    pub(super) place: (f64, f64),
}

impl Frame {
    /// The drawing's x of this value.
    pub(super) fn at_x(&self, value: f64) -> f64 {
        let (first, last) = self.x;
        LEFT + (value - first) / (last - first).max(f64::MIN_POSITIVE) * (WIDTH - LEFT - RIGHT)
    }

    /// The drawing's y of this value on the scale of powers of ten; the bottom for what lies below.
    pub(super) fn at_y(&self, value: f64) -> f64 {
        let (low, high) = (f64::from(self.decades.0), f64::from(self.decades.1));
        let power = if value > 0.0 { value.log10().clamp(low, high) } else { low };
        let (top, bottom) = self.place;
        bottom - (power - low) / (high - low).max(1.0) * (bottom - top)
    }

    /// The plot's edges in the drawing: left and right.
    pub(super) const fn sides() -> (f64, f64) {
        (LEFT, WIDTH - RIGHT)
    }

    /// Draws the numbers below and their lines.
    pub(super) fn draw_x(&self, svg: &mut Svg, title: &str) {
        let (top, bottom) = self.place;
        let step = step(self.x.1 - self.x.0, 8.0);
        let mut value = (self.x.0 / step).ceil() * step;
        while value <= self.x.1 + step * 1e-6 {
            let x = self.at_x(value);
            svg.line("grid", (x, top), (x, bottom));
            svg.text("number", (x, bottom + 17.0), Anchor::Middle, &plain(value, step));
            value += step;
        }
        svg.line("axis", (LEFT, bottom), (WIDTH - RIGHT, bottom));
        svg.text("title", ((LEFT + WIDTH - RIGHT) / 2.0, bottom + 36.0), Anchor::Middle, title);
    }

    /// Draws the powers of ten at the left and their lines; `label` words them.
    pub(super) fn draw_decades(&self, svg: &mut Svg, label: impl Fn(i32) -> String) {
        for power in self.decades.0..=self.decades.1 {
            let y = self.at_y(10_f64.powi(power));
            svg.line("grid", (LEFT, y), (WIDTH - RIGHT, y));
            svg.text("number", (LEFT - 8.0, y + 4.0), Anchor::End, &label(power));
        }
    }
}

/// A step of 1, 2 or 5 times a power of ten that divides `range` into at most `parts`.
fn step(range: f64, parts: f64) -> f64 {
    let rough = (range / parts).max(f64::MIN_POSITIVE);
    let power = 10_f64.powf(rough.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0];
    steps.into_iter().map(|s| s * power).find(|s| *s >= rough * (1.0 - 1e-9)).unwrap_or(rough)
}

/// A number of an axis: as many decimals as its step needs.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn plain(value: f64, step: f64) -> String {
    let decimals = (-step.log10().floor()).max(0.0) as usize;
    // The axes of a report begin at 0 or above.
    if decimals == 0 { grouped(value.round() as u64) } else { format!("{value:.decimals$}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_those_that_people_count_in() {
        let steps = [(45.0, 10.0), (8.0, 1.0), (5.0, 1.0), (0.3, 0.05), (18_429.0, 5000.0)];
        for (range, expected) in steps {
            let found = step(range, 8.0);
            assert!((found / expected - 1.0).abs() < 1e-9, "{range}: {found}");
        }
        assert_eq!((plain(0.15, 0.05), plain(15_000.0, 5000.0)), ("0.15".into(), "15,000".into()));
    }
}
