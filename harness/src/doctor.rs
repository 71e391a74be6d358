//! What this machine can do: tries each tool, kernel feature and hook, and says what a missing one costs.
//!
//! Everything is tried for real, in a network namespace that nobody else has and that goes away with the trial; nothing is
//! concluded from a version number.

pub mod trial;

use gauntlet_probes::capability::{Capability, HookState};
use gauntlet_probes::{Options, Probes};
use serde::Serialize;

use self::trial::{Trial, trials};

/// What was found of one ability.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// It works.
    Works,
    /// Another way is taken, or a part is missing; runs are possible.
    Degraded,
    /// It is missing and nothing needs it by itself; some faults or signals are not to be had.
    Missing,
    /// It is missing and the main job cannot run.
    Fatal,
}

/// One line of the doctor's report.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// What was tried.
    pub name: String,
    /// What was found.
    pub health: Health,
    /// The evidence: a version, an error, the way taken instead.
    pub detail: String,
    /// What its absence costs and how to get it; empty when it works.
    pub advice: String,
}

/// All that was found.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The kernel's release.
    pub kernel: String,
    /// Tools and kernel features.
    pub machine: Vec<Finding>,
    /// Hooks of the detector, each really attached.
    pub hooks: Vec<Finding>,
}

impl Report {
    /// True when the main job can run.
    #[must_use]
    pub fn can_run(&self) -> bool {
        self.machine
            .iter()
            .chain(&self.hooks)
            .all(|finding| finding.health < Health::Fatal)
    }
}

/// Tries everything.
#[must_use]
pub fn examine() -> Report {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")
        .unwrap_or_default()
        .trim()
        .to_owned();
    Report {
        kernel,
        machine: trials().iter().map(Trial::run).collect(),
        hooks: hooks(),
    }
}

fn hooks() -> Vec<Finding> {
    if !nix::unistd::geteuid().is_root() {
        return vec![Finding {
            name: "hooks".to_owned(),
            health: Health::Fatal,
            detail: "not tried without root".to_owned(),
            advice: "run as root (CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON and CAP_SYS_ADMIN)".to_owned(),
        }];
    }
    match Probes::attach(&Options::default()) {
        Ok(probes) => probes.capabilities().iter().map(hook_finding).collect(),
        Err(error) => vec![Finding {
            name: "hooks".to_owned(),
            health: Health::Fatal,
            detail: error_chain(&error),
            advice: "without it the detector sees nothing".to_owned(),
        }],
    }
}

fn hook_finding(capability: &Capability) -> Finding {
    let (health, detail) = match &capability.state {
        HookState::Attached { via } => (Health::Works, format!("{} via {via}", capability.program)),
        HookState::Degraded { how } => (Health::Degraded, how.clone()),
        HookState::Missing { why } if capability.essential => (Health::Fatal, why.clone()),
        HookState::Missing { why } => (Health::Missing, why.clone()),
    };
    let advice = if health == Health::Works {
        String::new()
    } else {
        format!("not seen: {}", capability.absence_costs)
    };
    Finding {
        name: capability.hook.to_owned(),
        health,
        detail,
        advice,
    }
}

/// An error and its causes on one line.
#[must_use]
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    text
}
