//! Which execution a suite's directory belongs to, so that a later process goes on with it, or takes it away.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::run::RunError;
use crate::run::directory::write_json;
use crate::target::kind::access::ClusterAccess;

/// Name of the file in the suite's directory.
pub const MARKER_FILE: &str = "execution.json";

/// One execution.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Marker {
    /// Name of all of its objects, or its beginning; unique.
    pub name: String,
    /// Where they are.
    pub access: ClusterAccess,
    /// Number of shards.
    pub shards: u32,
    /// The pods' image.
    pub image: String,
}

impl Marker {
    /// That of a directory; `None`: it has none.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(directory: &Path) -> std::io::Result<Option<Self>> {
        match std::fs::read(directory.join(MARKER_FILE)) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes it: before anything is made that it names.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, directory: &Path) -> Result<(), RunError> {
        write_json(&directory.join(MARKER_FILE), self)
    }
}
