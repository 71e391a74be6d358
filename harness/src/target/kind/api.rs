//! Calls of a cluster's API: what was asked is said when there is no answer, and [`call`] sees to it that there is one in time.
//!
//! Does not repeat a call; what may be asked again is the caller's to know.

use std::fmt::Display;
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
    /// For `map_err` of a call that has no deadline of its own: what was asked, and of which object.
    pub(crate) fn of(operation: &'static str, object: impl Display) -> impl FnOnce(kube::Error) -> Self {
        move |source| Self::Refused {
            asked: format!("{operation} {object}"),
            source: Box::new(source),
        }
    }

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

    #[test]
    fn what_is_not_there_and_who_was_first_are_told_from_other_refusals() {
        let refused = |code: u16| {
            let status = serde_json::json!({"status": "Failure", "message": "m", "reason": "r", "code": code});
            let answer = kube::Error::Api(serde_json::from_value(status).unwrap());
            ApiError::of("read", "node a")(answer)
        };
        assert_eq!(refused(404).to_string(), "failed to read node a");
        let told = |error: ApiError| (error.is_not_found(), error.is_conflict());
        assert_eq!(told(refused(404)), (true, false));
        assert_eq!(told(refused(409)), (false, true));
        assert_eq!(told(refused(403)), (false, false));
    }

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
