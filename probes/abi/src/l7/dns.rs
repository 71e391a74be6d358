//! Heads of DNS messages over UDP, recognised by their bytes.
//!
//! Pairs nothing: its caller joins questions and answers by socket and [`Message::id`].

use super::Payload;

/// Bytes of a message's head.
const HEAD_BYTES: u32 = 12;
/// The smallest message with a question: the head, a root name, a type and a class.
const MESSAGE_BYTES_MIN: u32 = HEAD_BYTES + 5;

/// What a message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Message {
    /// Joins an answer to its question.
    pub id: u16,
    /// Number of records in the answer.
    pub answer_count: u16,
    /// Which way.
    pub role: Role,
    /// The answer's code: 0 no error, 2 server failure, 3 no such name, 5 refused. 0 in a question.
    pub code: u8,
}

/// Question or answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Role {
    /// A question.
    Query,
    /// An answer.
    Response,
}

/// Reads the head of a datagram of `length` payload bytes; `None` when it is no DNS message with one question.
#[inline(always)]
pub fn message<P: Payload + ?Sized>(payload: &P, length: u32) -> Option<Message> {
    let mut head = [0_u8; 16];
    if length < MESSAGE_BYTES_MIN || !payload.load_array(0, &mut head) {
        return None;
    }
    let [
        id_high,
        id_low,
        flags,
        code,
        q_high,
        q_low,
        a_high,
        a_low,
        n_high,
        n_low,
        x_high,
        x_low,
        label,
        ..,
    ] = head;
    let answer_count = u16::from_be_bytes([a_high, a_low]);
    let is_response = flags & 0x80 != 0;
    // A standard query (operation 0), one question, and a reserved bit that is 0.
    if flags & 0x78 != 0 || code & 0x40 != 0 || [q_high, q_low] != [0, 1] {
        return None;
    }
    let first_label_fits = u32::from(label) <= 63 && HEAD_BYTES + 1 + u32::from(label) + 5 <= length + 1;
    // A question has no answers, no authority, and at most its extensions and a signature behind it.
    let is_plain_query =
        answer_count == 0 && [n_high, n_low] == [0, 0] && x_high == 0 && x_low <= 2 && code & 0x0f == 0;
    if !first_label_fits || !(is_response || is_plain_query) {
        return None;
    }
    Some(Message {
        id: u16::from_be_bytes([id_high, id_low]),
        answer_count,
        role: if is_response { Role::Response } else { Role::Query },
        code: code & 0x0f,
    })
}
