//! The strangest is to blame: the service with the signal farthest out of range.

use super::{Loudness, NAMED_MAX, Patience, Rival, by_service, statement};
use crate::diagnosis::Candidate;
use crate::scene::Scene;

/// Name under which it speaks.
pub const NAME: &str = "max-z";

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct MaxZ {
    patience: Patience,
}

impl Rival for MaxZ {
    fn name(&self) -> &'static str {
        NAME
    }

    fn judge(&mut self, scene: &Scene<'_>) -> Vec<Candidate> {
        let alerts = self.patience.lasting(scene);
        let mut order = by_service(&alerts);
        order.sort_by(|a, b| b.farthest.z.total_cmp(&a.farthest.z));
        let said = |Loudness { count: _, farthest }: &Loudness| {
            let confidence = farthest.z / (farthest.z + 10.0);
            let words = format!("a signal {:.1} spreads from its median", farthest.z);
            statement(scene, &alerts, farthest, confidence, words)
        };
        order.iter().take(NAMED_MAX).map(said).collect()
    }
}
