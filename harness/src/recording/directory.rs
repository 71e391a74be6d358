//! Finds recordings: files, run directories, directories of these. Seals the evidence of a run that has ended.
//!
//! Run directories of before recordings were sealed hold the same evidence in several files; they are read, too.

use std::fs;
use std::path::{Path, PathBuf};

use super::container::sha256_hex;
use super::salvage::{salvage, salvage_stream};
use super::{EXTENSION, Evidence, OpenError, Problem, Recording, seal, span_of, unreadable};
use crate::check::validity::Class;
use crate::plan::Plan;
use crate::run::RunError;
use crate::run::directory::write_whole;
use crate::run::judge::{Said, judge_run};
use crate::run::result::{Moments, RunResult};

/// Name of the sealed file in a run directory.
pub const SEALED: &str = "recording.gauntlet";
/// Name of the recorder's stream in a run directory while the run is on, and for ever if it was killed.
pub const FRAMES: &str = "frames.zst";

/// Whether recordings that are not whole are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Salvage {
    /// They are an error.
    No,
    /// As far as they go; their runs do not count.
    Yes,
}

/// What became of a run's evidence.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The frames are not whole; they stay as they are.
    #[error("the recording was not sealed: {0}")]
    NotWhole(#[from] Problem),
    /// The directory could not be written.
    #[error(transparent)]
    Directory(#[from] RunError),
}

/// Seals a run directory's evidence into one file and removes the frames, which are in it. Returns its length, bytes.
///
/// # Errors
/// [`SealError`]; the frames are then still there.
pub fn seal_directory(directory: &Path, evidence: &Evidence) -> Result<usize, SealError> {
    let frames = directory.join(FRAMES);
    let file = seal(evidence, &fs::read(&frames).map_err(Problem::from)?)?;
    write_whole(&directory.join(SEALED), &file)?;
    fs::remove_file(&frames).map_err(Problem::from)?;
    Ok(file.len())
}

/// The recordings that `path` stands for: itself if it is a file or a run directory, otherwise all files of the kind and
/// all run directories in it, by name.
///
/// # Errors
/// [`Problem::Nothing`] if there is none.
pub fn find(path: &Path) -> Result<Vec<PathBuf>, OpenError> {
    if path.is_file() || is_run_directory(path) {
        return Ok(vec![path.to_owned()]);
    }
    let listing = fs::read_dir(path).map_err(|error| OpenError::at(path, error))?;
    let mut found: Vec<PathBuf> = listing
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| is_run_directory(path) || path.extension().is_some_and(|ending| ending == EXTENSION))
        .collect();
    found.sort();
    if found.is_empty() {
        Err(OpenError::at(path, Problem::Nothing))
    } else {
        Ok(found)
    }
}

fn is_run_directory(path: &Path) -> bool {
    path.join(SEALED).is_file() || path.join(FRAMES).is_file()
}

/// The file in a run directory from which [`gauntlet_probes::recording::RecordingReader`] reads the frames; `None` if there is none.
#[must_use]
pub fn frames_file(directory: &Path) -> Option<PathBuf> {
    [SEALED, FRAMES]
        .map(|name| directory.join(name))
        .into_iter()
        .find(|path| path.is_file())
}

/// Reads the recording of a file or of a run directory.
///
/// # Errors
/// [`OpenError`] with the name of what cannot be read.
pub fn open(path: &Path, mode: Salvage) -> Result<Recording, OpenError> {
    let sealed = path.join(SEALED);
    let (file, opened) = if path.is_file() {
        (path, open_file(path, mode))
    } else if sealed.is_file() {
        (sealed.as_path(), open_file(&sealed, mode))
    } else if path.join(FRAMES).is_file() {
        (path, open_parts(path, mode))
    } else {
        (path, Err(Problem::Nothing))
    };
    let mut recording = opened.map_err(|problem| OpenError::at(file, problem))?;
    recording.directory = path.is_dir().then(|| path.to_owned());
    Ok(recording)
}

/// The sealed file of a recording: as it lies there, or made of a run directory's parts.
///
/// # Errors
/// [`OpenError`] with the name of what cannot be read.
pub fn sealed_bytes(path: &Path) -> Result<Vec<u8>, OpenError> {
    let at = |problem: Problem| OpenError::at(path, problem);
    let sealed = path.join(SEALED);
    let file = if path.is_file() {
        Some(path)
    } else {
        sealed.is_file().then_some(sealed.as_path())
    };
    match file {
        Some(file) => fs::read(file).map_err(|error| OpenError::at(file, error)),
        None => {
            let recording = open(path, Salvage::No)?;
            seal(&recording.evidence, recording.frames()).map_err(at)
        }
    }
}

fn open_file(path: &Path, mode: Salvage) -> Result<Recording, Problem> {
    let file = fs::read(path)?;
    match mode {
        Salvage::No => Recording::parse(&file),
        Salvage::Yes => salvage(&file),
    }
}

/// A run directory whose evidence lies in several files.
fn open_parts(directory: &Path, mode: Salvage) -> Result<Recording, Problem> {
    let stream = fs::read(directory.join(FRAMES))?;
    let (evidence, killed) = match (evidence_of(directory), mode) {
        (Ok(evidence), _) => (evidence, false),
        (Err(Problem::Killed), Salvage::Yes) => (evidence_of_killed(directory)?, true),
        (Err(problem), _) => return Err(problem),
    };
    if mode == Salvage::No {
        return Ok(Recording {
            digest: sha256_hex(&stream),
            span: span_of(&stream)?,
            evidence,
            directory: None,
            frames: stream,
        });
    }
    let (mut recording, lost) = salvage_stream(evidence, &stream)?;
    if killed {
        // Of a killed run only its frames are known; they are all looked at.
        recording.evidence.moments = Moments {
            started_ns: recording.span.first_ns,
            baseline_ns: recording.span.first_ns,
            recover_start_ns: recording.span.last_ns,
            recovered_ns: recording.span.last_ns,
            end_ns: recording.span.last_ns,
            ..Moments::default()
        };
    }
    if killed || lost.is_some() {
        let state = if killed {
            "the run was killed"
        } else {
            "the frames are not whole"
        };
        let mut text = format!("salvaged: {state}; {} frames could be read", recording.span.count);
        if let Some(lost) = lost {
            text += &format!("; {lost}");
        }
        recording.evidence.harness_errors.push(text);
    }
    Ok(recording)
}

/// What a run left, from the files beside its frames.
fn evidence_of(directory: &Path) -> Result<Evidence, Problem> {
    if !directory.join("result.json").is_file() {
        return Err(Problem::Killed);
    }
    let result: RunResult = json(directory, "result.json")?;
    let mut evidence = Evidence {
        plan: json(directory, "plan.json")?,
        app: result.app,
        trial: result.trial,
        moments: result.moments,
        faults: result.faults,
        recorder_end: result.detector_end,
        degraded: result.degraded,
        seconds: result.seconds,
        residue: result.residue,
        harness_errors: Vec::new(),
        environment: json(directory, "environment.json")?,
    };
    // Errors of the harness are kept among the findings only. Some of these come of the faults' stories, which are here.
    let known = judge_run(&evidence, &Said::default()).validity.findings;
    let prefix = format!("{}: ", Class::HarnessError.name());
    let told = result
        .validity
        .findings
        .iter()
        .filter(|finding| !known.contains(finding));
    evidence.harness_errors = told
        .filter_map(|finding| finding.strip_prefix(&prefix))
        .map(str::to_owned)
        .collect();
    Ok(evidence)
}

/// What is known of a run that was killed: what it was going to be.
fn evidence_of_killed(directory: &Path) -> Result<Evidence, Problem> {
    let plan: Plan = json(directory, "plan.json")?;
    Ok(Evidence {
        app: plan.scenario.app.clone(),
        plan,
        trial: 1,
        moments: Moments::default(),
        faults: Vec::new(),
        recorder_end: Default::default(),
        degraded: Vec::new(),
        seconds: Vec::new(),
        residue: Vec::new(),
        harness_errors: Vec::new(),
        environment: json(directory, "environment.json")?,
    })
}

fn json<T: serde::de::DeserializeOwned>(directory: &Path, name: &'static str) -> Result<T, Problem> {
    let bytes = fs::read(directory.join(name)).map_err(|error| unreadable(name, &error))?;
    serde_json::from_slice(&bytes).map_err(|error| unreadable(name, &error))
}
