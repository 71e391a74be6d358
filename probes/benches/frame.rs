//! What it costs to record a frame: encoding, and encoding with compression.

#![expect(missing_docs, reason = "the macro of criterion writes a public function without")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use gauntlet_probes::entity::{Peer, PodName};
use gauntlet_probes::frame::{
    EdgeSample, Frame, L7Sample, LatencyHistogram, PodSample, Protocol, SideSample, UsageSample,
};
use gauntlet_probes::recording::{RecordingHeader, RecordingWriter};

/// A frame of a cluster with 12 pods and 40 edges under load.
fn frame() -> Frame {
    let pod = |index: usize| PodName::new(format!("service-{}", index % 12));
    let mut latency = LatencyHistogram::default();
    for duration_us in (100..20_000).step_by(37) {
        latency.record_us(duration_us);
    }
    let l7 = L7Sample {
        protocol: Protocol::Http1,
        requests: 200,
        responses: 199,
        errors: 1,
        client_errors: 0,
        hits: 0,
        misses: 0,
        latency,
        outstanding: 1,
        outstanding_age_ns_max: 1_000_000,
        unparsed: 0,
    };
    let side = SideSample {
        open: 16,
        srtt_us_median: Some(90),
        l7: vec![l7],
        ..SideSample::default()
    };
    let edges = (0..40)
        .map(|index| EdgeSample {
            caller: Peer::Pod(pod(index)),
            callee: Peer::Pod(pod(index / 12 + 1)),
            via: Some("service".to_owned()),
            port: 8080,
            client: Some(side.clone()),
            server: Some(side.clone()),
        })
        .collect();
    let usage = UsageSample {
        cpu_ns: Some(12_345_678),
        memory_bytes: Some(1 << 26),
        ..UsageSample::default()
    };
    let pods = (0..12)
        .map(|index| PodSample {
            pod: pod(index),
            usage: usage.clone(),
        })
        .collect();
    Frame {
        seq: 1,
        at_ns: 1 << 40,
        span_ns: 200_000_000,
        edges,
        pods,
        ..Frame::default()
    }
}

fn encode(criterion: &mut Criterion) {
    let frame = frame();
    criterion.bench_function("frame/encode", |bencher| {
        bencher.iter(|| postcard::to_stdvec(black_box(&frame)).expect("a frame is encodable"));
    });
    criterion.bench_function("frame/record", |bencher| {
        let mut writer =
            RecordingWriter::new(std::io::sink(), &RecordingHeader::new("bench")).expect("a sink takes everything");
        bencher.iter(|| writer.frame(black_box(&frame)).expect("a sink takes everything"));
    });
    let bytes = postcard::to_stdvec(&frame).expect("a frame is encodable");
    criterion.bench_function("frame/decode", |bencher| {
        bencher.iter(|| postcard::from_bytes::<Frame>(black_box(&bytes)).expect("it was just encoded"));
    });
}

criterion_group!(benches, encode);
criterion_main!(benches);
