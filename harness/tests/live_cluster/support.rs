//! What the tests of the local cluster share: clusters that end clean, clients inside pods, what may be left behind.

use gauntlet_harness::app::spec::AppSpec;
use gauntlet_harness::target::local::{LocalCluster, UpOptions};
use gauntlet_harness::target::namespace::run_in_netns;
use gauntlet_harness::target::{Dial, NetnsFd, PodHandle};
use gauntlet_probes::entity::InventoryLine;
use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// When set, the test binary holds a cluster of this name until it is killed.
pub(crate) const HOLD: &str = "GAUNTLET_TEST_HOLD";

pub(crate) fn app(text: &str) -> AppSpec {
    serde_json::from_str(text).unwrap()
}

pub(crate) fn options(id: &str) -> UpOptions {
    let app_binary = PathBuf::from(env!("CARGO_BIN_EXE_gauntlet-app"));
    UpOptions {
        id: Some(format!("{id}-{}", std::process::id())),
        app_binary,
        ..UpOptions::default()
    }
}

/// Runs `test` on a cluster that it gets, and says how long up and down took.
pub(crate) fn with_cluster(id: &str, spec: &str, test: impl AsyncFnOnce(&LocalCluster)) {
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

pub(crate) fn runtime_or_skip() -> Option<tokio::runtime::Runtime> {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: not root (namespaces, cgroups and nftables need it)");
        return None;
    }
    Some(tokio::runtime::Runtime::new().unwrap())
}

/// All that can be seen of a cluster from outside.
pub(crate) fn rests(cluster: &str) -> Vec<String> {
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
pub(crate) fn processes(cluster: &str) -> Vec<(i32, String)> {
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

pub(crate) fn inodes(inventory: &[InventoryLine]) -> BTreeSet<u64> {
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
pub(crate) fn holders(inodes: &BTreeSet<u64>) -> Vec<String> {
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

pub(crate) fn pod<'a>(cluster: &'a LocalCluster, name: &str) -> &'a PodHandle {
    cluster.pods().iter().find(|pod| pod.name.as_str() == name).unwrap()
}

pub(crate) fn connect(netns: &NetnsFd, dial: Dial) -> Result<(), std::io::ErrorKind> {
    let address = SocketAddr::new(dial.ip, dial.port);
    let connected = run_in_netns(netns, || TcpStream::connect_timeout(&address, Duration::from_secs(2))).unwrap();
    connected.map(drop).map_err(|error| error.kind())
}

pub(crate) fn redis(netns: &NetnsFd, dial: Dial, command: &str) -> Result<String, std::io::ErrorKind> {
    let mut stream = run_in_netns(netns, || TcpStream::connect((dial.ip, dial.port)))
        .unwrap()
        .map_err(|e| e.kind())?;
    ask_redis(&mut stream, command)
}

pub(crate) fn ask_redis(stream: &mut TcpStream, command: &str) -> Result<String, std::io::ErrorKind> {
    let mut buffer = [0; 16384];
    stream
        .write_all(format!("{command}\r\n").as_bytes())
        .map_err(|error| error.kind())?;
    let length = stream.read(&mut buffer).map_err(|error| error.kind())?;
    Ok(String::from_utf8_lossy(&buffer[..length]).trim_end().to_owned())
}

pub(crate) fn get(netns: &NetnsFd, dial: Dial, path: &str) -> String {
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
pub(crate) fn run_id(netns: &NetnsFd, dial: Dial) -> String {
    let info = redis(netns, dial, "INFO server").unwrap();
    info.lines()
        .find_map(|line| line.strip_prefix("run_id:"))
        .unwrap()
        .to_owned()
}

pub(crate) fn resolve(netns: &NetnsFd, server: Dial, name: &str) -> (ResponseCode, Vec<IpAddr>) {
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

pub(crate) fn eventually(patience: Duration, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < patience, "not within {patience:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
