//! The container engine's command line, and what it says when it fails.
//!
//! Runs commands; what they are for is the caller's.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::time::Duration;

/// A command could not be run, or said no.
#[derive(Debug, thiserror::Error)]
pub enum ToolFailure {
    /// The program is not there, or cannot be started.
    #[error("failed to start {}", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It ended with another code than 0.
    #[error("`{command}` failed: {message}")]
    Refused {
        /// The command line.
        command: String,
        /// The last lines that it wrote to standard error.
        message: String,
    },
    /// It did not end.
    #[error("`{command}` did not end within {} s", within.as_secs())]
    TooSlow {
        /// The command line.
        command: String,
        /// How long it had.
        within: Duration,
    },
}

/// Lines of an error message that are kept.
const MESSAGE_LINES: usize = 12;

/// Runs `program` to its end, with `input` on standard input, and gives what it wrote to standard output.
///
/// Blocks; asynchronous callers run it on a thread of their own.
///
/// # Errors
/// [`ToolFailure`].
pub fn run(program: &Path, arguments: &[&str], input: &[u8]) -> Result<String, ToolFailure> {
    let start = |source| ToolFailure::Start {
        program: program.to_owned(),
        source,
    };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(start)?;
    let mut standard_input = child.stdin.take().expect("piped");
    let output = std::thread::scope(|scope| {
        scope.spawn(move || {
            // A program that does not read all of it says itself whether that matters.
            let _ = standard_input.write_all(input);
        });
        child.wait_with_output()
    });
    let Output { status, stdout, stderr } = output.map_err(start)?;
    if status.success() {
        return Ok(String::from_utf8_lossy(&stdout).into_owned());
    }
    let command = format!("{} {}", program.display(), arguments.join(" "));
    Err(ToolFailure::refused(command, status, &String::from_utf8_lossy(&stderr)))
}

impl ToolFailure {
    /// What `command` said before it ended with `status`.
    pub(super) fn refused(command: String, status: ExitStatus, standard_error: &str) -> Self {
        let lines: Vec<&str> = standard_error.lines().collect();
        let message = lines[lines.len().saturating_sub(MESSAGE_LINES)..].join("\n");
        Self::Refused {
            command,
            message: if message.is_empty() {
                status.to_string()
            } else {
                message
            },
        }
    }
}

/// Runs `docker`.
///
/// # Errors
/// [`ToolFailure`].
pub fn docker(arguments: &[&str]) -> Result<String, ToolFailure> {
    run(Path::new("docker"), arguments, &[])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_what_a_program_says_and_why_it_fails() {
        let shell = Path::new("/bin/sh");
        assert_eq!(run(shell, &["-c", "cat; echo done"], b"in ").unwrap(), "in done\n");
        let refused = run(shell, &["-c", "echo no such thing >&2; exit 3"], b"").unwrap_err();
        assert!(refused.to_string().ends_with("failed: no such thing"), "{refused}");
        let missing = run(Path::new("/nowhere/program"), &[], b"").unwrap_err();
        assert_eq!(missing.to_string(), "failed to start /nowhere/program");
    }
}
