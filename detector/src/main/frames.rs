//! Tells frames to whoever reads them (`--frames-to`): a bounded queue and a thread of its own.
//!
//! A reader that is slow or gone costs frames, never time: the judge does not wait for it.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::time::Duration;

use anyhow::Context as _;
use gauntlet_detector::feed::FeedLine;
use gauntlet_probes::frame::Frame;

/// Frames that wait for the reader, at most: five seconds of them, which no reader that keeps up ever needs.
const FRAMES_WAITING_MAX: usize = 25;
/// How long the last frames may take to be written at the end.
const WRITTEN_WITHIN: Duration = Duration::from_secs(1);

/// See the module.
pub(crate) struct FrameTeller {
    queue: SyncSender<Frame>,
    written: Receiver<()>,
    dropped: u64,
}

impl FrameTeller {
    /// Opens `path`, which may be a pipe.
    pub(crate) fn start(path: &Path) -> anyhow::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).open(path);
        let mut file = file.with_context(|| format!("failed to open {}", path.display()))?;
        let (queue, frames) = mpsc::sync_channel::<Frame>(FRAMES_WAITING_MAX);
        let (done, written) = mpsc::channel();
        std::thread::spawn(move || {
            let lines = frames.iter().map(|frame| FeedLine::Frame(Box::new(frame)).to_line());
            // A reader that has gone is no failure of ours: the frames are still judged and recorded.
            let _gone = lines.into_iter().try_for_each(|line| file.write_all(&line));
            let _ended = done.send(());
        });
        Ok(Self {
            queue,
            written,
            dropped: 0,
        })
    }

    /// Hands a frame on, or drops and counts it. The gap in `seq` tells the reader.
    pub(crate) fn tell(&mut self, frame: Frame) {
        self.dropped += u64::from(self.queue.try_send(frame).is_err());
    }

    /// Waits a little for the last frames to be written, and says how many were dropped.
    pub(crate) fn finish(self) {
        drop(self.queue);
        let late = self.written.recv_timeout(WRITTEN_WITHIN).is_err();
        if self.dropped > 0 || late {
            let late = if late { ", and the last ones were not read" } else { "" };
            eprintln!(
                "gauntlet-detector: {} frames were not told to a slow or absent reader{late}",
                self.dropped
            );
        }
    }
}
