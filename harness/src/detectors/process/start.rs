//! How a detector's process comes into being: started, told the inventory, heard until it is ready.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use gauntlet_detector::diagnosis::{DetectorLine, PROTOCOL_VERSION};
use gauntlet_detector::feed::RECORDING_VARIABLE;
use gauntlet_probes::entity::InventoryLine;
use nix::unistd::Pid;
use tokio::process::Command;
use tokio::time::timeout;

use super::{DetectorProcess, GONE_WITHIN};
use crate::detectors::feed::Feed;
use crate::detectors::lines::{self, Content};
use crate::detectors::{DetectorEnd, log};
use crate::target::namespace::{Confine, confine};

/// How long a detector may take to attach before it counts as failed.
pub const READY_WITHIN: Duration = Duration::from_secs(15);

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

impl DetectorProcess {
    /// Starts a detector, tells it the inventory, and waits until it is ready.
    ///
    /// # Errors
    /// [`DetectorError`] when it cannot be started or is not ready within [`READY_WITHIN`].
    pub async fn start(command: &DetectorCommand, inventory: &[InventoryLine]) -> Result<Self, DetectorError> {
        Self::start_on(command, inventory, None).await
    }

    /// [`DetectorProcess::start`] for a replay: it is told where the recorder's stream lies, and may ask for that.
    ///
    /// # Errors
    /// As [`DetectorProcess::start`].
    pub(crate) async fn start_replay(
        command: &DetectorCommand,
        inventory: &[InventoryLine],
        recording: &Path,
    ) -> Result<Self, DetectorError> {
        Self::start_on(command, inventory, Some(recording)).await
    }

    async fn start_on(
        command: &DetectorCommand,
        inventory: &[InventoryLine],
        recording: Option<&Path>,
    ) -> Result<Self, DetectorError> {
        let spawned = Self::spawn(command, recording).await;
        let mut process = spawned.map_err(|source| DetectorError::Spawn {
            program: command.program.clone(),
            source,
        })?;
        inventory.iter().for_each(|line| process.tell(line));
        process.wait_ready(command, READY_WITHIN).await?;
        Ok(process)
    }

    async fn spawn(command: &DetectorCommand, recording: Option<&Path>) -> std::io::Result<Self> {
        let mut process = std::process::Command::new(&command.program);
        process
            .args(&command.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A terminal's Ctrl-C goes to the whole foreground group; the harness ends its detector itself. And what a
            // detector starts dies with it.
            .process_group(0);
        match recording {
            Some(recording) => {
                process.env(RECORDING_VARIABLE, recording);
                // Live, ours has a recording to finish when the harness is gone, and sees that by the end of its input.
                confine(&mut process, vec![Confine::DieWithParent]);
            }
            None => {
                process.env_remove(RECORDING_VARIABLE);
            }
        }
        let mut child = Command::from(process).kill_on_drop(true).spawn()?;
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
            reads_recording: false,
            sync_id: 0,
            synced: true,
            input_ended: false,
            ended: false,
            given_up: false,
            end: DetectorEnd::default(),
        })
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
                    recording,
                    beside,
                }) => {
                    self.end.version.clone_from(&detector);
                    self.end.beside = beside;
                    (self.name, self.degraded) = (detector, degraded);
                    (self.takes_frames, self.reads_recording) = (frames, recording);
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
}
