//! Live progress: a moving line on a terminal, plain lines elsewhere. Says nothing that the events do not say.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::time::Duration;

use gauntlet_detector::baseline::{alert_count, max_z};
use gauntlet_detector::diagnosis::Candidate;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::clock::MonotonicNanos;
use crate::run::event::{EventSink, Phase, RunEvent, SliEvent, TimedEvent, human_duration};

/// The names under which our detector's naive rivals speak.
const RIVALS: [&str; 2] = [alert_count::NAME, max_z::NAME];

/// Prints events to standard error, so that standard output stays for results.
#[derive(Debug)]
pub struct Console {
    started_ns: MonotonicNanos,
    bar: Option<ProgressBar>,
    phase: Phase,
    phase_began_ns: MonotonicNanos,
    planned_ms: u64,
    last_statements: BTreeMap<String, String>,
    plain_sli_count: u64,
}

impl Console {
    /// A console that starts its clock at `now_ns`; it moves when standard error is a terminal.
    #[must_use]
    pub fn new(now_ns: MonotonicNanos) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            bar.set_style(ProgressStyle::with_template("{spinner} {msg}").expect("the template is a constant"));
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Self {
            started_ns: now_ns,
            bar,
            phase: Phase::Start,
            phase_began_ns: now_ns,
            planned_ms: 0,
            last_statements: BTreeMap::new(),
            plain_sli_count: 0,
        }
    }

    fn line(&self, at_ns: MonotonicNanos, text: &str) {
        let seconds = Duration::from_nanos(at_ns.saturating_sub(self.started_ns)).as_secs_f64();
        let line = format!("{seconds:6.1} s  {text}");
        match &self.bar {
            Some(bar) => bar.println(line),
            // A closed standard error must not end a run that still has a fault to undo.
            None => drop(writeln!(std::io::stderr(), "{line}")),
        }
    }

    fn sli(&mut self, at_ns: MonotonicNanos, sli: &SliEvent) {
        let text = sli_text(sli);
        let in_phase = Duration::from_nanos(at_ns.saturating_sub(self.phase_began_ns));
        match &self.bar {
            Some(bar) if self.planned_ms > 0 => bar.set_message(format!(
                "{} {:.0}/{:.0} s   {text}",
                self.phase.name(),
                in_phase.as_secs_f64(),
                Duration::from_millis(self.planned_ms).as_secs_f64(),
            )),
            Some(bar) => bar.set_message(text),
            None => {
                // Plain logs get every fifth second.
                if self.plain_sli_count.is_multiple_of(5) {
                    self.line(at_ns, &format!("users: {text}"));
                }
                self.plain_sli_count += 1;
            }
        }
    }

    /// Takes the moving line away.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl EventSink for Console {
    fn event(&mut self, timed: &TimedEvent) {
        let at_ns = timed.at_ns;
        match &timed.event {
            RunEvent::PhaseBegan { phase, planned_ms } => {
                (self.phase, self.phase_began_ns, self.planned_ms) = (*phase, at_ns, *planned_ms);
                self.plain_sli_count = 0;
                let planned = match planned_ms {
                    0 => String::new(),
                    &planned => format!(" ({})", human_duration(Duration::from_millis(planned))),
                };
                self.line(at_ns, &format!("── {}{planned}", phase.name()));
            }
            RunEvent::Step { text } => self.line(at_ns, text),
            RunEvent::Sli(sli) => self.sli(at_ns, sli),
            RunEvent::FaultInjected { fault, text } => self.line(at_ns, &format!("inject {fault}: {text}")),
            RunEvent::EffectProven { fault, measured } => {
                self.line(at_ns, &format!("onset: effect of {fault} proven: {measured}"));
            }
            RunEvent::ImpactSeen { measured } => self.line(at_ns, &format!("impact: {measured}")),
            RunEvent::FaultRecovered { fault } => self.line(at_ns, &format!("recovered {fault}")),
            RunEvent::Diagnosed(received) => {
                let diagnosis = &received.diagnosis;
                let text = match diagnosis.candidates.first() {
                    None => format!("{}: nothing is wrong", diagnosis.detector),
                    Some(first) => format!("{}: {}", diagnosis.detector, candidate_text(first)),
                };
                // Naive rivals are told at the end; the others only when their first answer changes.
                let head = text
                    .rsplit_once(" (")
                    .map_or(text.as_str(), |(head, _)| head)
                    .to_owned();
                let who = diagnosis.detector.as_str();
                if !RIVALS.contains(&who) && self.last_statements.get(who) != Some(&head) {
                    self.line(at_ns, &text);
                    self.last_statements.insert(who.to_owned(), head);
                }
            }
            RunEvent::DetectorNonsense { detector, text } => {
                self.line(at_ns, &format!("{detector}: not of the protocol: {text}"));
            }
            RunEvent::DetectorEnded { detector } => self.line(at_ns, &format!("{detector}: ended by itself")),
            RunEvent::PodRestarted { pod, text } => self.line(at_ns, &format!("pod {pod}: {text}")),
            RunEvent::Warning { text } => self.line(at_ns, &format!("warning: {text}")),
        }
    }
}

/// One second of users' experience in words.
#[must_use]
pub fn sli_text(sli: &SliEvent) -> String {
    format!(
        "{} requests, {} errors, p50 {}, p99 {}",
        sli.sent,
        sli.errors,
        human_duration(Duration::from_micros(sli.p50_us)),
        human_duration(Duration::from_micros(sli.p99_us)),
    )
}

/// A suspect in one line, its confidence last.
#[must_use]
pub fn candidate_text(candidate: &Candidate) -> String {
    let join = |names: &mut dyn Iterator<Item = &str>| names.collect::<Vec<_>>().join(", ");
    let mut text = format!("{}: {}", candidate.entity, candidate.mechanism);
    if !candidate.pods.is_empty() {
        text += &format!(", pods {}", join(&mut candidate.pods.iter().map(|name| name.as_str())));
    }
    if !candidate.nodes.is_empty() {
        text += &format!(
            ", nodes {}",
            join(&mut candidate.nodes.iter().map(|name| name.as_str()))
        );
    }
    if candidate.path.len() > 1 {
        let path = candidate
            .path
            .iter()
            .map(|name| name.as_str())
            .collect::<Vec<_>>()
            .join(" → ");
        text += &format!(", path {path}");
    }
    format!("{text} ({:.0} %)", candidate.confidence * 100.0)
}
