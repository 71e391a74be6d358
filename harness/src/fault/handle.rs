//! The harness's end of a fault agent: starts it, gives it its order, hears its words, ends it.
//!
//! Knows nothing of what the agent does.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use super::agent::{AgentOrder, AgentReply, RECOVER};
use super::injector::AgentCommand;

/// Longest that an agent may take for its steps, or for their undo.
const AGENT_PATIENCE: Duration = Duration::from_secs(15);

/// A running agent. When it is dropped, its input closes and it undoes its injection.
pub(crate) struct Agent {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Agent {
    /// Its process id, while it lives.
    pub(crate) fn tgid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Ends it at once, without undo.
    pub(crate) async fn end(&mut self) {
        let _dead_already = self.child.kill().await;
    }

    /// Starts it and gives it its order.
    pub(crate) async fn start(command: &AgentCommand, order: &AgentOrder) -> std::io::Result<Self> {
        let mut child = Command::new(&command.program)
            .args(&command.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut input = child.stdin.take().expect("the standard input was asked for");
        let output = BufReader::new(child.stdout.take().expect("the standard output was asked for")).lines();
        let mut line = serde_json::to_vec(order)?;
        line.push(b'\n');
        input.write_all(&line).await?;
        Ok(Self { child, input, output })
    }

    /// Its next word.
    pub(crate) async fn reply(&mut self) -> std::io::Result<AgentReply> {
        let line = timeout(AGENT_PATIENCE, self.output.next_line()).await??;
        Ok(serde_json::from_str(&line.ok_or(std::io::ErrorKind::UnexpectedEof)?)?)
    }

    /// Makes it undo and end. An error means that it is dead and that what it made may stand.
    pub(crate) async fn recover(&mut self) -> std::io::Result<AgentReply> {
        // An agent that has undone its injection already no longer listens, but its words are still there.
        let _may_have_expired = self.input.write_all(format!("{RECOVER}\n").as_bytes()).await;
        let reply = self.reply().await;
        if reply.is_err() {
            // It may hang rather than be dead, and two must not undo the same at once.
            self.child.kill().await?;
        }
        let _reaped = timeout(AGENT_PATIENCE, self.child.wait()).await;
        reply
    }
}
