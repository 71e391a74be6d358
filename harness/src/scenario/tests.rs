//! Bad files and what is said of their meaning; shipped files. For what is said of their form see `format`.

mod format;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use expect_test::{Expect, expect};

use super::problem::lines;
use super::{catalogue, load, read_text};

pub(crate) use self::format::check_documentation;

/// The catalogue that ships.
pub(crate) fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios")
}

/// A valid scenario, of which each test replaces a part.
const VALID: &str = "\
apiVersion: gauntlet/v1
kind: Scenario
metadata: {name: t, title: T}
spec:
  app: shop
  faults:
    - {id: f, kind: network-filter, target: {service: cache, mode: fixed, count: 2}}
  impact: {anyOf: [{sli: latency-p50, timesBaseline: 2}]}
  truth:
    rootCauses: [{fault: f, service: cache, mechanism: network.filter}]
";

/// Reads `VALID` with `from` replaced by `to`, and expects one line for each problem.
fn check(from: &str, to: &str, expected: Expect) {
    assert!(VALID.contains(from), "nothing to replace: {from}");
    check_text(&VALID.replace(from, to), expected);
}

fn check_text(text: &str, expected: Expect) {
    let found = match read_text("t.yaml", text, &shipped()) {
        Ok(_) => "valid\n".to_owned(),
        Err(errors) => lines(&errors),
    };
    expected.assert_eq(&found);
}

#[test]
fn a_minimal_file_is_valid() {
    check(
        "cache",
        "cache",
        expect![[r#"
        valid
    "#]],
    );
}

#[test]
fn names_must_exist_in_the_application() {
    check(
        "app: shop",
        "app: shpo",
        expect![[r#"
        5:8 there is no application `shpo` | did you mean `shop`?
    "#]],
    );
    check(
        "service: cache, mode",
        "service: cahce, mode",
        expect![[r#"
        7:55 application `shop` has no service `cahce` | did you mean `cache`?
    "#]],
    );
    check(
        "kind: network-filter,",
        "kind: network-filter, peer: wbe,",
        expect![[r#"
        7:43 application `shop` has no service `wbe` | did you mean `web`?
    "#]],
    );
    check(
        "rootCauses: [{fault: f, service: cache",
        "rootCauses: [{fault: f, service: billing",
        expect![[r#"
        10:38 application `shop` has no service `billing` | one of: cache, db, web
    "#]],
    );
    check(
        "service: cache, mechanism",
        "edge: {caller: web, callee: cach}, mechanism",
        expect![[r#"
        10:57 application `shop` has no service `cach` | did you mean `cache`?
    "#]],
    );
    check(
        "rootCauses:",
        "path: [cache, webb]\n    notRootCause: [dbb]\n    rootCauses:",
        expect![[r#"
        10:19 application `shop` has no service `webb` | did you mean `web`?
        11:20 application `shop` has no service `dbb` | did you mean `db`?
    "#]],
    );
}

#[test]
fn targets_must_suit_kind_and_replicas() {
    check(
        "count: 2",
        "count: 4",
        expect![[r#"
        7:82 `cache` has only 3 pods, 4 are asked for | at most 3, or `mode: all`
    "#]],
    );
    check(
        "mode: fixed, count: 2",
        "mode: fixed",
        expect![[r#"
        7:68 this mode needs `count` | add `count: 2`
    "#]],
    );
    check(
        "mode: fixed, count: 2",
        "count: 2",
        expect![[r#"
        7:69 `count` is not used by this mode | write `mode: fixed`
    "#]],
    );
    check(
        "mode: fixed, count: 2",
        "mode: percent, percent: 120",
        expect![[r#"
        7:86 must be more than 0 and at most 100, found 120
    "#]],
    );
    check(
        ", target: {service: cache, mode: fixed, count: 2}",
        "",
        expect![[r#"
        7:21 this kind needs a `target` | for example `target: {service: cache, mode: one}`
    "#]],
    );
    check(
        "network-filter,",
        "service-wrong-port, targetPort: 1,",
        expect![[r#"
            7:87 what this kind makes wrong is shared by all pods of the service | write `mode: all`
        "#]],
    );
    check(
        "network-filter, target: {service: cache, mode: fixed, count: 2}",
        "cache-flush, target: {service: db}",
        expect![[r#"
        7:52 `db` is no redis service and has no keys to forget | redis services: cache
    "#]],
    );
}

#[test]
fn times_must_fit_each_other() {
    check(
        "kind: network-filter,",
        "kind: network-filter, effect: {within: 16s},",
        expect![[r#"
        7:54 the fault ends after 15s, before its effect must be proven | write a shorter `within`
    "#]],
    );
    check(
        "kind: network-filter,",
        "kind: network-filter, startAfter: 10s, duration: 6s,",
        expect![[r#"
        7:64 the fault phase ends 5s after this fault starts | write a shorter `duration`, or a longer `spec.phases.fault`
    "#]],
    );
    check(
        "kind: network-filter,",
        "kind: network-filter, startAfter: 15s,",
        expect![[r#"
        7:49 the fault phase ends after 15s, before this fault starts | start it sooner, or write a longer `spec.phases.fault`
    "#]],
    );
    check(
        "app: shop",
        "app: shop\n  phases: {fault: 5s, recovery: 0s}",
        expect![[r#"
        6:19 `fault` is too short: 5s | at least `6s`
        6:33 `recovery` is too short: 0ns | at least `1s`
    "#]],
    );
    check(
        "app: shop",
        "app: shop\n  window: 25s",
        expect![[r#"
        6:11 the run ends 20s after the injection, before this window | at most `phases.fault` + `phases.recovery`
    "#]],
    );
    check(
        "app: shop",
        "app: shop\n  limits: {timeToDetect: 20s}",
        expect![[r#"
        6:26 what comes later than 15s does not count | write a shorter limit, or a longer `spec.window`
    "#]],
    );
    check(
        "app: shop",
        "app: shop\n  phases: {warmUp: 3h}",
        expect![[r#"
        6:12 a run of 10828s is too long | at most 2 hours in all
    "#]],
    );
    check(
        "impact: {",
        "impact: {within: 1m, ",
        expect![[r#"
        8:20 the fault phase ends after 15s | write a shorter `within`
    "#]],
    );
}

#[test]
fn faults_truth_and_impact_must_agree() {
    check(
        "fault: f,",
        "fault: ff,",
        expect![[r#"
        10:5 fault `f` is no root cause here | add `- {fault: f, service: …, mechanism: …}` to `rootCauses`
        10:26 no fault is named `ff` | did you mean `f`?
    "#]],
    );
    check(
        "rootCauses: [{fault: f, service: cache, mechanism: network.filter}]",
        "rootCauses: []",
        expect![[r#"
        10:5 fault `f` is no root cause here | add `- {fault: f, service: …, mechanism: …}` to `rootCauses`
    "#]],
    );
    check(
        "mechanism: network.filter",
        "mechanism: network.filtre",
        expect![[r#"
        10:56 `network.filtre` is not possible here | did you mean `network.filter`?
    "#]],
    );
    check(
        "mechanism: network.filter",
        "mechanism: unknown",
        expect![[r#"
        10:56 `unknown` is not possible here | one of: app.error, app.slow, cache.auth, cache.cold, cache.eviction, db.connections, db.lock, db.slow, dns.delay, dns.failure, dns.wrong-answer, load.surge, network.bandwidth, network.delay, network.down, network.filter, network.loss, network.misroute, network.mtu, process.crash, process.hang, resource.cpu, resource.io, resource.memory
    "#]],
    );
    check(
        "service: cache, mechanism",
        "service: cache, node: node-1, mechanism",
        expect![[r#"
        10:51 a cause has one place | keep one of `service`, `edge` and `node`; others that are as right go to `accept`
    "#]],
    );
    check(
        "service: cache, mechanism",
        "mechanism",
        expect![[r#"
        10:19 a root cause needs a place: `service`, `edge` or `node` | for example `service: cache`
    "#]],
    );
    check(
        "network.filter}]",
        "network.filter, accept: [{mechanism: network.loss}]}]",
        expect![[r#"
        10:82 `spec.truth.rootCauses[].accept[]` lacks `because` | add `because: "a slow database is what a starved one looks like"`
    "#]],
    );
}

#[test]
fn harm_and_controls_must_suit_the_faults() {
    check(
        "  impact: {anyOf: [{sli: latency-p50, timesBaseline: 2}]}\n",
        "",
        expect![[r#"
        7:21 this fault is no test until users see harm, and `spec.impact` is missing | add for example `impact: {anyOf: [{sli: latency-p50, timesBaseline: 2}]}`
    "#]],
    );
    check(
        "sli: latency-p50",
        "sli: error-ratio",
        expect![[r#"
        8:54 the baseline of `error-ratio` may be 0 | write `atLeast: 5%`
    "#]],
    );
    check(
        "timesBaseline: 2",
        "atLeast: 5%",
        expect![[r#"
        8:48 `5%` is no duration | a number and us, ms, s or m, for example `200ms`
    "#]],
    );
    check(
        "    - {id: f,",
        "    - {id: n, kind: none}\n    - {id: f,",
        expect![[r#"
        7:21 `none` stands beside other faults | remove it
    "#]],
    );
    check(
        "network-filter, target: {service: cache, mode: fixed, count: 2}",
        "load-surge, factor: 0.5",
        expect![[r#"
            7:41 a surge multiplies the load by more than 1 | for example `2.5`
        "#]],
    );
    check(
        "network-filter,",
        "placebo, of: {kind: load-surge, factor: 2},",
        expect![[r#"
        7:35 a placebo needs a kind that has machinery
    "#]],
    );
    check(
        "network-filter,",
        "placebo, of: {kind: cpu-limit, millicores: 10},",
        expect![[r#"
        10:26 fault `f` does nothing and causes nothing | write `rootCauses: []`
    "#]],
    );
}

#[test]
fn unknown_names_are_answered_with_near_ones() {
    let errors = load("cache-network-misconfg", &shipped()).expect_err("no such scenario");
    expect![[r#"
        scenario: 1 problem
          × no scenario has this name
           ╭─[scenario:1:1]
         1 │ cache-network-misconfg
           · ───────────┬──────────
           ·            ╰── here
           ╰────
          help: did you mean `cache-network-misconfig`?
    "#]]
    .assert_eq(&errors.render_plain());
}

#[test]
fn every_shipped_scenario_is_valid_short_and_of_a_unique_name() {
    let mut names = BTreeSet::new();
    for entry in catalogue::scenarios(&shipped()) {
        let scenario = load(&entry.name, &shipped()).unwrap_or_else(|errors| panic!("{}", errors.render_plain()));
        assert!(
            names.insert(scenario.name.clone()),
            "two scenarios are named {}",
            scenario.name
        );
        assert_eq!(
            scenario.labels.get("class"),
            Some(&entry.class),
            "label of {}",
            scenario.name
        );
        // A rollout takes its time, and a node that says nothing is given 40 s by its cluster.
        let longest = if scenario.needs_kubernetes() { 140 } else { 40 };
        assert!(
            scenario.phases.total().as_secs() <= longest,
            "{} is too long for a quick suite",
            scenario.name
        );
    }
    let asked = [
        "cache-network-misconfig",
        "cache-wrong-port",
        "cache-packet-loss",
        "cache-network-delay",
        "cache-hang",
        "cache-crash",
        "cache-flush",
        "db-cpu-limit",
        "db-network-delay",
        "web-cpu-limit",
        "surge",
        "none",
        "placebo",
        "chain-middle-delay",
        "chain-leaf-crash",
        "fanout-one-branch-filter",
    ];
    for name in asked {
        assert!(names.contains(name), "{name} does not ship");
    }
}

#[test]
fn the_catalogue_is_built_in() {
    let nowhere = Path::new("/nonexistent");
    let built_in: Vec<_> = catalogue::scenarios(nowhere)
        .into_iter()
        .map(|entry| entry.name)
        .collect();
    let on_disk: Vec<_> = catalogue::scenarios(&shipped())
        .into_iter()
        .map(|entry| entry.name)
        .collect();
    assert_eq!(built_in, on_disk);
    assert_eq!(
        load("surge", nowhere).expect("built in"),
        load("surge", &shipped()).expect("on disk")
    );
}

#[test]
fn faults_of_a_cluster_go_with_their_targets_and_truths() {
    let kind = |kind: &str, target: &str, place: &str| {
        let fault = format!("{{id: f, {kind}, target: {{{target}}}}}");
        let text = VALID.replace(
            "{id: f, kind: network-filter, target: {service: cache, mode: fixed, count: 2}}",
            &fault,
        );
        text.replace("fault: f, service: cache", &format!("fault: f, {place}"))
    };
    check_text(
        &kind("kind: node-pause", "service: cache, mode: one", "node: target"),
        expect![[r#"
            valid
        "#]],
    );
    check_text(
        &kind("kind: node-pause", "service: cache", "node: target"),
        expect![[r#"
            7:42 this kind is done to the node of one pod | write `mode: one`
        "#]],
    );
    check_text(
        &kind("kind: scale-to-zero", "service: cache, mode: one", "node: target"),
        expect![[r#"
            7:67 what this kind makes wrong is shared by all pods of the service | write `mode: all`
            10:35 fault `f` chooses no node (scale to zero) | write the name of a node, or a kind that is done to one, for example `node-pause`
        "#]],
    );
    check_text(
        &kind(
            "kind: config-wrong-address, peer: cash, port: 1",
            "service: db",
            "service: dns",
        ),
        expect![[r#"
            7:49 application `shop` has no service `cash` | did you mean `cache`?
            7:82 `db` calls nobody and has no addresses to be wrong | the target is the caller; the callee is `peer`
        "#]],
    );
    check_text(
        &kind("kind: placebo, of: {kind: bad-image}", "service: web", "service: web"),
        expect![[r#"
            7:35 this kind has no harmless form: a rollout is felt, whatever it changes | take another kind, for example `service-wrong-port` or `network-filter`
        "#]],
    );
}
