//! Names that a cluster of Gauntlet's can have.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The word that stands for a cluster that somebody else made.
pub const EXISTING: &str = "existing";
/// The longest name: a node's host name, which has at most 63 letters, is the name and `-control-plane`.
const LENGTH_MAX: usize = 40;

/// The name of a cluster: lower-case letters, digits and dashes between them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClusterName(String);

impl ClusterName {
    /// It, as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// How kind calls its context in a kubeconfig.
    #[must_use]
    pub fn context(&self) -> String {
        format!("kind-{}", self.0)
    }
}

impl Default for ClusterName {
    /// The name unless another is given.
    fn default() -> Self {
        Self("gauntlet".to_owned())
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ClusterName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let letters = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if text.is_empty() || text.len() > LENGTH_MAX || text.starts_with('-') || text.ends_with('-') {
            return Err(format!(
                "a name has 1 to {LENGTH_MAX} letters, and no dash at its beginning or end"
            ));
        }
        if !text.bytes().all(letters) {
            return Err("a name has lower-case letters, digits and dashes".to_owned());
        }
        if text == EXISTING {
            return Err(format!("`{EXISTING}` stands for a cluster that Gauntlet did not make"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for ClusterName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<ClusterName> for String {
    fn from(name: ClusterName) -> Self {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_can_be_host_names_and_files() {
        for good in ["a", "demo", "demo-2", "0", &"a".repeat(40)] {
            assert_eq!(good.parse::<ClusterName>().map(String::from), Ok(good.to_owned()));
        }
        for bad in [
            "",
            "-a",
            "a-",
            "A",
            "a.b",
            "a/b",
            "..",
            "a b",
            "existing",
            "ä",
            &"a".repeat(41),
        ] {
            assert!(bad.parse::<ClusterName>().is_err(), "{bad}");
        }
        assert_eq!(ClusterName::default().context(), "kind-gauntlet");
        assert_eq!(String::from(ClusterName::default()).parse(), Ok(ClusterName::default()));
    }
}
