//! Arbitrary input: nothing panics, every counter is bounded by what was seen.

use proptest::prelude::*;

use super::{Connection, Counts};
use crate::l7::{Direction, Protocol, TIMED_REQUESTS, TRACKED_REQUESTS, dns};

/// Pieces of the protocols, so that arbitrary input gets beyond the first byte.
const PIECES: [&[u8]; 32] = [
    b"*2\r\n",
    b"$3\r\n",
    b"GET\r\n",
    b"$-1\r\n",
    b"*-1\r\n",
    b"_\r\n",
    b"%3\r\n",
    b">1\r\n",
    b"|1\r\n",
    b"+OK\r\n",
    b"-ERR x\r\n",
    b"$99999999\r\n",
    b"*16777216\r\n",
    b"*4\r\n$4\r\nMGET\r\n",
    b"*1\r\n$9\r\nSUBSCRIBE\r\n",
    b"GET / HTTP/1.1\r\n",
    b"HEAD /",
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 101 X\r\n\r\n",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"\r\n",
    b"ffffffffffffffff\r\n",
    b"0\r\n\r\n",
    b"\0\0\0\x08\x04\xd2\x16\x2f",
    b"\0\0\0\x09\0\x03\0\0\0",
    b"Q\0\0\0\x05\0",
    b"E\0\0\0\x04",
    b"S\0\0\0\x04",
    b"Z\0\0\0\x05I",
    b"D\x7f\xff\xff\xff",
    b"\x16\x03\x01",
];

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        8 => (0..PIECES.len()).prop_map(|index| PIECES[index].to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..40),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

fn direction() -> impl Strategy<Value = Direction> {
    prop_oneof![Just(Direction::ToServer), Just(Direction::ToClient)]
}

proptest! {
    #[test]
    fn counters_are_bounded_by_the_bytes_seen(
        segments in prop::collection::vec((direction(), bytes(), prop::option::weighted(0.1, any::<u32>())), 0..24)
    ) {
        let mut connection = Connection::new();
        let (mut to_server, mut to_client, mut gap_count) = (0, 0, 0);
        for (direction, bytes, gap) in &segments {
            if let Some(missing) = gap {
                connection.gap(*direction, u64::from(*missing));
                gap_count += 1;
            }
            connection.segment(*direction, bytes);
            connection.now_ns += 1_000;
            match direction {
                Direction::ToServer => to_server += bytes.len() as u32,
                Direction::ToClient => to_client += bytes.len() as u32,
            }
        }
        let counts = Counts::of(&connection.state);
        prop_assert!(counts.requests <= to_server);
        prop_assert!(counts.responses + counts.unsolicited <= to_client);
        prop_assert!(counts.hits + counts.misses <= to_client);
        prop_assert!(counts.errors + counts.client_errors + counts.redirects <= to_client);
        prop_assert!(counts.timed <= counts.responses + counts.outstanding + counts.abandoned);
        prop_assert!(counts.unparsed + connection.state.encrypted() <= segments.len() as u32 + gap_count);
    }

    #[test]
    fn arbitrary_bytes_do_not_panic(
        segments in prop::collection::vec((direction(), prop::collection::vec(any::<u8>(), 0..200)), 0..8)
    ) {
        let mut connection = Connection::new();
        for (direction, bytes) in &segments {
            connection.segment(*direction, bytes);
        }
        prop_assert!(connection.state.unparsed() <= segments.len() as u32);
    }

    #[test]
    fn arbitrary_datagrams_do_not_panic(datagram in prop::collection::vec(any::<u8>(), 0..64)) {
        let message = dns::message(datagram.as_slice(), datagram.len() as u32);
        prop_assert!(message.is_none() || datagram.len() >= 17);
    }

    /// Any batches of commands, in any segments: as many answers as commands, each hit and miss told.
    #[test]
    fn redis_pipelines_are_counted_exactly(
        batches in prop::collection::vec(prop::collection::vec((0_u8..4, 0_usize..100), 1..TRACKED_REQUESTS), 1..6),
        cut in 1_usize..400,
    ) {
        let mut connection = Connection::new();
        let mut expected = Counts::default();
        for batch in &batches {
            let (mut commands, mut replies) = (Vec::new(), Vec::new());
            for (index, (command, length)) in batch.iter().enumerate() {
                let value = "*1\r\n$-1\r\n".chars().cycle().take(*length).collect::<String>();
                let (request, reply) = match command {
                    0 => ("*2\r\n$3\r\nGET\r\n$1\r\na\r\n".to_string(), format!("${length}\r\n{value}\r\n")),
                    1 => ("*2\r\n$6\r\ngetdel\r\n$1\r\na\r\n".to_string(), "$-1\r\n".to_string()),
                    2 => (format!("*3\r\n$3\r\nSET\r\n$1\r\na\r\n${length}\r\n{value}\r\n"), "+OK\r\n".to_string()),
                    _ => ("*3\r\n$4\r\nMGET\r\n$1\r\na\r\n$1\r\nb\r\n".to_string(),
                          format!("*2\r\n_\r\n${length}\r\n{value}\r\n")),
                };
                commands.extend(request.bytes());
                replies.extend(reply.bytes());
                expected.requests += 1;
                expected.responses += 1;
                expected.hits += u32::from(matches!(command, 0 | 3));
                expected.misses += u32::from(matches!(command, 1 | 3));
                if index < TIMED_REQUESTS { expected.timed += 1 } else { expected.untimed += 1 }
            }
            commands.chunks(cut).for_each(|segment| connection.segment(Direction::ToServer, segment));
            replies.chunks(cut + 1).for_each(|segment| connection.segment(Direction::ToClient, segment));
        }
        prop_assert_eq!(connection.counts(), expected);
        prop_assert_eq!(connection.state.protocol(), Protocol::Redis);
    }
}
