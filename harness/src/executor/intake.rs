//! What has come of an execution so far, counted: which cases, of which shards, by which detector.
//!
//! Pure: does not ask the cluster, and keeps no result.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;

use super::ExecutorError;
use super::order::ShardOrder;
use super::pods::newest;
use super::record::Record;
use crate::suite::event::Standing;
use crate::suite::outcome::CaseResult;
use crate::suite::plan::{CaseKey, SuitePlan};
use crate::suite::store::Store;

/// What has come so far.
pub(super) struct Intake {
    pub(super) standing: Standing,
    /// Names of the objects that were taken in.
    pub(super) seen: HashSet<String>,
    detector_program: Option<String>,
    /// Cases of each shard: which, and how many of them have ended.
    shards: BTreeMap<u32, (HashSet<CaseKey>, usize)>,
    told: String,
    last_end: Instant,
}

impl Intake {
    pub(super) fn new(plan: &SuitePlan, store: &Store, order: &ShardOrder) -> Self {
        let planned = |case| plan.chosen(case).scenario.phases.total();
        let mut standing = Standing::new(plan.cases.len(), plan.cases.iter().map(planned).sum());
        for case in &plan.cases {
            if let Some(ended) = store.ended(&case.key) {
                standing.count(ended, planned(case));
            }
        }
        let shard = |shard| {
            let keys: HashSet<_> = order.part(shard).iter().map(|case| case.key.clone()).collect();
            let ended = keys.iter().filter(|key| store.ended(key).is_some()).count();
            (shard.index, (keys, ended))
        };
        Self {
            standing,
            seen: HashSet::new(),
            detector_program: None,
            shards: order.all_shards().map(shard).collect(),
            told: String::new(),
            last_end: Instant::now(),
        }
    }

    pub(super) fn is_asked(&self, key: &CaseKey) -> bool {
        self.shards.values().any(|(keys, _)| keys.contains(key))
    }

    pub(super) fn must_be_of_one_detector(&mut self, record: &Record, image: &str) -> Result<(), ExecutorError> {
        let program = self
            .detector_program
            .get_or_insert_with(|| record.detector_program.clone());
        if *program == record.detector_program {
            Ok(())
        } else {
            let image = image.to_owned();
            Err(ExecutorError::Mixed { image })
        }
    }

    pub(super) fn count(&mut self, plan: &SuitePlan, case: &CaseResult, shard: u32) {
        let planned = plan
            .cases
            .iter()
            .find(|one| one.key.scenario == case.scenario && one.key.trial == case.trial);
        let planned = planned.map_or(Duration::ZERO, |one| plan.chosen(one).scenario.phases.total());
        self.standing.count(case, planned);
        // Shards that run at the same time make the rest so much shorter.
        self.standing.time(planned, self.last_end.elapsed());
        self.last_end = Instant::now();
        if let Some((_, ended)) = self.shards.get_mut(&shard) {
            *ended += 1;
        }
    }

    /// `shard 1/4: 1 of 2, runs on n1 · …`, if it is not what was told last.
    pub(super) fn shards_changed(&mut self, pods: &[Pod]) -> Option<String> {
        let pods = newest(pods);
        let count = self.shards.len();
        let texts = self.shards.iter().map(|(index, (keys, ended))| {
            let pod = pods.iter().find(|pod| pod.index + 1 == *index);
            let doing = pod.map_or("has no pod", |pod| pod.text.as_str());
            format!("shard {index}/{count}: {ended} of {}, {doing}", keys.len())
        });
        let text = texts.collect::<Vec<_>>().join(" · ");
        (text != self.told).then(|| {
            self.told.clone_from(&text);
            text
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::plan::Seed;
    use crate::suite::case;
    use crate::suite::outcome::{Mode, Shard};
    use crate::suite::plan::{PlannedCase, plan};
    use crate::suite::spec::load;
    use crate::suite::store::{Beginning, Header, Line};

    fn line(plan: &SuitePlan, case: &PlannedCase) -> Line {
        let chosen = plan.chosen(case);
        let result = case::of_failure(
            &chosen.scenario,
            &chosen.app.name,
            case.key.trial,
            Seed(1),
            "silent",
            "",
        );
        Line::Case {
            detector: None,
            case: Box::new(result),
        }
    }

    #[test]
    fn what_has_ended_is_not_asked_again_and_shards_are_counted() {
        let catalogue = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
        let plan = plan(&load("controls", &catalogue).expect("it ships"));
        let home = tempfile::tempdir().expect("a directory");
        let header = Header::new(&plan, Mode::Live, None, "d".into());
        let part = plan.part(None);
        let mut store = Store::open(home.path(), header, &part, Beginning::Allowed).expect("a new one");
        store.append(line(&plan, &plan.cases[0])).expect("kept");
        let order = ShardOrder::new(plan.clone(), 2, vec![plan.cases[0].key.clone()], Vec::new());
        let mut intake = Intake::new(&plan, &store, &order);
        assert_eq!((intake.standing.case_count, intake.standing.ended), (30, 1));
        assert!(!intake.is_asked(&plan.cases[0].key), "it had ended before");
        assert!(intake.is_asked(&plan.cases[1].key));
        let Line::Case { case, .. } = line(&plan, &plan.cases[1]) else {
            unreachable!()
        };
        intake.count(&plan, &case, 1);
        assert_eq!(intake.standing.ended, 2);
        let text = intake.shards_changed(&[]).expect("nothing was told before");
        assert_eq!(text, "shard 1/2: 1 of 14, has no pod · shard 2/2: 0 of 15, has no pod");
        assert_eq!(intake.shards_changed(&[]), None, "nothing is new");
    }

    #[test]
    fn shards_with_two_detectors_make_no_result() {
        let catalogue = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
        let plan = plan(&load("smoke", &catalogue).expect("it ships"));
        let home = tempfile::tempdir().expect("a directory");
        let header = Header::new(&plan, Mode::Live, None, "d".into());
        let store = Store::open(home.path(), header, &plan.part(None), Beginning::Allowed).expect("a new one");
        let order = ShardOrder::new(plan.clone(), 1, Vec::new(), Vec::new());
        let mut intake = Intake::new(&plan, &store, &order);
        let mut of = |program: &str| {
            let record = Record::new(
                Shard { index: 1, count: 1 },
                program.into(),
                line(&plan, &plan.cases[0]),
                None,
            );
            intake.must_be_of_one_detector(&record, "i:1")
        };
        assert!(of("a").is_ok());
        assert!(of("a").is_ok());
        assert!(matches!(of("b"), Err(ExecutorError::Mixed { image }) if image == "i:1"));
    }
}
