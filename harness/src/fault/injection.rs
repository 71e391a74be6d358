//! One applied fault, and its recovery: by its agent, by the cluster, or from here if the agent is dead.
//!
//! Knows nothing of how it was made.

use std::collections::BTreeMap;
use std::sync::Arc;

use gauntlet_probes::entity::PodName;
use gauntlet_probes::frame::MonotonicNanos;
use tokio::task::JoinHandle;

use super::agent::{AgentReply, with_causes};
use super::control::{ClusterControl, ControlError};
use super::effect::{Before, Subject};
use super::flush::KeyCount;
use super::handle::Agent;
use super::journal::{InjectionId, Journal, JournalLine, UndoneBy};
use super::kind::{FaultKind, PlannedFault};
use super::netns::Namespaces;
use super::queue::QueueCount;
use super::recipe::bare;
use super::step::{Potency, Step};

/// One applied fault.
#[must_use = "an injected fault stays until `recover` is awaited or it expires"]
pub struct Injection {
    pub(super) id: InjectionId,
    pub(super) fault: PlannedFault,
    pub(super) requested_at_ns: MonotonicNanos,
    pub(super) active_at_ns: MonotonicNanos,
    pub(super) keys: BTreeMap<PodName, KeyCount>,
    pub(super) before: Before,
    pub(super) steps: Vec<Step>,
    pub(super) holder: Holder,
    pub(super) journal: Journal,
    pub(super) namespaces: Namespaces,
    pub(super) control: Arc<dyn ClusterControl>,
}

/// Who undoes it by itself.
pub(crate) enum Holder {
    /// Nobody need to.
    Nobody,
    /// A process.
    Agent(Box<Agent>),
    /// A task of the harness.
    Timer(JoinHandle<Option<MonotonicNanos>>),
}

impl Injection {
    /// Its name in kernel and journal.
    #[must_use]
    pub fn id(&self) -> &InjectionId {
        &self.id
    }

    /// What was asked for.
    #[must_use]
    pub fn fault(&self) -> &PlannedFault {
        &self.fault
    }

    /// When it was asked for.
    #[must_use]
    pub fn requested_at_ns(&self) -> MonotonicNanos {
        self.requested_at_ns
    }

    /// When all steps were made.
    #[must_use]
    pub fn active_at_ns(&self) -> MonotonicNanos {
        self.active_at_ns
    }

    /// The steps that were made.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Process id of its agent, if it has one that lives.
    #[must_use]
    pub fn agent_tgid(&self) -> Option<u32> {
        match &self.holder {
            Holder::Agent(agent) => agent.tgid(),
            Holder::Nobody | Holder::Timer(_) => None,
        }
    }

    /// What its effect is measured by, also after its recovery.
    #[must_use]
    pub fn subject(&self) -> Subject {
        let (id, fault) = (self.id.clone(), self.fault.clone());
        Subject {
            id,
            fault,
            before: self.before.clone(),
            keys: self.keys.clone(),
        }
    }

    /// Undoes the fault, by its agent or, should that be dead, from here.
    pub async fn recover(mut self) -> Result<Recovered, RecoverError> {
        assert!(
            self.requested_at_ns <= self.active_at_ns,
            "a fault is asked for before it is made"
        );
        let undone = match std::mem::replace(&mut self.holder, Holder::Nobody) {
            Holder::Nobody => self.note(Vec::new()),
            Holder::Timer(timer) => {
                timer.abort();
                match timer.await {
                    Ok(Some(at_ns)) => AgentReply::Undone {
                        at_ns,
                        by: UndoneBy::Expiry,
                        queues: QueueCount::default(),
                        failures: Vec::new(),
                    },
                    Ok(None) | Err(_) => {
                        let restored = restore_cluster(self.control.as_ref(), &self.fault).await;
                        self.note(
                            restored
                                .err()
                                .map(|error| with_causes(error.as_ref()))
                                .into_iter()
                                .collect(),
                        )
                    }
                }
            }
            Holder::Agent(mut agent) => match agent.recover().await {
                Ok(reply) => reply,
                Err(_the_agent_is_dead) => self.undo_here(),
            },
        };
        match undone {
            AgentReply::Undone {
                at_ns,
                by,
                queues,
                failures,
            } if failures.is_empty() => Ok(Recovered { at_ns, by, queues }),
            AgentReply::Undone { failures, .. } => Err(RecoverError {
                fault: self.fault.id.clone(),
                failures,
            }),
            AgentReply::Failed { message } => Err(RecoverError {
                fault: self.fault.id.clone(),
                failures: vec![message],
            }),
            AgentReply::Active { .. } => unreachable!("said once, and heard by `inject`"),
        }
    }

    /// Undoes every step, made or not, without the agent.
    pub(super) fn undo_here(&self) -> AgentReply {
        let undone = self
            .steps
            .iter()
            .rev()
            .filter_map(|step| step.undo(&self.namespaces).err());
        self.note(undone.map(|error| with_causes(&error)).collect())
    }

    /// Writes down that nothing is left, if nothing has failed.
    pub(super) fn note(&self, mut failures: Vec<String>) -> AgentReply {
        let (at_ns, by) = (super::now_ns(), UndoneBy::Recovery);
        if failures.is_empty() {
            let written = self.journal.append(&JournalLine::Undone {
                id: self.id.clone(),
                at_ns,
                by,
            });
            failures.extend(written.err().map(|error| with_causes(&error)));
        }
        AgentReply::Undone {
            at_ns,
            by,
            queues: QueueCount::default(),
            failures,
        }
    }
}

impl Drop for Injection {
    fn drop(&mut self) {
        match &self.holder {
            Holder::Nobody => {}
            // Its input closes with us, which makes the agent undo it.
            Holder::Agent(_) => eprintln!(
                "fault {} was dropped without recovery; its agent undoes it",
                self.fault.id
            ),
            Holder::Timer(_) => eprintln!(
                "fault {} was dropped without recovery; it stays until it expires",
                self.fault.id
            ),
        }
    }
}

/// Takes back what the cluster or the workload did. May be called again and again.
pub(super) async fn restore_cluster(control: &dyn ClusterControl, fault: &PlannedFault) -> Result<(), ControlError> {
    match (bare(&fault.kind, Potency::Full).0, &fault.service) {
        (FaultKind::LoadSurge { .. }, _) => control.set_load_factor(1.0),
        (FaultKind::ServiceWrongPort { .. }, Some(service)) => control.set_target_port(service, None).await?,
        _ => {}
    }
    Ok(())
}

/// An injection could not be recovered completely; the journal keeps it.
#[derive(Debug, thiserror::Error)]
#[error("failed to recover fault {fault}: {}", failures.join("; "))]
pub struct RecoverError {
    /// Its name in the scenario.
    pub fault: String,
    /// What could not be undone, and why.
    pub failures: Vec<String>,
}

/// A recovered injection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// When all of it was undone.
    pub at_ns: MonotonicNanos,
    /// At whose instance: it may have expired before.
    pub by: UndoneBy,
    /// What its queues did, if it had any.
    pub queues: QueueCount,
}
