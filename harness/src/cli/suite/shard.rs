//! `gauntlet __suite-shard`: the program of an executor's pod. Runs the cases of one shard that nobody has run.
//!
//! Its exit code is for the job: 0 when every case has a result, whatever it is worth; anything else calls for a new pod.

use std::path::PathBuf;

use clap::Args;

use super::run::{LiveRunner, detector_digest};
use crate::cli::Exit;
use crate::cli::live::{Locking, Session, programs};
use crate::detectors::spec::{DetectorSpec, SpecError};
use crate::executor::jobs::{INDEX_VARIABLE, NAMESPACE_VARIABLE};
use crate::executor::keeper::{Desk, ShardKeeper};
use crate::executor::{cgroups, order::ShardOrder};
use crate::report::suite_console::SuiteConsole;
use crate::run::RunTarget;
use crate::suite::outcome::{Mode, Shard};
use crate::suite::play::{Ending, play};
use crate::suite::store::{Beginning, Header, Store};

/// What a pod is told.
#[derive(Debug, Args)]
pub struct ShardArgs {
    /// Name of the execution.
    #[arg(long)]
    pub execution: String,
    /// The pod's namespace.
    #[arg(long, env = NAMESPACE_VARIABLE)]
    pub namespace: String,
    /// The shard's index, from 0.
    #[arg(long, env = INDEX_VARIABLE)]
    pub index: u32,
    /// Directory of the runs.
    #[arg(long)]
    pub work: PathBuf,
}

/// Runs the shard.
///
/// # Errors
/// When the API server cannot be reached, or a result not be kept.
pub fn run_shard(args: &ShardArgs) -> anyhow::Result<Exit> {
    if let Err(error) = cgroups::prepare() {
        eprintln!("gauntlet: failed to prepare this container's cgroups: {error}; it must be privileged");
        return Ok(Exit::CannotHere);
    }
    let (desk, order) = Desk::open(&args.execution, &args.namespace)?;
    let detectors = match detectors(&order) {
        Ok(detectors) => detectors,
        Err(error) => {
            eprintln!("gauntlet: in the runner's image {error}");
            return Ok(Exit::CannotHere);
        }
    };
    let Ok(programs) = programs(&detectors)? else {
        return Ok(Exit::CannotHere);
    };
    let session = match Session::open(programs, Locking::Turns)? {
        Ok(session) => session,
        Err(exit) => return Ok(exit),
    };
    let detector = match detector_digest(&session) {
        Ok(digest) => digest,
        Err(why) => {
            eprintln!("gauntlet: {why}");
            return Ok(Exit::CannotHere);
        }
    };
    let shard = Shard {
        index: args.index + 1,
        count: order.shards,
    };
    let part = order.part(shard);
    let header = Header::new(&order.plan, Mode::Live, Some(shard), detector.clone());
    let store = Store::open(&args.work, header, &part, Beginning::Allowed)?;
    let work = args.work.canonicalize()?;
    let mut keeper = ShardKeeper::new(&desk, store, &work, shard, detector)?;
    let mut console = SuiteConsole::new();
    let mut runner = LiveRunner {
        session: &session,
        target: RunTarget::Local,
        home: &work,
        console: console.clone(),
    };
    eprintln!("shard {shard} of suite {}: {} cases", order.plan.suite, part.len());
    Ok(
        match play(&order.plan, &part, &mut keeper, &mut runner, &mut console)? {
            Ending::Complete => Exit::Pass,
            Ending::Interrupted => Exit::Interrupted,
            Ending::CannotHere(why) => {
                eprintln!("gauntlet: this machine cannot go on: {why}");
                Exit::CannotHere
            }
        },
    )
}

fn detectors(order: &ShardOrder) -> Result<Vec<DetectorSpec>, SpecError> {
    order.detectors.iter().map(|text| text.parse()).collect()
}
