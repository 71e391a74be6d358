//! A detector that reads one recording: `PROGRAM … --replay -`, frames in on stdin, diagnoses out on stdout.
//!
//! It is a process of its own and gets the recorder's stream, which holds inventory and frames and nothing of the truth.
//! One that crashes, hangs, floods or talks nonsense has failed, and says why; that is for scores to punish.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use gauntlet_detector::baseline::{alert_count, max_z};
use gauntlet_detector::diagnosis::{DetectorLine, Diagnosis, PROTOCOL_VERSION};
use gauntlet_detector::pipeline;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{ChildStderr, ChildStdin, ChildStdout, Command};

use crate::detectors::{DetectorEnd, Received};
use crate::recording::FrameSpan;
use crate::target::namespace::{Confine, confine};

/// How long a detector may take for one recording before it counts as hung, unless asked otherwise. Ours takes 30 ms for
/// a run of 36 s; a script may need a thousand times as long.
pub const WITHIN: Duration = Duration::from_secs(60);
/// Most of a detector's standard error that is kept, from its end: enough for a message of why it crashed.
const STDERR_BYTES_MAX: usize = 4096;
/// Longest line that is taken as one; what is longer is nonsense, piece by piece.
const LINE_BYTES_MAX: u64 = 1 << 20;
/// Most bytes that are read of a detector for one recording; ours prints a hundredth of it.
const OUTPUT_BYTES_MAX: u64 = 64 << 20;
/// Most statements that are kept for one recording; ours and its rivals make five hundred in a run of 36 s.
const STATEMENTS_MAX: usize = 20_000;
/// Most characters of a line that are shown.
const SHOWN_CHARS_MAX: usize = 200;

/// Which detector recordings are fed to.
#[derive(Clone, Debug)]
pub struct ReplayDetector {
    /// The program. It takes `--replay -`.
    pub program: PathBuf,
    /// Its arguments before `--replay -`.
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

/// Lets a detector read `frames` and hears it to its end.
///
/// # Errors
/// [`ReplayError`] if it cannot be started.
pub fn hear(detector: &ReplayDetector, frames: &[u8], span: FrameSpan) -> Result<Heard, ReplayError> {
    let failed = |source| ReplayError::Spawn {
        program: detector.program.clone(),
        source,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(failed)?;
    runtime.block_on(async {
        let mut child = command(detector).spawn().map_err(failed)?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (stdin, stdout) = (stdin.expect("piped"), stdout.expect("piped"));
        let mut listener = Listener::new(span);
        let mut complaint = Vec::new();
        let conversation = async {
            tokio::join!(
                feed(stdin, frames),
                listener.listen(stdout),
                keep_end(stderr.expect("piped"), &mut complaint),
            );
            child.wait().await
        };
        let status = tokio::time::timeout(detector.within, conversation).await;
        let ending = match status {
            Ok(Ok(status)) => Ending::Status(status),
            Ok(Err(error)) => Ending::Lost(error),
            Err(_) => Ending::Hung(child.kill().await),
        };
        Ok(listener.conclude(detector, &ending, &complaint))
    })
}

fn command(detector: &ReplayDetector) -> Command {
    let mut command = std::process::Command::new(&detector.program);
    command
        .args(&detector.arguments)
        .args(["--replay", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A terminal's Ctrl-C goes to the whole foreground group, and a detector that dies of it has not crashed. It
        // ends with the harness, however that ends.
        .process_group(0);
    confine(&mut command, vec![Confine::DieWithParent]);
    let mut command = Command::from(command);
    command.kill_on_drop(true);
    command
}

/// A detector that stops reading has its reasons; its end tells them.
async fn feed(mut stdin: ChildStdin, frames: &[u8]) {
    let _ = stdin.write_all(frames).await;
}

/// The last bytes of what it writes to standard error.
async fn keep_end(mut stderr: ChildStderr, kept: &mut Vec<u8>) {
    let mut chunk = [0; 1024];
    while let Ok(length @ 1..) = stderr.read(&mut chunk).await {
        kept.extend_from_slice(&chunk[..length]);
        let excess = kept.len().saturating_sub(STDERR_BYTES_MAX);
        kept.drain(..excess);
    }
}

/// How a process ended.
enum Ending {
    Status(ExitStatus),
    Hung(std::io::Result<()>),
    Lost(std::io::Error),
}

/// Takes a detector's lines.
struct Listener {
    span: FrameSpan,
    heard: Heard,
    /// The first line that was none of the protocol's, shortened.
    nonsense: Option<String>,
}

impl Listener {
    fn new(span: FrameSpan) -> Self {
        Self {
            span,
            heard: Heard::default(),
            nonsense: None,
        }
    }

    async fn listen(&mut self, stdout: ChildStdout) {
        let mut reader = BufReader::new(stdout.take(OUTPUT_BYTES_MAX));
        let mut line = Vec::new();
        while let Ok(1..) = (&mut reader).take(LINE_BYTES_MAX).read_until(b'\n', &mut line).await {
            if !line.trim_ascii().is_empty() {
                self.take(&line);
            }
            line.clear();
        }
        self.heard.end.flood_count += u64::from(reader.get_ref().limit() == 0);
    }

    fn take(&mut self, line: &[u8]) {
        let is_first = self.heard.introduced_as.is_none();
        match serde_json::from_slice(line) {
            Ok(DetectorLine::Ready { version, detector, .. }) if is_first && version == PROTOCOL_VERSION => {
                self.heard.introduced_as = Some(detector);
            }
            Ok(DetectorLine::Diagnosis(diagnosis)) if !is_first => self.state(diagnosis),
            Ok(DetectorLine::Summary(summary)) if !is_first => self.heard.end.summary = Some(summary),
            Ok(
                DetectorLine::Ready { .. }
                | DetectorLine::Diagnosis(_)
                | DetectorLine::Summary(_)
                | DetectorLine::Synced { .. },
            )
            | Err(_) => {
                self.heard.end.nonsense_count += 1;
                self.nonsense
                    .get_or_insert_with(|| shown(&String::from_utf8_lossy(line)));
            }
        }
    }

    /// A statement counts from the moment that it is about, which lies within the recording and not before an earlier one.
    fn state(&mut self, diagnosis: Diagnosis) {
        let said = &mut self.heard.statements;
        if said.len() >= STATEMENTS_MAX {
            self.heard.end.flood_count += 1;
            return;
        }
        let not_before = said.last().map_or(self.span.first_ns, |one| one.received_ns);
        let received_ns = diagnosis.at_ns.max(not_before).min(self.span.last_ns);
        said.push(Received { received_ns, diagnosis });
    }

    fn conclude(self, detector: &ReplayDetector, ending: &Ending, stderr: &[u8]) -> Heard {
        let Self {
            mut heard, nonsense, ..
        } = self;
        let stderr = String::from_utf8_lossy(stderr);
        let last_words = stderr.lines().rev().find(|line| !line.trim().is_empty());
        let last_words = last_words.map_or_else(String::new, |line| format!(": {}", shown(line)));
        let end = &mut heard.end;
        end.outcome = match ending {
            Ending::Status(status) => status.to_string(),
            Ending::Hung(killed) => format!("did not end within {:?} and was killed ({killed:?})", detector.within),
            Ending::Lost(error) => format!("lost: {error}"),
        };
        match ending {
            Ending::Status(status) if status.success() => {}
            Ending::Status(status) => end.fail(format!("it crashed ({status}){last_words}")),
            Ending::Hung(_) => end.fail(format!("it hung for {:?}{last_words}", detector.within)),
            Ending::Lost(error) => end.fail(format!("it was lost: {error}")),
        }
        if heard.introduced_as.is_none() {
            end.fail("it was never ready");
        }
        if let Some(line) = nonsense {
            end.fail(format!("it said `{line}`, which is not the protocol's here"));
        }
        if end.flood_count > 0 {
            end.fail(format!(
                "it said more than {STATEMENTS_MAX} statements or {OUTPUT_BYTES_MAX} bytes"
            ));
        }
        heard.speaks_as = speaks_as(detector, &heard);
        heard
    }
}

/// A line as it is shown.
fn shown(line: &str) -> String {
    line.trim().chars().take(SHOWN_CHARS_MAX).collect()
}

/// Ours speaks beside its rivals, and another build of ours does. Others speak under the name of their first statement.
fn speaks_as(detector: &ReplayDetector, heard: &Heard) -> Option<String> {
    let is_rival = |name: &str| [alert_count::NAME, max_z::NAME].contains(&name);
    let mut names = heard.statements.iter().map(|one| one.diagnosis.detector.as_str());
    if detector.is_own {
        return Some(pipeline::NAME.to_owned());
    }
    names.find(|name| !is_rival(name)).map(str::to_owned)
}
