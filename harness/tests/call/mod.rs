//! A call of the built program that goes on: what it says meanwhile, how it is waited for, and how it is ended.
//!
//! Shared by tests of runs, here and in pods. Does not know what was called.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

/// Pause between two looks at it.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The call.
pub(crate) struct Call {
    child: Child,
    said: PathBuf,
}

impl Call {
    /// Starts it. What it prints goes to one file, and what it says meanwhile to another.
    pub(crate) fn start(command: &mut Command, printed: &Path, said: &Path) -> Self {
        command.stdout(File::create(printed).expect("a file"));
        command.stderr(File::create(said).expect("a file"));
        Self {
            child: command.spawn().expect("the program starts"),
            said: said.to_owned(),
        }
    }

    /// Its process.
    pub(crate) fn tgid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// What it said.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(&self.said).expect("its file")
    }

    /// How it ended, if it did.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("it is our child")
    }

    /// Lets it go on for a moment. It must not have ended, and `deadline` must not have passed.
    pub(crate) fn go_on(&mut self, deadline: Instant) {
        assert_eq!(self.ended(), None, "it ended before: {}", self.said());
        assert!(Instant::now() < deadline, "it did not happen: {}", self.said());
        std::thread::sleep(LOOK_EVERY);
    }

    /// Ends it without any leave, and nothing but it.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it is our child");
        self.child.wait().expect("it is our child");
    }

    /// Waits for its end.
    pub(crate) fn end(&mut self, patience: Duration) -> ExitStatus {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.ended() {
                return status;
            }
            let is_late = Instant::now() >= deadline;
            assert!(!is_late, "it did not end within {patience:?}: {}", self.said());
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// After a failed assertion: if it goes on, has it stopped by `stop`, and waits no longer than that takes.
    pub(crate) fn give_up(&mut self, patience: Duration, stop: impl FnOnce(i32)) {
        if matches!(self.child.try_wait(), Ok(None)) {
            stop(self.tgid());
            let deadline = Instant::now() + patience;
            while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
                std::thread::sleep(LOOK_EVERY);
            }
        }
    }
}
