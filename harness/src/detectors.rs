//! Detectors: whatever says what is wrong, as a process of the protocol or as alerts, and how each of them ended.
//!
//! Nothing here knows what an answer should have been. What is said counts from the moment at which it was received, and
//! however a detector fails, the run goes on: see [`DetectorEnd::failure`].

pub mod alertmanager;
mod feed;
mod frames;
mod lines;
mod log;
pub mod panel;
pub mod process;
pub mod spec;

use gauntlet_detector::diagnosis::{Diagnosis, Summary};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::MonotonicNanos;

pub use self::panel::{DetectorNews, Panel};
pub use self::process::{DetectorCommand, DetectorError, DetectorProcess, READY_WITHIN};

/// A diagnosis with the moment at which the harness had it. Scores count from that moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Received {
    /// When the line was read.
    pub received_ns: MonotonicNanos,
    /// What it said.
    pub diagnosis: Diagnosis,
}

/// How a detector ended, and what it left.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DetectorEnd {
    /// Name and version, in its own words; empty if it never said so.
    #[serde(default)]
    pub version: String,
    /// Names of others that spoke in its stream, or could have: see `ready` in the protocol.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub beside: Vec<String>,
    /// Its own account of cost and loss; `None` if it gave none.
    pub summary: Option<Summary>,
    /// CPU time of its process in all, nanoseconds, as the kernel counted it when its input ended; `None` if it had ended
    /// before, or is no process of ours.
    #[serde(default)]
    pub cpu_ns: Option<u64>,
    /// `exit 0`, `signal 9`, or that it hung and was killed.
    pub outcome: String,
    /// It ended before it was asked to.
    pub ended_early: bool,
    /// Lines (or requests) that were none of the protocol's.
    pub nonsense_count: u64,
    /// Lines beyond what one run may have; the detector is stopped at the first.
    pub flood_count: u64,
    /// Statements that came when observation had ended. They do not count, neither for it nor against it.
    #[serde(default)]
    pub late_count: u64,
    /// Frames that it was not told because it read too slowly.
    #[serde(default)]
    pub frames_dropped: u64,
    /// Alerts for which no rule named an entity.
    #[serde(default)]
    pub unmatched_count: u64,
    /// How it failed, in words; `None`: it did not. A detector that failed has missed, whatever it said before.
    #[serde(default)]
    pub failure: Option<String>,
}

impl DetectorEnd {
    /// Of a detector that never spoke.
    #[must_use]
    pub fn never_ready(why: String) -> Self {
        Self {
            outcome: "never ready".to_owned(),
            failure: Some(why),
            ..Self::default()
        }
    }

    /// Adds a way in which it failed.
    pub fn fail(&mut self, why: impl AsRef<str>) {
        let why = why.as_ref();
        match &mut self.failure {
            Some(failure) => *failure += &format!("; {why}"),
            None => self.failure = Some(why.to_owned()),
        }
    }

    /// What is worth a reader's attention beside the outcome: everything that was lost, ignored or wrong.
    #[must_use]
    pub fn remarks(&self) -> Vec<String> {
        let counted = [
            (self.nonsense_count, "lines that are none of the protocol's"),
            (self.flood_count, "lines too many"),
            (self.late_count, "statements after the end, ignored"),
            (self.frames_dropped, "frames not told, because it read slowly"),
            (self.unmatched_count, "alerts without a rule"),
        ];
        let counted = counted.into_iter().filter(|(count, _)| *count > 0);
        let words = self.failure.iter().map(|failure| format!("failed: {failure}"));
        words
            .chain(counted.map(|(count, what)| format!("{count} {what}")))
            .collect()
    }
}
