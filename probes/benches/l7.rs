//! Cost of the protocol parser per segment, in user space: what a change of it costs, not what the kernel pays.
#![expect(missing_docs, reason = "criterion's macro makes a public function")]

use std::hint::black_box;

use bytemuck::Zeroable;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use gauntlet_abi::l7::{Direction, L7State, on_segment};

/// A request's and its answer's bytes, each one segment.
struct Exchange {
    name: &'static str,
    request: Vec<u8>,
    answer: Vec<u8>,
}

fn exchanges() -> Vec<Exchange> {
    let get = b"*2\r\n$3\r\nGET\r\n$16\r\nkey:000000000001\r\n";
    let value = b"$32\r\n0123456789abcdef0123456789abcdef\r\n";
    let http_request = b"GET /cart/42 HTTP/1.1\r\nhost: shop\r\nuser-agent: bench\r\naccept: */*\r\n\r\n";
    let http_answer = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\ndate: today\r\n\r\nok";
    let rows = b"D\0\0\0\x20\0\x01\0\0\0\x16abcdefghijklmnopqrstuv".repeat(20);
    vec![
        Exchange {
            name: "redis get",
            request: get.to_vec(),
            answer: value.to_vec(),
        },
        Exchange {
            name: "redis get x16",
            request: get.repeat(16),
            answer: value.repeat(16),
        },
        Exchange {
            name: "redis get 64 kB",
            request: get.to_vec(),
            answer: [&b"$65000\r\n"[..], &[b'x'; 65_000], b"\r\n"].concat(),
        },
        Exchange {
            name: "http get",
            request: http_request.to_vec(),
            answer: http_answer.to_vec(),
        },
        Exchange {
            name: "postgres query, 20 rows",
            request: b"Q\0\0\0\x0dselect 1\0".to_vec(),
            answer: [&rows[..], b"C\0\0\0\x0dSELECT 1\0Z\0\0\0\x05I"].concat(),
        },
        Exchange {
            name: "encrypted",
            request: [&[0x17, 3, 3, 4, 0][..], &[7; 1024]].concat(),
            answer: [&[0x17, 3, 3, 4, 0][..], &[7; 1024]].concat(),
        },
    ]
}

fn benchmark(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("l7");
    // Two segments per iteration.
    group.throughput(Throughput::Elements(2));
    for exchange in exchanges() {
        let Exchange { name, request, answer } = exchange;
        let mut state = L7State::zeroed();
        let mut now_ns = 1_000_000;
        let mut segment = |direction, bytes: &[u8]| {
            on_segment(&mut state, black_box(bytes), direction, bytes.len() as u32, now_ns);
            now_ns += 100_000;
        };
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                segment(Direction::ToServer, &request);
                segment(Direction::ToClient, &answer);
            });
        });
        assert!(state.unparsed() == 0, "{name}: the benchmark must measure parsing");
        assert!(
            state.requests > 0 || state.encrypted() > 0,
            "{name}: the benchmark must measure parsing"
        );
    }
    group.finish();
}

criterion_group!(benches, benchmark);
criterion_main!(benches);
