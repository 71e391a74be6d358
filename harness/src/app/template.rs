//! Texts with places for values: `product:{id}` in steps, `/product/{uniform:1..2000}` in loads.
//!
//! Parses and fills; choosing keys takes the generator as an argument.

use rand::Rng;

/// Exponent of `{zipf:1..N}` when none is written.
const DEFAULT_ZIPF_EXPONENT: f64 = 1.0;
/// Bound of the keys of one path, because a Zipf choice holds a table of them and a prefill asks for each.
const KEY_COUNT_MAX: u64 = 1_000_000;

/// Why a text with places is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A brace without its partner.
    #[error("`{text}` has a brace without its partner")]
    Unbalanced {
        /// The whole text.
        text: String,
    },
    /// More than one key choice in a path.
    #[error("`{text}` chooses more than one key")]
    ManyKeys {
        /// The whole text.
        text: String,
    },
    /// A key choice of another form.
    #[error("`{{{choice}}}` is not a choice of keys: write {{uniform:1..2000}} or {{zipf:1..2000:1.1}}")]
    Choice {
        /// What stands between the braces.
        choice: String,
    },
    /// A path that does not begin with a slash, or has characters that a request line cannot carry.
    #[error("`{text}` is not a path: begin with `/` and use letters, digits and -._~/?=&")]
    NotAPath {
        /// The whole text.
        text: String,
    },
}

/// Names of the places of a text, in order.
///
/// # Errors
/// When a brace has no partner.
pub fn places(text: &str) -> Result<Vec<&str>, TemplateError> {
    let unbalanced = || TemplateError::Unbalanced { text: text.to_owned() };
    let mut names = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        let inner = rest[at..].strip_prefix('{').ok_or_else(unbalanced)?;
        let end = inner
            .find(['{', '}'])
            .filter(|end| inner[*end..].starts_with('}'))
            .ok_or_else(unbalanced)?;
        names.push(&inner[..end]);
        rest = &inner[end + 1..];
    }
    Ok(names)
}

/// Fills the places of a text that was checked before; an unknown place stays as it is.
#[must_use]
pub fn fill(text: &str, values: &[(String, String)]) -> String {
    values.iter().fold(text.to_owned(), |text, (name, value)| {
        text.replace(&format!("{{{name}}}"), value)
    })
}

/// A path of a load, with at most one choice of keys.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadPath {
    before: String,
    keys: Keys,
    after: String,
}

/// The keys of a path.
#[derive(Clone, Debug, PartialEq)]
enum Keys {
    None,
    Uniform {
        first: u64,
        last: u64,
    },
    /// `cumulative[i]` is the probability of the first i + 1 keys.
    Zipf {
        first: u64,
        cumulative: Vec<f64>,
    },
}

impl LoadPath {
    /// Reads `/product/{uniform:1..2000}`, `/product/{zipf:1..2000:1.1}` or a plain path.
    ///
    /// # Errors
    /// When the text is not of that form.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let choices = places(text)?;
        let (before, choice, after) = match choices.as_slice() {
            [] => (text, "", ""),
            [choice] => {
                let (before, rest) = text.split_once('{').expect("a place has an opening brace");
                (before, *choice, rest.split_once('}').expect("and a closing one").1)
            }
            [_, _, ..] => return Err(TemplateError::ManyKeys { text: text.to_owned() }),
        };
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-._~/?=&".contains(c);
        if !before.starts_with('/') || !before.chars().chain(after.chars()).all(allowed) {
            return Err(TemplateError::NotAPath { text: text.to_owned() });
        }
        let keys = if choices.is_empty() {
            Keys::None
        } else {
            Keys::parse(choice)?
        };
        Ok(Self {
            before: before.to_owned(),
            keys,
            after: after.to_owned(),
        })
    }

    /// One path, with a key chosen by `rng`. Draws nothing where there is no choice.
    pub fn choose(&self, rng: &mut impl Rng) -> String {
        match &self.keys {
            Keys::None => self.before.clone(),
            Keys::Uniform { first, last } => self.with_key(rng.random_range(*first..=*last)),
            Keys::Zipf { first, cumulative } => {
                let draw: f64 = rng.random();
                let index = cumulative
                    .partition_point(|bound| *bound <= draw)
                    .min(cumulative.len() - 1);
                self.with_key(first + index as u64)
            }
        }
    }

    /// The path once for each key, in order.
    pub fn each(&self) -> impl Iterator<Item = String> + '_ {
        let (first, count) = match &self.keys {
            Keys::None => (0, 1),
            Keys::Uniform { first, last } => (*first, last - first + 1),
            Keys::Zipf { first, cumulative } => (*first, cumulative.len() as u64),
        };
        (first..first + count).map(|key| match self.keys {
            Keys::None => self.before.clone(),
            Keys::Uniform { .. } | Keys::Zipf { .. } => self.with_key(key),
        })
    }

    fn with_key(&self, key: u64) -> String {
        format!("{}{key}{}", self.before, self.after)
    }
}

impl Keys {
    fn parse(choice: &str) -> Result<Self, TemplateError> {
        let error = || TemplateError::Choice {
            choice: choice.to_owned(),
        };
        let mut parts = choice.split(':');
        let (kind, range, exponent) = (parts.next(), parts.next().ok_or_else(error)?, parts.next());
        if parts.next().is_some() {
            return Err(error());
        }
        let (first, last) = range.split_once("..").ok_or_else(error)?;
        let first: u64 = first.parse().map_err(|_| error())?;
        let last: u64 = last.parse().map_err(|_| error())?;
        if last < first || last - first >= KEY_COUNT_MAX {
            return Err(error());
        }
        match (kind, exponent) {
            (Some("uniform"), None) => Ok(Self::Uniform { first, last }),
            (Some("zipf"), exponent) => {
                let exponent = match exponent {
                    Some(text) => text.parse().map_err(|_| error())?,
                    None => DEFAULT_ZIPF_EXPONENT,
                };
                if !(0.0..=10.0).contains(&exponent) {
                    return Err(error());
                }
                Ok(Self::Zipf {
                    first,
                    cumulative: zipf(last - first + 1, exponent),
                })
            }
            _other_names => Err(error()),
        }
    }
}

/// Cumulative probabilities of ranks 1 to `key_count`, each proportional to rank^-exponent.
fn zipf(key_count: u64, exponent: f64) -> Vec<f64> {
    let weights: Vec<f64> = (1..=key_count).map(|rank| (rank as f64).powf(-exponent)).collect();
    let total: f64 = weights.iter().sum();
    let mut sum = 0.0;
    weights
        .iter()
        .map(|weight| {
            sum += weight / total;
            sum
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn finds_and_fills_places() {
        assert_eq!(places("a{id}b{x}"), Ok(vec!["id", "x"]));
        assert_eq!(
            fill("a{id}b{x}", &[("id".into(), "7".into()), ("x".into(), "y".into())]),
            "a7by"
        );
        for text in ["{", "}", "a{b", "a}b", "{a{b}}"] {
            assert!(places(text).is_err(), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_not_a_load_path() {
        for text in [
            "product",
            "/p/{uniform:5..1}",
            "/p/{gauss:1..5}",
            "/p/{uniform:1..5}/{uniform:1..5}",
            "/a b",
            "/{id}",
        ] {
            assert!(LoadPath::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn zipf_prefers_the_first_keys_and_uniform_none() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut share_of_first_ten = |text: &str| {
            let path = LoadPath::parse(text).expect(text);
            let first = |path: &String| path.trim_start_matches("/p/").parse::<u64>().expect("a number") <= 10;
            (0..2000).map(|_| path.choose(&mut rng)).filter(first).count()
        };
        assert!(share_of_first_ten("/p/{uniform:1..1000}") < 50);
        assert!(share_of_first_ten("/p/{zipf:1..1000:1.2}") > 800);
    }

    #[test]
    fn each_names_every_key_once() {
        let path = LoadPath::parse("/p/{uniform:3..5}/x").expect("a path");
        assert_eq!(path.each().collect::<Vec<_>>(), ["/p/3/x", "/p/4/x", "/p/5/x"]);
        assert_eq!(LoadPath::parse("/").expect("a path").each().collect::<Vec<_>>(), ["/"]);
    }
}
