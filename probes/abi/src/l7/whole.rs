//! A short way for the segments that most connections to a Redis server carry: one command or one answer, alone.
//!
//! What it takes in it books exactly as the steps would; everything else it leaves to them, untouched. It saves them most
//! of their work: they take one token at a time, from anywhere in a stream.
//!
//! Where a server takes more requests than there is time to look into, some are passed over: counted, not read, nor are
//! their answers. Only on connections on which requests and answers take turns, because there the next answer always
//! belongs to the next request, and all that is sent before an answer comes is one request, in however many segments.

use super::redis::{Element, count_command, count_found};
use super::stream::{MODE_RESYNC, mask, position, word};
use super::{Budget, Cursor, L7State, PROTOCOL_REDIS, Payload};

/// Elements of a command, its name included, whose heads are looked for.
const ELEMENTS_MAX: u64 = 4;
/// Answers in a row that came each before the next request, from which on a connection counts as one that takes turns.
const TURNS_MIN: u8 = 64;
/// Requests after which a connection that does not take turns is asked again.
const ASK_AGAIN: u8 = 32;
/// In `turns` to the server: requests are passed over. The other bits are those of the slice of time in which the budget was
/// found spent; in it, it is not asked again.
const DENIED: u8 = 0x80;
const _: () = assert!(ASK_AGAIN < DENIED);

/// Passes a segment to the server over if there is no time for it.
#[inline(always)]
pub(super) fn pass_over_request(
    state: &mut L7State,
    now_us: u32,
    acknowledged: u32,
    may_look: impl FnOnce(u32) -> bool,
) -> bool {
    if !state.to_server.is_between_messages(PROTOCOL_REDIS) {
        return false;
    }
    let turns = state.to_server.turns;
    if turns & DENIED != 0 && acknowledged == state.to_server.value as u32 {
        // No answer came since: the rest of the same request.
        return true;
    }
    let slice = DENIED | (now_us >> Budget::SLICE_SHIFT) as u8;
    if turns != slice && !is_denied(state, slice, now_us, may_look) {
        return false;
    }
    state.passed_over = state.passed_over.wrapping_add(1);
    state.to_server.started_us = now_us;
    state.to_server.value = u64::from(acknowledged);
    true
}

/// Asks the budget; true if a request is to be passed over, and those of the rest of this slice.
#[inline(always)]
fn is_denied(state: &mut L7State, slice: u8, now_us: u32, may_look: impl FnOnce(u32) -> bool) -> bool {
    let is_passing = state.to_server.turns & DENIED != 0;
    if may_look(now_us) {
        if is_passing {
            state.to_server.turns = 0;
            state.passes_over = 0;
            // This may be the middle of a request: it must look like one.
            state.to_server.mode = MODE_RESYNC;
        }
        return false;
    }
    if !is_passing {
        if !takes_turns(state) {
            return false;
        }
        state.passes_over = 1;
    }
    state.to_server.turns = slice;
    true
}

/// Passes a segment to the client over if its request was.
#[inline(always)]
pub(super) fn pass_over_answer(state: &L7State) -> bool {
    state.passes_over != 0 && !state.has_outstanding() && state.to_client.is_between_messages(PROTOCOL_REDIS)
}

/// All requests have their answers, and for long each had its own before the next was made.
#[inline(always)]
fn takes_turns(state: &mut L7State) -> bool {
    // The other direction's line is not to be fetched for each request.
    if state.to_server.turns > 0 {
        state.to_server.turns -= 1;
        return false;
    }
    let takes_turns = state.to_client.turns >= TURNS_MIN && state.tail == state.pushed;
    if !takes_turns {
        state.to_server.turns = ASK_AGAIN;
    }
    takes_turns
}

/// Takes in a segment to the server if it is the beginning of one command, up to its last argument at least.
#[inline(always)]
pub(super) fn command<P: Payload + ?Sized>(state: &mut L7State, cursor: &mut Cursor, payload: &P) -> bool {
    if !state.to_server.is_between_messages(PROTOCOL_REDIS) || !cursor.load(payload) {
        return false;
    }
    // "*N\r\n$L\r\n", and then the name.
    let head = cursor.window.loaded_word::<0>();
    let (count, length) = (
        (head >> 8 & 0xff) ^ u64::from(b'0'),
        (head >> 40 & 0xff) ^ u64::from(b'0'),
    );
    let is_short = head & 0xffff_00ff_ffff_00ff == word(b"*\0\r\n$\0\r\n") && count.wrapping_sub(1) < ELEMENTS_MAX;
    if !is_short || length.wrapping_sub(1) >= 9 || 8 + length as u32 > cursor.end {
        return false;
    }
    let name = cursor.window.loaded_word::<1>();
    let mut end = 8 + length as u32 + 2;
    let mut left = count - 1;
    while left > 0 {
        let Some((length, size)) = cursor.window.loaded_bytes(end).and_then(string_head) else {
            return false;
        };
        end += size + length + 2;
        left -= 1;
    }
    if end < cursor.end {
        return false;
    }
    state.to_server.skip = u64::from(end - cursor.end);
    state.to_server.started_us = cursor.now_us;
    count_command(state, name, length as u32);
    cursor.offset = cursor.end;
    true
}

/// Takes in a segment to the client if it is the beginning of one answer that is a string, a number or an acknowledgement.
#[inline(always)]
pub(super) fn reply<P: Payload + ?Sized>(state: &mut L7State, cursor: &mut Cursor, payload: &P) -> bool {
    if !state.to_client.is_between_messages(PROTOCOL_REDIS) || !cursor.load(payload) {
        return false;
    }
    let head = cursor.window.loaded_word::<0>();
    let (element, end) = match head as u8 {
        b'$' if head & mask(5) == word(b"$-1\r\n") => (Element::Nil, 5),
        b'$' => match cursor.window.loaded_bytes(0).and_then(string_head) {
            Some((length, size)) => (Element::Value, size + length + 2),
            None => return false,
        },
        b'+' | b':' => match position(head, b'\n') {
            Some(feed) => (Element::Other, feed + 1),
            None => return false,
        },
        _ => return false,
    };
    if end < cursor.end {
        return false;
    }
    state.to_client.skip = u64::from(end - cursor.end);
    state.to_client.kind = state.begin_answer(cursor.now_us).unwrap_or(0);
    count_found(state, true, element);
    cursor.offset = cursor.end;
    true
}

/// Length of a string, and size of its head, which is whole within `bytes`. Digit by digit: lengths have few, and `decimal`
/// takes three times the instructions whatever their number.
#[inline(always)]
fn string_head(bytes: &[u8; 8]) -> Option<(u32, u32)> {
    const DIGITS_MAX: usize = 5;
    let mut length = 0;
    let mut size = 1;
    while size <= DIGITS_MAX && bytes[size].is_ascii_digit() {
        length = length * 10 + u32::from(bytes[size] - b'0');
        size += 1;
    }
    let is_head = bytes[0] == b'$' && size > 1 && bytes[size] == b'\r' && bytes[size + 1] == b'\n';
    is_head.then_some((length, size as u32 + 2))
}
