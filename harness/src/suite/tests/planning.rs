//! Plans: their order, their digest, their shards.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::support::{small_plan, suite};
use crate::suite::outcome::Shard;
use crate::suite::plan::{CaseKey, SuitePlan, Wanted, plan};

fn shards(count: u32) -> impl Iterator<Item = Option<Shard>> {
    (1..=count).map(move |index| Some(Shard { index, count }))
}

fn keys(plan: &SuitePlan, shard: Option<Shard>) -> Vec<CaseKey> {
    plan.part(shard).iter().map(|case| case.key.clone()).collect()
}

#[test]
fn every_scenario_has_its_first_trial_before_any_has_its_second() {
    let plan = small_plan(2);
    let order: Vec<String> = plan
        .cases
        .iter()
        .map(|case| format!("{} seed {}", case.key, case.seed.0))
        .collect();
    assert_eq!(
        order,
        [
            "none trial 1 seed 1",
            "placebo trial 1 seed 1",
            "surge trial 1 seed 1",
            "cache-flush trial 1 seed 1",
            "none trial 2 seed 2",
            "placebo trial 2 seed 2",
            "surge trial 2 seed 2",
            "cache-flush trial 2 seed 2",
        ]
    );
    assert_eq!(plan.cases[5].attempt_seed(0).0, 2);
    assert_eq!(plan.cases[5].attempt_seed(2).0, 2_000_002);
}

#[test]
fn the_digest_is_of_what_runs_and_of_nothing_else() {
    let one = suite("[{name: none}, {name: surge}]", 2);
    let digest = plan(&one).digest;
    assert_eq!(digest.len(), 64);
    let mut same = one.clone();
    "another word".clone_into(&mut same.scenarios[0].scenario.title);
    "another word".clone_into(&mut same.scenarios[0].scenario.description);
    (same.name, same.title, same.retries) = ("other".to_owned(), "Other".to_owned(), 5);
    assert_eq!(plan(&same).digest, digest);
    let changed = |change: &dyn Fn(&mut crate::suite::Suite)| {
        let mut other = one.clone();
        change(&mut other);
        plan(&other).digest
    };
    let others = [
        changed(&|suite| suite.seeds[1].0 = 7),
        changed(&|suite| suite.seeds.truncate(1)),
        changed(&|suite| suite.scenarios.reverse()),
        changed(&|suite| suite.scenarios.truncate(1)),
        changed(&|suite| suite.scenarios[0].scenario.limits.false_alarms = 1),
        changed(&|suite| suite.scenarios[1].app.spec.nodes += 1),
    ];
    let all: BTreeSet<&String> = others.iter().chain([&digest]).collect();
    assert_eq!(all.len(), others.len() + 1, "each change makes another digest");
}

#[test]
fn what_is_wanted_is_chosen_by_name_class_and_label() {
    let wanted = |names: &[&str], classes: &[&str], labels: &[(&str, &str)]| {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let wanted = Wanted {
            names: texts(names),
            classes: texts(classes),
            labels: labels
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
        };
        let left = wanted.of(suite("[{class: controls}, {class: cache}]", 1));
        let names: Vec<String> = left.scenarios.into_iter().map(|one| one.scenario.name).collect();
        names.join(" ")
    };
    assert_eq!(wanted(&["none", "cache-h*"], &[], &[]), "none cache-hang");
    assert_eq!(wanted(&[], &["controls"], &[]), "none placebo surge");
    assert_eq!(
        wanted(&["*a*"], &["controls", "cache"], &[("story", "seed")]),
        "cache-network-misconfig"
    );
    assert_eq!(wanted(&["none"], &["cache"], &[]), "");
}

#[test]
fn a_shard_is_written_as_two_numbers() {
    assert_eq!("2/3".parse(), Ok(Shard { index: 2, count: 3 }));
    for text in ["", "2", "0/3", "4/3", "1/0", "-1/2", "1/2/3", "a/b", " 1/2"] {
        let error = text.parse::<Shard>().expect_err(text).to_string();
        assert!(error.contains("2/3"), "{error}");
    }
}

proptest! {
    /// Shards are a partition, each in the suite's order, as even as can be: over all cases and over each scenario's.
    #[test]
    fn shards_are_a_fair_partition(trials in 1_u32..7, count in 1_u32..9) {
        let plan = small_plan(trials);
        let whole = keys(&plan, None);
        let mut seen = BTreeSet::new();
        let mut sizes = BTreeSet::new();
        let mut of_scenario: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
        for shard in shards(count) {
            let part = keys(&plan, shard);
            let in_order: Vec<CaseKey> = whole.iter().filter(|key| part.contains(key)).cloned().collect();
            prop_assert_eq!(&in_order, &part);
            for key in &part {
                prop_assert!(seen.insert(key.clone()), "{} is in two shards", key);
            }
            sizes.insert(part.len());
            for chosen in &plan.scenarios {
                let name = &chosen.scenario.name;
                let trials = part.iter().filter(|key| key.scenario == *name).count();
                of_scenario.entry(name.clone()).or_default().insert(trials);
            }
        }
        prop_assert_eq!(seen.len(), whole.len());
        for sizes in of_scenario.values().chain([&sizes]) {
            prop_assert!(sizes.last().unwrap() - sizes.first().unwrap() <= 1, "{:?}", sizes);
        }
    }
}
