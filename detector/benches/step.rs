//! How long one detector step takes, and how that grows with the cluster. Simulated frames, fault under way.
#![expect(missing_docs, reason = "criterion's macro makes a public function")]

#[path = "../tests/sim/mod.rs"]
mod sim;

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use gauntlet_detector::pipeline::{Config, Pipeline};
use gauntlet_detector::scene::Scene;
use gauntlet_detector::{evidence, memory::Memory, rank::Beliefs, window::Learn};
use gauntlet_probes::frame::Frame;
use sim::Sim;
use sim::faults::Fault;
use sim::spec::App;

/// Frames of ten seconds of health and three of the fault.
fn frames(sim: &mut Sim, fault: &str) -> Vec<Frame> {
    let mut frames: Vec<Frame> = (0..10 * sim::TICKS).map(|_| sim.next_frame()).collect();
    let fault = Fault::parse(sim, fault);
    sim.begin(fault);
    frames.extend((0..3 * sim::TICKS).map(|_| sim.next_frame()));
    frames
}

fn step(criterion: &mut Criterion) {
    let mut sim = Sim::new(App::parse("web*2 -> cache:redis*3, db:postgres"), 120.0, 1);
    let inventory = sim.inventory();
    let frames = frames(&mut sim, "filter cache-0+cache-1");
    let mut pipeline = Pipeline::new(Config::default());
    inventory.iter().for_each(|line| pipeline.apply(line));
    for frame in &frames {
        pipeline.step_with_rivals(frame);
    }
    let mut next = frames.last().expect("there are frames").clone();
    criterion.bench_function("step/shop", |bencher| {
        bencher.iter(|| {
            next.at_ns += next.span_ns;
            black_box(pipeline.step(black_box(&next)))
        });
    });
}

/// Topology, rules and ranking on what is remembered; taking in the frame; the whole step.
fn growth(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("services");
    group.sample_size(10);
    for service_count in [50, 200, 1000] {
        let mut sim = Sim::new(App::synthetic(service_count), 40.0, 1);
        let inventory = sim.inventory();
        let frames = frames(&mut sim, "filter s5");
        let mut memory = Memory::default();
        inventory.iter().for_each(|line| memory.apply(line));
        frames.iter().for_each(|frame| memory.absorb(frame, Learn::Yes));
        let last = frames.last().expect("there are frames");
        group.bench_with_input(
            BenchmarkId::new("topology-and-ranking", service_count),
            &memory,
            |bencher, memory| {
                bencher.iter_batched_ref(
                    Beliefs::default,
                    |beliefs| {
                        let scene = Scene::of(memory);
                        let findings = evidence::judge(&scene);
                        beliefs.update(&scene, &findings, 0.2);
                        beliefs.candidates(&scene)
                    },
                    BatchSize::SmallInput,
                );
            },
        );
        group.bench_with_input(BenchmarkId::new("absorb", service_count), last, |bencher, frame| {
            bencher.iter_batched_ref(
                || memory.clone(),
                |memory| memory.absorb(frame, Learn::Yes),
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, step, growth);
criterion_main!(benches);
