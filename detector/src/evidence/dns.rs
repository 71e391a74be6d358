//! dns.failure, dns.delay and dns.wrong-answer: names are not answered, late, or with "no such name".
//!
//! Where only some clients of a server fail, it is not the server; what ails those clients is told by other rules.

use std::collections::BTreeMap;

use gauntlet_probes::entity::Peer;
use gauntlet_probes::frame::{DnsSample, LatencyHistogram, MonotonicNanos};

use super::{Certainty, Finding, names};
use crate::commonality::Place;
use crate::diagnosis::Mechanism;
use crate::scene::{PodIx, Scene};
use crate::topology::ServiceIx;

/// Look-ups without which nothing is said.
const QUERIES_MIN: u32 = 6;
/// Share of them that must fail.
const FAILED_SHARE_MIN: f64 = 0.4;
/// Ticks in which some must: the stall of a small machine loses or delays many at once.
const BAD_TICKS_MIN: u32 = 6;
/// Time without a bad look-up after which it is over, nanoseconds: clients in need of a name ask several times a second.
const CEASED_NS: u64 = 1_500_000_000;
/// Good answers since the last bad one after which it is over as well.
const HEALED_ANSWERS: u32 = 3;
/// Look-ups of one client without which it says nothing of the server.
const CLIENT_QUERIES_MIN: u32 = 2;
/// Share of a server's clients that must fail.
const CLIENTS_SHARE_MIN: f64 = 0.5;
/// Median latency from which names are late, milliseconds: answers within a cluster take less than one.
const LATE_MS: f64 = 20.0;

/// Ticks in which look-ups went wrong in one way.
#[derive(Clone, Copy, Debug, Default)]
struct Spell {
    ticks: u32,
    first_ns: MonotonicNanos,
    last_ns: MonotonicNanos,
    good_answers_since: u32,
}

impl Spell {
    fn add(&mut self, at_ns: MonotonicNanos, is_bad: bool, answers: u32) {
        if is_bad {
            if self.ticks == 0 {
                self.first_ns = at_ns;
            }
            self.ticks += u32::from(self.last_ns != at_ns);
            self.last_ns = at_ns;
            self.good_answers_since = 0;
        } else if self.last_ns != at_ns {
            self.good_answers_since += answers;
        }
    }

    /// It is more than a stall, and not over at `now_ns`.
    fn lasts(&self, now_ns: MonotonicNanos) -> bool {
        self.ticks >= BAD_TICKS_MIN
            && self.good_answers_since < HEALED_ANSWERS
            && now_ns.saturating_sub(self.last_ns) < CEASED_NS
    }
}

/// Look-ups of the last seconds, at one server or of one client there.
#[derive(Clone, Debug, Default)]
struct Lookups {
    queries: u32,
    responses: u32,
    /// Answers that say that the server failed, and questions without any.
    failed: u32,
    nxdomain: u32,
    /// Ticks with look-ups that failed, or whose answer was "no such name".
    failing: Spell,
    /// Ticks in which most answers were late.
    lagging: Spell,
    latency: LatencyHistogram,
}

impl Lookups {
    fn add(&mut self, at_ns: MonotonicNanos, sample: &DnsSample) {
        let failed = sample.failures + sample.unanswered;
        self.failing.add(at_ns, failed + sample.nxdomain > 0, sample.responses);
        self.lagging.add(at_ns, is_late(&sample.latency), sample.responses);
        self.queries += sample.queries;
        self.responses += sample.responses;
        self.failed += failed;
        self.nxdomain += sample.nxdomain;
        self.latency.merge(&sample.latency);
    }

    fn ended(&self) -> u32 {
        self.responses + self.failed.max(self.queries.saturating_sub(self.responses))
    }

    /// How most of them go wrong, if they do.
    fn mechanism(&self) -> Option<Mechanism> {
        let mostly = |count: u32, of: u32| of > 0 && f64::from(count) >= FAILED_SHARE_MIN * f64::from(of);
        if mostly(self.failed, self.responses + self.failed) {
            Some(Mechanism::DnsFailure)
        } else if mostly(self.nxdomain, self.responses) {
            Some(Mechanism::DnsWrongAnswer)
        } else {
            is_late(&self.latency).then_some(Mechanism::DnsDelay)
        }
    }

    /// The ticks in which they went wrong in this way.
    fn spell(&self, mechanism: Mechanism) -> &Spell {
        match mechanism {
            Mechanism::DnsDelay => &self.lagging,
            _ => &self.failing,
        }
    }
}

/// Half of the answers or more are late.
fn is_late(latency: &LatencyHistogram) -> bool {
    latency.quantile_us(0.5).is_some_and(|us| us / 1e3 >= LATE_MS)
}

/// The look-ups at one server.
#[derive(Clone, Debug, Default)]
struct Server {
    all: Lookups,
    clients: BTreeMap<Option<PodIx>, Lookups>,
}

impl Server {
    /// How it is wrong, if it is, and still at `now_ns`.
    fn mechanism(&self, now_ns: MonotonicNanos) -> Option<Mechanism> {
        let mechanism = self.all.mechanism()?;
        let enough = self.all.responses + self.all.failed >= QUERIES_MIN && self.all.spell(mechanism).lasts(now_ns);
        let heard = self
            .clients
            .values()
            .filter(|client| client.ended() >= CLIENT_QUERIES_MIN);
        let (mut clients, mut failing) = (0, 0);
        for client in heard {
            clients += 1;
            failing += u32::from(client.mechanism().is_some());
        }
        (enough && f64::from(failing) >= CLIENTS_SHARE_MIN * f64::from(clients)).then_some(mechanism)
    }
}

/// See the module.
#[must_use]
pub fn judge(scene: &Scene<'_>) -> Vec<Finding> {
    let servers = servers(scene);
    let mut wrong: BTreeMap<(Mechanism, ServiceIx), Vec<&Answerer>> = BTreeMap::new();
    for (answerer, server) in &servers {
        if let Some(mechanism) = server.mechanism(scene.now_ns) {
            wrong.entry((mechanism, answerer.0)).or_default().push(answerer);
        }
    }
    let finding = |((mechanism, service), answerers): ((Mechanism, ServiceIx), Vec<&Answerer>)| {
        let servers = || answerers.iter().map(|answerer| &servers[*answerer]);
        let queries: u32 = servers().map(|server| server.all.queries).sum();
        let clients = servers().map(|server| server.clients.len()).max().unwrap_or(0);
        let begun = servers().map(|server| server.all.spell(mechanism).first_ns);
        let pods: Vec<PodIx> = answerers.iter().filter_map(|answerer| answerer.1).collect();
        let at = if pods.is_empty() {
            format!("{}, behind which no pod is,", scene.services[service])
        } else {
            names(scene, &pods)
        };
        Finding {
            mechanism,
            place: Place::Service(service),
            strength: 0.75,
            certainty: Certainty::Measured,
            since_ns: begun.filter(|&at_ns| at_ns > 0).min().unwrap_or(scene.now_ns),
            evidence: vec![format!(
                "{queries} look-ups at {at} by {clients} clients: most are not answered as they should be"
            )],
            pods,
        }
    };
    wrong.into_iter().map(finding).collect()
}

/// Who should answer look-ups: a pod of a service, or none of it where its address leads nowhere.
type Answerer = (ServiceIx, Option<PodIx>);

/// Who should answer what is asked of `server`.
fn answerers(scene: &Scene<'_>, server: &Peer) -> Vec<Answerer> {
    let of_pod = |&pod: &PodIx| (scene.pods[pod].service, Some(pod));
    match server {
        Peer::Service(name) if scene.inventory().deserted(name).is_some() => {
            scene.behind(name).map(|service| (service, None)).into_iter().collect()
        }
        _ => scene.end(server).pods().iter().map(of_pod).collect(),
    }
}

/// The look-ups of the last seconds by who should answer them.
fn servers(scene: &Scene<'_>) -> BTreeMap<Answerer, Server> {
    let mut servers: BTreeMap<Answerer, Server> = BTreeMap::new();
    for records in &scene.rare {
        for sample in &records.dns {
            let client = scene.end(&sample.client);
            let asks_itself = |answerer: &Answerer| answerer.1.is_some_and(|pod| client.pods().contains(&pod));
            for answerer in answerers(scene, &sample.server) {
                if asks_itself(&answerer) {
                    continue;
                }
                let server = servers.entry(answerer).or_default();
                server.all.add(records.at_ns, sample);
                let client = server.clients.entry(client.pods().first().copied()).or_default();
                client.add(records.at_ns, sample);
            }
        }
    }
    servers
}

#[cfg(test)]
mod tests {
    use gauntlet_probes::entity::{Peer, PodName};
    use gauntlet_probes::frame::{DnsSample, LatencyHistogram, MonotonicNanos};

    use super::{CEASED_NS, Server};
    use crate::diagnosis::Mechanism;

    const TICK_NS: MonotonicNanos = 200_000_000;

    fn sample(answered: u32, unanswered: u32) -> DnsSample {
        DnsSample {
            client: Peer::Pod(PodName::new("client")),
            server: Peer::Pod(PodName::new("dns")),
            queries: answered + unanswered,
            responses: answered,
            nxdomain: 0,
            failures: 0,
            unanswered,
            latency: LatencyHistogram::default(),
        }
    }

    /// Ten ticks in each of which every client has two look-ups; those of the first `failing` clients fail.
    fn server(clients: usize, failing: usize) -> Server {
        let mut server = Server::default();
        for tick in 1..=10 {
            for client in 0..clients {
                let sample = if client < failing { sample(0, 2) } else { sample(2, 0) };
                server.all.add(tick * TICK_NS, &sample);
                server
                    .clients
                    .entry(Some(client))
                    .or_default()
                    .add(tick * TICK_NS, &sample);
            }
        }
        server
    }

    #[test]
    fn a_server_is_wrong_if_its_clients_agree() {
        assert_eq!(server(3, 3).mechanism(10 * TICK_NS), Some(Mechanism::DnsFailure));
        assert_eq!(
            server(9, 4).mechanism(10 * TICK_NS),
            None,
            "four of nine have trouble of their own"
        );
    }

    /// Ten ticks, in `late` of which (the first ones) all answers take 200 ms.
    fn lagging(late: u64) -> Server {
        let mut server = Server::default();
        for tick in 1..=10 {
            let mut sample = sample(4, 0);
            for _ in 0..sample.responses {
                sample.latency.record_us(if tick <= late { 200_000 } else { 300 });
            }
            server.all.add(tick * TICK_NS, &sample);
            let client = server.clients.entry(Some(0)).or_default();
            client.add(tick * TICK_NS, &sample);
        }
        server
    }

    #[test]
    fn a_stall_is_no_delay() {
        assert_eq!(lagging(10).mechanism(10 * TICK_NS), Some(Mechanism::DnsDelay));
        assert_eq!(lagging(6).mechanism(10 * TICK_NS), None, "it is over");
        let mut stalled = lagging(0);
        let mut late = sample(100, 0);
        for _ in 0..late.responses {
            late.latency.record_us(200_000);
        }
        stalled.all.add(11 * TICK_NS, &late);
        stalled.clients.entry(Some(0)).or_default().add(11 * TICK_NS, &late);
        assert_eq!(
            stalled.mechanism(11 * TICK_NS),
            None,
            "most answers are late, and all of one moment"
        );
    }

    #[test]
    fn it_is_over_when_look_ups_succeed_or_stop_failing() {
        let mut healed = server(2, 2);
        healed.all.add(11 * TICK_NS, &sample(3, 0));
        assert_eq!(healed.mechanism(11 * TICK_NS), None);
        assert_eq!(server(2, 2).mechanism(10 * TICK_NS + CEASED_NS), None);
    }
}
