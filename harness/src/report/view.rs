//! What a report shows of a run, already put into words and seconds since the run's start.
//!
//! Between the result and its renderings (page, console), so that all of them say the same.

use super::console::candidate_text;
use super::summary::{rank, reached_s, verdict_name};
use crate::detectors::DetectorEnd;
use crate::plan::TrueCause;
use crate::run::RunOrder;
use crate::run::result::{DetectorResult, Held, RunResult};
use crate::scenario::model::Place;
use crate::score::matching::{PodsAnswer, is_right};
use crate::score::moments::TimeTo;

/// One run, as shown.
#[derive(Clone, Debug, Default)]
pub struct RunView {
    /// Name of the run directory.
    pub run: String,
    /// Version of the harness.
    pub version: String,
    /// Name of the scenario.
    pub scenario: String,
    /// Its title.
    pub title: String,
    /// Its description.
    pub description: String,
    /// Seed of the run.
    pub seed: u64,
    /// `PASS`, `FAIL` or `INCONCLUSIVE`.
    pub verdict: String,
    /// Why, in one sentence.
    pub headline: String,
    /// The truth in words.
    pub truth: String,
    /// The figures that matter most.
    pub tiles: Vec<(String, String)>,
    /// Length of the run.
    pub duration_s: f64,
    /// Phases and the fault.
    pub spans: Vec<Span>,
    /// Moments: seconds, name.
    pub marks: Vec<(f64, String)>,
    /// Users' experience.
    pub seconds: Vec<Second>,
    /// Statements over time, a lane for each detector.
    pub lanes: Vec<Lane>,
    /// Final answers, ours first.
    pub answers: Vec<Answer>,
    /// What the detector cost.
    pub costs: Vec<(String, String)>,
    /// Facts of the run.
    pub facts: Vec<(String, String)>,
}

/// A stretch of time.
#[derive(Clone, Debug)]
pub struct Span {
    /// Its name.
    pub name: String,
    /// `baseline`, `fault` or another phase.
    pub class: String,
    /// Its start.
    pub from_s: f64,
    /// Its end.
    pub to_s: f64,
}

/// One second of users' experience.
#[derive(Clone, Copy, Debug)]
pub struct Second {
    /// Its end.
    pub at_s: f64,
    /// Median latency.
    pub p50_us: u64,
    /// 99th percentile.
    pub p99_us: u64,
    /// Failed requests.
    pub errors: u64,
}

/// Statements of one detector: from, to, whether rank 1 was right, text.
#[derive(Clone, Debug, Default)]
pub struct Lane {
    /// The detector.
    pub name: String,
    /// Its statements.
    pub spans: Vec<(f64, f64, bool, String)>,
}

/// The answer of one detector that was scored.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Who.
    pub detector: String,
    /// Its score in words.
    pub score: String,
    /// Its candidates, ranked.
    pub candidates: Vec<AnswerCandidate>,
}

/// One candidate of an answer.
#[derive(Clone, Debug)]
pub struct AnswerCandidate {
    /// Entity, mechanism, pods, path, confidence.
    pub text: String,
    /// It is in the truth set.
    pub right: bool,
    /// Its evidence.
    pub evidence: Vec<String>,
}

/// Puts a result into words.
#[must_use]
pub fn view(order: &RunOrder, result: &RunResult) -> RunView {
    let clock = Clock {
        zero_ns: result.moments.started_ns,
    };
    let onset = result.onset_ns();
    RunView {
        run: order
            .directory
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        scenario: result.scenario.clone(),
        title: order.scenario.title.clone(),
        description: order.scenario.description.clone(),
        seed: result.seed,
        verdict: verdict_name(&result.detector).to_uppercase(),
        headline: headline(result),
        truth: truth(order, result),
        tiles: tiles(result),
        duration_s: clock.seconds(result.moments.end_ns),
        spans: spans(result, &clock),
        marks: marks(result, onset, &clock),
        seconds: result
            .seconds
            .iter()
            .map(|second| Second {
                at_s: clock.seconds(second.end_ns),
                p50_us: second.p50_us,
                p99_us: second.p99_us,
                errors: second.errors,
            })
            .collect(),
        lanes: std::iter::once(&result.detector)
            .chain(&result.rivals)
            .map(|one| lane(one, &clock))
            .collect(),
        answers: std::iter::once(&result.detector)
            .chain(&result.rivals)
            .map(|one| answer(one, result))
            .collect(),
        costs: costs(result),
        facts: facts(order, result),
    }
}

struct Clock {
    zero_ns: u64,
}

impl Clock {
    #[expect(clippy::cast_precision_loss, reason = "nanoseconds of a run")]
    fn seconds(&self, at_ns: u64) -> f64 {
        at_ns.saturating_sub(self.zero_ns) as f64 / 1e9
    }
}

fn headline(result: &RunResult) -> String {
    let reasons: Vec<&str> = result
        .detector
        .judgement
        .findings
        .iter()
        .map(|finding| finding.reason.as_str())
        .collect();
    format!("{} · {}", result.validity.class.name(), reasons.join("; "))
}

fn truth(order: &RunOrder, result: &RunResult) -> String {
    if order.scenario.truth.root_causes.is_empty() {
        return "nothing is wrong".to_owned();
    }
    let causes: Vec<String> = result.truth.causes.iter().map(cause_text).collect();
    let path: Vec<&str> = order.scenario.truth.path.iter().map(|name| name.as_str()).collect();
    let decoys: Vec<&str> = order
        .scenario
        .truth
        .not_root_cause
        .iter()
        .map(|name| name.as_str())
        .collect();
    let mut text = causes.join("; ");
    if !path.is_empty() {
        text += &format!("; path {}", path.join(" → "));
    }
    if !decoys.is_empty() {
        text += &format!("; not {}", decoys.join(", "));
    }
    text
}

fn cause_text(cause: &TrueCause) -> String {
    let place = match &cause.place {
        Place::Service(name) => name.to_string(),
        Place::Edge { caller, callee } => format!("{caller} → {callee}"),
        Place::Node(name) => format!("node {name}"),
    };
    let names = |names: Vec<&str>| names.join(", ");
    let mut text = format!("{place}: {}", cause.mechanism);
    if !cause.pods.is_empty() {
        text += &format!(
            ", pods {}",
            names(cause.pods.iter().map(|name| name.as_str()).collect())
        );
        text += &format!(
            ", nodes {}",
            names(cause.nodes.iter().map(|name| name.as_str()).collect())
        );
    }
    text
}

fn tiles(result: &RunResult) -> Vec<(String, String)> {
    let mut tiles = vec![("validity".to_owned(), result.validity.class.name().to_owned())];
    if let Some(answer) = &result.detector.score.answer {
        let time = |time| reached_s(time).map_or("not reached".to_owned(), |seconds| format!("{seconds:.2} s"));
        tiles.push(("time to detect".to_owned(), time(&answer.time_to_detect)));
        tiles.push(("time to root cause".to_owned(), time(&answer.time_to_root_cause)));
        tiles.push((
            "rank".to_owned(),
            rank(answer.full.rank).map_or("–".to_owned(), |rank| rank.to_string()),
        ));
        tiles.push(("pods".to_owned(), pods_text(answer.pods)));
        #[expect(clippy::cast_precision_loss, reason = "nanoseconds of a run")]
        let impact = answer.time_to_impact_ns.map(|ns| ns as f64 / 1e9);
        tiles.push((
            "users harmed after".to_owned(),
            impact.map_or("–".to_owned(), |seconds| format!("{seconds:.1} s")),
        ));
    }
    tiles.push((
        "false alarms".to_owned(),
        result.detector.score.false_alarms.episodes_ns.len().to_string(),
    ));
    tiles
}

fn pods_text(pods: PodsAnswer) -> String {
    match pods {
        PodsAnswer::NotJudged => "not judged".to_owned(),
        PodsAnswer::NoRightAnswer => "–".to_owned(),
        #[expect(clippy::float_cmp, reason = "shares of whole numbers: 1 is exact")]
        PodsAnswer::Named { precision, recall } if precision == 1.0 && recall == 1.0 => "exact".to_owned(),
        PodsAnswer::Named { precision, recall } => format!("precision {precision:.2}, recall {recall:.2}"),
    }
}

fn spans(result: &RunResult, clock: &Clock) -> Vec<Span> {
    let moments = &result.moments;
    let phases = [
        ("start", 0, moments.load_ns),
        ("warm-up", moments.load_ns, moments.baseline_ns),
        ("baseline", moments.baseline_ns, moments.fault_phase_ns),
        ("fault", moments.fault_phase_ns, moments.recovered_ns),
        ("recovery", moments.recovered_ns, moments.end_ns),
    ];
    let span = |(name, from_ns, to_ns): (&str, u64, u64)| Span {
        name: name.to_owned(),
        class: name.to_owned(),
        from_s: clock.seconds(from_ns),
        to_s: clock.seconds(to_ns),
    };
    phases.into_iter().map(span).collect()
}

fn marks(result: &RunResult, onset: Option<u64>, clock: &Clock) -> Vec<(f64, String)> {
    let mut marks = Vec::new();
    let mut mark = |at: Option<u64>, name: &str| marks.extend(at.map(|at| (clock.seconds(at), name.to_owned())));
    mark(onset, "onset");
    mark(result.moments.impact_ns, "impact");
    mark(result.moments.steady_again_ns, "steady again");
    if let (Some(onset), Some(answer)) = (onset, &result.detector.score.answer)
        && let TimeTo::Reached { after_ns } = answer.time_to_root_cause
    {
        mark(Some(onset + after_ns), "root cause");
    }
    marks.sort_by(|one, other| one.0.total_cmp(&other.0));
    marks
}

fn lane(detector: &DetectorResult, clock: &Clock) -> Lane {
    let span = |held: &Held| {
        (
            clock.seconds(held.from_ns),
            clock.seconds(held.to_ns),
            held.right,
            held.text.clone(),
        )
    };
    Lane {
        name: detector.score.detector.clone(),
        spans: detector.held.iter().map(span).collect(),
    }
}

fn answer(detector: &DetectorResult, result: &RunResult) -> Answer {
    let candidates = detector
        .answer
        .as_ref()
        .map(|answer| answer.candidates.as_slice())
        .unwrap_or_default();
    let right_rank = detector.score.answer.as_ref().and_then(|answer| rank(answer.full.rank));
    let score = match (&detector.score.answer, right_rank) {
        (None, _) => format!("{} false alarms", detector.score.false_alarms.episodes_ns.len()),
        (Some(_), Some(rank)) => format!("right at rank {rank}"),
        (Some(_), None) => "wrong".to_owned(),
    };
    let candidate = |candidate: &gauntlet_detector::diagnosis::Candidate| AnswerCandidate {
        text: candidate_text(candidate),
        right: is_right(candidate, &result.truth),
        evidence: candidate.evidence.clone(),
    };
    Answer {
        detector: detector.score.detector.clone(),
        score,
        candidates: candidates.iter().map(candidate).collect(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "nanoseconds and bytes of a run")]
fn costs(result: &RunResult) -> Vec<(String, String)> {
    let Some(summary) = &result.detector_end.summary else {
        return Vec::new();
    };
    let wall = summary.wall_ns.max(1) as f64;
    let kernel_ns: u64 = summary.programs.iter().map(|program| program.run_ns).sum();
    let mut costs = vec![
        (
            "detector CPU".to_owned(),
            format!("{:.1} % of one core", summary.cpu_ns as f64 / wall * 100.0),
        ),
        (
            "kernel programs".to_owned(),
            format!("{:.1} % of one core", kernel_ns as f64 / wall * 100.0),
        ),
        (
            "detector memory".to_owned(),
            format!("{:.1} MB", summary.rss_bytes_max as f64 / 1e6),
        ),
        (
            "evidence lost".to_owned(),
            format!("{} of {} frames", summary.lost, summary.frames),
        ),
    ];
    let mut programs = summary.programs.clone();
    programs.sort_by_key(|program| std::cmp::Reverse(program.run_ns));
    costs.extend(
        programs
            .iter()
            .filter(|program| program.run_count > 0)
            .take(4)
            .map(|program| {
                let each = program.run_ns as f64 / program.run_count as f64;
                (
                    format!("program {}", program.name),
                    format!("{each:.0} ns × {}", program.run_count),
                )
            }),
    );
    costs
}

fn facts(order: &RunOrder, result: &RunResult) -> Vec<(String, String)> {
    let mut facts = vec![
        ("application".to_owned(), result.app.clone()),
        ("trial".to_owned(), result.trial.to_string()),
    ];
    for fault in &result.faults {
        facts.push((
            format!("fault {}", fault.fault),
            fault.measured.clone().unwrap_or_default(),
        ));
    }
    facts.extend(
        result
            .validity
            .findings
            .iter()
            .map(|finding| ("validity".to_owned(), finding.clone())),
    );
    facts.extend(
        result
            .degraded
            .iter()
            .map(|text| ("detector works without".to_owned(), text.clone())),
    );
    facts.extend(
        result
            .ends
            .iter()
            .map(|(name, end)| (format!("{name} ended"), ending(end))),
    );
    facts.push(("run directory".to_owned(), order.directory.display().to_string()));
    facts
}

/// How a detector ended, what it cost by the kernel's account, and whatever was wrong with it.
fn ending(end: &DetectorEnd) -> String {
    #[expect(clippy::cast_precision_loss, reason = "nanoseconds of a run")]
    let cpu = end.cpu_ns.map(|cpu_ns| format!("{:.1} s of CPU", cpu_ns as f64 / 1e9));
    let words = std::iter::once(end.outcome.clone()).chain(cpu).chain(end.remarks());
    words.collect::<Vec<_>>().join("; ")
}
