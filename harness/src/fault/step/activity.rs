//! What goes on after a step was made: threads that hold packets, or look for processes again and again.
//!
//! They end when they are asked to; undoing what they did is the step's.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::super::flush::KeyCount;
use super::super::packets::PacketMatch;
use super::super::process;
use super::super::queue::{self, QueueCount, QueueSocket, Wait};
use super::{Potency, StepError, system};
use crate::target::NetnsFd;
use crate::target::namespace::run_in_netns;

/// How often a pause or a repeated kill looks for new processes.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What a step that lasts left behind: a thread, or nothing.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    running: Option<(Arc<AtomicBool>, JoinHandle<std::io::Result<QueueCount>>)>,
    /// Keys before and after, where a server was told to forget them.
    pub(crate) keys: Option<KeyCount>,
}

impl Activity {
    fn start(body: impl FnOnce(&Arc<AtomicBool>) -> std::io::Result<QueueCount> + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        Self {
            running: Some((stop, std::thread::spawn(move || body(&seen)))),
            keys: None,
        }
    }

    /// Nothing goes on; a server has forgotten its keys.
    pub(super) fn of_keys(keys: KeyCount) -> Self {
        Self {
            running: None,
            keys: Some(keys),
        }
    }

    /// Lets the thread know that it shall stop, so that several stop at the same time.
    pub(crate) fn ask_to_stop(&self) {
        if let Some((stop, _thread)) = &self.running {
            stop.store(true, Ordering::Relaxed);
        }
    }

    /// Stops the thread, if there is one, and returns what it counted.
    pub(crate) fn stop(self) -> Option<std::io::Result<QueueCount>> {
        self.ask_to_stop();
        let (_stop, thread) = self.running?;
        Some(
            thread
                .join()
                .unwrap_or_else(|_panic| Err(std::io::Error::other("the thread panicked"))),
        )
    }
}

pub(super) fn start_queue(
    netns: &NetnsFd,
    chain: &str,
    number: u16,
    packets: &PacketMatch,
    wait: Wait,
) -> Result<Activity, StepError> {
    let opened = run_in_netns(netns, || QueueSocket::open(number))
        .map_err(std::io::Error::other)
        .flatten();
    let socket = opened.map_err(system("open netfilter queue", number.to_string()))?;
    // The loop runs before the first packet can come.
    let activity = Activity::start(move |stop| queue::hold(&socket, wait, stop));
    if let Err(error) = queue::add_rules(netns, chain, number, packets) {
        let _stopped_and_useless = activity.stop();
        return Err(error.into());
    }
    Ok(activity)
}

pub(super) fn start_killing(cgroup: &Path, every: Option<Duration>, potency: Potency) -> Result<Activity, StepError> {
    let signal = match potency {
        Potency::Full => Some(Signal::SIGKILL),
        Potency::Zero => None,
    };
    let first = process::signal_all(cgroup, signal).map_err(std::io::Error::from);
    first.map_err(system("kill the processes of", cgroup.display().to_string()))?;
    let Some(every) = every else {
        return Ok(Activity::default());
    };
    let cgroup = cgroup.to_owned();
    Ok(Activity::start(move |stop| {
        let mut next = Instant::now() + every;
        while !stop.load(Ordering::Relaxed) {
            std::thread::sleep(LOOK_EVERY.min(every));
            if Instant::now() >= next && !stop.load(Ordering::Relaxed) {
                process::signal_all(&cgroup, signal)?;
                next += every;
            }
        }
        Ok(QueueCount::default())
    }))
}

pub(super) fn start_pausing(cgroup: &PathBuf, potency: Potency) -> Result<Activity, StepError> {
    let look = move |cgroup: &PathBuf| match potency {
        Potency::Full => process::stop_running(cgroup),
        Potency::Zero => process::signal_all(cgroup, None),
    };
    let first = look(cgroup).map_err(std::io::Error::from);
    first.map_err(system("stop the processes of", cgroup.display().to_string()))?;
    let cgroup = cgroup.clone();
    Ok(Activity::start(move |stop| {
        while !stop.load(Ordering::Relaxed) {
            std::thread::sleep(LOOK_EVERY);
            if !stop.load(Ordering::Relaxed) {
                look(&cgroup)?;
            }
        }
        Ok(QueueCount::default())
    }))
}
