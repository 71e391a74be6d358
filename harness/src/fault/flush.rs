//! `cache-flush`: one conversation with the pod's Redis server, from within its own network namespace.
//!
//! Cannot be undone: what was cached must be asked for again, and that is the fault.

use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::target::NetnsFd;
use crate::target::namespace::run_in_netns;

const PATIENCE: Duration = Duration::from_secs(2);

/// How many keys there were right before and right after, on the same connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyCount {
    /// Before.
    pub before: u64,
    /// After.
    pub after: u64,
}

/// Counts the keys, gives `command` (`FLUSHALL`, or `PING` for a placebo), counts again.
pub(crate) fn converse(netns: &NetnsFd, server: SocketAddr, command: &str) -> io::Result<KeyCount> {
    run_in_netns(netns, || {
        let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        // In one write, so that no client's command comes between the flush and the second count.
        stream.write_all(format!("DBSIZE\r\n{command}\r\nDBSIZE\r\n").as_bytes())?;
        let mut lines = BufReader::new(stream).lines();
        let mut next = || lines.next().unwrap_or_else(|| Err(ErrorKind::UnexpectedEof.into()));
        let before = next()?;
        let reply = next()?;
        if !reply.starts_with('+') {
            return Err(io::Error::other(format!(
                "the server answered {command} with `{reply}`"
            )));
        }
        Ok(KeyCount {
            before: count(&before)?,
            after: count(&next()?)?,
        })
    })
    .map_err(io::Error::other)?
}

fn count(line: &str) -> io::Result<u64> {
    let number = line.strip_prefix(':').and_then(|digits| digits.parse().ok());
    number.ok_or_else(|| io::Error::other(format!("the server answered DBSIZE with `{line}`")))
}
