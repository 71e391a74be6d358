//! Two naive rivals on the same windows: what a dashboard with thresholds would say.
//!
//! A scenario that they solve is an easy one. They share our windows and their norms, and nothing of the reasoning.

pub mod alert_count;
pub mod max_z;

use std::collections::BTreeMap;
use std::fmt;

use crate::diagnosis::{Candidate, Entity, Mechanism};
use crate::scene::{PodIx, Scene};
use crate::topology::ServiceIx;
use crate::window::CELLS_MIN;

/// A detector that judges scenes.
pub trait Rival: fmt::Debug + Send {
    /// Name under which its statements are made.
    fn name(&self) -> &'static str;
    /// Its candidates, most likely first.
    fn judge(&mut self, scene: &Scene<'_>) -> Vec<Candidate>;
}

/// A signal of a pod that left its usual range.
#[derive(Clone, Copy, Debug)]
pub struct Alert {
    /// The pod's service.
    pub service: ServiceIx,
    /// The pod.
    pub pod: PodIx,
    /// How far, in usual spreads.
    pub z: f64,
    /// What a naive reader takes it for.
    pub mechanism: Mechanism,
}

/// Steps in a row with alerts before a rival says anything: a second at 200 ms.
const STEPS_MIN: u32 = 5;
/// Most services that a rival names.
const NAMED_MAX: usize = 5;

/// Waits until alerts last.
#[derive(Clone, Debug, Default)]
struct Patience {
    steps: u32,
}

impl Patience {
    /// All alerts, once there have been some for [`STEPS_MIN`] steps; none before.
    fn lasting(&mut self, scene: &Scene<'_>) -> Vec<Alert> {
        let alerts = alerts(scene);
        self.steps = if alerts.is_empty() { 0 } else { self.steps + 1 };
        if self.steps < STEPS_MIN { Vec::new() } else { alerts }
    }
}

/// What alerts say of one service.
#[derive(Clone, Copy, Debug)]
struct Loudness {
    /// How many they are.
    count: usize,
    /// The one farthest out of range.
    farthest: Alert,
}

/// Each service with alerts, in no order that means anything.
fn by_service(alerts: &[Alert]) -> Vec<Loudness> {
    let mut services: BTreeMap<ServiceIx, Loudness> = BTreeMap::new();
    for alert in alerts {
        let known = services.entry(alert.service).or_insert(Loudness {
            count: 0,
            farthest: *alert,
        });
        known.count += 1;
        if alert.z > known.farthest.z {
            known.farthest = *alert;
        }
    }
    services.into_values().collect()
}

/// Spreads from which a signal alerts: the customary three.
const ALERT_Z: f64 = 3.0;
/// Share of the median below which no spread is believed; else steady signals alert at once.
const SPREAD_SHARE_MIN: f64 = 0.15;

/// All signals of all pods that left their usual range.
#[must_use]
pub fn alerts(scene: &Scene<'_>) -> Vec<Alert> {
    let mut alerts = Vec::new();
    for (pod, view) in scene.pods.iter().enumerate() {
        let mut note = |z: f64, mechanism: Mechanism| {
            if z.abs() >= ALERT_Z {
                alerts.push(Alert {
                    service: view.service,
                    pod,
                    z: z.abs(),
                    mechanism,
                });
            }
        };
        for edge in view
            .inbound
            .iter()
            .map(|&edge| &scene.edges[edge])
            .filter(|edge| edge.norm.learned())
        {
            let Some(flow) = edge.now.value.at_server() else {
                continue;
            };
            let rate = f64::from(flow.requests) / edge.now.seconds.max(0.001);
            let usual = edge.norm.request_rate;
            note(
                usual.z(rate, (SPREAD_SHARE_MIN * usual.median).max(2.0)),
                Mechanism::LoadSurge,
            );
            let latency = if edge.norm.server_ms.count > 0 {
                edge.norm.server_ms
            } else {
                edge.norm.client_ms
            };
            if let Some(now) = flow.latency_ms() {
                note(
                    latency.z(now, (SPREAD_SHARE_MIN * latency.median).max(0.5)),
                    Mechanism::AppSlow,
                );
            }
            let error_ratio = f64::from(flow.errors) / f64::from(flow.responses.max(1));
            note((error_ratio - edge.norm.error_ratio) / 0.02, Mechanism::AppError);
            let retransmits = f64::from(edge.now.value.retransmits()) / edge.now.seconds.max(0.001);
            note((retransmits - edge.norm.retransmit_rate) / 1.0, Mechanism::NetworkLoss);
        }
        if let Some(usage) = view.usage.as_ref().filter(|usage| usage.norm.cell_count >= CELLS_MIN) {
            let cores = usage.now.value.cpu_ns as f64 / 1e9 / usage.now.seconds.max(0.001);
            note(
                usage
                    .norm
                    .cores
                    .z(cores, (SPREAD_SHARE_MIN * usage.norm.cores.median).max(0.02)),
                Mechanism::ResourceCpu,
            );
            note(
                (usage.now.value.throttled_ratio() - usage.norm.throttled_ratio.median) / 0.05,
                Mechanism::ResourceCpu,
            );
        }
    }
    alerts
}

/// A statement about one service. Rivals know no path and give no evidence beyond their number.
fn statement(scene: &Scene<'_>, alerts: &[Alert], blamed: &Alert, confidence: f64, words: String) -> Candidate {
    let mut pods: Vec<_> = alerts
        .iter()
        .filter(|alert| alert.service == blamed.service)
        .map(|alert| scene.pods[alert.pod].name.clone())
        .collect();
    pods.sort();
    pods.dedup();
    let mut nodes: Vec<_> = scene
        .pods
        .iter()
        .filter(|pod| pods.contains(pod.name))
        .map(|pod| scene.nodes[pod.node].name.clone())
        .collect();
    nodes.sort();
    nodes.dedup();
    Candidate {
        entity: Entity::Service {
            name: scene.services[blamed.service].clone(),
        },
        mechanism: blamed.mechanism,
        confidence: (confidence * 100.0).round() / 100.0,
        since_ns: scene.now_ns,
        pods,
        nodes,
        evidence: vec![words],
        path: vec![scene.services[blamed.service].clone()],
    }
}
