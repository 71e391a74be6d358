//! A corpus: a directory of sealed recordings with a manifest that says what they are, one line each.
//!
//! Adds, lists and verifies. Does not replay ([`crate::replay`]), and never changes a recording.

pub mod manifest;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::check::validity::{Class, Validity};
use crate::recording::directory::sealed_bytes;
use crate::recording::{EXTENSION, OpenError, Problem, Recording, span_of};
use crate::replay::in_parallel;
use crate::run::RunError;
use crate::run::directory::write_whole;
use crate::run::judge::{Said, judge_run};

use self::manifest::{Entry, MANIFEST, Manifest};

/// Where a corpus lies unless another place is named.
pub const CORPUS: &str = "scenarios/_recordings";

/// Why something could not be done with a corpus.
#[derive(Debug, thiserror::Error)]
pub enum CorpusError {
    /// A recording cannot be read.
    #[error(transparent)]
    Recording(#[from] OpenError),
    /// The manifest cannot be read.
    #[error("{path}: {cause}")]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// The corpus could not be written.
    #[error(transparent)]
    Write(#[from] RunError),
}

/// What became of a recording that was to be added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Added {
    /// It is in the corpus under this name.
    As(String),
    /// It was there already, under this name.
    There(String),
    /// Its run does not count, for these reasons.
    Invalid(Vec<String>),
}

/// A corpus that is open.
#[derive(Debug)]
pub struct Corpus {
    directory: PathBuf,
    manifest: Manifest,
}

impl Corpus {
    /// Opens the corpus in `directory`; one that is not there yet is empty.
    ///
    /// # Errors
    /// [`CorpusError::Manifest`] if its manifest cannot be read.
    pub fn open(directory: &Path) -> Result<Self, CorpusError> {
        let path = directory.join(MANIFEST);
        let manifest = match fs::read_to_string(&path) {
            Ok(text) => Manifest::parse(&text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Manifest::default()),
            Err(error) => Err(error.to_string()),
        };
        Ok(Self {
            manifest: manifest.map_err(|cause| CorpusError::Manifest { path, cause })?,
            directory: directory.to_owned(),
        })
    }

    /// What is in it, by file.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        self.manifest.entries()
    }

    /// Adds the recording of a file or run directory. Its file is there before the manifest names it, and both are whole
    /// or not there, so that an interrupted call can be repeated.
    ///
    /// # Errors
    /// If it cannot be read or written; the corpus is then as before, as far as its manifest says.
    pub fn add(&mut self, path: &Path, invalid_too: bool) -> Result<Added, CorpusError> {
        let file = sealed_bytes(path)?;
        let at = |problem| OpenError::at(path, problem);
        let recording = Recording::parse(&file).map_err(at)?;
        span_of(recording.frames()).map_err(at)?;
        if let Some(there) = self.entries().iter().find(|entry| entry.sha256 == recording.digest) {
            return Ok(Added::There(there.file.clone()));
        }
        let validity = validity_of(&recording);
        if validity.class != Class::Valid && !invalid_too {
            return Ok(Added::Invalid(validity.findings));
        }
        let name = self.free_name(&recording);
        fs::create_dir_all(&self.directory).map_err(|error| OpenError::at(&self.directory, Problem::Io(error)))?;
        write_whole(&self.directory.join(&name), &file)?;
        self.manifest.insert(Entry::of(&recording, name.clone(), &validity));
        write_whole(&self.directory.join(MANIFEST), self.manifest.to_text().as_bytes())?;
        Ok(Added::As(name))
    }

    /// `SCENARIO-sSEED.gauntlet`, or the first of `SCENARIO-sSEED-2.gauntlet` and so on that is free. A file that the
    /// manifest does not know is left alone.
    fn free_name(&self, recording: &Recording) -> String {
        let plan = &recording.evidence.plan;
        // A name comes from a file of somebody: it must not lead out of the corpus.
        let plain = |letter: char| {
            if letter.is_ascii_alphanumeric() || letter == '-' {
                letter
            } else {
                '_'
            }
        };
        let scenario: String = plan.scenario.name.chars().map(plain).collect();
        let first = format!("{scenario}-s{}", plan.seed.0);
        let more = (2_u64..).map(|number| format!("{first}-{number}"));
        let mut names = std::iter::once(first.clone())
            .chain(more)
            .map(|name| format!("{name}.{EXTENSION}"));
        let is_free = |name: &String| {
            !self.directory.join(name).exists() && self.entries().iter().all(|entry| entry.file != *name)
        };
        names.find(is_free).expect("numbers do not end")
    }

    /// What is wrong with it, in words; empty: nothing. Reads every byte of every file.
    #[must_use]
    pub fn verify(&self, jobs: usize) -> Vec<String> {
        let entries = self.entries();
        let mut troubles: Vec<String> = in_parallel(entries, jobs, |entry| self.trouble_with(entry))
            .into_iter()
            .flatten()
            .collect();
        let known: BTreeSet<&str> = entries.iter().map(|entry| entry.file.as_str()).collect();
        let listing = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let names = listing.map(|entry| entry.file_name().to_string_lossy().into_owned());
        let is_recording = |name: &String| Path::new(name).extension().is_some_and(|ending| ending == EXTENSION);
        let mut unknown: Vec<String> = names
            .filter(|name| is_recording(name) && !known.contains(name.as_str()))
            .collect();
        unknown.sort();
        troubles.extend(
            unknown
                .iter()
                .map(|name| format!("{name}: it is not in {MANIFEST}; add it or remove it")),
        );
        troubles
    }

    fn trouble_with(&self, entry: &Entry) -> Option<String> {
        let path = self.directory.join(&entry.file);
        let read = || -> Result<Entry, Problem> {
            let recording = Recording::parse(&fs::read(&path)?)?;
            let span = span_of(recording.frames())?;
            if span != recording.span {
                let (sealed, found) = (recording.span, span);
                let cause = format!("it was sealed with {sealed:?} and holds {found:?}");
                return Err(Problem::Truth {
                    part: "its frames",
                    cause,
                });
            }
            Ok(Entry::of(&recording, entry.file.clone(), &validity_of(&recording)))
        };
        match read() {
            Err(problem) => Some(format!("{}: {problem}", entry.file)),
            Ok(found) if found == *entry => None,
            Ok(found) => Some(format!(
                "{}: {MANIFEST} says {}, but the file says {}",
                entry.file,
                entry.to_line(),
                found.to_line()
            )),
        }
    }
}

/// Whether the run of a recording counts: a matter of the evidence alone, whoever speaks.
pub(crate) fn validity_of(recording: &Recording) -> Validity {
    judge_run(&recording.evidence, &Said::default()).validity
}
