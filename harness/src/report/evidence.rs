//! A run directory, read back: all that the reports of a run are made of, today or on another day.
//!
//! Does not judge again: `result.json` is the judgement that was made.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::traffic::{Traffic, Windows};
use crate::plan::Plan;
use crate::recording::directory::frames_file;
use crate::run::environment::Environment;
use crate::run::result::{RESULT_VERSION, RunResult};

/// What a run directory holds.
#[derive(Clone, Debug)]
pub struct RunEvidence {
    /// The directory.
    pub directory: PathBuf,
    /// The run, measured and judged.
    pub result: RunResult,
    /// What was to be done.
    pub plan: Plan,
    /// On what it was done; `None` if the run ended before that was known.
    pub environment: Option<Environment>,
    /// Who called whom, as the probes saw it; the error's words where there is no readable recording.
    pub traffic: Result<Traffic, String>,
}

/// A report cannot be made of a directory.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    /// A file is not there or cannot be read.
    #[error("failed to read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file does not hold what its name says.
    #[error("failed to understand {path}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// A file is of another version.
    #[error("{path} is of version {found}; this program knows version {known}: use the release that wrote it")]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u64,
        /// Ours.
        known: u32,
    },
}

impl RunEvidence {
    /// Reads a run directory.
    ///
    /// # Errors
    /// [`EvidenceError`] when `result.json` or `plan.json` is not there or not readable. A missing recording is no error:
    /// detectors of others do not record.
    pub fn read(directory: &Path) -> Result<Self, EvidenceError> {
        let result: RunResult = read_versioned(&directory.join("result.json"), RESULT_VERSION)?;
        let plan = read_json(&directory.join("plan.json"))?;
        let environment = directory.join("environment.json");
        let environment = environment.is_file().then(|| read_json(&environment)).transpose()?;
        let traffic = read_traffic(directory, &result);
        Ok(Self {
            directory: directory.to_owned(),
            result,
            plan,
            environment,
            traffic,
        })
    }
}

fn read_traffic(directory: &Path, result: &RunResult) -> Result<Traffic, String> {
    let moments = &result.moments;
    let began = result.onset_ns().unwrap_or(moments.fault_phase_ns);
    let windows = Windows {
        before: (moments.baseline_ns, began),
        during: (began, moments.recover_start_ns),
    };
    match frames_file(directory) {
        Some(path) => Traffic::read(&path, windows).map_err(|error| crate::doctor::error_chain(&error)),
        None => Err("nothing was recorded: only Gauntlet's own detector records frames".to_owned()),
    }
}

/// Reads a file of JSON.
///
/// # Errors
/// [`EvidenceError`] when it is not there or something else.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, EvidenceError> {
    parse(path, &read_bytes(path)?)
}

/// Reads a file of JSON with a `version`, which is looked at first: a newer file is not called malformed.
///
/// # Errors
/// [`EvidenceError`] when it is not there, something else, or of another version.
pub fn read_versioned<T: DeserializeOwned>(path: &Path, known: u32) -> Result<T, EvidenceError> {
    #[derive(serde::Deserialize)]
    struct Versioned {
        version: u64,
    }
    let bytes = read_bytes(path)?;
    let Versioned { version: found } = parse(path, &bytes)?;
    if found == u64::from(known) {
        return parse(path, &bytes);
    }
    let path = path.to_owned();
    Err(EvidenceError::Version { path, found, known })
}

fn read_bytes(path: &Path) -> Result<Vec<u8>, EvidenceError> {
    std::fs::read(path).map_err(|source| EvidenceError::Read {
        path: path.to_owned(),
        source,
    })
}

fn parse<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T, EvidenceError> {
    serde_json::from_slice(bytes).map_err(|source| EvidenceError::Malformed {
        path: path.to_owned(),
        source,
    })
}
