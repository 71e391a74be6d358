//! Runs a networking tool inside a namespace and says precisely what it refused.
//!
//! Shelling out is deliberate: no crate speaks nftables expressions, `cls_bpf` or legacy tables completely, and the text
//! given to these tools is what a person would type to check it.

use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::target::NetnsFd;
use crate::target::namespace::{NamespaceError, run_in_netns};

/// A tool did not do what it was told.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// The namespace could not be entered.
    #[error("failed to run `{command}`")]
    Namespace {
        /// What was to run.
        command: String,
        /// Why it could not.
        #[source]
        source: NamespaceError,
    },
    /// It could not be started or fed.
    #[error("failed to start `{command}`")]
    Start {
        /// What was to run.
        command: String,
        /// Why it could not.
        #[source]
        source: std::io::Error,
    },
    /// It said no.
    #[error("`{command}` failed: {message}")]
    Refused {
        /// What ran.
        command: String,
        /// What it printed.
        message: String,
    },
}

/// Runs `program` with `arguments` in `netns`, gives it `input`, returns what it printed.
pub(crate) fn run(netns: &NetnsFd, program: &str, arguments: &[&str], input: &str) -> Result<String, ToolError> {
    let command = format!("{program} {}", arguments.join(" "));
    let inside = run_in_netns(netns, || feed(program, arguments, input));
    let output = inside
        .map_err(|source| ToolError::Namespace {
            command: command.clone(),
            source,
        })?
        .map_err(|source| ToolError::Start {
            command: command.clone(),
            source,
        })?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
        return Err(ToolError::Refused { command, message });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs `tc` with the words of `line`; words in single quotes stay together.
pub(crate) fn tc(netns: &NetnsFd, line: &str) -> Result<String, ToolError> {
    let quoted = line.split('\'').enumerate();
    let words: Vec<&str> = quoted
        .flat_map(|(index, part)| {
            if index % 2 == 0 {
                part.split_whitespace().collect()
            } else {
                vec![part]
            }
        })
        .collect();
    run(netns, "tc", &words, "")
}

fn feed(program: &str, arguments: &[&str], input: &str) -> std::io::Result<std::process::Output> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().expect("the standard input was asked for");
    // A tool that rejects its arguments closes its input early; its own message is the better error.
    let _closed_early = stdin.write_all(input.as_bytes());
    drop(stdin);
    child.wait_with_output()
}
