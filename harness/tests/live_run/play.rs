//! Runs of the built program: started, waited for, interrupted; with what they printed and wrote.
//!
//! A run of somebody else on this machine is waited for. Does not judge.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gauntlet_harness::run::event::{RunEvent, TimedEvent};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tempfile::TempDir;

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

/// `gauntlet run` in a process group of its own, as a shell would start it.
pub(crate) struct Play {
    child: Child,
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
        command.stdout(File::create(files.path().join("stdout")).expect("a file"));
        command.stderr(File::create(files.path().join("stderr")).expect("a file"));
        let child = command.spawn().expect("the program starts");
        let mut play = Self { child, files };
        loop {
            if play.directory().is_some() {
                return Some(play);
            }
            if let Some(status) = play.child.try_wait().expect("it is our child") {
                assert_eq!(status.code(), Some(CANNOT_HERE), "{}", play.stderr());
                assert!(play.stderr().contains("another live run holds"), "{}", play.stderr());
                return None;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Its process.
    pub(crate) fn tgid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a process id")
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
        fs::read_to_string(self.files.path().join("stderr")).expect("its file")
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
            assert!(
                self.child.try_wait().expect("it is our child").is_none(),
                "it ended before: {}",
                self.stderr()
            );
            assert!(
                Instant::now() < deadline,
                "it did not happen within {patience:?}: {}",
                self.stderr()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// A signal to its whole group, as a terminal sends it.
    pub(crate) fn signal_group(&self, signal: Signal) {
        killpg(Pid::from_raw(self.tgid()), signal).expect("it lives");
    }

    /// Whether it ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("it is our child").is_some()
    }

    /// Ends it without any leave, and nothing but it.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it is our child");
        self.child.wait().expect("it is our child");
    }

    /// Waits for its end.
    pub(crate) fn end(&mut self, patience: Duration) -> ExitStatus {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "it did not end within {patience:?}: {}",
                self.stderr()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
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
        // After a failed assertion: it recovers by itself, and is not waited for longer than that takes.
        if matches!(self.child.try_wait(), Ok(None)) {
            self.signal_group(Signal::SIGINT);
            let deadline = Instant::now() + Duration::from_secs(15);
            while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }
}

/// A fault of a short scenario: its YAML fields, the service that is to blame, the mechanism.
pub(crate) struct ShortFault {
    pub(crate) name: &'static str,
    pub(crate) yaml: &'static str,
    pub(crate) service: &'static str,
    pub(crate) mechanism: &'static str,
}

/// Faults of each machinery: kernel rules, a queue with a process behind it, signals, limits, cluster objects.
pub(crate) const FAULTS: [ShortFault; 5] = [
    ShortFault {
        name: "filter",
        yaml: "kind: network-filter, direction: ingress, port: 6379, target: {service: cache, mode: fixed, count: 2}",
        service: "cache",
        mechanism: "network.filter",
    },
    ShortFault {
        name: "delay",
        yaml: "kind: network-delay, delay: 60ms, target: {service: cache, mode: fixed, count: 2}",
        service: "cache",
        mechanism: "network.delay",
    },
    ShortFault {
        name: "pause",
        yaml: "kind: process-pause, target: {service: cache, mode: fixed, count: 2}",
        service: "cache",
        mechanism: "process.hang",
    },
    ShortFault {
        name: "cpu-limit",
        yaml: "kind: cpu-limit, millicores: 40, target: {service: web}",
        service: "web",
        mechanism: "resource.cpu",
    },
    ShortFault {
        name: "wrong-port",
        yaml: "kind: service-wrong-port, targetPort: 6380, target: {service: cache, mode: all}",
        service: "cache",
        mechanism: "network.misroute",
    },
];

/// Writes a scenario with short phases.
pub(crate) fn short_scenario(directory: &Path, fault: &ShortFault) -> PathBuf {
    let ShortFault {
        name,
        yaml,
        service,
        mechanism,
    } = fault;
    let text = format!(
        "\
apiVersion: gauntlet/v1
kind: Scenario
metadata: {{name: short-{name}, title: \"Short: {name}\"}}
spec:
  app: shop
  phases: {{warmUp: 1s, baseline: 3s, fault: 8s, recovery: 1s}}
  faults:
    - {{id: fault, {yaml}}}
  impact: {{anyOf: [{{sli: latency-p50, timesBaseline: 1.5}}, {{sli: error-ratio, atLeast: 2%}}]}}
  truth: {{rootCauses: [{{fault: fault, service: {service}, mechanism: {mechanism}}}]}}
  limits: {{timeToRootCause: 6s}}
"
    );
    let path = directory.join(format!("short-{name}.yaml"));
    fs::write(&path, text).expect("written");
    path
}
