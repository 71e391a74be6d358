//! CPU, memory and pressure of pods and nodes, from the files of their cgroups.
//!
//! Two layouts: controllers on v1 hierarchies of their own with v2 beside them, or all on v2. Files stay open; each is
//! read again in place.

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::frame::UsageSample;
use crate::run_queue::RunQueue;

/// Where the hierarchies are mounted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hierarchies {
    unified: Option<PathBuf>,
    cpu: Option<PathBuf>,
    cpuacct: Option<PathBuf>,
    memory: Option<PathBuf>,
}

impl Hierarchies {
    /// As mounted on this machine.
    pub(crate) fn of_this_machine() -> Self {
        Self::parse(&fs::read_to_string("/proc/self/mounts").unwrap_or_default())
    }

    fn parse(mounts: &str) -> Self {
        let mut found = Self::default();
        for line in mounts.lines() {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            let [_, path, kind, options, ..] = words[..] else {
                continue;
            };
            let path = Some(PathBuf::from(path));
            if kind == "cgroup2" {
                found.unified = found.unified.or(path);
            } else if kind == "cgroup" {
                let has = |controller: &str| options.split(',').any(|option| option == controller);
                if has("cpu") {
                    found.cpu.clone_from(&path);
                }
                if has("cpuacct") {
                    found.cpuacct.clone_from(&path);
                }
                if has("memory") {
                    found.memory.clone_from(&path);
                }
            }
        }
        found
    }

    /// Identity of a cgroup in the v2 hierarchy, as the kernel's helpers give it.
    pub(crate) fn cgroup_id(&self, cgroup: &str) -> Option<u64> {
        Some(fs::metadata(join(self.unified.as_deref()?, cgroup)).ok()?.ino())
    }

    /// Identities of a cgroup and of those directly below it: of a pod and its containers.
    pub(crate) fn cgroup_ids(&self, cgroup: &str) -> Vec<u64> {
        let Some(root) = self.unified.as_deref() else {
            return Vec::new();
        };
        let directory = join(root, cgroup);
        let below = fs::read_dir(&directory).into_iter().flatten().flatten();
        let directories = below.map(|entry| entry.path()).filter(|path| path.is_dir());
        [directory.clone()]
            .into_iter()
            .chain(directories)
            .filter_map(|path| Some(fs::metadata(path).ok()?.ino()))
            .collect()
    }
}

fn join(root: &Path, cgroup: &str) -> PathBuf {
    root.join(cgroup.trim_start_matches('/'))
}

/// A file that is read again and again.
#[derive(Debug)]
struct Gauge(Option<File>);

impl Gauge {
    fn open(root: Option<&Path>, cgroup: &str, name: &str) -> Self {
        Self(root.and_then(|root| File::open(join(root, cgroup).join(name)).ok()))
    }

    /// Its content, up to what `buffer` holds.
    fn read<'a>(&self, buffer: &'a mut [u8; 2048]) -> Option<&'a str> {
        let length = self.0.as_ref()?.read_at(buffer, 0).ok()?;
        std::str::from_utf8(&buffer[..length]).ok()
    }

    fn number(&self) -> Option<u64> {
        self.read(&mut [0; 2048])?.trim().parse().ok()
    }

    /// Numbers of lines like `nr_throttled 12`, in the order of `keys`.
    fn keyed<const N: usize>(&self, keys: [&str; N]) -> [Option<u64>; N] {
        let mut values = [None; N];
        let mut buffer = [0; 2048];
        for line in self.read(&mut buffer).unwrap_or_default().lines() {
            let Some((key, value)) = line.split_once(' ') else {
                continue;
            };
            if let Some(index) = keys.iter().position(|wanted| *wanted == key) {
                values[index] = value.trim().parse().ok();
            }
        }
        values
    }

    /// The total of a pressure file's line `some avg10=… total=N`, microseconds.
    fn pressure(&self) -> Option<u64> {
        let mut buffer = [0; 2048];
        let line = self.read(&mut buffer)?.lines().find(|line| line.starts_with("some "))?;
        line.rsplit_once("total=")?.1.trim().parse().ok()
    }
}

/// Counters that only grow.
#[derive(Clone, Copy, Debug, Default)]
struct Counters {
    cpu_ns: Option<u64>,
    periods: Option<u64>,
    throttled_periods: Option<u64>,
    throttled_ns: Option<u64>,
    cpu_pressure_us: Option<u64>,
    memory_pressure_us: Option<u64>,
    io_pressure_us: Option<u64>,
}

#[derive(Debug)]
enum CpuFiles {
    V1 {
        usage: Gauge,
        stat: Gauge,
        quota: Gauge,
        period: Gauge,
    },
    V2 {
        stat: Gauge,
        max: Gauge,
    },
}

#[derive(Debug)]
enum MemoryFiles {
    V1 { usage: Gauge, limit: Gauge },
    V2 { current: Gauge, max: Gauge },
}

/// The files of one cgroup, and their last values.
#[derive(Debug)]
struct Cgroup {
    cpu: CpuFiles,
    memory: MemoryFiles,
    cpu_pressure: Gauge,
    memory_pressure: Gauge,
    io_pressure: Gauge,
    last: Counters,
    limits: (Option<u32>, Option<u64>),
    run_queue: RunQueue,
    ticks: u32,
}

/// Limits and lists of processes change seldom; they are read on each of this many ticks.
const SLOW_TICKS: u32 = 5;

/// Cgroups by path.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    hierarchies: Hierarchies,
    known: HashMap<String, Cgroup>,
}

impl Usage {
    pub(crate) fn new(hierarchies: Hierarchies) -> Self {
        Self {
            hierarchies,
            known: HashMap::new(),
        }
    }

    /// Usage of a cgroup since it was last asked for.
    pub(crate) fn sample(&mut self, cgroup: &str) -> UsageSample {
        if !self.known.contains_key(cgroup) {
            let opened = Cgroup::open(&self.hierarchies, cgroup);
            self.known.insert(cgroup.to_owned(), opened);
        }
        let sample = self.known.get_mut(cgroup).map(Cgroup::sample).unwrap_or_default();
        // It may not exist yet; its files are opened anew next time.
        if sample.cpu_ns.is_none() && sample.process_count.is_none() {
            self.known.remove(cgroup);
        }
        sample
    }

    /// Forgets cgroups that `is_wanted` does not want.
    pub(crate) fn retain(&mut self, is_wanted: impl Fn(&str) -> bool) {
        self.known.retain(|path, _| is_wanted(path));
    }
}

impl Cgroup {
    fn open(hierarchies: &Hierarchies, path: &str) -> Self {
        let unified = hierarchies.unified.as_deref();
        let in_unified = |name: &str| Gauge::open(unified, path, name);
        // On a hybrid machine a cgroup may be in the v2 hierarchy alone; that one also accounts for CPU time.
        let is_in = |root: &PathBuf| join(root, path).is_dir();
        let cpu = match (&hierarchies.cpu, &hierarchies.cpuacct) {
            (Some(cpu), Some(cpuacct)) if is_in(cpu) && is_in(cpuacct) => CpuFiles::V1 {
                usage: Gauge::open(Some(cpuacct), path, "cpuacct.usage"),
                stat: Gauge::open(Some(cpu), path, "cpu.stat"),
                quota: Gauge::open(Some(cpu), path, "cpu.cfs_quota_us"),
                period: Gauge::open(Some(cpu), path, "cpu.cfs_period_us"),
            },
            _ => CpuFiles::V2 {
                stat: in_unified("cpu.stat"),
                max: in_unified("cpu.max"),
            },
        };
        let memory = match &hierarchies.memory {
            Some(memory) if is_in(memory) => MemoryFiles::V1 {
                usage: Gauge::open(Some(memory), path, "memory.usage_in_bytes"),
                limit: Gauge::open(Some(memory), path, "memory.limit_in_bytes"),
            },
            _ => MemoryFiles::V2 {
                current: in_unified("memory.current"),
                max: in_unified("memory.max"),
            },
        };
        let mut cgroup = Self {
            cpu,
            memory,
            cpu_pressure: in_unified("cpu.pressure"),
            memory_pressure: in_unified("memory.pressure"),
            io_pressure: in_unified("io.pressure"),
            last: Counters::default(),
            limits: (None, None),
            run_queue: RunQueue::new(unified.map(|root| join(root, path))),
            ticks: 0,
        };
        cgroup.last = cgroup.counters();
        cgroup
    }

    fn counters(&self) -> Counters {
        let (cpu_ns, [periods, throttled_periods, throttled_ns]) = match &self.cpu {
            CpuFiles::V1 { usage, stat, .. } => (
                usage.number(),
                stat.keyed(["nr_periods", "nr_throttled", "throttled_time"]),
            ),
            CpuFiles::V2 { stat, max: _ } => {
                let [usage_us, periods, throttled, throttled_us] =
                    stat.keyed(["usage_usec", "nr_periods", "nr_throttled", "throttled_usec"]);
                (
                    usage_us.map(|us| us * 1000),
                    [periods, throttled, throttled_us.map(|us| us * 1000)],
                )
            }
        };
        Counters {
            cpu_ns,
            periods,
            throttled_periods,
            throttled_ns,
            cpu_pressure_us: self.cpu_pressure.pressure(),
            memory_pressure_us: self.memory_pressure.pressure(),
            io_pressure_us: self.io_pressure.pressure(),
        }
    }

    fn limits(&self) -> (Option<u32>, Option<u64>) {
        let quota = match &self.cpu {
            CpuFiles::V1 { quota, period, .. } => quota.number().zip(period.number()),
            CpuFiles::V2 { max, stat: _ } => max.read(&mut [0; 2048]).and_then(|text| {
                let (quota, period) = text.trim().split_once(' ')?;
                Some((quota.parse().ok()?, period.parse().ok()?))
            }),
        };
        let millicores = quota.and_then(|(quota, period)| u32::try_from((quota * 1000).checked_div(period)?).ok());
        let bytes = match &self.memory {
            MemoryFiles::V1 { limit, .. } => limit.number(),
            MemoryFiles::V2 { max, .. } => max.number(),
        };
        // v1 says "no limit" with the largest multiple of a page.
        (millicores, bytes.filter(|bytes| *bytes < 1 << 60))
    }

    fn sample(&mut self) -> UsageSample {
        if self.ticks.is_multiple_of(SLOW_TICKS) {
            self.limits = self.limits();
            self.run_queue.refresh();
        }
        self.ticks = self.ticks.wrapping_add(1);
        let (last, now) = (self.last, self.counters());
        self.last = now;
        let small = |value: Option<u64>| value.map(|value| u32::try_from(value).unwrap_or(u32::MAX));
        UsageSample {
            cpu_ns: grown(now.cpu_ns, last.cpu_ns),
            cpu_limit_millicores: self.limits.0,
            cpu_periods: small(grown(now.periods, last.periods)),
            cpu_throttled_periods: small(grown(now.throttled_periods, last.throttled_periods)),
            cpu_throttled_ns: grown(now.throttled_ns, last.throttled_ns),
            run_queue_wait_ns: self.run_queue.wait_ns(),
            cpu_pressure_us: grown(now.cpu_pressure_us, last.cpu_pressure_us),
            memory_bytes: match &self.memory {
                MemoryFiles::V1 { usage, .. } => usage.number(),
                MemoryFiles::V2 { current, .. } => current.number(),
            },
            memory_limit_bytes: self.limits.1,
            memory_pressure_us: grown(now.memory_pressure_us, last.memory_pressure_us),
            io_pressure_us: grown(now.io_pressure_us, last.io_pressure_us),
            process_count: self.run_queue.process_count(),
        }
    }
}

fn grown(now: Option<u64>, last: Option<u64>) -> Option<u64> {
    Some(now?.saturating_sub(last?))
}

#[cfg(test)]
mod tests {
    use super::Hierarchies;

    #[test]
    fn finds_hybrid_and_unified_layouts() {
        let hybrid = Hierarchies::parse(
            "cgroup /c/cpu cgroup rw,cpu 0 0\ncgroup /c/cpuacct cgroup rw,cpuacct 0 0\n\
             cgroup /c/memory cgroup rw,memory 0 0\ncgroup2 /c/unified cgroup2 rw 0 0\n",
        );
        assert_eq!(hybrid.unified.as_deref(), Some("/c/unified".as_ref()));
        assert_eq!(hybrid.cpuacct.as_deref(), Some("/c/cpuacct".as_ref()));
        let unified = Hierarchies::parse("cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n");
        assert!(unified.cpu.is_none() && unified.memory.is_none() && unified.unified.is_some());
    }
}
