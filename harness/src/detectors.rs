//! The detector under test: a separate process that is told the inventory and prints diagnoses.
//!
//! Does not know what a diagnosis should have been; a line counts from the moment it was received.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use gauntlet_detector::diagnosis::{DetectorLine, Diagnosis, PROTOCOL_VERSION, Summary};
use gauntlet_probes::entity::InventoryLine;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;

use crate::clock::{MonotonicNanos, monotonic_ns};

/// Longest line of a detector that is read; a longer one is nonsense.
const LINE_BYTES_MAX: usize = 1 << 20;
/// Statements kept in memory per run; a flood beyond is counted, not kept.
const STATEMENTS_MAX: usize = 20_000;
/// How long a detector may take to attach before it counts as failed.
pub const READY_WITHIN: Duration = Duration::from_secs(15);
/// How long a detector may take to end after its input has ended.
const END_WITHIN: Duration = Duration::from_secs(5);

/// How to start a detector.
#[derive(Clone, Debug)]
pub struct DetectorCommand {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Where its standard error goes.
    pub log: PathBuf,
}

/// A diagnosis with the moment at which the harness had it. Scores count from that moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Received {
    /// When the line was read.
    pub received_ns: MonotonicNanos,
    /// What it said.
    pub diagnosis: Diagnosis,
}

/// What a running detector told.
#[derive(Clone, Debug)]
pub enum DetectorNews {
    /// A statement.
    Statement(Received),
    /// A line that is none of the protocol's.
    Nonsense(String),
    /// Its output ended.
    Ended,
}

/// How a detector ended, and what it left.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DetectorEnd {
    /// Its own account of cost and loss; `None` if it gave none.
    pub summary: Option<Summary>,
    /// `exit 0`, `signal 9`, or that it hung and was killed.
    pub outcome: String,
    /// It ended before it was asked to.
    pub ended_early: bool,
    /// Lines that were none of the protocol's.
    pub nonsense_count: u64,
    /// Statements beyond the bound, not kept.
    pub flood_count: u64,
    /// How it failed, in words; `None`: it did not. A detector that failed has missed, whatever it said before.
    #[serde(default)]
    pub failure: Option<String>,
}

impl DetectorEnd {
    /// Adds a way in which it failed.
    pub fn fail(&mut self, why: impl AsRef<str>) {
        let why = why.as_ref();
        match &mut self.failure {
            Some(failure) => *failure += &format!("; {why}"),
            None => self.failure = Some(why.to_owned()),
        }
    }
}

/// Why a detector did not start.
#[derive(Debug, thiserror::Error)]
pub enum DetectorError {
    /// The program could not be started.
    #[error("failed to start the detector {program}")]
    Spawn {
        /// The program.
        program: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It ended, or said something else, before it was ready.
    #[error("the detector was not ready within {within:?}: {why} (its log: {log})")]
    NotReady {
        /// The deadline.
        within: Duration,
        /// What happened instead.
        why: String,
        /// Its standard error.
        log: PathBuf,
        /// Its exit code, if it ended.
        exit_code: Option<i32>,
    },
}

/// A detector that is running.
#[derive(Debug)]
pub struct DetectorProcess {
    child: Child,
    stdin: Option<ChildStdin>,
    news: mpsc::UnboundedReceiver<Line>,
    /// What it works without, in its own words.
    pub degraded: Vec<String>,
    /// Its name and version, in its own words.
    pub name: String,
    end: DetectorEnd,
    statements: usize,
}

#[derive(Debug)]
struct Line {
    received_ns: MonotonicNanos,
    content: Result<DetectorLine, String>,
}

impl DetectorProcess {
    /// Starts a detector, tells it the inventory, and waits until it is ready.
    ///
    /// # Errors
    /// [`DetectorError`] when it cannot be started or is not ready in time.
    pub async fn start(command: &DetectorCommand, inventory: &[InventoryLine]) -> Result<Self, DetectorError> {
        let spawn_error = |source| DetectorError::Spawn {
            program: command.program.clone(),
            source,
        };
        let log = std::fs::File::create(&command.log).map_err(spawn_error)?;
        let mut child = Command::new(&command.program)
            .args(&command.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            // A terminal's Ctrl-C goes to the whole foreground group; the harness ends its detector itself.
            .process_group(0)
            .spawn()
            .map_err(spawn_error)?;
        let (sender, news) = mpsc::unbounded_channel();
        let stdout = child.stdout.take().expect("stdout is piped");
        tokio::spawn(read_lines(BufReader::new(stdout), sender));
        let stdin = child.stdin.take();
        let mut process = Self {
            child,
            stdin,
            news,
            degraded: Vec::new(),
            name: String::new(),
            end: DetectorEnd::default(),
            statements: 0,
        };
        for line in inventory {
            process.tell(line).await;
        }
        process.wait_ready(command).await?;
        Ok(process)
    }

    /// Its process, while it lives.
    #[must_use]
    pub fn tgid(&self) -> Option<u32> {
        self.child.id()
    }

    async fn wait_ready(&mut self, command: &DetectorCommand) -> Result<(), DetectorError> {
        let not_ready = |why: String, exit_code| DetectorError::NotReady {
            within: READY_WITHIN,
            why,
            log: command.log.clone(),
            exit_code,
        };
        match tokio::time::timeout(READY_WITHIN, self.news.recv()).await {
            Err(_) => Err(not_ready("it said nothing".to_owned(), None)),
            Ok(None) => {
                let status = self.child.wait().await.ok();
                let why = status.map_or_else(
                    || "it closed its output".to_owned(),
                    |status| format!("it ended ({status})"),
                );
                Err(not_ready(why, status.and_then(|status| status.code())))
            }
            Ok(Some(Line {
                content:
                    Ok(DetectorLine::Ready {
                        version,
                        detector,
                        degraded,
                    }),
                ..
            })) => {
                if version != PROTOCOL_VERSION {
                    let why = format!("it speaks version {version} of the protocol, not {PROTOCOL_VERSION}");
                    return Err(not_ready(why, None));
                }
                self.name = detector;
                self.degraded = degraded;
                Ok(())
            }
            Ok(Some(Line { content: Ok(other), .. })) => Err(not_ready(format!("its first line was {other:?}"), None)),
            Ok(Some(Line { content: Err(text), .. })) => Err(not_ready(format!("its first line was `{text}`"), None)),
        }
    }

    /// Tells a change of the inventory. A detector that no longer reads is not waited for.
    pub async fn tell(&mut self, line: &InventoryLine) {
        let Some(stdin) = &mut self.stdin else { return };
        let mut text = serde_json::to_string(line).expect("inventory lines have string keys only");
        text.push('\n');
        let written = tokio::time::timeout(Duration::from_millis(500), stdin.write_all(text.as_bytes())).await;
        if !matches!(written, Ok(Ok(()))) {
            self.stdin = None;
        }
    }

    /// Waits for what it says next. Safe to drop and call again.
    pub async fn next(&mut self) -> DetectorNews {
        loop {
            let Some(line) = self.news.recv().await else {
                if !self.end.ended_early {
                    self.end.fail("it ended by itself");
                }
                self.end.ended_early = true;
                return DetectorNews::Ended;
            };
            if let Some(news) = self.take(line) {
                return news;
            }
        }
    }

    fn take(&mut self, line: Line) -> Option<DetectorNews> {
        match line.content {
            Ok(DetectorLine::Diagnosis(diagnosis)) => {
                self.statements += 1;
                if self.statements > STATEMENTS_MAX {
                    self.end.flood_count += 1;
                    return None;
                }
                Some(DetectorNews::Statement(Received {
                    received_ns: line.received_ns,
                    diagnosis,
                }))
            }
            Ok(DetectorLine::Summary(summary)) => {
                self.end.summary = Some(summary);
                None
            }
            Ok(DetectorLine::Ready { .. }) => {
                self.end.nonsense_count += 1;
                Some(DetectorNews::Nonsense("a second `ready`".to_owned()))
            }
            Err(text) => {
                self.end.nonsense_count += 1;
                Some(DetectorNews::Nonsense(text))
            }
        }
    }

    /// Ends its input, takes what it still says, and waits for it; kills it when it does not end.
    pub async fn finish(mut self) -> (Vec<Received>, DetectorEnd) {
        self.stdin = None;
        let mut late = Vec::new();
        let deadline = tokio::time::Instant::now() + END_WITHIN;
        while let Ok(Some(line)) = tokio::time::timeout_at(deadline, self.news.recv()).await {
            if let Some(DetectorNews::Statement(received)) = self.take(line) {
                late.push(received);
            }
        }
        self.end.outcome = match tokio::time::timeout_at(deadline, self.child.wait()).await {
            Ok(Ok(status)) => status.to_string(),
            Ok(Err(error)) => format!("lost: {error}"),
            Err(_) => {
                let killed = self.child.kill().await;
                format!("did not end within {END_WITHIN:?} and was killed ({killed:?})")
            }
        };
        (late, self.end)
    }
}

async fn read_lines(mut reader: BufReader<tokio::process::ChildStdout>, sender: mpsc::UnboundedSender<Line>) {
    let mut buffer = Vec::new();
    loop {
        buffer.clear();
        let more = read_bounded_line(&mut reader, &mut buffer).await;
        if buffer.is_empty() && !more {
            return;
        }
        let text = String::from_utf8_lossy(&buffer);
        let text = text.trim();
        if !text.is_empty() {
            let content = serde_json::from_str(text).map_err(|_| text.chars().take(200).collect());
            if sender
                .send(Line {
                    received_ns: monotonic_ns(),
                    content,
                })
                .is_err()
            {
                return;
            }
        }
        if !more {
            return;
        }
    }
}

/// Reads up to a line feed, keeping at most [`LINE_BYTES_MAX`] bytes; false at the end of input.
async fn read_bounded_line(reader: &mut BufReader<tokio::process::ChildStdout>, buffer: &mut Vec<u8>) -> bool {
    loop {
        let Ok(chunk) = reader.fill_buf().await else {
            return false;
        };
        if chunk.is_empty() {
            return false;
        }
        let end = chunk.iter().position(|&byte| byte == b'\n');
        let length = end.map_or(chunk.len(), |end| end + 1);
        let room = LINE_BYTES_MAX.saturating_sub(buffer.len());
        buffer.extend_from_slice(&chunk[..length.min(room)]);
        reader.consume(length);
        if end.is_some() {
            return true;
        }
    }
}
