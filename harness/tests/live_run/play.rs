//! Runs of the built program: started, waited for, interrupted; with what they printed and wrote.
//!
//! A run of somebody else on this machine is waited for. Does not judge.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gauntlet_harness::run::event::{RunEvent, TimedEvent};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::call::Call;

/// How long another run on this machine is waited for.
const LOCK_PATIENCE: Duration = Duration::from_secs(900);
/// Exit code of a run that may not start.
const CANNOT_HERE: i32 = 69;

/// One test at a time: they would wait for each other's lock anyway, and what they measure is the same kernel.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Leave to use the kernel, or `None` (said why) without the privilege.
pub(crate) fn turn() -> Option<MutexGuard<'static, ()>> {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: not root (namespaces, cgroups and eBPF need it)");
        return None;
    }
    Some(ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner))
}

/// A call of the program.
pub(crate) fn gauntlet(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gauntlet"));
    command.args(arguments);
    command
}

/// Calls `attempt` until it is no longer refused because of another run's lock.
pub(crate) fn past_the_lock<T>(mut attempt: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        if let Some(done) = attempt() {
            return done;
        }
        assert!(
            Instant::now() < deadline,
            "another run has held the lock for {LOCK_PATIENCE:?}"
        );
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// Lets a call that has not begun go on for a moment; whether it ended because another run holds the lock.
pub(crate) fn is_refused(call: &mut Call) -> bool {
    let ended = call.ended();
    if let Some(status) = ended {
        assert_eq!(status.code(), Some(CANNOT_HERE), "{}", call.said());
        assert!(call.said().contains("another live run holds"), "{}", call.said());
    }
    std::thread::sleep(Duration::from_millis(5));
    ended.is_some()
}

/// `gauntlet run` in a process group of its own, as a shell would start it.
pub(crate) struct Play {
    call: Call,
    files: TempDir,
}

impl Play {
    /// Starts a run; returns when it holds the lock and has its run directory.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        past_the_lock(|| Self::attempt(arguments))
    }

    fn attempt(arguments: &[&str]) -> Option<Self> {
        let files = tempfile::tempdir().expect("a directory");
        let out = files.path().join("runs");
        let mut command = gauntlet(&["run", "--format", "json", "--out"]);
        command.arg(&out).args(arguments).process_group(0);
        let [stdout, stderr] = ["stdout", "stderr"].map(|name| files.path().join(name));
        let call = Call::start(&mut command, &stdout, &stderr);
        let mut play = Self { call, files };
        while play.directory().is_none() {
            if is_refused(&mut play.call) {
                return None;
            }
        }
        Some(play)
    }

    /// Its process.
    pub(crate) fn tgid(&self) -> i32 {
        self.call.tgid()
    }

    /// Where its run directories lie.
    pub(crate) fn out(&self) -> PathBuf {
        self.files.path().join("runs")
    }

    /// The run directory.
    pub(crate) fn directory(&self) -> Option<PathBuf> {
        fs::read_dir(self.out())
            .ok()?
            .flatten()
            .next()
            .map(|entry| entry.path())
    }

    /// What it printed.
    pub(crate) fn stdout(&self) -> String {
        fs::read_to_string(self.files.path().join("stdout")).expect("its file")
    }

    /// What it said meanwhile.
    pub(crate) fn stderr(&self) -> String {
        self.call.said()
    }

    /// What happened so far. A line that is not whole yet has not happened.
    pub(crate) fn events(&self) -> Vec<RunEvent> {
        let path = self.directory().expect("it has its directory").join("history.jsonl");
        let text = fs::read_to_string(path).unwrap_or_default();
        text.lines()
            .filter_map(|line| Some(serde_json::from_str::<TimedEvent>(line).ok()?.event))
            .collect()
    }

    /// Waits for something to happen.
    pub(crate) fn wait_for(&mut self, patience: Duration, happened: impl Fn(&RunEvent) -> bool) {
        let deadline = Instant::now() + patience;
        while !self.events().iter().any(&happened) {
            self.call.go_on(deadline);
        }
    }

    /// A signal to its whole group, as a terminal sends it.
    pub(crate) fn signal_group(&self, signal: Signal) {
        killpg(Pid::from_raw(self.tgid()), signal).expect("it lives");
    }

    /// Whether it ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.call.ended().is_some()
    }

    /// Ends it without any leave, and nothing but it.
    pub(crate) fn kill(&mut self) {
        self.call.kill();
    }

    /// Waits for its end.
    pub(crate) fn end(&mut self, patience: Duration) -> ExitStatus {
        self.call.end(patience)
    }

    /// The JSON object of its last line.
    pub(crate) fn answer(&self) -> serde_json::Value {
        let stdout = self.stdout();
        let last = stdout
            .lines()
            .last()
            .unwrap_or_else(|| panic!("it printed nothing: {}", self.stderr()));
        serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {last}"))
    }
}

impl Drop for Play {
    fn drop(&mut self) {
        // It recovers by itself when it is asked to stop.
        self.call.give_up(Duration::from_secs(15), |tgid| {
            let _gone = killpg(Pid::from_raw(tgid), Signal::SIGINT);
        });
    }
}
