//! Suite files: found, read, checked, their scenarios chosen; all that is wrong with one is said at once.
//!
//! Does not run anything, and does not say in which order; see [`super::plan`].

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::plan::Seed;
use crate::scenario::model::Scenario;
use crate::scenario::problem::{Problems, ScenarioErrors};
use crate::scenario::reader::{self, Fields};
use crate::scenario::tree::{At, Node};
use crate::scenario::{NameRule, catalogue, document, find};

use super::choice::{Catalogue, Choice, read_choice};
use super::shapes;

/// How often an invalid run is repeated, unless the file says otherwise: once tells a mishap from a habit.
const RETRIES: u32 = 1;
/// More repetitions would hide a target that does not work.
const RETRIES_MAX: u32 = 5;
/// Most trials of a scenario: more is a mistake.
const TRIALS_MAX: u32 = 1000;

/// A suite of which nothing is in doubt any more.
#[derive(Clone, Debug, PartialEq)]
pub struct Suite {
    /// Its unique name.
    pub name: String,
    /// One line for lists.
    pub title: String,
    /// What it is good for.
    pub description: String,
    /// What runs, each scenario once, in the order of the file. Never empty.
    pub scenarios: Vec<Chosen>,
    /// Seed of each trial, in their order. Never empty.
    pub seeds: Vec<Seed>,
    /// How often a run that is not VALID is repeated.
    pub retries: u32,
}

/// A scenario with its application.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Chosen {
    /// The case.
    pub scenario: Scenario,
    /// Where it takes place.
    pub app: App,
}

/// Loads a suite by the name it has in the catalogue (the directory, then what is built in) or by its path.
///
/// # Errors
/// All that is wrong with the file, and with what it chooses.
pub fn load(name_or_path: &str, catalogue: &Path) -> Result<Suite, ScenarioErrors> {
    let found = find("suite", name_or_path, catalogue, catalogue::suites)?;
    let rule = found.name.as_deref().map_or(NameRule::Free, NameRule::Is);
    read(&found.shown, &found.text, &found.directory, catalogue, rule)
}

/// Reads a suite from its text. `shown` is how reports call the file.
///
/// # Errors
/// As [`load`].
pub fn read_text(shown: &str, text: &str, catalogue: &Path) -> Result<Suite, ScenarioErrors> {
    read(shown, text, Path::new("."), catalogue, NameRule::Free)
}

fn read(
    shown: &str,
    text: &str,
    directory: &Path,
    catalogue: &Path,
    rule: NameRule<'_>,
) -> Result<Suite, ScenarioErrors> {
    let mut problems = Problems::default();
    let suite = document(text, &mut problems).and_then(|root| {
        let spec = SuiteSpec::read(&root, &mut problems);
        rule.check(spec.name.as_ref(), &mut problems);
        spec.build(&mut Catalogue::new(catalogue, directory), &mut problems)
    });
    problems.done(suite, shown, text)
}

/// What the file says, with holes where it could not be read.
#[derive(Default)]
struct SuiteSpec {
    name: Option<At<String>>,
    title: Option<String>,
    description: Option<String>,
    choices: Option<At<Vec<At<Choice>>>>,
    seeds: Vec<Seed>,
    retries: u32,
}

impl SuiteSpec {
    fn read(root: &Node, problems: &mut Problems) -> Self {
        let mut spec = Self::default();
        let elsewhere = [&shapes::METADATA, &shapes::SPEC];
        let Some(fields) = Fields::open(root, &[&shapes::SUITE], &elsewhere, problems) else {
            return spec;
        };
        fields.read("apiVersion", problems, reader::choice(&[("gauntlet/v1", ())]));
        fields.read("kind", problems, reader::choice(&[("Suite", ())]));
        if let Some(node) = fields.get("metadata") {
            spec.read_metadata(node, problems);
        }
        if let Some(node) = fields.get("spec") {
            spec.read_spec(node, problems);
        }
        spec
    }

    fn read_metadata(&mut self, node: &Node, problems: &mut Problems) {
        let Some(fields) = Fields::open(node, &[&shapes::METADATA], &[&shapes::SPEC], problems) else {
            return;
        };
        let text = |name, problems: &mut Problems| fields.read(name, problems, reader::text).map(|at| at.value);
        self.name = fields.read("name", problems, reader::name);
        self.title = text("title", problems);
        self.description = text("description", problems);
    }

    fn read_spec(&mut self, node: &Node, problems: &mut Problems) {
        let elsewhere = [&shapes::METADATA, &shapes::CHOICE];
        let Some(fields) = Fields::open(node, &[&shapes::SPEC], &elsewhere, problems) else {
            return;
        };
        self.choices = fields.read("scenarios", problems, |node, problems| {
            let before = problems.len();
            let choices = reader::list(node, problems, read_choice);
            if choices.is_empty() && problems.len() == before {
                problems
                    .add(node.span, "no scenario is no suite")
                    .advise("for example `[{class: cache}]`");
            }
            Some(choices)
        });
        self.seeds = read_seeds(&fields, problems);
        let retries = fields.read("retries", problems, reader::count(0, RETRIES_MAX));
        self.retries = retries.map_or(RETRIES, |at| at.value);
    }

    fn build(self, catalogue: &mut Catalogue<'_>, problems: &mut Problems) -> Option<Suite> {
        let mut scenarios: Vec<Chosen> = Vec::new();
        for choice in &self.choices?.value {
            for chosen in catalogue.choose(choice, problems) {
                match scenarios.iter().find(|one| one.scenario.name == chosen.scenario.name) {
                    None => scenarios.push(chosen),
                    Some(other) if *other == chosen => {}
                    Some(_) => problems
                        .add(
                            choice.span,
                            format!("two scenarios are named `{}`", chosen.scenario.name),
                        )
                        .advise("results could not be told apart; rename one of them"),
                }
            }
        }
        let title = self.title?;
        Some(Suite {
            name: self.name?.value,
            description: self.description.unwrap_or_else(|| title.clone()),
            title,
            scenarios,
            seeds: self.seeds,
            retries: self.retries,
        })
    }
}

/// The seeds of the trials, from `seeds`, or from `seed` and `trials`.
fn read_seeds(fields: &Fields<'_>, problems: &mut Problems) -> Vec<Seed> {
    let first = fields.read("seed", problems, reader::count(0, u32::MAX));
    let trials = fields.read("trials", problems, reader::count(1, TRIALS_MAX));
    let Some(node) = fields.get("seeds") else {
        let first = first.map_or(1, |at| u64::from(at.value));
        let trials = trials.map_or(1, |at| u64::from(at.value));
        return (first..first + trials).map(Seed).collect();
    };
    for (name, what) in [("seed", "the first seed"), ("trials", "how many trials there are")] {
        if let Some(other) = fields.get(name) {
            problems
                .add(other.span, format!("`seeds` says {what}"))
                .advise(format!("remove `{name}`, or `seeds`"));
        }
    }
    let before = problems.len();
    let mut seeds = Vec::new();
    let read_seed = |node: &Node, problems: &mut Problems| reader::count(0, u32::MAX)(node, problems);
    for At { value, span } in reader::list(node, problems, read_seed) {
        let seed = Seed(u64::from(value));
        if seeds.contains(&seed) {
            problems
                .add(span, format!("seed {value} is written twice"))
                .advise("the same seed makes the same choices; write another");
        }
        seeds.push(seed);
    }
    if seeds.is_empty() && problems.len() == before {
        problems
            .add(node.span, "no seed is no trial")
            .advise("for example `[3, 14, 15]`");
    }
    seeds
}
