//! The side that asked: makes the objects, collects results as they come, and takes everything away at the end.
//!
//! Results arrive by a watch, so that one counts as soon as it is there; what the pods do is looked at now and then. A
//! process that is killed here loses nothing: the shards go on, and the next one collects what they left.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Debug;
use std::pin::pin;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::jobs::{Completion, JobPlan};
use super::objects::{self, EXECUTION_LABEL, Execution, ORDER_LABEL, RECORD_LABEL, order_object, read_order};
use super::order::ShardOrder;
use super::pods::{Hopeless, hopeless, job_ended, last_words, newest};
use super::record::{RUN, Record, unpack_run};
use super::{ExecutorError, Marker};
use crate::report::suite_console::SuiteConsole;
use crate::suite::event::{Standing, SuiteEvent, SuiteSink};
use crate::suite::outcome::CaseResult;
use crate::suite::plan::{CaseKey, SuitePlan};
use crate::suite::play::Ending;
use crate::suite::store::{Line, Store};
use crate::timeline::Cancel;

/// How often the pods are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How long the API server may not answer.
const AWAY_MAX: Duration = Duration::from_secs(120);
/// How long pods may take to undo their faults when they are stopped.
const GONE_WITHIN: Duration = Duration::from_secs(90);

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
        let ending = match self.begin(order).await {
            Ok((order, jobs)) => self.collect(&order, &jobs).await,
            Err(error) => Err(error),
        };
        self.console.finish();
        let client = self.client.clone();
        match (ending, take_away(&client, self.marker).await) {
            (Err(error), _) | (Ok(_), Err(error)) => Err(error),
            (Ok(ending), Ok(())) => Ok(ending),
        }
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
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        if namespaces
            .get_opt(&access.namespace)
            .await
            .map_err(ExecutorError::api("read", "the namespace"))?
            .is_none()
        {
            make(&namespaces, &objects::namespace(&access.namespace, name)).await?;
        }
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
                    Err(error @ ExecutorError::Api { .. }) if answered.elapsed() > AWAY_MAX => return Err(error),
                    Err(ExecutorError::Api { .. }) => {}
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
            .map_err(ExecutorError::api("list", "pods"))?
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
            .map_err(ExecutorError::api("list", "jobs"))?
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
            .map_err(ExecutorError::api("list", "results"))?;
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

/// What has come so far.
struct Intake {
    standing: Standing,
    /// Names of the objects that were taken in.
    seen: HashSet<String>,
    detector_program: Option<String>,
    /// Cases of each shard: which, and how many of them have ended.
    shards: BTreeMap<u32, (HashSet<CaseKey>, usize)>,
    told: String,
    last_end: Instant,
}

impl Intake {
    fn new(plan: &SuitePlan, store: &Store, order: &ShardOrder) -> Self {
        let planned = |case| plan.chosen(case).scenario.phases.total();
        let mut standing = Standing::new(plan.cases.len(), plan.cases.iter().map(planned).sum());
        for case in &plan.cases {
            if let Some(ended) = store.ended(&case.key) {
                standing.count(ended, planned(case));
            }
        }
        let shard = |shard| {
            let keys: HashSet<_> = order.part(shard).iter().map(|case| case.key.clone()).collect();
            let ended = keys.iter().filter(|key| store.ended(key).is_some()).count();
            (shard.index, (keys, ended))
        };
        Self {
            standing,
            seen: HashSet::new(),
            detector_program: None,
            shards: order.all_shards().map(shard).collect(),
            told: String::new(),
            last_end: Instant::now(),
        }
    }

    fn is_asked(&self, key: &CaseKey) -> bool {
        self.shards.values().any(|(keys, _)| keys.contains(key))
    }

    fn must_be_of_one_detector(&mut self, record: &Record, image: &str) -> Result<(), ExecutorError> {
        let program = self
            .detector_program
            .get_or_insert_with(|| record.detector_program.clone());
        if *program == record.detector_program {
            Ok(())
        } else {
            let image = image.to_owned();
            Err(ExecutorError::Mixed { image })
        }
    }

    fn count(&mut self, plan: &SuitePlan, case: &CaseResult, shard: u32) {
        let planned = plan
            .cases
            .iter()
            .find(|one| one.key.scenario == case.scenario && one.key.trial == case.trial);
        let planned = planned.map_or(Duration::ZERO, |one| plan.chosen(one).scenario.phases.total());
        self.standing.count(case, planned);
        // Shards that run at the same time make the rest so much shorter.
        self.standing.time(planned, self.last_end.elapsed());
        self.last_end = Instant::now();
        if let Some((_, ended)) = self.shards.get_mut(&shard) {
            *ended += 1;
        }
    }

    /// `shard 1/4: 1 of 2, runs on n1 · …`, if it is not what was told last.
    fn shards_changed(&mut self, pods: &[Pod]) -> Option<String> {
        let pods = newest(pods);
        let count = self.shards.len();
        let texts = self.shards.iter().map(|(index, (keys, ended))| {
            let pod = pods.iter().find(|pod| pod.index + 1 == *index);
            let doing = pod.map_or("has no pod", |pod| pod.text.as_str());
            format!("shard {index}/{count}: {ended} of {}, {doing}", keys.len())
        });
        let text = texts.collect::<Vec<_>>().join(" · ");
        (text != self.told).then(|| {
            self.told.clone_from(&text);
            text
        })
    }
}

/// Creates an object, or returns the one that is there: an execution that goes on has made it before.
async fn make<K>(api: &Api<K>, object: &K) -> Result<K, ExecutorError>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize,
{
    let name = object.meta().name.clone().unwrap_or_default();
    let what = format!("{} {name}", K::kind(&()).to_lowercase());
    match api.create(&PostParams::default(), object).await {
        Ok(made) => Ok(made),
        Err(kube::Error::Api(status)) if status.code == 409 && status.reason == "AlreadyExists" => {
            api.get(&name).await.map_err(ExecutorError::api("read", what))
        }
        Err(error) => Err(ExecutorError::api("create", what)(error)),
    }
}

/// Stops an execution's pods, waits until they have undone their faults, and removes all of its objects; true if there were
/// any.
///
/// # Errors
/// [`ExecutorError::Api`], or [`ExecutorError::Pods`] when pods stay.
pub async fn take_away(client: &Client, marker: &Marker) -> Result<(), ExecutorError> {
    let namespace = &marker.access.namespace;
    let selector = ListParams::default().labels(&format!("{EXECUTION_LABEL}={}", marker.name));
    let (jobs, pods): (Api<Job>, Api<Pod>) = (
        Api::namespaced(client.clone(), namespace),
        Api::namespaced(client.clone(), namespace),
    );
    let orders: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    jobs.delete_collection(&DeleteParams::background(), &selector)
        .await
        .map_err(ExecutorError::api("delete", "jobs"))?;
    let deadline = Instant::now() + GONE_WITHIN;
    while !pods
        .list(&selector)
        .await
        .map_err(ExecutorError::api("list", "pods"))?
        .items
        .is_empty()
    {
        if Instant::now() > deadline {
            let why = format!(
                "pods of {} do not stop; look at them in namespace {namespace}",
                marker.name
            );
            return Err(ExecutorError::Pods(why));
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    match orders.delete(&marker.name, &DeleteParams::background()).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        Err(error) => {
            return Err(ExecutorError::api("delete", format!("the order {}", marker.name))(
                error,
            ));
        }
    }
    remove_namespace(client, marker, &orders).await
}

/// Removes the namespace if this execution made it and no other one uses it.
async fn remove_namespace(client: &Client, marker: &Marker, orders: &Api<ConfigMap>) -> Result<(), ExecutorError> {
    let name = &marker.access.namespace;
    let api: Api<Namespace> = Api::all(client.clone());
    let found = api
        .get_opt(name)
        .await
        .map_err(ExecutorError::api("read", "the namespace"))?;
    let labels = found
        .and_then(|namespace| namespace.metadata.labels)
        .unwrap_or_default();
    let others = orders.list(&ListParams::default().labels(ORDER_LABEL)).await;
    let others = others.map_err(ExecutorError::api("list", "orders"))?.items;
    let others = others
        .iter()
        .any(|order| order.metadata.name.as_ref() != Some(&marker.name));
    if labels.get(EXECUTION_LABEL) != Some(&marker.name) || others {
        return Ok(());
    }
    api.delete(name, &DeleteParams::background())
        .await
        .map(drop)
        .map_err(ExecutorError::api("delete", format!("namespace {name}")))
}
