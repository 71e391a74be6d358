//! `cpu-limit`: the quota of the pod's cgroup, version 1 or 2.
//!
//! Works on files only; which hierarchy a machine has is told by which file is there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// A quota as the kernel states it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Quota {
    /// The file that holds it: `cpu.max` or `cpu.cfs_quota_us`.
    pub file: String,
    /// Its content.
    pub value: String,
    /// Content of `cpu.cfs_period_us`, version 1 only.
    pub period: Option<String>,
}

/// Long enough for few switches, short enough that a request meets more than one.
const PERIOD_US: u64 = 100_000;
/// The kernel accepts no less.
const QUOTA_US_MIN: u64 = 1_000;
const V2: &str = "cpu.max";
const V1: &str = "cpu.cfs_quota_us";
const V1_PERIOD: &str = "cpu.cfs_period_us";
/// Content of `cpu.cfs_quota_us` where there is no limit.
const V1_UNLIMITED: &str = "-1";

impl Quota {
    /// The quota that stands.
    pub(crate) fn read(cgroup: &Path) -> io::Result<Self> {
        let content = |file: &str| fs::read_to_string(cgroup.join(file)).map(|text| text.trim().to_owned());
        if cgroup.join(V2).exists() {
            return Ok(Self {
                file: V2.to_owned(),
                value: content(V2)?,
                period: None,
            });
        }
        Ok(Self {
            file: V1.to_owned(),
            value: content(V1)?,
            period: Some(content(V1_PERIOD)?),
        })
    }

    /// A quota of so many thousandths of a core, in the language of `like`.
    pub(crate) fn of(millicores: u32, like: &Self) -> Self {
        let quota_us = (u64::from(millicores) * PERIOD_US / 1000).max(QUOTA_US_MIN);
        match like.period {
            None => Self {
                file: like.file.clone(),
                value: format!("{quota_us} {PERIOD_US}"),
                period: None,
            },
            Some(_) => Self {
                file: like.file.clone(),
                value: quota_us.to_string(),
                period: Some(PERIOD_US.to_string()),
            },
        }
    }

    /// The quotas of cgroups directly below that keep the quota of `cgroup` from being lowered, each with one that does
    /// not: in version 1 a quota may not exceed the one above it. A pod's containers with limits of their own have them.
    pub(crate) fn in_the_way(cgroup: &Path) -> io::Result<Vec<(PathBuf, Self, Self)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(cgroup)?
            .flatten()
            .filter(|entry| entry.path().join(V1).exists())
        {
            let stands = Self::read(&entry.path())?;
            let lifted = Self {
                value: V1_UNLIMITED.to_owned(),
                ..stands.clone()
            };
            if stands != lifted {
                found.push((entry.path(), stands, lifted));
            }
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(found)
    }

    /// Makes it stand.
    pub(crate) fn write(&self, cgroup: &Path) -> io::Result<()> {
        if let Some(period) = &self.period {
            fs::write(cgroup.join(V1_PERIOD), period)?;
        }
        fs::write(cgroup.join(&self.file), &self.value)
    }
}

/// How often the cgroup was throttled so far.
pub(crate) fn throttled_count(cgroup: &Path) -> io::Result<u64> {
    let text = fs::read_to_string(cgroup.join("cpu.stat"))?;
    let count = text
        .lines()
        .find_map(|line| line.strip_prefix("nr_throttled ")?.trim().parse().ok());
    Ok(count.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_containers_are_lifted_where_they_would_stand_in_the_way() {
        let pod = tempfile::tempdir().expect("a directory");
        let below = |name: &str, file: &str, quota: &str| {
            let directory = pod.path().join(name);
            fs::create_dir(&directory).expect("made");
            fs::write(directory.join(file), quota).expect("written");
            fs::write(directory.join(V1_PERIOD), "100000\n").expect("written");
            directory
        };
        let limited = below("limited", V1, "50000\n");
        below("unlimited", V1, "-1\n");
        below("version-2", V2, "50000 100000\n");
        let found = Quota::in_the_way(pod.path()).expect("read");
        let [(directory, stands, lifted)] = found.as_slice() else {
            panic!("{found:?}");
        };
        assert_eq!(
            (directory, stands.value.as_str(), lifted.value.as_str()),
            (&limited, "50000", "-1")
        );
    }

    #[test]
    fn each_hierarchy_gets_its_own_language() {
        let v2 = Quota {
            file: V2.to_owned(),
            value: "max 100000".to_owned(),
            period: None,
        };
        assert_eq!(Quota::of(250, &v2).value, "25000 100000");
        let v1 = Quota {
            file: V1.to_owned(),
            value: "-1".to_owned(),
            period: Some("50000".to_owned()),
        };
        assert_eq!(
            Quota::of(1, &v1),
            Quota {
                value: "1000".to_owned(),
                period: Some("100000".to_owned()),
                ..v1
            }
        );
    }
}
