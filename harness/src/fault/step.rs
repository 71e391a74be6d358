//! One change to a pod, an object or a node as data: enough to make it, and enough for any later process to undo it.
//!
//! Undoing is idempotent, and says when there was nothing left to undo. Does not know why the change is made.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use gauntlet_probes::entity::{PodName, ServiceName};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use crate::target::NetnsFd;
use crate::target::kind::access::ClusterAccess;
use crate::target::kind::docker::ToolFailure;

use super::cpu::Quota;
use super::flush;
use super::kubernetes::api::{self, TalkError};
use super::kubernetes::node::NodeChange;
use super::kubernetes::object::ObjectChange;
use super::netns::Namespaces;
use super::packets::PacketMatch;
use super::queue::{self, Wait};
use super::shape::{Demand, ShapeError, Shaper};
use super::tool::ToolError;
use super::{filter, loss, process};

mod activity;

pub(crate) use self::activity::Activity;
use self::activity::{start_killing, start_pausing, start_queue};

/// One change, of one pod unless said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Step {
    /// An nftables table.
    NftTable {
        /// Inode of the namespace.
        netns: u64,
        /// Name of the table.
        table: String,
        /// Its text.
        rules: String,
    },
    /// A dropping program at a device's ingress hook.
    TcLoss {
        /// Inode of the namespace.
        netns: u64,
        /// Name of the device.
        device: String,
        /// Preference, which is the filter's name.
        preference: u16,
        /// The program.
        bytecode: String,
    },
    /// A demand on a device's egress.
    Shape {
        /// Inode of the namespace.
        netns: u64,
        /// Name of the device.
        device: String,
        /// Whose demand.
        id: String,
        /// What is demanded.
        demand: Demand,
        /// File with all demands on the device.
        state: PathBuf,
    },
    /// A netfilter queue with rules that feed it.
    Queue {
        /// Inode of the namespace.
        netns: u64,
        /// Name of the chain.
        chain: String,
        /// Number of the queue.
        number: u16,
        /// Which packets.
        packets: PacketMatch,
        /// How long they wait.
        wait: Wait,
    },
    /// Processes are killed.
    Kill {
        /// The pod's v2 cgroup.
        cgroup: PathBuf,
        /// Time from one kill to the next; `None`: once.
        every: Option<Duration>,
        /// Whether a signal is really sent, or only asked whether it could.
        potency: Potency,
    },
    /// Processes are stopped.
    Pause {
        /// The pod's v2 cgroup.
        cgroup: PathBuf,
        /// Whether a signal is really sent, or only asked whether it could.
        potency: Potency,
    },
    /// A CPU quota.
    CpuQuota {
        /// Directory of the cgroup.
        cgroup: PathBuf,
        /// What is set.
        set: Quota,
        /// What stood before.
        restore: Quota,
    },
    /// A command to a Redis server. There is nothing to undo.
    Redis {
        /// Inode of the namespace.
        netns: u64,
        /// The server.
        server: SocketAddr,
        /// The command.
        command: String,
        /// The pod.
        pod: PodName,
    },
    /// An object of a Kubernetes API.
    Object {
        /// How the API is reached.
        access: ClusterAccess,
        /// What is changed.
        change: ObjectChange,
    },
    /// A node that is a container of this machine.
    Node {
        /// Id of the container.
        container: String,
        /// What is changed.
        change: NodeChange,
    },
    /// The port behind a service's virtual addresses; done by the cluster, not by an agent.
    TargetPort {
        /// The service.
        service: ServiceName,
    },
    /// The offered load; done by the workload, not by an agent.
    LoadFactor,
}

/// Whether a step has its effect, or only runs its machinery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Potency {
    /// It bites.
    Full,
    /// It runs, and changes nothing that anybody could feel.
    Zero,
}

/// What became of an undo.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Undone {
    /// It was made undone, or found undone in a place that still exists.
    Done,
    /// The place where it was made no longer exists.
    AlreadyGone,
}

/// A step could not be made or undone.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The namespace does not exist (any more).
    #[error("network namespace {0} does not exist")]
    NoNamespace(u64),
    /// A tool refused.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// A device could not be shaped.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// The cluster did not do as its API was asked.
    #[error(transparent)]
    Talk(#[from] TalkError),
    /// The container engine refused.
    #[error(transparent)]
    Container(#[from] ToolFailure),
    /// Something else of the system refused.
    #[error("failed to {operation} {object}")]
    System {
        /// What was tried.
        operation: &'static str,
        /// On what.
        object: String,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// The step is not an agent's to make.
    #[error("this step is done by the cluster or the workload")]
    NotByAgent,
}

impl Step {
    /// Makes the change. What lasts goes on in threads of this process.
    pub(crate) fn apply(&self, namespaces: &Namespaces) -> Result<Activity, StepError> {
        let netns = |inode: &u64| namespaces.find(*inode).ok_or(StepError::NoNamespace(*inode));
        match self {
            Self::NftTable {
                netns: inode,
                table: _,
                rules,
            } => filter::add(&netns(inode)?, rules)?,
            Self::TcLoss {
                netns: inode,
                device,
                preference,
                bytecode,
            } => {
                loss::add(&netns(inode)?, device, *preference, bytecode)?;
            }
            Self::Shape {
                netns: inode,
                device,
                id,
                demand,
                state,
            } => {
                Shaper {
                    netns: &netns(inode)?,
                    device,
                    state,
                }
                .demand(id, demand)?;
            }
            Self::Queue {
                netns: inode,
                chain,
                number,
                packets,
                wait,
            } => {
                return start_queue(&netns(inode)?, chain, *number, packets, *wait);
            }
            Self::Kill { cgroup, every, potency } => return start_killing(cgroup, *every, *potency),
            Self::Pause { cgroup, potency } => return start_pausing(cgroup, *potency),
            Self::CpuQuota {
                cgroup,
                set,
                restore: _,
            } => {
                set.write(cgroup)
                    .map_err(system("set the CPU quota of", cgroup.display().to_string()))?;
            }
            Self::Redis {
                netns: inode,
                server,
                command,
                pod: _,
            } => {
                let keys = flush::converse(&netns(inode)?, *server, command);
                let keys = keys.map_err(system("talk to the Redis server", server.to_string()))?;
                return Ok(Activity::of_keys(keys));
            }
            Self::Object { access, change } => api::blocking(access, async |client| change.apply(&client).await)?,
            Self::Node { container, change } => change.apply(container)?,
            Self::TargetPort { .. } | Self::LoadFactor => return Err(StepError::NotByAgent),
        }
        Ok(Activity::default())
    }

    /// Undoes the change, by whomever it was made, wholly or in part or not at all.
    ///
    /// A thread of [`Step::apply`] that still runs is the caller's to stop: after this for a queue, whose packets must
    /// be let go when no more come in, and before this for everything else.
    pub(crate) fn undo(&self, namespaces: &Namespaces) -> Result<Undone, StepError> {
        let in_netns = |inode: u64, undo: &dyn Fn(&NetnsFd) -> Result<(), StepError>| match namespaces.find(inode) {
            None => Ok(Undone::AlreadyGone),
            Some(netns) => gone_with_its_device(undo(&netns)),
        };
        match self {
            Self::NftTable { netns, table, rules: _ } => in_netns(*netns, &|netns| Ok(filter::remove(netns, table)?)),
            Self::TcLoss {
                netns,
                device,
                preference,
                bytecode: _,
            } => in_netns(*netns, &|netns| Ok(loss::remove(netns, device, *preference)?)),
            Self::Shape {
                netns,
                device,
                id,
                demand: _,
                state,
            } => in_netns(*netns, &|netns| Ok(Shaper { netns, device, state }.release(id)?)),
            Self::Queue { netns, chain, .. } => in_netns(*netns, &|netns| Ok(queue::remove_rules(netns, chain)?)),
            Self::Kill { .. } | Self::Redis { .. } | Self::LoadFactor => Ok(Undone::Done),
            Self::Pause { cgroup, potency } => match potency {
                Potency::Zero => Ok(Undone::Done),
                Potency::Full if !cgroup.exists() => Ok(Undone::AlreadyGone),
                Potency::Full => {
                    let woken = process::signal_all(cgroup, Some(Signal::SIGCONT)).map_err(std::io::Error::from);
                    woken.map_err(system("continue the processes of", cgroup.display().to_string()))?;
                    Ok(Undone::Done)
                }
            },
            Self::CpuQuota {
                cgroup,
                set: _,
                restore,
            } => {
                if !cgroup.exists() {
                    return Ok(Undone::AlreadyGone);
                }
                restore
                    .write(cgroup)
                    .map_err(system("restore the CPU quota of", cgroup.display().to_string()))?;
                Ok(Undone::Done)
            }
            Self::Object { access, change } => match api::blocking(access, async |client| change.undo(&client).await) {
                Ok(undone) => Ok(undone),
                Err(_) if api::cluster_is_gone(access) => Ok(Undone::AlreadyGone),
                Err(error) => Err(error.into()),
            },
            Self::Node { container, change } => Ok(change.undo(container)?),
            Self::TargetPort { .. } => Err(StepError::NotByAgent),
        }
    }

    /// Whether an agent can make it; everything else is the cluster's or the workload's to do.
    pub(crate) fn is_by_agent(&self) -> bool {
        !matches!(self, Self::TargetPort { .. } | Self::LoadFactor)
    }

    /// Whether its packets wait in this process, so that its thread is stopped after the undo.
    pub(crate) fn stops_last(&self) -> bool {
        matches!(self, Self::Queue { .. })
    }
}

/// A device that no longer exists took what was made on it along.
fn gone_with_its_device(undone: Result<(), StepError>) -> Result<Undone, StepError> {
    match undone {
        Ok(()) => Ok(Undone::Done),
        Err(StepError::Tool(error) | StepError::Shape(ShapeError::Tool { source: error, .. })) if matches!(&error, ToolError::Refused { message, .. } if message.contains("Cannot find device")) => {
            Ok(Undone::AlreadyGone)
        }
        Err(error) => Err(error),
    }
}

fn system(operation: &'static str, object: String) -> impl FnOnce(std::io::Error) -> StepError {
    move |source| StepError::System {
        operation,
        object,
        source,
    }
}
