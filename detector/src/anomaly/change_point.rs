//! When did a signal leave its usual place for the one where it is now?

/// Index of the first of the trailing values that lie nearer to `now` than to `usual`, with no more than one stray
/// value after it; `None` when the last values do not.
#[must_use]
pub fn onset(values: &[f64], usual: f64, now: f64) -> Option<usize> {
    let shifted = |value: f64| (value - now).abs() < (value - usual).abs();
    let mut first = None;
    let mut strays = 0;
    for (index, &value) in values.iter().enumerate().rev() {
        if shifted(value) {
            first = Some(index);
        } else {
            strays += 1;
            if strays > 1 {
                break;
            }
        }
    }
    first
}

#[cfg(test)]
mod tests {
    use super::onset;

    #[test]
    fn finds_the_step_and_forgives_one_stray() {
        assert_eq!(onset(&[1.0, 1.2, 1.0, 9.0, 1.0, 9.5, 9.0], 1.0, 9.0), Some(3));
        assert_eq!(onset(&[1.0, 1.2, 1.0, 1.0, 1.1], 1.0, 9.0), None);
    }
}
