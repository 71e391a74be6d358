//! Two windows on every signal: the current one (the last moments) and the baseline (what was usual before).
//!
//! Between them lies a gap, so that a fault is noticed before its first moments can become part of what is usual. Does
//! not decide when to learn; the pipeline does.

use std::collections::VecDeque;

use crate::anomaly::robust_z::Norm;
use crate::signal::{Accumulate, EdgeFlow, Entries, Flow, Usage};

/// Seconds of the current window: long enough for some twenty requests of a modest edge, short enough to answer soon.
pub const CURRENT_SECONDS: f64 = 2.0;
/// Seconds kept tick by tick: the current window, and a gap as long as the slowest rule needs to become suspicious.
pub const RECENT_SECONDS: f64 = 4.0;
/// Seconds of one baseline cell: medians over cells forgive a stall of the machine that fills only one of them.
pub const CELL_SECONDS: f64 = 1.0;
/// Baseline cells kept: half a minute, so that slow drifts of load are learned and memory is bounded.
pub const CELLS_MAX: usize = 30;
/// Baseline cells without which nothing is called unusual: five seconds, the fewest that give a median and a spread.
pub const CELLS_MIN: usize = 5;

/// A value and the time that it covers.
#[derive(Clone, Debug, Default)]
pub struct Timed<T> {
    /// End of that time, nanoseconds.
    pub at_ns: u64,
    /// Its length, seconds.
    pub seconds: f64,
    /// The value.
    pub value: T,
}

impl<T: Accumulate> Timed<T> {
    fn absorb(&mut self, later: &Self) {
        self.at_ns = later.at_ns;
        self.seconds += later.seconds;
        self.value.absorb(&later.value);
    }
}

/// The recent ticks and the baseline cells of one edge, pod or node.
#[derive(Clone, Debug, Default)]
pub struct Track<T> {
    recent: VecDeque<Timed<T>>,
    recent_seconds: f64,
    growing: Option<Timed<T>>,
    cells: VecDeque<Timed<T>>,
}

impl<T: Accumulate> Track<T> {
    /// Takes in one tick; what falls out of the recent ticks becomes baseline if `learn` says so. True when the
    /// baseline changed.
    pub fn push(&mut self, tick: Timed<T>, learn: Learn) -> bool {
        self.recent_seconds += tick.seconds;
        self.recent.push_back(tick);
        let mut changed = false;
        while self.recent_seconds > RECENT_SECONDS && self.recent.len() > 1 {
            let Some(oldest) = self.recent.pop_front() else { break };
            self.recent_seconds -= oldest.seconds;
            if learn == Learn::Yes {
                changed |= self.learn(oldest);
            }
        }
        changed
    }

    fn learn(&mut self, tick: Timed<T>) -> bool {
        let cell = match self.growing.take() {
            Some(mut cell) => {
                cell.absorb(&tick);
                cell
            }
            None => tick,
        };
        // A hundredth of a second less, or else ticks of 199.9 ms would make cells of 1.2 s.
        if cell.seconds + 0.01 < CELL_SECONDS {
            self.growing = Some(cell);
            return false;
        }
        if self.cells.len() == CELLS_MAX {
            self.cells.pop_front();
        }
        self.cells.push_back(cell);
        true
    }

    /// The current window in one.
    #[must_use]
    pub fn current(&self) -> Timed<T> {
        self.since(CURRENT_SECONDS)
    }

    /// The last `seconds` in one.
    #[must_use]
    pub fn since(&self, seconds: f64) -> Timed<T> {
        let mut first = self.recent.len();
        let mut covered = 0.0;
        while first > 0 && covered + 0.01 < seconds {
            first -= 1;
            covered += self.recent[first].seconds;
        }
        let mut sum = Timed::default();
        for tick in self.recent.range(first..) {
            sum.absorb(tick);
        }
        sum
    }

    /// Tick by tick, oldest first.
    pub fn recent(&self) -> impl DoubleEndedIterator<Item = &Timed<T>> + Clone {
        self.recent.iter()
    }

    /// The baseline, oldest first.
    pub fn cells(&self) -> impl DoubleEndedIterator<Item = &Timed<T>> + Clone {
        self.cells.iter()
    }
}

/// Whether what leaves the recent ticks becomes part of the baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learn {
    /// All is well.
    Yes,
    /// Something may be wrong: the baseline is frozen.
    No,
}

/// What is usual on an edge.
#[derive(Clone, Debug, Default)]
pub struct EdgeNorm {
    /// Cells that had traffic.
    pub busy_cells: usize,
    /// Requests per second.
    pub request_rate: Norm,
    /// Requests per second, mean: what one pod loses of it, another may gain.
    pub request_rate_mean: f64,
    /// Answers per second, as [`EdgeFlow::best`] sees them.
    pub response_rate: f64,
    /// Median latency at the caller, milliseconds.
    pub client_ms: Norm,
    /// Mean latency at the caller, milliseconds.
    pub client_mean_ms: f64,
    /// Median latency at the callee, milliseconds.
    pub server_ms: Norm,
    /// The network's part, milliseconds.
    pub network_ms: Norm,
    /// Round-trip time, milliseconds.
    pub srtt_ms: Norm,
    /// Segments sent again per second.
    pub retransmit_rate: f64,
    /// Failed connection attempts per second.
    pub failure_rate: f64,
    /// Share of answers that are errors.
    pub error_ratio: f64,
    /// Errors per connection opened: some clients greet a server with commands that it does not know.
    pub errors_per_open: f64,
    /// Share of lookups that miss.
    pub miss_ratio: Norm,
}

/// Requests per second below which a cell is idle: less says nothing of a rate.
pub const BUSY_RATE: f64 = 1.0;

impl EdgeNorm {
    /// What the cells of `track` have in common.
    #[must_use]
    pub fn of(track: &Track<EdgeFlow>) -> Self {
        let rate = |cell: &Timed<EdgeFlow>| {
            cell.value
                .best()
                .map_or(0.0, |flow| f64::from(flow.requests) / cell.seconds)
        };
        let busy: Vec<&Timed<EdgeFlow>> = track.cells().filter(|cell| rate(cell) >= BUSY_RATE).collect();
        let seconds: f64 = busy.iter().map(|cell| cell.seconds).sum();
        let norm = |value: &dyn Fn(&EdgeFlow) -> Option<f64>| {
            Norm::of(busy.iter().filter_map(|cell| value(&cell.value)).collect())
        };
        let total =
            |value: &dyn Fn(&EdgeFlow) -> u32| busy.iter().map(|cell| f64::from(value(&cell.value))).sum::<f64>();
        let per_second = |count: f64| if seconds > 0.0 { count / seconds } else { 0.0 };
        let responses = total(&|edge| edge.at_server().map_or(0, |flow| flow.responses));
        let errors = total(&|edge| edge.at_server().map_or(0, |flow| flow.errors));
        let opened = total(&|edge| edge.at_server().map_or(0, |flow| flow.opened));
        Self {
            busy_cells: busy.len(),
            request_rate: Norm::of(busy.iter().map(|cell| rate(cell)).collect()),
            request_rate_mean: per_second(total(&|edge| edge.best().map_or(0, |flow| flow.requests))),
            response_rate: per_second(total(&|edge| edge.best().map_or(0, |flow| flow.responses))),
            client_ms: norm(&|edge| edge.client.as_ref()?.latency_ms()),
            client_mean_ms: norm(&|edge| edge.client.as_ref()?.latency_ms_mean()).median,
            server_ms: norm(&|edge| edge.server.as_ref()?.latency_ms()),
            network_ms: norm(&EdgeFlow::network_ms),
            srtt_ms: norm(&EdgeFlow::srtt_ms),
            retransmit_rate: per_second(total(&EdgeFlow::retransmits)),
            failure_rate: per_second(total(&|edge| edge.best().map_or(0, Flow::failed_connects))),
            error_ratio: if responses > 0.0 { errors / responses } else { 0.0 },
            errors_per_open: if opened > 0.0 { errors / opened } else { 0.0 },
            miss_ratio: norm(&miss_ratio),
        }
    }

    /// Enough was seen to call something unusual.
    #[must_use]
    pub fn learned(&self) -> bool {
        self.busy_cells >= CELLS_MIN
    }
}

/// Share of lookups that missed, of at least [`LOOKUPS_MIN`].
#[must_use]
pub fn miss_ratio(edge: &EdgeFlow) -> Option<f64> {
    let flow = edge.at_server()?;
    let lookups = flow.hits + flow.misses;
    (lookups >= LOOKUPS_MIN).then(|| f64::from(flow.misses) / f64::from(lookups))
}

/// Lookups without which a miss ratio says nothing: one of five missing by chance is not rare.
pub const LOOKUPS_MIN: u32 = 5;

/// What a pod or node usually uses.
#[derive(Clone, Debug, Default)]
pub struct UsageNorm {
    /// Cells seen.
    pub cell_count: usize,
    /// Cores busy.
    pub cores: Norm,
    /// Share of enforcement periods throttled.
    pub throttled_ratio: Norm,
    /// Seconds that tasks waited for a CPU, per second.
    pub wait: Norm,
    /// Seconds in which some task waited for memory, per second.
    pub memory_pressure: Norm,
    /// Seconds in which some task waited for block devices, per second.
    pub io_pressure: Norm,
    /// CPU limit, thousandths of a core; `None`: none or unknown.
    pub cpu_limit_millicores: Option<u32>,
}

impl UsageNorm {
    /// What the cells of `track` have in common.
    #[must_use]
    pub fn of(track: &Track<Usage>) -> Self {
        let norm = |value: &dyn Fn(&Usage) -> f64| {
            Norm::of(track.cells().map(|cell| value(&cell.value) / cell.seconds).collect())
        };
        Self {
            cell_count: track.cells().count(),
            cores: norm(&|usage| usage.cpu_ns as f64 / 1e9),
            throttled_ratio: Norm::of(track.cells().map(|cell| cell.value.throttled_ratio()).collect()),
            wait: norm(&|usage| usage.wait_ns as f64 / 1e9),
            memory_pressure: norm(&|usage| usage.memory_pressure_us as f64 / 1e6),
            io_pressure: norm(&|usage| usage.io_pressure_us as f64 / 1e6),
            cpu_limit_millicores: track
                .cells()
                .next_back()
                .and_then(|cell| cell.value.cpu_limit_millicores),
        }
    }
}

/// What usually enters at a service.
#[derive(Clone, Debug, Default)]
pub struct EntryNorm {
    /// Requests per second, of cells that were not idle.
    pub rate: Norm,
    /// The rate of the last few cells was one rate with chance about it: neither start-up nor a ramp.
    pub steady: bool,
}

/// Share of a rate by which the last few cells may differ and still be one rate: load generators are not that even.
const STEADY_RATIO: f64 = 0.3;
/// Standard deviations of chance (of the count in a cell) that they may differ by besides: five draws span two or three.
const STEADY_SIGMAS: f64 = 4.0;

impl EntryNorm {
    /// What the cells of `track` have in common.
    #[must_use]
    pub fn of(track: &Track<Entries>) -> Self {
        let rate = |cell: &Timed<Entries>| f64::from(cell.value.requests) / cell.seconds;
        let norm = Norm::of(track.cells().map(rate).filter(|&rate| rate >= BUSY_RATE).collect());
        let last: Vec<f64> = track.cells().rev().take(CELLS_MIN).map(rate).collect();
        let (low, high) = last.iter().fold((f64::MAX, 0.0_f64), |(low, high), &rate| {
            (low.min(rate), high.max(rate))
        });
        let chance = STEADY_RATIO * norm.median + STEADY_SIGMAS * norm.median.sqrt();
        Self {
            rate: norm,
            steady: last.len() == CELLS_MIN && high - low <= chance,
        }
    }
}
