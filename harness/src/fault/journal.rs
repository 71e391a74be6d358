//! The journal of a run's injections, on disk before each deed, and what a later process does with it.
//!
//! One JSON object per line, synced; the file is only ever appended to, by the harness and by its agents.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use gauntlet_probes::frame::MonotonicNanos;
use serde::{Deserialize, Serialize};

use super::control::ClusterControl;
use super::kind::PlannedFault;
use super::netns::Namespaces;
use super::step::{Step, StepError, Undone};

/// How often a later process tries to undo a step.
const UNDO_ATTEMPTS: u32 = 4;
/// Pause between two attempts. An agent undoes its steps within tenths of a second.
const UNDO_PAUSE: Duration = Duration::from_millis(500);

/// Name of one injection in the kernel and in the journal: `f` and eight hexadecimal digits. It says nothing of a fault.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InjectionId(pub String);

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum JournalLine {
    /// About to be injected. This line is on disk before anything is changed.
    Planned {
        /// The injection.
        id: InjectionId,
        /// When.
        at_ns: MonotonicNanos,
        /// What was asked for.
        fault: PlannedFault,
        /// What will be changed, in this order.
        steps: Vec<Step>,
    },
    /// All steps were made.
    Active {
        /// The injection.
        id: InjectionId,
        /// When.
        at_ns: MonotonicNanos,
    },
    /// All steps were undone.
    Undone {
        /// The injection.
        id: InjectionId,
        /// When.
        at_ns: MonotonicNanos,
        /// At whose instance.
        by: UndoneBy,
    },
}

/// Why an injection was undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UndoneBy {
    /// The harness said so.
    Recovery,
    /// It had lasted as long as it may.
    Expiry,
    /// The harness was gone.
    HarnessGone,
    /// It could not be made completely.
    Failure,
    /// A later process found it in the journal.
    LaterProcess,
}

/// What a later process did about one injection that was left.
#[derive(Debug)]
pub struct Leftover {
    /// The injection.
    pub id: InjectionId,
    /// What had been asked for.
    pub fault: PlannedFault,
    /// What became of each step that needed an undo.
    pub outcome: LeftoverOutcome,
}

/// What became of a leftover.
#[derive(Debug)]
pub enum LeftoverOutcome {
    /// Undone now.
    Recovered,
    /// All the places where it was made no longer exist.
    AlreadyGone,
    /// Some steps could not be undone; it stays in the journal.
    Failed(Vec<StepError>),
}

/// The journal could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file system refused.
    #[error("failed to {operation} journal {path}")]
    File {
        /// What was tried.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A whole line is no line of a journal.
    #[error("line {line} of journal {path} is damaged")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Number of the line, from 1.
        line: usize,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

/// A journal file.
#[derive(Clone, Debug)]
pub struct Journal {
    path: PathBuf,
}

impl Journal {
    /// The journal at `path`, which is created with the first line.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        // A later process has another working directory, and the steps name files beside the journal.
        let path = path.into();
        Self {
            path: std::path::absolute(&path).unwrap_or(path),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends `line`; when this returns, it is on disk.
    pub fn append(&self, line: &JournalLine) -> Result<(), JournalError> {
        let written = || -> io::Result<()> {
            let mut file = OpenOptions::new()
                .create(true)
                .read(true)
                .append(true)
                .open(&self.path)?;
            let mut text = Vec::new();
            if !ends_with_a_line(&mut file)? {
                text.push(b'\n'); // its writer was killed: what it began must not spoil this line
            }
            serde_json::to_writer(&mut text, line)?;
            text.push(b'\n');
            file.write_all(&text)?; // one call and append mode: lines of several processes do not mix
            file.sync_data()
        };
        written().map_err(|source| self.file_error("append to", source))
    }

    /// All lines, without those that were cut short: what such a line announced had not begun.
    pub fn read(&self) -> Result<Vec<JournalLine>, JournalError> {
        let text = match fs::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(self.file_error("read", source)),
        };
        let mut lines = Vec::new();
        for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
            match serde_json::from_slice(line) {
                Ok(line) => lines.push(line),
                Err(error) if error.is_eof() => {}
                Err(source) => {
                    return Err(JournalError::Damaged {
                        path: self.path.clone(),
                        line: index + 1,
                        source,
                    });
                }
            }
        }
        Ok(lines)
    }

    /// Injections that were announced and not undone, oldest first.
    pub fn left(&self) -> Result<Vec<(InjectionId, PlannedFault, Vec<Step>)>, JournalError> {
        let mut order = Vec::new();
        let mut left = BTreeMap::new();
        for line in self.read()? {
            match line {
                JournalLine::Planned {
                    id,
                    fault,
                    steps,
                    at_ns: _,
                } => {
                    order.push(id.clone());
                    left.insert(id, (fault, steps));
                }
                JournalLine::Active { .. } => {}
                JournalLine::Undone { id, .. } => drop(left.remove(&id)),
            }
        }
        let found = order
            .into_iter()
            .filter_map(|id| left.remove(&id).map(|(fault, steps)| (id, fault, steps)));
        Ok(found.collect())
    }

    fn file_error(&self, operation: &'static str, source: io::Error) -> JournalError {
        JournalError::File {
            operation,
            path: self.path.clone(),
            source,
        }
    }
}

fn ends_with_a_line(file: &mut File) -> io::Result<bool> {
    if file.seek(SeekFrom::End(0))? == 0 {
        return Ok(true);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

/// Undoes what a journal says was left. May be called again and again.
///
/// `control` is the cluster, if it can still be reached; without it the cluster is taken to be gone, and what was
/// changed in its configuration with it.
pub async fn recover_journal(
    journal: &Journal,
    namespaces: &Namespaces,
    control: Option<&dyn ClusterControl>,
) -> Result<Vec<Leftover>, JournalError> {
    let mut leftovers = Vec::new();
    for (id, fault, steps) in journal.left()? {
        let (mut places_found, mut failures) = (false, Vec::new());
        for step in steps.iter().rev() {
            match undo_at_last(step, namespaces, control).await {
                Ok(Undone::Done) => places_found = true,
                Ok(Undone::AlreadyGone) => {}
                Err(error) => failures.push(error),
            }
        }
        let outcome = match (failures.is_empty(), places_found) {
            (false, _) => LeftoverOutcome::Failed(failures),
            (true, true) => LeftoverOutcome::Recovered,
            (true, false) => LeftoverOutcome::AlreadyGone,
        };
        if !matches!(outcome, LeftoverOutcome::Failed(_)) {
            let by = UndoneBy::LaterProcess;
            journal.append(&JournalLine::Undone {
                id: id.clone(),
                at_ns: super::now_ns(),
                by,
            })?;
        }
        leftovers.push(Leftover { id, fault, outcome });
    }
    Ok(leftovers)
}

/// Undoes a step, and tries again when that fails: an agent may outlive its harness by a moment, and what it has removed
/// just now cannot be removed twice.
async fn undo_at_last(
    step: &Step,
    namespaces: &Namespaces,
    control: Option<&dyn ClusterControl>,
) -> Result<Undone, StepError> {
    let mut outcome = undo_one(step, namespaces, control).await;
    for _ in 1..UNDO_ATTEMPTS {
        if outcome.is_ok() {
            break;
        }
        tokio::time::sleep(UNDO_PAUSE).await;
        outcome = undo_one(step, namespaces, control).await;
    }
    outcome
}

async fn undo_one(
    step: &Step,
    namespaces: &Namespaces,
    control: Option<&dyn ClusterControl>,
) -> Result<Undone, StepError> {
    match (step, control) {
        (Step::TargetPort { service }, Some(control)) => {
            let restored = control.set_target_port(service, None).await;
            restored.map(|()| Undone::Done).map_err(|source| StepError::System {
                operation: "restore the port of service",
                object: service.to_string(),
                source: io::Error::other(source),
            })
        }
        (Step::TargetPort { .. } | Step::LoadFactor, _) => Ok(Undone::AlreadyGone),
        (step, _) => step.undo(namespaces),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use gauntlet_probes::entity::ServiceName;

    use super::super::control::ControlFuture;
    use super::super::kind::FaultKind;
    use super::*;
    use crate::target::Dial;

    /// A cluster that refuses at first.
    struct Refusing(AtomicU32);

    impl ClusterControl for Refusing {
        fn set_target_port<'a>(&'a self, _: &'a ServiceName, _: Option<u16>) -> ControlFuture<'a> {
            let refuses = self
                .0
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
            Box::pin(async move { refuses.map_or(Ok(()), |_| Err("not now".into())) })
        }

        fn service_dial(&self, _: &ServiceName) -> Option<Dial> {
            None
        }

        fn set_load_factor(&self, _: f64) {}

        fn offered_load_ratio(&self) -> Option<f64> {
            None
        }
    }

    #[tokio::test]
    async fn a_failure_counts_when_it_lasts() {
        for (refusals, is_undone) in [(0, true), (UNDO_ATTEMPTS - 1, true), (UNDO_ATTEMPTS, false)] {
            let directory = tempfile::tempdir().expect("directory");
            let journal = Journal::at(directory.path().join("journal.jsonl"));
            let steps = vec![Step::TargetPort {
                service: "cache".into(),
            }];
            journal.append(&planned("a", steps)).expect("is written");
            let cluster = Refusing(refusals.into());
            let leftovers = recover_journal(&journal, &Namespaces::default(), Some(&cluster)).await;
            let outcomes: Vec<bool> = leftovers
                .expect("a readable journal")
                .iter()
                .map(|left| matches!(left.outcome, LeftoverOutcome::Recovered))
                .collect();
            assert_eq!(outcomes, [is_undone], "{refusals} refusals");
            assert_eq!(left(&journal).is_empty(), is_undone, "{refusals} refusals");
        }
    }

    fn planned(id: &str, steps: Vec<Step>) -> JournalLine {
        let fault = PlannedFault {
            id: "f".to_owned(),
            kind: FaultKind::ProcessPause,
            pods: Vec::new(),
            service: None,
            node: None,
            expires_after: Duration::from_secs(1),
        };
        JournalLine::Planned {
            id: InjectionId(id.to_owned()),
            at_ns: 1,
            fault,
            steps,
        }
    }

    fn undone(id: &str) -> JournalLine {
        JournalLine::Undone {
            id: InjectionId(id.to_owned()),
            at_ns: 2,
            by: UndoneBy::Recovery,
        }
    }

    fn left(journal: &Journal) -> Vec<String> {
        journal
            .left()
            .expect("is read")
            .into_iter()
            .map(|(id, _, _)| id.0)
            .collect()
    }

    #[test]
    fn what_was_not_undone_is_left_in_order() {
        let directory = tempfile::tempdir().expect("directory");
        let journal = Journal::at(directory.path().join("journal.jsonl"));
        assert!(left(&journal).is_empty(), "no journal, no injection");
        for line in [
            planned("b", Vec::new()),
            planned("c", Vec::new()),
            planned("a", Vec::new()),
            undone("c"),
        ] {
            journal.append(&line).expect("is written");
        }
        assert_eq!(left(&journal), ["b", "a"]);
    }

    #[test]
    fn a_line_cut_short_announces_nothing_and_a_damaged_one_is_told() {
        let directory = tempfile::tempdir().expect("directory");
        let journal = Journal::at(directory.path().join("journal.jsonl"));
        journal.append(&planned("a", Vec::new())).expect("is written");
        let mut text = fs::read_to_string(journal.path()).expect("is read");
        let cut = text[..text.len() / 2].to_owned();
        fs::write(journal.path(), format!("{text}{cut}")).expect("is written");
        assert_eq!(left(&journal), ["a"]);
        journal.append(&planned("b", Vec::new())).expect("is written after it");
        assert_eq!(left(&journal), ["a", "b"]);
        text.insert_str(0, "{}\n");
        fs::write(journal.path(), text).expect("is written");
        assert!(matches!(journal.left(), Err(JournalError::Damaged { line: 1, .. })));
    }
}
