//! What a scenario must know of its application: services, their kinds and replicas, nodes, entrance.
//!
//! Reads only that much of an application's file, and does not judge the rest: the application's own parser does.

use std::collections::BTreeMap;

use super::tree::{self, Node, Value};
use crate::app::spec::ServiceKind;

/// The services of an application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppOutline {
    /// Nodes of its cluster.
    pub nodes: u32,
    /// The service at which load enters.
    pub entry: String,
    /// Its services.
    pub services: BTreeMap<String, ServiceOutline>,
}

/// One service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceOutline {
    /// What runs in its pods.
    pub kind: ServiceKind,
    /// Number of pods.
    pub replicas: u32,
}

/// The file does not say what is needed.
#[derive(Debug, thiserror::Error)]
#[error("no application: {0}")]
pub struct OutlineError(String);

impl AppOutline {
    /// Reads the outline of an application's file.
    pub fn read(text: &str) -> Result<Self, OutlineError> {
        let error = |what: &str| OutlineError(what.to_owned());
        let root = tree::parse(text).map_err(|error| OutlineError(error.message))?;
        let spec = child(&root, "spec").ok_or_else(|| error("it has no `spec`"))?;
        let Some(Value::Map(entries)) = child(spec, "services").map(|node| &node.value) else {
            return Err(error("it has no `spec.services`"));
        };
        let mut services = BTreeMap::new();
        for (name, service) in entries {
            let kind = match child(service, "kind").map(|node| &node.value) {
                Some(Value::Text(kind)) if kind == "http" => ServiceKind::Http,
                Some(Value::Text(kind)) if kind == "redis" => ServiceKind::Redis,
                Some(Value::Text(kind)) if kind == "postgres" => ServiceKind::Postgres,
                _ => return Err(OutlineError(format!("service `{}` has no known kind", name.value))),
            };
            let replicas = child(service, "replicas").map_or(Some(1), whole);
            let replicas = replicas.ok_or_else(|| OutlineError(format!("replicas of `{}`", name.value)))?;
            services.insert(name.value.clone(), ServiceOutline { kind, replicas });
        }
        let entry = match child(spec, "entry").map(|node| &node.value) {
            Some(Value::Text(entry)) => entry.clone(),
            _ => return Err(error("it has no `spec.entry`")),
        };
        let nodes = child(spec, "nodes")
            .and_then(whole)
            .ok_or_else(|| error("it has no `spec.nodes`"))?;
        Ok(Self { nodes, entry, services })
    }
}

fn child<'a>(node: &'a Node, name: &str) -> Option<&'a Node> {
    match &node.value {
        Value::Map(entries) => entries
            .iter()
            .find(|(key, _)| key.value == name)
            .map(|(_, value)| value),
        _ => None,
    }
}

fn whole(node: &Node) -> Option<u32> {
    match node.value {
        Value::Number(number) if number.fract() == 0.0 && (0.0..=10_000.0).contains(&number) => Some(number as u32),
        _ => None,
    }
}
