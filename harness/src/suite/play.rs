//! Plays the cases of a suite one after the other, keeps each at once, and repeats runs that do not count.
//!
//! A run is repeated only when it is not VALID, which is measured; never for what a detector said. Runs that fail, or that
//! break the harness, end as HARNESS_ERROR, and the others go on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use super::case;
use super::event::{Standing, SuiteEvent, SuiteSink};
use super::outcome::CaseResult;
use super::plan::{CaseKey, PlannedCase, SuitePlan};
use super::spec::Chosen;
use super::store::{Line, Store, StoreError};
use crate::check::validity::{Class, Validity};
use crate::doctor::error_chain;
use crate::plan::Seed;
use crate::run::RunError;

/// Keeps what comes of runs: a directory, or something that lives longer than this machine.
pub trait CaseKeeper {
    /// The result of a case that ended.
    fn ended(&self, key: &CaseKey) -> Option<&CaseResult>;

    /// Why earlier runs of a case do not count.
    fn invalid_attempts(&self, key: &CaseKey) -> &[Validity];

    /// Keeps what a run came to; when this returns, it is safe.
    ///
    /// # Errors
    /// When it cannot be kept.
    fn append(&mut self, line: Line) -> Result<(), StoreError>;
}

impl CaseKeeper for Store {
    fn ended(&self, key: &CaseKey) -> Option<&CaseResult> {
        Self::ended(self, key)
    }

    fn invalid_attempts(&self, key: &CaseKey) -> &[Validity] {
        Self::invalid_attempts(self, key)
    }

    fn append(&mut self, line: Line) -> Result<(), StoreError> {
        Self::append(self, line)
    }
}

/// Makes runs: live ones, or replays of recorded ones.
pub trait CaseRunner {
    /// Under which name the detector under test speaks, as far as it is known before it has spoken.
    fn detector_name(&self) -> String;

    /// Makes one run of a case.
    ///
    /// # Errors
    /// [`RunError`] when there is no result. [`RunError::Interrupted`] and [`RunError::CannotHere`] end the suite.
    fn run(&mut self, chosen: &Chosen, case: &PlannedCase, seed: Seed) -> Result<Ran, RunError>;
}

/// A run that ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Ran {
    /// Name and version of the detector under test, in its own words.
    pub detector: Option<String>,
    /// The result, as if the run were the case's only one.
    pub case: CaseResult,
}

/// How the playing of a suite ended. What ended before is kept in each case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All cases have a result.
    Complete,
    /// Ctrl-C or SIGTERM.
    Interrupted,
    /// This machine lacks what a run needs.
    CannotHere(String),
}

/// Plays what has not ended yet of `part`.
///
/// # Errors
/// When a result cannot be kept.
pub fn play(
    plan: &SuitePlan,
    part: &[&PlannedCase],
    store: &mut dyn CaseKeeper,
    runner: &mut dyn CaseRunner,
    sink: &mut dyn SuiteSink,
) -> Result<Ending, StoreError> {
    let planned = |case: &PlannedCase| plan.chosen(case).scenario.phases.total();
    let mut standing = Standing::new(part.len(), part.iter().map(|case| planned(case)).sum());
    for case in part {
        if let Some(ended) = store.ended(&case.key) {
            standing.count(ended, planned(case));
        }
    }
    if standing.ended > 0 {
        let case_count = standing.ended;
        sink.event(SuiteEvent::Resumed { case_count }, &standing);
    }
    for case in part {
        if store.ended(&case.key).is_some() {
            continue;
        }
        let began = Instant::now();
        let mut player = Player {
            chosen: plan.chosen(case),
            retries: plan.retries as usize,
            store: &mut *store,
            runner: &mut *runner,
            sink: &mut *sink,
            standing: &standing,
        };
        match player.play(case)? {
            CaseEnding::Stopped(ending) => return Ok(ending),
            CaseEnding::Ended(ran) => {
                standing.count(&ran.case, planned(case));
                standing.time(planned(case), began.elapsed());
                store.append(Line::Case {
                    detector: ran.detector.clone(),
                    case: Box::new(ran.case.clone()),
                })?;
                sink.event(SuiteEvent::CaseEnded { case: &ran.case }, &standing);
            }
        }
    }
    Ok(Ending::Complete)
}

/// Plays one case.
struct Player<'a> {
    chosen: &'a Chosen,
    retries: usize,
    store: &'a mut dyn CaseKeeper,
    runner: &'a mut dyn CaseRunner,
    sink: &'a mut dyn SuiteSink,
    standing: &'a Standing,
}

enum CaseEnding {
    Ended(Box<Ran>),
    Stopped(Ending),
}

impl Player<'_> {
    fn play(&mut self, case: &PlannedCase) -> Result<CaseEnding, StoreError> {
        let key = &case.key;
        loop {
            let attempt = self.store.invalid_attempts(key).len();
            let seed = case.attempt_seed(attempt);
            self.sink
                .event(SuiteEvent::AttemptBegan { key, seed, attempt }, self.standing);
            let mut ran = match self.attempt(case, seed) {
                Ok(ran) => ran,
                Err(ending) => return Ok(CaseEnding::Stopped(ending)),
            };
            if ran.case.validity.class == Class::Valid || attempt >= self.retries {
                ran.case.invalid_attempts = self.store.invalid_attempts(key).to_vec();
                return Ok(CaseEnding::Ended(Box::new(ran)));
            }
            let validity = ran.case.validity;
            self.sink.event(
                SuiteEvent::Repeated {
                    key,
                    validity: &validity,
                },
                self.standing,
            );
            let key = key.clone();
            self.store.append(Line::InvalidAttempt { key, seed, validity })?;
        }
    }

    /// One run. Whatever becomes of it there is a result, unless the suite is to stop.
    fn attempt(&mut self, case: &PlannedCase, seed: Seed) -> Result<Ran, Ending> {
        let (chosen, runner) = (self.chosen, &mut *self.runner);
        // What a broken run left in memory is not used again: the runner makes each run anew.
        let error = match catch_unwind(AssertUnwindSafe(|| runner.run(chosen, case, seed))) {
            Ok(Ok(ran)) => return Ok(ran),
            Ok(Err(RunError::Interrupted)) => return Err(Ending::Interrupted),
            Ok(Err(RunError::CannotHere(why))) => return Err(Ending::CannotHere(why)),
            Ok(Err(error @ (RunError::Target(_) | RunError::Directory { .. }))) => error_chain(&error),
            Err(panic) => format!("the harness broke: {}", panic_text(panic.as_ref())),
        };
        let name = self.runner.detector_name();
        let failed = case::of_failure(&chosen.scenario, &chosen.app.name, case.key.trial, seed, &name, &error);
        Ok(Ran {
            detector: None,
            case: failed,
        })
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("for no stated reason")
}
