//! Ways to make the judge worse on purpose: whoever gates detectors must notice each of them.
//!
//! For such proofs only. [`crate::pipeline::Config::weakness`] is `None`, and no option of the program sets it; see
//! `examples/weakened.rs`. What a weakness costs is for a score to say, not for this module.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use gauntlet_probes::entity::Peer;
use gauntlet_probes::frame::{Frame, MonotonicNanos};

use crate::diagnosis::{Candidate, Mechanism};
use crate::evidence::Finding;
use crate::window::Learn;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weakness {
    /// The rule for packet filters is gone.
    NoFilterRule,
    /// The rule for stopped processes is gone.
    NoHangRule,
    /// Records of dropped packets are not read.
    DropsUnread,
    /// Ends of processes and resets are not read.
    EndsUnread,
    /// Edges are seen from their callers' side only.
    CalleesUnseen,
    /// The current window is twice as long.
    DoubledWindow,
    /// Calls between pods are taken to go from callee to caller.
    ReversedEdges,
    /// Latencies, losses, throttling, unread data and demand must leave what is usual three times as far.
    TripledThresholds,
    /// Whoever complains is to blame: what the affected edges have in common is not looked for.
    NoCommonality,
    /// What callees explain is not taken off a caller's slowness.
    NoResiduals,
    /// A belief lasts for one tick.
    NoHold,
    /// Beliefs grow three times as slowly.
    SlowBelief,
    /// The candidates' order is shuffled, by the time of the statement.
    ShuffledConfidence,
    /// What is usual is never learned: nothing becomes baseline.
    FrozenBaseline,
    /// What happens during a fault becomes usual like anything else.
    LearnsFaults,
}

impl Weakness {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::NoFilterRule,
        Self::NoHangRule,
        Self::DropsUnread,
        Self::EndsUnread,
        Self::CalleesUnseen,
        Self::DoubledWindow,
        Self::ReversedEdges,
        Self::TripledThresholds,
        Self::NoCommonality,
        Self::NoResiduals,
        Self::NoHold,
        Self::SlowBelief,
        Self::ShuffledConfidence,
        Self::FrozenBaseline,
        Self::LearnsFaults,
    ];

    /// Its name on a command line, for example `no-filter-rule`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoFilterRule => "no-filter-rule",
            Self::NoHangRule => "no-hang-rule",
            Self::DropsUnread => "drops-unread",
            Self::EndsUnread => "ends-unread",
            Self::CalleesUnseen => "callees-unseen",
            Self::DoubledWindow => "doubled-window",
            Self::ReversedEdges => "reversed-edges",
            Self::TripledThresholds => "tripled-thresholds",
            Self::NoCommonality => "no-commonality",
            Self::NoResiduals => "no-residuals",
            Self::NoHold => "no-hold",
            Self::SlowBelief => "slow-belief",
            Self::ShuffledConfidence => "shuffled-confidence",
            Self::FrozenBaseline => "frozen-baseline",
            Self::LearnsFaults => "learns-faults",
        }
    }

    /// What is left of a frame.
    pub(crate) fn blind(self, frame: &Frame) -> Cow<'_, Frame> {
        let mut frame = Cow::Borrowed(frame);
        if self == Self::DropsUnread {
            frame.to_mut().drops.clear();
        } else if self == Self::EndsUnread {
            frame.to_mut().events.clear();
            frame.to_mut().resets.clear();
        } else if self == Self::CalleesUnseen {
            frame.to_mut().edges.iter_mut().for_each(|edge| edge.server = None);
        } else if self == Self::ReversedEdges {
            for edge in &mut frame.to_mut().edges {
                if let (Peer::Pod(_), Peer::Pod(_)) = (&edge.caller, &edge.callee) {
                    std::mem::swap(&mut edge.caller, &mut edge.callee);
                }
            }
        }
        frame
    }

    /// Whether to learn, when health would be learned as `learn` says.
    pub(crate) fn learns(self, learn: Learn) -> Learn {
        if self == Self::FrozenBaseline {
            Learn::No
        } else if self == Self::LearnsFaults {
            Learn::Yes
        } else {
            learn
        }
    }

    /// Whether the rule that made `finding` is still there.
    pub(crate) fn keeps(self, finding: &Finding) -> bool {
        !(self == Self::NoFilterRule && finding.mechanism == Mechanism::NetworkFilter
            || self == Self::NoHangRule && finding.mechanism == Mechanism::ProcessHang)
    }

    /// Turns the candidates by as many places as the tick's number of a second says.
    pub(crate) fn reorder(self, at_ns: MonotonicNanos, candidates: &mut [Candidate]) {
        if self == Self::ShuffledConfidence && !candidates.is_empty() {
            let places = (at_ns / SHUFFLE_NS) as usize % candidates.len();
            candidates.rotate_left(places);
        }
    }
}

/// Time after which shuffled candidates stand in another order, nanoseconds.
const SHUFFLE_NS: u64 = 1_000_000_000;

impl fmt::Display for Weakness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Not a weakness.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no weakness is called `{0}`; there are: {names}", names = Weakness::ALL.map(Weakness::name).join(", "))]
pub struct UnknownWeakness(pub String);

impl FromStr for Weakness {
    type Err = UnknownWeakness;

    fn from_str(text: &str) -> Result<Self, UnknownWeakness> {
        Self::ALL
            .into_iter()
            .find(|weakness| weakness.name() == text)
            .ok_or_else(|| UnknownWeakness(text.to_owned()))
    }
}
