//! How fast recordings are replayed, and which part of it is ours: reading a sealed file, judging, and all of it with the
//! detector's process. Throughput is in seconds of run time for each second: the factor over real time, on one core.
//!
//! Needs `gauntlet-detector` of the release profile (`cargo build --release -p gauntlet-detector`).
#![expect(missing_docs, reason = "criterion's macro makes a public function")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::Path;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use gauntlet_harness::recording::directory::{Salvage, open};
use gauntlet_harness::recording::{Recording, span_of};
use gauntlet_harness::replay::process::{WITHIN, hear};
use gauntlet_harness::replay::{ReplayDetector, replay_all};
use gauntlet_harness::run::judge::{Said, judge_run};

fn bench(criterion: &mut Criterion) {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = manifest.join("tests/fixtures/recordings/cache-network-misconfig-s11.gauntlet");
    let recording: Recording = open(&path, Salvage::No).expect("a fixture");
    let detector = ReplayDetector {
        program: manifest.join("../target/release/gauntlet-detector"),
        arguments: Vec::new(),
        is_own: true,
        within: WITHIN,
    };
    let heard = hear(&detector, recording.frames(), recording.span).expect("the detector was built");
    assert_eq!(heard.end.failure, None, "a detector that fails is fast");
    let name = heard.speaks_as.expect("ours speaks under its name");
    let said = Said {
        ends: BTreeMap::from([(name.clone(), heard.end)]),
        detector: name,
        statements: heard.statements,
    };
    let mut group = criterion.benchmark_group("replay");
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "whole seconds of a run"
    )]
    group.throughput(Throughput::Elements(recording.span.seconds() as u64));
    group.bench_function("open", |bencher| bencher.iter(|| open(black_box(&path), Salvage::No)));
    group.bench_function("decode", |bencher| {
        bencher.iter(|| span_of(black_box(recording.frames())))
    });
    group.bench_function("judge", |bencher| {
        bencher.iter(|| judge_run(&recording.evidence, black_box(&said)))
    });
    group.bench_function("hear", |bencher| {
        bencher.iter(|| hear(&detector, black_box(recording.frames()), recording.span));
    });
    group.bench_function("replay", |bencher| {
        bencher.iter(|| replay_all(black_box(std::slice::from_ref(&recording)), &detector, 1, &|| ()))
    });
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
