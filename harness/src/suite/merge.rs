//! From the results of a suite's shards to one result.
//!
//! What does not belong together is refused; what is missing is said, and makes the whole inconclusive.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::outcome::{CaseResult, SuiteResult};
use super::plan::CaseKey;
use super::store::{self, Header, PLAN_FILE, RESULT_FILE, StoreError, short};

/// One shard's directory, read.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// The directory.
    pub directory: PathBuf,
    /// What it is for.
    pub header: Header,
    /// What came of it.
    pub result: SuiteResult,
}

/// The shards as one result.
#[derive(Clone, Debug, PartialEq)]
pub struct Merged {
    /// The result; its run directories are relative to where it is to lie.
    pub result: SuiteResult,
    /// Cases without a result, in the suite's order.
    pub missing: Vec<CaseKey>,
}

/// Why shards do not make one result.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// A directory cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A directory is none of a suite, or its suite was never ended or interrupted.
    #[error("{directory} has no {file}: give directories in which `gauntlet suite run` has ended")]
    NoResult {
        /// The directory.
        directory: PathBuf,
        /// What it lacks.
        file: &'static str,
    },
    /// Two shards disagree.
    #[error("{first} and {other} have another {what}: {there} and {here}")]
    Differ {
        /// The first directory.
        first: PathBuf,
        /// The other one.
        other: PathBuf,
        /// In what they differ.
        what: &'static str,
        /// What the first says.
        there: String,
        /// What the other says.
        here: String,
    },
    /// Two shards have the same case.
    #[error("{first} and {other} both have {key}")]
    Twice {
        /// The case.
        key: CaseKey,
        /// One directory.
        first: PathBuf,
        /// The other one.
        other: PathBuf,
    },
}

/// Reads a shard's directory.
///
/// # Errors
/// When it is none, or is damaged.
pub fn read_part(directory: &Path) -> Result<Part, MergeError> {
    let lacks = |file| MergeError::NoResult {
        directory: directory.to_owned(),
        file,
    };
    let header = store::read_header(directory)?.ok_or_else(|| lacks(PLAN_FILE))?;
    let result = store::read_result(directory)?.ok_or_else(|| lacks(RESULT_FILE))?;
    Ok(Part {
        directory: directory.to_owned(),
        header,
        result,
    })
}

/// Puts shards together. `home` is the directory in which the result is to lie. `parts` is not empty.
///
/// # Errors
/// When they are not of the same suite, mode and detector, or overlap.
pub fn merge(parts: &[Part], home: &Path) -> Result<Merged, MergeError> {
    let first = &parts[0];
    let mut found: BTreeMap<CaseKey, (&Part, CaseResult)> = BTreeMap::new();
    for part in parts {
        must_agree(first, part)?;
        for case in &part.result.cases {
            let key = CaseKey {
                scenario: case.scenario.clone(),
                trial: case.trial,
            };
            if let Some((other, _)) = found.get(&key) {
                return Err(MergeError::Twice {
                    key,
                    first: other.directory.clone(),
                    other: part.directory.clone(),
                });
            }
            let directory = case
                .directory
                .as_ref()
                .map(|run| seen_from(home, &part.directory.join(run)));
            let case = CaseResult {
                directory,
                ..case.clone()
            };
            found.insert(key, (part, case));
        }
    }
    let planned = &first.header.cases;
    let missing = planned.iter().filter(|key| !found.contains_key(key)).cloned().collect();
    let detector = parts
        .iter()
        .map(|part| &part.result.detector)
        .find(|name| !name.is_empty());
    let result = SuiteResult {
        detector: detector.cloned().unwrap_or_default(),
        shard: None,
        planned_count: planned.len(),
        cases: planned.iter().filter_map(|key| Some(found.remove(key)?.1)).collect(),
        ..first.result.clone()
    };
    Ok(Merged { result, missing })
}

fn must_agree(first: &Part, other: &Part) -> Result<(), MergeError> {
    let program = |part: &Part| short(&part.header.detector_program).to_owned();
    let pairs = [
        (
            "version",
            first.result.version.to_string(),
            other.result.version.to_string(),
        ),
        ("digest", first.header.digest.clone(), other.header.digest.clone()),
        (
            "mode",
            format!("{:?}", first.result.mode).to_lowercase(),
            format!("{:?}", other.result.mode).to_lowercase(),
        ),
        ("detector program", program(first), program(other)),
    ];
    match pairs.into_iter().find(|(_, there, here)| there != here) {
        None => Ok(()),
        Some((what, there, here)) => Err(MergeError::Differ {
            first: first.directory.clone(),
            other: other.directory.clone(),
            what,
            there,
            here,
        }),
    }
}

/// A run directory as a result in `home` names it: relative where it lies below, else absolute.
pub(crate) fn seen_from(home: &Path, run: &Path) -> PathBuf {
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let run = absolute(run);
    run.strip_prefix(absolute(home)).map_or(run.clone(), Path::to_owned)
}
