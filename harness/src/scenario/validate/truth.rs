//! What the right answer says of the faults and of the application.
//!
//! Does not check the faults themselves.

use gauntlet_probes::entity::{NodeName, ServiceName};

use super::super::fault_spec::FaultSpec;
use super::super::model::{Accepted, CHOSEN_NODE, Place, RootCause, Truth};
use super::super::problem::{Problems, did_you_mean};
use super::super::tree::{At, Span};
use super::super::truth_spec::{AcceptSpec, PlaceSpec, RootCauseSpec, TruthSpec};
use super::{Context, kind_of};
use crate::fault::kind::{Concern, FaultKind};
use crate::target::local::layout::DNS_SERVICE;

impl Context<'_> {
    pub(super) fn truth(&self, truth: &At<TruthSpec>, problems: &mut Problems) -> Option<Truth> {
        let spec = &truth.value;
        let causes: Vec<_> = spec
            .root_causes
            .iter()
            .map(|cause| self.root_cause(cause, problems))
            .collect();
        for fault in &self.spec.faults {
            self.fault_has_cause(fault, spec, truth.span, problems);
        }
        let guilty: Vec<&str> = spec
            .root_causes
            .iter()
            .filter_map(|cause| match &cause.value.place {
                Some(PlaceSpec::Service(service)) => Some(service.value.as_str()),
                Some(PlaceSpec::Edge { .. } | PlaceSpec::Node(_)) | None => None,
            })
            .collect();
        for decoy in &spec.not_root_cause {
            self.service(decoy, problems);
            if guilty.contains(&decoy.value.as_str()) {
                problems
                    .add(decoy.span, format!("`{}` is a root cause and is none", decoy.value))
                    .advise("remove it here or in `rootCauses`");
            }
        }
        for service in &spec.path {
            self.service(service, problems);
        }
        let names = |list: &[At<String>]| {
            list.iter()
                .map(|name| ServiceName::new(name.value.as_str()))
                .collect::<Vec<_>>()
        };
        Some(Truth {
            root_causes: causes.into_iter().collect::<Option<_>>()?,
            not_root_cause: names(&spec.not_root_cause),
            path: names(&spec.path),
        })
    }

    fn fault_has_cause(&self, fault: &At<FaultSpec>, truth: &TruthSpec, span: Span, problems: &mut Problems) {
        let (Some(id), Some(kind)) = (&fault.value.id, kind_of(fault)) else {
            return;
        };
        let mut causes = truth.root_causes.iter().filter_map(|cause| cause.value.fault.as_ref());
        let named = causes.find(|fault| fault.value == id.value);
        match (kind, named) {
            (FaultKind::None | FaultKind::Placebo { .. }, Some(named)) => {
                problems
                    .add(
                        named.span,
                        format!("fault `{}` does nothing and causes nothing", id.value),
                    )
                    .advise("write `rootCauses: []`");
            }
            (FaultKind::None | FaultKind::Placebo { .. }, None) | (_, Some(_)) => (),
            (_, None) => {
                problems
                    .add(span, format!("fault `{}` is no root cause here", id.value))
                    .advise(format!(
                        "add `- {{fault: {}, service: …, mechanism: …}}` to `rootCauses`",
                        id.value
                    ));
            }
        }
    }

    fn root_cause(&self, cause: &At<RootCauseSpec>, problems: &mut Problems) -> Option<RootCause> {
        let spec = &cause.value;
        let ids = || {
            self.spec
                .faults
                .iter()
                .filter_map(|fault| fault.value.id.as_ref())
                .map(|id| id.value.as_str())
        };
        // An id that could not be read was reported, and may be the one that is meant.
        let all_read = !self.spec.faults.is_empty() && self.spec.faults.iter().all(|fault| fault.value.id.is_some());
        let unknown = |fault: &&At<String>| all_read && ids().all(|id| id != fault.value);
        if let Some(fault) = spec.fault.as_ref().filter(unknown) {
            problems
                .add(fault.span, format!("no fault is named `{}`", fault.value))
                .advise(did_you_mean(&fault.value, ids()));
        }
        let place = spec.place.as_ref().and_then(|place| self.place(place, problems));
        self.chosen_node(spec, problems);
        let accept: Vec<_> = spec
            .accept
            .iter()
            .map(|accept| self.accept(&accept.value, spec, place.as_ref(), problems))
            .collect();
        Some(RootCause {
            fault: spec.fault.as_ref()?.value.clone(),
            place: place?,
            mechanism: spec.mechanism.as_ref()?.value,
            accept: accept.into_iter().collect::<Option<_>>()?,
        })
    }

    /// Only a fault of a node has a node that is chosen.
    fn chosen_node(&self, cause: &RootCauseSpec, problems: &mut Problems) {
        let Some(fault) = &cause.fault else { return };
        let mut faults = self.spec.faults.iter();
        let named = faults.find(|one| one.value.id.as_ref().is_some_and(|id| id.value == fault.value));
        let Some(kind) = named.and_then(kind_of).filter(|kind| kind.concern() != Concern::Node) else {
            return;
        };
        let places = cause
            .accept
            .iter()
            .map(|accept| &accept.value.place)
            .chain([&cause.place]);
        for place in places.flatten() {
            if let PlaceSpec::Node(name) = place
                && name.value == CHOSEN_NODE
            {
                problems
                    .add(
                        name.span,
                        format!("fault `{}` chooses no node ({})", fault.value, kind.words()),
                    )
                    .advise("write the name of a node, or a kind that is done to one, for example `node-pause`");
            }
        }
    }

    fn accept(
        &self,
        accept: &AcceptSpec,
        cause: &RootCauseSpec,
        place: Option<&Place>,
        problems: &mut Problems,
    ) -> Option<Accepted> {
        let own = accept.place.as_ref().map(|place| self.place(place, problems));
        Some(Accepted {
            place: own.unwrap_or_else(|| place.cloned())?,
            mechanism: accept.mechanism.as_ref().or(cause.mechanism.as_ref())?.value,
            because: accept.because.clone()?,
        })
    }

    fn place(&self, place: &PlaceSpec, problems: &mut Problems) -> Option<Place> {
        let mut service = |name: &At<String>| {
            self.service(name, problems);
            ServiceName::new(name.value.as_str())
        };
        Some(match place {
            // The cluster's own name servers are a service of every inventory, and of no application.
            PlaceSpec::Service(name) if name.value == DNS_SERVICE => Place::Service(ServiceName::new(DNS_SERVICE)),
            PlaceSpec::Service(name) => Place::Service(service(name)),
            PlaceSpec::Edge { caller, callee } => Place::Edge {
                caller: service(caller),
                callee: service(callee),
            },
            PlaceSpec::Node(name) => Place::Node(NodeName::new(name.value.as_str())),
        })
    }
}
