//! `network-delay` where the kernel has no netem: packets wait in a netfilter queue for a verdict given in time.
//!
//! A legacy iptables rule (nftables cannot queue on every kernel that we meet) sends the packets to the queue; a loop in
//! the fault agent holds each for its time and accepts it. Packets of one flow are never reordered, as in a real queue.
//! If the agent dies, the rule's bypass lets packets pass at once. Drops nothing: what does not fit waits less, and is
//! counted.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::target::NetnsFd;

use super::packets::{PacketMatch, Way};
use super::tool::{self, ToolError};

mod netlink;

pub(crate) use netlink::QueueSocket;
use netlink::{Packet, QUEUE_LENGTH_MAX};

/// Packets held at once; with more, the new ones pass without delay.
const HELD_MAX: usize = 16_384;
/// How soon the loop notices that it shall stop.
const STOP_LATENCY: Duration = Duration::from_millis(20);
const _: () = assert!(
    HELD_MAX < QUEUE_LENGTH_MAX as usize,
    "we overflow before the kernel does, and count it"
);

/// How long packets wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Wait {
    /// So long.
    pub delay: Duration,
    /// Give or take, uniformly.
    pub jitter: Duration,
    /// Seed of the throws.
    pub seed: u64,
}

/// What a queue did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QueueCount {
    /// Packets that waited.
    pub held: u64,
    /// Packets that passed at once because too many waited.
    pub overflowed: u64,
    /// Times that the kernel could not hand packets over.
    pub overruns: u64,
}

/// Decides when packets leave. Knows neither sockets nor clocks.
#[derive(Debug)]
struct Schedule {
    wait: Wait,
    random: ChaCha8Rng,
    held: BinaryHeap<Reverse<(Instant, u64, u32)>>,
    last_of_flow: HashMap<u64, Instant>,
    count: QueueCount,
}

impl Schedule {
    fn new(wait: Wait) -> Self {
        let random = ChaCha8Rng::seed_from_u64(wait.seed);
        Self {
            wait,
            random,
            held: BinaryHeap::new(),
            last_of_flow: HashMap::new(),
            count: QueueCount::default(),
        }
    }

    fn arrive(&mut self, packet: Packet, now: Instant) {
        let order = self.count.held + self.count.overflowed;
        if self.held.len() >= HELD_MAX {
            self.count.overflowed += 1;
            self.held.push(Reverse((now, order, packet.id)));
            return;
        }
        self.count.held += 1;
        if self.last_of_flow.len() > HELD_MAX {
            self.last_of_flow.retain(|_flow, leaves| *leaves > now);
        }
        let leaves = now + self.draw();
        let last = self.last_of_flow.entry(packet.flow).or_insert(leaves);
        *last = leaves.max(*last);
        self.held.push(Reverse((*last, order, packet.id)));
    }

    fn draw(&mut self) -> Duration {
        let jitter = self.wait.jitter.as_nanos() as u64;
        let earliest = self.wait.delay.saturating_sub(self.wait.jitter);
        earliest + Duration::from_nanos(self.random.random_range(0..=2 * jitter))
    }

    fn next(&self) -> Option<Instant> {
        self.held.peek().map(|Reverse((leaves, _, _))| *leaves)
    }

    fn due(&mut self, now: Instant) -> Vec<u32> {
        let mut due = Vec::new();
        while self.next().is_some_and(|leaves| leaves <= now) {
            due.extend(self.held.pop().map(|Reverse((_, _, id))| id));
        }
        due
    }
}

/// Holds and releases packets until `stop`; then lets all go at once.
pub(crate) fn hold(socket: &QueueSocket, wait: Wait, stop: &Arc<AtomicBool>) -> std::io::Result<QueueCount> {
    let mut schedule = Schedule::new(wait);
    while !stop.load(Ordering::Relaxed) {
        let now = Instant::now();
        let patience = schedule
            .next()
            .map_or(STOP_LATENCY, |leaves| leaves.saturating_duration_since(now));
        socket.wait(patience.min(STOP_LATENCY))?;
        let received = socket.receive()?;
        schedule.count.overruns += received.overruns;
        let now = Instant::now();
        received
            .packets
            .into_iter()
            .for_each(|packet| schedule.arrive(packet, now));
        socket.accept(&schedule.due(now))?;
    }
    // Whatever the kernel still queues would be dropped with the socket.
    loop {
        let rest = socket.receive()?.packets;
        if rest.is_empty() {
            break;
        }
        let now = Instant::now();
        rest.into_iter().for_each(|packet| schedule.arrive(packet, now));
    }
    let all: Vec<u32> = schedule.held.drain().map(|Reverse((_, _, id))| id).collect();
    socket.accept(&all)?;
    Ok(schedule.count)
}

/// Sends the packets that match to queue `number`.
pub(crate) fn add_rules(netns: &NetnsFd, chain: &str, number: u16, packets: &PacketMatch) -> Result<(), ToolError> {
    let mut script = format!("*mangle\n:{chain} - [0:0]\n");
    for condition in packets.iptables_conditions() {
        let _infallible = writeln!(
            script,
            "-A {chain} {condition} -j NFQUEUE --queue-num {number} --queue-bypass"
        );
    }
    let _infallible = writeln!(script, "-A {}\nCOMMIT", jump(packets.way, chain));
    tool::run(netns, "iptables-legacy-restore", &["--noflush", "-w", "5"], &script).map(drop)
}

/// Takes the rules away, if they are there.
pub(crate) fn remove_rules(netns: &NetnsFd, chain: &str) -> Result<(), ToolError> {
    let present = tool::run(netns, "iptables-legacy-save", &["-t", "mangle"], "")?;
    if !present.contains(&format!(":{chain} ")) {
        return Ok(());
    }
    let jumps = [Way::In, Way::Out]
        .map(|way| jump(way, chain))
        .into_iter()
        .filter(|jump| present.contains(jump.as_str()));
    let deletions: String = jumps.map(|jump| format!("-D {jump}\n")).collect();
    let script = format!("*mangle\n{deletions}-F {chain}\n-X {chain}\nCOMMIT\n");
    tool::run(netns, "iptables-legacy-restore", &["--noflush", "-w", "5"], &script).map(drop)
}

fn jump(way: Way, chain: &str) -> String {
    match way {
        Way::In => format!("INPUT -i eth0 -j {chain}"),
        Way::Out => format!("OUTPUT -o eth0 -j {chain}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(jitter_ms: u64) -> Schedule {
        let jitter = Duration::from_millis(jitter_ms);
        Schedule::new(Wait {
            delay: Duration::from_millis(50),
            jitter,
            seed: 7,
        })
    }

    #[test]
    fn nothing_leaves_before_its_time_and_all_leave_in_order() {
        let mut schedule = schedule(0);
        let start = Instant::now();
        (0..3).for_each(|id| {
            schedule.arrive(
                Packet {
                    id,
                    flow: u64::from(id),
                },
                start + Duration::from_millis(id.into()),
            )
        });
        assert!(schedule.due(start + Duration::from_micros(49_999)).is_empty());
        assert_eq!(schedule.due(start + Duration::from_millis(51)), [0, 1]);
        assert_eq!(schedule.due(start + Duration::from_millis(52)), [2]);
    }

    #[test]
    fn jitter_stays_in_its_bounds_and_never_reorders_a_flow() {
        let mut schedule = schedule(20);
        let start = Instant::now();
        (0..1000).for_each(|id| schedule.arrive(Packet { id, flow: 1 }, start));
        assert!(schedule.due(start + Duration::from_micros(29_999)).is_empty());
        let left = schedule.due(start + Duration::from_millis(70));
        assert_eq!(left, (0..1000).collect::<Vec<_>>());
    }

    #[test]
    fn what_does_not_fit_passes_at_once_and_is_counted() {
        let mut schedule = schedule(0);
        let start = Instant::now();
        (0..=HELD_MAX as u32).for_each(|id| schedule.arrive(Packet { id, flow: 1 }, start));
        assert_eq!(schedule.due(start), [HELD_MAX as u32]);
        assert_eq!(schedule.count.overflowed, 1);
    }
}
