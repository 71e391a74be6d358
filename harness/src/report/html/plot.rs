//! Scales, axes and letters that the drawings share.

use std::fmt::Write as _;

use super::super::text::markup;

/// Mean width of a letter in drawings.
const LETTER_WIDTH: f64 = 6.4;
/// The same in bold, on the safe side.
const BOLD_LETTER_WIDTH: f64 = 8.0;

/// Maps values of a range onto a range of the drawing, in a straight line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    from: f64,
    to: f64,
    start: f64,
    end: f64,
}

impl Scale {
    /// Maps `from..to` onto `start..end`. A range without length maps to its start.
    pub(super) const fn new((from, to): (f64, f64), (start, end): (f64, f64)) -> Self {
        Self { from, to, start, end }
    }

    /// Where `value` lies; what is outside lies at the edge.
    pub(super) fn at(&self, value: f64) -> f64 {
        let length = self.to - self.from;
        let share = if length > 0.0 {
            (value - self.from) / length
        } else {
            0.0
        };
        self.start + (self.end - self.start) * share.clamp(0.0, 1.0)
    }

    /// Round values within the range, at most about `count` of them.
    pub(super) fn ticks(&self, count: f64) -> Vec<f64> {
        let rough = (self.to - self.from).max(f64::MIN_POSITIVE) / count;
        let magnitude = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0]
            .map(|factor| factor * magnitude)
            .into_iter()
            .find(|step| *step >= rough);
        let step = step.unwrap_or(rough);
        let mut ticks = Vec::new();
        let mut tick = (self.from / step).ceil() * step;
        while tick <= self.to + step * 1e-6 {
            ticks.push(tick);
            tick += step;
        }
        ticks
    }
}

/// About how wide a text is.
#[expect(clippy::cast_precision_loss, reason = "the length of a short text")]
pub(super) fn width_of(text: &str) -> f64 {
    text.chars().count() as f64 * LETTER_WIDTH
}

/// A text, cut where its room ends. What is cut stands in a table or title beside.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the width of a drawing is positive and small"
)]
pub(super) fn fitted(text: &str, room: f64) -> String {
    let letters = (room / BOLD_LETTER_WIDTH).max(1.0) as usize;
    if text.chars().count() <= letters {
        return text.to_owned();
    }
    text.chars().take(letters - 1).chain(['…']).collect()
}

/// A label. `class` may set where `x` lies in it: `end` or `middle`.
pub(super) fn label(svg: &mut String, class: &str, (x, y): (f64, f64), text: &str) {
    let _ = write!(
        svg,
        "<text class=\"label {class}\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>",
        markup(text)
    );
}

/// A line.
pub(super) fn line(svg: &mut String, class: &str, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) {
    let _ = write!(
        svg,
        "<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>"
    );
}

/// A rectangle with a text for those who point at it.
pub(super) fn rect(svg: &mut String, class: &str, (x, y): (f64, f64), (width, height): (f64, f64), title: &str) {
    let (width, height) = (width.max(0.0), height.max(0.0));
    let _ = write!(
        svg,
        "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"><title>{}</title></rect>",
        markup(title)
    );
}

/// A line through points.
pub(super) fn polyline(svg: &mut String, class: &str, points: impl Iterator<Item = (f64, f64)>) {
    let _ = write!(svg, "<polyline class=\"{class}\" points=\"");
    for (x, y) in points {
        let _ = write!(svg, "{x:.1},{y:.1} ");
    }
    svg.push_str("\"/>");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_are_straight_and_end_at_their_edges() {
        let scale = Scale::new((0.0, 10.0), (100.0, 200.0));
        assert_eq!(
            [-1.0, 0.0, 5.0, 10.0, 99.0].map(|value| scale.at(value)),
            [100.0, 100.0, 150.0, 200.0, 200.0]
        );
        assert!((Scale::new((3.0, 3.0), (1.0, 2.0)).at(3.0) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn long_texts_are_cut_where_their_room_ends() {
        assert_eq!(fitted("cache", 64.0), "cache");
        assert_eq!(fitted("a-very-long-name", 64.0), "a-very-…");
        assert_eq!(fitted("name", 1.0), "…");
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(
            Scale::new((0.0, 31.0), (0.0, 1.0)).ticks(8.0),
            [0.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0]
        );
        assert_eq!(Scale::new((0.0, 1.0), (0.0, 1.0)).ticks(4.0).len(), 3);
    }
}
