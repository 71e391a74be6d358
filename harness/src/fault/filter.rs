//! `network-filter`: one nftables table per injection in the pod's own namespace.
//!
//! Rules look at every packet, not at connection state, so connections that exist already are hit too.

use crate::target::NetnsFd;

use super::kind::FilterAction;
use super::packets::{PacketMatch, Way};
use super::tool::{self, ToolError};

/// The table as text for `nft -f -`.
pub(crate) fn ruleset(table: &str, action: FilterAction, matches: &[PacketMatch]) -> String {
    let chains = [Way::In, Way::Out].map(|way| chain(way, action, matches.iter().filter(|packets| packets.way == way)));
    format!("table inet {table} {{\n{}}}\n", chains.concat())
}

/// A node cut off from all others: nothing passes its interface, whatever happens to it before or after. The device stays
/// up, because with it the routes to other nodes would go, and nobody puts them back.
pub(crate) fn cut(table: &str) -> String {
    let chain = |hook: &str, priority: i16, condition: &str| {
        format!(
            "  chain {hook} {{\n    type filter hook {hook} priority {priority}; policy accept;\n    {condition} \"eth0\" counter \
             drop\n  }}\n"
        )
    };
    let (first, last) = (
        chain("prerouting", -450, "iifname"),
        chain("postrouting", 450, "oifname"),
    );
    format!("table inet {table} {{\n{first}{last}}}\n")
}

fn chain<'a>(way: Way, action: FilterAction, matches: impl Iterator<Item = &'a PacketMatch>) -> String {
    let hook = match way {
        Way::In => "input",
        Way::Out => "output",
    };
    let rules: String = matches
        .flat_map(PacketMatch::nft_conditions)
        .map(|condition| format!("    {condition} counter {}\n", verdict(action, &condition)))
        .collect();
    if rules.is_empty() {
        return String::new();
    }
    format!("  chain {hook} {{\n    type filter hook {hook} priority 0; policy accept;\n{rules}  }}\n")
}

fn verdict(action: FilterAction, condition: &str) -> &'static str {
    match action {
        FilterAction::Drop => "drop",
        FilterAction::Reject if condition.contains("tcp") => "reject with tcp reset",
        FilterAction::Reject => "reject with icmpx type port-unreachable",
    }
}

/// Adds the table.
pub(crate) fn add(netns: &NetnsFd, rules: &str) -> Result<(), ToolError> {
    tool::run(netns, "nft", &["-f", "-"], rules).map(drop)
}

/// Removes the table, if it is there: it is declared first, because deleting an absent table is an error.
pub(crate) fn remove(netns: &NetnsFd, table: &str) -> Result<(), ToolError> {
    let script = format!("table inet {table} {{}}\ndelete table inet {table}\n");
    tool::run(netns, "nft", &["-f", "-"], &script).map(drop)
}

/// How many packets the table's rules have hit.
pub(crate) fn packets_hit(netns: &NetnsFd, table: &str) -> Result<u64, ToolError> {
    let listing = tool::run(netns, "nft", &["list", "table", "inet", table], "")?;
    let counts = listing
        .split("counter packets ")
        .skip(1)
        .filter_map(|rest| rest.split(' ').next()?.parse::<u64>().ok());
    Ok(counts.sum())
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn a_cut_takes_everything_on_the_uplink() {
        expect![[r#"
            table inet f1 {
              chain prerouting {
                type filter hook prerouting priority -450; policy accept;
                iifname "eth0" counter drop
              }
              chain postrouting {
                type filter hook postrouting priority 450; policy accept;
                oifname "eth0" counter drop
              }
            }
        "#]]
        .assert_eq(&cut("f1"));
    }

    #[test]
    fn each_protocol_is_rejected_in_its_own_language() {
        let packets = PacketMatch {
            way: Way::In,
            port: None,
            peers: vec![],
        };
        expect![[r#"
            table inet f1 {
              chain input {
                type filter hook input priority 0; policy accept;
                iifname "eth0" meta l4proto tcp counter reject with tcp reset
                iifname "eth0" meta l4proto udp counter reject with icmpx type port-unreachable
              }
            }
        "#]]
        .assert_eq(&ruleset("f1", FilterAction::Reject, &[packets]));
    }
}
