//! Runs code inside a network namespace.
//!
//! Does not create namespaces, and never moves a thread that anybody else uses.

use nix::sched::{CloneFlags, setns};

use super::NetnsFd;

/// A namespace could not be entered.
#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    /// `setns` refused.
    #[error("failed to enter network namespace")]
    Enter(#[source] nix::Error),
}

/// Runs `f` inside `netns`, on a thread of its own: a thread that has moved must not be used for anything else.
///
/// Processes that `f` starts are in the namespace as well.
pub fn run_in_netns<T: Send>(netns: &NetnsFd, f: impl FnOnce() -> T + Send) -> Result<T, NamespaceError> {
    std::thread::scope(|scope| {
        let inside = scope.spawn(|| {
            setns(netns, CloneFlags::CLONE_NEWNET).map_err(NamespaceError::Enter)?;
            Ok(f())
        });
        inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
