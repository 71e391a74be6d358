//! A YAML document as a tree in which every key and value knows its place in the text.
//!
//! Does not know what a scenario is. One tree per file lets [`super::reader`] go on after a mistake, where a derived
//! deserializer would stop at the first.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_yaml::{DuplicateKeyPolicy, Location, Spanned};

/// A range of bytes in the text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub offset: usize,
    /// Number of bytes.
    pub len: usize,
}

/// A value and where it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// Its place.
    pub span: Span,
}

/// A value of the document.
pub type Node = At<Value>;

/// What can be written.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Nothing, `~` or `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// Any number.
    Number(f64),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A mapping, duplicates included, in the order of the text.
    Map(Vec<(At<String>, Node)>),
}

impl Value {
    /// What a person calls it.
    #[must_use]
    pub fn noun(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "true or false",
            Self::Number(_) => "a number",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
        }
    }
}

/// The text is not YAML.
#[derive(Debug)]
pub struct SyntaxError {
    /// What the parser said.
    pub message: String,
    /// Where it stopped.
    pub span: Span,
}

/// Reads `text` as one YAML document.
pub fn parse(text: &str) -> Result<Node, SyntaxError> {
    // Duplicates are passed on, because the reader reports all of them together with everything else.
    // Only `true` and `false` are that: a fault may be named `n` or `on`.
    let options = serde_yaml::options! {
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        strict_booleans: true,
    };
    match serde_yaml::from_str_with_options::<Spanned<Value>>(text, options) {
        Ok(root) => Ok(at(root)),
        Err(error) => {
            let error = error.without_snippet();
            let span = error.location().map_or(Span::default(), |location| span_of(&location));
            Err(SyntaxError {
                message: plain_message(&error.to_string()),
                span,
            })
        }
    }
}

/// The parser appends the place to its message; the report shows it already.
fn plain_message(message: &str) -> String {
    let first = message.lines().next().unwrap_or(message);
    first.split(" at line ").next().unwrap_or(first).trim().to_owned()
}

fn at<T>(spanned: Spanned<T>) -> At<T> {
    let span = span_of(&spanned.referenced);
    At {
        value: spanned.value,
        span,
    }
}

fn span_of(location: &Location) -> Span {
    let span = location.span();
    let to_usize = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    Span {
        offset: to_usize(span.byte_offset().unwrap_or_else(|| span.offset())),
        len: to_usize(span.byte_len().unwrap_or_else(|| span.len())),
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value as f64))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value as f64))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Value, E> {
        Ok(Value::Number(value as f64))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Value, E> {
        Ok(Value::Number(value as f64))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Number(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = list.next_element::<Spanned<Value>>()? {
            nodes.push(at(node));
        }
        Ok(Value::List(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            entries.push((at(key), at(map.next_value::<Spanned<Value>>()?)));
        }
        Ok(Value::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values_know_their_place_and_duplicates_are_kept() {
        let text = "a: 1\nb:\n  - {c: x}\na: é\n";
        let Value::Map(entries) = parse(text).expect("valid").value else {
            panic!("a mapping")
        };
        let place = |span: Span| &text[span.offset..span.offset + span.len];
        let keys: Vec<_> = entries
            .iter()
            .map(|(key, _)| (key.value.as_str(), place(key.span)))
            .collect();
        assert_eq!(keys, [("a", "a"), ("b", "b"), ("a", "a")]);
        assert_eq!((place(entries[0].1.span), place(entries[2].1.span)), ("1", "é"));
    }

    #[test]
    fn what_is_no_yaml_has_a_place() {
        let text = "a: [1, 2\nb: 3\n";
        let error = parse(text).expect_err("a list that never ends");
        assert!(error.span.offset > 0 && error.span.offset <= text.len(), "{error:?}");
    }
}
