//! Finds the node's end of a pod's interface, by the indexes that both ends of a veth pair have of each other.
//!
//! Does not rely on any naming of interfaces.

use serde::Deserialize;

use crate::target::{NetnsFd, NodeHandle, PodHandle};

use super::tool::{self, ToolError};

/// The pod's interface, on every container network that we know.
pub(crate) const POD_DEVICE: &str = "eth0";

/// The node's end of a pod's link.
#[derive(Clone, Debug)]
pub(crate) struct NodeEnd {
    /// Inode of the node's namespace.
    pub(crate) netns_inode: u64,
    /// Name of the device there.
    pub(crate) device: String,
}

#[derive(Deserialize)]
struct Link {
    ifindex: u32,
    ifname: String,
    link_index: Option<u32>,
}

/// The node's end of the pod's `eth0`; `None` if it has none in the pod's node.
pub(crate) fn node_end(pod: &PodHandle, nodes: &[NodeHandle]) -> Result<Option<NodeEnd>, ToolError> {
    let Some(node) = nodes.iter().find(|node| node.name == pod.node) else {
        return Ok(None);
    };
    let inside = links(&pod.netns, &["dev", POD_DEVICE])?;
    let Some(own) = inside.first() else { return Ok(None) };
    let outside = links(&node.netns, &[])?;
    // Both directions: an index alone may by chance be that of another link.
    let found = outside
        .into_iter()
        .find(|link| own.link_index == Some(link.ifindex) && link.link_index == Some(own.ifindex));
    Ok(found.map(|link| NodeEnd {
        netns_inode: node.netns_inode,
        device: link.ifname,
    }))
}

fn links(netns: &NetnsFd, which: &[&str]) -> Result<Vec<Link>, ToolError> {
    let arguments: Vec<&str> = ["-j", "link", "show"].iter().chain(which).copied().collect();
    let text = tool::run(netns, "ip", &arguments, "")?;
    serde_json::from_str(&text).map_err(|error| ToolError::Refused {
        command: format!("ip {}", arguments.join(" ")),
        message: format!("its answer is not understood: {error}"),
    })
}
