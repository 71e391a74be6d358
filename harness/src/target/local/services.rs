//! Virtual services as address translation in each node, the way kube-proxy does it.
//!
//! The rules are text for `nft -f -`, run inside the node: no crate speaks nftables' `numgen` maps over netlink.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use crate::target::NetnsFd;
use crate::target::namespace::command_in_netns;

use super::layout::{Layout, ServicePlan, TargetPorts, Transport};

/// The rules could not be put into a node.
#[derive(Debug, thiserror::Error)]
pub enum ServicesError {
    /// `nft` could not be run.
    #[error("failed to run nft")]
    Run(#[from] io::Error),
    /// `nft` refused.
    #[error("nft refused the rules of virtual services ({status}): {stderr}")]
    Refused {
        /// How it ended.
        status: ExitStatus,
        /// What it said.
        stderr: String,
    },
}

/// Which end of the fabric a set of rules is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The node of this index.
    Node(usize),
    /// The place where load enters.
    Edge,
}

/// The rules of one place: replaces all rules of an earlier call, in one transaction. Open connections keep their pod.
#[must_use]
pub fn ruleset(layout: &Layout, target_ports: &TargetPorts, place: Place) -> String {
    let mut text = String::from(
        "table ip gauntlet {\n\
         \tchain services { }\n\
         \tchain prerouting { type nat hook prerouting priority -100; policy accept; }\n\
         \tchain output { type nat hook output priority -100; policy accept; }\n\
         \tchain postrouting { type nat hook postrouting priority 100; policy accept; }\n\
         }\n\
         flush table ip gauntlet\n\
         table ip gauntlet {\n\
         \tchain prerouting { jump services; }\n\
         \tchain output { jump services; }\n\
         \tchain postrouting {\n",
    );
    // A pod that reaches itself through its service would see its own address as the caller's, and drop the packet.
    for pod in layout.pods.iter().filter(|pod| place == Place::Node(pod.node_index)) {
        writeln!(text, "\t\tip saddr {ip} ip daddr {ip} masquerade", ip = pod.ip).expect("text grows");
    }
    text.push_str("\t}\n\tchain services {\n");
    for service in &layout.services {
        text.push_str(&rule(layout, target_ports, service));
    }
    text.push_str("\t}\n}\n");
    text
}

fn rule(layout: &Layout, target_ports: &TargetPorts, service: &ServicePlan) -> String {
    let target_port = target_ports.get(&service.workload).copied().unwrap_or(service.port);
    let transport = match service.transport {
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
    };
    let ips = service
        .endpoints
        .iter()
        .map(|&index| layout.pods[index].ip)
        .collect::<Vec<_>>();
    let target = match ips.as_slice() {
        // As in Kubernetes, a service without pods refuses.
        [] => return String::new(),
        [ip] => format!("{ip}:{target_port}"),
        several => {
            let map = several
                .iter()
                .enumerate()
                .map(|(index, ip)| format!("{index} : {ip} . {target_port}"));
            format!(
                "numgen random mod {} map {{ {} }}",
                several.len(),
                map.collect::<Vec<_>>().join(", ")
            )
        }
    };
    format!(
        "\t\tip daddr {} {transport} dport {} dnat to {target}\n",
        service.ip, service.port
    )
}

/// Puts `rules` into the network namespace.
pub fn apply(nft: &Path, netns: &NetnsFd, rules: &str) -> Result<(), ServicesError> {
    let mut child = command_in_netns(netns, nft)
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let written = child.stdin.take().expect("piped").write_all(rules.as_bytes());
    let output = child.wait_with_output()?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(ServicesError::Refused {
            status: output.status,
            stderr,
        });
    }
    Ok(written?)
}

#[cfg(test)]
mod tests {
    use crate::app::spec::ServiceKind;

    use super::super::layout::tests::app;
    use super::*;

    fn check(target_ports: &TargetPorts, place: Place, expected: &expect_test::Expect) {
        let services = [("cache", ServiceKind::Redis, 2)];
        let layout = Layout::new(&app(&services, 2), "gauntlet-1").unwrap();
        let rules = ruleset(&layout, target_ports, place);
        let (_, rules) = rules.split_once("\tchain postrouting {\n").unwrap();
        expected.assert_eq(rules);
    }

    #[test]
    fn balances_over_endpoints_and_masquerades_local_pods_to_themselves() {
        check(
            &TargetPorts::new(),
            Place::Node(0),
            &expect_test::expect![[r#"
                		ip saddr 10.244.1.2 ip daddr 10.244.1.2 masquerade
                		ip saddr 10.244.1.3 ip daddr 10.244.1.3 masquerade
                	}
                	chain services {
                		ip daddr 10.96.1.1 tcp dport 6379 dnat to numgen random mod 2 map { 0 : 10.244.1.2 . 6379, 1 : 10.244.2.2 . 6379 }
                		ip daddr 10.96.1.2 tcp dport 6379 dnat to 10.244.1.2:6379
                		ip daddr 10.96.1.3 tcp dport 6379 dnat to 10.244.2.2:6379
                		ip daddr 10.96.0.10 udp dport 53 dnat to 10.244.1.3:53
                		ip daddr 10.96.1.5 udp dport 53 dnat to 10.244.1.3:53
                	}
                }
            "#]],
        );
    }

    #[test]
    fn leads_a_workload_and_its_replicas_to_another_port() {
        check(
            &TargetPorts::from([("cache".into(), 1)]),
            Place::Edge,
            &expect_test::expect![[r#"
                	}
                	chain services {
                		ip daddr 10.96.1.1 tcp dport 6379 dnat to numgen random mod 2 map { 0 : 10.244.1.2 . 1, 1 : 10.244.2.2 . 1 }
                		ip daddr 10.96.1.2 tcp dport 6379 dnat to 10.244.1.2:1
                		ip daddr 10.96.1.3 tcp dport 6379 dnat to 10.244.2.2:1
                		ip daddr 10.96.0.10 udp dport 53 dnat to 10.244.1.3:53
                		ip daddr 10.96.1.5 udp dport 53 dnat to 10.244.1.3:53
                	}
                }
            "#]],
        );
    }
}
