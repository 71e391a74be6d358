//! What can still be read of a recording that was cut off, damaged or never sealed.
//!
//! A run that was salvaged never counts: what is missing, and what was changed, cannot be known. It says so among its
//! harness errors, so that its judgement is INCONCLUSIVE whatever the detector says.

use gauntlet_probes::recording::{Record, RecordingError, RecordingReader, RecordingWriter};

use super::container::{ContainerError, sha256_hex, split_unsealed};
use super::{Evidence, FrameSpan, Problem, Recording, truth_of};
use crate::doctor::error_chain;

/// Reads a file as far as it goes. One that is whole is read as it is.
///
/// # Errors
/// [`Problem`] when nothing can be read: it is something else, newer, or broken before its first frame.
pub fn salvage(file: &[u8]) -> Result<Recording, Problem> {
    let why = match Recording::parse(file) {
        Ok(whole) => return Ok(whole),
        Err(Problem::Container(error @ (ContainerError::Unsealed { .. } | ContainerError::Damaged { .. }))) => error,
        Err(other) => return Err(other),
    };
    let parts = split_unsealed(file)?;
    let truth = truth_of(parts.truth)?;
    let (mut recording, lost) = salvage_stream(truth.evidence, parts.frames)?;
    let found = recording.span.count;
    let verdict = match why {
        ContainerError::Damaged { .. } => "its bytes are not those that were sealed",
        _ => "it has no seal",
    };
    let mut text = format!(
        "salvaged: {verdict}; {found} of {} frames could be read",
        truth.frames.count
    );
    if let Some(lost) = lost {
        text += &format!("; {lost}");
    }
    recording.evidence.harness_errors.push(text);
    recording.digest = sha256_hex(file);
    Ok(recording)
}

/// Reads a recorder's stream as far as it goes; also says where and why it breaks off, if it does. `evidence` is what is
/// known of the run.
///
/// # Errors
/// [`Problem`] when not even one frame can be read.
pub(super) fn salvage_stream(evidence: Evidence, stream: &[u8]) -> Result<(Recording, Option<String>), Problem> {
    let at_header = |cause| Problem::Frames { record: 0, cause };
    let reader = RecordingReader::new(stream).map_err(at_header)?;
    let mut writer = RecordingWriter::new(Vec::new(), reader.header()).map_err(at_header)?;
    let (mut span, mut broken) = (FrameSpan::default(), None);
    for (record, content) in (1_u64..).zip(reader) {
        let written = content.and_then(|content| match content {
            Record::Inventory(line) => writer.inventory(&line),
            Record::Frame(frame) => {
                span.add(frame.at_ns);
                writer.frame(&frame)
            }
        });
        if let Err(cause) = written {
            broken = Some((record, cause));
        }
    }
    if span.count == 0 {
        return Err(broken.map_or(Problem::Empty, |(record, cause)| Problem::Frames { record, cause }));
    }
    let frames = writer.finish().map_err(at_header)?;
    let lost = broken
        .map(|(record, cause): (u64, RecordingError)| format!("record {record} breaks off: {}", error_chain(&cause)));
    let recording = Recording {
        digest: sha256_hex(stream),
        span,
        evidence,
        directory: None,
        frames,
    };
    Ok((recording, lost))
}
