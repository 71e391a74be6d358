//! Waits until pods serve, as seen from inside their own network namespace.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RecordType};

use super::keeper::PodNews;
use super::layout::{DNS_SERVICE, PodKind};
use crate::app::spec::ServiceKind;
use crate::target::PodHandle;
use crate::target::namespace::{NamespaceError, run_in_netns};

const TRY_TIMEOUT: Duration = Duration::from_millis(500);
const TRY_INTERVAL: Duration = Duration::from_millis(10);
const HTTP_HEALTH: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: ready\r\nConnection: close\r\n\r\n";
/// Protocol 3.0: length, version, pairs of names and values, each ended by a zero byte. `R` (authentication) is answered
/// by a server that lets us in, `E` by one that is still starting.
const POSTGRES_STARTUP: &[u8] = b"\0\0\0\x29\0\x03\0\0user\0postgres\0database\0postgres\0\0";
const _: () = assert!(POSTGRES_STARTUP.len() == 0x29 && POSTGRES_STARTUP[3] == 0x29);
/// A process that ended this often before it served will not serve.
const ENDINGS_MAX: usize = 4;
const LOG_LINES: usize = 12;

/// A pod does not serve.
#[derive(Debug, thiserror::Error)]
pub enum ReadyError {
    /// Its namespace cannot be entered.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// It did not serve in time.
    #[error("pod {pod} does not serve on {address} after {} ms ({last}); {ending}; the end of its log:\n{log}",
        waited.as_millis())]
    NotServing {
        /// The pod.
        pod: String,
        /// Where it should serve.
        address: SocketAddr,
        /// How long it was waited for.
        waited: Duration,
        /// What the last try met.
        last: io::Error,
        /// What became of its process.
        ending: String,
        /// The last lines of its output.
        log: String,
    },
}

/// Returns when the pod serves, at the latest after `patience`, and sooner if its process ends again and again. Blocks.
pub(super) fn wait(
    pod: &PodHandle,
    kind: PodKind,
    patience: Duration,
    news: &PodNews,
    log: &Path,
) -> Result<(), Box<ReadyError>> {
    let address = SocketAddr::from((pod.ip, pod.port));
    let begun = Instant::now();
    let served = run_in_netns(&pod.netns, || {
        loop {
            let tried = match kind {
                PodKind::Dns => ask_own_name(address),
                PodKind::App(ServiceKind::Http) => ask(address, HTTP_HEALTH, b"HTTP/1.1 200"),
                PodKind::App(ServiceKind::Redis) => ask(address, b"PING\r\n", b"+PONG"),
                PodKind::App(ServiceKind::Postgres) => ask(address, POSTGRES_STARTUP, b"R"),
            };
            match tried {
                Ok(()) => return Ok(()),
                Err(error) if begun.elapsed() >= patience || news.endings() >= ENDINGS_MAX => return Err(error),
                Err(_) => std::thread::sleep(TRY_INTERVAL),
            }
        }
    })
    .map_err(ReadyError::from)?;
    served.map_err(|last| {
        Box::new(ReadyError::NotServing {
            pod: pod.name.to_string(),
            address,
            waited: begun.elapsed(),
            last,
            ending: match news.last_ending() {
                ending if ending.is_empty() => "its process runs".to_owned(),
                ending => ending,
            },
            log: tail(log),
        })
    })
}

/// Says `question` on a new connection; fails unless the answer begins with `expected`. A listening port is not enough:
/// servers listen before they serve.
fn ask(server: SocketAddr, question: &[u8], expected: &[u8]) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&server, TRY_TIMEOUT)?;
    stream.set_read_timeout(Some(TRY_TIMEOUT))?;
    stream.set_write_timeout(Some(TRY_TIMEOUT))?;
    stream.write_all(question)?;
    let mut answer = vec![0; expected.len()];
    stream.read_exact(&mut answer)?;
    if answer == expected {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "it answers {:?}",
        String::from_utf8_lossy(&answer)
    )))
}

fn ask_own_name(server: SocketAddr) -> io::Result<()> {
    let mut question = Message::new();
    let name = Name::from_ascii(DNS_SERVICE).map_err(io::Error::other)?;
    question.set_id(1).add_query(Query::query(name, RecordType::A));
    let socket = UdpSocket::bind((std::net::Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(TRY_TIMEOUT))?;
    socket.send(&question.to_vec().map_err(io::Error::other)?)?;
    let mut buffer = [0; 512];
    let length = socket.recv(&mut buffer)?;
    let answer = Message::from_vec(&buffer[..length]).map_err(io::Error::other)?;
    if answer.answers().is_empty() {
        Err(io::Error::other("the name server does not know itself"))
    } else {
        Ok(())
    }
}

/// The last lines of a pod's output.
#[must_use]
pub fn tail(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines = text.lines().collect::<Vec<_>>();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}
