//! Interprets a [`Plan`] against a running target, and records what happened.
//!
//! Invariant: only this module schedules by time. It never judges; see [`crate::check`] and [`crate::score`].

use std::time::Duration;

use tokio::sync::broadcast::{self, error::RecvError};
use tokio::time::{Instant, sleep_until};

use crate::clock::{MonotonicNanos, monotonic_ns};
use crate::detectors::{DetectorNews, Panel, Received};
use crate::fault::effect::{Effect, Subject, await_recovered, verify_effect};
use crate::fault::injection::Injection;
use crate::fault::injector::Injector;
use crate::fault::kind::FaultKind;
use crate::plan::{Plan, PlannedStep};
use crate::run::around::surroundings;
use crate::run::event::{Phase, RunEvent, SliEvent};
use crate::run::recorder::Recorder;
use crate::run::result::{FaultRecord, Moments};
use crate::target::Cluster;
use crate::target::cluster::Changes;
use crate::workload::SecondSample;

/// Pause between two effect probes.
const PROBE_EVERY: Duration = Duration::from_millis(100);

/// What the timeline found; all of it measured.
#[derive(Debug, Default)]
pub struct Observed {
    /// Moments of the run.
    pub moments: Moments,
    /// Each fault's story.
    pub faults: Vec<FaultRecord>,
    /// What the detectors said.
    pub statements: Vec<Received>,
    /// Ctrl-C or SIGTERM came.
    pub interrupted: bool,
}

/// A stop that was asked for: true from then on.
pub type Cancel = tokio::sync::watch::Receiver<bool>;

/// A cluster whose changes are heard.
#[derive(Debug)]
pub struct Watched<'run> {
    /// What happens to its pods is told.
    pub cluster: &'run Cluster,
    /// What detectors and faults are told of.
    pub changes: Changes,
}

/// What a timeline works on.
pub struct Timeline<'run, 'sinks> {
    /// The schedule.
    pub plan: &'run Plan,
    /// Injects.
    pub injector: &'run Injector,
    /// Where.
    pub watched: Watched<'run>,
    /// Listened to all the time.
    pub panel: &'run mut Panel,
    /// Users' experience.
    pub seconds: broadcast::Receiver<SecondSample>,
    /// Takes events.
    pub recorder: &'run mut Recorder<'sinks>,
    /// Asks it to stop.
    pub cancel: Cancel,
    /// What was found so far.
    pub observed: Observed,
    news_told: usize,
}

/// An injection that is active.
struct Active {
    injection: Injection,
    record: usize,
    ends: Instant,
    effect_until: Instant,
    next_probe: Instant,
    /// Start of the last probe that found it on no pod, of those before it was felt.
    absent_at_ns: Option<MonotonicNanos>,
    /// A probe found it on some pod: from then on it is felt, even where it eases before it bites for good (a workload that is
    /// rolled out with too little memory is away, comes back, and fails).
    is_felt: bool,
}

impl<'run, 'sinks> Timeline<'run, 'sinks> {
    /// A timeline of which nothing has happened.
    pub fn new(
        plan: &'run Plan,
        injector: &'run Injector,
        watched: Watched<'run>,
        panel: &'run mut Panel,
        seconds: broadcast::Receiver<SecondSample>,
        recorder: &'run mut Recorder<'sinks>,
        cancel: Cancel,
    ) -> Self {
        let observed = Observed::default();
        // The first start of each pod is no news.
        let news_told = watched.cluster.news().len();
        Self {
            plan,
            injector,
            watched,
            panel,
            seconds,
            recorder,
            cancel,
            observed,
            news_told,
        }
    }

    /// Plays the plan. Whatever happens, what was injected is recovered before this returns.
    pub async fn play(mut self) -> Observed {
        let phases = self.plan.scenario.phases;
        self.phase(Phase::WarmUp, phases.warm_up);
        self.wait(phases.warm_up).await;
        self.observed.moments.baseline_ns = monotonic_ns();
        self.phase(Phase::Baseline, phases.baseline);
        self.wait(phases.baseline).await;
        self.observed.moments.fault_phase_ns = monotonic_ns();
        self.phase(Phase::Fault, phases.fault);
        self.fault_phase(phases.fault).await;
        self.observed.moments.recovered_ns = monotonic_ns();
        self.phase(Phase::Recovery, phases.recovery);
        self.wait(phases.recovery).await;
        self.observed.moments.end_ns = monotonic_ns();
        self.observed
    }

    fn phase(&mut self, phase: Phase, planned: Duration) {
        let planned_ms = u64::try_from(planned.as_millis()).unwrap_or(u64::MAX);
        if !self.observed.interrupted {
            self.recorder.event(RunEvent::PhaseBegan { phase, planned_ms });
        }
    }

    async fn wait(&mut self, length: Duration) {
        self.listen_until(Instant::now() + length).await;
    }

    /// Takes what comes until `deadline`, or until a stop is asked for.
    async fn listen_until(&mut self, deadline: Instant) {
        let mut cancel = self.cancel.clone();
        let asked_to_stop = async move {
            // Whoever could ask is gone: that is a stop as well.
            let _closed = cancel.wait_for(|stop| *stop).await;
        };
        if self.observed.interrupted {
            return;
        }
        let stopped = self
            .meanwhile(async {
                tokio::select! {
                    biased;
                    () = asked_to_stop => true,
                    () = sleep_until(deadline) => false,
                }
            })
            .await;
        if stopped {
            self.observed.interrupted = true;
            self.recorder.warn("interrupted: recovering");
        }
    }

    /// Awaits `work` and takes what comes meanwhile: what detectors say and what becomes of pods is news whatever the harness
    /// is at.
    async fn meanwhile<T>(&mut self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        let mut has_load = true;
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                news = self.panel.next() => self.hear(news),
                lines = self.watched.changes.next() => {
                    self.panel.tell(&lines);
                    self.injector.set_surroundings(surroundings(self.watched.cluster));
                }
                second = self.seconds.recv(), if has_load => match second {
                    Ok(second) => self.second(&second),
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => has_load = false,
                },
            }
        }
    }

    fn hear(&mut self, news: DetectorNews) {
        match news {
            DetectorNews::Statement(received) => {
                self.recorder
                    .event_at(received.received_ns, RunEvent::Diagnosed(received.clone()));
                self.observed.statements.push(received);
            }
            DetectorNews::Nonsense { detector, text } => {
                self.recorder.event(RunEvent::DetectorNonsense { detector, text });
            }
            DetectorNews::Ended { detector } => self.recorder.event(RunEvent::DetectorEnded { detector }),
        }
    }

    fn second(&mut self, second: &SecondSample) {
        self.recorder.event_at(second.at_ns, RunEvent::Sli(sli_event(second)));
        for news in self.watched.cluster.news().into_iter().skip(self.news_told) {
            self.news_told += 1;
            let (pod, text) = (news.pod.to_string(), news.text);
            self.recorder.event_at(news.at_ns, RunEvent::PodRestarted { pod, text });
        }
    }

    async fn fault_phase(&mut self, length: Duration) {
        let began = Instant::now();
        let phase_ends = began + length;
        let mut waiting: Vec<&PlannedStep> = self.plan.steps.iter().collect();
        let mut active: Vec<Active> = Vec::new();
        while !self.observed.interrupted {
            let now = Instant::now();
            if let Some(index) = waiting.iter().position(|step| began + step.start_after <= now) {
                let step = waiting.remove(index);
                if let Some(injected) = self.inject(step).await {
                    active.push(injected);
                }
                continue;
            }
            if now >= phase_ends {
                break;
            }
            if let Some(index) = active.iter().position(|one| one.ends <= now && one.ends < phase_ends) {
                let ended = active.remove(index);
                self.recover(ended).await;
                continue;
            }
            let mut next = phase_ends;
            for one in &mut active {
                if self.observed.faults[one.record].onset_ns.is_none()
                    && one.next_probe <= now
                    && now < one.effect_until
                {
                    self.probe(one).await;
                    one.next_probe = Instant::now() + PROBE_EVERY;
                }
                let probing = self.observed.faults[one.record].onset_ns.is_none() && now < one.effect_until;
                next = next.min(one.ends).min(if probing { one.next_probe } else { one.ends });
            }
            next = waiting
                .iter()
                .map(|step| began + step.start_after)
                .fold(next, Instant::min);
            self.listen_until(next).await;
        }
        self.observed.moments.recover_start_ns = monotonic_ns();
        for one in active {
            self.recover(one).await;
        }
    }

    async fn inject(&mut self, step: &PlannedStep) -> Option<Active> {
        let mut record = FaultRecord {
            fault: step.fault.id.clone(),
            ..FaultRecord::default()
        };
        let now = Instant::now();
        let injector = self.injector;
        let injected = self.meanwhile(injector.inject(&step.fault)).await;
        let index = self.observed.faults.len();
        let active = match injected {
            Ok(injection) => {
                record.requested_ns = Some(injection.requested_at_ns());
                record.injected_ns = Some(injection.active_at_ns());
                let text = step_text(step);
                let event = RunEvent::FaultInjected {
                    fault: step.fault.id.clone(),
                    text,
                };
                self.recorder.event_at(injection.active_at_ns(), event);
                Some(Active {
                    injection,
                    record: index,
                    ends: now + step.duration,
                    effect_until: now + step.effect_within,
                    next_probe: Instant::now(),
                    absent_at_ns: None,
                    is_felt: false,
                })
            }
            Err(error) => {
                let error = crate::doctor::error_chain(&error);
                self.recorder.warn(&error);
                record.error = Some(error);
                None
            }
        };
        self.observed.faults.push(record);
        active
    }

    async fn recover(&mut self, active: Active) {
        let Active { injection, record, .. } = active;
        let (fault, subject) = (injection.fault().id.clone(), injection.subject());
        let error = match self.meanwhile(injection.recover()).await {
            Ok(recovered) => {
                self.observed.faults[record].recovered_ns = Some(recovered.at_ns);
                self.recorder
                    .event_at(recovered.at_ns, RunEvent::FaultRecovered { fault });
                self.gone(&subject).await
            }
            Err(error) => Some(crate::doctor::error_chain(&error)),
        };
        if let Some(error) = error {
            self.recorder.warn(&error);
            self.observed.faults[record].recovery_error = Some(error);
        }
    }

    /// Waits until the effect is no longer measured; says so if it stays or cannot be told.
    async fn gone(&mut self, subject: &Subject) -> Option<String> {
        let within = subject.gone_within().max(self.watched.cluster.recovers_within());
        let injector = self.injector;
        match self.meanwhile(await_recovered(injector, subject, within)).await {
            Effect::Absent { .. } | Effect::NotApplicable => None,
            Effect::Present { measured, .. } => Some(format!("the effect outlasts its undo: {measured}")),
            Effect::Unmeasured { reason } => Some(format!("recovery could not be measured: {reason}")),
        }
    }

    /// Looks for the effect once. It must be proven on every pod. It began between the last probe that found it nowhere and
    /// the first that found it somewhere, and the onset is the earlier end of that gap (at the earliest the request: a
    /// killed process is missed before the injector has returned): a detector that was quicker than the next probe raised no
    /// false alarm, and none is given the time between.
    async fn probe(&mut self, active: &mut Active) {
        let began_ns: MonotonicNanos = monotonic_ns();
        let (injector, subject) = (self.injector, active.injection.subject());
        let effect = self.meanwhile(verify_effect(injector, &subject)).await;
        let record = &mut self.observed.faults[active.record];
        match effect {
            Effect::Present { measured, .. } => {
                let asked_ns = active.injection.requested_at_ns();
                let onset_ns = active.absent_at_ns.unwrap_or(asked_ns).max(asked_ns);
                record.onset_ns = Some(onset_ns);
                record.measured = Some(measured.clone());
                let fault = record.fault.clone();
                self.recorder
                    .event_at(onset_ns, RunEvent::EffectProven { fault, measured });
            }
            Effect::Absent { measured, partly, .. } => {
                // Arrivals are counted per second and are our own: a surge is there from its injection, and known a second later.
                let is_known_late = matches!(active.injection.fault().kind, FaultKind::LoadSurge { .. });
                active.is_felt |= partly;
                if !active.is_felt && !is_known_late {
                    active.absent_at_ns = Some(began_ns);
                }
                record.measured = Some(measured);
            }
            Effect::Unmeasured { reason } => record.measured = Some(format!("not measured: {reason}")),
            Effect::NotApplicable => record.measured = Some("nothing to be measured".to_owned()),
        }
    }
}

/// A planned fault in words.
#[must_use]
pub fn step_text(step: &PlannedStep) -> String {
    let pods: Vec<&str> = step
        .fault
        .pods
        .iter()
        .map(gauntlet_probes::entity::PodName::as_str)
        .collect();
    let on = match (&step.fault.node, &pods[..]) {
        (None, []) => String::new(),
        (None, _) => format!(" on {}", pods.join(", ")),
        (Some(node), _) => format!(": {node} with {}", pods.join(", ")),
    };
    format!("{}{on}", step.fault.kind.words())
}

/// One second in the form of events.
#[must_use]
pub fn sli_event(second: &SecondSample) -> SliEvent {
    SliEvent {
        sent: second.sent,
        ok: second.ok,
        errors: second.error_count(),
        p50_us: second.latency.p50_us,
        p99_us: second.latency.p99_us,
    }
}
