//! Whose time a wait was: kind's and Kubernetes's own, or what Gauntlet adds to it.

use std::fmt;
use std::time::{Duration, Instant};

/// Who is at work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doer {
    /// kind, the container engine on its behalf, and Kubernetes.
    Kubernetes,
    /// The harness.
    Gauntlet,
}

/// Time by who was at work. Turns are taken, so that no moment is counted twice or left out.
#[derive(Clone, Copy, Debug)]
pub struct Split {
    /// Time of kind and Kubernetes.
    pub kubernetes: Duration,
    /// Time of the harness.
    pub gauntlet: Duration,
    turn: (Doer, Instant),
}

impl Split {
    /// Nothing so far; `doer` begins.
    #[must_use]
    pub fn start(doer: Doer) -> Self {
        Self {
            kubernetes: Duration::ZERO,
            gauntlet: Duration::ZERO,
            turn: (doer, Instant::now()),
        }
    }

    /// From now on it is the turn of `doer`.
    pub fn turn(&mut self, doer: Doer) {
        let now = Instant::now();
        let (previous, since) = std::mem::replace(&mut self.turn, (doer, now));
        let spent = now.duration_since(since);
        match previous {
            Doer::Kubernetes => self.kubernetes += spent,
            Doer::Gauntlet => self.gauntlet += spent,
        }
    }

    /// With the last turn counted.
    #[must_use]
    pub fn stopped(mut self) -> Self {
        self.turn(self.turn.0);
        self
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = self.kubernetes + self.gauntlet;
        write!(
            f,
            "{:.1} s: {:.1} s kind and Kubernetes, {:.1} s Gauntlet",
            total.as_secs_f64(),
            self.kubernetes.as_secs_f64(),
            self.gauntlet.as_secs_f64()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_moment_is_somebodys() {
        let began = Instant::now();
        let mut split = Split::start(Doer::Gauntlet);
        std::thread::sleep(Duration::from_millis(20));
        split.turn(Doer::Kubernetes);
        std::thread::sleep(Duration::from_millis(40));
        let split = split.stopped();
        let elapsed = began.elapsed();
        assert!(split.gauntlet >= Duration::from_millis(20) && split.kubernetes >= Duration::from_millis(40));
        assert!(split.gauntlet + split.kubernetes <= elapsed);
        let shown = Split {
            kubernetes: Duration::from_millis(61_240),
            gauntlet: Duration::from_millis(1_400),
            ..split
        };
        assert_eq!(shown.to_string(), "62.6 s: 61.2 s kind and Kubernetes, 1.4 s Gauntlet");
    }
}
