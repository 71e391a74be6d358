//! From replayed recordings to a [`SuiteResult`], which gate, comparison and reports read.

use super::Replayed;
use crate::recording::Recording;
use crate::recording::container::sha256_hex;
use crate::suite::case;
use crate::suite::outcome::{CaseResult, Mode, SUITE_RESULT_VERSION, SuiteResult};

/// Puts recordings in the order of results: by scenario, seed, digest. One that is there twice is taken once.
pub fn put_in_order(recordings: &mut Vec<Recording>) {
    recordings.sort_by_cached_key(|recording| {
        let plan = &recording.evidence.plan;
        (plan.scenario.name.clone(), plan.seed.0, recording.digest.clone())
    });
    recordings.dedup_by(|one, other| one.digest == other.digest);
}

/// The result of replaying `recordings`, which are in order (see [`put_in_order`]); `replayed` go with them.
///
/// Trials are numbered anew within each scenario: recordings that were made one by one are all first trials.
#[must_use]
pub fn suite_result(name: &str, recordings: &[Recording], replayed: &[Replayed]) -> SuiteResult {
    let mut cases: Vec<CaseResult> = Vec::new();
    for (recording, replayed) in recordings.iter().zip(replayed) {
        let scenario = &recording.evidence.plan.scenario.name;
        let trial = match cases.last() {
            Some(last) if last.scenario == *scenario => last.trial + 1,
            _ => 1,
        };
        cases.push(case_result(recording, replayed, trial));
    }
    SuiteResult {
        version: SUITE_RESULT_VERSION,
        suite: name.to_owned(),
        digest: digest_of(recordings),
        mode: Mode::Replay,
        detector: replayed.iter().find_map(|one| one.detector.clone()).unwrap_or_default(),
        shard: None,
        planned_count: recordings.len(),
        cases,
    }
}

/// SHA-256, in hex, over the sorted digests of recordings, one to the line: same digest, same recordings.
#[must_use]
pub fn digest_of(recordings: &[Recording]) -> String {
    let mut digests: Vec<&str> = recordings.iter().map(|recording| recording.digest.as_str()).collect();
    digests.sort_unstable();
    sha256_hex(digests.join("\n").as_bytes())
}

/// The case of one replayed recording, as trial `trial` of its scenario in this result.
#[must_use]
pub fn case_result(recording: &Recording, replayed: &Replayed, trial: u32) -> CaseResult {
    let of_run = case::of_run(
        &recording.evidence.plan.scenario,
        &replayed.result,
        recording.directory.clone(),
        Some(recording.digest.clone()),
    );
    CaseResult { trial, ..of_run }
}
