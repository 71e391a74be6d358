//! Application files: the envelope, finding them by name or path, and reading them.
//!
//! A name means a file that is shipped inside the binary; anything with a slash or a `.yaml` ending is a path.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::spec::AppSpec;
use super::validate::{AppProblem, closest, validate};

/// The version of the format that this program reads.
pub const API_VERSION: &str = "gauntlet/v1";

/// Shipped applications, by name.
const SHIPPED: [(&str, &str); 3] = [
    ("shop", include_str!("../../../scenarios/apps/shop.yaml")),
    ("chain", include_str!("../../../scenarios/apps/chain.yaml")),
    ("fanout", include_str!("../../../scenarios/apps/fanout.yaml")),
];

/// An application with its name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct App {
    /// Its name, for example `shop`.
    pub name: String,
    /// What it is.
    pub spec: AppSpec,
}

/// Why an application cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// No shipped application has the name.
    #[error("no application is called `{name}`{}; shipped are {}; a path contains `/` or ends in `.yaml`",
        closest_hint(.name), shipped_names())]
    Unknown {
        /// The name asked for.
        name: String,
    },
    /// The file cannot be read.
    #[error("failed to read {path}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The text is not of the format. Shows the lines with a caret.
    #[error("failed to parse {path}: {rendered}")]
    Parse {
        /// The file.
        path: String,
        /// Message and lines, with line and column.
        rendered: String,
        /// The parser's error, with its location.
        #[source]
        source: Box<serde_yaml::Error>,
    },
    /// The parts do not fit together.
    #[error("{path} is not usable:{}", .problems.iter().map(|problem| format!("\n  {problem}")).collect::<String>())]
    Invalid {
        /// The file.
        path: String,
        /// All that is wrong.
        problems: Vec<AppProblem>,
    },
}

/// Reads and checks an application: a shipped one by name, or a file.
///
/// # Errors
/// When there is none, or it is not usable; see [`AppError`].
pub fn load(name_or_path: &str) -> Result<App, AppError> {
    if name_or_path.contains('/')
        || Path::new(name_or_path)
            .extension()
            .is_some_and(|ending| ending == "yaml")
    {
        let text = std::fs::read_to_string(name_or_path).map_err(|source| AppError::Read {
            path: name_or_path.to_owned(),
            source,
        })?;
        return parse(name_or_path, &text);
    }
    match SHIPPED.iter().find(|(name, _)| *name == name_or_path) {
        Some((name, text)) => parse(&format!("{name}.yaml (shipped)"), text),
        None => Err(AppError::Unknown {
            name: name_or_path.to_owned(),
        }),
    }
}

/// Names of the applications that are shipped inside the binary.
pub fn shipped() -> impl Iterator<Item = &'static str> {
    SHIPPED.iter().map(|(name, _)| *name)
}

/// Reads and checks the text of an application; `path` is for messages.
///
/// # Errors
/// When the text is not of the format, or its parts do not fit together.
pub fn parse(path: &str, text: &str) -> Result<App, AppError> {
    let envelope: Envelope = serde_yaml::from_str(text).map_err(|source| AppError::Parse {
        path: path.to_owned(),
        rendered: source.to_string(),
        source: Box::new(source),
    })?;
    let Envelope {
        api_version,
        kind: EnvelopeKind::App,
        metadata,
        spec,
    } = envelope;
    let mut problems = validate(&spec);
    if api_version != API_VERSION {
        problems.insert(
            0,
            AppProblem {
                path: "apiVersion".to_owned(),
                message: format!("version `{api_version}` is not known"),
                advice: format!("write `{API_VERSION}`"),
            },
        );
    }
    if problems.is_empty() {
        Ok(App {
            name: metadata.name,
            spec,
        })
    } else {
        Err(AppError::Invalid {
            path: path.to_owned(),
            problems,
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Envelope {
    api_version: String,
    kind: EnvelopeKind,
    metadata: Metadata,
    spec: AppSpec,
}

#[derive(Deserialize)]
enum EnvelopeKind {
    App,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Metadata {
    name: String,
    #[serde(default, rename = "description")]
    _description: String,
}

fn shipped_names() -> String {
    shipped().collect::<Vec<_>>().join(", ")
}

fn closest_hint(name: &str) -> String {
    closest(name, shipped()).map_or_else(String::new, |near| format!(" (did you mean `{near}`?)"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::app::spec::{ConcurrencySpec, PoolSpec};

    #[test]
    fn shipped_apps_are_usable_and_survive_json() {
        for name in shipped() {
            let app = load(name).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(app.name, name);
            let json = serde_json::to_string(&app).expect("serialisable");
            assert_eq!(serde_json::from_str::<App>(&json).expect("the same format"), app);
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_nearest() {
        let error = load("shpo").expect_err("no such app").to_string();
        assert!(error.contains("did you mean `shop`?"), "{error}");
    }

    #[test]
    fn a_misspelt_field_is_shown_with_line_and_column() {
        let text = SHIPPED[0].1.replace("maxMemoryMib", "maxMemory");
        let error = parse("shop.yaml", &text).expect_err("unknown field").to_string();
        let line = text
            .lines()
            .position(|line| line.contains("maxMemory"))
            .expect("it is there")
            + 1;
        assert!(error.contains("unknown field `maxMemory`"), "{error}");
        assert!(error.contains(&format!("line {line}")), "{error}");
    }

    #[test]
    fn the_readme_names_every_field() {
        let readme = include_str!("../../../scenarios/apps/README.md");
        let mut app = serde_json::to_value(load("shop").expect("a shipped app").spec).expect("serialisable");
        // What no shipped app needs to say.
        app["services"]["web"]["pool"] = serde_json::to_value(PoolSpec::default()).expect("serialisable");
        app["services"]["web"]["concurrency"] = serde_json::to_value(ConcurrencySpec::default()).expect("serialisable");
        app["call"] = serde_json::json!({"parallel": 0, "retries": 0, "cpuMillicores": 0, "memoryMib": 0, "port": 0});
        let mut fields = BTreeSet::new();
        collect_fields(&app, &mut fields);
        let names = ["services", "tables", "statements"]
            .map(|map| names_in(&app, map))
            .concat();
        let undocumented: Vec<_> = fields
            .into_iter()
            .filter(|field| !names.contains(field))
            .filter(|field| {
                let ways = [
                    format!("`{field}`"),
                    format!("`{field}."),
                    format!(".{field}`"),
                    format!("`{field}:"),
                    format!("{{{field}}}"),
                ];
                !ways.iter().any(|way| readme.contains(way)) && !["min", "max"].contains(&field.as_str())
            })
            .collect();
        assert!(undocumented.is_empty(), "{undocumented:?}");
    }

    fn collect_fields(value: &serde_json::Value, fields: &mut BTreeSet<String>) {
        if let Some(object) = value.as_object() {
            fields.extend(object.keys().cloned());
            object.values().for_each(|value| collect_fields(value, fields));
        }
        value
            .as_array()
            .into_iter()
            .flatten()
            .for_each(|value| collect_fields(value, fields));
    }

    /// Keys that authors choose: of services, tables and statements.
    fn names_in(value: &serde_json::Value, map: &str) -> Vec<String> {
        let Some(object) = value.as_object() else {
            return Vec::new();
        };
        let inner = object.values().flat_map(|value| names_in(value, map));
        let own = object.get(map).and_then(serde_json::Value::as_object);
        inner
            .chain(own.into_iter().flat_map(|names| names.keys().cloned()))
            .collect()
    }
}
