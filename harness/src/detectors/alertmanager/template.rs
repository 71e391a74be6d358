//! Text with labels in it: `{{service}}`, `cache-{{ index }}`, or no label at all.

use std::collections::BTreeMap;

/// A text whose `{{label}}` parts are filled from an alert's labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Label(String),
}

impl Template {
    /// Reads a template; `None` if a bracket is open or a label has no name.
    #[must_use]
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (mut parts, mut rest) = (Vec::new(), text);
        while let Some((before, after)) = rest.split_once("{{") {
            let (label, after) = after.split_once("}}")?;
            let label = label.trim();
            if label.is_empty() || !label.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
                return None;
            }
            parts.extend((!before.is_empty()).then(|| Part::Text(before.to_owned())));
            parts.push(Part::Label(label.to_owned()));
            rest = after;
        }
        parts.extend((!rest.is_empty()).then(|| Part::Text(rest.to_owned())));
        Some(Self(parts))
    }

    /// The text itself, if it has no label.
    #[must_use]
    pub(super) fn fixed(&self) -> Option<&str> {
        match self.0.as_slice() {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// The text for these labels; `None` if one of them is not there or empty.
    #[must_use]
    pub(super) fn fill(&self, labels: &BTreeMap<String, String>) -> Option<String> {
        let part = |part: &Part| match part {
            Part::Text(text) => Some(text.clone()),
            Part::Label(label) => labels.get(label).filter(|value| !value.is_empty()).cloned(),
        };
        self.0.iter().map(part).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_filled_in_and_missing_ones_are_seen() {
        let labels = BTreeMap::from([
            ("service".to_owned(), "cache".to_owned()),
            ("empty".to_owned(), String::new()),
        ]);
        let fill = |text: &str| Template::parse(text).expect(text).fill(&labels);
        assert_eq!(fill("{{service}}").as_deref(), Some("cache"));
        assert_eq!(fill("{{ service }}-0").as_deref(), Some("cache-0"));
        assert_eq!(fill("db").as_deref(), Some("db"));
        assert_eq!((fill("{{pod}}"), fill("{{empty}}")), (None, None));
        assert_eq!(Template::parse("db").expect("text").fixed(), Some("db"));
        assert_eq!(Template::parse("{{service}}").expect("a label").fixed(), None);
        assert_eq!(
            [
                Template::parse("{{service"),
                Template::parse("{{}}"),
                Template::parse("{{a b}}")
            ],
            [None, None, None]
        );
    }
}
