//! Distributions of times: a strip of marks for each scenario, and curves of those still waiting for each detector.

use std::fmt::Write as _;

use super::super::super::suite::times::{Curve, Strip, TimesView};
use super::super::super::text::{self, seconds_of};
use super::super::document::{details, drawing};
use super::super::plot::{Scale, fitted, label, line, polyline, width_of};
use super::super::table::{Cell, Tone, table};
use crate::score::moments::TimeTo;
use crate::score::summary::{self, Quantile};

const WIDTH: f64 = 1000.0;
const LEFT: f64 = 220.0;
const RIGHT: f64 = 20.0;
const STRIP_HEIGHT: f64 = 24.0;
const CURVES_HEIGHT: f64 = 200.0;
/// From one name of a curve to the next.
const NAME_HEIGHT: f64 = 14.0;
/// Curves that have a stroke of their own.
const STROKES: usize = 4;

/// Earliest time of the axis, seconds: a frame is 0.2 s long, so nothing much earlier can be told apart.
const EARLIEST_S: f64 = 0.05;
const TICKS_S: [f64; 11] = [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0];

/// A logarithmic axis of seconds: half a second and a quarter of a minute are both to be seen.
struct TimeAxis {
    scale: Scale,
    longest_s: f64,
}

impl TimeAxis {
    fn new(longest_s: f64) -> Self {
        Self {
            scale: Scale::new((EARLIEST_S.log10(), longest_s.log10()), (LEFT, WIDTH - RIGHT)),
            longest_s,
        }
    }

    fn at(&self, seconds: f64) -> f64 {
        self.scale.at(seconds.max(EARLIEST_S).log10())
    }

    fn ticks(&self) -> impl Iterator<Item = f64> {
        let longest_s = self.longest_s;
        TICKS_S.into_iter().filter(move |tick| *tick <= longest_s)
    }
}

/// Both drawings of one kind of time, with their numbers.
pub(super) fn times(view: &TimesView) -> String {
    let longest = view
        .strips
        .iter()
        .flat_map(|strip| &strip.times)
        .map(|time| seconds_of(end_ns(time)))
        .chain(view.curves.iter().flat_map(|curve| &curve.steps).map(|step| step.0))
        .fold(1.0, f64::max);
    let x = TimeAxis::new(longest);
    let mut html = format!("<h3>{} <span class=\"soft\">{}</span></h3>", view.name, view.meaning);
    if view.strips.is_empty() {
        return html + "<p>No run that counts had a fault.</p>";
    }
    html += &strips(view, &x);
    html += "<p class=\"key\"><span>○ a run that reached it</span> <span>▷ a run that had not when watching ended</span> \
             <span>| the median (Kaplan–Meier)</span></p>";
    html += &curves(view, &x);
    html + &details("The times, as a table", &numbers(&view.strips))
}

fn end_ns(time: &TimeTo) -> u64 {
    match time {
        TimeTo::Reached { after_ns } => *after_ns,
        TimeTo::NotReached { observed_for_ns } => *observed_for_ns,
    }
}

fn axis(svg: &mut String, x: &TimeAxis, bottom: f64) {
    for tick in x.ticks() {
        line(svg, "grid", (x.at(tick), 4.0), (x.at(tick), bottom));
        label(svg, "middle", (x.at(tick), bottom + 16.0), &tick.to_string());
    }
    label(svg, "end", (LEFT - 10.0, bottom + 16.0), "seconds from onset");
}

fn strips(view: &TimesView, x: &TimeAxis) -> String {
    let mut svg = String::new();
    #[expect(clippy::cast_precision_loss, reason = "a handful of scenarios")]
    let bottom = 8.0 + view.strips.len() as f64 * STRIP_HEIGHT;
    axis(&mut svg, x, bottom);
    for (index, strip) in view.strips.iter().enumerate() {
        #[expect(clippy::cast_precision_loss, reason = "a handful of scenarios")]
        let y = 8.0 + (index as f64 + 0.5) * STRIP_HEIGHT;
        label(
            &mut svg,
            "end strong",
            (LEFT - 10.0, y + 4.0),
            &fitted(&strip.scenario, LEFT - 20.0),
        );
        line(&mut svg, "grid", (LEFT, y), (WIDTH - RIGHT, y));
        for (run, time) in strip.times.iter().enumerate() {
            mark(&mut svg, time, x, y, run);
        }
        if let Quantile::At { after_ns } = summary::times(strip.times.iter().copied()).median {
            let at = x.at(seconds_of(after_ns));
            line(&mut svg, "median", (at, y - 10.0), (at, y + 10.0));
        }
    }
    let description = format!("{} of each run, by scenario", view.name);
    drawing(
        &format!("{}, run by run", view.name),
        &description,
        WIDTH,
        bottom + 24.0,
        &svg,
    )
}

fn mark(svg: &mut String, time: &TimeTo, x: &TimeAxis, y: f64, run: usize) {
    let at = x.at(seconds_of(end_ns(time)));
    // Equal times lie beside each other, not on each other.
    let y = y + [0.0, -4.0, 4.0, -2.0, 2.0][run % 5];
    let title = text::time(*time);
    let _ = match time {
        TimeTo::Reached { .. } => write!(
            svg,
            "<circle class=\"dot\" cx=\"{at:.1}\" cy=\"{y:.1}\" r=\"4\"><title>{title}</title></circle>"
        ),
        TimeTo::NotReached { .. } => write!(
            svg,
            "<path class=\"censored\" d=\"M{:.1} {:.1}l9 5l-9 5z\"><title>{title}</title></path>",
            at - 9.0,
            y - 5.0
        ),
    };
}

fn curves(view: &TimesView, x: &TimeAxis) -> String {
    let mut svg = String::new();
    let bottom = CURVES_HEIGHT + 8.0;
    let y = Scale::new((0.0, 1.0), (bottom, 24.0));
    axis(&mut svg, x, bottom);
    for share in [0.0, 0.25, 0.5, 0.75, 1.0] {
        line(&mut svg, "grid", (LEFT, y.at(share)), (WIDTH - RIGHT, y.at(share)));
        label(
            &mut svg,
            "end",
            (LEFT - 10.0, y.at(share) + 4.0),
            &format!("{:.0} %", share * 100.0),
        );
    }
    label(&mut svg, "end strong", (LEFT - 10.0, 12.0), "still waiting");
    for (index, curve) in view.curves.iter().enumerate() {
        let points = stairs(&curve.steps)
            .into_iter()
            .map(|(at, share)| (x.at(at), y.at(share)));
        polyline(&mut svg, &format!("curve{}", index % STROKES), points);
    }
    curve_names(&mut svg, &view.curves, x, &y);
    let ends: Vec<String> = view
        .curves
        .iter()
        .map(|curve| format!("{}: {:.0} % never reached it", curve.detector, end_share(curve) * 100.0))
        .collect();
    drawing(
        &format!("{}: share of runs still waiting", view.name),
        &ends.join("; "),
        WIDTH,
        bottom + 24.0,
        &svg,
    )
}

/// Each curve's name at its end; names of curves that end together stand below each other.
fn curve_names(svg: &mut String, curves: &[Curve], x: &TimeAxis, y: &Scale) {
    let mut ordered: Vec<&Curve> = curves.iter().collect();
    ordered.sort_by(|one, other| end_share(other).total_cmp(&end_share(one)));
    let mut heights: Vec<f64> = Vec::new();
    for curve in &ordered {
        let below_last = heights.last().map_or(f64::NEG_INFINITY, |last| last + NAME_HEIGHT);
        heights.push((y.at(end_share(curve)) - 5.0).max(below_last));
    }
    // What was moved out at the bottom moves the others up.
    let mut limit = y.at(0.0) - 5.0;
    for height in heights.iter_mut().rev() {
        *height = height.min(limit);
        limit = *height - NAME_HEIGHT;
    }
    for (curve, height) in ordered.into_iter().zip(heights) {
        let Some((end, share)) = curve.steps.last() else {
            continue;
        };
        let text = format!("{} {:.0} %", curve.detector, share * 100.0);
        let at = x.at(*end).max(LEFT + width_of(&text) + 4.0);
        label(svg, "end halo", (at, height), &text);
    }
}

fn end_share(curve: &Curve) -> f64 {
    curve.steps.last().map_or(1.0, |step| step.1)
}

/// Steps, not slopes: between two ends nothing happens.
fn stairs(steps: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut points = Vec::new();
    for (index, &(at, share)) in steps.iter().enumerate() {
        points.extend(index.checked_sub(1).map(|before| (at, steps[before].1)));
        points.push((at, share));
    }
    points
}

fn numbers(strips: &[Strip]) -> String {
    let row = |strip: &Strip| -> Vec<Cell> {
        let times = summary::times(strip.times.iter().copied());
        let each: Vec<String> = strip.times.iter().map(|time| text::time(*time)).collect();
        let mean_s = times.restricted_mean_ns.map(|ns| ns / 1e9);
        let tone = if times.reached == times.count {
            Tone::Plain
        } else {
            Tone::Bad
        };
        vec![
            strip.scenario.as_str().into(),
            Cell::toned(format!("{}/{}", times.reached, times.count), tone),
            text::quantile(times.median).into(),
            text::quantile(times.p90).into(),
            text::optional(mean_s).into(),
            each.join(", ").into(),
        ]
    };
    let rows: Vec<Vec<Cell>> = strips.iter().map(row).collect();
    table(
        "Times; the mean is restricted: each time counts until watching ended",
        &["scenario", "reached", "median", "p90", "restricted mean, s", "each run"],
        &rows,
    )
}
