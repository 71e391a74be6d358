//! Which scenarios an element of a suite's list means: by name or pattern, class and labels, or the path of a file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::glob;
use super::shapes;
use super::spec::Chosen;
use crate::app::{App, AppError};
use crate::scenario::problem::{Problems, did_you_mean};
use crate::scenario::reader::{self, Fields};
use crate::scenario::tree::{At, Node, Span, Value};
use crate::scenario::{self, catalogue};

/// The label by which `class` chooses, and by which tables are cut.
pub(crate) const CLASS: &str = "class";

/// One element of the list.
pub(super) struct Choice {
    name: Option<At<String>>,
    class: Option<At<String>>,
    labels: Vec<(At<String>, String)>,
}

/// Reads one element.
pub(super) fn read_choice(node: &Node, problems: &mut Problems) -> Option<Choice> {
    let before = problems.len();
    let fields = Fields::open(node, &[&shapes::CHOICE], &[&shapes::SPEC], problems)?;
    let is_misspelt = problems.len() > before;
    let choice = Choice {
        name: fields.read("name", problems, reader::text),
        class: fields.read("class", problems, reader::text),
        labels: fields
            .get("labels")
            .map_or(Vec::new(), |node| read_labels(node, problems)),
    };
    let is_written = |name| fields.get(name).is_some();
    if !["name", "class", "labels"].into_iter().any(is_written) {
        if !is_misspelt {
            problems
                .add(fields.span(), "this chooses nothing")
                .advise("write `name`, `class` or `labels`; `{name: \"*\"}` is the whole catalogue");
        }
        return None;
    }
    Some(choice)
}

fn read_labels(node: &Node, problems: &mut Problems) -> Vec<(At<String>, String)> {
    let Value::Map(entries) = &node.value else {
        problems
            .add(node.span, format!("must be a mapping, found {}", node.value.noun()))
            .advise("for example `{story: seed}`");
        return Vec::new();
    };
    let read = entries
        .iter()
        .map(|(key, value)| Some((key.clone(), reader::text(value, problems)?)));
    read.flatten().collect()
}

/// Loads an application as a scenario names it; one that it names by path is looked for beside the scenario's file.
///
/// # Errors
/// When there is none, or it is not usable.
pub(crate) fn load_app(app: &str, scenario: &str) -> Result<App, AppError> {
    let beside = Path::new(scenario).parent().map(|directory| directory.join(app));
    match beside {
        Some(path) if catalogue::is_path(app) && path.is_file() => crate::app::load(&path.display().to_string()),
        _ => crate::app::load(app),
    }
}

/// The scenarios that can be chosen, each read once.
pub(super) struct Catalogue<'a> {
    root: &'a Path,
    /// Where paths are seen from.
    directory: &'a Path,
    names: Vec<String>,
    loaded: BTreeMap<String, Result<Rc<Chosen>, String>>,
}

impl<'a> Catalogue<'a> {
    pub(super) fn new(root: &'a Path, directory: &'a Path) -> Self {
        let names = catalogue::scenarios(root).into_iter().map(|entry| entry.name).collect();
        Self {
            root,
            directory,
            names,
            loaded: BTreeMap::new(),
        }
    }

    /// What an element chooses, in the order of the catalogue; notes what keeps it from choosing anything.
    pub(super) fn choose(&mut self, choice: &At<Choice>, problems: &mut Problems) -> Vec<Chosen> {
        let Choice { name, class, labels } = &choice.value;
        let place = name.as_ref().map_or(choice.span, |name| name.span);
        let candidates = self.candidates(name.as_ref());
        if candidates.is_empty() {
            let written = name.as_ref().map_or("*", |name| &name.value);
            let advice = did_you_mean(written, self.names.iter().map(String::as_str));
            problems
                .add(place, format!("no scenario has the name `{written}`"))
                .advise(advice);
            return Vec::new();
        }
        let named: Vec<Rc<Chosen>> = candidates
            .into_iter()
            .filter_map(|candidate| self.load_or_note(&candidate, place, problems))
            .collect();
        let wanted = class.iter().map(|class| (CLASS, class.value.as_str(), class.span));
        let wanted: Vec<(&str, &str, Span)> = wanted
            .chain(
                labels
                    .iter()
                    .map(|(key, value)| (key.value.as_str(), value.as_str(), key.span)),
            )
            .collect();
        let mut left = named.clone();
        for (key, value, span) in wanted {
            left.retain(|one| one.scenario.labels.get(key).is_some_and(|found| found == value));
            if left.is_empty() {
                if !named.is_empty() {
                    note_no_label(key, value, span, &named, problems);
                }
                return Vec::new();
            }
        }
        left.into_iter().map(|one| Chosen::clone(&one)).collect()
    }

    /// Names of the catalogue that a written name means, or the path that it is.
    fn candidates(&self, name: Option<&At<String>>) -> Vec<String> {
        match name {
            Some(name) if catalogue::is_path(&name.value) => {
                let path: PathBuf = match self.directory == Path::new(".") {
                    true => PathBuf::from(&name.value),
                    false => self.directory.join(&name.value),
                };
                vec![path.display().to_string()]
            }
            Some(name) => {
                let meant = self.names.iter().filter(|one| glob::matches(&name.value, one));
                meant.cloned().collect()
            }
            None => self.names.clone(),
        }
    }

    fn load_or_note(&mut self, candidate: &str, place: Span, problems: &mut Problems) -> Option<Rc<Chosen>> {
        let root = self.root;
        let loaded = self
            .loaded
            .entry(candidate.to_owned())
            .or_insert_with(|| load(candidate, root).map(Rc::new));
        match loaded {
            Ok(chosen) => Some(Rc::clone(chosen)),
            Err(why) => {
                problems
                    .add(place, format!("scenario `{candidate}` cannot be used: {why}"))
                    .advise(format!("see `gauntlet scenario validate {candidate}`"));
                None
            }
        }
    }
}

fn load(name_or_path: &str, root: &Path) -> Result<Chosen, String> {
    let scenario = scenario::load(name_or_path, root).map_err(|errors| {
        let (first, others) = (&errors.problems()[0].message, errors.problems().len() - 1);
        if others == 0 {
            first.clone()
        } else {
            format!("{first}; and {others} more")
        }
    })?;
    let app = load_app(&scenario.app, name_or_path).map_err(|error| crate::doctor::error_chain(&error))?;
    Ok(Chosen { scenario, app })
}

fn note_no_label(key: &str, value: &str, span: Span, among: &[Rc<Chosen>], problems: &mut Problems) {
    let values: BTreeSet<&str> = among
        .iter()
        .filter_map(|one| one.scenario.labels.get(key))
        .map(String::as_str)
        .collect();
    let problem = problems.add(span, format!("no scenario chosen here has the label `{key}: {value}`"));
    if values.is_empty() {
        let keys = among.iter().flat_map(|one| one.scenario.labels.keys());
        problem.advise_word(key, keys.map(String::as_str));
    } else if values.contains(value) {
        problem.advise("some have it, but not together with what stands before");
    } else {
        problem.advise_word(value, values);
    }
}
