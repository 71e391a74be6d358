//! Hands each event to every sink, stamped with the one clock.

use crate::clock::monotonic_ns;
use crate::run::event::{EventSink, RunEvent, TimedEvent};

/// The sinks of a run.
pub struct Recorder<'a> {
    sinks: Vec<&'a mut dyn EventSink>,
}

impl<'a> Recorder<'a> {
    /// A recorder that hands events to `sinks`, in this order.
    #[must_use]
    pub fn new(sinks: Vec<&'a mut dyn EventSink>) -> Self {
        Self { sinks }
    }

    /// Something happens now.
    pub fn event(&mut self, event: RunEvent) {
        self.event_at(monotonic_ns(), event);
    }

    /// Something happened then.
    pub fn event_at(&mut self, at_ns: u64, event: RunEvent) {
        let timed = TimedEvent { at_ns, event };
        for sink in &mut self.sinks {
            sink.event(&timed);
        }
    }

    /// A step of starting or stopping, in words.
    pub fn step(&mut self, text: impl Into<String>) {
        self.event(RunEvent::Step { text: text.into() });
    }

    /// Something went wrong that does not end the run.
    pub fn warn(&mut self, text: impl Into<String>) {
        self.event(RunEvent::Warning { text: text.into() });
    }
}
