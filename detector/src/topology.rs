//! Who calls whom, discovered from traffic and never given: services are the nodes, calls the edges.

use std::collections::{BTreeSet, VecDeque};

use petgraph::Direction;
use petgraph::graphmap::DiGraphMap;

/// Index of a service in its scene.
pub type ServiceIx = usize;

/// The call graph of services.
#[derive(Clone, Debug, Default)]
pub struct Topology {
    calls: DiGraphMap<ServiceIx, f64>,
    entrances: BTreeSet<ServiceIx>,
}

impl Topology {
    /// Notes that `caller` calls `callee`, so often per second.
    pub fn add_call(&mut self, caller: ServiceIx, callee: ServiceIx, rate: f64) {
        if caller != callee {
            *match self.calls.edge_weight_mut(caller, callee) {
                Some(weight) => weight,
                None => {
                    self.calls.add_edge(caller, callee, 0.0);
                    &mut self.calls[(caller, callee)]
                }
            } += rate;
        }
    }

    /// Notes that requests enter the cluster at `service`.
    pub fn add_entrance(&mut self, service: ServiceIx) {
        self.entrances.insert(service);
    }

    /// Services at which requests enter.
    #[must_use]
    pub fn entrances(&self) -> &BTreeSet<ServiceIx> {
        &self.entrances
    }

    /// Those whom `service` calls.
    pub fn callees(&self, service: ServiceIx) -> impl Iterator<Item = ServiceIx> {
        self.calls.neighbors_directed(service, Direction::Outgoing)
    }

    /// All services that call `service`, directly or through others, without itself.
    #[must_use]
    pub fn callers_of_all_depths(&self, service: ServiceIx) -> BTreeSet<ServiceIx> {
        let mut seen = BTreeSet::new();
        let mut queue = VecDeque::from([service]);
        while let Some(next) = queue.pop_front() {
            for caller in self.calls.neighbors_directed(next, Direction::Incoming) {
                if caller != service && seen.insert(caller) {
                    queue.push_back(caller);
                }
            }
        }
        seen
    }

    /// The shortest way from `service` to an entrance, against the calls: the way its trouble travels to the users.
    #[must_use]
    pub fn path_to_entrance(&self, service: ServiceIx) -> Vec<ServiceIx> {
        let mut queue = VecDeque::from([vec![service]]);
        let mut seen = BTreeSet::from([service]);
        let mut longest = vec![service];
        while let Some(path) = queue.pop_front() {
            let last = *path.last().unwrap_or(&service);
            if self.entrances.contains(&last) {
                return path;
            }
            if path.len() > longest.len() {
                longest.clone_from(&path);
            }
            for caller in self.calls.neighbors_directed(last, Direction::Incoming) {
                if seen.insert(caller) {
                    let mut next = path.clone();
                    next.push(caller);
                    queue.push_back(next);
                }
            }
        }
        longest
    }
}

#[cfg(test)]
mod tests {
    use super::Topology;

    #[test]
    fn trouble_travels_from_callee_to_caller() {
        let mut topology = Topology::default();
        topology.add_entrance(0);
        topology.add_call(0, 1, 10.0);
        topology.add_call(0, 2, 1.0);
        topology.add_call(1, 2, 1.0);
        assert_eq!(topology.path_to_entrance(2), vec![2, 0]);
        assert_eq!(topology.path_to_entrance(1), vec![1, 0]);
        assert_eq!(
            topology.callers_of_all_depths(2).into_iter().collect::<Vec<_>>(),
            vec![0, 1]
        );
        assert_eq!(topology.callees(0).count(), 2);
    }
}
