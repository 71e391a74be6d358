//! What comes up seldom: IPv6, a virtual address whose other end nobody sees, a shortage of memory, and what the programs
//! themselves cost.
//!
//! Needs root and a kernel that takes the probes; says so and passes where it cannot run.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use gauntlet_probes::entity::{InventoryLine, NodeName, PodInfo, PodName};
use gauntlet_probes::frame::{ProcessEventKind, Protocol};
use support::{Cluster, SERVER, SERVICE, Server, clients, cluster, edges, pod, servers, total_l7};

/// The node's own address.
const NODE: &str = "10.1.0.254";
const CLIENT6: &str = "fd00::1";
const SERVER6: &str = "fd00::2";
const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";

/// Answers each PING of one connection until it ends.
fn answer_pings(address: &'static str) {
    let listener = TcpListener::bind(address).unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    let mut request = [0; PING.len()];
    while stream.read_exact(&mut request).is_ok() {
        stream.write_all(b"+PONG\r\n").unwrap();
    }
}

fn send_pings(address: &str, count: u32) {
    let mut stream = TcpStream::connect(address).unwrap();
    for _ in 0..count {
        stream.write_all(PING).unwrap();
        stream.read_exact(&mut [0; 7]).unwrap();
    }
}

/// Tells a pod anew, with this address and namespace.
fn tell(cluster: &mut Cluster, name: &str, ip: &str, netns: u64) {
    cluster.probes.apply(&InventoryLine::Pod(PodInfo {
        name: PodName::new(name),
        service: None,
        node: NodeName::new("node-1"),
        ip: ip.parse().unwrap(),
        netns: Some(netns),
        cgroup: None,
    }));
}

/// Gives both pods and the node IPv6 addresses, and tells the probes; false where the kernel has none.
fn use_ipv6(cluster: &mut Cluster) -> bool {
    if !Path::new("/proc/net/if_inet6").exists() {
        println!("skipped: this kernel has no IPv6");
        return false;
    }
    for (namespace, ip) in [(&cluster.client, CLIENT6), (&cluster.server, SERVER6)] {
        namespace.shell(&format!(
            "ip addr add {ip}/128 dev eth0 nodad; ip -6 route add fd00::fe dev eth0; \
             ip -6 route add default via fd00::fe"
        ));
    }
    cluster.node.shell(&format!(
        "sysctl -qw net.ipv6.conf.all.forwarding=1; ip addr add fd00::fe/128 dev c nodad; \
         ip addr add fd00::fe/128 dev s nodad; ip -6 route add {CLIENT6} dev c; ip -6 route add {SERVER6} dev s"
    ));
    let (client, server) = (cluster.client.netns(), cluster.server.netns());
    tell(cluster, "client", CLIENT6, client);
    tell(cluster, "server", SERVER6, server);
    true
}

#[test]
fn requests_over_ipv6_are_counted_on_both_sides() {
    let Some(mut cluster) = cluster() else { return };
    if !use_ipv6(&mut cluster) {
        return;
    }
    let server = cluster.server.run(|| answer_pings("[fd00::2]:6379"));
    cluster.await_port6(6379);
    cluster.client.run(|| send_pings("[fd00::2]:6379", 30)).join().unwrap();
    server.join().unwrap();
    let frames = cluster.watch(3);
    for sides in [clients(&frames, 6379), servers(&frames, 6379)] {
        let sum = |number: fn(&gauntlet_probes::frame::L7Sample) -> u32| total_l7(&sides, Protocol::Redis, number);
        assert_eq!((sum(|l7| l7.requests), sum(|l7| l7.responses)), (30, 30));
        let sent: u64 = sides.iter().map(|side| side.bytes_sent).sum();
        let received: u64 = sides.iter().map(|side| side.bytes_received).sum();
        let (requests, answers) = (30 * PING.len() as u64, 30 * 7);
        assert_eq!(sent + received, requests + answers);
    }
    assert!(edges(&frames, 6379).iter().all(|edge| edge.callee == pod("server")));
}

#[test]
fn a_port_without_listener_refuses_over_ipv6() {
    let Some(mut cluster) = cluster() else { return };
    if !use_ipv6(&mut cluster) {
        return;
    }
    let address: SocketAddr = "[fd00::2]:6379".parse().unwrap();
    // A new address is not answered for until its duplicates were looked for.
    let refused = cluster.client.run(move || {
        (0..50).any(|_| {
            let tried = TcpStream::connect_timeout(&address, Duration::from_millis(200));
            std::thread::sleep(Duration::from_millis(50));
            tried.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
        })
    });
    assert!(refused.join().unwrap(), "refused at last");
    let frames = cluster.watch(3);
    let resets: Vec<_> = frames.iter().flat_map(|frame| &frame.resets).collect();
    let sent = resets.iter().find(|reset| reset.sent).unwrap();
    assert_eq!(
        (sent.at.clone(), sent.peer.clone()),
        (pod("server"), Some(pod("client")))
    );
    assert_eq!((sent.port, sent.reason.as_deref()), (6379, Some("NO_SOCKET")));
}

#[test]
fn a_virtual_address_whose_other_end_is_unseen_is_resolved_by_the_nodes_connection_tracking() {
    let Some(mut cluster) = cluster() else { return };
    if !Path::new("/proc/net/nf_conntrack").exists() {
        println!("skipped: this kernel does not show its connection tracking");
        return;
    }
    // As if it lived on another machine: no namespace of this one has that number, so its sockets are not wanted here.
    tell(&mut cluster, "server", SERVER, 1);
    let server = cluster.server.run(|| answer_pings("10.1.0.2:6379"));
    cluster.await_port(6379);
    cluster
        .client
        .run(|| send_pings(&format!("{SERVICE}:6379"), 10))
        .join()
        .unwrap();
    server.join().unwrap();
    let frames = cluster.watch(3);
    assert!(servers(&frames, 6379).is_empty());
    let edges = edges(&frames, 6379);
    assert!(!edges.is_empty());
    for edge in edges {
        assert_eq!(
            (edge.callee.clone(), edge.via.as_deref()),
            (pod("server"), Some("virtual"))
        );
    }
    assert_eq!(
        total_l7(&clients(&frames, 6379), Protocol::Redis, |l7| l7.responses),
        10
    );
}

/// A memory limit for one process, by whichever hierarchy has the controller.
struct Limit {
    directory: PathBuf,
    is_own: bool,
}

impl Limit {
    /// 16 MiB below `cgroup`, or beside it on v1; `None` where there is no controller.
    fn new(cgroup: &Path) -> Option<Self> {
        const LIMIT: &str = "16777216";
        if fs::write(cgroup.join("memory.max"), LIMIT).is_ok() {
            return Some(Self {
                directory: cgroup.to_owned(),
                is_own: false,
            });
        }
        let directory = Path::new("/sys/fs/cgroup/memory").join(cgroup.file_name()?);
        fs::create_dir(&directory).ok()?;
        fs::write(directory.join("memory.limit_in_bytes"), LIMIT).ok()?;
        Some(Self {
            directory,
            is_own: true,
        })
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        for _ in 0..50 {
            if !self.is_own || fs::remove_dir(&self.directory).is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn a_process_that_is_ended_for_want_of_memory_is_told_as_such() {
    let Some(mut cluster) = cluster() else { return };
    let Some(limit) = Limit::new(cluster.cgroup()) else {
        println!("skipped: no memory controller");
        return;
    };
    // A line without end, which `tail` keeps whole.
    let script = format!(
        "echo $$ > {}/cgroup.procs; echo $$ > {}/cgroup.procs; exec tail /dev/zero",
        cluster.cgroup().display(),
        limit.directory.display()
    );
    let status = cluster.server.command("sh").args(["-c", &script]).status().unwrap();
    assert!(!status.success());
    let frames = cluster.watch(2);
    let told: Vec<_> = frames
        .iter()
        .flat_map(|frame| &frame.events)
        .filter(|event| event.comm == "tail" && !matches!(event.kind, ProcessEventKind::Exec))
        .map(|event| (event.pod.clone(), event.kind))
        .collect();
    assert_eq!(told, [(PodName::new("server"), ProcessEventKind::OomKilled)]);
}

#[test]
fn run_times_are_sampled_and_scaled() {
    let Some(mut cluster) = cluster() else { return };
    let server = cluster.server.run(|| answer_pings("10.1.0.2:6379"));
    cluster.await_port(6379);
    let work = cluster.client.run(|| {
        let mut stream = TcpStream::connect((SERVER, 6379)).unwrap();
        // 250 a second, in even steps, so that any sample is like the whole.
        for _ in 0..600 {
            stream.write_all(PING).unwrap();
            stream.read_exact(&mut [0; 7]).unwrap();
            std::thread::sleep(Duration::from_millis(4));
        }
    });
    while !work.is_finished() {
        cluster.watch(4);
    }
    work.join().unwrap();
    server.join().unwrap();
    let costs = cluster.probes.program_costs();
    let packets = costs.iter().find(|cost| cost.name == "packet_in").unwrap();
    // Each request is one packet in at either end, and so is its answer; a busy machine is slower, not more precise.
    assert!((600..3_000).contains(&packets.run_count), "{}", packets.run_count);
    let each_ns = packets.run_ns / packets.run_count;
    assert!((10..100_000).contains(&each_ns), "{each_ns}");
}

#[test]
fn pods_in_their_nodes_namespace_are_told_apart_by_process() {
    let Some(mut cluster) = cluster() else { return };
    // A pod with one container, in the namespace of its node.
    let container = cluster.cgroup().join("agent/container");
    std::fs::create_dir_all(&container).unwrap();
    let pod_cgroup = format!("/{}/agent", cluster.cgroup().file_name().unwrap().to_str().unwrap());
    cluster.probes.apply(&InventoryLine::Pod(PodInfo {
        name: PodName::new("agent"),
        service: None,
        node: NodeName::new("node-1"),
        ip: NODE.parse().unwrap(),
        netns: Some(cluster.node.netns()),
        cgroup: Some(pod_cgroup),
    }));
    // Its container is looked for every few ticks.
    cluster.watch(6);
    let procs = container.join("cgroup.procs");
    let script = format!(
        "echo $$ > {}; exec redis-server --port 6379 --bind {NODE} --save ''",
        procs.display()
    );
    let server = Server(cluster.node.command("sh").args(["-c", &script]).spawn().unwrap());
    let ask = || {
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut stream = loop {
            match TcpStream::connect((NODE, 6379)) {
                Ok(stream) => break stream,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
        };
        stream.write_all(b"PING\r\n").unwrap();
        let mut answer = [0; 7];
        stream.read_exact(&mut answer).unwrap();
        stream
    };
    let held = cluster.client.run(ask).join().unwrap();
    let frames = cluster.watch(3);
    let callees: BTreeSet<_> = edges(&frames, 6379)
        .iter()
        .map(|edge| edge.callee.to_string())
        .collect();
    assert_eq!(callees, BTreeSet::from(["agent".to_owned()]));
    drop((held, server));
    for directory in [container.as_path(), container.parent().unwrap()] {
        let deadline = Instant::now() + Duration::from_secs(2);
        while std::fs::remove_dir(directory).is_err() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
