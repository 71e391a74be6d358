//! What may go wrong with a cluster as a whole.

use std::path::PathBuf;

use super::cgroup::CgroupError;
use super::keeper::KeeperError;
use super::layout::LayoutError;
use super::network::NetworkError;
use super::postgres::TemplateError;
use super::ready::ReadyError;
use super::services::ServicesError;
use super::tools::MissingTools;

/// The cluster could not be brought up. What had been made of it is gone.
#[derive(Debug, thiserror::Error)]
pub enum UpError {
    /// Not root.
    #[error("the local cluster needs root (namespaces, cgroups, nftables)")]
    NotRoot,
    /// Programs are missing.
    #[error(transparent)]
    Tools(#[from] MissingTools),
    /// The application does not fit.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// Our own program is missing.
    #[error("{} is missing; it is built and installed together with this program", path.display())]
    AppBinary {
        /// Where it should be.
        path: PathBuf,
    },
    /// Cgroups.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// Namespaces, links, routes.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// Virtual services.
    #[error(transparent)]
    Services(#[from] ServicesError),
    /// Databases.
    #[error(transparent)]
    Postgres(#[from] TemplateError),
    /// The application's declaration could not be written.
    #[error("failed to encode the application")]
    Encode(#[from] serde_json::Error),
    /// The warden.
    #[error(transparent)]
    Keeper(#[from] KeeperError),
    /// A pod does not serve.
    #[error(transparent)]
    Ready(#[from] Box<ReadyError>),
}

impl UpError {
    /// True when the machine lacks what a local cluster needs: nothing was tried, nothing is wrong with the application.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        matches!(
            self,
            Self::NotRoot | Self::Tools(_) | Self::AppBinary { .. } | Self::Postgres(TemplateError::NoUser)
        )
    }
}

/// The cluster could not be taken down, or not wholly.
#[derive(Debug, thiserror::Error)]
#[error("failed to take cluster {cluster} down; `gauntlet recover` tries again")]
pub struct DownError {
    pub(super) cluster: String,
    #[source]
    pub(super) source: KeeperError,
}

/// A service's virtual addresses could not be led elsewhere.
#[derive(Debug, thiserror::Error)]
pub enum TargetPortError {
    /// There is no such service.
    #[error("there is no service {service}")]
    NoService {
        /// As asked for.
        service: String,
    },
    /// The rules.
    #[error(transparent)]
    Services(#[from] ServicesError),
}
