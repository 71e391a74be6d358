//! HTTP/1.0 and 1.1: request and status lines, and of the header only what says where the message ends.
//!
//! Framing is followed exactly (lengths, chunks, bodiless answers, interim answers, pipelining), so a body that looks
//! like a message is never taken for one.

use super::stream::{MODE_OWN, MODE_RESYNC, MODE_START, Stream, Token, WINDOW_BYTES, Window, lower, mask, word};
use super::{FLAG_TUNNEL, KIND_CONNECT, KIND_HEAD, KIND_PLAIN, L7State};

/// Within the first line or a header line of no interest.
const MODE_HEADER_LINE: u8 = MODE_OWN;
/// A header line begins.
const MODE_HEADER: u8 = MODE_OWN + 1;
/// Within the value of Content-Length.
const MODE_LENGTH: u8 = MODE_OWN + 2;
/// Within the size of a chunk.
const MODE_CHUNK_SIZE: u8 = MODE_OWN + 3;
/// Behind the size of a chunk.
const MODE_CHUNK_LINE: u8 = MODE_OWN + 4;
/// A trailer line begins.
const MODE_TRAILER: u8 = MODE_OWN + 5;
/// Within a trailer line.
const MODE_TRAILER_LINE: u8 = MODE_OWN + 6;

/// How the body ends, in `Stream::flags`: by `Stream::value`; set when a header said so.
const BODY_LENGTH: u8 = 1;
/// By an empty chunk.
const BODY_CHUNKED: u8 = 2;
/// There is none whatever the header says.
const BODY_NONE: u8 = 4;
/// Unless a header says so, at the connection's end.
const BODY_TO_CLOSE: u8 = 8;

/// There is none, and what follows the head is not HTTP any more.
const BODY_TUNNEL: u8 = 16;

/// A body of a size beyond this is passed over as if it had this one.
const BODY_BYTES_MAX: u64 = 1 << 50;
/// Bytes of a header line that tell whether it matters.
const HEADER_NAME_BYTES: u32 = 18;

/// What the first bytes of a request are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum RequestLine {
    Is(u8),
    Incomplete,
    Not,
}

/// Takes one token of a request.
#[inline(always)]
pub(super) fn request(state: &mut L7State, window: &Window, available: u32, at_us: u32) -> Token {
    let stream = &mut state.to_server;
    if stream.mode != MODE_START {
        return header_or_body(stream, window, available);
    }
    // A server passes over blank lines before a request.
    if matches!(window.byte_at(0), b'\r' | b'\n') {
        return Token::Consumed(1);
    }
    match request_line(window, available) {
        RequestLine::Incomplete => Token::Incomplete,
        RequestLine::Not => Token::Failed,
        RequestLine::Is(kind) => {
            stream.mode = MODE_HEADER_LINE;
            stream.value = 0;
            stream.flags = if kind == KIND_CONNECT { BODY_NONE } else { 0 };
            state.requests = state.requests.wrapping_add(1);
            state.push(kind, at_us);
            rest_of_first_line(&mut state.to_server, window, available)
        }
    }
}

/// Takes one token of a response.
#[inline(always)]
pub(super) fn response(state: &mut L7State, window: &Window, available: u32, at_us: u32) -> Token {
    let stream = &mut state.to_client;
    if stream.mode != MODE_START && stream.mode != MODE_RESYNC {
        let token = header_or_body(stream, window, available);
        if stream.mode == MODE_START && stream.flags & BODY_TUNNEL != 0 {
            state.set_flag(FLAG_TUNNEL);
        }
        return token;
    }
    let is_http = window.first_word() & mask(7) == word(b"HTTP/1.");
    if available < 12 {
        let common = mask(if available < 7 { available } else { 7 });
        let may_be = (window.first_word() ^ word(b"HTTP/1.")) & common == 0;
        return if may_be { Token::Incomplete } else { Token::Failed };
    }
    let status = (window.word_at(8) & 0xffff_ffff) as u32;
    if !is_http || !window.byte_at(7).is_ascii_digit() || status & 0xf0f0_f0ff != u32::from_le_bytes(*b" 000") {
        return Token::Failed;
    }
    let hundreds = (status >> 8 & 0x0f) as u8;
    let rest = (status >> 16) as u16;
    stream.mode = MODE_HEADER_LINE;
    stream.value = 0;
    let is_switch = hundreds == 1 && rest == u16::from_le_bytes(*b"01");
    if hundreds == 1 && !is_switch {
        stream.flags = BODY_NONE;
        return rest_of_first_line(stream, window, available);
    }
    let is_bodiless =
        (hundreds == 2 && rest == u16::from_le_bytes(*b"04")) || (hundreds == 3 && rest == u16::from_le_bytes(*b"04"));
    let kind = state.begin_answer(at_us).unwrap_or(KIND_PLAIN);
    match hundreds {
        5..=9 => state.errors = state.errors.wrapping_add(1),
        4 => state.client_errors = state.client_errors.wrapping_add(1),
        _ => (),
    }
    let stream = &mut state.to_client;
    stream.flags = if is_switch || (kind == KIND_CONNECT && hundreds == 2) {
        BODY_TUNNEL
    } else if kind == KIND_HEAD || is_bodiless {
        BODY_NONE
    } else {
        BODY_TO_CLOSE
    };
    rest_of_first_line(stream, window, available)
}

/// Tells a request's method by the window; its kind if it is one.
#[inline(always)]
pub(super) fn request_line(window: &Window, available: u32) -> RequestLine {
    let start = window.first_word();
    let (kind, size) = match (start & 0xff) as u8 {
        b'G' => (method(start, available, b"GET "), 4),
        b'H' => (method(start, available, b"HEAD "), 5),
        b'D' => (method(start, available, b"DELETE "), 7),
        b'O' => (method(start, available, b"OPTIONS "), 8),
        b'C' => (method(start, available, b"CONNECT "), 8),
        b'T' => (method(start, available, b"TRACE "), 6),
        b'P' => match (start >> 8 & 0xff) as u8 {
            b'O' => (method(start, available, b"POST "), 5),
            b'U' => (method(start, available, b"PUT "), 4),
            b'A' => (method(start, available, b"PATCH "), 6),
            _ if available < 2 => (RequestLine::Incomplete, 0),
            _ => (RequestLine::Not, 0),
        },
        _ => (RequestLine::Not, 0),
    };
    if kind != RequestLine::Is(KIND_PLAIN) {
        return kind;
    }
    if available <= size {
        return RequestLine::Incomplete;
    }
    let kind = match (start & 0xff) as u8 {
        b'H' => KIND_HEAD,
        b'C' => return RequestLine::Is(KIND_CONNECT),
        _ => KIND_PLAIN,
    };
    // A path, a whole address, or the server itself.
    match window.byte_at(size) {
        b'/' | b'*' | b'h' | b'H' => RequestLine::Is(kind),
        _ => RequestLine::Not,
    }
}

#[inline(always)]
fn method(start: u64, available: u32, name: &[u8]) -> RequestLine {
    let size = name.len() as u32;
    let common = mask(if available < size { available } else { size });
    if (start ^ word(name)) & common != 0 {
        RequestLine::Not
    } else if available < size {
        RequestLine::Incomplete
    } else {
        RequestLine::Is(KIND_PLAIN)
    }
}

#[inline(always)]
fn rest_of_first_line(stream: &mut Stream, window: &Window, available: u32) -> Token {
    stream.rest_of_line(window, available, MODE_HEADER)
}

/// Takes one token behind the first line.
#[inline(always)]
fn header_or_body(stream: &mut Stream, window: &Window, available: u32) -> Token {
    match stream.mode {
        MODE_HEADER_LINE => stream.rest_of_line(window, available, MODE_HEADER),
        MODE_HEADER => header(stream, window, available),
        MODE_LENGTH => length_digit(stream, window),
        MODE_CHUNK_SIZE => chunk_digit(stream, window),
        MODE_CHUNK_LINE => {
            let token = stream.rest_of_line(window, available, MODE_CHUNK_SIZE);
            if stream.mode == MODE_CHUNK_SIZE {
                if stream.value == 0 {
                    stream.mode = MODE_TRAILER;
                } else {
                    stream.skip = stream.value + 2;
                    stream.value = 0;
                }
            }
            token
        }
        MODE_TRAILER_LINE => stream.rest_of_line(window, available, MODE_TRAILER),
        MODE_TRAILER => match window.byte_at(0) {
            b'\r' => Token::Consumed(1),
            b'\n' => {
                stream.mode = MODE_START;
                Token::Consumed(1)
            }
            _ => {
                stream.mode = MODE_TRAILER_LINE;
                Token::Consumed(1)
            }
        },
        _ => Token::Failed,
    }
}

/// A header line: the head's end, a header that frames the body, or one of no interest.
#[inline(always)]
fn header(stream: &mut Stream, window: &Window, available: u32) -> Token {
    // First, because a kept window cannot be taken in part: from its fifteenth byte on this name is complete.
    let first = lower(window.first_word());
    let second = lower(window.word_at(8));
    if available >= 15 && first == word(b"content-") && second & mask(7) == word(b"length:") {
        stream.mode = MODE_LENGTH;
        stream.value = 0;
        stream.flags |= BODY_LENGTH;
        return Token::Consumed(15);
    }
    let feed = window.line_feed();
    if feed >= available && available < HEADER_NAME_BYTES {
        return Token::Incomplete;
    }
    if feed < available && (feed == 0 || (feed == 1 && window.byte_at(0) == b'\r')) {
        end_of_head(stream);
        return Token::Consumed(feed + 1);
    }
    let is_encoding = first == word(b"transfer")
        && second == word(b"-encodin")
        && lower(window.word_at(16)) & mask(2) == word(b"g:")
        && feed > 17;
    if is_encoding {
        // Whatever other encodings it names, in HTTP/1.1 the last one is "chunked".
        stream.flags |= BODY_CHUNKED;
    }
    stream.mode = MODE_HEADER_LINE;
    stream.rest_of_line(window, available, MODE_HEADER)
}

/// The blank line: what follows is the body.
#[inline(always)]
fn end_of_head(stream: &mut Stream) {
    let flags = stream.flags;
    stream.mode = MODE_START;
    stream.flags = flags & BODY_TUNNEL;
    if flags & (BODY_NONE | BODY_TUNNEL) != 0 {
        return;
    }
    if flags & BODY_CHUNKED != 0 {
        stream.mode = MODE_CHUNK_SIZE;
        stream.value = 0;
    } else if flags & BODY_LENGTH != 0 {
        stream.skip = stream.value;
    } else if flags & BODY_TO_CLOSE != 0 {
        stream.skip = u64::MAX;
    }
}

/// One byte of the value of Content-Length: slow, but whole at every border of segments.
#[inline(always)]
fn length_digit(stream: &mut Stream, window: &Window) -> Token {
    match window.byte_at(0) {
        digit @ b'0'..=b'9' if stream.value < BODY_BYTES_MAX => {
            stream.value = stream.value * 10 + u64::from(digit - b'0');
        }
        b' ' | b'\t' | b'\r' => (),
        b'\n' => stream.mode = MODE_HEADER,
        _ => return Token::Failed,
    }
    Token::Consumed(1)
}

/// One byte of a chunk's size.
#[inline(always)]
fn chunk_digit(stream: &mut Stream, window: &Window) -> Token {
    let digit = match window.byte_at(0) {
        digit @ b'0'..=b'9' => digit - b'0',
        digit @ b'a'..=b'f' => digit - b'a' + 10,
        digit @ b'A'..=b'F' => digit - b'A' + 10,
        b'\r' | b';' | b' ' | b'\t' => {
            stream.mode = MODE_CHUNK_LINE;
            return Token::Consumed(1);
        }
        _ => return Token::Failed,
    };
    if stream.value >= BODY_BYTES_MAX {
        return Token::Failed;
    }
    stream.value = stream.value * 16 + u64::from(digit);
    Token::Consumed(1)
}

const _: () = assert!(HEADER_NAME_BYTES <= WINDOW_BYTES);
