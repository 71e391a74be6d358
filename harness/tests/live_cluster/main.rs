//! The local cluster on a real kernel: traffic, names, balancing, restarts, and that nothing is left of it.
//!
//! Needs root; skips with the reason otherwise.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use gauntlet_harness::target::local::{LocalCluster, PodChange, UpError, UpOptions};
use gauntlet_harness::target::namespace::{command_in_pod, run_in_netns, tokio_runtime_in_netns};
use gauntlet_probes::entity::PodName;
use hickory_proto::op::ResponseCode;

mod crashes;
mod support;
use support::*;

const STORES: &str = r#"{"nodes": 3, "entry": "cache", "load": {"rate": 1.0, "paths": []}, "services": {
    "cache": {"kind": "redis", "replicas": 3, "cpuMillicores": 300, "memoryMib": 64}, "db": {"kind": "postgres"}}}"#;
const SMALL: &str = r#"{"nodes": 2, "entry": "cache", "load": {"rate": 1.0, "paths": []}, "services": {
    "cache": {"kind": "redis", "replicas": 2}}}"#;

#[test]
fn pods_reach_each_other_by_virtual_address_across_nodes() {
    with_cluster("reach", STORES, async |cluster| {
        let caller = pod(cluster, "cache-0");
        for callee in ["cache-1", "cache-2", "cache"] {
            assert_eq!(
                redis(&caller.netns, cluster.service_dial(callee).unwrap(), "PING"),
                Ok("+PONG".into()),
                "{callee}"
            );
        }
        let database = cluster.service_dial("db").unwrap();
        assert!(connect(&caller.netns, database).is_ok());
        assert!(
            connect(&cluster.client_netns(), database).is_ok(),
            "load enters from outside the nodes"
        );
        let caller = &cluster.nodes()[2];
        assert!(connect(&caller.netns, database).is_ok(), "nodes are callers as well");
    });
}

#[test]
fn the_shop_answers_from_outside_and_is_up_within_three_seconds() {
    let Some(runtime) = runtime_or_skip() else { return };
    let shop = gauntlet_harness::app::load("shop").unwrap();
    // The first cluster of a machine makes its database, once.
    let spec = serde_json::to_string(&shop.spec).unwrap();
    with_cluster("shop-first", &spec, async |_| ());
    runtime.block_on(async {
        let begun = Instant::now();
        let cluster = match LocalCluster::up(&shop.spec, &shop.name, &options("shop"), &|_| ()).await {
            Err(error) if error.is_unavailable() => return eprintln!("skipped: {error}"),
            cluster => cluster.unwrap(),
        };
        let up = begun.elapsed();
        for _ in 0..20 {
            let response = get(
                &cluster.client_netns(),
                cluster.service_dial("web").unwrap(),
                "/product/7",
            );
            assert!(response.starts_with("HTTP/1.1 200"), "{response}");
        }
        let begun = Instant::now();
        cluster.down().await.unwrap();
        let down = begun.elapsed();
        eprintln!("shop: up {} ms, down {} ms", up.as_millis(), down.as_millis());
        assert!(
            up < Duration::from_secs(3) && down < Duration::from_secs(1),
            "up {up:?}, down {down:?}"
        );
    });
}

#[test]
fn a_service_is_balanced_over_its_pods_and_a_replica_is_itself() {
    with_cluster("balance", STORES, async |cluster| {
        let servers = |service: &str, tries: usize| {
            let dial = cluster.service_dial(service).unwrap();
            let mut seen = BTreeMap::<String, usize>::new();
            for _ in 0..tries {
                *seen.entry(run_id(&cluster.client_netns(), dial)).or_default() += 1;
            }
            seen
        };
        // 90 tries over 3 pods: one pod with fewer than 10 has a probability below 1e-6.
        let balanced = servers("cache", 90);
        assert!(
            balanced.len() == 3 && balanced.values().all(|&count| count >= 10),
            "{balanced:?}"
        );
        assert_eq!(servers("cache-1", 10).len(), 1);
        let own = run_id(&pod(cluster, "cache-1").netns, cluster.service_dial("cache-1").unwrap());
        assert!(
            servers("cache-1", 1).contains_key(&own),
            "a pod reaches itself through its own service"
        );
    });
}

#[test]
fn names_resolve_on_the_cluster_network() {
    with_cluster("names", STORES, async |cluster| {
        let netns = &pod(cluster, "cache-2").netns;
        for service in ["cache", "cache-0", "db", "dns"] {
            let expected = cluster.service_dial(service).unwrap().ip;
            assert_eq!(
                resolve(netns, cluster.dns_dial(), service),
                (ResponseCode::NoError, vec![expected])
            );
        }
        assert_eq!(
            resolve(netns, cluster.dns_dial(), "nobody"),
            (ResponseCode::NXDomain, vec![])
        );
    });
}

#[test]
fn a_wrong_target_port_refuses_and_the_right_one_heals() {
    with_cluster("port", STORES, async |cluster| {
        let netns = &pod(cluster, "cache-0").netns;
        let dials = ["cache", "cache-1"].map(|service| cluster.service_dial(service).unwrap());
        let mut open = run_in_netns(netns, || TcpStream::connect((dials[1].ip, dials[1].port)))
            .unwrap()
            .unwrap();
        cluster.set_target_port("cache", Some(1)).await.unwrap();
        for dial in dials {
            assert_eq!(connect(netns, dial), Err(std::io::ErrorKind::ConnectionRefused));
        }
        assert_eq!(
            ask_redis(&mut open, "PING"),
            Ok("+PONG".into()),
            "open connections stay"
        );
        cluster.set_target_port("cache", None).await.unwrap();
        for dial in dials {
            assert_eq!(connect(netns, dial), Ok(()));
        }
        assert!(cluster.set_target_port("nobody", None).await.is_err());
    });
}

#[test]
fn a_killed_pod_is_restarted_with_back_off_and_recorded() {
    with_cluster("restart", STORES, async |cluster| {
        for name in ["cache-1", "db-0"] {
            let name = PodName::from(name);
            let before = cluster.pod_tgids(&name);
            assert!(!before.is_empty());
            for tgid in &before {
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(*tgid), nix::sys::signal::Signal::SIGKILL);
            }
            let begun = Instant::now();
            let dial = cluster.service_dial(name.as_str()).unwrap();
            eventually(Duration::from_secs(5), || {
                connect(&cluster.client_netns(), dial).is_err()
            });
            eventually(Duration::from_secs(5), || {
                connect(&cluster.client_netns(), dial).is_ok()
            });
            assert!(
                begun.elapsed() >= Duration::from_millis(450),
                "half a second of back-off"
            );
            let after = cluster.pod_tgids(&name);
            assert!(
                !after.is_empty() && after.iter().all(|tgid| !before.contains(tgid)),
                "{before:?} {after:?}"
            );
            let records = cluster.restarts();
            let changes = records
                .iter()
                .filter(|record| record.pod == name)
                .map(|record| &record.change);
            let changes = changes.collect::<Vec<_>>();
            assert!(
                matches!(
                    changes[..],
                    [PodChange::Started, PodChange::Ended { .. }, PodChange::Started]
                ),
                "{changes:?}"
            );
        }
    });
}

#[test]
fn processes_are_confined() {
    with_cluster("confine", STORES, async |cluster| {
        let cache = pod(cluster, "cache-0");
        let tgid = cluster.pod_tgids(&cache.name)[0];
        let link = |kind: &str| fs::read_link(format!("/proc/{tgid}/ns/{kind}")).unwrap();
        for kind in ["net", "pid", "ipc", "mnt"] {
            assert_ne!(
                link(kind),
                fs::read_link(format!("/proc/self/ns/{kind}")).unwrap(),
                "{kind}"
            );
        }
        assert_eq!(link("net"), Path::new(&format!("net:[{}]", cache.netns_inode)));
        let groups = fs::read_to_string(format!("/proc/{tgid}/cgroup")).unwrap();
        assert!(
            groups
                .lines()
                .any(|line| line == format!("0::{}", cache.cgroup.relative)),
            "{groups}"
        );
        let descriptors = fs::read_dir(format!("/proc/{tgid}/fd")).unwrap().flatten();
        let leaked = descriptors.filter(|fd| fs::read_link(fd.path()).is_ok_and(|to| to.starts_with("net:")));
        assert_eq!(leaked.count(), 0, "no namespace but its own is open in it");
        let quota = fs::read_to_string(cache.cgroup.cpu.join("cpu.cfs_quota_us"))
            .or_else(|_| fs::read_to_string(cache.cgroup.cpu.join("cpu.max")))
            .unwrap();
        assert!(
            quota.starts_with("30000"),
            "300 thousandths of a core in a period of 100 ms: {quota}"
        );
        let node = &cluster.nodes()[0].cgroup.cpu;
        let quota =
            fs::read_to_string(node.join("cpu.cfs_quota_us")).or_else(|_| fs::read_to_string(node.join("cpu.max")));
        let expected_us = u64::from(UpOptions::default().node_millicores) * 20;
        assert!(
            quota.unwrap().starts_with(&expected_us.to_string()),
            "a period of 20 ms"
        );
        assert_eq!(cluster.warnings(), Vec::<String>::new());
        let output = command_in_pod(cache, "cat").arg("/proc/self/cgroup").output().unwrap();
        assert!(String::from_utf8_lossy(&output.stdout).contains(&format!("0::{}", cache.cgroup.relative)));
    });
}

#[test]
fn frozen_stopped_and_starved_pods_do_not_keep_a_cluster_up() {
    with_cluster("frozen", STORES, async |cluster| {
        let [frozen, stopped, starved] = ["cache-0", "cache-1", "cache-2"].map(|name| pod(cluster, name));
        let write_one = |directory: &Path, v1: (&str, &str), v2: (&str, &str)| {
            let (file, value) = if directory.join(v1.0).exists() { v1 } else { v2 };
            fs::write(directory.join(file), value).unwrap();
        };
        write_one(
            &frozen.cgroup.freezer,
            ("freezer.state", "FROZEN"),
            ("cgroup.freeze", "1"),
        );
        write_one(
            &starved.cgroup.cpu,
            ("cpu.cfs_quota_us", "1000"),
            ("cpu.max", "1000 100000"),
        );
        let stopped = nix::unistd::Pid::from_raw(cluster.pod_tgids(&stopped.name)[0]);
        nix::sys::signal::kill(stopped, nix::sys::signal::Signal::SIGSTOP).unwrap();
    });
}

#[test]
fn connections_use_cubic() {
    with_cluster("cubic", STORES, async |cluster| {
        let dial = cluster.service_dial("cache-1").unwrap();
        for netns in [pod(cluster, "cache-0").netns.clone(), cluster.client_netns()] {
            let stream = run_in_netns(&netns, || TcpStream::connect((dial.ip, dial.port)))
                .unwrap()
                .unwrap();
            let algorithm = nix::sys::socket::getsockopt(&stream, nix::sys::socket::sockopt::TcpCongestion).unwrap();
            assert!(algorithm.to_string_lossy().starts_with("cubic"), "{algorithm:?}");
        }
    });
}

#[test]
fn a_runtime_of_a_namespace_makes_sockets_there() {
    with_cluster("runtime", SMALL, async |cluster| {
        let runtime = tokio_runtime_in_netns(cluster.client_netns(), 1).unwrap();
        let dial = cluster.service_dial("cache").unwrap();
        let task = runtime.spawn(async move { tokio::net::TcpStream::connect((dial.ip, dial.port)).await.map(drop) });
        task.await.unwrap().unwrap();
        runtime.shutdown_background();
    });
}

#[test]
fn two_clusters_stand_side_by_side_and_the_host_has_none_of_them() {
    let links = || fs::read_to_string("/proc/self/net/dev").unwrap().lines().count();
    let before = links();
    with_cluster("first", SMALL, async |first| {
        let second = LocalCluster::up(&app(SMALL), "test", &options("second"), &|_| ())
            .await
            .unwrap();
        let dial = first.service_dial("cache-0").unwrap();
        assert_eq!(
            Some(dial),
            second.service_dial("cache-0"),
            "the same addresses, in other namespaces"
        );
        let ids = [first, &second].map(|cluster| run_id(&cluster.client_netns(), dial));
        assert_ne!(ids[0], ids[1]);
        assert_eq!(links(), before);
        second.down().await.unwrap();
        assert_eq!(run_id(&first.client_netns(), dial), ids[0]);
    });
}

#[test]
fn a_pod_that_does_not_serve_is_named_and_nothing_is_left() {
    let Some(runtime) = runtime_or_skip() else { return };
    // No server fits into a mebibyte: the kernel kills it at each start.
    let spec = r#"{"nodes": 1, "entry": "cache", "load": {"rate": 1.0, "paths": []}, "services": {
        "cache": {"kind": "redis", "memoryMib": 1}}}"#;
    let options = UpOptions {
        ready_within: Duration::from_secs(1),
        ..options("broken")
    };
    let name = format!("gauntlet-{}", options.id.clone().unwrap());
    let error = runtime
        .block_on(LocalCluster::up(&app(spec), "test", &options, &|_| ()))
        .unwrap_err();
    if error.is_unavailable() {
        return eprintln!("skipped: {error}");
    }
    assert!(
        matches!(error, UpError::Ready(_)) && error.to_string().contains("cache-0"),
        "{error}"
    );
    assert!(rests(&name).is_empty(), "{:?}", rests(&name));
}
