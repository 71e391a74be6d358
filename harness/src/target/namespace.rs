//! Making and entering namespaces: the one place of the harness with `unsafe` code.
//!
//! A namespace is entered by threads made for it, never by a thread that others use. Knows nothing of what is done inside.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl, open};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid, setgid, setgroups, setsid, setuid, write};

use super::{NetnsFd, PodHandle};

/// A namespace could not be made or entered.
#[derive(Debug, thiserror::Error)]
#[error("failed to {operation}")]
pub struct NamespaceError {
    operation: &'static str,
    #[source]
    source: io::Error,
}

impl NamespaceError {
    fn new(operation: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self { operation, source }
    }
}

/// Makes a network namespace without a name; it lives as long as descriptors, processes and sockets in it.
pub fn new_netns() -> Result<NetnsFd, NamespaceError> {
    on_fresh_thread(|| {
        unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| NamespaceError {
            operation: "make a network namespace",
            source: errno.into(),
        })?;
        let own = File::open("/proc/thread-self/ns/net").map_err(NamespaceError::new("open a network namespace"))?;
        Ok(Arc::new(OwnedFd::from(own)))
    })
}

/// Number of the namespace's inode: its identity in the kernel.
pub fn netns_inode(netns: &NetnsFd) -> Result<u64, NamespaceError> {
    let inspect = || -> io::Result<u64> { Ok(File::from(netns.try_clone()?).metadata()?.ino()) };
    inspect().map_err(NamespaceError::new("inspect a network namespace"))
}

/// Runs `f` in the network namespace, on a thread of its own, and waits for it.
pub fn run_in_netns<T: Send>(netns: &NetnsFd, f: impl FnOnce() -> T + Send) -> Result<T, NamespaceError> {
    on_fresh_thread(|| {
        enter_netns(netns).map_err(NamespaceError::new("enter a network namespace"))?;
        Ok(f())
    })
}

/// A command whose process will run in the network namespace.
pub fn command_in_netns(netns: &NetnsFd, program: impl AsRef<Path>) -> Command {
    let mut command = Command::new(program.as_ref());
    confine(&mut command, vec![Confine::Netns(Arc::clone(netns))]);
    command
}

/// A command whose process will run in the pod's network namespace and cgroups, so that it counts as the pod's.
pub fn command_in_pod(pod: &PodHandle, program: impl AsRef<Path>) -> Command {
    let mut command = Command::new(program.as_ref());
    let mut steps = vec![Confine::Netns(Arc::clone(&pod.netns))];
    let mut directories = vec![
        &pod.cgroup.unified,
        &pod.cgroup.cpu,
        &pod.cgroup.memory,
        &pod.cgroup.freezer,
    ];
    directories.dedup();
    steps.extend(
        directories
            .into_iter()
            .map(|directory| Confine::Cgroup(directory.join("cgroup.procs"))),
    );
    confine(&mut command, steps);
    command
}

/// A runtime all of whose threads are in the network namespace, so that sockets made on it are as well.
pub fn tokio_runtime_in_netns(netns: NetnsFd, threads: usize) -> Result<tokio::runtime::Runtime, NamespaceError> {
    // Whether it can be entered is found out here, where it can still be said.
    run_in_netns(&netns, || ())?;
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .on_thread_start(move || enter_netns(&netns).expect("this namespace was entered before"))
        .build()
        .map_err(NamespaceError::new("start a runtime in a network namespace"))
}

/// What a process does to itself between fork and exec, in the order given.
#[derive(Debug)]
pub(crate) enum Confine {
    /// Opens a session of its own: no terminal signal reaches it.
    Session,
    /// Enters a network namespace.
    Netns(NetnsFd),
    /// Enters the cgroup with this `cgroup.procs`.
    Cgroup(PathBuf),
    /// Makes an IPC namespace of its own: System V shared memory dies with it.
    Ipc,
    /// Keeps this descriptor open across exec, under the same number.
    Inherit(NetnsFd),
    /// Becomes this user, without supplementary groups.
    User(Uid, Gid),
    /// Is killed when the thread that started it dies. After [`Confine::User`], which would clear this.
    DieWithParent,
}

impl Confine {
    /// Async-signal-safe: system calls only, no allocation.
    fn apply(&self) -> nix::Result<()> {
        match self {
            Self::Session => setsid().map(drop),
            Self::Netns(netns) => setns(netns.as_fd(), CloneFlags::CLONE_NEWNET),
            Self::Cgroup(procs) => {
                let file = open(procs.as_path(), OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())?;
                write(file, b"0").map(drop)
            }
            Self::Ipc => unshare(CloneFlags::CLONE_NEWIPC),
            Self::Inherit(fd) => fcntl(fd.as_fd(), FcntlArg::F_SETFD(FdFlag::empty())).map(drop),
            Self::User(uid, gid) => {
                setgroups(&[*gid])?;
                setgid(*gid)?;
                setuid(*uid)
            }
            Self::DieWithParent => prctl::set_pdeathsig(Signal::SIGKILL),
        }
    }
}

/// Lets the process of `command` do `steps` before it becomes the program.
#[expect(unsafe_code, reason = "pre_exec is unsafe: its closure runs between fork and exec")]
pub(crate) fn confine(command: &mut Command, steps: Vec<Confine>) {
    // SAFETY: `Confine::apply` makes system calls only; it neither allocates nor takes locks.
    unsafe {
        command.pre_exec(move || steps.iter().try_for_each(Confine::apply).map_err(io::Error::from));
    }
}

/// Takes possession of a descriptor that [`Confine::Inherit`] left open, and closes it to further children.
#[expect(unsafe_code, reason = "the number of an inherited descriptor is all that there is")]
pub(crate) fn adopt(fd: RawFd) -> io::Result<NetnsFd> {
    if fd <= 2 {
        return Err(io::Error::other(format!("descriptor {fd} is a standard stream")));
    }
    // SAFETY: the number comes from the process that left it open for us; nothing else in this process knows it, and the
    // next line fails if it is not open.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    if let Err(errno) = fcntl(fd.as_fd(), FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)) {
        // Closing a descriptor that is not open is an error of its own; it is not ours to close.
        std::mem::forget(fd);
        return Err(errno.into());
    }
    Ok(Arc::new(fd))
}

/// The number under which a process that inherits the descriptor finds it.
pub(crate) fn inherited_number(netns: &NetnsFd) -> RawFd {
    netns.as_raw_fd()
}

fn enter_netns(netns: &NetnsFd) -> io::Result<()> {
    setns(netns.as_fd(), CloneFlags::CLONE_NEWNET).map_err(io::Error::from)
}

fn on_fresh_thread<T: Send>(f: impl FnOnce() -> Result<T, NamespaceError> + Send) -> Result<T, NamespaceError> {
    thread::scope(|scope| {
        let thread = thread::Builder::new()
            .name("netns".into())
            .spawn_scoped(scope, f)
            .map_err(NamespaceError::new("start a thread for a namespace"))?;
        match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}
