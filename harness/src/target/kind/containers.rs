//! The containers that are a kind cluster's nodes, as the container engine knows them, and which of them are Gauntlet's.
//!
//! A node of ours is marked from its first moment: a directory of ours is mounted into it. Names prove nothing.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::docker::ToolFailure;
use super::name::ClusterName;
use super::program::Call;

/// Where the mark is mounted in a node.
pub const MARK_MOUNT: &str = "/kind/made-by-gauntlet";
/// The label by which kind knows the nodes of a cluster.
const KIND_LABEL: &str = "io.x-k8s.kind.cluster";
/// Longest that the container engine may take for one answer; removing a node takes seconds on a busy machine.
const ANSWER_WITHIN: Duration = Duration::from_secs(90);

/// A container that is a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeContainer {
    /// The container's id.
    pub id: String,
    /// Its name, which is the node's name.
    pub name: String,
    /// What kind calls the cluster.
    pub cluster: String,
    /// How far it is.
    pub state: NodeState,
    /// The directory of ours that is mounted into it; `None` when Gauntlet did not make it, or nobody can tell yet.
    pub mark: Option<PathBuf>,
}

/// How far a node's container is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeState {
    /// Listed, but the engine says nothing more of it: it is being made, which takes seconds, or just went.
    Coming,
    /// Made, and not running.
    Stopped,
    /// Running.
    Running,
}

impl NodeContainer {
    /// Whether it is known that Gauntlet did not make it.
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        self.state != NodeState::Coming && self.mark.is_none()
    }
}

/// Runs `docker`, by a deadline.
///
/// # Errors
/// [`ToolFailure`].
pub async fn docker(arguments: &[&str], input: &str, mark: &str) -> Result<String, ToolFailure> {
    let call = Call {
        program: Path::new("docker"),
        arguments,
        input,
        mark,
        within: ANSWER_WITHIN,
    };
    call.run(&|_| ()).await
}

/// All nodes of all kind clusters of this machine.
///
/// # Errors
/// [`ToolFailure`].
pub async fn all() -> Result<Vec<NodeContainer>, ToolFailure> {
    matching(&format!("label={KIND_LABEL}")).await
}

/// The nodes of what kind calls by this name, whoever made it.
///
/// # Errors
/// [`ToolFailure`].
pub async fn of_cluster(name: &ClusterName) -> Result<Vec<NodeContainer>, ToolFailure> {
    matching(&format!("label={KIND_LABEL}={name}")).await
}

/// Removes containers, with their volumes. Ones that are gone already are no failure.
///
/// # Errors
/// [`ToolFailure`].
pub async fn remove(containers: &[NodeContainer], mark: &str) -> Result<(), ToolFailure> {
    let ids = containers.iter().map(|container| container.id.as_str());
    let arguments: Vec<&str> = ["rm", "--force", "--volumes"].into_iter().chain(ids).collect();
    match docker(&arguments, "", mark).await {
        Err(ToolFailure::Refused { message, .. }) if message.lines().all(is_of_a_removed_one) => Ok(()),
        other => other.map(drop),
    }
}

fn is_of_a_removed_one(line: &str) -> bool {
    line.contains("No such container") || line.contains("is already in progress")
}

async fn matching(filter: &str) -> Result<Vec<NodeContainer>, ToolFailure> {
    let format = format!("{{{{.ID}}}}\t{{{{.Names}}}}\t{{{{.Label \"{KIND_LABEL}\"}}}}");
    let listing = ["ps", "--all", "--no-trunc", "--filter", filter, "--format", &format];
    let mut found = Vec::new();
    for line in docker(&listing, "", "").await?.lines() {
        let Some(listed) = parse_listed(line) else { continue };
        // One by one: a container that goes meanwhile fails its own question only.
        match docker(&["inspect", "--type", "container", &listed.id], "", "").await {
            Ok(text) => found.extend(parse(&text)),
            Err(ToolFailure::Refused { message, .. }) if message.contains("No such container") => found.push(listed),
            Err(error) => return Err(error),
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// What a line of the list alone says.
fn parse_listed(line: &str) -> Option<NodeContainer> {
    let mut fields = line.split('\t').map(str::to_owned);
    Some(NodeContainer {
        id: fields.next()?,
        name: fields.next()?,
        cluster: fields.next()?,
        state: NodeState::Coming,
        mark: None,
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    id: String,
    name: String,
    state: State,
    config: Config,
    #[serde(default)]
    mounts: Vec<Mount>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct State {
    running: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    #[serde(default)]
    labels: HashMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Mount {
    #[serde(default)]
    source: PathBuf,
    destination: String,
}

/// The nodes in what `docker inspect` printed.
fn parse(text: &str) -> Vec<NodeContainer> {
    let inspected: Vec<Inspected> = serde_json::from_str(text).unwrap_or_default();
    let node = |one: Inspected| {
        let mark = one.mounts.into_iter().find(|mount| mount.destination == MARK_MOUNT);
        Some(NodeContainer {
            cluster: one.config.labels.get(KIND_LABEL)?.clone(),
            id: one.id,
            name: one.name.trim_start_matches('/').to_owned(),
            state: if one.state.running {
                NodeState::Running
            } else {
                NodeState::Stopped
            },
            mark: mark.map(|mount| mount.source),
        })
    };
    inspected.into_iter().filter_map(node).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_ours_by_what_is_mounted_into_it() {
        let inspected = |labels: &str, mounts: &str| {
            parse(&format!(
                r#"[{{"Id": "4a", "Name": "/demo-worker", "State": {{"Running": true, "Pid": 7}},
                     "Config": {{"Labels": {labels}}}, "Mounts": {mounts}}}]"#
            ))
        };
        let label = r#"{"io.x-k8s.kind.cluster": "demo"}"#;
        let foreign = NodeContainer {
            id: "4a".to_owned(),
            name: "demo-worker".to_owned(),
            cluster: "demo".to_owned(),
            state: NodeState::Running,
            mark: None,
        };
        let modules = r#"[{"Type": "bind", "Source": "/lib/modules", "Destination": "/lib/modules"}]"#;
        assert_eq!(inspected(label, modules), std::slice::from_ref(&foreign));
        let ours = r#"[{"Type": "bind", "Source": "/s/demo/m", "Destination": "/kind/made-by-gauntlet"}]"#;
        let marked = NodeContainer {
            mark: Some("/s/demo/m".into()),
            ..foreign
        };
        assert_eq!(inspected(label, ours), [marked]);
        assert_eq!(inspected("{}", ours), [], "no node of kind's");
    }

    #[test]
    fn a_node_that_is_being_made_is_nobodys_yet() {
        let coming = parse_listed("4a\tdemo-worker\tdemo").unwrap();
        assert_eq!(
            (coming.id.as_str(), coming.name.as_str(), coming.cluster.as_str()),
            ("4a", "demo-worker", "demo")
        );
        assert!(!coming.is_foreign());
        let made = NodeContainer {
            state: NodeState::Stopped,
            ..coming
        };
        assert!(made.is_foreign());
        assert_eq!(parse_listed(""), None);
    }

    #[test]
    fn a_container_that_goes_by_itself_is_no_failure() {
        assert!(is_of_a_removed_one("Error: No such container: 4a"));
        assert!(is_of_a_removed_one(
            "Error response from daemon: removal of container 4a is already in progress"
        ));
        assert!(!is_of_a_removed_one(
            "Error response from daemon: device or resource busy"
        ));
    }
}
