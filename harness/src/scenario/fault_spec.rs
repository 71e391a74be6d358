//! The wire form of a fault: its kind, the kind's own parameters, its target and times.
//!
//! Does not know the application; see [`super::validate`].

use std::time::Duration;

use gauntlet_probes::entity::ServiceName;

use super::model::Spread;
use super::problem::{Problems, did_you_mean};
use super::reader::{self, Fields, Shape};
use super::shapes;
use super::tree::{At, Node, Span, Value};
use crate::fault::kind::{FaultDirection, FaultKind, FilterAction, NodeFault, ObjectFault, PacketScope};

/// An element of `spec.faults`.
#[derive(Debug)]
pub(super) struct FaultSpec {
    pub(super) id: Option<At<String>>,
    pub(super) kind: Option<At<KindSpec>>,
    pub(super) target: Option<At<TargetSpec>>,
    pub(super) start_after: Option<At<Duration>>,
    pub(super) duration: Option<At<Duration>>,
    pub(super) effect_within: Option<At<Duration>>,
}

/// A kind, and the services that its parameters name.
#[derive(Debug)]
pub(super) struct KindSpec {
    pub(super) kind: FaultKind,
    pub(super) peer: Option<At<String>>,
}

/// `target`.
#[derive(Debug)]
pub(super) struct TargetSpec {
    pub(super) service: Option<At<String>>,
    pub(super) mode: At<Mode>,
    pub(super) count: Option<At<u32>>,
    pub(super) percent: Option<At<f64>>,
    pub(super) spread: Spread,
}

/// `mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    One,
    All,
    Fixed,
    Percent,
}

/// Reads one fault.
pub(super) fn read_fault(node: &Node, problems: &mut Problems) -> Option<FaultSpec> {
    let (fields, own) = open_kind(node, Some(&shapes::FAULT), problems)?;
    let id = fields.read("id", problems, reader::name);
    let kind = own.and_then(|name| {
        let span = fields.get("kind")?.span;
        Some(At {
            value: read_kind(name, &fields, problems)?,
            span,
        })
    });
    let target = fields.read("target", problems, read_target);
    let start_after = fields.read("startAfter", problems, reader::duration);
    let duration = fields.read("duration", problems, reader::duration);
    let effect = fields
        .get("effect")
        .and_then(|node| Fields::open(node, &[&shapes::EFFECT], &[], problems));
    let effect_within = effect.and_then(|effect| effect.read("within", problems, reader::duration));
    Some(FaultSpec {
        id,
        kind,
        target,
        start_after,
        duration,
        effect_within,
    })
}

/// Opens a mapping with a `kind`, whose other fields depend on it. Returns the kind if it is known.
fn open_kind<'a>(
    node: &'a Node,
    common: Option<&'static Shape>,
    problems: &mut Problems,
) -> Option<(Fields<'a>, Option<&'static str>)> {
    let written = match &node.value {
        Value::Map(entries) => entries
            .iter()
            .find(|(key, _)| key.value == "kind")
            .map(|(_, value)| value),
        _ => None,
    };
    let known = written.and_then(|node| match &node.value {
        Value::Text(text) => shapes::KINDS.iter().find(|(name, _)| name == text),
        _ => None,
    });
    let base = common.unwrap_or(&shapes::PLACEBO_OF);
    let all: Vec<&Shape> = shapes::KINDS.iter().map(|(_, shape)| *shape).collect();
    if let Some((name, shape)) = known {
        return Some((Fields::open(node, &[base, shape], &all, problems)?, Some(name)));
    }
    if let Some(node) = written {
        match &node.value {
            Value::Text(text) => problems
                .add(node.span, format!("there is no kind `{text}`"))
                .advise(did_you_mean(text, shapes::KINDS.iter().map(|(name, _)| *name))),
            other => {
                problems.add(node.span, format!("a kind is text, found {}", other.noun()));
            }
        }
    }
    // Whichever kind was meant, its parameters are not unknown; and what they require cannot be known.
    Some((Fields::open_tolerant(node, &[base], &all, problems)?, None))
}

fn read_kind(name: &str, fields: &Fields<'_>, problems: &mut Problems) -> Option<KindSpec> {
    let mut peer = None;
    let kind = match name {
        "none" => FaultKind::None,
        "placebo" => return read_placebo(fields, problems),
        "load-surge" => FaultKind::LoadSurge {
            factor: read_factor(fields, problems)?,
        },
        "network-filter" => {
            let actions = [("drop", FilterAction::Drop), ("reject", FilterAction::Reject)];
            let action = fields.read("action", problems, reader::choice(&actions));
            let scope = read_scope(fields, &mut peer, problems);
            FaultKind::NetworkFilter {
                action: action.map_or(FilterAction::Drop, |at| at.value),
                scope,
            }
        }
        "network-loss" => {
            let ratio = fields.read("ratio", problems, reader::ratio);
            let scope = read_scope(fields, &mut peer, problems);
            FaultKind::NetworkLoss {
                ratio: ratio?.value,
                scope,
            }
        }
        "network-delay" => {
            let (delay, jitter) = read_delay(fields, problems);
            let scope = read_scope(fields, &mut peer, problems);
            FaultKind::NetworkDelay {
                delay: delay?,
                jitter,
                scope,
            }
        }
        "network-bandwidth" => {
            let rate = fields.read("rate", problems, reader::bit_rate);
            let direction = read_direction(fields, problems);
            FaultKind::NetworkBandwidth {
                bits_per_second: rate?.value,
                direction,
            }
        }
        "service-wrong-port" => {
            let port = fields.read("targetPort", problems, port)?;
            FaultKind::ServiceWrongPort {
                target_port: port.value,
            }
        }
        "process-kill" => FaultKind::ProcessKill {
            every: fields.read("every", problems, reader::duration).map(|at| at.value),
        },
        "process-pause" => FaultKind::ProcessPause,
        "cpu-limit" => {
            let limit = fields.read("millicores", problems, reader::count(1, 1_000_000))?;
            FaultKind::CpuLimit {
                millicores: limit.value,
            }
        }
        "cache-flush" => FaultKind::CacheFlush,
        other => read_cluster_kind(other, fields, &mut peer, problems)?,
    };
    Some(KindSpec { kind, peer })
}

/// A kind that needs a Kubernetes cluster.
fn read_cluster_kind(
    name: &str,
    fields: &Fields<'_>,
    peer: &mut Option<At<String>>,
    problems: &mut Problems,
) -> Option<FaultKind> {
    Some(match name {
        "service-wrong-selector" => FaultKind::Object(ObjectFault::WrongSelector),
        "network-policy-deny" => FaultKind::Object(ObjectFault::PolicyDeny),
        "config-wrong-address" => {
            *peer = fields.read("peer", problems, reader::name);
            let port = fields.read("port", problems, port);
            FaultKind::Object(ObjectFault::WrongAddress {
                peer: ServiceName::new(peer.as_ref()?.value.as_str()),
                port: port?.value,
            })
        }
        "bad-image" => FaultKind::Object(ObjectFault::BadImage),
        "readiness-fail" => FaultKind::Object(ObjectFault::Unready),
        "scale-to-zero" => FaultKind::Object(ObjectFault::ScaleToZero),
        "memory-limit" => {
            let limit = fields.read("mebibytes", problems, reader::count(1, 1_000_000))?;
            FaultKind::Object(ObjectFault::MemoryLimit { mebibytes: limit.value })
        }
        "dns-scale-to-zero" => FaultKind::Object(ObjectFault::DnsScaleToZero),
        "node-pause" => FaultKind::Node(NodeFault::Pause),
        "node-network-cut" => FaultKind::Node(NodeFault::NetworkCut),
        "kubelet-stop" => FaultKind::Node(NodeFault::KubeletStop),
        "node-drain" => FaultKind::Node(NodeFault::Drain),
        other => unreachable!("kind `{other}` has a shape and no reader"),
    })
}

fn read_placebo(fields: &Fields<'_>, problems: &mut Problems) -> Option<KindSpec> {
    let (inner, own) = open_kind(fields.get("of")?, None, problems)?;
    let of = read_kind(own?, &inner, problems)?;
    if matches!(
        of.kind,
        FaultKind::None | FaultKind::Placebo { .. } | FaultKind::LoadSurge { .. }
    ) {
        problems.add(inner.span(), "a placebo needs a kind that has machinery");
        return None;
    }
    if of.kind.needs_kubernetes() {
        problems
            .add(
                inner.span(),
                "this kind has no harmless form: a rollout is felt, whatever it changes",
            )
            .advise("take another kind, for example `service-wrong-port` or `network-filter`");
        return None;
    }
    let kind = FaultKind::Placebo { of: Box::new(of.kind) };
    Some(KindSpec { kind, peer: of.peer })
}

fn read_factor(fields: &Fields<'_>, problems: &mut Problems) -> Option<f64> {
    let factor = fields.read("factor", problems, reader::number)?;
    if factor.value > 1.0 {
        return Some(factor.value);
    }
    problems
        .add(factor.span, "a surge multiplies the load by more than 1")
        .advise("for example `2.5`");
    None
}

fn read_delay(fields: &Fields<'_>, problems: &mut Problems) -> (Option<Duration>, Duration) {
    let delay = fields.read("delay", problems, reader::duration).map(|at| at.value);
    let Some(jitter) = fields.read("jitter", problems, reader::duration) else {
        return (delay, Duration::ZERO);
    };
    if delay.is_some_and(|delay| jitter.value > delay) {
        problems
            .add(jitter.span, "`jitter` is more than `delay`")
            .advise("packets cannot arrive before they were sent");
    }
    (delay, jitter.value)
}

fn read_direction(fields: &Fields<'_>, problems: &mut Problems) -> FaultDirection {
    let words = [
        ("ingress", FaultDirection::Ingress),
        ("egress", FaultDirection::Egress),
        ("both", FaultDirection::Both),
    ];
    let written = fields.read("direction", problems, reader::choice(&words));
    written.map_or(FaultDirection::Both, |at| at.value)
}

fn read_scope(fields: &Fields<'_>, peer: &mut Option<At<String>>, problems: &mut Problems) -> PacketScope {
    let direction = read_direction(fields, problems);
    let port = fields.read("port", problems, port).map(|at| at.value);
    *peer = fields.read("peer", problems, reader::name);
    let peer = peer.as_ref().map(|peer| ServiceName::new(peer.value.as_str()));
    PacketScope { direction, port, peer }
}

fn port(node: &Node, problems: &mut Problems) -> Option<u16> {
    let port = reader::count(1, u32::from(u16::MAX))(node, problems)?;
    u16::try_from(port).ok()
}

fn read_target(node: &Node, problems: &mut Problems) -> Option<TargetSpec> {
    let fields = Fields::open(node, &[&shapes::TARGET], &[&shapes::FAULT], problems)?;
    let service = fields.read("service", problems, reader::name);
    let modes = [
        ("one", Mode::One),
        ("all", Mode::All),
        ("fixed", Mode::Fixed),
        ("percent", Mode::Percent),
    ];
    let mode = fields.read("mode", problems, reader::choice(&modes));
    let mode = mode.unwrap_or(At {
        value: Mode::All,
        span: fields.span(),
    });
    let count = fields.read("count", problems, reader::count(1, 10_000));
    let percent = fields.read("percent", problems, percent);
    let spreads = [("nodes", Spread::Nodes), ("any", Spread::Any)];
    let spread = fields
        .read("spread", problems, reader::choice(&spreads))
        .map_or(Spread::Nodes, |at| at.value);
    let wants = |problems: &mut Problems, wanted: Mode, name: &str, example: &str| match (
        mode.value == wanted,
        fields.get(name),
    ) {
        (true, None) => {
            problems
                .add(mode.span, format!("this mode needs `{name}`"))
                .advise(format!("add `{name}: {example}`"));
        }
        (false, Some(node)) => {
            problems
                .add(node.span, format!("`{name}` is not used by this mode"))
                .advise(format!(
                    "write `mode: {}`",
                    if wanted == Mode::Fixed { "fixed" } else { "percent" }
                ));
        }
        (true, Some(_)) | (false, None) => (),
    };
    wants(problems, Mode::Fixed, "count", "2");
    wants(problems, Mode::Percent, "percent", "50");
    Some(TargetSpec {
        service,
        mode,
        count,
        percent,
        spread,
    })
}

fn percent(node: &Node, problems: &mut Problems) -> Option<f64> {
    let percent = reader::number(node, problems)?;
    if percent > 0.0 && percent <= 100.0 {
        return Some(percent);
    }
    problems.add(
        node.span,
        format!("must be more than 0 and at most 100, found {percent}"),
    );
    None
}

/// A place to complain about a whole fault.
pub(super) fn place_of(fault: &At<FaultSpec>) -> Span {
    fault.value.kind.as_ref().map_or(fault.span, |kind| kind.span)
}
