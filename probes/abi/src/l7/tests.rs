//! Conversations cut at every position: whatever the segments, the counts are the same.

use bytemuck::Zeroable;

use super::{Direction, L7State, Protocol, on_gap, on_segment};
use crate::latency_bucket;

mod conversations;
mod losses;
mod properties;
mod short_ways;

/// One side's turn.
#[derive(Clone, Debug)]
pub(super) enum Turn {
    Client(Vec<u8>),
    Server(Vec<u8>),
}

pub(super) fn client(bytes: impl AsRef<[u8]>) -> Turn {
    Turn::Client(bytes.as_ref().to_vec())
}

pub(super) fn server(bytes: impl AsRef<[u8]>) -> Turn {
    Turn::Server(bytes.as_ref().to_vec())
}

impl Turn {
    fn parts(&self) -> (Direction, &[u8]) {
        match self {
            Turn::Client(bytes) => (Direction::ToServer, bytes),
            Turn::Server(bytes) => (Direction::ToClient, bytes),
        }
    }
}

/// What is expected of a conversation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) requests: u32,
    pub(super) responses: u32,
    pub(super) errors: u32,
    pub(super) client_errors: u32,
    pub(super) redirects: u32,
    pub(super) hits: u32,
    pub(super) misses: u32,
    pub(super) untimed: u32,
    pub(super) abandoned: u32,
    pub(super) unsolicited: u32,
    pub(super) unparsed: u32,
    pub(super) outstanding: u32,
    pub(super) timed: u32,
}

impl Counts {
    pub(super) fn of(state: &L7State) -> Self {
        Self {
            requests: state.requests,
            responses: state.responses,
            errors: state.errors,
            client_errors: state.client_errors,
            redirects: state.redirects,
            hits: state.hits,
            misses: state.misses,
            untimed: state.untimed,
            abandoned: state.abandoned,
            unsolicited: state.unsolicited,
            unparsed: state.unparsed(),
            outstanding: state.outstanding(),
            timed: state.latency.iter().sum(),
        }
    }

    /// Every request was answered and timed.
    pub(super) fn answered(count: u32) -> Self {
        Self {
            requests: count,
            responses: count,
            timed: count,
            ..Self::default()
        }
    }
}

/// From one turn's first byte to the next one's.
const TURN_NS: u64 = 10_000_000;
/// From one segment of a turn to the next.
const SEGMENT_NS: u64 = 1_000;

/// A connection under test.
pub(super) struct Connection {
    pub(super) state: L7State,
    pub(super) now_ns: u64,
}

impl Connection {
    pub(super) fn new() -> Self {
        Self {
            state: L7State::zeroed(),
            now_ns: TURN_NS,
        }
    }

    pub(super) fn segment(&mut self, direction: Direction, bytes: &[u8]) {
        on_segment(&mut self.state, bytes, direction, bytes.len() as u32, self.now_ns);
    }

    /// A turn as one segment.
    pub(super) fn turn(&mut self, turn: &Turn) {
        let (direction, bytes) = turn.parts();
        self.segment(direction, bytes);
        self.now_ns += TURN_NS;
    }

    /// A turn in segments of the given sizes, the last one taking the rest.
    fn turn_cut(&mut self, turn: &Turn, sizes: impl Iterator<Item = usize>) {
        let (direction, bytes) = turn.parts();
        let start_ns = self.now_ns;
        let mut rest = bytes;
        for size in sizes {
            let (segment, after) = rest.split_at(size.min(rest.len()));
            if segment.is_empty() {
                break;
            }
            self.segment(direction, segment);
            self.now_ns += SEGMENT_NS;
            rest = after;
        }
        if !rest.is_empty() {
            self.segment(direction, rest);
        }
        self.now_ns = start_ns + TURN_NS;
    }

    pub(super) fn gap(&mut self, direction: Direction, missing_bytes: u64) {
        on_gap(&mut self.state, direction, missing_bytes);
    }

    pub(super) fn counts(&self) -> Counts {
        Counts::of(&self.state)
    }
}

/// Plays a conversation whole, with each turn cut once at each position, and in equal pieces of each size; every way
/// must give the same counts. Each answer begins one turn after its request, whatever the cuts.
#[track_caller]
pub(super) fn check(protocol: Protocol, turns: &[Turn], expected: Counts) {
    let verify = |connection: &Connection, how: &str| {
        assert_eq!(connection.counts(), expected, "{how}");
        assert_eq!(connection.state.protocol(), protocol, "{how}");
        let bucket = latency_bucket(TURN_NS / 1000) as usize;
        assert_eq!(connection.state.latency[bucket], expected.timed, "latencies, {how}");
    };
    let mut whole = Connection::new();
    turns.iter().for_each(|turn| whole.turn(turn));
    verify(&whole, "whole");

    for (cut_index, cut_turn) in turns.iter().enumerate() {
        for position in 1..cut_turn.parts().1.len() {
            let mut connection = Connection::new();
            for (index, turn) in turns.iter().enumerate() {
                if index == cut_index {
                    connection.turn_cut(turn, std::iter::once(position));
                } else {
                    connection.turn(turn);
                }
            }
            verify(&connection, &format!("turn {cut_index} cut at {position}"));
        }
    }
    let longest = turns.iter().map(|turn| turn.parts().1.len()).max().unwrap_or(0);
    for size in 1..longest.min(80) {
        let mut connection = Connection::new();
        turns
            .iter()
            .for_each(|turn| connection.turn_cut(turn, std::iter::repeat(size)));
        verify(&connection, &format!("pieces of {size}"));
    }
}
