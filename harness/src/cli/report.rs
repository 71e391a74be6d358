//! `gauntlet report`: makes the reports of a run or a suite again, from what was recorded.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::{Exit, ReportArgs, ReportKind};
use crate::gate::report::{GATE_REPORT_VERSION, GateReport};
use crate::report::evidence::{EvidenceError, RunEvidence, read_versioned};
use crate::report::files::{ReportError, write_run, write_suite};
use crate::report::suite::{Beside, view as suite_view};
use crate::report::view::view as run_view;
use crate::report::{files, html, junit, markdown};
use crate::run::directory::write_whole;
use crate::suite::outcome::{SUITE_RESULT_VERSION, SuiteResult};

/// A suite's result within its directory.
const SUITE_RESULT: &str = "suite.json";
/// A run's result within its directory.
const RUN_RESULT: &str = "result.json";

/// What is said when there is something else to put beside it.
const NO_BASELINE_FILE: &str =
    "a report wants an older suite.json beside it; a file of `gauntlet baseline save` is for the gate (see --gate)";

/// What a path leads to.
enum Subject {
    Run { directory: PathBuf },
    Suite { file: PathBuf },
}

/// Makes reports.
///
/// # Errors
/// When something cannot be written (a bug or an unusable place).
pub fn report(args: &ReportArgs) -> anyhow::Result<Exit> {
    match make(args) {
        Ok(()) => Ok(Exit::Pass),
        // What was named is no run and no suite, or not one that this version can read.
        Err(error) if error.downcast_ref::<EvidenceError>().is_some() => {
            eprintln!("gauntlet: {error:#}");
            Ok(Exit::InvalidScenario)
        }
        Err(error) => Err(error),
    }
}

fn make(args: &ReportArgs) -> anyhow::Result<()> {
    match (subject(&args.path)?, args.format) {
        (Subject::Run { directory }, None) => {
            write_run(&directory).map_err(unwrapped)?;
            println!("{}", directory.join(files::PAGE).display());
        }
        (Subject::Run { directory }, Some(format)) => {
            let evidence = RunEvidence::read(&directory)?;
            let text = match format {
                ReportKind::Html => html::page(&run_view(&evidence)),
                ReportKind::Markdown => markdown::run(&run_view(&evidence)),
                ReportKind::Junit => junit::junit(&evidence.result),
            };
            put(&text, args.out.as_deref())?;
        }
        (Subject::Suite { file }, format) => suite(&file, format, args)?,
    }
    Ok(())
}

fn suite(file: &Path, format: Option<ReportKind>, args: &ReportArgs) -> anyhow::Result<()> {
    let result = read_suite(file)?;
    let baseline = args
        .baseline
        .as_deref()
        .map(|path| read_suite(&suite_file(path)).context(NO_BASELINE_FILE))
        .transpose()?;
    let gate: Option<GateReport> = args
        .gate
        .as_deref()
        .map(|path| read_versioned(path, GATE_REPORT_VERSION))
        .transpose()?;
    let beside = Beside {
        baseline: baseline.as_ref(),
        gate: gate.as_ref(),
    };
    let view = suite_view(&result, beside);
    let text = match format {
        None => {
            let directory = file.parent().unwrap_or(Path::new("."));
            let page = write_suite(directory, &result, &view).map_err(unwrapped)?;
            println!("{}", page.display());
            return Ok(());
        }
        Some(ReportKind::Html) => html::suite::page(&view),
        Some(ReportKind::Markdown) => markdown::suite(&view),
        Some(ReportKind::Junit) => junit::suite(&result),
    };
    put(&text, args.out.as_deref())
}

/// The error within, so that the caller finds what cannot be read however it came.
fn unwrapped(error: ReportError) -> anyhow::Error {
    match error {
        ReportError::Evidence(error) => error.into(),
        ReportError::Write(error) => error.into(),
    }
}

fn read_suite(file: &Path) -> Result<SuiteResult, EvidenceError> {
    read_versioned(file, SUITE_RESULT_VERSION)
}

fn suite_file(path: &Path) -> PathBuf {
    if path.is_dir() {
        path.join(SUITE_RESULT)
    } else {
        path.to_owned()
    }
}

fn subject(path: &Path) -> Result<Subject, EvidenceError> {
    if path.is_dir() {
        let file = path.join(SUITE_RESULT);
        return Ok(match file.is_file() {
            true => Subject::Suite { file },
            false => Subject::Run {
                directory: path.to_owned(),
            },
        });
    }
    if path.file_name().is_some_and(|name| name == RUN_RESULT) {
        let directory = path.parent().unwrap_or(Path::new("."));
        return Ok(Subject::Run {
            directory: directory.to_owned(),
        });
    }
    Ok(Subject::Suite { file: path.to_owned() })
}

fn put(text: &str, out: Option<&Path>) -> anyhow::Result<()> {
    match out {
        Some(path) => Ok(write_whole(path, text.as_bytes())?),
        None => Ok(std::io::stdout().write_all(text.as_bytes())?),
    }
}
