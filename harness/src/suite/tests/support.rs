//! Small suites, and a runner that makes runs up.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use crate::check::validity::{Class, Validity};
use crate::plan::Seed;
use crate::run::RunError;
use crate::score::verdict::judge;
use crate::suite::case;
use crate::suite::event::{Standing, SuiteEvent, SuiteSink};
use crate::suite::outcome::{Mode, Shard};
use crate::suite::plan::{PlannedCase, SuitePlan, plan};
use crate::suite::play::{CaseRunner, Ending, Ran, play};
use crate::suite::spec::{Chosen, Suite, read_text};
use crate::suite::store::{Beginning, Header, Store, StoreError};

pub(super) fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios")
}

/// A suite of this list of scenarios, with seeds 1, 2, ….
pub(super) fn suite(scenarios: &str, trials: u32) -> Suite {
    let text = format!(
        "\
apiVersion: gauntlet/v1
kind: Suite
metadata: {{name: t, title: T}}
spec: {{scenarios: {scenarios}, trials: {trials}}}
"
    );
    read_text("t.yaml", &text, &shipped()).unwrap_or_else(|errors| panic!("{}", errors.render_plain()))
}

/// Four scenarios: three controls and a fault.
pub(super) fn small_plan(trials: u32) -> SuitePlan {
    static SUITE: LazyLock<Suite> = LazyLock::new(|| suite("[{class: controls}, {name: cache-flush}]", 1));
    let seeds = (1..=u64::from(trials)).map(Seed).collect();
    plan(&Suite { seeds, ..SUITE.clone() })
}

/// A run of this class in which nothing was said.
pub(super) fn ran(chosen: &Chosen, case: &PlannedCase, seed: Seed, class: Class) -> Ran {
    let scenario = &chosen.scenario;
    let mut result = case::of_failure(scenario, &chosen.app.name, case.key.trial, seed, "silent", "");
    let findings = match class {
        Class::Valid => Vec::new(),
        other => vec![format!("{}: made up", other.name())],
    };
    result.validity = Validity { class, findings };
    result.detector.judgement = judge(&result.detector.score, &result.validity, &scenario.limits);
    Ran {
        detector: Some("silent 1.0".to_owned()),
        case: result,
    }
}

/// Makes runs up: what becomes of one is a function of its case and seed.
pub(super) struct MadeUp<F> {
    pub(super) outcome: F,
    /// Every run that was asked for.
    pub(super) runs: Vec<(String, u64)>,
}

impl<F: FnMut(&PlannedCase, Seed) -> Result<Class, RunError>> MadeUp<F> {
    pub(super) fn new(outcome: F) -> Self {
        Self {
            outcome,
            runs: Vec::new(),
        }
    }
}

impl<F: FnMut(&PlannedCase, Seed) -> Result<Class, RunError>> CaseRunner for MadeUp<F> {
    fn detector_name(&self) -> String {
        "silent".to_owned()
    }

    fn run(&mut self, chosen: &Chosen, case: &PlannedCase, seed: Seed) -> Result<Ran, RunError> {
        self.runs.push((case.key.to_string(), seed.0));
        (self.outcome)(case, seed).map(|class| ran(chosen, case, seed, class))
    }
}

/// Keeps what it is told, in words.
#[derive(Default)]
pub(super) struct Told(pub(super) Vec<String>);

impl SuiteSink for Told {
    fn event(&mut self, event: SuiteEvent<'_>, standing: &Standing) {
        let text = match event {
            SuiteEvent::Resumed { case_count } => format!("resumed {case_count}"),
            SuiteEvent::AttemptBegan { key, seed, attempt } => format!("{key} seed {} attempt {attempt}", seed.0),
            SuiteEvent::Repeated { key, validity } => format!("{key} repeated: {}", validity.findings.join("; ")),
            SuiteEvent::CaseEnded { case } => format!(
                "{} trial {} ended {} after {} invalid: {}/{}, {} valid, {} invalid runs, {} pass, {} fail",
                case.scenario,
                case.trial,
                case.validity.class.name(),
                case.invalid_attempts.len(),
                standing.ended,
                standing.case_count,
                standing.valid,
                standing.invalid_runs,
                standing.passed,
                standing.failed,
            ),
        };
        self.0.push(text);
    }
}

pub(super) fn header(plan: &SuitePlan, shard: Option<Shard>) -> Header {
    Header::new(plan, Mode::Live, shard, "the silent one".to_owned())
}

pub(super) fn open(directory: &Path, plan: &SuitePlan, shard: Option<Shard>) -> Result<Store, StoreError> {
    Store::open(directory, header(plan, shard), &plan.part(shard), Beginning::Allowed)
}

/// Plays what is left in `directory`, and writes the result.
pub(super) fn play_in(
    directory: &Path,
    plan: &SuitePlan,
    shard: Option<Shard>,
    outcome: impl FnMut(&PlannedCase, Seed) -> Result<Class, RunError>,
) -> (Ending, Vec<(String, u64)>, Vec<String>) {
    let mut store = open(directory, plan, shard).expect("a directory of its own");
    let (mut runner, mut told) = (MadeUp::new(outcome), Told::default());
    let ending = play(plan, &plan.part(shard), &mut store, &mut runner, &mut told).expect("results can be kept");
    store.write_result().expect("the result can be written");
    (ending, runner.runs, told.0)
}
