//! Effects of what was made wrong in a Kubernetes cluster: asked of its API, and felt by connecting as callers do.
//!
//! What the API says is never enough where a caller can be asked too: an object that was changed and bites nobody is no
//! fault. Says of each kind which physics it goes by.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use gauntlet_probes::entity::NodeName;
use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Endpoints, Node, Pod};
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt as _};

use crate::target::{NetnsFd, NodeHandle, PodHandle};

use super::super::kind::{FaultKind, NodeFault, ObjectFault};
use super::super::kubernetes::api::{ApiError, blocking};
use super::super::kubernetes::object::listed;
use super::super::kubernetes::recipe::{DNS_NAMESPACE, Door};
use super::super::kubernetes::workload::{Rollout, Workload};
use super::super::process;
use super::super::recipe::bare;
use super::super::step::Potency;
use super::super::surroundings::Surroundings;
use super::network::{self, Answer, SILENCE};
use super::vantage::Route;
use super::{Measurement, Question, Reading, Subject, with_causes};

/// Time between two looks at the clock of a node's processes.
const PULSE: Duration = Duration::from_millis(150);
/// Less CPU than this in that time is none: a node that lives has a kubelet that looks around all the time.
const PULSE_US: u64 = 20;
/// How long a name server may take: one on the same machine answers in a millisecond.
const DNS_PATIENCE: Duration = Duration::from_millis(400);
/// Reasons for which a container waits when its image cannot be had.
const NO_IMAGE: [&str; 4] = [
    "ErrImagePull",
    "ImagePullBackOff",
    "ErrImageNeverPull",
    "InvalidImageName",
];
/// Reason for which a container ended that took more memory than it has.
const OUT_OF_MEMORY: &str = "OOMKilled";

/// Looks once. Of the bite, several readings that must all be had; of the recovery, one.
pub(super) fn measure(subject: &Subject, around: &Surroundings, question: Question) -> Vec<Measurement> {
    let look = Look { subject, around };
    let readings = match bare(&subject.fault.kind, Potency::Full).0 {
        FaultKind::ServiceWrongPort { .. } => look.doors_closed(),
        FaultKind::Object(fault) => look.object(fault, question),
        FaultKind::Node(fault) => look.node(*fault, question),
        FaultKind::None
        | FaultKind::Placebo { .. }
        | FaultKind::LoadSurge { .. }
        | FaultKind::NetworkFilter { .. }
        | FaultKind::NetworkLoss { .. }
        | FaultKind::NetworkDelay { .. }
        | FaultKind::NetworkBandwidth { .. }
        | FaultKind::ProcessKill { .. }
        | FaultKind::ProcessPause
        | FaultKind::CpuLimit { .. }
        | FaultKind::CacheFlush => unreachable!("is measured pod by pod"),
    };
    match question {
        Question::Bites => readings,
        Question::Recovered => vec![any(readings)],
    }
}

/// As long as one thing is not as before, it is not recovered.
fn any(readings: Vec<Measurement>) -> Measurement {
    let readings: Vec<Reading> = readings.into_iter().collect::<Result<_, _>>()?;
    let words: Vec<&str> = readings.iter().map(|reading| reading.measured.as_str()).collect();
    Ok(Reading {
        bites: readings.iter().any(|reading| reading.bites),
        measured: words.join("; "),
    })
}

struct Look<'a> {
    subject: &'a Subject,
    around: &'a Surroundings,
}

impl Look<'_> {
    fn object(&self, fault: &ObjectFault, question: Question) -> Vec<Measurement> {
        match (fault, question) {
            (ObjectFault::WrongSelector | ObjectFault::Unready | ObjectFault::ScaleToZero, Question::Bites) => {
                let mut readings = self.doors_closed();
                readings.push(self.endpoints());
                readings
            }
            // A pod that others reach directly is reached: what has no rule does not bite.
            (ObjectFault::PolicyDeny, _) => self.pods_closed(),
            (ObjectFault::WrongSelector, Question::Recovered) => {
                let mut readings = self.doors_closed();
                readings.push(self.endpoints());
                readings
            }
            (ObjectFault::WrongAddress { .. }, Question::Bites) => vec![self.rolled_out(), any(self.doors_closed())],
            (ObjectFault::BadImage, Question::Bites) => self.stuck(waits_for_its_image, "have no image"),
            (ObjectFault::MemoryLimit { .. }, Question::Bites) => self.stuck(is_out_of_memory, "ran out of memory"),
            (ObjectFault::DnsScaleToZero, _) => vec![self.silent_names()],
            (ObjectFault::WrongAddress { .. }, Question::Recovered) => vec![self.unsettled()],
            (
                ObjectFault::BadImage
                | ObjectFault::MemoryLimit { .. }
                | ObjectFault::Unready
                | ObjectFault::ScaleToZero,
                Question::Recovered,
            ) => {
                let mut readings = self.doors_closed();
                readings.push(self.unsettled());
                readings
            }
        }
    }

    /// Physics: a virtual address that leads to no pod, or to a port on which nobody listens, opens no connection.
    fn doors_closed(&self) -> Vec<Measurement> {
        let doors = &self.subject.before.scene.doors;
        let closed = |door: &Door| {
            let answer = self.connect(door.address)?;
            Ok(Reading {
                bites: !matches!(answer, Answer::Opened(_)),
                measured: format!("a connection to {} {answer}", door.service),
            })
        };
        match doors.is_empty() {
            true => vec![Err("there is no Service to connect to".to_owned())],
            false => doors.iter().map(closed).collect(),
        }
    }

    /// Physics: a policy that is enforced drops or refuses what comes to its pods.
    fn pods_closed(&self) -> Vec<Measurement> {
        let service = self.subject.fault.service.as_ref();
        let pods = self.around.pods.iter().filter(|pod| Some(&pod.service) == service);
        let closed = |pod: &PodHandle| {
            let answer = self.connect((pod.ip, pod.port).into())?;
            Ok(Reading {
                bites: !matches!(answer, Answer::Opened(_)),
                measured: format!("a connection to {} {answer}", pod.name),
            })
        };
        let readings: Vec<Measurement> = pods.map(closed).collect();
        match readings.is_empty() {
            true => vec![Err("the service has no pods to connect to".to_owned())],
            false => readings,
        }
    }

    /// Physics: a Service whose selector matches no ready pod has no endpoints.
    fn endpoints(&self) -> Measurement {
        let doors = &self.subject.before.scene.doors;
        let counted = self.ask(async |client: Client| {
            let mut counted = Vec::new();
            for door in doors {
                let all: Api<Endpoints> = Api::namespaced(client.clone(), &door.namespace);
                let found = all.get_opt(&door.service).await;
                let found = found.map_err(ApiError::of("read the Endpoints of", &door.service))?;
                let subsets = found.and_then(|found| found.subsets).unwrap_or_default();
                let ready = subsets
                    .iter()
                    .map(|subset| subset.addresses.as_ref().map_or(0, Vec::len));
                counted.push(ready.sum::<usize>());
            }
            Ok(counted)
        })?;
        let (count, empty) = (counted.len(), counted.iter().filter(|ready| **ready == 0).count());
        Ok(Reading {
            bites: empty > 0 && empty == count,
            measured: format!("{empty} of {count} Services have no endpoint"),
        })
    }

    /// Physics: what a configuration says reaches a program when it starts; all programs of the newest template, and no
    /// others, means that all have been told.
    fn rolled_out(&self) -> Measurement {
        let (rollout, _) = self.workload()?;
        Ok(Reading {
            bites: rollout.is_through(),
            measured: rollout.to_string(),
        })
    }

    fn unsettled(&self) -> Measurement {
        let (rollout, _) = self.workload()?;
        Ok(Reading {
            bites: !rollout.is_settled(),
            measured: rollout.to_string(),
        })
    }

    /// Physics: a pod whose container does not start, or is killed, is not ready; that the fault is why, the container's
    /// own state says. The first reading is had as soon as pods are missing.
    fn stuck(&self, is_stuck: fn(&ContainerStatus) -> bool, words: &str) -> Vec<Measurement> {
        let (rollout, pods) = match self.workload() {
            Ok(found) => found,
            Err(reason) => return vec![Err(reason)],
        };
        let stuck = pods.iter().filter(|pod| statuses(pod).any(is_stuck)).count();
        vec![
            Ok(Reading {
                bites: rollout.ready < rollout.wanted,
                measured: rollout.to_string(),
            }),
            Ok(Reading {
                bites: stuck > 0,
                measured: format!("{stuck} of {} pods {words}", pods.len()),
            }),
        ]
    }

    fn workload(&self) -> Result<(Rollout, Vec<Pod>), String> {
        let workload: &Workload = self
            .subject
            .before
            .scene
            .workload
            .as_ref()
            .ok_or("there is no workload")?;
        self.ask(async |client: Client| {
            let namespace = workload.object.namespace.as_deref().unwrap_or_default();
            let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
            Ok((workload.rollout(&client).await?, listed(&pods, &workload.labels).await?))
        })
    }

    /// Physics: a name server that runs answers, if only that it does not know; one that has no pods does not.
    fn silent_names(&self) -> Measurement {
        let server = self
            .subject
            .before
            .scene
            .doors
            .first()
            .ok_or("there is no name server")?
            .address;
        let netns = self.standpoint()?;
        let answer = crate::target::namespace::run_in_netns(&netns, || ask_a_name(server));
        let is_silent = answer.map_err(|error| error.to_string())?.is_err();
        let words = if is_silent { "has no answer" } else { "is answered" };
        Ok(Reading {
            bites: is_silent,
            measured: format!("{DNS_NAMESPACE}: a question about a name {words}"),
        })
    }

    fn node(&self, fault: NodeFault, question: Question) -> Vec<Measurement> {
        let found = self
            .subject
            .fault
            .node
            .as_ref()
            .ok_or("the fault names no node".to_owned());
        let found = found.and_then(|name| {
            let mut nodes = self.around.nodes.iter();
            let node = nodes.find(|node| node.name == *name);
            node.ok_or_else(|| format!("node {name} does not exist"))
        });
        let node = match found {
            Ok(node) => node,
            Err(reason) => return vec![Err(reason)],
        };
        match (fault, question) {
            (NodeFault::Pause, _) => vec![pulse(node)],
            (NodeFault::NetworkCut, _) => vec![self.cut_off(node)],
            (NodeFault::KubeletStop, _) => vec![self.not_ready(&node.name)],
            (NodeFault::Drain, Question::Bites) => vec![self.drained(&node.name)],
            (NodeFault::Drain, Question::Recovered) => vec![self.not_at_home(&node.name)],
        }
    }

    /// Physics: a node that is cut off answers no other one.
    fn cut_off(&self, node: &NodeHandle) -> Measurement {
        let other = self.around.nodes.iter().find(|other| other.name != node.name);
        let from = other.ok_or("there is no other node to measure from")?.netns.clone();
        let to = SocketAddr::new(node.ip.into(), KUBELET_PORT);
        let answer = network::connect(&Route { from, to }, SILENCE)?;
        Ok(Reading {
            bites: matches!(answer, Answer::Silence),
            measured: format!("a connection to the kubelet of {} {answer}", node.name),
        })
    }

    /// Physics: a node whose kubelet reports nothing is declared not ready, after the cluster's own patience.
    fn not_ready(&self, name: &NodeName) -> Measurement {
        let status = self.ask(async |client: Client| {
            let nodes: Api<Node> = Api::all(client);
            let node = nodes
                .get(name.as_str())
                .await
                .map_err(ApiError::of("read node", name))?;
            let conditions = node.status.and_then(|status| status.conditions).unwrap_or_default();
            let mut ready = conditions.into_iter().filter(|condition| condition.type_ == "Ready");
            Ok(ready.next().map_or("Unknown".to_owned(), |condition| condition.status))
        })?;
        Ok(Reading {
            bites: status != "True",
            measured: format!("{name}: Ready is {status}"),
        })
    }

    /// Physics: a drained node takes no pods, and has none of the application's left.
    fn drained(&self, name: &NodeName) -> Measurement {
        let (is_cordoned, left, _) = self.inhabitants(name)?;
        Ok(Reading {
            bites: is_cordoned && left == 0,
            measured: format!(
                "{name}: takes pods: {}, {left} of the application's are on it",
                !is_cordoned
            ),
        })
    }

    /// What was evicted has come back somewhere, and the node takes pods again.
    fn not_at_home(&self, name: &NodeName) -> Measurement {
        let (is_cordoned, _, waiting) = self.inhabitants(name)?;
        Ok(Reading {
            bites: is_cordoned || waiting > 0,
            measured: format!("{name}: takes pods: {}; {waiting} pods are not ready", !is_cordoned),
        })
    }

    /// Whether a node takes no pods, how many of ours it has, and how many of ours are not ready anywhere.
    fn inhabitants(&self, name: &NodeName) -> Result<(bool, usize, usize), String> {
        let namespace = self.around.kubernetes.as_ref().map_or("", |access| &access.namespace);
        self.ask(async |client: Client| {
            let nodes: Api<Node> = Api::all(client.clone());
            let node = nodes
                .get(name.as_str())
                .await
                .map_err(ApiError::of("read node", name))?;
            let is_cordoned = node.spec.and_then(|spec| spec.unschedulable).unwrap_or(false);
            let pods: Api<Pod> = Api::namespaced(client, namespace);
            let pods = pods.list(&ListParams::default()).await;
            let pods = pods.map_err(ApiError::of("list the pods of", namespace))?.items;
            let is_on_it = |pod: &&Pod| {
                pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some(name.as_str())
                    && pod.metadata.deletion_timestamp.is_none()
                    && pod.owner_references().iter().all(|owner| owner.kind != "DaemonSet")
            };
            let left = pods.iter().filter(is_on_it).count();
            Ok((is_cordoned, left, pods.iter().filter(|pod| !is_ready(pod)).count()))
        })
    }

    fn connect(&self, to: SocketAddr) -> Result<Answer, String> {
        let from = self.standpoint()?;
        network::connect(&Route { from, to }, SILENCE)
    }

    /// Where a caller stands: in a pod of another service that still lives, or else in a node, from which virtual
    /// addresses lead to the same places. A pod that was replaced has a namespace without a network.
    fn standpoint(&self) -> Result<NetnsFd, String> {
        let service = self.subject.fault.service.as_ref();
        let is_other = |pod: &&PodHandle| Some(&pod.service) != service;
        let lives = |pod: &&PodHandle| !process::tgids(&pod.cgroup.unified).is_empty();
        let caller = self
            .around
            .pods
            .iter()
            .filter(is_other)
            .find(lives)
            .map(|pod| &pod.netns);
        let node = || self.around.nodes.first().map(|node| &node.netns);
        let found = caller.or_else(node).ok_or("nobody is there to measure from")?;
        Ok(found.clone())
    }

    fn ask<T: Send>(&self, talk: impl AsyncFnOnce(Client) -> Result<T, ApiError> + Send) -> Result<T, String> {
        let access = self.around.kubernetes.as_ref().ok_or("this is no Kubernetes cluster")?;
        blocking(access, talk).map_err(|error| with_causes(&error))
    }
}

/// The port on which every kubelet answers, whatever else runs on its node.
const KUBELET_PORT: u16 = 10_250;

/// Physics: a frozen process executes nothing, so that a frozen node, kubelet and all, takes no CPU.
fn pulse(node: &NodeHandle) -> Measurement {
    let used = || cpu_used_us(node).ok_or_else(|| format!("{}: its CPU time cannot be read", node.name));
    let before = used()?;
    std::thread::sleep(PULSE);
    let beat = used()?.saturating_sub(before);
    Ok(Reading {
        bites: beat < PULSE_US,
        measured: format!("{}: {beat} µs of CPU in {PULSE:?}", node.name),
    })
}

/// CPU that all processes of a node have used: version 2 counts for every cgroup, version 1 where the controller is.
fn cpu_used_us(node: &NodeHandle) -> Option<u64> {
    let of_v2 = |text: String| {
        let mut lines = text.lines();
        lines.find_map(|line| line.strip_prefix("usage_usec ")?.trim().parse().ok())
    };
    let v2 = fs::read_to_string(node.cgroup.unified.join("cpu.stat"))
        .ok()
        .and_then(of_v2);
    v2.or_else(|| {
        let nanoseconds: u64 = fs::read_to_string(node.cgroup.cpu.join("cpuacct.usage"))
            .ok()?
            .trim()
            .parse()
            .ok()?;
        Some(nanoseconds / 1000)
    })
}

fn ask_a_name(server: SocketAddr) -> std::io::Result<()> {
    let mut question = Message::new();
    question
        .set_id(1)
        .set_message_type(MessageType::Query)
        .set_op_code(OpCode::Query);
    question.set_recursion_desired(true);
    question.add_query(Query::query(Name::root(), RecordType::NS));
    let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(DNS_PATIENCE))?;
    socket.connect(server)?;
    socket.send(&question.to_vec().map_err(std::io::Error::other)?)?;
    socket.recv(&mut [0; 1500]).map(drop)
}

fn statuses(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.as_ref();
    status
        .and_then(|status| status.container_statuses.as_ref())
        .into_iter()
        .flatten()
}

fn is_ready(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none() && statuses(pod).next().is_some() && statuses(pod).all(|one| one.ready)
}

fn waits_for_its_image(container: &ContainerStatus) -> bool {
    let waiting = container.state.as_ref().and_then(|state| state.waiting.as_ref());
    let reason = waiting.and_then(|waiting| waiting.reason.as_deref());
    reason.is_some_and(|reason| NO_IMAGE.contains(&reason))
}

/// Killed for it while it ran, or before it ran: what starts a container takes memory too.
fn is_out_of_memory(container: &ContainerStatus) -> bool {
    let ended = |state: &ContainerState| {
        let terminated = state.terminated.as_ref()?;
        let said = terminated.message.as_deref().unwrap_or_default();
        Some(terminated.reason.as_deref() == Some(OUT_OF_MEMORY) || said.contains("OOM"))
    };
    let states = [container.state.as_ref(), container.last_state.as_ref()];
    let has_ended_so = states.into_iter().flatten().filter_map(ended).any(|so| so);
    let waiting = container.state.as_ref().and_then(|state| state.waiting.as_ref());
    has_ended_so
        || waiting
            .and_then(|waiting| waiting.message.as_deref())
            .is_some_and(|said| said.contains("OOM"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn container(state: Value, last_state: Value) -> ContainerStatus {
        let status = json!({
            "name": "web", "image": "", "imageID": "", "ready": false, "restartCount": 1, "state": state, "lastState": last_state,
        });
        serde_json::from_value(status).expect("a status")
    }

    #[test]
    fn a_container_says_why_it_does_not_run() {
        let waiting = container(json!({"waiting": {"reason": "ImagePullBackOff"}}), json!({}));
        assert!(waits_for_its_image(&waiting) && !is_out_of_memory(&waiting));
        let crashing = container(json!({"waiting": {"reason": "CrashLoopBackOff"}}), json!({}));
        assert!(!waits_for_its_image(&crashing) && !is_out_of_memory(&crashing));
        let killed = json!({"terminated": {"reason": "OOMKilled", "exitCode": 137}});
        assert!(is_out_of_memory(&container(json!({"running": {}}), killed.clone())));
        assert!(is_out_of_memory(&container(killed, json!({}))));
        let at_start = json!({"terminated": {"reason": "StartError", "exitCode": 128, "message": "container init was OOM-killed"}});
        assert!(is_out_of_memory(&container(
            json!({"waiting": {"reason": "CrashLoopBackOff"}}),
            at_start
        )));
    }

    #[test]
    fn nothing_is_recovered_while_one_thing_is_not() {
        let reading = |bites| {
            Ok(Reading {
                bites,
                measured: String::new(),
            })
        };
        assert!(any(vec![reading(true), reading(false)]).expect("measured").bites);
        assert!(!any(vec![reading(false), reading(false)]).expect("measured").bites);
        assert!(any(vec![reading(false), Err("unknown".to_owned())]).is_err());
    }
}
