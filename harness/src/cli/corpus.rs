//! `gauntlet corpus`: adds recordings to a corpus, lists it, verifies it.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::{CorpusCommand, Exit, Format};
use crate::corpus::manifest::Entry;
use crate::corpus::{Added, Corpus};
use crate::recording::directory::find;
use crate::replay::all_cores;

/// Does what was asked for.
///
/// # Errors
/// When the harness itself fails.
pub fn corpus(command: &CorpusCommand) -> anyhow::Result<Exit> {
    let (CorpusCommand::Add { corpus, .. } | CorpusCommand::List { corpus, .. } | CorpusCommand::Verify { corpus, .. }) =
        command;
    let opened = match Corpus::open(corpus) {
        Ok(opened) => opened,
        Err(error) => {
            eprintln!("gauntlet: {error}");
            return Ok(Exit::InvalidScenario);
        }
    };
    Ok(match command {
        CorpusCommand::Add { runs, invalid, .. } => add(opened, runs, *invalid),
        CorpusCommand::List { format, .. } => list(&opened, corpus, *format),
        CorpusCommand::Verify { format, .. } => verify(&opened, *format),
    })
}

/// Those that can be added are, and what is wrong with others is said.
fn add(mut corpus: Corpus, runs: &[PathBuf], invalid_too: bool) -> Exit {
    let (mut paths, mut troubled) = (Vec::new(), false);
    let mut trouble = |text: String| {
        eprintln!("gauntlet: {text}");
        troubled = true;
    };
    for run in runs {
        match find(run) {
            Ok(found) => paths.extend(found),
            Err(error) => trouble(error.to_string()),
        }
    }
    for path in paths {
        let shown = path.display();
        match corpus.add(&path, invalid_too) {
            Ok(Added::As(name)) => println!("{shown} added as {name}"),
            Ok(Added::There(name)) => trouble(format!("{shown} is there already, as {name}")),
            Ok(Added::Invalid(findings)) => {
                let findings = findings.join("; ");
                trouble(format!(
                    "{shown} does not count and was not added ({findings}); --invalid adds it"
                ));
            }
            Err(error) => trouble(error.to_string()),
        }
    }
    if troubled { Exit::InvalidScenario } else { Exit::Pass }
}

fn list(corpus: &Corpus, directory: &Path, format: Format) -> Exit {
    let entries = corpus.entries();
    match format {
        Format::Json => println!("{}", json!({"version": 1, "recordings": entries})),
        Format::Human => {
            print!("{}", table(entries));
            let seconds: f64 = entries.iter().map(|entry| entry.seconds).sum();
            let sizes = entries
                .iter()
                .filter_map(|entry| directory.join(&entry.file).metadata().ok());
            let bytes: u64 = sizes.map(|metadata| metadata.len()).sum();
            println!(
                "{} recordings, {:.1} MB, {:.1} min of run time",
                entries.len(),
                megabytes(bytes),
                seconds / 60.0
            );
        }
    }
    if entries.is_empty() {
        Exit::NothingSelected
    } else {
        Exit::Pass
    }
}

#[expect(clippy::cast_precision_loss, reason = "shown to the tenth")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn table(entries: &[Entry]) -> String {
    let mut text = format!(
        "{:<44} {:<13} {:<8} {:>6} {:>7}  {:<18} {}\n",
        "file", "validity", "app", "frames", "seconds", "kernel", "sha256"
    );
    for entry in entries {
        text += &format!(
            "{:<44} {:<13} {:<8} {:>6} {:>7.1}  {:<18} {:.12}\n",
            entry.file,
            entry.validity.name(),
            entry.app,
            entry.frames,
            entry.seconds,
            entry.kernel,
            entry.sha256
        );
    }
    text
}

fn verify(corpus: &Corpus, format: Format) -> Exit {
    let troubles = corpus.verify(all_cores());
    let count = corpus.entries().len();
    match format {
        Format::Json => println!("{}", json!({"version": 1, "recordings": count, "troubles": troubles})),
        Format::Human => {
            troubles.iter().for_each(|trouble| eprintln!("gauntlet: {trouble}"));
            println!("{count} recordings, {} troubles", troubles.len());
        }
    }
    match (troubles.is_empty(), count) {
        (false, _) => Exit::InvalidScenario,
        (true, 0) => Exit::NothingSelected,
        (true, _) => Exit::Pass,
    }
}
