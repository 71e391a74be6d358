//! `gauntlet scenario`: the catalogue, for reading and checking.

use std::io::{IsTerminal, Write};
use std::path::Path;

use crate::cli::{Exit, Format, ScenarioCommand};
use crate::scenario::catalogue::{self, Entry};
use crate::scenario::{ScenarioErrors, find};

/// Directory of the catalogue, below the current one; what is built into the program stands in where it is missing.
pub const CATALOGUE: &str = "scenarios";

/// Lists, shows or validates.
///
/// # Errors
/// When the answer cannot be printed.
pub fn scenario(command: &ScenarioCommand) -> anyhow::Result<Exit> {
    match command {
        ScenarioCommand::List { format } => list(*format),
        ScenarioCommand::Show { scenario } => show("scenario", scenario, catalogue::scenarios),
        ScenarioCommand::Validate { scenarios } => Ok(validate(scenarios)),
    }
}

fn list(format: Format) -> anyhow::Result<Exit> {
    let catalogue = Path::new(CATALOGUE);
    let mut out = std::io::stdout().lock();
    let mut rows = Vec::new();
    for entry in catalogue::scenarios(catalogue) {
        let loaded = crate::scenario::load(&entry.name, catalogue);
        let title = loaded.map_or_else(
            |_| "(invalid: see `gauntlet scenario validate`)".to_owned(),
            |one| one.title,
        );
        rows.push((entry, title));
    }
    match format {
        Format::Json => {
            let rows: Vec<_> = rows
                .iter()
                .map(|(entry, title)| serde_json::json!({"name": entry.name, "class": entry.class, "title": title}))
                .collect();
            writeln!(out, "{}", serde_json::to_string(&rows)?)?;
        }
        Format::Human => {
            for (Entry { name, class, .. }, title) in &rows {
                writeln!(out, "{class:<10} {name:<28} {title}")?;
            }
        }
    }
    Ok(if rows.is_empty() {
        Exit::NothingSelected
    } else {
        Exit::Pass
    })
}

/// Prints the text of a file of the catalogue, or of any path. `what` is what a person calls such a file.
pub(super) fn show(what: &str, name: &str, entries: fn(&Path) -> Vec<Entry>) -> anyhow::Result<Exit> {
    match find(what, name, Path::new(CATALOGUE), entries) {
        Ok(found) => {
            write!(std::io::stdout().lock(), "{}", found.text)?;
            Ok(Exit::Pass)
        }
        Err(errors) => {
            eprintln!("{}", rendered(&errors));
            Ok(Exit::InvalidScenario)
        }
    }
}

fn validate(names: &[String]) -> Exit {
    let mut exit = Exit::Pass;
    for name in names {
        match crate::scenario::load(name, Path::new(CATALOGUE)) {
            Ok(scenario) => println!("{name}: valid ({})", scenario.title),
            Err(errors) => {
                eprintln!("{}", rendered(&errors));
                exit = Exit::InvalidScenario;
            }
        }
    }
    exit
}

/// Problems of a file, in colour when people read them.
#[must_use]
pub fn rendered(errors: &ScenarioErrors) -> String {
    if std::io::stderr().is_terminal() {
        errors.render_colored()
    } else {
        errors.render_plain()
    }
}
