//! What of a caller's slowness do its callees explain? What is left is its own.

use crate::scene::{EdgeView, PodIx, Scene};
use crate::weakness::Weakness;

/// A pod's latency as a server, now and usually, and how much of the change its own calls explain; milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Slowness {
    /// Mean of the inbound edges' median latencies, now.
    pub now_ms: f64,
    /// Usually.
    pub usual_ms: f64,
    /// Spread of what is usual.
    pub spread_ms: f64,
    /// Growth of the time spent in calls, per request served.
    pub explained_ms: f64,
    /// Some of its calls fail: their time cannot be measured, and is taken to explain everything.
    pub calls_fail: bool,
}

impl Slowness {
    /// Growth that is the pod's own.
    #[must_use]
    pub fn residual_ms(&self) -> f64 {
        if self.calls_fail {
            0.0
        } else {
            (self.now_ms - self.usual_ms - self.explained_ms).max(0.0)
        }
    }
}

/// Requests in vain per answer from which calls count as failing.
const FAILING_SHARE: f64 = 0.1;

/// Slowness of `pod`; `None` if nothing is known.
#[must_use]
pub fn slowness(scene: &Scene<'_>, pod: PodIx) -> Option<Slowness> {
    let view = &scene.pods[pod];
    let mut sum = Slowness::default();
    let mut weight = 0.0;
    for &edge in &view.inbound {
        let edge = &scene.edges[edge];
        let (Some(now), true) = (
            edge.now.value.at_server().and_then(|flow| flow.latency_ms()),
            edge.norm.learned(),
        ) else {
            continue;
        };
        let usual = if edge.norm.server_ms.count > 0 {
            edge.norm.server_ms
        } else {
            edge.norm.client_ms
        };
        let share = f64::from(edge.now.value.at_server().map_or(0, |flow| flow.responses));
        sum.now_ms += share * now;
        sum.usual_ms += share * usual.median;
        sum.spread_ms += share * usual.spread;
        weight += share;
    }
    if weight == 0.0 {
        return None;
    }
    sum.now_ms /= weight;
    sum.usual_ms /= weight;
    sum.spread_ms /= weight;
    if scene.weakness == Some(Weakness::NoResiduals) {
        return Some(sum);
    }
    for &edge in &view.outbound {
        let edge = &scene.edges[edge];
        sum.calls_fail |= failing(edge);
        sum.explained_ms += call_growth_ms(edge, view.demand.now, view.demand.usual);
    }
    Some(sum)
}

/// Calls on `edge` fail more than they usually do.
#[must_use]
pub fn failing(edge: &EdgeView<'_>) -> bool {
    let Some(flow) = edge.now.value.best() else {
        return false;
    };
    let failed = f64::from(flow.failed_connects() + flow.broken + flow.errors);
    let usual = (edge.norm.failure_rate + edge.norm.error_ratio * edge.norm.response_rate) * edge.now.seconds;
    failed - usual >= FAILING_SHARE * f64::from(flow.responses.max(10))
        || flow.outstanding_age_ns > 1_000_000_000
        || (flow.requests >= 10 && f64::from(flow.responses) < 0.8 * f64::from(flow.requests))
}

/// Growth of the time that calls on `edge` take per request that the caller serves, milliseconds.
fn call_growth_ms(edge: &EdgeView<'_>, serves_now: f64, serves_usual: f64) -> f64 {
    let Some(flow) = edge.now.value.best() else { return 0.0 };
    let per_request = |calls: f64, serves: f64| if serves > 0.0 { calls / serves } else { 0.0 };
    let calls_now = f64::from(flow.responses) / edge.now.seconds.max(0.001);
    let now = flow.latency_ms_mean().unwrap_or(0.0) * per_request(calls_now, serves_now);
    let usual = edge.norm.client_mean_ms * per_request(edge.norm.response_rate, serves_usual);
    (now - usual).max(0.0)
}
