//! One detector as a process of the protocol (`detector/PROTOCOL.md`): inventory and frames in, statements out.
//!
//! Used live and in replay. Every way to fail ends in [`DetectorEnd::failure`]; none of them ends the run.

use std::future::poll_fn;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use gauntlet_detector::diagnosis::{DetectorLine, PROTOCOL_VERSION};
use gauntlet_detector::feed::FeedLine;
use gauntlet_probes::entity::InventoryLine;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

use super::feed::{Feed, FrameFeed};
use super::lines::{self, Content, LINES_MAX, Line};
use super::{DetectorEnd, Received, log};
use crate::clock::MonotonicNanos;

/// How long a detector may take to attach before it counts as failed.
pub const READY_WITHIN: Duration = Duration::from_secs(15);
/// How long a detector may take to end after its input has ended.
pub const END_WITHIN: Duration = Duration::from_secs(5);
/// How long a detector that was killed may take to be gone: the kernel's work, not its own.
const GONE_WITHIN: Duration = Duration::from_secs(2);
/// Lines of nonsense that are told one by one; all are counted.
const NONSENSE_TOLD_MAX: u64 = 5;

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

/// What a detector says, in the order in which it says it.
#[derive(Clone, Debug)]
pub enum Said {
    /// A statement.
    Statement(Received),
    /// A line that is none of the protocol's, shortened; told for the first few.
    Nonsense(String),
    /// It has judged all that it was fed before.
    Synced,
    /// Its output ended, or was ended because it flooded.
    Ended,
}

/// A detector that is running. Dropping it kills it and what it started.
#[derive(Debug)]
pub struct DetectorProcess {
    child: Child,
    group: Option<Pid>,
    feed: Feed,
    lines: mpsc::Receiver<Line>,
    log: JoinHandle<()>,
    /// What it works without, in its own words.
    pub degraded: Vec<String>,
    /// Its name and version, in its own words.
    pub name: String,
    /// It asks for frames.
    pub takes_frames: bool,
    sync_id: u64,
    synced: bool,
    ended: bool,
    end: DetectorEnd,
}

impl DetectorProcess {
    /// Starts a detector, tells it the inventory, and waits until it is ready.
    ///
    /// # Errors
    /// [`DetectorError`] when it cannot be started or is not ready within [`READY_WITHIN`].
    pub async fn start(command: &DetectorCommand, inventory: &[InventoryLine]) -> Result<Self, DetectorError> {
        let mut process = Self::spawn(command).await.map_err(|source| DetectorError::Spawn {
            program: command.program.clone(),
            source,
        })?;
        inventory.iter().for_each(|line| process.tell(line));
        process.wait_ready(command, READY_WITHIN).await?;
        Ok(process)
    }

    async fn spawn(command: &DetectorCommand) -> std::io::Result<Self> {
        let mut child = Command::new(&command.program)
            .args(&command.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            // A terminal's Ctrl-C goes to the whole foreground group; the harness ends its detector itself. And what a
            // detector starts dies with it.
            .process_group(0)
            .spawn()?;
        let log = log::copy(child.stderr.take().expect("stderr is piped"), &command.log).await?;
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Ok(Self {
            group: id.map(Pid::from_raw),
            feed: Feed::start(child.stdin.take().expect("stdin is piped")),
            lines: lines::read(child.stdout.take().expect("stdout is piped")),
            child,
            log,
            degraded: Vec::new(),
            name: String::new(),
            takes_frames: false,
            sync_id: 0,
            synced: true,
            ended: false,
            end: DetectorEnd::default(),
        })
    }

    /// Its process, while it lives.
    #[must_use]
    pub fn tgid(&self) -> Option<u32> {
        self.child.id()
    }

    async fn wait_ready(&mut self, command: &DetectorCommand, within: Duration) -> Result<(), DetectorError> {
        let mut exit_code = None;
        let why = match timeout(within, self.lines.recv()).await {
            Err(_) => "it said nothing".to_owned(),
            Ok(None) => match timeout(GONE_WITHIN, self.child.wait()).await {
                Ok(Ok(status)) => {
                    exit_code = status.code();
                    // What it wrote last is why it ended.
                    let _still_open = timeout(GONE_WITHIN, &mut self.log).await;
                    format!("it ended ({status})")
                }
                Ok(Err(_)) | Err(_) => "it closed its output".to_owned(),
            },
            Ok(Some(line)) => match line.content {
                Content::Told(DetectorLine::Ready {
                    version: PROTOCOL_VERSION,
                    detector,
                    degraded,
                    frames,
                }) => {
                    self.end.version.clone_from(&detector);
                    (self.name, self.degraded, self.takes_frames) = (detector, degraded, frames);
                    return Ok(());
                }
                Content::Told(DetectorLine::Ready { version, .. }) => {
                    format!("it speaks version {version} of the protocol, not {PROTOCOL_VERSION}")
                }
                Content::Told(other) => format!("its first line was {other:?}"),
                Content::Nonsense(text) => format!("its first line was `{text}`"),
                Content::Flood => "its first line never ended".to_owned(),
            },
        };
        Err(DetectorError::NotReady {
            within,
            why,
            log: command.log.clone(),
            exit_code,
        })
    }

    /// Tells a line of the inventory. Never waits.
    pub fn tell(&mut self, line: &InventoryLine) {
        let mut text = serde_json::to_vec(line).expect("inventory lines have string keys only");
        text.push(b'\n');
        self.feed.line(text);
    }

    /// A handle that tells it frames; `None` if it did not ask for them.
    pub(super) fn frame_feed(&self) -> Option<FrameFeed> {
        self.takes_frames.then(|| self.feed.frames()).flatten()
    }

    /// Tells one line that is none of the inventory's, for example a frame of a recording.
    pub(super) fn feed(&mut self, line: &FeedLine) {
        self.feed.line(line.to_line());
    }

    /// Asks it to say when it has judged everything so far; [`Said::Synced`] answers.
    pub(super) fn sync(&mut self) {
        self.sync_id += 1;
        self.synced = false;
        let id = self.sync_id;
        self.feed(&FeedLine::Sync { id });
    }

    /// Notes a failure that only its user could see.
    pub(super) fn fail(&mut self, why: impl AsRef<str>) {
        self.end.fail(why);
    }

    /// Waits for what it says next. Safe to drop and call again; [`Said::Ended`] is the last and stays.
    pub async fn next(&mut self) -> Said {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// [`DetectorProcess::next`], for those who wait for several.
    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Said> {
        while !self.ended {
            match ready!(self.lines.poll_recv(context)) {
                None => {
                    self.ended = true;
                    self.end.ended_early = true;
                }
                Some(line) => {
                    if let Some(said) = self.take(line) {
                        return Poll::Ready(said);
                    }
                }
            }
        }
        Poll::Ready(Said::Ended)
    }

    /// Takes a line; `None` if there is nothing to tell.
    fn take(&mut self, line: Line) -> Option<Said> {
        match line.content {
            Content::Told(DetectorLine::Diagnosis(diagnosis)) => Some(Said::Statement(Received {
                received_ns: line.received_ns,
                diagnosis,
            })),
            Content::Told(DetectorLine::Summary(summary)) => {
                self.end.summary = Some(summary);
                None
            }
            Content::Told(DetectorLine::Synced { id }) if id == self.sync_id && !self.synced => {
                self.synced = true;
                Some(Said::Synced)
            }
            Content::Told(DetectorLine::Synced { id }) => self.nonsense(format!("`synced` {id}, which was not asked")),
            Content::Told(DetectorLine::Ready { .. }) => self.nonsense("a second `ready`".to_owned()),
            Content::Nonsense(text) => self.nonsense(text),
            Content::Flood => {
                self.end.flood_count += 1;
                self.ended = true;
                self.kill();
                Some(Said::Ended)
            }
        }
    }

    fn nonsense(&mut self, text: String) -> Option<Said> {
        self.end.nonsense_count += 1;
        (self.end.nonsense_count <= NONSENSE_TOLD_MAX).then_some(Said::Nonsense(text))
    }

    /// Ends its input, takes what it still says, and waits for it; kills it when it does not end within [`END_WITHIN`].
    /// Statements that it made until `until_ns` are returned, later ones counted.
    pub async fn finish(mut self, until_ns: MonotonicNanos) -> (Vec<Received>, DetectorEnd) {
        let already = self.ended;
        self.end.cpu_ns = self.child.id().and_then(cpu_ns);
        self.feed.end();
        let deadline = Instant::now() + END_WITHIN;
        let mut in_time = Vec::new();
        while !self.ended {
            let Ok(line) = timeout_at(deadline, self.lines.recv()).await else {
                break;
            };
            let Some(line) = line else { break };
            match self.take(line) {
                Some(Said::Statement(received)) if received.received_ns <= until_ns => in_time.push(received),
                Some(Said::Statement(_)) => self.end.late_count += 1,
                Some(Said::Nonsense(_) | Said::Synced | Said::Ended) | None => {}
            }
        }
        let status = timeout_at(deadline, self.child.wait()).await.ok();
        let hung = status.is_none();
        self.kill();
        let status = match status {
            Some(status) => Some(status),
            None => timeout(GONE_WITHIN, self.child.wait()).await.ok(),
        };
        self.end.frames_dropped = self.feed.dropped();
        self.conclude(status, already, hung);
        (in_time, std::mem::take(&mut self.end))
    }

    /// Puts its end into words.
    fn conclude(&mut self, status: Option<std::io::Result<ExitStatus>>, already: bool, hung: bool) {
        let end = &mut self.end;
        let ended = match &status {
            Some(Ok(status)) => status.to_string(),
            Some(Err(error)) => format!("lost: {error}"),
            None => "still there".to_owned(),
        };
        end.outcome = match hung {
            true => format!("did not end within {END_WITHIN:?} and was killed ({ended})"),
            false => ended.clone(),
        };
        if end.flood_count > 0 {
            end.fail(format!("it flooded: more than {LINES_MAX} lines, or lines without end"));
        } else if hung {
            let outcome = end.outcome.clone();
            end.fail(format!("it {outcome}"));
        } else if already {
            end.fail(format!("it ended by itself during the run ({ended})"));
        } else if !matches!(status, Some(Ok(status)) if status.success()) {
            end.fail(format!("it crashed at the end ({ended})"));
        }
        if end.nonsense_count > 0 {
            let count = end.nonsense_count;
            end.fail(format!("it printed {count} lines that are none of the protocol's"));
        }
    }

    /// Kills the process and all that it started.
    fn kill(&self) {
        if let Some(group) = self.group {
            // Nothing left to kill is what is wanted.
            let _gone = killpg(group, Signal::SIGKILL);
        }
    }
}

impl Drop for DetectorProcess {
    fn drop(&mut self) {
        // After `finish` the group's number may be somebody else's.
        if self.child.id().is_some() {
            self.kill();
        }
    }
}

/// CPU time that a living process and its threads have used, by the kernel's clock ticks.
fn cpu_ns(tgid: u32) -> Option<u64> {
    /// Fixed for all architectures that user space sees (`USER_HZ`).
    const NS_PER_TICK: u64 = 10_000_000;
    let stat = std::fs::read_to_string(format!("/proc/{tgid}/stat")).ok()?;
    // The name may hold spaces and brackets; the fields after it do not. `utime` and `stime` are the 14th and 15th.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let (user, system) = (fields.next()?.parse::<u64>().ok()?, fields.next()?.parse::<u64>().ok()?);
    (user + system).checked_mul(NS_PER_TICK)
}
