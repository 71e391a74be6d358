//! The ring of requests under way: one direction pushes, the other pops and times.
//!
//! Knows kinds and times, no protocol. Each side writes only its own counters, so that the two may run at once.

use core::hint::black_box;

use super::{KIND_MASK, KIND_TIMED, L7State, NEAR_REQUESTS, TIMED_REQUESTS, TRACKED_REQUESTS, age_us};
use crate::{LATENCY_BUCKETS, latency_bucket};

/// A request under way, as far as it is remembered.
#[derive(Clone, Copy)]
pub(super) struct Remembered {
    /// 0 if that is not known.
    pub(super) kind: u8,
    /// `None`: it is not timed.
    pub(super) started_us: Option<u32>,
}

impl L7State {
    /// Producer: a request began at `started_us`. True when its kind is remembered.
    #[inline(always)]
    pub(super) fn push(&mut self, kind: u8, started_us: u32) -> bool {
        let head = self.pushed;
        let mut under_way = head.wrapping_sub(self.tail_seen);
        if under_way >= NEAR_REQUESTS as u32 {
            // The consumer's line is fetched only when its news can matter.
            self.tail_seen = self.tail;
            under_way = head.wrapping_sub(self.tail_seen);
        }
        if under_way < NEAR_REQUESTS as u32 {
            self.near_starts_us[head as usize % NEAR_REQUESTS] = started_us;
            self.near_kinds[head as usize % NEAR_REQUESTS] = near_number(head) | u16::from(kind);
        } else {
            self.push_far(head, under_way, kind, started_us);
        }
        self.pushed = head.wrapping_add(1);
        self.head = self.pushed;
        under_way < TRACKED_REQUESTS as u32
    }

    #[inline(always)]
    pub(super) fn push_far(&mut self, head: u32, under_way: u32, kind: u8, started_us: u32) {
        let mut slot = kind;
        if under_way < TIMED_REQUESTS as u32 {
            self.far_starts_us[head as usize % TIMED_REQUESTS] = started_us;
            slot |= KIND_TIMED;
        } else {
            self.untimed = self.untimed.wrapping_add(1);
        }
        if under_way < TRACKED_REQUESTS as u32 {
            self.far_kinds[head as usize % TRACKED_REQUESTS] = slot;
        }
    }

    /// What is known of request `number`, which is under way.
    #[inline(always)]
    pub(super) fn remembered(&self, number: u32) -> Remembered {
        if let Some(kind) = self.near_kind(number) {
            return Remembered {
                kind,
                started_us: Some(self.near_starts_us[number as usize % NEAR_REQUESTS]),
            };
        }
        let slot = self.far_kinds[number as usize % TRACKED_REQUESTS];
        let is_timed = slot & KIND_TIMED != 0;
        Remembered {
            kind: slot & KIND_MASK,
            started_us: is_timed.then(|| self.far_starts_us[number as usize % TIMED_REQUESTS]),
        }
    }

    /// The kind of request `number` if it is beside the ring's head. What is there of an older one bears another number,
    /// unless 65,536 requests lie between.
    #[inline(always)]
    pub(super) fn near_kind(&self, number: u32) -> Option<u8> {
        let near = self.near_kinds[number as usize % NEAR_REQUESTS];
        let kind = near as u8 & KIND_MASK;
        (kind != 0 && near & !u16::from(KIND_MASK) == near_number(number)).then_some(kind)
    }

    /// Producer: the newest request, which is tracked, turns out to be of this kind, or to begin only now. True if it is
    /// timed.
    #[inline(always)]
    pub(super) fn revise_newest(&mut self, kind: u8, started_us: Option<u32>) -> bool {
        let number = self.pushed.wrapping_sub(1);
        if self.near_kind(number).is_some() {
            self.near_kinds[number as usize % NEAR_REQUESTS] = near_number(number) | u16::from(kind);
            if let Some(started_us) = started_us {
                self.near_starts_us[number as usize % NEAR_REQUESTS] = started_us;
            }
            return true;
        }
        let timed = self.far_kinds[number as usize % TRACKED_REQUESTS] & KIND_TIMED;
        self.far_kinds[number as usize % TRACKED_REQUESTS] = kind | timed;
        if let (Some(started_us), true) = (started_us, timed != 0) {
            self.far_starts_us[number as usize % TIMED_REQUESTS] = started_us;
        }
        timed != 0
    }

    /// Consumer: an answer began at `at_us`, to a request that began at `started_us` if it was timed.
    #[inline(always)]
    pub(super) fn time(&mut self, started_us: Option<u32>, at_us: u32) {
        self.to_client.started_us = at_us;
        let Some(started_us) = started_us else { return };
        let latency_us = age_us(at_us, started_us);
        // The compiler knows that the bucket exists, and would drop the check that the verifier must see.
        let bucket = black_box(u32::from(latency_bucket(u64::from(latency_us)))) as usize;
        if bucket < LATENCY_BUCKETS {
            self.latency[bucket] = self.latency[bucket].wrapping_add(1);
        }
    }

    /// Consumer: the answer of the oldest request, which stays under way, began at `at_us`; records its latency once.
    #[inline(always)]
    pub(super) fn time_once(&mut self, oldest: Remembered, at_us: u32) {
        let number = self.tail.wrapping_add(1);
        let is_new = oldest.started_us.is_some() && self.timed != number;
        if is_new {
            self.timed = number;
        }
        self.time(oldest.started_us.filter(|_| is_new), at_us);
    }

    /// Consumer: forgets the oldest request.
    #[inline(always)]
    pub(super) fn pop(&mut self) {
        // A slot is emptied only where a request that found no room may be the next to look at it: the producer writes
        // all others before. Half a ring, because it may push meanwhile.
        if self.head.wrapping_sub(self.tail) > TRACKED_REQUESTS as u32 / 2 {
            self.far_kinds[self.tail as usize % TRACKED_REQUESTS] = 0;
        }
        self.tail = self.tail.wrapping_add(1);
    }

    /// Consumer: an answer begins. Its request's kind, or `None` if we saw no request for it.
    #[inline(always)]
    pub(super) fn begin_answer(&mut self, at_us: u32) -> Option<u8> {
        if !self.has_outstanding() {
            self.unsolicited = self.unsolicited.wrapping_add(1);
            return None;
        }
        let oldest = self.remembered(self.tail);
        self.time(oldest.started_us, at_us);
        self.to_client.turns = if self.head.wrapping_sub(self.tail) > 1 {
            0
        } else {
            self.to_client.turns.saturating_add(1)
        };
        self.pop();
        self.responses = self.responses.wrapping_add(1);
        Some(oldest.kind)
    }

    /// Consumer: gives up all requests under way. Their answers, if they come, are unsolicited; so both ends pair
    /// again as soon as the connection is quiet for a moment.
    #[inline(always)]
    pub(super) fn abandon(&mut self) {
        let head = self.head;
        self.abandoned = self.abandoned.wrapping_add(head.wrapping_sub(self.tail));
        self.tail = head;
    }
}

/// The bits of a request's number that its place beside the ring's head does not tell.
#[inline(always)]
fn near_number(number: u32) -> u16 {
    number as u16 & !u16::from(KIND_MASK)
}

const _: () = assert!(NEAR_REQUESTS == KIND_MASK as usize + 1);
