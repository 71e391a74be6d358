//! Eyes: loads the kernel programs, reads their maps each tick, attributes what they saw to pods, and yields [`frame::Frame`]s.
//!
//! Does not know what is normal, what a fault is, or who will look at the frames.

// In the order of the data; blank lines keep it so.
pub mod entity;
pub mod frame;

pub mod capability;

mod kernel_types;
mod symbols;

mod run_times;

mod load;
mod read;

mod identity;

mod namespace;

mod connections;
mod queues;
mod requests;
mod translation;
mod unread;

mod name_lookups;
mod records;

mod processes;
mod usage;

mod run_queue;

pub mod recording;

use std::collections::{HashMap, HashSet};
use std::os::unix::fs::MetadataExt as _;

use gauntlet_abi::record::{LOST_CONNECTIONS, LOST_EVENTS, LOST_RECORDS};

use crate::capability::{Capability, ProgramCost};
use crate::connections::{Connections, Edges, Sources};
use crate::entity::InventoryLine;
use crate::frame::{Frame, LossSample, MonotonicNanos, NodeSample, PodSample, Protocol};
use crate::identity::Identity;
pub use crate::kernel_types::KernelTypesError;
use crate::load::Loaded;
pub use crate::load::{AttachError, Options};
use crate::name_lookups::NameLookups;
use crate::processes::ProcessNames;
use crate::queues::SocketDiagnostics;
pub use crate::read::ReadError;
use crate::read::{Snapshot, Tables};
use crate::records::{Names, RecordSamples, Records};
use crate::symbols::Symbols;
use crate::translation::{Conntrack, TickTranslations};
use crate::usage::{Hierarchies, Usage};

/// Every so many ticks, containers of pods that share a network namespace are looked for.
const LOOK_TICKS: u64 = 5;

/// Attached probes; detached when dropped.
pub struct Probes {
    loaded: Loaded,
    tables: Tables,
    snapshot: Snapshot,
    symbols: Symbols,
    identity: Identity,
    connections: Connections,
    conntrack: Conntrack,
    queues: SocketDiagnostics,
    records: Records,
    lookups: NameLookups,
    hierarchies: Hierarchies,
    usage: Usage,
    processes: ProcessNames,
    seq: u64,
    last_at_ns: MonotonicNanos,
    last_lost: LossSample,
}

impl Probes {
    /// Loads and attaches the kernel programs, degrading hook by hook.
    ///
    /// # Errors
    /// If an essential ability is missing; the error says which, and why.
    pub fn attach(options: &Options) -> Result<Self, AttachError> {
        let mut loaded = Loaded::attach(options, monotonic_ns())?;
        loaded.capabilities.push(queues::capability());
        let tables = Tables::take(&mut loaded)?;
        let hierarchies = Hierarchies::of_this_machine();
        let own_netns = std::fs::metadata("/proc/self/ns/net")
            .ok()
            .and_then(|netns| u32::try_from(netns.ino()).ok());
        let mut probes = Self {
            loaded,
            tables,
            snapshot: Snapshot::default(),
            symbols: Symbols::of_running_kernel(),
            identity: Identity::new(own_netns),
            connections: Connections::default(),
            conntrack: Conntrack::default(),
            queues: SocketDiagnostics::default(),
            records: Records::default(),
            lookups: NameLookups::default(),
            usage: Usage::new(hierarchies.clone()),
            hierarchies,
            processes: ProcessNames::default(),
            seq: 0,
            last_at_ns: monotonic_ns(),
            last_lost: LossSample::default(),
        };
        // Nobody's sockets are wanted before the inventory names somebody.
        probes.tables.want_netns(Some(Vec::new()));
        return_free_memory();
        Ok(probes)
    }

    /// Each hook and other source, and what became of it.
    #[must_use]
    pub fn capabilities(&self) -> &[Capability] {
        &self.loaded.capabilities
    }

    /// Takes in one line of the inventory.
    pub fn apply(&mut self, line: &InventoryLine) {
        self.identity.apply(line);
        self.tables.want_netns(self.identity.wanted_netns());
        self.processes.index(&self.identity, &self.hierarchies);
        self.tables.want_cgroups(self.processes.wanted());
        let identity = &self.identity;
        self.usage.retain(|path| {
            let pods = identity.pods().map(|pod| &pod.cgroup);
            pods.chain(identity.nodes().map(|node| &node.cgroup))
                .any(|cgroup| cgroup.as_deref() == Some(path))
        });
    }

    /// Reads everything, now.
    ///
    /// # Errors
    /// If a table of the kernel cannot be read.
    pub fn tick(&mut self) -> Result<Frame, ReadError> {
        self.tables.read(&mut self.snapshot)?;
        let at_ns = monotonic_ns();
        if self.seq.is_multiple_of(LOOK_TICKS) {
            self.look_for_containers();
        }
        self.loaded.sample_run_times(at_ns);
        let mut frame = Frame {
            seq: self.seq,
            at_ns,
            span_ns: at_ns - self.last_at_ns,
            ..Frame::default()
        };
        self.seq += 1;
        self.last_at_ns = at_ns;

        let mut edges = Edges::default();
        let finished = self.tick_connections(at_ns, &mut edges);
        let RecordSamples { drops, resets, idle } = self.tick_records(&mut edges);
        let (dns, overdue) = self.lookups.tick(
            at_ns,
            &self.snapshot.dns_pairs,
            &self.snapshot.dns_queries,
            &self.identity,
        );
        self.tables.delete_conns(&finished);
        self.tables.delete_records(&idle);
        self.tables.delete_queries(&overdue);

        let untimed = edges.untimed;
        frame.edges = edges.into_samples();
        (frame.drops, frame.resets, frame.dns) = (drops, resets, dns);
        frame.events = self.processes.events(&self.snapshot.events);
        self.tick_usage(&mut frame);
        frame.loss = self.tick_loss(&frame, untimed);
        Ok(frame)
    }

    /// Containers come and go within a pod; only where pods share a network namespace does that matter.
    fn look_for_containers(&mut self) {
        let mut cgroups = HashMap::new();
        for pod in self.identity.sharing_pods() {
            let ids = pod.cgroup.as_deref().map(|cgroup| self.hierarchies.cgroup_ids(cgroup));
            cgroups.extend(ids.into_iter().flatten().map(|id| (id, pod.name.clone())));
        }
        self.identity.learn_cgroups(cgroups);
    }

    /// What each kernel program has cost since it was attached, estimated from samples of a tenth of the time; none in
    /// the first second.
    #[must_use]
    pub fn program_costs(&self) -> Vec<ProgramCost> {
        self.loaded.costs(monotonic_ns())
    }

    fn tick_connections(&mut self, at_ns: MonotonicNanos, edges: &mut Edges) -> Vec<u64> {
        for (_, conn) in &self.snapshot.conns {
            self.lookups.learn(conn.netns_cookie, conn.netns);
        }
        let mut translations = TickTranslations {
            identity: &self.identity,
            records: &self.snapshot.records,
            conntrack: &mut self.conntrack,
            dropped: None,
        };
        let table = &self.snapshot.conns;
        let used: HashSet<u32> = table.iter().map(|(_, conn)| conn.netns).collect();
        self.queues.retain(|netns| used.contains(&netns));
        let sources = Sources {
            identity: &self.identity,
            translations: &mut translations,
            queues: &mut self.queues,
        };
        self.connections.tick(at_ns, table, sources, edges)
    }

    fn tick_records(&mut self, edges: &mut Edges) -> RecordSamples {
        let mut names = Names {
            drop_reasons: &self.loaded.types.drop_reasons,
            reset_reasons: &self.loaded.types.reset_reasons,
            symbols: &mut self.symbols,
        };
        self.records
            .tick(&self.snapshot.records, &self.identity, &mut names, edges)
    }

    fn tick_usage(&mut self, frame: &mut Frame) {
        for pod in self.identity.pods() {
            if let Some(cgroup) = &pod.cgroup {
                frame.pods.push(PodSample {
                    pod: pod.name.clone(),
                    usage: self.usage.sample(cgroup),
                });
            }
        }
        for node in self.identity.nodes() {
            if let Some(cgroup) = &node.cgroup {
                frame.nodes.push(NodeSample {
                    node: node.name.clone(),
                    usage: self.usage.sample(cgroup),
                });
            }
        }
    }

    fn tick_loss(&mut self, frame: &Frame, untimed: u64) -> LossSample {
        let total = |counter: u32| self.snapshot.lost[counter as usize];
        let now = LossSample {
            connections: total(LOST_CONNECTIONS),
            records: total(LOST_RECORDS),
            events: total(LOST_EVENTS),
            unparsed: 0,
            untimed: 0,
        };
        let sides = frame
            .edges
            .iter()
            .flat_map(|edge| edge.client.iter().chain(&edge.server));
        let samples = sides
            .flat_map(|side| &side.l7)
            .filter(|sample| sample.protocol != Protocol::Encrypted);
        let unparsed = samples.map(|sample| u64::from(sample.unparsed)).sum();
        let loss = LossSample {
            connections: now.connections - self.last_lost.connections,
            records: now.records - self.last_lost.records,
            events: now.events - self.last_lost.events,
            unparsed,
            untimed,
        };
        self.last_lost = now;
        loss
    }
}

/// Now, on the clock of `bpf_ktime_get_ns`.
#[must_use]
pub fn monotonic_ns() -> MonotonicNanos {
    let mut now = nix::libc::timespec { tv_sec: 0, tv_nsec: 0 };
    #[expect(unsafe_code, reason = "the clock by number; std has it only as an opaque instant")]
    // SAFETY: a valid pointer to a local; this clock exists everywhere, so the call cannot fail.
    unsafe {
        nix::libc::clock_gettime(nix::libc::CLOCK_MONOTONIC, &raw mut now);
    }
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

/// Gives back what the kernel's types took while they were read: some 40 MB that are never needed again.
fn return_free_memory() {
    #[expect(unsafe_code, reason = "the allocator's own function to return memory; glibc only")]
    #[cfg(target_env = "gnu")]
    // SAFETY: no preconditions.
    unsafe {
        nix::libc::malloc_trim(0);
    }
}
