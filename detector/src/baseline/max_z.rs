//! The strangest is to blame: the service with the signal farthest out of range.

use std::collections::BTreeMap;

use super::{Alert, Rival, alerts, statement};
use crate::diagnosis::Candidate;
use crate::scene::Scene;
use crate::topology::ServiceIx;

/// Steps in a row with alerts before anything is said: a second at 200 ms.
const STEPS_MIN: u32 = 5;

/// Name under which it speaks.
pub const NAME: &str = "max-z";

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct MaxZ {
    steps: u32,
}

impl Rival for MaxZ {
    fn name(&self) -> &'static str {
        NAME
    }

    fn judge(&mut self, scene: &Scene<'_>) -> Vec<Candidate> {
        let alerts = alerts(scene);
        self.steps = if alerts.is_empty() { 0 } else { self.steps + 1 };
        if self.steps < STEPS_MIN {
            return Vec::new();
        }
        let mut strangest: BTreeMap<ServiceIx, Alert> = BTreeMap::new();
        for alert in &alerts {
            let known = strangest.entry(alert.service).or_insert(*alert);
            if alert.z > known.z {
                *known = *alert;
            }
        }
        let mut order: Vec<Alert> = strangest.into_values().collect();
        order.sort_by(|a, b| b.z.total_cmp(&a.z));
        let said = |alert: &Alert| {
            let confidence = alert.z / (alert.z + 10.0);
            statement(
                scene,
                &alerts,
                alert,
                confidence,
                format!("a signal {:.1} spreads from its median", alert.z),
            )
        };
        order.iter().take(5).map(said).collect()
    }
}
