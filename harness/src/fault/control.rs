//! What faults need of the cluster and of the workload beyond a pod's own kernel objects.
//!
//! Implemented by whoever owns them; the faults know neither.

use std::future::Future;
use std::pin::Pin;

use gauntlet_probes::entity::ServiceName;

use crate::target::Dial;

/// Why a cluster or workload refused.
pub type ControlError = Box<dyn std::error::Error + Send + Sync>;

/// An answer to come.
pub type ControlFuture<'a> = Pin<Box<dyn Future<Output = Result<(), ControlError>> + Send + 'a>>;

/// A cluster and its workload, as faults see them.
pub trait ClusterControl: Send + Sync {
    /// Makes all virtual addresses of `service` lead to `port` of its pods; `None`: to the right one.
    fn set_target_port<'a>(&'a self, service: &'a ServiceName, port: Option<u16>) -> ControlFuture<'a>;

    /// The virtual address of `service`, as callers dial it.
    fn service_dial(&self, service: &ServiceName) -> Option<Dial>;

    /// Multiplies the offered load; 1 is what the scenario offers without a fault.
    fn set_load_factor(&self, factor: f64);

    /// Arrivals of the last full second over those that a factor of 1 would have offered; `None`: no full second yet.
    fn offered_load_ratio(&self) -> Option<f64>;
}
