//! One recording told to a detector's process, and what it said: frame by frame, or all at once to one that reads
//! recordings itself (`detector/PROTOCOL.md`, "Times" and "Recordings").
//!
//! There is no clock in a replay: a statement counts from the frame that it is about. A detector gets the recorder's
//! stream, which holds inventory and frames and nothing of the truth. One that fails in any way says so in
//! [`Heard::end`]; that is for scores to punish.

use std::path::{Path, PathBuf};
use std::time::Duration;

use gauntlet_detector::feed::FeedLine;
use gauntlet_detector::pipeline;
use gauntlet_probes::entity::InventoryLine;
use gauntlet_probes::recording::{Record, RecordingError, RecordingReader};
use tokio::time::{Instant, timeout_at};

use crate::clock::MonotonicNanos;
use crate::detectors::process::Said;
use crate::detectors::{DetectorCommand, DetectorEnd, DetectorError, DetectorProcess, Received};
use crate::recording::FrameSpan;

/// How long a detector may take for one recording before it counts as hung, unless asked otherwise. Ours takes 30 ms for
/// a run of 36 s; a script may need a thousand times as long.
pub const WITHIN: Duration = Duration::from_secs(60);
/// How long a detector may take over one frame that it is told; live it has 0.2 s.
const SYNC_WITHIN: Duration = Duration::from_secs(5);
/// Most characters of a detector's last words that are shown.
const SHOWN_CHARS_MAX: usize = 200;

/// Which detector recordings are told to.
#[derive(Clone, Debug)]
pub struct ReplayDetector {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Whether it is ours; then it is known under which name it speaks.
    pub is_own: bool,
    /// How long it may take for one recording; see [`WITHIN`].
    pub within: Duration,
}

/// The detector did not come into being: a matter of this machine, not of the detector's answers.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The program could not be started.
    #[error("failed to start the detector {program}: {source}")]
    Spawn {
        /// The program.
        program: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The recorder's stream could not be handed over.
    #[error("failed to hand over a recording: {0}")]
    HandOver(#[from] RecordingError),
}

/// What was heard of a detector.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    /// How it introduced itself; `None`: it did not.
    pub introduced_as: Option<String>,
    /// The name under which it speaks, as against the rivals beside it; `None`: it said nothing.
    pub speaks_as: Option<String>,
    /// What it and rivals said, in order.
    pub statements: Vec<Received>,
    /// How it ended, and how it failed if it did.
    pub end: DetectorEnd,
}

/// Tells a detector what the recorder wrote (`stream`) and hears it to its end.
///
/// # Errors
/// [`ReplayError`] if it cannot be started, or cannot be given the recording.
pub fn hear(detector: &ReplayDetector, stream: &[u8], span: FrameSpan) -> Result<Heard, ReplayError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(RecordingError::from)?;
    let files = tempfile::tempdir().map_err(RecordingError::from)?;
    runtime.block_on(converse(detector, stream, span, files.path()))
}

async fn converse(
    detector: &ReplayDetector,
    stream: &[u8],
    span: FrameSpan,
    files: &Path,
) -> Result<Heard, ReplayError> {
    let recording = files.join("frames.zst");
    std::fs::write(&recording, stream).map_err(RecordingError::from)?;
    let mut records = RecordingReader::new(stream)?.peekable();
    let mut inventory: Vec<InventoryLine> = Vec::new();
    while let Some(Ok(Record::Inventory(line))) = records.next_if(|one| matches!(one, Ok(Record::Inventory(_)))) {
        inventory.push(line);
    }
    let command = DetectorCommand {
        program: detector.program.clone(),
        arguments: detector.arguments.clone(),
        log: files.join("log"),
    };
    let deadline = Instant::now() + detector.within;
    let starting = DetectorProcess::start_replay(&command, &inventory, &recording);
    let never_ready = match timeout_at(deadline, starting).await {
        Ok(Ok(process)) => {
            let conversation = Conversation {
                process,
                statements: Vec::new(),
                nonsense: None,
                deadline,
                within: detector.within,
            };
            return Ok(conversation.hear(detector, records, span, &command.log).await);
        }
        Ok(Err(DetectorError::Spawn { program, source })) => return Err(ReplayError::Spawn { program, source }),
        Ok(Err(DetectorError::NotReady { why, .. })) => why,
        Err(_) => format!("it said nothing for {:?}", detector.within),
    };
    let why = format!("it was never ready: {never_ready}{}", last_words(&command.log));
    Ok(Heard {
        end: DetectorEnd::never_ready(why),
        ..Heard::default()
    })
}

/// What was said in one recording, so far.
struct Conversation {
    process: DetectorProcess,
    statements: Vec<Received>,
    /// The first line that was none of the protocol's, shortened.
    nonsense: Option<String>,
    deadline: Instant,
    within: Duration,
}

impl Conversation {
    async fn hear(
        mut self,
        detector: &ReplayDetector,
        records: impl Iterator<Item = Result<Record, RecordingError>>,
        span: FrameSpan,
        log: &Path,
    ) -> Heard {
        if self.process.reads_recording {
            self.listen(span).await;
        } else if self.process.takes_frames {
            self.tell(records).await;
        } else {
            self.process
                .give_up("it asks neither for frames nor for the recording, so it cannot judge one");
        }
        let introduced_as = Some(self.process.name.clone());
        let (_, mut end) = self.process.finish(0).await;
        if let Some(line) = self.nonsense {
            end.fail(format!("the first of them is `{line}`"));
        }
        if let Some(failure) = &mut end.failure {
            *failure += &last_words(log);
        }
        Heard {
            introduced_as,
            speaks_as: speaks_as(detector, &self.statements, &end.beside),
            statements: self.statements,
            end,
        }
    }

    /// Hears one that reads the recording itself. A statement counts from the moment that it claims, which lies within the
    /// recording and not before an earlier one.
    async fn listen(&mut self, span: FrameSpan) {
        self.process.end_input();
        let mut not_before = span.first_ns;
        let moment = |diagnosis_ns: MonotonicNanos| {
            not_before = diagnosis_ns.max(not_before).min(span.last_ns);
            not_before
        };
        let within = self.within;
        if self.until(self.deadline, moment).await == Heeded::TooLate {
            self.process.give_up(format!("it hung for {within:?}"));
        }
    }

    /// Tells frame by frame, the next one only when all was said to the one before, so that nobody looks ahead. What is
    /// said in between counts from that frame.
    async fn tell(&mut self, records: impl Iterator<Item = Result<Record, RecordingError>>) {
        for record in records {
            let frame = match record {
                Ok(Record::Frame(frame)) => frame,
                Ok(Record::Inventory(line)) => {
                    self.process.tell(&line);
                    continue;
                }
                // Only a salvaged recording breaks off, and it is told so far.
                Err(_) => return,
            };
            let at_ns = frame.at_ns;
            self.process.feed(&FeedLine::Frame(Box::new(frame)));
            self.process.sync();
            let deadline = self.deadline.min(Instant::now() + SYNC_WITHIN);
            match self.until(deadline, |_| at_ns).await {
                Heeded::Synced => {}
                Heeded::Ended => return,
                Heeded::TooLate if deadline == self.deadline => {
                    let within = self.within;
                    return self.process.give_up(format!("it was not through within {within:?}"));
                }
                Heeded::TooLate => {
                    let why = format!("it did not answer `sync` within {SYNC_WITHIN:?}");
                    return self.process.give_up(why);
                }
            }
        }
    }

    /// Takes what is said until it answers a `sync`, ends, or `deadline` has come. `moment` turns the moment that a
    /// statement claims into that from which it counts.
    async fn until(&mut self, deadline: Instant, mut moment: impl FnMut(MonotonicNanos) -> MonotonicNanos) -> Heeded {
        loop {
            match timeout_at(deadline, self.process.next()).await {
                Ok(Said::Statement(Received { diagnosis, .. })) => self.statements.push(Received {
                    received_ns: moment(diagnosis.at_ns),
                    diagnosis,
                }),
                Ok(Said::Nonsense(line)) => {
                    self.nonsense.get_or_insert(line);
                }
                Ok(Said::Synced) => return Heeded::Synced,
                Ok(Said::Ended) => return Heeded::Ended,
                Err(_) => return Heeded::TooLate,
            }
        }
    }
}

/// What a detector did before a deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heeded {
    Synced,
    Ended,
    TooLate,
}

/// The last line that it wrote to standard error, to follow a failure; empty if it wrote none.
fn last_words(log: &Path) -> String {
    // A log that is missing or no text holds no words.
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let last = text.lines().rev().map(str::trim).find(|line| !line.is_empty());
    let shown = |line: &str| line.chars().take(SHOWN_CHARS_MAX).collect::<String>();
    last.map_or_else(String::new, |line| format!(": {}", shown(line)))
}

/// Ours has its name. Others speak under that of their first statement which is nobody's beside them.
fn speaks_as(detector: &ReplayDetector, statements: &[Received], beside: &[String]) -> Option<String> {
    if detector.is_own {
        return Some(pipeline::NAME.to_owned());
    }
    let mut names = statements.iter().map(|one| &one.diagnosis.detector);
    names.find(|name| !beside.contains(name)).cloned()
}
