//! One self-contained page about one run: verdict first, then the timeline, the answers, the evidence and the costs.
//!
//! Shows what a [`RunView`] holds and computes nothing; works offline, in light and dark, and without colour.

use std::fmt::Write as _;

use super::view::{Answer, RunView};

const WIDTH: f64 = 960.0;
const LEFT: f64 = 70.0;
const PLOT_HEIGHT: f64 = 160.0;
const LANE_HEIGHT: f64 = 24.0;
/// Mean width of a letter of a label.
const LETTER_WIDTH: f64 = 6.2;
/// Rows that the labels of moments take in turn.
const MARK_ROWS: usize = 3;

/// The page.
#[must_use]
pub fn page(view: &RunView) -> String {
    let mut html = String::with_capacity(32 * 1024);
    let title = escape(&format!("{} · seed {} · {}", view.scenario, view.seed, view.verdict));
    let _ = write!(
        html,
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>{title}</title><style>{STYLE}</style></head><body><main>"
    );
    header(&mut html, view);
    timeline(&mut html, view);
    answers(&mut html, view);
    table(&mut html, "What it cost", &view.costs);
    table(&mut html, "Run", &view.facts);
    html.push_str("</main></body></html>\n");
    html
}

fn header(html: &mut String, view: &RunView) {
    let _ = write!(
        html,
        "<header><p class=\"run\">run {} · seed {} · version {}</p><h1>{}</h1><p class=\"verdict {}\"><strong>{}</strong> {}</p><p>{}</p>",
        escape(&view.run),
        view.seed,
        escape(&view.version),
        escape(&view.title),
        escape(&view.verdict.to_lowercase()),
        escape(&view.verdict),
        escape(&view.headline),
        escape(&view.description),
    );
    html.push_str("<dl class=\"tiles\">");
    for (name, value) in &view.tiles {
        let _ = write!(html, "<div><dt>{}</dt><dd>{}</dd></div>", escape(name), escape(value));
    }
    html.push_str("</dl></header>");
}

fn timeline(html: &mut String, view: &RunView) {
    let end = view.duration_s.max(1.0);
    let x = |seconds: f64| LEFT + (WIDTH - LEFT - 10.0) * (seconds / end).clamp(0.0, 1.0);
    let lanes = view.lanes.len().max(1);
    #[expect(clippy::cast_precision_loss, reason = "a handful of lanes")]
    let height = 40.0 + PLOT_HEIGHT + 30.0 + lanes as f64 * LANE_HEIGHT + 48.0;
    let _ = write!(
        html,
        "<section><h2>Timeline</h2><svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"latency, errors, fault and answers over time\">"
    );
    for span in &view.spans {
        let (from, to) = (x(span.from_s), x(span.to_s));
        let _ = write!(
            html,
            "<rect class=\"span {}\" x=\"{from:.1}\" y=\"24\" width=\"{:.1}\" height=\"{:.1}\"/><text class=\"label\" x=\"{:.1}\" y=\"16\">{}</text>",
            escape(&span.class),
            (to - from).max(0.0),
            height - 72.0,
            from + 2.0,
            escape(&span.name),
        );
    }
    latency(html, view, &x);
    for (index, mark) in view.marks.iter().enumerate() {
        let at = x(mark.0);
        let y = height - 6.0 - f64::from(u8::try_from(MARK_ROWS - 1 - index % MARK_ROWS).unwrap_or(0)) * 13.0;
        let _ = write!(
            html,
            "<line class=\"mark\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"24\" y2=\"{:.1}\"/><text class=\"label\" x=\"{:.1}\" y=\"{y:.1}\">{} {:.1} s</text>",
            y - 10.0,
            at + 3.0,
            escape(&mark.1),
            mark.0,
        );
    }
    let top = 40.0 + PLOT_HEIGHT + 20.0;
    for (index, lane) in view.lanes.iter().enumerate() {
        #[expect(clippy::cast_precision_loss, reason = "a handful of lanes")]
        let y = top + index as f64 * LANE_HEIGHT;
        let _ = write!(
            html,
            "<text class=\"label\" x=\"0\" y=\"{:.1}\">{}</text>",
            y + 13.0,
            escape(&lane.name)
        );
        for (from_s, to_s, right, text) in &lane.spans {
            let (from, to) = (x(*from_s), x(*to_s));
            let class = if *right { "right" } else { "wrong" };
            let sign = if *right { "✓" } else { "✗" };
            let room = to - from;
            // What does not fit is told by the title, and by the sign where that fits.
            #[expect(clippy::cast_precision_loss, reason = "the length of a short text")]
            let label = match text.chars().count() as f64 * LETTER_WIDTH {
                width if width + 20.0 <= room => format!("{sign} {}", escape(text)),
                _ if room >= 14.0 => sign.to_owned(),
                _ => String::new(),
            };
            let _ = write!(
                html,
                "<g tabindex=\"0\"><title>{0}</title><rect class=\"answer {class}\" x=\"{from:.1}\" y=\"{y:.1}\" width=\"{1:.1}\" height=\"18\"/><text class=\"label\" x=\"{2:.1}\" y=\"{3:.1}\">{label}</text></g>",
                escape(text),
                room.max(2.0),
                from + 3.0,
                y + 13.0,
            );
        }
    }
    html.push_str("</svg></section>");
}

fn latency(html: &mut String, view: &RunView, x: &dyn Fn(f64) -> f64) {
    // A logarithmic axis: a healthy millisecond and a time-out of seconds are both to be seen.
    let top_us = view
        .seconds
        .iter()
        .map(|second| second.p99_us)
        .max()
        .unwrap_or(1)
        .max(1000);
    #[expect(clippy::cast_precision_loss, reason = "microseconds of at most minutes")]
    let log = |us: u64| (us.max(100) as f64 / 100.0).log10() / (top_us as f64 / 100.0).log10().max(0.1);
    let y = |us: u64| 30.0 + PLOT_HEIGHT * (1.0 - log(us).clamp(0.0, 1.0));
    for tick_us in [1_000, 10_000, 100_000, 1_000_000]
        .into_iter()
        .filter(|&tick| tick <= top_us)
    {
        let _ = write!(
            html,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{WIDTH}\" y1=\"{0:.1}\" y2=\"{0:.1}\"/><text class=\"label\" x=\"0\" y=\"{1:.1}\">{2} ms</text>",
            y(tick_us),
            y(tick_us) + 4.0,
            tick_us / 1000,
        );
    }
    for (class, value) in [
        ("p99", (|second| second.p99_us) as fn(&super::view::Second) -> u64),
        ("p50", |second| second.p50_us),
    ] {
        let points: Vec<String> = view
            .seconds
            .iter()
            .map(|second| format!("{:.1},{:.1}", x(second.at_s), y(value(second))))
            .collect();
        let _ = write!(html, "<polyline class=\"{class}\" points=\"{}\"/>", points.join(" "));
        if let Some(last) = view.seconds.last() {
            let _ = write!(
                html,
                "<text class=\"label\" x=\"{:.1}\" y=\"{:.1}\">{class}</text>",
                x(last.at_s) - 24.0,
                y(value(last)) - 4.0
            );
        }
    }
    for second in view.seconds.iter().filter(|second| second.errors > 0) {
        let _ = write!(
            html,
            "<text class=\"error\" x=\"{:.1}\" y=\"{:.1}\"><title>{} errors</title>✗</text>",
            x(second.at_s) - 4.0,
            34.0 + PLOT_HEIGHT,
            second.errors,
        );
    }
}

fn answers(html: &mut String, view: &RunView) {
    let _ = write!(html, "<section><h2>Answers</h2><p>Truth: {}</p>", escape(&view.truth));
    for answer in &view.answers {
        answer_block(html, answer);
    }
    html.push_str("</section>");
}

fn answer_block(html: &mut String, answer: &Answer) {
    let _ = write!(
        html,
        "<article><h3>{} <small>{}</small></h3>",
        escape(&answer.detector),
        escape(&answer.score)
    );
    if answer.candidates.is_empty() {
        html.push_str("<p>It named nothing.</p>");
    }
    html.push_str("<ol>");
    for candidate in &answer.candidates {
        let sign = if candidate.right { "✓ " } else { "" };
        let _ = write!(html, "<li>{sign}{}<ul>", escape(&candidate.text));
        for evidence in &candidate.evidence {
            let _ = write!(html, "<li>{}</li>", escape(evidence));
        }
        html.push_str("</ul></li>");
    }
    html.push_str("</ol></article>");
}

fn table(html: &mut String, title: &str, rows: &[(String, String)]) {
    if rows.is_empty() {
        return;
    }
    let _ = write!(html, "<section><h2>{}</h2><table>", escape(title));
    for (name, value) in rows {
        let _ = write!(
            html,
            "<tr><th scope=\"row\">{}</th><td>{}</td></tr>",
            escape(name),
            escape(value)
        );
    }
    html.push_str("</table></section>");
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

const STYLE: &str = "
:root{color-scheme:light dark;--ink:#1b1f24;--soft:#57606a;--paper:#fff;--line:#d0d7de;--good:#1a7f37;--bad:#b42318;--fault:#b4231822;--calm:#1a7f3712}
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--soft:#9da7b1;--paper:#0d1117;--line:#30363d;--good:#4ac26b;--bad:#ff8a80;--fault:#ff8a8022;--calm:#4ac26b14}}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main{max-width:60rem;margin:0 auto;padding:1.5rem}
h1{margin:.2rem 0;font-size:1.6rem}h2{margin-top:2rem;font-size:1.15rem}h3{margin:.8rem 0 .2rem;font-size:1rem}
small,.run{color:var(--soft);font-weight:400;font-size:.85rem;margin:0}
.verdict{font-size:1.15rem;border-left:.4rem solid var(--soft);padding-left:.7rem}
.verdict.pass{border-color:var(--good)}.verdict.fail{border-color:var(--bad)}
.tiles{display:flex;flex-wrap:wrap;gap:.6rem}.tiles div{border:1px solid var(--line);border-radius:.4rem;padding:.4rem .8rem;min-width:7rem}
.tiles dt{color:var(--soft);font-size:.8rem}.tiles dd{margin:0;font-size:1.15rem}
svg{width:100%;height:auto}.label{fill:var(--soft);font-size:11px}.error{fill:var(--bad);font-size:12px}
.grid{stroke:var(--line)}.mark{stroke:var(--ink);stroke-dasharray:3 3}
.span{fill:none}.span.baseline{fill:var(--calm)}.span.fault{fill:var(--fault)}
polyline{fill:none;stroke-width:1.8}.p99{stroke:var(--ink)}.p50{stroke:var(--soft);stroke-dasharray:5 3}
.answer{stroke:var(--soft);fill:none}.answer.right{fill:var(--good);fill-opacity:.25;stroke:var(--good)}.answer.wrong{fill:var(--bad);fill-opacity:.15;stroke:var(--bad);stroke-dasharray:4 2}
table{border-collapse:collapse}th,td{text-align:left;padding:.15rem 1rem .15rem 0;border-bottom:1px solid var(--line);font-weight:400;vertical-align:top}th{color:var(--soft)}
li ul{color:var(--soft);font-size:.92rem}
";
