//! `network-loss`: a classic BPF program at a `clsact` hook throws dice and drops, below netfilter.
//!
//! It sits where the packet has left its sender's stack: on the pod's `eth0` for packets into the pod, on the node's end
//! of the pod's veth for packets out of it. A drop at the sender's own egress hook would be reported to TCP
//! (`NET_XMIT_DROP`), which then sends again at once and loses nothing: that is not what a lossy link does (measured:
//! 5 % at the pod's egress gave 4 retransmissions where the node's end gave 98).
//! One drop takes one packet as the kernel carries it; with segmentation offload that can be many segments.

use crate::target::NetnsFd;

use super::tool::{self, ToolError};

/// Adds the filter to the ingress hook of `device`, and the hook itself where it is missing.
pub(crate) fn add(netns: &NetnsFd, device: &str, preference: u16, bytecode: &str) -> Result<(), ToolError> {
    if !has_hook(netns, device)? {
        tool::tc(netns, &format!("qdisc add dev {device} clsact"))?;
    }
    let position = format!("dev {device} ingress protocol ip pref {preference}");
    tool::tc(netns, &format!("filter add {position} bpf da bytecode '{bytecode}'")).map(drop)
}

/// Removes the filter, and the hook with the last filter. All of it may be gone already.
pub(crate) fn remove(netns: &NetnsFd, device: &str, preference: u16) -> Result<(), ToolError> {
    if !has_hook(netns, device)? {
        return Ok(());
    }
    if filters(netns, device, "ingress")?.contains(&format!("pref {preference} ")) {
        tool::tc(netns, &format!("filter del dev {device} ingress pref {preference}"))?;
    }
    if filters(netns, device, "ingress")?.is_empty() && filters(netns, device, "egress")?.is_empty() {
        tool::tc(netns, &format!("qdisc del dev {device} clsact"))?;
    }
    Ok(())
}

fn has_hook(netns: &NetnsFd, device: &str) -> Result<bool, ToolError> {
    Ok(tool::tc(netns, &format!("qdisc show dev {device}"))?.contains("qdisc clsact"))
}

fn filters(netns: &NetnsFd, device: &str, hook: &str) -> Result<String, ToolError> {
    tool::tc(netns, &format!("filter show dev {device} {hook}"))
}
