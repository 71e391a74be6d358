//! What is on disk of the clusters that Gauntlet made with kind: written before one is made, removed after it is gone, so that
//! a later process finds what a killed one left.
//!
//! Only files. What they mean for a cluster is [`super::lifecycle`]'s and [`super::ownership`]'s to know.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::access::ClusterAccess;
use super::name::ClusterName;
use crate::target::holder::Holder;

/// A cluster that is being made, or was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClusterRecord {
    /// Its name.
    pub name: ClusterName,
    /// A random number, by which the processes that work on it are known.
    pub id: String,
    /// Its kubeconfig file, which holds nothing else.
    pub kubeconfig: PathBuf,
    /// Who makes it, or for whose life it was made; `None` once it stays until it is taken down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<Holder>,
}

impl ClusterRecord {
    /// How a namespace of it is reached.
    #[must_use]
    pub fn access(&self, namespace: &str) -> ClusterAccess {
        ClusterAccess {
            kubeconfig: self.kubeconfig.clone(),
            context: self.name.context(),
            namespace: namespace.to_owned(),
        }
    }
}

/// A record could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("failed to {operation} {}", path.display())]
pub struct RecordError {
    operation: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl RecordError {
    /// The directory `path` could not be made.
    pub(super) fn making(path: &Path, source: io::Error) -> Self {
        failed("make directory", path)(source)
    }
}

/// The directory of records of a machine.
#[derive(Clone, Debug)]
pub struct StateDirectory(PathBuf);

impl StateDirectory {
    /// `$XDG_STATE_HOME/gauntlet`, else `/var/lib/gauntlet`: clusters outlive the session and the user who made them.
    #[must_use]
    pub fn of_this_machine() -> Self {
        let named = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
        let parent = named.filter(|path| path.is_absolute());
        Self(parent.unwrap_or_else(|| PathBuf::from("/var/lib")).join("gauntlet"))
    }

    /// This directory.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The directory of what [`crate::run::homes`] remembers.
    #[must_use]
    pub fn homes(&self) -> PathBuf {
        self.0.join("homes")
    }

    /// The directory of a cluster's own files.
    #[must_use]
    pub fn of_cluster(&self, name: &ClusterName) -> PathBuf {
        self.clusters().join(name.as_str())
    }

    /// Where its kubeconfig is unless another place was named.
    #[must_use]
    pub fn kubeconfig(&self, name: &ClusterName) -> PathBuf {
        self.of_cluster(name).join("kubeconfig")
    }

    /// A directory that is mounted into its node containers, and marks them as ours. It is another one for each cluster that
    /// ever had the name.
    #[must_use]
    pub fn mark(&self, record: &ClusterRecord) -> PathBuf {
        self.of_cluster(&record.name)
            .join(format!("made-by-gauntlet-{}", record.id))
    }

    /// The record of a cluster.
    ///
    /// # Errors
    /// [`RecordError`] when there is one and it cannot be read.
    pub fn cluster(&self, name: &ClusterName) -> Result<Option<ClusterRecord>, RecordError> {
        read(&self.cluster_record(name))
    }

    /// The records of all clusters, by name.
    ///
    /// # Errors
    /// [`RecordError`] when one cannot be read.
    pub fn all_clusters(&self) -> Result<Vec<ClusterRecord>, RecordError> {
        let mut records = Vec::new();
        for path in files(&self.clusters())? {
            records.extend(read(&path)?);
        }
        Ok(records)
    }

    /// Writes the record of a cluster that has none; false when there is one by now.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn claim(&self, record: &ClusterRecord) -> Result<bool, RecordError> {
        let path = self.cluster_record(&record.name);
        let complete = written_beside(&path, record)?;
        // A link is there with all of its content or not at all, and only one process makes it.
        let linked = fs::hard_link(&complete, &path);
        let _ = fs::remove_file(&complete);
        match linked {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(source) => Err(failed("write", &path)(source)),
        }
    }

    /// Replaces the record of a cluster.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn replace(&self, record: &ClusterRecord) -> Result<(), RecordError> {
        let path = self.cluster_record(&record.name);
        let complete = written_beside(&path, record)?;
        fs::rename(&complete, &path).map_err(failed("write", &path))
    }

    /// Removes a cluster's files, its record last. Does nothing when the name is another cluster's by now.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn forget(&self, record: &ClusterRecord) -> Result<(), RecordError> {
        if self.cluster(&record.name)?.is_none_or(|now| now.id != record.id) {
            return Ok(());
        }
        let directory = self.of_cluster(&record.name);
        absent_is_fine(fs::remove_dir_all(&directory)).map_err(failed("remove", &directory))?;
        let path = self.cluster_record(&record.name);
        absent_is_fine(fs::remove_file(&path)).map_err(failed("remove", &path))
    }

    fn clusters(&self) -> PathBuf {
        self.0.join("clusters")
    }

    fn cluster_record(&self, name: &ClusterName) -> PathBuf {
        self.clusters().join(format!("{}.json", name.as_str()))
    }
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RecordError {
    let path = path.to_owned();
    move |source| RecordError {
        operation,
        path,
        source,
    }
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// A file beside `path` that holds `record`, on disk.
fn written_beside(path: &Path, record: &ClusterRecord) -> Result<PathBuf, RecordError> {
    let directory = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(directory).map_err(failed("make directory", directory))?;
    let beside = path.with_extension(format!("new-{:08x}", rand::random::<u32>()));
    let text = serde_json::to_string(record)
        .map_err(io::Error::from)
        .map_err(failed("encode", path))?;
    let write = || -> io::Result<()> {
        let mut file = fs::File::create(&beside)?;
        io::Write::write_all(&mut file, text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(failed("write", &beside))?;
    Ok(beside)
}

fn read(path: &Path) -> Result<Option<ClusterRecord>, RecordError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("read", path)(error)),
    };
    let record = serde_json::from_str(&text).map_err(io::Error::from);
    record.map(Some).map_err(failed("understand", path))
}

/// The records in a directory, sorted; none when it is not there.
fn files(directory: &Path) -> Result<Vec<PathBuf>, RecordError> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed("list", directory)(error)),
    };
    let mut paths: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &str, holder: Option<Holder>) -> ClusterRecord {
        ClusterRecord {
            name: name.parse().unwrap(),
            id: "7".to_owned(),
            kubeconfig: "/nowhere/config".into(),
            holder,
        }
    }

    #[test]
    fn a_name_is_claimed_once_until_it_is_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDirectory::at(directory.path().join("state"));
        let (first, name) = (record("demo", Some(Holder::this_process())), "demo".parse().unwrap());
        assert_eq!(state.cluster(&name).unwrap(), None);
        assert!(state.all_clusters().unwrap().is_empty());
        assert!(state.claim(&first).unwrap());
        assert!(!state.claim(&record("demo", None)).unwrap());
        assert_eq!(state.cluster(&name).unwrap(), Some(first));
        let settled = record("demo", None);
        state.replace(&settled).unwrap();
        assert_eq!(state.all_clusters().unwrap(), std::slice::from_ref(&settled));
        fs::create_dir_all(state.mark(&settled)).unwrap();
        let earlier = ClusterRecord {
            id: "6".to_owned(),
            ..settled.clone()
        };
        state.forget(&earlier).unwrap();
        assert!(state.mark(&settled).is_dir(), "the name is another cluster's by now");
        state.forget(&settled).unwrap();
        state.forget(&settled).unwrap();
        assert!(state.all_clusters().unwrap().is_empty());
        assert_eq!(fs::read_dir(state.clusters()).unwrap().count(), 0);
    }

    #[test]
    fn a_damaged_record_is_told_and_not_passed_over() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDirectory::at(directory.path());
        assert!(state.claim(&record("demo", None)).unwrap());
        fs::write(state.clusters().join("demo.json"), "{").unwrap();
        let error = state.all_clusters().unwrap_err().to_string();
        assert!(
            error.starts_with("failed to understand") && error.ends_with("demo.json"),
            "{error}"
        );
    }
}
