//! From a connection's parser state to requests, answers and their latency, per protocol.

use gauntlet_abi::LATENCY_BUCKETS;
use gauntlet_abi::l7::{self, L7State};

use crate::frame::{L7Sample, LatencyHistogram, MonotonicNanos, Protocol, SideSample};

/// Adds what changed between `last` and `now` to the sample of its protocol.
pub(crate) fn add(side: &mut SideSample, last: &L7State, now: &L7State, closed: bool, now_ns: MonotonicNanos) {
    let protocol = match now.protocol() {
        l7::Protocol::Unknown => Protocol::Unknown,
        l7::Protocol::Http1 => Protocol::Http1,
        l7::Protocol::Redis => Protocol::Redis,
        l7::Protocol::Postgres => Protocol::Postgres,
        l7::Protocol::Encrypted => Protocol::Encrypted,
    };
    // What a closed connection still waits for will never come.
    let outstanding = if closed { 0 } else { now.outstanding() };
    let unparsed = grown(now.unparsed(), last.unparsed());
    let encrypted = grown(now.encrypted(), last.encrypted());
    if protocol == Protocol::Unknown && unparsed + encrypted == 0 {
        return;
    }
    let index = side
        .l7
        .iter()
        .position(|sample| sample.protocol == protocol)
        .unwrap_or_else(|| {
            side.l7.push(empty(protocol));
            side.l7.len() - 1
        });
    let sample = &mut side.l7[index];
    sample.requests += grown(now.requests, last.requests);
    sample.responses += grown(now.responses, last.responses);
    sample.errors += grown(now.errors, last.errors);
    sample.client_errors += grown(now.client_errors, last.client_errors);
    sample.hits += grown(now.hits, last.hits);
    sample.misses += grown(now.misses, last.misses);
    sample.unparsed += unparsed + encrypted;
    add_latency(&mut sample.latency, last, now);
    sample.outstanding += outstanding;
    if let (Some(age_ns), true) = (now.outstanding_age_ns(now_ns), outstanding > 0) {
        sample.outstanding_age_ns_max = sample.outstanding_age_ns_max.max(age_ns);
    }
}

/// Requests that were not timed: too many were under way, or their answers were lost to the probes.
pub(crate) fn untimed(last: &L7State, now: &L7State) -> u64 {
    u64::from(grown(now.untimed, last.untimed)) + u64::from(grown(now.abandoned, last.abandoned))
}

fn add_latency(histogram: &mut LatencyHistogram, last: &L7State, now: &L7State) {
    for bucket in 0..LATENCY_BUCKETS {
        let count = grown(now.latency[bucket], last.latency[bucket]);
        if let (Ok(bucket), true) = (u8::try_from(bucket), count > 0) {
            histogram.add(bucket, count);
        }
    }
}

/// The kernel's counters wrap.
fn grown(now: u32, last: u32) -> u32 {
    now.wrapping_sub(last)
}

fn empty(protocol: Protocol) -> L7Sample {
    L7Sample {
        protocol,
        requests: 0,
        responses: 0,
        errors: 0,
        client_errors: 0,
        hits: 0,
        misses: 0,
        latency: LatencyHistogram::default(),
        outstanding: 0,
        outstanding_age_ns_max: 0,
        unparsed: 0,
    }
}
