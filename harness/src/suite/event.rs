//! What happens in a suite, as it happens, and where it stands: one enum, many sinks.
//!
//! Does not print; see [`crate::report::suite_console`].

use std::time::Duration;

use super::outcome::CaseResult;
use super::plan::CaseKey;
use crate::check::validity::{Class, Validity};
use crate::plan::Seed;
use crate::score::verdict::Verdict;

/// One thing that happened.
#[derive(Clone, Copy, Debug)]
pub enum SuiteEvent<'a> {
    /// Cases that had ended before an interruption will not run again.
    Resumed {
        /// How many.
        case_count: usize,
    },
    /// A run begins.
    AttemptBegan {
        /// Of which case.
        key: &'a CaseKey,
        /// Its seed.
        seed: Seed,
        /// 0 for the first attempt.
        attempt: usize,
    },
    /// A run does not count and is repeated.
    Repeated {
        /// Of which case.
        key: &'a CaseKey,
        /// Why it does not count.
        validity: &'a Validity,
    },
    /// A case has its result.
    CaseEnded {
        /// The result.
        case: &'a CaseResult,
    },
}

/// Takes what happens.
pub trait SuiteSink {
    /// Takes one event; `standing` includes it.
    fn event(&mut self, event: SuiteEvent<'_>, standing: &Standing);
}

/// Where a suite stands: what came of the cases that ended, and how long the others may take.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Standing {
    /// All cases of this part of the suite.
    pub case_count: usize,
    /// Cases that ended.
    pub ended: usize,
    /// Of these, VALID.
    pub valid: usize,
    /// Runs that were not VALID, repeated ones included.
    pub invalid_runs: usize,
    /// Cases within the scenario's limits.
    pub passed: usize,
    /// Cases in which the detector fell short.
    pub failed: usize,
    /// How long the phases of the cases are that have not ended, as planned.
    planned_left: Duration,
    /// How long they were of the cases that were timed.
    planned_timed: Duration,
    /// How long those took, with everything around the phases and with repetitions.
    took: Duration,
}

impl Standing {
    /// Before anything ran.
    #[must_use]
    pub fn new(case_count: usize, planned: Duration) -> Self {
        Self {
            case_count,
            planned_left: planned,
            ..Self::default()
        }
    }

    /// Counts a case that ended, whose phases are planned to take `planned`.
    pub fn count(&mut self, case: &CaseResult, planned: Duration) {
        self.ended += 1;
        self.valid += usize::from(case.validity.class == Class::Valid);
        self.invalid_runs += case.invalid_attempts.len() + usize::from(case.validity.class != Class::Valid);
        match case.detector.judgement.verdict {
            Verdict::Pass => self.passed += 1,
            Verdict::Fail => self.failed += 1,
            Verdict::Inconclusive => {}
        }
        self.planned_left = self.planned_left.saturating_sub(planned);
    }

    /// Learns how long a case took.
    pub fn time(&mut self, planned: Duration, took: Duration) {
        self.planned_timed += planned;
        self.took += took;
    }

    /// How long the rest may take, by how long the cases took that ended here; `None` before the first of them.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        (!self.planned_timed.is_zero()).then(|| {
            self.planned_left
                .mul_f64(self.took.as_secs_f64() / self.planned_timed.as_secs_f64())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::case;

    #[test]
    fn the_rest_takes_as_much_longer_than_planned_as_what_was_timed() {
        let catalogue = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
        let none = crate::scenario::load("none", &catalogue).expect("it ships");
        let case = case::of_failure(&none, "shop", 1, Seed(1), "silent", "");
        let seconds = Duration::from_secs;
        let mut standing = Standing::new(4, seconds(120));
        assert_eq!(standing.remaining(), None);
        // Ended before an interruption: it is not known how long it took.
        standing.count(&case, seconds(30));
        assert_eq!(standing.remaining(), None);
        standing.count(&case, seconds(20));
        standing.time(seconds(20), seconds(30));
        assert_eq!(standing.remaining(), Some(seconds(105)));
        standing.count(&case, seconds(70));
        standing.time(seconds(70), seconds(60));
        assert_eq!(standing.remaining(), Some(seconds(0)));
        assert_eq!((standing.ended, standing.valid, standing.invalid_runs), (3, 0, 3));
    }
}
