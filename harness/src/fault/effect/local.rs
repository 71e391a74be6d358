//! Effects that show in a pod's own processes and cgroup, or at the workload.
//!
//! Reads files; sends nothing.

use std::collections::BTreeMap;

use gauntlet_probes::entity::PodName;

use crate::target::PodHandle;

use super::super::cpu::{self, Quota};
use super::super::flush::KeyCount;
use super::super::injector::Injector;
use super::super::process;
use super::{Before, Measurement, Question, Reading};

/// Physics: a killed process is gone; whatever runs in the pod now is another.
pub(super) fn killed(pod: &PodHandle, before: &Before) -> Reading {
    let now = process::tgids(&pod.cgroup.unified);
    let old = before.tgids.get(&pod.name).cloned().unwrap_or_default();
    let surviving = old.intersection(&now).count();
    let measured = format!(
        "{}: {surviving} of {} processes survive, {} run now",
        pod.name,
        old.len(),
        now.len()
    );
    Reading {
        bites: !old.is_empty() && surviving == 0,
        measured,
    }
}

/// Physics: a process in state `T` executes nothing.
pub(super) fn paused(pod: &PodHandle) -> Measurement {
    let tgids = process::tgids(&pod.cgroup.unified);
    if tgids.is_empty() {
        return Err(format!("{} has no processes", pod.name));
    }
    let stopped = tgids.iter().filter(|tgid| process::is_stopped(**tgid)).count();
    let measured = format!("{}: {stopped} of {} processes are stopped", pod.name, tgids.len());
    Ok(Reading {
        bites: stopped == tgids.len(),
        measured,
    })
}

/// Physics: a limit that bites makes the scheduler throttle the cgroup; one that never throttles is felt by nobody.
pub(super) fn limited(pod: &PodHandle, millicores: u32, before: &Before, question: Question) -> Measurement {
    let read = |error: std::io::Error| format!("{}: {error}", pod.name);
    let quota = Quota::read(&pod.cgroup.cpu).map_err(read)?;
    let throttled = cpu::throttled_count(&pod.cgroup.cpu).map_err(read)?;
    let since = throttled.saturating_sub(before.throttled.get(&pod.name).copied().unwrap_or(0));
    let set = quota == Quota::of(millicores, &quota);
    let measured = format!(
        "{}: quota {}, throttled {since} times since the injection",
        pod.name, quota.value
    );
    let bites = match question {
        Question::Bites => set && since > 0,
        Question::Recovered => before.quotas.get(&pod.name).is_some_and(|old| *old != quota),
    };
    Ok(Reading { bites, measured })
}

/// Physics: keys before, none after, both counted on the connection that flushed.
pub(super) fn flushed(pod: &PodHandle, keys: &BTreeMap<PodName, KeyCount>) -> Measurement {
    let count = keys
        .get(&pod.name)
        .ok_or_else(|| format!("{}: its keys were not counted", pod.name))?;
    let measured = format!("{}: {} keys before, {} after", pod.name, count.before, count.after);
    Ok(Reading {
        bites: count.before > 0 && count.after == 0,
        measured,
    })
}

/// Physics: arrivals are open-loop, so a factor shows in their rate whatever the system does; half of it must.
pub(super) fn load(injector: &Injector, factor: f64) -> Measurement {
    let ratio = injector
        .control()
        .offered_load_ratio()
        .ok_or("the workload has no full second to tell of yet")?;
    let halfway = 1.0 + (factor - 1.0) / 2.0;
    let bites = if factor >= 1.0 {
        ratio >= halfway
    } else {
        ratio <= halfway
    };
    Ok(Reading {
        bites: bites && factor != 1.0,
        measured: format!("{ratio:.2} times the arrivals of the plan"),
    })
}
