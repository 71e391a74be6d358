//! Whether a run counts, and if not, why.
//!
//! Only measured facts go in. A detector that crashed, hung or talked nonsense has missed; the run still counts.

use gauntlet_probes::frame::MonotonicNanos;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::scenario::model::{Arm, Impact};

/// What a run is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Class {
    /// It counts.
    Valid,
    /// The probes lost more than they may.
    LostEvidence,
    /// No effect was proven, or no harm seen, in time.
    Silent,
    /// A fault could not be injected.
    NotInjected,
    /// The steady state did not hold before the injection.
    Unstable,
    /// Something was left behind.
    Residue,
    /// The harness failed.
    HarnessError,
}

impl Class {
    /// Its name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Valid => "VALID",
            Self::LostEvidence => "LOST_EVIDENCE",
            Self::Silent => "SILENT",
            Self::NotInjected => "NOT_INJECTED",
            Self::Unstable => "UNSTABLE",
            Self::Residue => "RESIDUE",
            Self::HarnessError => "HARNESS_ERROR",
        }
    }
}

/// The class of a run and everything that speaks against it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Validity {
    /// The worst of the findings; valid if there is none.
    pub class: Class,
    /// In plain words, worst first, each led by its own class.
    pub findings: Vec<String>,
}

/// What was measured in a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunFacts {
    /// What silence and alarms mean in the scenario.
    pub arm: Arm,
    /// What went wrong in the harness itself, in words.
    pub harness_errors: Vec<String>,
    /// What broke the steady state of the baseline, in words.
    pub steady_state_breaches: Vec<String>,
    /// Each fault of the plan.
    pub injections: Vec<InjectionFact>,
    /// The harm that the scenario asks for.
    pub impact: Option<Impact>,
    /// When harm was first seen.
    pub impact_ns: Option<MonotonicNanos>,
    /// What was left behind, in words.
    pub residue: Vec<String>,
    /// What the probes lost.
    pub loss: LossFact,
}

/// What became of a fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InjectionFact {
    /// Its name in the scenario.
    pub fault: String,
    /// What became of it.
    pub outcome: InjectionOutcome,
}

/// What became of a fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum InjectionOutcome {
    /// It could not be injected.
    Failed {
        /// Why.
        error: String,
    },
    /// It was injected; its effect was proven.
    Proven {
        /// When it had been injected.
        inject_ns: MonotonicNanos,
        /// When the proof was there.
        onset_ns: MonotonicNanos,
    },
    /// It was injected; no effect was seen in time.
    Absent {
        /// When it had been injected.
        inject_ns: MonotonicNanos,
        /// What was measured instead.
        measured: String,
    },
}

/// What the probes lost.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LossFact {
    /// Pieces of evidence that were lost.
    pub lost: u64,
    /// Pieces of evidence that were seen.
    pub seen: u64,
    /// Largest share that may be lost.
    pub ratio_max: f64,
}

impl LossFact {
    fn ratio(self) -> f64 {
        if self.lost == 0 {
            0.0
        } else {
            self.lost as f64 / (self.lost + self.seen) as f64
        }
    }
}

/// First proven effect.
#[must_use]
pub fn onset(injections: &[InjectionFact]) -> Option<MonotonicNanos> {
    let proven = |injection: &InjectionFact| match injection.outcome {
        InjectionOutcome::Proven { onset_ns, .. } => Some(onset_ns),
        InjectionOutcome::Failed { .. } | InjectionOutcome::Absent { .. } => None,
    };
    injections.iter().filter_map(proven).min()
}

/// Classifies a run.
#[must_use]
pub fn classify(facts: &RunFacts) -> Validity {
    let mut findings: Vec<(Class, String)> = Vec::new();
    let mut add = |class, words: &[String]| findings.extend(words.iter().map(|words| (class, words.clone())));
    add(Class::HarnessError, &facts.harness_errors);
    add(Class::Residue, &facts.residue);
    add(Class::Unstable, &facts.steady_state_breaches);
    for injection in &facts.injections {
        if let Some((class, words)) = speaks_against(injection, facts.arm) {
            add(class, &[words]);
        }
    }
    if let Some(words) = no_harm(facts) {
        add(Class::Silent, &[words]);
    }
    let ratio = facts.loss.ratio();
    if ratio > facts.loss.ratio_max {
        let words = format!(
            "{:.2} % of the evidence lost, limit {:.2} %",
            ratio * 100.0,
            facts.loss.ratio_max * 100.0
        );
        add(Class::LostEvidence, &[words]);
    }
    findings.sort_by_key(|(class, _)| std::cmp::Reverse(*class));
    let class = findings.first().map_or(Class::Valid, |(class, _)| *class);
    let findings = findings
        .into_iter()
        .map(|(class, words)| format!("{}: {words}", class.name()))
        .collect();
    Validity { class, findings }
}

fn speaks_against(injection: &InjectionFact, arm: Arm) -> Option<(Class, String)> {
    let fault = &injection.fault;
    match (&injection.outcome, arm) {
        (InjectionOutcome::Failed { error }, _) => {
            Some((Class::NotInjected, format!("failed to inject `{fault}`: {error}")))
        }
        (InjectionOutcome::Absent { measured, .. }, Arm::Fault | Arm::Surge) => {
            Some((Class::Silent, format!("no effect of `{fault}`: {measured}")))
        }
        (InjectionOutcome::Proven { .. }, Arm::Placebo) => {
            Some((Class::HarnessError, format!("placebo `{fault}` had an effect")))
        }
        (InjectionOutcome::Absent { .. }, Arm::Placebo | Arm::None)
        | (InjectionOutcome::Proven { .. }, Arm::Fault | Arm::Surge | Arm::None) => None,
    }
}

fn no_harm(facts: &RunFacts) -> Option<String> {
    let impact = facts.impact.as_ref()?;
    let onset_ns = onset(&facts.injections)?;
    let within_ns = u64::try_from(impact.within.as_nanos()).unwrap_or(u64::MAX);
    match facts.impact_ns {
        None => Some(format!("users saw no harm within {:?}", impact.within)),
        Some(impact_ns) if impact_ns > onset_ns.saturating_add(within_ns) => Some(format!(
            "users saw harm only after {:.1} s",
            (impact_ns - onset_ns) as f64 / 1e9
        )),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use expect_test::{Expect, expect};

    use super::*;
    use crate::scenario::model::Need;

    fn good() -> RunFacts {
        let outcome = InjectionOutcome::Proven {
            inject_ns: 1_000_000_000,
            onset_ns: 2_000_000_000,
        };
        RunFacts {
            arm: Arm::Fault,
            harness_errors: Vec::new(),
            steady_state_breaches: Vec::new(),
            injections: vec![InjectionFact {
                fault: "f".to_owned(),
                outcome,
            }],
            impact: Some(Impact {
                within: Duration::from_secs(8),
                need: Need::Any,
                conditions: Vec::new(),
            }),
            impact_ns: Some(3_000_000_000),
            residue: Vec::new(),
            loss: LossFact {
                lost: 0,
                seen: 1000,
                ratio_max: 0.01,
            },
        }
    }

    fn check(change: impl FnOnce(&mut RunFacts), expected: Expect) {
        let mut facts = good();
        change(&mut facts);
        let validity = classify(&facts);
        expected.assert_eq(&format!("{} {:?}", validity.class.name(), validity.findings));
    }

    fn absent() -> InjectionOutcome {
        InjectionOutcome::Absent {
            inject_ns: 1,
            measured: "0 packets dropped".to_owned(),
        }
    }

    #[test]
    fn each_class_has_its_cause() {
        check(|_| (), expect!["VALID []"]);
        check(
            |facts| facts.injections[0].outcome = absent(),
            expect![[r#"SILENT ["SILENT: no effect of `f`: 0 packets dropped"]"#]],
        );
        check(
            |facts| facts.impact_ns = None,
            expect![[r#"SILENT ["SILENT: users saw no harm within 8s"]"#]],
        );
        check(
            |facts| facts.impact_ns = Some(12_000_000_000),
            expect![[r#"SILENT ["SILENT: users saw harm only after 10.0 s"]"#]],
        );
        check(
            |facts| facts.loss.lost = 50,
            expect![[r#"LOST_EVIDENCE ["LOST_EVIDENCE: 4.76 % of the evidence lost, limit 1.00 %"]"#]],
        );
        check(
            |facts| {
                facts.injections[0].outcome = InjectionOutcome::Failed {
                    error: "no tc".to_owned(),
                }
            },
            expect![[r#"NOT_INJECTED ["NOT_INJECTED: failed to inject `f`: no tc"]"#]],
        );
        check(
            |facts| facts.steady_state_breaches.push("error-ratio 5 %".to_owned()),
            expect![[r#"UNSTABLE ["UNSTABLE: error-ratio 5 %"]"#]],
        );
        check(
            |facts| facts.residue.push("a qdisc on eth0 of cache-0".to_owned()),
            expect![[r#"RESIDUE ["RESIDUE: a qdisc on eth0 of cache-0"]"#]],
        );
        check(
            |facts| facts.harness_errors.push("disk full".to_owned()),
            expect![[r#"HARNESS_ERROR ["HARNESS_ERROR: disk full"]"#]],
        );
    }

    #[test]
    fn the_worst_names_the_class_and_all_are_told() {
        check(
            |facts| {
                facts.impact_ns = None;
                facts.residue.push("a rule".to_owned());
                facts.loss.lost = 50;
            },
            expect![[
                r#"RESIDUE ["RESIDUE: a rule", "SILENT: users saw no harm within 8s", "LOST_EVIDENCE: 4.76 % of the evidence lost, limit 1.00 %"]"#
            ]],
        );
    }

    #[test]
    fn a_placebo_must_have_no_effect_and_controls_need_no_harm() {
        let control = |arm, outcome| {
            move |facts: &mut RunFacts| {
                facts.arm = arm;
                facts.injections[0].outcome = outcome;
                facts.impact = None;
                facts.impact_ns = None;
            }
        };
        check(control(Arm::Placebo, absent()), expect!["VALID []"]);
        check(
            control(
                Arm::Placebo,
                InjectionOutcome::Proven {
                    inject_ns: 1,
                    onset_ns: 2,
                },
            ),
            expect![[r#"HARNESS_ERROR ["HARNESS_ERROR: placebo `f` had an effect"]"#]],
        );
        check(control(Arm::None, absent()), expect!["VALID []"]);
    }
}
