//! The load of a run: what a scenario offers, and the runtime from which it enters the cluster.
//!
//! How load is made and measured is [`crate::workload`]'s.

use std::sync::Arc;

use tokio::runtime::Runtime;

use super::recorder::Recorder;
use super::{RunError, RunOrder};
use crate::doctor::error_chain;
use crate::scenario::model::{LoadProfile, Scenario};
use crate::target::namespace::tokio_runtime_in_netns;
use crate::target::{Dial, NetnsFd};
use crate::workload::spec::{Load, LoadSpec, Profile, RateStep};
use crate::workload::{Workload, WorkloadHandle};

/// The load that the scenario offers to the order's application.
///
/// # Errors
/// When the application cannot take it.
pub(super) fn load(scenario: &Scenario, order: &RunOrder) -> Result<Load, RunError> {
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

/// The runtime whose threads are where load enters. It cannot be dropped within another runtime, so it is let go.
pub(super) struct LoadRuntime(Option<Runtime>);

impl LoadRuntime {
    pub(super) fn new(netns: NetnsFd) -> Result<Self, RunError> {
        let runtime = tokio_runtime_in_netns(netns, 1).map_err(|error| RunError::Target(error_chain(&error)))?;
        Ok(Self(Some(runtime)))
    }

    fn handle(&self) -> tokio::runtime::Handle {
        self.0.as_ref().expect("only dropping takes it").handle().clone()
    }

    pub(super) async fn prefill(&self, entry: Dial, load: &Load, recorder: &mut Recorder<'_>) -> Result<(), RunError> {
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

    pub(super) fn start(&self, entry: Dial, load: Load, seed: u64) -> Result<Arc<WorkloadHandle>, RunError> {
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
