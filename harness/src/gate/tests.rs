//! The gate on results told in a few words.

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::measure::Metric;
use super::report::{FlipKind, Further, MetricReport};
use super::*;
use crate::score::verdict::Verdict;
use crate::suite::outcome::{Mode, SuiteResult};
use crate::suite::sample::{suite, times};

fn judged(baseline: &SuiteResult, candidate: &SuiteResult) -> GateReport {
    gate(&Evidence::of(baseline), &Evidence::of(candidate), &Settings::default())
}

fn metric(report: &GateReport, metric: Metric) -> &MetricReport {
    report
        .metrics
        .iter()
        .find(|one| one.metric == metric)
        .expect("measured")
}

/// `count` cases over two scenarios, all right after a second, and a control.
fn good(mode: Mode, count: usize) -> SuiteResult {
    suite(
        mode,
        &(times(count / 2, "a fault ✓ 1.0") + &times(count - count / 2, "b fault ✓ 0.6") + "n none !0"),
    )
}

fn check_text(report: &GateReport, expected: &Expect) {
    expected.assert_eq(&text::text(report));
}

#[test]
fn identical_replays_pass_if_there_are_enough_of_them() {
    let many = good(Mode::Replay, 100);
    assert_eq!(judged(&many, &many).verdict, Verdict::Pass);
    let few = good(Mode::Replay, 20);
    let report = judged(&few, &few);
    assert_eq!(report.verdict, Verdict::Inconclusive);
    // z² / (n + z²) < 0.05 from 52 pairs on.
    assert_eq!(
        metric(&report, Metric::Accuracy).further,
        Some(Further::Cases { count: 32 })
    );
    let enough = good(Mode::Replay, 52);
    assert_eq!(
        metric(&judged(&enough, &enough), Metric::Accuracy).verdict,
        Verdict::Pass
    );
}

#[test]
fn the_number_of_further_cases_is_one_that_decides() {
    // One of thirty lost: with as many times more of the same the loss of 3.3 points lies within the margin.
    let told = |lost: usize, of: usize| {
        suite(
            Mode::Replay,
            &(times(of - lost, "a fault ✓ 1.0") + &times(lost, "a fault ✗")),
        )
    };
    let report = judged(&told(0, 30), &told(1, 30));
    let Some(Further::Cases { count }) = metric(&report, Metric::Accuracy).further else {
        panic!("{report:?}")
    };
    let scale = (30 + count).div_ceil(30);
    let more = judged(&told(0, 30 * scale), &told(scale, 30 * scale));
    assert_eq!(metric(&more, Metric::Accuracy).verdict, Verdict::Pass, "{count} more");
    assert!(count > 100, "{count}");
}

#[test]
fn a_loss_that_is_beyond_the_margin_and_not_chance_fails() {
    let before = good(Mode::Replay, 100);
    let after = suite(
        Mode::Replay,
        &(times(38, "a fault ✓ 1.0") + &times(12, "a fault ✗") + &times(50, "b fault ✓ 0.6") + "n none !1"),
    );
    let report = judged(&before, &after);
    let accuracy = metric(&report, Metric::Accuracy);
    assert_eq!((report.verdict, accuracy.verdict), (Verdict::Fail, Verdict::Fail));
    // 12 lost, none gained: 2^-12, and Holm's factor for the smallest of four.
    assert!((accuracy.p - 0.5_f64.powi(12)).abs() < 1e-12 && accuracy.p_adjusted <= 4.0 * accuracy.p);
    let kinds = |kind: FlipKind| report.flips.iter().filter(|flip| flip.kind == kind).count();
    assert_eq!(
        (kinds(FlipKind::Lost), kinds(FlipKind::Noisier), kinds(FlipKind::Gained)),
        (12, 1, 0)
    );
    check_text(
        &report,
        &expect![[r#"
        gate FAIL
          AC@1: -12.0 points is beyond the margin of -5.0 points, and not chance (p = 0.001)
          TTRC: ×1.38 is beyond the margin of ×1.20, and not chance (p = 0.001)
          false alarms: +1.19/h is beyond the margin of +0.25/h, but may be chance (p = 1.000)

        baseline   gauntlet-detector 0.1.0 on sample (replay, d1d1d1d1d1d1): 101 of 101 cases VALID
        candidate  gauntlet-detector 0.1.0 on sample (replay, d1d1d1d1d1d1): 101 of 101 cases VALID

                      metric        baseline  candidate  effect        90 % interval                margin       p (Holm)         cases
        FAIL          AC@1          100.0 %   88.0 %     -12.0 points  -18.4 points to -7.6 points  -5.0 points  < .001 (< .001)  100
        FAIL          TTRC          0.77 s    1.07 s     ×1.38         ×1.17 to ×1.61               ×1.20        < .001 (< .001)  100
        PASS          TTD           0.40 s    0.40 s     ×1.00         ×1.00 to ×1.00               ×1.20        1.000 (1.000)    100
        INCONCLUSIVE  false alarms  0.00/h    1.19/h     +1.19/h       +0.00/h to +1.19/h           +0.25/h      0.500 (1.000)    101
        AC@1: mean over scenarios; times: geometric mean, cut where watching ended

        PASS          residue: nothing was left behind
        PASS          validity: 101 of 101 cases are VALID, limit 90 %
        PASS          scenario fall: no scenario fell from at least 90 % right to at most 50 %

        13 changes
                 case   recording         before                             now
        lost     a #39  b432c33d97bd28e7  cache: network.filter after 1.0 s  web: app.slow (right cause not named)
        lost     a #40  f526c78437911f40  cache: network.filter after 1.0 s  web: app.slow (right cause not named)
        lost     a #41  8a01c4cf04874889  cache: network.filter after 1.0 s  web: app.slow (right cause not named)
        lost     a #42  2fae63021ea35b0d  cache: network.filter after 1.0 s  web: app.slow (right cause not named)
        lost     a #43  adef223985ea1231  cache: network.filter after 1.0 s  web: app.slow (right cause not named)
        lost     a #44  75f44c47add0a6ff  cache: network.filter after 1.0 s  web: app.slow (right cause not named)
        lost     a #45  9c8bf07af9f0d752  cache: network.filter after 1.0 s  web: app.slow (right cause not named)
        lost     a #46  966a72a584adda63  cache: network.filter after 1.0 s  web: app.slow (right cause not named)
        lost     a #47  d7183602eac0bf20  cache: network.filter after 1.0 s  web: app.slow (right cause not named)
        lost     a #48  194cc78ffd255342  cache: network.filter after 1.0 s  web: app.slow (right cause not named)
        lost     a #49  b82d78fa3d58f1c8  cache: network.filter after 1.0 s  web: app.slow (right cause not named)
        lost     a #50  dfbe59f07d0b8a93  cache: network.filter after 1.0 s  web: app.slow (right cause not named)
        noisier  n #1   94c3fa0050c06e2e  0 false alarms                     1 false alarm

        scenario  baseline          candidate
        a         50/50 (93–100 %)  38/50 (63–86 %)
    "#]],
    );
}

#[test]
fn slower_answers_fail_though_all_are_right() {
    let before = good(Mode::Replay, 60);
    let after = suite(
        Mode::Replay,
        &(times(30, "a fault ✓ 1.6") + &times(30, "b fault ✓ 0.9") + "n none !0"),
    );
    let report = judged(&before, &after);
    assert_eq!(metric(&report, Metric::TimeToRootCause).verdict, Verdict::Fail);
    assert_eq!(metric(&report, Metric::Accuracy).verdict, Verdict::Pass);
    // Below the clock's grid nothing is slower.
    let quick = |seconds: &str| suite(Mode::Replay, &times(60, &format!("a fault ✓ {seconds}")));
    assert_eq!(
        metric(&judged(&quick("0.02"), &quick("0.19")), Metric::TimeToRootCause).verdict,
        Verdict::Pass
    );
}

#[test]
fn what_was_not_seen_is_never_a_pass() {
    let whole = good(Mode::Replay, 100);
    let mut interrupted = whole.clone();
    interrupted.cases.truncate(90);
    let report = judged(&whole, &interrupted);
    assert_eq!(report.verdict, Verdict::Inconclusive);
    let said = |words: &str| report.reasons.iter().any(|reason| reason.contains(words));
    assert!(
        said("the result has 90 of 101 cases") && said("11 cases of the baseline and 0 of the result"),
        "{report:?}"
    );
    let nothing = suite(Mode::Replay, "");
    assert_eq!(judged(&nothing, &nothing).verdict, Verdict::Inconclusive);
}

#[test]
fn replays_and_live_runs_are_not_compared() {
    let report = judged(&good(Mode::Live, 10), &good(Mode::Replay, 10));
    assert_eq!((report.verdict, report.metrics.len()), (Verdict::Inconclusive, 0));
    assert_eq!(report.reasons, ["the baseline is of live runs, the result of a replay"]);
}

#[test]
fn live_silence_of_an_hour_says_little_about_rates() {
    let hour = suite(Mode::Live, &(times(60, "a fault ✓ 1.0") + &times(60, "n none !0")));
    let report = judged(&hour, &hour);
    let alarms = metric(&report, Metric::FalseAlarms);
    // Three events in as many hours are possible, so twelve hours are needed: eleven times 120 cases more, in round
    // numbers.
    let Some(Further::Cases { count }) = alarms.further else {
        panic!("{alarms:?}")
    };
    assert!((1300..1330).contains(&count), "{count}");
    assert_eq!(report.further, Some(Further::Cases { count }));
}

#[test]
fn scenarios_weigh_the_same_however_many_trials_they_have() {
    for mode in [Mode::Live, Mode::Replay] {
        let told = |lost: usize| {
            suite(
                mode,
                &(times(60, "a fault ✓ 1.0") + &times(4 - lost, "b fault ✓ 1.0") + &times(lost, "b fault ✗")),
            )
        };
        let report = judged(&told(0), &told(2));
        let accuracy = metric(&report, Metric::Accuracy);
        assert!((accuracy.effect + 0.25).abs() < 1e-9, "{mode:?} {accuracy:?}");
        // Of a pool of 64 the bad end would be near −9 points.
        assert!(accuracy.interval.low < -0.4, "{mode:?} {accuracy:?}");
    }
}

#[test]
fn on_the_same_hours_only_new_alarms_speak_against_a_candidate() {
    let told = |alarms: &str| suite(Mode::Replay, &(times(60, "n none !0") + &format!("n none !{alarms}")));
    let verdict = |before, after| metric(&judged(&told(before), &told(after)), Metric::FalseAlarms).verdict;
    assert_eq!(verdict("1", "1"), Verdict::Pass);
    assert_eq!(verdict("1", "0"), Verdict::Pass);
    assert_eq!(verdict("0", "1"), Verdict::Inconclusive);
    let noisy = suite(Mode::Replay, &(times(51, "n none !0") + &times(10, "n none !1")));
    assert_eq!(
        metric(&judged(&told("0"), &noisy), Metric::FalseAlarms).verdict,
        Verdict::Fail
    );
}

#[test]
fn a_detector_that_failed_has_missed_and_the_flip_says_so() {
    let before = good(Mode::Replay, 20);
    let mut after = before.clone();
    let worse = suite(Mode::Replay, "a fault ✗");
    after.cases[0].detector = worse.cases[0].detector.clone();
    after.cases[0].detector.failure = Some("exit status: 101".to_owned());
    let report = judged(&before, &after);
    assert_eq!(
        report.flips[0].after,
        "detector failed: exit status: 101 (right cause not named)"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_order_of_cases_does_not_matter(right in proptest::collection::vec(any::<bool>(), 12), turn in 1_usize..11) {
        for mode in [Mode::Live, Mode::Replay] {
            let told: String = right.iter().map(|right| if *right { "a fault ✓ 1.0\n" } else { "a fault ✗\n" }).collect();
            let (before, mut after) = (suite(mode, &times(12, "a fault ✓ 1.1")), suite(mode, &told));
            let report = judged(&before, &after);
            after.cases.rotate_left(turn);
            prop_assert_eq!(report, judged(&before, &after));
        }
    }

    #[test]
    fn one_more_lost_case_is_never_less_likely_to_be_chance(lost in 0_usize..29) {
        for mode in [Mode::Live, Mode::Replay] {
            let told = |lost: usize| suite(mode, &(times(30 - lost, "a fault ✓ 1.0") + &times(lost, "a fault ✗")));
            let (fewer, more) = (judged(&told(0), &told(lost)), judged(&told(0), &told(lost + 1)));
            let (fewer, more) = (metric(&fewer, Metric::Accuracy), metric(&more, Metric::Accuracy));
            prop_assert!(more.p < fewer.p && more.interval.low < fewer.interval.low);
            prop_assert!(more.verdict >= fewer.verdict);
        }
    }
}
