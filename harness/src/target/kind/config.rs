//! What kind is asked to make: its own configuration file, as text.
//!
//! Pure. See [`super::lifecycle`] for what happens around it.

use std::path::Path;

use serde_json::json;

/// The label of the nodes of clusters that Gauntlet made; its value is the cluster's id.
pub const NODE_LABEL: &str = "gauntlet/cluster";

/// Who gives pods their network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodNetwork {
    /// The node image brings one.
    OfImage,
    /// We do: see [`super::network`].
    Ours,
}

/// A control plane and `workers` nodes, each labelled with `id` and marked with the directory `mark`. JSON, which is YAML.
#[must_use]
pub fn kind_config(workers: u16, id: &str, mark: &Path, network: PodNetwork) -> String {
    let node = |role: &str| {
        json!({
            "role": role,
            "labels": {NODE_LABEL: id},
            "extraMounts": [{"hostPath": mark, "containerPath": super::containers::MARK_MOUNT, "readOnly": true}],
        })
    };
    let nodes: Vec<_> = std::iter::once(node("control-plane"))
        .chain((0..workers).map(|_| node("worker")))
        .collect();
    let config = json!({
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "networking": {"ipFamily": "ipv4", "disableDefaultCNI": network == PodNetwork::Ours},
        "nodes": nodes,
    });
    config.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_is_labelled_and_marked() {
        let text = kind_config(2, "7f", Path::new("/state/demo/mark"), PodNetwork::Ours);
        let config: serde_json::Value = serde_json::from_str(&text).unwrap();
        let nodes = config["nodes"].as_array().unwrap();
        let roles: Vec<_> = nodes.iter().map(|node| node["role"].as_str().unwrap()).collect();
        assert_eq!(roles, ["control-plane", "worker", "worker"]);
        for node in nodes {
            assert_eq!(node["labels"]["gauntlet/cluster"], "7f");
            assert_eq!(node["extraMounts"][0]["hostPath"], "/state/demo/mark");
            assert_eq!(node["extraMounts"][0]["containerPath"], "/kind/made-by-gauntlet");
        }
        assert_eq!(config["networking"]["disableDefaultCNI"], true);
        let text = kind_config(1, "7f", Path::new("/m"), PodNetwork::OfImage);
        let config: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(config["networking"]["disableDefaultCNI"], false);
    }
}
