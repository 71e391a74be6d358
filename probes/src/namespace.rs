//! Ways into the network namespaces of others. Knows their numbers only, not whose they are.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use nix::sched::CloneFlags;

/// Does something within the network namespace with this inode; `None` if no way into it was found, or `act` gave none.
/// What `act` opens stays bound to that namespace.
pub(crate) fn within<T: Send + 'static>(netns: u64, act: impl FnOnce() -> Option<T> + Send + 'static) -> Option<T> {
    let namespace = find(netns)?;
    // A thread of its own: the change of namespace ends with it.
    std::thread::spawn(move || {
        nix::sched::setns(&namespace, CloneFlags::CLONE_NEWNET).ok()?;
        act()
    })
    .join()
    .ok()
    .flatten()
}

/// A handle of a namespace: that of a process in it, or one that some process holds open.
fn find(netns: u64) -> Option<File> {
    let wanted = PathBuf::from(format!("net:[{netns}]"));
    let is_wanted = |path: &Path| fs::read_link(path).is_ok_and(|link| link == wanted);
    let processes: Vec<PathBuf> = fs::read_dir("/proc")
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.as_encoded_bytes()[0].is_ascii_digit())
        })
        .collect();
    if let Some(process) = processes.iter().find(|process| is_wanted(&process.join("ns/net"))) {
        return File::open(process.join("ns/net")).ok();
    }
    processes.iter().find_map(|process| {
        let held = fs::read_dir(process.join("fd"))
            .ok()?
            .filter_map(|entry| Some(entry.ok()?.path()));
        held.filter(|path| is_wanted(path))
            .find_map(|path| File::open(path).ok())
    })
}
