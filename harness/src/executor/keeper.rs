//! The pod's side: keeps each result in the API as well as in its own directory, and begins with what is there already.

use std::path::Path;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{ListParams, PostParams};
use tokio::runtime::Runtime;

use super::ExecutorError;
use super::objects::{EXECUTION_LABEL, Execution, RECORD_LABEL, read_order};
use super::order::ShardOrder;
use super::record::{Record, pack_run};
use crate::check::validity::Validity;
use crate::suite::outcome::{CaseResult, Shard};
use crate::suite::plan::CaseKey;
use crate::suite::play::CaseKeeper;
use crate::suite::store::{Line, Store, StoreError};
use crate::target::kind::api::ApiError;

/// How long an API server may be away before the pod gives up and leaves the case to the next one.
const PATIENCE: Duration = Duration::from_secs(120);
/// First pause before it is asked again; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// The cluster as a pod of an execution sees it.
#[derive(Debug)]
pub struct Desk {
    runtime: Runtime,
    api: Api<ConfigMap>,
    execution: Execution,
}

impl Desk {
    /// Reaches the API server by what Kubernetes gives every pod, and fetches the order.
    ///
    /// # Errors
    /// [`ExecutorError`], and in words why there is no runtime or no configuration.
    pub fn open(execution: &str, namespace: &str) -> anyhow::Result<(Self, ShardOrder)> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let config = kube::Config::incluster()?;
        // The client spawns its connections.
        let client = runtime.block_on(async { kube::Client::try_from(config) })?;
        let api: Api<ConfigMap> = Api::namespaced(client, namespace);
        let object = runtime
            .block_on(patiently(|| api.get(execution)))
            .map_err(ApiError::of("read", format!("the order {execution}")))?;
        let desk = Self {
            runtime,
            execution: Execution::of(&object)?,
            api,
        };
        Ok((desk, read_order(&object)?))
    }

    /// What earlier pods of this shard left, invalid attempts before the results of their cases.
    ///
    /// # Errors
    /// [`ExecutorError`].
    pub fn lines(&self, shard: Shard) -> Result<Vec<Line>, ExecutorError> {
        let selector = format!(
            "{EXECUTION_LABEL}={},{RECORD_LABEL}={}",
            self.execution.name, shard.index
        );
        let params = ListParams::default().labels(&selector);
        let found = self
            .runtime
            .block_on(patiently(|| self.api.list(&params)))
            .map_err(ApiError::of("list", "the results of this shard"))?;
        // By name: attempts by number, and then "end".
        let lines = found.items.iter().map(|object| Ok(Record::of_object(object)?.line));
        lines.collect()
    }

    /// Adds a record, and returns what counts: it, or what another pod had added before for the same case.
    fn add(&self, record: Record, attempt: usize) -> Result<Line, ExecutorError> {
        let object = record.object(&self.execution, attempt);
        let name = object.metadata.name.clone().unwrap_or_default();
        let params = PostParams::default();
        let created = self.runtime.block_on(patiently(|| self.api.create(&params, &object)));
        match created.map_err(ApiError::of("create", format!("config map {name}"))) {
            Ok(_) => Ok(record.line),
            Err(error) if error.is_conflict() => {
                let there = self.runtime.block_on(patiently(|| self.api.get(&name)));
                let there = there.map_err(ApiError::of("read", format!("config map {name}")))?;
                Ok(Record::of_object(&there)?.line)
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Asks again while the API server is away or busy; what it refuses it refuses at once.
async fn patiently<T, F: Future<Output = kube::Result<T>>>(ask: impl FnMut() -> F) -> kube::Result<T> {
    ask_again(FIRST_PAUSE, PATIENCE, ask).await
}

async fn ask_again<T, F: Future<Output = kube::Result<T>>>(
    mut pause: Duration,
    patience: Duration,
    mut ask: impl FnMut() -> F,
) -> kube::Result<T> {
    let mut waited = Duration::ZERO;
    loop {
        match ask().await {
            Ok(answer) => return Ok(answer),
            Err(error) if is_refusal(&error) || waited >= patience => return Err(error),
            Err(_) => {}
        }
        tokio::time::sleep(pause).await;
        waited += pause;
        pause *= 2;
    }
}

/// Whether an error is the API server's considered answer.
fn is_refusal(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => (400..500).contains(&status.code) && status.code != 429,
        _ => false,
    }
}

/// The results of one shard.
#[derive(Debug)]
pub struct ShardKeeper<'a> {
    desk: &'a Desk,
    store: Store,
    home: &'a Path,
    shard: Shard,
    detector_program: String,
}

impl<'a> ShardKeeper<'a> {
    /// Goes on with what earlier pods left. `store` is this pod's own, in `home`, and new.
    ///
    /// # Errors
    /// When that cannot be read or kept.
    pub fn new(
        desk: &'a Desk,
        mut store: Store,
        home: &'a Path,
        shard: Shard,
        detector_program: String,
    ) -> Result<Self, StoreError> {
        for line in desk.lines(shard).map_err(elsewhere)? {
            store.append(line)?;
        }
        Ok(Self {
            desk,
            store,
            home,
            shard,
            detector_program,
        })
    }
}

impl CaseKeeper for ShardKeeper<'_> {
    fn ended(&self, key: &CaseKey) -> Option<&CaseResult> {
        self.store.ended(key)
    }

    fn invalid_attempts(&self, key: &CaseKey) -> &[Validity] {
        self.store.invalid_attempts(key)
    }

    fn append(&mut self, line: Line) -> Result<(), StoreError> {
        let (attempt, run) = match &line {
            Line::InvalidAttempt { key, .. } => (self.invalid_attempts(key).len(), None),
            Line::Case { case, .. } => (0, case.directory.as_ref().map(|run| self.home.join(run))),
        };
        let packed = run.map(|run| pack_run(&run)).transpose();
        let packed = packed.map_err(elsewhere)?;
        let record = Record::new(self.shard, self.detector_program.clone(), line, packed);
        let counts = self.desk.add(record, attempt).map_err(elsewhere)?;
        self.store.append(counts)
    }
}

fn elsewhere(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> StoreError {
    StoreError::Elsewhere(error.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(code: u16) -> kube::Error {
        let status = serde_json::json!({"status": "Failure", "message": "m", "reason": "r", "code": code});
        kube::Error::Api(serde_json::from_value(status).expect("a status"))
    }

    const PAUSE: Duration = Duration::from_millis(1);

    #[tokio::test]
    async fn a_server_that_is_away_is_asked_again_and_a_refusal_is_taken() {
        let mut answers = vec![Ok(5), Err(answer(503)), Err(answer(429))];
        let ask = || std::future::ready(answers.pop().expect("not asked again"));
        assert_eq!(ask_again(PAUSE, PAUSE * 9, ask).await.expect("the third answer"), 5);
        let mut count = 0;
        let refuse = || {
            count += 1;
            std::future::ready(Err::<(), _>(answer(409)))
        };
        ask_again(PAUSE, PAUSE * 9, refuse).await.expect_err("it is there");
        assert_eq!(count, 1);
        let mut count = 0;
        let away = || {
            count += 1;
            std::future::ready(Err::<(), _>(answer(500)))
        };
        ask_again(PAUSE, PAUSE * 9, away).await.expect_err("away for good");
        // Pauses of 1, 2, 4 and 8: then it has waited for long enough.
        assert_eq!(count, 5);
    }
}
