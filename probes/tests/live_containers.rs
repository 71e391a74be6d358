//! The protocols of real servers in containers, as whatever distribution packs them, and exactly as much of them seen.
//!
//! The other live tests run the machine's own servers in bare namespaces; here a container engine made the namespaces and
//! cgroups. Needs root, docker and an image with the servers, named `NAME:TAG` in `GAUNTLET_SERVERS_IMAGE` (it has
//! `redis-server`, and `run-postgres` with the password `postgres`); says so and passes where there is none.

use std::fs;
use std::net::{IpAddr, TcpStream};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use gauntlet_probes::entity::{InventoryLine, NodeInfo, NodeName, Peer, PodInfo, PodName};
use gauntlet_probes::frame::{L7Sample, Protocol, SideSample};
use gauntlet_probes::{Options, Probes};
use testcontainers::core::ImageExt as _;
use testcontainers::runners::SyncRunner as _;
use testcontainers::{Container, GenericImage};

/// The kernel programs see the whole machine; one test at a time keeps their counts apart.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
const CGROUPS: &str = "/sys/fs/cgroup";
/// Below this depth no container engine puts its containers.
const DEPTH_MAX: usize = 6;

struct Server {
    container: Container<GenericImage>,
    ip: IpAddr,
    probes: Probes,
    _alone: MutexGuard<'static, ()>,
}

/// A container that runs `command`, watched; `None`, with the reason printed, where the test cannot run.
fn server(command: &[&str]) -> Option<Server> {
    let Ok(image) = std::env::var("GAUNTLET_SERVERS_IMAGE") else {
        println!("skipped: GAUNTLET_SERVERS_IMAGE names no image");
        return None;
    };
    let (name, tag) = image.split_once(':').expect("NAME:TAG");
    let alone = ONE_AT_A_TIME.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    // From here on a failure is one: an image was named, so that there is an engine.
    let image = GenericImage::new(name.to_owned(), tag.to_owned());
    let container = image
        .with_network("bridge")
        .with_cmd(command.iter().copied())
        .start()
        .unwrap();
    let ip = container.get_bridge_ip_address().unwrap();
    let (cgroup, netns) = places_of(container.id());
    let mut probes = Probes::attach(&Options::default()).unwrap();
    let node = NodeName::new("node-1");
    let lines = [
        InventoryLine::Node(NodeInfo {
            name: node.clone(),
            ips: Vec::new(),
            netns: Some(fs::metadata("/proc/self/ns/net").unwrap().ino()),
            cgroup: None,
        }),
        InventoryLine::Pod(PodInfo {
            name: PodName::new("server"),
            service: None,
            node,
            ip,
            netns: Some(netns),
            cgroup: Some(cgroup),
        }),
    ];
    lines.iter().for_each(|line| probes.apply(line));
    Some(Server {
        container,
        ip,
        probes,
        _alone: alone,
    })
}

/// The cgroup of a container, below its hierarchy's root, and the network namespace of a process in it.
fn places_of(container: &str) -> (String, u64) {
    let roots = [format!("{CGROUPS}/unified"), CGROUPS.to_owned()];
    let root = roots
        .iter()
        .find(|root| Path::new(root).join("cgroup.procs").exists())
        .unwrap();
    let directory = find(Path::new(root), container, DEPTH_MAX).expect("the engine made a cgroup for the container");
    let processes = fs::read_to_string(directory.join("cgroup.procs")).unwrap();
    let tgid = processes.lines().next().expect("the container runs");
    let netns = fs::metadata(format!("/proc/{tgid}/ns/net")).unwrap().ino();
    let relative = directory.strip_prefix(root).unwrap();
    (format!("/{}", relative.display()), netns)
}

fn find(directory: &Path, container: &str, depth: usize) -> Option<PathBuf> {
    let entries = fs::read_dir(directory).ok()?.flatten().map(|entry| entry.path());
    let below: Vec<_> = entries.filter(|path| path.is_dir()).collect();
    let is_it = |path: &&PathBuf| path.to_string_lossy().contains(container);
    below.iter().find(is_it).cloned().or_else(|| {
        let mut deeper = below.iter().filter(|_| depth > 0);
        deeper.find_map(|path| find(path, container, depth - 1))
    })
}

impl Server {
    fn await_port(&self, port: u16) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect((self.ip, port)).is_err() {
            assert!(Instant::now() < deadline, "{} does not serve", self.container.id());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What the server's side saw since the probes were last read.
    fn seen(&mut self, port: u16) -> Vec<SideSample> {
        std::thread::sleep(Duration::from_millis(200));
        let frame = self.probes.tick().unwrap();
        assert!(!frame.loss.any());
        let server = Peer::Pod(PodName::new("server"));
        let edges = frame
            .edges
            .into_iter()
            .filter(|edge| edge.callee == server && edge.port == port);
        edges.filter_map(|edge| edge.server).collect()
    }
}

fn total(sides: &[SideSample], protocol: Protocol, number: impl Fn(&L7Sample) -> u32) -> u32 {
    let samples = sides.iter().flat_map(|side| &side.l7);
    samples.filter(|sample| sample.protocol == protocol).map(number).sum()
}

#[test]
fn redis_in_a_container() {
    let Some(mut server) = server(&[
        "redis-server",
        "--protected-mode",
        "no",
        "--bind",
        "0.0.0.0",
        "--save",
        "",
    ]) else {
        return;
    };
    server.await_port(6379);
    let _until_it_served = server.seen(6379);
    let client = redis::Client::open(format!("redis://{}/?protocol=resp3", server.ip)).unwrap();
    let mut connection = client.get_connection().unwrap();
    let _opening = server.seen(6379);
    redis::cmd("SET").arg("a").arg(1).exec(&mut connection).unwrap();
    for index in 0..100 {
        let key = if index % 4 == 0 { "missing" } else { "a" };
        let _: Option<i64> = redis::cmd("GET").arg(key).query(&mut connection).unwrap();
    }
    let sides = server.seen(6379);
    let count = |number: fn(&L7Sample) -> u32| total(&sides, Protocol::Redis, number);
    assert_eq!((count(|l7| l7.requests), count(|l7| l7.responses)), (101, 101));
    assert_eq!((count(|l7| l7.hits), count(|l7| l7.misses)), (75, 25));
    assert_eq!((count(|l7| l7.errors), count(|l7| l7.unparsed)), (0, 0));
}

#[test]
fn postgres_in_a_container() {
    let Some(mut server) = server(&["run-postgres"]) else {
        return;
    };
    server.await_port(5432);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let config = format!("host={} user=postgres password=postgres dbname=postgres", server.ip);
    let connect = async || {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            match tokio_postgres::connect(&config, tokio_postgres::NoTls).await {
                Ok((client, connection)) => {
                    tokio::spawn(connection);
                    return client;
                }
                Err(error) => assert!(Instant::now() < deadline, "no connection: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let client = runtime.block_on(connect());
    let _opening = server.seen(5432);
    runtime.block_on(async {
        for index in 0..60 {
            client.query("select $1::int4", &[&index]).await.unwrap();
        }
        assert!(client.simple_query("select nonsense").await.is_err());
    });
    let sides = server.seen(5432);
    let count = |number: fn(&L7Sample) -> u32| total(&sides, Protocol::Postgres, number);
    assert_eq!((count(|l7| l7.requests), count(|l7| l7.responses)), (61, 61));
    assert_eq!((count(|l7| l7.errors), count(|l7| l7.unparsed)), (1, 0));
}
