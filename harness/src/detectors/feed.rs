//! What a detector is told on its standard input, in order and without ever waiting for it.
//!
//! Inventory lines always queue; they are as many as the cluster has things. Frames queue while there is room.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

/// Frames that wait for a detector, at most: ten seconds of them. One that is further behind is not watching any more.
const FRAMES_WAITING_MAX: usize = 50;

/// The way to a detector's standard input, which ends when this and every [`FrameFeed`] of it is dropped.
#[derive(Debug)]
pub(super) struct Feed {
    queue: Option<mpsc::UnboundedSender<Piece>>,
    waiting: Arc<AtomicUsize>,
    dropped: Arc<AtomicU64>,
}

/// The same way, for frames only.
#[derive(Clone, Debug)]
pub(super) struct FrameFeed {
    queue: mpsc::UnboundedSender<Piece>,
    waiting: Arc<AtomicUsize>,
    dropped: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Piece {
    Line(Vec<u8>),
    Frame(Arc<[u8]>),
}

impl Feed {
    /// Starts writing to `input`; stops when it is closed at the other end.
    pub(super) fn start(mut input: impl AsyncWrite + Unpin + Send + 'static) -> Self {
        let (queue, mut pieces) = mpsc::unbounded_channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let written = Arc::clone(&waiting);
        tokio::spawn(async move {
            while let Some(piece) = pieces.recv().await {
                let outcome = match &piece {
                    Piece::Line(line) => input.write_all(line).await,
                    Piece::Frame(line) => {
                        written.fetch_sub(1, Ordering::Relaxed);
                        input.write_all(line).await
                    }
                };
                if outcome.is_err() {
                    return;
                }
            }
        });
        Self {
            queue: Some(queue),
            waiting,
            dropped: Arc::new(AtomicU64::new(0)),
        }
    }

    /// Queues a line, its line feed included.
    pub(super) fn line(&self, line: Vec<u8>) {
        if let Some(queue) = &self.queue {
            // A detector that no longer reads is not told; that it does not is seen elsewhere.
            let _gone = queue.send(Piece::Line(line));
        }
    }

    /// A handle for frames; `None` once the feed has ended.
    pub(super) fn frames(&self) -> Option<FrameFeed> {
        Some(FrameFeed {
            queue: self.queue.clone()?,
            waiting: Arc::clone(&self.waiting),
            dropped: Arc::clone(&self.dropped),
        })
    }

    /// Ends the input, after what is queued.
    pub(super) fn end(&mut self) {
        self.queue = None;
    }

    /// Frames that found no room.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl FrameFeed {
    /// Queues a frame's line, or drops and counts it.
    pub(super) fn frame(&self, line: &Arc<[u8]>) {
        if self.waiting.load(Ordering::Relaxed) >= FRAMES_WAITING_MAX {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        } else {
            self.waiting.fetch_add(1, Ordering::Relaxed);
            let _gone = self.queue.send(Piece::Frame(Arc::clone(line)));
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn lines_always_queue_and_frames_do_while_there_is_room() {
        // A pipe of two bytes that nobody reads: the first frame is being written, the next fifty wait.
        let (input, mut output) = tokio::io::duplex(2);
        let mut feed = Feed::start(input);
        let frames = feed.frames().expect("it has not ended");
        let line: Arc<[u8]> = Arc::from(&b"frame\n"[..]);
        frames.frame(&line);
        while frames.waiting.load(Ordering::Relaxed) > 0 {
            tokio::task::yield_now().await;
        }
        for _ in 0..FRAMES_WAITING_MAX + 7 {
            frames.frame(&line);
        }
        feed.line(b"pod\n".to_vec());
        assert_eq!(feed.dropped(), 7);
        drop(frames);
        feed.end();
        let mut told = String::new();
        output.read_to_string(&mut told).await.expect("text");
        assert_eq!(told.matches("frame\n").count(), FRAMES_WAITING_MAX + 1);
        assert!(told.ends_with("frame\npod\n"), "in order");
    }
}
