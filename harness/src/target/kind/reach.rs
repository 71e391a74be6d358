//! Waits until virtual addresses lead to pods on every node: a Service exists some time before the nodes' rules for it do.
//!
//! Opens connections and closes them; says nothing on them.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::error::KindError;
use crate::target::namespace::run_in_netns;
use crate::target::{Dial, NodeHandle};

/// One try; an address without rules is silent or refuses.
const TRY_TIMEOUT: Duration = Duration::from_millis(500);
/// Pause between tries.
const TRY_EVERY: Duration = Duration::from_millis(50);

/// Returns when each node reaches each of `dials`. Blocks; the nodes are tried side by side.
///
/// # Errors
/// [`KindError::Slow`] after `patience`, naming an address and a node.
pub(super) fn wait(nodes: &[NodeHandle], dials: &[(String, Dial)], patience: Duration) -> Result<(), KindError> {
    let deadline = Instant::now() + patience;
    let silent = std::thread::scope(|scope| {
        let from = |node| scope.spawn(move || first_silent(node, dials, deadline));
        let threads: Vec<_> = nodes.iter().map(from).collect();
        let answers = threads
            .into_iter()
            .map(|thread| thread.join().expect("connecting does not panic"));
        answers.flatten().collect::<Vec<_>>()
    });
    match silent.into_iter().next() {
        None => Ok(()),
        Some(what) => Err(KindError::Slow { what, patience }),
    }
}

/// The first address that the node does not reach before `deadline`.
fn first_silent(node: &NodeHandle, dials: &[(String, Dial)], deadline: Instant) -> Option<String> {
    let silent = run_in_netns(&node.netns, || {
        dials.iter().find(|(_, dial)| {
            let address = SocketAddr::new(dial.ip, dial.port);
            while TcpStream::connect_timeout(&address, TRY_TIMEOUT).is_err() {
                if Instant::now() >= deadline {
                    return true;
                }
                std::thread::sleep(TRY_EVERY);
            }
            false
        })
    });
    match silent {
        Ok(None) => None,
        Ok(Some((name, dial))) => Some(format!(
            "the way from node {} to service {name} ({})",
            node.name, dial.ip
        )),
        Err(error) => Some(format!("entering the network of node {} ({error})", node.name)),
    }
}
