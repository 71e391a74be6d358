//! What one finding says of another: which mechanisms are causes of which symptoms.
//!
//! Written rules, not learned weights: there is no labelled corpus to learn from yet. When there is one, a fitted model
//! (linfa) belongs here, and must beat these rules on scenarios that it has not seen.

use crate::commonality::Place;
use crate::diagnosis::Mechanism;
use crate::evidence::Certainty;
use crate::scene::Scene;
use crate::topology::ServiceIx;

/// What the ranker knows of a suspect when it weighs it against another.
#[derive(Clone, Debug)]
pub struct Suspect {
    /// How it is wrong.
    pub mechanism: Mechanism,
    /// Where.
    pub place: Place,
    /// Services at that place.
    pub services: Vec<ServiceIx>,
    /// What it rests on.
    pub certainty: Certainty,
}

/// True when `cause` would bring about what looks like `symptom`.
#[must_use]
pub fn explains(scene: &Scene<'_>, cause: &Suspect, symptom: &Suspect) -> bool {
    // More load from outside is nobody's symptom: nothing inside the cluster makes users ask more.
    if symptom.mechanism == Mechanism::LoadSurge {
        return false;
    }
    if cause.mechanism == Mechanism::LoadSurge {
        return symptom.certainty < Certainty::Stated;
    }
    if cause.services.iter().any(|service| symptom.services.contains(service)) {
        return true;
    }
    // Look-ups suffer from their clients' network like everything else, and no name server makes networks worse.
    if is_network(cause.mechanism) && is_dns(symptom.mechanism) {
        let asks =
            |client: &ServiceIx, server: ServiceIx| scene.topology.callees(*client).any(|callee| callee == server);
        return symptom
            .services
            .iter()
            .all(|&server| cause.services.iter().any(|client| asks(client, server)));
    }
    if is_dns(cause.mechanism) && is_network(symptom.mechanism) {
        return false;
    }
    // Trouble travels from callee to caller, at any depth.
    let callers = |service: &ServiceIx| scene.topology.callers_of_all_depths(*service);
    if cause
        .services
        .iter()
        .any(|service| symptom.services.iter().all(|other| callers(service).contains(other)))
    {
        return true;
    }
    // A callee that fails shifts its callers' work to their other callees: these get busy and slow.
    let shifted = matches!(
        symptom.mechanism,
        Mechanism::ResourceCpu
            | Mechanism::ResourceIo
            | Mechanism::ResourceMemory
            | Mechanism::AppSlow
            | Mechanism::DbSlow
            | Mechanism::DbLock
            | Mechanism::DbConnections
            | Mechanism::AppError
            | Mechanism::Unknown
    );
    shifted
        && symptom.certainty < Certainty::Stated
        && cause.services.iter().any(|service| {
            callers(service).iter().any(|caller| {
                symptom
                    .services
                    .iter()
                    .any(|other| scene.topology.callees(*caller).any(|callee| callee == *other))
            })
        })
}

/// Something between pods.
#[must_use]
pub const fn is_network(mechanism: Mechanism) -> bool {
    matches!(
        mechanism,
        Mechanism::NetworkFilter
            | Mechanism::NetworkLoss
            | Mechanism::NetworkDelay
            | Mechanism::NetworkBandwidth
            | Mechanism::NetworkMtu
            | Mechanism::NetworkDown
    )
}

/// Something with names.
#[must_use]
pub const fn is_dns(mechanism: Mechanism) -> bool {
    matches!(
        mechanism,
        Mechanism::DnsFailure | Mechanism::DnsDelay | Mechanism::DnsWrongAnswer
    )
}
