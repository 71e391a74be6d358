//! What happens in a run, as it happens: one enum, many sinks (terminal, plain lines, `history.jsonl`).

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::MonotonicNanos;
use crate::detectors::Received;

/// Phase of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Cluster, application and detector start.
    Start,
    /// Caches fill, connections open.
    WarmUp,
    /// Normal behaviour is measured.
    Baseline,
    /// The fault is there.
    Fault,
    /// The fault is undone and the system heals.
    Recovery,
    /// Everything ends.
    Stop,
}

impl Phase {
    /// Its name in texts.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::WarmUp => "warm-up",
            Self::Baseline => "baseline",
            Self::Fault => "fault",
            Self::Recovery => "recovery",
            Self::Stop => "stop",
        }
    }
}

/// Users' experience in one second.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SliEvent {
    /// Requests that were due.
    pub sent: u64,
    /// Of these, answered well.
    pub ok: u64,
    /// Of these, not.
    pub errors: u64,
    /// Median latency, microseconds.
    pub p50_us: u64,
    /// 99th percentile, microseconds.
    pub p99_us: u64,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum RunEvent {
    /// A phase began.
    PhaseBegan {
        /// Which.
        phase: Phase,
        /// How long it is planned to be; 0 where that is not planned.
        planned_ms: u64,
    },
    /// A step of starting or stopping.
    Step {
        /// In words.
        text: String,
    },
    /// One second of users' experience.
    Sli(SliEvent),
    /// A fault was injected.
    FaultInjected {
        /// Its id in the scenario.
        fault: String,
        /// What and where, in words.
        text: String,
    },
    /// A fault's effect was measured for the first time.
    EffectProven {
        /// Its id.
        fault: String,
        /// What was measured.
        measured: String,
    },
    /// Users are harmed for the first time.
    ImpactSeen {
        /// What was measured.
        measured: String,
    },
    /// A fault was undone.
    FaultRecovered {
        /// Its id.
        fault: String,
    },
    /// The detector said something new.
    Diagnosed(Received),
    /// A detector said something that is none of the protocol's.
    DetectorNonsense {
        /// Who.
        #[serde(default)]
        detector: String,
        /// What, shortened.
        text: String,
    },
    /// A detector ended by itself.
    DetectorEnded {
        /// Who.
        #[serde(default)]
        detector: String,
    },
    /// A pod's process ended or started, as its supervisor saw it.
    PodRestarted {
        /// The pod.
        pod: String,
        /// How it ended.
        text: String,
    },
    /// Something went wrong that does not end the run.
    Warning {
        /// What.
        text: String,
    },
}

/// An event with its moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TimedEvent {
    /// When.
    pub at_ns: MonotonicNanos,
    /// What.
    pub event: RunEvent,
}

/// Takes events as they come.
pub trait EventSink {
    /// One event. Sinks never fail a run; [`History`] keeps its error for the end.
    fn event(&mut self, event: &TimedEvent);
}

/// `history.jsonl`: every event, one line each, on disk as it comes.
#[derive(Debug)]
pub struct History {
    file: BufWriter<File>,
    error: Option<io::Error>,
}

impl History {
    /// Creates the file.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn create(path: &Path) -> io::Result<Self> {
        Ok(Self {
            file: BufWriter::new(File::create(path)?),
            error: None,
        })
    }

    /// Ends it.
    ///
    /// # Errors
    /// The first error of any write (a full disk), so that incomplete evidence is not taken for complete.
    pub fn finish(mut self) -> io::Result<()> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        self.file.flush()?;
        self.file.get_ref().sync_all()
    }
}

impl EventSink for History {
    fn event(&mut self, event: &TimedEvent) {
        if self.error.is_some() {
            return;
        }
        let written = serde_json::to_writer(&mut self.file, event)
            .map_err(io::Error::from)
            .and_then(|()| self.file.write_all(b"\n"))
            .and_then(|()| self.file.flush());
        self.error = written.err();
    }
}

/// `12.3 s`, `250 ms`: a duration as people read it.
#[must_use]
pub fn human_duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 0.001 {
        format!("{:.0} µs", seconds * 1e6)
    } else if seconds < 1.0 {
        format!("{:.0} ms", seconds * 1e3)
    } else if seconds < 120.0 {
        format!("{seconds:.1} s")
    } else {
        format!("{:.0} min", seconds / 60.0)
    }
}
