//! The page of a suite: verdict and figures, the matrix, tables with intervals, distributions, confusion, comparison.

mod distributions;
mod gate;
mod matrix;

use std::fmt::Write as _;

use super::super::suite::SuiteView;
use super::super::suite::comparison::Comparison;
use super::super::suite::group::Group;
use super::super::text::{self, markup};
use super::document::{Section, document, tiles, verdict};
use super::table::{Cell, Tone, pairs, table};
use crate::score::summary::Summary;

/// The page.
#[must_use]
pub fn page(view: &SuiteView) -> String {
    let mut sections = vec![
        Section {
            id: "matrix",
            title: "Scenarios × trials",
            body: matrix::matrix(&view.matrix),
        },
        Section {
            id: "scores",
            title: "Scores with intervals",
            body: format!("<div class=\"figures\">{}</div>", scores(view)),
        },
        Section {
            id: "times",
            title: "Distributions of times",
            body: view.times.iter().map(distributions::times).collect(),
        },
        Section {
            id: "confusion",
            title: "Mechanisms: true × said",
            body: matrix::confusion(&view.confusion),
        },
        Section {
            id: "validity",
            title: "Validity and failures",
            body: validity(view),
        },
    ];
    if view.comparison.is_some() || view.gate.is_some() {
        let gate = view.gate.as_ref().map(gate::gate).unwrap_or_default();
        let body = view.comparison.as_ref().map(comparison).unwrap_or_default();
        sections.insert(
            1,
            Section {
                id: "baseline",
                title: "Beside the baseline",
                body: gate + &body,
            },
        );
    }
    sections.push(Section {
        id: "run",
        title: "Circumstances and seeds",
        body: pairs("The suite", &view.facts) + &seeds(&view.scenarios),
    });
    let name = text::verdict(view.verdict).to_uppercase();
    let title = format!("{} · {} · {name}", view.suite, view.detector);
    let header = format!(
        "<p class=\"soft\">suite · {} · version {}</p><h1>{}</h1>{}{}",
        markup(&view.detector),
        markup(&view.version),
        markup(&view.suite),
        verdict(&name, text::verdict_sign(view.verdict), &view.headline),
        tiles(&view.tiles),
    );
    document(&title, &header, &sections)
}

/// Figures of one detector, the columns of every table of scores.
const FIGURES: [&str; 7] = [
    "valid",
    "right at rank 1",
    "AC@1 entity",
    "TTD median",
    "TTRC median (p90)",
    "decoys",
    "false alarms",
];

fn figures(summary: &Summary) -> Vec<Cell> {
    let alarms = &summary.false_alarms;
    vec![
        format!("{}/{}", summary.valid.hits, summary.valid.of).into(),
        text::proportion(&summary.correct).into(),
        text::optional(summary.ac_at_1_entity).into(),
        text::quantile(summary.time_to_detect.median).into(),
        format!(
            "{} ({})",
            text::quantile(summary.time_to_root_cause.median),
            text::quantile(summary.time_to_root_cause.p90)
        )
        .into(),
        summary.decoys.hits.to_string().into(),
        format!("{} in {:.2} h", alarms.count, alarms.hours).into(),
    ]
}

fn scores(view: &SuiteView) -> String {
    let overall: Vec<Vec<Cell>> = view
        .detectors
        .iter()
        .zip(&view.overall)
        .map(|(name, summary)| {
            let more = [summary.ac_at_1, summary.avg5, summary.mrr, summary.placebo_gap]
                .map(|value| text::optional(value).into());
            std::iter::once(Cell::from(name.as_str()))
                .chain(figures(summary))
                .chain(more)
                .collect()
        })
        .collect();
    let mut head = vec!["detector"];
    head.extend(FIGURES);
    head.extend(["AC@1", "Avg@5", "MRR", "placebo gap"]);
    let caption = "All cases; shares with 95 % intervals (Wilson); AC@1, Avg@5 and MRR are means over scenarios";
    table(caption, &head, &overall)
        + &groups("Each scenario", "scenario", &view.scenarios, &view.detectors)
        + &groups(
            "Each class and application",
            "class × app",
            &view.classes,
            &view.detectors,
        )
}

fn groups(caption: &str, what: &str, groups: &[Group], detectors: &[String]) -> String {
    let rivals: Vec<String> = detectors.iter().skip(1).map(|name| format!("{name} right")).collect();
    let mut head = vec![what];
    head.extend(FIGURES);
    head.extend(rivals.iter().map(String::as_str));
    let row = |group: &Group| -> Vec<Cell> {
        let own = group.summaries.first().map(figures).unwrap_or_default();
        let rivals = group
            .summaries
            .iter()
            .skip(1)
            .map(|rival| text::proportion(&rival.correct).into());
        std::iter::once(Cell::from(group.name.as_str()))
            .chain(own)
            .chain(rivals)
            .collect()
    };
    let rows: Vec<Vec<Cell>> = groups.iter().map(row).collect();
    table(caption, &head, &rows)
}

fn validity(view: &SuiteView) -> String {
    let rows: Vec<Vec<Cell>> = view
        .invalid
        .iter()
        .map(|case| {
            vec![
                case.name.as_str().into(),
                Cell::toned(case.class.name(), Tone::Quiet),
                case.findings.as_str().into(),
                case.attempts.as_str().into(),
            ]
        })
        .collect();
    let mut html = table(
        "Runs that do not count, or that were repeated because an attempt did not",
        &["case", "class", "findings", "invalid attempts"],
        &rows,
    );
    if rows.is_empty() {
        html.push_str("<p>Every run counts.</p>");
    }
    let failures: Vec<Vec<Cell>> = view
        .failures
        .iter()
        .map(|(name, failure)| vec![name.as_str().into(), Cell::toned(failure.as_str(), Tone::Bad)])
        .collect();
    html + &table("The detector failed", &["case", "how"], &failures)
}

fn comparison(comparison: &Comparison) -> String {
    let mut html = String::from("<h3>The older result</h3>");
    if !comparison.same_suite {
        html.push_str("<p class=\"bad\">✗ The two results asked for different cases; differences are not the detector's alone.</p>");
    }
    let flips: Vec<Vec<Cell>> = comparison
        .flips
        .iter()
        .map(|flip| {
            let (sign, tone) = if flip.gained {
                ("▲ gained", Tone::Good)
            } else {
                ("▼ lost", Tone::Bad)
            };
            vec![
                flip.name.as_str().into(),
                flip.before.as_str().into(),
                flip.after.as_str().into(),
                Cell::toned(sign, tone),
            ]
        })
        .collect();
    html += &table(
        "Cases whose answer changed sides",
        &["case", "baseline", "now", "change"],
        &flips,
    );
    if flips.is_empty() {
        html.push_str("<p>No case changed sides.</p>");
    }
    if comparison.unpaired_count > 0 {
        let _ = write!(
            html,
            "<p>{} in one result only.</p>",
            text::count(comparison.unpaired_count, "case")
        );
    }
    let share = |summary: &Option<Summary>| {
        summary
            .as_ref()
            .map_or_else(|| "–".to_owned(), |one| text::proportion(&one.correct))
    };
    let median = |summary: &Option<Summary>| {
        let median = summary.as_ref().map(|one| one.time_to_root_cause.median);
        median.map_or_else(|| "–".to_owned(), text::quantile)
    };
    let rows: Vec<Vec<Cell>> = comparison
        .scenarios
        .iter()
        .map(|(name, before, after)| {
            vec![
                name.as_str().into(),
                share(before).into(),
                share(after).into(),
                median(before).into(),
                median(after).into(),
            ]
        })
        .collect();
    let caption = format!("Each scenario; the baseline is of {}", comparison.detector);
    let head = [
        "scenario",
        "right, baseline",
        "right, now",
        "TTRC median, baseline",
        "TTRC median, now",
    ];
    html + &table(&caption, &head, &rows)
}

fn seeds(groups: &[Group]) -> String {
    let rows: Vec<Vec<Cell>> = groups
        .iter()
        .map(|group| {
            let seeds: Vec<String> = group.seeds.iter().map(ToString::to_string).collect();
            vec![group.name.as_str().into(), seeds.join(", ").into()]
        })
        .collect();
    table("Seeds", &["scenario", "seeds"], &rows)
}
