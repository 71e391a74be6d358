//! What a report shows of a run, already put into words and seconds since the run's start.
//!
//! Between the result and its renderings (page, console), so that all of them say the same.

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
