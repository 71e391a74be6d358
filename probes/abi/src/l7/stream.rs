//! One direction's bytes as a window of 32, refilled from segments and kept over their borders.
//!
//! Knows segments and tokens, no protocol.

use core::hint::black_box;

use bytemuck::{Pod, Zeroable};

use super::{Cursor, Payload};

/// Bytes that one token may need.
pub(super) const WINDOW_BYTES: u32 = 32;
/// Bytes that are loaded at once: a whole window behind those that are kept, or two where none are.
const LOADED_BYTES: u32 = 64;

/// At a message boundary (its meaning beyond that is the protocol's).
pub(super) const MODE_START: u8 = 0;
/// Lost: only the first bytes of a segment can tell where a message starts.
pub(super) const MODE_RESYNC: u8 = 1;
/// Within a line of no interest; a message boundary follows it.
pub(super) const MODE_LINE: u8 = 2;
/// First mode that a protocol defines for itself.
pub(super) const MODE_OWN: u8 = 3;

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// What a protocol made of the window.
#[derive(Clone, Copy)]
pub(super) enum Token {
    /// That many of its bytes were taken.
    Consumed(u32),
    /// More bytes are needed than it has.
    Incomplete,
    /// These are not the protocol's bytes.
    Failed,
}

/// A line that holds a length.
#[derive(Clone, Copy)]
pub(super) enum LengthLine {
    /// Length, and size of the line.
    Length(u32, u32),
    /// −1, and size of the line.
    Nil(u32),
    /// Its end is not in the window yet.
    Incomplete,
    /// Not a length.
    Invalid,
}

/// One direction of a connection.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Stream {
    /// Bytes to pass over before the next token.
    pub(super) skip: u64,
    /// The protocol's: a length under construction.
    pub(super) value: u64,
    /// The protocol's: elements that the current message still has.
    pub(super) pending: u32,
    /// The protocol's: when the current message began, microseconds.
    pub(super) started_us: u32,
    /// When the first of the kept bytes came, microseconds.
    kept_us: u32,
    /// Segments that could not be parsed, wholly or in part.
    pub unparsed: u32,
    /// Segments that were encrypted.
    pub encrypted: u32,
    pub(super) mode: u8,
    /// How many bytes of the window are kept from the segment before.
    kept: u8,
    /// The protocol's.
    pub(super) kind: u8,
    /// The protocol's.
    pub(super) flags: u8,
    /// The bytes at hand: those kept from the segment before, then the next of this one. What lies behind the available
    /// bytes may be stale.
    window: [u64; 8],
}

impl Stream {
    /// Makes the next bytes available; `None` when this segment has no more, or cannot be read.
    #[inline(always)]
    pub(super) fn fill<P: Payload + ?Sized>(&mut self, cursor: &mut Cursor, payload: &P) -> Option<u32> {
        self.pass_over(cursor);
        if cursor.offset >= cursor.end {
            return None;
        }
        let left = cursor.end - cursor.offset;
        let wanted = if left > WINDOW_BYTES { WINDOW_BYTES } else { left };
        let kept = u32::from(self.kept) & (WINDOW_BYTES - 1);
        let bytes: &mut [u8; LOADED_BYTES as usize] = bytemuck::cast_mut(&mut self.window);
        let loaded = if kept > 0 {
            cursor.loaded_end = 0;
            match bytes.get_mut(kept as usize..(kept + wanted) as usize) {
                Some(into) => payload.load::<WINDOW_BYTES>(cursor.offset, into),
                None => false,
            }
        } else {
            let passed = cursor.offset - cursor.loaded_at;
            if passed <= WINDOW_BYTES && cursor.offset + wanted <= cursor.loaded_end {
                self.shift(passed);
                cursor.loaded_at = cursor.offset;
                return Some(wanted);
            }
            // Twice what a token may need: to load again costs several times what it costs to move bytes.
            let take = if left > LOADED_BYTES { LOADED_BYTES } else { left };
            cursor.loaded_at = cursor.offset;
            cursor.loaded_end = cursor.offset + take;
            match bytes.get_mut(..take as usize) {
                Some(into) => payload.load::<LOADED_BYTES>(cursor.offset, into),
                None => false,
            }
        };
        if !loaded {
            self.lose();
            cursor.offset = cursor.end;
            return None;
        }
        let available = kept + wanted;
        Some(if available > WINDOW_BYTES {
            WINDOW_BYTES
        } else {
            available
        })
    }

    /// Moves the window `passed` (0 to 32) bytes on, over what was loaded.
    #[inline(always)]
    fn shift(&mut self, passed: u32) {
        // The compiler knows the range, and would drop the masks that the verifier must see.
        let (words, bits) = (black_box((passed / 8) as usize), passed % 8 * 8);
        let mut index = 0;
        while index < self.window.len() {
            let low = self.window[(index + words) & 7] >> bits;
            // Shifting by 64 is undefined, so the upper part goes in two shifts.
            self.window[index] = low | (self.window[(index + words + 1) & 7] << 1 << (63 - bits));
            index += 1;
        }
    }

    /// Books what became of the window.
    #[inline(always)]
    pub(super) fn settle(&mut self, cursor: &mut Cursor, available: u32, token: Token) {
        match token {
            // The kept bytes are no longer in the segment, so a token takes all of them or none is taken.
            Token::Consumed(size) if size >= u32::from(self.kept) => {
                cursor.offset += size - u32::from(self.kept);
                self.kept = 0;
                self.pass_over(cursor);
            }
            Token::Incomplete if available < WINDOW_BYTES => {
                if self.kept == 0 {
                    self.kept_us = cursor.now_us;
                }
                self.kept = available as u8;
                cursor.offset = cursor.end;
            }
            Token::Consumed(_) | Token::Incomplete | Token::Failed => {
                self.lose();
                cursor.offset = cursor.end;
            }
        }
    }

    /// Gives up what is at hand until a segment begins with a message.
    #[inline(always)]
    pub(super) fn lose(&mut self) {
        self.unparsed = self.unparsed.wrapping_add(1);
        self.mode = MODE_RESYNC;
        self.kept = 0;
        self.skip = 0;
        self.pending = 0;
        self.flags = 0;
    }

    /// Expects a message's start at the next byte.
    #[inline(always)]
    pub(super) fn restart(&mut self) {
        self.mode = MODE_START;
        self.kept = 0;
        self.skip = 0;
        self.pending = 0;
        self.flags = 0;
    }

    /// Counts a segment that is not ours to parse.
    #[inline(always)]
    pub(super) fn refuse(&mut self, cursor: &mut Cursor, is_encrypted: bool) {
        if is_encrypted {
            self.encrypted = self.encrypted.wrapping_add(1);
        } else {
            self.unparsed = self.unparsed.wrapping_add(1);
        }
        self.kept = 0;
        cursor.offset = cursor.end;
    }

    /// When the first byte of the window came.
    #[inline(always)]
    pub(super) fn token_start_us(&self, cursor: &Cursor) -> u32 {
        if self.kept == 0 { cursor.now_us } else { self.kept_us }
    }

    #[inline(always)]
    fn pass_over(&mut self, cursor: &mut Cursor) {
        let left = u64::from(cursor.end.saturating_sub(cursor.offset));
        let passed = if self.skip > left { left } else { self.skip };
        self.skip -= passed;
        cursor.offset += passed as u32;
    }

    /// The eight bytes from the start, first byte lowest.
    #[inline(always)]
    pub(super) fn first_word(&self) -> u64 {
        self.window[0]
    }

    /// The eight bytes from `offset` (below 32).
    #[inline(always)]
    pub(super) fn word_at(&self, offset: u32) -> u64 {
        let index = (offset / 8) as usize;
        let shift = offset % 8 * 8;
        let low = self.window[index & 3] >> shift;
        // Shifting by 64 is undefined, so the upper part goes in two shifts.
        low | (self.window[(index + 1) & 7] << 1 << (63 - shift))
    }

    /// The byte at `offset` (below 32).
    #[inline(always)]
    pub(super) fn byte_at(&self, offset: u32) -> u8 {
        let bytes: &[u8; 64] = bytemuck::cast_ref(&self.window);
        bytes[(offset & 31) as usize]
    }

    /// Where the first line feed is; 32 or more when there is none.
    #[inline(always)]
    pub(super) fn line_feed(&self) -> u32 {
        let mut index = 0;
        while index < 4 {
            let word = self.window[index] ^ (ONES * b'\n' as u64);
            let zeroes = word.wrapping_sub(ONES) & !word & HIGHS;
            if zeroes != 0 {
                let lowest = zeroes & zeroes.wrapping_neg();
                // `lowest >> 7` is 1 << 8k: the product's highest byte is the k-th of the constant.
                let byte = 0x0001_0203_0405_0607_u64.wrapping_mul(lowest >> 7) >> 56;
                return index as u32 * 8 + byte as u32;
            }
            index += 1;
        }
        WINDOW_BYTES
    }

    /// Takes the rest of a line; `mode` follows it.
    #[inline(always)]
    pub(super) fn rest_of_line(&mut self, available: u32, mode: u8) -> Token {
        let feed = self.line_feed();
        if feed < available {
            self.mode = mode;
            return Token::Consumed(feed + 1);
        }
        Token::Consumed(available)
    }

    /// Reads a line of one type byte and a length in at most eight digits.
    #[inline(always)]
    pub(super) fn length_line(&self, available: u32) -> LengthLine {
        let feed = self.line_feed();
        if feed >= available {
            return if available < WINDOW_BYTES {
                LengthLine::Incomplete
            } else {
                LengthLine::Invalid
            };
        }
        if !(3..=10).contains(&feed) || self.byte_at(feed - 1) != b'\r' {
            return LengthLine::Invalid;
        }
        let digit_count = feed - 2;
        let word = self.window[0] >> 8 | self.window[1] << 56;
        if digit_count == 2 && word & 0xffff == u64::from(u16::from_le_bytes(*b"-1")) {
            return LengthLine::Nil(feed + 1);
        }
        match decimal(word, digit_count) {
            Some(length) => LengthLine::Length(length, feed + 1),
            None => LengthLine::Invalid,
        }
    }
}

/// The number that the first `digit_count` (1 to 8) bytes of `word` spell.
#[inline(always)]
fn decimal(word: u64, digit_count: u32) -> Option<u32> {
    let unused_bits = 64 - (digit_count & 15) * 8;
    // The digits move to the upper bytes, '0's fill the lower ones.
    let zeroes = ONES * b'0' as u64;
    let padded = (word << (unused_bits & 63)) | (zeroes & !(u64::MAX << (unused_bits & 63)));
    let digits = padded ^ zeroes;
    // Above 9 either the upper half of a byte is set, or adding 6 sets it.
    if (digits | digits.wrapping_add(ONES * 6)) & (ONES * 0xf0) != 0 {
        return None;
    }
    let pairs = (digits.wrapping_mul(10).wrapping_add(digits >> 8)) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs.wrapping_mul(100).wrapping_add(pairs >> 16)) & 0x0000_ffff_0000_ffff;
    Some((fours.wrapping_mul(10_000).wrapping_add(fours >> 32)) as u32)
}

/// `word` in lower case, as far as it is letters, `-` and `:`.
#[inline(always)]
pub(super) const fn lower(word: u64) -> u64 {
    word | (ONES * 0x20)
}

/// `text` (at most eight bytes) as a word.
pub(super) const fn word(text: &[u8]) -> u64 {
    let mut value = 0;
    let mut index = 0;
    while index < text.len() {
        value |= (text[index] as u64) << (index * 8);
        index += 1;
    }
    value
}

/// Mask of the first `count` (0 to 8) bytes of a word.
#[inline(always)]
pub(super) const fn mask(count: u32) -> u64 {
    if count >= 8 { u64::MAX } else { (1 << (count * 8)) - 1 }
}
