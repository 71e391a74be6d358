//! One direction's bytes as a window of 32, refilled from segments and kept over their borders.
//!
//! Knows segments and tokens, no protocol.

use core::hint::black_box;
use core::mem::offset_of;

use bytemuck::{Pod, Zeroable};

use super::{Cursor, FLAG_TUNNEL, PROTOCOL_ENCRYPTED, Payload};

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

/// One direction of a connection: what every segment of it reads and writes, within one line of the CPUs' caches.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Stream {
    /// Bytes to pass over before the next token.
    pub(super) skip: u64,
    /// Payload bytes, retransmissions excluded. Its caller's, like the next two.
    pub bytes: u64,
    /// The protocol's: a length under construction. To a Redis server, while requests are passed over: up to where the
    /// sender of the latest had the answers.
    pub(super) value: u64,
    /// The protocol's: elements that the current message still has.
    pub(super) pending: u32,
    /// When the latest message began (an answer's: when it was first seen), microseconds of the caller's clock, wrapping.
    pub(super) started_us: u32,
    /// Sequence number after the last payload byte.
    pub sequence_end: u32,
    /// At the end that sends: its smoothed round-trip time, microseconds; 0 if unknown. At the end that receives: when
    /// payload came last, microseconds of its clock, some milliseconds behind, wrapping.
    pub moved_us: u32,
    pub(super) mode: u8,
    /// How many bytes are kept from the segment before.
    kept: u8,
    /// The protocol's.
    pub(super) kind: u8,
    /// The protocol's.
    pub(super) flags: u8,
    /// The connection's protocol, and its `FLAG_…`: the same in either direction, so that each finds them in its own line.
    pub(super) protocol: u8,
    pub(super) connection: u8,
    /// To the client: how many answers in a row (up to 255) came each before the next request. To the server: for how many
    /// requests that is not asked; or that they are passed over, and since when.
    pub(super) turns: u8,
    /// Its caller's: when it last noted the round-trip time.
    pub noted: u8,
}

/// What few segments of one direction write.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub(super) struct Rest {
    /// Segments that could not be parsed, wholly or in part.
    pub(super) unparsed: u32,
    /// Segments that were encrypted.
    pub(super) encrypted: u32,
    /// When the first of the kept bytes came, microseconds.
    kept_us: u32,
    reserved: u32,
    /// The bytes that are kept from the segment before, at the end of which a token was not yet whole.
    kept: [u64; 4],
}

/// The bytes at hand: those kept from the segment before, then the next of this one, from `start` on. What lies behind
/// the available bytes may be stale.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    words: [u64; 8],
    /// Offset of the next byte (0 to 32): nothing is moved when a token is taken.
    start: u32,
}

/// One direction, whole.
pub(super) struct Way<'state> {
    pub(super) stream: &'state mut Stream,
    pub(super) rest: &'state mut Rest,
}

impl Way<'_> {
    /// Makes the next bytes available in the cursor's window; `None` when this segment has no more, or cannot be read.
    #[inline(always)]
    pub(super) fn fill<P: Payload + ?Sized>(&mut self, cursor: &mut Cursor, payload: &P) -> Option<u32> {
        self.stream.pass_over(cursor);
        if cursor.offset >= cursor.end {
            return None;
        }
        let left = cursor.end - cursor.offset;
        let wanted = if left > WINDOW_BYTES { WINDOW_BYTES } else { left };
        let kept = u32::from(self.stream.kept) & (WINDOW_BYTES - 1);
        let loaded = if kept > 0 {
            cursor.loaded_end = 0;
            cursor.window.restore(&self.rest.kept);
            match cursor.window.bytes().get_mut(kept as usize..(kept + wanted) as usize) {
                Some(into) => payload.load::<WINDOW_BYTES>(cursor.offset, into),
                None => false,
            }
        } else {
            let passed = cursor.offset - cursor.loaded_at;
            if passed <= WINDOW_BYTES && cursor.offset + wanted <= cursor.loaded_end {
                cursor.window.start = passed;
                return Some(wanted);
            }
            cursor.load(payload)
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

    /// Books what became of the window.
    #[inline(always)]
    pub(super) fn settle(&mut self, cursor: &mut Cursor, available: u32, token: Token) {
        match token {
            // The kept bytes are no longer in the segment, so a token takes all of them or none is taken.
            Token::Consumed(size) if size >= u32::from(self.stream.kept) => {
                cursor.offset += size - u32::from(self.stream.kept);
                self.stream.kept = 0;
                self.stream.pass_over(cursor);
            }
            Token::Incomplete if available < WINDOW_BYTES => {
                if self.stream.kept == 0 {
                    self.rest.kept_us = cursor.now_us;
                }
                cursor.window.keep(&mut self.rest.kept);
                self.stream.kept = available as u8;
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
        self.rest.unparsed = self.rest.unparsed.wrapping_add(1);
        self.stream.restart();
        self.stream.mode = MODE_RESYNC;
    }

    /// Counts a segment that is not ours to parse.
    #[inline(always)]
    pub(super) fn refuse(&mut self, cursor: &mut Cursor, is_encrypted: bool) {
        if is_encrypted {
            self.rest.encrypted = self.rest.encrypted.wrapping_add(1);
        } else {
            self.rest.unparsed = self.rest.unparsed.wrapping_add(1);
        }
        self.stream.kept = 0;
        cursor.offset = cursor.end;
    }

    /// When the first byte of the window came.
    #[inline(always)]
    pub(super) fn token_start_us(&self, cursor: &Cursor) -> u32 {
        if self.stream.kept == 0 {
            cursor.now_us
        } else {
            self.rest.kept_us
        }
    }
}

impl Cursor {
    /// Fills the window with the segment's next bytes; false when they cannot be read.
    #[inline(always)]
    pub(super) fn load<P: Payload + ?Sized>(&mut self, payload: &P) -> bool {
        // Twice what a token may need: to load again costs several times what it costs to move bytes.
        let left = self.end - self.offset;
        let take = if left > LOADED_BYTES { LOADED_BYTES } else { left };
        self.loaded_at = self.offset;
        self.window.start = 0;
        let loaded = match self.window.bytes().get_mut(..take as usize) {
            Some(into) => payload.load::<LOADED_BYTES>(self.offset, into),
            None => false,
        };
        self.loaded_end = if loaded { self.offset + take } else { 0 };
        loaded
    }
}

impl Stream {
    /// The next byte begins a message of this protocol, nothing is kept of the segment before, and no flag is set.
    #[inline(always)]
    pub(super) fn is_between_messages(&self, protocol: u8) -> bool {
        // All in one comparison: the last word, without `kind`, `turns` and `noted`.
        const OTHERS: u64 = 0xffff_0000_00ff_0000;
        const { assert!(MODE_START == 0 && offset_of!(Stream, mode) == 40 && offset_of!(Stream, protocol) == 44) }
        let words: &[u64; size_of::<Self>() / 8] = bytemuck::cast_ref(self);
        words[5] & !OTHERS == u64::from(protocol) << 32 && self.pending == 0 && self.skip == 0
    }

    /// Its bytes are not ours to parse.
    #[inline(always)]
    pub(super) fn is_opaque(&self) -> bool {
        self.protocol == PROTOCOL_ENCRYPTED || self.connection & FLAG_TUNNEL != 0
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

    #[inline(always)]
    fn pass_over(&mut self, cursor: &mut Cursor) {
        let left = u64::from(cursor.end.saturating_sub(cursor.offset));
        let passed = if self.skip > left { left } else { self.skip };
        self.skip -= passed;
        cursor.offset += passed as u32;
    }

    /// Takes the rest of a line; `mode` follows it.
    #[inline(always)]
    pub(super) fn rest_of_line(&mut self, window: &Window, available: u32, mode: u8) -> Token {
        let feed = window.line_feed();
        if feed < available {
            self.mode = mode;
            return Token::Consumed(feed + 1);
        }
        Token::Consumed(available)
    }
}

impl Window {
    /// Nothing at hand.
    #[inline(always)]
    pub(super) fn empty() -> Self {
        Self {
            // Zeroes that the compiler knows would be a call, in the kernel's programs, and byte by byte.
            words: [black_box(0); 8],
            start: 0,
        }
    }

    #[inline(always)]
    fn bytes(&mut self) -> &mut [u8; LOADED_BYTES as usize] {
        bytemuck::cast_mut(&mut self.words)
    }

    /// Begins with what was kept.
    #[inline(always)]
    fn restore(&mut self, kept: &[u64; 4]) {
        let mut index = 0;
        while index < kept.len() {
            self.words[index] = kept[index];
            index += 1;
        }
        self.start = 0;
    }

    #[inline(always)]
    fn keep(&self, kept: &mut [u64; 4]) {
        let mut index = 0;
        while index < kept.len() {
            kept[index] = self.word_at(index as u32 * 8);
            index += 1;
        }
    }

    /// The eight bytes from the start, first byte lowest.
    #[inline(always)]
    pub(super) fn first_word(&self) -> u64 {
        self.word_at(0)
    }

    /// Of what was just loaded, the eight bytes of this number (0 to 7).
    #[inline(always)]
    pub(super) fn loaded_word<const NUMBER: usize>(&self) -> u64 {
        self.words[NUMBER]
    }

    /// The eight bytes from `offset` (below 32).
    #[inline(always)]
    pub(super) fn word_at(&self, offset: u32) -> u64 {
        self.loaded_word_at(self.start + offset)
    }

    /// Of what was just loaded, the eight bytes from `at` on, if they are in the window.
    #[inline(always)]
    pub(super) fn loaded_bytes(&self, at: u32) -> Option<&[u8; 8]> {
        let bytes: &[u8; LOADED_BYTES as usize] = bytemuck::cast_ref(&self.words);
        bytes.get(at as usize..)?.first_chunk()
    }

    #[inline(always)]
    fn loaded_word_at(&self, at: u32) -> u64 {
        // The compiler knows the range of some, and would drop the masks that the verifier must see.
        let (index, shift) = (black_box((at / 8) as usize), at % 8 * 8);
        let low = self.words[index & 7] >> shift;
        // Shifting by 64 is undefined, so the upper part goes in two shifts.
        low | (self.words[(index + 1) & 7] << 1 << (63 - shift))
    }

    /// The byte at `offset` (below 32).
    #[inline(always)]
    pub(super) fn byte_at(&self, offset: u32) -> u8 {
        let bytes: &[u8; LOADED_BYTES as usize] = bytemuck::cast_ref(&self.words);
        bytes[((self.start + offset) & (LOADED_BYTES - 1)) as usize]
    }

    /// Where the first line feed is; 32 or more when there is none.
    #[inline(always)]
    pub(super) fn line_feed(&self) -> u32 {
        let mut index = 0;
        while index < 4 {
            if let Some(byte) = position(self.word_at(index as u32 * 8), b'\n') {
                return index as u32 * 8 + byte;
            }
            index += 1;
        }
        WINDOW_BYTES
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
        let word = self.word_at(1);
        if digit_count == 2 && word & 0xffff == u64::from(u16::from_le_bytes(*b"-1")) {
            return LengthLine::Nil(feed + 1);
        }
        match decimal(word, digit_count) {
            Some(length) => LengthLine::Length(length, feed + 1),
            None => LengthLine::Invalid,
        }
    }
}

/// Which byte of `word` (the lowest is 0) is the first with this value.
#[inline(always)]
pub(super) fn position(word: u64, value: u8) -> Option<u32> {
    let word = word ^ (ONES * u64::from(value));
    let zeroes = word.wrapping_sub(ONES) & !word & HIGHS;
    let lowest = zeroes & zeroes.wrapping_neg();
    // `lowest >> 7` is 1 << 8k: the product's highest byte is the k-th of the constant.
    let byte = 0x0001_0203_0405_0607_u64.wrapping_mul(lowest >> 7) >> 56;
    (zeroes != 0).then_some(byte as u32)
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
