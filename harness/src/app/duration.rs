//! Durations as people write them in YAML: a number and a unit, such as `300us`, `2.5s` or `10m`.
//!
//! For use with `#[serde(with = "duration")]`. Does not accept a number without its unit.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer, de};

/// Units, longest first, in nanoseconds.
const UNITS: [(&str, u64); 6] = [
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Why a text is not a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a duration: write a number and a unit (ns, us, ms, s, m, h), for example `250ms`")]
pub struct DurationError {
    text: String,
}

/// Reads `250ms`, `1.5s` and the like.
///
/// # Errors
/// When the text is not a non-negative decimal number followed by a known unit.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let error = || DurationError { text: text.to_owned() };
    let trimmed = text.trim();
    let unit_start = trimmed.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(error)?;
    let (number, unit) = trimmed.split_at(unit_start);
    let (_, unit_ns) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(error)?;
    let number = number.trim_end();
    if number.is_empty() || !number.chars().all(|c| c.is_ascii_digit() || c == '.') {
        return Err(error());
    }
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(*unit_ns).map(Duration::from_nanos).ok_or_else(error);
    }
    let fraction: f64 = number.parse().map_err(|_| error())?;
    Duration::try_from_secs_f64(fraction * (*unit_ns as f64) / 1e9).map_err(|_| error())
}

/// Writes a duration with the longest unit that needs no fraction.
#[must_use]
pub fn format(duration: Duration) -> String {
    let total_ns = duration.as_nanos();
    if total_ns == 0 {
        return "0s".to_owned();
    }
    let (name, unit_ns) = UNITS
        .iter()
        .find(|(_, unit_ns)| total_ns.is_multiple_of(u128::from(*unit_ns)))
        .expect("every whole number of nanoseconds is a multiple of one");
    format!("{}{name}", total_ns / u128::from(*unit_ns))
}

/// Serialises as text; the counterpart of [`deserialize`].
///
/// # Errors
/// Those of the serializer.
pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format(*duration))
}

/// Deserialises from text.
///
/// # Errors
/// When the text is not a duration.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write_and_writes_it_back() {
        for (text, nanos, canonical) in [
            ("300us", 300_000, "300us"),
            ("1.5s", 1_500_000_000, "1500ms"),
            ("90s", 90_000_000_000, "90s"),
            ("10m", 600_000_000_000, "10m"),
            ("0s", 0, "0s"),
        ] {
            let duration = parse(text).expect(text);
            assert_eq!(duration, Duration::from_nanos(nanos), "{text}");
            assert_eq!(format(duration), canonical);
        }
    }

    #[test]
    fn refuses_numbers_without_unit_and_units_without_number() {
        for text in ["", "5", "ms", "-1s", "5 parsecs", "1e3s", "99999999999999h"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
