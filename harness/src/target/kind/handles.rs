//! Finds on this machine what the API only names: namespaces and cgroups of nodes and pods.
//!
//! A node is a container; a pod is a cgroup below its node's whose name holds the pod's UID, whatever the drivers of engine
//! and kubelet (`kubepods/burstable/pod1f3a-…` or `kubepods-burstable-pod1f3a_….slice`). Changes nothing.

use std::fs::{self, File};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gauntlet_probes::entity::NodeName;

use super::docker::{ToolFailure, docker};
use crate::fault::process::members;
use crate::target::local::cgroup::Hierarchies;
use crate::target::namespace::netns_inode;
use crate::target::{CgroupPaths, NetnsFd, NodeHandle};

/// Depth to which pods are looked for: they are three or four below a node's cgroup, which is two below the root.
const DEPTH_MAX: usize = 8;

/// A node is not to be found on this machine.
#[derive(Debug, thiserror::Error)]
pub enum HandleError {
    /// It is no container here.
    #[error("node {node} is no running container of this machine, so its kernel cannot be reached from here")]
    NotHere {
        /// The node.
        node: NodeName,
        /// What the container engine said.
        #[source]
        source: ToolFailure,
    },
    /// The container engine's answer is not understood.
    #[error("the container engine's answer about node {node} is not understood: {answer}")]
    Answer {
        /// The node.
        node: NodeName,
        /// What it said.
        answer: String,
    },
    /// Its files cannot be read.
    #[error("failed to read {} of node {node}", path.display())]
    Files {
        /// The node.
        node: NodeName,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Where a pod is: its cgroup and its network namespace.
#[derive(Clone, Debug)]
pub struct PodPlace {
    /// The pod's own cgroup; below it are its containers and its sandbox.
    pub cgroup: CgroupPaths,
    /// Its network namespace.
    pub netns: NetnsFd,
    /// Inode of that namespace.
    pub netns_inode: u64,
}

/// The node called `name` with the address `ip`. Runs the container engine's program.
///
/// # Errors
/// [`HandleError`] when it is no container of this machine.
pub fn node(name: &NodeName, ip: Ipv4Addr, hierarchies: &Hierarchies) -> Result<NodeHandle, HandleError> {
    let inspected = docker(&[
        "inspect",
        "--type",
        "container",
        "--format",
        "{{.State.Pid}} {{.Id}}",
        name.as_str(),
    ]);
    let answer = inspected.map_err(|source| HandleError::NotHere {
        node: name.clone(),
        source,
    })?;
    let (tgid, id) = parse(&answer).ok_or_else(|| HandleError::Answer {
        node: name.clone(),
        answer: answer.trim().to_owned(),
    })?;
    let file = |path: PathBuf| {
        move |source| HandleError::Files {
            node: name.clone(),
            path,
            source,
        }
    };
    let of_process = PathBuf::from(format!("/proc/{tgid}/cgroup"));
    let text = fs::read_to_string(&of_process).map_err(file(of_process.clone()))?;
    let missing = || io::Error::other(format!("no cgroup of container {id} in it"));
    let relative = node_cgroup(&text, &id).ok_or_else(missing).map_err(file(of_process))?;
    let (netns, inode) = netns_of(tgid).map_err(file(PathBuf::from(format!("/proc/{tgid}/ns/net"))))?;
    Ok(NodeHandle {
        name: name.clone(),
        ip,
        netns,
        netns_inode: inode,
        cgroup: hierarchies.paths(&relative),
    })
}

/// Where the pod with this UID is on its node; `None` while it has no process there. A pod of the host's network says its
/// node's namespace.
#[must_use]
pub fn pod(node: &NodeHandle, uid: &str, hierarchies: &Hierarchies) -> Option<PodPlace> {
    let below = find(&node.cgroup.unified, uid, DEPTH_MAX)?;
    let relative = below.strip_prefix(&node.cgroup.unified).ok()?.to_str()?;
    let cgroup = hierarchies.paths(&format!("{}/{relative}", node.cgroup.relative));
    let (netns, netns_inode) = members(&cgroup.unified)
        .into_iter()
        .find_map(|tgid| netns_of(tgid).ok())?;
    Some(PodPlace {
        cgroup,
        netns,
        netns_inode,
    })
}

/// Whether a process of the pod with this UID is still there, on whichever node of this machine.
#[must_use]
pub fn is_running(uid: &str, hierarchies: &Hierarchies) -> bool {
    let root = hierarchies.paths("/").unified;
    find(&root, uid, DEPTH_MAX).is_some_and(|cgroup| !members(&cgroup).is_empty())
}

fn netns_of(tgid: i32) -> io::Result<(NetnsFd, u64)> {
    let netns: NetnsFd = Arc::new(OwnedFd::from(File::open(format!("/proc/{tgid}/ns/net"))?));
    let inode = netns_inode(&netns).map_err(io::Error::other)?;
    Ok((netns, inode))
}

/// Process and id of a container, from the engine's answer.
fn parse(answer: &str) -> Option<(i32, String)> {
    let (tgid, id) = answer.trim().split_once(' ')?;
    // 0: it exists, and does not run.
    let tgid = tgid.parse().ok().filter(|tgid| *tgid > 0)?;
    (!id.is_empty()).then(|| (tgid, id.to_owned()))
}

/// The container's cgroup, from the text of `/proc/TGID/cgroup` of its first process, which may be in one below.
fn node_cgroup(text: &str, id: &str) -> Option<String> {
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    let parts: Vec<&str> = path.split('/').collect();
    let own = parts.iter().position(|part| part.contains(id))?;
    Some(parts[..=own].join("/"))
}

/// The directory at or below `directory` that is the cgroup of the pod with this UID.
fn find(directory: &Path, uid: &str, depth: usize) -> Option<PathBuf> {
    let plain = format!("pod{uid}");
    // The systemd driver's names cannot have dashes, which stand for levels.
    let in_slices = format!("pod{}", uid.replace('-', "_"));
    let mut below = Vec::new();
    for entry in fs::read_dir(directory).ok()?.flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.contains(&plain) || name.contains(&in_slices) {
            return Some(entry.path());
        }
        below.push(entry.path());
    }
    let depth = depth.checked_sub(1)?;
    below.iter().find_map(|directory| find(directory, uid, depth))
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "63db713b-e9ba-42e4-93b4-a26df591ea61";

    #[test]
    fn a_node_is_its_container_wherever_its_first_process_is() {
        let id = "a7b142d0ffd4";
        let check =
            |text: &str, expected: Option<&str>| assert_eq!(node_cgroup(text, id).as_deref(), expected, "{text}");
        check(
            "5:cpu:/docker/a7b142d0ffd4\n0::/docker/a7b142d0ffd4/init.scope\n",
            Some("/docker/a7b142d0ffd4"),
        );
        check(
            "0::/system.slice/docker-a7b142d0ffd4.scope\n",
            Some("/system.slice/docker-a7b142d0ffd4.scope"),
        );
        check("0::/user.slice\n", None);
        assert_eq!(parse("1727 a7b1\n"), Some((1727, "a7b1".to_owned())));
        assert_eq!(parse("0 a7b1\n"), None, "a container that does not run");
    }

    #[test]
    fn a_pod_is_found_under_the_names_of_both_drivers() {
        for below in [
            format!("kubelet/kubepods/burstable/pod{UID}"),
            format!("kubelet/kubepods/pod{UID}"),
            format!(
                "kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort-pod{}.slice",
                UID.replace('-', "_")
            ),
        ] {
            let root = tempfile::tempdir().expect("a directory");
            let wanted = root.path().join(&below);
            fs::create_dir_all(wanted.join("cri-containerd-1.scope")).expect("directories");
            fs::create_dir_all(root.path().join("kubelet/kubepods/podelse/1")).expect("directories");
            assert_eq!(find(root.path(), UID, DEPTH_MAX), Some(wanted));
            assert_eq!(find(root.path(), "another", DEPTH_MAX), None);
        }
    }
}
