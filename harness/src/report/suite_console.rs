//! Live progress of a suite: which case of how many, what came of the others, about how long the rest takes.
//!
//! On a terminal the current run's phase moves below; elsewhere there are plain lines, one or two for each run.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::console::sli_text;
use super::suite::case::CaseOutcome;
use super::suite::case_name;
use crate::run::event::{EventSink, RunEvent, TimedEvent};
use crate::suite::event::{Standing, SuiteEvent, SuiteSink};
use crate::suite::outcome::CaseResult;

/// Prints a suite's progress to standard error, so that standard output stays for results.
#[derive(Clone, Debug)]
pub struct SuiteConsole {
    bar: Option<ProgressBar>,
}

impl SuiteConsole {
    /// A console that moves when standard error is a terminal.
    #[must_use]
    pub fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{spinner} {prefix}\n  {msg}");
            bar.set_style(style.expect("the template is a constant"));
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Self { bar }
    }

    fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            // A closed standard error must not end a run that still has a fault to undo.
            None => drop(writeln!(std::io::stderr(), "{text}")),
        }
    }

    /// Says something that is no event of the suite.
    pub fn say(&self, text: &str) {
        self.line(text);
    }

    /// Where the shards of a suite stand: moves on a terminal, is a line each time elsewhere.
    pub fn shards(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.set_prefix(text.to_owned()),
            None => self.line(text),
        }
    }

    /// What the current run is doing, for [`crate::run::live::execute`]: moves on a terminal, is not told elsewhere.
    #[must_use]
    pub fn phases(&self) -> PhaseLine {
        PhaseLine {
            bar: self.bar.clone(),
            phase: String::new(),
        }
    }

    /// Takes the moving lines away.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Default for SuiteConsole {
    fn default() -> Self {
        Self::new()
    }
}

impl SuiteSink for SuiteConsole {
    fn event(&mut self, event: SuiteEvent<'_>, standing: &Standing) {
        match event {
            SuiteEvent::Resumed { case_count } => self.line(&format!(
                "resumed: {case_count} of {} cases have ended",
                standing.case_count
            )),
            SuiteEvent::AttemptBegan { key, seed, attempt } => {
                let again = if attempt > 0 {
                    format!(", attempt {}", attempt + 1)
                } else {
                    String::new()
                };
                let text = format!("{} {key} seed {}{again}", place(standing, 1), seed.0);
                match &self.bar {
                    Some(bar) => bar.set_prefix(format!("{text} · {}", standing_text(standing))),
                    None => self.line(&text),
                }
            }
            SuiteEvent::Repeated { key, validity } => self.line(&format!(
                "{} {key} {}: repeated with another seed",
                place(standing, 1),
                validity.findings.join("; ")
            )),
            SuiteEvent::CaseEnded { case } => {
                self.line(&format!(
                    "{} {} · {}",
                    place(standing, 0),
                    case_text(case),
                    standing_text(standing)
                ));
            }
        }
    }
}

/// `[ 3/48]`; `ahead` is 1 for a case that is running.
fn place(standing: &Standing, ahead: usize) -> String {
    let width = standing.case_count.to_string().len();
    format!("[{:>width$}/{}]", standing.ended + ahead, standing.case_count)
}

/// In the words of the suite's page.
fn case_text(case: &CaseResult) -> String {
    let outcome = CaseOutcome::of(case).text();
    let findings = case.validity.findings.iter().map(String::as_str);
    let told: Vec<&str> = findings.chain(case.detector.failure.as_deref()).collect();
    let told = if told.is_empty() {
        String::new()
    } else {
        format!(" ({})", told.join("; "))
    };
    format!("{}: {outcome}{told}", case_name(case))
}

/// What came of the cases so far, and how long the rest may take.
fn standing_text(standing: &Standing) -> String {
    let left = match standing.remaining() {
        _ if standing.ended == standing.case_count => String::new(),
        Some(left) => format!(" · about {} left", about(left)),
        None => " · time left not known yet".to_owned(),
    };
    format!(
        "{} VALID, {} invalid runs, {} pass, {} fail{left}",
        standing.valid, standing.invalid_runs, standing.passed, standing.failed
    )
}

/// A duration in words, to the minute: an estimate is no better than that.
fn about(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let minutes = (seconds + 30) / 60;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{minutes} min"),
        _ => format!("{} h {:02} min", minutes / 60, minutes % 60),
    }
}

/// The phase of the run that is on, as the second of the moving lines.
#[derive(Debug)]
pub struct PhaseLine {
    bar: Option<ProgressBar>,
    phase: String,
}

impl EventSink for PhaseLine {
    fn event(&mut self, timed: &TimedEvent) {
        let Some(bar) = &self.bar else { return };
        match &timed.event {
            RunEvent::PhaseBegan { phase, .. } => {
                self.phase = phase.name().to_owned();
                bar.set_message(self.phase.clone());
            }
            RunEvent::Step { text } => bar.set_message(format!("{}: {text}", self.phase)),
            RunEvent::Sli(sli) => bar.set_message(format!("{}: {}", self.phase, sli_text(sli))),
            RunEvent::Warning { text } => bar.println(format!("warning: {text}")),
            // The run's own page and history tell these.
            RunEvent::FaultInjected { .. }
            | RunEvent::EffectProven { .. }
            | RunEvent::ImpactSeen { .. }
            | RunEvent::FaultRecovered { .. }
            | RunEvent::Diagnosed(_)
            | RunEvent::DetectorNonsense { .. }
            | RunEvent::DetectorEnded { .. }
            | RunEvent::PodRestarted { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates_are_rounded_to_what_they_are_worth() {
        let seconds = [0, 59, 60, 89, 90, 3599, 3600, 5400];
        let texts = seconds.map(|seconds| about(Duration::from_secs(seconds)));
        assert_eq!(
            texts,
            [
                "0 s",
                "59 s",
                "1 min",
                "1 min",
                "2 min",
                "60 min",
                "1 h 00 min",
                "1 h 30 min"
            ]
        );
    }
}
