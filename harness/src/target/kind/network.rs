//! The pod network of node images that bring none: every node gives addresses of its own subnet to its pods, knows the way to
//! the other nodes' subnets, and lets its pods out under its own address.
//!
//! A service of each node's own init makes it again when the node restarts, as long as the nodes keep their addresses.
//! IPv4 only; no network policies.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use futures_util::future::try_join_all;
use k8s_openapi::api::core::v1::Node;

use super::containers::docker;
use super::docker::ToolFailure;

/// What other nodes must know of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeNetwork {
    /// Its name, which is its container's.
    pub name: String,
    /// Its address on the nodes' network.
    pub address: Ipv4Addr,
    /// The subnet of its pods, for example `10.244.1.0/24`.
    pub pods: String,
}

impl NodeNetwork {
    /// As the API tells it, once the node has an address and a subnet.
    #[must_use]
    pub fn of(node: &Node) -> Option<Self> {
        let addresses = node.status.as_ref()?.addresses.as_ref()?;
        let internal = addresses.iter().filter(|address| address.type_ == "InternalIP");
        let pods = node.spec.as_ref()?.pod_cidr.clone()?;
        is_subnet(&pods).then_some(Self {
            name: node.metadata.name.clone()?,
            address: internal.filter_map(|address| address.address.parse().ok()).next()?,
            pods,
        })
    }
}

/// Only what is an IPv4 subnet gets into a program that a node runs.
fn is_subnet(text: &str) -> bool {
    let parts = text.split_once('/');
    parts.is_some_and(|(ip, bits)| ip.parse::<Ipv4Addr>().is_ok() && bits.parse::<u8>().is_ok_and(|bits| bits <= 32))
}

/// Sets the network up on all nodes.
///
/// # Errors
/// [`ToolFailure`], with what the node's shell said.
pub async fn set_up(nodes: &[NodeNetwork], mark: &str) -> Result<(), ToolFailure> {
    let set_up = nodes.iter().map(async |node| {
        let arguments = ["exec", "--interactive", node.name.as_str(), "sh", "-eu"];
        docker(&arguments, &installation(node, nodes), mark).await
    });
    try_join_all(set_up).await.map(drop)
}

/// A program for a node's shell: puts [`script`] and its service in place and starts it.
fn installation(node: &NodeNetwork, nodes: &[NodeNetwork]) -> String {
    format!(
        "\
cat >/kind/gauntlet-network.sh <<'SCRIPT'
{script}SCRIPT
cat >/etc/systemd/system/gauntlet-network.service <<'UNIT'
[Unit]
Description=Pod network of this node
Before=kubelet.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -eu /kind/gauntlet-network.sh

[Install]
WantedBy=multi-user.target
UNIT
systemctl daemon-reload
systemctl --quiet enable gauntlet-network.service
systemctl restart gauntlet-network.service
",
        script = script(node, nodes)
    )
}

/// What a node does each time it starts. May be run again at any time.
fn script(node: &NodeNetwork, nodes: &[NodeNetwork]) -> String {
    let mut routes = String::new();
    let mut inside = String::new();
    for other in nodes {
        let _ = writeln!(
            inside,
            "iptables -w -t nat -A GAUNTLET-EGRESS -d {} -j RETURN",
            other.pods
        );
        if other.name != node.name {
            let _ = writeln!(routes, "ip route replace {} via {}", other.pods, other.address);
        }
    }
    format!(
        r#"# Pods get addresses of this node's subnet; the plugin refuses links longer than the node's own can carry.
mtu=$(cat /sys/class/net/eth0/mtu)
mkdir -p /etc/cni/net.d
cat >/etc/cni/net.d/.10-gauntlet.new <<CONFIG
{{"cniVersion": "0.3.1", "name": "gauntlet", "plugins": [
  {{"type": "ptp", "mtu": $mtu, "ipMasq": false, "ipam": {{
    "type": "host-local", "dataDir": "/run/gauntlet-pod-addresses",
    "ranges": [[{{"subnet": "{pods}"}}]], "routes": [{{"dst": "0.0.0.0/0"}}]}}}},
  {{"type": "portmap", "capabilities": {{"portMappings": true}}}}]}}
CONFIG
# Complete from the moment it is seen.
mv /etc/cni/net.d/.10-gauntlet.new /etc/cni/net.d/10-gauntlet.conflist
# The way to the other nodes' pods.
{routes}# Beyond the cluster pods are seen under this node's address: nobody there knows the way to theirs.
iptables -w -t nat -N GAUNTLET-EGRESS 2>/dev/null || iptables -w -t nat -F GAUNTLET-EGRESS
{inside}iptables -w -t nat -A GAUNTLET-EGRESS -j MASQUERADE
iptables -w -t nat -C POSTROUTING -s {pods} -j GAUNTLET-EGRESS 2>/dev/null ||
  iptables -w -t nat -A POSTROUTING -s {pods} -j GAUNTLET-EGRESS
"#,
        pods = node.pods
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes() -> [NodeNetwork; 2] {
        let node = |index: u8, name: &str| NodeNetwork {
            name: name.to_owned(),
            address: Ipv4Addr::new(172, 18, 0, index),
            pods: format!("10.244.{index}.0/24"),
        };
        [node(2, "a"), node(3, "b")]
    }

    #[test]
    fn a_node_routes_to_the_others_and_masquerades_only_off_the_cluster() {
        let script = script(&nodes()[0], &nodes());
        let commands: Vec<&str> = script
            .lines()
            .filter(|line| line.starts_with("ip ") || line.trim_start().starts_with("iptables "))
            .collect();
        assert_eq!(
            commands,
            [
                "ip route replace 10.244.3.0/24 via 172.18.0.3",
                "iptables -w -t nat -N GAUNTLET-EGRESS 2>/dev/null || iptables -w -t nat -F GAUNTLET-EGRESS",
                "iptables -w -t nat -A GAUNTLET-EGRESS -d 10.244.2.0/24 -j RETURN",
                "iptables -w -t nat -A GAUNTLET-EGRESS -d 10.244.3.0/24 -j RETURN",
                "iptables -w -t nat -A GAUNTLET-EGRESS -j MASQUERADE",
                "iptables -w -t nat -C POSTROUTING -s 10.244.2.0/24 -j GAUNTLET-EGRESS 2>/dev/null ||",
                "  iptables -w -t nat -A POSTROUTING -s 10.244.2.0/24 -j GAUNTLET-EGRESS",
            ]
        );
    }

    #[test]
    fn the_plugins_configuration_is_one_and_names_the_nodes_subnet() {
        let script = script(&nodes()[1], &nodes());
        let config = script
            .split("<<CONFIG\n")
            .nth(1)
            .unwrap()
            .split("CONFIG\n")
            .next()
            .unwrap();
        let config: serde_json::Value = serde_json::from_str(&config.replace("$mtu", "1500")).unwrap();
        assert_eq!(config["plugins"][0]["ipam"]["ranges"][0][0]["subnet"], "10.244.3.0/24");
        assert_eq!(config["plugins"][0]["mtu"], 1500);
    }

    #[test]
    fn a_node_without_address_or_subnet_is_waited_for() {
        let node = |pods: Option<&str>, address: &str| -> Node {
            serde_json::from_value(serde_json::json!({
                "metadata": {"name": "a"},
                "spec": {"podCIDR": pods},
                "status": {"addresses": [
                    {"type": "Hostname", "address": "a"}, {"type": "InternalIP", "address": address}]},
            }))
            .unwrap()
        };
        let known = NodeNetwork::of(&node(Some("10.244.2.0/24"), "172.18.0.2"));
        assert_eq!(known, Some(nodes()[0].clone()));
        for (pods, address) in [
            (None, "172.18.0.2"),
            (Some("10.244.2.0/24"), "fc00::2"),
            (Some("fd00::/64"), "172.18.0.2"),
            (Some("10.244.2.0/24; reboot"), "172.18.0.2"),
        ] {
            assert_eq!(NodeNetwork::of(&node(pods, address)), None, "{pods:?} {address}");
        }
        assert_eq!(NodeNetwork::of(&Node::default()), None);
    }
}
