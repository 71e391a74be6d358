//! The cluster that is given, suites of short runs, and calls of the program on them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use gauntlet_harness::target::kind::access::ClusterAccess;
use gauntlet_harness::target::kind::image::{build_runner_image, load_into_kind};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, ServiceAccount};
use k8s_openapi::api::rbac::v1::Role;
use kube::api::{ListParams, ObjectList};
use kube::{Api, Client, Resource, ResourceExt};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::call::Call;
use crate::short::{FAULTS, short_scenario};

/// How long eight short runs may take, one after the other, with pods that begin again.
pub(crate) const PATIENCE: Duration = Duration::from_secs(540);
/// How long something may take to begin.
const SOON: Duration = Duration::from_secs(150);
/// The namespace of the pods.
const NAMESPACE: &str = "gauntlet-test-executor";

/// A cluster, with the runner's image on its nodes.
#[derive(Clone, Debug)]
pub(crate) struct Given {
    pub(crate) kubeconfig: PathBuf,
    pub(crate) context: String,
    pub(crate) image: String,
}

/// What `ci/kind` made, or `None` (said why).
pub(crate) fn given() -> Option<&'static Given> {
    static GIVEN: OnceLock<Option<Given>> = OnceLock::new();
    GIVEN.get_or_init(find).as_ref()
}

fn find() -> Option<Given> {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: not root");
        return None;
    }
    let variable = |name| {
        let value = std::env::var(name).ok();
        if value.is_none() {
            eprintln!("skipped: {name} is not set; see ci/kind");
        }
        value
    };
    let kubeconfig = PathBuf::from(variable("GAUNTLET_TEST_KUBECONFIG")?);
    let (context, cluster) = (variable("GAUNTLET_TEST_CONTEXT")?, variable("GAUNTLET_TEST_CLUSTER")?);
    let (base, kind) = (variable("GAUNTLET_SERVERS_IMAGE")?, variable("GAUNTLET_KIND")?);
    let programs = Path::new(env!("CARGO_BIN_EXE_gauntlet"))
        .parent()
        .expect("it lies somewhere");
    let image = build_runner_image(programs, &base).expect("an image").name;
    load_into_kind(&image, &cluster, Path::new(&kind)).expect("it gets to the nodes");
    docker_said(&["image", "rm", &image]);
    Some(Given {
        kubeconfig,
        context,
        image,
    })
}

impl Given {
    /// What an execution has left in the cluster, after the garbage collector had time for it.
    pub(crate) fn left(&self, execution: &str) -> Vec<String> {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let left = self.ask(async |client| {
                let mut left = names::<Pod>(&client, execution).await;
                left.extend(names::<Job>(&client, execution).await);
                left.extend(names::<ConfigMap>(&client, execution).await);
                left.extend(names::<ServiceAccount>(&client, execution).await);
                left.extend(names::<Role>(&client, execution).await);
                left
            });
            if left.is_empty() || Instant::now() > deadline {
                return left;
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// Whether the pods' namespace is there, after it had time to go.
    pub(crate) fn namespace_is_there(&self) -> bool {
        let deadline = Instant::now() + Duration::from_secs(30);
        let there = || {
            self.ask(async |client| {
                let api: Api<Namespace> = Api::all(client);
                api.get_opt(NAMESPACE).await.expect("the API server answers").is_some()
            })
        };
        while there() {
            if Instant::now() > deadline {
                return true;
            }
            std::thread::sleep(Duration::from_millis(500));
        }
        false
    }

    fn ask<T>(&self, question: impl AsyncFnOnce(Client) -> T) -> T {
        let access = ClusterAccess {
            kubeconfig: self.kubeconfig.clone(),
            context: self.context.clone(),
            namespace: NAMESPACE.into(),
        };
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(async { question(access.client().await.expect("a client")).await })
    }
}

async fn names<K>(client: &Client, execution: &str) -> Vec<String>
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(client.clone(), NAMESPACE);
    let selector = ListParams::default().labels(&format!("gauntlet-execution={execution}"));
    let found: ObjectList<K> = api.list(&selector).await.expect("the API server answers");
    found
        .items
        .iter()
        .map(|object| format!("{} {}", K::kind(&()), object.name_any()))
        .collect()
}

/// Two short scenarios with a fault each, so many times.
pub(crate) fn write_suite(directory: &Path, trials: u32) -> PathBuf {
    for fault in [&FAULTS[0], &FAULTS[2]] {
        short_scenario(directory, fault);
    }
    let text = format!(
        "\
apiVersion: gauntlet/v1
kind: Suite
metadata: {{name: short, title: Short runs}}
spec: {{scenarios: [{{name: ./short-filter.yaml}}, {{name: ./short-pause.yaml}}], trials: {trials}, seed: 4}}
"
    );
    let suite = directory.join("suite.yaml");
    fs::write(&suite, text).expect("written");
    suite
}

/// `gauntlet suite run --executor kubernetes`.
pub(crate) struct Play {
    call: Call,
    out: PathBuf,
    execution: Option<String>,
}

impl Play {
    /// Starts it, and waits until its objects have been made.
    pub(crate) fn start(given: &Given, suite: &Path, out: &Path, shards: u32) -> Self {
        let stderr = suite.with_file_name(format!(
            "stderr-{}",
            fs::read_dir(suite.parent().unwrap()).unwrap().count()
        ));
        let mut command = Command::new(env!("CARGO_BIN_EXE_gauntlet"));
        command
            .args([
                "suite",
                "run",
                "--executor",
                "kubernetes",
                "--format",
                "json",
                "--shards",
            ])
            .arg(shards.to_string())
            .arg("--kubeconfig")
            .arg(&given.kubeconfig)
            .args([
                "--context",
                &given.context,
                "--namespace",
                NAMESPACE,
                "--runner-image",
                &given.image,
            ])
            .arg("--out")
            .arg(out)
            .arg(suite);
        let mut play = Self {
            call: Call::start(&mut command, &suite.with_file_name("stdout"), &stderr),
            out: out.to_owned(),
            execution: None,
        };
        play.wait_until(|play| play.said().contains("shards as"));
        let said = play.said();
        let name = said
            .lines()
            .find_map(|line| line.strip_prefix("execution ")?.split(' ').next());
        play.execution = Some(name.expect("it names it").to_owned());
        play
    }

    /// Name of its execution.
    pub(crate) fn execution(&self) -> String {
        self.execution.clone().expect("it was begun")
    }

    /// What it said.
    pub(crate) fn said(&self) -> String {
        self.call.said()
    }

    /// Lines of the cases that ended.
    pub(crate) fn cases(&self) -> Vec<String> {
        let text = fs::read_to_string(self.out.join("cases.jsonl")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    pub(crate) fn wait_until(&mut self, happened: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + SOON;
        while !happened(self) {
            self.call.go_on(deadline);
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.call.tgid()), signal).expect("it lives");
    }

    pub(crate) fn kill(&mut self) {
        self.call.kill();
    }

    pub(crate) fn end(&mut self, patience: Duration) -> ExitStatus {
        self.call.end(patience)
    }
}

impl Drop for Play {
    fn drop(&mut self) {
        // It takes its pods away when it is asked to stop.
        self.call.give_up(Duration::from_secs(90), |tgid| {
            let _gone = kill(Pid::from_raw(tgid), Signal::SIGINT);
        });
    }
}

/// First process of a pod, by its id on this machine.
pub(crate) struct PodProcess(i32);

impl PodProcess {
    /// Ends the pod without any leave.
    pub(crate) fn kill(&self) {
        kill(Pid::from_raw(self.0), Signal::SIGKILL).expect("it lives");
    }
}

/// The pod of an execution that is making a run: the one whose program has started others.
pub(crate) fn pod_in_a_run(execution: &str) -> PodProcess {
    let deadline = Instant::now() + SOON;
    loop {
        let processes = fs::read_dir("/proc").expect("it is there").flatten();
        let tgids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let is_in_a_run = |tgid: &i32| {
            let read = |file: String| fs::read_to_string(format!("/proc/{tgid}/{file}")).unwrap_or_default();
            let command = read("cmdline".into());
            command.contains("__suite-shard")
                && command.contains(execution)
                && !read(format!("task/{tgid}/children")).trim().is_empty()
        };
        if let Some(tgid) = tgids.into_iter().find(is_in_a_run) {
            return PodProcess(tgid);
        }
        assert!(Instant::now() < deadline, "no pod of {execution} makes a run");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The JSON object that a call of the program prints last.
pub(crate) fn answer(arguments: &[&str]) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_gauntlet"))
        .args(arguments)
        .output()
        .expect("it starts");
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().unwrap_or_default();
    serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

pub(crate) fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).expect("it is there")).expect("it is JSON")
}

pub(crate) fn docker_said(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).output().expect("docker starts");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
