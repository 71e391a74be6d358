//! The drawing of who calls whom, from left to right, with the suspects' ranks and the true cause on it.

use std::fmt::Write as _;

use super::super::text::{markup, microseconds};
use super::super::traffic::{Call, Rates};
use super::super::view::TopologyView;
use super::super::view::topology::{CallView, Marks, NodeView};
use super::document::drawing;
use super::plot::{fitted, label, rect};
use super::table::{Cell, Tone, table};

const BOX_WIDTH: f64 = 128.0;
const BOX_HEIGHT: f64 = 56.0;
/// From one layer's left side to the next one's; between them stand the numbers of the calls.
const LAYER_STEP: f64 = 252.0;
const ROW_STEP: f64 = 112.0;
const MARGIN: f64 = 34.0;
/// Room for a call's numbers.
const NUMBERS_WIDTH: f64 = 114.0;
const NUMBERS_LINE: f64 = 14.0;
/// Share of failures from which a call is drawn as failing: below it is what any busy system shows.
const FAILING_RATIO: f64 = 0.01;

/// The drawing, and its numbers as a table.
pub(super) fn topology(view: &TopologyView) -> String {
    if view.calls.is_empty() {
        return "<p>No call was recorded.</p>".to_owned();
    }
    let places = places(&view.boxes);
    let right = places.iter().map(|place| place.0).fold(0.0, f64::max);
    let low = places.iter().map(|place| place.1).fold(0.0, f64::max);
    let mut svg = String::new();
    for call in &view.calls {
        arrow(&mut svg, call, &places);
    }
    for (node, place) in view.boxes.iter().zip(&places) {
        service(&mut svg, node, *place);
    }
    let mut html = drawing(
        "Topology",
        &spoken(view),
        right + BOX_WIDTH + MARGIN,
        low + BOX_HEIGHT + MARGIN,
        &svg,
    );
    html += "<p class=\"key\"><span>number in a disc: rank at which the detector blames it</span> \
             <span>thick double frame: the true cause</span> <span>dashed arrow: calls fail</span> \
             <span>before the fault → during it</span></p>";
    for note in &view.notes {
        let _ = write!(html, "<p>{}</p>", markup(note));
    }
    html + &calls_table(view)
}

/// Left upper corners. Each layer is a column, centred on the tallest.
fn places(boxes: &[NodeView]) -> Vec<(f64, f64)> {
    let in_layer = |layer: usize| boxes.iter().filter(|one| one.layer == layer).count();
    let tallest = boxes.iter().map(|one| in_layer(one.layer)).max().unwrap_or(1);
    let mut places = Vec::new();
    for (index, node) in boxes.iter().enumerate() {
        let row = boxes[..index].iter().filter(|one| one.layer == node.layer).count();
        #[expect(clippy::cast_precision_loss, reason = "a handful of boxes")]
        let (column, row, free) = (node.layer as f64, row as f64, (tallest - in_layer(node.layer)) as f64);
        places.push((
            MARGIN / 2.0 + column * LAYER_STEP,
            MARGIN + (row + free / 2.0) * ROW_STEP,
        ));
    }
    places
}

fn spoken(view: &TopologyView) -> String {
    let marked = view.boxes.iter().filter(|one| one.marks != Marks::default());
    let marked: Vec<String> = marked
        .map(|one| format!("{}: {}", one.name, one.marks.text()))
        .collect();
    let calls = view.calls.iter().filter(|one| one.marks != Marks::default());
    let calls = calls.map(|one| format!("{} to {}: {}", one.call.caller, one.call.callee, one.marks.text()));
    let all: Vec<String> = marked.into_iter().chain(calls).collect();
    format!("{}. The table below holds the numbers.", all.join("; "))
}

fn service(svg: &mut String, node: &NodeView, (x, y): (f64, f64)) {
    let cause = if node.marks.cause { " cause" } else { "" };
    let _ = write!(
        svg,
        "<g><title>{}{}{}</title><rect class=\"box{cause}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{BOX_WIDTH}\" height=\"{BOX_HEIGHT}\" rx=\"8\"/>",
        markup(&node.name),
        if node.marks == Marks::default() { "" } else { ": " },
        markup(&node.marks.text()),
    );
    if node.marks.cause {
        let _ = write!(
            svg,
            "<rect class=\"box cause outer\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" rx=\"12\"/>",
            x - 5.0,
            y - 5.0,
            BOX_WIDTH + 10.0,
            BOX_HEIGHT + 10.0
        );
        label(svg, "middle strong halo", (x + BOX_WIDTH / 2.0, y - 12.0), "true cause");
    }
    let middle = x + BOX_WIDTH / 2.0;
    let below = match (node.pods.is_empty(), node.marks.decoy) {
        (false, _) => pods_text(&node.pods),
        (true, true) => "decoy".to_owned(),
        (true, false) => String::new(),
    };
    let name_y = if below.is_empty() {
        y + BOX_HEIGHT / 2.0 + 5.0
    } else {
        y + 24.0
    };
    // Names are written larger than numbers.
    label(
        svg,
        "middle name",
        (middle, name_y),
        &fitted(&node.name, BOX_WIDTH * 0.7),
    );
    label(svg, "middle small", (middle, y + 42.0), &fitted(&below, BOX_WIDTH));
    discs(svg, &node.marks, (x + 4.0, y));
    svg.push_str("</g>");
}

/// As many names as a box has room for.
fn pods_text(pods: &[String]) -> String {
    let named: Vec<&str> = pods.iter().take(2).map(String::as_str).collect();
    match pods.len() - named.len() {
        0 => named.join(", "),
        more => format!("{} +{more}", named.join(", ")),
    }
}

fn discs(svg: &mut String, marks: &Marks, (x, y): (f64, f64)) {
    for (index, rank) in marks.ranks.iter().enumerate() {
        #[expect(clippy::cast_precision_loss, reason = "at most five suspects")]
        let x = x + index as f64 * 24.0;
        let _ = write!(
            svg,
            "<circle class=\"flag-disc\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"11\"/>"
        );
        label(svg, "middle flag-letter", (x, y + 4.0), &rank.to_string());
    }
}

fn is_failing(rates: &Rates) -> bool {
    rates.failure_ratio().is_some_and(|ratio| ratio >= FAILING_RATIO)
}

fn arrow(svg: &mut String, call: &CallView, places: &[(f64, f64)]) {
    let (from, to) = (places[call.caller], places[call.callee]);
    let start = (from.0 + BOX_WIDTH, from.1 + BOX_HEIGHT / 2.0);
    let end = (to.0 - if call.marks.cause { 6.0 } else { 2.0 }, to.1 + BOX_HEIGHT / 2.0);
    let bend = ((end.0 - start.0) / 2.0).abs().max(60.0);
    let failing = if is_failing(&call.call.during) { " failing" } else { "" };
    let cause = if call.marks.cause { " cause" } else { "" };
    // Thicker by the decade: a busy call is seen beside a rare one, and both are seen.
    let width = 1.2
        + call
            .call
            .before
            .attempts_per_s
            .max(call.call.during.attempts_per_s)
            .max(1.0)
            .log10();
    let _ = write!(
        svg,
        "<path class=\"call{failing}{cause}\" style=\"stroke-width:{width:.1}px\" marker-end=\"url(#arrow)\" \
         d=\"M{:.1} {:.1}C{:.1} {:.1} {:.1} {:.1} {:.1} {:.1}\"><title>{} → {}</title></path>",
        start.0,
        start.1,
        start.0 + bend,
        start.1,
        end.0 - bend,
        end.1,
        end.0,
        end.1,
        markup(&call.call.caller.to_string()),
        markup(&call.call.callee.to_string()),
    );
    let mut lines = numbers(&call.call);
    lines.extend(call.marks.cause.then(|| "true cause".to_owned()));
    let middle = ((start.0 + end.0) / 2.0, (start.1 + end.1) / 2.0);
    #[expect(clippy::cast_precision_loss, reason = "at most four lines")]
    let height = lines.len() as f64 * NUMBERS_LINE + 4.0;
    let (left, top) = (middle.0 - NUMBERS_WIDTH / 2.0, middle.1 - height / 2.0);
    // The numbers interrupt their arrow: so it is seen whose they are.
    rect(
        svg,
        "ground",
        (left, top),
        (NUMBERS_WIDTH, height),
        &call_text(&call.call),
    );
    for (index, text) in lines.iter().enumerate() {
        #[expect(clippy::cast_precision_loss, reason = "at most four lines")]
        let y = top + 13.0 + index as f64 * NUMBERS_LINE;
        let class = if index == 0 { "middle strong" } else { "middle" };
        label(svg, class, (middle.0, y), text);
    }
    discs(svg, &call.marks, (left, top));
}

fn call_text(call: &Call) -> String {
    format!("{} → {}", call.caller, call.callee)
}

/// A call's numbers in lines that fit between two layers.
fn numbers(call: &Call) -> Vec<String> {
    let mut lines = vec![format!(
        "{:.0} → {:.0} /s",
        call.before.attempts_per_s, call.during.attempts_per_s
    )];
    if let (Some(before), Some(during)) = (call.before.p50_us, call.during.p50_us) {
        lines.push(format!("{} → {}", microseconds(before), microseconds(during)));
    }
    if is_failing(&call.during) {
        lines.push(format!("✗ {} failed", percent(&call.during)));
    }
    lines
}

fn percent(rates: &Rates) -> String {
    rates
        .failure_ratio()
        .map_or_else(|| "–".to_owned(), |ratio| format!("{:.0} %", ratio * 100.0))
}

fn calls_table(view: &TopologyView) -> String {
    let p50 = |rates: &Rates| rates.p50_us.map_or_else(|| "–".to_owned(), microseconds);
    let row = |call: &Call, marks: String| -> Vec<Cell> {
        let (before, during) = (&call.before, &call.during);
        let tone = if is_failing(during) { Tone::Bad } else { Tone::Plain };
        vec![
            call_text(call).into(),
            format!("{:.1}/s", before.attempts_per_s).into(),
            format!("{:.1}/s", during.attempts_per_s).into(),
            percent(before).into(),
            Cell::toned(percent(during), tone),
            p50(before).into(),
            p50(during).into(),
            marks.into(),
        ]
    };
    let drawn = view.calls.iter().map(|call| row(&call.call, call.marks.text()));
    let others = view
        .undrawn
        .iter()
        .map(|call| row(call, "not drawn: of a node itself".to_owned()));
    let rows: Vec<Vec<Cell>> = drawn.chain(others).collect();
    table(
        "Calls discovered by the probes; failed: unanswered, answered with an error, or not connected",
        &[
            "call",
            "before",
            "during",
            "failed before",
            "failed during",
            "p50 before",
            "p50 during",
            "marks",
        ],
        &rows,
    )
}
