//! Programs that take their time (`kind`, `docker`): each ends by a deadline, tells what it does, and can be found again by a
//! mark in its environment, which all that it starts inherits.
//!
//! Invariant: a program whose caller goes away is killed with it; what it had started is killed by [`kill_marked`].

use std::ffi::OsStr;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};

use super::docker::ToolFailure;

/// The variable by which processes are known that make or change a cluster; its value is the cluster's id.
pub const MARK: &str = "GAUNTLET_CLUSTER_ID";

/// One call of a program.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// The program.
    pub program: &'a Path,
    /// Its arguments.
    pub arguments: &'a [&'a str],
    /// What it reads from standard input.
    pub input: &'a str,
    /// The id of the cluster that it works on.
    pub mark: &'a str,
    /// How long it may take.
    pub within: Duration,
}

impl Call<'_> {
    /// Runs it to its end and gives what it wrote to standard output. `heard` gets each line of standard error at once.
    ///
    /// # Errors
    /// [`ToolFailure`]; the program does not run any more then.
    pub async fn run(&self, heard: &dyn Fn(&str)) -> Result<String, ToolFailure> {
        let command = || format!("{} {}", self.program.display(), self.arguments.join(" "));
        let start = |source| ToolFailure::Start {
            program: self.program.to_owned(),
            source,
        };
        let child = Command::new(self.program)
            .args(self.arguments)
            .env(MARK, self.mark)
            // Out of the terminal's group: on Ctrl-C it is for us to end it, after which we clean up.
            .process_group(0)
            .kill_on_drop(true)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(start)?;
        match tokio::time::timeout(self.within, converse(child, self.input, heard)).await {
            Err(_) => Err(ToolFailure::TooSlow {
                command: command(),
                within: self.within,
            }),
            Ok(Err(source)) => Err(start(source)),
            Ok(Ok((status, said, _))) if status.success() => Ok(said),
            Ok(Ok((status, _, complaint))) => Err(ToolFailure::refused(command(), status, &complaint)),
        }
    }
}

/// How it ended, what it wrote to standard output and to standard error.
async fn converse(
    mut child: Child,
    input: &str,
    heard: &dyn Fn(&str),
) -> std::io::Result<(ExitStatus, String, String)> {
    let (mut stdin, mut stdout) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    let write = async {
        // A program that does not read all of it says itself whether that matters.
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        Ok(())
    };
    let mut said = Vec::new();
    let read = stdout.read_to_end(&mut said);
    let mut complaint = String::new();
    let listen = async {
        while let Some(line) = lines.next_line().await? {
            heard(&line);
            complaint += &line;
            complaint.push('\n');
        }
        Ok(())
    };
    tokio::try_join!(write, read, listen)?;
    let status = child.wait().await?;
    Ok((status, String::from_utf8_lossy(&said).into_owned(), complaint))
}

/// Kills all processes that work on the cluster with this id, whoever started them, and says how many there were.
///
/// What they had asked the container engine for may still happen a moment later.
pub fn kill_marked(mark: &str) -> usize {
    let wanted = format!("{MARK}={mark}");
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let marked = processes.filter_map(|process| {
        let tgid: i32 = process.file_name().to_str()?.parse().ok()?;
        let environment = std::fs::read(process.path().join("environ")).ok()?;
        let found = environment.split(|byte| *byte == 0).any(|one| one == wanted.as_bytes());
        (found && tgid != std::process::id().cast_signed()).then_some(Pid::from_raw(tgid))
    });
    marked.filter(|tgid| kill(*tgid, Signal::SIGKILL).is_ok()).count()
}

/// Where a program of this name is found: as given when it has a directory, else in `PATH`.
#[must_use]
pub fn find(program: &Path) -> Option<std::path::PathBuf> {
    if program.components().count() > 1 {
        return program.is_file().then(|| program.to_owned());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let candidates = std::env::split_paths(&path).map(|directory| directory.join(program.as_os_str() as &OsStr));
    candidates.into_iter().find(|candidate| candidate.is_file())
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::time::Instant;

    use super::*;

    fn shell<'a>(arguments: &'a [&'a str], mark: &'a str, within: Duration) -> Call<'a> {
        Call {
            program: Path::new("/bin/sh"),
            arguments,
            input: "in",
            mark,
            within,
        }
    }

    #[tokio::test]
    async fn a_program_is_heard_while_it_runs_and_quoted_when_it_fails() {
        let heard = RefCell::new(Vec::new());
        let hear = |line: &str| heard.borrow_mut().push(line.to_owned());
        let arguments = ["-c", "cat; echo one >&2; echo two >&2"];
        let said = shell(&arguments, "t1", Duration::from_secs(10)).run(&hear).await;
        assert_eq!(said.unwrap(), "in");
        assert_eq!(*heard.borrow(), ["one", "two"]);
        let arguments = ["-c", "echo no room >&2; exit 3"];
        let refused = shell(&arguments, "t1", Duration::from_secs(10)).run(&|_| ()).await;
        assert!(refused.unwrap_err().to_string().ends_with("failed: no room"));
    }

    #[tokio::test]
    async fn a_deadline_ends_it_and_the_mark_ends_what_it_started() {
        let mark = format!("test-{}", std::process::id());
        // The inner shell outlives the outer one, as the container engine's client outlives kind.
        let arguments = ["-c", "sleep 300 & wait"];
        let began = Instant::now();
        let slow = shell(&arguments, &mark, Duration::from_millis(300)).run(&|_| ()).await;
        assert!(matches!(slow, Err(ToolFailure::TooSlow { .. })), "{slow:?}");
        assert!(began.elapsed() < Duration::from_secs(60));
        // The outer shell was killed at the deadline, and may or may not be reaped yet.
        assert!(kill_marked(&mark) >= 1, "the sleeping process is found");
        let deadline = Instant::now() + Duration::from_secs(10);
        while kill_marked(&mark) > 0 {
            assert!(Instant::now() < deadline, "it does not die");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[test]
    fn programs_are_found_by_path_or_name() {
        assert_eq!(find(Path::new("/bin/sh")), Some("/bin/sh".into()));
        assert!(find(Path::new("sh")).is_some_and(|path| path.is_absolute()));
        assert_eq!(find(Path::new("/bin/no-such-program")), None);
        assert_eq!(find(Path::new("no-such-program")), None);
    }
}
