//! The wire form of the right answer.
//!
//! Does not know the application or the faults; see [`super::validate`].

use gauntlet_detector::diagnosis::Mechanism;

use super::problem::Problems;
use super::reader::{self, Fields};
use super::shapes;
use super::tree::{At, Node};

/// `spec.truth`.
#[derive(Debug)]
pub(super) struct TruthSpec {
    pub(super) root_causes: Vec<At<RootCauseSpec>>,
    pub(super) not_root_cause: Vec<At<String>>,
    pub(super) path: Vec<At<String>>,
}

/// An element of `rootCauses`.
#[derive(Debug)]
pub(super) struct RootCauseSpec {
    pub(super) fault: Option<At<String>>,
    pub(super) place: Option<PlaceSpec>,
    pub(super) mechanism: Option<At<Mechanism>>,
    pub(super) accept: Vec<At<AcceptSpec>>,
}

/// An element of `accept`.
#[derive(Debug)]
pub(super) struct AcceptSpec {
    pub(super) place: Option<PlaceSpec>,
    pub(super) mechanism: Option<At<Mechanism>>,
    pub(super) because: Option<String>,
}

/// A place, its services unchecked.
#[derive(Debug)]
pub(super) enum PlaceSpec {
    Service(At<String>),
    Edge { caller: At<String>, callee: At<String> },
    Node(At<String>),
}

/// Reads the right answer.
pub(super) fn read_truth(node: &Node, problems: &mut Problems) -> Option<TruthSpec> {
    let fields = Fields::open(node, &[&shapes::TRUTH], &[&shapes::ROOT_CAUSE, &shapes::SPEC], problems)?;
    let root_causes = fields
        .get("rootCauses")
        .map(|node| reader::list(node, problems, read_root_cause));
    let mut names = |name: &str| {
        fields
            .get(name)
            .map(|node| reader::list(node, problems, reader::name))
            .unwrap_or_default()
    };
    let (not_root_cause, path) = (names("notRootCause"), names("path"));
    Some(TruthSpec {
        root_causes: root_causes.unwrap_or_default(),
        not_root_cause,
        path,
    })
}

fn read_root_cause(node: &Node, problems: &mut Problems) -> Option<RootCauseSpec> {
    let fields = Fields::open(node, &[&shapes::ROOT_CAUSE], &[&shapes::TRUTH], problems)?;
    let fault = fields.read("fault", problems, reader::name);
    let place = read_place(&fields, problems);
    if ["service", "edge", "node"]
        .iter()
        .all(|name| fields.get(name).is_none())
    {
        problems
            .add(fields.span(), "a root cause needs a place: `service`, `edge` or `node`")
            .advise("for example `service: cache`");
    }
    let mechanism = fields.read("mechanism", problems, mechanism);
    let accept = fields
        .get("accept")
        .map(|node| reader::list(node, problems, read_accept))
        .unwrap_or_default();
    Some(RootCauseSpec {
        fault,
        place,
        mechanism,
        accept,
    })
}

fn read_accept(node: &Node, problems: &mut Problems) -> Option<AcceptSpec> {
    let fields = Fields::open(node, &[&shapes::ACCEPT], &[&shapes::ROOT_CAUSE], problems)?;
    let place = read_place(&fields, problems);
    let mechanism = fields.read("mechanism", problems, mechanism);
    let because = fields
        .read("because", problems, reader::text)
        .map(|because| because.value);
    if ["service", "edge", "node", "mechanism"]
        .iter()
        .all(|name| fields.get(name).is_none())
    {
        problems
            .add(fields.span(), "this accepts nothing new")
            .advise("add another place (`service`, `edge`, `node`) or another `mechanism`");
    }
    Some(AcceptSpec {
        place,
        mechanism,
        because,
    })
}

fn read_place(fields: &Fields<'_>, problems: &mut Problems) -> Option<PlaceSpec> {
    let written: Vec<_> = ["service", "edge", "node"]
        .iter()
        .filter_map(|name| fields.get(name))
        .collect();
    if let [_, second, ..] = written[..] {
        problems
            .add(second.span, "a cause has one place")
            .advise("keep one of `service`, `edge` and `node`; others that are as right go to `accept`");
    }
    let service = fields.read("service", problems, reader::name).map(PlaceSpec::Service);
    let node = fields.read("node", problems, reader::name).map(PlaceSpec::Node);
    let edge = fields.get("edge").and_then(|node| {
        let edge = Fields::open(node, &[&shapes::EDGE], &[], problems)?;
        let caller = edge.read("caller", problems, reader::name);
        let callee = edge.read("callee", problems, reader::name);
        Some(PlaceSpec::Edge {
            caller: caller?,
            callee: callee?,
        })
    });
    service.or(edge).or(node)
}

fn mechanism(node: &Node, problems: &mut Problems) -> Option<Mechanism> {
    // `unknown` is a detector's word: the truth is known.
    let known: Vec<_> = Mechanism::ALL
        .into_iter()
        .filter(|mechanism| *mechanism != Mechanism::Unknown)
        .collect();
    let words: Vec<_> = known
        .into_iter()
        .map(|mechanism| (mechanism.name(), mechanism))
        .collect();
    reader::choice(&words)(node, problems)
}
