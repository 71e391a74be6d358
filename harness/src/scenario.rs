//! Scenario files: found, read, checked; all that is wrong with one is said at once.
//!
//! Does not know pods, seeds or time. [`load`] is the way in; [`model`] is what comes out.

use std::path::{Path, PathBuf};

pub mod catalogue;
mod fault_spec;
pub mod model;
pub mod outline;
pub mod problem;
pub mod reader;
pub mod shapes;
mod spec;
pub mod tree;
mod truth_spec;
mod validate;

pub use model::Scenario;
pub use problem::ScenarioErrors;

use catalogue::Entry;
use outline::AppOutline;
use problem::{Problems, did_you_mean};
use tree::{At, Node, Span};

/// Loads a scenario by the name it has in the catalogue (the directory, then what is built in) or by its path.
pub fn load(name_or_path: &str, catalogue: &Path) -> Result<Scenario, ScenarioErrors> {
    let found = find("scenario", name_or_path, catalogue, catalogue::scenarios)?;
    let rule = found.name.as_deref().map_or(NameRule::Free, NameRule::Is);
    read(&found.shown, &found.text, &found.directory, catalogue, rule)
}

/// A file of the format, found.
pub(crate) struct Found {
    /// How reports call it.
    pub(crate) shown: String,
    /// What it says.
    pub(crate) text: String,
    /// Where paths within it are seen from.
    pub(crate) directory: PathBuf,
    /// Its name in the catalogue; `None`: it was asked for by path.
    pub(crate) name: Option<String>,
}

/// Finds a file by the name it has among `entries` of the catalogue or by its path. `what` is what a person calls it.
pub(crate) fn find(
    what: &str,
    name_or_path: &str,
    catalogue: &Path,
    entries: fn(&Path) -> Vec<Entry>,
) -> Result<Found, ScenarioErrors> {
    let unreadable = |shown: &str, error: std::io::Error, advice: &str| {
        not_found(what, shown, format!("failed to read the file: {error}"), advice)
    };
    if catalogue::is_path(name_or_path) {
        let path = Path::new(name_or_path);
        let text = std::fs::read_to_string(path).map_err(|error| unreadable(name_or_path, error, "check the path"))?;
        return Ok(Found {
            shown: name_or_path.to_owned(),
            text,
            directory: path.parent().unwrap_or(Path::new(".")).to_owned(),
            name: None,
        });
    }
    let entries = entries(catalogue);
    let Some(entry) = entries.iter().find(|entry| entry.name == name_or_path) else {
        let advice = did_you_mean(name_or_path, entries.iter().map(|entry| entry.name.as_str()));
        return Err(not_found(
            what,
            name_or_path,
            format!("no {what} has this name"),
            &advice,
        ));
    };
    let shown = entry.display_path();
    let text = entry
        .text()
        .map_err(|error| unreadable(&shown, error, "check the file"))?;
    let directory = match &entry.origin {
        catalogue::Origin::Disk(path) => path.parent().unwrap_or(catalogue),
        catalogue::Origin::BuiltIn(_) => catalogue,
    };
    Ok(Found {
        shown,
        text,
        directory: directory.to_owned(),
        name: Some(entry.name.clone()),
    })
}

/// Reads a scenario from its text. `shown` is how reports call the file.
pub fn read_text(shown: &str, text: &str, catalogue: &Path) -> Result<Scenario, ScenarioErrors> {
    read(shown, text, Path::new("."), catalogue, NameRule::Free)
}

/// What `metadata.name` must be.
#[derive(Clone, Copy)]
pub(crate) enum NameRule<'a> {
    /// Any name.
    Free,
    /// That of the file.
    Is(&'a str),
}

impl NameRule<'_> {
    /// Notes a name that is not the file's.
    pub(crate) fn check(self, name: Option<&At<String>>, problems: &mut Problems) {
        if let (Self::Is(file), Some(name)) = (self, name)
            && name.value != file
        {
            problems
                .add(name.span, format!("the file is named `{file}`"))
                .advise(format!("write `name: {file}`, or rename the file"));
        }
    }
}

/// The text as a document; `None` if it is not YAML, which is noted.
pub(crate) fn document(text: &str, problems: &mut Problems) -> Option<Node> {
    match tree::parse(text) {
        Ok(root) => Some(root),
        Err(error) => {
            problems
                .add(error.span, error.message)
                .advise("from here on the text is not YAML; the rest was not read");
            None
        }
    }
}

fn read(
    shown: &str,
    text: &str,
    directory: &Path,
    catalogue: &Path,
    rule: NameRule<'_>,
) -> Result<Scenario, ScenarioErrors> {
    let mut problems = Problems::default();
    let Some(root) = document(text, &mut problems) else {
        return Err(problems.into_errors(shown, text));
    };
    let spec = spec::read(&root, &mut problems);
    rule.check(spec.name.as_ref(), &mut problems);
    let app = spec
        .app
        .as_ref()
        .and_then(|app| find_app(app, directory, catalogue, &mut problems));
    let scenario = validate::validate(&spec, app.as_ref(), &mut problems);
    problems.done(scenario, shown, text)
}

fn find_app(app: &At<String>, directory: &Path, catalogue: &Path, problems: &mut Problems) -> Option<AppOutline> {
    let text = if catalogue::is_path(&app.value) {
        std::fs::read_to_string(directory.join(&app.value))
    } else {
        let apps = catalogue::apps(catalogue);
        let Some(entry) = apps.iter().find(|entry| entry.name == app.value) else {
            problems
                .add(app.span, format!("there is no application `{}`", app.value))
                .advise(did_you_mean(&app.value, apps.iter().map(|entry| entry.name.as_str())));
            return None;
        };
        entry.text()
    };
    match text
        .map_err(|error| error.to_string())
        .and_then(|text| AppOutline::read(&text).map_err(|e| e.to_string()))
    {
        Ok(outline) => Some(outline),
        Err(error) => {
            problems.add(app.span, format!("failed to read application `{}`: {error}", app.value));
            None
        }
    }
}

/// A report about a file that is not there: its text is what was asked for.
fn not_found(what: &str, asked: &str, message: String, advice: &str) -> ScenarioErrors {
    let mut problems = Problems::default();
    problems
        .add(
            Span {
                offset: 0,
                len: asked.len(),
            },
            message,
        )
        .advise(advice);
    problems.into_errors(what, asked)
}

#[cfg(test)]
pub(crate) mod tests;
