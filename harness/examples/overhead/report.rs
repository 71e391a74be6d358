//! The comparison of the arms, for people and as JSON.

use std::fmt;

use anyhow::ensure;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use crate::arm::{Measure, ProgramCost, Watched};
use crate::statistics::{Ratio, median, paired_ratio};

/// Both arms of a round.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Round {
    /// Without the detector.
    pub(crate) off: Vec<Measure>,
    /// With it.
    pub(crate) on: Vec<Measure>,
    /// What it cost.
    pub(crate) cost: Watched,
}

/// One quantity over all rounds.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Row {
    name: &'static str,
    unit: &'static str,
    off_median: f64,
    on_median: f64,
    ratio: Option<Ratio>,
}

/// One kernel program under the loads, while the kernel keeps account, which adds to each run.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ProgramRow {
    name: String,
    runs_per_second: f64,
    ns_per_run: f64,
    cpu_share: f64,
}

/// The detector's own cost over all rounds.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DetectorRow {
    cpu_share_median: f64,
    cpu_share_max: f64,
    rss_bytes_max: u64,
    lost: u64,
    frames: u64,
    frames_missed: u64,
}

/// Everything.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    version: u32,
    setting: String,
    rows: Vec<Row>,
    detector: DetectorRow,
    programs: Vec<ProgramRow>,
    rounds: Vec<Round>,
}

impl Report {
    /// Of these rounds, of which there is at least one, and of what the programs cost in an arm of their own.
    pub(crate) fn of(setting: String, rounds: Vec<Round>, costs: Vec<ProgramCost>, seed: u64) -> anyhow::Result<Self> {
        ensure!(!rounds.is_empty(), "nothing was measured");
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let rows = (0..rounds[0].off.len()).map(|index| {
            let off: Vec<f64> = rounds.iter().map(|round| round.off[index].value).collect();
            let on: Vec<f64> = rounds.iter().map(|round| round.on[index].value).collect();
            let Measure { name, unit, .. } = rounds[0].off[index];
            let ratio = paired_ratio(&off, &on, &mut rng);
            Row {
                name,
                unit,
                off_median: median(&off),
                on_median: median(&on),
                ratio,
            }
        });
        Ok(Self {
            version: 1,
            setting,
            rows: rows.collect(),
            detector: detector(&rounds),
            programs: programs(costs),
            rounds,
        })
    }
}

fn detector(rounds: &[Round]) -> DetectorRow {
    let shares: Vec<f64> = rounds.iter().map(|round| round.cost.cpu_share).collect();
    let summaries = || rounds.iter().map(|round| &round.cost.summary);
    DetectorRow {
        cpu_share_median: median(&shares),
        cpu_share_max: shares.iter().copied().fold(0.0, f64::max),
        rss_bytes_max: summaries().map(|summary| summary.rss_bytes_max).max().unwrap_or(0),
        lost: summaries().map(|summary| summary.lost).sum(),
        frames: summaries().map(|summary| summary.frames).sum(),
        frames_missed: summaries().map(|summary| summary.frames_missed).sum(),
    }
}

/// By what they cost, dearest first; those that never ran are left out.
fn programs(costs: Vec<ProgramCost>) -> Vec<ProgramRow> {
    let mut rows: Vec<ProgramRow> = costs
        .into_iter()
        .filter(|cost| cost.run_count > 0)
        .map(|cost| ProgramRow {
            name: cost.name,
            runs_per_second: cost.run_count as f64 / cost.wall.as_secs_f64(),
            ns_per_run: cost.run_time.as_nanos() as f64 / cost.run_count as f64,
            cpu_share: cost.run_time.as_secs_f64() / cost.wall.as_secs_f64(),
        })
        .collect();
    rows.sort_by(|one, other| other.cpu_share.total_cmp(&one.cpu_share));
    rows
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            setting,
            rows,
            detector,
            programs,
            rounds,
            ..
        } = self;
        writeln!(
            f,
            "{} rounds, each without and with the detector, in turn (ABBA): {setting}\n",
            rounds.len()
        )?;
        writeln!(
            f,
            "{:<36} {:>10} {:>12} {:>12} {:>8}  95 % interval",
            "", "", "off, median", "on, median", "on/off"
        )?;
        for Row {
            name,
            unit,
            off_median,
            on_median,
            ratio,
        } in rows
        {
            write!(
                f,
                "{name:<36} {unit:>10} {:>12} {:>12} ",
                number(*off_median),
                number(*on_median)
            )?;
            match ratio {
                Some(Ratio { median, low, high }) => writeln!(f, "{median:>8.3}  [{low:.3}, {high:.3}]")?,
                None => writeln!(f, "{:>8}  nothing was measured in an arm without", "–")?,
            }
        }
        writeln!(
            f,
            "\ndetector: CPU {:.1} % of one core (at most {:.1} %), RSS {:.1} MiB, lost {}, frames {} ({} missed)",
            detector.cpu_share_median * 100.0,
            detector.cpu_share_max * 100.0,
            detector.rss_bytes_max as f64 / f64::from(1 << 20),
            detector.lost,
            detector.frames,
            detector.frames_missed,
        )?;
        writeln!(
            f,
            "\n{:<36} {:>12} {:>10} {:>18}",
            "kernel program (an arm of its own)", "runs/s", "ns/run", "% of one core"
        )?;
        for ProgramRow {
            name,
            runs_per_second,
            ns_per_run,
            cpu_share,
        } in programs
        {
            writeln!(
                f,
                "{name:<36} {runs_per_second:>12.0} {ns_per_run:>10.0} {:>18.3}",
                cpu_share * 100.0
            )?;
        }
        let all: f64 = programs.iter().map(|program| program.cpu_share).sum();
        writeln!(f, "{:<36} {:>12} {:>10} {:>18.3}", "all", "", "", all * 100.0)
    }
}

/// Three or four digits, as a quantity of any size is read.
fn number(value: f64) -> String {
    match value {
        value if value >= 1000.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.3}"),
    }
}
