//! Whatever is killed, and whenever: nothing is left.

use gauntlet_harness::target::local::{LocalCluster, UpOptions, sweep_stale};
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::STORES;
use super::support::*;

#[test]
fn nothing_is_left_when_the_harness_is_killed_at_any_moment() {
    if runtime_or_skip().is_none() {
        return;
    }
    // From before the warden's start to a standing cluster; a quarter of a second is a whole way up.
    for delay_ms in [5, 20, 40, 60, 90, 120, 150, 180, 210, 250, 300, 400, 1500] {
        let (id, mut holder) = hold();
        std::thread::sleep(Duration::from_millis(delay_ms));
        holder.kill().unwrap();
        holder.wait().unwrap();
        let killed = Instant::now();
        eventually(Duration::from_secs(3), || rests(&id).is_empty());
        eprintln!(
            "killed after {delay_ms} ms: gone after {} ms",
            killed.elapsed().as_millis()
        );
    }
}

#[test]
fn nothing_is_left_when_the_harness_is_killed_while_it_makes_a_database() {
    if runtime_or_skip().is_none() {
        return;
    }
    let cache = tempfile::tempdir().unwrap();
    let marker = cache.path().to_str().unwrap();
    let making = || {
        processes(marker)
            .into_iter()
            .find(|(_, command)| command.contains("__postgres-template"))
    };
    for delay_ms in [0, 200, 500] {
        let (id, mut holder) = hold_with(&[("XDG_CACHE_HOME", marker)]);
        eventually(Duration::from_secs(5), || making().is_some());
        let Some((maker, _)) = making() else { continue };
        let namespace = fs::read_link(format!("/proc/{maker}/ns/pid")).unwrap();
        std::thread::sleep(Duration::from_millis(delay_ms));
        holder.kill().unwrap();
        holder.wait().unwrap();
        let inside = || {
            let all = fs::read_dir("/proc").unwrap().flatten();
            all.filter(|process| fs::read_link(process.path().join("ns/pid")).is_ok_and(|to| to == namespace))
                .count()
        };
        eventually(Duration::from_secs(3), || {
            inside() == 0 && making().is_none() && rests(&id).is_empty()
        });
        assert!(
            fs::read_dir(cache.path().join("gauntlet"))
                .unwrap()
                .flatten()
                .all(|entry| { entry.file_name().to_string_lossy().starts_with('.') })
        );
    }
}

#[test]
fn what_a_killed_warden_leaves_is_dead_and_is_swept() {
    if runtime_or_skip().is_none() {
        return;
    }
    let (id, mut holder) = hold();
    let mut lines = BufReader::new(holder.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok);
    if !lines.any(|line| line.ends_with("up")) {
        return eprintln!("skipped: the cluster does not come up here");
    }
    let warden = processes(&id)
        .into_iter()
        .find(|(_, command)| command.contains("__warden"))
        .unwrap()
        .0;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(warden), nix::sys::signal::Signal::SIGKILL).unwrap();
    eventually(Duration::from_secs(3), || {
        rests(&id).iter().all(|rest| !rest.starts_with("process"))
    });
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert!(!rests(&id).is_empty(), "cgroups and files need somebody to remove them");
    let swept = sweep_stale();
    assert!(swept.iter().any(|line| line.contains(&id)), "{swept:?}");
    assert!(rests(&id).is_empty(), "{:?}", rests(&id));
}

/// No test by itself: the process that the tests above kill.
#[test]
fn hold_when_told() {
    let Some(id) = std::env::var_os(HOLD) else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let options = UpOptions {
            id: id.into_string().ok(),
            ..options("held")
        };
        let _cluster = LocalCluster::up(&app(STORES), "test", &options, &|_| ()).await.unwrap();
        println!("up");
        std::future::pending::<()>().await;
    });
}

fn hold() -> (String, std::process::Child) {
    hold_with(&[])
}

fn hold_with(environment: &[(&str, &str)]) -> (String, std::process::Child) {
    let id = format!("held-{:08x}", rand::random::<u32>());
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "crashes::hold_when_told", "--nocapture", "-q"])
        .env(HOLD, &id)
        .envs(environment.iter().copied());
    let holder = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    (format!("gauntlet-{id}"), holder)
}
