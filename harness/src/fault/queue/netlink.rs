//! The part of nfnetlink_queue that a delay needs: bind a queue, receive packet numbers, accept them.
//!
//! Written here because a timed verdict needs to wait on the socket with a time-out and to give many verdicts in one
//! call. Never copies more of a packet than the headers that tell its flow, and never changes a packet.

use std::io::{self, ErrorKind};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt, socket,
    sockopt,
};
use nix::sys::time::TimeSpec;

/// Packets that the kernel queues; more pass without delay.
pub(super) const QUEUE_LENGTH_MAX: u32 = 32_768;
/// Most packets taken in at once, so that verdicts are not late.
const BATCH_MAX: usize = 512;
const RECEIVE_BUFFER_BYTES: usize = 8 << 20;
const HEADERS_BYTES: u32 = 64;

const VERDICT: u8 = 1;
const CONFIG: u8 = 2;
const FLAG_REQUEST: u16 = 1;
const FLAG_ACKNOWLEDGE: u16 = 4;
const TYPE_ERROR: u16 = 2;
const TYPE_PACKET: u16 = 3 << 8;

/// A packet that waits in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Packet {
    /// The kernel's number of it.
    pub(super) id: u32,
    /// Equal for packets of one flow.
    pub(super) flow: u64,
}

/// What one look at the socket gave.
#[derive(Debug, Default)]
pub(super) struct Received {
    /// New packets, in order of arrival.
    pub(super) packets: Vec<Packet>,
    /// Times that the kernel reported that it could not hand over.
    pub(super) overruns: u64,
}

/// A bound queue. When it is dropped, the kernel drops what still waits in it.
#[derive(Debug)]
pub(crate) struct QueueSocket {
    fd: OwnedFd,
    number: u16,
}

impl QueueSocket {
    /// Binds queue `number` of the network namespace that the calling thread is in.
    pub(crate) fn open(number: u16) -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let fd = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            flags,
            SockProtocol::NetlinkNetFilter,
        )?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        // More than this is asked for by no test; without the privilege the default remains.
        let _default_remains = setsockopt(&fd, sockopt::RcvBufForce, &RECEIVE_BUFFER_BYTES);
        let queue = Self { fd, number };
        queue.configure(1, &[1, 0, 0, 0])?; // command: bind
        let mut copy = HEADERS_BYTES.to_be_bytes().to_vec();
        copy.push(2); // copy packets, not only their metadata
        queue.configure(2, &copy)?;
        queue.configure(3, &QUEUE_LENGTH_MAX.to_be_bytes())?;
        // Segmentation offload stays whole (4), a full queue lets packets pass (1).
        let mut flags = attribute(4, &5u32.to_be_bytes());
        flags.extend(attribute(5, &5u32.to_be_bytes()));
        queue.acknowledged(&flags)?;
        Ok(queue)
    }

    /// Waits until a packet is there, at most `patience`.
    pub(super) fn wait(&self, patience: Duration) -> io::Result<()> {
        let mut fds = [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)];
        match ppoll(&mut fds, Some(TimeSpec::from_duration(patience)), None) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes what is there.
    pub(super) fn receive(&self) -> io::Result<Received> {
        let mut received = Received::default();
        let mut buffer = [0; 2048];
        while received.packets.len() < BATCH_MAX {
            match recv(self.fd.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(length) => received.packets.extend(messages(&buffer[..length]).filter_map(packet)),
                Err(Errno::EAGAIN) => break,
                Err(Errno::ENOBUFS) => received.overruns += 1,
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(received)
    }

    /// Lets packets go, in this order.
    pub(super) fn accept(&self, ids: &[u32]) -> io::Result<()> {
        for some in ids.chunks(128) {
            let mut batch = Vec::with_capacity(some.len() * 32);
            for id in some {
                let mut header = 1u32.to_be_bytes().to_vec(); // NF_ACCEPT
                header.extend(id.to_be_bytes());
                batch.extend(self.message(VERDICT, FLAG_REQUEST, &attribute(2, &header)));
            }
            send(self.fd.as_raw_fd(), &batch, MsgFlags::empty())?;
        }
        Ok(())
    }

    fn configure(&self, kind: u16, value: &[u8]) -> io::Result<()> {
        self.acknowledged(&attribute(kind, value))
    }

    fn acknowledged(&self, attributes: &[u8]) -> io::Result<()> {
        let message = self.message(CONFIG, FLAG_REQUEST | FLAG_ACKNOWLEDGE, attributes);
        send(self.fd.as_raw_fd(), &message, MsgFlags::empty())?;
        let mut buffer = [0; 2048];
        let length = recv(self.fd.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        let reply = messages(&buffer[..length]).find(|(kind, _body)| *kind == TYPE_ERROR);
        let code = reply
            .and_then(|(_kind, body)| body.first_chunk::<4>())
            .map(|bytes| i32::from_ne_bytes(*bytes));
        match code {
            Some(0) => Ok(()),
            Some(code) => Err(io::Error::from_raw_os_error(-code)),
            None => Err(io::Error::new(
                ErrorKind::InvalidData,
                "no acknowledgement of a queue's configuration",
            )),
        }
    }

    fn message(&self, kind: u8, flags: u16, attributes: &[u8]) -> Vec<u8> {
        let mut message = Vec::with_capacity(20 + attributes.len());
        message.extend((20 + attributes.len() as u32).to_ne_bytes());
        message.extend((TYPE_PACKET | u16::from(kind)).to_ne_bytes());
        message.extend(flags.to_ne_bytes());
        message.extend([0; 8]); // sequence and port: neither is used
        message.extend([0, 0]); // any family, version 0
        message.extend(self.number.to_be_bytes());
        message.extend(attributes);
        message
    }
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut attribute = Vec::with_capacity(8 + value.len());
    attribute.extend((4 + value.len() as u16).to_ne_bytes());
    attribute.extend(kind.to_ne_bytes());
    attribute.extend(value);
    attribute.resize(attribute.len().next_multiple_of(4), 0);
    attribute
}

/// Splits a datagram into messages: type and what follows the netlink header.
fn messages(mut datagram: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(*datagram.first_chunk()?) as usize;
        let kind = u16::from_ne_bytes(datagram.get(4..6)?.try_into().ok()?);
        let body = datagram.get(16..length)?;
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, body))
    })
}

/// Splits what follows the queue's own header into attributes: type and value.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(*bytes.first_chunk()?));
        let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?) & 0x3fff;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn packet((kind, body): (u16, &[u8])) -> Option<Packet> {
    if kind != TYPE_PACKET {
        return None;
    }
    let mut id = None;
    let mut flow = 0;
    for (kind, value) in attributes(body.get(4..)?) {
        match kind {
            1 => id = value.first_chunk().map(|bytes| u32::from_be_bytes(*bytes)),
            10 => flow = flow_of(value).unwrap_or(0),
            _ => {} // what else the kernel tells of a packet, in numbers of its own
        }
    }
    Some(Packet { id: id?, flow })
}

/// Both addresses and both ports of an IPv4 packet, mixed into one number: packets of a flow stay in order, and two
/// flows that collide merely wait for each other.
fn flow_of(ip: &[u8]) -> Option<u64> {
    let header = usize::from(ip.first()? & 0xf) * 4;
    let address = |at: usize| ip.get(at..at + 4)?.first_chunk::<4>().copied().map(Ipv4Addr::from);
    let ports = u32::from_be_bytes(*ip.get(header..)?.first_chunk()?);
    let addresses = u64::from(address(12)?.to_bits()) << 32 | u64::from(address(16)?.to_bits());
    Some(
        (addresses ^ u64::from(ports))
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(29)
            ^ u64::from(ports),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_message_is_read_back() {
        let mut body = vec![2, 0, 0, 7];
        body.extend(attribute(1, &[0, 0, 0, 9, 8, 0, 1]));
        let mut datagram = (16 + body.len() as u32).to_ne_bytes().to_vec();
        datagram.extend(TYPE_PACKET.to_ne_bytes());
        datagram.extend([0; 10]);
        datagram.extend(body);
        let packets: Vec<_> = messages(&datagram).filter_map(packet).collect();
        assert_eq!(packets, [Packet { id: 9, flow: 0 }]);
    }

    #[test]
    fn garbage_is_no_packet() {
        assert_eq!(messages(&[1, 2, 3]).filter_map(packet).count(), 0);
        assert_eq!(messages(&[255; 64]).filter_map(packet).count(), 0);
        assert_eq!(flow_of(&[0x45, 0, 0]), None);
    }
}
