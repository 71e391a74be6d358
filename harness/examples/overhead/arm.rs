//! One arm: a redis load and an http load on a running cluster, or one of them, with or without the detector, measured.
//!
//! Both loads enter as calls between pods and users do. Compares nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use gauntlet_detector::diagnosis::Summary;
use gauntlet_harness::app::spec::AppSpec;
use gauntlet_harness::clock::monotonic_ns;
use gauntlet_harness::detectors::{DetectorCommand, DetectorProcess};
use gauntlet_harness::target::local::LocalCluster;
use gauntlet_harness::target::namespace::{command_in_netns, tokio_runtime_in_netns};
use gauntlet_harness::target::{Dial, PodHandle};
use gauntlet_harness::workload::spec::{Load, LoadSpec, Profile};
use gauntlet_harness::workload::{Latency, SecondSample, Workload};
use serde::Serialize;
use tempfile::TempDir;

use crate::{Args, LoadKind};

/// Before each arm: what the arm before left (a detector's end, closing connections) must not be measured in it.
const SETTLE: Duration = Duration::from_millis(700);
/// Requests by which it is found how many the redis load needs.
const CALIBRATION_REQUESTS: u64 = 20_000;
const CALIBRATIONS: u32 = 3;
/// Seconds of the http load that are not counted: connections open.
const WARM_UP_SECONDS: usize = 1;

/// A measured quantity of an arm.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Measure {
    /// What.
    pub(crate) name: &'static str,
    /// In which unit.
    pub(crate) unit: &'static str,
    /// How much.
    pub(crate) value: f64,
}

/// What the detector cost in an arm.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Watched {
    /// CPU of its process during the loads, share of one core. Loading its programs is not in it.
    pub(crate) cpu_share: f64,
    /// Its own account.
    pub(crate) summary: Summary,
}

/// What a kernel program cost during some time.
#[derive(Clone, Debug)]
pub(crate) struct ProgramCost {
    /// Its name.
    pub(crate) name: String,
    /// Runs.
    pub(crate) run_count: u64,
    /// How long they took in all.
    pub(crate) run_time: Duration,
    /// How long they were counted.
    pub(crate) wall: Duration,
}

/// Name, runs and their time of each program that the kernel has loaded, by its id.
type RunTimes = BTreeMap<u32, (String, u64, Duration)>;

/// The kernel cuts names to `BPF_OBJ_NAME_LEN`, with a zero.
const KERNEL_NAME_MAX: usize = 15;

/// A cluster that is ready to be loaded.
pub(crate) struct Bench<'cluster> {
    cluster: &'cluster LocalCluster,
    entry: Dial,
    load: Load,
    runtime: Option<tokio::runtime::Runtime>,
    caller: &'cluster PodHandle,
    callee: &'cluster PodHandle,
    detector: PathBuf,
    logs: TempDir,
    loads: Vec<LoadKind>,
    seconds: u32,
    clients: u32,
    requests: u64,
    seed: u64,
}

impl<'cluster> Bench<'cluster> {
    /// Fills caches, and finds out how many requests of the redis load take the time that was asked for.
    pub(crate) async fn prepare(
        cluster: &'cluster LocalCluster,
        app: &AppSpec,
        args: &Args,
        detector: PathBuf,
    ) -> anyhow::Result<Self> {
        ensure!(
            detector.is_file(),
            "{} is missing: build gauntlet-detector first",
            detector.display()
        );
        let entry = cluster
            .service_dial(&app.entry)
            .context("the app's entry has no address")?;
        let spec = LoadSpec {
            profile: Some(Profile::Constant { rate: args.rate }),
            ..LoadSpec::default()
        };
        let load = Load::new(&spec, app)?;
        let runtime = tokio_runtime_in_netns(cluster.client_netns(), 1)?;
        let of = |service: &'static str| cluster.pods().iter().filter(move |pod| pod.service.as_str() == service);
        let callee = of("cache").next().context("the app has no cache")?;
        let caller = of("web")
            .find(|pod| pod.node != callee.node)
            .context("no caller on another node")?;
        let (prefilled, handle) = (load.clone(), runtime.handle().clone());
        let prefill = handle
            .spawn(async move { Workload::prefill(entry, &prefilled).await })
            .await?;
        ensure!(
            prefill.failed == 0,
            "{} of {} requests of the prefill failed",
            prefill.failed,
            prefill.requested
        );
        let logs = tempfile::tempdir()?;
        let mut bench = Self {
            cluster,
            entry,
            load,
            runtime: Some(runtime),
            caller,
            callee,
            detector,
            logs,
            loads: args.loads.clone(),
            seconds: args.seconds,
            clients: args.clients,
            requests: CALIBRATION_REQUESTS,
            seed: args.seed,
        };
        if bench.offers(LoadKind::Redis) {
            bench.requests = bench.requests_in(Duration::from_secs(args.seconds.into())).await?;
        }
        Ok(bench)
    }

    /// How many requests of each of its two tests the redis load needs to take that long. The quickest of some tries
    /// counts: the first opens connections cold, and other work on the machine only ever slows one down.
    async fn requests_in(&self, time: Duration) -> anyhow::Result<u64> {
        let mut quickest = Duration::MAX;
        for _ in 0..CALIBRATIONS {
            let began = Instant::now();
            self.redis().await?;
            quickest = quickest.min(began.elapsed());
        }
        let scale = time.as_secs_f64() / quickest.as_secs_f64();
        Ok(((CALIBRATION_REQUESTS as f64 * scale) as u64).max(1_000))
    }

    /// Whether this load is one of those asked for.
    fn offers(&self, load: LoadKind) -> bool {
        self.loads.contains(&load)
    }

    /// The setting in one line.
    pub(crate) fn describe(&self) -> String {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let mut loads = Vec::new();
        if self.offers(LoadKind::Redis) {
            loads.push(format!(
                "redis-benchmark -t set,get -c {} -n {} from {} to {}",
                self.clients, self.requests, self.caller.name, self.callee.name
            ));
        }
        if self.offers(LoadKind::Http) {
            let rate = self.load.profile.rate_at(Duration::ZERO);
            loads.push(format!("http at {rate} requests/s for {} s", self.seconds));
        }
        format!(
            "{}; Linux {}, {} CPUs, load average {} at the end",
            loads.join("; "),
            read("/proc/sys/kernel/osrelease").trim(),
            std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
            read("/proc/loadavg").split(' ').next().unwrap_or_default(),
        )
    }

    /// The arm without the detector.
    pub(crate) async fn unwatched(&self, round: u64) -> anyhow::Result<Vec<Measure>> {
        tokio::time::sleep(SETTLE).await;
        self.loads(round).await
    }

    /// The arm with the detector.
    pub(crate) async fn watched(&self, round: u64) -> anyhow::Result<(Vec<Measure>, Watched)> {
        let detector = self.start_detector().await?;
        let tgid = detector.tgid().context("the detector has ended")?;
        let (cpu, began) = (process_cpu(tgid)?, Instant::now());
        let measures = self.loads(round).await?;
        let cpu_share = (process_cpu(tgid)? - cpu).as_secs_f64() / began.elapsed().as_secs_f64();
        let summary = account(detector).await?;
        Ok((measures, Watched { cpu_share, summary }))
    }

    /// What the detector's kernel programs cost under the loads. Not in the arms that are compared: while the kernel keeps
    /// account of run times, each run takes longer, so the detector itself only samples them, too seldom for so short a time.
    pub(crate) async fn programs(&self) -> anyhow::Result<Vec<ProgramCost>> {
        let detector = self.start_detector().await?;
        let _statistics =
            aya::sys::enable_stats(aya::sys::Stats::RunTime).context("the kernel's account of run times")?;
        let (before, began) = (run_times()?, Instant::now());
        self.loads(0).await?;
        let (after, wall) = (run_times()?, began.elapsed());
        let ours = account(detector).await?.programs;
        let of = |times: &RunTimes, name: &str| {
            let named = times.values().filter(|(known, ..)| known == name);
            named.fold((0, Duration::ZERO), |sum, (_, count, time)| {
                (sum.0 + count, sum.1 + *time)
            })
        };
        let costs = ours.into_iter().map(|program| {
            let known: String = program.name.chars().take(KERNEL_NAME_MAX).collect();
            let ((count, time), (count_before, time_before)) = (of(&after, &known), of(&before, &known));
            ProgramCost {
                name: program.name,
                run_count: count - count_before,
                run_time: time - time_before,
                wall,
            }
        });
        Ok(costs.collect())
    }

    async fn start_detector(&self) -> anyhow::Result<DetectorProcess> {
        let command = DetectorCommand {
            program: self.detector.clone(),
            arguments: vec!["--without-rivals".to_owned()],
            log: self.logs.path().join("detector.log"),
        };
        let detector = DetectorProcess::start(&command, &self.cluster.inventory()).await?;
        tokio::time::sleep(SETTLE).await;
        Ok(detector)
    }

    /// The loads, one after the other, the same in each arm of a round.
    async fn loads(&self, round: u64) -> anyhow::Result<Vec<Measure>> {
        let mut measures = Vec::new();
        if self.offers(LoadKind::Redis) {
            measures.extend(self.redis_load().await?);
        }
        if self.offers(LoadKind::Http) {
            measures.extend(self.http_load(round).await?);
        }
        Ok(measures)
    }

    async fn redis_load(&self) -> anyhow::Result<Vec<Measure>> {
        let cpu_before = self.cpu(&["cache"])?;
        let mut measures = self.redis().await?;
        let requests = 2.0 * self.requests as f64;
        measures.push(per_request(
            "redis server CPU",
            self.cpu(&["cache"])? - cpu_before,
            requests,
        ));
        Ok(measures)
    }

    async fn http_load(&self, round: u64) -> anyhow::Result<Vec<Measure>> {
        let services = ["web", "cache", "db"];
        let cpu_before = self.cpu(&services)?;
        let seconds = self.http(round).await?;
        let sent: u64 = seconds.iter().map(|second| second.sent).sum();
        let cpu = per_request(
            "http servers' CPU (web, cache, db)",
            self.cpu(&services)? - cpu_before,
            sent as f64,
        );
        let counted: Vec<&SecondSample> = seconds
            .iter()
            .skip(WARM_UP_SECONDS)
            .take(self.seconds as usize)
            .collect();
        let errors: u64 = counted.iter().map(|second| second.error_count()).sum();
        let good: u64 = counted.iter().map(|second| second.ok).sum();
        ensure!(
            errors == 0,
            "{errors} requests of the http load failed: the machine is too busy for it"
        );
        let latency = Latency::merge(counted.iter().map(|second| &second.latency));
        let measure = |name, unit, value| Measure { name, unit, value };
        Ok(vec![
            measure("http throughput", "/s", good as f64 / counted.len() as f64),
            measure("http p50", "ms", latency.p50_us as f64 / 1e3),
            measure("http p99", "ms", latency.p99_us as f64 / 1e3),
            cpu,
        ])
    }

    async fn redis(&self) -> anyhow::Result<Vec<Measure>> {
        let mut command = command_in_netns(&self.caller.netns, "redis-benchmark");
        command.args([
            "-h",
            &self.callee.ip.to_string(),
            "-p",
            &self.callee.port.to_string(),
            "-t",
            "set,get",
            "-q",
            "--csv",
        ]);
        command.args(["-c", &self.clients.to_string(), "-n", &self.requests.to_string()]);
        let output = tokio::task::spawn_blocking(move || command.output())
            .await?
            .context("redis-benchmark")?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(
            output.status.success(),
            "redis-benchmark: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        parse_redis(&text)
    }

    async fn http(&self, round: u64) -> anyhow::Result<Vec<SecondSample>> {
        let runtime = self.runtime.as_ref().expect("only dropping takes it");
        let handle = Workload::start(
            runtime.handle(),
            self.entry,
            self.load.clone(),
            self.seed.wrapping_add(round),
        )?;
        let mut seconds = handle.subscribe();
        for _ in 0..WARM_UP_SECONDS + self.seconds as usize {
            seconds.recv().await.context("the load ended")?;
        }
        Ok(handle.stop().await)
    }

    /// CPU that the pods of these services have used, the kernel's work for them included.
    fn cpu(&self, services: &[&str]) -> anyhow::Result<Duration> {
        let pods = self
            .cluster
            .pods()
            .iter()
            .filter(|pod| services.contains(&pod.service.as_str()));
        pods.map(|pod| {
            let path = pod.cgroup.unified.join("cpu.stat");
            let text = std::fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))?;
            let usage_us = text
                .lines()
                .find_map(|line| line.strip_prefix("usage_usec ")?.parse().ok());
            Ok(Duration::from_micros(
                usage_us.with_context(|| format!("{} has no usage", path.display()))?,
            ))
        })
        .sum()
    }
}

impl Drop for Bench<'_> {
    fn drop(&mut self) {
        // A runtime cannot be dropped within another.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn per_request(name: &'static str, cpu: Duration, requests: f64) -> Measure {
    Measure {
        name,
        unit: "µs/request",
        value: cpu.as_secs_f64() * 1e6 / requests,
    }
}

/// Ends the detector; its own account.
async fn account(detector: DetectorProcess) -> anyhow::Result<Summary> {
    let (_, end) = detector.finish(monotonic_ns()).await;
    end.summary
        .with_context(|| format!("the detector gave no account: {}", end.outcome))
}

fn run_times() -> anyhow::Result<RunTimes> {
    let mut times = RunTimes::new();
    for program in aya::programs::loaded_programs() {
        // One that is gone since it was listed costs nothing any more.
        let Ok(program) = program else { continue };
        let name = program.name_as_str().unwrap_or_default().to_owned();
        times.insert(program.id(), (name, program.run_count(), program.run_time()));
    }
    ensure!(!times.is_empty(), "the kernel lists no programs");
    Ok(times)
}

/// CPU time of a process, from `/proc/TGID/stat`: user and system, in ticks of 10 ms. The name may hold anything; it ends
/// with the last parenthesis.
fn process_cpu(tgid: u32) -> anyhow::Result<Duration> {
    let text = std::fs::read_to_string(format!("/proc/{tgid}/stat")).context("the detector has ended")?;
    let fields: Vec<&str> = text
        .rsplit_once(") ")
        .context("a stat without a name")?
        .1
        .split(' ')
        .collect();
    let ticks = |index: usize| {
        fields
            .get(index)
            .and_then(|field| field.parse::<u64>().ok())
            .context("a stat too short")
    };
    Ok(Duration::from_millis((ticks(11)? + ticks(12)?) * 10))
}

/// Throughput and latencies of `redis-benchmark --csv`: a head line, then one line for each test, all in quotation marks.
fn parse_redis(text: &str) -> anyhow::Result<Vec<Measure>> {
    let split = |line: &str| {
        line.split(',')
            .map(|field| field.trim_matches('"').to_owned())
            .collect::<Vec<_>>()
    };
    let mut lines = text.lines().map(split);
    let head = lines.next().context("redis-benchmark printed nothing")?;
    let mut measures = Vec::new();
    for line in lines {
        let names = match line.first().map(String::as_str) {
            Some("SET") => ["redis SET throughput", "redis SET p50", "redis SET p99"],
            Some("GET") => ["redis GET throughput", "redis GET p50", "redis GET p99"],
            _ => continue,
        };
        let columns = [("rps", "/s"), ("p50_latency_ms", "ms"), ("p99_latency_ms", "ms")];
        for (name, (column, unit)) in names.into_iter().zip(columns) {
            let index = head.iter().position(|field| field == column);
            let value = index.and_then(|index| line.get(index)?.parse().ok());
            let value = value.with_context(|| format!("redis-benchmark printed no {column}: {text}"))?;
            measures.push(Measure { name, unit, value });
        }
    }
    if measures.len() != 6 {
        bail!("redis-benchmark printed other tests than SET and GET: {text}");
    }
    Ok(measures)
}

#[cfg(test)]
mod tests {
    use super::parse_redis;

    #[test]
    fn the_output_of_redis_benchmark_is_read_by_its_head_line() {
        let text = "\"test\",\"rps\",\"p50_latency_ms\",\"p99_latency_ms\"\n\"SET\",\"9.5\",\"1\",\"2\"\n\"GET\",\"8\",\"3\",\"4\"\n";
        let measures = parse_redis(text).unwrap();
        let values: Vec<f64> = measures.iter().map(|measure| measure.value).collect();
        assert_eq!(values, [9.5, 1.0, 2.0, 8.0, 3.0, 4.0]);
        assert!(parse_redis("").is_err());
        assert!(parse_redis("\"test\",\"rps\"\n\"SET\",\"1\"\n").is_err());
    }
}
