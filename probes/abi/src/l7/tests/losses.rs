//! What was not seen: connections picked up in their middle, gaps, floods.

use super::{Connection, Counts, client, server};
use crate::l7::{Direction, Protocol, STEP_LIMIT, dns};

const GET: &str = "*2\r\n$3\r\nGET\r\n$1\r\na\r\n";

#[test]
fn a_connection_is_picked_up_at_its_next_request() {
    let mut redis = Connection::new();
    redis.turn(&client("lue\r\n"));
    redis.turn(&server("+OK\r\n"));
    redis.turn(&client(GET));
    redis.turn(&server("$-1\r\n"));
    assert_eq!(
        redis.counts(),
        Counts {
            misses: 1,
            unparsed: 2,
            ..Counts::answered(1)
        }
    );

    let mut postgres = Connection::new();
    postgres.turn(&client(b"Q\0\0\0\x0dselect 1\0"));
    postgres.turn(&server(b"C\0\0\0\x0dSELECT 1\0Z\0\0\0\x05I"));
    assert_eq!(postgres.state.protocol(), Protocol::Postgres);
    assert_eq!(postgres.counts(), Counts::answered(1));

    let mut extended = Connection::new();
    extended.turn(&client(b"B\0\0\0\x0a\0\0\0\0\0\0E\0\0\0\x09\0\0\0\0\0S\0\0\0\x04"));
    extended.turn(&server(b"2\0\0\0\x04C\0\0\0\x0dSELECT 1\0Z\0\0\0\x05I"));
    assert_eq!(extended.counts(), Counts::answered(1));

    let mut encrypted = Connection::new();
    encrypted.turn(&client([0x17, 3, 3, 0, 2, 9, 9]));
    assert_eq!(encrypted.state.protocol(), Protocol::Encrypted);
}

#[test]
fn a_gap_within_a_body_loses_nothing() {
    let mut http = Connection::new();
    http.turn(&client("GET / HTTP/1.1\r\n\r\n"));
    http.turn(&server("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01"));
    http.gap(Direction::ToClient, 5);
    http.turn(&server("789"));
    http.turn(&client("GET / HTTP/1.1\r\n\r\n"));
    http.turn(&server("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
    assert_eq!(http.counts(), Counts::answered(2));
}

#[test]
fn a_lost_answer_is_abandoned_and_the_next_pair_is_whole() {
    let mut redis = Connection::new();
    redis.turn(&client(GET.repeat(3)));
    redis.turn(&server("$1\r\n1\r\n"));
    redis.gap(Direction::ToClient, 5);
    redis.turn(&server("$1\r\n1\r\n"));
    redis.turn(&client(GET));
    redis.turn(&server("$-1\r\n"));
    let expected = Counts {
        requests: 4,
        responses: 2,
        timed: 2,
        hits: 1,
        misses: 1,
        abandoned: 2,
        unparsed: 2,
        ..Counts::default()
    };
    assert_eq!(redis.counts(), expected);
}

#[test]
fn a_lost_request_leaves_its_answer_unsolicited() {
    let mut redis = Connection::new();
    redis.turn(&client(GET));
    redis.turn(&server("$-1\r\n"));
    redis.gap(Direction::ToServer, GET.len() as u64);
    redis.turn(&server("$1\r\n1\r\n"));
    redis.turn(&client(GET));
    redis.turn(&server("$-1\r\n"));
    assert_eq!(
        redis.counts(),
        Counts {
            misses: 2,
            unsolicited: 1,
            unparsed: 1,
            ..Counts::answered(2)
        }
    );
}

#[test]
fn bytes_that_cannot_be_lose_the_rest_of_their_segment_only() {
    let mut redis = Connection::new();
    redis.turn(&client(format!("{GET}*2\r\nnonsense\r\n{GET}")));
    redis.turn(&server("$-1\r\n"));
    redis.turn(&client(GET));
    redis.turn(&server("$-1\r\n"));
    assert_eq!(
        redis.counts(),
        Counts {
            misses: 2,
            unparsed: 1,
            ..Counts::answered(2)
        }
    );
}

#[test]
fn a_flood_of_tokens_ends_at_the_limit() {
    let rows = STEP_LIMIT as usize * 2;
    let mut postgres = Connection::new();
    postgres.turn(&client(b"Q\0\0\0\x0dselect 1\0"));
    postgres.turn(&server(b"D\0\0\0\x08\0\0\0\0".repeat(rows)));
    postgres.turn(&server(
        [&b"D\0\0\0\x08\0\0\0\0".repeat(rows)[3..], b"Z\0\0\0\x05I"].concat(),
    ));
    postgres.turn(&client(b"Q\0\0\0\x0dselect 1\0"));
    postgres.turn(&server(b"C\0\0\0\x0dSELECT 1\0Z\0\0\0\x05I"));
    assert_eq!(
        postgres.counts(),
        Counts {
            unparsed: 1,
            ..Counts::answered(2)
        }
    );
}

#[test]
fn requests_under_way_have_an_age() {
    let mut http = Connection::new();
    assert_eq!(http.state.outstanding_age_ns(http.now_ns), None);
    http.turn(&client("GET / HTTP/1.1\r\n\r\n"));
    assert_eq!(http.state.outstanding_age_ns(http.now_ns), Some(10_000_000));
    // A reader's clock may be a little behind.
    assert_eq!(http.state.outstanding_age_ns(http.now_ns - 20_000_000), Some(0));
    assert_eq!(http.state.outstanding(), 1);
}

#[test]
fn names_are_asked_and_answered() {
    let mut query = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x05cache\x04shop\0\0\x01\0\x01".to_vec();
    let length = query.len() as u32;
    let message = dns::message(query.as_slice(), length).map(|message| (message.id, message.role, message.code));
    assert_eq!(message, Some((0x1234, dns::Role::Query, 0)));
    query[2] = 0x81;
    query[3] = 0x83;
    let message = dns::message(query.as_slice(), length).map(|message| (message.role, message.code));
    assert_eq!(message, Some((dns::Role::Response, 3)));
    query[5] = 2;
    assert_eq!(dns::message(query.as_slice(), length), None);
    assert_eq!(dns::message(&query[..16], 16), None);
}

/// A departure may be stamped ahead of the clock that dates the answer's arrival.
#[test]
fn an_answer_before_its_request_took_no_time() {
    let mut connection = Connection::new();
    connection.turn(&client("GET / HTTP/1.1\r\n\r\n"));
    connection.now_ns = super::TURN_NS / 2;
    connection.turn(&server("HTTP/1.1 204 No Content\r\n\r\n"));
    assert_eq!(connection.state.latency[0], 1, "{:?}", connection.state.latency);
}
