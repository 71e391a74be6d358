//! What shards are told to run: the plan itself, not the name of a suite, so that every shard runs what was planned here,
//! whatever the catalogue of its image says.

use serde::{Deserialize, Serialize};

use crate::suite::outcome::Shard;
use crate::suite::plan::{CaseKey, PlannedCase, SuitePlan};

/// Version of [`ShardOrder`].
const ORDER_VERSION: u32 = 1;

/// The work of all shards.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ShardOrder {
    version: u32,
    /// All cases, with their scenarios and applications.
    pub plan: SuitePlan,
    /// Number of shards.
    pub shards: u32,
    /// Cases that ended before, and are not run again.
    pub ended: Vec<CaseKey>,
    /// The detectors that are asked, as for `--detector`; none: ours.
    pub detectors: Vec<String>,
}

/// An order cannot be carried out.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// It is cut off or damaged.
    #[error("the order cannot be unpacked")]
    Packed(#[source] std::io::Error),
    /// It has another shape.
    #[error("the order cannot be read by this version of the program; make the runner's image anew")]
    Shape(#[source] serde_json::Error),
    /// It says something that this program does not know.
    #[error("the order says something that this version of the program does not know; make the runner's image anew")]
    Unknown,
}

impl ShardOrder {
    /// The order for all of `plan` but what has `ended`.
    #[must_use]
    pub fn new(plan: SuitePlan, shards: u32, ended: Vec<CaseKey>, detectors: Vec<String>) -> Self {
        Self {
            version: ORDER_VERSION,
            plan,
            shards,
            ended,
            detectors,
        }
    }

    /// As it travels: compressed JSON. A catalogue of hundreds of scenarios stays far below what an object may hold.
    ///
    /// # Panics
    /// Never: plans can be written, and memory does not fail to.
    #[must_use]
    pub fn pack(&self) -> Vec<u8> {
        let text = serde_json::to_vec(self).expect("a plan can be written");
        zstd::encode_all(text.as_slice(), zstd::DEFAULT_COMPRESSION_LEVEL).expect("memory can be written")
    }

    /// Reads what [`Self::pack`] wrote, perhaps in another version of this program.
    ///
    /// # Errors
    /// [`OrderError`], also when nothing but a part of it was understood.
    pub fn unpack(packed: &[u8]) -> Result<Self, OrderError> {
        let text = zstd::decode_all(packed).map_err(OrderError::Packed)?;
        let order: Self = serde_json::from_slice(&text).map_err(OrderError::Shape)?;
        let again = serde_json::to_vec(&order).map_err(OrderError::Shape)?;
        if again == text && order.version == ORDER_VERSION {
            Ok(order)
        } else {
            Err(OrderError::Unknown)
        }
    }

    /// The cases of one shard, without those that ended.
    #[must_use]
    pub fn part(&self, shard: Shard) -> Vec<&PlannedCase> {
        let part = self.plan.part(Some(shard));
        part.into_iter()
            .filter(|case| !self.ended.contains(&case.key))
            .collect()
    }

    /// All shards.
    pub fn all_shards(&self) -> impl Iterator<Item = Shard> + use<> {
        let count = self.shards;
        (1..=count).map(move |index| Shard { index, count })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::suite::plan::plan;
    use crate::suite::spec::load;

    fn nightly() -> SuitePlan {
        let catalogue = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
        plan(&load("nightly", &catalogue).expect("it ships"))
    }

    #[test]
    fn the_whole_catalogue_arrives_as_it_was_planned() {
        let order = ShardOrder::new(nightly(), 4, Vec::new(), vec!["mine=exec:x".into()]);
        let packed = order.pack();
        assert!(packed.len() < 200_000, "{} bytes", packed.len());
        assert_eq!(ShardOrder::unpack(&packed).expect("readable"), order);
    }

    #[test]
    fn what_is_not_understood_is_not_carried_out() {
        let order = ShardOrder::new(nightly(), 2, Vec::new(), Vec::new());
        let mut value = serde_json::to_value(&order).expect("a value");
        value["plan"]["cases"][0]["newFashioned"] = true.into();
        let packed = zstd::encode_all(value.to_string().as_bytes(), 0).expect("memory");
        assert!(matches!(ShardOrder::unpack(&packed), Err(OrderError::Unknown)));
        assert!(matches!(ShardOrder::unpack(b"no"), Err(OrderError::Packed(_))));
    }

    #[test]
    fn shards_have_every_case_once_and_none_that_ended() {
        let plan = nightly();
        let ended = vec![plan.cases[3].key.clone(), plan.cases[9].key.clone()];
        let order = ShardOrder::new(plan.clone(), 5, ended.clone(), Vec::new());
        let mut dealt: Vec<CaseKey> = order
            .all_shards()
            .flat_map(|shard| order.part(shard))
            .map(|case| case.key.clone())
            .collect();
        assert_eq!(dealt.len(), plan.cases.len() - 2);
        dealt.extend(ended);
        dealt.sort();
        let mut all: Vec<CaseKey> = plan.cases.iter().map(|case| case.key.clone()).collect();
        all.sort();
        assert_eq!(dealt, all);
    }
}
