//! Effects that show on the wire: connections that open, refuse or stay silent, datagrams that arrive or do not.
//!
//! Datagrams go between sockets opened for the purpose, so that no server answers or logs them and no closed port
//! refuses them.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use crate::target::namespace::run_in_netns;
use crate::target::{Dial, NetnsFd, PodHandle};

use super::super::filter;
use super::super::journal::InjectionId;
use super::super::kind::{FaultDirection, FilterAction, PacketScope};
use super::super::packets::Way;
use super::super::shape;
use super::super::surroundings::Surroundings;
use super::vantage::{Route, other_end, route};
use super::{Measurement, Reading, Subject};

/// A server on the same machine answers a SYN in microseconds; one that has not by now does not.
pub(super) const SILENCE: Duration = Duration::from_millis(180);
/// Datagrams lost on average in a measurement of loss: with ten, the chance to see none is below 1 in 20,000.
const LOST_MEAN: f64 = 10.0;
/// Of a datagram of the bandwidth measurement.
const DATAGRAM_BYTES: usize = 1400;
/// Share by which a measured rate may exceed the limit: timers are coarse and bursts are whole packets.
const RATE_TOLERANCE: f64 = 1.25;

/// One pod, looked at from outside.
pub(super) struct Look<'a> {
    pub(super) pod: &'a PodHandle,
    pub(super) surroundings: &'a Surroundings,
}

impl Look<'_> {
    /// Physics: behind a drop rule a SYN has no answer at all; a reject rule answers in the server's place (or, on the
    /// way out, takes the answer away). Either way the fault's own rules count the packet.
    pub(super) fn filter(&self, action: FilterAction, scope: &PacketScope, id: &InjectionId) -> Measurement {
        let answer = connect(&route(self.pod, scope, self.surroundings)?, SILENCE)?;
        // No table: the rules are gone, or not there yet.
        let hit = filter::packets_hit(&self.pod.netns, &id.0).unwrap_or(0);
        let blocked = match (action, &answer) {
            (_, Answer::Silence) | (FilterAction::Reject, Answer::Refusal) => true,
            (FilterAction::Drop, Answer::Refusal) | (_, Answer::Opened(_)) => false,
        };
        let measured = format!("{}: a connection {answer}, the rules hit {hit} packets", self.pod.name);
        Ok(Reading {
            bites: blocked && hit > 0,
            measured,
        })
    }

    /// Physics: each datagram is lost with the ratio's probability, so their number lies within the binomial bounds.
    pub(super) fn loss(&self, ratio: f64, scope: &PacketScope) -> Measurement {
        let count = (LOST_MEAN / ratio.max(0.01)).ceil().clamp(20.0, 500.0) as usize;
        let (low, high) = binomial_bounds(count, ratio);
        let mut reading = Reading {
            bites: true,
            measured: format!("{}:", self.pod.name),
        };
        for way in scope.direction.ways() {
            let flight = Flight {
                count,
                bytes: 32,
                port: scope.port.unwrap_or(0),
                pause_every: 16,
            };
            let arrived = self.fly(*way, scope, &flight)?.count;
            let lost = count.saturating_sub(arrived);
            reading.bites &= lost >= low.max(1) && lost <= high;
            reading.measured += &format!(
                " {lost} of {count} datagrams lost {} (expected {low} to {high})",
                way.words()
            );
        }
        Ok(reading)
    }

    /// Physics: opening a connection takes one packet each way, so the delay of each way is a floor of its duration.
    pub(super) fn delay(&self, delay: Duration, jitter: Duration, scope: &PacketScope) -> Measurement {
        let route = route(self.pod, scope, self.surroundings)?;
        let ways = scope.direction.ways().len() as u32;
        let floor = ways * delay.saturating_sub(jitter).max(delay / 10);
        let patience = ways * (delay + jitter) + SILENCE;
        let mut shortest = None;
        for _attempt in 0..2 {
            if let Answer::Opened(took) = connect(&route, patience)? {
                shortest = Some(shortest.unwrap_or(took).min(took));
            }
        }
        let shortest = shortest.ok_or_else(|| format!("{}: no connection opens", self.pod.name))?;
        let measured = format!(
            "{}: a connection opens in {shortest:.1?}, floor {floor:.1?}",
            self.pod.name
        );
        Ok(Reading {
            bites: shortest >= floor && !floor.is_zero(),
            measured,
        })
    }

    /// Physics: what exceeds the bucket passes at the limit's rate. Datagrams, because their rate does not depend on
    /// round trips; little enough to wait in the limit's own queue for 50 ms.
    pub(super) fn bandwidth(&self, bits_per_second: u64, direction: FaultDirection) -> Measurement {
        let bucket = shape::bucket_bytes(bits_per_second);
        let bytes = bucket + (bits_per_second / 8 / 20).max(4_000);
        let mut reading = Reading {
            bites: true,
            measured: format!("{}:", self.pod.name),
        };
        let everything = PacketScope {
            direction,
            port: None,
            peer: None,
        };
        for way in direction.ways() {
            let count = bytes.div_ceil(DATAGRAM_BYTES as u64) as usize;
            let flight = Flight {
                count,
                bytes: DATAGRAM_BYTES,
                port: 0,
                pause_every: usize::MAX,
            };
            let arrivals = self.fly(*way, &everything, &flight)?;
            let beyond = (arrivals.bytes as u64).saturating_sub(bucket);
            if beyond == 0 {
                return Err(format!(
                    "{}: too few datagrams arrived {} to tell a rate",
                    self.pod.name,
                    way.words()
                ));
            }
            let rate = beyond as f64 * 8.0 / arrivals.span.as_secs_f64().max(1e-6);
            reading.bites &= rate <= bits_per_second as f64 * RATE_TOLERANCE;
            reading.measured += &format!(
                " {:.2} Mbit/s {} (limit {:.2})",
                rate / 1e6,
                way.words(),
                bits_per_second as f64 / 1e6
            );
        }
        Ok(reading)
    }

    /// Whether the pod's port does not open.
    pub(super) fn unreachable(&self) -> Measurement {
        let from = other_end(self.pod, None, self.surroundings)?.netns;
        let answer = connect(
            &Route {
                from,
                to: (self.pod.ip, self.pod.port).into(),
            },
            SILENCE,
        )?;
        let bites = !matches!(answer, Answer::Opened(_));
        Ok(Reading {
            bites,
            measured: format!("{}: a connection {answer}", self.pod.name),
        })
    }

    fn fly(&self, way: Way, scope: &PacketScope, flight: &Flight) -> Result<Arrivals, String> {
        let other = other_end(self.pod, Some(scope), self.surroundings)?;
        let (from, to, ip) = match way {
            Way::In => (&other.netns, &self.pod.netns, self.pod.ip),
            Way::Out => (&self.pod.netns, &other.netns, other.ip),
        };
        flight
            .fly(from, to, ip)
            .map_err(|error| format!("{}: datagrams cannot be sent: {error}", self.pod.name))
    }
}

/// Physics: behind a wrong port nobody listens, so the virtual address refuses, or is silent where a filter stands.
pub(super) fn wrong_port(dial: Option<Dial>, subject: &Subject, around: &Surroundings) -> Measurement {
    let service = subject.fault.service.as_ref().ok_or("the fault names no service")?;
    let dial = dial.ok_or_else(|| format!("service {service} has no virtual address"))?;
    let caller = around
        .pods
        .iter()
        .find(|pod| pod.service != *service)
        .map(|pod| pod.netns.clone());
    let from = caller.or_else(|| around.nodes.first().map(|node| node.netns.clone()));
    let from = from.ok_or("nobody is there to measure from")?;
    let answer = connect(
        &Route {
            from,
            to: SocketAddr::new(dial.ip, dial.port),
        },
        SILENCE,
    )?;
    let bites = !matches!(answer, Answer::Opened(_));
    Ok(Reading {
        bites,
        measured: format!("{service}: a connection to its virtual address {answer}"),
    })
}

#[derive(Debug)]
pub(super) enum Answer {
    Opened(Duration),
    Refusal,
    Silence,
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Opened(took) => write!(f, "opens in {took:.1?}"),
            Self::Refusal => f.write_str("is refused"),
            Self::Silence => f.write_str("has no answer"),
        }
    }
}

pub(super) fn connect(route: &Route, patience: Duration) -> Result<Answer, String> {
    let attempt = || {
        let started = Instant::now();
        (
            TcpStream::connect_timeout(&route.to, patience).map(drop),
            started.elapsed(),
        )
    };
    let (opened, took) = run_in_netns(&route.from, attempt).map_err(|error| error.to_string())?;
    match opened {
        Ok(()) => Ok(Answer::Opened(took)),
        Err(error) => match error.kind() {
            ErrorKind::TimedOut | ErrorKind::WouldBlock => Ok(Answer::Silence),
            // An ICMP error of a reject rule arrives as "unreachable", that of a local rule as "not permitted".
            ErrorKind::ConnectionRefused
            | ErrorKind::ConnectionReset
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable => Ok(Answer::Refusal),
            // A local drop rule fails the call only after its retransmissions, but says so in between.
            ErrorKind::PermissionDenied => Ok(Answer::Silence),
            _ => Err(format!("a connection to {} failed: {error}", route.to)),
        },
    }
}

/// Datagrams from one place to another.
struct Flight {
    count: usize,
    bytes: usize,
    /// Port that the sender uses, for scopes that look at it; 0: any.
    port: u16,
    /// After so many, a pause of a millisecond.
    pause_every: usize,
}

struct Arrivals {
    count: usize,
    bytes: usize,
    /// From the first to the last.
    span: Duration,
}

impl Flight {
    fn fly(&self, from: &NetnsFd, to: &NetnsFd, ip: Ipv4Addr) -> std::io::Result<Arrivals> {
        let bound = |netns, port| run_in_netns(netns, || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)));
        let receiver = bound(to, 0).map_err(std::io::Error::other)??;
        let sender = bound(from, self.port).map_err(std::io::Error::other)??;
        let _default_remains =
            nix::sys::socket::setsockopt(&receiver, nix::sys::socket::sockopt::RcvBufForce, &(32 << 20));
        let target = SocketAddr::new(ip.into(), receiver.local_addr()?.port());
        std::thread::scope(|scope| {
            let arrivals = scope.spawn(|| self.receive(&receiver));
            let payload = vec![0; self.bytes];
            for index in 1..=self.count {
                // A full queue refuses a datagram: that is a loss like any other, and is counted as one.
                let _lost = sender.send_to(&payload, target);
                if index % self.pause_every == 0 {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            arrivals
                .join()
                .unwrap_or_else(|_| Err(std::io::Error::other("the receiver panicked")))
        })
    }

    fn receive(&self, receiver: &UdpSocket) -> std::io::Result<Arrivals> {
        let mut buffer = [0; 2048];
        let mut arrivals = Arrivals {
            count: 0,
            bytes: 0,
            span: Duration::ZERO,
        };
        let (mut first, deadline) = (None, Instant::now() + Duration::from_secs(2));
        // Delayed datagrams may be on their way for long, but later ones follow closely.
        receiver.set_read_timeout(Some(Duration::from_millis(500)))?;
        while arrivals.count < self.count && Instant::now() < deadline {
            match receiver.recv(&mut buffer) {
                Ok(length) => {
                    arrivals.count += 1;
                    arrivals.bytes += length;
                    let now = Instant::now();
                    arrivals.span = now.duration_since(*first.get_or_insert(now));
                    if arrivals.count == 1 {
                        receiver.set_read_timeout(Some(Duration::from_millis(120)))?;
                    }
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(arrivals)
    }
}

/// Between these lies the number of hits of `count` throws in 999 of 1000 cases.
fn binomial_bounds(count: usize, ratio: f64) -> (usize, usize) {
    if ratio >= 1.0 {
        return (count, count);
    }
    if ratio <= 0.0 {
        return (0, 0);
    }
    const TAIL: f64 = 0.000_5;
    // ln of the probability of k hits, from that of k - 1: stable where the probability itself is not.
    let odds = (ratio / (1.0 - ratio)).ln();
    let mut logarithm = count as f64 * (1.0 - ratio).ln();
    let (mut below, mut low) = (0.0, None);
    for hits in 0..=count {
        if hits > 0 {
            logarithm += odds + ((count - hits + 1) as f64).ln() - (hits as f64).ln();
        }
        below += logarithm.exp();
        if low.is_none() && below > TAIL {
            low = Some(hits);
        }
        if below >= 1.0 - TAIL {
            return (low.unwrap_or(0), hits);
        }
    }
    (low.unwrap_or(0), count)
}

impl Way {
    const fn words(self) -> &'static str {
        match self {
            Self::In => "on the way in",
            Self::Out => "on the way out",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_those_of_the_tables() {
        assert_eq!(binomial_bounds(100, 0.5), (34, 66));
        assert_eq!(binomial_bounds(20, 1.0), (20, 20));
        let (low, high) = binomial_bounds(200, 0.05);
        assert!((1..=2).contains(&low) && (20..=23).contains(&high), "{low} to {high}");
    }
}
