//! `weakened`: judges a recording as `gauntlet-detector --replay` does, with one weakness. The shipped program has no such
//! switch.

#[path = "../src/main/replay.rs"]
mod replay;
#[path = "../src/main/speaker.rs"]
#[expect(dead_code, reason = "only a live detector misses ticks")]
mod speaker;

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Parser;
use gauntlet_detector::pipeline::Config;
use gauntlet_detector::weakness::Weakness;
use speaker::Voices;

/// Judges a recording with a weakness. Prints what `gauntlet-detector --replay` prints.
#[derive(Debug, Parser)]
struct Arguments {
    /// What is made worse, for example `no-filter-rule`; `none` for nothing.
    #[arg(long, value_parser = parse_weakness)]
    weakness: Switch,
    /// The recording; `-` for standard input. By default the one that the environment variable `GAUNTLET_RECORDING` names.
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
    /// Do not let the naive rivals (`alert-count`, `max-z`) speak.
    #[arg(long)]
    without_rivals: bool,
}

/// An `Option` that clap takes for a value.
type Switch = std::option::Option<Weakness>;

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let voices = Voices::of(arguments.without_rivals);
    let config = Config {
        weakness: arguments.weakness,
        ..Config::default()
    };
    let recording = replay::asked_for(arguments.replay).context("neither --replay nor GAUNTLET_RECORDING names one")?;
    replay::run(&recording, voices, config)
}

fn parse_weakness(text: &str) -> Result<Switch, String> {
    if text == "none" {
        return Ok(None);
    }
    text.parse()
        .map(Some)
        .map_err(|error: gauntlet_detector::weakness::UnknownWeakness| error.to_string())
}
