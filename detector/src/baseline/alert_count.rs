//! The loudest is to blame: the service with the most signals out of range.

use std::collections::BTreeMap;

use super::{Alert, Rival, alerts, statement};
use crate::diagnosis::Candidate;
use crate::scene::Scene;
use crate::topology::ServiceIx;

/// Steps in a row with alerts before anything is said: a second at 200 ms.
const STEPS_MIN: u32 = 5;

/// Name under which it speaks.
pub const NAME: &str = "alert-count";

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct AlertCount {
    steps: u32,
}

impl Rival for AlertCount {
    fn name(&self) -> &'static str {
        NAME
    }

    fn judge(&mut self, scene: &Scene<'_>) -> Vec<Candidate> {
        let alerts = alerts(scene);
        self.steps = if alerts.is_empty() { 0 } else { self.steps + 1 };
        if self.steps < STEPS_MIN {
            return Vec::new();
        }
        let mut loudest: BTreeMap<ServiceIx, (usize, Alert)> = BTreeMap::new();
        for alert in &alerts {
            let known = loudest.entry(alert.service).or_insert((0, *alert));
            known.0 += 1;
            if alert.z > known.1.z {
                known.1 = *alert;
            }
        }
        let mut order: Vec<(usize, Alert)> = loudest.into_values().collect();
        order.sort_by(|a, b| b.0.cmp(&a.0).then(b.1.z.total_cmp(&a.1.z)));
        let said = |(count, alert): &(usize, Alert)| {
            let confidence = *count as f64 / alerts.len() as f64;
            statement(
                scene,
                &alerts,
                alert,
                confidence,
                format!("{count} signals beyond three spreads"),
            )
        };
        order.iter().take(5).map(said).collect()
    }
}
