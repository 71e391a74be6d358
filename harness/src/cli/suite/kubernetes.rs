//! `gauntlet suite run --executor kubernetes`: the cases run in pods of a cluster; what comes of them lies here, in a
//! directory like that of a suite that ran here.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, ValueEnum};

use super::run::{digest_of_program, open};
use super::{SuiteRunArgs, conclude, exit_of};
use crate::cli::Exit;
use crate::cli::live::watch_signals;
use crate::detectors::spec::{DetectorSpec, SpecSource};
use crate::doctor::error_chain;
use crate::executor::collect::Collector;
use crate::executor::order::ShardOrder;
use crate::executor::{ExecutorError, MARKER_FILE, Marker};
use crate::recording::container::sha256_hex;
use crate::report::suite_console::SuiteConsole;
use crate::run::homes;
use crate::suite::outcome::Mode;
use crate::suite::plan::SuitePlan;
use crate::suite::play::Ending;
use crate::suite::store::{Store, short};
use crate::target::kind::access::ClusterAccess;
use crate::target::kind::ownership::NAMESPACE;

/// Characters of a digest in an execution's name.
const NAME_LENGTH: usize = 10;

/// Where the runs of a suite are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ExecutorKind {
    /// Here, one after the other.
    #[default]
    Local,
    /// In pods of a Kubernetes cluster, at the same time where they have machines of their own.
    Kubernetes,
}

/// Arguments of the executor.
#[derive(Debug, Args)]
pub struct ExecutorArgs {
    /// Where the runs are made: here, or in privileged pods of a Kubernetes cluster, each of which runs a part of the
    /// suite on the local target. Pods that share a machine take turns.
    #[arg(long, value_enum, default_value_t, conflicts_with_all = ["replay", "shard", "no_lock", "wait_lock"])]
    pub executor: ExecutorKind,
    /// Into how many parts the suite is cut, one pod each.
    #[arg(long, value_name = "N", required_if_eq("executor", "kubernetes"),
        value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub shards: Option<u32>,
    /// The context in the file of --kubeconfig. There is no default: nothing is done to a cluster that was not named.
    #[arg(long, required_if_eq("executor", "kubernetes"))]
    pub context: Option<String>,
    /// The pods' image; see `gauntlet image build --runner`.
    #[arg(long, value_name = "IMAGE", required_if_eq("executor", "kubernetes"))]
    pub runner_image: Option<String>,
}

/// Runs the cases of `plan` in pods.
///
/// # Errors
/// When the harness itself fails (a bug or an unusable output directory).
pub(super) fn run(args: &SuiteRunArgs, plan: &SuitePlan) -> anyhow::Result<Exit> {
    let alertmanager = |spec: &&DetectorSpec| matches!(spec.source, SpecSource::Alertmanager(_));
    if let Some(spec) = args.detector.iter().find(alertmanager) {
        eprintln!(
            "gauntlet: {spec} waits for alerts here, and the runs are elsewhere; name a program of the runner's image"
        );
        return Ok(Exit::InvalidScenario);
    }
    let ExecutorArgs {
        executor: _,
        shards: Some(shards),
        context: Some(context),
        runner_image: Some(image),
    } = &args.executor
    else {
        unreachable!("the command line has been parsed")
    };
    let Some(kubeconfig) = &args.target.kubeconfig else {
        eprintln!(
            "gauntlet: --executor kubernetes needs --kubeconfig FILE: none is used by default; nothing was touched"
        );
        return Ok(Exit::CannotHere);
    };
    // It is made if there is none, and then removed at the end.
    let namespace = args.target.namespace.clone().unwrap_or_else(|| NAMESPACE.to_owned());
    let asked: Vec<String> = args.detector.iter().map(ToString::to_string).collect();
    // Programs are in the image, which is what tells them from others.
    let (directory, mut store) = match open(
        args,
        plan,
        Mode::Live,
        digest_of_program(&format!("{image} {asked:?}"), None),
    )? {
        Ok(opened) => opened,
        Err(exit) => return Ok(exit),
    };
    let access = ClusterAccess {
        kubeconfig: std::path::absolute(kubeconfig)?,
        context: context.clone(),
        namespace: namespace.clone(),
    };
    // Further shards would have nothing to run.
    let shards = (*shards).min(u32::try_from(plan.cases.len()).unwrap_or(u32::MAX));
    let wanted = Marker {
        name: new_name(plan),
        access,
        shards,
        image: image.clone(),
    };
    let marker = match marker(&directory, wanted)? {
        Ok(marker) => marker,
        Err(exit) => return Ok(exit),
    };
    eprintln!(
        "suite {} digest {} version {}: {} cases, in {}",
        plan.suite,
        short(&plan.digest),
        env!("CARGO_PKG_VERSION"),
        plan.cases.len(),
        directory.display()
    );
    let ended = plan
        .cases
        .iter()
        .map(|case| &case.key)
        .filter(|key| store.ended(key).is_some());
    let order = ShardOrder::new(plan.clone(), marker.shards, ended.cloned().collect(), asked);
    let ending = execute(plan, &order, &marker, &directory, &mut store);
    if ending.is_ok() {
        std::fs::remove_file(directory.join(MARKER_FILE))?;
    }
    finish(args, &store, &directory, ending)
}

/// The execution of the directory: the one that an earlier process began, or the `wanted` one.
fn marker(directory: &Path, wanted: Marker) -> anyhow::Result<Result<Marker, Exit>> {
    let Some(there) = Marker::read(directory)? else {
        // Directories of suites lie in it, too, and the marker in one of them.
        let whole = std::path::absolute(directory)?;
        whole.parent().into_iter().for_each(homes::remember);
        wanted.write(directory)?;
        return Ok(Ok(wanted));
    };
    let same_name = Marker {
        name: there.name.clone(),
        ..wanted
    };
    if there == same_name {
        return Ok(Ok(there));
    }
    eprintln!(
        "gauntlet: {} belongs to the execution {} with {} shards in namespace {} of context {}; go on with the same \
         arguments, or remove that one with `gauntlet recover`",
        directory.display(),
        there.name,
        there.shards,
        there.access.namespace,
        there.access.context
    );
    Ok(Err(Exit::InvalidScenario))
}

/// Unique: of what is run, and of when and by which process.
fn new_name(plan: &SuitePlan) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut digest = sha256_hex(format!("{} {now:?} {}", plan.digest, std::process::id()).as_bytes());
    digest.truncate(NAME_LENGTH);
    format!("gauntlet-suite-{digest}")
}

fn execute(
    plan: &SuitePlan,
    order: &ShardOrder,
    marker: &Marker,
    home: &Path,
    store: &mut Store,
) -> Result<Ending, ExecutorError> {
    let failed = |error: std::io::Error| ExecutorError::Pods(format!("there is no runtime to wait with: {error}"));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    runtime.map_err(failed)?.block_on(async {
        let collector = Collector {
            client: marker.access.client().await?,
            marker,
            plan,
            home,
            store,
            console: SuiteConsole::new(),
            cancel: watch_signals().map_err(failed)?,
        };
        collector.run(order).await
    })
}

/// Says what came of it. Results that are there count, whatever ended the execution.
fn finish(
    args: &SuiteRunArgs,
    store: &Store,
    directory: &Path,
    ending: Result<Ending, ExecutorError>,
) -> anyhow::Result<Exit> {
    let result = store.write_result()?;
    let exit = match &ending {
        Ok(Ending::Complete) => exit_of(&result),
        Ok(Ending::Interrupted) => Exit::Interrupted,
        Ok(Ending::CannotHere(why)) => {
            eprintln!("gauntlet: a machine of the cluster cannot run it: {why}");
            Exit::CannotHere
        }
        Err(ExecutorError::Store(error)) => anyhow::bail!("{}", error_chain(error)),
        Err(error) => {
            eprintln!("gauntlet: {}", error_chain(error));
            match error {
                ExecutorError::Access(_) | ExecutorError::Api(_) => Exit::CannotHere,
                ExecutorError::Store(_)
                | ExecutorError::Unreadable { .. }
                | ExecutorError::Mixed { .. }
                | ExecutorError::Pods(_) => Exit::TargetFailed,
            }
        }
    };
    conclude(&result, directory, exit, args.format);
    if !matches!(ending, Ok(Ending::Complete)) {
        eprintln!("gauntlet: go on with --out {}", directory.display());
    }
    Ok(exit)
}
