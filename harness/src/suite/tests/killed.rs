//! A process that plays a suite is killed without warning, again and again, and the result is that of one that was not.

use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::support::{play_in, small_plan};
use crate::check::validity::Class;
use crate::plan::Seed;
use crate::run::RunError;
use crate::suite::plan::PlannedCase;
use crate::suite::store::{CASES_FILE, RESULT_FILE};

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
    let mut kill_count = 0;
    loop {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "--quiet", name])
            .env(PLAYS_IN, killed.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("it starts");
        // Some runs later, in the middle of one.
        let enough = line_count(killed.path()) + rng.random_range(2..9);
        if let Some(status) = ended_before(&mut child, || line_count(killed.path()) >= enough) {
            assert!(status.success(), "{status}");
            break;
        }
        std::thread::sleep(RUN.mul_f64(rng.random()));
        child.kill().expect("it is our child");
        child.wait().expect("it is our child");
        kill_count += 1;
    }
    assert!(kill_count >= 2, "too few kills to say anything: {kill_count}");
    assert_eq!(
        String::from_utf8(result(killed.path())).expect("JSON"),
        String::from_utf8(result(whole.path())).expect("JSON"),
    );
}

/// Runs that were kept so far.
fn line_count(directory: &Path) -> usize {
    let text = std::fs::read_to_string(directory.join(CASES_FILE)).unwrap_or_default();
    text.lines().count()
}

/// How a process ended; `None` if something else happened first.
fn ended_before(child: &mut Child, happened: impl Fn() -> bool) -> Option<ExitStatus> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(status) = child.try_wait().expect("it is our child") {
            return Some(status);
        }
        if happened() {
            return None;
        }
        assert!(Instant::now() < deadline, "nothing happened");
        std::thread::sleep(Duration::from_millis(1));
    }
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
