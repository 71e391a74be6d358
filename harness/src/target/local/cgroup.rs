//! Control groups of nodes and pods: one leaf each in every hierarchy, on pure v2 machines and on hybrid ones.
//!
//! Makes, limits, empties and removes directories. Who goes in is said elsewhere.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::target::CgroupPaths;

/// Enforcement period of a node's CPU limit. Short, so that a full node is slow rather than now and then still.
const NODE_PERIOD_US: u64 = 20_000;
/// Enforcement period of a pod's CPU limit, as in Kubernetes.
const POD_PERIOD_US: u64 = 100_000;

/// A cgroup could not be made or removed.
#[derive(Debug, thiserror::Error)]
#[error("failed to {operation} {}", path.display())]
pub struct CgroupError {
    operation: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl CgroupError {
    fn new(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self {
            operation,
            path: path.to_owned(),
            source,
        }
    }
}

/// Where the hierarchies that a cluster uses are mounted. On a pure v2 machine all are the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hierarchies {
    unified: PathBuf,
    cpu: PathBuf,
    cpuacct: PathBuf,
    memory: PathBuf,
    freezer: PathBuf,
}

/// One cgroup to make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupPlan {
    /// Path below each hierarchy's root; parents come earlier in a list of plans.
    pub relative: String,
    /// Node or pod: decides how its CPU limit is enforced.
    pub level: Level,
    /// CPU limit.
    pub cpu_millicores: Option<u32>,
    /// Memory limit.
    pub memory_mib: Option<u32>,
}

/// What a cgroup is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Level {
    /// The cluster.
    Cluster,
    /// A node.
    Node,
    /// A pod.
    Pod,
}

impl Hierarchies {
    /// Finds them in the text of `/proc/self/mountinfo`. `None` without a v2 hierarchy, which identity and pressure need.
    #[must_use]
    pub fn parse(mountinfo: &str) -> Option<Self> {
        let mounts = mountinfo.lines().filter_map(|line| {
            let (left, right) = line.split_once(" - ")?;
            let mut right = right.split(' ');
            Some((PathBuf::from(left.split(' ').nth(4)?), right.next()?, right.nth(1)?))
        });
        let mounts = mounts.collect::<Vec<_>>();
        let unified = mounts.iter().find(|(_, kind, _)| *kind == "cgroup2")?.0.clone();
        let controller = |name: &str| {
            let v1 = mounts
                .iter()
                .find(|(_, kind, options)| *kind == "cgroup" && options.split(',').any(|o| o == name));
            v1.map_or_else(|| unified.clone(), |(path, ..)| path.clone())
        };
        Some(Self {
            cpu: controller("cpu"),
            cpuacct: controller("cpuacct"),
            memory: controller("memory"),
            freezer: controller("freezer"),
            unified,
        })
    }

    /// Finds those of this machine.
    pub fn detect() -> Result<Self, CgroupError> {
        let path = Path::new("/proc/self/mountinfo");
        let text = fs::read_to_string(path).map_err(CgroupError::new("read", path))?;
        let missing = || io::Error::new(io::ErrorKind::NotFound, "no cgroup v2 hierarchy is mounted");
        Self::parse(&text)
            .ok_or_else(missing)
            .map_err(CgroupError::new("find cgroups in", path))
    }

    /// The roots, each once.
    #[must_use]
    pub fn roots(&self) -> Vec<&Path> {
        let mut roots = Vec::<&Path>::new();
        for root in [&self.unified, &self.cpu, &self.cpuacct, &self.memory, &self.freezer] {
            // A v1 hierarchy with two controllers may be mounted once and linked twice.
            if !roots.contains(&root.as_path()) {
                roots.push(root);
            }
        }
        roots
    }

    /// The directories of the cgroup with this path below the roots.
    #[must_use]
    pub fn paths(&self, relative: &str) -> CgroupPaths {
        let below = |root: &Path| root.join(relative.trim_start_matches('/'));
        CgroupPaths {
            relative: relative.to_owned(),
            unified: below(&self.unified),
            cpu: below(&self.cpu),
            memory: below(&self.memory),
            freezer: below(&self.freezer),
        }
    }

    /// The files through which a process enters the cgroup.
    #[must_use]
    pub fn procs(&self, relative: &str) -> Vec<PathBuf> {
        let below = |root: &&Path| root.join(relative.trim_start_matches('/')).join("cgroup.procs");
        self.roots().iter().map(below).collect()
    }

    /// Makes the cgroup in every hierarchy and sets its limits. Fails if it exists. A limit that nobody declared (a
    /// node's) and that cannot be set here is no failure, and is returned in words.
    pub fn create(&self, plan: &CgroupPlan) -> Result<Option<String>, CgroupError> {
        for root in self.roots() {
            let path = root.join(plan.relative.trim_start_matches('/'));
            self.enable_controllers(&path);
            fs::create_dir(&path).map_err(CgroupError::new("make cgroup", &path))?;
        }
        let set = limits(&self.paths(&plan.relative), plan)
            .iter()
            .try_for_each(|(path, value)| write(path, value));
        match (plan.level, set) {
            (_, Ok(())) => Ok(None),
            (Level::Pod, Err(error)) => Err(error),
            (Level::Cluster | Level::Node, Err(error)) => Ok(Some(format!(
                "no limit for {}: {error}: {}",
                plan.relative, error.source
            ))),
        }
    }

    /// Thaws and kills everything in the cluster's cgroup, so that nothing keeps it from dying soon.
    pub fn release(&self, cluster: &str) {
        for root in self.roots() {
            release(&root.join(cluster));
        }
    }

    /// Kills what is in the cluster's cgroup and removes it from every hierarchy; waits for the kernel up to `patience`.
    pub fn remove(&self, cluster: &str, patience: Duration) -> Result<(), CgroupError> {
        let deadline = Instant::now() + patience;
        loop {
            let mut last = Ok(());
            for root in self.roots() {
                let top = root.join(cluster);
                release(&top);
                if let Err(error) = remove_tree(&top) {
                    last = Err(error);
                }
            }
            if last.is_ok() || Instant::now() >= deadline {
                return last;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Names of the clusters that have a cgroup in any hierarchy.
    #[must_use]
    pub fn clusters(&self) -> Vec<String> {
        let entries = self
            .roots()
            .into_iter()
            .filter_map(|root| fs::read_dir(root).ok())
            .flatten()
            .flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let mut names = names.filter(|name| name.starts_with("gauntlet-")).collect::<Vec<_>>();
        names.sort();
        names.dedup();
        names
    }

    /// Host process ids in the cluster's cgroup and below, in any hierarchy.
    #[must_use]
    pub fn members(&self, cluster: &str) -> Vec<i32> {
        let mut members = Vec::new();
        for root in self.roots() {
            walk(&root.join(cluster), &mut |directory| members.extend(tgids(directory)));
        }
        members.sort_unstable();
        members.dedup();
        members
    }

    /// On v2 a controller works in a cgroup only if its parent hands it down. Where the parent cannot (it has processes
    /// of its own, as the root of a container has), limits are absent, and setting one says so.
    fn enable_controllers(&self, path: &Path) {
        if self.cpu == self.unified && path.starts_with(&self.unified) {
            let control = path.parent().unwrap_or(path).join("cgroup.subtree_control");
            for controller in ["+cpu", "+memory", "+pids"] {
                let _ = fs::write(&control, controller);
            }
        }
    }
}

/// Host process ids in one cgroup directory.
#[must_use]
pub fn tgids(directory: &Path) -> Vec<i32> {
    let text = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.parse().ok())
        .filter(|&tgid| tgid > 0)
        .collect()
}

/// Files and what to write into them, in order.
fn limits(paths: &CgroupPaths, plan: &CgroupPlan) -> Vec<(PathBuf, String)> {
    let mut limits = Vec::new();
    if let Some(millicores) = plan.cpu_millicores {
        let period_us = match plan.level {
            Level::Pod => POD_PERIOD_US,
            Level::Cluster | Level::Node => NODE_PERIOD_US,
        };
        // The kernel knows no quota below a millisecond.
        let quota_us = (u64::from(millicores) * period_us / 1000).max(1000);
        if paths.cpu == paths.unified {
            limits.push((paths.cpu.join("cpu.max"), format!("{quota_us} {period_us}")));
        } else {
            limits.push((paths.cpu.join("cpu.cfs_period_us"), period_us.to_string()));
            limits.push((paths.cpu.join("cpu.cfs_quota_us"), quota_us.to_string()));
        }
    }
    if let Some(mebibytes) = plan.memory_mib {
        let file = if paths.memory == paths.unified {
            "memory.max"
        } else {
            "memory.limit_in_bytes"
        };
        limits.push((paths.memory.join(file), (u64::from(mebibytes) << 20).to_string()));
    }
    limits
}

/// Writes a control file, which the kernel made: one that is missing is not made.
fn write(path: &Path, value: &str) -> Result<(), CgroupError> {
    let written = OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|mut file| file.write_all(value.as_bytes()));
    written.map_err(CgroupError::new("write", path))
}

/// Thaws, lifts the CPU limit of and kills everything at and below `top`, so that nothing keeps it from dying soon.
fn release(top: &Path) {
    walk(top, &mut |directory| {
        // Each file exists in one kind of hierarchy only.
        for (file, value) in [
            ("freezer.state", "THAWED"),
            ("cgroup.freeze", "0"),
            ("cpu.cfs_quota_us", "-1"),
            ("cpu.max", "max"),
        ] {
            let path = directory.join(file);
            if path.exists() {
                let _ = fs::write(path, value);
            }
        }
        for tgid in tgids(directory) {
            let _ = kill(Pid::from_raw(tgid), Signal::SIGKILL);
        }
    });
}

fn remove_tree(top: &Path) -> Result<(), CgroupError> {
    let mut result = Ok(());
    let mut directories = Vec::new();
    walk(top, &mut |directory| directories.push(directory.to_owned()));
    for directory in directories.iter().rev() {
        match fs::remove_dir(directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                result = Err(CgroupError::new("remove cgroup", directory)(error));
            }
            Ok(()) | Err(_) => (),
        }
    }
    result
}

/// Visits `top` and everything below it, parents first.
fn walk(top: &Path, visit: &mut dyn FnMut(&Path)) {
    if !top.is_dir() {
        return;
    }
    visit(top);
    for entry in fs::read_dir(top).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&entry.path(), visit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
        30 20 0:26 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
        31 20 0:27 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory\n\
        32 20 0:28 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
    const PURE: &str = "30 20 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";

    #[test]
    fn uses_v1_where_a_controller_is_there_and_v2_otherwise() {
        let hybrid = Hierarchies::parse(HYBRID).unwrap();
        let paths = hybrid.paths("/gauntlet-1/node-1");
        assert_eq!(paths.unified, Path::new("/sys/fs/cgroup/unified/gauntlet-1/node-1"));
        assert_eq!(paths.cpu, Path::new("/sys/fs/cgroup/cpu,cpuacct/gauntlet-1/node-1"));
        assert_eq!(paths.memory, Path::new("/sys/fs/cgroup/memory/gauntlet-1/node-1"));
        assert_eq!(paths.freezer, paths.unified);
        assert_eq!(hybrid.roots().len(), 3);
        assert_eq!(
            Hierarchies::parse(PURE).unwrap().procs("/g"),
            [Path::new("/sys/fs/cgroup/g/cgroup.procs")]
        );
        assert_eq!(Hierarchies::parse("30 20 0:26 / /proc rw - proc proc rw\n"), None);
    }

    #[test]
    fn a_limit_is_one_file_on_v2_and_two_on_v1() {
        let plan = |level| CgroupPlan {
            relative: "/g".into(),
            level,
            cpu_millicores: Some(250),
            memory_mib: Some(64),
        };
        let check = |mountinfo: &str, level, expected: expect_test::Expect| {
            let paths = Hierarchies::parse(mountinfo).unwrap().paths("/g");
            let limits = limits(&paths, &plan(level));
            let lines = limits
                .iter()
                .map(|(path, value)| format!("{} <- {value}", path.display()));
            expected.assert_eq(&lines.collect::<Vec<_>>().join("\n"));
        };
        check(
            PURE,
            Level::Node,
            expect_test::expect![[r#"
                /sys/fs/cgroup/g/cpu.max <- 5000 20000
                /sys/fs/cgroup/g/memory.max <- 67108864"#]],
        );
        check(
            HYBRID,
            Level::Pod,
            expect_test::expect![[r#"
                /sys/fs/cgroup/cpu,cpuacct/g/cpu.cfs_period_us <- 100000
                /sys/fs/cgroup/cpu,cpuacct/g/cpu.cfs_quota_us <- 25000
                /sys/fs/cgroup/memory/g/memory.limit_in_bytes <- 67108864"#]],
        );
    }

    #[test]
    fn a_limit_that_cannot_be_set_fails_only_where_it_was_declared() {
        // A plain directory stands for a v2 hierarchy without controllers, as the root of a container is.
        let root = tempfile::tempdir().unwrap();
        let mountinfo = format!("30 20 0:26 / {} rw - cgroup2 cgroup2 rw\n", root.path().display());
        let hierarchies = Hierarchies::parse(&mountinfo).unwrap();
        let plan = |relative: &str, level, cpu_millicores| CgroupPlan {
            relative: relative.into(),
            level,
            cpu_millicores,
            memory_mib: None,
        };
        assert_eq!(
            hierarchies.create(&plan("/gauntlet-1", Level::Cluster, None)).unwrap(),
            None
        );
        let node = hierarchies
            .create(&plan("/gauntlet-1/node-1", Level::Node, Some(900)))
            .unwrap();
        assert!(node.unwrap().contains("no limit for /gauntlet-1/node-1"));
        assert!(
            hierarchies
                .create(&plan("/gauntlet-1/node-1/web-0", Level::Pod, Some(250)))
                .is_err()
        );
        assert_eq!(
            hierarchies
                .create(&plan("/gauntlet-1/node-1/web-1", Level::Pod, None))
                .unwrap(),
            None
        );
        assert_eq!(hierarchies.clusters(), ["gauntlet-1"]);
    }
}
