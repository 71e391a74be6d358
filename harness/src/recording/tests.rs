//! Whatever happens to a file: no panic, a clear error, and never silently another result. On a recording of a real run.

use proptest::prelude::*;

use super::container::{join, split};
use super::salvage::salvage;
use super::{Problem, Recording, seal, span_of};
use crate::check::validity::Class;
use crate::run::judge::{Said, judge_run};

const WHOLE: &[u8] = include_bytes!("../../tests/fixtures/recordings/none-s11.gauntlet");

/// Reading all of a recording takes milliseconds, and there are two properties.
const CASES: u32 = 48;

fn whole() -> Recording {
    Recording::parse(WHOLE).expect("whole")
}

/// What was salvaged says so and does not count.
fn assert_salvaged(recording: &Recording) {
    let validity = judge_run(&recording.evidence, &Said::default()).validity;
    assert_eq!(validity.class, Class::HarnessError);
    assert!(validity.findings[0].contains("salvaged: "), "{:?}", validity.findings);
    assert!(recording.span.count <= whole().span.count);
    let frames = span_of(recording.frames()).expect("what was salvaged is whole");
    assert_eq!(frames, recording.span);
}

#[test]
fn a_sealed_run_comes_out_as_it_went_in() {
    let recording = whole();
    let again = seal(&recording.evidence, recording.frames()).expect("whole");
    assert!(
        again == seal(&recording.evidence, recording.frames()).expect("whole"),
        "same input, same bytes"
    );
    let again = Recording::parse(&again).expect("whole");
    assert_eq!((&again.evidence, again.span), (&recording.evidence, recording.span));
    assert!(again.frames() == recording.frames(), "no frame is changed");
    assert_eq!(span_of(recording.frames()).expect("whole"), recording.span);
    assert_eq!(span_of(WHOLE).expect("the other parts are skipped"), recording.span);
    assert_eq!(salvage(WHOLE).expect("whole").evidence, recording.evidence);
    let validity = judge_run(&recording.evidence, &Said::default()).validity;
    assert_eq!(validity.class, Class::Valid, "{:?}", validity.findings);
}

#[test]
fn a_run_of_the_shop_is_small() {
    // At most 200 kB for 45 s.
    let bytes_per_second = WHOLE.len() as f64 / whole().span.seconds();
    assert!(
        bytes_per_second < 200_000.0 / 45.0,
        "{bytes_per_second:.0} bytes for a second"
    );
}

#[test]
fn frames_of_another_version_are_no_detectors_fault() {
    let parts = split(WHOLE).expect("whole");
    let mut records = zstd::decode_all(parts.frames).expect("a stream");
    let version = br#""version":1"#;
    let at = records
        .windows(version.len())
        .position(|word| word == version)
        .expect("in the header");
    records[at + version.len() - 1] = b'7';
    let newer = join(
        parts.truth,
        &zstd::bulk::compress(&records, 3).expect("memory suffices"),
    );
    let problem = Recording::parse(&newer).expect_err("newer");
    assert!(matches!(problem, Problem::Frames { record: 0, .. }), "{problem}");
    assert!(problem.to_string().contains("gauntlet-recording 7"), "{problem}");
}

#[test]
fn frames_that_break_off_are_not_sealed() {
    let recording = whole();
    let frames = recording.frames();
    let problem = seal(&recording.evidence, &frames[..frames.len() / 2]).expect_err("half of it");
    assert!(matches!(problem, Problem::Frames { record: 1.., .. }), "{problem}");
    assert!(problem.to_string().contains("--salvage"), "{problem}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn a_file_that_was_cut_off_is_salvaged_or_refused(length in 0..WHOLE.len()) {
        let cut = &WHOLE[..length];
        prop_assert!(Recording::parse(cut).is_err());
        if let Ok(recording) = salvage(cut) {
            assert_salvaged(&recording);
        }
    }

    #[test]
    fn a_flipped_bit_is_never_overlooked(at in 0..WHOLE.len(), bit in 0_u8..8) {
        let mut flipped = WHOLE.to_vec();
        flipped[at] ^= 1 << bit;
        prop_assert!(Recording::parse(&flipped).is_err());
        if let Ok(recording) = salvage(&flipped) {
            assert_salvaged(&recording);
        }
    }
}
