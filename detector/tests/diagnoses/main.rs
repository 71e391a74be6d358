//! What the detector says of simulated clusters, from start-up to recovery.

mod cluster;
mod network;
mod quiet;
#[path = "../sim/mod.rs"]
mod sim;

use expect_test::{Expect, expect};
use gauntlet_detector::diagnosis::Diagnosis;
use gauntlet_detector::pipeline::{Config, NAME, Pipeline};
use sim::Sim;
use sim::faults::Fault;
use sim::spec::App;

const SHOP: &str = "web*2 -> cache:redis*3, db:postgres";
const CHAIN: &str = "a -> b -> c -> d -> e -> store:postgres";
const FANOUT: &str = "front*2 -> users, stock*2, price:redis*2, offers; offers -> vault:postgres";
/// Pods that call others ask `dns` for names.
const NAMED: &str = "web*2 -> cache:redis*3, db:postgres; dns";
const BASELINE_SECONDS: u64 = 10;
const FAULT_SECONDS: u64 = 15;
const AFTER_SECONDS: u64 = 12;

/// Runs `app` with `fault` and writes down every change of the first candidate, with seconds since the onset.
fn story(app: &str, fault: &str, seed: u64) -> String {
    let mut sim = Sim::new(App::parse(app), 120.0, seed);
    let mut pipeline = Pipeline::new(Config::default());
    for line in sim.inventory() {
        pipeline.apply(&line);
    }
    let mut lines = Vec::new();
    let mut last = String::new();
    for second in 0..BASELINE_SECONDS + FAULT_SECONDS + AFTER_SECONDS {
        if second == BASELINE_SECONDS && fault != "none" {
            let fault = Fault::parse(&sim, fault);
            sim.begin(fault);
        }
        if second == BASELINE_SECONDS + FAULT_SECONDS {
            sim.end();
        }
        for _ in 0..sim::TICKS {
            for line in std::mem::take(&mut sim.news) {
                pipeline.apply(&line);
            }
            let frame = sim.next_frame();
            let since_onset = (frame.at_ns as f64 - 1e12) / 1e9 - BASELINE_SECONDS as f64;
            for diagnosis in pipeline
                .step_with_rivals(&frame)
                .iter()
                .filter(|diagnosis| diagnosis.detector == NAME)
            {
                let said = first(diagnosis);
                if said != last {
                    lines.push(format!("+{since_onset:.1} s {said}"));
                    last = said;
                }
            }
        }
    }
    if lines.is_empty() {
        lines.push("nothing said".to_owned());
    }
    lines.join("\n") + "\n"
}

fn first(diagnosis: &Diagnosis) -> String {
    let Some(candidate) = diagnosis.candidates.first() else {
        return "silence".to_owned();
    };
    let pods: Vec<&str> = candidate.pods.iter().map(|pod| pod.as_str()).collect();
    let path: Vec<&str> = candidate.path.iter().map(|service| service.as_str()).collect();
    format!(
        "{} {} [{}] via {}",
        candidate.entity,
        candidate.mechanism,
        pods.join(" "),
        path.join(" → ")
    )
}

fn check(app: &str, fault: &str, expected: Expect) {
    expected.assert_eq(&story(app, fault, 7));
}

#[test]
fn killed_again_and_again() {
    check(
        SHOP,
        "kill cache-1 4",
        expect![[r#"
        +0.2 s cache process.crash [cache-1] via cache → web
        +18.6 s silence
    "#]],
    );
}

#[test]
fn killed_in_a_fan_out() {
    check(
        FANOUT,
        "kill users 3",
        expect![[r#"
        +0.2 s users process.crash [users-0] via users → front
        +17.0 s silence
    "#]],
    );
}

#[test]
fn stopped() {
    check(
        SHOP,
        "pause cache-0",
        expect![[r#"
        +1.0 s cache process.hang [cache-0] via cache → web
        +15.8 s silence
    "#]],
    );
}

#[test]
fn a_stopped_database() {
    check(
        SHOP,
        "pause db",
        expect![[r#"
            +1.4 s db process.hang [db-0] via db → web
            +15.8 s silence
        "#]],
    );
}

#[test]
fn a_flushed_cache() {
    check(
        SHOP,
        "flush cache",
        expect![[r#"
            +1.0 s cache cache.cold [cache-0 cache-1 cache-2] via cache → web
            +16.0 s cache cache.cold [cache-1 cache-2] via cache → web
            +19.8 s silence
        "#]],
    );
}

#[test]
fn one_flushed_cache_of_two() {
    check(
        FANOUT,
        "flush price-1",
        expect![[r#"
            +1.0 s price cache.cold [price-1] via price → front
            +16.0 s silence
        "#]],
    );
}

#[test]
fn a_database_with_little_cpu() {
    check(
        CHAIN,
        "cpu store 8",
        expect![[r#"
            +0.6 s store resource.cpu [store-0] via store → a
            +16.0 s silence
        "#]],
    );
}

#[test]
fn a_web_tier_with_little_cpu() {
    check(
        SHOP,
        "cpu web 12",
        expect![[r#"
            +0.6 s web resource.cpu [web-0 web-1] via web
            +16.0 s silence
        "#]],
    );
}

#[test]
fn a_slow_service_in_a_chain() {
    check(
        CHAIN,
        "slow d 30",
        expect![[r#"
            +2.4 s d app.slow [d-0] via d → a
            +15.8 s silence
        "#]],
    );
}

#[test]
fn a_locked_database() {
    check(
        CHAIN,
        "slow store 8",
        expect![[r#"
            +2.4 s store db.lock [store-0] via store → a
            +15.8 s silence
        "#]],
    );
}

#[test]
fn a_failing_service() {
    check(
        FANOUT,
        "error stock 0.5",
        expect![[r#"
            +1.8 s stock app.error [stock-0 stock-1] via stock → front
            +17.2 s silence
        "#]],
    );
}

#[test]
fn a_database_that_works_more_for_each_request() {
    check(
        CHAIN,
        "work store 6",
        expect![[r#"
        +2.4 s store db.slow [store-0] via store → a
        +11.6 s silence
        +13.2 s store db.slow [store-0] via store → a
        +14.0 s silence
    "#]],
    );
}

#[test]
fn a_database_that_turns_callers_away() {
    check(
        CHAIN,
        "full store 0.4",
        expect![[r#"
        +2.2 s store db.connections [store-0] via store → a
        +17.0 s silence
    "#]],
    );
}

#[test]
fn a_database_that_fails_statements() {
    check(
        CHAIN,
        "error store 0.4",
        expect![[r#"
        +1.8 s store app.error [store-0] via store → a
        +17.0 s silence
    "#]],
    );
}

#[test]
fn a_cache_that_refuses_its_clients() {
    check(
        SHOP,
        "auth cache 1.0",
        expect![[r#"
        +1.6 s cache cache.auth [cache-0 cache-1 cache-2] via cache → web
        +15.8 s silence
    "#]],
    );
}

#[test]
fn a_cache_without_room() {
    check(
        SHOP,
        "evict cache 0.6",
        expect![[r#"
        +1.4 s cache cache.eviction [cache-0 cache-1 cache-2] via cache → web
        +15.6 s cache cache.cold [cache-0 cache-1 cache-2] via cache → web
        +16.6 s silence
    "#]],
    );
}

#[test]
fn killed_for_want_of_memory() {
    check(
        SHOP,
        "oom cache-0 4",
        expect![[r#"
        +0.2 s cache resource.memory [cache-0] via cache → web
        +18.6 s silence
    "#]],
    );
}

#[test]
fn a_process_that_reads_and_does_not_answer() {
    check(
        CHAIN,
        "mute d",
        expect![[r#"
        +2.6 s d process.hang [d-0] via d → a
        +15.8 s silence
    "#]],
    );
}

/// Killed once, and full again: the next kill is a matter of time.
#[test]
fn too_little_memory_between_two_kills() {
    check(
        SHOP,
        "starve cache-0",
        expect![[r#"
        +0.2 s cache resource.memory [cache-0] via cache → web
        +15.8 s silence
    "#]],
    );
}
