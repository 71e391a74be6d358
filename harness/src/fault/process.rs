//! `process-kill` and `process-pause`: signals to all processes of a pod's cgroup, those that come later included.
//!
//! Finds processes by cgroup only, so it cannot hit anything outside the pod.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Name of the process that holds a Kubernetes pod's namespaces and does nothing: a pod whose sandbox dies is another pod.
const SANDBOX: &str = "pause";
/// How the names of a container runtime's own processes begin, which are in a container's cgroup until it has started.
const RUNTIME: &str = "runc:[";

/// The processes of a cgroup and of all cgroups below it, by tgid in the host's numbering, without those of the pod's
/// making: its sandbox, and the runtime at work.
#[must_use]
pub fn tgids(cgroup: &Path) -> BTreeSet<i32> {
    let mut found = members(cgroup);
    found.retain(|tgid| !is_of_the_making(*tgid));
    found
}

/// All processes of a cgroup and of all cgroups below it.
#[must_use]
pub fn members(cgroup: &Path) -> BTreeSet<i32> {
    let own = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    let mut found: BTreeSet<i32> = own
        .lines()
        .filter_map(|line| line.parse().ok())
        .filter(|tgid| *tgid > 1)
        .collect();
    for entry in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(members(&entry.path()));
        }
    }
    found
}

fn is_of_the_making(tgid: i32) -> bool {
    let name = fs::read_to_string(format!("/proc/{tgid}/comm"));
    name.is_ok_and(|name| name.trim_end() == SANDBOX || name.starts_with(RUNTIME))
}

/// Sends `signal` to all of them (`None`: only asks whether it could) and returns to how many.
pub(crate) fn signal_all(cgroup: &Path, signal: Option<Signal>) -> nix::Result<usize> {
    let mut reached = 0;
    for tgid in tgids(cgroup) {
        match kill(Pid::from_raw(tgid), signal) {
            Ok(()) => reached += 1,
            Err(Errno::ESRCH) => {} // it ended meanwhile
            Err(error) => return Err(error),
        }
    }
    Ok(reached)
}

/// Sends SIGSTOP to those that are not stopped yet: a stopped process must not be woken to be stopped again.
pub(crate) fn stop_running(cgroup: &Path) -> nix::Result<usize> {
    let mut reached = 0;
    for tgid in tgids(cgroup).into_iter().filter(|tgid| !is_stopped(*tgid)) {
        match kill(Pid::from_raw(tgid), Signal::SIGSTOP) {
            Ok(()) => reached += 1,
            Err(Errno::ESRCH) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(reached)
}

/// Whether the process is stopped by a signal (state `T`).
#[must_use]
pub fn is_stopped(tgid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{tgid}/stat")).unwrap_or_default();
    // The name stands in parentheses and may itself contain them.
    stat.rsplit(')')
        .next()
        .is_some_and(|rest| rest.trim_start().starts_with('T'))
}
