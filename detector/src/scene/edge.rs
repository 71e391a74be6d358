//! An edge of a scene, its ends, and what became of its requests.

use gauntlet_probes::frame::MonotonicNanos;

use super::PodIx;
use crate::memory::EdgeMemory;
use crate::signal::{EdgeFlow, Flow};
use crate::window::{EdgeNorm, Timed};

/// One end of an edge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// A pod.
    Pod(PodIx),
    /// A virtual address: one of these pods.
    OneOf(Vec<PodIx>),
    /// A node, or an address outside.
    Outside,
}

impl End {
    /// The pods that it is or may be.
    #[must_use]
    pub fn pods(&self) -> &[PodIx] {
        match self {
            Self::Pod(pod) => std::slice::from_ref(pod),
            Self::OneOf(pods) => pods,
            Self::Outside => &[],
        }
    }
}

/// An edge now.
#[derive(Debug)]
pub struct EdgeView<'a> {
    /// Who calls.
    pub caller: End,
    /// Who is called.
    pub callee: End,
    /// The port dialled.
    pub port: u16,
    /// In the current window.
    pub now: Timed<EdgeFlow>,
    /// Usually.
    pub norm: &'a EdgeNorm,
    /// Answers per second that the caller's own demand makes one expect now.
    pub expected_rate: f64,
    /// Since the first tick in which something failed, in the last seconds.
    pub trouble: Option<Trouble>,
    pub(super) memory: &'a EdgeMemory,
}

/// What came of an edge's requests since something failed first.
#[derive(Clone, Copy, Debug)]
pub struct Trouble {
    /// The first tick in which something failed.
    pub since_ns: MonotonicNanos,
    /// Time since then, that tick excluded, seconds.
    pub seconds: f64,
    /// Answers since then.
    pub answers: u32,
    /// Requests and connections in vain since then.
    pub vain: u32,
    /// Connections tried since then.
    pub attempted: u32,
    /// Connections opened since then.
    pub opened: u32,
}

impl Trouble {
    /// Share of what was expected (or tried, where nothing is expected) that succeeded.
    #[must_use]
    pub fn progress(&self, expected_rate: f64) -> f64 {
        let tried = f64::from(self.answers + self.vain).max(expected_rate * self.seconds);
        if tried > 0.0 {
            f64::from(self.answers) / tried
        } else {
            0.0
        }
    }
}

impl EdgeView<'_> {
    /// Tick by tick, oldest first.
    pub fn recent(&self) -> impl DoubleEndedIterator<Item = &Timed<EdgeFlow>> + Clone {
        self.memory.track.recent()
    }

    /// The virtual service that the caller dialled last.
    #[must_use]
    pub fn via(&self) -> Option<&str> {
        self.memory.via.as_deref()
    }

    /// Requests are made on it, now or usually.
    #[must_use]
    pub fn asks(&self) -> bool {
        self.norm.busy_cells > 0 || self.now.value.best().is_some_and(|flow| flow.requests > 0)
    }

    /// Answers in the current window.
    #[must_use]
    pub fn answers(&self) -> u32 {
        self.now.value.best().map_or(0, |flow| flow.responses)
    }

    /// Answers come as they should and nothing fails any more, in the latest ticks.
    #[must_use]
    pub fn healed(&self) -> bool {
        let latest = self.memory.track.since(HEALED_SECONDS);
        let answers = latest.value.best().map_or(0, |flow| flow.responses);
        let failed = latest.value.best().map_or(0, Flow::failed_connects) + latest.value.dropped;
        answers > 0 && failed == 0 && f64::from(answers) >= HEALED_SHARE * self.expected_rate * latest.seconds
    }

    /// Nothing has failed for a while, and answers have come: however much failed before, and however little is asked, it
    /// comes through again.
    #[must_use]
    pub fn flows_again(&self) -> bool {
        let since = self.recent().rev().take_while(|tick| !tick.value.troubled());
        let (mut seconds, mut answers) = (0.0, 0);
        for tick in since {
            seconds += tick.seconds;
            answers += tick.value.best().map_or(0, |flow| flow.responses);
        }
        answers > 0 && seconds + 0.01 >= HEALED_SECONDS
    }

    /// Enough was seen, and enough is expected in the current window, to miss it.
    #[must_use]
    pub fn judgeable(&self) -> bool {
        self.norm.learned() && self.expected_rate * self.now.seconds >= EXPECTED_MIN
    }
}

/// Seconds without failure after which an edge has healed: three ticks, in which whoever is blocked tries again.
const HEALED_SECONDS: f64 = 0.6;
/// Share of the expected answers that a healed edge gives at least.
const HEALED_SHARE: f64 = 0.4;

/// Answers expected in a window without which their absence is no evidence: five missing is rarer than 1 in 100.
pub const EXPECTED_MIN: f64 = 5.0;

/// What came of the requests on `edge` since something failed in its recent ticks.
pub(super) fn trouble(edge: &EdgeMemory) -> Option<Trouble> {
    let mut ticks = edge.track.recent().skip_while(|tick| !tick.value.troubled());
    let first = ticks.next()?;
    let mut trouble = Trouble {
        since_ns: first.at_ns,
        seconds: 0.0,
        answers: 0,
        vain: first.value.vain(),
        attempted: 0,
        opened: 0,
    };
    for tick in ticks {
        trouble.seconds += tick.seconds;
        trouble.vain += tick.value.vain();
        if let Some(flow) = tick.value.best() {
            trouble.answers += flow.responses;
            trouble.attempted += flow.attempted;
            trouble.opened += flow.opened;
        }
    }
    Some(trouble)
}
