//! From a suite to its cases: which scenario, which trial, which seed, in which order, and which shard runs them.
//!
//! A function of the suite. Same scenarios, applications, seeds and trials: same digest, on every machine and for every
//! shard. Does nothing.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::choice::CLASS;
use super::glob;
use super::outcome::Shard;
use super::spec::{Chosen, Suite};
use crate::plan::Seed;
use crate::recording::container::sha256_hex;

/// The seed of a repetition is this much above that of the attempt before. Far enough to be no other trial's seed, and
/// easy to tell from one.
const RETRY_SEED_STEP: u64 = 1_000_000;

/// Which scenarios of a suite are wanted, beyond what its file says. Empty lists want all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Names or patterns, of which one must match.
    pub names: Vec<String>,
    /// Values of the label `class`, of which one must be there.
    pub classes: Vec<String>,
    /// Labels, all of which must be there.
    pub labels: Vec<(String, String)>,
}

impl Wanted {
    /// Takes away what is not wanted; what is left may be empty.
    #[must_use]
    pub fn of(&self, suite: Suite) -> Suite {
        let scenarios = suite
            .scenarios
            .into_iter()
            .filter(|chosen| self.wants(chosen))
            .collect();
        Suite { scenarios, ..suite }
    }

    fn wants(&self, chosen: &Chosen) -> bool {
        let Chosen { scenario, app: _ } = chosen;
        let has = |key: &str, value: &str| scenario.labels.get(key).is_some_and(|found| found == value);
        (self.names.is_empty() || self.names.iter().any(|name| glob::matches(name, &scenario.name)))
            && (self.classes.is_empty() || self.classes.iter().any(|class| has(CLASS, class)))
            && self.labels.iter().all(|(key, value)| has(key, value))
    }
}

/// The cases of a suite.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SuitePlan {
    /// Name of the suite.
    pub suite: String,
    /// SHA-256, in hex, of everything that is asked for: scenarios without their prose, applications, trials, seeds.
    pub digest: String,
    /// How often a run that is not VALID is repeated.
    pub retries: u32,
    /// What runs, by its index in `cases`.
    pub scenarios: Vec<Chosen>,
    /// All cases in their order: the first trial of every scenario, then the second, …, so that what an interruption
    /// leaves is a smaller suite and not half of the scenarios.
    pub cases: Vec<PlannedCase>,
}

/// One case that is to be run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedCase {
    /// Which of the plan's scenarios.
    pub scenario_index: usize,
    /// Its name and trial, unique in the suite.
    pub key: CaseKey,
    /// Seed of its first attempt.
    pub seed: Seed,
}

/// What tells one case of a suite from another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CaseKey {
    /// Name of the scenario.
    pub scenario: String,
    /// Trial, from 1.
    pub trial: u32,
}

impl fmt::Display for CaseKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} trial {}", self.scenario, self.trial)
    }
}

impl PlannedCase {
    /// Seed of an attempt; 0 is the first.
    #[must_use]
    pub fn attempt_seed(&self, attempt: usize) -> Seed {
        Seed(self.seed.0 + RETRY_SEED_STEP * attempt as u64)
    }
}

impl SuitePlan {
    /// The cases of one part, in their order; `None`: all.
    #[must_use]
    pub fn part(&self, shard: Option<Shard>) -> Vec<&PlannedCase> {
        let trial_count = self.cases.len().checked_div(self.scenarios.len()).unwrap_or(0);
        let is_mine = |case: &&PlannedCase| {
            let Some(Shard { index, count }) = shard else {
                return true;
            };
            // Dealt out scenario by scenario, so that each shard gets its share of every scenario's trials.
            let lot = case.scenario_index * trial_count + (case.key.trial as usize - 1);
            lot % count as usize == index as usize - 1
        };
        self.cases.iter().filter(is_mine).collect()
    }

    /// The scenario of a case, with its application.
    #[must_use]
    pub fn chosen(&self, case: &PlannedCase) -> &Chosen {
        &self.scenarios[case.scenario_index]
    }
}

/// Makes the plan of a suite.
#[must_use]
pub fn plan(suite: &Suite) -> SuitePlan {
    let cases_of_trial = |(trial_index, seed): (usize, &Seed)| {
        let case = |(scenario_index, chosen): (usize, &Chosen)| PlannedCase {
            scenario_index,
            key: CaseKey {
                scenario: chosen.scenario.name.clone(),
                trial: u32::try_from(trial_index + 1).expect("trials are counted in 32 bits"),
            },
            seed: *seed,
        };
        suite.scenarios.iter().enumerate().map(case).collect::<Vec<_>>()
    };
    SuitePlan {
        suite: suite.name.clone(),
        digest: digest(suite),
        retries: suite.retries,
        scenarios: suite.scenarios.clone(),
        cases: suite.seeds.iter().enumerate().flat_map(cases_of_trial).collect(),
    }
}

/// Titles and descriptions are left out: correcting a word makes no other suite.
fn digest(suite: &Suite) -> String {
    let content = |chosen: &Chosen| -> Value {
        let mut scenario = chosen.scenario.clone();
        scenario.title.clear();
        scenario.description.clear();
        json!({"scenario": scenario, "app": chosen.app})
    };
    let scenarios: Vec<Value> = suite.scenarios.iter().map(content).collect();
    // Keys of a JSON value are sorted, so the text is canonical.
    sha256_hex(
        json!({"version": 1, "scenarios": scenarios, "seeds": suite.seeds})
            .to_string()
            .as_bytes(),
    )
}

/// Why a text names no shard.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no shard: write i/n with i from 1 to n, for example 2/3")]
pub struct ShardError(String);

impl FromStr for Shard {
    type Err = ShardError;

    fn from_str(text: &str) -> Result<Self, ShardError> {
        let parts = text.split_once('/').and_then(|(index, count)| {
            let (index, count) = (index.parse::<u32>().ok()?, count.parse::<u32>().ok()?);
            (1..=count).contains(&index).then_some(Self { index, count })
        });
        parts.ok_or_else(|| ShardError(text.to_owned()))
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}
