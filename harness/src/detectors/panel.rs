//! All detectors of one run: ours, which also records the evidence, and those that are asked beside it.
//!
//! They do not see each other. One that fails, before it is ready or later, leaves the run and the others alone.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll};

use gauntlet_detector::pipeline;
use gauntlet_probes::entity::InventoryLine;
use tokio::task::JoinSet;

use super::alertmanager::receiver::Receiver;
use super::frames::FramePipe;
use super::process::Said;
use super::spec::{Asked, AskedKind};
use super::{DetectorCommand, DetectorEnd, DetectorError, DetectorProcess, Received};
use crate::clock::MonotonicNanos;
use crate::doctor::error_chain;

/// Exit code of a detector that cannot work on this machine.
const CANNOT_HERE: i32 = 69;

/// What a detector of the panel told.
#[derive(Clone, Debug)]
pub enum DetectorNews {
    /// A statement; [`Diagnosis::detector`](gauntlet_detector::diagnosis::Diagnosis::detector) is its name in tables.
    Statement(Received),
    /// Something that is none of the protocol's.
    Nonsense {
        /// Who.
        detector: String,
        /// What, shortened.
        text: String,
    },
    /// It ended by itself.
    Ended {
        /// Who.
        detector: String,
    },
}

/// Why there is no panel. Detectors other than ours never are the reason.
#[derive(Debug, thiserror::Error)]
pub enum PanelError {
    /// Our detector says that it cannot work on this machine.
    #[error("the detector cannot work here: {0}")]
    CannotHere(String),
    /// Our detector could not be started.
    #[error(transparent)]
    Ours(#[from] DetectorError),
    /// A receiver of alerts cannot listen.
    #[error("failed to listen for alerts on {address}")]
    Listen {
        /// Where.
        address: std::net::SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The pipe for frames could not be made.
    #[error("failed to make the pipe for frames")]
    Pipe(#[source] std::io::Error),
}

/// The detectors of a run, started.
#[derive(Debug)]
pub struct Panel {
    /// What is worth telling of the start, in words.
    pub notes: Vec<String>,
    /// What our detector works without.
    pub degraded: Vec<String>,
    members: Vec<Member>,
    frames: JoinSet<()>,
}

#[derive(Debug)]
struct Member {
    name: String,
    source: Source,
    ended: bool,
    /// The first name under which it spoke, of those that are not `beside`.
    voice: Option<String>,
    /// Names of others in its stream.
    beside: Vec<String>,
}

#[derive(Debug)]
enum Source {
    Ours(Box<DetectorProcess>),
    Process(Box<DetectorProcess>),
    Alerts(Receiver),
    NeverReady(DetectorEnd),
}

/// How a panel ended.
#[derive(Clone, Debug)]
pub struct PanelEnd {
    /// Statements that had not been taken when observation ended.
    pub statements: Vec<Received>,
    /// How each detector ended, by its name.
    pub ends: BTreeMap<String, DetectorEnd>,
}

impl Panel {
    /// Starts all detectors, the asked ones first, so that ours knows whether anyone wants frames. Logs and the recording
    /// go to `directory`.
    ///
    /// # Errors
    /// [`PanelError`].
    pub async fn start(
        asked: &[Asked],
        ours: &Path,
        inventory: &[InventoryLine],
        directory: &Path,
    ) -> Result<Self, PanelError> {
        let mut panel = Self {
            notes: Vec::new(),
            degraded: Vec::new(),
            members: Vec::new(),
            frames: JoinSet::new(),
        };
        for one in asked {
            let source = match &one.kind {
                AskedKind::Ours => continue,
                AskedKind::Process { program, arguments } => {
                    let command = DetectorCommand {
                        program: program.clone(),
                        arguments: arguments.clone(),
                        log: directory.join(format!("detector-{}.log", one.name)),
                    };
                    panel.start_process(&one.name, &command, inventory).await
                }
                AskedKind::Alertmanager(config) => {
                    let address = config.listen;
                    let listening = Receiver::start(Arc::clone(config), inventory).await;
                    let receiver = listening.map_err(|source| PanelError::Listen { address, source })?;
                    panel.announce(&receiver, directory);
                    Source::Alerts(receiver)
                }
            };
            panel.members.push(Member::new(one.name.clone(), source));
        }
        panel.start_ours(ours, inventory, directory).await?;
        Ok(panel)
    }

    async fn start_process(&mut self, name: &str, command: &DetectorCommand, inventory: &[InventoryLine]) -> Source {
        match DetectorProcess::start(command, inventory).await {
            Ok(process) => {
                let degraded = process
                    .degraded
                    .iter()
                    .map(|text| format!("{name} works without: {text}"));
                self.notes.extend(degraded);
                Source::Process(Box::new(process))
            }
            Err(error) => {
                let why = error_chain(&error);
                self.notes
                    .push(format!("{name} failed, and the run goes on without it: {why}"));
                Source::NeverReady(DetectorEnd::never_ready(why))
            }
        }
    }

    /// Says where alerts are received, also to whoever configures an Alertmanager while the run is on.
    fn announce(&mut self, receiver: &Receiver, directory: &Path) {
        let url = format!("http://{}/", receiver.address());
        self.notes.push(format!("alerts are received at {url}"));
        if let Err(error) = std::fs::write(directory.join("alertmanager.url"), format!("{url}\n")) {
            self.notes.push(format!("failed to write alertmanager.url: {error}"));
        }
    }

    async fn start_ours(
        &mut self,
        program: &Path,
        inventory: &[InventoryLine],
        directory: &Path,
    ) -> Result<(), PanelError> {
        let feeds: Vec<_> = self.members.iter().filter_map(Member::frame_feed).collect();
        let mut arguments = vec!["--record".to_owned(), path_text(directory.join("frames.zst"))];
        let pipe = match feeds.as_slice() {
            [] => None,
            _ => Some(FramePipe::create(directory).map_err(PanelError::Pipe)?),
        };
        if let Some(pipe) = &pipe {
            arguments.extend(["--frames-to".to_owned(), path_text(pipe.path().to_owned())]);
        }
        let command = DetectorCommand {
            program: program.to_owned(),
            arguments,
            log: directory.join("detector.log"),
        };
        let started = DetectorProcess::start(&command, inventory).await;
        // Ours has opened the pipe before it said `ready`.
        if let Some(pipe) = pipe {
            pipe.pass_on(feeds, &mut self.frames);
        }
        let source = match started {
            Ok(process) => {
                self.degraded.clone_from(&process.degraded);
                let degraded = process
                    .degraded
                    .iter()
                    .map(|text| format!("detector works without: {text}"));
                self.notes.extend(degraded);
                Source::Ours(Box::new(process))
            }
            Err(DetectorError::NotReady {
                exit_code: Some(CANNOT_HERE),
                log,
                ..
            }) => {
                let why = std::fs::read_to_string(log).unwrap_or_default();
                return Err(PanelError::CannotHere(why.trim().to_owned()));
            }
            Err(error @ DetectorError::NotReady { .. }) => {
                let why = error_chain(&error);
                self.notes.push(format!("our detector failed: {why}"));
                Source::NeverReady(DetectorEnd::never_ready(why))
            }
            Err(error @ DetectorError::Spawn { .. }) => return Err(error.into()),
        };
        self.members.push(Member::new(pipeline::NAME.to_owned(), source));
        Ok(())
    }

    /// Name and version of each detector, in its own words.
    #[must_use]
    pub fn versions(&self) -> String {
        let versions = self.members.iter().map(|member| match &member.source {
            Source::Ours(process) | Source::Process(process) => process.name.clone(),
            Source::Alerts(receiver) => format!("alerts received at http://{}/", receiver.address()),
            Source::NeverReady(_) => format!("{} (never ready)", member.name),
        });
        versions.collect::<Vec<_>>().join("; ")
    }

    /// Tells all of them how the inventory has changed; ours records it. Never waits.
    pub fn tell(&mut self, lines: &[InventoryLine]) {
        for member in &mut self.members {
            match &mut member.source {
                Source::Ours(process) | Source::Process(process) => lines.iter().for_each(|line| process.tell(line)),
                Source::Alerts(receiver) => receiver.tell(lines),
                Source::NeverReady(_) => {}
            }
        }
    }

    /// Waits for what any of them says next; for ever when all have ended. Safe to drop and call again.
    pub async fn next(&mut self) -> DetectorNews {
        poll_fn(|context| {
            for member in &mut self.members {
                if let Poll::Ready(news) = member.poll_next(context) {
                    return Poll::Ready(news);
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Ends all of them. Observation ended at `until_ns`: what was said later does not count.
    pub async fn finish(mut self, until_ns: MonotonicNanos) -> PanelEnd {
        // The inputs of those that read frames end only when nothing can be passed on any more.
        self.frames.shutdown().await;
        let mut panel_end = PanelEnd {
            statements: Vec::new(),
            ends: BTreeMap::new(),
        };
        // Together: each may take its time to end.
        let mut finishing = JoinSet::new();
        for member in self.members {
            finishing.spawn(member.finish(until_ns));
        }
        while let Some(finished) = finishing.join_next().await {
            let (name, statements, end) = finished.expect("ending a detector does not panic");
            panel_end.statements.extend(statements);
            panel_end.ends.insert(name, end);
        }
        panel_end.statements.sort_by_key(|one| one.received_ns);
        panel_end
    }
}

impl Member {
    fn new(name: String, source: Source) -> Self {
        let beside = match &source {
            Source::Ours(process) | Source::Process(process) => process.beside().to_vec(),
            Source::Alerts(_) | Source::NeverReady(_) => Vec::new(),
        };
        Self {
            name,
            ended: matches!(source, Source::NeverReady(_)),
            source,
            voice: None,
            beside,
        }
    }

    fn frame_feed(&self) -> Option<super::feed::FrameFeed> {
        match &self.source {
            Source::Process(process) => process.frame_feed(),
            Source::Ours(_) | Source::Alerts(_) | Source::NeverReady(_) => None,
        }
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<DetectorNews> {
        while !self.ended {
            let said = match &mut self.source {
                Source::Ours(process) | Source::Process(process) => process.poll_next(context),
                Source::Alerts(receiver) => receiver.poll_next(context),
                Source::NeverReady(_) => Poll::Pending,
            };
            let Poll::Ready(said) = said else { return Poll::Pending };
            let detector = self.name.clone();
            match said {
                Said::Statement(received) => return Poll::Ready(DetectorNews::Statement(self.signed(received))),
                Said::Nonsense(text) => return Poll::Ready(DetectorNews::Nonsense { detector, text }),
                // Nobody asks for it here.
                Said::Synced => {}
                Said::Ended => {
                    self.ended = true;
                    return Poll::Ready(DetectorNews::Ended { detector });
                }
            }
        }
        Poll::Pending
    }

    /// Puts the table's name on a statement, whatever the detector calls itself, so that nobody speaks for another. A
    /// second voice of the same process stands under `name/voice`.
    fn signed(&mut self, mut received: Received) -> Received {
        if matches!(self.source, Source::Ours(_)) {
            return received;
        }
        let said = &mut received.diagnosis.detector;
        let is_own = !self.beside.contains(said) && self.voice.get_or_insert_with(|| said.clone()) == said;
        *said = match is_own {
            true => self.name.clone(),
            false => format!("{}/{said}", self.name),
        };
        received
    }

    async fn finish(mut self, until_ns: MonotonicNanos) -> (String, Vec<Received>, DetectorEnd) {
        let source = std::mem::replace(&mut self.source, Source::NeverReady(DetectorEnd::default()));
        let is_ours = matches!(source, Source::Ours(_));
        let (statements, mut end) = match source {
            Source::Ours(process) | Source::Process(process) => process.finish(until_ns).await,
            Source::Alerts(receiver) => receiver.finish(until_ns).await,
            Source::NeverReady(end) => (Vec::new(), end),
        };
        if is_ours {
            return (self.name, statements, end);
        }
        let statements = statements.into_iter().map(|one| self.signed(one)).collect();
        for other in &mut end.beside {
            *other = format!("{}/{other}", self.name);
        }
        (self.name, statements, end)
    }
}

fn path_text(path: PathBuf) -> String {
    path.display().to_string()
}
