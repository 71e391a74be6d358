//! A small simulated cluster that makes plausible frames: for tests and benches of the detector only.
//!
//! It knows queueing, retries and pools only as far as frames show them; real frames are the judge of its plausibility.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "each test binary uses a part of it"
)]

pub mod cluster;
pub mod faults;
pub mod spec;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use gauntlet_probes::entity::{InventoryLine, NodeInfo, NodeName, Peer, PodInfo, PodName, ServiceInfo, ServiceName};
use gauntlet_probes::frame::{
    EdgeSample, Frame, L7Sample, NodeSample, PodSample, Protocol, ResetSample, RetransmitCount, SideSample, UsageSample,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use faults::{Active, Fault};
use spec::{App, Kind};

pub const TICK_NS: u64 = 200_000_000;
/// Ticks of a second.
pub const TICKS: u64 = 5;

/// One edge during one tick.
#[derive(Clone, Debug, Default)]
pub struct Tick {
    pub client: SideSample,
    pub server: SideSample,
    pub client_l7: Option<L7Sample>,
    pub server_l7: Option<L7Sample>,
}

/// Connections of one caller to one callee.
#[derive(Clone, Copy, Debug)]
pub struct Pool {
    pub open: u32,
    pub unread: u32,
    pub unread_since: Option<u64>,
}

pub struct Sim {
    pub app: App,
    pub rng: ChaCha8Rng,
    pub rate: f64,
    pub tick: u64,
    pub pools: BTreeMap<(Option<usize>, usize), Pool>,
    pub edges: BTreeMap<(Option<usize>, usize), Tick>,
    pub frame: Frame,
    pub served: Vec<u32>,
    pub cpu_ns: Vec<u64>,
    pub flushed_at: Vec<Option<u64>>,
    pub down_until: Vec<Option<u64>>,
    pub active: Option<Active>,
    pub stall: bool,
    /// What the API has said since it was last asked.
    pub news: Vec<InventoryLine>,
}

impl Sim {
    pub fn new(app: App, rate: f64, seed: u64) -> Self {
        let pods = app.pods.len();
        Self {
            app,
            rng: ChaCha8Rng::seed_from_u64(seed),
            rate,
            tick: 0,
            pools: BTreeMap::new(),
            edges: BTreeMap::new(),
            frame: Frame::default(),
            served: vec![0; pods],
            cpu_ns: vec![0; pods],
            flushed_at: vec![None; pods],
            down_until: vec![None; pods],
            active: None,
            stall: false,
            news: Vec::new(),
        }
    }

    pub fn inventory(&self) -> Vec<InventoryLine> {
        let mut lines = Vec::new();
        for node in 0..self.app.node_count {
            let ip = IpAddr::V4(Ipv4Addr::new(10, 88, 0, node as u8 + 1));
            let name = NodeName::new(format!("node-{node}"));
            lines.push(InventoryLine::Node(NodeInfo {
                name,
                ips: vec![ip],
                netns: None,
                cgroup: None,
            }));
        }
        for (index, pod) in self.app.pods.iter().enumerate() {
            lines.push(InventoryLine::Pod(PodInfo {
                name: PodName::new(pod.name.clone()),
                service: Some(ServiceName::new(self.app.services[pod.service].name.clone())),
                node: NodeName::new(format!("node-{}", pod.node)),
                ip: IpAddr::V4(Ipv4Addr::new(10, 244, (index >> 8) as u8, index as u8)),
                netns: None,
                cgroup: None,
            }));
        }
        for (index, service) in self.app.services.iter().enumerate() {
            lines.push(InventoryLine::Service(ServiceInfo {
                name: service.name.clone(),
                cluster_ip: IpAddr::V4(Ipv4Addr::new(10, 96, (index >> 8) as u8, index as u8)),
                ports: vec![service.kind.port()],
                endpoints: self
                    .app
                    .pods_of(index)
                    .map(|pod| PodName::new(self.app.pods[pod].name.clone()))
                    .collect(),
            }));
        }
        lines.push(InventoryLine::Ready { version: 1 });
        lines
    }

    pub fn now_ns(&self) -> u64 {
        ns_at(self.tick)
    }

    pub fn begin(&mut self, fault: Fault) {
        self.active = Some(Active::new(fault, self.tick));
        self.news.extend(cluster::begun(self));
    }

    pub fn end(&mut self) {
        self.news.extend(cluster::ended(self));
        self.active = None;
        for pool in self.pools.values_mut() {
            (pool.unread, pool.unread_since) = (0, None);
        }
    }

    /// The next frame.
    pub fn next_frame(&mut self) -> Frame {
        self.tick += 1;
        self.frame = Frame {
            seq: self.tick,
            at_ns: self.now_ns(),
            span_ns: TICK_NS,
            ..Frame::default()
        };
        self.edges.clear();
        self.served.fill(0);
        self.cpu_ns.fill(0);
        self.stall = self.rng.random_bool(0.01);
        faults::before_tick(self);
        let rate = self.rate * faults::load_factor(self);
        let count = self.poisson(rate / TICKS as f64);
        for _ in 0..count {
            let entrance = self.pick(self.app.entrance);
            let _ = self.call(None, entrance);
        }
        self.recycle();
        faults::look_ups(self);
        self.finish()
    }

    fn finish(&mut self) -> Frame {
        // What waits unread shows in every frame, traffic or not.
        for (&edge, _) in self.pools.iter().filter(|(_, pool)| pool.unread > 0) {
            self.edges.entry(edge).or_default();
        }
        for (&(caller, callee), tick) in &self.edges {
            let pool = self.pools.get(&(caller, callee)).copied();
            let mut tick = tick.clone();
            if let Some(pool) = pool {
                tick.client.open = pool.open;
                tick.server.open = pool.open;
                tick.server.unread_connections = pool.unread;
                tick.server.unread_age_ns_max = pool.unread_since.map_or(0, |since| self.now_ns() - since);
            }
            tick.client.l7.extend(tick.client_l7);
            tick.server.l7.extend(tick.server_l7);
            let service = self.app.pods[callee].service;
            self.frame.edges.push(EdgeSample {
                caller: caller.map_or(Peer::External(IpAddr::V4(Ipv4Addr::new(10, 88, 9, 9))), |pod| {
                    self.app.peer(pod)
                }),
                callee: self.app.peer(callee),
                via: Some(self.app.services[service].name.clone()),
                port: self.app.services[service].kind.port(),
                client: caller.map(|_| tick.client),
                server: Some(tick.server),
            });
        }
        for pod in (0..self.app.pods.len())
            .filter(|&pod| !cluster::is_gone(self, pod))
            .collect::<Vec<_>>()
        {
            let usage = self.usage(pod);
            self.frame.pods.push(PodSample {
                pod: PodName::new(self.app.pods[pod].name.clone()),
                usage,
            });
        }
        for node in 0..self.app.node_count {
            let pods_ns: u64 = (0..self.app.pods.len())
                .filter(|&pod| self.app.pods[pod].node == node)
                .map(|pod| self.cpu_ns[pod])
                .sum();
            let agents_ns = if cluster::is_frozen(self, node) {
                0
            } else {
                cluster::AGENTS_NS
            };
            let cpu_ns = pods_ns + agents_ns;
            let usage = UsageSample {
                cpu_ns: Some(cpu_ns),
                run_queue_wait_ns: Some(cpu_ns / 5),
                cpu_periods: Some(2),
                cpu_throttled_periods: Some(0),
                ..UsageSample::default()
            };
            self.frame.nodes.push(NodeSample {
                node: NodeName::new(format!("node-{node}")),
                usage,
            });
        }
        std::mem::take(&mut self.frame)
    }

    fn usage(&mut self, pod: usize) -> UsageSample {
        let limited = faults::cpu_limited(self, pod);
        let busy = self.cpu_ns[pod] as f64 / TICK_NS as f64;
        let (memory_bytes, memory_limit_bytes) = faults::memory(self, pod);
        let throttled = if limited || busy > 0.6 { 1 } else { 0 };
        UsageSample {
            cpu_ns: Some(self.cpu_ns[pod]),
            cpu_limit_millicores: limited.then_some(50),
            cpu_periods: Some(2),
            cpu_throttled_periods: Some(throttled * 2),
            cpu_throttled_ns: Some(u64::from(throttled) * 100_000_000),
            run_queue_wait_ns: Some(self.cpu_ns[pod] / 10 + u64::from(throttled) * 80_000_000),
            memory_bytes: Some(memory_bytes),
            memory_limit_bytes: Some(memory_limit_bytes),
            process_count: Some(1),
            ..UsageSample::default()
        }
    }

    /// Connections come of age, and now and then a segment is lost.
    fn recycle(&mut self) {
        let keys: Vec<_> = self.edges.keys().copied().collect();
        for key in keys {
            if self.rng.random_bool(0.15) && faults::reachable(self, key) {
                let tick = self.edges.entry(key).or_default();
                for side in [&mut tick.client, &mut tick.server] {
                    side.connects_closed += 1;
                    side.connects_attempted += 1;
                    side.connects_opened += 1;
                }
            }
            if self.rng.random_bool(0.002) {
                self.edges
                    .entry(key)
                    .or_default()
                    .client
                    .retransmits
                    .push(RetransmitCount {
                        handshake: false,
                        error: Some(0),
                        count: 1,
                    });
            }
        }
    }

    /// One request of `caller` to `callee`: milliseconds that the caller waits, and whether it succeeds.
    pub fn call(&mut self, caller: Option<usize>, callee: usize) -> (f64, bool) {
        self.pools.entry((caller, callee)).or_insert(Pool {
            open: 4,
            unread: 0,
            unread_since: None,
        });
        if let Some(outcome) = faults::intercept(self, caller, callee) {
            return outcome;
        }
        let (server_ms, ok, hit) = self.serve(callee);
        let network_ms = 0.12 * self.noise() + faults::network_ms(self, caller, callee);
        let client_ms = server_ms + network_ms;
        let timeout_ms = self.app.services[self.app.pods[callee].service].kind.timeout_ms();
        let answered = client_ms <= timeout_ms;
        self.count_request(caller, callee, client_ms, server_ms, ok, hit, answered);
        (client_ms.min(timeout_ms), ok && answered && hit != Some(false))
    }

    #[expect(clippy::too_many_arguments, reason = "a test's bookkeeping")]
    fn count_request(
        &mut self,
        caller: Option<usize>,
        callee: usize,
        client_ms: f64,
        server_ms: f64,
        ok: bool,
        hit: Option<bool>,
        answered: bool,
    ) {
        let protocol = self.app.services[self.app.pods[callee].service].kind.protocol();
        let pool = self.pools.get_mut(&(caller, callee)).unwrap();
        let opens = pool.open == 0;
        pool.open = pool.open.max(1);
        let rtt_us = (250.0 + 1e3 * faults::network_ms(self, caller, callee)) as u32;
        let tick = self.edges.entry((caller, callee)).or_default();
        for side in [&mut tick.client, &mut tick.server] {
            side.connects_attempted += u32::from(opens);
            side.connects_opened += u32::from(opens);
        }
        tick.client.srtt_us_median = Some(rtt_us);
        tick.server.srtt_us_median = Some(rtt_us);
        tick.client.bytes_sent += 60;
        tick.client.bytes_received += 300;
        for (l7, ms, answered) in [
            (&mut tick.client_l7, client_ms, answered),
            (&mut tick.server_l7, server_ms, true),
        ] {
            let l7 = l7.get_or_insert_with(|| empty_l7(protocol));
            l7.requests += 1;
            if answered {
                l7.responses += 1;
                l7.errors += u32::from(!ok);
                l7.hits += u32::from(ok && hit == Some(true));
                l7.misses += u32::from(ok && hit == Some(false));
                l7.latency.record_us((ms * 1e3) as u64);
            }
        }
    }

    fn serve(&mut self, pod: usize) -> (f64, bool, Option<bool>) {
        self.served[pod] += 1;
        let service = self.app.pods[pod].service;
        let kind = self.app.services[service].kind;
        let cost_ms = kind.cost_ms();
        self.cpu_ns[pod] += (cost_ms * faults::work(self, pod) * 1e6) as u64;
        // An M/M/1-like slowing with the share of the tick that this pod has been busy.
        let busy = (self.cpu_ns[pod] as f64 / TICK_NS as f64).min(0.95);
        let mut ms = cost_ms * self.noise() / (1.0 - busy) * faults::slowness(self, pod);
        if self.stall {
            ms += 40.0;
        }
        let (lookup_ms, found) = faults::named(self, pod);
        ms += lookup_ms;
        let mut ok = !faults::errs(self, pod) && found;
        let calls = self.app.services[service].calls.clone();
        let mut fall_through = true;
        for callee_service in calls {
            let kind = self.app.services[callee_service].kind;
            if kind == Kind::Postgres && !fall_through {
                continue;
            }
            let callee = self.pick(callee_service);
            let (call_ms, success) = self.call(Some(pod), callee);
            ms += call_ms;
            match kind {
                Kind::Redis => fall_through = !success,
                Kind::Http | Kind::Postgres => ok &= success,
            }
        }
        let hit = (kind == Kind::Redis).then(|| {
            let cold = |at: u64| (-(((self.tick - at) as f64) / 60.0)).exp().max(0.03);
            let misses = faults::evicts(self, pod)
                .or(self.flushed_at[pod].map(cold))
                .unwrap_or(0.03);
            !self.rng.random_bool(misses)
        });
        (ms, ok, hit)
    }

    pub fn reset(&mut self, at: usize, peer: Option<usize>, port: u16, sent: bool) {
        self.frame.resets.push(ResetSample {
            at: self.app.peer(at),
            peer: peer.map(|peer| self.app.peer(peer)),
            port,
            at_server: sent,
            sent,
            reason: sent.then(|| "NO_SOCKET".to_owned()),
            count: 1,
        });
    }

    fn pick(&mut self, service: usize) -> usize {
        let pods: Vec<usize> = self.app.pods_of(service).collect();
        pods[self.rng.random_range(0..pods.len())]
    }

    pub fn noise(&mut self) -> f64 {
        let uniform: f64 = self.rng.random_range(0.0..1.0);
        0.7 + 0.6 * uniform + if self.rng.random_bool(0.03) { 3.0 } else { 0.0 }
    }

    fn poisson(&mut self, mean: f64) -> u32 {
        let limit = (-mean).exp();
        let (mut count, mut product) = (0, self.rng.random::<f64>());
        while product > limit {
            count += 1;
            product *= self.rng.random::<f64>();
        }
        count
    }
}

/// End of a tick.
pub fn ns_at(tick: u64) -> u64 {
    1_000_000_000_000 + tick * TICK_NS
}

pub fn empty_l7(protocol: Protocol) -> L7Sample {
    L7Sample {
        protocol,
        requests: 0,
        responses: 0,
        errors: 0,
        client_errors: 0,
        hits: 0,
        misses: 0,
        latency: gauntlet_probes::frame::LatencyHistogram::default(),
        outstanding: 0,
        outstanding_age_ns_max: 0,
        unparsed: 0,
    }
}
