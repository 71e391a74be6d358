//! The harness's end of the warden: starts it, tells it what to hold, hears what happens, lets it go.

use std::fmt;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use gauntlet_probes::entity::PodName;
use gauntlet_probes::frame::MonotonicNanos;

use super::protocol::{Ending, Event, START, WardenSpec};
use crate::target::NetnsFd;
use crate::target::namespace::{Confine, confine};

/// How long the warden may take to prepare.
const PREPARE_PATIENCE: Duration = Duration::from_secs(30);
/// How long the warden may take to remove the cluster.
const REMOVE_PATIENCE: Duration = Duration::from_secs(15);
/// Most starts and ends of pods that are kept.
const RESTARTS_MAX: usize = 10_000;

/// The warden failed.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// It could not be started or spoken to.
    #[error("failed to {operation} the cluster's warden")]
    Io {
        /// What was to be done.
        operation: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It said what went wrong.
    #[error("the cluster's warden failed: {message}")]
    Failed {
        /// Its words.
        message: String,
    },
    /// It ended without a word.
    #[error("the cluster's warden ended before its time")]
    Ended,
    /// It ended with an error.
    #[error("the cluster's warden ended with {status}: {message}")]
    Status {
        /// How.
        status: ExitStatus,
        /// Its last words.
        message: String,
    },
    /// It took too long.
    #[error("the cluster's warden did not {operation} within {} s", patience.as_secs())]
    Slow {
        /// What was waited for.
        operation: &'static str,
        /// How long.
        patience: Duration,
    },
}

/// A pod's process was started or ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestartRecord {
    /// When the harness heard of it, CLOCK_MONOTONIC.
    pub at_ns: MonotonicNanos,
    /// The pod.
    pub pod: PodName,
    /// What happened.
    pub change: PodChange,
}

/// What happened to a pod's process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodChange {
    /// It was started.
    Started,
    /// It ended, and is started again after `back_off`.
    Ended {
        /// How.
        how: Ending,
        /// Wait before the next start.
        back_off: Duration,
    },
    /// It could not be started, and is tried again after `back_off`.
    NotStarted {
        /// Why.
        message: String,
        /// Wait before the next try.
        back_off: Duration,
    },
}

impl fmt::Display for PodChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started => f.write_str("started"),
            Self::Ended {
                how: Ending::Exited(code),
                back_off,
            } => {
                write!(f, "ended with code {code}, starts again in {back_off:?}")
            }
            Self::Ended {
                how: Ending::Signalled(signal),
                back_off,
            } => {
                write!(f, "ended by signal {signal}, starts again in {back_off:?}")
            }
            Self::NotStarted { message, back_off } => {
                write!(f, "could not be started ({message}), tried again in {back_off:?}")
            }
        }
    }
}

/// The harness's end of the warden. Dropping it lets the cluster go and waits until it is gone.
#[derive(Debug)]
pub(super) struct Keeper {
    child: Child,
    order: Option<ChildStdin>,
    heard: Arc<Mutex<Heard>>,
    prepared: Mutex<Receiver<Result<(), String>>>,
}

#[derive(Debug, Default)]
struct Heard {
    restarts: Vec<RestartRecord>,
    warnings: Vec<String>,
    last_words: String,
}

/// What the keeper hears of one pod, for those who wait for it.
#[derive(Clone, Debug)]
pub(super) struct PodNews {
    pod: PodName,
    heard: Arc<Mutex<Heard>>,
}

impl PodNews {
    /// How often the pod's process ended or could not be started.
    pub(super) fn endings(&self) -> usize {
        let heard = lock(&self.heard);
        let own = heard.restarts.iter().filter(|record| record.pod == self.pod);
        own.filter(|record| record.change != PodChange::Started).count()
    }

    /// What happened to its process last, in words; empty if it was only started.
    pub(super) fn last_ending(&self) -> String {
        let heard = lock(&self.heard);
        let own = heard.restarts.iter().rev().filter(|record| record.pod == self.pod);
        let last = own
            .map(|record| &record.change)
            .find(|change| **change != PodChange::Started);
        match last {
            Some(PodChange::Ended {
                how: Ending::Exited(code),
                ..
            }) => format!("its process exited with code {code}"),
            Some(PodChange::Ended {
                how: Ending::Signalled(signal),
                ..
            }) => {
                format!("its process was ended by signal {signal}")
            }
            Some(PodChange::NotStarted { message, .. }) => message.clone(),
            Some(PodChange::Started) | None => String::new(),
        }
    }
}

impl Keeper {
    /// Starts the warden; `namespaces` are those whose numbers the spec names.
    pub(super) fn start(program: &Path, spec: &WardenSpec, namespaces: &[NetnsFd]) -> Result<Self, KeeperError> {
        let failed = |operation| move |source| KeeperError::Io { operation, source };
        let mut command = Command::new(program);
        command
            .args(["__warden", &spec.cluster])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let inherit = namespaces.iter().map(|netns| Confine::Inherit(Arc::clone(netns)));
        confine(&mut command, [Confine::Session].into_iter().chain(inherit).collect());
        let mut child = command.spawn().map_err(failed("start"))?;
        let events = child.stdout.take().expect("piped");
        let order = child.stdin.take();
        let heard = Arc::new(Mutex::new(Heard::default()));
        let (sender, prepared) = channel();
        let listener = Arc::clone(&heard);
        let listen = move || listen(BufReader::new(events), &listener, &sender);
        // From here on the keeper's end is the cluster's.
        let mut keeper = Self {
            child,
            order,
            heard,
            prepared: Mutex::new(prepared),
        };
        std::thread::Builder::new()
            .name("warden".into())
            .spawn(listen)
            .map_err(failed("listen to"))?;
        let line = serde_json::to_string(spec)
            .map_err(io::Error::from)
            .map_err(failed("instruct"))?;
        keeper.say(&line).map_err(failed("instruct"))?;
        Ok(keeper)
    }

    /// Waits until directories, cgroups and files are there. Blocks.
    pub(super) fn wait_prepared(&self) -> Result<(), KeeperError> {
        match lock(&self.prepared).recv_timeout(PREPARE_PATIENCE) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(message)) => Err(KeeperError::Failed { message }),
            Err(RecvTimeoutError::Disconnected) => Err(KeeperError::Ended),
            Err(RecvTimeoutError::Timeout) => Err(KeeperError::Slow {
                operation: "prepare",
                patience: PREPARE_PATIENCE,
            }),
        }
    }

    /// Starts the pods.
    pub(super) fn start_pods(&mut self) -> Result<(), KeeperError> {
        self.say(START).map_err(|source| KeeperError::Io {
            operation: "instruct",
            source,
        })
    }

    /// Starts and ends of pods' processes so far.
    #[must_use]
    pub(super) fn restarts(&self) -> Vec<RestartRecord> {
        lock(&self.heard).restarts.clone()
    }

    /// What is not as it should be.
    pub(super) fn warnings(&self) -> Vec<String> {
        lock(&self.heard).warnings.clone()
    }

    /// What is heard of one pod.
    pub(super) fn news_of(&self, pod: &PodName) -> PodNews {
        PodNews {
            pod: pod.clone(),
            heard: Arc::clone(&self.heard),
        }
    }

    /// What the warden or init last complained of; empty if nothing.
    #[must_use]
    pub(super) fn last_words(&self) -> String {
        lock(&self.heard).last_words.clone()
    }

    /// Lets the cluster go and waits until it is gone. Blocks.
    pub(super) fn release(mut self) -> Result<(), KeeperError> {
        let status = self.end()?;
        if status.success() {
            return Ok(());
        }
        Err(KeeperError::Status {
            status,
            message: self.last_words(),
        })
    }

    fn say(&mut self, line: &str) -> io::Result<()> {
        let order = self.order.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        order.write_all(line.as_bytes())?;
        order.write_all(b"\n")
    }

    fn end(&mut self) -> Result<ExitStatus, KeeperError> {
        drop(self.order.take());
        let deadline = Instant::now() + REMOVE_PATIENCE;
        loop {
            let status = self.child.try_wait().map_err(|source| KeeperError::Io {
                operation: "wait for",
                source,
            })?;
            match status {
                Some(status) => return Ok(status),
                None if Instant::now() >= deadline => {
                    return Err(KeeperError::Slow {
                        operation: "remove the cluster",
                        patience: REMOVE_PATIENCE,
                    });
                }
                None => std::thread::sleep(Duration::from_millis(2)),
            }
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("{error}; `gauntlet recover` removes what is left");
        }
    }
}

fn listen(events: impl BufRead, heard: &Mutex<Heard>, prepared: &Sender<Result<(), String>>) {
    for line in events.lines().map_while(Result::ok) {
        let Ok(event) = serde_json::from_str::<Event>(&line) else {
            continue;
        };
        let at_ns = monotonic_now();
        let mut heard = lock(heard);
        let (pod, change) = match event {
            Event::Prepared => {
                let _ = prepared.send(Ok(()));
                continue;
            }
            Event::Warning { message } => {
                heard.warnings.push(message);
                continue;
            }
            Event::Failed { message } => {
                heard.last_words.clone_from(&message);
                let _ = prepared.send(Err(message));
                continue;
            }
            Event::Started { pod } => (pod, PodChange::Started),
            Event::Exited { pod, how, back_off_ms } => (
                pod,
                PodChange::Ended {
                    how,
                    back_off: Duration::from_millis(back_off_ms),
                },
            ),
            Event::NotStarted {
                pod,
                message,
                back_off_ms,
            } => (
                pod,
                PodChange::NotStarted {
                    message,
                    back_off: Duration::from_millis(back_off_ms),
                },
            ),
        };
        // With the back-off this bound is hours of a cluster that does nothing but crash.
        if heard.restarts.len() < RESTARTS_MAX {
            heard.restarts.push(RestartRecord {
                at_ns,
                pod: PodName::new(pod),
                change,
            });
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn monotonic_now() -> MonotonicNanos {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).expect("every Linux has this clock");
    u64::try_from(Duration::from(now).as_nanos()).unwrap_or(u64::MAX)
}
