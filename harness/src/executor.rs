//! Runs the shards of a suite in pods of any Kubernetes cluster, and collects their results through its API.
//!
//! Each case's result is one object that is created once and never changed, so that the API server decides, whoever else
//! runs the same case: the first one that ended counts. A pod that takes a dead one's place reads what there is and goes
//! on, as an interrupted suite does on one machine. Does not know how a run is made.

pub mod order;
pub mod record;
pub mod objects;
pub mod jobs;
pub mod pods;
mod intake;
pub mod lifetime;
pub mod collect;
pub mod keeper;
pub mod cgroups;
mod marker;

pub use self::marker::{MARKER_FILE, Marker};

use crate::suite::store::StoreError;
use crate::target::kind::access::AccessError;
use crate::target::kind::api::ApiError;

/// Why an execution did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum ExecutorError {
    /// The cluster cannot be reached.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The API server said no, or nothing.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// A result could not be kept here.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An object of the cluster is not what it should be.
    #[error("{object} cannot be read: {why}")]
    Unreadable {
        /// Its name.
        object: String,
        /// What is wrong.
        why: String,
    },
    /// Two shards asked two detectors.
    #[error(
        "the shards have other detectors: the image {image} is not the same on all nodes; load it again, under a tag of its \
         own"
    )]
    Mixed {
        /// Name of the image.
        image: String,
    },
    /// Pods do not run.
    #[error("the shards cannot run: {0}")]
    Pods(String),
}
