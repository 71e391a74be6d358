//! Reads baseline files: strict, all problems at once, each with line, caret and advice.

use crate::app::file::API_VERSION;
use crate::check::validity::Class;
use crate::gate::evidence::{Answer, Case, Evidence};
use crate::plan::Seed;
use crate::scenario::model::Arm;
use crate::scenario::problem::Problems;
use crate::scenario::reader::{Fields, Shape, boolean, choice, count, duration, list, may, must, number, text};
use crate::scenario::tree::{Node, Value};
use crate::scenario::{ScenarioErrors, document};
use crate::score::matching::Rank;
use crate::score::moments::TimeTo;
use crate::suite::outcome::Mode;

use super::{KIND, arm_word, mode_word};

static FILE: Shape = Shape {
    path: "baseline",
    fields: &[
        must("apiVersion", "text", "version of the format", API_VERSION),
        must("kind", "text", "what the file is", KIND),
        must("metadata", "mapping", "its name", "{name: nightly}"),
        must("spec", "mapping", "what was answered", "{…}"),
    ],
};

static METADATA: Shape = Shape {
    path: "metadata",
    fields: &[must("name", "text", "name of the suite or corpus", "nightly")],
};

static SPEC: Shape = Shape {
    path: "spec",
    fields: &[
        must("digest", "text", "digest of the suite or corpus", "\"4e1f…\""),
        must("mode", "live or replay", "where the evidence came from", "replay"),
        must(
            "detector",
            "text",
            "name and version of the detector",
            "\"gauntlet-detector 0.1.0\"",
        ),
        must("planned", "count", "number of cases that were asked for", "150"),
        must("cases", "list", "the cases that ended", "[…]"),
    ],
};

static CASE: Shape = Shape {
    path: "case",
    fields: &[
        must("scenario", "text", "name of the scenario", "cache-crash"),
        must("trial", "count", "trial, from 1", "1"),
        must("seed", "number, or digits in quotes", "seed of the run", "11"),
        may(
            "recording",
            "hexadecimal digits",
            "a live run",
            "first digits of the recording's digest",
            "",
        ),
        must("app", "text", "name of the application", "shop"),
        may(
            "class",
            "text",
            "the scenario has no class",
            "the scenario's label `class`",
            "",
        ),
        must(
            "arm",
            "fault, surge, placebo or none",
            "what silence and alarms mean",
            "fault",
        ),
        must("validity", "class", "what the run is good for", "VALID"),
        may(
            "residue",
            "boolean",
            "nothing was left behind",
            "whether any attempt left something behind",
            "",
        ),
        may(
            "ac1",
            "number",
            "no cause was to be named",
            "AC@1 on entity and mechanism",
            "",
        ),
        may(
            "rank",
            "number or `absent`",
            "no cause was to be named",
            "rank of the first right answer",
            "",
        ),
        may("ttd", "time", "no cause was to be named", "time to detect", ""),
        may("ttrc", "time", "no cause was to be named", "time to root cause", ""),
        must("falseAlarms", "count", "number of false alarms", "0"),
        must("faultFree", "duration", "time without a reason for an alarm", "11.200s"),
        may("said", "text", "nothing was named", "rank 1 of the final answer", ""),
        may(
            "failure",
            "text",
            "the detector did not fail",
            "how the detector failed",
            "",
        ),
    ],
};

/// Most cases, trials and alarms that a file may speak of.
const COUNT_MAX: u32 = 1_000_000;

/// Reads a file's text; `shown` is how problems call the file.
///
/// # Errors
/// All that is wrong with it.
pub fn read(shown: &str, text: &str) -> Result<Evidence, ScenarioErrors> {
    let mut problems = Problems::default();
    let evidence = document(text, &mut problems).and_then(|root| file(&root, &mut problems));
    problems.done(evidence, shown, text).map(Evidence::sorted)
}

fn file(root: &Node, problems: &mut Problems) -> Option<Evidence> {
    let fields = Fields::open(root, &[&FILE], &[&SPEC], problems)?;
    let version = fields.read("apiVersion", problems, choice(&[(API_VERSION, ())]));
    let kind = fields.read("kind", problems, choice(&[(KIND, ())]));
    let metadata = fields
        .get("metadata")
        .and_then(|node| Fields::open(node, &[&METADATA], &[&SPEC], problems));
    let suite = metadata.and_then(|metadata| metadata.read("name", problems, text));
    let spec = fields
        .get("spec")
        .and_then(|node| Fields::open(node, &[&SPEC], &[&METADATA, &CASE], problems))?;
    let digest = spec.read("digest", problems, text);
    let modes = [Mode::Live, Mode::Replay].map(|mode| (mode_word(mode), mode));
    let mode = spec.read("mode", problems, choice(&modes));
    let detector = spec.read("detector", problems, text);
    let planned = spec.read("planned", problems, count(0, COUNT_MAX));
    let cases = spec.get("cases").map(|node| list(node, problems, case));
    let (_, _) = (version?, kind?);
    Some(Evidence {
        suite: suite?.value,
        digest: digest?.value,
        mode: mode?.value,
        detector: detector?.value,
        planned_count: planned?.value as usize,
        cases: cases?.into_iter().map(|case| case.value).collect(),
    })
}

fn case(node: &Node, problems: &mut Problems) -> Option<Case> {
    let fields = Fields::open(node, &[&CASE], &[&SPEC], problems)?;
    let scenario = fields.read("scenario", problems, text);
    let trial = fields.read("trial", problems, count(1, COUNT_MAX));
    let seed = fields.read("seed", problems, seed);
    let recording = fields.read("recording", problems, text);
    let app = fields.read("app", problems, text);
    let class = fields.read("class", problems, text);
    let arms = [Arm::Fault, Arm::Surge, Arm::Placebo, Arm::None].map(|arm| (arm_word(arm), arm));
    let arm = fields.read("arm", problems, choice(&arms));
    let classes = [
        Class::Valid,
        Class::LostEvidence,
        Class::Silent,
        Class::NotInjected,
        Class::Unstable,
        Class::Residue,
        Class::HarnessError,
    ]
    .map(|class| (class.name(), class));
    let validity = fields.read("validity", problems, choice(&classes));
    let residue = fields.read("residue", problems, boolean);
    let answer = answer(&fields, problems);
    let false_alarms = fields.read("falseAlarms", problems, count(0, COUNT_MAX));
    let fault_free = fields.read("faultFree", problems, duration);
    let said = fields.read("said", problems, text);
    let failure = fields.read("failure", problems, text);
    Some(Case {
        scenario: scenario?.value,
        trial: trial?.value,
        seed: seed?.value,
        recording: recording.map(|recording| recording.value),
        app: app?.value,
        class: class.map(|class| class.value),
        arm: arm?.value,
        validity: validity?.value,
        residue: residue.is_some_and(|residue| residue.value),
        false_alarms: false_alarms?.value,
        fault_free_ms: u64::try_from(fault_free?.value.as_millis()).ok()?,
        answer,
        said: said.map(|said| said.value),
        failure: failure.map(|failure| failure.value),
    })
}

/// The fields of an answer: all of them or none.
fn answer(fields: &Fields<'_>, problems: &mut Problems) -> Option<Answer> {
    const NAMES: [&str; 4] = ["ac1", "rank", "ttd", "ttrc"];
    let missing: Vec<&str> = NAMES.into_iter().filter(|name| fields.get(name).is_none()).collect();
    if missing.len() < NAMES.len() && !missing.is_empty() {
        problems
            .add(
                fields.span(),
                format!("an answer has {}; lacking: {}", NAMES.join(", "), missing.join(", ")),
            )
            .advise("write all four, or none where no cause was to be named");
    }
    let ac_at_1 = fields.read("ac1", problems, share);
    let rank = fields.read("rank", problems, rank);
    let time_to_detect = fields.read("ttd", problems, time);
    let time_to_root_cause = fields.read("ttrc", problems, time);
    Some(Answer {
        ac_at_1: ac_at_1?.value,
        rank: rank?.value,
        time_to_detect: time_to_detect?.value,
        time_to_root_cause: time_to_root_cause?.value,
    })
}

/// AC@1: from 0 to 1.
fn share(node: &Node, problems: &mut Problems) -> Option<f64> {
    let share = number(node, problems)?;
    if share > 1.0 {
        problems
            .add(node.span, format!("AC@1 is a share, found {share}"))
            .advise("a number from 0 to 1");
        return None;
    }
    Some(share)
}

/// A number as far as YAML's numbers are exact, digits in quotes beyond.
fn seed(node: &Node, problems: &mut Problems) -> Option<Seed> {
    let seed = match &node.value {
        Value::Number(number) if number.fract() == 0.0 && (0.0..=super::EXACT_NUMBER_MAX as f64).contains(number) => {
            Some(*number as u64)
        }
        Value::Text(digits) => digits.parse().ok(),
        _ => None,
    };
    if seed.is_none() {
        problems
            .add(node.span, "must be a seed")
            .advise("a whole number; above 2^53 its digits in quotes");
    }
    seed.map(Seed)
}

fn rank(node: &Node, problems: &mut Problems) -> Option<Rank> {
    if node.value == Value::Text("absent".to_owned()) {
        return Some(Rank::Absent);
    }
    match node.value {
        Value::Number(rank) if rank.is_finite() && rank >= 1.0 => Some(Rank::At { rank }),
        _ => {
            problems
                .add(node.span, "must be a rank")
                .advise("a number from 1, or `absent`");
            None
        }
    }
}

/// `1.200s`, or `not in 15.000s`.
fn time(node: &Node, problems: &mut Problems) -> Option<TimeTo> {
    let prefix = "not in ";
    let inner = match &node.value {
        Value::Text(text) => text.strip_prefix(prefix),
        _ => None,
    };
    let ns = |node: &Node, problems: &mut Problems| u64::try_from(duration(node, problems)?.as_nanos()).ok();
    match inner {
        Some(rest) => {
            let rest = Node {
                value: Value::Text(rest.to_owned()),
                span: node.span,
            };
            ns(&rest, problems).map(|observed_for_ns| TimeTo::NotReached { observed_for_ns })
        }
        None => ns(node, problems).map(|after_ns| TimeTo::Reached { after_ns }),
    }
}
