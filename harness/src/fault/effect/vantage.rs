//! Where to stand when a pod's network is measured: where the packets that a fault concerns come from or go to.
//!
//! Prefers places that talk to the pod anyway: its callers and callees, then its node, as readiness checks do.

use std::net::{Ipv4Addr, SocketAddr};

use crate::target::{NetnsFd, PodHandle};

use super::super::kind::PacketScope;
use super::super::surroundings::Surroundings;

/// A place with an address.
#[derive(Clone, Debug)]
pub(super) struct Vantage {
    pub(super) netns: NetnsFd,
    pub(super) ip: Ipv4Addr,
}

/// A connection to be tried.
#[derive(Clone, Debug)]
pub(super) struct Route {
    pub(super) from: NetnsFd,
    pub(super) to: SocketAddr,
}

/// The other end of packets that the scope concerns.
pub(super) fn other_end(
    pod: &PodHandle,
    peer_of: Option<&PacketScope>,
    around: &Surroundings,
) -> Result<Vantage, String> {
    let of_pod = |other: &PodHandle| Vantage {
        netns: other.netns.clone(),
        ip: other.ip,
    };
    if let Some(peer) = peer_of.and_then(|scope| scope.peer.as_ref()) {
        let other = around.pods_of(peer).find(|other| other.name != pod.name);
        return other
            .map(of_pod)
            .ok_or_else(|| format!("service {peer} has no pod to measure from"));
    }
    if let Some(node) = around.nodes.iter().find(|node| node.name == pod.node) {
        return Ok(Vantage {
            netns: node.netns.clone(),
            ip: node.ip,
        });
    }
    let other = around.pods.iter().find(|other| other.name != pod.name);
    other
        .map(of_pod)
        .ok_or_else(|| format!("nobody is there to measure pod {} from", pod.name))
}

/// A connection that the scope concerns: to the pod, or from it where the scope's port is that of a callee.
pub(super) fn route(pod: &PodHandle, scope: &PacketScope, around: &Surroundings) -> Result<Route, String> {
    match scope.port {
        Some(port) if port != pod.port => {
            let is_callee = |other: &&PodHandle| {
                other.port == port
                    && other.name != pod.name
                    && scope.peer.as_ref().is_none_or(|peer| other.service == *peer)
            };
            let callee = around.pods.iter().find(is_callee);
            let callee = callee.ok_or_else(|| format!("no pod serves on port {port}"))?;
            Ok(Route {
                from: pod.netns.clone(),
                to: (callee.ip, port).into(),
            })
        }
        Some(_) | None => {
            let from = other_end(pod, Some(scope), around)?.netns;
            Ok(Route {
                from,
                to: (pod.ip, pod.port).into(),
            })
        }
    }
}
