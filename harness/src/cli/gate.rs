//! `gauntlet gate`, `gauntlet baseline`, `gauntlet compare`: reading files, printing reports, exit codes.

use std::io::{IsTerminal, Write};
use std::path::Path;

use anyhow::Context;

use super::{BaselineCommand, CompareArgs, Exit, Format, GateArgs, ReportFormat};
use crate::doctor::error_chain;
use crate::gate::evidence::Evidence;
use crate::gate::load::{LoadError, load};
use crate::gate::{Settings, baseline, compare, gate, markdown, text};
use crate::run::directory::write_whole;
use crate::score::verdict::Verdict;

/// Judges a result against a baseline.
///
/// # Errors
/// When the report cannot be printed or written.
pub fn run_gate(args: &GateArgs) -> anyhow::Result<Exit> {
    let (Some(before), Some(after)) = (evidence(&args.baseline), evidence(&args.result)) else {
        return Ok(Exit::InvalidScenario);
    };
    let settings = Settings {
        false_alarm_budget_per_hour: args.false_alarm_budget,
        false_alarm_margin_per_hour: args.false_alarm_margin,
        ..Settings::default()
    };
    let report = gate(&before, &after, &settings);
    let shown = match args.format {
        ReportFormat::Human => text::text(&report),
        ReportFormat::Json => serde_json::to_string(&report)? + "\n",
        ReportFormat::Markdown => markdown::markdown(&report),
    };
    match &args.out {
        Some(path) => {
            write_whole(path, shown.as_bytes())?;
            eprintln!("gate {}: {}", text::verdict_word(report.verdict), path.display());
        }
        None => print(&shown)?,
    }
    Ok(match report.verdict {
        Verdict::Pass => Exit::Pass,
        Verdict::Inconclusive => Exit::Inconclusive,
        Verdict::Fail => Exit::FellShort,
    })
}

/// Writes or shows a baseline.
///
/// # Errors
/// When the file cannot be written, or the answer not printed.
pub fn run_baseline(command: &BaselineCommand) -> anyhow::Result<Exit> {
    match command {
        BaselineCommand::Save { result, out } => {
            let Some(evidence) = evidence(result) else {
                return Ok(Exit::InvalidScenario);
            };
            if evidence.cases.is_empty() {
                eprintln!("gauntlet: {} holds no case; nothing was saved", result.display());
                return Ok(Exit::NothingSelected);
            }
            let path = out
                .clone()
                .unwrap_or_else(|| format!("{}.baseline.yaml", evidence.suite).into());
            write_whole(&path, baseline::write(&evidence).as_bytes())?;
            let valid = evidence.cases.iter().filter(|case| case.valid()).count();
            eprintln!(
                "saved {} cases, {valid} of them VALID: {}",
                evidence.cases.len(),
                path.display()
            );
            Ok(Exit::Pass)
        }
        BaselineCommand::Show { file } => {
            let Some(evidence) = evidence(file) else {
                return Ok(Exit::InvalidScenario);
            };
            print(&compare::summary(&evidence))?;
            Ok(Exit::Pass)
        }
    }
}

/// Puts two results side by side.
///
/// # Errors
/// When the answer cannot be printed.
pub fn run_compare(args: &CompareArgs) -> anyhow::Result<Exit> {
    let (Some(first), Some(second)) = (evidence(&args.first), evidence(&args.second)) else {
        return Ok(Exit::InvalidScenario);
    };
    let comparison = compare::compare(&first, &second);
    print(&match args.format {
        Format::Human => compare::text(&comparison),
        Format::Json => serde_json::to_string(&comparison)? + "\n",
    })?;
    Ok(Exit::Pass)
}

/// The evidence at `path`; without any, standard error says why.
fn evidence(path: &Path) -> Option<Evidence> {
    load(path)
        .map_err(|error| match error {
            LoadError::Baseline(problems) if std::io::stderr().is_terminal() => {
                eprintln!("{}", problems.render_colored())
            }
            LoadError::Baseline(problems) => eprintln!("{}", problems.render_plain()),
            error @ (LoadError::Read { .. } | LoadError::Parse { .. } | LoadError::Version { .. }) => {
                eprintln!("gauntlet: {}", error_chain(&error));
            }
        })
        .ok()
}

fn print(text: &str) -> anyhow::Result<()> {
    std::io::stdout()
        .lock()
        .write_all(text.as_bytes())
        .context("failed to print")
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::suite::outcome::{Mode, SuiteResult};
    use crate::suite::sample::{suite, times};

    struct World {
        directory: tempfile::TempDir,
    }

    impl World {
        fn new() -> Self {
            Self {
                directory: tempfile::tempdir().expect("a directory"),
            }
        }

        fn file(&self, name: &str) -> PathBuf {
            self.directory.path().join(name)
        }

        /// A suite directory with this result.
        fn result(&self, name: &str, result: &SuiteResult) -> PathBuf {
            let path = self.file(name);
            std::fs::create_dir(&path).expect("a new directory");
            std::fs::write(path.join("suite.json"), serde_json::to_vec(result).expect("JSON")).expect("written");
            path
        }

        fn saved(&self, result: &Path) -> PathBuf {
            let out = self.file("main.baseline.yaml");
            let save = BaselineCommand::Save {
                result: result.to_owned(),
                out: Some(out.clone()),
            };
            assert_eq!(run_baseline(&save).expect("saved"), Exit::Pass);
            out
        }

        fn gate(&self, baseline: &Path, result: &Path) -> (Exit, serde_json::Value) {
            let out = self.file("gate.json");
            let exit = run_gate(&GateArgs {
                baseline: baseline.to_owned(),
                result: result.to_owned(),
                format: ReportFormat::Json,
                false_alarm_budget: None,
                false_alarm_margin: 0.25,
                out: Some(out.clone()),
            });
            let report = std::fs::read(out).expect("a report");
            (exit.expect("judged"), serde_json::from_slice(&report).expect("JSON"))
        }
    }

    fn replay(right: usize) -> SuiteResult {
        let told = times(right, "a fault ✓ 1.2") + &times(100 - right, "a fault ✗") + &times(20, "n none !0");
        suite(Mode::Replay, &told)
    }

    #[test]
    fn the_same_result_passes_and_a_much_worse_one_fails() {
        let world = World::new();
        let (main, same, worse) = (replay(95), replay(95), replay(60));
        let baseline = world.saved(&world.result("main", &main));
        let (exit, report) = world.gate(&baseline, &world.result("same", &same));
        assert_eq!((exit, &report["verdict"]), (Exit::Pass, &"pass".into()), "{report}");
        let (exit, report) = world.gate(&baseline, &world.result("worse", &worse));
        assert_eq!(
            (exit, report["flips"].as_array().map(Vec::len)),
            (Exit::FellShort, Some(35)),
            "{report}"
        );
    }

    #[test]
    fn another_suite_is_inconclusive_and_says_why() {
        let world = World::new();
        let baseline = world.saved(&world.result("main", &replay(95)));
        let mut other = replay(95);
        other.digest = "e2".repeat(32);
        let (exit, report) = world.gate(&baseline, &world.result("other", &other));
        assert_eq!(exit, Exit::Inconclusive);
        assert!(
            report["reasons"][0]
                .as_str()
                .is_some_and(|reason| reason.contains("another suite")),
            "{report}"
        );
    }

    #[test]
    fn what_cannot_be_read_is_an_invalid_file() {
        let world = World::new();
        let result = world.result("main", &replay(95));
        let broken = world.file("broken.yaml");
        std::fs::write(&broken, "kind: Baseline\n").expect("written");
        for baseline in [broken, world.file("missing.yaml")] {
            let args = CompareArgs {
                first: baseline,
                second: result.clone(),
                format: Format::Human,
            };
            assert_eq!(run_compare(&args).expect("compared"), Exit::InvalidScenario);
        }
    }

    #[test]
    fn an_empty_result_is_not_saved() {
        let world = World::new();
        let result = world.result("main", &suite(Mode::Live, ""));
        let out = world.file("x.yaml");
        let save = BaselineCommand::Save {
            result,
            out: Some(out.clone()),
        };
        assert_eq!(run_baseline(&save).expect("refused"), Exit::NothingSelected);
        assert!(!out.exists());
    }
}
