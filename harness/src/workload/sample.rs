//! What users saw in each second: how many were served, how many were not and why, and how long they waited.
//!
//! A request counts as sent in the second in which it was due, and as served or failed in the second in which that was known.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Longest wait that is told apart, microseconds; longer ones count as this.
const LATENCY_US_MAX: u64 = 60_000_000;
/// Decimal digits to which a wait is kept.
const SIGNIFICANT_DIGITS: u8 = 2;

/// What users saw in one second.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecondSample {
    /// Start of the second on CLOCK_MONOTONIC.
    pub at_ns: u64,
    /// Requests that were due in it and sent.
    pub sent: u64,
    /// Requests that were answered well in it.
    pub ok: u64,
    /// Requests that failed in it, by kind.
    pub errors: BTreeMap<ErrorKind, u64>,
    /// How long users waited whose answer came, or who gave up, in it.
    pub latency: Latency,
}

impl SecondSample {
    /// Requests that failed.
    #[must_use]
    pub fn error_count(&self) -> u64 {
        self.errors.values().sum()
    }
}

/// How a request fails for its user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorKind {
    /// No connection: refused or unreachable.
    Connect,
    /// No answer, and the user gave up.
    Timeout,
    /// The connection broke before the answer was whole.
    Broken,
    /// Status 502.
    BadGateway,
    /// Status 503.
    Unavailable,
    /// Status 504.
    GatewayTimeout,
    /// Any other status that is no success.
    OtherStatus,
    /// Not sent, because too many were in flight.
    Saturated,
}

impl ErrorKind {
    /// The kind of a status, or none when it is a success.
    #[must_use]
    pub fn of_status(status: u16) -> Option<Self> {
        match status {
            200..=299 => None,
            502 => Some(Self::BadGateway),
            503 => Some(Self::Unavailable),
            504 => Some(Self::GatewayTimeout),
            _ => Some(Self::OtherStatus),
        }
    }
}

/// How long users waited: those who were answered well, and those who gave up (as long as they had patience). A failure that
/// comes at once is no short wait, so other errors do not count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Latency {
    /// Waits.
    pub count: u64,
    /// Half waited no longer.
    pub p50_us: u64,
    /// Nine of ten waited no longer.
    pub p90_us: u64,
    /// 99 of 100 waited no longer.
    pub p99_us: u64,
    /// The longest wait.
    pub max_us: u64,
    /// The histogram: microseconds (to two digits) and count, for those with a count. Lets seconds be merged.
    pub buckets: Vec<(u64, u64)>,
}

impl Latency {
    /// The waits of several seconds together.
    #[must_use]
    pub fn merge<'a>(parts: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut histogram = new_histogram();
        for (value_us, count) in parts.into_iter().flat_map(|part| part.buckets.iter().copied()) {
            histogram.saturating_record_n(value_us, count);
        }
        Self::of(&histogram)
    }

    fn of(histogram: &Histogram<u64>) -> Self {
        if histogram.is_empty() {
            return Self::default();
        }
        let quantile = |quantile| histogram.value_at_quantile(quantile).min(histogram.max());
        Self {
            count: histogram.len(),
            p50_us: quantile(0.5),
            p90_us: quantile(0.9),
            p99_us: quantile(0.99),
            max_us: histogram.max(),
            buckets: histogram
                .iter_recorded()
                .map(|v| (v.value_iterated_to(), v.count_at_value()))
                .collect(),
        }
    }
}

/// Collects the current second.
#[derive(Debug)]
pub(super) struct Collector {
    at_ns: u64,
    sent: u64,
    ok: u64,
    errors: BTreeMap<ErrorKind, u64>,
    latency: Histogram<u64>,
}

impl Collector {
    pub(super) fn new(at_ns: u64) -> Self {
        Self {
            at_ns,
            sent: 0,
            ok: 0,
            errors: BTreeMap::new(),
            latency: new_histogram(),
        }
    }

    pub(super) fn record_sent(&mut self) {
        self.sent += 1;
    }

    pub(super) fn record(&mut self, outcome: Result<(), ErrorKind>, wait_us: u64) {
        match outcome {
            Ok(()) => {
                self.ok += 1;
                self.latency.saturating_record(wait_us);
            }
            Err(kind) => {
                *self.errors.entry(kind).or_default() += 1;
                if kind == ErrorKind::Timeout {
                    self.latency.saturating_record(wait_us);
                }
            }
        }
    }

    /// The sample of the second that is over, and a beginning of the next.
    pub(super) fn close(&mut self) -> SecondSample {
        let next = Self::new(self.at_ns + 1_000_000_000);
        let Self {
            at_ns,
            sent,
            ok,
            errors,
            latency,
        } = std::mem::replace(self, next);
        SecondSample {
            at_ns,
            sent,
            ok,
            errors,
            latency: Latency::of(&latency),
        }
    }

    pub(super) fn ends_at_ns(&self) -> u64 {
        self.at_ns + 1_000_000_000
    }
}

fn new_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_US_MAX, SIGNIFICANT_DIGITS).expect("the bounds are constants that it accepts")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_is_summed_up_and_merged_again() {
        let mut collector = Collector::new(5);
        for wait_ms in 1..=100 {
            collector.record_sent();
            collector.record(Ok(()), wait_ms * 1000);
        }
        collector.record(Err(ErrorKind::BadGateway), 1);
        collector.record(Err(ErrorKind::Timeout), 3_000_000);
        let sample = collector.close();
        assert_eq!(
            (sample.at_ns, sample.sent, sample.ok, sample.error_count()),
            (5, 100, 100, 2)
        );
        // Two digits: within one part in a hundred. The fast error is no wait, the timeout is.
        assert!(sample.latency.p50_us.abs_diff(51_000) < 1000, "{:?}", sample.latency);
        assert!(sample.latency.max_us >= 3_000_000);
        assert_eq!(collector.close().at_ns, 1_000_000_005);
        let twice = Latency::merge([&sample.latency, &sample.latency]);
        assert_eq!(
            (twice.count, twice.p50_us),
            (2 * sample.latency.count, sample.latency.p50_us)
        );
        let json = serde_json::to_string(&sample).expect("serialisable");
        assert_eq!(
            serde_json::from_str::<SecondSample>(&json).expect("the same format"),
            sample
        );
    }
}
