//! From what was recorded to a result: validity, scores, verdicts. A function of its input.

use std::collections::{BTreeMap, BTreeSet};

use gauntlet_detector::diagnosis::Diagnosis;

use super::result::{DetectorResult, FaultRecord, Held, Moments, RESULT_VERSION, RunResult};
use crate::check::sli::{impact_at, recovered_at, steady_state_breaches, within};
use crate::check::validity;
use crate::check::validity::{InjectionFact, InjectionOutcome, LossFact, RunFacts, classify};
use crate::detectors::{DetectorEnd, Received};
use crate::plan::GroundTruth;
use crate::recording::Evidence;
use crate::scenario::model::Arm;
use crate::score::matching::is_right;
use crate::score::verdict::{Finding, Judgement, Verdict, judge};
use crate::score::{RunRecord, score};

/// Largest share of evidence that may be lost in a run that counts: above it, silence of a probe proves nothing.
const LOSS_RATIO_MAX: f64 = 0.0001;

/// What was said in a run, live or replayed.
#[derive(Clone, Debug, Default)]
pub struct Said {
    /// Under which name the detector under test speaks. It may have said nothing, and rivals speak beside it.
    pub detector: String,
    /// What detectors said. In a live run a statement counts from the moment at which it was received, in a replay from
    /// that of the frame it is about.
    pub statements: Vec<Received>,
    /// How each detector ended, by its name.
    pub ends: BTreeMap<String, DetectorEnd>,
}

/// Judges what was said in a run. Whether the run counts is a matter of the evidence alone.
#[must_use]
pub fn judge_run(evidence: &Evidence, said: &Said) -> RunResult {
    let scenario = &evidence.plan.scenario;
    let mut moments = evidence.moments;
    let baseline = within(&evidence.seconds, moments.baseline_ns, moments.fault_phase_ns);
    let injections: Vec<InjectionFact> = evidence.faults.iter().map(injection_fact).collect();
    let onset_ns = match evidence.plan.truth.arm {
        Arm::Fault | Arm::Surge => validity::onset(&injections),
        Arm::Placebo | Arm::None => None,
    };
    let during = within(
        &evidence.seconds,
        onset_ns.unwrap_or(moments.fault_phase_ns),
        moments.recovered_ns,
    );
    moments.impact_ns = scenario
        .impact
        .as_ref()
        .and_then(|impact| impact_at(impact, &baseline, &during));
    let after = within(&evidence.seconds, moments.recovered_ns, moments.end_ns);
    moments.steady_again_ns = recovered_at(&scenario.steady_state, &after);
    let mut harness_errors = evidence.harness_errors.clone();
    harness_errors.extend(evidence.faults.iter().filter_map(|fault| fault.recovery_error.clone()));
    let facts = RunFacts {
        arm: evidence.plan.truth.arm,
        harness_errors,
        steady_state_breaches: steady_state_breaches(&scenario.steady_state, &baseline),
        injections,
        impact: scenario.impact.clone(),
        impact_ns: moments.impact_ns,
        residue: evidence.residue.clone(),
        loss: loss_fact(&evidence.recorder_end),
    };
    let validity = classify(&facts);
    let result = |detector: &str| detector_result(evidence, said, &moments, onset_ns, detector, &validity);
    let own = said.detector.as_str();
    let rivals: BTreeSet<&str> = said
        .statements
        .iter()
        .map(|one| one.diagnosis.detector.as_str())
        .chain(said.ends.keys().map(String::as_str))
        .chain(said.ends.values().flat_map(|end| &end.beside).map(String::as_str))
        .filter(|name| *name != own)
        .collect();
    RunResult {
        version: RESULT_VERSION,
        scenario: scenario.name.clone(),
        app: evidence.app.clone(),
        seed: evidence.plan.seed.0,
        trial: evidence.trial,
        detector: result(own),
        rivals: rivals.into_iter().map(result).collect(),
        validity,
        truth: evidence.plan.truth.clone(),
        moments,
        faults: evidence.faults.clone(),
        residue: evidence.residue.clone(),
        detector_end: said.ends.get(own).unwrap_or(&evidence.recorder_end).clone(),
        ends: said.ends.clone(),
        degraded: evidence.degraded.clone(),
        seconds: evidence.seconds.clone(),
    }
}

fn detector_result(
    evidence: &Evidence,
    said: &Said,
    moments: &Moments,
    onset_ns: Option<u64>,
    detector: &str,
    validity: &validity::Validity,
) -> DetectorResult {
    // A statement counts from the moment at which it was received, whatever moment it claims.
    let of_detector = said.statements.iter().filter(|one| one.diagnosis.detector == detector);
    let diagnoses: Vec<Diagnosis> = of_detector
        .map(|one| Diagnosis {
            at_ns: one.received_ns,
            ..one.diagnosis.clone()
        })
        .collect();
    let answer = diagnoses
        .iter()
        .rev()
        .find(|one| one.at_ns <= moments.recover_start_ns)
        .cloned();
    let held = held(&diagnoses, &evidence.plan.truth, moments.end_ns);
    let record = RunRecord {
        detector: detector.to_owned(),
        diagnoses,
        truth: evidence.plan.truth.clone(),
        window: evidence.plan.scenario.window,
        observation_start_ns: moments.baseline_ns,
        inject_ns: evidence.faults.iter().filter_map(|fault| fault.injected_ns).min(),
        onset_ns,
        impact_ns: moments.impact_ns,
        recover_start_ns: Some(moments.recover_start_ns),
        end_ns: moments.steady_again_ns,
        observation_end_ns: moments.end_ns,
    };
    let score = score(&record);
    let failure = said.ends.get(detector).and_then(|end| end.failure.as_deref());
    let judgement = with_failure(
        judge(&score, validity, &evidence.plan.scenario.limits),
        validity,
        failure,
    );
    DetectorResult {
        score,
        judgement,
        answer,
        held,
    }
}

/// A detector that failed in a run that counts has missed, even where silence would have been right.
fn with_failure(judgement: Judgement, validity: &validity::Validity, failure: Option<&str>) -> Judgement {
    match failure {
        Some(failure) if validity.class == validity::Class::Valid => {
            let finding = Finding {
                verdict: Verdict::Fail,
                reason: format!("the detector failed: {failure}"),
            };
            Judgement::of(std::iter::once(finding).chain(judgement.findings).collect())
        }
        Some(_) | None => judgement,
    }
}

/// Rank 1 over time; a new stretch begins when its entity or mechanism changes.
fn held(diagnoses: &[Diagnosis], truth: &GroundTruth, end_ns: u64) -> Vec<Held> {
    let mut stretches: Vec<Held> = Vec::new();
    let mut open = false;
    for diagnosis in diagnoses {
        let first = diagnosis.candidates.first();
        let text = first.map(|candidate| format!("{}: {}", candidate.entity, candidate.mechanism));
        if open && let Some(last) = stretches.last_mut() {
            last.to_ns = diagnosis.at_ns;
            if Some(&last.text) == text.as_ref() {
                continue;
            }
        }
        open = text.is_some();
        if let (Some(text), Some(candidate)) = (text, first) {
            let right = is_right(candidate, truth);
            stretches.push(Held {
                from_ns: diagnosis.at_ns,
                to_ns: diagnosis.at_ns,
                text,
                right,
            });
        }
    }
    if open && let Some(last) = stretches.last_mut() {
        last.to_ns = end_ns.max(last.to_ns);
    }
    stretches
}

fn injection_fact(fault: &FaultRecord) -> InjectionFact {
    let outcome = match (fault.injected_ns, fault.onset_ns) {
        (Some(inject_ns), Some(onset_ns)) => InjectionOutcome::Proven { inject_ns, onset_ns },
        (Some(inject_ns), None) => InjectionOutcome::Absent {
            inject_ns,
            measured: fault.measured.clone().unwrap_or_default(),
        },
        (None, _) => InjectionOutcome::Failed {
            error: fault.error.clone().unwrap_or_default(),
        },
    };
    InjectionFact {
        fault: fault.fault.clone(),
        outcome,
    }
}

fn loss_fact(end: &DetectorEnd) -> LossFact {
    let (lost, frames) = end
        .summary
        .as_ref()
        .map_or((0, 0), |summary| (summary.lost, summary.frames));
    LossFact {
        lost,
        seen: frames,
        ratio_max: LOSS_RATIO_MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::validity::{Class, Validity};

    #[test]
    fn a_failure_is_a_miss_where_the_run_counts_and_nothing_where_it_does_not() {
        let silence_is_right = Finding {
            verdict: Verdict::Pass,
            reason: "0 false alarms, limit 0".to_owned(),
        };
        let judged = |class, failure| {
            let validity = Validity {
                class,
                findings: Vec::new(),
            };
            let judgement = with_failure(Judgement::of(vec![silence_is_right.clone()]), &validity, failure);
            (judgement.verdict, judgement.findings.len())
        };
        assert_eq!(judged(Class::Valid, None), (Verdict::Pass, 1));
        assert_eq!(judged(Class::Valid, Some("it crashed")), (Verdict::Fail, 2));
        assert_eq!(judged(Class::Unstable, Some("it crashed")), (Verdict::Pass, 1));
    }
}
