//! A node with two pods, `client` and `server`, as anonymous network namespaces that die with the test.
//!
//! Each test binary uses a part of it.
//!
//! client 10.1.0.1 — node (10.1.0.254) — server 10.1.0.2; the virtual address 10.9.0.1 is translated to the server.

#![expect(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use gauntlet_probes::entity::{InventoryLine, NodeInfo, NodeName, Peer, PodInfo, PodName, ServiceInfo};
use gauntlet_probes::frame::{EdgeSample, Frame, L7Sample, Protocol, SideSample};
use gauntlet_probes::{Options, Probes};
use nix::sched::CloneFlags;

pub const CLIENT: &str = "10.1.0.1";
pub const SERVER: &str = "10.1.0.2";
pub const SERVICE: &str = "10.9.0.1";

/// The kernel programs see the whole machine; one test at a time keeps their counts apart.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

pub struct Namespace {
    holder: Child,
}

impl Namespace {
    fn new() -> Self {
        // The holder dies with the thread that started it, even if that is killed.
        let holder = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "unshare", "--net", "sleep", "600"])
            .stdin(Stdio::null())
            .spawn()
            .expect("setpriv and unshare are installed");
        let this = Self { holder };
        let own = fs::metadata("/proc/self/ns/net").unwrap().ino();
        let deadline = Instant::now() + Duration::from_secs(5);
        while this.netns() == own || !this.command_is("sleep") {
            assert!(Instant::now() < deadline, "the namespace did not come up");
            std::thread::sleep(Duration::from_millis(2));
        }
        this
    }

    /// A namespace of no cluster, with one address that leads nowhere.
    pub fn alone(ip: &str) -> Self {
        let this = Self::new();
        this.shell(&format!(
            "ip link set lo up; ip link add eth0 type veth peer name peer; ip addr add {ip}/24 dev eth0; \
             ip link set eth0 up; ip link set peer up"
        ));
        this
    }

    fn command_is(&self, name: &str) -> bool {
        fs::read_to_string(format!("/proc/{}/comm", self.holder.id())).is_ok_and(|comm| comm.trim() == name)
    }

    pub fn netns(&self) -> u64 {
        fs::metadata(format!("/proc/{}/ns/net", self.holder.id()))
            .unwrap()
            .ino()
    }

    /// Runs a shell script within.
    pub fn shell(&self, script: &str) {
        let status = self.command("sh").args(["-ec", script]).status().unwrap();
        assert!(status.success(), "failed: {script}");
    }

    /// A command that will run within.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args([
            "-t",
            &self.holder.id().to_string(),
            "-n",
            "setpriv",
            "--pdeathsig",
            "KILL",
            program,
        ]);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    /// Runs `work` on a thread of its own within.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> std::thread::JoinHandle<T> {
        let namespace = File::open(format!("/proc/{}/ns/net", self.holder.id())).unwrap();
        std::thread::spawn(move || {
            nix::sched::setns(&namespace, CloneFlags::CLONE_NEWNET).unwrap();
            work()
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

pub struct Cluster {
    pub client: Namespace,
    pub server: Namespace,
    pub node: Namespace,
    pub probes: Probes,
    cgroup: PathBuf,
    _alone: MutexGuard<'static, ()>,
}

/// A cluster with probes, or `None`, with the reason printed, where the test cannot run.
pub fn cluster() -> Option<Cluster> {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: needs root");
        return None;
    }
    let alone = ONE_AT_A_TIME.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let (node, client, server) = (Namespace::new(), Namespace::new(), Namespace::new());
    let node_id = node.holder.id();
    for (pod, name, ip) in [(&client, "c", CLIENT), (&server, "s", SERVER)] {
        pod.shell(&format!(
            "ip link add eth0 type veth peer name {name} netns {node_id}; ip addr add {ip}/32 dev eth0; \
             ip link set lo up; ip link set eth0 up; ip route add 10.1.0.254 dev eth0; \
             ip route add default via 10.1.0.254"
        ));
        node.shell(&format!(
            "ip link set {name} up; ip addr add 10.1.0.254/32 dev {name}; ip route add {ip}/32 dev {name}"
        ));
    }
    node.shell(&format!(
        "sysctl -qw net.ipv4.ip_forward=1; ip link set lo up; nft add table ip t; \
         nft 'add chain ip t pre {{ type nat hook prerouting priority dstnat; }}'; \
         nft add rule ip t pre ip daddr {SERVICE} dnat to {SERVER}"
    ));
    let probes = match Probes::attach(&Options::default()) {
        Ok(probes) => probes,
        Err(error) => {
            println!("skipped: {error}");
            return None;
        }
    };
    let cgroup = make_cgroup();
    let mut cluster = Cluster {
        client,
        server,
        node,
        probes,
        cgroup,
        _alone: alone,
    };
    cluster.tell_inventory();
    Some(cluster)
}

fn make_cgroup() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let root = mounts
        .lines()
        .find(|line| line.contains(" cgroup2 "))
        .unwrap()
        .split(' ')
        .nth(1)
        .unwrap();
    let path = Path::new(root).join(format!(
        "gauntlet-test-{}-{}",
        std::process::id(),
        gauntlet_probes::monotonic_ns()
    ));
    fs::create_dir(&path).unwrap();
    path
}

impl Cluster {
    /// Takes all pods and nodes out of the inventory, so that nobody's sockets are wanted.
    pub fn forget(&mut self) {
        for name in ["client", "server"] {
            self.probes.apply(&InventoryLine::PodGone {
                name: PodName::new(name),
            });
        }
    }

    pub fn tell_inventory(&mut self) {
        self.probes.apply(&InventoryLine::Node(NodeInfo {
            name: NodeName::new("node-1"),
            ips: vec!["10.1.0.254".parse().unwrap()],
            netns: Some(self.node.netns()),
            cgroup: None,
        }));
        let cgroup = format!("/{}", self.cgroup.file_name().unwrap().to_str().unwrap());
        for (name, ip, netns, cgroup) in [
            ("client", CLIENT, self.client.netns(), None),
            ("server", SERVER, self.server.netns(), Some(cgroup)),
        ] {
            self.probes.apply(&InventoryLine::Pod(PodInfo {
                name: PodName::new(name),
                service: None,
                node: NodeName::new("node-1"),
                ip: ip.parse().unwrap(),
                netns: Some(netns),
                cgroup,
            }));
        }
        self.probes.apply(&InventoryLine::Service(ServiceInfo {
            name: "virtual".to_owned(),
            cluster_ip: SERVICE.parse().unwrap(),
            ports: vec![6379],
            // Two, so that the address alone does not tell the pod.
            endpoints: vec![PodName::new("server"), PodName::new("another")],
        }));
        self.probes.tick().unwrap();
    }

    /// Moves a process into the server pod's cgroup.
    pub fn adopt(&self, tgid: u32) {
        fs::write(self.cgroup.join("cgroup.procs"), tgid.to_string()).unwrap();
    }

    /// Directory of the server pod's cgroup.
    pub fn cgroup(&self) -> &Path {
        &self.cgroup
    }

    /// Frames of the next `ticks` ticks, 50 ms each.
    pub fn watch(&mut self, ticks: u32) -> Vec<Frame> {
        (0..ticks)
            .map(|_| {
                std::thread::sleep(Duration::from_millis(50));
                self.probes.tick().unwrap()
            })
            .collect()
    }

    /// Starts redis-server in the server's pod, empty and without persistence.
    pub fn redis(&self) -> Server {
        let mut command = self.server.command("redis-server");
        command.args([
            "--port",
            "6379",
            "--bind",
            SERVER,
            "--protected-mode",
            "no",
            "--save",
            "",
            "--dir",
            "/tmp",
        ]);
        let server = Server(command.spawn().unwrap());
        self.await_port(6379);
        server
    }

    /// Waits until the server's pod listens on `port`, without connecting to it.
    pub fn await_port(&self, port: u16) {
        self.await_listener(port, "tcp", 8);
    }

    /// The same over IPv6.
    pub fn await_port6(&self, port: u16) {
        self.await_listener(port, "tcp6", 32);
    }

    fn await_listener(&self, port: u16, table: &str, address_digits: usize) {
        let pattern = format!(":{port:04X} {}:0000 0A", "0".repeat(address_digits));
        let deadline = Instant::now() + Duration::from_secs(10);
        let table = format!("/proc/{}/net/{table}", self.server.holder.id());
        while !fs::read_to_string(&table).unwrap().contains(&pattern) {
            assert!(Instant::now() < deadline, "nobody listens on port {port}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for _ in 0..50 {
            if fs::remove_dir(&self.cgroup).is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A process that ends with its handle.
pub struct Server(pub Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn pod(name: &str) -> Peer {
    Peer::Pod(PodName::new(name))
}

/// Edges of client → server on `port` in all frames.
pub fn edges(frames: &[Frame], port: u16) -> Vec<&EdgeSample> {
    frames
        .iter()
        .flat_map(|frame| &frame.edges)
        .filter(|edge| edge.caller == pod("client") && edge.port == port)
        .collect()
}

pub fn clients(frames: &[Frame], port: u16) -> Vec<&SideSample> {
    edges(frames, port)
        .into_iter()
        .filter_map(|edge| edge.client.as_ref())
        .collect()
}

pub fn servers(frames: &[Frame], port: u16) -> Vec<&SideSample> {
    edges(frames, port)
        .into_iter()
        .filter_map(|edge| edge.server.as_ref())
        .collect()
}

/// Sums one number over samples.
pub fn total(sides: &[&SideSample], number: impl Fn(&SideSample) -> u32) -> u32 {
    sides.iter().map(|side| number(side)).sum()
}

/// Sums one number of one protocol over samples.
pub fn total_l7(sides: &[&SideSample], protocol: Protocol, number: impl Fn(&L7Sample) -> u32) -> u32 {
    sides
        .iter()
        .flat_map(|side| &side.l7)
        .filter(|sample| sample.protocol == protocol)
        .map(number)
        .sum()
}
