//! `network-bandwidth`, and `network-delay` where the kernel has netem: the one owner of a device's queueing discipline.
//!
//! Each injection states what it demands of a device; the tree is built from all demands that stand, so faults compose
//! and each is undone alone. The demands are a file beside the journal, because any of them may be undone by its own
//! agent, by the harness or by a later process. Never touches `clsact`, which is not part of the tree.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::target::NetnsFd;

use super::packets::{PacketMatch, Returns, bytecode};
use super::tool::{self, ToolError};

/// What one injection demands of one device's egress.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Demand {
    /// No more than this; of several such demands the lowest holds.
    Rate {
        /// Bits per second.
        bits_per_second: u64,
    },
    /// These packets wait.
    Wait {
        /// So long.
        delay: Duration,
        /// Give or take.
        jitter: Duration,
        /// Which.
        packets: PacketMatch,
    },
}

/// The tree could not be made what the demands say.
#[derive(Debug, thiserror::Error)]
pub enum ShapeError {
    /// The demands could not be read or written.
    #[error("failed to keep the demands on {device} in {path}")]
    State {
        /// The device.
        device: String,
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Somebody else shapes it already, and would not get it back.
    #[error("{device} is shaped by somebody else already ({tree})")]
    Occupied {
        /// The device.
        device: String,
        /// What stands there.
        tree: String,
    },
    /// `tc` refused.
    #[error("failed to shape {device}")]
    Tool {
        /// The device.
        device: String,
        /// What it said.
        #[source]
        source: ToolError,
    },
}

/// One device, and where the demands on it are kept.
pub(crate) struct Shaper<'a> {
    /// Namespace of the device.
    pub(crate) netns: &'a NetnsFd,
    /// Its name there.
    pub(crate) device: &'a str,
    /// File with the demands.
    pub(crate) state: &'a Path,
}

impl Shaper<'_> {
    /// Adds the demand of injection `id` and rebuilds.
    pub(crate) fn demand(&self, id: &str, demand: &Demand) -> Result<(), ShapeError> {
        self.update(|demands| {
            demands.insert(id.to_owned(), demand.clone());
        })
    }

    /// Takes the demand of injection `id` back, if it stands, and rebuilds.
    pub(crate) fn release(&self, id: &str) -> Result<(), ShapeError> {
        self.update(|demands| {
            demands.remove(id);
        })
    }

    fn update(&self, change: impl FnOnce(&mut BTreeMap<String, Demand>)) -> Result<(), ShapeError> {
        let state_error = |source| ShapeError::State {
            device: self.device.to_owned(),
            path: self.state.display().to_string(),
            source,
        };
        let lock = File::create(self.state.with_extension("lock")).map_err(state_error)?;
        lock.lock().map_err(state_error)?;
        let mut demands = read(self.state).map_err(state_error)?;
        let before = demands.clone();
        let tree = Tree::of(&self.tc("qdisc show")?);
        change(&mut demands);
        if let (Tree::Foreign(tree), false) = (&tree, demands.is_empty()) {
            return Err(ShapeError::Occupied {
                device: self.device.to_owned(),
                tree: tree.clone(),
            });
        }
        // Written first: should the tree fail to follow, the next undo works from what was demanded.
        let text = serde_json::to_vec(&demands).expect("demands are plain data");
        fs::write(self.state, text).map_err(state_error)?;
        for line in plan(&before, &demands, self.device, tree == Tree::Ours) {
            self.tc_line(&line)?;
        }
        Ok(())
    }

    fn tc(&self, what: &str) -> Result<String, ShapeError> {
        self.tc_line(&format!("{what} dev {} root", self.device))
    }

    fn tc_line(&self, line: &str) -> Result<String, ShapeError> {
        tool::tc(self.netns, line).map_err(|source| ShapeError::Tool {
            device: self.device.to_owned(),
            source,
        })
    }
}

/// What stands on a device.
#[derive(Debug, PartialEq, Eq)]
enum Tree {
    /// What the kernel puts there by itself.
    Default,
    /// What we put there: known by kind and handle.
    Ours,
    /// Anything else.
    Foreign(String),
}

impl Tree {
    fn of(listing: &str) -> Self {
        let root = listing.lines().next().unwrap_or_default().trim();
        match root.split_whitespace().collect::<Vec<_>>()[..] {
            [] | [_, _, "0:", ..] => Self::Default,
            [_, "tbf", "1:", ..] | [_, "prio", "2:", ..] => Self::Ours,
            _ => Self::Foreign(root.to_owned()),
        }
    }
}

fn read(path: &Path) -> std::io::Result<BTreeMap<String, Demand>> {
    match fs::read(path) {
        Ok(text) => serde_json::from_slice(&text).map_err(std::io::Error::other),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(error) => Err(error),
    }
}

/// The `tc` lines that lead from one set of demands to another.
fn plan(
    before: &BTreeMap<String, Demand>,
    after: &BTreeMap<String, Demand>,
    device: &str,
    tree_present: bool,
) -> Vec<String> {
    let has_waits = |demands: &BTreeMap<String, Demand>| demands.values().any(|one| matches!(one, Demand::Wait { .. }));
    let mut lines = Vec::new();
    // A change of a lone limit keeps the packets that are queued; anything else is built anew.
    if tree_present && (after.is_empty() || has_waits(before) || has_waits(after)) {
        lines.push(format!("qdisc del dev {device} root"));
    }
    let rates = after.values().filter_map(|demand| match demand {
        Demand::Rate { bits_per_second } => Some(*bits_per_second),
        Demand::Wait { .. } => None,
    });
    let mut parent = "root".to_owned();
    if let Some(rate) = rates.min() {
        lines.push(format!(
            "qdisc replace dev {device} root handle 1: tbf {}",
            bucket(rate)
        ));
        parent = "parent 1:1".to_owned();
    }
    let waits: Vec<_> = after
        .values()
        .filter_map(|demand| match demand {
            Demand::Wait { delay, jitter, packets } => Some((delay, jitter, packets)),
            Demand::Rate { .. } => None,
        })
        .collect();
    if waits.is_empty() {
        return lines;
    }
    // Band 1 takes what no filter claims; the priority field of packets chooses nothing.
    let map = ["0"; 16].join(" ");
    lines.push(format!(
        "qdisc add dev {device} {parent} handle 2: prio bands {} priomap {map}",
        waits.len().max(1) + 1
    ));
    for (index, (delay, jitter, packets)) in waits.into_iter().enumerate() {
        let (band, leaf) = (index + 2, index + 16);
        let (delay, jitter) = (delay.as_micros(), jitter.as_micros());
        lines.push(format!(
            "qdisc add dev {device} parent 2:{band} handle {leaf}: netem limit 20000 delay {delay}us {jitter}us"
        ));
        let code = bytecode(packets, 1.0, Returns::CLASSIFY);
        lines.push(format!(
            "filter add dev {device} parent 2: protocol ip pref {band} bpf bytecode '{code}' flowid 2:{band}"
        ));
    }
    lines
}

/// The bucket holds 10 ms at full rate, but always a few packets; the queue holds 100 ms more.
fn bucket(bits_per_second: u64) -> String {
    format!(
        "rate {bits_per_second}bit burst {} latency 100ms",
        bucket_bytes(bits_per_second)
    )
}

/// Bytes that may pass at once.
pub(crate) fn bucket_bytes(bits_per_second: u64) -> u64 {
    (bits_per_second / 8 / 100).clamp(8_192, 64 << 20)
}

/// Whether the kernel has netem, found by trying it in a namespace made for the purpose.
pub(crate) fn has_netem() -> bool {
    static FOUND: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    *FOUND.get_or_init(|| {
        let trial = std::thread::spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).ok()?;
            let arguments = ["qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms"];
            std::process::Command::new("tc")
                .args(arguments)
                .stderr(std::process::Stdio::null())
                .status()
                .ok()
        });
        trial.join().ok().flatten().is_some_and(|status| status.success())
    })
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::super::packets::Way;
    use super::*;

    fn check(before: &[Demand], after: &[Demand], expected: Expect) {
        let named = |demands: &[Demand]| {
            demands
                .iter()
                .enumerate()
                .map(|(index, demand)| (format!("f{index}"), demand.clone()))
                .collect()
        };
        expected.assert_eq(&plan(&named(before), &named(after), "eth0", !before.is_empty()).join("\n"));
    }

    fn rate(bits_per_second: u64) -> Demand {
        Demand::Rate { bits_per_second }
    }

    fn wait() -> Demand {
        let packets = PacketMatch {
            way: Way::Out,
            port: None,
            peers: vec![],
        };
        Demand::Wait {
            delay: Duration::from_millis(50),
            jitter: Duration::from_millis(5),
            packets,
        }
    }

    #[test]
    fn a_tree_of_somebody_else_is_left_alone() {
        assert_eq!(Tree::of("qdisc noqueue 0: root refcnt 2 \n"), Tree::Default);
        assert_eq!(
            Tree::of("qdisc tbf 1: root refcnt 2 rate 8Mbit burst 10000b lat 100ms \n"),
            Tree::Ours
        );
        let foreign = "qdisc htb 1: root refcnt 2 r2q 10";
        assert_eq!(Tree::of(foreign), Tree::Foreign(foreign.to_owned()));
    }

    #[test]
    fn the_lowest_rate_holds_and_a_change_keeps_the_queue() {
        check(
            &[rate(8_000_000)],
            &[rate(8_000_000), rate(4_000_000)],
            expect![[r#"qdisc replace dev eth0 root handle 1: tbf rate 4000000bit burst 8192 latency 100ms"#]],
        );
    }

    #[test]
    fn rate_and_delay_stand_in_one_tree() {
        check(
            &[rate(80_000_000)],
            &[rate(80_000_000), wait()],
            expect![[r#"
            qdisc del dev eth0 root
            qdisc replace dev eth0 root handle 1: tbf rate 80000000bit burst 100000 latency 100ms
            qdisc add dev eth0 parent 1:1 handle 2: prio bands 2 priomap 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0
            qdisc add dev eth0 parent 2:2 handle 16: netem limit 20000 delay 50000us 5000us
            filter add dev eth0 parent 2: protocol ip pref 2 bpf bytecode '5,48 0 0 23,21 1 0 6,21 0 1 17,6 0 0 4294967295,6 0 0 0' flowid 2:2"#]],
        );
    }

    #[test]
    fn the_last_release_leaves_nothing() {
        check(&[wait()], &[], expect!["qdisc del dev eth0 root"]);
    }
}
