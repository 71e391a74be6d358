//! One live run, from an empty run directory to a result. Brings up and takes down; what happens between is the timeline's.

use std::cell::RefCell;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use gauntlet_detector::pipeline;
use gauntlet_probes::entity::{InventoryLine, ServiceName};
use tokio::runtime::Runtime;

use super::control::RunControl;
use super::directory::write_json;
use super::environment::Environment;
use super::event::{EventSink, History, Phase, RunEvent};
use super::judge::{Said, judge_run};
use super::recorder::Recorder;
use super::result::RunResult;
use super::{Programs, RunError, RunOrder};
use crate::check::sli::SliSecond;
use crate::clock::monotonic_ns;
use crate::detectors::Panel;
use crate::detectors::panel::{PanelEnd, PanelError};
use crate::doctor::error_chain;
use crate::fault::injector::{AgentCommand, Injector};
use crate::fault::journal::Journal;
use crate::fault::surroundings::Surroundings;
use crate::plan::{Plan, PlanInventory, PlanPod, plan};
use crate::recording::Evidence;
use crate::recording::directory::{FRAMES, seal_directory};
use crate::residue::{self, ResidueState};
use crate::scenario::model::{LoadProfile, Scenario};
use crate::target::local::owner::PREFIX;
use crate::target::local::{LocalCluster, UpOptions};
use crate::target::namespace::tokio_runtime_in_netns;
use crate::target::{Dial, NetnsFd};
use crate::timeline::{Cancel, Observed, Timeline};
use crate::workload::SecondSample;
use crate::workload::spec::{Load, LoadSpec, Profile, RateStep};
use crate::workload::{Workload, WorkloadHandle};

/// Runs the order. Everything is recovered and taken down before this returns, whatever it returns.
///
/// # Errors
/// [`RunError`] when there is no result.
pub async fn execute(order: &RunOrder, console: &mut dyn EventSink, cancel: Cancel) -> Result<RunResult, RunError> {
    let history_path = order.directory.join("history.jsonl");
    let mut history = History::create(&history_path).map_err(|source| RunError::Directory {
        path: history_path.clone(),
        source,
    })?;
    let outcome = {
        let mut recorder = Recorder::new(vec![console, &mut history]);
        let outcome = bring_up_and_run(order, &mut recorder, cancel).await;
        outcome.map(|(evidence, said)| {
            let result = judge_run(&evidence, &said);
            seal(order, evidence, &result, &mut recorder);
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
) -> Result<(Evidence, Said), RunError> {
    let started_ns = monotonic_ns();
    recorder.event(RunEvent::PhaseBegan {
        phase: Phase::Start,
        planned_ms: 0,
    });
    let load = load(&order.scenario, order)?;
    let id = format!("{:08x}", rand::random::<u32>());
    let own = format!("{PREFIX}{id}");
    let host_before = residue::host_snapshot(&own);
    let cluster = Arc::new(up(order, recorder, id).await?);
    let played = with_cluster(order, recorder, cancel, &cluster, load).await;
    recorder.event(RunEvent::PhaseBegan {
        phase: Phase::Stop,
        planned_ms: 0,
    });
    let cluster = Arc::try_unwrap(cluster).map_err(|_| RunError::Target("the cluster is still in use".to_owned()));
    let down = match cluster {
        Ok(cluster) => cluster
            .down()
            .await
            .map_err(|error| RunError::Target(error_chain(&error))),
        Err(error) => Err(error),
    };
    let (plan, mut played) = played?;
    played.observed.moments.started_ns = started_ns;
    played.harness_errors.extend(down.err().map(|error| error.to_string()));
    // Other clusters may come and go meanwhile; of this one nothing may be left on the host.
    played
        .residue
        .extend(differences(&host_before, &residue::host_snapshot(&own)));
    if played.observed.interrupted {
        return Err(RunError::Interrupted);
    }
    Ok(played.evidence(order, plan))
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

async fn up(order: &RunOrder, recorder: &mut Recorder<'_>, id: String) -> Result<LocalCluster, RunError> {
    let options = UpOptions {
        id: Some(id),
        app_binary: order.programs.app.clone(),
        ..UpOptions::default()
    };
    let began = std::time::Instant::now();
    let cluster = {
        let steps = RefCell::new(&mut *recorder);
        let progress = |text: &str| steps.borrow_mut().step(text);
        LocalCluster::up(&order.app.spec, &order.app.name, &options, &progress).await
    };
    let cluster = cluster.map_err(|error| match error.is_unavailable() {
        true => RunError::CannotHere(error_chain(&error)),
        false => RunError::Target(error_chain(&error)),
    })?;
    let (pods, nodes) = (cluster.pods().len(), cluster.nodes().len());
    recorder.step(format!(
        "cluster is up: {pods} pods on {nodes} nodes, {:.1} s",
        began.elapsed().as_secs_f64()
    ));
    Ok(cluster)
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
    cluster: &Arc<LocalCluster>,
    load: Load,
) -> Result<(Plan, Played), RunError> {
    stop_if(&cancel)?;
    let plan = plan(&order.scenario, &plan_inventory(cluster), order.seed)
        .map_err(|error| RunError::Target(error_chain(&error)))?;
    write_json(&order.directory.join("plan.json"), &plan)?;
    let before = residue::snapshot(cluster.pods(), cluster.nodes());
    let entry = cluster
        .service_dial(&order.app.spec.entry)
        .ok_or_else(|| RunError::Target(format!("the app's entry `{}` has no address", order.app.spec.entry)))?;
    let runtime = LoadRuntime::new(cluster.client_netns())?;
    let mut panel = start_panel(order, cluster).await?;
    panel.notes.iter().for_each(|note| recorder.step(note));
    runtime.prefill(entry, &load, recorder).await?;
    stop_if(&cancel)?;
    let load_ns = monotonic_ns();
    let handle = runtime.start(entry, load.clone(), order.seed.0)?;
    let control = Arc::new(RunControl::new(Arc::clone(cluster), Arc::clone(&handle), load, load_ns));
    let injector = Injector::new(journal(order), agent(order), surroundings(cluster), control);
    let delay_by = format!("{:?}", injector.delay_by());
    let environment = Environment::here(&panel.versions(), &panel.degraded, &delay_by);
    write_json(&order.directory.join("environment.json"), &environment)?;
    let seconds = handle.subscribe();
    let timeline = Timeline::new(&plan, &injector, cluster, &mut panel, seconds, recorder, cancel);
    let mut observed = timeline.play().await;
    observed.moments.load_ns = load_ns;
    drop(injector);
    let degraded = panel.degraded.clone();
    let panel_end = panel.finish(observed.moments.end_ns).await;
    let residue = differences(&before, &residue::snapshot(cluster.pods(), cluster.nodes()));
    let seconds = match Arc::try_unwrap(handle) {
        Ok(handle) => handle.stop().await,
        Err(handle) => handle.second_samples(),
    };
    let played = Played {
        observed,
        seconds,
        panel_end,
        degraded,
        residue,
        harness_errors: Vec::new(),
        environment,
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

async fn start_panel(order: &RunOrder, cluster: &LocalCluster) -> Result<Panel, RunError> {
    let inventory: Vec<InventoryLine> = cluster.inventory();
    let Programs { asked, detector, .. } = &order.programs;
    let started = Panel::start(asked, detector, &inventory, &order.directory).await;
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

/// What a cluster has around its faults: pods, nodes, and every virtual address of each workload.
#[must_use]
pub fn surroundings(cluster: &LocalCluster) -> Surroundings {
    let mut surroundings = Surroundings {
        pods: cluster.pods().to_vec(),
        nodes: cluster.nodes().to_vec(),
        ..Surroundings::default()
    };
    for line in cluster.inventory() {
        let InventoryLine::Service(service) = line else {
            continue;
        };
        let std::net::IpAddr::V4(ip) = service.cluster_ip else {
            continue;
        };
        for pod in cluster
            .pods()
            .iter()
            .filter(|pod| service.endpoints.contains(&pod.name))
        {
            let known: &mut Vec<Ipv4Addr> = surroundings.virtual_ips.entry(pod.service.clone()).or_default();
            if !known.contains(&ip) {
                known.push(ip);
            }
        }
    }
    surroundings
}

fn plan_inventory(cluster: &LocalCluster) -> PlanInventory {
    let pod = |pod: &crate::target::PodHandle| PlanPod {
        name: pod.name.clone(),
        service: ServiceName::new(pod.service.as_str()),
        node: pod.node.clone(),
    };
    PlanInventory {
        pods: cluster.pods().iter().map(pod).collect(),
    }
}

fn load(scenario: &Scenario, order: &RunOrder) -> Result<Load, RunError> {
    let profile = scenario.load.as_ref().map(|profile| match profile {
        LoadProfile::Constant { rate } => Profile::Constant { rate: *rate },
        LoadProfile::Ramp { from, to, over } => Profile::Ramp {
            from: *from,
            to: *to,
            over: *over,
        },
        LoadProfile::Step { steps } => Profile::Step {
            steps: steps
                .iter()
                .map(|step| RateStep {
                    rate: step.rate,
                    duration: step.lasts,
                })
                .collect(),
        },
    });
    let spec = LoadSpec {
        profile,
        ..LoadSpec::default()
    };
    Load::new(&spec, &order.app.spec).map_err(|error| RunError::Target(error_chain(&error)))
}

fn differences(before: &ResidueState, after: &ResidueState) -> Vec<String> {
    residue::diff(before, after).iter().map(ToString::to_string).collect()
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

/// The runtime whose threads are where load enters. It cannot be dropped within another runtime, so it is let go.
struct LoadRuntime(Option<Runtime>);

impl LoadRuntime {
    fn new(netns: NetnsFd) -> Result<Self, RunError> {
        let runtime = tokio_runtime_in_netns(netns, 1).map_err(|error| RunError::Target(error_chain(&error)))?;
        Ok(Self(Some(runtime)))
    }

    fn handle(&self) -> tokio::runtime::Handle {
        self.0.as_ref().expect("only dropping takes it").handle().clone()
    }

    async fn prefill(&self, entry: Dial, load: &Load, recorder: &mut Recorder<'_>) -> Result<(), RunError> {
        let load = load.clone();
        let prefill = self
            .handle()
            .spawn(async move { Workload::prefill(entry, &load).await })
            .await;
        let prefill = prefill.map_err(|error| RunError::Target(format!("prefill broke: {error}")))?;
        if prefill.requested > 0 {
            let (requested, failed) = (prefill.requested, prefill.failed);
            let seconds = prefill.took.as_secs_f64();
            recorder.step(format!(
                "caches filled with {requested} requests ({failed} failed) in {seconds:.1} s"
            ));
        }
        Ok(())
    }

    fn start(&self, entry: Dial, load: Load, seed: u64) -> Result<Arc<WorkloadHandle>, RunError> {
        let handle = Workload::start(&self.handle(), entry, load, seed)
            .map_err(|error| RunError::Target(format!("failed to start the load: {error}")))?;
        Ok(Arc::new(handle))
    }
}

impl Drop for LoadRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
