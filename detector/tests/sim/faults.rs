//! What faults do to simulated traffic, following the table of signatures that was measured on a real kernel.

use gauntlet_probes::entity::{Peer, PodName};
use gauntlet_probes::frame::{
    Direction, DnsSample, DropSample, L7Sample, LatencyHistogram, ProcessEvent, ProcessEventKind, RetransmitCount,
    SideSample, Transport,
};
use rand::Rng;

use super::spec::Kind;
use super::{Sim, TICKS, cluster, empty_l7};

#[derive(Clone, Debug)]
pub struct Fault {
    pub kind: String,
    pub pods: Vec<usize>,
    pub value: f64,
}

#[derive(Clone, Debug)]
pub struct Active {
    pub fault: Fault,
    pub since: u64,
}

impl Active {
    pub fn new(fault: Fault, since: u64) -> Self {
        Self { fault, since }
    }
}

impl Fault {
    /// `filter cache-0+cache-1`, `delay web 40`, `surge 3`.
    pub fn parse(sim: &Sim, text: &str) -> Self {
        let mut words = text.split_whitespace();
        let kind = words.next().unwrap().to_owned();
        let rest: Vec<&str> = words.collect();
        let value = rest.last().and_then(|word| word.parse().ok()).unwrap_or(0.0);
        let pods = rest.first().map(|names| sim.app.pods_named(names)).unwrap_or_default();
        Self { kind, pods, value }
    }
}

pub fn hits(sim: &Sim, kinds: &[&str], pod: usize) -> Option<f64> {
    let fault = &sim.active.as_ref()?.fault;
    (kinds.contains(&fault.kind.as_str()) && fault.pods.contains(&pod)).then_some(fault.value)
}

pub fn load_factor(sim: &Sim) -> f64 {
    sim.active
        .as_ref()
        .filter(|active| active.fault.kind == "surge")
        .map_or(1.0, |active| active.fault.value)
}

pub fn cpu_limited(sim: &Sim, pod: usize) -> bool {
    hits(sim, &["cpu"], pod).is_some()
}

pub fn slowness(sim: &Sim, pod: usize) -> f64 {
    hits(sim, &["cpu", "slow", "work"], pod).unwrap_or(1.0)
}

/// By how much more a request costs the CPU: a missing index, say.
pub fn work(sim: &Sim, pod: usize) -> f64 {
    hits(sim, &["work"], pod).unwrap_or(1.0)
}

/// Share of lookups that miss because the memory is full.
pub fn evicts(sim: &Sim, pod: usize) -> Option<f64> {
    hits(sim, &["evict"], pod)
}

/// Memory in use and its limit, bytes.
pub fn memory(sim: &Sim, pod: usize) -> (u64, u64) {
    let limit_bytes = 64 << 20;
    let full = evicts(sim, pod).is_some() || hits(sim, &["starve"], pod).is_some();
    (
        if full { limit_bytes - (1 << 20) } else { limit_bytes / 2 },
        limit_bytes,
    )
}

pub fn errs(sim: &mut Sim, pod: usize) -> bool {
    hits(sim, &["error", "auth"], pod).is_some_and(|share| sim.rng.random_bool(share))
}

pub fn network_ms(sim: &Sim, caller: Option<usize>, callee: usize) -> f64 {
    let ends = [caller, Some(callee)];
    ends.into_iter()
        .flatten()
        .filter_map(|pod| hits(sim, &["delay"], pod))
        .sum()
}

pub fn reachable(sim: &Sim, (_, callee): (Option<usize>, usize)) -> bool {
    let cut = [
        "filter", "reject", "silent", "port", "pause", "mute", "down", "freeze", "cut", "unselect", "scale",
    ];
    hits(sim, &cut, callee).is_none() && sim.down_until[callee].is_none()
}

pub fn before_tick(sim: &mut Sim) {
    let now = sim.tick;
    for until in &mut sim.down_until {
        *until = until.filter(|&until| until > now);
    }
    let Some(Active { fault, since }) = sim.active.clone() else {
        return;
    };
    let first = now == since + 1;
    match fault.kind.as_str() {
        "flush" if first => fault.pods.iter().for_each(|&pod| sim.flushed_at[pod] = Some(now)),
        "starve" if first => {
            for &pod in &fault.pods {
                end_process(sim, pod, ProcessEventKind::OomKilled);
            }
        }
        "kill" | "oom" if (now - since - 1).is_multiple_of((fault.value * TICKS as f64) as u64) => {
            let kind = if fault.kind == "oom" {
                ProcessEventKind::OomKilled
            } else {
                ProcessEventKind::Signalled(9)
            };
            for &pod in &fault.pods {
                end_process(sim, pod, kind);
            }
        }
        // A prober from outside comes at the very moment of a look; by the next it has been let in.
        "visit" if now.is_multiple_of(fault.value as u64) => {
            for &pod in &fault.pods {
                sim.edges.entry((None, pod)).or_default().server.accept_backlog = 2;
            }
        }
        _ => (),
    }
}

/// A pod's process ends, and comes back after some ticks.
fn end_process(sim: &mut Sim, pod: usize, kind: ProcessEventKind) {
    sim.down_until[pod] = Some(sim.tick + 4);
    sim.frame.events.push(ProcessEvent {
        at_ns: sim.now_ns(),
        pod: PodName::new(sim.app.pods[pod].name.clone()),
        tgid: 1000 + sim.tick as u32,
        comm: "server".to_owned(),
        kind,
    });
}

/// The outcome of a call that a fault keeps from its server; `None` if it gets there.
pub fn intercept(sim: &mut Sim, caller: Option<usize>, callee: usize) -> Option<(f64, bool)> {
    let timeout_ms = kind_of(sim, callee).timeout_ms();
    if sim.down_until[callee].is_some() {
        sim.reset(callee, caller, port(sim, callee), true);
        refused(sim, caller, callee);
        return Some((0.3, false));
    }
    if let Some(outcome) = cluster::nowhere(sim, caller, callee) {
        return Some(outcome);
    }
    if hits(sim, &["pause", "freeze"], callee).is_some() {
        return Some((hang(sim, caller, callee), false));
    }
    if hits(sim, &["mute"], callee).is_some() {
        return Some((unanswered(sim, caller, callee), false));
    }
    if hits(sim, &["full"], callee).is_some_and(|share| sim.rng.random_bool(share)) {
        turned_away(sim, caller, callee);
        return Some((1.0, false));
    }
    if hits(sim, &["down"], callee).is_some() {
        return Some((no_way(sim, caller, callee), false));
    }
    if hits(sim, &["mtu"], callee).is_some_and(|share| sim.rng.random_bool(share)) {
        return Some((too_big(sim, caller, callee), false));
    }
    if hits(sim, &["reject"], callee).is_some() {
        refused(sim, caller, callee);
        return Some((0.3, false));
    }
    if hits(sim, &["port"], callee).is_some() {
        // Connections live on until they are of age.
        let pool = sim.pools.get_mut(&(caller, callee)).unwrap();
        if pool.open > 0 && sim.rng.random_bool(0.05) {
            pool.open -= 1;
        }
        if sim.rng.random_range(0..4) >= pool.open {
            sim.reset(callee, caller, port(sim, callee) + 1, true);
            refused(sim, caller, callee);
            return Some((0.3, false));
        }
    }
    if hits(sim, &["filter", "silent"], callee).is_some() || cluster::cut_between(sim, caller, callee).is_some() {
        return Some((blocked(sim, caller, callee), false));
    }
    let loss = [caller, Some(callee)]
        .into_iter()
        .flatten()
        .find_map(|pod| hits(sim, &["loss"], pod));
    if loss.is_some_and(|share| sim.rng.random_bool(share)) {
        let error = Some(0);
        let protocol = kind_of(sim, callee).protocol();
        let tick = sim.edges.entry((caller, callee)).or_default();
        tick.client.retransmits.push(RetransmitCount {
            handshake: false,
            error,
            count: 1,
        });
        tick.client_l7.get_or_insert_with(|| empty_l7(protocol)).requests += 1;
        tick.server_l7.get_or_insert_with(|| empty_l7(protocol)).requests += 1;
        tick.server_l7.as_mut().unwrap().responses += 1;
        let late = timeout_ms > 200.0;
        if late {
            let l7 = tick.client_l7.as_mut().unwrap();
            l7.responses += 1;
            l7.latency.record_us(201_000);
        }
        return Some((201_f64.min(timeout_ms), late));
    }
    None
}

fn kind_of(sim: &Sim, pod: usize) -> Kind {
    sim.app.services[sim.app.pods[pod].service].kind
}

fn port(sim: &Sim, pod: usize) -> u16 {
    kind_of(sim, pod).port()
}

/// A request on a connection of its own; what comes of it is the same at both ends.
fn on_a_new_connection(
    sim: &mut Sim,
    caller: Option<usize>,
    callee: usize,
    outcome: impl Fn(&mut SideSample, &mut L7Sample),
) {
    let protocol = kind_of(sim, callee).protocol();
    let tick = sim.edges.entry((caller, callee)).or_default();
    for (side, l7) in [
        (&mut tick.client, &mut tick.client_l7),
        (&mut tick.server, &mut tick.server_l7),
    ] {
        side.connects_attempted += 1;
        side.connects_opened += 1;
        let l7 = l7.get_or_insert_with(|| empty_l7(protocol));
        l7.requests += 1;
        outcome(side, l7);
    }
}

fn refused(sim: &mut Sim, caller: Option<usize>, callee: usize) {
    if let Some(caller) = caller {
        let port = port(sim, callee);
        sim.reset(caller, Some(callee), port, false);
    }
    let tick = sim.edges.entry((caller, callee)).or_default();
    tick.client.connects_attempted += 1;
    tick.client.connects_failed.push((111, 1));
}

fn hang(sim: &mut Sim, caller: Option<usize>, callee: usize) -> f64 {
    let now_ns = sim.now_ns();
    let pool = sim.pools.get_mut(&(caller, callee)).unwrap();
    pool.unread += 1;
    pool.unread_since.get_or_insert(now_ns);
    on_a_new_connection(sim, caller, callee, |_, l7| l7.outstanding += 1);
    kind_of(sim, callee).timeout_ms()
}

/// The process reads the request and never answers it: the caller's patience ends, and it opens another connection.
fn unanswered(sim: &mut Sim, caller: Option<usize>, callee: usize) -> f64 {
    let now_ns = sim.now_ns();
    let since_ns = sim.active.as_ref().map_or(now_ns, |active| super::ns_at(active.since));
    let timeout_ms = kind_of(sim, callee).timeout_ms();
    on_a_new_connection(sim, caller, callee, |side, l7| {
        side.connects_closed += 1;
        l7.outstanding += 1;
        l7.outstanding_age_ns_max = (now_ns - since_ns).min((timeout_ms * 1e6) as u64);
    });
    timeout_ms
}

/// A new connection is answered with an error and closed: the server has too many already.
fn turned_away(sim: &mut Sim, caller: Option<usize>, callee: usize) {
    on_a_new_connection(sim, caller, callee, |side, l7| {
        side.connects_closed += 1;
        (l7.responses, l7.errors) = (l7.responses + 1, l7.errors + 1);
        l7.latency.record_us(900);
    });
}

/// The pod's link is down: its neighbour is not found, and the kernel says that there is no way to the host.
fn no_way(sim: &mut Sim, caller: Option<usize>, callee: usize) -> f64 {
    let tick = sim.edges.entry((caller, callee)).or_default();
    tick.client.connects_attempted += 1;
    tick.client.connects_failed.push((113, 1));
    tick.client.retransmits.push(RetransmitCount {
        handshake: true,
        error: Some(-16),
        count: 1,
    });
    dropped(sim, caller, callee, "NEIGH_FAILED", "neigh_invalidate", 60);
    250.0
}

/// A large answer leaves the server again and again, and does not pass.
fn too_big(sim: &mut Sim, caller: Option<usize>, callee: usize) -> f64 {
    let kind = kind_of(sim, callee);
    let tick = sim.edges.entry((caller, callee)).or_default();
    tick.server.retransmits.push(RetransmitCount {
        handshake: false,
        error: Some(0),
        count: 1,
    });
    tick.client_l7.get_or_insert_with(|| empty_l7(kind.protocol())).requests += 1;
    let served = tick.server_l7.get_or_insert_with(|| empty_l7(kind.protocol()));
    (served.requests, served.responses) = (served.requests + 1, served.responses + 1);
    dropped(sim, caller, callee, "PKT_TOO_BIG", "ip_forward", 1500);
    kind.timeout_ms()
}

fn dropped(sim: &mut Sim, caller: Option<usize>, callee: usize, reason: &str, symbol: &str, length_bytes_max: u32) {
    sim.frame.drops.push(DropSample {
        at: None,
        reason: reason.to_owned(),
        symbol: symbol.to_owned(),
        direction: Direction::Forward,
        source: caller.map(|caller| sim.app.peer(caller)),
        target: Some(sim.app.peer(callee)),
        port: port(sim, callee),
        to_server: true,
        transport: Transport::Tcp,
        count: 1,
        syn_count: 0,
        length_bytes_max,
    });
}

/// First what is open falls silent, then nothing opens.
fn blocked(sim: &mut Sim, caller: Option<usize>, callee: usize) -> f64 {
    let cut = cluster::cut_between(sim, caller, callee);
    let recorded = hits(sim, &["filter"], callee).is_some() || cut.is_some();
    let kind = kind_of(sim, callee);
    let pool = sim.pools.get_mut(&(caller, callee)).unwrap();
    let was_open = pool.open > 0;
    pool.open = pool.open.saturating_sub(1);
    let tick = sim.edges.entry((caller, callee)).or_default();
    if was_open {
        tick.client_l7.get_or_insert_with(|| empty_l7(kind.protocol())).requests += 1;
        tick.client.retransmits.push(RetransmitCount {
            handshake: false,
            error: Some(0),
            count: 1,
        });
    } else {
        tick.client.connects_attempted += 1;
        tick.client.connects_failed.push((0, 1));
    }
    if recorded {
        sim.frame.drops.push(DropSample {
            at: Some(cut.map_or_else(|| sim.app.peer(callee), Peer::Node)),
            reason: "NETFILTER_DROP".to_owned(),
            symbol: "nft_do_chain".to_owned(),
            direction: Direction::Ingress,
            source: caller.map(|caller| sim.app.peer(caller)),
            target: Some(sim.app.peer(callee)),
            port: kind.port(),
            to_server: true,
            transport: Transport::Tcp,
            count: 1,
            syn_count: u32::from(!was_open),
            length_bytes_max: 120,
        });
    }
    if kind == Kind::Redis { 100.0 } else { 250.0 }
}

/// Look-ups of this tick: each pod that calls others asks for names, as connections come of age.
pub fn look_ups(sim: &mut Sim) {
    let Some(server) = sim.app.pods.iter().position(|pod| pod.name.starts_with("dns")) else {
        return;
    };
    let unanswered = hits(sim, &["nodns", "scale"], server).is_some();
    let late_ms = hits(sim, &["slowdns"], server);
    for client in 0..sim.app.pods.len() {
        if sim.app.services[sim.app.pods[client].service].calls.is_empty() {
            continue;
        }
        let queries = sim.rng.random_range(0..3);
        // Questions and answers get lost.
        let lost = hits(sim, &["loss"], client).map_or(0.0, |share| 1.0 - (1.0 - share) * (1.0 - share));
        let answered = (0..queries)
            .filter(|_| !unanswered && !sim.rng.random_bool(lost))
            .count() as u32;
        let mut sample = DnsSample {
            client: sim.app.peer(client),
            server: cluster::name_server(sim, server),
            queries,
            responses: answered,
            nxdomain: 0,
            failures: 0,
            unanswered: queries - answered,
            latency: LatencyHistogram::default(),
        };
        for _ in 0..sample.responses {
            sample
                .latency
                .record_us(300 + late_ms.map_or(0, |ms| (ms * 1e3) as u64));
        }
        if queries > 0 {
            sim.frame.dns.push(sample);
        }
    }
}

/// What a request waits for names, milliseconds, and whether it gets them.
pub fn named(sim: &mut Sim, pod: usize) -> (f64, bool) {
    let Some(fault) = sim.active.as_ref().map(|active| active.fault.clone()) else {
        return (0.0, true);
    };
    let calls = !sim.app.services[sim.app.pods[pod].service].calls.is_empty();
    let asks_in_vain = fault.pods.iter().any(|&pod| sim.app.pods[pod].name.starts_with("dns"));
    match fault.kind.as_str() {
        "nodns" | "scale" if calls && asks_in_vain && sim.rng.random_bool(0.5) => (50.0, false),
        "slowdns" if calls && sim.rng.random_bool(0.5) => (fault.value, true),
        _ => (0.0, true),
    }
}
