//! Effects of what was made wrong in a Kubernetes cluster: asked of its API, and felt by connecting as callers do.
//!
//! What the API says is never enough where a caller can be asked too: an object that was changed and bites nobody is no
//! fault. Says of each kind which physics it goes by.

use std::net::SocketAddr;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use k8s_openapi::api::core::v1::{ContainerStatus, Endpoints, Pod};
use kube::Client;
use kube::api::Api;

use crate::target::kind::api::ApiError;
use crate::target::kind::names::SYSTEM_NAMESPACE;
use crate::target::{NetnsFd, PodHandle};

use super::super::kind::{FaultKind, ObjectFault};
use super::super::kubernetes::api::blocking;
use super::super::kubernetes::object::listed;
use super::super::kubernetes::recipe::Door;
use super::super::kubernetes::workload::{Rollout, Workload};
use super::super::process;
use super::super::recipe::bare;
use super::super::step::Potency;
use super::super::surroundings::Surroundings;
use super::network::{self, Answer, SILENCE};
use super::vantage::Route;
use super::{Measurement, Question, Reading, Subject, with_causes};

mod containers;
mod node;

use self::containers::{is_out_of_memory, statuses, waits_for_its_image};

/// How long a name server may take: one on the same machine answers in a millisecond.
const DNS_PATIENCE: Duration = Duration::from_millis(400);

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
            (ObjectFault::WrongSelector | ObjectFault::Unready, Question::Bites) => {
                let mut readings = self.doors_closed();
                readings.push(self.endpoints());
                readings
            }
            (ObjectFault::ScaleToZero, Question::Bites) => {
                let mut readings = self.doors_closed();
                readings.push(self.nobody_ready());
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

    /// Physics: pods that were told to end serve nobody, however long a kubelet takes to remove them. Until then they may
    /// be endpoints of a Service that also leads to pods that are not ready.
    fn nobody_ready(&self) -> Measurement {
        let (rollout, _) = self.workload()?;
        Ok(Reading {
            bites: rollout.is_seen && rollout.ready == 0,
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
            measured: format!("{SYSTEM_NAMESPACE}: a question about a name {words}"),
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

#[cfg(test)]
mod tests {
    use super::*;

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
