//! Whether a cluster that Gauntlet did not make may be used: only if somebody named the very context that would be used.
//!
//! Reads kubeconfig files. Talks to no cluster.

use std::fmt;
use std::path::{Path, PathBuf};

use kube::config::{Kubeconfig, KubeconfigError};

/// The flag by which somebody says that a cluster is theirs.
pub const FLAG: &str = "--i-own-this-cluster";

/// The current context of a kubeconfig file: what a careless command would have hit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenContext {
    /// Its name; `None` when the file has no current context, or names one that it does not hold.
    pub name: Option<String>,
    /// The API server that it leads to, where the file says so.
    pub server: Option<String>,
}

impl fmt::Display for SeenContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.name, &self.server) {
            (None, _) => write!(f, "no current context"),
            (Some(name), None) => write!(f, "the current context `{name}`"),
            (Some(name), Some(server)) => write!(f, "the current context `{name}` ({server})"),
        }
    }
}

/// The cluster must not be used. Nothing was sent to it.
#[derive(Debug, thiserror::Error)]
pub enum NotPermitted {
    /// There is no usable file.
    #[error("failed to read kubeconfig {}; name another with --kubeconfig", kubeconfig.display())]
    Kubeconfig {
        /// The file.
        kubeconfig: PathBuf,
        /// Why.
        #[source]
        source: Box<KubeconfigError>,
    },
    /// Nobody said that the cluster is theirs.
    #[error("{} has {saw}; nothing was touched. {}", kubeconfig.display(), advice(saw))]
    NotSaid {
        /// The file.
        kubeconfig: PathBuf,
        /// What it leads to.
        saw: SeenContext,
    },
    /// Somebody said it of another one.
    #[error(
        "{} has {saw}, not the context `{said}` of {FLAG}; nothing was touched. Select `{said}` in the file, or name another \
         file with --kubeconfig", kubeconfig.display()
    )]
    SaidOfAnother {
        /// The file.
        kubeconfig: PathBuf,
        /// What it leads to.
        saw: SeenContext,
        /// What was said to be owned.
        said: String,
    },
}

fn advice(saw: &SeenContext) -> String {
    match &saw.name {
        Some(name) => format!("Gauntlet did not make that cluster; if it is yours to break, say so: {FLAG} {name}"),
        None => format!("Select a context in the file, and say that it is yours: {FLAG} CONTEXT"),
    }
}

/// The context of `kubeconfig` that may be used: its current one, if `said` names just that.
///
/// # Errors
/// [`NotPermitted`].
pub fn permitted_context(kubeconfig: &Path, said: Option<&str>) -> Result<String, NotPermitted> {
    let file = Kubeconfig::read_from(kubeconfig).map_err(|source| NotPermitted::Kubeconfig {
        kubeconfig: kubeconfig.to_owned(),
        source: Box::new(source),
    })?;
    let saw = current(&file);
    match (said, &saw.name) {
        (Some(said), Some(name)) if said == name => Ok(name.clone()),
        (Some(said), _) => Err(NotPermitted::SaidOfAnother {
            kubeconfig: kubeconfig.to_owned(),
            saw,
            said: said.to_owned(),
        }),
        (None, _) => Err(NotPermitted::NotSaid {
            kubeconfig: kubeconfig.to_owned(),
            saw,
        }),
    }
}

fn current(file: &Kubeconfig) -> SeenContext {
    let named = file.current_context.as_deref().unwrap_or_default();
    let context = file.contexts.iter().find(|context| context.name == named);
    let cluster = context
        .and_then(|context| context.context.as_ref())
        .map(|context| context.cluster.as_str());
    let server = file.clusters.iter().find(|entry| Some(entry.name.as_str()) == cluster);
    SeenContext {
        name: context.map(|context| context.name.clone()),
        server: server
            .and_then(|entry| entry.cluster.as_ref())
            .and_then(|cluster| cluster.server.clone()),
    }
}

/// Where `kubectl` would look: the first file of `$KUBECONFIG`, else `~/.kube/config`. Only read in order to say what is there,
/// or when its current context was named.
#[must_use]
pub fn usual_kubeconfig() -> PathBuf {
    let listed = std::env::var_os("KUBECONFIG").and_then(|list| std::env::split_paths(&list).next());
    listed
        .filter(|path| !path.as_os_str().is_empty())
        .unwrap_or_else(|| std::env::home_dir().unwrap_or_default().join(".kube/config"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO_CONTEXTS: &str = "\
contexts: [{name: play, context: {cluster: c1, user: u}}, {name: prod, context: {cluster: c2, user: u}}]
clusters: [{name: c1, cluster: {server: 'https://10.0.0.1'}}, {name: c2, cluster: {server: 'https://10.0.0.2'}}]
users: [{name: u, user: {}}]";

    /// What comes of a file with `current` as its current context when `said` is said.
    #[track_caller]
    fn check(current: &str, said: Option<&str>, expected: Result<&str, &str>) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config");
        std::fs::write(&path, format!("current-context: '{current}'\n{TWO_CONTEXTS}")).unwrap();
        let outcome = permitted_context(&path, said).map_err(|refusal| {
            let text = refusal.to_string();
            text.replace(&path.display().to_string(), "FILE")
        });
        assert_eq!(outcome.as_deref().map_err(String::as_str), expected);
    }

    #[test]
    fn only_the_very_context_that_was_named_is_used() {
        check("play", Some("play"), Ok("play"));
        check(
            "prod",
            None,
            Err(
                "FILE has the current context `prod` (https://10.0.0.2); nothing was touched. Gauntlet did not make that \
                 cluster; if it is yours to break, say so: --i-own-this-cluster prod",
            ),
        );
        // The file holds the context that was named, but would lead a careless command elsewhere.
        check(
            "prod",
            Some("play"),
            Err(
                "FILE has the current context `prod` (https://10.0.0.2), not the context `play` of --i-own-this-cluster; \
                 nothing was touched. Select `play` in the file, or name another file with --kubeconfig",
            ),
        );
        for (current, said) in [("", None), ("gone", None)] {
            check(
                current,
                said,
                Err(
                    "FILE has no current context; nothing was touched. Select a context in the file, and say that it is \
                     yours: --i-own-this-cluster CONTEXT",
                ),
            );
        }
        // Names are compared whole, and an empty one is none.
        for (current, said) in [
            ("play", "pla"),
            ("play", "Play"),
            ("play", ""),
            ("", ""),
            ("", "play"),
            ("gone", "gone"),
        ] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("config");
            std::fs::write(&path, format!("current-context: '{current}'\n{TWO_CONTEXTS}")).unwrap();
            let refused = permitted_context(&path, Some(said)).unwrap_err();
            assert!(
                matches!(refused, NotPermitted::SaidOfAnother { .. }),
                "{current} {said}: {refused}"
            );
        }
    }

    #[test]
    fn a_file_that_is_not_there_or_is_none_permits_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config");
        for text in [None, Some("contexts: {"), Some("")] {
            if let Some(text) = text {
                std::fs::write(&path, text).unwrap();
            }
            let refused = permitted_context(&path, Some("play")).unwrap_err();
            assert!(refused.to_string().contains("config"), "{refused}");
        }
    }
}
