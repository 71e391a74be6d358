//! Shipped apps against real servers on loopback: redis-server, PostgreSQL, and the http services in this process.
//!
//! Needs root (PostgreSQL refuses to run as root and is started as its own user) and both servers; says so and passes otherwise.

mod servers;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Instant;

use gauntlet_harness::app::http_client::HttpConnection;
use gauntlet_harness::app::service::HttpService;
use gauntlet_harness::app::service::resolver::Resolver;
use gauntlet_harness::app::spec::ServiceKind;
use gauntlet_harness::app::{self, App, postgres, shard};
use gauntlet_harness::target::Dial;
use gauntlet_harness::workload::spec::{Load, LoadSpec, Profile};
use gauntlet_harness::workload::{ErrorKind, Latency, SecondSample, Workload};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, chown};
use tokio::task::JoinSet;

use self::servers::{Server, Tools, free_port, output, pid, wait_for_port};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shop_reads_through_its_cache_and_survives_without_it() {
    let Some(mut stack) = Stack::start("shop").await else {
        return;
    };

    // A miss brings the value from the database and fills the shard of its key, and no other.
    let (status, first) = stack.get("/product/7").await;
    assert_eq!(status, 200, "{first}");
    assert!(first.contains("price_cents=") && first.len() >= 3000, "{first}");
    assert_eq!(
        stack.cached("cache", "product:7"),
        Some(shard::shard_of("product:7", 3))
    );
    let (_, second) = stack.get("/product/7").await;
    assert_eq!(first, second);

    // A hit does not need the database: with the table gone, only what is cached can be had.
    stack.sql("ALTER TABLE products RENAME TO hidden");
    assert_eq!(stack.get("/product/7").await, (200, first.clone()));
    let (status, error) = stack.get("/product/8").await;
    assert_eq!(status, 502, "{error}");
    assert!(error.starts_with("db: answered"), "{error}");
    stack.sql("ALTER TABLE hidden RENAME TO products");

    // What cannot be had from a cache is had from the database.
    stack.kill(&format!("cache-{}", shard::shard_of("product:7", 3)));
    assert_eq!(stack.get("/product/7").await, (200, first.clone()));

    // A database that is gone fails what needs it, and nothing else.
    let (healthy, _) = stack.get("/healthz").await;
    stack.kill("db");
    let (status, error) = stack.get("/order/5").await;
    assert_eq!((healthy, status), (200, 502), "{error}");
    let (missing, _) = stack.get("/nothing/here").await;
    assert_eq!(missing, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_wait_longer_when_the_cache_hangs_and_not_when_it_works() {
    let Some(stack) = Stack::start("shop").await else {
        return;
    };
    let load = stack.load(80.0);
    let prefill = Workload::prefill(stack.entry, &load).await;
    println!("prefill: {prefill:?}");
    assert_eq!((prefill.requested, prefill.failed), (2000, 0));

    let handle = Workload::start(&tokio::runtime::Handle::current(), stack.entry, load, 1).expect("a thread");
    let mut seconds = handle.subscribe();
    let mut collect = async |count: usize| {
        let mut samples = Vec::new();
        while samples.len() < count {
            samples.push(seconds.recv().await.expect("the load goes on"));
        }
        samples
    };
    let before = collect(4).await;
    // A stopped server accepts connections and never answers: each request to it costs the cache's time-out.
    for index in 0..2 {
        stack.signal(&format!("cache-{index}"), Signal::SIGSTOP);
    }
    collect(1).await;
    let during = collect(4).await;
    for index in 0..2 {
        stack.signal(&format!("cache-{index}"), Signal::SIGCONT);
    }
    handle.set_factor(0.0);
    collect(2).await;
    let paused = collect(1).await;
    let all = handle.stop().await;

    println!("{}\n{}", summary("before", &before), summary("during", &during));
    let (before, during) = (latency(&before), latency(&during));
    // Two of three shards hang for 100 ms each time, so most users wait that long; nobody waits when all is well.
    assert!(before.p50_us < 20_000, "{before:?}");
    assert!(during.p50_us >= 100_000, "{during:?}");
    assert_eq!(paused[0].sent, 0);
    assert!(
        all.windows(2)
            .all(|pair| pair[1].at_ns - pair[0].at_ns == 1_000_000_000)
    );
    let failed: BTreeMap<ErrorKind, u64> = all.iter().flat_map(|sample| sample.errors.clone()).collect();
    assert_eq!(failed, BTreeMap::new(), "the database answers what the cache does not");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_passes_failures_up_and_heals() {
    let Some(mut stack) = Stack::start("chain").await else {
        return;
    };
    let (status, body) = stack.get("/quote/12").await;
    assert_eq!(status, 200, "{body}");
    assert!(body.contains("quantity="), "{body}");
    // A database that hangs: the innermost caller gives up after 800 ms and says so to all before it.
    stack.signal_all("db", Signal::SIGSTOP);
    let started = Instant::now();
    let (status, error) = stack.get("/quote/13").await;
    assert_eq!(status, 504, "{error}");
    assert!(
        (800..1500).contains(&started.elapsed().as_millis()),
        "{:?}",
        started.elapsed()
    );
    stack.signal_all("db", Signal::SIGCONT);
    let (status, body) = stack.get("/quote/13").await;
    assert_eq!(status, 200, "{body}");
    stack.kill("db");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fan_out_waits_for_all_and_fails_with_one() {
    let Some(mut stack) = Stack::start("fanout").await else {
        return;
    };
    let (status, body) = stack.get("/home/5").await;
    assert_eq!(status, 200, "{body}");
    assert!(
        body.contains("biography=") && body.contains("likes=") && body.contains("balance_cents="),
        "{body}"
    );
    // Both caches are warm for this user, but the balance is not cached.
    stack.kill("db");
    let (status, error) = stack.get("/home/5").await;
    assert_eq!(status, 502, "{error}");
    assert!(error.starts_with("billing: answered with status 502"), "{error}");
}

/// An app on loopback. Kills its servers when dropped.
struct Stack {
    app: App,
    entry: Dial,
    addresses: BTreeMap<String, SocketAddr>,
    servers: BTreeMap<String, Server>,
    _services: JoinSet<()>,
    _scratch: tempfile::TempDir,
}

impl Stack {
    /// Starts all of an app's servers and services; none, with the reason printed, when this machine cannot.
    async fn start(name: &str) -> Option<Self> {
        let tools = Tools::find().map_err(|reason| println!("skipped: {reason}")).ok()?;
        let app = app::load(name).expect("a shipped app");
        let scratch = tempfile::tempdir().expect("a scratch directory");
        chown(
            scratch.path(),
            Some(tools.postgres_user.uid),
            Some(tools.postgres_user.gid),
        )
        .expect("root may");
        let (mut addresses, mut servers) = (BTreeMap::new(), BTreeMap::new());
        for (service, spec) in &app.spec.services {
            for index in 0..spec.replicas {
                let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
                match spec.kind {
                    ServiceKind::Redis => {
                        servers.insert(
                            format!("{service}-{index}"),
                            tools.redis(address.port(), scratch.path()),
                        );
                        addresses.insert(format!("{service}-{index}"), address);
                    }
                    ServiceKind::Postgres => {
                        let seed = postgres::seed_sql(&app.spec, service);
                        servers.insert(service.clone(), tools.postgres(address.port(), scratch.path(), &seed));
                        addresses.insert(service.clone(), address);
                    }
                    // One replica stands for all: there is no balancer on loopback.
                    ServiceKind::Http => drop(addresses.insert(service.clone(), address)),
                }
            }
        }
        for server in servers.keys() {
            wait_for_port(addresses[server]);
        }
        let mut services = JoinSet::new();
        for service in app
            .spec
            .services
            .keys()
            .filter(|name| app.spec.services[*name].kind == ServiceKind::Http)
        {
            let resolver = Resolver::Table(addresses.clone());
            let http = HttpService::new(&app.spec, service, resolver).expect("an http service");
            let listener = tokio::net::TcpListener::bind(addresses[service])
                .await
                .expect("a free port");
            services.spawn(async move { http.serve(listener).await.expect("serves until aborted") });
        }
        let entry = addresses[&app.spec.entry];
        let entry = Dial {
            ip: entry.ip(),
            port: entry.port(),
        };
        Some(Self {
            app,
            entry,
            addresses,
            servers,
            _services: services,
            _scratch: scratch,
        })
    }

    async fn get(&self, path: &str) -> (u16, String) {
        let address = SocketAddr::from((self.entry.ip, self.entry.port));
        let mut connection = HttpConnection::connect(address).await.expect("the entry listens");
        let answer = connection.get("test", path).await.expect("an answer");
        (answer.status, String::from_utf8(answer.body.to_vec()).expect("text"))
    }

    fn load(&self, rate: f64) -> Load {
        let spec = LoadSpec {
            profile: Some(Profile::Constant { rate }),
            ..LoadSpec::default()
        };
        Load::new(&spec, &self.app.spec).expect("a load")
    }

    /// The only replica of `cache` that holds `key`.
    fn cached(&self, cache: &str, key: &str) -> Option<u16> {
        let holds = |index: &u16| {
            let port = self.addresses[&format!("{cache}-{index}")].port().to_string();
            output(Command::new("redis-cli").args(["-p", &port, "exists", key])).trim() == "1"
        };
        let holders: Vec<u16> = (0..self.app.spec.services[cache].replicas).filter(holds).collect();
        assert!(holders.len() <= 1, "{holders:?}");
        holders.first().copied()
    }

    fn sql(&self, statement: &str) {
        let port = self.addresses["db"].port().to_string();
        let database = [
            "-h",
            "127.0.0.1",
            "-p",
            &port,
            "-U",
            "app",
            "-d",
            "app",
            "-c",
            statement,
        ];
        output(Command::new("psql").args(database));
    }

    fn kill(&mut self, server: &str) {
        drop(self.servers.remove(server).expect("a running server"));
    }

    fn signal(&self, server: &str, signal: Signal) {
        kill(pid(&self.servers[server].0), signal).expect("our own child");
    }

    /// To the server and its children: each backend of PostgreSQL leads a session of its own.
    fn signal_all(&self, server: &str, signal: Signal) {
        let parent = pid(&self.servers[server].0);
        let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).expect("readable");
        for child in children.split_whitespace() {
            let child = Pid::from_raw(child.parse().expect("a process id"));
            // A backend may have ended since, which is as good.
            let _ = kill(child, signal);
        }
        kill(parent, signal).expect("our own child");
    }
}

fn latency(samples: &[SecondSample]) -> Latency {
    Latency::merge(samples.iter().map(|sample| &sample.latency))
}

fn summary(name: &str, samples: &[SecondSample]) -> String {
    let Latency {
        count,
        p50_us,
        p90_us,
        p99_us,
        max_us,
        ..
    } = latency(samples);
    let errors: u64 = samples.iter().map(SecondSample::error_count).sum();
    format!("{name}: {count} answers, {errors} errors, µs p50 {p50_us} p90 {p90_us} p99 {p99_us} max {max_us}")
}
