//! network.loss, network.bandwidth (by queues) and network.mtu: a share of the packets is lost, and the rest still flows.

use std::collections::BTreeMap;

use gauntlet_probes::frame::MonotonicNanos;

use super::drops::{DropClass, DropFlow, drop_flows, edges_of};
use super::filter::blocked;
use super::{Certainty, Finding, names};
use crate::anomaly::rate::surprise_above;
use crate::commonality::{Explanation, Observation, explain};
use crate::diagnosis::Mechanism;
use crate::scene::{EdgeIx, EdgeView, Scene};
use crate::signal::{EdgeFlow, Flow};
use crate::window::Timed;

/// Surprise (powers of ten) at an edge's retransmissions from which it counts as lossy: one in a thousand windows.
const EDGE_SURPRISE_MIN: f64 = 3.0;
/// Retransmissions and drops on an edge without which it is not lossy: one lost packet is nobody's fault.
const EDGE_COUNT_MIN: u32 = 2;
/// The same over all edges of the suspected place.
const PLACE_COUNT_MIN: u32 = 6;
/// Ticks over which they must be spread: a stall of the machine makes one burst.
const SPREAD_TICKS_MIN: usize = 4;
/// Share of retransmissions that a queue dropped, from which the queue is the cause.
const QUEUE_SHARE_MIN: f64 = 0.25;
/// Fit below which commonality says nothing.
const FIT_MIN: f64 = 0.5;

#[derive(Clone, Copy, Debug, Default)]
struct Losses {
    count: u32,
    queue: u32,
    dropped_link: u32,
    dropped_queue: u32,
    dropped_filter: u32,
    too_big: u32,
}

/// See the module.
#[must_use]
pub fn judge(scene: &Scene<'_>) -> Vec<Finding> {
    let drops = drops_by_edge(scene);
    let mut observations = Vec::new();
    let mut losses: BTreeMap<EdgeIx, Losses> = BTreeMap::new();
    for (index, edge) in scene.edges.iter().enumerate() {
        if blocked(edge) {
            continue;
        }
        let mut loss = drops.get(&index).copied().unwrap_or_default();
        let mut seconds = 0.0;
        for tick in edge.recent() {
            seconds += tick.seconds;
            if !flows(tick) {
                continue;
            }
            loss.count += tick.value.retransmits();
            loss.queue += tick.value.sides().map(|flow: &Flow| flow.queue_retransmits).sum::<u32>();
        }
        let seen = loss.count.max(loss.dropped_link + loss.dropped_queue + loss.dropped_filter + loss.too_big);
        let surprise = surprise_above(f64::from(seen), edge.norm.retransmit_rate * seconds);
        if seen >= EDGE_COUNT_MIN && surprise >= EDGE_SURPRISE_MIN && edge.norm.learned() {
            observations.push(Observation { edge: index, affected: true });
            losses.insert(index, loss);
        } else if seen == 0 && edge.answers() > 0 {
            observations.push(Observation { edge: index, affected: false });
        }
    }
    let best = explain(scene, &observations).into_iter().find(|explanation| explanation.fit >= FIT_MIN);
    best.and_then(|best| finding(scene, &best, &losses)).into_iter().collect()
}

fn finding(scene: &Scene<'_>, best: &Explanation, losses: &BTreeMap<EdgeIx, Losses>) -> Option<Finding> {
    let own = |edge: &EdgeView<'_>| edge.caller.pods().iter().chain(edge.callee.pods()).any(|pod| best.pods.contains(pod));
    let mine: Vec<EdgeIx> = losses.keys().copied().filter(|&edge| own(&scene.edges[edge])).collect();
    let mut sum = Losses::default();
    for edge in &mine {
        let loss = losses[edge];
        sum.count += loss.count;
        sum.queue += loss.queue;
        sum.dropped_link += loss.dropped_link;
        sum.dropped_queue += loss.dropped_queue;
        sum.dropped_filter += loss.dropped_filter;
        sum.too_big += loss.too_big;
    }
    let dropped = sum.dropped_link + sum.dropped_queue + sum.dropped_filter;
    let count = sum.count.max(dropped).max(sum.too_big);
    if count < PLACE_COUNT_MIN || spread_ticks(scene, &mine) < SPREAD_TICKS_MIN {
        return None;
    }
    let queued = f64::from(sum.queue) >= QUEUE_SHARE_MIN * f64::from(sum.count.max(1)) && sum.queue > 0;
    let mechanism = if sum.too_big >= EDGE_COUNT_MIN {
        Mechanism::NetworkMtu
    } else if queued {
        Mechanism::NetworkBandwidth
    } else {
        Mechanism::NetworkLoss
    };
    let answers: u32 = mine.iter().map(|&edge| scene.edges[edge].answers()).sum();
    let mut evidence =
        vec![format!("{} segments sent again on edges of {}, while {answers} answers came through", sum.count, names(scene, &best.pods))];
    if dropped > 0 {
        evidence.push(format!("{dropped} packets dropped on the way ({} of them by a queue)", sum.dropped_queue));
    }
    if queued {
        evidence.push(format!("{} of them dropped by the sender's own queue", sum.queue));
    }
    Some(Finding {
        mechanism,
        place: best.place,
        // Ten retransmissions where none were usual are as good as certain; what they fit badly they prove badly.
        strength: (0.5 + f64::from(count.min(20)) / 45.0) * best.fit,
        certainty: Certainty::Measured,
        since_ns: first_trouble(scene, &mine),
        evidence,
        pods: best.pods.clone(),
    })
}

/// Answers came in this very tick: what is lost beside them is a share, and no blockade before or after.
fn flows(tick: &Timed<EdgeFlow>) -> bool {
    tick.value.best().is_some_and(|flow| flow.responses > 0)
}

fn spread_ticks(scene: &Scene<'_>, edges: &[EdgeIx]) -> usize {
    let mut ticks: Vec<MonotonicNanos> = Vec::new();
    for &edge in edges {
        ticks.extend(scene.edges[edge].recent().filter(|tick| flows(tick) && tick.value.retransmits() + tick.value.dropped > 0).map(|tick| tick.at_ns));
    }
    ticks.sort_unstable();
    ticks.dedup();
    ticks.len()
}

fn first_trouble(scene: &Scene<'_>, edges: &[EdgeIx]) -> MonotonicNanos {
    edges.iter().filter_map(|&edge| scene.edges[edge].trouble.map(|trouble| trouble.since_ns)).min().unwrap_or(scene.now_ns)
}

fn drops_by_edge(scene: &Scene<'_>) -> BTreeMap<EdgeIx, Losses> {
    let mut losses: BTreeMap<EdgeIx, Losses> = BTreeMap::new();
    for flow in drop_flows(scene) {
        let DropFlow { class, count, .. } = flow;
        for edge in edges_of(scene, &flow) {
            let loss = losses.entry(edge).or_default();
            match class {
                DropClass::Filter => loss.dropped_filter += count,
                DropClass::Link => loss.dropped_link += count,
                DropClass::Queue => loss.dropped_queue += count,
                DropClass::TooBig => loss.too_big += count,
                DropClass::Route | DropClass::Noise => (),
            }
        }
    }
    losses
}
