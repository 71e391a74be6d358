//! From the kernel's table of name look-ups to samples under the names of the inventory.

use std::collections::{BTreeMap, HashMap};

use gauntlet_abi::LATENCY_BUCKETS;
use gauntlet_abi::record::{DnsCounts, DnsPair, DnsQuery, DnsQueryKey};

use crate::entity::Peer;
use crate::frame::{DnsSample, LatencyHistogram, MonotonicNanos};
use crate::identity::{Identity, ip_of};

/// A question without an answer for this long is counted as unanswered.
const ANSWER_AGE_MAX_NS: u64 = 2_000_000_000;

/// Last values of each pair, and what is known of namespaces' cookies.
#[derive(Default)]
pub(crate) struct NameLookups {
    known: HashMap<DnsPair, Box<DnsCounts>>,
    netns_by_cookie: HashMap<u64, u32>,
}

impl NameLookups {
    /// Learns the inode behind a namespace's cookie.
    pub(crate) fn learn(&mut self, cookie: u64, netns: u32) {
        if cookie != 0 && netns != 0 {
            self.netns_by_cookie.insert(cookie, netns);
        }
    }

    /// Takes in both tables as they stand; returns the samples and the questions that may be deleted.
    pub(crate) fn tick(
        &mut self,
        now_ns: MonotonicNanos,
        pairs: &[(DnsPair, DnsCounts)],
        queries: &[(DnsQueryKey, DnsQuery)],
        identity: &Identity,
    ) -> (Vec<DnsSample>, Vec<DnsQueryKey>) {
        let mut samples: BTreeMap<(Peer, Peer), DnsSample> = BTreeMap::new();
        for (pair, counts) in pairs {
            let last = self
                .known
                .entry(*pair)
                .or_insert_with(|| Box::new(bytemuck::Zeroable::zeroed()));
            let change = change(last, counts);
            **last = *counts;
            if let (Some(ends), true) = (ends(&self.netns_by_cookie, pair, identity), change.0 + change.1 > 0) {
                add(sample(&mut samples, ends), &change);
            }
        }
        let mut overdue = Vec::new();
        for (key, query) in queries {
            if now_ns.saturating_sub(query.asked_ns) < ANSWER_AGE_MAX_NS {
                continue;
            }
            overdue.push(*key);
            if let Some(ends) = ends(&self.netns_by_cookie, &query.pair, identity) {
                sample(&mut samples, ends).unanswered += 1;
            }
        }
        (samples.into_values().collect(), overdue)
    }
}

/// Queries, responses, nxdomain, failures, latency.
type Change = (u32, u32, u32, u32, LatencyHistogram);

fn change(last: &DnsCounts, counts: &DnsCounts) -> Change {
    let grown = |new: u64, old: u64| u32::try_from(new.saturating_sub(old)).unwrap_or(u32::MAX);
    let mut latency = LatencyHistogram::default();
    for bucket in 0..LATENCY_BUCKETS {
        let count = counts.latency[bucket].wrapping_sub(last.latency[bucket]);
        if let (Ok(bucket), true) = (u8::try_from(bucket), count > 0) {
            latency.add(bucket, count);
        }
    }
    (
        grown(counts.queries, last.queries),
        grown(counts.responses, last.responses),
        grown(counts.nxdomain, last.nxdomain),
        grown(counts.failures, last.failures),
        latency,
    )
}

fn add(sample: &mut DnsSample, (queries, responses, nxdomain, failures, latency): &Change) {
    sample.queries += queries;
    sample.responses += responses;
    sample.nxdomain += nxdomain;
    sample.failures += failures;
    sample.latency.merge(latency);
}

fn sample(samples: &mut BTreeMap<(Peer, Peer), DnsSample>, (client, server): (Peer, Peer)) -> &mut DnsSample {
    samples
        .entry((client.clone(), server.clone()))
        .or_insert_with(|| DnsSample {
            client,
            server,
            queries: 0,
            responses: 0,
            nxdomain: 0,
            failures: 0,
            unanswered: 0,
            latency: LatencyHistogram::default(),
        })
}

fn ends(netns_by_cookie: &HashMap<u64, u32>, pair: &DnsPair, identity: &Identity) -> Option<(Peer, Peer)> {
    let (client_ip, server_ip) = (ip_of(pair.client), ip_of(pair.server));
    if client_ip.is_loopback() || server_ip.is_loopback() {
        return None;
    }
    // Until a TCP socket has told the inode behind the cookie, the address decides.
    let netns = netns_by_cookie.get(&pair.netns_cookie).copied().unwrap_or(0);
    let client = identity.local(netns, client_ip)?;
    if matches!(client, Peer::External(_)) {
        return None;
    }
    Some((client, identity.remote_peer(server_ip)))
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable as _;
    use gauntlet_abi::record::{DnsCounts, DnsPair, DnsQuery, DnsQueryKey};

    use super::NameLookups;
    use crate::identity::tests::{cluster, pod};

    fn mapped(ip: [u8; 4]) -> [u8; 16] {
        std::net::Ipv4Addr::from(ip).to_ipv6_mapped().octets()
    }

    #[test]
    fn counts_are_of_the_tick_and_overdue_questions_are_unanswered_once() {
        let identity = cluster();
        let pair = DnsPair {
            netns_cookie: 7,
            client: mapped([10, 1, 0, 1]),
            server: mapped([10, 0, 0, 53]),
        };
        let mut counts = DnsCounts::zeroed();
        counts.queries = 3;
        counts.responses = 2;
        counts.nxdomain = 1;
        counts.latency[10] = 2;
        let query = (
            DnsQueryKey {
                cookie: 1,
                transaction: 9,
                reserved: 0,
            },
            DnsQuery { asked_ns: 1_000, pair },
        );
        let mut lookups = NameLookups::default();
        let (samples, overdue) = lookups.tick(2_000, &[(pair, counts)], &[query], &identity);
        assert_eq!(
            (samples[0].client.clone(), samples[0].queries, samples[0].nxdomain),
            (pod("web-0"), 3, 1)
        );
        assert_eq!(samples[0].latency.count(), 2);
        assert!(overdue.is_empty());
        let (samples, overdue) = lookups.tick(3_000_000_000, &[(pair, counts)], &[query], &identity);
        assert_eq!((samples[0].queries, samples[0].unanswered, overdue.len()), (0, 1, 1));
        // The same address in another cluster's namespace is nobody.
        lookups.learn(7, 99);
        assert!(lookups.tick(3_000_000_000, &[], &[query], &identity).0.is_empty());
    }
}
