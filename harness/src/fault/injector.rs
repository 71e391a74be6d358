//! Injects planned faults: journal, then agent (or cluster, or workload), and gives back what recovers them.
//!
//! Never judges whether a fault bites; see [`super::effect`].

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use gauntlet_probes::entity::PodName;
use gauntlet_probes::frame::MonotonicNanos;
use tokio::task::JoinHandle;

use super::agent::{AgentOrder, AgentReply};
use super::control::{ClusterControl, ControlError};
use super::effect::Before;
use super::flush::KeyCount;
use super::handle::Agent;
use super::injection::{Holder, Injection, restore_cluster};
use super::journal::{InjectionId, Journal, JournalError, JournalLine, UndoneBy};
use super::kind::{FaultKind, PlannedFault};
use super::kubernetes::{self, recipe::Scene};
use super::netns::Namespaces;
use super::recipe::{DelayBy, Recipe, RecipeError, bare};
use super::step::{Potency, Step};
use super::surroundings::Surroundings;

/// Name of the hidden subcommand that runs [`super::agent::agent_main`].
pub const AGENT_SUBCOMMAND: &str = "__fault-agent";

/// How to start a fault agent: a program whose `main` calls [`super::agent::agent_main`].
#[derive(Clone, Debug)]
pub struct AgentCommand {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
}

impl AgentCommand {
    /// This program with the hidden subcommand for agents.
    pub fn of_this_program() -> std::io::Result<Self> {
        Ok(Self {
            program: std::env::current_exe()?,
            arguments: vec![AGENT_SUBCOMMAND.to_owned()],
        })
    }
}

/// A fault could not be injected. Whatever was made of it is undone, or stays in the journal.
#[derive(Debug, thiserror::Error)]
pub enum InjectError {
    /// It cannot be made here.
    #[error("fault {fault} cannot be made here")]
    Recipe {
        /// Its name in the scenario.
        fault: String,
        /// Why.
        #[source]
        source: RecipeError,
    },
    /// The undo could not be written, so nothing was done.
    #[error("fault {fault} was not injected")]
    Journal {
        /// Its name in the scenario.
        fault: String,
        /// Why.
        #[source]
        source: JournalError,
    },
    /// There is no agent.
    #[error("failed to start the agent of fault {fault} ({program})")]
    Agent {
        /// Its name in the scenario.
        fault: String,
        /// What was to run.
        program: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The agent could not make the steps.
    #[error("failed to inject fault {fault}: {message}")]
    Refused {
        /// Its name in the scenario.
        fault: String,
        /// What the agent said.
        message: String,
    },
    /// The cluster refused.
    #[error("failed to inject fault {fault} into the cluster")]
    Control {
        /// Its name in the scenario.
        fault: String,
        /// Why.
        #[source]
        source: ControlError,
    },
}

/// Injects faults into one cluster, with one journal.
pub struct Injector {
    journal: Journal,
    agent: AgentCommand,
    surroundings: RwLock<Arc<Surroundings>>,
    control: Arc<dyn ClusterControl>,
    delay_by: DelayBy,
}

impl Injector {
    /// An injector whose journal is at `journal`; what it must remember of devices is kept beside it.
    #[must_use]
    pub fn new(
        journal: Journal,
        agent: AgentCommand,
        surroundings: Surroundings,
        control: Arc<dyn ClusterControl>,
    ) -> Self {
        let delay_by = DelayBy::of_this_kernel();
        Self {
            journal,
            agent,
            surroundings: RwLock::new(Arc::new(surroundings)),
            control,
            delay_by,
        }
    }

    /// How delays are made on this kernel, for the record of a run's environment.
    #[must_use]
    pub fn delay_by(&self) -> DelayBy {
        self.delay_by
    }

    /// What exists around the faults now.
    #[must_use]
    pub fn surroundings(&self) -> Arc<Surroundings> {
        Arc::clone(&self.surroundings.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Pods have come or gone: what is injected and measured from now on is among these.
    pub fn set_surroundings(&self, surroundings: Surroundings) {
        *self.surroundings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(surroundings);
    }

    /// The cluster and its workload.
    #[must_use]
    pub fn control(&self) -> &Arc<dyn ClusterControl> {
        &self.control
    }

    /// Writes the undo, then makes the fault. It is active when this returns; whether it bites is another question.
    pub async fn inject(&self, fault: &PlannedFault) -> Result<Injection, InjectError> {
        let requested_at_ns = super::now_ns();
        let id = self.id(fault, requested_at_ns);
        let surroundings = self.surroundings();
        let of_recipe = |source| InjectError::Recipe {
            fault: fault.id.clone(),
            source,
        };
        let (steps, scene) = self.steps(&id, fault, &surroundings).await.map_err(of_recipe)?;
        let before = Before::of(fault, &surroundings, scene);
        let planned = JournalLine::Planned {
            id: id.clone(),
            at_ns: requested_at_ns,
            fault: fault.clone(),
            steps: steps.clone(),
        };
        self.write(fault, &planned)?;
        let mut injection = Injection {
            id: id.clone(),
            fault: fault.clone(),
            requested_at_ns,
            active_at_ns: requested_at_ns,
            keys: BTreeMap::new(),
            before,
            steps,
            holder: Holder::Nobody,
            journal: self.journal.clone(),
            namespaces: Namespaces::of(&surroundings.pods, &surroundings.nodes),
            control: Arc::clone(&self.control),
        };
        self.deed(&mut injection).await?;
        self.write(
            fault,
            &JournalLine::Active {
                id,
                at_ns: injection.active_at_ns,
            },
        )?;
        Ok(injection)
    }

    /// What has to be done, and what the effect in a cluster will be measured by. A Service is changed through the API
    /// where there is one, so that the change outlives this process no longer than any other.
    async fn steps(
        &self,
        id: &InjectionId,
        fault: &PlannedFault,
        surroundings: &Surroundings,
    ) -> Result<(Vec<Step>, Scene), RecipeError> {
        let is_of_cluster = matches!(bare(&fault.kind, Potency::Full).0, FaultKind::ServiceWrongPort { .. })
            && surroundings.kubernetes.is_some();
        if is_of_cluster || fault.kind.needs_kubernetes() {
            return kubernetes::recipe::steps(surroundings, id, fault).await;
        }
        let recipe = Recipe {
            id,
            surroundings,
            state: self.journal.path().parent().unwrap_or(std::path::Path::new(".")),
            delay_by: self.delay_by,
        };
        Ok((recipe.steps(fault)?, Scene::default()))
    }

    async fn deed(&self, injection: &mut Injection) -> Result<(), InjectError> {
        let (kind, potency) = bare(&injection.fault.kind, Potency::Full);
        match &injection.steps[..] {
            [] => injection.active_at_ns = super::now_ns(),
            steps if !steps.iter().all(Step::is_by_agent) => {
                let made = change_cluster(self.control.as_ref(), &injection.fault, kind, potency).await;
                injection.active_at_ns = super::now_ns();
                if let Err(source) = made {
                    // It may have been made in part.
                    if restore_cluster(self.control.as_ref(), &injection.fault).await.is_ok() {
                        let _stays_in_the_journal = injection.note(Vec::new());
                    }
                    return Err(InjectError::Control {
                        fault: injection.fault.id.clone(),
                        source,
                    });
                }
                injection.holder = Holder::Timer(self.expire_later(injection));
            }
            _ => {
                let (agent, at_ns, keys) = self.start_agent(injection).await?;
                injection.holder = Holder::Agent(Box::new(agent));
                injection.active_at_ns = at_ns;
                injection.keys = keys;
            }
        }
        Ok(())
    }

    async fn start_agent(
        &self,
        injection: &Injection,
    ) -> Result<(Agent, MonotonicNanos, BTreeMap<PodName, KeyCount>), InjectError> {
        let fault = injection.fault.id.clone();
        let order = AgentOrder {
            id: injection.id.clone(),
            steps: injection.steps.clone(),
            expires_after: injection.fault.expires_after,
            journal: self.journal.path().to_owned(),
            harness_tgid: std::process::id(),
            netns: injection
                .namespaces
                .known()
                .map(|(inode, netns)| (inode, netns.as_raw_fd()))
                .collect(),
        };
        let started = Agent::start(&self.agent, &order).await;
        let mut agent = started.map_err(|source| InjectError::Agent {
            fault: fault.clone(),
            program: self.agent.program.clone(),
            source,
        })?;
        let message = match agent.reply().await {
            Ok(AgentReply::Active { at_ns, keys }) => return Ok((agent, at_ns, keys)),
            Ok(AgentReply::Failed { message }) => message,
            Ok(AgentReply::Undone { .. }) => "it was undone before it was made".to_owned(),
            Err(error) => {
                // Dead or hanging; two must not work on the same objects at once.
                agent.end().await;
                let _stays_in_the_journal = injection.undo_here();
                format!("its agent gave no answer: {error}")
            }
        };
        Err(InjectError::Refused { fault, message })
    }

    /// Undoes what only the cluster can undo when the fault has lasted long enough, and says when it was.
    fn expire_later(&self, injection: &Injection) -> JoinHandle<Option<MonotonicNanos>> {
        let (control, fault, id) = (Arc::clone(&self.control), injection.fault.clone(), injection.id.clone());
        let journal = self.journal.clone();
        tokio::spawn(async move {
            tokio::time::sleep(fault.expires_after).await;
            // A failure leaves the injection in the journal, for its recovery to try again.
            restore_cluster(control.as_ref(), &fault).await.ok()?;
            let at_ns = super::now_ns();
            journal
                .append(&JournalLine::Undone {
                    id,
                    at_ns,
                    by: UndoneBy::Expiry,
                })
                .ok()?;
            Some(at_ns)
        })
    }

    fn id(&self, fault: &PlannedFault, at_ns: MonotonicNanos) -> InjectionId {
        let mut hasher = DefaultHasher::new();
        (std::process::id(), at_ns, &fault.id).hash(&mut hasher);
        InjectionId(format!("f{:08x}", hasher.finish() as u32))
    }

    fn write(&self, fault: &PlannedFault, line: &JournalLine) -> Result<(), InjectError> {
        self.journal.append(line).map_err(|source| InjectError::Journal {
            fault: fault.id.clone(),
            source,
        })
    }
}

async fn change_cluster(
    control: &dyn ClusterControl,
    fault: &PlannedFault,
    kind: &FaultKind,
    potency: Potency,
) -> Result<(), ControlError> {
    match (kind, potency, &fault.service) {
        (FaultKind::LoadSurge { factor }, Potency::Full, _) => control.set_load_factor(*factor),
        (FaultKind::LoadSurge { .. }, Potency::Zero, _) => control.set_load_factor(1.0),
        (FaultKind::ServiceWrongPort { target_port }, Potency::Full, Some(service)) => {
            control.set_target_port(service, Some(*target_port)).await?;
        }
        (FaultKind::ServiceWrongPort { .. }, Potency::Zero, Some(service)) => {
            control.set_target_port(service, None).await?;
        }
        _ => unreachable!("the recipe has asked for a service, and no other kind is done by the cluster"),
    }
    Ok(())
}
