//! Every field of the scenario format: one table that checks the files and documents them.
//!
//! `scenarios/README.md` contains these tables; a test keeps the two equal.

use std::fmt::Write as _;

use super::reader::{Absent, Field, Shape, may, must};

macro_rules! shapes {
    ($($(#[$doc:meta])* $name:ident $path:literal [$($field:expr),* $(,)?])*) => {
        $($(#[$doc])* pub static $name: Shape = Shape { path: $path, fields: &[$($field),*] };)*
        /// All of them, in the order of the documentation.
        pub static ALL: &[&Shape] = &[$(&$name),*];
    };
}

const DIRECTION: Field = may(
    "direction",
    "`ingress`, `egress` or `both`",
    "`both`",
    "Which way, seen from the pod.",
    "ingress",
);
const PORT: Field = may(
    "port",
    "port",
    "every port",
    "Only packets from or to this port; either end matches.",
    "6379",
);
const PEER: Field = may(
    "peer",
    "service",
    "every peer",
    "Only packets to and from pods of this service.",
    "web",
);
const SERVICE_PLACE: Field = may(
    "service",
    "service",
    "another place, see below",
    "The cause lies with this service: \
    with exactly the pods that the plan chose.",
    "cache",
);
const EDGE_PLACE: Field = may(
    "edge",
    "mapping",
    "another place, see below",
    "The cause lies between two services.",
    "{caller: web, callee: cache}",
);
const NODE_PLACE: Field = may(
    "node",
    "node",
    "another place, see below",
    "The cause lies with a node: `target` is the one that the fault's target chooses.",
    "target",
);

shapes! {
    /// The whole file.
    SCENARIO "scenario" [
        must("apiVersion", "`gauntlet/v1`", "Version of this format.", "gauntlet/v1"),
        must("kind", "`Scenario`", "What the file declares.", "Scenario"),
        must("metadata", "mapping", "Names for people and for lists.", "{name: cache-flush, …}"),
        must("spec", "mapping", "The case itself.", "{app: shop, …}"),
    ]
    /// `metadata`.
    METADATA "metadata" [
        must("name", "name", "Unique in the catalogue, and the name of the file.", "cache-flush"),
        must("title", "text", "One line for lists.", "The cache forgets everything"),
        may("description", "text", "the title", "What happens, and why it is worth a test.", "All keys are gone …"),
        may("labels", "mapping of text", "none", "Words to select scenarios by.", "{class: cache}"),
    ]
    /// `spec`.
    SPEC "spec" [
        must("app", "name or path", "The application: a file of `scenarios/apps`, or the path of a file, seen from the \
            scenario.", "shop"),
        may("load", "mapping", "the application's own load", "Offered load.", "{profile: constant, rate: 120}"),
        may("phases", "mapping", "the defaults below", "How long each part of a run takes.", "{baseline: 8s}"),
        may("steadyState", "list", "nothing is checked", "What normal is. Checked over the whole baseline: latency by \
            the median of the seconds, errors pooled, throughput by its mean. Not normal: the run is UNSTABLE.",
            "[{sli: error-ratio, max: 1%}]"),
        must("faults", "list", "What is made wrong; `[{id: none, kind: none}]` for a run without any.",
            "[{id: none, kind: none}]"),
        may("impact", "mapping", "no harm is expected (controls only)", "The harm that users must see. None seen: the \
            run is SILENT and no test.", "{anyOf: [{sli: latency-p50, timesBaseline: 2}]}"),
        must("truth", "mapping", "The right answer, which no detector gets to see.", "{rootCauses: []}"),
        may("limits", "mapping", "the defaults below", "What a detector must reach for a pass.",
            "{timeToRootCause: 10s}"),
        may("window", "duration", "the fault phase", "How long after the onset a detection counts.", "15s"),
    ]
    /// `spec.load`.
    LOAD "spec.load" [
        must("profile", "`constant`, `ramp` or `step`", "How the rate changes over time.", "constant"),
    ]
    /// `spec.load` with `profile: constant`.
    LOAD_CONSTANT "spec.load (constant)" [
        must("rate", "number", "Requests per second.", "120"),
    ]
    /// `spec.load` with `profile: ramp`.
    LOAD_RAMP "spec.load (ramp)" [
        must("from", "number", "Requests per second at the start of the warm-up.", "60"),
        must("to", "number", "Requests per second at the end of the ramp, and from then on.", "180"),
        must("over", "duration", "How long the ramp takes.", "20s"),
    ]
    /// `spec.load` with `profile: step`.
    LOAD_STEP "spec.load (step)" [
        must("steps", "list", "One rate after another; the last one stays.", "[{rate: 60, for: 10s}]"),
    ]
    /// An element of `spec.load.steps`.
    STEP "spec.load.steps[]" [
        must("rate", "number", "Requests per second.", "120"),
        must("for", "duration", "How long.", "10s"),
    ]
    /// `spec.phases`.
    PHASES "spec.phases" [
        may("warmUp", "duration", "`3s`", "Load without judgement: caches fill, pools open.", "3s"),
        may("baseline", "duration", "`8s`", "Normal operation; at least `3s`.", "8s"),
        may("fault", "duration", "`15s`", "Faults are active; at least `6s`, because an answer must hold for `5s`.",
            "15s"),
        may("recovery", "duration", "`5s`", "Faults are undone; at least `1s`.", "5s"),
    ]
    /// An element of `spec.steadyState`.
    STEADY "spec.steadyState[]" [
        must("sli", "indicator", "What is measured.", "latency-p99"),
        may("max", "value", "no upper bound", "This or less is normal.", "250ms"),
        may("min", "value", "no lower bound", "This or more is normal.", "50"),
    ]
    /// An element of `spec.faults`, whatever its kind.
    FAULT "spec.faults[]" [
        must("id", "name", "Its name, for `truth`.", "filter"),
        must("kind", "kind", "What is made wrong: one of the kinds below.", "network-filter"),
        may("target", "mapping", "none (kinds without pods only)", "Which pods.", "{service: cache, mode: all}"),
        may("startAfter", "duration", "`0s`", "Time from the start of the fault phase.", "2s"),
        may("duration", "duration", "the rest of the fault phase", "How long it is active.", "10s"),
        may("effect", "mapping", "the default below", "Proof that the fault bites.", "{within: 3s}"),
    ]
    /// `spec.faults[].target`.
    TARGET "spec.faults[].target" [
        must("service", "service", "Of this service.", "cache"),
        may("mode", "`one`, `all`, `fixed` or `percent`", "`all`", "How many of its pods; the seed chooses which.",
            "fixed"),
        may("count", "number", "required by `fixed`", "This many.", "2"),
        may("percent", "number", "required by `percent`", "This share, 1 to 100, rounded up.", "50"),
        may("spread", "`nodes` or `any`", "`nodes`", "Whether the pods lie on as many nodes as possible.", "nodes"),
    ]
    /// `spec.faults[].effect`.
    EFFECT "spec.faults[].effect" [
        may("within", "duration", "`5s`", "Not proven within this time of the injection: the run is SILENT.", "3s"),
    ]
    /// Parameters of `kind: none`.
    KIND_NONE "kind: none" []
    /// Parameters of `kind: placebo`.
    KIND_PLACEBO "kind: placebo" [
        must("of", "mapping", "The kind, with its parameters, whose machinery runs with zero effect.",
            "{kind: network-delay, delay: 50ms}"),
    ]
    /// `of`.
    PLACEBO_OF "of" [
        must("kind", "kind", "The kind whose machinery runs; not `none`, `placebo` or `load-surge`.", "network-delay"),
    ]
    /// Parameters of `kind: load-surge`.
    KIND_SURGE "kind: load-surge" [
        must("factor", "number", "Offered load is multiplied by this; more than 1.", "2.5"),
    ]
    /// Parameters of `kind: network-filter`.
    KIND_FILTER "kind: network-filter" [
        may("action", "`drop` or `reject`", "`drop`", "Silence, or an answer that refuses.", "drop"),
        DIRECTION, PORT, PEER,
    ]
    /// Parameters of `kind: network-loss`.
    KIND_LOSS "kind: network-loss" [
        must("ratio", "share", "Share of packets that are lost.", "30%"),
        DIRECTION, PORT, PEER,
    ]
    /// Parameters of `kind: network-delay`.
    KIND_DELAY "kind: network-delay" [
        must("delay", "duration", "Packets take longer by this, each way that `direction` names.", "50ms"),
        may("jitter", "duration", "`0s`", "Give or take, uniform; at most `delay`.", "10ms"),
        DIRECTION, PORT, PEER,
    ]
    /// Parameters of `kind: network-bandwidth`.
    KIND_BANDWIDTH "kind: network-bandwidth" [
        must("rate", "bit rate", "Throughput of the pod's interface.", "2mbit"),
        DIRECTION,
    ]
    /// Parameters of `kind: service-wrong-port`.
    KIND_WRONG_PORT "kind: service-wrong-port" [
        must("targetPort", "port", "The virtual addresses of the service lead to this port, where nobody listens. Needs \
            `mode: all`.", "6380"),
    ]
    /// Parameters of `kind: process-kill`.
    KIND_KILL "kind: process-kill" [
        may("every", "duration", "once", "Kill again this long after the last time.", "1s"),
    ]
    /// Parameters of `kind: process-pause`.
    KIND_PAUSE "kind: process-pause" []
    /// Parameters of `kind: cpu-limit`.
    KIND_CPU "kind: cpu-limit" [
        must("millicores", "number", "CPU of each pod, thousandths of a core.", "50"),
    ]
    /// Parameters of `kind: cache-flush`.
    KIND_FLUSH "kind: cache-flush" []
    /// Parameters of `kind: service-wrong-selector`.
    KIND_WRONG_SELECTOR "kind: service-wrong-selector" []
    /// Parameters of `kind: network-policy-deny`.
    KIND_POLICY_DENY "kind: network-policy-deny" []
    /// Parameters of `kind: config-wrong-address`.
    KIND_WRONG_ADDRESS "kind: config-wrong-address" [
        must("peer", "service", "The callee that the pods of the target look for in the wrong place.", "cache"),
        must("port", "port", "Where they look for it: a port on which nobody listens.", "6390"),
    ]
    /// Parameters of `kind: bad-image`.
    KIND_BAD_IMAGE "kind: bad-image" []
    /// Parameters of `kind: readiness-fail`.
    KIND_UNREADY "kind: readiness-fail" []
    /// Parameters of `kind: scale-to-zero`.
    KIND_SCALE "kind: scale-to-zero" []
    /// Parameters of `kind: memory-limit`.
    KIND_MEMORY "kind: memory-limit" [
        must("mebibytes", "number", "Memory of each pod: less than it takes with its data. Below about 4 no container starts.", "5"),
    ]
    /// Parameters of `kind: dns-scale-to-zero`.
    KIND_DNS_SCALE "kind: dns-scale-to-zero" []
    /// Parameters of `kind: node-pause`.
    KIND_NODE_PAUSE "kind: node-pause" []
    /// Parameters of `kind: node-network-cut`.
    KIND_NODE_CUT "kind: node-network-cut" []
    /// Parameters of `kind: kubelet-stop`.
    KIND_KUBELET "kind: kubelet-stop" []
    /// Parameters of `kind: node-drain`.
    KIND_DRAIN "kind: node-drain" []
    /// `spec.impact`.
    IMPACT "spec.impact" [
        may("within", "duration", "the fault phase", "Not seen within this time of the onset: the run is SILENT.",
            "10s"),
        may("anyOf", "list", "`allOf` is written", "Conditions of which one is enough.",
            "[{sli: error-ratio, atLeast: 5%}]"),
        may("allOf", "list", "`anyOf` is written", "Conditions that must hold in the same second.",
            "[{sli: latency-p50, timesBaseline: 2}]"),
    ]
    /// An element of `spec.impact.anyOf` and `allOf`.
    CONDITION "spec.impact.anyOf[]" [
        must("sli", "indicator", "What is measured, second by second.", "latency-p50"),
        may("atLeast", "value", "one of the three is needed", "Harm is this or more.", "50ms"),
        may("atMost", "value", "one of the three is needed", "Harm is this or less.", "60"),
        may("timesBaseline", "number", "one of the three is needed", "Harm is this many times the baseline or more; \
            not for `error-ratio`, whose baseline may be 0.", "2"),
    ]
    /// `spec.truth`.
    TRUTH "spec.truth" [
        must("rootCauses", "list", "One element for each fault; empty for `none` and `placebo`.", "[]"),
        may("notRootCause", "list of services", "none", "Services that look guilty and are not (decoys).", "[web, db]"),
        may("path", "list of services", "not judged", "From the cause to the symptom.", "[cache, web]"),
    ]
    /// An element of `spec.truth.rootCauses`.
    ROOT_CAUSE "spec.truth.rootCauses[]" [
        must("fault", "fault id", "The fault that is this cause.", "filter"),
        SERVICE_PLACE, EDGE_PLACE, NODE_PLACE,
        must("mechanism", "mechanism", "How it is wrong, from the closed list.", "network.filter"),
        may("accept", "list", "nothing else is right", "Other answers that are as right.",
            "[{mechanism: db.slow, because: …}]"),
    ]
    /// `edge` of a place.
    EDGE "edge" [
        must("caller", "service", "Who calls.", "web"),
        must("callee", "service", "Who is called.", "cache"),
    ]
    /// An element of `accept`.
    ACCEPT "spec.truth.rootCauses[].accept[]" [
        SERVICE_PLACE, EDGE_PLACE, NODE_PLACE,
        may("mechanism", "mechanism", "that of the root cause", "How it is wrong.", "db.slow"),
        must("because", "text", "Why this answer is as right.", "\"a slow database is what a starved one looks like\""),
    ]
    /// `spec.limits`.
    LIMITS "spec.limits" [
        may("timeToDetect", "duration", "no limit", "An alert within this time of the onset.", "5s"),
        may("timeToRootCause", "duration", "no limit", "The right cause settled within this time of the onset.", "10s"),
        may("rank", "number", "`1`", "The right cause at this rank or better in the final answer.", "1"),
        may("falseAlarms", "number", "`0`", "At most this many false alarms.", "0"),
        may("pods", "`any` or `exact`", "`any`", "Whether exactly the affected pods must be named.", "exact"),
    ]
}

/// Names of the kinds and the shapes of their parameters.
pub static KINDS: [(&str, &Shape); 24] = [
    ("none", &KIND_NONE),
    ("placebo", &KIND_PLACEBO),
    ("load-surge", &KIND_SURGE),
    ("network-filter", &KIND_FILTER),
    ("network-loss", &KIND_LOSS),
    ("network-delay", &KIND_DELAY),
    ("network-bandwidth", &KIND_BANDWIDTH),
    ("service-wrong-port", &KIND_WRONG_PORT),
    ("process-kill", &KIND_KILL),
    ("process-pause", &KIND_PAUSE),
    ("cpu-limit", &KIND_CPU),
    ("cache-flush", &KIND_FLUSH),
    ("service-wrong-selector", &KIND_WRONG_SELECTOR),
    ("network-policy-deny", &KIND_POLICY_DENY),
    ("config-wrong-address", &KIND_WRONG_ADDRESS),
    ("bad-image", &KIND_BAD_IMAGE),
    ("readiness-fail", &KIND_UNREADY),
    ("scale-to-zero", &KIND_SCALE),
    ("memory-limit", &KIND_MEMORY),
    ("dns-scale-to-zero", &KIND_DNS_SCALE),
    ("node-pause", &KIND_NODE_PAUSE),
    ("node-network-cut", &KIND_NODE_CUT),
    ("kubelet-stop", &KIND_KUBELET),
    ("node-drain", &KIND_DRAIN),
];

/// The tables as Markdown, for `scenarios/README.md` and for `gauntlet explain`.
#[must_use]
pub fn reference() -> String {
    tables(ALL)
}

/// Tables of any shapes as Markdown.
#[must_use]
pub fn tables(shapes: &[&Shape]) -> String {
    let mut text = String::new();
    for shape in shapes {
        writeln!(text, "### `{}`\n", shape.path).expect("a string takes everything");
        if shape.fields.is_empty() {
            text.push_str("No parameters.\n\n");
            continue;
        }
        text.push_str("| field | type | if absent | meaning | example |\n|---|---|---|---|---|\n");
        for field in shape.fields {
            let absent = match field.absent {
                Absent::Mistake => "**required**",
                Absent::Means(words) => words,
            };
            let Field {
                name,
                kind,
                meaning,
                example,
                ..
            } = field;
            writeln!(text, "| `{name}` | {kind} | {absent} | {meaning} | `{example}` |").expect("as above");
        }
        text.push('\n');
    }
    text
}
