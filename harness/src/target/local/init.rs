//! The first process of a cluster's PID namespace: starts the pods' processes and starts them again when they end.
//!
//! When it dies the kernel kills all of them. It knows no network and no services, only commands.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::BufRead;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use nix::mount::{MsFlags, mount};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Gid, Pid, Uid};

use super::cgroup::tgids;
use super::protocol::{Ending, Event, PodProcess, tell};
use crate::target::NetnsFd;
use crate::target::namespace::{Confine, adopt, confine};

/// Wait before the first restart. Kubernetes waits 10 s, doubling to 5 minutes; runs here are shorter.
const BACK_OFF_FIRST: Duration = Duration::from_millis(500);
/// Longest wait before a restart.
const BACK_OFF_MAX: Duration = Duration::from_secs(10);
/// A process that lived this long was healthy: the back-off begins anew.
const HEALTHY_AFTER: Duration = Duration::from_secs(10);
/// A pod's log is cut when it is longer than this, bytes.
const LOG_BYTES_MAX: u64 = 1 << 20;
/// How often logs are looked at.
const LOG_INTERVAL: Duration = Duration::from_secs(2);

/// Supervises the pods that standard input names, until standard input ends.
pub fn run() -> anyhow::Result<()> {
    ensure!(
        std::process::id() == 1,
        "this is the first process of a cluster; the warden starts it"
    );
    let mut line = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut line)
        .context("failed to read the pods")?;
    if line.is_empty() {
        return Ok(());
    }
    let processes: Vec<PodProcess> = serde_json::from_str(&line).context("failed to parse the pods")?;
    show_own_processes()?;
    let child_ended = SigSet::from(Signal::SIGCHLD);
    child_ended.thread_block().context("failed to block SIGCHLD")?;
    let ended = SignalFd::with_flags(&child_ended, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
        .context("failed to listen for the end of processes")?;
    let now = Instant::now();
    let pods = processes
        .into_iter()
        .map(|process| Pod::new(process, now))
        .collect::<Result<Vec<_>, _>>()?;
    Supervisor {
        pods,
        running: BTreeMap::new(),
    }
    .run(&ended)
}

/// Mounts a `/proc` of this PID namespace, in a mount namespace of our own.
fn show_own_processes() -> anyhow::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("failed to make a mount namespace")?;
    let nothing: Option<&str> = None;
    // Slave, not private: what the host unmounts, it unmounts here as well.
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_SLAVE, nothing).context("failed to detach mounts")?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), flags, nothing).context("failed to mount /proc")
}

struct Pod {
    process: PodProcess,
    netns: NetnsFd,
    state: PodState,
    back_off: BackOff,
}

#[derive(Clone, Copy)]
enum PodState {
    Running { since: Instant },
    Waiting { until: Instant },
}

impl Pod {
    fn new(process: PodProcess, now: Instant) -> anyhow::Result<Self> {
        let netns = adopt(process.netns).context("failed to inherit a network namespace")?;
        Ok(Self {
            process,
            netns,
            state: PodState::Waiting { until: now },
            back_off: BackOff::new(),
        })
    }

    fn spawn(&self) -> anyhow::Result<u32> {
        let process = &self.process;
        for file in &process.remove_before_start {
            match fs::remove_file(file) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("failed to remove {}", file.display()));
                }
                Ok(()) | Err(_) => (),
            }
        }
        let log = OpenOptions::new().create(true).append(true).open(&process.log);
        let log = log.with_context(|| format!("failed to open {}", process.log.display()))?;
        let mut command = Command::new(&process.program);
        command
            .args(&process.args)
            .current_dir(&process.directory)
            .stdin(Stdio::null());
        command.env_clear().envs([
            ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
            ("LC_ALL", "C"),
        ]);
        command
            .env("HOSTNAME", &process.pod)
            .stdout(log.try_clone()?)
            .stderr(log);
        let mut steps = process
            .cgroup_procs
            .iter()
            .cloned()
            .map(Confine::Cgroup)
            .collect::<Vec<_>>();
        steps.extend([Confine::Session, Confine::Netns(Arc::clone(&self.netns)), Confine::Ipc]);
        steps.extend(
            process
                .user
                .map(|user| Confine::User(Uid::from_raw(user.uid), Gid::from_raw(user.gid))),
        );
        confine(&mut command, steps);
        let child = command
            .spawn()
            .with_context(|| format!("failed to start {}", process.program.display()))?;
        Ok(child.id())
    }

    /// As in a container, the other processes of a pod end with its main process.
    fn kill_rest(&self) {
        let Some(directory) = self.process.cgroup_procs.first().and_then(|procs| procs.parent()) else {
            return;
        };
        for tgid in tgids(directory) {
            let _ = kill(Pid::from_raw(tgid), Signal::SIGKILL);
        }
    }

    fn cut_log(&self) {
        if fs::metadata(&self.process.log).is_ok_and(|log| log.len() > LOG_BYTES_MAX) {
            // The process writes in append mode, so that it goes on at the new end.
            let _ = OpenOptions::new().write(true).truncate(true).open(&self.process.log);
        }
    }
}

struct Supervisor {
    pods: Vec<Pod>,
    /// Process id in this namespace, and index of the pod.
    running: BTreeMap<i32, usize>,
}

impl Supervisor {
    fn run(mut self, ended: &SignalFd) -> anyhow::Result<()> {
        let warden = std::io::stdin();
        let mut logs_looked_at = Instant::now();
        loop {
            let now = Instant::now();
            self.start_due(now);
            if now.duration_since(logs_looked_at) >= LOG_INTERVAL {
                self.pods.iter().for_each(Pod::cut_log);
                logs_looked_at = now;
            }
            let mut polled = [
                PollFd::new(warden.as_fd(), PollFlags::POLLIN),
                PollFd::new(ended.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut polled, self.time_until_due(now)) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => (),
                Err(errno) => return Err(errno).context("failed to wait for events"),
            }
            // The warden says nothing more: whatever is readable is its end, and with it ours.
            if polled[0].any() == Some(true) {
                return Ok(());
            }
            while ended.read_signal().context("failed to read a signal")?.is_some() {}
            self.reap()?;
        }
    }

    fn start_due(&mut self, now: Instant) {
        for (index, pod) in self.pods.iter_mut().enumerate() {
            let PodState::Waiting { until } = pod.state else {
                continue;
            };
            if until > now {
                continue;
            }
            match pod.spawn() {
                Ok(tgid) => {
                    pod.state = PodState::Running { since: now };
                    self.running
                        .insert(i32::try_from(tgid).expect("process ids are positive ints"), index);
                    tell(&Event::Started {
                        pod: pod.process.pod.clone(),
                    });
                }
                Err(error) => {
                    let wait = pod.back_off.after(Duration::ZERO);
                    pod.state = PodState::Waiting { until: now + wait };
                    let (pod, back_off_ms) = (pod.process.pod.clone(), milliseconds(wait));
                    tell(&Event::NotStarted {
                        pod,
                        message: format!("{error:#}"),
                        back_off_ms,
                    });
                }
            }
        }
    }

    fn time_until_due(&self, now: Instant) -> PollTimeout {
        let due = self.pods.iter().filter_map(|pod| match pod.state {
            PodState::Waiting { until } => Some(until.saturating_duration_since(now)),
            PodState::Running { .. } => None,
        });
        // A millisecond more, so that what is due at the end of the time is due when it is looked at.
        let wait = due.min().unwrap_or(LOG_INTERVAL).min(LOG_INTERVAL) + Duration::from_millis(1);
        PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX)
    }

    fn reap(&mut self) -> anyhow::Result<()> {
        loop {
            let (tgid, how) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(tgid, code)) => (tgid, Ending::Exited(code)),
                Ok(WaitStatus::Signaled(tgid, signal, _)) => (tgid, Ending::Signalled(signal as i32)),
                Ok(WaitStatus::StillAlive) | Err(nix::errno::Errno::ECHILD) => return Ok(()),
                Ok(_) | Err(nix::errno::Errno::EINTR) => continue,
                Err(errno) => return Err(errno).context("failed to wait for processes"),
            };
            // Others are orphans of a pod: reaped, and nobody's news.
            let Some(index) = self.running.remove(&tgid.as_raw()) else {
                continue;
            };
            let now = Instant::now();
            let pod = &mut self.pods[index];
            pod.kill_rest();
            let lived = match pod.state {
                PodState::Running { since } => now.duration_since(since),
                PodState::Waiting { .. } => Duration::ZERO,
            };
            let wait = pod.back_off.after(lived);
            pod.state = PodState::Waiting { until: now + wait };
            tell(&Event::Exited {
                pod: pod.process.pod.clone(),
                how,
                back_off_ms: milliseconds(wait),
            });
        }
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// How long to wait before a restart.
#[derive(Debug)]
struct BackOff {
    next: Duration,
}

impl BackOff {
    fn new() -> Self {
        Self { next: BACK_OFF_FIRST }
    }

    fn after(&mut self, lived: Duration) -> Duration {
        if lived >= HEALTHY_AFTER {
            self.next = BACK_OFF_FIRST;
        }
        let wait = self.next;
        self.next = (wait * 2).min(BACK_OFF_MAX);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn back_off_doubles_to_its_bound_and_begins_anew_after_health() {
        let mut back_off = BackOff::new();
        let waits =
            [0, 0, 0, 0, 0, 0, 9, 10, 0].map(|lived_s| back_off.after(Duration::from_secs(lived_s)).as_millis());
        assert_eq!(waits, [500, 1000, 2000, 4000, 8000, 10_000, 10_000, 500, 1000]);
    }
}
