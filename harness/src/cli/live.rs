//! What `gauntlet run` and `gauntlet suite run` share: privilege, lock, signals, programs, and one run with its pages.
//!
//! Does not choose what runs, and does not decide exit codes of results.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use tokio::runtime::Runtime;

use super::Exit;
use super::scenario::rendered;
use crate::detectors::spec::DetectorSpec;
use crate::report::files;
use crate::report::view::RunView;
use crate::run::event::EventSink;
use crate::run::kernel_lock::{KernelLock, KernelLockError};
use crate::run::lock::{LOCK_PATH, LockError, RunLock};
use crate::run::result::RunResult;
use crate::run::{Programs, RunError, RunOrder, execute};
use crate::scenario::model::Scenario;
use crate::timeline::Cancel;

/// How often a session that waits looks for the lock.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Whether other live runs on this machine are kept away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Locking {
    /// This session runs alone, or not at all.
    Machine,
    /// This session runs alone, as soon as it can.
    Wait,
    /// Each run of this session waits for its turn among all that share the kernel.
    Turns,
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
    locking: Locking,
    _locks: Option<Locks>,
}

/// The lock of this machine's files, and that of its kernel where it has one.
type Locks = (RunLock, Option<KernelLock>);

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
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        let cancel = runtime.block_on(async { watch_signals() })?;
        let locks = match locking {
            Locking::Off | Locking::Turns => None,
            Locking::Machine | Locking::Wait => match lock(locking, &cancel)? {
                Ok(locks) => Some(locks),
                Err(exit) => return Ok(Err(exit)),
            },
        };
        Ok(Ok(Self {
            runtime,
            cancel,
            programs,
            locking,
            _locks: locks,
        }))
    }

    /// Waits for the turn of one run, if runs of this session take turns.
    ///
    /// # Errors
    /// [`RunError::Interrupted`], or [`RunError::CannotHere`]: it cannot be known whose turn it is.
    pub fn turn(&self) -> Result<Option<KernelLock>, RunError> {
        match self.locking {
            Locking::Machine | Locking::Wait | Locking::Off => Ok(None),
            Locking::Turns => KernelLock::wait(&self.cancel).map(Some).map_err(|error| match error {
                KernelLockError::Interrupted => RunError::Interrupted,
                KernelLockError::Held | KernelLockError::Io(_) => {
                    RunError::CannotHere(crate::doctor::error_chain(&error))
                }
            }),
        }
    }

    /// The programs that runs start.
    #[must_use]
    pub fn programs(&self) -> &Programs {
        &self.programs
    }

    /// Waits for `work` on the session's runtime.
    pub fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// Ends when somebody asks this command to stop.
    pub fn asked_to_stop(&self) -> impl Future<Output = ()> + use<> {
        let mut cancel = self.cancel.clone();
        async move {
            if cancel.wait_for(|asked| *asked).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
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

/// Keeps other live runs of this machine away, those in containers too; or says why it cannot and how to exit.
fn lock(locking: Locking, cancel: &Cancel) -> anyhow::Result<Result<Locks, Exit>> {
    let file = loop {
        match RunLock::acquire(Path::new(LOCK_PATH)) {
            Ok(file) => break file,
            Err(LockError::Held { .. }) if locking == Locking::Wait => {
                if *cancel.borrow() {
                    return Ok(Err(Exit::Interrupted));
                }
                std::thread::sleep(LOOK_EVERY);
            }
            Err(error @ LockError::Held { .. }) => {
                eprintln!("gauntlet: {error}");
                return Ok(Err(Exit::CannotHere));
            }
            Err(error @ LockError::Io { .. }) => return Err(error.into()),
        }
    };
    let kernel = match locking {
        Locking::Wait => KernelLock::wait(cancel),
        Locking::Machine | Locking::Turns | Locking::Off => KernelLock::acquire(),
    };
    Ok(match kernel {
        Ok(kernel) => Ok((file, Some(kernel))),
        Err(KernelLockError::Interrupted) => Err(Exit::Interrupted),
        Err(error @ KernelLockError::Held) => {
            eprintln!("gauntlet: {error}");
            Err(Exit::CannotHere)
        }
        Err(error @ KernelLockError::Io(_)) => {
            let why = crate::doctor::error_chain(&error);
            eprintln!("gauntlet: warning: live runs in containers of this machine are not kept away: {why}");
            Ok((file, None))
        }
    })
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

/// Says on standard error which scenarios cannot be run on the local target, and returns how to exit if there are any.
pub fn refused_on_local<'a>(scenarios: impl Iterator<Item = &'a Scenario>) -> Option<Exit> {
    let names: Vec<&str> = scenarios
        .filter(|scenario| scenario.needs_kubernetes())
        .map(|scenario| scenario.name.as_str())
        .collect();
    if names.is_empty() {
        return None;
    }
    eprintln!(
        "gauntlet: the local target has no Kubernetes API, which is needed by: {}; run it with --target kind",
        names.join(", ")
    );
    Some(Exit::CannotHere)
}
