//! The life of a run: target up, detector ready, load, baseline, injection, recovery, judgement, run directory.
//!
//! What happens when is up to [`crate::timeline`]; what it was worth to [`crate::check`] and [`crate::score`].

pub mod around;
pub mod bring_up;
pub mod control;
pub mod directory;
pub mod environment;
pub mod event;
pub mod homes;
pub mod judge;
pub mod live;
pub mod lock;
pub mod kernel_lock;
mod offer;
pub mod recorder;
pub mod result;

use std::path::PathBuf;

use crate::app::App;
use crate::detectors::spec::Asked;
use crate::plan::Seed;
use crate::scenario::model::Scenario;
use crate::target::kind::KindOptions;

pub use self::live::execute;

/// The programs that a run starts.
#[derive(Clone, Debug)]
pub struct Programs {
    /// Our own: fault agents are made of it.
    pub gauntlet: PathBuf,
    /// The application's services.
    pub app: PathBuf,
    /// Our detector. It always runs: it records the evidence.
    pub detector: PathBuf,
    /// Who is asked, the one under test first.
    pub asked: Vec<Asked>,
}

impl Programs {
    /// Those that lie beside `gauntlet`, and the detectors that are asked; ours if there is none.
    #[must_use]
    pub fn beside(gauntlet: PathBuf, mut asked: Vec<Asked>) -> Self {
        if asked.is_empty() {
            asked.push(Asked::ours());
        }
        Self {
            app: gauntlet.with_file_name("gauntlet-app"),
            detector: gauntlet.with_file_name("gauntlet-detector"),
            gauntlet,
            asked,
        }
    }

    /// The detector that is scored; the others stand beside it.
    ///
    /// # Panics
    /// Never for programs that [`Programs::beside`] made.
    #[must_use]
    pub fn under_test(&self) -> &Asked {
        self.asked.first().expect("one is always asked")
    }
}

/// Where a run takes place.
#[derive(Clone, Debug, Default)]
pub enum RunTarget {
    /// On the embedded cluster, made for the run.
    #[default]
    Local,
    /// On a Kubernetes cluster, in a namespace made for the run.
    Kind(Box<KindOptions>),
}

/// One run, as asked for.
#[derive(Clone, Debug)]
pub struct RunOrder {
    /// The case.
    pub scenario: Scenario,
    /// Its application.
    pub app: App,
    /// Where chance comes from.
    pub seed: Seed,
    /// Which trial of the scenario this is, from 1.
    pub trial: u32,
    /// The run directory; it exists and is empty.
    pub directory: PathBuf,
    /// The programs.
    pub programs: Programs,
    /// Where.
    pub target: RunTarget,
}

/// Why a run has no result.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// This machine lacks what a run needs.
    #[error("this machine cannot run it: {0}")]
    CannotHere(String),
    /// The target could not be brought up, or the plan does not fit it.
    #[error("the target failed: {0}")]
    Target(String),
    /// Ctrl-C or SIGTERM; everything has been recovered.
    #[error("interrupted; everything injected was recovered")]
    Interrupted,
    /// The run directory could not be written.
    #[error("failed to write {path}")]
    Directory {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}
