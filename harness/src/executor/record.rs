//! What a run came to, as one object of the cluster: made once, under a name that only this case has, never changed.
//!
//! Two pods that run the same case (one was believed dead) write to the same name, and the API server lets the first have it.
//! The run directory comes along where there is room.

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::ConfigMap;
use serde::{Deserialize, Serialize};

use super::ExecutorError;
use super::objects::{Execution, RECORD_LABEL};
use crate::recording::container::sha256_hex;
use crate::suite::outcome::Shard;
use crate::suite::plan::CaseKey;
use crate::suite::store::{Line, RUNS};

/// Version of [`Record`].
const RECORD_VERSION: u32 = 1;
/// Key of the line in the object.
const LINE: &str = "record.json";
/// Key of the packed run directory in the object.
pub const RUN: &str = "run.tar.zst";
/// Largest packed run directory that comes along, bytes. An object may hold 1 MiB, the line with it; a run of minutes
/// packs to a tenth of that.
const RUN_BYTES_MAX: usize = 900 * 1024;
/// Characters of a digest in a name.
const NAME_LENGTH: usize = 16;

/// One line of a shard's results.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    version: u32,
    /// Which shard made the run.
    pub shard: Shard,
    /// What tells the detector's program from any other.
    pub detector_program: String,
    /// What came of the run.
    pub line: Line,
    /// The run directory, packed; `None`: there is none, or no room for it.
    #[serde(skip)]
    pub run: Option<Vec<u8>>,
}

impl Record {
    /// A record of `line`. A packed run directory that is too large is left out.
    #[must_use]
    pub fn new(shard: Shard, detector_program: String, line: Line, run: Option<Vec<u8>>) -> Self {
        Self {
            version: RECORD_VERSION,
            shard,
            detector_program,
            line,
            run: run.filter(|run| run.len() <= RUN_BYTES_MAX),
        }
    }

    /// The object of this record. `attempt` is the number of runs of the case that did not count before this one.
    ///
    /// # Panics
    /// Never: lines can be written.
    #[must_use]
    pub fn object(&self, execution: &Execution, attempt: usize) -> ConfigMap {
        let slot = match &self.line {
            Line::Case { .. } => "end".to_owned(),
            Line::InvalidAttempt { .. } => attempt.to_string(),
        };
        let mut metadata = execution.owned(&name(&execution.name, &self.key(), &slot));
        let labels = metadata.labels.get_or_insert_default();
        labels.insert(RECORD_LABEL.to_owned(), self.shard.index.to_string());
        let text = serde_json::to_string(self).expect("a line can be written");
        let run = self.run.clone().map(|run| (RUN.to_owned(), ByteString(run)));
        ConfigMap {
            metadata,
            data: Some(BTreeMap::from([(LINE.to_owned(), text)])),
            binary_data: run.map(|run| BTreeMap::from([run])),
            ..ConfigMap::default()
        }
    }

    /// Reads an object that [`Self::object`] made.
    ///
    /// # Errors
    /// [`ExecutorError::Unreadable`].
    pub fn of_object(object: &ConfigMap) -> Result<Self, ExecutorError> {
        let unreadable = |why: String| ExecutorError::Unreadable {
            object: format!("config map {}", object.metadata.name.as_deref().unwrap_or_default()),
            why,
        };
        let text = object.data.as_ref().and_then(|data| data.get(LINE));
        let text = text.ok_or_else(|| unreadable(format!("it has no {LINE}")))?;
        let mut record: Self = serde_json::from_str(text).map_err(|error| unreadable(error.to_string()))?;
        if record.version != RECORD_VERSION {
            return Err(unreadable(format!("it is of version {}", record.version)));
        }
        let run = object.binary_data.as_ref().and_then(|data| data.get(RUN));
        record.run = run.map(|run| run.0.clone());
        Ok(record)
    }

    /// The case.
    #[must_use]
    pub fn key(&self) -> CaseKey {
        match &self.line {
            Line::InvalidAttempt { key, .. } => key.clone(),
            Line::Case { case, .. } => CaseKey {
                scenario: case.scenario.clone(),
                trial: case.trial,
            },
        }
    }
}

/// Names of scenarios may be longer than names of objects.
fn name(execution: &str, key: &CaseKey, slot: &str) -> String {
    let mut digest = sha256_hex(format!("{}\n{}", key.scenario, key.trial).as_bytes());
    digest.truncate(NAME_LENGTH);
    format!("{execution}-{digest}-{slot}")
}

/// Packs a run directory under its own name.
///
/// # Errors
/// When it cannot be read.
pub fn pack_run(directory: &Path) -> io::Result<Vec<u8>> {
    let name = directory.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut archive = tar::Builder::new(zstd::Encoder::new(Vec::new(), zstd::DEFAULT_COMPRESSION_LEVEL)?);
    archive.append_dir_all(name, directory)?;
    archive.into_inner()?.finish()
}

/// Unpacks a run directory to where a suite in `home` has its runs.
///
/// # Errors
/// When it is damaged, holds anything but files and directories, or cannot be written.
pub fn unpack_run(packed: &[u8], home: &Path) -> io::Result<()> {
    let runs = home.join(RUNS);
    std::fs::create_dir_all(&runs)?;
    let mut archive = tar::Archive::new(zstd::Decoder::new(packed)?);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let kind = entry.header().entry_type();
        let path = entry.path()?.into_owned();
        let is_plain = path.components().all(|part| matches!(part, Component::Normal(_)));
        if !(is_plain && (kind.is_file() || kind.is_dir())) {
            let why = format!("{} has no place in a run directory", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        entry.unpack_in(&runs)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Seed;
    use crate::suite::case;

    fn execution() -> Execution {
        Execution {
            name: "gauntlet-suite-1".into(),
            uid: "u-1".into(),
        }
    }

    fn ended(trial: u32, shard: u32) -> Record {
        let catalogue = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
        let none = crate::scenario::load("none", &catalogue).expect("it ships");
        let case = case::of_failure(&none, "shop", trial, Seed(1), "silent", "");
        let shard = Shard { index: shard, count: 4 };
        let line = Line::Case {
            detector: None,
            case: Box::new(case),
        };
        Record::new(shard, "d".into(), line, Some(vec![1, 2]))
    }

    #[test]
    fn two_results_of_one_case_have_one_name_whoever_made_them() {
        let name = |record: &Record, attempt| record.object(&execution(), attempt).metadata.name;
        assert_eq!(name(&ended(1, 1), 0), name(&ended(1, 2), 1));
        assert_ne!(name(&ended(1, 1), 0), name(&ended(2, 1), 0));
        let invalid = |trial| {
            let validity = ended(trial, 1).clone();
            let Line::Case { case, .. } = validity.line else {
                unreachable!()
            };
            let line = Line::InvalidAttempt {
                key: ended(trial, 1).key(),
                seed: Seed(1),
                validity: case.validity,
            };
            Record::new(Shard { index: 1, count: 4 }, "d".into(), line, None)
        };
        assert_ne!(name(&invalid(1), 0), name(&invalid(1), 1));
        assert_ne!(name(&invalid(1), 0), name(&ended(1, 1), 0));
    }

    #[test]
    fn an_object_is_read_as_it_was_written_and_goes_with_its_order() {
        let record = ended(1, 3);
        let object = record.object(&execution(), 0);
        assert_eq!(Record::of_object(&object).expect("readable"), record);
        let owners = object.metadata.owner_references.as_deref().expect("it has one");
        assert_eq!((owners.len(), owners[0].uid.as_str()), (1, "u-1"));
        let error = Record::of_object(&ConfigMap::default()).expect_err("nothing is in it");
        assert!(error.to_string().contains("record.json"), "{error}");
    }

    #[test]
    fn a_run_directory_comes_along_unless_it_is_too_large() {
        let home = tempfile::tempdir().expect("a directory");
        let run = home.path().join("20260101-none-s1");
        std::fs::create_dir(&run).expect("made");
        std::fs::write(run.join("result.json"), "{}").expect("written");
        let packed = pack_run(&run).expect("packed");
        let out = home.path().join("out");
        unpack_run(&packed, &out).expect("unpacked");
        let there = out.join(RUNS).join("20260101-none-s1").join("result.json");
        assert_eq!(std::fs::read_to_string(there).expect("there"), "{}");
        assert!(unpack_run(&packed[..packed.len() - 4], &out).is_err(), "cut off");
        let line = ended(1, 1).line;
        let large = Record::new(
            Shard { index: 1, count: 1 },
            "d".into(),
            line,
            Some(vec![0; RUN_BYTES_MAX + 1]),
        );
        assert_eq!(large.run, None);
    }

    #[test]
    fn nothing_is_unpacked_beside_the_runs() {
        let home = tempfile::tempdir().expect("a directory");
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        archive.append_link(&mut header, "a", "/etc").expect("memory");
        let packed = zstd::encode_all(archive.into_inner().expect("memory").as_slice(), 0).expect("memory");
        let error = unpack_run(&packed, home.path()).expect_err("a link");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
    }
}
