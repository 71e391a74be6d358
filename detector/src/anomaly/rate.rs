//! Tests for counts: is this many (or this few) still chance?
//!
//! For rare counters (retransmits, refusals) a z-score is wrong: their spread is zero most of the time.

/// Surprise of counting `observed` or more where `expected` were usual, in powers of ten (3 is one in a thousand).
///
/// Chernoff's bound on the Poisson tail: never more surprised than one should be.
#[must_use]
pub fn surprise_above(observed: f64, expected: f64) -> f64 {
    if observed <= expected {
        0.0
    } else {
        chernoff(observed, expected)
    }
}

/// Surprise of counting `observed` or fewer where `expected` were usual, in powers of ten.
#[must_use]
pub fn surprise_below(observed: f64, expected: f64) -> f64 {
    if observed >= expected {
        0.0
    } else {
        chernoff(observed, expected)
    }
}

/// The least expectation that is believed, counts: nothing is impossible.
const EXPECTED_MIN: f64 = 0.05;

fn chernoff(observed: f64, expected: f64) -> f64 {
    let expected = expected.max(EXPECTED_MIN);
    let log_term = if observed > 0.0 {
        observed * (observed / expected).ln()
    } else {
        0.0
    };
    ((log_term - observed + expected) / std::f64::consts::LN_10).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::{surprise_above, surprise_below};

    #[test]
    fn a_single_rare_event_is_no_surprise_and_five_are() {
        assert!(surprise_above(1.0, 0.1) < 1.0);
        assert!(surprise_above(5.0, 0.1) > 5.0);
    }

    #[test]
    fn silence_surprises_by_what_was_expected() {
        assert!(surprise_below(0.0, 2.0) < 1.0);
        assert!(surprise_below(0.0, 20.0) > 8.0);
        assert_eq!(surprise_below(30.0, 20.0), 0.0);
    }
}
