//! Where on this machine live runs write: `gauntlet recover` finds there what a killed run left, wherever that was.
//!
//! One symbolic link for each directory. Knows nothing of what lies in them.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::target::kind::record::StateDirectory;

/// The directories that runs of this machine were written to.
#[derive(Clone, Debug)]
pub struct Homes(PathBuf);

impl Homes {
    /// Those of this machine, see [`StateDirectory::of_this_machine`].
    #[must_use]
    pub fn of_this_machine() -> Self {
        Self(StateDirectory::of_this_machine().homes())
    }

    /// Those whose links lie in this directory, which need not exist.
    #[must_use]
    pub fn at(links: impl Into<PathBuf>) -> Self {
        Self(links.into())
    }

    /// Keeps in mind that runs are written to `home`, which exists.
    ///
    /// # Errors
    /// When that cannot be written down.
    pub fn remember(&self, home: &Path) -> io::Result<()> {
        let home = home.canonicalize()?;
        fs::create_dir_all(&self.0)?;
        let digest = Sha256::digest(home.as_os_str().as_encoded_bytes());
        let name: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        match symlink(&home, self.0.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            made => made,
        }
    }

    /// All that still exist, sorted. What was removed is forgotten.
    #[must_use]
    pub fn all(&self) -> Vec<PathBuf> {
        let mut homes = Vec::new();
        for link in fs::read_dir(&self.0).into_iter().flatten().flatten() {
            match link.path().canonicalize() {
                Ok(home) => homes.push(home),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let _forgotten_already = fs::remove_file(link.path());
                }
                // It may be mounted again.
                Err(_) => {}
            }
        }
        homes.sort();
        homes
    }
}

/// Lets a later `gauntlet recover` on this machine look at `home`; if that cannot be, says what it must be told.
pub fn remember(home: &Path) {
    if let Err(error) = Homes::of_this_machine().remember(home) {
        eprintln!(
            "gauntlet: warning: should this process be killed, recovery must be told where to look \
             (gauntlet recover --out {}): {error}",
            home.display()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_is_known_once_and_as_long_as_it_exists() {
        let directory = tempfile::tempdir().unwrap();
        let homes = Homes::at(directory.path().join("state").join("homes"));
        assert!(homes.all().is_empty());
        let (first, second) = (directory.path().join("a"), directory.path().join("b"));
        assert!(homes.remember(&first).is_err(), "it does not exist");
        fs::create_dir_all(&first).unwrap();
        fs::create_dir_all(&second).unwrap();
        homes.remember(&second).unwrap();
        homes.remember(&first).unwrap();
        homes.remember(&second.join("..").join("a")).unwrap();
        let expected = [first.canonicalize().unwrap(), second.canonicalize().unwrap()];
        assert_eq!(homes.all(), expected);
        fs::remove_dir(&first).unwrap();
        assert_eq!(homes.all(), expected[1..]);
        assert_eq!(fs::read_dir(&homes.0).unwrap().count(), 1, "its link is gone");
        homes.remember(&second).unwrap();
        assert_eq!(homes.all(), expected[1..]);
    }
}
