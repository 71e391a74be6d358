//! The load that users offer, and what they see of the application.
//!
//! Open-loop: a slow system does not slow the arrivals down, and a wait is counted from the time at which the request was due,
//! so that a stall is not hidden by the requests that it delayed. Does not judge what it sees.

mod client;
mod sample;
pub mod schedule;
pub mod spec;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{Semaphore, broadcast};
use tokio::task::JoinSet;

use self::client::Client;
use self::sample::Collector;
pub use crate::clock::monotonic_ns;

pub use self::sample::{ErrorKind, Latency, SecondSample};
use self::schedule::{Arrival, SLICE, Schedule};
use self::spec::Load;
use crate::target::Dial;

/// Seconds that are kept; older ones are forgotten and counted.
const KEPT_SECOND_COUNT_MAX: usize = 24 * 3600;
/// Seconds that a slow subscriber may lag behind before it loses some.
const SUBSCRIBER_LAG_MAX: usize = 1024;
/// How long requests in flight may still take when the load is stopped.
const STOP_GRACE: Duration = Duration::from_millis(300);
/// Requests of a prefill at once: enough to keep a database busy, few enough not to exhaust it.
const PREFILL_IN_FLIGHT: usize = 12;

/// Offers load.
#[derive(Debug)]
pub struct Workload;

/// What a prefill did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefill {
    /// Requests sent.
    pub requested: u64,
    /// Requests that failed.
    pub failed: u64,
    /// Time that it took.
    pub took: Duration,
}

impl Workload {
    /// Starts offering `load` at `dial`. Requests are sent by the threads of `runtime`, which may live in a network namespace
    /// of their own; a thread of this process keeps the time.
    ///
    /// # Errors
    /// When no thread can be made.
    pub fn start(runtime: &Handle, dial: Dial, load: Load, seed: u64) -> std::io::Result<WorkloadHandle> {
        let started_at_ns = monotonic_ns();
        let shared = Arc::new(Shared {
            factor_bits: AtomicU64::new(1.0_f64.to_bits()),
            is_stopping: AtomicBool::new(false),
            in_flight: Arc::new(Semaphore::new(usize::from(load.users.in_flight_max))),
            in_flight_max: u32::from(load.users.in_flight_max),
            record: Mutex::new(Record {
                current: Collector::new(started_at_ns),
                closed: VecDeque::new(),
                forgotten_count: 0,
            }),
            published: broadcast::channel(SUBSCRIBER_LAG_MAX).0,
        });
        let dispatcher = Dispatcher {
            runtime: runtime.clone(),
            client: Arc::new(client_for(dial, &load)),
            patience: load.timeout,
            schedule: Schedule::new(load, seed),
            started_at_ns,
            shared: shared.clone(),
        };
        let thread = std::thread::Builder::new()
            .name("load".to_owned())
            .spawn(|| dispatcher.run())?;
        Ok(WorkloadHandle {
            shared,
            thread: Some(thread),
        })
    }

    /// Asks once for each key of the paths that want it, some at a time, so that the caches are warm. Await it on the runtime
    /// whose threads can reach `dial`.
    pub async fn prefill(dial: Dial, load: &Load) -> Prefill {
        let started = Instant::now();
        let client = Arc::new(client_for(dial, load));
        let (mut running, mut prefill) = (
            JoinSet::new(),
            Prefill {
                requested: 0,
                failed: 0,
                took: Duration::ZERO,
            },
        );
        let wanted = load
            .paths
            .iter()
            .filter(|path| path.prefill)
            .flat_map(|path| path.path.each());
        for path in wanted {
            if running.len() >= PREFILL_IN_FLIGHT {
                prefill.failed += failed_count(running.join_next().await);
            }
            prefill.requested += 1;
            let (client, patience) = (client.clone(), load.timeout);
            running.spawn(async move { client.get(&path, patience).await });
        }
        while let Some(joined) = running.join_next().await {
            prefill.failed += failed_count(Some(joined));
        }
        Prefill {
            took: started.elapsed(),
            ..prefill
        }
    }
}

fn failed_count(joined: Option<Result<Result<(), ErrorKind>, tokio::task::JoinError>>) -> u64 {
    u64::from(!matches!(joined, None | Some(Ok(Ok(())))))
}

fn client_for(dial: Dial, load: &Load) -> Client {
    let address = SocketAddr::from((dial.ip, dial.port));
    Client::new(
        address,
        load.host.clone(),
        load.users.connections,
        load.users.connection_max_age,
    )
}

/// A load that is being offered. Dropping it stops the arrivals.
#[derive(Debug)]
pub struct WorkloadHandle {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl WorkloadHandle {
    /// Multiplies the rate from now on; 1 is the declared rate, 0 a pause.
    ///
    /// # Panics
    /// When the factor is negative or not finite.
    pub fn set_factor(&self, factor: f64) {
        assert!(factor >= 0.0 && factor.is_finite(), "a factor of {factor} is no load");
        self.shared.factor_bits.store(factor.to_bits(), Ordering::Relaxed);
    }

    /// The seconds that are over.
    #[must_use]
    pub fn second_samples(&self) -> Vec<SecondSample> {
        self.shared
            .record
            .lock()
            .expect("no panic while held")
            .closed
            .iter()
            .cloned()
            .collect()
    }

    /// Seconds that were forgotten because too many were kept.
    #[must_use]
    pub fn forgotten_count(&self) -> u64 {
        self.shared.record.lock().expect("no panic while held").forgotten_count
    }

    /// Each second from now on, when it is over.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<SecondSample> {
        self.shared.published.subscribe()
    }

    /// Stops the arrivals, gives requests in flight a moment to end, and hands out all seconds, the unfinished one as well.
    pub async fn stop(mut self) -> Vec<SecondSample> {
        self.shared.is_stopping.store(true, Ordering::Relaxed);
        let all = self.shared.in_flight.acquire_many(self.shared.in_flight_max);
        // What is still in flight after the moment ends by its own time-out, and counts for nobody.
        drop(tokio::time::timeout(STOP_GRACE, all).await);
        if let Some(thread) = self.thread.take() {
            // Ends within one slice, and does no more than sleep until then.
            tokio::task::spawn_blocking(move || drop(thread.join())).await.ok();
        }
        self.shared.close_current();
        self.second_samples()
    }
}

impl Drop for WorkloadHandle {
    fn drop(&mut self) {
        self.shared.is_stopping.store(true, Ordering::Relaxed);
    }
}

/// What the time-keeping thread, the requests and the handle share.
#[derive(Debug)]
struct Shared {
    factor_bits: AtomicU64,
    is_stopping: AtomicBool,
    in_flight: Arc<Semaphore>,
    in_flight_max: u32,
    record: Mutex<Record>,
    published: broadcast::Sender<SecondSample>,
}

#[derive(Debug)]
struct Record {
    current: Collector,
    closed: VecDeque<SecondSample>,
    forgotten_count: u64,
}

impl Shared {
    /// Records an outcome in the second in which it is known.
    fn record(&self, outcome: Result<(), ErrorKind>, due_at_ns: u64) {
        let mut record = self.record.lock().expect("no panic while held");
        let wait_us = monotonic_ns().saturating_sub(due_at_ns) / 1000;
        record.current.record(outcome, wait_us);
    }

    fn record_sent(&self) {
        self.record.lock().expect("no panic while held").current.record_sent();
    }

    fn close_current(&self) {
        let mut record = self.record.lock().expect("no panic while held");
        let sample = record.current.close();
        if record.closed.len() == KEPT_SECOND_COUNT_MAX {
            record.closed.pop_front();
            record.forgotten_count += 1;
        }
        record.closed.push_back(sample.clone());
        // Without a subscriber there is nobody to tell, which is no error.
        drop(self.published.send(sample));
    }

    fn close_until(&self, now_ns: u64) {
        while self.record.lock().expect("no panic while held").current.ends_at_ns() <= now_ns {
            self.close_current();
        }
    }
}

/// The thread that keeps the time.
struct Dispatcher {
    runtime: Handle,
    client: Arc<Client>,
    patience: Duration,
    schedule: Schedule,
    started_at_ns: u64,
    shared: Arc<Shared>,
}

impl Dispatcher {
    /// Slice by slice, because the factor may change and the load may be stopped at any time.
    fn run(mut self) {
        let mut slice_end = Duration::ZERO;
        while !self.shared.is_stopping.load(Ordering::Relaxed) {
            slice_end += SLICE;
            let factor = f64::from_bits(self.shared.factor_bits.load(Ordering::Relaxed));
            while let Some(Arrival { at, path }) = self.schedule.next_before(slice_end, factor) {
                let due_at_ns = self.at_ns(at);
                sleep_until(due_at_ns);
                self.shared.close_until(monotonic_ns());
                self.dispatch(path, due_at_ns);
            }
            sleep_until(self.at_ns(slice_end));
            self.shared.close_until(monotonic_ns());
        }
    }

    fn dispatch(&self, path: String, due_at_ns: u64) {
        let Ok(permit) = self.shared.in_flight.clone().try_acquire_owned() else {
            self.shared.record(Err(ErrorKind::Saturated), due_at_ns);
            return;
        };
        self.shared.record_sent();
        let (client, shared, patience) = (self.client.clone(), self.shared.clone(), self.patience);
        self.runtime.spawn(async move {
            let outcome = client.get(&path, patience).await;
            shared.record(outcome, due_at_ns);
            drop(permit);
        });
    }

    fn at_ns(&self, since_start: Duration) -> u64 {
        self.started_at_ns + u64::try_from(since_start.as_nanos()).expect("a load ends within a year")
    }
}

fn sleep_until(at_ns: u64) {
    let left_ns = at_ns.saturating_sub(monotonic_ns());
    if left_ns > 0 {
        std::thread::sleep(Duration::from_nanos(left_ns));
    }
}
