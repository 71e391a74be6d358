//! Finds scenarios, suites and applications: next to the user first, then those that are built in.
//!
//! Does not read them.

use std::fs;
use std::path::{Path, PathBuf};

// `FILES`: (path below `scenarios/`, text) of every file that ships; written by `build.rs`.
include!(concat!(env!("OUT_DIR"), "/catalogue.rs"));

/// The directory of applications within a catalogue.
const APPS: &str = "apps";
/// The directory of suites within a catalogue.
const SUITES: &str = "suites";
/// Deepest directory that is searched; a catalogue has two levels.
const DEEPEST: usize = 4;

/// A file of the catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name: that of the file, without directory and ending.
    pub name: String,
    /// Its directory within the catalogue, for example `cache`.
    pub class: String,
    /// Where it comes from.
    pub origin: Origin,
}

/// Where a file comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A file on disk.
    Disk(PathBuf),
    /// Built into this program; the path below `scenarios/`.
    BuiltIn(&'static str),
}

impl Entry {
    /// How a person finds it.
    #[must_use]
    pub fn display_path(&self) -> String {
        match &self.origin {
            Origin::Disk(path) => path.display().to_string(),
            Origin::BuiltIn(path) => format!("(built in) {path}"),
        }
    }

    /// Its text.
    pub fn text(&self) -> std::io::Result<String> {
        match &self.origin {
            Origin::Disk(path) => fs::read_to_string(path),
            Origin::BuiltIn(path) => Ok(built_in(path).unwrap_or_default().to_owned()),
        }
    }
}

fn built_in(path: &str) -> Option<&'static str> {
    FILES.iter().find(|(name, _)| *name == path).map(|(_, text)| *text)
}

/// What a file of the catalogue declares, by its directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Scenario,
    Suite,
    App,
}

impl Kind {
    fn of_class(class: &str) -> Self {
        match class {
            APPS => Self::App,
            SUITES => Self::Suite,
            _ => Self::Scenario,
        }
    }
}

/// All scenarios: those below `directory`, and the built-in ones of other names. In order of class and name.
#[must_use]
pub fn scenarios(directory: &Path) -> Vec<Entry> {
    entries(directory, Kind::Scenario)
}

/// All suites, likewise.
#[must_use]
pub fn suites(directory: &Path) -> Vec<Entry> {
    entries(directory, Kind::Suite)
}

/// All applications, likewise.
#[must_use]
pub fn apps(directory: &Path) -> Vec<Entry> {
    entries(directory, Kind::App)
}

fn entries(directory: &Path, kind: Kind) -> Vec<Entry> {
    let mut found: Vec<Entry> = Vec::new();
    let mut pending = vec![(directory.to_owned(), 0)];
    while let Some((current, depth)) = pending.pop() {
        let Ok(listing) = fs::read_dir(&current) else { continue };
        for path in listing.filter_map(|entry| Some(entry.ok()?.path())) {
            if path.is_dir() && depth < DEEPEST {
                pending.push((path, depth + 1));
            } else if let Some((class, name)) = class_and_name(path.strip_prefix(directory).unwrap_or(&path), kind) {
                found.push(Entry {
                    name,
                    class,
                    origin: Origin::Disk(path),
                });
            }
        }
    }
    for (path, _) in FILES {
        let Some((class, name)) = class_and_name(Path::new(path), kind) else {
            continue;
        };
        if !found.iter().any(|entry| entry.name == name) {
            found.push(Entry {
                name,
                class,
                origin: Origin::BuiltIn(path),
            });
        }
    }
    found.sort_by(|a, b| (&a.class, &a.name).cmp(&(&b.class, &b.name)));
    found
}

/// Class and name of a file of `kind`; `None` of any other.
fn class_and_name(path: &Path, kind: Kind) -> Option<(String, String)> {
    if !matches!(path.extension()?.to_str()?, "yaml" | "yml") {
        return None;
    }
    let class = path
        .parent()
        .map(|parent| parent.to_string_lossy().into_owned())
        .unwrap_or_default();
    let name = path.file_stem()?.to_str()?.to_owned();
    (Kind::of_class(&class) == kind).then_some((class, name))
}

/// Whether `text` is meant as a path rather than as a name of the catalogue.
#[must_use]
pub fn is_path(text: &str) -> bool {
    text.contains('/') || text.ends_with(".yaml") || text.ends_with(".yml")
}
