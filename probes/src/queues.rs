//! What waits in sockets for their processes, as the kernel's socket diagnostics tell it: asked of the one socket in
//! question, in its namespace, so that no program need run whenever a process reads.
//!
//! Does not choose whom to ask, nor say how long something has waited.

use std::collections::HashMap;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

use gauntlet_abi::conn::Conn;
use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP, TCP_ESTABLISHED};
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, InetResponseHeader, SocketId, StateFlags};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

use crate::capability::{Capability, HookState};
use crate::identity::ip_of;
use crate::namespace;

/// How soon a way into a namespace is looked for again, where none was found: the search goes through all processes.
const SEARCH_PAUSE: Duration = Duration::from_secs(5);
/// An answer about one socket is far shorter.
const ANSWER_BYTES_MAX: usize = 4096;

/// What waits at a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Waiting {
    /// Received bytes that the process has not read.
    pub(crate) bytes: u32,
    /// A process has the socket; else it still waits in its listener's queue.
    pub(crate) is_accepted: bool,
}

/// Tells what waits at a socket.
pub(crate) trait Queues {
    /// `None`: it cannot be told, or the socket is gone.
    fn look_up(&mut self, cookie: u64, conn: &Conn) -> Option<Waiting>;
}

/// The kernel's socket diagnostics (`sock_diag`, since 3.3), namespace by namespace.
#[derive(Debug, Default)]
pub(crate) struct SocketDiagnostics {
    namespaces: HashMap<u32, Entrance>,
}

#[derive(Debug)]
enum Entrance {
    Open(OwnedFd),
    NotFound { looked_at: Instant },
}

impl SocketDiagnostics {
    /// Lets go of namespaces that have no connections any more: an open socket would keep them from ending.
    pub(crate) fn retain(&mut self, is_used: impl Fn(u32) -> bool) {
        self.namespaces.retain(|netns, _| is_used(*netns));
    }

    fn entrance(&mut self, netns: u32) -> Option<&OwnedFd> {
        let entrance = self.namespaces.entry(netns).or_insert_with(|| enter(netns));
        if matches!(entrance, Entrance::NotFound { looked_at } if looked_at.elapsed() >= SEARCH_PAUSE) {
            *entrance = enter(netns);
        }
        match entrance {
            Entrance::Open(socket) => Some(socket),
            Entrance::NotFound { looked_at: _ } => None,
        }
    }
}

impl Queues for SocketDiagnostics {
    fn look_up(&mut self, cookie: u64, conn: &Conn) -> Option<Waiting> {
        let id = SocketId {
            source_port: conn.local_port,
            destination_port: conn.remote_port,
            source_address: ip_of(conn.local),
            destination_address: ip_of(conn.remote),
            interface_id: 0,
            cookie: cookie.to_ne_bytes(),
        };
        ask(self.entrance(conn.netns)?, id)
    }
}

fn enter(netns: u32) -> Entrance {
    match namespace::within(netns.into(), || open().ok()) {
        Some(socket) => Entrance::Open(socket),
        None => Entrance::NotFound {
            looked_at: Instant::now(),
        },
    }
}

fn open() -> nix::Result<OwnedFd> {
    socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkSockDiag,
    )
}

/// Asks for exactly the socket `id`. The kernel answers within the call that sends the question.
fn ask(socket: &OwnedFd, id: SocketId) -> Option<Waiting> {
    let family = if id.source_address.is_ipv4() { AF_INET } else { AF_INET6 };
    let request = InetRequest {
        family,
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::empty(),
        states: StateFlags::all(),
        socket_id: id,
    };
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST;
    let mut question = NetlinkMessage::new(header, SockDiagMessage::InetRequest(request).into());
    question.finalize();
    let mut bytes = [0; ANSWER_BYTES_MAX];
    let length = question.buffer_len();
    question.serialize(&mut bytes[..length]);
    send(socket.as_raw_fd(), &bytes[..length], MsgFlags::empty()).ok()?;
    let length = recv(socket.as_raw_fd(), &mut bytes, MsgFlags::MSG_DONTWAIT).ok()?;
    let answer = NetlinkMessage::<SockDiagMessage>::deserialize(&bytes[..length]).ok()?;
    match answer.payload {
        NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) => Some(waiting(&response.header)),
        // The socket is gone.
        _ => None,
    }
}

fn waiting(header: &InetResponseHeader) -> Waiting {
    // The end of the other side's stream takes one number of the sequence, and is counted as if it were a byte.
    let end = u32::from(header.state != TCP_ESTABLISHED);
    Waiting {
        bytes: header.recv_queue.saturating_sub(end),
        is_accepted: header.inode != 0,
    }
}

/// Whether the kernel tells, tried on a connection of our own.
pub(crate) fn capability() -> Capability {
    Capability {
        program: "receive_queues",
        hook: "sock_diag",
        essential: false,
        state: match try_out() {
            Ok(()) => HookState::Attached { via: "netlink" },
            Err(why) => HookState::Missing { why },
        },
        absence_costs: "hung servers",
    }
}

fn try_out() -> Result<(), String> {
    let connection = || -> std::io::Result<_> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let client = TcpStream::connect(listener.local_addr()?)?;
        Ok((client.peer_addr()?, client.local_addr()?, client, listener))
    };
    let (server, client, _stream, _listener) =
        connection().map_err(|error| format!("no connection to try it on: {error}"))?;
    let socket = open().map_err(|error| error.to_string())?;
    let id = SocketId {
        source_port: server.port(),
        destination_port: client.port(),
        source_address: server.ip(),
        destination_address: client.ip(),
        interface_id: 0,
        // Any: `INET_DIAG_NOCOOKIE`.
        cookie: [0xff; 8],
    };
    match ask(&socket, id) {
        Some(Waiting {
            bytes: 0,
            is_accepted: false,
        }) => Ok(()),
        Some(other) => Err(format!("it tells {other:?} of a connection that nobody has accepted")),
        None => Err("it does not tell".to_owned()),
    }
}
