//! Reads the kernel's tables, once per tick. Knows their layout, not their meaning.

use aya::maps::{HashMap, MapData, MapError, PerCpuArray, RingBuf};
use bytemuck::{AnyBitPattern, NoUninit, Zeroable as _};
use gauntlet_abi::conn::Conn;
use gauntlet_abi::record::{
    DnsCounts, DnsPair, DnsQuery, DnsQueryKey, Event, LOST_COUNTERS, NETNS_ANY, RecordKey, RecordValue,
};

use crate::load::{AttachError, Loaded};

/// A table could not be read.
#[derive(Debug, thiserror::Error)]
#[error("failed to read the kernel's table `{table}`")]
pub struct ReadError {
    table: &'static str,
    #[source]
    source: MapError,
}

/// A hash table of the kernel whose keys and values are plain data.
struct Table<const K: usize, const V: usize> {
    name: &'static str,
    map: HashMap<MapData, [u8; K], [u8; V]>,
}

impl<const K: usize, const V: usize> Table<K, V> {
    fn take(loaded: &mut Loaded, name: &'static str) -> Result<Self, AttachError> {
        let map = loaded.ebpf.take_map(name).ok_or(AttachError::Map(name))?;
        Ok(Self {
            name,
            map: HashMap::try_from(map).map_err(|_| AttachError::Map(name))?,
        })
    }

    /// All entries. One that goes while they are read is left out.
    fn read<Key: AnyBitPattern, Value: AnyBitPattern>(&self, into: &mut Vec<(Key, Value)>) -> Result<(), ReadError> {
        into.clear();
        let mut keys = Vec::new();
        for key in self.map.keys() {
            keys.push(key.map_err(|source| ReadError {
                table: self.name,
                source,
            })?);
        }
        for key in keys {
            match self.map.get(&key, 0) {
                Ok(value) => into.push((bytemuck::pod_read_unaligned(&key), bytemuck::pod_read_unaligned(&value))),
                Err(MapError::KeyNotFound) => (),
                Err(source) => {
                    return Err(ReadError {
                        table: self.name,
                        source,
                    });
                }
            }
        }
        Ok(())
    }

    /// Deletes an entry; one that is gone already is as good.
    fn delete<Key: NoUninit>(&mut self, key: &Key) {
        if let Ok(key) = <[u8; K]>::try_from(bytemuck::bytes_of(key)) {
            let _ = self.map.remove(&key);
        }
    }

    fn insert<Key: NoUninit, Value: NoUninit>(&mut self, key: &Key, value: &Value) {
        let bytes = (
            <[u8; K]>::try_from(bytemuck::bytes_of(key)),
            <[u8; V]>::try_from(bytemuck::bytes_of(value)),
        );
        if let (Ok(key), Ok(value)) = bytes {
            let _ = self.map.insert(key, value, 0);
        }
    }
}

/// The kernel's tables.
pub(crate) struct Tables {
    conns: Table<8, { size_of::<Conn>() }>,
    records: Table<{ size_of::<RecordKey>() }, { size_of::<RecordValue>() }>,
    dns_pairs: Table<{ size_of::<DnsPair>() }, { size_of::<DnsCounts>() }>,
    dns_queries: Table<{ size_of::<DnsQueryKey>() }, { size_of::<DnsQuery>() }>,
    netns: Table<4, 4>,
    cgroups: Table<8, 4>,
    lost: PerCpuArray<MapData, u64>,
    events: RingBuf<MapData>,
    wanted_netns: Vec<u32>,
    wanted_cgroups: Vec<u64>,
}

/// What the tables held at one moment.
#[derive(Default)]
pub(crate) struct Snapshot {
    pub(crate) conns: Vec<(u64, Conn)>,
    pub(crate) records: Vec<(RecordKey, RecordValue)>,
    pub(crate) dns_pairs: Vec<(DnsPair, DnsCounts)>,
    pub(crate) dns_queries: Vec<(DnsQueryKey, DnsQuery)>,
    pub(crate) events: Vec<Event>,
    /// Since the start, by `LOST_…`.
    pub(crate) lost: [u64; LOST_COUNTERS as usize],
}

impl Tables {
    /// Takes the tables out of what was loaded.
    pub(crate) fn take(loaded: &mut Loaded) -> Result<Self, AttachError> {
        let lost = loaded.ebpf.take_map("LOST").ok_or(AttachError::Map("LOST"))?;
        let events = loaded.ebpf.take_map("EVENTS").ok_or(AttachError::Map("EVENTS"))?;
        Ok(Self {
            conns: Table::take(loaded, "CONNS")?,
            records: Table::take(loaded, "RECORDS")?,
            dns_pairs: Table::take(loaded, "DNS_PAIRS")?,
            dns_queries: Table::take(loaded, "DNS_QUERIES")?,
            netns: Table::take(loaded, "NETNS")?,
            cgroups: Table::take(loaded, "CGROUPS")?,
            lost: PerCpuArray::try_from(lost).map_err(|_| AttachError::Map("LOST"))?,
            events: RingBuf::try_from(events).map_err(|_| AttachError::Map("EVENTS"))?,
            wanted_netns: Vec::new(),
            wanted_cgroups: Vec::new(),
        })
    }

    /// Reads all of them.
    pub(crate) fn read(&mut self, into: &mut Snapshot) -> Result<(), ReadError> {
        self.conns.read(&mut into.conns)?;
        self.records.read(&mut into.records)?;
        self.dns_pairs.read(&mut into.dns_pairs)?;
        self.dns_queries.read(&mut into.dns_queries)?;
        into.events.clear();
        while let Some(item) = self.events.next() {
            let mut event = Event::zeroed();
            let bytes = bytemuck::bytes_of_mut(&mut event);
            if item.len() == bytes.len() {
                bytes.copy_from_slice(&item);
                into.events.push(event);
            }
        }
        for counter in 0..LOST_COUNTERS {
            let values = self
                .lost
                .get(&counter, 0)
                .map_err(|source| ReadError { table: "LOST", source })?;
            into.lost[counter as usize] = values.iter().sum();
        }
        // The order of a hash table is accidental.
        into.conns.sort_unstable_by_key(|&(cookie, _)| cookie);
        Ok(())
    }

    /// Deletes connections that were read.
    pub(crate) fn delete_conns(&mut self, cookies: &[u64]) {
        for cookie in cookies {
            self.conns.delete(cookie);
        }
    }

    /// Deletes records that were read.
    pub(crate) fn delete_records(&mut self, keys: &[RecordKey]) {
        for key in keys {
            self.records.delete(key);
        }
    }

    /// Deletes questions that were read.
    pub(crate) fn delete_queries(&mut self, keys: &[DnsQueryKey]) {
        for key in keys {
            self.dns_queries.delete(key);
        }
    }

    /// Tells the kernel whose sockets are wanted; `None`: everybody's.
    pub(crate) fn want_netns(&mut self, wanted: Option<Vec<u32>>) {
        let wanted = wanted.unwrap_or_else(|| vec![NETNS_ANY]);
        replace(&mut self.netns, &mut self.wanted_netns, wanted);
    }

    /// Tells the kernel whose processes are wanted.
    pub(crate) fn want_cgroups(&mut self, wanted: Vec<u64>) {
        replace(&mut self.cgroups, &mut self.wanted_cgroups, wanted);
    }
}

fn replace<Key: NoUninit + PartialEq, const K: usize>(table: &mut Table<K, 4>, old: &mut Vec<Key>, new: Vec<Key>) {
    for key in new.iter().filter(|key| !old.contains(key)) {
        table.insert(key, &1_u32);
    }
    for key in old.iter().filter(|key| !new.contains(key)) {
        table.delete(key);
    }
    *old = new;
}
