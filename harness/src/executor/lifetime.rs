//! Objects of an execution are made once, however often it is begun, and removed together.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::objects::{EXECUTION_LABEL, ORDER_LABEL, namespace};
use super::{ExecutorError, Marker};
use crate::target::kind::api::ApiError;

/// How long pods may take to undo their faults when they are stopped.
const GONE_WITHIN: Duration = Duration::from_secs(90);
/// How often what goes is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Makes the namespace if it is not there. One that is on its way out, perhaps an earlier execution's, is let go first.
pub(super) async fn make_namespace(client: &Client, marker: &Marker) -> Result<(), ExecutorError> {
    let name = &marker.access.namespace;
    let api: Api<Namespace> = Api::all(client.clone());
    let deadline = Instant::now() + GONE_WITHIN;
    loop {
        let found = api.get_opt(name).await;
        match found.map_err(ApiError::of("read", format!("namespace {name}")))? {
            None => return Ok(make(&api, &namespace(name, &marker.name)).await.map(drop)?),
            Some(there) if there.metadata.deletion_timestamp.is_none() => return Ok(()),
            Some(_) if Instant::now() > deadline => {
                let why = format!(
                    "namespace {name} has been going away for {GONE_WITHIN:?}; choose another with --namespace"
                );
                return Err(ExecutorError::Pods(why));
            }
            Some(_) => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
}

/// Creates an object, or returns the one that is there: an execution that goes on has made it before.
pub(super) async fn make<K>(api: &Api<K>, object: &K) -> Result<K, ApiError>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize,
{
    let name = object.meta().name.clone().unwrap_or_default();
    let what = format!("{} {name}", K::kind(&()).to_lowercase());
    match api.create(&PostParams::default(), object).await {
        Ok(made) => Ok(made),
        Err(kube::Error::Api(status)) if status.code == 409 && status.reason == "AlreadyExists" => {
            api.get(&name).await.map_err(ApiError::of("read", what))
        }
        Err(error) => Err(ApiError::of("create", what)(error)),
    }
}

/// Stops an execution's pods, waits until they have undone their faults, and removes all of its
/// objects.
///
/// # Errors
/// [`ExecutorError::Api`], or [`ExecutorError::Pods`] when pods stay.
pub async fn take_away(client: &Client, marker: &Marker) -> Result<(), ExecutorError> {
    let place = &marker.access.namespace;
    let selector = ListParams::default().labels(&format!("{EXECUTION_LABEL}={}", marker.name));
    let (jobs, pods): (Api<Job>, Api<Pod>) = (
        Api::namespaced(client.clone(), place),
        Api::namespaced(client.clone(), place),
    );
    let orders: Api<ConfigMap> = Api::namespaced(client.clone(), place);
    jobs.delete_collection(&DeleteParams::background(), &selector)
        .await
        .map_err(ApiError::of("delete", "jobs"))?;
    let deadline = Instant::now() + GONE_WITHIN;
    while !pods
        .list(&selector)
        .await
        .map_err(ApiError::of("list", "pods"))?
        .items
        .is_empty()
    {
        if Instant::now() > deadline {
            let why = format!("pods of {} do not stop; look at them in namespace {place}", marker.name);
            return Err(ExecutorError::Pods(why));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let deleted = orders.delete(&marker.name, &DeleteParams::background()).await;
    match deleted.map_err(ApiError::of("delete", format!("the order {}", marker.name))) {
        Ok(_) => {}
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(error.into()),
    }
    Ok(remove_namespace(client, marker, &orders).await?)
}

/// Removes the namespace if this execution made it and no other one uses it.
async fn remove_namespace(client: &Client, marker: &Marker, orders: &Api<ConfigMap>) -> Result<(), ApiError> {
    let name = &marker.access.namespace;
    let api: Api<Namespace> = Api::all(client.clone());
    let found = api.get_opt(name).await.map_err(ApiError::of("read", "the namespace"))?;
    let labels = found
        .and_then(|namespace| namespace.metadata.labels)
        .unwrap_or_default();
    let others = orders.list(&ListParams::default().labels(ORDER_LABEL)).await;
    let others = others.map_err(ApiError::of("list", "orders"))?.items;
    let others = others
        .iter()
        .any(|order| order.metadata.name.as_ref() != Some(&marker.name));
    if labels.get(EXECUTION_LABEL) != Some(&marker.name) || others {
        return Ok(());
    }
    api.delete(name, &DeleteParams::background())
        .await
        .map(drop)
        .map_err(ApiError::of("delete", format!("namespace {name}")))
}
