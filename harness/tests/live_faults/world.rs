//! A small world for faults: a node and two pods behind it, a real Redis server in one of them.
//!
//! Namespaces are held by processes and go with them; nothing has a name outside.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use gauntlet_harness::fault::control::{ClusterControl, ControlFuture};
use gauntlet_harness::fault::injector::{AgentCommand, Injector};
use gauntlet_harness::fault::journal::Journal;
use gauntlet_harness::fault::kind::{FaultKind, PlannedFault};
use gauntlet_harness::fault::surroundings::Surroundings;
use gauntlet_harness::residue::{self, Finding, ResidueState};
use gauntlet_harness::target::namespace::run_in_netns;
use gauntlet_harness::target::{CgroupPaths, Dial, NetnsFd, NodeHandle, PodHandle};
use gauntlet_probes::entity::{PodName, ServiceName};

/// Says why live tests are skipped, if they are.
pub(crate) fn skipped() -> bool {
    let reason = if !nix::unistd::geteuid().is_root() {
        "not root"
    } else if ["redis-server", "nft", "tc", "ip"].iter().any(|tool| !found(tool)) {
        "redis-server, nft, tc or ip is missing"
    } else {
        return false;
    };
    eprintln!("skipped: {reason}");
    true
}

fn found(tool: &str) -> bool {
    Command::new(tool)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok()
}

pub(crate) struct World {
    pub(crate) around: Surroundings,
    pub(crate) scratch: PathBuf,
    pub(crate) control: Arc<FakeControl>,
    children: Vec<Child>,
    keepers: BTreeMap<String, Keeper>,
    before: ResidueState,
}

struct Keeper {
    netns: NetnsFd,
    inode: u64,
    pub(crate) tgid: u32,
}

const CACHE: &str = "cache-0";
const PORT: u16 = 6379;

impl World {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("gtest-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let scratch = std::env::temp_dir().join(&name);
        fs::create_dir_all(&scratch).expect("scratch");
        let mut world = Self {
            around: Surroundings::default(),
            scratch,
            control: Arc::default(),
            children: Vec::new(),
            keepers: BTreeMap::new(),
            before: ResidueState::default(),
        };
        for place in ["node", "cache-0", "web-0"] {
            world.keep(place);
        }
        world.in_place("node", "sysctl -qw net.ipv4.ip_forward=1; ip link set lo up");
        world.pod(&name, "cache-0", "cache", 1);
        world.pod(&name, "web-0", "web", 2);
        let (node, cgroup) = (&world.keepers["node"], cgroups(&format!("{name}-node")));
        let node = NodeHandle {
            name: "node-1".into(),
            ip: Ipv4Addr::new(10, 77, 1, 1),
            netns: node.netns.clone(),
            netns_inode: node.inode,
            cgroup,
        };
        world.around.nodes.push(node);
        world.serve();
        world.before = world.snapshot();
        world
    }

    fn keep(&mut self, place: &str) {
        let host = fs::metadata("/proc/self/ns/net").expect("own namespace").ino();
        let child = Command::new("unshare")
            .args(["-n", "sleep", "1000"])
            .spawn()
            .expect("unshare");
        let path = format!("/proc/{}/ns/net", child.id());
        let deadline = Instant::now() + Duration::from_secs(5);
        let inode = loop {
            match fs::metadata(&path).map(|metadata| metadata.ino()) {
                Ok(inode) if inode != host => break inode,
                _ => assert!(Instant::now() < deadline, "no namespace"),
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let netns = Arc::new(OwnedFd::from(File::open(&path).expect("namespace")));
        self.keepers.insert(
            place.to_owned(),
            Keeper {
                netns,
                inode,
                tgid: child.id(),
            },
        );
        self.children.push(child);
    }

    fn pod(&mut self, world: &str, pod: &str, service: &str, index: u8) {
        let tgid = self.keepers[pod].tgid;
        self.in_place("node", &format!(
            "ip link add v{index} type veth peer name eth0 netns {tgid} && ip addr add 10.77.{index}.1/24 dev v{index} && ip link set v{index} up"
        ));
        self.in_place(pod, &format!(
            "ip link set lo up && ip addr add 10.77.{index}.2/24 dev eth0 && ip link set eth0 up && ip route add default via 10.77.{index}.1"
        ));
        let keeper = &self.keepers[pod];
        self.around.pods.push(PodHandle {
            name: pod.into(),
            service: service.into(),
            node: "node-1".into(),
            ip: Ipv4Addr::new(10, 77, index, 2),
            port: PORT,
            netns: keeper.netns.clone(),
            netns_inode: keeper.inode,
            cgroup: cgroups(&format!("{world}-{pod}")),
        });
    }

    /// Runs a line of shell in a place and returns what it printed.
    pub(crate) fn in_place(&self, place: &str, script: &str) -> String {
        let output = run_in_netns(&self.keepers[place].netns, || {
            Command::new("sh").args(["-c", script]).output()
        });
        let output = output.expect("namespace").expect("sh");
        assert!(
            output.status.success(),
            "{place}: {script}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// (Re)starts the Redis server.
    pub(crate) fn serve(&mut self) {
        let pod = self.cache().clone();
        let ip = pod.ip.to_string();
        let arguments = [
            "--port",
            "6379",
            "--bind",
            &ip,
            "--protected-mode",
            "no",
            "--save",
            "",
            "--dir",
            "/tmp",
        ];
        let child = run_in_netns(&pod.netns, || {
            Command::new("redis-server")
                .args(arguments)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
        });
        let child = child.expect("namespace").expect("redis-server");
        for directory in [&pod.cgroup.unified, &pod.cgroup.cpu] {
            fs::write(directory.join("cgroup.procs"), child.id().to_string()).expect("joins its cgroup");
        }
        self.children.push(child);
        let deadline = Instant::now() + Duration::from_secs(5);
        while !self.ping() {
            assert!(Instant::now() < deadline, "the server does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn ping(&self) -> bool {
        self.in_place("web-0", "timeout 1 redis-cli -h 10.77.1.2 ping 2>/dev/null || true") == "PONG"
    }

    pub(crate) fn cache(&self) -> &PodHandle {
        &self.around.pods[0]
    }

    pub(crate) fn journal(&self) -> Journal {
        Journal::at(self.scratch.join("journal.jsonl"))
    }

    pub(crate) fn injector(&self) -> Injector {
        Injector::new(self.journal(), agent(), self.around.clone(), self.control.clone())
    }

    pub(crate) fn fault(&self, id: &str, kind: FaultKind) -> PlannedFault {
        fault(id, kind)
    }

    pub(crate) fn snapshot(&self) -> ResidueState {
        residue::snapshot(&self.around.pods, &self.around.nodes)
    }

    pub(crate) fn residue(&self) -> Vec<Finding> {
        residue::diff(&self.before, &self.snapshot())
    }
}

/// A fault of the pod with the server.
pub(crate) fn fault(id: &str, kind: FaultKind) -> PlannedFault {
    PlannedFault {
        id: id.to_owned(),
        kind,
        pods: vec![PodName::new(CACHE)],
        service: Some(ServiceName::new("cache")),
        node: None,
        expires_after: Duration::from_secs(60),
    }
}

/// Handles of a world of another process: what a child that injects works with.
pub(crate) fn reopen(around: &Surroundings) -> String {
    let pods = around.pods.iter().map(|pod| {
        (
            pod.netns_inode,
            format!("/proc/{}/fd/{}", std::process::id(), fd(&pod.netns)),
        )
    });
    let nodes = around.nodes.iter().map(|node| {
        (
            node.netns_inode,
            format!("/proc/{}/fd/{}", std::process::id(), fd(&node.netns)),
        )
    });
    let paths: Vec<String> = pods
        .chain(nodes)
        .map(|(inode, path)| format!("{inode} {path}"))
        .collect();
    paths.join("\n")
}

fn fd(netns: &NetnsFd) -> i32 {
    use std::os::fd::AsRawFd;
    netns.as_raw_fd()
}

/// The pods and the node of [`reopen`], in the same order, with the parent's cgroups.
pub(crate) fn opened(text: &str, cgroup_of_cache: &Path) -> Surroundings {
    let handles: Vec<(u64, NetnsFd)> = text
        .lines()
        .map(|line| {
            let (inode, path) = line.split_once(' ').expect("inode and path");
            (
                inode.parse().expect("inode"),
                Arc::new(OwnedFd::from(File::open(path).expect("namespace"))),
            )
        })
        .collect();
    let cgroup = |directory: &Path| CgroupPaths {
        relative: String::new(),
        unified: directory.to_owned(),
        cpu: directory.to_owned(),
        memory: directory.to_owned(),
        freezer: directory.to_owned(),
    };
    let pod = |index: usize, name: &str, service: &str| PodHandle {
        name: name.into(),
        service: service.into(),
        node: "node-1".into(),
        ip: Ipv4Addr::new(10, 77, index as u8 + 1, 2),
        port: PORT,
        netns: handles[index].1.clone(),
        netns_inode: handles[index].0,
        cgroup: cgroup(cgroup_of_cache),
    };
    let node = NodeHandle {
        name: "node-1".into(),
        ip: Ipv4Addr::new(10, 77, 1, 1),
        netns: handles[2].1.clone(),
        netns_inode: handles[2].0,
        cgroup: cgroup(cgroup_of_cache),
    };
    let pods = vec![pod(0, "cache-0", "cache"), pod(1, "web-0", "web")];
    Surroundings {
        pods,
        nodes: vec![node],
        ..Surroundings::default()
    }
}

pub(crate) fn agent() -> AgentCommand {
    AgentCommand {
        program: env!("CARGO_BIN_EXE_gauntlet").into(),
        arguments: vec!["__fault-agent".to_owned()],
    }
}

fn cgroups(name: &str) -> CgroupPaths {
    let root = Path::new("/sys/fs/cgroup");
    let pure = root.join("cgroup.controllers").exists();
    let of = |hierarchy: &str| {
        let directory = if pure {
            root.join(name)
        } else {
            root.join(hierarchy).join(name)
        };
        fs::create_dir_all(&directory).expect("cgroup");
        directory
    };
    CgroupPaths {
        relative: format!("/{name}"),
        unified: of("unified"),
        cpu: of("cpu"),
        memory: of("memory"),
        freezer: of("freezer"),
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _gone_already = child.kill();
            let _gone_already = child.wait();
        }
        let cgroups = self
            .around
            .pods
            .iter()
            .map(|pod| &pod.cgroup)
            .chain(self.around.nodes.iter().map(|node| &node.cgroup));
        for cgroup in cgroups {
            for directory in [&cgroup.unified, &cgroup.cpu, &cgroup.memory, &cgroup.freezer] {
                let deadline = Instant::now() + Duration::from_secs(2);
                while fs::remove_dir(directory).is_err() && directory.exists() && Instant::now() < deadline {
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
        }
        let _gone_already = fs::remove_dir_all(&self.scratch);
    }
}

/// A cluster and a workload that do as they are told and say so.
#[derive(Default)]
pub(crate) struct FakeControl {
    pub(crate) port: Mutex<Option<u16>>,
    pub(crate) factor: Mutex<Option<f64>>,
}

impl ClusterControl for FakeControl {
    fn set_target_port<'a>(&'a self, _service: &'a ServiceName, port: Option<u16>) -> ControlFuture<'a> {
        Box::pin(async move {
            *self.port.lock().unwrap() = port;
            Ok(())
        })
    }

    /// Stands in for the translation: what a virtual address leads to now.
    fn service_dial(&self, _service: &ServiceName) -> Option<Dial> {
        let port = self.port.lock().unwrap().unwrap_or(PORT);
        Some(Dial {
            ip: Ipv4Addr::new(10, 77, 1, 2).into(),
            port,
        })
    }

    fn set_load_factor(&self, factor: f64) {
        *self.factor.lock().unwrap() = Some(factor);
    }

    fn offered_load_ratio(&self) -> Option<f64> {
        Some(self.factor.lock().unwrap().unwrap_or(1.0))
    }
}
