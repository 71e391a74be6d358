//! The running kernel's type information: offsets of fields, names of enum values, shapes of tracepoints.
//!
//! Nothing is assumed of a kernel version: what is not found is missing, and the hook that needs it fails closed.

use std::collections::HashMap;
use std::collections::HashSet;

use btf_rs::{Btf, Type};
use gauntlet_abi::record::{OFFSET_MISSING, Offsets};

/// Where the kernel keeps its own type information.
const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// What is needed of the kernel's types; the types themselves are not kept.
#[derive(Clone, Debug)]
pub(crate) struct KernelTypes {
    pub(crate) offsets: Offsets,
    /// Fields that were looked for in vain, as `struct.field`.
    pub(crate) missing_fields: HashSet<String>,
    /// Names of drop reasons, without prefix.
    pub(crate) drop_reasons: HashMap<u32, String>,
    /// Names of reset reasons, without prefix.
    pub(crate) reset_reasons: HashMap<u32, String>,
    /// Whether the tracepoint `mark_victim` names the victim's task.
    pub(crate) oom_names_task: bool,
}

/// The kernel does not tell its types.
#[derive(Debug, thiserror::Error)]
#[error("failed to read the kernel's type information at {VMLINUX}")]
pub struct KernelTypesError(#[source] btf_rs::Error);

impl KernelTypes {
    /// Reads the running kernel's types.
    pub(crate) fn of_running_kernel() -> Result<Self, KernelTypesError> {
        let btf = Btf::from_file(VMLINUX).map_err(KernelTypesError)?;
        let mut finder = Finder {
            btf: &btf,
            missing: HashSet::new(),
        };
        let offsets = offsets(&mut finder);
        Ok(Self {
            offsets,
            drop_reasons: enum_names(&btf, "skb_drop_reason", "SKB_DROP_REASON_"),
            reset_reasons: enum_names(&btf, "sk_rst_reason", "SK_RST_REASON_"),
            oom_names_task: tracepoint_takes_pointer(&btf, "mark_victim"),
            missing_fields: finder.missing,
        })
    }
}

fn offsets(finder: &mut Finder<'_>) -> Offsets {
    let flag = |condition: bool| u32::from(condition);
    let arguments = |name: &str| tracepoint_arguments(finder.btf, name).unwrap_or(0);
    // The first parameter of a tracepoint's prototype is private to the kernel.
    let retransmit_has_error = flag(arguments("tcp_retransmit_skb") >= 4);
    let drop_has_rx_sock = flag(arguments("kfree_skb") >= 5);
    let reset_has_reason = flag(arguments("tcp_send_reset") >= 4);
    let exit_has_group_dead = flag(arguments("sched_process_exit") >= 3);
    let mut at = |field: &str| finder.offset(field);
    Offsets {
        sock_family: at("sock_common.skc_family"),
        sock_state: at("sock_common.skc_state"),
        sock_daddr: at("sock_common.skc_daddr"),
        sock_rcv_saddr: at("sock_common.skc_rcv_saddr"),
        sock_dport: at("sock_common.skc_dport"),
        sock_num: at("sock_common.skc_num"),
        sock_v6_daddr: at("sock_common.skc_v6_daddr"),
        sock_v6_rcv_saddr: at("sock_common.skc_v6_rcv_saddr"),
        sock_net: at("sock_common.skc_net"),
        sock_protocol: at("sock.sk_protocol"),
        sock_err: at("sock.sk_err"),
        sock_cgroup: at("sock.sk_cgrp_data.cgroup"),
        cgroup_node: at("cgroup.kn"),
        node_id: at("kernfs_node.id"),
        net_inum: at("net.ns.inum"),
        net_cookie: at("net.net_cookie"),
        skb_sk: at("sk_buff.sk"),
        skb_dev: at("sk_buff.dev"),
        skb_len: at("sk_buff.len"),
        skb_protocol: at("sk_buff.protocol"),
        skb_network_header: at("sk_buff.network_header"),
        skb_head: at("sk_buff.head"),
        dev_net: at("net_device.nd_net"),
        task_tgid: at("task_struct.tgid"),
        task_pid: at("task_struct.pid"),
        task_exit_code: at("task_struct.exit_code"),
        retransmit_has_error,
        drop_has_rx_sock,
        reset_has_reason,
        exit_has_group_dead,
    }
}

struct Finder<'a> {
    btf: &'a Btf,
    missing: HashSet<String>,
}

impl Finder<'_> {
    /// Offset of `struct.field` or `struct.field.field`, bytes.
    fn offset(&mut self, path: &str) -> u32 {
        if let Some(offset) = self.offset_opt(path) {
            return offset;
        }
        self.missing.insert(path.to_owned());
        OFFSET_MISSING
    }

    fn offset_opt(&self, path: &str) -> Option<u32> {
        let mut names = path.split('.');
        let name = names.next()?;
        let mut current = self
            .btf
            .resolve_types_by_name(name)
            .ok()?
            .into_iter()
            .find_map(|found| match found {
                Type::Struct(found) if !found.members.is_empty() => Some(Type::Struct(found)),
                _ => None,
            })?;
        let mut bits = 0;
        for name in names {
            let (offset, inner) = self.member(&current, name)?;
            bits += offset;
            current = inner;
        }
        // A bit field has no address.
        (bits % 8 == 0).then_some(bits / 8)
    }

    /// A member, also within anonymous structs and unions: its offset in bits and its type.
    fn member(&self, outer: &Type, name: &str) -> Option<(u32, Type)> {
        let (Type::Struct(outer) | Type::Union(outer)) = outer else {
            return None;
        };
        for member in &outer.members {
            let member_name = self.btf.resolve_name(member).unwrap_or_default();
            let mut inner = self.btf.resolve_chained_type(member).ok()?;
            while let Type::Typedef(_) | Type::Const(_) | Type::Volatile(_) | Type::TypeTag(_) = inner {
                inner = self.btf.resolve_chained_type(inner.as_btf_type()?).ok()?;
            }
            if member_name == name {
                return (member.bitfield_size().unwrap_or(0) == 0).then(|| (member.bit_offset(), inner));
            }
            if member_name.is_empty()
                && let Some((offset, found)) = self.member(&inner, name)
            {
                return Some((member.bit_offset() + offset, found));
            }
        }
        None
    }
}

fn tracepoint_prototype(btf: &Btf, name: &str) -> Option<btf_rs::FuncProto> {
    btf.resolve_types_by_name(&format!("btf_trace_{name}"))
        .ok()?
        .into_iter()
        .find_map(|found| {
            let Type::Typedef(typedef) = found else { return None };
            let Type::Ptr(pointer) = btf.resolve_chained_type(&typedef).ok()? else {
                return None;
            };
            match btf.resolve_chained_type(&pointer).ok()? {
                Type::FuncProto(prototype) => Some(prototype),
                _ => None,
            }
        })
}

fn tracepoint_arguments(btf: &Btf, name: &str) -> Option<usize> {
    tracepoint_prototype(btf, name).map(|prototype| prototype.parameters.len())
}

fn tracepoint_takes_pointer(btf: &Btf, name: &str) -> bool {
    tracepoint_prototype(btf, name)
        .and_then(|prototype| btf.resolve_chained_type(prototype.parameters.get(1)?).ok())
        .is_some_and(|parameter| matches!(parameter, Type::Ptr(_)))
}

fn enum_names(btf: &Btf, name: &str, prefix: &str) -> HashMap<u32, String> {
    let mut names = HashMap::new();
    for found in btf.resolve_types_by_name(name).unwrap_or_default() {
        let Type::Enum(found) = found else { continue };
        for member in &found.members {
            let Ok(text) = btf.resolve_name(member) else { continue };
            let short = text
                .strip_prefix(prefix)
                .or_else(|| text.strip_prefix("SKB_"))
                .unwrap_or(&text);
            names.entry(member.val()).or_insert_with(|| short.to_owned());
        }
    }
    names
}
