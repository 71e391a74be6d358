//! PostgreSQL's protocol 3: message heads.
//!
//! A request is a simple query, a function call, or a cycle of the extended protocol that executes something, however
//! many statements are in it; it is over when the server says that it is ready. Cycles that execute nothing are
//! followed so that pairs stay pairs, and not counted; nor is the start-up. Every ErrorResponse is an error, also one
//! during the start-up.

use super::ring::Remembered;
use super::stream::{MODE_OWN, MODE_RESYNC, MODE_START, Token, Window};
use super::{Cursor, FLAG_ENCRYPTION_ASKED, KIND_CONTROL, KIND_PLAIN, L7State, PROTOCOL_ENCRYPTED, Payload};

/// To the server: a start-up packet comes next, which has no type.
const MODE_STARTUP: u8 = MODE_OWN;

/// To the server, in `Stream::flags`: a cycle of the extended protocol has begun.
const CYCLE_OPEN: u8 = 1;
/// It executes something.
const CYCLE_EXECUTES: u8 = 2;
/// Its slot in the ring is its own.
const CYCLE_TRACKED: u8 = 4;
/// A copy has ended. The server passed over the Sync that stood before the data, so the next one closes that cycle.
const COPY_ENDED: u8 = 8;

/// To the client, in `Stream::flags`: the answer of the oldest request has begun.
const ANSWER_BEGUN: u8 = 1;

/// No message is larger.
const MESSAGE_BYTES_MAX: u32 = 1 << 30;
/// What follows a loss is only taken for a message head if its message is smaller.
const RESYNC_BYTES_MAX: u32 = 1 << 20;
const STARTUP_BYTES_MAX: u32 = 10_000;

const CODE_CANCEL: u32 = 80_877_102;
const CODE_SSL: u32 = 80_877_103;
const CODE_GSS: u32 = 80_877_104;

/// True when the window's first eight bytes are a start-up packet's.
#[inline(always)]
pub(super) fn is_startup(first_word: u64) -> bool {
    let length = (first_word as u32).swap_bytes();
    let code = ((first_word >> 32) as u32).swap_bytes();
    (8..=STARTUP_BYTES_MAX).contains(&length) && (code >> 16 == 3 || matches!(code, CODE_CANCEL | CODE_SSL | CODE_GSS))
}

/// Enters the protocol at its very start.
#[inline(always)]
pub(super) fn start(state: &mut L7State) {
    state.to_server.mode = MODE_STARTUP;
}

/// Size of the message with this head of one type byte and a length, without the type.
#[inline(always)]
fn message_length(first_word: u64) -> u32 {
    ((first_word >> 8) as u32).swap_bytes()
}

/// Takes one message's head on its way to the server.
#[inline(always)]
pub(super) fn request(state: &mut L7State, window: &Window, available: u32, at_us: u32) -> Token {
    if state.to_server.mode == MODE_STARTUP {
        return startup(state, window, available, at_us);
    }
    if available < 5 {
        return Token::Incomplete;
    }
    let head = window.first_word();
    let length = message_length(head);
    if !(4..=MESSAGE_BYTES_MAX).contains(&length) {
        return Token::Failed;
    }
    match head as u8 {
        b'Q' | b'F' => {
            state.to_server.flags = 0;
            state.requests = state.requests.wrapping_add(1);
            state.push(KIND_PLAIN, at_us);
        }
        b'P' | b'B' | b'D' | b'C' | b'H' => open_cycle(state, at_us),
        b'E' => {
            open_cycle(state, at_us);
            execute(state, at_us);
        }
        b'S' => {
            let flags = state.to_server.flags;
            state.to_server.flags = 0;
            if flags & (CYCLE_OPEN | COPY_ENDED) == 0 {
                state.push(KIND_CONTROL, at_us);
            }
        }
        b'c' | b'f' => state.to_server.flags |= COPY_ENDED,
        b'd' | b'p' | b'X' => (),
        _ => return Token::Failed,
    }
    state.to_server.skip = u64::from(length - 4);
    Token::Consumed(5)
}

#[inline(always)]
fn open_cycle(state: &mut L7State, at_us: u32) {
    if state.to_server.flags & CYCLE_OPEN != 0 {
        return;
    }
    let is_tracked = state.push(KIND_CONTROL, at_us);
    state.to_server.flags = if is_tracked {
        CYCLE_OPEN | CYCLE_TRACKED
    } else {
        CYCLE_OPEN
    };
}

/// The open cycle turns out to be a request.
#[inline(always)]
fn execute(state: &mut L7State, at_us: u32) {
    if state.to_server.flags & CYCLE_EXECUTES != 0 {
        return;
    }
    state.to_server.flags |= CYCLE_EXECUTES;
    state.requests = state.requests.wrapping_add(1);
    if state.to_server.flags & CYCLE_TRACKED == 0 {
        return;
    }
    let newest = state.pushed.wrapping_sub(1);
    // The preparation may have been answered already: what is timed is the execution.
    let is_answered = state.tail == newest && state.to_client.flags & ANSWER_BEGUN != 0;
    let is_timed = state.revise_newest(KIND_PLAIN, is_answered.then_some(at_us));
    if is_answered && is_timed {
        state.to_client.flags &= !ANSWER_BEGUN;
    }
}

#[inline(always)]
fn startup(state: &mut L7State, window: &Window, available: u32, at_us: u32) -> Token {
    // Encryption begins where a second start-up packet would.
    if window.byte_at(0) == 0x16 {
        return encrypt(state);
    }
    if available < 8 {
        return Token::Incomplete;
    }
    let head = window.first_word();
    if !is_startup(head) {
        return Token::Failed;
    }
    match ((head >> 32) as u32).swap_bytes() {
        CODE_SSL | CODE_GSS => state.set_flag(FLAG_ENCRYPTION_ASKED),
        CODE_CANCEL => (),
        _ => {
            state.push(KIND_CONTROL, at_us);
            state.to_server.mode = MODE_START;
        }
    }
    state.to_server.skip = u64::from((head as u32).swap_bytes() - 8);
    Token::Consumed(8)
}

/// The connection goes dark: its first encrypted segment is refused like all that follow.
#[inline(always)]
fn encrypt(state: &mut L7State) -> Token {
    state.set_protocol(PROTOCOL_ENCRYPTED);
    Token::Consumed(0)
}

/// Takes one message's head on its way to the client.
#[inline(always)]
pub(super) fn answer(state: &mut L7State, window: &Window, available: u32, at_us: u32) -> Token {
    let stream = &mut state.to_client;
    let head = window.first_word();
    if stream.connection & FLAG_ENCRYPTION_ASKED != 0 {
        state.clear_flag(FLAG_ENCRYPTION_ASKED);
        match head as u8 {
            b'S' | b'G' => state.set_protocol(PROTOCOL_ENCRYPTED),
            b'N' => (),
            _ => return Token::Failed,
        }
        return Token::Consumed(1);
    }
    if available < 5 {
        return Token::Incomplete;
    }
    let length = message_length(head);
    let kind = head as u8;
    let limit = if stream.mode == MODE_RESYNC {
        RESYNC_BYTES_MAX
    } else {
        MESSAGE_BYTES_MAX
    };
    if !is_answer_type(kind) || !(4..=limit).contains(&length) {
        return Token::Failed;
    }
    stream.mode = MODE_START;
    stream.skip = u64::from(length - 4);
    if kind == b'E' {
        state.errors = state.errors.wrapping_add(1);
    }
    // Notices, notifications and changed settings come when they like.
    let is_aside = matches!(kind, b'N' | b'A' | b'S');
    if is_aside || !state.has_outstanding() {
        return Token::Consumed(5);
    }
    let oldest = state.remembered(state.tail);
    if state.to_client.flags & ANSWER_BEGUN == 0 {
        state.to_client.flags |= ANSWER_BEGUN;
        if oldest.kind == KIND_PLAIN {
            state.time_once(oldest, at_us);
        }
    }
    // An error while it starts up ends the connection: there will be no more of this answer.
    let is_refused = kind == b'E' && state.tail == 0 && oldest.kind == KIND_CONTROL;
    if kind == b'Z' || is_refused {
        end_cycle(state, oldest);
    }
    Token::Consumed(5)
}

/// The server is ready: the oldest request is over.
#[inline(always)]
fn end_cycle(state: &mut L7State, oldest: Remembered) {
    if oldest.kind != KIND_CONTROL {
        state.responses = state.responses.wrapping_add(1);
    }
    state.to_client.flags &= !ANSWER_BEGUN;
    state.pop();
}

#[inline(always)]
fn is_answer_type(kind: u8) -> bool {
    matches!(kind, b'1'..=b'3' | b'A' | b'C'..=b'E' | b'G'..=b'I' | b'K' | b'N' | b'R'..=b'T' | b'V' | b'W' | b'Z')
        || matches!(kind, b'c' | b'd' | b'n' | b's' | b't' | b'v')
}

/// True when this segment's last bytes say that the server is ready.
#[inline(always)]
pub(super) fn ends_a_cycle<P: Payload + ?Sized>(cursor: &Cursor, payload: &P) -> bool {
    let mut last = [0_u8; 6];
    if cursor.end < 6 || !payload.load_array(cursor.end - 6, &mut last) {
        return false;
    }
    let [head @ .., status] = last;
    head == *b"Z\0\0\0\x05" && matches!(status, b'I' | b'T' | b'E')
}

/// Goes on behind a segment that ended a cycle.
#[inline(always)]
pub(super) fn resume(state: &mut L7State, at_us: u32) {
    let oldest = state.remembered(state.tail);
    if oldest.kind == KIND_PLAIN && state.to_client.flags & ANSWER_BEGUN == 0 {
        state.time_once(oldest, at_us);
    }
    end_cycle(state, oldest);
    // More may have been answered in what was given up.
    state.abandon();
    state.to_client.mode = MODE_START;
}

/// True when a segment that begins with this head is one of an open connection: a query that fills it, or messages of
/// the extended protocol that end with a Sync.
#[inline(always)]
pub(super) fn is_midstream<P: Payload + ?Sized>(first_word: u64, cursor: &Cursor, payload: &P) -> bool {
    let length = message_length(first_word);
    let mut last = [0_u8; 5];
    if cursor.end < 6 || length < 4 || length >= cursor.end || !payload.load_array(cursor.end - 5, &mut last) {
        return false;
    }
    match first_word as u8 {
        b'Q' => length + 1 == cursor.end && last[4] == 0,
        b'P' | b'B' | b'D' | b'C' | b'E' => last == *b"S\0\0\0\x04",
        _ => false,
    }
}
