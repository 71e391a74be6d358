//! Addresses of services: from a name server over UDP, or from a table in tests.
//!
//! Like most services, it asks at each new connection and keeps an answer for about a second. It does not keep failures,
//! and does not ask for IPv6.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::net::UdpSocket;
use tokio::time::timeout;

/// How long an answer is used.
const KEEP: Duration = Duration::from_secs(1);
/// How long one try waits.
const TRY_TIMEOUT: Duration = Duration::from_secs(1);
/// How often it asks.
const TRY_COUNT: u32 = 2;
/// Bound of kept answers; there are as many names as services and replicas.
const KEPT_COUNT_MAX: usize = 1024;
/// Bound of an answer over UDP.
const ANSWER_BYTES_MAX: usize = 1500;

/// Why a name has no address.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// Not a host name.
    #[error("`{name}` is not a host name")]
    Name {
        /// The name.
        name: String,
    },
    /// The server says that there is none.
    #[error("`{name}` has no address ({answer})")]
    Absent {
        /// The name.
        name: String,
        /// The answer's code.
        answer: String,
    },
    /// No answer.
    #[error("the name server {server} did not answer for `{name}`")]
    NoAnswer {
        /// The name.
        name: String,
        /// The server.
        server: SocketAddr,
        /// What the last try saw, when it was not silence.
        #[source]
        source: Option<std::io::Error>,
    },
}

/// Gives addresses of services.
#[derive(Debug)]
pub enum Resolver {
    /// From a name server.
    Dns(DnsResolver),
    /// From a table of whole addresses, by name.
    Table(BTreeMap<String, SocketAddr>),
}

impl Resolver {
    /// Asks the name server at `server`; names are those of the domain `search`, if there is one.
    #[must_use]
    pub fn dns(server: SocketAddr, search: Option<String>) -> Self {
        Self::Dns(DnsResolver {
            server,
            search,
            next_id: AtomicU16::new(1),
            kept: Mutex::default(),
        })
    }

    /// Where to dial the service called `name`; a table has ports of its own.
    ///
    /// # Errors
    /// When the name has no address or nobody says so.
    pub async fn resolve(&self, name: &str, port: u16) -> Result<SocketAddr, ResolveError> {
        match self {
            Self::Dns(dns) => dns.resolve(name).await.map(|ip| SocketAddr::from((ip, port))),
            Self::Table(table) => table.get(name).copied().ok_or_else(|| ResolveError::Absent {
                name: name.to_owned(),
                answer: "not in the table".to_owned(),
            }),
        }
    }
}

/// Asks one name server.
#[derive(Debug)]
pub struct DnsResolver {
    server: SocketAddr,
    search: Option<String>,
    next_id: AtomicU16,
    kept: Mutex<BTreeMap<String, (Instant, Ipv4Addr)>>,
}

impl DnsResolver {
    async fn resolve(&self, name: &str) -> Result<Ipv4Addr, ResolveError> {
        if let Some(ip) = self.kept(name) {
            return Ok(ip);
        }
        let mut last = None;
        for _ in 0..TRY_COUNT {
            match timeout(TRY_TIMEOUT, self.ask(name)).await {
                Ok(Ok(ip)) => {
                    self.keep(name, ip);
                    return Ok(ip);
                }
                Ok(Err(AskError::Final(error))) => return Err(error),
                Ok(Err(AskError::Io(error))) => last = Some(error),
                Err(_elapsed) => last = None,
            }
        }
        Err(ResolveError::NoAnswer {
            name: name.to_owned(),
            server: self.server,
            source: last,
        })
    }

    fn kept(&self, name: &str) -> Option<Ipv4Addr> {
        let kept = self.kept.lock().expect("no panic while held");
        kept.get(name)
            .filter(|(until, _)| Instant::now() < *until)
            .map(|(_, ip)| *ip)
    }

    fn keep(&self, name: &str, ip: Ipv4Addr) {
        let mut kept = self.kept.lock().expect("no panic while held");
        if kept.len() >= KEPT_COUNT_MAX {
            kept.clear();
        }
        kept.insert(name.to_owned(), (Instant::now() + KEEP, ip));
    }

    async fn ask(&self, name: &str) -> Result<Ipv4Addr, AskError> {
        let not_a_name = || AskError::Final(ResolveError::Name { name: name.to_owned() });
        let whole = match &self.search {
            Some(domain) => format!("{name}.{domain}"),
            None => name.to_owned(),
        };
        let mut fqdn = Name::from_ascii(whole).map_err(|_| not_a_name())?;
        fqdn.set_fqdn(true);
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let mut question = Message::new();
        question
            .set_id(id)
            .set_message_type(MessageType::Query)
            .set_op_code(OpCode::Query)
            .set_recursion_desired(true);
        question.add_query(Query::query(fqdn, RecordType::A));
        let bytes = question.to_vec().map_err(|_| not_a_name())?;
        // A socket for each question, connected: another server's answer is not heard, and a closed port is.
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))
            .await
            .map_err(AskError::Io)?;
        socket.connect(self.server).await.map_err(AskError::Io)?;
        socket.send(&bytes).await.map_err(AskError::Io)?;
        let mut buffer = [0_u8; ANSWER_BYTES_MAX];
        loop {
            let length = socket.recv(&mut buffer).await.map_err(AskError::Io)?;
            if let Ok(answer) = Message::from_vec(&buffer[..length])
                && answer.id() == id
                && answer.message_type() == MessageType::Response
            {
                return address(name, &answer);
            }
        }
    }
}

enum AskError {
    /// Asking again would not help.
    Final(ResolveError),
    Io(std::io::Error),
}

fn address(name: &str, answer: &Message) -> Result<Ipv4Addr, AskError> {
    let ip = answer.answers().iter().find_map(|record| match record.data() {
        RData::A(a) => Some(a.0),
        _other_types => None,
    });
    match (answer.response_code(), ip) {
        (ResponseCode::NoError, Some(ip)) => Ok(ip),
        // The server has a problem of its own: the next try may fare better.
        (ResponseCode::ServFail, _) => Err(AskError::Io(std::io::Error::other("the name server answered SERVFAIL"))),
        (code, _) => Err(AskError::Final(ResolveError::Absent {
            name: name.to_owned(),
            answer: code.to_string(),
        })),
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::Record;
    use hickory_proto::rr::rdata::A;

    use super::*;

    /// A name server that ignores the first question and knows one name.
    async fn serve(socket: UdpSocket, question_count: usize) {
        let mut buffer = [0; ANSWER_BYTES_MAX];
        for index in 0..question_count {
            let (length, asker) = socket.recv_from(&mut buffer).await.expect("a question");
            let mut answer = Message::from_vec(&buffer[..length]).expect("a message");
            let name = answer.query().expect("a question").name().clone();
            answer.set_message_type(MessageType::Response);
            if name.to_ascii() == "db." {
                answer.add_answer(Record::from_rdata(name, 5, RData::A(A(Ipv4Addr::new(10, 1, 2, 3)))));
            } else {
                answer.set_response_code(ResponseCode::NXDomain);
            }
            if index > 0 {
                socket
                    .send_to(&answer.to_vec().expect("encodable"), asker)
                    .await
                    .expect("sent");
            }
        }
    }

    #[tokio::test]
    async fn asks_again_after_silence_keeps_answers_and_believes_a_no() {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let resolver = Resolver::dns(socket.local_addr().expect("bound"), None);
        let server = tokio::spawn(serve(socket, 3));
        let started = Instant::now();
        let expected = SocketAddr::from(([10, 1, 2, 3], 5432));
        assert_eq!(
            resolver.resolve("db", 5432).await.expect("the second try is answered"),
            expected
        );
        assert!(started.elapsed() >= TRY_TIMEOUT);
        // Kept: no question is asked.
        assert_eq!(resolver.resolve("db", 5432).await.expect("kept"), expected);
        let error = resolver.resolve("bd", 5432).await.expect_err("no such name");
        assert!(matches!(error, ResolveError::Absent { .. }), "{error}");
        server.await.expect("three questions were asked");
    }

    #[tokio::test]
    async fn a_name_is_looked_for_in_the_search_domain() {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let server = socket.local_addr().expect("bound");
        let resolver = Resolver::dns(server, Some("shop.svc.cluster.local".to_owned()));
        let asked = tokio::spawn(async move {
            let mut buffer = [0; ANSWER_BYTES_MAX];
            let (length, _asker) = socket.recv_from(&mut buffer).await.expect("a question");
            let question = Message::from_vec(&buffer[..length]).expect("a message");
            question.query().expect("a question").name().to_ascii()
        });
        let _unanswered = timeout(Duration::from_millis(500), resolver.resolve("cache-0", 6379)).await;
        assert_eq!(asked.await.expect("asked"), "cache-0.shop.svc.cluster.local.");
    }

    #[tokio::test]
    async fn a_closed_port_is_not_waited_for() {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let resolver = Resolver::dns(socket.local_addr().expect("bound"), None);
        drop(socket);
        let started = Instant::now();
        let error = resolver.resolve("db", 5432).await.expect_err("nobody answers");
        assert!(
            matches!(error, ResolveError::NoAnswer { source: Some(_), .. }),
            "{error}"
        );
        assert!(started.elapsed() < TRY_TIMEOUT);
    }
}
