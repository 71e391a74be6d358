//! A process that plays a suite is killed without warning, again and again, and the result is that of one that was not.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::support::{play_in, small_plan};
use crate::check::validity::Class;
use crate::plan::Seed;
use crate::run::RunError;
use crate::suite::plan::PlannedCase;
use crate::suite::store::RESULT_FILE;

/// Where the process that is killed plays; set in it alone.
const PLAYS_IN: &str = "GAUNTLET_TEST_SUITE_PLAYS_IN";
/// How long a run takes there.
const RUN: Duration = Duration::from_millis(10);

#[test]
fn a_suite_that_is_killed_ends_with_the_result_of_one_that_is_not() {
    if let Some(directory) = std::env::var_os(PLAYS_IN) {
        return play(Path::new(&directory), RUN);
    }
    let (whole, killed) = (
        tempfile::tempdir().expect("a directory"),
        tempfile::tempdir().expect("a directory"),
    );
    play(whole.path(), Duration::ZERO);
    let result = |directory: &Path| std::fs::read(directory.join(RESULT_FILE)).expect("the result");
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let name = concat!(
        module_path!(),
        "::a_suite_that_is_killed_ends_with_the_result_of_one_that_is_not"
    );
    let (_, name) = name.split_once("::").expect("the crate, and the path within");
    let (mut kill_count, deadline) = (0, Instant::now() + Duration::from_secs(60));
    loop {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "--quiet", name])
            .env(PLAYS_IN, killed.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("it starts");
        let lives_until = Instant::now() + Duration::from_millis(rng.random_range(30..150));
        let status = loop {
            match child.try_wait().expect("it is our child") {
                Some(status) => break Some(status),
                None if Instant::now() >= lives_until => break None,
                None => std::thread::sleep(Duration::from_millis(1)),
            }
        };
        if let Some(status) = status {
            assert!(status.success(), "{status}");
            break;
        }
        child.kill().expect("it is our child");
        child.wait().expect("it is our child");
        kill_count += 1;
        assert!(Instant::now() < deadline, "it never ended: killed {kill_count} times");
    }
    assert!(kill_count >= 2, "too few kills to say anything: {kill_count}");
    assert_eq!(
        String::from_utf8(result(killed.path())).expect("JSON"),
        String::from_utf8(result(whole.path())).expect("JSON"),
    );
}

/// Plays a suite with runs of every kind.
fn play(directory: &Path, run: Duration) {
    let outcome = |case: &PlannedCase, seed: Seed| {
        std::thread::sleep(run);
        // Some are repeated in vain: a million is a multiple of 5 and none of 7.
        match (case.key.scenario.as_str(), seed.0 % 5) {
            ("none", 1) => Err(RunError::Target("no postgres".to_owned())),
            ("placebo", 2) => Ok(Class::Unstable),
            ("surge", _) if seed.0 % 7 == 3 => Ok(Class::LostEvidence),
            _ => Ok(Class::Valid),
        }
    };
    play_in(directory, &small_plan(10), None, outcome);
}
