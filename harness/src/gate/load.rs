//! Finds evidence: a suite's directory, its `suite.json`, or a baseline file.

use std::path::{Path, PathBuf};

use super::baseline;
use super::evidence::Evidence;
use crate::scenario::ScenarioErrors;
use crate::suite::outcome::{SUITE_RESULT_VERSION, SuiteResult};

/// Name of a suite's result in its directory.
pub const SUITE_RESULT_FILE: &str = "suite.json";

/// Why there is no evidence.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("failed to read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is no suite's result.
    #[error("{} is no result of a suite", .path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why, with line and column.
        #[source]
        source: serde_json::Error,
    },
    /// The result was written by another version of this program.
    #[error("{} has version {found} of the suite's result, this program reads {SUITE_RESULT_VERSION}", .path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// The version found.
        found: u64,
    },
    /// The file is no baseline. Renders with lines and carets.
    #[error(transparent)]
    Baseline(#[from] ScenarioErrors),
}

/// Reads the evidence that lies at `path`: in a directory its `suite.json`; a file that ends in `.json` is a suite's
/// result, any other a baseline.
///
/// # Errors
/// When it cannot be read, or is neither; see [`LoadError`].
pub fn load(path: &Path) -> Result<Evidence, LoadError> {
    if path.is_dir() {
        return suite(&path.join(SUITE_RESULT_FILE));
    }
    if path.extension().is_some_and(|ending| ending == "json") {
        return suite(path);
    }
    let text = text(path)?;
    Ok(baseline::read(&path.display().to_string(), &text)?)
}

fn text(path: &Path) -> Result<String, LoadError> {
    std::fs::read_to_string(path).map_err(|source| LoadError::Read {
        path: path.to_owned(),
        source,
    })
}

fn suite(path: &Path) -> Result<Evidence, LoadError> {
    let text = text(path)?;
    let parse = |source| LoadError::Parse {
        path: path.to_owned(),
        source,
    };
    // The version first: a file of another version should be told so, and not which of its fields is unknown.
    let value: serde_json::Value = serde_json::from_str(&text).map_err(parse)?;
    match value.get("version").and_then(serde_json::Value::as_u64) {
        Some(found) if found != u64::from(SUITE_RESULT_VERSION) => {
            return Err(LoadError::Version {
                path: path.to_owned(),
                found,
            });
        }
        Some(_) | None => {}
    }
    let result: SuiteResult = serde_json::from_str(&text).map_err(parse)?;
    Ok(Evidence::of(&result))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::outcome::Mode;
    use crate::suite::sample::suite as sample;

    #[test]
    fn a_result_its_directory_and_the_baseline_made_of_it_are_the_same_evidence() {
        let directory = tempfile::tempdir().expect("a directory");
        let result = sample(Mode::Replay, "a fault ✓ 1.2345678\na fault ✗\nn none !1");
        let json = directory.path().join(SUITE_RESULT_FILE);
        std::fs::write(&json, serde_json::to_vec(&result).expect("JSON")).expect("written");
        let yaml = directory.path().join("main.baseline.yaml");
        std::fs::write(&yaml, baseline::write(&Evidence::of(&result))).expect("written");
        let [from_json, from_directory, from_yaml] =
            [json.as_path(), directory.path(), yaml.as_path()].map(|path| load(path).expect("evidence"));
        assert_eq!(from_json, from_directory);
        assert_eq!(from_json, from_yaml);
    }

    #[test]
    fn other_versions_and_other_files_are_told_apart() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("suite.json");
        let told = |text: &str| {
            std::fs::write(&path, text).expect("written");
            load(&path).expect_err("no evidence").to_string()
        };
        assert!(told(r#"{"version": 99}"#).contains("has version 99"));
        assert!(told(r#"{"a": 1}"#).ends_with("is no result of a suite"));
        assert!(
            load(Path::new("/nowhere.yaml"))
                .expect_err("missing")
                .to_string()
                .starts_with("failed to read")
        );
    }
}
