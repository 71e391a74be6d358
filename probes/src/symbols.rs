//! Kernel functions by address.

use std::collections::HashMap;
use std::fs;

/// Names the kernel function that an address lies in.
///
/// The kernel's whole table has some hundred thousand entries and few are ever asked for; so it is kept as addresses
/// with offsets into one string.
#[derive(Debug, Default)]
pub(crate) struct Symbols {
    addresses: Vec<(u64, u32)>,
    names: String,
    known: HashMap<u64, String>,
}

impl Symbols {
    /// Reads the running kernel's table; empty where it is hidden.
    pub(crate) fn of_running_kernel() -> Self {
        Self::parse(&fs::read_to_string("/proc/kallsyms").unwrap_or_default())
    }

    fn parse(table: &str) -> Self {
        let mut symbols = Self::default();
        for line in table.lines() {
            let mut words = line.split_ascii_whitespace();
            let (Some(address), Some(kind), Some(name)) = (words.next(), words.next(), words.next()) else {
                continue;
            };
            let Ok(address) = u64::from_str_radix(address, 16) else {
                continue;
            };
            if address == 0 || !matches!(kind, "t" | "T" | "w" | "W") {
                continue;
            }
            let Ok(offset) = u32::try_from(symbols.names.len()) else {
                break;
            };
            symbols.addresses.push((address, offset));
            symbols.names.push_str(name);
            symbols.names.push('\n');
        }
        symbols.addresses.sort_unstable_by_key(|&(address, _)| address);
        symbols.addresses.shrink_to_fit();
        symbols.names.shrink_to_fit();
        symbols
    }

    /// The function at `address`; the address itself, in hexadecimal, where symbols are hidden.
    pub(crate) fn name(&mut self, address: u64) -> &str {
        if !self.known.contains_key(&address) {
            let name = self
                .look_up(address)
                .map_or_else(|| format!("{address:#x}"), str::to_owned);
            self.known.insert(address, name);
        }
        &self.known[&address]
    }

    fn look_up(&self, address: u64) -> Option<&str> {
        let after = self.addresses.partition_point(|&(start, _)| start <= address);
        let &(_, offset) = self.addresses.get(after.checked_sub(1)?)?;
        let name = self.names.get(offset as usize..)?.lines().next()?;
        // The compiler splits cold paths off; they are the same function to a reader.
        Some(name.split_once('.').map_or(name, |(function, _)| function))
    }
}

#[cfg(test)]
mod tests {
    use super::Symbols;

    #[test]
    fn an_address_belongs_to_the_last_function_that_starts_at_or_before_it() {
        let mut symbols =
            Symbols::parse("0000000000002000 T tcp_v4_rcv.cold\n0000000000001000 t nft_do_chain\n0 T hidden\n");
        assert_eq!(symbols.name(0x1000), "nft_do_chain");
        assert_eq!(symbols.name(0x1fff), "nft_do_chain");
        assert_eq!(symbols.name(0x2abc), "tcp_v4_rcv");
        assert_eq!(symbols.name(0xfff), "0xfff");
    }
}
