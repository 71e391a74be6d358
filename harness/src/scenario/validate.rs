//! From what a file says to a scenario: what values say together, about the application, and about each other.
//!
//! Notes every mistake; a scenario comes out only if there is none.

use std::collections::BTreeMap;
use std::time::Duration;

use gauntlet_probes::entity::ServiceName;

use super::fault_spec::{FaultSpec, KindSpec, Mode, TargetSpec, place_of};
use super::model::{BlastRadius, Fault, Scenario, Selector};
use super::outline::{AppOutline, ServiceOutline};
use super::problem::{Problems, did_you_mean};
use super::spec::ScenarioSpec;
use super::tree::{At, Span};
use crate::app::spec::ServiceKind;
use crate::fault::kind::{Concern, FaultKind, ObjectFault};

mod truth;

/// How long a fault's effect may take to be proven, unless the file says otherwise.
const EFFECT_WITHIN: Duration = Duration::from_secs(5);
/// Longest run: a scenario that takes longer is a mistake in a unit.
const LONGEST_RUN: Duration = Duration::from_secs(2 * 3600);

/// Checks `spec` against its application; `None` for the application: it could not be read, which was noted already.
pub(super) fn validate(spec: &ScenarioSpec, app: Option<&AppOutline>, problems: &mut Problems) -> Option<Scenario> {
    let context = Context { app, spec };
    let faults: Vec<Option<Fault>> = spec.faults.iter().map(|fault| context.fault(fault, problems)).collect();
    context.fault_list(problems);
    context.times(problems);
    let truth = spec.truth.as_ref().map(|truth| context.truth(truth, problems));
    context.impact(problems);
    if !problems.is_empty() {
        return None;
    }
    let phases = spec.phases.phases;
    let title = spec.title.clone()?;
    Some(Scenario {
        name: spec.name.as_ref()?.value.clone(),
        description: spec.description.clone().unwrap_or_else(|| title.clone()),
        title,
        labels: spec.labels.clone(),
        app: spec.app.as_ref()?.value.clone(),
        load: spec.load.as_ref().map(|load| load.value.clone()),
        phases,
        steady_state: spec.steady_state.iter().map(|bound| bound.value).collect(),
        faults: faults.into_iter().collect::<Option<_>>()?,
        impact: spec.impact.as_ref().map(|impact| impact.value.build(phases.fault)),
        truth: truth??,
        limits: spec.limits.limits,
        window: spec.window.as_ref().map_or(phases.fault, |window| window.value),
    })
}

struct Context<'a> {
    app: Option<&'a AppOutline>,
    spec: &'a ScenarioSpec,
}

impl Context<'_> {
    /// The service of a name, noted if there is none. Unknown applications know every service.
    fn service(&self, name: &At<String>, problems: &mut Problems) -> Option<ServiceOutline> {
        let services = &self.app?.services;
        let found = services.get(&name.value).copied();
        if found.is_none() {
            let app = self.spec.app.as_ref().map_or("", |app| &app.value);
            problems
                .add(
                    name.span,
                    format!("application `{app}` has no service `{}`", name.value),
                )
                .advise(did_you_mean(&name.value, services.keys().map(String::as_str)));
        }
        found
    }

    fn fault(&self, fault: &At<FaultSpec>, problems: &mut Problems) -> Option<Fault> {
        let phase = self.spec.phases.phases.fault;
        let spec = &fault.value;
        let start_after = spec.start_after.as_ref().map_or(Duration::ZERO, |at| at.value);
        if let Some(start) = spec.start_after.as_ref().filter(|start| start.value >= phase) {
            problems
                .add(
                    start.span,
                    format!("the fault phase ends after {phase:?}, before this fault starts"),
                )
                .advise("start it sooner, or write a longer `spec.phases.fault`");
        }
        let rest = phase.saturating_sub(start_after);
        let duration = spec.duration.as_ref().map_or(rest, |at| at.value);
        if let Some(written) = spec
            .duration
            .as_ref()
            .filter(|written| written.value > rest && !rest.is_zero())
        {
            problems
                .add(
                    written.span,
                    format!("the fault phase ends {rest:?} after this fault starts"),
                )
                .advise("write a shorter `duration`, or a longer `spec.phases.fault`");
        }
        let effect_within = spec
            .effect_within
            .as_ref()
            .map_or(EFFECT_WITHIN.min(duration), |at| at.value);
        if let Some(within) = spec.effect_within.as_ref().filter(|within| within.value > duration) {
            problems
                .add(
                    within.span,
                    format!("the fault ends after {duration:?}, before its effect must be proven"),
                )
                .advise("write a shorter `within`");
        }
        if let Some(peer) = spec.kind.as_ref().and_then(|kind| kind.value.peer.as_ref()) {
            self.service(peer, problems);
        }
        let target = spec.target.as_ref().map(|target| self.target(target, problems));
        if let Some(kind) = &spec.kind {
            self.target_of_kind(kind, fault, problems);
        }
        Some(Fault {
            id: spec.id.as_ref()?.value.clone(),
            kind: spec.kind.as_ref()?.value.kind.clone(),
            target: target.map_or(Some(None), |target| target.map(Some))?,
            start_after,
            duration,
            effect_within,
        })
    }

    fn target(&self, target: &At<TargetSpec>, problems: &mut Problems) -> Option<Selector> {
        let spec = &target.value;
        let name = spec.service.as_ref()?;
        let service = self.service(name, problems);
        if let (Some(count), Some(service)) = (&spec.count, service)
            && count.value > service.replicas
        {
            let ServiceOutline { replicas, .. } = service;
            problems
                .add(
                    count.span,
                    format!(
                        "`{}` has only {replicas} pods, {} are asked for",
                        name.value, count.value
                    ),
                )
                .advise(format!("at most {replicas}, or `mode: all`"));
        }
        let radius = match spec.mode.value {
            Mode::One => BlastRadius::One,
            Mode::All => BlastRadius::All,
            Mode::Fixed => BlastRadius::Fixed(spec.count.as_ref()?.value),
            Mode::Percent => BlastRadius::Percent(spec.percent.as_ref()?.value),
        };
        Some(Selector {
            service: ServiceName::new(name.value.as_str()),
            radius,
            spread: spec.spread,
        })
    }

    /// Whether kind and target go together.
    fn target_of_kind(&self, kind: &At<KindSpec>, fault: &At<FaultSpec>, problems: &mut Problems) {
        let machinery = match &kind.value.kind {
            FaultKind::Placebo { of } => of.as_ref(),
            other => other,
        };
        let target = match (machinery.concern(), &fault.value.target) {
            (Concern::Pods | Concern::Service | Concern::Node, Some(target)) => target,
            (Concern::Pods | Concern::Service | Concern::Node, None) => {
                let problem = problems.add(place_of(fault), "this kind needs a `target`");
                return problem.advise("for example `target: {service: cache, mode: one}`");
            }
            (Concern::Nobody, Some(target)) => {
                let problem = problems.add(target.span, "this kind concerns no pods");
                return problem.advise("remove `target`");
            }
            (Concern::Nobody, None) => return self.surge(machinery, kind.span, problems),
        };
        let mode = &target.value.mode;
        match (machinery.concern(), mode.value) {
            (Concern::Service, Mode::One | Mode::Fixed | Mode::Percent) => problems
                .add(
                    mode.span,
                    "what this kind makes wrong is shared by all pods of the service",
                )
                .advise("write `mode: all`"),
            (Concern::Node, Mode::All | Mode::Fixed | Mode::Percent) => problems
                .add(mode.span, "this kind is done to the node of one pod")
                .advise("write `mode: one`"),
            (Concern::Service, Mode::All) | (Concern::Node, Mode::One) | (Concern::Pods | Concern::Nobody, _) => {}
        }
        if let Some(service) = &target.value.service {
            self.service_of_kind(machinery, service, problems);
        }
    }

    /// Whether a service runs what a kind makes wrong.
    fn service_of_kind(&self, machinery: &FaultKind, service: &At<String>, problems: &mut Problems) {
        let outline = self.app.and_then(|app| app.services.get(&service.value));
        if matches!(machinery, FaultKind::Object(ObjectFault::WrongAddress { .. }))
            && outline.is_some_and(|outline| outline.kind != ServiceKind::Http)
        {
            problems
                .add(
                    service.span,
                    format!("`{}` calls nobody and has no addresses to be wrong", service.value),
                )
                .advise("the target is the caller; the callee is `peer`");
        }
        if matches!(machinery, FaultKind::CacheFlush)
            && outline.is_some_and(|outline| outline.kind != ServiceKind::Redis)
        {
            let services = self.app.map(|app| &app.services).into_iter().flatten();
            let redis: Vec<_> = services
                .filter(|(_, outline)| outline.kind == ServiceKind::Redis)
                .collect();
            let names: Vec<_> = redis.into_iter().map(|(name, _)| name.as_str()).collect();
            problems
                .add(
                    service.span,
                    format!("`{}` is no redis service and has no keys to forget", service.value),
                )
                .advise(format!("redis services: {}", names.join(", ")));
        }
    }

    fn surge(&self, kind: &FaultKind, span: Span, problems: &mut Problems) {
        if matches!(kind, FaultKind::LoadSurge { .. }) && self.spec.load.is_none() {
            problems
                .add(span, "a surge multiplies a load that this scenario does not state")
                .advise("add `load: {profile: constant, rate: 120}` to `spec`");
        }
    }

    /// What faults say of each other.
    fn fault_list(&self, problems: &mut Problems) {
        let faults = &self.spec.faults;
        let mut seen: BTreeMap<&str, ()> = BTreeMap::new();
        for id in faults.iter().filter_map(|fault| fault.value.id.as_ref()) {
            if seen.insert(&id.value, ()).is_some() {
                problems
                    .add(id.span, format!("two faults are named `{}`", id.value))
                    .advise("give each its own id");
            }
        }
        let none = faults
            .iter()
            .find(|fault| kind_of(fault).is_some_and(|kind| *kind == FaultKind::None));
        if let Some(none) = none.filter(|_| faults.len() > 1) {
            problems
                .add(place_of(none), "`none` stands beside other faults")
                .advise("remove it");
        }
    }

    /// What durations say of each other.
    fn times(&self, problems: &mut Problems) {
        let phases = self.spec.phases.phases;
        let end = phases.fault + phases.recovery;
        if phases.total() > LONGEST_RUN
            && let Some(span) = self.spec.phases.span
        {
            problems
                .add(span, format!("a run of {:?} is too long", phases.total()))
                .advise("at most 2 hours in all");
        }
        if let Some(window) = self.spec.window.as_ref().filter(|window| window.value > end) {
            problems
                .add(
                    window.span,
                    format!("the run ends {end:?} after the injection, before this window"),
                )
                .advise("at most `phases.fault` + `phases.recovery`");
        }
        let window = self.spec.window.as_ref().map_or(phases.fault, |window| window.value);
        let limits = &self.spec.limits;
        for limit in [&limits.time_to_detect, &limits.time_to_root_cause]
            .into_iter()
            .flatten()
        {
            if limit.value > window {
                problems
                    .add(limit.span, format!("what comes later than {window:?} does not count"))
                    .advise("write a shorter limit, or a longer `spec.window`");
            }
        }
        let impact = self
            .spec
            .impact
            .as_ref()
            .and_then(|impact| impact.value.within.as_ref());
        if let Some(within) = impact.filter(|within| within.value > phases.fault) {
            problems
                .add(within.span, format!("the fault phase ends after {:?}", phases.fault))
                .advise("write a shorter `within`");
        }
    }

    fn impact(&self, problems: &mut Problems) {
        if self.spec.impact.is_some() {
            return;
        }
        let harmful = self.spec.faults.iter().find(|fault| {
            kind_of(fault).is_some_and(|kind| !matches!(kind, FaultKind::None | FaultKind::Placebo { .. }))
        });
        if let Some(fault) = harmful {
            problems
                .add(
                    place_of(fault),
                    "this fault is no test until users see harm, and `spec.impact` is missing",
                )
                .advise("add for example `impact: {anyOf: [{sli: latency-p50, timesBaseline: 2}]}`");
        }
    }
}

fn kind_of(fault: &At<FaultSpec>) -> Option<&FaultKind> {
    fault.value.kind.as_ref().map(|kind| &kind.value.kind)
}
