//! What a detector prints, line by line, each stamped when it was read. Bounded in every direction.
//!
//! Does not know whether a line is in place; see [`super::process`].

use gauntlet_detector::diagnosis::{DetectorLine, Diagnosis};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::sync::mpsc;

use crate::clock::{MonotonicNanos, monotonic_ns};

/// Longest line of a detector that is read; a longer one is nonsense.
const LINE_BYTES_MAX: usize = 1 << 20;
/// Lines that one detector may print in a run: ours prints five hundred, five voices a tick for minutes stay below.
pub(super) const LINES_MAX: u64 = 20_000;
/// Bytes that one detector may print in a run; ours prints a hundredth of it.
const BYTES_MAX: usize = 64 << 20;
/// Candidates of a statement that are kept; scores look no further.
const CANDIDATES_MAX: usize = 10;
/// Characters of a line of nonsense that are shown.
const SHOWN_CHARS_MAX: usize = 200;
/// Lines that wait to be taken. While the harness injects it takes none; a detector that prints more then waits.
const LINES_WAITING_MAX: usize = 4096;

/// A line that was read.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) received_ns: MonotonicNanos,
    pub(super) content: Content,
}

/// What a line holds.
#[derive(Debug)]
pub(super) enum Content {
    /// A line of the protocol.
    Told(DetectorLine),
    /// Anything else, shortened.
    Nonsense(String),
    /// One line or byte too many; nothing more is read.
    Flood,
}

/// Starts reading. The channel ends with the output, or with the first [`Content::Flood`].
pub(super) fn read(output: impl AsyncRead + Unpin + Send + 'static) -> mpsc::Receiver<Line> {
    let (sender, lines) = mpsc::channel(LINES_WAITING_MAX);
    tokio::spawn(read_lines(BufReader::new(output), sender));
    lines
}

async fn read_lines(mut reader: BufReader<impl AsyncRead + Unpin>, sender: mpsc::Sender<Line>) {
    let mut buffer = Vec::new();
    let (mut line_count, mut byte_count) = (0, 0);
    loop {
        buffer.clear();
        let (read, more) = read_bounded_line(&mut reader, &mut buffer).await;
        if read == 0 && !more {
            return;
        }
        let received_ns = monotonic_ns();
        line_count += 1;
        byte_count += read;
        let flood = line_count > LINES_MAX || byte_count > BYTES_MAX;
        let content = if flood {
            Some(Content::Flood)
        } else {
            content(&buffer, read)
        };
        if let Some(content) = content
            && sender.send(Line { received_ns, content }).await.is_err()
        {
            return;
        }
        if flood || !more {
            return;
        }
    }
}

/// `None` for an empty line. `length_bytes` is the whole line's, of which `kept` may be the beginning only.
fn content(kept: &[u8], length_bytes: usize) -> Option<Content> {
    let text = String::from_utf8_lossy(kept);
    let text = text.trim();
    if text.is_empty() && length_bytes <= LINE_BYTES_MAX {
        return None;
    }
    let told = match serde_json::from_str(text) {
        Ok(DetectorLine::Diagnosis(diagnosis)) => sound(diagnosis).map(DetectorLine::Diagnosis),
        told => told.ok(),
    };
    Some(match told {
        Some(told) if length_bytes <= LINE_BYTES_MAX => Content::Told(told),
        _ => Content::Nonsense(text.chars().take(SHOWN_CHARS_MAX).collect()),
    })
}

/// A statement that can be scored, with no more candidates than are looked at.
fn sound(mut diagnosis: Diagnosis) -> Option<Diagnosis> {
    diagnosis.candidates.truncate(CANDIDATES_MAX);
    let sound = |confidence: f64| (0.0..=1.0).contains(&confidence);
    let all = diagnosis.candidates.iter().all(|one| sound(one.confidence));
    all.then_some(diagnosis)
}

/// Reads up to a line feed, keeping at most [`LINE_BYTES_MAX`] bytes. Bytes read, and whether there may be more lines.
async fn read_bounded_line(reader: &mut BufReader<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) -> (usize, bool) {
    let mut read = 0;
    loop {
        let Ok(chunk) = reader.fill_buf().await else {
            return (read, false);
        };
        if chunk.is_empty() {
            return (read, false);
        }
        let end = chunk.iter().position(|&byte| byte == b'\n');
        let length = end.map_or(chunk.len(), |end| end + 1);
        let room = LINE_BYTES_MAX.saturating_sub(kept.len());
        kept.extend_from_slice(&chunk[..length.min(room)]);
        reader.consume(length);
        read += length;
        // A line that never ends is a flood as well, and is told as one.
        if end.is_some() || read > BYTES_MAX {
            return (read, true);
        }
    }
}
