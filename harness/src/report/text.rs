//! Text for each format: escaping for HTML, XML and Markdown, and numbers as people read them.
//!
//! Everything that a report shows passes through here, names of scenarios and words of detectors included: both come
//! from files and programs of others.

use crate::score::moments::TimeTo;
use crate::score::summary::{Proportion, Quantile};
use crate::score::verdict::Verdict;

/// For text and quoted attributes of HTML and XML. Characters that XML forbids are left out.
#[must_use]
pub fn markup(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\n' | '\t' => escaped.push(character),
            '\u{fffe}' | '\u{ffff}' => (),
            character if character.is_control() => (),
            character => escaped.push(character),
        }
    }
    escaped
}

/// For running text and table cells of Markdown as GitHub reads it: nothing in it is a mark, a tag, a mention, a link or
/// the end of a cell or line.
#[must_use]
pub fn markdown(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' | '\r' | '\t' => escaped.push(' '),
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            // A space of no width ends what would be a mention or a reference; an entity would be resolved before.
            '@' | '#' => {
                escaped.push(character);
                escaped.push('\u{200b}');
            }
            // `www.` and `https:` become links by themselves.
            ':' if escaped.ends_with("http") || escaped.ends_with("https") => escaped.push_str("&#58;"),
            '.' if escaped.ends_with("www") => escaped.push_str("&#46;"),
            '\\' | '`' | '*' | '_' | '{' | '}' | '[' | ']' | '(' | ')' | '!' | '|' | '~' => {
                escaped.push('\\');
                escaped.push(character);
            }
            character if character.is_control() => (),
            character => escaped.push(character),
        }
    }
    escaped
}

/// Nanoseconds as seconds.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "nanoseconds of a run are far below 2^52")]
pub fn seconds_of(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

/// `0.47 s`, or how long it was watched in vain.
#[must_use]
pub fn time(time: TimeTo) -> String {
    match time {
        TimeTo::Reached { after_ns } => format!("{:.2} s", seconds_of(after_ns)),
        TimeTo::NotReached { observed_for_ns } => format!("not in {:.1} s", seconds_of(observed_for_ns)),
    }
}

/// `0.5 s`; `> 15.0 s` where too few were reached; `–` of nothing.
#[must_use]
pub fn quantile(quantile: Quantile) -> String {
    match quantile {
        Quantile::At { after_ns } => format!("{:.1} s", seconds_of(after_ns)),
        Quantile::Beyond { observed_for_ns: 0 } => "–".to_owned(),
        Quantile::Beyond { observed_for_ns } => format!("> {:.1} s", seconds_of(observed_for_ns)),
    }
}

/// `9/10 [0.60, 0.98]`: how many of how many, with the 95 % interval of the share; `–` of nothing.
#[must_use]
pub fn proportion(proportion: &Proportion) -> String {
    match proportion.of {
        0 => "–".to_owned(),
        of => format!(
            "{}/{of} [{:.2}, {:.2}]",
            proportion.hits, proportion.low, proportion.high
        ),
    }
}

/// A value with two digits; `–` for none.
#[must_use]
pub fn optional(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.2}"))
}

/// `+0.47`, `-1.20`: seconds from a moment; nothing that rounds to zero has a sign.
#[must_use]
pub fn signed_seconds(seconds: f64) -> String {
    if seconds.abs() < 0.005 {
        "0.00 s".to_owned()
    } else {
        format!("{seconds:+.2} s")
    }
}

/// Microseconds in the unit that suits them.
#[must_use]
pub fn microseconds(value: f64) -> String {
    match value {
        value if value < 1_000.0 => format!("{value:.0} µs"),
        value if value < 10_000.0 => format!("{:.1} ms", value / 1e3),
        value if value < 1e6 => format!("{:.0} ms", value / 1e3),
        value => format!("{:.1} s", value / 1e6),
    }
}

/// `1 alarm`, `2 alarms`.
#[must_use]
pub fn count(number: usize, one: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {one}{plural}")
}

/// `pass`, `inconclusive` or `fail`.
#[must_use]
pub const fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "pass",
        Verdict::Inconclusive => "inconclusive",
        Verdict::Fail => "fail",
    }
}

/// The sign that says the same without words or colour.
#[must_use]
pub const fn verdict_sign(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "✓",
        Verdict::Inconclusive => "?",
        Verdict::Fail => "✗",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_of_others_stays_text() {
        assert_eq!(
            markup("<b a='1' c=\"2\">&\u{7}\u{fffe}"),
            "&lt;b a=&#39;1&#39; c=&quot;2&quot;&gt;&amp;"
        );
    }

    #[test]
    fn markdown_of_others_stays_text_and_stays_in_its_cell() {
        assert_eq!(
            markdown("a|b\n@me <img> #7 `x` [y](https://z) www.q _"),
            "a\\|b @\u{200b}me &lt;img&gt; #\u{200b}7 \\`x\\` \\[y\\]\\(https&#58;//z\\) www&#46;q \\_"
        );
    }

    #[test]
    fn numbers_have_units() {
        assert_eq!(microseconds(912.0), "912 µs");
        assert_eq!(microseconds(1_234.0), "1.2 ms");
        assert_eq!(microseconds(48_000.0), "48 ms");
        assert_eq!(microseconds(3_000_000.0), "3.0 s");
        assert_eq!(proportion(&Proportion::new(5, 5)), "5/5 [0.57, 1.00]");
        assert_eq!(proportion(&Proportion::new(0, 0)), "–");
        assert_eq!(
            time(TimeTo::NotReached {
                observed_for_ns: 15_000_000_000
            }),
            "not in 15.0 s"
        );
        assert_eq!(
            (count(1, "alarm"), count(2, "alarm")),
            ("1 alarm".into(), "2 alarms".into())
        );
    }
}
