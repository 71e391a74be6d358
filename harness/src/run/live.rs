//! One live run, from an empty run directory to a result. Brings up and takes down; what happens between is the timeline's.

use std::sync::Arc;
use std::time::Duration;

use gauntlet_detector::pipeline;
use gauntlet_probes::entity::InventoryLine;

use super::around::{plan_inventory, surroundings};
use super::bring_up::{Before, Spent, differences, down, settled, up};
use super::control::RunControl;
use super::directory::{hold, write_json};
use super::environment::Environment;
use super::event::{EventSink, History, Phase, RunEvent};
use super::homes;
use super::judge::{Said, judge_run};
use super::offer::{LoadRuntime, load};
use super::recorder::Recorder;
use super::result::RunResult;
use super::{Programs, RunError, RunOrder, RunTarget};
use crate::check::sli::SliSecond;
use crate::clock::{MonotonicNanos, monotonic_ns};
use crate::detectors::Panel;
use crate::detectors::panel::{PanelEnd, PanelError};
use crate::doctor::error_chain;
use crate::fault::injector::{AgentCommand, Injector};
use crate::fault::journal::Journal;
use crate::plan::{Plan, plan};
use crate::recording::Evidence;
use crate::recording::directory::{FRAMES, seal_directory};
use crate::residue;
use crate::target::Cluster;
use crate::target::local::owner::PREFIX;
use crate::timeline::{Cancel, Observed, Timeline, Watched};
use crate::workload::SecondSample;
use crate::workload::spec::Load;

/// Runs the order. Everything is recovered and taken down before this returns, whatever it returns.
///
/// # Errors
/// [`RunError`] when there is no result.
pub async fn execute(order: &RunOrder, console: &mut dyn EventSink, cancel: Cancel) -> Result<RunResult, RunError> {
    if let Some(home) = order.directory.parent() {
        homes::remember(home);
    }
    let _held = hold(&order.directory).map_err(|source| RunError::Directory {
        path: order.directory.clone(),
        source,
    })?;
    let history_path = order.directory.join("history.jsonl");
    let mut history = History::create(&history_path).map_err(|source| RunError::Directory {
        path: history_path.clone(),
        source,
    })?;
    let outcome = {
        let mut recorder = Recorder::new(vec![console, &mut history]);
        let outcome = bring_up_and_run(order, &mut recorder, cancel).await;
        outcome.map(|(evidence, said, spent)| {
            let result = judge_run(&evidence, &said);
            seal(order, evidence, &result, &mut recorder);
            if matches!(order.target, RunTarget::Kind(_)) {
                recorder.step(spent.words(monotonic_ns()));
            }
            result
        })
    };
    let written = history.finish().map_err(|source| RunError::Directory {
        path: history_path,
        source,
    });
    let result = outcome?;
    written?;
    write_json(&order.directory.join("result.json"), &result)?;
    Ok(result)
}

async fn bring_up_and_run(
    order: &RunOrder,
    recorder: &mut Recorder<'_>,
    cancel: Cancel,
) -> Result<(Evidence, Said, Spent), RunError> {
    let started_ns = monotonic_ns();
    recorder.event(RunEvent::PhaseBegan {
        phase: Phase::Start,
        planned_ms: 0,
    });
    let load = load(&order.scenario, order)?;
    let id = format!("{:08x}", rand::random::<u32>());
    let own = format!("{PREFIX}{id}");
    let host_before = residue::host_snapshot(&own);
    let cluster = Arc::new(up(order, recorder, id, cancel.clone()).await?);
    let up_took = cluster.up_took();
    let played = with_cluster(order, recorder, cancel, &cluster, load).await;
    recorder.event(RunEvent::PhaseBegan {
        phase: Phase::Stop,
        planned_ms: 0,
    });
    let cluster = Arc::try_unwrap(cluster).map_err(|_| RunError::Target("the cluster is still in use".to_owned()));
    let down = match cluster {
        Ok(cluster) => down(order, cluster).await,
        Err(error) => Err(error),
    };
    let (plan, mut played) = played?;
    played.observed.moments.started_ns = started_ns;
    let kubernetes = up_took + played.settled_in + *down.as_ref().unwrap_or(&Duration::ZERO);
    played.harness_errors.extend(down.err().map(|error| error.to_string()));
    // Other clusters may come and go meanwhile; of this one nothing may be left on the host.
    played
        .residue
        .extend(differences(&host_before, &residue::host_snapshot(&own)));
    if played.observed.interrupted {
        return Err(RunError::Interrupted);
    }
    let spent = Spent {
        began_ns: started_ns,
        scenario: Duration::from_nanos(played.observed.moments.end_ns.saturating_sub(played.offered_ns)),
        kubernetes,
    };
    let (evidence, said) = played.evidence(order, plan);
    Ok((evidence, said, spent))
}

/// Seals what was recorded. The result does not depend on it, so that a full disk costs the recording and not the run.
fn seal(order: &RunOrder, evidence: Evidence, result: &RunResult, recorder: &mut Recorder<'_>) {
    if !order.directory.join(FRAMES).is_file() {
        return;
    }
    let evidence = Evidence {
        moments: result.moments,
        ..evidence
    };
    match seal_directory(&order.directory, &evidence) {
        Ok(length) => recorder.step(format!("recording sealed: {} kB", length.div_ceil(1000))),
        Err(error) => recorder.warn(error_chain(&error)),
    }
}

/// What a played run left in memory.
struct Played {
    observed: Observed,
    seconds: Vec<SecondSample>,
    panel_end: PanelEnd,
    degraded: Vec<String>,
    residue: Vec<String>,
    harness_errors: Vec<String>,
    environment: Environment,
    /// The first request was sent, to fill caches.
    offered_ns: MonotonicNanos,
    /// What pods took to be back after the end.
    settled_in: Duration,
}

impl Played {
    fn evidence(self, order: &RunOrder, plan: Plan) -> (Evidence, Said) {
        let mut statements = self.observed.statements;
        statements.extend(self.panel_end.statements);
        let ends = self.panel_end.ends;
        let recorder_end = ends.get(pipeline::NAME).cloned().unwrap_or_default();
        let detector = order.programs.under_test().name.as_str();
        let mut harness_errors = self.harness_errors;
        // Without our own detector there is no evidence; it is the miss of nobody else.
        harness_errors.extend(
            recorder_end
                .failure
                .iter()
                .filter(|_| detector != pipeline::NAME)
                .map(|failure| format!("the evidence is incomplete: our detector failed: {failure}")),
        );
        let said = Said {
            ends,
            detector: detector.to_owned(),
            statements,
        };
        let evidence = Evidence {
            plan,
            app: order.app.name.clone(),
            trial: order.trial,
            moments: self.observed.moments,
            faults: self.observed.faults,
            recorder_end,
            degraded: self.degraded,
            seconds: self.seconds.iter().map(sli_second).collect(),
            residue: self.residue,
            harness_errors,
            environment: self.environment,
        };
        (evidence, said)
    }
}

async fn with_cluster(
    order: &RunOrder,
    recorder: &mut Recorder<'_>,
    cancel: Cancel,
    cluster: &Arc<Cluster>,
    load: Load,
) -> Result<(Plan, Played), RunError> {
    stop_if(&cancel)?;
    let plan = plan(&order.scenario, &plan_inventory(cluster), order.seed)
        .map_err(|error| RunError::Target(error_chain(&error)))?;
    write_json(&order.directory.join("plan.json"), &plan)?;
    let before = Before::of(cluster).await?;
    let entry = cluster
        .service_dial(&order.app.spec.entry)
        .ok_or_else(|| RunError::Target(format!("the app's entry `{}` has no address", order.app.spec.entry)))?;
    let runtime = LoadRuntime::new(cluster.client_netns())?;
    let (inventory, changes) = cluster.subscribe();
    let mut panel = start_panel(order, &inventory).await?;
    panel.notes.iter().for_each(|note| recorder.step(note));
    let offered_ns = monotonic_ns();
    runtime.prefill(entry, &load, recorder).await?;
    stop_if(&cancel)?;
    let load_ns = monotonic_ns();
    let handle = runtime.start(entry, load.clone(), order.seed.0)?;
    let control = Arc::new(RunControl::new(Arc::clone(cluster), Arc::clone(&handle), load, load_ns));
    let injector = Injector::new(journal(order), agent(order), surroundings(cluster), control);
    let delay_by = format!("{:?}", injector.delay_by());
    let environment = Environment::here(&panel.versions(), &panel.degraded, &delay_by, cluster.words());
    write_json(&order.directory.join("environment.json"), &environment)?;
    let seconds = handle.subscribe();
    let watched = Watched { cluster, changes };
    let timeline = Timeline::new(&plan, &injector, watched, &mut panel, seconds, recorder, cancel);
    let mut observed = timeline.play().await;
    observed.moments.load_ns = load_ns;
    drop(injector);
    let degraded = panel.degraded.clone();
    let panel_end = panel.finish(observed.moments.end_ns).await;
    let seconds = match Arc::try_unwrap(handle) {
        Ok(handle) => handle.stop().await,
        Err(handle) => handle.second_samples(),
    };
    let (mut settled_in, mut harness_errors, mut left) = Default::default();
    // Who asked to stop does not wait for a scan of a run that does not count.
    if !observed.interrupted {
        (settled_in, harness_errors) = settled(cluster, recorder).await;
        left = before.residue(cluster).await;
    }
    let played = Played {
        observed,
        seconds,
        panel_end,
        degraded,
        residue: left,
        harness_errors,
        environment,
        settled_in,
        offered_ns,
    };
    Ok((plan, played))
}

/// A stop that was asked for while things were starting: nothing is injected yet, so taking down is all there is to do.
fn stop_if(cancel: &Cancel) -> Result<(), RunError> {
    if *cancel.borrow() {
        Err(RunError::Interrupted)
    } else {
        Ok(())
    }
}

async fn start_panel(order: &RunOrder, inventory: &[InventoryLine]) -> Result<Panel, RunError> {
    let Programs { asked, detector, .. } = &order.programs;
    let started = Panel::start(asked, detector, inventory, &order.directory).await;
    started.map_err(|error| match &error {
        PanelError::CannotHere(_) | PanelError::Listen { .. } | PanelError::Pipe(_) => {
            RunError::CannotHere(error_chain(&error))
        }
        PanelError::Ours(_) => RunError::Target(error_chain(&error)),
    })
}

fn journal(order: &RunOrder) -> Journal {
    Journal::at(order.directory.join("journal.jsonl"))
}

fn agent(order: &RunOrder) -> AgentCommand {
    AgentCommand {
        program: order.programs.gauntlet.clone(),
        arguments: vec!["__fault-agent".to_owned()],
    }
}

fn sli_second(second: &SecondSample) -> SliSecond {
    SliSecond {
        end_ns: second.at_ns + u64::try_from(Duration::from_secs(1).as_nanos()).expect("a second"),
        sent: second.sent,
        ok: second.ok,
        errors: second.error_count(),
        p50_us: second.latency.p50_us,
        p90_us: second.latency.p90_us,
        p99_us: second.latency.p99_us,
    }
}
