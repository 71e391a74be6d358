//! What Alertmanager posts to a webhook: format version 4, as far as it is read, and the times in it.
//!
//! Unknown fields pass: newer Alertmanagers add some without a new version.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The version that is understood.
pub const WEBHOOK_VERSION: &str = "4";

/// One notification: a group of alerts.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Notification {
    /// [`WEBHOOK_VERSION`].
    pub version: String,
    /// The group's alerts, firing and resolved.
    pub alerts: Vec<Alert>,
}

/// One alert.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Alert {
    /// Whether it fires.
    pub status: Status,
    /// Its labels; together they are its identity.
    pub labels: BTreeMap<String, String>,
    /// What its author wrote for people.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// When it began, RFC 3339, by the wall clock.
    pub starts_at: String,
}

/// State of an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It fires.
    Firing,
    /// It no longer does.
    Resolved,
}

/// Nanoseconds since 1970 of an RFC 3339 time; `None` if it is none, or before 1970.
#[must_use]
pub fn unix_ns(text: &str) -> Option<u64> {
    let (date, rest) = text.split_once(['T', 't'])?;
    let (clock, offset_s) = split_offset(rest)?;
    let mut date = date.splitn(3, '-').map(str::parse::<i64>);
    let (year, month, day) = (date.next()?.ok()?, date.next()?.ok()?, date.next()?.ok()?);
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    let mut clock = clock.splitn(3, ':').map(str::parse::<i64>);
    let (hour, minute, second) = (clock.next()?.ok()?, clock.next()?.ok()?, clock.next()?.ok()?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let seconds = days_since_1970(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset_s;
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    u64::try_from(seconds)
        .ok()?
        .checked_mul(1_000_000_000)?
        .checked_add(digits.parse().ok()?)
}

/// The time of day, and seconds east of Greenwich.
fn split_offset(text: &str) -> Option<(&str, i64)> {
    if let Some(clock) = text.strip_suffix(['Z', 'z']) {
        return Some((clock, 0));
    }
    let at = text.rfind(['+', '-'])?;
    let (hours, minutes) = text[at + 1..].split_once(':')?;
    let seconds = hours.parse::<i64>().ok()? * 3600 + minutes.parse::<i64>().ok()? * 60;
    Some((
        &text[..at],
        if text[at..].starts_with('-') { -seconds } else { seconds },
    ))
}

/// Days of the Gregorian calendar, with years that begin in March so that the leap day is the last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    /// Days from 1 March of year 0 to 1 January 1970.
    const EPOCH: i64 = 719_468;
    year * 365 + leap_days + day_of_year - EPOCH
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_fraction_and_zone() {
        let cases = [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2000-02-29T12:00:00Z", Some(951_825_600_000_000_000)),
            ("2026-11-23T01:22:17.25Z", Some(1_795_396_937_250_000_000)),
            ("2026-11-23T03:22:17.250000001+02:00", Some(1_795_396_937_250_000_001)),
            ("2026-11-22T20:22:17-05:00", Some(1_795_396_937_000_000_000)),
            ("0001-01-01T00:00:00Z", None),
            ("yesterday", None),
            ("2026-13-01T00:00:00Z", None),
            ("2026-11-23T01:22:17", None),
        ];
        for (text, expected) in cases {
            assert_eq!(unix_ns(text), expected, "{text}");
        }
    }
}
