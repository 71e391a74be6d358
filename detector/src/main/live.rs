//! Judges this machine: attaches the probes, looks once a tick, until the inventory ends or a signal comes.

use std::fs::File;
use std::io::{self, BufRead as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::time::Instant;

use anyhow::Context as _;
use gauntlet_detector::diagnosis::ProgramCost;
use gauntlet_detector::pipeline::Config;
use gauntlet_probes::capability::HookState;
use gauntlet_probes::entity::InventoryLine;
use gauntlet_probes::recording::{RecordingHeader, RecordingWriter};
use gauntlet_probes::{Options, Probes};
use nix::sys::signal::{SigSet, Signal};

use crate::Arguments;
use crate::frames::FrameTeller;
use crate::speaker::{Input, SPEAKER, Speaker, Voices};

/// The probes cannot attach on this machine.
#[derive(Debug, thiserror::Error)]
#[error("the probes cannot attach on this machine")]
pub(crate) struct Unavailable(#[source] gauntlet_probes::AttachError);

/// Runs until standard input ends, or SIGTERM or SIGINT comes.
pub(crate) fn run(arguments: &Arguments, voices: Voices) -> anyhow::Result<()> {
    let tick = arguments.tick;
    let stop = stop_at_signals()?;
    let mut probes = Probes::attach(&Options::default()).map_err(Unavailable)?;
    let mut recording = arguments.record.as_deref().map(record).transpose()?;
    let mut teller = arguments.frames_to.as_deref().map(FrameTeller::start).transpose()?;
    let mut speaker = Speaker::new(voices, Config::default());
    let lines = inventory_lines();
    let mut ready = false;
    let mut next = Instant::now() + tick;
    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        next += tick;
        let (news, ended) = drain(&lines)?;
        for line in &news {
            probes.apply(line);
            speaker.apply(line);
            if let Some(recording) = &mut recording {
                recording.inventory(line)?;
            }
            if matches!(line, InventoryLine::Ready { .. }) && !ready {
                // What was seen before anything had a name is nobody's.
                probes.tick()?;
                ready = true;
                speaker.ready(Input::Probes, degraded(&probes))?;
            }
        }
        if ended {
            break;
        }
        if ready {
            let frame = probes.tick()?;
            if let Some(recording) = &mut recording {
                recording.frame(&frame)?;
            }
            speaker.frame(&frame)?;
            if let Some(teller) = &mut teller {
                teller.tell(frame);
            }
        }
        while next < Instant::now() {
            next += tick;
            speaker.missed(u64::from(ready));
        }
    }
    if let Some(recording) = recording {
        recording.finish()?;
    }
    if let Some(teller) = teller {
        teller.finish();
    }
    let costs = probes.program_costs().into_iter();
    speaker.finish(
        costs
            .map(|cost| ProgramCost {
                name: cost.name,
                run_count: cost.run_count,
                run_ns: cost.run_ns,
            })
            .collect(),
    )
}

fn record(path: &Path) -> anyhow::Result<RecordingWriter<File>> {
    let file = File::create(path).with_context(|| format!("failed to create {}", path.display()))?;
    Ok(RecordingWriter::new(file, &RecordingHeader::new(SPEAKER))?)
}

/// What is not seen, in plain words.
fn degraded(probes: &Probes) -> Vec<String> {
    let words = probes
        .capabilities()
        .iter()
        .filter_map(|capability| match &capability.state {
            HookState::Attached { via: _ } => None,
            HookState::Degraded { how } => Some(format!("{}: {how}", capability.hook)),
            HookState::Missing { why } => Some(format!("{}: {} ({why})", capability.hook, capability.absence_costs)),
        });
    words.collect()
}

fn inventory_lines() -> Receiver<io::Result<String>> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines() {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

/// All lines that have come, and whether no more will.
fn drain(lines: &Receiver<io::Result<String>>) -> anyhow::Result<(Vec<InventoryLine>, bool)> {
    let mut news = Vec::new();
    loop {
        match lines.try_recv() {
            Ok(line) => {
                let line = line.context("failed to read the inventory")?;
                if !line.trim().is_empty() {
                    news.push(
                        serde_json::from_str(&line).with_context(|| format!("not a line of the inventory: {line}"))?,
                    );
                }
            }
            Err(TryRecvError::Empty) => return Ok((news, false)),
            Err(TryRecvError::Disconnected) => return Ok((news, true)),
        }
    }
}

/// A flag that SIGTERM and SIGINT set. Must be called before any thread is started.
fn stop_at_signals() -> anyhow::Result<Arc<AtomicBool>> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals.thread_block().context("failed to block signals")?;
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    std::thread::spawn(move || {
        if signals.wait().is_ok() {
            flag.store(true, Ordering::Relaxed);
        }
    });
    Ok(stop)
}
