//! From measurements to a verdict: Holm's adjustment, margins, and how many further cases would decide.
//!
//! A metric FAILs if its adjusted chance is below the level and its effect beyond the margin. It PASSes if the
//! interval's worse end is within the margin; passing asks this of every metric, so it needs no adjustment. Otherwise
//! it is INCONCLUSIVE.

use super::Settings;
use super::evidence::Evidence;
use super::flips;
use super::limits;
use super::measure::{Measurement, Metric, measure};
use super::paired::{Pairing, pair};
use super::report::{Further, GATE_REPORT_VERSION, GateReport, MetricReport, Side};
use crate::score::verdict::Verdict;
use crate::statistics::{TAIL_90, holm, normal_quantile, normal_tail};
use crate::suite::outcome::Mode;

/// Level of the family of tests: a detector that did not change fails in at most this share of all gates.
pub const LEVEL: f64 = 0.05;

/// So many times as many cases are the most that the search for a decision looks at.
const FURTHER_SCALE_MAX: f64 = 100.0;

/// Judges `candidate` against `baseline`.
pub(super) fn decide(baseline: &Evidence, candidate: &Evidence, settings: &Settings) -> GateReport {
    let mut report = GateReport {
        version: GATE_REPORT_VERSION,
        verdict: Verdict::Inconclusive,
        reasons: incomparable(baseline, candidate),
        further: None,
        baseline: Side::of(baseline),
        candidate: Side::of(candidate),
        limits: Vec::new(),
        metrics: Vec::new(),
        flips: Vec::new(),
        scenarios: Vec::new(),
    };
    if !report.reasons.is_empty() {
        return report;
    }
    report.limits = limits::check(baseline, candidate, settings);
    report.metrics = metrics(&measure(baseline, candidate, settings), settings);
    report.scenarios = flips::scenarios(baseline, candidate);
    let mut missing = incomplete(baseline, candidate);
    if let (Mode::Replay, Mode::Replay) = (baseline.mode, candidate.mode) {
        let pairing = pair(baseline, candidate);
        missing.extend(unpaired(&pairing));
        report.flips = flips::flips(&pairing);
    }
    if report.metrics.is_empty() {
        missing.push("no VALID case is on both sides, so nothing was measured".to_owned());
    }
    conclude(&mut report, missing);
    report
}

/// Why the two cannot be compared at all.
fn incomparable(baseline: &Evidence, candidate: &Evidence) -> Vec<String> {
    let mut reasons = Vec::new();
    if baseline.digest != candidate.digest {
        reasons.push(format!(
            "the baseline was saved for another suite (digest {} of {}, now {} of {}): the cases are not the same; save a new \
             baseline with the detector that is trusted",
            short(&baseline.digest),
            baseline.suite,
            short(&candidate.digest),
            candidate.suite,
        ));
    }
    match (baseline.mode, candidate.mode) {
        (Mode::Live, Mode::Live) | (Mode::Replay, Mode::Replay) => {}
        (Mode::Live, Mode::Replay) => reasons.push("the baseline is of live runs, the result of a replay".to_owned()),
        (Mode::Replay, Mode::Live) => reasons.push("the baseline is of a replay, the result of live runs".to_owned()),
    }
    reasons
}

/// The first digits of a digest, enough to tell two apart by eye.
pub(super) fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

/// What speaks against a pass because it was not seen.
fn incomplete(baseline: &Evidence, candidate: &Evidence) -> Vec<String> {
    [("baseline", baseline), ("result", candidate)]
        .into_iter()
        .filter(|(_, side)| side.cases.len() < side.planned_count)
        .map(|(name, side)| format!("the {name} has {} of {} cases", side.cases.len(), side.planned_count))
        .collect()
}

fn unpaired(pairing: &Pairing<'_>) -> Option<String> {
    (pairing.baseline_only + pairing.candidate_only > 0).then(|| {
        format!(
            "{} cases of the baseline and {} of the result have no partner of the same recording",
            pairing.baseline_only, pairing.candidate_only
        )
    })
}

fn metrics(measurements: &[Measurement], settings: &Settings) -> Vec<MetricReport> {
    let chances: Vec<f64> = measurements.iter().map(|one| one.metric.worse(one.chances)).collect();
    let adjusted = holm::adjusted(&chances);
    let judged = measurements.iter().zip(chances.iter().zip(adjusted));
    judged
        .map(|(one, (p, p_adjusted))| metric(one, *p, p_adjusted, measurements.len(), settings))
        .collect()
}

fn metric(one: &Measurement, p: f64, p_adjusted: f64, family: usize, settings: &Settings) -> MetricReport {
    let metric = one.metric;
    let margin = metric.margin(settings);
    let interval = one.shape.interval(TAIL_90, 1.0);
    let bad_end = metric.bad_end(interval);
    let beyond = metric.beyond(one.effect, margin);
    let [effect_words, margin_words, bound_words] =
        [one.effect, margin, bad_end].map(|value| effect_text(metric, value));
    let (verdict, reason) = if beyond && p_adjusted < LEVEL {
        let reason =
            format!("{effect_words} is beyond the margin of {margin_words}, and not chance (p = {p_adjusted:.3})");
        (Verdict::Fail, reason)
    } else if !metric.beyond(bad_end, margin) && !beyond {
        (
            Verdict::Pass,
            format!("at worst {bound_words}, within the margin of {margin_words}"),
        )
    } else if beyond {
        let reason =
            format!("{effect_words} is beyond the margin of {margin_words}, but may be chance (p = {p_adjusted:.3})");
        (Verdict::Inconclusive, reason)
    } else {
        (
            Verdict::Inconclusive,
            format!("{effect_words} seen, but {bound_words} is possible; the margin is {margin_words}"),
        )
    };
    MetricReport {
        metric,
        verdict,
        reason,
        baseline: one.baseline,
        candidate: one.candidate,
        effect: one.effect,
        margin,
        interval,
        p,
        p_adjusted,
        case_count: one.case_count,
        further: (verdict == Verdict::Inconclusive).then(|| further(one, p, family, margin)),
    }
}

/// Finds the smallest number of cases that would decide if all shares, times and rates stayed as they are. Intervals
/// are made anew for it; the chance is that of the same number of standard errors per root of cases, held to the
/// family's strictest level.
fn further(one: &Measurement, p: f64, family: usize, margin: f64) -> Further {
    let distance = normal_quantile(p.clamp(1e-300, 1.0 - 1e-12));
    let decided = |scale: f64| {
        if one.metric.beyond(one.effect, margin) {
            normal_tail(distance * scale.sqrt()) < LEVEL / family as f64
        } else {
            !one.metric
                .beyond(one.metric.bad_end(one.shape.interval(TAIL_90, scale)), margin)
        }
    };
    let scale = |more: usize| (one.case_count + more) as f64 / one.case_count as f64;
    let most = (one.case_count as f64 * (FURTHER_SCALE_MAX - 1.0)) as usize;
    if !decided(scale(most)) {
        return Further::MoreThan { count: most };
    }
    let (mut too_few, mut enough) = (0, most);
    while enough - too_few > 1 {
        let middle = usize::midpoint(too_few, enough);
        if decided(scale(middle)) {
            enough = middle
        } else {
            too_few = middle
        }
    }
    Further::Cases { count: enough }
}

/// The worst of limits, metrics and what is missing, with the reasons for it.
fn conclude(report: &mut GateReport, missing: Vec<String>) {
    let limits = report
        .limits
        .iter()
        .map(|limit| (limit.verdict, format!("{}: {}", limit.limit.name(), limit.reason)));
    let metrics = report
        .metrics
        .iter()
        .map(|one| (one.verdict, format!("{}: {}", one.metric.name(), one.reason)));
    let missing = missing.into_iter().map(|reason| (Verdict::Inconclusive, reason));
    let findings: Vec<_> = limits.chain(metrics).chain(missing).collect();
    report.verdict = findings
        .iter()
        .map(|(verdict, _)| *verdict)
        .max()
        .unwrap_or(Verdict::Inconclusive);
    report.reasons = match report.verdict {
        Verdict::Pass => vec!["no metric is worse by more than its margin, and every limit is held".to_owned()],
        Verdict::Inconclusive | Verdict::Fail => {
            let mut findings: Vec<_> = findings
                .into_iter()
                .filter(|(verdict, _)| *verdict != Verdict::Pass)
                .collect();
            findings.sort_by_key(|(verdict, _)| std::cmp::Reverse(*verdict));
            findings.into_iter().map(|(_, reason)| reason).collect()
        }
    };
    if report.verdict == Verdict::Inconclusive {
        let each = report.metrics.iter().filter_map(|metric| metric.further);
        report.further = each.max_by_key(|further| match further {
            Further::Cases { count } => (false, *count),
            Further::MoreThan { count } => (true, *count),
        });
    }
}

/// An effect in the words of its metric: points, a factor, alarms per hour.
#[must_use]
pub fn effect_text(metric: Metric, effect: f64) -> String {
    // Without this a difference of −0 would have a sign.
    let effect = effect + 0.0;
    match metric {
        Metric::Accuracy => format!("{:+.1} points", effect * 100.0),
        Metric::TimeToRootCause | Metric::TimeToDetect => format!("×{effect:.2}"),
        Metric::FalseAlarms => format!("{effect:+.2}/h"),
    }
}

/// A value in the unit of its metric.
#[must_use]
pub fn value_text(metric: Metric, value: f64) -> String {
    match metric {
        Metric::Accuracy => format!("{:.1} %", value * 100.0),
        Metric::TimeToRootCause | Metric::TimeToDetect => format!("{value:.2} s"),
        Metric::FalseAlarms => format!("{value:.2}/h"),
    }
}
