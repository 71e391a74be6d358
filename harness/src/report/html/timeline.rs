//! The timeline: phases, moments, latency, load, faults and what each detector held, on one axis of seconds.

mod tables;

use std::fmt::Write as _;

use super::super::text::{markup, microseconds, signed_seconds};
use super::super::view::TimelineView;
use super::super::view::timeline::{LaneSpan, Second, Span};
use super::document::{details, drawing};
use super::plot::{Scale, fitted, label, line, polyline, rect, width_of};
use tables::{lanes_table, latency_text, seconds_table};

const WIDTH: f64 = 1000.0;
const LEFT: f64 = 104.0;
const RIGHT: f64 = 20.0;
const LATENCY_HEIGHT: f64 = 130.0;
const LOAD_HEIGHT: f64 = 84.0;
const LANE_HEIGHT: f64 = 26.0;
/// Space between panels.
const GAP: f64 = 34.0;
const FLAG_HEIGHT: f64 = 19.0;
/// Flags nearer than this stand in different rows.
const FLAG_WIDTH: f64 = 20.0;
/// Lowest latency of the axis: nothing that users wait for is quicker.
const LATENCY_MIN_US: f64 = 100.0;

/// Picks one of a second's latencies, microseconds.
type LatencyOf = fn(&Second) -> u64;

/// The drawing, what its letters mean, and its numbers as tables.
pub(super) fn timeline(view: &TimelineView) -> String {
    let mut html = moments(view);
    html += &chart(view);
    html += "<p class=\"key\"><span>p99 is the solid line, p50 the dashed one (logarithmic)</span> \
             <span>✓ and a plain bar: the true cause is at rank 1</span> \
             <span>✗ and a hatched bar: something else is</span></p>";
    html += &details("What each detector held at rank 1, as a table", &lanes_table(view));
    html += &details("Users' experience second by second, as a table", &seconds_table(view));
    html
}

/// `A`, `B`, …
fn letter(index: usize) -> char {
    char::from(b'A' + u8::try_from(index % 26).unwrap_or(0))
}

fn moments(view: &TimelineView) -> String {
    let mut html = String::from("<ol class=\"moments\">");
    for (index, moment) in view.moments.iter().enumerate() {
        let from_onset = moment
            .from_onset_s
            .map(|seconds| format!(" ({})", signed_seconds(seconds)));
        let from_onset = from_onset.unwrap_or_default();
        let _ = write!(
            html,
            "<li title=\"{}\"><b class=\"flag\">{}</b> {} <span class=\"soft\">{:.1} s{from_onset}</span></li>",
            markup(moment.meaning),
            letter(index),
            markup(&moment.name),
            moment.at_s,
        );
    }
    html + "</ol>"
}

fn chart(view: &TimelineView) -> String {
    let x = Scale::new((0.0, view.duration_s.max(1.0)), (LEFT, WIDTH - RIGHT));
    let mut svg = String::new();
    let flag_rows = flag_rows(view, &x);
    let rows = flag_rows.iter().max().map_or(0, |row| row + 1);
    #[expect(clippy::cast_precision_loss, reason = "a handful of rows")]
    let (top, faults, lanes) = (
        24.0 + rows as f64 * FLAG_HEIGHT + 6.0,
        view.faults.len() as f64 * LANE_HEIGHT,
        view.lanes.len().max(1) as f64 * LANE_HEIGHT,
    );
    let load_top = top + LATENCY_HEIGHT + GAP;
    let faults_top = load_top + LOAD_HEIGHT + GAP;
    let lanes_top = faults_top + faults + if view.faults.is_empty() { 0.0 } else { 8.0 };
    let bottom = lanes_top + lanes + 4.0;
    phases(&mut svg, view, &x, (top, bottom));
    latency(&mut svg, &view.seconds, &x, top);
    load(&mut svg, &view.seconds, &x, load_top);
    flags(&mut svg, view, &x, &flag_rows, bottom);
    for (index, fault) in view.faults.iter().enumerate() {
        fault_bar(&mut svg, fault, &x, faults_top, index);
    }
    for (index, lane) in view.lanes.iter().enumerate() {
        #[expect(clippy::cast_precision_loss, reason = "a handful of lanes")]
        let y = lanes_top + index as f64 * LANE_HEIGHT;
        label(
            &mut svg,
            "end strong",
            (LEFT - 8.0, y + 14.0),
            &fitted(&lane.name, LEFT - 12.0),
        );
        line(&mut svg, "grid", (LEFT, y + 10.0), (WIDTH - RIGHT, y + 10.0));
        for span in &lane.spans {
            answer_bar(&mut svg, span, &x, y);
        }
    }
    for tick in x.ticks(12.0) {
        line(&mut svg, "axis", (x.at(tick), bottom), (x.at(tick), bottom + 5.0));
        label(&mut svg, "middle", (x.at(tick), bottom + 18.0), &format!("{tick:.0}"));
    }
    label(&mut svg, "end", (LEFT - 8.0, bottom + 18.0), "seconds");
    drawing("Timeline", &spoken(view), WIDTH, bottom + 26.0, &svg)
}

fn spoken(view: &TimelineView) -> String {
    let moments: Vec<String> = view
        .moments
        .iter()
        .map(|moment| format!("{} at {:.1} s", moment.name, moment.at_s))
        .collect();
    format!(
        "{:.0} seconds of load. {}. The tables below hold the numbers.",
        view.duration_s,
        moments.join(", ")
    )
}

fn phases(svg: &mut String, view: &TimelineView, x: &Scale, (top, bottom): (f64, f64)) {
    for phase in &view.phases {
        let (from, to) = (x.at(phase.from_s), x.at(phase.to_s));
        if to - from < 1.0 {
            continue;
        }
        let title = format!("{}: {:.1} s to {:.1} s", phase.name, phase.from_s, phase.to_s);
        rect(
            svg,
            &format!("phase {}", phase.name),
            (from, top),
            (to - from, bottom - top),
            &title,
        );
        line(svg, "edge", (from, 4.0), (from, bottom));
        if width_of(&phase.name) < to - from {
            label(svg, "", (from + 4.0, 14.0), &phase.name);
        }
    }
}

/// In which row each flag stands so that none hides another.
fn flag_rows(view: &TimelineView, x: &Scale) -> Vec<usize> {
    let mut last_of_row: Vec<f64> = Vec::new();
    let mut rows = Vec::new();
    for moment in &view.moments {
        let at = x.at(moment.at_s);
        let row = last_of_row
            .iter()
            .position(|last| at - last >= FLAG_WIDTH)
            .unwrap_or(last_of_row.len());
        if row == last_of_row.len() {
            last_of_row.push(at);
        } else {
            last_of_row[row] = at;
        }
        rows.push(row);
    }
    rows
}

fn flags(svg: &mut String, view: &TimelineView, x: &Scale, rows: &[usize], bottom: f64) {
    for (index, (moment, row)) in view.moments.iter().zip(rows).enumerate() {
        #[expect(clippy::cast_precision_loss, reason = "a handful of rows")]
        let (at, y) = (x.at(moment.at_s), 22.0 + *row as f64 * FLAG_HEIGHT);
        line(svg, "mark", (at, y + 16.0), (at, bottom));
        let _ = write!(
            svg,
            "<g><title>{}: {:.2} s, {}</title><circle class=\"flag-disc\" cx=\"{at:.1}\" cy=\"{:.1}\" r=\"8\"/>",
            markup(&moment.name),
            moment.at_s,
            markup(moment.meaning),
            y + 8.0,
        );
        label(svg, "middle flag-letter", (at, y + 12.0), &letter(index).to_string());
        svg.push_str("</g>");
    }
}

fn latency(svg: &mut String, seconds: &[Second], x: &Scale, top: f64) {
    #[expect(clippy::cast_precision_loss, reason = "microseconds of at most minutes")]
    let us = |us: u64| (us as f64).max(LATENCY_MIN_US);
    // A logarithmic axis: a healthy millisecond and a time-out of seconds are both to be seen.
    let highest = seconds.iter().map(|second| us(second.p99_us)).fold(10_000.0, f64::max);
    let y = Scale::new(
        (LATENCY_MIN_US.log10(), highest.log10()),
        (top + LATENCY_HEIGHT, top + 6.0),
    );
    label(svg, "end strong", (LEFT - 8.0, top - 8.0), "latency");
    for power in 2..8 {
        let tick = 10_f64.powi(power);
        if tick <= highest {
            line(
                svg,
                "grid",
                (LEFT, y.at(tick.log10())),
                (WIDTH - RIGHT, y.at(tick.log10())),
            );
            label(svg, "end", (LEFT - 8.0, y.at(tick.log10()) + 4.0), &microseconds(tick));
        }
    }
    let lines: [(&str, LatencyOf); 2] = [("p50", |second| second.p50_us), ("p99", |second| second.p99_us)];
    // A second without any good answer has no latency: the line is broken there, not at its lowest.
    for stretch in seconds.split(|second| second.p99_us == 0) {
        for (class, value) in lines {
            let points = stretch
                .iter()
                .map(|second| (x.at(second.at_s), y.at(us(value(second)).log10())));
            polyline(svg, class, points);
        }
    }
    for second in seconds {
        let text = format!(
            "{:.0} s: p50 {}, p99 {}",
            second.at_s,
            latency_text(second.p50_us),
            latency_text(second.p99_us)
        );
        rect(
            svg,
            "touch",
            (x.at(second.at_s - 0.5), top),
            (x.at(second.at_s + 0.5) - x.at(second.at_s - 0.5), LATENCY_HEIGHT),
            &text,
        );
    }
}

/// Each second a bar of what was asked for: good answers plain, failed ones hatched on top; a line for the offered load.
fn load(svg: &mut String, seconds: &[Second], x: &Scale, top: f64) {
    #[expect(clippy::cast_precision_loss, reason = "requests of a second")]
    let value = |count: u64| count as f64;
    let highest = seconds
        .iter()
        .map(|second| value(second.sent.max(second.ok + second.errors)))
        .fold(1.0, f64::max);
    let y = Scale::new((0.0, highest), (top + LOAD_HEIGHT, top + 4.0));
    label(svg, "end strong", (LEFT - 8.0, top - 8.0), "requests/s");
    for tick in y.ticks(3.0) {
        line(svg, "grid", (LEFT, y.at(tick)), (WIDTH - RIGHT, y.at(tick)));
        label(svg, "end", (LEFT - 8.0, y.at(tick) + 4.0), &format!("{tick:.0}"));
    }
    for second in seconds {
        let (from, to) = (x.at(second.at_s - 1.0) + 1.0, x.at(second.at_s) - 1.0);
        let (good, all) = (y.at(value(second.ok)), y.at(value(second.ok + second.errors)));
        let title = format!(
            "{:.0} s: {} offered, {} good, {} failed",
            second.at_s, second.sent, second.ok, second.errors
        );
        rect(
            svg,
            "good-bar",
            (from, good),
            (to - from, top + LOAD_HEIGHT - good),
            &title,
        );
        if second.errors > 0 {
            rect(svg, "bad-bar", (from, all), (to - from, good - all), &title);
        }
    }
    let offered = seconds.iter().flat_map(|second| {
        let height = y.at(value(second.sent));
        [(x.at(second.at_s - 1.0), height), (x.at(second.at_s), height)]
    });
    polyline(svg, "offered", offered);
    if let Some(last) = seconds.last() {
        label(
            svg,
            "end halo",
            (WIDTH - RIGHT, y.at(value(last.sent)) - 5.0),
            "offered",
        );
    }
}

fn fault_bar(svg: &mut String, fault: &Span, x: &Scale, top: f64, index: usize) {
    #[expect(clippy::cast_precision_loss, reason = "a handful of faults")]
    let y = top + index as f64 * LANE_HEIGHT;
    let (from, to) = (x.at(fault.from_s), x.at(fault.to_s));
    label(svg, "end strong", (LEFT - 8.0, y + 14.0), "fault");
    let title = format!("{}: {:.1} s to {:.1} s", fault.name, fault.from_s, fault.to_s);
    rect(svg, "fault-bar", (from, y), ((to - from).max(2.0), 20.0), &title);
    // What does not fit into the bar stands beside it, on the side that has more room.
    let (before, after) = (from - LEFT, WIDTH - RIGHT - to);
    if width_of(&fault.name) + 10.0 <= to - from {
        label(svg, "on-bar", (from + 5.0, y + 14.0), &fault.name);
    } else if before > after {
        label(svg, "end halo", (from - 5.0, y + 14.0), &fitted(&fault.name, before));
    } else {
        label(svg, "halo", (to + 5.0, y + 14.0), &fitted(&fault.name, after));
    }
}

fn answer_bar(svg: &mut String, lane: &LaneSpan, x: &Scale, y: f64) {
    let (from, to) = (x.at(lane.span.from_s), x.at(lane.span.to_s));
    let (class, sign) = if lane.right { ("right", "✓") } else { ("wrong", "✗") };
    let title = format!(
        "{sign} {}: {:.1} s to {:.1} s",
        lane.span.name, lane.span.from_s, lane.span.to_s
    );
    rect(
        svg,
        &format!("answer {class}"),
        (from, y),
        ((to - from).max(2.0), 20.0),
        &title,
    );
    let text = format!("{sign} {}", lane.span.name);
    // What does not fit is in the table.
    let room = to - from - 8.0;
    if width_of(&text) <= room {
        label(svg, "halo", (from + 5.0, y + 14.0), &text);
    } else if room >= 8.0 {
        label(svg, "halo", (from + 4.0, y + 14.0), sign);
    }
}
