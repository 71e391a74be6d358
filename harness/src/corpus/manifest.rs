//! `manifest.json` of a corpus: sorted, one recording to the line, so that a change can be reviewed.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::check::validity::{Class, Validity};
use crate::plan::Seed;
use crate::recording::Recording;
use crate::scenario::model::Arm;

/// Its name in the corpus.
pub const MANIFEST: &str = "manifest.json";
/// Version of the manifest.
pub const MANIFEST_VERSION: u32 = 1;

/// One recording.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Entry {
    /// Name of its file in the corpus.
    pub file: String,
    /// SHA-256 of the file, in hex, as `sha256sum` prints it.
    pub sha256: String,
    /// Its scenario.
    pub scenario: String,
    /// The scenario's label `class`, if it has one.
    pub class: Option<String>,
    /// What silence and alarms mean in it.
    pub arm: Arm,
    /// Its application.
    pub app: String,
    /// Seed of the run.
    pub seed: Seed,
    /// Trial of the run, from 1.
    pub trial: u32,
    /// Whether the run counts.
    pub validity: Class,
    /// Number of its frames.
    pub frames: u64,
    /// Seconds from its first frame to its last, to the tenth.
    pub seconds: f64,
    /// Release of the kernel that it was recorded on.
    pub kernel: String,
    /// Version of the harness that recorded it.
    pub recorded_with: String,
}

impl Entry {
    /// The entry of a recording.
    #[must_use]
    pub fn of(recording: &Recording, file: String, validity: &Validity) -> Self {
        let evidence = &recording.evidence;
        let plan = &evidence.plan;
        Self {
            file,
            sha256: recording.digest.clone(),
            scenario: plan.scenario.name.clone(),
            class: plan.scenario.labels.get("class").cloned(),
            arm: plan.truth.arm,
            app: evidence.app.clone(),
            seed: plan.seed,
            trial: evidence.trial,
            validity: validity.class,
            frames: recording.span.count,
            seconds: (recording.span.seconds() * 10.0).round() / 10.0,
            kernel: evidence.environment.kernel.clone(),
            recorded_with: evidence.environment.gauntlet.clone(),
        }
    }

    /// Its line, without the comma between lines.
    #[must_use]
    pub fn to_line(&self) -> String {
        serde_json::to_string(self).expect("entries are data")
    }
}

/// All of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Manifest {
    /// [`MANIFEST_VERSION`].
    version: u32,
    /// Sorted by file.
    recordings: Vec<Entry>,
}

impl Default for Manifest {
    fn default() -> Self {
        Self {
            version: MANIFEST_VERSION,
            recordings: Vec::new(),
        }
    }
}

impl Manifest {
    /// Reads a manifest.
    ///
    /// # Errors
    /// In words: it is none, of another version, names a file twice, or a file that is not in the corpus' own directory.
    pub fn parse(text: &str) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let versioned: Versioned = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if versioned.version != MANIFEST_VERSION {
            let found = versioned.version;
            return Err(format!(
                "it is of version {found}, and this program reads version {MANIFEST_VERSION}"
            ));
        }
        let mut manifest: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let mut names = BTreeSet::new();
        for entry in &manifest.recordings {
            if entry.file.contains('/') || entry.file.starts_with('.') {
                return Err(format!("`{}` is not the name of a file in the corpus", entry.file));
            }
            if !names.insert(&entry.file) {
                return Err(format!("{} is there twice", entry.file));
            }
        }
        manifest.recordings.sort_by(|one, other| one.file.cmp(&other.file));
        Ok(manifest)
    }

    /// What is in it, by file.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.recordings
    }

    /// Adds an entry at its place.
    pub fn insert(&mut self, entry: Entry) {
        let place = self.recordings.partition_point(|other| other.file < entry.file);
        self.recordings.insert(place, entry);
    }

    /// Its text, with a line for each recording.
    #[must_use]
    pub fn to_text(&self) -> String {
        let lines: Vec<String> = self.recordings.iter().map(Entry::to_line).collect();
        let separator = if lines.is_empty() { "" } else { "\n" };
        format!(
            "{{\"version\": {}, \"recordings\": [{separator}{}{separator}]}}\n",
            self.version,
            lines.join(",\n")
        )
    }
}
