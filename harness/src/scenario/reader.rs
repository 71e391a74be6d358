//! Reads typed values out of a [`tree`](super::tree), notes every mistake and goes on.
//!
//! Which fields exist is data ([`Shape`]), so that the same table checks the files and documents the format.

use std::time::Duration;

use super::problem::{Problems, nearest};
use super::tree::{At, Node, Span, Value};

/// A mapping of the format: its place and its fields.
#[derive(Debug)]
pub struct Shape {
    /// Where it stands, for example `spec.phases`.
    pub path: &'static str,
    /// Its fields.
    pub fields: &'static [Field],
}

/// A field of the format.
#[derive(Debug)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// What is written, for example `duration`.
    pub kind: &'static str,
    /// What holds if it is not written.
    pub absent: Absent,
    /// What it means.
    pub meaning: &'static str,
    /// One value, as written.
    pub example: &'static str,
}

/// A field that must be written.
pub(crate) const fn must(
    name: &'static str,
    kind: &'static str,
    meaning: &'static str,
    example: &'static str,
) -> Field {
    Field {
        name,
        kind,
        absent: Absent::Mistake,
        meaning,
        example,
    }
}

/// A field that may be left out; `absent` says what holds then.
pub(crate) const fn may(
    name: &'static str,
    kind: &'static str,
    absent: &'static str,
    meaning: &'static str,
    example: &'static str,
) -> Field {
    Field {
        name,
        kind,
        absent: Absent::Means(absent),
        meaning,
        example,
    }
}

/// What holds if a field is not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// It must be written.
    Mistake,
    /// This holds, in words.
    Means(&'static str),
}

/// The fields of one mapping of a document.
pub struct Fields<'a> {
    shapes: Vec<&'static Shape>,
    entries: Vec<&'a (At<String>, Node)>,
    span: Span,
}

impl<'a> Fields<'a> {
    /// Opens `node`, and notes unknown, repeated and missing fields. `elsewhere` are shapes that the author may have
    /// had in mind. `None` if it is no mapping.
    pub fn open(
        node: &'a Node,
        shapes: &[&'static Shape],
        elsewhere: &[&'static Shape],
        problems: &mut Problems,
    ) -> Option<Self> {
        Self::open_with(node, shapes, elsewhere, Foreign::Report, problems)
    }

    /// Like [`Fields::open`], but fields of `tolerated` pass unread.
    pub fn open_tolerant(
        node: &'a Node,
        shapes: &[&'static Shape],
        tolerated: &[&'static Shape],
        problems: &mut Problems,
    ) -> Option<Self> {
        Self::open_with(node, shapes, tolerated, Foreign::Tolerate, problems)
    }

    fn open_with(
        node: &'a Node,
        shapes: &[&'static Shape],
        elsewhere: &[&'static Shape],
        foreign: Foreign,
        problems: &mut Problems,
    ) -> Option<Self> {
        let path = shapes[0].path;
        let Value::Map(entries) = &node.value else {
            problems.add(
                node.span,
                format!("`{path}` must be a mapping, found {}", node.value.noun()),
            );
            return None;
        };
        let known = || shapes.iter().flat_map(|shape| shape.fields);
        let mut first: Vec<&(At<String>, Node)> = Vec::new();
        for entry in entries {
            let key = &entry.0;
            if first.iter().any(|(seen, _)| seen.value == key.value) {
                problems
                    .add(key.span, format!("`{}` is written twice", key.value))
                    .advise("keep one of them");
            } else if known().any(|field| field.name == key.value) {
                first.push(entry);
            } else if foreign == Foreign::Report || !has_field(elsewhere, &key.value) {
                unknown_field(key, path, &names(shapes).collect::<Vec<_>>(), elsewhere, problems);
            }
        }
        for field in known().filter(|field| field.absent == Absent::Mistake) {
            // A misspelt field is reported as such, and not once more as missing.
            let misspelt = |key: &str| !has_field(shapes, key) && nearest(key, names(shapes)) == Some(field.name);
            if !entries
                .iter()
                .any(|(key, _)| key.value == field.name || misspelt(&key.value))
            {
                problems
                    .add(start_of(node), format!("`{path}` lacks `{}`", field.name))
                    .advise(format!("add `{}: {}`", field.name, field.example));
            }
        }
        Some(Self {
            shapes: shapes.to_vec(),
            entries: first,
            span: start_of(node),
        })
    }

    /// The value of a field, if it was written.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'a Node> {
        let known = self
            .shapes
            .iter()
            .flat_map(|shape| shape.fields)
            .any(|field| field.name == name);
        assert!(known, "field `{name}` is read but not documented");
        self.entries
            .iter()
            .find(|(key, _)| key.value == name)
            .map(|(_, value)| value)
    }

    /// Where the mapping begins.
    #[must_use]
    pub fn span(&self) -> Span {
        self.span
    }

    /// Reads a field with `read`.
    pub fn read<T>(
        &self,
        name: &str,
        problems: &mut Problems,
        read: impl FnOnce(&Node, &mut Problems) -> Option<T>,
    ) -> Option<At<T>> {
        let node = self.get(name)?;
        read(node, problems).map(|value| At { value, span: node.span })
    }
}

/// What to do with fields of other shapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Foreign {
    Report,
    Tolerate,
}

fn names<'s>(shapes: &'s [&'static Shape]) -> impl Iterator<Item = &'static str> + 's {
    shapes.iter().flat_map(|shape| shape.fields).map(|field| field.name)
}

fn has_field(shapes: &[&'static Shape], name: &str) -> bool {
    names(shapes).any(|field| field == name)
}

/// A mapping's own span may reach over many lines; its first key is where the eye looks.
fn start_of(node: &Node) -> Span {
    match &node.value {
        Value::Map(entries) => entries.first().map_or(node.span, |(key, _)| key.span),
        _ => node.span,
    }
}

fn unknown_field(key: &At<String>, path: &str, known: &[&str], elsewhere: &[&'static Shape], problems: &mut Problems) {
    let problem = problems.add(key.span, format!("`{path}` has no field `{}`", key.value));
    let homes = elsewhere.iter().filter(|shape| has_field(&[shape], &key.value));
    let homes: Vec<_> = homes.map(|shape| format!("`{}`", shape.path)).collect();
    match nearest(&key.value, known.iter().copied()) {
        Some(word) => problem.advise(format!("did you mean `{word}`?")),
        None if !homes.is_empty() => problem.advise(format!("it belongs to {}", homes.join(", "))),
        None => problem.advise(format!("its fields are: {}", known.join(", "))),
    }
}

/// Any text.
pub fn text(node: &Node, problems: &mut Problems) -> Option<String> {
    match &node.value {
        Value::Text(text) if !text.trim().is_empty() => Some(text.clone()),
        Value::Text(_) => {
            problems.add(node.span, "must not be empty");
            None
        }
        Value::Number(_) | Value::Bool(_) => {
            problems
                .add(node.span, format!("must be text, found {}", node.value.noun()))
                .advise("put it in quotes");
            None
        }
        other => {
            problems.add(node.span, format!("must be text, found {}", other.noun()));
            None
        }
    }
}

/// A name: lowercase letters, digits and hyphens.
pub fn name(node: &Node, problems: &mut Problems) -> Option<String> {
    let name = text(node, problems)?;
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.len() <= 63 && name.chars().all(good) && !name.starts_with('-') && !name.ends_with('-') {
        return Some(name);
    }
    problems
        .add(node.span, format!("`{name}` is no name"))
        .advise("lowercase letters, digits and inner hyphens, at most 63");
    None
}

/// A finite number that is not negative.
pub fn number(node: &Node, problems: &mut Problems) -> Option<f64> {
    match node.value {
        Value::Number(number) if number.is_finite() && number >= 0.0 => Some(number),
        Value::Number(number) => {
            problems.add(node.span, format!("must not be negative or infinite, found {number}"));
            None
        }
        _ => {
            problems.add(node.span, format!("must be a number, found {}", node.value.noun()));
            None
        }
    }
}

/// A whole number from `least` to `most`.
pub fn count(least: u32, most: u32) -> impl FnOnce(&Node, &mut Problems) -> Option<u32> {
    move |node, problems| {
        let found = match node.value {
            Value::Number(number) if number.fract() == 0.0 => number,
            ref other => {
                problems.add(node.span, format!("must be a whole number, found {}", describe(other)));
                return None;
            }
        };
        if found < f64::from(least) || found > f64::from(most) {
            problems.add(node.span, format!("must be from {least} to {most}, found {found}"));
            return None;
        }
        Some(found as u32)
    }
}

fn describe(value: &Value) -> String {
    match value {
        Value::Number(number) => number.to_string(),
        other => other.noun().to_owned(),
    }
}

/// `true` or `false`.
pub fn boolean(node: &Node, problems: &mut Problems) -> Option<bool> {
    match node.value {
        Value::Bool(value) => Some(value),
        _ => {
            problems.add(node.span, format!("must be true or false, found {}", node.value.noun()));
            None
        }
    }
}

/// A share: `30%` or a number from 0 to 1.
pub fn ratio(node: &Node, problems: &mut Problems) -> Option<f64> {
    let found = match &node.value {
        Value::Number(number) => Some(*number),
        Value::Text(text) => text
            .strip_suffix('%')
            .and_then(|percent| percent.trim().parse::<f64>().ok())
            .map(|percent| percent / 100.0),
        _ => None,
    };
    match found {
        Some(ratio) if (0.0..=1.0).contains(&ratio) => Some(ratio),
        Some(_) => {
            problems
                .add(node.span, "must be a share from 0 to 1")
                .advise("for example `30%` or `0.3`");
            None
        }
        None => {
            problems
                .add(node.span, format!("must be a share, found {}", node.value.noun()))
                .advise("for example `30%` or `0.3`");
            None
        }
    }
}

/// A duration with its unit.
pub fn duration(node: &Node, problems: &mut Problems) -> Option<Duration> {
    let advice = "a number and us, ms, s or m, for example `200ms`";
    match &node.value {
        Value::Text(text) => match parse_duration(text) {
            Some(duration) => return Some(duration),
            None if text.starts_with('-') => {
                problems
                    .add(node.span, format!("a duration must not be negative, found `{text}`"))
                    .advise(advice);
            }
            None => problems
                .add(node.span, format!("`{text}` is no duration"))
                .advise(advice),
        },
        Value::Number(number) => {
            let problem = problems.add(node.span, "a duration needs a unit");
            problem.advise(format!("did you mean `{number}s` or `{number}ms`?"));
        }
        other => problems
            .add(node.span, format!("must be a duration, found {}", other.noun()))
            .advise(advice),
    }
    None
}

/// Longest duration that a scenario can name; keeps arithmetic on nanoseconds far from its bounds.
const LONGEST: f64 = 24.0 * 3600.0;

/// `1.5s`, `200ms`, `300us`, `2m`, `1h`.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(digits);
    let seconds = match unit.trim() {
        "us" | "µs" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return None,
    } * number.parse::<f64>().ok()?;
    (seconds <= LONGEST).then(|| Duration::from_nanos((seconds * 1e9).round() as u64))
}

/// Bits per second: `800kbit`, `10mbit`, `1gbit`.
pub fn bit_rate(node: &Node, problems: &mut Problems) -> Option<u64> {
    let advice = "a number and kbit, mbit or gbit, for example `2mbit`";
    if let Value::Text(text) = &node.value {
        let digits = text
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let factor = match unit.trim() {
            "kbit" => 1e3,
            "mbit" => 1e6,
            "gbit" => 1e9,
            _ => 0.0,
        };
        let rate = number.parse::<f64>().unwrap_or(0.0) * factor;
        if (1e3..=1e12).contains(&rate) {
            return Some(rate.round() as u64);
        }
    }
    problems.add(node.span, "must be bits per second").advise(advice);
    None
}

/// One of a list of words.
pub fn choice<T: Clone>(words: &[(&'static str, T)]) -> impl FnOnce(&Node, &mut Problems) -> Option<T> {
    move |node, problems| {
        let written = text(node, problems)?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == written) {
            return Some(value.clone());
        }
        let problem = problems.add(node.span, format!("`{written}` is not possible here"));
        problem.advise_word(&written, words.iter().map(|(word, _)| *word));
        None
    }
}

/// Each element of a list.
pub fn list<T>(
    node: &Node,
    problems: &mut Problems,
    mut read: impl FnMut(&Node, &mut Problems) -> Option<T>,
) -> Vec<At<T>> {
    let Value::List(items) = &node.value else {
        problems
            .add(node.span, format!("must be a list, found {}", node.value.noun()))
            .advise("begin each element with `- `, or write `[…]`");
        return Vec::new();
    };
    items
        .iter()
        .filter_map(|item| {
            read(item, problems).map(|value| At {
                value,
                span: start_of(item),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        let written = [
            "200ms",
            "1.5s",
            "300us",
            "2m",
            "0s",
            "5",
            "-1s",
            "1 fortnight",
            "s",
            "999999h",
        ];
        let read = written.map(|text| parse_duration(text).map(|duration| duration.as_micros()));
        assert_eq!(
            read[..5],
            [Some(200_000), Some(1_500_000), Some(300), Some(120_000_000), Some(0)]
        );
        assert_eq!(read[5..], [None; 5]);
    }
}
