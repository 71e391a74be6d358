//! The dead man's switch: a process of its own that makes an injection and undoes it, whatever becomes of the harness.
//!
//! It takes one order on its standard input, makes the steps, and undoes them at a word, at the end of its input (the
//! harness is gone) or when the injection has lasted long enough, whichever comes first. It decides nothing else. Should
//! it be killed itself, the journal has all that the harness or a later process needs.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use gauntlet_probes::entity::PodName;
use gauntlet_probes::frame::MonotonicNanos;
use serde::{Deserialize, Serialize};

use super::flush::KeyCount;
use super::journal::{InjectionId, Journal, JournalLine, UndoneBy};
use super::netns::Namespaces;
use super::queue::QueueCount;
use super::step::{Activity, Step};

/// The word that makes an agent undo its injection and end.
pub(crate) const RECOVER: &str = "recover";
/// How often an undo is tried, and the pause between: another tool may hold a lock for a moment.
const UNDO_TRIES: u32 = 3;
const UNDO_PAUSE: Duration = Duration::from_millis(100);

/// What an agent is told: one line of JSON.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct AgentOrder {
    pub(crate) id: InjectionId,
    pub(crate) steps: Vec<Step>,
    pub(crate) expires_after: Duration,
    pub(crate) journal: PathBuf,
    /// The harness, and its descriptors of the namespaces by inode.
    pub(crate) harness_tgid: u32,
    pub(crate) netns: BTreeMap<u64, i32>,
}

/// What an agent says: lines of JSON.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub(crate) enum AgentReply {
    /// All steps are made.
    Active {
        at_ns: MonotonicNanos,
        keys: BTreeMap<PodName, KeyCount>,
    },
    /// A step could not be made; all are undone.
    Failed { message: String },
    /// All steps are undone, but for those that are named.
    Undone {
        at_ns: MonotonicNanos,
        by: UndoneBy,
        queues: QueueCount,
        failures: Vec<String>,
    },
}

/// The `main` of an agent: serves the order that comes on standard input.
pub fn agent_main() -> anyhow::Result<()> {
    // A session of its own: an interrupt typed at the harness must not end the undo.
    let _leads_one_already = nix::unistd::setsid();
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    let Ok(order) = receiver.recv() else {
        return Ok(()); // the harness was gone before it asked for anything
    };
    let order: AgentOrder = serde_json::from_str(&order)?;
    let namespaces = match Namespaces::through(order.harness_tgid, &order.netns) {
        Ok(namespaces) => namespaces,
        Err(error) => {
            say_if_heard(&AgentReply::Failed {
                message: format!("its namespaces cannot be opened: {error}"),
            });
            return Ok(());
        }
    };
    if order.steps.iter().any(Step::stops_last) {
        hurry();
    }
    let (activities, failure) = apply_all(&order.steps, &namespaces);
    let by = match failure {
        Some(message) => {
            let _is_in_the_journal = undo_all(&order, &namespaces, activities, UndoneBy::Failure);
            say_if_heard(&AgentReply::Failed { message });
            return Ok(());
        }
        None => {
            let keys = keys_by_pod(&order.steps, &activities);
            say_if_heard(&AgentReply::Active {
                at_ns: super::now_ns(),
                keys,
            });
            wait_for_end(&receiver, order.expires_after)
        }
    };
    say_if_heard(&undo_all(&order, &namespaces, activities, by));
    Ok(())
}

fn apply_all(steps: &[Step], namespaces: &Namespaces) -> (Vec<Activity>, Option<String>) {
    let mut activities = Vec::new();
    for step in steps {
        match step.apply(namespaces) {
            Ok(activity) => activities.push(activity),
            Err(error) => return (activities, Some(with_causes(&error))),
        }
    }
    (activities, None)
}

fn wait_for_end(receiver: &mpsc::Receiver<String>, expires_after: Duration) -> UndoneBy {
    let deadline = Instant::now() + expires_after;
    loop {
        match receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(word) if word == RECOVER => return UndoneBy::Recovery,
            Ok(_no_word_of_ours) => {}
            Err(RecvTimeoutError::Timeout) => return UndoneBy::Expiry,
            Err(RecvTimeoutError::Disconnected) => return UndoneBy::HarnessGone,
        }
    }
}

/// Undoes every step, made or not: a step that failed may have been made in part.
fn undo_all(order: &AgentOrder, namespaces: &Namespaces, activities: Vec<Activity>, by: UndoneBy) -> AgentReply {
    let mut queues = QueueCount::default();
    let mut failures = Vec::new();
    let soon = order
        .steps
        .iter()
        .zip(&activities)
        .filter(|(step, _)| !step.stops_last());
    soon.for_each(|(_, activity)| activity.ask_to_stop());
    let mut activities: Vec<Option<Activity>> = activities.into_iter().map(Some).collect();
    activities.resize_with(order.steps.len(), || None);
    for (step, activity) in order.steps.iter().zip(activities).rev() {
        let stop = || match activity.and_then(Activity::stop) {
            Some(Ok(count)) => Ok(count),
            Some(Err(error)) => Err(error.to_string()),
            None => Ok(QueueCount::default()),
        };
        let stopped = if step.stops_last() {
            failures.extend(undo_patiently(step, namespaces));
            stop()
        } else {
            let stopped = stop();
            failures.extend(undo_patiently(step, namespaces));
            stopped
        };
        match stopped {
            Ok(count) => {
                queues.held += count.held;
                queues.overflowed += count.overflowed;
                queues.overruns += count.overruns;
            }
            Err(message) => failures.push(message),
        }
    }
    let at_ns = super::now_ns();
    if failures.is_empty() {
        let line = JournalLine::Undone {
            id: order.id.clone(),
            at_ns,
            by,
        };
        failures.extend(
            Journal::at(&order.journal)
                .append(&line)
                .err()
                .map(|error| with_causes(&error)),
        );
    }
    AgentReply::Undone {
        at_ns,
        by,
        queues,
        failures,
    }
}

fn undo_patiently(step: &Step, namespaces: &Namespaces) -> Option<String> {
    let mut failure = None;
    for _attempt in 0..UNDO_TRIES {
        match step.undo(namespaces) {
            Ok(_undone) => return None,
            Err(error) => failure = Some(with_causes(&error)),
        }
        std::thread::sleep(UNDO_PAUSE);
    }
    failure
}

fn keys_by_pod(steps: &[Step], activities: &[Activity]) -> BTreeMap<PodName, KeyCount> {
    let pairs = steps.iter().zip(activities).filter_map(|(step, activity)| {
        let Step::Redis { pod, .. } = step else { return None };
        Some((pod.clone(), activity.keys?))
    });
    pairs.collect()
}

/// A packet's delay is as exact as this process is punctual. Without the privilege it is merely less so.
fn hurry() {
    let own = std::process::id().to_string();
    let mut renice = Command::new("renice");
    renice
        .args(["-n", "-15", "-p", &own])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let _less_punctual = renice.status();
}

fn say(reply: &AgentReply) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    let mut stdout = io::stdout().lock();
    stdout.write_all(&line)?;
    Ok(stdout.flush()?)
}

/// The harness may be gone, and the undo matters more than who hears of it.
fn say_if_heard(reply: &AgentReply) {
    let _nobody_listens = say(reply);
}

/// An error and its causes in one line.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
