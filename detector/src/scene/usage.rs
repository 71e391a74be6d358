//! What a pod or node of a scene uses.

use crate::memory::UsageMemory;
use crate::signal::Usage;
use crate::window::{Timed, UsageNorm};

/// Resources now and usually.
#[derive(Debug)]
pub struct UsageView<'a> {
    /// In the current window.
    pub now: Timed<Usage>,
    /// Usually.
    pub norm: &'a UsageNorm,
    memory: &'a UsageMemory,
}

impl<'a> UsageView<'a> {
    /// What `memory` says of the last `window_seconds`.
    pub(super) fn of(memory: &'a UsageMemory, window_seconds: f64) -> Self {
        Self {
            now: memory.track.since(window_seconds),
            norm: &memory.norm,
            memory,
        }
    }

    /// Tick by tick, oldest first.
    pub fn recent(&self) -> impl DoubleEndedIterator<Item = &Timed<Usage>> + Clone {
        self.memory.track.recent()
    }
}
