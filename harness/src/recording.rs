//! Recordings: one sealed file for each run, with all that its judgement needs beside what detectors say.
//!
//! Seals what a run left, reads it again, and says what is wrong with a file. Does not judge ([`crate::run::judge`]) and
//! does not feed detectors ([`crate::replay`]): these get [`Recording::frames`] and never the truth.

pub mod container;
pub mod directory;
pub mod salvage;

use std::io::Read;
use std::path::{Path, PathBuf};

use gauntlet_probes::recording::{Record, RecordingError, RecordingReader};
use serde::{Deserialize, Serialize};

use crate::check::sli::SliSecond;
use crate::clock::MonotonicNanos;
use crate::detectors::DetectorEnd;
use crate::doctor::error_chain;
use crate::plan::Plan;
use crate::run::environment::Environment;
use crate::run::result::{FaultRecord, Moments};

use self::container::{ContainerError, join, sha256_hex, split};

/// Ending of a sealed file.
pub const EXTENSION: &str = "gauntlet";

/// Level at which frames are compressed when a run is sealed: near the best, at 0.2 s for a run of 36 s. While the run is
/// on the recorder uses a fast one, because its CPU time is measured.
const SEALED_LEVEL: i32 = 19;
/// Longest truth that is read. That of a run of 36 s has 12 kB; a length that lies must not cost memory.
const TRUTH_BYTES_MAX: u64 = 64 << 20;

/// What a run left beside the frames and what detectors said: all that [`crate::run::judge::judge_run`] needs of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Evidence {
    /// What was planned, with the ground truth.
    pub plan: Plan,
    /// The application.
    pub app: String,
    /// Trial, from 1.
    pub trial: u32,
    /// Moments; of impact and recovery those that were found when the run was judged. Judging finds them anew.
    pub moments: Moments,
    /// Each fault's story.
    pub faults: Vec<FaultRecord>,
    /// How the process ended that recorded the frames. Its losses decide whether the run counts, whoever is judged.
    pub recorder_end: DetectorEnd,
    /// What the probes worked without.
    pub degraded: Vec<String>,
    /// Users' experience.
    pub seconds: Vec<SliSecond>,
    /// What was left behind.
    pub residue: Vec<String>,
    /// What went wrong in the harness itself.
    pub harness_errors: Vec<String>,
    /// The machine and the versions.
    pub environment: Environment,
}

/// Which frames a recording has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FrameSpan {
    /// How many.
    pub count: u64,
    /// End of the first one's tick.
    pub first_ns: MonotonicNanos,
    /// End of the last one's tick.
    pub last_ns: MonotonicNanos,
}

impl FrameSpan {
    fn add(&mut self, at_ns: MonotonicNanos) {
        if self.count == 0 {
            self.first_ns = at_ns;
        }
        self.last_ns = at_ns;
        self.count += 1;
    }

    /// Seconds from the first to the last.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "nanoseconds of a run")]
    pub fn seconds(&self) -> f64 {
        self.last_ns.saturating_sub(self.first_ns) as f64 / 1e9
    }
}

/// The first part of a sealed file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Truth {
    frames: FrameSpan,
    evidence: Evidence,
}

/// A recording, read.
#[derive(Clone, Debug)]
pub struct Recording {
    /// SHA-256 of the file, in hex, as `sha256sum` prints it.
    pub digest: String,
    /// Which frames it has.
    pub span: FrameSpan,
    /// What the run left.
    pub evidence: Evidence,
    /// The run directory from which it was read; `None`: a file by itself.
    pub directory: Option<PathBuf>,
    frames: Vec<u8>,
}

impl Recording {
    /// The recorder's stream: inventory and frames, compressed. Nothing of the truth is in it.
    #[must_use]
    pub fn frames(&self) -> &[u8] {
        &self.frames
    }

    /// Takes a sealed file apart. Its frames are not read; see [`span_of`].
    ///
    /// # Errors
    /// [`Problem`]: it is something else, newer, cut off or damaged.
    pub fn parse(file: &[u8]) -> Result<Self, Problem> {
        let parts = split(file)?;
        let truth = truth_of(parts.truth)?;
        // A detector that cannot read the frames has not missed anything.
        open_frames(parts.frames)?;
        Ok(Self {
            digest: sha256_hex(file),
            span: truth.frames,
            evidence: truth.evidence,
            directory: None,
            frames: parts.frames.to_vec(),
        })
    }
}

/// Why a recording cannot be read or made.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// A file cannot be read.
    #[error("it cannot be read: {0}")]
    Io(#[from] std::io::Error),
    /// It is no sealed file, or not whole.
    #[error(transparent)]
    Container(#[from] ContainerError),
    /// What a run left cannot be understood.
    #[error("{part} cannot be read: {cause}")]
    Truth {
        /// Which part or file.
        part: &'static str,
        /// What the decoder says.
        cause: String,
    },
    /// The frames break off, or are of an unknown version.
    #[error("{}", frames_text(*.record, .cause))]
    Frames {
        /// Number of the record, from 1; 0 is the header.
        record: u64,
        /// What the decoder says.
        cause: RecordingError,
    },
    /// There is no frame in it.
    #[error("it holds no frame")]
    Empty,
    /// The run never ended.
    #[error("its run was killed before it ended, so there is no truth about it; --salvage shows what is left")]
    Killed,
    /// There is nothing of the kind.
    #[error("it is neither a recording nor a run directory nor a corpus")]
    Nothing,
}

/// A recording that cannot be read, with its name.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct OpenError {
    /// The file or directory.
    pub path: PathBuf,
    /// Why.
    pub problem: Problem,
}

impl OpenError {
    pub(crate) fn at(path: &Path, problem: impl Into<Problem>) -> Self {
        Self {
            path: path.to_owned(),
            problem: problem.into(),
        }
    }
}

/// Seals what a run left and the recorder's whole stream. Same input: same bytes.
///
/// # Errors
/// [`Problem::Frames`] or [`Problem::Empty`] if the stream is not whole.
pub fn seal(evidence: &Evidence, stream: &[u8]) -> Result<Vec<u8>, Problem> {
    let truth = Truth {
        frames: span_of(stream)?,
        evidence: evidence.clone(),
    };
    let truth = serde_json::to_vec(&truth).map_err(|error| unreadable("the truth", &error))?;
    let records = zstd::decode_all(stream)?;
    Ok(join(
        &zstd::bulk::compress(&truth, SEALED_LEVEL)?,
        &zstd::bulk::compress(&records, SEALED_LEVEL)?,
    ))
}

/// Reads all of a recorder's stream.
///
/// # Errors
/// [`Problem::Frames`] at the first record that cannot be read, [`Problem::Empty`] if no frame is among them.
pub fn span_of(stream: &[u8]) -> Result<FrameSpan, Problem> {
    let mut span = FrameSpan::default();
    for (record, content) in (1..).zip(open_frames(stream)?) {
        match content.map_err(|cause| Problem::Frames { record, cause })? {
            Record::Inventory(_) => {}
            Record::Frame(frame) => span.add(frame.at_ns),
        }
    }
    if span.count == 0 { Err(Problem::Empty) } else { Ok(span) }
}

fn open_frames(stream: &[u8]) -> Result<RecordingReader<&[u8]>, Problem> {
    RecordingReader::new(stream).map_err(|cause| Problem::Frames { record: 0, cause })
}

fn truth_of(compressed: &[u8]) -> Result<Truth, Problem> {
    let mut json = Vec::new();
    let decoder = zstd::Decoder::new(compressed).map_err(|error| unreadable("the truth", &error))?;
    decoder
        .take(TRUTH_BYTES_MAX)
        .read_to_end(&mut json)
        .map_err(|error| unreadable("the truth", &error))?;
    serde_json::from_slice(&json).map_err(|error| unreadable("the truth", &error))
}

fn frames_text(record: u64, cause: &RecordingError) -> String {
    let cause = error_chain(cause);
    match record {
        0 => format!("its frames cannot be read: {cause}"),
        _ => format!("record {record} of its frames cannot be read: {cause}; --salvage reads those before it"),
    }
}

fn unreadable(part: &'static str, cause: &dyn std::fmt::Display) -> Problem {
    Problem::Truth {
        part,
        cause: cause.to_string(),
    }
}

#[cfg(test)]
mod tests;
