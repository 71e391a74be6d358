//! What virtual addresses were translated to, for connections whose other end was never seen: from headers of dropped
//! packets, and from the nodes' connection tracking.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use gauntlet_abi::record::{RECORD_DROP, RecordKey, RecordValue};

use crate::connections::Translations;
use crate::entity::{NodeName, Peer};
use crate::identity::{Identity, Remote, ip_of};
use crate::namespace;

/// A node's table is read at most this often: on a busy node it has thousands of lines.
const TABLE_AGE_MAX: Duration = Duration::from_secs(1);
/// Longest table that is read.
const TABLE_BYTES_MAX: u64 = 4 << 20;

type Flow = (IpAddr, u16, IpAddr, u16);

/// Connection tracking of the nodes, read only when something is unresolved.
#[derive(Debug, Default)]
pub(crate) struct Conntrack {
    nodes: HashMap<NodeName, NodeTable>,
}

#[derive(Debug)]
struct NodeTable {
    /// `None`: no way into the node's namespace was found.
    file: Option<File>,
    read_at: Option<Instant>,
    /// Real address by (client, virtual address).
    flows: HashMap<Flow, IpAddr>,
}

/// All sources of one tick.
pub(crate) struct TickTranslations<'a> {
    pub(crate) identity: &'a Identity,
    pub(crate) records: &'a [(RecordKey, RecordValue)],
    pub(crate) conntrack: &'a mut Conntrack,
    /// Real address by client, from headers of dropped packets; filled at first use.
    pub(crate) dropped: Option<HashMap<(IpAddr, u16), IpAddr>>,
}

impl Translations for TickTranslations<'_> {
    fn look_up(&mut self, caller: &Peer, client: (IpAddr, u16), target: (IpAddr, u16)) -> Option<IpAddr> {
        if client.1 == 0 {
            return None;
        }
        let (identity, records) = (self.identity, self.records);
        let dropped = self.dropped.get_or_insert_with(|| dropped_flows(records, identity));
        if let Some(real) = dropped.get(&client) {
            return Some(*real);
        }
        let node = identity.node_of(caller)?;
        let netns = node.netns?;
        let table = self
            .conntrack
            .nodes
            .entry(node.name.clone())
            .or_insert_with(|| NodeTable {
                file: open_table(netns),
                read_at: None,
                flows: HashMap::new(),
            });
        table.refresh();
        table.flows.get(&(client.0, client.1, target.0, target.1)).copied()
    }
}

/// A dropped packet to a server names the real address that its client's connection leads to.
fn dropped_flows(records: &[(RecordKey, RecordValue)], identity: &Identity) -> HashMap<(IpAddr, u16), IpAddr> {
    records
        .iter()
        .filter(|(key, _)| key.kind == RECORD_DROP && key.to_server == 1 && key.transport == 6)
        .filter_map(|(key, value)| {
            let target = ip_of(key.target);
            let Remote::Peer(Peer::Pod(_)) = identity.remote(target) else {
                return None;
            };
            Some(((ip_of(key.source), u16::try_from(value.other_port).ok()?), target))
        })
        .collect()
}

impl NodeTable {
    fn refresh(&mut self) {
        if self.read_at.is_some_and(|read_at| read_at.elapsed() < TABLE_AGE_MAX) {
            return;
        }
        self.read_at = Some(Instant::now());
        let Some(file) = &mut self.file else { return };
        let mut text = String::new();
        if file.seek(SeekFrom::Start(0)).is_ok() && file.take(TABLE_BYTES_MAX).read_to_string(&mut text).is_ok() {
            self.flows = parse(&text);
        }
    }
}

/// Lines like `ipv4 2 tcp 6 117 SYN_SENT src=A dst=V sport=P dport=Q [UNREPLIED] src=R dst=A sport=Q dport=P mark=0 use=2`:
/// the second source is the real address behind V.
fn parse(table: &str) -> HashMap<Flow, IpAddr> {
    let mut flows = HashMap::new();
    for line in table.lines().filter(|line| line.contains(" tcp ")) {
        let values = |name: &str| {
            line.split_ascii_whitespace()
                .filter_map(move |word| word.strip_prefix(name))
                .collect::<Vec<_>>()
        };
        let (sources, targets) = (values("src="), values("dst="));
        let (source_ports, target_ports) = (values("sport="), values("dport="));
        let ([source, real], [target, ..], [source_port, ..], [target_port, ..]) =
            (&sources[..], &targets[..], &source_ports[..], &target_ports[..])
        else {
            continue;
        };
        if let (Ok(source), Ok(real), Ok(target), Ok(source_port), Ok(target_port)) = (
            source.parse(),
            real.parse::<IpAddr>(),
            target.parse::<IpAddr>(),
            source_port.parse(),
            target_port.parse(),
        ) && real != target
        {
            flows.insert((source, source_port, target, target_port), real);
        }
    }
    flows
}

/// Opens the table of the namespace with this inode.
fn open_table(netns: u64) -> Option<File> {
    namespace::within(netns, || File::open("/proc/thread-self/net/nf_conntrack").ok())
}

#[cfg(test)]
mod tests {
    use super::parse;
    use crate::identity::tests::ip;

    #[test]
    fn the_second_source_is_the_real_address() {
        let flows = parse(
            "ipv4     2 tcp      6 117 SYN_SENT src=10.1.0.1 dst=10.9.0.1 sport=41000 dport=6379 [UNREPLIED] \
             src=10.1.1.1 dst=10.1.0.1 sport=6379 dport=41000 mark=0 zone=0 use=2\n\
             ipv4     2 tcp      6 1 CLOSE src=10.1.0.1 dst=10.1.0.2 sport=41001 dport=80 src=10.1.0.2 dst=10.1.0.1 \
             sport=80 dport=41001 mark=0 use=2\n\
             garbage tcp src=x\n",
        );
        assert_eq!(flows.len(), 1);
        assert_eq!(flows[&(ip("10.1.0.1"), 41000, ip("10.9.0.1"), 6379)], ip("10.1.1.1"));
    }
}
