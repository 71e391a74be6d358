//! Which replica of a cache holds a key: the client decides, as with a memcached-like tier.
//!
//! The hash is fixed (FNV-1a with a final mix), so that every service, trial and version agrees.

use super::spread::mix;

/// The replica, 0 to `replica_count - 1`, that holds `key`.
///
/// # Panics
/// When there is no replica; [`super::validate`] refuses such an app.
#[must_use]
pub fn shard_of(key: &str, replica_count: u16) -> u16 {
    assert!(replica_count > 0, "a cache has at least one replica");
    let shard = mix(fnv1a(key.as_bytes())) % u64::from(replica_count);
    u16::try_from(shard).expect("less than a u16")
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_spread_evenly_and_always_the_same_way() {
        let mut counts = [0_u32; 3];
        for id in 1..=3000 {
            counts[usize::from(shard_of(&format!("product:{id}"), 3))] += 1;
        }
        // 1000 expected; a binomial spread of 26, so 150 is far outside of chance.
        assert!(counts.iter().all(|count| count.abs_diff(1000) < 150), "{counts:?}");
        // A change here is a change of what every recorded run means.
        let shards: String = (1..=12)
            .map(|id| shard_of(&format!("product:{id}"), 3).to_string())
            .collect();
        expect_test::expect!["021111100020"].assert_eq(&shards);
        assert_eq!(shard_of("anything", 1), 0);
    }
}
