//! The loudest is to blame: the service with the most signals out of range.

use super::{Loudness, NAMED_MAX, Patience, Rival, by_service, statement};
use crate::diagnosis::Candidate;
use crate::scene::Scene;

/// Name under which it speaks.
pub const NAME: &str = "alert-count";

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct AlertCount {
    patience: Patience,
}

impl Rival for AlertCount {
    fn name(&self) -> &'static str {
        NAME
    }

    fn judge(&mut self, scene: &Scene<'_>) -> Vec<Candidate> {
        let alerts = self.patience.lasting(scene);
        let mut order = by_service(&alerts);
        order.sort_by(|a, b| b.count.cmp(&a.count).then(b.farthest.z.total_cmp(&a.farthest.z)));
        let said = |Loudness { count, farthest }: &Loudness| {
            let confidence = *count as f64 / alerts.len() as f64;
            let words = format!("{count} signals beyond three spreads");
            statement(scene, &alerts, farthest, confidence, words)
        };
        order.iter().take(NAMED_MAX).map(said).collect()
    }
}
