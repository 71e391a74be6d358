//! A condition on one label, written as Alertmanager writes it: `severity=~"page|critical"`.

use std::collections::BTreeMap;
use std::fmt;

use regex::Regex;

/// A condition on one label. A label that is not there counts as empty, as in Alertmanager.
#[derive(Clone, Debug)]
pub struct Matcher {
    label: String,
    operator: Operator,
}

#[derive(Clone, Debug)]
enum Operator {
    Is(String),
    IsNot(String),
    Like(Regex),
    NotLike(Regex),
}

/// The text is no matcher.
#[derive(Debug, thiserror::Error)]
pub enum MatcherError {
    /// It has no operator, or no label before it.
    #[error("`{0}` is no condition on a label")]
    Shape(String),
    /// Its pattern is no regular expression.
    #[error("`{0}` is no regular expression: {1}")]
    Pattern(String, String),
}

impl Matcher {
    /// Reads `LABEL=VALUE`, `!=`, `=~` or `!~`, the value with or without quotes.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, MatcherError> {
        let shape = || MatcherError::Shape(text.to_owned());
        let at = text.find(['=', '!']).ok_or_else(shape)?;
        let (label, rest) = (text[..at].trim(), &text[at..]);
        let label_is_good = !label.is_empty() && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !label_is_good {
            return Err(shape());
        }
        // The longer operators first: each begins with one of the shorter ones.
        let operators = ["=~", "!~", "!=", "="];
        let operator = operators.into_iter().find(|operator| rest.starts_with(operator));
        let operator = operator.ok_or_else(shape)?;
        let value = unquoted(rest[operator.len()..].trim()).ok_or_else(shape)?;
        // Anchored at both ends, as in Alertmanager.
        let pattern = || {
            Regex::new(&format!("^(?:{value})$")).map_err(|error| {
                let why = error.to_string();
                let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ");
                MatcherError::Pattern(value.to_owned(), why.to_owned())
            })
        };
        let operator = match operator {
            "=~" => Operator::Like(pattern()?),
            "!~" => Operator::NotLike(pattern()?),
            "!=" => Operator::IsNot(value.to_owned()),
            _ => Operator::Is(value.to_owned()),
        };
        Ok(Self {
            label: label.to_owned(),
            operator,
        })
    }

    /// Whether it holds for these labels.
    #[must_use]
    pub fn holds(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.label).map_or("", String::as_str);
        match &self.operator {
            Operator::Is(wanted) => value == wanted,
            Operator::IsNot(unwanted) => value != unwanted,
            Operator::Like(pattern) => pattern.is_match(value),
            Operator::NotLike(pattern) => !pattern.is_match(value),
        }
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, value) = match &self.operator {
            Operator::Is(value) => ("=", value.as_str()),
            Operator::IsNot(value) => ("!=", value.as_str()),
            Operator::Like(pattern) => ("=~", pattern.as_str()),
            Operator::NotLike(pattern) => ("!~", pattern.as_str()),
        };
        write!(f, "{}{sign}\"{value}\"", self.label)
    }
}

fn unquoted(value: &str) -> Option<&str> {
    match value.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"').filter(|inner| !inner.contains('"')),
        None => (!value.contains('"')).then_some(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(matcher: &str, value: &str) -> bool {
        let labels = BTreeMap::from([("severity".to_owned(), value.to_owned())]);
        Matcher::parse(matcher).expect(matcher).holds(&labels)
    }

    #[test]
    fn conditions_are_alertmanagers_own() {
        assert!(holds("severity=page", "page") && holds("severity = \"page\"", "page"));
        assert!(!holds("severity=page", "pager") && holds("severity!=page", "pager"));
        assert!(holds("severity=~\"page|critical\"", "critical"));
        assert!(!holds("severity=~page", "pager"), "patterns are anchored");
        assert!(holds("severity!~pa.*", "info") && !holds("severity!~pa.*", "page"));
        assert!(holds("team=\"\"", "page"), "a label that is not there is empty");
    }

    #[test]
    fn what_is_no_condition_says_so() {
        for (text, words) in [
            ("severity", "`severity` is no condition"),
            ("=page", "is no condition"),
            ("severity!page", "is no condition"),
            ("severity=\"page", "is no condition"),
            (
                "severity=~\"(page\"",
                "`(page` is no regular expression: unclosed group",
            ),
        ] {
            let error = Matcher::parse(text).expect_err(text).to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
