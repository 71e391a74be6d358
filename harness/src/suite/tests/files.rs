//! Bad suite files and what is said of them; shipped files and their documentation.

use std::path::Path;

use expect_test::{Expect, expect, expect_file};

use super::support::shipped;
use crate::scenario::{catalogue, problem::lines, shapes::tables, tests::check_documentation};
use crate::suite::{load, shapes, spec::read_text};

/// A valid suite, of which each test replaces a part.
const VALID: &str = "\
apiVersion: gauntlet/v1
kind: Suite
metadata: {name: t, title: T}
spec:
  scenarios: [{class: cache}]
  trials: 2
";

/// Reads `VALID` with `from` replaced by `to`, and expects one line for each problem or what is chosen.
fn check(from: &str, to: &str, expected: Expect) {
    assert!(VALID.contains(from), "nothing to replace: {from}");
    let text = VALID.replace(from, to);
    let found = match read_text("t.yaml", &text, &shipped()) {
        Ok(suite) => {
            let names: Vec<&str> = suite.scenarios.iter().map(|one| one.scenario.name.as_str()).collect();
            let seeds: Vec<String> = suite.seeds.iter().map(|seed| seed.0.to_string()).collect();
            format!(
                "{}\nseeds {}, retries {}\n",
                names.join(" "),
                seeds.join(" "),
                suite.retries
            )
        }
        Err(errors) => lines(&errors),
    };
    expected.assert_eq(&found);
}

#[test]
fn a_list_chooses_by_name_pattern_class_and_label_each_scenario_once() {
    check(
        "cache}",
        "cache}",
        expect![[r#"
        cache-crash cache-flush cache-hang cache-network-delay cache-network-misconfig cache-packet-loss cache-wrong-port
        seeds 1 2, retries 1
    "#]],
    );
    check(
        "[{class: cache}]",
        "[{labels: {story: seed}}, {name: \"*-cpu-limit\"}, {class: cache, name: \"cache-h*\"}, {name: web-cpu-limit}]",
        expect![[r#"
            cache-network-misconfig db-cpu-limit web-cpu-limit cache-hang
            seeds 1 2, retries 1
        "#]],
    );
    check(
        "trials: 2",
        "trials: 3\n  seed: 40\n  retries: 0",
        expect![[r#"
        cache-crash cache-flush cache-hang cache-network-delay cache-network-misconfig cache-packet-loss cache-wrong-port
        seeds 40 41 42, retries 0
    "#]],
    );
    check(
        "trials: 2",
        "seeds: [5, 3]",
        expect![[r#"
        cache-crash cache-flush cache-hang cache-network-delay cache-network-misconfig cache-packet-loss cache-wrong-port
        seeds 5 3, retries 1
    "#]],
    );
}

#[test]
fn all_problems_come_at_once_with_caret_and_advice() {
    let text = "\
apiVersion: gauntlet/v1
kind: Suit
metadata: {name: Nightly, description: Every night}
spec:
  scenarios:
    - {class: cash}
    - {name: cache-flus}
    - {label: {story: seed}}
    - {}
  trails: 3
  trials: 0
  seeds: [1, 2, 2]
  retries: many
";
    let errors = read_text("bad.yaml", text, &shipped()).expect_err("many mistakes");
    expect_file!["./all_problems.txt"].assert_eq(&errors.render_plain());
}

#[test]
fn what_chooses_nothing_is_a_mistake() {
    check(
        "[{class: cache}]",
        "[]",
        expect![[r#"
        5:14 no scenario is no suite | for example `[{class: cache}]`
    "#]],
    );
    check(
        "class: cache",
        "class: cache, labels: {story: sed}",
        expect![[r#"
        5:39 no scenario chosen here has the label `story: sed` | did you mean `seed`?
    "#]],
    );
    check(
        "class: cache",
        "class: web, labels: {story: seed}",
        expect![[r#"
        5:37 no scenario chosen here has the label `story: seed` | some have it, but not together with what stands before
    "#]],
    );
    check(
        "class: cache",
        "labels: {stori: seed}",
        expect![[r#"
        5:25 no scenario chosen here has the label `stori: seed` | did you mean `story`?
    "#]],
    );
    check(
        "class: cache",
        "class: cache, name: \"db-*\"",
        expect![[r#"
            5:23 no scenario chosen here has the label `class: cache` | one of: db, kubernetes
        "#]],
    );
    check(
        "class: cache",
        "name: \"cash-*\"",
        expect![[r#"
            5:22 no scenario has the name `cash-*` | one of: cache-bad-image, cache-crash, cache-flush, cache-hang, cache-memory-limit, cache-network-delay, cache-network-misconfig, cache-packet-loss, cache-policy-deny, cache-wrong-port, cache-wrong-selector, chain-leaf-crash, chain-middle-delay, db-cpu-limit, db-network-delay, db-scale-to-zero, db-unready, dns-down, fanout-one-branch-filter, kubelet-stopped, node-cut-off, node-drained, node-paused, none, placebo, surge, web-cpu-limit, web-wrong-cache-address
        "#]],
    );
    check(
        "class: cache",
        "name: ./nowhere.yaml",
        expect![[r#"
        5:22 scenario `./nowhere.yaml` cannot be used: failed to read the file: No such file or directory (os error 2) | see `gauntlet scenario validate ./nowhere.yaml`
    "#]],
    );
    check(
        "class: cache",
        "labels: [seed]",
        expect![[r#"
        5:24 must be a mapping, found a list | for example `{story: seed}`
    "#]],
    );
}

#[test]
fn seeds_are_said_once() {
    check(
        "trials: 2",
        "seed: 1\n  seeds: [1]\n  trials: 1",
        expect![[r#"
        6:9 `seeds` says the first seed | remove `seed`, or `seeds`
        8:11 `seeds` says how many trials there are | remove `trials`, or `seeds`
    "#]],
    );
    check(
        "trials: 2",
        "seeds: []",
        expect![[r#"
        6:10 no seed is no trial | for example `[3, 14, 15]`
    "#]],
    );
    check(
        "trials: 2",
        "seeds: [-1, x]",
        expect![[r#"
        6:11 must be from 0 to 4294967295, found -1
        6:15 must be a whole number, found text
    "#]],
    );
}

/// Paths are seen from the suite, and an application from its scenario.
#[test]
fn a_suite_may_choose_files_of_its_own() {
    let directory = tempfile::tempdir().expect("a directory");
    let scenario = std::fs::read_to_string(shipped().join("controls/none.yaml")).expect("it ships");
    let app = std::fs::read_to_string(shipped().join("apps/shop.yaml")).expect("it ships");
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).expect("written");
    write(
        "own.yaml",
        &scenario
            .replace("app: shop", "app: ./own-shop.yaml")
            .replace("name: none", "name: own"),
    );
    write("own-shop.yaml", &app.replace("name: shop", "name: own-shop"));
    write("clash.yaml", &scenario.replace("falseAlarms: 0", "falseAlarms: 1"));
    let load = |scenarios: &str| {
        write("s.yaml", &VALID.replace("[{class: cache}]", scenarios));
        load(&directory.path().join("s.yaml").display().to_string(), &shipped())
    };
    let suite = load("[{name: own.yaml}, {name: none}]").unwrap_or_else(|errors| panic!("{}", errors.render_plain()));
    let chosen: Vec<_> = suite
        .scenarios
        .iter()
        .map(|one| (one.scenario.name.as_str(), one.app.name.as_str()))
        .collect();
    assert_eq!(chosen, [("own", "own-shop"), ("none", "shop")]);
    let errors = load("[{name: none}, {name: ./clash.yaml}]").expect_err("two scenarios of one name");
    assert_eq!(errors.problems()[0].message, "two scenarios are named `none`");
}

#[test]
fn every_shipped_suite_is_valid_and_built_in() {
    let names = |root: &Path| -> Vec<String> { catalogue::suites(root).into_iter().map(|entry| entry.name).collect() };
    let nowhere = Path::new("/nonexistent");
    assert_eq!(names(&shipped()), ["controls", "kubernetes", "nightly", "smoke"]);
    assert_eq!(names(nowhere), names(&shipped()));
    for name in names(&shipped()) {
        let suite = load(&name, &shipped()).unwrap_or_else(|errors| panic!("{}", errors.render_plain()));
        assert_eq!(suite, load(&name, nowhere).expect("built in"));
    }
    let nightly = load("nightly", &shipped()).expect("valid").scenarios;
    let kubernetes = load("kubernetes", &shipped()).expect("valid").scenarios;
    assert_eq!(
        nightly.len() + kubernetes.len(),
        catalogue::scenarios(&shipped()).len(),
        "together they are the whole catalogue"
    );
    assert!(
        nightly.iter().all(|one| !one.scenario.needs_kubernetes()),
        "nightly runs anywhere"
    );
    assert!(kubernetes.iter().all(|one| one.scenario.needs_kubernetes()));
    let smoke = load("smoke", &shipped()).expect("valid");
    let smoke: Vec<&str> = smoke.scenarios.iter().map(|one| one.scenario.name.as_str()).collect();
    assert_eq!(smoke, ["cache-network-misconfig", "none"]);
}

#[test]
fn an_unknown_suite_is_answered_with_a_near_name() {
    let errors = load("nightli", &shipped()).expect_err("no such suite");
    let problem = &errors.problems()[0];
    assert_eq!(problem.message, "no suite has this name");
    assert_eq!(problem.advice.as_deref(), Some("did you mean `nightly`?"));
    // A scenario is no suite.
    assert!(load("cache-flush", &shipped()).is_err());
}

#[test]
fn the_documentation_has_every_field() {
    check_documentation("suite fields", &tables(shapes::ALL));
}
