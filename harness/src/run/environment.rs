//! `environment.json`: on what a run took place, so that two results can be compared or told apart.

use serde::{Deserialize, Serialize};

/// The machine and the versions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Environment {
    /// Version of the harness.
    pub gauntlet: String,
    /// Kernel release.
    pub kernel: String,
    /// Processors.
    pub cpu_count: usize,
    /// Memory, bytes.
    pub memory_bytes: u64,
    /// The distribution.
    pub system: String,
    /// The detector, in its own words.
    pub detector: String,
    /// What it works without, in its own words.
    pub degraded: Vec<String>,
    /// How delays are made here.
    pub delay_by: String,
    /// The cluster, in words, where it is not this machine alone: its kind, version, context and nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

impl Environment {
    /// This machine, with the cluster `target` on it.
    #[must_use]
    pub fn here(detector: &str, degraded: &[String], delay_by: &str, target: Option<String>) -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, key: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(key))
                .unwrap_or_default()
                .trim()
                .trim_matches('"')
                .to_owned()
        };
        let memory_kib = field(&read("/proc/meminfo"), "MemTotal:")
            .trim_end_matches(" kB")
            .parse::<u64>()
            .unwrap_or(0);
        Self {
            gauntlet: env!("CARGO_PKG_VERSION").to_owned(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            cpu_count: std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
            memory_bytes: memory_kib * 1024,
            system: field(&read("/etc/os-release"), "PRETTY_NAME="),
            detector: detector.to_owned(),
            degraded: degraded.to_vec(),
            delay_by: delay_by.to_owned(),
            target,
        }
    }
}
