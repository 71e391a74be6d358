//! Measures whether a fault bites: from where its victims stand, with the physics of each kind stated.
//!
//! A fault is not ground truth until it was proven here. Costs each pod about as much as a readiness check; never looks
//! at what a detector says, and never changes anything.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use gauntlet_probes::entity::PodName;
use gauntlet_probes::frame::MonotonicNanos;
use serde::{Deserialize, Serialize};

use crate::target::PodHandle;

use super::agent::with_causes;
use super::cpu::{self, Quota};
use super::flush::KeyCount;
use super::injector::Injector;
use super::journal::InjectionId;
use super::kind::{FaultKind, PlannedFault};
use super::kubernetes::recipe::Scene;
use super::process;
use super::recipe::bare;
use super::step::Potency;
use super::surroundings::Surroundings;

mod cluster;
mod local;
mod network;
mod vantage;

/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What one look at a fault's effect gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Effect {
    /// It bites, on every pod.
    Present {
        /// What was measured.
        measured: String,
        /// When the look began that proved it: silence, for one, takes time to hear.
        from_ns: MonotonicNanos,
        /// When that was known.
        at_ns: MonotonicNanos,
    },
    /// It does not, on some pod at least.
    Absent {
        /// What was measured.
        measured: String,
        /// Whether it bites on some of the pods already: users and detectors may feel it from here on.
        partly: bool,
        /// When that was known.
        at_ns: MonotonicNanos,
    },
    /// It could not be told.
    Unmeasured {
        /// Why not.
        reason: String,
    },
    /// This kind has no effect that anybody could measure.
    NotApplicable,
}

/// What an effect is measured by. Outlives its injection, so that the recovery can be measured too.
#[derive(Clone, Debug)]
pub struct Subject {
    pub(crate) id: InjectionId,
    pub(crate) fault: PlannedFault,
    pub(crate) before: Before,
    pub(crate) keys: BTreeMap<PodName, KeyCount>,
}

impl Subject {
    /// How long the effect may outlast its undo.
    #[must_use]
    pub fn gone_within(&self) -> Duration {
        self.fault.kind.gone_within()
    }
}

/// What stood before the injection, where the effect is a difference.
#[derive(Clone, Debug, Default)]
pub(crate) struct Before {
    pub(crate) tgids: BTreeMap<PodName, BTreeSet<i32>>,
    pub(crate) throttled: BTreeMap<PodName, u64>,
    pub(crate) quotas: BTreeMap<PodName, Quota>,
    pub(crate) scene: Scene,
}

impl Before {
    /// Looks at the fault's pods.
    pub(crate) fn of(fault: &PlannedFault, surroundings: &Surroundings, scene: Scene) -> Self {
        let pods: Vec<&PodHandle> = fault.pods.iter().filter_map(|name| surroundings.pod(name)).collect();
        let named = |pod: &&PodHandle| pod.name.clone();
        let throttled = pods
            .iter()
            .filter_map(|pod| Some((named(pod), cpu::throttled_count(&pod.cgroup.cpu).ok()?)));
        let quotas = pods
            .iter()
            .filter_map(|pod| Some((named(pod), Quota::read(&pod.cgroup.cpu).ok()?)));
        Self {
            tgids: pods
                .iter()
                .map(|pod| (named(pod), process::tgids(&pod.cgroup.unified)))
                .collect(),
            throttled: throttled.collect(),
            quotas: quotas.collect(),
            scene,
        }
    }
}

/// One measurement: whether it shows the fault, and what it was in words.
#[derive(Debug)]
struct Reading {
    bites: bool,
    measured: String,
}

type Measurement = Result<Reading, String>;

/// What is asked for: the fault's bite, or that the pod is as before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    Bites,
    Recovered,
}

/// Looks once. A placebo's effect is that of the fault that it imitates, and is expected to be absent.
pub async fn verify_effect(injector: &Injector, subject: &Subject) -> Effect {
    look(injector, subject, Question::Bites).await
}

/// Looks until the effect is present, at most `within`: the moment of the first [`Effect::Present`] is the onset.
pub async fn await_effect(injector: &Injector, subject: &Subject, within: Duration) -> Effect {
    until(
        within,
        async || verify_effect(injector, subject).await,
        |effect| !matches!(effect, Effect::Absent { .. }),
    )
    .await
}

/// Looks once whether the pods are free of the fault again: [`Effect::Absent`] is what one hopes for.
pub async fn verify_recovered(injector: &Injector, subject: &Subject) -> Effect {
    look(injector, subject, Question::Recovered).await
}

/// Looks until the effect is absent, at most `within`.
pub async fn await_recovered(injector: &Injector, subject: &Subject, within: Duration) -> Effect {
    let gone = |effect: &Effect| matches!(effect, Effect::Absent { .. } | Effect::NotApplicable);
    until(within, async || verify_recovered(injector, subject).await, gone).await
}

async fn until(within: Duration, look: impl AsyncFn() -> Effect, done: impl Fn(&Effect) -> bool) -> Effect {
    let deadline = Instant::now() + within;
    loop {
        let started = Instant::now();
        let effect = look().await;
        if done(&effect) || Instant::now() >= deadline {
            return effect;
        }
        tokio::time::sleep(LOOK_EVERY.saturating_sub(started.elapsed())).await;
    }
}

async fn look(injector: &Injector, subject: &Subject, question: Question) -> Effect {
    let from_ns = super::now_ns();
    let (kind, _potency) = bare(&subject.fault.kind, Potency::Full);
    let readings = match kind {
        FaultKind::None | FaultKind::Placebo { .. } => return Effect::NotApplicable,
        FaultKind::LoadSurge { factor } => vec![local::load(injector, *factor)],
        FaultKind::Object(_) | FaultKind::Node(_) => of_cluster(injector, subject, question).await,
        FaultKind::ServiceWrongPort { .. } if injector.surroundings().kubernetes.is_some() => {
            of_cluster(injector, subject, question).await
        }
        FaultKind::ServiceWrongPort { .. } => {
            let dial = subject
                .fault
                .service
                .as_ref()
                .and_then(|service| injector.control().service_dial(service));
            let (subject, surroundings) = (subject.clone(), injector.surroundings());
            in_thread(move || vec![network::wrong_port(dial, &subject, &surroundings)]).await
        }
        FaultKind::NetworkFilter { .. }
        | FaultKind::NetworkLoss { .. }
        | FaultKind::NetworkDelay { .. }
        | FaultKind::NetworkBandwidth { .. }
        | FaultKind::ProcessKill { .. }
        | FaultKind::ProcessPause
        | FaultKind::CpuLimit { .. }
        | FaultKind::CacheFlush => {
            let (subject, surroundings) = (subject.clone(), injector.surroundings());
            in_thread(move || of_pods(&subject, &surroundings, question)).await
        }
    };
    sum_up(readings, from_ns)
}

async fn of_cluster(injector: &Injector, subject: &Subject, question: Question) -> Vec<Measurement> {
    let (subject, surroundings) = (subject.clone(), injector.surroundings().clone());
    in_thread(move || cluster::measure(&subject, &surroundings, question)).await
}

async fn in_thread(measure: impl FnOnce() -> Vec<Measurement> + Send + 'static) -> Vec<Measurement> {
    let measured = tokio::task::spawn_blocking(measure).await;
    measured.unwrap_or_else(|error| vec![Err(format!("the measurement broke: {error}"))])
}

/// All pods at once: a look must not take longer because there are more of them.
fn of_pods(subject: &Subject, surroundings: &Surroundings, question: Question) -> Vec<Measurement> {
    std::thread::scope(|scope| {
        let measure = |name| match surroundings.pod(name) {
            Some(pod) => of_pod(subject, pod, surroundings, question),
            None => Err(format!("pod {name} does not exist")),
        };
        let threads: Vec<_> = subject
            .fault
            .pods
            .iter()
            .map(|name| scope.spawn(move || measure(name)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err("it panicked".to_owned())))
            .collect()
    })
}

fn of_pod(subject: &Subject, pod: &PodHandle, surroundings: &Surroundings, question: Question) -> Measurement {
    let (kind, _potency) = bare(&subject.fault.kind, Potency::Full);
    let look = network::Look { pod, surroundings };
    match kind {
        FaultKind::NetworkFilter { action, scope } => look.filter(*action, scope, &subject.id),
        FaultKind::NetworkLoss { ratio, scope } => look.loss(*ratio, scope),
        FaultKind::NetworkDelay { delay, jitter, scope } => look.delay(*delay, *jitter, scope),
        FaultKind::NetworkBandwidth {
            bits_per_second,
            direction,
        } => look.bandwidth(*bits_per_second, *direction),
        FaultKind::ProcessKill { .. } => match question {
            Question::Bites => Ok(local::killed(pod, &subject.before)),
            Question::Recovered => look.unreachable(),
        },
        FaultKind::ProcessPause => local::paused(pod),
        FaultKind::CpuLimit { millicores } => local::limited(pod, *millicores, &subject.before, question),
        FaultKind::CacheFlush => match question {
            Question::Bites => local::flushed(pod, &subject.keys),
            Question::Recovered => Ok(Reading {
                bites: false,
                measured: format!("{}: nothing to undo", pod.name),
            }),
        },
        FaultKind::None
        | FaultKind::Placebo { .. }
        | FaultKind::LoadSurge { .. }
        | FaultKind::ServiceWrongPort { .. }
        | FaultKind::Object(_)
        | FaultKind::Node(_) => {
            unreachable!("not measured pod by pod")
        }
    }
}

fn sum_up(readings: Vec<Measurement>, from_ns: MonotonicNanos) -> Effect {
    let at_ns = super::now_ns();
    if readings.is_empty() {
        return Effect::Unmeasured {
            reason: "the fault has no pods".to_owned(),
        };
    }
    let (mut all_bite, mut partly, mut measured, mut reasons) = (true, false, Vec::new(), Vec::new());
    for reading in readings {
        match reading {
            Ok(reading) => {
                all_bite &= reading.bites;
                partly |= reading.bites;
                measured.push(reading.measured);
            }
            Err(reason) => reasons.push(reason),
        }
    }
    let measured = measured.join("; ");
    match (reasons.is_empty(), all_bite) {
        (false, _) => Effect::Unmeasured {
            reason: reasons.join("; "),
        },
        (true, true) => Effect::Present {
            measured,
            from_ns,
            at_ns,
        },
        (true, false) => Effect::Absent {
            measured,
            partly,
            at_ns,
        },
    }
}
