//! `gauntlet-detector`: inventory in, diagnoses out, one JSON object to the line. Judges live frames or a recording.
//!
//! Wires [`gauntlet_probes`] to [`gauntlet_detector`] and decides nothing itself.

#[path = "main/frames.rs"]
mod frames;
#[path = "main/live.rs"]
mod live;
#[path = "main/replay.rs"]
mod replay;
#[path = "main/speaker.rs"]
mod speaker;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use gauntlet_detector::pipeline::Config;
use speaker::Voices;

/// Exit status when this machine does not let the probes work (`EX_UNAVAILABLE`).
const EXIT_UNAVAILABLE: u8 = 69;

/// Watches a cluster's pods through the kernel and says what is wrong, where and why.
///
/// Reads the inventory as NDJSON on standard input, and ends when it ends. Prints NDJSON: `ready`, then `diagnosis`
/// lines, then `summary`.
#[derive(Debug, Parser)]
#[command(name = "gauntlet-detector", version)]
struct Arguments {
    /// Time between two looks, for example `200ms` or `1s`.
    #[arg(long, default_value = "200ms", value_parser = parse_duration)]
    tick: Duration,
    /// Write what the probes see to FILE.
    #[arg(long, value_name = "FILE", conflicts_with = "replay")]
    record: Option<PathBuf>,
    /// Write what the probes see to FILE as NDJSON, for others to judge; a pipe will do. Whoever reads slowly misses
    /// frames, and delays nothing.
    #[arg(long, value_name = "FILE", conflicts_with = "replay")]
    frames_to: Option<PathBuf>,
    /// Judge the recording FILE (`-`: standard input) instead of this machine; needs no privileges and no inventory. By
    /// default the one that the environment variable `GAUNTLET_RECORDING` names, if it is set.
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
    /// Do not let the naive rivals (`alert-count`, `max-z`) speak.
    #[arg(long)]
    without_rivals: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let voices = Voices::of(arguments.without_rivals);
    let outcome = match &replay::asked_for(arguments.replay.clone()) {
        Some(recording) => replay::run(recording, voices, Config::default()),
        None => live::run(&arguments, voices),
    };
    let Err(error) = outcome else { return ExitCode::SUCCESS };
    eprintln!("gauntlet-detector: {error:#}");
    if error.is::<live::Unavailable>() {
        ExitCode::from(EXIT_UNAVAILABLE)
    } else {
        ExitCode::FAILURE
    }
}

/// A number and `ms` or `s`; at least 10 ms, since a look at the kernel's tables takes a few of them.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit_ms) = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
        (Some(number), _) => (number, 1.0),
        (None, Some(number)) => (number, 1000.0),
        (None, None) => return Err("expected a number and a unit, for example `200ms`".to_owned()),
    };
    let milliseconds: f64 = number.trim().parse().map_err(|error| format!("{error}"))?;
    let milliseconds = milliseconds * unit_ms;
    if !(10.0..=60_000.0).contains(&milliseconds) {
        return Err("expected between 10ms and 60s".to_owned());
    }
    Ok(Duration::from_secs_f64(milliseconds / 1e3))
}
