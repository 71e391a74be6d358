//! Tables of mistakes and what is said about them.

use expect_test::{Expect, expect};

use super::validate;
use crate::app;
use crate::app::spec::{AppSpec, ServiceKind, Step, Work};

/// Breaks the shop and expects these problems, all of them.
fn check(break_it: impl FnOnce(&mut AppSpec), expected: Expect) {
    let mut spec = app::load("shop").expect("the shipped shop").spec;
    break_it(&mut spec);
    let problems: String = validate(&spec).iter().map(|problem| format!("{problem}\n")).collect();
    expected.assert_eq(&problems);
}

fn first_step(spec: &mut AppSpec) -> &mut Step {
    &mut spec.services.get_mut("web").expect("the web service").endpoints[0].steps[1]
}

#[test]
fn names_the_service_that_was_meant() {
    check(
        |spec| {
            let Step::CacheAside(step) = first_step(spec) else {
                panic!("the second step is cache-aside")
            };
            step.cache = "cahce".to_owned();
        },
        expect![[r#"
            services.web.endpoints[0].steps[1].cache-aside.cache: no service is called `cahce` (did you mean `cache`?)
        "#]],
    );
}

#[test]
fn refuses_to_call_a_cache_as_http() {
    check(
        |spec| {
            let call = serde_json::json!({"call": {"service": "cache", "path": "/x"}});
            *first_step(spec) = serde_json::from_value(call).expect("a step");
        },
        expect![[r#"
            services.web.endpoints[0].steps[1].call.service: `cache` is a redis service, not http (http services are: web)
        "#]],
    );
}

#[test]
fn finds_all_problems_at_once() {
    check(
        |spec| {
            spec.nodes = 0;
            spec.entry = "wbe".to_owned();
            spec.services.get_mut("cache").expect("the cache").replicas = 0;
            let db = spec.services.get_mut("db").expect("the database");
            db.max_memory_mib = Some(1);
            db.statements.remove("order-by-id");
            *first_step(spec) = Step::Work(Work {
                cpu: std::time::Duration::ZERO,
            });
        },
        expect![[r#"
            nodes: 0 nodes (write a number from 1 to 16)
            entry: no service is called `wbe` (did you mean `web`?)
            services.cache.replicas: no replica (write at least 1, or remove the service)
            services.db.maxMemoryMib: a postgres service has no `maxMemoryMib` (only redis services have it)
            services.web.endpoints[0].steps[1].work.cpu: out of range (write more than 0, and at most 1s)
            services.web.endpoints[1].steps[1].query.statement: `db` has no statement `order-by-id` (there are: product-with-statistics)
        "#]],
    );
}

#[test]
fn finds_a_cycle_of_calls() {
    check(
        |spec| {
            let mut other = spec.services["web"].clone();
            let call = |service: &str| {
                let call = serde_json::json!({"call": {"service": service, "path": "/product/{id}"}});
                serde_json::from_value::<Step>(call).expect("a step")
            };
            other.replicas = 1;
            other.pool = Some(app::spec::PoolSpec {
                size: 4,
                ..Default::default()
            });
            other.endpoints[0].steps = vec![call("web")];
            spec.services.insert("other".to_owned(), other);
            spec.services.get_mut("web").expect("web").endpoints[0].steps = vec![call("other")];
        },
        expect![[r#"
            services.other.endpoints: calls come back: other → web → other (remove one of these calls)
        "#]],
    );
}

#[test]
fn refuses_paths_places_and_counts_that_do_not_fit() {
    check(
        |spec| {
            spec.load.paths[0].path = "/produkt/{uniform:1..9}".to_owned();
            let Step::CacheAside(step) = first_step(spec) else {
                panic!("the second step is cache-aside")
            };
            step.key = "product:{idd}".to_owned();
            let Step::Query(query) = &mut step.on_miss[0] else {
                panic!("a miss queries")
            };
            query.args.clear();
            let web = spec.services.get_mut("web").expect("web");
            web.replicas = 4;
            web.endpoints.push(web.endpoints[0].clone());
            web.endpoints[2].path = "/product/{other}".to_owned();
            web.endpoints[2].steps.clear();
        },
        expect![[r#"
            load.paths[0].path: `web` has no endpoint for /produkt/1 (its endpoints are: /product/{id}, /order/{id}, /product/{other})
            services.db: the pools of its callers may open 64 connections, and 47 are available (lower `pool.size` or the replicas of its callers)
            services.web.endpoints[0].steps[1].cache-aside.key: the endpoint has no parameter `{idd}` (did you mean `id`?)
            services.web.endpoints[0].steps[1].cache-aside.onMiss[0].query.args: 0 arguments for a statement with 1 (write one for each of $1, $2, …)
            services.web.endpoints[2].path: another endpoint matches the same paths (remove one)
        "#]],
    );
}

#[test]
fn kinds_have_ports_of_their_own() {
    let ports = [ServiceKind::Http, ServiceKind::Redis, ServiceKind::Postgres].map(ServiceKind::default_port);
    assert_eq!(ports, [8080, 6379, 5432]);
}
