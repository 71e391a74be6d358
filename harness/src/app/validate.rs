//! What must hold between the parts of an application: who calls whom, with what, and whether it can start at all.
//!
//! Finds all problems at once and never changes the declaration.

mod data;
mod steps;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::spec::{AppSpec, LoadDefaults, ServiceKind, ServiceSpec, Step};
use super::template::LoadPath;

/// Bound of pods in one app: all run on one machine.
const POD_COUNT_MAX: u32 = 64;
/// Bound of nodes.
const NODE_COUNT_MAX: u16 = 16;
/// Bound of a service's name, so that `NAME-INDEX` is a DNS label with room to spare.
const NAME_BYTES_MAX: usize = 40;

/// One thing that is wrong with an application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppProblem {
    /// Where, such as `services.web.endpoints[0].steps[1].cache-aside.cache`.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub advice: String,
}

impl fmt::Display for AppProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, message, advice } = self;
        write!(f, "{path}: {message} ({advice})")
    }
}

/// Collects problems.
#[derive(Default)]
struct Problems(Vec<AppProblem>);

impl Problems {
    fn push(&mut self, path: impl Into<String>, message: impl Into<String>, advice: impl Into<String>) {
        self.0.push(AppProblem {
            path: path.into(),
            message: message.into(),
            advice: advice.into(),
        });
    }
}

/// All that is wrong with `spec`; empty when it can be started.
#[must_use]
pub fn validate(spec: &AppSpec) -> Vec<AppProblem> {
    let mut problems = Problems::default();
    if spec.nodes == 0 || spec.nodes > NODE_COUNT_MAX {
        problems.push(
            "nodes",
            format!("{} nodes", spec.nodes),
            format!("write a number from 1 to {NODE_COUNT_MAX}"),
        );
    }
    let pod_count: u32 = spec.services.values().map(|service| u32::from(service.replicas)).sum();
    if pod_count > POD_COUNT_MAX {
        problems.push(
            "services",
            format!("{pod_count} pods in all"),
            format!("{POD_COUNT_MAX} is the most"),
        );
    }
    if reference(&mut problems, spec, "entry", &spec.entry, ServiceKind::Http) {
        check_load(&mut problems, spec, &spec.load);
    }
    for (name, service) in &spec.services {
        check_service(&mut problems, spec, name, service);
    }
    check_cycles(&mut problems, spec);
    problems.0
}

/// The candidate nearest to `wanted`, when one is near.
pub(crate) fn closest<'a>(wanted: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .map(|candidate| (strsim::damerau_levenshtein(wanted, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len().min(wanted.len()) / 3)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Advice for a name that is not among the candidates.
fn advice_for<'a>(wanted: &str, candidates: impl Iterator<Item = &'a str> + Clone) -> String {
    match closest(wanted, candidates.clone()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("there are: {}", candidates.collect::<Vec<_>>().join(", ")),
    }
}

/// Whether `name` is a service of that kind; a problem otherwise.
fn reference(problems: &mut Problems, spec: &AppSpec, path: &str, name: &str, kind: ServiceKind) -> bool {
    let kind_name = kind.as_str();
    let of_kind = spec
        .services
        .iter()
        .filter(|(_, service)| service.kind == kind)
        .map(|(name, _)| name.as_str());
    match spec.services.get(name) {
        Some(service) if service.kind == kind => true,
        Some(service) => {
            let message = format!("`{name}` is a {} service, not {kind_name}", service.kind.as_str());
            problems.push(
                path,
                message,
                format!("{kind_name} services are: {}", of_kind.collect::<Vec<_>>().join(", ")),
            );
            false
        }
        None => {
            problems.push(
                path,
                format!("no service is called `{name}`"),
                advice_for(name, of_kind),
            );
            false
        }
    }
}

fn check_load(problems: &mut Problems, spec: &AppSpec, load: &LoadDefaults) {
    if !(load.rate > 0.0 && load.rate <= 1e5) {
        problems.push(
            "load.rate",
            format!("rate {}", load.rate),
            "write requests per second, more than 0",
        );
    }
    if load.timeout.is_zero() {
        problems.push("load.timeout", "users give up at once", "write a duration such as 3s");
    }
    if load.paths.is_empty() {
        problems.push("load.paths", "nothing is asked for", "write at least one path");
    }
    for (index, share) in load.paths.iter().enumerate() {
        let at = format!("load.paths[{index}]");
        if !(share.weight > 0.0 && share.weight.is_finite()) {
            problems.push(
                format!("{at}.weight"),
                format!("weight {}", share.weight),
                "write a number above 0",
            );
        }
        match LoadPath::parse(&share.path) {
            Ok(path) => {
                let example = path.each().next().expect("a load path has at least one key");
                steps::check_callee_path(problems, spec, &format!("{at}.path"), &spec.entry, &example);
            }
            Err(error) => problems.push(format!("{at}.path"), error.to_string(), "see scenarios/apps/README.md"),
        }
    }
}

fn check_service(problems: &mut Problems, spec: &AppSpec, name: &str, service: &ServiceSpec) {
    let at = format!("services.{name}");
    let is_label = name
        .chars()
        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && !name.ends_with('-')
        && name.len() <= NAME_BYTES_MAX;
    if !is_label {
        let advice = format!("use a-z, 0-9 and -, begin with a letter, at most {NAME_BYTES_MAX}");
        problems.push(&at, format!("`{name}` cannot be a host name"), advice);
    }
    if let Some((owner, index)) = name.rsplit_once('-')
        && index.parse::<u16>().is_ok()
        && spec.services.contains_key(owner)
    {
        problems.push(
            &at,
            format!("`{name}` is also the name of a replica of `{owner}`"),
            "choose another name",
        );
    }
    if service.replicas == 0 {
        problems.push(
            format!("{at}.replicas"),
            "no replica",
            "write at least 1, or remove the service",
        );
    }
    if service.port == Some(0) {
        problems.push(
            format!("{at}.port"),
            "port 0",
            "write a port from 1 to 65535, or leave it out",
        );
    }
    if service.cpu_millicores.is_some_and(|limit| limit < 10) {
        problems.push(
            format!("{at}.cpuMillicores"),
            "too little to start",
            "write at least 10",
        );
    }
    check_fields_of_kind(problems, &at, service);
    match service.kind {
        ServiceKind::Http => steps::check_http(problems, spec, name, service),
        ServiceKind::Redis => (),
        ServiceKind::Postgres => data::check_postgres(problems, spec, name, service),
    }
}

/// A field that the service's kind does not know is a mistake, even though the shape allows it.
fn check_fields_of_kind(problems: &mut Problems, at: &str, service: &ServiceSpec) {
    let written = [
        ("endpoints", ServiceKind::Http, !service.endpoints.is_empty()),
        ("concurrency", ServiceKind::Http, service.concurrency.is_some()),
        ("pool", ServiceKind::Http, service.pool.is_some()),
        ("maxMemoryMib", ServiceKind::Redis, service.max_memory_mib.is_some()),
        ("tables", ServiceKind::Postgres, !service.tables.is_empty()),
        ("statements", ServiceKind::Postgres, !service.statements.is_empty()),
    ];
    for (field, kind, is_written) in written {
        if is_written && kind != service.kind {
            let message = format!("a {} service has no `{field}`", service.kind.as_str());
            problems.push(
                format!("{at}.{field}"),
                message,
                format!("only {} services have it", kind.as_str()),
            );
        }
    }
}

/// A request that comes back to a service that is waiting for it would hold connections until none is left.
fn check_cycles(problems: &mut Problems, spec: &AppSpec) {
    let callees: BTreeMap<&str, BTreeSet<&str>> = spec
        .services
        .iter()
        .map(|(name, service)| {
            (
                name.as_str(),
                service
                    .endpoints
                    .iter()
                    .flat_map(|e| steps::callees(&e.steps))
                    .collect(),
            )
        })
        .collect();
    let mut reported: BTreeSet<&str> = BTreeSet::new();
    for start in callees.keys().copied() {
        if reported.contains(start) {
            continue;
        }
        if let Some(cycle) = cycle_from(start, &callees) {
            reported.extend(cycle.iter().copied());
            let message = format!("calls come back: {} → {start}", cycle.join(" → "));
            problems.push(
                format!("services.{start}.endpoints"),
                message,
                "remove one of these calls",
            );
        }
    }
}

/// The services of a cycle through `start`, if there is one.
fn cycle_from<'a>(start: &'a str, callees: &BTreeMap<&'a str, BTreeSet<&'a str>>) -> Option<Vec<&'a str>> {
    let mut seen = BTreeSet::new();
    let mut paths = vec![vec![start]];
    while let Some(path) = paths.pop() {
        let last = path.last().copied()?;
        for callee in callees.get(last).into_iter().flatten().copied() {
            if callee == start {
                return Some(path);
            }
            if seen.insert(callee) {
                paths.push(path.iter().copied().chain([callee]).collect());
            }
        }
    }
    None
}

/// Whether any of the steps, or of those inside them, satisfies `wanted`.
fn any_step(steps: &[Step], wanted: &impl Fn(&Step) -> bool) -> bool {
    steps.iter().any(|step| {
        wanted(step)
            || match step {
                Step::CacheAside(cache_aside) => any_step(&cache_aside.on_miss, wanted),
                Step::Parallel(inner) => any_step(inner, wanted),
                Step::Query(_) | Step::Call(_) | Step::Work(_) => false,
            }
    })
}

#[cfg(test)]
mod tests;
