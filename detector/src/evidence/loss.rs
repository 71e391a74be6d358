//! network.loss, network.bandwidth (by queues) and network.mtu: a share of the packets is lost, and the rest still flows.

use std::collections::BTreeMap;

use gauntlet_probes::frame::MonotonicNanos;

use super::drops::{DropClass, DropFlow, edges_of};
use super::filter::blocked;
use super::{Certainty, Finding, by_service, delay, names};
use crate::anomaly::rate::surprise_above;
use crate::commonality::{Explanation, Observation, Place, explain};
use crate::diagnosis::Mechanism;
use crate::scene::{EdgeIx, EdgeView, End, PodIx, Scene};
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
/// Share of the drops at the worst pod from which another pod drops as well.
const POD_SHARE_MIN: f64 = 0.15;
/// Time without loss after which it may be over, nanoseconds.
const CEASED_NS: u64 = 1_200_000_000;
/// Losses that would have been seen in that time, without which their absence says nothing.
const CEASED_EXPECTED_MIN: f64 = 3.0;
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
    duplicates: u32,
    dropped_amid_answers: u32,
}

impl Losses {
    /// Packets that were lost, as far as it shows.
    fn seen(self) -> u32 {
        self.count
            .saturating_sub(self.duplicates)
            .max(self.dropped_amid_answers)
    }
}

/// See the module.
#[must_use]
pub fn judge(scene: &Scene<'_>) -> Vec<Finding> {
    let drops = drops_by_edge(scene);
    let mut observations = Vec::new();
    let mut losses: BTreeMap<EdgeIx, Losses> = BTreeMap::new();
    for (index, edge) in scene.edges.iter().enumerate() {
        let mut loss = drops.get(&index).copied().unwrap_or_default();
        let queues = loss.dropped_queue >= EDGE_COUNT_MIN;
        if blocked(edge) && !queues {
            continue;
        }
        let mut seconds = 0.0;
        for tick in edge.recent() {
            seconds += tick.seconds;
            if flows(tick) || queues {
                loss.count += tick.value.retransmits();
                loss.dropped_amid_answers += tick.value.dropped;
                loss.queue += tick
                    .value
                    .sides()
                    .map(|flow: &Flow| flow.queue_retransmits)
                    .sum::<u32>();
            }
        }
        let seen = loss.seen();
        // What is late is sent again before it arrives: on a slow path only recorded drops are losses.
        let late = seen >= EDGE_COUNT_MIN
            && matches!(delay::pace(scene, edge), delay::Pace::Slow { .. })
            && loss.dropped_link + loss.dropped_queue < EDGE_COUNT_MIN;
        let surprise = surprise_above(f64::from(seen), edge.norm.retransmit_rate * seconds);
        if late || (seen > 0 && ceased(edge, loss)) {
            continue;
        }
        if seen >= EDGE_COUNT_MIN && surprise >= EDGE_SURPRISE_MIN && edge.norm.learned() {
            observations.push(Observation {
                edge: index,
                affected: true,
            });
            losses.insert(index, loss);
        } else if seen == 0 && edge.answers() > 0 {
            observations.push(Observation {
                edge: index,
                affected: false,
            });
        }
    }
    let recorded = by_records(scene, &losses);
    let best = recorded.or_else(|| {
        explain(scene, &observations)
            .into_iter()
            .find(|explanation| explanation.fit >= FIT_MIN)
    });
    best.and_then(|best| finding(scene, &best, &losses))
        .into_iter()
        .collect()
}

fn finding(scene: &Scene<'_>, best: &Explanation, losses: &BTreeMap<EdgeIx, Losses>) -> Option<Finding> {
    let own = |edge: &EdgeView<'_>| {
        edge.caller
            .pods()
            .iter()
            .chain(edge.callee.pods())
            .any(|pod| best.pods.contains(pod))
    };
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
        sum.duplicates += loss.duplicates;
        sum.dropped_amid_answers += loss.dropped_amid_answers;
    }
    let dropped = sum.dropped_link + sum.dropped_queue + sum.dropped_filter;
    let count = sum.seen();
    if f64::from(count) < f64::from(PLACE_COUNT_MIN) * scene.threshold_factor()
        || spread_ticks(scene, &mine) < SPREAD_TICKS_MIN
    {
        return None;
    }
    let share = |part: u32, of: u32| part > 0 && f64::from(part) >= QUEUE_SHARE_MIN * f64::from(of);
    let queued = share(sum.queue, sum.count) || share(sum.dropped_queue, dropped);
    let mechanism = if sum.too_big >= EDGE_COUNT_MIN {
        Mechanism::NetworkMtu
    } else if queued {
        Mechanism::NetworkBandwidth
    } else {
        Mechanism::NetworkLoss
    };
    let answers: u32 = mine.iter().map(|&edge| scene.edges[edge].answers()).sum();
    let mut evidence = vec![format!(
        "{} segments sent again on edges of {}, while {answers} answers came through",
        sum.count,
        names(scene, &best.pods)
    )];
    if dropped > 0 {
        evidence.push(format!(
            "{dropped} packets dropped on the way ({} of them by a queue)",
            sum.dropped_queue
        ));
    }
    if queued {
        evidence.push(format!(
            "{} segments were dropped by the sender's own queue or are still in it",
            sum.queue
        ));
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

/// At the rate of the last seconds, losses would have been seen in the latest ticks, and were not: it is over.
fn ceased(edge: &EdgeView<'_>, loss: Losses) -> bool {
    let (mut seconds, mut latest) = (0.0, 0);
    for tick in edge
        .recent()
        .rev()
        .take_while(|tick| tick.at_ns + CEASED_NS > edge.now.at_ns)
    {
        seconds += tick.seconds;
        latest += tick.value.retransmits() + tick.value.dropped;
    }
    latest == 0 && f64::from(loss.seen()) * seconds / crate::window::RECENT_SECONDS >= CEASED_EXPECTED_MIN
}

/// Where drops of a share are recorded at pods themselves, these are the pods.
fn by_records(scene: &Scene<'_>, losses: &BTreeMap<EdgeIx, Losses>) -> Option<Explanation> {
    let mut at: BTreeMap<PodIx, u32> = BTreeMap::new();
    for flow in scene
        .drops
        .iter()
        .filter(|flow| matches!(flow.class, DropClass::Link | DropClass::Queue | DropClass::Filter))
    {
        let lossy = edges_of(scene, flow).any(|edge| losses.contains_key(&edge));
        if let (Some(End::Pod(pod)), true) = (flow.at.as_ref().map(|at| scene.end(at)), lossy) {
            *at.entry(pod).or_default() += flow.count;
        }
    }
    let most = at.values().copied().max().unwrap_or(0);
    at.retain(|_, count| *count >= EDGE_COUNT_MIN && f64::from(*count) >= POD_SHARE_MIN * f64::from(most));
    let total = |pods: &[PodIx]| pods.iter().map(|pod| at[pod]).sum::<u32>();
    let services = by_service(scene, at.keys().copied());
    let (service, pods) = services.into_iter().max_by_key(|(_, pods)| total(pods))?;
    (total(&pods) >= PLACE_COUNT_MIN).then_some(Explanation {
        place: Place::Service(service),
        pods,
        fit: 1.0,
    })
}

/// Answers came in this very tick: what is lost beside them is a share, and no blockade before or after.
fn flows(tick: &Timed<EdgeFlow>) -> bool {
    tick.value.best().is_some_and(|flow| flow.responses > 0)
}

fn spread_ticks(scene: &Scene<'_>, edges: &[EdgeIx]) -> usize {
    let mut ticks: Vec<MonotonicNanos> = Vec::new();
    for &edge in edges {
        ticks.extend(
            scene.edges[edge]
                .recent()
                .filter(|tick| tick.value.retransmits() + tick.value.dropped > 0)
                .map(|tick| tick.at_ns),
        );
    }
    ticks.sort_unstable();
    ticks.dedup();
    ticks.len()
}

fn first_trouble(scene: &Scene<'_>, edges: &[EdgeIx]) -> MonotonicNanos {
    edges
        .iter()
        .filter_map(|&edge| scene.edges[edge].trouble.map(|trouble| trouble.since_ns))
        .min()
        .unwrap_or(scene.now_ns)
}

fn drops_by_edge(scene: &Scene<'_>) -> BTreeMap<EdgeIx, Losses> {
    let mut losses: BTreeMap<EdgeIx, Losses> = BTreeMap::new();
    for flow in &scene.drops {
        let DropFlow { class, count, .. } = flow;
        for edge in edges_of(scene, flow) {
            let loss = losses.entry(edge).or_default();
            match class {
                DropClass::Filter => loss.dropped_filter += count,
                DropClass::Link => loss.dropped_link += count,
                DropClass::Queue => loss.dropped_queue += count,
                DropClass::TooBig => loss.too_big += count,
                DropClass::Duplicate => loss.duplicates += count,
                DropClass::Route | DropClass::Noise => (),
            }
        }
    }
    losses
}
