//! All names, addresses and ports exchanged: the same answers, renamed. The detector goes by what happens, not by what
//! things are called. (The rivals break ties by order, and are not held to this.)

mod sim;

use std::collections::BTreeMap;

use gauntlet_detector::diagnosis::{Candidate, Diagnosis, Entity};
use gauntlet_detector::pipeline::{Config, Pipeline};
use gauntlet_probes::entity::{InventoryLine, NodeName, Peer, PodName, ServiceName};
use gauntlet_probes::frame::Frame;
use sim::Sim;
use sim::faults::Fault;
use sim::spec::App;

/// Names of one kind, exchanged so that their order is turned around.
#[derive(Default)]
struct Renaming(BTreeMap<String, String>);

impl Renaming {
    fn of(names: impl Iterator<Item = String>, prefix: &str) -> Self {
        let names: Vec<String> = names.collect();
        let count = names.len();
        Self(
            names
                .into_iter()
                .enumerate()
                .map(|(index, name)| (name, format!("{prefix}{:03}", count - index)))
                .collect(),
        )
    }

    fn get(&self, name: &str) -> String {
        self.0.get(name).cloned().unwrap_or_else(|| name.to_owned())
    }
}

struct Renamer {
    pods: Renaming,
    nodes: Renaming,
    services: Renaming,
}

impl Renamer {
    fn of(inventory: &[InventoryLine]) -> Self {
        let pods = inventory.iter().filter_map(|line| {
            if let InventoryLine::Pod(pod) = line {
                Some(pod.name.to_string())
            } else {
                None
            }
        });
        let nodes = inventory.iter().filter_map(|line| {
            if let InventoryLine::Node(node) = line {
                Some(node.name.to_string())
            } else {
                None
            }
        });
        let services = inventory.iter().filter_map(|line| {
            if let InventoryLine::Service(service) = line {
                Some(service.name.clone())
            } else {
                None
            }
        });
        Self {
            pods: Renaming::of(pods, "p"),
            nodes: Renaming::of(nodes, "n"),
            services: Renaming::of(services, "z"),
        }
    }

    fn pod(&self, name: &PodName) -> PodName {
        PodName::new(self.pods.get(name.as_str()))
    }

    fn node(&self, name: &NodeName) -> NodeName {
        NodeName::new(self.nodes.get(name.as_str()))
    }

    fn service(&self, name: &ServiceName) -> ServiceName {
        ServiceName::new(self.services.get(name.as_str()))
    }

    fn peer(&self, peer: &Peer) -> Peer {
        match peer {
            Peer::Pod(name) => Peer::Pod(self.pod(name)),
            Peer::Node(name) => Peer::Node(self.node(name)),
            Peer::Service(name) => Peer::Service(self.services.get(name)),
            Peer::External(_) => Peer::External([192, 0, 2, 7].into()),
        }
    }

    fn line(&self, line: &InventoryLine) -> InventoryLine {
        let mut line = line.clone();
        match &mut line {
            InventoryLine::Node(node) => node.name = self.node(&node.name),
            InventoryLine::Pod(pod) => {
                pod.name = self.pod(&pod.name);
                pod.node = self.node(&pod.node);
                pod.service = pod.service.as_ref().map(|service| self.service(service));
            }
            InventoryLine::Service(service) => {
                service.name = self.services.get(&service.name);
                service.endpoints = service.endpoints.iter().map(|pod| self.pod(pod)).collect();
                service.ports = service.ports.iter().map(|&port| port_of(port)).collect();
            }
            InventoryLine::PodGone { name } => *name = self.pod(name),
            InventoryLine::ServiceGone { name } => *name = self.services.get(name),
            InventoryLine::Ready { .. } => (),
        }
        line
    }

    fn frame(&self, frame: &Frame) -> Frame {
        let mut frame = frame.clone();
        for edge in &mut frame.edges {
            (edge.caller, edge.callee) = (self.peer(&edge.caller), self.peer(&edge.callee));
            (edge.via, edge.port) = (edge.via.as_ref().map(|via| self.services.get(via)), port_of(edge.port));
        }
        for drop in &mut frame.drops {
            for peer in [&mut drop.at, &mut drop.source, &mut drop.target] {
                *peer = peer.as_ref().map(|peer| self.peer(peer));
            }
            drop.port = port_of(drop.port);
        }
        for reset in &mut frame.resets {
            (reset.at, reset.port) = (self.peer(&reset.at), port_of(reset.port));
            reset.peer = reset.peer.as_ref().map(|peer| self.peer(peer));
        }
        frame
            .pods
            .iter_mut()
            .for_each(|sample| sample.pod = self.pod(&sample.pod));
        frame
            .nodes
            .iter_mut()
            .for_each(|sample| sample.node = self.node(&sample.node));
        frame
            .events
            .iter_mut()
            .for_each(|event| event.pod = self.pod(&event.pod));
        frame.edges.reverse();
        frame.pods.reverse();
        frame
    }

    /// What must be the same: everything but the words.
    fn diagnosis(&self, diagnosis: &Diagnosis) -> Diagnosis {
        let mut diagnosis = diagnosis.clone();
        diagnosis
            .candidates
            .iter_mut()
            .for_each(|candidate| self.candidate(candidate));
        diagnosis
    }

    fn candidate(&self, candidate: &mut Candidate) {
        match &mut candidate.entity {
            Entity::Service { name } => *name = self.service(name),
            Entity::Pod { name } => *name = self.pod(name),
            Entity::Node { name } => *name = self.node(name),
            Entity::Edge { caller, callee } => (*caller, *callee) = (self.service(caller), self.service(callee)),
        }
        candidate.pods = candidate.pods.iter().map(|pod| self.pod(pod)).collect();
        candidate.pods.sort();
        candidate.nodes = candidate.nodes.iter().map(|node| self.node(node)).collect();
        candidate.nodes.sort();
        candidate.path = candidate.path.iter().map(|service| self.service(service)).collect();
        candidate.evidence.clear();
    }
}

fn port_of(port: u16) -> u16 {
    if port == 0 { 0 } else { 50_000 - port }
}

fn check(app: &str, fault: &str) {
    let mut sim = Sim::new(App::parse(app), 120.0, 11);
    let inventory = sim.inventory();
    let renamer = Renamer::of(&inventory);
    let (mut plain, mut renamed) = (Pipeline::new(Config::default()), Pipeline::new(Config::default()));
    for line in &inventory {
        plain.apply(line);
        renamed.apply(&renamer.line(line));
    }
    let mut statements = 0;
    for tick in 0..24 * sim::TICKS {
        if tick == 10 * sim::TICKS {
            let fault = Fault::parse(&sim, fault);
            sim.begin(fault);
        }
        for line in std::mem::take(&mut sim.news) {
            plain.apply(&line);
            renamed.apply(&renamer.line(&line));
        }
        let frame = sim.next_frame();
        let said = plain.step(&frame);
        let mut said_renamed = renamed.step(&renamer.frame(&frame));
        said_renamed
            .iter_mut()
            .flat_map(|diagnosis| &mut diagnosis.candidates)
            .for_each(|candidate| candidate.evidence.clear());
        let expected: Option<Diagnosis> = said.as_ref().map(|diagnosis| renamer.diagnosis(diagnosis));
        assert_eq!(said_renamed, expected, "at tick {tick} of {fault} on {app}");
        statements += usize::from(said.is_some());
    }
    assert!(statements > 10, "{fault} on {app} was not noticed");
}

#[test]
fn a_filter_by_any_other_name() {
    check("web*2 -> cache:redis*3, db:postgres", "filter cache-0+cache-1");
}

#[test]
fn a_wrong_port_by_any_other_name() {
    check("web*2 -> cache:redis*3, db:postgres", "port cache");
}

#[test]
fn loss_by_any_other_name() {
    check("web*2 -> cache:redis*3, db:postgres", "loss cache 0.2");
}

#[test]
fn a_delay_by_any_other_name() {
    check("a -> b -> c -> d -> e -> store:postgres", "delay c 30");
}

#[test]
fn a_slow_service_by_any_other_name() {
    check("a -> b -> c -> d -> e -> store:postgres", "slow d 30");
}

#[test]
fn a_surge_by_any_other_name() {
    check(
        "front*2 -> users, stock*2, price:redis*2, offers; offers -> vault:postgres",
        "surge 3",
    );
}

#[test]
fn an_address_that_leads_nowhere_by_any_other_name() {
    check("web*2 -> cache:redis*3, db:postgres", "unselect cache");
    check("web*2 -> cache:redis*3, db:postgres", "scale db");
}

#[test]
fn a_node_that_stands_still_by_any_other_name() {
    check("web*2 -> cache:redis*3, db:postgres", "freeze node-2");
}

#[test]
fn a_node_that_is_cut_off_by_any_other_name() {
    check("web*2 -> cache:redis*3, db:postgres", "cut node-2");
}

#[test]
fn a_crash_by_any_other_name() {
    check(
        "front*2 -> users, stock*2, price:redis*2, offers; offers -> vault:postgres",
        "kill users 3",
    );
}
