//! A recording fed to a detector of the protocol, frame by frame: same recording, same detector, same statements.
//!
//! There is no clock in a replay. A frame is told together with a `sync`, the next one only after its `synced`, so that a
//! detector cannot look ahead, and what it says in between counts from the moment at which that frame was made.

use std::time::Duration;

use gauntlet_detector::feed::FeedLine;
use gauntlet_probes::recording::Record;
use tokio::time::{Instant, timeout_at};

use super::process::{DetectorProcess, Said};
use super::{DetectorCommand, DetectorEnd, Received};
use crate::clock::MonotonicNanos;
use crate::doctor::error_chain;

/// How long a detector may take over one frame; live it has 0.2 s.
pub const SYNC_WITHIN: Duration = Duration::from_secs(5);

/// What a detector said to a recording.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Replayed {
    /// Its statements, each received when the frame was made to which it was said.
    pub statements: Vec<Received>,
    /// How it ended.
    pub end: DetectorEnd,
}

/// Feeds `records` to a detector. Never fails: a detector that does has its failure in [`Replayed::end`].
pub async fn replay(command: &DetectorCommand, records: impl IntoIterator<Item = Record>) -> Replayed {
    let mut records = records.into_iter().peekable();
    let mut inventory = Vec::new();
    while let Some(Record::Inventory(line)) = records.next_if(|record| matches!(record, Record::Inventory(_))) {
        inventory.push(line);
    }
    let mut process = match DetectorProcess::start(command, &inventory).await {
        Ok(process) => process,
        Err(error) => {
            return Replayed {
                statements: Vec::new(),
                end: DetectorEnd::never_ready(error_chain(&error)),
            };
        }
    };
    let mut statements = Vec::new();
    if process.takes_frames {
        for record in records {
            match record {
                Record::Inventory(line) => process.tell(&line),
                Record::Frame(frame) => {
                    let at_ns = frame.at_ns;
                    process.feed(&FeedLine::Frame(Box::new(frame)));
                    process.sync();
                    if !until_synced(&mut process, at_ns, &mut statements).await {
                        break;
                    }
                }
            }
        }
    } else {
        process.fail("it does not ask for frames, so it cannot judge a recording");
    }
    let (_, end) = process.finish(0).await;
    Replayed { statements, end }
}

/// Takes what is said to the frame of `at_ns`; false when the detector is not to be asked again.
async fn until_synced(process: &mut DetectorProcess, at_ns: MonotonicNanos, statements: &mut Vec<Received>) -> bool {
    let deadline = Instant::now() + SYNC_WITHIN;
    loop {
        match timeout_at(deadline, process.next()).await {
            Ok(Said::Statement(said)) => statements.push(Received {
                received_ns: at_ns,
                ..said
            }),
            Ok(Said::Nonsense(_)) => {}
            Ok(Said::Synced) => return true,
            Ok(Said::Ended) => return false,
            Err(_) => {
                process.fail(format!("it did not answer `sync` within {SYNC_WITHIN:?}"));
                return false;
            }
        }
    }
}
