//! `gauntlet cluster --target local`: an application without faults on a cluster of namespaces, held by a process.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::super::Exit;
use crate::target::local::{LocalCluster, UpOptions};

/// Where the processes that hold clusters are written down.
const STATE: &str = "/run/gauntlet";
/// Longest that a detached cluster may take to come up, the first making of a database included.
const UP_WITHIN: Duration = Duration::from_secs(60);
/// Longest that it may take to go down.
const DOWN_WITHIN: Duration = Duration::from_secs(10);

/// Whether this user can have a cluster at all; says so on standard error if not.
fn may() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("gauntlet: the local target needs root (namespaces, cgroups); run it with sudo");
    }
    root
}

/// Brings a cluster up and holds it until a signal.
///
/// # Errors
/// When its state cannot be written.
pub fn hold(app: &str, name: &str) -> anyhow::Result<Exit> {
    if may() {
        hold_here(app, name)
    } else {
        Ok(Exit::CannotHere)
    }
}

/// Starts a process that holds a cluster, and returns when it is up.
///
/// # Errors
/// When that process cannot be started.
pub fn detach(app: &str, name: &str) -> anyhow::Result<Exit> {
    if may() {
        detach_here(app, name)
    } else {
        Ok(Exit::CannotHere)
    }
}

/// Takes a cluster down.
///
/// # Errors
/// When the process that holds it cannot be ended.
pub fn down(name: &str) -> anyhow::Result<Exit> {
    if may() { down_here(name) } else { Ok(Exit::CannotHere) }
}

/// The clusters that processes hold: name and process.
#[must_use]
pub fn held() -> Vec<(String, i32)> {
    let files = std::fs::read_dir(STATE).into_iter().flatten().flatten();
    let names = files.filter_map(|file| {
        let file_name = file.file_name().into_string().ok()?;
        Some(file_name.strip_prefix("cluster-")?.strip_suffix(".tgid")?.to_owned())
    });
    let mut held: Vec<_> = names
        .filter_map(|name| holder(&name).map(|tgid| (name, tgid.as_raw())))
        .collect();
    held.sort();
    held
}

fn state_file(name: &str) -> PathBuf {
    Path::new(STATE).join(format!("cluster-{name}.tgid"))
}

/// The process that holds a cluster of this name, if it lives.
fn holder(name: &str) -> Option<Pid> {
    let text = std::fs::read_to_string(state_file(name)).ok()?;
    let tgid = Pid::from_raw(text.trim().parse().ok()?);
    let command = std::fs::read_to_string(format!("/proc/{tgid}/cmdline")).ok()?;
    (command.contains("gauntlet") && kill(tgid, None).is_ok()).then_some(tgid)
}

fn hold_here(app: &str, name: &str) -> anyhow::Result<Exit> {
    if let Some(tgid) = holder(name) {
        eprintln!("gauntlet: cluster {name} is up already (process {tgid}); choose another --name or take it down");
        return Ok(Exit::TargetFailed);
    }
    let app = match crate::app::load(app) {
        Ok(app) => app,
        Err(error) => {
            eprintln!("gauntlet: {}", crate::doctor::error_chain(&error));
            return Ok(Exit::InvalidScenario);
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        use tokio::signal::unix::{SignalKind, signal};
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let options = UpOptions::default();
        let began = Instant::now();
        let cluster = match LocalCluster::up(&app.spec, &app.name, &options, &|step| eprintln!("{step}")).await {
            Ok(cluster) => cluster,
            Err(error) => {
                eprintln!("gauntlet: {}", crate::doctor::error_chain(&error));
                return Ok(if error.is_unavailable() {
                    Exit::CannotHere
                } else {
                    Exit::TargetFailed
                });
            }
        };
        describe(&cluster, began.elapsed());
        let state = state_file(name);
        std::fs::create_dir_all(state.parent().unwrap_or(&state)).context("failed to make /run/gauntlet")?;
        std::fs::write(&state, std::process::id().to_string()).context("failed to write the cluster's state file")?;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        let began = Instant::now();
        let down = cluster.down().await;
        std::fs::remove_file(&state).context("failed to remove the cluster's state file")?;
        match down {
            Ok(()) => {
                eprintln!("down after {:.1} s", began.elapsed().as_secs_f64());
                Ok(Exit::Pass)
            }
            Err(error) => {
                eprintln!("gauntlet: {}", crate::doctor::error_chain(&error));
                Ok(Exit::TargetFailed)
            }
        }
    })
}

fn describe(cluster: &LocalCluster, took: Duration) {
    println!(
        "cluster {} is up after {:.1} s",
        cluster.cluster_id(),
        took.as_secs_f64()
    );
    for pod in cluster.pods() {
        let enter = cluster
            .pod_tgids(&pod.name)
            .first()
            .map_or_else(String::new, |tgid| format!("nsenter -t {tgid} -n"));
        println!(
            "  {:<12} {:<8} {:>15}:{:<5} {enter}",
            pod.name.as_str(),
            pod.node.as_str(),
            pod.ip,
            pod.port
        );
    }
    drop(std::io::stdout().flush());
}

fn detach_here(app: &str, name: &str) -> anyhow::Result<Exit> {
    if let Some(tgid) = holder(name) {
        eprintln!("gauntlet: cluster {name} is up already (process {tgid})");
        return Ok(Exit::TargetFailed);
    }
    let log = std::env::temp_dir().join(format!("gauntlet-cluster-{name}.log"));
    let output = std::fs::File::create(&log).with_context(|| format!("failed to create {}", log.display()))?;
    let mut child = Command::new("setsid")
        .arg(std::env::current_exe()?)
        .args(["cluster", "up", "--app", app, "--name", name])
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .spawn()
        .context("failed to start the process that holds the cluster")?;
    let deadline = Instant::now() + UP_WITHIN;
    while Instant::now() < deadline {
        if holder(name).is_some() {
            print!("{}", std::fs::read_to_string(&log).unwrap_or_default());
            return Ok(Exit::Pass);
        }
        if let Some(status) = child.try_wait()?
            && !status.success()
        {
            eprint!("{}", std::fs::read_to_string(&log).unwrap_or_default());
            return Ok(if status.code() == Some(i32::from(Exit::CannotHere.code())) {
                Exit::CannotHere
            } else {
                Exit::TargetFailed
            });
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    eprintln!(
        "gauntlet: cluster {name} did not come up within {UP_WITHIN:?}; see {}",
        log.display()
    );
    Ok(Exit::TargetFailed)
}

fn down_here(name: &str) -> anyhow::Result<Exit> {
    let Some(tgid) = holder(name) else {
        eprintln!("gauntlet: no cluster {name} is up");
        return Ok(Exit::NothingSelected);
    };
    kill(tgid, Signal::SIGTERM).with_context(|| format!("failed to end process {tgid}"))?;
    let deadline = Instant::now() + DOWN_WITHIN;
    while Instant::now() < deadline {
        if holder(name).is_none() {
            println!("cluster {name} is down");
            return Ok(Exit::Pass);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    eprintln!("gauntlet: cluster {name} did not go down within {DOWN_WITHIN:?}");
    Ok(Exit::TargetFailed)
}
