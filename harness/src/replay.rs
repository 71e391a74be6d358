//! Feeds recordings to a detector and judges what it says: no root, no cluster, all cores.
//!
//! Same recordings and same detector: same statements and same scores, to the byte. A replay has no wall clock, so a
//! statement counts from the end of the tick that it is about ([`Diagnosis::at_ns`], kept within the recording and in
//! order). Times to detect and to root cause are therefore shorter than those of the live run by what the detector took
//! to think and its lines to arrive (a few milliseconds for ours), and compare with those of other replays only.
//!
//! [`Diagnosis::at_ns`]: gauntlet_detector::diagnosis::Diagnosis::at_ns

pub mod outcome;
pub mod process;
pub mod suite;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use gauntlet_detector::pipeline;

use crate::recording::Recording;
use crate::recording::container::sha256_hex;
use crate::run::judge::{Said, judge_run};
use crate::run::result::RunResult;

pub use self::process::{Heard, ReplayDetector, ReplayError};

/// A recording, replayed and judged.
#[derive(Clone, Debug)]
pub struct Replayed {
    /// The run's result with this detector in the place of that of the run.
    pub result: RunResult,
    /// How the detector introduced itself; `None`: it did not.
    pub detector: Option<String>,
    /// SHA-256, in hex, of all statements as they were judged: equal for equal diagnoses.
    pub statements_digest: String,
}

impl Replayed {
    /// How the detector failed; `None`: it did not.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.result.failure_of(&self.result.detector.score.detector)
    }
}

/// Replays recordings, `jobs` at a time. Results are in the order of the recordings; `done` is called after each one.
///
/// # Errors
/// [`ReplayError`] if the detector cannot be started. Whatever it does once started is scored.
pub fn replay_all(
    recordings: &[Recording],
    detector: &ReplayDetector,
    jobs: usize,
    done: &(dyn Fn() + Sync),
) -> Result<Vec<Replayed>, ReplayError> {
    let one = |recording: &Recording| {
        let heard = process::hear(detector, recording.frames(), recording.span);
        done();
        heard
    };
    let heard: Vec<Heard> = in_parallel(recordings, jobs, one)
        .into_iter()
        .collect::<Result<_, _>>()?;
    let name = name_of(detector, &heard);
    let pairs: Vec<(&Recording, Heard)> = recordings.iter().zip(heard).collect();
    Ok(in_parallel(&pairs, jobs, |(recording, heard)| {
        judge(recording, heard, &name)
    }))
}

/// Replays one recording, by itself: the result depends on nothing else.
///
/// # Errors
/// [`ReplayError`] if the detector cannot be started. Whatever it does once started is scored.
pub fn replay(recording: &Recording, detector: &ReplayDetector) -> Result<Replayed, ReplayError> {
    let heard = process::hear(detector, recording.frames(), recording.span)?;
    let name = name_of(detector, std::slice::from_ref(&heard));
    Ok(judge(recording, &heard, &name))
}

/// What a detector is called where it says nothing: ours has its name; of another it is the name under which it speaks elsewhere, else that of its
/// introduction, else its program's. All its cases then stand under one name.
fn name_of(detector: &ReplayDetector, heard: &[Heard]) -> String {
    if detector.is_own {
        return pipeline::NAME.to_owned();
    }
    let spoken = heard.iter().find_map(|one| one.speaks_as.clone());
    let introduced = || heard.iter().find_map(|one| one.introduced_as.clone());
    spoken
        .or_else(introduced)
        .unwrap_or_else(|| detector.program.display().to_string())
}

/// Judges what was heard.
fn judge(recording: &Recording, heard: &Heard, name: &str) -> Replayed {
    let name = heard.speaks_as.as_deref().unwrap_or(name);
    let said = Said {
        ends: BTreeMap::from([(name.to_owned(), heard.end.clone())]),
        detector: name.to_owned(),
        statements: heard.statements.clone(),
    };
    let statements = serde_json::to_vec(&said.statements).expect("statements are data");
    Replayed {
        result: judge_run(&recording.evidence, &said),
        detector: heard.introduced_as.clone(),
        statements_digest: sha256_hex(&statements),
    }
}

/// What `work` makes of each item, in the items' order, on `jobs` threads.
pub fn in_parallel<T: Sync, R: Send>(items: &[T], jobs: usize, work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(index) else { return done };
            done.push((index, work(item)));
        }
    };
    let mut done: Vec<(usize, R)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs.clamp(1, items.len().max(1)))
            .map(|_| scope.spawn(worker))
            .collect();
        let joined = workers.into_iter().map(|worker| worker.join());
        joined
            .flat_map(|done| done.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

/// Processors that may be used, for a number of jobs that was not asked for.
#[must_use]
pub fn all_cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

#[cfg(test)]
mod tests {
    use super::in_parallel;

    #[test]
    fn results_keep_the_order_of_the_items_whatever_the_number_of_jobs() {
        let items: Vec<u64> = (0..100).collect();
        let slow_first = |item: &u64| {
            std::thread::sleep(std::time::Duration::from_micros(100 - item));
            item * 2
        };
        for jobs in [0, 1, 3, 1000] {
            let expected: Vec<u64> = items.iter().map(|item| item * 2).collect();
            assert_eq!(in_parallel(&items, jobs, slow_first), expected, "{jobs} jobs");
        }
        assert_eq!(in_parallel(&[], 4, slow_first), Vec::<u64>::new());
    }
}
