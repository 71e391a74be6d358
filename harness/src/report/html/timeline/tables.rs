//! The timeline's numbers as tables, for those who cannot see the drawing or want to know exactly.

use super::super::super::text::microseconds;
use super::super::super::view::TimelineView;
use super::super::super::view::timeline::{LaneSpan, Second};
use super::super::table::{Cell, Tone, table};

pub(super) fn lanes_table(view: &TimelineView) -> String {
    let row = |name: &str, lane: &LaneSpan| -> Vec<Cell> {
        let (text, tone) = if lane.right {
            ("✓ right", Tone::Good)
        } else {
            ("✗ wrong", Tone::Bad)
        };
        vec![
            name.into(),
            format!("{:.1} s", lane.span.from_s).into(),
            format!("{:.1} s", lane.span.to_s).into(),
            lane.span.name.as_str().into(),
            Cell::toned(text, tone),
        ]
    };
    let rows: Vec<Vec<Cell>> = view
        .lanes
        .iter()
        .flat_map(|lane| lane.spans.iter().map(|span| row(&lane.name, span)))
        .collect();
    let html = table(
        "Rank 1 over time",
        &["detector", "from", "until", "rank 1", "judged"],
        &rows,
    );
    if html.is_empty() {
        "<p>No detector said anything.</p>".to_owned()
    } else {
        html
    }
}

pub(super) fn seconds_table(view: &TimelineView) -> String {
    let row = |second: &Second| -> Vec<Cell> {
        let tone = if second.errors > 0 { Tone::Bad } else { Tone::Plain };
        vec![
            format!("{:.0} s", second.at_s).into(),
            second.sent.to_string().into(),
            second.ok.to_string().into(),
            Cell::toned(second.errors.to_string(), tone),
            latency_text(second.p50_us).into(),
            latency_text(second.p99_us).into(),
        ]
    };
    let rows: Vec<Vec<Cell>> = view.seconds.iter().map(row).collect();
    table(
        "Users' experience, by the second that ended",
        &["second", "offered", "good", "failed", "p50", "p99"],
        &rows,
    )
}

/// A latency; `–` in a second that had no good answer.
#[expect(clippy::cast_precision_loss, reason = "microseconds of at most minutes")]
pub(super) fn latency_text(us: u64) -> String {
    match us {
        0 => "–".to_owned(),
        us => microseconds(us as f64),
    }
}
