//! What `gauntlet run` and `gauntlet suite run` share: privilege, lock, signals, programs, and one run with its pages.
//!
//! Does not choose what runs, and does not decide exit codes of results.

use std::path::Path;

use anyhow::Context;
use tokio::runtime::Runtime;

use super::Exit;
use super::scenario::rendered;
use crate::detectors::spec::DetectorSpec;
use crate::report::files;
use crate::report::view::RunView;
use crate::run::event::EventSink;
use crate::run::lock::{LOCK_PATH, LockError, RunLock};
use crate::run::result::RunResult;
use crate::run::{Programs, RunError, RunOrder, execute};
use crate::timeline::Cancel;

/// Whether other live runs on this machine are kept away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Locking {
    /// This session runs alone, or not at all.
    Machine,
    /// Whoever asked for it accepts that runs measure each other.
    Off,
}

impl Locking {
    /// From `--no-lock`.
    #[must_use]
    pub fn unless(no_lock: bool) -> Self {
        if no_lock { Self::Off } else { Self::Machine }
    }
}

/// The right and the means to make live runs, while this lives.
#[derive(Debug)]
pub struct Session {
    runtime: Runtime,
    cancel: Cancel,
    programs: Programs,
    _lock: Option<RunLock>,
}

impl Session {
    /// Opens a session, or says on standard error why there is none and returns how to exit.
    ///
    /// # Errors
    /// When the harness itself fails.
    pub fn open(programs: Programs, locking: Locking) -> anyhow::Result<Result<Self, Exit>> {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("gauntlet: live runs need root (namespaces, cgroups, eBPF); run it with sudo");
            return Ok(Err(Exit::CannotHere));
        }
        let lock = match locking {
            Locking::Off => None,
            Locking::Machine => match RunLock::acquire(Path::new(LOCK_PATH)) {
                Ok(lock) => Some(lock),
                Err(error @ LockError::Held { .. }) => {
                    eprintln!("gauntlet: {error}");
                    return Ok(Err(Exit::CannotHere));
                }
                Err(error @ LockError::Io { .. }) => return Err(error.into()),
            },
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        let cancel = runtime.block_on(async { watch_signals() })?;
        Ok(Ok(Self {
            runtime,
            cancel,
            programs,
            _lock: lock,
        }))
    }

    /// The programs that runs start.
    #[must_use]
    pub fn programs(&self) -> &Programs {
        &self.programs
    }

    /// Makes one run, and the reports of its directory; no view of it if they could not be written, which has been said.
    ///
    /// # Errors
    /// [`RunError`] when there is no result.
    pub fn run(&self, order: &RunOrder, sink: &mut dyn EventSink) -> Result<(RunResult, Option<RunView>), RunError> {
        let result = self.runtime.block_on(execute(order, sink, self.cancel.clone()))?;
        let shown = files::write_run(&order.directory)
            .map_err(|error| eprintln!("gauntlet: {}", crate::doctor::error_chain(&error)))
            .ok();
        Ok((result, shown))
    }
}

/// The programs that runs start: ours lie beside this one; of the detectors that are asked the first is under test. Says on
/// standard error what is wrong with one, and returns how to exit.
///
/// # Errors
/// When this program's own file cannot be found.
pub fn programs(detectors: &[DetectorSpec]) -> anyhow::Result<Result<Programs, Exit>> {
    let asked = match crate::detectors::spec::resolve(detectors) {
        Ok(asked) => asked,
        Err(errors) => {
            eprintln!("{}", rendered(&errors));
            return Ok(Err(Exit::InvalidScenario));
        }
    };
    let gauntlet = std::env::current_exe().context("failed to find this program's own file")?;
    Ok(Ok(Programs::beside(gauntlet, asked)))
}

/// True from the first Ctrl-C or SIGTERM on. A second one ends the process at once; agents and warden clean up.
///
/// Needs a runtime around it, which must live on for the signals to be heard.
///
/// # Errors
/// When the signals cannot be listened to.
pub(super) fn watch_signals() -> std::io::Result<Cancel> {
    use tokio::signal::unix::{SignalKind, signal};
    let (sender, receiver) = tokio::sync::watch::channel(false);
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::spawn(async move {
        for count in 1.. {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if count > 1 || sender.send(true).is_err() {
                std::process::exit(i32::from(Exit::Interrupted.code()));
            }
        }
    });
    Ok(receiver)
}
