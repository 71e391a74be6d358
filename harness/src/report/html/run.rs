//! The page of one run: verdict first, then the story, the place, the answers, what they were worth, and the proofs.

use std::fmt::Write as _;

use super::super::text::{self, markup};
use super::super::view::{Answer, RunView};
use super::document::{Section, document, tiles, verdict};
use super::table::{Cell, Tone, pairs, table};
use super::{timeline, topology};
use crate::score::verdict::{Finding, Verdict};

/// The page.
#[must_use]
pub fn page(view: &RunView) -> String {
    let title = format!("{} · seed {} · {}", view.scenario, view.seed, view.verdict);
    let sections = [
        Section {
            id: "timeline",
            title: "Timeline",
            body: timeline::timeline(&view.timeline),
        },
        Section {
            id: "topology",
            title: "Topology, suspects and cause",
            body: match &view.topology {
                Ok(shown) => topology::topology(shown),
                Err(why) => format!("<p>Not known: {}.</p>", markup(why)),
            },
        },
        Section {
            id: "answers",
            title: "Answers and their evidence",
            body: answers(view),
        },
        Section {
            id: "score",
            title: "Score",
            body: score(view),
        },
        Section {
            id: "proof",
            title: "Fault and validity",
            body: proof(view),
        },
        Section {
            id: "run",
            title: "Cost and circumstances",
            body: pairs("What the detector cost", &view.costs) + &pairs("The run", &view.facts),
        },
    ];
    document(&title, &header(view), &sections)
}

fn header(view: &RunView) -> String {
    let sign = match view.verdict.as_str() {
        "PASS" => text::verdict_sign(Verdict::Pass),
        "FAIL" => text::verdict_sign(Verdict::Fail),
        _ => text::verdict_sign(Verdict::Inconclusive),
    };
    format!(
        "<p class=\"soft\">run {} · seed {} · version {}</p><h1>{}</h1>{}<p>{}</p>{}",
        markup(&view.run),
        view.seed,
        markup(&view.version),
        markup(&view.title),
        verdict(&view.verdict, sign, &view.headline),
        markup(&view.description),
        tiles(&view.tiles),
    )
}

fn answers(view: &RunView) -> String {
    let mut html = format!("<p class=\"truth\"><strong>Truth</strong> {}</p>", markup(&view.truth));
    html.extend(view.answers.iter().map(answer_body));
    html
}

fn answer_body(answer: &Answer) -> String {
    let mut html = format!(
        "<article><h3>{} <span class=\"soft\">{}</span></h3>",
        markup(&answer.detector),
        markup(&answer.score)
    );
    if answer.candidates.is_empty() {
        return html + "<p>∅ It named nothing.</p></article>";
    }
    html.push_str("<ol>");
    for candidate in &answer.candidates {
        let (class, sign, word) = match candidate.right {
            true => ("good", "✓", "right"),
            false => ("bad", "✗", "wrong"),
        };
        let _ = write!(
            html,
            "<li><span class=\"{class}\" title=\"{word}\">{sign}</span> {}<ul>",
            markup(&candidate.text)
        );
        for evidence in &candidate.evidence {
            let _ = write!(html, "<li>{}</li>", markup(evidence));
        }
        html.push_str("</ul></li>");
    }
    html + "</ol></article>"
}

fn score(view: &RunView) -> String {
    let row = |finding: &Finding| -> Vec<Cell> {
        let tone = match finding.verdict {
            Verdict::Pass => Tone::Good,
            Verdict::Inconclusive => Tone::Quiet,
            Verdict::Fail => Tone::Bad,
        };
        let verdict = format!(
            "{} {}",
            text::verdict_sign(finding.verdict),
            text::verdict(finding.verdict)
        );
        vec![finding.reason.as_str().into(), Cell::toned(verdict, tone)]
    };
    let checks: Vec<Vec<Cell>> = view.checks.iter().map(row).collect();
    let mut head = vec!["measure"];
    head.extend(view.answers.iter().map(|answer| answer.detector.as_str()));
    head.push("what it means");
    let measures: Vec<Vec<Cell>> = view
        .measures
        .iter()
        .map(|measure| {
            let mut row: Vec<Cell> = vec![measure.name.into()];
            row.extend(measure.values.iter().map(|value| Cell::from(value.as_str())));
            row.push(Cell::toned(measure.meaning, Tone::Quiet));
            row
        })
        .collect();
    table("The scenario's limits", &["check", "verdict"], &checks)
        + &table("What each answer was worth", &head, &measures)
}

fn proof(view: &RunView) -> String {
    let faults: Vec<Vec<Cell>> = view
        .faults
        .iter()
        .map(|fault| {
            vec![
                fault.what.as_str().into(),
                fault.effect.as_str().into(),
                fault.recovery.as_str().into(),
            ]
        })
        .collect();
    let mut html = table(
        "Each fault, and the measured proof of its effect",
        &["fault", "effect", "afterwards"],
        &faults,
    );
    if faults.is_empty() {
        html.push_str("<p>No fault: a control.</p>");
    }
    match view.validity_findings.as_slice() {
        [] => html.push_str("<p>Nothing speaks against this run.</p>"),
        findings => {
            html.push_str("<h3>What speaks against this run</h3><ul>");
            for finding in findings {
                let _ = write!(html, "<li>{}</li>", markup(finding));
            }
            html.push_str("</ul>");
        }
    }
    html
}
