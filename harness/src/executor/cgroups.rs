//! Makes the cgroups of a privileged container fit for a local cluster, all of it below the container's own cgroup, so that
//! it goes with the container however that ends.
//!
//! A container of a hybrid machine gets the v1 hierarchies only; one of a pure v2 machine has its processes at the root of
//! its own tree, which then hands no controllers down. Does nothing where neither is so.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// Where the v2 hierarchy is on hybrid machines.
const UNIFIED: &str = "/sys/fs/cgroup/unified";
/// Where it is on pure v2 machines.
const ROOT: &str = "/sys/fs/cgroup";
/// The leaf for what runs in the container already.
const LEAF: &str = "runner";

/// What a container has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// v1 only; v2 is to be mounted.
    NoUnified,
    /// v2 only.
    PureV2,
    /// Both.
    Hybrid,
}

/// Does what is needed.
///
/// # Errors
/// When a mount or a move is refused: the container is not privileged.
pub fn prepare() -> io::Result<()> {
    match found(&fs::read_to_string("/proc/self/mountinfo")?) {
        Found::Hybrid => Ok(()),
        Found::NoUnified => mount_unified(&own_path(&fs::read_to_string("/proc/self/cgroup")?)),
        Found::PureV2 => move_to_leaf(Path::new(ROOT)),
    }
}

fn found(mountinfo: &str) -> Found {
    let kinds = mountinfo
        .lines()
        .filter_map(|line| line.split_once(" - ")?.1.split(' ').next());
    let kinds: Vec<&str> = kinds.collect();
    match (kinds.contains(&"cgroup"), kinds.contains(&"cgroup2")) {
        (_, false) => Found::NoUnified,
        (false, true) => Found::PureV2,
        (true, true) => Found::Hybrid,
    }
}

/// This process's cgroup of the v2 hierarchy, without the slash at its beginning, from `/proc/self/cgroup`.
fn own_path(cgroup: &str) -> PathBuf {
    let own = cgroup.lines().find_map(|line| line.strip_prefix("0::/"));
    PathBuf::from(own.unwrap_or_default())
}

/// Mounts this container's part of the v2 hierarchy. What lies above it is not left visible.
fn mount_unified(own: &Path) -> io::Result<()> {
    let nothing = None::<&str>;
    let whole = tempfile::tempdir()?;
    mount(nothing, whole.path(), Some("cgroup2"), MsFlags::empty(), nothing)?;
    let bound = fs::create_dir_all(UNIFIED).and_then(|()| {
        let part = whole.path().join(own);
        mount(Some(&part), UNIFIED, nothing, MsFlags::MS_BIND, nothing).map_err(Into::into)
    });
    umount2(whole.path(), MntFlags::MNT_DETACH)?;
    bound
}

/// Moves every process out of the cgroup at `root`, into a leaf below it.
fn move_to_leaf(root: &Path) -> io::Result<()> {
    let leaf = root.join(LEAF);
    fs::create_dir_all(&leaf)?;
    for tgid in fs::read_to_string(root.join("cgroup.procs"))?.lines() {
        match fs::write(leaf.join("cgroup.procs"), tgid) {
            // It has ended meanwhile.
            Err(error) if error.raw_os_error() == Some(nix::libc::ESRCH) => {}
            moved => moved?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_are_told_apart_by_their_mounts() {
        let v1 = "30 1 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n";
        let v2 = "31 1 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        assert_eq!(found(v1), Found::NoUnified);
        assert_eq!(found(v2), Found::PureV2);
        assert_eq!(found(&format!("{v1}{v2}")), Found::Hybrid);
    }

    #[test]
    fn a_container_knows_its_own_cgroup() {
        let text = "2:cpu:/a/b\n0::/kubelet/pod1/c\n";
        assert_eq!(own_path(text), Path::new("kubelet/pod1/c"));
        assert_eq!(own_path("0::/\n"), Path::new(""));
    }

    /// Needs root: a real cgroup, with a real process in it.
    #[test]
    fn processes_leave_the_root_for_a_leaf() {
        let machine = fs::read_to_string("/proc/self/mountinfo").expect("it is there");
        let mounted = machine.lines().find(|line| line.contains(" - cgroup2 "));
        let mounted = mounted.and_then(|line| line.split(' ').nth(4)).map(Path::new);
        let (true, Some(mounted)) = (nix::unistd::geteuid().is_root(), mounted) else {
            eprintln!("skipped: no root, or no cgroup2");
            return;
        };
        let root = mounted.join(format!("gauntlet-leaf-test-{}", std::process::id()));
        fs::create_dir(&root).expect("a cgroup");
        let mut sleeper = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .expect("it starts");
        fs::write(root.join("cgroup.procs"), sleeper.id().to_string()).expect("moved in");
        let moved = move_to_leaf(&root);
        let left = fs::read_to_string(root.join("cgroup.procs")).expect("readable");
        let there = fs::read_to_string(root.join(LEAF).join("cgroup.procs")).unwrap_or_default();
        sleeper.kill().expect("ours");
        sleeper.wait().expect("ours");
        for cgroup in [root.join(LEAF), root.clone()] {
            fs::remove_dir(cgroup).expect("empty");
        }
        moved.expect("moved");
        assert_eq!((left.as_str(), there.trim()), ("", sleeper.id().to_string().as_str()));
    }
}
