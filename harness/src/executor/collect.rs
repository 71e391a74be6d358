//! The side that asked: makes the objects, collects results as they come, and takes everything away at the end.
//!
//! Results arrive by a watch, so that one counts as soon as it is there; what the pods do is looked at now and then. A
//! process that is killed here loses nothing: the shards go on, and the next one collects what they left.

use std::pin::pin;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{ListParams, Patch, PatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource};
use serde_json::json;

use super::intake::Intake;
use super::jobs::{Completion, JobPlan};
use super::lifetime::{make, make_namespace, take_away};
use super::objects::{EXECUTION_LABEL, Execution, RECORD_LABEL, order_object, read_order};
use super::order::ShardOrder;
use super::pods::{Hopeless, hopeless, job_ended, last_words};
use super::record::{RUN, Record, unpack_run};
use super::{ExecutorError, Marker};
use crate::report::suite_console::SuiteConsole;
use crate::suite::event::{SuiteEvent, SuiteSink};
use crate::suite::outcome::CaseResult;
use crate::suite::plan::SuitePlan;
use crate::suite::play::Ending;
use crate::suite::store::{Line, Store};
use crate::target::kind::api::ApiError;
use crate::timeline::Cancel;

/// How often the pods are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How long the API server may not answer.
const AWAY_MAX: Duration = Duration::from_secs(120);

/// An execution of a suite, from this side.
pub struct Collector<'a> {
    /// The cluster.
    pub client: Client,
    /// Which execution.
    pub marker: &'a Marker,
    /// All cases.
    pub plan: &'a SuitePlan,
    /// The suite's directory.
    pub home: &'a std::path::Path,
    /// Where results are kept.
    pub store: &'a mut Store,
    /// Where progress is told.
    pub console: SuiteConsole,
    /// Becomes true when nothing more is wanted.
    pub cancel: Cancel,
}

impl Collector<'_> {
    /// Runs what has not ended, and takes the objects away, whatever came of it.
    ///
    /// # Errors
    /// [`ExecutorError`]; results that were there are kept.
    pub async fn run(mut self, order: &ShardOrder) -> Result<Ending, ExecutorError> {
        let is_done = self.plan.cases.iter().all(|case| self.store.ended(&case.key).is_some());
        let ending = if is_done {
            Ok(Ending::Complete)
        } else {
            self.make_and_collect(order).await
        };
        self.console.finish();
        let client = self.client.clone();
        match (ending, take_away(&client, self.marker).await) {
            (Err(error), _) | (Ok(_), Err(error)) => Err(error),
            (Ok(ending), Ok(())) => Ok(ending),
        }
    }

    async fn make_and_collect(&mut self, order: &ShardOrder) -> Result<Ending, ExecutorError> {
        let (order, jobs) = self.begin(order).await?;
        self.collect(&order, &jobs).await
    }

    fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.marker.access.namespace)
    }

    /// Makes what is not there yet. The order of an execution that goes on is the one that its shards have.
    async fn begin(&self, order: &ShardOrder) -> Result<(ShardOrder, Vec<Job>), ExecutorError> {
        let Marker {
            name, access, image, ..
        } = self.marker;
        make_namespace(&self.client, self.marker).await?;
        let made = make(&self.api::<ConfigMap>(), &order_object(name, order)).await?;
        let (execution, order) = (Execution::of(&made)?, read_order(&made)?);
        make::<ServiceAccount>(&self.api(), &execution.account()).await?;
        make::<Role>(&self.api(), &execution.role()).await?;
        make::<RoleBinding>(&self.api(), &execution.binding(&access.namespace)).await?;
        let plan = JobPlan {
            execution: &execution,
            order: &order,
            image,
        };
        let api = self.api::<Job>();
        let completion = Completion::choose(&api, &plan).await?;
        let mut jobs = Vec::new();
        for job in plan.jobs(completion) {
            jobs.push(make(&api, &job).await?);
        }
        self.console.say(&format!(
            "execution {name} in namespace {}: {} shards as {}",
            access.namespace,
            order.shards,
            completion.text()
        ));
        Ok((order, jobs))
    }

    async fn collect(&mut self, order: &ShardOrder, jobs: &[Job]) -> Result<Ending, ExecutorError> {
        let mut desk = Intake::new(self.plan, self.store, order);
        let selector = format!("{EXECUTION_LABEL}={}", self.marker.name);
        let wanted = watcher::Config::default().labels(&format!("{selector},{RECORD_LABEL}"));
        let records = self.api::<ConfigMap>();
        let mut events = pin!(watcher(records.clone(), wanted.clone()).default_backoff());
        let mut looks = tokio::time::interval(LOOK_EVERY);
        let (mut cancel, mut answered) = (self.cancel.clone(), Instant::now());
        loop {
            if desk.standing.ended == desk.standing.case_count {
                return Ok(Ending::Complete);
            }
            tokio::select! {
                _ = cancel.wait_for(|wanted| *wanted) => return Ok(Ending::Interrupted),
                Some(event) = events.next() => match event {
                    Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) => {
                        self.take(&mut desk, &object).await?;
                    }
                    Ok(watcher::Event::Init | watcher::Event::InitDone | watcher::Event::Delete(_)) => {}
                    // It is begun again by itself; whether the server answers at all is seen by looking at the pods.
                    Err(error) => self.console.say(&format!("the watch broke and is begun again: {error}")),
                },
                _ = looks.tick() => match self.look(&mut desk, &selector, jobs).await {
                    Ok(Some(ending)) => return Ok(ending),
                    Ok(None) => answered = Instant::now(),
                    Err(error @ ExecutorError::Api(_)) if answered.elapsed() > AWAY_MAX => return Err(error),
                    Err(ExecutorError::Api(_)) => {}
                    Err(error) => return Err(error),
                },
            }
        }
    }

    /// Looks at pods and jobs, and says how they are when that has changed.
    async fn look(&mut self, desk: &mut Intake, selector: &str, jobs: &[Job]) -> Result<Option<Ending>, ExecutorError> {
        let params = ListParams::default().labels(selector);
        let pods = self
            .api::<Pod>()
            .list(&params)
            .await
            .map_err(ApiError::of("list", "pods"))?
            .items;
        if let Some(text) = desk.shards_changed(&pods) {
            self.console.shards(&text);
        }
        match hopeless(&pods) {
            Some(Hopeless::CannotHere(why)) => return Ok(Some(Ending::CannotHere(why))),
            Some(Hopeless::NotStarted(why)) => return Err(ExecutorError::Pods(why)),
            None => {}
        }
        let there = self
            .api::<Job>()
            .list(&params)
            .await
            .map_err(ApiError::of("list", "jobs"))?
            .items;
        let ended: Vec<_> = there.iter().filter_map(job_ended).collect();
        if ended.len() < jobs.len() && there.len() == jobs.len() {
            return Ok(None);
        }
        // Nothing will come any more. What is there may not have been seen yet.
        let records = ListParams::default().labels(&format!("{selector},{RECORD_LABEL}"));
        let records = self
            .api::<ConfigMap>()
            .list(&records)
            .await
            .map_err(ApiError::of("list", "results"))?;
        for object in &records.items {
            self.take(desk, object).await?;
        }
        if desk.standing.ended == desk.standing.case_count {
            return Ok(Some(Ending::Complete));
        }
        let mut why: Vec<String> = ended.into_iter().filter_map(Result::err).collect();
        if there.len() < jobs.len() {
            why.push("somebody deleted its jobs".to_owned());
        }
        why.extend(last_words(&pods));
        Err(ExecutorError::Pods(why.join("; ")))
    }

    /// Takes a result in, unless it is known.
    async fn take(&mut self, desk: &mut Intake, object: &ConfigMap) -> Result<(), ExecutorError> {
        let name = object.metadata.name.clone().unwrap_or_default();
        if !desk.seen.insert(name.clone()) {
            return Ok(());
        }
        let mut record = Record::of_object(object)?;
        desk.must_be_of_one_detector(&record, &self.marker.image)?;
        let key = record.key();
        let run = record.run.take();
        match record.line {
            Line::InvalidAttempt { ref validity, .. } => {
                let (key, validity) = (&key, validity);
                self.console
                    .event(SuiteEvent::Repeated { key, validity }, &desk.standing);
            }
            Line::Case { detector, case } if self.store.ended(&key).is_none() && desk.is_asked(&key) => {
                let case = self.keep_run(*case, run.as_deref())?;
                desk.count(self.plan, &case, record.shard.index);
                let line = Line::Case {
                    detector,
                    case: Box::new(case.clone()),
                };
                self.store.append(line)?;
                self.console
                    .event(SuiteEvent::CaseEnded { case: &case }, &desk.standing);
                self.lighten(&name).await;
            }
            Line::Case { .. } => {}
        }
        Ok(())
    }

    /// Brings the run directory here.
    fn keep_run(&self, case: CaseResult, run: Option<&[u8]>) -> Result<CaseResult, ExecutorError> {
        let Some(run) = run else {
            if case.directory.is_some() {
                self.console
                    .say("the run directory of the next case is too large to come along; its result has come");
            }
            return Ok(CaseResult {
                directory: None,
                ..case
            });
        };
        unpack_run(run, self.home).map_err(|error| ExecutorError::Unreadable {
            object: format!("run of {} trial {}", case.scenario, case.trial),
            why: error.to_string(),
        })?;
        Ok(case)
    }

    /// Takes the run directory, which is here now, out of the cluster: its store is small. The result stays for pods that
    /// begin again. If it fails, it goes at the end.
    async fn lighten(&self, name: &str) {
        let patch = Patch::Merge(json!({"binaryData": {RUN: null}}));
        let _ = self
            .api::<ConfigMap>()
            .patch(name, &PatchParams::default(), &patch)
            .await;
    }
}
