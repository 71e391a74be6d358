//! The edges of a frame, by key, each once.

use gauntlet_probes::frame::Frame;

use super::{EdgeKey, fold_outside};
use crate::signal::{Accumulate as _, EdgeFlow, Flow};

/// What one frame says of one edge.
pub(super) struct EdgeTick<'a> {
    pub(super) key: EdgeKey,
    pub(super) flow: EdgeFlow,
    pub(super) via: Option<&'a String>,
}

/// The edges of a frame, by key, each once.
pub(super) fn ticks_of(frame: &Frame) -> Vec<EdgeTick<'_>> {
    let samples = frame.edges.iter().map(|sample| EdgeTick {
        key: EdgeKey {
            caller: fold_outside(&sample.caller),
            callee: sample.callee.clone(),
            port: sample.port,
        },
        flow: EdgeFlow::of(sample),
        via: sample.via.as_ref(),
    });
    let mut ticks: Vec<EdgeTick<'_>> = samples.collect();
    ticks.sort_by(|a, b| a.key.cmp(&b.key));
    ticks.dedup_by(|later, first| {
        let same = later.key == first.key;
        if same {
            add_parallel(&mut first.flow, &later.flow);
            first.via = later.via.or(first.via);
        }
        same
    });
    ticks
}

/// Adds a sample of the same edge and tick (another virtual address, another outside caller): gauges take the larger.
fn add_parallel(known: &mut EdgeFlow, other: &EdgeFlow) {
    let gauges = |flow: &Option<Flow>| {
        flow.as_ref().map(|flow| {
            (
                flow.open,
                flow.opening_age_ns,
                flow.unread_connections,
                flow.unread_age_ns,
                flow.accept_backlog,
                flow.outstanding,
                flow.outstanding_age_ns,
            )
        })
    };
    let before = (gauges(&known.client), gauges(&known.server));
    let other_gauges = (gauges(&other.client), gauges(&other.server));
    known.absorb(other);
    for (flow, before, other) in [
        (&mut known.client, before.0, other_gauges.0),
        (&mut known.server, before.1, other_gauges.1),
    ] {
        let (Some(flow), Some(before)) = (flow.as_mut(), before) else {
            continue;
        };
        let other = other.unwrap_or_default();
        flow.open = before.0 + other.0;
        flow.opening_age_ns = before.1.max(other.1);
        flow.unread_connections = before.2 + other.2;
        flow.unread_age_ns = before.3.max(other.3);
        flow.accept_backlog = before.4 + other.4;
        flow.outstanding = before.5 + other.5;
        flow.outstanding_age_ns = before.6.max(other.6);
    }
}
