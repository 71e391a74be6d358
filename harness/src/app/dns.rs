//! The cluster's name server: answers names of services from a file of records, and nothing else.
//!
//! It has no upstream: a name that is not in the file does not exist. UDP only.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;

use anyhow::Context;
use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{DNSClass, RData, Record, RecordType};

/// Seconds for which an answer may be kept.
const TIME_TO_LIVE_SECONDS: u32 = 5;

/// Arguments of the name server.
#[derive(Clone, Debug, clap::Args)]
pub struct DnsArgs {
    /// JSON object: name to IPv4 address.
    #[arg(long)]
    pub records: PathBuf,
    /// Address and port on which it answers.
    #[arg(long)]
    pub listen: SocketAddr,
}

/// Names, lower case and without a final dot, and their addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Records(pub BTreeMap<String, Ipv4Addr>);

/// Serves until it is killed.
pub fn run(args: &DnsArgs) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(&args.records)
        .with_context(|| format!("failed to read records from {}", args.records.display()))?;
    let records: Records = serde_json::from_str(&text)
        .with_context(|| format!("failed to parse records in {}", args.records.display()))?;
    let socket = UdpSocket::bind(args.listen).with_context(|| format!("failed to listen on {}", args.listen))?;
    let mut buffer = [0; 1232];
    loop {
        let (length, client) = match socket.recv_from(&mut buffer) {
            Ok(received) => received,
            // An ICMP error for an earlier answer is reported here; it concerns a client that has gone.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => continue,
            Err(error) => return Err(error).context("failed to receive a question"),
        };
        if let Some(answer) = answer(&records, &buffer[..length]) {
            // A client that cannot be reached asks again.
            let _ = socket.send_to(&answer, client);
        }
    }
}

/// The answer to a message; `None` if it is no question.
#[must_use]
pub fn answer(records: &Records, question: &[u8]) -> Option<Vec<u8>> {
    let question = Message::from_vec(question).ok()?;
    if question.message_type() != MessageType::Query {
        return None;
    }
    let mut answer = Message::new();
    answer
        .set_id(question.id())
        .set_message_type(MessageType::Response)
        .set_op_code(question.op_code())
        .set_authoritative(true)
        .set_recursion_desired(question.recursion_desired())
        .add_queries(question.queries().iter().cloned());
    let code = match question.queries() {
        _ if question.op_code() != OpCode::Query => ResponseCode::NotImp,
        [query] if query.query_class() == DNSClass::IN => {
            let name = query.name().to_ascii().to_ascii_lowercase();
            match records.0.get(name.trim_end_matches('.')) {
                Some(&address) => {
                    if matches!(query.query_type(), RecordType::A | RecordType::ANY) {
                        let data = RData::A(A(address));
                        answer.add_answer(Record::from_rdata(query.name().clone(), TIME_TO_LIVE_SECONDS, data));
                    }
                    ResponseCode::NoError
                }
                None => ResponseCode::NXDomain,
            }
        }
        [_] => ResponseCode::Refused,
        _ => ResponseCode::FormErr,
    };
    answer.set_response_code(code);
    answer.to_vec().ok()
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use hickory_proto::op::Query;
    use hickory_proto::rr::Name;

    use super::*;

    fn check(name: &str, kind: RecordType, code: ResponseCode, addresses: &[Ipv4Addr]) {
        let records = Records(BTreeMap::from([("cache-0".to_owned(), Ipv4Addr::new(10, 96, 1, 2))]));
        let mut question = Message::new();
        question
            .set_id(7)
            .add_query(Query::query(Name::from_str(name).unwrap(), kind));
        let answer = Message::from_vec(&answer(&records, &question.to_vec().unwrap()).unwrap()).unwrap();
        let found: Vec<_> = answer
            .answers()
            .iter()
            .filter_map(|record| record.data().as_a().map(|a| a.0))
            .collect();
        assert_eq!(
            (answer.id(), answer.response_code(), found.as_slice()),
            (7, code, addresses)
        );
    }

    #[test]
    fn answers_the_names_it_was_given_and_no_others() {
        let known = [Ipv4Addr::new(10, 96, 1, 2)];
        check("cache-0.", RecordType::A, ResponseCode::NoError, &known);
        check("Cache-0", RecordType::A, ResponseCode::NoError, &known);
        check("cache-0.", RecordType::AAAA, ResponseCode::NoError, &[]);
        check("cache-1.", RecordType::A, ResponseCode::NXDomain, &[]);
    }

    #[test]
    fn stays_silent_on_what_is_no_question() {
        assert_eq!(answer(&Records::default(), b"GET / HTTP/1.1"), None);
        assert_eq!(answer(&Records::default(), &[]), None);
    }
}
