//! What a report shows of a run, already put into words and seconds since load began.
//!
//! Between the evidence and its renderings (page, Markdown, console), so that all of them say the same.

pub mod score;
pub mod timeline;
pub mod topology;

use super::console::candidate_text;
use super::evidence::RunEvidence;
use super::summary::{rank, reached_s, verdict_name};
use super::text;
use crate::detectors::DetectorEnd;
use crate::plan::TrueCause;
use crate::run::result::{DetectorResult, RunResult};
use crate::scenario::model::Place;
use crate::score::matching::{PodsAnswer, is_right};
use crate::score::verdict::Finding;

pub use score::{Measure, measures};
pub use timeline::TimelineView;
pub use topology::TopologyView;

/// One run, as shown.
#[derive(Clone, Debug)]
pub struct RunView {
    /// Name of the run directory.
    pub run: String,
    /// Version of the harness that made this report.
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
    /// Load, indicators, faults and answers over time.
    pub timeline: TimelineView,
    /// Who called whom; the reason where that is not known.
    pub topology: Result<TopologyView, String>,
    /// Final answers, ours first.
    pub answers: Vec<Answer>,
    /// What each answer was worth, a column for each of [`RunView::answers`].
    pub measures: Vec<Measure>,
    /// The scenario's limits, and whether they were kept.
    pub checks: Vec<Finding>,
    /// What was measured of each fault.
    pub faults: Vec<FaultView>,
    /// What speaks against the run.
    pub validity_findings: Vec<String>,
    /// What the detector cost.
    pub costs: Vec<(String, String)>,
    /// Facts of the run.
    pub facts: Vec<(String, String)>,
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

/// One fault: what was done, and the proof.
#[derive(Clone, Debug)]
pub struct FaultView {
    /// What was done, and where.
    pub what: String,
    /// What its last effect probe measured, or why there was no effect.
    pub effect: String,
    /// How it ended.
    pub recovery: String,
}

/// Puts a run into words.
#[must_use]
pub fn view(evidence: &RunEvidence) -> RunView {
    let (result, scenario) = (&evidence.result, &evidence.plan.scenario);
    let detectors = || std::iter::once(&result.detector).chain(&result.rivals);
    RunView {
        run: evidence
            .directory
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        scenario: result.scenario.clone(),
        title: scenario.title.clone(),
        description: scenario.description.clone(),
        seed: result.seed,
        verdict: verdict_name(&result.detector).to_uppercase(),
        headline: headline(result),
        truth: truth(result),
        tiles: tiles(result),
        timeline: timeline::timeline(evidence),
        topology: evidence
            .traffic
            .clone()
            .map(|traffic| topology::topology(&traffic, result)),
        answers: detectors().map(|one| answer(one, result)).collect(),
        measures: measures(&detectors().map(|one| &one.score).collect::<Vec<_>>()),
        checks: result.detector.judgement.findings.clone(),
        faults: faults(evidence),
        validity_findings: result.validity.findings.clone(),
        costs: costs(result),
        facts: facts(evidence),
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

fn truth(result: &RunResult) -> String {
    let truth = &result.truth;
    if truth.causes.is_empty() {
        return "nothing is wrong".to_owned();
    }
    let causes: Vec<String> = truth.causes.iter().map(cause_text).collect();
    let names = |names: &[gauntlet_probes::entity::ServiceName], between: &str| {
        let names: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
        names.join(between)
    };
    let mut text = causes.join("; ");
    if !truth.path.is_empty() {
        text += &format!("; path {}", names(&truth.path, " → "));
    }
    if !truth.decoys.is_empty() {
        text += &format!("; not {}", names(&truth.decoys, ", "));
    }
    text
}

/// Where a cause lies, in words.
#[must_use]
pub fn place_text(place: &Place) -> String {
    match place {
        Place::Service(name) => name.to_string(),
        Place::Edge { caller, callee } => format!("{caller} → {callee}"),
        Place::Node(name) => format!("node {name}"),
    }
}

fn cause_text(cause: &TrueCause) -> String {
    let names = |names: Vec<&str>| names.join(", ");
    let mut text = format!("{}: {}", place_text(&cause.place), cause.mechanism);
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
        PodsAnswer::Named { .. } if pods.is_exact() => "exact".to_owned(),
        PodsAnswer::Named { precision, recall } => format!("precision {precision:.2}, recall {recall:.2}"),
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
        (None, _) => text::count(detector.score.false_alarms.episodes_ns.len(), "false alarm"),
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

fn faults(evidence: &RunEvidence) -> Vec<FaultView> {
    let fault = |step: &crate::plan::PlannedStep| {
        let record = evidence
            .result
            .faults
            .iter()
            .find(|record| record.fault == step.fault.id);
        let measured = record.and_then(|record| record.measured.clone());
        let error = record.and_then(|record| record.error.clone());
        let proven = record.is_some_and(|record| record.onset_ns.is_some());
        let effect = match (proven, error, measured) {
            (_, Some(error), _) => format!("not injected: {error}"),
            (true, None, measured) => format!("proven: {}", measured.unwrap_or_default()),
            (false, None, Some(measured)) => format!("not proven; last measured: {measured}"),
            (false, None, None) => "not measured".to_owned(),
        };
        let recovery = match record.map(|record| (&record.recovery_error, record.recovered_ns)) {
            Some((Some(error), _)) => format!("not undone: {error}"),
            Some((None, Some(_))) => "undone".to_owned(),
            Some((None, None)) | None => "nothing to undo".to_owned(),
        };
        FaultView {
            what: crate::timeline::step_text(step),
            effect,
            recovery,
        }
    };
    evidence.plan.steps.iter().map(fault).collect()
}

#[expect(clippy::cast_precision_loss, reason = "nanoseconds and bytes of a run")]
fn costs(result: &RunResult) -> Vec<(String, String)> {
    let Some(summary) = &result.detector_end.summary else {
        return Vec::new();
    };
    let wall = summary.wall_ns.max(1) as f64;
    let kernel_ns: u64 = summary.programs.iter().map(|program| program.run_ns).sum();
    let share = |ns: u64| format!("{:.1} % of one core", ns as f64 / wall * 100.0);
    let mut costs = vec![
        ("detector CPU".to_owned(), share(summary.cpu_ns)),
        ("kernel programs".to_owned(), share(kernel_ns)),
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
    let program = |program: &gauntlet_detector::diagnosis::ProgramCost| {
        let each = program.run_ns as f64 / program.run_count as f64;
        (
            format!("program {}", program.name),
            format!("{each:.0} ns × {}", program.run_count),
        )
    };
    let busiest = programs.iter().filter(|program| program.run_count > 0).take(4);
    costs.extend(busiest.map(program));
    costs
}

fn facts(evidence: &RunEvidence) -> Vec<(String, String)> {
    let result = &evidence.result;
    let mut facts = vec![
        ("application".to_owned(), result.app.clone()),
        ("trial".to_owned(), result.trial.to_string()),
    ];
    if let Some(environment) = &evidence.environment {
        facts.push(("detector".to_owned(), environment.detector.clone()));
        let (cpus, kernel) = (environment.cpu_count, &environment.kernel);
        let machine = format!("kernel {kernel}, {cpus} processors, {}", environment.system);
        facts.push(("machine".to_owned(), machine));
    }
    let without = result.degraded.iter().map(|text| ("detector works without", text));
    let residue = result.residue.iter().map(|text| ("left behind", text));
    facts.extend(
        without
            .chain(residue)
            .map(|(name, text)| (name.to_owned(), text.clone())),
    );
    facts.extend(
        result
            .ends
            .iter()
            .map(|(name, end)| (format!("{name} ended"), ending(end))),
    );
    facts.push(("run directory".to_owned(), evidence.directory.display().to_string()));
    facts
}

/// How a detector ended, what it cost by the kernel's account, and whatever was wrong with it.
fn ending(end: &DetectorEnd) -> String {
    #[expect(clippy::cast_precision_loss, reason = "nanoseconds of a run")]
    let cpu = end.cpu_ns.map(|cpu_ns| format!("{:.1} s of CPU", cpu_ns as f64 / 1e9));
    let words = std::iter::once(end.outcome.clone()).chain(cpu).chain(end.remarks());
    words.collect::<Vec<_>>().join("; ")
}
