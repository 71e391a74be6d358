//! A lock of the kernel itself, for live runs in containers: they share cores and kernel, but no file.
//!
//! A kernel has one tracefs, however often and in whichever mount namespace it is mounted, so that its root is one
//! directory for all containers of a machine: a `flock` on it is held once per kernel. Like every `flock` it is released
//! when its holder ends, however it ends. Who holds it is not to be had.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::timeline::Cancel;

/// How often a waiting run looks whether it is still wanted.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Why the lock was not had.
#[derive(Debug, thiserror::Error)]
pub enum KernelLockError {
    /// Somebody else measures.
    #[error(
        "another live run holds this kernel, perhaps in a container; two of them would measure each other: wait for it \
         with --wait-lock, or pass --no-lock if you accept that"
    )]
    Held,
    /// There was no more need to wait.
    #[error("interrupted while waiting for another live run")]
    Interrupted,
    /// The kernel has no tracefs, or this process may not mount it.
    #[error("failed to lock this kernel by its tracefs")]
    Io(#[source] io::Error),
}

/// Held while this lives.
#[derive(Debug)]
pub struct KernelLock {
    _root: File,
}

impl KernelLock {
    /// Takes the lock.
    ///
    /// # Errors
    /// [`KernelLockError::Held`] when another process has it, or [`KernelLockError::Io`].
    pub fn acquire() -> Result<Self, KernelLockError> {
        let root = tracefs().map_err(KernelLockError::Io)?;
        match root.try_lock() {
            Ok(()) => Ok(Self { _root: root }),
            Err(TryLockError::WouldBlock) => Err(KernelLockError::Held),
            Err(TryLockError::Error(source)) => Err(KernelLockError::Io(source)),
        }
    }

    /// Waits for the lock in the kernel's own queue, first come, first served, until `cancel` becomes true.
    ///
    /// # Errors
    /// [`KernelLockError::Interrupted`], or [`KernelLockError::Io`]. After an interruption a thread goes on waiting until
    /// this process ends.
    pub fn wait(cancel: &Cancel) -> Result<Self, KernelLockError> {
        let root = tracefs().map_err(KernelLockError::Io)?;
        let (sender, receiver) = channel();
        std::thread::spawn(move || {
            let locked = root.lock().map(|()| root);
            // Nobody listens any more after an interruption, and the lock is released with the file.
            let _ = sender.send(locked);
        });
        loop {
            match receiver.recv_timeout(LOOK_EVERY) {
                Ok(locked) => return locked.map(|root| Self { _root: root }).map_err(KernelLockError::Io),
                Err(RecvTimeoutError::Timeout) if *cancel.borrow() => return Err(KernelLockError::Interrupted),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(KernelLockError::Io(io::Error::other("the waiting thread broke")));
                }
            }
        }
    }
}

/// The root of this kernel's tracefs, mounted where nobody else sees it; the open file outlives the mount.
fn tracefs() -> io::Result<File> {
    let place = tempfile::tempdir()?;
    let open = |place: &Path| -> io::Result<File> {
        unshare(CloneFlags::CLONE_NEWNS)?;
        let nothing = None::<&str>;
        // Mounts of a namespace of its own still spread to where it came from, unless this is said.
        mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)?;
        mount(nothing, place, Some("tracefs"), MsFlags::MS_RDONLY, nothing)?;
        File::open(place)
    };
    // The thread's mount namespace ends with it.
    std::thread::scope(|scope| scope.spawn(|| open(place.path())).join())
        .unwrap_or_else(|_| Err(io::Error::other("the mounting thread broke")))
}
