//! What one tick says of one edge, pod or node, as plain numbers that can be added up over time.
//!
//! Does not know what is usual; see [`crate::window`].

use gauntlet_probes::frame::{EdgeSample, LatencyHistogram, Protocol, SideSample, UsageSample};

/// Numbers that add up over time. Counters add, gauges keep their latest value.
pub trait Accumulate: Clone + Default {
    /// Takes in what came later.
    fn absorb(&mut self, later: &Self);
}

/// One side's view of an edge, over some time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Flow {
    /// Connections tried.
    pub attempted: u32,
    /// Connections opened.
    pub opened: u32,
    /// Attempts that were refused.
    pub refused: u32,
    /// Attempts that found no way to the host.
    pub unreachable: u32,
    /// Attempts that nobody answered in time.
    pub timed_out: u32,
    /// Attempts that failed otherwise.
    pub failed_otherwise: u32,
    /// Connections closed.
    pub closed: u32,
    /// Errors of open connections.
    pub broken: u32,
    /// Handshake segments sent again.
    pub handshake_retransmits: u32,
    /// Other segments sent again.
    pub established_retransmits: u32,
    /// Of all retransmissions, those refused by a filter on this side.
    pub denied_retransmits: u32,
    /// Of handshake retransmissions, those whose first copy still waits for a link-layer neighbour.
    pub neighbour_retransmits: u32,
    /// Of all retransmissions, those that this side's own queue dropped, or whose first copy is still in it.
    pub queue_retransmits: u32,
    /// SYN-ACKs sent again.
    pub synack_retransmits: u32,
    /// Requests.
    pub requests: u32,
    /// Answers.
    pub responses: u32,
    /// Answers that say that the server failed.
    pub errors: u32,
    /// Lookups that found a value.
    pub hits: u32,
    /// Lookups that found none.
    pub misses: u32,
    /// Time from request to answer.
    pub latency: LatencyHistogram,
    /// Sum of the ticks' median round-trip times, microseconds.
    pub srtt_us_sum: u64,
    /// Ticks in that sum.
    pub srtt_ticks: u32,
    /// Protocol spoken, where it is known.
    pub protocol: Option<Protocol>,
    /// Gauge: open connections.
    pub open: u32,
    /// Gauge: age of the oldest handshake under way, nanoseconds.
    pub opening_age_ns: u64,
    /// Gauge: connections whose data the process has not read.
    pub unread_connections: u32,
    /// Gauge: age of the oldest unread data, nanoseconds.
    pub unread_age_ns: u64,
    /// Gauge: connections that the process has not accepted.
    pub accept_backlog: u32,
    /// Gauge: requests without an answer.
    pub outstanding: u32,
    /// Gauge: age of the oldest of them, nanoseconds.
    pub outstanding_age_ns: u64,
}

impl Flow {
    /// The numbers of one side.
    #[must_use]
    pub fn of(side: &SideSample) -> Self {
        let mut flow = Self {
            attempted: side.connects_attempted,
            opened: side.connects_opened,
            closed: side.connects_closed,
            broken: side.errors.iter().map(|&(_, count)| count).sum(),
            synack_retransmits: side.synack_retransmits,
            srtt_us_sum: side.srtt_us_median.map_or(0, u64::from),
            srtt_ticks: u32::from(side.srtt_us_median.is_some()),
            open: side.open,
            opening_age_ns: side.opening_age_ns_max,
            unread_connections: side.unread_connections,
            unread_age_ns: side.unread_age_ns_max,
            accept_backlog: side.accept_backlog,
            ..Self::default()
        };
        for &(errno, count) in &side.connects_failed {
            match errno {
                111 => flow.refused += count,
                113 | 101 => flow.unreachable += count,
                0 | 110 => flow.timed_out += count,
                _ => flow.failed_otherwise += count,
            }
        }
        for retransmit in &side.retransmits {
            if retransmit.handshake {
                flow.handshake_retransmits += retransmit.count;
            } else {
                flow.established_retransmits += retransmit.count;
            }
            match retransmit.error {
                Some(-1) => flow.denied_retransmits += retransmit.count,
                // The kernel refuses to send a second copy while the first is still in a queue below it.
                Some(-16) if retransmit.handshake => flow.neighbour_retransmits += retransmit.count,
                Some(-16 | 1) => flow.queue_retransmits += retransmit.count,
                Some(_) | None => (),
            }
        }
        for l7 in &side.l7 {
            flow.requests += l7.requests;
            flow.responses += l7.responses;
            flow.errors += l7.errors;
            flow.hits += l7.hits;
            flow.misses += l7.misses;
            flow.latency.merge(&l7.latency);
            flow.outstanding += l7.outstanding;
            flow.outstanding_age_ns = flow.outstanding_age_ns.max(l7.outstanding_age_ns_max);
            if !matches!(l7.protocol, Protocol::Unknown) {
                flow.protocol = Some(l7.protocol);
            }
        }
        flow
    }

    /// Attempts to connect that failed, for any reason.
    #[must_use]
    pub fn failed_connects(&self) -> u32 {
        self.refused + self.unreachable + self.timed_out + self.failed_otherwise
    }

    /// Segments sent again, of any kind.
    #[must_use]
    pub fn retransmits(&self) -> u32 {
        self.handshake_retransmits + self.established_retransmits + self.synack_retransmits
    }

    /// Median latency, milliseconds.
    #[must_use]
    pub fn latency_ms(&self) -> Option<f64> {
        self.latency.quantile_us(0.5).map(|us| us / 1e3)
    }

    /// Mean latency, milliseconds.
    #[must_use]
    pub fn latency_ms_mean(&self) -> Option<f64> {
        self.latency.mean_us().map(|us| us / 1e3)
    }

    /// Mean of the ticks' median round-trip times, milliseconds.
    #[must_use]
    pub fn srtt_ms(&self) -> Option<f64> {
        (self.srtt_ticks > 0).then(|| self.srtt_us_sum as f64 / f64::from(self.srtt_ticks) / 1e3)
    }

    /// Something failed at the level of connections.
    #[must_use]
    pub fn troubled(&self) -> bool {
        self.failed_connects() > 0 || self.retransmits() > 0 || self.broken > 0
    }
}

impl Accumulate for Flow {
    fn absorb(&mut self, later: &Self) {
        self.attempted += later.attempted;
        self.opened += later.opened;
        self.refused += later.refused;
        self.unreachable += later.unreachable;
        self.timed_out += later.timed_out;
        self.failed_otherwise += later.failed_otherwise;
        self.closed += later.closed;
        self.broken += later.broken;
        self.handshake_retransmits += later.handshake_retransmits;
        self.established_retransmits += later.established_retransmits;
        self.denied_retransmits += later.denied_retransmits;
        self.neighbour_retransmits += later.neighbour_retransmits;
        self.queue_retransmits += later.queue_retransmits;
        self.synack_retransmits += later.synack_retransmits;
        self.requests += later.requests;
        self.responses += later.responses;
        self.errors += later.errors;
        self.hits += later.hits;
        self.misses += later.misses;
        self.latency.merge(&later.latency);
        self.srtt_us_sum += later.srtt_us_sum;
        self.srtt_ticks += later.srtt_ticks;
        self.protocol = later.protocol.or(self.protocol);
        self.open = later.open;
        self.opening_age_ns = later.opening_age_ns;
        self.unread_connections = later.unread_connections;
        self.unread_age_ns = later.unread_age_ns;
        self.accept_backlog = later.accept_backlog;
        self.outstanding = later.outstanding;
        self.outstanding_age_ns = later.outstanding_age_ns;
    }
}

/// An edge over some time, from both ends.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EdgeFlow {
    /// At the caller's sockets; `None`: not visible.
    pub client: Option<Flow>,
    /// At the callee's sockets; `None`: not visible.
    pub server: Option<Flow>,
    /// Packets of this edge that something other than a queue dropped.
    pub dropped: u32,
}

impl EdgeFlow {
    /// The numbers of one sample.
    #[must_use]
    pub fn of(sample: &EdgeSample) -> Self {
        Self {
            client: sample.client.as_ref().map(Flow::of),
            server: sample.server.as_ref().map(Flow::of),
            dropped: 0,
        }
    }

    /// The caller's view, or the callee's where the caller cannot be seen.
    #[must_use]
    pub fn best(&self) -> Option<&Flow> {
        self.client.as_ref().or(self.server.as_ref())
    }

    /// The callee's view, or the caller's where the callee cannot be seen.
    #[must_use]
    pub fn at_server(&self) -> Option<&Flow> {
        self.server.as_ref().or(self.client.as_ref())
    }

    /// Both views.
    pub fn sides(&self) -> impl Iterator<Item = &Flow> {
        self.client.iter().chain(&self.server)
    }

    /// Segments sent again by either side.
    #[must_use]
    pub fn retransmits(&self) -> u32 {
        self.sides().map(Flow::retransmits).sum()
    }

    /// Requests and connections of the caller that came to nothing (those under way are counted too).
    #[must_use]
    pub fn vain(&self) -> u32 {
        self.best().map_or(0, |flow| {
            flow.failed_connects() + flow.requests.saturating_sub(flow.responses) + flow.handshake_retransmits
        })
    }

    /// Something failed at the level of connections, at either end or between.
    #[must_use]
    pub fn troubled(&self) -> bool {
        self.dropped > 0 || self.sides().any(Flow::troubled)
    }

    /// The network's part of the latency of quick requests: what the caller saw beyond what the callee took,
    /// milliseconds. A delay slows the quick ones too; loss and stalls do not.
    #[must_use]
    pub fn network_ms(&self) -> Option<f64> {
        let quick = |flow: &Flow| flow.latency.quantile_us(QUICK_QUANTILE).map(|us| us / 1e3);
        let (client, server) = (quick(self.client.as_ref()?)?, quick(self.server.as_ref()?)?);
        Some((client - server).max(0.0))
    }

    /// Round-trip time as either side measured it (the larger), milliseconds.
    #[must_use]
    pub fn srtt_ms(&self) -> Option<f64> {
        self.sides().filter_map(Flow::srtt_ms).reduce(f64::max)
    }
}

/// Quantile of latency that stands for the quick requests.
const QUICK_QUANTILE: f64 = 0.25;

impl Accumulate for EdgeFlow {
    fn absorb(&mut self, later: &Self) {
        absorb_side(&mut self.client, later.client.as_ref());
        absorb_side(&mut self.server, later.server.as_ref());
        self.dropped += later.dropped;
    }
}

/// A side that is not in a tick had nothing to tell: its gauges fall to zero, its counters stay.
fn absorb_side(side: &mut Option<Flow>, later: Option<&Flow>) {
    match (side.as_mut(), later) {
        (Some(side), Some(later)) => side.absorb(later),
        (Some(side), None) => side.absorb(&Flow::default()),
        (None, Some(later)) => *side = Some(later.clone()),
        (None, None) => (),
    }
}

/// Requests that enter the cluster at a service, over some time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entries {
    /// How many.
    pub requests: u32,
}

impl Accumulate for Entries {
    fn absorb(&mut self, later: &Self) {
        self.requests += later.requests;
    }
}

/// Resources of a pod or node, over some time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Usage {
    /// CPU time, nanoseconds.
    pub cpu_ns: u64,
    /// CPU limit, thousandths of a core.
    pub cpu_limit_millicores: Option<u32>,
    /// Enforcement periods.
    pub periods: u32,
    /// Of these, throttled.
    pub throttled_periods: u32,
    /// Time throttled, nanoseconds.
    pub throttled_ns: u64,
    /// Time that runnable tasks waited, nanoseconds.
    pub wait_ns: u64,
    /// Time in which some task waited for CPU, microseconds.
    pub cpu_pressure_us: u64,
    /// Memory in use, bytes.
    pub memory_bytes: Option<u64>,
    /// Memory limit, bytes.
    pub memory_limit_bytes: Option<u64>,
    /// Time in which some task waited for memory, microseconds.
    pub memory_pressure_us: u64,
    /// Time in which some task waited for block devices, microseconds.
    pub io_pressure_us: u64,
    /// Processes.
    pub process_count: Option<u32>,
}

impl Usage {
    /// The numbers of one sample.
    #[must_use]
    pub fn of(sample: &UsageSample) -> Self {
        Self {
            cpu_ns: sample.cpu_ns.unwrap_or(0),
            cpu_limit_millicores: sample.cpu_limit_millicores,
            periods: sample.cpu_periods.unwrap_or(0),
            throttled_periods: sample.cpu_throttled_periods.unwrap_or(0),
            throttled_ns: sample.cpu_throttled_ns.unwrap_or(0),
            wait_ns: sample.run_queue_wait_ns.unwrap_or(0),
            cpu_pressure_us: sample.cpu_pressure_us.unwrap_or(0),
            memory_bytes: sample.memory_bytes,
            memory_limit_bytes: sample.memory_limit_bytes,
            memory_pressure_us: sample.memory_pressure_us.unwrap_or(0),
            io_pressure_us: sample.io_pressure_us.unwrap_or(0),
            process_count: sample.process_count,
        }
    }

    /// Share of enforcement periods that were throttled.
    #[must_use]
    pub fn throttled_ratio(&self) -> f64 {
        if self.periods == 0 {
            0.0
        } else {
            f64::from(self.throttled_periods) / f64::from(self.periods)
        }
    }
}

impl Accumulate for Usage {
    fn absorb(&mut self, later: &Self) {
        self.cpu_ns += later.cpu_ns;
        self.periods += later.periods;
        self.throttled_periods += later.throttled_periods;
        self.throttled_ns += later.throttled_ns;
        self.wait_ns += later.wait_ns;
        self.cpu_pressure_us += later.cpu_pressure_us;
        self.memory_pressure_us += later.memory_pressure_us;
        self.io_pressure_us += later.io_pressure_us;
        self.cpu_limit_millicores = later.cpu_limit_millicores;
        self.memory_bytes = later.memory_bytes.or(self.memory_bytes);
        self.memory_limit_bytes = later.memory_limit_bytes.or(self.memory_limit_bytes);
        self.process_count = later.process_count.or(self.process_count);
    }
}
