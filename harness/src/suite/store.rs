//! The directory of a suite: what was asked for, each case as soon as it ended, and the result.
//!
//! `suite-plan.json` says what the directory is for, `cases.jsonl` has one synced line for each run that ended, and
//! `suite.json` is made of them. A process that is killed at any moment loses the run that it was making, no other.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::outcome::{CaseResult, Mode, SUITE_RESULT_VERSION, Shard, SuiteResult};
use super::plan::{CaseKey, PlannedCase, SuitePlan};
use crate::check::validity::Validity;
use crate::plan::Seed;
use crate::run::RunError;
use crate::run::directory::write_json;

/// What the directory is for.
pub const PLAN_FILE: &str = "suite-plan.json";
/// Runs that ended.
pub const CASES_FILE: &str = "cases.jsonl";
/// The result.
pub const RESULT_FILE: &str = "suite.json";
/// Directory of the run directories.
pub const RUNS: &str = "runs";
/// How long a lock may outlive its holder: a program that it was about to start has a copy until it has begun.
const LOCK_PATIENCE: Duration = Duration::from_millis(200);
/// Version of the files.
const STORE_VERSION: u32 = 1;

/// What a directory is for: two processes that say the same may work on it one after the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Header {
    /// Version of the files.
    pub version: u32,
    /// Name of the suite.
    pub suite: String,
    /// [`SuitePlan::digest`].
    pub digest: String,
    /// Where the evidence comes from.
    pub mode: Mode,
    /// Which part of the suite is run here; `None`: all of it.
    pub shard: Option<Shard>,
    /// What tells the detector's program from any other, for example its SHA-256: answers of two are not mixed.
    pub detector_program: String,
    /// All cases of the suite in their order, those of other shards included.
    pub cases: Vec<CaseKey>,
}

impl Header {
    /// What a directory for `plan` says.
    #[must_use]
    pub fn new(plan: &SuitePlan, mode: Mode, shard: Option<Shard>, detector_program: String) -> Self {
        Self {
            version: STORE_VERSION,
            suite: plan.suite.clone(),
            digest: plan.digest.clone(),
            mode,
            shard,
            detector_program,
            cases: plan.cases.iter().map(|case| case.key.clone()).collect(),
        }
    }
}

/// Whether a directory may be begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// An empty one is begun, a begun one is resumed.
    Allowed,
    /// It must have been begun.
    Refused,
}

/// Why a suite's directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file system refused.
    #[error("failed to {operation} {path}")]
    File {
        /// What was tried.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file of the directory could not be written.
    #[error(transparent)]
    Write(#[from] RunError),
    /// A file is not what it should be.
    #[error("{path} is damaged at line {line}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Number of the line, from 1.
        line: usize,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// Another process works there.
    #[error("another process is running the suite in {path}; wait for it")]
    Busy {
        /// The directory.
        path: PathBuf,
    },
    /// A result could not be kept where the parts of the suite are put together.
    #[error("failed to keep the result of a run elsewhere than here")]
    Elsewhere(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// There is nothing to go on with.
    #[error("there is no suite to resume in {path}")]
    NothingToResume {
        /// The directory.
        path: PathBuf,
    },
    /// It was begun for something else.
    #[error(
        "{path} was begun with another {what}: {there} there, {here} here; go on with that one, or choose another \
         directory"
    )]
    Other {
        /// The directory.
        path: PathBuf,
        /// What differs.
        what: &'static str,
        /// What the directory says.
        there: String,
        /// What is asked for now.
        here: String,
    },
}

impl StoreError {
    /// Whether the directory is sound, and something else is to be asked for.
    #[must_use]
    pub fn is_mistake(&self) -> bool {
        match self {
            Self::Busy { .. } | Self::NothingToResume { .. } | Self::Other { .. } => true,
            Self::File { .. } | Self::Write(_) | Self::Damaged { .. } | Self::Elsewhere(_) => false,
        }
    }
}

/// One line of `cases.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Line {
    /// A run does not count; the case goes on with another.
    InvalidAttempt {
        /// The case.
        key: CaseKey,
        /// Seed of the run.
        seed: Seed,
        /// Why it does not count.
        validity: Validity,
    },
    /// A case has its result.
    Case {
        /// Name and version of the detector, in its own words; `None`: it gave none.
        detector: Option<String>,
        /// The result.
        case: Box<CaseResult>,
    },
}

/// A suite's directory, ours alone while this lives.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
    header: Header,
    planned_count: usize,
    file: File,
    invalid: BTreeMap<CaseKey, Vec<Validity>>,
    ended: BTreeMap<CaseKey, CaseResult>,
    /// The detector's own words, of the first case that has them.
    detector: Option<String>,
}

impl Store {
    /// Begins `directory` for the `part` of a suite that `header` names, or goes on with what it holds.
    ///
    /// # Errors
    /// When it was begun for something else, is in use, or cannot be read or written.
    pub fn open(
        directory: &Path,
        header: Header,
        part: &[&PlannedCase],
        beginning: Beginning,
    ) -> Result<Self, StoreError> {
        let plan_path = directory.join(PLAN_FILE);
        match read_header(directory)? {
            Some(there) => must_agree(directory, &there, &header)?,
            None if beginning == Beginning::Refused => {
                let path = directory.to_owned();
                return Err(StoreError::NothingToResume { path });
            }
            None => {
                std::fs::create_dir_all(directory).map_err(file_error("make", directory))?;
                write_json(&plan_path, &header)?;
            }
        }
        let path = directory.join(CASES_FILE);
        let opened = OpenOptions::new().read(true).append(true).create(true).open(&path);
        let file = opened.map_err(file_error("open", &path))?;
        lock(&file, &path, directory)?;
        let mut store = Self {
            directory: directory.to_owned(),
            header,
            planned_count: part.len(),
            file,
            invalid: BTreeMap::new(),
            ended: BTreeMap::new(),
            detector: None,
        };
        store.read_lines(&path)?;
        Ok(store)
    }

    /// Takes in what earlier processes wrote. A last line that was cut short is removed: its run has not ended.
    fn read_lines(&mut self, path: &Path) -> Result<(), StoreError> {
        let mut bytes = Vec::new();
        self.file.read_to_end(&mut bytes).map_err(file_error("read", path))?;
        let whole_len = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        if whole_len < bytes.len() {
            self.file
                .set_len(whole_len as u64)
                .map_err(file_error("shorten", path))?;
        }
        for (index, line) in bytes[..whole_len].split_inclusive(|byte| *byte == b'\n').enumerate() {
            let line = serde_json::from_slice(line).map_err(|source| StoreError::Damaged {
                path: path.to_owned(),
                line: index + 1,
                source,
            })?;
            self.take(line);
        }
        Ok(())
    }

    fn take(&mut self, line: Line) {
        match line {
            Line::InvalidAttempt { key, validity, seed: _ } => self.invalid.entry(key).or_default().push(validity),
            Line::Case { detector, case } => {
                self.detector = self.detector.take().or(detector);
                self.ended.insert(key_of(&case), *case);
            }
        }
    }

    /// Keeps what a run came to; when this returns, it is on disk.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn append(&mut self, line: Line) -> Result<(), StoreError> {
        let path = self.directory.join(CASES_FILE);
        let mut bytes = serde_json::to_vec(&line).map_err(|source| file_error("write", &path)(source.into()))?;
        bytes.push(b'\n');
        let written = self.file.write_all(&bytes).and_then(|()| self.file.sync_data());
        written.map_err(file_error("write", &path))?;
        self.take(line);
        Ok(())
    }

    /// The result of a case that ended.
    #[must_use]
    pub fn ended(&self, key: &CaseKey) -> Option<&CaseResult> {
        self.ended.get(key)
    }

    /// Why earlier runs of a case do not count.
    #[must_use]
    pub fn invalid_attempts(&self, key: &CaseKey) -> &[Validity] {
        self.invalid.get(key).map_or(&[], Vec::as_slice)
    }

    /// The result so far.
    #[must_use]
    pub fn result(&self) -> SuiteResult {
        let cases = self.header.cases.iter().filter_map(|key| self.ended.get(key));
        SuiteResult {
            version: SUITE_RESULT_VERSION,
            suite: self.header.suite.clone(),
            digest: self.header.digest.clone(),
            mode: self.header.mode,
            detector: self.detector.clone().unwrap_or_default(),
            shard: self.header.shard,
            planned_count: self.planned_count,
            cases: cases.cloned().collect(),
        }
    }

    /// Writes `suite.json`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_result(&self) -> Result<SuiteResult, StoreError> {
        let result = self.result();
        write_json(&self.directory.join(RESULT_FILE), &result)?;
        Ok(result)
    }
}

/// Whether a process works on this suite's directory at the moment.
#[must_use]
pub fn is_busy(directory: &Path) -> bool {
    let path = directory.join(CASES_FILE);
    File::open(&path).is_ok_and(|file| matches!(lock(&file, &path, directory), Err(StoreError::Busy { .. })))
}

/// Makes the directory ours alone.
fn lock(file: &File, path: &Path, directory: &Path) -> Result<(), StoreError> {
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => std::thread::sleep(LOCK_PATIENCE / 20),
            Err(TryLockError::WouldBlock) => {
                let path = directory.to_owned();
                return Err(StoreError::Busy { path });
            }
            Err(TryLockError::Error(source)) => return Err(file_error("lock", path)(source)),
        }
    }
}

fn key_of(case: &CaseResult) -> CaseKey {
    CaseKey {
        scenario: case.scenario.clone(),
        trial: case.trial,
    }
}

/// What `directory` is for; `None`: it was not begun.
///
/// # Errors
/// When its `suite-plan.json` cannot be read.
pub fn read_header(directory: &Path) -> Result<Option<Header>, StoreError> {
    read_json(&directory.join(PLAN_FILE))
}

/// The result in `directory`; `None`: there is none.
///
/// # Errors
/// When its `suite.json` cannot be read.
pub fn read_result(directory: &Path) -> Result<Option<SuiteResult>, StoreError> {
    read_json(&directory.join(RESULT_FILE))
}

fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<Option<T>, StoreError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(file_error("read", path)(source)),
    };
    let read = serde_json::from_slice(&bytes);
    read.map(Some).map_err(|source| StoreError::Damaged {
        path: path.to_owned(),
        line: source.line(),
        source,
    })
}

fn must_agree(directory: &Path, there: &Header, here: &Header) -> Result<(), StoreError> {
    let shard = |header: &Header| header.shard.map_or("all".to_owned(), |shard| format!("shard {shard}"));
    let content = |header: &Header| format!("{} {}", header.suite, short(&header.digest));
    let mode = |header: &Header| format!("{:?}", header.mode).to_lowercase();
    let program = |header: &Header| short(&header.detector_program).to_owned();
    let version = |header: &Header| header.version.to_string();
    type Shown<'a> = &'a dyn Fn(&Header) -> String;
    let checks: [(&'static str, bool, Shown<'_>); 5] = [
        ("version of the files", there.version == here.version, &version),
        ("mode", there.mode == here.mode, &mode),
        (
            "suite, or other contents of its files",
            there.digest == here.digest,
            &content,
        ),
        ("part of the suite", there.shard == here.shard, &shard),
        (
            "detector program",
            there.detector_program == here.detector_program,
            &program,
        ),
    ];
    match checks.into_iter().find(|(_, agree, _)| !agree) {
        None => Ok(()),
        Some((what, _, shown)) => Err(StoreError::Other {
            path: directory.to_owned(),
            what,
            there: shown(there),
            here: shown(here),
        }),
    }
}

/// The beginning of a digest, enough to tell two apart by eye.
#[must_use]
pub fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

fn file_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::File {
        operation,
        path,
        source,
    }
}
