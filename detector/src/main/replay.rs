//! Judges a recording: same frames, same statements.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use gauntlet_detector::feed::RECORDING_VARIABLE;
use gauntlet_detector::pipeline::Config;
use gauntlet_probes::recording::{Record, RecordingError, RecordingReader};

use crate::speaker::{Input, Speaker, Voices};

/// The recording that is to be judged: `named` on the command line, else by whoever started this process.
pub(crate) fn asked_for(named: Option<PathBuf>) -> Option<PathBuf> {
    named.or_else(|| std::env::var_os(RECORDING_VARIABLE).map(PathBuf::from))
}

/// Reads all of `recording` (`-`: standard input). One that ends within a record is judged as far as it goes.
pub(crate) fn run(recording: &Path, voices: Voices, config: Config) -> anyhow::Result<()> {
    let name = || format!("failed to read {}", recording.display());
    let input: Box<dyn Read> = if recording == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(File::open(recording).with_context(name)?)
    };
    let reader = RecordingReader::new(input).with_context(name)?;
    let mut speaker = Speaker::new(voices, config);
    let mut said_ready = false;
    for record in reader {
        match record {
            Ok(Record::Inventory(line)) => speaker.apply(&line),
            Ok(Record::Frame(frame)) => {
                if !said_ready {
                    speaker.ready(Input::Recording, Vec::new())?;
                    said_ready = true;
                }
                speaker.frame(&frame)?;
            }
            Err(error @ RecordingError::Truncated) => {
                eprintln!("gauntlet-detector: {error}; all before that was judged");
                break;
            }
            Err(error) => return Err(error).with_context(name),
        }
    }
    speaker.finish(Vec::new())
}
