//! Baseline files: evidence as text that a person reviews in a pull request.
//!
//! A header, then one line per case in a fixed order: a changed line is a changed answer. Reading is strict and reports
//! all problems at once; see [`read`].

mod read;

use std::fmt::Write as _;

use gauntlet_probes::frame::MonotonicNanos;

use super::evidence::{Answer, Case, Evidence};
use crate::app::file::API_VERSION;
use crate::scenario::model::Arm;
use crate::score::matching::Rank;
use crate::score::moments::TimeTo;
use crate::suite::outcome::Mode;

pub use read::read;

/// What `kind` says in a baseline file.
pub const KIND: &str = "Baseline";

/// Largest whole number that every YAML reader keeps; larger seeds are written as text.
const EXACT_NUMBER_MAX: u64 = 1 << 53;

/// The file's text. Same evidence, same bytes.
#[must_use]
pub fn write(evidence: &Evidence) -> String {
    let mut text = String::from(
        "# What a detector answered, case by case: `gauntlet gate --baseline` compares with it.\n\
         # Written by `gauntlet baseline save`; a changed line is a changed answer.\n",
    );
    let Evidence {
        suite,
        digest,
        mode,
        detector,
        planned_count,
        cases,
    } = evidence;
    let _ = write!(
        text,
        "apiVersion: {API_VERSION}\nkind: {KIND}\nmetadata:\n  name: {}\nspec:\n  digest: {}\n  mode: {}\n  detector: {}\n  \
         planned: {planned_count}\n  cases:\n",
        scalar(suite),
        quoted(digest),
        mode_word(*mode),
        quoted(detector),
    );
    for case in cases {
        let _ = writeln!(text, "  - {{{}}}", line(case));
    }
    if cases.is_empty() {
        text.truncate(text.len() - 1);
        text += " []\n";
    }
    text
}

fn line(case: &Case) -> String {
    let Case {
        scenario,
        trial,
        seed,
        recording,
        app,
        class,
        arm,
        validity,
        residue,
        false_alarms,
        fault_free_ms,
        answer,
        said,
        failure,
    } = case;
    let mut fields = vec![format!("scenario: {}", scalar(scenario)), format!("trial: {trial}")];
    fields.push(if seed.0 < EXACT_NUMBER_MAX {
        format!("seed: {}", seed.0)
    } else {
        format!("seed: \"{}\"", seed.0)
    });
    fields.extend(recording.iter().map(|digits| format!("recording: {}", quoted(digits))));
    fields.push(format!("app: {}", scalar(app)));
    fields.extend(class.iter().map(|class| format!("class: {}", scalar(class))));
    fields.push(format!("arm: {}", arm_word(*arm)));
    fields.push(format!("validity: {}", validity.name()));
    if *residue {
        fields.push("residue: true".to_owned());
    }
    fields.extend(answer.iter().map(answer_fields));
    fields.push(format!("falseAlarms: {false_alarms}"));
    fields.push(format!("faultFree: {}", seconds(*fault_free_ms)));
    fields.extend(said.iter().map(|said| format!("said: {}", quoted(said))));
    fields.extend(failure.iter().map(|failure| format!("failure: {}", quoted(failure))));
    fields.join(", ")
}

fn answer_fields(answer: &Answer) -> String {
    let Answer {
        ac_at_1,
        rank,
        time_to_detect,
        time_to_root_cause,
    } = answer;
    let rank = match rank {
        Rank::At { rank } => rank.to_string(),
        Rank::Absent => "absent".to_owned(),
    };
    format!(
        "ac1: {ac_at_1}, rank: {rank}, ttd: {}, ttrc: {}",
        time_text(*time_to_detect),
        time_text(*time_to_root_cause)
    )
}

/// `1.200s`, or `not in 15.000s`.
fn time_text(time: TimeTo) -> String {
    let of = |ns: MonotonicNanos| seconds(ns / 1_000_000);
    match time {
        TimeTo::Reached { after_ns } => of(after_ns),
        TimeTo::NotReached { observed_for_ns } => format!("not in {}", of(observed_for_ns)),
    }
}

fn seconds(milliseconds: u64) -> String {
    format!("{}.{:03}s", milliseconds / 1000, milliseconds % 1000)
}

/// How a mode is written.
pub(super) const fn mode_word(mode: Mode) -> &'static str {
    match mode {
        Mode::Live => "live",
        Mode::Replay => "replay",
    }
}

/// How an arm is written.
const fn arm_word(arm: Arm) -> &'static str {
    match arm {
        Arm::Fault => "fault",
        Arm::Surge => "surge",
        Arm::Placebo => "placebo",
        Arm::None => "none",
    }
}

/// As it is where YAML cannot take it for anything but this text, else in quotes.
fn scalar(text: &str) -> String {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let word = text.starts_with(|c: char| c.is_ascii_lowercase()) && text.chars().all(plain);
    // What some version of YAML reads as a value.
    let value = ["null", "true", "false", "yes", "no", "on", "off", "y", "n"].contains(&text);
    if word && !value { text.to_owned() } else { quoted(text) }
}

/// In double quotes; JSON's are YAML's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests;
