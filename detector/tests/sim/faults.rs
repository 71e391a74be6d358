//! What faults do to simulated traffic, following the table of signatures that was measured on a real kernel.

use gauntlet_probes::entity::PodName;
use gauntlet_probes::frame::{Direction, DropSample, ProcessEvent, ProcessEventKind, RetransmitCount, Transport};
use rand::Rng;

use super::spec::Kind;
use super::{Sim, TICKS, empty_l7};

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

fn hits(sim: &Sim, kinds: &[&str], pod: usize) -> Option<f64> {
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
    hits(sim, &["cpu", "slow"], pod).unwrap_or(1.0)
}

pub fn errs(sim: &mut Sim, pod: usize) -> bool {
    hits(sim, &["error"], pod).is_some_and(|share| sim.rng.random_bool(share))
}

pub fn network_ms(sim: &Sim, caller: Option<usize>, callee: usize) -> f64 {
    let ends = [caller, Some(callee)];
    ends.into_iter()
        .flatten()
        .filter_map(|pod| hits(sim, &["delay"], pod))
        .sum()
}

pub fn reachable(sim: &Sim, (_, callee): (Option<usize>, usize)) -> bool {
    hits(sim, &["filter", "reject", "silent", "port", "pause"], callee).is_none() && sim.down_until[callee].is_none()
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
        "kill" if (now - since - 1) % ((fault.value * TICKS as f64) as u64) == 0 => {
            for &pod in &fault.pods {
                sim.down_until[pod] = Some(now + 4);
                sim.frame.events.push(ProcessEvent {
                    at_ns: sim.now_ns(),
                    pod: PodName::new(sim.app.pods[pod].name.clone()),
                    tgid: 1000 + now as u32,
                    comm: "server".to_owned(),
                    kind: ProcessEventKind::Signalled(9),
                });
            }
        }
        _ => (),
    }
}

/// The outcome of a call that a fault keeps from its server; `None` if it gets there.
pub fn intercept(sim: &mut Sim, caller: Option<usize>, callee: usize) -> Option<(f64, bool)> {
    let timeout_ms = sim.app.services[sim.app.pods[callee].service].kind.timeout_ms();
    if sim.down_until[callee].is_some() {
        sim.reset(callee, caller, port(sim, callee), true);
        refused(sim, caller, callee);
        return Some((0.3, false));
    }
    if hits(sim, &["pause"], callee).is_some() {
        return Some((hang(sim, caller, callee), false));
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
    if hits(sim, &["filter", "silent"], callee).is_some() {
        return Some((blocked(sim, caller, callee), false));
    }
    let loss = [caller, Some(callee)]
        .into_iter()
        .flatten()
        .find_map(|pod| hits(sim, &["loss"], pod));
    if loss.is_some_and(|share| sim.rng.random_bool(share)) {
        let error = Some(0);
        let protocol = sim.app.services[sim.app.pods[callee].service].kind.protocol();
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

fn port(sim: &Sim, pod: usize) -> u16 {
    sim.app.services[sim.app.pods[pod].service].kind.port()
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
    let kind = sim.app.services[sim.app.pods[callee].service].kind;
    let tick = sim.edges.entry((caller, callee)).or_default();
    for (side, l7) in [
        (&mut tick.client, &mut tick.client_l7),
        (&mut tick.server, &mut tick.server_l7),
    ] {
        side.connects_attempted += 1;
        side.connects_opened += 1;
        let l7 = l7.get_or_insert_with(|| empty_l7(kind.protocol()));
        l7.requests += 1;
        l7.outstanding += 1;
    }
    kind.timeout_ms()
}

/// First what is open falls silent, then nothing opens.
fn blocked(sim: &mut Sim, caller: Option<usize>, callee: usize) -> f64 {
    let recorded = hits(sim, &["filter"], callee).is_some();
    let kind = sim.app.services[sim.app.pods[callee].service].kind;
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
            at: Some(sim.app.peer(callee)),
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
