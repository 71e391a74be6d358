//! Which detectors a run asks, as people write it: `[NAME=]gauntlet`, `PROGRAM`, `exec:COMMAND` or `alertmanager:FILE`.
//!
//! Gives each a name that tables keep. Starts nothing.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use gauntlet_detector::baseline::{alert_count, max_z};
use gauntlet_detector::pipeline;

use super::alertmanager::Config;
use crate::scenario::ScenarioErrors;

/// Names under which our own process speaks; no other detector may.
const OURS: [&str; 3] = [pipeline::NAME, alert_count::NAME, max_z::NAME];
/// Longest name; tables have room for it.
const NAME_CHARS_MAX: usize = 24;

/// One detector, as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DetectorSpec {
    /// The name that was given.
    pub name: Option<String>,
    /// What it is.
    pub source: SpecSource,
}

/// What a detector is, as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpecSource {
    /// Ours.
    Ours,
    /// A program of the protocol, without arguments.
    Program(PathBuf),
    /// A shell command of the protocol.
    Exec(String),
    /// Alerts, mapped by this file.
    Alertmanager(PathBuf),
}

/// The text names no detector.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// Nothing follows the colon.
    #[error("`{0}` names nothing; write `gauntlet`, a program, `exec:COMMAND` or `alertmanager:FILE`")]
    Empty(String),
    /// The program is a path at which no file is.
    #[error("there is no program at `{0}`; a command with arguments is written `exec:COMMAND`")]
    NoProgram(String),
}

/// One detector that a run asks.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Under which name it stands in tables; unique in its run.
    pub name: String,
    /// What it is.
    pub kind: AskedKind,
}

/// What is asked.
#[derive(Clone, Debug)]
pub enum AskedKind {
    /// Ours.
    Ours,
    /// A process of the protocol.
    Process {
        /// The program.
        program: PathBuf,
        /// Its arguments.
        arguments: Vec<String>,
    },
    /// A receiver of alerts.
    Alertmanager(Arc<Config>),
}

impl Asked {
    /// Our own detector.
    #[must_use]
    pub fn ours() -> Self {
        Self {
            name: pipeline::NAME.to_owned(),
            kind: AskedKind::Ours,
        }
    }
}

impl fmt::Display for DetectorSpec {
    /// As it can be read again.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = &self.name {
            write!(f, "{name}=")?;
        }
        match &self.source {
            SpecSource::Ours => f.write_str(pipeline::NAME),
            SpecSource::Program(program) => write!(f, "{}", program.display()),
            SpecSource::Exec(command) => write!(f, "exec:{command}"),
            SpecSource::Alertmanager(file) => write!(f, "alertmanager:{}", file.display()),
        }
    }
}

impl FromStr for DetectorSpec {
    type Err = SpecError;

    /// Looks whether a program that is named by its path exists, so that a slip of the pen does not cost a run.
    fn from_str(text: &str) -> Result<Self, SpecError> {
        let (name, what) = match text.split_once('=') {
            Some((name, what)) if is_name(name) => (Some(name.to_owned()), what),
            _ => (None, text),
        };
        let source = match what.split_once(':') {
            Some(("exec", command)) if !command.trim().is_empty() => SpecSource::Exec(command.trim().to_owned()),
            Some(("alertmanager", file)) if !file.is_empty() => SpecSource::Alertmanager(PathBuf::from(file)),
            Some(("exec" | "alertmanager", _)) => return Err(SpecError::Empty(text.to_owned())),
            _ if what == pipeline::NAME => SpecSource::Ours,
            _ if what.is_empty() => return Err(SpecError::Empty(text.to_owned())),
            // Without a slash it is looked for where the shell would.
            _ if what.contains('/') && !Path::new(what).is_file() => {
                return Err(SpecError::NoProgram(what.to_owned()));
            }
            _ => SpecSource::Program(PathBuf::from(what)),
        };
        Ok(Self { name, source })
    }
}

/// Reads a detector that recordings can be fed to. It has no name but the one that it calls itself.
///
/// # Errors
/// In words: it is none, has a name, or waits for alerts, of which a recording holds none.
pub fn replayable(text: &str) -> Result<DetectorSpec, String> {
    let spec: DetectorSpec = text.parse().map_err(|error: SpecError| error.to_string())?;
    match spec {
        DetectorSpec { name: Some(name), .. } => Err(format!(
            "a replay calls a detector what it calls itself; leave `{name}=` out"
        )),
        DetectorSpec {
            source: SpecSource::Alertmanager(_),
            ..
        } => Err("a recording holds no alerts; name a program or `exec:COMMAND`".to_owned()),
        DetectorSpec { .. } => Ok(spec),
    }
}

fn is_name(text: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_' || c == '.';
    !text.is_empty() && text.len() <= NAME_CHARS_MAX && text.chars().all(good)
}

/// Reads what the specs name and gives each detector its name; ours if there is no spec. The first is under test.
///
/// # Errors
/// What is wrong with a mapping of alerts.
pub fn resolve(specs: &[DetectorSpec]) -> Result<Vec<Asked>, ScenarioErrors> {
    let mut asked: Vec<Asked> = Vec::new();
    for spec in specs {
        let (kind, own_name) = match &spec.source {
            SpecSource::Ours => {
                // It runs once, however often it is named, and its name is what it calls itself.
                if !asked.iter().any(|one| matches!(one.kind, AskedKind::Ours)) {
                    asked.push(Asked::ours());
                }
                continue;
            }
            SpecSource::Program(program) => {
                let name = stem(&program.display().to_string());
                (process(program.clone(), Vec::new()), name)
            }
            SpecSource::Exec(command) => {
                let name = stem(command.split_ascii_whitespace().next().unwrap_or_default());
                let (program, arguments) = through_shell(command);
                (process(program, arguments), name)
            }
            SpecSource::Alertmanager(path) => {
                let config = Config::load(path)?;
                let name = config.name.clone();
                (AskedKind::Alertmanager(Arc::new(config)), name)
            }
        };
        let name = unique(spec.name.as_deref().unwrap_or(&own_name), &asked);
        asked.push(Asked { name, kind });
    }
    if asked.is_empty() {
        asked.push(Asked::ours());
    }
    Ok(asked)
}

fn process(program: PathBuf, arguments: Vec<String>) -> AskedKind {
    AskedKind::Process { program, arguments }
}

/// The program and arguments of a shell command.
#[must_use]
pub fn through_shell(command: &str) -> (PathBuf, Vec<String>) {
    (PathBuf::from("/bin/sh"), vec!["-c".to_owned(), command.to_owned()])
}

/// `threshold` of `./examples/threshold.py`.
fn stem(program: &str) -> String {
    let stem = Path::new(program).file_stem().unwrap_or_default().to_string_lossy();
    let kept = stem
        .chars()
        .filter(|&c| is_name(c.encode_utf8(&mut [0; 4])))
        .take(NAME_CHARS_MAX);
    let name: String = kept.collect();
    if name.is_empty() { "detector".to_owned() } else { name }
}

/// `name`, or `name-2`, `name-3` … where it is taken.
fn unique(name: &str, taken: &[Asked]) -> String {
    let is_taken = |name: &str| OURS.contains(&name) || taken.iter().any(|one| one.name == name);
    let mut candidates = std::iter::once(name.to_owned()).chain((2..).map(|number| format!("{name}-{number}")));
    candidates
        .find(|name| !is_taken(name))
        .expect("there are more numbers than detectors")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(specs: &[&str]) -> Vec<String> {
        let specs: Vec<DetectorSpec> = specs.iter().map(|spec| spec.parse().expect("a spec")).collect();
        let asked = resolve(&specs).expect("no file is read");
        asked.into_iter().map(|one| one.name).collect()
    }

    #[test]
    fn each_detector_has_a_name_of_its_own() {
        assert_eq!(names(&[]), ["gauntlet"]);
        assert_eq!(names(&["gauntlet", "gauntlet"]), ["gauntlet"]);
        assert_eq!(
            names(&[
                "exec:./threshold.py --fast",
                "mine=exec:python3 threshold.py",
                "gauntlet",
                "/bin/sh",
                "threshold"
            ]),
            ["threshold", "mine", "gauntlet", "sh", "threshold-2"]
        );
        assert_eq!(
            names(&["max-z=/bin/sh", "/bin/sh", "exec:sh"]),
            ["max-z-2", "sh", "sh-2"]
        );
    }

    #[test]
    fn a_command_goes_through_the_shell_and_keeps_its_equals_signs() {
        let spec: DetectorSpec = "exec:LEVEL=3 ./detector 'a b'".parse().expect("a spec");
        assert_eq!(spec.source, SpecSource::Exec("LEVEL=3 ./detector 'a b'".to_owned()));
        assert_eq!(spec.name, None);
    }

    #[test]
    fn recordings_are_fed_to_programs_and_commands_only() {
        for (text, source) in [
            ("gauntlet", SpecSource::Ours),
            ("/bin/sh", SpecSource::Program(PathBuf::from("/bin/sh"))),
            ("exec:sh -x", SpecSource::Exec("sh -x".to_owned())),
        ] {
            assert_eq!(replayable(text).map(|spec| spec.source), Ok(source));
        }
        for (text, words) in [
            ("mine=/bin/sh", "leave `mine=` out"),
            ("alertmanager:a.yaml", "holds no alerts"),
            ("", "names nothing"),
        ] {
            let error = replayable(text).expect_err(text);
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn what_names_nothing_is_refused() {
        for (text, words) in [
            ("", "names nothing"),
            ("mine=", "names nothing"),
            ("exec: ", "names nothing"),
            ("alertmanager:", "names nothing"),
            ("./no/such/program", "there is no program at `./no/such/program`"),
        ] {
            let error = text.parse::<DetectorSpec>().expect_err(text).to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
