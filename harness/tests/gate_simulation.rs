//! The gate on pairs of which the truth is known, as far as a test has time: the benchmark `gate_power` does the same
//! at length.

#[path = "../benches/gate_power/world.rs"]
mod world;

use gauntlet_harness::gate::{Settings, gate};
use gauntlet_harness::suite::outcome::Mode;
use world::{Change, SAME, pair};

/// PASS, INCONCLUSIVE and FAIL among `pairs` simulated pairs. Seeds are fixed, so that a count never varies.
fn verdicts(mode: Mode, case_count: usize, change: Change, pairs: u64) -> [usize; 3] {
    let settings = Settings {
        permutation_draws: 199,
        ..Settings::default()
    };
    let mut counts = [0; 3];
    for seed in 0..pairs {
        let (baseline, candidate) = pair(mode, case_count, change, seed);
        counts[gate(&baseline, &candidate, &settings).verdict as usize] += 1;
    }
    counts
}

#[test]
fn a_detector_that_did_not_change_rarely_fails() {
    for (mode, case_count) in [(Mode::Replay, 150), (Mode::Live, 60)] {
        let [_, _, failed] = verdicts(mode, case_count, SAME, 200);
        // 5 % of 200 are 10.
        assert!(failed <= 10, "{mode:?}: {failed} of 200 failed");
    }
}

#[test]
fn the_same_answers_always_pass() {
    assert_eq!(
        verdicts(Mode::Replay, 150, Change { churn: 0.0, ..SAME }, 20),
        [20, 0, 0]
    );
}

#[test]
fn twenty_points_less_and_half_as_slow_again_fail() {
    for change in [Change { lost: 0.2, ..SAME }, Change { slower: 1.5, ..SAME }] {
        let [passed, _, failed] = verdicts(Mode::Replay, 150, change, 50);
        assert!(
            passed == 0 && failed >= 48,
            "{change:?}: {passed} passed, {failed} failed of 50"
        );
    }
}

#[test]
fn what_few_cases_cannot_show_is_inconclusive() {
    let [passed, undecided, failed] = verdicts(Mode::Replay, 20, Change { lost: 0.05, ..SAME }, 50);
    assert!(
        undecided >= 45,
        "{passed} passed, {undecided} undecided, {failed} failed of 50"
    );
}
