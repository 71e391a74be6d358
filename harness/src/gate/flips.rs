//! What changed, case by case and scenario by scenario. Counts nothing that decides.

use std::collections::BTreeMap;

use super::evidence::{Case, Evidence};
use super::paired::Pairing;
use super::report::{Flip, FlipKind, ScenarioRow};
use crate::score::matching::Rank;
use crate::score::summary::end;
use crate::statistics::proportion::Proportion;

/// Every case whose answer or alarms changed: lost ones first, then by scenario.
pub(super) fn flips(pairing: &Pairing<'_>) -> Vec<Flip> {
    let mut flips = Vec::new();
    for (before, after) in &pairing.pairs {
        let kinds = [answer_flip(before, after), alarm_flip(before, after)];
        flips.extend(kinds.into_iter().flatten().map(|kind| flip(kind, before, after)));
    }
    flips.sort_by(|a, b| (a.kind, &a.scenario, a.trial).cmp(&(b.kind, &b.scenario, b.trial)));
    flips
}

fn answer_flip(before: &Case, after: &Case) -> Option<FlipKind> {
    match (before.judged()?.right(), after.judged()?.right()) {
        (true, false) => Some(FlipKind::Lost),
        (false, true) => Some(FlipKind::Gained),
        (true, true) | (false, false) => None,
    }
}

fn alarm_flip(before: &Case, after: &Case) -> Option<FlipKind> {
    if !before.watched() || !after.watched() {
        return None;
    }
    match after.false_alarms.cmp(&before.false_alarms) {
        std::cmp::Ordering::Greater => Some(FlipKind::Noisier),
        std::cmp::Ordering::Less => Some(FlipKind::Quieter),
        std::cmp::Ordering::Equal => None,
    }
}

fn flip(kind: FlipKind, before: &Case, after: &Case) -> Flip {
    let words = match kind {
        FlipKind::Lost | FlipKind::Gained => answer_words,
        FlipKind::Noisier | FlipKind::Quieter => alarm_words,
    };
    Flip {
        kind,
        scenario: before.scenario.clone(),
        trial: before.trial,
        recording: before.recording.clone().unwrap_or_default(),
        before: words(before),
        after: words(after),
    }
}

fn alarm_words(case: &Case) -> String {
    match case.false_alarms {
        1 => "1 false alarm".to_owned(),
        count => format!("{count} false alarms"),
    }
}

/// What was said, and how good that was.
fn answer_words(case: &Case) -> String {
    let said = match (&case.failure, &case.said) {
        (Some(failure), _) => format!("detector failed: {failure}"),
        (None, Some(said)) => said.clone(),
        (None, None) => "nothing".to_owned(),
    };
    let Some(answer) = case.judged() else { return said };
    match (end(answer.time_to_root_cause), answer.rank) {
        ((after_ns, true), _) if answer.right() => format!("{said} after {:.1} s", after_ns as f64 / 1e9),
        ((_, false), _) if answer.right() => format!("{said}, not settled"),
        (_, Rank::At { rank }) => format!("{said} (right cause at rank {rank})"),
        (_, Rank::Absent) => format!("{said} (right cause not named)"),
    }
}

/// Right answers of both sides in each scenario that both have judged cases of.
pub(super) fn scenarios(baseline: &Evidence, candidate: &Evidence) -> Vec<ScenarioRow> {
    let (mut before, mut after) = (right(baseline), right(candidate));
    before.retain(|scenario, _| after.contains_key(scenario));
    after.retain(|scenario, _| before.contains_key(scenario));
    before
        .into_iter()
        .zip(after.into_values())
        .map(|((scenario, before), after)| ScenarioRow {
            scenario: scenario.to_owned(),
            baseline: Proportion::new(before.0, before.1),
            candidate: Proportion::new(after.0, after.1),
        })
        .collect()
}

/// Right answers and judged cases by scenario.
pub(super) fn right(evidence: &Evidence) -> BTreeMap<&str, (usize, usize)> {
    let mut by_scenario: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for case in &evidence.cases {
        if let Some(answer) = case.judged() {
            let (right, of) = by_scenario.entry(&case.scenario).or_default();
            *right += usize::from(answer.right());
            *of += 1;
        }
    }
    by_scenario
}
