//! How many requests a pod works on at once, and how many may wait: one more is turned away at once.

use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::app::spec::ConcurrencySpec;

/// Admits requests.
#[derive(Debug)]
pub(crate) struct Gate {
    places: Semaphore,
    waiting_count: AtomicU32,
    waiting_count_max: u32,
}

/// The request would have to wait behind too many others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Overloaded;

impl Gate {
    pub(crate) fn new(spec: ConcurrencySpec) -> Self {
        Self {
            places: Semaphore::new(usize::from(spec.max)),
            waiting_count: AtomicU32::new(0),
            waiting_count_max: u32::from(spec.queue),
        }
    }

    /// Waits for a place, which is held until the permit is dropped.
    pub(crate) async fn enter(&self) -> Result<SemaphorePermit<'_>, Overloaded> {
        if let Ok(permit) = self.places.try_acquire() {
            return Ok(permit);
        }
        let waiting = Waiting(&self.waiting_count);
        if self.waiting_count.fetch_add(1, Ordering::Relaxed) >= self.waiting_count_max {
            return Err(Overloaded);
        }
        let permit = self.places.acquire().await.expect("never closed");
        drop(waiting);
        Ok(permit)
    }
}

/// Counts down when the wait ends, also when the user went away.
struct Waiting<'a>(&'a AtomicU32);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_works_one_waits_and_the_third_is_turned_away() {
        let gate = Gate::new(ConcurrencySpec { max: 1, queue: 1 });
        let first = gate.enter().await.expect("a free place");
        let second = async {
            let waiting = gate.enter();
            tokio::pin!(waiting);
            tokio::select! {
                biased;
                _ = &mut waiting => panic!("there is no place yet"),
                () = tokio::task::yield_now() => (),
            }
            assert_eq!(gate.enter().await.err(), Some(Overloaded));
            drop(first);
            waiting.await.is_ok()
        };
        assert!(second.await);
        assert_eq!(gate.waiting_count.load(Ordering::Relaxed), 0);
    }
}
