//! What this kernel lets the probes do: one entry per hook, and what the absence of each would cost.
//!
//! The list of hooks is here; attaching them is the work of `load`.

/// A hook, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capability {
    /// The kernel program, for example `packet_drop`.
    pub program: &'static str,
    /// The hook, for example `kfree_skb`.
    pub hook: &'static str,
    /// Whether the probes can work without it.
    pub essential: bool,
    /// What became of it.
    pub state: HookState,
    /// What is not seen without it.
    pub absence_costs: &'static str,
}

/// What became of a hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HookState {
    /// It works fully.
    Attached {
        /// The kind of attachment, for example `tp_btf`.
        via: &'static str,
    },
    /// It works, with less than it could.
    Degraded {
        /// With what less.
        how: String,
    },
    /// It does not work.
    Missing {
        /// Why.
        why: String,
    },
}

/// What a kernel program has cost since it was attached, estimated from samples.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramCost {
    /// Its name.
    pub name: String,
    /// How often it ran, about; 0 where the kernel does not keep statistics.
    pub run_count: u64,
    /// How long in all, nanoseconds, about; 0 where the kernel does not keep statistics. The mean of a run, `run_ns` by
    /// `run_count`, is that of the runs that were measured.
    pub run_ns: u64,
}

/// How a program attaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attachment {
    /// A BTF tracepoint, and the program that takes its place as a raw tracepoint where BTF ones are refused.
    Tracepoint { raw: Option<&'static str> },
    /// Every socket below the root of the v2 hierarchy.
    CgroupIngress,
    /// Every socket below the root of the v2 hierarchy.
    CgroupEgress,
}

/// A hook that the probes want.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hook {
    pub(crate) program: &'static str,
    pub(crate) hook: &'static str,
    pub(crate) attachment: Attachment,
    /// Fields, as `struct.field`, without which the program would read nonsense.
    pub(crate) needs: &'static [&'static str],
    pub(crate) essential: bool,
    pub(crate) absence_costs: &'static str,
}

/// Fields by which a socket is named.
const SOCKET_NAME: &[&str] = &[
    "sock_common.skc_family",
    "sock_common.skc_state",
    "sock_common.skc_daddr",
    "sock_common.skc_rcv_saddr",
    "sock_common.skc_dport",
    "sock_common.skc_num",
    "sock_common.skc_v6_daddr",
    "sock_common.skc_v6_rcv_saddr",
    "sock_common.skc_net",
    "net.ns.inum",
    "sock.sk_protocol",
    "sock.sk_err",
];
/// Fields by which a packet is named, and its socket or device.
const PACKET_NAME: &[&str] = &[
    "sk_buff.sk",
    "sk_buff.dev",
    "sk_buff.len",
    "sk_buff.protocol",
    "sk_buff.network_header",
    "sk_buff.head",
    "net_device.nd_net",
    "sock_common.skc_net",
    "net.ns.inum",
];
const TASK: &[&str] = &["task_struct.tgid", "task_struct.pid", "task_struct.exit_code"];

/// All hooks, in the order in which they are attached. Those of packets come last: what runs a hundred thousand times a second
/// begins when the rest is there. It also decides where their code lies: loaded third, `packet_out` took twice its time (6.18,
/// x86-64, at full load), presumably because its address was that of `tcp_sendmsg` but for the upper bits, by which branch
/// predictors do not tell code apart.
pub(crate) const HOOKS: &[Hook] = &[
    Hook {
        program: "socket_state",
        hook: "inet_sock_set_state",
        attachment: Attachment::Tracepoint { raw: None },
        needs: SOCKET_NAME,
        essential: true,
        absence_costs: "connections: without it there are no edges",
    },
    Hook {
        program: "packet_drop",
        hook: "kfree_skb",
        attachment: Attachment::Tracepoint {
            raw: Some("packet_drop_raw"),
        },
        needs: PACKET_NAME,
        essential: false,
        absence_costs: "dropped packets and why: a filter cannot be told from a dead host",
    },
    Hook {
        program: "tcp_retransmit",
        hook: "tcp_retransmit_skb",
        attachment: Attachment::Tracepoint { raw: None },
        needs: SOCKET_NAME,
        essential: false,
        absence_costs: "retransmissions and their results: loss is seen late, by latency alone",
    },
    Hook {
        program: "synack_retransmit",
        hook: "tcp_retransmit_synack",
        attachment: Attachment::Tracepoint { raw: None },
        needs: SOCKET_NAME,
        essential: false,
        absence_costs: "answers to SYNs sent again: a path that is broken one way only",
    },
    Hook {
        program: "reset_sent",
        hook: "tcp_send_reset",
        attachment: Attachment::Tracepoint { raw: None },
        needs: PACKET_NAME,
        essential: false,
        absence_costs: "resets sent: a dead process cannot be told from a filter that rejects",
    },
    Hook {
        program: "reset_received",
        hook: "tcp_receive_reset",
        attachment: Attachment::Tracepoint { raw: None },
        needs: SOCKET_NAME,
        essential: false,
        absence_costs: "resets received",
    },
    Hook {
        program: "socket_error",
        hook: "inet_sk_error_report",
        attachment: Attachment::Tracepoint { raw: None },
        needs: SOCKET_NAME,
        essential: false,
        absence_costs: "errors that a connection survives",
    },
    Hook {
        program: "process_exec",
        hook: "sched_process_exec",
        attachment: Attachment::Tracepoint {
            raw: Some("process_exec_raw"),
        },
        needs: &[],
        essential: false,
        absence_costs: "starts of processes",
    },
    Hook {
        program: "process_exit",
        hook: "sched_process_exit",
        attachment: Attachment::Tracepoint {
            raw: Some("process_exit_raw"),
        },
        needs: TASK,
        essential: false,
        absence_costs: "ends of processes",
    },
    Hook {
        program: "oom_victim",
        hook: "mark_victim",
        attachment: Attachment::Tracepoint { raw: None },
        needs: TASK,
        essential: false,
        absence_costs: "that a process was ended for want of memory",
    },
    Hook {
        program: "packet_in",
        hook: "cgroup_skb/ingress",
        attachment: Attachment::CgroupIngress,
        needs: SOCKET_NAME,
        essential: true,
        absence_costs: "bytes, requests and look-ups received",
    },
    Hook {
        program: "packet_out",
        hook: "cgroup_skb/egress",
        attachment: Attachment::CgroupEgress,
        needs: SOCKET_NAME,
        essential: true,
        absence_costs: "bytes, requests and look-ups sent",
    },
];
