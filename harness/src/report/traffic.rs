//! Who called whom, how often and how well, before the fault and during it: recorded frames summed up by service.
//!
//! Knows the inventory that was recorded, never the truth: what is drawn of it is what could be discovered.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::path::Path;

use gauntlet_probes::entity::{InventoryLine, NodeName, Peer, PodName, ServiceName};
use gauntlet_probes::frame::{EdgeSample, Frame, LatencyHistogram, SideSample};
use gauntlet_probes::recording::{Record, RecordingError, RecordingReader};

use super::text::seconds_of;
use crate::clock::MonotonicNanos;

/// The two stretches of time that are compared: after the first moment, until the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    /// Normal operation.
    pub before: (MonotonicNanos, MonotonicNanos),
    /// The fault is there.
    pub during: (MonotonicNanos, MonotonicNanos),
}

/// Calls between services, as recorded.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Traffic {
    /// Each pair of caller and callee, in their order.
    pub calls: Vec<Call>,
    /// Why the recording was not read to its end; `None`: it was.
    pub cut_short: Option<String>,
}

/// Calls of one caller to one callee.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// Who calls.
    pub caller: End,
    /// Who is called.
    pub callee: End,
    /// In normal operation.
    pub before: Rates,
    /// While the fault was there.
    pub during: Rates,
}

/// One end of a call.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// Whatever is not of the cluster: the users.
    Outside,
    /// A service.
    Service(ServiceName),
    /// A node itself.
    Node(NodeName),
    /// A virtual address without a known pod.
    Virtual(String),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Outside => f.write_str("users"),
            Self::Service(name) => name.fmt(f),
            Self::Node(name) => write!(f, "node {name}"),
            Self::Virtual(name) => write!(f, "address {name}"),
        }
    }
}

/// Calls over a stretch of time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// Requests, and connections that never came to one, per second.
    pub attempts_per_s: f64,
    /// Of these: unanswered, answered with an error, or not connected.
    pub failures_per_s: f64,
    /// Median time to an answer, microseconds; `None` without answers.
    pub p50_us: Option<f64>,
}

impl Rates {
    /// Failures per attempt, 0 to 1; `None` without attempts.
    #[must_use]
    pub fn failure_ratio(&self) -> Option<f64> {
        (self.attempts_per_s > 0.0).then(|| (self.failures_per_s / self.attempts_per_s).min(1.0))
    }
}

impl Traffic {
    /// Sums up a recording. A recording that breaks off is used as far as it goes, and says so.
    ///
    /// # Errors
    /// When the file cannot be opened or is no recording that this version can read.
    pub fn read(path: &Path, windows: Windows) -> Result<Self, RecordingError> {
        let mut ledger = Ledger::new(windows);
        let mut cut_short = None;
        for record in RecordingReader::new(File::open(path)?)? {
            match record {
                Ok(record) => ledger.record(&record),
                Err(error) => cut_short = Some(crate::doctor::error_chain(&error)),
            }
        }
        Ok(Self {
            cut_short,
            ..ledger.close()
        })
    }
}

/// Sums up records as they come.
#[derive(Debug)]
struct Ledger {
    windows: Windows,
    owners: BTreeMap<PodName, ServiceName>,
    /// The pods behind each virtual name; pods may be told after the services that they stand behind.
    behind: BTreeMap<String, Vec<PodName>>,
    totals: BTreeMap<(End, End), [Total; 2]>,
    watched_ns: [u64; 2],
}

#[derive(Clone, Debug, Default)]
struct Total {
    requests: u64,
    responses: u64,
    errors: u64,
    unconnected: u64,
    latency: LatencyHistogram,
    /// Requests under way in the last frame that had any of these calls, and that frame's number.
    under_way: u64,
    last_seq: u64,
}

impl Ledger {
    fn new(windows: Windows) -> Self {
        Self {
            windows,
            owners: BTreeMap::new(),
            behind: BTreeMap::new(),
            totals: BTreeMap::new(),
            watched_ns: [0; 2],
        }
    }

    fn record(&mut self, record: &Record) {
        if let Record::Inventory(line) = record {
            self.inventory(line);
        }
        if let Record::Frame(frame) = record {
            self.frame(frame);
        }
    }

    fn inventory(&mut self, line: &InventoryLine) {
        match line {
            InventoryLine::Pod(pod) => {
                let service = pod.service.clone();
                self.owners.extend(service.map(|service| (pod.name.clone(), service)));
            }
            InventoryLine::Service(service) => {
                self.behind.insert(service.name.clone(), service.endpoints.clone());
            }
            // What is gone was there, and keeps its calls.
            InventoryLine::Node(_)
            | InventoryLine::PodGone { .. }
            | InventoryLine::ServiceGone { .. }
            | InventoryLine::Ready { .. } => (),
        }
    }

    fn frame(&mut self, frame: &Frame) {
        let within = |(from_ns, to_ns): (u64, u64)| frame.at_ns > from_ns && frame.at_ns <= to_ns;
        let Some(window) = [self.windows.before, self.windows.during].into_iter().position(within) else {
            return;
        };
        self.watched_ns[window] += frame.span_ns;
        for edge in &frame.edges {
            let ends = (self.end(&edge.caller), self.end(&edge.callee));
            if ends.0 != ends.1 {
                self.totals.entry(ends).or_default()[window].add(frame.seq, edge);
            }
        }
    }

    fn end(&self, peer: &Peer) -> End {
        let service = match peer {
            Peer::Pod(pod) => Some(self.owners.get(pod).cloned().unwrap_or_else(|| pod.as_str().into())),
            Peer::Service(name) => {
                let pods = self.behind.get(name).map(Vec::as_slice).unwrap_or_default();
                pods.iter().find_map(|pod| self.owners.get(pod)).cloned()
            }
            Peer::Node(_) | Peer::External(_) => None,
        };
        match (service, peer) {
            (Some(service), _) => End::Service(service),
            (None, Peer::Node(node)) => End::Node(node.clone()),
            (None, Peer::Service(name)) => End::Virtual(name.clone()),
            (None, Peer::Pod(_) | Peer::External(_)) => End::Outside,
        }
    }

    fn close(self) -> Traffic {
        let watched_ns = self.watched_ns;
        let calls = self
            .totals
            .into_iter()
            .map(|((caller, callee), [before, during])| Call {
                caller,
                callee,
                during: during.over(watched_ns[1], before.under_way),
                before: before.over(watched_ns[0], 0),
            });
        Traffic {
            // Connections that were held open without a request are no calls.
            calls: calls
                .filter(|call| call.before.attempts_per_s + call.during.attempts_per_s > 0.0)
                .collect(),
            cut_short: None,
        }
    }
}

impl Total {
    /// The caller's view where there is one: it also knows of what never arrived.
    fn add(&mut self, seq: u64, edge: &EdgeSample) {
        let Some(side) = edge.client.as_ref().or(edge.server.as_ref()) else {
            return;
        };
        if self.last_seq != seq {
            (self.last_seq, self.under_way) = (seq, 0);
        }
        self.unconnected += unconnected(side);
        for l7 in &side.l7 {
            self.requests += u64::from(l7.requests);
            self.responses += u64::from(l7.responses);
            self.errors += u64::from(l7.errors);
            self.under_way += u64::from(l7.outstanding);
            self.latency.merge(&l7.latency);
        }
    }

    /// Rates over a window into which `carried` requests were carried without an answer.
    #[expect(clippy::cast_precision_loss, reason = "requests of a run")]
    fn over(&self, watched_ns: u64, carried: u64) -> Rates {
        if watched_ns == 0 {
            return Rates::default();
        }
        let per_s = |count: u64| count as f64 / seconds_of(watched_ns);
        // What is under way when the window ends may still be answered.
        let unanswered = (self.requests + carried).saturating_sub(self.responses + self.under_way);
        Rates {
            attempts_per_s: per_s(self.requests + self.unconnected),
            failures_per_s: per_s(unanswered + self.errors + self.unconnected),
            p50_us: self.latency.quantile_us(0.5),
        }
    }
}

fn unconnected(side: &SideSample) -> u64 {
    side.connects_failed.iter().map(|&(_, count)| u64::from(count)).sum()
}

#[cfg(test)]
mod tests {
    use gauntlet_probes::entity::{PodInfo, ServiceInfo};
    use gauntlet_probes::frame::{L7Sample, Protocol};

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn pod(name: &str, service: &str) -> Record {
        Record::Inventory(InventoryLine::Pod(PodInfo {
            name: name.into(),
            service: Some(service.into()),
            node: "n".into(),
            ip: [10, 0, 0, 1].into(),
            netns: None,
            cgroup: None,
        }))
    }

    fn edge(caller: Peer, callee: Peer, requests: u32, responses: u32, outstanding: u32, refused: u32) -> EdgeSample {
        let mut latency = LatencyHistogram::default();
        (0..responses).for_each(|_| latency.record_us(1000));
        let l7 = L7Sample {
            protocol: Protocol::Redis,
            requests,
            responses,
            errors: 0,
            client_errors: 0,
            hits: 0,
            misses: 0,
            latency,
            outstanding,
            outstanding_age_ns_max: 0,
            unparsed: 0,
        };
        let client = SideSample {
            connects_failed: vec![(111, refused)],
            l7: vec![l7],
            ..SideSample::default()
        };
        EdgeSample {
            caller,
            callee,
            via: None,
            port: 6379,
            client: Some(client),
            server: None,
        }
    }

    fn frame(at_s: u64, edges: Vec<EdgeSample>) -> Record {
        Record::Frame(Frame {
            seq: at_s,
            at_ns: at_s * SECOND,
            span_ns: SECOND,
            edges,
            ..Frame::default()
        })
    }

    #[test]
    fn calls_are_summed_by_service_before_and_during_the_fault() {
        let mut ledger = Ledger::new(Windows {
            before: (0, 2 * SECOND),
            during: (2 * SECOND, 3 * SECOND),
        });
        let (web, cache) = (Peer::Pod("web-0".into()), Peer::Pod("cache-0".into()));
        let virtual_cache = Peer::Service("cache-1".into());
        let service = ServiceInfo {
            name: "cache-1".to_owned(),
            cluster_ip: [10, 9, 0, 1].into(),
            ports: vec![6379],
            endpoints: vec!["cache-0".into()],
        };
        for record in [
            pod("web-0", "web"),
            pod("cache-0", "cache"),
            Record::Inventory(InventoryLine::Service(service)),
            frame(1, vec![edge(web.clone(), cache.clone(), 10, 8, 2, 0)]),
            frame(
                2,
                vec![edge(Peer::External([1, 1, 1, 1].into()), web.clone(), 4, 4, 0, 0)],
            ),
            frame(
                3,
                vec![
                    edge(web.clone(), cache, 6, 3, 1, 0),
                    edge(web, virtual_cache, 0, 0, 0, 2),
                ],
            ),
            frame(
                9,
                vec![edge(Peer::Node("n".into()), Peer::Pod("db-0".into()), 9, 9, 0, 0)],
            ),
        ] {
            ledger.record(&record);
        }
        let calls = ledger.close().calls;
        let line = |call: &Call| {
            let rates = |rates: &Rates| format!("{}/s {} failed", rates.attempts_per_s, rates.failures_per_s);
            let (before, during) = (rates(&call.before), rates(&call.during));
            format!("{} → {}: {before}; {during}", call.caller, call.callee)
        };
        assert_eq!(
            calls.iter().map(line).collect::<Vec<_>>(),
            [
                "users → web: 2/s 0 failed; 0/s 0 failed",
                "web → cache: 5/s 0 failed; 8/s 6 failed",
            ]
        );
        assert_eq!(calls[1].during.failure_ratio(), Some(0.75));
        assert!(calls[1].before.p50_us.is_some_and(|us| (900.0..1200.0).contains(&us)));
        assert_eq!(calls[0].during.failure_ratio(), None);
    }
}
