//! From the kernel's table of connections to edges: what changed since the last tick, under the names of both ends.
//!
//! Pure: it is given the table and the identities, and keeps the last values of each connection.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use gauntlet_abi::conn::{
    CONN_PICKED_UP, Conn, RETRANSMIT_COUNTERS, RETRANSMIT_ERRORS, ROLE_CLIENT, ROLE_SERVER, STATE_CLOSED, STATE_NEW,
    STATE_OPEN, STATE_OPENING,
};

use crate::entity::Peer;
use crate::frame::{EdgeSample, MonotonicNanos, RetransmitCount, SideSample};
use crate::identity::{Identity, Remote, ip_of};
use crate::queues::Queues;
use crate::requests;
use crate::unread::Unread;

/// How long a handshake to a virtual address may stay uncounted for want of the pod behind it.
const NAME_AGE_MAX_NS: u64 = 100_000_000;

/// What is counted together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct EdgeKey {
    pub(crate) caller: Peer,
    pub(crate) callee: Peer,
    pub(crate) via: Option<String>,
    pub(crate) port: u16,
}

/// Edges under construction.
#[derive(Debug, Default)]
pub(crate) struct Edges {
    sides: BTreeMap<EdgeKey, (Option<Side>, Option<Side>)>,
    /// Requests that were not timed.
    pub(crate) untimed: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Side {
    pub(crate) sample: SideSample,
    srtt_us: Vec<u32>,
}

impl Edges {
    pub(crate) fn client(&mut self, key: EdgeKey) -> &mut Side {
        self.sides.entry(key).or_default().0.get_or_insert_default()
    }

    pub(crate) fn server(&mut self, key: EdgeKey) -> &mut Side {
        self.sides.entry(key).or_default().1.get_or_insert_default()
    }

    /// The server's side of the edge between two peers, however it was dialled.
    pub(crate) fn server_between(&mut self, caller: Peer, callee: Peer, port: u16) -> &mut Side {
        let known = self
            .sides
            .keys()
            .find(|key| key.caller == caller && key.callee == callee && key.port == port);
        let key = known.cloned().unwrap_or(EdgeKey {
            caller,
            callee,
            via: None,
            port,
        });
        self.server(key)
    }

    /// The samples, in order of their keys.
    pub(crate) fn into_samples(self) -> Vec<EdgeSample> {
        self.sides
            .into_iter()
            .map(|(key, (client, server))| EdgeSample {
                caller: key.caller,
                callee: key.callee,
                via: key.via,
                port: key.port,
                client: client.map(Side::finish),
                server: server.map(Side::finish),
            })
            .collect()
    }
}

impl Side {
    fn finish(mut self) -> SideSample {
        self.srtt_us.sort_unstable();
        self.sample.srtt_us_median = self.srtt_us.get(self.srtt_us.len() / 2).copied();
        self.sample.srtt_us_max = self.srtt_us.last().copied();
        self.sample.connects_failed.sort_unstable();
        self.sample.errors.sort_unstable();
        self.sample
            .retransmits
            .sort_unstable_by_key(|count| (count.handshake, count.error));
        self.sample.l7.sort_unstable_by_key(|sample| sample.protocol);
        self.sample
    }
}

/// Tells what callers' virtual addresses were translated to, from other sources than the connections themselves.
pub(crate) trait Translations {
    /// The real address behind a connection from `client` to the virtual address `target`.
    fn look_up(&mut self, caller: &Peer, client: (IpAddr, u16), target: (IpAddr, u16)) -> Option<IpAddr>;
}

/// What a tick asks about connections.
pub(crate) struct Sources<'a> {
    pub(crate) identity: &'a Identity,
    pub(crate) translations: &'a mut dyn Translations,
    pub(crate) queues: &'a mut dyn Queues,
}

/// Last values of each connection.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    known: HashMap<u64, Known>,
}

struct Known {
    last: Box<Conn>,
    unread: Unread,
    key: Option<EdgeKey>,
    is_client: bool,
    /// [`EdgeKey::callee`] is final.
    resolved: bool,
}

impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Known")
            .field("key", &self.key)
            .field("resolved", &self.resolved)
            .finish_non_exhaustive()
    }
}

/// Where each connection's twin is: the socket at its other end.
struct Twins {
    /// Accepted sockets by the caller's address and port.
    servers: HashMap<(IpAddr, u16), Vec<Peer>>,
    /// Who serves at an address and port that several pods share.
    shared: HashMap<(IpAddr, u16), Peer>,
}

impl Connections {
    /// Takes in the table as it stands, adds what changed to `edges`, and returns the entries that may be deleted.
    pub(crate) fn tick(
        &mut self,
        now_ns: MonotonicNanos,
        table: &[(u64, Conn)],
        sources: Sources<'_>,
        edges: &mut Edges,
    ) -> Vec<u64> {
        let Sources {
            identity,
            translations,
            queues,
        } = sources;
        let mut finished = Vec::new();
        let twins = twins(table, identity);
        // Callers first: they know what was dialled, and the callee's side takes its key from them.
        let mut dialled: HashMap<(IpAddr, u16), Vec<EdgeKey>> = HashMap::new();
        for pass in [true, false] {
            for (cookie, conn) in table {
                if conn.state == STATE_NEW || is_client(conn) != pass {
                    continue;
                }
                let known = self.known.entry(*cookie).or_insert_with(Known::new);
                // A socket that connects again under the same cookie starts anew.
                if known.last.created_ns != conn.created_ns {
                    *known = Known::new();
                }
                known.is_client = pass;
                name(known, conn, identity, &twins, &dialled, translations);
                if let Some(key) = &known.key {
                    if awaits_name(key, conn, now_ns) {
                        continue;
                    }
                    edges.untimed += requests::untimed(&known.last.l7, &conn.l7);
                    let side = if pass {
                        dialled
                            .entry((ip_of(conn.local), conn.local_port))
                            .or_default()
                            .push(key.clone());
                        edges.client(key.clone())
                    } else {
                        edges.server(key.clone())
                    };
                    add(side, &known.last, conn, now_ns);
                    known.unread.tick(now_ns, *cookie, &known.last, conn, queues);
                    known.unread.add(&mut side.sample, conn, now_ns);
                }
                // A closed entry lives one more tick, so that packets that come late are still counted.
                if conn.state == STATE_CLOSED && known.last.state == STATE_CLOSED {
                    finished.push(*cookie);
                }
                *known.last = *conn;
            }
        }
        for cookie in &finished {
            self.known.remove(cookie);
        }
        // Entries that the kernel no longer has (a second connect of a socket, or a reader that was restarted).
        if self.known.len() > table.len() {
            let alive: std::collections::HashSet<u64> = table.iter().map(|&(cookie, _)| cookie).collect();
            self.known.retain(|cookie, _| alive.contains(cookie));
        }
        finished
    }
}

impl Known {
    fn new() -> Self {
        Self {
            last: Box::new(bytemuck::Zeroable::zeroed()),
            unread: Unread::default(),
            key: None,
            is_client: false,
            resolved: false,
        }
    }
}

/// Who opened it: as the kernel saw, else whose port is the higher.
fn is_client(conn: &Conn) -> bool {
    match conn.role {
        ROLE_CLIENT => true,
        ROLE_SERVER => false,
        // A kernel program of another build; read as it would have decided.
        _ => conn.local_port > conn.remote_port,
    }
}

fn twins(table: &[(u64, Conn)], identity: &Identity) -> Twins {
    let mut servers: HashMap<(IpAddr, u16), Vec<Peer>> = HashMap::new();
    let mut shared = HashMap::new();
    for (_, conn) in table {
        if conn.state == STATE_NEW || is_client(conn) {
            continue;
        }
        if let Some(owner) = identity.sharing_owner(conn) {
            shared.insert((ip_of(conn.local), conn.local_port), owner);
        }
        if let Some(owner) = identity.owner(conn) {
            servers
                .entry((ip_of(conn.remote), conn.remote_port))
                .or_default()
                .push(owner);
        }
    }
    Twins { servers, shared }
}

/// Whether a handshake has just begun and its other end may still tell where it leads; it is counted once that is known,
/// or on a later tick.
fn awaits_name(key: &EdgeKey, conn: &Conn, now_ns: MonotonicNanos) -> bool {
    matches!(key.callee, Peer::Service(_))
        && conn.state == STATE_OPENING
        && now_ns.saturating_sub(conn.created_ns) < NAME_AGE_MAX_NS
}

/// Finds or improves the key of a connection.
fn name(
    known: &mut Known,
    conn: &Conn,
    identity: &Identity,
    twins: &Twins,
    dialled: &HashMap<(IpAddr, u16), Vec<EdgeKey>>,
    translations: &mut dyn Translations,
) {
    if known.resolved {
        return;
    }
    let (local_ip, remote_ip) = (ip_of(conn.local), ip_of(conn.remote));
    let Some(local) = identity.owner(conn) else {
        return;
    };
    if remote_ip.is_loopback() || local_ip == remote_ip {
        return;
    }
    if known.is_client {
        let caller = local;
        match identity.remote(remote_ip) {
            Remote::Peer(callee) => {
                let shared = twins.shared.get(&(remote_ip, conn.remote_port));
                let callee = shared.cloned().unwrap_or(callee);
                if matches!((&caller, &callee), (Peer::External(_), Peer::External(_))) {
                    return;
                }
                known.key = Some(EdgeKey {
                    caller,
                    callee,
                    via: None,
                    port: conn.remote_port,
                });
                // A caller that is not bound yet may still get another address.
                known.resolved = conn.state != STATE_OPENING;
            }
            Remote::Service(service) => {
                let client = (local_ip, conn.local_port);
                let twin = twins.servers.get(&client).and_then(|owners| {
                    owners
                        .iter()
                        .find(|owner| identity.is_endpoint(&service, owner))
                        .or_else(|| owners.first())
                });
                let callee = twin.cloned().or_else(|| identity.only_endpoint(&service)).or_else(|| {
                    let target = (remote_ip, conn.remote_port);
                    let real = translations.look_up(&caller, client, target)?;
                    Some(identity.remote_peer(real))
                });
                known.resolved = callee.is_some() && conn.state != STATE_OPENING;
                let callee = callee.unwrap_or_else(|| Peer::Service(service.clone()));
                known.key = Some(EdgeKey {
                    caller,
                    callee,
                    via: Some(service),
                    port: conn.remote_port,
                });
            }
        }
    } else {
        let dialled = dialled
            .get(&(remote_ip, conn.remote_port))
            .and_then(|keys| keys.iter().find(|key| key.callee == local))
            .cloned();
        known.resolved = dialled.is_some();
        known.key = dialled.or_else(|| {
            let caller = identity.remote_peer(remote_ip);
            if matches!((&caller, &local), (Peer::External(_), Peer::External(_))) {
                return None;
            }
            Some(EdgeKey {
                caller,
                callee: local,
                via: None,
                port: conn.local_port,
            })
        });
    }
}

/// Adds what changed between `last` and `conn`.
fn add(side: &mut Side, last: &Conn, conn: &Conn, now_ns: MonotonicNanos) {
    add_states(&mut side.sample, last, conn, now_ns);
    add_retransmits(&mut side.sample, last, conn);
    requests::add(&mut side.sample, &last.l7, &conn.l7, conn.state == STATE_CLOSED, now_ns);
    let sample = &mut side.sample;
    sample.bytes_sent += conn.bytes_sent().saturating_sub(last.bytes_sent());
    sample.bytes_received += conn.bytes_received().saturating_sub(last.bytes_received());
    let moved = conn.bytes_sent() != last.bytes_sent() || conn.bytes_received() != last.bytes_received();
    if moved && conn.srtt_us() > 0 {
        side.srtt_us.push(conn.srtt_us());
    }
}

fn add_states(sample: &mut SideSample, last: &Conn, conn: &Conn, now_ns: MonotonicNanos) {
    let is_new = last.state == STATE_NEW;
    let seen_opening = conn.flags & CONN_PICKED_UP == 0;
    if is_new && seen_opening {
        sample.connects_attempted += 1;
    }
    if conn.opened_ns > 0 && last.opened_ns == 0 {
        sample.connects_opened += 1;
    }
    let was_open = conn.opened_ns > 0 || !seen_opening;
    if conn.state == STATE_CLOSED && last.state != STATE_CLOSED {
        if !was_open {
            count_error(&mut sample.connects_failed, conn.close_error, 1);
        } else {
            sample.connects_closed += 1;
            if conn.close_error != 0 {
                count_error(&mut sample.errors, conn.close_error, 1);
            }
        }
    }
    let soft = conn.soft_error_count.saturating_sub(last.soft_error_count);
    if soft > 0 {
        count_error(&mut sample.errors, conn.soft_error, soft);
    }
    match conn.state {
        STATE_OPEN => sample.open += 1,
        STATE_OPENING => {
            sample.opening += 1;
            sample.opening_age_ns_max = sample.opening_age_ns_max.max(now_ns.saturating_sub(conn.created_ns));
        }
        _ => (),
    }
}

fn count_error(errors: &mut Vec<(i32, u32)>, error: i32, count: u32) {
    match errors.iter_mut().find(|(known, _)| *known == error) {
        Some((_, known)) => *known += count,
        None => errors.push((error, count)),
    }
}

fn add_retransmits(sample: &mut SideSample, last: &Conn, conn: &Conn) {
    for (handshake, new, old) in [
        (true, &conn.handshake_retransmits, &last.handshake_retransmits),
        (false, &conn.data_retransmits, &last.data_retransmits),
    ] {
        for index in 0..RETRANSMIT_COUNTERS {
            let count = new[index].saturating_sub(old[index]);
            if count == 0 {
                continue;
            }
            // The last counter is for results that have none, and for kernels that tell none (other result 0).
            let error = RETRANSMIT_ERRORS
                .get(index)
                .copied()
                .or_else(|| (conn.other_retransmit_error != 0).then_some(conn.other_retransmit_error));
            match sample
                .retransmits
                .iter_mut()
                .find(|known| known.handshake == handshake && known.error == error)
            {
                Some(known) => known.count += count,
                None => sample.retransmits.push(RetransmitCount {
                    handshake,
                    error,
                    count,
                }),
            }
        }
    }
}

#[cfg(test)]
#[path = "connections_tests.rs"]
mod tests;
