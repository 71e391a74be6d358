//! Endpoints and steps: that what they refer to exists and is used as what it is.

use std::collections::BTreeSet;

use super::super::service::route::Pattern;
use super::super::spec::{AppSpec, CacheAside, Call, Query, ServiceKind, ServiceSpec, Step};
use super::super::template::{fill, places};
use super::{Problems, advice_for, reference};

/// Bound of one `work` step, which holds a thread.
const WORK_CPU_MAX: std::time::Duration = std::time::Duration::from_secs(1);

pub(super) fn check_http(problems: &mut Problems, spec: &AppSpec, name: &str, service: &ServiceSpec) {
    let at = format!("services.{name}");
    if service.endpoints.is_empty() {
        problems.push(
            format!("{at}.endpoints"),
            "no endpoint",
            "write at least one `path` with its `steps`",
        );
    }
    if service.concurrency_or_default().max == 0 {
        problems.push(
            format!("{at}.concurrency.max"),
            "no request is ever worked on",
            "write at least 1",
        );
    }
    let pool = service.pool_or_default();
    if pool.size == 0 {
        problems.push(format!("{at}.pool.size"), "no connection", "write at least 1");
    }
    for (field, duration) in [("connectTimeout", pool.connect_timeout), ("maxAge", pool.max_age)] {
        if duration.is_zero() {
            problems.push(
                format!("{at}.pool.{field}"),
                "no time at all",
                "write a duration above 0",
            );
        }
    }
    let mut shapes = BTreeSet::new();
    for (index, endpoint) in service.endpoints.iter().enumerate() {
        let at = format!("{at}.endpoints[{index}]");
        match Pattern::parse(&endpoint.path) {
            Ok(pattern) => {
                if !shapes.insert(pattern.shape()) {
                    problems.push(
                        format!("{at}.path"),
                        "another endpoint matches the same paths",
                        "remove one",
                    );
                }
                let steps = Steps {
                    spec,
                    parameters: pattern.parameters(),
                };
                steps.check(problems, &format!("{at}.steps"), &endpoint.steps);
            }
            Err(error) => problems.push(
                format!("{at}.path"),
                error.to_string(),
                "write for example /product/{id}",
            ),
        }
    }
}

/// Names of the http services that the steps call.
pub(super) fn callees(steps: &[Step]) -> Vec<&str> {
    steps
        .iter()
        .flat_map(|step| match step {
            Step::Call(call) => vec![call.service.as_str()],
            Step::CacheAside(cache_aside) => callees(&cache_aside.on_miss),
            Step::Parallel(inner) => callees(inner),
            Step::Query(_) | Step::Work(_) => Vec::new(),
        })
        .collect()
}

/// Whether an endpoint of `service` answers `path`; a problem otherwise. Says nothing where the service is not http.
pub(super) fn check_callee_path(problems: &mut Problems, spec: &AppSpec, at: &str, service: &str, path: &str) {
    let Some(callee) = spec
        .services
        .get(service)
        .filter(|callee| callee.kind == ServiceKind::Http)
    else {
        return;
    };
    let patterns: Vec<&str> = callee.endpoints.iter().map(|endpoint| endpoint.path.as_str()).collect();
    let path_only = path.split('?').next().unwrap_or(path);
    let answers = |pattern: &&str| Pattern::parse(pattern).is_ok_and(|pattern| pattern.matches(path_only).is_some());
    if !patterns.iter().any(answers) {
        let advice = format!("its endpoints are: {}", patterns.join(", "));
        problems.push(at, format!("`{service}` has no endpoint for {path}"), advice);
    }
}

/// The steps of one endpoint, with what they may refer to.
struct Steps<'a> {
    spec: &'a AppSpec,
    parameters: Vec<&'a str>,
}

impl Steps<'_> {
    fn check(&self, problems: &mut Problems, at: &str, steps: &[Step]) {
        for (index, step) in steps.iter().enumerate() {
            let at = format!("{at}[{index}]");
            match step {
                Step::CacheAside(cache_aside) => {
                    self.check_cache_aside(problems, &format!("{at}.cache-aside"), cache_aside)
                }
                Step::Query(query) => self.check_query(problems, &format!("{at}.query"), query),
                Step::Call(call) => self.check_call(problems, &format!("{at}.call"), call),
                Step::Parallel(inner) => {
                    let at = format!("{at}.parallel");
                    if inner.is_empty() {
                        problems.push(&at, "nothing to do", "write at least one step");
                    }
                    self.check(problems, &at, inner);
                }
                Step::Work(work) => {
                    if work.cpu.is_zero() || work.cpu > WORK_CPU_MAX {
                        problems.push(
                            format!("{at}.work.cpu"),
                            "out of range",
                            "write more than 0, and at most 1s",
                        );
                    }
                }
            }
        }
    }

    fn check_cache_aside(&self, problems: &mut Problems, at: &str, step: &CacheAside) {
        reference(
            problems,
            self.spec,
            &format!("{at}.cache"),
            &step.cache,
            ServiceKind::Redis,
        );
        self.check_places(problems, &format!("{at}.key"), &step.key);
        for (field, duration) in [("ttl", step.ttl), ("timeout", step.timeout)] {
            if duration.as_millis() == 0 {
                problems.push(format!("{at}.{field}"), "too short", "write at least 1ms");
            }
        }
        if step.on_miss.iter().all(|inner| matches!(inner, Step::Work(_))) {
            problems.push(
                format!("{at}.onMiss"),
                "nothing brings the value",
                "write a query or a call",
            );
        }
        self.check(problems, &format!("{at}.onMiss"), &step.on_miss);
    }

    fn check_query(&self, problems: &mut Problems, at: &str, query: &Query) {
        if query.timeout.is_zero() {
            problems.push(format!("{at}.timeout"), "no time at all", "write a duration such as 2s");
        }
        for (index, argument) in query.args.iter().enumerate() {
            self.check_places(problems, &format!("{at}.args[{index}]"), argument);
        }
        if !reference(
            problems,
            self.spec,
            &format!("{at}.database"),
            &query.database,
            ServiceKind::Postgres,
        ) {
            return;
        }
        let statements = &self.spec.services[&query.database].statements;
        let Some(sql) = statements.get(&query.statement) else {
            let message = format!("`{}` has no statement `{}`", query.database, query.statement);
            let advice = advice_for(&query.statement, statements.keys().map(String::as_str));
            problems.push(format!("{at}.statement"), message, advice);
            return;
        };
        let wanted = parameter_count(sql);
        if wanted != query.args.len() {
            let message = format!("{} arguments for a statement with {wanted}", query.args.len());
            problems.push(format!("{at}.args"), message, "write one for each of $1, $2, …");
        }
    }

    fn check_call(&self, problems: &mut Problems, at: &str, call: &Call) {
        if call.timeout.is_zero() {
            problems.push(format!("{at}.timeout"), "no time at all", "write a duration such as 2s");
        }
        if reference(
            problems,
            self.spec,
            &format!("{at}.service"),
            &call.service,
            ServiceKind::Http,
        ) && self.check_places(problems, &format!("{at}.path"), &call.path)
        {
            let values: Vec<_> = self
                .parameters
                .iter()
                .map(|name| ((*name).to_owned(), "1".to_owned()))
                .collect();
            let example = fill(&call.path, &values);
            check_callee_path(problems, self.spec, &format!("{at}.path"), &call.service, &example);
        }
    }

    fn check_places(&self, problems: &mut Problems, at: &str, text: &str) -> bool {
        match places(text) {
            Ok(names) => {
                let unknown: Vec<&str> = names
                    .into_iter()
                    .filter(|name| !self.parameters.contains(name))
                    .collect();
                for name in &unknown {
                    let advice = match self.parameters.is_empty() {
                        true => "the endpoint's path has no parameters".to_owned(),
                        false => advice_for(name, self.parameters.iter().copied()),
                    };
                    problems.push(at, format!("the endpoint has no parameter `{{{name}}}`"), advice);
                }
                unknown.is_empty()
            }
            Err(error) => {
                problems.push(at, error.to_string(), "write places as {name}");
                false
            }
        }
    }
}

/// The greatest n of the `$n` in a statement.
fn parameter_count(sql: &str) -> usize {
    let number = |rest: &str| {
        rest.split(|c: char| !c.is_ascii_digit())
            .next()
            .and_then(|digits| digits.parse().ok())
    };
    sql.split('$').skip(1).filter_map(number).max().unwrap_or(0)
}
