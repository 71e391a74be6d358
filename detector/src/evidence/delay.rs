//! network.delay and network.bandwidth: what callers see beyond what callees take has grown.
//!
//! A queue that throws packets away on that path says that bandwidth is short; otherwise it is a delay. Both latencies are taken at sockets by the kernel, so their difference is the network's, however busy the programs.

use super::drops::DropClass;
use super::filter::blocked;
use super::reach::{LATE_MIN, late_answers};
use super::{Certainty, Finding, names};
use crate::anomaly::change_point;
use crate::commonality::{Observation, explain};
use crate::diagnosis::Mechanism;
use crate::scene::{EdgeIx, EdgeView, Scene};
use crate::signal::EdgeFlow;

/// Growth of the network's part below which it is noise, milliseconds: wake-ups on a busy small machine cost as much.
const NETWORK_FLOOR_MS: f64 = 2.5;
/// Growth, in usual spreads, from which it is none.
const NETWORK_SPREADS: f64 = 6.0;
/// Growth of the round-trip time below which it is noise, milliseconds: delayed acknowledgements alone move it by tens.
const SRTT_FLOOR_MS: f64 = 45.0;
/// Share of the ticks since the onset in which the growth must hold.
const HELD_SHARE: f64 = 0.7;
/// Ticks in which it must hold: five of 200 ms, longer than the stalls of a small machine.
const HELD_TICKS_MIN: usize = 4;
/// Packets that a queue threw away at the slow pods from which bandwidth is short there.
const QUEUE_DROPS_MIN: u32 = 3;
/// Fit below which commonality says nothing.
const FIT_MIN: f64 = 0.5;

/// How fast an edge's network is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// Slower than usual.
    Slow {
        /// By so much.
        growth_ms: f64,
        /// Since then.
        since_ns: u64,
    },
    /// As usual.
    Usual,
    /// Cannot be told.
    Unknown,
}

/// See the module.
#[must_use]
pub fn judge(scene: &Scene<'_>) -> Vec<Finding> {
    let mut observations = Vec::new();
    let mut slow: Vec<(EdgeIx, f64, u64)> = Vec::new();
    for (index, edge) in scene.edges.iter().enumerate() {
        match pace(scene, edge) {
            Pace::Slow { growth_ms, since_ns } => {
                observations.push(Observation {
                    edge: index,
                    affected: true,
                });
                slow.push((index, growth_ms, since_ns));
            }
            Pace::Usual => observations.push(Observation {
                edge: index,
                affected: false,
            }),
            Pace::Unknown => (),
        }
    }
    let Some(best) = explain(scene, &observations)
        .into_iter()
        .find(|explanation| explanation.fit >= FIT_MIN)
    else {
        return Vec::new();
    };
    let own = |edge: EdgeIx| {
        let edge = &scene.edges[edge];
        edge.caller
            .pods()
            .iter()
            .chain(edge.callee.pods())
            .any(|pod| best.pods.contains(pod))
    };
    let mine: Vec<(EdgeIx, f64, u64)> = slow.into_iter().filter(|&(edge, _, _)| own(edge)).collect();
    let mut growths: Vec<f64> = mine.iter().map(|&(_, growth_ms, _)| growth_ms).collect();
    growths.sort_unstable_by(f64::total_cmp);
    let growth_ms = growths.get(growths.len() / 2).copied().unwrap_or(0.0);
    let queued: u32 = scene
        .drops
        .iter()
        .filter(|flow| flow.class == DropClass::Queue)
        .filter(|flow| {
            flow.client
                .pods()
                .iter()
                .chain(flow.server.pods())
                .any(|pod| best.pods.contains(pod))
        })
        .map(|flow| flow.count)
        .sum();
    let (mechanism, cause) = if queued >= QUEUE_DROPS_MIN {
        (
            Mechanism::NetworkBandwidth,
            format!("a queue on that path threw {queued} packets away"),
        )
    } else {
        (
            Mechanism::NetworkDelay,
            "the callees answer as fast as before, and hardly anything is lost".to_owned(),
        )
    };
    vec![Finding {
        mechanism,
        place: best.place,
        strength: 0.9 * best.fit,
        certainty: Certainty::Measured,
        since_ns: mine
            .iter()
            .map(|&(_, _, since_ns)| since_ns)
            .min()
            .unwrap_or(scene.now_ns),
        evidence: vec![
            format!(
                "the network adds {growth_ms:.1} ms on edges of {}, more than ever before",
                names(scene, &best.pods)
            ),
            cause,
        ],
        pods: best.pods,
    }]
}

/// How fast the network of `edge` is.
#[must_use]
pub fn pace(scene: &Scene<'_>, edge: &EdgeView<'_>) -> Pace {
    if !edge.norm.learned() {
        return Pace::Unknown;
    }
    if blocked(edge) {
        let Some(trouble) = edge.trouble.filter(|_| late_answers(scene, edge) >= LATE_MIN) else {
            return Pace::Unknown;
        };
        let waited_ns = edge
            .recent()
            .filter_map(|tick| tick.value.client.as_ref())
            .map(|flow| flow.opening_age_ns)
            .max();
        return Pace::Slow {
            growth_ms: waited_ns.unwrap_or(0) as f64 / 1e6,
            since_ns: trouble.since_ns,
        };
    }
    let network = edge.norm.network_ms;
    if let (Some(now), true) = (edge.now.value.network_ms(), network.count > 0) {
        let floor = NETWORK_FLOOR_MS
            .max(network.median)
            .max(NETWORK_SPREADS * network.spread)
            * scene.threshold_factor();
        let mut latest = edge.recent().rev().filter_map(|tick| tick.value.network_ms()).take(2);
        if now - network.median < floor / 2.0 && latest.all(|value| value - network.median < floor) {
            return Pace::Usual;
        }
        let pace = shifted(edge, &EdgeFlow::network_ms, network.median, floor);
        if pace != Pace::Unknown || now - network.median < floor / 2.0 {
            return if pace == Pace::Unknown { Pace::Usual } else { pace };
        }
    }
    // Callers that give up early leave no latency behind, and outside callers have none that is visible.
    let srtt = edge.norm.srtt_ms;
    if srtt.count > 0 && edge.now.value.srtt_ms().is_some() {
        let floor = SRTT_FLOOR_MS.max(srtt.median).max(NETWORK_SPREADS * srtt.spread) * scene.threshold_factor();
        return shifted(edge, &EdgeFlow::srtt_ms, srtt.median, floor);
    }
    Pace::Unknown
}

/// The ticks since the onset of a shift by at least `floor`, if it held.
fn shifted(edge: &EdgeView<'_>, value: &dyn Fn(&EdgeFlow) -> Option<f64>, usual: f64, floor: f64) -> Pace {
    let ticks: Vec<(u64, f64)> = edge
        .recent()
        .filter_map(|tick| Some((tick.at_ns, value(&tick.value)?)))
        .collect();
    let values: Vec<f64> = ticks.iter().map(|&(_, value)| value).collect();
    let Some(onset) = change_point::onset(&values, usual, usual + 2.0 * floor) else {
        return Pace::Unknown;
    };
    let after = &values[onset..];
    let held: Vec<f64> = after.iter().copied().filter(|value| value - usual >= floor).collect();
    if held.len() < HELD_TICKS_MIN || (held.len() as f64) < HELD_SHARE * after.len() as f64 {
        return Pace::Unknown;
    }
    let growth_ms = held.iter().sum::<f64>() / held.len() as f64 - usual;
    Pace::Slow {
        growth_ms,
        since_ns: ticks[onset].0,
    }
}
