//! What is taken in at once is booked as by steps, and what is passed over is counted and harms nothing.

use proptest::prelude::*;

use super::{Connection, Counts};
use crate::l7::{Budget, Cursor, Direction, L7State, in_steps, on_late_start, on_segment, pass_over};

const GET: &[u8] = b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n";
const VALUE: &[u8] = b"$5\r\nhello\r\n";
const NIL: &[u8] = b"$-1\r\n";
/// From a request to its answer, and to the next request.
const HALF_TURN_NS: u64 = 20_000;

/// A command or a reply, most often a sound one.
fn message() -> impl Strategy<Value = (Direction, Vec<u8>)> {
    let name = prop::sample::select(vec![
        "GET",
        "set",
        "HGETALL",
        "MGET",
        "PSYNC",
        "x",
        "subscribe",
        "FT.SEARCH",
    ]);
    let command = (name, prop::collection::vec(0_usize..120, 0..5)).prop_map(|(name, arguments)| {
        let mut bytes = format!("*{}\r\n${}\r\n{name}\r\n", arguments.len() + 1, name.len());
        for length in arguments {
            bytes += &format!("${length}\r\n{}\r\n", "$".repeat(length));
        }
        (Direction::ToServer, bytes.into_bytes())
    });
    let replies = [
        "+OK\r\n",
        ":7\r\n",
        ":1234567\r\n",
        "$-1\r\n",
        "-ERR no\r\n",
        "+a\n+b\r\n",
        "*1\r\n$1\r\na\r\n",
        "_\r\n",
    ];
    let reply = prop_oneof![
        prop::sample::select(replies.to_vec()).prop_map(str::to_owned),
        (0_usize..120_000).prop_map(|length| format!("${length}\r\n{}\r\n", "+".repeat(length.min(100)))),
        (0_usize..90).prop_map(|length| format!("${length}\r\n{}\r\n", "\n".repeat(length))),
    ];
    prop_oneof![
        command,
        reply.prop_map(|reply| (Direction::ToClient, reply.into_bytes()))
    ]
}

/// A segment: messages whole, cut off, or with a byte that does not belong there.
fn segment() -> impl Strategy<Value = (Direction, Vec<u8>)> {
    let flaw = prop_oneof![
        1 => Just(None),
        1 => any::<(prop::sample::Index, Option<u8>)>().prop_map(Some),
    ];
    (message(), 1_usize..3, flaw).prop_map(|((direction, bytes), times, flaw)| {
        let mut bytes = bytes.repeat(times);
        match flaw {
            Some((at, Some(byte))) => {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            Some((at, None)) => bytes.truncate(at.index(bytes.len()) + 1),
            None => (),
        }
        (direction, bytes)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5_000))]

    #[test]
    fn at_once_is_as_by_steps(segments in prop::collection::vec(segment(), 1..16)) {
        let mut now_ns = 1_000_000;
        let start = Connection::new().state;
        let (mut at_once, mut by_steps) = (start, start);
        for (direction, bytes) in &segments {
            let length = bytes.len() as u32;
            on_segment(&mut at_once, bytes.as_slice(), *direction, length, now_ns);
            in_steps(&mut by_steps, Cursor::new(length, now_ns), bytes.as_slice(), *direction);
            prop_assert_eq!(bytemuck::bytes_of(&at_once), bytemuck::bytes_of(&by_steps), "{:?}", segments);
            now_ns += 1_000;
        }
    }
}

/// A connection with a budget.
struct Watched {
    connection: Connection,
    may_look: bool,
}

impl Watched {
    fn new() -> Self {
        let mut connection = Connection::new();
        // It wraps with the first answer after those of `turning`.
        connection.state.to_client.sequence_end = u32::MAX - 1_105;
        Self {
            connection,
            may_look: true,
        }
    }

    /// The budget is not asked twice in one slice.
    fn may_look_in_the_next_slice(&mut self) {
        self.may_look = true;
        self.connection.now_ns += 1000 << 14;
    }

    /// True if the segment was passed over.
    fn segment(&mut self, direction: Direction, bytes: &[u8]) -> bool {
        let Connection { state, now_ns } = &mut self.connection;
        *now_ns += HALF_TURN_NS;
        if direction == Direction::ToClient {
            state.to_client.sequence_end = state.to_client.sequence_end.wrapping_add(bytes.len() as u32);
        }
        let acknowledged = state.to_client.sequence_end;
        let passed = pass_over(state, direction, *now_ns, acknowledged, |_| self.may_look);
        if !passed {
            self.connection.segment(direction, bytes);
        }
        passed
    }

    /// True if it was passed over, both ways.
    fn turn(&mut self, answer: &[u8]) -> bool {
        let request = self.segment(Direction::ToServer, GET);
        assert_eq!(
            self.segment(Direction::ToClient, answer),
            request,
            "an answer goes as its request"
        );
        request
    }

    fn state(&self) -> &L7State {
        &self.connection.state
    }
}

/// One that has taken turns for long enough.
fn turning() -> (Watched, u32) {
    let mut watched = Watched::new();
    let turns = 100;
    (0..turns).for_each(|_| assert!(!watched.turn(VALUE)));
    (watched, turns)
}

#[test]
fn without_time_turns_are_counted_and_looked_into_again_later() {
    let (mut watched, before) = turning();
    watched.may_look = false;
    (0..1000).for_each(|_| assert!(watched.turn(b"$5\r\nhel")));
    assert_eq!(watched.state().passed_over, 1000);
    assert_eq!(watched.state().outstanding(), 0);
    watched.may_look_in_the_next_slice();
    (0..50).for_each(|_| assert!(!watched.turn(NIL)));
    let expected = Counts {
        hits: before,
        misses: 50,
        ..Counts::answered(before + 50)
    };
    assert_eq!(watched.connection.counts(), expected);
    let bucket = crate::latency_bucket(HALF_TURN_NS / 1000) as usize;
    assert_eq!(
        watched.state().latency[bucket],
        before + 50,
        "each answer went with its own request"
    );
}

#[test]
fn a_new_connection_and_one_that_does_not_take_turns_are_always_looked_into() {
    let mut fresh = Watched::new();
    fresh.may_look = false;
    assert!(!fresh.turn(VALUE));
    assert!(!fresh.turn(VALUE));

    let (mut ahead, before) = turning();
    // From now on there is always one more request under way.
    assert!(!ahead.segment(Direction::ToServer, GET));
    ahead.may_look = false;
    (0..500).for_each(|_| assert!(!ahead.turn(VALUE)));
    assert_eq!(ahead.state().passed_over, 0);
    assert_eq!(ahead.state().requests, before + 501);
}

#[test]
fn one_that_sometimes_asks_twice_is_always_looked_into() {
    let (mut twice, _) = turning();
    assert!(!twice.segment(Direction::ToServer, GET));
    assert!(!twice.turn(VALUE));
    twice.segment(Direction::ToClient, VALUE);
    assert_eq!(twice.state().outstanding(), 0);
    twice.may_look = false;
    assert!(!twice.turn(VALUE));
}

#[test]
fn an_answer_to_what_was_looked_into_is_not_passed_over() {
    let (mut watched, before) = turning();
    watched.may_look = false;
    assert!(watched.turn(VALUE));
    // What is lost makes the parser look for a beginning, time or not.
    watched.connection.gap(Direction::ToServer, 10);
    assert!(!watched.turn(VALUE));
    assert_eq!(
        (watched.state().requests, watched.state().responses),
        (before + 1, before + 1)
    );
}

#[test]
fn a_server_that_hangs_is_seen_on_a_connection_that_is_passed_over() {
    let (mut watched, _) = turning();
    watched.may_look = false;
    assert!(watched.turn(VALUE));
    assert_eq!(watched.state().outstanding_age_ns(watched.connection.now_ns), None);
    assert!(watched.segment(Direction::ToServer, GET));
    let later_ns = watched.connection.now_ns + 3_000_000_000;
    assert_eq!(watched.state().outstanding(), 1);
    assert_eq!(watched.state().outstanding_age_ns(later_ns), Some(3_000_000_000));
}

#[test]
fn a_request_and_an_answer_in_several_segments_are_one() {
    let (mut watched, before) = turning();
    watched.may_look = false;
    for _ in 0..10 {
        assert!(watched.segment(Direction::ToServer, b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$40\r\nGET a"));
        watched.may_look_in_the_next_slice();
        // It is begun, so it is not looked into.
        assert!(watched.segment(Direction::ToServer, b" GET b GET c GET d GET"));
        assert!(watched.segment(Direction::ToServer, b" e GET f GET\r\n"));
        watched.may_look = false;
        assert_eq!(watched.state().outstanding(), 1);
        assert!(watched.segment(Direction::ToClient, b"$10\r\nhello"));
        assert_eq!(watched.state().outstanding(), 0);
        assert!(watched.segment(Direction::ToClient, b"world\r\n"));
    }
    assert_eq!((watched.state().passed_over, watched.state().requests), (10, before));
    watched.may_look_in_the_next_slice();
    assert!(!watched.turn(VALUE));
    let expected = Counts {
        hits: before + 1,
        ..Counts::answered(before + 1)
    };
    assert_eq!(watched.connection.counts(), expected);
}

#[test]
fn within_a_slice_the_budget_is_asked_once() {
    let (mut watched, _) = turning();
    watched.may_look = false;
    assert!(watched.turn(VALUE));
    watched.may_look = true;
    assert!(watched.turn(VALUE), "the same slice");
    watched.may_look_in_the_next_slice();
    watched.may_look = false;
    assert!(watched.turn(VALUE), "the next, in which there is no time either");
    watched.may_look = true;
    assert!(watched.turn(VALUE));
    watched.may_look_in_the_next_slice();
    assert!(!watched.turn(VALUE));
    watched.may_look = false;
    assert!(watched.turn(VALUE), "no longer in that slice either");
}

#[test]
fn what_is_looked_into_is_counted_whatever_was_passed_over_before() {
    for acknowledged in 0..16 {
        let mut ahead = Watched::new();
        ahead.connection.state.to_client.sequence_end = acknowledged;
        (0..4).for_each(|_| assert!(!ahead.segment(Direction::ToServer, GET)));
        assert_eq!(ahead.state().requests, 4);
    }

    let (mut watched, _) = turning();
    watched.may_look = false;
    assert!(watched.turn(VALUE));
    watched.may_look_in_the_next_slice();
    assert!(!watched.turn(VALUE));
    assert!(!watched.segment(Direction::ToClient, VALUE));
    assert_eq!(watched.state().unsolicited, 1);
}

#[test]
fn the_middle_of_a_request_is_not_taken_for_one() {
    let (mut watched, before) = turning();
    watched.may_look = false;
    assert!(watched.segment(Direction::ToServer, b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$40\r\nGET a"));
    // The server says something of its own accord.
    assert!(watched.segment(Direction::ToClient, b"-ERR\r\n"));
    watched.may_look_in_the_next_slice();
    assert!(!watched.segment(Direction::ToServer, b"GET b GET c GET d GET e GET f GET g\r\n"));
    assert_eq!((watched.state().requests, watched.state().unparsed()), (before, 1));
    watched.segment(Direction::ToClient, b"+OK\r\n");
    assert!(!watched.turn(VALUE));
    assert_eq!(watched.state().requests, before + 1);
    assert_eq!(watched.state().outstanding(), 0);
}

#[test]
fn a_budget_fills_up_with_time_and_saves_for_a_burst() {
    let granted = |budget: &mut Budget, now_us| (0..100_000).filter(|_| budget.take(now_us)).count() as u32;
    let mut budget: Budget = bytemuck::Zeroable::zeroed();
    let start_us = u32::MAX / 2 - 5_000_000;
    assert_eq!(granted(&mut budget, start_us), Budget::REQUESTS_MAX);
    let mut now_us = start_us;
    // Over the place where the clock wraps, and with stamps that are a little older than others.
    for slices in [1, 2, 5, 3, 40, 200_000, 100_000, 1] {
        now_us = now_us.wrapping_add(slices << 14);
        let filled = (slices * Budget::REQUESTS_PER_SLICE).min(Budget::REQUESTS_MAX);
        assert_eq!(granted(&mut budget, now_us), filled, "{slices}");
        assert_eq!(granted(&mut budget, now_us.wrapping_sub(2_000)), 0);
    }
}

#[test]
fn of_requests_before_the_first_answer_that_was_seen_only_the_newest_waits() {
    let mut connection = Connection::new();
    (0..20).for_each(|_| connection.segment(Direction::ToServer, GET));
    connection.now_ns += HALF_TURN_NS;
    connection.segment(Direction::ToServer, GET);
    connection.now_ns += HALF_TURN_NS;
    on_late_start(&mut connection.state);
    connection.segment(Direction::ToClient, VALUE);
    let state = &connection.state;
    assert_eq!((state.outstanding(), state.abandoned, state.responses), (0, 20, 1));
    assert_eq!(state.latency[crate::latency_bucket(HALF_TURN_NS / 1000) as usize], 1);
}
