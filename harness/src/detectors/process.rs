//! One detector as a process of the protocol (`detector/PROTOCOL.md`): inventory and frames in, statements out.
//!
//! Used live and in replay, once it has started ([`start`]). Every way to fail ends in [`DetectorEnd::failure`]; none of them ends the run.

mod start;

use std::future::poll_fn;
use std::process::ExitStatus;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use gauntlet_detector::diagnosis::DetectorLine;
use gauntlet_detector::feed::FeedLine;
use gauntlet_probes::entity::InventoryLine;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::Child;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

use super::feed::{Feed, FrameFeed};
use super::lines::{Content, LINES_MAX, Line};
use super::{DetectorEnd, Received};
use crate::clock::MonotonicNanos;

pub use self::start::{DetectorCommand, DetectorError, READY_WITHIN};

/// How long a detector may take to end after its input has ended.
pub const END_WITHIN: Duration = Duration::from_secs(5);
/// How long a detector that was killed may take to be gone: the kernel's work, not its own.
const GONE_WITHIN: Duration = Duration::from_secs(2);
/// Lines of nonsense that are told one by one; all are counted.
const NONSENSE_TOLD_MAX: u64 = 5;

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
    /// It reads the recording that it was told of, in a replay.
    pub reads_recording: bool,
    sync_id: u64,
    synced: bool,
    /// Its input was ended, so it may end.
    input_ended: bool,
    ended: bool,
    /// It was killed for a failure that has been noted.
    given_up: bool,
    end: DetectorEnd,
}

impl DetectorProcess {
    /// Its process, while it lives.
    #[must_use]
    pub fn tgid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Names of others that speak in its stream.
    pub(super) fn beside(&self) -> &[String] {
        &self.end.beside
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
    pub(crate) fn feed(&mut self, line: &FeedLine) {
        self.feed.line(line.to_line());
    }

    /// Asks it to say when it has judged everything so far; [`Said::Synced`] answers.
    pub(crate) fn sync(&mut self) {
        self.sync_id += 1;
        self.synced = false;
        let id = self.sync_id;
        self.feed(&FeedLine::Sync { id });
    }

    /// Ends its input, after what is queued. From then on it may end.
    pub(crate) fn end_input(&mut self) {
        self.input_ended = true;
        self.feed.end();
    }

    /// Notes a failure that only its user could see, and kills it.
    pub(crate) fn give_up(&mut self, why: impl AsRef<str>) {
        self.end.fail(why);
        self.given_up = true;
        self.ended = true;
        self.kill();
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
                    self.end.ended_early = !self.input_ended;
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
                self.give_up(format!("it flooded: more than {LINES_MAX} lines, or lines without end"));
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
        let already = self.ended && !self.input_ended;
        self.end.cpu_ns = self.child.id().and_then(cpu_ns);
        self.end_input();
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
        // Its last words may be on their way to the log.
        let _still_open = timeout(GONE_WITHIN, &mut self.log).await;
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
        if self.given_up {
            // Why is known, and how it ended is our own doing.
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
