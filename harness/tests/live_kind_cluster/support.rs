//! What the tests of kind clusters share: the fixture, clusters that end clean, what may be left behind.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gauntlet_harness::target::kind::name::ClusterName;
use gauntlet_harness::target::kind::record::{ClusterRecord, StateDirectory};

use crate::answer::Answer;

/// The node image that needs no registry.
pub(crate) const NODE_IMAGE: &str = "fixture/kind-node:v1.20.2";
/// The image that its nodes hold for everything.
pub(crate) const APPS_IMAGE: &str = "fixture/apps:bookworm";
/// Where this is set, the fixture must work: tests fail where they would skip.
const MUST: &str = "GAUNTLET_TEST_KUBECONFIG";

/// One cluster at a time: each takes a gigabyte and both cores.
static ONE: Mutex<()> = Mutex::new(());

/// What the tests need of the machine.
pub(crate) struct Fixture {
    /// The program kind.
    pub(crate) kind: PathBuf,
    /// The kubeconfig of a cluster that Gauntlet did not make.
    pub(crate) foreign: PathBuf,
    _alone: MutexGuard<'static, ()>,
}

/// The fixture, or one line that says why there is none.
pub(crate) fn fixture() -> Option<Fixture> {
    match look() {
        Ok(fixture) => Some(fixture),
        Err(why) => {
            assert!(
                std::env::var_os(MUST).is_none(),
                "{MUST} is set, and the fixture is broken: {why}"
            );
            eprintln!("skipped: {why}");
            None
        }
    }
}

fn look() -> Result<Fixture, String> {
    let named = |variable: &str| std::env::var_os(variable).map(PathBuf::from);
    let foreign = named(MUST).ok_or_else(|| format!("no Kubernetes cluster ({MUST} is not set)"))?;
    if !nix::unistd::geteuid().is_root() {
        return Err("not root, which kind clusters need".to_owned());
    }
    if !docker(&["version"]).is_ok_and(|output| output.status.success()) {
        return Err("docker does not answer".to_owned());
    }
    if !docker(&["image", "inspect", NODE_IMAGE]).is_ok_and(|output| output.status.success()) {
        return Err(format!("the node image {NODE_IMAGE} is not on this machine"));
    }
    let cache = named("KIND_FIXTURE_CACHE")
        .or_else(|| Some(named("XDG_CACHE_HOME")?.join("kind-fixture")))
        .unwrap_or_else(|| std::env::home_dir().unwrap_or_default().join(".cache/kind-fixture"));
    let kind = named("GAUNTLET_KIND").unwrap_or_else(|| cache.join("bin/kind"));
    if !kind.is_file() {
        return Err(format!("there is no program {}", kind.display()));
    }
    Ok(Fixture {
        kind,
        foreign,
        _alone: ONE.lock().unwrap_or_else(PoisonError::into_inner),
    })
}

pub(crate) fn docker(arguments: &[&str]) -> std::io::Result<Output> {
    Command::new("docker").args(arguments).output()
}

/// What docker printed, which must have worked.
pub(crate) fn docker_said(arguments: &[&str]) -> String {
    let output = docker(arguments).unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "docker {arguments:?}: {complaint}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A cluster of the command line, with records of its own. Gone when dropped, also when the test failed.
pub(crate) struct Cluster {
    pub(crate) name: ClusterName,
    pub(crate) state: StateDirectory,
    home: tempfile::TempDir,
    kind: PathBuf,
}

impl Cluster {
    pub(crate) fn named(name: &str, fixture: &Fixture) -> Self {
        let home = tempfile::tempdir().unwrap();
        let cluster = Self {
            name: format!("{name}-{}", std::process::id()).parse().unwrap(),
            state: StateDirectory::at(home.path().join("gauntlet")),
            home,
            kind: fixture.kind.clone(),
        };
        assert_eq!(cluster.rests(), Vec::<String>::new());
        cluster
    }

    /// `gauntlet`, with this cluster's records and no kubeconfig of anybody's.
    pub(crate) fn gauntlet(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gauntlet"));
        command
            .args(arguments)
            .env("XDG_STATE_HOME", self.home.path())
            .env("HOME", self.home.path())
            .env_remove("KUBECONFIG")
            .env("GAUNTLET_KIND", &self.kind)
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn answer(&self, arguments: &[&str]) -> Answer {
        self.gauntlet(arguments).output().unwrap().into()
    }

    /// Starts to bring it up, and returns while that is under way: a node is there.
    pub(crate) fn coming_up(&self) -> Child {
        let arguments = self.up_arguments();
        let mut up = self
            .gauntlet(&arguments.each_ref().map(String::as_str))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let within = Duration::from_secs(90);
        eventually(within, || !self.nodes().is_empty());
        assert_eq!(up.try_wait().unwrap(), None, "it is still at it");
        up
    }

    pub(crate) fn up_arguments(&self) -> [String; 10] {
        let name = self.name.as_str();
        let arguments = [
            "cluster", "up", "--target", "kind", "--name", name, "--nodes", "2", "--image", NODE_IMAGE,
        ];
        arguments.map(str::to_owned)
    }

    pub(crate) fn record(&self) -> ClusterRecord {
        self.state.cluster(&self.name).unwrap().expect("a record")
    }

    /// Names of its node containers.
    pub(crate) fn nodes(&self) -> Vec<String> {
        let filter = format!("label=io.x-k8s.kind.cluster={}", self.name);
        let names = docker_said(&["ps", "--all", "--filter", &filter, "--format", "{{.Names}}"]);
        let mut names: Vec<String> = names.lines().map(str::to_owned).collect();
        names.sort();
        names
    }

    /// All that can be seen of it from outside.
    pub(crate) fn rests(&self) -> Vec<String> {
        let mut rests = self.nodes();
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let commands = processes.filter_map(|process| {
            let command = std::fs::read(process.path().join("cmdline")).ok()?;
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            command.contains(self.name.as_str()).then_some(command)
        });
        rests.extend(commands);
        rests.extend(files_below(self.home.path()));
        rests
    }
}

fn files_below(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let below = entries.flat_map(|entry| {
        if entry.path().is_dir() {
            files_below(&entry.path())
        } else {
            vec![entry.path().display().to_string()]
        }
    });
    below.collect()
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // A node that is still being made when the test fails cannot be removed before it is there.
        for _ in 0..60 {
            let nodes = self.nodes();
            if nodes.is_empty() {
                return;
            }
            for node in nodes {
                drop(docker(&["rm", "--force", "--volumes", &node]));
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    }
}

pub(crate) fn eventually(patience: Duration, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < patience, "not within {patience:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
