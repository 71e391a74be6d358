//! Redis: RESP2 and RESP3 heads.
//!
//! A request is a flat array of strings (or an inline line). A reply nests, but to find its end one counter of pending
//! elements is enough. GET-class commands are those whose answer says that a value was not there: GET, GETEX, GETDEL,
//! HGET (nil), MGET, HMGET (a nil for each), HGETALL (an empty aggregate). Not: GETRANGE, EXISTS, LRANGE and the like,
//! whose empty answers are also ordinary ones.

use super::stream::{LengthLine, MODE_LINE, MODE_OWN, MODE_START, Token, WINDOW_BYTES, Window, lower, mask, word};
use super::{FLAG_SUBSCRIBED, KIND_GET, KIND_GET_ALL, KIND_GET_MANY, KIND_PLAIN, L7State};

/// To the server: the length of the command's name comes next.
const MODE_NAME_LENGTH: u8 = MODE_OWN;
/// To the server: the command's name comes next; its length is in `value`.
const MODE_NAME: u8 = MODE_OWN + 1;

/// More elements than any sane message has.
const ELEMENTS_MAX: u32 = 1 << 24;

/// Takes one token of a request.
#[inline(always)]
pub(super) fn request(state: &mut L7State, window: &Window, available: u32, at_us: u32) -> Token {
    let stream = &mut state.to_server;
    if stream.mode == MODE_LINE {
        return stream.rest_of_line(window, available, MODE_START);
    }
    if stream.mode == MODE_NAME {
        return name(state, window, available);
    }
    let first = window.byte_at(0);
    if stream.pending > 0 {
        if first != b'$' {
            return Token::Failed;
        }
        return match window.length_line(available) {
            LengthLine::Length(length, size) if stream.mode == MODE_NAME_LENGTH => {
                stream.value = u64::from(length);
                stream.mode = MODE_NAME;
                Token::Consumed(size)
            }
            LengthLine::Length(length, size) => {
                stream.pending -= 1;
                stream.skip = u64::from(length) + 2;
                Token::Consumed(size)
            }
            LengthLine::Incomplete => Token::Incomplete,
            LengthLine::Nil(_) | LengthLine::Invalid => Token::Failed,
        };
    }
    match first {
        b'*' => command(state, window, available, at_us),
        b'A'..=b'Z' | b'a'..=b'z' | b'\r' | b'\n' => inline_command(state, window, available, at_us),
        _ => Token::Failed,
    }
}

/// The head of a command, with its name if the window holds all of it.
#[inline(always)]
fn command(state: &mut L7State, window: &Window, available: u32, at_us: u32) -> Token {
    let stream = &mut state.to_server;
    let (count, size) = match window.length_line(available) {
        LengthLine::Length(count, size) if count <= ELEMENTS_MAX => (count, size),
        // The server passes over an empty command without an answer.
        LengthLine::Nil(size) => (0, size),
        LengthLine::Incomplete => return Token::Incomplete,
        LengthLine::Length(..) | LengthLine::Invalid => return Token::Failed,
    };
    if count == 0 {
        return Token::Consumed(size);
    }
    stream.started_us = at_us;
    stream.pending = count;
    stream.mode = MODE_NAME_LENGTH;
    let head = window.word_at(size & 15);
    let length = (head >> 8 & 0xff) as u32 ^ u32::from(b'0');
    let is_short = head & 0xffff_00ff == word(b"$\0\r\n") && (1..=9).contains(&length);
    if !is_short || size + 4 + length > available {
        return Token::Consumed(size);
    }
    let name = window.word_at((size & 15) + 4);
    stream.mode = MODE_START;
    stream.pending = count - 1;
    stream.skip = 2;
    count_command(state, name, length);
    Token::Consumed(size + 4 + length)
}

/// The name of a command, on its own.
#[inline(always)]
fn name(state: &mut L7State, window: &Window, available: u32) -> Token {
    let stream = &mut state.to_server;
    let length = stream.value as u32;
    let needed = if length < 8 { length } else { 8 };
    if available < needed {
        return Token::Incomplete;
    }
    stream.mode = MODE_START;
    stream.pending = stream.pending.saturating_sub(1);
    stream.skip = u64::from(length - needed) + 2;
    let name = window.first_word();
    count_command(state, name, length);
    // An empty name takes no byte, and the step goes on with its line end.
    Token::Consumed(needed)
}

/// A command as a person types it.
#[inline(always)]
fn inline_command(state: &mut L7State, window: &Window, available: u32, at_us: u32) -> Token {
    let stream = &mut state.to_server;
    let feed = window.line_feed();
    if feed >= available && available < WINDOW_BYTES {
        return Token::Incomplete;
    }
    stream.started_us = at_us;
    if feed < available && (feed == 0 || (feed == 1 && window.byte_at(0) == b'\r')) {
        return Token::Consumed(feed + 1);
    }
    let token = if feed < available {
        Token::Consumed(feed + 1)
    } else {
        stream.mode = MODE_LINE;
        Token::Consumed(available)
    };
    count_command(state, 0, 0);
    token
}

/// Counts a command by the first bytes of its name.
#[inline(always)]
pub(super) fn count_command(state: &mut L7State, name: u64, length: u32) {
    state.requests = state.requests.wrapping_add(1);
    let text = lower(name) & mask(length);
    let kind = match length {
        3 if text == word(b"get") => KIND_GET,
        4 if text == word(b"hget") => KIND_GET,
        5 if text == word(b"getex") => KIND_GET,
        6 if text == word(b"getdel") => KIND_GET,
        4 if text == word(b"mget") => KIND_GET_MANY,
        5 if text == word(b"hmget") => KIND_GET_MANY,
        7 if text == word(b"hgetall") => KIND_GET_ALL,
        4 if text == word(b"sync") => return subscribe(state),
        5 if text == word(b"psync") => return subscribe(state),
        7 if text == word(b"monitor") => return subscribe(state),
        9 if text == word(b"subscrib") => return subscribe(state),
        10 if text == word(b"psubscri") || text == word(b"ssubscri") => return subscribe(state),
        _ => KIND_PLAIN,
    };
    if state.to_server.connection & FLAG_SUBSCRIBED == 0 {
        state.push(kind, state.to_server.started_us);
    }
}

#[inline(always)]
fn subscribe(state: &mut L7State) {
    state.set_flag(FLAG_SUBSCRIBED);
}

/// An element of a reply, as far as hits and misses care.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Element {
    Value,
    Nil,
    Aggregate(u32),
    Other,
}

/// Takes one token of a reply.
#[inline(always)]
pub(super) fn reply(state: &mut L7State, window: &Window, available: u32, at_us: u32) -> Token {
    let stream = &mut state.to_client;
    if stream.mode == MODE_LINE {
        return stream.rest_of_line(window, available, MODE_START);
    }
    stream.mode = MODE_START;
    let first = window.byte_at(0);
    match first {
        b'$' | b'=' | b'!' | b'*' | b'~' | b'%' | b'>' | b'|' => {
            let (element, size, skip) = match window.length_line(available) {
                LengthLine::Incomplete => return Token::Incomplete,
                LengthLine::Invalid => return Token::Failed,
                LengthLine::Nil(size) => (Element::Nil, size, 0),
                LengthLine::Length(length, size) => match first {
                    b'$' | b'=' => (Element::Value, size, u64::from(length) + 2),
                    b'!' => (Element::Other, size, u64::from(length) + 2),
                    _ if length > ELEMENTS_MAX => return Token::Failed,
                    b'%' | b'|' => (Element::Aggregate(length * 2), size, 0),
                    _ => (Element::Aggregate(length), size, 0),
                },
            };
            stream.skip = skip;
            count_element(state, window, first, element, at_us);
            Token::Consumed(size)
        }
        b'+' | b'-' | b':' | b',' | b'#' | b'(' | b'_' => {
            let feed = window.line_feed();
            if feed >= available && available < WINDOW_BYTES {
                return Token::Incomplete;
            }
            let element = if first == b'_' { Element::Nil } else { Element::Other };
            let token = if feed < available {
                Token::Consumed(feed + 1)
            } else {
                stream.mode = MODE_LINE;
                Token::Consumed(available)
            };
            count_element(state, window, first, element, at_us);
            token
        }
        _ => Token::Failed,
    }
}

/// Books one element: whether it begins a reply, what it adds, what it says.
#[inline(always)]
fn count_element(state: &mut L7State, window: &Window, first: u8, element: Element, at_us: u32) {
    let is_top = state.to_client.pending == 0;
    // Pushed messages and attributes stand outside of the order of replies.
    let is_aside = first == b'>' || first == b'|';
    if is_top {
        // Behind a subscription only requests made before it have answers of their own.
        let is_answer = !is_aside && (state.to_client.connection & FLAG_SUBSCRIBED == 0 || state.has_outstanding());
        state.to_client.kind = if is_answer {
            state.begin_answer(at_us).unwrap_or(0)
        } else {
            0
        };
        if !is_aside {
            count_error(state, window, first);
        }
    } else if first != b'|' {
        state.to_client.pending -= 1;
    }
    if let Element::Aggregate(length) = element {
        state.to_client.pending = state.to_client.pending.saturating_add(length);
    }
    count_found(state, is_top, element);
}

/// Books what an element says of the value that was asked for.
#[inline(always)]
pub(super) fn count_found(state: &mut L7State, is_top: bool, element: Element) {
    let found = match (state.to_client.kind, is_top, element) {
        (KIND_GET, true, Element::Value) | (KIND_GET_MANY, false, Element::Value) => true,
        (KIND_GET, true, Element::Nil) | (KIND_GET_MANY, false, Element::Nil) => false,
        (KIND_GET_ALL, true, Element::Aggregate(length)) => length > 0,
        _ => return,
    };
    if found {
        state.hits = state.hits.wrapping_add(1);
    } else {
        state.misses = state.misses.wrapping_add(1);
    }
}

#[inline(always)]
fn count_error(state: &mut L7State, window: &Window, first: u8) {
    let start = window.first_word();
    if first == b'-' && (start & mask(7) == word(b"-MOVED ") || start & mask(5) == word(b"-ASK ")) {
        state.redirects = state.redirects.wrapping_add(1);
    } else if first == b'-' && start & mask(5) == word(b"-ERR ") && start & mask(8) != word(b"-ERR max") {
        // An unknown command, a wrong number of arguments: what was asked is wrong, save that the server has too many
        // clients ("max number of clients reached"). Clients of today greet older servers with such commands.
        state.client_errors = state.client_errors.wrapping_add(1);
    } else if first == b'-' || first == b'!' {
        state.errors = state.errors.wrapping_add(1);
    }
}
