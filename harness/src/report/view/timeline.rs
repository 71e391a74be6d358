//! The story of a run in seconds since load began: phases, users' experience, faults, what was held true, moments.

use std::time::Duration;

use super::super::evidence::RunEvidence;
use super::super::text::seconds_of;
use crate::clock::MonotonicNanos;
use crate::run::result::{DetectorResult, FaultRecord, Held, RunResult};
use crate::score::moments::TimeTo;

/// What happened when.
#[derive(Clone, Debug, Default)]
pub struct TimelineView {
    /// Length, seconds.
    pub duration_s: f64,
    /// Phases of the run.
    pub phases: Vec<Span>,
    /// Faults, from injection to recovery.
    pub faults: Vec<Span>,
    /// Moments in their order.
    pub moments: Vec<Moment>,
    /// Users' experience.
    pub seconds: Vec<Second>,
    /// What each detector held at rank 1.
    pub lanes: Vec<Lane>,
}

/// A stretch of time.
#[derive(Clone, Debug)]
pub struct Span {
    /// Its name.
    pub name: String,
    /// Its start, seconds.
    pub from_s: f64,
    /// Its end, seconds.
    pub to_s: f64,
}

/// A moment that scores or people ask for.
#[derive(Clone, Debug)]
pub struct Moment {
    /// Its name.
    pub name: String,
    /// When, seconds.
    pub at_s: f64,
    /// When, seconds from the onset; `None` without an onset.
    pub from_onset_s: Option<f64>,
    /// What it means.
    pub meaning: &'static str,
}

/// One second of users' experience.
#[derive(Clone, Copy, Debug)]
pub struct Second {
    /// Its end, seconds.
    pub at_s: f64,
    /// Requests that were due.
    pub sent: u64,
    /// Good answers.
    pub ok: u64,
    /// Failed requests.
    pub errors: u64,
    /// Median latency, microseconds.
    pub p50_us: u64,
    /// 99th percentile, microseconds.
    pub p99_us: u64,
}

/// What one detector held at rank 1 over time.
#[derive(Clone, Debug, Default)]
pub struct Lane {
    /// The detector.
    pub name: String,
    /// Its first answers.
    pub spans: Vec<LaneSpan>,
}

/// One answer held for a time.
#[derive(Clone, Debug)]
pub struct LaneSpan {
    /// Entity and mechanism, and when.
    pub span: Span,
    /// It is in the truth set.
    pub right: bool,
}

/// Puts a run's story into seconds.
#[must_use]
pub fn timeline(evidence: &RunEvidence) -> TimelineView {
    let result = &evidence.result;
    let clock = Clock {
        // What starting took is nobody's experience; a run without load has only its start.
        zero_ns: result.moments.load_ns.max(result.moments.started_ns),
    };
    let fault = |record: &FaultRecord| {
        let step = evidence.plan.steps.iter().find(|step| step.fault.id == record.fault);
        Some(Span {
            name: step.map_or_else(|| record.fault.clone(), crate::timeline::step_text),
            from_s: clock.seconds(record.injected_ns?),
            to_s: clock.seconds(record.recovered_ns.unwrap_or(result.moments.end_ns)),
        })
    };
    TimelineView {
        duration_s: clock.seconds(result.moments.end_ns),
        phases: phases(result, &clock),
        faults: result.faults.iter().filter_map(fault).collect(),
        moments: moments(result, &clock),
        seconds: seconds(result, &clock),
        lanes: std::iter::once(&result.detector)
            .chain(&result.rivals)
            .map(|one| lane(one, &clock))
            .collect(),
    }
}

struct Clock {
    zero_ns: MonotonicNanos,
}

impl Clock {
    fn seconds(&self, at_ns: MonotonicNanos) -> f64 {
        seconds_of(at_ns.saturating_sub(self.zero_ns))
    }
}

fn phases(result: &RunResult, clock: &Clock) -> Vec<Span> {
    let moments = &result.moments;
    let phases = [
        ("warm-up", moments.load_ns, moments.baseline_ns),
        ("baseline", moments.baseline_ns, moments.fault_phase_ns),
        ("fault", moments.fault_phase_ns, moments.recovered_ns),
        ("recovery", moments.recovered_ns, moments.end_ns),
    ];
    let span = |(name, from_ns, to_ns): (&str, u64, u64)| Span {
        name: name.to_owned(),
        from_s: clock.seconds(from_ns),
        to_s: clock.seconds(to_ns),
    };
    phases.into_iter().map(span).collect()
}

fn seconds(result: &RunResult, clock: &Clock) -> Vec<Second> {
    let second = |second: &crate::check::sli::SliSecond| Second {
        at_s: clock.seconds(second.end_ns),
        sent: second.sent,
        ok: second.ok,
        errors: second.errors,
        p50_us: second.p50_us,
        p99_us: second.p99_us,
    };
    let mut seconds: Vec<Second> = result.seconds.iter().map(second).collect();
    // The load ends within a second, which says nothing about a whole one.
    let last_whole_ns = result.moments.end_ns + u64::try_from(Duration::from_millis(100).as_nanos()).unwrap_or(0);
    if result.seconds.last().is_some_and(|last| last.end_ns > last_whole_ns) {
        seconds.pop();
    }
    seconds
}

fn moments(result: &RunResult, clock: &Clock) -> Vec<Moment> {
    let onset_ns = result.onset_ns();
    let mut moments = Vec::new();
    let mut add = |at_ns: Option<MonotonicNanos>, name: &str, meaning| {
        let Some(at_ns) = at_ns else { return };
        let at_s = clock.seconds(at_ns);
        moments.push(Moment {
            name: name.to_owned(),
            at_s,
            from_onset_s: onset_ns.map(|onset_ns| at_s - clock.seconds(onset_ns)),
            meaning,
        });
    };
    let injected_ns = result.faults.iter().filter_map(|fault| fault.injected_ns).min();
    add(injected_ns, "injected", "the injector returned");
    add(
        onset_ns,
        "onset",
        "the fault's effect was measured for the first time; scores run from here",
    );
    add(
        result.moments.impact_ns,
        "impact",
        "users were harmed for the first time",
    );
    if let (Some(onset_ns), Some(answer)) = (onset_ns, &result.detector.score.answer) {
        let at = |time| match time {
            TimeTo::Reached { after_ns } => Some(onset_ns + after_ns),
            TimeTo::NotReached { .. } => None,
        };
        add(
            at(answer.time_to_detect),
            "detected",
            "the detector's first alert after the onset",
        );
        add(
            at(answer.time_to_root_cause),
            "right answer",
            "from here on the true cause stayed at rank 1",
        );
    }
    if injected_ns.is_some() {
        add(Some(result.moments.recovered_ns), "undone", "every fault was undone");
        add(
            result.moments.steady_again_ns,
            "steady again",
            "users saw normal service again",
        );
    }
    moments.sort_by(|one, other| one.at_s.total_cmp(&other.at_s));
    moments
}

fn lane(detector: &DetectorResult, clock: &Clock) -> Lane {
    let span = |held: &Held| LaneSpan {
        span: Span {
            name: held.text.clone(),
            from_s: clock.seconds(held.from_ns),
            to_s: clock.seconds(held.to_ns),
        },
        right: held.right,
    };
    Lane {
        name: detector.score.detector.clone(),
        spans: detector.held.iter().map(span).collect(),
    }
}
