//! What a kind cluster needs of this machine: root, docker, kind, memory, inotify instances. Looked at before anything is made.
//!
//! Changes nothing: kernel settings are the machine owner's, who is told the command that raises them.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::containers::docker;
use super::docker::ToolFailure;
use super::program::{Call, find};

/// Memory that the control plane takes, MiB; 630 were measured with Kubernetes 1.20 and no application.
const CONTROL_PLANE_MIB: u64 = 1024;
/// Memory that a worker takes, MiB; 110 to 360 were measured with a few pods.
const WORKER_MIB: u64 = 384;
/// Inotify instances that a node takes; 11 to 12 were measured with a few pods.
const INSTANCES_PER_NODE: u64 = 32;
/// Inotify watches that a node takes; 110 to 190 were measured with a few pods.
const WATCHES_PER_NODE: u64 = 1024;
/// Longest that kind may take to say its version.
const VERSION_WITHIN: Duration = Duration::from_secs(20);

/// This machine cannot hold the cluster. Nothing was made.
#[derive(Debug, thiserror::Error)]
pub enum Shortage {
    /// Not root.
    #[error("a kind cluster needs root: its nodes are reached through their namespaces and cgroups; run it with sudo")]
    NotRoot,
    /// There is no container engine, or it does not answer.
    #[error("docker does not answer; install it and start its daemon, then try again")]
    Docker(#[source] ToolFailure),
    /// There is no kind.
    #[error("{} is not there; install kind, or name it with --kind-program or GAUNTLET_KIND", program.display())]
    NoKind {
        /// As it was named.
        program: PathBuf,
    },
    /// It is not kind, or does not run here.
    #[error("{} does not run", program.display())]
    Kind {
        /// The program.
        program: PathBuf,
        /// Why.
        #[source]
        source: ToolFailure,
    },
    /// Too little memory.
    #[error(
        "{available_mib} MiB of memory are available, a cluster of {workers} nodes and a control plane needs {needed_mib}; free \
         some, or ask for fewer --nodes"
    )]
    Memory {
        /// What there is.
        available_mib: u64,
        /// What is needed.
        needed_mib: u64,
        /// Nodes asked for.
        workers: u16,
    },
    /// Too few inotify instances or watches.
    #[error(
        "{setting} is {limit}, of which {used} are in use and the cluster needs {needed}: its nodes would fail with `too many \
         open files`; raise it with `sysctl -w {setting}={advised}`"
    )]
    Inotify {
        /// The kernel setting.
        setting: &'static str,
        /// Its value.
        limit: u64,
        /// How many of them root uses now.
        used: u64,
        /// How many the nodes need beyond that.
        needed: u64,
        /// The value that is usual for kind.
        advised: u64,
    },
    /// A file that was named is not there.
    #[error("there is no image archive {}", path.display())]
    NoArchive {
        /// As it was named.
        path: PathBuf,
    },
}

/// What a cluster is to be made with.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Nodes beside the control plane.
    pub workers: u16,
    /// The program `kind`, by name or path.
    pub kind_program: &'a Path,
    /// Archives of images.
    pub image_archives: &'a [PathBuf],
}

/// The path of `kind`, when this machine can hold the cluster.
///
/// # Errors
/// [`Shortage`].
pub async fn check(wanted: Wanted<'_>) -> Result<PathBuf, Shortage> {
    basics().await?;
    let kind = find_kind(wanted.kind_program).await?;
    if let Some(path) = wanted.image_archives.iter().find(|path| !path.is_file()) {
        return Err(Shortage::NoArchive { path: path.clone() });
    }
    memory(&fs::read_to_string("/proc/meminfo").unwrap_or_default(), wanted.workers)?;
    let nodes = u64::from(wanted.workers) + 1;
    let used = inotify_in_use(Path::new("/proc"), 0);
    for (setting, used, each, advised) in [
        (
            "fs.inotify.max_user_instances",
            used.instances,
            INSTANCES_PER_NODE,
            1024,
        ),
        ("fs.inotify.max_user_watches", used.watches, WATCHES_PER_NODE, 524_288),
    ] {
        let file = Path::new("/proc/sys").join(setting.replace('.', "/"));
        let limit = fs::read_to_string(file).ok().and_then(|text| text.trim().parse().ok());
        // A kernel without the setting has no limit to run into.
        inotify(setting, limit.unwrap_or(u64::MAX), used, nodes * each, advised)?;
    }
    Ok(kind)
}

/// What also the removing of a cluster needs: root, and a container engine that answers.
///
/// # Errors
/// [`Shortage::NotRoot`] and [`Shortage::Docker`].
pub async fn basics() -> Result<(), Shortage> {
    if !nix::unistd::geteuid().is_root() {
        return Err(Shortage::NotRoot);
    }
    let version = docker(&["version", "--format", "{{.Server.Version}}"], "", "").await;
    version.map(drop).map_err(Shortage::Docker)
}

/// The program `kind`, which says its version.
///
/// # Errors
/// [`Shortage::NoKind`] and [`Shortage::Kind`].
pub async fn find_kind(program: &Path) -> Result<PathBuf, Shortage> {
    let found = find(program).ok_or_else(|| Shortage::NoKind {
        program: program.to_owned(),
    })?;
    let call = Call {
        program: &found,
        arguments: &["version"],
        input: "",
        mark: "",
        within: VERSION_WITHIN,
    };
    match call.run(&|_| ()).await {
        Ok(_) => Ok(found),
        Err(source) => Err(Shortage::Kind { program: found, source }),
    }
}

fn memory(meminfo: &str, workers: u16) -> Result<(), Shortage> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let available_kib: Option<u64> = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse().ok());
    let needed_mib = CONTROL_PLANE_MIB + WORKER_MIB * u64::from(workers);
    match available_kib.map(|kib| kib / 1024) {
        Some(available_mib) if available_mib < needed_mib => Err(Shortage::Memory {
            available_mib,
            needed_mib,
            workers,
        }),
        Some(_) | None => Ok(()),
    }
}

fn inotify(setting: &'static str, limit: u64, used: u64, needed: u64, advised: u64) -> Result<(), Shortage> {
    if limit >= used.saturating_add(needed) {
        return Ok(());
    }
    Err(Shortage::Inotify {
        setting,
        limit,
        used,
        needed,
        advised: advised.max(limit.saturating_add(needed)),
    })
}

#[derive(Clone, Copy, Debug, Default)]
struct InotifyUse {
    instances: u64,
    watches: u64,
}

/// What the processes of a user hold now. The limits are per user, and all nodes are root's.
fn inotify_in_use(proc: &Path, uid: u32) -> InotifyUse {
    let mut used = InotifyUse::default();
    for process in fs::read_dir(proc).into_iter().flatten().flatten() {
        if process.metadata().map_or(true, |metadata| metadata.uid() != uid) {
            continue;
        }
        for open in fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten() {
            if fs::read_link(open.path()).is_ok_and(|to| to == Path::new("anon_inode:inotify")) {
                used.instances += 1;
                let info = fs::read_to_string(process.path().join("fdinfo").join(open.file_name()));
                let watches = info.unwrap_or_default().matches("inotify wd:").count();
                used.watches += u64::try_from(watches).unwrap_or(u64::MAX);
            }
        }
    }
    used
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_little_memory_is_told_with_numbers() {
        let meminfo = |available: &str| format!("MemTotal: 9000000 kB\nMemAvailable:    {available} kB\n");
        assert!(
            memory(&meminfo("2228224"), 3).is_ok(),
            "just enough: 1024 + 3 * 384 MiB"
        );
        let short = memory(&meminfo("2228223"), 3).unwrap_err().to_string();
        assert!(
            short.starts_with("2175 MiB of memory are available, a cluster of 3 nodes and a control plane needs 2176"),
            "{short}"
        );
        assert!(memory("", 3).is_ok(), "what is not told is not held against it");
    }

    #[test]
    fn a_low_limit_is_told_with_the_command_that_raises_it() {
        let setting = "fs.inotify.max_user_instances";
        assert!(inotify(setting, 128, 64, 64, 1024).is_ok());
        let short = inotify(setting, 128, 65, 64, 1024).unwrap_err().to_string();
        assert!(
            short.contains("`sysctl -w fs.inotify.max_user_instances=1024`"),
            "{short}"
        );
        let short = inotify(setting, 1024, 1000, 64, 1024).unwrap_err().to_string();
        assert!(short.contains("=1088`"), "more than it has: {short}");
    }

    #[test]
    fn instances_and_watches_in_use_are_counted() {
        let proc = tempfile::tempdir().unwrap();
        let process = proc.path().join("7");
        for (fd, to, info) in [
            (
                "3",
                "anon_inode:inotify",
                "pos: 0\ninotify wd:2 ino:1\ninotify wd:1 ino:2\n",
            ),
            ("4", "anon_inode:inotify", "pos: 0\n"),
            ("5", "anon_inode:[eventpoll]", "pos: 0\n"),
        ] {
            fs::create_dir_all(process.join("fd")).unwrap();
            fs::create_dir_all(process.join("fdinfo")).unwrap();
            std::os::unix::fs::symlink(to, process.join("fd").join(fd)).unwrap();
            fs::write(process.join("fdinfo").join(fd), info).unwrap();
        }
        let uid = nix::unistd::geteuid().as_raw();
        let used = inotify_in_use(proc.path(), uid);
        assert_eq!((used.instances, used.watches), (2, 2));
        let of_another = inotify_in_use(proc.path(), uid + 1);
        assert_eq!(of_another.instances, 0);
    }
}
