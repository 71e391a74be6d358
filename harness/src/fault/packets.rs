//! Which packets a network fault concerns, with all names resolved, and how each kernel language says so.
//!
//! Always TCP and UDP over IPv4 and never anything else, so that ARP and ICMP live and only the fault's own signature shows.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::kind::FaultDirection;

/// Packets of one direction, as seen from the pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PacketMatch {
    /// Into the pod, or out of it.
    pub way: Way,
    /// This port at either end; `None`: all.
    pub port: Option<u16>,
    /// One of these addresses at the other end; empty: all.
    pub peers: Vec<Ipv4Addr>,
}

/// One direction, as seen from the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// Into the pod.
    In,
    /// Out of the pod.
    Out,
}

impl FaultDirection {
    /// The ways that it stands for.
    #[must_use]
    pub const fn ways(self) -> &'static [Way] {
        match self {
            Self::Ingress => &[Way::In],
            Self::Egress => &[Way::Out],
            Self::Both => &[Way::In, Way::Out],
        }
    }
}

/// An address of the documentation range (RFC 5737): packets of a placebo are matched against it, and there are none.
pub const NOBODY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// Most peers that one match may name: a jump of classic BPF spans 255 instructions.
pub const PEERS_MAX: usize = 200;

impl PacketMatch {
    /// The match as conditions of nftables rules, one per rule.
    pub(crate) fn nft_conditions(&self) -> Vec<String> {
        let (interface, address) = match self.way {
            Way::In => ("iifname \"eth0\"", "saddr"),
            Way::Out => ("oifname \"eth0\"", "daddr"),
        };
        let mut common = interface.to_owned();
        if !self.peers.is_empty() {
            let peers: Vec<String> = self.peers.iter().map(ToString::to_string).collect();
            let _infallible = write!(common, " ip {address} {{ {} }}", peers.join(", "));
        }
        let protocols = ["tcp", "udp"];
        match self.port {
            None => protocols
                .map(|protocol| format!("{common} meta l4proto {protocol}"))
                .into(),
            Some(port) => protocols
                .iter()
                .flat_map(|protocol| ["dport", "sport"].map(|end| format!("{common} {protocol} {end} {port}")))
                .collect(),
        }
    }

    /// The match as arguments of iptables rules, one per rule.
    pub(crate) fn iptables_conditions(&self) -> Vec<String> {
        let flag = match self.way {
            Way::In => "-s",
            Way::Out => "-d",
        };
        let peers: Vec<String> = match self.peers.as_slice() {
            [] => vec![String::new()],
            peers => peers.iter().map(|peer| format!("{flag} {peer}/32 ")).collect(),
        };
        let ends: Vec<String> = match self.port {
            None => vec!["-p tcp".to_owned(), "-p udp".to_owned()],
            Some(port) => ["tcp", "udp"]
                .iter()
                .flat_map(|protocol| ["dport", "sport"].map(|end| format!("-p {protocol} --{end} {port}")))
                .collect(),
        };
        peers
            .iter()
            .flat_map(|peer| ends.iter().map(move |end| format!("{peer}{end}")))
            .collect()
    }
}

/// What classic BPF returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Returns {
    /// For a packet that matches (and is chosen by chance).
    pub(crate) hit: u32,
    /// For any other.
    pub(crate) miss: u32,
}

impl Returns {
    /// Direct action: drop (`TC_ACT_SHOT`) or go on to the next filter (`TC_ACT_UNSPEC`).
    pub(crate) const DROP: Self = Self { hit: 2, miss: u32::MAX };
    /// Classifier: to the class that the filter names, or no match.
    pub(crate) const CLASSIFY: Self = Self { hit: u32::MAX, miss: 0 };
}

/// Assembles the match as classic BPF for `cls_bpf` on an Ethernet device, in the notation of `tc … bytecode`.
///
/// Of the packets that match, the share `ratio` is hit, each with its own throw of the kernel's random numbers.
pub(crate) fn bytecode(packets: &PacketMatch, ratio: f64, returns: Returns) -> String {
    assert!(packets.peers.len() <= PEERS_MAX, "checked when the fault was planned");
    const IP: u32 = 14;
    const RANDOM: u32 = 0xffff_f038; // SKF_AD_OFF + SKF_AD_RANDOM
    let mut code = Assembler::default();
    code.load(0x30, IP + 9);
    code.jump_eq(6, Target::Skip(1), Target::Next);
    code.jump_eq(17, Target::Next, Target::Miss);
    if !packets.peers.is_empty() {
        let address = match packets.way {
            Way::In => IP + 12,
            Way::Out => IP + 16,
        };
        code.load(0x20, address);
        for (index, peer) in packets.peers.iter().enumerate() {
            let left = packets.peers.len() - 1 - index;
            let otherwise = if left == 0 { Target::Miss } else { Target::Next };
            code.jump_eq(peer.to_bits(), Target::Skip(left as u8), otherwise);
        }
    }
    if let Some(port) = packets.port {
        code.load(0x28, IP + 6);
        code.push(0x45, Target::Miss, Target::Next, 0x1fff); // later fragments have no ports
        code.load(0xb1, IP); // X = length of the IP header
        code.load(0x48, IP);
        code.jump_eq(u32::from(port), Target::Skip(2), Target::Next);
        code.load(0x48, IP + 2);
        code.jump_eq(u32::from(port), Target::Next, Target::Miss);
    }
    if ratio < 1.0 {
        // The truncating cast is the point: a share of the 2^32 numbers that the kernel throws.
        let threshold = (ratio.max(0.0) * f64::from(u32::MAX)) as u32;
        code.load(0x20, RANDOM);
        code.push(0x35, Target::Miss, Target::Next, threshold);
    }
    code.finish(returns)
}

#[derive(Clone, Copy)]
enum Target {
    Next,
    Skip(u8),
    Miss,
}

#[derive(Default)]
struct Assembler {
    instructions: Vec<(u16, Target, Target, u32)>,
}

impl Assembler {
    fn push(&mut self, code: u16, yes: Target, no: Target, operand: u32) {
        self.instructions.push((code, yes, no, operand));
    }

    fn load(&mut self, code: u16, operand: u32) {
        self.push(code, Target::Next, Target::Next, operand);
    }

    fn jump_eq(&mut self, value: u32, yes: Target, no: Target) {
        self.push(0x15, yes, no, value);
    }

    fn finish(self, returns: Returns) -> String {
        let count = self.instructions.len();
        let distance = |index: usize, target: Target| match target {
            Target::Next => 0,
            Target::Skip(skip) => usize::from(skip),
            Target::Miss => count - index, // over the rest and over the first of the two returns
        };
        let mut text = format!("{}", count + 2);
        for (index, (code, yes, no, operand)) in self.instructions.into_iter().enumerate() {
            let _infallible = write!(
                text,
                ",{code} {} {} {operand}",
                distance(index, yes),
                distance(index, no)
            );
        }
        let _infallible = write!(text, ",6 0 0 {},6 0 0 {}", returns.hit, returns.miss);
        text
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(packets: &PacketMatch, ratio: f64, expected: Expect) {
        expected.assert_eq(&bytecode(packets, ratio, Returns::DROP).replace(',', "\n"));
    }

    #[test]
    fn any_tcp_or_udp_packet_is_dropped_by_chance() {
        let all = PacketMatch {
            way: Way::In,
            port: None,
            peers: vec![],
        };
        check(
            &all,
            0.25,
            expect![[r#"
            7
            48 0 0 23
            21 1 0 6
            21 0 3 17
            32 0 0 4294963256
            53 1 0 1073741823
            6 0 0 2
            6 0 0 4294967295"#]],
        );
    }

    #[test]
    fn one_port_of_two_peers_is_dropped_always() {
        let peers = vec![Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2)];
        check(
            &PacketMatch {
                way: Way::Out,
                port: Some(6379),
                peers,
            },
            1.0,
            expect![[r#"
            15
            48 0 0 23
            21 1 0 6
            21 0 11 17
            32 0 0 30
            21 1 0 167772161
            21 0 8 167772162
            40 0 0 20
            69 6 0 8191
            177 0 0 14
            72 0 0 14
            21 2 0 6379
            72 0 0 16
            21 0 1 6379
            6 0 0 2
            6 0 0 4294967295"#]],
        );
    }

    #[test]
    fn nftables_and_iptables_say_the_same() {
        let packets = PacketMatch {
            way: Way::In,
            port: Some(80),
            peers: vec![Ipv4Addr::new(10, 0, 0, 1)],
        };
        expect![[r#"
            iifname "eth0" ip saddr { 10.0.0.1 } tcp dport 80
            iifname "eth0" ip saddr { 10.0.0.1 } tcp sport 80
            iifname "eth0" ip saddr { 10.0.0.1 } udp dport 80
            iifname "eth0" ip saddr { 10.0.0.1 } udp sport 80"#]]
        .assert_eq(&packets.nft_conditions().join("\n"));
        expect![[r#"
            -s 10.0.0.1/32 -p tcp --dport 80
            -s 10.0.0.1/32 -p tcp --sport 80
            -s 10.0.0.1/32 -p udp --dport 80
            -s 10.0.0.1/32 -p udp --sport 80"#]]
        .assert_eq(&packets.iptables_conditions().join("\n"));
    }
}
