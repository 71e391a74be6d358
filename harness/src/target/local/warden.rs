//! The warden: a process of its own session that holds a cluster for the harness and removes it when the harness ends.
//!
//! The end of its standard input, however it came about, is the order to remove. Everything that outlives a process (cgroups,
//! the scratch directory) is made here and nowhere else, so that nothing can be made by one who dies before he says so.
//! It does not supervise pods; its child, the init of the cluster's PID namespace, does.

use std::fs;
use std::io::{BufRead, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal};

use super::owner::OwnerRecord;
use super::protocol::{CopyPlan, Event, START, WardenSpec, tell};
use crate::target::NetnsFd;
use crate::target::namespace::{Confine, adopt, confine};

/// How long the kernel may take to let go of what was killed.
const REMOVAL_PATIENCE: Duration = Duration::from_secs(5);
/// How often it is looked whether init still lives.
const WATCH_INTERVAL_MS: u16 = 250;

/// Runs until standard input ends, and removes the cluster then.
pub fn run() -> anyhow::Result<()> {
    ignore_terminal()?;
    let mut input = std::io::stdin().lock();
    let mut line = String::new();
    if input.read_line(&mut line).context("failed to read what to hold")? == 0 {
        return Ok(());
    }
    let spec: WardenSpec = serde_json::from_str(&line).context("failed to parse what to hold")?;
    let held = hold(&spec, &mut input);
    let removed = remove(&spec);
    for error in held.as_ref().err().into_iter().chain(removed.as_ref().err()) {
        tell(&Event::Failed {
            message: format!("{error:#}"),
        });
    }
    held.and(removed)
}

/// Signals for everybody at the terminal are not for the warden. Blocked signals, unlike ignored ones, are given back to
/// the pods' processes by the standard library.
fn ignore_terminal() -> anyhow::Result<()> {
    let signals = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT]
        .into_iter()
        .collect::<SigSet>();
    signals.thread_block().context("failed to block signals")
}

fn hold(spec: &WardenSpec, input: &mut impl BufRead) -> anyhow::Result<()> {
    let namespaces = spec
        .pods
        .iter()
        .map(|pod| adopt(pod.netns))
        .collect::<Result<Vec<_>, _>>();
    let namespaces = namespaces.context("failed to inherit network namespaces")?;
    prepare(spec)?;
    tell(&Event::Prepared);
    let mut line = String::new();
    input.read_line(&mut line).context("failed to wait for the start")?;
    if line.trim_end() != START {
        return Ok(());
    }
    let mut init = start_init(spec, namespaces)?;
    let watched = watch(&mut init);
    // The frozen do not die, and `wait` would wait for them.
    spec.hierarchies.release(&spec.cluster);
    // All of the PID namespace dies with its first process; `wait` returns when all are gone.
    let _ = init.kill();
    init.wait().context("failed to wait for init")?;
    watched
}

fn prepare(spec: &WardenSpec) -> anyhow::Result<()> {
    OwnerRecord::of_this_process(spec)?.write(&spec.owner_record)?;
    let make_scratch = || {
        fs::create_dir(&spec.scratch)?;
        // Whatever the umask: servers that must not be root have their data in it.
        fs::set_permissions(&spec.scratch, fs::Permissions::from_mode(0o755))
    };
    make_scratch().with_context(|| format!("failed to make {}", spec.scratch.display()))?;
    for cgroup in &spec.cgroups {
        if let Some(message) = spec.hierarchies.create(cgroup)? {
            tell(&Event::Warning { message });
        }
    }
    for file in &spec.files {
        let make = || -> std::io::Result<()> {
            fs::create_dir_all(file.path.parent().unwrap_or(&spec.scratch))?;
            fs::write(&file.path, &file.text)
        };
        make().with_context(|| format!("failed to write {}", file.path.display()))?;
    }
    for pod in &spec.pods {
        for directory in [Some(pod.directory.as_path()), pod.log.parent()].into_iter().flatten() {
            fs::create_dir_all(directory).with_context(|| format!("failed to make {}", directory.display()))?;
        }
    }
    for copy in &spec.copies {
        copy_tree(copy, &copy.from, &copy.to)
            .with_context(|| format!("failed to copy {} to {}", copy.from.display(), copy.to.display()))?;
    }
    Ok(())
}

fn copy_tree(plan: &CopyPlan, from: &Path, to: &Path) -> std::io::Result<()> {
    let metadata = fs::symlink_metadata(from)?;
    if metadata.is_dir() {
        if !to.is_dir() {
            fs::create_dir(to)?;
        }
        for entry in fs::read_dir(from)? {
            // The longest part of the preparation: not for a harness that is gone.
            if order_ended() {
                return Err(std::io::Error::other("the harness is gone"));
            }
            let entry = entry?;
            copy_tree(plan, &entry.path(), &to.join(entry.file_name()))?;
        }
        fs::set_permissions(to, metadata.permissions())?;
    } else {
        fs::copy(from, to)?;
    }
    std::os::unix::fs::chown(to, Some(plan.user.uid), Some(plan.user.gid))
}

/// True when standard input has ended; nothing is said on it during the preparation.
fn order_ended() -> bool {
    let input = std::io::stdin();
    let mut polled = [PollFd::new(input.as_fd(), PollFlags::POLLIN)];
    poll(&mut polled, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

fn start_init(spec: &WardenSpec, namespaces: Vec<NetnsFd>) -> anyhow::Result<Child> {
    unshare(CloneFlags::CLONE_NEWPID).context("failed to make a PID namespace")?;
    let program = std::env::current_exe().context("failed to find this program")?;
    let mut command = Command::new(program);
    command.args(["__init", &spec.cluster]).stdin(Stdio::piped());
    let inherit = namespaces.iter().map(|netns| Confine::Inherit(Arc::clone(netns)));
    confine(&mut command, inherit.chain([Confine::DieWithParent]).collect());
    let mut init = command.spawn().context("failed to start init")?;
    let mut line = serde_json::to_string(&spec.pods).context("failed to write the pods")?;
    line.push('\n');
    // The pipe stays open as long as `init` lives here: its end tells init that the warden is no more.
    let pipe = init.stdin.as_mut().expect("piped");
    pipe.write_all(line.as_bytes())
        .context("failed to tell init its pods")?;
    Ok(init)
}

/// Returns when standard input has ended; fails if init ends before.
fn watch(init: &mut Child) -> anyhow::Result<()> {
    let input = std::io::stdin();
    loop {
        let mut polled = [PollFd::new(input.as_fd(), PollFlags::POLLIN)];
        let ready = match poll(&mut polled, PollTimeout::from(WATCH_INTERVAL_MS)) {
            Ok(ready) => ready,
            Err(nix::errno::Errno::EINTR) => 0,
            Err(errno) => return Err(errno).context("failed to watch standard input"),
        };
        // Nothing is said after the start: whatever is readable is the end.
        if ready > 0 {
            return Ok(());
        }
        if let Some(status) = init.try_wait().context("failed to watch init")? {
            bail!("init ended before its time ({status})");
        }
    }
}

fn remove(spec: &WardenSpec) -> anyhow::Result<()> {
    let cgroups = spec.hierarchies.remove(&spec.cluster, REMOVAL_PATIENCE);
    match fs::remove_dir_all(&spec.scratch) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("failed to remove {}", spec.scratch.display()));
        }
        Ok(()) | Err(_) => (),
    }
    cgroups?;
    // Last: as long as the record is there, what is left can be found.
    let _ = fs::remove_file(&spec.owner_record);
    Ok(())
}
