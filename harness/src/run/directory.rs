//! The run directory: where each run's evidence lies, and how it gets its name.

use std::fs::{File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::RunError;

/// How often a directory that is held is looked at again, and after which time.
const LOOKS: u32 = 10;
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Makes a new directory below `out` for one run; its name sorts by time.
///
/// # Errors
/// When it cannot be made.
pub fn create(out: &Path, scenario: &str, seed: u64) -> Result<PathBuf, RunError> {
    create_stamped(out, &format!("{scenario}-s{seed}"))
}

/// Makes a new directory below `out` whose name is the time of day and `name`.
///
/// # Errors
/// When it cannot be made.
pub fn create_stamped(out: &Path, name: &str) -> Result<PathBuf, RunError> {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let stamp = utc_stamp(since_epoch.as_secs());
    let path = out.join(format!("{stamp}-{:03}-{name}", since_epoch.subsec_millis()));
    let failed = |source| RunError::Directory {
        path: path.clone(),
        source,
    };
    std::fs::create_dir_all(&path).map_err(failed)?;
    // Detectors and agents are other processes with other working directories.
    path.canonicalize().map_err(failed)
}

/// Says to others that this run is on, until what is returned is dropped or this process ends, however it ends.
///
/// # Errors
/// When the directory cannot be opened or locked.
pub fn hold(directory: &Path) -> io::Result<File> {
    let held = File::open(directory)?;
    held.lock_shared()?;
    Ok(held)
}

/// Whether the run of this directory is on. A lock may outlive its holder by a moment: a program that it was about to start has
/// a copy until it has begun.
#[must_use]
pub fn is_held(directory: &Path) -> bool {
    let is_locked = || File::open(directory).is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)));
    let is_still_locked = |_| {
        std::thread::sleep(LOOK_EVERY);
        is_locked()
    };
    is_locked() && (0..LOOKS).all(is_still_locked)
}

/// Writes a value as indented JSON, so that what stands under its name is whole or not there.
///
/// # Errors
/// When it cannot be written.
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), RunError> {
    let mut bytes = serde_json::to_vec_pretty(value).map_err(|source| RunError::Directory {
        path: path.to_owned(),
        source: source.into(),
    })?;
    bytes.push(b'\n');
    write_whole(path, &bytes)
}

/// Writes a file so that what stands under its name is whole or not there.
///
/// # Errors
/// When it cannot be written.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), RunError> {
    let write = || -> io::Result<()> {
        let parent = path.parent().unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(parent)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o644))
    };
    write().map_err(|source| RunError::Directory {
        path: path.to_owned(),
        source,
    })
}

/// `20260131T235959` of seconds since 1970 (proleptic Gregorian calendar, no leap seconds).
fn utc_stamp(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Civil date from days, counting years from 1 March so that a leap day is a year's last (Howard Hinnant, "chrono-
    // compatible low-level date algorithms").
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 {
        month_index + 3
    } else {
        month_index - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!(
        "{year:04}{month:02}{day:02}T{:02}{:02}{:02}",
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_are_utc() {
        assert_eq!(utc_stamp(0), "19700101T000000");
        assert_eq!(utc_stamp(951_782_400), "20000229T000000");
        assert_eq!(utc_stamp(1_798_761_599), "20261231T235959");
    }

    #[test]
    fn a_run_is_on_while_its_directory_is_held() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!is_held(dir.path()) && !is_held(&dir.path().join("missing")));
        let held = hold(dir.path()).unwrap();
        assert!(is_held(dir.path()));
        drop(held);
        assert!(!is_held(dir.path()));
    }

    #[test]
    fn a_failed_write_leaves_nothing_under_the_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("missing").join("result.json");
        assert!(write_json(&path, &1).is_err());
        assert!(!path.exists());
    }
}
