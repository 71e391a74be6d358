//! How long a gate takes: reading nothing, judging two results of the corpus's size.
#![expect(missing_docs, reason = "criterion's macro makes a public function")]

#[path = "gate_power/world.rs"]
mod world;

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use gauntlet_harness::gate::{Settings, compare, gate};
use gauntlet_harness::suite::outcome::Mode;

fn gates(criterion: &mut Criterion) {
    for (name, mode) in [("replay", Mode::Replay), ("live", Mode::Live)] {
        let (baseline, candidate) = world::pair(mode, 150, world::SAME, 1);
        criterion.bench_function(&format!("gate/{name}/150"), |bencher| {
            bencher.iter(|| gate(black_box(&baseline), black_box(&candidate), &Settings::default()));
        });
        criterion.bench_function(&format!("compare/{name}/150"), |bencher| {
            bencher.iter(|| compare::compare(black_box(&baseline), black_box(&candidate)));
        });
    }
}

criterion_group! {
    name = benches;
    // The machine is shared: shorter than criterion's defaults.
    config = Criterion::default().sample_size(20);
    targets = gates
}
criterion_main!(benches);
