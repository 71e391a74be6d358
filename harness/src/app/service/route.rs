//! Patterns of paths such as `/product/{id}`.

/// Why a text is not a pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It does not begin with a slash.
    #[error("`{0}` does not begin with /")]
    NoSlash(String),
    /// A segment that is neither plain text nor one parameter.
    #[error("segment `{0}` is neither plain text nor one parameter such as {{id}}")]
    Segment(String),
    /// Two parameters of one name.
    #[error("two parameters are called `{0}`")]
    Duplicate(String),
}

/// A pattern of paths. A parameter stands for one whole segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    segments: Vec<Segment>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Plain(String),
    Parameter(String),
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// When it does not begin with a slash, or a segment is of another form.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let rest = text
            .strip_prefix('/')
            .ok_or_else(|| PatternError::NoSlash(text.to_owned()))?;
        let segments = rest.split('/').map(Segment::parse).collect::<Result<Vec<_>, _>>()?;
        let pattern = Self { segments };
        let mut names = pattern.parameters();
        names.sort_unstable();
        match names
            .windows(2)
            .find(|pair| pair[0] == pair[1])
            .map(|pair| pair[0].to_owned())
        {
            Some(name) => Err(PatternError::Duplicate(name)),
            None => Ok(pattern),
        }
    }

    /// Names of its parameters, in order.
    #[must_use]
    pub fn parameters(&self) -> Vec<&str> {
        self.segments
            .iter()
            .filter_map(|segment| match segment {
                Segment::Parameter(name) => Some(name.as_str()),
                Segment::Plain(_) => None,
            })
            .collect()
    }

    /// The pattern with its parameters' names left out: two patterns of one shape match the same paths.
    #[must_use]
    pub fn shape(&self) -> String {
        let shape = |segment: &Segment| match segment {
            Segment::Plain(text) => format!("/{text}"),
            Segment::Parameter(_) => "/{}".to_owned(),
        };
        self.segments.iter().map(shape).collect()
    }

    /// The parameters' values when `path` is of the pattern.
    #[must_use]
    pub fn matches(&self, path: &str) -> Option<Vec<(String, String)>> {
        let rest = path.strip_prefix('/')?;
        if rest.split('/').count() != self.segments.len() {
            return None;
        }
        let mut values = Vec::new();
        for (segment, actual) in self.segments.iter().zip(rest.split('/')) {
            match segment {
                Segment::Plain(text) if text == actual => (),
                Segment::Parameter(name) if !actual.is_empty() => values.push((name.clone(), actual.to_owned())),
                Segment::Plain(_) | Segment::Parameter(_) => return None,
            }
        }
        Some(values)
    }
}

impl Segment {
    fn parse(text: &str) -> Result<Self, PatternError> {
        let is_name = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        match text.strip_prefix('{').and_then(|inner| inner.strip_suffix('}')) {
            Some(name) if is_name(name) => Ok(Self::Parameter(name.to_owned())),
            None if text.chars().all(|c| c.is_ascii_alphanumeric() || "-._~".contains(c)) => {
                Ok(Self::Plain(text.to_owned()))
            }
            Some(_) | None => Err(PatternError::Segment(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_stands_for_one_segment() {
        let pattern = Pattern::parse("/product/{id}/reviews").expect("a pattern");
        assert_eq!(
            pattern.matches("/product/7/reviews"),
            Some(vec![("id".to_owned(), "7".to_owned())])
        );
        for path in [
            "/product/7",
            "/product//reviews",
            "/product/7/8/reviews",
            "product/7/reviews",
        ] {
            assert_eq!(pattern.matches(path), None, "{path}");
        }
        assert_eq!(pattern.shape(), "/product/{}/reviews");
    }

    #[test]
    fn refuses_half_parameters_and_duplicates() {
        for text in ["product", "/{id", "/a{id}", "/{}", "/{a b}", "/{id}/{id}", "/a b"] {
            assert!(Pattern::parse(text).is_err(), "{text}");
        }
    }
}
