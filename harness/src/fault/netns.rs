//! Finds a network namespace by its inode: in the handles at hand, or through any process or name that holds it.
//!
//! A namespace that nobody holds no longer exists, and everything that was changed in it is gone with it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::target::{NetnsFd, NodeHandle, PodHandle};

/// Namespaces by inode.
#[derive(Clone, Debug, Default)]
pub struct Namespaces {
    known: BTreeMap<u64, NetnsFd>,
}

impl Namespaces {
    /// Those of pods and nodes at hand.
    #[must_use]
    pub fn of(pods: &[PodHandle], nodes: &[NodeHandle]) -> Self {
        let pods = pods.iter().map(|pod| (pod.netns_inode, Arc::clone(&pod.netns)));
        let nodes = nodes.iter().map(|node| (node.netns_inode, Arc::clone(&node.netns)));
        Self {
            known: pods.chain(nodes).collect(),
        }
    }

    /// Opens namespaces through the descriptors of another process, which need not survive afterwards.
    pub(crate) fn through(tgid: u32, fds: &BTreeMap<u64, i32>) -> std::io::Result<Self> {
        let mut known = BTreeMap::new();
        for (inode, fd) in fds {
            let file = File::open(format!("/proc/{tgid}/fd/{fd}"))?;
            if file.metadata()?.ino() != *inode {
                return Err(std::io::Error::other(format!(
                    "descriptor {fd} of {tgid} is not namespace {inode}"
                )));
            }
            known.insert(*inode, Arc::new(OwnedFd::from(file)));
        }
        Ok(Self { known })
    }

    /// Those at hand.
    pub(crate) fn known(&self) -> impl Iterator<Item = (u64, &NetnsFd)> {
        self.known.iter().map(|(inode, netns)| (*inode, netns))
    }

    /// The namespace with this inode, if it exists.
    #[must_use]
    pub fn find(&self, inode: u64) -> Option<NetnsFd> {
        self.known.get(&inode).cloned().or_else(|| search(inode))
    }
}

fn search(inode: u64) -> Option<NetnsFd> {
    let processes = entries(Path::new("/proc"))
        .into_iter()
        .map(|process| process.join("ns/net"));
    let mut candidates = processes.chain(entries(Path::new("/run/netns")));
    let path = candidates.find(|path| fs::metadata(path).is_ok_and(|metadata| metadata.ino() == inode))?;
    let file = File::open(path).ok()?;
    // The process may have ended and its number may have been given to another between the two calls.
    (file.metadata().ok()?.ino() == inode).then(|| Arc::new(OwnedFd::from(file)))
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect()
}
