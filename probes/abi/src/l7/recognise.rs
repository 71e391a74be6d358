//! Which protocol the first bytes to a server speak.
//!
//! Also how a connection first seen in its middle, or one whose bytes were lost, is taken up again: at the first
//! segment that begins like a request.

use super::http::{RequestLine, request_line};
use super::stream::{MODE_START, Token, WINDOW_BYTES, Window, word};
use super::{
    Cursor, L7State, PROTOCOL_ENCRYPTED, PROTOCOL_HTTP1, PROTOCOL_POSTGRES, PROTOCOL_REDIS, PROTOCOL_UNKNOWN, Payload,
    postgres,
};

/// What the window's bytes look like.
enum Look {
    Protocol(u8),
    Startup,
    Incomplete,
    Nothing,
}

/// Takes no bytes: `Consumed` says that the state is now ready to take them.
#[inline(always)]
pub(super) fn recognise<P: Payload + ?Sized>(
    state: &mut L7State,
    cursor: &Cursor,
    payload: &P,
    available: u32,
) -> Token {
    let (protocol, is_startup) = match look(cursor, payload, available) {
        Look::Incomplete => return Token::Incomplete,
        Look::Nothing => return Token::Failed,
        Look::Protocol(protocol) => (protocol, false),
        Look::Startup => (PROTOCOL_POSTGRES, true),
    };
    let known = state.to_server.protocol;
    if known != protocol && known != PROTOCOL_UNKNOWN && state.responses > 0 {
        // It has spoken another protocol all the time: these bytes are data that look like this one.
        return Token::Failed;
    }
    if known != protocol && known != PROTOCOL_UNKNOWN {
        state.abandon();
        state.to_client.restart();
    }
    state.set_protocol(protocol);
    state.to_server.mode = MODE_START;
    if is_startup {
        postgres::start(state);
    }
    Token::Consumed(0)
}

#[inline(always)]
fn look<P: Payload + ?Sized>(cursor: &Cursor, payload: &P, available: u32) -> Look {
    let window = &cursor.window;
    let start = window.first_word();
    match start as u8 {
        b'*' => redis(window, available),
        // TLS records: change of cipher, alert, handshake, data; then the version's 3 and a minor below 5.
        0x14..=0x17 => {
            if available < 3 {
                let is_tls = available < 2 || start >> 8 & 0xff == 3;
                return if is_tls { Look::Incomplete } else { Look::Nothing };
            }
            let is_tls = start >> 8 & 0xff == 3 && start >> 16 & 0xff < 5;
            if is_tls {
                Look::Protocol(PROTOCOL_ENCRYPTED)
            } else {
                Look::Nothing
            }
        }
        0 if available < 8 => Look::Incomplete,
        0 if postgres::is_startup(start) => Look::Startup,
        first => match request_line(window, available) {
            RequestLine::Is(_) => Look::Protocol(PROTOCOL_HTTP1),
            _ if available >= 5 && postgres::is_midstream(start, cursor, payload) => Look::Protocol(PROTOCOL_POSTGRES),
            RequestLine::Incomplete => Look::Incomplete,
            RequestLine::Not if first == b'P' => ping(start, available),
            RequestLine::Not => Look::Nothing,
        },
    }
}

/// An array of strings.
#[inline(always)]
fn redis(window: &Window, available: u32) -> Look {
    let feed = window.line_feed();
    if feed < available && !(3..=10).contains(&feed) {
        return Look::Nothing;
    }
    if available >= 2 && !window.byte_at(1).is_ascii_digit() {
        return Look::Nothing;
    }
    if feed >= available || feed + 1 >= available {
        return if available < WINDOW_BYTES {
            Look::Incomplete
        } else {
            Look::Nothing
        };
    }
    if window.byte_at(feed + 1) == b'$' {
        Look::Protocol(PROTOCOL_REDIS)
    } else {
        Look::Nothing
    }
}

/// Redis's shortest inline command, which tools begin with.
#[inline(always)]
fn ping(start: u64, available: u32) -> Look {
    if available < 6 {
        return Look::Incomplete;
    }
    if start & super::stream::mask(6) == word(b"PING\r\n") {
        Look::Protocol(PROTOCOL_REDIS)
    } else {
        Look::Nothing
    }
}
