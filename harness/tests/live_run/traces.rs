//! What a run makes in the kernel and on disk, noted while it lives, and which of it is still there afterwards.
//!
//! Looks only at what belongs to the one run, so that other runs on the machine do no harm.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aya::programs::loaded_programs;

/// Beginning of the names of all that a cluster makes; eight hexadecimal digits follow.
const PREFIX: &str = "gauntlet-";

/// Everything by which a run can be recognised.
#[derive(Debug, Default)]
pub(crate) struct Traces {
    /// Its processes, with their start in clock ticks: process ids are used again.
    processes: BTreeMap<i32, u64>,
    /// Its network namespaces, by inode.
    netns: BTreeSet<PathBuf>,
    /// Names of its clusters.
    clusters: BTreeSet<String>,
    /// Its kernel programs, by id.
    programs: BTreeSet<u32>,
}

impl Traces {
    /// Of the process and all its descendants.
    pub(crate) fn of(root: i32) -> Self {
        let host = fs::read_link("/proc/self/ns/net").expect("this process has a network namespace");
        let mut traces = Self::default();
        for tgid in tree(root) {
            traces.processes.extend(started_ticks(tgid).map(|ticks| (tgid, ticks)));
            traces
                .netns
                .extend(namespaces_of(tgid).into_iter().filter(|netns| *netns != host));
            traces.programs.extend(programs_of(tgid));
            traces.clusters.extend(clusters_of(tgid));
        }
        traces
    }

    /// How much there is of each kind: a test that finds nothing left must have seen something before.
    pub(crate) fn counts(&self) -> String {
        format!(
            "{} processes, {} network namespaces, {} kernel programs",
            self.processes.len(),
            self.netns.len(),
            self.programs.len()
        )
    }

    /// True if processes, namespaces and programs were seen, and the kernel's own list has these programs: whoever finds
    /// nothing in that list later must have found them in it before.
    pub(crate) fn is_of_a_whole_run(&self) -> bool {
        let seen = self.processes.len() > 5 && self.netns.len() > 5 && self.clusters.len() == 1;
        seen && !self.programs.is_empty() && self.programs.is_subset(&loaded())
    }

    /// What is still there after `patience` at the most.
    pub(crate) fn remains(&self, patience: Duration) -> Vec<String> {
        let deadline = Instant::now() + patience;
        loop {
            let remains = self.remains_now();
            if remains.is_empty() || Instant::now() >= deadline {
                return remains;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn remains_now(&self) -> Vec<String> {
        let mut remains = Vec::new();
        for tgid in all_processes() {
            let is_ours = self
                .processes
                .get(&tgid)
                .is_some_and(|ticks| started_ticks(tgid) == Some(*ticks));
            let bears_the_name = || {
                let text = format!("{} {}", words(tgid).join(" "), read(tgid, "cgroup"));
                self.clusters.iter().any(|cluster| text.contains(cluster.as_str()))
            };
            if is_ours || bears_the_name() {
                remains.push(format!("process {tgid}: {}", words(tgid).join(" ")));
            }
            let held = namespaces_of(tgid)
                .into_iter()
                .filter(|netns| self.netns.contains(netns));
            remains.extend(held.map(|netns| format!("process {tgid} holds {}", netns.display())));
        }
        remains.extend(
            self.clusters
                .iter()
                .flat_map(|cluster| paths(cluster))
                .map(|path| path.display().to_string()),
        );
        remains.extend(
            loaded()
                .intersection(&self.programs)
                .map(|id| format!("kernel program {id}")),
        );
        remains
    }
}

/// Ids of all programs in the kernel.
fn loaded() -> BTreeSet<u32> {
    // A program that goes while the list is read is an error for its place in the list only.
    loaded_programs().flatten().map(|program| program.id()).collect()
}

/// Directories and files with the cluster's name.
fn paths(cluster: &str) -> Vec<PathBuf> {
    let hierarchies = fs::read_dir("/sys/fs/cgroup")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    let places = hierarchies.chain([PathBuf::from("/sys/fs/cgroup"), std::env::temp_dir()]);
    let paths = places.flat_map(|place| [place.join(cluster), place.join(format!("{cluster}.owner.json"))]);
    paths.filter(|path| path.exists()).collect()
}

fn all_processes() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").expect("there is a /proc").flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The process and its descendants.
fn tree(root: i32) -> BTreeSet<i32> {
    let callers: Vec<(i32, i32)> = all_processes().filter_map(|tgid| Some((tgid, parent(tgid)?))).collect();
    let mut tree = BTreeSet::from([root]);
    loop {
        let before = tree.len();
        tree.extend(
            callers
                .iter()
                .filter(|(_, parent)| tree.contains(parent))
                .map(|(tgid, _)| *tgid)
                .collect::<Vec<_>>(),
        );
        if tree.len() == before {
            return tree;
        }
    }
}

/// Fields of `/proc/TGID/stat` from the third on: a name before them may hold anything.
fn stat(tgid: i32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{tgid}/stat")).ok()?;
    Some(text.rsplit_once(") ")?.1.split(' ').map(ToOwned::to_owned).collect())
}

fn parent(tgid: i32) -> Option<i32> {
    stat(tgid)?.get(1)?.parse().ok()
}

/// When it was started, unless it is dead already.
fn started_ticks(tgid: i32) -> Option<u64> {
    let fields = stat(tgid)?;
    (!matches!(fields.first()?.as_str(), "Z" | "X")).then_some(())?;
    fields.get(19)?.parse().ok()
}

fn read(tgid: i32, file: &str) -> String {
    String::from_utf8_lossy(&fs::read(format!("/proc/{tgid}/{file}")).unwrap_or_default()).into_owned()
}

fn words(tgid: i32) -> Vec<String> {
    read(tgid, "cmdline")
        .split('\0')
        .filter(|word| !word.is_empty())
        .map(ToOwned::to_owned)
        .collect()
}

fn clusters_of(tgid: i32) -> Vec<String> {
    let is_name = |word: &str| {
        let id = word.strip_prefix(PREFIX).unwrap_or_default();
        id.len() == 8 && id.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    words(tgid).into_iter().filter(|word| is_name(word)).collect()
}

/// The network namespace it is in and those of which it has a descriptor, as links name them.
fn namespaces_of(tgid: i32) -> Vec<PathBuf> {
    let links = descriptors(tgid)
        .into_iter()
        .filter_map(|(path, _)| fs::read_link(path).ok());
    let own = fs::read_link(format!("/proc/{tgid}/ns/net")).ok();
    links
        .chain(own)
        .filter(|link| link.as_os_str().as_encoded_bytes().starts_with(b"net:["))
        .collect()
}

/// Kernel programs of which it has a descriptor, or a descriptor of a link to them.
fn programs_of(tgid: i32) -> Vec<u32> {
    let infos = descriptors(tgid)
        .into_iter()
        .filter_map(|(_, info)| fs::read_to_string(info).ok());
    let ids = infos.filter_map(|info| {
        info.lines()
            .find_map(|line| line.strip_prefix("prog_id:")?.trim().parse().ok())
    });
    ids.collect()
}

/// Each descriptor: its link, and what the kernel tells of it.
fn descriptors(tgid: i32) -> Vec<(PathBuf, PathBuf)> {
    let process = PathBuf::from(format!("/proc/{tgid}"));
    let open = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    open.map(|fd| (fd.path(), process.join("fdinfo").join(Path::new(&fd.file_name()))))
        .collect()
}
