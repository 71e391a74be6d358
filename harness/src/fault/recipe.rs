//! Turns a planned fault into steps: pure data from here on. A placebo goes the same way, with nothing for it to bite.
//!
//! Reads the surroundings (which device, which quota stands), changes nothing.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::target::PodHandle;

use super::cpu::Quota;
use super::filter;
use super::journal::InjectionId;
use super::kind::{FaultDirection, FaultKind, PacketScope, PlannedFault};
use super::link::{self, NodeEnd, POD_DEVICE};
use super::packets::{NOBODY, PEERS_MAX, PacketMatch, Returns, Way, bytecode};
use super::queue::Wait;
use super::shape::{self, Demand};
use super::step::{Potency, Step};
use super::surroundings::Surroundings;

mod error;

pub(crate) use self::error::RecipeError;

/// A placebo's limits: more than any virtual link carries.
const PLACEBO_BITS_PER_SECOND: u64 = 40_000_000_000;

/// How a delay is made on this kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DelayBy {
    /// The kernel's own network emulator.
    Netem,
    /// A netfilter queue with timed verdicts.
    Queue,
}

impl DelayBy {
    /// Netem where the kernel has it.
    #[must_use]
    pub fn of_this_kernel() -> Self {
        if shape::has_netem() { Self::Netem } else { Self::Queue }
    }
}

/// The steps of one injection.
pub(crate) struct Recipe<'a> {
    pub(crate) id: &'a InjectionId,
    pub(crate) surroundings: &'a Surroundings,
    /// Directory for the demands on devices.
    pub(crate) state: &'a Path,
    pub(crate) delay_by: DelayBy,
}

impl Recipe<'_> {
    /// What has to be done for `fault`, in order.
    pub(crate) fn steps(&self, fault: &PlannedFault) -> Result<Vec<Step>, RecipeError> {
        let (kind, potency) = bare(&fault.kind, Potency::Full);
        match kind {
            FaultKind::None | FaultKind::Placebo { .. } => return Ok(Vec::new()),
            FaultKind::LoadSurge { .. } => return Ok(vec![Step::LoadFactor]),
            FaultKind::ServiceWrongPort { .. } => {
                let service = fault.service.clone().ok_or(RecipeError::NoService)?;
                return Ok(vec![Step::TargetPort { service }]);
            }
            FaultKind::NetworkFilter { .. }
            | FaultKind::NetworkLoss { .. }
            | FaultKind::NetworkDelay { .. }
            | FaultKind::NetworkBandwidth { .. }
            | FaultKind::ProcessKill { .. }
            | FaultKind::ProcessPause
            | FaultKind::CpuLimit { .. }
            | FaultKind::CacheFlush => {}
            FaultKind::Object(_) | FaultKind::Node(_) => return Err(RecipeError::NeedsKubernetes),
        }
        let mut steps = Vec::new();
        for name in &fault.pods {
            let pod = self
                .surroundings
                .pod(name)
                .ok_or_else(|| RecipeError::NoPod(name.clone()))?;
            steps.extend(self.of_pod(pod, kind, potency)?);
        }
        Ok(steps)
    }

    fn of_pod(&self, pod: &PodHandle, kind: &FaultKind, potency: Potency) -> Result<Vec<Step>, RecipeError> {
        let cgroup = pod.cgroup.unified.clone();
        Ok(match kind {
            FaultKind::NetworkFilter { action, scope } => {
                let matches = self.matches(scope, potency)?;
                let table = self.id.0.clone();
                let rules = filter::ruleset(&table, *action, &matches);
                vec![Step::NftTable {
                    netns: pod.netns_inode,
                    table,
                    rules,
                }]
            }
            FaultKind::NetworkLoss { ratio, scope } => self.loss(pod, *ratio, scope, potency)?,
            FaultKind::NetworkDelay { delay, jitter, scope } => {
                let wait = match potency {
                    Potency::Full => Wait {
                        delay: *delay,
                        jitter: *jitter,
                        seed: self.number(),
                    },
                    Potency::Zero => Wait {
                        delay: Default::default(),
                        jitter: Default::default(),
                        seed: 0,
                    },
                };
                self.delay(pod, wait, scope)?
            }
            FaultKind::NetworkBandwidth {
                bits_per_second,
                direction,
            } => {
                let bits_per_second = match potency {
                    Potency::Full => *bits_per_second,
                    Potency::Zero => PLACEBO_BITS_PER_SECOND,
                };
                self.bandwidth(pod, bits_per_second, *direction)?
            }
            FaultKind::ProcessKill { every } => vec![Step::Kill {
                cgroup,
                every: *every,
                potency,
            }],
            FaultKind::ProcessPause => vec![Step::Pause { cgroup, potency }],
            FaultKind::CpuLimit { millicores } => cpu_limit(&pod.cgroup.cpu, *millicores, potency)?,
            FaultKind::CacheFlush => {
                let command = match potency {
                    Potency::Full => "FLUSHALL",
                    Potency::Zero => "PING",
                };
                let server = (pod.ip, pod.port).into();
                vec![Step::Redis {
                    netns: pod.netns_inode,
                    server,
                    command: command.to_owned(),
                    pod: pod.name.clone(),
                }]
            }
            FaultKind::None
            | FaultKind::Placebo { .. }
            | FaultKind::LoadSurge { .. }
            | FaultKind::ServiceWrongPort { .. }
            | FaultKind::Object(_)
            | FaultKind::Node(_) => unreachable!("has no step of a pod"),
        })
    }

    fn loss(
        &self,
        pod: &PodHandle,
        ratio: f64,
        scope: &PacketScope,
        potency: Potency,
    ) -> Result<Vec<Step>, RecipeError> {
        if !(0.0..=1.0).contains(&ratio) {
            let value = ratio.to_string();
            return Err(RecipeError::OutOfRange {
                what: "the share of lost packets",
                value,
                range: "0 to 1",
            });
        }
        let ratio = match potency {
            Potency::Full => ratio,
            Potency::Zero => 0.0,
        };
        let preference = 1 + (self.number() % 0xfff0) as u16;
        let mut steps = Vec::new();
        for packets in self.matches(scope, Potency::Full)? {
            let bytecode = bytecode(&packets, ratio, Returns::DROP);
            let (netns, device) = match packets.way {
                Way::In => (pod.netns_inode, POD_DEVICE.to_owned()),
                Way::Out => {
                    let end = self.node_end(pod)?;
                    (end.netns_inode, end.device)
                }
            };
            steps.push(Step::TcLoss {
                netns,
                device,
                preference,
                bytecode,
            });
        }
        Ok(steps)
    }

    fn delay(&self, pod: &PodHandle, wait: Wait, scope: &PacketScope) -> Result<Vec<Step>, RecipeError> {
        if wait.jitter > wait.delay {
            let value = format!("{:?}", wait.jitter);
            return Err(RecipeError::OutOfRange {
                what: "the jitter",
                value,
                range: "0 to the delay",
            });
        }
        let mut steps = Vec::new();
        for packets in self.matches(scope, Potency::Full)? {
            let way = packets.way;
            steps.push(match self.delay_by {
                DelayBy::Netem => {
                    let demand = Demand::Wait {
                        delay: wait.delay,
                        jitter: wait.jitter,
                        packets,
                    };
                    self.demand(pod, way, demand)?
                }
                DelayBy::Queue => Step::Queue {
                    netns: pod.netns_inode,
                    chain: format!("{}{}", self.id.0, way.letter()),
                    number: (self.number() as u16 & !1) | u16::from(way == Way::Out),
                    packets,
                    wait,
                },
            });
        }
        Ok(steps)
    }

    fn bandwidth(
        &self,
        pod: &PodHandle,
        bits_per_second: u64,
        direction: FaultDirection,
    ) -> Result<Vec<Step>, RecipeError> {
        if bits_per_second < 8_000 {
            let value = bits_per_second.to_string();
            return Err(RecipeError::OutOfRange {
                what: "the bandwidth (bit/s)",
                value,
                range: "8000 and more",
            });
        }
        direction
            .ways()
            .iter()
            .map(|way| self.demand(pod, *way, Demand::Rate { bits_per_second }))
            .collect()
    }

    /// Egress of the pod is shaped on its own interface, ingress on the node's end of it.
    fn demand(&self, pod: &PodHandle, way: Way, demand: Demand) -> Result<Step, RecipeError> {
        let (netns, device) = match way {
            Way::Out => (pod.netns_inode, POD_DEVICE.to_owned()),
            Way::In => {
                let end = self.node_end(pod)?;
                (end.netns_inode, end.device)
            }
        };
        let state = self.state.join(format!("demands-{netns}-{device}.json"));
        Ok(Step::Shape {
            netns,
            device,
            id: self.id.0.clone(),
            demand,
            state,
        })
    }

    fn node_end(&self, pod: &PodHandle) -> Result<NodeEnd, RecipeError> {
        let missing = || RecipeError::NoNodeEnd {
            pod: pod.name.clone(),
            node: pod.node.to_string(),
        };
        link::node_end(pod, &self.surroundings.nodes)?.ok_or_else(missing)
    }

    fn matches(&self, scope: &PacketScope, potency: Potency) -> Result<Vec<PacketMatch>, RecipeError> {
        let peers = match (&scope.peer, potency) {
            (_, Potency::Zero) => vec![NOBODY],
            (None, Potency::Full) => Vec::new(),
            (Some(service), Potency::Full) => {
                let addresses = self.surroundings.addresses_of(service);
                match addresses.len() {
                    0 => return Err(RecipeError::NoAddress(service.clone())),
                    count if count > PEERS_MAX => {
                        return Err(RecipeError::TooManyAddresses {
                            service: service.clone(),
                            count,
                        });
                    }
                    _ => addresses,
                }
            }
        };
        let ways = scope.direction.ways().iter();
        Ok(ways
            .map(|way| PacketMatch {
                way: *way,
                port: scope.port,
                peers: peers.clone(),
            })
            .collect())
    }

    /// A number of this injection, for names that must be numbers.
    fn number(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.id.0.hash(&mut hasher);
        hasher.finish()
    }
}

impl Way {
    const fn letter(self) -> char {
        match self {
            Self::In => 'i',
            Self::Out => 'o',
        }
    }
}

/// Undone in reverse: the pod has its old quota again before its containers have theirs.
fn cpu_limit(directory: &Path, millicores: u32, potency: Potency) -> Result<Vec<Step>, RecipeError> {
    let unreadable = |source| RecipeError::Quota {
        directory: directory.to_owned(),
        source,
    };
    let restore = Quota::read(directory).map_err(unreadable)?;
    let (mut steps, set) = match potency {
        Potency::Full => {
            let below = Quota::in_the_way(directory).map_err(unreadable)?.into_iter();
            let lift = |(cgroup, restore, set)| Step::CpuQuota { cgroup, set, restore };
            (below.map(lift).collect(), Quota::of(millicores, &restore))
        }
        // Written again as it stands: a limit far away is refused below a limited node (version 1).
        Potency::Zero => (Vec::new(), restore.clone()),
    };
    steps.push(Step::CpuQuota {
        cgroup: directory.to_owned(),
        set,
        restore,
    });
    Ok(steps)
}

/// The fault that a placebo imitates, and how potent it is.
pub(crate) fn bare(kind: &FaultKind, potency: Potency) -> (&FaultKind, Potency) {
    match kind {
        FaultKind::Placebo { of } => bare(of, Potency::Zero),
        real => (real, potency),
    }
}
