//! The sealed file as bytes: truth, frames, seal. Knows nothing of what the parts mean.
//!
//! All three are frames of the zstd format. The outer two are of the kind that decoders skip, so `zstd -d` and every
//! reader of recorded frames read the middle one of a sealed file and never meet the others:
//!
//! | part | bytes |
//! |---|---|
//! | truth | skippable frame `0x184D2A50`: the line `gauntlet-run 1`, then anything (here: compressed JSON) |
//! | frames | the recorder's stream, see [`gauntlet_probes::recording`] |
//! | seal | skippable frame `0x184D2A5F`: the line `gauntlet-seal sha256 DIGEST`, over all bytes before it |
//!
//! The version stands in plain text in front and the digest covers the bytes as they lie on disk, so what is newer or
//! damaged is known before anything is decompressed. The truth comes first: a file that was cut off still has it.

use sha2::{Digest, Sha256};

/// Version of the sealed file; bumped when an older reader would misread a newer file.
pub const CONTAINER_VERSION: u32 = 1;

/// First bytes of the truth: a skippable frame (RFC 8878, section 3.1.2).
const TRUTH_MAGIC: [u8; 4] = 0x184D_2A50_u32.to_le_bytes();
/// First bytes of the seal, likewise.
const SEAL_MAGIC: [u8; 4] = 0x184D_2A5F_u32.to_le_bytes();
/// First bytes of frames that nobody sealed.
const ZSTD_MAGIC: [u8; 4] = 0xFD2F_B528_u32.to_le_bytes();
/// Magic and length of a skippable frame.
const FRAME_HEAD_BYTES: usize = 8;
const TRUTH_WORD: &[u8] = b"gauntlet-run ";
const SEAL_WORD: &[u8] = b"gauntlet-seal sha256 ";
const DIGEST_HEX_BYTES: usize = 64;
/// Length of the seal, which closes the file.
const SEAL_BYTES: usize = FRAME_HEAD_BYTES + SEAL_WORD.len() + DIGEST_HEX_BYTES + 1;
/// Most digits of a version that are looked at.
const VERSION_DIGITS_MAX: usize = 9;

/// The parts of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts<'a> {
    /// The truth, without its line.
    pub truth: &'a [u8],
    /// The recorder's stream.
    pub frames: &'a [u8],
}

/// Why bytes are no sealed file of this version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContainerError {
    /// It begins otherwise.
    #[error("it is no recording of a run")]
    Foreign,
    /// It begins as frames do.
    #[error("it holds frames without the truth about them; name its run directory instead")]
    BareFrames,
    /// A later program wrote it.
    #[error("it is of version {found}, and this program reads version {CONTAINER_VERSION}; a newer gauntlet reads it")]
    Newer {
        /// Its version.
        found: u32,
    },
    /// It ends within the truth.
    #[error("it ends at byte {length}, before the frames begin: nothing of it can be read")]
    Beheaded {
        /// Its length.
        length: usize,
    },
    /// It does not end with a seal.
    #[error("it ends at byte {length} without a seal: it was cut off, or added to; --salvage reads what is there")]
    Unsealed {
        /// Its length.
        length: usize,
    },
    /// The seal is of other bytes.
    #[error(
        "it is damaged: its bytes have the digest {found:.12}… and were sealed with {sealed:.12}…; copy it again, or \
         read with --salvage what can be read"
    )]
    Damaged {
        /// What its bytes give.
        found: String,
        /// What the seal says.
        sealed: String,
    },
}

/// Joins and seals.
///
/// # Panics
/// If the truth is longer than 4 GiB.
#[must_use]
pub fn join(truth: &[u8], frames: &[u8]) -> Vec<u8> {
    let line = format!("{CONTAINER_VERSION}\n");
    let length = TRUTH_WORD.len() + line.len() + truth.len();
    let length = u32::try_from(length).expect("the truth about a run is shorter than 4 GiB");
    let mut file = [
        &TRUTH_MAGIC[..],
        &length.to_le_bytes(),
        TRUTH_WORD,
        line.as_bytes(),
        truth,
        frames,
    ]
    .concat();
    let seal = seal_of(&file);
    file.extend_from_slice(&seal);
    file
}

/// Takes a file apart whose seal is whole.
///
/// # Errors
/// [`ContainerError`]: it is something else, newer, cut off or damaged.
pub fn split(file: &[u8]) -> Result<Parts<'_>, ContainerError> {
    let truth = truth_range(file);
    if let Err(error @ (ContainerError::Foreign | ContainerError::BareFrames | ContainerError::Newer { .. })) = truth {
        return Err(error);
    }
    let sealed = file
        .len()
        .checked_sub(SEAL_BYTES)
        .ok_or(ContainerError::Unsealed { length: file.len() })?;
    let (body, seal) = file.split_at(sealed);
    let expected = seal_of(body);
    let head = SEAL_BYTES - DIGEST_HEX_BYTES - 1;
    if seal[..head] != expected[..head] {
        return Err(ContainerError::Unsealed { length: file.len() });
    }
    if seal != expected {
        let digest = |seal: &[u8]| String::from_utf8_lossy(&seal[head..SEAL_BYTES - 1]).into_owned();
        return Err(ContainerError::Damaged {
            found: digest(&expected),
            sealed: digest(seal),
        });
    }
    let truth = truth?;
    let frames = body
        .get(truth.end..)
        .ok_or(ContainerError::Beheaded { length: file.len() })?;
    Ok(Parts {
        truth: &file[truth],
        frames,
    })
}

/// Takes a file apart as far as it goes, sealed or not. What comes out may be damaged.
///
/// # Errors
/// [`ContainerError`]: it is something else, newer, or ends before the frames.
pub fn split_unsealed(file: &[u8]) -> Result<Parts<'_>, ContainerError> {
    let truth = truth_range(file)?;
    Ok(Parts {
        frames: &file[truth.end..],
        truth: &file[truth],
    })
}

fn truth_range(file: &[u8]) -> Result<std::ops::Range<usize>, ContainerError> {
    if file.starts_with(&ZSTD_MAGIC) {
        return Err(ContainerError::BareFrames);
    }
    if !file.starts_with(&TRUTH_MAGIC) {
        return Err(ContainerError::Foreign);
    }
    let beheaded = ContainerError::Beheaded { length: file.len() };
    let length = file.get(4..FRAME_HEAD_BYTES).ok_or_else(|| beheaded.clone())?;
    let length = u32::from_le_bytes(length.try_into().expect("four bytes")) as usize;
    let payload = &file[FRAME_HEAD_BYTES..];
    let line = payload.strip_prefix(TRUTH_WORD).ok_or_else(|| {
        if TRUTH_WORD.starts_with(payload) {
            beheaded.clone()
        } else {
            ContainerError::Foreign
        }
    })?;
    let digits = line
        .iter()
        .take(VERSION_DIGITS_MAX)
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    if line.get(digits).is_some_and(|&byte| byte != b'\n') {
        return Err(ContainerError::Foreign);
    }
    let version = std::str::from_utf8(&line[..digits]).expect("digits").parse::<u32>();
    match version {
        Ok(CONTAINER_VERSION) => {}
        Ok(found) if found > CONTAINER_VERSION => return Err(ContainerError::Newer { found }),
        Ok(_) | Err(_) if line.len() > digits => return Err(ContainerError::Foreign),
        Ok(_) | Err(_) => return Err(beheaded),
    }
    let start = FRAME_HEAD_BYTES + TRUTH_WORD.len() + digits + 1;
    let end = FRAME_HEAD_BYTES + length;
    if start <= end && end <= file.len() {
        Ok(start..end)
    } else {
        Err(beheaded)
    }
}

fn seal_of(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(SEAL_BYTES - FRAME_HEAD_BYTES).expect("a seal is short");
    let line = format!("{}\n", sha256_hex(body));
    [&SEAL_MAGIC[..], &length.to_le_bytes(), SEAL_WORD, line.as_bytes()].concat()
}

/// SHA-256 in lower-case hex, as `sha256sum` prints it.
#[must_use]
pub fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file() -> Vec<u8> {
        join(
            b"the truth",
            &zstd::bulk::compress(b"frames", 3).expect("memory suffices"),
        )
    }

    #[test]
    fn parts_come_out_as_they_went_in() {
        let file = file();
        let parts = split(&file).expect("whole");
        assert_eq!(parts.truth, b"the truth");
        assert_eq!(zstd::decode_all(parts.frames).expect("a stream"), b"frames");
    }

    #[test]
    fn plain_zstd_reads_the_frames_of_a_sealed_file() {
        assert_eq!(
            zstd::decode_all(&file()[..]).expect("skips what is not frames"),
            b"frames"
        );
    }

    #[test]
    fn each_trouble_has_its_name() {
        let whole = file();
        let length = whole.len();
        let changed = |at: usize, to: u8| {
            let mut file = whole.clone();
            file[at] = to;
            split(&file).expect_err("changed")
        };
        let version_at = FRAME_HEAD_BYTES + TRUTH_WORD.len();
        assert_eq!(changed(version_at, b'7'), ContainerError::Newer { found: 7 });
        assert_eq!(changed(0, b'x'), ContainerError::Foreign);
        assert!(matches!(changed(version_at + 5, 0xAA), ContainerError::Damaged { .. }));
        assert!(matches!(changed(length - 2, b'x'), ContainerError::Damaged { .. }));
        assert_eq!(
            split(&whole[..length - 1]),
            Err(ContainerError::Unsealed { length: length - 1 })
        );
        assert_eq!(
            split(&[&whole[..], b"x"].concat()),
            Err(ContainerError::Unsealed { length: length + 1 })
        );
        assert_eq!(split(b"hello"), Err(ContainerError::Foreign));
        assert_eq!(split(b""), Err(ContainerError::Foreign));
        let frames = split(&whole).expect("whole").frames;
        assert_eq!(split(frames), Err(ContainerError::BareFrames));
        assert_eq!(
            split_unsealed(&whole[..30]),
            Err(ContainerError::Beheaded { length: 30 })
        );
    }

    proptest! {
        #[test]
        fn a_flipped_bit_never_passes(at in 0_usize..1_000_000, bit in 0_u8..8) {
            let mut file = file();
            let at = at % file.len();
            file[at] ^= 1 << bit;
            prop_assert!(split(&file).is_err());
            // Whatever it says, it says it without a panic.
            let _ = split_unsealed(&file);
        }

        #[test]
        fn a_cut_file_never_passes(length in 0_usize..1_000_000) {
            let file = file();
            let cut = &file[..length % file.len()];
            prop_assert!(split(cut).is_err());
            if let Ok(parts) = split_unsealed(cut) {
                prop_assert_eq!(parts.truth, b"the truth");
            }
        }
    }
}
