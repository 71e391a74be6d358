//! How a call to another service can fail, and what its caller's own caller is told.

use std::time::Duration;

use axum::http::StatusCode;

use super::resolver::ResolveError;

/// A call that failed.
#[derive(Debug, thiserror::Error)]
#[error("{callee}: {failure}")]
pub struct CallError {
    /// The service, or the replica, that was called.
    pub callee: String,
    /// What happened.
    #[source]
    pub failure: Failure,
}

/// What happened to a call.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Its name has no address, or no name server answered.
    #[error("failed to look it up")]
    Resolve(#[source] ResolveError),
    /// No connection within the bound.
    #[error("failed to connect within {0:?}")]
    ConnectTimedOut(Duration),
    /// No connection: refused, unreachable, or the other side does not speak the protocol.
    #[error("failed to connect")]
    Connect(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Every connection of the pool was busy.
    #[error("no free connection within {0:?}")]
    PoolExhausted(Duration),
    /// No answer within the bound.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// The connection broke, or the answer made no sense.
    #[error("the connection broke")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// An answer that says no.
    #[error("answered {0}")]
    Refused(String),
    /// An http status that is no success.
    #[error("answered with status {0}")]
    Status(u16),
    /// The declaration asks for what cannot be done, for example a column of an unknown type.
    #[error("{0}")]
    Declaration(String),
}

impl Failure {
    /// With the name of the service that was called.
    pub(crate) fn of(self, callee: &str) -> CallError {
        CallError {
            callee: callee.to_owned(),
            failure: self,
        }
    }

    /// The status with which a caller reports the failure of its callee.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::ConnectTimedOut(_) | Self::TimedOut(_) | Self::Status(504) => StatusCode::GATEWAY_TIMEOUT,
            Self::PoolExhausted(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Declaration(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Resolve(_) | Self::Connect(_) | Self::Broken(_) | Self::Refused(_) | Self::Status(_) => {
                StatusCode::BAD_GATEWAY
            }
        }
    }

    /// Whether the connection can be used again: an answer came, whole.
    pub(crate) fn leaves_connection_usable(&self) -> bool {
        match self {
            Self::Refused(_) | Self::Status(_) | Self::Declaration(_) => true,
            Self::Resolve(_)
            | Self::ConnectTimedOut(_)
            | Self::Connect(_)
            | Self::PoolExhausted(_)
            | Self::TimedOut(_)
            | Self::Broken(_) => false,
        }
    }
}
