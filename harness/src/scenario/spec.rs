//! The wire form of a scenario: what the file says, with places, and with holes where it could not be read.
//!
//! Checks each value alone. What values say together, and about the application, is [`super::validate`]'s.

use std::collections::BTreeMap;
use std::time::Duration;

use super::fault_spec::{FaultSpec, read_fault};
use super::model::Threshold;
use super::model::{Bound, Condition, Impact, Limit, Limits, LoadProfile, LoadStep, Need, Phases, PodsLimit, Sli};
use super::problem::Problems;
use super::reader::{self, Fields};
use super::shapes;
use super::tree::{At, Node, Span, Value};
use super::truth_spec::{TruthSpec, read_truth};

/// What the file says.
#[derive(Debug, Default)]
pub(super) struct ScenarioSpec {
    pub(super) name: Option<At<String>>,
    pub(super) title: Option<String>,
    pub(super) description: Option<String>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) app: Option<At<String>>,
    pub(super) load: Option<At<LoadProfile>>,
    pub(super) phases: PhasesSpec,
    pub(super) steady_state: Vec<At<Bound>>,
    pub(super) faults: Vec<At<FaultSpec>>,
    pub(super) impact: Option<At<ImpactSpec>>,
    pub(super) truth: Option<At<TruthSpec>>,
    pub(super) limits: LimitsSpec,
    pub(super) window: Option<At<Duration>>,
}

/// `spec.phases`, defaults filled in.
#[derive(Debug)]
pub(super) struct PhasesSpec {
    pub(super) phases: Phases,
    pub(super) span: Option<Span>,
}

impl Default for PhasesSpec {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        let phases = Phases {
            warm_up: seconds(3),
            baseline: seconds(8),
            fault: seconds(15),
            recovery: seconds(5),
        };
        Self { phases, span: None }
    }
}

/// `spec.impact`.
#[derive(Debug)]
pub(super) struct ImpactSpec {
    pub(super) within: Option<At<Duration>>,
    pub(super) need: Need,
    pub(super) conditions: Vec<At<Condition>>,
}

impl ImpactSpec {
    pub(super) fn build(&self, fault_phase: Duration) -> Impact {
        Impact {
            within: self.within.as_ref().map_or(fault_phase, |within| within.value),
            need: self.need,
            conditions: self.conditions.iter().map(|condition| condition.value).collect(),
        }
    }
}

/// `spec.limits`, defaults filled in.
#[derive(Debug)]
pub(super) struct LimitsSpec {
    pub(super) limits: Limits,
    pub(super) time_to_detect: Option<At<Duration>>,
    pub(super) time_to_root_cause: Option<At<Duration>>,
}

impl Default for LimitsSpec {
    fn default() -> Self {
        let limits = Limits {
            time_to_detect: None,
            time_to_root_cause: None,
            rank: 1,
            false_alarms: 0,
            pods: PodsLimit::Any,
        };
        Self {
            limits,
            time_to_detect: None,
            time_to_root_cause: None,
        }
    }
}

/// Reads the whole document.
pub(super) fn read(root: &Node, problems: &mut Problems) -> ScenarioSpec {
    let mut spec = ScenarioSpec::default();
    let Some(fields) = Fields::open(
        root,
        &[&shapes::SCENARIO],
        &[&shapes::METADATA, &shapes::SPEC],
        problems,
    ) else {
        return spec;
    };
    fields.read("apiVersion", problems, reader::choice(&[("gauntlet/v1", ())]));
    fields.read("kind", problems, reader::choice(&[("Scenario", ())]));
    if let Some(node) = fields.get("metadata") {
        read_metadata(node, &mut spec, problems);
    }
    if let Some(node) = fields.get("spec") {
        read_spec(node, &mut spec, problems);
    }
    spec
}

fn read_metadata(node: &Node, spec: &mut ScenarioSpec, problems: &mut Problems) {
    let Some(fields) = Fields::open(node, &[&shapes::METADATA], &[&shapes::SPEC], problems) else {
        return;
    };
    spec.name = fields.read("name", problems, reader::name);
    spec.title = fields.read("title", problems, reader::text).map(|title| title.value);
    spec.description = fields
        .read("description", problems, reader::text)
        .map(|description| description.value);
    let Some(labels) = fields.get("labels") else { return };
    let Value::Map(entries) = &labels.value else {
        problems.add(
            labels.span,
            format!("`metadata.labels` must be a mapping, found {}", labels.value.noun()),
        );
        return;
    };
    for (key, value) in entries {
        if let Some(value) = reader::text(value, problems)
            && spec.labels.insert(key.value.clone(), value).is_some()
        {
            problems
                .add(key.span, format!("`{}` is written twice", key.value))
                .advise("keep one of them");
        }
    }
}

fn read_spec(node: &Node, spec: &mut ScenarioSpec, problems: &mut Problems) {
    let elsewhere = [
        &shapes::METADATA,
        &shapes::FAULT,
        &shapes::TRUTH,
        &shapes::LIMITS,
        &shapes::PHASES,
    ];
    let Some(fields) = Fields::open(node, &[&shapes::SPEC], &elsewhere, problems) else {
        return;
    };
    spec.app = fields.read("app", problems, reader::text);
    spec.load = fields.read("load", problems, read_load);
    if let Some(node) = fields.get("phases") {
        spec.phases = read_phases(node, problems);
    }
    if let Some(node) = fields.get("steadyState") {
        let bounds = reader::list(node, problems, read_bounds);
        spec.steady_state = bounds
            .into_iter()
            .flat_map(|At { value, span }| value.into_iter().map(move |value| At { value, span }))
            .collect();
    }
    if let Some(node) = fields.get("faults") {
        spec.faults = reader::list(node, problems, read_fault);
    }
    spec.impact = fields.read("impact", problems, read_impact);
    spec.truth = fields.read("truth", problems, read_truth);
    if let Some(node) = fields.get("limits") {
        spec.limits = read_limits(node, problems);
    }
    spec.window = fields.read("window", problems, reader::duration);
}

fn read_load(node: &Node, problems: &mut Problems) -> Option<LoadProfile> {
    let profile = match &node.value {
        Value::Map(entries) => entries
            .iter()
            .find(|(key, _)| key.value == "profile")
            .map(|(_, value)| value),
        _ => None,
    };
    let profile = profile.and_then(|node| match &node.value {
        Value::Text(text) => Some(text.as_str()),
        _ => None,
    });
    let (constant, ramp, step) = (&shapes::LOAD_CONSTANT, &shapes::LOAD_RAMP, &shapes::LOAD_STEP);
    let own = match profile {
        Some("constant") => constant,
        Some("ramp") => ramp,
        Some("step") => step,
        _ => {
            let fields = Fields::open(node, &[&shapes::LOAD], &[constant, ramp, step], problems)?;
            return fields
                .read(
                    "profile",
                    problems,
                    reader::choice(&[("constant", ()), ("ramp", ()), ("step", ())]),
                )
                .and(None);
        }
    };
    let fields = Fields::open(node, &[&shapes::LOAD, own], &[constant, ramp, step], problems)?;
    let rate = |name: &str, problems: &mut Problems| fields.read(name, problems, positive).map(|at| at.value);
    match profile {
        Some("constant") => Some(LoadProfile::Constant {
            rate: rate("rate", problems)?,
        }),
        Some("ramp") => {
            let (from, to) = (rate("from", problems), rate("to", problems));
            let over = fields.read("over", problems, reader::duration);
            Some(LoadProfile::Ramp {
                from: from?,
                to: to?,
                over: over?.value,
            })
        }
        _ => {
            let steps = reader::list(fields.get("steps")?, problems, read_step);
            Some(LoadProfile::Step {
                steps: steps.into_iter().map(|step| step.value).collect(),
            })
        }
    }
}

fn read_step(node: &Node, problems: &mut Problems) -> Option<LoadStep> {
    let fields = Fields::open(node, &[&shapes::STEP], &[], problems)?;
    let rate = fields.read("rate", problems, positive);
    let lasts = fields.read("for", problems, reader::duration);
    Some(LoadStep {
        rate: rate?.value,
        lasts: lasts?.value,
    })
}

/// A rate: a number above 0.
fn positive(node: &Node, problems: &mut Problems) -> Option<f64> {
    let number = reader::number(node, problems)?;
    if number > 0.0 {
        return Some(number);
    }
    problems.add(node.span, "must be more than 0");
    None
}

fn read_phases(node: &Node, problems: &mut Problems) -> PhasesSpec {
    let mut spec = PhasesSpec::default();
    let Some(fields) = Fields::open(node, &[&shapes::PHASES], &[&shapes::SPEC], problems) else {
        return spec;
    };
    let mut read = |name: &str, least: u64, phase: &mut Duration| {
        let Some(written) = fields.read(name, problems, reader::duration) else {
            return;
        };
        if written.value < Duration::from_secs(least) {
            problems
                .add(written.span, format!("`{name}` is too short: {:?}", written.value))
                .advise(format!("at least `{least}s`"));
        }
        *phase = written.value;
    };
    read("warmUp", 0, &mut spec.phases.warm_up);
    read("baseline", 3, &mut spec.phases.baseline);
    read("fault", 6, &mut spec.phases.fault);
    read("recovery", 1, &mut spec.phases.recovery);
    spec.span = Some(fields.get("fault").map_or(fields.span(), |node| node.span));
    spec
}

/// A value of an indicator, in its unit.
fn sli_value(sli: Sli) -> impl FnOnce(&Node, &mut Problems) -> Option<f64> {
    move |node, problems| match sli {
        Sli::LatencyP50 | Sli::LatencyP90 | Sli::LatencyP99 => {
            reader::duration(node, problems).map(|duration| duration.as_secs_f64() * 1e6)
        }
        Sli::ErrorRatio => reader::ratio(node, problems),
        Sli::Throughput => reader::number(node, problems),
    }
}

fn read_bounds(node: &Node, problems: &mut Problems) -> Option<Vec<Bound>> {
    let fields = Fields::open(node, &[&shapes::STEADY], &[&shapes::CONDITION], problems)?;
    let sli = fields.read("sli", problems, reader::choice(&Sli::WORDS))?.value;
    let max = fields.read("max", problems, sli_value(sli));
    let min = fields.read("min", problems, sli_value(sli));
    if fields.get("max").is_none() && fields.get("min").is_none() {
        problems
            .add(fields.span(), "a bound needs `max` or `min`")
            .advise("for example `max: 250ms`");
    }
    let limits = [max.map(|at| Limit::Max(at.value)), min.map(|at| Limit::Min(at.value))];
    Some(limits.into_iter().flatten().map(|limit| Bound { sli, limit }).collect())
}

fn read_impact(node: &Node, problems: &mut Problems) -> Option<ImpactSpec> {
    let fields = Fields::open(node, &[&shapes::IMPACT], &[&shapes::CONDITION], problems)?;
    let within = fields.read("within", problems, reader::duration);
    let (need, node) = match (fields.get("anyOf"), fields.get("allOf")) {
        (Some(node), None) => (Need::Any, node),
        (None, Some(node)) => (Need::All, node),
        (Some(_), Some(node)) => {
            problems
                .add(node.span, "`anyOf` and `allOf` exclude each other")
                .advise("keep one of them");
            (Need::All, node)
        }
        (None, None) => {
            problems
                .add(fields.span(), "an impact needs `anyOf` or `allOf`")
                .advise("for example `anyOf: [{sli: latency-p50, timesBaseline: 2}]`");
            return None;
        }
    };
    let before = matches!(&node.value, Value::List(items) if items.is_empty());
    if before {
        problems
            .add(node.span, "no condition is no impact")
            .advise("for example `[{sli: latency-p50, timesBaseline: 2}]`");
    }
    Some(ImpactSpec {
        within,
        need,
        conditions: reader::list(node, problems, read_condition),
    })
}

fn read_condition(node: &Node, problems: &mut Problems) -> Option<Condition> {
    let fields = Fields::open(node, &[&shapes::CONDITION], &[&shapes::STEADY], problems)?;
    let sli = fields.read("sli", problems, reader::choice(&Sli::WORDS))?.value;
    let at_least = fields
        .read("atLeast", problems, sli_value(sli))
        .map(|at| Threshold::AtLeast(at.value));
    let at_most = fields
        .read("atMost", problems, sli_value(sli))
        .map(|at| Threshold::AtMost(at.value));
    let times = fields
        .read("timesBaseline", problems, positive)
        .map(|at| Threshold::TimesBaseline(at.value));
    let written = ["atLeast", "atMost", "timesBaseline"]
        .iter()
        .filter(|name| fields.get(name).is_some())
        .count();
    if written != 1 {
        problems.add(
            fields.span(),
            "a condition needs exactly one of `atLeast`, `atMost` and `timesBaseline`",
        );
    }
    if sli == Sli::ErrorRatio
        && let Some(node) = fields.get("timesBaseline")
    {
        problems
            .add(node.span, "the baseline of `error-ratio` may be 0")
            .advise("write `atLeast: 5%`");
    }
    Some(Condition {
        sli,
        threshold: at_least.or(at_most).or(times)?,
    })
}

fn read_limits(node: &Node, problems: &mut Problems) -> LimitsSpec {
    let mut spec = LimitsSpec::default();
    let Some(fields) = Fields::open(node, &[&shapes::LIMITS], &[&shapes::SPEC], problems) else {
        return spec;
    };
    spec.time_to_detect = fields.read("timeToDetect", problems, reader::duration);
    spec.time_to_root_cause = fields.read("timeToRootCause", problems, reader::duration);
    let value = |at: &Option<At<Duration>>| at.as_ref().map(|at| at.value);
    let limits = &mut spec.limits;
    limits.time_to_detect = value(&spec.time_to_detect);
    limits.time_to_root_cause = value(&spec.time_to_root_cause);
    if let Some(rank) = fields.read("rank", problems, reader::count(1, 10)) {
        limits.rank = rank.value;
    }
    if let Some(alarms) = fields.read("falseAlarms", problems, reader::count(0, 1000)) {
        limits.false_alarms = alarms.value;
    }
    let pods = [("any", PodsLimit::Any), ("exact", PodsLimit::Exact)];
    if let Some(pods) = fields.read("pods", problems, reader::choice(&pods)) {
        limits.pods = pods.value;
    }
    spec
}
