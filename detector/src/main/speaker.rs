//! Feeds frames to the judge, prints what it says, and keeps the accounts for the last line.

use std::io::{self, Write as _};
use std::time::Instant;

use anyhow::Context as _;
use gauntlet_detector::baseline::{alert_count, max_z};
use gauntlet_detector::diagnosis::{DetectorLine, PROTOCOL_VERSION, ProgramCost, Summary};
use gauntlet_detector::pipeline::{Config, NAME, Pipeline};
use gauntlet_probes::entity::InventoryLine;
use gauntlet_probes::frame::Frame;
use nix::sys::resource::{Usage, UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;

/// Name and version, as said in the first line.
pub(crate) const SPEAKER: &str = concat!("gauntlet-detector ", env!("CARGO_PKG_VERSION"));

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Voices {
    Ours,
    OursAndRivals,
}

/// Where frames come from; neither is standard input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    Probes,
    Recording,
}

impl Voices {
    pub(crate) fn of(without_rivals: bool) -> Self {
        if without_rivals {
            Self::Ours
        } else {
            Self::OursAndRivals
        }
    }
}

/// See the module.
pub(crate) struct Speaker {
    pipeline: Pipeline,
    voices: Voices,
    summary: Summary,
    last_seq: Option<u64>,
    begun: Instant,
    cpu_ns_before: u64,
}

impl Speaker {
    pub(crate) fn new(voices: Voices, config: Config) -> Self {
        Self {
            pipeline: Pipeline::new(config),
            voices,
            summary: Summary::default(),
            last_seq: None,
            begun: Instant::now(),
            // Loading the programs is paid once, whatever the length of the watch.
            cpu_ns_before: usage().map_or(0, |usage| cpu_ns(&usage)),
        }
    }

    pub(crate) fn apply(&mut self, line: &InventoryLine) {
        self.pipeline.apply(line);
    }

    /// Says that it is ready to judge what `input` yields.
    pub(crate) fn ready(&self, input: Input, degraded: Vec<String>) -> anyhow::Result<()> {
        say(&DetectorLine::Ready {
            version: PROTOCOL_VERSION,
            detector: SPEAKER.to_owned(),
            degraded,
            frames: false,
            recording: input == Input::Recording,
            beside: match self.voices {
                Voices::Ours => Vec::new(),
                Voices::OursAndRivals => [alert_count::NAME, max_z::NAME].map(str::to_owned).into(),
            },
        })
    }

    /// Judges a frame and says what there is to say.
    pub(crate) fn frame(&mut self, frame: &Frame) -> anyhow::Result<()> {
        let missed = self.last_seq.map_or(0, |last| frame.seq.saturating_sub(last + 1));
        self.last_seq = Some(frame.seq);
        self.summary.frames += 1;
        self.summary.frames_missed += missed;
        self.summary.lost += frame.loss.connections + frame.loss.records + frame.loss.events;
        self.summary.unparsed += frame.loss.unparsed;
        let diagnoses = match self.voices {
            Voices::Ours => self.pipeline.step(frame).into_iter().collect(),
            Voices::OursAndRivals => self.pipeline.step_with_rivals(frame),
        };
        debug_assert!(
            diagnoses
                .first()
                .is_none_or(|diagnosis| self.voices == Voices::OursAndRivals || diagnosis.detector == NAME)
        );
        diagnoses
            .into_iter()
            .try_for_each(|diagnosis| say(&DetectorLine::Diagnosis(diagnosis)))
    }

    /// Counts ticks that passed while a look took too long.
    pub(crate) fn missed(&mut self, ticks: u64) {
        self.summary.frames_missed += ticks;
    }

    /// The last line.
    pub(crate) fn finish(mut self, programs: Vec<ProgramCost>) -> anyhow::Result<()> {
        let usage = usage()?;
        self.summary.cpu_ns = cpu_ns(&usage).saturating_sub(self.cpu_ns_before);
        self.summary.wall_ns = u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.summary.rss_bytes_max = rss_bytes_max()?;
        self.summary.lost += self.pipeline.edges_refused();
        self.summary.programs = programs;
        say(&DetectorLine::Summary(self.summary))
    }
}

fn usage() -> anyhow::Result<Usage> {
    getrusage(UsageWho::RUSAGE_SELF).context("failed to read the usage of this process")
}

/// Most memory that this program had resident, bytes. Not that of `getrusage`, which keeps through an exec what the process had
/// before: the memory of whoever started the detector.
fn rss_bytes_max() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status").context("failed to read /proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = peak.and_then(|peak| peak.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    Ok(kibibytes.context("/proc/self/status has no VmHWM")? * 1024)
}

fn cpu_ns(usage: &Usage) -> u64 {
    let cpu_ns = (usage.user_time() + usage.system_time()).num_nanoseconds();
    u64::try_from(cpu_ns).unwrap_or(0)
}

fn say(line: &DetectorLine) -> anyhow::Result<()> {
    let mut output = io::stdout().lock();
    serde_json::to_writer(&mut output, line).context("failed to write a line")?;
    output
        .write_all(b"\n")
        .and_then(|()| output.flush())
        .context("failed to write a line")
}
