//! The cluster and the load of a run, as faults see them.

use std::sync::Arc;

use gauntlet_probes::entity::ServiceName;

use crate::fault::control::{ClusterControl, ControlFuture};
use crate::target::{Cluster, Dial};
use crate::workload::WorkloadHandle;
use crate::workload::spec::Load;

/// What faults may do beyond a pod's own kernel objects.
#[derive(Debug)]
pub struct RunControl {
    cluster: Arc<Cluster>,
    workload: Arc<WorkloadHandle>,
    load: Load,
    started_ns: u64,
}

impl RunControl {
    /// Control over this cluster and this load, which started at `started_ns`.
    #[must_use]
    pub fn new(cluster: Arc<Cluster>, workload: Arc<WorkloadHandle>, load: Load, started_ns: u64) -> Self {
        Self {
            cluster,
            workload,
            load,
            started_ns,
        }
    }
}

impl ClusterControl for RunControl {
    fn set_target_port<'a>(&'a self, service: &'a ServiceName, port: Option<u16>) -> ControlFuture<'a> {
        Box::pin(async move {
            self.cluster
                .set_target_port(service.as_str(), port)
                .await
                .map_err(Into::into)
        })
    }

    fn service_dial(&self, service: &ServiceName) -> Option<Dial> {
        self.cluster.service_dial(service.as_str())
    }

    fn set_load_factor(&self, factor: f64) {
        self.workload.set_factor(factor);
    }

    fn offered_load_ratio(&self) -> Option<f64> {
        let second = self.workload.second_samples().pop()?;
        let since_start = std::time::Duration::from_nanos(second.at_ns.saturating_sub(self.started_ns));
        let expected = self.load.profile.rate_at(since_start);
        #[expect(clippy::cast_precision_loss, reason = "arrivals of one second")]
        (expected > 0.0).then(|| second.sent as f64 / expected)
    }
}
