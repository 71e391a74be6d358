//! A suite over recordings: which recording answers which case, and the runner that replays it.
//!
//! Takes recordings that were read, and reads none. A case is judged by what was planned when it was recorded, so the
//! truth and the limits are those of the recording even where the scenario's file has changed since.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use super::outcome::{case_result, put_in_order};
use super::{ReplayDetector, ReplayError, Replayed, in_parallel, replay};
use crate::check::validity::Class;
use crate::corpus::validity_of;
use crate::plan::Seed;
use crate::recording::Recording;
use crate::recording::container::sha256_hex;
use crate::run::RunError;
use crate::scenario::model::Scenario;
use crate::suite::merge::seen_from;
use crate::suite::plan::{CaseKey, PlannedCase, SuitePlan};
use crate::suite::play::{CaseRunner, Ran};
use crate::suite::spec::Chosen;
use crate::timeline::Cancel;

/// A suite of which every case has its recording.
#[derive(Clone, Debug)]
pub struct RecordedSuite {
    plan: SuitePlan,
    recordings: BTreeMap<CaseKey, Recording>,
}

/// A scenario with fewer recordings than trials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lack {
    /// Its name.
    pub scenario: String,
    /// How many trials it has.
    pub wanted: usize,
    /// How many recordings there are whose runs count.
    pub found: usize,
    /// How many there are whose runs do not.
    pub invalid: usize,
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            scenario,
            wanted,
            found,
            invalid,
        } = self;
        write!(f, "{scenario}: recordings wanted: {wanted}, there: {found}")?;
        match invalid {
            0 => Ok(()),
            _ => write!(f, ", there of runs that do not count: {invalid}"),
        }
    }
}

impl RecordedSuite {
    /// Gives every case of `plan` a recording of its own: of its scenario, of its seed where there is one, else the next
    /// by seed of those left. Recordings of runs that do not count answer nothing.
    ///
    /// All cases are given theirs, also those of other shards, so that every shard chooses the same.
    ///
    /// # Errors
    /// Every scenario that has too few.
    pub fn choose(plan: &SuitePlan, mut recordings: Vec<Recording>) -> Result<Self, Vec<Lack>> {
        put_in_order(&mut recordings);
        let mut of_scenario: BTreeMap<String, Vec<Recording>> = BTreeMap::new();
        for recording in recordings {
            let name = recording.evidence.plan.scenario.name.clone();
            of_scenario.entry(name).or_default().push(recording);
        }
        let (mut chosen, mut lacks) = (BTreeMap::new(), Vec::new());
        for (index, Chosen { scenario, app: _ }) in plan.scenarios.iter().enumerate() {
            let there = of_scenario.remove(&scenario.name).unwrap_or_default();
            let (valid, invalid): (Vec<_>, Vec<_>) = there
                .into_iter()
                .partition(|recording| validity_of(recording).class == Class::Valid);
            let cases = plan.cases.iter().filter(|case| case.scenario_index == index);
            let cases: Vec<&PlannedCase> = cases.collect();
            let lack = Lack {
                scenario: scenario.name.clone(),
                wanted: cases.len(),
                found: valid.len(),
                invalid: invalid.len(),
            };
            match assign(&cases, valid) {
                Some(assigned) => chosen.extend(assigned),
                None => lacks.push(lack),
            }
        }
        if lacks.is_empty() {
            Ok(Self {
                plan: recorded_plan(plan, &chosen),
                recordings: chosen,
            })
        } else {
            Err(lacks)
        }
    }

    /// The plan with the seeds of the recordings. Its digest is of what was asked for and of the recordings chosen, and
    /// nothing is repeated: a recording would answer the same again.
    #[must_use]
    pub fn plan(&self) -> &SuitePlan {
        &self.plan
    }

    /// Scenarios of which a recording was planned otherwise than they stand today, by name.
    #[must_use]
    pub fn changed(&self) -> Vec<&str> {
        let is_other = |chosen: &&Chosen| {
            let of_it = |(key, _): &(&CaseKey, &Recording)| key.scenario == chosen.scenario.name;
            let today = without_prose(&chosen.scenario);
            let mut recordings = self.recordings.iter().filter(of_it);
            recordings.any(|(_, recording)| without_prose(&recording.evidence.plan.scenario) != today)
        };
        let changed = self.plan.scenarios.iter().filter(is_other);
        changed.map(|chosen| chosen.scenario.name.as_str()).collect()
    }
}

/// A recording for each case: first those of the cases' own seeds, then the others in their order. `None`: too few.
fn assign(cases: &[&PlannedCase], mut there: Vec<Recording>) -> Option<Vec<(CaseKey, Recording)>> {
    let own = |case: &&PlannedCase| {
        let at = there
            .iter()
            .position(|recording| recording.evidence.plan.seed == case.seed)?;
        Some(there.remove(at))
    };
    let own: Vec<Option<Recording>> = cases.iter().map(own).collect();
    let mut others = there.into_iter();
    let assigned = cases.iter().zip(own);
    assigned
        .map(|(case, own)| Some((case.key.clone(), own.or_else(|| others.next())?)))
        .collect()
}

fn recorded_plan(plan: &SuitePlan, chosen: &BTreeMap<CaseKey, Recording>) -> SuitePlan {
    let recorded = |case: &PlannedCase| PlannedCase {
        seed: chosen[&case.key].evidence.plan.seed,
        ..case.clone()
    };
    let digests = plan.cases.iter().map(|case| chosen[&case.key].digest.as_str());
    let digested: Vec<&str> = std::iter::once(plan.digest.as_str()).chain(digests).collect();
    SuitePlan {
        digest: sha256_hex(digested.join("\n").as_bytes()),
        retries: 0,
        cases: plan.cases.iter().map(recorded).collect(),
        ..plan.clone()
    }
}

/// Correcting a word makes no other scenario.
fn without_prose(scenario: &Scenario) -> Scenario {
    Scenario {
        title: String::new(),
        description: String::new(),
        ..scenario.clone()
    }
}

/// Answers cases from their recordings. Some are replayed ahead, as many at a time as there are processors to do so; an
/// interruption loses no more than those.
#[derive(Debug)]
pub struct RecordedRunner<'a> {
    suite: &'a RecordedSuite,
    detector: &'a ReplayDetector,
    /// The cases that are to be answered, in their order.
    cases: Vec<CaseKey>,
    jobs: usize,
    /// The suite's directory.
    home: PathBuf,
    cancel: Cancel,
    ahead: BTreeMap<CaseKey, Replayed>,
}

impl<'a> RecordedRunner<'a> {
    /// A runner that is going to be asked for `cases`, in this order. `home` is the suite's directory; a run directory
    /// below it is called by its relative name. Once `cancel` is true the next case is not answered.
    #[must_use]
    pub fn new(
        suite: &'a RecordedSuite,
        detector: &'a ReplayDetector,
        cases: Vec<CaseKey>,
        jobs: usize,
        home: PathBuf,
        cancel: Cancel,
    ) -> Self {
        Self {
            suite,
            detector,
            cases,
            jobs: jobs.max(1),
            home,
            cancel,
            ahead: BTreeMap::new(),
        }
    }

    fn replayed(&mut self, key: &CaseKey) -> Result<Replayed, ReplayError> {
        if let Some(replayed) = self.ahead.remove(key) {
            return Ok(replayed);
        }
        let from = self.cases.iter().skip_while(|case| *case != key);
        let batch: Vec<&CaseKey> = from.take(self.jobs).collect();
        let one = |key: &&CaseKey| replay(&self.suite.recordings[*key], self.detector);
        for (key, replayed) in batch.iter().zip(in_parallel(&batch, self.jobs, one)) {
            self.ahead.insert((*key).clone(), replayed?);
        }
        Ok(self.ahead.remove(key).expect("it was the first of its batch"))
    }
}

impl CaseRunner for RecordedRunner<'_> {
    fn detector_name(&self) -> String {
        self.detector.program.display().to_string()
    }

    fn run(&mut self, _: &Chosen, case: &PlannedCase, _: Seed) -> Result<Ran, RunError> {
        if *self.cancel.borrow() {
            return Err(RunError::Interrupted);
        }
        let replayed = self.replayed(&case.key);
        let replayed = replayed.map_err(|error| RunError::CannotHere(error.to_string()))?;
        let mut result = case_result(&self.suite.recordings[&case.key], &replayed, case.key.trial);
        result.directory = result.directory.map(|run| seen_from(&self.home, &run));
        Ok(Ran {
            detector: replayed.detector,
            case: result,
        })
    }
}
