//! Recorded frames and inventory lines: a compressed stream that says what it is and in which version.
//!
//! The stream is zstd over records of one tag byte, a length (u32, little-endian) and that many bytes. The first record is
//! the header, as JSON; inventory lines are JSON, frames are postcard. Knows nothing of what frames mean.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};

use crate::entity::InventoryLine;
use crate::frame::{FRAME_VERSION, Frame};

/// Version of the stream itself.
pub const RECORDING_VERSION: u32 = 1;
/// Name of the format, in the header.
const FORMAT: &str = "gauntlet-recording";

const TAG_HEADER: u8 = b'h';
const TAG_INVENTORY: u8 = b'i';
const TAG_FRAME: u8 = b'f';

/// Longest record that a reader accepts.
const RECORD_BYTES_MAX: u32 = 64 << 20;
/// Frames after which what was compressed is written out, so that a killed process loses little.
const FRAMES_PER_FLUSH: u32 = 5;
const COMPRESSION_LEVEL: i32 = 3;

/// First record of a recording: what it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordingHeader {
    /// `gauntlet-recording`.
    pub format: String,
    /// [`RECORDING_VERSION`].
    pub version: u32,
    /// [`FRAME_VERSION`] of the frames.
    pub frame_version: u32,
    /// How frames are encoded: `postcard`.
    pub frame_encoding: String,
    /// Who recorded, for example `gauntlet-detector 0.1.0`.
    pub recorder: String,
}

impl RecordingHeader {
    /// A header of this version.
    #[must_use]
    pub fn new(recorder: impl Into<String>) -> Self {
        Self {
            format: FORMAT.to_owned(),
            version: RECORDING_VERSION,
            frame_version: FRAME_VERSION,
            frame_encoding: "postcard".to_owned(),
            recorder: recorder.into(),
        }
    }
}

/// One record.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// A line of the inventory.
    Inventory(InventoryLine),
    /// A frame.
    Frame(Frame),
}

/// A recording cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// Reading or writing failed.
    #[error("failed to read or write the recording")]
    Io(#[from] io::Error),
    /// The stream ends within a record: the recorder was killed. All records before it were good.
    #[error("the recording ends within a record")]
    Truncated,
    /// The stream is no recording, or of a version that this reader does not know.
    #[error("not a recording that this version can read: {0}")]
    Unsupported(String),
    /// A record does not hold what its tag says.
    #[error("malformed record `{}`: {cause}", char::from(*.tag))]
    Malformed {
        /// Tag of the record.
        tag: u8,
        /// What the decoder says.
        cause: String,
    },
}

/// Writes a recording.
pub struct RecordingWriter<W: Write> {
    stream: zstd::Encoder<'static, W>,
    unflushed: u32,
}

impl<W: Write> RecordingWriter<W> {
    /// Opens a recording with its header.
    ///
    /// # Errors
    /// If `writer` fails.
    pub fn new(writer: W, header: &RecordingHeader) -> Result<Self, RecordingError> {
        let mut this = Self {
            stream: zstd::Encoder::new(writer, COMPRESSION_LEVEL)?,
            unflushed: 0,
        };
        this.put(TAG_HEADER, &json(TAG_HEADER, header)?)?;
        Ok(this)
    }

    /// Adds a line of the inventory.
    ///
    /// # Errors
    /// If the writer fails.
    pub fn inventory(&mut self, line: &InventoryLine) -> Result<(), RecordingError> {
        self.put(TAG_INVENTORY, &json(TAG_INVENTORY, line)?)
    }

    /// Adds a frame.
    ///
    /// # Errors
    /// If the writer fails.
    pub fn frame(&mut self, frame: &Frame) -> Result<(), RecordingError> {
        let bytes = postcard::to_stdvec(frame).map_err(|error| RecordingError::Malformed {
            tag: TAG_FRAME,
            cause: error.to_string(),
        })?;
        self.put(TAG_FRAME, &bytes)?;
        self.unflushed += 1;
        if self.unflushed >= FRAMES_PER_FLUSH {
            self.unflushed = 0;
            self.stream.flush()?;
        }
        Ok(())
    }

    /// Ends the stream and returns the writer.
    ///
    /// # Errors
    /// If the writer fails.
    pub fn finish(self) -> Result<W, RecordingError> {
        Ok(self.stream.finish()?)
    }

    fn put(&mut self, tag: u8, bytes: &[u8]) -> Result<(), RecordingError> {
        let length = u32::try_from(bytes.len())
            .ok()
            .filter(|length| *length <= RECORD_BYTES_MAX)
            .ok_or_else(|| RecordingError::Malformed {
                tag,
                cause: "longer than a record may be".to_owned(),
            })?;
        self.stream.write_all(&[tag])?;
        self.stream.write_all(&length.to_le_bytes())?;
        self.stream.write_all(bytes)?;
        Ok(())
    }
}

fn json<T: Serialize>(tag: u8, value: &T) -> Result<Vec<u8>, RecordingError> {
    serde_json::to_vec(value).map_err(|error| RecordingError::Malformed {
        tag,
        cause: error.to_string(),
    })
}

fn from_json<'a, T: Deserialize<'a>>(tag: u8, bytes: &'a [u8]) -> Result<T, RecordingError> {
    serde_json::from_slice(bytes).map_err(|error| RecordingError::Malformed {
        tag,
        cause: error.to_string(),
    })
}

/// Reads a recording: an iterator over its records, which ends after the first error.
pub struct RecordingReader<R: Read> {
    stream: zstd::Decoder<'static, io::BufReader<R>>,
    header: RecordingHeader,
    failed: bool,
}

impl<R: Read> RecordingReader<R> {
    /// Opens a recording and reads its header.
    ///
    /// # Errors
    /// If it is no recording, or of a version that this reader does not know.
    pub fn new(reader: R) -> Result<Self, RecordingError> {
        let mut stream = zstd::Decoder::new(reader)?;
        let (tag, bytes) = take(&mut stream)
            .map_err(|error| match error {
                RecordingError::Io(error) => RecordingError::Unsupported(error.to_string()),
                other => other,
            })?
            .ok_or_else(|| RecordingError::Unsupported("it is empty".to_owned()))?;
        if tag != TAG_HEADER {
            return Err(RecordingError::Unsupported("it has no header".to_owned()));
        }
        let header: RecordingHeader = from_json(tag, &bytes)?;
        let expected = RecordingHeader {
            recorder: header.recorder.clone(),
            ..RecordingHeader::new("")
        };
        if header != expected {
            return Err(RecordingError::Unsupported(format!(
                "{} {} with frames {} in {}; this reader knows {} {} with frames {} in {}",
                header.format,
                header.version,
                header.frame_version,
                header.frame_encoding,
                expected.format,
                expected.version,
                expected.frame_version,
                expected.frame_encoding,
            )));
        }
        Ok(Self {
            stream,
            header,
            failed: false,
        })
    }

    /// The header.
    #[must_use]
    pub fn header(&self) -> &RecordingHeader {
        &self.header
    }

    fn record(&mut self) -> Result<Option<Record>, RecordingError> {
        let Some((tag, bytes)) = take(&mut self.stream)? else {
            return Ok(None);
        };
        let record = match tag {
            TAG_INVENTORY => Record::Inventory(from_json(tag, &bytes)?),
            TAG_FRAME => Record::Frame(postcard::from_bytes(&bytes).map_err(|error| RecordingError::Malformed {
                tag,
                cause: error.to_string(),
            })?),
            _ => {
                return Err(RecordingError::Malformed {
                    tag,
                    cause: "unknown tag".to_owned(),
                });
            }
        };
        Ok(Some(record))
    }
}

impl<R: Read> Iterator for RecordingReader<R> {
    type Item = Result<Record, RecordingError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let record = self.record().transpose();
        self.failed = !matches!(record, Some(Ok(_)));
        record
    }
}

/// The next record's tag and bytes; `None` at the end.
fn take(stream: &mut impl Read) -> Result<Option<(u8, Vec<u8>)>, RecordingError> {
    let mut tag = [0; 1];
    match stream.read(&mut tag) {
        Ok(0) => return Ok(None),
        Ok(_) => (),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(RecordingError::Truncated),
        Err(error) => return Err(error.into()),
    }
    let mut length = [0; 4];
    read_exact(stream, &mut length)?;
    let length = u32::from_le_bytes(length);
    if length > RECORD_BYTES_MAX {
        return Err(RecordingError::Malformed {
            tag: tag[0],
            cause: format!("{length} bytes long"),
        });
    }
    // Grown as bytes arrive: a length that lies costs no memory.
    let mut bytes = Vec::new();
    match stream.take(u64::from(length)).read_to_end(&mut bytes) {
        Ok(read) if read == length as usize => Ok(Some((tag[0], bytes))),
        Ok(_) => Err(RecordingError::Truncated),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(RecordingError::Truncated),
        Err(error) => Err(error.into()),
    }
}

fn read_exact(stream: &mut impl Read, into: &mut [u8]) -> Result<(), RecordingError> {
    stream.read_exact(into).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => RecordingError::Truncated,
        _ => error.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::{Record, RecordingError, RecordingHeader, RecordingReader, RecordingWriter};
    use crate::entity::{InventoryLine, PodName};
    use crate::frame::{Frame, ProcessEvent, ProcessEventKind};

    fn frame(seq: u64) -> Frame {
        let event = ProcessEvent {
            at_ns: seq,
            pod: PodName::new("web-0"),
            tgid: 7,
            comm: "web".to_owned(),
            kind: ProcessEventKind::Signalled(9),
        };
        Frame {
            seq,
            at_ns: seq * 200,
            span_ns: 200,
            events: vec![event],
            ..Frame::default()
        }
    }

    fn recording() -> Vec<u8> {
        let mut writer = RecordingWriter::new(Vec::new(), &RecordingHeader::new("test")).unwrap();
        writer.inventory(&InventoryLine::Ready { version: 1 }).unwrap();
        for seq in 0..12 {
            writer.frame(&frame(seq)).unwrap();
        }
        writer.finish().unwrap()
    }

    #[test]
    fn what_was_written_is_read() {
        let bytes = recording();
        let reader = RecordingReader::new(&bytes[..]).unwrap();
        assert_eq!(reader.header().recorder, "test");
        let records: Vec<Record> = reader.map(Result::unwrap).collect();
        assert_eq!(records[0], Record::Inventory(InventoryLine::Ready { version: 1 }));
        assert_eq!(records[12], Record::Frame(frame(11)));
        assert_eq!(records.len(), 13);
    }

    #[test]
    fn a_recording_that_was_cut_off_yields_what_was_flushed() {
        let bytes = recording();
        let reader = RecordingReader::new(&bytes[..bytes.len() - 4]).unwrap();
        let (good, bad): (Vec<_>, Vec<_>) = reader.partition(Result::is_ok);
        assert!(good.len() >= 11, "{}", good.len());
        assert!(matches!(bad[..], [Err(RecordingError::Truncated)]));
    }

    #[test]
    fn something_else_is_no_recording() {
        assert!(matches!(
            RecordingReader::new(&b"hello, world"[..]),
            Err(RecordingError::Unsupported(_))
        ));
    }
}
