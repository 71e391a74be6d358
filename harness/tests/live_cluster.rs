//! The local cluster on a real kernel: traffic, names, balancing, restarts, and that nothing is left of it.
//!
//! Needs root; skips with the reason otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use gauntlet_harness::app::spec::AppSpec;
use gauntlet_harness::target::local::{LocalCluster, PodChange, UpError, UpOptions, sweep_stale};
use gauntlet_harness::target::namespace::{command_in_pod, run_in_netns, tokio_runtime_in_netns};
use gauntlet_harness::target::{Dial, NetnsFd, PodHandle};
use gauntlet_probes::entity::{InventoryLine, PodName};
use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};

const STORES: &str = r#"{"nodes": 3, "entry": "cache", "load": {"rate": 1.0, "paths": []}, "services": {
    "cache": {"kind": "redis", "replicas": 3, "cpuMillicores": 300, "memoryMib": 64}, "db": {"kind": "postgres"}}}"#;
const SMALL: &str = r#"{"nodes": 2, "entry": "cache", "load": {"rate": 1.0, "paths": []}, "services": {
    "cache": {"kind": "redis", "replicas": 2}}}"#;
/// When set, the test binary holds a cluster of this name until it is killed.
const HOLD: &str = "GAUNTLET_TEST_HOLD";

fn app(text: &str) -> AppSpec {
    serde_json::from_str(text).unwrap()
}

fn options(id: &str) -> UpOptions {
    let app_binary = PathBuf::from(env!("CARGO_BIN_EXE_gauntlet-app"));
    UpOptions {
        id: Some(format!("{id}-{}", std::process::id())),
        app_binary,
        ..UpOptions::default()
    }
}

/// Runs `test` on a cluster that it gets, and says how long up and down took.
fn with_cluster(id: &str, spec: &str, test: impl AsyncFnOnce(&LocalCluster)) {
    let Some(runtime) = runtime_or_skip() else { return };
    runtime.block_on(async {
        let begun = Instant::now();
        let cluster = match LocalCluster::up(&app(spec), "test", &options(id), &|_| ()).await {
            Err(error) if error.is_unavailable() => return eprintln!("skipped: {error}"),
            cluster => cluster.expect("the cluster comes up"),
        };
        let up = begun.elapsed();
        test(&cluster).await;
        let (name, inodes) = (cluster.cluster_id().to_owned(), inodes(&cluster.inventory()));
        let begun = Instant::now();
        cluster.down().await.expect("the cluster goes down");
        eprintln!(
            "{name}: up {} ms, down {} ms",
            up.as_millis(),
            begun.elapsed().as_millis()
        );
        assert!(rests(&name).is_empty(), "left: {:?}", rests(&name));
        assert_eq!(holders(&inodes), Vec::<String>::new(), "nobody holds its namespaces");
    });
}

fn runtime_or_skip() -> Option<tokio::runtime::Runtime> {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: not root (namespaces, cgroups and nftables need it)");
        return None;
    }
    Some(tokio::runtime::Runtime::new().unwrap())
}

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
        .args(["--exact", "hold_when_told", "--nocapture", "-q"])
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

/// All that can be seen of a cluster from outside.
fn rests(cluster: &str) -> Vec<String> {
    let mut rests = processes(cluster)
        .into_iter()
        .map(|(tgid, command)| format!("process {tgid} {command}"))
        .collect::<Vec<_>>();
    let hierarchies = fs::read_dir("/sys/fs/cgroup")
        .unwrap()
        .flatten()
        .map(|entry| entry.path());
    let places = hierarchies.chain([PathBuf::from("/sys/fs/cgroup"), std::env::temp_dir()]);
    let paths = places.flat_map(|place| [place.join(cluster), place.join(format!("{cluster}.owner.json"))]);
    rests.extend(
        paths
            .filter(|path| path.exists())
            .map(|path| path.display().to_string()),
    );
    rests
}

/// Processes that bear the cluster's name, in their command or their cgroup.
fn processes(cluster: &str) -> Vec<(i32, String)> {
    let all = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let named = all.filter_map(|tgid| {
        let read = |file: &str| fs::read(format!("/proc/{tgid}/{file}")).unwrap_or_default();
        let command = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
        let found = command.contains(cluster) || String::from_utf8_lossy(&read("cgroup")).contains(cluster);
        found.then_some((tgid, command))
    });
    named.collect()
}

fn inodes(inventory: &[InventoryLine]) -> BTreeSet<u64> {
    let netns = inventory.iter().filter_map(|line| match line {
        InventoryLine::Node(node) => node.netns,
        InventoryLine::Pod(pod) => pod.netns,
        InventoryLine::Service(_)
        | InventoryLine::PodGone { .. }
        | InventoryLine::ServiceGone { .. }
        | InventoryLine::Ready { .. } => None,
    });
    netns.collect()
}

/// Processes in these network namespaces, or with a descriptor of one.
fn holders(inodes: &BTreeSet<u64>) -> Vec<String> {
    let wanted = inodes
        .iter()
        .map(|inode| PathBuf::from(format!("net:[{inode}]")))
        .collect::<BTreeSet<_>>();
    let mut holders = Vec::new();
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let own = fs::read_link(process.path().join("ns/net")).into_iter();
        let open = fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten();
        let open = open.filter_map(|fd| fs::read_link(fd.path()).ok());
        holders.extend(
            own.chain(open)
                .filter(|to| wanted.contains(to))
                .map(|to| format!("{process:?} {to:?}")),
        );
    }
    holders
}

fn pod<'a>(cluster: &'a LocalCluster, name: &str) -> &'a PodHandle {
    cluster.pods().iter().find(|pod| pod.name.as_str() == name).unwrap()
}

fn connect(netns: &NetnsFd, dial: Dial) -> Result<(), std::io::ErrorKind> {
    let address = SocketAddr::new(dial.ip, dial.port);
    let connected = run_in_netns(netns, || TcpStream::connect_timeout(&address, Duration::from_secs(2))).unwrap();
    connected.map(drop).map_err(|error| error.kind())
}

fn redis(netns: &NetnsFd, dial: Dial, command: &str) -> Result<String, std::io::ErrorKind> {
    let mut stream = run_in_netns(netns, || TcpStream::connect((dial.ip, dial.port)))
        .unwrap()
        .map_err(|e| e.kind())?;
    ask_redis(&mut stream, command)
}

fn ask_redis(stream: &mut TcpStream, command: &str) -> Result<String, std::io::ErrorKind> {
    let mut buffer = [0; 16384];
    stream
        .write_all(format!("{command}\r\n").as_bytes())
        .map_err(|error| error.kind())?;
    let length = stream.read(&mut buffer).map_err(|error| error.kind())?;
    Ok(String::from_utf8_lossy(&buffer[..length]).trim_end().to_owned())
}

fn get(netns: &NetnsFd, dial: Dial, path: &str) -> String {
    let mut stream = run_in_netns(netns, || TcpStream::connect((dial.ip, dial.port)))
        .unwrap()
        .unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n").unwrap();
    let mut response = Vec::new();
    stream.read_to_end(&mut response).unwrap();
    String::from_utf8_lossy(&response).into_owned()
}

/// What tells one redis server from another.
fn run_id(netns: &NetnsFd, dial: Dial) -> String {
    let info = redis(netns, dial, "INFO server").unwrap();
    info.lines()
        .find_map(|line| line.strip_prefix("run_id:"))
        .unwrap()
        .to_owned()
}

fn resolve(netns: &NetnsFd, server: Dial, name: &str) -> (ResponseCode, Vec<IpAddr>) {
    let socket = run_in_netns(netns, || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))
        .unwrap()
        .unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let mut question = Message::new();
    question
        .set_id(9)
        .add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
    socket
        .send_to(&question.to_vec().unwrap(), (server.ip, server.port))
        .unwrap();
    let mut buffer = [0; 512];
    let (length, from) = socket.recv_from(&mut buffer).unwrap();
    assert_eq!(from.ip(), server.ip, "answers come from the address that was asked");
    let answer = Message::from_vec(&buffer[..length]).unwrap();
    (
        answer.response_code(),
        answer
            .answers()
            .iter()
            .filter_map(|record| record.data().ip_addr())
            .collect(),
    )
}

fn eventually(patience: Duration, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < patience, "not within {patience:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
