//! Frames in, statements out: remember, judge, believe, speak.
//!
//! Deterministic: the same frames give the same statements, to the byte. Never reads a clock.

use std::collections::BTreeMap;

use gauntlet_probes::entity::InventoryLine;
use gauntlet_probes::frame::{Frame, MonotonicNanos};

use crate::baseline::Rival;
use crate::baseline::alert_count::AlertCount;
use crate::baseline::max_z::MaxZ;
use crate::diagnosis::{Candidate, Diagnosis, Mechanism};
use crate::evidence::{self, Certainty, Finding};
use crate::memory::Memory;
use crate::rank::Beliefs;
use crate::scene::Scene;
use crate::weakness::Weakness;
use crate::window::{Learn, RECENT_SECONDS};

/// Name under which our own statements are made.
pub const NAME: &str = "gauntlet";

/// What can be chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// A statement is repeated after this long while something is wrong, nanoseconds.
    pub repeat_ns: u64,
    /// Nothing is said in the first seconds of frames, whatever the evidence: start-up looks like everything at once.
    pub quiet_seconds: f64,
    /// What is made worse on purpose; for proofs only.
    #[doc(hidden)]
    pub weakness: Option<Weakness>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            repeat_ns: 1_000_000_000,
            quiet_seconds: 3.0,
            weakness: None,
        }
    }
}

/// Seconds without suspicion after which the baseline learns again: what is then oldest among the recent ticks was
/// already free of it, and callers have recovered.
const RESUME_SECONDS: f64 = RECENT_SECONDS + 2.0;
/// Seconds for which the baseline is frozen at most: then what lasts has become usual, or nothing would ever be learned.
const FREEZE_SECONDS_MAX: f64 = 300.0;
/// Change of confidence worth a new statement.
const CONFIDENCE_STEP: f64 = 0.15;

/// The judge.
#[derive(Debug)]
pub struct Pipeline {
    config: Config,
    memory: Memory,
    beliefs: Beliefs,
    rivals: Vec<Box<dyn Rival>>,
    spoken: BTreeMap<&'static str, Spoken>,
    seen_seconds: f64,
    calm_seconds: f64,
    frozen_seconds: f64,
}

#[derive(Clone, Debug, Default)]
struct Spoken {
    at_ns: MonotonicNanos,
    candidates: Vec<Candidate>,
}

impl Pipeline {
    /// A judge that has seen nothing.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            memory: Memory::new(config.weakness),
            beliefs: Beliefs::default(),
            config,
            rivals: vec![Box::new(AlertCount::default()), Box::new(MaxZ::default())],
            spoken: BTreeMap::new(),
            seen_seconds: 0.0,
            calm_seconds: f64::MAX,
            frozen_seconds: 0.0,
        }
    }

    /// Takes in a line of the inventory.
    pub fn apply(&mut self, line: &InventoryLine) {
        self.memory.apply(line);
    }

    /// Judges a frame: a statement when it differs from the last one, and every second while something is wrong.
    pub fn step(&mut self, frame: &Frame) -> Option<Diagnosis> {
        let seconds = self.absorb(frame);
        let scene = Scene::of(&self.memory);
        let candidates = judge(
            &mut self.beliefs,
            &scene,
            seconds,
            self.seen_seconds < self.config.quiet_seconds,
        );
        self.state(NAME, frame.at_ns, candidates)
    }

    /// The same, with the statements of the naive rivals on the same windows.
    pub fn step_with_rivals(&mut self, frame: &Frame) -> Vec<Diagnosis> {
        let seconds = self.absorb(frame);
        let quiet = self.seen_seconds < self.config.quiet_seconds;
        let scene = Scene::of(&self.memory);
        let mut said = vec![(NAME, judge(&mut self.beliefs, &scene, seconds, quiet))];
        for rival in &mut self.rivals {
            said.push((rival.name(), rival.judge(&scene)));
        }
        said.into_iter()
            .filter_map(|(name, candidates)| self.state(name, frame.at_ns, candidates))
            .collect()
    }

    /// Edges that found no room in memory.
    #[must_use]
    pub fn edges_refused(&self) -> u64 {
        self.memory.edges_refused
    }

    /// Takes in a frame, and decides whether what is old enough becomes usual.
    fn absorb(&mut self, frame: &Frame) -> f64 {
        let seconds = frame.span_ns as f64 / 1e9;
        self.seen_seconds += seconds;
        if self.beliefs.suspicious() {
            self.calm_seconds = 0.0;
        } else {
            self.calm_seconds += seconds;
        }
        let calm = self.calm_seconds >= RESUME_SECONDS;
        self.frozen_seconds = if calm { 0.0 } else { self.frozen_seconds + seconds };
        let learn = if calm || self.frozen_seconds > FREEZE_SECONDS_MAX {
            Learn::Yes
        } else {
            Learn::No
        };
        match self.config.weakness {
            Some(weakness) => self.memory.absorb(&weakness.blind(frame), weakness.learns(learn)),
            None => self.memory.absorb(frame, learn),
        }
        seconds
    }

    fn state(
        &mut self,
        detector: &'static str,
        at_ns: MonotonicNanos,
        candidates: Vec<Candidate>,
    ) -> Option<Diagnosis> {
        let spoken = self.spoken.entry(detector).or_default();
        let due = !candidates.is_empty() && at_ns.saturating_sub(spoken.at_ns) >= self.config.repeat_ns;
        if !due && !differs(&spoken.candidates, &candidates) {
            return None;
        }
        *spoken = Spoken {
            at_ns,
            candidates: candidates.clone(),
        };
        Some(Diagnosis {
            at_ns,
            detector: detector.to_owned(),
            candidates,
        })
    }
}

fn judge(beliefs: &mut Beliefs, scene: &Scene<'_>, seconds: f64, quiet: bool) -> Vec<Candidate> {
    let mut findings = evidence::judge(scene);
    if let Some(weakness) = scene.weakness {
        findings.retain(|finding| weakness.keeps(finding));
    }
    if quiet {
        findings.clear();
    }
    if findings.is_empty() {
        findings.extend(unexplained(scene));
    }
    beliefs.update(scene, &findings, seconds);
    let mut candidates = beliefs.candidates(scene);
    if let Some(weakness) = scene.weakness {
        weakness.reorder(scene.now_ns, &mut candidates);
    }
    candidates
}

/// Users suffer, and no rule says why: that much can be said. The blame goes where the trouble is deepest.
fn unexplained(scene: &Scene<'_>) -> Option<Finding> {
    let suffering = |service: usize| scene.pods_of(service).any(|pod| evidence::app::suffers(scene, pod));
    let entrance = scene
        .topology
        .entrances()
        .iter()
        .copied()
        .find(|&service| suffering(service))?;
    let mut deepest = entrance;
    for _ in 0..scene.services.len() {
        match scene
            .topology
            .callees(deepest)
            .find(|&callee| callee != deepest && suffering(callee))
        {
            Some(callee) => deepest = callee,
            None => break,
        }
    }
    Some(Finding {
        mechanism: Mechanism::Unknown,
        place: crate::commonality::Place::Service(deepest),
        pods: scene
            .pods_of(deepest)
            .filter(|&pod| evidence::app::suffers(scene, pod))
            .collect(),
        strength: UNKNOWN_STRENGTH,
        certainty: Certainty::Inferred,
        since_ns: scene.now_ns,
        evidence: vec!["users wait much longer or see errors, and the evidence does not say why".to_owned()],
    })
}

/// Just above what is needed to speak, so that it takes seconds of suffering to say so little.
const UNKNOWN_STRENGTH: f64 = 0.53;

fn differs(before: &[Candidate], after: &[Candidate]) -> bool {
    before.len().min(1) != after.len().min(1)
        || before.iter().zip(after).take(3).any(|(before, after)| {
            before.entity != after.entity
                || before.mechanism != after.mechanism
                || before.pods != after.pods
                || (before.confidence - after.confidence).abs() >= CONFIDENCE_STEP
        })
}
