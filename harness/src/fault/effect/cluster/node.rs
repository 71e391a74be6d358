//! Effects of what was done to a node: asked of the cluster, of the other nodes, and of the kernel that all of them share.
//!
//! Reads only.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use gauntlet_probes::entity::NodeName;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt as _};

use super::super::super::kind::NodeFault;
use super::super::network::{self, Answer, SILENCE};
use super::super::vantage::Route;
use super::super::{Measurement, Question, Reading};
use super::Look;
use super::containers::is_ready;
use crate::target::NodeHandle;
use crate::target::kind::api::ApiError;

/// The port on which every kubelet answers, whatever else runs on its node.
const KUBELET_PORT: u16 = 10_250;

/// Time between two looks at the clock of a node's processes.
const PULSE: Duration = Duration::from_millis(150);
/// Less CPU than this in that time is none: a node that lives has a kubelet that looks around all the time.
const PULSE_US: u64 = 20;

impl Look<'_> {
    pub(super) fn node(&self, fault: NodeFault, question: Question) -> Vec<Measurement> {
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
}

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
