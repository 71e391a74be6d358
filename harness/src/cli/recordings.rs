//! Reads the recordings that arguments stand for: files, run directories, corpora, directories of these.
//!
//! Does not choose among them, and does not replay.

use std::path::{Path, PathBuf};

use crate::corpus::Corpus;
use crate::corpus::manifest::MANIFEST;
use crate::recording::directory::{Salvage, find, open};
use crate::recording::{OpenError, Recording};
use crate::replay::in_parallel;

/// A file to read, and its digest if a corpus vouches for it.
struct Wanted {
    path: PathBuf,
    sha256: Option<String>,
}

/// Every recording that `paths` stand for, `jobs` read at a time.
///
/// # Errors
/// All that is wrong with them, in words.
pub fn read(paths: &[PathBuf], mode: Salvage, jobs: usize) -> Result<Vec<Recording>, Vec<String>> {
    let (mut wanted, mut problems) = (Vec::new(), Vec::new());
    for path in paths {
        match list(path) {
            Ok(more) => wanted.extend(more),
            Err(problem) => problems.push(problem),
        }
    }
    let mut recordings = Vec::new();
    for opened in in_parallel(&wanted, jobs, |wanted| open_wanted(wanted, mode)) {
        match opened {
            Ok(recording) => recordings.push(recording),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() {
        Ok(recordings)
    } else {
        Err(problems)
    }
}

/// The files that an argument stands for. Of a corpus these are the ones that its manifest names.
fn list(path: &Path) -> Result<Vec<Wanted>, String> {
    if !path.join(MANIFEST).is_file() {
        let found = find(path).map_err(|error| error.to_string())?;
        return Ok(found.into_iter().map(|path| Wanted { path, sha256: None }).collect());
    }
    let corpus = Corpus::open(path).map_err(|error| error.to_string())?;
    let entries = corpus.entries().iter();
    let wanted = entries.map(|entry| Wanted {
        path: path.join(&entry.file),
        sha256: Some(entry.sha256.clone()),
    });
    Ok(wanted.collect())
}

fn open_wanted(wanted: &Wanted, mode: Salvage) -> Result<Recording, String> {
    let recording = open(&wanted.path, mode).map_err(|error: OpenError| error.to_string())?;
    match &wanted.sha256 {
        Some(expected) if mode == Salvage::No && *expected != recording.digest => Err(format!(
            "{}: it is another file than the one that {MANIFEST} names (`gauntlet corpus verify` tells more)",
            wanted.path.display()
        )),
        Some(_) | None => Ok(recording),
    }
}
