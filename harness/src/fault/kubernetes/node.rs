//! Changes of a node that is a container of this machine: it is frozen, or its kubelet is stopped.
//!
//! A node is its container's id, which a container of the same name that came later does not have. Cutting a node's
//! network needs nothing of this: it is a packet filter in its namespace.

use serde::{Deserialize, Serialize};

use super::super::step::Undone;
use crate::target::kind::docker::{ToolFailure, docker};

/// What is done to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeChange {
    /// Its container is paused: the kernel freezes every process in it, those of its pods included.
    Pause,
    /// The kubelet's service is stopped.
    KubeletStop,
}

impl NodeChange {
    /// Makes the change.
    pub(crate) fn apply(self, container: &str) -> Result<(), ToolFailure> {
        match self {
            Self::Pause => docker(&["pause", container]),
            Self::KubeletStop => docker(&["exec", container, "systemctl", "stop", "kubelet"]),
        }
        .map(drop)
    }

    /// Undoes it, whether it was made or not.
    pub(crate) fn undo(self, container: &str) -> Result<Undone, ToolFailure> {
        let state = match docker(&["inspect", "--format", "{{.State.Status}}", container]) {
            Ok(state) => state,
            Err(ToolFailure::Refused { message, .. }) if message.to_lowercase().contains("no such object") => {
                return Ok(Undone::AlreadyGone);
            }
            Err(error) => return Err(error),
        };
        match (self, state.trim()) {
            (Self::Pause, "paused") => docker(&["unpause", container])?,
            (Self::Pause, _) => String::new(),
            // A node that starts again starts its kubelet.
            (Self::KubeletStop, "exited") => return Ok(Undone::AlreadyGone),
            (Self::KubeletStop, _) => docker(&["exec", container, "systemctl", "start", "kubelet"])?,
        };
        Ok(Undone::Done)
    }
}

/// The id of the container that is the node called `name`.
pub(crate) fn container_of(name: &str) -> Result<String, ToolFailure> {
    docker(&["inspect", "--type", "container", "--format", "{{.Id}}", name]).map(|id| id.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_that_does_not_exist_is_already_gone() {
        let none = "0".repeat(64);
        for change in [NodeChange::Pause, NodeChange::KubeletStop] {
            match change.undo(&none) {
                Ok(undone) => assert_eq!(undone, Undone::AlreadyGone),
                // Without an engine nobody can know.
                Err(error) => assert!(docker(&["version"]).is_err(), "{error}"),
            }
        }
    }
}
