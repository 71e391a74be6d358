//! The lock that keeps two live runs from measuring each other: they would share cores and one kernel.
//!
//! It is a `flock` on a file: the kernel releases it when its holder ends, however it ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

/// The machine-wide place of the lock.
pub const LOCK_PATH: &str = "/run/lock/gauntlet.lock";

/// Why the lock was not had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else measures.
    #[error(
        "another live run holds {path} (process {holder}); two runs on one kernel would measure each other: wait for it, \
         or pass --no-lock if you accept that"
    )]
    Held {
        /// The lock file.
        path: PathBuf,
        /// What the holder wrote into it.
        holder: String,
    },
    /// The file cannot be used.
    #[error("failed to lock {path}")]
    Io {
        /// The lock file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Held while this lives.
#[derive(Debug)]
pub struct RunLock {
    _file: File,
}

impl RunLock {
    /// Takes the lock at `path`, or says who has it.
    ///
    /// # Errors
    /// [`LockError::Held`] when another process has it; [`LockError::Io`] when the file cannot be opened or written.
    pub fn acquire(path: &Path) -> Result<Self, LockError> {
        let io = |source| LockError::Io {
            path: path.to_owned(),
            source,
        };
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(io)?;
        }
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                file.read_to_string(&mut holder).map_err(io)?;
                return Err(LockError::Held {
                    path: path.to_owned(),
                    holder: holder.trim().to_owned(),
                });
            }
            Err(TryLockError::Error(source)) => return Err(io(source)),
        }
        file.set_len(0).map_err(io)?;
        file.rewind().map_err(io)?;
        writeln!(file, "{}", std::process::id()).map_err(io)?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::{LockError, RunLock};

    #[test]
    fn the_second_run_is_told_who_holds_it_and_a_later_one_gets_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = RunLock::acquire(&path).unwrap();
        let Err(LockError::Held { holder, .. }) = RunLock::acquire(&path) else {
            panic!("two runs held the lock")
        };
        assert_eq!(holder, std::process::id().to_string());
        drop(first);
        RunLock::acquire(&path).unwrap();
    }
}
