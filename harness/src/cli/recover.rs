//! `gauntlet recover`: undoes what killed runs left: injections by their journals, namespaces on Kubernetes by their records,
//! local clusters by their owner records.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::{Exit, Format, RecoverArgs};
use crate::executor::lifetime::take_away;
use crate::executor::{MARKER_FILE, Marker};
use crate::fault::journal::{Journal, LeftoverOutcome, recover_journal};
use crate::fault::netns::Namespaces;
use crate::run::bring_up::{NAMESPACE_RECORD, remove_recorded};
use crate::run::directory::is_held;
use crate::run::homes::Homes;
use crate::run::lock::{LOCK_PATH, LockError, RunLock};
use crate::suite::store::{RUNS, is_busy};
use crate::target::kind::leftovers;
use crate::target::kind::record::StateDirectory;
use crate::target::local::sweep_stale;

/// Undoes what is left. Does nothing while a run is on: what it would find is in use.
///
/// # Errors
/// When a journal cannot be read.
pub fn recover(args: &RecoverArgs) -> anyhow::Result<Exit> {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("gauntlet: recovery needs root; run it with sudo");
        return Ok(Exit::CannotHere);
    }
    let _lock = match RunLock::acquire(Path::new(LOCK_PATH)) {
        Ok(lock) => lock,
        Err(error @ LockError::Held { .. }) => {
            eprintln!("gauntlet: a run is on; nothing was touched ({error})");
            return Ok(Exit::CannotHere);
        }
        Err(error @ LockError::Io { .. }) => return Err(error.into()),
    };
    let homes = match &args.out {
        Some(out) => vec![out.clone()],
        None => all_homes(),
    };
    let Leftovers { mut done, mut failed } = undo_all(&homes)?;
    for home in &homes {
        take_executions_away(home, &mut done, &mut failed)?;
    }
    print(args.format, &done, &failed);
    Ok(if failed.is_empty() {
        Exit::Pass
    } else {
        Exit::TargetFailed
    })
}

/// Where runs may have been written: what this machine remembers, and the usual place, should it not have been able to.
fn all_homes() -> Vec<PathBuf> {
    let mut homes = Homes::of_this_machine().all();
    homes.extend(Path::new(super::DEFAULT_OUT).canonicalize());
    homes.sort();
    homes.dedup();
    homes
}

/// What killed runs had left, in words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// What is gone now.
    pub done: Vec<String>,
    /// What could not be undone.
    pub failed: Vec<String>,
}

/// Undoes what the runs below `homes` left, and removes namespaces and clusters whose owners are gone. The caller holds the run
/// lock: what this finds must not be in use.
///
/// # Errors
/// When there is no runtime to work with.
pub fn undo_all(homes: &[PathBuf]) -> anyhow::Result<Leftovers> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut done, mut failed) = (Vec::new(), Vec::new());
    let in_homes = |name| homes.iter().flat_map(move |home| in_runs(home, name));
    for path in in_homes("journal.jsonl") {
        let left = runtime.block_on(recover_journal(&Journal::at(&path), &Namespaces::default(), None));
        match left {
            Ok(leftovers) => {
                for left in leftovers {
                    let what = format!("{}: fault {}", path.display(), left.fault.id);
                    match left.outcome {
                        LeftoverOutcome::Recovered => done.push(format!("{what}: undone")),
                        LeftoverOutcome::AlreadyGone => done.push(format!("{what}: was gone with its cluster")),
                        LeftoverOutcome::Failed(errors) => failed.extend(
                            errors
                                .iter()
                                .map(|error| format!("{what}: {}", crate::doctor::error_chain(error))),
                        ),
                    }
                }
            }
            Err(error) => failed.push(format!("{}: {}", path.display(), crate::doctor::error_chain(&error))),
        }
    }
    for record in in_homes(NAMESPACE_RECORD) {
        match runtime.block_on(remove_recorded(&record)) {
            Ok(removed) => done.extend(removed.map(|what| format!("{}: {what}: removed", record.display()))),
            Err(why) => failed.push(why),
        }
    }
    done.extend(sweep_stale());
    // Last: faults are undone in clusters that are still there.
    let swept = runtime.block_on(leftovers::sweep(&StateDirectory::of_this_machine()));
    done.extend(swept.done);
    failed.extend(swept.failed);
    Ok(Leftovers { done, failed })
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// The files of this name of the runs below `out`, and of the suites below it.
fn in_runs(out: &Path, name: &str) -> Vec<PathBuf> {
    let below = entries(out);
    let of_suites = below.iter().flat_map(|path| entries(&path.join(RUNS)));
    let runs = below.iter().cloned().chain(of_suites);
    let files = runs.map(|run| (run.join(name), run)).filter(|(file, _)| file.is_file());
    // One that was begun with --no-lock is on without the lock that we have.
    let mut files: Vec<PathBuf> = files.filter(|(_, run)| !is_held(run)).map(|(file, _)| file).collect();
    files.sort();
    files
}

/// Removes the pods and objects of executions whose suites were left alone. Their results so far are in their directories.
fn take_executions_away(out: &Path, done: &mut Vec<String>, failed: &mut Vec<String>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for directory in entries(out) {
        let Some(marker) = Marker::read(&directory)? else {
            continue;
        };
        // Its pods do not need this machine's lock.
        if is_busy(&directory) {
            continue;
        }
        let taken = runtime.block_on(async {
            let client = marker.access.client().await?;
            take_away(&client, &marker).await
        });
        let what = format!("{}: execution {}", directory.display(), marker.name);
        match taken {
            Ok(()) => {
                std::fs::remove_file(directory.join(MARKER_FILE))?;
                done.push(format!("{what}: removed from its cluster"));
            }
            Err(error) => failed.push(format!("{what}: {}", crate::doctor::error_chain(&error))),
        }
    }
    Ok(())
}

fn print(format: Format, done: &[String], failed: &[String]) {
    match format {
        Format::Json => println!("{}", json!({"recovered": done, "failed": failed})),
        Format::Human => {
            done.iter().for_each(|line| println!("{line}"));
            failed.iter().for_each(|line| eprintln!("gauntlet: not undone: {line}"));
            if done.is_empty() && failed.is_empty() {
                println!("nothing was left");
            }
        }
    }
}
