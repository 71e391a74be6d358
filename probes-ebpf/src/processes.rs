//! Starts and ends of processes of known cgroups.

use core::ffi::c_void;

use aya_ebpf::helpers::bpf_get_current_comm;
use aya_ebpf::helpers::generated::{bpf_get_current_ancestor_cgroup_id, bpf_get_current_pid_tgid, bpf_ktime_get_ns};
use aya_ebpf::macros::{btf_tracepoint, raw_tracepoint};
use aya_ebpf::programs::{BtfTracePointContext, RawTracePointContext};
use gauntlet_abi::record::{CGROUP_LEVELS, EVENT_EXEC, EVENT_EXIT, EVENT_OOM, Event, LOST_EVENTS};

use crate::kernel::{field, offset, probe};
use crate::maps::{CGROUPS, EVENTS, OOM_VICTIMS, count_lost};

/// Hook: `sched_process_exec`. Fires in the process that executed a program.
#[btf_tracepoint(function = "sched_process_exec")]
pub fn process_exec(_ctx: BtfTracePointContext) -> i32 {
    emit(EVENT_EXEC, 0);
    0
}

/// The same where BTF tracepoints are refused.
#[raw_tracepoint(tracepoint = "sched_process_exec")]
pub fn process_exec_raw(_ctx: RawTracePointContext) -> i32 {
    emit(EVENT_EXEC, 0);
    0
}

/// Hook: `sched_process_exit`. Fires in each thread that ends; only the end of the last one is that of the process.
#[btf_tracepoint(function = "sched_process_exit")]
pub fn process_exit(ctx: BtfTracePointContext) -> i32 {
    let group_dead = if offset!(exit_has_group_dead) != 0 {
        ctx.arg::<u64>(1)
    } else {
        UNTOLD
    };
    exited(ctx.arg::<*const c_void>(0) as u64, group_dead);
    0
}

/// The same where BTF tracepoints are refused.
#[raw_tracepoint(tracepoint = "sched_process_exit")]
pub fn process_exit_raw(ctx: RawTracePointContext) -> i32 {
    let group_dead = if offset!(exit_has_group_dead) != 0 {
        ctx.arg::<u64>(1)
    } else {
        UNTOLD
    };
    exited(ctx.arg(0), group_dead);
    0
}

/// The tracepoint does not say whether the whole group is dead.
const UNTOLD: u64 = u64::MAX;

#[inline(always)]
fn exited(task: u64, group_dead: u64) {
    let Some(tgid) = probe::<u32>(task, offset!(task_tgid)) else {
        return;
    };
    // Where it is untold, the end of the first thread stands for that of the process.
    let is_last = if group_dead == UNTOLD {
        probe(task, offset!(task_pid)) == Some(tgid)
    } else {
        group_dead & 1 != 0
    };
    if !is_last {
        return;
    }
    let exit_code = probe::<u32>(task, offset!(task_exit_code)).unwrap_or(0);
    let kind = if OOM_VICTIMS.get_ptr(tgid).is_some() {
        let _ = OOM_VICTIMS.remove(tgid);
        EVENT_OOM
    } else {
        EVENT_EXIT
    };
    emit(kind, exit_code);
}

/// Hook: `mark_victim`, its task argument since 6.9. Fires in whoever ran out of memory; the victim's own end tells where
/// it lived.
#[btf_tracepoint(function = "mark_victim")]
pub fn oom_victim(ctx: BtfTracePointContext) -> i32 {
    let task: *const c_void = ctx.arg(0);
    // SAFETY: the first argument is a task.
    let tgid: u32 = unsafe { field(task, offset!(task_tgid)) };
    let _ = OOM_VICTIMS.insert(tgid, 1, 0);
    0
}

/// The innermost known cgroup of the current process; 0 if there is none (an `Option` would leave a register unwritten,
/// which the verifier refuses).
#[inline(always)]
fn known_cgroup() -> u64 {
    let mut found = 0;
    for level in 1..=CGROUP_LEVELS {
        // SAFETY: a helper without preconditions; 0 below the process's own level.
        let id = unsafe { bpf_get_current_ancestor_cgroup_id(level as i32) };
        if id == 0 {
            break;
        }
        if CGROUPS.get_ptr(id).is_some() {
            found = id;
        }
    }
    found
}

#[inline(always)]
fn emit(kind: u32, exit_code: u32) {
    let cgroup_id = known_cgroup();
    if cgroup_id == 0 {
        return;
    }
    let Some(mut entry) = EVENTS.reserve::<Event>(0) else {
        count_lost(LOST_EVENTS);
        return;
    };
    let comm = bpf_get_current_comm().unwrap_or([0; 16]);
    // SAFETY: helpers without preconditions.
    let (tgid, at_ns) = unsafe { ((bpf_get_current_pid_tgid() >> 32) as u32, bpf_ktime_get_ns()) };
    entry.write(Event {
        at_ns,
        cgroup_id,
        kind,
        tgid,
        exit_code,
        reserved: 0,
        comm,
    });
    // The reader drains the ring on each tick; waking it for every event would cost more than the event.
    const NO_WAKEUP: u64 = 1;
    entry.submit(NO_WAKEUP);
}
