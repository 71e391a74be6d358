//! From the kernel's events to starts and ends of pods' processes.

use std::collections::HashMap;

use gauntlet_abi::record::{EVENT_EXEC, EVENT_EXIT, EVENT_OOM, Event};

use crate::entity::PodName;
use crate::frame::{ProcessEvent, ProcessEventKind};
use crate::identity::Identity;
use crate::usage::Hierarchies;

/// Pods by the identity of their cgroup.
#[derive(Debug, Default)]
pub(crate) struct ProcessNames {
    pods: HashMap<u64, PodName>,
}

impl ProcessNames {
    /// Learns the cgroups of the inventory's pods.
    pub(crate) fn index(&mut self, identity: &Identity, hierarchies: &Hierarchies) {
        self.pods = identity
            .pods()
            .filter_map(|pod| Some((hierarchies.cgroup_id(pod.cgroup.as_deref()?)?, pod.name.clone())))
            .collect();
    }

    /// The cgroups whose processes are wanted.
    pub(crate) fn wanted(&self) -> Vec<u64> {
        self.pods.keys().copied().collect()
    }

    /// Events of pods, in order of their time.
    pub(crate) fn events(&self, events: &[Event]) -> Vec<ProcessEvent> {
        let mut told: Vec<_> = events
            .iter()
            .filter_map(|event| {
                let length = event
                    .comm
                    .iter()
                    .position(|byte| *byte == 0)
                    .unwrap_or(event.comm.len());
                Some(ProcessEvent {
                    at_ns: event.at_ns,
                    pod: self.pods.get(&event.cgroup_id)?.clone(),
                    tgid: event.tgid,
                    comm: String::from_utf8_lossy(&event.comm[..length]).into_owned(),
                    kind: kind(event.kind, event.exit_code)?,
                })
            })
            .collect();
        told.sort_by_key(|event| (event.at_ns, event.tgid));
        told
    }
}

/// What an event says; the status is as `wait` encodes it.
fn kind(kind: u32, status: u32) -> Option<ProcessEventKind> {
    let signal = i32::try_from(status & 0x7f).ok()?;
    match kind {
        EVENT_EXEC => Some(ProcessEventKind::Exec),
        EVENT_OOM => Some(ProcessEventKind::OomKilled),
        EVENT_EXIT if signal != 0 => Some(ProcessEventKind::Signalled(signal)),
        EVENT_EXIT => Some(ProcessEventKind::Exited(i32::try_from(status >> 8 & 0xff).ok()?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use gauntlet_abi::record::{EVENT_EXIT, EVENT_OOM};

    use super::kind;
    use crate::frame::ProcessEventKind;

    #[test]
    fn a_status_is_a_signal_or_a_code() {
        assert_eq!(kind(EVENT_EXIT, 0x0300), Some(ProcessEventKind::Exited(3)));
        assert_eq!(kind(EVENT_EXIT, 0x89), Some(ProcessEventKind::Signalled(9)));
        assert_eq!(kind(EVENT_OOM, 9), Some(ProcessEventKind::OomKilled));
        assert_eq!(kind(77, 0), None);
    }
}
