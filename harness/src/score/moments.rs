//! Since when a detector was right, and when it was alarmed for nothing.
//!
//! A statement holds until the next one. What is right is [`super::matching`]'s to say.

use gauntlet_detector::diagnosis::{Diagnosis, Mechanism};
use gauntlet_probes::frame::MonotonicNanos;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::matching::{Granularity, Ranking};
use super::{HOLD, RunRecord};
use crate::scenario::model::Arm;

/// Alerts with less silence between them than this are one episode.
const EPISODE_GAP_NS: u64 = 10_000_000_000;

/// A time from the onset, which may not have been reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "outcome", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum TimeTo {
    /// After this long.
    Reached {
        /// Nanoseconds from the onset.
        after_ns: u64,
    },
    /// Right-censored: not reached while it was watched.
    NotReached {
        /// Nanoseconds from the onset to the end of watching.
        observed_for_ns: u64,
    },
}

/// Alarms without a reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FalseAlarms {
    /// When each episode began.
    pub episodes_ns: Vec<MonotonicNanos>,
    /// How long there was no reason for an alarm.
    pub fault_free_ns: u64,
}

/// What a detector said, as intervals.
pub struct Stream<'a> {
    /// From, until, what; in the order of time, without gaps.
    held: Vec<(MonotonicNanos, MonotonicNanos, &'a Diagnosis)>,
}

impl<'a> Stream<'a> {
    /// Reads a record. Statements after its end are not in it.
    #[must_use]
    pub fn new(record: &'a RunRecord) -> Self {
        let end_ns = record.observation_end_ns;
        let mut said: Vec<&Diagnosis> = record.diagnoses.iter().filter(|said| said.at_ns <= end_ns).collect();
        said.sort_by_key(|said| said.at_ns);
        let until = said
            .iter()
            .skip(1)
            .map(|next| next.at_ns)
            .chain([end_ns])
            .collect::<Vec<_>>();
        Self {
            held: said
                .into_iter()
                .zip(until)
                .map(|(said, until)| (said.at_ns, until, said))
                .collect(),
        }
    }

    /// Maximal intervals in which `holds` is true of what was said last, within `from_ns..to_ns`.
    fn intervals(
        &self,
        from_ns: MonotonicNanos,
        to_ns: MonotonicNanos,
        holds: impl Fn(&Diagnosis) -> bool,
    ) -> Vec<(MonotonicNanos, MonotonicNanos)> {
        let mut intervals: Vec<(MonotonicNanos, MonotonicNanos)> = Vec::new();
        for (start, end, said) in &self.held {
            let (start, end) = ((*start).max(from_ns), (*end).min(to_ns));
            if start >= end || !holds(said) {
                continue;
            }
            match intervals.last_mut() {
                Some(last) if last.1 == start => last.1 = end,
                _ => intervals.push((start, end)),
            }
        }
        intervals
    }

    /// Moments at which silence ended, within `from_ns..=to_ns`.
    fn alerts(&self, from_ns: MonotonicNanos, to_ns: MonotonicNanos) -> impl Iterator<Item = MonotonicNanos> + '_ {
        let all = self.intervals(0, MonotonicNanos::MAX, |said| !said.candidates.is_empty());
        all.into_iter()
            .map(|(start, _)| start)
            .filter(move |start| (from_ns..=to_ns).contains(start))
    }

    /// Number of alerts from `from_ns` until before `to_ns`.
    #[must_use]
    pub fn alerts_between(&self, from_ns: MonotonicNanos, to_ns: MonotonicNanos) -> u32 {
        let count = self.alerts(from_ns, to_ns.saturating_sub(1)).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// From the onset to the first alert in the window.
    #[must_use]
    pub fn time_to_detect(&self, record: &RunRecord, onset_ns: MonotonicNanos) -> TimeTo {
        let until_ns = watched_until(record, onset_ns);
        match self.alerts(onset_ns, until_ns).next() {
            Some(alert_ns) => TimeTo::Reached {
                after_ns: alert_ns - onset_ns,
            },
            None => TimeTo::NotReached {
                observed_for_ns: until_ns.saturating_sub(onset_ns),
            },
        }
    }

    /// From the onset to the start of the first interval in which rank 1 is right and stays so.
    #[must_use]
    pub fn time_to_root_cause(&self, record: &RunRecord, onset_ns: MonotonicNanos, granularity: Granularity) -> TimeTo {
        let recovery_ns = record.recover_start_ns.unwrap_or(MonotonicNanos::MAX);
        let limit_ns = recovery_ns.min(record.observation_end_ns);
        let until_ns = watched_until(record, onset_ns).min(recovery_ns);
        let hold_ns = u64::try_from(HOLD.as_nanos()).expect("seconds");
        let right = self.intervals(onset_ns, limit_ns, |said| {
            Ranking::new(&said.candidates, &record.truth, granularity).is_right()
        });
        let settled = right
            .into_iter()
            .find(|(start, end)| *start <= until_ns && (end - start >= hold_ns || *end >= recovery_ns));
        match settled {
            Some((start, _)) => TimeTo::Reached {
                after_ns: start - onset_ns,
            },
            None => TimeTo::NotReached {
                observed_for_ns: until_ns.saturating_sub(onset_ns),
            },
        }
    }

    /// What was held true when the window, the fault or the recording ended, whichever was first.
    #[must_use]
    pub fn final_answer(&self, record: &RunRecord, onset_ns: MonotonicNanos) -> Option<&'a Diagnosis> {
        let recovery_ns = record.recover_start_ns.unwrap_or(MonotonicNanos::MAX);
        let last_ns = watched_until(record, onset_ns).min(recovery_ns);
        self.held
            .iter()
            .rev()
            .find(|(start, _, _)| *start <= last_ns)
            .map(|(_, _, said)| *said)
    }

    /// Alarms while there was no reason for any. A surge is a reason for `load.surge` only.
    #[must_use]
    pub fn false_alarms(&self, record: &RunRecord) -> FalseAlarms {
        let start_ns = record.observation_start_ns;
        let end_ns = match record.truth.arm {
            Arm::Fault => record
                .onset_ns
                .or(record.inject_ns)
                .unwrap_or(record.observation_end_ns),
            Arm::Surge | Arm::Placebo | Arm::None => record.observation_end_ns,
        };
        let onset_ns = record.onset_ns.unwrap_or(MonotonicNanos::MAX);
        let alarm = |said: &Diagnosis| !said.candidates.is_empty();
        let wrong = |said: &Diagnosis| {
            said.candidates
                .first()
                .is_some_and(|top| top.mechanism != Mechanism::LoadSurge)
        };
        let alarms = match record.truth.arm {
            Arm::Fault | Arm::Placebo | Arm::None => self.intervals(start_ns, end_ns, alarm),
            Arm::Surge => {
                let mut alarms = self.intervals(start_ns, onset_ns.min(end_ns), alarm);
                alarms.extend(self.intervals(onset_ns.min(end_ns), end_ns, wrong));
                alarms
            }
        };
        let mut episodes_ns = Vec::new();
        let mut silent_since = None;
        for (from, until) in alarms {
            if silent_since.is_none_or(|since| from.saturating_sub(since) >= EPISODE_GAP_NS) {
                episodes_ns.push(from);
            }
            silent_since = Some(until);
        }
        FalseAlarms {
            episodes_ns,
            fault_free_ns: end_ns.saturating_sub(start_ns),
        }
    }
}

/// End of the window, or of the recording if that was sooner.
fn watched_until(record: &RunRecord, onset_ns: MonotonicNanos) -> MonotonicNanos {
    let window_ns = u64::try_from(record.window.as_nanos()).unwrap_or(u64::MAX);
    onset_ns.saturating_add(window_ns).min(record.observation_end_ns)
}
