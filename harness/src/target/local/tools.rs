//! The programs of the machine that a cluster needs, and what to install where they are missing.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use super::layout::{Layout, PodKind};
use crate::app::spec::ServiceKind;

/// Programs that the cluster runs. Absent are those that it does not need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tools {
    /// `nft`.
    pub nft: PathBuf,
    /// `redis-server`.
    pub redis: Option<PathBuf>,
    /// The directory of `postgres`, `initdb` and `psql`.
    pub postgres: Option<PathBuf>,
}

/// Programs are missing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct MissingTools {
    /// Their names.
    pub programs: Vec<&'static str>,
    /// The packages that have them.
    pub packages: Vec<&'static str>,
}

impl fmt::Display for MissingTools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (programs, packages) = (self.programs.join(", "), self.packages.join(" "));
        write!(f, "the local cluster needs {programs}: apt-get install -y {packages}")
    }
}

impl Tools {
    /// Finds what the layout needs, or says all that is missing at once.
    pub fn find(layout: &Layout) -> Result<Self, MissingTools> {
        let mut missing = MissingTools {
            programs: Vec::new(),
            packages: Vec::new(),
        };
        let mut need = |found: Option<PathBuf>, program, package| {
            if found.is_none() {
                missing.programs.push(program);
                missing.packages.push(package);
            }
            found
        };
        let has = |kind| layout.pods.iter().any(|pod| pod.kind == PodKind::App(kind));
        let nft = need(in_path("nft"), "nft", "nftables");
        let redis = has(ServiceKind::Redis)
            .then(|| need(in_path("redis-server"), "redis-server", "redis-server"))
            .flatten();
        let postgres = has(ServiceKind::Postgres)
            .then(|| need(postgres_directory(), "postgres", "postgresql"))
            .flatten();
        match nft {
            Some(nft) if missing.programs.is_empty() => Ok(Self { nft, redis, postgres }),
            Some(_) | None => Err(missing),
        }
    }
}

fn search_path() -> Vec<PathBuf> {
    let mut directories: Vec<PathBuf> = std::env::var_os("PATH")
        .map(|path| std::env::split_paths(&path).collect())
        .unwrap_or_default();
    // Not in every user's PATH.
    directories.extend(["/usr/sbin", "/sbin"].map(PathBuf::from));
    directories
}

fn in_path(program: &str) -> Option<PathBuf> {
    search_path()
        .into_iter()
        .map(|directory| directory.join(program))
        .find(|path| path.is_file())
}

/// Debian keeps each version's programs apart: the newest is taken, and the PATH is for other systems.
fn postgres_directory() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    let mut versions = versions.collect::<Vec<_>>();
    versions.sort_by_key(|path| {
        let version = path
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(|name| name.parse::<u32>().ok());
        std::cmp::Reverse(version)
    });
    let complete = |directory: &PathBuf| {
        ["postgres", "initdb", "psql"]
            .iter()
            .all(|name| is_program(directory, name))
    };
    versions
        .into_iter()
        .map(|version| version.join("bin"))
        .chain(search_path())
        .find(complete)
}

fn is_program(directory: &Path, name: &str) -> bool {
    directory.join(name).is_file()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_to_install() {
        let missing = MissingTools {
            programs: vec!["nft", "postgres"],
            packages: vec!["nftables", "postgresql"],
        };
        let text = "the local cluster needs nft, postgres: apt-get install -y nftables postgresql";
        assert_eq!(missing.to_string(), text);
    }
}
