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
    let passed_over = grown(now.passed_over, last.passed_over);
    let passed_over_answers = (passed_over + u32::from(last.is_passed_over_under_way()))
        .saturating_sub(u32::from(now.is_passed_over_under_way()));
    let responses = grown(now.responses, last.responses);
    // What the answers said that were looked into, all of them are taken to have said in the same shares.
    let of_all = |count: u32| count + scaled(count, passed_over_answers, responses);
    sample.requests += grown(now.requests, last.requests) + passed_over;
    sample.responses += responses + passed_over_answers;
    sample.errors += of_all(grown(now.errors, last.errors));
    sample.client_errors += of_all(grown(now.client_errors, last.client_errors));
    sample.hits += of_all(grown(now.hits, last.hits));
    sample.misses += of_all(grown(now.misses, last.misses));
    sample.unparsed += unparsed + encrypted;
    add_latency(&mut sample.latency, last, now);
    sample.outstanding += outstanding;
    if let (Some(age_ns), true) = (now.outstanding_age_ns(now_ns), outstanding > 0) {
        sample.outstanding_age_ns_max = sample.outstanding_age_ns_max.max(age_ns);
    }
}

/// Requests that were not timed: too many were under way, their answers were lost to the probes, or there was no time to
/// look into them.
pub(crate) fn untimed(last: &L7State, now: &L7State) -> u64 {
    let counts = [
        (now.untimed, last.untimed),
        (now.abandoned, last.abandoned),
        (now.passed_over, last.passed_over),
    ];
    counts.iter().map(|&(now, last)| u64::from(grown(now, last))).sum()
}

/// `count` times `part` in `whole`, rounded; 0 if there is no whole.
fn scaled(count: u32, part: u32, whole: u32) -> u32 {
    let (count, part, whole) = (u64::from(count), u64::from(part), u64::from(whole));
    let scaled = (count * part + whole / 2).checked_div(whole).unwrap_or(0);
    u32::try_from(scaled).unwrap_or(u32::MAX)
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

#[cfg(test)]
mod tests {
    use gauntlet_abi::l7::{Direction, L7State, on_segment, pass_over};

    use super::{add, untimed};
    use crate::frame::{L7Sample, SideSample};

    const GET: &[u8] = b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n";

    fn segment(state: &mut L7State, direction: Direction, bytes: &[u8], now_ns: u64, may_look: bool) {
        if direction == Direction::ToClient {
            state.to_client.sequence_end += bytes.len() as u32;
        }
        if !pass_over(state, direction, now_ns, state.to_client.sequence_end, |_| may_look) {
            on_segment(state, bytes, direction, bytes.len() as u32, now_ns);
        }
    }

    fn sample(last: &L7State, now: &L7State, now_ns: u64) -> L7Sample {
        let mut side = SideSample::default();
        add(&mut side, last, now, false, now_ns);
        side.l7.pop().expect("Redis")
    }

    #[test]
    fn requests_that_were_passed_over_count_as_those_looked_into() {
        let mut state: L7State = bytemuck::Zeroable::zeroed();
        let last = state;
        let mut now_ns = 1_000_000;
        for turn in 0..400 {
            let may_look = turn < 100;
            segment(&mut state, Direction::ToServer, GET, now_ns, may_look);
            let answer: &[u8] = if turn % 4 == 0 { b"$-1\r\n" } else { b"$1\r\na\r\n" };
            segment(&mut state, Direction::ToClient, answer, now_ns + 50_000, may_look);
            now_ns += 100_000;
        }
        segment(&mut state, Direction::ToServer, GET, now_ns, false);
        let sample = sample(&last, &state, now_ns + 7_000_000);
        assert_eq!((sample.requests, sample.responses, sample.outstanding), (401, 400, 1));
        assert_eq!((sample.hits, sample.misses, sample.errors), (300, 100, 0));
        assert_eq!(sample.outstanding_age_ns_max, 7_000_000);
        assert_eq!((sample.latency.count(), untimed(&last, &state)), (100, 301));

        // The next tick sees the answer to the one that was under way.
        let last = state;
        segment(
            &mut state,
            Direction::ToClient,
            b"$1\r\na\r\n",
            now_ns + 8_000_000,
            false,
        );
        let sample = super::tests::sample(&last, &state, now_ns + 9_000_000);
        assert_eq!((sample.requests, sample.responses, sample.outstanding), (0, 1, 0));
    }
}
