//! A process as the holder of something on disk, told from a later process with the same number.

use std::fs;

use serde::{Deserialize, Serialize};

/// A process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Holder {
    /// Its process id.
    pub tgid: u32,
    /// When it was started, clock ticks since boot: process ids are used again.
    pub started_ticks: u64,
}

impl Holder {
    /// This process.
    ///
    /// # Panics
    /// When `/proc` is not mounted, without which nothing here works.
    #[must_use]
    pub fn this_process() -> Self {
        let tgid = std::process::id();
        let started_ticks = started_ticks(tgid).expect("the kernel tells when this process was started");
        Self { tgid, started_ticks }
    }

    /// Whether that very process still runs.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        started_ticks(self.tgid) == Some(self.started_ticks)
    }
}

/// When the process was started, unless there is none or nobody has reaped it yet: field 22 of `/proc/PID/stat`. The
/// process's name, which may hold anything, ends with the last parenthesis; its state is next.
pub(crate) fn started_ticks(tgid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{tgid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?;
    (!matches!(state, "Z" | "X")).then_some(())?;
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_is_one_process_and_no_later_one() {
        let this = Holder::this_process();
        assert!(this.is_alive());
        let later = Holder {
            started_ticks: this.started_ticks + 1,
            ..this
        };
        assert!(!later.is_alive());
    }
}
