//! Writes the reports of a run directory and of a suite's directory; both can be made again at any time.

use std::path::{Path, PathBuf};

use super::evidence::{EvidenceError, RunEvidence};
use super::suite::SuiteView;
use super::view::{RunView, view};
use super::{html, junit, markdown};
use crate::run::RunError;
use crate::run::directory::write_whole;
use crate::suite::outcome::SuiteResult;

/// The page, in both kinds of directory.
pub const PAGE: &str = "report.html";
/// JUnit XML, in both.
pub const JUNIT: &str = "junit.xml";
/// The Markdown summary, in both.
pub const MARKDOWN: &str = "summary.md";

/// Reports could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// What they are made of could not be read.
    #[error(transparent)]
    Evidence(#[from] EvidenceError),
    /// A file could not be written.
    #[error(transparent)]
    Write(#[from] RunError),
}

/// Writes all reports of a run directory.
///
/// # Errors
/// When the directory does not hold a run, or cannot be written.
pub fn write_run(directory: &Path) -> Result<RunView, ReportError> {
    let evidence = RunEvidence::read(directory)?;
    let view = view(&evidence);
    write_whole(&directory.join(PAGE), html::page(&view).as_bytes())?;
    write_whole(&directory.join(JUNIT), junit::junit(&evidence.result).as_bytes())?;
    write_whole(&directory.join(MARKDOWN), markdown::run(&view).as_bytes())?;
    Ok(view)
}

/// Writes all reports of a suite into `directory`, and says where the page is.
///
/// # Errors
/// When it cannot be written.
pub fn write_suite(directory: &Path, result: &SuiteResult, view: &SuiteView) -> Result<PathBuf, ReportError> {
    let page = directory.join(PAGE);
    write_whole(&page, html::suite::page(view).as_bytes())?;
    write_whole(&directory.join(JUNIT), junit::suite(result).as_bytes())?;
    write_whole(&directory.join(MARKDOWN), markdown::suite(view).as_bytes())?;
    Ok(page)
}
