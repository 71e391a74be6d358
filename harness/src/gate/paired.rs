//! Replay against replay: the same recordings judged twice, pair by pair.

use std::collections::BTreeMap;

use super::evidence::{Answer, Case, Evidence};
use super::measure::{Measurement, Metric, Shape, TIME_MARGIN, hours, log_time};
use crate::statistics::means::{Estimate, weighted};
use crate::statistics::paired::mcnemar;
use crate::statistics::ranks::signed_rank;
use crate::statistics::weights::{effective_count, equal_strata, weighted_sum};

/// Cases of the same recording.
pub(super) struct Pairing<'a> {
    /// Baseline and candidate.
    pub(super) pairs: Vec<(&'a Case, &'a Case)>,
    /// Cases that only the baseline has.
    pub(super) baseline_only: usize,
    /// Cases that only the candidate has.
    pub(super) candidate_only: usize,
}

/// Pairs cases by their recordings.
pub(super) fn pair<'a>(baseline: &'a Evidence, candidate: &'a Evidence) -> Pairing<'a> {
    let mut by_recording: BTreeMap<&str, &Case> = BTreeMap::new();
    for case in &candidate.cases {
        if let Some(recording) = &case.recording {
            by_recording.insert(recording, case);
        }
    }
    let mut partner = |case: &Case| by_recording.remove(case.recording.as_deref()?);
    let pairs: Vec<_> = baseline
        .cases
        .iter()
        .filter_map(|case| Some((case, partner(case)?)))
        .collect();
    Pairing {
        baseline_only: baseline.cases.len() - pairs.len(),
        candidate_only: candidate.cases.len() - pairs.len(),
        pairs,
    }
}

/// Each metric, where there are pairs for it.
pub(super) fn measure(pairing: &Pairing<'_>) -> [Option<Measurement>; 4] {
    let judged = Judged::of(pairing);
    [
        judged.accuracy(),
        judged.times(Metric::TimeToRootCause),
        judged.times(Metric::TimeToDetect),
        false_alarms(pairing),
    ]
}

/// Pairs in which a cause had to be named, VALID both times.
struct Judged<'a> {
    pairs: Vec<(&'a Answer, &'a Answer)>,
    /// Scenarios weigh the same.
    weights: Vec<f64>,
}

impl<'a> Judged<'a> {
    fn of(pairing: &Pairing<'a>) -> Self {
        let mut scenarios: BTreeMap<&str, usize> = BTreeMap::new();
        let (mut pairs, mut strata) = (Vec::new(), Vec::new());
        for (before, after) in &pairing.pairs {
            if let (Some(first), Some(second)) = (before.judged(), after.judged()) {
                let next = scenarios.len();
                strata.push(*scenarios.entry(&before.scenario).or_insert(next));
                pairs.push((first, second));
            }
        }
        Self {
            pairs,
            weights: equal_strata(&strata),
        }
    }

    fn mean(&self, value: impl Fn(&Answer, &Answer) -> f64) -> f64 {
        weighted_sum(
            &self.weights,
            self.pairs.iter().map(|(before, after)| value(before, after)),
        )
    }

    fn share(&self, holds: fn(&Answer, &Answer) -> bool) -> f64 {
        self.mean(|before, after| f64::from(u8::from(holds(before, after))))
    }

    fn number(&self, holds: fn(&Answer, &Answer) -> bool) -> u64 {
        self.pairs.iter().filter(|(before, after)| holds(before, after)).count() as u64
    }

    fn accuracy(&self) -> Option<Measurement> {
        if self.pairs.is_empty() {
            return None;
        }
        let gained = |before: &Answer, after: &Answer| !before.right() && after.right();
        let lost = |before: &Answer, after: &Answer| before.right() && !after.right();
        let (baseline, candidate) = (
            self.share(|before, _| before.right()),
            self.share(|_, after| after.right()),
        );
        let count = effective_count(&self.weights);
        Some(Measurement {
            metric: Metric::Accuracy,
            baseline,
            candidate,
            effect: candidate - baseline,
            shape: Shape::PairedShares {
                gained: count * self.share(gained),
                lost: count * self.share(lost),
                count,
            },
            chances: mcnemar(self.number(gained), self.number(lost)),
            case_count: self.pairs.len(),
        })
    }

    fn times(&self, metric: Metric) -> Option<Measurement> {
        let ratios: Vec<f64> = self
            .pairs
            .iter()
            .map(|(before, after)| log_time(metric, after) - log_time(metric, before))
            .collect();
        let estimate = self.with_doubt(metric, &ratios)?;
        let baseline = self.mean(|before, _| log_time(metric, before)).exp();
        let candidate = self.mean(|_, after| log_time(metric, after)).exp();
        Some(Measurement {
            metric,
            baseline,
            candidate,
            effect: weighted_sum(&self.weights, ratios.iter().copied()).exp(),
            shape: Shape::LogMean(estimate),
            chances: signed_rank(&ratios),
            case_count: self.pairs.len(),
        })
    }

    /// The mean of log ratios, with one pair more that went from the usual time to the longest of all (that of a cause
    /// never named, if there is one), and one that went the other way. As in Bonett and Price's interval for paired
    /// shares (J. Educ. Behav. Stat. 37:479, 2012) this keeps a few pairs that are all the same from proving that no
    /// pair differs; of a hundred it takes one or two hundredths.
    fn with_doubt(&self, metric: Metric, ratios: &[f64]) -> Option<Estimate> {
        if ratios.is_empty() {
            return None;
        }
        let both = |before: &Answer, after: &Answer| [log_time(metric, before), log_time(metric, after)];
        let longest = self
            .pairs
            .iter()
            .flat_map(|(before, after)| both(before, after))
            .fold(f64::MIN, f64::max);
        let usual = self.mean(|before, after| both(before, after).iter().sum::<f64>() / 2.0);
        let far = (longest - usual).max(TIME_MARGIN.ln());
        let count = effective_count(&self.weights);
        let values: Vec<f64> = ratios.iter().copied().chain([far, -far]).collect();
        let own = self.weights.iter().map(|weight| weight * count / (count + 2.0));
        let weights: Vec<f64> = own.chain([1.0 / (count + 2.0); 2]).collect();
        weighted(&values, &weights)
    }
}

fn false_alarms(pairing: &Pairing<'_>) -> Option<Measurement> {
    let watched: Vec<_> = pairing
        .pairs
        .iter()
        .filter(|(before, after)| before.watched() && after.watched())
        .collect();
    // The same recordings have the same fault-free time; rounding is all that could differ.
    let fault_free_ms: u64 = watched.iter().map(|(before, _)| before.fault_free_ms).sum();
    if fault_free_ms == 0 {
        return None;
    }
    let hours = hours(fault_free_ms);
    let (mut more, mut fewer, mut noisier, mut quieter) = (0.0, 0.0, 0, 0);
    for (before, after) in &watched {
        more += f64::from(after.false_alarms.saturating_sub(before.false_alarms));
        fewer += f64::from(before.false_alarms.saturating_sub(after.false_alarms));
        noisier += u64::from(after.false_alarms > before.false_alarms);
        quieter += u64::from(after.false_alarms < before.false_alarms);
    }
    let rate = |alarms: u64| alarms as f64 / hours;
    Some(Measurement {
        metric: Metric::FalseAlarms,
        baseline: rate(watched.iter().map(|(before, _)| u64::from(before.false_alarms)).sum()),
        candidate: rate(watched.iter().map(|(_, after)| u64::from(after.false_alarms)).sum()),
        effect: (more - fewer) / hours,
        shape: Shape::PairedAlarms { more, fewer, hours },
        // Recordings are counted, not alarms, so that one noisy recording is no evidence many times over.
        chances: mcnemar(noisier, quieter),
        case_count: watched.len(),
    })
}
