//! Calls of a cluster's API: each has a deadline, and says what was asked when there is no answer.
//!
//! Does not repeat a call; what may be asked again is the caller's to know.

use std::time::Duration;

/// Longest that one call may take. An API server that is up answers within a second, also on a busy machine.
pub const CALL_WITHIN: Duration = Duration::from_secs(15);

/// A call was refused, or not answered.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The API said no, or could not be reached.
    #[error("failed to {asked}")]
    Refused {
        /// What was asked, for example `read namespace shop`.
        asked: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// It did not answer.
    #[error("failed to {asked}: the API did not answer within {patience:?}; is the cluster up?")]
    TooSlow {
        /// What was asked.
        asked: String,
        /// How long it had.
        patience: Duration,
    },
}

impl ApiError {
    /// True when what was asked about is not there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.code() == Some(404)
    }

    /// True when somebody else was first.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        self.code() == Some(409)
    }

    fn code(&self) -> Option<u16> {
        let Self::Refused { source, .. } = self else {
            return None;
        };
        match source.as_ref() {
            kube::Error::Api(status) => Some(status.code),
            _ => None,
        }
    }
}

/// Makes one call.
///
/// # Errors
/// [`ApiError`].
pub async fn call<T>(asked: impl Into<String>, answer: impl Future<Output = kube::Result<T>>) -> Result<T, ApiError> {
    call_within(CALL_WITHIN, asked.into(), answer).await
}

async fn call_within<T>(
    patience: Duration,
    asked: String,
    answer: impl Future<Output = kube::Result<T>>,
) -> Result<T, ApiError> {
    match tokio::time::timeout(patience, answer).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(source)) => Err(ApiError::Refused {
            asked,
            source: Box::new(source),
        }),
        Err(_) => Err(ApiError::TooSlow { asked, patience }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_call_ends_and_says_what_it_was() {
        assert_eq!(call("count", async { Ok(7) }).await.unwrap(), 7);
        let asked = "read node a".to_owned();
        let silent = call_within(
            Duration::from_millis(5),
            asked,
            std::future::pending::<kube::Result<()>>(),
        )
        .await;
        let message = silent.unwrap_err().to_string();
        assert_eq!(
            message,
            "failed to read node a: the API did not answer within 5ms; is the cluster up?"
        );
    }
}
