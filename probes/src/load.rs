//! Loads the kernel programs and attaches them, each on its own: one that is refused never costs another.
//!
//! Whether a hook works is found out by attaching it, never by a version or by loading alone.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use aya::programs::{BtfTracePoint, CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, ProgramError, RawTracePoint};
use aya::{Btf, Ebpf, EbpfLoader};

use crate::capability::{Attachment, Capability, HOOKS, Hook, HookState, ProgramCost};
use crate::frame::MonotonicNanos;
use crate::kernel_types::{KernelTypes, KernelTypesError};
use crate::run_times::{Counted, RunTimes};

/// The compiled kernel programs; `cargo xtask bpf` builds them.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../bpf/gauntlet.bpf.o");

/// How the probes attach.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Root of the v2 hierarchy; found among the mounts if not given.
    pub cgroup_root: Option<PathBuf>,
}

/// The probes cannot work on this machine.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The kernel does not tell its types.
    #[error(transparent)]
    KernelTypes(#[from] KernelTypesError),
    /// The kernel refused the maps (not root, or no BPF).
    #[error("failed to create the kernel's maps (needs root or CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN)")]
    Load(#[source] Box<aya::EbpfError>),
    /// A map is not in the object.
    #[error("the BPF object has no usable map `{0}`")]
    Map(&'static str),
    /// A hook without which nothing works was refused.
    #[error("essential hook `{hook}` is not available: {why}")]
    Essential {
        /// The hook.
        hook: &'static str,
        /// Why it is not available.
        why: String,
    },
}

/// What was attached; detached when dropped.
pub(crate) struct Loaded {
    pub(crate) ebpf: Ebpf,
    pub(crate) capabilities: Vec<Capability>,
    pub(crate) types: KernelTypes,
    run_times: RunTimes,
}

impl Loaded {
    /// Loads and attaches all hooks.
    pub(crate) fn attach(options: &Options, now_ns: MonotonicNanos) -> Result<Self, AttachError> {
        let types = KernelTypes::of_running_kernel()?;
        let mut ebpf = EbpfLoader::new()
            .override_global("OFFSETS", bytemuck::bytes_of(&types.offsets), true)
            .load(OBJECT)
            .map_err(|error| AttachError::Load(Box::new(error)))?;
        let btf = Btf::from_sys_fs().map_err(|error| AttachError::Load(Box::new(error.into())))?;
        let root = options.cgroup_root.clone().or_else(cgroup2_root);
        let mut capabilities = Vec::new();
        for hook in HOOKS {
            let state = attach_one(&mut ebpf, &btf, &types, root.as_deref(), hook);
            if let (true, HookState::Missing { why }) = (hook.essential, &state) {
                return Err(AttachError::Essential {
                    hook: hook.hook,
                    why: why.clone(),
                });
            }
            capabilities.push(Capability {
                program: hook.program,
                hook: hook.hook,
                essential: hook.essential,
                state,
                absence_costs: hook.absence_costs,
            });
        }
        Ok(Self {
            ebpf,
            capabilities,
            types,
            run_times: RunTimes::new(now_ns),
        })
    }

    /// Samples the programs' run times now and then.
    pub(crate) fn sample_run_times(&mut self, now_ns: MonotonicNanos) {
        let ebpf = &self.ebpf;
        self.run_times.tick(
            now_ns,
            || aya::sys::enable_stats(aya::sys::Stats::RunTime).ok(),
            || counted(ebpf),
        );
    }

    /// What each program has cost, as estimated from the samples.
    pub(crate) fn costs(&self, now_ns: MonotonicNanos) -> Vec<ProgramCost> {
        self.run_times.costs(now_ns, counted(&self.ebpf))
    }
}

/// What the kernel has counted of each program that is loaded, while it kept statistics.
fn counted(ebpf: &Ebpf) -> Vec<Counted> {
    ebpf.programs()
        .filter_map(|(name, program)| {
            let info = program.info().ok()?;
            Some(Counted {
                name: name.to_owned(),
                run_count: info.run_count(),
                run_ns: u64::try_from(info.run_time().as_nanos()).unwrap_or(u64::MAX),
            })
        })
        .collect()
}

/// Root of the v2 hierarchy, as mounted.
pub(crate) fn cgroup2_root() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    mounts.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let path = words.next()?;
        (words.next()? == "cgroup2").then(|| PathBuf::from(path))
    })
}

fn attach_one(ebpf: &mut Ebpf, btf: &Btf, types: &KernelTypes, root: Option<&Path>, hook: &Hook) -> HookState {
    if let Some(field) = hook.needs.iter().find(|field| types.missing_fields.contains(**field)) {
        return HookState::Missing {
            why: format!("this kernel has no field {field}"),
        };
    }
    if hook.program == "oom_victim" && !types.oom_names_task {
        return HookState::Missing {
            why: "this kernel's tracepoint does not name the victim".to_owned(),
        };
    }
    match hook.attachment {
        Attachment::Tracepoint { raw } => match attach_btf(ebpf, btf, hook) {
            Ok(()) => degraded_by_shape(types, hook).unwrap_or(HookState::Attached { via: "tp_btf" }),
            Err(refused) => match raw.map(|program| attach_raw(ebpf, program, hook.hook)) {
                Some(Ok(())) => HookState::Degraded {
                    how: format!("raw tracepoint, because {}", chain(&refused)),
                },
                Some(Err(_)) | None => HookState::Missing { why: chain(&refused) },
            },
        },
        Attachment::CgroupIngress => attach_cgroup(ebpf, root, hook, CgroupSkbAttachType::Ingress),
        Attachment::CgroupEgress => attach_cgroup(ebpf, root, hook, CgroupSkbAttachType::Egress),
    }
}

/// A hook that works but tells less than on newer kernels.
fn degraded_by_shape(types: &KernelTypes, hook: &Hook) -> Option<HookState> {
    let how = match hook.program {
        "tcp_retransmit" if types.offsets.retransmit_has_error == 0 => "the result of a retransmission is not told",
        "reset_sent" if types.offsets.reset_has_reason == 0 => "the reason of a reset is not told",
        "packet_drop" if types.drop_reasons.is_empty() => "the reason of a drop is not told",
        _ => return None,
    };
    Some(HookState::Degraded { how: how.to_owned() })
}

fn attach_btf(ebpf: &mut Ebpf, btf: &Btf, hook: &Hook) -> Result<(), ProgramError> {
    let program: &mut BtfTracePoint = find(ebpf, hook.program)?;
    program.load(hook.hook, btf)?;
    program.attach()?;
    Ok(())
}

fn attach_raw(ebpf: &mut Ebpf, program: &str, hook: &str) -> Result<(), ProgramError> {
    let program: &mut RawTracePoint = find(ebpf, program)?;
    program.load()?;
    program.attach(hook)?;
    Ok(())
}

fn attach_cgroup(ebpf: &mut Ebpf, root: Option<&Path>, hook: &Hook, kind: CgroupSkbAttachType) -> HookState {
    let Some(root) = root else {
        return HookState::Missing {
            why: "no v2 cgroup hierarchy is mounted".to_owned(),
        };
    };
    let cgroup = match File::open(root) {
        Ok(cgroup) => cgroup,
        Err(error) => {
            return HookState::Missing {
                why: format!("failed to open {}: {error}", root.display()),
            };
        }
    };
    let attached = find::<CgroupSkb>(ebpf, hook.program).and_then(|program| {
        program.load()?;
        // As a link, which always leaves others in place; the kernel refuses the flag that would say so.
        program.attach(cgroup, kind, CgroupAttachMode::Single)
    });
    match attached {
        Ok(_) => HookState::Attached { via: "cgroup_skb" },
        Err(refused) => HookState::Missing { why: chain(&refused) },
    }
}

fn find<'a, P>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut P, ProgramError>
where
    &'a mut P: TryFrom<&'a mut aya::programs::Program, Error = ProgramError>,
{
    ebpf.program_mut(name).ok_or(ProgramError::NotLoaded)?.try_into()
}

/// An error and its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
