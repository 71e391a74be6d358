//! Waits until a new cluster serves: its nodes, its DNS, the account that pods run under. Conditions with deadlines, no sleeps.
//!
//! Does not make any of it so.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Node, ServiceAccount};
use kube::runtime::wait::{Condition, await_condition};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

use super::names::SYSTEM_NAMESPACE;
use super::network::NodeNetwork;

/// Longest that the control plane may take to give every node a subnet.
const SUBNETS_WITHIN: Duration = Duration::from_secs(60);
/// Longest that nodes may take to be ready, on a busy machine.
const NODES_WITHIN: Duration = Duration::from_secs(180);
/// Longest that the cluster's DNS may take to start.
const DNS_WITHIN: Duration = Duration::from_secs(180);
/// Longest that a new namespace may be without its account.
const ACCOUNT_WITHIN: Duration = Duration::from_secs(60);
/// A new API server refuses some calls; it is asked again after this.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(300);

/// Something did not come about.
#[derive(Debug, thiserror::Error)]
#[error("{what} within {} s: {why}", within.as_secs())]
pub struct NotReady {
    /// What, for example `node demo-worker is not Ready`.
    pub what: String,
    /// How long it had.
    pub within: Duration,
    /// What the API says of it.
    pub why: String,
}

/// What the nodes must know of each other, once every one has a subnet.
///
/// # Errors
/// [`NotReady`].
pub async fn node_networks(client: &Client, names: &[String]) -> Result<Vec<NodeNetwork>, NotReady> {
    let deadline = Deadline::after(SUBNETS_WITHIN);
    let mut networks = Vec::new();
    for name in names {
        let has_subnet = |node: Option<&Node>| node.is_some_and(|node| NodeNetwork::of(node).is_some());
        let what = format!("node {name} got no address and subnet for pods");
        let node = deadline.wait(Api::all(client.clone()), name, has_subnet, what).await?;
        networks.extend(NodeNetwork::of(&node));
    }
    Ok(networks)
}

/// Waits until the nodes are Ready; `progress` hears how many are.
///
/// # Errors
/// [`NotReady`], with what the node's kubelet says.
pub async fn nodes(client: &Client, names: &[String], progress: &dyn Fn(&str)) -> Result<(), NotReady> {
    let deadline = Deadline::after(NODES_WITHIN);
    for (ready_count, name) in names.iter().enumerate() {
        progress(&format!("waiting for nodes: {ready_count} of {} ready", names.len()));
        let is_ready = |node: Option<&Node>| node.is_some_and(|node| ready_condition(node).is_ok());
        let what = format!("node {name} is not Ready");
        let waited = deadline.wait(Api::all(client.clone()), name, is_ready, what).await;
        if let Err(mut late) = waited {
            let nodes: Api<Node> = Api::all(client.clone());
            if let Ok(Ok(node)) = tokio::time::timeout(Duration::from_secs(5), nodes.get(name)).await {
                late.why = ready_condition(&node).err().unwrap_or(late.why);
            }
            return Err(late);
        }
    }
    Ok(())
}

/// Waits until every replica of the cluster's DNS serves.
///
/// # Errors
/// [`NotReady`].
pub async fn dns(client: &Client) -> Result<(), NotReady> {
    let deployments = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let what = format!("the deployment {SYSTEM_NAMESPACE}/coredns is not available");
    let deadline = Deadline::after(DNS_WITHIN);
    deadline
        .wait(deployments, "coredns", is_available, what)
        .await
        .map(drop)
}

/// Waits until pods can be made in a namespace.
///
/// # Errors
/// [`NotReady`].
pub async fn account(client: &Client, namespace: &str) -> Result<(), NotReady> {
    let accounts = Api::namespaced(client.clone(), namespace);
    let is_there = |account: Option<&ServiceAccount>| account.is_some();
    let what = format!("namespace {namespace} has no service account `default`");
    let deadline = Deadline::after(ACCOUNT_WITHIN);
    deadline.wait(accounts, "default", is_there, what).await.map(drop)
}

fn is_available(deployment: Option<&Deployment>) -> bool {
    let status = deployment.and_then(|deployment| deployment.status.as_ref());
    let wanted = deployment
        .and_then(|deployment| deployment.spec.as_ref())
        .map(|spec| spec.replicas.unwrap_or(1));
    let observed = deployment.and_then(|deployment| deployment.metadata.generation)
        == status.and_then(|status| status.observed_generation);
    let available = status.and_then(|status| status.available_replicas).unwrap_or(0);
    observed && wanted.is_some_and(|wanted| available >= wanted)
}

/// Whether the node is Ready, else why not.
fn ready_condition(node: &Node) -> Result<(), String> {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = conditions
        .into_iter()
        .flatten()
        .find(|condition| condition.type_ == "Ready");
    match ready {
        Some(condition) if condition.status == "True" => Ok(()),
        Some(condition) => Err(condition.message.clone().unwrap_or_else(|| condition.status.clone())),
        None => Err("it has not reported yet".to_owned()),
    }
}

/// The time by which several waits must be over together.
#[derive(Clone, Copy, Debug)]
struct Deadline {
    within: Duration,
    at: Instant,
}

impl Deadline {
    fn after(within: Duration) -> Self {
        Self {
            within,
            at: Instant::now() + within,
        }
    }

    async fn wait<K>(
        self,
        objects: Api<K>,
        name: &str,
        condition: impl Condition<K> + Copy,
        what: String,
    ) -> Result<K, NotReady>
    where
        K: Resource + Clone + Debug + Send + DeserializeOwned + 'static,
    {
        let mut why = "it was not so".to_owned();
        let attempts = async {
            loop {
                match await_condition(objects.clone(), name, condition).await {
                    Ok(Some(object)) => break object,
                    Ok(None) => why = "it does not exist".to_owned(),
                    Err(error) => why = crate::doctor::error_chain(&error),
                }
                tokio::time::sleep(ASK_AGAIN_AFTER).await;
            }
        };
        let found = tokio::time::timeout_at(self.at.into(), attempts).await;
        found.map_err(|_| NotReady {
            what,
            within: self.within,
            why,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_ready_when_it_says_so_and_else_says_why() {
        let node = |conditions: &str| -> Node {
            serde_json::from_str(&format!(r#"{{"status": {{"conditions": {conditions}}}}}"#)).unwrap()
        };
        let pressure = r#"{"type": "MemoryPressure", "status": "True"}"#;
        assert_eq!(
            ready_condition(&node(&format!(
                r#"[{pressure}, {{"type": "Ready", "status": "True"}}]"#
            ))),
            Ok(())
        );
        let waiting = r#"[{"type": "Ready", "status": "False", "message": "cni plugin not initialized"}]"#;
        assert_eq!(
            ready_condition(&node(waiting)),
            Err("cni plugin not initialized".to_owned())
        );
        assert_eq!(
            ready_condition(&node(&format!("[{pressure}]"))),
            Err("it has not reported yet".to_owned())
        );
    }

    #[test]
    fn dns_is_there_when_all_of_its_replicas_are_as_now_wanted() {
        let deployment = |generation: i64, status: &str| -> Deployment {
            let text = format!(
                r#"{{"metadata": {{"generation": {generation}}}, "spec": {{"replicas": 2, "selector": {{}}, "template": {{}}}},
                    "status": {status}}}"#
            );
            serde_json::from_str(&text).unwrap()
        };
        let all = r#"{"observedGeneration": 1, "availableReplicas": 2}"#;
        assert!(is_available(Some(&deployment(1, all))));
        assert!(
            !is_available(Some(&deployment(2, all))),
            "the status is of an older wish"
        );
        assert!(!is_available(Some(&deployment(
            1,
            r#"{"observedGeneration": 1, "availableReplicas": 1}"#
        ))));
        assert!(!is_available(Some(&deployment(1, "{}"))));
        assert!(!is_available(None));
    }
}
