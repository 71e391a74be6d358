//! What is wrong with a file that a person wrote: all problems at once, each with line, column, caret and advice.
//!
//! Does not find problems.

use std::collections::BTreeSet;
use std::fmt;

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode};

use super::tree::Span;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub span: Span,
    /// What is wrong, a lowercase fragment.
    pub message: String,
    /// What to write instead.
    pub advice: Option<String>,
}

/// Collects the problems of one file.
#[derive(Debug, Default)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Adds a problem and returns it, so that advice can be added.
    pub fn add(&mut self, span: Span, message: impl Into<String>) -> &mut Problem {
        self.0.push(Problem {
            span,
            message: message.into(),
            advice: None,
        });
        self.0.last_mut().expect("just pushed")
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many things are wrong.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// What was read from `text`, if nothing is wrong with it; `shown` is how reports call the file.
    ///
    /// # Errors
    /// All that is wrong.
    ///
    /// # Panics
    /// If a part is lacking of which no problem says so: a bug of the reader, and never a reason to go on.
    pub(crate) fn done<T>(self, read: Option<T>, shown: &str, text: &str) -> Result<T, ScenarioErrors> {
        match read {
            Some(read) if self.is_empty() => Ok(read),
            _ => {
                assert!(!self.is_empty(), "{shown}: what has no problem is complete");
                Err(self.into_errors(shown, text))
            }
        }
    }

    /// The problems in the order of the text.
    #[must_use]
    pub fn into_errors(self, name: &str, text: &str) -> ScenarioErrors {
        let mut problems = self.0;
        problems.sort_by_key(|problem| problem.span.offset);
        let problems = problems
            .into_iter()
            .map(|problem| {
                // A span that ends in the next line would draw the caret over both.
                let offset = problem.span.offset.min(text.len());
                let rest = text.get(offset..).unwrap_or_default();
                let line_len = rest.find('\n').unwrap_or(rest.len());
                let len = problem.span.len.min(line_len);
                Problem {
                    span: Span { offset, len },
                    ..problem
                }
            })
            .collect();
        ScenarioErrors {
            name: name.to_owned(),
            source: NamedSource::new(name, text.to_owned()),
            problems,
        }
    }
}

impl Problem {
    /// Adds what to write instead.
    pub fn advise(&mut self, advice: impl Into<String>) {
        self.advice = Some(advice.into());
    }

    /// Adds the nearest of the valid words or, failing that, all of them.
    pub fn advise_word<'a>(&mut self, written: &str, valid: impl IntoIterator<Item = &'a str>) {
        self.advice = Some(did_you_mean(written, valid));
    }
}

/// One line for each problem, with its place and its advice: what tests of readers compare.
#[cfg(test)]
pub(crate) fn lines(errors: &ScenarioErrors) -> String {
    let line = |problem: &Problem| {
        let (line, column) = errors.place(problem);
        let advice = problem.advice.as_ref().map(|advice| format!(" | {advice}"));
        format!("{line}:{column} {}{}\n", problem.message, advice.unwrap_or_default())
    };
    errors.problems().iter().map(line).collect()
}

/// `did you mean …?`, or the list of what is possible.
#[must_use]
pub fn did_you_mean<'a>(written: &str, valid: impl IntoIterator<Item = &'a str>) -> String {
    let valid: BTreeSet<&str> = valid.into_iter().collect();
    match nearest(written, valid.iter().copied()) {
        Some(word) => format!("did you mean `{word}`?"),
        None if valid.is_empty() => "there is none".to_owned(),
        None => format!("one of: {}", valid.into_iter().collect::<Vec<_>>().join(", ")),
    }
}

/// The valid word that `written` was probably meant to be.
#[must_use]
pub fn nearest<'a>(written: &str, valid: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let written = written.to_lowercase();
    // Exchanged letters of short words are far apart for Jaro–Winkler, and long prefixes are for the other.
    let likeness = |word: &str| {
        let edits = strsim::normalized_damerau_levenshtein(&written, word);
        edits.max(strsim::jaro_winkler(&written, &word.to_lowercase()) - 0.15)
    };
    let best = valid.into_iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(best) >= 0.65).then_some(best)
}

/// All that is wrong with one file. Never empty.
#[derive(Debug)]
pub struct ScenarioErrors {
    name: String,
    source: NamedSource<String>,
    problems: Vec<Problem>,
}

impl ScenarioErrors {
    /// The problems, in the order of the text.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Line and column of a problem, both from 1.
    #[must_use]
    pub fn place(&self, problem: &Problem) -> (usize, usize) {
        let before = self.source.inner().get(..problem.span.offset).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (
            before.matches('\n').count() + 1,
            before[line_start..].chars().count() + 1,
        )
    }

    /// The report without colours, as it goes to a file or a log.
    #[must_use]
    pub fn render_plain(&self) -> String {
        self.render(GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor()))
    }

    /// The report with colours, for a terminal.
    #[must_use]
    pub fn render_colored(&self) -> String {
        self.render(GraphicalReportHandler::new_themed(GraphicalTheme::unicode()))
    }

    fn render(&self, handler: GraphicalReportHandler) -> String {
        let handler = handler.with_width(120).with_context_lines(1);
        let mut text = format!("{self}\n");
        for problem in &self.problems {
            let one = Located { errors: self, problem };
            handler
                .render_report(&mut text, &one)
                .expect("writing to a string does not fail");
        }
        text
    }
}

impl fmt::Display for ScenarioErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.problems.len();
        write!(
            f,
            "{}: {count} {}",
            self.name,
            if count == 1 { "problem" } else { "problems" }
        )
    }
}

impl std::error::Error for ScenarioErrors {}

impl Diagnostic for ScenarioErrors {
    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.source)
    }

    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        Some(Box::new(self.problems.iter().map(|problem| problem as &dyn Diagnostic)))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}

impl Diagnostic for Problem {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.advice
            .as_ref()
            .map(|advice| Box::new(advice) as Box<dyn fmt::Display>)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let label = LabeledSpan::new(Some("here".to_owned()), self.span.offset, self.span.len);
        Some(Box::new(std::iter::once(label)))
    }
}

/// A problem together with the text that it is about.
#[derive(Debug)]
struct Located<'a> {
    errors: &'a ScenarioErrors,
    problem: &'a Problem,
}

impl fmt::Display for Located<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.problem.fmt(f)
    }
}

impl std::error::Error for Located<'_> {}

impl Diagnostic for Located<'_> {
    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.errors.source)
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.problem.help()
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        self.problem.labels()
    }
}
