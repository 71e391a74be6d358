//! Files that are no scenario by their form: types, fields, YAML; and the documentation of the form.

use expect_test::{expect, expect_file};

use super::{VALID, check, check_text, shipped};
use crate::scenario::{read_text, shapes};

#[test]
fn all_problems_come_at_once_with_caret_and_advice() {
    let text = "\
apiVersion: gauntlet/v2
kind: Scenario
metadata: {name: Bad_Name, titel: T}
spec:
  app: shop
  phases: {baseline: 1s, fault: 10}
  faults:
    - id: f
      kind: network-filtr
      target: {service: cach, mode: fixed, count: 9}
    - id: f
      kind: network-delay
      delay: -5ms
      jitter: 3ms
      target: {service: cache, mode: fixed, count: 9}
  impact:
    anyOf:
      - {sli: latency-p51, timesBaseline: 2}
  truth:
    rootCauses:
      - {fault: g, service: cache, mechanism: network.fliter}
    notRootCause: [web, cache]
  window: [1]
";
    let errors = read_text("bad.yaml", text, &shipped()).expect_err("many mistakes");
    expect_file!["./all_problems.txt"].assert_eq(&errors.render_plain());
}

#[test]
fn wrong_types_are_named() {
    check(
        "app: shop",
        "app: 7",
        expect![[r#"
        5:8 must be text, found a number | put it in quotes
    "#]],
    );
    check(
        "{id: f,",
        "{id: [f],",
        expect![[r#"
        7:12 must be text, found a list
    "#]],
    );
    check(
        "count: 2",
        "count: two",
        expect![[r#"
        7:82 must be a whole number, found text
    "#]],
    );
    check(
        "count: 2",
        "count: -2",
        expect![[r#"
        7:82 must be from 1 to 10000, found -2
    "#]],
    );
    check(
        "truth:\n",
        "limits: 3\n  truth:\n",
        expect![[r#"
        9:11 `spec.limits` must be a mapping, found a number
    "#]],
    );
    check(
        "metadata: {name: t, title: T}",
        "metadata: t",
        expect![[r#"
        3:11 `metadata` must be a mapping, found text
    "#]],
    );
    check(
        "    - {id: f,",
        "    {id: f,",
        expect![[r#"
        7:5 must be a list, found a mapping | begin each element with `- `, or write `[…]`
    "#]],
    );
}

#[test]
fn unknown_repeated_and_missing_fields_are_named() {
    check(
        "mode: fixed",
        "modus: fixed",
        expect![[r#"
        7:62 `spec.faults[].target` has no field `modus` | did you mean `mode`?
        7:83 `count` is not used by this mode | write `mode: fixed`
    "#]],
    );
    check(
        "app: shop",
        "app: shop\n  app: shop",
        expect![[r#"
        6:3 `app` is written twice | keep one of them
    "#]],
    );
    check(
        "kind: network-filter,",
        "kind: network-filter, delay: 5ms,",
        expect![[r#"
        7:37 `spec.faults[]` has no field `delay` | it belongs to `kind: network-delay`
    "#]],
    );
    check(
        "kind: network-filter,",
        "kind: network-loss,",
        expect![[r#"
        7:8 `spec.faults[]` lacks `ratio` | add `ratio: 30%`
    "#]],
    );
    check(
        "kind: network-filter, ",
        "",
        expect![[r#"
        7:8 `spec.faults[]` lacks `kind` | add `kind: network-filter`
    "#]],
    );
    check(
        "  app: shop\n",
        "",
        expect![[r#"
        5:3 `spec` lacks `app` | add `app: shop`
    "#]],
    );
    check(
        "title: T",
        "title: T, timeToDetect: 5s",
        expect![[r#"
        3:31 `metadata` has no field `timeToDetect` | its fields are: name, title, description, labels
    "#]],
    );
}

#[test]
fn what_is_no_yaml_is_said_with_its_place() {
    check_text(
        "apiVersion: [gauntlet\nkind: x\n",
        expect![[r#"
        2:5 illegal placement of ':' indicator | from here on the text is not YAML; the rest was not read
    "#]],
    );
    check_text(
        "",
        expect![[r#"
        1:1 `scenario` must be a mapping, found nothing
    "#]],
    );
}

/// The tables of the documentation are those that the reader checks with: they stand between the marks of `what`.
/// `UPDATE_EXPECT=1` writes them.
pub(crate) fn check_documentation(what: &str, tables: &str) {
    let by = "written by `UPDATE_EXPECT=1 cargo test -p gauntlet-harness documentation`";
    let (begin, end) = (
        format!("<!-- {what}: begin ({by}) -->\n"),
        format!("<!-- {what}: end -->\n"),
    );
    let path = shipped().join("README.md");
    let text = std::fs::read_to_string(&path).expect("scenarios/README.md");
    let (before, rest) = text.split_once(&begin).expect("the mark of the tables' begin");
    let (_, after) = rest.split_once(&end).expect("the mark of the tables' end");
    expect_file![path].assert_eq(&format!("{before}{begin}\n{tables}{end}{after}"));
}

#[test]
fn the_documentation_has_every_field() {
    check_documentation("fields", &shapes::reference());
}

/// Cuts a piece out of `VALID` and puts other text there, at bounds of characters.
fn mutilated(start: usize, len: usize, instead: &str) -> String {
    let start = start % VALID.len();
    let end = (start + len).min(VALID.len());
    format!("{}{instead}{}", &VALID[..start], &VALID[end..])
}

proptest::proptest! {
    /// Whatever is written, there is an answer: a scenario, or problems that lie within the text and can be shown.
    #[test]
    fn no_text_confuses_the_reader(
        start in 0usize..400,
        len in 0usize..40,
        instead in "[ -~é\n]{0,6}|kind: |- |\\{|\\[|: |-1|&a |\\*a|<<: |n|~|!!str ",
    ) {
        let text = mutilated(start, len, &instead);
        if let Err(errors) = read_text("t.yaml", &text, &shipped()) {
            proptest::prop_assert!(!errors.problems().is_empty());
            for problem in errors.problems() {
                proptest::prop_assert!(problem.span.offset + problem.span.len <= text.len(), "{problem:?}");
            }
            proptest::prop_assert!(errors.render_plain().lines().count() > 1);
        }
    }
}
