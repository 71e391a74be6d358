//! What harness, warden and init say to each other: JSON lines over pipes.
//!
//! The harness writes a [`WardenSpec`], then [`START`], then nothing; the end of the pipe means that the cluster must go.

use std::os::fd::RawFd;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::cgroup::{CgroupPlan, Hierarchies};

/// The line on which pods are started.
pub const START: &str = "start";

/// Everything that the warden makes, and must remove.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WardenSpec {
    /// Name of the cluster.
    pub cluster: String,
    /// Directory to make for it.
    pub scratch: PathBuf,
    /// Where to say who holds it.
    pub owner_record: PathBuf,
    /// Where cgroups are.
    pub hierarchies: Hierarchies,
    /// Cgroups to make, parents first.
    pub cgroups: Vec<CgroupPlan>,
    /// Files to write, below the scratch directory.
    pub files: Vec<FilePlan>,
    /// Directories to copy, below the scratch directory.
    pub copies: Vec<CopyPlan>,
    /// Processes to start.
    pub pods: Vec<PodProcess>,
}

/// A file to write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilePlan {
    /// Path.
    pub path: PathBuf,
    /// Content.
    pub text: String,
}

/// A directory to copy, for another user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyPlan {
    /// What to copy.
    pub from: PathBuf,
    /// Whither.
    pub to: PathBuf,
    /// Whose the copy will be.
    pub user: UserIds,
}

/// A user, by numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserIds {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// A pod's main process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodProcess {
    /// The pod.
    pub pod: String,
    /// What to execute.
    pub program: PathBuf,
    /// With which arguments.
    pub args: Vec<String>,
    /// Where.
    pub directory: PathBuf,
    /// As whom; as root if absent.
    pub user: Option<UserIds>,
    /// Number of the inherited descriptor of its network namespace.
    pub netns: RawFd,
    /// The `cgroup.procs` files of its cgroup.
    pub cgroup_procs: Vec<PathBuf>,
    /// Where its output goes.
    pub log: PathBuf,
    /// Files that a killed predecessor may have left and that must not be there.
    pub remove_before_start: Vec<PathBuf>,
}

/// What warden and init tell the harness.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// Directories, cgroups and files are there.
    Prepared,
    /// A pod's process was started.
    Started {
        /// The pod.
        pod: String,
    },
    /// A pod's process ended, and will be started again.
    Exited {
        /// The pod.
        pod: String,
        /// How it ended.
        how: Ending,
        /// How long until the next start.
        back_off_ms: u64,
    },
    /// A pod's process could not be started; it will be tried again.
    NotStarted {
        /// The pod.
        pod: String,
        /// Why.
        message: String,
        /// How long until the next try.
        back_off_ms: u64,
    },
    /// Something is not as it should be, but the cluster can be.
    Warning {
        /// What.
        message: String,
    },
    /// The cluster cannot be, or is no more.
    Failed {
        /// Why.
        message: String,
    },
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// By itself, with this code.
    Exited(i32),
    /// By this signal.
    Signalled(i32),
}

/// Writes one event on standard output. That nobody reads any more is found out elsewhere.
pub fn tell(event: &Event) {
    use std::io::Write as _;
    let line = serde_json::to_string(event).expect("events are plain data") + "\n";
    let _ = std::io::stdout().lock().write_all(line.as_bytes());
}
