//! Compares the state of kernel objects before and after a run: what a fault may touch, and nothing that merely counts.
//!
//! Reads only. Says what differs, not whose fault it is.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::fault::process;
use crate::target::namespace::run_in_netns;
use crate::target::{CgroupPaths, NetnsFd, NodeHandle, PodHandle};

/// Kernel settings of a namespace that networking faults and their tools could change.
const SETTINGS: [&str; 9] = [
    "ipv4/ip_forward",
    "ipv4/tcp_congestion_control",
    "ipv4/tcp_syn_retries",
    "ipv4/tcp_retries2",
    "ipv4/conf/all/rp_filter",
    "ipv4/conf/eth0/rp_filter",
    "ipv4/conf/all/route_localnet",
    "ipv4/ip_local_port_range",
    "core/somaxconn",
];
const LIMIT_FILES: [&str; 7] = [
    "cpu.max",
    "cpu.cfs_quota_us",
    "cpu.cfs_period_us",
    "memory.max",
    "memory.limit_in_bytes",
    "freezer.state",
    "cgroup.freeze",
];

/// A place: a pod, a node or the host.
type Place = String;
/// What is looked at there, for example `nft`.
type Section = String;

/// Facts by place and section.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ResidueState(BTreeMap<Place, BTreeMap<Section, BTreeSet<String>>>);

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// Where.
    pub place: String,
    /// In what.
    pub section: String,
    /// Whether it came or went.
    pub change: Change,
    /// The fact.
    pub fact: String,
}

/// Which way a fact changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// It was not there before.
    Left,
    /// It is no longer there.
    Missing,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let change = match self.change {
            Change::Left => "left",
            Change::Missing => "missing",
        };
        write!(f, "{}: {} {change}: {}", self.place, self.section, self.fact)
    }
}

/// The state of these pods and nodes.
#[must_use]
pub fn snapshot(pods: &[PodHandle], nodes: &[NodeHandle]) -> ResidueState {
    let pods = pods.iter().map(|pod| (pod_place(pod), &pod.netns, &pod.cgroup));
    let nodes = nodes
        .iter()
        .map(|node| (format!("node {}", node.name), &node.netns, &node.cgroup));
    let places: Vec<_> = pods.chain(nodes).collect();
    // A few at a time: each runs some tools, and the machine has other things to do.
    let mut state = BTreeMap::new();
    for some in places.chunks(4) {
        std::thread::scope(|scope| {
            let threads: Vec<_> = some
                .iter()
                .map(|(place, netns, cgroup)| scope.spawn(move || (place.clone(), of_place(netns, cgroup))))
                .collect();
            let facts = threads
                .into_iter()
                .map(|thread| thread.join().expect("reading state does not panic"));
            state.extend(facts);
        });
    }
    ResidueState(state)
}

/// The state of the host itself: what a run may leave outside all pods and nodes.
///
/// `own` is the prefix of names of our cgroups and named namespaces.
#[must_use]
pub fn host_snapshot(own: &str) -> ResidueState {
    let mut facts = BTreeMap::new();
    facts.insert("links".to_owned(), printed("ip", &["-br", "link"], first_word));
    facts.insert("routes".to_owned(), routes());
    facts.insert("qdiscs".to_owned(), printed("tc", &["qdisc", "show"], whole_line));
    facts.insert("nft tables".to_owned(), printed("nft", &["list", "tables"], whole_line));
    facts.insert("iptables".to_owned(), iptables());
    facts.insert("named namespaces".to_owned(), names(Path::new("/run/netns"), ""));
    let hierarchies = names(Path::new("/sys/fs/cgroup"), "")
        .into_iter()
        .map(|name| format!("/sys/fs/cgroup/{name}"));
    let cgroups = hierarchies.chain(["/sys/fs/cgroup".to_owned()]).flat_map(|hierarchy| {
        names(Path::new(&hierarchy), own)
            .into_iter()
            .map(move |name| format!("{hierarchy}/{name}"))
    });
    facts.insert("cgroups".to_owned(), cgroups.collect());
    ResidueState(BTreeMap::from([("host".to_owned(), facts)]))
}

impl ResidueState {
    /// Forgets pods that exist no more, and with them everything that was theirs.
    pub fn forget(&mut self, pods: &[PodHandle]) {
        self.0
            .retain(|place, _| !pods.iter().any(|pod| *place == pod_place(pod)));
    }
}

fn pod_place(pod: &PodHandle) -> Place {
    format!("pod {}", pod.name)
}

/// What is in one state and not in the other.
#[must_use]
pub fn diff(before: &ResidueState, after: &ResidueState) -> Vec<Finding> {
    let one_way = |from: &ResidueState, to: &ResidueState, change| {
        let mut findings = Vec::new();
        for (place, sections) in &from.0 {
            for (section, facts) in sections {
                let known = to.0.get(place).and_then(|sections| sections.get(section));
                let other = facts
                    .iter()
                    .filter(|fact| known.is_none_or(|known| !known.contains(*fact)));
                findings.extend(other.map(|fact| Finding {
                    place: place.clone(),
                    section: section.clone(),
                    change,
                    fact: fact.clone(),
                }));
            }
        }
        findings
    };
    let mut findings = one_way(after, before, Change::Left);
    findings.extend(one_way(before, after, Change::Missing));
    findings
}

fn of_place(netns: &NetnsFd, cgroup: &CgroupPaths) -> BTreeMap<Section, BTreeSet<String>> {
    let mut facts = run_in_netns(netns, of_netns)
        .unwrap_or_else(|error| BTreeMap::from([("namespace".to_owned(), BTreeSet::from([error.to_string()]))]));
    facts.insert("limits".to_owned(), limits(cgroup));
    let stopped = process::tgids(&cgroup.unified)
        .into_iter()
        .filter(|tgid| process::is_stopped(*tgid));
    facts.insert(
        "stopped processes".to_owned(),
        stopped.map(|tgid| tgid.to_string()).collect(),
    );
    facts
}

fn of_netns() -> BTreeMap<Section, BTreeSet<String>> {
    let qdiscs = printed("tc", &["qdisc", "show"], whole_line);
    let devices: BTreeSet<String> = qdiscs
        .iter()
        .filter(|line| line.contains("clsact"))
        .filter_map(|line| Some(line.split(" dev ").nth(1)?.split(' ').next()?.to_owned()))
        .collect();
    let mut filters = BTreeSet::new();
    for device in devices {
        for hook in ["ingress", "egress"] {
            let lines = printed("tc", &["filter", "show", "dev", &device, hook], whole_line);
            filters.extend(lines.into_iter().map(|line| format!("{device} {hook}: {line}")));
        }
    }
    BTreeMap::from([
        ("qdiscs".to_owned(), qdiscs),
        ("filters".to_owned(), filters),
        ("links".to_owned(), printed("ip", &["-br", "link"], name_and_switch)),
        ("addresses".to_owned(), addresses()),
        ("routes".to_owned(), routes()),
        ("nft".to_owned(), nft()),
        ("iptables".to_owned(), iptables()),
        ("settings".to_owned(), settings()),
    ])
}

/// Rules with the chain that they stand in, without counters.
fn nft() -> BTreeSet<String> {
    let mut path: Vec<String> = Vec::new();
    let mut facts = BTreeSet::new();
    for line in output("nft", &["-s", "list", "ruleset"])
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
    {
        match line.strip_suffix('{') {
            Some(opened) => path.push(opened.trim().to_owned()),
            None if line == "}" => drop(path.pop()),
            None => drop(facts.insert(format!("{}: {line}", path.join(" / ")))),
        }
    }
    facts
}

/// Chains and rules of legacy tables. An empty built-in chain that accepts is what a table is born with.
fn iptables() -> BTreeSet<String> {
    let text = output("iptables-legacy-save", &[]);
    let mut table = "";
    let mut facts = BTreeSet::new();
    for line in text.lines() {
        match line.as_bytes().first() {
            Some(b'*') => table = line,
            Some(b':') if line.contains(" ACCEPT ") => {}
            Some(b':') => drop(facts.insert(format!("{table} {}", first_word(line)))),
            Some(b'-') => drop(facts.insert(format!("{table} {line}"))),
            _ => {}
        }
    }
    facts
}

fn settings() -> BTreeSet<String> {
    // The kernel shows below this path the settings of the namespace of the thread that opens it.
    let facts = SETTINGS.iter().filter_map(|name| {
        let value = fs::read_to_string(format!("/proc/sys/net/{name}")).ok()?;
        Some(format!(
            "{name} = {}",
            value.split_whitespace().collect::<Vec<_>>().join(" ")
        ))
    });
    facts.collect()
}

fn limits(cgroup: &CgroupPaths) -> BTreeSet<String> {
    let directories = BTreeSet::from([&cgroup.unified, &cgroup.cpu, &cgroup.memory, &cgroup.freezer]);
    let facts = directories.iter().flat_map(|directory| {
        LIMIT_FILES.iter().filter_map(move |file| {
            let value = fs::read_to_string(directory.join(file)).ok()?;
            Some(format!("{} = {}", directory.join(file).display(), value.trim()))
        })
    });
    facts.collect()
}

fn names(directory: &Path, prefix: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with(prefix)).collect()
}

fn printed(program: &str, arguments: &[&str], fact: impl Fn(&str) -> String) -> BTreeSet<String> {
    output(program, arguments).lines().map(fact).collect()
}

/// A tool that is missing or refuses says the same before and after, so its words are the fact.
fn output(program: &str, arguments: &[&str]) -> String {
    match Command::new(program).args(arguments).output() {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).into_owned(),
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(error) => format!("{program}: {error}"),
    }
}

fn whole_line(line: &str) -> String {
    // Counts of references change with every socket that looks.
    let words: Vec<&str> = line.split_whitespace().collect();
    let kept = words.iter().enumerate().filter(|(index, word)| {
        **word != "refcnt"
            && index
                .checked_sub(1)
                .and_then(|before| words.get(before))
                .is_none_or(|before| *before != "refcnt")
    });
    kept.map(|(_, word)| *word).collect::<Vec<_>>().join(" ")
}

/// Link-local addresses and routes come by themselves, some time after a link is up.
fn by_itself(word: &str) -> bool {
    word.starts_with("fe80:") || word.starts_with("ff00:")
}

fn routes() -> BTreeSet<String> {
    let all = printed("ip", &["route", "show", "table", "all"], whole_line);
    all.into_iter()
        .filter(|route| !route.split(' ').any(by_itself))
        .collect()
}

/// Device and address, one fact each.
fn addresses() -> BTreeSet<String> {
    let text = output("ip", &["-br", "addr"]);
    let facts = text.lines().flat_map(|line| {
        let mut words = line.split_whitespace();
        let device = words.next().unwrap_or_default();
        let _state = words.next();
        words
            .filter(|address| !by_itself(address))
            .map(move |address| format!("{device} {address}"))
    });
    facts.collect()
}

/// A device, and whether it was switched on; whether it carries is another device's doing.
fn name_and_switch(line: &str) -> String {
    let flags = line.rsplit('<').next().unwrap_or_default().trim_end_matches(['>', ' ']);
    let switch = if flags.split(',').any(|flag| flag == "UP") {
        "on"
    } else {
        "off"
    };
    format!("{} {switch}", first_word(line))
}

fn first_word(line: &str) -> String {
    line.split_whitespace().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(facts: &[&str]) -> ResidueState {
        let facts = facts.iter().map(ToString::to_string).collect();
        ResidueState(BTreeMap::from([(
            "pod a".to_owned(),
            BTreeMap::from([("nft".to_owned(), facts)]),
        )]))
    }

    #[test]
    fn what_came_and_what_went_is_told_apart() {
        let findings = diff(&state(&["one", "two"]), &state(&["two", "three"]));
        let words: Vec<_> = findings.iter().map(ToString::to_string).collect();
        assert_eq!(words, ["pod a: nft left: three", "pod a: nft missing: one"]);
        assert!(diff(&state(&["one"]), &state(&["one"])).is_empty());
    }

    #[test]
    fn a_device_is_its_name_and_switch() {
        let line = "eth0@if2  UP  e2:3f <BROADCAST,MULTICAST,UP,LOWER_UP> ";
        assert_eq!(name_and_switch(line), "eth0@if2 on");
        assert_eq!(name_and_switch("lo DOWN 00:00 <LOOPBACK> "), "lo off");
    }

    #[test]
    fn counts_are_no_facts() {
        assert_eq!(
            whole_line("qdisc noqueue 0: dev lo root refcnt 2 "),
            "qdisc noqueue 0: dev lo root"
        );
    }
}
