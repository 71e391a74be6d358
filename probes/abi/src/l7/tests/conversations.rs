//! One conversation per trait of each protocol.

use super::{Counts, check, client, server};
use crate::l7::{Protocol, TIMED_REQUESTS, TRACKED_REQUESTS};

fn message(kind: u8, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut bytes = vec![kind];
    bytes.extend((body.len() as u32 + 4).to_be_bytes());
    bytes.extend(body);
    bytes
}

fn startup(code: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = (body.len() as u32 + 8).to_be_bytes().to_vec();
    bytes.extend(code.to_be_bytes());
    bytes.extend(body);
    bytes
}

fn open() -> [super::Turn; 4] {
    [
        client(startup(196_608, b"user\0shop\0database\0shop\0\0")),
        server(message(b'R', [0, 0, 0, 5, 1, 2, 3, 4])),
        client(message(b'p', b"md50123456789abcdef\0")),
        server(
            [
                message(b'R', [0, 0, 0, 0]),
                message(b'S', b"server_version\x0015.6\0"),
                message(b'K', [0, 0, 1, 2, 3, 4, 5, 6]),
                message(b'Z', b"I"),
            ]
            .concat(),
        ),
    ]
}

fn after_open(turns: impl IntoIterator<Item = super::Turn>) -> Vec<super::Turn> {
    open().into_iter().chain(turns).collect()
}

#[test]
fn redis_counts_hits_and_misses_of_get_class_commands_only() {
    check(
        Protocol::Redis,
        &[
            client("*2\r\n$3\r\nGET\r\n$5\r\nk:001\r\n"),
            server("$5\r\nhello\r\n"),
            client("*2\r\n$3\r\nget\r\n$5\r\nk:002\r\n"),
            server("$-1\r\n"),
            client("*3\r\n$3\r\nSET\r\n$5\r\nk:001\r\n$5\r\n*2\r\n$\r\n"),
            server("+OK\r\n"),
            client("*4\r\n$8\r\nGETRANGE\r\n$5\r\nk:003\r\n$1\r\n0\r\n$1\r\n9\r\n"),
            server("$0\r\n\r\n"),
            client("*3\r\n$4\r\nHGET\r\n$1\r\nh\r\n$1\r\nf\r\n"),
            server("_\r\n"),
            client("*2\r\n$7\r\nHGETALL\r\n$1\r\nh\r\n"),
            server("%1\r\n$1\r\nf\r\n$1\r\nv\r\n"),
            client("*2\r\n$7\r\nHGETALL\r\n$1\r\ng\r\n"),
            server("*0\r\n"),
        ],
        Counts {
            hits: 2,
            misses: 3,
            ..Counts::answered(7)
        },
    );
}

#[test]
fn redis_counts_each_key_of_mget_and_no_nested_nil_of_others() {
    check(
        Protocol::Redis,
        &[
            client("*4\r\n$4\r\nMGET\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n"),
            server("*3\r\n$1\r\n1\r\n$-1\r\n$0\r\n\r\n"),
            client("*3\r\n$5\r\nHMGET\r\n$1\r\nh\r\n$1\r\nf\r\n"),
            server("*1\r\n_\r\n"),
            client("*3\r\n$4\r\nEVAL\r\n$8\r\nreturn 1\r\n$1\r\n0\r\n"),
            server("*3\r\n*2\r\n$-1\r\n:1\r\n*-1\r\n*1\r\n*1\r\n$-1\r\n"),
        ],
        Counts {
            hits: 2,
            misses: 2,
            ..Counts::answered(3)
        },
    );
}

#[test]
fn redis_tells_errors_from_redirects() {
    check(
        Protocol::Redis,
        &[
            client("*2\r\n$3\r\nGET\r\n$1\r\na\r\n"),
            server("-MOVED 3999 10.0.0.7:6379\r\n"),
            client("*2\r\n$3\r\nGET\r\n$1\r\na\r\n"),
            server("-ASK 3999 10.0.0.7:6379\r\n"),
            client("*2\r\n$3\r\nGET\r\n$1\r\na\r\n"),
            server("-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"),
            client("*2\r\n$3\r\nGET\r\n$1\r\na\r\n"),
            server("!21\r\nSYNTAX invalid syntax\r\n"),
        ],
        Counts {
            redirects: 2,
            errors: 2,
            ..Counts::answered(4)
        },
    );
}

#[test]
fn redis_queued_commands_neither_hit_nor_miss() {
    check(
        Protocol::Redis,
        &[
            client("*1\r\n$5\r\nMULTI\r\n*2\r\n$3\r\nGET\r\n$1\r\na\r\n*1\r\n$4\r\nEXEC\r\n"),
            server("+OK\r\n+QUEUED\r\n*1\r\n$-1\r\n"),
        ],
        Counts::answered(3),
    );
}

#[test]
fn redis_pushes_and_attributes_are_no_answers() {
    check(
        Protocol::Redis,
        &[
            client("*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n"),
            server("%2\r\n$6\r\nserver\r\n$5\r\nredis\r\n$5\r\nproto\r\n:3\r\n"),
            client("*2\r\n$3\r\nGET\r\n$1\r\na\r\n"),
            server(">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\na\r\n|1\r\n$3\r\nttl\r\n:9\r\n$1\r\n1\r\n"),
            client("*3\r\n$4\r\nMGET\r\n$1\r\na\r\n$1\r\nb\r\n"),
            server("*2\r\n$1\r\n1\r\n|1\r\n$3\r\nttl\r\n:9\r\n_\r\n"),
        ],
        // The attribute inside of the array has two strings of its own; its name counts with the keys.
        Counts {
            hits: 3,
            misses: 1,
            ..Counts::answered(3)
        },
    );
}

#[test]
fn redis_scalars_of_all_kinds_end_where_they_end() {
    check(
        Protocol::Redis,
        &[
            client("*1\r\n$5\r\nDEBUG\r\n".repeat(6)),
            server(
                "#t\r\n,3.14159265358979323846264338327950288\r\n(3492890328409238509324850943850943825\r\n:42\r\n\
                 =15\r\ntxt:Some string\r\n~2\r\n+a\r\n#f\r\n",
            ),
        ],
        Counts {
            timed: 6,
            ..Counts::answered(6)
        },
    )
}

#[test]
fn redis_long_names_and_inline_commands_are_requests() {
    check(
        Protocol::Redis,
        &[
            client("PING\r\n"),
            server("+PONG\r\n"),
            client("\r\nEXISTS a-key-that-makes-this-line-longer-than-one-window\r\n"),
            server(":0\r\n"),
            client("*1\r\n$23\r\nSOME.MODULE.COMMANDNAME\r\n"),
            server("-ERR unknown command\r\n"),
        ],
        Counts {
            client_errors: 1,
            ..Counts::answered(3)
        },
    );
}

#[test]
fn redis_pipelines_keep_kinds_beyond_what_is_timed() {
    let depth = TRACKED_REQUESTS as u32;
    check(
        Protocol::Redis,
        &[
            client("*2\r\n$3\r\nGET\r\n$1\r\na\r\n".repeat(depth as usize / 2)),
            client("*2\r\n$3\r\nDEL\r\n$1\r\na\r\n".repeat(depth as usize / 4)),
            client("*2\r\n$3\r\nGET\r\n$1\r\nb\r\n".repeat(depth as usize / 4)),
        ],
        Counts {
            requests: depth,
            outstanding: depth,
            untimed: depth - TIMED_REQUESTS as u32,
            ..Counts::default()
        },
    );
    let mut connection = super::Connection::new();
    connection.turn(&client("*2\r\n$3\r\nGET\r\n$1\r\na\r\n".repeat(300)));
    connection.turn(&server("$1\r\n1\r\n".repeat(300)));
    let timed = TIMED_REQUESTS as u32;
    // Beyond the ring a request is only counted.
    let expected = Counts {
        hits: depth,
        untimed: 300 - timed,
        timed,
        ..Counts::answered(300)
    };
    assert_eq!(connection.counts(), expected);
}

#[test]
fn redis_subscribers_get_messages_not_answers() {
    check(
        Protocol::Redis,
        &[
            client("*1\r\n$4\r\nPING\r\n"),
            server("+PONG\r\n"),
            client("*2\r\n$9\r\nSUBSCRIBE\r\n$4\r\nnews\r\n"),
            server("*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n"),
            server("*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$2\r\nhi\r\n"),
        ],
        Counts {
            requests: 2,
            ..Counts::answered(1)
        },
    );
}

#[test]
fn http_follows_lengths_chunks_and_bodiless_answers() {
    check(
        Protocol::Http1,
        &[
            client("GET / HTTP/1.1\r\nHost: shop\r\n\r\n"),
            server("HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\nHTTP/1.1 500 no\r\n"),
            client("POST /cart HTTP/1.1\r\nHost: shop\r\ncontent-length:16\r\n\r\nGET / HTTP/1.1\r\n"),
            server("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"),
            client("HEAD /cart HTTP/1.1\r\n\r\n"),
            server("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"),
            client(
                "PUT /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\
                 10;x=y\r\nGET / HTTP/1.1\r\n\r\n0\r\nTrailer: 1\r\n\r\n",
            ),
            server(
                "HTTP/1.1 404 Not Found\r\nTransfer-Encoding: gzip, chunked\r\n\r\n\
                 1A\r\nHTTP/1.1 500 x\r\n\r\nabcdefgh\r\n0\r\n\r\n",
            ),
            client("DELETE /a HTTP/1.1\r\nIf-None-Match: \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"\r\n\r\n"),
            server("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"),
            client("OPTIONS * HTTP/1.1\r\n\r\n"),
            server("HTTP/1.1 204 No Content\r\n\r\n"),
            client("GET /last HTTP/1.1\r\n\r\n"),
            server("HTTP/1.0 200 OK\r\n\r\nHTTP/1.1 500 this is a body to the end\r\n"),
        ],
        Counts {
            errors: 1,
            client_errors: 1,
            ..Counts::answered(7)
        },
    );
}

#[test]
fn http_interim_answers_are_no_answers() {
    check(
        Protocol::Http1,
        &[
            client("POST /cart HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\nbody"),
            server(
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n\
                 HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok",
            ),
        ],
        Counts::answered(1),
    );
}

#[test]
fn http_pipelines() {
    check(
        Protocol::Http1,
        &[
            client("GET /1 HTTP/1.1\r\n\r\nPATCH /2 HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcTRACE /3 HTTP/1.1\r\n\r\n"),
            server(
                "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n\
                 aHTTP/1.1 500 No\r\nContent-Length: 1\r\n\r\nbHTTP/1.1 204 No\r\n\r\n",
            ),
        ],
        Counts {
            errors: 1,
            ..Counts::answered(3)
        },
    );
}

#[test]
fn http_upgrades_leave_the_protocol() {
    let mut connection = super::Connection::new();
    connection.turn(&client("GET /chat HTTP/1.1\r\nUpgrade: websocket\r\n\r\n"));
    connection.turn(&server("HTTP/1.1 101 Switching Protocols\r\n\r\n"));
    connection.turn(&client("GET / HTTP/1.1\r\n\r\n"));
    assert_eq!(
        connection.counts(),
        Counts {
            unparsed: 1,
            ..Counts::answered(1)
        }
    );
}

#[test]
fn postgres_counts_simple_queries_and_errors() {
    check(
        Protocol::Postgres,
        &after_open([
            client(message(b'Q', b"select 1\0")),
            server(
                [
                    message(b'T', [0; 30]),
                    message(b'D', b"Z\0\0\0\x05I"),
                    message(b'C', b"SELECT 1\0"),
                    message(b'Z', b"I"),
                ]
                .concat(),
            ),
            client(message(b'Q', b"selec\0")),
            server([message(b'E', b"SERROR\0C42601\0\0"), message(b'Z', b"I")].concat()),
        ]),
        Counts {
            errors: 1,
            ..Counts::answered(2)
        },
    );
}

#[test]
fn postgres_counts_cycles_that_execute() {
    check(
        Protocol::Postgres,
        &after_open([
            client(
                [
                    message(b'P', b"s\0select $1\0\0\0"),
                    message(b'D', b"Ss\0"),
                    message(b'S', b""),
                ]
                .concat(),
            ),
            server(
                [
                    message(b'1', b""),
                    message(b't', [0; 6]),
                    message(b'T', [0; 9]),
                    message(b'Z', b"I"),
                ]
                .concat(),
            ),
            client([message(b'B', [0; 20]), message(b'E', [0; 5]), message(b'S', b"")].concat()),
            server(
                [
                    message(b'2', b""),
                    message(b'D', [7; 40]),
                    message(b'C', b"SELECT 1\0"),
                    message(b'Z', b"I"),
                ]
                .concat(),
            ),
            client([message(b'B', [0; 20]), message(b'E', [0; 5]), message(b'S', b"")].concat()),
            server(
                [
                    message(b'N', b"SNOTICE\0\0"),
                    message(b'E', b"SERROR\0\0"),
                    message(b'Z', b"E"),
                ]
                .concat(),
            ),
        ]),
        Counts {
            errors: 1,
            ..Counts::answered(2)
        },
    );
}

#[test]
fn postgres_pipelines_of_cycles() {
    let cycle = [message(b'B', [0; 20]), message(b'E', [0; 5]), message(b'S', b"")].concat();
    let answer = [message(b'2', b""), message(b'C', b"SELECT 1\0"), message(b'Z', b"I")].concat();
    check(
        Protocol::Postgres,
        &after_open([client(cycle.repeat(20)), server(answer.repeat(20))]),
        Counts::answered(20),
    );
}

#[test]
fn postgres_flushed_preparation_is_not_the_execution() {
    check(
        Protocol::Postgres,
        &after_open([
            client([message(b'P', b"s\0select $1\0\0\0"), message(b'H', b"")].concat()),
            server(message(b'1', b"")),
            client([message(b'B', [0; 20]), message(b'E', [0; 5]), message(b'S', b"")].concat()),
            server([message(b'2', b""), message(b'C', b"SELECT 0\0"), message(b'Z', b"I")].concat()),
        ]),
        // Timed from Execute, which a cut can put later than Bind but never a turn later.
        Counts::answered(1),
    );
}

#[test]
fn postgres_copies_by_both_protocols() {
    let data = message(b'd', b"Z\0\0\0\x05I\n").repeat(20);
    check(
        Protocol::Postgres,
        &after_open([
            client(message(b'Q', b"copy t from stdin\0")),
            server(message(b'G', [0, 0, 0])),
            client([data.clone(), message(b'c', b"")].concat()),
            server([message(b'C', b"COPY 20\0"), message(b'Z', b"I")].concat()),
            client([message(b'B', [0; 20]), message(b'E', [0; 5]), message(b'S', b"")].concat()),
            server([message(b'2', b""), message(b'G', [0, 0, 0])].concat()),
            client([data.clone(), message(b'c', b""), message(b'S', b"")].concat()),
            server([message(b'C', b"COPY 20\0"), message(b'Z', b"I")].concat()),
            client(message(b'Q', b"copy t to stdout\0")),
            server(
                [
                    message(b'H', [0, 0, 0]),
                    data,
                    message(b'c', b""),
                    message(b'C', b"COPY 20\0"),
                    message(b'Z', b"I"),
                ]
                .concat(),
            ),
        ]),
        Counts::answered(3),
    );
}

#[test]
fn postgres_refusal_at_start_is_an_error() {
    check(
        Protocol::Postgres,
        &[
            client(startup(80_877_103, b"")),
            server("N"),
            client(startup(196_608, b"user\0shop\0\0")),
            server(message(b'E', b"SFATAL\0C53300\0Msorry, too many clients already\0\0")),
        ],
        Counts {
            errors: 1,
            ..Counts::default()
        },
    );
}

#[test]
fn encrypted_bytes_are_counted_as_such() {
    let hello = [&[0x16, 3, 1, 0, 200, 1, 0, 0, 196][..], &[7; 196]].concat();
    let mut connection = super::Connection::new();
    connection.turn(&client(&hello));
    connection.turn(&server([0x16, 3, 3, 0, 1, 2]));
    assert_eq!(connection.state.protocol(), Protocol::Encrypted);
    assert_eq!(
        (connection.state.encrypted(), connection.counts()),
        (2, Counts::default())
    );

    let mut connection = super::Connection::new();
    connection.turn(&client(startup(80_877_103, b"")));
    connection.turn(&server("S"));
    connection.turn(&client(&hello));
    assert_eq!(connection.state.protocol(), Protocol::Encrypted);
    assert_eq!(
        (connection.state.encrypted(), connection.counts()),
        (1, Counts::default())
    );
}

#[test]
fn other_protocols_are_counted_as_unparsed() {
    let mut connection = super::Connection::new();
    connection.turn(&server("220 mail ready\r\n"));
    connection.turn(&client("EHLO shop\r\n"));
    connection.turn(&client("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"));
    assert_eq!(connection.state.protocol(), Protocol::Unknown);
    assert_eq!(
        connection.counts(),
        Counts {
            unparsed: 3,
            ..Counts::default()
        }
    );
}
